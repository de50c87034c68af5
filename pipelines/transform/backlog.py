"""Orders that are not done, by what they wait for and how long."""

from pipelines.transform.as_of import AsOf


def backlog(as_of: AsOf) -> str:
    """One row per stage, age and currency of live orders with units still to send.

    The stage is the order's status where that stands as it stood then, else what the dates alone tell. A kit line's money
    is open as far as its components are.
    """
    return f"""
      WITH line AS (
        SELECT f.order_number, f.order_line_id, l.parent_line_id, f.line_kind, f.business_date, f.currency, f.net_cents,
          f.shipped_qty, f.ordered_qty - f.cancelled_qty AS wanted_qty,
          greatest(0, f.ordered_qty - f.cancelled_qty - f.shipped_qty) AS open_qty
        FROM core.fct_order_line f JOIN raw.order_line l USING (order_line_id) WHERE f.origin = 'live'
      ), kit AS (
        SELECT parent_line_id AS order_line_id, sum(open_qty) / sum(wanted_qty) AS open_share
        FROM line WHERE line_kind = 'component' AND wanted_qty > 0 GROUP BY parent_line_id
      ), valued AS (
        SELECT line.*, net_cents * CASE WHEN line_kind = 'kit' THEN coalesce(kit.open_share, 0)
            WHEN line_kind = 'service' OR wanted_qty = 0 THEN 0 ELSE open_qty / wanted_qty END AS open_cents,
          CASE WHEN line_kind IN ('kit', 'service') THEN 0 ELSE open_qty END AS open_units
        FROM line LEFT JOIN kit USING (order_line_id)
      ), open_order AS (
        SELECT order_number, any_value(business_date) AS business_date, any_value(currency) AS currency,
          sum(open_units)::BIGINT AS open_qty, round(sum(open_cents))::BIGINT AS open_value_cents,
          sum(shipped_qty) > 0 AS is_partly_shipped
        FROM valued GROUP BY order_number HAVING sum(open_units) > 0
      )
      SELECT CASE WHEN {as_of.unchanged_since("r.changed_at")}
              AND r.order_status IN ('review', 'held', 'waiting_stock', 'ready', 'picking', 'partly_shipped')
              THEN r.order_status
            WHEN is_partly_shipped THEN 'partly_shipped'
            WHEN {as_of.known("r.approved_at")} THEN 'ready' ELSE 'review' END AS stage,
        {as_of.day_sql} - o.business_date AS age_days, o.currency, count(*) AS orders_count,
        sum(o.open_qty)::BIGINT AS open_qty, sum(o.open_value_cents)::BIGINT AS open_value_cents
      FROM open_order o JOIN raw.orders r USING (order_number) GROUP BY ALL"""
