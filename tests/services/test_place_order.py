"""What an order takes of several locations, and what it may not ask for."""

from __future__ import annotations

from orders_core.store.uow import Store
from tests.support import build


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
