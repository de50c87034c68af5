"""Cases 21-25 of orders.md: changing an order, its money and its stock."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from orders_core.errors import AlreadyExists, NotAllowed, VersionConflict
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
from orders_core.services.payments import ReceivePayment, SettleReceipt, receive_payment, settle_receipt
from orders_core.services.review import HoldOrder, ResumeOrder, hold_order, resume_order
from orders_core.services.shipping import ShipShipment, ship_shipment
from orders_core.store import tables
from orders_core.store.base import Base
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    MANAGER,
    PICKER,
    at_once,
    company,
    level,
    order,
    order_lines,
    order_row,
    rows,
    rules,
    shipments,
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
    assert [refund.amount_cents for refund in rows(store, select(tables.Refund.__table__))] == [1_000]
    assert level(store, "CHAIR@WH1").reserved_qty == 2


def test_case_23_a_dry_run_shows_the_same_and_leaves_everything_untouched(store: Store) -> None:
    number = _four_chairs_paid(store)

    def everything() -> dict[str, object]:
        """Every row of every table; only numbers may be used up."""
        kept = (table for table in Base.metadata.sorted_tables if table.name != "number_series")
        return {table.name: sorted(rows(store, select(table)), key=repr) for table in kept}

    before = everything()
    command = EditOrder(number, lines=[LineChange(1, 2)])
    preview = store.run(preview_edit, CLERK, command)
    assert (preview.total_cents, -preview.refund_cents) == (6_500, -1_000)
    assert everything() == before
    assert before["orders"] and before["stock_level"] and before["audit_entry"] and before["change_log"]
    edited = store.run(edit_order, CLERK, command)
    assert (edited.total_cents, edited.refund_cents) == (preview.total_cents, preview.refund_cents)


def _raised_from_100_to_120(store: Store, *, payment_method: str = "credit") -> str:
    """Case 24's order: 100 paid, then a line of 20 is added."""
    company(store)
    sku(store, "CUP", price_cents=10_000)
    sku(store, "LID", price_cents=2_000)
    stock(store, "CUP@WH1: 5, LID@WH1: 5")
    number = order(store, "CUP 1", payment_method=payment_method, delivery_method="own_truck").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 10_000, "pay-1"))
    assert _balance(store, number) == 0
    edited = store.run(edit_order, CLERK, EditOrder(number, add=[LineIn("LID", 1)]))
    assert (edited.total_before_cents, edited.total_cents, edited.due_cents) == (10_000, 12_000, 2_000)
    assert _balance(store, number) == 2_000
    return number


def _balance(store: Store, number: str) -> int:
    row = order_row(store, number)
    return int(row.total_cents - (row.paid_cents - row.refunded_cents))


@pytest.mark.parametrize("entry", ["what is oldest", "this order", "an earlier receipt"])
def test_case_24_a_raised_total_is_owed_and_paying_it_by_any_entry_point_settles_the_order(
    store: Store, entry: str
) -> None:
    number = _raised_from_100_to_120(store)
    assert order_row(store, number).credit_claimed_cents == 2_000
    if entry == "what is oldest":
        paid = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "pay-2", method="cash"))
    elif entry == "this order":
        paid = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "pay-2", settle={number: 2_000}))
    else:
        early = store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "pay-2", settle={}))
        assert early.left_cents == 2_000
        paid = store.run(settle_receipt, CASHIER, SettleReceipt(early.number, number, 2_000))
    assert paid.settled == {number: 2_000}
    assert _balance(store, number) == 0
    row = order_row(store, number)
    assert (row.status, row.credit_claimed_cents) == ("ready", 0)


def test_case_24_meanwhile_it_can_be_cancelled(store: Store) -> None:
    number = _raised_from_100_to_120(store)
    assert store.run(cancel_order, CLERK, CancelOrder(number, "changed mind")).status == "cancelled"
    assert order_row(store, number).refunded_cents == 10_000


@pytest.mark.parametrize("ship_unpaid", [True, False])
def test_case_24_meanwhile_its_goods_leave_where_the_rules_let_them(store: Store, ship_unpaid: bool) -> None:
    rules(store, delivery={"ship_unpaid": ship_unpaid})
    number = _raised_from_100_to_120(store, payment_method="prepaid")
    old_lines = ShipShipment(shipments(store, number)[0].number, quantities={"CUP": 1})
    if not ship_unpaid:
        with pytest.raises(NotAllowed, match=r"2000 \(cents\) are still to be paid"):
            store.run(ship_shipment, PICKER, old_lines)
        assert level(store, "CUP@WH1").on_hand_qty == 5
        store.run(receive_payment, CASHIER, ReceivePayment("ACME", 2_000, "pay-2"))
    assert store.run(ship_shipment, PICKER, old_lines).shipped == {"CUP": 1}
    assert _balance(store, number) == (2_000 if ship_unpaid else 0)


def test_case_25_the_second_of_two_edits_is_told_and_writes_nothing(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 2").number
    for _ in range(3):
        store.run(hold_order, CLERK, HoldOrder(number, "ask again"))
        store.run(resume_order, CLERK, ResumeOrder(number))
    assert order_row(store, number).version == 7
    commands = [EditOrder(number, expected_version=7, lines=[LineChange(1, qty)]) for qty in (5, 7)]
    answers = at_once(store, edit_order, CLERK, commands, processes=2)
    (refused,) = [x for x in answers if isinstance(x, VersionConflict)]
    (done,) = [x for x in answers if not isinstance(x, VersionConflict)]
    assert (refused.facts["expected_version"], refused.facts["current_version"], done.version) == (7, 8, 8)
    (row,), wanted = order_lines(store, number), commands[answers.index(done)].lines[0].pack_qty
    assert (row.ordered_qty, row.reserved_qty, level(store, "LAMP@WH1").reserved_qty) == (wanted, wanted, wanted)
    assert (order_row(store, number).version, order_row(store, number).total_cents) == (8, wanted * 1_000)
    edits = select(tables.AuditEntry.id).where(tables.AuditEntry.action == "order.edit")
    assert len(rows(store, edits)) == 1


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
