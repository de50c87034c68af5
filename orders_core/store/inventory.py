"""The only place that changes stock: levels, reservations, movements. Each change is one guarded statement.

On hand is the sum of movements; `move` writes both in one go. Rows are taken in (sku, location) order everywhere, so
that two orders over the same SKUs cannot wait for each other in a circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, bindparam, delete, func, insert, not_, or_, select, text

from orders_core.domain.permissions import Actor
from orders_core.errors import InsufficientStock, QuantityExceeded
from orders_core.routing.assign import Offered, Site, distance_km
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    CartHold,
    Location,
    Lot,
    LotLevel,
    Sku,
    StockLevel,
    StockMovement,
    StockProtection,
)
from orders_core.store.uow import Contended, UnitOfWork


@dataclass(frozen=True)
class Change:
    """A change of one level's counters; all zero or more except where a name says otherwise."""

    sku_id: int
    location_id: int
    reserve_qty: int = 0  # negative releases
    backorder_qty: int = 0  # negative withdraws


EXPIRED_QTY = (
    select(func.coalesce(func.sum(LotLevel.on_hand_qty), 0))
    .join(Lot, Lot.id == LotLevel.lot_id)
    .where(
        Lot.sku_id == StockLevel.sku_id,
        LotLevel.location_id == StockLevel.location_id,
        Lot.expiry_date < bindparam("today"),
    )
    .correlate(StockLevel)
    .scalar_subquery()
    .label("expired_qty")
)
"""Units of a stock level whose lots were good until before `today`: they are on hand and may not be promised."""
FREE_QTY = (
    "s.on_hand_qty - s.reserved_qty - CASE WHEN s.safety_qty > 0 THEN s.safety_qty ELSE 0 END"
    " - COALESCE((SELECT SUM(b.on_hand_qty) FROM lot e JOIN lot_level b ON b.lot_id = e.id"
    " WHERE e.sku_id = s.sku_id AND b.location_id = s.location_id AND e.expiry_date < :today), 0)"
    " - COALESCE((SELECT SUM(p.protected_qty) FROM stock_protection p WHERE p.sku_id = s.sku_id"
    " AND p.location_id = s.location_id AND p.channel_id <> :channel_id), 0)"
)
"""What one channel may still reserve of the level `s`, in SQL; negative where more is promised than may be."""
TODAY: Any = bindparam("today", type_=Lot.__table__.c.expiry_date.type)

_LEVELS = (
    select(
        Location.id.label("location_id"),
        StockLevel.sku_id,
        StockLevel.on_hand_qty,
        StockLevel.reserved_qty,
        StockLevel.backordered_qty,
        StockLevel.safety_qty,
        StockLevel.is_backorderable,
        EXPIRED_QTY,
        StockProtection.protected_qty,
        StockProtection.channel_id.label("protected_for_id"),
        Location.code,
        Location.rank,
        Location.is_default,
        Location.is_stock_tracked,
        Location.latitude,
        Location.longitude,
    )
    .select_from(Location)
    .outerjoin(
        StockLevel,
        (StockLevel.location_id == Location.id) & StockLevel.sku_id.in_(bindparam("sku_ids", expanding=True)),
    )
    .outerjoin(
        StockProtection,
        (StockProtection.sku_id == StockLevel.sku_id) & (StockProtection.location_id == StockLevel.location_id),
    )
    .where(
        Location.is_active,
        Location.can_ship,
        or_(StockLevel.sku_id.is_not(None), not_(Location.is_stock_tracked)),
    )
    .order_by(StockLevel.sku_id, Location.id)
)
_LEVELS_READ = Prepared(_LEVELS)
_LOCK_LEVELS = (
    select(StockLevel.sku_id)
    .where(StockLevel.sku_id.in_(bindparam("sku_ids", expanding=True)))
    .order_by(StockLevel.sku_id, StockLevel.location_id)
    .with_for_update()
)
_ANY_QTY = 2**31  # what a location has of everything where stock is not tracked


@dataclass(frozen=True)
class Supply:
    """What the locations can do for some SKUs, as one channel sees it."""

    sites: tuple[Site, ...]
    offered: Mapping[int, Mapping[int, Offered]]  # location -> sku -> what it has
    available: Mapping[int, int]  # sku -> saleable units in all, backorderable depth included where limited
    untracked_location_ids: frozenset[int]  # these have any number of everything; nothing is reserved there


