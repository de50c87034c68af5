"""A cart becomes one order whoever clicks, and is merged only by whom it belongs to."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotFound
from orders_core.services.carts import Checkout, MergeCarts, SetCartLine, check_out, merge_carts, set_cart_line
from orders_core.services.place_order import PlacedOrder
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CLERK,
    SALES,
    at_once,
    company,
    customer,
    level,
    order_row,
    rows,
    stock,
)

CART = tables.Cart.__table__


@pytest.fixture
def shop(store: Store) -> Store:
    company(store)
    customer(store, "OTHER")
    stock(store, "LAMP@WH1: 10")
    return store


def _buyer(store: Store, code: str = "ACME") -> Actor:
    return Actor(code, frozenset({"customer"}), customer_id=customer(store, code))


def test_a_cart_checked_out_by_three_people_is_one_order(shop: Store) -> None:
    buyer = _buyer(shop)
    shop.run(set_cart_line, buyer, SetCartLine("c", "LAMP", 2, customer="ACME"))
    placed = shop.run(check_out, buyer, Checkout("c"))
    for again in (shop.run(check_out, who, Checkout("c", note="again")) for who in (CLERK, SALES)):
        assert (again.number, again.total_cents, again.is_repeat) == (placed.number, 2_000, True)
    assert [(row.order_id, row.status, row.version) for row in rows(shop, select(CART))] == [
        (placed.order_id, "ordered", 3)
    ]
    assert level(shop, "LAMP@WH1").reserved_qty == 2


def test_two_checkouts_at_once_by_two_people_are_one_order(shop: Store) -> None:
    """Neither sees the other's order before both have read the cart."""
    shop.run(set_cart_line, CLERK, SetCartLine("c", "LAMP", 2, customer="ACME"))
    answers = at_once(shop, _check_out_as, CLERK, ["ann", "sam", "ann", "sam"])
    assert all(isinstance(answer, PlacedOrder) for answer in answers), answers
    assert len({answer.number for answer in answers}) == 1
    assert sorted(answer.is_repeat for answer in answers) == [False, True, True, True]
    assert len(rows(shop, select(tables.Order.id))) == 1


def _check_out_as(uow: object, actor: Actor, name: str) -> PlacedOrder:
    return check_out(uow, Actor(name, actor.roles), Checkout("c"))  # type: ignore[arg-type]


def test_a_merged_cart_is_not_ordered(shop: Store) -> None:
    shop.run(set_cart_line, CLERK, SetCartLine("guest", "LAMP", 2))
    shop.run(merge_carts, CLERK, MergeCarts("guest", "mine", "ACME"))
    with pytest.raises(InvalidCommand, match="the cart is merged"):
        shop.run(check_out, CLERK, Checkout("guest", customer="ACME"))
    assert rows(shop, select(tables.Order.id)) == []


def test_nobody_merges_the_cart_of_another_customer(shop: Store) -> None:
    buyer, other = _buyer(shop), _buyer(shop, "OTHER")
    shop.run(set_cart_line, buyer, SetCartLine("mine", "LAMP", 2))
    shop.run(set_cart_line, buyer, SetCartLine("mine too", "LAMP", 1))
    for actor, command in (
        (other, MergeCarts("mine", "theirs", "OTHER")),
        (other, MergeCarts("guest", "mine", "OTHER")),
        (CLERK, MergeCarts("mine", "theirs", "OTHER")),
        (CLERK, MergeCarts("guest", "mine", "OTHER")),
    ):
        shop.run(set_cart_line, CLERK, SetCartLine("guest", "LAMP", 1))
        with pytest.raises(NotFound):
            shop.run(merge_carts, actor, command)
    assert {row.status for row in rows(shop, select(CART))} == {"open"}
    merged = shop.run(merge_carts, buyer, MergeCarts("mine too", "mine", "ACME"))
    assert [item.pack_qty for item in merged.items] == [3]


def test_a_cart_merged_into_itself_stays(shop: Store) -> None:
    shop.run(set_cart_line, CLERK, SetCartLine("c", "LAMP", 2, customer="ACME"))
    with pytest.raises(InvalidCommand, match="not merged into itself"):
        shop.run(merge_carts, CLERK, MergeCarts("c", "c", "ACME"))
    assert shop.run(check_out, CLERK, Checkout("c")).total_cents == 2_000


def test_the_cart_of_a_customer_is_his_without_saying_so(shop: Store) -> None:
    buyer = _buyer(shop)
    shop.run(set_cart_line, buyer, SetCartLine("c", "LAMP", 2))
    assert rows(shop, select(CART.c.customer_id))[0].customer_id == buyer.customer_id
    shop.run(set_cart_line, Actor("guest", frozenset({"customer"})), SetCartLine("g", "LAMP", 1))
    for token in ("c", "g"):  # a guest who logged in goes on with his cart
        placed = shop.run(check_out, buyer, Checkout(token))
        assert order_row(shop, placed.number).customer_id == buyer.customer_id
