"""Promotion prices of the order core in the nightly plan: what past ones sold is learned, a planned one is forecast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sqlalchemy import insert

from orders_core.store import tables as t
from pipelines import plan
from pipelines.daily import run_daily
from pipelines.replay import past
from pipelines.transform.as_of import AsOf
from pipelines.transform.plan import promotions
from pipelines.warehouse.read import live_warehouse
from tests.pipelines.book import Book, at, day

WEEKS, SKUS = 64, [f"P{i:02d}" for i in range(30)]


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """Thirty products, ten to forty a week; three times as many in the four weeks in which each was 20 % off."""
    book = Book(database_url)
    book.location("HEL", default=True, tracked=False)
    book.sku(*SKUS)
    rng = np.random.default_rng(8)
    offers = {sku: {7 + i % 11, 25 + i % 13, 40 + i % 5, 47 + i % 15} for i, sku in enumerate(SKUS)}
    for week in range(WEEKS):
        sold = rng.poisson([(10 + i) * (3 if week in offers[sku] else 1) for i, sku in enumerate(SKUS)])
        lines = [f"{sku}@HEL: {n}" for sku, n in zip(SKUS, sold, strict=True) if n]
        book.order(f"A{week}", at(day(7 * week + 2)), *lines)
    for sku in SKUS:
        price(book, sku, "list", 1000, day(0), None)
        for week in offers[sku]:
            price(book, sku, "promotion", 800, day(7 * week), day(7 * week + 6))
    price(book, "P03", "promotion", 800, day(7 * WEEKS + 7), day(7 * WEEKS + 13))
    yield book
    book.close()


def price(book: Book, sku: str, kind: str, cents: int, first: date, last: date | None) -> None:
    entered = at(min(first, day(7 * WEEKS - 3)), 8)
    with book._transaction(entered) as uow:
        row = {"id": uow.new_id(), "sku_id": book.id_of(t.Sku, sku), "kind": kind, "currency": "CNY",
               "unit_price_cents": cents, "valid_from_date": first, "valid_to_date": last, "created_at": entered}  # fmt: skip
        uow.conn.execute(insert(t.Price).values(row))
        uow.changed("price", row["id"], 1, "insert")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_promotion_that_is_planned_is_forecast_and_told(book: Book, database_url: str, tmp_path: Path) -> None:
    last = day(7 * WEEKS - 1)
    run_daily(database_url, tmp_path / "w", as_of=last, run_id="r", now=lambda: datetime(2027, 9, 1, tzinfo=UTC))
    with live_warehouse(tmp_path / "w") as live:
        series = pl.DataFrame({"unique_id": ["P03@HEL", "P03@*", "P04@HEL"], "sku": ["P03", "P03", "P04"]})
        known = promotions(live.con, AsOf(last, "UTC"), series)
        assert known.group_by("unique_id").len().sort("unique_id")["len"].to_list() == [5, 5, 4]
        assert known["depth_ratio"].to_list() == pytest.approx([0.2] * 14)
        ahead = live.query("FROM mart.demand_forecast ORDER BY sku, demand_date")
    replayed = past(tmp_path / "w", weeks=26)
    for known_day, count in ((day(0), 0), (day(7 * WEEKS - 4), 4), (day(7 * WEEKS - 3), 5)):
        assert replayed.promotions(known_day).filter(unique_id="P03@HEL").height == count
    promoted = plan.product_plan(tmp_path / "w", "P03", "HEL").here.choice
    assert promoted is not None and "a promotion: the week from" in promoted["reason"]
    facts = json.loads(promoted["facts"])
    assert facts["promotion_from"] == str(day(7 * WEEKS + 7))
    assert facts["promotion_factor"] == pytest.approx(3.0, rel=0.2)
    weeks = (
        ahead.filter(pl.col("sku").is_in(["P03", "P04"]))
        .group_by("sku", ((pl.col("horizon_days") - 1) // 7).alias("week"))
        .agg(pl.col("mean_qty").sum())
    )
    one, other = (weeks.filter(sku=sku).sort("week")["mean_qty"].to_list() for sku in ("P03", "P04"))
    assert one[1] == pytest.approx(3 * 13, rel=0.3) and max(one[0], one[2]) < 0.6 * one[1]
    assert max(other) < 1.4 * min(other)
    assert last + timedelta(days=8) == day(7 * WEEKS + 7)
