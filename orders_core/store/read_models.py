"""What the warehouse reads of the core: SELECT texts, nothing else. The pipelines run them.

Portable SQL: the same text runs on SQLite, on PostgreSQL, and in DuckDB over either. Rows of a read model with `keys`
are re-read whenever the change log names one of their entities (the highest version wins, because the current row is
read and not the logged one); rows of one that only grows are read when their id is new; any other is small and read
whole each time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReadModel:
    """One SELECT.

    Attributes:
        name: The table in the warehouse's `raw`.
        select: Its first column is the row's id.
        keys: Entity of the change log -> column of `select` that holds the entity's id.
        is_append_only: Its rows never change and never go: those whose id is not known yet are read.
    """

    name: str
    select: str
    keys: Mapping[str, str] = field(default_factory=dict)
    is_append_only: bool = False


def _changed_at(entity: str, row_id: str) -> str:
    """When the row's entity last changed: what stands in the row was known from then on, and not for certain before."""
    return f"(SELECT max(c.\"at\") FROM change_log c WHERE c.entity = '{entity}' AND c.entity_id = {row_id})"


READ_MODELS: tuple[ReadModel, ...] = (
    ReadModel(
        "sku",
        f"""
        SELECT s.id AS sku_id, s.sku, s.name AS sku_name, s.name_en AS sku_name_en, p.code AS product_code,
          c.code AS category_code, c.name AS category_name, c.name_en AS category_name_en,
          s.kind AS sku_kind, s.supply_mode, s.is_stock_tracked AS is_sku_stock_tracked, s.base_unit,
          (SELECT max(u.units_per_pack) FROM sku_unit u WHERE u.sku_id = s.id) AS units_per_pack,
          s.shelf_life_days, s.status AS sku_status, p.launched_date, p.discontinued_date, s.created_at,
          {_changed_at("sku", "s.id")} AS changed_at
        FROM sku s JOIN product p ON p.id = s.product_id LEFT JOIN category c ON c.id = p.category_id""",
    ),
    ReadModel(
        "location",
        """
        SELECT id AS location_id, code AS location_code, name AS location_name, name_en AS location_name_en,
          kind AS location_kind, country, region, rank AS location_rank, is_default,
          is_stock_tracked AS is_location_stock_tracked, is_active, can_ship
        FROM location""",
    ),
    ReadModel(
        "channel",
        """
        SELECT id AS channel_id, code AS channel_code, name AS channel_name, name_en AS channel_name_en,
          kind AS channel_kind
        FROM channel""",
    ),
    ReadModel(
        "customer",
        """
        SELECT id AS customer_id, code AS customer_code, name AS customer_name, kind AS customer_kind,
          status AS customer_status, language, level_code, created_at
        FROM customer""",
    ),
    ReadModel(
        "supplier",
        """
        SELECT id AS supplier_id, code AS supplier_code, name AS supplier_name, name_en AS supplier_name_en, currency,
          lead_time_days, lead_time_sd_days, review_period_days, min_order_cents, is_active
        FROM supplier""",
    ),
    ReadModel("supplier_closed_day", "SELECT supplier_id, day AS closed_date FROM supplier_closed_day"),
    ReadModel(
        "supplier_sku",
        """
        SELECT supplier_id, sku_id, rank AS supplier_rank, min_order_qty AS moq_qty, pack_qty, unit_cost_cents,
          price_breaks, lead_time_days
        FROM supplier_sku""",
    ),
    ReadModel(
        "cost",
        """
        SELECT id AS cost_id, sku_id, location_id, kind AS cost_kind, currency, unit_cost_cents, valid_from_date,
          valid_to_date, created_at
        FROM cost""",
    ),
    ReadModel(
        "orders",
        f"""
        SELECT o.id AS order_id, o.number AS order_number, o.channel_id, o.customer_id, o.origin, o.kind AS order_kind,
          o.status AS order_status, o.currency, o.total_cents, o.business_date, o.placed_at, o.approved_at,
          o.rejected_at, o.cancelled_at, o.cancel_reason, o.promised_by_date, o.version,
          {_changed_at("orders", "o.id")} AS changed_at
        FROM orders o""",
        keys={"orders": "order_id"},
    ),
    ReadModel(
        "order_line",
        """
        SELECT id AS order_line_id, order_id, line_no, parent_line_id, kind AS line_kind, sku_id, unit_price_cents,
          units_per_pack, net_cents, unit_cost_cents, ordered_qty, cancelled_qty, backordered_qty, shipped_qty,
          delivered_qty, returned_qty
        FROM order_line""",
        keys={"orders": "order_id"},
    ),
    ReadModel(
        "order_edit",
        """
        SELECT id AS order_edit_id, entity_id AS order_id, action AS edit_action, "at" AS edited_at, facts AS edit_facts
        FROM audit_entry WHERE entity = 'orders' AND action IN ('order.edit', 'order.cancel')""",
        keys={"orders": "order_id"},
    ),
    ReadModel(
        "shipment_line",
        f"""
        SELECT l.id AS shipment_line_id, l.shipment_id, ol.order_id, l.order_line_id, l.sku_id, s.location_id,
          s.status AS shipment_status, l.qty AS planned_qty, l.shipped_qty, s.created_at, s.shipped_at, s.delivered_at,
          {_changed_at("shipment", "s.id")} AS changed_at
        FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id JOIN order_line ol ON ol.id = l.order_line_id""",
        keys={"orders": "order_id", "shipment": "shipment_id"},
    ),
    ReadModel(
        "stock_movement",
        """
        SELECT id AS stock_movement_id, sku_id, location_id, qty AS movement_qty, state AS stock_state,
          reason AS movement_reason, source AS source_entity, source_id, lot_id, "at" AS moved_at, business_date
        FROM stock_movement""",
        keys={"stock_movement": "stock_movement_id"},
    ),
    ReadModel("lot", "SELECT id AS lot_id, sku_id, lot_code, expiry_date FROM lot", is_append_only=True),
    ReadModel(
        "purchase_order_line",
        f"""
        SELECT l.id AS purchase_order_line_id, p.id AS purchase_order_id, p.number AS purchase_order_number,
          p.supplier_id, p.location_id, p.status AS purchase_order_status, l.sku_id, l.qty AS purchased_qty,
          l.cancelled_qty, l.received_qty, p.ordered_at, coalesce(l.expected_date, p.expected_date) AS expected_date,
          {_changed_at("purchase_order", "p.id")} AS changed_at
        FROM purchase_order_line l JOIN purchase_order p ON p.id = l.purchase_order_id
        WHERE p.ordered_at IS NOT NULL""",
        keys={"purchase_order": "purchase_order_id"},
    ),
    ReadModel(
        "goods_receipt_line",
        """
        SELECT l.id AS goods_receipt_line_id, l.purchase_order_line_id, r.location_id, l.sku_id, l.qty AS received_qty,
          r.received_at
        FROM goods_receipt_line l JOIN goods_receipt r ON r.id = l.goods_receipt_id""",
        is_append_only=True,
    ),
    ReadModel(
        "production_order",
        f"""
        SELECT p.id AS production_order_id, p.sku_id, p.location_id, p.status AS production_status,
          p.qty AS production_qty, p.done_qty, p.scrap_qty, p.due_date, p.created_at,
          {_changed_at("production_order", "p.id")} AS changed_at
        FROM production_order p""",
        keys={"production_order": "production_order_id"},
    ),
    ReadModel(
        "transfer_line",
        """
        SELECT l.id AS transfer_line_id, t.from_location_id, t.to_location_id, l.sku_id, l.shipped_qty,
          t.shipped_at, t.received_at
        FROM transfer_line l JOIN transfer t ON t.id = l.transfer_id WHERE t.shipped_at IS NOT NULL""",
    ),
    ReadModel(
        "carrier",
        "SELECT id AS carrier_id, code AS carrier_code, name AS carrier_name, name_en AS carrier_name_en FROM carrier",
    ),
    ReadModel(
        "price",
        """
        SELECT id AS price_id, sku_id, kind AS price_kind, level_code, customer_id, currency, unit AS selling_unit,
          min_qty AS min_packs, unit_price_cents, valid_from_date, valid_to_date, created_at
        FROM price""",
    ),
    ReadModel(  # imported shipments are named in the change log by their orders only; their lines say all there is
        "shipment",
        """
        SELECT s.id AS shipment_id, s.number AS shipment_number, s.location_id, s.carrier_id, s.delivery_method,
          s.rate_cents AS freight_cents, s.currency, s.created_at, s.released_at, s.shipped_at, s.delivered_at
        FROM shipment s JOIN location l ON l.id = s.location_id WHERE l.kind <> 'history'""",
        keys={"shipment": "shipment_id"},
    ),
    ReadModel(  # boxes come and go while a shipment is packed; the change log names it again when it leaves
        "package",
        """
        SELECT p.id AS package_id, p.shipment_id, p.package_no, p.carrier_id, p.tracking_number, p.weight_g,
          p.created_at
        FROM package p JOIN shipment s ON s.id = p.shipment_id WHERE s.shipped_at IS NOT NULL""",
        keys={"shipment": "shipment_id"},
    ),
    ReadModel(
        "tracking_event",
        """
        SELECT e.id AS tracking_event_id, e.carrier_id, e.package_id, p.shipment_id, e.tracking_number,
          e.status AS tracking_status, e.raw_status AS carrier_status, e.occurred_at, e.received_at AS reported_at,
          e.place, e.outcome AS tracking_outcome
        FROM tracking_event e LEFT JOIN package p ON p.id = e.package_id""",
        keys={"tracking_event": "tracking_event_id"},
    ),
    ReadModel(
        "return_line",
        f"""
        SELECT l.id AS return_line_id, l.return_id, r.number AS return_number, r.order_id, l.order_line_id, o.line_no,
          o.kind AS line_kind, r.customer_id, r.channel_id, r.location_id, r.kind AS return_kind, r.origin,
          r.reason AS return_reason, r.currency, r.business_date, r.requested_at, r.received_at, r.closed_at, l.sku_id,
          l.qty AS asked_qty, l.received_qty AS returned_qty, l.restocked_qty, l.repair_qty, l.scrapped_qty,
          l.refund_cents, {_changed_at("return_authorization", "r.id")} AS changed_at
        FROM return_line l JOIN return_authorization r ON r.id = l.return_id
          LEFT JOIN order_line o ON o.id = l.order_line_id""",
        keys={"return_authorization": "return_id"},
    ),
    ReadModel(  # an entry stands at the order; the number in its facts says which of the order's returns it is about
        "return_event",
        """
        SELECT a.id AS return_event_id, r.id AS return_id, a.action AS return_action, a."at" AS happened_at,
          a.facts AS return_facts
        FROM return_authorization r JOIN audit_entry a ON a.entity = 'orders' AND a.entity_id = r.order_id
          AND CAST(a.facts AS text) LIKE '%"' || r.number || '"%'
        WHERE a.action IN ('return.approved', 'return.refused', 'return.closed', 'return.receive', 'return.inspect')""",
        keys={"return_authorization": "return_id"},
    ),
    ReadModel(
        "ticket",
        """
        SELECT id AS ticket_id, number AS ticket_number, customer_id, order_id, kind AS ticket_kind, opened_at, due_at,
          first_answer_at, solved_at
        FROM ticket""",
        keys={"ticket": "ticket_id"},
    ),
    ReadModel(
        "follow_up",
        "SELECT id AS follow_up_id, order_id, customer_id, asked_at, answered_at, score FROM follow_up",
        keys={"follow_up": "follow_up_id"},
    ),
    ReadModel(
        "payment_receipt",
        """
        SELECT id AS payment_receipt_id, number AS payment_number, customer_id, amount_cents, currency,
          method AS payment_method, received_at AS booked_at, business_date
        FROM payment_receipt""",
        keys={"payment_receipt": "payment_receipt_id"},
    ),
    ReadModel(
        "refund",
        """
        SELECT id AS refund_id, number AS payment_number, order_id, return_id, customer_id, amount_cents, currency,
          reason AS refund_reason, granted_at AS booked_at, paid_at, business_date
        FROM refund""",
        keys={"refund": "refund_id"},
    ),
    ReadModel(
        "behaviour_event",
        """
        SELECT id AS behaviour_event_id, customer_id, sku_id, channel_id, kind AS event_kind, "at" AS happened_at
        FROM behaviour_event""",
    ),
    ReadModel(
        "cart_line",
        """
        SELECT l.id AS cart_line_id, l.cart_id, c.customer_id, c.channel_id, l.sku_id, l.added_at
        FROM cart_line l JOIN cart c ON c.id = l.cart_id""",
        keys={"cart": "cart_id"},
    ),
    ReadModel(
        "forecast_override",
        """
        SELECT id AS override_id, sku_id, location_id, from_date, through_date, kind AS override_kind,
          amount AS override_amount, author, reason, expires_date, created_at, withdrawn_at
        FROM forecast_override""",
        keys={"forecast_override": "override_id"},
    ),
    ReadModel(
        "demand_adjustment",
        """
        SELECT id AS adjustment_id, sku_id, location_id, from_date, through_date, kind AS adjustment_kind, daily_qty,
          author, reason, created_at, withdrawn_at
        FROM demand_adjustment""",
        keys={"demand_adjustment": "adjustment_id"},
    ),
    ReadModel("rule_set", "SELECT version AS rules_version, body AS rules_body, created_at FROM rule_set"),
)