def supply_for(
    uow: UnitOfWork,
    sku_ids: Sequence[int],
    *,
    channel_id: int,
    near: tuple[float, float] | None = None,
    any_backorder: bool = False,
) -> Supply:
    """What can be reserved or backordered now. `any_backorder`: the shortage policy lets every location owe any depth."""
    if uow.attempt:
        lock_levels(uow, sku_ids)
    rows = uow.rows(_LEVELS_READ, {"sku_ids": sorted(sku_ids), "today": uow.today})
    sites: dict[int, Site] = {}
    levels: dict[tuple[int, int], Any] = {}
    protected: dict[tuple[int, int], int] = defaultdict(int)
    untracked = set()
    for row in rows:
        key = (row.location_id, row.sku_id)
        if row.is_stock_tracked:
            levels[key] = row
        if row.protected_qty and row.protected_for_id != channel_id:
            protected[key] += row.protected_qty
        if row.location_id not in sites:
            km = None
            if near is not None and row.latitude is not None:
                km = distance_km(near[0], near[1], row.latitude, row.longitude)
            sites[row.location_id] = Site(row.location_id, row.code, row.rank, row.is_default, km)
            if not row.is_stock_tracked:
                untracked.add(row.location_id)
    offered: dict[int, dict[int, Offered]] = defaultdict(dict)
    available: dict[int, int] = defaultdict(int)
    for (location_id, sku_id), row in levels.items():
        free = row.on_hand_qty - int(row.expired_qty) - row.reserved_qty - protected[location_id, sku_id]
        reservable = max(0, free - max(0, row.safety_qty))
        depth: int | None = max(0, -row.safety_qty - row.backordered_qty) if row.safety_qty < 0 else 0
        available[sku_id] += reservable + (depth or 0)
        if any_backorder or row.is_backorderable:
            depth = None
        offered[location_id][sku_id] = Offered(reservable, depth)
    for location_id in untracked:
        offered[location_id] = {sku_id: Offered(_ANY_QTY) for sku_id in sku_ids}
    return Supply(tuple(sites.values()), offered, available, frozenset(untracked))


def lock_levels(uow: UnitOfWork, sku_ids: Iterable[int]) -> None:
    """Lock all levels of these SKUs in order, before a command that changes them in more than one go (PostgreSQL)."""
    if not uow.is_sqlite:
        uow.rows(_LOCK_LEVELS, {"sku_ids": sorted(sku_ids)})


def promise(uow: UnitOfWork, changes: Sequence[Change], *, channel_id: int, any_backorder: bool = False) -> None:
    """Reserve and backorder over several levels in one guarded statement, all or nothing. Negative amounts give back.

    Raises:
        Contended: someone took the units since they were read; the command is run again and reads anew.
    """
    wanted = sorted((c for c in changes if c.reserve_qty or c.backorder_qty), key=lambda c: (c.sku_id, c.location_id))
    if not wanted:
        return
    statement = uow.cache.get(("promise", len(wanted)))
    if statement is None:
        statement = uow.cache["promise", len(wanted)] = Prepared(_guarded_update(len(wanted), is_sqlite=uow.is_sqlite))
    parameters: dict[str, Any] = {"channel_id": channel_id, "today": uow.today}
    for i, change in enumerate(wanted):
        parameters[f"s{i}"] = change.sku_id
        parameters[f"l{i}"] = change.location_id
        parameters[f"r{i}"] = change.reserve_qty
        parameters[f"b{i}"] = change.backorder_qty
        parameters[f"any{i}"] = int(any_backorder)
    if len(uow.rows(statement, parameters)) != len(wanted):
        raise Contended
    uow.freed |= {(change.sku_id, change.location_id) for change in wanted if change.reserve_qty < 0}


