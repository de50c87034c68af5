"""Nothing after the cutoff changes a number: for the whole call, and for every fold of the backtest."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecasting.backtest import backtest
from forecasting.demand import complete_calendar, read_history
from forecasting.forecast import PlanSettings, plan_demand
from forecasting.models import MODEL_NAMES
from tests.forecasting.builders import END, daily

quantities = st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 5.0, 40.0])
anything = st.sampled_from([0.0, 7.0, 5000.0, -3.0, float("nan"), float("inf")])


@given(
    past=st.lists(quantities, min_size=100, max_size=200),
    future=st.lists(anything, min_size=1, max_size=40),
    out=st.sets(st.integers(0, 240), max_size=8),
)
def test_adding_rows_after_the_cutoff_changes_no_number(past: list[float], future: list[float], out: set[int]) -> None:
    everything = daily("A", past + future, end=END + timedelta(days=len(future)), censored=sorted(out))
    known = everything.filter(pl.col("ds") <= END)
    settings = PlanSettings(paths=40, slow_series=1)
    before = plan_demand(known, as_of=END, settings=settings)
    after = plan_demand(everything, as_of=END, settings=settings)
    for name in ("forecasts", "totals", "choices", "backtest"):
        assert_frame_equal(getattr(before, name), getattr(after, name))


@given(
    weeks=st.lists(quantities, min_size=40, max_size=70),
    changes=st.lists(quantities, min_size=4, max_size=4),
    fold=st.integers(0, 5),
)
def test_a_fold_does_not_see_the_weeks_it_is_judged_by(weeks: list[float], changes: list[float], fold: int) -> None:
    known = np.array([weeks])
    changed = known.copy()
    cutoff = len(weeks) - 4 - 2 * fold
    changed[0, cutoff : cutoff + 4] = np.array(changes) * 100
    none = np.zeros_like(known, dtype=bool)
    models = [tuple(MODEL_NAMES)]
    before = backtest(known, none, models=models, horizon_weeks=4)
    after = backtest(changed, none, models=models, horizon_weeks=4)
    assert before.cutoffs[fold] == cutoff
    np.testing.assert_array_equal(before.forecasts[fold], after.forecasts[fold])


@given(past=st.lists(quantities, min_size=30, max_size=60), out=st.sets(st.integers(0, 59), min_size=1, max_size=10))
def test_a_stock_out_is_estimated_from_earlier_days_only(past: list[float], out: set[int]) -> None:
    whole = complete_calendar(read_history(daily("A", past, censored=sorted(out)), as_of=END))
    cut = END - timedelta(days=10)
    part = complete_calendar(read_history(daily("A", past, censored=sorted(out)), as_of=cut))
    np.testing.assert_array_equal(whole.demand[:, :-10], part.demand)
