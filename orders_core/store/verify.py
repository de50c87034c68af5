"""What must be true of every database, asked of the database itself: `dinghuo verify`.

`FACTS` says what is read, one query per kind of thing; `INVARIANTS` says what must never be so, one entry each, and in
which words it is reported. The queries are portable and read every row once: 800,000 lines of 33,000 imported orders took
6 s of one core. The decisions they check are 4 to 6 in docs/decisions.md. What a constraint
makes impossible (reserved ≤ on hand + overcommitted, refunded ≤ paid, total = its parts, one number twice, two main
contacts, a line without its order) is not asked again.

Imported history (`origin = 'history'`) records closed facts: its lines need no shipments, its orders no decision, audit
line or notice, its customers, SKUs, shipments and returns no change log row of their own. It may promise nothing.
Everything else holds for it too.

TPC-C's consistency conditions (specification 5.11, clause 3.3.2), carried over from its warehouses, districts and payments to our
orders, stock and money:

| TPC-C | there | here |
| --- | --- | --- |
| 1, 8, 9 | W_YTD = Σ D_YTD = Σ H_AMOUNT: totals equal the history they sum up | `stock_on_hand`, `stock_inspecting`, `lot_on_hand`, `receipt_settled`, `order_paid`, `order_refunded`, `return_worth` |
| 2 | D_NEXT_O_ID − 1 = max(O_ID): the next number is beyond every number used | `next_id` |
| 3, 5 | new orders and undelivered orders are the same set | `order_status`, `stock_reserved`, `stock_backordered`, `released_is_listed`, `listed_is_released` |
| 4, 6 | O_OL_CNT = number of its order lines | `order_has_lines`, `kit_parts`, `order_goods`, `order_discount`, `order_discount_named`, `order_charges`, `order_tax` |
| 7 | a line has a delivery date exactly when its order was delivered | `line_shipped`, `line_delivered`, `shipment_moment`, `packed_left`, `shipment_left_stock` |
| 10, 12 | C_BALANCE = Σ amounts delivered − Σ paid | `customer_credit`, `order_claim`, `order_overpaid`, `order_invoiced`, `order_paid`, `line_net` |
| 11 | orders − new orders = what was delivered | `line_planned`, `shipment_line_promised` |
"""  # noqa: E501 - the table

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, text

from orders_core.domain.lifecycle import OrderFacts, order_status
from orders_core.store.base import Base
from orders_core.store.tables.orders import STOCK_LINE_KINDS
from orders_core.store.uow import Store


@dataclass(frozen=True)
class Violation:
    """One row that breaks one invariant. `facts` are the numbers the sentence is filled with."""

    code: str
    entity: str
    key: str
    facts: Mapping[str, Any]
    en: str
    zh: str

    def text(self, language: str = "en") -> str:
        """The sentence in `zh` or `en`: code, entity, key and what is wrong, with the numbers."""
        sentence = (self.zh if language == "zh" else self.en).format(**self.facts)
        return f"{self.code}: {self.entity} {self.key}: {sentence}"

    def __str__(self) -> str:
        return self.text("en")


@dataclass(frozen=True)
class Invariant:
    """What must never be so: `broken` is an SQL condition over `FACTS[facts]`, or a function of such a row.

    The function gives what its sentence needs besides the row, or None when the row is right.
    """

    code: str
    facts: str
    broken: str | Callable[[Any], dict[str, Any] | None]
    en: str
    zh: str


@dataclass(frozen=True)
class Facts:
    """A query with one row per entity, `q`, and how to name a row of it."""

    entity: str
    key: str
    query: str


def verify(store: Store, *, limit_each: int = 1000) -> list[Violation]:
    """Every row that breaks an invariant, in the order of `INVARIANTS`; an empty list is what is wanted.

    At most `limit_each` rows are named per kind of thing. Reads one consistent state and blocks nobody.
    """
    with store.reading() as conn:
        return violations_in(conn, limit_each=limit_each)


def violations_in(conn: Connection, *, limit_each: int = 1000) -> list[Violation]:
    """`verify` over what one connection sees, uncommitted changes of its own included."""
    found = [violation for name in FACTS for violation in _violations(conn, name, limit_each)]
    order = {invariant.code: position for position, invariant in enumerate(INVARIANTS)}
    return sorted(found, key=lambda violation: order[violation.code])


def _violations(conn: Connection, name: str, limit: int) -> Iterator[Violation]:
    facts = FACTS[name]
    invariants = [invariant for invariant in INVARIANTS if invariant.facts == name]
    conditions = {i: asked.broken for i, asked in enumerate(invariants) if isinstance(asked.broken, str)}
    verdicts = "".join(
        f", CASE WHEN {condition} THEN 1 ELSE 0 END AS broken_{i}" for i, condition in conditions.items()
    )
    some_by_function = len(conditions) < len(invariants)  # then every row is looked at here
    where = "1 = 1" if some_by_function else " OR ".join(f"({condition})" for condition in conditions.values())
    rows = conn.execute(text(f"SELECT q.*, {facts.key} AS key{verdicts} FROM ({facts.query}) q WHERE {where}"))
    named = 0
    for row in rows.yield_per(5000):
        for i, asked in enumerate(invariants):
            more = row._mapping[f"broken_{i}"] if isinstance(asked.broken, str) else asked.broken(row)
            if more:
                numbers = {name: int(x) if isinstance(x, Decimal) else x for name, x in row._mapping.items()}
                numbers |= more if isinstance(more, dict) else {}
                yield Violation(asked.code, facts.entity, row.key, numbers, asked.en, asked.zh)
                named += 1
        if named >= limit:
            rows.close()
            return


# ---------------------------------------------------------------------------------------------------------------- facts

_STOCK_KINDS = ", ".join(f"'{kind}'" for kind in STOCK_LINE_KINDS)
_SKU = "(SELECT k.sku FROM sku k WHERE k.id = q.sku_id)"
_SKU_AT_LOCATION = f"{_SKU} || '@' || (SELECT w.code FROM location w WHERE w.id = q.location_id)"

_VERSIONED = [
    table
    for table in Base.metadata.sorted_tables
    # Log tables name the version of something else; packages travel with their shipment.
    if {"id", "version"} <= set(table.c.keys()) and table.c["id"].autoincrement is False and table.name != "package"
]
_WITH_ID = [table for table in Base.metadata.sorted_tables if "id" in table.c and table.c["id"].autoincrement is False]
_HISTORY_HAS_NO_LOG = ("customer", "sku", "return_authorization")


def _logged(table: str) -> str:
    """Per row of a versioned table: its version, and the newest one the change log knows."""
    exempt = ""
    if table == "product":
        exempt = (
            " AND NOT (e.version = 1 AND EXISTS"
            " (SELECT 1 FROM sku k WHERE k.product_id = e.id AND k.origin = 'history'))"
        )
    elif table == "shipment":
        exempt = (
            " AND NOT (e.version = 1 AND EXISTS (SELECT 1 FROM shipment_line l JOIN order_line ol"
            " ON ol.id = l.order_line_id JOIN orders o ON o.id = ol.order_id"
            " WHERE l.shipment_id = e.id AND o.origin = 'history'))"
        )
    elif table in _HISTORY_HAS_NO_LOG:
        exempt = " AND NOT (e.version = 1 AND e.origin = 'history')"
    return f"""
        SELECT '{table}' AS logged_entity, e.id AS entity_id, e.version, c.version AS logged_version
        FROM {table} e LEFT JOIN (SELECT entity_id, max(version) AS version FROM change_log
          WHERE entity = '{table}' GROUP BY entity_id) c ON c.entity_id = e.id
        WHERE (c.version IS NULL OR c.version <> e.version){exempt}"""


