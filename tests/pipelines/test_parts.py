"""Built by parts equals built anew: after any trade, on any day, forward and back."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from orders_core.errors import OrdersError
from orders_core.ports import FixedClock
from orders_core.services.master_data import LocationIn, save_location
from orders_core.services.payments import ReceivePayment, RefundOrder, receive_payment, refund_order
from orders_core.services.returns import (
    DecideReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    receive_return,
    request_return,
)
from orders_core.services.split import SplitByHand, split_by_hand
from orders_core.services.tickets import (
    AnswerTicket,
    OpenTicket,
    SolveTicket,
    answer_ticket,
    open_ticket,
    solve_ticket,
)
from orders_core.store.tables import Ticket
from orders_core.store.uow import Store
from pipelines import daily, parts, plan
from pipelines.daily import SOURCES, run_backfill, run_daily, run_refresh
from pipelines.model import MODELLED
from pipelines.parts import Parts
from pipelines.transform.as_of import AsOf
from pipelines.warehouse import read
from pipelines.warehouse.errors import ColumnsDiffer, DayNotKept
from pipelines.warehouse.publish import live_generation
from pipelines.warehouse.tables import TABLES, table
from pipelines.warehouse.write import table_hash
from tests.conftest import StatedCount
from tests.pipelines.test_daily import PUBLISHED_AT
from tests.pipelines.test_with_services import a_day_of_trade, shop
from tests.support import build

__all__ = ["shop"]
ZONE = "Asia/Shanghai"


def after_the_sale(shop: Store, seed: int, open_orders: list[str]) -> int:
    """Some of what left arrives, is paid, comes back, is complained about; returns how many commands went through."""
    chance = random.Random(seed)
    done = 0
    for number in chance.sample(open_orders, k=min(4, len(open_orders))):
        things: list[Callable[[], object]] = [
            lambda number=number: _leaves_and_arrives(shop, number),
            lambda number=number: _comes_back(shop, number, chance.random() < 0.6),
            lambda number=number: shop.run(open_ticket, build.CLERK, OpenTicket(number, "late", "late", "where is it")),
            lambda number=number: shop.run(refund_order, build.MANAGER, RefundOrder(number, 100, "a scratch")),
            lambda number=number: shop.run(
                receive_payment, build.CASHIER, ReceivePayment(build.CUSTOMER, 5_000, f"{seed}-{number}")
            ),
        ]
        for thing in sorted(chance.sample(things, k=4), key=things.index):
            try:
                thing()
                done += 1
            except (OrdersError, StopIteration):
                continue  # not every order can come back or be paid at every stage
    for ticket in [row.number for row in build.rows(shop, select(Ticket.number).where(Ticket.status == "open"))][:1]:
        shop.run(answer_ticket, build.CLERK, AnswerTicket(ticket, "tomorrow"))
        shop.run(solve_ticket, build.CLERK, SolveTicket(ticket, "arrived"))
    return done


def _leaves_and_arrives(shop: Store, number: str) -> None:
    if build.order_row(shop, number).status == "ready":
        build.ship(shop, number)
    if build.order_row(shop, number).status in ("shipped", "partly_shipped"):
        build.deliver(shop, number)


def _comes_back(shop: Store, number: str, is_whole: bool) -> None:
    asked = shop.run(request_return, build.CLERK, RequestReturn(number, {1: 1}, "broken"))
    shop.run(decide_return, build.CLERK, DecideReturn(asked.number, is_approved=True))
    if is_whole:
        shop.run(receive_return, build.PICKER, ReceiveReturn(asked.number, {1: 1}, "WH1"))


def refresh(shop: Store, warehouse_dir: Path, as_of: date, run_id: str) -> daily.RunReport:
    return run_refresh(shop.url, warehouse_dir, as_of=as_of, run_id=run_id, now=lambda: PUBLISHED_AT)


def model_hashes(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return {one.name: table_hash(con, table(one.name)) for one in MODELLED}


def live_hashes(warehouse_dir: Path) -> dict[str, str]:
    generation = live_generation(warehouse_dir)
    assert generation is not None
    with duckdb.connect(str(generation), read_only=True) as con:
        return model_hashes(con)


def modelled_anew(warehouse_dir: Path, as_of: date, scratch: Path) -> dict[str, str]:
    """The hashes of the modelled tables, all built from the live generation's `raw`."""
    generation = live_generation(warehouse_dir)
    assert generation is not None
    shutil.copyfile(generation, scratch)
    with duckdb.connect(str(scratch)) as con:
        anew = Parts(con, None, SOURCES)
        for modelled in MODELLED:
            anew.build(modelled, AsOf(as_of, ZONE))
        return model_hashes(con)


