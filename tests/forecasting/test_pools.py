"""Pools: their summed demand against a loop over days, and shares that add up."""

from __future__ import annotations

import math
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecasting.forecast import PlanSettings, plan_demand
from forecasting.pools import (
    CARRIED_DAYS,
    pooled_history,
    pooled_items,
    read_pools,
    share_out,
    with_pooled_stock_outs,
    with_pools,
)
from tests.forecasting.builders import END, daily, weekly_pattern

POOLS = pl.DataFrame({"unique_id": ["A", "B", "C", "D", "E"], "pool_id": ["P", "P", "P", "Q", None]})
PLACES = {"P": ["A", "B", "C"]}  # D is alone in its pool
Row = tuple[str, date, float, bool | None]


@given(qty=st.integers(-500, 500), weights=st.lists(st.integers(0, 1000), min_size=1, max_size=12))
def test_shares_add_up_and_lie_within_a_unit_of_the_exact_ones(qty: int, weights: list[int]) -> None:
    parts = share_out(qty, weights)
    whole = sum(weights)
    exact = [Fraction(qty * w, whole) if whole else Fraction(qty, len(weights)) for w in weights]
    assert sum(parts) == qty
    assert all(abs(part - fair) < 1 for part, fair in zip(parts, exact, strict=True))
    assert all(part == fair for part, fair in zip(parts, exact, strict=True) if fair.denominator == 1)


@example(qty=3, weights=[3, 3, 21])
@given(qty=st.integers(0, 300), weights=st.lists(st.integers(1, 60), min_size=2, max_size=8))
def test_a_unit_over_goes_to_the_largest_remainder(qty: int, weights: list[int]) -> None:
    """The slow twin: one unit at a time to whoever's rounded-down share lacks most."""
    exact = [Fraction(qty * w, sum(weights)) for w in weights]
    parts = [math.floor(fair) for fair in exact]
    while sum(parts) < qty:
        lacks = [fair - part for fair, part in zip(exact, parts, strict=True)]
        parts[lacks.index(max(lacks))] += 1
    assert share_out(qty, weights) == parts


