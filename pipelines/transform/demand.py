"""Demand per SKU, location and day, and the periods in which there was nothing to sell."""

from pipelines.transform.as_of import AsOf

STILL_CARRIED_DAYS = 182
"""An empty place counts as out of stock for so long after its stock or its open demand last changed."""


def fct_out_of_stock(as_of: AsOf) -> str:
    """One row per SKU, tracked location and period without stock, from the first demand on.

    Stock is out on a day when nothing was available at its end, or at the end of the day before: then some who came
    bought nothing and were not counted. Half a year after anything last came, left or was asked for, an empty place does
    not carry the product any more; that day stands in the row from the start, and may lie ahead.
    """
    return f"""
      WITH first_demand AS (
        SELECT sku, location_code, min(business_date) AS first_date FROM core.fct_line_location GROUP BY ALL
      ), stock AS (
        SELECT *, lead(available_qty) OVER (PARTITION BY sku, location_code ORDER BY stock_date) AS next_qty
        FROM core.fct_stock_daily
      )
      SELECT s.sku, s.location_code, greatest(s.stock_date, f.first_date) AS out_from_date,
        least(s.valid_to_date + CASE WHEN s.next_qty <= 0 THEN 0 ELSE 1 END,  -- unless the next such period begins
          s.stock_date + {STILL_CARRIED_DAYS}, p.discontinued_date) AS out_through_date
      FROM stock s JOIN first_demand f USING (sku, location_code) JOIN core.dim_product p USING (sku)
      WHERE s.available_qty <= 0 AND out_from_date <= out_through_date"""


def fct_demand_daily(as_of: AsOf) -> str:
    """One row per SKU, location and day with demand, censored when stock was out that day: it is a lower bound then.

    Where stock is not recorded nobody knows: NULL.
    """
    return """
      WITH demand AS (
        SELECT sku, location_code, business_date AS demand_date, sum(demand_qty)::BIGINT AS demand_qty,
          sum(gift_qty)::BIGINT AS gift_qty, sum(lost_qty)::BIGINT AS lost_qty
        FROM core.fct_line_location GROUP BY ALL
      )
      SELECT d.*, CASE WHEN l.is_location_stock_tracked AND p.is_sku_stock_tracked
        THEN coalesce(d.demand_date <= o.out_through_date, false) END AS is_censored
      FROM demand d JOIN core.dim_location l USING (location_code) JOIN core.dim_product p USING (sku)
        ASOF LEFT JOIN core.fct_out_of_stock o
          ON d.sku = o.sku AND d.location_code = o.location_code AND d.demand_date >= o.out_from_date"""


def known_days(as_of: AsOf, *, only: str = "true") -> str:
    """Query: one row per SKU, location and day with demand or without stock, through the as-of date.

    `only` is a condition on sku and location_code. Columns: sku, location_code, demand_date, demand_qty, is_censored. The
    other days since the first demand are days on which there was stock and nobody asked for it.
    """
    return f"""
      SELECT sku, location_code, demand_date, demand_qty, is_censored FROM core.fct_demand_daily
      WHERE demand_date <= {as_of.day_sql} AND {only}
      UNION ALL  -- stock is recorded of nothing but what is tracked
      SELECT sku, location_code, demand_date, 0, true FROM (
        SELECT sku, location_code, unnest(generate_series(
          out_from_date, least(out_through_date, {as_of.day_sql}), INTERVAL 1 DAY))::DATE AS demand_date
        FROM core.fct_out_of_stock WHERE {only})
      ANTI JOIN (FROM core.fct_demand_daily WHERE {only}) USING (sku, location_code, demand_date)"""
