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
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    MANAGER,
    PICKER,
    carrier,
    company,
    deliver,
    level,
    on_hand,
    order,
    order_lines,
    order_row,
    rows,
    ship,
    shipments,
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
    with pytest.raises(BelowShipped, match="4 asked for, the minimum is 5 already shipped"):
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 4)]))
    with pytest.raises(BelowShipped, match="0 asked for, the minimum is 5 already shipped") as refused:
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 0)]))
    assert "已发货 5，不能更少" in refused.value.text("zh")
    assert order_lines(store, number)[0].ordered_qty == 5
    assert order_row(store, number).total_cents == 5_000


def test_case_21_the_unshipped_part_can_be_removed_and_its_reservation_returns(store: Store) -> None:
    company(store)
    carrier(store)
    stock(store, "LAMP@WH1: 8, RUG@WH1: 5")
    number = order(store, "LAMP 7, RUG 2").number
    (first,) = shipments(store, number)
    going = ShipShipment(first.number, "SF", packages=[PackageIn(tracking_number="SF1")], quantities={"LAMP": 5})
    store.run(ship_shipment, PICKER, going)
    assert (level(store, "LAMP@WH1").reserved_qty, level(store, "RUG@WH1").reserved_qty) == (2, 2)
    with pytest.raises(BelowShipped, match="0 asked for, the minimum is 5 already shipped"):
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 0), LineChange(2, 0)]))
    assert (level(store, "LAMP@WH1").reserved_qty, level(store, "RUG@WH1").reserved_qty) == (2, 2)
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(2, 0)]))
    assert (level(store, "LAMP@WH1").reserved_qty, level(store, "RUG@WH1").reserved_qty) == (2, 0)
    edited = store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 5)]))
    assert (edited.status, edited.total_cents, level(store, "LAMP@WH1").reserved_qty) == ("shipped", 5_000, 0)
    assert (level(store, "LAMP@WH1").on_hand_qty, level(store, "RUG@WH1").on_hand_qty) == (3, 5)


def test_case_43_two_of_five_come_back_for_money(store: Store) -> None:
    number = _five_lamps_delivered(store)
    _came_back(store, number, 2)
    with store.unit_of_work() as uow:
        assert kept_qty(uow, number) == {1: 3}
    row = order_row(store, number)
    assert (row.refunded_cents, row.total_cents, row.paid_cents) == (2_000, 3_000, 5_000)
    assert [refund.amount_cents for refund in rows(store, select(tables.Refund.__table__))] == [2_000]


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
    assert before == 3
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
    assert order_lines(store, decided.exchange_number)[0].unit_price_cents == 0
    assert level(store, "LAMP@WH1").reserved_qty == 1
    back = store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: 1}, "WH1"))
    assert (back.refund_cents, rows(store, select(tables.Refund.id))) == (0, [])
    assert rows(store, select(tables.ReturnLine.refund_cents)) == [(0,)]
    assert order_row(store, number).total_cents == 5_000


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
