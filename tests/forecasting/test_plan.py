from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.errors import BadFrame, BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, PlanSettings, plan_batches, plan_demand
from forecasting.reasons import REASONS, sentence, sentences
from forecasting.replenishment import suggest
from tests.forecasting.builders import END, daily, weekly_pattern

HISTORY = pl.concat(
    [
        daily("BUSY@HEL", weekly_pattern(60, level=9)),
        daily("CONST@HEL", [5.0] * 150),
        daily("RARE@HEL", ([0.0] * 20 + [4.0]) * 20),
        daily("YOUNG@HEL", weekly_pattern(6)),
        daily("BABY@HEL", [3.0] * 5),
        daily("ZERO@HEL", [0.0] * 90),
        daily("GONE@HEL", [4.0] * 30 + [0.0] * 400),
    ]
)
FRAMES = ("forecasts", "totals", "choices", "exceptions", "backtest")


def test_the_same_input_gives_the_same_bytes_in_whatever_order_the_rows_come() -> None:
    first = plan_demand(HISTORY, as_of=END)
    again = plan_demand(HISTORY.sample(fraction=1.0, shuffle=True, seed=3), as_of=END)
    for name in FRAMES:
        assert_frame_equal(getattr(first, name), getattr(again, name), check_exact=True)


def test_a_series_numbers_do_not_depend_on_its_company_or_the_batch() -> None:
    whole = plan_demand(HISTORY, as_of=END)
    alone = plan_demand(HISTORY.filter(pl.col("unique_id") == "BUSY@HEL"), as_of=END)
    assert_frame_equal(whole.totals.filter(pl.col("unique_id") == "BUSY@HEL"), alone.totals, check_exact=True)
    half = daily("HALF@HEL", [9.0] * 3 + weekly_pattern(20))  # its first week is three days
    beside = plan_demand(pl.concat([HISTORY, half]), as_of=END).totals.filter(pl.col("unique_id") == "HALF@HEL")
    assert_frame_equal(beside, plan_demand(half, as_of=END).totals, check_exact=True)
    assert beside.height
    pieces = list(plan_batches(HISTORY, as_of=END, settings=PlanSettings(batch_series=2)))
    assert len(pieces) == 4
    for name in FRAMES:
        assert_frame_equal(pl.concat([getattr(p, name) for p in pieces]), getattr(whole, name), check_exact=True)


def test_pandas_in_pandas_out_with_the_same_numbers() -> None:
    plan = plan_demand(HISTORY.to_pandas(), as_of=END)
    wanted = plan_demand(HISTORY, as_of=END)
    for name in FRAMES:
        assert isinstance(getattr(plan, name), pd.DataFrame)
    assert plan.totals["q95"].tolist() == wanted.totals["q95"].to_list()


def test_every_series_has_a_row_per_day_ordered_quantiles_and_totals_that_are_running_sums() -> None:
    plan = plan_demand(HISTORY, as_of=END, horizon_days=23)
    assert plan.forecasts.height == plan.totals.height == 7 * 23
    for frame in (plan.forecasts, plan.totals):
        values = frame.select(QUANTILE_COLUMNS).to_numpy()
        assert (values >= 0).all()
        assert (np.diff(values, axis=1) >= 0).all()
        assert frame["mean"].min() >= 0
    running = plan.forecasts.with_columns(pl.col("mean").cum_sum().over("unique_id"))
    assert plan.totals["mean"].to_numpy() == pytest.approx(running["mean"].to_numpy(), abs=1e-4)
    assert plan.totals.filter(pl.col("horizon_days") == 23)["ds"].unique().to_list() == [END + timedelta(days=23)]


def test_what_a_plan_says_in_pandas_is_taken_in_pandas() -> None:
    plan = plan_demand(HISTORY.to_pandas(), as_of=END, horizon_days=28)
    stock = plan.choices[["unique_id"]].assign(on_hand_qty=20, lead_time_days=10, pack_qty=6)
    found = suggest(plan.totals, stock, as_of=plan.as_of, choices=plan.choices).suggestions
    wanted = suggest(
        pl.from_pandas(plan.totals), pl.from_pandas(stock), as_of=END, choices=pl.from_pandas(plan.choices)
    )
    assert found["suggested_qty"].tolist() == wanted.suggestions["suggested_qty"].to_list()
    assert [list(codes) for codes in found["reason_codes"]] == wanted.suggestions["reason_codes"].to_list()


def test_whole_numbers_as_names_stay_whole_where_pandas_has_a_gap_in_them() -> None:
    days = pd.date_range(END - timedelta(days=179), END)
    named = pd.DataFrame({"unique_id": [1007] * 179 + [None], "ds": days, "y": 2.0})
    assert named["unique_id"].dtype == float
    plan = plan_demand(named, as_of=END)
    assert plan.choices["unique_id"].tolist() == ["1007"]
    assert plan.exceptions["code"].tolist() == ["missing_id"]


