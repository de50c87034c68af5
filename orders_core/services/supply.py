"""When more comes, and asking for it: expected dates, purchase requests and production orders for what is short."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, select, text

from orders_core.domain.rules import Rules
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    ProductionOrder,
    PurchaseOrder,
    PurchaseOrderLine,
    PurchaseRequest,
    Supplier,
    SupplierSku,
)
from orders_core.store.uow import UnitOfWork

if TYPE_CHECKING:
    from orders_core.routing.assign import Assigned
    from orders_core.services.drafting import DraftLine

_CONFIRMED = (
    select(func.min(func.coalesce(PurchaseOrderLine.expected_date, PurchaseOrder.expected_date)))
    .join(PurchaseOrder, PurchaseOrder.id == PurchaseOrderLine.purchase_order_id)
    .where(
        PurchaseOrderLine.sku_id == bindparam("sku_id"),
        PurchaseOrder.location_id == bindparam("location_id"),
        PurchaseOrder.status == "confirmed",
        PurchaseOrder.is_date_confirmed,
        PurchaseOrderLine.qty > PurchaseOrderLine.received_qty + PurchaseOrderLine.cancelled_qty,
    )
)
_LEAD_TIME = (
    select(func.coalesce(SupplierSku.lead_time_days, Supplier.lead_time_days))
    .join(Supplier, Supplier.id == SupplierSku.supplier_id)
    .where(SupplierSku.sku_id == bindparam("sku_id"), Supplier.is_active)
    .order_by(SupplierSku.rank, Supplier.id)
    .limit(1)
)


_GROW = {
    entity: text(
        f"UPDATE {entity} SET qty = qty + :qty, version = version + 1 WHERE order_line_id = :order_line_id"
        " AND location_id = :location_id AND status = 'open' RETURNING id, version"
    )
    for entity in ("production_order", "purchase_request")
}


_COMING = """
    COALESCE((SELECT SUM(CASE WHEN p.qty - p.received_qty - p.cancelled_qty < a.qty
            THEN p.qty - p.received_qty - p.cancelled_qty ELSE a.qty END)
        FROM purchase_request a LEFT JOIN purchase_order_line p ON p.id = a.purchase_order_line_id
        WHERE a.order_line_id = {line} AND a.location_id = {location} AND a.status = 'ordered'), 0)
    + COALESCE((SELECT SUM(a.qty - a.done_qty) FROM production_order a
        WHERE a.order_line_id = {line} AND a.location_id = {location} AND a.status = 'started'), 0)
