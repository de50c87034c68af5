"""Many series on one calendar, as arrays: what global models learn from.

>>> import numpy as np
>>> from datetime import date
>>> panel = Panel(ids=("A@HEL", "B@HEL"), start=date(2026, 1, 5), y=np.array([[3.0, np.nan, 2.0], [0.0, 1.0, 0.0]]),
...               attributes={"location": np.array([0, 0])})
>>> panel.periods, panel.season_length, panel.season_position(np.array([0, 1])).tolist()
(3, 53, [1, 2])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from forecasting.arrays import Floats, Ints
from forecasting.errors import BadFrame


@dataclass(frozen=True)
class Panel:
    """Demand of many series by period, all on one calendar, with what is known of them.

    Attributes:
        ids: unique_id per row of the arrays.
        start: First day of the first period.
        y: series × period, units; NaN where demand is not known (out of stock, not on sale yet). Zero is knowledge.
        attributes: Name -> group code (0, 1, …) per series: product, category, location, channel.
        known: Name -> series × (period + periods ahead): what is known in advance, such as price or promotion.
        period_days: 7 for weeks. Months are 0: `start` is the first of a month.
    """

    ids: tuple[str, ...]
    start: date
    y: Floats
    attributes: Mapping[str, Ints] = field(default_factory=dict)
    known: Mapping[str, Floats] = field(default_factory=dict)
    period_days: int = 7

    def __post_init__(self) -> None:
        series = len(self.ids)
        if self.y.ndim != 2 or self.y.shape[0] != series:
            raise BadFrame(f"y must be series × period with {series} series, it is {self.y.shape}")
        for name, codes in self.attributes.items():
            if codes.shape != (series,) or (series and codes.min() < 0):
                raise BadFrame(
                    f"attribute {name} must be one code from 0 up per series ({series}), it is {codes.shape}"
                )
        for name, values in self.known.items():
            if values.ndim != 2 or values.shape[0] != series or values.shape[1] < self.periods:
                raise BadFrame(
                    f"{name} must be known for {series} series and at least {self.periods} periods, it is {values.shape}"
                )

    @property
    def periods(self) -> int:
        """Periods of demand."""
        return int(self.y.shape[1])

    @property
    def season_length(self) -> int:
        """How many positions a year has: 53 ISO weeks, or 12 months."""
        return 53 if self.period_days else 12

    def season_position(self, periods: Ints) -> Ints:
        """Position in the year (ISO week − 1, or month − 1) of each period; periods beyond the last count on."""
        if not self.period_days:
            return np.asarray((self.start.month - 1 + periods) % 12, dtype=np.int64)
        days = (self.start + timedelta(days=self.period_days * int(p)) for p in periods)
        return np.array([day.isocalendar()[1] - 1 for day in days], dtype=np.int64)

    def until(self, cutoff: int) -> Panel:
        """The same panel as it was before period `cutoff`; what is known in advance stays."""
        return Panel(self.ids, self.start, self.y[:, :cutoff], self.attributes, self.known, self.period_days)


def attribute_codes(values: pl.Series) -> Ints:
    """Group codes of a column, in the order of its sorted values; missing values are a group of their own."""
    text = values.cast(pl.String).fill_null("")
    return text.rank("dense").to_numpy().astype(np.int64) - 1


LARGEST_JUMP = 10.0


def plausible(y: Floats) -> Floats:
    """`y` without typing mistakes: no period above `LARGEST_JUMP` times the larger of the series' own mean so far and the
    upper tenth of what all series sold in a period so far.

    Period by period, so nothing later decides about it. A barcode in the quantity column would otherwise be the total.
    """
    out = y.copy()
    total, count = np.zeros(y.shape[0]), np.zeros(y.shape[0])
    upper_tenth = 0.0
    for t in range(y.shape[1]):
        sold = out[out[:, t] > 0, t]
        if sold.size:
            upper_tenth = max(upper_tenth, float(np.quantile(sold, 0.9)))
        limit = LARGEST_JUMP * np.maximum(upper_tenth, total / np.maximum(count, 1.0))
        out[:, t] = np.minimum(out[:, t], limit)  # NaN stays
        seen = ~np.isnan(out[:, t])
        total[seen] += out[seen, t]
        count += seen
    return out
