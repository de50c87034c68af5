"""The daily run and the plan from the command line, on both databases."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path

import pytest

from orders_core.ports import FixedClock
from orders_core.store.uow import Store
from pipelines.warehouse.publish import run_lock
from tests.cli.conftest import Cli
from tests.support import build

LAST_DAY = "2026-03-30"


@pytest.fixture
def traded(shop: Store, clock: FixedClock) -> Store:
    """A company that sold a few lamps a day for four weeks."""
    build.rules(shop, shortage={"policy": "backorder"})
    build.supplier(shop, "S1", "LAMP 450")
    build.order(shop, "RUG 1")
    for day in range(28):
        build.order(shop, f"LAMP {1 + day % 3}")
        clock.advance(days=1)
    return shop


def test_the_plan_says_what_to_restock_and_why(traded: Store, cli: Cli) -> None:
    missing = cli("plan", "show")
    assert (missing.code, missing.err.split()[0]) == (1, "E_WAREHOUSE_MISSING")
    ran = cli("run", "daily", "--as-of", LAST_DAY, "--json")
    assert (ran.code, ran.data["as_of_date"], ran.data["is_full_load"]) == (0, LAST_DAY, True)
    assert ran.data["counts"]["suggestions_to_buy"] == 1
    assert cli("run", "daily", "--as-of", LAST_DAY, "--json").data["is_full_load"] is False
    shown = cli("plan", "show", "--json").data
    assert (shown["publication"]["as_of_date"], shown["total"]) == (LAST_DAY, 1)
    (lamp,) = shown["suggestions"]
    assert (lamp["sku"], lamp["location_code"], lamp["supplier_code"]) == ("LAMP", "WH1", "S1")
    assert lamp["suggested_qty"] > 0
    assert lamp["reason"]
    zh = cli("plan", "show", "--lang", "zh")
    assert (zh.out.split()[1], LAST_DAY in zh.err) == ("货号", True)
    (row,) = csv.DictReader(io.StringIO(cli("plan", "show", "--csv").out))
    assert int(row["suggested_qty"]) == lamp["suggested_qty"]
    assert cli("plan", "show", "--sku", "RUG", "--json").data["total"] == 0
    assert cli("plan", "show", "--sku", "RUG", "--all", "--json").data["total"] == 1


def test_an_earlier_day_knows_less_and_seals_nothing(traded: Store, cli: Cli) -> None:
    earlier = cli("run", "daily", "--as-of", "2026-03-10", "--json").data
    later = cli("run", "daily", "--as-of", LAST_DAY, "--json").data
    assert earlier["row_counts"]["core.fct_order_line"] < later["row_counts"]["core.fct_order_line"]
    assert earlier["audit_rows_sealed"] == 0
    assert cli("audit", "verify", "--json").data["sealed"] == 0


def test_a_slip_in_the_year_leaves_the_plan_as_it_is(traded: Store, cli: Cli) -> None:
    assert cli("run", "daily", "--as-of", LAST_DAY).code == 0
    slip = cli("run", "daily", "--as-of", "2016" + LAST_DAY[4:])
    assert slip.code == 2 and "is before the first order, of 2026-03-0" in slip.err
    assert cli("plan", "show", "--json").data["publication"]["as_of_date"] == LAST_DAY


def test_without_a_day_it_is_yesterday_and_the_trail_is_sealed(shop: Store, cli: Cli, clock: FixedClock) -> None:
    from orders_core.ports import SystemClock

    cli("orders", "place", "LAMP:1", "--customer", "ACME", "--channel", "phone")
    said = cli("run", "daily")
    yesterday = SystemClock().now().astimezone(shop.zone).date() - timedelta(days=1)
    assert f"as of {yesterday}" in said.err
    assert "takes today's, too" in said.err  # a newcomer's first order is of today
    sealed = cli("audit", "verify", "--json").data
    assert sealed["sealed"] > 0
    assert sealed["unsealed"] == 0


def test_another_run_locks_it_with_exit_5(traded: Store, cli: Cli) -> None:
    with run_lock(Path("warehouse"), run_id="other"):
        said = cli("run", "daily", "--as-of", LAST_DAY)
    assert (said.code, said.out, said.err.split()[0]) == (5, "", "E_LOCKED")


@pytest.mark.breaks_invariants
def test_a_quality_gate_stops_it_with_exit_4_and_the_old_plan_stays(traded: Store, cli: Cli) -> None:
    cli("run", "daily", "--as-of", LAST_DAY)
    before = cli("plan", "show", "--json").data
    with traded.unit_of_work() as uow:  # a rule of the warehouse that no constraint of the core knows
        uow.conn.exec_driver_sql("UPDATE location SET code = '' WHERE code = 'WH1'")
    said = cli("run", "daily", "--as-of", LAST_DAY, "--full", "--lang", "zh")
    assert (said.code, said.out, said.err.split()[0]) == (4, "", "E_CHECKS_FAILED")
    assert cli("plan", "show", "--json").data == before


def test_a_day_that_has_not_come_is_refused_and_nothing_is_published(traded: Store, cli: Cli) -> None:
    for run in ("daily", "refresh"):
        said = cli("run", run, "--as-of", "2999-01-01")
        assert said.code == 2
        assert "--as-of: 2999-01-01 is in the future" in said.err
        assert "2999-01-01 在今天" in cli("run", run, "--as-of", "2999-01-01", "--lang", "zh").err
    assert "E_WAREHOUSE_MISSING" in cli("plan", "show").err