def test_built_by_parts_equals_built_anew_after_any_trade_on_any_day(
    shop: Store, clock: FixedClock, tmp_path: Path, stated_count: StatedCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 9)  # never anew, however much moved
    chance = random.Random(7)
    open_orders: list[str] = []
    by_parts = after = 0
    for number in range(stated_count(small=6, stated=80)):
        a_day_of_trade(shop, number, open_orders)
        clock.advance(hours=2)
        after += after_the_sale(shop, number, open_orders)
        clock.advance(hours=chance.choice([1, 7, 24]))
        if number % 5 == 4:
            build.sku(shop, f"NEW{number}")
            build.order(shop, f"NEW{number} 2")
        today = (clock.now() + timedelta(hours=8)).date()
        as_of = today - timedelta(days=chance.choice([0, 0, 1, 3]))
        report = refresh(shop, tmp_path / "w", as_of, f"refresh-{number}")
        if number:
            assert not report.is_full_load
            moved = {step.name: step.rows for step in report.steps}
            by_parts += moved["core.fct_order_line"] < report.row_counts["core.fct_order_line"]
        anew = modelled_anew(tmp_path / "w", as_of, tmp_path / "scratch.duckdb")
        live = live_hashes(tmp_path / "w")
        nightly = {one.name for one in MODELLED if one.is_nightly}
        differ = {name for name in anew if anew[name] != live[name] and name not in nightly}
        assert differ == set(), f"step {number}, as of {as_of}"
    assert by_parts, "nothing was built by parts"
    assert after > 6
    facts = ("fct_return_line", "fct_ticket", "fct_payment", "fct_shipment")
    assert [name for name in facts if not report.row_counts[f"core.{name}"]] == []


