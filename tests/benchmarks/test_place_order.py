"""The speed of placing an order is measured on what it says it is measured on (issue 2, line 7)."""

from __future__ import annotations

from contextlib import closing

import sqlalchemy as sa

from benchmarks import place_order as benchmark
from benchmarks.common import Databases
from orders_core.store.uow import Store
from orders_core.store.verify import verify


def test_a_three_line_order_takes_at_most_14_statements(new_database) -> None:
    url = new_database()
    company = benchmark.seed(url, sku_count=50)
    with (
        Databases(url) as databases,
        benchmark.recorded(databases, company, orders=60, warm_up=2, is_hot=False) as traces,
    ):
        counted = benchmark.statements_per_order(traces)
    assert 10 < counted["statements_per_order"] <= 14


def test_the_replay_writes_the_same_rows(new_database) -> None:
    url = new_database()
    company = benchmark.seed(url, sku_count=50)
    with (
        Databases(url) as databases,
        benchmark.recorded(databases, company, orders=12, warm_up=20, is_hot=True) as traces,
    ):
        copy = databases.copy(url, "replayed")
        assert benchmark.replay(copy, traces, processes=2).done == 12
        with closing(Store.open(copy)) as store:
            assert verify(store) == []
            with store.reading() as conn:
                orders, lines, reserved = conn.execute(
                    sa.text(
                        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_line),"
                        " (SELECT count(*) FROM shipment_line WHERE reserved_qty > 0)"
                    )
                ).one()
        assert (orders, lines, reserved) == (32, 96, 96)


def test_measuring_gives_the_keys_that_are_asked_for(new_database) -> None:
    with Databases(new_database()) as databases:
        found = benchmark.measure(databases, process_counts=(2,), orders=8, oscar_orders=0, oscar=None, sku_count=30)
    assert found["oversold"] == found["deadlocks"] == 0
    assert found["orders_per_second"] > 0
    assert found["raw_orders_per_second"] > 0
    assert found["cpu_ms_per_order"] > 0
    assert found["oscar_cpu_ms_per_order"] is None
    assert {(run["spread"], run["processes"]) for run in found["runs"]} == {("3,000 SKUs", 2), ("one hot SKU", 2)}
    assert found["sell_out"]["sold"] == found["sell_out"]["units"]
