"""What was on the shelf, and what was free of it, day by day."""

from pipelines.transform.as_of import AsOf


def fct_stock_movement(as_of: AsOf) -> str:
    """One row per immutable movement known by the as-of date."""
    return f"""
      SELECT m.stock_movement_id, s.sku, l.location_code, m.movement_qty, m.stock_state, m.movement_reason, m.moved_at,
        m.business_date
      FROM raw.stock_movement m JOIN raw.sku s USING (sku_id) JOIN raw.location l USING (location_id)
      WHERE {as_of.known("m.moved_at")} AND m.business_date <= {as_of.day_sql}"""


def fct_stock_daily(as_of: AsOf) -> str:
    """One row per SKU, tracked location and day on which stock or open demand changed; it holds until the next row.

    Open demand rises when a line is asked of the location, and falls as it ships or is given up for lack of stock. What
    it takes is not available, reserved or not: a unit that somebody waits for can't be promised to the next.
    """
    return """
      WITH sent AS (
        SELECT order_line_id, location_code, shipped_date AS stock_date, shipped_qty,
          coalesce(sum(shipped_qty) OVER earlier, 0) AS before_qty
        FROM core.fct_shipment_line
        WINDOW earlier AS (PARTITION BY order_line_id, location_code ORDER BY shipped_at, shipment_line_id
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      ), events AS (
        SELECT sku, location_code, business_date AS stock_date, movement_qty AS on_hand, 0 AS outstanding
        FROM core.fct_stock_movement WHERE stock_state = 'on_hand'
        UNION ALL
        SELECT sku, location_code, business_date, 0, demand_qty FROM core.fct_line_location
        UNION ALL  -- never more than was asked of the location: an over-delivery takes stock, not demand
        SELECT d.sku, d.location_code, s.stock_date, 0, -greatest(0, least(s.shipped_qty, d.demand_qty - s.before_qty))
        FROM sent s JOIN core.fct_line_location d USING (order_line_id, location_code)
        UNION ALL
        SELECT sku, location_code, lost_date, 0, -lost_qty FROM core.fct_line_location WHERE lost_date IS NOT NULL
      ), days AS (
        SELECT e.sku, e.location_code, e.stock_date, sum(e.on_hand) AS on_hand, sum(e.outstanding) AS outstanding
        FROM events e JOIN core.dim_location l USING (location_code) JOIN core.dim_product p USING (sku)
        WHERE l.is_location_stock_tracked AND p.is_sku_stock_tracked GROUP BY ALL
      )
      SELECT sku, location_code, stock_date,
        (lead(stock_date) OVER by_day - INTERVAL 1 DAY)::DATE AS valid_to_date,
        sum(on_hand) OVER by_day AS on_hand_qty, sum(outstanding) OVER by_day AS outstanding_qty,
        sum(on_hand - outstanding) OVER by_day AS available_qty
      FROM days WINDOW by_day AS (PARTITION BY sku, location_code ORDER BY stock_date)"""
