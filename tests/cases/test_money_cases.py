"""Cases 39-41 of orders.md: rounding, taking an order in once, credit."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select

from orders_core.domain.money import share
from orders_core.domain.permissions import Actor
from orders_core.domain.pricing import Offer, PricedLine, price_order
from orders_core.errors import IdempotencyMismatch, OrdersError, OverPayment, PermissionDenied
from orders_core.services.drafting import LineIn
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.place_order import PlacedOrder, PlaceOrder, place_order
from orders_core.services.refunds import grant_refund
from orders_core.store import tables
from orders_core.store.uow import Store, UnitOfWork
from tests.support.build import (
    CASHIER,
    CLERK,
    CUSTOMER,
    MANAGER,
    at_once,
    channel,
    company,
    customer,
    order,
    order_command,
    order_row,
    rows,
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


def test_case_39_a_full_discount_with_tax_on_top_leaves_nothing_to_pay() -> None:
    lines = [PricedLine(f"L{i}", 1, cents, 1500) for i, cents in enumerate((560, 892, 4491, 21726, 240000))]
    free = Offer(1, "percent", {"ratio_bp": 10_000}, "all free")
    totals = price_order(lines, offers=[free], prices_include_tax=False)
    assert (totals.total_cents, totals.tax_cents) == (0, 0)
    assert all(line.net_cents == 0 for line in totals.lines)


def test_case_39_a_price_of_a_fraction_of_a_cent_is_rounded_once_and_paid_in_full(store: Store) -> None:
    company(store)
    sku(store, "WIRE", price_cents=1029)  # 10.285 as entered is 10.29, rounded where it enters
    stock(store, "WIRE@WH1: 5")
    number = order(store, "WIRE 1").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 1029, "p"))
    row = order_row(store, number)
    assert row.total_cents - row.paid_cents == 0


def test_case_39_one_refund_key_refunds_once_and_never_above_payment(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 5")
    placed = order(store, "LAMP 3")
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "p", settle={placed.number: 2_000}))

    def grant(uow: UnitOfWork, actor: object, key: str, cents: int) -> bool:
        granted = grant_refund(
            uow, MANAGER, order_id=placed.order_id, amount_cents=cents, reason="goodwill", idem_key=key
        )
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
    approvals = rows(
        store,
        select(tables.AuditEntry.action).where(
            tables.AuditEntry.entity_id == second.order_id, tables.AuditEntry.action == "order.approve"
        ),
    )
    assert len(approvals) == 1
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