def _guarded_update(count: int, *, is_sqlite: bool) -> TextClause:
    """One UPDATE over `count` levels that catches a level only where the units are there (decisions.md, 4)."""
    names = "sku_id, location_id, reserve, backorder, any_depth"
    if is_sqlite:
        rows = ", ".join(f"(:s{i}, :l{i}, :r{i}, :b{i}, :any{i})" for i in range(count))
        prefix, source = f"WITH w ({names}) AS (VALUES {rows}) ", "w WHERE"
    else:  # lock in order first: an UPDATE alone takes its rows in any order, and two of them can deadlock
        rows = ", ".join(
            f"(CAST(:s{i} AS bigint), CAST(:l{i} AS bigint), CAST(:r{i} AS bigint), CAST(:b{i} AS bigint),"
            f" CAST(:any{i} AS integer))"
            for i in range(count)
        )
        prefix = (
            f"WITH w ({names}) AS (VALUES {rows}), locked AS ("
            "SELECT k.sku_id, k.location_id FROM stock_level k JOIN w ON w.sku_id = k.sku_id"
            " AND w.location_id = k.location_id ORDER BY k.sku_id, k.location_id FOR UPDATE OF k) "
        )
        source = "w, locked WHERE locked.sku_id = w.sku_id AND locked.location_id = w.location_id AND"
    return text(
        f"{prefix}UPDATE stock_level AS s SET reserved_qty = s.reserved_qty + w.reserve,"
        " backordered_qty = s.backordered_qty + w.backorder, version = s.version + 1,"
        " overcommitted_qty = CASE WHEN s.reserved_qty + w.reserve > s.on_hand_qty"
        " THEN s.reserved_qty + w.reserve - s.on_hand_qty ELSE 0 END"
        f" FROM {source} s.sku_id = w.sku_id AND s.location_id = w.location_id"
        f" AND (w.reserve <= 0 OR {FREE_QTY} >= w.reserve)"
        " AND (w.backorder <= 0 OR w.any_depth = 1 OR s.is_backorderable"
        " OR -s.safety_qty - s.backordered_qty >= w.backorder)"
        " RETURNING on_hand_qty"
    ).bindparams(TODAY)


@dataclass(frozen=True)
class Move:
    """One signed stock movement. `reserved_qty` is how many of a level's reserved units go or come with it (≤ 0 out)."""

    sku_id: int
    location_id: int
    qty: int
    reason: str
    reserved_qty: int = 0
    lot_id: int | None = None
    state: str = "on_hand"
    source: str | None = None
    source_id: int | None = None
    unit_cost_cents: int | None = None
    note: str | None = None
    is_fact: bool = False  # a count or an import of facts: may leave fewer units than are reserved


_MOVE_ON_HAND = Prepared(
    "UPDATE stock_level SET on_hand_qty = on_hand_qty + :qty, reserved_qty = reserved_qty + :reserved,"
    " overcommitted_qty = CASE WHEN reserved_qty + :reserved > on_hand_qty + :qty"
    " THEN reserved_qty + :reserved - on_hand_qty - :qty ELSE 0 END, version = version + 1"
    " WHERE sku_id = :sku_id AND location_id = :location_id AND on_hand_qty + :qty >= 0 AND reserved_qty + :reserved >= 0"
    " AND (:is_fact = 1 OR :qty > 0 OR on_hand_qty + :qty + overcommitted_qty >= reserved_qty + :reserved)"
    " RETURNING on_hand_qty"
)
_MOVE_INSPECTING = Prepared(
    "UPDATE stock_level SET inspecting_qty = inspecting_qty + :qty, version = version + 1"
    " WHERE sku_id = :sku_id AND location_id = :location_id AND inspecting_qty + :qty >= 0 RETURNING on_hand_qty"
)
_ADD_LEVEL = Prepared(
    "INSERT INTO stock_level (sku_id, location_id) VALUES (:sku_id, :location_id) ON CONFLICT DO NOTHING"
)
_MOVE_LOT = Prepared(
    "INSERT INTO lot_level (lot_id, location_id, on_hand_qty) VALUES (:lot_id, :location_id, :qty)"
    " ON CONFLICT (lot_id, location_id) DO UPDATE SET on_hand_qty = lot_level.on_hand_qty + :qty"
)
_TAKE_LOT = Prepared(
    "UPDATE lot_level SET on_hand_qty = on_hand_qty + :qty WHERE lot_id = :lot_id AND location_id = :location_id"
    " AND on_hand_qty + :qty >= 0 RETURNING on_hand_qty"
)
_MOVEMENTS = Prepared(insert(StockMovement.__table__))  # type: ignore[arg-type]


