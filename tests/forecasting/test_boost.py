"""One boosted model for all series: what it learns, that it is the same each time, and that one bad number stays alone."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from forecasting.boost import BoostSettings, learn
from forecasting.errors import BadSetting
from forecasting.features import Features
from forecasting.panel import Panel, plausible

SETTINGS = BoostSettings(trees=40, least_rows=40)
RNG = np.random.default_rng(11)
LEVEL = np.exp(RNG.uniform(0, 3.5, 40))
PROMOTED = (RNG.random((40, 93)) < 0.12).astype(float)
DEMAND = RNG.poisson(LEVEL[:, None] * (1 + 2 * PROMOTED[:, :90])).astype(float)


def panel(y: np.ndarray) -> Panel:
    ids = tuple(f"S{i}" for i in range(40))
    return Panel(ids, date(2024, 1, 1), y, {"product": np.arange(40) // 2}, {"promotion": PROMOTED})


def forecast(y: np.ndarray) -> np.ndarray:
    features = Features(panel(y))
    return learn(features, until=90, horizon=3, settings=SETTINGS).forecast(features, cutoff=90, horizon=3)


def test_a_promotion_known_ahead_is_forecast_for_series_of_every_size() -> None:
    made = forecast(DEMAND) / LEVEL[:, None]
    promoted = PROMOTED[:, 90:93] > 0
    assert promoted.sum() >= 8
    assert np.median(made[promoted]) == pytest.approx(3.0, rel=0.25)
    assert np.median(made[~promoted]) == pytest.approx(1.0, rel=0.2)


def test_the_same_bytes_twice_with_one_thread_and_with_two() -> None:
    with threadpool_limits(1):
        one = forecast(DEMAND)
    with threadpool_limits(2):
        two = forecast(DEMAND)
    assert one.tobytes() == two.tobytes() == forecast(DEMAND).tobytes()


def test_impossible_numbers_in_one_series_leave_the_others_alone() -> None:
    usual = forecast(DEMAND)
    broken = DEMAND.copy()
    broken[7, [30, 60, 88]] = 1e9
    made = forecast(plausible(broken))
    strangers = np.array([i for i in range(40) if i not in (6, 7)])  # 6 is the same product
    error = np.abs(made - usual)[strangers].sum() / usual[strangers].sum()
    assert error < 0.15
    assert np.isfinite(made).all()
    assert made[7].max() < 1e5


def test_steps_beyond_those_taught_are_told_as_the_last_one() -> None:
    features = Features(panel(DEMAND))
    model = learn(features, until=90, horizon=1, settings=SETTINGS)
    assert model.forecast(features, cutoff=88, horizon=4).shape == (40, 4)
    assert model.horizon == 1


def test_without_periods_there_is_nothing_to_learn() -> None:
    with pytest.raises(BadSetting, match="at least 3"):
        learn(Features(panel(DEMAND)), until=2, horizon=1, settings=SETTINGS)
