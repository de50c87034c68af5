"""Services on an order (installation, a fee): open until somebody says that they were performed, creditable after."""

from __future__ import annotations

import pytest

from orders_core.errors import NotAllowed, NotFound, PermissionDenied, QuantityExceeded
from orders_core.services.cancel import CancelOrder, Dropped, cancel_order, preview_cancel
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.perform import PerformServices, perform_services
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
from orders_core.services.review import HoldOrder, hold_order
from orders_core.store.uow import Store
from tests.support.build import (
    CASHIER,
    CLERK,
    PICKER,
    SALES,
    company,
    deliver,
    notices,
    order,
    order_lines,
    order_row,
    rules,
    ship,
    sku,
    stock,
)


@pytest.fixture
def shop(store: Store) -> Store:
    company(store)
    stock(store, "LAMP@WH1: 9")
    sku(store, "FIT", price_cents=3_000, kind="service")
    return store


def _perform(store: Store, number: str, units: dict[int, int] | None = None, **more: str) -> str:
    return store.run(perform_services, CLERK, PerformServices(number, units or {}, **more)).status


def test_an_order_of_services_only_is_ready_until_they_are_performed(shop: Store) -> None:
    placed = order(shop, "FIT 2")
    assert placed.status == "ready"
    assert _perform(shop, placed.number, {1: 1}) == "partly_shipped"
    assert _perform(shop, placed.number) == "delivered"
    with pytest.raises(NotAllowed) as refused:
        _perform(shop, placed.number)
    assert refused.value.facts["reason_code"] == "performed"


def test_an_order_of_services_only_is_not_short_of_anything(shop: Store) -> None:
    rules(shop, shortage={"policy": "backorder"})
    assert order(shop, "FIT 1").status == "ready"


def test_an_order_of_services_only_can_be_cancelled_and_its_money_goes_back(shop: Store) -> None:
    number = order(shop, "FIT 2").number
    shop.run(receive_payment, CASHIER, ReceivePayment("ACME", 6_000, "pay"))
    state = shop.run(cancel_order, CLERK, CancelOrder(number, "no longer needed"))
    assert (state.status, order_row(shop, number).refunded_cents) == ("cancelled", 6_000)
    assert state.dropped == [Dropped(1, "FIT", "service", 2)]


def test_a_performed_service_is_credited_when_its_return_is_approved(shop: Store) -> None:
    number = order(shop, "FIT 2").number
    shop.run(receive_payment, CASHIER, ReceivePayment("ACME", 6_000, "pay"))
    _perform(shop, number)
    with pytest.raises(NotAllowed):
        shop.run(cancel_order, CLERK, CancelOrder(number, "too late"))
    asked = shop.run(request_return, CLERK, RequestReturn(number, {1: 1}, "badly done"))
    state = shop.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    row = order_row(shop, number)
    assert (state.status, state.refund_cents) == ("closed", 3_000)
    assert (row.total_cents, row.refunded_cents, row.status) == (3_000, 3_000, "delivered")


def test_goods_that_arrived_leave_the_order_open_until_the_service_is_performed(shop: Store) -> None:
    number = order(shop, "LAMP 1, FIT 1").number
    ship(shop, number)
    deliver(shop, number)
    assert order_row(shop, number).status == "partly_shipped"
    assert len(notices(shop, "delivered", number=number)) == 0
    assert _perform(shop, number) == "delivered"
    assert len(notices(shop, "delivered", number=number)) == 1


def test_cancelling_the_rest_says_which_services_it_drops_before_and_after(shop: Store) -> None:
    number = order(shop, "LAMP 2, FIT 2").number
    _perform(shop, number, {2: 1})
    ship(shop, number)
    version = order_row(shop, number).version
    preview = shop.run(preview_cancel, CLERK, CancelOrder(number, "enough"))
    assert preview.dropped == [Dropped(2, "FIT", "service", 1)]
    assert order_row(shop, number).version == version
    state = shop.run(cancel_order, CLERK, CancelOrder(number, "enough"))
    assert (state.dropped, state.status) == (preview.dropped, "shipped")
    assert [line.ordered_qty for line in order_lines(shop, number)] == [2, 1]


def test_a_service_is_performed_once_whatever_is_repeated_or_asked(shop: Store) -> None:
    number = order(shop, "LAMP 1, FIT 3").number
    assert _perform(shop, number, {2: 2}, idem_key="done") == "partly_shipped"
    assert _perform(shop, number, {2: 2}, idem_key="done") == "partly_shipped"
    with pytest.raises(QuantityExceeded) as refused:
        _perform(shop, number, {2: 2})
    assert (refused.value.facts["asked_qty"], refused.value.facts["limit_qty"]) == (2, 1)
    with pytest.raises(NotFound):
        _perform(shop, number, {1: 1})
    with pytest.raises(PermissionDenied):
        shop.run(perform_services, SALES, PerformServices(number))
    shop.run(hold_order, CLERK, HoldOrder(number, "wait"))
    with pytest.raises(NotAllowed) as held:
        _perform(shop, number, {2: 1})
    assert held.value.facts["reason_code"] == "held"


def test_a_service_returned_with_goods_is_credited_first_and_never_inspected(shop: Store) -> None:
    number = order(shop, "LAMP 1, FIT 1").number
    shop.run(receive_payment, CASHIER, ReceivePayment("ACME", 4_000, "pay"))
    ship(shop, number)
    _perform(shop, number)
    asked = shop.run(request_return, CLERK, RequestReturn(number, {1: 1, 2: 1}, "all wrong"))
    decided = shop.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert (decided.status, order_row(shop, number).refunded_cents) == ("approved", 3_000)
    shop.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: 1}, "WH1"))
    closed = shop.run(inspect_return, PICKER, InspectReturn(asked.number, [Disposition(1, restock_qty=1)]))
    assert (closed.status, order_row(shop, number).refunded_cents) == ("closed", 4_000)
