"""Money in: a receipt, settled against one or several orders (核销); what is left over stays as a prepayment. And money
taken off an order, and paid out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, text, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch, InvalidCommand, NotFound, OverPayment
from orders_core.services.credit import settle_claim
from orders_core.services.idempotency import body_hash, is_repeat
from orders_core.services.orders_state import order_for_change
from orders_core.services.refunds import take_off
from orders_core.services.review import reconsider
from orders_core.store.tables import Customer, Order, PaymentReceipt, ReceiptSettlement, Refund
from orders_core.store.uow import Contended, UnitOfWork


@dataclass(frozen=True)
class ReceivePayment:
    """Money received from a customer. `settle` names orders and cents; without it the oldest unpaid orders are paid."""

    customer: str
    amount_cents: int
    idem_key: str
    method: str = "transfer"
    currency: str | None = None
    reference: str | None = None
    settle: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Received:
    """The receipt, what it paid (order number → cents), what stays as prepayment, and orders it let through."""

    receipt_id: int
    number: str
    settled: Mapping[str, int]
    left_cents: int
    approved: tuple[str, ...]
    is_repeat: bool = False


_PAY = text(
    "UPDATE orders SET paid_cents = paid_cents + :cents, version = version + 1"
    " WHERE id = :order_id AND paid_cents - refunded_cents + :cents <= total_cents"
    " AND cancelled_at IS NULL AND rejected_at IS NULL RETURNING version"
)
_USE = text(
    "UPDATE payment_receipt SET settled_cents = settled_cents + :cents"
    " WHERE id = :receipt_id AND settled_cents + :cents <= amount_cents RETURNING amount_cents - settled_cents"
)
_IS_OWING = and_(
    Order.cancelled_at.is_(None),
    Order.rejected_at.is_(None),
    Order.origin == "live",
    Order.paid_cents - Order.refunded_cents < Order.total_cents,
)
_OWING = (
    select(
        Order.id,
        Order.number,
        Order.currency,
        Order.total_cents,
        Order.paid_cents,
        Order.refunded_cents,
        Order.cancelled_at,
        Order.rejected_at,
    )
    .where(_IS_OWING)
    # approved orders first: they are owed; then the ones that wait for their money
    .order_by(Order.approved_at.is_(None), Order.business_date, Order.id)
)


def receive_payment(uow: UnitOfWork, actor: Actor, command: ReceivePayment) -> Received:
    """Record a payment, settle it, and approve the orders that only waited for money or credit.

    Raises:
        OverPayment: more is set against an order than it still owes, or more than the receipt holds.
        InvalidCommand: an order in `settle` is in another currency than the money.
        IdempotencyMismatch: the key belongs to another payment.
    """
    actor.must("money.receive")
    if type(command.amount_cents) is not int or command.amount_cents <= 0:
        raise InvalidCommand(field="amount_cents", problem="not_an_amount", amount_cents=command.amount_cents)
    customer = uow.row(select(Customer.id, Customer.currency).where(Customer.code == command.customer))
    if customer is None:
        raise NotFound(entity="customer", key=command.customer)
    currency = command.currency or customer.currency
    digest = body_hash(replace(command, currency=currency))
    known = uow.row(select(PaymentReceipt.__table__).where(PaymentReceipt.idem_key == command.idem_key))
    if known is not None:
        if known.body_hash != digest:
            raise IdempotencyMismatch(key=command.idem_key, number=known.number)
        left = known.amount_cents - known.settled_cents
        return Received(known.id, known.number, _settled_by(uow, known.id), left, (), is_repeat=True)
    named = _IS_OWING if command.settle is None else Order.number.in_(sorted(command.settle))
    locked = _lock_orders(uow, customer.id, named)
    receipt_id, number = uow.new_id(), uow.new_number("RC")
    uow.conn.execute(
        insert(PaymentReceipt),
        {
            "id": receipt_id,
            "number": number,
            "customer_id": customer.id,
            "amount_cents": command.amount_cents,
            "currency": currency,
            "method": command.method,
            "reference": command.reference,
            "idem_key": command.idem_key,
            "body_hash": digest,
            "received_at": uow.now,
            "business_date": uow.today,
            "actor": actor.name,
        },
    )
    uow.changed("payment_receipt", receipt_id, 1, "insert")
    facts = {"number": number, "amount_cents": command.amount_cents, "method": command.method}
    uow.audit(actor, "money.receive", "payment_receipt", receipt_id, facts=facts)
    settled: dict[str, int] = {}
    left = command.amount_cents
    if command.settle is None:
        for order in uow.rows(_OWING.where(Order.customer_id == customer.id, Order.currency == currency)):
            cents = min(left, order.total_cents - (order.paid_cents - order.refunded_cents))
            if cents > 0 and order.id in locked:
                _settle(uow, actor, receipt_id, currency, order, cents)
                settled[order.number] = cents
                left -= cents
    else:
        if sum(command.settle.values()) > command.amount_cents:
            asked = sum(command.settle.values())
            raise OverPayment(what=f"receipt {number}", asked_cents=asked, limit_cents=command.amount_cents)
        for order_number, cents in sorted(command.settle.items()):
            _settle(uow, actor, receipt_id, currency, _order(uow, order_number, customer.id), cents)
            settled[order_number] = cents
            left -= cents
    return Received(receipt_id, number, settled, left, _let_through(uow, locked))


def _settled_by(uow: UnitOfWork, receipt_id: int) -> dict[str, int]:
    """Order number → cents that a receipt has paid so far."""
    query = (
        select(Order.number, func.sum(ReceiptSettlement.amount_cents).label("cents"))
        .join(Order, Order.id == ReceiptSettlement.order_id)
        .where(ReceiptSettlement.payment_receipt_id == receipt_id)
        .group_by(Order.number)
    )
    return {row.number: int(row.cents) for row in uow.rows(query)}


def _lock_orders(uow: UnitOfWork, customer_id: int, to_settle: ColumnElement[bool]) -> Collection[int]:
    """Ids of the customer's orders to settle and of those in review, locked by id: orders come before the customer."""
    query = select(Order.id).where(Order.customer_id == customer_id, or_(to_settle, Order.status == "review"))
    query = query.order_by(Order.id)
    return {row.id for row in uow.rows(query if uow.is_sqlite else query.with_for_update(key_share=True))}


