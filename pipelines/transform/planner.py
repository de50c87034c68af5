"""What planners changed, as it was known, and what it was worth."""

from pipelines.transform.as_of import AsOf


def fct_forecast_override(as_of: AsOf) -> str:
    """One row per override made by the as-of date; taken back only if it was by then."""
    return f"""
      SELECT o.override_id, k.sku, l.location_code, o.from_date, o.through_date, o.override_kind, o.override_amount,
        o.author, o.reason, o.expires_date, o.created_at AS known_from_at,
        {as_of.if_known("o.withdrawn_at")} AS withdrawn_at
      FROM raw.forecast_override o JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
      WHERE {as_of.known("o.created_at")}"""


def fct_demand_adjustment(as_of: AsOf) -> str:
    """One row per adjustment of past demand made by the as-of date; taken back only if it was by then."""
    return f"""
      SELECT a.adjustment_id, k.sku, l.location_code, a.from_date, a.through_date, a.adjustment_kind, a.daily_qty,
        a.author, a.reason, a.created_at AS known_from_at, {as_of.if_known("a.withdrawn_at")} AS withdrawn_at
      FROM raw.demand_adjustment a JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
      WHERE {as_of.known("a.created_at")}"""


def override_value(as_of: AsOf) -> str:
    """One row per override with days that are known by now: how far off the forecast was without it and with it.

    Each day is judged by the first plan that had the override, which is when the planner gave his opinion; weeks count from
    the override's first day, because orders are for weeks and not for days. A day without stock says nothing.
    """
    return f"""
      WITH told AS (
        SELECT override_id, sku, location_code, demand_date, arg_min(before_mean_qty, as_of_date) AS before_qty,
          arg_min(after_mean_qty, as_of_date) AS after_qty
        FROM mart.override_history WHERE as_of_date <= {as_of.day_sql} AND demand_date <= {as_of.day_sql} GROUP BY ALL
      ), judged AS (
        SELECT t.*, coalesce(d.demand_qty, 0) AS actual_qty
        FROM told t ASOF LEFT JOIN core.fct_out_of_stock s
            ON t.sku = s.sku AND t.location_code = s.location_code AND t.demand_date >= s.out_from_date
          LEFT JOIN core.fct_demand_daily d
            ON t.sku = d.sku AND t.location_code = d.location_code AND t.demand_date = d.demand_date
        WHERE NOT coalesce(t.demand_date <= s.out_through_date, false)
      ), week AS (
        SELECT j.override_id, (j.demand_date - o.from_date) // 7 AS week_no, count(*) AS known_days,
          sum(actual_qty)::DOUBLE AS actual_qty, sum(before_qty) AS before_qty, sum(after_qty) AS after_qty
        FROM judged j JOIN core.fct_forecast_override o USING (override_id) GROUP BY ALL
      ), total AS (
        SELECT override_id, sum(known_days)::BIGINT AS known_days, sum(actual_qty) AS actual_qty,
          round(sum(before_qty), 6) AS before_qty, round(sum(after_qty), 6) AS after_qty,
          round(sum(abs(before_qty - actual_qty)), 6) AS before_error_qty,
          round(sum(abs(after_qty - actual_qty)), 6) AS after_error_qty
        FROM week GROUP BY ALL
      )
      SELECT o.override_id, o.sku, o.location_code, o.author, o.reason, o.override_kind, o.override_amount, o.from_date,
        o.through_date, o.withdrawn_at, t.known_days, t.actual_qty, t.before_qty, t.after_qty, t.before_error_qty,
        t.after_error_qty, round(t.before_error_qty - t.after_error_qty, 6) AS value_added_qty
      FROM total t JOIN core.fct_forecast_override o USING (override_id)"""
