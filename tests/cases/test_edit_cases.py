"""Cases 21-25 of orders.md: changing an order, its money and its stock."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from orders_core.errors import AlreadyExists, VersionConflict
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.drafting import LineIn
from orders_core.services.edit import (
    EditOrder,
    LineChange,
    OpenChange,
    apply_change,
    drop_change,
    edit_order,
    open_change,
    preview_edit,
)
from orders_core.services.master_data import PromotionIn, save_promotion
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.review import HoldOrder, hold_order
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    MANAGER,
    at_once,
    company,
    level,
    order,
    order_lines,
    order_row,
    rows,
    rules,
    sku,
    stock,
)


def _promotion(store: Store, *, from_cents: int, off_cents: int) -> None:
    rule = {"from_cents": from_cents, "off_cents": off_cents}
    starts = store.clock.now() - timedelta(days=1)
    store.run(save_promotion, MANAGER, PromotionIn(f"OFF{off_cents}", "满减", "order_threshold", rule, starts))


def _four_chairs_paid(store: Store) -> str:
    """Case 22's order: 4 × 30 = 120, promotion −50 from 100, shipping 5, paid 75."""
    company(store)
    sku(store, "CHAIR", price_cents=3000)
    stock(store, "CHAIR@WH1: 10")
    rules(store, shipping={"fee_cents": {"CNY": 500}})
    _promotion(store, from_cents=10_000, off_cents=5_000)
    placed = order(store, "CHAIR 4")
    assert placed.total_cents == 7_500
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 7_500, "pay-1"))
    return placed.number


def test_case_22_an_edit_recomputes_promotion_and_refunds_the_difference(store: Store) -> None:
    number = _four_chairs_paid(store)
    before = order_row(store, number)
    edited = store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 2)]))
    after = order_row(store, number)
    assert (edited.total_cents, edited.refund_cents) == (6_500, 1_000)
    assert (after.goods_cents, after.discount_cents, after.charges_cents) == (6_000, 0, 500)
    assert after.status == before.status == "ready"
    assert (after.paid_cents, after.refunded_cents) == (7_500, 1_000)
    assert level(store, "CHAIR@WH1").reserved_qty == 2


def test_case_23_a_dry_run_shows_the_same_and_leaves_everything_untouched(store: Store) -> None:
    number = _four_chairs_paid(store)

    def everything() -> list[object]:
        tables_ = (tables.Order, tables.OrderLine, tables.StockLevel, tables.AuditEntry, tables.Refund, tables.Outbox)
        return [rows(store, select(table.__table__)) for table in (*tables_, tables.ChangeLog, tables.ShipmentLine)]

    before = everything()
    command = EditOrder(number, lines=[LineChange(1, 2)])
    preview = store.run(preview_edit, CLERK, command)
    assert (preview.total_cents, -preview.refund_cents) == (6_500, -1_000)
    assert everything() == before
    edited = store.run(edit_order, CLERK, command)
    assert (edited.total_cents, edited.refund_cents) == (preview.total_cents, preview.refund_cents)


def test_case_24_a_raised_total_is_owed_and_paying_it_settles_the_order(store: Store) -> None:
    company(store)
    sku(store, "CUP", price_cents=10_000)
    sku(store, "LID", price_cents=2_000)
    stock(store, "CUP@WH1: 5, LID@WH1: 5")
    placed = order(store, "CUP 1")
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 10_000, "pay-1"))
    edited = store.run(edit_order, CLERK, EditOrder(placed.number, add=[LineIn("LID", 1)]))
    assert (edited.total_cents, edited.due_cents, edited.status) == (12_000, 2_000, "ready")
    with store.unit_of_work() as uow, uow.dry_run():  # meanwhile a cancel is possible
        assert cancel_order(uow, CLERK, CancelOrder(placed.number, "changed mind")).status == "cancelled"
    paid = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "pay-2", method="cash"))
    row = order_row(store, placed.number)
    assert paid.settled == {placed.number: 2_000}
    assert row.paid_cents - row.refunded_cents == row.total_cents
    assert row.credit_claimed_cents == 0


def test_case_25_the_second_of_two_edits_is_told_and_writes_nothing(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 2").number
    seen = order_row(store, number).version
    commands = [EditOrder(number, expected_version=seen, lines=[LineChange(1, qty)]) for qty in (5, 7)]
    answers = at_once(store, edit_order, CLERK, commands, processes=2)
    refused = [x for x in answers if isinstance(x, VersionConflict)]
    done = [x for x in answers if not isinstance(x, VersionConflict)]
    assert len(refused) == len(done) == 1
    assert refused[0].facts["expected_version"] == seen
    row = order_lines(store, number)[0]
    assert (row.ordered_qty, row.reserved_qty) in ((5, 5), (7, 7))
    assert order_row(store, number).version == done[0].version


def test_case_25_an_order_has_one_open_change_set(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 2").number
    first = store.run(open_change, CLERK, OpenChange(EditOrder(number, lines=[LineChange(1, 3)])))
    with pytest.raises(AlreadyExists, match="ann"):
        store.run(open_change, MANAGER, OpenChange(EditOrder(number, lines=[LineChange(1, 4)])))
    store.run(drop_change, CLERK, first)
    second = store.run(open_change, MANAGER, OpenChange(EditOrder(number, lines=[LineChange(1, 4)])))
    assert store.run(apply_change, MANAGER, second).reserved_qty == 2


def test_case_25_a_change_set_is_refused_when_the_order_changed_meanwhile(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 2").number
    change = store.run(open_change, CLERK, OpenChange(EditOrder(number, lines=[LineChange(1, 3)])))
    store.run(hold_order, MANAGER, HoldOrder(number, "customer asked"))
    with pytest.raises(VersionConflict):
        store.run(apply_change, CLERK, change)
    assert order_lines(store, number)[0].ordered_qty == 2


def test_removing_an_unshipped_line_returns_its_reservation(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20, RUG@WH1: 5")
    number = order(store, "LAMP 2, RUG 1").number
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(2, 0)]))
    assert level(store, "RUG@WH1").reserved_qty == 0
    assert order_row(store, number).total_cents == 2_000


def test_cancelling_twice_is_cancelling_once(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 2").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "pay-1"))
    first = store.run(cancel_order, CLERK, CancelOrder(number, "no longer needed"))
    second = store.run(cancel_order, CLERK, CancelOrder(number, "no longer needed"))
    assert first.status == second.status == "cancelled"
    assert first.version == second.version
    assert level(store, "LAMP@WH1").reserved_qty == 0
    assert len(rows(store, select(tables.Refund.__table__))) == 1
