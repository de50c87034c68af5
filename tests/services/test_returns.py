"""What comes back is counted once, and units of lots come back as the lots they left in."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, PermissionDenied, QuantityExceeded
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.master_data import GiftIn, save_gift_rule
from orders_core.services.payments import ReceivePayment, receive_payment
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
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.services.stock import OpeningStock, StockIn, opening_stock
from orders_core.store.tables import Lot, LotLevel, StockMovement
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CASHIER, CLERK, MANAGER, PICKER


def _delivered(store: Store, line: str) -> str:
    number = build.order(store, line).number
    build.ship(store, number)
    build.deliver(store, number)
    return number


def _received(store: Store, number: str, line_no: int, qty: int) -> str:
    asked = store.run(request_return, CLERK, RequestReturn(number, {line_no: qty}, "broken"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    store.run(receive_return, PICKER, ReceiveReturn(asked.number, {line_no: qty}, "WH1"))
    return asked.number


def _tea(store: Store) -> None:
    """Three of lot L1, which goes first, and five of L2."""
    build.company(store)
    build.sku(store, "TEA", is_lot_tracked=True)
    build.location(store, "WH1")
    soon = date(2099, 1, 1)
    lots = [StockIn("TEA", 3, lot_code="L1", expiry_date=soon)]
    lots.append(StockIn("TEA", 5, lot_code="L2", expiry_date=soon + timedelta(days=9)))
    store.run(opening_stock, PICKER, OpeningStock("WH1", lots))


def _lots_back(store: Store) -> list[tuple[str | None, int]]:
    query = (
        select(Lot.lot_code, StockMovement.qty)
        .select_from(StockMovement)
        .outerjoin(Lot, Lot.id == StockMovement.lot_id)
        .where(StockMovement.reason == "return", StockMovement.state == "inspection")
        .order_by(StockMovement.id)
    )
    return [(row.lot_code, row.qty) for row in build.rows(store, query)]


def test_a_part_of_a_kit_comes_back_only_with_its_kit(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9, BULB@WH1: 9")
    build.sku(store, "SET", components="LAMP 1, BULB 2")
    number = _delivered(store, "SET 2")
    with pytest.raises(InvalidCommand, match="return 1"):
        store.run(request_return, CLERK, RequestReturn(number, {1: 2, 2: 2}, "broken"))
    _received(store, number, 1, 2)
    assert [build.level(store, f"{sku}@WH1").inspecting_qty for sku in ("LAMP", "BULB")] == [2, 4]


def test_units_of_several_lots_come_back_as_those_lots(store: Store) -> None:
    _tea(store)
    number = _delivered(store, "TEA 5")
    _received(store, number, 1, 4)
    assert _lots_back(store) == [("L1", 3), ("L2", 1)]


def test_a_second_return_takes_the_lots_the_first_one_left(store: Store) -> None:
    _tea(store)
    number = _delivered(store, "TEA 5")
    _received(store, number, 1, 2)
    _received(store, number, 1, 2)
    assert _lots_back(store) == [("L1", 2), ("L1", 1), ("L2", 1)]


def test_the_parts_of_a_kit_come_back_with_their_lots_and_are_restocked_by_lot(store: Store) -> None:
    _tea(store)
    build.stock(store, "CUP@WH1: 9")
    build.sku(store, "TEASET", components="TEA 2, CUP 1")
    number = _delivered(store, "TEASET 2")
    returned = _received(store, number, 1, 2)
    assert _lots_back(store) == [("L1", 3), ("L2", 1), (None, 2)]
    for restock in ({"restock_qty": 1}, {"scrap_qty": 1}):
        store.run(inspect_return, MANAGER, InspectReturn(returned, [Disposition(1, **restock)]))
    query = select(Lot.lot_code, LotLevel.on_hand_qty).join(Lot, Lot.id == LotLevel.lot_id).order_by(Lot.lot_code)
    assert [tuple(row) for row in build.rows(store, query)] == [("L1", 2), ("L2", 4)]


@pytest.mark.parametrize("kind", ["exchange", "resend"])
def test_what_is_sent_again_on_the_day_of_purchase_is_no_duplicate(store: Store, kind: str) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9, MUG@WH1: 9")
    store.run(save_gift_rule, MANAGER, GiftIn("LAMP", 1, "MUG"))
    number = _delivered(store, "LAMP 1")
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "broken", kind=kind))
    decided = store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert decided.exchange_number is not None
    again = build.order_row(store, decided.exchange_number)
    original = build.order_row(store, number)
    assert (again.status, again.possible_duplicate_of_id, again.source_order_id) == ("ready", None, original.id)
    assert [line.kind for line in build.order_lines(store, again.number)] == ["item"]  # the gift came with the sale
    bought = build.order(store, "LAMP 1")  # a second sale is like the first one, not like what was sent again
    assert build.order_row(store, bought.number).possible_duplicate_of_id == original.id


def test_what_is_sent_again_names_its_original(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    with pytest.raises(InvalidCommand) as refused:
        build.order(store, "LAMP 1", actor=MANAGER, kind="resend")
    assert refused.value.facts["field"] == "source_order_id"


def test_a_unit_is_sent_again_once(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    number = _delivered(store, "LAMP 2")
    refused = store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "where is it", kind="resend"))
    store.run(decide_return, CLERK, DecideReturn(refused.number, is_approved=False))
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 1}, "lost", kind="resend"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    with pytest.raises(QuantityExceeded) as twice:
        store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "lost", kind="resend"))
    assert (twice.value.facts["asked_qty"], twice.value.facts["limit_qty"]) == (2, 1)
    with pytest.raises(InvalidCommand):
        store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    assert store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "no good")).status == "requested"


@pytest.fixture
def twelve_of_ten(store: Store) -> str:
    """The number of a paid order of ten lamps, 10.00 each, of which twelve were sent."""
    build.company(store)
    build.carrier(store)
    build.rules(store, delivery={"over_delivery_ratio_bp": 5000})
    build.stock(store, "LAMP@WH1: 40")
    number = build.order(store, "LAMP 10").number
    (shipment,) = build.shipments(store, number)
    box = PackageIn(tracking_number="T1")
    store.run(ship_shipment, PICKER, ShipShipment(shipment.number, "SF", packages=[box], quantities={"LAMP": 12}))
    build.deliver(store, number)
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 10_000, "paid"))
    return number


def test_units_sent_beyond_the_order_come_back_first_and_for_nothing(store: Store, twelve_of_ten: str) -> None:
    refunded = []
    for qty in (1, 4, 7):
        _received(store, twelve_of_ten, 1, qty)
        refunded.append(build.order_row(store, twelve_of_ten).refunded_cents)
    assert refunded == [0, 3_000, 10_000]
    assert build.order_row(store, twelve_of_ten).total_cents == 0


def test_a_raised_order_pays_for_what_was_sent_beyond_it(store: Store, twelve_of_ten: str) -> None:
    """Three came back, two of them for nothing; with twelve ordered each of the three was paid for."""
    _received(store, twelve_of_ten, 1, 3)
    assert build.order_row(store, twelve_of_ten).total_cents == 10_000 - 1_000
    edited = store.run(edit_order, CLERK, EditOrder(twelve_of_ten, lines=[LineChange(1, 12)]))
    assert edited.total_cents == 12_000 - 3_000


def test_who_works_elsewhere_inspects_nothing_that_came_back_here(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 5, LAMP@WH2: 0")
    back = _received(store, _delivered(store, "LAMP 2"), 1, 2)
    far = Actor("far", frozenset({"warehouse"}), location_codes=frozenset({"WH2"}))
    with pytest.raises(PermissionDenied, match="location WH1"):
        store.run(inspect_return, far, InspectReturn(back, [Disposition(1, scrap_qty=2)]))
    store.run(inspect_return, PICKER, InspectReturn(back, [Disposition(1, scrap_qty=2)]))