DAYS = [
    END - timedelta(days=400 - day) for day in (0, 1, 2, 3, 182, 183, 184, 185, 400)
]  # about half a year apart, too


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Rows of five places on some of `DAYS`, some of them without stock."""
    rows: list[Row] = []
    for place in "ABCDE":
        told = draw(st.booleans()) or place == "A"
        kinds = {True: st.sampled_from([None, True, True, False]), False: st.sampled_from([None, False])}[told]
        for at, (day, kind) in enumerate(zip(DAYS, draw(st.tuples(*[kinds for _ in DAYS])), strict=True)):
            if kind is not None:
                rows.append((place, day, float(at % 4), kind if told else None))
    return rows


# long after A's last day and before its next: only B was part of the pool, and out
GAP: list[Row] = [("A", DAYS[0], 1.0, False), ("A", DAYS[-1], 1.0, False), ("B", DAYS[6], 0.0, True)]


def frame(rows: list[Row]) -> pl.DataFrame:
    schema = {"unique_id": pl.String, "ds": pl.Date, "y": pl.Float64, "is_censored": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def is_out_together(rows: list[Row], places: list[str], day: date) -> bool | None:
    """Whether every place that was part of the pool by then had no stock; None where nobody says."""
    told = [is_out for place, ds, _, is_out in rows if place in places and ds == day]
    if all(is_out is None for is_out in told):
        return None
    for place in places:
        until = [(ds, is_out) for who, ds, _, is_out in rows if who == place and ds <= day]
        if until and day - max(ds for ds, _ in until) <= timedelta(days=CARRIED_DAYS) and (day, True) not in until:
            return False
    return True


@example(rows=GAP)
@given(rows=histories())
def test_the_demand_of_a_pool_is_that_of_its_places_day_by_day(rows: list[Row]) -> None:
    expected: list[Row] = []
    for pool, places in PLACES.items():
        for day in sorted({ds for place, ds, _, _ in rows if place in places}):
            qty = sum(y for place, ds, y, _ in rows if place in places and ds == day)
            expected.append((pool, day, qty, is_out_together(rows, places, day)))
    assert pooled_history(frame(rows), POOLS).rows() == expected


@example(rows=GAP)
@given(rows=histories())
def test_a_stock_out_counts_where_no_neighbour_had_stock(rows: list[Row]) -> None:
    expected = []
    for place, day, y, is_out in rows:
        together = is_out_together(rows, PLACES["P"], day) if place in PLACES["P"] else is_out
        expected.append((place, day, y, together))
    assert with_pooled_stock_outs(frame(rows), POOLS).rows() == expected


@example(rows=GAP, day=DAYS[6])
@given(rows=histories(), day=st.sampled_from(DAYS))
def test_what_comes_later_changes_no_day_before(rows: list[Row], day: date) -> None:
    before = [row for row in rows if row[1] <= day]
    assert_frame_equal(
        pooled_history(frame(rows), POOLS).filter(pl.col("ds") <= day), pooled_history(frame(before), POOLS)
    )


def test_only_series_that_share_a_pool_are_in_one() -> None:
    assert read_pools(POOLS)["unique_id"].to_list() == ["A", "B", "C"]


def test_what_is_known_of_a_pool_is_of_its_first_series_but_for_the_place() -> None:
    items = pl.DataFrame(
        {
            "unique_id": ["C", "A", "B", "D"],
            "category": ["lamps"] * 4,
            "location": ["X", "Y", "Z", "X"],
            "end_date": [END, END - timedelta(days=3), None, END],
            "prior_daily_qty": [1.0, 2.0, None, 9.0],
        }
    )
    assert pooled_items(items, POOLS).to_dicts() == [
        {"unique_id": "P", "category": "lamps", "end_date": None, "prior_daily_qty": 3.0}
    ]
    ended = items.with_columns(pl.col("end_date").fill_null(END - timedelta(days=9)))
    assert pooled_items(ended, POOLS)["end_date"].to_list() == [END]


def test_a_day_set_aside_at_one_place_is_not_known_of_the_pool() -> None:
    apart = pl.concat([daily("A", [10.0] * 60), daily("B", [5.0] * 60)])
    aside = apart.filter((pl.col("unique_id") == "A") & (pl.col("ds") > END - timedelta(days=28)))
    aside = aside.select("unique_id", "ds")
    told = apart.join(aside.with_columns(x=True), on=["unique_id", "ds"], how="left").with_columns(
        y=pl.when("x").then(0.0).otherwise("y"), is_censored=pl.when("x").then(True).otherwise("is_censored")
    )
    history, _ = with_pools(told.drop("x"), None, POOLS, ignored=aside)
    assert history.filter(pl.col("unique_id") == "P")["is_censored"].sum() == 28
    totals = plan_demand(history, as_of=END, horizon_days=16).totals.filter(pl.col("unique_id") == "P")
    assert totals["mean"][15] == pytest.approx(16 * 15, rel=0.02)


def test_few_pools_learn_the_season_from_all_products() -> None:
    season = 1 + 0.8 * np.sin(2 * np.pi * np.arange(728) / 364)
    rng = np.random.default_rng(3)
    rows = [daily(f"S{n}", rng.poisson(6 * season).astype(float).tolist()) for n in range(40)]
    rows += [daily(name, rng.poisson(5 * season).astype(float).tolist()) for name in "ABC"]
    history, _ = with_pools(pl.concat(rows), None, POOLS)
    month = plan_demand(history, as_of=END, horizon_days=28).totals.filter(pl.col("horizon_days") == 28)
    means = dict(month.select("unique_id", "mean").iter_rows())
    assert means["P"] == pytest.approx(means["A"] + means["B"] + means["C"], rel=0.1)


def test_a_pool_is_forecast_as_a_series_of_its_own() -> None:
    values = weekly_pattern(20)
    apart = pl.concat([daily("A", values[:100], end=END), daily("B", [2 * y for y in values]), daily("D", values)])
    settings = PlanSettings(folds=3, paths=20, slow_series=0)
    known, items = with_pools(apart, None, POOLS)
    assert items is None
    found = plan_demand(known, as_of=END, horizon_days=14, settings=settings).totals.filter(pl.col("unique_id") == "P")
    summed = apart.filter(pl.col("unique_id") != "D").group_by("ds").agg(pl.col("y").sum()).sort("ds")
    alone = summed.select(
        pl.lit("P").alias("unique_id"), "ds", "y", pl.lit(None, dtype=pl.Boolean).alias("is_censored")
    )
    assert_frame_equal(found, plan_demand(alone, as_of=END, horizon_days=14, settings=settings).totals)
    assert found["unique_id"].unique().to_list() == ["P"]
