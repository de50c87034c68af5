from __future__ import annotations

import numpy as np
import pytest
from statsforecast.models import Theta

from forecasting.backtest import backtest, fold_cutoffs
from forecasting.choose import choose
from forecasting.demand import demand_shape, weekly
from forecasting.models import (
    COMBINATIONS,
    MODELS,
    Model,
    candidates,
    default_model,
    forecast_weeks,
    learning_start,
    outlier_cap,
    theta,
)


@pytest.mark.parametrize("seed", range(5))
def test_our_fast_theta_comes_close_to_statsforecasts_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weeks = np.maximum(0, 40 + 0.3 * np.arange(80) + rng.normal(0, 6, 80))
    slow = Theta(season_length=1).forecast(y=weeks, h=6)["mean"]
    assert theta(weeks, 6) == pytest.approx(slow, rel=0.04)


def test_weeks_end_on_the_as_of_day_and_odd_days_at_the_start_are_left_out() -> None:
    assert weekly(np.arange(16.0)).tolist() == [sum(range(2, 9)), sum(range(9, 16))]


def test_learning_starts_with_the_first_demand_or_after_a_gap_that_ended_a_former_life() -> None:
    busy, gap = [3.0] * 10, [0.0] * 30
    assert learning_start(np.array([0.0, 0.0, *busy])) == 2
    assert learning_start(np.array([*busy, *gap, *busy])) == 40
    assert learning_start(np.array([*busy, *gap[:20], *busy])) == 0
    rare = [1.0, *[0.0] * 28] * 4  # 28 weeks between sales are usual here
    assert learning_start(np.array(rare)) == 0
    assert learning_start(np.zeros(5)) == 5


def test_last_year_still_sees_the_weeks_before_a_long_gap() -> None:
    christmas = np.array([0.0] * 8 + [30.0] * 8 + [0.0] * 40 + [30.0] * 3)
    made, _ = forecast_weeks(christmas, 4, ("last_year", "mean_4_weeks"))
    assert made["last_year"].tolist() == [0.0, 30.0, 30.0, 30.0]  # weeks 8 to 11 of the first year
    assert made["mean_4_weeks"].tolist() == [30.0] * 4


def test_one_huge_week_is_capped_for_learning() -> None:
    weeks = np.array([10.0, 11.0, 9.0, 10.0, 900.0, 10.0, 12.0, 8.0])
    assert outlier_cap(weeks) == pytest.approx(6 * 11.25)
    made, _ = forecast_weeks(weeks, 1, ("mean_8_weeks",))
    assert made["mean_8_weeks"][0] == pytest.approx((70 + 67.5) / 8)


def test_combinations_are_the_mean_of_their_parts() -> None:
    weeks = np.array([4.0, 0.0, 6.0, 2.0, 5.0, 0.0, 7.0, 3.0, 4.0])
    given = {"boosted": np.array([4.0, 5.0, 6.0]), "pooled": np.array([2.0, 2.0, 2.0])}
    for name, parts in COMBINATIONS.items():
        made, _ = forecast_weeks(weeks, 3, (name, *parts), given=given)
        assert sum(parts.values()) == 1
        assert made[name] == pytest.approx(sum(weight * made[part] for part, weight in parts.items()))


def test_what_is_given_is_not_fitted_and_what_is_not_given_is_not_there() -> None:
    weeks = np.array([3.0] * 10)
    made, failed = forecast_weeks(weeks, 2, ("boosted", "boosted_and_theta", "mean_4_weeks"))
    assert list(made) == ["mean_4_weeks"]
    assert not failed


def test_a_model_that_fails_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(weeks: np.ndarray, horizon: int) -> np.ndarray:
        raise ZeroDivisionError("no variance")

    def run_away(weeks: np.ndarray, horizon: int) -> np.ndarray:
        return np.full(horizon, 1e9)

    monkeypatch.setitem(MODELS, "theta", Model("theta", explode))
    monkeypatch.setitem(MODELS, "tsb", Model("tsb", run_away))
    made, failed = forecast_weeks(np.array([3.0] * 10), 2, ("mean_4_weeks", "theta", "tsb", "theta_and_mean"))
    assert set(made) == {"mean_4_weeks"}
    assert failed["theta"] == "theta: ZeroDivisionError: no variance"
    assert "more than ten times" in failed["tsb"]


@pytest.mark.parametrize(
    ("days", "demand_class"),
    [
        ([2.0] * 140, "smooth"),
        ([2.0, *[0.0] * 6, 100.0, *[0.0] * 6] * 10, "erratic"),
        ([4.0, *[0.0] * 13] * 10, "intermittent"),
        ([1.0, *[0.0] * 20, 40.0, *[0.0] * 20] * 5, "lumpy"),
        ([0.0] * 50, "no_demand"),
    ],
)
def test_demand_classes_by_interval_and_variation(days: list[float], demand_class: str) -> None:
    assert demand_shape(np.array(days)).demand_class == demand_class


def test_dying_is_a_silence_far_longer_than_usual_and_new_a_recent_start() -> None:
    assert demand_shape(np.array([2.0] * 200 + [0.0] * 100)).is_dying
    assert not demand_shape(np.array(([2.0] + [0.0] * 59) * 6)).is_dying
    assert demand_shape(np.array([0.0] * 100 + [1.0] * 50)).is_new
    assert not demand_shape(np.array([1.0] * 100)).is_new


def test_folds_are_two_weeks_apart_and_leave_the_horizon_to_compare_with() -> None:
    assert fold_cutoffs(40, horizon_weeks=4, folds=6, step_weeks=2) == (36, 34, 32, 30, 28, 26)
    assert fold_cutoffs(14, horizon_weeks=4, folds=6, step_weeks=2) == (10, 8)
    assert fold_cutoffs(3, horizon_weeks=4, folds=6, step_weeks=2) == ()


def test_the_default_stays_unless_another_model_is_clearly_better() -> None:
    names = candidates("smooth", 1.0, use_slow=False)
    steady = np.array([[20.0 + (w * 7) % 5 for w in range(60)]])
    seasonal = np.array([[(25.0 if w % 52 < 12 else 5.0) + (w * 5) % 3 for w in range(112)]])
    for weeks, model in ((steady, default_model("smooth")), (seasonal, "last_year")):
        tested = backtest(weeks, np.zeros_like(weeks, dtype=bool), models=[names], horizon_weeks=4)
        picked = choose(tested, series=0, names=names, default=default_model("smooth"), weeks=weeks[0])
        assert picked.model == model
        assert picked.alternatives[model] == pytest.approx(picked.error, abs=1e-3)


def test_weeks_out_of_stock_are_no_yardstick() -> None:
    names = candidates("smooth", 1.0, use_slow=False)
    weeks = np.full((1, 40), 10.0)
    short = weeks.copy()
    short[0, 33] = 0.0
    masked = np.zeros_like(weeks, dtype=bool)
    masked[0, 33] = True
    tested = backtest(short, masked, models=[names], horizon_weeks=4, folds=4)
    blind = backtest(short, np.zeros_like(masked), models=[names], horizon_weeks=4, folds=4)
    error = [
        choose(t, series=0, names=names, default=default_model("smooth"), weeks=short[0]).alternatives["mean_8_weeks"]
        for t in (tested, blind)
    ]
    assert error[0] < error[1]
