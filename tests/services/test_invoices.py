"""Asking for invoices: for whom, how much at most, and when not."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch, InvalidCommand, NotAllowed, NotFound, OverPayment, PermissionDenied
from orders_core.services.cancel import CancelOrder, cancel_order, preview_cancel
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.invoices import InvoiceRequested, RequestInvoice, request_invoice
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.returns import (
    DecideReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    receive_return,
    request_return,
)
from orders_core.services.review import HoldOrder, RejectOrder, hold_order, reject_order
from orders_core.store import tables
from orders_core.store.uow import Store
from orders_core.store.verify import verify
from tests.support.build import (
    CASHIER,
    CLERK,
    PICKER,
    at_once,
    company,
    customer,
    order,
    order_row,
    rows,
    rules,
    ship,
    sku,
    stock,
)

TITLE, TAX_NUMBER = "上海订货有限公司", "91310000MA1FL0L82X"


@pytest.fixture
def shop(store: Store) -> Store:
    company(store)
    sku(store, "LAMP", price_cents=11_300, tax_rate_bp=1_300)
    stock(store, "LAMP@WH1: 20, RUG@WH1: 20")
    return store


def _ask(store: Store, number: str, amount: int | None = None, key: str | None = None) -> InvoiceRequested:
    return store.run(request_invoice, CLERK, RequestInvoice(number, TITLE, TAX_NUMBER, amount, key))


def _return_one(store: Store, number: str) -> None:
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "broken"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: 1}, "WH1"))


def test_an_invoice_is_asked_for_all_of_an_order_with_its_tax(shop: Store) -> None:
    rules(shop, shipping={"fee_cents": {"CNY": 700}})
    number = order(shop, "LAMP 2, RUG 1").number
    asked = _ask(shop, number)
    assert (asked.status, asked.title, asked.tax_number) == ("requested", TITLE, TAX_NUMBER)
    assert (asked.amount_cents, asked.currency) == (22_600 + 1_000 + 700, "CNY")
    lines = rows(shop, select(tables.InvoiceRequestLine.__table__).order_by(tables.InvoiceRequestLine.id))
    assert sum(line.amount_cents for line in lines) == asked.amount_cents
    assert [line.qty for line in lines] == [2, 1]
    assert asked.tax_cents == round(lines[0].amount_cents * 1_300 / 11_300)
    (entry,) = rows(shop, select(tables.AuditEntry.facts).where(tables.AuditEntry.action == "invoice.request"))
    assert (entry.facts["number"], entry.facts["amount_cents"]) == (asked.number, asked.amount_cents)


def test_no_more_is_invoiced_than_was_sold_less_what_came_back_and_was_asked_before(shop: Store) -> None:
    number = order(shop, "LAMP 3").number
    shop.run(receive_payment, CASHIER, ReceivePayment("ACME", 33_900, "pay"))
    with pytest.raises(OverPayment) as refused:
        _ask(shop, number, 33_901)
    assert (refused.value.facts["asked_cents"], refused.value.facts["limit_cents"]) == (33_901, 33_900)
    assert _ask(shop, number, 10_000).amount_cents == 10_000
    ship(shop, number)
    _return_one(shop, number)
    with pytest.raises(OverPayment) as refused:
        _ask(shop, number, 12_601)
    assert refused.value.facts["limit_cents"] == 22_600 - 10_000
    assert _ask(shop, number).amount_cents == 12_600
    with pytest.raises(OverPayment):
        _ask(shop, number)


def test_a_refused_request_leaves_its_amount_free(shop: Store) -> None:
    number = order(shop, "RUG 1").number
    first = _ask(shop, number)
    with shop.unit_of_work() as uow:
        uow.conn.execute(tables.InvoiceRequest.__table__.update().values(status="refused", version=2))
        uow.changed("invoice_request", first.request_id, 2)
    assert _ask(shop, number).amount_cents == 1_000


def test_the_same_key_asks_once_and_never_for_something_else(shop: Store) -> None:
    number = order(shop, "RUG 2").number
    first = _ask(shop, number, 1_500, "inv-1")
    again = _ask(shop, number, 1_500, "inv-1")
    assert (again.number, again.is_repeat, first.is_repeat) == (first.number, True, False)
    with pytest.raises(IdempotencyMismatch):
        _ask(shop, number, 400, "inv-1")
    customer(shop, "OTHER")
    other = order(shop, "RUG 1", customer="OTHER").number
    assert _ask(shop, other, None, "inv-1").number != first.number


def test_two_requests_at_once_share_what_is_left(shop: Store) -> None:
    number = order(shop, "RUG 2").number
    commands = [RequestInvoice(number, TITLE, amount_cents=1_200) for _ in range(2)]
    answers = at_once(shop, request_invoice, CLERK, commands)
    assert sorted(type(answer).__name__ for answer in answers) == ["InvoiceRequested", "OverPayment"]


def test_an_order_that_waits_for_review_or_was_cancelled_is_not_invoiced(shop: Store) -> None:
    waiting = order(shop, "RUG 1", payment_method="prepaid").number
    assert order_row(shop, waiting).status == "review"
    with pytest.raises(NotAllowed) as refused:
        _ask(shop, waiting)
    assert refused.value.facts["reason_code"] == "waiting"
    shop.run(cancel_order, CLERK, CancelOrder(waiting, "no"))
    with pytest.raises(NotAllowed, match=f"{waiting} in stage cancelled"):
        _ask(shop, waiting)


def test_the_customers_own_title_is_used_and_nobody_elses_order(shop: Store) -> None:
    ident = customer(shop, "BUYER", invoice_title="买家公司", tax_number="91310000MA1FL0L82X")
    number = order(shop, "RUG 1", customer="BUYER").number
    other = order(shop, "RUG 2").number
    buyer = Actor("buyer", frozenset({"customer"}), customer_id=ident)
    asked = shop.run(request_invoice, buyer, RequestInvoice(number))
    assert (asked.title, asked.tax_number) == ("买家公司", "91310000MA1FL0L82X")
    with pytest.raises(NotFound):
        shop.run(request_invoice, buyer, RequestInvoice(other))
    with pytest.raises(PermissionDenied):
        shop.run(request_invoice, PICKER, RequestInvoice(other))


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"title": " "}, "title"), ({"tax_number": "税号 9"}, "tax_number"), ({"amount_cents": 0}, "amount_cents")],
)
def test_what_cannot_be_an_invoice_is_refused_by_name(shop: Store, fields: dict[str, object], named: str) -> None:
    number = order(shop, "RUG 1").number
    with pytest.raises(InvalidCommand) as refused:
        shop.run(request_invoice, CLERK, RequestInvoice(number, **fields))
    assert refused.value.facts["field"] == named


def _requests(store: Store) -> list[tuple[str, str, int]]:
    query = select(tables.InvoiceRequest.__table__).order_by(tables.InvoiceRequest.id)
    return [(row.kind, row.status, row.amount_cents) for row in rows(store, query)]


def _is_sent(store: Store, asked: InvoiceRequested, status: str = "issued") -> None:
    """The tax system has it."""
    with store.unit_of_work() as uow:
        request = tables.InvoiceRequest
        uow.conn.execute(update(request).where(request.id == asked.request_id).values(status=status, version=2))
        uow.changed("invoice_request", asked.request_id, 2)


def _lower(store: Store, number: str, *packs: int) -> None:
    changes = [LineChange(line_no, qty) for line_no, qty in enumerate(packs, 1)]
    store.run(edit_order, CLERK, EditOrder(number, lines=changes))


def test_a_request_shrinks_with_its_order_and_ends_with_it(shop: Store) -> None:
    number = order(shop, "LAMP 2, RUG 4").number
    asked = _ask(shop, number)
    _lower(shop, number, 1, 4)
    assert _requests(shop) == [("blue", "requested", 11_300 + 4_000)]
    lines = rows(shop, select(tables.InvoiceRequestLine.__table__).order_by(tables.InvoiceRequestLine.id))
    assert [(line.qty, line.amount_cents) for line in lines] == [(1, 11_300), (4, 4_000)]
    assert rows(shop, select(tables.InvoiceRequest.tax_cents))[0].tax_cents == 1_300
    _lower(shop, number, 0, 4)
    assert [line.amount_cents for line in rows(shop, select(tables.InvoiceRequestLine.__table__))] == [4_000]
    shop.run(cancel_order, CLERK, CancelOrder(number, "no"))
    assert _requests(shop) == [("blue", "cancelled", 4_000)]
    facts = [x.facts for x in rows(shop, select(tables.AuditEntry).where(tables.AuditEntry.action == "invoice.follow"))]
    assert [(x["number"], x["less_cents"]) for x in facts] == [(asked.number, x) for x in (11_300, 11_300, 4_000)]
    assert verify(shop) == []


def test_a_return_and_a_rejection_take_their_requests_along(shop: Store) -> None:
    number = order(shop, "LAMP 3").number
    _ask(shop, number, 10_000)
    second = _ask(shop, number)
    ship(shop, number)
    _return_one(shop, number)
    assert _requests(shop) == [("blue", "requested", 10_000), ("blue", "requested", 12_600)], "the newest gives"
    _return_one(shop, number)
    _return_one(shop, number)
    assert [status for _, status, _ in _requests(shop)] == ["cancelled", "cancelled"]
    assert second.amount_cents == 23_900
    held = order(shop, "RUG 1").number
    _ask(shop, held)
    shop.run(hold_order, CLERK, HoldOrder(held, "look"))
    shop.run(reject_order, CLERK, RejectOrder(held, "no"))
    assert _requests(shop)[-1] == ("blue", "cancelled", 1_000)
    assert verify(shop) == []


@pytest.mark.parametrize("status", ["exported", "issued"])
def test_against_an_invoice_that_went_out_a_red_one_is_asked_for(shop: Store, status: str) -> None:
    rules(shop, shipping={"fee_cents": {"CNY": 700}})
    number = order(shop, "LAMP 2, RUG 1").number
    sent = _ask(shop, number)
    _is_sent(shop, sent, status)
    ship(shop, number)
    _return_one(shop, number)
    assert _requests(shop) == [("blue", status, 24_300), ("red", "requested", 11_300)]
    red = rows(shop, select(tables.InvoiceRequest.__table__).where(tables.InvoiceRequest.kind == "red"))[0]
    assert (red.red_of_id, red.title, red.tax_number) == (sent.request_id, TITLE, TAX_NUMBER)
    lines = select(tables.InvoiceRequestLine.__table__).where(tables.InvoiceRequestLine.invoice_request_id == red.id)
    assert next((x.qty, x.tax_rate_bp) for x in rows(shop, lines)) == (1, 1_300)
    assert sum(x.amount_cents for x in rows(shop, lines)) == 11_300
    _return_one(shop, number)
    assert _requests(shop)[2:] == [("red", "requested", 11_300)], "a second red, for what the second return is worth"
    with pytest.raises(OverPayment):
        _ask(shop, number)
    assert verify(shop) == []


def test_what_was_not_sent_yet_gives_before_what_was(shop: Store) -> None:
    number = order(shop, "RUG 5").number
    first = _ask(shop, number, 3_000)
    _is_sent(shop, first)
    _ask(shop, number)
    _lower(shop, number, 4)
    assert _requests(shop) == [("blue", "issued", 3_000), ("blue", "requested", 1_000)]
    shop.run(cancel_order, CLERK, CancelOrder(number, "no"))
    assert _requests(shop) == [("blue", "issued", 3_000), ("blue", "cancelled", 1_000), ("red", "requested", 3_000)]
    assert verify(shop) == []


def test_a_preview_and_a_dearer_order_leave_the_requests_alone(shop: Store) -> None:
    number = order(shop, "RUG 2").number
    _ask(shop, number)
    shop.run(preview_cancel, CLERK, CancelOrder(number, "no"))
    _lower(shop, number, 3)
    assert _requests(shop) == [("blue", "requested", 2_000)]
    assert _ask(shop, number).amount_cents == 1_000
