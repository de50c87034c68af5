"""What carriers report: events move packages, packages move shipments, shipments move orders.

The log keeps every event, with what it did. A package's status is that of its newest event by the carrier's time, then
by rank, so that late, repeated and shuffled events end in one state. Goods count as delivered once any sound event said
so: a package that comes back later was delivered all the same, and a return takes it from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from orders_core.domain.lifecycle import REASONS
from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotAllowed, NotFound, OrdersError
from orders_core.notifications.tell import tell_customer
from orders_core.services.orders_state import sync_order
from orders_core.store.base import EPOCH, dump_json
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    Carrier,
    Order,
    OrderLine,
    Package,
    PackageLine,
    Shipment,
    ShipmentLine,
    SignedReceipt,
    TrackingEvent,
)
from orders_core.store.uow import UnitOfWork

RANK = {
    "packed": 0,
    "picked_up": 1,
    "in_transit": 2,
    "out_for_delivery": 3,
    "exception": 4,
    "delivered": 5,
    "returned": 6,
}
"""Which of two events of one moment stands: the higher."""

STATUS_MAP: dict[str, str] = {
    # what carriers' feeds commonly say, in English and Chinese; a carrier's settings["status_map"] comes first
    "packed": "packed",
    "label_created": "packed",
    "已下单": "packed",
    "待揽收": "packed",
    "picked_up": "picked_up",
    "collected": "picked_up",
    "accepted": "picked_up",
    "已揽收": "picked_up",
    "已揽件": "picked_up",
    "揽收": "picked_up",
    "in_transit": "in_transit",
    "transit": "in_transit",
    "arrived": "in_transit",
    "departed": "in_transit",
    "运输中": "in_transit",
    "在途": "in_transit",
    "out_for_delivery": "out_for_delivery",
    "派送中": "out_for_delivery",
    "派件中": "out_for_delivery",
    "正在派件": "out_for_delivery",
    "delivered": "delivered",
    "signed": "delivered",
    "已签收": "delivered",
    "签收": "delivered",
    "妥投": "delivered",
    "exception": "exception",
    "delivery_failed": "exception",
    "异常": "exception",
    "疑难件": "exception",
    "派送失败": "exception",
    "拒收": "exception",
    "returned": "returned",
    "returned_to_sender": "returned",
    "已退回": "returned",
    "退回": "returned",
    "退签": "returned",
}

CLOCK_SKEW = timedelta(minutes=10)
"""A carrier's clock may be this far ahead of ours; later than that is no time an event can have happened."""
BEFORE_PACKED = timedelta(days=30)
"""A package may be typed in this long after the carrier took it; older events belong to another use of the number."""


class AmbiguousTrackingNumber(OrdersError):
    """Several packages carry that number; nothing was changed."""

    code = "E_AMBIGUOUS"
    en = "tracking number {tracking_number} of {carrier} belongs to {count} packages"
    zh = "{carrier} 运单号 {tracking_number} 对应 {count} 个包裹"


class ImpossibleTime(InvalidCommand):
    """The event has no time it can have happened at; it is kept aside and moves nothing."""

    code = "E_TIME"
    en = "{carrier} {tracking_number}: {occurred_at} is no time this can have happened ({problem})"
    zh = "{carrier} {tracking_number}：时间 {occurred_at} 不可能（{problem}）"


@dataclass(frozen=True)
class TrackingEventIn:
    """One event as a carrier reported it, by webhook, poll or file.

    `event_key` is the carrier's own id of the event; without one, number, status, time and place stand for it.
    `occurred_at` is an aware instant, or ISO text with an offset; anything else is quarantined. `raw` is the event as
    it came, kept for whoever has to look into it.
    """

    carrier: str
    tracking_number: str
    raw_status: str
    occurred_at: datetime | str | None
    event_key: str | None = None
    place: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackingResult:
    """What an event did.

    `outcome`: `applied` (the package's newest), `late` (kept; something newer is known), `unmapped` (kept; nobody said
    yet what the carrier's word means), `quarantined` (kept; `refusal` says why) or `repeated` (known; nothing done).
    """

    outcome: str
    event_id: int
    package_id: int | None = None
    package_status: str | None = None
    order_ids: Sequence[int] = ()
    refusal: OrdersError | None = None