# ---------------------------------------------------------------------------------------------- change log, by database

SQLITE_HEAD = """
SELECT coalesce(max(id), 0) AS position, coalesce(max(id), 0) AS later_position, coalesce(max(id), 0) AS later_id
FROM change_log"""
"""How far the change log reaches: on SQLite the id is commit order."""

SQLITE_CHANGES = "SELECT id, entity, entity_id FROM change_log WHERE id > {position} AND id > {after_id}"

POSTGRESQL_HEAD = """
SELECT position, position + age(pg_snapshot_xmin(pg_current_snapshot())::xid) AS later_position,
  (SELECT coalesce(max(id), 0) FROM change_log) - 1000 AS later_id
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS position) s"""
"""How far it can be relied on: every transaction below `position` has ended. Ids would lose rows: they are not commit
order. But a transaction that has not begun yet, with a number of `later_position` or more, will take ids above `later_id`
(less some, in case an id was taken just before the number). So once the position has come that far, no change that
is still to be read has a lower id, and the log need not be searched from its beginning."""

POSTGRESQL_CHANGES = """
SELECT id, entity, entity_id FROM change_log WHERE id > {after_id} AND transaction_id >= '{position}'::xid8"""
"""What changed at or after the last head; what is visible but above the new head is read again next time."""

