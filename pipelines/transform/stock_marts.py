"""What stock earns: how fast it turns, what lies too long, and which products matter."""

from pipelines.transform.as_of import AsOf
from pipelines.transform.orders import PLACED_BY_CUSTOMER

DEAD_AFTER_DAYS = 180
"""Stock of which nothing left for so long is dead; stock beyond what sells in so many days is excess."""
A_SHARE, B_SHARE = 0.8, 0.95
X_CV, Y_CV = 0.5, 1.0
LEAST_WEEKS = 8
"""Weeks since the first sale before its variation is judged."""


def _left(as_of: AsOf) -> str:
    """Query: units that left per SKU and location in the last 28, 91 and 365 days, and the last day any did."""
    return f"""
      SELECT sku, location_code, max(shipped_date) AS last_shipped_date,
        coalesce(sum(shipped_qty) FILTER (WHERE shipped_date > {as_of.day_sql} - 28), 0)::BIGINT AS sold_28d_qty,
        coalesce(sum(shipped_qty) FILTER (WHERE shipped_date > {as_of.day_sql} - 91), 0)::BIGINT AS sold_91d_qty,
        coalesce(sum(shipped_qty) FILTER (WHERE shipped_date > {as_of.day_sql} - 365), 0)::BIGINT AS sold_365d_qty
      FROM core.fct_shipment_line GROUP BY ALL"""


def turnover(as_of: AsOf) -> str:
    """One row per SKU and location with stock, or of which any left in a year."""
    return f"""
      WITH sold AS ({_left(as_of)}), period AS (
        SELECT sku, location_code, valid_to_date IS NULL AS is_now, on_hand_qty,
          greatest(0, least(coalesce(valid_to_date, {as_of.day_sql}), {as_of.day_sql})
            - greatest(stock_date, {as_of.day_sql} - 364) + 1) AS days
        FROM core.fct_stock_daily
      ), stock AS (
        SELECT sku, location_code, any_value(on_hand_qty) FILTER (WHERE is_now) AS on_hand_qty,
          sum(greatest(on_hand_qty, 0) * days) / nullif(sum(days), 0) AS mean_on_hand_qty
        FROM period GROUP BY ALL
      )
      SELECT sku, location_code, coalesce(sold_28d_qty, 0) AS sold_28d_qty, coalesce(sold_91d_qty, 0) AS sold_91d_qty,
        coalesce(sold_365d_qty, 0) AS sold_365d_qty, on_hand_qty, mean_on_hand_qty,
        coalesce(sold_365d_qty, 0) / nullif(mean_on_hand_qty, 0) AS turns_ratio,
        CASE WHEN on_hand_qty IS NOT NULL THEN greatest(on_hand_qty, 0) * 91 / nullif(sold_91d_qty, 0) END AS cover_days
      FROM stock FULL JOIN sold USING (sku, location_code) WHERE on_hand_qty <> 0 OR sold_365d_qty > 0"""


def unit_costs(as_of: AsOf) -> str:
    """Query: one row per SKU with a cost that holds everywhere on the as-of date: sku, unit_cost_cents, currency; moving
    average before standard, the newest first."""
    return f"""
      SELECT sku, unit_cost_cents, currency FROM core.fct_cost
      WHERE location_code IS NULL AND valid_from_date <= {as_of.day_sql}
        AND coalesce(valid_to_date >= {as_of.day_sql}, true)
      QUALIFY row_number() OVER (
        PARTITION BY sku ORDER BY cost_kind = 'standard', valid_from_date DESC, cost_id DESC) = 1"""


