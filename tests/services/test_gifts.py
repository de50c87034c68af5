"""Gifts follow their trigger when an order is placed and edited, and are never a reason to refuse one."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.errors import InsufficientStock
from orders_core.services.drafting import LineIn
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.master_data import GiftIn, save_gift_rule
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CLERK,
    MANAGER,
    company,
    level,
    notices,
    order,
    order_lines,
    order_row,
    rows,
    rules,
    ship,
    shipments,
    sku,
    stock,
)


@pytest.fixture
def shop(store: Store) -> Store:
    """A mug comes with every three pots of tea; five mugs."""
    company(store)
    stock(store, "TEA@WH1: 90, POT@WH1: 9, MUG@WH1: 5")
    store.run(save_gift_rule, MANAGER, GiftIn("TEA", 3, "MUG"))
    return store


def _gifts(store: Store, number: str) -> list[tuple[str, int]]:
    return [(line.sku, line.ordered_qty) for line in order_lines(store, number) if line.kind == "gift"]


def _set(store: Store, number: str, packs: int, line_no: int = 1) -> None:
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(line_no, packs)]))


def test_raising_the_trigger_brings_the_gift_that_placing_it_so_would(shop: Store) -> None:
    number = order(shop, "TEA 2, POT 1").number
    assert _gifts(shop, number) == []
    _set(shop, number, 6)
    assert _gifts(shop, number) == _gifts(shop, order(shop, "TEA 6").number) == [("MUG", 2)]
    gift = order_lines(shop, number)[-1]
    assert (gift.parent_line_id, gift.net_cents) == (order_lines(shop, number)[0].id, 0)
    assert level(shop, "MUG@WH1").reserved_qty == 4
    _set(shop, number, 9)
    assert _gifts(shop, number) == [("MUG", 3)]
    _set(shop, number, 2)
    assert _gifts(shop, number) == [("MUG", 0)]
    assert level(shop, "MUG@WH1").reserved_qty == 2


def test_a_gift_added_by_an_edit_ships_with_its_order(shop: Store) -> None:
    number = order(shop, "TEA 2").number
    _set(shop, number, 3)
    assert len(shipments(shop, number)) == 1
    ship(shop, number)
    assert [line.shipped_qty for line in order_lines(shop, number)] == [3, 1]


def test_adding_a_trigger_line_brings_its_gift_beside_that_of_a_raised_one(shop: Store) -> None:
    number = order(shop, "TEA 2, POT 1").number
    edit = EditOrder(number, lines=[LineChange(1, 3)], add=[LineIn("TEA", 3), LineIn("POT", 1)])
    shop.run(edit_order, CLERK, edit)
    lines = order_lines(shop, number)
    assert [line.line_no for line in lines] == list(range(1, len(lines) + 1))
    parents = {line.id: line.line_no for line in lines}
    gifts = [(line.ordered_qty, parents[line.parent_line_id]) for line in lines if line.kind == "gift"]
    assert gifts == [(1, 1), (1, 4)]


def test_a_gift_that_is_not_there_is_left_out_where_nothing_may_be_owed(shop: Store) -> None:
    placed = order(shop, "TEA 18, POT 1")
    assert (placed.status, placed.backordered_qty) == ("ready", 0)
    assert _gifts(shop, placed.number) == [("MUG", 5)]
    (entry,) = rows(shop, select(tables.AuditEntry.facts).where(tables.AuditEntry.action == "order.place"))
    assert entry.facts["gifts_left_out"] == {"MUG": 1}
    other = order(shop, "TEA 3")
    assert (other.status, _gifts(shop, other.number)) == ("ready", [])
    _set(shop, other.number, 6)
    assert _gifts(shop, other.number) == []
    with pytest.raises(InsufficientStock):
        order(shop, "TEA 3, POT 99")


def test_a_gift_that_is_not_there_waits_where_the_rules_say_so(shop: Store) -> None:
    rules(shop, shortage={"gift": "wait"})
    placed = order(shop, "TEA 18, POT 1")
    assert (placed.status, placed.backordered_qty) == ("ready", 1)
    assert _gifts(shop, placed.number) == [("MUG", 6)]
    _set(shop, placed.number, 21)
    assert _gifts(shop, placed.number) == [("MUG", 7)]
    assert level(shop, "MUG@WH1").backordered_qty == 2
    with pytest.raises(InsufficientStock):
        order(shop, "POT 99")


def test_a_gift_waits_with_the_rest_where_units_may_be_owed_unless_the_rules_leave_it_out(shop: Store) -> None:
    rules(shop, shortage={"policy": "backorder"}, checks={"stock": "refuse"})
    placed = order(shop, "TEA 18")
    assert (placed.status, placed.backordered_qty) == ("ready", 1)
    rules(shop, shortage={"policy": "backorder", "gift": "leave_out"}, checks={"stock": "ignore"})
    other = order(shop, "TEA 18, POT 12")
    assert (other.backordered_qty, _gifts(shop, other.number)) == (3, [])


def test_a_gift_that_is_its_own_trigger_takes_what_the_paid_units_leave(shop: Store) -> None:
    shop.run(save_gift_rule, MANAGER, GiftIn("POT", 4, "POT"))
    placed = order(shop, "POT 8")
    assert _gifts(shop, placed.number) == [("POT", 1)]
    with pytest.raises(InsufficientStock):
        order(shop, "POT 1")


def test_an_edit_that_changes_nothing_leaves_no_version_and_no_mail(shop: Store) -> None:
    number = order(shop, "TEA 3, POT 1", note="ring twice").number
    row, mails = order_row(shop, number), len(notices(shop, "order_changed"))
    same = EditOrder(number, row.version, lines=[LineChange(1, 3), LineChange(2, 1)], note="ring twice", reason="-")
    edited = shop.run(edit_order, CLERK, same)
    assert (edited.version, edited.total_cents, edited.status) == (row.version, row.total_cents, row.status)
    assert order_row(shop, number) == row
    assert len(notices(shop, "order_changed")) == mails
    assert not rows(shop, select(tables.AuditEntry.id).where(tables.AuditEntry.action == "order.edit"))
    sku(shop, "CUP", price_cents=500)
    shop.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3), LineChange(2, 2)]))
    assert order_row(shop, number).version > row.version
    assert len(notices(shop, "order_changed")) == mails + 1
