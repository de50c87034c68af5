"""What an edit or a cancel may do to money: free goods, unpaid goods, credit, promotions on what is left, old prices."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import CreditExceeded, InvalidCommand, NotAllowed
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
from orders_core.services.review import ApproveOrder, HoldOrder, approve_order, hold_order
from orders_core.services.shipping import (
    PackageIn,
    ShipShipment,
    TakeBack,
    ship_shipment,
    take_back,
)
from orders_core.services.warehouse import PickAll, Release, pick_all, release
from orders_core.store import tables
from orders_core.store.queries import order_page
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
    location,
    order,
    order_lines,
    order_row,
    rows,
    rules,
    ship,
    ship_some,
    shipments,
    sku,
    stock,
)


def _buyer(store: Store, code: str = "ACME") -> Actor:
    return Actor(code, frozenset({"customer"}), customer_id=customer(store, code))


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
    ship_some(store, number, {"LAMP": 2})
    store.run(edit_order, SALES, EditOrder(number, add=[LineIn("RUG", 1, unit_price_cents=900)]))
    row = order_row(store, number)
    assert (row.status, row.approved_at, row.credit_claimed_cents, _claims(store)) == ("review", None, 4_900, 4_900)
    with store.reading() as conn:
        page = order_page(conn, number)
    assert page is not None
    assert (page.actions["return"], page.actions["ship"]) == (None, "waiting")
    _come_back(store, number, {1: 1})
    store.run(cancel_order, CLERK, CancelOrder(number, "no more"))
    deliver(store, number)
    row = order_row(store, number)
    assert (row.status, row.total_cents, row.credit_claimed_cents, _claims(store)) == ("delivered", 1_000, 1_000, 1_000)


def test_what_was_taken_back_before_it_is_approved_again_is_owed_no_more(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 10, RUG@WH1: 10")
    number = order(store, "LAMP 4").number
    shipment = ship_some(store, number, {"LAMP": 2})
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
    ship_some(store, number, {"LAMP": 2})
    assert store.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 5)])).status == "review"
    assert _codes(store, number) == ["amount_high"]


def _half_a_box(store: Store, *, box_price_cents: int, more: str = "", **fields: str) -> str:
    """An order of a box of 12 teas, 6 of which have left."""
    company(store)
    sku(store, "TEA", box_of=12, box_price_cents=box_price_cents, tax_rate_bp=1_300)
    stock(store, "TEA@WH1: 12, RUG@WH1: 20")
    number = order(store, f"TEA 1 box{more}", **fields).number
    ship_some(store, number, {"TEA": 6})
    return number


def _charges(store: Store, number: str) -> dict[str, int]:
    query = select(tables.OrderCharge.code, tables.OrderCharge.amount_cents).where(
        tables.OrderCharge.order_id == order_row(store, number).id
    )
    return {str(row.code): row.amount_cents for row in rows(store, query)}


@pytest.mark.parametrize("includes_tax", [True, False])
def test_a_promotion_and_the_tax_count_only_what_was_not_cancelled(store: Store, includes_tax: bool) -> None:
    rules(store, prices_include_tax=includes_tax)
    company(store)
    _off(store, from_cents=14_000, off_cents=4_000)
    number = _half_a_box(store, box_price_cents=12_000, more=", RUG 2")
    assert order_row(store, number).discount_cents == 4_000
    store.run(cancel_order, CLERK, CancelOrder(number, "enough"))
    row, tax = order_row(store, number), 0 if includes_tax else 780
    assert (row.goods_cents, row.discount_cents, row.total_cents) == (12_000, 0, 6_000 + tax)
    assert _charges(store, number) == {"cancelled:1": -6_000}
    store.run(edit_order, CLERK, EditOrder(number, add=[LineIn("RUG", 9)]))
    row = order_row(store, number)
    tax = 0 if includes_tax else row.tax_cents
    assert (row.discount_cents, row.total_cents - tax) == (4_000, 15_000 - 4_000)
    assert _charges(store, number) == {"cancelled:1": -6_000}
    _come_back(store, number, {1: 6})
    assert _charges(store, number)[next(x for x in _charges(store, number) if x.startswith("return:"))] == -(
        6_000
        - order_lines(store, number)[0].discount_cents
        + (0 if includes_tax else order_lines(store, number)[0].tax_cents)
    )


def test_a_broken_box_of_an_odd_price_comes_back_to_the_cent(store: Store) -> None:
    number = _half_a_box(store, box_price_cents=1_001)
    store.run(cancel_order, CLERK, CancelOrder(number, "enough"))
    deliver(store, number)
    assert order_row(store, number).total_cents == 501
    _come_back(store, number, {1: 5})
    _come_back(store, number, {1: 1})
    assert order_row(store, number).total_cents == 0


def test_a_raised_broken_box_keeps_what_was_cancelled_of_it(store: Store) -> None:
    number = _half_a_box(store, box_price_cents=1_200)
    store.run(cancel_order, CLERK, CancelOrder(number, "enough"))
    stock(store, "TEA@WH1: 24")
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3)]))
    assert (order_row(store, number).total_cents, _charges(store, number)) == (3_000, {"cancelled:1": -600})
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 1)]))
    row = order_row(store, number)
    assert (row.status, row.total_cents) == ("shipped", 600)


def _tiny(store: Store) -> str:
    """An order of 100.00 less 50.00 by a promotion, of a customer whose credit is 70.00."""
    company(store)
    customer(store, "TINY", credit_limit_cents=7_000)
    stock(store, "LAMP@WH1: 100")
    _off(store, from_cents=10_000, off_cents=5_000)
    return order(store, "LAMP 10", customer="TINY").number


def test_credit_is_no_reason_against_cancelling_what_has_not_left(store: Store) -> None:
    number = _tiny(store)
    ship_some(store, number, {"LAMP": 9})
    assert store.run(cancel_order, CLERK, CancelOrder(number, "enough")).status == "shipped"
    row = order_row(store, number)
    assert (row.total_cents, row.credit_claimed_cents) == (9_000, 9_000)


def test_a_reviewer_exceeds_credit_once_with_a_reason(store: Store) -> None:
    number = _tiny(store)
    for actor, reason in ((SALES, "he is good for it"), (CLERK, None)):
        with pytest.raises(CreditExceeded):
            store.run(edit_order, actor, EditOrder(number, lines=[LineChange(1, 9)], reason=reason))
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 9)], reason="he is good for it"))
    assert order_row(store, number).credit_claimed_cents == 9_000


def test_what_came_back_free_is_worth_its_price_when_more_is_ordered(store: Store) -> None:
    company(store)
    rules(store, delivery={"over_delivery_ratio_bp": 5_000})
    stock(store, "LAMP@WH1: 30")
    number = order(store, "LAMP 10").number
    carrier(store)
    first = shipments(store, number)[0].number
    store.run(ship_shipment, PICKER, ShipShipment(first, "SF", [PackageIn(tracking_number="SF1")], {"LAMP": 15}))
    _come_back(store, number, {1: 5})
    assert order_row(store, number).total_cents == 10_000
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 15)]))
    assert order_row(store, number).total_cents == 10_000  # 15 ordered, 10 kept
    assert list(_charges(store, number).values()) == [-5_000]


def test_an_edit_keeps_the_tax_mode_and_the_fee_of_the_order(store: Store) -> None:
    company(store)
    sku(store, "TEA", price_cents=1_000, tax_rate_bp=1_300)
    stock(store, "TEA@WH1: 30")
    included = order(store, "TEA 2").number
    rules(store, prices_include_tax=False, shipping={"fee_cents": {"CNY": 400}, "free_from_cents": {"CNY": 8_000}})
    on_top = order(store, "TEA 2").number
    rules(store, prices_include_tax=True, shipping={"fee_cents": {"CNY": 600}, "free_from_cents": {"CNY": 8_000}})
    with store.unit_of_work() as uow:
        uow.conn.execute(update(tables.Sku).values(tax_rate_bp=600))
    totals = {}
    for number in (included, on_top):
        for qty in (1, 9, 3):
            store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, qty)]))
            totals[number, qty] = order_row(store, number).total_cents
    assert [totals[included, qty] for qty in (1, 9, 3)] == [1_000, 9_000, 3_600]
    assert [totals[on_top, qty] for qty in (1, 9, 3)] == [1_130 + 400, 10_170, 3_390 + 600]


def test_the_same_line_twice_in_one_edit_is_refused(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 4").number
    with pytest.raises(InvalidCommand) as refused:
        store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3), LineChange(1, 9)]))
    assert refused.value.facts["problem"] == "line_changed_twice"


def test_a_held_order_lowered_to_what_has_left_is_held_no_more(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 4").number
    ship_some(store, number, {"LAMP": 2})
    store.run(hold_order, CLERK, HoldOrder(number, "check"))
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 2)]))
    row = order_row(store, number)
    assert (row.status, row.hold_reason) == ("shipped", None)
    assert store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3)])).status == "partly_shipped"


def test_what_is_added_with_another_address_goes_from_there(store: Store) -> None:
    company(store)
    location(store, "WH1", latitude=31.2, longitude=121.5)
    location(store, "WH2", latitude=23.1, longitude=113.3)
    stock(store, "LAMP@WH1: 20, RUG@WH1: 5, RUG@WH2: 5")
    number = order(store, "LAMP 1").number
    south = AddressIn(street="天河路 1 号", city="广州", latitude=23.1, longitude=113.3)
    store.run(edit_order, CLERK, EditOrder(number, address=south, add=[LineIn("RUG", 1)]))
    assert {x.location for x in shipments(store, number)} == {"WH1", "WH2"}
    store.run(edit_order, CLERK, EditOrder(number, address=AddressIn(street="某路 9 号", city="成都")))
    row = order_row(store, number)
    assert (row.street, row.latitude, row.longitude) == ("某路 9 号", None, None)
    store.run(edit_order, CLERK, EditOrder(number, address=AddressIn(recipient="赵六", latitude=30.0, longitude=104.0)))
    store.run(edit_order, CLERK, EditOrder(number, address=AddressIn(phone="+8613900139000")))
    assert order_row(store, number).latitude == 30.0


def test_the_address_stays_while_the_rest_of_an_order_is_in_the_warehouse(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 20")
    number = order(store, "LAMP 4").number
    ship_some(store, number, {"LAMP": 2})
    moved = EditOrder(number, address=AddressIn(street="别处 9 号"))
    rest = next(x for x in shipments(store, number) if x.status == "planned")
    released = store.run(release, PICKER, Release("WH1", [rest.number]))
    store.run(pick_all, PICKER, PickAll(released.pick_lists[0]))
    with pytest.raises(NotAllowed) as refused:
        store.run(edit_order, _buyer(store), moved)
    assert refused.value.facts["reason_code"] == "in_warehouse"
