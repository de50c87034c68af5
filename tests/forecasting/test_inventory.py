"""The curve of service and stock against a replay of the same demand, and stock that lies too long."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from forecasting.errors import BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.inventory import service_curve, stock_health
from forecasting.replay import Known, replay
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


def test_the_sliders_promise_holds_in_a_replay() -> None:
    """Three years of Poisson demand, ordered up to the level of each target: stock, fill rate and money as promised."""
    totals = poisson_totals(LEAD + REVIEW)
    costs = {"unit_cost_cents": 500.0, "holding_cost_cents": 0.4, "shortage_cost_cents": 60.0}
    position = pl.DataFrame({"unique_id": "A", "lead_time_days": LEAD, "review_period_days": REVIEW, **costs})
    curve = service_curve(totals, position, ratios=(0.6, 0.8, 0.95))
    days = 156 * 7
    history = daily("A", [0.0, *np.random.default_rng(4).poisson(RATE, days).astype(float)])
    for row in curve.iter_rows(named=True):
        ratio = row["cycle_service_ratio"]
        level = np.ceil(np.quantile(np.random.default_rng(1).poisson(RATE * (LEAD + REVIEW), 100_000), ratio))

        def up_to(known: Known, level: float = level) -> np.ndarray:
            return known.up_to(np.array([level]))

        lived = replay(
            history,
            position.with_columns(on_hand_qty=int(level)),
            {"up_to": up_to},
            start=END - timedelta(days=days - 1),
            days=days,
            is_lost=False,
        )
        got = lived.summary.row(0, named=True)
        assert got["fill_rate_ratio"] == pytest.approx(row["fill_rate_ratio"], abs=0.015)
        assert got["mean_stock_cents"] == pytest.approx(row["mean_stock_cents"], rel=0.12, abs=600)
        assert got["holding_cents"] * 365 / days == pytest.approx(row["yearly_holding_cents"], rel=0.12, abs=200)


def test_more_service_never_costs_less_stock() -> None:
    totals = poisson_totals(21)
    costs = {"unit_cost_cents": [500.0], "holding_cost_cents": [0.4], "shortage_cost_cents": [60.0]}
    position = pl.DataFrame({"unique_id": ["A"], "lead_time_days": [14], "review_period_days": [7], **costs})
    curve = service_curve(totals, position)
    for name in ("mean_on_hand_qty", "mean_stock_cents", "yearly_holding_cents", "fill_rate_ratio"):
        assert curve[name].is_sorted(), name
    assert curve["short_qty"].is_sorted(descending=True)
    assert curve["series"].unique().to_list() == [1]
    assert service_curve(totals, position.with_columns(lead_time_days=30))["series"].sum() == 0
    with pytest.raises(BadSetting, match="between 0 and 1"):
        service_curve(totals, position, ratios=(1.0,))


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
