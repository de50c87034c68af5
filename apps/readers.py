"""What the desk's pages ask the order database beyond `orders_core.store.queries`: one function per question.

Pages hold no SQL, so it is here. Every function takes the connection of `store.reading()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from orders_core.domain.returns import worth_cents
from orders_core.domain.rules import Planning, build_rules
from orders_core.store.queries import approved_suggestions
from orders_core.store.tables import (
    AuditEntry,
    Carrier,
    Channel,
    Customer,
    DemandAdjustment,
    ForecastOverride,
    Location,
    Order,
    OrderLine,
    PickList,
    PickListLine,
    ProductionOrder,
    PurchaseOrder,
    PurchaseOrderLine,
    ReturnAuthorization,
    ReturnLine,
    RuleSet,
    Shipment,
    ShipmentLine,
    Sku,
    SuggestionApproval,
    Supplier,
)


def planning_rules(conn: Connection) -> Planning:
    """What suggestions aim at as of the next plan."""
    body = conn.execute(select(RuleSet.body).where(RuleSet.is_current)).scalar_one()
    return build_rules(body).planning


def first_order_date(conn: Connection) -> date | None:
    """The business day of the first order there is, imported ones too; None without any."""
    found: date | None = conn.execute(select(func.min(Order.business_date))).scalar_one()
    return found


def short_lines(conn: Connection, order_ids: Sequence[int]) -> Mapping[int, Sequence[Any]]:
    """What waits for stock, per order id: rows of sku and backordered_qty."""
    query = (
        select(OrderLine.order_id, Sku.sku, OrderLine.backordered_qty)
        .join(Sku, Sku.id == OrderLine.sku_id)
        .where(OrderLine.order_id.in_(order_ids), OrderLine.backordered_qty > 0)
        .order_by(OrderLine.order_id, OrderLine.line_no)
    )
    found: dict[int, list[Any]] = {}
    for row in conn.execute(query):
        found.setdefault(row.order_id, []).append(row)
    return found


@dataclass(frozen=True)
class LastAction:
    """Where an order stands and who acted on it last."""

    status: str
    approved_by: str | None
    approved_at: datetime | None
    actor: str | None
    action: str | None
    at: datetime | None


def last_action(conn: Connection, number: str) -> LastAction | None:
    """The order's status, its approval and its newest audit entry; None when there is no such order."""
    order = conn.execute(
        select(Order.id, Order.status, Order.approved_by, Order.approved_at).where(Order.number == number)
    ).one_or_none()
    if order is None:
        return None
    entry = conn.execute(
        select(AuditEntry.actor, AuditEntry.action, AuditEntry.at)
        .where(AuditEntry.entity == "orders", AuditEntry.entity_id == order.id)
        .order_by(AuditEntry.id.desc())
        .limit(1)
    ).one_or_none()
    acted = (None, None, None) if entry is None else (entry.actor, entry.action, entry.at)
    return LastAction(order.status, order.approved_by, order.approved_at, *acted)


def channels(conn: Connection, *, language: str) -> Mapping[str, str]:
    """Channel code → name in the language, by code."""
    rows = conn.execute(select(Channel.code, Channel.name, Channel.name_en).order_by(Channel.code))
    return {row.code: _named(row, language) for row in rows}


def locations(conn: Connection, *, language: str) -> Mapping[str, str]:
    """Location code → name in the language, in the order of their rank."""
    rows = conn.execute(select(Location.code, Location.name, Location.name_en).order_by(Location.rank, Location.code))
    return {row.code: _named(row, language) for row in rows}


def carriers(conn: Connection, *, language: str) -> Mapping[str, str]:
    """Code → name in the language of the active couriers, by code."""
    rows = conn.execute(
        select(Carrier.code, Carrier.name, Carrier.name_en)
        .where(Carrier.is_active, Carrier.kind == "courier")
        .order_by(Carrier.code)
    )
    return {row.code: _named(row, language) for row in rows}


def sku_names(conn: Connection, skus: Sequence[str], *, language: str) -> Mapping[str, str]:
    """SKU → name in the language."""
    rows = conn.execute(select(Sku.sku, Sku.name, Sku.name_en).where(Sku.sku.in_(skus)))
    return {row.sku: _named(row, language) for row in rows}


def _named(row: Any, language: str) -> str:
    """The English name where there is one and it is asked for, else the Chinese one."""
    return str(row.name_en or row.name if language == "en" else row.name)


