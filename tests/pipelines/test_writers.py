"""Eight processes trade while the loader reads again and again: nothing is missed, nothing doubled (issue 3, line 2)."""

import multiprocessing
import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import duckdb
import pytest

from orders_core.errors import OrdersError
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.store.uow import Store
from pipelines.extract import extract
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import RAW_TABLES
from tests.conftest import StatedCount
from tests.pipelines.test_extract import empty_generation, raw_rows
from tests.support import build

WRITERS = 8
PAUSE_SECONDS = 0.05  # a writer at full speed would leave the loader nothing of a small machine

TORN = {
    "a line without its order": "SELECT order_line_id FROM raw.order_line ANTI JOIN raw.orders USING (order_id)",
    "an order without lines": "SELECT order_id FROM raw.orders ANTI JOIN raw.order_line USING (order_id)",
    "a shipment line of no line": "SELECT shipment_line_id FROM raw.shipment_line ANTI JOIN raw.order_line "
    "USING (order_line_id)",
    "units that left and are not on the line": """
        SELECT l.order_line_id FROM raw.order_line l LEFT JOIN raw.shipment_line s USING (order_line_id)
        GROUP BY l.order_line_id, l.shipped_qty HAVING l.shipped_qty <> coalesce(sum(s.shipped_qty), 0)""",
    "units that left and did not move": """
        SELECT s.shipment_id FROM (SELECT shipment_id, sum(shipped_qty) AS qty FROM raw.shipment_line GROUP BY ALL) s
        LEFT JOIN (SELECT source_id, -sum(movement_qty) AS qty FROM raw.stock_movement WHERE movement_reason = 'ship'
          GROUP BY ALL) m ON m.source_id = s.shipment_id WHERE s.qty <> coalesce(m.qty, 0)""",
}
"""What a generation made of two moments would show."""


def trade(url: str, seed: int, stop: Any, told: Any) -> None:
    """Place, edit, cancel and ship until told to stop; what went through is counted, what was refused too."""
    chance, counts = random.Random(seed), Counter[str]()
    mine: list[str] = []
    with closing(Store.open(url)) as store:
        while not stop.is_set():
            what = chance.choice(["place", "edit", "cancel", "ship"]) if mine else "place"
            try:
                if what == "place":
                    mine.append(build.order(store, f"LAMP {chance.randint(1, 3)}, RUG 1").number)
                elif what == "edit":
                    change = EditOrder(chance.choice(mine), lines=(LineChange(1, chance.randint(1, 5)),))
                    store.run(edit_order, build.CLERK, change)
                elif what == "cancel":
                    store.run(cancel_order, build.CLERK, CancelOrder(mine.pop(chance.randrange(len(mine))), "customer"))
                else:
                    number = mine.pop(chance.randrange(len(mine)))
                    what = "ship" if build.order_row(store, number).status == "ready" else "left"
                    if what == "ship":
                        build.ship(store, number)
            except OrdersError:
                what = "refused"
            counts[what] += 1
            sleep(PAUSE_SECONDS)
    told.put(counts)


def test_eight_writers_and_the_loader(store: Store, tmp_path: Path, stated_count: StatedCount) -> None:
    build.company(store)
    build.rules(store, checks={"duplicate": "ignore"})  # they all look alike
    build.location(store, "WH1", is_default=True)
    build.stock(store, "LAMP@WH1: 100000, RUG@WH1: 100000")
    build.carrier(store)
    generation = empty_generation(tmp_path / "generation.duckdb")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipelines.test_writers"])
    stop, told = context.Event(), context.Queue()
    writers = [context.Process(target=trade, args=(store.url, seed, stop, told)) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        loads = [look(store.url, generation) for _ in range(stated_count(small=5, stated=100))]
    finally:
        stop.set()
        counts = sum((told.get(timeout=60) for _ in writers), Counter[str]())
        for writer in writers:
            writer.join()
    look(store.url, generation)
    anew = empty_generation(tmp_path / "anew.duckdb")
    assert extract(store.url, anew, full=True).is_full
    for name, rows in raw_rows(anew).items():
        assert raw_rows(generation)[name] == rows, name
    assert min(counts[what] for what in ("place", "edit", "cancel", "ship")) > 0
    assert sum(load > 0 for load in loads) >= len(loads) // 2, "the writers were hardly ever at work between two loads"
    assert counts["place"] == len(raw_rows(anew)["raw.orders"])


def look(url: str, generation: Path) -> int:
    """Load what changed and look at the whole of it; returns how many orders had changed."""
    loaded = extract(url, generation, full=False, reconcile="touched")
    with duckdb.connect(str(generation)) as con:
        assert find_violations(con, RAW_TABLES) == []
        for what, query in TORN.items():
            assert con.execute(query).fetchall() == [], what
    return loaded.changed_keys.get("orders", 0)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_generation_of_two_moments_would_be_seen(store: Store, tmp_path: Path) -> None:
    """The queries above can fail: each finds what it is named after."""
    build.company(store)
    build.location(store, "WH1", is_default=True)
    build.stock(store, "LAMP@WH1: 10")
    build.ship(store, build.order(store, "LAMP 2").number)
    generation = empty_generation(tmp_path / "generation.duckdb")
    look(store.url, generation)
    spoils = {
        "a line without its order": "DELETE FROM raw.orders",
        "an order without lines": "DELETE FROM raw.order_line",
        "a shipment line of no line": "DELETE FROM raw.order_line",
        "units that left and are not on the line": "UPDATE raw.order_line SET shipped_qty = 0",
        "units that left and did not move": "DELETE FROM raw.stock_movement WHERE movement_reason = 'ship'",
    }
    with duckdb.connect(str(generation)) as con:
        for what, spoil in spoils.items():
            con.execute("BEGIN")
            con.execute(spoil)
            assert len(con.execute(TORN[what]).fetchall()) == 1, what
            con.execute("ROLLBACK")
