"""A cart becomes one order whoever clicks, and is merged only by whom it belongs to."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand
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
