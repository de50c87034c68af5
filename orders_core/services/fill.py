"""Stock that came in or was given back goes to the orders that wait for it: reserved, promised anew, told.

Or only shown who would get it. A command that brings units in ends with `fill_waiting`, one that gives units back (a
cancel, a smaller order, a rejection, a cart) with `hand_on`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, select, text, tuple_

from orders_core.domain.allocation import Free, Given, Waiting, allocate
from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.domain.rules import Rules
from orders_core.notifications.tell import line_facts, tell_customer
from orders_core.services.drafting import rules_for
from orders_core.services.orders_state import sync_order
from orders_core.services.shipments import touch_shipments
from orders_core.services.supply import shrink_requests
from orders_core.store.inventory import EXPIRED_QTY, Change, promise, release_expired_holds
from orders_core.store.tables import (
    CartHold,
    Channel,
    Order,
    OrderLine,
    RuleSet,
    Shipment,
    ShipmentLine,
    Sku,
    StockLevel,
    StockProtection,
)
from orders_core.store.uow import UnitOfWork

Level = tuple[int, int]
"""(SKU id, location id)."""

_WAITING = (
    select(
        ShipmentLine.id.label("shipment_line_id"),
        ShipmentLine.shipment_id,
        ShipmentLine.order_line_id,
        ShipmentLine.sku_id,
        ShipmentLine.reserved_qty,
        ShipmentLine.backordered_qty,
        Shipment.location_id,
        Order.id.label("order_id"),
        Order.number,
        Order.priority,
        Order.business_date,
        Order.requested_date,
        Order.placed_at,
        Order.channel_id,
        Channel.code.label("channel_code"),
        Channel.policy,
        RuleSet.version.label("rules_version"),
    )
    .select_from(ShipmentLine)
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .join(Order, Order.id == OrderLine.order_id)
    .join(Channel, Channel.id == Order.channel_id)
    .join(RuleSet, and_(RuleSet.is_current))
    .where(
        ShipmentLine.backordered_qty > 0,
        tuple_(ShipmentLine.sku_id, Shipment.location_id).in_(bindparam("levels", expanding=True)),
        Order.hold_reason.is_(None),
        Order.cancelled_at.is_(None),
        Order.rejected_at.is_(None),
    )
    .order_by(Order.id, ShipmentLine.id)
)
# The levels are ours already, and orders come before levels: so nobody is waited for here. Who finds an order in another
# command's hands gives everything back and runs again.
_WAITING_LOCKED = _WAITING.with_for_update(
    of=[Order.__table__, Shipment.__table__],
    key_share=True,
    nowait=True,
)
_SHORT_LEVELS = (
    select(
        StockLevel.sku_id,
        StockLevel.location_id,
        StockLevel.on_hand_qty,
        StockLevel.reserved_qty,
        StockLevel.safety_qty,
        EXPIRED_QTY,
        StockProtection.channel_id,
        StockProtection.protected_qty,
    )
    .outerjoin(
        StockProtection,
        (StockProtection.sku_id == StockLevel.sku_id) & (StockProtection.location_id == StockLevel.location_id),
    )
    .where(StockLevel.backordered_qty > 0)
)
_EXPIRED_HOLDS = (
    select(CartHold.sku_id, CartHold.location_id, func.sum(CartHold.qty).label("qty"))
    .where(CartHold.expires_at <= bindparam("now"))
    .group_by(CartHold.sku_id, CartHold.location_id)
)
_LOCK_ORDERS = (
    select(Order.id)
    .where(Order.id.in_(bindparam("ids", expanding=True)))
    .order_by(Order.id)
    .with_for_update(key_share=True)
)
_LOCK_LEVELS = (
    select(StockLevel.sku_id)
    .where(tuple_(StockLevel.sku_id, StockLevel.location_id).in_(bindparam("levels", expanding=True)))
    .order_by(StockLevel.sku_id, StockLevel.location_id)
    .with_for_update(key_share=True)
)
_WAITS_AT = (
    select(ShipmentLine.sku_id, Shipment.location_id)
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .where(OrderLine.order_id == bindparam("order_id"), ShipmentLine.backordered_qty > 0)
)
_FILL_LINES = text(
    "UPDATE shipment_line SET reserved_qty = reserved_qty + :qty, backordered_qty = backordered_qty - :qty"
    " WHERE id = :shipment_line_id"
)
_CLOSE_REQUESTS = text(
    "UPDATE purchase_request SET status = 'closed', version = version + 1"
    " WHERE order_line_id IN :ids AND status IN ('open', 'ordered')"
    " AND NOT EXISTS (SELECT 1 FROM shipment_line sl JOIN shipment s ON s.id = sl.shipment_id"
    " WHERE sl.order_line_id = purchase_request.order_line_id AND s.location_id = purchase_request.location_id"
    " AND sl.backordered_qty > 0) RETURNING id, version"
).bindparams(bindparam("ids", expanding=True))


@dataclass(frozen=True)
class Filled:
    """What one waiting line gets (or would get) of what is free."""

    order: str
    sku: str
    location_id: int
    qty: int
    still_waiting_qty: int
    priority: int
    due_date: date


def lock_waiting_orders(uow: UnitOfWork, levels: Collection[Level]) -> None:
    """Lock the orders that wait at these levels, before the levels themselves are touched (PostgreSQL).

    Orders first, then levels, is the order in which everybody locks.
    """
    if uow.is_sqlite or not levels:
        return
    ids = sorted({row.order_id for row in uow.rows(_WAITING, {"levels": sorted(levels)})})
    if ids:
        uow.rows(_LOCK_ORDERS, {"ids": ids})


def fill_due(uow: UnitOfWork, actor: Actor, levels: Collection[Level] | None = None) -> list[Filled]:
    """`fill_waiting` for levels (all when None) of which this command has not touched anything yet."""
    free = sorted(level for level, has in _free(uow, levels).items() if has.qty > 0)
    lock_waiting_orders(uow, free)
    if free and not uow.is_sqlite:
        uow.rows(_LOCK_LEVELS, {"levels": free})
    return fill_waiting(uow, actor, free)


def hand_on(uow: UnitOfWork) -> list[Filled]:
    """Give the units that this command took off orders and carts to the orders that wait for them; comes last in it."""
    freed, uow.freed = uow.freed, set()
    filled = fill_waiting(uow, SYSTEM, freed)
    uow.freed = set()  # holds that had expired, counted above
    return filled


def free_expired(uow: UnitOfWork, sku_ids: Collection[int]) -> bool:
    """Give back what carts held too long, to the orders that wait first; whether there was any."""
    before, uow.freed = uow.freed, set()
    is_any = release_expired_holds(uow, sku_ids) > 0
    hand_on(uow)
    uow.freed = before
    return is_any


def fill_where_waits(uow: UnitOfWork, order_id: int) -> list[Filled]:
    """Give away what is free where this order waits, now that it is served again: it was passed over while on hold."""
    levels = sorted({(row.sku_id, row.location_id) for row in uow.rows(_WAITS_AT, {"order_id": order_id})})
    if levels and not uow.is_sqlite:
        uow.rows(_LOCK_LEVELS, {"levels": levels})
    return fill_waiting(uow, SYSTEM, levels)


def fill_waiting(uow: UnitOfWork, actor: Actor, levels: Collection[Level]) -> list[Filled]:
    """Reserve what is free at these levels, which this command has changed, for the orders that wait there.

    By priority, then the day wanted, then age. Orders on hold are passed over, and so are those wanted later than the
    rules reserve ahead. Who now has everything is told so.
    """
    free = _free(uow, levels)
    if not any(has.qty > 0 for has in free.values()):
        return []
    rows = {row.shipment_line_id: row for row in uow.rows(_WAITING_LOCKED, {"levels": sorted(free)})}
    given = [part for part in allocate(_waiting(uow, rows.values()), free) if part.qty]
    if not given:
        return []
    # counted as free above
    release_expired_holds(uow, {part.waiting.sku_id for part in given}, levels=free)
    _reserve(uow, given)
    touch_shipments(uow, {rows[part.waiting.shipment_line_id].shipment_id for part in given})
    requests = uow.conn.execute(
        _CLOSE_REQUESTS, {"ids": sorted({rows[part.waiting.shipment_line_id].order_line_id for part in given})}
    )
    for request in requests.all():
        uow.changed("purchase_request", request.id, request.version)
    by_order: dict[int, list[Given]] = defaultdict(list)
    for part in given:
        by_order[part.waiting.order_id].append(part)
    shrink_requests(uow, by_order)
    for order_id, parts in sorted(by_order.items()):
        _settle_order(uow, actor, order_id, parts, rows[parts[0].waiting.shipment_line_id])
    return _named(uow, given)


def who_would_get(uow: UnitOfWork, arriving: Mapping[Level, int]) -> list[Filled]:
    """Who would get what if these units arrived now, in the order served; changes nothing."""
    free = _free(uow, arriving.keys())
    for level, qty in arriving.items():
        if level in free:
            free[level] = Free(free[level].qty + qty, free[level].protected)
    waiting = uow.rows(_WAITING, {"levels": sorted(free)}) if free else ()
    return _named(uow, allocate(_waiting(uow, waiting), free))


def _free(uow: UnitOfWork, levels: Collection[Level] | None) -> dict[Level, Free]:
    """What the levels somebody waits at have to give; negative where more is promised than there.

    Units of carts whose time is over are free, those of expired lots are not.
    """
    query = _SHORT_LEVELS
    if levels is not None:
        if not levels:
            return {}
        query = query.where(StockLevel.sku_id.in_(sorted({sku_id for sku_id, _ in levels})))
    free: dict[Level, Free] = {}
    for row in uow.rows(query, {"today": uow.today}):
        level = (row.sku_id, row.location_id)
        if levels is not None and level not in levels:
            continue
        protected = dict(free[level].protected) if level in free else {}
        if row.protected_qty:
            protected[row.channel_id] = row.protected_qty
        free[level] = Free(
            row.on_hand_qty - int(row.expired_qty) - row.reserved_qty - max(0, row.safety_qty), protected
        )
    for hold in uow.rows(_EXPIRED_HOLDS, {"now": uow.now}) if free else ():
        level = (hold.sku_id, hold.location_id)
        if level in free:
            free[level] = Free(free[level].qty + int(hold.qty), free[level].protected)
    return free


def _waiting(uow: UnitOfWork, rows: Collection[Any]) -> list[Waiting]:
    waiting = []
    for row in rows:
        rules = rules_for(uow, version=row.rules_version, channel_code=row.channel_code, policy=row.policy)
        if is_too_early(rules, row.requested_date, uow.today):
            continue
        waiting.append(
            Waiting(
                shipment_line_id=row.shipment_line_id,
                order_id=row.order_id,
                order_number=row.number,
                sku_id=row.sku_id,
                location_id=row.location_id,
                channel_id=row.channel_id,
                waiting_qty=row.backordered_qty,
                priority=row.priority,
                due_date=row.requested_date or row.business_date,
                placed_at=row.placed_at,
                least_qty=_least(rules, row),
            )
        )
    return waiting


def is_too_early(rules: Rules, requested_date: date | None, today: date) -> bool:
    """Whether an order is wanted later than the rules reserve ahead."""
    within = rules.reserve.within_days
    return within is not None and requested_date is not None and requested_date > today + timedelta(days=within)


def _least(rules: Rules, row: Any) -> int:
    if rules.shortage.max_late_days == 0:
        return int(row.backordered_qty)  # not split: all or nothing
    return 1 if row.reserved_qty else min(rules.shortage.min_ship_qty, row.backordered_qty)


def _reserve(uow: UnitOfWork, given: Sequence[Given]) -> None:
    uow.conn.execute(
        _FILL_LINES, [{"qty": part.qty, "shipment_line_id": part.waiting.shipment_line_id} for part in given]
    )
    per_channel: dict[int, dict[Level, int]] = defaultdict(lambda: defaultdict(int))
    for part in given:
        per_channel[part.waiting.channel_id][part.waiting.sku_id, part.waiting.location_id] += part.qty
    for channel_id, levels in sorted(per_channel.items()):
        changes = [Change(sku, loc, reserve_qty=qty, backorder_qty=-qty) for (sku, loc), qty in levels.items()]
        promise(uow, changes, channel_id=channel_id)


def _settle_order(uow: UnitOfWork, actor: Actor, order_id: int, parts: Sequence[Given], row: Any) -> None:
    """After an order got units: status, decision, and the good news once nothing of it waits any more."""
    uow.decide(
        "allocate",
        "orders",
        order_id,
        str(sum(part.qty for part in parts)),
        [
            {
                "code": "filled",
                "sku_id": part.waiting.sku_id,
                "qty": part.qty,
                "still_waiting_qty": part.still_waiting_qty,
                "priority": part.waiting.priority,
                "due_date": part.waiting.due_date.isoformat(),
            }
            for part in parts
        ],
        rules_version=row.rules_version,
        actor=actor.name,
    )
    waits = uow.conn.execute(
        text(
            "SELECT COALESCE(SUM(sl.backordered_qty), 0) FROM shipment_line sl"
            " JOIN order_line l ON l.id = sl.order_line_id WHERE l.order_id = :order_id"
        ),
        {"order_id": order_id},
    ).scalar_one()
    if waits:
        sync_order(uow, order_id)
        return
    rules = rules_for(uow, version=row.rules_version, channel_code=row.channel_code, policy=row.policy)
    promised = uow.today + timedelta(days=rules.promise.handling_days + rules.promise.transit_days)
    if row.requested_date is not None:
        promised = max(promised, row.requested_date)
    uow.conn.execute(
        text("UPDATE orders SET promised_by_date = :day, is_promise_estimated = :no WHERE id = :order_id").bindparams(
            bindparam("day", type_=Order.__table__.c.promised_by_date.type),
            bindparam("no", type_=Order.__table__.c.is_promise_estimated.type),
        ),
        {"day": promised, "no": False, "order_id": order_id},
    )
    state = sync_order(uow, order_id)
    tell_customer(
        uow,
        "stock_available",
        order_id,
        dedupe_key=f"stock_available:{order_id}:{state.version}",
        lines=_lines_told(uow, order_id, parts),
    )


_TOLD = (
    select(
        ShipmentLine.id,
        OrderLine.unit,
        OrderLine.units_per_pack,
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.base_unit,
        Order.language,
    )
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .join(Order, Order.id == OrderLine.order_id)
    .join(Sku, Sku.id == ShipmentLine.sku_id)
    .where(ShipmentLine.id.in_(bindparam("ids", expanding=True)))
)


def _lines_told(uow: UnitOfWork, order_id: int, parts: Sequence[Given]) -> list[dict[str, Any]]:
    known = {row.id: row for row in uow.rows(_TOLD, {"ids": [part.waiting.shipment_line_id for part in parts]})}
    told = []
    for part in parts:
        row = known[part.waiting.shipment_line_id]
        name = row.name_en if row.language == "en" and row.name_en else row.name
        told.append(
            line_facts(
                row.sku,
                name,
                qty=part.qty,
                unit=row.unit,
                units_per_pack=row.units_per_pack,
                base_unit=row.base_unit,
            )
        )
    return told


def _named(uow: UnitOfWork, given: Sequence[Given]) -> list[Filled]:
    if not given:
        return []
    ids = sorted({part.waiting.sku_id for part in given})
    names = {row.id: row.sku for row in uow.rows(select(Sku.id, Sku.sku).where(Sku.id.in_(ids)))}
    return [
        Filled(
            order=part.waiting.order_number,
            sku=names[part.waiting.sku_id],
            location_id=part.waiting.location_id,
            qty=part.qty,
            still_waiting_qty=part.still_waiting_qty,
            priority=part.waiting.priority,
            due_date=part.waiting.due_date,
        )
        for part in given
    ]