def test_the_weekday_pattern_is_kept() -> None:
    plan = plan_demand(HISTORY, as_of=END, horizon_days=14)
    busy = plan.forecasts.filter(pl.col("unique_id") == "BUSY@HEL").with_columns(weekday=pl.col("ds").dt.weekday())
    by_day = dict(busy.group_by("weekday").agg(pl.col("mean").mean()).iter_rows())
    assert max(by_day, key=lambda d: by_day[d]) == 1  # Monday
    assert by_day[7] == 0.0  # never on Sundays
    assert by_day[1] == pytest.approx(3.0 / 7 * sum(by_day.values()), rel=0.01)


def test_nothing_is_forecast_on_closed_days() -> None:
    closed = [END + timedelta(days=d) for d in (3, 4)]
    plan = plan_demand(HISTORY, as_of=END, closed_dates=closed)
    assert plan.forecasts.filter(pl.col("ds").is_in(closed)).select("mean", *QUANTILE_COLUMNS).to_numpy().sum() == 0


def test_young_series_get_simple_rules_and_say_so() -> None:
    plan = plan_demand(HISTORY, as_of=END)
    rows = {row["unique_id"]: row for row in plan.choices.iter_rows(named=True)}
    assert rows["BABY@HEL"]["model"] == "mean_so_far"
    assert rows["YOUNG@HEL"]["model"] == "theta_and_mean"
    for name in ("BABY@HEL", "YOUNG@HEL"):
        assert rows[name]["grade"] == "D"
        assert "short_history" in rows[name]["reason_codes"]
    assert rows["GONE@HEL"]["model"] == "no_demand"
    assert "no_demand_lately" in rows["GONE@HEL"]["reason_codes"]
    assert rows["BUSY@HEL"]["grade"] in {"A", "B"}


def test_the_interval_covers_what_really_comes_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    end = END + timedelta(days=28)
    truth = {f"S{i:03d}": rng.poisson(rng.uniform(0.5, 6), size=400 + 28).astype(float) for i in range(120)}
    known = pl.concat([daily(name, list(values[:400])) for name, values in truth.items()])
    totals = plan_demand(known, as_of=END).totals.filter(pl.col("ds") == end).sort("unique_id")
    came = np.array([truth[name][400:].sum() for name in totals["unique_id"]])
    assert 0.85 <= (came <= totals["q95"].to_numpy()).mean() <= 1.0
    assert 0.35 <= (came <= totals["q50"].to_numpy()).mean() <= 0.65
    assert (came < totals["q05"].to_numpy()).mean() <= 0.15


def test_reasons_are_full_sentences_in_both_languages() -> None:
    plan = plan_demand(HISTORY, as_of=END)
    for row in plan.choices.iter_rows(named=True):
        assert row["reason_codes"]
        for language in ("zh", "en"):
            for text in sentences(row["reason_codes"], row["facts"], language):
                assert "{" not in text, text
    busy = plan.choices.row(by_predicate=pl.col("unique_id") == "BUSY@HEL", named=True)
    assert "mean of Theta and the last 8 weeks" in sentences(busy["reason_codes"], busy["facts"], "en")[0]


@pytest.mark.parametrize("code", sorted(REASONS))
def test_both_languages_of_a_reason_name_the_same_facts(code: str) -> None:
    import string

    named = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in REASONS[code]]
    assert named[0] == named[1]
    assert sentence(code, {}, "zh")  # a missing fact never breaks a screen


def test_slow_models_go_to_the_series_worth_most_or_those_named() -> None:
    two = pl.concat([daily("CHEAP", weekly_pattern(40)), daily("DEAR", weekly_pattern(40, level=3))])
    items = pl.DataFrame({"unique_id": ["CHEAP", "DEAR"], "unit_cost_cents": [100, 90_000]})
    settings = PlanSettings(slow_series=1)

    def with_ces(items: pl.DataFrame | None) -> list[str]:
        choices = plan_demand(two, as_of=END, items=items, settings=settings).choices
        return choices.filter(pl.col("alternatives").str.contains('"ces"'))["unique_id"].to_list()

    assert with_ces(None) == ["CHEAP"]
    assert with_ces(items) == ["DEAR"]
    assert with_ces(items.with_columns(use_slow_models=pl.lit(True))) == ["CHEAP", "DEAR"]


def test_wrong_calls_are_refused_by_name() -> None:
    with pytest.raises(BadFrame, match="needs column"):
        plan_demand(HISTORY.drop("y"), as_of=END)
    with pytest.raises(BadSetting, match="horizon_days must be 1 to 400, got 0"):
        plan_demand(HISTORY, as_of=END, horizon_days=0)
    with pytest.raises(BadFrame, match="one row per unique_id"):
        plan_demand(HISTORY, as_of=END, items=pl.DataFrame({"unique_id": ["A", "A"]}))
    with pytest.raises(BadSetting, match="paths must be at least 20"):
        PlanSettings(paths=1)


def test_the_input_comes_back_unchanged() -> None:
    before = HISTORY.clone()
    plan_demand(HISTORY, as_of=END)
    assert_frame_equal(HISTORY, before)


def test_importing_the_package_loads_no_heavy_library() -> None:
    script = "import sys, forecasting; print([m for m in ('polars', 'statsforecast', 'numpy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_date_as_of_is_the_end_of_that_day() -> None:
    plan = plan_demand(HISTORY, as_of=date(2026, 6, 30))
    assert plan.forecasts["ds"].min() == date(2026, 7, 1)
