"""A small company behind a running desk: orders to review, short and ready, and a plan learned from seven months."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from orders_core.ports import FixedClock
from orders_core.services.plan_changes import SetOverride, set_override
from orders_core.store.uow import Store
from tests.support.browser import RunningApp, running_app
from tests.support.build import PLANNER, carrier, company, customer, order, rules, sku, stock, supplier
from tests.support.databases import TestDatabases

DESK = Path(__file__).parents[2] / "apps" / "desk" / "main.py"
HISTORY_DAYS = 200
OVERRIDDEN_DAYS = 8


@dataclass(frozen=True)
class Desk:
    """The running app, and the store behind it to look and write past the screen."""

    app: RunningApp
    store: Store


@pytest.fixture(scope="module", autouse=True)
def patience() -> None:
    """The machine may be shared by two test workers and the app; what is slow is not wrong."""
    expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def desk(databases: TestDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The desk over a fresh SQLite database with a published plan; it tells the real time, as does its store."""
    folder = tmp_path_factory.mktemp("desk")
    url = databases.create("sqlite", folder=folder)
    now = datetime.now(UTC)
    clock = FixedClock(now - timedelta(days=HISTORY_DAYS))
    store = Store.open(url, clock=clock)
    _history(store, clock)
    clock.set(now)
    _today(store)
    environment = {"DINGHUO_DATABASE_URL": url, "DINGHUO_WAREHOUSE_DIR": str(folder / "warehouse")}
    _publish(url, folder / "warehouse", now.astimezone(store.zone).date() - timedelta(days=1))
    with running_app(DESK, log_folder=folder, environment=environment) as app:
        yield Desk(app, store)
    store.close()


def _history(store: Store, clock: FixedClock) -> None:
    """Two or three CUPs a day, all promised from a stock that runs out two weeks before today; three POTs and three JAMs,
    which we make, every day, which can be forecast; nine DISHes now and then, which cannot. BOWLs go out from WH9 until it has
    none, and then from WH10. Eight days ago a planner said that six POTs a day would go.
    """
    company(store)
    rules(store, shortage={"policy": "backorder"}, auto_approve={"is_on": True, "max_total_cents": {"CNY": 100_000}})
    sku(store, "CUP", price_cents=2500)
    sku(store, "JAM", supply_mode="make")
    stock(store, "CUP@WH9: 460, POT@WH9: 625, DISH@WH9: 130, JAM@WH9: 625, BOWL@WH9: 200, BOWL@WH10: 900")
    supplier(store, "JDZ", "CUP 900, POT 1200", lead_time_days=10)
    supplier(store, "LQ", "DISH 300", lead_time_days=21)
    customer(store, "SHOP", terms_days=365)
    for day in range(HISTORY_DAYS):
        dishes = ", DISH 9" if day % 17 in (3, 4) else ""
        order(store, f"CUP {2 + day % 2}, POT 3, JAM 3, BOWL 2{dishes}", customer="SHOP")
        if day == HISTORY_DAYS - OVERRIDDEN_DAYS - 1:
            today = clock.now().astimezone(store.zone).date()
            days = today + timedelta(days=1), today + timedelta(days=OVERRIDDEN_DAYS - 1)
            store.run(set_override, PLANNER, SetOverride("POT", "WH9", *days, "set_daily", 6.0, "tea fair"))
        clock.advance(days=1)


def _today(store: Store) -> None:
    """Stock and a carrier for today's orders, and a customer with little credit."""
    stock(store, "LAMP@WH1: 5000, RUG@WH1: 100, RUG@WH2: 100")
    carrier(store)
    customer(store, "LIN", credit_limit_cents=100_000)


def _publish(url: str, warehouse_dir: Path, yesterday: date) -> None:
    """The plan of the last whole business day, and one of a week before."""
    from pipelines.daily import run_daily

    for number, as_of in enumerate((yesterday - timedelta(days=OVERRIDDEN_DAYS), yesterday)):
        run_daily(url, warehouse_dir, as_of=as_of, run_id=f"browser-tests-{number}", now=lambda: datetime.now(UTC))
