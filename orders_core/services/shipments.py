"""Planned shipments: the one that waits for the rest of an order, units put on it, versions kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import bindparam, insert, text

from orders_core.store.prepared import Prepared
from orders_core.store.tables import Shipment
from orders_core.store.uow import UnitOfWork

_TOUCH = Prepared("UPDATE shipment SET version = version + 1 WHERE id IN :ids RETURNING id, version")
_STILL_PLANNED = Prepared(
    """
    SELECT s.id FROM shipment s WHERE s.location_id = :location_id AND s.status = 'planned' AND s.id <> :not_id
        AND s.is_consolidated = :no AND EXISTS (SELECT 1 FROM shipment_line sl JOIN order_line l ON l.id = sl.order_line_id
            WHERE sl.shipment_id = s.id AND l.order_id = :order_id)
    ORDER BY s.id LIMIT 1
    """
)
_ADD_UNITS = Prepared(
    "INSERT INTO shipment_line (id, shipment_id, order_line_id, sku_id, qty, reserved_qty, backordered_qty)"
    " VALUES (:id, :shipment_id, :order_line_id, :sku_id, :qty, :reserved_qty, :backordered_qty)"
    " ON CONFLICT (shipment_id, order_line_id) DO UPDATE SET"
    " qty = CASE WHEN shipment_line.is_withdrawn THEN 0 ELSE shipment_line.qty END + excluded.qty, is_withdrawn = FALSE,"
    " reserved_qty = shipment_line.reserved_qty + excluded.reserved_qty,"
    " backordered_qty = shipment_line.backordered_qty + excluded.backordered_qty"
)
_INSERT_SHIPMENT = Prepared(insert(Shipment.__table__))  # type: ignore[arg-type]


def touch_shipments(uow: UnitOfWork, shipment_ids: Iterable[int]) -> None:
    """Raise the version of shipments whose lines changed, and tell the change log."""
    ids = sorted(set(shipment_ids))
    if ids:
        for row in uow.rows(_TOUCH, {"ids": ids}):
            uow.changed("shipment", row.id, row.version)


def waiting_shipment(
    uow: UnitOfWork,
    *,
    order_id: int,
    location_id: int,
    delivery_method: str,
    planned_date: date | None = None,
    not_id: int = 0,
) -> int:
    """The order's one further planned shipment at a location: re-used when it is there, planned when not.

    `not_id` is the shipment the units come from.
    """
    found = uow.row(
        _STILL_PLANNED,
        {"order_id": order_id, "location_id": location_id, "not_id": not_id, "no": 0 if uow.is_sqlite else False},
    )
    if found is not None:
        return int(found.id)
    shipment_id = uow.new_id()
    uow.write(
        _INSERT_SHIPMENT,
        [
            {
                "id": shipment_id,
                "number": uow.new_number("SH"),
                "location_id": location_id,
                "delivery_method": delivery_method,
                "planned_date": planned_date or uow.today,
                "created_at": uow.now,
            }
        ],
    )
    uow.changed("shipment", shipment_id, 1, "insert")
    return shipment_id


@dataclass(frozen=True)
class Units:
    """Units of an order line to go with a shipment; where stock is tracked qty = reserved + backordered."""

    order_line_id: int
    sku_id: int
    qty: int
    reserved_qty: int = 0
    backordered_qty: int = 0


def add_units(uow: UnitOfWork, shipment_id: int, units: Sequence[Units]) -> None:
    """Put units on a planned shipment, onto the line that is there already where there is one.

    The stock levels are the caller's business; so is `sync_order`.
    """
    wanted = [part for part in units if part.qty]
    if not wanted:
        return
    first = uow.new_id(len(wanted))
    uow.write(
        _ADD_UNITS,
        [
            {
                "id": first + i,
                "shipment_id": shipment_id,
                "order_line_id": part.order_line_id,
                "sku_id": part.sku_id,
                "qty": part.qty,
                "reserved_qty": part.reserved_qty,
                "backordered_qty": part.backordered_qty,
            }
            for i, part in enumerate(wanted)
        ],
    )
    touch_shipments(uow, [shipment_id])


_OPEN_PICKS = (
    "SELECT 1 FROM pick_list_line p JOIN shipment_line l ON l.id = p.shipment_line_id"
    " WHERE l.shipment_id = shipment.id AND p.status = 'open'"
)
_FOUND_PICKS = (
    "SELECT 1 FROM pick_list_line p JOIN shipment_line l ON l.id = p.shipment_line_id"
    " WHERE l.shipment_id = shipment.id AND p.status <> 'cancelled' AND p.picked_qty > 0"
)
_SETTLE_SHIPMENTS = Prepared(
    f"UPDATE shipment SET status = CASE WHEN EXISTS ({_FOUND_PICKS}) THEN 'picked' ELSE 'planned' END,"
    f" version = version + 1 WHERE id IN :ids AND status = 'released' AND NOT EXISTS ({_OPEN_PICKS})"
    " RETURNING id, version, status"
)
_FORGET_PICKED = text(
    "UPDATE shipment_line SET picked_qty = 0 WHERE shipment_id IN :ids AND picked_qty > 0 AND NOT EXISTS"
    " (SELECT 1 FROM pick_list_line p WHERE p.shipment_line_id = shipment_line.id AND p.status <> 'cancelled')"
    " AND EXISTS (SELECT 1 FROM pick_list_line p WHERE p.shipment_line_id = shipment_line.id)"
).bindparams(bindparam("ids", expanding=True))
_DROP_EMPTY_BOXES = text(
    "DELETE FROM package WHERE shipment_id IN :ids"
    " AND NOT EXISTS (SELECT 1 FROM package_line l WHERE l.package_id = package.id)"
).bindparams(bindparam("ids", expanding=True))
_GO_BACK = Prepared(
    f"UPDATE shipment SET status = CASE WHEN EXISTS ({_FOUND_PICKS}) THEN 'picked' ELSE 'planned' END,"
    f" version = version + 1 WHERE id IN :ids AND ((status = 'picked' AND NOT EXISTS ({_FOUND_PICKS}))"
    " OR (status = 'packed' AND NOT EXISTS (SELECT 1 FROM package p WHERE p.shipment_id = shipment.id)))"
    " RETURNING id, version"
)
_CLOSE_LISTS = Prepared(
    "UPDATE pick_list SET version = version + 1, status = CASE WHEN EXISTS (SELECT 1 FROM pick_list_line p"
    " WHERE p.pick_list_id = pick_list.id AND p.status <> 'cancelled') THEN 'done' ELSE 'cancelled' END"
    " WHERE status IN ('open', 'picking') AND id IN (SELECT p.pick_list_id FROM pick_list_line p"
    " JOIN shipment_line l ON l.id = p.shipment_line_id WHERE l.shipment_id IN :ids)"
    " AND NOT EXISTS (SELECT 1 FROM pick_list_line p WHERE p.pick_list_id = pick_list.id AND p.status = 'open')"
    " RETURNING id, version, wave_id"
)
_CLOSE_WAVES = Prepared(
    "UPDATE wave SET status = 'done', version = version + 1 WHERE id IN :ids AND status <> 'done' AND NOT EXISTS"
    " (SELECT 1 FROM pick_list p WHERE p.wave_id = wave.id AND p.status IN ('open', 'picking')) RETURNING id, version"
)


def settle_shipments(uow: UnitOfWork, shipment_ids: Iterable[int]) -> list[int]:
    """Released shipments with nothing left to pick are picked; one of which nothing was found is planned again.

    Returns the ids of those planned again: their orders need `sync_order`.
    """
    ids = sorted(set(shipment_ids))
    again = []
    for row in uow.rows(_SETTLE_SHIPMENTS, {"ids": ids}) if ids else ():
        uow.changed("shipment", row.id, row.version)
        if row.status == "planned":
            again.append(row.id)
    return again


def close_waves(uow: UnitOfWork, wave_ids: Iterable[int]) -> None:
    """Waves whose lists are all done are done."""
    ids = sorted(set(wave_ids))
    for row in uow.rows(_CLOSE_WAVES, {"ids": ids}) if ids else ():
        uow.changed("wave", row.id, row.version)


def stop_picking(uow: UnitOfWork, shipment_ids: Iterable[int]) -> None:
    """After pick lines were cancelled: what was picked goes back to the shelf, lists and waves without open lines close.

    Shipments of which nothing picked or boxed is left go back to where they can go on from.
    """
    ids = sorted(set(shipment_ids))
    if not ids:
        return
    uow.conn.execute(_FORGET_PICKED, {"ids": ids})
    uow.conn.execute(_DROP_EMPTY_BOXES, {"ids": ids})
    settle_shipments(uow, ids)
    for row in uow.rows(_GO_BACK, {"ids": ids}):
        uow.changed("shipment", row.id, row.version)
    lists = uow.rows(_CLOSE_LISTS, {"ids": ids})
    for row in lists:
        uow.changed("pick_list", row.id, row.version)
    close_waves(uow, [row.wave_id for row in lists if row.wave_id is not None])
