"""An order ends: what never arrived and came back is waited for no longer."""

from __future__ import annotations

import pytest

from orders_core.services.returns import (
    DecideReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    receive_return,
    request_return,
)
from orders_core.services.shipping import ConfirmDelivery, PackageIn, ShipShipment, confirm_delivery, ship_shipment
from orders_core.services.tracking import TrackingEventIn, record_event
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, PICKER


@pytest.fixture
def shop(store: Store) -> Store:
    build.company(store)
    build.rules(store, checks={"duplicate": "ignore"})
    build.sku(store, "KIT", components="LAMP 2")
    build.stock(store, "LAMP@WH1: 30")
    return store


def bring_back(store: Store, number: str, qty: int) -> None:
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: qty}, "did not arrive"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, {1: qty}, "WH1"))


def status(store: Store, number: str) -> str:
    return str(build.order_row(store, number).status)


def test_signed_for_less_is_delivered_once_the_rest_came_back(shop: Store) -> None:
    number = build.order(shop, "LAMP 3").number
    (shipped,) = build.ship(shop, number)
    shop.run(confirm_delivery, PICKER, ConfirmDelivery(shipped.shipment, "王五", signed={"LAMP": 1}))
    bring_back(shop, number, 1)
    assert status(shop, number) == "partly_delivered"
    bring_back(shop, number, 1)
    assert status(shop, number) == "delivered"
    assert build.notices(shop, "delivered", number=number) == []


def test_a_parcel_that_comes_back_to_us_ends_its_order_once_it_is_received(shop: Store) -> None:
    number = build.order(shop, "KIT 2").number
    build.ship(shop, number, tracking_number="T1")
    shop.run(record_event, PICKER, TrackingEventIn("SF", "T1", "已退回", shop.clock.now()))
    assert status(shop, number) == "shipped"
    bring_back(shop, number, 2)
    assert status(shop, number) == "delivered"


def test_a_unit_that_comes_back_is_not_taken_for_one_still_on_its_way(shop: Store) -> None:
    number = build.order(shop, "LAMP 3").number
    (first,) = build.shipments(shop, number)
    build.carrier(shop)
    parts = ShipShipment(first.number, "SF", packages=[PackageIn(tracking_number="T1")], quantities={"LAMP": 2})
    shop.run(ship_shipment, PICKER, parts)
    build.deliver(shop, number)
    (_, rest) = build.shipments(shop, number)
    shop.run(ship_shipment, PICKER, ShipShipment(rest.number, "SF", packages=[PackageIn(tracking_number="T2")]))
    bring_back(shop, number, 1)
    assert status(shop, number) == "partly_delivered"
    build.deliver(shop, number)
    assert status(shop, number) == "delivered"
