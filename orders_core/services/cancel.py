"""Cancelling an order, or what is left of it; a second cancel does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, text, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand
from orders_core.notifications.tell import tell_customer
from orders_core.services.credit import settle_claim
from orders_core.services.edit import EditOrder, LineChange, change_order, must_stay_qty
from orders_core.services.fill import hand_on
from orders_core.services.invoices import follow_order
from orders_core.services.orders_state import OrderState, has_shipped, order_for_change, sync_order
from orders_core.services.refunds import give_coupon_back, grant_refund
from orders_core.services.releasing import give_back, lines_as_they_stand
from orders_core.services.returned_money import refund_instead
from orders_core.store.base import to_micros
from orders_core.store.tables import OrderLine, Sku
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
        InvalidCommand: all that is left belongs to a kit part of which has gone; names the kit's line.
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
    follow_order(uow, actor, order.id)
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
    if order.kind == "exchange":
        refund_instead(uow, actor, order)
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
    """Lower every line to what has shipped; money follows as in any edit. Nothing is left to hold back.

    Units left of a box part of which has gone are cancelled as pieces. Credit is never a reason against it.
    """
    uow.conn.execute(text("UPDATE orders SET hold_reason = NULL WHERE id = :order_id"), {"order_id": order_id})
    order = order_for_change(uow, order_id=order_id)
    lines = uow.rows(_LINES, {"order_id": order_id})
    changes, broken = [], {}
    for line in lines:
        packs = line.pack_qty
        if line.parent_line_id is None:
            packs = min(packs, -(-must_stay_qty(line, lines) // line.units_per_pack))
        if packs < line.pack_qty:
            changes.append(LineChange(line.line_no, packs))
        rest = packs * line.units_per_pack - line.cancelled_qty - line.shipped_qty
        if line.kind in ("item", "gift") and rest > 0:
            broken[line.id] = rest
    if not changes and not broken:
        _refuse_half_kit(uow, order_id, lines)
        return sync_order(uow, order_id)
    if broken:
        give_back(uow, order, units=broken)
    for line_id, rest in broken.items():
        uow.conn.execute(
            update(OrderLine).where(OrderLine.id == line_id).values(cancelled_qty=OrderLine.cancelled_qty + rest)
        )
    before = uow.rows(_LINES, {"order_id": order_id})
    edit = EditOrder(command.number, lines=changes, reason=command.reason)
    done = change_order(uow, actor, order, before, edit, may_exceed=True)
    return OrderState(order_id, done.number, done.status, done.version)


def _refuse_half_kit(uow: UnitOfWork, order_id: int, lines: Sequence[Any]) -> None:
    """What a kit lacks to be whole cannot be cancelled alone: a kit is sold whole, its parts have no price."""
    skus = {line.line_no: line.sku for line in uow.rows(_STANDING, {"order_id": order_id})}
    for kit in lines:
        if kit.kind == "kit" and kit.shipped_qty < must_stay_qty(kit, lines):
            raise InvalidCommand(field="line", problem="kit_half_sent", line_no=kit.line_no, sku=skus[kit.line_no])
