"""Overrides and history adjustments on their way from the order database to the forecast, and what they were worth."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from orders_core.services.plan_changes import (
    AdjustDemand,
    SetOverride,
    Withdraw,
    adjust_demand,
    set_override,
    withdraw_override,
)
from pipelines.daily import run_daily
from pipelines.warehouse import read
from tests.pipelines.book import Book, at, day
from tests.support.build import PLANNER

# What the model makes of `raw` does not depend on where `raw` came from; the first test shows that both databases give it.
ONE_DATABASE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
LAST = 41
"""The day, counted from Monday, that the plans below are made at the end of: six whole weeks."""


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """Two lamps a day at HEL, enough stock; a rug a day beside them."""
    book = Book(database_url)
    book.location("HEL", default=True)
    book.sku("LAMP", "RUG")
    book.supplier("ACME", 5, "LAMP", "RUG")
    book.move(at(day(-1)), "LAMP@HEL: 9000", "RUG@HEL: 9000")
    for number in range(LAST + 1):
        book.order(f"A{number}", at(day(number)), "LAMP@HEL: 2", "RUG@HEL: 1")
    yield book
    book.close()


@pytest.fixture
def plan(book: Book, database_url: str, tmp_path: Path) -> Callable[[date], Path]:
    """Run the day and give the warehouse's folder."""

    def run(as_of: date) -> Path:
        folder = tmp_path / "warehouse"
        number = len(list(folder.glob("generation-*"))) if folder.exists() else 0
        published_at = datetime(2026, 6, 1, tzinfo=UTC)
        run_daily(
            database_url, folder, as_of=as_of, run_id=f"run-{number}-{as_of}", now=lambda: published_at, horizon_days=28
        )
        return folder

    return run


def run_service(book: Book, moment: datetime, service: Callable[..., Any], command: Any) -> int:
    book.clock.set(moment)
    return int(book.store.run(service, PLANNER, command).change_id)


def fair(**fields: Any) -> SetOverride:
    """Three times as many lamps in the coming week."""
    asked = {
        "kind": "multiply",
        "amount": 3.0,
        "reason": "fair",
        "from_date": day(LAST + 1),
        "through_date": day(LAST + 7),
    }
    return SetOverride("LAMP", "HEL", **{**asked, **fields})


def week(folder: Path, sku: str = "LAMP") -> tuple[float, float]:
    """Units of the coming week: the model's, and after overrides."""
    return read.query(
        folder,
        "SELECT round(model_mean_qty, 2), round(mean_qty, 2) FROM mart.demand_forecast_total "
        "WHERE sku = $sku AND horizon_days = 7",
        {"sku": sku},
    ).row(0)


def reasons(folder: Path, sku: str = "LAMP") -> list[str]:
    rows = read.query(folder, "SELECT reason_codes FROM mart.forecast_choice WHERE sku = $sku", {"sku": sku})
    return list(rows["reason_codes"][0])


def test_an_override_reaches_forecast_and_order_level_and_the_kept_plan(
    book: Book, plan: Callable[[date], Path]
) -> None:
    run_service(book, at(day(LAST)), set_override, fair())
    folder = plan(day(LAST))
    model, after = week(folder)
    assert model == pytest.approx(14, abs=1) and after == pytest.approx(3 * model, abs=0.1)
    assert week(folder, "RUG")[0] == week(folder, "RUG")[1]
    assert "overridden" in reasons(folder) and "overridden" not in reasons(folder, "RUG")
    kept = read.query(folder, "SELECT mean_qty FROM mart.forecast_history WHERE sku = 'LAMP' AND horizon_days = 7")
    assert kept.item() == pytest.approx(after, abs=0.01)
    level = read.query(folder, "SELECT order_up_to_qty FROM mart.reorder_suggestion WHERE sku = 'LAMP'").item()
    assert level >= 12 * 2 + 20  # twelve days are covered, 28 units more are wanted in them


@ONE_DATABASE
def test_an_override_survives_a_run_and_ends_on_its_day(book: Book, plan: Callable[[date], Path]) -> None:
    run_service(book, at(day(LAST)), set_override, fair(expires_date=day(LAST + 1)))
    first = week(plan(day(LAST)))
    assert week(plan(day(LAST))) == first and first[1] > 2 * first[0]
    book.order("B", at(day(LAST + 1)), "LAMP@HEL: 2")
    folder = plan(day(LAST + 1))
    assert read.query(folder, "FROM mart.forecast_override").is_empty()
    assert week(folder)[0] == week(folder)[1] and "overridden" not in reasons(folder)
    assert read.query(folder, "FROM core.fct_forecast_override")["expires_date"].to_list() == [day(LAST + 1)]


