"""Good news is told once for each time it becomes true: after an order was opened again, once more."""

from __future__ import annotations

import pytest

from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.review import ApproveOrder, approve_order
from orders_core.services.shipping import ConfirmDelivery, confirm_delivery
from orders_core.services.tracking import TrackingEventIn, record_event
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, PICKER, SALES


@pytest.fixture
def shop(store: Store) -> Store:
    """Plenty of lamps; a person looks at orders above 50.00."""
    build.company(store)
    build.rules(store, auto_approve={"max_total_cents": {"CNY": 5000}})
    build.stock(store, "LAMP@WH1: 50")
    return store


def test_an_order_that_was_reopened_is_said_to_be_delivered_again(shop: Store) -> None:
    number = build.order(shop, "LAMP 2").number
    build.ship(shop, number)
    build.deliver(shop, number)
    assert len(build.notices(shop, "delivered", number=number)) == 1
    shop.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 3)]))
    build.ship(shop, number)
    build.deliver(shop, number)
    assert build.order_row(shop, number).status == "delivered"
    assert len(build.notices(shop, "delivered", number=number)) == 2


def test_a_signed_receipt_after_the_carriers_word_is_no_news(shop: Store) -> None:
    number = build.order(shop, "LAMP 2").number
    (shipped,) = build.ship(shop, number, tracking_number="T1")
    shop.run(record_event, PICKER, TrackingEventIn("SF", "T1", "已签收", shop.clock.now()))
    assert build.order_row(shop, number).status == "delivered"
    shop.run(confirm_delivery, PICKER, ConfirmDelivery(shipped.shipment, "王五"))
    assert len(build.notices(shop, "delivered", number=number)) == 1


def test_an_order_approved_again_after_an_edit_is_told_so(shop: Store) -> None:
    number = build.order(shop, "LAMP 6").number
    shop.run(approve_order, CLERK, ApproveOrder(number))
    shop.run(edit_order, SALES, EditOrder(number, lines=[LineChange(1, 7)]))
    shop.run(approve_order, CLERK, ApproveOrder(number))
    assert len(build.notices(shop, "order_approved", number=number)) == 2
