"""Must-hold 6: orders, stock and money driven in random order beside the books, on both databases; and planted bugs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import event

from orders_core.ports import FixedClock
from orders_core.store.uow import Store
from tests.conftest import StatedCount
from tests.laws.machine import Company, furnish
from tests.support.databases import TESTS_BEGIN_AT, Backend, TestDatabases


@pytest.fixture
def company(backend: Backend, databases: TestDatabases, tmp_path: Path) -> type[Company]:
    """The machine on a fresh, furnished database per example."""
    furnished: dict[bool, Path] = {}

    def open_store(backorders: bool, clock: FixedClock) -> tuple[Store, Callable[[], None]]:
        if backend == "postgresql":
            url = databases.create(backend, folder=tmp_path)
            store = Store.open(url, clock=clock)
            furnish(store, backorders=backorders)
            return store, lambda: databases.drop(url)
        if backorders not in furnished:  # furnish one file, copy it for every example
            url = databases.create(backend, folder=tmp_path)
            first = Store.open(url, clock=FixedClock(TESTS_BEGIN_AT))
            furnish(first, backorders=backorders)
            first.close()
            furnished[backorders] = Path(url.removeprefix("sqlite:///"))
        path = Path(shutil.copy(furnished[backorders], tmp_path / "example.db"))
        url = f"sqlite:///{path}"
        store = Store.open(url, clock=clock)
        event.listen(store.engine, "connect", _does_not_wait_for_the_disk)
        return store, lambda: databases.drop(url)

    return type("Company", (Company,), {"open_store": staticmethod(open_store)})


def _does_not_wait_for_the_disk(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def machine_settings(examples: int, steps: int, **more: object) -> settings:
    return settings(
        settings.default,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,  # type: ignore[arg-type]
    )


def test_books_and_database_agree_whatever_happens(
    company: type[Company], backend: Backend, stated_count: StatedCount
) -> None:
    small, stated = (20, 500) if backend == "sqlite" else (4, 50)
    run_state_machine_as_test(company, settings=machine_settings(stated_count(small=small, stated=stated), 50))
