"""Services sold with an order or alone (installation, a fee): they take no stock and count once they are performed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select, text

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound, QuantityExceeded
from orders_core.notifications.tell import tell_customer
from orders_core.services.idempotency import is_repeat
from orders_core.services.orders_state import OrderState, order_for_change, sync_order
from orders_core.store.tables import OrderLine
from orders_core.store.uow import UnitOfWork

_SERVICES = (
    select(
        OrderLine.id,
        OrderLine.line_no,
        (OrderLine.ordered_qty - OrderLine.cancelled_qty - OrderLine.delivered_qty).label("open_qty"),
    )
    .where(OrderLine.order_id == bindparam("order_id"), OrderLine.kind == "service")
    .order_by(OrderLine.line_no)
)
_HAS_GOODS = text("SELECT 1 FROM order_line WHERE order_id = :order_id AND kind <> 'service' LIMIT 1")
_PERFORM = text(
    "UPDATE order_line SET shipped_qty = shipped_qty + :qty, delivered_qty = delivered_qty + :qty WHERE id = :id"
)


@dataclass(frozen=True)
class PerformServices:
    """Say that services of an order were performed: `units` ({line no: base units}), or all that are open."""

    number: str
    units: Mapping[int, int] = field(default_factory=dict)
    idem_key: str | None = None


def perform_services(uow: UnitOfWork, actor: Actor, command: PerformServices) -> OrderState:
    """Record services as performed; an order whose goods have arrived, or that has none, is then delivered.

    Raises:
        NotAllowed: the order waits for review, is on hold or has ended, or no service of it is open.
        NotFound: a line of `units` is no service of this order.
        QuantityExceeded: more than is still to be performed.
    """
    actor.must("service.perform")
    order = order_for_change(uow, number=command.number)
    if is_repeat(uow, actor, "service.perform", command):
        return OrderState(order.id, order.number, order.status, order.version)
    must_allow("perform", status=order.status, key=order.number)
    lines = {row.line_no: row for row in uow.rows(_SERVICES, {"order_id": order.id})}
    units = command.units or {no: line.open_qty for no, line in lines.items() if line.open_qty > 0}
    if not units:
        must_allow("perform", status="delivered", key=order.number)
    for line_no, qty in sorted(units.items()):
        if line_no not in lines:
            raise NotFound(entity="service line", key=f"{order.number}/{line_no}")
        most = lines[line_no].open_qty
        if type(qty) is not int or not 0 < qty <= most:
            raise QuantityExceeded(what=f"service in {order.number} line {line_no}", asked_qty=qty, limit_qty=most)
        uow.conn.execute(_PERFORM, {"id": lines[line_no].id, "qty": qty})
    state = sync_order(uow, order.id)
    uow.audit(actor, "service.perform", "orders", order.id, version=state.version, facts={"units": dict(units)})
    if state.status == "delivered" and uow.row(_HAS_GOODS, {"order_id": order.id}) is not None:
        tell_customer(  # the goods that arrived before left the order open, so nobody was told yet
            uow,
            "delivered",
            order.id,
            dedupe_key=f"delivered:{order.id}:{state.version}",
            carrier=None,
            tracking_numbers=[],
            delivered_date=uow.today.isoformat(),
        )
    return state
