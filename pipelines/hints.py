"""The stock prices that the daily run hands to the core, from the live generation's forecast and positions."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from forecasting.stock_price import stock_prices
from pipelines.transform import plan
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.read import live_warehouse

SHORTAGE_OF_COST = 0.5
"""A unit short costs its margin; where price or cost is not known, so much of the cost."""


def price_hints(warehouse_dir: Path) -> tuple[str, list[dict[str, object]]]:
    """The key of the run that planned, and one row per place with recorded stock, a forecast and a known cost: sku,
    location_code, currency, price_cents.

    Goods can come when the next purchase order is expected; where none is open, a lead time and a review period from now.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as live:
        planned = live.publication("mart.reorder_suggestion")
        day = planned.as_of_date
        at = plan.positions(live.con, AsOf(day, planned.business_zone), plan.PlanningDefaults())
        totals = plan.stored_totals(live.con)
        expected = live.query(
            f"""
          SELECT {plan.SERIES}, min(expected_date) AS next_date
          FROM raw.purchase_order_line p JOIN raw.sku USING (sku_id) JOIN raw.location USING (location_id)
          WHERE p.purchased_qty - p.cancelled_qty > p.received_qty AND expected_date > $day GROUP BY 1""",
            {"day": day},
        )
    return f"{day}/{planned.run_id}", hints_of(totals, at.join(expected, on="unique_id", how="left"), as_of=day)


def hints_of(totals: pl.DataFrame, positions: pl.DataFrame, *, as_of: date) -> list[dict[str, object]]:
    """The rows of `price_hints` from what it read."""
    margin = pl.col("unit_price_cents") - pl.col("unit_cost_cents")
    asked = positions.filter(pl.col("unit_cost_cents").is_not_null() & pl.col("currency").is_not_null()).select(
        "unique_id",
        "sku",
        "location_code",
        "currency",
        (pl.col("on_hand_qty") - pl.col("reserved_qty") - pl.col("backordered_qty")).alias("free_qty"),
        pl.coalesce(
            (pl.col("next_date") - as_of).dt.total_days(), pl.col("lead_time_days") + pl.col("review_period_days")
        ).alias("days_to_arrival"),
        pl.coalesce(margin.clip(0), SHORTAGE_OF_COST * pl.col("unit_cost_cents")).alias("shortage_cost_cents"),
    )
    worth = stock_prices(totals, asked, as_of=as_of)
    assert isinstance(worth, pl.DataFrame)
    named = worth.join(asked.select("unique_id", "sku", "location_code", "currency"), on="unique_id", how="left")
    return named.sort("unique_id").select("sku", "location_code", "currency", "price_cents").to_dicts()
