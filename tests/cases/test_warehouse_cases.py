"""Cases 33 and 34: lots go first expired first, and more than ordered goes only within the allowance."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from orders_core.errors import LotRefused, NotAllowed, QuantityExceeded
from orders_core.services.delivery_note import PrintNote, delivery_notes
from orders_core.services.invoices import RequestInvoice, request_invoice
from orders_core.services.review import HoldOrder, hold_order
from orders_core.services.shipping import (
    Pack,
    PackageIn,
    ShipShipment,
    TakeBack,
    pack,
    ship_shipment,
    take_back,
)
from orders_core.services.stock import OpeningStock, StockIn, opening_stock
from orders_core.services.warehouse import PickAll, Release, Scan, Tick, pick_all, pick_sheet, release, scan, tick
from tests.support import build
from tests.support.build import CLERK, PICKER

TODAY = date(2026, 3, 2)


def one_shipment(store, number: str) -> str:
    return build.shipments(store, number)[-1].number


def ship_qty(shipment: str, qty: int, tracking: str = "SF1") -> ShipShipment:
    return ShipShipment(shipment, "SF", packages=[PackageIn(tracking_number=tracking)], quantities={"LAMP": qty})


@pytest.fixture
def tea(store):
    """Tea by lot: L1 expired with 5, L2 in ten days with 3, L3 in thirty days with 10; an order of 6 is released."""
    build.company(store)
    build.location(store, "WH1")
    build.sku(store, "TEA", is_lot_tracked=True)
    lots = [("L1", 5, -1), ("L3", 10, 30), ("L2", 3, 10)]
    lines = [StockIn("TEA", qty, lot_code=code, expiry_date=TODAY + timedelta(days=days)) for code, qty, days in lots]
    store.run(opening_stock, PICKER, OpeningStock("WH1", lines))
    placed = build.order(store, "TEA 6")
    (pick_list,) = build.release_all(store, "WH1")
    return placed, pick_list


def test_case_33_lots_are_picked_first_expired_first_and_never_expired_ones(store, tea) -> None:
    placed, pick_list = tea
    lines = store.run(pick_sheet, PICKER, pick_list).lines
    assert [(x.lot_code, x.qty) for x in lines] == [("L2", 3), ("L3", 3)]
    with pytest.raises(LotRefused, match=r"L1.*expired on 2026-03-01"):
        store.run(scan, PICKER, Scan(pick_list, "TEA", 3, lot_code="L1"))
    assert store.run(pick_sheet, PICKER, pick_list).lines[0].picked_qty == 0
    store.run(scan, PICKER, Scan(pick_list, "TEA", 3, lot_code="L2"))
    progress = store.run(scan, PICKER, Scan(pick_list, "TEA", 3, lot_code="L3"))
    assert (progress.status, progress.picked_qty, progress.open_qty) == ("done", 6, 0)
    build.carrier(store)
    shipment = one_shipment(store, placed.number)
    store.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=[PackageIn(tracking_number="SF1")]))
    (note,) = store.run(delivery_notes, PICKER, PrintNote(shipment))
    assert [(code, qty) for code, _, qty in note.lines[0].lots] == [("L2", 3), ("L3", 3)]


def test_case_33_two_lists_do_not_count_on_the_same_lot(store, tea) -> None:
    build.order(store, "TEA 7", note="second")
    (second,) = build.release_all(store, "WH1")
    assert [(x.lot_code, x.qty) for x in store.run(pick_sheet, PICKER, second).lines] == [("L3", 7)]


@pytest.fixture
def allowance(store):
    """Half as much again may ship; 40 lamps in stock."""
    build.company(store)
    build.carrier(store)
    build.rules(store, delivery={"over_delivery_ratio_bp": 5000})
    build.stock(store, "LAMP@WH1: 40")
    return store


def test_case_34_fifteen_of_ten_may_ship_and_nothing_stays_reserved(allowance) -> None:
    store = allowance
    placed = build.order(store, "LAMP 10")
    shipment = one_shipment(store, placed.number)
    with pytest.raises(QuantityExceeded) as refusal:
        store.run(ship_shipment, PICKER, ship_qty(shipment, 16))
    assert (refusal.value.asked_qty, refusal.value.limit_qty) == (16, 15)
    store.run(ship_shipment, PICKER, ship_qty(shipment, 15))
    level = build.level(store, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty) == (25, 0)
    (line,) = build.order_lines(store, placed.number)
    assert (line.shipped_qty, line.over_delivery_qty) == (15, 5)
    (note,) = store.run(delivery_notes, PICKER, PrintNote(shipment))
    assert (note.lines[0].qty, note.lines[0].done_percent, note.lines[0].open_qty) == (15, 100, 0)
    build.deliver(store, placed.number)
    assert build.order_row(store, placed.number).status == "delivered"


def test_case_34_cancelling_the_note_brings_the_reservation_of_what_was_ordered_back(allowance) -> None:
    store = allowance
    placed = build.order(store, "LAMP 10")
    shipment = one_shipment(store, placed.number)
    store.run(ship_shipment, PICKER, ship_qty(shipment, 15))
    (state,) = store.run(take_back, PICKER, TakeBack(shipment, "truck broke down"))
    level = build.level(store, "LAMP@WH1")
    assert (state.status, level.on_hand_qty, level.reserved_qty) == ("ready", 40, 10)
    (line,) = build.order_lines(store, placed.number)
    assert (line.reserved_qty, line.shipped_qty, line.over_delivery_qty) == (10, 0, 0)
    store.run(ship_shipment, PICKER, ship_qty(shipment, 10, "SF2"))
    assert build.on_hand(store, "LAMP@WH1") == 30


def test_case_34_two_pick_lists_may_not_sum_over_the_allowance(allowance) -> None:
    store = allowance
    build.stock(store, "LAMP@WH2: 5")
    build.rules(store, routing={"strategy": "fixed_order", "order": ["WH2", "WH1"]})
    placed = build.order(store, "LAMP 10")
    (first,), (second,) = build.release_all(store, "WH1"), build.release_all(store, "WH2")
    store.run(tick, PICKER, Tick(first, 1, qty=9))
    with pytest.raises(QuantityExceeded) as refusal:
        store.run(tick, PICKER, Tick(second, 1, qty=7))
    assert (refusal.value.asked_qty, refusal.value.limit_qty) == (16, 15)
    build.stock(store, "LAMP@WH2: 1")
    store.run(tick, PICKER, Tick(second, 1, qty=6))
    for n, shipment in enumerate(build.shipments(store, placed.number)):
        store.run(pack, PICKER, Pack(shipment.number))
        store.run(
            ship_shipment, PICKER, ShipShipment(shipment.number, "SF", packages=[PackageIn(tracking_number=f"T{n}")])
        )
    (line,) = build.order_lines(store, placed.number)
    assert (line.shipped_qty, line.reserved_qty, line.over_delivery_qty) == (15, 0, 5)


def test_case_34_an_order_on_hold_is_neither_picked_nor_shipped_nor_invoiced(allowance) -> None:
    store = allowance
    placed = build.order(store, "LAMP 10")
    (pick_list,) = build.release_all(store, "WH1")
    store.run(hold_order, CLERK, HoldOrder(placed.number, "customer asked"))
    for service, command in (
        (tick, Tick(pick_list, 1)),
        (scan, Scan(pick_list, "LAMP")),
        (pick_all, PickAll(pick_list)),
        (ship_shipment, ShipShipment(one_shipment(store, placed.number), "SF")),
    ):
        with pytest.raises(NotAllowed, match=rf"{placed.number} in stage held"):
            store.run(service, PICKER, command)
    with pytest.raises(NotAllowed, match=rf"invoice is not possible for order {placed.number} in stage held"):
        store.run(request_invoice, CLERK, RequestInvoice(placed.number, "订货有限公司", "91310000MA1FL0L82X"))
    assert build.on_hand(store, "LAMP@WH1") == 40
    other = build.order(store, "LAMP 1")
    store.run(hold_order, CLERK, HoldOrder(other.number, "customer asked"))
    skipped = store.run(release, PICKER, Release("WH1")).skipped
    assert [(one.shipment, one.reason_code) for one in skipped] == [(one_shipment(store, other.number), "held")]
