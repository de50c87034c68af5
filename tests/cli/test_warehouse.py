"""The warehouse from the command line: refreshed, looked at, rolled back, taken out as a file, and its failures told."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orders_core.ports import FixedClock, SystemClock
from orders_core.store.uow import Store
from pipelines.warehouse import read
from pipelines.warehouse.publish import publish_generation, run_lock, start_generation
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.write import create_tables, table_hash
from tests.cli.conftest import PROGRAM, Cli, environment
from tests.support import build

FIRST, LAST = "2026-03-02", "2026-03-12"
ONE_DATABASE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def traded(shop: Store, clock: FixedClock) -> Store:
    """A company that sold a lamp or two a day for ten days from 2 March 2026."""
    build.rules(shop, shortage={"policy": "backorder"})
    for day in range(10):
        build.order(shop, f"LAMP {1 + day % 2}")
        clock.advance(days=1)
    return shop


@pytest.fixture
def published(cli: Cli) -> None:
    """An empty generation in ./warehouse, published by hand."""
    folder = Path("warehouse")
    folder.mkdir()
    building = start_generation(folder, run_id="by-hand")
    with duckdb.connect(str(building)) as con:
        create_tables(con, TABLES)
    publish_generation(
        folder, building, tables=TABLES, run_id="by-hand", as_of_date=date.fromisoformat(LAST),
        business_zone="Asia/Shanghai", published_at=SystemClock().now(),
    )  # fmt: skip


def hashes(warehouse_dir: Path) -> dict[str, str]:
    with read.live_warehouse(warehouse_dir) as live:
        return {t.full_name: table_hash(live.con, t) for t in TABLES if t.schema in ("raw", "core", "mart")}


def test_status_says_what_waits_and_a_refresh_brings_it(traded: Store, cli: Cli) -> None:
    missing = cli("warehouse", "status")
    assert (missing.code, missing.err.split()[0]) == (1, "E_WAREHOUSE_MISSING")
    cli("run", "daily", "--as-of", LAST)
    before = hashes(Path("warehouse"))
    said = cli("warehouse", "status", "--json").data
    assert (said["publication"]["generation"], said["publication"]["as_of_date"]) == (1, LAST)
    assert said["has_todays_contract"] is True
    assert said["rows_by_schema"]["raw"] == sum(n for name, n in said["row_counts"].items() if name.startswith("raw."))
    assert said["row_counts"]["core.fct_order_line"] == 10
    assert 0 <= said["age_seconds"] < 600
    assert said["size_bytes"] == said["all_size_bytes"] == Path(said["path"]).stat().st_size
    (mark,) = said["watermarks"]
    assert mark["last_change_at"].startswith("2026-03-11")
    build.order(traded, "LAMP 3")
    assert cli("warehouse", "status", "--json").data["changes_waiting"] >= 1
    assert cli("warehouse", "status", "--lang", "zh").out.startswith(f"第 1 版，数据截至 {LAST}")
    two = cli("warehouse", "show", "fct_order_line", "--where", "ordered_qty=2", "--limit", "3", "--json").data
    assert (two["table"], two["total"], [row["ordered_qty"] for row in two["rows"]]) == (
        "core.fct_order_line", 5, [2, 2, 2])  # fmt: skip

    fresh = cli("run", "refresh", "--as-of", LAST, "--json")
    assert fresh.code == 0, fresh.err
    assert (fresh.data["is_full_load"], fresh.data["row_counts"]["core.fct_order_line"]) == (False, 11)
    assert fresh.data["counts"] == {}
    after = hashes(Path("warehouse"))
    assert after["mart.reorder_suggestion"] == before["mart.reorder_suggestion"]
    assert after["core.fct_order_line"] != before["core.fct_order_line"]


def test_status_answers_while_the_order_database_is_away(
    published: None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGHUO_DATABASE_URL", "sqlite:///nowhere/orders.db")
    said = cli("warehouse", "status", "--json")
    assert (said.code, said.data["changes_waiting"], said.err.split()[0]) == (0, None, "E_SOURCE")
    assert not Path("nowhere").exists(), "looking made a database"


@ONE_DATABASE
def test_watching_brings_an_order_without_being_asked(traded: Store, cli: Cli, tmp_path: Path) -> None:
    watching = subprocess.Popen(
        [*PROGRAM, "run", "refresh", "--watch", "1", "--as-of", LAST, "--json"],
        cwd=Path.cwd(), env=environment(DINGHUO_DATABASE_URL=traded.url), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_for(lambda: lines_published() == 10)
        build.order(traded, "LAMP 1")
        wait_for(lambda: lines_published() == 11)
        generations = len(list(Path("warehouse").glob("generation-*")))
        time.sleep(3)  # nothing new: nothing is published, however often it looks
        assert len(list(Path("warehouse").glob("generation-*"))) == generations == 2
        watching.send_signal(signal.SIGTERM)
        out, err = watching.communicate(timeout=30)
    finally:
        watching.kill()
    assert watching.returncode == 143, err.decode()
    assert out.decode().count('"generation":') == 2
    assert not list(Path("warehouse").glob("building-*"))


def lines_published() -> int:
    try:
        return int(read.query(Path("warehouse"), "SELECT count(*) AS n FROM core.fct_order_line").item())
    except read.WarehouseMissing:
        return -1


def wait_for(is_so: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


@ONE_DATABASE
def test_a_backfill_does_each_of_its_days(traded: Store, cli: Cli) -> None:
    said = cli("run", "backfill", f"2026-03-11..{LAST}", "--json")
    assert said.code == 0, said.err
    assert (said.data["days"], said.data["first_date"], said.data["as_of_date"]) == (2, "2026-03-11", LAST)
    planned = cli("warehouse", "show", "meta.plan_day", "--json").data["rows"]
    assert [row["as_of_date"] for row in planned] == ["2026-03-11", LAST]


@ONE_DATABASE
@pytest.mark.parametrize(
    ("days", "problem"),
    [
        ("2026-03-12..2026-03-02", "runs backwards"),
        ("2026-03-02..", "is not a day"),
        ("2026-02-30..2026-03-02", "2026-02-30 is not a day"),
        ("2026-03-02..2999-01-01", "is in the future"),
    ],
)
def test_a_range_that_is_none_is_refused(shop: Store, cli: Cli, days: str, problem: str) -> None:
    said = cli("run", "backfill", days)
    assert (said.code, said.err.split()[0]) == (2, "E_ARG")
    assert problem in said.err
    assert not Path("warehouse").exists()


@ONE_DATABASE
def test_rolling_back_and_going_on(traded: Store, cli: Cli) -> None:
    cli("run", "daily", "--as-of", LAST)
    first = hashes(Path("warehouse"))
    build.order(traded, "LAMP 3")
    cli("run", "refresh", "--as-of", LAST)
    second = hashes(Path("warehouse"))
    listed = cli("warehouse", "generations", "--json").data
    assert [(each["generation"], each["is_live"]) for each in listed] == [(2, True), (1, False)]
    rows = list(csv.DictReader(io.StringIO(cli("warehouse", "generations", "--csv").out)))
    assert [row["generation"] for row in rows] == ["2", "1"]

    rehearsed = cli("warehouse", "rollback", "--dry-run", "--json")
    assert (rehearsed.code, rehearsed.data["generation"]) == (0, 1)
    assert hashes(Path("warehouse")) == second
    unknown = cli("warehouse", "rollback", "7")
    assert (unknown.code, "E_NO_GENERATION" in unknown.err, "2 (live), 1" in unknown.err) == (1, True, True)
    with run_lock(Path("warehouse"), run_id="other"):
        assert cli("warehouse", "rollback").code == 5
    assert hashes(Path("warehouse")) == second

    done = cli("warehouse", "rollback")
    assert (done.code, done.out.strip()) == (0, f"generation 1, as of {LAST}")
    assert hashes(Path("warehouse")) == first
    assert cli("warehouse", "status", "--json").data["changes_waiting"] >= 1
    none_older = cli("warehouse", "rollback")
    assert (none_older.code, "before the live one" in none_older.err) == (1, True)
    assert cli("warehouse", "rollback", "1").err.strip() == "it was live already"

    cli("run", "refresh", "--as-of", LAST)  # the next run brings the truth again, under a new number
    assert hashes(Path("warehouse")) == second
    assert cli("warehouse", "status", "--json").data["publication"]["generation"] == 3

    # What can't be read is not gone back to; what another version of the program left is, with a warning.
    Path("warehouse/generation-000002.duckdb").write_bytes(b"not a database" * 1000)
    refused = cli("warehouse", "rollback", "2", "--lang", "zh")
    assert (refused.code, refused.err.split()[0]) == (1, "E_GENERATION")
    with duckdb.connect("warehouse/generation-000001.duckdb") as con:
        con.execute("UPDATE meta.publication SET contract_hash = 'older'")
    done = cli("warehouse", "rollback", "--json")  # past the damaged one
    assert (done.code, done.data["generation"], done.data["has_todays_contract"]) == (0, 1, False)
    assert "screens may miss columns" in done.err
    assert "screens may miss columns" in cli("warehouse", "status").err
    assert "can't be read" in cli("warehouse", "generations").out


def test_every_table_is_a_file_too(published: None, cli: Cli) -> None:
    for table in TABLES:
        said = cli("warehouse", "show", table.full_name, "--csv")
        assert said.code == 0, said.err
        assert tuple(next(csv.reader(io.StringIO(said.out)))) == table.column_names
    shown = cli("warehouse", "show", "meta.publication", "--where", "run_id=by-hand", "--lang", "zh")
    assert len(shown.out.splitlines()) == 2
    assert "共 1 行" in shown.err
    assert cli("warehouse", "show", "meta.publication", "--where", "run_id=other", "--json").data["rows"] == []
    wrong = cli("warehouse", "show", "mart.backlogg")
    assert (wrong.code, "did you mean mart.backlog?" in wrong.err) == (2, True)
    wrong = cli("warehouse", "show", "core.fct_order_line", "--where", "orderd_qty=2")
    assert (wrong.code, "ordered_qty=…" in wrong.err) == (2, True)


@pytest.fixture
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's address, and what was posted to it."""
    posts: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", posts
    server.shutdown()
    server.server_close()


