"""Facts as sentences for the people at the desk: why an order waits, what was refused, where it ships from, who did what.

The core words its reasons in cents, safe to log; here they carry the currency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from apps.components.figures import moment, money, qty
from apps.components.words import has, say
from apps.readers import LastAction
from orders_core.domain.lifecycle import REASONS
from orders_core.domain.validation import reason_text, said_reason
from orders_core.errors import (
    CreditExceeded,
    InvalidCommand,
    NotAllowed,
    OrdersError,
    PermissionDenied,
    VersionConflict,
)


def reason_sentence(reason: Mapping[str, Any], currency: str, language: str) -> str:
    """Why a check failed, with money in the order's currency instead of cents."""
    return reason_text(reason, language, money=lambda cents: money(cents, currency))


def status_word(status: str, language: str) -> str:
    """An order's status in the reader's words."""
    return say(language, f"status.{status}")


def why_it_waits(row: Any, short: Sequence[Any], language: str) -> str:
    """One line of why an open order is where it is; `short` are its lines without stock."""
    if row.status == "review" and row.review_reasons:
        first = reason_sentence(row.review_reasons[0], row.currency, language)
        more = len(row.review_reasons) - 1
        return first + (say(language, "why.more", n=more) if more else "")
    if row.status == "held":
        return say(language, "why.held", reason=said_reason(row.hold_reason or "", language))
    if row.status == "waiting_stock" and short:
        return say(language, "why.short", lines=short_words(short, language))
    if row.status == "partly_shipped" and short:
        return say(language, "why.partly_short", lines=short_words(short, language))
    key = f"why.{row.status}"
    return say(language, key) if has(key) else ""


def short_words(short: Sequence[Any], language: str, *, most: int = 4) -> str:
    """What is missing, `TEA-01 5, CUP-12 3`; the first few."""
    words = [f"{line.sku} ×{qty(line.backordered_qty)}" for line in short[:most]]
    if len(short) > most:
        words.append("…")
    return ("、" if language == "zh" else ", ").join(words)


def error_sentence(
    error: OrdersError,
    language: str,
    *,
    number: str,
    asked: str,
    last: LastAction | None,
    zone: ZoneInfo,
    today: date,
) -> tuple[str, str]:
    """What a service refused, for the person who clicked.

    Args:
        number: The order it is about.
        asked: What was asked for, such as `approve`.
        last: Where that order stands now and who acted last.

    Returns:
        `info`, `warning` or `error`, and the sentence.
    """
    was_done = isinstance(error, VersionConflict) or (isinstance(error, NotAllowed) and error.reason_code == "approved")
    if asked == "approve" and was_done and last is not None and last.approved_at is not None:
        who = say(language, "rules") if last.approved_by == "auto" else last.approved_by
        time = moment(last.approved_at, language, zone=zone, today=today)
        return "info", say(language, "told.already_approved", number=number, who=who, time=time)
    if isinstance(error, VersionConflict) and last is not None and last.at is not None and last.action is not None:
        words = action_words(last.action, language)
        time = moment(last.at, language, zone=zone, today=today)
        return "warning", say(language, "told.conflict", number=number, who=last.actor, action=words, time=time)
    if isinstance(error, NotAllowed):
        reasons = REASONS.get(error.reason_code)
        said = error.facts.get("reason_zh", error.reason) if language == "zh" else error.reason
        reason = reasons[1 if language == "zh" else 0] if reasons else said
        action = say(language, f"action.{error.action}") if has(f"action.{error.action}") else error.action
        return "warning", say(language, "told.not_allowed", number=error.key, action=action, reason=reason)
    if isinstance(error, CreditExceeded):
        amounts = {  # credit is kept in the customer's currency
            name: money(error.facts[f"{name}_cents"], error.facts["currency"]) for name in ("used", "asked", "limit")
        }
        return "warning", say(language, "told.credit", customer=error.customer, **amounts)
    if isinstance(error, PermissionDenied):
        return "warning", say(language, "not_your_role", role=error.actor)
    problem = error.facts.get("problem") if isinstance(error, InvalidCommand) else None
    if problem == "tracking_number_missing":
        return "warning", say(language, "told.tracking_missing", carrier=error.facts["carrier"])
    if problem == "return_is_decided":
        status = say(language, f"return.status.{error.facts['status']}")
        return "info", say(language, "told.return_decided", number=error.facts["number"], status=status)
    return "error", error.text(language)


def action_words(action: str, language: str) -> str:
    """What an audit action is called."""
    return say(language, f"audit.{action}") if has(f"audit.{action}") else action


def audit_detail(facts: Mapping[str, Any] | None, currency: str, language: str) -> str:
    """What stands behind a timeline entry: reason, text, shipment, tracking numbers, amounts."""
    facts = facts or {}
    parts: list[str] = []
    for name in ("reason", "text", "shipment", "return", "ticket"):
        if facts.get(name):
            parts.append(said_reason(str(facts[name]), language))
    if isinstance(facts.get("shipments"), list):
        parts.append(", ".join(map(str, facts["shipments"])))
    if facts.get("tracking"):
        parts.append(", ".join(map(str, facts["tracking"])))
    if facts.get("total_before_cents") is not None and facts.get("total_cents") is not None:
        parts.append(f"{money(facts['total_before_cents'], currency)} → {money(facts['total_cents'], currency)}")
    elif facts.get("amount_cents") is not None:
        parts.append(money(facts["amount_cents"], currency))
    return " · ".join(parts)


def route_sentence(reason: Mapping[str, Any], names: Mapping[str, str], language: str) -> str:
    """Why these places ship, from a stored `route` decision's reason."""
    key = f"route.{reason['code']}"
    if not has(key):
        return str(reason["code"])
    join = "、" if language == "zh" else ", "
    sites = join.join(names.get(code, code) for code in reason.get("sites", ()))
    km = reason.get("distance_km")
    distance = say(language, "route.distance", km=qty(km)) if km is not None else ""
    return say(language, key, sites=sites, packages=reason.get("packages", ""), distance=distance)


def escaped(text: Any) -> str:
    """Text of people's making, so that it is not read as Markdown."""
    shown = str(text)
    for sign in "\\`*_[]$:#<>~|":
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def masked(phone: str | None) -> str:
    """A phone number with its middle hidden, as the desk rarely needs the whole.

    >>> masked("+8613800138000"), masked(None)
    ('+86138****8000', '')
    """
    if not phone or len(phone) < 8:
        return phone or ""
    return f"{phone[:-8]}****{phone[-4:]}"


def masked_mail(address: str) -> str:
    """An address of mail with most of its name hidden.

    >>> masked_mail("buyer@acme.cn")
    'bu…@acme.cn'
    """
    name, at, host = address.partition("@")
    return f"{name[:2]}…@{host}" if at else masked(address)