POSTGRESQL_BY_INDEX = """
SELECT set_config('enable_seqscan', '{on_off}', true) AS a, set_config('enable_hashjoin', '{on_off}', true) AS b,
  set_config('enable_mergejoin', '{on_off}', true) AS c, set_config('jit', '{on_off}', true) AS d"""
"""For the rest of the transaction: with `off`, some thousands of rows are found by their keys alone. The planner takes them
for so many that it reads whole tables instead. Compiling queries (`jit`) would take longer than all of them."""

LAST_CHANGE = 'SELECT id AS last_change_id, "at" AS last_change_at FROM change_log ORDER BY id DESC LIMIT 1'
"""The newest row of the log, kept as a mark: a database restored from a backup no longer has it as it was."""

CHANGE_BY_ID = 'SELECT "at" AS last_change_at FROM change_log WHERE id = {last_change_id}'

DAILY_TOTALS: tuple[str, ...] = (
    """
    SELECT o.business_date, count(*) AS orders_count, sum(o.total_cents) AS total_cents
    FROM orders o WHERE {days} GROUP BY o.business_date""",
    """
    SELECT o.business_date, count(*) AS lines_count, sum(l.ordered_qty) AS ordered_qty,
      sum(l.cancelled_qty) AS cancelled_qty, sum(l.shipped_qty) AS shipped_qty, sum(l.net_cents) AS net_cents
    FROM orders o JOIN order_line l ON l.order_id = o.{order_id} WHERE {days} GROUP BY o.business_date""",
    """
    SELECT o.business_date, count(*) AS movements_count, sum(o.{movement_qty}) AS movement_qty
    FROM stock_movement o WHERE {days} GROUP BY o.business_date""",
)
"""Totals of each business day that the extracted rows must have too; the same texts run over the warehouse's `raw`.
Where the two call a column differently, and which `days` (a condition on `o`), is filled in."""


