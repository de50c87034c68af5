"""Overrides and history adjustments: with author, reason and expiry, taken back but never deleted."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from orders_core.errors import IdempotencyMismatch, InvalidCommand, NotFound, PermissionDenied
from orders_core.services.plan_changes import (
    AdjustDemand,
    SetOverride,
    Withdraw,
    adjust_demand,
    set_override,
    withdraw_adjustment,
    withdraw_override,
)
from orders_core.store import tables
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, PLANNER

TODAY = date(2026, 3, 2)
SOON, LATER = TODAY + timedelta(days=5), TODAY + timedelta(days=18)
OVERRIDE = SetOverride("LAMP", "WH1", SOON, LATER, "multiply", 1.5, "fair in town")
ADJUSTMENT = AdjustDemand("LAMP", "WH1", date(2026, 2, 3), date(2026, 2, 4), "ignore", "one hotel's order")


@pytest.fixture
def shop(store: Store) -> Store:
    build.stock(store, "LAMP@WH1: 1")
    return store


def kept(store: Store, table) -> list:
    return list(build.rows(store, select(table.__table__).order_by(table.id)))


def test_an_override_is_kept_with_author_reason_and_expiry(shop: Store) -> None:
    done = shop.run(set_override, PLANNER, OVERRIDE)
    (row,) = kept(shop, tables.ForecastOverride)
    assert (row.id, row.kind, row.amount, row.author, row.reason) == (
        done.change_id,
        "multiply",
        1.5,
        "pia",
        "fair in town",
    )
    assert (row.from_date, row.through_date, row.expires_date) == (SOON, LATER, LATER)  # what is over says nothing
    audit = build.rows(shop, text("SELECT actor, action FROM audit_entry WHERE entity = 'forecast_override'"))
    assert [tuple(entry) for entry in audit] == [("pia", "forecast_override.set")]


def test_withdrawing_says_who_and_leaves_the_row(shop: Store) -> None:
    done = shop.run(set_override, PLANNER, OVERRIDE)
    assert not shop.run(withdraw_override, PLANNER, Withdraw(done.change_id)).is_repeat
    assert shop.run(withdraw_override, PLANNER, Withdraw(done.change_id)).is_repeat
    (row,) = kept(shop, tables.ForecastOverride)
    assert (row.withdrawn_by, row.version) == ("pia", 2) and row.withdrawn_at is not None
    adjusted = shop.run(adjust_demand, PLANNER, ADJUSTMENT)
    assert shop.run(withdraw_adjustment, PLANNER, Withdraw(adjusted.change_id)).is_withdrawn
    with pytest.raises(NotFound):
        shop.run(withdraw_override, PLANNER, Withdraw(adjusted.change_id))


def test_the_same_key_sets_one_override(shop: Store) -> None:
    first = shop.run(set_override, PLANNER, replace(OVERRIDE, idem_key="k"))
    again = shop.run(set_override, PLANNER, replace(OVERRIDE, idem_key="k"))
    assert again == replace(first, is_repeat=True)
    with pytest.raises(IdempotencyMismatch):
        shop.run(set_override, PLANNER, replace(OVERRIDE, idem_key="k", amount=2.0))
    for _ in range(2):
        shop.run(adjust_demand, PLANNER, replace(ADJUSTMENT, idem_key="k"))
    assert len(kept(shop, tables.ForecastOverride)) == len(kept(shop, tables.DemandAdjustment)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"from_date": LATER, "through_date": SOON}, "is after"),
        ({"from_date": TODAY, "through_date": TODAY}, "is over already"),
        ({"expires_date": TODAY}, "is over already"),
        ({"kind": "double"}, "not one of"),
        ({"amount": -0.1}, "not a number from 0"),
        ({"amount": 100.1}, "to 100"),
        ({"amount": float("nan")}, "not a number"),
        ({"amount": True}, "not a number"),
        ({"reason": "  "}, "say why"),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_override_that_cannot_be_meant_is_refused(shop: Store, change: dict, words: str) -> None:
    with pytest.raises(InvalidCommand, match=words) as refused:
        shop.run(set_override, PLANNER, replace(OVERRIDE, **change))
    assert refused.value.text("zh") != str(refused.value)
    assert kept(shop, tables.ForecastOverride) == []


def test_the_same_override_is_refused_while_it_is_in_force_and_not_once_it_expired(shop: Store) -> None:
    today = shop.clock.now().astimezone(shop.zone).date()
    early = replace(OVERRIDE, from_date=today, through_date=today + timedelta(9), expires_date=today + timedelta(2))
    first = shop.run(set_override, PLANNER, early)
    shop.clock.advance(days=1)
    later = replace(early, expires_date=None)
    with pytest.raises(InvalidCommand, match="pia") as refused:
        shop.run(set_override, PLANNER, later)
    assert refused.value.facts["problem"] == "overridden_alike" and refused.value.number == first.change_id
    shop.clock.advance(days=1)  # plans of this day on know nothing of the first
    second = shop.run(set_override, PLANNER, later)
    assert [row.id for row in kept(shop, tables.ForecastOverride)] == [first.change_id, second.change_id]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_adjustment_that_cannot_be_meant_is_refused(shop: Store) -> None:
    for change, words in (
        ({"through_date": SOON}, "has not come yet"),
        ({"kind": "replace"}, "not a number"),
        ({"kind": "replace", "daily_qty": -1.0}, "not a number"),
        ({"reason": ""}, "say why"),
    ):
        with pytest.raises(InvalidCommand, match=words):
            shop.run(adjust_demand, PLANNER, replace(ADJUSTMENT, **change))
    shop.run(adjust_demand, PLANNER, replace(ADJUSTMENT, kind="replace", daily_qty=2.5))
    assert kept(shop, tables.DemandAdjustment)[0].daily_qty == 2.5


def test_only_planners_change_a_forecast_and_only_of_what_is_there(shop: Store) -> None:
    for service, command in ((set_override, OVERRIDE), (adjust_demand, ADJUSTMENT), (withdraw_override, Withdraw(1))):
        with pytest.raises(PermissionDenied):
            shop.run(service, CLERK, command)
    with pytest.raises(NotFound):
        shop.run(set_override, PLANNER, replace(OVERRIDE, sku="VASE"))
    with pytest.raises(NotFound):
        shop.run(adjust_demand, PLANNER, replace(ADJUSTMENT, location="WH9"))


def test_the_database_refuses_what_the_service_never_writes(shop: Store) -> None:
    shop.run(set_override, PLANNER, OVERRIDE)
    for change in ("amount = -1", "through_date = '2020-01-01'", "withdrawn_by = 'x'", "kind = 'double'"):
        with pytest.raises(IntegrityError), shop.engine.begin() as conn:
            conn.execute(text(f"UPDATE forecast_override SET {change}"))