"""
_ASKED_FOR = text(
    "SELECT COALESCE((SELECT SUM(qty) FROM purchase_request WHERE order_line_id = :order_line_id"
    " AND location_id = :location_id AND status = 'open'), 0)"
    " + COALESCE((SELECT SUM(qty) FROM production_order WHERE order_line_id = :order_line_id"
    " AND location_id = :location_id AND status = 'open'), 0) + "
    + _COMING.format(line=":order_line_id", location=":location_id")
)
_OPEN_REQUESTS = Prepared(
    " UNION ALL ".join(
        f"""
    SELECT '{entity}' AS entity, r.id, r.version, r.qty,
        COALESCE((SELECT SUM(sl.backordered_qty) FROM shipment_line sl JOIN shipment s ON s.id = sl.shipment_id
            WHERE sl.order_line_id = r.order_line_id AND s.location_id = r.location_id), 0)
        - ({_COMING.format(line="r.order_line_id", location="r.location_id")}) AS needed_qty
    FROM {entity} r JOIN order_line l ON l.id = r.order_line_id
    WHERE l.order_id IN :order_ids AND r.status = 'open'"""
        for entity in ("purchase_request", "production_order")
    )
)


def expected_date(uow: UnitOfWork, rules: Rules, *, sku_id: int, location_id: int) -> tuple[date, bool]:
    """The day more of a SKU arrives at a location, and whether a confirmed purchase order says so.

    Without one: today + the first supplier's lead time, or the rules' supply days; an estimate either way.
    """
    confirmed = uow.conn.execute(_CONFIRMED, {"sku_id": sku_id, "location_id": location_id}).scalar()
    if confirmed is not None:
        day = confirmed if isinstance(confirmed, date) else date.fromisoformat(confirmed)
        return max(day, uow.today), True
    days = uow.conn.execute(_LEAD_TIME, {"sku_id": sku_id}).scalar()
    return uow.today + timedelta(days=rules.promise.supply_days if days is None else int(days)), False


def request_supply(
    uow: UnitOfWork, rules: Rules, *, order_id: int, number: str, parts: Sequence[tuple[int, DraftLine, Assigned]]
) -> None:
    """Ask for what is promised without stock: made SKUs from production, the others from the buyer. Parts carry line ids."""
    if not rules.shortage.purchase_request:
        return
    for line_id, line, part in parts:
        if part.backordered_qty:
            request_units(
                uow,
                sku_id=line.sku.id,
                location_id=part.location_id,
                qty=part.backordered_qty,
                order_line_id=line_id,
                supply_mode=line.sku.supply_mode,
                reason=f"order {number}",
            )


def request_units(
    uow: UnitOfWork,
    *,
    sku_id: int,
    location_id: int,
    qty: int,
    order_line_id: int | None,
    supply_mode: str,
    reason: str,
) -> int:
    """One purchase request, or one production order for a made SKU; returns its id."""
    row: dict[str, Any] = {
        "id": uow.new_id(),
        "sku_id": sku_id,
        "location_id": location_id,
        "qty": qty,
        "order_line_id": order_line_id,
        "created_at": uow.now,
        "version": 1,
    }
    entity = "production_order" if supply_mode == "make" else "purchase_request"
    grown = None
    if order_line_id is not None:  # one open request per line and location: a raised line raises it
        grown = uow.conn.execute(
            _GROW[entity], {"qty": qty, "order_line_id": order_line_id, "location_id": location_id}
        ).one_or_none()
    if grown is not None:
        uow.changed(entity, grown.id, grown.version)
        return int(grown.id)
    if supply_mode == "make":
        uow.conn.execute(insert(ProductionOrder), {**row, "number": uow.new_number("MO"), "status": "open"})
    else:
        uow.conn.execute(insert(PurchaseRequest), {**row, "reason": reason})
    uow.changed(entity, row["id"], 1, "insert")
    found: int = row["id"]
    return found


def request_missing(uow: UnitOfWork, line: Any, order_number: str) -> None:
    """Ask for what of a waiting line's units at its location is neither asked for nor on its way yet.

    `line` has order_line_id, location_id, sku_id, supply_mode and backordered_qty.
    """
    where = {"order_line_id": line.order_line_id, "location_id": line.location_id}
    missing = line.backordered_qty - int(uow.conn.execute(_ASKED_FOR, where).scalar_one())
    if missing > 0:
        reason = f"order {order_number}"
        request_units(uow, **where, sku_id=line.sku_id, qty=missing, supply_mode=line.supply_mode, reason=reason)


def shrink_requests(uow: UnitOfWork, order_ids: Collection[int]) -> None:
    """Open requests for these orders shrink to what still waits and is not on its way, or are cancelled."""
    for row in uow.rows(_OPEN_REQUESTS, {"order_ids": sorted(order_ids)}):
        if row.needed_qty >= row.qty:
            continue
        change = "qty = :qty" if row.needed_qty > 0 else "status = 'cancelled'"
        parameters = {"id": row.id} | ({"qty": int(row.needed_qty)} if row.needed_qty > 0 else {})
        uow.conn.execute(text(f"UPDATE {row.entity} SET {change}, version = version + 1 WHERE id = :id"), parameters)
        uow.changed(row.entity, row.id, row.version + 1)
