"""Festivals in the one call: what two years taught of 春节 is forecast in the third, said, and learned from the past only."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.demand import read_history
from forecasting.errors import BadSetting
from forecasting.explain import EVENT_PART, PARTS
from forecasting.forecast import DemandPlan, PlanSettings, plan_batches, plan_demand
from forecasting.learned import Learned, learn_together
from forecasting.reasons import sentences
from tests.forecasting.builders import daily

LAST = date(2027, 1, 17)  # 春节 begins on 6 February 2027
WEEKS, AHEAD, SERIES = 114, 5, 30
FESTIVALS = [date(2025, 1, 29), date(2026, 2, 17), date(2027, 2, 6)]
SETTINGS = PlanSettings(paths=20, folds=2, slow_series=0, country="CN")


def festive(end: date) -> float:
    """What the week ending on `end` sells beside an ordinary one: three times as much in the three weeks before."""
    return 3.0 if any(3 <= (first - end).days <= 20 for first in FESTIVALS) else 1.0


def shop(weeks: int = WEEKS, *, series: int = SERIES, is_festive: bool = True) -> tuple[pl.DataFrame, np.ndarray]:
    """Demand of all weeks through `LAST`, and series × week of what comes after it, without chance."""
    rng = np.random.default_rng(3)
    ends = [LAST + timedelta(weeks=w + 1 - weeks) for w in range(weeks + AHEAD)]
    lift = np.array([festive(end) if is_festive else 1.0 for end in ends])
    level = 20 * 1.05 ** np.arange(series)
    frames = []
    for i in range(series):
        sold = rng.poisson(level[i] * lift[:weeks])
        days = [v for week in sold for v in (0.0, 0.0, float(week), 0.0, 0.0, 0.0, 0.0)]
        frames.append(daily(f"S{i:02d}@SZ", days, end=LAST))
    return pl.concat(frames), level[:, None] * lift[None, weeks:]


HISTORY, COMING = shop()


@cache
def planned(country: str | None = "CN") -> DemandPlan:
    settings = PlanSettings(paths=20, folds=2, slow_series=0, country=country)
    return plan_demand(HISTORY, as_of=LAST, horizon_days=7 * AHEAD, settings=settings)


def weeks_of(plan: DemandPlan) -> np.ndarray:
    week = (pl.col("horizon_days") - 1) // 7
    by_week = (
        plan.forecasts.group_by("unique_id", week.alias("week")).agg(pl.col("mean").sum()).sort("unique_id", "week")
    )
    return by_week["mean"].to_numpy().reshape(-1, AHEAD)


def test_what_came_back_each_year_is_forecast_before_it_comes_again() -> None:
    blind, ours = (np.abs(weeks_of(planned(country)) - COMING).sum() / COMING.sum() for country in (None, "CN"))
    assert ours < 0.6 * blind


def test_the_part_of_events_is_given_and_the_parts_still_sum_to_the_forecast() -> None:
    totals = planned().totals.filter(pl.col("horizon_days") == 7 * AHEAD).sort("unique_id")["mean"].to_list()
    for text, total in zip(planned().choices["facts"].to_list(), totals, strict=True):
        told = json.loads(text)
        assert told[EVENT_PART] > 0.1 * total
        assert sum(told[name] for name in (*PARTS, EVENT_PART)) == pytest.approx(told["explained_qty"], abs=1e-6)
        assert told["explained_qty"] == pytest.approx(total, abs=0.006)
    assert not any(EVENT_PART in text for text in planned(None).choices["facts"].to_list())


@pytest.mark.parametrize(("language", "name"), [("zh", "春节"), ("en", "Spring Festival")])
def test_a_planner_reads_which_festival_moves_which_week(language: str, name: str) -> None:
    row = planned().choices.row(0, named=True)
    facts = json.loads(row["facts"])
    said = sentences(row["reason_codes"], row["facts"], "zh" if language == "zh" else "en")
    assert date(2027, 1, 18) <= date.fromisoformat(facts["event_from"]) <= date(2027, 2, 6)
    assert any(name in text and facts["event_from"] in text and f"{facts['event_factor']:.2f}" in text for text in said)
    assert any(f"{facts[EVENT_PART]:+.1f}" in text for text in said)


def test_pieces_have_the_events_of_the_whole() -> None:
    small = PlanSettings(paths=20, folds=2, slow_series=0, country="CN", batch_series=11)
    pieces = list(plan_batches(HISTORY, as_of=LAST, horizon_days=7 * AHEAD, settings=small))
    for name in ("forecasts", "totals", "choices", "backtest"):
        whole = getattr(planned(), name)
        assert_frame_equal(whole, pl.concat([getattr(p, name) for p in pieces]), check_exact=True)


def test_less_than_a_year_teaches_no_event_and_an_unknown_country_is_refused() -> None:
    assert learned(HISTORY.filter(pl.col("ds") > LAST - timedelta(weeks=58))).events is None  # 51 before the older fold
    assert learned(HISTORY.filter(pl.col("ds") > LAST - timedelta(weeks=59))).events is not None
    with pytest.raises(BadSetting, match="XX"):
        PlanSettings(country="XX")


def learned(history: pl.DataFrame) -> Learned:
    rows = read_history(history, as_of=LAST).rows
    return learn_together(
        rows, as_of=LAST, about={}, horizon_weeks=AHEAD, fold_weeks=AHEAD, folds=2, step_weeks=2, country="CN"
    )


def test_where_festivals_do_nothing_the_forecast_is_the_one_without_them() -> None:
    assert learned(shop(is_festive=False)[0]).events is None


def test_no_fold_sees_the_events_of_the_weeks_it_is_judged_by() -> None:
    oldest = LAST - timedelta(weeks=AHEAD + 2)
    wild = pl.when(pl.col("ds") > oldest).then(pl.col("y") * 9 + 5).otherwise(pl.col("y"))
    before, after = learned(HISTORY), learned(HISTORY.with_columns(y=wild))
    assert before.events_then is not None and after.events_then is not None
    np.testing.assert_array_equal(before.events_then, after.events_then)
    assert before.events is not None and after.events is not None
    assert not np.array_equal(before.events.factors, after.events.factors)
    for name, folds in before.folds.items():
        np.testing.assert_array_equal(folds[-1], after.folds[name][-1])


def test_rows_after_the_as_of_day_change_nothing_though_the_calendar_reaches_past_it() -> None:
    later = pl.concat([daily(f"S{i:02d}@SZ", [900.0] * 35, end=LAST + timedelta(weeks=5)) for i in range(SERIES)])
    after = plan_demand(pl.concat([HISTORY, later]), as_of=LAST, horizon_days=7 * AHEAD, settings=SETTINGS)
    for name in ("forecasts", "totals", "choices", "backtest"):
        assert_frame_equal(getattr(planned(), name), getattr(after, name), check_exact=True)
