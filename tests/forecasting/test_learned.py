"""What is learned from all series together: what it may see, what it may not, and that batches don't change it."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecasting.demand import read_history
from forecasting.forecast import DemandPlan, PlanSettings, plan_batches, plan_demand
from forecasting.learned import NOTHING, Learned, learn_together, weekly_panel
from forecasting.models import BOOSTED, LEARNED
from tests.forecasting.builders import END, daily

SMALL = PlanSettings(paths=20, folds=3, slow_series=0)
WEEKS = 75


def season(week: np.ndarray) -> np.ndarray:
    return np.asarray(1 + 0.9 * np.sin(2 * np.pi * week / 52))


def company(series: int = 36, *, weeks: int = WEEKS, seed: int = 5) -> pl.DataFrame:
    """Series of different sizes with one season, one day a week with demand."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(series):
        level = 2.0 * 1.12**i
        sold = rng.poisson(level * season(np.arange(weeks)))
        frames.append(daily(f"S{i:02d}@HEL", [v for week in sold for v in (0.0, 0.0, float(week), 0.0, 0.0, 0.0, 0.0)]))
    return pl.concat(frames)


HISTORY = company()


@cache
def planned() -> DemandPlan:
    return plan_demand(HISTORY, as_of=END, settings=SMALL)


def learned(history: pl.DataFrame, *, end: Any = END) -> Learned:
    known = read_history(history, as_of=end)
    return learn_together(known.rows, as_of=end, about={}, horizon_weeks=4, fold_weeks=4, folds=3, step_weeks=2)


@cache
def usual() -> Learned:
    return learned(HISTORY)


def test_a_season_that_all_share_is_learned_and_becomes_the_default() -> None:
    made = learned(company(weeks=130))
    assert set(made.defaults.values()) <= {"boosted", "boosted_and_theta", "boosted_and_pooled"}
    true = np.array([2.0 * 1.12**i for i in range(36)])[:, None] * season(np.arange(130, 134))[None, :]
    flat = np.array([2.0 * 1.12**i for i in range(36)])[:, None] * season(np.arange(122, 130)).mean()
    assert np.abs(made.ahead[BOOSTED] - true).sum() < 0.6 * np.abs(flat - true).sum()


def test_too_few_series_or_weeks_teach_nothing() -> None:
    assert learned(company(series=29)) is NOTHING
    assert learned(company(weeks=45)) is NOTHING


def test_the_whole_call_uses_it_and_batches_and_resuming_change_nothing() -> None:
    whole = planned()
    assert whole.choices["model"].str.starts_with("boosted").any()
    again = plan_demand(HISTORY.sample(fraction=1.0, shuffle=True, seed=1), as_of=END, settings=SMALL)
    small = PlanSettings(paths=20, folds=3, slow_series=0, batch_series=7)
    pieces = list(plan_batches(HISTORY, as_of=END, settings=small))
    done = set(pieces[0].choices["unique_id"]) | set(pieces[1].choices["unique_id"])
    resumed = list(plan_batches(HISTORY, as_of=END, settings=small, done=done))
    for name in ("forecasts", "totals", "choices", "backtest"):
        assert_frame_equal(getattr(whole, name), getattr(again, name), check_exact=True)
        assert_frame_equal(getattr(whole, name), pl.concat([getattr(p, name) for p in pieces]), check_exact=True)
        rest = pl.concat([getattr(p, name) for p in resumed])
        assert_frame_equal(getattr(whole, name).filter(~pl.col("unique_id").is_in(done)), rest, check_exact=True)


