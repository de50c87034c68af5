"""Demand that comes now and then: what all series together teach about each one of them.

A part that was asked for seven times in six years says little by itself: seven intervals and seven sizes. The five
thousand others say what such parts are like. `learn` reads a panel of series once; `expected` and `demand_paths` then
answer for any series from its own history and those few numbers, so batches only predict.

How often. A period has demand with probability p = (n + kappa P) / (N + kappa): n of the N periods known had demand; P
is the panel's share at the series' level; kappa, how many periods of its own the panel's word is worth, comes from the
likelihood of the panel's counts (beta-binomial; Johnson, Kemp & Kotz 2005, 6.9.2). It is never worth more than
`OWN_ORDERS` orders, nor more than the series' own periods.

How much. The level of a series is its mean log size, shrunk to the panel's (normal prior with the panel's mean and
variance; Efron & Morris 1975). What the next order of a series of that level looks like is learned by leaving each order
out in turn: its size against the level that the series' other orders give. Level by level, because parts that go out
in ones scatter otherwise than those that go out in forties; leaving out, because a part that has only ever gone out in
ones is not sure to go on so. The expected size is a geometric mean of the mean such size, which weighs as much as
`OWN_ORDERS` orders, and the series' own mean. In both, a size above `SIZE_CAP` times the upper quartile counts as that
much: one huge order is news, not a habit. So the mean is a robust one, lower than that of the paths, which know the huge
orders.

How recent. Older periods count less, by a half-life that the panel chooses on its own past: the one whose
forecasts from earlier cutoffs had the smallest Poisson deviance, each series in units of its typical order.

Paths draw p once per path from its beta distribution (what isn't known of it is shared by all periods), then each period
by itself. A size is drawn from how orders of its level turned out when they were left out; in every second draw nearer to
the middle or farther from it, as the series' own sizes scatter less or more than others. Totals over a lead time are
sums of a path, so they are as wide as they should be.

Measured: `python -m benchmarks.spare_parts`. It is for slow movers: on weekly sums of UCI Online Retail (six cutoffs, 1,500
products, those with a week of demand in 1.3 or more), where levels change from month to month, its mean has an RMSSE of
0.658, TSB with IMAPA 0.646, the boosted forecast with both 0.640, and a quarter of it in that mix 0.639. So the weekly plan
does not offer it.

>>> import numpy as np
>>> y = np.array([[0, 0, 2, 0, 0, 2, 0, 0], [0, 5, 0, 0, 0, 0, 7, 0], [0, 0, 0, 0, 1, 0, 0, 0]], dtype=float)
>>> pool = learn(y, horizon=2)
>>> expected(pool, y).mean.round(2).tolist()
[0.43, 1.26, 0.16]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import betaln

from forecasting.arrays import Floats

OWN_ORDERS = 6.0  # orders of its own that weigh as much as the panel's word
SIZE_CAP = 2.0
CAP_MIN_ORDERS = 5  # fewer sizes have no upper quartile to speak of
LEVELS, LEVEL_MIN_ORDERS = 10, 100
HALF_LIVES = (float("inf"), 104.0, 52.0, 26.0, 13.0)  # periods
FOLDS, MIN_PERIODS = 3, 6


@dataclass(frozen=True)
class Pool:
    """What a panel taught.

    Attributes:
        half_life_periods: Age at which a period counts half.
        share: Part of all periods with demand.
        kappa: Periods of its own that weigh as much as the panel's share.
        level: Mean over series of their levels (mean log size).
        level_orders: Orders of its own that weigh as much as `level`.
        at_level: Levels, rising, at which the next three are known.
        share_at_level: Part of periods with demand.
        mean_ratio: Mean size / exp(level), huge sizes capped.
        size_ratios: level × rank: sizes / exp(level), rising; each is as likely as the others.
        is_whole: Every size seen was a whole number, so drawn ones are too.
    """

    half_life_periods: float
    share: float
    kappa: float
    level: float
    level_orders: float
    at_level: Floats
    share_at_level: Floats
    mean_ratio: Floats
    size_ratios: tuple[Floats, ...]
    is_whole: bool


@dataclass(frozen=True)
class Expected:
    """What to expect of each series, one number per series.

    Attributes:
        mean: Demand per period, units: `probability` × `size`.
        probability: Of a period having demand.
        size: Units asked for in a period with demand.
        periods: Periods that `probability` rests on: own ones, older ones counting less, and the panel's.
        own_orders: Own orders, older ones counting less, that `size` rests on beside the panel's.
        level: Log of the typical size.
        scatter_ratio: How far its log sizes scatter, over how far those of series of its level do.
    """

    mean: Floats
    probability: Floats
    size: Floats
    periods: Floats
    own_orders: Floats
    level: Floats
    scatter_ratio: Floats


@dataclass(frozen=True)
class _Own:
    """A series' own numbers; older periods count less."""

    periods: Floats
    orders: Floats
    independent: Floats  # orders of one weight that the weighed ones are worth: (Σw)² / Σw²
    mean: Floats  # of capped sizes
    level: Floats
    scatter: Floats  # mean squared distance of log sizes from `level`


