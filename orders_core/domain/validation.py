"""The checks an order must pass to be approved without a person. Pure; each says passed or failed, with its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import phonenumbers

from orders_core.domain.rules import Rules

REASONS: dict[str, tuple[str, str]] = {
    "customer_on_hold": ("The customer is on hold.", "客户已被挂起。"),
    "customer_closed": ("The customer's account is closed.", "客户账户已关闭。"),
    "overdue": (
        "An order of {oldest_date} is unpaid; terms are {terms_days} days.",
        "{oldest_date} 的订单仍未付款，账期 {terms_days} 天。",
    ),
    "address_incomplete": ("The delivery address lacks: {missing}.", "收货信息不完整，缺少：{missing}。"),
    "phone_invalid": ("The phone number {phone} cannot be one.", "电话号码 {phone} 无效。"),
    "price_changed": (
        "{sku}: price given {price_cents} differs from the list {expected_cents} (cents).",
        "{sku}：填写价格 {price_cents} 与价目 {expected_cents} 不同(分)。",
    ),
    "below_floor": (
        "{sku}: price {price_cents} is below the floor {floor_cents} (cents).",
        "{sku}：价格 {price_cents} 低于底价 {floor_cents}(分)。",
    ),
    "credit_exceeded": (
        "Credit: open {used_cents} + this {asked_cents} exceeds the limit {limit_cents} by {over_cents} (cents).",
        "信用：已用 {used_cents} + 本单 {asked_cents}，超出额度 {limit_cents} 共 {over_cents}(分)。",
    ),
    "no_credit": ("The customer has no credit; ask for payment.", "客户没有信用额度，请先收款。"),
    "payment_waiting": ("Prepaid: {due_cents} (cents) are still to be paid.", "预付订单：还需付款 {due_cents}(分)。"),
    "possible_duplicate": (
        "The same customer ordered the same lines today: {other_number}.",
        "同一客户今天已有相同内容的订单：{other_number}。",
    ),
    "short": ("{sku}: {short_qty} of {asked_qty} are not in stock.", "{sku}：{asked_qty} 中缺 {short_qty}。"),
    "amount_high": (
        "The total {total_cents} is above {max_cents} (cents), the most approved without a person.",
        "金额 {total_cents} 超过自动审核上限 {max_cents}(分)。",
    ),
    "held_by_hand": ("Put on hold: {reason}", "人工挂起：{reason}"),
    "auto_approval_off": ("Automatic approval is switched off.", "自动审核已关闭。"),
}
"""Every reason an order waits, as sentences (en, zh) over the check's facts."""


OWN_REASONS: dict[str, tuple[str, str]] = {
    "order_changed": ("the order was changed", "订单已修改"),
    "goods_returned": ("goods came back", "商品退回"),
    "refund_only": ("the customer asks for the money instead of the goods", "客户申请仅退款"),
}
"""Reasons the system gives where a person may give one of his own: kept by code, said in the reader's language (en, zh)."""

_FIELDS = {"recipient": "收货人", "phone": "电话", "street": "地址"}


def said_reason(reason: str, language: str) -> str:
    """A kept reason as its reader reads it: the system's own in his language, a person's in that person's words.

    >>> said_reason("goods_returned", "zh"), said_reason("坏了", "en")
    ('商品退回', '坏了')
    """
    return OWN_REASONS[reason][language == "zh"] if reason in OWN_REASONS else reason


def reason_text(reason: Mapping[str, Any], language: str, *, money: Callable[[int], str] | None = None) -> str:
    """The sentence for a stored reason {code, …facts}; amounts in cents, or as `money` writes them."""
    facts = dict(reason)
    if language == "zh" and "missing" in facts:
        facts["missing"] = "、".join(_FIELDS.get(name, name) for name in str(facts["missing"]).split(", "))
    if "reason" in facts:
        facts["reason"] = said_reason(str(facts["reason"]), language)
    sentence = REASONS[reason["code"]][language == "zh"]
    if money is not None:
        facts |= {name: money(x) for name, x in facts.items() if name.endswith("_cents") and isinstance(x, int)}
        sentence = sentence.replace(" (cents)", "").replace("(分)", "")
    return sentence.format(**facts)


