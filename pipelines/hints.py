"""The stock prices that the daily run hands to the core, from the live generation's forecast and positions.

The command line and Dagster both hand them over by `publish_prices`.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from forecasting.stock_price import stock_prices
from pipelines.transform import plan
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.read import live_warehouse

if TYPE_CHECKING:
    from orders_core.domain.permissions import Actor
    from orders_core.ports import Clock
    from orders_core.services.publish_hints import HintsPublished

SHORTAGE_OF_COST = 0.5
"""A unit short costs its margin; where price or cost is not known, so much of the cost."""


def publish_prices(
    database_url: str,
    warehouse_dir: Path,
    *,
    zone: str,
    actor: Actor | None = None,
    clock: Clock | None = None,
    defaults: plan.PlanningDefaults | None = None,
) -> HintsPublished | None:
    """Tell the core what a unit is worth where it lies, by the newest plan; None, and nothing told, where that is of an
    earlier day than yesterday and says nothing of today.

    Args:
        actor: Who does it; the system where nobody does.
        clock: Tells today; the system's.
        defaults: What the plan was made with.

    Raises:
        WarehouseMissing: Nothing was published yet.
        OrdersError: The core refuses.
    """
    # Here, because nothing else in the pipelines needs the store, and because no load may run while it is open.
    from orders_core.domain.permissions import SYSTEM
    from orders_core.services.publish_hints import PriceHint, PublishHints, publish_hints
    from orders_core.store.uow import Store

    run_key, rows = price_hints(warehouse_dir, defaults or plan.PlanningDefaults())
    hints = [PriceHint(**row) for row in rows]
    store = Store.open(database_url, clock=clock, zone=zone)
    try:
        today = store.clock.now().astimezone(store.zone).date()
        if date.fromisoformat(run_key.split("/")[0]) < today - timedelta(days=1):
            return None
        return store.run(publish_hints, actor or SYSTEM, PublishHints(run_key, hints))
    finally:
        store.close()


def price_hints(warehouse_dir: Path, defaults: plan.PlanningDefaults) -> tuple[str, list[dict[str, Any]]]:
    """The key of the run that planned, and one row per place with recorded stock, a forecast and a known cost: sku,
    location, currency, price_cents.

    Goods can come when the next purchase order is expected; where none is open, a lead time and a review period from now.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as live:
        planned = live.publication("mart.reorder_suggestion")
        day = planned.as_of_date
        at = plan.positions(live.con, AsOf(day, planned.business_zone), defaults)
        totals = plan.stored_totals(live.con)
        expected = live.query(
            f"""
          SELECT {plan.SERIES}, min(expected_date) AS next_date
          FROM raw.purchase_order_line p JOIN raw.sku USING (sku_id) JOIN raw.location USING (location_id)
          WHERE p.purchased_qty - p.cancelled_qty > p.received_qty AND expected_date > $day GROUP BY 1""",
            {"day": day},
        )
    return f"{day}/{planned.run_id}", hints_of(totals, at.join(expected, on="unique_id", how="left"), as_of=day)


def hints_of(totals: pl.DataFrame, positions: pl.DataFrame, *, as_of: date) -> list[dict[str, Any]]:
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
    columns = ("sku", pl.col("location_code").alias("location"), "currency", "price_cents")
    return named.sort("unique_id").select(columns).to_dicts()
