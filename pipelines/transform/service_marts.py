"""How well customers are served, and what they do: one table per question of a screen."""

from pipelines.transform.as_of import AsOf
from pipelines.transform.orders import PLACED_BY_CUSTOMER


def on_time_in_full(as_of: AsOf) -> str:
    """One row per promised day that has come, location and channel of live orders.

    A line counts where its units are asked for, once per location. The promise is the one that stands: the order core
    keeps no earlier ones. A line whose order was cancelled, or whose units were given up, is not due any more.
    """
    arrived_day = as_of.business_day("s.delivered_at")
    return f"""
      WITH due AS (
        SELECT p.order_line_id, p.location_code, l.channel_code, o.promised_by_date, p.demand_qty - p.lost_qty AS due_qty
        FROM raw.orders o JOIN core.fct_order_line l USING (order_id) JOIN core.fct_line_location p USING (order_line_id)
        WHERE o.origin = 'live' AND o.promised_by_date <= {as_of.day_sql} AND p.demand_qty > p.lost_qty
      ), arrived AS (
        SELECT s.order_line_id, w.location_code, sum(s.shipped_qty) AS arrived_qty,
          sum(s.shipped_qty) FILTER (WHERE {arrived_day} <= o.promised_by_date) AS on_time_qty
        FROM raw.shipment_line s JOIN raw.location w USING (location_id) JOIN raw.orders o USING (order_id)
        WHERE o.promised_by_date <= {as_of.day_sql} AND {as_of.known("s.delivered_at")} GROUP BY ALL
      ), line AS (
        SELECT d.*, least(d.due_qty, coalesce(a.arrived_qty, 0)) AS arrived_qty,
          least(d.due_qty, coalesce(a.on_time_qty, 0)) AS on_time_qty
        FROM due d LEFT JOIN arrived a USING (order_line_id, location_code)
      )
      SELECT promised_by_date, location_code, channel_code, count(*) AS lines_due,
        count(*) FILTER (WHERE arrived_qty = due_qty) AS lines_in_full,
        count(*) FILTER (WHERE on_time_qty = due_qty) AS lines_on_time_in_full,
        sum(due_qty)::BIGINT AS due_qty, sum(on_time_qty)::BIGINT AS on_time_qty,
        count(*) FILTER (WHERE on_time_qty = due_qty) / count(*) AS otif_ratio
      FROM line GROUP BY ALL"""


def cycle_time(as_of: AsOf) -> str:
    """One row per stage of live orders and business day on which orders ended it."""
    return f"""
      WITH stage AS (
        SELECT unnest([
          {{'stage': 'review', 'started_at': placed_at, 'ended_at': approved_at}},
          {{'stage': 'release', 'started_at': approved_at, 'ended_at': first_released_at}},
          {{'stage': 'warehouse', 'started_at': first_released_at, 'ended_at': first_shipped_at}},
          {{'stage': 'transit', 'started_at': last_shipped_at,
            'ended_at': CASE WHEN is_in_full THEN last_delivered_at END}},
          {{'stage': 'whole', 'started_at': placed_at, 'ended_at': CASE WHEN is_in_full THEN last_delivered_at END}}
        ]) AS s FROM core.fct_order WHERE origin = 'live'
      ), took AS (
        SELECT s.stage AS cycle_stage, {as_of.business_day("s.ended_at")} AS ended_date,
          greatest(0, epoch(s.ended_at) - epoch(s.started_at)) / 3600 AS hours  -- a parcel may arrive before its paper
        FROM stage WHERE s.started_at IS NOT NULL AND s.ended_at IS NOT NULL
      )
      SELECT cycle_stage, ended_date, count(*) AS orders_count, quantile_disc(hours, 0.5) AS median_hours,
        quantile_disc(hours, 0.9) AS p90_hours
      FROM took GROUP BY ALL"""


def channel_daily(as_of: AsOf) -> str:
    """One row per business day, channel and currency. Units and money are of orders that were not cancelled.

    An exchange or something sent again is not an order that a customer placed, and does not count.
    """
    return f"""
      SELECT business_date, channel_code, currency, count(*) AS orders_count, count(cancelled_at) AS cancelled_count,
        coalesce(sum(ordered_qty - cancelled_qty) FILTER (WHERE cancelled_at IS NULL), 0)::BIGINT AS wanted_qty,
        coalesce(sum(net_cents) FILTER (WHERE cancelled_at IS NULL), 0)::BIGINT AS net_cents
      FROM core.fct_order WHERE {PLACED_BY_CUSTOMER} GROUP BY ALL"""


def customer(as_of: AsOf) -> str:
    """One row per customer and currency of its orders that were not cancelled, exchanges and resends not counted."""
    return f"""
      SELECT customer_code, currency, min(business_date) AS first_order_date, max(business_date) AS last_order_date,
        count(*) AS orders_count, sum(ordered_qty - cancelled_qty)::BIGINT AS wanted_qty,
        sum(net_cents)::BIGINT AS net_cents, CASE WHEN count(DISTINCT business_date) > 1 THEN
          (max(business_date) - min(business_date)) / (count(DISTINCT business_date) - 1) END AS days_between_orders
      FROM core.fct_order WHERE cancelled_at IS NULL AND {PLACED_BY_CUSTOMER}
      GROUP BY ALL"""


def return_daily(as_of: AsOf) -> str:
    """One row per business day on which returns were asked for, channel and currency: what became of them so far."""
    return """
      SELECT business_date, coalesce(channel_code, '-') AS channel_code, currency,
        count(DISTINCT return_id) AS returns_count, count(DISTINCT return_id) FILTER (WHERE is_refused) AS refused_count,
        sum(asked_qty)::BIGINT AS asked_qty, sum(returned_qty)::BIGINT AS returned_qty,
        sum(restocked_qty)::BIGINT AS restocked_qty, sum(repair_qty)::BIGINT AS repair_qty,
        sum(scrapped_qty)::BIGINT AS scrapped_qty, sum(refund_cents)::BIGINT AS refund_cents
      FROM core.fct_return_line GROUP BY ALL"""


def satisfaction(as_of: AsOf) -> str:
    """One row per business day on which tickets were opened or customers asked how it was: what came of both so far."""
    return """
      WITH ticket AS (
        SELECT business_date, count(*) AS tickets_count, count(first_answer_at) AS answered_count,
          count(*) FILTER (WHERE first_answer_at <= due_at) AS answered_on_time_count, count(solved_at) AS solved_count,
          quantile_disc((epoch(first_answer_at) - epoch(opened_at)) / 3600, 0.5) AS first_answer_median_hours
        FROM core.fct_ticket GROUP BY business_date
      ), question AS (
        SELECT business_date, count(*) AS asked_count, count(score) AS scored_count,
          count(*) FILTER (WHERE score <= 2) AS low_score_count, avg(score) AS mean_score
        FROM core.fct_follow_up GROUP BY business_date
      )
      SELECT business_date, coalesce(tickets_count, 0) AS tickets_count, coalesce(answered_count, 0) AS answered_count,
        coalesce(answered_on_time_count, 0) AS answered_on_time_count, coalesce(solved_count, 0) AS solved_count,
        first_answer_median_hours, coalesce(asked_count, 0) AS asked_count, coalesce(scored_count, 0) AS scored_count,
        coalesce(low_score_count, 0) AS low_score_count, mean_score
      FROM ticket FULL JOIN question USING (business_date)"""
