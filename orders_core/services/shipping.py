"""Goods leave: pack, ship with or without tracking numbers, take back what nobody has seen yet, confirm the delivery.

What did not go moves to one further planned shipment of the same location.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, exists, insert, select, text, update

from orders_core.domain.lifecycle import REASONS, must_allow
from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import (
    AlreadyExists,
    InvalidCommand,
    NotAllowed,
    NotFound,
    QuantityExceeded,
)
from orders_core.notifications.tell import line_facts, tell_customer
from orders_core.services.credit import settle_claim
from orders_core.services.fill import hand_on
from orders_core.services.lookups import must_be_qty
from orders_core.services.orders_state import OrderState, sync_order
from orders_core.services.review import rules_of
from orders_core.services.shipments import Units, add_units, waiting_shipment
from orders_core.services.stock import LotTake, free_lots, take_fefo
from orders_core.services.tickets import OpenTicket, open_ticket
from orders_core.services.tracking import refresh_shipment
from orders_core.services.warehouse import (
    SHIPMENT_LINES,
    is_tracked,
    load_shipment,
    reserve_free,
    send_more,
    to_list,
    wrong_stage,
)
from orders_core.store.inventory import Move, move
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    Carrier,
    Order,
    OrderLine,
    Package,
    PackageLine,
    PickListLine,
    Shipment,
    ShipmentLine,
    ShippedLot,
    SignedReceipt,
    TrackingEvent,
)
from orders_core.store.uow import UnitOfWork


def _orders_allow(action: str, lines: Sequence[Any]) -> None:
    """Raise NotAllowed for the first order of the shipment that is on hold, cancelled or not approved."""
    for line in lines:
        must_allow(action, status=line.order_status, key=line.order_number)


# ------------------------------------------------------------------------------------------------------ pack


@dataclass(frozen=True)
class PackageIn:
    """One box: base units per SKU (None: everything), its weight, and its tracking number if it has one yet."""

    quantities: Mapping[str, int] | None = None
    tracking_number: str | None = None
    weight_g: int | None = None


@dataclass(frozen=True)
class Pack:
    """Put what was picked into boxes; one box with everything when none is described."""

    shipment: str
    packages: Sequence[PackageIn] = ()
    carrier: str | None = None


@dataclass(frozen=True)
class PackedShipment:
    """A shipment in its boxes."""

    shipment: str
    status: str
    package_ids: tuple[int, ...]
    is_repeat: bool = False


def pack(uow: UnitOfWork, actor: Actor, command: Pack) -> PackedShipment:
    """Pack a picked shipment.

    Raises:
        QuantityExceeded: more goes into the boxes than was picked.
        NotAllowed: it is not picked, or its order was stopped.
    """
    actor.must("shipment.ship")
    shipment, lines = load_shipment(uow, actor, command.shipment)
    if shipment.status in ("packed", "shipped", "delivered"):
        return PackedShipment(shipment.number, shipment.status, _package_ids(uow, shipment.id), is_repeat=True)
    if shipment.status != "picked":
        raise wrong_stage("pack", shipment, "picker_not_finished")
    _orders_allow("ship", lines)
    there = {line.id: min(line.picked_qty, line.qty) for line in lines}
    carrier = _carrier(uow, command.carrier)
    ids = _write_packages(uow, shipment, lines, there, command.packages or (PackageIn(),), carrier)
    _set_status(uow, shipment, "packed", carrier_id=carrier.id if carrier is not None else shipment.carrier_id)
    return PackedShipment(shipment.number, "packed", ids)


def _set_status(uow: UnitOfWork, shipment: Any, status: str, **values: Any) -> None:
    """Write a shipment's status, and its carrier or moments where `values` names new ones."""
    kept = {name: getattr(shipment, name) for name in ("carrier_id", "shipped_at", "delivered_at")}
    new = {f"new_{name}": value for name, value in {**kept, "status": status, **values}.items()}
    (row,) = uow.rows(_SET_STATUS, {"shipment_id": shipment.id, **new})
    uow.changed("shipment", shipment.id, row.version)


_SET_STATUS = Prepared(
    update(Shipment)
    .where(Shipment.id == bindparam("shipment_id"))
    .values(
        status=bindparam("new_status"),
        carrier_id=bindparam("new_carrier_id"),
        shipped_at=bindparam("new_shipped_at"),
        delivered_at=bindparam("new_delivered_at"),
        version=Shipment.version + 1,
    )
    .returning(Shipment.version)
)
_PACKAGES = Prepared(
    select(Package.id, Package.carrier_id, Package.tracking_number)
    .where(Package.shipment_id == bindparam("shipment_id"))
    .order_by(Package.package_no)
)
_CARRIER_BY_ID = Prepared(select(Carrier.__table__).where(Carrier.id == bindparam("carrier_id")))
_CARRIER_BY_CODE = Prepared(select(Carrier.__table__).where(Carrier.code == bindparam("code")))


