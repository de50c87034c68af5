"""What `forecasting.replay` is given of the live company: demand, terms, stock at the start, and what was really ordered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from forecasting.pools import read_pools
from forecasting.replay import invented_stock
from pipelines.transform import plan
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.read import LiveWarehouse, Publication, live_warehouse

COST_OF_PRICE = 0.5
"""Where no cost is known a unit is taken to cost so much of its mean price of the year before the replay."""


@dataclass(frozen=True)
class Past:
    """The last weeks of a company, ready to be replayed.

    Attributes:
        publication: The generation it was read from.
        start: First day; the last is the publication's as-of date.
        days: Days of demand.
        currency: Of all amounts.
        history: As `plan_demand` takes it, through the last day.
        terms: As `replay` takes it, without costs of holding and shortage: one row per product and place that was asked
            for in the year before `start` and is bought, where anybody sells it; amounts of other currencies left out.
            pool_id names the places of a product that record their stock and send for each other, by the planning rules
            of the last day.
        items: As `plan_demand` takes it.
        under_way, as_ordered: As `replay` takes them; empty where nothing was ever bought.
        order_dates: Days on which anybody ordered.
        all_promotions: As `pipelines.transform.plan.promotions` gives them on the last day.
        country: Whose festivals and shopping days move demand, as the daily run takes it.
        holding_ratio: To keep a unit for a year, as a share of its cost, by the planning rules of the last day.
        invented_count: Series without recorded stock, which begin with `invented_stock`.
        unpriced_count: Series whose cost is `COST_OF_PRICE` of the price.
    """

    publication: Publication
    start: date
    days: int
    currency: str
    history: pl.DataFrame
    terms: pl.DataFrame
    items: pl.DataFrame
    under_way: pl.DataFrame
    as_ordered: pl.DataFrame
    order_dates: list[date]
    all_promotions: pl.DataFrame
    country: str | None
    holding_ratio: float
    invented_count: int
    unpriced_count: int

    def closed_dates(self, as_of: date) -> Collection[date]:
        """Days without business as they could be told on `as_of`."""
        known = [day for day in self.order_dates if day <= as_of]
        return plan.closed_dates(known, as_of=as_of, horizon_days=91)

    def promotions(self, as_of: date) -> pl.DataFrame:
        """Those that had been entered by `as_of`."""
        return self.all_promotions.filter(pl.col("known_from_date") <= as_of)


def past(warehouse_dir: Path, *, weeks: int, places_apart: bool = False) -> Past:
    """The last `weeks` weeks of the live generation.

    Demand is what the newest generation knows of it: a cancellation that came later is left out of its day.

    Args:
        places_apart: No place sends for another, whatever the planning rules say: pool_id is NULL everywhere.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as live:
        publication = live.publication()
        as_of = AsOf(publication.as_of_date, publication.business_zone)
        start = as_of.day - timedelta(days=7 * weeks - 1)
        defaults = plan.planning_defaults(live.con, as_of)
        positions = plan.positions(live.con, as_of, defaults).select(
            "unique_id", "sku", "location_code", "supplier_code", "unit_cost_cents", "currency", "moq_qty", "pack_qty",
            "lead_time_days", "review_period_days", "pool_id",
        )  # fmt: skip
        history = plan.history(live.con, as_of)
        found = positions.join(_known_at(live, start), on="unique_id", how="inner", maintain_order="left")
        bought = _bought(live, as_of)
        spread = live.query("SELECT supplier_code, lead_time_sd_days FROM core.dim_supplier")
        order_dates, items = plan.order_dates(live.con), plan.items(live.con, as_of)
        country = plan.country(live.con)
        series = pl.concat([plan.series_names(live.con).select("unique_id", "sku"), plan.pool_names(positions)])
        promotions = plan.promotions(live.con, as_of, series)
    if found["supplier_code"].is_not_null().any():
        found = found.filter(pl.col("supplier_code").is_not_null())
    currency = pl.coalesce("currency", "price_currency")
    usual = found.select(currency.drop_nulls().mode().sort().first()).item() if found.height else None
    found = found.filter(currency == usual)
    is_invented, is_unpriced = found["stock_qty"].is_null(), found["unit_cost_cents"].is_null()
    begin = invented_stock(history, found["unique_id"].to_list(), start=start)
    terms = found.join(spread, on="supplier_code", how="left", maintain_order="left").select(
        "unique_id",
        pl.lit(None, dtype=pl.String).alias("pool_id") if places_apart else pl.col("pool_id"),
        "lead_time_days",
        "lead_time_sd_days",
        "review_period_days",
        pl.coalesce(pl.col("stock_qty").clip(0), pl.Series(begin)).alias("on_hand_qty"),
        pl.max_horizontal(-pl.col("stock_qty"), 0).fill_null(0).alias("backordered_qty"),
        "moq_qty",
        "pack_qty",
        pl.coalesce("unit_cost_cents", pl.col("price_cents") * COST_OF_PRICE).alias("unit_cost_cents"),
    )
    return Past(
        publication=publication,
        start=start,
        days=7 * weeks,
        currency=usual or "",
        history=history.join(terms.select("unique_id"), on="unique_id", how="semi", maintain_order="left"),
        terms=terms,
        items=items.join(terms.select("unique_id"), on="unique_id", how="semi", maintain_order="left"),
        under_way=bought.filter((pl.col("ordered_date") < start) & (pl.col("arrival_date") >= start)),
        as_ordered=bought.filter(pl.col("ordered_date") >= start),
        order_dates=order_dates,
        all_promotions=promotions,
        country=country,
        holding_ratio=defaults.holding_ratio,
        invented_count=int(is_invented.sum()),
        unpriced_count=int(is_unpriced.sum()),
    )


