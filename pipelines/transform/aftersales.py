"""After the order: returns, problems, answers, money, and what customers did besides ordering."""

from pipelines.transform.as_of import AsOf

_DISPOSITION = '[{"line_no": "BIGINT", "restock_qty": "BIGINT", "repair_qty": "BIGINT", "scrap_qty": "BIGINT"}]'


def fct_return_line(as_of: AsOf) -> str:
    """One row per SKU in a return asked for by the as-of date.

    Of a return that changed since, the dated arrivals and inspections say how much had come back, and its worth goes
    with the units. Imported returns are closed fact.
    """
    return f"""
      WITH event AS (
        SELECT return_id, return_action, happened_at, return_facts FROM raw.return_event
        WHERE {as_of.known("happened_at")}
      ), decision AS (
        SELECT return_id, min(happened_at) AS decided_at, bool_or(return_action = 'return.refused') AS is_refused
        FROM event WHERE return_action IN ('return.approved', 'return.refused', 'return.closed') GROUP BY return_id
      ), arrived AS (  -- the row of a return has the date of the last arrival only
        SELECT return_id, max(happened_at) AS arrived_at FROM event WHERE return_action = 'return.receive'
        GROUP BY return_id
      ), arrival AS (
        SELECT return_id, unit.key AS line_no, sum(unit.value)::BIGINT AS qty FROM (
          SELECT return_id, unnest(map_entries(json_extract(return_facts, '$.units')::MAP(BIGINT, BIGINT))) AS unit
          FROM event WHERE return_action = 'return.receive') GROUP BY ALL
      ), inspection AS (
        SELECT return_id, done.line_no, sum(done.restock_qty)::BIGINT AS restocked_qty,
          sum(done.repair_qty)::BIGINT AS repair_qty, sum(done.scrap_qty)::BIGINT AS scrapped_qty FROM (
          SELECT return_id, unnest(from_json(json_extract(return_facts, '$.dispositions'), '{_DISPOSITION}')) AS done
          FROM event WHERE return_action = 'return.inspect') GROUP BY ALL
      ), line AS (
        SELECT l.*, CASE WHEN l.origin = 'history' THEN l.received_at ELSE r.arrived_at END AS arrived_at,
          d.decided_at, coalesce(d.is_refused, false) AS is_refused, i.restocked_qty AS restocked_then_qty,
          i.repair_qty AS repair_then_qty, i.scrapped_qty AS scrapped_then_qty,
          l.origin = 'history' OR {as_of.unchanged_since("l.changed_at")} AS is_as_then,
          CASE WHEN l.origin = 'history' OR {as_of.unchanged_since("l.changed_at")} THEN l.returned_qty
            -- services do not come back: they are taken off when the return is approved
            WHEN l.line_kind = 'service' AND d.decided_at IS NOT NULL THEN l.returned_qty
            ELSE least(l.returned_qty, coalesce(a.qty, 0)) END AS returned_then_qty
        FROM raw.return_line l LEFT JOIN decision d USING (return_id) LEFT JOIN arrived r USING (return_id)
          LEFT JOIN arrival a USING (return_id, line_no) LEFT JOIN inspection i USING (return_id, line_no)
        WHERE CASE WHEN l.origin = 'history' THEN l.business_date <= {as_of.day_sql}
          ELSE {as_of.known("l.requested_at")} END
      )
      SELECT l.return_line_id, l.return_id, l.return_number, l.order_id, l.order_line_id, k.sku, c.customer_code,
        h.channel_code, CASE WHEN l.arrived_at IS NOT NULL THEN p.location_code END AS location_code,
        l.return_kind, l.return_reason, l.origin, l.currency, l.business_date, l.requested_at, l.decided_at,
        l.is_refused, l.arrived_at AS received_at, {as_of.if_known("l.closed_at")} AS closed_at,
        l.asked_qty, l.returned_then_qty AS returned_qty,
        CASE WHEN l.is_as_then THEN l.restocked_qty ELSE coalesce(l.restocked_then_qty, 0) END AS restocked_qty,
        CASE WHEN l.is_as_then THEN l.repair_qty ELSE coalesce(l.repair_then_qty, 0) END AS repair_qty,
        CASE WHEN l.is_as_then THEN l.scrapped_qty ELSE coalesce(l.scrapped_then_qty, 0) END AS scrapped_qty,
        CASE WHEN l.returned_then_qty = l.returned_qty THEN l.refund_cents
          ELSE round(l.refund_cents * l.returned_then_qty / l.returned_qty) END::BIGINT AS refund_cents
      FROM line l JOIN raw.sku k USING (sku_id) JOIN raw.customer c USING (customer_id)
        LEFT JOIN raw.channel h USING (channel_id) LEFT JOIN raw.location p USING (location_id)"""