def learn(y: Floats, *, horizon: int, half_lives: tuple[float, ...] = HALF_LIVES) -> Pool:
    """Learn from a panel.

    Args:
        y: series × period, units, oldest first; NaN where demand is not known.
        horizon: Periods ahead that will be forecast; the half-life is chosen by the error over as many.
        half_lives: To choose from, in periods. The first is taken where there is too little past to compare them.

    Returns:
        The pool. A panel without any demand teaches a share of zero.
    """
    cutoffs = [y.shape[1] - fold * horizon for fold in range(1, FOLDS + 1)]
    usable = [cutoff for cutoff in cutoffs if cutoff >= max(MIN_PERIODS, 2 * horizon)]
    if len(half_lives) == 1 or not usable:
        return _pool(y, half_lives[0])
    errors = [sum(_deviance(y, cutoff, horizon, half_life) for cutoff in usable) for half_life in half_lives]
    return _pool(y, half_lives[int(np.argmin(errors))])


def expected(pool: Pool, y: Floats) -> Expected:
    """What to expect of each series next.

    Args:
        pool: From `learn`; of this panel or another one like it.
        y: series × period, units, oldest first; NaN where demand is not known.
    """
    own = _own(y, pool.half_life_periods)
    has_sizes = own.orders > 0
    level = _shrunk(own.level, own.independent, pool.level, pool.level_orders)
    typical = np.exp(level) * np.interp(level, pool.at_level, pool.mean_ratio)
    own_share = own.independent / (own.independent + OWN_ORDERS)
    size = np.where(has_sizes, own.mean, 1.0) ** own_share * typical ** (1.0 - own_share)

    share = np.where(has_sizes, np.interp(level, pool.at_level, pool.share_at_level), pool.share)
    # where nothing is known of the series, the panel's word stands alone
    prior_periods = np.where(own.periods > 0, np.minimum(pool.kappa, own.periods), 1.0)
    periods = own.periods + prior_periods
    probability = (own.orders + prior_periods * share) / periods

    panel_variance = np.interp(level, pool.at_level, [max(float(np.log(r).var()), 1e-6) for r in pool.size_ratios])
    several = np.maximum(own.independent - 1.0, 0.0)
    own_squares = own.scatter * (
        own.independent + 1.0
    )  # Σ squares × (1 + 1/n): the level it is taken from is unsure too
    variance = (OWN_ORDERS * panel_variance + np.where(several > 0, own_squares, 0.0)) / (OWN_ORDERS + several)
    return Expected(
        mean=probability * size,
        probability=probability,
        size=size,
        periods=periods,
        own_orders=own.independent,
        level=level,
        scatter_ratio=np.sqrt(variance / panel_variance),
    )


