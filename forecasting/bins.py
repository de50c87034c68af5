"""Feature values as the numbers of their bins, before scikit-learn's trees see them.

`HistGradientBoostingRegressor` cuts values into bins itself, but version 1.9 sorts all rows again for each bin when rows
have weights, which took 85 % of the whole learning. It takes values of few kinds as they are.

>>> rows = np.array([[1.0, np.nan], [2.0, np.nan], [9.0, np.nan]])
>>> binned(rows, cut_points(rows)).tolist()
[[1.0, 0.0], [2.0, 0.0], [2.0, 0.0]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecasting.arrays import Floats

BINS, EDGE_ROWS = 250, 20_000


def cut_points(rows: Floats) -> tuple[Floats, ...]:
    """Where each column is cut into bins of about as many rows; from every n-th row where there are many."""
    every = max(1, rows.shape[0] // EDGE_ROWS)
    found = []
    for column in rows[::every].T:
        seen = np.sort(column[~np.isnan(column)])
        at = np.linspace(0, max(0, seen.size - 1), BINS + 1)[1:-1].astype(np.int64)
        found.append(np.unique(seen[at]) if seen.size else seen)
    return tuple(found)


def binned(rows: Floats, edges: tuple[Floats, ...]) -> NDArray[np.float32]:
    """Number of the bin of each value; NaN where there is none, 0 throughout where the whole column said nothing."""
    out = np.empty(rows.shape, dtype=np.float32)
    for i, cuts in enumerate(edges):
        column = rows[:, i]
        out[:, i] = np.searchsorted(cuts, column, side="right")
        out[np.isnan(column), i] = np.nan if cuts.size else 0.0
    return out
