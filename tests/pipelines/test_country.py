"""Whose festivals the plan knows: those of the country where most products are asked for."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from forecasting import forecast
from forecasting.forecast import DemandPlan
from pipelines.daily import run_daily
from pipelines.replay import past
from pipelines.transform import plan
from tests.pipelines.book import Book, at


@pytest.fixture
def places() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("CREATE SCHEMA core")
        con.execute("CREATE TABLE core.dim_location (location_code VARCHAR, country VARCHAR)")
        con.execute("CREATE TABLE core.fct_demand_daily (sku VARCHAR, location_code VARCHAR)")
        yield con


def test_the_country_is_that_of_the_most_products_at_a_place(places: duckdb.DuckDBPyConnection) -> None:
    assert plan.country(places) is None  # nobody asked for anything
    places.execute("INSERT INTO core.dim_location VALUES ('HEL', 'FI'), ('TKU', 'FI'), ('SZ', 'CN'), ('MARS', 'XX')")
    places.execute("INSERT INTO core.fct_demand_daily VALUES ('A', 'HEL'), ('A', 'TKU'), ('A', 'SZ'), ('A', 'SZ')")
    assert plan.country(places) == "FI"
    places.execute("INSERT INTO core.fct_demand_daily VALUES ('B', 'SZ'), ('C', 'SZ')")
    assert plan.country(places) == "CN"
    places.execute("INSERT INTO core.fct_demand_daily SELECT 'P' || i, 'MARS' FROM range(9) t(i)")
    assert plan.country(places) is None  # a code that no calendar has is no reason to stop the night


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_daily_run_and_the_replay_take_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str | None] = []
    real = forecast.plan_demand

    def listening(*args: Any, **given: Any) -> DemandPlan:
        told.append(given["settings"].country)
        return real(*args, **given)

    monkeypatch.setattr(forecast, "plan_demand", listening)
    book = Book(database_url)
    book.location("SZ", default=True)
    book.sku("LAMP")
    book.supplier("ACME", 5, "LAMP")
    monday = date(2026, 3, 2)
    for number in range(15):
        book.order(f"A{number}", at(monday + timedelta(days=number)), "LAMP@SZ: 2")
    book.close()
    as_of, now = monday + timedelta(days=14), datetime(2026, 6, 1, tzinfo=UTC)
    run_daily(database_url, tmp_path, as_of=as_of, run_id="one", now=lambda: now, horizon_days=28)
    assert told == ["CN"]
    assert past(tmp_path, weeks=1).country == "CN"