def demand_paths(pool: Pool, y: Floats, *, horizon: int, paths: int, rng: np.random.Generator) -> Floats:
    """Possible futures: series × path × period ahead, units.

    Args:
        pool: From `learn`.
        y: series × period, units, oldest first; NaN where demand is not known.
        horizon: Periods ahead.
        paths: How many per series.
        rng: Seeded by the caller. The draws of a series depend on the ones before it, so a series that must get the
            same numbers in any company is passed alone.
    """
    ahead = expected(pool, y)
    asked = np.maximum(ahead.probability * ahead.periods, 1e-9)
    quiet = np.maximum((1.0 - ahead.probability) * ahead.periods, 1e-9)
    probability = rng.beta(asked[:, None], quiet[:, None], size=(y.shape[0], paths))
    has_demand = rng.random((y.shape[0], paths, horizon)) < probability[:, :, None]

    series = np.nonzero(has_demand)[0]
    sizes = _drawn_sizes(pool, ahead, series, rng)
    out: Floats = np.zeros(has_demand.shape)
    out[has_demand] = np.maximum(1.0, np.rint(sizes)) if pool.is_whole else sizes
    return out


def _drawn_sizes(pool: Pool, ahead: Expected, series: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """A size for each of `series`, as orders of that level turned out; between two levels of the pool either is taken.

    How far it lies from the middle of its level follows, in every second draw, how far the series' own sizes scatter; in
    the others a series with regular sizes has the panel's huge orders as well.
    """
    level = ahead.level[series]
    between = np.interp(level, pool.at_level, np.arange(pool.at_level.size, dtype=np.float64))
    at = np.minimum((between + rng.random(level.size)).astype(np.int64), pool.at_level.size - 1)
    logs = [np.log(ratios) for ratios in pool.size_ratios]
    counts = np.array([ratios.size for ratios in logs])
    starts = np.cumsum(counts) - counts
    drawn = np.concatenate(logs)[starts[at] + (rng.random(level.size) * counts[at]).astype(np.int64)]
    middle = np.interp(level, pool.at_level, [float(ratios.mean()) for ratios in logs])
    stretch = np.where(rng.random(level.size) < 0.5, ahead.scatter_ratio[series], 1.0)
    return np.asarray(np.exp(level + middle + stretch * (drawn - middle)), dtype=np.float64)


# --- learning -----------------------------------------------------------------------------------------------------


def _weights(periods: int, half_life: float) -> Floats:
    age = np.arange(periods, dtype=np.float64)[::-1]
    return np.asarray(0.5 ** (age / half_life), dtype=np.float64)


def _shrunk(level: Floats, orders: Floats, panel_level: float, panel_orders: float) -> Floats:
    return np.asarray((orders * level + panel_orders * panel_level) / (orders + panel_orders))


def _capped(y: Floats, has_demand: NDArray[np.bool_]) -> Floats:
    """Sizes, none above `SIZE_CAP` times the upper quartile of its series; zero elsewhere."""
    if not y.size:
        return np.zeros(y.shape)
    sizes = np.sort(np.where(has_demand, y, np.inf), axis=1)
    count = has_demand.sum(axis=1)
    at = np.ceil(0.75 * np.maximum(count - 1, 0)).astype(np.int64)
    upper_quartile = np.take_along_axis(sizes, at[:, None], axis=1)
    cap = np.where(count[:, None] >= CAP_MIN_ORDERS, SIZE_CAP * upper_quartile, np.inf)
    return np.where(has_demand, np.minimum(y, cap), 0.0)


def _without_huge(ratios: Floats) -> Floats:
    return np.minimum(ratios, SIZE_CAP * np.quantile(ratios, 0.75))


def _own(y: Floats, half_life: float) -> _Own:
    is_known = np.isfinite(y)
    has_demand = is_known & (np.where(is_known, y, 0.0) > 0)
    weight = _weights(y.shape[1], half_life)
    orders, squares = has_demand @ weight, has_demand @ weight**2
    some = np.where(orders > 0, orders, 1.0)
    logs = np.log(np.where(has_demand, y, 1.0))
    level = (logs @ weight) / some
    return _Own(
        periods=is_known @ weight,
        orders=orders,
        independent=orders**2 / np.where(squares > 0, squares, 1.0),
        mean=(_capped(y, has_demand) @ weight) / some,
        level=level,
        scatter=np.maximum((logs**2 @ weight) / some - level**2, 0.0),
    )


def _pool(y: Floats, half_life: float) -> Pool:
    own = _own(y, half_life)
    is_whole = bool(np.all(np.where(np.isfinite(y), y, 0.0) % 1 == 0))
    has_sizes = own.orders > 0
    if not has_sizes.any():
        zero, one = np.zeros(1), np.ones(1)
        return Pool(half_life, 0.0, 1.0, 0.0, 1.0, zero, zero, one, (one,), is_whole)

    share = float(own.orders.sum() / own.periods.sum())
    several = np.maximum(own.independent - 1.0, 0.0)
    within = float((own.scatter * own.independent).sum()) / max(float(several.sum()), 1.0)
    level = own.level[has_sizes]
    between = float(level.var()) - float(np.mean(within / own.independent[has_sizes]))
    panel_level, level_orders = float(level.mean()), max(within, 0.01) / max(between, 0.01)

    # Each order against the level that the series' other orders give.
    series, period = np.nonzero(np.nan_to_num(y) > 0)
    weight = _weights(y.shape[1], half_life)[period]
    sizes = y[series, period]
    others = own.orders[series] - weight
    other_level = np.where(others > 1e-9, (own.level * own.orders)[series] - weight * np.log(sizes), 0.0) / np.where(
        others > 1e-9, others, 1.0
    )
    left = _shrunk(other_level, several[series], panel_level, level_orders)

    by_level = np.argsort(left, kind="stable")
    bins = np.array_split(by_level, int(np.clip(by_level.size // LEVEL_MIN_ORDERS, 1, LEVELS)))
    ratio = np.exp(-left)
    # Series without an order have no level: each level's share is lowered as much as theirs lower the panel's.
    interval = own.periods / np.where(has_sizes, own.orders, 1.0)
    never_asked = share / (own.orders[has_sizes].sum() / own.periods[has_sizes].sum())
    return Pool(
        half_life_periods=half_life,
        share=share,
        kappa=min(_kappa(own, share), OWN_ORDERS / share),
        level=panel_level,
        level_orders=level_orders,
        at_level=np.array([np.average(left[part], weights=weight[part]) for part in bins]),
        share_at_level=np.array(
            [never_asked * weight[part].sum() / (weight[part] @ interval[series[part]]) for part in bins]
        ),
        mean_ratio=np.array([np.average(_without_huge((sizes * ratio)[part]), weights=weight[part]) for part in bins]),
        size_ratios=tuple(np.sort((sizes * ratio)[part]) for part in bins),
        is_whole=is_whole,
    )


def _kappa(own: _Own, share: float) -> float:
    """Prior periods that make the panel's counts most likely (beta-binomial), between 0.1 and 10,000."""

    def unlikelihood(log_kappa: float) -> float:
        a, b = np.exp(log_kappa) * share, np.exp(log_kappa) * (1.001 - share)
        quiet = np.maximum(own.periods - own.orders, 0.0)
        return -float((betaln(a + own.orders, b + quiet) - betaln(a, b)).sum())

    found = minimize_scalar(unlikelihood, bounds=(np.log(0.1), np.log(10_000.0)), method="bounded")
    return float(np.exp(found.x))


def _deviance(y: Floats, cutoff: int, horizon: int, half_life: float) -> float:
    """Poisson deviance of the mean forecast from `cutoff` over the horizon, in the series' typical orders."""
    past, came = y[:, :cutoff], y[:, cutoff : cutoff + horizon]
    ahead = expected(_pool(past, half_life), past)
    unit = np.exp(ahead.level)
    mean = np.maximum(ahead.mean / unit, 1e-9)
    return float((np.isfinite(came).sum(axis=1) * mean - np.nansum(came, axis=1) / unit * np.log(mean)).sum())
