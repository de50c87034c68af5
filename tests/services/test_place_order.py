"""What an order takes of several locations, and what it may not ask for."""

from __future__ import annotations

from typing import Any

import pytest

from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch, InvalidCommand, NotFound
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.master_data import StaffIn, save_staff
from orders_core.services.place_order import LineIn, PlaceOrder, place_order
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, MANAGER


def test_too_few_over_all_locations_are_not_reserved_and_wait_in_one_place(store: Store) -> None:
    build.company(store)
    build.rules(store, shortage={"policy": "backorder", "min_ship_qty": 10, "max_late_days": 0})
    build.stock(store, "LAMP@WH1: 3, LAMP@WH2: 3")
    placed = build.order(store, "LAMP 10")
    levels = [build.level(store, f"LAMP@{place}") for place in ("WH1", "WH2")]
    assert [row.reserved_qty for row in levels] == [0, 0]
    assert sorted(row.backordered_qty for row in levels) == [0, 10]
    assert (placed.backordered_qty, placed.status) == (10, "waiting_stock")


def test_enough_over_two_locations_goes_at_once_though_neither_has_it_alone(store: Store) -> None:
    build.company(store)
    build.rules(store, shortage={"policy": "backorder", "min_ship_qty": 5})
    build.stock(store, "LAMP@WH1: 3, LAMP@WH2: 3")
    assert build.order(store, "LAMP 10").backordered_qty == 4
    assert [build.level(store, f"LAMP@{place}").reserved_qty for place in ("WH1", "WH2")] == [3, 3]


def test_a_location_without_stock_keeping_serves_orders_with_no_reservation_and_no_level(store: Store) -> None:
    build.company(store)
    build.sku(store, "LAMP")
    build.location(store, "SHOP1", is_stock_tracked=False)
    placed = build.order(store, "LAMP 10")
    assert (placed.status, placed.backordered_qty) == ("ready", 0)
    assert build.level(store, "LAMP@SHOP1") is None
    (shipped,) = build.ship(store, placed.number)
    assert shipped.shipped == {"LAMP": 10}
    build.deliver(store, placed.number)
    assert build.order_row(store, placed.number).status == "delivered"


def test_what_tracked_stock_lacks_comes_from_where_stock_is_not_kept(store: Store) -> None:
    build.company(store)
    build.rules(store, routing={"strategy": "fixed_order", "order": ("WH1", "SHOP2")})
    build.stock(store, "LAMP@WH1: 3")
    build.location(store, "SHOP2", is_stock_tracked=False)
    number = build.order(store, "LAMP 10").number
    planned = [
        (s.location, line.qty) for s in build.shipments(store, number) for line in build.shipment_lines(store, s.number)
    ]
    assert sorted(planned) == [("SHOP2", 7), ("WH1", 3)]
    store.run(cancel_order, CLERK, CancelOrder(number, "customer asked"))
    assert build.level(store, "LAMP@WH1").reserved_qty == 0


@pytest.mark.parametrize("lines", [1, 2])
def test_a_line_or_a_total_beyond_nine_thousand_trillion_cents_is_refused_by_name(store: Store, lines: int) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 1")
    wanted = [LineIn("LAMP", 9_999_999 if lines == 1 else 9_000, unit_price_cents=10**12)] * lines
    with pytest.raises(InvalidCommand, match="at most"):
        store.run(place_order, CLERK, PlaceOrder("phone", build.CUSTOMER, wanted))


def _buyer(store: Store, code: str) -> Actor:
    return Actor(code, frozenset({"customer"}), customer_id=build.customer(store, code))


def test_a_customer_cannot_put_his_order_before_others(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    with pytest.raises(InvalidCommand, match="priority"):
        build.order(store, "LAMP 1", actor=_buyer(store, build.CUSTOMER), priority=5)
    assert build.order(store, "LAMP 1", priority=5).status == "ready"


def test_a_customer_is_not_told_the_number_of_anothers_order(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    number = build.order(store, "LAMP 1", channel="web", external_id="X1").number
    with pytest.raises(IdempotencyMismatch) as refused:
        build.order(store, "LAMP 2", channel="web", external_id="X1", customer="BETA", actor=_buyer(store, "BETA"))
    assert number not in str(refused.value)
    with pytest.raises(IdempotencyMismatch, match=number):
        build.order(store, "LAMP 2", channel="web", external_id="X1", actor=_buyer(store, build.CUSTOMER))


def test_a_clerk_is_told_of_an_order_in_his_own_language(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 9")
    build.rules(store, notices={"clerks": ["jo@shop.example", "desk@shop.example"], "tell_clerks": "all"})
    store.run(save_staff, MANAGER, StaffIn("jo", "Jo", ["clerk"], "jo@shop.example", "en"))
    number = build.order(store, "LAMP 1").number
    told = {row.recipient: row.language for row in build.notices(store, "clerk_new_order", number=number)}
    assert told == {"jo@shop.example": "en", "desk@shop.example": "zh"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "gift"}, "kind"),
        ({"priority": "a"}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
    ],
)
def test_what_no_order_can_be_is_refused_by_name(store: Store, fields: dict[str, Any], named: str) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 5")
    with pytest.raises(InvalidCommand) as refused:
        build.order(store, "LAMP 1", **fields)
    assert (refused.value.facts["field"], refused.value.facts["value"]) == (named, fields[named])
    assert build.order(store, "LAMP 1", priority=9).number == "SO-20260302-000001"


@pytest.mark.parametrize("source", [999_999, 10**30, "SO-1"])
def test_the_original_of_an_order_is_there_and_the_same_customers(store: Store, source: Any) -> None:
    build.company(store)
    build.customer(store, "OTHER")
    build.stock(store, "LAMP@WH1: 5")
    theirs = build.order(store, "LAMP 1", customer="OTHER")
    for original in (source, theirs.order_id):
        with pytest.raises(NotFound) as refused:
            build.order(store, "LAMP 1", kind="resend", source_order_id=original)
        assert refused.value.facts["key"] == original
    again = build.order(store, "LAMP 1", customer="OTHER", kind="resend", source_order_id=theirs.order_id)
    assert again.total_cents == 0


def test_a_key_with_another_priority_or_original_is_another_order(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 5")
    first = build.order(store, "LAMP 1", idem_key="k", priority=1)
    assert build.order(store, "LAMP 1", idem_key="k", priority=1).is_repeat
    for fields in ({"priority": 2}, {"priority": 1, "source_order_id": first.order_id}):
        with pytest.raises(IdempotencyMismatch):
            build.order(store, "LAMP 1", idem_key="k", **fields)
