"""Dagster tells the same story as the plain function: same tables, and a broken promise stops what is downstream."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from pipelines.daily import run_daily
from pipelines.definitions import build_definitions
from pipelines.defs.home import dagster_home
from pipelines.model import MODELLED
from pipelines.warehouse import read
from pipelines.warehouse.publish import generations
from pipelines.warehouse.tables import CORE_TABLES, MART_TABLES, RAW_TABLES
from tests.pipelines.book import Book, at
from tests.pipelines.test_daily import PUBLISHED_AT, day, hashes, steady_sales


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    book = Book(database_url)
    book.location("HEL", default=True)
    book.sku("LAMP")
    book.supplier("ACME", 5, "LAMP")
    book.move(at(day(0), 8), "LAMP@HEL: 60")
    steady_sales(book, "LAMP", range(30))
    yield book
    book.close()


@pytest.fixture
def quiet_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def run_job(database_url: str, warehouse_dir: Path, as_of: date) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(database_url=database_url, warehouse_dir=warehouse_dir, zone="Asia/Shanghai")
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("daily")
        return job.execute_in_process(partition_key=as_of.isoformat(), instance=instance, raise_on_error=False)


@pytest.mark.usefixtures("quiet_dagster")
def test_the_dagster_job_publishes_the_same_tables_as_the_plain_function(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    by_dagster, by_hand = tmp_path / "dagster", tmp_path / "hand"
    result = run_job(database_url, by_dagster, day(30))
    assert result.success
    assert len(result.get_asset_check_evaluations()) == len((*RAW_TABLES, *CORE_TABLES, *MART_TABLES))
    run_daily(database_url, by_hand, as_of=day(30), run_id="hand", now=lambda: PUBLISHED_AT)
    assert hashes(by_dagster) == hashes(by_hand)
    assert read.publication(by_dagster).as_of_date == day(30)


@pytest.mark.usefixtures("quiet_dagster")
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.breaks_invariants
def test_a_failed_check_skips_what_is_downstream_and_nothing_is_published(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    warehouse_dir = tmp_path / "warehouse"
    assert run_job(database_url, warehouse_dir, day(29)).success
    with book.store.unit_of_work() as uow:
        uow.conn.exec_driver_sql("UPDATE location SET code = ''")
    result = run_job(database_url, warehouse_dir, day(30))
    assert not result.success
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert {check.asset_key.to_user_string() for check in failed} == {"raw/location"}
    assert "publish" not in {event.step_key for event in result.get_step_success_events()}
    assert read.publication(warehouse_dir).as_of_date == day(29)
    assert len(generations(warehouse_dir)) == 1
    assert not list(warehouse_dir.glob("building-*"))


def test_every_table_is_an_asset_and_every_asset_is_checked() -> None:
    definitions = build_definitions(database_url="sqlite://", warehouse_dir=Path("x"), zone="Asia/Shanghai")
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    declared = {f"{t.schema}/{t.name}" for t in (*RAW_TABLES, *CORE_TABLES, *MART_TABLES)}
    assert keys == declared | {"meta/publication"}
    checked = {key.asset_key.to_user_string() for key in definitions.resolve_asset_graph().asset_check_keys}
    assert checked == declared
    upstream = definitions.resolve_asset_graph().get(dg.AssetKey(["core", "fct_demand_daily"])).parent_keys
    assert dg.AssetKey(["core", "fct_stock_daily"]) in upstream
    modelled = {modelled.name for modelled in MODELLED}
    assert len(modelled) == len(MODELLED), "a table is built twice"
    assert {t.full_name for t in CORE_TABLES} <= modelled <= {t.full_name for t in (*CORE_TABLES, *MART_TABLES)}


def test_dagster_loads_the_definitions_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home(tmp_path / "new" / "home"))}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "pipelines.definitions"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "telemetry" not in (done.stdout + done.stderr).lower(), "Dagster announces telemetry when it is on"
