"""What the screens and the command line read of live orders: one function per question, plain rows out.

Reads run on `store.reading()`; they take no locks and change nothing. Money is in cents, instants are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select, true

from orders_core.domain.lifecycle import ACTIONS, why_not
from orders_core.store.tables import (
    AuditEntry,
    Channel,
    Customer,
    Decision,
    FollowUp,
    Location,
    Order,
    OrderCharge,
    OrderLine,
    OrderNote,
    Outbox,
    Package,
    PickList,
    PickListLine,
    ProductionOrder,
    PurchaseOrder,
    PurchaseOrderLine,
    ReturnAuthorization,
    Shipment,
    ShipmentLine,
    Sku,
    StockLevel,
    SuggestionApproval,
    Supplier,
    Ticket,
    TrackingEvent,
)

OPEN_STATUSES = ("review", "held", "waiting_stock", "ready", "picking", "partly_shipped")

STATUSES_OF_VIEW: dict[str, tuple[str, ...]] = {
    "review": ("review",),
    "ready": ("ready",),
    "picking": ("picking",),
    "held": ("held",),
    "on_the_way": ("shipped", "partly_shipped", "partly_delivered"),
    "open": OPEN_STATUSES,
}
VIEWS = (*STATUSES_OF_VIEW, "short", "overdue", "courier", "stuck", "all")
"""Saved views of the order queue. All but `all` are of live orders; these are what went wrong:

- short: a line waits for stock, whatever the order's stage
- overdue: promised for a day that has passed, and not yet on its way
- courier: the carrier reports a problem with one of its shipments
- stuck: approved more than 24 hours ago, wanted by now, and not shipped
"""


def in_view(view: str, *, today: date, now: datetime) -> ColumnElement[bool]:
    """The condition on `Order` of one of VIEWS; lists, counts and the home page's tiles all ask with it."""
    if view == "all":
        return true()
    if view == "short":
        waits = select(OrderLine.id).where(OrderLine.order_id == Order.id, OrderLine.backordered_qty > 0)
        wanted = and_(Order.status.in_(OPEN_STATUSES), exists(waits))
    elif view == "overdue":
        wanted = and_(Order.status.in_(OPEN_STATUSES), Order.promised_by_date < today)
    elif view == "stuck":
        wanted = and_(
            Order.status.in_(["ready", "picking"]),
            Order.approved_at < now - timedelta(hours=24),
            or_(Order.requested_date.is_(None), Order.requested_date <= today),
        )
    elif view == "courier":
        wanted = and_(
            Order.status.in_([*OPEN_STATUSES, "shipped", "partly_delivered"]),
            exists(
                select(ShipmentLine.id)
                .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
                .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
                .where(OrderLine.order_id == Order.id, Shipment.status == "exception")
            ),
        )
    else:
        wanted = Order.status.in_(STATUSES_OF_VIEW[view])
    return and_(Order.origin == "live", wanted)


@dataclass(frozen=True)
class Page:
    """Some rows of a longer list, and how many there are in all."""

    rows: Sequence[Any]
    total: int


_QUEUE_COLUMNS = (
    Order.id,
    Order.number,
    Order.status,
    Order.version,
    Customer.code.label("customer_code"),
    Customer.name.label("customer"),
    Channel.code.label("channel"),
    Order.currency,
    Order.total_cents,
    Order.placed_at,
    Order.business_date,
    Order.promised_by_date,
    Order.is_promise_estimated,
    Order.review_reasons,
    Order.hold_reason,
    Order.priority,
)


