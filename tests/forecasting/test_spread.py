"""How far demand falls from its forecast: variance, quantiles and intervals of whole units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom

from forecasting.spread import Spread, draw, learn_spread


def forecasts(series: int, periods: int, *, ratio: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of many sizes and counts around them with this variance-to-mean ratio."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.uniform(-1.5, 3.0, (series, 1))) * rng.uniform(0.7, 1.4, (series, periods))
    return mean, draw(mean, np.full(mean.shape, ratio), paths=1, rng=rng)[0]


def test_drawn_counts_have_the_mean_and_the_variance_asked_for() -> None:
    mean = np.array([0.4, 3.0, 50.0])
    paths = draw(mean, np.array([1.3, 4.0, 9.0]), paths=40_000, rng=np.random.default_rng(3))
    assert paths.mean(axis=0) == pytest.approx(mean, rel=0.03)
    assert paths.var(axis=0) / mean == pytest.approx(np.array([1.3, 4.0, 9.0]), rel=0.06)
    assert (paths == np.round(paths)).all()


def test_the_ratio_of_the_past_is_found_again() -> None:
    mean, actual = forecasts(200, 60, ratio=2.0, seed=1)
    assert np.median(learn_spread(mean, actual).ratio(mean)) == pytest.approx(2.0, rel=0.12)


def test_a_wild_series_is_told_from_a_calm_one_of_the_same_size() -> None:
    rng = np.random.default_rng(2)
    mean = np.full((20, 50), 6.0)
    ratio = np.where(np.arange(20) < 10, 1.2, 8.0)[:, None] * np.ones((1, 50))
    found = learn_spread(mean, draw(mean, ratio, paths=1, rng=rng)[0]).ratio(mean)[:, 0]
    assert found[:10].max() < 2.5 < 3.5 < found[10:].min()


def test_a_quantile_is_the_least_number_of_units_with_that_chance() -> None:
    mean, actual = forecasts(30, 40, ratio=2.5, seed=4)
    spread = learn_spread(mean, actual)
    ratio = spread.ratio(mean)[:, 0]
    for share in (0.1, 0.5, 0.83):
        for mu, k, found in zip(mean[:, 0], ratio, spread.quantile(mean, share)[:, 0], strict=True):
            chance, units = 0.0, -1
            while chance < share:
                units += 1
                chance += nbinom.pmf(units, mu / (k - 1), 1 / k)
            assert found == units


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_intervals_of_small_counts_hold_the_share_they_promise(share: float) -> None:
    mean, actual = forecasts(250, 50, ratio=2.0, seed=5)
    past, to_come = slice(0, 40), slice(40, 50)
    spread = learn_spread(mean[:, past], actual[:, past])
    low, high = spread.interval(mean[:, to_come], share)
    held = ((low <= actual[:, to_come]) & (actual[:, to_come] <= high)).mean()
    assert held == pytest.approx(share, abs=0.02)
    plain = Spread(spread.means, spread.ratios, spread.own_errors, spread.own_means)  # what calibration is there for
    low, high = plain.interval(mean[:, to_come], share)
    assert ((low <= actual[:, to_come]) & (actual[:, to_come] <= high)).mean() > share + 0.03


def test_peak_weeks_get_the_wider_intervals_they_need() -> None:
    mean, calm = forecasts(600, 60, ratio=1.5, seed=8)
    wild = draw(mean, np.full(mean.shape, 9.0), paths=1, rng=np.random.default_rng(9))[0]
    peak = np.zeros(mean.shape, dtype=np.int64)
    peak[:, ::6] = 1
    actual = np.where(peak == 1, wild, calm)
    spread = learn_spread(mean[:, :48], actual[:, :48], peak[:, :48])
    low, high = spread.interval(mean[:, 48:], 0.8, peak[:, 48:])
    held = (low <= actual[:, 48:]) & (actual[:, 48:] <= high)
    assert held[peak[:, 48:] == 1].mean() == pytest.approx(0.8, abs=0.04)
    assert held[peak[:, 48:] == 0].mean() == pytest.approx(0.8, abs=0.03)
    low, high = spread.interval(mean[:, 48:], 0.8)
    assert ((low <= actual[:, 48:]) & (actual[:, 48:] <= high))[peak[:, 48:] == 1].mean() < 0.75


def test_one_impossible_number_leaves_the_others_as_they_were() -> None:
    mean, actual = forecasts(60, 40, ratio=2.0, seed=6)
    before = learn_spread(mean, actual)
    actual[7, 11] = 1e9
    after = learn_spread(mean, actual)
    others = np.arange(60) != 7
    np.testing.assert_allclose(after.ratio(mean)[others], before.ratio(mean)[others], rtol=0.1)
    assert (after.ratio(mean)[7] < 3 * before.ratio(mean)[7]).all()


def test_what_is_not_known_counts_for_nothing() -> None:
    mean, actual = forecasts(40, 30, ratio=2.0, seed=7)
    hidden = actual.copy()
    hidden[:, 20:] = np.nan
    part, same = learn_spread(mean, hidden), learn_spread(mean[:, :20], actual[:, :20])
    for name in ("means", "ratios", "own_errors", "own_means"):
        np.testing.assert_allclose(getattr(part, name), getattr(same, name))
    np.testing.assert_allclose(np.sort(part.tails[None]), np.sort(same.tails[None]))


def test_without_any_past_demand_is_taken_as_nearly_poisson() -> None:
    nothing = np.full((2, 3), np.nan)
    spread = learn_spread(nothing, nothing)
    assert spread.ratio(np.array([[1.0], [20.0]])).ravel().tolist() == pytest.approx([1.05, 1.05])
    low, high = spread.interval(np.array([[1.0], [20.0]]), 0.8)
    assert (low <= high).all()