def _vanished(table: str) -> str:
    """Change log rows of rows that are not there, without a word that they were deleted."""
    return f"""
        SELECT c.entity, c.entity_id FROM change_log c WHERE c.entity = '{table}'
          AND NOT EXISTS (SELECT 1 FROM {table} e WHERE e.id = c.entity_id)
        GROUP BY c.entity, c.entity_id HAVING max(CASE WHEN c.operation = 'delete' THEN 1 ELSE 0 END) = 0"""


FACTS: dict[str, Facts] = {
    "stock_level": Facts(
        "stock_level",
        _SKU_AT_LOCATION,
        """
        SELECT sku_id, location_id, sum(on_hand) AS on_hand_qty, sum(moved) AS moved_qty,
          sum(inspecting) AS inspecting_qty, sum(moved_inspecting) AS moved_inspecting_qty,
          sum(reserved) AS reserved_qty, sum(line_reserved) AS line_reserved_qty, sum(held) AS held_qty,
          sum(backordered) AS backordered_qty, sum(line_backordered) AS line_backordered_qty
        FROM (
          SELECT sku_id, location_id, on_hand_qty AS on_hand, 0 AS moved, inspecting_qty AS inspecting,
            0 AS moved_inspecting, reserved_qty AS reserved, 0 AS line_reserved, 0 AS held,
            backordered_qty AS backordered, 0 AS line_backordered
          FROM stock_level
          UNION ALL
          SELECT sku_id, location_id, 0, sum(CASE WHEN state = 'on_hand' THEN qty ELSE 0 END), 0,
            sum(CASE WHEN state = 'on_hand' THEN 0 ELSE qty END), 0, 0, 0, 0, 0
          FROM stock_movement GROUP BY sku_id, location_id
          UNION ALL
          SELECT l.sku_id, s.location_id, 0, 0, 0, 0, 0, l.reserved_qty, 0, 0, l.backordered_qty
          FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
          WHERE l.reserved_qty > 0 OR l.backordered_qty > 0
          UNION ALL
          SELECT sku_id, location_id, 0, 0, 0, 0, 0, 0, qty, 0, 0 FROM cart_hold
        ) parts GROUP BY sku_id, location_id""",
    ),
    "lot_level": Facts(
        "lot_level",
        "(SELECT k.sku || '/' || l.lot_code FROM lot l JOIN sku k ON k.id = l.sku_id WHERE l.id = q.lot_id)"
        " || '@' || (SELECT w.code FROM location w WHERE w.id = q.location_id)",
        """
        SELECT lot_id, location_id, sum(on_hand) AS on_hand_qty, sum(moved) AS moved_qty
        FROM (
          SELECT lot_id, location_id, on_hand_qty AS on_hand, 0 AS moved FROM lot_level
          UNION ALL
          SELECT lot_id, location_id, 0, qty FROM stock_movement WHERE lot_id IS NOT NULL AND state = 'on_hand'
        ) parts GROUP BY lot_id, location_id""",
    ),
    "lot_movement": Facts(
        "stock_movement",
        "CAST(q.id AS text)",
        """
        SELECT m.id, l.lot_code, (SELECT k.sku FROM sku k WHERE k.id = m.sku_id) AS sku,
          (SELECT k.sku FROM sku k WHERE k.id = l.sku_id) AS lot_sku
        FROM stock_movement m JOIN lot l ON l.id = m.lot_id WHERE l.sku_id <> m.sku_id""",
    ),
    "lots": Facts(
        "stock_level",
        _SKU_AT_LOCATION,
        """
        SELECT l.sku_id, l.location_id, l.on_hand_qty,
          coalesce((SELECT sum(b.on_hand_qty) FROM lot a JOIN lot_level b ON b.lot_id = a.id
            WHERE a.sku_id = l.sku_id AND b.location_id = l.location_id), 0) AS lots_qty
        FROM stock_level l JOIN sku k ON k.id = l.sku_id WHERE k.is_lot_tracked""",
    ),
    "cart_hold": Facts(
        "cart_hold",
        _SKU_AT_LOCATION,
        """
        SELECT h.sku_id, h.location_id, h.qty, l.sku_id AS line_sku_id, c.status AS cart_status
        FROM cart_hold h JOIN cart_line l ON l.id = h.cart_line_id JOIN cart c ON c.id = l.cart_id""",
    ),
    "order_line": Facts(
        "order_line",
        "(SELECT o.number FROM orders o WHERE o.id = q.order_id) || ' line ' || q.line_no",
        f"""
        SELECT l.id AS order_line_id, l.order_id, l.line_no, l.kind, o.origin,
          l.kind IN ({_STOCK_KINDS}) AS takes_stock, o.rejected_at,
          l.ordered_qty, l.ordered_qty - l.cancelled_qty + l.over_delivery_qty AS wanted_qty,
          l.reserved_qty, l.backordered_qty, l.shipped_qty, l.delivered_qty,
          l.pack_qty, l.units_per_pack, l.unit_price_cents, l.discount_cents, l.net_cents,
          count(s.id) AS parts_count,
          coalesce(sum(s.reserved_qty), 0) AS parts_reserved_qty,
          coalesce(sum(s.backordered_qty), 0) AS parts_backordered_qty,
          coalesce(sum(s.shipped_qty), 0) AS parts_shipped_qty,
          coalesce(sum(s.delivered_qty), 0) AS parts_delivered_qty,
          coalesce(sum(CASE WHEN p.status = 'cancelled' OR s.is_withdrawn THEN 0 WHEN p.shipped_at IS NULL THEN s.qty
            ELSE s.shipped_qty END), 0) AS parts_planned_qty,
          coalesce(sum(CASE WHEN s.sku_id <> l.sku_id THEN 1 ELSE 0 END), 0) AS other_sku_count
        FROM order_line l JOIN orders o ON o.id = l.order_id
          LEFT JOIN shipment_line s ON s.order_line_id = l.id LEFT JOIN shipment p ON p.id = s.shipment_id
        GROUP BY l.id, o.id""",
    ),
    "part_line": Facts(
        "order_line",
        "(SELECT o.number FROM orders o WHERE o.id = q.order_id) || ' line ' || q.line_no",
        """
        SELECT l.order_id, l.line_no, l.kind, l.part_qty, l.ordered_qty, l.cancelled_qty, l.shipped_qty, l.net_cents,
          l.pack_qty * l.unit_price_cents AS gross_cents, p.order_id AS parent_order_id, p.kind AS parent_kind,
          p.line_no AS parent_line_no, p.ordered_qty AS parent_ordered_qty, p.cancelled_qty AS parent_cancelled_qty
        FROM order_line l JOIN order_line p ON p.id = l.parent_line_id""",
    ),
    "kit_line": Facts(
        "order_line",
        "(SELECT o.number FROM orders o WHERE o.id = q.order_id) || ' line ' || q.line_no",
        """
        SELECT l.order_id, l.line_no, l.shipped_qty, l.delivered_qty,
          coalesce(min(CASE WHEN c.shipped_qty * l.ordered_qty / c.ordered_qty < l.ordered_qty - l.cancelled_qty
            THEN c.shipped_qty * l.ordered_qty / c.ordered_qty ELSE l.ordered_qty - l.cancelled_qty END), 0)
            AS parts_shipped_qty,
          coalesce(min(CASE WHEN c.delivered_qty * l.ordered_qty / c.ordered_qty < l.ordered_qty - l.cancelled_qty
            THEN c.delivered_qty * l.ordered_qty / c.ordered_qty ELSE l.ordered_qty - l.cancelled_qty END), 0)
            AS parts_delivered_qty
        FROM order_line l JOIN orders o ON o.id = l.order_id
          LEFT JOIN order_line c ON c.order_id = l.order_id AND c.parent_line_id = l.id AND c.kind = 'component'
            AND c.ordered_qty > 0
        WHERE l.kind = 'kit' AND o.origin = 'live' GROUP BY l.id""",
    ),
    "returned_line": Facts(
        "order_line",
        "(SELECT o.number || ' line ' || l.line_no FROM order_line l JOIN orders o ON o.id = l.order_id"
        " WHERE l.id = q.order_line_id)",
        """
        SELECT order_line_id, sum(returned) AS returned_qty, sum(received) AS received_qty,
          sum(refunded) AS refunded_cents, sum(granted) AS granted_cents
        FROM (
          SELECT id AS order_line_id, returned_qty AS returned, 0 AS received, refunded_cents AS refunded, 0 AS granted
          FROM order_line WHERE returned_qty <> 0 OR refunded_cents <> 0
          UNION ALL
          SELECT order_line_id, 0, received_qty, 0, refund_cents FROM return_line
          WHERE order_line_id IS NOT NULL AND (received_qty <> 0 OR refund_cents <> 0)
        ) parts GROUP BY order_line_id""",
    ),
    "shipment_line": Facts(
        "shipment_line",
        f"(SELECT s.number FROM shipment s WHERE s.id = q.shipment_id) || ' ' || {_SKU}",
        """
        SELECT l.shipment_id, l.sku_id, l.qty, l.reserved_qty, l.backordered_qty, l.shipped_qty,
          s.status AS shipment_status, s.shipped_at,
          (s.shipped_at IS NOT NULL OR s.status = 'cancelled' OR l.is_withdrawn) AS is_closed,
          (k.is_stock_tracked AND w.is_stock_tracked) AS is_tracked,
          k.is_lot_tracked, coalesce((SELECT sum(t.qty) FROM shipped_lot t WHERE t.shipment_line_id = l.id), 0) AS lots_qty,
          coalesce((SELECT sum(b.qty) FROM package_line b WHERE b.shipment_line_id = l.id), 0) AS packed_qty
        FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
          JOIN sku k ON k.id = l.sku_id JOIN location w ON w.id = s.location_id""",
    ),
    "shipment": Facts(
        "shipment",
        "q.number",
        """
        SELECT s.id, s.number, s.status, s.shipped_at, s.delivered_at FROM shipment s""",
    ),
    "pick_list_line": Facts(
        "pick_list",
        "q.number || ' position ' || q.position",
        """
        SELECT p.number, x.position, p.status AS list_status, s.number AS shipment_number, s.status AS shipment_status
        FROM pick_list_line x JOIN pick_list p ON p.id = x.pick_list_id
          JOIN shipment_line l ON l.id = x.shipment_line_id JOIN shipment s ON s.id = l.shipment_id
        WHERE x.status = 'open'""",
    ),
    "package_line": Facts(
        "package",
        "q.number || '/' || q.package_no",
        """
        SELECT s.number, p.package_no, o.number AS line_shipment
        FROM package_line b JOIN package p ON p.id = b.package_id JOIN shipment s ON s.id = p.shipment_id
          JOIN shipment_line l ON l.id = b.shipment_line_id JOIN shipment o ON o.id = l.shipment_id
        WHERE l.shipment_id <> p.shipment_id""",
    ),
    "shipment_ledger": Facts(
        "shipment",
        f"(SELECT s.number FROM shipment s WHERE s.id = q.shipment_id) || ' ' || {_SKU}",
        """
        SELECT shipment_id, sku_id, sum(shipped) AS shipped_qty, sum(moved) AS moved_qty
        FROM (
          SELECT l.shipment_id, l.sku_id, l.shipped_qty AS shipped, 0 AS moved
          FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
            JOIN sku k ON k.id = l.sku_id JOIN location w ON w.id = s.location_id
          WHERE l.shipped_qty <> 0 AND k.is_stock_tracked AND w.is_stock_tracked
          UNION ALL
          SELECT source_id, sku_id, 0, -qty FROM stock_movement WHERE source = 'shipment' AND reason = 'ship'
        ) parts GROUP BY shipment_id, sku_id""",
    ),
    "return_ledger": Facts(
        "return_authorization",
        f"(SELECT r.number FROM return_authorization r WHERE r.id = q.return_id) || ' ' || {_SKU}",
        """
        SELECT return_id, sku_id, sum(restocked) AS restocked_qty, sum(moved) AS moved_qty,
          sum(waiting) AS waiting_qty, sum(moved_inspecting) AS moved_inspecting_qty
        FROM (
          SELECT l.return_id, k.id AS sku_id, coalesce(c.ordered_qty * l.restocked_qty / o.ordered_qty, l.restocked_qty)
              AS restocked, 0 AS moved,
            coalesce(c.ordered_qty * (l.received_qty - l.restocked_qty - l.repair_qty - l.scrapped_qty) / o.ordered_qty,
              l.received_qty - l.restocked_qty - l.repair_qty - l.scrapped_qty) AS waiting, 0 AS moved_inspecting
          FROM return_line l JOIN return_authorization r ON r.id = l.return_id
            LEFT JOIN order_line o ON o.id = l.order_line_id
            LEFT JOIN order_line c ON c.order_id = o.order_id AND c.parent_line_id = o.id AND c.kind = 'component'
            JOIN sku k ON k.id = coalesce(c.sku_id, l.sku_id) JOIN location w ON w.id = r.location_id
          WHERE l.received_qty <> 0 AND r.origin = 'live' AND k.is_stock_tracked AND w.is_stock_tracked
            AND k.kind <> 'service'
          UNION ALL
          SELECT source_id, sku_id, 0, CASE WHEN state = 'on_hand' THEN qty ELSE 0 END, 0,
            CASE WHEN state = 'on_hand' THEN 0 ELSE qty END
          FROM stock_movement WHERE source = 'return_authorization'
        ) parts GROUP BY return_id, sku_id""",
    ),
    "return_money": Facts(
        "return_authorization",
        "q.number",
        """
        SELECT r.number, r.refund_cents,
          coalesce((SELECT sum(l.refund_cents) FROM return_line l WHERE l.return_id = r.id), 0) AS lines_cents,
          coalesce((SELECT -sum(c.amount_cents) FROM order_charge c WHERE c.order_id = r.order_id
            AND c.code = 'return:' || r.number), 0) AS charged_cents,
          r.kind = 'refund_only' AS is_money_only,
          coalesce((SELECT sum(f.amount_cents) FROM refund f WHERE f.return_id = r.id), 0) AS granted_cents
        FROM return_authorization r WHERE r.origin = 'live'""",
    ),
    "goods_receipt_ledger": Facts(
        "goods_receipt",
        f"(SELECT r.number FROM goods_receipt r WHERE r.id = q.goods_receipt_id) || ' ' || {_SKU} || ' ' || q.state",
        """
        SELECT goods_receipt_id, sku_id, state, sum(received) AS received_qty, sum(moved) AS moved_qty
        FROM (
          SELECT l.goods_receipt_id, l.sku_id, l.state, l.qty AS received, 0 AS moved
          FROM goods_receipt_line l JOIN goods_receipt r ON r.id = l.goods_receipt_id
            JOIN sku k ON k.id = l.sku_id JOIN location w ON w.id = r.location_id
          WHERE k.is_stock_tracked AND w.is_stock_tracked
          UNION ALL
          SELECT source_id, sku_id, state, 0, qty FROM stock_movement
          WHERE source = 'goods_receipt' AND reason = 'receipt'
        ) parts GROUP BY goods_receipt_id, sku_id, state""",
    ),
    "purchase_order": Facts(
        "purchase_order",
        "q.number",
        """
        SELECT p.number, p.total_cents, coalesce(sum(l.qty * l.unit_cost_cents), 0) AS lines_cents
        FROM purchase_order p LEFT JOIN purchase_order_line l ON l.purchase_order_id = p.id GROUP BY p.id""",
    ),
    "purchase_order_line": Facts(
        "purchase_order_line",
        "(SELECT p.number FROM purchase_order p WHERE p.id = q.purchase_order_id) || ' line ' || q.line_no",
        """
        SELECT l.purchase_order_id, l.line_no, l.received_qty,
          coalesce((SELECT sum(r.qty) FROM goods_receipt_line r WHERE r.purchase_order_line_id = l.id), 0)
            AS receipts_qty
        FROM purchase_order_line l""",
    ),
    "suggestion_approval": Facts(
        "suggestion_approval",
        f"q.as_of_date || ' ' || {_SKU_AT_LOCATION}",
        """
        SELECT a.as_of_date, a.sku_id, a.location_id, a.approved_qty, coalesce(p.number, m.number) AS number,
          coalesce(l.qty, m.qty) AS bought_qty,
          CASE WHEN coalesce(l.sku_id, m.sku_id) = a.sku_id AND coalesce(p.location_id, m.location_id) = a.location_id
            THEN 0 ELSE 1 END AS is_another,
          CASE WHEN a.withdrawn_at IS NULL THEN 0 ELSE 1 END AS is_withdrawn,
          CASE WHEN m.status = 'cancelled' OR (p.status IN ('cancelled', 'closed') AND l.received_qty = 0)
            THEN 1 ELSE 0 END AS is_closed_empty, coalesce(p.status, m.status) AS status
        FROM suggestion_approval a LEFT JOIN purchase_order_line l ON l.id = a.purchase_order_line_id
          LEFT JOIN purchase_order p ON p.id = l.purchase_order_id
          LEFT JOIN production_order m ON m.id = a.production_order_id""",
    ),
    "transfer_ledger": Facts(
        "transfer",
        f"(SELECT t.number FROM transfer t WHERE t.id = q.transfer_id) || ' ' || {_SKU}",
        """
        SELECT transfer_id, sku_id, sum(shipped) AS shipped_qty, sum(moved_out) AS moved_out_qty,
          sum(received) AS received_qty, sum(moved_in) AS moved_in_qty
        FROM (
          SELECT l.transfer_id, l.sku_id, CASE WHEN a.is_stock_tracked THEN l.shipped_qty ELSE 0 END AS shipped,
            0 AS moved_out, CASE WHEN b.is_stock_tracked THEN l.received_qty ELSE 0 END AS received, 0 AS moved_in
          FROM transfer_line l JOIN transfer t ON t.id = l.transfer_id JOIN sku k ON k.id = l.sku_id
            JOIN location a ON a.id = t.from_location_id JOIN location b ON b.id = t.to_location_id
          WHERE k.is_stock_tracked
          UNION ALL
          SELECT source_id, sku_id, 0, CASE WHEN reason = 'transfer_out' THEN -qty ELSE 0 END,
            0, CASE WHEN reason = 'transfer_in' THEN qty ELSE 0 END
          FROM stock_movement WHERE source = 'transfer'
        ) parts GROUP BY transfer_id, sku_id""",
    ),
    "stock_count_ledger": Facts(
        "stock_count",
        f"(SELECT c.number FROM stock_count c WHERE c.id = q.stock_count_id) || ' ' || {_SKU}",
        """
        SELECT stock_count_id, sku_id, sum(difference) AS difference_qty, sum(moved) AS moved_qty
        FROM (
          SELECT l.stock_count_id, l.sku_id, l.counted_qty - l.expected_qty AS difference, 0 AS moved
          FROM stock_count_line l JOIN stock_count c ON c.id = l.stock_count_id WHERE c.status = 'posted'
          UNION ALL
          SELECT source_id, sku_id, 0, qty FROM stock_movement WHERE source = 'stock_count'
        ) parts GROUP BY stock_count_id, sku_id""",
    ),
    "production_ledger": Facts(
        "production_order",
        "q.number",
        """
        SELECT p.number, p.done_qty,
          coalesce((SELECT sum(m.qty) FROM stock_movement m WHERE m.source = 'production_order' AND m.source_id = p.id
            AND m.reason = 'production_in'), 0) AS moved_qty
        FROM production_order p JOIN sku k ON k.id = p.sku_id JOIN location w ON w.id = p.location_id
        WHERE k.is_stock_tracked AND w.is_stock_tracked""",
    ),
    "orders": Facts(
        "orders",
        "q.number",
        """
        SELECT o.id, o.number, o.origin, count(l.id) AS lines_count, o.goods_cents, o.discount_cents, o.charges_cents,
          o.tax_cents, o.total_cents, o.paid_cents, o.refunded_cents, o.credit_claimed_cents,
          (o.cancelled_at IS NOT NULL OR o.rejected_at IS NOT NULL) AS is_dead,
          (o.origin = 'live' AND o.payment_method = 'credit'
            AND (o.approved_at IS NOT NULL OR coalesce(sum(l.shipped_qty), 0) > 0)) AS may_claim,
          coalesce(sum(l.pack_qty * l.unit_price_cents), 0) AS lines_goods_cents,
          coalesce(sum(l.discount_cents), 0) AS lines_discount_cents,
          coalesce(sum(l.tax_cents), 0) AS lines_tax_cents,
          coalesce((SELECT sum(c.amount_cents) FROM order_charge c WHERE c.order_id = o.id), 0) AS sum_charges_cents,
          (SELECT count(*) FROM order_charge c WHERE c.order_id = o.id) AS charges_count,
          coalesce((SELECT sum(s.amount_cents) FROM receipt_settlement s WHERE s.order_id = o.id), 0) AS settled_cents,
          coalesce((SELECT sum(r.amount_cents) FROM refund r WHERE r.order_id = o.id), 0) AS granted_cents
        FROM orders o LEFT JOIN order_line l ON l.order_id = o.id GROUP BY o.id""",
    ),
    "invoiced": Facts(
        "orders",
        "q.number",
        """
        SELECT o.number, o.total_cents, (o.cancelled_at IS NOT NULL OR o.rejected_at IS NOT NULL) AS is_dead,
          sum(CASE WHEN r.kind = 'red' THEN -il.amount_cents ELSE il.amount_cents END) AS asked_cents
        FROM invoice_request r JOIN invoice_request_line il ON il.invoice_request_id = r.id
          JOIN order_line l ON l.id = il.order_line_id JOIN orders o ON o.id = l.order_id
        WHERE o.origin = 'live' AND r.status NOT IN ('refused', 'cancelled')
        GROUP BY o.number, o.total_cents, o.cancelled_at, o.rejected_at""",
    ),
    "order_status": Facts(
        "orders",
        "q.number",
        f"""
        SELECT o.number, o.status, o.cancelled_at, o.rejected_at, o.hold_reason, o.approved_at,
          CASE WHEN o.id IN (SELECT wl.order_id FROM shipment ws JOIN shipment_line wp ON wp.shipment_id = ws.id
            JOIN order_line wl ON wl.id = wp.order_line_id WHERE ws.status IN ('released', 'picked', 'packed'))
            THEN 1 ELSE 0 END AS in_warehouse,
          coalesce(sum(CASE WHEN l.kind IN ({_STOCK_KINDS}) THEN l.ordered_qty - l.cancelled_qty END), 0) AS ordered_qty,
          coalesce(sum(l.reserved_qty), 0) AS reserved_qty, coalesce(sum(l.backordered_qty), 0) AS backordered_qty,
          coalesce(sum(CASE WHEN l.kind IN ({_STOCK_KINDS}) THEN l.shipped_qty END), 0) AS shipped_qty,
          coalesce(sum(CASE WHEN l.kind IN ({_STOCK_KINDS}) THEN l.delivered_qty END), 0) AS delivered_qty,
          CASE WHEN o.id IN (SELECT wl.order_id FROM shipment ws JOIN shipment_line wp ON wp.shipment_id = ws.id
            JOIN order_line wl ON wl.id = wp.order_line_id WHERE ws.status = 'shipped' AND wp.delivered_qty < wp.shipped_qty)
            THEN 0 ELSE coalesce(sum(CASE WHEN l.kind IN ({_STOCK_KINDS}) THEN
              CASE WHEN l.returned_qty + coalesce(p.returned_qty * l.ordered_qty / nullif(p.ordered_qty, 0), 0)
                < l.shipped_qty - l.delivered_qty
              THEN l.returned_qty + coalesce(p.returned_qty * l.ordered_qty / nullif(p.ordered_qty, 0), 0)
              ELSE l.shipped_qty - l.delivered_qty END END), 0) END AS back_qty,
          coalesce(sum(CASE WHEN l.kind = 'service' THEN l.ordered_qty - l.cancelled_qty END), 0) AS service_qty,
          coalesce(sum(CASE WHEN l.kind = 'service' THEN l.delivered_qty END), 0) AS performed_qty
        FROM orders o LEFT JOIN order_line l ON l.order_id = o.id
          LEFT JOIN order_line p ON p.id = l.parent_line_id AND p.kind = 'kit' GROUP BY o.id""",
    ),
    "order_traces": Facts(
        "orders",
        "q.number",
        """
        SELECT o.number,
          (SELECT count(*) FROM decision d WHERE d.entity = 'orders' AND d.entity_id = o.id) AS decisions_count,
          (SELECT count(*) FROM audit_entry a WHERE a.entity = 'orders' AND a.entity_id = o.id) AS audit_count,
          (SELECT count(*) FROM outbox n WHERE n.entity = 'orders' AND n.entity_id = o.id
            AND n.template = 'order_confirmation') AS confirmations_count,
          (SELECT count(*) FROM customer_contact c WHERE c.customer_id = o.customer_id AND c.is_primary
            AND c.email <> '') AS recipients_count,
          (SELECT count(*) FROM change_log g WHERE g.entity = 'customer' AND g.entity_id = o.customer_id
            AND g.operation <> 'insert' AND g.at >= o.placed_at) AS customer_changes_count
        FROM orders o WHERE o.origin = 'live'""",
    ),
    "payment_receipt": Facts(
        "payment_receipt",
        "q.number",
        """
        SELECT r.number, r.settled_cents, r.currency, coalesce(sum(s.amount_cents), 0) AS settlements_cents,
          coalesce(sum(CASE WHEN o.currency <> r.currency THEN 1 ELSE 0 END), 0) AS other_currency_count
        FROM payment_receipt r LEFT JOIN receipt_settlement s ON s.payment_receipt_id = r.id
          LEFT JOIN orders o ON o.id = s.order_id GROUP BY r.id""",
    ),
    "refund": Facts(
        "refund",
        "q.number",
        """
        SELECT r.number, r.currency, r.status, r.paid_at, o.currency AS order_currency
        FROM refund r LEFT JOIN orders o ON o.id = r.order_id""",
    ),
    "customer": Facts(
        "customer",
        "q.code",
        """
        SELECT c.code, c.credit_used_cents, coalesce((SELECT sum(o.credit_claimed_cents) FROM orders o
          WHERE o.customer_id = c.id AND o.credit_claimed_cents > 0), 0) AS claimed_cents
        FROM customer c""",
    ),
    "coupon": Facts(
        "coupon",
        "q.code",
        """
        SELECT c.code, c.used_count, (SELECT count(*) FROM coupon_use u WHERE u.coupon_id = c.id) AS uses_count
        FROM coupon c""",
    ),
    "change_log": Facts(
        "change_log",
        "q.logged_entity || ' ' || q.entity_id",
        " UNION ALL ".join(_logged(table.name) for table in _VERSIONED),
    ),
    "movement_log": Facts(
        "stock_movement",
        "CAST(q.id AS text)",
        """
        SELECT m.id FROM stock_movement m LEFT JOIN change_log c ON c.entity = 'stock_movement' AND c.entity_id = m.id
        WHERE c.id IS NULL""",
    ),
    "vanished": Facts(
        "change_log",
        "q.entity || ' ' || q.entity_id",
        " UNION ALL ".join(_vanished(name) for name in [*(table.name for table in _VERSIONED), "stock_movement"]),
    ),
    "next_id": Facts(
        "number_series",
        "q.table_name",
        "SELECT ids.table_name, ids.max_id, coalesce(n.next_value, 1) AS next_value FROM ("
        + " UNION ALL ".join(f"SELECT '{t.name}' AS table_name, max(id) AS max_id FROM {t.name}" for t in _WITH_ID)
        + ") ids LEFT JOIN number_series n ON n.name = 'id' WHERE ids.max_id IS NOT NULL",
    ),
}
"""What is read, by name. One query each; `key` is looked up only for rows that break something."""