@dataclass(frozen=True)
class SettleReceipt:
    """Set part of an earlier receipt (a prepayment) against an order; with an `idem_key`, sent twice it settles once."""

    receipt_number: str
    order_number: str
    amount_cents: int
    idem_key: str | None = None


def settle_receipt(uow: UnitOfWork, actor: Actor, command: SettleReceipt) -> Received:
    """Use a prepayment for an order.

    Raises:
        OverPayment: more than the receipt has left or the order still owes.
        InvalidCommand: the order is in another currency than the receipt.
        IdempotencyMismatch: the key belongs to another settlement.
    """
    actor.must("money.receive")
    receipt = uow.row(select(PaymentReceipt.__table__).where(PaymentReceipt.number == command.receipt_number))
    if receipt is None:
        raise NotFound(entity="receipt", key=command.receipt_number)
    settled = {command.order_number: command.amount_cents}
    left = receipt.amount_cents - receipt.settled_cents
    if is_repeat(uow, actor, "settle_receipt", command):
        return Received(receipt.id, receipt.number, settled, left, (), is_repeat=True)
    locked = _lock_orders(uow, receipt.customer_id, Order.number == command.order_number)
    order = _order(uow, command.order_number, receipt.customer_id)
    left = _settle(uow, actor, receipt.id, receipt.currency, order, command.amount_cents)
    return Received(receipt.id, receipt.number, settled, left, _let_through(uow, locked))


def _order(uow: UnitOfWork, number: str, customer_id: int) -> Any:
    order = uow.row(select(Order.__table__).where(Order.number == number, Order.customer_id == customer_id))
    if order is None:
        raise NotFound(entity="order", key=number)
    return order


def _settle(uow: UnitOfWork, actor: Actor, receipt_id: int, currency: str, order: Any, cents: int) -> int:
    """One settlement under two guards: the receipt's rest and what the order still owes; returns the receipt's rest."""
    if order.currency != currency:
        raise InvalidCommand(
            field="currency", problem="other_currency", number=order.number, currency=order.currency, paid_in=currency
        )
    is_dead = order.cancelled_at is not None or order.rejected_at is not None  # then it owes nothing
    owes = 0 if is_dead else order.total_cents - (order.paid_cents - order.refunded_cents)
    if cents <= 0 or cents > owes:
        raise OverPayment(what=f"payment of {order.number}", asked_cents=cents, limit_cents=max(0, owes))
    left: int | None = uow.conn.execute(_USE, {"cents": cents, "receipt_id": receipt_id}).scalar()
    if left is None:
        raise OverPayment(what="receipt", asked_cents=cents, limit_cents=0)
    version = uow.conn.execute(_PAY, {"cents": cents, "order_id": order.id}).scalar_one_or_none()
    if version is None:  # paid meanwhile by another receipt: look again at what is owed
        raise Contended
    uow.conn.execute(
        insert(ReceiptSettlement),
        {
            "id": uow.new_id(),
            "payment_receipt_id": receipt_id,
            "order_id": order.id,
            "amount_cents": cents,
            "at": uow.now,
        },
    )
    settle_claim(uow, order.id)
    uow.changed("orders", order.id, version)
    uow.audit(actor, "order.pay", "orders", order.id, version=version, facts={"amount_cents": cents})
    return left


