"""The daily run tells the core what a unit is worth where it lies, on both databases."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from orders_core.ports import FixedClock
from orders_core.store.tables import StockPrice
from orders_core.store.uow import Store
from pipelines.hints import read_hints
from tests.cli.conftest import Cli
from tests.support import build


def test_the_daily_run_publishes_what_a_unit_is_worth(shop: Store, clock: FixedClock, cli: Cli) -> None:
    build.rules(shop, shortage={"policy": "backorder"})
    build.supplier(shop, "S1", "LAMP 450, RUG 900")
    build.order(shop, "RUG 1")
    for day in range(28):
        build.order(shop, f"LAMP {1 + day % 3}")
        clock.advance(days=1)
    published = select(StockPrice.price_cents, StockPrice.run_key)
    earlier = cli("run", "daily", "--as-of", "2026-03-30", "--json")
    assert (earlier.code, earlier.data["stock_prices"]) == (0, 0)
    assert build.rows(shop, published) == []  # an earlier day says nothing of today
    hints = read_hints(Path("warehouse"))
    worth = {row["sku"]: row["price_cents"] for row in hints.prices}
    assert hints.run_key.startswith("2026-03-30/") and hints.protected == []
    assert worth["LAMP"] > worth["RUG"] >= 0  # lamps are short, one rug in four weeks is not
    today = cli("run", "daily", "--json")
    assert (today.code, today.data["stock_prices"]) == (0, 2)
    assert {row.run_key for row in build.rows(shop, published)} == {
        f"{today.data['as_of_date']}/{today.data['run_id']}"
    }
