"""Units that an order or a cart gives back go to the orders that wait for them, in the same command."""

from __future__ import annotations

import pytest

from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.carts import SetCartLine, set_cart_line
from orders_core.services.edit import EditOrder, LineChange, edit_order, preview_edit
from orders_core.services.place_order import LineIn
from orders_core.services.review import HoldOrder, RejectOrder, ResumeOrder, hold_order, reject_order, resume_order
from orders_core.services.warehouse import ShortPick, short_pick
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, MANAGER, PICKER

HOLD_MINUTES = 30


@pytest.fixture
def shop(store: Store) -> Store:
    """Ten lamps and two rugs; what is short waits. Carts on the web hold their units."""
    build.company(store)
    build.rules(
        store, shortage={"policy": "backorder"}, checks={"duplicate": "ignore"}, cart={"hold_minutes": HOLD_MINUTES}
    )
    build.stock(store, "LAMP@WH1: 10, RUG@WH1: 2")
    return store


def units(store: Store, number: str) -> list[tuple[str, int, int]]:
    """SKU, reserved and waiting units of each line."""
    return [(line.sku, line.reserved_qty, line.backordered_qty) for line in build.order_lines(store, number)]


def test_a_cancelled_orders_units_go_to_the_order_that_waits_and_its_customer_is_told(shop: Store) -> None:
    first = build.order(shop, "LAMP 10")
    waits = build.order(shop, "LAMP 4")
    assert waits.status == "waiting_stock"
    shop.run(cancel_order, CLERK, CancelOrder(first.number, "changed his mind"))
    assert units(shop, waits.number) == [("LAMP", 4, 0)]
    assert build.order_row(shop, waits.number).status == "ready"
    assert build.level(shop, "LAMP@WH1").backordered_qty == 0
    assert len(build.notices(shop, "stock_available", number=waits.number)) == 1


def test_freed_units_go_by_priority_then_age_and_past_orders_on_hold(shop: Store) -> None:
    first = build.order(shop, "LAMP 10")
    held = build.order(shop, "LAMP 3", priority=9)
    old, new, urgent = build.order(shop, "LAMP 4"), build.order(shop, "LAMP 4"), build.order(shop, "LAMP 5", priority=1)
    shop.run(hold_order, MANAGER, HoldOrder(held.number, "wait"))
    shop.run(cancel_order, CLERK, CancelOrder(first.number, "no"))
    assert units(shop, urgent.number) == [("LAMP", 5, 0)]
    assert units(shop, old.number) == [("LAMP", 4, 0)]
    assert units(shop, new.number) == [("LAMP", 1, 3)]
    assert units(shop, held.number) == [("LAMP", 0, 3)]


def test_a_resumed_order_gets_what_came_free_while_it_was_held(shop: Store) -> None:
    first, held = build.order(shop, "LAMP 10"), build.order(shop, "LAMP 3")
    shop.run(hold_order, MANAGER, HoldOrder(held.number, "wait"))
    shop.run(cancel_order, CLERK, CancelOrder(first.number, "no"))
    assert units(shop, held.number) == [("LAMP", 0, 3)]
    state = shop.run(resume_order, MANAGER, ResumeOrder(held.number))
    assert units(shop, held.number) == [("LAMP", 3, 0)]
    row = build.order_row(shop, held.number)
    assert row.status == "ready"
    assert (state.status, state.version) == (row.status, row.version)


def test_a_resumed_order_takes_nothing_from_who_waits_with_more_right(shop: Store) -> None:
    first = build.order(shop, "LAMP 10")
    held, urgent = build.order(shop, "LAMP 8"), build.order(shop, "LAMP 6", priority=1)
    for number in (held.number, urgent.number):
        shop.run(hold_order, MANAGER, HoldOrder(number, "wait"))
    shop.run(cancel_order, CLERK, CancelOrder(first.number, "no"))
    shop.run(resume_order, MANAGER, ResumeOrder(urgent.number))
    shop.run(resume_order, MANAGER, ResumeOrder(held.number))
    assert units(shop, urgent.number) == [("LAMP", 6, 0)]
    assert units(shop, held.number) == [("LAMP", 4, 4)]