def ready_to_ship(conn: Connection, *, location_code: str | None = None, limit: int = 200) -> Sequence[Any]:
    """Shipments picked or packed, oldest promise first: shipment, order_number, customer, delivery_method, units."""
    query = (
        select(
            Location.code.label("location_code"),
            Shipment.number.label("shipment"),
            Shipment.status,
            Shipment.delivery_method,
            Order.number.label("order_number"),
            Customer.name.label("customer"),
            Order.promised_by_date,
            func.sum(ShipmentLine.picked_qty).label("units"),
        )
        .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
        .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
        .join(Order, Order.id == OrderLine.order_id)
        .join(Customer, Customer.id == Order.customer_id)
        .join(Location, Location.id == Shipment.location_id)
        .where(Shipment.status.in_(["picked", "packed"]), ~ShipmentLine.is_withdrawn)
        .group_by(
            Location.code, Shipment.id, Shipment.number, Shipment.status, Shipment.delivery_method, Order.number,
            Customer.name, Order.promised_by_date,
        )
        .order_by(Order.promised_by_date, Shipment.id)
        .limit(limit)
    )  # fmt: skip
    if location_code is not None:
        query = query.where(Location.code == location_code)
    return conn.execute(query).all()


def open_pick_lists(conn: Connection, *, location_code: str | None = None, limit: int = 50) -> Sequence[Any]:
    """Pick lists being worked on, oldest first: number, location_code, status, created_at, lines, units, open_units."""
    query = (
        select(
            PickList.number,
            Location.code.label("location_code"),
            PickList.status,
            PickList.created_at,
            func.count(PickListLine.id).label("lines"),
            func.sum(PickListLine.qty).label("units"),
            func.sum(PickListLine.qty - PickListLine.picked_qty - PickListLine.short_qty).label("open_units"),
        )
        .join(Location, Location.id == PickList.location_id)
        .join(PickListLine, PickListLine.pick_list_id == PickList.id)
        .where(PickList.status.in_(["open", "picking"]), PickListLine.status != "cancelled")
        .group_by(PickList.id, PickList.number, Location.code, PickList.status, PickList.created_at)
        .order_by(PickList.id)
        .limit(limit)
    )
    if location_code is not None:
        query = query.where(Location.code == location_code)
    return conn.execute(query).all()


def waiting_returns(conn: Connection, *, limit: int = 200) -> Sequence[Any]:
    """Returns that wait for a decision or an inspection, oldest first: what the home page's tile counts."""
    return conn.execute(
        select(
            ReturnAuthorization.number,
            ReturnAuthorization.kind,
            ReturnAuthorization.status,
            ReturnAuthorization.requested_at,
            ReturnAuthorization.refund_cents,
            Order.number.label("order_number"),
            Order.currency,
            Customer.name.label("customer"),
        )
        .join(Order, Order.id == ReturnAuthorization.order_id)
        .join(Customer, Customer.id == Order.customer_id)
        .where(ReturnAuthorization.origin == "live", ReturnAuthorization.status.in_(["requested", "received"]))
        .order_by(ReturnAuthorization.requested_at, ReturnAuthorization.id)
        .limit(limit)
    ).all()


@dataclass(frozen=True)
class ReturnPage:
    """One return: its row with order and customer, its lines, and what approving it is worth.

    `about_cents` is the share of the lines' price and tax, or of a refund-only what the order comes to; None where no
    money follows. The cents are settled exactly when the goods arrive.
    """

    row: Any
    lines: Sequence[Any]
    about_cents: int | None


def return_page(conn: Connection, number: str) -> ReturnPage | None:
    """A return to decide on; None when there is none of that number, or it is imported history without an order."""
    row = conn.execute(
        select(
            ReturnAuthorization.id,
            ReturnAuthorization.number,
            ReturnAuthorization.kind,
            ReturnAuthorization.status,
            ReturnAuthorization.reason,
            ReturnAuthorization.requested_at,
            ReturnAuthorization.is_refunded,
            ReturnAuthorization.refund_cents,
            Order.number.label("order_number"),
            Order.currency,
            Order.total_cents,
            (Order.tax_cents > 0).label("is_tax_on_top"),
            Customer.name.label("customer"),
        )
        .join(Order, Order.id == ReturnAuthorization.order_id)
        .join(Customer, Customer.id == Order.customer_id)
        .where(ReturnAuthorization.number == number)
    ).one_or_none()
    if row is None:
        return None
    lines = conn.execute(
        select(
            OrderLine.line_no,
            Sku.sku,
            ReturnLine.qty,
            OrderLine.ordered_qty,
            OrderLine.net_cents,
            OrderLine.tax_cents,
            ReturnLine.received_qty,
        )
        .join(OrderLine, OrderLine.id == ReturnLine.order_line_id)
        .join(Sku, Sku.id == ReturnLine.sku_id)
        .where(ReturnLine.return_id == row.id)
        .order_by(OrderLine.line_no)
    ).all()
    about = None
    if row.is_refunded and row.kind == "refund_only":
        about = row.total_cents
    elif row.is_refunded:
        about = sum(
            worth_cents(
                line.net_cents + (line.tax_cents if row.is_tax_on_top else 0),
                ordered_qty=line.ordered_qty,
                sent_free_qty=0,
                came_back_qty=line.qty,
            )
            for line in lines
            if line.ordered_qty
        )
    return ReturnPage(row, lines, about)


