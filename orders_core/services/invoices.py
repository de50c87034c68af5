"""Asking for an invoice (开票申请): whom it is for and how much, never more than the order is still worth.

The tax system issues it later; a request is what it will be issued from. When the order costs less, its requests follow:
what was not sent to the tax system shrinks, against what was a red one (红字) is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, case, delete, func, insert, select, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.money import share, tax_contained
from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, OverPayment
from orders_core.services.idempotency import keyed
from orders_core.services.orders_state import order_for_change
from orders_core.store.tables import Customer, InvoiceRequest, InvoiceRequestLine, Order, OrderLine
from orders_core.store.uow import UnitOfWork

_TAX_NUMBER = re.compile(r"[0-9A-Z]{5,20}")
_DEAD = ("refused", "cancelled")
_SIGNED = case((InvoiceRequest.kind == "red", -InvoiceRequestLine.amount_cents), else_=InvoiceRequestLine.amount_cents)
_ASKED_BEFORE = (
    select(func.coalesce(func.sum(_SIGNED), 0))
    .select_from(InvoiceRequestLine)
    .join(InvoiceRequest, InvoiceRequest.id == InvoiceRequestLine.invoice_request_id)
    .where(InvoiceRequestLine.order_line_id == OrderLine.id, InvoiceRequest.status.not_in(_DEAD))
    .scalar_subquery()
)
_LINES = (
    select(
        OrderLine.id,
        OrderLine.ordered_qty,
        (OrderLine.ordered_qty - OrderLine.cancelled_qty - OrderLine.returned_qty).label("kept_qty"),
        OrderLine.net_cents,
        OrderLine.tax_cents,
        OrderLine.refunded_cents,
        OrderLine.tax_rate_bp,
        _ASKED_BEFORE.label("asked_cents"),
    )
    .where(OrderLine.order_id == bindparam("order_id"), OrderLine.parent_line_id.is_(None))
    .order_by(OrderLine.line_no)
)
_IS_OPEN = InvoiceRequest.status == "requested"  # not sent to the tax system yet
_RED = InvoiceRequest.__table__.alias("red")
_RED_LINE = InvoiceRequestLine.__table__.alias("red_line")
_REDDENED = (
    select(func.coalesce(func.sum(_RED_LINE.c.amount_cents), 0))
    .select_from(_RED_LINE.join(_RED, _RED.c.id == _RED_LINE.c.invoice_request_id))
    .where(
        _RED.c.red_of_id == InvoiceRequest.id,
        _RED.c.status.not_in(_DEAD),
        _RED_LINE.c.order_line_id == InvoiceRequestLine.order_line_id,
    )
    .scalar_subquery()
)
_BLUE_LINES = (
    select(
        InvoiceRequestLine.id,
        InvoiceRequestLine.invoice_request_id,
        InvoiceRequestLine.order_line_id,
        InvoiceRequestLine.qty,
        InvoiceRequestLine.amount_cents,
        InvoiceRequestLine.tax_rate_bp,
        _REDDENED.label("red_cents"),
    )
    .join(InvoiceRequest, InvoiceRequest.id == InvoiceRequestLine.invoice_request_id)
    .join(OrderLine, OrderLine.id == InvoiceRequestLine.order_line_id)
    .where(
        OrderLine.order_id == bindparam("order_id"),
        InvoiceRequest.kind == "blue",
        InvoiceRequest.status.not_in(_DEAD),
    )
    .order_by(_IS_OPEN.desc(), InvoiceRequest.id.desc(), InvoiceRequestLine.id)
)


@dataclass(frozen=True)
class RequestInvoice:
    """Ask for an invoice of an order, over `amount_cents` or all that is left of it.

    Without a title and tax number the customer's own are used; a private buyer has no tax number.
    """

    order_number: str
    title: str | None = None
    tax_number: str | None = None
    amount_cents: int | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class InvoiceRequested:
    """The request as it stands; `tax_cents` is contained in `amount_cents`."""

    request_id: int
    number: str
    status: str
    title: str
    tax_number: str | None
    amount_cents: int
    tax_cents: int
    currency: str
    is_repeat: bool = False


def request_invoice(uow: UnitOfWork, actor: Actor, command: RequestInvoice) -> InvoiceRequested:
    """Ask for an invoice: at most what the order costs now (returns are off it) less what was asked for before.

    The amount is shared over the lines by what each still has to be invoiced; shipping and other charges go with them.

    Raises:
        NotFound: no such order of the actor's own.
        NotAllowed: the order is on hold, waits for review, was cancelled or rejected.
        OverPayment: more than is left; names both amounts.
        InvalidCommand: a blank title, a tax number that cannot be one, an amount of nothing, imported history.
        IdempotencyMismatch: the key asked for another invoice before.
    """
    actor.must("invoice.request")
    order = order_for_change(uow, number=command.order_number, actor=actor)
    key = keyed(uow, InvoiceRequest, command, InvoiceRequest.customer_id == order.customer_id)
    if key.row is not None:
        return _answer(key.row, is_repeat=True)
    must_allow("invoice", status=order.status, key=order.number)
    if order.origin == "history":
        raise InvalidCommand(field="number", problem="imported_history", number=order.number)
    title, tax_number = _buyer(uow, order, command)
    lines = uow.rows(_LINES, {"order_id": order.id})
    left = order.total_cents - sum(int(line.asked_cents) for line in lines)
    amount = left if command.amount_cents is None else command.amount_cents
    if type(amount) is not int or (command.amount_cents is not None and amount <= 0):
        raise InvalidCommand(field="amount_cents", problem="not_an_amount", amount_cents=amount)
    if amount > left or left <= 0:
        asked = order.total_cents if command.amount_cents is None else amount
        raise OverPayment(what=f"invoice of {order.number}", asked_cents=asked, limit_cents=max(0, left))
    parts = _parts(lines, amount, is_tax_on_top=order.tax_cents > 0)
    row = {
        "id": uow.new_id(),
        "number": uow.new_number("IR"),
        "customer_id": order.customer_id,
        "kind": "blue",
        "status": "requested",
        "title": title,
        "tax_number": tax_number,
        "currency": order.currency,
        "amount_cents": amount,
        "tax_cents": sum(tax_contained(part["amount_cents"], part["tax_rate_bp"]) for part in parts),
        "created_at": uow.now,
        **key.columns,
    }
    uow.conn.execute(insert(InvoiceRequest), row)
    uow.conn.execute(
        insert(InvoiceRequestLine), [{"id": uow.new_id(), "invoice_request_id": row["id"], **part} for part in parts]
    )
    uow.changed("invoice_request", row["id"], 1, "insert")
    facts = {name: row[name] for name in ("number", "title", "tax_number", "amount_cents", "currency")}
    uow.audit(actor, "invoice.request", "orders", order.id, facts=facts)
    (written,) = uow.rows(select(InvoiceRequest.__table__).where(InvoiceRequest.id == row["id"]))
    return _answer(written)


def follow_order(uow: UnitOfWork, actor: Actor, order_id: int) -> None:
    """Take off an order's invoice requests what they are above its worth, the newest open ones first.

    Called, with the order locked, by whatever makes an order cheaper or ends it.
    """
    blue = uow.rows(_BLUE_LINES, {"order_id": order_id})
    if not blue:
        return
    order = uow.rows(select(Order.__table__).where(Order.id == order_id))[0]
    is_dead = order.cancelled_at is not None or order.rejected_at is not None
    worth = 0 if is_dead else max(0, order.total_cents)
    lines = uow.rows(_LINES, {"order_id": order_id})
    over = sum(int(line.asked_cents) for line in lines) - worth
    if over <= 0:
        return
    now = dict.fromkeys((line.id for line in lines), 0)
    for part in _parts(lines, worth, is_tax_on_top=order.tax_cents > 0, is_anew=True):
        now[part["order_line_id"]] = part["amount_cents"]
    excess = {line.id: max(0, int(line.asked_cents) - now[line.id]) for line in lines}
    kept = {line.id: 0 if is_dead else int(line.kept_qty) for line in lines}
    requests: dict[int, list[Any]] = {}
    for line in blue:
        requests.setdefault(line.invoice_request_id, []).append(line)
    for request_id, parts in requests.items():
        free = [line.amount_cents - int(line.red_cents) for line in parts]
        cents = min(over, sum(free))
        if cents <= 0:
            continue
        fair = [min(most, excess[line.order_line_id]) for line, most in zip(parts, free, strict=True)]
        taken = share(cents, fair if sum(fair) >= cents else free)
        over -= cents
        for line, off in zip(parts, taken, strict=True):
            excess[line.order_line_id] = max(0, excess[line.order_line_id] - off)
        _take_off(uow, actor, order, request_id, parts, taken, kept)


def _take_off(
    uow: UnitOfWork,
    actor: Actor,
    order: Any,
    request_id: int,
    parts: Sequence[Any],
    taken: Sequence[int],
    kept: Mapping[int, int],
) -> None:
    """Lower one blue request line by line, cancel it when nothing is left, or ask for a red one when it has gone out."""
    request = uow.rows(select(InvoiceRequest.__table__).where(InvoiceRequest.id == request_id))[0]
    off = [(line, cents) for line, cents in zip(parts, taken, strict=True) if cents > 0]
    facts: dict[str, Any] = {"number": request.number, "less_cents": sum(taken), "currency": request.currency}
    if request.status != "requested":
        facts["red_number"] = _write_red(uow, request, off, kept)
    elif sum(taken) == request.amount_cents:
        _set(uow, request, status="cancelled")
    else:
        for line, cents in off:
            at = InvoiceRequestLine.id == line.id
            if cents == line.amount_cents:
                uow.conn.execute(delete(InvoiceRequestLine).where(at))
            else:
                qty = min(line.qty, kept[line.order_line_id]) or line.qty
                left = {"amount_cents": line.amount_cents - cents, "qty": qty}
                uow.conn.execute(update(InvoiceRequestLine).where(at).values(**left))
        tax = sum(
            tax_contained(line.amount_cents - cents, line.tax_rate_bp) for line, cents in zip(parts, taken, strict=True)
        )
        _set(uow, request, amount_cents=request.amount_cents - sum(taken), tax_cents=tax)
    uow.audit(actor, "invoice.follow", "orders", order.id, facts=facts)


def _write_red(uow: UnitOfWork, blue: Any, off: Sequence[tuple[Any, int]], kept: Mapping[int, int]) -> str:
    """Ask for a red invoice over these cents of a blue one's lines; returns its number."""
    red_id, number = uow.new_id(), uow.new_number("IR")
    row = {
        "id": red_id,
        "number": number,
        "kind": "red",
        "red_of_id": blue.id,
        "status": "requested",
        "amount_cents": sum(cents for _, cents in off),
        "tax_cents": sum(tax_contained(cents, line.tax_rate_bp) for line, cents in off),
        "created_at": uow.now,
    }
    same = {name: getattr(blue, name) for name in ("customer_id", "title", "tax_number", "currency")}
    uow.conn.execute(insert(InvoiceRequest), row | same)
    uow.conn.execute(
        insert(InvoiceRequestLine),
        [
            {
                "id": uow.new_id(),
                "invoice_request_id": red_id,
                "order_line_id": line.order_line_id,
                "qty": max(1, line.qty - kept[line.order_line_id]),  # a lower price takes back no unit
                "amount_cents": cents,
                "tax_rate_bp": line.tax_rate_bp,
            }
            for line, cents in off
        ],
    )
    uow.changed("invoice_request", red_id, 1, "insert")
    return number


