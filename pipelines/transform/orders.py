"""What customers asked for, as it was known at the end of the as-of date."""

from pipelines.transform.as_of import AsOf

OUT_OF_STOCK_REASONS = ("no_stock", "out_of_stock", "shortage")
"""Cancel reasons that say the customer wanted the goods and we had none: demand that was lost, not demand withdrawn."""


def fct_order_line(as_of: AsOf) -> str:
    """One row per order line.

    Rows of the core hold the present. What happened after the as-of date is taken back where it carries a date: orders
    placed, cancelled or rejected later, shipments that left later. A line's own cancelled units carry none; they count
    when the order has not changed since, or was cancelled as a whole by then. Imported history is closed fact.
    """
    reasons = ", ".join(f"'{reason}'" for reason in OUT_OF_STOCK_REASONS)
    placed_date = f"CASE WHEN o.origin = 'history' THEN o.business_date ELSE {as_of.business_day('o.placed_at')} END"
    return f"""
      WITH known_order AS (
        SELECT o.*, {placed_date} AS placed_date,
          {as_of.known("o.cancelled_at")} AS is_cancelled,
          {as_of.known("o.cancelled_at")} AND o.cancel_reason IN ({reasons}) AS is_lost,
          {as_of.known("o.cancelled_at")} OR {as_of.unchanged_since("o.changed_at")} AS is_as_it_was
        FROM raw.orders o
        WHERE {placed_date} <= {as_of.day_sql} AND NOT {as_of.known("o.rejected_at")}
      ), sent AS (
        SELECT order_line_id, sum(shipped_qty)::BIGINT AS shipped_qty
        FROM raw.shipment_line WHERE {as_of.known("shipped_at")} GROUP BY order_line_id
      )
      SELECT l.order_line_id, o.order_number, l.line_no, l.line_kind, s.sku, c.customer_code, h.channel_code, o.origin,
        o.placed_date AS business_date, o.placed_at, l.ordered_qty,
        CASE WHEN o.is_as_it_was THEN l.cancelled_qty ELSE 0 END AS cancelled_qty,
        CASE WHEN o.is_lost THEN l.cancelled_qty ELSE 0 END AS lost_qty,
        CASE WHEN o.origin = 'history' THEN l.shipped_qty ELSE coalesce(sent.shipped_qty, 0) END AS shipped_qty,
        l.net_cents, o.currency, l.line_kind = 'gift' AS is_gift, l.line_kind = 'component' AS is_part
      FROM raw.order_line l JOIN known_order o USING (order_id) JOIN raw.sku s USING (sku_id)
        JOIN raw.customer c USING (customer_id) JOIN raw.channel h USING (channel_id)
        LEFT JOIN sent USING (order_line_id)"""


def fct_line_location(as_of: AsOf) -> str:
    """One row per line that takes stock and location it is asked of.

    A kit's demand stands at its component lines. Demand is what was asked for, less what the customer no longer wants;
    units cancelled because there was no stock stay in it as lost. It lies where the line's shipments are planned; what
    no shipment covers joins the largest one, or the default location when there is none.
    """
    return f"""
      WITH demand AS (
        SELECT f.order_line_id, f.sku, f.origin, f.business_date, f.lost_qty, f.is_gift,
          f.ordered_qty - f.cancelled_qty + f.lost_qty AS demand_qty
        FROM core.fct_order_line f
        WHERE f.line_kind IN ('item', 'component', 'gift') AND f.ordered_qty - f.cancelled_qty + f.lost_qty > 0
      ), shipment AS (
        SELECT s.order_line_id, s.location_id,
          sum(CASE WHEN {as_of.known("s.shipped_at")} THEN s.shipped_qty ELSE s.planned_qty END)::BIGINT AS qty,
          s.shipment_status = 'cancelled' AND {as_of.unchanged_since("s.changed_at")} AS is_cancelled
        FROM raw.shipment_line s JOIN demand d USING (order_line_id)
        WHERE d.origin = 'history' OR {as_of.known("s.created_at")} GROUP BY ALL
      ), planned AS (
        -- shipments that were cancelled say where a lost line was asked of, but only when nothing better does
        SELECT order_line_id, location_id, qty,
          row_number() OVER by_size AS place_no,
          coalesce(sum(qty) OVER (by_size ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before_qty,
          sum(qty) OVER (PARTITION BY order_line_id) AS all_qty
        FROM (FROM shipment QUALIFY is_cancelled = min(is_cancelled) OVER (PARTITION BY order_line_id))
        WINDOW by_size AS (PARTITION BY order_line_id ORDER BY qty DESC, location_id)
      ), fallback AS (
        SELECT origin, arg_min(location_id, preference) AS location_id FROM (
          SELECT unnest(['live', 'history']) AS origin, location_id,
            CASE WHEN origin = 'history' AND location_kind = 'history' THEN 0
                 WHEN is_default THEN 1 WHEN location_kind <> 'history' THEN 2 ELSE 3 END * 1000000
            + location_rank AS preference
          FROM raw.location) GROUP BY origin
      ), shares AS (
        SELECT d.order_line_id, coalesce(p.location_id, b.location_id) AS location_id, d.sku, d.business_date,
          d.is_gift, d.lost_qty > 0 AS is_lost,
          CASE WHEN p.location_id IS NULL THEN d.demand_qty
               ELSE greatest(0, least(p.qty, d.demand_qty - p.before_qty))
                 + CASE WHEN p.place_no = 1 THEN greatest(0, d.demand_qty - p.all_qty) ELSE 0 END END AS demand_qty
        FROM demand d LEFT JOIN planned p USING (order_line_id) JOIN fallback b ON b.origin = d.origin
      )
      SELECT s.order_line_id, l.location_code, s.sku, s.business_date, s.demand_qty::BIGINT AS demand_qty,
        CASE WHEN s.is_gift THEN s.demand_qty ELSE 0 END::BIGINT AS gift_qty,
        CASE WHEN s.is_lost THEN s.demand_qty ELSE 0 END::BIGINT AS lost_qty
      FROM shares s JOIN raw.location l USING (location_id) WHERE s.demand_qty > 0"""
