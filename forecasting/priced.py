"""Forecast of series whose price and promotions are known ahead.

The regression of `forecasting.elasticity` says what a price does; boosted trees learn from its own earlier mistakes what it
left over (a deep cut right after another, an advertisement beside a rival's), each by what it is in units. At every past
cutoff both are told only what was known then, so the trees are taught on errors as large as those to come.

A forecast is a point, and which point is right depends on how it is judged. `Priced.forecast` gives the median; a
percentage error punishes too much more than too little and wants less. Both are read from how past forecasts ended. For
percentage errors other trees learn demand over the level directly, each row by its own percentage error, and the point is
the geometric mean of the two: they go wrong in different weeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from forecasting.arrays import Floats, Ints
from forecasting.bins import binned, cut_points
from forecasting.elasticity import ElasticitySettings, expected_log_demand, log_demand
from forecasting.errors import BadSetting
from forecasting.panel import Panel
from forecasting.regressors import CUT, price_state

FIRST_CUTOFF = 20  # periods a row must have behind it
ALIKE_DEPTH, ALIKE_BEFORE = 0.07, 0.15  # log price: weeks this far apart are alike
ALIKE_MARK = 2.0  # a mark that differs makes a week e^-2 as alike
ALIKE_HALF_LIFE, ALIKE_PENALTY = 52.0, 0.3
REGULAR_HALF_LIFE = 26.0
SMALLEST_RATIO = 0.02  # of the level
LARGEST_LIFT = 3.0  # log over the level: what is expected to sell more counts as this much


@dataclass(frozen=True)
class PricedSettings:
    """How the forecast learns.

    Attributes:
        trees, learning_rate, leaves, least_rows, columns_ratio: As scikit-learn's max_iter, learning_rate,
            max_leaf_nodes, min_samples_leaf and max_features.
        every: Of every so many series one is learned from at a cutoff, taking turns: places are alike.
        half_life_periods: A row this old counts half.
        trust_ratio: Share of what the trees add that is believed.
        models: Boosted models with other random columns, averaged.
        percentage_trees, percentage_leaves, percentage_least_rows, percentage_columns_ratio: The same of the trees taught on
            percentage errors; these may grow large, for they have no regression to lean on.
        judged_periods: Newest periods whose forecasts say where the median lies.
        elasticities: Regressions whose mean is built on: one that believes quickly and one that doubts.
    """

    trees: int = 60
    learning_rate: float = 0.08
    leaves: int = 16
    least_rows: int = 200
    columns_ratio: float = 0.3
    every: int = 3
    half_life_periods: float = 60.0
    trust_ratio: float = 0.8
    models: int = 1
    percentage_trees: int = 150
    percentage_leaves: int = 31
    percentage_least_rows: int = 40
    percentage_columns_ratio: float = 0.5
    judged_periods: int = 26
    elasticities: tuple[ElasticitySettings, ...] = (
        ElasticitySettings(penalty_all=10.0, penalty_product=60.0, penalty_series=100.0, half_life_periods=45.0),
        ElasticitySettings(penalty_all=100.0, penalty_product=400.0, penalty_series=400.0),
    )


@dataclass(frozen=True)
class Rows:
    """What is told of all series at a cutoff about one period ahead.

    Attributes:
        values: series × column, NaN where there is nothing to say.
        base: log demand of a period without promotion, per series.
        expected: What the regression forecasts over `base`, log.
    """

    values: Floats
    base: Floats
    expected: Floats


class PricedFeatures:
    """Feature rows of a panel with prices; those of a cutoff are worked out once and kept.

    Args:
        panel: As `forecasting.regressors.price_state` wants it; `known` reaches over the periods to forecast.
        promotions: Names of marks in `panel.known`.
    """

    def __init__(
        self, panel: Panel, promotions: Sequence[str] = (), settings: PricedSettings = PricedSettings()
    ) -> None:
        self.panel, self.settings, self.promotions = panel, settings, tuple(promotions)
        self.state = price_state(panel, promotions)
        self.columns = np.stack(list(self.state.values()), axis=-1)
        self.log_y = log_demand(panel.y)
        series = len(panel.ids)
        self.product = panel.attributes.get("product", np.arange(series))
        self.is_promoted = self.state["depth"] < CUT
        for name in self.promotions:
            self.is_promoted |= self.state[name] > 0.5
        self._kept: dict[tuple[int, int], Rows] = {}
        self._at: dict[int, _Cutoff] = {}

    def rows(self, cutoff: int, step: int) -> Rows:
        """Rows for period `cutoff + step`, told at `cutoff` (the first period that isn't known)."""
        if (cutoff, step) not in self._kept:
            if cutoff not in self._at:
                self._at = {cutoff: _Cutoff(self, cutoff)}
            self._kept[cutoff, step] = self._at[cutoff].rows(step)
        return self._kept[cutoff, step]


class _Cutoff:
    """What is known at one cutoff."""

    def __init__(self, source: PricedFeatures, cutoff: int) -> None:
        self.source, self.cutoff = source, cutoff
        seen = source.log_y[:, :cutoff]
        self.known = ~np.isnan(seen)
        self.age = cutoff - 1.0 - np.arange(cutoff)
        found = [
            expected_log_demand(seen, source.columns, source.product, setting)
            for setting in source.settings.elasticities
        ]
        self.expected = [ahead for ahead, _ in found]
        over = seen - np.mean([fitted[:, :cutoff] for _, fitted in found], axis=0)
        # a promoted period counts a little: a series that is always promoted has a level too
        regular = np.where(source.is_promoted[:, :cutoff], 1e-3, 1.0) * self.known
        weight = regular * 0.5 ** (self.age / REGULAR_HALF_LIFE)
        everyone = float(np.nanmedian(seen)) if self.known.any() else 0.0
        self.base = _mean(seen, weight, otherwise=everyone)
        self.lift = seen - self.base[:, None]
        lately = [_mean(self.lift[:, -n:], 1.0 * self.known[:, -n:]) for n in (4, 13, 52)]
        squares = _mean(self.lift[:, -52:] ** 2, 1.0 * self.known[:, -52:])
        over_lately = [_mean(over[:, -n:], 1.0 * self.known[:, -n:]) for n in (4, 13)]
        self.own = [
            self.base,
            _mean(self.lift, regular * 0.5 ** (self.age / 6.0)),
            *lately,
            np.sqrt(np.maximum(squares - lately[-1] ** 2, 0.0)),
            *over_lately,
            _of_group(over[:, -4:], 1.0 * self.known[:, -4:], source.product),
            *(_lag(self.lift, n) for n in (1, 2, 3)),
            *(_lag(over, n) for n in (1, 2, 3)),
        ]

    def rows(self, step: int) -> Rows:
        source, c, t = self.source, self.cutoff, self.cutoff + step
        depth, before, rival = (source.state[n] for n in ("depth", "depth_before", "deepest_rival"))
        alike = 0.5 ** (self.age / ALIKE_HALF_LIFE) * self.known * _near(depth, c, t, ALIKE_DEPTH)
        for name in source.promotions:
            mark = source.state[name]
            alike = alike * np.exp(-ALIKE_MARK * np.abs(mark[:, :c] - mark[:, t : t + 1]))
        more_alike = alike * _near(before, c, t, ALIKE_BEFORE) * _near(rival, c, t, 0.2)
        elsewhere = _of_group(self.lift, alike, source.product)
        like = _shrunk(self.lift, alike, elsewhere)
        promoted = source.is_promoted[:, :c] & self.known
        ever = promoted.any(axis=1)
        last = np.where(ever, c - 1 - np.argmax(promoted[:, ::-1], axis=1), 0)
        row = np.arange(len(last))
        expected = [ahead[:, t] - self.base for ahead in self.expected]
        values = np.column_stack(
            [
                *self.own,
                source.columns[:, t],
                *expected,
                elsewhere,
                like,
                _shrunk(self.lift, more_alike, like),
                alike.sum(axis=1),
                np.where(ever, self.lift[row, last], np.nan),
                np.where(ever, depth[row, last], np.nan),
                np.full(len(last), float(step)),
                source.product.astype(np.float64),
                source.panel.season_position(np.full(1, t)).astype(np.float64).repeat(len(last)),
            ]
        )
        return Rows(values, self.base, np.mean(expected, axis=0))


@dataclass(frozen=True)
class Priced:
    """A learned forecast.

    Attributes:
        models: What scikit-learn fitted.
        by_percentage: The trees taught on percentage errors: demand over the level.
        cuts: Per column, where its values are cut into bins.
        median_factor, percentage_factor: By promoted or not: what a forecast is multiplied by to be the median of demand,
            and to have the smallest mean absolute percentage error.
        rows: Rows it learned from.
    """

    models: tuple[HistGradientBoostingRegressor, ...]
    by_percentage: HistGradientBoostingRegressor
    cuts: tuple[Floats, ...]
    median_factor: Floats
    percentage_factor: Floats
    trust_ratio: float
    rows: int

    def forecast(
        self, features: PricedFeatures, *, cutoff: int, steps: Sequence[int], percentage: bool = False
    ) -> Floats:
        """Demand of the periods cutoff + step: series × step, units.

        Args:
            percentage: The point with the smallest percentage error, instead of the median.
        """
        factor = self.percentage_factor if percentage else self.median_factor
        ahead = np.empty((len(features.panel.ids), len(steps)))
        for column, step in enumerate(steps):
            rows = features.rows(cutoff, step)
            told = binned(rows.values, self.cuts)
            over = np.mean([model.predict(told) for model in self.models], axis=0)
            promoted = features.is_promoted[:, cutoff + step].astype(np.int64)
            ahead[:, column] = np.exp(rows.base + rows.expected + self.trust_ratio * over) * factor[promoted]
            if percentage:
                other = np.exp(rows.base) * np.maximum(self.by_percentage.predict(told), SMALLEST_RATIO)
                ahead[:, column] = np.sqrt(ahead[:, column] * other)
        return ahead


@dataclass(frozen=True)
class Taught:
    """Rows to learn from: features, base and regression's forecast over it, log demand, period, series."""

    values: Floats
    base: Floats
    expected: Floats
    log_y: Floats
    period: Ints
    series: Ints


def taught(features: PricedFeatures, *, until: int, steps: Sequence[int]) -> Taught:
    """All rows whose target is known before period `until`.

    Raises:
        BadSetting: There is none.
    """
    every = features.settings.every
    parts = []
    for cutoff in range(FIRST_CUTOFF, until):
        turn = np.arange(len(features.panel.ids)) % every == cutoff % every
        for step in steps:
            if cutoff + step < until:
                rows, target = features.rows(cutoff, step), features.log_y[:, cutoff + step]
                at = np.flatnonzero(turn & ~np.isnan(target))
                when = np.full(at.size, cutoff + step)
                parts.append((rows.values[at], rows.base[at], rows.expected[at], target[at], when, at))
    if not any(part[3].size for part in parts):
        raise BadSetting(
            f"nothing to learn from: {until} periods are known, {FIRST_CUTOFF + 1 + min(steps)} are needed"
        )
    return Taught(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def learn_priced(features: PricedFeatures, *, until: int, steps: Sequence[int]) -> Priced:
    """Learn from all targets before period `until`; `steps` are those that will be asked for."""
    told, settings = taught(features, until=until, steps=steps), features.settings
    over = told.log_y - told.base - told.expected
    weight = 0.5 ** ((until - told.period) / settings.half_life_periods)
    units = np.exp(told.base + np.minimum(told.expected, LARGEST_LIFT))  # an error in log counts by what it is in units
    cuts = cut_points(told.values)
    values = binned(told.values, cuts)
    models = tuple(
        HistGradientBoostingRegressor(
            loss="absolute_error",
            learning_rate=settings.learning_rate,
            max_iter=settings.trees,
            max_leaf_nodes=settings.leaves,
            min_samples_leaf=settings.least_rows,
            max_features=settings.columns_ratio,
            early_stopping=False,
            random_state=number,
        ).fit(values, over, sample_weight=weight * units)
        for number in range(settings.models)
    )
    over_level = np.exp(told.log_y - told.base)
    by_percentage = HistGradientBoostingRegressor(
        loss="absolute_error",
        learning_rate=settings.learning_rate,
        max_iter=settings.percentage_trees,
        max_leaf_nodes=settings.percentage_leaves,
        min_samples_leaf=settings.percentage_least_rows,
        max_features=settings.percentage_columns_ratio,
        early_stopping=False,
        random_state=0,
    ).fit(values, over_level, sample_weight=weight / over_level)
    # The regression's errors were made ahead of their periods; those of the trees on what they learned would be too small.
    recent = told.period >= until - settings.judged_periods
    promoted = features.is_promoted[told.series, told.period]
    ratio = np.exp(over)
    factors = np.ones((2, 2))
    for state in (0, 1):
        at = recent & (promoted == state)
        if at.any():
            factors[0, state] = _weighted_median(ratio[at], np.ones(int(at.sum())))
            factors[1, state] = _weighted_median(ratio[at], 1.0 / ratio[at])
    return Priced(models, by_percentage, cuts, factors[0], factors[1], settings.trust_ratio, len(over))


def _weighted_median(values: Floats, weight: Floats) -> float:
    """Where half of the weight lies below. With 1/value as weight it minimises the mean absolute percentage error."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _mean(values: Floats, weight: Floats, otherwise: float = np.nan) -> Floats:
    total = weight.sum(axis=1)
    return np.where(
        total > 0, (np.nan_to_num(values) * weight).sum(axis=1) / np.where(total > 0, total, 1.0), otherwise
    )


def _shrunk(values: Floats, weight: Floats, prior: Floats) -> Floats:
    total = (np.nan_to_num(values) * weight).sum(axis=1) + ALIKE_PENALTY * prior
    return np.asarray(total / (weight.sum(axis=1) + ALIKE_PENALTY))


def _of_group(values: Floats, weight: Floats, codes: Ints) -> Floats:
    """Weighted mean over all periods of all series of the group, 0 where it has none."""
    total = np.bincount(codes, (np.nan_to_num(values) * weight).sum(axis=1))
    return np.asarray((total / np.maximum(np.bincount(codes, weight.sum(axis=1)), 1e-9))[codes])


def _near(values: Floats, cutoff: int, target: int, width: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((values[:, :cutoff] - values[:, target : target + 1]) / width) ** 2))


def _lag(values: Floats, periods: int) -> Floats:
    return values[:, -periods] if values.shape[1] >= periods else np.full(values.shape[0], np.nan)
