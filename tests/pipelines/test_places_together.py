"""Two places that send for each other in the nightly plan: one forecast for both, an order that looks at both, a switch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import update

from orders_core.domain.permissions import Actor
from orders_core.services.plan_changes import (
    AdjustDemand,
    SetOverride,
    SetPlanning,
    adjust_demand,
    set_override,
    set_planning,
)
from orders_core.store import tables as t
from pipelines import plan
from pipelines.daily import run_daily
from pipelines.transform.as_of import AsOf
from pipelines.transform.plan import planning_defaults, positions
from pipelines.warehouse.read import live_warehouse
from tests.pipelines.book import Book, at, day

PIA = Actor("pia", frozenset({"planner"}))
DAYS = 60


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """LAMP sold at Helsinki, six a day, and at Turku, three; Turku is sold out for ten days, in which Helsinki sends nine.

    POT is sold at Helsinki only.
    """
    book = Book(database_url)
    book.location("HEL", default=True)
    book.location("TKU")
    book.sku("LAMP", "POT")
    book.supplier("ACME", 7, "LAMP", cost=250)
    book.move(at(day(0), 8), "LAMP@HEL: 420", "LAMP@TKU: 90", "POT@HEL: 200")
    for number in range(DAYS):
        is_out = 30 <= number < 40
        lines = [f"LAMP@HEL: {9 if is_out else 6}", "POT@HEL: 1"] + ([] if is_out else ["LAMP@TKU: 3"])
        book.order(f"A{number}", at(day(number)), *lines)
        book.ship(f"A{number}", at(day(number), 15))
        if number == 39:
            book.move(at(day(number), 20), "LAMP@TKU: 120")
    yield book
    book.close()


def planned(database_url: str, folder: Path, as_of: date) -> dict[str, dict[str, Any]]:
    run_daily(database_url, folder, as_of=as_of, run_id=f"r-{as_of}", now=lambda: datetime(2026, 9, 1, tzinfo=UTC))
    rows = plan.suggestions(folder, only_to_buy=False).rows
    return {f"{row['sku']}@{row['location_code']}": row for row in rows.iter_rows(named=True)}


def together(folder: Path) -> pl.DataFrame:
    with live_warehouse(folder) as live:
        return live.query("FROM mart.pool_forecast_total ORDER BY sku, demand_date")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_a_planner_changed_at_one_place_is_told_of_all_together(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    book.clock.set(at(day(DAYS - 1), 20))
    ignored = AdjustDemand("LAMP", "HEL", day(50), day(54), "ignore", "hotel")
    book.store.run(adjust_demand, PIA, ignored)
    coming = SetOverride("LAMP", "TKU", day(DAYS), day(DAYS + 6), "set_daily", 30.0, "fair")
    book.store.run(set_override, PIA, coming)
    rows = planned(database_url, tmp_path / "w", day(DAYS - 1))
    story = plan.product_plan(tmp_path / "w", "LAMP", "HEL")
    assert story.together is not None and story.together.choice is not None
    told = story.together.choice
    assert told["censored_days"] == 0 and "stock_out_days_estimated" not in told["reason_codes"]
    assert "pia adjusted 5 past days" in told["reason"] and "hotel" in told["reason"]
    assert "pia changed the forecast" in told["reason"] and "fair" in told["reason"]
    assert all("stock_out_days_estimated" not in rows[place]["reason_codes"] for place in ("LAMP@HEL", "LAMP@TKU"))
    assert story.together.forecast["mean_qty"][0] > 30
    days = story.together.forecast.filter(pl.col("demand_date") <= day(DAYS + 6))  # the units of all places, not of one
    model, now = (f"{days[name].sum():.0f}" for name in ("model_mean_qty", "mean_qty"))
    assert f"(model {model}, now {now})" in told["reason"]
    assert "pia changed the forecast" in rows["LAMP@HEL"]["reason"]  # of the quantity that it caused, too


def by_a_planner(book: Book) -> None:
    book.store.run(set_planning, PIA, SetPlanning(reason="two firms now", pools_places=False))


def as_no_place_to_send_from(book: Book) -> None:
    with book._transaction(at(day(DAYS), 9)) as uow:
        uow.conn.execute(update(t.Location).where(t.Location.code == "TKU").values(can_ship=False))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("set_apart", [by_a_planner, as_no_place_to_send_from])
def test_two_places_are_ordered_for_as_one_until_a_planner_says_otherwise(
    book: Book, database_url: str, tmp_path: Path, set_apart: Callable[[Book], None]
) -> None:
    rows = planned(database_url, tmp_path / "w", day(DAYS - 1))
    helsinki, turku = rows["LAMP@HEL"], rows["LAMP@TKU"]
    assert "pooled" in helsinki["reason_codes"] and "pooled" in turku["reason_codes"]
    assert "pooled" not in rows["POT@HEL"]["reason_codes"]
    facts = json.loads(helsinki["facts"])
    assert facts["pool_order_up_to_qty"] == helsinki["order_up_to_qty"] + turku["order_up_to_qty"]
    # 60 units at Turku are too many for it; Helsinki, which has 30, needs the less
    assert turku["suggested_qty"] == 0 and helsinki["elsewhere_part_qty"] < 0 < helsinki["suggested_qty"]
    story = plan.product_plan(tmp_path / "w", "LAMP", "TKU")
    assert story.together is not None and story.together.places == ("HEL", "TKU")
    own = [plan.product_plan(tmp_path / "w", "LAMP", place).here for place in ("HEL", "TKU")]
    days = story.together.history
    assert days["demand_qty"].to_list() == [9] * DAYS and days["is_censored"].to_list() == [False] * DAYS
    assert own[1].history["is_censored"].sum() == 11  # Turku was out, its customers were not
    assert story.together.levels == {name: own[0].levels[name] + own[1].levels[name] for name in own[0].levels}  # type: ignore[index]
    assert story.together.choice is not None and story.together.choice["grade"] == turku["grade"]
    assert story.together.forecast["mean_qty"].head(14).sum() == pytest.approx(story.together.totals["mean_qty"][13])
    assert plan.product_plan(tmp_path / "w", "POT", "HEL").together is None
    totals = together(tmp_path / "w")
    assert totals["sku"].unique().to_list() == ["LAMP"]
    # nine a day were sent, in the ten days too: nothing of it was lost
    assert totals["mean_qty"][13] == pytest.approx(14 * 9, rel=0.03)

    book.location("OUL")
    book.move(at(day(DAYS), 7), "LAMP@OUL: 40", "POT@OUL: 500")
    again = planned(database_url, tmp_path / "w", day(DAYS))
    assert "LAMP@OUL" not in again and again["LAMP@HEL"]["elsewhere_part_qty"] <= helsinki["elsewhere_part_qty"] - 20
    with live_warehouse(tmp_path / "w") as live:
        known = AsOf(day(DAYS), "UTC")
        idle = positions(live.con, known, planning_defaults(live.con, known)).sort("unique_id")
    assert idle["unique_id"].to_list() == ["LAMP@HEL", "LAMP@TKU", "POT@HEL"]
    assert idle["idle_elsewhere_qty"].to_list() == [40, 40, 500]

    book.clock.set(at(day(DAYS), 9))
    set_apart(book)
    apart = planned(database_url, tmp_path / "w", day(DAYS))
    assert all("pooled" not in row["reason_codes"] for row in apart.values())
    assert together(tmp_path / "w").is_empty()
    (kept,) = plan.suggestions(
        tmp_path / "w", only_to_buy=False, sku="LAMP", location_code="HEL", as_of=day(DAYS - 1)
    ).rows.iter_rows(named=True)
    assert kept["elsewhere_part_qty"] == helsinki["elsewhere_part_qty"]
