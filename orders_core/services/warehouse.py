"""From a planned shipment to goods that have left: release, pick, pack, ship, take back, confirm the delivery.

A shipment goes planned → released (on a pick list) → picked → packed → shipped → delivered. A small shop may ship a
planned one directly. What did not go moves to one further planned shipment of the same location.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.lifecycle import REASONS, must_allow, why_not
from orders_core.domain.permissions import Actor
from orders_core.errors import (
    LotRefused,
    NotAllowed,
    NotFound,
    QuantityExceeded,
    WrongScan,
)
from orders_core.services.fill import hand_on
from orders_core.services.idempotency import is_repeat, keyed
from orders_core.services.lookups import location_named, must_be_qty, must_work_at
from orders_core.services.orders_state import sync_order
from orders_core.services.review import rules_of
from orders_core.services.shipments import close_waves, settle_shipments, touch_shipments
from orders_core.services.shortage import tell_delay
from orders_core.services.stock import LotTake, free_lots, take_fefo
from orders_core.services.supply import request_units
from orders_core.store.inventory import FREE_QTY, TODAY, Change, Move, move, promise, release_expired_holds
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    Bin,
    Category,
    Location,
    Lot,
    Order,
    OrderLine,
    PickList,
    PickListLine,
    Product,
    Shipment,
    ShipmentLine,
    Sku,
    SkuBarcode,
    SkuUnit,
    StockLevel,
    Wave,
)
from orders_core.store.uow import UnitOfWork

_SHIPMENTS = (
    select(Shipment.__table__, Location.code.label("location"), Location.is_stock_tracked)
    .join(Location, Location.id == Shipment.location_id)
    .order_by(Shipment.id)
)
_SHIPMENT = Prepared(_SHIPMENTS.where(Shipment.number == bindparam("number")))
_SHIPMENTS_BY_ID = Prepared(_SHIPMENTS.where(Shipment.id.in_(bindparam("ids", expanding=True))))
_DUE_SHIPMENTS = Prepared(
    _SHIPMENTS.where(
        Shipment.location_id == bindparam("location_id"),
        Shipment.status == "planned",
        (Shipment.planned_date.is_(None)) | (Shipment.planned_date <= bindparam("today")),
    )
)
SHIPMENT_LINES = Prepared(
    select(
        ShipmentLine.__table__,
        OrderLine.order_id,
        OrderLine.line_no,
        OrderLine.unit,
        OrderLine.units_per_pack,
        OrderLine.ordered_qty,
        OrderLine.cancelled_qty,
        Order.number.label("order_number"),
        Order.status.label("order_status"),
        Order.channel_id,
        Order.language,
        Order.priority,
        Order.payment_method,
        Order.total_cents,
        Order.paid_cents,
        Order.refunded_cents,
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.base_unit,
        Sku.supply_mode,
        Sku.is_stock_tracked,
        Sku.is_lot_tracked,
    )
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .join(Order, Order.id == OrderLine.order_id)
    .join(Sku, Sku.id == ShipmentLine.sku_id)
    .where(ShipmentLine.shipment_id.in_(bindparam("shipment_ids", expanding=True)), ~ShipmentLine.is_withdrawn)
    .order_by(ShipmentLine.shipment_id, Order.id, OrderLine.line_no)
)
_LOCK_ORDERS = text(
    "SELECT o.id FROM orders o WHERE o.id IN (SELECT l.order_id FROM order_line l JOIN shipment_line sl"
    " ON sl.order_line_id = l.id WHERE sl.shipment_id IN :shipment_ids) ORDER BY o.id FOR NO KEY UPDATE"
).bindparams(bindparam("shipment_ids", expanding=True))
_LOCK_SHIPMENTS = text("SELECT id FROM shipment WHERE id IN :shipment_ids ORDER BY id FOR NO KEY UPDATE").bindparams(
    bindparam("shipment_ids", expanding=True)
)


def _lock(uow: UnitOfWork, shipment_ids: Iterable[int]) -> None:
    """Orders, then shipments: the order in which everybody locks. SQLite has one writer anyway."""
    ids = sorted(set(shipment_ids))
    if ids and not uow.is_sqlite:
        uow.conn.execute(_LOCK_ORDERS, {"shipment_ids": ids})
        uow.conn.execute(_LOCK_SHIPMENTS, {"shipment_ids": ids})


def load_shipment(uow: UnitOfWork, actor: Actor, number: str) -> tuple[Any, Sequence[Any]]:
    """A shipment and its lines, locked; refused where the actor does not work."""
    row = uow.row(_SHIPMENT, {"number": number})
    if row is None:
        raise NotFound(entity="shipment", key=number)
    must_work_at(actor, row.location)
    if not uow.is_sqlite:
        _lock(uow, [row.id])
        row = uow.rows(_SHIPMENT, {"number": number})[0]
    return row, uow.rows(SHIPMENT_LINES, {"shipment_ids": [row.id]})


def wrong_stage(action: str, shipment: Any, reason: str, **facts: Any) -> NotAllowed:
    """The refusal of an action on a shipment or pick list; `reason` is a code of `problems.py` over `facts`."""
    return NotAllowed(
        action=action,
        entity="shipment",
        key=shipment.number,
        status=shipment.status,
        reason=reason,
        reason_code="stage",
        **facts,
    )


def is_tracked(shipment: Any, line: Any) -> bool:
    return bool(shipment.is_stock_tracked and line.is_stock_tracked)


# --------------------------------------------------------------------------------------------------- release


@dataclass(frozen=True)
class Release:
    """Hand shipments to the warehouse: the ones named, or every planned one that is due and can go.

    `shipments_per_list` orders are picked in one walk.
    """

    location: str
    shipments: Sequence[str] | None = None
    shipments_per_list: int = 10
    cutoff_at: datetime | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A shipment that stays where it is, and why."""

    shipment: str
    reason_code: str
    reason: str


