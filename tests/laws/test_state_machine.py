"""Must-hold 6: orders, stock and money driven in random order beside the books, on both databases; and planted bugs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import TextClause, event, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.ports import FixedClock
from orders_core.routing.assign import Offered
from orders_core.services import cancel, plan_stock, refunds
from orders_core.services.cancel import CancelOrder
from orders_core.services.orders_state import OrderState, order_for_change
from orders_core.services.refunds import Granted
from orders_core.store import inventory
from orders_core.store.inventory import Supply
from orders_core.store.tables import Order, OrderLine, StockLevel
from orders_core.store.uow import Store, UnitOfWork, make_engine
from tests.conftest import StatedCount
from tests.laws.machine import Company, furnish
from tests.support.databases import TESTS_BEGIN_AT, Backend, TestDatabases


@pytest.fixture
def company(backend: Backend, databases: TestDatabases, tmp_path: Path) -> type[Company]:
    """The machine on a fresh, furnished database per example."""
    return with_files(databases, tmp_path) if backend == "sqlite" else with_servers(databases, tmp_path)


def with_servers(databases: TestDatabases, folder: Path) -> type[Company]:
    def open_store(backorders: bool, clock: FixedClock) -> tuple[Store, Callable[[], None]]:
        url = databases.create("postgresql", folder=folder)
        store = Store.open(url, clock=clock)
        furnish(store, backorders=backorders)
        return store, lambda: databases.drop(url)

    return machine(open_store)


def with_files(databases: TestDatabases, folder: Path, *pragmas: str) -> type[Company]:
    """One file per rule set is furnished and copied for every example. One engine opens them all, one after another: it
    keeps its compiled statements. Nobody pulls the plug on an example, so nothing waits for the disk."""
    furnished: dict[bool, Path] = {}
    engine = make_engine(f"sqlite:///{folder / 'example.db'}")

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        for pragma in ("synchronous=OFF", *pragmas):
            connection.execute(f"PRAGMA {pragma}")

    def open_store(backorders: bool, clock: FixedClock) -> tuple[Store, Callable[[], None]]:
        if backorders not in furnished:
            url = databases.create("sqlite", folder=folder)
            first = Store.open(url, clock=FixedClock(TESTS_BEGIN_AT))
            furnish(first, backorders=backorders)
            first.close()
            furnished[backorders] = Path(url.removeprefix("sqlite:///"))
        shutil.copy(furnished[backorders], folder / "example.db")
        store = Store(engine, clock=clock, zone=ZoneInfo("Asia/Shanghai"))
        return store, lambda: databases.drop(str(engine.url))

    return machine(open_store)


def machine(open_store: Callable[[bool, FixedClock], tuple[Store, Callable[[], None]]]) -> type[Company]:
    return type("Company", (Company,), {"open_store": staticmethod(open_store), "outcomes": Counter()})


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
    company: type[Company],
    backend: Backend,
    stated_count: StatedCount,
    record_property: Callable[[str, object], None],
) -> None:
    small, stated = (12, 500) if backend == "sqlite" else (3, 100)
    examples = stated_count(small=small, stated=stated)
    run_state_machine_as_test(company, settings=machine_settings(examples, 50))
    done, refused = company.outcomes["done"], company.outcomes["refused"]
    assert done > refused > 0, f"{done} commands done, {refused} refused: the machine goes nowhere, or never too far"
    record_property(f"examples of up to 50 actions, {backend}", examples)
    record_property(f"commands done / refused as the books said, {backend}", f"{done:,} / {refused:,}")


# ------------------------------------------------------------------------------------------------ planted bugs


def finds(company: type[Company], message: str, *, among: Sequence[str] = ()) -> None:
    """The machine must fail, and say `message`; small, and the same examples every time. `among` names the only actions
    to take where the bug needs several of them on one order, which is rare among all."""
    company.among = among
    found = machine_settings(
        60, 40, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises(AssertionError, match=message):
        run_state_machine_as_test(company, settings=found)


@pytest.fixture
def unchecked(databases: TestDatabases, tmp_path: Path) -> type[Company]:
    """On SQLite without the CHECKs, which would stop these bugs as well: here the machine itself must find them."""
    return with_files(databases, tmp_path, "ignore_check_constraints=ON")


sqlite_only = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@sqlite_only
def test_it_finds_a_second_cancel_that_gives_the_stock_back_again(
    company: type[Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_again(uow: UnitOfWork, actor: Actor, command: CancelOrder) -> OrderState:
        order = order_for_change(uow, number=command.number)
        if order.status == "cancelled":  # does not care, and books the goods in
            for line in uow.rows(select(OrderLine.sku_id, OrderLine.ordered_qty).where(OrderLine.order_id == order.id)):
                level = update(StockLevel).where(StockLevel.sku_id == line.sku_id)
                uow.conn.execute(level.values(on_hand_qty=StockLevel.on_hand_qty + line.ordered_qty))
        return real(uow, actor, command)

    real = cancel.cancel_order
    monkeypatch.setattr(cancel, "cancel_order", cancel_again)
    finds(company, "the database has .*'on_hand'")


def test_it_finds_a_second_cancel_that_gives_the_money_back_again(
    unchecked: type[Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_again(uow: UnitOfWork, actor: Actor, command: CancelOrder) -> OrderState:
        order = order_for_change(uow, number=command.number)
        if order.status == "cancelled" and order.paid_cents:  # refunds what was paid, not what is left of it
            again = update(Order).where(Order.id == order.id)
            uow.conn.execute(again.values(refunded_cents=Order.refunded_cents + order.paid_cents))
        return real(uow, actor, command)

    real = cancel.cancel_order
    monkeypatch.setattr(cancel, "cancel_order", cancel_again)
    finds(unchecked, "'refunded'", among=("place", "pay", "cancel", "pay_refund"))


@sqlite_only
def test_it_finds_an_oversell(company: type[Company], monkeypatch: pytest.MonkeyPatch) -> None:
    def all_there(uow: UnitOfWork, sku_ids: Sequence[int], **more: Any) -> Supply:
        supply = real_supply(uow, sku_ids, **more)
        offered = {place: dict.fromkeys(has, Offered(999)) for place, has in supply.offered.items()}
        return replace(supply, offered=offered, available=dict.fromkeys(sku_ids, 999))

    def without_guard(count: int, *, is_sqlite: bool) -> TextClause:
        guarded = real_update(count, is_sqlite=is_sqlite).text
        assert ">= w.reserve)" in guarded
        return text(guarded.replace(">= w.reserve)", ">= -999)"))

    real_supply, real_update = plan_stock.supply_for, inventory._guarded_update
    monkeypatch.setattr(plan_stock, "supply_for", all_there)
    monkeypatch.setattr(inventory, "_guarded_update", without_guard)
    finds(company, "was done; the books want InsufficientStock|promised without stock|'overcommitted': [1-9]")


def test_it_finds_a_refund_above_payment(unchecked: type[Company], monkeypatch: pytest.MonkeyPatch) -> None:
    def grant_anything(uow: UnitOfWork, actor: Actor, *, order_id: int, amount_cents: int, **more: Any) -> Granted:
        """The guard looks at a payment that was never made."""
        order = update(Order).where(Order.id == order_id)
        uow.conn.execute(order.values(paid_cents=Order.paid_cents + amount_cents))
        granted = real(uow, actor, order_id=order_id, amount_cents=amount_cents, **more)
        uow.conn.execute(order.values(paid_cents=Order.paid_cents - amount_cents))
        return granted

    real = refunds.grant_refund
    monkeypatch.setattr(refunds, "grant_refund", grant_anything)
    finds(unchecked, "give_money_back.* was done; the books want OverPayment")
