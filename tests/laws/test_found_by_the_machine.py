"""What the state machine found in the services, each as the few steps that showed it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.errors import NotAllowed, OverPayment, QuantityExceeded
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.carts import SetCartLine, set_cart_line
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.payments import PayRefund, ReceivePayment, pay_refund, receive_payment
from orders_core.services.receiving import ReceivedLine, ReceiveGoods, receive_goods
from orders_core.services.returns import DecideReturn, RequestReturn, decide_return, request_return
from orders_core.services.review import HoldOrder, RejectOrder, hold_order, reject_order
from orders_core.services.shipping import ShipShipment, TakeBack, ship_shipment, take_back
from orders_core.services.split import SplitByHand, split_by_hand
from orders_core.services.stock import IssueStock, StockIn, issue_stock
from orders_core.services.transfers import PlanTransfer, ShipTransfer, TransferQty, plan_transfer, ship_transfer
from orders_core.services.warehouse import PickAll, ShortPick, pick_all, short_pick
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    PICKER,
    company,
    level,
    order,
    order_lines,
    order_row,
    release_all,
    rows,
    rules,
    shipments,
    stock,
)


def credit_used(store: Store) -> int:
    return int(rows(store, select(tables.Customer.credit_used_cents).where(tables.Customer.code == "ACME"))[0][0])


def one_of_two_lines_shipped(store: Store) -> str:
    """An order of 2 LAMP and 3 RUG, paid, of which the lamps have left."""
    company(store)
    stock(store, "LAMP@WH1: 8, RUG@WH2: 8")
    number = order(store, "LAMP 2, RUG 3", delivery_method="own_truck").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 5_000, "p", settle={number: 5_000}))
    store.run(ship_shipment, PICKER, ShipShipment(shipments(store, number)[0].number))
    return number


@pytest.mark.parametrize("end", [cancel_order, reject_order])
def test_an_order_that_has_ended_takes_no_more_money(store: Store, end: object) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 2", payment_method="prepaid").number
    command = CancelOrder(number, "no") if end is cancel_order else RejectOrder(number, "no")
    store.run(end, CLERK, command)  # type: ignore[arg-type]
    with pytest.raises(OverPayment, match="at most 0"):
        store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "p", settle={number: 2_000}))


def test_a_rejected_order_gives_back_what_was_paid_for_it(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 2", payment_method="prepaid").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 700, "p", settle={number: 700}))
    store.run(reject_order, CLERK, RejectOrder(number, "no"))
    granted = rows(store, select(tables.Refund.amount_cents))
    assert [row.amount_cents for row in granted] == [700]
    assert order_row(store, number).refunded_cents == 700


def test_a_rejected_order_gives_back_its_credit(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 2").number
    assert credit_used(store) == 2_000
    store.run(hold_order, CLERK, HoldOrder(number, "wait"))
    store.run(reject_order, CLERK, RejectOrder(number, "no"))
    assert credit_used(store) == 0


def test_an_order_held_after_a_part_has_left_cannot_be_rejected(store: Store) -> None:
    number = one_of_two_lines_shipped(store)
    store.run(hold_order, CLERK, HoldOrder(number, "wait"))
    with pytest.raises(NotAllowed, match="the goods have left"):
        store.run(reject_order, CLERK, RejectOrder(number, "no"))


def test_cancelling_an_order_held_after_a_part_has_left_keeps_that_part(store: Store) -> None:
    number = one_of_two_lines_shipped(store)
    store.run(hold_order, CLERK, HoldOrder(number, "wait"))
    done = store.run(cancel_order, CLERK, CancelOrder(number, "no"))
    assert done.status == "shipped"
    assert [(line.sku, line.ordered_qty) for line in order_lines(store, number)] == [("LAMP", 2), ("RUG", 0)]
    row = order_row(store, number)
    assert (row.total_cents, row.refunded_cents, row.hold_reason) == (2_000, 3_000, None)
    assert level(store, "RUG@WH2").reserved_qty == 0


def test_a_refund_the_bank_failed_to_make_is_still_owed_and_paid_at_the_next_try(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 2").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "p", settle={number: 2_000}))
    store.run(cancel_order, CLERK, CancelOrder(number, "no"))
    refund = rows(store, select(tables.Refund.number))[0].number
    assert store.run(pay_refund, CASHIER, PayRefund(refund, has_failed=True)) == "failed"
    assert order_row(store, number).refunded_cents == 2_000  # and the fixture verifies
    assert store.run(pay_refund, CASHIER, PayRefund(refund)) == "paid"


def a_cart_whose_time_is_over(store: Store) -> None:
    """4 of 8 lamps are kept for a cart that has let its time go by."""
    company(store)
    rules(store, shortage={"policy": "backorder"}, cart={"hold_minutes": 10})
    stock(store, "LAMP@WH1: 8")
    store.run(set_cart_line, CLERK, SetCartLine("cart", "LAMP", 4, customer="ACME"))


def test_an_order_takes_the_units_of_a_cart_whose_time_is_over_before_it_waits(store: Store) -> None:
    a_cart_whose_time_is_over(store)
    store.clock.advance(minutes=11)  # type: ignore[attr-defined]
    assert order(store, "LAMP 8").backordered_qty == 0


def test_arriving_goods_and_those_of_a_cart_whose_time_is_over_go_to_who_waits(store: Store) -> None:
    a_cart_whose_time_is_over(store)
    number = order(store, "LAMP 10").number
    assert order_lines(store, number)[0].backordered_qty == 6
    store.clock.advance(minutes=11)  # type: ignore[attr-defined]
    store.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 2)]))
    assert order_lines(store, number)[0].reserved_qty == 10


def test_what_a_picker_did_not_find_is_taken_from_a_cart_whose_time_is_over(store: Store) -> None:
    a_cart_whose_time_is_over(store)
    number = order(store, "LAMP 4").number
    [pick_list] = release_all(store, "WH1")
    store.clock.advance(minutes=11)  # type: ignore[attr-defined]
    store.run(short_pick, PICKER, ShortPick(pick_list, 1, 1))
    line = order_lines(store, number)[0]
    assert (line.reserved_qty, line.backordered_qty) == (4, 0)


def test_what_is_left_when_all_that_was_picked_is_withdrawn_can_be_picked_again(store: Store) -> None:
    """The lamps' pick line went with an edit, then the rugs that had been picked did: the lamps were stuck."""
    company(store)
    stock(store, "LAMP@WH1: 8, MUG@WH1: 8, RUG@WH2: 1")
    number = order(store, "LAMP 4, MUG 2, RUG 1", delivery_method="own_truck").number
    first, second = shipments(store, number)
    store.run(ship_shipment, PICKER, ShipShipment(second.number))  # partly shipped: it may be edited while picked
    [pick_list] = release_all(store, "WH1")
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3)]))
    store.run(pick_all, PICKER, PickAll(pick_list))
    assert shipments(store, number)[0].status == "picked"
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(2, 0)]))
    assert shipments(store, number)[0].status == "planned"
    shipped = store.run(ship_shipment, PICKER, ShipShipment(first.number))
    assert shipped.shipped == {"LAMP": 3}


