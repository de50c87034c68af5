"""Cancelling an order, or what is left of it; a second cancel does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound
from orders_core.notifications.tell import tell_customer
from orders_core.services.credit import settle_claim
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.orders_state import OrderState, has_shipped, order_for_change, sync_order
from orders_core.services.refunds import grant_refund
from orders_core.services.releasing import give_back, lines_as_they_stand
from orders_core.store.base import to_micros
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class CancelOrder:
    """Cancel what has not left yet; `reason` is kept and told."""

    number: str
    reason: str
    expected_version: int | None = None


def cancel_order(uow: UnitOfWork, actor: Actor, command: CancelOrder) -> OrderState:
    """Cancel an order: its units go back, the picker is stopped, credit and payments are given back.

    An order part of which has left keeps that part and loses the rest. Cancelling twice does nothing.

    Raises:
        NotAllowed: everything has left; the message says to open a return.
    """
    actor.must("order.cancel")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    if actor.customer_id is not None and actor.customer_id != order.customer_id:
        raise NotFound(entity="order", key=command.number)
    if order.status == "cancelled":
        return OrderState(order.id, order.number, order.status, order.version)
    must_allow("cancel", status=order.status, key=order.number)
    if has_shipped(uow, order.id):
        return _cancel_rest(uow, actor, order.id, command)
    stood_before = lines_as_they_stand(uow, order.id)
    give_back(uow, order)
    uow.conn.execute(
        text(
            "UPDATE orders SET cancelled_at = :now, cancel_reason = :reason, hold_reason = NULL, review_reasons = NULL,"
            " status = 'cancelled' WHERE id = :order_id"
        ),
        {"now": to_micros(uow.now), "reason": command.reason, "order_id": order.id},
    )
    uow.conn.execute(
        text("UPDATE order_line SET cancelled_qty = ordered_qty WHERE order_id = :order_id"), {"order_id": order.id}
    )
    settle_claim(uow, order.id)
    paid = order.paid_cents - order.refunded_cents
    if paid > 0:
        grant_refund(
            uow, actor, order_id=order.id, amount_cents=paid, reason=command.reason, idem_key=f"cancel:{order.id}"
        )
    state = sync_order(uow, order.id)
    facts = {"reason": command.reason, "before": stood_before}
    uow.audit(actor, "order.cancel", "orders", order.id, version=state.version, facts=facts)
    tell_customer(
        uow,
        "order_cancelled",
        order.id,
        dedupe_key=f"order_cancelled:{order.id}",
        reason=command.reason,
        refund_cents=max(0, paid),
    )
    return state


def _cancel_rest(uow: UnitOfWork, actor: Actor, order_id: int, command: CancelOrder) -> OrderState:
    """Lower every line to what has shipped; money follows as in any edit. Nothing is left to hold back."""
    uow.conn.execute(text("UPDATE orders SET hold_reason = NULL WHERE id = :order_id"), {"order_id": order_id})
    lines = uow.rows(
        text(
            "SELECT line_no, units_per_pack, shipped_qty, ordered_qty FROM order_line"
            " WHERE order_id = :order_id AND parent_line_id IS NULL AND ordered_qty > shipped_qty ORDER BY line_no"
        ),
        {"order_id": order_id},
    )
    changes = tuple(LineChange(line.line_no, -(-line.shipped_qty // line.units_per_pack)) for line in lines)
    edited = edit_order(uow, actor, EditOrder(command.number, lines=changes, reason=command.reason))
    return OrderState(order_id, command.number, edited.status, edited.version)
