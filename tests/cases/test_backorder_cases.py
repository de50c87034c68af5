"""Cases 15, 16, 17, 18, 19, 46, 48: orders that wait, and who gets what when goods come."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import SYSTEM
from orders_core.errors import NotAllowed
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.receiving import (
    ReceivedLine,
    ReceiveGoods,
    ReserveDue,
    WhoGetsWhat,
    receive_goods,
    reserve_due,
    who_gets_what,
)
from orders_core.services.review import HoldOrder, hold_order
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.services.split import SplitByHand, split_by_hand
from orders_core.services.stock import SetStockPolicy, StockIn, set_stock_policy
from orders_core.services.warehouse import Release, release
from orders_core.store import tables
from tests.support import build
from tests.support.build import CLERK, PICKER


@pytest.fixture
def backorders(store):
    """A company whose rules let orders wait for stock."""
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    return store


def receive(store, text: str):
    """Receive `"LAMP@WH1: 5"` without a purchase order."""
    code, rest = text.split("@")
    place, qty = rest.split(":")
    return store.run(receive_goods, PICKER, ReceiveGoods(place, [ReceivedLine(code, int(qty), unit_cost_cents=400)]))


def line(store, number: str):
    return build.order_lines(store, number)[0]


def test_case_15_goods_received_go_to_the_older_order_first_and_it_is_told(backorders, clock) -> None:
    store = backorders
    build.customer(store, "BETA", email="buyer@beta.cn")
    build.stock(store, "LAMP@WH1: 0")
    a = build.order(store, "LAMP 4")
    clock.advance(minutes=1)
    b = build.order(store, "LAMP 3", customer="BETA")
    preview = store.run(who_gets_what, PICKER, WhoGetsWhat("WH1", [StockIn("LAMP", 5)]))
    for placed in (a, b):
        assert len(build.notices(store, "order_delayed", number=placed.number)) == 1
    received = receive(store, "LAMP@WH1: 5")
    got = [(given.order, given.qty, given.still_waiting_qty) for given in received.filled]
    assert got == [(a.number, 4, 0), (b.number, 1, 2)]
    assert [(given.order, given.qty, given.still_waiting_qty) for given in preview] == got
    assert (line(store, a.number).reserved_qty, line(store, b.number).reserved_qty) == (4, 1)
    assert line(store, b.number).backordered_qty == 2
    level = build.level(store, "LAMP@WH1")
    assert (level.on_hand_qty, level.on_hand_qty - level.reserved_qty, level.backordered_qty) == (5, 0, 2)
    for placed in (a, b):
        assert len(build.notices(store, "order_delayed", number=placed.number)) == 1
    assert [notice.facts["number"] for notice in build.notices(store, "stock_available")] == [a.number]
    row = build.order_row(store, a.number)
    assert (row.status, row.promised_by_date, row.is_promise_estimated) == ("ready", date(2026, 3, 5), False)
    assert build.notices(store, "stock_available")[0].facts["promised_by_date"] == "2026-03-05"


def test_case_16_priority_goes_before_the_due_date_and_the_due_date_before_age(backorders, clock) -> None:
    store = backorders
    build.stock(store, "LAMP@WH1: 0")
    soon, later = date(2026, 3, 10), date(2026, 3, 20)
    p2 = build.order(store, "LAMP 5", priority=1, requested_date=soon)
    clock.advance(minutes=1)
    p1 = build.order(store, "LAMP 5", priority=2, requested_date=later, note="urgent")
    receive(store, "LAMP@WH1: 5")
    assert (line(store, p1.number).reserved_qty, line(store, p2.number).reserved_qty) == (5, 0)
    clock.advance(minutes=1)
    due_later = build.order(store, "LAMP 5", priority=1, requested_date=later, note="b")
    clock.advance(minutes=1)
    due_first = build.order(store, "LAMP 5", priority=1, requested_date=soon - timedelta(days=1), note="c")
    receive(store, "LAMP@WH1: 10")
    reserved = [line(store, placed.number).reserved_qty for placed in (due_first, p2, due_later)]
    assert reserved == [5, 5, 0]


def test_case_17_all_or_nothing_waits_for_the_whole_line(backorders) -> None:
    store = backorders
    build.rules(store, shortage={"policy": "backorder", "min_ship_qty": 10, "max_late_days": 0})
    build.stock(store, "LAMP@WH1: 6")
    placed = build.order(store, "LAMP 10")
    assert (placed.status, placed.backordered_qty) == ("waiting_stock", 10)
    assert build.level(store, "LAMP@WH1").reserved_qty == 0
    receive(store, "LAMP@WH1: 3")
    assert line(store, placed.number).reserved_qty == 0
    receive(store, "LAMP@WH1: 1")
    assert line(store, placed.number).reserved_qty == 10


def test_case_17_by_the_piece_six_go_now_and_four_wait(backorders) -> None:
    store = backorders
    build.rules(store, shortage={"policy": "backorder", "min_ship_qty": 1})
    build.stock(store, "LAMP@WH1: 6")
    placed = build.order(store, "LAMP 10")
    assert (line(store, placed.number).reserved_qty, placed.backordered_qty) == (6, 4)
    assert build.ship(store, placed.number)[0].shipped == {"LAMP": 6}


def test_case_18_what_is_there_and_what_waits_sum_to_the_order(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 1, LAMP@WH2: 0")
    store.run(set_stock_policy, build.PLANNER, SetStockPolicy("LAMP", "WH2", is_backorderable=True))
    placed = build.order(store, "LAMP 3")
    here, there = build.level(store, "LAMP@WH1"), build.level(store, "LAMP@WH2")
    assert (here.reserved_qty, here.backordered_qty) == (1, 0)
    assert (there.reserved_qty, there.backordered_qty) == (0, 2)
    assert (line(store, placed.number).reserved_qty, line(store, placed.number).backordered_qty) == (1, 2)


def test_case_19_what_did_not_go_waits_on_one_document_that_grows_with_the_line(backorders) -> None:
    store = backorders
    build.stock(store, "LAMP@WH1: 10")
    build.carrier(store)
    placed = build.order(store, "LAMP 10")
    first = build.shipments(store, placed.number)[0]
    parcel = PackageIn(tracking_number="SF1")
    shipped = store.run(
        ship_shipment, PICKER, ShipShipment(first.number, "SF", packages=[parcel], quantities={"LAMP": 6})
    )
    rest = shipped.rest_shipments[placed.number]
    build.deliver(store, placed.number)
    assert (line(store, placed.number).shipped_qty, line(store, placed.number).delivered_qty) == (6, 6)
    assert [(x.number, x.status) for x in build.shipments(store, placed.number)] == [
        (first.number, "delivered"),
        (rest, "planned"),
    ]
    assert [(x.qty, x.reserved_qty) for x in build.shipment_lines(store, rest)] == [(4, 4)]
    notice = build.notices(store, "shipped", number=placed.number)[0]
    assert ([x["qty"] for x in notice.facts["lines"]], [x["qty"] for x in notice.facts["open_lines"]]) == ([6], [4])
    store.run(edit_order, CLERK, EditOrder(placed.number, lines=[LineChange(1, 12)]))
    assert [(x.qty, x.reserved_qty, x.backordered_qty) for x in build.shipment_lines(store, rest)] == [(6, 4, 2)]
    assert len(build.shipments(store, placed.number)) == 2
    assert line(store, placed.number).delivered_qty == 6
    again = store.run(ship_shipment, PICKER, ShipShipment(first.number, "SF", packages=[parcel]))
    assert (again.is_repeat, again.shipped) == (True, {"LAMP": 6})
    assert build.on_hand(store, "LAMP@WH1") == 4


def test_case_19_what_did_not_go_joins_the_shipment_that_waits_already(backorders) -> None:
    store = backorders
    build.stock(store, "LAMP@WH1: 10")
    build.carrier(store)
    placed = build.order(store, "LAMP 10")
    first = build.shipments(store, placed.number)[0].number
    split = store.run(split_by_hand, CLERK, SplitByHand(placed.number, first, {1: 4}))
    parcel = PackageIn(tracking_number="SF1")
    shipped = store.run(ship_shipment, PICKER, ShipShipment(first, "SF", packages=[parcel], quantities={"LAMP": 5}))
    assert shipped.rest_shipments == {placed.number: split.new_shipments[0]}
    assert [(x.qty, x.reserved_qty) for x in build.shipment_lines(store, split.new_shipments[0])] == [(5, 5)]


def test_an_order_on_hold_is_passed_over_when_goods_come(backorders, clock) -> None:
    store = backorders
    build.stock(store, "LAMP@WH1: 0")
    held = build.order(store, "LAMP 4")
    clock.advance(minutes=1)
    other = build.order(store, "LAMP 3")
    store.run(hold_order, CLERK, HoldOrder(held.number, "customer asked"))
    received = receive(store, "LAMP@WH1: 5")
    assert [(given.order, given.qty) for given in received.filled] == [(other.number, 3)]


def test_case_46_a_sale_asks_the_buyer_for_exactly_what_is_missing(backorders) -> None:
    store = backorders
    build.stock(store, "A@WH1: 3, B@WH1: 2, C@WH1: 0")
    requests = select(tables.Sku.sku, tables.PurchaseRequest.qty, tables.PurchaseRequest.status).join(
        tables.Sku, tables.Sku.id == tables.PurchaseRequest.sku_id
    )
    enough = build.order(store, "A 3")
    assert build.rows(store, requests) == []
    assert line(store, enough.number).reserved_qty == 3
    some = build.order(store, "B 3")
    assert line(store, some.number).reserved_qty == 2
    assert build.rows(store, requests) == [("B", 1, "open")]
    none = build.order(store, "C 3")
    assert sorted(build.rows(store, requests)) == [("B", 1, "open"), ("C", 3, "open")]
    # The staged move: a shipment that is planned, holds nothing, and cannot be released before the goods are there.
    staged = build.shipments(store, none.number)[0]
    assert (staged.status, build.shipment_lines(store, staged.number)[0].backordered_qty) == ("planned", 3)
    skipped = store.run(release, PICKER, Release("WH1", [staged.number])).skipped
    assert [(one.shipment, one.reason_code) for one in skipped] == [(staged.number, "no_stock")]
    with pytest.raises(NotAllowed):
        store.run(ship_shipment, PICKER, ShipShipment(staged.number))
    receive(store, "C@WH1: 3")
    assert ("C", 3, "closed") in build.rows(store, requests)
    assert store.run(release, PICKER, Release("WH1", [staged.number])).shipments == (staged.number,)


def test_case_48_an_order_for_a_far_day_is_reserved_when_the_day_comes_near(store, clock) -> None:
    build.company(store)
    build.rules(store, reserve={"within_days": 2})
    build.stock(store, "LAMP@WH1: 10")
    today = date(2026, 3, 2)
    far = build.order(store, "LAMP 4", requested_date=today + timedelta(days=10))
    near = build.order(store, "LAMP 3", requested_date=today + timedelta(days=1))
    assert (line(store, far.number).reserved_qty, line(store, near.number).reserved_qty) == (0, 3)
    assert store.run(reserve_due, SYSTEM, ReserveDue()) == []
    clock.advance(days=8)
    filled = store.run(reserve_due, SYSTEM, ReserveDue())
    assert [(given.order, given.qty) for given in filled] == [(far.number, 4)]
    assert build.level(store, "LAMP@WH1").reserved_qty == 7
