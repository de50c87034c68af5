"""Who says what on a ticket."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound, PermissionDenied
from orders_core.services.tickets import (
    AnswerTicket,
    OpenTicket,
    SolveTicket,
    answer_ticket,
    open_ticket,
    solve_ticket,
)
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import CLERK, SALES, company, customer, order, rows, stock


@pytest.fixture
def shop(store: Store) -> Store:
    company(store)
    customer(store, "OTHER")
    stock(store, "LAMP@WH1: 5")
    return store


def _buyer(store: Store, code: str = "ACME") -> Actor:
    return Actor(code, frozenset({"customer"}), customer_id=customer(store, code))


def _said(store: Store) -> list[tuple[str, bool]]:
    message = tables.TicketMessage
    query = select(message.author, message.is_from_customer).order_by(message.id)
    return [(row.author, row.is_from_customer) for row in rows(store, query)]


def test_a_customer_answers_his_own_ticket_and_nobody_elses(shop: Store) -> None:
    number = order(shop, "LAMP 1").number
    ticket = shop.run(open_ticket, _buyer(shop), OpenTicket(number, "damaged", "broken", "see picture")).number
    for stranger in (_buyer(shop, "OTHER"), Actor("guest", frozenset({"customer"}))):
        for is_from_customer in (True, False):
            with pytest.raises(NotFound):
                shop.run(answer_ticket, stranger, AnswerTicket(ticket, "never mind", is_from_customer))
    assert _said(shop) == [("ACME", True)]
    shop.run(solve_ticket, CLERK, SolveTicket(ticket, "sent again"))
    with pytest.raises(NotFound):  # nor does he learn that it is solved
        shop.run(answer_ticket, _buyer(shop, "OTHER"), AnswerTicket(ticket, "never mind"))


def test_what_a_customer_says_never_counts_as_our_answer(shop: Store) -> None:
    number = order(shop, "LAMP 1").number
    ticket = shop.run(open_ticket, CLERK, OpenTicket(number, "late", "late", "where is it")).number
    assert shop.run(answer_ticket, _buyer(shop), AnswerTicket(ticket, "and now?")).status == "open"
    assert _said(shop) == [("ann", False), ("ACME", True)]
    assert rows(shop, select(tables.Ticket.first_answer_at))[0].first_answer_at is None
    with pytest.raises(PermissionDenied):  # sales pass on what the customer said, they do not work tickets
        shop.run(answer_ticket, SALES, AnswerTicket(ticket, "tomorrow"))
    assert shop.run(answer_ticket, CLERK, AnswerTicket(ticket, "tomorrow")).status == "waiting_customer"
    assert shop.run(answer_ticket, SALES, AnswerTicket(ticket, "he calls", is_from_customer=True)).status == "open"
