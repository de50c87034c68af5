"""The last unit is fought over by real processes on a real database (issue 2, line 3)."""

from __future__ import annotations

from contextlib import closing

import sqlalchemy as sa

from benchmarks.common import Databases
from benchmarks.company import CLERK, HOT_SKU, order_of, seed_company
from benchmarks.oversell import crossing_orders, repeated_deliveries, sell_out, units_oversold
from orders_core.services.place_order import place_order
from orders_core.store.uow import Store


def test_one_sku_is_sold_exactly_as_often_as_it_is_there(new_database, stated_count, record_property) -> None:
    attempts, processes = stated_count(small=100, stated=2000), stated_count(small=8, stated=32)
    found = sell_out(new_database(), units=attempts // 2, attempts=attempts, processes=processes)
    record_property("found", found)
    assert found["unexpected"] == {}, "nothing but InsufficientStock reaches a caller"
    assert found["violations"] == []
    assert found["sold"] == attempts // 2
    assert found["refused"] == attempts - found["sold"]
    assert found["oversold"] == 0
    assert found["is_right"]


def test_orders_that_name_the_same_skus_in_other_orders_never_deadlock(new_database, stated_count, record_property):
    url = new_database()
    found = crossing_orders(url, orders=stated_count(small=80, stated=800), processes=8)
    record_property("found", found)
    assert found["unexpected"] == {}
    assert found["is_right"], found
    assert Databases(url).deadlocks(url) == 0


def test_a_key_delivered_again_and_again_is_one_order(new_database, stated_count, record_property) -> None:
    found = repeated_deliveries(new_database(), keys=20, deliveries=stated_count(small=160, stated=1000), processes=8)
    record_property("found", found)
    assert found["unexpected"] == {}
    assert found["orders"] == 20
    assert found["is_right"], found


def test_units_promised_beyond_what_came_in_are_counted(new_database) -> None:
    url = new_database()
    with closing(Store.open(url)) as store:
        company = seed_company(store, sku_count=1, customer_count=1, stock_qty=30)
        store.run(place_order, CLERK, order_of(company.customers[0], [(HOT_SKU, 7)], key="k"))
        assert units_oversold(url) == 0
        with store.engine.begin() as conn:
            conn.execute(sa.text("UPDATE stock_movement SET qty = 2"))
    assert units_oversold(url) == 5


def test_units_left_over_are_not_taken_for_right(new_database) -> None:
    found = sell_out(new_database(), units=9, attempts=8, processes=2)
    assert (found["sold"], found["oversold"]) == (8, 0)
    assert not found["is_right"]