@dataclass(frozen=True)
class UnscannedLabel:
    """A parcel with a label that the carrier has not seen since."""

    package_id: int
    shipment_number: str
    carrier: str
    tracking_number: str
    labelled_at: datetime
    waited_hours: int


@dataclass(frozen=True)
class QuarantinedEvent:
    """An event that was kept aside: for a number we don't know or several packages carry, or at an impossible time."""

    event_id: int
    carrier: str
    tracking_number: str
    raw_status: str
    received_at: datetime
    code: str


@dataclass(frozen=True)
class UnmappedStatus:
    """A carrier's word that has no meaning here yet, and how many events used it."""

    carrier: str
    raw_status: str
    event_count: int
    newest_at: datetime


# ------------------------------------------------------------------------------------------------------------ commands


def record_event(uow: UnitOfWork, actor: Actor, event: TrackingEventIn) -> TrackingResult:
    """Keep one carrier event and let it move its package, shipment and orders.

    An event for a number we don't know, or that several packages carry, or at an impossible time, is kept as
    `quarantined`, audited, and answered with the refusal in the result: nothing is raised, because raising would undo
    the keeping. When such an event, or an unmapped one, comes again it is judged again.

    Raises:
        NotFound: No such carrier.
        InvalidCommand: No tracking number or no status at all.
        PermissionDenied: The actor may not (`tracking.record`).
    """
    actor.must("tracking.record")
    number = event.tracking_number.strip()
    if not number or not event.raw_status.strip():
        raise InvalidCommand(field="tracking event", problem="event_incomplete")
    carrier = uow.row(_CARRIER_BY_CODE, {"code": event.carrier})
    if carrier is None:
        raise NotFound(entity="carrier", key=event.carrier)
    key = event.event_key or _derived_key(event)
    known = uow.row(_EVENT_BY_KEY, {"carrier_id": carrier.id, "event_key": key})
    if known is not None:
        if known.outcome in ("applied", "late"):
            return TrackingResult("repeated", known.id, known.package_id)
        return _judge(uow, actor, carrier, known)
    fresh = _Event(
        id=uow.new_id(),
        carrier_id=carrier.id,
        event_key=key,
        tracking_number=number,
        raw_status=event.raw_status.strip(),
        received_at=uow.now,
        place=event.place,
        raw={"event": dict(event.raw), "occurred_at": _as_text(event.occurred_at)},
    )
    return _judge(uow, actor, carrier, fresh)


def import_events(uow: UnitOfWork, actor: Actor, events: Sequence[TrackingEventIn]) -> list[TrackingResult]:
    """Record the rows of a file in one transaction: one result per event, in their order.

    Raises:
        As `record_event`; then none of them is recorded.
    """
    return [record_event(uow, actor, event) for event in events]


def judge_again(uow: UnitOfWork, actor: Actor, carrier_code: str) -> list[TrackingResult]:
    """Judge a carrier's quarantined and unmapped events again, oldest first: after a number or a status map was added.

    Raises:
        NotFound: No such carrier.
        PermissionDenied: The actor may not (`tracking.record`).
    """
    actor.must("tracking.record")
    carrier = uow.row(_CARRIER_BY_CODE, {"code": carrier_code})
    if carrier is None:
        raise NotFound(entity="carrier", key=carrier_code)
    open_events = _EVENT.where(
        TrackingEvent.carrier_id == carrier.id, TrackingEvent.outcome.in_(["quarantined", "unmapped"])
    )
    return [_judge(uow, actor, carrier, row) for row in uow.rows(open_events.order_by(TrackingEvent.id))]


