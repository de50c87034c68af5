"""Daily demand per SKU and location, with the days marked on which there was nothing to sell."""

from pipelines.transform.as_of import AsOf

STILL_CARRIED_DAYS = 182
"""An empty place counts as out of stock for so long after its stock or its open demand last changed."""


def fct_demand_daily(as_of: AsOf) -> str:
    """One row per SKU, location and day with demand or without stock, from the first demand on.

    A day is censored when nothing was available at its end, or at the end of the day before: then some who came bought
    nothing and were not counted. Half a year after anything last came, left or was asked for, an empty place does not
    carry the product any more: its days are days without demand, not without stock. Where stock is not recorded nobody
    knows: NULL.
    """
    return f"""
      WITH demand AS (
        SELECT sku, location_code, business_date AS demand_date, sum(demand_qty) AS demand_qty,
          sum(gift_qty) AS gift_qty, sum(lost_qty) AS lost_qty
        FROM core.fct_line_location GROUP BY ALL
      ), first_demand AS (
        SELECT sku, location_code, min(demand_date) AS first_date,
          coalesce(any_value(p.discontinued_date), {as_of.day_sql}) AS last_date
        FROM demand JOIN core.dim_product p USING (sku) GROUP BY ALL
      ), period AS (  -- through the day after, unless that begins the next such period
        SELECT s.sku, s.location_code, greatest(s.stock_date, f.first_date) AS from_date,
          least(coalesce(s.valid_to_date + CASE WHEN s.next_qty <= 0 THEN 0 ELSE 1 END, {as_of.day_sql}),
            s.stock_date + {STILL_CARRIED_DAYS}, f.last_date, {as_of.day_sql}) AS through_date
        FROM (SELECT *, lead(available_qty) OVER (PARTITION BY sku, location_code ORDER BY stock_date) AS next_qty
              FROM core.fct_stock_daily) s JOIN first_demand f USING (sku, location_code)
        WHERE s.available_qty <= 0 AND from_date <= through_date
      ), out_of_stock AS (
        SELECT sku, location_code, unnest(generate_series(from_date, through_date, INTERVAL 1 DAY))::DATE AS demand_date
        FROM period
      )
      SELECT d.sku, d.location_code, d.demand_date, d.demand_qty::BIGINT AS demand_qty, d.gift_qty::BIGINT AS gift_qty,
        d.lost_qty::BIGINT AS lost_qty, CASE WHEN l.is_location_stock_tracked AND p.is_sku_stock_tracked
          THEN coalesce(d.demand_date <= o.through_date, false) END AS is_censored
      FROM demand d JOIN core.dim_location l USING (location_code) JOIN core.dim_product p USING (sku)
        ASOF LEFT JOIN period o
          ON d.sku = o.sku AND d.location_code = o.location_code AND d.demand_date >= o.from_date
      UNION ALL  -- stock is recorded of nothing but what is tracked
      SELECT sku, location_code, demand_date, 0, 0, 0, true
      FROM out_of_stock ANTI JOIN demand USING (sku, location_code, demand_date)"""


def still_out_of_stock(earlier: AsOf) -> str:
    """The products and places whose days without stock go on after `earlier`, though nothing there moved."""
    return f"""
      SELECT sku, location_code FROM core.fct_stock_daily
      WHERE valid_to_date IS NULL AND available_qty <= 0 AND stock_date + {STILL_CARRIED_DAYS} >= {earlier.day_sql}"""
