"""The published plan as the pages show it: read once per generation and language, kept as frames, never as connections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

STALE_AFTER = timedelta(hours=30)
SOON = timedelta(days=7)
STATUSES = ("out", "now", "soon", "later", "cut", "enough")


@dataclass(frozen=True)
class Published:
    """Every suggestion of the live generation, and how fresh it is."""

    as_of_date: date
    published_at: datetime
    rows: pl.DataFrame
    aim: str  # what they are for, in a sentence


def published_plan(warehouse_dir: Path, language: str) -> Published | None:
    """The plan of the live generation; None when nothing was published yet.

    Its rows are those of `pipelines.plan.suggestions`, the most urgent first, with a `status` (see `most_urgent_first`).
    """
    from pipelines.warehouse.publish import live_generation

    generation = live_generation(warehouse_dir)
    if generation is None:
        return None
    return _read(str(generation), str(warehouse_dir), language)


# One entry per generation and language: a new generation is another key, so nothing here grows stale. Not Streamlit's
# cache: it copies the frame for every reader, and Polars frames do not change.
@lru_cache(maxsize=4)
def _read(_generation: str, warehouse_dir: str, language: str) -> Published:
    from pipelines.plan import aim, suggestions

    plan = suggestions(Path(warehouse_dir), language=language, only_to_buy=False)
    as_of = plan.publication.as_of_date
    rows = most_urgent_first(plan.rows, as_of)
    said = aim(Path(warehouse_dir), language=language)
    return Published(as_of, plan.publication.published_at, rows, said)


def most_urgent_first(rows: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """The order in which a planner looks at suggestions, on the desk and on the command line, and why.

    Args:
        rows: Of `pipelines.plan.suggestions`.
        as_of: The day the plan knows.

    Returns:
        The rows with a `status`: `out` (nothing free on the shelf, and some is to be ordered), `now` (the day to order has
        come; of places that send for each other, of them all), `soon` (it comes within a week), `later`, `cut` (wanted, but
        no budget left for it), `enough` (nothing to order). Sorted by status, then by the day to order, then the most money
        first.
    """
    shelf_is_empty = pl.col("on_hand_qty").is_not_null() & (pl.col("on_hand_qty") <= pl.col("reserved_qty"))
    is_cut = pl.col("reason_codes").list.contains("budget_cut")
    status = (
        pl.when((pl.col("suggested_qty") == 0) & ~is_cut)
        .then(pl.lit("enough"))
        .when(pl.col("suggested_qty") == 0)
        .then(pl.lit("cut"))
        .when(shelf_is_empty)
        .then(pl.lit("out"))
        .when(pl.col("order_by_date") <= as_of)
        .then(pl.lit("now"))
        .when(pl.col("order_by_date") <= as_of + SOON)
        .then(pl.lit("soon"))
        .otherwise(pl.lit("later"))
        .alias("status")
    )
    return rows.with_columns(status).sort(
        pl.col("status").replace_strict({name: i for i, name in enumerate(STATUSES)}),
        "order_by_date",
        pl.col("order_value_cents").fill_null(0) * -1,
        nulls_last=True,
        maintain_order=True,
    )


def product(warehouse_dir: Path, sku: str, location_code: str, language: str) -> Any:
    """One SKU at one location: `pipelines.plan.ProductPlan`, or None when nothing was published yet."""
    from pipelines.warehouse.publish import live_generation

    generation = live_generation(warehouse_dir)
    if generation is None:
        return None
    return _read_product(str(generation), str(warehouse_dir), sku, location_code, language)


@lru_cache(maxsize=64)
def _read_product(_generation: str, warehouse_dir: str, sku: str, location_code: str, language: str) -> Any:
    from pipelines.plan import product_plan

    return product_plan(Path(warehouse_dir), sku, location_code, language=language)


def override_value(warehouse_dir: Path, *, by: tuple[str, ...]) -> pl.DataFrame:
    """What overrides were worth so far, per author and so on; no rows when nothing was published or none has known days."""
    from pipelines.warehouse.publish import live_generation

    generation = live_generation(warehouse_dir)
    return pl.DataFrame() if generation is None else _read_value(str(generation), str(warehouse_dir), by)


@lru_cache(maxsize=4)
def _read_value(_generation: str, warehouse_dir: str, by: tuple[str, ...]) -> pl.DataFrame:
    from pipelines.plan import override_value as read
    from pipelines.plan import value_by

    return value_by(read(Path(warehouse_dir)).rows, *by)


def published_policy(warehouse_dir: Path) -> Any:
    """`pipelines.policy.Policy` of the live generation; None when nothing was published yet."""
    from pipelines.warehouse.publish import live_generation

    generation = live_generation(warehouse_dir)
    return None if generation is None else _read_policy(str(generation), str(warehouse_dir))


@lru_cache(maxsize=2)
def _read_policy(_generation: str, warehouse_dir: str) -> Any:
    from pipelines.policy import policy

    return policy(Path(warehouse_dir))


def projected_stock(totals: pl.DataFrame, position_qty: int) -> pl.DataFrame:
    """What is left of the inventory position on each day ahead when nothing more is ordered.

    Args:
        totals: Demand from tomorrow through each day: demand_date, mean_qty and its quantiles q05_qty … q95_qty.
        position_qty: On hand not reserved, plus on order, less backordered, in units.

    Returns:
        One row per day: demand_date, mean_qty, and the fan low_90_qty, low_80_qty, low_50_qty, high_50_qty, high_80_qty,
        high_90_qty. High demand leaves little, so the fan's low edge comes from the demand's high quantiles.
    """
    left = {
        "mean_qty": "mean_qty",
        "low_90_qty": "q95_qty",
        "low_80_qty": "q90_qty",
        "low_50_qty": "q75_qty",
        "high_50_qty": "q25_qty",
        "high_80_qty": "q10_qty",
        "high_90_qty": "q05_qty",
    }
    return totals.select("demand_date", *((position_qty - pl.col(used)).alias(name) for name, used in left.items()))
