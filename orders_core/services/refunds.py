"""Money back: granted under a guard, never more in all than the order was paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch, NotFound, OverPayment
from orders_core.notifications.tell import tell_customer
from orders_core.services.credit import settle_claim
from orders_core.services.invoices import follow_order
from orders_core.store.tables import Coupon, CouponUse, Order, OrderCharge, Refund
from orders_core.store.uow import UnitOfWork

_GRANT = text(
    "UPDATE orders SET refunded_cents = refunded_cents + :amount, version = version + 1"
    " WHERE id = :order_id AND paid_cents - refunded_cents >= :amount RETURNING version"
)


@dataclass(frozen=True)
class Granted:
    """A refund as granted; `is_repeat` when the key had granted it before."""

    refund_id: int
    number: str
    amount_cents: int
    is_repeat: bool = False


def grant_refund(
    uow: UnitOfWork,
    actor: Actor,
    *,
    order_id: int,
    amount_cents: int,
    reason: str,
    idem_key: str,
    return_id: int | None = None,
) -> Granted:
    """Grant a refund on an order; the same key grants it once. Called by services that named their own permission.

    Raises:
        OverPayment: more than was paid and not yet given back.
        IdempotencyMismatch: the key granted another amount before.
    """
    known = uow.row(
        select(Refund.id, Refund.number, Refund.amount_cents).where(
            Refund.order_id == order_id, Refund.idem_key == idem_key
        )
    )
    if known is not None:
        if known.amount_cents != amount_cents:
            raise IdempotencyMismatch(key=idem_key, number=known.number)
        return Granted(known.id, known.number, known.amount_cents, is_repeat=True)
    order = uow.row(
        select(Order.number, Order.customer_id, Order.currency, Order.paid_cents, Order.refunded_cents).where(
            Order.id == order_id
        )
    )
    if order is None:
        raise NotFound(entity="order", key=order_id)
    left = order.paid_cents - order.refunded_cents
    version = None
    if 0 < amount_cents <= left:
        version = uow.conn.execute(_GRANT, {"order_id": order_id, "amount": amount_cents}).scalar_one_or_none()
    if version is None:
        raise OverPayment(what=f"refund on {order.number}", asked_cents=amount_cents, limit_cents=left)
    refund_id, number = uow.new_id(), uow.new_number("RF")
    uow.conn.execute(
        insert(Refund),
        {
            "id": refund_id,
            "number": number,
            "order_id": order_id,
            "return_id": return_id,
            "customer_id": order.customer_id,
            "amount_cents": amount_cents,
            "currency": order.currency,
            "status": "granted",
            "reason": reason,
            "idem_key": idem_key,
            "granted_at": uow.now,
            "business_date": uow.today,
            "actor": actor.name,
        },
    )
    uow.changed("orders", order_id, version)
    uow.changed("refund", refund_id, 1, "insert")
    facts = {"refund": number, "amount_cents": amount_cents, "reason": reason}
    uow.audit(actor, "order.refund", "orders", order_id, version=version, facts=facts)
    tell_customer(
        uow,
        "refund_granted",
        order_id,
        dedupe_key=f"refund_granted:{refund_id}",
        refund_cents=amount_cents,
        reason=reason,
    )
    return Granted(refund_id, number, amount_cents)


def take_off(
    uow: UnitOfWork,
    actor: Actor,
    order: Any,
    *,
    code: str,
    cents: int,
    reason: str,
    idem_key: str,
    return_id: int | None = None,
) -> int:
    """Let an order, locked by the caller, cost `cents` less, by a charge of this code: what was paid above its new total
    goes back, what is owed on credit falls. Returns the cents given back."""
    charge = {"kind": "discount", "code": code, "amount_cents": -cents}
    uow.conn.execute(insert(OrderCharge), {"id": uow.new_id(), "order_id": order.id, **charge})
    now = uow.rows(
        update(Order)
        .where(Order.id == order.id)
        .values(
            charges_cents=Order.charges_cents - cents,
            total_cents=Order.total_cents - cents,
            version=Order.version + 1,
        )
        .returning(Order.total_cents, Order.version)
    )[0]
    uow.changed("orders", order.id, now.version)
    over: int = order.paid_cents - order.refunded_cents - max(0, now.total_cents)
    if over > 0:
        grant_refund(
            uow, actor, order_id=order.id, amount_cents=over, reason=reason, idem_key=idem_key, return_id=return_id
        )
    settle_claim(uow, order.id)
    follow_order(uow, actor, order.id)
    return max(0, over)


def give_coupon_back(uow: UnitOfWork, order_id: int) -> None:
    """An order that was cancelled or turned down has not used its coupon."""
    for use in uow.rows(select(CouponUse.coupon_id).where(CouponUse.order_id == order_id)):
        uow.conn.execute(delete(CouponUse).where(CouponUse.order_id == order_id, CouponUse.coupon_id == use.coupon_id))
        uow.conn.execute(update(Coupon).where(Coupon.id == use.coupon_id).values(used_count=Coupon.used_count - 1))
