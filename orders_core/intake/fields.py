"""One function per kind of field: the text of a cell in, a value or a `Problem` out.

Nothing here guesses and nothing here touches a float: `1,50` is not 150, `01/02/2024` is not a date, `1E5` is a SKU.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.numbers import get_currency_precision, is_currency

from orders_core.intake.problems import Problem

MAX_QTY = 9_999_999
MAX_LEAD_TIME_DAYS = 730
MAX_ID_CHARS = 64
MAX_TEXT_CHARS = 4_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2100, 12, 31)

_WIDE_DIGITS = str.maketrans("０１２３４５６７８９", "0123456789")  # not NFKC: that would turn ² into 2
_QTY = re.compile(r"[1-9][0-9]{0,6}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,6}")
_MONEY = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,20}))?")
_E_NOTATION = re.compile(r"[0-9](\.[0-9]+)?[Ee]\+[0-9]+")  # 1E5 has no plus: that is a SKU
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?\s?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_TWO_READINGS = re.compile(r"[0-9]{1,2}[/.\-][0-9]{1,2}[/.\-](?:[0-9]{4}|[0-9]{2})(?:[ T].*)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def parse_qty(raw: str, field: str = "qty", *, notes: list[Problem] | None = None) -> int | Problem:
    """Units asked for, 1 to 9,999,999. Full-width digits are read, and a note about it goes to `notes`."""
    text = raw.strip()
    if not text:
        return Problem("E_REQUIRED", field, raw)
    plain = text.translate(_WIDE_DIGITS)
    if not _QTY.fullmatch(plain):
        return Problem("E_QTY", field, raw)
    if plain != text and notes is not None:
        notes.append(Problem("N_WIDTH", field, raw, facts={"actual": plain}))
    return int(plain)


def parse_signed_qty(raw: str, field: str = "qty") -> int | Problem:
    """Units sold (+) or taken back (-), never 0: what old invoices and stock corrections hold."""
    text = raw.strip()
    if not text:
        return Problem("E_REQUIRED", field, raw)
    digits = text.translate(_WIDE_DIGITS)
    if not _QTY.fullmatch(digits.removeprefix("-")):
        return Problem("E_QTY", field, raw, "signed")
    return int(digits)


def parse_stock(raw: str, field: str = "qty", *, delta: bool = False) -> int | Problem:
    """Units in stock: 0 to 9,999,999 when counted, -9,999,999 to 9,999,999 as a change (`delta`)."""
    text = raw.strip()
    if not text:
        return Problem("E_REQUIRED", field, raw)
    digits = text.translate(_WIDE_DIGITS)
    unsigned = digits.removeprefix("-" if digits.startswith("-") else "+") if delta else digits
    if not _COUNT.fullmatch(unsigned):
        return Problem("E_STOCK", field, raw, facts={"least": -MAX_QTY if delta else 0})
    return int(digits)


@cache
def minor_digits(currency: str) -> int:
    """Decimals of a currency: 2 for CNY and GBP, 0 for JPY."""
    return int(get_currency_precision(currency))


def parse_currency(raw: str, field: str = "currency") -> str | Problem:
    """An ISO 4217 code, upper case."""
    code = raw.strip().upper()
    return code if is_currency(code) else Problem("E_CURRENCY", field, raw)


def parse_money(raw: str, field: str = "price", *, currency: str) -> int | Problem:
    """An amount in the smallest unit of `currency` (`6.95` GBP -> 695), negative allowed.

    Zeros after the last decimal are harmless; any other digit there is E_CENT, a comma anywhere is E_NUMBER.
    """
    text = raw.strip()
    if not text:
        return Problem("E_REQUIRED", field, raw)
    match = _MONEY.fullmatch(text.translate(_WIDE_DIGITS))
    if not match:
        return Problem("E_NUMBER", field, raw)
    sign, whole, fraction = match.groups(default="")
    digits = minor_digits(currency)
    if fraction[digits:].strip("0"):
        return Problem("E_CENT", field, raw, facts={"currency": currency})
    return int(sign + whole + fraction[:digits].ljust(digits, "0"))


def parse_price(raw: str, field: str = "price", *, currency: str) -> int | Problem:
    """What one unit costs, above zero, in the smallest unit of `currency`."""
    amount = parse_money(raw, field, currency=currency)
    if isinstance(amount, int) and amount <= 0:
        return Problem("E_PRICE", field, raw)
    return amount


def parse_date(raw: str, field: str = "date", *, format: str | None = None) -> date | Problem:
    """A calendar day: `2024-02-01`, or the declared strptime `format`."""
    moment = _local(raw.strip(), field, raw, format)
    return moment if isinstance(moment, Problem) else moment.date()


@lru_cache(maxsize=65_536)  # rows of one order share their time
def parse_instant(raw: str, field: str = "at", *, zone: str | None = None, format: str | None = None) -> int | Problem:
    """A moment as microseconds since 1970 in UTC.

    ISO 8601 or the declared `format`. Without an offset in the text the `zone` of the file decides; a time the clock
    jumped over is E_TIME_NONEXISTENT, one that happened twice needs its offset. A day alone is its first minute.
    """
    moment = _local(raw.strip(), field, raw, format)
    if isinstance(moment, Problem):
        return moment
    if moment.tzinfo is not None:
        return _microseconds(moment)
    if not zone:
        return Problem("E_ZONE", field, raw)
    tz = zone_named(zone)
    if isinstance(tz, Problem):
        return tz
    first, second = moment.replace(tzinfo=tz, fold=0), moment.replace(tzinfo=tz, fold=1)
    if first.utcoffset() != second.utcoffset():
        if first.astimezone(UTC).astimezone(tz).replace(tzinfo=None) != moment:
            return Problem("E_TIME_NONEXISTENT", field, raw, facts={"zone": zone})
        offsets = {"first": f"{first:%z}", "second": f"{second:%z}"}
        return Problem("E_TIME_AMBIGUOUS", field, raw, facts={"zone": zone, **offsets})
    return _microseconds(first)


@cache
def zone_named(zone: str) -> ZoneInfo | Problem:
    """The IANA zone of that name."""
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name is a folder of the zone database
        return Problem("E_ZONE", "zone", zone, "unknown")


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _local(text: str, field: str, raw: str, format: str | None) -> datetime | Problem:
    if not text:
        return Problem("E_REQUIRED", field, raw)
    moment = _by_format(text, field, raw, format) if format else _iso(text, field, raw)
    if isinstance(moment, datetime) and not FIRST_DAY <= moment.date() <= LAST_DAY:
        return Problem("E_DATE", field, raw, "range")
    return moment


def _by_format(text: str, field: str, raw: str, format: str) -> datetime | Problem:
    if not text.replace("年", "").replace("月", "").replace("日", "").isascii():
        return Problem("E_DATE", field, raw, facts={"expected": format})  # strptime would read other scripts' digits
    try:
        return datetime.strptime(text, format)  # noqa: DTZ007  the zone is the caller's to add
    except ValueError:
        return Problem("E_DATE", field, raw, facts={"expected": format})


def _iso(text: str, field: str, raw: str) -> datetime | Problem:
    match = _ISO.fullmatch(text)
    if not match:
        why = "ambiguous" if _TWO_READINGS.fullmatch(text) else ""
        return Problem("E_DATE", field, raw, why, facts={"expected": "2024-02-01"})
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    tz = None if offset is None else _offset(offset)
    try:
        return datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micro, tz)
    except ValueError:
        return Problem("E_DATE", field, raw, "none")


def _offset(text: str) -> timezone:
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=min(minutes, 23 * 60 + 59) * (-1 if text[0] == "-" else 1)))


@lru_cache(maxsize=65_536)  # a file names few SKUs many times
def parse_sku(raw: str, field: str = "sku", *, fold_case: bool = False) -> str | Problem:
    """The SKU in its one spelling: spaces around it gone, full-width letters narrow, upper case when `fold_case`.

    Anything but printable ASCII is named and refused: a zero-width space or a Cyrillic А would make a second product
    that no eye can tell from the first.

    >>> parse_sku(" ＡＢ１\\xa0")
    'AB1'
    """
    text = unicodedata.normalize("NFKC", raw).strip()
    if not text:
        return Problem("E_REQUIRED", field, raw)
    for place, char in enumerate(text, start=1):
        if not " " <= char <= "~":
            name = unicodedata.name(char, "unnamed")
            facts: dict[str, str | int] = {"char": f"U+{ord(char):04X}", "name": name, "place": place}
            return Problem("E_SKU_CHAR", field, raw, facts=facts)
    return _checked_id(text.upper() if fold_case else text, field, raw)


def parse_id(raw: str, field: str = "order_id") -> str | Problem:
    """An order number, barcode or customer number: text, leading zeros kept, spreadsheet damage refused."""
    text = unicodedata.normalize("NFKC", raw).strip()
    if not text:
        return Problem("E_REQUIRED", field, raw)
    for char in text:
        if not char.isprintable():
            return Problem("E_TEXT", field, raw, facts={"char": f"U+{ord(char):04X}"})
    return _checked_id(text, field, raw)


def _checked_id(text: str, field: str, raw: str) -> str | Problem:
    if len(text) > MAX_ID_CHARS:
        return Problem("E_LENGTH", field, raw, facts={"actual": len(text), "limit": MAX_ID_CHARS})
    # Spreadsheets keep 15 digits: 6901234567890123456 comes back as 6.90123E+18 or as 6901234567890120000.
    rounded = len(text) >= 18 and text.isdecimal() and not text[15:].strip("0")
    if rounded or _E_NOTATION.fullmatch(text):
        return Problem("E_PRECISION_LOST", field, raw)
    return text


def parse_text(raw: str, field: str = "text", *, max_chars: int = MAX_TEXT_CHARS) -> str | Problem:
    """Free text exactly as written; only the apostrophe our own exports put before a formula sign is taken off."""
    if len(raw) > max_chars:
        return Problem("E_LENGTH", field, raw[:80], facts={"actual": len(raw), "limit": max_chars})
    if not raw.isprintable():
        for char in raw:
            if unicodedata.category(char) == "Cc" and char not in "\t\r\n":
                return Problem("E_TEXT", field, raw, facts={"char": f"U+{ord(char):04X}"})
    return restore(raw)


def parse_choice(raw: str, field: str, choices: Sequence[str]) -> str | Problem:
    """One of `choices`, whatever its case."""
    text = raw.strip().casefold()
    return text if text in choices else Problem("E_CHOICE", field, raw, facts={"expected": ", ".join(choices)})


def parse_lead_time_days(raw: str, field: str = "lead_time_days") -> int | Problem | None:
    """Whole days from 1 to 730; empty is None, and the caller says which default it used."""
    text = raw.strip()
    if not text:
        return None
    if not _QTY.fullmatch(text) or int(text) > MAX_LEAD_TIME_DAYS:
        return Problem("E_LEAD_TIME", field, raw)
    return int(text)


def neutralise(text: str) -> str:
    """`text` as it may stand in a file a spreadsheet opens: an apostrophe stops it from becoming a formula.

    >>> neutralise('=HYPERLINK("http://x")'), neutralise("铁观音")
    ('\\'=HYPERLINK("http://x")', '铁观音')
    """
    return "'" + text if _FORMULA.match(text) else text


def restore(text: str) -> str:
    """What `neutralise` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
