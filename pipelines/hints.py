"""What the daily run hands to the core: stock prices, and units held back for a channel, from the live generation.

The command line and Dagster both hand them over by `publish_prices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from forecasting.stock_price import protected_stock, stock_prices
from pipelines.transform import plan
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.read import LiveWarehouse, live_warehouse

if TYPE_CHECKING:
    from orders_core.services.publish_hints import HintsPublished


def publish_prices(database_url: str, warehouse_dir: Path, *, zone: str, **told: Any) -> HintsPublished | None:
    """Tell the core what a unit is worth where it lies, and what to hold back where planners switched that on, by the newest
    plan; `told` is who does it and the clock, see `orders_core.services.publish_hints.publish_hints_to`.

    Raises:
        WarehouseMissing: Nothing was published yet.
        OrdersError: The core refuses.
    """
    # Here, because nothing else in the pipelines needs the store, and because no load may run while it is open.
    from orders_core.services.publish_hints import PriceHint, ProtectionHint, PublishHints, publish_hints_to

    found = read_hints(warehouse_dir)
    hints = PublishHints(
        found.run_key, [PriceHint(**row) for row in found.prices], [ProtectionHint(**row) for row in found.protected]
    )
    return publish_hints_to(database_url, hints, planned_date=found.as_of, zone=zone, **told)


@dataclass(frozen=True)
class Hints:
    """What a plan says of the stock there is.

    Attributes:
        as_of: The day it knows; `run_key` names it and the run that planned.
        prices: One row per place with recorded stock, a forecast and a known cost: sku, location, currency, price_cents.
        protected: Units held back: sku, location, channel, protected_qty; none unless planners switched that on.
    """

    as_of: date
    run_key: str
    prices: list[dict[str, Any]]
    protected: list[dict[str, Any]]


def read_hints(warehouse_dir: Path) -> Hints:
    """The hints of the newest plan.

    Goods can come when the next purchase order is expected; where none is open, a lead time and a review period from now.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as live:
        planned = live.publication("mart.reorder_suggestion")
        day = planned.as_of_date
        known = AsOf(day, planned.business_zone)
        defaults = plan.planning_defaults(live.con, known)
        at = plan.positions(live.con, known, defaults)
        totals = plan.stored_totals(live.con)
        expected = live.query(
            f"""
          SELECT {plan.SERIES}, min(expected_date) AS next_date
          FROM raw.purchase_order_line p JOIN raw.sku USING (sku_id) JOIN raw.location USING (location_id)
          WHERE p.purchased_qty - p.cancelled_qty > p.received_qty AND expected_date > $day GROUP BY 1""",
            {"day": day},
        )
        shares, worth = _channels(live, day) if defaults.protects_channels else (None, {})
    asked = _asked(at.join(expected, on="unique_id", how="left"), day, defaults.shortage_ratio)
    prices = stock_prices(totals, asked, as_of=day)
    held = None if shares is None else protected_stock(totals, asked, shares=shares, worth_cents=worth)
    names = asked.select("unique_id", "sku", pl.col("location_code").alias("location"), "currency")

    def rows(found: Any, *columns: str) -> list[dict[str, Any]]:
        named: pl.DataFrame = found.join(names, on="unique_id", how="left").sort("unique_id")
        return named.select("sku", "location", *columns).to_dicts()

    return Hints(
        day,
        f"{day}/{planned.run_id}",
        prices=rows(prices, "currency", "price_cents"),
        protected=[] if held is None else rows(held.rename({"channel_code": "channel"}), "channel", "protected_qty"),
    )


def _asked(positions: pl.DataFrame, as_of: date, shortage_ratio: float) -> pl.DataFrame:
    """Places with a known cost as `stock_prices` asks for them."""
    margin = pl.col("unit_price_cents") - pl.col("unit_cost_cents")
    return positions.filter(pl.col("unit_cost_cents").is_not_null() & pl.col("currency").is_not_null()).select(
        "unique_id",
        "sku",
        "location_code",
        "currency",
        (pl.col("on_hand_qty") - pl.col("reserved_qty") - pl.col("backordered_qty")).alias("free_qty"),
        pl.coalesce(
            (pl.col("next_date") - as_of).dt.total_days(), pl.col("lead_time_days") + pl.col("review_period_days")
        ).alias("days_to_arrival"),
        pl.when(margin > 0)
        .then(margin)
        .otherwise(shortage_ratio * pl.col("unit_cost_cents"))
        .alias("shortage_cost_cents"),
    )


def _channels(live: LiveWarehouse, day: date) -> tuple[pl.DataFrame, dict[str, float]]:
    """Which part of each place's demand of the last 91 days came by each channel, and what a channel earns: net over what
    the same units earn on average (channels sell different goods, so plain means would compare goods and not channels)."""
    lately = "business_date > $day - 91 AND business_date <= $day"
    shares = live.query(
        f"""
      SELECT {plan.SERIES}, channel_code, sum(demand_qty) / sum(sum(demand_qty)) OVER (PARTITION BY sku, location_code)
        AS share_ratio
      FROM core.fct_line_location l JOIN core.fct_order_line USING (order_line_id, sku, business_date)
      WHERE demand_qty > 0 AND {lately} GROUP BY sku, location_code, channel_code ORDER BY ALL""",
        {"day": day},
    )
    worth = live.query(
        f"""
      WITH sold AS (
        SELECT sku, currency, channel_code, ordered_qty, net_cents,
          sum(net_cents) OVER (PARTITION BY sku, currency) / sum(ordered_qty) OVER (PARTITION BY sku, currency) AS mean_cents
        FROM core.fct_order_line
        WHERE cancelled_qty = 0 AND NOT is_gift AND NOT is_part AND net_cents > 0 AND {lately}
      )
      SELECT channel_code, 100 * sum(net_cents) / sum(ordered_qty * mean_cents) AS worth FROM sold GROUP BY 1 ORDER BY 1""",
        {"day": day},
    )
    return shares, {channel: float(index) for channel, index in worth.iter_rows()}
