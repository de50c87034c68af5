"""What customers asked for, as it was known at the end of the as-of date.

Rows of the core hold the present. What happened after the as-of date is taken back by what carries a date: orders placed,
cancelled or rejected later, shipments that left later, and edits and cancellations, whose audit entries keep the lines as
they stood before. Imported history is closed fact.
"""

from pipelines.transform.as_of import AsOf

OUT_OF_STOCK_WORDS = ("out of stock", "out_of_stock", "缺货")
"""Words in the reason of a cancellation or an edit that say the customer wanted the goods and we had none: demand that was
lost, not demand withdrawn. `services.shortage` writes them."""

PLACED_BY_CUSTOMER = "order_kind NOT IN ('exchange', 'resend')"
"""SQL: true of an order; an exchange or something sent again is not one that a customer placed."""

_BEFORE = (
    '[{"line_no": "BIGINT", "ordered_qty": "BIGINT", "net_cents": "BIGINT",'
    ' "places": [{"location_id": "BIGINT", "qty": "BIGINT"}]}]'
)


def out_of_stock(reason: str) -> str:
    """SQL: true if the column `reason` says so."""
    said = " OR ".join(f"contains(lower({reason}), '{word}')" for word in OUT_OF_STOCK_WORDS)
    return f"coalesce({said}, false)"


def edits(as_of: AsOf) -> str:
    """Query: one row per edit or cancellation that kept the lines as they stood before it."""
    return f"""
      SELECT order_id, order_edit_id, edit_action, {as_of.known("edited_at")} AS is_known,
        {as_of.business_day("edited_at")} AS edit_date,
        {out_of_stock("json_extract_string(edit_facts, '$.reason')")} AS is_lost,
        from_json(json_extract(edit_facts, '$.before'), '{_BEFORE}') AS lines
      FROM raw.order_edit WHERE json_extract(edit_facts, '$.before') IS NOT NULL"""


def fct_order_line(as_of: AsOf) -> str:
    """One row per order line. Units given up for lack of stock, the order cancelled or the line edited down, are lost."""
    placed_date = f"CASE WHEN o.origin = 'history' THEN o.business_date ELSE {as_of.business_day('o.placed_at')} END"
    return f"""
      WITH known_order AS (
        SELECT o.*, {placed_date} AS placed_date, {as_of.known("o.cancelled_at")} AS is_cancelled,
          {as_of.known("o.cancelled_at")} AND {out_of_stock("o.cancel_reason")} AS is_lost
        FROM raw.orders o
        WHERE {placed_date} <= {as_of.day_sql} AND NOT {as_of.known("o.rejected_at")}
      ), edit AS ({edits(as_of)}), next_edit AS (  -- the first one not known yet says how the lines stood
        SELECT order_id, arg_min(lines, order_edit_id) AS lines FROM edit WHERE NOT is_known GROUP BY order_id
      ), stood AS (
        SELECT order_id, line.line_no, line.ordered_qty, line.net_cents
        FROM (SELECT order_id, unnest(lines) AS line FROM next_edit)
      ), line AS (
        SELECT l.* REPLACE (coalesce(s.ordered_qty, l.ordered_qty) AS ordered_qty,
            coalesce(s.net_cents, l.net_cents) AS net_cents)
        FROM raw.order_line l LEFT JOIN next_edit n USING (order_id) LEFT JOIN stood s USING (order_id, line_no)
        WHERE n.order_id IS NULL OR s.line_no IS NOT NULL  -- a line added later was not there
      ), edited_qty AS (
        SELECT order_id, order_edit_id, is_lost, line.line_no, line.ordered_qty FROM (
          SELECT order_id, order_edit_id, is_lost, unnest(lines) AS line FROM edit
          WHERE is_known AND edit_action = 'order.edit')
        UNION ALL SELECT order_id, NULL, false, line_no, ordered_qty FROM line
      ), given_up AS (
        SELECT order_id, line_no, sum(given_up_qty)::BIGINT AS given_up_qty FROM (
          SELECT order_id, line_no, is_lost, greatest(0, ordered_qty - lead(ordered_qty) OVER (
            PARTITION BY order_id, line_no ORDER BY order_edit_id NULLS LAST)) AS given_up_qty
          FROM edited_qty SEMI JOIN (SELECT order_id FROM edit WHERE is_known AND is_lost) USING (order_id))
        WHERE is_lost GROUP BY ALL
      ), lost_on AS (
        SELECT order_id, max(edit_date) AS lost_date FROM edit WHERE is_known AND is_lost GROUP BY order_id
      ), sent AS (
        SELECT order_line_id, sum(shipped_qty)::BIGINT AS shipped_qty
        FROM raw.shipment_line WHERE {as_of.known("shipped_at")} GROUP BY order_line_id
      )
      SELECT l.order_line_id, order_id, o.order_number, l.line_no, l.line_kind, s.sku, c.customer_code, h.channel_code,
        o.origin, o.placed_date AS business_date, o.placed_at,
        l.ordered_qty + coalesce(g.given_up_qty, 0) AS ordered_qty,
        CASE WHEN o.is_cancelled THEN l.ordered_qty
             WHEN {as_of.unchanged_since("o.changed_at")} THEN l.cancelled_qty ELSE 0 END
          + coalesce(g.given_up_qty, 0) AS cancelled_qty,
        CASE WHEN o.is_lost THEN l.ordered_qty ELSE 0 END + coalesce(g.given_up_qty, 0) AS lost_qty,
        CASE WHEN o.is_lost OR g.given_up_qty > 0 THEN x.lost_date END AS lost_date,
        CASE WHEN o.origin = 'history' THEN l.shipped_qty ELSE coalesce(sent.shipped_qty, 0) END AS shipped_qty,
        l.net_cents, o.currency, l.line_kind = 'gift' AS is_gift, l.line_kind = 'component' AS is_part
      FROM line l JOIN known_order o USING (order_id) JOIN raw.sku s USING (sku_id)
        JOIN raw.customer c USING (customer_id) JOIN raw.channel h USING (channel_id)
        LEFT JOIN sent USING (order_line_id) LEFT JOIN given_up g USING (order_id, line_no)
        LEFT JOIN lost_on x USING (order_id)"""


