"""What planners aim at is a version of the business rules: it reaches the plans of its day and later, and the stock hints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import Planning
from orders_core.errors import InvalidCommand, PermissionDenied
from orders_core.services.plan_changes import SetPlanning, set_planning
from orders_core.store import tables as t
from pipelines import plan
from pipelines.daily import run_daily
from pipelines.hints import read_hints
from pipelines.transform.plan import PlanningDefaults
from tests.pipelines.book import Book, at, day

NUMBERS = (
    "holding_ratio", "shortage_ratio", "min_max_value_cents", "transfer_unit_cents", "transfer_fixed_cents",
)  # fmt: skip
PIA, ANN = Actor("pia", frozenset({"planner"})), Actor("ann", frozenset({"clerk"}))


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """LAMP sold at Helsinki by two channels: the shop pays twice what the web does."""
    book = Book(database_url)
    book.location("HEL", default=True)
    book.sku("LAMP")
    book.supplier("ACME", 7, "LAMP", cost=250)
    with book._transaction(at(day(0), 1)) as uow:
        book._add(uow, t.Channel, "SHOP", code="SHOP", name="Shop", kind="store")
        uow.conn.execute(update(t.RuleSet).values(created_at=uow.now))
    book.move(at(day(0), 8), "LAMP@HEL: 220")
    for number in range(31):
        book.order(f"A{number}", at(day(number)), f"LAMP@HEL: {5 + number % 3}")
        book.ship(f"A{number}", at(day(number), 15))
        with book._transaction(at(day(number), 12.1)) as uow:
            order_id, is_shop = book.id_of(t.Order, f"A{number}"), number % 2
            channel = book.id_of(t.Channel, "SHOP" if is_shop else "WEB")
            uow.conn.execute(update(t.Order).where(t.Order.id == order_id).values(channel_id=channel))
            price = t.OrderLine.ordered_qty * (1_000 if is_shop else 500)
            uow.conn.execute(update(t.OrderLine).where(t.OrderLine.order_id == order_id).values(net_cents=price))
    yield book
    book.close()


def planned(database_url: str, folder: Path, as_of: date) -> dict[str, Any]:
    run_daily(database_url, folder, as_of=as_of, run_id=f"r-{as_of}", now=lambda: datetime(2026, 6, 1, tzinfo=UTC))
    (row,) = plan.suggestions(folder, only_to_buy=False).rows.iter_rows(named=True)
    return row


def test_a_target_set_by_a_planner_is_what_later_plans_aim_at(book: Book, database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    before = planned(database_url, folder, day(29))
    assert before["order_target"] == "cost"
    assert "least expected cost" in plan.aim(folder, language="en")
    book.clock.set(at(day(30), 9))
    done = book.store.run(set_planning, PIA, SetPlanning("cycle_service", 0.9, True, "the shop asked"))
    assert (done.target, done.cycle_service_ratio, done.protects_channels) == ("cycle_service", 0.9, True)
    after = planned(database_url, folder, day(30))
    assert (after["order_target"], json.loads(after["facts"])["cycle_service_ratio"]) == ("cycle_service", 0.9)
    assert "90%" in after["reason"]
    assert "90%" in plan.aim(folder, language="zh") and "周期服务率" in plan.aim(folder, language="zh")
    (held,) = read_hints(folder).protected
    assert (held["sku"], held["location"], held["channel"]) == ("LAMP", "HEL", "SHOP")
    assert 1 <= held["protected_qty"] <= 220 - 6 * 30
    assert planned(database_url, tmp_path / "again", day(29))["order_target"] == "cost"  # it was not known that day
    assert read_hints(tmp_path / "again").protected == []


def test_the_numbers_of_a_plan_are_set_with_the_target_and_a_budget_cuts_it(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    free = planned(database_url, folder, day(29))
    currency, unit = free["currency"], free["unit_cost_cents"]
    assert free["suggested_qty"] > 6
    book.clock.set(at(day(30), 9))
    numbers = {"holding_ratio": 0.5, "shortage_ratio": 2}
    book.store.run(set_planning, PIA, SetPlanning(numbers=numbers, budgets={currency: 5 * unit, "SEK": 1}))
    assert [code for code in ("¥12.50", "SEK") if code not in plan.aim(folder)] == ["¥12.50", "SEK"]  # not that day
    cut = planned(database_url, folder, day(30))
    assert 0 < cut["suggested_qty"] <= 5
    assert cut["budget_part_qty"] < 0 and "budget_cut" in cut["reason_codes"]
    assert json.loads(cut["facts"])["holding_ratio"] == 0.5
    assert "¥12.50" in plan.aim(folder) and "SEK" in plan.aim(folder, language="zh")
    book.store.run(set_planning, PIA, SetPlanning(budgets={currency: None}))
    assert planned(database_url, folder, day(30))["suggested_qty"] > 6


def test_where_nobody_set_anything_the_rules_and_a_plan_hold_the_same() -> None:
    held = asdict(PlanningDefaults())
    assert Planning().model_dump() == {name: held[name] for name in Planning.model_fields}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_setting_the_target_is_a_planners_and_is_kept_with_who_and_why(book: Book) -> None:
    versions = select(t.RuleSet.version, t.RuleSet.author, t.RuleSet.reason).order_by(t.RuleSet.version)
    with pytest.raises(PermissionDenied):
        book.store.run(set_planning, ANN, SetPlanning("fill_rate"))
    for wrong in (
        SetPlanning("luck"),
        SetPlanning("fill_rate", 1.0),
        SetPlanning("fill_rate", 0.0),
        SetPlanning(budgets={"YUAN": 1}),
        SetPlanning(budgets={"CNY": -1}),
        *(SetPlanning(numbers={name: -1}) for name in NUMBERS),
        SetPlanning(numbers={"holding_ratio": None}),
    ):
        with pytest.raises(InvalidCommand):
            book.store.run(set_planning, PIA, wrong)
    assert book.store.run(set_planning, PIA, SetPlanning()).target == "cost"  # nothing asked, nothing changed
    book.store.run(set_planning, PIA, SetPlanning("fill_rate", 0.97, reason="tea fair"))
    with book.store.unit_of_work() as uow:
        (_, _, _), (_, author, reason) = uow.rows(versions)
    assert (author, reason) == ("pia", "tea fair")
