"""Built by parts equals built anew: after any trade, on any day, forward and back."""

import random
import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from orders_core.ports import FixedClock
from orders_core.store.uow import Store
from pipelines import daily, parts
from pipelines.daily import SOURCES, run_daily, run_refresh
from pipelines.model import MODELLED
from pipelines.parts import Parts
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.publish import live_generation
from pipelines.warehouse.tables import TABLES, table
from pipelines.warehouse.write import table_hash
from tests.conftest import StatedCount
from tests.pipelines.test_daily import PUBLISHED_AT
from tests.pipelines.test_with_services import a_day_of_trade, shop
from tests.support import build

__all__ = ["shop"]
ZONE = "Asia/Shanghai"


def refresh(shop: Store, warehouse_dir: Path, as_of: date, run_id: str) -> daily.RunReport:
    return run_refresh(shop.url, warehouse_dir, as_of=as_of, run_id=run_id, now=lambda: PUBLISHED_AT)


def model_hashes(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return {one.name: table_hash(con, table(one.name)) for one in MODELLED}


def live_hashes(warehouse_dir: Path) -> dict[str, str]:
    generation = live_generation(warehouse_dir)
    assert generation is not None
    with duckdb.connect(str(generation), read_only=True) as con:
        return model_hashes(con)


def modelled_anew(warehouse_dir: Path, as_of: date, scratch: Path) -> dict[str, str]:
    """The hashes of the modelled tables, all built from the live generation's `raw`."""
    generation = live_generation(warehouse_dir)
    assert generation is not None
    shutil.copyfile(generation, scratch)
    with duckdb.connect(str(scratch)) as con:
        anew = Parts(con, None, SOURCES)
        for modelled in MODELLED:
            anew.build(modelled, AsOf(as_of, ZONE))
        return model_hashes(con)


def test_built_by_parts_equals_built_anew_after_any_trade_on_any_day(
    shop: Store, clock: FixedClock, tmp_path: Path, stated_count: StatedCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 9)  # never anew, however much moved
    chance = random.Random(7)
    open_orders: list[str] = []
    by_parts = 0
    for number in range(stated_count(small=8, stated=80)):
        a_day_of_trade(shop, number, open_orders)
        clock.advance(hours=chance.choice([1, 7, 24]))
        if number % 5 == 4:
            build.sku(shop, f"NEW{number}")
            build.order(shop, f"NEW{number} 2")
        today = (clock.now() + timedelta(hours=8)).date()
        as_of = today - timedelta(days=chance.choice([0, 0, 1, 3]))
        report = refresh(shop, tmp_path / "w", as_of, f"refresh-{number}")
        if number:
            assert not report.is_full_load
            moved = {step.name: step.rows for step in report.steps}
            by_parts += moved["core.fct_order_line"] < report.row_counts["core.fct_order_line"]
        anew = modelled_anew(tmp_path / "w", as_of, tmp_path / "scratch.duckdb")
        live = live_hashes(tmp_path / "w")
        nightly = {one.name for one in MODELLED if one.is_nightly}
        differ = {name for name in anew if anew[name] != live[name] and name not in nightly}
        assert differ == set(), f"step {number}, as of {as_of}"
    assert by_parts, "nothing was built by parts"


def test_a_refresh_without_news_changes_nothing(shop: Store, clock: FixedClock, tmp_path: Path) -> None:
    a_day_of_trade(shop, 1, [])
    today = (clock.now() + timedelta(hours=8)).date()
    run_daily(shop.url, tmp_path / "w", as_of=today, run_id="first", now=lambda: PUBLISHED_AT, horizon_days=7)
    before = live_hashes(tmp_path / "w")
    report = refresh(shop, tmp_path / "w", today, "again")
    assert {step.rows for step in report.steps if step.name.startswith("core.")} == {0}
    assert live_hashes(tmp_path / "w") == before


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_refresh_leaves_the_plan_of_the_daily_run(shop: Store, clock: FixedClock, tmp_path: Path) -> None:
    a_day_of_trade(shop, 1, [])
    today = (clock.now() + timedelta(hours=8)).date()
    first = run_daily(shop.url, tmp_path / "w", as_of=today, run_id="first", now=lambda: PUBLISHED_AT, horizon_days=7)
    assert first.row_counts["mart.reorder_suggestion"] > 0
    build.order(shop, "LAMP 2")
    report = refresh(shop, tmp_path / "w", today, "later")
    assert report.row_counts["mart.reorder_suggestion"] == first.row_counts["mart.reorder_suggestion"]
    assert report.row_counts["core.fct_order_line"] == first.row_counts["core.fct_order_line"] + 1
    assert {one.full_name for one in TABLES} >= set(report.row_counts)