def _let_through(uow: UnitOfWork, locked: Collection[int]) -> tuple[str, ...]:
    """Look again at the locked orders that wait for review, oldest first; numbers of those approved."""
    waiting = uow.rows(select(Order.id).where(Order.id.in_(locked), Order.status == "review").order_by(Order.id))
    approved = []
    for row in waiting:
        state = reconsider(uow, row.id)
        if state is not None and state.status != "review":
            approved.append(state.number)
    return tuple(approved)


@dataclass(frozen=True)
class RefundOrder:
    """Let an order cost `amount_cents` less, without goods coming back: a complaint, a favour, a service that failed.

    With an `idem_key`, sent twice it is done once.
    """

    number: str
    amount_cents: int
    reason: str
    idem_key: str | None = None


@dataclass(frozen=True)
class Refunded:
    """What the order costs now, and how much of what was paid for it goes back in all."""

    order_id: int
    number: str
    status: str
    currency: str
    total_cents: int
    refunded_cents: int
    is_repeat: bool = False


def refund_order(uow: UnitOfWork, actor: Actor, command: RefundOrder) -> Refunded:
    """Take an amount off an order: what was paid above its new total is refunded, what it owes on credit falls.

    Raises:
        OverPayment: more than the order still costs; one that was cancelled or rejected costs nothing.
        InvalidCommand: no positive amount, no reason, or an order of imported history.
        IdempotencyMismatch: the key belongs to another refund of the order.
    """
    actor.must("money.refund")
    order = order_for_change(uow, number=command.number)
    if is_repeat(uow, actor, f"order.refund:{order.id}", command):
        return _refunded(uow, order.id, is_repeat=True)
    must_allow("refund", status=order.status, key=order.number)
    if type(command.amount_cents) is not int or command.amount_cents <= 0:
        raise InvalidCommand(field="amount_cents", problem="not_an_amount", amount_cents=command.amount_cents)
    if not command.reason.strip():
        raise InvalidCommand(field="reason", problem="refund_without_reason")
    if order.origin == "history":
        raise InvalidCommand(field="number", problem="imported_history", number=order.number)
    is_dead = order.cancelled_at is not None or order.rejected_at is not None
    most = 0 if is_dead else max(0, order.total_cents)
    if command.amount_cents > most:
        raise OverPayment(what=f"refund on {order.number}", asked_cents=command.amount_cents, limit_cents=most)
    key = f"refund:{order.id}:{order.version}"
    take_off(uow, actor, order, code=key, cents=command.amount_cents, reason=command.reason, idem_key=key)
    facts = {"amount_cents": command.amount_cents, "reason": command.reason}
    uow.audit(actor, "order.take_off", "orders", order.id, facts=facts)
    reconsider(uow, order.id)
    return _refunded(uow, order.id)


def _refunded(uow: UnitOfWork, order_id: int, *, is_repeat: bool = False) -> Refunded:
    order = order_for_change(uow, order_id=order_id)
    return Refunded(
        order.id, order.number, order.status, order.currency, order.total_cents, order.refunded_cents, is_repeat
    )


_VERSION = {"failed": 2, "paid": 3}  # a refund is granted, may fail, and is paid at last: each step comes once at most


@dataclass(frozen=True)
class PayRefund:
    """The money of a granted refund went out (or failed to)."""

    refund_number: str
    has_failed: bool = False


def pay_refund(uow: UnitOfWork, actor: Actor, command: PayRefund) -> str:
    """Mark a granted refund as paid or failed; returns its status. Doing it twice does nothing.

    What failed can still be paid; what was paid stays so.
    """
    actor.must("money.refund")
    refund = uow.row(select(Refund.__table__).where(Refund.number == command.refund_number))
    if refund is None:
        raise NotFound(entity="refund", key=command.refund_number)
    status = "failed" if command.has_failed else "paid"
    if refund.status == status:
        return status
    if refund.status == "paid":
        raise InvalidCommand(field="refund", problem="refund_is_paid", number=refund.number)
    marked = uow.row(
        update(Refund)
        .where(Refund.id == refund.id, Refund.status == refund.status)
        .values(status=status, paid_at=None if command.has_failed else uow.now)
        .returning(Refund.id)
    )
    if marked is None:  # someone marked it meanwhile: look again
        raise Contended
    uow.changed("refund", refund.id, _VERSION[status])
    uow.audit(actor, f"refund.{status}", "refund", refund.id, facts={"number": refund.number})
    return status
