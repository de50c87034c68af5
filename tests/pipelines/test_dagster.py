"""Dagster tells the same story as the plain function: same tables, and a broken promise stops what is downstream."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import time_machine
from sqlalchemy import select

from orders_core.store.tables import StockPrice
from pipelines.alerts import Alerts, Failure, WrongAlertAddress
from pipelines.daily import run_backfill, run_daily
from pipelines.definitions import alerts_from, build_definitions
from pipelines.defs.daily import STOCK_PRICE
from pipelines.defs.home import dagster_home
from pipelines.defs.refresh import EVERY_SECONDS, refresh_job
from pipelines.defs.telling import alert_sensors
from pipelines.defs.trouble import MAX_RETRIES, is_transient
from pipelines.hints import publish_prices
from pipelines.model import MODELLED
from pipelines.plan import plan_days
from pipelines.warehouse import read
from pipelines.warehouse.errors import BuildFailed, ChecksFailed, SourceUnreadable, WarehouseError, WarehouseLocked
from pipelines.warehouse.publish import generations, run_lock
from pipelines.warehouse.tables import CORE_TABLES, MART_TABLES, RAW_TABLES, table
from tests.conftest import StatedCount
from tests.pipelines.book import Book, at, day
from tests.pipelines.test_daily import PUBLISHED_AT, hashes, steady_sales

SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


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
@SQLITE
def test_the_dagster_job_tells_the_core_what_a_unit_is_worth_as_the_command_line_does(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    def priced() -> list[tuple[str, str, int]]:
        with book.store.unit_of_work() as uow:
            return [
                tuple(row) for row in uow.rows(select(StockPrice.run_key, StockPrice.currency, StockPrice.price_cents))
            ]

    again = {"zone": "Asia/Shanghai"}
    with time_machine.travel(at(day(31), 3), tick=False):
        assert run_job(database_url, tmp_path / "warehouse", day(30)).success
        ((run_key, currency, price_cents),) = priced()
        assert (run_key.split("/")[0], currency, price_cents >= 0) == (str(day(30)), "CNY", True)
        repeated = publish_prices(database_url, tmp_path / "warehouse", **again)
        assert repeated is not None and repeated.is_repeat
    with time_machine.travel(at(day(35), 3), tick=False):  # a plan of that day says nothing of today
        assert publish_prices(database_url, tmp_path / "warehouse", **again) is None


@pytest.mark.usefixtures("quiet_dagster")
@SQLITE
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
    assert keys == declared | {"meta/publication", "orders/stock_price"}
    checked = {key.asset_key.to_user_string() for key in definitions.resolve_asset_graph().asset_check_keys}
    assert checked == declared
    upstream = definitions.resolve_asset_graph().get(dg.AssetKey(["core", "fct_demand_daily"])).parent_keys
    assert dg.AssetKey(["core", "fct_out_of_stock"]) in upstream
    modelled = {modelled.name for modelled in MODELLED}
    assert len(modelled) == len(MODELLED), "a table is built twice"
    assert {t.full_name for t in CORE_TABLES} <= modelled <= {t.full_name for t in (*CORE_TABLES, *MART_TABLES)}


def test_dagster_loads_the_definitions_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home(tmp_path / "new" / "home"))}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "pipelines.definitions"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "telemetry" not in (done.stdout + done.stderr).lower(), "Dagster announces telemetry when it is on"


@pytest.mark.usefixtures("quiet_dagster")
@SQLITE
def test_a_range_of_days_in_one_run_is_what_the_plain_backfill_does(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    by_dagster, by_hand = tmp_path / "dagster", tmp_path / "hand"
    definitions = build_definitions(database_url=database_url, warehouse_dir=by_dagster, zone="Asia/Shanghai")
    first_and_last = {
        "dagster/asset_partition_range_start": day(29).isoformat(),
        "dagster/asset_partition_range_end": day(30).isoformat(),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("daily").execute_in_process(tags=first_and_last, instance=instance)
        assert result.success
        done = instance.get_materialized_partitions(dg.AssetKey(["mart", "backlog"]))
    assert done == {day(29).isoformat(), day(30).isoformat()}
    run_backfill(database_url, by_hand, first=day(29), last=day(30), run_id="hand", now=lambda: PUBLISHED_AT)
    assert hashes(by_dagster) == hashes(by_hand)
    assert plan_days(by_dagster) == [day(29), day(30)]

    # An earlier day done again leaves the newest plan on the screens, and has its own kept.
    assert run_job(database_url, by_dagster, day(28)).success
    assert read.publication(by_dagster).as_of_date == day(30)
    assert plan_days(by_dagster) == [day(28), day(29), day(30)]


@pytest.mark.usefixtures("quiet_dagster")
@SQLITE
def test_some_of_the_assets_are_refused_because_nothing_would_be_published(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    definitions = build_definitions(database_url=database_url, warehouse_dir=tmp_path / "w", zone="Asia/Shanghai")
    for some in ([dg.AssetKey(["mart", "backlog"])], [dg.AssetKey([t.schema, t.name]) for t in RAW_TABLES]):
        with dg.DagsterInstance.ephemeral() as instance:
            result = definitions.resolve_job_def("daily").execute_in_process(
                partition_key=day(30).isoformat(), instance=instance, raise_on_error=False,
                asset_selection=some,
            )  # fmt: skip
        assert not result.success
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        assert "materialize all assets" in str(failure.step_failure_data.user_failure_data.description)
    assert not list(tmp_path.glob("w/generation-*"))


@pytest.mark.usefixtures("quiet_dagster")
@SQLITE
def test_a_lock_is_waited_for_and_wrong_data_are_not_tried_again(
    book: Book, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.defs.trouble.FIRST_WAIT_SECONDS", 0.2)
    folder = tmp_path / "warehouse"
    job = refresh_of(database_url, folder)
    with run_lock(folder, run_id="other"), dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        assert count(result, dg.DagsterEventType.STEP_RESTARTED) == MAX_RETRIES
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        assert failure.step_failure_data.user_failure_data.metadata["code"].value == "E_LOCKED"
    missing = refresh_of(f"sqlite:///{tmp_path}/nowhere.db", folder)
    result = missing.execute_in_process(raise_on_error=False)
    assert not result.success
    assert count(result, dg.DagsterEventType.STEP_RESTARTED) == 0


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (WarehouseLocked(folder="w", holder="run 1"), True),
        (SourceUnreadable(source="s", reason="IO Error: database is locked"), True),
        (SourceUnreadable(source="s", reason='connection to server at "db" failed: Connection refused'), True),
        (SourceUnreadable(source="s", reason="no such table: orders"), False),
        (ChecksFailed(summary="core.fct_order_line: 3 rows", violations=[]), False),
        (BuildFailed(path="x", reason="No space left on device"), False),
    ],
)
def test_only_what_another_moment_may_mend_is_transient(error: WarehouseError, is_one: bool) -> None:
    assert is_transient(error) is is_one


def refresh_of(database_url: str, folder: Path) -> dg.JobDefinition:
    return refresh_job(database_url=database_url, warehouse_dir=folder, zone="Asia/Shanghai")


def sensor_of(definitions: dg.Definitions) -> dg.SensorDefinition:
    (sensor,) = [each for each in definitions.sensors or [] if each.name == "change_log"]
    assert isinstance(sensor, dg.SensorDefinition)
    return sensor


def count(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> int:
    return sum(event.event_type == kind for event in result.all_events)


@pytest.mark.usefixtures("quiet_dagster")
def test_a_fresh_order_is_in_the_warehouse_within_a_minute(
    book: Book, database_url: str, tmp_path: Path, stated_count: StatedCount
) -> None:
    """The sensor is asked every 15 s; the worst order comes just after it was, and waits for the run, too."""
    folder = tmp_path / "warehouse"
    definitions = build_definitions(database_url=database_url, warehouse_dir=folder, zone="Asia/Shanghai")
    job, sensor = definitions.resolve_job_def("refresh"), sensor_of(definitions)
    cursor = None
    waited = []
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> Any:
            nonlocal cursor
            context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=definitions)
            ticked = sensor.evaluate_tick(context)
            cursor = ticked.cursor
            return ticked

        assert len(tick().run_requests) == 1, "nothing is there yet, so all of it is news"
        assert tick().skip_message == "a run was started for these changes a moment ago"
        assert job.execute_in_process(instance=instance).success
        for number in range(stated_count(small=1, stated=100)):
            book.wait_until_settled()
            assert tick().skip_message == "the live generation has seen every change"
            book.order(f"FRESH-{number}", datetime.now(UTC), "LAMP@HEL: 1")
            placed = time.monotonic()
            (request,) = tick().run_requests
            result = job.execute_in_process(instance=instance, tags=request.tags)
            assert result.success
            waited.append(EVERY_SECONDS + time.monotonic() - placed)
            found = read.query(
                folder, "SELECT count(*) AS n FROM core.fct_order_line WHERE order_number = ?", [f"FRESH-{number}"]
            )
            assert found.item() == 1
            moved = {event.asset_key.to_user_string() for event in result.all_events if event.is_step_materialization}
            assert {"core/fct_order_line", "mart/backlog", "meta/publication"} <= moved
            assert "mart/reorder_suggestion" not in moved
            assert all(evaluated.passed for evaluated in result.get_asset_check_evaluations())
    waited.sort()
    p95 = waited[math.ceil(0.95 * len(waited)) - 1]
    print(f"{len(waited)} orders: p95 {p95:.1f} s, worst {waited[-1]:.1f} s from commit to warehouse")  # noqa: T201
    assert p95 <= 60


@pytest.mark.usefixtures("quiet_dagster")
@SQLITE
def test_the_sensor_waits_for_the_run_that_writes_and_says_when_the_source_is_away(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    def tick(url: str, cursor: str | None = None) -> Any:
        definitions = build_definitions(database_url=url, warehouse_dir=tmp_path / "w", zone="Asia/Shanghai")
        context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=definitions)
        return sensor_of(definitions).evaluate_tick(context)

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(refresh_of(database_url, tmp_path / "w"), status=dg.DagsterRunStatus.STARTED)
        assert f"run {run.run_id} of refresh is still writing" in str(tick(database_url).skip_message)
        instance.report_run_failed(run)
        away = tick(f"sqlite:///{tmp_path}/nowhere.db")
        assert len(away.run_requests) == 1, "a run that fails by name tells people"
        assert tick(f"sqlite:///{tmp_path}/nowhere.db", away.cursor).run_requests == []
        assert len(tick(database_url, away.cursor).run_requests) == 1
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.usefixtures("quiet_dagster")
@SQLITE
@pytest.mark.breaks_invariants
def test_a_failed_run_is_told_with_the_rows_that_failed_it(book: Book, database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "warehouse"
    sent: list[tuple[str, str]] = []

    class Heard(Alerts):
        def failed(self, failure: Failure) -> list[str]:
            sent.append((failure.job, f"{failure.code} {failure.zh}"))
            return []

        def recovered(self, job: str) -> list[str]:
            sent.append((job, "well"))
            return []

    heard = Heard([], warehouse_dir=folder, zone="UTC", language="zh", now=lambda: PUBLISHED_AT)
    tell_failure, tell_recovery = alert_sensors(heard)
    with book.store.unit_of_work() as uow:
        uow.conn.exec_driver_sql("UPDATE location SET code = ''")
    definitions = build_definitions(database_url=database_url, warehouse_dir=folder, zone="Asia/Shanghai")
    with dg.DagsterInstance.ephemeral() as instance:

        def run(job: dg.JobDefinition, **options: Any) -> dg.ExecuteInProcessResult:
            result = job.execute_in_process(instance=instance, raise_on_error=False, **options)
            sensor, event_of = (
                (tell_recovery, result.get_run_success_event)
                if result.success
                else (tell_failure, result.get_run_failure_event)
            )
            context = dg.build_run_status_sensor_context(
                sensor_name=sensor.name, dagster_event=event_of(), dagster_instance=instance,
                dagster_run=result.dagster_run,
            )  # fmt: skip
            sensor(context if result.success else context.for_run_failure())
            return result

        daily = definitions.resolve_job_def("daily")
        assert not run(daily, partition_key=day(30).isoformat()).success
        assert not run(refresh_of(f"sqlite:///{tmp_path}/nowhere.db", tmp_path / "other")).success
        with book.store.unit_of_work() as uow:
            uow.conn.exec_driver_sql("UPDATE location SET code = 'HEL'")
        assert run(definitions.resolve_job_def("refresh")).success
    assert [job for job, _ in sent] == ["daily", "refresh", "refresh"]
    assert sent[0][1].startswith("E_CHECKS_FAILED 已停止发布")
    assert "raw.location: 1 rows break" in sent[0][1]
    assert sent[1][1].startswith("E_SOURCE 无法读取订单数据库")
    assert sent[2][1] == "well"


def test_an_asset_says_whose_it_is_what_its_rows_are_and_how_fresh_it_must_be() -> None:
    definitions = build_definitions(database_url="sqlite://", warehouse_dir=Path("x"), zone="Asia/Shanghai")
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys() - {STOCK_PRICE}:  # that one is no table of the warehouse
        node = graph.get(key)
        built = table(".".join(key.path))
        assert node.description == built.grain
        assert (node.group_name, node.kinds, node.pools) == (built.schema, {"duckdb"}, {"warehouse"})
        assert node.owners
        assert node.freshness_policy is not None
        assert node.metadata["key"] == ", ".join(built.key)
        schema = node.metadata["dagster/column_schema"]
        assert tuple(column.name for column in schema.columns) == built.column_names
        assert node.partitions_def.timezone == "Asia/Shanghai"


def test_dagsters_home_has_one_writer_and_keeps_to_itself(tmp_path: Path) -> None:
    home = dagster_home(tmp_path / "home")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.run_monitoring_enabled
        assert not instance.run_retries_enabled
        pools = instance.get_concurrency_config().pool_config
        assert (pools.pool_granularity.value, pools.default_pool_limit) == ("run", 1)
        assert instance.get_settings("freshness") == {"enabled": True}
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    assert "freshness" not in (dagster_home(home) / "dagster.yaml").read_text(encoding="utf-8")  # it is theirs


def test_who_is_told_comes_from_the_environment() -> None:
    assert alerts_from({}) is None
    assert alerts_from({"DINGHUO_ALERT_URLS": "https://example.com/hook"}) is not None
    with pytest.raises(WrongAlertAddress):
        alerts_from({"DINGHUO_ALERT_URLS": "mailto:ops@example.com"})
    mailed = alerts_from({"DINGHUO_ALERT_URLS": "mailto:ops@example.com", "DINGHUO_SMTP_HOST": "mail.example.com"})
    definitions = build_definitions(database_url="sqlite://", warehouse_dir=Path("x"), zone="UTC", alerts=mailed)
    running = {s.name for s in definitions.sensors or [] if s.default_status == dg.DefaultSensorStatus.RUNNING}
    assert running == {"tell_failure", "tell_recovery"}
