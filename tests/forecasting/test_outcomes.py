"""How past forecasts of all series bend the paths of one."""

from __future__ import annotations

import numpy as np
import pytest

from forecasting.outcomes import LAUNCH_AGES, LAUNCH_WEEKS, LEAST, SHARES, Outcomes, Totals, learn_outcomes, totals_of
from forecasting.paths import LEVEL_WEEKS, week_paths

RNG = np.random.default_rng
YEAR = 52
GROWN = {"own_weeks": YEAR, "age_weeks": YEAR}


def test_a_forecast_ends_as_those_nearest_in_size_did() -> None:
    forecast = np.concatenate([np.full(1000, 2.0), np.full(1000, 200.0)])
    ratio = np.concatenate([np.tile([0.0, 3.0], 500), np.tile([0.5, 1.5], 500)])
    totals = Totals(forecast, ratio)
    assert totals.of(2.0, np.array([0.25, 0.75])).tolist() == [0.0, 6.0]
    assert totals.of(200.0, np.array([0.25, 0.75])).tolist() == [100.0, 300.0]


def test_too_few_past_forecasts_say_nothing() -> None:
    few = Totals(np.ones(LEAST - 1), np.ones(LEAST - 1))
    assert few.of(1.0, np.array([0.5])).size == 0
    paths = RNG(1).poisson(3.0, (200, 4)).astype(float)
    bent = Outcomes(4, few, share=0.5).bend(paths, np.full(4, 3.0), **GROWN)
    assert (bent == paths).all()


def test_what_is_no_number_is_left_out() -> None:
    totals = totals_of(np.array([1.0, np.nan, np.inf, 4.0, 0.0]), np.array([2.0, 2.0, 2.0, np.nan, 2.0]))
    assert (totals.forecast.tolist(), totals.ratio.tolist()) == ([1.0], [2.0])


@pytest.mark.parametrize(("share", "own_weeks", "part"), [(0.5, YEAR, 0.5), (0.0, YEAR, 0.0), (0.5, 26, 0.75)])
def test_totals_move_by_the_share_and_paths_keep_their_rank_and_shape(
    share: float, own_weeks: int, part: float
) -> None:
    """The slow twin: sort both, average rank by rank."""
    rng = RNG(2)
    past = Totals(np.full(LEAST, 40.0), rng.gamma(2.0, 0.5, LEAST))
    paths = rng.poisson(10.0, (200, 4)).astype(float)
    bent = Outcomes(4, past, share=share).bend(paths, np.full(4, 10.0), own_weeks=own_weeks, age_weeks=YEAR)
    ranks = (np.arange(200) + 0.5) / 200
    target = 40.0 * np.quantile(past.ratio, ranks)
    assert np.sort(bent.sum(axis=1)) == pytest.approx((1 - part) * np.sort(paths.sum(axis=1)) + part * target)
    order = np.argsort(paths.sum(axis=1), kind="stable")
    assert (np.diff(bent.sum(axis=1)[order]) >= -1e-9).all()
    assert bent / bent.sum(axis=1, keepdims=True) == pytest.approx(paths / paths.sum(axis=1, keepdims=True))


def test_a_path_without_demand_gets_its_units_in_the_shape_of_the_forecast() -> None:
    past = Totals(np.full(400, 8.0), np.full(400, 1.5))
    bent = Outcomes(2, past, share=0.5).bend(np.zeros((10, 3)), np.array([2.0, 6.0, 4.0]), **GROWN)
    assert bent[0] == pytest.approx([1.5, 4.5, 3.0])  # the third week lies beyond the totals and moves along


def test_a_launch_varies_as_launches_of_its_age_did_around_its_own_forecast() -> None:
    def ended(spread: float) -> Totals:
        return Totals(np.full(400, 4.0), np.tile([3.0 - spread, 3.0 + spread], 200))

    outcomes = Outcomes(4, ended(0.0), tuple(ended(age / 10) for age in LAUNCH_AGES), share=0.0)
    for age, spread in ((0, 0.1), (1, 0.1), (5, 0.4), (12, 1.2)):
        total = outcomes.bend(np.ones((10, 4)), np.ones(4), own_weeks=0, age_weeks=age).sum(axis=1)
        assert np.sort(total) == pytest.approx(np.repeat([4 - 4 * spread / 3, 4 + 4 * spread / 3], 5))


