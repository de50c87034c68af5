"""What the inventory policy page reads: the curve of the nightly plan, the classes, and what lies too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import CLASSES
from orders_core.errors import InvalidCommand
from orders_core.services.plan_changes import SetPlanning, set_planning
from pipelines.daily import run_daily
from pipelines.plan import aim, suggestions
from pipelines.policy import NO_CLASS, policy, summed
from tests.pipelines.book import Book, at, day

ONE_DATABASE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
DAYS = 190


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """LAMP sold every day at two places that send for each other, RUG now and then, VASE not since the first day; PIN is
    new."""
    book = Book(database_url)
    book.location("HEL", default=True)
    book.location("TRE")
    book.sku("LAMP", "RUG", "VASE", "PIN")
    book.supplier("ACME", 5, "LAMP", "RUG", "VASE", "PIN", moq=10, pack=12, cost=250)
    book.move(at(day(0), 8), "LAMP@HEL: 700", "LAMP@TRE: 300", "RUG@HEL: 160", "VASE@HEL: 60", "PIN@HEL: 10")
    for number in range(DAYS):
        lines = [f"LAMP@HEL: {2 + number % 3}", "LAMP@TRE: 1"]
        lines += ["RUG@HEL: 5"] if number % 17 == 0 else []
        lines += ["VASE@HEL: 1"] if number == 0 else []
        lines += ["PIN@HEL: 1"] if number == DAYS - 3 else []
        book.order(f"A{number}", at(day(number)), *lines)
        book.ship(f"A{number}", at(day(number), 15))
    yield book
    book.close()


@ONE_DATABASE
def test_the_curve_is_that_of_the_plan_and_sums_by_target(book: Book, database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    run_daily(
        database_url, folder, as_of=day(DAYS - 1), run_id="r", now=lambda: datetime(2026, 12, 1, tzinfo=UTC)
    )  # fmt: skip
    known = policy(folder)
    planned = suggestions(folder, only_to_buy=False).rows
    assert known.publication.as_of_date == day(DAYS - 1)

    now = known.points.filter(order_aim="now")
    assert dict(now.select("sku", "planned_place").iter_rows()) == {
        "LAMP": "*",
        "PIN": "HEL",
        "RUG": "HEL",
        "VASE": "HEL",
    }
    levels = planned.group_by("sku").agg(pl.col("order_up_to_qty").sum()).sort("sku")
    by_level = dict(now.select("sku", "order_up_to_qty").iter_rows())
    for sku, level in levels.iter_rows():  # packs of 12 let the cheapest position lie a little below the level
        assert level - 12 < by_level[sku] <= level, sku

    classes = dict(known.products.select("sku", "class").iter_rows())
    assert (classes["LAMP"], classes["PIN"]) == ("AX", NO_CLASS)
    assert set(classes.values()) <= {*CLASSES, NO_CLASS}
    lying = {row["sku"]: row["stock_class"] for row in known.lying.iter_rows(named=True)}
    assert lying == {"VASE": "dead", "RUG": "excess", "PIN": "excess"}
    stock, units = (dict(known.products.select("sku", name).iter_rows()) for name in ("stock_cents", "on_hand_qty"))
    assert all(stock[sku] == 250 * units[sku] > 0 for sku in ("RUG", "VASE", "PIN"))

    rows = summed(known.points)
    assert rows["products"].unique().to_list() == [4]
    grid = rows.filter(order_aim="cycle_service").sort("service_ratio")
    for name in ("mean_stock_cents", "yearly_holding_cents", "fill_rate_ratio"):
        assert grid[name].is_sorted(), name
    at_95 = known.points.filter(order_aim="cycle_service", service_ratio=0.95)
    whole = grid.row(by_predicate=pl.col("service_ratio") == 0.95, named=True)
    for name in ("mean_stock_cents", "yearly_short_qty", "yearly_demand_qty"):
        assert whole[name] == pytest.approx(at_95[name].sum())
    assert whole["yearly_cost_cents"] == pytest.approx(
        at_95["yearly_holding_cents"].sum() + at_95["yearly_shortage_cents"].sum()
    )
    assert whole["fill_rate_ratio"] == pytest.approx(1 - whole["yearly_short_qty"] / whole["yearly_demand_qty"])
    lamp = known.points.filter(sku="LAMP", order_aim="now")["yearly_demand_qty"].item()
    assert lamp == pytest.approx(4 * 365, rel=0.1)


@ONE_DATABASE
def test_a_class_with_a_target_of_its_own_is_planned_by_it_and_the_others_are_not(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    def planned(number: int) -> pl.DataFrame:
        run_daily(
            database_url, tmp_path / "w", as_of=day(DAYS - 1 + number), run_id=f"r{number}",
            now=lambda: datetime(2026, 12, 1, tzinfo=UTC),
        )  # fmt: skip
        return suggestions(tmp_path / "w", only_to_buy=False).rows

    planner = Actor("pia", frozenset({"planner"}))
    before = planned(0)
    assert set(before["order_target"]) == {"cost"}
    book.clock.set(at(day(DAYS), 9))
    done = book.store.run(set_planning, planner, SetPlanning(class_service={"AX": 0.6}, reason="a fair is over"))
    assert done.class_service == {"AX": 0.6}
    after = planned(1)
    by_sku = {row["sku"]: row for row in after.iter_rows(named=True)}
    assert (by_sku["LAMP"]["order_target"], by_sku["LAMP"]["cycle_service_ratio"]) == ("cycle_service", 0.6)
    assert {by_sku[sku]["order_target"] for sku in ("RUG", "VASE", "PIN")} == {"cost"}
    assert "class AX at cycle service 60%" in aim(tmp_path / "w").replace("\u00a0", " ").replace("60 %", "60%")
    level = [rows.filter(sku="LAMP")["order_up_to_qty"].sum() for rows in (before, after)]
    assert level[1] < level[0]

    known = policy(tmp_path / "w")
    assert known.class_service == {"AX": 0.6}, "as the plan had it"
    of_lamp = known.points.filter(sku="LAMP")
    at_60 = of_lamp.filter(order_aim="cycle_service", service_ratio=0.6)["mean_stock_cents"].item()
    assert of_lamp.filter(order_aim="now")["mean_stock_cents"].item() == at_60
    kept = summed(known.points, kept=["AX"]).filter(order_aim="cycle_service").sort("service_ratio")
    others = known.points.filter(pl.col("sku") != "LAMP", order_aim="cycle_service").group_by("service_ratio")
    alone = others.agg(pl.col("mean_stock_cents").sum()).sort("service_ratio")
    assert kept["mean_stock_cents"].to_list() == pytest.approx((alone["mean_stock_cents"] + at_60).to_list())


def test_a_class_that_is_none_and_a_service_that_is_none_are_refused(book: Book) -> None:
    planner = Actor("pia", frozenset({"planner"}))
    for wrong in ({"AA": 0.9}, {"AX": 1.0}, {"AX": 0.0}):
        with pytest.raises(InvalidCommand):
            book.store.run(set_planning, planner, SetPlanning(class_service=wrong))
    assert book.store.run(set_planning, planner, SetPlanning(class_service={"AX": 0.9})).class_service == {"AX": 0.9}
    assert book.store.run(set_planning, planner, SetPlanning(class_service={"AX": None})).class_service == {}


def test_products_nobody_asks_for_have_sums_and_no_service() -> None:
    """A class of stopped products: stock and money are zero, and the service of what is aimed at is not known."""
    columns = dict.fromkeys(
        ("mean_stock_cents", "yearly_holding_cents", "yearly_shortage_cents", "yearly_short_qty"), 0.0
    )
    rows = [
        {"order_aim": aimed, "service_ratio": 0.9, "yearly_demand_qty": 0.0, "class": "CZ", **columns}
        for aimed in ("cycle_service", "now")
    ]
    found = summed(pl.DataFrame(rows)).sort("order_aim")
    assert found["service_ratio"].to_list() == [0.9, None]
    assert found["fill_rate_ratio"].null_count() == 2
