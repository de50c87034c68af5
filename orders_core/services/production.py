"""Work orders to production: made, short or scrapped is reported, and stock and waiting orders follow; or they are closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sqlalchemy import insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotAllowed, NotFound, QuantityExceeded
from orders_core.services.idempotency import is_repeat, keyed
from orders_core.services.lookups import location_named, must_be_in, must_be_qty, must_work_at, skus_named
from orders_core.services.review import rules_of
from orders_core.services.shortage import tell_delay
from orders_core.services.stock import bring_in, lot_named
from orders_core.services.supply import request_units
from orders_core.store.inventory import Move
from orders_core.store.tables import Location, Order, OrderLine, ProductionOrder, ShipmentLine, Sku, SuggestionApproval
from orders_core.store.uow import UnitOfWork

OPEN_PRODUCTION = ("open", "started")
"""Production orders of which something may still come."""


@dataclass(frozen=True)
class CreateProductionOrder:
    """Make units of a SKU at a location, for stock."""

    sku: str
    location: str
    qty: int
    due_date: date | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class ReportProduction:
    """Units made well and units spoilt since the last report. `is_finished`: nothing more comes, even if short."""

    number: str
    done_qty: int
    scrap_qty: int = 0
    is_finished: bool = False
    lot_code: str | None = None
    expiry_date: date | None = None
    unit_cost_cents: int | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class CloseProductionOrder:
    """Nothing more is made of it; `reason` is kept."""

    number: str
    reason: str


@dataclass(frozen=True)
class ProductionState:
    """A production order as it is; `short_qty` is what it will not bring, `follow_up` the order made for that."""

    number: str
    status: str
    qty: int
    done_qty: int
    scrap_qty: int
    short_qty: int = 0
    follow_up: str | None = None
    is_repeat: bool = False


@dataclass(frozen=True)
class Wanted:
    """Units production is to make for stock."""

    sku_id: int
    location_id: int
    qty: int
    due_date: date | None


@dataclass(frozen=True)
class Opened:
    """A production order just opened."""

    id: int
    number: str


def create_production_order(uow: UnitOfWork, actor: Actor, command: CreateProductionOrder) -> ProductionState:
    """Give production something to make for stock; for an order line the order itself does it."""
    actor.must("production.report")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, ProductionOrder, command)
    if once.row is not None:
        return _state(once.row, is_repeat=True)
    must_be_qty(command.qty, command.sku)
    sku = skus_named(uow, [command.sku])[command.sku]
    wanted = Wanted(sku.id, place.id, command.qty, command.due_date)
    (made,) = open_production_orders(uow, actor, [wanted], **once.columns)
    return ProductionState(made.number, "open", command.qty, 0, 0)


def open_production_orders(
    uow: UnitOfWork, actor: Actor, wanted: Sequence[Wanted], **columns: str | None
) -> list[Opened]:
    """One production order each, in the order given; whoever calls has checked that the actor may, and the facts."""
    first = uow.new_id(len(wanted))
    opened = [Opened(first + i, uow.new_number("MO")) for i in range(len(wanted))]
    rows = [
        {**asdict(one), **asdict(order), "status": "open", "created_at": uow.now, **columns}
        for one, order in zip(wanted, opened, strict=True)
    ]
    uow.conn.execute(insert(ProductionOrder), rows)
    for order in opened:
        uow.changed("production_order", order.id, 1, "insert")
        uow.audit(actor, "production.create", "production_order", order.id, version=1, facts={"number": order.number})
    return opened


def report_production(uow: UnitOfWork, actor: Actor, command: ReportProduction) -> ProductionState:
    """Book what was made: on hand, and to the orders that wait. A finished order that is short is ordered again.

    Spoilt units never were stock. When all units are made or the order is finished, it is done; if an order line still
    waits for the rest, a new production order is opened for it and the customer is told the new date.

    Raises:
        QuantityExceeded: more made and spoilt than were to be made.
        NotAllowed: it is done or cancelled already.
    """
    actor.must("production.report")
    row = _production_order(uow, command.number)
    must_work_at(actor, row.location)
    if is_repeat(uow, actor, "production.report", command):
        return _state(row, is_repeat=True)
    must_be_in(row, "report", OPEN_PRODUCTION, "production order")
    must_be_qty(command.done_qty, f"{row.number} done", smallest=0)
    must_be_qty(command.scrap_qty, f"{row.number} scrap", smallest=0)
    if command.done_qty + command.scrap_qty == 0 and not command.is_finished:
        raise InvalidCommand(field="done_qty", problem="nothing_reported")
    if row.done_qty + command.done_qty > row.qty:
        raise QuantityExceeded(what=row.number, asked_qty=command.done_qty, limit_qty=row.qty - row.done_qty)
    done, scrap = row.done_qty + command.done_qty, row.scrap_qty + command.scrap_qty
    is_done = command.is_finished or done == row.qty
    version = _advance(
        uow,
        row,
        done_qty=done,
        scrap_qty=scrap,
        status="done" if is_done else "started",
        done_at=uow.now if is_done else None,
    )
    if command.done_qty and row.is_stock_tracked and row.location_tracked:
        lot_code = command.lot_code or (row.number if row.is_lot_tracked else None)
        lot_id = lot_named(
            uow,
            skus_named(uow, [row.sku])[row.sku],
            lot_code,
            expiry_date=command.expiry_date,
            unit_cost_cents=command.unit_cost_cents,
            is_new=True,
        )
        made = Move(
            row.sku_id,
            row.location_id,
            command.done_qty,
            "production_in",
            lot_id=lot_id,
            source="production_order",
            source_id=row.id,
            unit_cost_cents=command.unit_cost_cents,
        )
        bring_in(uow, actor, [made])
    facts = {"done_qty": command.done_qty, "scrap_qty": command.scrap_qty, "is_finished": command.is_finished}
    uow.audit(actor, "production.report", "production_order", row.id, version=version, facts=facts)
    short = row.qty - done if is_done else 0
    follow_up = _make_again(uow, row, short) if short else None
    return ProductionState(row.number, "done" if is_done else "started", row.qty, done, scrap, short, follow_up)


def close_production_order(uow: UnitOfWork, actor: Actor, command: CloseProductionOrder) -> ProductionState:
    """End a production order: what is not made yet no longer counts as on order. It is *done* with what was made, or
    *cancelled* when nothing was, and then the suggestion it came from is open again. Production sets no components aside, so
    there are none to release.

    Raises:
        NotFound, PermissionDenied: no such production order; the actor may not order, or not for its location.
        NotAllowed: all of it is made, or it is made for a customer's order that waits for it.
    """
    actor.must("purchase.order")
    row = _production_order(uow, command.number)
    must_work_at(actor, row.location)
    if row.status not in OPEN_PRODUCTION and row.done_qty < row.qty:
        return _state(row, is_repeat=True)
    refused = {"action": "close", "entity": "production order", "key": row.number, "status": row.status}
    if row.status not in OPEN_PRODUCTION:
        raise NotAllowed(**refused, reason="all of it is made", reason_zh="已全部完工", reason_code="all_came")
    waits = _who_waits(uow, row)
    if waits is not None:
        raise NotAllowed(
            **refused,
            reason=f"order {waits.number} waits for it; change or cancel that order",
            reason_zh=f"订单 {waits.number} 在等货，请修改或取消该订单",
            reason_code="awaited",
        )
    status = "done" if row.done_qty else "cancelled"
    version = _advance(uow, row, status=status, done_at=uow.now)
    if not row.done_qty:
        uow.conn.execute(
            update(SuggestionApproval)
            .where(SuggestionApproval.production_order_id == row.id)
            .values(withdrawn_at=uow.now)
        )
    facts = {"number": row.number, "reason": command.reason}
    uow.audit(actor, "production.close", "production_order", row.id, version=version, facts=facts)
    short = row.qty - row.done_qty
    return ProductionState(row.number, status, row.qty, row.done_qty, row.scrap_qty, short)


def _advance(uow: UnitOfWork, row: Any, **values: Any) -> int:
    """Change the production order and give it its next version, which is returned."""
    version: int = row.version + 1
    uow.conn.execute(update(ProductionOrder).where(ProductionOrder.id == row.id).values(version=version, **values))
    uow.changed("production_order", row.id, version)
    return version


def _make_again(uow: UnitOfWork, row: Any, short: int) -> str | None:
    """A new production order for what an order line still waits for; its customer is told the new date."""
    waits = _who_waits(uow, row)
    if waits is None:
        return None
    new_id = request_units(
        uow,
        sku_id=row.sku_id,
        location_id=row.location_id,
        qty=min(short, waits.backordered_qty),
        order_line_id=row.order_line_id,
        supply_mode="make",
        reason=f"short of {row.number}",
    )
    tell_delay(uow, rules_of(uow, waits.channel_id)[0], waits.id)
    number: str = uow.conn.execute(select(ProductionOrder.number).where(ProductionOrder.id == new_id)).scalar_one()
    return number


def _who_waits(uow: UnitOfWork, row: Any) -> Any | None:
    """The order whose line a production order is for, while it waits for units: id, number, channel_id, backordered_qty."""
    if row.order_line_id is None:
        return None
    return uow.row(
        select(Order.id, Order.number, Order.channel_id, ShipmentLine.backordered_qty)
        .join(OrderLine, OrderLine.order_id == Order.id)
        .join(ShipmentLine, ShipmentLine.order_line_id == OrderLine.id)
        .where(OrderLine.id == row.order_line_id, ShipmentLine.backordered_qty > 0)
        .limit(1)
    )


def _production_order(uow: UnitOfWork, number: str) -> Any:
    query = (
        select(
            ProductionOrder.__table__,
            Sku.sku,
            Sku.is_lot_tracked,
            Sku.is_stock_tracked,
            Location.code.label("location"),
            Location.is_stock_tracked.label("location_tracked"),
        )
        .join(Sku, Sku.id == ProductionOrder.sku_id)
        .join(Location, Location.id == ProductionOrder.location_id)
        .where(ProductionOrder.number == number)
    )
    row = uow.row(query if uow.is_sqlite else query.with_for_update(of=ProductionOrder.__table__))
    if row is None:
        raise NotFound(entity="production order", key=number)
    return row


def _state(row: Any, *, is_repeat: bool = False) -> ProductionState:
    short = 0 if row.status in OPEN_PRODUCTION else row.qty - row.done_qty
    return ProductionState(row.number, row.status, row.qty, row.done_qty, row.scrap_qty, short, is_repeat=is_repeat)