def deliver_package(
    uow: UnitOfWork, actor: Actor, package_id: int, *, delivered_at: datetime | None = None
) -> Sequence[int]:
    """Record by hand that a package arrived (own truck, pick-up, signed receipt): the ids of the orders it moved.

    Its lines count as delivered, its shipment once all packages are. A second time changes nothing.

    Raises:
        NotFound: No such package.
        NotAllowed: Its shipment has not left.
        PermissionDenied: The actor may not (`shipment.deliver`).
    """
    actor.must("shipment.deliver")
    package = uow.row(_PACKAGE_BY_ID, {"package_id": package_id})
    if package is None:
        raise NotFound(entity="package", key=package_id)
    package = _locked(uow, package)
    if package.shipped_at is None:
        raise NotAllowed(
            action="deliver",
            entity="shipment",
            key=package.shipment_number,
            status=package.shipment_status,
            reason=REASONS["not_gone"][0],
            reason_zh=REASONS["not_gone"][1],
            reason_code="not_gone",
        )
    if package_id in _first_delivered(_boxes(uow, package.shipment_id)):
        return []
    at = delivered_at or uow.now
    if package.carrier_id is not None:
        # A carrier may report on; its events are weighed against this one, so this one stands in the log as well.
        by_hand = _Event(
            id=uow.new_id(),
            carrier_id=package.carrier_id,
            event_key=f"by-hand:{package_id}",
            tracking_number=package.tracking_number or "",
            raw_status="delivered",
            received_at=uow.now,
            place=None,
            raw={"actor": actor.name},
        )
        _store(uow, by_hand, outcome="applied", package_id=package_id, occurred_at=at, status="delivered")
    _move_package(uow, actor, package, "delivered", at)
    return refresh_shipment(uow, actor, package.shipment_id)


def refresh_shipment(uow: UnitOfWork, actor: Actor, shipment_id: int) -> Sequence[int]:
    """Bring a shipment's delivered quantities, status and orders in step with its packages: the ids of those orders.

    Delivered is what the delivered packages hold, and everything once all are; never more than was shipped and never
    less than before. So a package may arrive before our own paperwork says it left: shipping ends with this call.
    What a signed receipt says stands, whatever the carrier reports of its packages.
    """
    orders = _lock_orders(uow, shipment_id)
    (shipment,) = uow.rows(_SHIPMENT_LOCKED, {"shipment_id": shipment_id})
    boxes = _boxes(uow, shipment_id)
    delivered = _first_delivered(boxes)
    is_signed = shipment.signed_at is not None
    is_all = is_signed or (bool(boxes) and len(delivered) == len(boxes))
    arrived = []
    if delivered and not is_signed:
        for line in uow.rows(_PACKED_LINES, {"shipment_id": shipment_id, "delivered_ids": list(delivered)}):
            wanted = line.shipped_qty if is_all else min(line.shipped_qty, line.arrived_qty or 0)
            if wanted > line.delivered_qty:
                arrived.append({"id": line.id, "qty": wanted})
    if arrived:
        uow.write(_ARRIVED, arrived)
    status, delivered_at, version = shipment.status, shipment.delivered_at, shipment.version + 1
    if shipment.shipped_at is not None and boxes:
        status = _shipment_status({box.status for box in boxes}, is_all)
        if is_all:
            delivered_at = shipment.signed_at or max(delivered.values())
        if status != shipment.status:
            uow.audit(actor, f"shipment.{status}", "shipment", shipment_id, version=version)
    uow.write(_STORE_SHIPMENT, [{"shipment_id": shipment_id, "to_status": status, "at": delivered_at}])
    uow.changed("shipment", shipment_id, version)
    if arrived:
        for order_id, status_before in orders.items():
            _sync(uow, actor, order_id, status_before)
    return list(orders)


# ------------------------------------------------------------------------------------------------------------- lists


def unscanned_labels(conn: Connection, now: datetime, *, hours: int = 24) -> list[UnscannedLabel]:
    """Courier parcels labelled `hours` ago or longer that the carrier never scanned, the longest waiting first."""
    statement = (
        select(
            Package.id, Shipment.number, Carrier.code, Package.tracking_number, Package.created_at.label("labelled_at")
        )
        .join(Shipment, Shipment.id == Package.shipment_id)
        .join(Carrier, Carrier.id == _CARRIER_ID)
        .where(
            Package.status == "packed",
            Package.tracking_number.is_not(None),
            Package.created_at <= now - timedelta(hours=hours),
            Shipment.status.not_in(["cancelled", "delivered"]),
            Carrier.kind == "courier",
        )
        .order_by(Package.created_at, Package.id)
    )
    return [
        UnscannedLabel(
            row.id,
            row.number,
            row.code,
            row.tracking_number,
            row.labelled_at,
            (now - row.labelled_at) // timedelta(hours=1),
        )
        for row in conn.execute(statement)
    ]