@lru_cache(maxsize=10_000)  # most orders look like another one: a quarter of a million of them in a second
def _status(*facts: Any) -> str:
    return order_status(OrderFacts(*facts))


def _other_status(row: Any) -> dict[str, Any] | None:
    derived = _status(
        row.cancelled_at is not None,
        row.rejected_at is not None,
        row.hold_reason is not None,
        row.approved_at is not None,
        row.in_warehouse == 1,
        row.ordered_qty,
        row.reserved_qty,
        row.backordered_qty,
        row.shipped_qty,
        row.delivered_qty,
        row.back_qty,
        row.service_qty,
        row.performed_qty,
    )
    return {"derived_status": derived} if derived != row.status else None


INVARIANTS: tuple[Invariant, ...] = (
    # Stock
    Invariant(
        "stock_on_hand",
        "stock_level",
        "on_hand_qty <> moved_qty",
        en="{on_hand_qty} on hand, but its movements sum to {moved_qty}",
        zh="实物库存 {on_hand_qty}，但流水合计为 {moved_qty}",
    ),
    Invariant(
        "stock_inspecting",
        "stock_level",
        "inspecting_qty <> moved_inspecting_qty",
        en="{inspecting_qty} under inspection, but its movements sum to {moved_inspecting_qty}",
        zh="待检 {inspecting_qty}，但流水合计为 {moved_inspecting_qty}",
    ),
    Invariant(
        "stock_reserved",
        "stock_level",
        "reserved_qty <> line_reserved_qty + held_qty",
        en="{reserved_qty} reserved, but shipment lines hold {line_reserved_qty} and carts {held_qty}",
        zh="占用 {reserved_qty}，但发货明细占用 {line_reserved_qty}、购物车占用 {held_qty}",
    ),
    Invariant(
        "stock_backordered",
        "stock_level",
        "backordered_qty <> line_backordered_qty",
        en="{backordered_qty} backordered, but shipment lines wait for {line_backordered_qty}",
        zh="欠货 {backordered_qty}，但发货明细欠货合计 {line_backordered_qty}",
    ),
    Invariant(
        "lot_on_hand",
        "lot_level",
        "on_hand_qty <> moved_qty",
        en="{on_hand_qty} on hand, but the lot's movements sum to {moved_qty}",
        zh="批次库存 {on_hand_qty}，但流水合计为 {moved_qty}",
    ),
    Invariant(
        "lots_sum",
        "lots",
        "on_hand_qty <> lots_qty",
        en="{on_hand_qty} on hand, but its lots sum to {lots_qty}",
        zh="实物库存 {on_hand_qty}，但各批次合计 {lots_qty}",
    ),
    Invariant(
        "lot_of_same_sku",
        "lot_movement",
        "lot_sku <> sku",
        en="it moves {sku}, but its lot {lot_code} is of {lot_sku}",
        zh="流水的 SKU 是 {sku}，但批次 {lot_code} 属于 {lot_sku}",
    ),
    Invariant(
        "hold_of_open_cart",
        "cart_hold",
        "cart_status <> 'open'",
        en="{qty} units are held for a cart that is {cart_status}",
        zh="为状态 {cart_status} 的购物车占用了 {qty}",
    ),
    Invariant(
        "hold_of_same_sku",
        "cart_hold",
        "sku_id <> line_sku_id",
        en="{qty} units are held for a cart line of another SKU (id {line_sku_id})",
        zh="占用的 {qty} 对应的购物车明细是其他 SKU(id {line_sku_id})",
    ),
    # Orders and their shipments
    Invariant(
        "order_has_lines",
        "orders",
        "lines_count = 0 AND NOT (origin = 'history' AND charges_count > 0)",  # old invoices of postage alone
        en="it has no line",
        zh="没有明细行",
    ),
    Invariant(
        "line_packs",
        "order_line",
        "ordered_qty <> pack_qty * units_per_pack",
        en="{ordered_qty} ordered, but {pack_qty} packs of {units_per_pack} were entered",
        zh="订货 {ordered_qty}，但录入的是 {pack_qty} 箱 × {units_per_pack}",
    ),
    Invariant(
        "line_net",
        "order_line",
        "net_cents <> pack_qty * unit_price_cents - discount_cents",
        en="net is {net_cents}, but {pack_qty} × {unit_price_cents} − {discount_cents} is something else (in cents)",
        zh="净额 {net_cents}，不等于 {pack_qty} × {unit_price_cents} − {discount_cents}(分)",
    ),
    Invariant(
        "line_parent",
        "part_line",
        "parent_order_id <> order_id",
        en="its parent line belongs to another order (id {parent_order_id})",
        zh="其上级明细属于另一张订单(id {parent_order_id})",
    ),
    Invariant(
        "part_is_free",
        "part_line",
        "gross_cents <> 0 OR net_cents <> 0",
        en="a {kind} costs nothing, but it says {net_cents} (in cents)",
        zh="{kind} 行不计价，却有金额 {net_cents}(分)",
    ),
    Invariant(
        "kit_parts",
        "part_line",
        "kind = 'component' AND (parent_kind <> 'kit' OR part_qty IS NULL OR ordered_qty <> part_qty * parent_ordered_qty"
        " OR cancelled_qty <> part_qty * parent_cancelled_qty)",
        en="{ordered_qty} ordered and {cancelled_qty} cancelled, but line {parent_line_no} is a {parent_kind} with"
        " {parent_ordered_qty} and {parent_cancelled_qty}, of {part_qty} each",
        zh="订货 {ordered_qty}、取消 {cancelled_qty}，但第 {parent_line_no} 行({parent_kind})为"
        " {parent_ordered_qty}、{parent_cancelled_qty}，每套 {part_qty}",
    ),
    Invariant(
        "gift_has_trigger",
        "part_line",
        "kind = 'gift' AND ordered_qty - cancelled_qty > shipped_qty AND parent_ordered_qty = parent_cancelled_qty",
        en="{ordered_qty} are given, {shipped_qty} have left, but nothing is left of line {parent_line_no} they come with",
        zh="赠送 {ordered_qty}、已发 {shipped_qty}，但所随的第 {parent_line_no} 行已无数量",
    ),
    Invariant(
        "line_reserved",
        "order_line",
        "reserved_qty <> parts_reserved_qty",
        en="{reserved_qty} reserved, but its shipment lines hold {parts_reserved_qty}",
        zh="占用 {reserved_qty}，但发货明细合计占用 {parts_reserved_qty}",
    ),
    Invariant(
        "line_backordered",
        "order_line",
        "backordered_qty <> parts_backordered_qty",
        en="{backordered_qty} backordered, but its shipment lines wait for {parts_backordered_qty}",
        zh="欠货 {backordered_qty}，但发货明细合计欠货 {parts_backordered_qty}",
    ),
    Invariant(
        "line_shipped",
        "order_line",
        "takes_stock AND shipped_qty <> parts_shipped_qty AND (origin = 'live' OR parts_count > 0)",
        en="{shipped_qty} shipped, but its shipment lines say {parts_shipped_qty}",
        zh="已发 {shipped_qty}，但发货明细合计 {parts_shipped_qty}",
    ),
    Invariant(
        "line_delivered",
        "order_line",
        "takes_stock AND delivered_qty <> parts_delivered_qty AND (origin = 'live' OR parts_count > 0)",
        en="{delivered_qty} delivered, but its shipment lines say {parts_delivered_qty}",
        zh="已送达 {delivered_qty}，但发货明细合计 {parts_delivered_qty}",
    ),
    Invariant(
        "kit_shipped",
        "kit_line",
        "shipped_qty <> parts_shipped_qty OR delivered_qty <> parts_delivered_qty",
        en="{shipped_qty} shipped and {delivered_qty} delivered, but its components make {parts_shipped_qty} and"
        " {parts_delivered_qty} kits",
        zh="已发 {shipped_qty}、送达 {delivered_qty}，但按组件应为 {parts_shipped_qty}、{parts_delivered_qty}",
    ),
    Invariant(
        "line_planned",
        "order_line",
        "takes_stock AND wanted_qty <> parts_planned_qty AND rejected_at IS NULL AND (origin = 'live' OR parts_count > 0)",
        en="{wanted_qty} to be sent, but its shipment lines plan and sent {parts_planned_qty}",
        zh="应发 {wanted_qty}，但发货明细计划与已发合计 {parts_planned_qty}",
    ),
    Invariant(
        "line_does_not_ship",
        "order_line",
        "NOT takes_stock AND parts_count > 0",
        en="a {kind} line does not ship, but {parts_count} shipment lines send it",
        zh="{kind} 行不发货，却有 {parts_count} 条发货明细",
    ),
    Invariant(
        "line_sku",
        "order_line",
        "other_sku_count > 0",
        en="{other_sku_count} of its shipment lines send another SKU",
        zh="有 {other_sku_count} 条发货明细发的是其他 SKU",
    ),
    Invariant(
        "line_returned",
        "returned_line",
        "returned_qty <> received_qty",
        en="{returned_qty} returned, but returns received {received_qty}",
        zh="已退 {returned_qty}，但退货实收合计 {received_qty}",
    ),
    Invariant(
        "line_refunded",
        "returned_line",
        "refunded_cents <> granted_cents AND (SELECT o.origin FROM order_line l JOIN orders o ON o.id = l.order_id"
        " WHERE l.id = q.order_line_id) = 'live'",
        en="{refunded_cents} refunded, but its returns grant {granted_cents} (in cents)",
        zh="已退款 {refunded_cents}，但退货明细合计 {granted_cents}(分)",
    ),
    Invariant(
        "history_promises_nothing",
        "order_line",
        "origin = 'history' AND (reserved_qty > 0 OR backordered_qty > 0)",
        en="imported history, but {reserved_qty} are reserved and {backordered_qty} backordered",
        zh="导入的历史订单，却占用 {reserved_qty}、欠货 {backordered_qty}",
    ),
    Invariant(
        "shipment_has_lines",
        "shipment",
        "status <> 'cancelled'"
        " AND NOT EXISTS (SELECT 1 FROM shipment_line l WHERE l.shipment_id = q.id AND NOT l.is_withdrawn)",
        en="it is {status}, but has no line",
        zh="状态 {status}，但没有明细",
    ),
    Invariant(
        "shipment_moment",
        "shipment",
        "(status IN ('shipped', 'delivered', 'exception')) <> (shipped_at IS NOT NULL)"
        " OR (status = 'delivered' AND delivered_at IS NULL)",
        en="it is {status}, but the moments it left and arrived say otherwise",
        zh="状态 {status}，与发出、送达时间不符",
    ),
    Invariant(
        "released_is_listed",
        "shipment",
        "status = 'released' AND NOT EXISTS (SELECT 1 FROM shipment_line l JOIN pick_list_line x"
        " ON x.shipment_line_id = l.id WHERE l.shipment_id = q.id AND x.status = 'open')",
        en="it is released, but no pick list asks for it: it would wait for ever",
        zh="已下发，但没有拣货单包含它，会一直等待",
    ),
    Invariant(
        "listed_is_released",
        "pick_list_line",
        "shipment_status <> 'released' OR list_status NOT IN ('open', 'picking')",
        en="the list is {list_status} and shipment {shipment_number} is {shipment_status}, but the line is to be picked",
        zh="拣货单状态 {list_status}、发货单 {shipment_number} 状态 {shipment_status}，但该行仍待拣",
    ),
    Invariant(
        "shipment_line_promised",
        "shipment_line",
        "is_tracked AND NOT is_closed AND qty <> reserved_qty + backordered_qty",
        en="{qty} planned, but {reserved_qty} reserved and {backordered_qty} backordered",
        zh="计划 {qty}，但占用 {reserved_qty}、欠货 {backordered_qty}",
    ),
    Invariant(
        "closed_shipment_promises_nothing",
        "shipment_line",
        "is_closed AND reserved_qty + backordered_qty > 0",
        en="it is {shipment_status} or withdrawn, but {reserved_qty} are reserved and {backordered_qty} backordered",
        zh="状态 {shipment_status} 或已撤下，却仍占用 {reserved_qty}、欠货 {backordered_qty}",
    ),
    Invariant(
        "untracked_promises_nothing",
        "shipment_line",
        "NOT is_tracked AND reserved_qty + backordered_qty > 0",
        en="its stock is not tracked, but {reserved_qty} are reserved and {backordered_qty} backordered",
        zh="不管库存，却占用 {reserved_qty}、欠货 {backordered_qty}",
    ),
    Invariant(
        "shipped_with_shipment",
        "shipment_line",
        "shipped_qty > 0 AND shipped_at IS NULL",
        en="{shipped_qty} shipped, but the shipment is {shipment_status} and has not left",
        zh="已发 {shipped_qty}，但发货单状态 {shipment_status}，尚未发出",
    ),
    Invariant(
        "shipped_lots",
        "shipment_line",
        "is_tracked AND is_lot_tracked AND shipped_qty <> lots_qty",
        en="{shipped_qty} shipped, but its lots sum to {lots_qty}",
        zh="已发 {shipped_qty}，但所发批次合计 {lots_qty}",
    ),
    Invariant(
        "packed_was_planned",
        "shipment_line",
        "packed_qty > qty",
        en="{packed_qty} packed, but {qty} planned",
        zh="已装箱 {packed_qty}，但计划仅 {qty}",
    ),
    Invariant(
        "packed_left",
        "shipment_line",
        "shipped_at IS NOT NULL AND packed_qty <> shipped_qty"
        # boxes of which nobody wrote what is in them may leave
        " AND EXISTS (SELECT 1 FROM package b JOIN package_line x ON x.package_id = b.id WHERE b.shipment_id = q.shipment_id)",
        en="{shipped_qty} shipped, but {packed_qty} are in its boxes",
        zh="已发 {shipped_qty}，但包裹内合计 {packed_qty}",
    ),
    Invariant(
        "packed_with_own_shipment",
        "package_line",
        "line_shipment <> number",
        en="a line of shipment {line_shipment} is in it",
        zh="包裹内有发货单 {line_shipment} 的明细",
    ),
    # The ledger has what the documents say
    Invariant(
        "shipment_left_stock",
        "shipment_ledger",
        "shipped_qty <> moved_qty",
        en="{shipped_qty} shipped, but {moved_qty} left the stock",
        zh="已发 {shipped_qty}，但库存流水出库 {moved_qty}",
    ),
    Invariant(
        "return_restocked",
        "return_ledger",
        "restocked_qty <> moved_qty",
        en="{restocked_qty} put back, but {moved_qty} came into stock",
        zh="返架 {restocked_qty}，但库存流水入库 {moved_qty}",
    ),
    Invariant(
        "return_inspecting",
        "return_ledger",
        "waiting_qty <> moved_inspecting_qty",
        en="{waiting_qty} wait for a decision, but {moved_inspecting_qty} are under inspection",
        zh="待处置 {waiting_qty}，但待检流水为 {moved_inspecting_qty}",
    ),
    Invariant(
        "return_worth",
        "return_money",
        "NOT is_money_only AND (refund_cents <> lines_cents OR refund_cents <> charged_cents)",
        en="it is worth {refund_cents}, but its lines sum to {lines_cents} and the order fell by {charged_cents} (in cents)",
        zh="退货价值 {refund_cents}，但明细合计 {lines_cents}、订单减少 {charged_cents}(分)",
    ),
    Invariant(
        "return_refund",
        "return_money",
        "is_money_only AND refund_cents <> granted_cents",
        en="it says that {refund_cents} were given back, but its refunds sum to {granted_cents} (in cents)",
        zh="退款 {refund_cents}，但退款单合计 {granted_cents}(分)",
    ),
    Invariant(
        "receipt_in_stock",
        "goods_receipt_ledger",
        "received_qty <> moved_qty",
        en="{received_qty} received, but {moved_qty} came into stock",
        zh="收货 {received_qty}，但库存流水入库 {moved_qty}",
    ),
    Invariant(
        "purchase_order_total",
        "purchase_order",
        "total_cents <> lines_cents",
        en="its total is {total_cents}, but its lines sum to {lines_cents} (in cents)",
        zh="总额 {total_cents}，但明细合计 {lines_cents}(分)",
    ),
    Invariant(
        "purchase_line_received",
        "purchase_order_line",
        "received_qty <> receipts_qty",
        en="{received_qty} received, but its goods receipts sum to {receipts_qty}",
        zh="已收 {received_qty}，但收货单合计 {receipts_qty}",
    ),
    Invariant(
        "suggestion_bought",
        "suggestion_approval",
        "is_another = 1 OR approved_qty <> bought_qty",
        en="{approved_qty} approved, but {number} orders {bought_qty}, or another SKU, or for another place",
        zh="审核通过 {approved_qty}，但 {number} 订 {bought_qty}，或商品、仓库不同",
    ),
    Invariant(
        "suggestion_withdrawn",
        "suggestion_approval",
        "is_withdrawn <> is_closed_empty",
        en="withdrawn: {is_withdrawn}, but {number} is {status}, closed with nothing received: {is_closed_empty}",
        zh="已撤回：{is_withdrawn}，但 {number} 状态为 {status}，关闭时未收到货：{is_closed_empty}",
    ),
    Invariant(
        "transfer_left_stock",
        "transfer_ledger",
        "shipped_qty <> moved_out_qty",
        en="{shipped_qty} sent, but {moved_out_qty} left the stock",
        zh="已调出 {shipped_qty}，但库存流水出库 {moved_out_qty}",
    ),
    Invariant(
        "transfer_in_stock",
        "transfer_ledger",
        "received_qty <> moved_in_qty",
        en="{received_qty} received, but {moved_in_qty} came into stock",
        zh="已调入 {received_qty}，但库存流水入库 {moved_in_qty}",
    ),
    Invariant(
        "count_in_stock",
        "stock_count_ledger",
        "difference_qty <> moved_qty",
        en="counted {difference_qty} more than expected, but {moved_qty} came into stock",
        zh="盘点差异 {difference_qty}，但库存流水为 {moved_qty}",
    ),
    Invariant(
        "production_in_stock",
        "production_ledger",
        "done_qty <> moved_qty",
        en="{done_qty} made, but {moved_qty} came into stock",
        zh="完工 {done_qty}，但库存流水入库 {moved_qty}",
    ),
    # Money
    Invariant(
        "order_goods",
        "orders",
        "goods_cents <> lines_goods_cents",
        en="goods are {goods_cents}, but its lines sum to {lines_goods_cents} (in cents)",
        zh="货款 {goods_cents}，但明细合计 {lines_goods_cents}(分)",
    ),
    Invariant(
        "order_discount",
        "orders",
        "discount_cents <> lines_discount_cents",
        en="discounts are {discount_cents}, but its lines sum to {lines_discount_cents} (in cents)",
        zh="折扣 {discount_cents}，但明细合计 {lines_discount_cents}(分)",
    ),
    Invariant(
        "order_charges",
        "orders",
        "charges_cents <> sum_charges_cents",
        en="charges are {charges_cents}, but they sum to {sum_charges_cents} (in cents)",
        zh="费用 {charges_cents}，但费用行合计 {sum_charges_cents}(分)",
    ),
    Invariant(
        "order_discount_named",
        "orders",
        "origin = 'live' AND discount_cents <>"
        " coalesce((SELECT sum(d.amount_cents) FROM order_discount d WHERE d.order_id = q.id), 0)",
        en="discounts are {discount_cents}, but its promotions gave another sum (in cents)",
        zh="折扣 {discount_cents}，与各促销合计不符(分)",
    ),
    Invariant(
        "order_tax",
        "orders",
        "tax_cents <> 0 AND tax_cents <> lines_tax_cents",  # 0: the prices contain it
        en="the tax on top is {tax_cents}, but its lines sum to {lines_tax_cents} (in cents)",
        zh="价外税 {tax_cents}，但明细合计 {lines_tax_cents}(分)",
    ),
    Invariant(
        "order_overpaid",
        "orders",
        "origin = 'live' AND paid_cents - refunded_cents > CASE WHEN is_dead OR total_cents < 0 THEN 0 ELSE total_cents END",
        en="{paid_cents} paid and {refunded_cents} given back, but it costs {total_cents} or nothing any more (in cents)",
        zh="已付 {paid_cents}、已退 {refunded_cents}，但应收仅 {total_cents} 或已作废(分)",
    ),
    Invariant(
        "order_invoiced",
        "invoiced",
        "asked_cents > CASE WHEN is_dead OR total_cents < 0 THEN 0 ELSE total_cents END",
        en="invoices of {asked_cents} are asked for, but it costs {total_cents} or nothing any more (in cents)",
        zh="已申请开票 {asked_cents}，但应收仅 {total_cents} 或已作废(分)",
    ),
    Invariant(
        "order_claim",
        "orders",
        "credit_claimed_cents <> CASE WHEN may_claim AND NOT is_dead AND total_cents > paid_cents - refunded_cents"
        " THEN total_cents - (paid_cents - refunded_cents) ELSE 0 END",
        en="it claims {credit_claimed_cents} of the credit, which is not what it owes: total {total_cents},"
        " paid {paid_cents}, given back {refunded_cents} (in cents)",
        zh="占用额度 {credit_claimed_cents}，与所欠不符：总额 {total_cents}、已付 {paid_cents}、已退 {refunded_cents}(分)",
    ),
    Invariant(
        "order_paid",
        "orders",
        "paid_cents <> settled_cents",
        en="{paid_cents} paid, but receipts settle {settled_cents} (in cents)",
        zh="已付 {paid_cents}，但收款核销合计 {settled_cents}(分)",
    ),
    Invariant(
        "order_refunded",
        "orders",
        "refunded_cents <> granted_cents",
        en="{refunded_cents} refunded, but refunds sum to {granted_cents} (in cents)",
        zh="已退款 {refunded_cents}，但退款单合计 {granted_cents}(分)",
    ),
    Invariant(
        "receipt_settled",
        "payment_receipt",
        "settled_cents <> settlements_cents",
        en="{settled_cents} settled, but its settlements sum to {settlements_cents} (in cents)",
        zh="已核销 {settled_cents}，但核销明细合计 {settlements_cents}(分)",
    ),
    Invariant(
        "receipt_currency",
        "payment_receipt",
        "other_currency_count > 0",
        en="received in {currency}, but {other_currency_count} settlements are for orders in another currency",
        zh="收款币种 {currency}，但有 {other_currency_count} 笔核销的订单是其他币种",
    ),
    Invariant(
        "refund_currency",
        "refund",
        "currency <> order_currency",
        en="refunded in {currency}, but the order is in {order_currency}",
        zh="退款币种 {currency}，但订单币种 {order_currency}",
    ),
    Invariant(
        "refund_paid_at",
        "refund",
        "(status = 'paid') <> (paid_at IS NOT NULL)",
        en="it is {status}, but the moment of payment says otherwise",
        zh="状态 {status}，与付款时间不符",
    ),
    Invariant(
        "customer_credit",
        "customer",
        "credit_used_cents <> claimed_cents",
        en="{credit_used_cents} of the credit is used, but orders claim {claimed_cents} (in cents)",
        zh="已用额度 {credit_used_cents}，但订单占用合计 {claimed_cents}(分)",
    ),
    Invariant(
        "coupon_used",
        "coupon",
        "used_count <> uses_count",
        en="used {used_count} times, but {uses_count} orders used it",
        zh="已用 {used_count} 次，但有 {uses_count} 张订单使用",
    ),
    # Stage and traces
    Invariant(
        "order_status",
        "order_status",
        _other_status,
        en="it says {status}, but its quantities and facts say {derived_status}",
        zh="状态为 {status}，但按数量及事实应为 {derived_status}",
    ),
    Invariant(
        "order_decided",
        "order_traces",
        "decisions_count = 0",
        en="no decision about it is stored",
        zh="没有决策记录",
    ),
    Invariant(
        "order_audited",
        "order_traces",
        "audit_count = 0",
        en="the audit trail does not mention it",
        zh="没有审计记录",
    ),
    Invariant(
        "order_confirmed",
        "order_traces",
        # Who changed the customer later may have added the address: then nobody can tell any more.
        "confirmations_count = 0 AND recipients_count > 0 AND customer_changes_count = 0",
        en="its customer can be written to, but no confirmation was queued",
        zh="客户有邮箱，但没有生成确认通知",
    ),
    Invariant(
        "change_logged",
        "change_log",
        "logged_version IS NULL OR logged_version <> version",
        en="the row is at version {version}, the change log at {logged_version}: a loader would miss it",
        zh="数据版本 {version}，变更日志版本 {logged_version}：下游会漏读",
    ),
    Invariant(
        "movement_logged",
        "movement_log",
        "id IS NOT NULL",
        en="the change log does not mention it: a loader would miss it",
        zh="变更日志中没有该流水：下游会漏读",
    ),
    Invariant(
        "change_names_a_row",
        "vanished",
        "entity_id IS NOT NULL",
        en="the change log names it, but it is not there and was not deleted",
        zh="变更日志提到它，但数据不存在，也没有删除记录",
    ),
    Invariant(
        "next_id",
        "next_id",
        "max_id >= next_value",
        en="the next row id is {next_value}, but there is a row {max_id}",
        zh="下一个编号为 {next_value}，但已存在编号 {max_id}",
    ),
)
"""What must be true, each by a name that never changes."""
