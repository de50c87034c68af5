"""How past forecasts of all series bend the paths of one."""

from __future__ import annotations

import numpy as np
import pytest

from forecasting.outcomes import LAUNCH_AGES, LAUNCH_WEEKS, LEAST, SHARES, Outcomes, Totals, learn_outcomes, totals_of
from forecasting.paths import LEVEL_WEEKS, week_paths

RNG = np.random.default_rng
YEAR = 52


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
    bent = Outcomes(4, few, share=0.5).bend(paths, np.full(4, 3.0), YEAR)
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
    bent = Outcomes(4, past, share=share).bend(paths, np.full(4, 10.0), own_weeks)
    ranks = (np.arange(200) + 0.5) / 200
    target = 40.0 * np.quantile(past.ratio, ranks)
    assert np.sort(bent.sum(axis=1)) == pytest.approx((1 - part) * np.sort(paths.sum(axis=1)) + part * target)
    order = np.argsort(paths.sum(axis=1), kind="stable")
    assert (np.diff(bent.sum(axis=1)[order]) >= -1e-9).all()
    assert bent / bent.sum(axis=1, keepdims=True) == pytest.approx(paths / paths.sum(axis=1, keepdims=True))


def test_a_path_without_demand_gets_its_units_in_the_shape_of_the_forecast() -> None:
    past = Totals(np.full(400, 8.0), np.full(400, 1.5))
    bent = Outcomes(2, past, share=0.5).bend(np.zeros((10, 3)), np.array([2.0, 6.0, 4.0]), YEAR)
    assert bent[0] == pytest.approx([1.5, 4.5, 3.0])  # the third week lies beyond the totals and moves along


def test_a_launch_is_compared_with_launches_of_its_age() -> None:
    def ended(ratio: float) -> Totals:
        return Totals(np.full(400, 4.0), np.full(400, ratio))

    outcomes = Outcomes(4, ended(1.0), tuple(ended(10.0 + age) for age in LAUNCH_AGES), share=0.0)
    for own_weeks, ratio in ((0, 11.0), (1, 11.0), (5, 14.0), (12, 22.0)):
        move = 1 - own_weeks / YEAR
        total = outcomes.bend(np.ones((10, 4)), np.ones(4), own_weeks).sum(axis=1)
        assert total == pytest.approx(4 * (1 - move) + 4 * ratio * move)
    move = 1 - LAUNCH_WEEKS / YEAR
    grown = outcomes.bend(np.full((10, 4), 2.0), np.ones(4), LAUNCH_WEEKS).sum(axis=1)
    assert grown == pytest.approx(8 * (1 - move) + 4 * move)


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


def test_launches_are_forecast_by_their_mean_so_far() -> None:
    y = np.full((320, 60), np.nan)
    for i in range(320):
        y[i, 10 + i % 20 :] = 0.0
        y[i, 10 + i % 20 : 14 + i % 20] = 5.0
    found = learn_outcomes(y, np.arange(2), np.full((1, 2, 4), 5.0), np.array([56])).launched
    week, month = found[0], found[LAUNCH_AGES.index(4)]
    assert (week.forecast == 10).all() and (week.ratio == 1.5).all()  # over two weeks 2.5 each; three more of five came
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
    assert paths.mean() == pytest.approx(0.1, rel=0.15)
    assert 0.4 < (paths.sum(axis=1) == 0).mean() < 0.75
    assert paths.shape == (400, 4) and LEVEL_WEEKS == 8


def test_what_sells_less_than_in_its_year_varies_less_than_the_root_says() -> None:
    year = RNG(6).poisson(100.0, 52).astype(float) * RNG(7).choice([0.5, 1.5], 52)
    level = float(year.mean())

    def sd(now: float) -> float:
        return float(week_paths(np.full(4, now), year - level, level, paths=1000, rng=RNG(8)).std())

    assert sd(level / 16) / sd(level) == pytest.approx((1 / 16) ** 0.75, rel=0.15)
    assert sd(4 * level) / sd(level) == pytest.approx(2.0, rel=0.05)
