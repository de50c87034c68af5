"""Taking an order's unshipped units back: off its shipments and pick lists, back to the stock levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select, text

from orders_core.services.orders_state import sync_lines
from orders_core.services.shipments import stop_picking
from orders_core.services.supply import shrink_requests
from orders_core.store.inventory import Change, promise
from orders_core.store.tables import OrderLine, Shipment, ShipmentLine
from orders_core.store.uow import UnitOfWork

_OPEN_LINES = (
    select(
        ShipmentLine.id,
        ShipmentLine.shipment_id,
        ShipmentLine.order_line_id,
        ShipmentLine.sku_id,
        ShipmentLine.qty,
        ShipmentLine.reserved_qty,
        ShipmentLine.backordered_qty,
        Shipment.location_id,
        Shipment.status,
    )
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .where(
        OrderLine.order_id == bindparam("order_id"),
        Shipment.status.in_(["planned", "released", "picked", "packed"]),
        ~ShipmentLine.is_withdrawn,
    )
    # give back what waits before what is there, and the latest plans first
    .order_by(ShipmentLine.backordered_qty.desc(), Shipment.id.desc(), ShipmentLine.id)
)
_SHRINK = text(
    "UPDATE shipment_line SET qty = qty - :qty, reserved_qty = reserved_qty - :reserved,"
    " backordered_qty = backordered_qty - :backordered WHERE id = :id"
)
_STOP_PICKING = text(
    "UPDATE pick_list_line SET status = 'cancelled' WHERE shipment_line_id = :id AND status IN ('open', 'picked', 'short')"
)
_UNPACK = text("DELETE FROM package_line WHERE shipment_line_id = :id")


_STANDING = text(
    """
    SELECT l.line_no, l.ordered_qty, l.net_cents, s.location_id, SUM(sl.qty) AS qty
    FROM order_line l
        LEFT JOIN shipment_line sl ON sl.order_line_id = l.id AND NOT sl.is_withdrawn
        LEFT JOIN shipment s ON s.id = sl.shipment_id
    WHERE l.order_id = :order_id
    GROUP BY l.line_no, l.ordered_qty, l.net_cents, s.location_id ORDER BY l.line_no, s.location_id
    """
)


def lines_as_they_stand(uow: UnitOfWork, order_id: int) -> list[dict[str, Any]]:
    """The lines of an order with the places they are planned at, for the audit entry of what changes them next.

    Rows hold the present; this is the only place where a later day can look up what an earlier one knew.
    """
    lines: dict[int, dict[str, Any]] = {}
    for row in uow.rows(_STANDING, {"order_id": order_id}):
        line = lines.setdefault(
            row.line_no,
            {"line_no": row.line_no, "ordered_qty": row.ordered_qty, "net_cents": row.net_cents, "places": []},
        )
        if row.location_id is not None:
            line["places"].append({"location_id": row.location_id, "qty": int(row.qty)})
    return list(lines.values())


def give_back(uow: UnitOfWork, order: Any, *, units: Mapping[int, int] | None = None) -> None:
    """Withdraw unshipped units of an order: all, or `units` per order line id. Backordered ones go first.

    The shipment lines shrink or disappear, emptied shipments are cancelled, pick lists stop asking for them, levels get
    their reserved units back, open requests for them are cancelled. The caller ends with sync_order and hand_on.
    """
    changes: dict[tuple[int, int], list[int]] = {}
    lines = uow.rows(_OPEN_LINES, {"order_id": order.id})
    takes = {line.id: line.qty for line in lines} if units is None else _to_take(lines, units)
    touched = set()
    for line in lines:
        take = takes[line.id]
        if take == 0:
            continue
        late = min(take, line.backordered_qty)
        now = min(take - late, line.reserved_qty)
        entry = changes.setdefault((line.sku_id, line.location_id), [0, 0])
        entry[0] -= now
        entry[1] -= late
        uow.conn.execute(_STOP_PICKING, {"id": line.id})
        uow.conn.execute(_UNPACK, {"id": line.id})
        if take == line.qty:
            _drop_line(uow, line.id)
        else:
            uow.conn.execute(_SHRINK, {"id": line.id, "qty": take, "reserved": now, "backordered": late})
        touched.add(line.shipment_id)
    for shipment_id in sorted(touched):
        _close_if_empty(uow, shipment_id)
    promise(
        uow,
        [Change(sku, loc, reserve_qty=now, backorder_qty=late) for (sku, loc), (now, late) in changes.items()],
        channel_id=order.channel_id,
    )
    stop_picking(uow, touched)
    sync_lines(uow, order.id)  # at once: a line may not be lowered below what it still has promised
    shrink_requests(uow, [order.id])


def _to_take(lines: Sequence[Any], units: Mapping[int, int]) -> dict[int, int]:
    """Units to take per shipment line id, of `units` per order line id: what waits on any of them, then the rest."""
    left = dict(units)
    takes = {line.id: 0 for line in lines}
    for has in ("backordered_qty", "qty"):
        for line in lines:
            more = min(getattr(line, has) - takes[line.id], left.get(line.order_line_id, 0))
            if more > 0:
                takes[line.id] += more
                left[line.order_line_id] -= more
    return takes


def _drop_line(uow: UnitOfWork, shipment_line_id: int) -> None:
    """A line that a pick list or package names stays as a fact with nothing promised; others disappear."""
    named = uow.conn.execute(
        text("SELECT 1 FROM pick_list_line WHERE shipment_line_id = :id LIMIT 1"), {"id": shipment_line_id}
    ).first()
    if named is None:
        uow.conn.execute(text("DELETE FROM shipment_line WHERE id = :id"), {"id": shipment_line_id})
    else:
        uow.conn.execute(
            text("UPDATE shipment_line SET reserved_qty = 0, backordered_qty = 0, is_withdrawn = :yes WHERE id = :id"),
            {"id": shipment_line_id, "yes": 1 if uow.is_sqlite else True},
        )


def _close_if_empty(uow: UnitOfWork, shipment_id: int) -> None:
    version = uow.conn.execute(
        text(
            "UPDATE shipment SET version = version + 1, status = CASE WHEN EXISTS (SELECT 1 FROM shipment_line l"
            " WHERE l.shipment_id = shipment.id AND NOT l.is_withdrawn) THEN status ELSE 'cancelled' END"
            " WHERE id = :id RETURNING version"
        ),
        {"id": shipment_id},
    ).scalar_one()
    uow.changed("shipment", shipment_id, version)
