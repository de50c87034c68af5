"""How far demand falls from its forecast: negative binomial counts whose variance is learned from past forecasts.

    variance = ratio × mean,  ratio = (Σ own squared errors + w × curve(mean) × mean) / (Σ own means + w × mean)

`curve` is the variance-to-mean ratio of all series by the size of the forecast; a series moves away from it as its own
errors speak (empirical Bayes with a weight of `OWN_WEIGHT` periods). A ratio of one is Poisson.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import nbinom

from forecasting.models import Floats

BINS = 12
OWN_WEIGHT = 6.0
LEAST_RATIO = 1.05
LEAST_MEAN = 0.3  # below it the weight of a period no longer shrinks


@dataclass(frozen=True)
class Spread:
    """Variance-to-mean ratios.

    Attributes:
        means, ratios: The curve: ratio by size of the mean, straight lines between.
        own_errors, own_means: Per series: sum of squared errors and of means of its past forecasts.
    """

    means: Floats
    ratios: Floats
    own_errors: Floats
    own_means: Floats

    def ratio(self, mean: Floats) -> Floats:
        """Variance over mean for forecasts series × …, in the order of the series it was learned from."""
        shape = (-1,) + (1,) * (mean.ndim - 1)
        weight = OWN_WEIGHT * np.maximum(mean, LEAST_MEAN)
        curve = np.interp(mean, self.means, self.ratios)
        ratio = (self.own_errors.reshape(shape) + curve * weight) / (self.own_means.reshape(shape) + weight)
        return np.maximum(ratio, LEAST_RATIO)


def learn_spread(mean: Floats, actual: Floats) -> Spread:
    """Learn from past forecasts: both series × forecast, NaN where there is none or the actual isn't known."""
    seen = ~np.isnan(mean) & ~np.isnan(actual)
    errors = np.where(seen, (np.nan_to_num(actual) - np.nan_to_num(mean)) ** 2, 0.0)
    means = np.where(seen, np.nan_to_num(mean), 0.0)
    all_means, all_errors = means[seen], errors[seen]
    if not all_means.size:
        return Spread(np.array([1.0]), np.array([LEAST_RATIO]), errors.sum(axis=1), means.sum(axis=1))
    order = np.argsort(all_means, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if part.size]
    middle = np.array([all_means[part].mean() for part in parts])
    ratio = np.array([all_errors[part].sum() / max(all_means[part].sum(), 1e-9) for part in parts])
    return Spread(middle, ratio, errors.sum(axis=1), means.sum(axis=1))


def draw(mean: Floats, ratio: Floats, *, paths: int, rng: np.random.Generator) -> Floats:
    """Counts with the means and variance-to-mean ratios given: path first, then the shape of `mean`."""
    shape = mean / (ratio - 1)
    rate = rng.gamma(np.broadcast_to(shape, (paths, *mean.shape)), np.broadcast_to(ratio - 1, (paths, *mean.shape)))
    return rng.poisson(rate).astype(np.float64)


def interval(mean: Floats, ratio: Floats, share: float) -> tuple[Floats, Floats]:
    """Closed interval of whole units that holds about `share` of the demand, the rest shared evenly by both sides."""
    shape, chance = mean / (ratio - 1), 1 / ratio
    tail = (1 - share) / 2
    return nbinom.ppf(tail, shape, chance), nbinom.ppf(1 - tail, shape, chance)
