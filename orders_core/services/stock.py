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
from orders_core.errors import InvalidCommand, LotRefused, NotAllowed, NotFound, PermissionDenied, QuantityExceeded
from orders_core.services.fill import Level, fill_waiting, lock_waiting_orders
from orders_core.services.idempotency import is_repeat, keyed
from orders_core.services.lookups import current_rules, location_named, must_be_qty, must_work_at, skus_named
from orders_core.store.inventory import Move, move
from orders_core.store.tables import (
    Bin,
    Location,
    Lot,
    LotLevel,
    Sku,
    StockCount,
    StockCountLine,
    StockLevel,
    StockProtection,
    Transfer,
    TransferLine,
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
            raise LotRefused(lot_code=lot_code, sku=sku.sku, problem="this SKU is not kept by lot")
        return None
    if lot_code is None:
        raise LotRefused(lot_code="–", sku=sku.sku, problem="name the lot, this SKU is kept by lot")
    found = uow.row(select(Lot.id, Lot.expiry_date).where(Lot.sku_id == sku.id, Lot.lot_code == lot_code))
    if found is not None:
        if expiry_date is not None and found.expiry_date != expiry_date:
            raise LotRefused(
                lot_code=lot_code, sku=sku.sku, problem=f"it expires {found.expiry_date}, not {expiry_date}"
            )
        return int(found.id)
    if not is_new:
        raise LotRefused(lot_code=lot_code, sku=sku.sku, problem="there is no such lot")
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
    if is_repeat(uow, verb, command):
        return StockChanged(levels_now(uow, place.id, [sku.id for sku in skus.values()]), is_repeat=True)
    if not place.is_stock_tracked:
        raise InvalidCommand(field="location", problem=f"stock of {place.code} is not recorded")
    moves: list[Move] = []
    for number, line in enumerate(command.lines, 1):
        sku = skus[line.sku]
        if not sku.is_stock_tracked:
            raise InvalidCommand(field=f"lines[{number}].sku", problem=f"stock of {sku.sku} is not recorded")
        if smallest is not None:
            must_be_qty(line.qty, f"line {number} ({line.sku})", smallest=smallest)
        elif line.qty == 0 or type(line.qty) is not int:
            raise InvalidCommand(field=f"lines[{number}].qty", problem="a correction is a whole number, + or −")
        if line.qty == 0:
            uow.conn.execute(_ADD_LEVEL, {"sku_id": sku.id, "location_id": place.id})
            continue
        moves += _moves_of(uow, place, sku, line, qty=sign * line.qty, reason=reason, note=command.note)
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
    rank = uow.conn.execute(select(Bin.id).where(Bin.location_id == location_id, Bin.code < code)).all()
    uow.conn.execute(insert(Bin), {"id": bin_id, "location_id": location_id, "code": code, "walk_rank": len(rank)})
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


# ------------------------------------------------------------------------------------------------- transfers


@dataclass(frozen=True)
class TransferQty:
    """Units of one SKU to move."""

    sku: str
    qty: int
    lot_code: str | None = None


@dataclass(frozen=True)
class PlanTransfer:
    """Goods to go from one location to another. `is_staged` lets it wait for goods that are still to come."""

    from_location: str
    to_location: str
    lines: Sequence[TransferQty]
    is_staged: bool = False
    idem_key: str | None = None


@dataclass(frozen=True)
class TransferState:
    """A transfer as it is."""

    transfer_id: int
    number: str
    status: str
    is_repeat: bool = False


@dataclass(frozen=True)
class ShipTransfer:
    number: str


@dataclass(frozen=True)
class ReceiveTransfer:
    """What arrived, per SKU; everything that was sent when empty."""

    number: str
    received: Mapping[str, int] | None = None


@dataclass(frozen=True)
class CancelTransfer:
    number: str


def plan_transfer(uow: UnitOfWork, actor: Actor, command: PlanTransfer) -> TransferState:
    """Plan to move goods; they leave the stock with `ship_transfer`.

    Raises:
        QuantityExceeded: less is free at the source than asked for, and it is not staged.
    """
    actor.must("stock.move")
    source = location_named(uow, actor, command.from_location)
    target = uow.row(select(Location.__table__).where(Location.code == command.to_location))
    if target is None:
        raise NotFound(entity="location", key=command.to_location)
    if target.id == source.id:
        raise InvalidCommand(field="to_location", problem=f"{target.code} is where the goods are")
    once = keyed(uow, Transfer, command)
    if once.row is not None:
        return TransferState(once.row.id, once.row.number, once.row.status, is_repeat=True)
    skus = skus_named(uow, [line.sku for line in command.lines])
    for number, line in enumerate(command.lines, 1):
        must_be_qty(line.qty, f"line {number} ({line.sku})")
    if not command.is_staged:
        _must_be_free(uow, source, skus, command.lines)
    transfer_id = uow.new_id(1 + len(command.lines))
    number_ = uow.new_number("TR")
    status = "staged" if command.is_staged else "planned"
    uow.conn.execute(
        insert(Transfer),
        {
            "id": transfer_id,
            "number": number_,
            "from_location_id": source.id,
            "to_location_id": target.id,
            "status": status,
            "created_at": uow.now,
            **once.columns,
        },
    )
    uow.conn.execute(
        insert(TransferLine),
        [
            {
                "id": transfer_id + i,
                "transfer_id": transfer_id,
                "sku_id": skus[line.sku].id,
                "lot_id": None if line.lot_code is None else lot_named(uow, skus[line.sku], line.lot_code),
                "qty": line.qty,
            }
            for i, line in enumerate(command.lines, 1)
        ],
    )
    uow.changed("transfer", transfer_id, 1, "insert")
    uow.audit(actor, "transfer.plan", "transfer", transfer_id, version=1, facts={"number": number_, "status": status})
    return TransferState(transfer_id, number_, status)


def _must_be_free(uow: UnitOfWork, source: Any, skus: Mapping[str, Any], lines: Sequence[TransferQty]) -> None:
    asked: dict[str, int] = defaultdict(int)
    for line in lines:
        asked[line.sku] += line.qty
    free = {
        level.sku: level.on_hand_qty - level.reserved_qty
        for level in levels_now(uow, source.id, [skus[code].id for code in asked])
    }
    for code, qty in asked.items():
        if skus[code].is_stock_tracked and source.is_stock_tracked and qty > free.get(code, 0):
            raise QuantityExceeded(
                what=f"transfer {code}@{source.code}", asked_qty=qty, limit_qty=max(0, free.get(code, 0))
            )


def ship_transfer(uow: UnitOfWork, actor: Actor, command: ShipTransfer) -> TransferState:
    """The goods leave the source; on their way they belong to no location's stock.

    Raises:
        QuantityExceeded: meanwhile they are promised to orders, or have not come yet (staged).
    """
    actor.must("stock.move")
    transfer, lines = _transfer(uow, command.number)
    if transfer.status in ("in_transit", "received"):
        return TransferState(transfer.id, transfer.number, transfer.status, is_repeat=True)
    _must_be(transfer, "ship", ("staged", "planned"))
    must_work_at(actor, transfer.from_code)
    moves: list[Move] = []
    for line in lines:
        takes = [LotTake(line.lot_id, line.qty)]
        if line.is_lot_tracked and line.lot_id is None:
            takes = take_fefo(free_lots(uow, transfer.from_location_id, [line.sku_id])[line.sku_id], line.qty)
            there = sum(take.qty for take in takes)
            if there < line.qty:
                raise QuantityExceeded(
                    what=f"transfer {line.sku}@{transfer.from_code}", asked_qty=line.qty, limit_qty=there
                )
        if line.is_stock_tracked and transfer.from_tracked:
            moves += [
                Move(
                    line.sku_id,
                    transfer.from_location_id,
                    -take.qty,
                    "transfer_out",
                    lot_id=take.lot_id,
                    source="transfer",
                    source_id=transfer.id,
                )
                for take in takes
            ]
        _ship_transfer_line(uow, transfer.id, line, takes)
    move(uow, actor, moves)
    return _advance(uow, actor, transfer, "in_transit", "transfer.ship", shipped_at=uow.now)


def _ship_transfer_line(uow: UnitOfWork, transfer_id: int, line: Any, takes: Sequence[LotTake]) -> None:
    """The line is sent; when it took several lots, it becomes one line per lot, so that they arrive as such."""
    first, *others = takes
    uow.conn.execute(
        update(TransferLine)
        .where(TransferLine.id == line.id)
        .values(lot_id=first.lot_id, qty=first.qty, shipped_qty=first.qty)
    )
    for take in others:
        uow.conn.execute(
            insert(TransferLine),
            {
                "id": uow.new_id(),
                "transfer_id": transfer_id,
                "sku_id": line.sku_id,
                "lot_id": take.lot_id,
                "qty": take.qty,
                "shipped_qty": take.qty,
            },
        )


def receive_transfer(uow: UnitOfWork, actor: Actor, command: ReceiveTransfer) -> TransferState:
    """The goods arrive; orders that wait there get theirs. What was sent and did not arrive stays on the line.

    Raises:
        QuantityExceeded: more than was sent.
    """
    actor.must("stock.receive")
    transfer, lines = _transfer(uow, command.number)
    if transfer.status == "received":
        return TransferState(transfer.id, transfer.number, transfer.status, is_repeat=True)
    _must_be(transfer, "receive", ("in_transit",))
    must_work_at(actor, transfer.to_code)
    left = None if command.received is None else dict(command.received)
    moves: list[Move] = []
    for line in lines:
        qty = line.shipped_qty if left is None else min(line.shipped_qty, left.get(line.sku, 0))
        if left is not None and line.sku in left:
            left[line.sku] -= qty
        if qty == 0:
            continue
        uow.conn.execute(update(TransferLine).where(TransferLine.id == line.id).values(received_qty=qty))
        if line.is_stock_tracked and transfer.to_tracked:
            moves.append(
                Move(
                    line.sku_id,
                    transfer.to_location_id,
                    qty,
                    "transfer_in",
                    lot_id=line.lot_id,
                    source="transfer",
                    source_id=transfer.id,
                )
            )
    for sku, qty in (left or {}).items():
        if qty > 0:
            sent = sum(line.shipped_qty for line in lines if line.sku == sku)
            raise QuantityExceeded(what=f"{transfer.number} {sku}", asked_qty=sent + qty, limit_qty=sent)
    bring_in(uow, actor, moves)
    return _advance(uow, actor, transfer, "received", "transfer.receive", received_at=uow.now)


def cancel_transfer(uow: UnitOfWork, actor: Actor, command: CancelTransfer) -> TransferState:
    """Call a transfer off that has not left."""
    actor.must("stock.move")
    transfer, _ = _transfer(uow, command.number)
    if transfer.status == "cancelled":
        return TransferState(transfer.id, transfer.number, transfer.status, is_repeat=True)
    _must_be(transfer, "cancel", ("staged", "planned"))
    return _advance(uow, actor, transfer, "cancelled", "transfer.cancel")


_TRANSFER = text(
    "SELECT t.id, t.number, t.status, t.version, t.from_location_id, t.to_location_id, a.code AS from_code,"
    " b.code AS to_code, a.is_stock_tracked AS from_tracked, b.is_stock_tracked AS to_tracked FROM transfer t"
    " JOIN location a ON a.id = t.from_location_id JOIN location b ON b.id = t.to_location_id WHERE t.number = :number"
)
_TRANSFER_LOCKED = text(f"{_TRANSFER.text} FOR UPDATE OF t")
_TRANSFER_LINES = (
    select(
        TransferLine.id,
        TransferLine.sku_id,
        TransferLine.lot_id,
        TransferLine.qty,
        TransferLine.shipped_qty,
        Sku.sku,
        Sku.is_lot_tracked,
        Sku.is_stock_tracked,
    )
    .join(Sku, Sku.id == TransferLine.sku_id)
    .where(TransferLine.transfer_id == bindparam("transfer_id"))
    .order_by(TransferLine.sku_id, TransferLine.id)
)


def _transfer(uow: UnitOfWork, number: str) -> tuple[Any, Sequence[Any]]:
    row = uow.row(_TRANSFER if uow.is_sqlite else _TRANSFER_LOCKED, {"number": number})
    if row is None:
        raise NotFound(entity="transfer", key=number)
    return row, uow.rows(_TRANSFER_LINES, {"transfer_id": row.id})


def _must_be(document: Any, action: str, statuses: Sequence[str], entity: str = "transfer") -> None:
    if document.status not in statuses:
        raise NotAllowed(
            action=action,
            entity=entity,
            key=document.number,
            status=document.status,
            reason=f"it must be {' or '.join(statuses)}",
            reason_code="stage",
        )


def _advance(uow: UnitOfWork, actor: Actor, transfer: Any, status: str, action: str, **at: Any) -> TransferState:
    version = transfer.version + 1
    uow.conn.execute(update(Transfer).where(Transfer.id == transfer.id).values(status=status, version=version, **at))
    uow.changed("transfer", transfer.id, version)
    uow.audit(actor, action, "transfer", transfer.id, version=version, facts={"number": transfer.number})
    return TransferState(transfer.id, transfer.number, status)


# ---------------------------------------------------------------------------------------------------- counts


@dataclass(frozen=True)
class StartCount:
    """A count (盘点) of a location begins; shipping goes on meanwhile."""

    location: str
    idem_key: str | None = None


@dataclass(frozen=True)
class RecordCount:
    """What was found of one SKU (and lot). Counting it again replaces the first figure."""

    count: str
    sku: str
    counted_qty: int
    lot_code: str | None = None


@dataclass(frozen=True)
class PostCount:
    count: str


@dataclass(frozen=True)
class ApproveCount:
    """A second person's yes (or no) to large differences."""

    count: str
    is_approved: bool = True


@dataclass(frozen=True)
class CountDifference:
    """Counted less expected at the moment of counting, base units."""

    sku: str
    lot_code: str | None
    expected_qty: int
    counted_qty: int

    @property
    def difference_qty(self) -> int:
        return self.counted_qty - self.expected_qty


@dataclass(frozen=True)
class CountState:
    """A count as it is, with its differences so far."""

    count_id: int
    number: str
    status: str
    differences: tuple[CountDifference, ...] = ()
    is_repeat: bool = False


def start_count(uow: UnitOfWork, actor: Actor, command: StartCount) -> CountState:
    """Open a count."""
    actor.must("stock.count")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, StockCount, command)
    if once.row is not None:
        return CountState(once.row.id, once.row.number, once.row.status, is_repeat=True)
    count_id, number = uow.new_id(), uow.new_number("CO")
    uow.conn.execute(
        insert(StockCount),
        {
            "id": count_id,
            "number": number,
            "location_id": place.id,
            "status": "open",
            "started_at": uow.now,
            "counted_by": actor.name,
            **once.columns,
        },
    )
    uow.changed("stock_count", count_id, 1, "insert")
    uow.audit(actor, "count.start", "stock_count", count_id, version=1, facts={"location": place.code})
    return CountState(count_id, number, "open")


