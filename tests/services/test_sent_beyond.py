"""A shipment may carry more than was ordered, where the rules allow it: kits keep their count."""

from __future__ import annotations

from orders_core.services.returns import DecideReturn, ReceiveReturn, RequestReturn, decide_return, receive_return
from orders_core.services.returns import request_return as ask_return
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, PICKER


def test_more_of_a_kits_component_than_ordered_leaves_the_kit_at_what_was_ordered(store: Store) -> None:
    build.company(store)
    build.carrier(store)
    build.rules(store, delivery={"over_delivery_ratio_bp": 5000})
    build.sku(store, "KIT", price_cents=1000, components="LAMP 2")
    build.stock(store, "LAMP@WH1: 30")
    number = build.order(store, "KIT 4").number
    (shipment,) = build.shipments(store, number)
    boxes = [PackageIn(tracking_number="T1")]
    store.run(ship_shipment, PICKER, ShipShipment(shipment.number, "SF", packages=boxes, quantities={"LAMP": 12}))
    build.deliver(store, number)
    kit, lamps = build.order_lines(store, number)
    assert (kit.shipped_qty, kit.delivered_qty) == (4, 4)
    assert (lamps.shipped_qty, lamps.delivered_qty, lamps.over_delivery_qty) == (12, 12, 4)
    assert build.order_row(store, number).status == "delivered"
    back = store.run(ask_return, CLERK, RequestReturn(number, {kit.line_no: 4}, "no good"))
    store.run(decide_return, CLERK, DecideReturn(back.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(back.number, {kit.line_no: 4}, "WH1"))
    assert build.order_row(store, number).total_cents == 0