def fct_ticket(as_of: AsOf) -> str:
    """One row per problem reported by the as-of date."""
    return f"""
      SELECT t.ticket_id, t.ticket_number, c.customer_code, t.order_id, t.ticket_kind,
        {as_of.business_day("t.opened_at")} AS business_date, t.opened_at, t.due_at,
        {as_of.if_known("t.first_answer_at")} AS first_answer_at, {as_of.if_known("t.solved_at")} AS solved_at
      FROM raw.ticket t JOIN raw.customer c USING (customer_id) WHERE {as_of.known("t.opened_at")}"""


def fct_follow_up(as_of: AsOf) -> str:
    """One row per time a customer was asked how it was, by the day of the question."""
    return f"""
      SELECT f.follow_up_id, f.order_id, c.customer_code, {as_of.business_day("f.asked_at")} AS business_date,
        f.asked_at, {as_of.if_known("f.answered_at")} AS answered_at,
        CASE WHEN {as_of.known("f.answered_at")} THEN f.score END AS score
      FROM raw.follow_up f JOIN raw.customer c USING (customer_id) WHERE {as_of.known("f.asked_at")}"""


def fct_payment(as_of: AsOf) -> str:
    """One row per receipt and per refund; a refund is dated by its grant, and `paid_at` says whether the money went."""
    return f"""
      SELECT p.payment_number, 'receipt' AS payment_kind, c.customer_code, NULL::BIGINT AS order_id,
        NULL::BIGINT AS return_id, p.payment_method, NULL AS refund_reason, p.amount_cents, p.currency,
        p.business_date, p.booked_at, p.booked_at AS paid_at
      FROM raw.payment_receipt p JOIN raw.customer c USING (customer_id) WHERE {as_of.known("p.booked_at")}
      UNION ALL
      SELECT r.payment_number, 'refund', c.customer_code, r.order_id, r.return_id, NULL, r.refund_reason,
        r.amount_cents, r.currency, r.business_date, r.booked_at, {as_of.if_known("r.paid_at")}
      FROM raw.refund r JOIN raw.customer c USING (customer_id) WHERE {as_of.known("r.booked_at")}"""


def fct_behaviour_event(as_of: AsOf) -> str:
    """One row per thing a customer did that is not an order: logged events, and what was put into a cart and not taken
    out again."""
    return f"""
      SELECT e.event_source, e.event_id, e.event_kind, c.customer_code, k.sku, h.channel_code,
        {as_of.business_day("e.happened_at")} AS business_date, e.happened_at
      FROM (
        SELECT 'behaviour_event' AS event_source, behaviour_event_id AS event_id, event_kind, customer_id, sku_id,
          channel_id, happened_at FROM raw.behaviour_event
        UNION ALL
        SELECT 'cart_line', cart_line_id, 'cart_add', customer_id, sku_id, channel_id, added_at FROM raw.cart_line
      ) e LEFT JOIN raw.customer c USING (customer_id) LEFT JOIN raw.sku k USING (sku_id)
        LEFT JOIN raw.channel h USING (channel_id)
      WHERE {as_of.known("e.happened_at")}"""