@settings(max_examples=2)
@given(shift=st.floats(0.0, 1e4), weeks=st.integers(1, 6))
def test_rows_after_the_as_of_day_change_no_number_of_any_model(shift: float, weeks: int) -> None:
    later = pl.concat(
        [daily(f"S{i:02d}@HEL", [shift] * (7 * weeks), end=END + timedelta(weeks=weeks)) for i in range(36)]
    )
    after = plan_demand(pl.concat([HISTORY, later]), as_of=END, settings=SMALL)
    for name in ("forecasts", "totals", "choices", "backtest"):
        assert_frame_equal(getattr(planned(), name), getattr(after, name), check_exact=True)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_fold_is_forecast_by_who_has_not_seen_the_weeks_it_is_judged_by(fold: int) -> None:
    cutoff = END - timedelta(weeks=4 + 2 * fold)
    louder = HISTORY.with_columns(y=pl.when(pl.col("ds") > cutoff).then(pl.col("y") * 50 + 3).otherwise(pl.col("y")))
    before, after = usual(), learned(louder)
    for name in LEARNED:
        np.testing.assert_array_equal(before.folds[name][fold:], after.folds[name][fold:])
        assert not np.array_equal(before.ahead[name], after.ahead[name])


def test_one_absurd_series_spoils_no_other() -> None:
    spikes = [0.0] * (7 * WEEKS)
    spikes[200] = spikes[400] = 1e9
    before, after = usual(), learned(pl.concat([HISTORY, daily("ABSURD@HEL", spikes)]))
    rows = [after.at[name] for name in before.at]
    for name in LEARNED:
        difference = np.abs(after.ahead[name][rows] - before.ahead[name]).sum() / before.ahead[name].sum()
        assert difference < 0.15


def slow_week(days: list[tuple[float, bool]]) -> float:
    good = [y for y, out in days if not out]
    if len(good) < 4:
        return float("nan")
    return max(sum(good) * 7 / len(good), sum(y for y, _ in days))


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=21, max_size=21),
    out=st.sets(st.integers(0, 20), min_size=1, max_size=12),
)
def test_weeks_with_stock_outs_count_their_days_in_stock(values: list[float], out: set[int]) -> None:
    rows = read_history(daily("A", values, censored=sorted(out)), as_of=END).rows
    made = weekly_panel(rows, as_of=END, about={}).y[0]
    wanted = [slow_week([(values[i], i in out) for i in range(w, w + 7)]) for w in (0, 7, 14)]
    np.testing.assert_allclose(made, wanted)


def test_weeks_before_a_series_begins_are_not_known_and_weeks_without_rows_are_zero() -> None:
    history = pl.concat([daily("OLD", [1.0] + [None] * 20), daily("NEW", [2.0] * 9), daily("TOO", [1.0] * 21)])
    about = {"OLD": {"category": "x", "product": "1"}, "NEW": {"category": "y", "product": "2"}}
    panel = weekly_panel(read_history(history, as_of=END).rows, as_of=END, about=about)
    assert panel.ids == ("NEW", "OLD", "TOO")
    np.testing.assert_array_equal(panel.y[1], [1.0, 0.0, 0.0])
    assert np.isnan(panel.y[0, 0]) and panel.y[0, 1:].tolist() == [4.0, 14.0]


def test_groups_of_one_series_or_of_all_teach_nothing_and_are_left_out() -> None:
    rows = read_history(pl.concat([daily(name, [1.0] * 21) for name in "ABC"]), as_of=END).rows
    about = {name: {"category": g, "product": name, "location": "HEL"} for name, g in zip("ABC", "xyx", strict=True)}
    panel = weekly_panel(rows, as_of=END, about=about)
    assert {name: codes.tolist() for name, codes in panel.attributes.items()} == {"category": [0, 1, 0]}


def test_a_shop_that_sold_nothing_before_the_oldest_cutoff_still_gets_a_plan() -> None:
    opened = pl.concat([daily(f"S{i:02d}@HEL", [0.0] * 380 + [2.0] * 20) for i in range(40)])
    plan = plan_demand(opened, as_of=END, settings=SMALL)
    assert plan.totals.filter(pl.col("horizon_days") == 28)["mean"].min() > 10