@dataclass(frozen=True)
class Released:
    """The wave with its pick lists, the shipments on them, and what was skipped. No wave when nothing could go."""

    wave: str | None
    pick_lists: tuple[str, ...]
    shipments: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    is_repeat: bool = False


def release(uow: UnitOfWork, actor: Actor, command: Release) -> Released:
    """Make pick lists for what is reserved, sorted by category and bin; lots first expired first.

    Raises:
        NotFound: the location, or a shipment named, is not there.
    """
    actor.must("shipment.release")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, PickList, command)
    if once.row is not None:
        return _released_before(uow, once.row)
    planned = _planned(uow, place, command)
    _lock(uow, [row.id for row in planned])
    lines: dict[int, list[Any]] = defaultdict(list)
    for line in uow.rows(SHIPMENT_LINES, {"shipment_ids": [row.id for row in planned]}) if planned else ():
        lines[line.shipment_id].append(line)
    going, skipped = [], []
    for row in planned if uow.is_sqlite else uow.rows(_SHIPMENTS_BY_ID, {"ids": [row.id for row in planned]}):
        code = _why_not_released(row, lines[row.id])
        if code is None:
            going.append(row)
        else:
            skipped.append(Skipped(row.number, code, REASONS[code][0]))
    if not going:
        return Released(None, (), (), tuple(skipped))
    going.sort(key=lambda row: (-max(x.priority for x in lines[row.id]), row.planned_date or uow.today, row.id))
    wave, numbers, listed = _write_lists(uow, place, going, lines, command, once.columns)
    skipped += [Skipped(row.number, "no_stock", REASONS["no_stock"][0]) for row in going if row.id not in listed]
    going = [row for row in going if row.id in listed]  # a SKU whose lots have all expired has nothing to pick
    ids = [row.id for row in going]
    for shipment in uow.rows(_RELEASE, {"ids": ids, "now": uow.now}):
        uow.changed("shipment", shipment.id, shipment.version)
    for order_id in sorted({line.order_id for row in going for line in lines[row.id]}):
        sync_order(uow, order_id)
    for row in going:
        for order_id in sorted({line.order_id for line in lines[row.id]}):
            uow.audit(actor, "shipment.release", "orders", order_id, facts={"shipment": row.number, "wave": wave})
    return Released(wave, tuple(numbers), tuple(row.number for row in going), tuple(skipped))


_RELEASE = Prepared(
    update(Shipment)
    .where(Shipment.id.in_(bindparam("ids", expanding=True)))
    .values(status="released", released_at=bindparam("now"), version=Shipment.version + 1)
    .returning(Shipment.id, Shipment.version)
)


def _planned(uow: UnitOfWork, place: Any, command: Release) -> Sequence[Any]:
    if command.shipments is None:
        return uow.rows(_DUE_SHIPMENTS, {"location_id": place.id, "today": uow.today})
    found = uow.rows(_SHIPMENTS.where(Shipment.location_id == place.id, Shipment.number.in_(list(command.shipments))))
    unknown = sorted(set(command.shipments) - {row.number for row in found})
    if unknown:
        raise NotFound(entity=f"shipment at {place.code}", key=", ".join(unknown), keys=unknown)
    return found


