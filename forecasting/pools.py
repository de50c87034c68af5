"""Places that serve each other: an order goes out from where there is stock, so they need one safety stock together.

Demand by place is then what each place *sent*: a place that runs out sends nothing, and its neighbours more. Two things
follow. What is ordered is found for all places of a pool together, from the forecast of their summed demand, and then
shared out (`forecasting.replenishment`): the spread of a sum is smaller than the sum of the spreads, by the square root of
the number of equal places where they are independent (Eppen 1979, "Effects of centralization on expected costs in a
multi-location newsboy problem", Management Science 25). And demand went unrecorded only where the whole pool was out.

`pools` is a frame: unique_id, pool_id. A series without a pool_id, or alone in its pool, stands for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.frames import Frame, one_row_each, text_column, to_polars

CARRIED_DAYS = 182  # a place is part of its pool on days of its history and until so long after each


def read_pools(pools: Frame) -> pl.DataFrame:
    """unique_id, pool_id of the series that share a pool with another, sorted."""
    frame = one_row_each(pools, name="pools", needs=("pool_id",))
    frame = frame.select("unique_id", text_column(frame, "pool_id")).drop_nulls()
    return frame.filter(pl.len().over("pool_id") > 1).sort("unique_id")


def pooled_history(history: Frame, pools: Frame, *, ignored: pl.DataFrame | None = None) -> pl.DataFrame:
    """The summed demand of each pool, as `plan_demand` takes it: unique_id (the pool_id), ds, y, is_censored.

    A day is censored when every place that was part of the pool had a day without stock, and when a planner set a place's
    day aside (`ignored`: unique_id, ds): what the others sold is not all of it then.
    """
    rows = _rows(history, pools)
    out = _is_out(rows)
    if ignored is not None and ignored.height:
        aside = rows.join(ignored, on=["unique_id", "ds"], how="semi").select("pool_id", "ds").unique()
        out = out.join(aside.with_columns(is_aside=pl.lit(True)), on=["pool_id", "ds"], how="left").select(
            "pool_id", "ds", is_censored=pl.when("is_aside").then(True).otherwise("is_censored")
        )
    summed = rows.group_by("pool_id", "ds").agg(pl.col("y").clip(0).sum())
    return summed.join(out, on=["pool_id", "ds"], how="left").rename({"pool_id": "unique_id"}).sort("unique_id", "ds")


def with_pooled_stock_outs(history: Frame, pools: Frame) -> pl.DataFrame:
    """`history` as it came, a day without stock counted as one only where no other place of the pool had stock either."""
    table = to_polars(history, name="history", needs=("unique_id", "ds", "y", "is_censored"))
    rows = _rows(history, pools)
    out = rows.join(_is_out(rows), on=["pool_id", "ds"], how="left", suffix="_together")
    out = out.select("unique_id", "ds", "is_censored_together").unique(["unique_id", "ds"])
    together = pl.col("is_censored_together")
    return (
        table.join(out, on=["unique_id", "ds"], how="left", maintain_order="left")
        .with_columns(is_censored=pl.when(together.is_null()).then("is_censored").otherwise(together))
        .drop("is_censored_together")
    )


def with_pools(
    history: Frame, items: Frame | None, pools: Frame, *, ignored: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """`history` and `items` with a series more for each pool, so that places and pools learn from each other."""
    own = to_polars(history, name="history", needs=("unique_id", "ds", "y"))
    summed = pooled_history(own, pools, ignored=ignored)
    if not summed.height:
        return own, None if items is None else to_polars(items, name="items", needs=("unique_id",))
    if "is_censored" not in own.columns:
        own = own.with_columns(is_censored=pl.lit(None, dtype=pl.Boolean))
    own = own.select("unique_id", "ds", "y", "is_censored")
    everything = pl.concat([own, summed.cast(own.schema)])
    if items is None:
        return everything, None
    about = to_polars(items, name="items", needs=("unique_id",))
    return everything, pl.concat([about, pooled_items(about, pools)], how="diagonal")


def pooled_items(items: Frame, pools: Frame) -> pl.DataFrame:
    """What is known of the things of each pool: of its first series, but for the place; it ends when the last one does.

    It is a product of its own: its places are not compared with their sum.
    """
    table = one_row_each(items, name="items")
    known = read_pools(pools).join(table, on="unique_id", how="inner", maintain_order="left")
    own = [name for name in table.columns if name not in ("unique_id", "location")]
    found = {name: pl.col(name).first() for name in own}
    if "end_date" in own:
        found["end_date"] = pl.when(pl.col("end_date").is_not_null().all()).then(pl.col("end_date").max())
    if "prior_daily_qty" in own:
        found["prior_daily_qty"] = pl.col("prior_daily_qty").sum()
    if "product" in own:
        found["product"] = pl.col("pool_id").first()
    return known.group_by("pool_id", maintain_order=True).agg(**found).rename({"pool_id": "unique_id"})


def share_out(qty: int, weights: Sequence[float] | Floats) -> list[int]:
    """`qty` whole units by weight, adding up to it: the largest remainders are rounded up. Equal shares without weights.

    >>> share_out(10, [3, 2, 1]), share_out(-2, [1, 1, 1]), share_out(3, [0, 0])
    ([5, 3, 2], [-1, -1, 0], [2, 1])
    """
    parts = np.asarray(weights, dtype=np.float64)
    if not parts.sum() > 0:
        parts = np.ones(parts.size)
    exact = abs(qty) * parts / parts.sum()
    whole = np.floor(exact + 1e-9).astype(np.int64)
    nearest = np.argsort(-np.round(exact - whole, 9), kind="stable")  # of equal remainders the first
    whole[nearest[: abs(qty) - int(whole.sum())]] += 1
    return [int(part) if qty >= 0 else -int(part) for part in whole]


def _rows(history: Frame, pools: Frame) -> pl.DataFrame:
    table = to_polars(history, name="history", needs=("unique_id", "ds", "y"), may_have=("is_censored",))
    censored = pl.col("is_censored") if "is_censored" in table.columns else pl.lit(None)
    table = table.select(
        text_column(table, "unique_id"),
        pl.col("ds").cast(pl.Date, strict=False),
        pl.col("y").cast(pl.Float64, strict=False),
        censored.cast(pl.Boolean).alias("is_censored"),
    )
    table = table.filter(pl.col("ds").is_not_null() & pl.col("y").is_finite())
    return table.join(read_pools(pools), on="unique_id", how="inner")


def _is_out(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per pool and day of it: whether all its places were out; NULL where no place records its stock."""
    days = rows.group_by("pool_id", "ds").agg(
        out=pl.col("unique_id").filter(pl.col("is_censored")).n_unique(),
        is_told=pl.col("is_censored").is_not_null().any(),
    )
    places = rows.select("pool_id", "unique_id").unique()
    there = (
        days.join(places, on="pool_id")
        .sort("ds")
        .join_asof(
            rows.select("pool_id", "unique_id", "ds", last="ds").sort("ds"),
            on="ds",
            by=["pool_id", "unique_id"],
            tolerance=timedelta(days=CARRIED_DAYS),
            check_sortedness=False,
        )
        .group_by("pool_id", "ds")
        .agg(places=pl.col("last").count())
    )
    return days.join(there, on=["pool_id", "ds"]).select(
        "pool_id", "ds", is_censored=pl.when("is_told").then(pl.col("out") >= pl.col("places"))
    )