def move(uow: UnitOfWork, actor: Actor, moves: Sequence[Move]) -> list[int]:
    """Write movements and change their levels (and lots) with them; returns the movement ids, in the order given.

    Raises:
        QuantityExceeded: a move would take more than is there and not promised to others; nothing is written.
    """
    if not moves:
        return []
    first = uow.new_id(len(moves))
    for item in sorted(moves, key=lambda m: (m.sku_id, m.location_id)):
        where = {"sku_id": item.sku_id, "location_id": item.location_id}
        if item.state == "inspection":
            statement, parameters = _MOVE_INSPECTING, {**where, "qty": item.qty}
        else:
            statement = _MOVE_ON_HAND
            parameters = {**where, "qty": item.qty, "reserved": item.reserved_qty, "is_fact": int(item.is_fact)}
        if not uow.rows(statement, parameters):
            uow.write(_ADD_LEVEL, [where])
            if not uow.rows(statement, parameters):
                raise _too_much(uow, item)
        if item.lot_id is not None and item.state == "on_hand":
            lot = {"lot_id": item.lot_id, "location_id": item.location_id, "qty": item.qty}
            if item.qty > 0:
                uow.write(_MOVE_LOT, [lot])
            elif not uow.rows(_TAKE_LOT, lot):
                raise _too_much(uow, item)
    uow.write(
        _MOVEMENTS,
        [
            {
                "id": first + i,
                "sku_id": item.sku_id,
                "location_id": item.location_id,
                "lot_id": item.lot_id,
                "qty": item.qty,
                "state": item.state,
                "reason": item.reason,
                "source": item.source,
                "source_id": item.source_id,
                "unit_cost_cents": item.unit_cost_cents,
                "at": uow.now,
                "business_date": uow.today,
                "actor": actor.name,
                "note": item.note,
            }
            for i, item in enumerate(moves)
        ],
    )
    for i in range(len(moves)):
        uow.changed("stock_movement", first + i, 1, "insert")
    return list(range(first, first + len(moves)))


def _too_much(uow: UnitOfWork, item: Move) -> QuantityExceeded:
    level = uow.rows(
        select(Sku.sku, Location.code, StockLevel.on_hand_qty, StockLevel.reserved_qty, StockLevel.inspecting_qty)
        .select_from(StockLevel)
        .join(Sku, Sku.id == StockLevel.sku_id)
        .join(Location, Location.id == StockLevel.location_id)
        .where(StockLevel.sku_id == item.sku_id, StockLevel.location_id == item.location_id)
    )[0]
    there = level.inspecting_qty if item.state == "inspection" else level.on_hand_qty - level.reserved_qty
    return QuantityExceeded(
        what=f"{item.reason} {level.sku}@{level.code}", asked_qty=-item.qty, limit_qty=max(0, there - item.reserved_qty)
    )


_EXPIRED = (
    select(CartHold.cart_line_id, CartHold.location_id, CartHold.sku_id, CartHold.qty)
    .where(CartHold.expires_at <= bindparam("now"))
    .with_for_update(skip_locked=True)
)
_EXPIRED_HOLDS = Prepared(_EXPIRED)
_EXPIRED_HOLDS_OF = Prepared(_EXPIRED.where(CartHold.sku_id.in_(bindparam("sku_ids", expanding=True))))


def release_expired_holds(
    uow: UnitOfWork, sku_ids: Iterable[int] | None = None, *, levels: Container[tuple[int, int]] | None = None
) -> int:
    """Give back units of cart holds whose time is over; returns how many units. Called by whoever needs the stock.

    `levels` narrows it to these (SKU id, location id).
    """
    if sku_ids is None:
        holds = uow.rows(_EXPIRED_HOLDS, {"now": uow.now})
    else:
        holds = uow.rows(_EXPIRED_HOLDS_OF, {"now": uow.now, "sku_ids": sorted(sku_ids)})
    holds = [hold for hold in holds if levels is None or (hold.sku_id, hold.location_id) in levels]
    release_holds(uow, holds)
    return sum(hold.qty for hold in holds)


def release_holds(uow: UnitOfWork, holds: Sequence[Any]) -> None:
    """Delete these cart holds (cart_line_id, location_id, sku_id, qty) and give their units back to the levels."""
    if not holds:
        return
    back: dict[tuple[int, int], int] = defaultdict(int)
    for hold in holds:
        back[hold.sku_id, hold.location_id] += hold.qty
    promise(uow, [Change(sku, loc, reserve_qty=-qty) for (sku, loc), qty in back.items()], channel_id=0)
    for hold in holds:
        uow.conn.execute(
            delete(CartHold).where(CartHold.cart_line_id == hold.cart_line_id, CartHold.location_id == hold.location_id)
        )


def must_have(needs: Mapping[int, int], available: Mapping[int, int], names: Mapping[int, str]) -> None:
    """Raise InsufficientStock naming every SKU of which less is saleable than needed."""
    short = [
        {"sku": names[sku_id], "asked_qty": qty, "available_qty": available.get(sku_id, 0)}
        for sku_id, qty in needs.items()
        if qty > available.get(sku_id, 0)
    ]
    if short:
        raise InsufficientStock(**short[0], short=short)
