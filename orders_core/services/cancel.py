"""Cancelling an order, or what is left of it; a second cancel does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.money import half_up
from orders_core.domain.permissions import Actor
from orders_core.notifications.tell import tell_customer
from orders_core.services.credit import settle_claim
from orders_core.services.edit import EditOrder, LineChange, edit_order, must_stay_qty
from orders_core.services.fill import hand_on
from orders_core.services.orders_state import OrderState, has_shipped, order_for_change, sync_order
from orders_core.services.refunds import give_coupon_back, grant_refund
from orders_core.services.releasing import give_back, lines_as_they_stand
from orders_core.store.base import to_micros
from orders_core.store.tables import Order, OrderCharge, OrderLine, Sku
from orders_core.store.uow import UnitOfWork

_LINES = select(OrderLine.__table__).where(OrderLine.order_id == bindparam("order_id")).order_by(OrderLine.line_no)
_STANDING = (
    select(OrderLine.line_no, Sku.sku, OrderLine.kind, (OrderLine.ordered_qty - OrderLine.cancelled_qty).label("qty"))
    .join(Sku, Sku.id == OrderLine.sku_id)
    .where(OrderLine.order_id == bindparam("order_id"), OrderLine.parent_line_id.is_(None))
    .order_by(OrderLine.line_no)
)


@dataclass(frozen=True)
class CancelOrder:
    """Cancel what has not left yet; `reason` is kept and told."""

    number: str
    reason: str
    expected_version: int | None = None


@dataclass(frozen=True)
class Dropped:
    """What of one line a cancel takes off the order, in base units; services not performed yet among them."""

    line_no: int
    sku: str
    kind: str
    qty: int


@dataclass(frozen=True)
class Cancelled(OrderState):
    """Where the order stands after a cancel, and what it lost; also what a preview shows."""

    dropped: Sequence[Dropped] = ()


def preview_cancel(uow: UnitOfWork, actor: Actor, command: CancelOrder) -> Cancelled:
    """What `cancel_order` would do; leaves everything untouched."""
    with uow.dry_run():
        return cancel_order(uow, actor, command)


def cancel_order(uow: UnitOfWork, actor: Actor, command: CancelOrder, *, return_id: int | None = None) -> Cancelled:
    """Cancel an order: its units go back, the picker is stopped, credit and payments are given back.

    An order part of which has left keeps that part and loses the rest, services that were not performed included;
    `dropped` names all it loses. Cancelling twice does nothing. `return_id`: the request whose approval this is.

    Raises:
        NotAllowed: everything has left; the message says to open a return.
    """
    actor.must("order.cancel")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version, actor=actor)
    where = {"order_id": order.id}
    before = uow.rows(_STANDING, where)
    state = _cancel(uow, actor, order, command, return_id)
    hand_on(uow)
    after = {line.line_no: line.qty for line in uow.rows(_STANDING, where)}
    dropped = [Dropped(x.line_no, x.sku, x.kind, x.qty - after[x.line_no]) for x in before if x.qty > after[x.line_no]]
    return Cancelled(state.order_id, state.number, state.status, state.version, dropped)


def _cancel(uow: UnitOfWork, actor: Actor, order: Any, command: CancelOrder, return_id: int | None) -> OrderState:
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
    give_coupon_back(uow, order.id)
    settle_claim(uow, order.id)
    paid = order.paid_cents - order.refunded_cents
    if paid > 0:
        grant_refund(
            uow,
            actor,
            order_id=order.id,
            amount_cents=paid,
            reason=command.reason,
            idem_key=f"cancel:{order.id}",
            return_id=return_id,
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
    lines = uow.rows(_LINES, {"order_id": order_id})
    changes = []
    for line in lines:
        packs = -(-must_stay_qty(line, lines) // line.units_per_pack)
        if line.parent_line_id is None and packs < line.pack_qty:
            changes.append(LineChange(line.line_no, packs))
    if changes:
        edit_order(uow, actor, EditOrder(command.number, lines=changes, reason=command.reason))
    return _cancel_broken_packs(uow, actor, order_id, command.reason) or sync_order(uow, order_id)


def _cancel_broken_packs(uow: UnitOfWork, actor: Actor, order_id: int, reason: str) -> OrderState | None:
    """Units left of a box part of which has gone: cancelled as pieces, with their share of the line's money."""
    broken = {}
    worth = 0
    order = order_for_change(uow, order_id=order_id)
    for line in uow.rows(_LINES, {"order_id": order_id}):
        rest = line.ordered_qty - line.cancelled_qty - line.shipped_qty
        if line.kind in ("item", "gift") and rest > 0:
            broken[line.id] = rest
            whole = line.net_cents + (line.tax_cents if order.tax_cents else 0)
            cents = half_up(whole * rest, line.ordered_qty)
            worth += cents
            row = {
                "order_id": order_id,
                "kind": "discount",
                "code": f"cancelled:{line.line_no}",
                "amount_cents": -cents,
            }
            if cents:
                uow.conn.execute(insert(OrderCharge), {"id": uow.new_id(), **row})
    if not broken:
        return None
    give_back(uow, order, units=broken)
    for line_id, rest in broken.items():
        uow.conn.execute(
            update(OrderLine).where(OrderLine.id == line_id).values(cancelled_qty=OrderLine.cancelled_qty + rest)
        )
    total = uow.conn.execute(
        update(Order)
        .where(Order.id == order_id)
        .values(charges_cents=Order.charges_cents - worth, total_cents=Order.total_cents - worth)
        .returning(Order.total_cents)
    ).scalar_one()
    over = order.paid_cents - order.refunded_cents - total
    if over > 0:
        key = f"cancel_rest:{order_id}:{order.version}"
        grant_refund(uow, actor, order_id=order_id, amount_cents=over, reason=reason, idem_key=key)
    settle_claim(uow, order_id)
    return sync_order(uow, order_id)