def _package_ids(uow: UnitOfWork, shipment_id: int) -> tuple[int, ...]:
    return tuple(row.id for row in uow.rows(_PACKAGES, {"shipment_id": shipment_id}))


def _carrier(uow: UnitOfWork, code: str | None, *, carrier_id: int | None = None) -> Any:
    if code is not None:
        found = uow.row(_CARRIER_BY_CODE, {"code": code})
    elif carrier_id is not None:
        found = uow.row(_CARRIER_BY_ID, {"carrier_id": carrier_id})
    else:
        return None
    if found is None:
        raise NotFound(entity="carrier", key=code)
    return found


def _write_packages(
    uow: UnitOfWork,
    shipment: Any,
    lines: Sequence[Any],
    there: Mapping[int, int],
    packages: Sequence[PackageIn],
    carrier: Any,
) -> tuple[int, ...]:
    """Insert packages and their contents, units taken from the lines in order; returns the package ids."""
    contents = _contents(shipment, lines, there, packages)
    _must_be_new_numbers(uow, carrier, [box.tracking_number for box in packages if box.tracking_number])
    first = uow.new_id(len(packages))
    uow.write(
        _INSERT_PACKAGES,
        [
            {
                "id": first + i,
                "shipment_id": shipment.id,
                "package_no": i + 1,
                "carrier_id": None if carrier is None else carrier.id,
                "tracking_number": box.tracking_number,
                "weight_g": box.weight_g,
                "created_at": uow.now,
            }
            for i, box in enumerate(packages)
        ],
    )
    uow.write(
        _INSERT_CONTENTS,
        [
            {"package_id": first + i, "shipment_line_id": line_id, "qty": qty}
            for i, content in enumerate(contents)
            for line_id, qty in content.items()
        ],
    )
    return tuple(range(first, first + len(packages)))


_INSERT_PACKAGES = Prepared(insert(Package.__table__))  # type: ignore[arg-type]
_INSERT_CONTENTS = Prepared(insert(PackageLine.__table__))  # type: ignore[arg-type]


def _contents(
    shipment: Any, lines: Sequence[Any], there: Mapping[int, int], packages: Sequence[PackageIn]
) -> list[dict[int, int]]:
    """What of which shipment line is in each box."""
    if len(packages) > 1 and any(box.quantities is None for box in packages):
        raise InvalidCommand(field="packages", problem="boxes_without_contents")
    left = dict(there)
    contents = []
    for number, box in enumerate(packages, 1):
        content: dict[int, int] = {}
        if box.quantities is None:
            content = {line_id: qty for line_id, qty in left.items() if qty}
        for sku, asked in (box.quantities or {}).items():
            must_be_qty(asked, f"box {number} {sku}")
            qty = asked
            for line in lines:
                if line.sku == sku and qty and left[line.id]:
                    part = min(qty, left[line.id])
                    content[line.id] = content.get(line.id, 0) + part
                    left[line.id] -= part
                    qty -= part
            if qty:
                raise QuantityExceeded(
                    what=f"{shipment.number} box {number} {sku}", asked_qty=asked, limit_qty=asked - qty
                )
        if not content:
            raise InvalidCommand(field=f"packages[{number}]", problem="empty_box")
        contents.append(content)
    return contents


def _must_be_new_numbers(uow: UnitOfWork, carrier: Any, numbers: Sequence[str]) -> None:
    if not numbers:
        return
    if len(set(numbers)) < len(numbers):
        raise AlreadyExists(entity="tracking number", key=next(n for n in numbers if numbers.count(n) > 1))
    if carrier is None:
        raise InvalidCommand(field="carrier", problem="carrier_missing")
    known = uow.rows(_NUMBERS_KNOWN, {"carrier_id": carrier.id, "numbers": list(numbers)})
    if known:
        raise AlreadyExists(entity="tracking number", key=f"{carrier.code} {known[0].tracking_number}")


_NUMBERS_KNOWN = Prepared(
    select(Package.tracking_number).where(
        Package.carrier_id == bindparam("carrier_id"), Package.tracking_number.in_(bindparam("numbers", expanding=True))
    )
)


# ------------------------------------------------------------------------------------------------------ ship


@dataclass(frozen=True)
class ShipShipment:
    """The goods leave.

    A courier's parcels each need a tracking number, here or at packing; own truck and pick-up need none.
    `quantities` (base units per SKU) is for shipping a planned shipment without a pick list; what it does not name stays.
    """

    shipment: str
    carrier: str | None = None
    packages: Sequence[PackageIn] = ()
    quantities: Mapping[str, int] | None = None


