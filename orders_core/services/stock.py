"""What changes stock apart from orders: opening stock, adjustments, scrap, transfers, counts, lots, stock policy.

Every change is a movement. Units that come in go at once to the orders that wait for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, LotRefused, NotFound, QuantityExceeded
from orders_core.services.fill import Level, fill_waiting, free_expired, lock_waiting_orders
from orders_core.services.idempotency import is_repeat
from orders_core.services.lookups import location_named, must_be_qty, skus_named
from orders_core.store.inventory import Move, move
from orders_core.store.tables import (
    Bin,
    Location,
    Lot,
    LotLevel,
    Sku,
    StockLevel,
    StockProtection,
)
from orders_core.store.uow import UnitOfWork

# ------------------------------------------------------------------------------------------------------ lots


@dataclass(frozen=True)
class LotTake:
    """Units to take from one lot (None: the SKU has no lots)."""

    lot_id: int | None
    qty: int
    lot_code: str | None = None
    expiry_date: date | None = None


# What pick lists have promised to take from a lot and has not left yet.
_CLAIMED_LOTS = """
    SELECT pl.lot_id, SUM(CASE WHEN pl.status = 'open' THEN pl.qty ELSE pl.picked_qty END) AS claimed_qty
    FROM pick_list_line pl JOIN shipment_line sl ON sl.id = pl.shipment_line_id
        JOIN shipment s ON s.id = sl.shipment_id
    WHERE pl.lot_id IS NOT NULL AND pl.status <> 'cancelled' AND s.status IN ('released', 'picked', 'packed')
        AND s.location_id = :location_id
    GROUP BY pl.lot_id
"""
_LOTS = f"""
    SELECT l.id, l.sku_id, l.lot_code, l.expiry_date, b.on_hand_qty - COALESCE(c.claimed_qty, 0) AS free_qty
    FROM lot l JOIN lot_level b ON b.lot_id = l.id LEFT JOIN ({_CLAIMED_LOTS}) c ON c.lot_id = l.id
    WHERE b.location_id = :location_id AND l.sku_id IN :sku_ids AND b.on_hand_qty > 0
    ORDER BY l.sku_id, CASE WHEN l.expiry_date IS NULL THEN 1 ELSE 0 END, l.expiry_date, l.id
