"""Weekly point forecasts of one series, by name. The models are statsforecast's; what is ours is when each may be used.

Why weeks (measured on UCI Online Retail, 3,000 products, demand of the next 28 days from five dates, January …
August 2011; total absolute error / total demand, and root mean squared error scaled per product): the same model on
weekly sums beats itself on days and takes a tenth of the time, because most products sell on one day in five and a
daily model chases the last big order.

    model                        weekly buckets      days
    mean of the last 4 weeks       0.61  1.20     0.61  1.23
    IMAPA                          0.77  1.08     1.63  2.76
    TSB (0.1)                      1.03  1.17     1.77  2.97
    Theta (500 products)           0.59  0.97     0.77  1.75    1.4 ms / 13 ms a fit
    CES (500 products)             0.71  1.17    13.24  151     1.6 ms / 34 ms a fit

Weeks end on the as-of day, so the newest is never half a week. `paths` spreads weeks to days.

Unusually large weeks are capped before learning (`outlier_cap`): six times the upper quartile of the weeks with
demand. On the same data that lowered the error of every model, e.g. Theta 0.58 -> 0.55, mean of 8 weeks 0.57 -> 0.55.
Actuals are never capped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from statsforecast.models import (
    IMAPA,
    TSB,
    AutoCES,
    CrostonSBA,
    HistoricAverage,
    SeasonalNaive,
    SimpleExponentialSmoothingOptimized,
    WindowAverage,
)

from forecasting.arrays import Floats

OUTLIER_FACTOR = 6.0
OUTLIER_MIN_WEEKS = 5
GAP_WEEKS, GAP_INTERVALS = 26, 6.0
WEEKS_OF_YEAR = 52


class ModelFailed(Exception):
    """A model could not fit this series; the others go on."""


@dataclass(frozen=True)
class Model:
    """One way to forecast weeks.

    Attributes:
        name: As stored and shown.
        forecast: (weeks learned from, horizon) -> one mean per week ahead; may raise or return nonsense.
        min_weeks: Fewest weeks it can learn from.
        sees_old_regime: Gets the weeks before a long gap too, see `learning_start`.
        is_slow: Milliseconds instead of microseconds: only for the series that were picked for it.
    """

    name: str
    forecast: Callable[[Floats, int], Floats]
    min_weeks: int = 1
    sees_old_regime: bool = False
    is_slow: bool = False


def _statsforecast(model: object) -> Callable[[Floats, int], Floats]:
    def forecast(weeks: Floats, horizon: int) -> Floats:
        return np.asarray(model.forecast(y=weeks, h=horizon)["mean"])  # type: ignore[attr-defined]

    return forecast


def _mean_of_last(n: int) -> Callable[[Floats, int], Floats]:
    model = WindowAverage(n)
    short = HistoricAverage()

    def forecast(weeks: Floats, horizon: int) -> Floats:
        return np.asarray((model if weeks.size >= n else short).forecast(y=weeks, h=horizon)["mean"])

    return forecast


def theta(weeks: Floats, horizon: int) -> Floats:
    """The Theta method as what it is: simple exponential smoothing plus half the slope of the straight line through
    the weeks (Hyndman & Billah 2003, "Unmasking the Theta method", IJF 19). 20 µs; statsforecast's own optimiser takes
    1.4 ms for the same."""
    fitted = SimpleExponentialSmoothingOptimized().fit(weeks).model_
    alpha, n = float(fitted["alpha"]), weeks.size
    t = np.arange(n) - (n - 1) / 2
    half_slope = float(t @ weeks) / float(t @ t) / 2
    steps = np.arange(horizon, dtype=np.float64) + (1 - (1 - alpha) ** n) / alpha
    return np.asarray(float(fitted["mean"][0]) + half_slope * steps, dtype=np.float64)


_FITTED = (
    Model("last_week", _statsforecast(SeasonalNaive(1))),  # the weekly seasonal naive: next week like this week
    Model("last_year", _statsforecast(SeasonalNaive(WEEKS_OF_YEAR)), min_weeks=WEEKS_OF_YEAR, sees_old_regime=True),
    Model("mean_4_weeks", _mean_of_last(4)),
    Model("mean_8_weeks", _mean_of_last(8)),
    Model("theta", theta, min_weeks=4),
    Model("croston_sba", _statsforecast(CrostonSBA())),
    Model("tsb", _statsforecast(TSB(0.2, 0.2))),
    Model("imapa", _statsforecast(IMAPA())),
    Model("ces", _statsforecast(AutoCES(season_length=1)), min_weeks=26, is_slow=True),
)
MODELS: dict[str, Model] = {model.name: model for model in _FITTED}

# Learned from all series together (`learned`), so they are given to a series instead of fitted on it.
BOOSTED, POOLED = "boosted", "pooled"
LEARNED = (BOOSTED, POOLED)

# Weighted means, made from forecasts that are there anyway.
COMBINATIONS: dict[str, dict[str, float]] = {
    "theta_and_mean": {"theta": 0.5, "mean_8_weeks": 0.5},
    "tsb_and_imapa": {"tsb": 0.5, "imapa": 0.5},
    "boosted_and_theta": {BOOSTED: 0.5, "theta": 0.25, "mean_8_weeks": 0.25},
    "boosted_and_tsb": {BOOSTED: 0.5, "tsb": 0.25, "imapa": 0.25},
    "boosted_and_pooled": {BOOSTED: 0.5, POOLED: 0.5},
}
MODEL_NAMES: tuple[str, ...] = (*MODELS, *LEARNED, *COMBINATIONS)
SIMPLE_RULES = ("mean_4_weeks", "last_week", "last_year")  # what every forecast is graded against


def default_model(demand_class: str) -> str:
    """What a series of this class gets when its own backtest gives no strong reason for something else.

    Measured as in the module's text: for smooth and erratic products the mean of Theta and 8 weeks (0.44 for products
    that sell every week; Theta alone 0.45, 4-week mean 0.48), for intermittent and lumpy ones TSB with IMAPA (lowest
    squared error; 1 % bias for those that sell every second or third week, where the 8-week mean is 15 % too low).
    """
    return "theta_and_mean" if demand_class in ("smooth", "erratic") else "tsb_and_imapa"


def joined_model(demand_class: str) -> str:
    """Trees joined with what is slower to change: the class's own default, or for demand that comes now and then the
    pooled rates (squared error within 1 % of the best on Online Retail and on spare parts with shops; with TSB 2.5 %)."""
    return "boosted_and_theta" if demand_class in ("smooth", "erratic") else "boosted_and_pooled"


def learned_models(demand_class: str) -> tuple[str, ...]:
    """What may be chosen of what all series taught, with and without the class's own default."""
    if demand_class in ("smooth", "erratic"):
        return (BOOSTED, "boosted_and_theta")
    return (BOOSTED, POOLED, "boosted_and_tsb", "boosted_and_pooled")