def excess_dead_stock(as_of: AsOf) -> str:
    """One row per SKU and location where stock lies that does not sell.

    Dead: in stock for half a year or longer and nothing left in that time. Excess: what lies above half a year's sales
    at the pace of the last 91 days, of products in stock for so long.
    """
    return f"""
      WITH sold AS ({_left(as_of)}), stock AS (
        SELECT sku, location_code, any_value(on_hand_qty) FILTER (WHERE valid_to_date IS NULL) AS on_hand_qty,
          min(stock_date) FILTER (WHERE last_out_date IS NULL OR stock_date > last_out_date) AS first_stock_date
        FROM (SELECT *, max(stock_date) FILTER (WHERE on_hand_qty <= 0)
                OVER (PARTITION BY sku, location_code) AS last_out_date FROM core.fct_stock_daily)
        GROUP BY ALL
      ), cost AS ({unit_costs(as_of)}), judged AS (
        SELECT sku, location_code, on_hand_qty, first_stock_date, last_shipped_date,
          coalesce(sold_91d_qty, 0) AS sold_91d_qty,
          coalesce(last_shipped_date <= {as_of.day_sql} - {DEAD_AFTER_DAYS}, true) AS is_dead,
          on_hand_qty - ceil(coalesce(sold_91d_qty, 0) * {DEAD_AFTER_DAYS} / 91)::BIGINT AS above_qty
        FROM stock LEFT JOIN sold USING (sku, location_code)
        WHERE on_hand_qty > 0 AND first_stock_date <= {as_of.day_sql} - {DEAD_AFTER_DAYS}
      )
      SELECT sku, location_code, CASE WHEN is_dead THEN 'dead' ELSE 'excess' END AS stock_class, on_hand_qty,
        CASE WHEN is_dead THEN on_hand_qty ELSE above_qty END AS excess_qty, sold_91d_qty, first_stock_date,
        last_shipped_date, unit_cost_cents,
        CASE WHEN is_dead THEN on_hand_qty ELSE above_qty END * unit_cost_cents AS excess_value_cents, currency
      FROM judged LEFT JOIN cost USING (sku) WHERE is_dead OR above_qty > 0"""


def product_classes() -> str:
    """Query: one row per SKU of `mart.abc_xyz` with its class such as "AX" (NULL: sold for too few weeks to say); of a SKU
    sold in several currencies the best."""
    return """
      SELECT sku, abc_class || xyz_class AS class, net_cents, currency FROM mart.abc_xyz
      QUALIFY row_number() OVER (PARTITION BY sku ORDER BY abc_class, net_cents DESC, currency) = 1"""


def abc_xyz(as_of: AsOf) -> str:
    """One row per SKU and currency in which it was asked for in a year; cancelled orders, exchanges and resends left out.

    ABC: products by falling money, the first 80 % of it A, up to 95 % B. XYZ: how much the units of a week vary around
    their mean, weeks without any included, since the first of the last 52 weeks with any.
    """
    return f"""
      WITH line AS (
        SELECT l.sku, l.currency, l.net_cents, l.ordered_qty - l.cancelled_qty AS qty,
          ({as_of.day_sql} - l.business_date) // 7 AS week_no
        FROM core.fct_order_line l SEMI JOIN (
          FROM core.fct_order WHERE cancelled_at IS NULL AND {PLACED_BY_CUSTOMER}) o USING (order_id)
        WHERE l.business_date > {as_of.day_sql} - 365 AND l.line_kind <> 'service'
      ), money AS (
        SELECT sku, currency, sum(net_cents)::BIGINT AS net_cents FROM line GROUP BY ALL
      ), ranked AS (
        SELECT *, sum(net_cents) OVER (PARTITION BY currency ORDER BY net_cents DESC, sku) - net_cents AS before_cents,
          sum(net_cents) OVER (PARTITION BY currency) AS all_cents
        FROM money
      ), week AS (
        SELECT sku, week_no, sum(qty) AS qty FROM line WHERE week_no < 52 GROUP BY ALL
      ), pace AS (
        SELECT sku, max(week_no) + 1 AS weeks_count, sum(qty) / (max(week_no) + 1) AS mean_qty,
          sum(qty * qty) / (max(week_no) + 1) AS mean_square FROM week WHERE qty > 0 GROUP BY sku
      ), varied AS (
        SELECT sku, weeks_count, CASE WHEN weeks_count >= {LEAST_WEEKS}
          THEN sqrt(greatest(0, mean_square - mean_qty * mean_qty)) / mean_qty END AS weekly_cv_ratio FROM pace
      )
      SELECT r.sku, r.currency, r.net_cents,
        CASE WHEN r.net_cents <= 0 THEN 'C' WHEN r.before_cents < {A_SHARE} * r.all_cents THEN 'A'
             WHEN r.before_cents < {B_SHARE} * r.all_cents THEN 'B' ELSE 'C' END AS abc_class,
        coalesce(v.weeks_count, 0) AS weeks_count, v.weekly_cv_ratio,
        CASE WHEN v.weekly_cv_ratio <= {X_CV} THEN 'X' WHEN v.weekly_cv_ratio <= {Y_CV} THEN 'Y'
             WHEN v.weekly_cv_ratio IS NOT NULL THEN 'Z' END AS xyz_class
      FROM ranked r LEFT JOIN varied v USING (sku)"""