def _set(uow: UnitOfWork, request: Any, **values: Any) -> None:
    changes = {**values, "version": request.version + 1}
    uow.conn.execute(update(InvoiceRequest).where(InvoiceRequest.id == request.id).values(**changes))
    uow.changed("invoice_request", request.id, request.version + 1)


def _buyer(uow: UnitOfWork, order: Any, command: RequestInvoice) -> tuple[str, str | None]:
    """Title and tax number: those asked for, else the customer's own."""
    own = uow.rows(
        select(Customer.name, Customer.invoice_title, Customer.tax_number).where(Customer.id == order.customer_id)
    )[0]
    if command.title is not None:
        title, tax_number = command.title.strip(), command.tax_number
    else:
        title, tax_number = own.invoice_title or own.name, command.tax_number or own.tax_number
    if not title:
        raise InvalidCommand(field="title", problem="invoice_without_title")
    tax_number = tax_number.strip().upper() if tax_number else None
    if tax_number is not None and not _TAX_NUMBER.fullmatch(tax_number):
        raise InvalidCommand(field="tax_number", problem="not_a_tax_number", value=tax_number)
    return title, tax_number


def _parts(lines: Sequence[Any], amount: int, *, is_tax_on_top: bool, is_anew: bool = False) -> list[dict[str, int]]:
    """The amount over the order's lines, by what of each is still to be invoiced; they sum to it exactly.

    `is_anew` shares it as if nothing had been asked for yet.
    """
    kept = [(line, int(line.kept_qty)) for line in lines if line.kept_qty > 0]
    kept = kept or [(line, line.ordered_qty) for line in lines if line.ordered_qty > 0]  # only charges are left
    worth = [
        max(
            0,
            line.net_cents
            + (line.tax_cents if is_tax_on_top else 0)
            - line.refunded_cents
            - (0 if is_anew else int(line.asked_cents)),
        )
        for line, _ in kept
    ]
    return [
        {"order_line_id": line.id, "qty": qty, "amount_cents": cents, "tax_rate_bp": line.tax_rate_bp}
        for (line, qty), cents in zip(kept, share(amount, worth), strict=True)
        if cents > 0
    ]


def _answer(row: Any, *, is_repeat: bool = False) -> InvoiceRequested:
    return InvoiceRequested(
        request_id=row.id,
        number=row.number,
        status=row.status,
        title=row.title,
        tax_number=row.tax_number,
        amount_cents=row.amount_cents,
        tax_cents=row.tax_cents,
        currency=row.currency,
        is_repeat=is_repeat,
    )
