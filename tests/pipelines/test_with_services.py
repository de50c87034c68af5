"""The loop closed on real orders: what the services do reaches the warehouse, all of it, and no sooner than it happened."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from orders_core.errors import OrdersError
from orders_core.ports import FixedClock
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.services.stock import OpeningStock, StockIn, opening_stock
from orders_core.store.uow import Store
from pipelines import plan
from pipelines.daily import run_daily
from pipelines.warehouse import read
from pipelines.warehouse.tables import HISTORY_TABLES, RAW_TABLES
from tests.conftest import StatedCount
from tests.pipelines.test_daily import PUBLISHED_AT, hashes
from tests.support import build

OF_THE_PRESENT = ("mart.backlog", "mart.on_time_in_full")
"""Of an order that changed later, its status and its promise on a past day are not kept by the order core."""


@pytest.fixture
def shop(store: Store) -> Store:
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    build.location(store, "WH1", is_default=True)
    build.stock(store, "LAMP@WH1: 20, RUG@WH1: 12, LAMP@WH2: 5, VASE@WH2: 3")
    build.sku(store, "SET", components="LAMP 1, RUG 2")
    return store


def a_day_of_trade(shop: Store, seed: int, open_orders: list[str]) -> int:
    """Some orders come, some change, some are cancelled, some leave; returns how many commands went through."""
    chance = random.Random(seed)
    done = 0
    for _ in range(4):
        lines = chance.sample(["LAMP 3", "RUG 2", "VASE 1", "SET 1", "LAMP 12"], k=chance.randint(1, 2))
        if {"LAMP 3", "LAMP 12"} <= set(lines):
            lines.pop()
        open_orders.append(build.order(shop, ", ".join(lines)).number)
        done += 1
    for what in ("edit", "cancel", "short", "ship", "ship"):
        number = chance.choice(open_orders)
        try:
            if what == "edit":
                shop.run(edit_order, build.CLERK, EditOrder(number, lines=(LineChange(1, chance.randint(1, 6)),)))
            elif what == "cancel":
                shop.run(cancel_order, build.CLERK, CancelOrder(number, "customer"))
                open_orders.remove(number)
            elif what == "short":
                shop.run(cancel_order, build.CLERK, CancelOrder(number, "LAMP 缺货 / out of stock"))
                open_orders.remove(number)
            else:
                shipment = next(s for s in build.shipments(shop, number) if s.status == "planned")
                package = PackageIn(tracking_number=f"T{shipment.number}")
                shop.run(ship_shipment, build.MANAGER, ShipShipment(shipment.number, packages=(package,)))
            done += 1
        except (OrdersError, StopIteration):
            continue  # not every order can be changed at every stage; the service says no and nothing happened
    if seed % 4 == 0:
        shop.run(opening_stock, build.PICKER, OpeningStock("WH1", [StockIn("RUG", 9)]))
    return done


def trade(shop: Store, clock: FixedClock, days: range) -> Iterator[int]:
    open_orders: list[str] = []
    for number in days:
        yield a_day_of_trade(shop, number, open_orders)
        clock.advance(days=1)


def test_what_the_services_do_reaches_the_warehouse_whole_and_a_past_day_stays_as_it_was(
    shop: Store, clock: FixedClock, tmp_path: Path, stated_count: StatedCount
) -> None:
    days = stated_count(small=5, stated=20)
    changed_by_day, as_known = tmp_path / "by_day", {}
    first_day = clock.now().date()
    for number, commands in enumerate(trade(shop, clock, range(days))):
        assert commands >= 5, "a day on which almost everything is refused proves nothing"
        today = first_day + timedelta(days=number)
        report = run_daily(
            shop.url, changed_by_day, as_of=today, run_id=f"day-{number}", now=lambda: PUBLISHED_AT, horizon_days=7
        )
        assert report.is_full_load == (number == 0)
        as_known[today] = hashes(changed_by_day)
    raw = {table.full_name for table in RAW_TABLES}
    # Read from nothing, the last day has the same tables as built from changes, and so has every earlier day, but for raw:
    # raw is the present. What was planned on earlier days only the warehouse knows that planned it.
    for number in (days - 1, days // 2):
        day, anew = first_day + timedelta(days=number), tmp_path / f"anew-{number}"
        run_daily(shop.url, anew, as_of=day, run_id="anew", now=lambda: PUBLISHED_AT, horizon_days=7)
        then, now = as_known[day], hashes(anew)
        is_last = number == days - 1
        may_differ = {*HISTORY_TABLES} if is_last else {*HISTORY_TABLES, *raw, *OF_THE_PRESENT}
        differ = {name for name in now if now[name] != then[name]} - may_differ
        assert differ == set(), f"{day}"
    totals = read.query(
        changed_by_day,
        "SELECT sum(demand_qty) AS demand, sum(lost_qty) AS lost, count(*) FILTER (WHERE is_censored) AS censored "
        "FROM core.fct_demand_daily",
    ).row(0, named=True)
    assert totals["demand"] > 10 * days and totals["censored"] > 0, totals
    stock = read.query(
        changed_by_day,
        "SELECT sku || '@' || location_code AS place, on_hand_qty FROM core.fct_stock_daily "
        "QUALIFY row_number() OVER (PARTITION BY sku, location_code ORDER BY stock_date DESC) = 1",
    )
    for place, on_hand_qty in stock.iter_rows():
        assert build.on_hand(shop, place) == on_hand_qty, place
    assert plan.suggestions(changed_by_day, language="zh").rows.height > 0