def record_count(uow: UnitOfWork, actor: Actor, command: RecordCount) -> CountDifference:
    """Note what was found; what should have been there is on hand at this very moment.

    So goods that leave before or after do not show up as a difference. The level's lock makes it one moment.
    """
    actor.must("stock.count")
    count = _count(uow, command.count)
    _must_be(count, "count", ("open",), "count")
    must_be_qty(command.counted_qty, command.sku, smallest=0)
    sku = skus_named(uow, [command.sku])[command.sku]
    lot_id = lot_named(uow, sku, command.lot_code)
    expected = _on_hand(uow, sku.id, count.location_id, lot_id)
    values = {"expected_qty": expected, "counted_qty": command.counted_qty, "counted_at": uow.now}
    known = uow.row(
        select(StockCountLine.id).where(
            StockCountLine.stock_count_id == count.id,
            StockCountLine.sku_id == sku.id,
            StockCountLine.lot_id.is_(None) if lot_id is None else StockCountLine.lot_id == lot_id,
        )
    )
    if known is not None:
        uow.conn.execute(update(StockCountLine).where(StockCountLine.id == known.id).values(**values))
    else:
        uow.conn.execute(
            insert(StockCountLine),
            {"id": uow.new_id(), "stock_count_id": count.id, "sku_id": sku.id, "lot_id": lot_id, **values},
        )
    _set_count(uow, count, "open", counted_by=actor.name)
    return CountDifference(command.sku, command.lot_code, expected, command.counted_qty)