"""
_LOTS_FEFO = (
    text(_LOTS)
    .columns(Lot.id, Lot.sku_id, Lot.lot_code, Lot.expiry_date)
    .bindparams(bindparam("sku_ids", expanding=True))
)


def free_lots(
    uow: UnitOfWork, location_id: int, sku_ids: Sequence[int], *, with_expired: bool = False
) -> dict[int, list[LotTake]]:
    """SKU id -> its lots at a location that no pick list has claimed, first expired first. Expired ones only on request.

    A lot can be used through its expiry date.
    """
    found: dict[int, list[LotTake]] = defaultdict(list)
    if not sku_ids:
        return found
    if not uow.is_sqlite:  # two releases at once must not both take the last of a lot
        uow.conn.execute(
            text(
                "SELECT b.lot_id FROM lot_level b JOIN lot l ON l.id = b.lot_id WHERE b.location_id = :location_id"
                " AND l.sku_id IN :sku_ids ORDER BY b.lot_id FOR UPDATE OF b"
            ).bindparams(bindparam("sku_ids", expanding=True)),
            {"location_id": location_id, "sku_ids": sorted(sku_ids)},
        )
    for row in uow.conn.execute(_LOTS_FEFO, {"location_id": location_id, "sku_ids": sorted(sku_ids)}).all():
        is_expired = row.expiry_date is not None and row.expiry_date < uow.today
        if row.free_qty > 0 and (with_expired or not is_expired):
            found[row.sku_id].append(LotTake(row.id, int(row.free_qty), row.lot_code, row.expiry_date))
    return found


def take_fefo(lots: list[LotTake], qty: int) -> list[LotTake]:
    """Up to `qty` units from lots in the order given; the list is counted down, so that the next taker sees the rest.

    >>> lots = [LotTake(2, 3, "L2"), LotTake(3, 10, "L3")]
    >>> [(take.lot_code, take.qty) for take in take_fefo(lots, 6)], lots[0].qty
    ([('L2', 3), ('L3', 3)], 7)
    """
    taken = []
    while qty > 0 and lots:
        first = lots[0]
        part = min(qty, first.qty)
        taken.append(LotTake(first.lot_id, part, first.lot_code, first.expiry_date))
        qty -= part
        if part == first.qty:
            lots.pop(0)
        else:
            lots[0] = LotTake(first.lot_id, first.qty - part, first.lot_code, first.expiry_date)
    return taken


def lot_named(
    uow: UnitOfWork,
    sku: Any,
    lot_code: str | None,
    *,
    expiry_date: date | None = None,
    unit_cost_cents: int | None = None,
    is_new: bool = False,
) -> int | None:
    """The id of a SKU's lot, made when `is_new`; None for SKUs without lots.

    Raises:
        LotRefused: a lot is needed and not named or not known; or it has another expiry date.
    """
    if not sku.is_lot_tracked:
        if lot_code is not None:
            raise LotRefused(lot_code=lot_code, sku=sku.sku, problem="not_kept_by_lot")
        return None
    if lot_code is None:
        raise LotRefused(lot_code="–", sku=sku.sku, problem="lot_unnamed")
    found = uow.row(select(Lot.id, Lot.expiry_date).where(Lot.sku_id == sku.id, Lot.lot_code == lot_code))
    if found is not None:
        if expiry_date is not None and found.expiry_date != expiry_date:
            raise LotRefused(
                lot_code=lot_code,
                sku=sku.sku,
                problem="other_expiry",
                expiry_date=found.expiry_date,
                given_date=expiry_date,
            )
        return int(found.id)
    if not is_new:
        raise LotRefused(lot_code=lot_code, sku=sku.sku, problem="no_such_lot")
    if expiry_date is None and sku.shelf_life_days is not None:
        expiry_date = uow.today + timedelta(days=sku.shelf_life_days)
    lot_id = uow.new_id()
    uow.conn.execute(
        insert(Lot),
        {
            "id": lot_id,
            "sku_id": sku.id,
            "lot_code": lot_code,
            "expiry_date": expiry_date,
            "unit_cost_cents": unit_cost_cents,
            "created_at": uow.now,
        },
    )
    return lot_id


@dataclass(frozen=True)
class SoonToExpire:
    """Lots that expire within so many days (expired ones included), at one location or all."""

    days: int = 30
    location: str | None = None


@dataclass(frozen=True)
class ExpiringLot:
    """One lot at one location; `days_left` is negative once it has expired."""

    sku: str
    name: str
    location: str
    lot_code: str
    expiry_date: date
    days_left: int
    on_hand_qty: int


def soon_to_expire(uow: UnitOfWork, actor: Actor, command: SoonToExpire) -> list[ExpiringLot]:
    """Lots with stock that expire soon, first expired first."""
    actor.must("stock.move")
    query = (
        select(Sku.sku, Sku.name, Location.code, Lot.lot_code, Lot.expiry_date, LotLevel.on_hand_qty)
        .join(Lot, Lot.id == LotLevel.lot_id)
        .join(Sku, Sku.id == Lot.sku_id)
        .join(Location, Location.id == LotLevel.location_id)
        .where(LotLevel.on_hand_qty > 0, Lot.expiry_date <= uow.today + timedelta(days=command.days))
        .order_by(Lot.expiry_date, Sku.sku, Lot.lot_code, Location.code)
    )
    if command.location is not None:
        query = query.where(Location.id == location_named(uow, actor, command.location).id)
    return [
        ExpiringLot(
            row.sku,
            row.name,
            row.code,
            row.lot_code,
            row.expiry_date,
            (row.expiry_date - uow.today).days,
            row.on_hand_qty,
        )
        for row in uow.rows(query)
    ]


# ------------------------------------------------------------------- opening stock, adjustments, issue, scrap


@dataclass(frozen=True)
class StockIn:
    """Units of a SKU, base units. A SKU kept by lot names its lot; the expiry date comes with a new one."""

    sku: str
    qty: int
    lot_code: str | None = None
    expiry_date: date | None = None
    unit_cost_cents: int | None = None


@dataclass(frozen=True)
class OpeningStock:
    """What lies at a location when we begin (期初). Zero units make the level known, and nothing else."""

    location: str
    lines: Sequence[StockIn]
    idem_key: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class AdjustStock:
    """A signed correction by hand: + found, − lost. `note` says why."""

    location: str
    lines: Sequence[StockIn]
    note: str
    idem_key: str | None = None


@dataclass(frozen=True)
class IssueStock:
    """Goods taken out by hand (samples, own use); never what is promised to others."""

    location: str
    lines: Sequence[StockIn]
    note: str
    idem_key: str | None = None


@dataclass(frozen=True)
class ScrapStock:
    """Goods thrown away (报废): damaged or expired."""

    location: str
    lines: Sequence[StockIn]
    note: str
    idem_key: str | None = None


@dataclass(frozen=True)
class LevelNow:
    """A stock level after a command, base units."""

    sku: str
    location: str
    on_hand_qty: int
    reserved_qty: int
    backordered_qty: int
    inspecting_qty: int
    overcommitted_qty: int


@dataclass(frozen=True)
class StockChanged:
    """The levels a command touched, as they are now; a repeated command changes nothing and answers the same way."""

    levels: tuple[LevelNow, ...]
    is_repeat: bool = False


def opening_stock(uow: UnitOfWork, actor: Actor, command: OpeningStock) -> StockChanged:
    """Bring the stock of the first day in, as dated movements."""
    return _by_hand(uow, actor, command, verb="stock.opening", reason="opening", sign=1, smallest=0)


def adjust_stock(uow: UnitOfWork, actor: Actor, command: AdjustStock) -> StockChanged:
    """Correct stock by hand.

    Raises:
        QuantityExceeded: it would take more than is there and not promised.
    """
    return _by_hand(uow, actor, command, verb="stock.adjust", reason="adjust", sign=1, smallest=None)


def issue_stock(uow: UnitOfWork, actor: Actor, command: IssueStock) -> StockChanged:
    """Take goods out by hand. Raises QuantityExceeded for what is not there or is promised to an order."""
    return _by_hand(uow, actor, command, verb="stock.issue", reason="adjust", sign=-1, smallest=1)


def scrap_stock(uow: UnitOfWork, actor: Actor, command: ScrapStock) -> StockChanged:
    """Write goods off. Raises QuantityExceeded for what is not there or is promised to an order."""
    return _by_hand(uow, actor, command, verb="stock.scrap", reason="scrap", sign=-1, smallest=1)


def _by_hand(
    uow: UnitOfWork,
    actor: Actor,
    command: OpeningStock | AdjustStock | IssueStock | ScrapStock,
    *,
    verb: str,
    reason: str,
    sign: int,
    smallest: int | None,
) -> StockChanged:
    actor.must("stock.move")
    place = location_named(uow, actor, command.location)
    skus = skus_named(uow, [line.sku for line in command.lines])
    if is_repeat(uow, actor, verb, command):
        return StockChanged(levels_now(uow, place.id, [sku.id for sku in skus.values()]), is_repeat=True)
    if not place.is_stock_tracked:
        raise InvalidCommand(field="location", problem="stock_not_recorded", of=place.code)
    moves: list[Move] = []
    for number, line in enumerate(command.lines, 1):
        sku = skus[line.sku]
        if not sku.is_stock_tracked:
            raise InvalidCommand(field=f"lines[{number}].sku", problem="stock_not_recorded", of=sku.sku)
        if smallest is not None:
            must_be_qty(line.qty, f"line {number} ({line.sku})", smallest=smallest)
        elif line.qty == 0 or type(line.qty) is not int:
            raise InvalidCommand(field=f"lines[{number}].qty", problem="not_a_correction")
        if line.qty == 0:
            uow.conn.execute(_ADD_LEVEL, {"sku_id": sku.id, "location_id": place.id})
            continue
        moves += _moves_of(uow, place, sku, line, qty=sign * line.qty, reason=reason, note=command.note)
    if out := {m.sku_id for m in moves if m.qty < 0}:
        free_expired(uow, out)  # what a cart kept too long may leave
    bring_in(uow, actor, moves)
    for sku in skus.values():
        uow.audit(actor, verb, "sku", sku.id, facts={"location": place.code, "note": command.note})
    return StockChanged(levels_now(uow, place.id, [sku.id for sku in skus.values()]))


_ADD_LEVEL = text("INSERT INTO stock_level (sku_id, location_id) VALUES (:sku_id, :location_id) ON CONFLICT DO NOTHING")


def _moves_of(
    uow: UnitOfWork, place: Any, sku: Any, line: StockIn, *, qty: int, reason: str, note: str | None
) -> list[Move]:
    """One movement, or one per lot when units of a SKU with lots go out and none is named (first expired first)."""
    if qty < 0 and sku.is_lot_tracked and line.lot_code is None:
        lots = free_lots(uow, place.id, [sku.id], with_expired=True)[sku.id]
        takes = take_fefo(lots, -qty)
        there = sum(take.qty for take in takes)
        if there < -qty:
            raise QuantityExceeded(what=f"{reason} {sku.sku}@{place.code}", asked_qty=-qty, limit_qty=there)
        return [Move(sku.id, place.id, -take.qty, reason, lot_id=take.lot_id, note=note) for take in takes]
    lot_id = lot_named(
        uow,
        sku,
        line.lot_code,
        expiry_date=line.expiry_date,
        unit_cost_cents=line.unit_cost_cents,
        is_new=qty > 0,
    )
    return [Move(sku.id, place.id, qty, reason, lot_id=lot_id, unit_cost_cents=line.unit_cost_cents, note=note)]


def bring_in(uow: UnitOfWork, actor: Actor, moves: Sequence[Move]) -> list[int]:
    """Write movements, then give what came in to the orders that wait for it; returns the movement ids."""
    raised: set[Level] = {(m.sku_id, m.location_id) for m in moves if m.qty > 0 and m.state == "on_hand"}
    lock_waiting_orders(uow, raised)
    ids = move(uow, actor, moves)
    if raised:
        fill_waiting(uow, actor, raised)
    return ids


_LEVELS_NOW = (
    select(
        Sku.sku,
        Location.code,
        StockLevel.on_hand_qty,
        StockLevel.reserved_qty,
        StockLevel.backordered_qty,
        StockLevel.inspecting_qty,
        StockLevel.overcommitted_qty,
    )
    .join(Sku, Sku.id == StockLevel.sku_id)
    .join(Location, Location.id == StockLevel.location_id)
    .where(
        StockLevel.location_id == bindparam("location_id"), StockLevel.sku_id.in_(bindparam("sku_ids", expanding=True))
    )
    .order_by(Sku.sku)
)


def levels_now(uow: UnitOfWork, location_id: int, sku_ids: Sequence[int]) -> tuple[LevelNow, ...]:
    """The stock levels of SKUs at one location, by SKU code."""
    rows = uow.rows(_LEVELS_NOW, {"location_id": location_id, "sku_ids": sorted(set(sku_ids))})
    return tuple(LevelNow(*row) for row in rows)  # type: ignore[call-arg]


# ---------------------------------------------------------------------------------------------- stock policy


@dataclass(frozen=True)
class SetStockPolicy:
    """How much of a level is promised; None leaves a part as it is.

    `safety_qty` above zero is kept unpromised, below zero it is how deep the location may be backordered;
    `protected` are units held back per channel code (0 ends it).
    """

    sku: str
    location: str
    safety_qty: int | None = None
    is_backorderable: bool | None = None
    bin_code: str | None = None
    protected: Mapping[str, int] | None = None


def set_stock_policy(uow: UnitOfWork, actor: Actor, command: SetStockPolicy) -> LevelNow:
    """Set the safety stock, the backorder permission, the bin or the protection of one level."""
    actor.must("catalogue.change")
    place = location_named(uow, actor, command.location)
    sku = skus_named(uow, [command.sku])[command.sku]
    where = {"sku_id": sku.id, "location_id": place.id}
    uow.conn.execute(_ADD_LEVEL, where)
    values: dict[str, Any] = {"version": StockLevel.version + 1}
    if command.safety_qty is not None:
        values["safety_qty"] = command.safety_qty
    if command.is_backorderable is not None:
        values["is_backorderable"] = command.is_backorderable
    if command.bin_code is not None:
        values["bin_id"] = _bin(uow, place.id, command.bin_code)
    uow.conn.execute(
        update(StockLevel).where(StockLevel.sku_id == sku.id, StockLevel.location_id == place.id).values(**values)
    )
    for channel, qty in (command.protected or {}).items():
        _protect(uow, where, channel, qty)
    uow.audit(
        actor,
        "stock.policy",
        "sku",
        sku.id,
        facts={"location": place.code, "safety_qty": command.safety_qty, "is_backorderable": command.is_backorderable},
    )
    if command.safety_qty is not None or command.protected is not None:  # less kept back may serve who waits
        fill_waiting(uow, actor, {(sku.id, place.id)})
    return levels_now(uow, place.id, [sku.id])[0]


def _bin(uow: UnitOfWork, location_id: int, code: str) -> int:
    found = uow.row(select(Bin.id).where(Bin.location_id == location_id, Bin.code == code))
    if found is not None:
        return int(found.id)
    bin_id = uow.new_id()
    before = uow.conn.execute(
        text("SELECT COUNT(*) FROM bin WHERE location_id = :location_id AND code < :code"),
        {"location_id": location_id, "code": code},
    ).scalar_one()
    # The walk follows the codes until someone orders the bins by hand.
    uow.conn.execute(
        text("UPDATE bin SET walk_rank = walk_rank + 1 WHERE location_id = :location_id AND code > :code"),
        {"location_id": location_id, "code": code},
    )
    uow.conn.execute(insert(Bin), {"id": bin_id, "location_id": location_id, "code": code, "walk_rank": before})
    return bin_id


def _protect(uow: UnitOfWork, where: Mapping[str, int], channel: str, qty: int) -> None:
    channel_id = uow.conn.execute(text("SELECT id FROM channel WHERE code = :code"), {"code": channel}).scalar()
    if channel_id is None:
        raise NotFound(entity="channel", key=channel)
    uow.conn.execute(
        text(
            "DELETE FROM stock_protection WHERE sku_id = :sku_id AND location_id = :location_id"
            " AND channel_id = :channel_id"
        ),
        {**where, "channel_id": channel_id},
    )
    if qty > 0:
        uow.conn.execute(insert(StockProtection), {**where, "channel_id": channel_id, "protected_qty": qty})
