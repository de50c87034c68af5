"""What is bought or made for an order line is what it waits for: no more after a second approval, less once it got units."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.receiving import (
    CreatePurchaseOrder,
    PurchaseLine,
    ReceivedLine,
    ReceiveGoods,
    create_purchase_order,
    receive_goods,
)
from orders_core.services.review import ApproveOrder, approve_order
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, MANAGER, PICKER, PLANNER, SALES


@pytest.fixture
def shop(store: Store) -> Store:
    """Three lamps and three cakes, which are made; what is short waits. Above 50.00 a person looks."""
    build.company(store)
    build.rules(
        store,
        shortage={"policy": "backorder"},
        checks={"duplicate": "ignore"},
        auto_approve={"max_total_cents": {"CNY": 5000}},
    )
    build.sku(store, "CAKE", supply_mode="make")
    build.stock(store, "LAMP@WH1: 3, CAKE@WH1: 3")
    return store


def asked(store: Store, table: str = "purchase_request") -> list[tuple[int, str]]:
    """Units and status of every request, oldest first."""
    return [(row.qty, row.status) for row in build.rows(store, text(f"SELECT qty, status FROM {table} ORDER BY id"))]


def test_approving_again_after_an_edit_asks_for_the_difference_only(shop: Store) -> None:
    build.order(shop, "LAMP 3")
    number = build.order(shop, "LAMP 6").number
    shop.run(approve_order, CLERK, ApproveOrder(number))
    assert asked(shop) == [(6, "open")]
    shop.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 7)]))
    assert build.order_row(shop, number).status == "review"
    shop.run(approve_order, CLERK, ApproveOrder(number))
    assert asked(shop) == [(7, "open")]


def test_approving_again_does_not_ask_for_what_was_ordered_and_asks_again_for_what_has_come(shop: Store) -> None:
    """Six were ordered from the supplier and two of them came; of nine wanted, three are neither here nor coming."""
    build.supplier(shop, "ACORN", "LAMP 500")
    build.order(shop, "LAMP 3")
    number = build.order(shop, "LAMP 6").number
    shop.run(approve_order, CLERK, ApproveOrder(number))
    (request,) = build.rows(shop, text("SELECT id FROM purchase_request"))
    bought = shop.run(
        create_purchase_order,
        PLANNER,
        CreatePurchaseOrder("ACORN", "WH1", [PurchaseLine("LAMP", 6)], requests=[request.id]),
    )
    two = ReceivedLine("LAMP", 2)
    shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [two], purchase_order=bought.number))
    shop.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 9)]))
    shop.run(approve_order, CLERK, ApproveOrder(number))
    assert build.order_lines(shop, number)[0].backordered_qty == 7
    assert asked(shop) == [(6, "ordered"), (3, "open")]


@pytest.mark.parametrize(
    ("sku", "table"), [("LAMP", "purchase_request"), ("CAKE", "production_order")], ids=["bought", "made"]
)
def test_a_request_shrinks_by_the_units_that_are_handed_on(shop: Store, sku: str, table: str) -> None:
    first, second = build.order(shop, f"{sku} 2").number, build.order(shop, f"{sku} 1").number
    waits = build.order(shop, f"{sku} 3").number
    assert asked(shop, table) == [(3, "open")]
    shop.run(cancel_order, MANAGER, CancelOrder(first, "no"))
    assert build.order_lines(shop, waits)[0].backordered_qty == 1
    assert asked(shop, table) == [(1, "open")]
    shop.run(cancel_order, MANAGER, CancelOrder(second, "no"))
    assert build.order_row(shop, waits).status == "ready"
    assert asked(shop, table) == [(1, "closed" if table == "purchase_request" else "cancelled")]