def _why_not_released(shipment: Any, lines: Sequence[Any]) -> str | None:
    if shipment.status == "cancelled":
        return "cancelled"
    if shipment.status in ("shipped", "delivered", "exception"):
        return "gone"
    if shipment.status != "planned":
        return "in_warehouse"
    for line in lines:
        code = why_not("release", line.order_status)
        if code is not None:
            return code
    return None if any(to_list(shipment, line) for line in lines) else "no_stock"


def to_list(shipment: Any, line: Any) -> int:
    """Base units of a shipment line that can be picked now."""
    return int(line.reserved_qty if is_tracked(shipment, line) else line.qty)


def _released_before(uow: UnitOfWork, first: Any) -> Released:
    lists = uow.rows(
        select(PickList.id, PickList.number).where(PickList.wave_id == first.wave_id).order_by(PickList.id)
    )
    wave = uow.conn.execute(select(Wave.number).where(Wave.id == first.wave_id)).scalar_one()
    shipments = uow.rows(
        select(Shipment.number)
        .distinct()
        .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
        .join(PickListLine, PickListLine.shipment_line_id == ShipmentLine.id)
        .where(PickListLine.pick_list_id.in_([row.id for row in lists]))
        .order_by(Shipment.number)
    )
    return Released(wave, tuple(x.number for x in lists), tuple(x.number for x in shipments), (), is_repeat=True)


_PLACES = Prepared(
    select(Sku.id, Category.code.label("category"), Bin.code.label("bin_code"), Bin.walk_rank)
    .select_from(Sku)
    .join(Product, Product.id == Sku.product_id)
    .outerjoin(Category, Category.id == Product.category_id)
    .outerjoin(StockLevel, (StockLevel.sku_id == Sku.id) & (StockLevel.location_id == bindparam("location_id")))
    .outerjoin(Bin, Bin.id == StockLevel.bin_id)
    .where(Sku.id.in_(bindparam("sku_ids", expanding=True)))
)


def _write_lists(
    uow: UnitOfWork,
    place: Any,
    going: Sequence[Any],
    lines: Mapping[int, Sequence[Any]],
    command: Release,
    key: Mapping[str, str | None],
) -> tuple[str | None, list[str], set[int]]:
    """Insert a wave and its pick lists, the first one with the command's key; their numbers, the shipments on them."""
    per_list, wave_id = max(1, command.shipments_per_list), uow.new_id()
    every = [line for row in going for line in lines[row.id]]
    places = {
        row.id: row
        for row in uow.rows(_PLACES, {"location_id": place.id, "sku_ids": sorted({x.sku_id for x in every})})
    }
    by_lot = {x.sku_id for x in every if x.is_lot_tracked and x.is_stock_tracked and place.is_stock_tracked}
    lots = free_lots(uow, place.id, sorted(by_lot))
    list_rows: list[dict[str, Any]] = []
    line_rows: list[dict[str, Any]] = []
    listed: set[int] = set()
    for start in range(0, len(going), per_list):
        picks: list[tuple[tuple[Any, ...], Any, LotTake]] = []
        for row in going[start : start + per_list]:
            for line in lines[row.id]:
                qty = to_list(row, line)
                takes = take_fefo(lots[line.sku_id], qty) if line.sku_id in by_lot else [LotTake(None, qty)]
                where = places[line.sku_id]
                walk = (
                    where.category or "",
                    where.walk_rank if where.walk_rank is not None else 1 << 30,
                    where.bin_code or "",
                    line.sku,
                )
                picks += [((*walk, take.expiry_date or date.max, line.id), line, take) for take in takes if take.qty]
        if not picks:
            continue
        listed |= {line.shipment_id for _, line, _ in picks}
        list_id, number = uow.new_id(), uow.new_number("PL")
        list_rows.append(
            {
                "id": list_id,
                "number": number,
                "wave_id": wave_id,
                "location_id": place.id,
                "status": "open",
                "created_at": uow.now,
                "idem_key": None,
                "body_hash": None,
                **({} if list_rows else key),
            }
        )
        uow.changed("pick_list", list_id, 1, "insert")
        picks.sort(key=lambda pick: pick[0])
        first = uow.new_id(len(picks))
        line_rows += [
            {
                "id": first + i,
                "pick_list_id": list_id,
                "position": i + 1,
                "shipment_line_id": line.id,
                "sku_id": line.sku_id,
                "lot_id": take.lot_id,
                "bin_code": places[line.sku_id].bin_code,
                "qty": take.qty,
            }
            for i, (_, line, take) in enumerate(picks)
        ]
    if not list_rows:
        return None, [], listed
    wave = uow.new_number("WV")
    uow.write(
        _INSERT_WAVE,
        [
            {
                "id": wave_id,
                "number": wave,
                "location_id": place.id,
                "status": "released",
                "cutoff_at": command.cutoff_at,
                "created_at": uow.now,
            }
        ],
    )
    uow.changed("wave", wave_id, 1, "insert")
    uow.write(_INSERT_LISTS, list_rows)
    uow.write(_INSERT_PICK_LINES, line_rows)
    return wave, [row["number"] for row in list_rows], listed


