"""What the planner's page and `dinghuo plan show` read: suggestions with their reasons, and one product's story.

Every function answers from one generation of the warehouse and hands back how fresh it is. Sentences come in the asked
language ("zh" or "en"); codes and numbers are the same in both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.warehouse.read import Publication


@dataclass(frozen=True)
class Plan:
    """A frame and the generation it was read from."""

    publication: Publication
    rows: pl.DataFrame


@dataclass(frozen=True)
class ProductPlan:
    """Everything shown of one SKU at one location.

    Attributes:
        publication: The generation all of it was read from.
        suggestion: The row of `suggestions`, or None when there is none.
        choice: Model, grade, backtest errors, demand class, and `reason` as a sentence; None when not forecast.
        history: One row per day: demand_date, demand_qty, is_censored (NULL: stock not recorded).
        forecast: One row per day: demand_date, horizon_days, mean_qty, q05_qty … q99_qty of that day.
        totals: The same for the sum from the day after the as-of date through demand_date.
    """

    publication: Publication
    suggestion: dict[str, Any] | None
    choice: dict[str, Any] | None
    history: pl.DataFrame
    forecast: pl.DataFrame
    totals: pl.DataFrame


def suggestions(
    warehouse_dir: Path,
    *,
    language: str = "en",
    only_to_buy: bool = True,
    sku: str | None = None,
    location_code: str | None = None,
) -> Plan:
    """What to restock, most urgent first (order-by date, then value, then sku and location).

    Args:
        only_to_buy: Leave out rows whose suggested quantity is 0.
        sku, location_code: Only these.

    Returns:
        Columns: sku, sku_name, location_code, suggested_qty, order_by_date, stockout_date, supplier_code,
        supplier_name, unit_cost_cents, order_value_cents, currency, grade, inventory_position_qty, reorder_point_qty,
        order_up_to_qty, safety_stock_qty, lead_time_days, protection_interval_days, the waterfall parts (they sum to
        suggested_qty)
        demand_part_qty, safety_part_qty, on_hand_part_qty, on_order_part_qty, backordered_part_qty, surplus_part_qty,
        moq_part_qty, pack_part_qty, reason_codes (list), facts (JSON text) and reason (one sentence).

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    raise NotImplementedError("under construction")


def product_plan(warehouse_dir: Path, sku: str, location_code: str, *, language: str = "en") -> ProductPlan:
    """History, forecast, choice and suggestion of one SKU at one location; empty frames when it is unknown.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    raise NotImplementedError("under construction")


def backlog(warehouse_dir: Path) -> Plan:
    """Open orders by stage and age: stage, age_days, currency, orders_count, open_qty, open_value_cents.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    raise NotImplementedError("under construction")


def exceptions(warehouse_dir: Path, *, language: str = "en") -> Plan:
    """Products a planner should look at because the forecast set something aside: sku, location_code, code, message.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    raise NotImplementedError("under construction")