@dataclass(frozen=True)
class ShippedShipment:
    """What left; the units that did not go wait on `rest_shipments` (order number -> shipment number)."""

    shipment: str
    shipped: Mapping[str, int]
    orders: tuple[OrderState, ...]
    rest_shipments: Mapping[str, str]
    package_ids: tuple[int, ...]
    is_repeat: bool = False


def ship_shipment(uow: UnitOfWork, actor: Actor, command: ShipShipment) -> ShippedShipment:
    """Ship: reserved units leave the stock, one movement per line and lot; the rest is planned again; customers are told.

    Shipping twice changes nothing.

    Raises:
        NotAllowed: an order on it is on hold, cancelled or not approved, or the picker has not finished.
        QuantityExceeded: more than was picked, than is in stock, or than the over-delivery allowance lets go.
        InvalidCommand: a courier's parcel has no tracking number; or nothing would go.
    """
    actor.must("shipment.ship")
    shipment, lines = load_shipment(uow, actor, command.shipment)
    if shipment.shipped_at is not None:
        return _shipped_before(uow, shipment, lines)
    if shipment.status == "cancelled":
        raise wrong_stage("ship", shipment, "shipment_is_cancelled")
    _orders_allow("ship", lines)
    _must_be_paid(uow, lines)
    if shipment.status == "released":
        raise wrong_stage("ship", shipment, "picker_not_finished")
    going = _going(uow, shipment, lines, command)
    if any(going.values()):
        lines = _raised(uow, shipment, lines, going)
    else:
        raise InvalidCommand(field="shipment", problem="nothing_to_ship", number=shipment.number)
    carrier, package_ids, numbers = _boxes(uow, shipment, lines, going, command)
    _leave_stock(uow, actor, shipment, lines, going)
    rest = _plan_rest(uow, shipment, lines, going)
    uow.write(_SHIPPED_LINE, [{"qty": going[line.id], "id": line.id} for line in lines])
    _set_status(uow, shipment, "shipped", shipped_at=uow.now, carrier_id=None if carrier is None else carrier.id)
    if _is_seen(uow, shipment.id):  # a labelled box may arrive before our own paperwork says it left
        refresh_shipment(uow, actor, shipment.id)
    states = []
    for order_id in sorted({line.order_id for line in lines}):
        state = sync_order(uow, order_id)
        states.append(state)
        own = [line for line in lines if line.order_id == order_id]
        uow.audit(
            actor,
            "shipment.ship",
            "orders",
            order_id,
            version=state.version,
            facts={"shipment": shipment.number, "qty": sum(going[line.id] for line in own), "tracking": numbers},
        )
        _tell_shipped(uow, shipment, state, own, going, carrier, numbers)
    hand_on(uow)
    return ShippedShipment(shipment.number, _per_sku(lines, going), tuple(states), rest, package_ids)


_SHIPPED_LINE = Prepared(
    "UPDATE shipment_line SET shipped_qty = :qty, reserved_qty = 0, backordered_qty = 0 WHERE id = :id"
)


def _is_seen(uow: UnitOfWork, shipment_id: int) -> bool:
    """Whether a carrier (or a signed receipt) reported any box of the shipment."""
    return bool(uow.rows(_SEEN, {"shipment_id": shipment_id}))


_SEEN = Prepared(
    select(Package.id).where(
        Package.shipment_id == bindparam("shipment_id"),
        (Package.status != "packed") | exists().where(TrackingEvent.package_id == Package.id),
    )
)


def _per_sku(lines: Sequence[Any], qty_of: Mapping[int, int]) -> dict[str, int]:
    shipped: dict[str, int] = defaultdict(int)
    for line in lines:
        if qty_of[line.id]:
            shipped[line.sku] += qty_of[line.id]
    return dict(shipped)


def _shipped_before(uow: UnitOfWork, shipment: Any, lines: Sequence[Any]) -> ShippedShipment:
    orders = uow.rows(
        select(Order.id, Order.number, Order.status, Order.version)
        .where(Order.id.in_(sorted({line.order_id for line in lines})))
        .order_by(Order.id)
    )
    return ShippedShipment(
        shipment.number,
        _per_sku(lines, {line.id: line.shipped_qty for line in lines}),
        tuple(OrderState(row.id, row.number, row.status, row.version) for row in orders),
        {},
        _package_ids(uow, shipment.id),
        is_repeat=True,
    )


