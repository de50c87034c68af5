"""What an edit or a cancel may do to money: free goods, unpaid goods, credit, promotions on what is left, old prices."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.drafting import LineIn
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.master_data import PromotionIn, save_promotion
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.returns import (
    DecideReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    receive_return,
    request_return,
)
from orders_core.services.review import ApproveOrder, approve_order
from orders_core.services.shipping import (
    PackageIn,
    ShipShipment,
    TakeBack,
    ship_shipment,
    take_back,
)
from orders_core.services.warehouse import PickAll, Release, pick_all, release
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    MANAGER,
    PICKER,
    SALES,
    carrier,
    company,
    customer,
    deliver,
    order,
    order_lines,
    order_row,
    rows,
    rules,
    ship,
    shipments,
    stock,
)


def _buyer(store: Store, code: str = "ACME") -> Actor:
    return Actor(code, frozenset({"customer"}), customer_id=customer(store, code))


def _ship_some(store: Store, number: str, quantities: dict[str, int]) -> str:
    carrier(store)
    first = next(x for x in shipments(store, number) if x.status == "planned")
    released = store.run(release, PICKER, Release(first.location, [first.number]))
    for pick_list in released.pick_lists:
        store.run(pick_all, PICKER, PickAll(pick_list))
    command = ShipShipment(first.number, "SF", [PackageIn(tracking_number=f"SF{first.id}")], quantities)
    store.run(ship_shipment, PICKER, command)
    return str(first.number)


def _off(store: Store, *, from_cents: int, off_cents: int) -> None:
    rule = {"from_cents": from_cents, "off_cents": off_cents}
    starts = store.clock.now() - timedelta(days=1)
    store.run(save_promotion, MANAGER, PromotionIn("OFF", "满减", "order_threshold", rule, starts))


def _come_back(store: Store, number: str, units: dict[int, int]) -> None:
    asked = store.run(request_return, CLERK, RequestReturn(number, units, "no good"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, units, "WH1"))


def _exchange(store: Store) -> str:
    company(store)
    stock(store, "LAMP@WH1: 100, GOLD@WH1: 500")
    number = order(store, "LAMP 2").number
    ship(store, number)
    deliver(store, number)
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "broken", kind="exchange"))
    decided = store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert decided.exchange_number is not None
    return decided.exchange_number


def test_a_free_exchange_grows_only_by_who_decides_returns(store: Store) -> None:
    number = _exchange(store)
    for actor in (_buyer(store), SALES):
        for more in (EditOrder(number, lines=[LineChange(1, 50)]), EditOrder(number, add=[LineIn("GOLD", 400)])):
            with pytest.raises(InvalidCommand) as refused:
                store.run(edit_order, actor, more)
            assert refused.value.facts["problem"] == "free_goods_grow"
    assert store.run(edit_order, _buyer(store), EditOrder(number, lines=[LineChange(1, 1)])).total_cents == 0
    assert [x.ordered_qty for x in order_lines(store, number)] == [1]
    assert store.run(edit_order, CLERK, EditOrder(number, add=[LineIn("GOLD", 1)])).total_cents == 0


def _pay(store: Store, cents: int, *, key: str) -> None:
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", cents, key))


def _codes(store: Store, number: str) -> list[str]:
    return [reason["code"] for reason in order_row(store, number).review_reasons or []]


def test_what_is_added_to_a_prepaid_order_is_paid_before_it_leaves(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 10000")
    number = order(store, "LAMP 1", payment_method="prepaid").number
    _pay(store, 1_000, key="first")
    assert order_row(store, number).status == "ready"
    raised = store.run(edit_order, _buyer(store), EditOrder(number, lines=[LineChange(1, 4_000)]))
    assert (raised.status, raised.due_cents, _codes(store, number)) == ("review", 3_999_000, ["payment_waiting"])
    _pay(store, 3_999_000, key="second")
    assert (order_row(store, number).status, _codes(store, number)) == ("ready", [])
    lowered = store.run(edit_order, _buyer(store), EditOrder(number, lines=[LineChange(1, 1)]))
    assert (lowered.status, lowered.refund_cents) == ("ready", 3_999_000)


def test_a_customer_on_hold_raises_no_order_unseen_but_may_lower_it(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 2000")
    number = order(store, "LAMP 4").number
    with store.unit_of_work() as uow:
        uow.conn.execute(update(tables.Customer).values(status="on_hold"))
    assert store.run(edit_order, _buyer(store), EditOrder(number, lines=[LineChange(1, 3)])).status == "ready"
    assert store.run(edit_order, _buyer(store), EditOrder(number, lines=[LineChange(1, 1_000)])).status == "review"
    assert _codes(store, number) == ["customer_on_hold"]
    rules(store, checks={"customer": "refuse"})
    with pytest.raises(InvalidCommand, match="on hold"):
        store.run(edit_order, _buyer(store), EditOrder(number, lines=[LineChange(1, 1_100)]))


def _claims(store: Store) -> int:
    return int(rows(store, select(tables.Customer.credit_used_cents))[0][0])


def test_what_has_left_is_owed_while_the_rest_waits_for_review(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 10, RUG@WH1: 10")
    number = order(store, "LAMP 4").number
    _ship_some(store, number, {"LAMP": 2})
    store.run(edit_order, SALES, EditOrder(number, add=[LineIn("RUG", 1, unit_price_cents=900)]))
    row = order_row(store, number)
    assert (row.status, row.approved_at, row.credit_claimed_cents, _claims(store)) == ("review", None, 4_900, 4_900)
    _come_back(store, number, {1: 1})
    store.run(cancel_order, CLERK, CancelOrder(number, "no more"))
    deliver(store, number)
    row = order_row(store, number)
    assert (row.status, row.total_cents, row.credit_claimed_cents, _claims(store)) == ("delivered", 1_000, 1_000, 1_000)


def test_what_was_taken_back_before_it_is_approved_again_is_owed_no_more(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 10, RUG@WH1: 10")
    number = order(store, "LAMP 4").number
    shipment = _ship_some(store, number, {"LAMP": 2})
    store.run(edit_order, SALES, EditOrder(number, add=[LineIn("RUG", 1, unit_price_cents=900)]))
    store.run(take_back, PICKER, TakeBack(shipment, "the van came back"))
    assert (order_row(store, number).credit_claimed_cents, _claims(store)) == (0, 0)
    store.run(approve_order, CLERK, ApproveOrder(number))
    assert (order_row(store, number).credit_claimed_cents, _claims(store)) == (4_900, 4_900)


def test_a_review_does_not_count_an_order_s_own_claim_against_it(store: Store) -> None:
    company(store)
    customer(store, "TINY", credit_limit_cents=5_000)
    rules(store, auto_approve={"max_total_cents": {"CNY": 4_500}})
    stock(store, "LAMP@WH1: 10")
    number = order(store, "LAMP 4", customer="TINY").number
    _ship_some(store, number, {"LAMP": 2})
    assert store.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 5)])).status == "review"
    assert _codes(store, number) == ["amount_high"]