def candidates(demand_class: str, adi: float, *, use_slow: bool, use_learned: bool = False) -> tuple[str, ...]:
    """Names of the models that may be chosen for a series; those learned from all where there are any.

    Intermittent demand never follows a season's or last week's single number, and rare demand (a week with demand in
    three or more) only the Croston family.
    """
    alone = _candidates_alone(demand_class, adi, use_slow=use_slow)
    return (*alone, *learned_models(demand_class)) if use_learned else alone


def _candidates_alone(demand_class: str, adi: float, *, use_slow: bool) -> tuple[str, ...]:
    croston = ("croston_sba", "tsb", "imapa", "tsb_and_imapa")
    if demand_class in ("smooth", "erratic"):
        names = ("last_week", "last_year", "mean_4_weeks", "mean_8_weeks", "theta", "tsb", "imapa", "theta_and_mean")
        return (*names, "ces") if use_slow else names
    if adi < 3:
        return ("mean_4_weeks", "mean_8_weeks", *croston)
    return croston


def learning_start(weeks: Floats) -> int:
    """First week to learn from: the first with demand, or the first after a gap that ended a former life.

    A gap is long when it lasts 26 weeks and six times the usual interval between weeks with demand. Everything before
    it belongs to another regime. A Christmas article's summer looks the same, so `last_year` still sees the older
    weeks.
    Returns the number of weeks when there is no demand.
    """
    asked = np.flatnonzero(weeks > 0)
    if not asked.size:
        return int(weeks.size)
    intervals = np.diff(asked)
    if not intervals.size or intervals.max() <= GAP_WEEKS:
        return int(asked[0])
    limit = max(GAP_WEEKS + 1.0, GAP_INTERVALS * float(np.median(intervals)))
    long_gaps = np.flatnonzero(intervals >= limit)
    return int(asked[long_gaps[-1] + 1] if long_gaps.size else asked[0])