def test_an_old_product_that_was_long_out_of_stock_is_no_launch() -> None:
    ones, wild = Totals(np.full(400, 4.0), np.ones(400)), Totals(np.full(400, 4.0), np.tile([0.0, 9.0], 200))
    outcomes = Outcomes(4, ones, (wild,) * len(LAUNCH_AGES), share=0.0)
    total = outcomes.bend(np.ones((10, 4)), np.ones(4), own_weeks=LAUNCH_WEEKS - 4, age_weeks=2 * YEAR).sum(axis=1)
    assert total == pytest.approx(4.0)


def _learned(y: np.ndarray, said: float) -> Outcomes:
    cutoffs = np.array([96, 94, 92, 90])
    return learn_outcomes(y, np.arange(len(y)), np.full((4, len(y), 4), said), cutoffs)


def test_the_share_is_that_which_held_in_the_newest_fold() -> None:
    """Where every series goes as its own year did, others say nothing; where all get rare large weeks, they say most."""
    rng = RNG(3)
    own = np.where(np.arange(400)[:, None] % 2 == 0, rng.poisson(4.0, (400, 100)), rng.integers(0, 2, (400, 100)) * 8.0)
    assert _learned(own, 4.0).share <= 0.25
    quiet = rng.poisson(4.0, (400, 100)).astype(float)
    quiet[:, 90:] *= rng.choice([0.2, 1.0, 6.0], 400)[:, None]
    assert _learned(quiet, 4.0).share == SHARES[-1]


def test_launches_are_forecast_by_the_mean_of_their_whole_weeks() -> None:
    """Launches that sell five a week for five weeks, the first of them half a week."""
    y = np.full((320, 60), np.nan)
    for i in range(320):
        y[i, 10 + i % 20 :] = 0.0
        y[i, 10 + i % 20 : 15 + i % 20] = [2.0, 5.0, 5.0, 5.0, 5.0]
    found = learn_outcomes(y, np.arange(2), np.full((1, 2, 4), 5.0), np.array([56])).launched
    week, month = found[0], found[LAUNCH_AGES.index(4)]
    assert (week.forecast == 20).all() and (week.ratio == 0.75).all()
    assert (month.forecast == 20).all() and (month.ratio == 0).all()


def test_what_comes_after_the_history_changes_nothing() -> None:
    y = RNG(4).poisson(3.0, (350, 100)).astype(float)
    later = np.hstack([y, np.full((350, 1), 1e6)])
    assert _learned(y, 3.0).share == _learned(later, 3.0).share
    assert (_learned(y, 3.0).grown.ratio == _learned(later, 3.0).grown.ratio).all()


def test_what_hardly_sells_mostly_sells_nothing() -> None:
    """A product out of season keeps the zeros of its year instead of deviations from a mean."""
    weeks = np.zeros(52)
    weeks[:8] = 60.0
    level = float(weeks.mean())
    paths = week_paths(np.full(4, 0.1), weeks - level, level, paths=400, rng=RNG(5))
    assert paths.mean() == pytest.approx(0.1, rel=0.3)
    assert 0.6 < (paths.sum(axis=1) == 0).mean() < 0.95
    assert paths.shape == (400, 4) and LEVEL_WEEKS == 8


def test_what_sells_less_than_in_its_year_varies_less_than_the_root_says() -> None:
    year = RNG(6).poisson(100.0, 52).astype(float) * RNG(7).choice([0.5, 1.5], 52)
    level = float(year.mean())

    def sd(now: float) -> float:
        return float(week_paths(np.full(4, now), year - level, level, paths=1000, rng=RNG(8)).std())

    assert sd(level / 16) / sd(level) == pytest.approx((1 / 16) ** 0.75, rel=0.15)
    assert sd(4 * level) / sd(level) == pytest.approx(2.0, rel=0.05)


def test_a_slow_seller_keeps_the_noise_of_counting_and_nothing_jumps_at_one_a_week() -> None:
    steady = RNG(9).poisson(20.0, 52).astype(float)
    level = float(steady.mean())
    paths = week_paths(np.full(4, 0.97), steady - level, level, paths=4000, rng=RNG(10)).sum(axis=1)
    assert paths.mean() == pytest.approx(3.88, rel=0.05)
    assert np.quantile(paths, 0.95) == pytest.approx(7.0, abs=1.0)  # Poisson with that mean
    season = np.r_[np.full(8, 60.0), np.zeros(44)]
    usual = float(season.mean())
    below, above = (
        week_paths(np.full(4, now), season - usual, usual, paths=4000, rng=RNG(11)).sum(axis=1).mean()
        for now in (0.999, 1.001)
    )
    assert above == pytest.approx(below, rel=0.1)