def _must_be_paid(uow: UnitOfWork, lines: Sequence[Any]) -> None:
    """Where the rules say so, a prepaid order whose total rose after payment waits for the difference."""
    for line in {line.order_id: line for line in lines}.values():
        due = line.total_cents - line.paid_cents + line.refunded_cents
        if line.payment_method == "prepaid" and due > 0 and not rules_of(uow, line.channel_id)[0].delivery.ship_unpaid:
            raise NotAllowed(
                action="ship",
                entity="order",
                key=line.order_number,
                status=line.order_status,
                reason=f"{due} (cents) are still to be paid",
                reason_zh=f"还需付款 {due}（分）",
                reason_code="unpaid",
            )


def _going(uow: UnitOfWork, shipment: Any, lines: Sequence[Any], command: ShipShipment) -> dict[int, int]:
    """Base units per shipment line that leave: what is packed, else picked, else asked for, else reserved."""
    if shipment.status == "packed":
        most = {row.shipment_line_id: int(row.qty) for row in uow.rows(_PACKED, {"shipment_id": shipment.id})}
    elif shipment.status == "picked":
        most = {line.id: min(line.picked_qty, line.qty) for line in lines}
    elif command.quantities is None:
        return {line.id: to_list(shipment, line) for line in lines}
    else:
        return _shared(shipment, lines, command.quantities, {line.id: line.qty for line in lines}, may_exceed=True)
    if command.quantities is None:
        return {line.id: most.get(line.id, 0) for line in lines}
    return _shared(shipment, lines, command.quantities, most, may_exceed=False)


_PACKED = Prepared(
    "SELECT pl.shipment_line_id, SUM(pl.qty) AS qty FROM package_line pl JOIN package p ON p.id = pl.package_id"
    " WHERE p.shipment_id = :shipment_id GROUP BY pl.shipment_line_id"
)


def _shared(
    shipment: Any, lines: Sequence[Any], quantities: Mapping[str, int], most: Mapping[int, int], *, may_exceed: bool
) -> dict[int, int]:
    """Share units per SKU over the lines in order; what is too much goes onto the last line of the SKU, or is refused."""
    going = {line.id: 0 for line in lines}
    for sku, asked in quantities.items():
        must_be_qty(asked, f"{shipment.number} {sku}", smallest=0)
        own = [line for line in lines if line.sku == sku]
        if not own:
            raise NotFound(entity=f"line of {shipment.number}", key=sku)
        left = asked
        for line in own:
            going[line.id] = min(left, most.get(line.id, 0))
            left -= going[line.id]
        if left and not may_exceed:
            raise QuantityExceeded(what=f"{shipment.number} {sku}", asked_qty=asked, limit_qty=asked - left)
        going[own[-1].id] += left
    return going


@dataclass(frozen=True)
class _Line:
    """A shipment line as over-delivery and reserving look at it."""

    shipment_line_id: int
    shipment_id: int
    order_line_id: int
    order_number: str
    line_no: int
    sku: str
    sku_id: int
    location_id: int
    channel_id: int
    ordered_qty: int
    cancelled_qty: int
    is_tracked: bool


def _raised(uow: UnitOfWork, shipment: Any, lines: Sequence[Any], going: Mapping[int, int]) -> Sequence[Any]:
    """Reserve what is to leave beyond the reservation (waiting units that are there after all, over-delivery)."""
    is_raised = False
    for line in lines:
        tracked = is_tracked(shipment, line)
        need = going[line.id] - (line.reserved_qty if tracked else line.qty)
        if need <= 0:
            continue
        is_raised = True
        asked = _Line(
            line.id, shipment.id, line.order_line_id, line.order_number, line.line_no, line.sku, line.sku_id,
            shipment.location_id, line.channel_id, line.ordered_qty, line.cancelled_qty, tracked,
        )  # fmt: skip
        waiting = min(need, line.backordered_qty) if tracked else 0
        if need > waiting:
            send_more(uow, asked, need - waiting)
        if waiting:
            reserve_free(uow, asked, waiting, of_backorder=waiting)
            uow.conn.execute(
                text(
                    "UPDATE shipment_line SET reserved_qty = reserved_qty + :qty, backordered_qty = backordered_qty - :qty"
                    " WHERE id = :id"
                ),
                {"qty": waiting, "id": line.id},
            )
    return uow.rows(SHIPMENT_LINES, {"shipment_ids": [shipment.id]}) if is_raised else lines


