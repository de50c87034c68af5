"""Lines that left a shipment stay on it as a fact; what is taken or added later must not count them."""

from __future__ import annotations

import pytest

from orders_core.errors import NotFound
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.review import HoldOrder, ResumeOrder, hold_order, resume_order
from orders_core.services.shipping import PackageIn, ShipShipment, TakeBack, ship_shipment, take_back
from orders_core.services.split import SplitByHand, split_by_hand
from orders_core.services.warehouse import Release, ShortPick, pick_sheet, release, short_pick
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, PICKER


def _change(store: Store, number: str, line_no: int, qty: int) -> None:
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(line_no, qty)]))


def _lamp_withdrawn(store: Store) -> str:
    """An order whose lamps an edit took off its pick list and whose rug was not found: planned again."""
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    build.stock(store, "LAMP@WH1: 9, RUG@WH1: 1")
    number = build.order(store, "LAMP 5, RUG 1").number
    (pick_list,) = build.release_all(store, "WH1")
    store.run(hold_order, CLERK, HoldOrder(number, "customer asked"))
    _change(store, number, 1, 0)
    store.run(resume_order, CLERK, ResumeOrder(number))
    (rug,) = [line for line in store.run(pick_sheet, PICKER, pick_list).lines if line.sku == "RUG"]
    store.run(short_pick, PICKER, ShortPick(pick_list, rug.position))
    return number


def test_an_edit_after_an_edit_takes_from_what_is_still_planned(store: Store) -> None:
    build.company(store)
    build.rules(store, routing={"strategy": "fixed_order", "order": ("WH1", "WH2")})
    build.stock(store, "LAMP@WH1: 3, LAMP@WH2: 2, RUG@WH2: 1")
    number = build.order(store, "LAMP 5, RUG 1").number
    for place in ("WH1", "WH2"):
        store.run(release, PICKER, Release(place))
    store.run(hold_order, CLERK, HoldOrder(number, "customer asked"))
    _change(store, number, 1, 3)
    _change(store, number, 1, 1)
    assert [build.level(store, f"LAMP@{place}").reserved_qty for place in ("WH1", "WH2")] == [1, 0]


def test_a_line_taken_off_a_list_comes_back_with_its_new_quantity_and_ships(store: Store) -> None:
    number = _lamp_withdrawn(store)
    _change(store, number, 1, 3)
    assert [shipped.shipped for shipped in build.ship(store, number)] == [{"LAMP": 3}]
    assert build.on_hand(store, "LAMP@WH1") == 6


def test_what_was_taken_off_a_shipment_cannot_be_split_from_it(store: Store) -> None:
    number = _lamp_withdrawn(store)
    (shipment,) = build.shipments(store, number)
    with pytest.raises(NotFound):
        store.run(split_by_hand, CLERK, SplitByHand(number, shipment.number, {1: 2}))


def test_a_line_raised_after_its_shipment_was_taken_back_ships_whole(store: Store) -> None:
    build.company(store)
    build.carrier(store)
    build.stock(store, "LAMP@WH1: 9, RUG@WH1: 9")
    number = build.order(store, "LAMP 5, RUG 1").number
    (shipment,) = build.shipments(store, number)
    parcel = PackageIn(tracking_number="SF1")
    store.run(ship_shipment, PICKER, ShipShipment(shipment.number, "SF", packages=[parcel], quantities={"LAMP": 5}))
    store.run(take_back, PICKER, TakeBack(shipment.number, "truck broke down"))
    _change(store, number, 2, 3)
    build.ship(store, number)
    assert build.order_row(store, number).status == "shipped"
    assert build.on_hand(store, "RUG@WH1") == 6