def unmapped_statuses(conn: Connection) -> list[UnmappedStatus]:
    """Carriers' words nobody has given a meaning yet, the most frequent first."""
    statement = (
        select(
            Carrier.code,
            TrackingEvent.raw_status,
            func.count().label("event_count"),
            func.max(TrackingEvent.received_at).label("newest_at"),
        )
        .join(Carrier, Carrier.id == TrackingEvent.carrier_id)
        .where(TrackingEvent.outcome == "unmapped")
        .group_by(Carrier.code, TrackingEvent.raw_status)
        .order_by(func.count().desc(), Carrier.code, TrackingEvent.raw_status)
    )
    return [UnmappedStatus(row.code, row.raw_status, row.event_count, row.newest_at) for row in conn.execute(statement)]


def quarantined_events(conn: Connection) -> list[QuarantinedEvent]:
    """Events that were kept aside, oldest first, each with the code of the reason."""
    statement = (
        select(
            TrackingEvent.id,
            Carrier.code.label("carrier"),
            TrackingEvent.tracking_number,
            TrackingEvent.raw_status,
            TrackingEvent.received_at,
            TrackingEvent.raw,
        )
        .join(Carrier, Carrier.id == TrackingEvent.carrier_id)
        .where(TrackingEvent.outcome == "quarantined")
        .order_by(TrackingEvent.id)
    )
    return [
        QuarantinedEvent(row.id, row.carrier, row.tracking_number, row.raw_status, row.received_at, row.raw["problem"])
        for row in conn.execute(statement)
    ]


# ----------------------------------------------------------------------------------------------------------- judging

_CARRIER_ID = func.coalesce(Package.carrier_id, Shipment.carrier_id)
_EVENT = select(
    TrackingEvent.id,
    TrackingEvent.tracking_number,
    TrackingEvent.raw_status,
    TrackingEvent.package_id,
    TrackingEvent.received_at,
    TrackingEvent.outcome,
    TrackingEvent.raw,
)
_PACKAGE = select(
    Package.id,
    Package.shipment_id,
    Package.package_no,
    Package.tracking_number,
    Package.status,
    Package.status_at,
    Package.created_at,
    _CARRIER_ID.label("carrier_id"),
    Shipment.number.label("shipment_number"),
    Shipment.status.label("shipment_status"),
    Shipment.shipped_at,
).join(Shipment, Shipment.id == Package.shipment_id)
_CARRIER_BY_CODE = Prepared(select(Carrier.id, Carrier.code, Carrier.settings).where(Carrier.code == bindparam("code")))
_EVENT_BY_KEY = Prepared(
    _EVENT.where(TrackingEvent.carrier_id == bindparam("carrier_id"), TrackingEvent.event_key == bindparam("event_key"))
)
_INSERT_EVENT = Prepared(insert(TrackingEvent.__table__))  # type: ignore[arg-type]
_PACKAGE_BY_ID = Prepared(_PACKAGE.where(Package.id == bindparam("package_id")))
_PACKAGE_LOCKED = Prepared(
    _PACKAGE.where(Package.id == bindparam("package_id")).with_for_update(of=Package, key_share=True)
)
_PACKAGES_NUMBERED = Prepared(
    _PACKAGE.where(
        Package.tracking_number == bindparam("tracking_number"),
        bindparam("carrier_id") == _CARRIER_ID,
        Shipment.status != "cancelled",
    )
)
_MOVE_PACKAGE = Prepared(
    update(Package)
    .where(Package.id == bindparam("package_id"))
    .values(status=bindparam("to_status"), status_at=bindparam("at"), version=Package.version + 1)
)
_SHIPMENT_LOCKED = Prepared(
    select(
        Shipment.status,
        Shipment.shipped_at,
        Shipment.delivered_at,
        Shipment.version,
        select(SignedReceipt.signed_at)
        .where(SignedReceipt.shipment_id == Shipment.id)
        .scalar_subquery()
        .label("signed_at"),
    )
    .where(Shipment.id == bindparam("shipment_id"))
    .with_for_update(key_share=True)
)
_STORE_SHIPMENT = Prepared(
    update(Shipment)
    .where(Shipment.id == bindparam("shipment_id"))
    .values(status=bindparam("to_status"), delivered_at=bindparam("at"), version=Shipment.version + 1)
)
_ORDERS_ON_BOARD = Prepared(
    select(Order.id, Order.status)
    .where(
        Order.id.in_(
            select(OrderLine.order_id)
            .join(ShipmentLine, ShipmentLine.order_line_id == OrderLine.id)
            .where(ShipmentLine.shipment_id == bindparam("shipment_id"))
        )
    )
    .order_by(Order.id)
    .with_for_update(key_share=True)
)
_BOXES = Prepared(
    select(
        Package.id,
        Package.status,
        Package.status_at,
        select(func.min(TrackingEvent.occurred_at))
        .where(
            TrackingEvent.package_id == Package.id,
            TrackingEvent.status == "delivered",
            TrackingEvent.outcome.in_(["applied", "late"]),
        )
        .scalar_subquery()
        .label("reported_delivered_at"),
    ).where(Package.shipment_id == bindparam("shipment_id"))
)
_PACKED_LINES = Prepared(
    select(
        ShipmentLine.id,
        ShipmentLine.shipped_qty,
        ShipmentLine.delivered_qty,
        select(func.sum(PackageLine.qty))
        .where(
            PackageLine.shipment_line_id == ShipmentLine.id,
            PackageLine.package_id.in_(bindparam("delivered_ids", expanding=True)),
        )
        .scalar_subquery()
        .label("arrived_qty"),
    )
    .where(ShipmentLine.shipment_id == bindparam("shipment_id"))
    .order_by(ShipmentLine.id)
)
_ARRIVED = Prepared("UPDATE shipment_line SET delivered_qty = :qty WHERE id = :id")


