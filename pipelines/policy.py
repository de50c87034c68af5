"""What the inventory policy page and `dinghuo plan service` read: what each service target would cost, which products
matter and how they vary, and what lies too long. One generation of the warehouse answers all of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipelines.transform.as_of import AsOf
from pipelines.transform.plan import planning_defaults
from pipelines.transform.stock_marts import product_classes, unit_costs
from pipelines.warehouse.read import Publication, live_warehouse

NO_CLASS = "-"
"""Not sold in a year, or for fewer weeks than variation is judged by."""

_CLASS = product_classes()
_POINTS = f"""
  SELECT c.*, coalesce(class, '{NO_CLASS}') AS class FROM mart.service_curve c
    LEFT JOIN ({_CLASS}) k USING (sku) ORDER BY sku, planned_place, order_aim, service_ratio"""
_PRODUCTS = f"""
  WITH there AS (
    SELECT sku, sum(greatest(on_hand_qty, 0))::BIGINT AS on_hand_qty FROM mart.turnover GROUP BY sku
  ), offer AS (
    SELECT sku, any_value(unit_cost_cents) AS unit_cost_cents, any_value(currency) AS currency
    FROM mart.reorder_suggestion WHERE unit_cost_cents IS NOT NULL GROUP BY sku
  ), known AS ({{costs}}), cost AS (
    SELECT sku, coalesce(k.unit_cost_cents, o.unit_cost_cents) AS unit_cost_cents,
      CASE WHEN k.sku IS NULL THEN o.currency ELSE k.currency END AS cost_currency
    FROM known k FULL JOIN offer o USING (sku)
  )
  SELECT sku, coalesce(class, '{NO_CLASS}') AS class, k.net_cents, k.currency, coalesce(on_hand_qty, 0) AS on_hand_qty,
    (coalesce(on_hand_qty, 0) * unit_cost_cents)::DOUBLE AS stock_cents, cost_currency
  FROM core.dim_product LEFT JOIN ({_CLASS}) k USING (sku) LEFT JOIN there USING (sku) LEFT JOIN cost USING (sku)
  WHERE k.net_cents IS NOT NULL OR on_hand_qty > 0 ORDER BY sku"""
_LYING = f"""
  SELECT e.*, p.sku_name, p.sku_name_en, coalesce(class, '{NO_CLASS}') AS class
  FROM mart.excess_dead_stock e JOIN core.dim_product p USING (sku) LEFT JOIN ({_CLASS}) k USING (sku)
  ORDER BY excess_value_cents DESC NULLS LAST, excess_qty DESC, sku, location_code"""


@dataclass(frozen=True)
class Policy:
    """What is known of the stock, and of what other targets would make of it.

    Attributes:
        publication: The run that planned.
        points: `mart.service_curve` with the `class` of each SKU (such as "AX", or `NO_CLASS`).
        products: One row per SKU sold in a year or in stock: sku, class, net_cents (sold in a year) in currency, on_hand_qty,
            and stock_cents (at cost) in cost_currency; NULL where it is not known.
        lying: `mart.excess_dead_stock` with names and class, most money first.
        class_service: The classes that the plan gave a cycle service of their own.
    """

    publication: Publication
    points: pl.DataFrame
    products: pl.DataFrame
    lying: pl.DataFrame
    class_service: Mapping[str, float]


def policy(warehouse_dir: Path) -> Policy:
    """The newest plan's.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        planned = warehouse.publication("mart.service_curve")
        as_of = AsOf(planned.as_of_date, planned.business_zone)
        return Policy(
            publication=planned,
            points=warehouse.query(_POINTS),
            products=warehouse.query(_PRODUCTS.format(costs=unit_costs(as_of))),
            lying=warehouse.query(_LYING),
            class_service=planning_defaults(warehouse.con, as_of).class_service,
        )


def summed(points: pl.DataFrame, *, kept: Collection[str] = ()) -> pl.DataFrame:
    """What each target would cost over all `points` of one currency (rows of `Policy.points`), the least stock first.

    Products of the classes `kept` stay at what they aim at now, whatever the others do.

    Columns: order_aim, service_ratio (the target; for `cost` and `now` what they come to, by demand), fill_rate_ratio
    (share of the demand served from stock), mean_stock_cents, yearly_holding_cents, yearly_shortage_cents, yearly_cost_cents
    (the two together), yearly_short_qty, yearly_demand_qty, products. What has no known cost is left out.
    """
    sums = (
        "mean_stock_cents",
        "yearly_holding_cents",
        "yearly_shortage_cents",
        "yearly_short_qty",
        "yearly_demand_qty",
    )
    known = points.drop_nulls(sums).with_columns(
        step=pl.when(pl.col("order_aim") == "cycle_service").then("service_ratio")
    )
    steps = known.select("order_aim", "step").unique()
    is_kept = pl.col("class").is_in(list(kept))
    still = known.filter(is_kept & (pl.col("order_aim") == "now")).drop("order_aim", "step").join(steps, how="cross")
    rows = pl.concat([known.filter(~is_kept), still.select(known.columns)])
    by_demand = (pl.col("service_ratio") * pl.col("yearly_demand_qty")).sum() / pl.col("yearly_demand_qty").sum()
    return (
        rows.group_by("order_aim", "step")
        .agg(
            by_demand.fill_nan(None).alias("reached"),
            *(pl.col(name).sum() for name in sums),
            pl.len().alias("products"),
        )
        .select(
            "order_aim",
            pl.coalesce("step", "reached").alias("service_ratio"),
            pl.when(pl.col("yearly_demand_qty") > 0)
            .then(1 - pl.col("yearly_short_qty") / pl.col("yearly_demand_qty"))
            .alias("fill_rate_ratio"),
            *sums[:3],
            (pl.col("yearly_holding_cents") + pl.col("yearly_shortage_cents")).alias("yearly_cost_cents"),
            *sums[3:],
            "products",
        )
        .sort("mean_stock_cents", "service_ratio", "order_aim")
    )