def post_count(uow: UnitOfWork, actor: Actor, command: PostCount) -> CountState:
    """Book the differences; a large one makes the whole count wait for a second person instead."""
    actor.must("stock.count")
    count = _count(uow, command.count)
    differences = _differences(uow, count.id)
    if count.status in ("posted", "waiting_approval"):
        return CountState(count.id, count.number, count.status, _shown(differences), is_repeat=True)
    _must_be(count, "post", ("open",), "count")
    limit = current_rules(uow).counting.approval_over_qty
    if any(abs(row.counted_qty - row.expected_qty) > limit for row in differences):
        _set_count(uow, count, "waiting_approval")
        uow.audit(actor, "count.wait", "stock_count", count.id, facts={"approval_over_qty": limit})
        return CountState(count.id, count.number, "waiting_approval", _shown(differences))
    return _post(uow, actor, count, differences)


def approve_count(uow: UnitOfWork, actor: Actor, command: ApproveCount) -> CountState:
    """Book a count with large differences, or refuse it; not by the person who counted.

    Raises:
        PermissionDenied: the same person counted.
    """
    actor.must("stock.count.approve")
    count = _count(uow, command.count)
    differences = _differences(uow, count.id)
    if count.status == "posted" and command.is_approved:
        return CountState(count.id, count.number, count.status, _shown(differences), is_repeat=True)
    _must_be(count, "approve", ("waiting_approval",), "count")
    if actor.name == count.counted_by:
        raise PermissionDenied(actor=actor.name, permission="approve a count of their own")
    if not command.is_approved:
        _set_count(uow, count, "cancelled", approved_by=actor.name)
        uow.audit(actor, "count.refuse", "stock_count", count.id)
        return CountState(count.id, count.number, "cancelled", _shown(differences))
    return _post(uow, actor, count, differences, approved_by=actor.name)