@dataclass(frozen=True)
class Check:
    """One check's result: `name` of the rule, passed or not, and the reason {code, …facts} when not."""

    name: str
    is_passed: bool
    reason: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckInput:
    """What the checks look at."""

    customer_status: str
    terms_days: int
    oldest_owing_date: date | None
    credit_limit_cents: int | None
    credit_used_cents: int
    payment_method: str
    paid_cents: int
    total_cents: int
    currency: str
    today: date
    delivery_method: str
    recipient: str | None
    phone: str | None
    country: str | None
    street: str | None
    is_masked: bool
    duplicate_number: str | None
    price_problems: Sequence[Mapping[str, Any]]
    short: Sequence[Mapping[str, Any]]


@lru_cache(maxsize=4096)  # a customer's number is asked about with each order
def phone_is_possible(phone: str, country: str | None) -> bool:
    """Whether a number could be dialled in that country (default China)."""
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(phone, country or "CN"))
    except phonenumbers.NumberParseException:
        return False


def run_checks(order: CheckInput, rules: Rules) -> list[Check]:
    """Every check in the order a person would look, each with its facts; rules decide what a failure does."""
    return [
        _customer(order),
        _address(order),
        _prices(order),
        _credit(order),
        _payment(order),
        _duplicate(order),
        _stock(order),
        _amount(order, rules),
    ]


def _customer(order: CheckInput) -> Check:
    if order.customer_status != "active":
        return Check("customer", False, {"code": f"customer_{order.customer_status}"})
    oldest = order.oldest_owing_date
    if order.payment_method == "credit" and oldest and oldest + timedelta(days=order.terms_days) < order.today:
        facts = {"oldest_date": oldest.isoformat(), "terms_days": order.terms_days}
        return Check("customer", False, {"code": "overdue", **facts})
    return Check("customer", True)


def _address(order: CheckInput) -> Check:
    if order.delivery_method == "pick_up" or order.is_masked:  # a masked address is complete for the carrier
        return Check("address", True)
    missing = [name for name in ("recipient", "phone", "street") if not getattr(order, name)]
    if missing:
        return Check("address", False, {"code": "address_incomplete", "missing": ", ".join(missing)})
    assert order.phone is not None
    if not phone_is_possible(order.phone, order.country):
        return Check("address", False, {"code": "phone_invalid", "phone": order.phone})
    return Check("address", True)


def _prices(order: CheckInput) -> Check:
    return Check("price", False, order.price_problems[0]) if order.price_problems else Check("price", True)


def _credit(order: CheckInput) -> Check:
    if order.payment_method != "credit" or order.total_cents <= order.paid_cents:
        return Check("credit", True)
    asked = order.total_cents - order.paid_cents
    if order.credit_limit_cents is None:
        return Check("credit", False, {"code": "no_credit"})
    over = order.credit_used_cents + asked - order.credit_limit_cents
    if over > 0:
        return Check("credit", False, credit_reason(order.credit_used_cents, asked, order.credit_limit_cents))
    return Check("credit", True)


def credit_reason(used_cents: int, asked_cents: int, limit_cents: int) -> dict[str, Any]:
    """The reason {code, …} that credit is exceeded, with all four numbers."""
    return {
        "code": "credit_exceeded",
        "used_cents": used_cents,
        "asked_cents": asked_cents,
        "limit_cents": limit_cents,
        "over_cents": used_cents + asked_cents - limit_cents,
    }


def _payment(order: CheckInput) -> Check:
    due = order.total_cents - order.paid_cents
    if order.payment_method == "prepaid" and due > 0:
        return Check("payment", False, {"code": "payment_waiting", "due_cents": due})
    return Check("payment", True)


def _duplicate(order: CheckInput) -> Check:
    if order.duplicate_number is not None:
        return Check("duplicate", False, {"code": "possible_duplicate", "other_number": order.duplicate_number})
    return Check("duplicate", True)


def _stock(order: CheckInput) -> Check:
    return Check("stock", False, order.short[0]) if order.short else Check("stock", True)


def _amount(order: CheckInput, rules: Rules) -> Check:
    if not rules.auto_approve.is_on:
        return Check("amount", False, {"code": "auto_approval_off"})
    most = rules.auto_approve.max_total_cents.get(order.currency)
    if most is not None and order.total_cents > most:
        return Check("amount", False, {"code": "amount_high", "total_cents": order.total_cents, "max_cents": most})
    return Check("amount", True)
