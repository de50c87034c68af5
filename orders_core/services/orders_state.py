"""Keeps an order's counters, status and version in step with its shipments. Whoever changes a quantity ends here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from orders_core.domain.lifecycle import OrderFacts, order_status
from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound, VersionConflict
from orders_core.store.prepared import Prepared
from orders_core.store.tables import Order
from orders_core.store.uow import UnitOfWork

_SYNC_LINES = Prepared(
    """
    UPDATE order_line SET
        reserved_qty = COALESCE((SELECT SUM(sl.reserved_qty) FROM shipment_line sl
            WHERE sl.order_line_id = order_line.id), 0),
        backordered_qty = COALESCE((SELECT SUM(sl.backordered_qty) FROM shipment_line sl
            WHERE sl.order_line_id = order_line.id), 0),
        shipped_qty = COALESCE((SELECT SUM(sl.shipped_qty) FROM shipment_line sl
            WHERE sl.order_line_id = order_line.id), 0),
        delivered_qty = COALESCE((SELECT SUM(sl.delivered_qty) FROM shipment_line sl
            WHERE sl.order_line_id = order_line.id), 0)
    WHERE order_id = :order_id AND kind IN ('item', 'component', 'gift')
    """
)
# A kit counts as shipped as far as its scarcest component is, and never more of it than was ordered: what is sent beyond
# that stays a matter of its components.
_SYNC_KITS = Prepared(
    "UPDATE order_line SET "
    + ", ".join(
        f"""{column} = COALESCE((SELECT MIN(CASE
            WHEN c.{column} * order_line.ordered_qty / c.ordered_qty < order_line.ordered_qty - order_line.cancelled_qty
            THEN c.{column} * order_line.ordered_qty / c.ordered_qty
            ELSE order_line.ordered_qty - order_line.cancelled_qty END) FROM order_line c
            WHERE c.parent_line_id = order_line.id AND c.kind = 'component' AND c.ordered_qty > 0), 0)"""
        for column in ("shipped_qty", "delivered_qty")
    )
    + " WHERE order_id = :order_id AND kind = 'kit'"
)
_FACTS = Prepared(
    """
    SELECT o.number, o.status, o.version, o.hold_reason, o.approved_at, o.rejected_at, o.cancelled_at,
        q.ordered_qty, q.reserved_qty, q.backordered_qty, q.shipped_qty, q.delivered_qty, q.kits,
        CASE WHEN q.back_qty = 0 OR EXISTS (SELECT 1 FROM shipment_line sl JOIN shipment s ON s.id = sl.shipment_id
            JOIN order_line l ON l.id = sl.order_line_id
            WHERE l.order_id = o.id AND s.status = 'shipped' AND sl.delivered_qty < sl.shipped_qty)
            THEN 0 ELSE q.back_qty END AS back_qty,
        q.service_qty, q.performed_qty,
        EXISTS (SELECT 1 FROM shipment_line sl JOIN shipment s ON s.id = sl.shipment_id
            JOIN order_line l ON l.id = sl.order_line_id
            WHERE l.order_id = o.id AND s.status IN ('released', 'picked', 'packed')) AS is_in_warehouse
    FROM orders o JOIN (
        SELECT l.order_id,
            SUM(CASE WHEN l.kind IN ('item', 'component', 'gift') THEN l.ordered_qty - l.cancelled_qty ELSE 0 END)
                AS ordered_qty,
            SUM(l.reserved_qty) AS reserved_qty, SUM(l.backordered_qty) AS backordered_qty,
            SUM(CASE WHEN l.kind IN ('item', 'component', 'gift') THEN l.shipped_qty ELSE 0 END) AS shipped_qty,
            SUM(CASE WHEN l.kind IN ('item', 'component', 'gift') THEN l.delivered_qty ELSE 0 END) AS delivered_qty,
            SUM(CASE WHEN l.kind NOT IN ('item', 'component', 'gift') THEN 0
                WHEN l.returned_qty + COALESCE(k.returned_qty * l.ordered_qty / NULLIF(k.ordered_qty, 0), 0)
                    < l.shipped_qty - l.delivered_qty
                THEN l.returned_qty + COALESCE(k.returned_qty * l.ordered_qty / NULLIF(k.ordered_qty, 0), 0)
                ELSE l.shipped_qty - l.delivered_qty END) AS back_qty,
            SUM(CASE WHEN l.kind = 'service' THEN l.ordered_qty - l.cancelled_qty ELSE 0 END) AS service_qty,
            SUM(CASE WHEN l.kind = 'service' THEN l.delivered_qty ELSE 0 END) AS performed_qty,
            SUM(CASE WHEN l.kind = 'kit' THEN 1 ELSE 0 END) AS kits
        FROM order_line l LEFT JOIN order_line k ON k.id = l.parent_line_id AND k.kind = 'kit'
        WHERE l.order_id = :order_id GROUP BY l.order_id) q ON q.order_id = o.id
    """
)
_STORE = Prepared("UPDATE orders SET status = :status, version = version + 1 WHERE id = :order_id RETURNING version")


def derived_status(row: Any) -> str:
    """The status that the facts of one order give; `row` has the columns of the query above."""
    return order_status(
        OrderFacts(
            is_cancelled=row.cancelled_at is not None,
            is_rejected=row.rejected_at is not None,
            is_held=row.hold_reason is not None,
            is_approved=row.approved_at is not None,
            is_in_warehouse=bool(row.is_in_warehouse),
            ordered_qty=int(row.ordered_qty),
            reserved_qty=int(row.reserved_qty),
            backordered_qty=int(row.backordered_qty),
            shipped_qty=int(row.shipped_qty),
            delivered_qty=int(row.delivered_qty),
            back_qty=int(row.back_qty),
            service_qty=int(row.service_qty),
            performed_qty=int(row.performed_qty),
        )
    )


@dataclass(frozen=True)
class OrderState:
    """What an order is after a change."""

    order_id: int
    number: str
    status: str
    version: int


def sync_lines(uow: UnitOfWork, order_id: int) -> None:
    """Bring the line counters alone up to date, where a later statement of the same command relies on them."""
    uow.write(_SYNC_LINES, [{"order_id": order_id}])


def has_shipped(uow: UnitOfWork, order_id: int) -> bool:
    """Whether any unit of the order has left; an order on hold does not say so by its status."""
    return bool(uow.rows(_SHIPPED_ANY, {"order_id": order_id}))


_SHIPPED_ANY = Prepared("SELECT 1 FROM order_line WHERE order_id = :order_id AND shipped_qty > 0 LIMIT 1")


def sync_order(uow: UnitOfWork, order_id: int) -> OrderState:
    """Bring an order's line counters, status and version up to date after its shipments or facts changed."""
    where = {"order_id": order_id}
    uow.write(_SYNC_LINES, [where])
    (row,) = uow.rows(_FACTS, where)
    if row.kits:
        uow.write(_SYNC_KITS, [where])
    status = derived_status(row)
    (stored,) = uow.rows(_STORE, {"status": status, "order_id": order_id})
    uow.changed("orders", order_id, stored.version)
    return OrderState(order_id, row.number, status, stored.version)


_BY_NUMBER = Prepared(
    select(Order.__table__).where(Order.number == bindparam("number")).with_for_update(key_share=True)
)
_BY_ID = Prepared(select(Order.__table__).where(Order.id == bindparam("order_id")).with_for_update(key_share=True))


def order_for_change(
    uow: UnitOfWork,
    *,
    number: str | None = None,
    order_id: int | None = None,
    expected_version: int | None = None,
    actor: Actor | None = None,
) -> Any:
    """The order's row, locked until the transaction ends; refused when someone changed it since `expected_version`.

    A service that customers may call gives its `actor`, to whom another customer's order is not there.

    Raises:
        NotFound: no such order.
        VersionConflict: it is at another version than the caller saw; nothing was written.
    """
    statement, where = (_BY_NUMBER, {"number": number}) if order_id is None else (_BY_ID, {"order_id": order_id})
    row = uow.row(statement, where)
    if row is None:
        raise NotFound(entity="order", key=number or order_id)
    if actor is not None:
        actor.must_own(row.customer_id, entity="order", key=number or order_id)
    if expected_version is not None and row.version != expected_version:
        raise VersionConflict(
            entity="order", key=row.number, current_version=row.version, expected_version=expected_version
        )
    return row
