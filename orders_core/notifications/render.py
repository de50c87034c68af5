"""Facts become words: plain text in Chinese or English, money and dates as the reader writes them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency, get_currency_precision
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from orders_core.domain.validation import reason_text, said_reason
from orders_core.errors import InvalidCommand
from orders_core.notifications.templates import FOR_STAFF, OPTIONAL, require_facts

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
_LOCALES = {"zh": "zh_CN", "en": "en_GB"}
_DATE_PATTERNS = {"zh": "y年M月d日（EEE）", "en": "EEE d MMM y"}
_UNITS = {  # the system's own unit codes; a unit a company named itself is printed as it is
    "zh": {"each": ("件", "件"), "box": ("箱", "箱"), "pack": ("包", "包"), "pallet": ("托", "托")},
    "en": {
        "each": ("piece", "pieces"),
        "box": ("box", "boxes"),
        "pack": ("pack", "packs"),
        "pallet": ("pallet", "pallets"),
    },
}
_GREETING = {"zh": "{customer}，您好！", "en": "Dear {customer},"}
_CLOSING = {
    "zh": "如有疑问，直接回复本邮件即可。\n\n此致\n订货服务",
    "en": "If anything is unclear, just answer this mail.\n\nKind regards,\nYour order desk",
}
_SEVERAL = {"zh": "订单 {number}：{count} 条新消息", "en": "Order {number}: {count} pieces of news"}


class Text(NamedTuple):
    """A notice in words: one line of subject, and the body."""

    subject: str
    body: str


class Notice(NamedTuple):
    """A notice before it has words: its template and the facts."""

    template: str
    facts: Mapping[str, Any]


def render(template: str, language: str, facts: Mapping[str, Any]) -> Text:
    """Subject and body of one notice.

    Args:
        template: A key of TEMPLATES.
        language: `zh` or `en`.
        facts: At least the facts TEMPLATES names, as FACTS describes them.

    Raises:
        InvalidCommand: No such template or language, or a fact is missing.
        jinja2.UndefinedError: A part of a fact is missing, e.g. a line without `sku`, or is None where text is due.
    """
    subject, content = _parts(template, language, facts)
    return Text(subject, _letter(language, facts, [content], for_staff=template in FOR_STAFF))


def render_joined(language: str, notices: Sequence[Notice]) -> Text:
    """Several notices of one order to one reader as one mail, in the order given: one greeting, the news, one closing.

    Raises:
        As `render`; ValueError when there is no notice at all.
    """
    if not notices:
        raise ValueError("there is no notice to render")
    if len(notices) == 1:
        return render(notices[0].template, language, notices[0].facts)
    subjects, contents = zip(*(_parts(template, language, facts) for template, facts in notices), strict=True)
    facts = notices[0].facts
    subject = subjects[0]
    if len(set(subjects)) > 1:
        subject = _SEVERAL[language].format(number=facts["number"], count=len(notices))
    return Text(subject, _letter(language, facts, contents, for_staff=False))


def _parts(template: str, language: str, facts: Mapping[str, Any]) -> tuple[str, str]:
    if language not in _LOCALES:
        raise InvalidCommand(field="language", problem="not_a_language", value=language)
    require_facts(template, facts)
    facts = {**dict.fromkeys(OPTIONAL.get(template, ())), **facts}
    subject, content = (part.render(facts) for part in _compiled(template, language))
    # A customer's own words may stand in a subject: whatever they hold, it stays one line.
    subject = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in subject)
    return " ".join(subject.split()), re.sub(r"\n{3,}", "\n\n", content.strip())


def _letter(language: str, facts: Mapping[str, Any], contents: Sequence[str], *, for_staff: bool) -> str:
    if for_staff:
        return "\n\n".join(contents) + "\n"
    greeting = _GREETING[language].format(customer=facts["customer"])
    return "\n\n".join([greeting, *contents, _CLOSING[language]]) + "\n"


@cache
def _compiled(template: str, language: str) -> tuple[Template, Template]:
    """A file's first line is the subject, the rest the text; two templates, so that no fact can move the border."""
    environment = _environment(language)
    source = (TEMPLATE_FOLDER / f"{template}.{language}.jinja").read_text(encoding="utf-8")
    subject, _, content = source.partition("\n")
    return environment.from_string(subject), environment.from_string(content)


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_never_none,
    )

    locale = Locale.parse(_LOCALES[language])

    def money(cents: int, currency: str) -> str:
        _never_none(currency)
        amount = Decimal(cents).scaleb(-get_currency_precision(currency))
        return format_currency(amount, currency, locale=locale)

    def day(iso: str) -> str:
        return format_date(date.fromisoformat(iso), _DATE_PATTERNS[language], locale=locale)

    def amount(line: Mapping[str, Any]) -> str:
        one, many = _UNITS[language].get(line["unit"], (line["unit"], line["unit"]))
        return f"{line['qty']:,} {one if line['qty'] == 1 else many}"

    def sentence(reason: Mapping[str, Any], currency: str) -> str:
        return reason_text(reason, language, money=lambda cents: money(cents, currency))

    def said(reason: str) -> str:
        return said_reason(reason, language)

    environment.filters.update(money=money, day=day, amount=amount, sentence=sentence, said=said)
    return environment


def _never_none(value: Any) -> Any:
    """A fact that may be None is asked about in the template first; 'None' is never printed."""
    if value is None:
        raise InvalidCommand(field="notice", problem="fact_is_none")
    return value
