"""What an order on credit still owes, kept in step with its total and payments."""

from __future__ import annotations

from sqlalchemy import bindparam, exists, select, text, update

from orders_core.errors import CreditExceeded
from orders_core.store.prepared import Prepared
from orders_core.store.tables import Customer, Order, OrderLine
from orders_core.store.uow import UnitOfWork

_CLAIM = Prepared(
    update(Customer)
    .where(
        Customer.id == bindparam("customer_id"),
        Customer.credit_used_cents + bindparam("asked_cents") <= Customer.credit_limit_cents,
    )
    .values(credit_used_cents=Customer.credit_used_cents + bindparam("asked_cents"))
    .returning(Customer.credit_used_cents)
)
_ADD = text("UPDATE customer SET credit_used_cents = credit_used_cents + :delta WHERE id = :customer_id")
_SET_CLAIM = text("UPDATE orders SET credit_claimed_cents = :claimed WHERE id = :order_id")


def claim_credit(uow: UnitOfWork, customer_id: int, asked_cents: int) -> bool:
    """Take credit in one guarded statement; two orders at once cannot both take the last of it."""
    return uow.row(_CLAIM, {"customer_id": customer_id, "asked_cents": asked_cents}) is not None


def claim_anyway(uow: UnitOfWork, customer_id: int, asked_cents: int) -> None:
    """Take credit above the limit: a person decided so, with a reason. Negative gives back."""
    uow.conn.execute(_ADD, {"customer_id": customer_id, "delta": asked_cents})


def settle_claim(uow: UnitOfWork, order_id: int, *, may_exceed: bool = False) -> int:
    """Bring an order's claim to what it still owes: total − (paid − refunded) on credit, else nothing.

    It owes from its approval on, and as long as any of it has left: an edit that waits for review takes nothing off.

    Returns the change in cents. Raises CreditExceeded when more is needed than the limit leaves, unless `may_exceed`.
    """
    order = uow.rows(
        select(
            Order.customer_id,
            Order.payment_method,
            Order.approved_at,
            Order.cancelled_at,
            Order.rejected_at,
            Order.total_cents,
            Order.paid_cents,
            Order.refunded_cents,
            Order.credit_claimed_cents,
            exists().where(OrderLine.order_id == Order.id, OrderLine.shipped_qty > 0).label("has_shipped"),
        ).where(Order.id == order_id)
    )[0]
    owes = 0
    is_dead = order.cancelled_at is not None or order.rejected_at is not None
    if order.payment_method == "credit" and (order.approved_at is not None or order.has_shipped) and not is_dead:
        owes = max(0, order.total_cents - (order.paid_cents - order.refunded_cents))
    delta: int = owes - order.credit_claimed_cents
    if delta == 0:
        return 0
    if delta < 0 or may_exceed:
        claim_anyway(uow, order.customer_id, delta)
    elif not claim_credit(uow, order.customer_id, delta):
        customer = uow.rows(
            select(Customer.code, Customer.currency, Customer.credit_used_cents, Customer.credit_limit_cents).where(
                Customer.id == order.customer_id
            )
        )[0]
        raise CreditExceeded(
            customer=customer.code,
            used_cents=customer.credit_used_cents,
            asked_cents=delta,
            limit_cents=customer.credit_limit_cents or 0,
            currency=customer.currency,
        )
    uow.conn.execute(_SET_CLAIM, {"order_id": order_id, "claimed": owes})
    return delta