@ONE_DATABASE
def test_a_past_day_knows_only_the_overrides_of_its_time(book: Book, plan: Callable[[date], Path]) -> None:
    made = run_service(book, at(day(LAST)), set_override, fair())
    run_service(book, at(day(LAST + 1), 1), withdraw_override, Withdraw(made))
    later = SetOverride("RUG", "HEL", day(LAST + 2), day(LAST + 9), "set_daily", 9.0, "press")
    run_service(book, at(day(LAST + 1), 2), set_override, later)
    book.order("B", at(day(LAST + 1)), "LAMP@HEL: 2")
    for number, lamps, rugs in ((LAST + 1, False, True), (LAST, True, False)):
        folder = plan(day(number))
        assert (week(folder)[0] != week(folder)[1]) == lamps
        assert (week(folder, "RUG")[0] != week(folder, "RUG")[1]) == rugs
        known = read.query(folder, "SELECT sku, withdrawn_at IS NULL FROM core.fct_forecast_override ORDER BY 1").rows()
        assert known == ([("LAMP", True)] if lamps else [("LAMP", False), ("RUG", True)])


@ONE_DATABASE
def test_what_an_override_was_worth_is_measured_once_its_days_are_known(
    book: Book, plan: Callable[[date], Path]
) -> None:
    """Six lamps a day were sold instead of two, and one rug a day as ever: one planner was right, the other was not."""
    right = run_service(book, at(day(LAST)), set_override, fair())
    wrong = run_service(book, at(day(LAST)), set_override, fair(kind="set_daily", amount=4.0, reason="hope"))
    rug = SetOverride("RUG", "HEL", day(LAST + 1), day(LAST + 28), "add_weekly", 7.0, "press", day(LAST + 2))
    rugs = run_service(book, at(day(LAST)), set_override, rug)
    book.move(at(day(LAST + 3)), "RUG@HEL: -9000", reason="count")
    folder = plan(day(LAST))
    assert read.query(folder, "FROM mart.override_value").is_empty()
    for number in range(LAST + 1, LAST + 8):
        book.order(f"B{number}", at(day(number)), "LAMP@HEL: 6", "RUG@HEL: 1")
    plan(day(LAST + 3))  # a later plan, without the rug's override, changes nothing of what was told
    folder = plan(day(LAST + 7))
    value = {row["override_id"]: row for row in read.query(folder, "FROM mart.override_value").iter_rows(named=True)}
    assert set(value) == {right, wrong, rugs}
    first = value[right]
    assert (first["author"], first["reason"], first["known_days"], first["actual_qty"]) == ("pia", "fair", 7, 42.0)
    assert first["before_qty"] == pytest.approx(14, abs=1) and first["after_qty"] == pytest.approx(42, abs=3)
    assert first["value_added_qty"] == pytest.approx(28, abs=4)
    second = value[wrong]  # laid over the first: 28 instead of 42
    assert second["after_qty"] == 28.0
    assert second["value_added_qty"] == pytest.approx(first["after_error_qty"] - 14, abs=0.01)
    assert second["value_added_qty"] < -10
    third = value[rugs]  # one a day more, of two days: then stock was out, which says nothing
    assert (third["known_days"], third["actual_qty"]) == (2, 2.0)
    assert third["after_qty"] == pytest.approx(third["before_qty"] + 2, abs=0.01)
    history = read.query(folder, "SELECT DISTINCT as_of_date FROM mart.override_history ORDER BY 1")
    assert history["as_of_date"].to_list() == [day(LAST), day(LAST + 3)]


@ONE_DATABASE
def test_an_adjusted_day_is_not_learned_from_and_stays_on_record(book: Book, plan: Callable[[date], Path]) -> None:
    book.order("HOTEL", at(day(LAST - 3)), "LAMP@HEL: 600")
    moment = at(day(LAST), 14)
    run_service(
        book, moment, adjust_demand, AdjustDemand("LAMP", "HEL", day(LAST - 3), day(LAST - 3), "ignore", "hotel")
    )
    folder = plan(day(LAST))
    assert week(folder)[0] == pytest.approx(14, abs=1.5)  # 600 lamps of one day would be seen
    assert "history_adjusted" in reasons(folder) and "history_adjusted" not in reasons(folder, "RUG")
    query = "SELECT max(demand_qty) FROM core.fct_demand_daily WHERE sku = 'LAMP'"
    assert read.query(folder, query).item() == 602
    assert "stock_out_days_estimated" not in reasons(folder)
    choice = read.query(folder, "SELECT censored_days FROM mart.forecast_choice WHERE sku = 'LAMP'")
    assert choice.item() == 0
