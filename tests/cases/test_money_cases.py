"""Cases 39-41 of orders.md: rounding, taking an order in once, credit."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from orders_core.domain.money import share
from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch, OrdersError, OverPayment, PermissionDenied
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.credit import settle_claim
from orders_core.services.drafting import LineIn
from orders_core.services.master_data import PromotionIn, save_promotion
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.place_order import PlacedOrder, PlaceOrder, place_order
from orders_core.services.refunds import grant_refund
from orders_core.services.returns import (
    DecideReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    receive_return,
    request_return,
)
from orders_core.store import tables
from orders_core.store.uow import Store, UnitOfWork
from tests.support.build import (
    CASHIER,
    CLERK,
    CUSTOMER,
    MANAGER,
    PICKER,
    at_once,
    channel,
    company,
    customer,
    deliver,
    order,
    order_command,
    order_lines,
    order_row,
    rows,
    rules,
    ship,
    sku,
    stock,
)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (299, [1000, 1000, 1000], [100, 100, 99]),
        (299, [4300, 1400, 2300], [161, 52, 86]),
        (10, [0, 0], [5, 5]),
    ],
)
def test_case_39_a_discount_is_shared_to_the_cent(total: int, weights: list[int], parts: list[int]) -> None:
    assert share(total, weights) == parts


def test_case_39_a_full_discount_with_tax_on_top_leaves_nothing_to_pay(store: Store) -> None:
    company(store)
    rules(store, prices_include_tax=False)
    prices = (560, 892, 4491, 21726, 240000)
    for n, cents in enumerate(prices):
        sku(store, f"L{n}", price_cents=cents, tax_rate_bp=1500)
    stock(store, ", ".join(f"L{n}@WH1: 1" for n in range(5)))
    text = ", ".join(f"L{n} 1" for n in range(5))
    priced = order(store, text)
    assert priced.total_cents == 267_669 + 84 + 134 + 674 + 3_259 + 36_000
    store.run(cancel_order, CLERK, CancelOrder(priced.number, "test"))
    starts = store.clock.now() - timedelta(days=1)
    store.run(save_promotion, MANAGER, PromotionIn("FREE", "全免", "percent", {"ratio_bp": 10_000}, starts))
    free = order_row(store, order(store, text, note="again").number)
    assert (free.goods_cents, free.discount_cents, free.tax_cents, free.total_cents) == (267_669, 267_669, 0, 0)
    assert all(line.net_cents == line.tax_cents == 0 for line in order_lines(store, free.number))


def test_case_39_ten_and_285_thousandths_are_1029_cents_and_paid_in_full(store: Store) -> None:
    """9.35 and 10 % of tax on top make 10.285."""
    company(store)
    rules(store, prices_include_tax=False)
    sku(store, "WIRE", price_cents=935, tax_rate_bp=1000)
    stock(store, "WIRE@WH1: 5")
    placed = order(store, "WIRE 1", payment_method="prepaid")
    assert (placed.total_cents, placed.status) == (1029, "review")
    paid = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 1029, "p"))
    assert (paid.settled, paid.left_cents, paid.approved) == ({placed.number: 1029}, 0, (placed.number,))
    row = order_row(store, placed.number)
    assert row.total_cents - row.paid_cents == 0


@pytest.mark.parametrize(
    ("paid", "back"), [(1_000, [333, 334, 333]), (900, [233, 334, 333]), (0, [0, 0, 0])], ids=["all", "most", "nothing"]
)
def test_case_39_successive_partial_returns_never_refund_more_than_paid_and_the_last_takes_the_remainder(
    store: Store, paid: int, back: list[int]
) -> None:
    """Three for 10.02 with 2 cents off: a unit is worth 3.33 and a third of a cent."""
    company(store)
    sku(store, "WIRE", price_cents=334)
    stock(store, "WIRE@WH1: 9")
    starts = store.clock.now() - timedelta(days=1)
    rule = {"from_cents": 1, "off_cents": 2}
    store.run(save_promotion, MANAGER, PromotionIn("OFF2", "减", "order_threshold", rule, starts))
    number = order(store, "WIRE 3").number
    assert order_row(store, number).total_cents == 1_000
    if paid:
        store.run(receive_payment, CASHIER, ReceivePayment("ACME", paid, "pay"))
    ship(store, number)
    deliver(store, number)
    given = []
    for _ in back:
        before = order_row(store, number).refunded_cents
        asked = store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "not nice"))
        store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
        store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: 1}, "WH1"))
        given.append(order_row(store, number).refunded_cents - before)
    row = order_row(store, number)
    assert (given, row.refunded_cents, row.total_cents) == (back, paid, 0)
    assert sum(refund.amount_cents for refund in rows(store, select(tables.Refund.amount_cents))) == paid


def test_case_39_one_refund_key_refunds_once_and_never_above_payment(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 5")
    placed = order(store, "LAMP 3")
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "p", settle={placed.number: 2_000}))

    def grant(uow: UnitOfWork, actor: object, key: str, cents: int) -> bool:
        granted = grant_refund(
            uow, MANAGER, order_id=placed.order_id, amount_cents=cents, reason="goodwill", idem_key=key
        )
        settle_claim(uow, placed.order_id, may_exceed=True)  # what was given back is owed again
        return granted.is_repeat

    assert store.run(grant, MANAGER, "r1", 1_500) is False
    assert store.run(grant, MANAGER, "r1", 1_500) is True
    with pytest.raises(IdempotencyMismatch):
        store.run(grant, MANAGER, "r1", 1_400)
    with pytest.raises(OverPayment, match="at most 500"):
        store.run(grant, MANAGER, "r2", 501)
    assert len(rows(store, select(tables.Refund.__table__))) == 1


def test_case_40_the_same_external_order_posted_many_times_at_once_is_one_order(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 50")
    command = order_command("LAMP 2", channel="web", external_id="TB-1")
    answers = at_once(store, place_order, CLERK, [command] * 8, processes=4)
    assert all(isinstance(answer, PlacedOrder) for answer in answers)
    assert len({answer.number for answer in answers}) == 1
    later = store.run(place_order, CLERK, command)
    assert (later.number, later.is_repeat) == (answers[0].number, True)
    assert sum(not answer.is_repeat for answer in answers) == 1
    assert len(rows(store, select(tables.Order.id))) == 1


def test_case_40_the_same_key_with_another_body_is_refused(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 50")
    number = order(store, "LAMP 2", channel="web", external_id="TB-1").number
    with pytest.raises(IdempotencyMismatch, match=number):
        order(store, "LAMP 3", channel="web", external_id="TB-1")
    assert len(rows(store, select(tables.Order.id))) == 1


def test_case_40_the_same_id_on_another_channel_is_a_second_order_flagged_as_look_alike(store: Store) -> None:
    company(store)
    channel(store, "mail")
    stock(store, "LAMP@WH1: 50")
    first = order(store, "LAMP 2", channel="web", external_id="X-1")
    second = order(store, "LAMP 2", channel="mail", external_id="X-1")
    assert second.number != first.number
    assert second.status == "review"
    assert [reason["code"] for reason in second.review_reasons] == ["possible_duplicate"]
    assert order_row(store, second.number).possible_duplicate_of_id == first.order_id


@pytest.mark.parametrize("differs_in", ["customer", "lines", "day"])
def test_case_40_another_customer_other_lines_or_another_day_is_no_look_alike(store: Store, differs_in: str) -> None:
    company(store)
    channel(store, "mail")
    customer(store, "BETA")
    stock(store, "LAMP@WH1: 50")
    order(store, "LAMP 2", channel="web", external_id="X-1")
    if differs_in == "day":
        store.clock.advance(days=1)  # type: ignore[attr-defined]
    text = "LAMP 3" if differs_in == "lines" else "LAMP 2"
    who = "BETA" if differs_in == "customer" else CUSTOMER
    second = order(store, text, customer=who, channel="mail", external_id="X-1")
    assert (second.status, second.review_reasons) == ("ready", [])
    assert order_row(store, second.number).possible_duplicate_of_id is None


def test_case_41_an_order_above_the_limit_waits_and_a_payment_lets_it_through(store: Store) -> None:
    company(store)
    customer(store, "LIN", credit_limit_cents=100_000)
    sku(store, "DESK", price_cents=80_000)
    sku(store, "SHELF", price_cents=30_000)
    stock(store, "DESK@WH1: 5, SHELF@WH1: 5")
    assert order(store, "DESK 1", customer="LIN").status == "ready"
    second = order(store, "SHELF 1", customer="LIN")
    assert second.status == "review"
    reason = second.review_reasons[0]
    assert (reason["code"], reason["used_cents"], reason["asked_cents"], reason["over_cents"]) == (
        "credit_exceeded",
        80_000,
        30_000,
        10_000,
    )
    received = store.run(receive_payment, CASHIER, ReceivePayment("LIN", 20_000, "pay"))
    assert received.approved == (second.number,)
    assert order_row(store, second.number).status == "ready"
    used = rows(store, select(tables.Customer.credit_used_cents).where(tables.Customer.code == "LIN"))[0][0]
    assert used == 90_000
    of_second = select(tables.AuditEntry.action, tables.AuditEntry.facts).where(
        tables.AuditEntry.entity == "orders", tables.AuditEntry.entity_id == second.order_id
    )
    trail = rows(store, of_second.order_by(tables.AuditEntry.id))
    assert [entry.action for entry in trail] == ["order.place", "order.approve"]
    assert trail[0].facts["status"] == "review"
    assert trail[1].facts == {"by": "rules"}
    assert len(rows(store, select(tables.AuditEntry.id).where(tables.AuditEntry.action == "order.pay"))) == 1


def test_two_orders_at_once_cannot_both_take_the_last_credit(store: Store) -> None:
    company(store)
    customer(store, "LIN", credit_limit_cents=1_000)
    stock(store, "LAMP@WH1: 50, RUG@WH1: 50")
    commands = [order_command(line, customer="LIN") for line in ("LAMP 1", "RUG 1")]
    answers = at_once(store, place_order, CLERK, commands, processes=2)
    assert sorted(answer.status for answer in answers) == ["ready", "review"]


def test_one_receipt_settles_five_orders_and_keeps_the_rest(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 50")
    numbers = [order(store, f"LAMP {qty}").number for qty in (1, 2, 3, 4, 5)]
    received = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 16_000, "one"))
    assert received.settled == {number: qty * 1_000 for number, qty in zip(numbers, (1, 2, 3, 4, 5), strict=True)}
    assert received.left_cents == 1_000
    again = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 16_000, "one"))
    assert again.is_repeat


def test_an_overdue_customer_waits_for_review(store: Store) -> None:
    company(store)
    customer(store, "LATE", terms_days=30)
    stock(store, "LAMP@WH1: 50")
    order(store, "LAMP 1", customer="LATE")
    store.clock.advance(days=31)  # type: ignore[attr-defined]
    late = order(store, "LAMP 1", customer="LATE")
    assert late.review_reasons[0]["code"] == "overdue"


def test_receipts_that_arrive_at_once_are_all_booked(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 50")
    number = order(store, "LAMP 20").number
    commands = [ReceivePayment(CUSTOMER, 3_000, f"r{n}") for n in range(16)]
    answers = at_once(store, receive_payment, CASHIER, commands, processes=4)
    assert [answer for answer in answers if isinstance(answer, OrdersError)] == []
    assert order_row(store, number).paid_cents == 20_000
    assert sum(answer.left_cents for answer in answers) == 28_000


@pytest.mark.parametrize("kind", ["exchange", "resend"])
def test_a_customer_cannot_order_for_nothing(store: Store, kind: str) -> None:
    company(store)
    stock(store, "LAMP@WH1: 5")
    buyer = Actor("buyer", frozenset({"customer"}), customer_id=customer(store, CUSTOMER))
    with pytest.raises(PermissionDenied):
        order(store, "LAMP 5", actor=buyer, kind=kind)


def test_a_customer_cannot_set_prices(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 50")
    from orders_core.domain.permissions import Actor
    from orders_core.errors import InvalidCommand

    who = rows(store, select(tables.Customer.id).where(tables.Customer.code == "ACME"))[0][0]
    buyer = Actor("buyer", frozenset({"customer"}), customer_id=who)
    with pytest.raises(InvalidCommand, match="prices are set by us"):
        store.run(
            place_order,
            buyer,
            PlaceOrder(channel="web", customer="ACME", lines=[LineIn("LAMP", 1, unit_price_cents=1)]),
        )


def test_a_price_below_the_floor_waits_for_a_second_person(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 50")
    with store.unit_of_work() as uow:
        lamp = uow.rows(select(tables.Sku.id).where(tables.Sku.sku == "LAMP"))[0][0]
        uow.conn.execute(
            insert(tables.Price),
            {
                "id": uow.new_id(),
                "sku_id": lamp,
                "kind": "floor",
                "currency": "CNY",
                "unit_price_cents": 900,
                "valid_from_date": uow.today,
                "created_at": uow.now,
            },
        )
    command = PlaceOrder(channel="phone", customer="ACME", lines=[LineIn("LAMP", 1, unit_price_cents=800)])
    placed = store.run(place_order, CLERK, command)
    assert placed.status == "review"
    assert {reason["code"] for reason in placed.review_reasons} <= {"below_floor", "price_changed"}