@dataclass(frozen=True)
class _Event:
    """An event that is not in the log yet; one that is comes as its row."""

    id: int
    carrier_id: int
    event_key: str
    tracking_number: str
    raw_status: str
    received_at: datetime
    place: str | None
    raw: Mapping[str, Any]


def _judge(uow: UnitOfWork, actor: Actor, carrier: Row[Any], event: Row[Any] | _Event) -> TrackingResult:
    """What one event does now; the log is brought in step."""
    try:
        at = _instant(carrier, event)
        package = _package_of(uow, carrier, event, at)
    except (NotFound, AmbiguousTrackingNumber, ImpossibleTime) as refusal:
        if event.raw.get("problem") != refusal.code:  # a repetition of a refused event is not news
            uow.audit(
                actor, "tracking.refused", "tracking_event", event.id, facts={"code": refusal.code, **refusal.facts}
            )
            _store(uow, event, outcome="quarantined", raw={**event.raw, "problem": refusal.code})
        return TrackingResult("quarantined", event.id, refusal=refusal)
    status = _meaning(carrier, event.raw_status)
    if status is None:
        _store(uow, event, outcome="unmapped", package_id=package.id, occurred_at=at)
        return TrackingResult("unmapped", event.id, package.id, package.status)
    package = _locked(uow, package)
    is_newer = _order_of(status, at) > _order_of(package.status, package.status_at)
    _store(uow, event, outcome="applied" if is_newer else "late", package_id=package.id, occurred_at=at, status=status)
    if is_newer:
        _move_package(uow, actor, package, status, at)
    order_ids: Sequence[int] = ()
    if is_newer or status == "delivered":
        order_ids = refresh_shipment(uow, actor, package.shipment_id)
    if is_newer:
        _tell_of(uow, package, status, event.raw_status)
        return TrackingResult("applied", event.id, package.id, status, order_ids)
    return TrackingResult("late", event.id, package.id, package.status, order_ids)


def _store(uow: UnitOfWork, event: Row[Any] | _Event, **values: Any) -> None:
    """Note in the log what became of the event."""
    if isinstance(event, _Event):
        uow.write(_INSERT_EVENT, [{**vars(event), **values}])
        uow.changed("tracking_event", event.id, 1, "insert")
    else:
        uow.conn.execute(update(TrackingEvent).where(TrackingEvent.id == event.id).values(**values))
        uow.changed("tracking_event", event.id, 2)  # judged again; nobody else changes an event


def _order_of(status: str, at: datetime | None) -> tuple[bool, datetime, int]:
    """Events sort by this. Whatever a carrier says comes after our own packing, whenever we typed that in."""
    return (status != "packed", at or EPOCH, RANK[status])


