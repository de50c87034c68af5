"""Which model a series gets, and how far to trust it.

Choice. Every candidate's weekly squared error over all folds is compared with that of the class default
(`models.default_model`); another model, simple rules included, is taken when its root mean squared error is at least
30 % lower. The margin is measured: on UCI Online Retail (six dates, 750 products, 28 days) taking the best of twelve
models of six folds gave an error of 0.58 of demand, with a margin of 20 % 0.56, of 30 % 0.55, the default alone 0.54:
six folds are few, and the winner of many is mostly lucky. Squared errors chose better than absolute ones, weekly
errors better than those of the total.

Honest error. What is reported for the choice is not the error it was chosen by: each fold is judged with the model
that the other folds choose. The error is that of the total over the backtest horizon, because that is what is ordered
for.

Trust grade, from `wape_ratio` (that error / demand) and `skill_ratio` (1 − error / error of the better simple rule,
which is the 4-week mean or the seasonal naive of last week or last year, picked in hindsight):

    A   error at most 30 % of demand and not worse than the simple rule: may be approved in bulk
    B   at most 50 %, and not more than 5 % worse than the simple rule: in bulk, after a look at the large ones
    C   at most 100 %, and not more than 25 % worse: look before approving
    D   anything else, fewer than three folds, or no demand in them: don't rely on it; min/max for cheap products

On the same data the 28 days that followed had an error of 0.38 of demand for A, 0.39 for B, 0.64 for C, 0.62 for D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.arrays import Floats
from forecasting.backtest import Backtest
from forecasting.metrics import naive_scale
from forecasting.models import MODEL_NAMES, SIMPLE_RULES, learning_start

MARGIN = 0.30
MIN_FOLDS = 3


@dataclass(frozen=True)
class Choice:
    """What was decided for one series.

    Attributes:
        model: Chosen model.
        folds: Folds that could be used; below `MIN_FOLDS` the model is the default of its class.
        error: Weekly root mean squared error of the chosen model over the folds, units.
        alternatives: The same of every candidate, best first.
        wape_ratio, rmsse, bias_units: Honest error of choosing like this; NaN without folds.
        baseline_model, baseline_wape_ratio, baseline_error: The better simple rule, and its errors (of totals; weekly,
            as `error`).
        skill_ratio: 1 − wape_ratio / baseline_wape_ratio; 0 when both are exact.
        grade: A–D.
    """

    model: str
    folds: int
    error: float
    alternatives: dict[str, float]
    wape_ratio: float
    rmsse: float
    bias_units: float
    baseline_model: str
    baseline_wape_ratio: float
    baseline_error: float
    skill_ratio: float
    grade: str


def choose(result: Backtest, *, series: int, names: Sequence[str], default: str, weeks: Floats) -> Choice:
    """Choose a model for one series of a backtest and grade it.

    Args:
        result: The backtest.
        series: Its index in it.
        names: Candidates.
        default: One of them: what its class gets, see `learned.Learned.default`.
        weeks: All its weekly demand, as the backtest was given it: what was known at the oldest fold scales RMSSE.
    """
    at = [MODEL_NAMES.index(name) for name in names]
    forecasts = result.forecasts[:, series]  # fold × model × week
    is_open = ~result.is_masked[:, series]
    usable = np.flatnonzero(np.isfinite(forecasts[:, MODEL_NAMES.index(default), 0]) & is_open.any(axis=1))
    nan = float("nan")
    if usable.size < MIN_FOLDS:
        return Choice(default, int(usable.size), nan, {}, nan, nan, nan, "", nan, nan, nan, "D")

    weight = is_open[usable].astype(np.float64)  # fold × week
    actual = result.actuals[usable, series] * weight
    ahead = forecasts[usable] * weight[:, None, :]  # fold × model × week
    squared = ((ahead - actual[:, None, :]) ** 2).sum(axis=2)  # fold × model; NaN where the model has no forecast
    compared = weight.sum(axis=1)
    errors = _rmse(squared[:, at], compared)
    picked = _pick(errors, names, default)
    # each fold judged by the choice of the others
    honest = [
        at[_pick(_rmse(np.delete(squared[:, at], k, axis=0), np.delete(compared, k)), names, default)]
        for k in range(usable.size)
    ]
    judged = ahead[np.arange(usable.size), honest]
    totals, made = actual.sum(axis=1), judged.sum(axis=1)
    demand = float(totals.sum())
    wape = _wape(float(np.abs(made - totals).sum()), demand)
    baseline, baseline_wape = _better_simple_rule(ahead, totals)
    baseline_error = float(_rmse(squared, compared)[MODEL_NAMES.index(baseline)]) if baseline else nan
    skill = _skill(wape, baseline_wape)
    past = weeks[: result.cutoffs[usable[-1]]]
    scale = naive_scale(past[learning_start(past) :])
    ranked = sorted((float(e), n) for e, n in zip(errors, names, strict=True) if np.isfinite(e))
    return Choice(
        model=names[picked],
        folds=int(usable.size),
        error=float(errors[picked]),
        alternatives={name: round(error, 4) for error, name in ranked},
        wape_ratio=wape,
        rmsse=float(np.sqrt(((judged - actual) ** 2).sum() / compared.sum())) / scale,
        bias_units=float((judged - actual).sum() / compared.sum()),
        baseline_model=baseline,
        baseline_wape_ratio=baseline_wape,
        baseline_error=baseline_error,
        skill_ratio=skill,
        grade=trust_grade(wape_ratio=wape, skill_ratio=skill),
    )


def _rmse(squared: Floats, compared: Floats) -> Floats:
    # a model that lacks a fold is not compared on the others alone: the missing one may be the hard one
    total: Floats = np.sqrt(squared.sum(axis=0) / compared.sum())
    return np.where(np.isnan(total), np.inf, total)


def _pick(errors: Floats, names: Sequence[str], default: str) -> int:
    """Index of the candidate to use: the default unless another is better by `MARGIN`."""
    home = list(names).index(default)
    best = int(np.argmin(errors))
    return best if errors[best] < (1 - MARGIN) * errors[home] else home


def _better_simple_rule(ahead: Floats, totals: Floats) -> tuple[str, float]:
    found = []
    for rank, name in enumerate(SIMPLE_RULES):
        made = ahead[:, MODEL_NAMES.index(name)].sum(axis=1)
        if np.isfinite(made).all():
            found.append((float(np.abs(made - totals).sum()), rank, name))
    if not found:
        return "", float("nan")
    error, _, name = min(found)
    return name, _wape(error, float(totals.sum()))


def _wape(error: float, demand: float) -> float:
    return error / demand if demand > 0 else float("nan")


def _skill(error: float, baseline: float) -> float:
    if np.isnan(error) or np.isnan(baseline):
        return float("nan")
    if baseline <= 1e-9:
        return 0.0 if error <= 1e-9 else float("-inf")
    return 1 - error / baseline


def trust_grade(*, wape_ratio: float, skill_ratio: float) -> str:
    """A, B, C or D as the module's text says; NaN (nothing to judge by) is D."""
    for grade, most_error, least_skill in (("A", 0.30, 0.0), ("B", 0.50, -0.05), ("C", 1.00, -0.25)):
        if wape_ratio <= most_error and skill_ratio >= least_skill:
            return grade
    return "D"