def _boxes(
    uow: UnitOfWork, shipment: Any, lines: Sequence[Any], going: Mapping[int, int], command: ShipShipment
) -> tuple[Any, tuple[int, ...], list[str]]:
    """The carrier, the packages (made now when nobody packed) and their tracking numbers."""
    carrier = _carrier(uow, command.carrier, carrier_id=shipment.carrier_id)
    packed = uow.rows(_PACKAGES, {"shipment_id": shipment.id})
    if packed:
        numbers = [row.tracking_number for row in packed]
        if command.packages:
            numbers = _number_boxes(uow, shipment, packed, command.packages, carrier)
        ids = tuple(row.id for row in packed)
        if carrier is not None and any(row.carrier_id != carrier.id for row in packed):
            uow.conn.execute(update(Package).where(Package.shipment_id == shipment.id).values(carrier_id=carrier.id))
    else:
        boxes = command.packages or (PackageIn(),)
        numbers = [box.tracking_number for box in boxes]
        ids = _write_packages(uow, shipment, lines, going, boxes, carrier)
    if shipment.delivery_method == "courier":
        if carrier is None:
            raise InvalidCommand(field="carrier", problem="courier_unnamed", number=shipment.number)
        if carrier.needs_tracking_number and not all(numbers):
            box = numbers.index(None) + 1 if None in numbers else 1
            raise InvalidCommand(
                field=f"packages[{box}].tracking_number", problem="tracking_number_missing", carrier=carrier.code
            )
    return carrier, ids, [number for number in numbers if number]


def _number_boxes(
    uow: UnitOfWork, shipment: Any, packed: Sequence[Any], boxes: Sequence[PackageIn], carrier: Any
) -> list[str | None]:
    if len(boxes) != len(packed):
        raise InvalidCommand(
            field="packages", problem="packed_otherwise", number=shipment.number, boxes_count=len(packed)
        )
    numbers = [new.tracking_number or old.tracking_number for new, old in zip(boxes, packed, strict=True)]
    fresh = [new for new, old in zip(numbers, packed, strict=True) if new and new != old.tracking_number]
    _must_be_new_numbers(uow, carrier, fresh)
    for old, number in zip(packed, numbers, strict=True):
        uow.conn.execute(
            update(Package).where(Package.id == old.id).values(tracking_number=number, version=Package.version + 1)
        )
    return numbers


def _leave_stock(uow: UnitOfWork, actor: Actor, shipment: Any, lines: Sequence[Any], going: Mapping[int, int]) -> None:
    """One movement per line and lot; the lots that left are remembered."""
    tracked = [line for line in lines if going[line.id] and is_tracked(shipment, line)]
    by_lot = [line for line in tracked if line.is_lot_tracked]
    takes = {line.id: [LotTake(None, going[line.id])] for line in tracked}
    if by_lot:
        takes |= _lots_leaving(uow, shipment, by_lot, going)
    moves = [
        Move(
            line.sku_id,
            shipment.location_id,
            -take.qty,
            "ship",
            reserved_qty=-take.qty,
            lot_id=take.lot_id,
            source="shipment",
            source_id=shipment.id,
        )
        for line in tracked
        for take in takes[line.id]
    ]
    move(uow, actor, moves)
    lots = [
        {"shipment_line_id": line.id, "lot_id": take.lot_id, "qty": take.qty}
        for line in by_lot
        for take in takes[line.id]
    ]
    if lots:
        uow.conn.execute(insert(ShippedLot), lots)


def _lots_leaving(
    uow: UnitOfWork, shipment: Any, lines: Sequence[Any], going: Mapping[int, int]
) -> dict[int, list[LotTake]]:
    """The lots that were picked, or first expired first where nobody picked."""
    picked: dict[int, list[LotTake]] = defaultdict(list)
    rows = uow.rows(
        select(PickListLine.shipment_line_id, PickListLine.lot_id, PickListLine.picked_qty)
        .where(
            PickListLine.shipment_line_id.in_([line.id for line in lines]),
            PickListLine.picked_qty > 0,
            PickListLine.status != "cancelled",
            PickListLine.lot_id.is_not(None),
        )
        .order_by(PickListLine.position)
    )
    for row in rows:
        picked[row.shipment_line_id].append(LotTake(row.lot_id, row.picked_qty))
    free: dict[int, list[LotTake]] = {}
    takes: dict[int, list[LotTake]] = {}
    for line in lines:
        wanted = going[line.id]
        source = picked[line.id]
        if not source:
            if not free:
                free = free_lots(uow, shipment.location_id, sorted({x.sku_id for x in lines}))
            source = free.get(line.sku_id, [])
        taken = take_fefo(source, wanted)
        there = sum(take.qty for take in taken)
        if there < wanted:
            raise QuantityExceeded(
                what=f"{shipment.number} {line.sku}: lots that have not expired", asked_qty=wanted, limit_qty=there
            )
        merged: dict[int | None, int] = defaultdict(int)
        for take in taken:
            merged[take.lot_id] += take.qty
        takes[line.id] = [LotTake(lot_id, qty) for lot_id, qty in merged.items()]
    return takes


