"""Money goes back once, in the sum that is said, and a coupon with it; what stands against it is said first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from orders_core.errors import AlreadyExists, InvalidCommand, OverPayment
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.master_data import PromotionIn, save_promotion
from orders_core.services.payments import ReceivePayment, RefundOrder, receive_payment, refund_order
from orders_core.services.returns import (
    DecideReturn,
    Disposition,
    InspectReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    inspect_return,
    receive_return,
    request_return,
)
from orders_core.services.review import HoldOrder, RejectOrder, ResumeOrder, hold_order, reject_order, resume_order
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.store.tables import Coupon, CouponUse, Refund
from orders_core.store.uow import Store
from orders_core.store.verify import verify
from tests.support import build
from tests.support.build import CASHIER, CLERK, MANAGER, PICKER


def _prepaid(store: Store, lines: str = "LAMP 4", *, cents: int = 4_000) -> str:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10")
    number = build.order(store, lines, payment_method="prepaid").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", cents, f"pay {number}"))
    return number


def _send(store: Store, number: str, **quantities: int) -> None:
    """Send a part of what is planned."""
    build.carrier(store)
    parcel = next(x for x in build.shipments(store, number) if x.status == "planned")
    boxes = [PackageIn(tracking_number=f"SF{parcel.id}")]
    store.run(ship_shipment, PICKER, ShipShipment(parcel.number, carrier="SF", packages=boxes, quantities=quantities))


def _money_only(number: str) -> RequestReturn:
    return RequestReturn(number, {}, "changed mind", kind="refund_only")


def test_money_only_is_refused_once_a_part_has_left_also_on_hold(store: Store) -> None:
    number = _prepaid(store)
    _send(store, number, LAMP=3)
    store.run(hold_order, CLERK, HoldOrder(number, "wait"))
    with pytest.raises(InvalidCommand, match="has left"):
        store.run(request_return, CLERK, _money_only(number))


def test_money_only_is_not_approved_once_a_part_has_left(store: Store) -> None:
    number = _prepaid(store)
    asked = store.run(request_return, CLERK, _money_only(number))
    store.run(resume_order, CLERK, ResumeOrder(number))
    _send(store, number, LAMP=3)
    with pytest.raises(InvalidCommand, match="has left"):
        store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=False)).status == "refused"


def test_money_only_says_what_it_gave_back_and_no_more(store: Store) -> None:
    number = _prepaid(store)
    asked = store.run(request_return, CLERK, _money_only(number))
    decided = store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert decided.refund_cents == 4_000
    assert build.rows(store, select(Refund.amount_cents, Refund.return_id)) == [(4_000, decided.return_id)]
    other = _prepaid(store)
    asked = store.run(request_return, CLERK, _money_only(other))
    store.run(cancel_order, CLERK, CancelOrder(other, "no"))  # gives the money back before the request is decided
    decided = store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert (decided.status, decided.refund_cents) == ("closed", 0)
    assert verify(store) == []


def test_a_second_request_for_money_only_waits_for_the_first(store: Store) -> None:
    number = _prepaid(store)
    first = store.run(request_return, CLERK, _money_only(number))
    with pytest.raises(AlreadyExists, match=first.number):
        store.run(request_return, CLERK, _money_only(number))
    store.run(decide_return, CLERK, DecideReturn(first.number, is_approved=False))
    assert build.order_row(store, number).status == "ready"
    assert store.run(request_return, CLERK, _money_only(number)).status == "requested"


def test_an_order_turned_down_gives_its_coupon_back(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    build.rules(store, auto_approve={"max_total_cents": {"CNY": 100}})
    rule = {"from_cents": 0, "off_cents": 300}
    starts = store.clock.now() - timedelta(days=1)
    promotion = PromotionIn("C", "券", "order_threshold", rule, starts, needs_coupon=True)
    saved = store.run(save_promotion, MANAGER, promotion)
    with store.unit_of_work() as uow:
        uow.conn.execute(insert(Coupon), {"id": uow.new_id(), "code": "C1", "promotion_id": saved.id})
    number = build.order(store, "LAMP 2", coupon_code="C1").number
    assert build.rows(store, select(Coupon.used_count)) == [(1,)]
    store.run(reject_order, MANAGER, RejectOrder(number, "typo"))
    assert build.rows(store, select(Coupon.used_count)) == [(0,)]
    assert build.rows(store, select(CouponUse.order_id)) == []
    assert build.order_row(store, build.order(store, "LAMP 2", coupon_code="C1").number).total_cents == 1_700
    assert verify(store) == []


def _exchange(store: Store, qty: int = 2) -> tuple[str, str, str]:
    """A prepaid order of four that arrived, of which some are to be exchanged: order, return, the order sent for it."""
    number = _prepaid(store)
    build.ship(store, number)
    build.deliver(store, number)
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: qty}, "broken", kind="exchange"))
    decided = store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert decided.exchange_number is not None
    return number, asked.number, decided.exchange_number


def test_an_exchange_cancelled_after_the_goods_came_back_pays_for_them(store: Store) -> None:
    number, back, instead = _exchange(store)
    store.run(receive_return, PICKER, ReceiveReturn(back, {1: 2}, "WH1"))
    store.run(inspect_return, PICKER, InspectReturn(back, [Disposition(1, restock_qty=2)]))
    assert build.order_row(store, number).refunded_cents == 0
    store.run(cancel_order, CLERK, CancelOrder(instead, "out of stock"))
    order = build.order_row(store, number)
    assert (order.refunded_cents, order.total_cents) == (2_000, 2_000)
    assert build.notices(store, "refund_granted", number=number)[0].facts["refund_cents"] == 2_000
    rest = store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "no good"))
    store.run(decide_return, CLERK, DecideReturn(rest.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(rest.number, {1: 2}, "WH1"))
    assert build.order_row(store, number).refunded_cents == 4_000
    assert verify(store) == []


def test_an_exchange_cancelled_before_the_goods_come_back_pays_when_they_do(store: Store) -> None:
    number, back, instead = _exchange(store)
    store.run(cancel_order, CLERK, CancelOrder(instead, "out of stock"))
    assert build.order_row(store, number).refunded_cents == 0
    assert store.run(receive_return, PICKER, ReceiveReturn(back, {1: 2}, "WH1")).refund_cents == 2_000
    assert build.order_row(store, number).refunded_cents == 2_000
    assert verify(store) == []


def test_an_exchange_turned_down_pays_for_what_came_back(store: Store) -> None:
    build.company(store)
    number, back, instead = _exchange(store)
    store.run(receive_return, PICKER, ReceiveReturn(back, {1: 1}, "WH1"))
    store.run(hold_order, CLERK, HoldOrder(instead, "wait"))
    store.run(reject_order, MANAGER, RejectOrder(instead, "out of stock"))
    assert build.order_row(store, number).refunded_cents == 1_000
    store.run(receive_return, PICKER, ReceiveReturn(back, {1: 1}, "WH1"))
    assert build.order_row(store, number).refunded_cents == 2_000
    assert verify(store) == []


def test_money_taken_off_an_order_goes_back_and_a_later_return_takes_the_rest(store: Store) -> None:
    number = _prepaid(store)
    build.ship(store, number)
    build.deliver(store, number)
    done = store.run(refund_order, CASHIER, RefundOrder(number, 500, "scratched", idem_key="r1"))
    assert (done.total_cents, done.refunded_cents) == (3_500, 500)
    again = store.run(refund_order, CASHIER, RefundOrder(number, 500, "scratched", idem_key="r1"))
    assert (again.refunded_cents, again.is_repeat) == (500, True)
    with pytest.raises(OverPayment):
        store.run(refund_order, CASHIER, RefundOrder(number, 3_501, "scratched"))
    with pytest.raises(InvalidCommand):
        store.run(refund_order, CASHIER, RefundOrder(number, 1, "  "))
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 4}, "no good"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: 4}, "WH1"))
    assert build.order_row(store, number).refunded_cents == 4_000  # all that was paid, and no more
    assert verify(store) == []


def test_money_taken_off_an_unpaid_order_is_no_longer_owed(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10")
    number = build.order(store, "LAMP 4").number
    done = store.run(refund_order, CASHIER, RefundOrder(number, 500, "scratched"))
    assert (done.total_cents, done.refunded_cents) == (3_500, 0)
    assert build.order_row(store, number).credit_claimed_cents == 3_500
    store.run(cancel_order, CLERK, CancelOrder(number, "no"))
    with pytest.raises(OverPayment):
        store.run(refund_order, CASHIER, RefundOrder(number, 1, "scratched"))
    assert verify(store) == []


def test_the_answer_to_a_return_names_its_goods_and_no_others(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10, RUG@WH1: 10")
    number = build.order(store, "LAMP 5, RUG 3").number
    build.ship(store, number)
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "broken"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    (told,) = build.notices(store, "return_decided")
    assert [(line["sku"], line["qty"]) for line in told.facts["lines"]] == [("LAMP", 2)]
    other = _prepaid(store)
    asked = store.run(request_return, CLERK, _money_only(other))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    told = build.notices(store, "return_decided")[-1]
    assert [(line["sku"], line["qty"]) for line in told.facts["lines"]] == [("LAMP", 4)]


def test_what_a_kit_lacks_is_not_cancelled_in_silence_and_its_money_can_go_back(store: Store) -> None:
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    build.sku(store, "KIT", price_cents=5_000, components="LAMP 1, BULB 2")
    build.stock(store, "LAMP@WH1: 5, BULB@WH1: 0, RUG@WH1: 5")
    number = build.order(store, "KIT 2, RUG 1", payment_method="prepaid").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 11_000, "pay"))
    _send(store, number, LAMP=1)
    done = store.run(cancel_order, CLERK, CancelOrder(number, "never comes"))
    assert [(x.sku, x.qty) for x in done.dropped] == [("KIT", 1), ("RUG", 1)]
    assert build.order_row(store, number).refunded_cents == 6_000
    with pytest.raises(InvalidCommand, match="part of kit KIT in line 1 has left"):
        store.run(cancel_order, CLERK, CancelOrder(number, "never comes"))
    refunded = store.run(refund_order, CASHIER, RefundOrder(number, 3_000, "the bulbs never came"))
    assert (refunded.total_cents, refunded.refunded_cents) == (2_000, 9_000)
