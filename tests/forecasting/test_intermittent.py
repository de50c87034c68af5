"""The pooled forecast of intermittent demand: what series learn from each other, and what they keep to themselves."""

from __future__ import annotations

import numpy as np
import pytest

from forecasting.intermittent import demand_paths, expected, learn


def parts(*, series: int, periods: int, seed: int, probability: float = 0.15, whole: bool = True) -> np.ndarray:
    """Parts with their own size: lognormal orders now and then."""
    rng = np.random.default_rng(seed)
    level = rng.normal(1.0, 1.0, series)[:, None]
    sizes = np.exp(level + rng.normal(0.0, 0.6, (series, periods)))
    sizes = np.maximum(1.0, np.rint(sizes)) if whole else sizes
    return np.where(rng.random((series, periods)) < probability, sizes, 0.0)


def test_parts_that_learn_from_each_other_are_forecast_better_than_by_their_own_mean() -> None:
    y = parts(series=400, periods=1036, seed=1)
    past, in_the_long_run = y[:, :36], y[:, 36:].mean(axis=1)
    pooled = expected(learn(past, horizon=12), past).mean
    own = past.mean(axis=1)
    assert ((pooled - in_the_long_run) ** 2).sum() < 0.75 * ((own - in_the_long_run) ** 2).sum()


def test_more_own_orders_leave_less_to_the_panel() -> None:
    pool = learn(parts(series=300, periods=48, seed=2), horizon=6)
    few, many = np.zeros((1, 48)), np.zeros((1, 48))
    few[0, ::24], many[0, ::3] = 40.0, 40.0
    far = abs(np.log(expected(pool, few).size[0] / 40.0))
    near = abs(np.log(expected(pool, many).size[0] / 40.0))
    assert near < 0.5 * far


def test_a_part_asked_for_often_is_expected_more_often_and_one_never_asked_for_is_expected_a_little() -> None:
    y = parts(series=300, periods=48, seed=3)
    y[0], y[1] = 0.0, np.where(np.arange(48) % 2, 3.0, 0.0)
    never, often = expected(learn(y, horizon=6), y).probability[:2]
    assert 0.0 < never < 0.10
    assert often > 0.25


def test_one_huge_order_moves_the_mean_a_little_and_the_paths_may_see_another() -> None:
    y = parts(series=300, periods=48, seed=4, probability=0.3)
    huge = y.copy()
    asked = np.flatnonzero(y[0])
    assert asked.size >= 6
    huge[0, asked[3]] = 1000.0
    before, after = (expected(learn(each, horizon=6), each).mean[0] for each in (y, huge))
    assert after < 2.5 * before
    assert huge[0].mean() > 10 * before
    seen = demand_paths(learn(huge, horizon=6), huge[:1], horizon=12, paths=4000, rng=np.random.default_rng(0))
    assert seen.max() > 5 * y[0].max()


def test_quantiles_of_one_period_and_of_a_lead_time_cover_what_they_say() -> None:
    y = parts(series=1500, periods=54, seed=5, whole=False)
    past, came = y[:, :48], y[:, 48:]
    paths = demand_paths(learn(past, horizon=6), past, horizon=6, paths=600, rng=np.random.default_rng(1))
    for ahead, actual in (
        (paths[:, :, 0], came[:, 0]),
        (paths[:, :, 5], came[:, 5]),
        (paths.sum(axis=2), came.sum(axis=1)),
    ):
        for level in (0.9, 0.95, 0.98):
            covered = (actual <= np.quantile(ahead, level, axis=1)).mean()
            assert covered == pytest.approx(level, abs=0.025)


def test_orders_in_ones_are_not_sure_to_go_on_so() -> None:
    """Left-out orders teach it: a part that has had three ones may be asked for two."""
    y = parts(series=400, periods=48, seed=6)
    y[0] = 0.0
    y[0, [3, 20, 40]] = 1.0
    paths = demand_paths(learn(y, horizon=6), y[:1], horizon=12, paths=3000, rng=np.random.default_rng(2))
    sizes = paths[paths > 0]
    assert 0.02 < (sizes > 1).mean() < 0.6


def test_the_half_life_follows_how_fast_the_panel_changes() -> None:
    rng = np.random.default_rng(7)
    steady = parts(series=400, periods=90, seed=8, probability=0.3)
    ended = rng.integers(10, 90, 400)[:, None]
    dying = np.where(np.arange(90)[None, :] < ended, steady, 0.0)
    assert learn(dying, horizon=6).half_life_periods == 13
    assert learn(steady, horizon=6).half_life_periods > 13


def test_unknown_periods_are_not_zeros() -> None:
    y = parts(series=200, periods=40, seed=9)
    unknown = y.copy()
    unknown[:, 10:20] = np.nan
    pool = learn(unknown, horizon=6)
    left_out = expected(pool, unknown[:1])
    as_zero = expected(pool, np.nan_to_num(unknown[:1]))
    assert left_out.probability[0] > as_zero.probability[0]
    assert np.isfinite(demand_paths(pool, unknown, horizon=3, paths=5, rng=np.random.default_rng(3))).all()


def test_the_same_panel_gives_the_same_numbers_and_a_series_alone_needs_only_the_pool() -> None:
    y = parts(series=200, periods=40, seed=10)
    kept = y.copy()
    first, second = learn(y, horizon=6), learn(y.copy(), horizon=6)
    assert np.array_equal(expected(first, y).mean, expected(second, y).mean)
    assert np.array_equal(y, kept)
    assert np.allclose(expected(first, y[7:8]).mean, expected(first, y).mean[7:8], rtol=1e-12)
    drawn = [demand_paths(first, y[7:8], horizon=4, paths=50, rng=np.random.default_rng(4)) for _ in range(2)]
    assert np.array_equal(*drawn)


def test_units_do_not_matter_to_parts_that_are_not_counted_in_whole_ones() -> None:
    y = parts(series=200, periods=40, seed=11, whole=False)
    one, thousand = (expected(learn(scale * y, horizon=6), scale * y).mean for scale in (1.0, 1000.0))
    assert np.allclose(1000.0 * one, thousand, rtol=1e-6)


@pytest.mark.parametrize(
    "y",
    [
        np.zeros((3, 12)),
        np.full((2, 6), np.nan),
        np.zeros((0, 12)),
        np.zeros((2, 0)),
        np.array([[0.0, 4.0, 0.0]]),
        np.ones((3, 20)),
    ],
    ids=["no demand", "nothing known", "no series", "no periods", "one order", "every period one"],
)
def test_a_panel_with_next_to_nothing_in_it_still_answers(y: np.ndarray) -> None:
    pool = learn(y, horizon=3)
    ahead = expected(pool, y)
    paths = demand_paths(pool, y, horizon=3, paths=20, rng=np.random.default_rng(5))
    assert ahead.mean.shape == (len(y),)
    assert np.isfinite(ahead.mean).all()
    assert (ahead.mean >= 0).all()
    assert paths.shape == (len(y), 20, 3)
    assert np.isfinite(paths).all()
    if not np.nansum(y):
        assert ahead.mean.sum() == paths.sum() == 0.0
    if y.size and np.nan_to_num(y).all():
        assert paths.mean() == pytest.approx(1.0, abs=0.15)
