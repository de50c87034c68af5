"""One boosted model for all series and steps: gradient-boosted trees under the Poisson deviance, on demand in units of
each series' own level (scikit-learn's `HistGradientBoostingRegressor`; Friedman 2001, "Greedy function approximation").

>>> from datetime import date
>>> from forecasting.panel import Panel
>>> rng = np.random.default_rng(1)
>>> panel = Panel(tuple("abcdefgh"), date(2024, 1, 1), rng.poisson(4.0, (8, 80)).astype(float))
>>> model = learn(Features(panel), until=80, horizon=2, settings=BoostSettings(trees=5))
>>> model.forecast(Features(panel), cutoff=80, horizon=2).shape
(8, 2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from forecasting.arrays import Floats
from forecasting.bins import binned, cut_points
from forecasting.errors import BadSetting
from forecasting.features import Features, training_rows

FIRST_CUTOFF = 40  # periods a row must have behind it
LARGEST_RATIO = 30.0  # a target above this many times the unit is learned as this many
SMALLEST_MEAN = 0.01


@dataclass(frozen=True)
class BoostSettings:
    """How the trees are grown.

    Attributes:
        trees, learning_rate, leaves, least_rows, l2: As scikit-learn's max_iter, learning_rate, max_leaf_nodes,
            min_samples_leaf and l2_regularization.
        weight_exponent: A row counts as its unit to this power: 0 all alike, 1 by size.
        cutoffs: Newest cutoffs learned from.
        most_rows: Rows learned from at most; beyond them cutoffs are skipped evenly.
    """

    trees: int = 80
    learning_rate: float = 0.06
    leaves: int = 8
    least_rows: int = 200
    l2: float = 1.0
    weight_exponent: float = 0.5
    cutoffs: int = 70
    most_rows: int = 200_000


@dataclass(frozen=True)
class Boosted:
    """A learned model.

    Attributes:
        model: What scikit-learn fitted.
        edges: Per feature, where its values are cut into bins.
        horizon: Steps it was taught.
        until: Number of periods it has seen: no target at or after it.
        rows: Rows it learned from.
    """

    model: HistGradientBoostingRegressor
    edges: tuple[Floats, ...]
    horizon: int
    until: int
    rows: int

    def forecast(self, features: Features, *, cutoff: int, horizon: int) -> Floats:
        """Mean demand of each series for the periods cutoff … cutoff + horizon − 1: series × period, units, positive.

        Steps beyond those it was taught are told as the last one it knows, with the season of their own period.
        """
        ahead = np.empty((len(features.panel.ids), horizon))
        for step in range(horizon):
            rows, unit = features.rows(cutoff, step, told_step=min(step, self.horizon - 1))
            ahead[:, step] = np.maximum(self.model.predict(binned(rows, self.edges)) * unit, SMALLEST_MEAN)
        return ahead


def learn(features: Features, *, until: int, horizon: int, settings: BoostSettings = BoostSettings()) -> Boosted:
    """Learn from all targets before period `until`.

    Raises:
        BadSetting: There is no period to learn from.
    """
    first = max(min(FIRST_CUTOFF, until - settings.cutoffs // 2), until - settings.cutoffs, 2)
    cutoffs = range(first, until)
    a_cutoff = len(features.panel.ids) * horizon
    every = max(1, -(-a_cutoff * len(cutoffs) // settings.most_rows))
    chosen = list(cutoffs)[::-1][::every][::-1]  # the newest always
    if not chosen:
        raise BadSetting(f"nothing to learn from: {until} periods are known, at least 3 are needed")
    rows, target, unit, *_ = training_rows(features, chosen, range(horizon), known_until=until)
    edges = cut_points(rows)
    model = HistGradientBoostingRegressor(
        loss="poisson",
        learning_rate=settings.learning_rate,
        max_iter=settings.trees,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.least_rows,
        l2_regularization=settings.l2,
        early_stopping=False,  # its own hold-out would be drawn at random from all cutoffs
        random_state=0,
    )
    weight = unit**settings.weight_exponent
    model.fit(
        binned(rows, edges),
        np.minimum(target, LARGEST_RATIO),
        sample_weight=np.minimum(weight, np.quantile(weight, 0.99)),
    )
    return Boosted(model, edges, horizon, until, len(target))
