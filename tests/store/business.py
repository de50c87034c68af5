"""A small business in which every kind of thing verify looks at is there once and right, written row by row.

Not by the services: these rows say what the tables mean, whoever writes them.

LAMP@HEL: opening 10, received 5 (and 2 under inspection), sent to TUR 2, counted one less, made 3: 15 on hand, of which
order A has 3 (and waits for 1), order D's kit 2, which are being picked, and a cart 1. With the kit goes a flyer as a gift.
TEA@HEL, in lots: opening 8, shipped 2 with order B, of which 2 came back: 1 on the shelf, 1 under inspection. Order H is
imported history.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, insert

from orders_core.store.base import Base
from orders_core.store.uow import Store

HEL, TUR, OLD = 1, 2, 3
CHANNEL, CUSTOMER = 10, 20
LAMP, TEA, KIT, FLYER = 31, 32, 33, 34
T1, T2 = 41, 42
NOT_LOGGED = {"change_log", "audit_entry", "rule_set", "stock_level", "package"}
A, B, D, H = 100, 200, 300, 400  # orders; their lines, shipments … are numbered from them


def small_business(store: Store) -> None:
    """Write it."""
    with store.engine.begin() as conn:
        for table, rows in _rows(store).items():
            _insert(conn, table, rows)
        _insert(conn, "change_log", _changes(conn, store))


def _insert(conn: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:  # one by one: the rows of a table may have different columns
        conn.execute(insert(Base.metadata.tables[table]), row)


def _changes(conn: Connection, store: Store) -> list[dict[str, Any]]:
    logged = [
        (table.name, conn.execute(table.select()).mappings().all())
        for table in Base.metadata.sorted_tables
        if table.name == "stock_movement" or ("version" in table.c and table.name not in NOT_LOGGED)
    ]
    return [
        {
            "entity": entity,
            "entity_id": row["id"],
            "version": row.get("version", 1),
            "operation": "insert",
            "at": store.clock.now(),
        }
        for entity, rows in logged
        for row in rows
    ]


def _rows(store: Store) -> dict[str, list[dict[str, Any]]]:
    now = store.clock.now()
    today = now.astimezone(store.zone).date()
    created = {"created_at": now}

    def order(order_id: int, number: str, **values: Any) -> dict[str, Any]:
        return {
            "id": order_id,
            "number": number,
            "channel_id": CHANNEL,
            "customer_id": CUSTOMER,
            "lines_hash": "x",
            "language": "zh",
            "currency": "CNY",
            "payment_method": "credit",
            "business_date": today,
            "placed_at": now,
            "approved_at": now,
            **values,
        }

    def line(
        line_id: int, order_id: int, line_no: int, sku_id: int, qty: int, price: int, **values: Any
    ) -> dict[str, Any]:
        return {
            "id": line_id,
            "order_id": order_id,
            "line_no": line_no,
            "sku_id": sku_id,
            "unit": "each",
            "pack_qty": qty,
            "ordered_qty": qty,
            "unit_price_cents": price,
            "price_kind": "list",
            "net_cents": qty * price - values.get("discount_cents", 0),
            **values,
        }

    moves: list[dict[str, Any]] = []

    def move(sku_id: int, location_id: int, qty: int, reason: str, **values: Any) -> None:
        moves.append(
            {
                "id": 500 + len(moves),
                "sku_id": sku_id,
                "location_id": location_id,
                "qty": qty,
                "reason": reason,
                "at": now,
                "business_date": today,
                "actor": "system",
                **values,
            }
        )

    move(LAMP, HEL, 10, "opening")
    move(LAMP, HEL, 5, "receipt", source="goods_receipt", source_id=602)
    move(LAMP, HEL, 2, "receipt", source="goods_receipt", source_id=602, state="inspection")
    move(LAMP, HEL, -2, "transfer_out", source="transfer", source_id=610)
    move(LAMP, TUR, 1, "transfer_in", source="transfer", source_id=610)
    move(LAMP, HEL, -1, "count", source="stock_count", source_id=620)
    move(LAMP, HEL, 3, "production_in", source="production_order", source_id=630)
    move(TEA, HEL, 8, "opening", lot_id=T1)
    move(TEA, HEL, -2, "ship", lot_id=T1, source="shipment", source_id=B + 10)
    move(TEA, HEL, 2, "return", lot_id=T1, source="return_authorization", source_id=B + 30, state="inspection")
    move(TEA, HEL, -1, "inspection", lot_id=T1, source="return_authorization", source_id=B + 30, state="inspection")
    move(TEA, HEL, 1, "inspection", lot_id=T1, source="return_authorization", source_id=B + 30)

    traced = [A, B, D]
    return {
        "number_series": [{"name": "id", "next_value": 10_000}],
        "location": [
            {"id": HEL, "code": "HEL", "name": "主仓", "is_default": True},
            {"id": TUR, "code": "TUR", "name": "分仓"},
            {"id": OLD, "code": "OLD", "name": "历史", "kind": "history", "is_stock_tracked": False},
        ],
        "channel": [{"id": CHANNEL, "code": "web", "name": "网站", "kind": "web"}],
        "customer": [{"id": CUSTOMER, "code": "K1", "name": "茶馆", "credit_used_cents": 1000, **created}],
        "customer_contact": [
            {"id": 21, "customer_id": CUSTOMER, "name": "王", "email": "wang@example.com", "is_primary": True}
        ],
        "product": [{"id": 30, "code": "P", "name": "货", **created}],
        "sku": [
            {"id": LAMP, "product_id": 30, "sku": "LAMP", "name": "灯", **created},
            {"id": TEA, "product_id": 30, "sku": "TEA", "name": "茶", "is_lot_tracked": True, **created},
            {
                "id": KIT,
                "product_id": 30,
                "sku": "KIT",
                "name": "套装",
                "kind": "kit",
                "is_stock_tracked": False,
                **created,
            },
            {"id": FLYER, "product_id": 30, "sku": "FLYER", "name": "传单", "is_stock_tracked": False, **created},
        ],
        "lot": [
            {"id": T1, "sku_id": TEA, "lot_code": "T1", **created},
            {"id": T2, "sku_id": TEA, "lot_code": "T2", **created},
        ],
        "stock_level": [
            {
                "sku_id": LAMP,
                "location_id": HEL,
                "on_hand_qty": 15,
                "reserved_qty": 6,
                "backordered_qty": 1,
                "inspecting_qty": 2,
            },
            {"sku_id": LAMP, "location_id": TUR, "on_hand_qty": 1},
            {"sku_id": TEA, "location_id": HEL, "on_hand_qty": 7, "inspecting_qty": 1},
        ],
        "lot_level": [
            {"lot_id": T1, "location_id": HEL, "on_hand_qty": 7},
            {"lot_id": T2, "location_id": HEL, "on_hand_qty": 0},
        ],
        "cart": [
            {"id": 50, "token": "t", "channel_id": CHANNEL, "currency": "CNY", "changed_at": now, **created},
        ],
        "cart_line": [{"id": 51, "cart_id": 50, "sku_id": LAMP, "unit": "each", "pack_qty": 1, "added_at": now}],
        "cart_hold": [
            {
                "cart_line_id": 51,
                "location_id": HEL,
                "sku_id": LAMP,
                "qty": 1,
                "expires_at": now + timedelta(minutes=10),
            }
        ],
        "orders": [
            order(
                A,
                "SO-A",
                status="ready",
                goods_cents=1200,
                discount_cents=200,
                total_cents=1000,
                credit_claimed_cents=1000,
            ),
            order(
                B,
                "SO-B",
                status="delivered",
                goods_cents=1000,
                charges_cents=100,
                total_cents=1100,
                paid_cents=1100,
                refunded_cents=300,
                payment_method="prepaid",
            ),
            order(D, "SO-D", status="picking", goods_cents=700, total_cents=700, payment_method="prepaid"),
            order(H, "SO-H", status="delivered", goods_cents=900, total_cents=900, origin="history"),
        ],
        "order_line": [
            line(A + 1, A, 1, LAMP, 4, 300, discount_cents=200, reserved_qty=3, backordered_qty=1),
            line(B + 1, B, 1, TEA, 2, 500, shipped_qty=2, delivered_qty=2, returned_qty=2),
            line(D + 1, D, 1, KIT, 1, 700, kind="kit"),
            line(D + 2, D, 2, LAMP, 2, 0, kind="component", parent_line_id=D + 1, reserved_qty=2, part_qty=2),
            line(D + 3, D, 3, FLYER, 1, 0, kind="gift", parent_line_id=D + 1),
            line(H + 1, H, 1, LAMP, 3, 300, shipped_qty=3, delivered_qty=3),
        ],
        "order_charge": [{"id": B + 20, "order_id": B, "kind": "shipping", "amount_cents": 100}],
        "shipment": [
            {"id": A + 10, "number": "SH-A", "location_id": HEL, **created},
            {
                "id": B + 10,
                "number": "SH-B",
                "location_id": HEL,
                "status": "delivered",
                "shipped_at": now,
                "delivered_at": now,
                **created,
            },
            {"id": D + 10, "number": "SH-D", "location_id": HEL, "status": "released", **created},
        ],
        "shipment_line": [
            {
                "id": A + 11,
                "shipment_id": A + 10,
                "order_line_id": A + 1,
                "sku_id": LAMP,
                "qty": 4,
                "reserved_qty": 3,
                "backordered_qty": 1,
            },
            {
                "id": B + 11,
                "shipment_id": B + 10,
                "order_line_id": B + 1,
                "sku_id": TEA,
                "qty": 2,
                "shipped_qty": 2,
                "delivered_qty": 2,
            },
            {"id": D + 11, "shipment_id": D + 10, "order_line_id": D + 2, "sku_id": LAMP, "qty": 2, "reserved_qty": 2},
            {"id": D + 12, "shipment_id": D + 10, "order_line_id": D + 3, "sku_id": FLYER, "qty": 1},
        ],
        "pick_list": [{"id": D + 20, "number": "PL-D", "location_id": HEL, "status": "open", **created}],
        "pick_list_line": [
            {"id": D + 21, "pick_list_id": D + 20, "position": 1, "shipment_line_id": D + 11, "sku_id": LAMP, "qty": 2}
        ],
        "shipped_lot": [{"shipment_line_id": B + 11, "lot_id": T1, "qty": 2}],
        "package": [{"id": B + 12, "shipment_id": B + 10, "package_no": 1, **created}],
        "package_line": [{"package_id": B + 12, "shipment_line_id": B + 11, "qty": 2}],
        "payment_receipt": [
            {
                "id": B + 40,
                "number": "RC-B",
                "customer_id": CUSTOMER,
                "amount_cents": 1500,
                "settled_cents": 1100,
                "currency": "CNY",
                "method": "transfer",
                "received_at": now,
                "business_date": today,
                "actor": "cashier",
            }
        ],
        "receipt_settlement": [
            {"id": B + 41, "payment_receipt_id": B + 40, "order_id": B, "amount_cents": 1100, "at": now}
        ],
        "return_authorization": [
            {
                "id": B + 30,
                "number": "RMA-B",
                "order_id": B,
                "customer_id": CUSTOMER,
                "location_id": HEL,
                "kind": "return",
                "status": "received",
                "currency": "CNY",
                "business_date": today,
                "requested_at": now,
            }
        ],
        "return_line": [
            {
                "id": B + 31,
                "return_id": B + 30,
                "order_line_id": B + 1,
                "sku_id": TEA,
                "lot_id": T1,
                "qty": 2,
                "received_qty": 2,
                "restocked_qty": 1,
            }
        ],
        "refund": [
            {
                "id": B + 50,
                "number": "RF-B",
                "order_id": B,
                "customer_id": CUSTOMER,
                "amount_cents": 300,
                "currency": "CNY",
                "status": "paid",
                "reason": "one broken",
                "granted_at": now,
                "paid_at": now,
                "business_date": today,
                "actor": "cashier",
            }
        ],
        "promotion": [{"id": 60, "code": "SPRING", "name": "春", "kind": "percent", "rule": {}, "starts_at": now}],
        "coupon": [{"id": 61, "code": "C-1", "promotion_id": 60, "max_uses": 5, "used_count": 1}],
        "order_discount": [
            {"id": 62, "order_id": A, "promotion_id": 60, "coupon_id": 61, "description": "春", "amount_cents": 200}
        ],
        "coupon_use": [{"coupon_id": 61, "order_id": A, "discount_cents": 200, "at": now}],
        "supplier": [{"id": 70, "code": "S", "name": "厂", "lead_time_days": 7, "lead_time_sd_days": 1.0}],
        "purchase_order": [
            {
                "id": 600,
                "number": "PO-1",
                "supplier_id": 70,
                "location_id": HEL,
                "status": "sent",
                "currency": "CNY",
                "total_cents": 1000,
                "business_date": today,
                "created_by": "planner",
                **created,
            }
        ],
        "purchase_order_line": [
            {
                "id": 601,
                "purchase_order_id": 600,
                "line_no": 1,
                "sku_id": LAMP,
                "qty": 10,
                "received_qty": 7,
                "unit_cost_cents": 100,
            }
        ],
        "suggestion_approval": [
            {
                "id": 605,
                "as_of_date": today,
                "sku_id": LAMP,
                "location_id": HEL,
                "suggested_qty": 10,
                "approved_qty": 10,
                "approved_by": "planner",
                "approved_at": now,
                "business_date": today,
                "purchase_order_line_id": 601,
            }
        ],
        "goods_receipt": [
            {
                "id": 602,
                "number": "GR-1",
                "purchase_order_id": 600,
                "location_id": HEL,
                "received_at": now,
                "business_date": today,
                "actor": "warehouse",
            }
        ],
        "goods_receipt_line": [
            {"id": 603, "goods_receipt_id": 602, "purchase_order_line_id": 601, "sku_id": LAMP, "qty": 5},
            {
                "id": 604,
                "goods_receipt_id": 602,
                "purchase_order_line_id": 601,
                "sku_id": LAMP,
                "qty": 2,
                "state": "inspection",
            },
        ],
        "transfer": [
            {
                "id": 610,
                "number": "TR-1",
                "from_location_id": HEL,
                "to_location_id": TUR,
                "status": "in_transit",
                "shipped_at": now,
                **created,
            }
        ],
        "transfer_line": [
            {"id": 611, "transfer_id": 610, "sku_id": LAMP, "qty": 2, "shipped_qty": 2, "received_qty": 1}
        ],
        "stock_count": [{"id": 620, "number": "SC-1", "location_id": HEL, "status": "posted", "started_at": now}],
        "stock_count_line": [
            {"id": 621, "stock_count_id": 620, "sku_id": LAMP, "expected_qty": 13, "counted_qty": 12, "counted_at": now}
        ],
        "production_order": [
            {
                "id": 630,
                "number": "WO-1",
                "sku_id": LAMP,
                "location_id": HEL,
                "qty": 5,
                "done_qty": 3,
                "status": "started",
                "due_date": date(2026, 3, 9),
                **created,
            }
        ],
        "stock_movement": moves,
        "decision": [
            {
                "kind": "approve",
                "entity": "orders",
                "entity_id": order_id,
                "outcome": "approved",
                "reasons": [],
                "rules_version": 1,
                "at": now,
                "actor": "system",
            }
            for order_id in traced
        ],
        "audit_entry": [
            {
                "at": now,
                "actor": "clerk",
                "roles": "clerk",
                "action": "order.place",
                "entity": "orders",
                "entity_id": order_id,
            }
            for order_id in traced
        ],
        "outbox": [
            {
                "dedupe_key": f"confirm:{order_id}",
                "kind": "mail",
                "template": "order_confirmation",
                "language": "zh",
                "recipient": "wang@example.com",
                "facts": {},
                "entity": "orders",
                "entity_id": order_id,
                "next_try_at": now,
                **created,
            }
            for order_id in traced
        ],
    }