def _instant(carrier: Row[Any], event: Row[Any] | _Event) -> datetime:
    """When the event happened. Raises ImpossibleTime."""
    text = event.raw["occurred_at"]
    problem = "without offset"
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        problem = "unreadable"
    else:
        if at.tzinfo is not None:
            at = at.astimezone(UTC)
            if at <= event.received_at + CLOCK_SKEW:
                return at
            problem = "in the future"
    raise ImpossibleTime(
        carrier=carrier.code, tracking_number=event.tracking_number, occurred_at=text or "-", problem=problem
    )


def _package_of(uow: UnitOfWork, carrier: Row[Any], event: Row[Any] | _Event, at: datetime) -> Row[Any]:
    """The one package the event is about. Raises NotFound, AmbiguousTrackingNumber, ImpossibleTime."""
    packages = uow.rows(_PACKAGES_NUMBERED, {"tracking_number": event.tracking_number, "carrier_id": carrier.id})
    number = f"{carrier.code} {event.tracking_number}"
    if not packages:
        raise NotFound(entity="package", key=number)
    if len(packages) > 1:
        raise AmbiguousTrackingNumber(carrier=carrier.code, tracking_number=event.tracking_number, count=len(packages))
    if at < packages[0].created_at - BEFORE_PACKED:
        raise ImpossibleTime(
            carrier=carrier.code,
            tracking_number=event.tracking_number,
            occurred_at=at.isoformat(),
            problem="long before it was packed",
        )
    return packages[0]


def _meaning(carrier: Row[Any], raw_status: str) -> str | None:
    """The status a carrier's word stands for: by the carrier's own map first; None when nobody said."""
    own = (carrier.settings or {}).get("status_map", {})
    words = {_normal(word): status for word, status in {**STATUS_MAP, **own}.items()}
    status = words.get(_normal(raw_status))
    return status if status in RANK else None


def _normal(word: str) -> str:
    return "_".join(word.casefold().replace("-", " ").replace("_", " ").split())


def _derived_key(event: TrackingEventIn) -> str:
    parts = [event.tracking_number.strip(), event.raw_status.strip(), _as_text(event.occurred_at), event.place]
    return "derived:" + hashlib.sha256(dump_json(parts).encode()).hexdigest()[:32]


def _as_text(occurred_at: datetime | str | None) -> str | None:
    return occurred_at.isoformat() if isinstance(occurred_at, datetime) else occurred_at


# ------------------------------------------------------------------------------------------- packages, shipments, orders


def _locked(uow: UnitOfWork, package: Row[Any]) -> Row[Any]:
    """The package, with its orders, its shipment and itself locked in that order: two events can't pass each other."""
    if uow.is_sqlite:  # one writer at a time: all of it is locked already
        return package
    _lock_orders(uow, package.shipment_id)
    uow.rows(_SHIPMENT_LOCKED, {"shipment_id": package.shipment_id})
    (package,) = uow.rows(_PACKAGE_LOCKED, {"package_id": package.id})
    return package


def _lock_orders(uow: UnitOfWork, shipment_id: int) -> dict[int, str]:
    """The shipment's orders, locked by ascending id, and the status of each."""
    return {row.id: row.status for row in uow.rows(_ORDERS_ON_BOARD, {"shipment_id": shipment_id})}


def _move_package(uow: UnitOfWork, actor: Actor, package: Row[Any], status: str, at: datetime) -> None:
    uow.write(_MOVE_PACKAGE, [{"package_id": package.id, "to_status": status, "at": at}])
    if status != package.status:
        facts = {"package_no": package.package_no, "tracking_number": package.tracking_number, "at": at.isoformat()}
        uow.audit(actor, f"package.{status}", "shipment", package.shipment_id, facts=facts)


def _boxes(uow: UnitOfWork, shipment_id: int) -> Sequence[Row[Any]]:
    """The packages of a shipment, each with the first time a sound event said it was delivered."""
    return uow.rows(_BOXES, {"shipment_id": shipment_id})