def fct_line_location(as_of: AsOf) -> str:
    """One row per line that takes stock and location it is asked of.

    A kit's demand stands at its component lines. Demand is what was asked for, less what the customer no longer wants;
    units given up because there was no stock stay in it as lost. It lies where the line is planned: by the first edit or
    cancellation not known yet, or the cancellation itself, which kept the plan; else by its shipments. What no plan
    covers joins the largest place, or the default location when there is none.
    """
    return f"""
      WITH demand AS (
        SELECT f.order_line_id, f.line_no, f.sku, f.origin, f.business_date, f.lost_qty, f.lost_date, f.is_gift,
          f.order_id, f.ordered_qty - f.cancelled_qty + f.lost_qty AS demand_qty
        FROM core.fct_order_line f
        WHERE f.line_kind IN ('item', 'component', 'gift') AND f.ordered_qty - f.cancelled_qty + f.lost_qty > 0
      ), kept AS (
        SELECT order_id, arg_min(lines, order_edit_id) AS lines FROM ({edits(as_of)})
        WHERE NOT is_known OR edit_action = 'order.cancel' GROUP BY order_id
      ), kept_place AS (
        SELECT order_id, line.line_no, unnest(line.places) AS place
        FROM (SELECT order_id, unnest(lines) AS line FROM kept)
      ), place AS (
        SELECT d.order_line_id, k.place.location_id AS location_id, k.place.qty AS qty
        FROM kept_place k JOIN demand d USING (order_id, line_no)
        UNION ALL
        SELECT order_line_id, location_id, coalesce(known_qty, later_qty) AS qty FROM (
          SELECT s.order_line_id, s.location_id, sum(s.planned_qty)::BIGINT AS later_qty,
            sum(CASE WHEN {as_of.known("s.shipped_at")} THEN s.shipped_qty ELSE s.planned_qty END)
              FILTER (WHERE d.origin = 'history' OR {as_of.known("s.created_at")})::BIGINT AS known_qty
          FROM raw.shipment_line s JOIN (FROM demand ANTI JOIN kept USING (order_id)) d USING (order_line_id)
          GROUP BY ALL)
        -- a line whose shipments were all made later (moved to a new one by hand) was planned somewhere: most likely there
        QUALIFY known_qty IS NOT NULL OR max(known_qty) OVER (PARTITION BY order_line_id) IS NULL
      ), planned AS (
        SELECT order_line_id, location_id, qty, row_number() OVER by_size AS place_no,
          coalesce(sum(qty) OVER (by_size ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before_qty,
          sum(qty) OVER (PARTITION BY order_line_id) AS all_qty
        FROM place WINDOW by_size AS (PARTITION BY order_line_id ORDER BY qty DESC, location_id)
      ), fallback AS (
        SELECT origin, arg_min(location_id, preference) AS location_id FROM (
          SELECT unnest(['live', 'history']) AS origin, location_id,
            CASE WHEN origin = 'history' AND location_kind = 'history' THEN 0
                 WHEN is_default THEN 1 WHEN location_kind <> 'history' THEN 2 ELSE 3 END * 1000000
            + location_rank AS preference
          FROM raw.location) GROUP BY origin
      ), shares AS (
        SELECT d.order_line_id, d.order_id, coalesce(p.location_id, b.location_id) AS location_id, d.sku,
          d.business_date, d.is_gift, d.lost_qty, d.lost_date, CASE WHEN p.location_id IS NULL THEN d.demand_qty
            ELSE greatest(0, least(p.qty, d.demand_qty - p.before_qty))
              + CASE WHEN p.place_no = 1 THEN greatest(0, d.demand_qty - p.all_qty) ELSE 0 END END AS demand_qty
        FROM demand d LEFT JOIN planned p USING (order_line_id) JOIN fallback b ON b.origin = d.origin
      )
      SELECT * EXCLUDE (all_lost_date), CASE WHEN lost_qty > 0 THEN all_lost_date END AS lost_date FROM (
      SELECT s.order_line_id, s.order_id, l.location_code, s.sku, s.business_date, s.demand_qty::BIGINT AS demand_qty,
        CASE WHEN s.is_gift THEN s.demand_qty ELSE 0 END::BIGINT AS gift_qty, s.lost_date AS all_lost_date,
        -- lost units lie at the largest place first: nothing tells where each would have come from
        least(s.demand_qty, greatest(0, s.lost_qty - coalesce(sum(s.demand_qty) OVER (
          PARTITION BY s.order_line_id ORDER BY s.demand_qty DESC, l.location_code
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)))::BIGINT AS lost_qty
      FROM shares s JOIN raw.location l USING (location_id) WHERE s.demand_qty > 0)"""


def fct_shipment_line(as_of: AsOf) -> str:
    """One row per order line in a shipment that had left by the end of the as-of date."""
    return f"""
      SELECT s.shipment_line_id, s.shipment_id, s.order_id, s.order_line_id, k.sku, l.location_code, s.shipped_qty,
        s.shipped_at, {as_of.business_day("s.shipped_at")} AS shipped_date
      FROM raw.shipment_line s JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
      WHERE {as_of.known("s.shipped_at")}"""