def order_queue(
    conn: Connection,
    *,
    today: date,
    now: datetime,
    view: str = "open",
    search: str | None = None,
    channel: str | None = None,
    numbers: Sequence[str] = (),
    limit: int = 50,
    offset: int = 0,
) -> Page:
    """Orders of a view, least time left first: number, status, customer, channel, money, dates, why it waits.

    `search` looks in order number, the channel's number, customer code and name; `%` and `_` are ordinary characters.
    `numbers` asks for exactly these orders (a pasted list).
    """
    where: list[Any] = [in_view(view, today=today, now=now)]
    if search:
        pattern = "%" + search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = (Order.number, Order.external_id, Customer.code, Customer.name)
        where.append(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
    if channel:
        where.append(Channel.code == channel)
    if numbers:
        where.append(Order.number.in_(numbers))
    base = select(*_QUEUE_COLUMNS).select_from(Order)
    base = base.join(Customer, Customer.id == Order.customer_id).join(Channel, Channel.id == Order.channel_id)
    base = base.where(*where)
    count: Select[Any] = select(func.count()).select_from(base.subquery())
    total = conn.execute(count).scalar_one()
    ordered = base.order_by(
        Order.priority.desc(), Order.promised_by_date.is_(None), Order.promised_by_date, Order.placed_at, Order.id
    )
    return Page(conn.execute(ordered.limit(limit).offset(offset)).all(), int(total))


def view_counts(conn: Connection, *, today: date, now: datetime) -> Mapping[str, int]:
    """How many orders each of VIEWS holds."""
    counts = [func.count(case((in_view(view, today=today, now=now), 1))).label(view) for view in VIEWS]
    return dict(conn.execute(select(*counts).select_from(Order)).one()._mapping)


@dataclass(frozen=True)
class Tile:
    """One number on the home page with what stands behind it.

    `cents` is by currency, largest first: amounts of two currencies are never added.
    """

    name: str
    count: int
    oldest_at: datetime | None
    cents: Mapping[str, int]


def home_tiles(conn: Connection, *, today: date, now: datetime) -> Mapping[str, Tile]:
    """The six things that need a person: overdue, short, review, courier, stuck, returns; counts equal their queues."""
    tiles = {}
    for view in ("overdue", "short", "review", "courier", "stuck"):
        orders = select(Order.currency, Order.placed_at.label("at"), Order.total_cents.label("cents"))
        tiles[view] = _tile(conn, view, orders.where(in_view(view, today=today, now=now)))
    returns = select(
        ReturnAuthorization.currency,
        ReturnAuthorization.requested_at.label("at"),
        ReturnAuthorization.refund_cents.label("cents"),
    ).where(ReturnAuthorization.origin == "live", ReturnAuthorization.status.in_(["requested", "received"]))
    tiles["returns"] = _tile(conn, "returns", returns)
    return tiles


def _tile(conn: Connection, name: str, behind: Select[Any, Any, Any]) -> Tile:
    """Counts rows of currency, at and cents."""
    each = behind.subquery()
    rows = conn.execute(
        select(
            each.c.currency,
            func.count().label("rows"),
            func.min(each.c.at).label("oldest_at"),
            func.coalesce(func.sum(each.c.cents), 0).label("cents"),
        ).group_by(each.c.currency)
    ).all()
    largest_first = sorted(rows, key=lambda row: (-int(row.cents), row.currency))
    return Tile(
        name,
        sum(row.rows for row in rows),
        min((row.oldest_at for row in rows), default=None),
        {row.currency: int(row.cents) for row in largest_first if row.cents},
    )


def backlog_by_stage(conn: Connection, *, now: datetime) -> Sequence[Any]:
    """Open orders by status and age: status, age (`today`, `1_day`, `2_3_days`, `older`), orders, money."""
    age = case(
        (Order.placed_at > now - timedelta(days=1), "today"),
        (Order.placed_at > now - timedelta(days=2), "1_day"),
        (Order.placed_at > now - timedelta(days=4), "2_3_days"),
        else_="older",
    ).label("age")
    return conn.execute(
        select(Order.status, age, func.count().label("orders"), func.sum(Order.total_cents).label("money_cents"))
        .where(Order.origin == "live", Order.status.in_(OPEN_STATUSES))
        .group_by(Order.status, age)
        .order_by(Order.status, age)
    ).all()


@dataclass(frozen=True)
class OrderPage:
    """Everything the order page shows."""

    order: Any
    lines: Sequence[Any]
    charges: Sequence[Any]
    shipments: Sequence[Any]
    packages: Sequence[Any]
    tracking: Sequence[Any]
    decisions: Sequence[Any]
    timeline: Sequence[Any]
    notes: Sequence[Any]
    notices: Sequence[Any]
    returns: Sequence[Any]
    tickets: Sequence[Any]
    follow_up: Any
    actions: Mapping[str, str | None]  # action → None when possible, else the reason code why not


def order_page(conn: Connection, number: str) -> OrderPage | None:
    """One order with its lines, shipments, decisions, timeline, money, messages; None when there is no such order."""
    order = conn.execute(
        select(
            Order.__table__,
            Customer.code.label("customer_code"),
            Customer.name.label("customer"),
            Customer.credit_limit_cents,
            Customer.credit_used_cents,
            Channel.code.label("channel"),
            Channel.name.label("channel_name"),
        )
        .join(Customer, Customer.id == Order.customer_id)
        .join(Channel, Channel.id == Order.channel_id)
        .where(Order.number == number)
    ).one_or_none()
    if order is None:
        return None
    about = and_(AuditEntry.entity == "orders", AuditEntry.entity_id == order.id)
    lines = conn.execute(
        select(OrderLine.__table__, Sku.sku, Sku.name, Sku.name_en)
        .join(Sku, Sku.id == OrderLine.sku_id)
        .where(OrderLine.order_id == order.id)
        .order_by(OrderLine.line_no)
    ).all()
    has_left = any(line.shipped_qty for line in lines)
    return OrderPage(
        order=order,
        lines=lines,
        charges=conn.execute(
            select(OrderCharge.__table__).where(OrderCharge.order_id == order.id).order_by(OrderCharge.id)
        ).all(),
        shipments=conn.execute(_shipments_of(order.id)).all(),
        packages=conn.execute(_packages_of(order.id)).all(),
        tracking=conn.execute(
            select(TrackingEvent.__table__)
            .where(TrackingEvent.package_id.in_(_packages_of(order.id).with_only_columns(Package.id)))
            .order_by(TrackingEvent.occurred_at, TrackingEvent.id)
        ).all(),
        decisions=conn.execute(
            select(Decision.__table__)
            .where(Decision.entity == "orders", Decision.entity_id == order.id)
            .order_by(Decision.id)
        ).all(),
        timeline=conn.execute(select(AuditEntry.__table__).where(about).order_by(AuditEntry.id)).all(),
        notes=conn.execute(
            select(OrderNote.__table__).where(OrderNote.order_id == order.id).order_by(OrderNote.id)
        ).all(),
        notices=conn.execute(
            select(Outbox.__table__).where(Outbox.entity == "orders", Outbox.entity_id == order.id).order_by(Outbox.id)
        ).all(),
        returns=conn.execute(
            select(ReturnAuthorization.__table__)
            .where(ReturnAuthorization.order_id == order.id)
            .order_by(ReturnAuthorization.id)
        ).all(),
        tickets=conn.execute(select(Ticket.__table__).where(Ticket.order_id == order.id).order_by(Ticket.id)).all(),
        follow_up=conn.execute(select(FollowUp.__table__).where(FollowUp.order_id == order.id)).one_or_none(),
        actions={action: why_not(action, order.status, has_left=has_left) for action in ACTIONS},
    )


def _shipments_of(order_id: int) -> Any:
    return (
        select(
            Shipment.number,
            Shipment.status,
            Location.code.label("location_code"),
            Location.name.label("location"),
            Shipment.planned_date,
            Shipment.shipped_at,
            Shipment.delivered_at,
            Shipment.rate_cents,
            OrderLine.line_no,
            Sku.sku,
            ShipmentLine.qty,
            ShipmentLine.reserved_qty,
            ShipmentLine.backordered_qty,
            ShipmentLine.picked_qty,
            ShipmentLine.shipped_qty,
            ShipmentLine.delivered_qty,
        )
        .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
        .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
        .join(Location, Location.id == Shipment.location_id)
        .join(Sku, Sku.id == ShipmentLine.sku_id)
        .where(OrderLine.order_id == order_id)
        .order_by(Shipment.id, OrderLine.line_no)
    )


def _packages_of(order_id: int) -> Any:
    shipments = (
        select(ShipmentLine.shipment_id)
        .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
        .where(OrderLine.order_id == order_id)
    )
    return select(Package.__table__).where(Package.shipment_id.in_(shipments)).order_by(Package.id)


def pick_queue(conn: Connection, *, location_code: str | None = None, limit: int = 200) -> Sequence[Any]:
    """What the warehouse works on, oldest promise first: approved shipments with stock, and open pick lists.

    Rows: location_code, shipment number, status, order number, customer, lines, units, promised_by_date, pick_list number.
    """
    list_number = (
        select(func.min(PickList.number))
        .join(PickListLine, PickListLine.pick_list_id == PickList.id)
        .join(ShipmentLine, ShipmentLine.id == PickListLine.shipment_line_id)
        .where(ShipmentLine.shipment_id == Shipment.id, PickList.status.in_(["open", "picking"]))
        .scalar_subquery()
    )
    query = (
        select(
            Location.code.label("location_code"),
            Shipment.number.label("shipment"),
            Shipment.status,
            Order.number.label("order_number"),
            Customer.name.label("customer"),
            func.count(ShipmentLine.id).label("lines"),
            func.sum(ShipmentLine.reserved_qty).label("units"),
            Order.promised_by_date,
            list_number.label("pick_list"),
        )
        .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
        .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
        .join(Order, Order.id == OrderLine.order_id)
        .join(Customer, Customer.id == Order.customer_id)
        .join(Location, Location.id == Shipment.location_id)
        .where(
            Shipment.status.in_(["planned", "released", "picked", "packed"]),
            Order.status.in_(["ready", "picking", "partly_shipped"]),
            ~ShipmentLine.is_withdrawn,
        )
        .group_by(
            Location.code,
            Shipment.id,
            Shipment.number,
            Shipment.status,
            Order.number,
            Customer.name,
            Order.promised_by_date,
        )
        .having(func.sum(ShipmentLine.reserved_qty) > 0)
        .order_by(Order.promised_by_date, Shipment.id)
        .limit(limit)
    )
    if location_code is not None:
        query = query.where(Location.code == location_code)
    return conn.execute(query).all()


def stock_of(conn: Connection, *, search: str | None = None, limit: int = 200) -> Sequence[Any]:
    """Stock levels: sku, name, location_code, on hand, reserved, backordered, under inspection, saleable."""
    query = (
        select(
            Sku.sku,
            Sku.name,
            Location.code.label("location_code"),
            StockLevel.on_hand_qty,
            StockLevel.reserved_qty,
            StockLevel.backordered_qty,
            StockLevel.inspecting_qty,
            StockLevel.overcommitted_qty,
            (StockLevel.on_hand_qty - StockLevel.reserved_qty - StockLevel.safety_qty).label("saleable_qty"),
        )
        .join(Sku, Sku.id == StockLevel.sku_id)
        .join(Location, Location.id == StockLevel.location_id)
        .order_by(Sku.sku, Location.code)
        .limit(limit)
    )
    if search:
        query = query.where(Sku.sku == search)
    return conn.execute(query).all()


def open_purchase_orders(conn: Connection, *, limit: int = 200) -> Sequence[Any]:
    """Purchase orders not yet received in full, soonest first: number, supplier, location, date, units, money."""
    return conn.execute(
        select(
            PurchaseOrder.number,
            Supplier.name.label("supplier"),
            Location.code.label("location_code"),
            PurchaseOrder.status,
            PurchaseOrder.expected_date,
            PurchaseOrder.is_date_confirmed,
            func.sum(PurchaseOrderLine.qty - PurchaseOrderLine.received_qty - PurchaseOrderLine.cancelled_qty).label(
                "open_qty"
            ),
            PurchaseOrder.currency,
            PurchaseOrder.total_cents,
        )
        .join(PurchaseOrderLine, PurchaseOrderLine.purchase_order_id == PurchaseOrder.id)
        .join(Supplier, Supplier.id == PurchaseOrder.supplier_id)
        .join(Location, Location.id == PurchaseOrder.location_id)
        .where(PurchaseOrder.status.in_(["draft", "sent", "confirmed"]))
        .group_by(
            PurchaseOrder.id,
            PurchaseOrder.number,
            Supplier.name,
            Location.code,
            PurchaseOrder.status,
            PurchaseOrder.expected_date,
            PurchaseOrder.is_date_confirmed,
            PurchaseOrder.currency,
            PurchaseOrder.total_cents,
        )
        .order_by(PurchaseOrder.expected_date, PurchaseOrder.id)
        .limit(limit)
    ).all()


def approved_suggestions() -> Any:
    """The approvals of suggestions with the order each became, to narrow with `where`: those with no `withdrawn_at` stand.

    Rows of as_of_date, sku, location_code, suggested_qty, approved_qty, reason, approved_by, approved_at, business_date, and of
    the purchase order, or the production order of a made SKU, order_id, number, status and is_made.
    """
    return (
        select(
            SuggestionApproval.as_of_date,
            Sku.sku,
            Location.code.label("location_code"),
            SuggestionApproval.suggested_qty,
            SuggestionApproval.approved_qty,
            SuggestionApproval.reason,
            SuggestionApproval.approved_by,
            SuggestionApproval.approved_at,
            SuggestionApproval.business_date,
            func.coalesce(PurchaseOrder.id, ProductionOrder.id).label("order_id"),
            func.coalesce(PurchaseOrder.number, ProductionOrder.number).label("number"),
            func.coalesce(PurchaseOrder.status, ProductionOrder.status).label("status"),
            SuggestionApproval.production_order_id.is_not(None).label("is_made"),
        )
        .join(Sku, Sku.id == SuggestionApproval.sku_id)
        .join(Location, Location.id == SuggestionApproval.location_id)
        .outerjoin(PurchaseOrderLine, PurchaseOrderLine.id == SuggestionApproval.purchase_order_line_id)
        .outerjoin(PurchaseOrder, PurchaseOrder.id == PurchaseOrderLine.purchase_order_id)
        .outerjoin(ProductionOrder, ProductionOrder.id == SuggestionApproval.production_order_id)
    )
