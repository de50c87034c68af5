"""Histories in the trade's shorthand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

END = date(2026, 6, 30)


def daily(
    unique_id: str, values: Sequence[float | None], *, end: date = END, censored: Sequence[int] = ()
) -> pl.DataFrame:
    """Demand day by day, the last value on `end`; None leaves the day without a row. `censored`: indexes of stock-out days;
    without any, stock is not recorded."""
    days = [end - timedelta(days=len(values) - 1 - i) for i in range(len(values))]
    rows = [(d, v, i in censored if censored else None) for i, (d, v) in enumerate(zip(days, values, strict=True))]
    return pl.DataFrame(
        {
            "unique_id": [unique_id for _, v, _ in rows if v is not None],
            "ds": [d for d, v, _ in rows if v is not None],
            "y": [float(v) for _, v, _ in rows if v is not None],
            "is_censored": [c for _, v, c in rows if v is not None],
        },
        schema={"unique_id": pl.String, "ds": pl.Date, "y": pl.Float64, "is_censored": pl.Boolean},
    )


def weekly_pattern(weeks: int, *, level: float = 7.0) -> list[float]:
    """Busy Mondays, quiet weekends, and weeks that differ a little, `weeks` of them ending on `END` (a Tuesday)."""
    shape = [0.6, 0.5, 1.0, 0.1, 0.0, 3.0, 1.8]  # the week's first day is a Wednesday
    return [round(level * s * (1 + 0.2 * ((w * 5) % 7 - 3) / 3), 3) for w in range(weeks) for s in shape]