_INSERT_WAVE = Prepared(insert(Wave.__table__))  # type: ignore[arg-type]
_INSERT_LISTS = Prepared(insert(PickList.__table__))  # type: ignore[arg-type]
_INSERT_PICK_LINES = Prepared(insert(PickListLine.__table__))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ pick


@dataclass(frozen=True)
class Scan:
    """A barcode (a piece or a box) or SKU code held under the scanner, `qty` times; the lot where goods have lots."""

    pick_list: str
    code: str
    qty: int = 1
    lot_code: str | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class Tick:
    """A line of the list ticked off: all that is listed, or `qty` base units of it in all."""

    pick_list: str
    position: int
    qty: int | None = None


@dataclass(frozen=True)
class PickAll:
    """Everything still open on the list was found as listed."""

    pick_list: str


@dataclass(frozen=True)
class ShortPick:
    """Only `found_qty` base units of a line were found, counting what was picked before."""

    pick_list: str
    position: int
    found_qty: int = 0
    note: str | None = None


@dataclass(frozen=True)
class PickProgress:
    """Where the list stands: base units picked and still open, and the orders that may not be picked."""

    pick_list: str
    status: str
    picked_qty: int
    open_qty: int
    short_qty: int
    stopped_orders: tuple[str, ...] = ()
    is_repeat: bool = False


