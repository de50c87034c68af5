"""Cases 21 and 43 of orders.md: what has shipped stays shipped; what comes back is counted once."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.errors import BelowShipped, InvalidCommand, QuantityExceeded
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.returns import (
    DecideReturn,
    Disposition,
    InspectReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    inspect_return,
    kept_qty,
    receive_return,
    request_return,
)
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    MANAGER,
    PICKER,
    company,
    deliver,
    level,
    on_hand,
    order,
    order_lines,
    order_row,
    rows,
    ship,
    sku,
    stock,
)


def _five_lamps_delivered(store: Store, *, paid: bool = True) -> str:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 5").number
    if paid:
        store.run(receive_payment, CASHIER, ReceivePayment("ACME", 5_000, "pay"))
    ship(store, number)
    deliver(store, number)
    assert order_row(store, number).status == "delivered"
    return number


def _came_back(store: Store, number: str, qty: int, *, is_refunded: bool = True) -> str:
    asked = store.run(
        request_return, CLERK, RequestReturn(number, {1: qty}, "not as described", is_refunded=is_refunded)
    )
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: qty}, "WH1"))
    return asked.number


def test_case_21_a_line_is_not_lowered_below_what_has_shipped(store: Store) -> None:
    number = _five_lamps_delivered(store)
    with pytest.raises(BelowShipped) as refused:
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 4)]))
    assert refused.value.facts["shipped_qty"] == 5
    with pytest.raises(BelowShipped):
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 0)]))
    assert order_lines(store, number)[0].ordered_qty == 5


def test_case_21_the_unshipped_part_can_be_removed_and_its_reservation_returns(store: Store) -> None:
    number = _five_lamps_delivered(store)
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 7)]))
    assert level(store, "LAMP@WH1").reserved_qty == 2
    edited = store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 5)]))
    assert (edited.status, level(store, "LAMP@WH1").reserved_qty) == ("delivered", 0)


def test_case_43_two_of_five_come_back_for_money(store: Store) -> None:
    number = _five_lamps_delivered(store)
    _came_back(store, number, 2)
    with store.unit_of_work() as uow:
        assert kept_qty(uow, number) == {1: 3}
    row = order_row(store, number)
    assert (row.refunded_cents, row.total_cents, row.paid_cents) == (2_000, 3_000, 5_000)


def test_case_43_a_return_without_refund_leaves_five_delivered(store: Store) -> None:
    number = _five_lamps_delivered(store)
    _came_back(store, number, 2, is_refunded=False)
    with store.unit_of_work() as uow:
        assert kept_qty(uow, number) == {1: 5}
    assert order_row(store, number).refunded_cents == 0


def test_case_43_six_of_five_are_refused_and_so_is_the_same_unit_twice(store: Store) -> None:
    number = _five_lamps_delivered(store)
    with pytest.raises(QuantityExceeded, match="at most 5"):
        store.run(request_return, CLERK, RequestReturn(number, {1: 6}, "too many"))
    back = _came_back(store, number, 5)
    with pytest.raises(QuantityExceeded, match="at most 0"):
        store.run(receive_return, PICKER, ReceiveReturn(back, {1: 1}, "WH1"))
    with pytest.raises(QuantityExceeded, match="at most 0"):
        store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "again"))


def test_case_43_damaged_goods_are_written_off_and_good_ones_restocked(store: Store) -> None:
    number = _five_lamps_delivered(store)
    before = on_hand(store, "LAMP@WH1")
    back = _came_back(store, number, 3)
    assert level(store, "LAMP@WH1").inspecting_qty == 3
    assert on_hand(store, "LAMP@WH1") == before
    store.run(inspect_return, PICKER, InspectReturn(back, [Disposition(1, scrap_qty=2)]))
    assert (on_hand(store, "LAMP@WH1"), level(store, "LAMP@WH1").inspecting_qty) == (before, 1)
    closed = store.run(inspect_return, PICKER, InspectReturn(back, [Disposition(1, restock_qty=1)]))
    assert (on_hand(store, "LAMP@WH1"), closed.status) == (before + 1, "closed")


def test_case_43_an_exchange_goes_out_at_no_price(store: Store) -> None:
    number = _five_lamps_delivered(store)
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "wrong colour", kind="exchange"))
    decided = store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert decided.exchange_number is not None
    exchange = order_row(store, decided.exchange_number)
    assert (exchange.total_cents, exchange.kind, exchange.status) == (0, "exchange", "ready")
    assert level(store, "LAMP@WH1").reserved_qty == 1


def test_successive_partial_returns_give_back_exactly_what_was_paid(store: Store) -> None:
    company(store)
    sku(store, "WIRE", price_cents=333)
    stock(store, "WIRE@WH1: 9")
    number = order(store, "WIRE 3").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 999, "pay"))
    ship(store, number)
    deliver(store, number)
    for _ in range(3):
        _came_back(store, number, 1)
    row = order_row(store, number)
    assert (row.refunded_cents, row.total_cents) == (999, 0)
    granted = rows(store, select(tables.Refund.amount_cents).order_by(tables.Refund.id))
    assert sum(refund.amount_cents for refund in granted) == 999


def test_a_return_on_unpaid_credit_lowers_what_is_owed_and_refunds_nothing(store: Store) -> None:
    number = _five_lamps_delivered(store, paid=False)
    _came_back(store, number, 2)
    row = order_row(store, number)
    assert (row.refunded_cents, row.total_cents, row.credit_claimed_cents) == (0, 3_000, 3_000)


def test_refund_only_stops_the_picker_until_it_is_decided(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 5").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 5_000, "pay"))
    asked = store.run(request_return, CLERK, RequestReturn(number, {}, "ordered twice", kind="refund_only"))
    assert order_row(store, number).status == "held"
    store.run(decide_return, MANAGER, DecideReturn(asked.number, is_approved=True))
    row = order_row(store, number)
    assert (row.status, row.refunded_cents) == ("cancelled", 5_000)
    with pytest.raises(InvalidCommand):
        store.run(decide_return, MANAGER, DecideReturn(asked.number, is_approved=True))
