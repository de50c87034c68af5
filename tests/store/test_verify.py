"""verify names exactly what is broken: for every invariant a row is broken on purpose, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from orders_core.store.uow import Store
from orders_core.store.verify import FACTS, INVARIANTS, verify, violations_in
from tests.store.business import CUSTOMER, FLYER, HEL, KIT, LAMP, T1, T2, TEA, TUR, A, B, D, H, small_business

_MOVE = "UPDATE stock_movement SET"
_LOG = "INSERT INTO change_log (entity, entity_id, version, operation, at) VALUES"

BREAKS: dict[str, list[str]] = {
    "stock_on_hand": [f"UPDATE stock_level SET on_hand_qty = 2 WHERE location_id = {TUR}"],
    "stock_inspecting": [f"UPDATE stock_level SET inspecting_qty = 1 WHERE location_id = {TUR}"],
    "stock_reserved": [f"UPDATE stock_level SET reserved_qty = 1 WHERE location_id = {TUR}"],
    "stock_backordered": [f"UPDATE stock_level SET backordered_qty = 1 WHERE location_id = {TUR}"],
    "lot_on_hand": [
        f"UPDATE lot_level SET on_hand_qty = 6 WHERE lot_id = {T1}",
        f"UPDATE lot_level SET on_hand_qty = 1 WHERE lot_id = {T2}",
    ],
    "lots_sum": [
        f"{_MOVE} lot_id = NULL WHERE sku_id = {TEA} AND reason = 'opening'",
        f"UPDATE lot_level SET on_hand_qty = 0 WHERE lot_id = {T1}",
        f"{_MOVE} lot_id = {T2} WHERE sku_id = {TEA} AND reason = 'ship'",  # 1 back in T1, −2 out of T2
        f"{_MOVE} lot_id = NULL WHERE lot_id IS NOT NULL",
    ],
    "lot_of_same_sku": [f"{_MOVE} lot_id = {T2} WHERE sku_id = {LAMP} AND state = 'inspection'"],
    "hold_of_open_cart": ["UPDATE cart SET status = 'ordered'"],
    "hold_of_same_sku": [f"UPDATE cart_line SET sku_id = {TEA}"],
    "order_has_lines": [
        f"DELETE FROM order_line WHERE order_id = {H}",
        f"UPDATE orders SET goods_cents = 0, total_cents = 0 WHERE id = {H}",
    ],
    "line_packs": [f"UPDATE order_line SET units_per_pack = 2 WHERE order_id = {H}"],
    "line_net": [f"UPDATE order_line SET net_cents = net_cents + 1 WHERE order_id = {H}"],
    "line_parent": [f"UPDATE order_line SET parent_line_id = {A + 1} WHERE kind = 'gift'"],
    "part_is_free": [
        f"UPDATE order_line SET unit_price_cents = 1, discount_cents = 2 WHERE id = {D + 2}",
        f"UPDATE orders SET goods_cents = goods_cents + 2, discount_cents = 2 WHERE id = {D}",
        f"INSERT INTO order_discount (id, order_id, description, amount_cents) VALUES (999, {D}, 'x', 2)",
    ],
    "kit_parts": [f"UPDATE order_line SET part_qty = 3 WHERE id = {D + 2}"],
    "gift_has_trigger": [
        "INSERT INTO order_line (id, order_id, line_no, sku_id, unit, pack_qty, unit_price_cents, price_kind, net_cents,"
        f" ordered_qty) VALUES (999, {D}, 4, {LAMP}, 'each', 0, 300, 'list', 0, 0)",
        "UPDATE order_line SET parent_line_id = 999 WHERE kind = 'gift'",
    ],
    "line_reserved": [f"UPDATE order_line SET reserved_qty = 2 WHERE order_id = {A}"],
    "line_backordered": [f"UPDATE order_line SET backordered_qty = 0 WHERE order_id = {A}"],
    "line_shipped": [
        f"UPDATE order_line SET shipped_qty = 1 WHERE order_id = {A}",
        f"UPDATE orders SET status = 'partly_shipped' WHERE id = {A}",
    ],
    # one of the two came back, so the order counts as delivered all the same
    "line_delivered": [f"UPDATE order_line SET delivered_qty = 1 WHERE order_id = {B}"],
    "kit_shipped": [f"UPDATE order_line SET shipped_qty = 1 WHERE id = {D + 1}"],
    "line_planned": [f"UPDATE order_line SET over_delivery_qty = 1 WHERE order_id = {A}"],
    "line_does_not_ship": [
        "INSERT INTO shipment_line (id, shipment_id, order_line_id, sku_id, qty)"
        f" VALUES (999, {D + 10}, {D + 1}, {KIT}, 1)"
    ],
    "line_sku": [f"UPDATE shipment_line SET sku_id = {KIT} WHERE sku_id = {FLYER}"],
    "line_returned": [f"UPDATE order_line SET returned_qty = 1 WHERE order_id = {B}"],
    "line_refunded": [f"UPDATE order_line SET refunded_cents = 1 WHERE order_id = {B}"],
    "history_promises_nothing": [
        f"UPDATE orders SET origin = 'history', credit_claimed_cents = 0 WHERE id = {A}",
        f"UPDATE customer SET credit_used_cents = 0 WHERE id = {CUSTOMER}",
    ],
    "shipment_has_lines": [
        f"INSERT INTO shipment (id, number, location_id, created_at) VALUES (999, 'SH-0', {HEL}, 0)",
        f"{_LOG} ('shipment', 999, 1, 'insert', 0)",
    ],
    "shipment_moment": [f"UPDATE shipment SET delivered_at = NULL WHERE id = {B + 10}"],
    "released_is_listed": ["UPDATE pick_list_line SET status = 'picked'"],
    "listed_is_released": ["UPDATE pick_list SET status = 'done'"],
    "shipment_line_promised": [
        f"UPDATE shipment_line SET qty = 5 WHERE id = {A + 11}",
        f"UPDATE order_line SET over_delivery_qty = 1 WHERE order_id = {A}",
    ],
    "closed_shipment_promises_nothing": [
        f"UPDATE shipment_line SET backordered_qty = 1 WHERE id = {B + 11}",
        f"UPDATE order_line SET backordered_qty = 1 WHERE id = {B + 1}",
        f"UPDATE stock_level SET backordered_qty = 1 WHERE sku_id = {TEA}",
    ],
    "untracked_promises_nothing": [
        f"UPDATE shipment_line SET backordered_qty = 1 WHERE sku_id = {FLYER}",
        f"UPDATE order_line SET backordered_qty = 1 WHERE sku_id = {FLYER}",
        f"INSERT INTO stock_level (sku_id, location_id, backordered_qty) VALUES ({FLYER}, {HEL}, 1)",
    ],
    "shipped_with_shipment": [
        f"UPDATE shipment_line SET shipped_qty = 1 WHERE sku_id = {FLYER}",
        f"UPDATE order_line SET shipped_qty = 1 WHERE sku_id = {FLYER}",
        f"UPDATE orders SET status = 'partly_shipped' WHERE id = {D}",
    ],
    "shipped_lots": ["UPDATE shipped_lot SET qty = 1"],
    "packed_was_planned": [
        f"INSERT INTO package (id, shipment_id, package_no, created_at) VALUES (999, {A + 10}, 1, 0)",
        f"INSERT INTO package_line (package_id, shipment_line_id, qty) VALUES (999, {A + 11}, 5)",
    ],
    "packed_left": ["UPDATE package_line SET qty = 1"],
    "packed_with_own_shipment": [
        f"INSERT INTO package_line (package_id, shipment_line_id, qty) VALUES ({B + 12}, {A + 11}, 1)"
    ],
    "shipment_left_stock": [f"{_MOVE} reason = 'adjust' WHERE reason = 'ship'"],
    "return_restocked": [f"{_MOVE} source = NULL WHERE source = 'return_authorization' AND state = 'on_hand'"],
    "return_inspecting": [f"{_MOVE} source = NULL WHERE reason = 'return'"],
    "return_worth": ["UPDATE return_authorization SET refund_cents = 1"],
    "return_refund": [
        "UPDATE return_line SET refund_cents = 0",
        "UPDATE return_authorization SET kind = 'refund_only', refund_cents = 1",
    ],
    "receipt_in_stock": [f"{_MOVE} reason = 'adjust' WHERE reason = 'receipt' AND state = 'inspection'"],
    "purchase_order_total": ["UPDATE purchase_order SET total_cents = 1001"],
    "suggestion_bought": ["UPDATE suggestion_approval SET approved_qty = 11, reason = 'x'"],
    "suggestion_withdrawn": ["UPDATE suggestion_approval SET withdrawn_at = 1"],
    "purchase_line_received": ["UPDATE purchase_order_line SET received_qty = 8"],
    "transfer_left_stock": [f"{_MOVE} source = NULL WHERE reason = 'transfer_out'"],
    "transfer_in_stock": ["UPDATE transfer_line SET received_qty = 2"],
    "count_in_stock": ["UPDATE stock_count_line SET counted_qty = 11"],
    "production_in_stock": ["UPDATE production_order SET done_qty = 4"],
    "order_goods": [f"UPDATE orders SET goods_cents = goods_cents + 1, total_cents = total_cents + 1 WHERE id = {H}"],
    "order_discount": [f"UPDATE orders SET discount_cents = 1, total_cents = 899 WHERE id = {H}"],
    "order_discount_named": ["UPDATE order_discount SET amount_cents = 199"],
    "order_tax": [f"UPDATE orders SET tax_cents = 1, total_cents = 901 WHERE id = {H}"],
    "order_overpaid": [
        "UPDATE order_charge SET amount_cents = -300",
        f"UPDATE orders SET charges_cents = -300, total_cents = 700 WHERE id = {B}",
    ],
    "order_invoiced": [
        "INSERT INTO invoice_request (id, number, customer_id, kind, status, title, currency, amount_cents, created_at)"
        f" VALUES (999, 'IR-1', {CUSTOMER}, 'blue', 'requested', 'x', 'CNY', 99999, 0)",
        "INSERT INTO invoice_request_line (id, invoice_request_id, order_line_id, qty, amount_cents)"
        f" SELECT 999, 999, MIN(id), 1, 99999 FROM order_line WHERE order_id = {A}",
        f"{_LOG} ('invoice_request', 999, 1, 'insert', 0)",
    ],
    "order_claim": [
        f"UPDATE orders SET credit_claimed_cents = 999 WHERE id = {A}",
        f"UPDATE customer SET credit_used_cents = 999 WHERE id = {CUSTOMER}",
    ],
    "order_charges": ["UPDATE order_charge SET amount_cents = 99"],
    "order_paid": [f"UPDATE orders SET paid_cents = 1101 WHERE id = {B}"],
    "order_refunded": [f"UPDATE orders SET refunded_cents = 301 WHERE id = {B}"],
    "receipt_settled": ["UPDATE payment_receipt SET settled_cents = 1101"],
    "receipt_currency": ["UPDATE payment_receipt SET currency = 'USD'"],
    "refund_currency": ["UPDATE refund SET currency = 'USD'"],
    "refund_paid_at": ["UPDATE refund SET paid_at = NULL"],
    "customer_credit": [f"UPDATE customer SET credit_used_cents = 999 WHERE id = {CUSTOMER}"],
    "coupon_used": ["UPDATE coupon SET used_count = 2"],
    "order_status": [f"UPDATE orders SET status = 'picking' WHERE id = {A}"],
    "order_decided": [f"DELETE FROM decision WHERE entity_id = {A}"],
    "order_audited": [f"DELETE FROM audit_entry WHERE entity_id = {A}"],
    "order_confirmed": [f"DELETE FROM outbox WHERE entity_id = {A}"],
    "change_logged": [f"UPDATE orders SET version = 2 WHERE id = {A}"],
    "movement_logged": ["DELETE FROM change_log WHERE entity = 'stock_movement' AND entity_id = 503"],
    "change_names_a_row": [f"{_LOG} ('ticket', 999, 1, 'insert', 0)"],
    "next_id": ["UPDATE number_series SET next_value = 630 WHERE name = 'id'"],
}
"""How each invariant is broken, so that no other one is."""

CONSTRAINTS = {
    "reserved beyond on hand": f"UPDATE stock_level SET reserved_qty = 16 WHERE sku_id = {LAMP} AND location_id = {HEL}",
    "refunded beyond paid": f"UPDATE orders SET refunded_cents = 1101 WHERE id = {B}",
    "a total that is not its parts": f"UPDATE orders SET total_cents = 1 WHERE id = {A}",
    "one number twice": f"UPDATE orders SET number = 'SO-B' WHERE id = {A}",
    "two main contacts": f"INSERT INTO customer_contact (id, customer_id, name, is_primary) VALUES (22, {CUSTOMER}, 'x', true)",
    "two default locations": f"UPDATE location SET is_default = true WHERE id = {TUR}",
    "a line without its order": f"UPDATE order_line SET order_id = 999 WHERE id = {A + 1}",
    "a shipment line without its line": f"UPDATE shipment_line SET order_line_id = 999 WHERE id = {A + 11}",
    "negative stock": f"UPDATE stock_level SET on_hand_qty = -1 WHERE location_id = {TUR}",
    "more shipped than ordered": f"UPDATE order_line SET shipped_qty = 5 WHERE id = {A + 1}",
    "a coupon used too often": "UPDATE coupon SET used_count = 6",
    "more settled than received": "UPDATE payment_receipt SET settled_cents = 1501",
}
"""What verify need not ask, because the database refuses it."""


@pytest.fixture
def business(store: Store) -> Store:
    small_business(store)
    return store


def execute(store: Store, *statements: str) -> None:
    with store.engine.begin() as conn:
        break_rows(conn, *statements)


def break_rows(conn: Connection, *statements: str) -> None:
    for statement in statements:
        assert conn.execute(text(statement)).rowcount > 0, f"changes nothing: {statement}"


def test_a_fresh_database_breaks_nothing(store: Store) -> None:
    assert verify(store) == []


def test_the_small_business_breaks_nothing(business: Store) -> None:
    assert verify(business) == []


def test_every_invariant_is_broken_on_purpose_by_a_test() -> None:
    assert sorted(BREAKS) == sorted(invariant.code for invariant in INVARIANTS)
    assert len({invariant.code for invariant in INVARIANTS}) == len(INVARIANTS)
    assert {invariant.facts for invariant in INVARIANTS} == set(FACTS)


def test_every_broken_row_is_named_and_nothing_else(business: Store) -> None:
    """One invariant after the other, each in a transaction that is rolled back."""
    wrong = {}
    for code, statements in BREAKS.items():
        with business.engine.connect() as conn:
            break_rows(conn, *statements)
            violations = violations_in(conn)
            if {violation.code for violation in violations} != {code}:
                wrong[code] = [str(violation) for violation in violations]
            for violation in violations:
                assert violation.key in violation.text("zh")
                assert violation.text("zh") != violation.text("en")
    assert wrong == {}


def test_the_database_itself_refuses(business: Store) -> None:
    for statement in CONSTRAINTS.values():
        with business.engine.connect() as conn, pytest.raises(IntegrityError):
            break_rows(conn, statement)


@pytest.mark.breaks_invariants
def test_the_sentence_names_key_and_numbers(business: Store) -> None:
    execute(business, f"UPDATE stock_level SET on_hand_qty = 4 WHERE location_id = {TUR}")
    (violation,) = verify(business)
    assert str(violation) == "stock_on_hand: stock_level LAMP@TUR: 4 on hand, but its movements sum to 1"
    assert violation.text("zh") == "stock_on_hand: stock_level LAMP@TUR: 实物库存 4，但流水合计为 1"


@pytest.mark.breaks_invariants
def test_stock_without_a_level_is_noticed(business: Store) -> None:
    execute(business, f"DELETE FROM stock_level WHERE location_id = {TUR}")
    assert [str(v) for v in verify(business)] == [
        "stock_on_hand: stock_level LAMP@TUR: 0 on hand, but its movements sum to 1"
    ]


@pytest.mark.breaks_invariants
def test_a_change_log_that_is_ahead_of_its_row_is_noticed(business: Store) -> None:
    execute(business, f"UPDATE change_log SET version = 7 WHERE entity = 'orders' AND entity_id = {A}")
    assert [v.code for v in verify(business)] == ["change_logged"]


@pytest.mark.breaks_invariants
def test_history_is_exempt_from_what_it_does_not_record_and_from_nothing_else(business: Store) -> None:
    execute(business, f"UPDATE customer SET origin = 'history' WHERE id = {CUSTOMER}")
    execute(business, f"DELETE FROM change_log WHERE entity = 'customer' AND entity_id = {CUSTOMER}")
    assert verify(business) == []
    execute(business, f"UPDATE order_line SET delivered_qty = 2 WHERE order_id = {H}")
    assert [v.code for v in verify(business)] == ["order_status"]


@pytest.mark.breaks_invariants
def test_a_customer_who_got_an_address_later_is_not_missed_a_confirmation(business: Store) -> None:
    execute(business, f"DELETE FROM outbox WHERE entity_id = {A}")
    execute(
        business,
        f"UPDATE customer SET version = 2 WHERE id = {CUSTOMER}",
        f"{_LOG} ('customer', {CUSTOMER}, 2, 'update', {2**62})",
    )
    assert verify(business) == []


@pytest.mark.breaks_invariants
def test_no_more_rows_are_named_than_asked_for(business: Store) -> None:
    execute(business, "UPDATE order_line SET units_per_pack = 2")
    assert len(verify(business)) == 6
    assert len(verify(business, limit_each=2)) == 2
