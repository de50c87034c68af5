"""How orders went out: an order with the dates of its stages, what left, and what carriers said of it."""

from pipelines.transform.as_of import AsOf


def fct_order(as_of: AsOf) -> str:
    """One row per order known by the as-of date and not rejected by then.

    Quantities are of lines that take stock; a kit counts by its components. An order's promise and total are not here:
    the order core keeps only the latest of each, and nobody could say what they were on a past day.
    """
    placed_date = f"CASE WHEN o.origin = 'history' THEN o.business_date ELSE {as_of.business_day('o.placed_at')} END"
    stocked = "FILTER (WHERE line_kind IN ('item', 'component', 'gift'))"
    return f"""
      WITH line AS (
        SELECT order_id, count(*) FILTER (WHERE line_kind <> 'component') AS lines_count, sum(net_cents) AS net_cents,
          sum(ordered_qty) {stocked} AS ordered_qty, sum(cancelled_qty) {stocked} AS cancelled_qty,
          sum(lost_qty) {stocked} AS lost_qty, sum(shipped_qty) {stocked} AS shipped_qty,
          sum(greatest(0, ordered_qty - cancelled_qty - shipped_qty)) {stocked} AS open_qty
        FROM core.fct_order_line GROUP BY order_id
      ), sent AS (
        SELECT l.order_id, min({as_of.if_known("s.released_at")}) AS first_released_at,
          min({as_of.if_known("l.shipped_at")}) AS first_shipped_at,
          max({as_of.if_known("l.shipped_at")}) AS last_shipped_at,
          max({as_of.if_known("l.delivered_at")}) AS last_delivered_at,
          sum(l.shipped_qty) FILTER (WHERE {as_of.known("l.delivered_at")}) AS delivered_qty
        FROM raw.shipment_line l LEFT JOIN raw.shipment s USING (shipment_id) GROUP BY l.order_id
      ), placed AS (
        SELECT o.order_id, o.order_number, c.customer_code, h.channel_code, o.origin, o.order_kind, o.currency,
          {placed_date} AS business_date, o.placed_at, {as_of.if_known("o.approved_at")} AS approved_at,
          s.first_released_at, s.first_shipped_at, s.last_shipped_at, s.last_delivered_at,
          {as_of.if_known("o.cancelled_at")} AS cancelled_at, coalesce(l.lines_count, 0) AS lines_count,
          coalesce(l.ordered_qty, 0)::BIGINT AS ordered_qty, coalesce(l.cancelled_qty, 0)::BIGINT AS cancelled_qty,
          coalesce(l.lost_qty, 0)::BIGINT AS lost_qty, coalesce(l.shipped_qty, 0)::BIGINT AS shipped_qty,
          coalesce(l.open_qty, 0)::BIGINT AS open_qty,
          CASE WHEN o.origin = 'history' THEN coalesce(l.shipped_qty, 0)
            ELSE coalesce(s.delivered_qty, 0) END::BIGINT AS delivered_qty,
          coalesce(l.net_cents, 0)::BIGINT AS net_cents
        FROM raw.orders o JOIN raw.customer c USING (customer_id) JOIN raw.channel h USING (channel_id)
          LEFT JOIN line l USING (order_id) LEFT JOIN sent s USING (order_id)
        WHERE {placed_date} <= {as_of.day_sql} AND NOT {as_of.known("o.rejected_at")}
      )
      SELECT *, ordered_qty > cancelled_qty AND delivered_qty >= ordered_qty - cancelled_qty AS is_in_full FROM placed"""


def fct_shipment(as_of: AsOf) -> str:
    """One row per shipment that had left by the as-of date; it may carry goods of several orders."""
    return f"""
      WITH line AS (
        SELECT shipment_id, any_value(location_code) AS location_code, any_value(shipped_at) AS shipped_at,
          any_value(shipped_date) AS shipped_date, count(DISTINCT order_id) AS orders_on_board, count(*) AS lines_count,
          sum(shipped_qty)::BIGINT AS shipped_qty
        FROM core.fct_shipment_line GROUP BY shipment_id
      ), arrived AS (
        SELECT shipment_id, max({as_of.if_known("delivered_at")}) AS delivered_at FROM raw.shipment_line
        GROUP BY shipment_id
      ), box AS (SELECT shipment_id, count(*) AS packages_count FROM raw.package GROUP BY shipment_id)
      SELECT shipment_id, s.shipment_number, l.location_code, c.carrier_code, s.delivery_method,
        {as_of.if_known("s.released_at")} AS released_at, l.shipped_at, l.shipped_date, a.delivered_at,
        l.orders_on_board, l.lines_count, coalesce(b.packages_count, 0) AS packages_count, l.shipped_qty,
        s.freight_cents, CASE WHEN s.freight_cents IS NOT NULL THEN s.currency END AS currency
      FROM line l JOIN arrived a USING (shipment_id) LEFT JOIN raw.shipment s USING (shipment_id)
        LEFT JOIN raw.carrier c USING (carrier_id) LEFT JOIN box b USING (shipment_id)"""


def fct_tracking_event(as_of: AsOf) -> str:
    """One row per event a carrier had reported by the as-of date, with what became of it since."""
    return f"""
      SELECT e.tracking_event_id, e.shipment_id, e.package_id, c.carrier_code, e.tracking_number, e.tracking_status,
        e.carrier_status, e.occurred_at, e.reported_at,
        {as_of.business_day("coalesce(e.occurred_at, e.reported_at)")} AS business_date, e.place, e.tracking_outcome
      FROM raw.tracking_event e JOIN raw.carrier c USING (carrier_id) WHERE {as_of.known("e.reported_at")}"""
