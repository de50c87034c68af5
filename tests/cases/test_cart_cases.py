"""Cases 9, 10 and 49 of orders.md: carts that hold stock, and carts that merge."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.errors import InsufficientStock, InvalidCommand
from orders_core.services.carts import (
    Checkout,
    MergeCarts,
    SetCartLine,
    check_out,
    look_at_cart,
    merge_carts,
    set_cart_line,
)
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import CLERK, company, customer, level, order, order_lines, rows, rules, stock


def _put(store: Store, token: str, sku: str, qty: int, **fields: str) -> None:
    store.run(set_cart_line, CLERK, SetCartLine(token, sku, qty, **fields))


def test_case_09_an_expired_hold_gives_way_without_a_sweeper(store: Store) -> None:
    company(store)
    customer(store, "Y")
    stock(store, "LAMP@WH1: 3")
    rules(store, cart={"hold_minutes": 10})
    _put(store, "x", "LAMP", 2, customer="ACME")
    with pytest.raises(InsufficientStock) as refused:
        order(store, "LAMP 2", customer="Y", channel="web")
    assert (refused.value.facts["available_qty"], refused.value.facts["asked_qty"]) == (1, 2)
    store.clock.advance(minutes=9, seconds=59)  # type: ignore[attr-defined]
    with pytest.raises(InsufficientStock):
        order(store, "LAMP 2", customer="Y", channel="web")
    store.clock.advance(seconds=2)  # type: ignore[attr-defined]
    assert order(store, "LAMP 2", customer="Y", channel="web").status == "ready"
    with pytest.raises(InsufficientStock) as refused:
        store.run(check_out, CLERK, Checkout("x"))
    assert (refused.value.facts["available_qty"], refused.value.facts["asked_qty"]) == (1, 2)
    assert level(store, "LAMP@WH1").reserved_qty == 2
    assert len(rows(store, select(tables.Order.id))) == 1


def test_case_10_a_hold_taken_twice_is_one_row_and_never_counts_against_its_own_order(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 3")
    rules(store, cart={"hold_minutes": 10})
    _put(store, "x", "LAMP", 2, customer="ACME")
    _put(store, "x", "LAMP", 3)
    holds = rows(store, select(tables.CartHold.__table__))
    assert [hold.qty for hold in holds] == [3]
    assert level(store, "LAMP@WH1").reserved_qty == 3
    placed = store.run(check_out, CLERK, Checkout("x"))
    assert order_lines(store, placed.number)[0].reserved_qty == 3
    assert level(store, "LAMP@WH1").reserved_qty == 3
    assert rows(store, select(tables.CartHold.__table__)) == []
    again = store.run(check_out, CLERK, Checkout("x"))
    assert (again.number, again.is_repeat) == (placed.number, True)


def test_case_10_without_holds_a_cart_takes_nothing(store: Store) -> None:
    company(store)
    customer(store, "Y")
    stock(store, "LAMP@WH1: 3")
    rules(store, cart={"hold_minutes": 0})
    _put(store, "x", "LAMP", 2, customer="ACME")
    assert level(store, "LAMP@WH1").reserved_qty == 0
    assert rows(store, select(tables.CartHold.__table__)) == []
    assert order(store, "LAMP 2", customer="Y").status == "ready"


@pytest.mark.parametrize(("merge", "expected"), [("sum", 3), ("guest_wins", 2)])
def test_case_49_carts_merge_as_the_policy_says(store: Store, merge: str, expected: int) -> None:
    company(store)
    stock(store, "LAMP@WH1: 9")
    rules(store, cart={"merge": merge})
    _put(store, "mine", "LAMP", 1, customer="ACME")
    _put(store, "guest", "LAMP", 2)
    merged = store.run(merge_carts, CLERK, MergeCarts("guest", "mine", "ACME"))
    assert [(item.sku, item.pack_qty) for item in merged.items] == [("LAMP", expected)]


def test_case_49_a_guest_cart_in_another_currency_is_refused(store: Store) -> None:
    company(store)
    customer(store, "BRIT", currency="GBP")
    stock(store, "LAMP@WH1: 9")
    _put(store, "guest", "LAMP", 2)
    with pytest.raises(InvalidCommand, match="guest cart is in CNY, yours in GBP"):
        store.run(merge_carts, CLERK, MergeCarts("guest", "mine", "BRIT"))
    assert [line.pack_qty for line in rows(store, select(tables.CartLine.__table__))] == [2], "the guest keeps his"


def test_a_cart_points_out_that_a_price_changed(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 9")
    _put(store, "x", "LAMP", 2, customer="ACME")
    with store.unit_of_work() as uow:
        uow.conn.execute(tables.Price.__table__.update().values(unit_price_cents=1_100))  # type: ignore[attr-defined]
    with store.unit_of_work() as uow:
        cart = look_at_cart(uow, CLERK, "x")
    assert cart.items[0].has_price_changed
    assert cart.items[0].available_qty == 9