def _first_delivered(boxes: Sequence[Row[Any]]) -> dict[int, datetime]:
    """Package id -> when it was first delivered, for those that were, returned ones included."""
    # The log wins: a package's own time is that of its newest event, not of its first.
    return {
        box.id: box.reported_delivered_at or box.status_at
        for box in boxes
        if box.reported_delivered_at is not None or box.status == "delivered"
    }


def _shipment_status(package_statuses: Set[str], is_all_delivered: bool) -> str:
    if package_statuses & {"exception", "returned"}:
        return "exception"
    return "delivered" if is_all_delivered else "shipped"


def _sync(uow: UnitOfWork, actor: Actor, order_id: int, status_before: str) -> None:
    state = sync_order(uow, order_id)
    if state.status == "delivered" and status_before != "delivered":
        uow.audit(actor, "order.delivered", "orders", order_id, version=state.version)
        parcels = uow.rows(_PARCELS, {"order_id": order_id})
        last = max((row.delivered_at for row in parcels if row.delivered_at is not None), default=uow.now)
        tell_customer(
            uow,
            "delivered",
            order_id,
            dedupe_key=f"delivered:{order_id}:{state.version}",
            **_told(parcels),
            delivered_date=last.astimezone(uow.zone).date().isoformat(),
        )


# ------------------------------------------------------------------------------------------------------------ notices


def _tell_of(uow: UnitOfWork, package: Row[Any], status: str, raw_status: str) -> None:
    """Tell the customers of a package that it arrives soon, or that something is wrong with it; each once."""
    if status == "out_for_delivery":
        for order_id in _orders_in(uow, package):
            key = f"arriving:{order_id}:{package.shipment_id}"
            tell_customer(uow, "arriving", order_id, dedupe_key=key, **_parcel(uow, order_id, package))
    elif status == "exception" or (
        status == "returned" and package.id not in _first_delivered(_boxes(uow, package.shipment_id))
    ):
        for order_id in _orders_in(uow, package):
            key = f"delivery_exception:{order_id}:{package.id}"
            facts = _parcel(uow, order_id, package)
            language = uow.conn.execute(select(Order.language).where(Order.id == order_id)).scalar_one()
            # The carrier's words help who can read them.
            reason = raw_status if language == "zh" or raw_status.isascii() else None
            tell_customer(uow, "delivery_exception", order_id, dedupe_key=key, reason=reason, **facts)


def _orders_in(uow: UnitOfWork, package: Row[Any]) -> Sequence[int]:
    """The orders with goods in the package; all of the shipment where nobody wrote down what is in which box."""
    packed = [row.order_id for row in uow.rows(_ORDERS_IN, {"package_id": package.id})]
    return packed or list(_lock_orders(uow, package.shipment_id))


_ORDERS_IN = Prepared(
    select(OrderLine.order_id)
    .join(ShipmentLine, ShipmentLine.order_line_id == OrderLine.id)
    .join(PackageLine, PackageLine.shipment_line_id == ShipmentLine.id)
    .where(PackageLine.package_id == bindparam("package_id"))
    .distinct()
    .order_by(OrderLine.order_id)
)
_PARCELS = Prepared(
    select(Package.id, Package.tracking_number, Carrier.name, Carrier.name_en, Order.language, Shipment.delivered_at)
    .join(Shipment, Shipment.id == Package.shipment_id)
    .join(Order, Order.id == bindparam("order_id"))
    .outerjoin(Carrier, Carrier.id == _CARRIER_ID)
    .where(
        Package.shipment_id.in_(
            select(ShipmentLine.shipment_id)
            .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
            .where(OrderLine.order_id == bindparam("order_id"))
        ),
        Shipment.status != "cancelled",
    )
    .order_by(Shipment.id, Package.package_no)
)


def _parcel(uow: UnitOfWork, order_id: int, package: Row[Any]) -> dict[str, Any]:
    return _told([row for row in uow.rows(_PARCELS, {"order_id": order_id}) if row.id == package.id])


def _told(parcels: Sequence[Row[Any]]) -> dict[str, Any]:
    """Carriers and tracking numbers of an order's parcels, for a notice."""
    names = [row.name_en if row.language == "en" and row.name_en else row.name for row in parcels if row.name]
    return {
        "carrier": " / ".join(dict.fromkeys(names)) or None,
        "tracking_numbers": [row.tracking_number for row in parcels if row.tracking_number],
    }