def _post(
    uow: UnitOfWork, actor: Actor, count: Any, differences: Sequence[Any], approved_by: str | None = None
) -> CountState:
    moves = [
        Move(
            row.sku_id,
            count.location_id,
            row.counted_qty - row.expected_qty,
            "count",
            lot_id=row.lot_id,
            source="stock_count",
            source_id=count.id,
            is_fact=True,
        )
        for row in differences
        if row.counted_qty != row.expected_qty
    ]
    bring_in(uow, actor, moves)
    _set_count(uow, count, "posted", posted_at=uow.now, approved_by=approved_by)
    uow.audit(actor, "count.post", "stock_count", count.id, facts={"differences": len(moves)})
    return CountState(count.id, count.number, "posted", _shown(differences))


def _count(uow: UnitOfWork, number: str) -> Any:
    query = select(StockCount.__table__).where(StockCount.number == number)
    row = uow.row(query if uow.is_sqlite else query.with_for_update())
    if row is None:
        raise NotFound(entity="count", key=number)
    return row


def _set_count(uow: UnitOfWork, count: Any, status: str, **values: Any) -> None:
    version = uow.conn.execute(
        update(StockCount)
        .where(StockCount.id == count.id)
        .values(status=status, version=StockCount.version + 1, **values)
        .returning(StockCount.version)
    ).scalar_one()
    uow.changed("stock_count", count.id, version)


