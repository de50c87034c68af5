"""Adjustments, transfers, counts, lots, inspection, production: movements that always sum to the stock."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import (
    IdempotencyMismatch,
    InsufficientStock,
    InvalidCommand,
    LotRefused,
    NotAllowed,
    NotFound,
    PermissionDenied,
    QuantityExceeded,
)
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.counts import (
    ApproveCount,
    PostCount,
    RecordCount,
    StartCount,
    approve_count,
    post_count,
    record_count,
    start_count,
)
from orders_core.services.production import (
    CreateProductionOrder,
    ReportProduction,
    create_production_order,
    report_production,
)
from orders_core.services.receiving import InspectGoods, ReceivedLine, ReceiveGoods, inspect_goods, receive_goods
from orders_core.services.stock import (
    AdjustStock,
    OpeningStock,
    ScrapStock,
    SetStockPolicy,
    SoonToExpire,
    StockIn,
    adjust_stock,
    opening_stock,
    scrap_stock,
    set_stock_policy,
    soon_to_expire,
)
from orders_core.services.transfers import (
    CancelTransfer,
    PlanTransfer,
    ReceiveTransfer,
    ShipTransfer,
    TransferQty,
    cancel_transfer,
    plan_transfer,
    receive_transfer,
    ship_transfer,
)
from orders_core.services.warehouse import ShortPick, short_pick
from orders_core.store import tables
from tests.support import build
from tests.support.build import MANAGER, PICKER, PLANNER

TODAY = date(2026, 3, 2)


@pytest.fixture
def shop(store):
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    build.stock(store, "LAMP@WH1: 10, LAMP@WH2: 0")
    return store


def test_an_adjustment_repeated_is_booked_once(shop) -> None:
    found = AdjustStock("WH1", [StockIn("LAMP", 3)], note="found", idem_key="a1")
    for _ in range(2):
        changed = shop.run(adjust_stock, PICKER, found)
    assert (changed.is_repeat, changed.levels[0].on_hand_qty) == (True, 13)
    with pytest.raises(IdempotencyMismatch):
        shop.run(adjust_stock, PICKER, AdjustStock("WH1", [StockIn("LAMP", 4)], note="found", idem_key="a1"))
    shop.run(adjust_stock, PICKER, AdjustStock("WH1", [StockIn("LAMP", -4)], note="lost"))
    assert build.on_hand(shop, "LAMP@WH1") == 9
    with pytest.raises(InvalidCommand):
        shop.run(adjust_stock, PICKER, AdjustStock("WH1", [StockIn("LAMP", 0)], note="nothing"))
    with pytest.raises(NotFound, match="LAMPE"):
        shop.run(adjust_stock, PICKER, AdjustStock("WH1", [StockIn("LAMPE", 1)], note="typo"))


def test_scrap_leaves_what_is_promised_alone(shop) -> None:
    build.order(shop, "LAMP 8")
    with pytest.raises(QuantityExceeded) as refusal:
        shop.run(scrap_stock, PICKER, ScrapStock("WH1", [StockIn("LAMP", 3)], note="broken"))
    assert refusal.value.limit_qty == 2
    shop.run(scrap_stock, PICKER, ScrapStock("WH1", [StockIn("LAMP", 2)], note="broken"))
    assert build.on_hand(shop, "LAMP@WH1") == 8


def test_less_safety_stock_serves_who_waits(shop) -> None:
    shop.run(set_stock_policy, PLANNER, SetStockPolicy("LAMP", "WH1", safety_qty=5))
    placed = build.order(shop, "LAMP 8")
    assert placed.backordered_qty == 3
    shop.run(set_stock_policy, PLANNER, SetStockPolicy("LAMP", "WH1", safety_qty=0))
    assert build.order_lines(shop, placed.number)[0].reserved_qty == 8


def test_protected_units_are_for_their_channel_only(shop) -> None:
    shop.run(set_stock_policy, PLANNER, SetStockPolicy("LAMP", "WH1", protected={"web": 6}))
    assert build.order(shop, "LAMP 10").backordered_qty == 6
    assert build.order(shop, "LAMP 6", channel="web").backordered_qty == 0


def test_a_transfer_is_nowhere_in_stock_until_it_arrives_and_never_more_than_was_sent(shop) -> None:
    move = PlanTransfer("WH1", "WH2", [TransferQty("LAMP", 6)], idem_key="t1")
    planned = shop.run(plan_transfer, PICKER, move)
    assert shop.run(plan_transfer, PICKER, move).number == planned.number
    for _ in range(2):
        assert shop.run(ship_transfer, PICKER, ShipTransfer(planned.number)).status == "in_transit"
    assert (build.on_hand(shop, "LAMP@WH1"), build.on_hand(shop, "LAMP@WH2")) == (4, 0)
    placed = build.order(shop, "LAMP 9")  # 4 there, 5 wait, with the same parcel
    with pytest.raises(QuantityExceeded):
        shop.run(receive_transfer, PICKER, ReceiveTransfer(planned.number, {"LAMP": 7}))
    shop.run(receive_transfer, PICKER, ReceiveTransfer(planned.number, {"LAMP": 5}))
    assert build.on_hand(shop, "LAMP@WH2") == 5
    assert [x.location for x in build.shipments(shop, placed.number)] == ["WH1"]
    with pytest.raises(NotAllowed):
        shop.run(cancel_transfer, PICKER, CancelTransfer(planned.number))


def test_a_staged_transfer_waits_for_its_goods(shop) -> None:
    command = PlanTransfer("WH1", "WH2", [TransferQty("LAMP", 15)])
    with pytest.raises(QuantityExceeded):
        shop.run(plan_transfer, PICKER, command)
    staged = shop.run(plan_transfer, PICKER, PlanTransfer("WH1", "WH2", [TransferQty("LAMP", 15)], is_staged=True))
    assert staged.status == "staged"
    with pytest.raises(QuantityExceeded):
        shop.run(ship_transfer, PICKER, ShipTransfer(staged.number))
    build.stock(shop, "LAMP@WH1: 5")
    shop.run(ship_transfer, PICKER, ShipTransfer(staged.number))
    shop.run(receive_transfer, PICKER, ReceiveTransfer(staged.number))
    assert (build.on_hand(shop, "LAMP@WH1"), build.on_hand(shop, "LAMP@WH2")) == (0, 15)


def test_counting_while_shipping_finds_the_true_difference(shop) -> None:
    placed = build.order(shop, "LAMP 4")
    count = shop.run(start_count, PICKER, StartCount("WH1"))
    found = shop.run(record_count, PICKER, RecordCount(count.number, "LAMP", 9))  # one is missing
    assert (found.expected_qty, found.difference_qty) == (10, -1)
    build.ship(shop, placed.number)  # four leave between counting and posting
    posted = shop.run(post_count, PICKER, PostCount(count.number))
    assert posted.status == "posted"
    assert build.on_hand(shop, "LAMP@WH1") == 5
    assert shop.run(post_count, PICKER, PostCount(count.number)).is_repeat
    assert build.on_hand(shop, "LAMP@WH1") == 5


def test_a_large_difference_waits_for_a_second_person(shop) -> None:
    build.rules(shop, counting={"approval_over_qty": 5})
    count = shop.run(start_count, MANAGER, StartCount("WH1"))
    shop.run(record_count, MANAGER, RecordCount(count.number, "LAMP", 99))
    shop.run(record_count, MANAGER, RecordCount(count.number, "LAMP", 3))  # counted again
    assert shop.run(post_count, MANAGER, PostCount(count.number)).status == "waiting_approval"
    assert build.on_hand(shop, "LAMP@WH1") == 10
    with pytest.raises(PermissionDenied, match="of their own"):
        shop.run(approve_count, MANAGER, ApproveCount(count.number))
    with pytest.raises(PermissionDenied):
        shop.run(approve_count, PICKER, ApproveCount(count.number))
    posted = shop.run(approve_count, PLANNER, ApproveCount(count.number))
    assert (posted.status, posted.differences[0].difference_qty) == ("posted", -7)
    assert build.on_hand(shop, "LAMP@WH1") == 3


def test_a_count_below_what_is_promised_is_a_fact_and_shows(shop) -> None:
    placed = build.order(shop, "LAMP 8")
    count = shop.run(start_count, PICKER, StartCount("WH1"))
    shop.run(record_count, PICKER, RecordCount(count.number, "LAMP", 5))
    shop.run(post_count, PICKER, PostCount(count.number))
    level = build.level(shop, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty, level.overcommitted_qty) == (5, 8, 3)
    shop.run(cancel_order, build.CLERK, CancelOrder(placed.number, "test"))
    level = build.level(shop, "LAMP@WH1")
    assert (level.reserved_qty, level.overcommitted_qty) == (0, 0)


def test_a_count_that_finds_more_serves_who_waits(shop) -> None:
    placed = build.order(shop, "LAMP 12")
    count = shop.run(start_count, PICKER, StartCount("WH1"))
    shop.run(record_count, PICKER, RecordCount(count.number, "LAMP", 12))
    shop.run(post_count, PICKER, PostCount(count.number))
    assert build.order_lines(shop, placed.number)[0].reserved_qty == 12


def test_lots_must_be_named_keep_their_expiry_and_are_listed_before_they_expire(shop) -> None:
    build.sku(shop, "TEA", is_lot_tracked=True)
    soon, later = TODAY + timedelta(days=5), TODAY + timedelta(days=90)
    with pytest.raises(LotRefused, match="name the lot"):
        shop.run(opening_stock, PICKER, OpeningStock("WH1", [StockIn("TEA", 4)]))
    lots = [StockIn("TEA", 4, "L1", soon), StockIn("TEA", 6, "L2", later)]
    shop.run(opening_stock, PICKER, OpeningStock("WH1", lots))
    with pytest.raises(LotRefused, match="it expires"):
        shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("TEA", 1, "L1", later)]))
    (listed,) = shop.run(soon_to_expire, PICKER, SoonToExpire(days=10))
    assert (listed.lot_code, listed.days_left, listed.on_hand_qty) == ("L1", 5, 4)
    shop.run(scrap_stock, PICKER, ScrapStock("WH1", [StockIn("TEA", 5)], note="moths"))  # first expired first
    rest = build.rows(shop, select(tables.Lot.lot_code, tables.LotLevel.on_hand_qty).join(tables.LotLevel))
    assert sorted(rest) == [("L1", 0), ("L2", 5)]
    moved = shop.run(plan_transfer, PICKER, PlanTransfer("WH1", "WH2", [TransferQty("TEA", 5)]))
    shop.run(ship_transfer, PICKER, ShipTransfer(moved.number))
    shop.run(receive_transfer, PICKER, ReceiveTransfer(moved.number))
    assert build.on_hand(shop, "TEA@WH2") == 5


@pytest.fixture
def milk(shop, clock):
    """Five bottles of milk of which three are good until today; it is tomorrow."""
    build.sku(shop, "MILK", is_lot_tracked=True)
    lots = [StockIn("MILK", 3, lot_code="OLD", expiry_date=TODAY), StockIn("MILK", 2, lot_code="NEW")]
    shop.run(opening_stock, PICKER, OpeningStock("WH1", lots))
    clock.advance(days=1)
    return shop


def test_expired_lots_are_promised_to_nobody(milk) -> None:
    placed = build.order(milk, "MILK 3")
    (line,) = build.order_lines(milk, placed.number)
    assert (line.reserved_qty, line.backordered_qty) == (2, 1)
    assert build.release_all(milk, "WH1")
    build.rules(milk, shortage={"policy": "refuse"})
    with pytest.raises(InsufficientStock) as refusal:
        build.order(milk, "MILK 1")
    assert refusal.value.facts["available_qty"] == 0


def test_a_lot_is_good_through_its_last_day(shop) -> None:
    build.sku(shop, "MILK", is_lot_tracked=True)
    last_day = StockIn("MILK", 3, lot_code="L", expiry_date=TODAY)
    shop.run(opening_stock, PICKER, OpeningStock("WH1", [last_day]))
    assert build.order(shop, "MILK 3").backordered_qty == 0


def test_who_waits_gets_no_expired_units_when_more_arrive(milk) -> None:
    placed = build.order(milk, "MILK 6")
    milk.run(adjust_stock, PICKER, AdjustStock("WH1", [StockIn("MILK", 1, lot_code="NEW")], note="found"))
    (line,) = build.order_lines(milk, placed.number)
    assert (line.reserved_qty, line.backordered_qty) == (3, 3)


def test_a_short_pick_is_not_made_good_by_expired_units(milk) -> None:
    number = build.order(milk, "MILK 2").number
    (picks,) = build.release_all(milk, "WH1")
    milk.run(short_pick, PICKER, ShortPick(picks, 1, found_qty=1, note="broken"))
    (line,) = build.order_lines(milk, number)
    assert (line.reserved_qty, line.backordered_qty) == (1, 1)


def test_goods_under_inspection_are_promised_to_nobody_until_accepted(shop) -> None:
    placed = build.order(shop, "LAMP 14")
    line = ReceivedLine("LAMP", 6, is_for_inspection=True)
    shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [line]))
    level = build.level(shop, "LAMP@WH1")
    assert (level.on_hand_qty, level.inspecting_qty, level.backordered_qty) == (10, 6, 4)
    with pytest.raises(QuantityExceeded):
        shop.run(inspect_goods, PICKER, InspectGoods("WH1", "LAMP", accepted_qty=7))
    shop.run(inspect_goods, PICKER, InspectGoods("WH1", "LAMP", accepted_qty=5, refused_qty=1))
    level = build.level(shop, "LAMP@WH1")
    assert (level.on_hand_qty, level.inspecting_qty, level.reserved_qty) == (15, 0, 14)
    assert build.order_lines(shop, placed.number)[0].backordered_qty == 0


def test_production_reports_done_short_and_scrap_and_the_order_follows(shop) -> None:
    build.sku(shop, "DESK", supply_mode="make")
    build.stock(shop, "DESK@WH1: 0")
    placed = build.order(shop, "DESK 5")
    (work,) = build.rows(shop, select(tables.ProductionOrder.number, tables.ProductionOrder.qty))
    assert work.qty == 5
    report = ReportProduction(work.number, done_qty=2, scrap_qty=1, idem_key="p1")
    for _ in range(2):
        state = shop.run(report_production, PICKER, report)
    assert (state.status, state.done_qty, state.scrap_qty, state.is_repeat) == ("started", 2, 1, True)
    level = build.level(shop, "DESK@WH1")
    assert (level.on_hand_qty, level.reserved_qty, level.backordered_qty) == (2, 2, 3)
    with pytest.raises(QuantityExceeded):
        shop.run(report_production, PICKER, ReportProduction(work.number, done_qty=4))
    state = shop.run(report_production, PICKER, ReportProduction(work.number, done_qty=1, is_finished=True))
    assert (state.status, state.short_qty) == ("done", 2)
    assert state.follow_up is not None
    shop.run(report_production, PICKER, ReportProduction(state.follow_up, done_qty=2))
    assert build.order_lines(shop, placed.number)[0].reserved_qty == 5
    assert build.rows(shop, select(tables.PurchaseRequest.id)) == []


def test_made_for_stock_comes_by_lot_named_after_its_work_order(shop) -> None:
    build.sku(shop, "JAM", supply_mode="make", is_lot_tracked=True, shelf_life_days=100)
    work = shop.run(create_production_order, PICKER, CreateProductionOrder("JAM", "WH1", 8, idem_key="m1"))
    assert shop.run(create_production_order, PICKER, CreateProductionOrder("JAM", "WH1", 8, idem_key="m1")).is_repeat
    shop.run(report_production, PICKER, ReportProduction(work.number, done_qty=8))
    (lot,) = build.rows(shop, select(tables.Lot.lot_code, tables.Lot.expiry_date))
    assert lot == (work.number, TODAY + timedelta(days=100))


def test_who_is_limited_to_a_location_moves_nothing_elsewhere(shop) -> None:
    far = Actor("far", frozenset({"warehouse"}), location_codes=frozenset({"WH2"}))
    with pytest.raises(PermissionDenied, match="location WH1"):
        shop.run(adjust_stock, far, AdjustStock("WH1", [StockIn("LAMP", 1)], note="x"))