def test_a_refresh_without_news_changes_nothing(shop: Store, clock: FixedClock, tmp_path: Path) -> None:
    a_day_of_trade(shop, 1, [])
    today = (clock.now() + timedelta(hours=8)).date()
    run_daily(shop.url, tmp_path / "w", as_of=today, run_id="first", now=lambda: PUBLISHED_AT, horizon_days=7)
    before = live_hashes(tmp_path / "w")
    report = refresh(shop, tmp_path / "w", today, "again")
    # On PostgreSQL a neighbour's long transaction makes rows be read again, and most of a small table is all of it.
    if shop.url.startswith("sqlite") or not report.changed_keys:
        assert {step.rows for step in report.steps if step.name.startswith("core.")} == {0}
    assert live_hashes(tmp_path / "w") == before


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_past_day_lies_where_it_lay_though_a_line_was_moved_to_a_new_shipment_since(
    shop: Store, clock: FixedClock, tmp_path: Path
) -> None:
    for _ in range(3):
        build.order(shop, "RUG 1")
    number = build.order(shop, "LAMP 2, VASE 1").number
    first_day = (clock.now() + timedelta(hours=8)).date()
    refresh(shop, tmp_path / "w", first_day, "a")
    lies = "SELECT sku, location_code, demand_qty FROM core.fct_line_location WHERE sku = 'VASE'"
    then = read.query(tmp_path / "w", lies)
    assert then.rows() == [("VASE", "WH2", 1)]
    clock.advance(days=1)
    (shipment,) = build.shipments(shop, number)
    shop.run(split_by_hand, build.MANAGER, SplitByHand(number, shipment.number, units={2: 1}))
    refresh(shop, tmp_path / "w", first_day, "b")
    assert read.query(tmp_path / "w", lies).equals(then)
    # Another default location: built by parts it is what it is built anew.
    build.location(shop, "WH3")
    shop.run(save_location, build.MANAGER, LocationIn("WH3", "WH3", is_default=True))
    refresh(shop, tmp_path / "w", first_day, "c")
    nightly = {one.name for one in MODELLED if one.is_nightly}
    anew, live = modelled_anew(tmp_path / "w", first_day, tmp_path / "scratch.duckdb"), live_hashes(tmp_path / "w")
    assert {name for name in anew if anew[name] != live[name] and name not in nightly} == set()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_after_the_order_database_was_restored_the_model_is_of_what_it_holds_now(
    shop: Store, clock: FixedClock, tmp_path: Path
) -> None:
    a_day_of_trade(shop, 1, [])
    path = Path(make_url(shop.url).database or "")
    with sqlite3.connect(path) as from_here, sqlite3.connect(tmp_path / "backup.db") as backup:
        from_here.backup(backup)
    undone = build.order(shop, "LAMP 3").number
    today = (clock.now() + timedelta(hours=8)).date()
    refresh(shop, tmp_path / "w", today, "before")
    orders = "SELECT order_number FROM core.fct_order_line"
    assert undone in read.query(tmp_path / "w", orders)["order_number"].to_list()
    restored = f"sqlite:///{tmp_path / 'backup.db'}"
    asked = {"as_of": today, "now": lambda: PUBLISHED_AT}
    assert run_refresh(restored, tmp_path / "w", run_id="after", **asked).is_full_load
    assert undone not in read.query(tmp_path / "w", orders)["order_number"].to_list()
    anew = modelled_anew(tmp_path / "w", today, tmp_path / "scratch.duckdb")
    assert live_hashes(tmp_path / "w") == anew


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_reader_gets_every_table_with_the_types_of_the_contract(
    shop: Store, clock: FixedClock, tmp_path: Path
) -> None:
    a_day_of_trade(shop, 1, [])
    today = (clock.now() + timedelta(hours=8)).date()
    run_daily(shop.url, tmp_path / "w", as_of=today, run_id="first", now=lambda: PUBLISHED_AT, horizon_days=7)
    with read.live_warehouse(tmp_path / "w") as warehouse:
        for one in TABLES:
            frame = warehouse.table(one.full_name)
            assert dict(frame.schema) == read.frame_schema(one), one.full_name
        placed = warehouse.table("core.fct_order_line")["placed_at"]
        assert placed.min() >= clock.now() - timedelta(days=1)
        assert warehouse.table("core.fct_order_line")["order_line_id"].is_sorted()
    generation = live_generation(tmp_path / "w")
    assert generation is not None
    with duckdb.connect(str(generation)) as con:
        con.execute("ALTER TABLE core.dim_product DROP COLUMN base_unit")
    with read.live_warehouse(tmp_path / "w") as warehouse, pytest.raises(ColumnsDiffer, match="base_unit"):
        warehouse.table("core.dim_product")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_refresh_leaves_the_plan_of_the_daily_run(shop: Store, clock: FixedClock, tmp_path: Path) -> None:
    a_day_of_trade(shop, 1, [])
    today = (clock.now() + timedelta(hours=8)).date()
    first = run_daily(shop.url, tmp_path / "w", as_of=today, run_id="first", now=lambda: PUBLISHED_AT, horizon_days=7)
    assert first.row_counts["mart.reorder_suggestion"] > 0
    build.order(shop, "LAMP 2")
    tomorrow = today + timedelta(days=1)
    clock.advance(days=1)
    report = refresh(shop, tmp_path / "w", tomorrow, "later")
    shown = plan.suggestions(tmp_path / "w").publication
    assert (shown.as_of_date, shown.run_id) == (today, "first"), "the plan is of the day it was made for"
    assert read.publication(tmp_path / "w").as_of_date == tomorrow
    series = plan.product_plan(tmp_path / "w", "LAMP", "WH1").here.history
    assert series["demand_date"].max() == today
    assert report.row_counts["mart.reorder_suggestion"] == first.row_counts["mart.reorder_suggestion"]
    assert report.row_counts["core.fct_order_line"] == first.row_counts["core.fct_order_line"] + 1
    assert {one.full_name for one in TABLES} >= set(report.row_counts)