def _plan_rest(uow: UnitOfWork, shipment: Any, lines: Sequence[Any], going: Mapping[int, int]) -> dict[str, str]:
    """What did not go moves, reservation and all, to one further planned shipment per order; levels do not change."""
    rest: dict[int, list[Units]] = defaultdict(list)
    numbers = {}
    for line in lines:
        left = line.qty - going[line.id]
        if left <= 0:
            continue
        numbers[line.order_id] = line.order_number
        tracked = is_tracked(shipment, line)
        reserved = line.reserved_qty - going[line.id] if tracked else 0
        rest[line.order_id].append(
            Units(line.order_line_id, line.sku_id, left, reserved, left - reserved if tracked else 0)
        )
    found = {}
    for order_id, units in sorted(rest.items()):
        shipment_id = waiting_shipment(
            uow,
            order_id=order_id,
            location_id=shipment.location_id,
            delivery_method=shipment.delivery_method,
            not_id=shipment.id,
        )
        add_units(uow, shipment_id, units)
        number = uow.conn.execute(select(Shipment.number).where(Shipment.id == shipment_id)).scalar_one()
        found[numbers[order_id]] = number
    return found


def _tell_shipped(
    uow: UnitOfWork,
    shipment: Any,
    state: OrderState,
    lines: Sequence[Any],
    going: Mapping[int, int],
    carrier: Any,
    numbers: Sequence[str],
) -> None:
    language = lines[0].language
    open_lines: list[dict[str, Any]] = []
    if state.status == "partly_shipped":
        open_lines = [_told(row, language, row.open_qty) for row in uow.rows(_STILL_OPEN, {"order_id": state.order_id})]
    tell_customer(
        uow,
        "shipped",
        state.order_id,
        dedupe_key=f"shipped:{state.order_id}:{shipment.id}:{shipment.version}",
        lines=[_told(line, language, going[line.id]) for line in lines if going[line.id]],
        open_lines=open_lines,
        carrier=_carrier_name(carrier, language),
        tracking_numbers=list(numbers),
        delivery_method=shipment.delivery_method,
    )


_STILL_OPEN = Prepared(
    "SELECT k.sku, k.name, k.name_en, k.base_unit, l.unit, l.units_per_pack,"
    " l.ordered_qty - l.cancelled_qty - l.shipped_qty AS open_qty FROM order_line l JOIN sku k ON k.id = l.sku_id"
    " WHERE l.order_id = :order_id AND l.kind IN ('item', 'component', 'gift')"
    " AND l.ordered_qty - l.cancelled_qty > l.shipped_qty ORDER BY l.line_no"
)


def _told(row: Any, language: str, qty: int) -> dict[str, Any]:
    name = row.name_en if language == "en" and row.name_en else row.name
    return line_facts(row.sku, name, qty=qty, unit=row.unit, units_per_pack=row.units_per_pack, base_unit=row.base_unit)


# ------------------------------------------------------------------------------------------------- take back


@dataclass(frozen=True)
class TakeBack:
    """The delivery note is cancelled: the goods never left, or the truck came back at once."""

    shipment: str
    reason: str


def take_back(uow: UnitOfWork, actor: Actor, command: TakeBack) -> tuple[OrderState, ...]:
    """Undo a shipment that no carrier has seen: goods back on hand and reserved, over-delivery forgotten.

    What had moved to a further shipment stays there.

    Raises:
        NotAllowed: it has not left, or a carrier or the customer has it; then it is a return. Or a return of it is
            under way already.
    """
    actor.must("shipment.ship")
    shipment, lines = load_shipment(uow, actor, command.shipment)
    if shipment.status != "shipped" or _is_seen(uow, shipment.id) or any(line.delivered_qty for line in lines):
        raise wrong_stage("take back", shipment, "seen_since")
    _must_not_be_returned(uow, shipment, lines)
    over = {
        row.id: row.over_delivery_qty
        for row in uow.rows(
            select(OrderLine.id, OrderLine.over_delivery_qty).where(
                OrderLine.id.in_(sorted({line.order_line_id for line in lines}))
            )
        )
    }
    moves, updates = [], []
    lots: dict[int, list[Any]] = defaultdict(list)
    for lot in uow.rows(select(ShippedLot.__table__).where(ShippedLot.shipment_line_id.in_([x.id for x in lines]))):
        lots[lot.shipment_line_id].append(lot)
    for line in lines:
        dropped = min(over[line.order_line_id], line.shipped_qty)
        over[line.order_line_id] -= dropped
        tracked = is_tracked(shipment, line)
        back = line.shipped_qty - dropped
        updates.append((line, back, back if tracked else 0, dropped))
        if not tracked or not line.shipped_qty:
            continue
        parts = [(lot.lot_id, lot.qty) for lot in lots[line.id]] or [(None, line.shipped_qty)]
        reserve = back
        for lot_id, qty in parts:
            kept = min(reserve, qty)
            reserve -= kept
            moves.append(
                Move(
                    line.sku_id,
                    shipment.location_id,
                    qty,
                    "ship",
                    reserved_qty=kept,
                    lot_id=lot_id,
                    source="shipment",
                    source_id=shipment.id,
                    note=command.reason,
                )
            )
    move(uow, actor, moves)
    was_picked = shipment.released_at is not None
    for table in (PackageLine, ShippedLot):
        ids = [line.id for line in lines]
        uow.conn.execute(table.__table__.delete().where(table.__table__.c.shipment_line_id.in_(ids)))  # type: ignore[attr-defined]
    uow.conn.execute(text("DELETE FROM package WHERE shipment_id = :id"), {"id": shipment.id})
    for line, back, reserved, _ in updates:
        uow.conn.execute(
            update(ShipmentLine)
            .where(ShipmentLine.id == line.id)
            .values(
                qty=back or line.qty,
                reserved_qty=reserved,
                shipped_qty=0,
                picked_qty=back if was_picked else 0,
                is_withdrawn=back == 0,
            )
        )
    _set_status(uow, shipment, "picked" if was_picked else "planned", shipped_at=None)
    states = [sync_order(uow, order_id) for order_id in sorted({line.order_id for line in lines})]
    for line, _, _, dropped in updates:  # after the counters: what is shipped must be ordered or allowed over
        if dropped:
            uow.conn.execute(
                text("UPDATE order_line SET over_delivery_qty = over_delivery_qty - :qty WHERE id = :id"),
                {"qty": dropped, "id": line.order_line_id},
            )
    for state in states:
        settle_claim(uow, state.order_id)  # nothing of it may have left any more
        uow.audit(
            actor,
            "shipment.take_back",
            "orders",
            state.order_id,
            version=state.version,
            facts={"shipment": shipment.number, "reason": command.reason},
        )
    return tuple(states)