def outlier_cap(weeks: Floats) -> float:
    """Largest week that is learned as it is; infinite where there are too few weeks with demand to tell.

    A season that is more than six times as high as the rest of the year is capped as well.
    """
    sizes = np.sort(weeks[weeks > 0])
    if sizes.size < OUTLIER_MIN_WEEKS:
        return float("inf")
    at = 0.75 * (sizes.size - 1)  # np.quantile does the same in ten times the time
    low = int(at)
    upper_quartile = sizes[low] + (at - low) * (sizes[low + 1] - sizes[low])
    return OUTLIER_FACTOR * float(upper_quartile)


def forecast_weeks(
    weeks: Floats,
    horizon: int,
    names: tuple[str, ...],
    *,
    given: Mapping[str, Floats] | None = None,
    events: Floats | None = None,
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Forecasts of one series by each of `names`, from nothing but `weeks` and what is given.

    Args:
        weeks: All weekly demand known, oldest first, units.
        horizon: Weeks ahead.
        names: Models wanted; combinations bring their parts.
        given: Forecasts made elsewhere, by name: mean per week ahead; with `events`, of ordinary weeks.
        events: What events multiply each week by, past and ahead: models learn from demand ÷ factor, and forecasts are
            multiplied by it.

    Returns:
        Mean per week ahead by model, never negative, without the models that have too little to learn from; and what
        the models said that failed.
    """
    if events is not None:
        weeks = weeks / events[: weeks.size]
    start = learning_start(weeks)
    everything = np.minimum(weeks, outlier_cap(weeks))
    regime = np.ascontiguousarray(everything[start:])
    found: dict[str, Floats] = dict(given or {})
    parts = dict.fromkeys(part for name in names for part in COMBINATIONS.get(name, (name,)))
    failed: dict[str, str] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # results are checked one by one; a warning per series would be thousands
        for name in parts:
            if name in found or name in LEARNED:
                continue
            model = MODELS[name]
            learned = everything if model.sees_old_regime else regime
            if learned.size < max(1, model.min_weeks):
                continue
            try:
                found[name] = _checked(model, learned, horizon)
            except ModelFailed as failure:
                failed[name] = str(failure)
    for name in names:
        if name in COMBINATIONS and all(part in found for part in COMBINATIONS[name]):
            weighted = [weight * found[part] for part, weight in COMBINATIONS[name].items()]
            found[name] = np.asarray(sum(weighted[1:], start=weighted[0]), dtype=np.float64)
    lift = 1.0 if events is None else events[weeks.size : weeks.size + horizon]
    return {name: found[name] * lift for name in names if name in found}, failed


def _checked(model: Model, learned: Floats, horizon: int) -> Floats:
    try:
        ahead = np.asarray(model.forecast(learned, horizon), dtype=np.float64)
    except Exception as error:  # a foreign optimiser may raise anything; the series goes on without it
        raise ModelFailed(f"{model.name}: {type(error).__name__}: {error}") from error
    if ahead.shape != (horizon,) or not np.isfinite(ahead).all():
        raise ModelFailed(f"{model.name}: result is not {horizon} finite numbers")
    if ahead.max(initial=0.0) > 10 * max(1.0, float(learned.max(initial=0.0))):
        raise ModelFailed(f"{model.name}: {ahead.max():.0f} a week is more than ten times the largest week so far")
    return np.maximum(ahead, 0.0)
