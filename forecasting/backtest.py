"""Rolling-origin backtest in weeks: forecasts as they would have been made at several cutoffs, beside what came.

Every forecast of a fold is made by `models.forecast_weeks` from the weeks before its cutoff and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecasting.arrays import Floats
from forecasting.models import MODEL_NAMES, forecast_weeks, learning_start

MIN_WEEKS = 8  # weeks a fold must have to learn from


@dataclass(frozen=True)
class Backtest:
    """Forecasts of several cutoffs, as arrays.

    Attributes:
        cutoffs: Number of weeks known in each fold, newest first.
        forecasts: fold × series × model × week ahead, units; NaN where a model was not asked or had too little to
            learn from.
        actuals: fold × series × week ahead, units (stock-out days estimated).
        is_masked: fold × series × week ahead: part of the week was out of stock, so its actual is no yardstick.
        failures: Per series: model -> what it said, for the models that failed in some fold.
    """

    cutoffs: tuple[int, ...]
    forecasts: Floats
    actuals: Floats
    is_masked: NDArray[np.bool_]
    failures: dict[int, dict[str, str]]


def fold_cutoffs(weeks: int, *, horizon_weeks: int, folds: int, step_weeks: int) -> tuple[int, ...]:
    """Weeks known in each fold, newest first: the newest leaves just `horizon_weeks` to compare with."""
    newest = weeks - horizon_weeks
    return tuple(c for c in range(newest, newest - folds * step_weeks, -step_weeks) if c >= MIN_WEEKS)


def backtest(
    weeks: Floats,
    is_masked: NDArray[np.bool_],
    *,
    models: Sequence[tuple[str, ...]],
    horizon_weeks: int,
    folds: int = 6,
    step_weeks: int = 2,
    given: Mapping[str, Floats] | None = None,
    events: Floats | None = None,
) -> Backtest:
    """Forecast every series from every cutoff.

    Args:
        weeks: series × week of demand, oldest first, all ending with the same week.
        is_masked: Same shape: weeks with stock-out days.
        models: Names of the models to try, one tuple per series; an empty one skips the series.
        horizon_weeks: Weeks ahead in each fold.
        folds: Most cutoffs to use.
        step_weeks: Weeks between cutoffs.
        given: Forecasts made elsewhere by name: fold × series × week ahead, newest fold first, NaN where there is none; with
            `events`, of ordinary weeks.
        events: What events multiply each week by (series × week), as known at the oldest cutoff: see
            `models.forecast_weeks`.
    """
    series, known = weeks.shape
    cutoffs = fold_cutoffs(known, horizon_weeks=horizon_weeks, folds=folds, step_weeks=step_weeks)
    forecasts = np.full((len(cutoffs), series, len(MODEL_NAMES), horizon_weeks), np.nan)
    at = {name: i for i, name in enumerate(MODEL_NAMES)}
    failures: dict[int, dict[str, str]] = {}
    for fold, cutoff in enumerate(cutoffs):
        for i, names in enumerate(models):
            past = weeks[i, :cutoff]
            if not names or cutoff - learning_start(past) < MIN_WEEKS:
                continue
            told = {name: made[fold, i] for name, made in (given or {}).items() if np.isfinite(made[fold, i, 0])}
            made, failed = forecast_weeks(
                past, horizon_weeks, names, given=told, events=None if events is None else events[i]
            )
            for name, ahead in made.items():
                forecasts[fold, i, at[name]] = ahead
            if failed:
                failures.setdefault(i, {}).update(failed)
    windows = [slice(cutoff, cutoff + horizon_weeks) for cutoff in cutoffs]
    return Backtest(
        cutoffs=cutoffs,
        forecasts=forecasts,
        actuals=np.array([weeks[:, w] for w in windows]).reshape(len(cutoffs), series, horizon_weeks),
        is_masked=np.array([is_masked[:, w] for w in windows], dtype=bool).reshape(len(cutoffs), series, horizon_weeks),
        failures=failures,
    )


BACKTEST = {
    "unique_id": pl.String,
    "cutoff": pl.Date,
    "model": pl.String,
    "ds": pl.Date,
    "y": pl.Float64,
    "mean": pl.Float64,
    "is_masked": pl.Boolean,
}


def backtest_frame(
    result: Backtest, *, ids: Sequence[str], as_of: date, weeks: int, keep: Sequence[tuple[str, ...]]
) -> pl.DataFrame:
    """One row per (unique_id, cutoff, model, ds), `ds` being the last day of the week forecast, for the models in
    `keep`.

    Args:
        result: From `backtest`.
        ids: unique_id of each series of it.
        as_of: Last day of the newest week.
        weeks: Number of weeks the backtest was given.
        keep: Model names wanted, per series.
    """
    wanted = np.zeros((len(ids), len(MODEL_NAMES)), dtype=bool)
    for i, names in enumerate(keep):
        wanted[i, [MODEL_NAMES.index(name) for name in names]] = True
    at_fold, at_series, at_model, ahead = np.nonzero(np.isfinite(result.forecasts) & wanted[None, :, :, None])
    cutoffs = pl.Series([as_of - timedelta(weeks=weeks - c) for c in result.cutoffs], dtype=pl.Date)
    frame = pl.DataFrame(
        {
            "unique_id": pl.Series(ids, dtype=pl.String).gather(at_series),
            "cutoff": cutoffs.gather(at_fold),
            "model": pl.Series(MODEL_NAMES).gather(at_model),
            "week": ahead + 1,
            "y": result.actuals[at_fold, at_series, ahead],
            "mean": result.forecasts[at_fold, at_series, at_model, ahead],
            "is_masked": result.is_masked[at_fold, at_series, ahead],
        }
    )
    return (
        frame.with_columns(ds=pl.col("cutoff") + pl.duration(weeks=pl.col("week")))
        .select(*BACKTEST)
        .sort("unique_id", "cutoff", "model", "ds")
    )
