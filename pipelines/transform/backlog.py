"""Orders that are not done, by what they wait for and how long."""

from pipelines.transform.as_of import AsOf


def backlog(as_of: AsOf) -> str:
    """One row per stage, age and currency of live orders with units still to send.

    The stage is the order's status where that stands as it stood then, else what the dates alone tell. A kit line's money
    is open as far as its components are.
    """
    return f"""
      WITH open_order AS (
        SELECT order_id, business_date, currency, approved_at, open_qty, shipped_qty > 0 AS is_partly_shipped
        FROM core.fct_order WHERE origin = 'live' AND open_qty > 0
      ), line AS (
        SELECT f.order_id, f.order_line_id, l.parent_line_id, f.line_kind, f.net_cents,
          f.ordered_qty - f.cancelled_qty AS wanted_qty,
          greatest(0, f.ordered_qty - f.cancelled_qty - f.shipped_qty) AS open_qty
        FROM (FROM core.fct_order_line SEMI JOIN open_order USING (order_id)) f
          JOIN (FROM raw.order_line SEMI JOIN open_order USING (order_id)) l USING (order_line_id)
      ), kit AS (
        SELECT parent_line_id AS order_line_id, sum(open_qty) / sum(wanted_qty) AS open_share
        FROM line WHERE line_kind = 'component' AND wanted_qty > 0 GROUP BY parent_line_id
      ), value AS (
        SELECT line.order_id, round(sum(net_cents * CASE WHEN line_kind = 'kit' THEN coalesce(kit.open_share, 0)
            WHEN line_kind = 'service' OR wanted_qty = 0 THEN 0 ELSE open_qty / wanted_qty END))::BIGINT AS open_cents
        FROM line LEFT JOIN kit USING (order_line_id) GROUP BY line.order_id
      )
      SELECT CASE WHEN {as_of.unchanged_since("r.changed_at")}
              AND r.order_status IN ('review', 'held', 'waiting_stock', 'ready', 'picking', 'partly_shipped')
              THEN r.order_status
            WHEN is_partly_shipped THEN 'partly_shipped'
            WHEN o.approved_at IS NOT NULL THEN 'ready' ELSE 'review' END AS stage,
        {as_of.day_sql} - o.business_date AS age_days, o.currency, count(*) AS orders_count,
        sum(o.open_qty)::BIGINT AS open_qty, sum(v.open_cents)::BIGINT AS open_value_cents
      FROM open_order o JOIN value v USING (order_id) JOIN raw.orders r USING (order_id) GROUP BY ALL"""
