"""Totals of products, categories, locations, channels and of everything, that agree with each other at every level.

Series are the finest things (product at a place). A level is a list of columns; its keys are the combinations of their
values, and every series belongs to one key of each level; no columns is the grand total.

>>> import numpy as np
>>> import polars as pl
>>> series = pl.DataFrame({"unique_id": ["A@HEL", "A@TKU", "B@HEL"], "category": ["tea", "tea", "ware"],
...                        "location": ["HEL", "TKU", "HEL"]})
>>> tree = hierarchy(series, levels=[[], ["category"], ["location"]])
>>> tree.sums(np.array([3.0, 2.0, 5.0])).tolist()  # total, tea, ware, HEL, TKU
[10.0, 5.0, 5.0, 8.0, 2.0]
>>> tree.frame(np.array([[3.0], [2.0], [5.0]]), names=["week 1"]).row(1, named=True)
{'level': 'category', 'key': 'tea', 'ds': 'week 1', 'mean': 5.0}

Means are kept in millionths of a unit and added as whole numbers: what is printed adds up to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.linalg import spsolve

from forecasting.arrays import Floats
from forecasting.errors import BadFrame, BadSetting
from forecasting.frames import Frame, text_column, to_polars
from forecasting.metrics import quantile_column

TOTAL, SERIES = "total", "series"  # names of the level without columns, and of the series themselves
STEPS_PER_UNIT = 1_000_000
CLIP_ROUNDS = 20


@dataclass(frozen=True)
class Hierarchy:
    """Which series add up to what.

    Attributes:
        ids: unique_id of each series, in the order of every array.
        keys: One row per aggregate, in the order of `sums`: level (column names joined by ``/``), key (values joined by
            ``/``; empty for the total), series (how many it adds).
        matrix: aggregate × series, sparse, 1 where the series belongs to it (the rows of S above the series themselves
            in Wickramasuriya et al. 2019).
    """

    ids: tuple[str, ...]
    keys: pl.DataFrame
    matrix: Any

    def sums(self, values: Floats) -> Floats:
        """Aggregates of values whose first axis is the series."""
        flat = np.asarray(self.matrix @ values.reshape(len(self.ids), -1))
        return flat.reshape(self.matrix.shape[0], *values.shape[1:])

    def frame(
        self,
        mean: Floats,
        *,
        names: Sequence[object],
        paths: Floats | None = None,
        levels: Sequence[float] = (),
    ) -> pl.DataFrame:
        """A long frame of all levels and of the series themselves.

        Args:
            mean: series × step, units, not negative.
            names: Value of ``ds`` for each step (a date, or the text of a period).
            paths: series × path × step: possible futures, path n of all series happening together.
            levels: Quantiles wanted of the paths' sums, e.g. 0.9 for a column q90.

        Returns:
            level, key, ds, mean and the quantiles. In each step the means of the series of a key add up to its mean
            exactly. Quantiles don't add up, and should not: not everything goes well on the same day.

        Raises:
            BadFrame: Shapes don't fit, or a mean is not a number.
        """
        if mean.shape != (len(self.ids), len(names)):
            raise BadFrame(f"mean must be {len(self.ids)} series × {len(names)} steps, it is {mean.shape}")
        if not np.isfinite(mean).all():
            raise BadFrame(f"{int((~np.isfinite(mean)).any(axis=1).sum())} series have a mean that is not a number")
        whole = np.rint(mean * STEPS_PER_UNIT).astype(np.int64)
        units = np.concatenate([self.matrix.astype(np.int64) @ whole, whole])
        nodes = pl.concat(
            [
                self.keys.select("level", "key"),
                pl.DataFrame({"key": self.ids}, schema={"key": pl.String}).select(pl.lit(SERIES).alias("level"), "key"),
            ]
        )
        columns: dict[str, Floats] = {"mean": units / STEPS_PER_UNIT}
        if levels:
            if paths is None or paths.shape[0] != len(self.ids) or paths.shape[2] != len(names):
                raise BadFrame(f"quantiles need paths of {len(self.ids)} series × path × {len(names)} steps")
            spread = np.quantile(np.concatenate([self.sums(paths), paths]), levels, axis=1)
            columns |= {quantile_column(q): spread[i] for i, q in enumerate(levels)}
        row, step = np.indices(units.shape).reshape(2, -1)
        out: pl.DataFrame = nodes[row.tolist()].with_columns(
            pl.Series("ds", list(names)).gather(step.tolist()),
            *(pl.Series(name, values.ravel()) for name, values in columns.items()),
        )
        return out


def hierarchy(series: Frame, *, levels: Sequence[Sequence[str]], ids: Sequence[str] | None = None) -> Hierarchy:
    """The hierarchy of some series.

    Args:
        series: One row per unique_id with the columns that `levels` name; a missing value is a key of its own (``-``).
        levels: Column names per level, ``[]`` for the grand total.
        ids: Order of the series in arrays; as in the frame where not given.

    Raises:
        BadFrame: A series has no row, or two.
    """
    columns = list(dict.fromkeys(c for level in levels for c in level))
    given = to_polars(series, name="series", needs=("unique_id", *columns))
    about = given.select(text_column(given, "unique_id"), *(pl.col(c).cast(pl.String).fill_null("-") for c in columns))
    if about["unique_id"].n_unique() != about.height or about["unique_id"].null_count():
        raise BadFrame("series must have one row per unique_id, and none without")
    order = list(ids) if ids is not None else about["unique_id"].to_list()
    wanted = pl.DataFrame({"unique_id": order}, schema={"unique_id": pl.String})
    lost = wanted.join(about, on="unique_id", how="anti")
    if lost.height:
        raise BadFrame(f"{lost.height} series have no row that says where they belong, first {lost['unique_id'][0]}")
    about = wanted.join(about, on="unique_id", how="left", maintain_order="left")
    found, blocks = [], []
    for level in levels:
        key = (
            about.select(pl.concat_str(level, separator="/").alias("key"))["key"]
            if level
            else pl.Series([""] * len(order), dtype=pl.String)
        )
        names = key.unique().sort()
        code = key.to_frame("key").join(
            names.to_frame("key").with_row_index(), on="key", how="left", maintain_order="left"
        )["index"]
        belongs = (np.ones(len(order)), (code.to_numpy(), np.arange(len(order))))
        block = sparse.csr_matrix(belongs, shape=(names.len(), len(order)))
        blocks.append(block)
        count = np.asarray(block.sum(axis=1)).ravel().astype(np.int64)
        found.append(pl.DataFrame({"level": ["/".join(level) or TOTAL] * names.len(), "key": names, "series": count}))
    empty = pl.DataFrame(schema={"level": pl.String, "key": pl.String, "series": pl.Int64})
    matrix = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, len(order)))
    return Hierarchy(tuple(order), pl.concat([empty, *found]), matrix)


def aggregate(frame: Frame, *, levels: Sequence[Sequence[str]], value: str = "y") -> pl.DataFrame:
    """Sums of a long frame at every level.

    Args:
        frame: ds, `value`, and the columns `levels` name, one row per series and ds.

    Returns:
        level, key, ds and `value`, sorted. A missing value counts as nothing.
    """
    rows = to_polars(frame, name="frame", needs=("ds", value, *{c for level in levels for c in level}))
    parts = []
    for level in levels:
        key = pl.concat_str([pl.col(c).cast(pl.String).fill_null("-") for c in level], separator="/")
        labelled = rows.select((key if level else pl.lit("")).alias("key"), "ds", value)
        summed = labelled.group_by("key", "ds").agg(pl.col(value).sum()).sort("key", "ds")
        parts.append(summed.select(pl.lit("/".join(level) or TOTAL).alias("level"), "key", "ds", value))
    if not parts:
        raise BadSetting("no level was named; use [] for the grand total")
    return pl.concat(parts)


def reconcile(tree: Hierarchy, series_mean: Floats, aggregate_mean: Floats, variance: Floats | None = None) -> Floats:
    """Means of the series that listen to the forecasts made for the aggregates themselves, too.

    The sum of many single forecasts is often worse than one of the total: noise hides a season or a trend that the total
    shows. The result is the nearest coherent forecast, distances weighed by how sure each one is: minimum trace
    reconciliation with a diagonal W, "WLS" (Wickramasuriya, Athanasopoulos & Hyndman 2019, "Optimal forecast
    reconciliation for hierarchical and grouped time series through trace minimization", JASA 114), written as an update
    of the series, so that one system of the aggregates' size is solved:
    b + W_b A' (A W_b A' + W_a)⁻¹ (a − A b).

    A series that would go below zero is held at zero and the others solved again, so the result is never negative and
    still adds up; a series without forecast demand (0) stays there.

    Args:
        tree: Which series add up to what; A is `tree.matrix`.
        series_mean: series × step, units (b).
        aggregate_mean: aggregate × step, units (a); NaN: nothing was forecast for it, it only adds up.
        variance: Of the errors of all aggregates, then of all series, units². Not given: each is as unsure as the number
            of series in it ("structural" WLS).

    Returns:
        series × step. `tree.sums` of it are the coherent aggregates; bottom-up is `tree.sums(series_mean)` itself.

    Raises:
        BadFrame: Shapes don't fit.
        BadSetting: A variance isn't positive.
    """
    aggregates, count = tree.matrix.shape
    if series_mean.shape[0] != count or aggregate_mean.shape != (aggregates, series_mean.shape[1]):
        raise BadFrame(
            f"{count} series and {aggregates} aggregates need forecasts of as many rows and the same steps, "
            f"got {series_mean.shape} and {aggregate_mean.shape}"
        )
    if variance is None:
        variance = np.concatenate([tree.keys["series"].to_numpy(), np.ones(count)]).astype(np.float64)
    if variance.shape != (aggregates + count,) or not (variance > 0).all():
        raise BadSetting(f"variance must be {aggregates + count} positive numbers: aggregates first, then series")
    result = np.maximum(series_mean, 0.0)
    for step in range(series_mean.shape[1]):
        heard = np.flatnonzero(np.isfinite(aggregate_mean[:, step]))
        if heard.size:
            matrix, unsure = tree.matrix[heard], (variance[heard], variance[aggregates:])
            result[:, step] = _nearest(matrix, result[:, step], aggregate_mean[heard, step], *unsure)
    return result


def _nearest(matrix: Any, base: Floats, wanted: Floats, of_aggregates: Floats, of_series: Floats) -> Floats:
    free = base > 0
    base = np.where(free, base, 0.0)
    for _ in range(CLIP_ROUNDS):
        give = sparse.diags_array(np.where(free, of_series, 0.0))
        system = (matrix @ give @ matrix.T + sparse.diags_array(of_aggregates)).tocsc()
        pull = np.atleast_1d(spsolve(system, wanted - matrix @ np.where(free, base, 0.0)))
        found = np.where(free, base + give @ (matrix.T @ pull), 0.0)
        if (found >= 0).all():
            break
        free &= found > 0
    return np.asarray(np.maximum(found, 0.0))


def scaled_paths(paths: Floats, mean: Floats) -> Floats:
    """Paths (series × path × step) stretched so that their mean in each step is `mean` (series × step); where no path
    has demand, all get the mean."""
    own = paths.mean(axis=1)
    stretched = paths * np.where(own > 0, mean / np.where(own > 0, own, 1.0), 0.0)[:, None, :]
    return np.asarray(np.where((own > 0)[:, None, :], stretched, mean[:, None, :]))


def shared_correlation(weeks: Floats, periods: int = 52) -> float:
    """How much series go up and down together, 0–0.95: the mean correlation of their weeks' deviations from their own
    local mean (four weeks on either side).

    Args:
        weeks: series × week, units, NaN where demand isn't known; the newest `periods` are read.
    """
    recent = weeks[:, -periods:]
    known = ~np.isnan(recent)
    value = np.where(known, recent, 0.0)
    kernel = np.ones(9)
    both = (
        [np.apply_along_axis(np.convolve, 1, x, kernel, "same") for x in (value, known.astype(np.float64))]
        if value.size
        else []
    )
    if not both or value.shape[1] < 13:
        return 0.0
    around = both[0] / np.maximum(both[1], 1.0)
    off = np.where(known, value - around, 0.0)
    spread = np.sqrt((off**2).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    alive = spread > 0
    standard = off[alive] / spread[alive, None]
    count = known[alive].sum(axis=0)
    standard, count = standard[:, count > 1], count[count > 1]
    # the mean of n standardised series has variance r + (1 − r) / n
    room = float((1 - 1 / count).sum())
    if not room:
        return 0.0
    return float(np.clip(float(((standard.sum(axis=0) / count) ** 2 - 1 / count).sum()) / room, 0.0, 0.95))


def correlated_paths(paths: Floats, correlation: float, *, seed: int) -> Floats:
    """The same paths of every series in another order, so that high paths of one meet high ones of another.

    Paths of a series keep their values: its own quantiles don't change, those of a sum of series get as wide as
    they should be. The ranks of the paths' totals follow a one-factor normal copula (Iman & Conover 1982, "A
    distribution-free approach to inducing rank correlation among input variables").

    Args:
        paths: series × path × step, units.
        correlation: Between any two series, 0–1; `shared_correlation` estimates it.
        seed: Same seed, same order.
    """
    if not 0 <= correlation <= 1:
        raise BadSetting(f"correlation must be between 0 and 1, got {correlation}")
    rng = np.random.default_rng(seed)
    series, count = paths.shape[:2]
    score = np.sqrt(correlation) * rng.standard_normal(count) + np.sqrt(1 - correlation) * rng.standard_normal(
        (series, count)
    )
    rank = score.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    # equal totals (mostly zeros) in random order, or all series would start with the same paths
    jitter = rng.random((series, count))
    order = np.lexsort((jitter, paths.sum(axis=2)), axis=1)
    return np.asarray(np.take_along_axis(paths, np.take_along_axis(order, rank, axis=1)[:, :, None], axis=1))
