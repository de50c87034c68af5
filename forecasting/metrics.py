"""How good forecasts were. Error is forecast minus actual. No percentage of single days: those divide by zero.

- ``wape_ratio``: sum of absolute errors / sum of actuals. NaN when there was no demand at all.
- ``rmsse``: root mean squared error / root mean squared week-to-week change of the past (Makridakis et al. 2022, M5;
  Hyndman & Koehler 2006). NaN when the past never changed. Unlike absolute errors it can't be won by forecasting zero.
- ``bias_units``: mean error.
- ``pinball``: mean quantile loss, q (y − f) or (1 − q)(f − y) (Koenker & Bassett 1978), units.
- ``coverage_ratio``: share of actuals at or below the quantile; should be close to q.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.frames import Frame, to_polars


def quantile_column(q: float) -> str:
    """Name of a quantile's column: 0.05 -> q05."""
    return f"q{round(q * 100):02d}"


def point_scores(frame: Frame, *, by: Sequence[str]) -> pl.DataFrame:
    """wape_ratio, bias_units and rmse_units of ``mean`` against ``y`` per group, masked rows (`is_masked`) left out.

    Returns:
        One row per group, sorted by it, with ``n`` the rows compared.
    """
    rows = _compared(frame, needs=("y", "mean", *by))
    error = pl.col("mean") - pl.col("y")
    return (
        rows.group_by(by)
        .agg(
            n=pl.len().cast(pl.Int64),
            wape_ratio=pl.when(pl.col("y").sum() > 0)
            .then(error.abs().sum() / pl.col("y").sum())
            .otherwise(float("nan")),
            bias_units=error.mean(),
            rmse_units=(error**2).mean().sqrt(),
        )
        .sort(by)
    )


def quantile_scores(frame: Frame, *, quantiles: Sequence[float], by: Sequence[str] = ()) -> pl.DataFrame:
    """pinball and coverage_ratio per group and quantile; the columns are named as `quantile_column` says.

    Returns:
        One row per (group, q), sorted.
    """
    rows = _compared(frame, needs=("y", *(quantile_column(q) for q in quantiles), *by))
    parts = []
    for q in quantiles:
        gap = pl.col("y") - pl.col(quantile_column(q))
        scores = (
            pl.lit(q).alias("q"),
            pl.len().cast(pl.Int64).alias("n"),
            pl.max_horizontal(q * gap, (q - 1) * gap).mean().alias("pinball"),
            (gap <= 0).mean().alias("coverage_ratio"),
        )
        parts.append(rows.group_by(by).agg(scores) if by else rows.select(scores))
    return pl.concat(parts).sort([*by, "q"])


def _compared(frame: Frame, *, needs: Sequence[str]) -> pl.DataFrame:
    rows = to_polars(frame, name="frame", needs=needs, may_have=("is_masked",))
    return rows.filter(~pl.col("is_masked")) if "is_masked" in rows.columns else rows


def naive_scale(weeks: Floats) -> float:
    """Root mean squared week-to-week change of the past, the denominator of RMSSE; NaN where it never changed."""
    steps = np.diff(weeks)
    scale = float(np.sqrt(np.mean(steps**2))) if steps.size else 0.0
    return scale if scale > 0 else float("nan")
