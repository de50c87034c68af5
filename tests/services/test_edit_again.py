"""Editing and cancelling what has kits, broken boxes, returns, promotions and prices given by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import BelowShipped, NotAllowed
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.drafting import LineIn
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.master_data import PromotionIn, save_promotion
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.place_order import AddressIn
from orders_core.services.returns import (
    DecideReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
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
    SALES,
    company,
    deliver,
    order,
    order_lines,
    order_row,
    rows,
    rules,
    ship_some,
    shipments,
    sku,
    stock,
)


def _pay(store: Store, cents: int) -> None:
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", cents, f"pay-{cents}"))


def _kit(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20, BULB@WH1: 20, RUG@WH1: 20")
    sku(store, "SET", price_cents=5_000, components="LAMP 1, BULB 2")


def test_a_price_given_by_hand_in_an_edit_waits_for_review(store: Store) -> None:
    company(store)
    stock(store, "RUG@WH1: 5, LAMP@WH1: 9")
    number = order(store, "RUG 1").number
    edited = store.run(edit_order, SALES, EditOrder(number, add=[LineIn("LAMP", 5, unit_price_cents=1)]))
    assert edited.status == "review"
    assert [reason["code"] for reason in order_row(store, number).review_reasons] == ["price_changed"]
    assert order_row(store, number).credit_claimed_cents == 0


def test_an_edit_above_the_automatic_limit_waits_unless_a_reviewer_makes_it(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 900")
    rules(store, auto_approve={"max_total_cents": {"CNY": 10_000}})
    number = order(store, "LAMP 1").number
    assert store.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 90)])).status == "review"
    other = order(store, "LAMP 2").number
    assert store.run(edit_order, CLERK, EditOrder(other, lines=[LineChange(1, 90)])).status == "ready"


def test_a_kit_taken_out_and_put_back_ships_whole(store: Store) -> None:
    _kit(store)
    number = order(store, "SET 1, RUG 1").number
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 0)]))
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 2)]))
    parts = {line.sku: line.ordered_qty for line in order_lines(store, number) if line.kind == "component"}
    assert parts == {"LAMP": 2, "BULB": 4}


def test_a_kit_part_of_which_has_left_cannot_be_taken_out(store: Store) -> None:
    _kit(store)
    number = order(store, "SET 2").number
    ship_some(store, number, {"LAMP": 1, "BULB": 0})
    with pytest.raises(BelowShipped) as refused:
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 0)]))
    assert refused.value.facts["shipped_qty"] == 1
    _pay(store, 10_000)
    state = store.run(cancel_order, CLERK, CancelOrder(number, "enough"))
    row = order_row(store, number)
    assert (state.status, row.total_cents, row.refunded_cents) == ("partly_shipped", 5_000, 5_000)


def test_the_rest_of_a_broken_box_is_cancelled_as_pieces_with_its_money(store: Store) -> None:
    company(store)
    sku(store, "CUP", price_cents=100, box_of=12, box_price_cents=1_200)
    stock(store, "CUP@WH1: 60")
    number = order(store, "CUP 2 box").number
    _pay(store, 2_400)
    ship_some(store, number, {"CUP": 18})
    state = store.run(cancel_order, CLERK, CancelOrder(number, "enough"))
    row = order_row(store, number)
    assert (state.status, row.total_cents, row.refunded_cents) == ("shipped", 1_800, 600)
    line = order_lines(store, number)[0]
    assert (line.cancelled_qty, line.reserved_qty, line.shipped_qty) == (6, 0, 18)


def test_what_came_back_follows_the_price_of_its_line(store: Store) -> None:
    company(store)
    sku(store, "CHAIR", price_cents=3_000)
    stock(store, "CHAIR@WH1: 9")
    rule = {"from_cents": 10_000, "off_cents": 5_000}
    starts = store.clock.now() - timedelta(days=1)
    store.run(save_promotion, MANAGER, PromotionIn("OFF", "满减", "order_threshold", rule, starts))
    number = order(store, "CHAIR 4").number
    _pay(store, 7_000)
    ship_some(store, number, {"CHAIR": 2})
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "no good"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: 2}, "WH1"))
    assert order_row(store, number).refunded_cents == 3_500
    store.run(cancel_order, CLERK, CancelOrder(number, "and no more"))
    row = order_row(store, number)
    assert (row.total_cents, row.paid_cents - row.refunded_cents) == (0, 0)


def test_a_promotion_switched_off_later_stays_with_the_order_it_was_given_to(store: Store) -> None:
    company(store)
    sku(store, "CHAIR", price_cents=3_000)
    stock(store, "CHAIR@WH1: 9")
    starts = store.clock.now() - timedelta(days=1)
    offer = PromotionIn("TEN", "九折", "percent", {"ratio_bp": 1_000}, starts)
    store.run(save_promotion, MANAGER, offer)
    number = order(store, "CHAIR 2").number
    store.run(
        save_promotion, MANAGER, PromotionIn("TEN", "九折", "percent", {"ratio_bp": 1_000}, starts, is_active=False)
    )
    edited = store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3)]))
    assert edited.total_cents == 8_100


def test_a_cancelled_order_gives_its_coupon_back(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 9")
    starts = store.clock.now() - timedelta(days=1)
    rule = {"from_cents": 0, "off_cents": 300}
    saved = store.run(
        save_promotion, MANAGER, PromotionIn("C", "券", "order_threshold", rule, starts, needs_coupon=True)
    )
    with store.unit_of_work() as uow:
        uow.conn.execute(insert(tables.Coupon), {"id": uow.new_id(), "code": "C1", "promotion_id": saved.id})
    number = order(store, "LAMP 2", coupon_code="C1").number
    with store.unit_of_work() as uow:
        uow.conn.execute(update(tables.Coupon).values(expires_at=uow.now))
    assert store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3)])).total_cents == 2_700
    store.run(cancel_order, CLERK, CancelOrder(number, "no"))
    assert rows(store, select(tables.Coupon.used_count))[0][0] == 0


def test_a_later_wish_date_reaches_the_warehouse(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 9")
    number = order(store, "LAMP 2").number
    later = order_row(store, number).business_date + timedelta(days=30)
    store.run(edit_order, CLERK, EditOrder(number, requested_date=later))
    assert [shipment.planned_date for shipment in shipments(store, number)] == [later]


def test_the_address_of_an_order_that_has_left_is_not_changed_by_anybody(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 9")
    number = order(store, "LAMP 1").number
    customer_id = order_row(store, number).customer_id
    buyer = Actor("buyer", frozenset({"customer"}), customer_id=customer_id)
    moved = EditOrder(number, address=AddressIn(street="新街 2 号"))
    store.run(edit_order, buyer, moved)
    assert order_row(store, number).street == "新街 2 号"
    ship_some(store, number, {"LAMP": 1})
    for actor, stage, reason in ((buyer, "shipped", "gone"), (CLERK, "delivered", "delivered")):
        with pytest.raises(
            NotAllowed, match=f"readdress is not possible for order {number} in stage {stage}"
        ) as refused:
            store.run(edit_order, actor, EditOrder(number, address=AddressIn(street="别处 3 号")))
        assert refused.value.facts["reason_code"] == reason
        deliver(store, number)
    assert order_row(store, number).street == "新街 2 号"
    store.run(edit_order, buyer, moved)  # nothing new is asked for
    assert store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 2)])).status == "partly_shipped"
