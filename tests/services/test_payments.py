"""Money is settled once, in the order's own currency, and a repeat tells what the first delivery told."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from orders_core.errors import IdempotencyMismatch, InvalidCommand
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.payments import (
    PayRefund,
    ReceivePayment,
    SettleReceipt,
    pay_refund,
    receive_payment,
    settle_receipt,
)
from orders_core.store.tables import ChangeLog, Refund
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CASHIER, CLERK


def _order(store: Store) -> str:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    return build.order(store, "LAMP 5").number


def _prepaid(store: Store, cents: int, **fields: str) -> str:
    """A receipt of which nothing is settled yet."""
    return store.run(receive_payment, CASHIER, ReceivePayment("ACME", cents, "pre", settle={}, **fields)).number  # type: ignore[arg-type]


def test_money_in_another_currency_cannot_be_set_against_an_order(store: Store) -> None:
    number = _order(store)
    payment = ReceivePayment("ACME", 5_000, "p", currency="USD", settle={number: 5_000})
    with pytest.raises(InvalidCommand, match="CNY"):
        store.run(receive_payment, CASHIER, payment)
    assert build.order_row(store, number).paid_cents == 0


def test_a_prepayment_in_another_currency_cannot_be_used_for_an_order(store: Store) -> None:
    number = _order(store)
    receipt = _prepaid(store, 5_000, currency="USD")
    with pytest.raises(InvalidCommand, match="CNY"):
        store.run(settle_receipt, CASHIER, SettleReceipt(receipt, number, 5_000))


def test_a_payment_sent_again_answers_what_it_settled_and_what_is_left(store: Store) -> None:
    number = _order(store)
    payment = ReceivePayment("ACME", 6_000, "p", settle={number: 5_000})
    first = store.run(receive_payment, CASHIER, payment)
    again = store.run(receive_payment, CASHIER, payment)
    assert (again.settled, again.left_cents) == (first.settled, first.left_cents) == ({number: 5_000}, 1_000)
    assert again.is_repeat


def test_the_same_payment_key_set_against_other_orders_is_refused(store: Store) -> None:
    number = _order(store)
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 5_000, "p", settle={number: 5_000}))
    with pytest.raises(IdempotencyMismatch):
        store.run(receive_payment, CASHIER, ReceivePayment("ACME", 5_000, "p", settle={number: 4_000}))


def test_a_prepayment_settled_twice_with_one_key_pays_once(store: Store) -> None:
    number = _order(store)
    command = SettleReceipt(_prepaid(store, 5_000), number, 2_000, idem_key="s")
    first = store.run(settle_receipt, CASHIER, command)
    again = store.run(settle_receipt, CASHIER, command)
    assert build.order_row(store, number).paid_cents == 2_000
    assert (first.left_cents, again.left_cents, again.is_repeat) == (3_000, 3_000, True)


def test_each_step_of_a_refund_is_a_version_of_its_own_in_the_change_log(store: Store) -> None:
    number = _order(store)
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 5_000, "p"))
    store.run(cancel_order, CLERK, CancelOrder(number, "no"))
    ((refund,),) = build.rows(store, select(Refund.number))
    for has_failed in (True, True, False, False):
        store.run(pay_refund, CASHIER, PayRefund(refund, has_failed=has_failed))
    steps = select(ChangeLog.version, ChangeLog.operation).where(ChangeLog.entity == "refund").order_by(ChangeLog.id)
    assert [tuple(row) for row in build.rows(store, steps)] == [(1, "insert"), (2, "update"), (3, "update")]
    with pytest.raises(InvalidCommand, match="paid already"):
        store.run(pay_refund, CASHIER, PayRefund(refund, has_failed=True))