def sample_of(terms: pl.DataFrame, products: int | None) -> pl.DataFrame:
    """So many products of `terms`, drawn; places that send for each other stay together. None: all."""
    whose = pl.coalesce("pool_id", "unique_id")
    there = terms.select(whose.alias("whose").unique(maintain_order=True))
    drawn = there if products is None else there.sample(min(products, there.height), seed=7)
    return terms.filter(whose.is_in(drawn["whose"].to_list())).sort("unique_id")


def pools_of(terms: pl.DataFrame) -> int:
    """How many products lie at several places that send for each other."""
    return read_pools(terms)["pool_id"].n_unique()


def _known_at(live: LiveWarehouse, start: date) -> pl.DataFrame:
    """One row per series asked for in the year before `start`: stock_qty free of open orders in the evening before (NULL:
    not recorded), and the year's mean price in its most frequent currency."""
    return live.query(
        f"""
      WITH asked AS (
        SELECT DISTINCT sku, location_code FROM core.fct_demand_daily
        WHERE demand_date < $start AND demand_date >= $start - 364 AND demand_qty > 0
      ), stock AS (
        SELECT sku, location_code, on_hand_qty - outstanding_qty AS stock_qty FROM core.fct_stock_daily
        WHERE stock_date < $start AND coalesce(valid_to_date >= $start - 1, true)
      ), price AS (
        SELECT sku, currency AS price_currency, sum(net_cents) / sum(ordered_qty) AS price_cents
        FROM core.fct_order_line WHERE business_date < $start AND business_date >= $start - 364 AND ordered_qty > 0
        GROUP BY sku, currency HAVING sum(net_cents) > 0
        QUALIFY row_number() OVER (PARTITION BY sku ORDER BY count(*) DESC, currency) = 1
      )
      SELECT {plan.SERIES}, stock_qty::BIGINT AS stock_qty, price_currency, price_cents::DOUBLE AS price_cents
      FROM asked LEFT JOIN stock USING (sku, location_code) LEFT JOIN price USING (sku) ORDER BY 1""",
        {"start": start},
    )


def _bought(live: LiveWarehouse, as_of: AsOf) -> pl.DataFrame:
    """One row per receipt of a purchase order line, and one for what has not arrived: unique_id, ordered_date,
    arrival_date (NULL: not yet), ordered_qty."""
    return live.query(
        f"""
      WITH line AS (
        SELECT p.*, k.sku, l.location_code, {as_of.business_day("p.ordered_at")} AS ordered_date
        FROM raw.purchase_order_line p JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
        WHERE {as_of.known("p.ordered_at")}
      ), receipt AS (
        SELECT purchase_order_line_id, {as_of.business_day("received_at")} AS arrival_date, received_qty
        FROM raw.goods_receipt_line WHERE {as_of.known("received_at")}
      )
      SELECT {plan.SERIES}, ordered_date, arrival_date, qty::BIGINT AS ordered_qty FROM (
        SELECT sku, location_code, ordered_date, arrival_date, r.received_qty AS qty
        FROM line JOIN receipt r USING (purchase_order_line_id)
        UNION ALL
        SELECT sku, location_code, ordered_date, NULL, purchased_qty - cancelled_qty - coalesce(t.received_qty, 0)
        FROM line LEFT JOIN (SELECT purchase_order_line_id, sum(received_qty) AS received_qty FROM receipt GROUP BY 1) t
          USING (purchase_order_line_id))
      WHERE qty > 0 ORDER BY ordered_date, arrival_date, 1"""
    )