def test_an_order_made_smaller_gives_the_rest_to_who_waits(shop: Store) -> None:
    first, waits = build.order(shop, "LAMP 10"), build.order(shop, "LAMP 4")
    shop.run(edit_order, CLERK, EditOrder(first.number, lines=[LineChange(1, 7)]))
    assert units(shop, first.number) == [("LAMP", 7, 0)]
    assert units(shop, waits.number) == [("LAMP", 3, 1)]


def test_a_preview_of_an_edit_gives_nobody_anything(shop: Store) -> None:
    first, waits = build.order(shop, "LAMP 10"), build.order(shop, "LAMP 4")
    shop.run(preview_edit, CLERK, EditOrder(first.number, lines=[LineChange(1, 7)]))
    assert units(shop, waits.number) == [("LAMP", 0, 4)]
    assert build.notices(shop, "stock_available") == []


def test_units_moved_from_one_line_to_another_of_the_same_order_stay_with_it(shop: Store) -> None:
    first = build.order(shop, "LAMP 5, LAMP 5")
    build.order(shop, "LAMP 4")
    edited = shop.run(edit_order, CLERK, EditOrder(first.number, lines=[LineChange(1, 2), LineChange(2, 8)]))
    assert (edited.reserved_qty, edited.backordered_qty) == (0, 0)


def test_an_edit_that_frees_a_sku_serves_its_own_waiting_line_of_it(shop: Store) -> None:
    first = build.order(shop, "LAMP 10")
    own = shop.run(edit_order, CLERK, EditOrder(first.number, add=[LineIn("LAMP", 3)]))
    assert own.backordered_qty == 3
    shop.run(edit_order, CLERK, EditOrder(first.number, lines=[LineChange(1, 8)]))
    assert units(shop, first.number) == [("LAMP", 8, 0), ("LAMP", 2, 1)]


def test_a_rejected_orders_units_go_to_the_order_that_waits(shop: Store) -> None:
    build.rules(shop, auto_approve={"max_total_cents": {"CNY": 9_000}})
    first, waits = build.order(shop, "LAMP 10"), build.order(shop, "LAMP 4")
    assert first.status == "review"
    shop.run(reject_order, MANAGER, RejectOrder(first.number, "too large"))
    assert units(shop, waits.number) == [("LAMP", 4, 0)]


def test_what_a_customer_takes_out_of_his_cart_goes_to_the_order_that_waits(shop: Store) -> None:
    shop.run(set_cart_line, CLERK, SetCartLine("cart-1", "RUG", 2, customer="ACME"))
    waits = build.order(shop, "RUG 2")
    assert units(shop, waits.number) == [("RUG", 0, 2)]
    shop.run(set_cart_line, CLERK, SetCartLine("cart-1", "RUG", 1))
    assert units(shop, waits.number) == [("RUG", 1, 1)]
    shop.run(set_cart_line, CLERK, SetCartLine("cart-1", "RUG", 0))
    assert units(shop, waits.number) == [("RUG", 2, 0)]


def test_what_a_cart_held_too_long_goes_to_who_waits_before_a_new_order(shop: Store, clock) -> None:
    shop.run(set_cart_line, CLERK, SetCartLine("cart-1", "RUG", 2, customer="ACME"))
    waits = build.order(shop, "RUG 1")
    clock.advance(minutes=HOLD_MINUTES + 1)
    new = build.order(shop, "RUG 2")
    assert units(shop, waits.number) == [("RUG", 1, 0)]
    assert units(shop, new.number) == [("RUG", 1, 1)]


def test_a_short_pick_that_frees_a_late_carts_units_hands_on_what_it_does_not_need(shop: Store, clock) -> None:
    first = build.order(shop, "LAMP 4")
    shop.run(set_cart_line, CLERK, SetCartLine("cart-1", "LAMP", 6, customer="ACME"))
    waits = build.order(shop, "LAMP 9")
    assert units(shop, waits.number) == [("LAMP", 0, 9)]
    (pick_list,) = build.release_all(shop, "WH1")
    clock.advance(minutes=HOLD_MINUTES + 1)
    shop.run(short_pick, PICKER, ShortPick(pick_list, 1, found_qty=3))
    assert units(shop, first.number) == [("LAMP", 4, 0)]
    assert units(shop, waits.number) == [("LAMP", 5, 4)]