@ONE_DATABASE
@pytest.mark.breaks_invariants
def test_a_failed_run_is_told_once_and_so_is_its_end(
    traded: Store, cli: Cli, heard: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, posts = heard
    monkeypatch.setenv("DINGHUO_ALERT_URLS", url)
    set_code(traded, "WH1", "")  # a rule of the warehouse that no constraint of the core knows
    assert cli("run", "daily", "--as-of", LAST).code == 4
    with run_lock(Path("warehouse"), run_id="other"):
        assert cli("run", "daily", "--as-of", LAST).code == 5  # another run at work is no incident
    assert cli("run", "backfill", "nonsense").code == 2
    (post,) = posts
    assert (post["event"], post["job"], post["code"], post["generation"]) == (
        "failed",
        "daily",
        "E_CHECKS_FAILED",
        None,
    )
    assert "raw.location" in post["text"]
    assert "dinghuo run daily" in post["next"]
    set_code(traded, "", "WH1")
    assert cli("run", "daily", "--as-of", LAST).code == 0
    assert [each["event"] for each in posts] == ["failed", "recovered"]


STOPPED_IN_A_QUESTION = """
import os, signal, sys, threading
import duckdb
from apps.cli.main import main
from pipelines.warehouse import read

def ask_long(_folder):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    duckdb.connect().execute("SELECT sum(range) FROM range(2000000000)")  # seconds

read.publication = ask_long
sys.argv[1:] = ["run", "refresh", "--watch", "1"]
main()
"""


@ONE_DATABASE
def test_a_stop_in_the_middle_of_a_question_to_duckdb_is_a_stop_and_no_incident(
    shop: Store, cli: Cli, heard: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posts = heard
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPED_IN_A_QUESTION], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        env=environment(DINGHUO_DATABASE_URL=shop.url, DINGHUO_ALERT_URLS=url), check=False,
    )  # fmt: skip
    assert stopped.returncode == 143, stopped.stderr.decode()
    assert "Traceback" not in stopped.stderr.decode()
    assert posts == []


def set_code(store: Store, old: str, new: str) -> None:
    with store.unit_of_work() as uow:
        uow.conn.exec_driver_sql(f"UPDATE location SET code = '{new}' WHERE code = '{old}'")


def test_an_alert_that_does_not_arrive_changes_nothing_but_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGHUO_ALERT_URLS", "http://127.0.0.1:9/hook")
    monkeypatch.setattr("pipelines.alerts.PAUSES_SECONDS", ())
    said = cli("run", "daily", "--as-of", LAST, "-q")
    assert (said.code, said.out) == (1, "")
    assert "未能通知 json:127.0.0.1:" in said.err
    assert "E_NO_DATABASE" in said.err


@ONE_DATABASE
def test_an_address_that_is_none_is_refused_before_anything_runs(
    shop: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGHUO_ALERT_URLS", "SECRETKEY")
    said = cli("run", "refresh")
    assert (said.code, said.err.split()[0]) == (2, "E_CONFIG")
    assert "DINGHUO_ALERT_URLS" in said.err
    assert "SECRETKEY" not in said.err + cli("doctor").out
    assert not Path("warehouse").exists()