def test_goods_of_which_a_return_is_under_way_are_not_taken_back_as_never_shipped(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    number = order(store, "LAMP 2", delivery_method="own_truck").number
    [shipment] = shipments(store, number)
    store.run(ship_shipment, PICKER, ShipShipment(shipment.number))
    store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "not nice"))
    with pytest.raises(NotAllowed, match="a return of 1 units of it is under way"):
        store.run(take_back, PICKER, TakeBack(shipment.number, "flat tyre"))


def test_an_edit_gives_up_every_waiting_unit_before_one_that_is_reserved(store: Store) -> None:
    """Also where they are on different shipments: 1 reserved and 2 waiting on one, 1 waiting on another."""
    company(store)
    rules(store, shortage={"policy": "backorder"})
    stock(store, "LAMP@WH1: 0")
    number = order(store, "LAMP 4").number
    store.run(split_by_hand, CLERK, SplitByHand(number, shipments(store, number)[0].number, {1: 1}))
    store.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 1)]))
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 1)]))
    line = order_lines(store, number)[0]
    assert (line.reserved_qty, line.backordered_qty) == (1, 0)


def test_a_refused_refund_only_request_ends_its_own_hold_and_no_other(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 8")
    stopped_by_it, held_before = order(store, "LAMP 1").number, order(store, "LAMP 2").number
    store.run(hold_order, CLERK, HoldOrder(held_before, "fraud?"))
    for number, status in ((stopped_by_it, "ready"), (held_before, "held")):
        asked = store.run(request_return, CLERK, RequestReturn(number, {}, "too slow", kind="refund_only"))
        assert order_row(store, number).status == "held"
        store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=False))
        assert order_row(store, number).status == status


@pytest.mark.parametrize("is_issue", [True, False], ids=["issued", "transferred"])
def test_what_a_cart_has_kept_too_long_can_leave_the_shelf(store: Store, is_issue: bool) -> None:
    a_cart_whose_time_is_over(store)
    stock(store, "LAMP@WH2: 0")
    issue = IssueStock("WH1", [StockIn("LAMP", 8)], note="fair")
    transfer = PlanTransfer("WH1", "WH2", [TransferQty("LAMP", 8)])
    service, command = (issue_stock, issue) if is_issue else (plan_transfer, transfer)
    with pytest.raises(QuantityExceeded, match="at most 4"):
        store.run(service, PICKER, command)
    store.clock.advance(minutes=11)  # type: ignore[attr-defined]
    done = store.run(service, PICKER, command)
    if not is_issue:
        store.run(ship_transfer, PICKER, ShipTransfer(done.number))
    row = level(store, "LAMP@WH1")
    assert (row.on_hand_qty, row.reserved_qty) == (0, 0)