_ASKED_BACK = text(
    "SELECT l.id, l.shipped_qty, SUM(r.qty) AS asked_qty FROM return_line r"
    " JOIN return_authorization a ON a.id = r.return_id JOIN order_line l ON l.id = r.order_line_id"
    " WHERE (l.id IN :ids OR l.id IN (SELECT c.parent_line_id FROM order_line c WHERE c.id IN :ids AND c.kind = 'component'))"
    " AND a.status NOT IN ('refused', 'cancelled') AND a.kind NOT IN ('resend', 'refund_only') GROUP BY l.id, l.shipped_qty"
).bindparams(bindparam("ids", expanding=True))


def _must_not_be_returned(uow: UnitOfWork, shipment: Any, lines: Sequence[Any]) -> None:
    """What the customer sends back must have left by another shipment; a kit that comes back, whole."""
    taken = {line.order_line_id: line.shipped_qty for line in lines}
    for row in uow.rows(_ASKED_BACK, {"ids": sorted(taken)}):
        if row.asked_qty > row.shipped_qty - taken.get(row.id, row.shipped_qty):
            raise wrong_stage("take back", shipment, "return_under_way", asked_qty=row.asked_qty)


# -------------------------------------------------------------------------------------------------- delivery


@dataclass(frozen=True)
class ConfirmDelivery:
    """A signed receipt (回单) came back. `signed` is base units per SKU where they differ from what was shipped."""

    shipment: str
    signed_by: str
    signed: Mapping[str, int] | None = None
    signed_at: datetime | None = None
    picture_url: str | None = None


@dataclass(frozen=True)
class Difference:
    """Signed for another quantity than shipped, base units."""

    sku: str
    shipped_qty: int
    signed_qty: int


@dataclass(frozen=True)
class ConfirmedDelivery:
    """The orders after the delivery; a difference opens a ticket."""

    shipment: str
    orders: tuple[OrderState, ...]
    differences: tuple[Difference, ...]
    ticket: str | None = None
    is_repeat: bool = False


