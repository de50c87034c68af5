"""Carrier events move packages, shipments and orders; repeated, late, unknown and impossible ones do no harm."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import InvalidCommand, NotAllowed, NotFound, PermissionDenied
from orders_core.ports import FixedClock
from orders_core.services.orders_state import sync_order
from orders_core.services.tracking import (
    RANK,
    TrackingEventIn,
    TrackingResult,
    deliver_package,
    import_events,
    judge_again,
    quarantined_events,
    record_event,
    refresh_shipment,
    unmapped_statuses,
    unscanned_labels,
)
from orders_core.store.tables import (
    AuditEntry,
    Carrier,
    Order,
    OrderLine,
    Outbox,
    Package,
    Shipment,
    ShipmentLine,
    SignedReceipt,
    TrackingEvent,
)
from orders_core.store.tables.fulfilment import PACKAGE_STATUSES
from orders_core.store.uow import Store, UnitOfWork
from tests.conftest import StatedCount
from tests.support import build
from tests.support.build import at_once, notices, order, order_lines, order_row, rows, shipments
from tests.tracking.shipping import consolidate, leave, ship, shop

DAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at_noon(store: Store, clock: FixedClock) -> None:
    """It is 08:00 UTC when goods leave, and 18:00 when the events come in, unless a test says otherwise."""
    clock.set(DAY + timedelta(hours=8))
    shop(store)


def evening(clock: FixedClock) -> None:
    clock.set(DAY + timedelta(hours=18))


def event(
    number: str, status: str, at: str | datetime | None, *, carrier: str = "SF", **fields: Any
) -> TrackingEventIn:
    """`at` is a time of the day, `"12:00"`, or whatever the carrier sent."""
    if isinstance(at, str) and len(at) == 5:
        at = datetime.fromisoformat(f"2026-03-02T{at}:00+00:00")
    return TrackingEventIn(carrier, number, status, at, **fields)


def tell(store: Store, number: str, status: str, at: Any, **fields: Any) -> TrackingResult:
    return store.run(record_event, SYSTEM, event(number, status, at, **fields))


def package(store: Store, package_id: int) -> Any:
    return rows(store, select(Package.__table__).where(Package.id == package_id))[0]


def log(store: Store) -> list[tuple[str, str]]:
    found = rows(store, select(TrackingEvent.raw_status, TrackingEvent.outcome).order_by(TrackingEvent.id))
    return [(row.raw_status, row.outcome) for row in found]


# ------------------------------------------------------------------------------------------------------------- case 37


def test_case_37_a_late_and_a_repeated_event_change_nothing_and_one_mail_goes_out(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 2, RUG 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 2, RUG 1")
    evening(clock)
    assert tell(store, "SF1", "delivered", "12:00", event_key="e1").outcome == "applied"
    late = tell(store, "SF1", "in_transit", "11:00", event_key="e2")
    assert (late.outcome, late.package_status) == ("late", "delivered")
    assert tell(store, "SF1", "delivered", "12:00", event_key="e1").outcome == "repeated"
    assert package(store, box).status == "delivered"
    assert log(store) == [("delivered", "applied"), ("in_transit", "late")]
    assert [line.delivered_qty for line in order_lines(store, placed.number)] == [2, 1]
    assert order_row(store, placed.number).status == "delivered"
    (mail,) = notices(store, "delivered")
    assert mail.facts["delivered_date"] == "2026-03-02" and mail.facts["tracking_numbers"] == ["SF1"]
    assert mail.facts["carrier"] == "顺丰速运" and mail.recipient == "buyer@acme.cn"
    (shipment,) = shipments(store, placed.number)
    assert shipment.status == "delivered" and shipment.delivered_at == DAY + timedelta(hours=12)


def test_case_37_one_of_two_parcels_delivered_is_partly_and_both_numbers_are_kept(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 3, RUG 1")
    ship(store, placed.number, "SF1: LAMP 2", "SF2: LAMP 1, RUG 1")
    evening(clock)
    tell(store, "SF1", "delivered", "12:00")
    assert [line.delivered_qty for line in order_lines(store, placed.number)] == [2, 0]
    assert order_row(store, placed.number).status == "partly_delivered"
    assert notices(store, "delivered") == []
    assert shipments(store, placed.number)[0].status == "shipped"
    tell(store, "SF2", "delivered", "13:00")
    assert [line.delivered_qty for line in order_lines(store, placed.number)] == [3, 1]
    (mail,) = notices(store, "delivered")
    assert mail.facts["tracking_numbers"] == ["SF1", "SF2"]
    assert shipments(store, placed.number)[0].delivered_at == DAY + timedelta(hours=13)


def test_case_37_an_unknown_number_is_refused_logged_and_applied_once_it_is_known(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    refused = tell(store, "SF9", "delivered", "12:00", event_key="e1", raw={"id": 7})
    assert refused.outcome == "quarantined" and isinstance(refused.refusal, NotFound)
    assert str(refused.refusal) == "no package SF SF9"
    assert tell(store, "SF9", "delivered", "12:00", event_key="e1").outcome == "quarantined"
    with store.reading() as conn:
        (kept,) = quarantined_events(conn)
    assert (kept.tracking_number, kept.code) == ("SF9", "E_NOT_FOUND")
    assert rows(store, select(TrackingEvent.raw))[0].raw["event"] == {"id": 7}
    audits = rows(store, select(AuditEntry.facts).where(AuditEntry.action == "tracking.refused"))
    assert [row.facts["code"] for row in audits] == ["E_NOT_FOUND"], "a repetition is not audited again"
    assert package(store, box).status == "packed" and order_row(store, placed.number).status == "shipped"
    with store.unit_of_work() as uow:
        uow.conn.execute(update(Package).where(Package.id == box).values(tracking_number="SF9"))
    (result,) = store.run(judge_again, SYSTEM, "SF")
    assert result.outcome == "applied"
    assert order_row(store, placed.number).status == "delivered"


def test_case_37_an_ambiguous_number_is_refused_and_logged(store: Store, clock: FixedClock) -> None:
    first, second = order(store, "LAMP 1"), order(store, "LAMP 2")
    boxes = [
        *ship(store, first.number, "SF1: LAMP 1", carrier_code=None, shipment_carrier="SF"),
        *ship(store, second.number, "SF1: LAMP 2", carrier_code=None, shipment_carrier="SF"),
    ]
    evening(clock)
    refused = tell(store, "SF1", "delivered", "12:00")
    assert refused.refusal is not None and refused.refusal.code == "E_AMBIGUOUS"
    assert refused.refusal.text("zh") == "SF 运单号 SF1 对应 2 个包裹"
    assert [package(store, box).status for box in boxes] == ["packed", "packed"]
    assert log(store) == [("delivered", "quarantined")]


# --------------------------------------------------------------------------------- carrier cases 44 to 51 of bad_input


def test_carrier_case_44_an_exact_replay_has_no_effect_with_or_without_the_carriers_id(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 1")
    ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    for fields in ({"event_key": "e1"}, {}):
        first = tell(store, "SF1", "in_transit", "12:00", **fields)
        before = order_row(store, placed.number), shipments(store, placed.number)
        again = tell(store, "SF1", "in_transit", "12:00", **fields)
        assert (again.outcome, again.event_id) == ("repeated", first.event_id)
        assert (order_row(store, placed.number), shipments(store, placed.number)) == before
    assert len(log(store)) == 2


def test_carrier_case_45_delivered_before_picked_up(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    tell(store, "SF1", "delivered", "12:00")
    tell(store, "SF1", "已揽收", "09:00")
    tell(store, "SF1", "label_created", "12:30")
    assert package(store, box).status == "delivered"
    assert log(store) == [("delivered", "applied"), ("已揽收", "late"), ("label_created", "late")]


def test_carrier_case_45_shuffles_with_duplicates_end_in_one_state(
    store: Store, clock: FixedClock, stated_count: StatedCount
) -> None:
    placed = order(store, "LAMP 3, RUG 1")
    boxes = ship(store, placed.number, "SF1: LAMP 2", "SF2: LAMP 1, RUG 1")
    evening(clock)
    chance = random.Random(45)
    seen: Counter[str] = Counter()
    for _ in range(stated_count(small=25, stated=1000)):
        events = [
            event(number, status, f"{chance.randint(9, 12):02}:00", event_key=f"{number} {i}")
            for number in ("SF1", "SF2")
            for i, status in enumerate(chance.choices([*PACKAGE_STATUSES, "delivered"], k=chance.randint(1, 3)))
        ]
        shuffled = chance.choices(events, k=len(events)) + events
        chance.shuffle(shuffled)
        in_order = sorted(events, key=lambda one: (one.occurred_at, RANK[one.raw_status]))
        state = _state_after(store, in_order, placed.order_id)
        assert _state_after(store, shuffled, placed.order_id) == state
        assert state["log"] == sorted(one.event_key or "" for one in events)
        for box, number in zip(boxes, ("SF1", "SF2"), strict=True):
            newest = max(
                (one for one in events if one.tracking_number == number),
                key=lambda one: (one.raw_status != "packed", one.occurred_at, RANK[one.raw_status]),
            )
            assert state["packages"][box][:2] == (newest.raw_status, newest.occurred_at)
        seen[state["order"]] += 1
    assert {"shipped", "partly_delivered", "delivered"} <= seen.keys()


def _delivered(uow: UnitOfWork, table: Any) -> dict[int, int]:
    return {row.id: row.delivered_qty for row in uow.rows(select(table.id, table.delivered_qty))}


class _Undo(Exception):
    pass


def _state_after(store: Store, events: Sequence[TrackingEventIn], order_id: int) -> dict[str, Any]:
    """What the database says after these events; then they are undone."""
    try:
        with store.unit_of_work() as uow:
            import_events(uow, SYSTEM, events)
            uow.flush()
            shipment = uow.rows(select(Shipment.status, Shipment.delivered_at))
            state = {
                "log": sorted(row.event_key for row in uow.rows(select(TrackingEvent.event_key))),
                "packages": {
                    row.id: (row.status, row.status_at)
                    for row in uow.rows(select(Package.id, Package.status, Package.status_at))
                },
                "shipment": [tuple(row) for row in shipment],
                "lines": [
                    tuple(row)
                    for row in uow.rows(select(ShipmentLine.id, ShipmentLine.delivered_qty).order_by(ShipmentLine.id))
                ],
                "order_lines": [
                    tuple(row) for row in uow.rows(select(OrderLine.id, OrderLine.delivered_qty).order_by(OrderLine.id))
                ],
                "order": uow.rows(select(Order.status).where(Order.id == order_id))[0].status,
                "delivered_mails": len(uow.rows(select(Outbox.id).where(Outbox.template == "delivered"))),
            }
            raise _Undo
    except _Undo:
        pass
    assert state["delivered_mails"] == (state["order"] == "delivered")
    return state


def test_carrier_case_47_another_carriers_number_is_refused(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    refused = tell(store, "SF1", "SIGN", "12:00", carrier="YT")
    assert refused.outcome == "quarantined" and package(store, box).status == "packed"
    with pytest.raises(NotFound, match="no carrier DHL"):
        tell(store, "SF1", "delivered", "12:00", carrier="DHL")
    assert len(log(store)) == 1


def test_carrier_case_48_a_new_status_code_is_kept_counted_and_changes_nothing(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    assert tell(store, "SF1", "智能柜取件", "12:00").outcome == "unmapped"
    tell(store, "SF1", "智能柜取件", "12:10")
    tell(store, "SF1", "LOST IN SPACE", "12:20")
    assert package(store, box).status == "packed"
    with store.reading() as conn:
        counted = unmapped_statuses(conn)
    assert [(one.carrier, one.raw_status, one.event_count) for one in counted] == [
        ("SF", "智能柜取件", 2),
        ("SF", "LOST IN SPACE", 1),
    ]
    with store.unit_of_work() as uow:
        settings = {"status_map": {"智能柜取件": "delivered", "lost in space": "no such status"}}
        uow.conn.execute(update(Carrier).where(Carrier.code == "SF").values(settings=settings))
    results = store.run(judge_again, SYSTEM, "SF")
    assert [result.outcome for result in results] == ["applied", "applied", "unmapped"]
    assert order_row(store, placed.number).status == "delivered"


@pytest.mark.parametrize(
    ("at", "problem"),
    [
        ("2026-03-02T12:00:00", "without offset"),
        (datetime(2026, 3, 2, 12), "without offset"),  # noqa: DTZ001 - that is the case
        ("1970-01-01T00:00:00+00:00", "long before it was packed"),
        ("2099-01-01T00:00:00Z", "in the future"),
        ("2026-03-02T18:11:00Z", "in the future"),
        ("yesterday", "unreadable"),
        (None, "unreadable"),
    ],
)
def test_carrier_case_49_a_time_it_cannot_have_happened_at_is_quarantined(
    store: Store, clock: FixedClock, at: Any, problem: str
) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    refused = tell(store, "SF1", "delivered", at)
    assert refused.outcome == "quarantined" and refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.problem) == ("E_TIME", problem)
    assert package(store, box).status == "packed" and order_row(store, placed.number).status == "shipped"
    (kept,) = rows(store, select(TrackingEvent.occurred_at, TrackingEvent.raw))
    assert kept.occurred_at is None, "it can't move a figure"
    assert kept.raw["occurred_at"] == (at.isoformat() if isinstance(at, datetime) else at)


def test_carrier_case_49_a_local_time_with_its_offset_is_right(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    assert tell(store, "SF1", "delivered", "2026-03-02T20:00:00+08:00").outcome == "applied"
    assert package(store, box).status_at == DAY + timedelta(hours=12)


def test_carrier_case_50_returned_stands_against_an_older_delivered_that_comes_late(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    tell(store, "SF1", "delivered", "12:00", event_key="e1")
    tell(store, "SF1", "退回", "14:00", event_key="e2")
    assert tell(store, "SF1", "delivered", "11:00", event_key="e3").outcome == "late"
    assert package(store, box).status == "returned"
    assert order_lines(store, placed.number)[0].delivered_qty == 1, "the return takes it from here"
    assert shipments(store, placed.number)[0].status == "exception"


def test_carrier_case_51_two_carriers_for_one_order_all_must_deliver(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 2")
    (first, second) = ship(store, placed.number, "SF1: LAMP 1", "YT2: LAMP 1")
    with store.unit_of_work() as uow:
        yt = uow.rows(select(Carrier.id).where(Carrier.code == "YT"))[0].id
        uow.conn.execute(update(Package).where(Package.id == second).values(carrier_id=yt))
    evening(clock)
    tell(store, "YT2", "sign", "12:00", carrier="YT")
    assert [package(store, box).status for box in (first, second)] == ["packed", "delivered"]
    assert order_row(store, placed.number).status == "partly_delivered"
    tell(store, "SF1", "已签收", "12:30")
    assert order_row(store, placed.number).status == "delivered"
    (mail,) = notices(store, "delivered")
    assert mail.facts["carrier"] == "顺丰速运 / 圆通速递"


# ------------------------------------------------------------------------------------------------------------- I1, I3


def test_customers_hear_once_that_it_arrives_soon_and_once_that_something_is_wrong(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 2")
    ship(store, placed.number, "SF1: LAMP 1", "SF2: LAMP 1")
    evening(clock)
    tell(store, "SF1", "派送中", "09:00")
    tell(store, "SF1", "派送失败", "09:30")
    tell(store, "SF1", "派送中", "10:00")
    tell(store, "SF2", "派送中", "10:00")
    tell(store, "SF1", "派送失败", "10:30")
    (arriving,) = notices(store, "arriving")
    assert arriving.facts["tracking_numbers"] == ["SF1"]
    (wrong,) = notices(store, "delivery_exception")
    assert wrong.facts["reason"] == "派送失败"
    assert shipments(store, placed.number)[0].status == "exception"
    tell(store, "SF1", "签收", "11:00")
    tell(store, "SF2", "签收", "11:00")
    assert shipments(store, placed.number)[0].status == "delivered"
    assert len(notices(store, "delivered")) == 1


def test_a_parcel_refused_at_the_door_comes_back_undelivered_and_the_customer_hears(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    tell(store, "SF1", "退回", "12:00")
    assert package(store, box).status == "returned"
    assert order_lines(store, placed.number)[0].delivered_qty == 0
    assert order_row(store, placed.number).status == "shipped"
    assert len(notices(store, "delivery_exception")) == 1


def test_an_exception_on_one_parcel_of_a_consolidated_shipment_marks_only_its_order(
    store: Store, clock: FixedClock
) -> None:
    first, second = order(store, "LAMP 1"), order(store, "RUG 2")
    consolidate(store, first.number, second.number)
    ship(store, first.number, "SF1: LAMP 1", "SF2: RUG 2")
    evening(clock)
    tell(store, "SF1", "delivered", "12:00")
    tell(store, "SF2", "异常", "12:00")
    assert order_row(store, first.number).status == "delivered"
    assert order_row(store, second.number).status == "shipped"
    (wrong,) = notices(store, "delivery_exception")
    assert wrong.facts["number"] == second.number
    assert len(notices(store, "delivered")) == 1


def test_boxes_nobody_wrote_the_content_of_count_when_all_have_arrived(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 3")
    ship(store, placed.number, "SF1", "SF2")
    evening(clock)
    tell(store, "SF1", "delivered", "12:00")
    assert order_lines(store, placed.number)[0].delivered_qty == 0
    tell(store, "SF2", "delivered", "12:00")
    assert order_lines(store, placed.number)[0].delivered_qty == 3


def test_a_parcel_that_arrives_before_our_paperwork_counts_when_the_shipment_leaves(
    store: Store, clock: FixedClock
) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1", leaves=False)
    evening(clock)
    assert tell(store, "SF1", "delivered", "12:00").outcome == "applied"
    assert package(store, box).status == "delivered"
    assert order_lines(store, placed.number)[0].delivered_qty == 0
    (shipment,) = shipments(store, placed.number)
    assert shipment.status == "planned"
    with store.unit_of_work() as uow:
        leave(uow, shipment.id)
        refresh_shipment(uow, SYSTEM, shipment.id)
    assert order_row(store, placed.number).status == "delivered"
    assert shipments(store, placed.number)[0].status == "delivered"


def test_what_was_signed_for_stands_against_what_the_carrier_reports(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 2")
    ship(store, placed.number, "SF1: LAMP 2")
    evening(clock)
    (shipment,) = shipments(store, placed.number)
    with store.unit_of_work() as uow:
        signed = {"id": uow.new_id(), "shipment_id": shipment.id, "signed_by": "王五", "signed_at": uow.now}
        uow.conn.execute(insert(SignedReceipt), signed | {"created_at": uow.now})
        uow.conn.execute(update(ShipmentLine).where(ShipmentLine.shipment_id == shipment.id).values(delivered_qty=1))
        sync_order(uow, placed.order_id)
    tell(store, "SF1", "delivered", "12:00")
    tell(store, "SF1", "in_transit", "18:00")
    assert order_lines(store, placed.number)[0].delivered_qty == 1
    (shipment,) = shipments(store, placed.number)
    assert (shipment.status, shipment.delivered_at) == ("delivered", clock.now())


def test_an_event_never_takes_back_what_counts_as_delivered(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 2")
    ship(store, placed.number, "SF1: LAMP 2")
    evening(clock)
    (shipment,) = shipments(store, placed.number)
    with store.unit_of_work() as uow:  # taken over from another system, which kept no events
        uow.conn.execute(update(ShipmentLine).where(ShipmentLine.shipment_id == shipment.id).values(delivered_qty=1))
        sync_order(uow, placed.order_id)
    tell(store, "SF1", "in_transit", "12:00")
    assert order_lines(store, placed.number)[0].delivered_qty == 1


def test_by_hand_a_package_is_delivered_once(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 2")
    first, second = ship(store, placed.number, "SF1: LAMP 1", ": LAMP 1")
    evening(clock)
    driver = Actor("dao", frozenset({"warehouse"}))
    assert list(store.run(deliver_package, driver, first)) == [placed.order_id]
    assert store.run(deliver_package, driver, first) == []
    assert order_lines(store, placed.number)[0].delivered_qty == 1
    store.run(deliver_package, driver, second, delivered_at=DAY + timedelta(hours=17))
    assert order_row(store, placed.number).status == "delivered"
    assert tell(store, "SF1", "退回", "17:59").outcome == "late"
    with pytest.raises(NotFound, match="no package 99"):
        store.run(deliver_package, driver, 99)
    with pytest.raises(PermissionDenied):
        store.run(deliver_package, Actor("ann", frozenset({"clerk"})), first)


def test_the_own_truck_needs_no_carrier_and_no_number(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 2, RUG 1")
    first, second = ship(store, placed.number, ": LAMP 2", ": RUG 1", carrier_code=None)
    evening(clock)
    for box in (first, second):
        store.run(deliver_package, SYSTEM, box)
        assert store.run(deliver_package, SYSTEM, box) == []
    assert [line.delivered_qty for line in order_lines(store, placed.number)] == [2, 1]
    (mail,) = notices(store, "delivered")
    assert mail.facts["carrier"] is None and mail.facts["tracking_numbers"] == []
    assert rows(store, select(TrackingEvent.id)) == []


def test_what_has_not_left_cannot_be_delivered_by_hand(store: Store) -> None:
    placed = order(store, "LAMP 1")
    (box,) = ship(store, placed.number, "SF1: LAMP 1", leaves=False)
    with pytest.raises(NotAllowed, match="nothing of it has left yet"):
        store.run(deliver_package, SYSTEM, box)


def test_labels_unscanned_for_a_day_alarm(store: Store, clock: FixedClock) -> None:
    build.rules(store, checks={"duplicate": "ignore"})  # what waits for review does not leave
    first, second, third = (order(store, "LAMP 1") for _ in range(3))
    ship(store, first.number, "SF1: LAMP 1")
    ship(store, second.number, "T1: LAMP 1", carrier_code="TRUCK")
    clock.advance(minutes=1)
    ship(store, third.number, "SF3: LAMP 1")

    def alarms() -> list[tuple[str, int]]:
        with store.reading() as conn:
            return [(one.tracking_number, one.waited_hours) for one in unscanned_labels(conn, clock.now())]

    clock.set(DAY + timedelta(hours=32, seconds=-1))
    assert alarms() == []
    clock.advance(seconds=1)
    assert alarms() == [("SF1", 24)]
    clock.advance(hours=2)
    assert alarms() == [("SF1", 26), ("SF3", 25)]
    tell(store, "SF1", "已揽收", clock.now())
    assert alarms() == [("SF3", 25)]


def test_events_of_one_order_from_several_processes_at_once(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 4")
    ship(store, placed.number, *(f"SF{n}: LAMP 1" for n in range(4)))
    evening(clock)
    events = [event(f"SF{n}", status, at, event_key=f"{n} {at}") for n in range(4) for status, at in
              (("in_transit", "10:00"), ("delivered", "12:00"), ("delivered", "12:00"), ("picked_up", "09:00"))]  # fmt: skip
    results = at_once(store, record_event, SYSTEM, events, processes=3)
    assert all(isinstance(result, TrackingResult) for result in results), results
    assert Counter(result.outcome == "repeated" for result in results)[True] == 4
    assert order_lines(store, placed.number)[0].delivered_qty == 4
    assert order_row(store, placed.number).status == "delivered"
    assert len(notices(store, "delivered")) == 1 and len(log(store)) == 12


def test_who_may_not_and_what_says_nothing_is_refused(store: Store) -> None:
    with pytest.raises(PermissionDenied):
        store.run(record_event, Actor("x", frozenset({"customer"})), event("SF1", "delivered", "12:00"))
    for number, status in (("", "delivered"), (" ", "delivered"), ("SF1", " ")):
        with pytest.raises(InvalidCommand, match="must not be empty"):
            tell(store, number, status, "12:00")
    assert log(store) == []


def test_a_file_of_events_is_recorded_row_by_row_in_one_transaction(store: Store, clock: FixedClock) -> None:
    placed = order(store, "LAMP 1")
    ship(store, placed.number, "SF1: LAMP 1")
    evening(clock)
    rows_of_file = [event("SF1", "揽收", "09:00"), event("SF9", "揽收", "09:00"), event(" SF1 ", "签收", "12:00")]
    assert [result.outcome for result in store.run(import_events, build.CLERK, rows_of_file)] == [
        "applied",
        "quarantined",
        "applied",
    ]
    assert [result.outcome for result in store.run(import_events, build.CLERK, rows_of_file)] == [
        "repeated",
        "quarantined",
        "repeated",
    ]
    with pytest.raises(NotFound):
        store.run(import_events, build.CLERK, [event("SF1", "异常", "13:00"), event("SF1", "x", "13:00", carrier="?")])
    assert order_row(store, placed.number).status == "delivered" and len(log(store)) == 3
