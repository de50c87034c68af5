"""Whose order is it: a customer, and a guest who is none yet, touch their own and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import InvalidCommand, NotFound
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.carts import (
    Checkout,
    SetCartLine,
    check_out,
    look_at_cart,
    set_cart_line,
)
from orders_core.services.drafting import LineIn
from orders_core.services.edit import (
    EditOrder,
    LineChange,
    OpenChange,
    apply_change,
    drop_change,
    edit_order,
    open_change,
)
from orders_core.services.invoices import RequestInvoice, request_invoice
from orders_core.services.place_order import place_order
from orders_core.services.returns import RequestReturn, request_return
from orders_core.services.shortage import AnswerOffer, answer_offer
from orders_core.services.tickets import OpenTicket, open_ticket
from orders_core.store.uow import Store
from tests.support.build import CLERK, company, customer, order, order_command, order_row, stock

GUEST = Actor("guest", frozenset({"customer"}))
THEIRS: dict[str, tuple[Callable[..., Any], Callable[[str], Any]]] = {
    "place": (place_order, lambda _: order_command("LAMP 1")),
    "edit": (edit_order, lambda n: EditOrder(n, lines=[LineChange(1, 1)])),
    "edit by version": (edit_order, lambda n: EditOrder(n, expected_version=77, lines=[LineChange(1, 1)])),
    "cancel": (cancel_order, lambda n: CancelOrder(n, "mine now")),
    "cancel by version": (cancel_order, lambda n: CancelOrder(n, "mine now", expected_version=77)),
    "draft": (open_change, lambda n: OpenChange(EditOrder(n, lines=[LineChange(1, 1)]))),
    "answer": (answer_offer, lambda n: AnswerOffer(n, is_accepted=True)),
    "return": (request_return, lambda n: RequestReturn(n, {1: 1}, "broken")),
    "invoice": (request_invoice, lambda n: RequestInvoice(n)),
    "ticket": (open_ticket, lambda n: OpenTicket(n, "late", "where", "where is it")),
    "cart": (set_cart_line, lambda _: SetCartLine("new", "LAMP", 1, customer="ACME")),
    "cart of theirs": (set_cart_line, lambda _: SetCartLine("acme", "LAMP", 1)),
    "cart seen": (look_at_cart, lambda _: "acme"),
    "checkout": (check_out, lambda _: Checkout("acme")),
    "checkout for them": (check_out, lambda _: Checkout("nobodys", customer="ACME")),
}


@pytest.fixture
def shop(store: Store) -> Store:
    company(store)
    customer(store, "OTHER")
    stock(store, "LAMP@WH1: 20")
    store.run(set_cart_line, CLERK, SetCartLine("acme", "LAMP", 1, customer="ACME"))
    store.run(set_cart_line, CLERK, SetCartLine("nobodys", "LAMP", 1))
    return store


def _strangers(store: Store) -> list[Actor]:
    return [GUEST, Actor("other", frozenset({"customer"}), customer_id=customer(store, "OTHER"))]


@pytest.mark.parametrize("what", THEIRS)
def test_another_customers_order_is_not_there_for_a_guest_or_a_customer(shop: Store, what: str) -> None:
    number = order(shop, "LAMP 3").number
    shop.run(open_change, CLERK, OpenChange(EditOrder(number, lines=[LineChange(1, 1)])))
    service, command = THEIRS[what]
    for stranger in _strangers(shop):
        with pytest.raises(NotFound) as refused:
            shop.run(service, stranger, command(number))
        assert "ann" not in str(refused.value), "it tells who drafted a change"
    assert order_row(shop, number).version == 1


def test_another_customers_draft_is_neither_applied_nor_dropped(shop: Store) -> None:
    number = order(shop, "LAMP 3").number
    change = shop.run(open_change, CLERK, OpenChange(EditOrder(number, lines=[LineChange(1, 1)])))
    for stranger in _strangers(shop):
        for service in (apply_change, drop_change):
            with pytest.raises(NotFound) as refused:
                shop.run(service, stranger, change)
            assert number not in str(refused.value)
    assert shop.run(apply_change, CLERK, change).total_cents == 1_000


def test_a_customer_and_one_of_us_do_as_before(shop: Store) -> None:
    buyer = Actor("buyer", frozenset({"customer"}), customer_id=customer(shop, "ACME"))
    number = order(shop, "LAMP 3", actor=buyer).number
    assert shop.run(edit_order, buyer, EditOrder(number, add=[LineIn("LAMP", 1)])).total_cents == 4_000
    assert shop.run(cancel_order, SYSTEM, CancelOrder(number, "no")).status == "cancelled"


def test_a_guest_keeps_a_cart_and_jumps_no_queue(shop: Store) -> None:
    assert shop.run(set_cart_line, GUEST, SetCartLine("g", "LAMP", 1)).items[0].pack_qty == 1
    with pytest.raises(InvalidCommand) as refused:
        order(shop, "LAMP 1", actor=GUEST, priority=9)
    assert refused.value.facts["field"] == "priority"
