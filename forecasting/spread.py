"""How far demand falls from its forecast: negative binomial counts whose variance is learned from past forecasts.

    variance = ratio × mean,  ratio = (Σ own squared errors + w × curve(mean) × mean) / (Σ own means + w × mean)

`curve` is the variance-to-mean ratio of all series by the size of the forecast; a series moves away from it as its own
errors speak (empirical Bayes with a weight of `OWN_WEIGHT` periods). A ratio of one is Poisson. Errors count up to a
limit, so that one impossible number in the history makes neither its series nor all others look wild.

The ends of an interval are shifted until intervals would have held the share they promise in the past (split conformal
prediction; Angelopoulos & Bates 2021, "A gentle introduction to conformal prediction"). Whole numbers need that: demand
of one a week is 0, 1 or 2 nine times in ten, and every interval of whole units holds more than was asked. Kinds of
forecast, such as those of peak weeks, may be calibrated apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nbinom

from forecasting.arrays import Floats, Ints

BINS = 12
OWN_WEIGHT = 1.0
LEAST_RATIO = 1.05
LEAST_OF_A_KIND = 300  # past forecasts; a kind with fewer gets the ends of all
LEAST_MEAN = 0.3  # below it the weight of a period no longer shrinks
OWN_LIMIT, CURVE_LIMIT = 3.0, 6.0  # errors count up to so many times sqrt(3 × mean + mean²)


@dataclass(frozen=True)
class Spread:
    """Variance-to-mean ratios.

    Attributes:
        means, ratios: The curve: ratio by size of the mean, straight lines between.
        own_errors, own_means: Per series: sum of squared errors and of means of its past forecasts.
        tails: Kind -> of each past forecast the largest tail that may be cut off both sides with the actual still
            inside. `None` is all kinds together; empty where there were no forecasts.
    """

    means: Floats
    ratios: Floats
    own_errors: Floats
    own_means: Floats
    tails: Mapping[int | None, Floats] = field(default_factory=dict)

    def ratio(self, mean: Floats) -> Floats:
        """Variance over mean for forecasts series × …, in the order of the series it was learned from."""
        shape = (-1,) + (1,) * (mean.ndim - 1)
        weight = OWN_WEIGHT * np.maximum(mean, LEAST_MEAN)
        curve = np.interp(mean, self.means, self.ratios)
        ratio = (self.own_errors.reshape(shape) + curve * weight) / (self.own_means.reshape(shape) + weight)
        return np.maximum(ratio, LEAST_RATIO)

    def quantile(self, mean: Floats, share: float | Floats) -> Floats:
        """The least number of units that isn't exceeded with this chance, for forecasts series × …"""
        ratio = self.ratio(mean)
        return np.asarray(nbinom.ppf(share, mean / (ratio - 1), 1 / ratio))

    def interval(self, mean: Floats, share: float, kind: Ints | None = None) -> tuple[Floats, Floats]:
        """First and last whole number of an interval that would have held this share of the past forecasts' actuals:
        of those of the same kind, where kinds (in the shape of `mean`) are given and were learned."""
        tail = np.full(mean.shape, (1 - share) / 2)
        if None in self.tails:
            tail[...] = np.quantile(self.tails[None], 1 - share)
        for code in [] if kind is None else np.unique(kind):
            if int(code) in self.tails:
                tail[kind == code] = np.quantile(self.tails[int(code)], 1 - share)
        return self.quantile(mean, tail), self.quantile(mean, 1 - tail)


def learn_spread(mean: Floats, actual: Floats, kind: Ints | None = None) -> Spread:
    """Learn from past forecasts: both series × forecast, NaN where there is none or the actual isn't known; `kind` in
    the same shape is a code per forecast.

    The forecasts must not have been made by a model that had seen the actuals.
    """
    seen = ~np.isnan(mean) & ~np.isnan(actual)
    means = np.where(seen, np.nan_to_num(mean), 0.0)
    errors = np.where(seen, (np.nan_to_num(actual) - means) ** 2, 0.0)
    scale = 3 * means + means**2
    own = np.minimum(errors, OWN_LIMIT**2 * scale).sum(axis=1)
    errors = np.minimum(errors, CURVE_LIMIT**2 * scale)
    all_means, all_errors = means[seen], errors[seen]
    if not all_means.size:
        return Spread(np.array([1.0]), np.array([LEAST_RATIO]), own, means.sum(axis=1))
    order = np.argsort(all_means, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if part.size]
    middle = np.array([all_means[part].mean() for part in parts])
    ratio = np.array([all_errors[part].sum() / max(all_means[part].sum(), 1e-9) for part in parts])
    spread = Spread(middle, ratio, own, means.sum(axis=1))
    tails = _tails(spread, means[seen], actual[seen], np.nonzero(seen)[0])
    by_kind: dict[int | None, Floats] = {None: tails}
    if kind is not None:
        kinds = kind[seen]
        by_kind |= {int(k): tails[kinds == k] for k in np.unique(kinds) if (kinds == k).sum() >= LEAST_OF_A_KIND}
    return Spread(middle, ratio, own, means.sum(axis=1), by_kind)


def _tails(spread: Spread, mean: Floats, y: Floats, series: NDArray[np.intp]) -> Floats:
    """How much may be cut off both sides with the actual still inside: an interval from the t to the 1 − t quantile
    holds y as long as t ≤ P(≤ y) and t ≤ P(≥ y)."""
    of_series = Spread(spread.means, spread.ratios, spread.own_errors[series], spread.own_means[series])
    ratio, mean = of_series.ratio(mean), np.maximum(mean, 1e-9)
    shape = mean / (ratio - 1)
    return np.asarray(np.minimum(nbinom.cdf(y, shape, 1 / ratio), 1 - nbinom.cdf(y - 1, shape, 1 / ratio)))


def draw(mean: Floats, ratio: Floats, *, paths: int, rng: np.random.Generator) -> Floats:
    """Counts with the means and variance-to-mean ratios given: path first, then the shape of `mean`."""
    shape = mean / (ratio - 1)
    rate = rng.gamma(np.broadcast_to(shape, (paths, *mean.shape)), np.broadcast_to(ratio - 1, (paths, *mean.shape)))
    return rng.poisson(rate).astype(np.float64)
