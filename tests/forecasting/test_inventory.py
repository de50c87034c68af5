"""The curve of service and stock against a replay of the same demand, and stock that lies too long."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from forecasting.errors import BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.inventory import RATIOS, service_curve, stock_health
from forecasting.replay import Known, replay
from forecasting.replenishment import suggest
from tests.forecasting.builders import END, daily

LEAD, REVIEW, RATE = 7, 7, 6.0


def poisson_totals(days: int) -> pl.DataFrame:
    rng = np.random.default_rng(9)
    total = rng.poisson(RATE, (20_000, days)).cumsum(axis=1)
    spread = np.quantile(total, QUANTILES, axis=0)
    rows = [
        {"unique_id": "A", "horizon_days": day + 1, "mean": RATE * (day + 1)}
        | dict(zip(QUANTILE_COLUMNS, spread[:, day], strict=True))
        for day in range(days)
    ]
    return pl.DataFrame(rows)


COSTS = {"unit_cost_cents": [500.0], "weekly_holding_cost_cents": [2.8], "shortage_cost_cents": [60.0]}


@pytest.mark.parametrize(("moq", "pack"), [(1, 1), (1, 24), (150, 1), (130, 20)])
def test_the_sliders_promise_holds_in_a_replay(moq: int, pack: int) -> None:
    """Six years of Poisson demand, ordered up to the level of each target by packs and minimum: stock, fill rate and money
    as promised."""
    totals = poisson_totals(LEAD + REVIEW)
    terms = {"unique_id": "A", "lead_time_days": LEAD, "review_period_days": REVIEW, "moq_qty": moq, "pack_qty": pack}
    position = pl.DataFrame(terms | COSTS)
    curve = service_curve(totals, position, as_of=END, ratios=(0.6, 0.8, 0.95))
    days = 312 * 7
    history = daily("A", [0.0, *np.random.default_rng(4).poisson(RATE, days).astype(float)])
    for row in curve.filter(target="cycle_service").iter_rows(named=True):

        def up_to(known: Known, level: int = row["order_up_to_qty"]) -> np.ndarray:
            return known.up_to(np.array([float(level)]))

        lived = replay(
            history,
            position.with_columns(
                pl.lit(row["order_up_to_qty"]).alias("on_hand_qty"),
                (pl.col("weekly_holding_cost_cents") / 7).alias("holding_cost_cents"),
            ),
            {"up_to": up_to},
            start=END - timedelta(days=days - 1),
            days=days,
            is_lost=False,
        )
        got = lived.summary.row(0, named=True)
        promised = 1 - row["yearly_short_qty"] / row["yearly_demand_qty"]
        assert got["fill_rate_ratio"] == pytest.approx(promised, abs=0.015)
        assert got["mean_stock_cents"] == pytest.approx(row["mean_stock_cents"], rel=0.08, abs=600)
        assert got["holding_cents"] * 365 / days == pytest.approx(row["yearly_holding_cents"], rel=0.08, abs=200)
        assert row["yearly_demand_qty"] == pytest.approx(365 * RATE, rel=0.01)


def test_more_service_never_costs_less_stock_and_the_least_cost_is_the_least() -> None:
    position = pl.DataFrame({"unique_id": ["A"], "lead_time_days": [14], "review_period_days": [7], **COSTS})
    curve = service_curve(poisson_totals(21), position, as_of=END)
    grid = curve.filter(target="cycle_service")
    assert grid["cycle_service_ratio"].to_list() == list(RATIOS)
    for name in ("order_up_to_qty", "mean_on_hand_qty", "mean_stock_cents", "yearly_holding_cents"):
        assert grid[name].is_sorted(), name
    assert grid["yearly_short_qty"].is_sorted(descending=True)
    cost = curve.select("target", cost=pl.col("yearly_holding_cents") + pl.col("yearly_shortage_cents"))
    least = cost.filter(target="cost")["cost"].item()
    assert least <= cost.filter(target="cycle_service")["cost"].min() * 1.001
    aimed = curve.filter(target="now").drop("target")
    assert aimed.equals(curve.filter(target="cost").drop("target")), "by cost, unless something else is asked for"
    assert service_curve(poisson_totals(21), position.with_columns(lead_time_days=30), as_of=END).height == 0
    with pytest.raises(BadSetting, match="between 0 and 1"):
        service_curve(poisson_totals(21), position, as_of=END, ratios=(1.0,))


def test_what_orders_aim_at_now_is_the_level_that_is_ordered_up_to() -> None:
    """The curve and the nightly suggestions are one engine: the same level, whatever is aimed at."""
    position = pl.DataFrame({"unique_id": ["A"], "lead_time_days": [14], "review_period_days": [7], **COSTS})
    position = position.with_columns(lead_times_days=pl.Series([[10, 12, 13, 14, 14, 15, 16, 20]]), on_hand_qty=200)
    totals = poisson_totals(28)
    for asked in ({"target": "cost"}, {"target": "cycle_service", "cycle_service_ratio": 0.9},
                  {"target": "fill_rate", "fill_rate_ratio": 0.97}):  # fmt: skip
        now = service_curve(totals, position, as_of=END, **asked).filter(target="now").row(0, named=True)
        suggested = suggest(totals, position, as_of=END, **asked).suggestions.row(0, named=True)
        assert now["order_up_to_qty"] == suggested["order_up_to_qty"], asked


def test_without_a_cost_there_is_stock_and_no_money() -> None:
    position = pl.DataFrame({"unique_id": ["A"], "lead_time_days": [14], "review_period_days": [7]})
    curve = service_curve(poisson_totals(21), position, as_of=END)
    assert set(curve["target"]) == {"cycle_service", "now"}
    assert curve["mean_on_hand_qty"].null_count() == 0
    for name in ("mean_stock_cents", "yearly_holding_cents", "yearly_shortage_cents"):
        assert curve[name].null_count() == curve.height, name


def slow_totals(rate: float, days: int = 35) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    total = rng.poisson(rate, (20_000, days)).cumsum(axis=1)
    spread = np.quantile(total, QUANTILES, axis=0)
    return pl.DataFrame([
        {"unique_id": "A", "horizon_days": day + 1, "mean": rate * (day + 1)}
        | dict(zip(QUANTILE_COLUMNS, spread[:, day], strict=True))
        for day in range(days)
    ])  # fmt: skip


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("moq", [1, 50, 500])
def test_a_lot_of_years_makes_no_level_below_zero_and_none_where_nothing_is_asked_for(rate: float, moq: int) -> None:
    terms = {"unique_id": "A", "lead_time_days": 7, "review_period_days": 28, "moq_qty": moq}
    curve = service_curve(slow_totals(rate), pl.DataFrame(terms | COSTS), as_of=END)
    assert curve["order_up_to_qty"].min() >= 0
    assert curve["yearly_short_qty"].min() > -1e-9
    if rate == 0:
        assert curve["mean_on_hand_qty"].max() == 0, "what nobody asks for is never ordered"


def test_a_minimum_and_maximum_that_were_given_are_what_is_aimed_at_now() -> None:
    terms = {"unique_id": "A", "lead_time_days": 7, "review_period_days": 7, "min_qty": 90, "max_qty": 150}
    curve = service_curve(poisson_totals(14), pl.DataFrame(terms | COSTS), as_of=END)
    assert curve.filter(target="now")["order_up_to_qty"].item() == 90


def test_places_of_a_pool_are_one_row_and_need_less_than_each_for_itself() -> None:
    one = poisson_totals(14)
    rng = np.random.default_rng(2)
    both = rng.poisson(2 * RATE, (20_000, 14)).cumsum(axis=1)
    spread = np.quantile(both, QUANTILES, axis=0)
    summed = pl.DataFrame([
        {"unique_id": "A@*", "horizon_days": day + 1, "mean": 2 * RATE * (day + 1)}
        | dict(zip(QUANTILE_COLUMNS, spread[:, day], strict=True))
        for day in range(14)
    ])  # fmt: skip
    totals = pl.concat([one.with_columns(unique_id=pl.lit(name)) for name in ("A@1", "A@2")] + [summed])
    terms = {"unique_id": ["A@1", "A@2"], "lead_time_days": 7, "review_period_days": 7, "pool_id": "A@*"}
    terms |= {name: values[0] for name, values in COSTS.items()}
    together = service_curve(totals, pl.DataFrame(terms), as_of=END, ratios=(0.95,))
    apart = service_curve(totals, pl.DataFrame(terms).drop("pool_id"), as_of=END, ratios=(0.95,))
    assert set(together["unique_id"]) == {"A@*"}
    assert set(apart["unique_id"]) == {"A@1", "A@2"}
    of_grid = pl.col("target") == "cycle_service"
    less = together.filter(of_grid)["mean_on_hand_qty"].sum() / apart.filter(of_grid)["mean_on_hand_qty"].sum()
    assert 0.6 < less < 0.95


def test_dead_excess_and_fresh_stock_are_told_apart() -> None:
    as_of = date(2026, 6, 30)
    old, fresh = as_of - timedelta(days=300), as_of - timedelta(days=20)
    positions = pl.DataFrame(
        {
            "unique_id": ["dead", "excess", "fresh", "none", "ok"],
            "on_hand_qty": [10, 300, 10, 0, 40],
            "unit_cost_cents": [100.0, 200.0, 100.0, 100.0, 50.0],
            "last_out_date": [old, fresh, None, None, fresh],
            "in_since_date": [old, old, fresh, None, old],
            "yearly_out_qty": [0, 600, 0, 0, 400],
        }
    )
    totals = pl.DataFrame(
        {
            "unique_id": ["excess", "excess", "ok", "fresh"],
            "horizon_days": [7, 56, 56, 56],
            "q95": [30.0, 119.2, 60.0, 12.0],
        }
    )
    found = {row["unique_id"]: row for row in stock_health(positions, totals, as_of=as_of).iter_rows(named=True)}
    assert {name: row["stock_class"] for name, row in found.items()} == {
        "dead": "dead",
        "excess": "excess",
        "fresh": "ok",
        "ok": "ok",
    }
    assert (found["excess"]["excess_qty"], found["excess"]["excess_cents"]) == (180, 36_000)
    assert (found["dead"]["excess_qty"], found["dead"]["age_days"]) == (10, 300)
    assert (found["ok"]["turns_ratio"], found["ok"]["excess_qty"]) == (10.0, 0)