def source_columns(database: str) -> dict[str, dict[str, str]]:
    """Table -> column -> type, as `database` ("sqlite" or "postgres") calls it: what this program takes the tables to be
    that its read models read."""
    # Here, because the process that runs the SELECTs loads neither a driver nor the store.
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    from orders_core.store import tables  # noqa: PLC0415
    from orders_core.store.base import Base  # noqa: PLC0415

    dialect = (sqlite if database == "sqlite" else postgresql).dialect()
    read = {name for model in READ_MODELS for name in re.findall(r"(?:FROM|JOIN)\s+(\w+)", model.select)}
    known = {
        name: table for name, table in Base.metadata.tables.items() if name in read | {tables.ChangeLog.__tablename__}
    }
    return {
        name: {
            column.name: column.type.compile(dialect=dialect).lower().replace("float(53)", "double precision")
            for column in table.columns
        }
        for name, table in known.items()
    }


SQLITE_COLUMNS = """
SELECT t.name AS table_name, c.name AS column_name, lower(c.type) AS column_type
FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"""

POSTGRESQL_COLUMNS = """
SELECT t.relname::text AS table_name, c.attname::text AS column_name, format_type(c.atttypid, NULL) AS column_type
FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped
WHERE t.relkind IN ('r', 'p') AND t.relnamespace = 'public'::regnamespace"""
"""The columns that are there, with the names of types as `source_columns` writes them."""