_PICK_LINES = Prepared(
    select(
        PickListLine.__table__,
        ShipmentLine.shipment_id,
        ShipmentLine.order_line_id,
        Shipment.number.label("shipment"),
        Shipment.location_id,
        OrderLine.order_id,
        OrderLine.line_no,
        OrderLine.unit,
        OrderLine.units_per_pack,
        OrderLine.ordered_qty,
        OrderLine.cancelled_qty,
        Order.number.label("order_number"),
        Order.status.label("order_status"),
        Order.channel_id,
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.base_unit,
        Sku.supply_mode,
        (Sku.is_stock_tracked & Location.is_stock_tracked).label("is_tracked"),
        Lot.lot_code,
        Lot.expiry_date,
    )
    .join(ShipmentLine, ShipmentLine.id == PickListLine.shipment_line_id)
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(Location, Location.id == Shipment.location_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .join(Order, Order.id == OrderLine.order_id)
    .join(Sku, Sku.id == PickListLine.sku_id)
    .outerjoin(Lot, Lot.id == PickListLine.lot_id)
    .where(PickListLine.pick_list_id == bindparam("pick_list_id"))
    .order_by(PickListLine.position)
)
_LISTS = (
    select(PickList.__table__, Location.code.label("location"))
    .join(Location, Location.id == PickList.location_id)
    .where(PickList.number == bindparam("number"))
)
_LIST = Prepared(_LISTS)
_LIST_LOCKED = Prepared(_LISTS.with_for_update(of=PickList.__table__))
_STORE_LIST = Prepared(
    update(PickList)
    .where(PickList.id == bindparam("pick_list_id"))
    .values(
        status=bindparam("to_status"),
        version=bindparam("to_version"),
        assigned_to=bindparam("picker"),
        done_at=bindparam("done"),
    )
)
_PICKED = Prepared(
    "UPDATE pick_list_line SET picked_qty = picked_qty + :qty, qty = qty + :over,"
    " status = CASE WHEN picked_qty + :qty >= qty + :over THEN 'picked' ELSE 'open' END WHERE id = :id"
)
_PICKED_ON_SHIPMENT = Prepared("UPDATE shipment_line SET picked_qty = picked_qty + :qty WHERE id = :shipment_line_id")


def _pick_list(uow: UnitOfWork, actor: Actor, number: str) -> tuple[Any, Sequence[Any]]:
    """A pick list and its lines, locked with their orders."""
    row = uow.row(_LIST, {"number": number})
    if row is None:
        raise NotFound(entity="pick list", key=number)
    must_work_at(actor, row.location)
    lines = uow.rows(_PICK_LINES, {"pick_list_id": row.id})
    if not uow.is_sqlite:
        _lock(uow, {line.shipment_id for line in lines})
        row = uow.rows(_LIST_LOCKED, {"number": number})[0]
        lines = uow.rows(_PICK_LINES, {"pick_list_id": row.id})
    return row, lines


def scan(uow: UnitOfWork, actor: Actor, command: Scan) -> PickProgress:
    """Take what was scanned off the list, line by line.

    Raises:
        WrongScan: it is not on the list, or more than is still open.
        LotRefused: the lot has expired, or another one goes first.
        NotAllowed: the order was cancelled or put on hold meanwhile.
    """
    actor.must("shipment.pick")
    picks, lines = _pick_list(uow, actor, command.pick_list)
    if is_repeat(uow, actor, "scan", command):
        return _progress(picks, lines, is_repeat=True)
    must_be_qty(command.qty, command.code)
    sku_id, per_scan = _scanned(uow, command.code)
    qty = command.qty * per_scan
    open_ = [line for line in lines if line.status == "open"]
    wanted = [line for line in open_ if line.sku_id == sku_id]
    if not wanted:
        _refuse_stopped(lines, sku_id)
        raise WrongScan(number=picks.number, scanned=command.code, expected=_expected(open_))
    if command.lot_code is not None:
        wanted = _of_lot(uow, picks, wanted, command.lot_code)
    asked: list[tuple[Any, int]] = []
    for line in wanted:
        must_allow("pick", status=line.order_status, key=line.order_number)
        part = min(qty, line.qty - line.picked_qty)
        if part:
            asked.append((line, part))
            qty -= part
    if qty:  # more than is listed
        last, part = asked.pop()
        if _most_more(uow, last) == 0:
            left = sum(line.qty - line.picked_qty for line in wanted)
            raise WrongScan(
                number=picks.number,
                scanned=f"{wanted[0].sku} × {command.qty * per_scan}",
                expected=f"{wanted[0].sku} × {left}",
            )
        asked.append((last, part + qty))
    return _apply(uow, actor, picks, asked)


def tick(uow: UnitOfWork, actor: Actor, command: Tick) -> PickProgress:
    """Tick a line off. Ticking what is picked already changes nothing. Raises as `scan` does."""
    actor.must("shipment.pick")
    picks, lines = _pick_list(uow, actor, command.pick_list)
    line = _at(picks, lines, command.position)
    qty = line.qty if command.qty is None else command.qty
    must_be_qty(qty, f"{picks.number} line {line.position}")
    if line.status != "cancelled" and qty == line.picked_qty:
        return _progress(picks, lines, is_repeat=True)
    must_allow("pick", status=line.order_status, key=line.order_number)
    if line.status not in ("open", "picked"):
        raise wrong_stage("pick", picks, "line_is_done", line_no=line.position, line_status=line.status)
    if qty > line.qty and _most_more(uow, line) == 0:
        raise WrongScan(number=picks.number, scanned=f"{line.sku} × {qty}", expected=f"{line.sku} × {line.qty}")
    if qty < line.picked_qty:
        raise QuantityExceeded(
            what=f"{picks.number} {line.sku}: put back", asked_qty=line.picked_qty - qty, limit_qty=0
        )
    return _apply(uow, actor, picks, [(line, qty - line.picked_qty)])


def pick_all(uow: UnitOfWork, actor: Actor, command: PickAll) -> PickProgress:
    """Tick everything that is open. Lines of orders on hold or cancelled stay, and their orders are named.

    Raises:
        NotAllowed: no order on the list may be picked.
    """
    actor.must("shipment.pick")
    picks, lines = _pick_list(uow, actor, command.pick_list)
    asked, stopped = [], []
    for line in lines:
        if line.status == "open" and line.qty > line.picked_qty:
            if why_not("pick", line.order_status) is None:
                asked.append((line, line.qty - line.picked_qty))
            else:
                stopped.append(line)
    if not asked and stopped:
        must_allow("pick", status=stopped[0].order_status, key=stopped[0].order_number)
    if not asked and any(line.status == "cancelled" for line in lines):
        _refuse_stopped(lines, None)
    return _apply(uow, actor, picks, asked, stopped=tuple(sorted({line.order_number for line in stopped})))


def short_pick(uow: UnitOfWork, actor: Actor, command: ShortPick) -> PickProgress:
    """Found fewer than listed: a movement takes the missing units out, and the order waits for them anew.

    Where the location has other free units, they are reserved instead at once. The buyer is asked, the customer told.

    Raises:
        QuantityExceeded: as many as listed, or more, were found; that is no short pick.
    """
    actor.must("shipment.pick")
    picks, lines = _pick_list(uow, actor, command.pick_list)
    line = _at(picks, lines, command.position)
    must_be_qty(command.found_qty, f"{picks.number} line {line.position}", smallest=0)
    if line.status == "short" and line.picked_qty == command.found_qty:
        return _progress(picks, lines, is_repeat=True)
    must_allow("pick", status=line.order_status, key=line.order_number)
    if line.status != "open":
        raise wrong_stage("pick", picks, "line_is_done", line_no=line.position, line_status=line.status)
    if not line.picked_qty <= command.found_qty < line.qty:
        raise QuantityExceeded(
            what=f"{picks.number} {line.sku}: found short", asked_qty=command.found_qty, limit_qty=line.qty - 1
        )
    missing = line.qty - command.found_qty
    uow.conn.execute(
        text("UPDATE pick_list_line SET picked_qty = :found, short_qty = :missing, status = 'short' WHERE id = :id"),
        {"found": command.found_qty, "missing": missing, "id": line.id},
    )
    found = {"qty": command.found_qty - line.picked_qty, "shipment_line_id": line.shipment_line_id}
    uow.write(_PICKED_ON_SHIPMENT, [found])
    if line.is_tracked:
        _to_backorder(uow, actor, picks, line, missing, command.note)
    progress = _apply(uow, actor, picks, [])
    uow.audit(
        actor,
        "pick.short",
        "orders",
        line.order_id,
        facts={"pick_list": picks.number, "sku": line.sku, "short_qty": missing, "note": command.note},
    )
    return progress


def _to_backorder(uow: UnitOfWork, actor: Actor, picks: Any, line: Any, missing: int, note: str | None) -> None:
    """Missing units leave the books; the line waits for them, or gets other free units of the location."""
    release_expired_holds(uow, [line.sku_id])
    level = _level_of(uow, line)
    gone = max(0, missing - level.overcommitted_qty)  # a count may have taken them out before
    again = max(0, min(missing, level.free_qty))
    if gone:
        move(
            uow,
            actor,
            [
                Move(
                    line.sku_id,
                    line.location_id,
                    -gone,
                    "short_pick",
                    reserved_qty=-gone,
                    lot_id=line.lot_id,
                    source="pick_list",
                    source_id=picks.id,
                    note=note,
                )
            ],
        )
    late = missing - again
    promise(
        uow,
        [Change(line.sku_id, line.location_id, reserve_qty=again - (missing - gone), backorder_qty=late)],
        channel_id=line.channel_id,
        any_backorder=True,
    )
    if not late:
        return
    uow.conn.execute(
        text(
            "UPDATE shipment_line SET reserved_qty = reserved_qty - :late, backordered_qty = backordered_qty + :late"
            " WHERE id = :id"
        ),
        {"late": late, "id": line.shipment_line_id},
    )
    touch_shipments(uow, [line.shipment_id])
    rules, _ = rules_of(uow, line.channel_id)
    if rules.shortage.purchase_request:
        request_units(
            uow,
            sku_id=line.sku_id,
            location_id=line.location_id,
            qty=late,
            order_line_id=line.order_line_id,
            supply_mode=line.supply_mode,
            reason=f"short pick {picks.number}",
        )
    tell_delay(uow, rules, line.order_id)


_FREE = Prepared(
    text(
        f"SELECT {FREE_QTY} AS free_qty, s.overcommitted_qty"
        " FROM stock_level s WHERE s.sku_id = :sku_id AND s.location_id = :location_id"
    ).bindparams(TODAY)
)


def _level_of(uow: UnitOfWork, line: Any) -> Any:
    """What the line's channel may still reserve of its stock level, and how many units are promised that are not there."""
    level = {"sku_id": line.sku_id, "location_id": line.location_id}
    return uow.row(_FREE, {**level, "channel_id": line.channel_id, "today": uow.today})


def _scanned(uow: UnitOfWork, code: str) -> tuple[int | None, int]:
    """SKU id and base units behind a barcode or SKU code; None when nobody knows it."""
    known: Any = uow.row(
        select(SkuBarcode.sku_id, SkuBarcode.unit, SkuUnit.units_per_pack)
        .outerjoin(SkuUnit, (SkuUnit.sku_id == SkuBarcode.sku_id) & (SkuUnit.unit == SkuBarcode.unit))
        .where(SkuBarcode.barcode == code)
    )
    if known is not None:
        return known.sku_id, known.units_per_pack or 1
    sku_id = uow.conn.execute(select(Sku.id).where(Sku.sku == code)).scalar()
    return sku_id, 1


def _expected(open_lines: Sequence[Any]) -> str:
    if not open_lines:
        return "nothing more"
    first = open_lines[0]
    return f"{first.sku} × {first.qty - first.picked_qty}" + (f" @ {first.bin_code}" if first.bin_code else "")


def _refuse_stopped(lines: Sequence[Any], sku_id: int | None) -> None:
    """Say that the order was stopped rather than that the goods are wrong."""
    for line in lines:
        if line.status == "cancelled" and (sku_id is None or line.sku_id == sku_id):
            must_allow("pick", status=line.order_status, key=line.order_number)


def _of_lot(uow: UnitOfWork, picks: Any, wanted: Sequence[Any], lot_code: str) -> list[Any]:
    listed = [line for line in wanted if line.lot_code == lot_code]
    if listed:
        return listed
    sku = wanted[0]
    lot = uow.row(select(Lot.expiry_date).where(Lot.sku_id == sku.sku_id, Lot.lot_code == lot_code))
    if lot is None:
        raise LotRefused(lot_code=lot_code, sku=sku.sku, problem="no_such_lot")
    if lot.expiry_date is not None and lot.expiry_date < uow.today:
        raise LotRefused(lot_code=lot_code, sku=sku.sku, problem="lot_expired", expiry_date=lot.expiry_date)
    raise LotRefused(
        lot_code=lot_code, sku=sku.sku, problem="other_lot_first", first_lot=sku.lot_code, pick_list=picks.number
    )


def _at(picks: Any, lines: Sequence[Any], position: int) -> Any:
    for line in lines:
        if line.position == position:
            return line
    raise NotFound(entity=f"line of pick list {picks.number}", key=position)


def _apply(
    uow: UnitOfWork, actor: Actor, picks: Any, asked: Sequence[tuple[Any, int]], *, stopped: tuple[str, ...] = ()
) -> PickProgress:
    """Write what was picked; close the list, its wave and its shipments when nothing is open any more."""
    rows = []
    for line, qty in asked:
        over = max(0, line.picked_qty + qty - line.qty)
        if over:
            send_more(uow, line, over)
        rows.append({"id": line.id, "shipment_line_id": line.shipment_line_id, "qty": qty, "over": over})
    if rows:
        uow.write(_PICKED, rows)
        uow.write(_PICKED_ON_SHIPMENT, rows)
        for order_id in sorted({line.order_id for line, qty in asked if line.picked_qty + qty > line.qty}):
            sync_order(uow, order_id)
    lines = uow.rows(_PICK_LINES, {"pick_list_id": picks.id})
    is_open = any(line.status == "open" for line in lines)
    status = "picking" if is_open else "done"
    version = picks.version + 1
    stored = {"pick_list_id": picks.id, "to_status": status, "to_version": version, "picker": actor.name}
    uow.write(_STORE_LIST, [{**stored, "done": None if is_open else uow.now}])
    uow.changed("pick_list", picks.id, version)
    again = set(settle_shipments(uow, {line.shipment_id for line in lines}))
    for order_id in sorted({line.order_id for line in lines if line.shipment_id in again}):
        sync_order(uow, order_id)
    if not is_open and picks.wave_id is not None:
        close_waves(uow, [picks.wave_id])
    hand_on(uow)
    return _progress(picks, lines, status=status, stopped=stopped)


def _progress(
    picks: Any,
    lines: Sequence[Any],
    *,
    status: str | None = None,
    stopped: tuple[str, ...] = (),
    is_repeat: bool = False,
) -> PickProgress:
    return PickProgress(
        pick_list=picks.number,
        status=status or picks.status,
        picked_qty=sum(line.picked_qty for line in lines if line.status != "cancelled"),
        open_qty=sum(line.qty - line.picked_qty for line in lines if line.status == "open"),
        short_qty=sum(line.short_qty for line in lines),
        stopped_orders=stopped,
        is_repeat=is_repeat,
    )


@dataclass(frozen=True)
class PickSheetLine:
    """One line to walk to. `packs` full selling units and `pieces` over make up `qty` base units."""

    position: int
    bin_code: str | None
    sku: str
    name: str
    lot_code: str | None
    expiry_date: date | None
    qty: int
    packs: int
    unit: str
    pieces: int
    base_unit: str
    order: str
    shipment: str
    status: str
    picked_qty: int


@dataclass(frozen=True)
class PickSheet:
    """A pick list as it is printed or shown, in walking order; `total_qty` in base units."""

    number: str
    location: str
    status: str
    lines: tuple[PickSheetLine, ...]

    @property
    def total_qty(self) -> int:
        return sum(line.qty for line in self.lines)


def pick_sheet(uow: UnitOfWork, actor: Actor, number: str) -> PickSheet:
    """What a picker sees of a list. Raises NotFound."""
    actor.must("shipment.pick")
    picks = uow.row(_LIST, {"number": number})
    if picks is None:
        raise NotFound(entity="pick list", key=number)
    must_work_at(actor, picks.location)
    return PickSheet(
        picks.number,
        picks.location,
        picks.status,
        tuple(
            PickSheetLine(
                position=line.position,
                bin_code=line.bin_code,
                sku=line.sku,
                name=line.name,
                lot_code=line.lot_code,
                expiry_date=line.expiry_date,
                qty=line.qty,
                packs=line.qty // line.units_per_pack,
                unit=line.unit,
                pieces=line.qty % line.units_per_pack,
                base_unit=line.base_unit,
                order=line.order_number,
                shipment=line.shipment,
                status=line.status,
                picked_qty=line.picked_qty,
            )
            for line in uow.rows(_PICK_LINES, {"pick_list_id": picks.id})
        ),
    )


# --------------------------------------------------------------------------------------------- over-delivery

_PLANNED_QTY = text(
    "SELECT COALESCE(SUM(CASE WHEN s.shipped_at IS NULL THEN sl.qty ELSE sl.shipped_qty END), 0) FROM shipment_line sl"
    " JOIN shipment s ON s.id = sl.shipment_id WHERE sl.order_line_id = :order_line_id AND s.status <> 'cancelled'"
    " AND NOT sl.is_withdrawn"
)


def _most_more(uow: UnitOfWork, line: Any) -> int:
    """How many units beyond the plans of this order line the rules still let go."""
    rules, _ = rules_of(uow, line.channel_id)
    most = int(line.ordered_qty - line.cancelled_qty) * (10_000 + rules.delivery.over_delivery_ratio_bp) // 10_000
    planned = uow.conn.execute(_PLANNED_QTY, {"order_line_id": line.order_line_id}).scalar_one()
    return max(0, most - int(planned))


def send_more(uow: UnitOfWork, line: Any, over: int) -> None:
    """Plan and reserve `over` units beyond what was ordered on a shipment line, within the allowance.

    Raises:
        QuantityExceeded: over the allowance, or not in stock; the limit is named.
    """
    most = _most_more(uow, line)
    if over > most:
        planned = uow.conn.execute(_PLANNED_QTY, {"order_line_id": line.order_line_id}).scalar_one()
        raise QuantityExceeded(
            what=f"order {line.order_number} line {line.line_no} {line.sku}",
            asked_qty=int(planned) + over,
            limit_qty=int(planned) + most,
        )
    tracked = bool(line.is_tracked)
    if tracked:
        reserve_free(uow, line, over)
    uow.conn.execute(
        text("UPDATE shipment_line SET qty = qty + :over, reserved_qty = reserved_qty + :reserved WHERE id = :id"),
        {"over": over, "reserved": over if tracked else 0, "id": line.shipment_line_id},
    )
    uow.conn.execute(
        text("UPDATE order_line SET over_delivery_qty = over_delivery_qty + :over WHERE id = :id"),
        {"over": over, "id": line.order_line_id},
    )
    touch_shipments(uow, [line.shipment_id])


def reserve_free(uow: UnitOfWork, line: Any, qty: int, *, of_backorder: int = 0) -> None:
    release_expired_holds(uow, [line.sku_id])
    level = _level_of(uow, line)
    free = 0 if level is None else max(0, level.free_qty)
    if qty > free:
        raise QuantityExceeded(what=f"{line.sku}: more than reserved", asked_qty=qty, limit_qty=free)
    promise(
        uow,
        [Change(line.sku_id, line.location_id, reserve_qty=qty, backorder_qty=-of_backorder)],
        channel_id=line.channel_id,
    )
