"""Cases 1, 2, 3, 5, 6, 7, 12, 13: reserving what is there, where it is, and never more."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from orders_core.errors import InsufficientStock, QuantityExceeded
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.place_order import PlacedOrder, place_order
from orders_core.services.stock import IssueStock, SetStockPolicy, StockIn, issue_stock, set_stock_policy
from orders_core.services.transfers import PlanTransfer, ShipTransfer, TransferQty, plan_transfer, ship_transfer
from orders_core.store import tables
from tests.conftest import StatedCount
from tests.support import build
from tests.support.build import CLERK, PICKER, PLANNER


def by_location(store, number: str) -> dict[str, int]:
    """Location -> base units planned to leave there."""
    return {
        shipment.location: sum(line.qty for line in build.shipment_lines(store, shipment.number))
        for shipment in build.shipments(store, number)
    }


def ledger_qty(store, text: str) -> int:
    """The sum of a level's movements."""
    level = build.level(store, text)
    query = select(func.coalesce(func.sum(tables.StockMovement.qty), 0)).where(
        tables.StockMovement.sku_id == level.sku_id, tables.StockMovement.location_id == level.location_id
    )
    return int(build.rows(store, query)[0][0])


def test_case_01_two_processes_want_the_last_unit_and_one_gets_it(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 1")
    commands = [build.order_command("LAMP 1", idem_key=f"k{n}") for n in range(2)]
    answers = build.at_once(store, place_order, CLERK, commands, processes=2)
    placed = [answer for answer in answers if isinstance(answer, PlacedOrder)]
    refused = [answer for answer in answers if isinstance(answer, InsufficientStock)]
    assert (len(placed), len(refused)) == (1, 1)
    assert (refused[0].sku, refused[0].asked_qty, refused[0].available_qty) == ("LAMP", 1, 0)
    level = build.level(store, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty) == (1, 1)


def test_case_02_fifty_orders_at_once_sell_the_ten_units_there_are(store, stated_count: StatedCount) -> None:
    build.company(store)
    build.rules(store, checks={"duplicate": "ignore"})  # they all look alike
    build.stock(store, "LAMP@WH1: 10")
    commands = [build.order_command("LAMP 1", idem_key=f"k{n}") for n in range(50)]
    answers = build.at_once(store, place_order, CLERK, commands, processes=stated_count(small=5, stated=50))
    assert sum(isinstance(answer, PlacedOrder) for answer in answers) == 10
    assert sum(isinstance(answer, InsufficientStock) for answer in answers) == 40
    level = build.level(store, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty) == (10, 10)
    assert ledger_qty(store, "LAMP@WH1") == 10
    number = next(answer.number for answer in answers if isinstance(answer, PlacedOrder))
    build.ship(store, number)
    level = build.level(store, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty) == (9, 9) == (ledger_qty(store, "LAMP@WH1"), 9)


def test_case_03_two_lines_of_one_sku_share_the_same_stock(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 5")
    with pytest.raises(InsufficientStock) as refusal:
        build.order(store, "LAMP 3, LAMP 3")
    assert str(refusal.value) == "LAMP: 6 asked for, 5 available to promise"
    assert refusal.value.text("zh") == "LAMP：需要 6，可售 5"
    assert build.level(store, "LAMP@WH1").reserved_qty == 0
    assert build.rows(store, select(tables.Order.id)) == []


def test_case_05_one_package_or_the_fixed_order_as_the_rules_say(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10, LAMP@WH2: 15")
    placed = build.order(store, "LAMP 13")
    assert by_location(store, placed.number) == {"WH2": 13}
    store.run(cancel_order, CLERK, CancelOrder(placed.number, "test"))
    build.rules(store, routing={"strategy": "fixed_order", "order": ["WH1", "WH2"]})
    placed = build.order(store, "LAMP 13", note="again")
    assert by_location(store, placed.number) == {"WH1": 10, "WH2": 3}
    assert [build.level(store, f"LAMP@{place}").reserved_qty for place in ("WH1", "WH2")] == [10, 3]


def test_case_06_one_unit_here_and_one_there_make_two_fulfilments_that_both_ship(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 1, LAMP@WH2: 1")
    placed = build.order(store, "LAMP 2")
    assert by_location(store, placed.number) == {"WH1": 1, "WH2": 1}
    shipped = build.ship(store, placed.number)
    assert [one.shipped for one in shipped] == [{"LAMP": 1}, {"LAMP": 1}]
    assert build.order_row(store, placed.number).status == "shipped"
    assert [build.on_hand(store, f"LAMP@{place}") for place in ("WH1", "WH2")] == [0, 0]


def test_case_07_two_packages_not_three(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 3, LAMP@WH2: 3, LAMP@WH3: 3")
    placed = build.order(store, "LAMP 5")
    plan = by_location(store, placed.number)
    assert len(plan) == 2
    assert sum(plan.values()) == 5


def test_case_12_safety_stock_is_kept_a_negative_one_lets_the_location_owe(store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 3")
    store.run(set_stock_policy, PLANNER, SetStockPolicy("LAMP", "WH1", safety_qty=2))
    with pytest.raises(InsufficientStock) as refusal:
        build.order(store, "LAMP 2")
    assert refusal.value.available_qty == 1
    store.run(cancel_order, CLERK, CancelOrder(build.order(store, "LAMP 1").number, "test"))
    store.run(set_stock_policy, PLANNER, SetStockPolicy("LAMP", "WH1", safety_qty=-5))
    with pytest.raises(InsufficientStock) as refusal:
        build.order(store, "LAMP 9")
    assert refusal.value.available_qty == 8
    placed = build.order(store, "LAMP 8")
    level = build.level(store, "LAMP@WH1")
    assert (placed.backordered_qty, level.reserved_qty, level.backordered_qty) == (5, 3, 5)


def test_case_12_a_sku_whose_stock_is_not_recorded_sells_any_quantity_and_writes_no_level(store) -> None:
    build.company(store)
    build.location(store, "WH1")
    build.sku(store, "SAND", is_stock_tracked=False)
    placed = build.order(store, "SAND 1000")
    assert (placed.status, placed.backordered_qty) == ("ready", 0)
    assert build.level(store, "SAND@WH1") is None
    build.ship(store, placed.number)
    assert build.order_row(store, placed.number).status == "shipped"
    assert build.level(store, "SAND@WH1") is None
    assert build.rows(store, select(tables.StockMovement.id)) == []


@pytest.mark.parametrize("is_issue", [True, False], ids=["issued", "transferred"])
def test_case_13_what_is_promised_is_neither_issued_nor_transferred(store, is_issue: bool) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 100, LAMP@WH2: 0")
    placed = build.order(store, "LAMP 50")
    issue = IssueStock("WH1", [StockIn("LAMP", 100)], note="fair")
    transfer = PlanTransfer("WH1", "WH2", [TransferQty("LAMP", 100)])
    with pytest.raises(QuantityExceeded) as refusal:
        store.run(issue_stock, PICKER, issue)
    assert (refusal.value.asked_qty, refusal.value.limit_qty) == (100, 50)
    with pytest.raises(QuantityExceeded) as refusal:
        store.run(plan_transfer, PICKER, transfer)
    assert (refusal.value.asked_qty, refusal.value.limit_qty) == (100, 50)
    assert build.on_hand(store, "LAMP@WH1") == 100
    assert build.rows(store, select(tables.Transfer.id)) == []
    store.run(cancel_order, CLERK, CancelOrder(placed.number, "test"))
    if is_issue:
        store.run(issue_stock, PICKER, issue)
    else:
        planned = store.run(plan_transfer, PICKER, transfer)
        store.run(ship_transfer, PICKER, ShipTransfer(planned.number))
    assert (build.on_hand(store, "LAMP@WH1"), ledger_qty(store, "LAMP@WH1")) == (0, 0)
