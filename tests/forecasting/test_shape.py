from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from forecasting.demand import demand_shape
from forecasting.models import outlier_cap
from forecasting.shape import STAGES, _moving_line, life_cycle, outliers, outliers_frame, trend_and_season

AS_OF = date(2026, 6, 28)


def stage_of(weeks: np.ndarray) -> str:
    """Stage of a series that sells its weeks evenly over the days."""
    return life_cycle(demand_shape(np.repeat(weeks / 7, 7)), weeks).stage


def noisy(mean: np.ndarray | float, weeks: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, weeks).astype(float)


@pytest.mark.parametrize(
    ("weeks", "stage"),
    [
        (np.concatenate([np.zeros(60), noisy(12, 6)]), "new"),
        (noisy(np.linspace(10, 40, 120), 120), "growing"),
        (noisy(30, 120), "mature"),
        (noisy(np.linspace(40, 10, 120), 120), "declining"),
        (np.concatenate([noisy(30, 60), np.zeros(20)]), "dying"),
        (np.zeros(40), "no_demand"),
        (noisy(np.linspace(5, 30, 20), 20), "growing"),  # younger than a year: first half against second
        (noisy(0.2, 120, seed=4), "mature"),  # four orders after two are no growth
    ],
)
def test_the_stage_of_a_life(weeks: np.ndarray, stage: str) -> None:
    assert stage_of(weeks) == stage
    assert all(STAGES[stage])


def test_a_season_is_no_growth_once_there_was_the_same_a_year_before() -> None:
    wave = 40 + 30 * np.cos(2 * np.pi * np.arange(120) / 52)  # ends on the way up
    assert stage_of(noisy(wave, 120)) == "mature"
    assert life_cycle(demand_shape(np.repeat(wave / 7, 7)), wave).growth_ratio == pytest.approx(1.0, abs=0.01)


def test_one_huge_order_is_no_growth() -> None:
    weeks = noisy(30, 120)
    weeks[-2] = 3000.0
    assert stage_of(weeks) == "mature"
    life = life_cycle(demand_shape(np.repeat(weeks / 7, 7)), weeks)
    assert life.outlier_weeks == 1 and life.growth_ratio < 2


def test_strengths_tell_trend_from_season_from_noise() -> None:
    rng = np.random.default_rng(3)
    t = np.arange(156)
    noise = rng.normal(0, 5, 156)
    trend, season = trend_and_season(100 + noise)
    assert trend < 0.2 and season < 0.3
    trend, season = trend_and_season(100 + t + noise)
    assert trend > 0.9 and season < 0.3
    trend, season = trend_and_season(100 + 30 * np.cos(2 * np.pi * t / 52) + noise)
    assert season > 0.75
    gaps = 100 + 30 * np.cos(2 * np.pi * t / 52) + noise
    gaps[20:30] = np.nan
    assert trend_and_season(gaps)[1] == pytest.approx(season, abs=0.05)


def test_too_little_to_tell_is_said_as_nan() -> None:
    assert np.isnan(trend_and_season(np.ones(25))).all()
    assert np.isnan(trend_and_season(np.arange(100.0))[1])
    assert trend_and_season(np.full(120, 7.0)) == (0.0, 0.0)
    assert np.isnan(life_cycle(demand_shape(np.ones(14)), np.array([7.0, 7.0])).growth_ratio)
    assert np.isnan(trend_and_season(np.full(150, np.nan))).all()


def test_weeks_that_stick_out_are_listed_and_left_as_they_were() -> None:
    weeks = noisy(30, 80)
    weeks[[20, 50]] = 900.0, 1.0
    weeks[60] = np.nan
    before = weeks.copy()
    flagged = outliers(weeks)
    assert np.flatnonzero(flagged).tolist() == [20, 50]
    np.testing.assert_array_equal(weeks, before)
    listed = outliers_frame(["A", "B"], np.vstack([weeks, noisy(2, 80)]), as_of=AS_OF)
    assert listed.select("unique_id", "ds", "y", "kind").rows() == [
        ("A", AS_OF - timedelta(days=7 * 59), 900.0, "high"),
        ("A", AS_OF - timedelta(days=7 * 29), 1.0, "low"),
    ]
    assert listed["limit_qty"][0] == pytest.approx(outlier_cap(np.nan_to_num(weeks)), abs=0.01)
    assert 1.0 <= listed["limit_qty"][1] < 4.0


def test_a_product_that_rarely_sells_or_just_ended_has_no_low_weeks() -> None:
    assert not outliers(np.array([0.0, 0.0, 40.0, 0.0] * 20)).any()
    assert not outliers(np.concatenate([noisy(30, 40), np.zeros(30)])).any()
    assert outliers(np.zeros(0)).size == 0 and not outliers(np.full(20, np.nan)).any()
    assert outliers_frame([], np.zeros((0, 5)), as_of=AS_OF).is_empty()


def test_the_fast_moving_line_is_the_fitted_one() -> None:
    weeks = noisy(30, 60)
    weeks[[3, 30, 31]] = np.nan
    fast = _moving_line(weeks, 6)
    for at in range(60):
        near = np.arange(max(0, at - 6), min(60, at + 7))
        near = near[~np.isnan(weeks[near])]
        level = np.polyfit(near - at, weeks[near], 1)[1]
        assert fast[at] == pytest.approx(level, abs=1e-6)