def confirm_delivery(uow: UnitOfWork, actor: Actor, command: ConfirmDelivery) -> ConfirmedDelivery:
    """Record that a shipment arrived and who signed; own truck and pick-up need nothing else.

    Raises:
        NotAllowed: it has not left.
    """
    actor.must("shipment.deliver")
    shipment, lines = load_shipment(uow, actor, command.shipment)
    known = uow.row(_SIGNED, {"shipment_id": shipment.id})
    if known is not None:
        shown = tuple(Difference(x["sku"], x["shipped_qty"], x["signed_qty"]) for x in known.difference or ())
        before = _shipped_before(uow, shipment, lines)
        return ConfirmedDelivery(shipment.number, before.orders, shown, is_repeat=True)
    if shipment.shipped_at is None:
        raise wrong_stage("deliver", shipment, REASONS["not_gone"][0], reason_zh=REASONS["not_gone"][1])
    signed = {line.id: line.shipped_qty for line in lines}
    if command.signed is not None:
        most = {line.id: line.shipped_qty for line in lines}
        named = {line.sku for line in lines if line.sku in command.signed}
        asked = _shared(shipment, [line for line in lines if line.sku in named], command.signed, most, may_exceed=True)
        signed |= asked
    differences = [
        {"shipment_line_id": line.id, "sku": line.sku, "shipped_qty": line.shipped_qty, "signed_qty": signed[line.id]}
        for line in lines
        if signed[line.id] != line.shipped_qty
    ]
    at = command.signed_at or uow.now
    uow.write(
        _INSERT_SIGNED,
        [
            {
                "id": uow.new_id(),
                "shipment_id": shipment.id,
                "signed_by": command.signed_by,
                "signed_at": at,
                "picture_url": command.picture_url,
                "difference": differences or None,
                "created_at": uow.now,
            }
        ],
    )
    uow.write(_SIGNED_LINE, [{"qty": min(signed[line.id], line.shipped_qty), "id": line.id} for line in lines])
    uow.write(_SIGNED_BOXES, [{"shipment_id": shipment.id, "at": at}])
    _set_status(uow, shipment, "delivered", delivered_at=at)
    states = []
    for order_id, status_before in sorted({line.order_id: line.order_status for line in lines}.items()):
        state = sync_order(uow, order_id)
        states.append(state)
        uow.audit(
            actor,
            "shipment.deliver",
            "orders",
            order_id,
            version=state.version,
            facts={"shipment": shipment.number, "signed_by": command.signed_by, "difference": differences},
        )
        if state.status == "delivered" and status_before != "delivered":
            _tell_delivered(uow, shipment, state, at)
    ticket = _open_difference(uow, shipment, lines, differences)
    return ConfirmedDelivery(
        shipment.number,
        tuple(states),
        tuple(Difference(x["sku"], x["shipped_qty"], x["signed_qty"]) for x in differences),
        ticket,
    )


_SIGNED = Prepared(select(SignedReceipt.difference).where(SignedReceipt.shipment_id == bindparam("shipment_id")))
_INSERT_SIGNED = Prepared(insert(SignedReceipt.__table__))  # type: ignore[arg-type]
_SIGNED_LINE = Prepared("UPDATE shipment_line SET delivered_qty = :qty WHERE id = :id")
_SIGNED_BOXES = Prepared(
    update(Package)
    .where(Package.shipment_id == bindparam("shipment_id"), Package.status != "delivered")
    .values(status="delivered", status_at=bindparam("at"), version=Package.version + 1)
)


def _carrier_name(carrier: Any, language: str) -> str | None:
    if carrier is None:
        return None
    name: str = carrier.name_en if language == "en" and carrier.name_en else carrier.name
    return name


def _language_of(uow: UnitOfWork, order: ColumnElement[bool]) -> str:
    """The language of the customer of an order."""
    language: str = uow.conn.execute(select(Order.language).where(order)).scalar_one()
    return language


def _tell_delivered(uow: UnitOfWork, shipment: Any, state: OrderState, at: datetime) -> None:
    carrier = _carrier(uow, None, carrier_id=shipment.carrier_id)
    boxes = uow.rows(_PACKAGES, {"shipment_id": shipment.id})
    tell_customer(
        uow,
        "delivered",
        state.order_id,
        dedupe_key=f"delivered:{state.order_id}:{state.version}",
        carrier=_carrier_name(carrier, _language_of(uow, Order.id == state.order_id)),
        tracking_numbers=[box.tracking_number for box in boxes if box.tracking_number is not None],
        delivered_date=at.astimezone(uow.zone).date().isoformat(),
    )


def _open_difference(
    uow: UnitOfWork, shipment: Any, lines: Sequence[Any], differences: Sequence[Mapping[str, Any]]
) -> str | None:
    """What was signed differs from what was shipped: a ticket per order concerned; returns the first one's number."""
    first = None
    by_line = {line.id: line for line in lines}
    texts: dict[str, list[str]] = defaultdict(list)
    for row in differences:
        line = by_line[row["shipment_line_id"]]
        texts[line.order_number].append(f"{row['sku']}: {row['shipped_qty']} → {row['signed_qty']}")
    for order, rows in texts.items():
        is_english = _language_of(uow, Order.number == order) == "en"
        about = f"Signed for other than sent: {shipment.number}" if is_english else f"签收差异 {shipment.number}"
        opened = open_ticket(
            uow,
            SYSTEM,
            OpenTicket(
                order,
                "missing",
                about,
                "; ".join(rows),
                idem_key=f"signed:{shipment.id}:{order}",
            ),
        )
        first = first or opened.number
    return first