# --------------------------------------------------------------------------------------------------- the planner's


def approvals(conn: Connection, as_of: date) -> Mapping[tuple[str, str], Any]:
    """What is approved of the plan of a day, by (SKU, location code); not where the order was closed with nothing received.

    Rows of `orders_core.store.queries.approved_suggestions`.
    """
    rows = conn.execute(
        approved_suggestions().where(SuggestionApproval.as_of_date == as_of, SuggestionApproval.withdrawn_at.is_(None))
    )
    return {(row.sku, row.location_code): row for row in rows}


def closed_again(conn: Connection, as_of: date) -> frozenset[tuple[str, str]]:
    """The suggestions of a day's plan, by (SKU, location code), whose order a person closed with nothing received.

    They are open, but nobody means them when approving all that is trusted.
    """
    query = approved_suggestions().where(
        SuggestionApproval.as_of_date == as_of, SuggestionApproval.withdrawn_at.is_not(None)
    )
    return frozenset((row.sku, row.location_code) for row in conn.execute(query)) - approvals(conn, as_of).keys()


def overrides(
    conn: Connection, *, sku: str | None = None, location_code: str | None = None, in_force_on: date | None = None
) -> Sequence[Any]:
    """Overrides of forecasts, the newest first; with `in_force_on` only those a plan made on that day will use.

    Rows of the table, with sku and location_code.
    """
    query = _plan_changes(ForecastOverride, sku, location_code)
    if in_force_on is not None:
        query = query.where(ForecastOverride.withdrawn_at.is_(None), ForecastOverride.expires_date > in_force_on)
    return conn.execute(query).all()


def adjustments(
    conn: Connection, *, sku: str | None = None, location_code: str | None = None, is_open: bool = False
) -> Sequence[Any]:
    """Adjustments of past demand, the newest first; `is_open` leaves out what was withdrawn. As `overrides`."""
    query = _plan_changes(DemandAdjustment, sku, location_code)
    if is_open:
        query = query.where(DemandAdjustment.withdrawn_at.is_(None))
    return conn.execute(query).all()


def _plan_changes(
    table: type[ForecastOverride] | type[DemandAdjustment], sku: str | None, location_code: str | None
) -> Any:
    query = (
        select(table.__table__, Sku.sku, Location.code.label("location_code"))
        .join(Sku, Sku.id == table.sku_id)
        .join(Location, Location.id == table.location_id)
        .order_by(table.id.desc())
    )
    if sku is not None:
        query = query.where(Sku.sku == sku)
    return query if location_code is None else query.where(Location.code == location_code)


def production_order(conn: Connection, number: str) -> Any | None:
    """A production order with sku, its names, location_code, and of the suggestion it came from suggested_qty, reason and
    approved_by (None without one); None: no such one.
    """
    return conn.execute(
        select(
            ProductionOrder.__table__,
            Sku.sku,
            Sku.name,
            Sku.name_en,
            Location.code.label("location_code"),
            SuggestionApproval.suggested_qty,
            SuggestionApproval.reason,
            SuggestionApproval.approved_by,
        )
        .join(Sku, Sku.id == ProductionOrder.sku_id)
        .join(Location, Location.id == ProductionOrder.location_id)
        .outerjoin(SuggestionApproval, SuggestionApproval.production_order_id == ProductionOrder.id)
        .where(ProductionOrder.number == number)
    ).one_or_none()


def purchase_order(conn: Connection, number: str) -> tuple[Any, Sequence[Any]] | None:
    """A purchase order with its supplier's and location's names, and its lines with sku and names; None: no such one."""
    order = conn.execute(
        select(
            PurchaseOrder.__table__,
            Supplier.name.label("supplier_name"),
            Supplier.name_en.label("supplier_name_en"),
            Location.code.label("location_code"),
        )
        .join(Supplier, Supplier.id == PurchaseOrder.supplier_id)
        .join(Location, Location.id == PurchaseOrder.location_id)
        .where(PurchaseOrder.number == number)
    ).one_or_none()
    if order is None:
        return None
    lines = conn.execute(
        select(
            PurchaseOrderLine.__table__,
            Sku.sku,
            Sku.name,
            Sku.name_en,
            SuggestionApproval.suggested_qty,
            SuggestionApproval.reason,
        )
        .join(Sku, Sku.id == PurchaseOrderLine.sku_id)
        .outerjoin(SuggestionApproval, SuggestionApproval.purchase_order_line_id == PurchaseOrderLine.id)
        .where(PurchaseOrderLine.purchase_order_id == order.id)
        .order_by(PurchaseOrderLine.line_no)
    ).all()
    return order, lines