def plan_of(warehouse_dir: Path) -> dict[str, str]:
    """The hashes of every table outside raw and meta."""
    generation = live_generation(warehouse_dir)
    assert generation is not None
    with duckdb.connect(str(generation), read_only=True) as con:
        return {one.full_name: table_hash(con, one) for one in TABLES if one.schema in ("core", "mart")}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_backfill_equals_the_daily_runs_of_its_days_and_keeps_what_was_known_on_each(
    shop: Store, clock: FixedClock, tmp_path: Path, stated_count: StatedCount
) -> None:
    days = stated_count(small=5, stated=60)
    open_orders: list[str] = []
    first = (clock.now() + timedelta(hours=8)).date()
    for number in range(days):
        a_day_of_trade(shop, number, open_orders)
        clock.advance(days=1)
    last = first + timedelta(days=days - 1)
    for number in range(days):
        day = first + timedelta(days=number)
        run_daily(shop.url, tmp_path / "d", as_of=day, run_id=f"d{number}", now=lambda: PUBLISHED_AT, horizon_days=14)
    asked = {"zone": ZONE, "now": lambda: PUBLISHED_AT, "horizon_days": 14}
    run_backfill(shop.url, tmp_path / "b", first=first, last=last, run_id="b", **asked)
    by_day = plan_of(tmp_path / "d")
    assert plan_of(tmp_path / "b") == by_day
    # Days of the past again: the newest plan stays on the screens, and nothing is different.
    middle = first + timedelta(days=days // 2)
    report = run_backfill(shop.url, tmp_path / "b", first=first, last=middle, run_id="again", **asked)
    assert report.as_of_date == last
    assert plan_of(tmp_path / "b") == by_day
    # Half a day that only a refresh has seen is no day to plan on.
    refresh(shop, tmp_path / "b", last + timedelta(days=1), "half-a-day")
    assert run_backfill(shop.url, tmp_path / "b", first=first, last=first, run_id="more", **asked).as_of_date == last
    # Built from nothing, the kept plans are still there.
    run_daily(shop.url, tmp_path / "b", as_of=last, run_id="full", full=True, now=lambda: PUBLISHED_AT, horizon_days=14)
    assert plan_of(tmp_path / "b") == by_day
    kept = read.query(tmp_path / "b", "SELECT as_of_date, count(*) AS rows FROM mart.suggestion_history GROUP BY 1")
    assert kept.height == days
    run_daily(shop.url, tmp_path / "then", as_of=middle, run_id="then", now=lambda: PUBLISHED_AT, horizon_days=14)
    then = read.query(tmp_path / "then", "SELECT * FROM mart.reorder_suggestion ORDER BY sku, location_code")
    assert then.height
    known = (
        "SELECT * EXCLUDE (as_of_date) FROM mart.suggestion_history WHERE as_of_date = ? ORDER BY sku, location_code"
    )
    assert read.query(tmp_path / "b", known, [middle]).equals(then)
    assert plan.suggestions(tmp_path / "b", as_of=middle, only_to_buy=False).rows.height == then.height
    assert plan.plan_days(tmp_path / "b") == [first + timedelta(days=number) for number in range(days)]
    with pytest.raises(DayNotKept, match=f"kept are {days} days from {first} to {last}"):
        plan.suggestions(tmp_path / "b", as_of=last + timedelta(days=1))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_generation_to_spare_is_built_on_and_gets_what_it_missed(
    shop: Store, clock: FixedClock, tmp_path: Path
) -> None:
    open_orders: list[str] = []
    folder, copied = tmp_path / "w", tmp_path / "copied"
    today = (clock.now() + timedelta(hours=8)).date()
    inodes: set[int] = set()
    asked = {"now": lambda: PUBLISHED_AT, "horizon_days": 7}
    for number in range(9):
        a_day_of_trade(shop, number, open_orders)
        if number in (0, 3, 4):  # the plan changes hands between refreshes; the copies have no generation to spare
            run_daily(shop.url, folder, as_of=today, run_id=f"d{number}", keep=2, **asked)
            run_daily(shop.url, copied, as_of=today, run_id=f"d{number}", **asked)
        else:
            run_refresh(shop.url, folder, as_of=today, run_id=f"r{number}", keep=2, now=lambda: PUBLISHED_AT)
            run_refresh(shop.url, copied, as_of=today, run_id=f"r{number}", now=lambda: PUBLISHED_AT, keep=20)
        generation = live_generation(folder)
        assert generation is not None
        was_renamed = generation.stat().st_ino in inodes
        assert was_renamed == (number >= 3), "three lie there before the oldest is to spare"
        inodes.add(generation.stat().st_ino)
        assert plan_of(folder) == plan_of(copied), f"after run {number}"
        table_rows = "SELECT table_name, row_count, built_by_run_id FROM meta.table_rows ORDER BY ALL"
        assert read.query(folder, table_rows).equals(read.query(copied, table_rows))