def _on_hand(uow: UnitOfWork, sku_id: int, location_id: int, lot_id: int | None) -> int:
    level = select(StockLevel.on_hand_qty).where(StockLevel.sku_id == sku_id, StockLevel.location_id == location_id)
    if lot_id is not None:
        level = select(LotLevel.on_hand_qty).where(LotLevel.lot_id == lot_id, LotLevel.location_id == location_id)
    row = uow.row(level if uow.is_sqlite else level.with_for_update())
    return 0 if row is None else int(row.on_hand_qty)


def _differences(uow: UnitOfWork, count_id: int) -> Sequence[Any]:
    return uow.rows(
        select(
            StockCountLine.sku_id,
            StockCountLine.lot_id,
            StockCountLine.expected_qty,
            StockCountLine.counted_qty,
            Sku.sku,
            Lot.lot_code,
        )
        .join(Sku, Sku.id == StockCountLine.sku_id)
        .outerjoin(Lot, Lot.id == StockCountLine.lot_id)
        .where(StockCountLine.stock_count_id == count_id)
        .order_by(StockCountLine.id)
    )


def _shown(rows: Sequence[Any]) -> tuple[CountDifference, ...]:
    return tuple(CountDifference(row.sku, row.lot_code, row.expected_qty, row.counted_qty) for row in rows)
