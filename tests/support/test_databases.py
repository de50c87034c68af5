"""Every test gets a database of its own, and a run leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from tests.support.databases import Backend, TestDatabases, remove_abandoned_runs

_OWNER_OF_A_RUN = """
import sys, time
from pathlib import Path
from tests.support.databases import TestDatabases, run_folder

with run_folder() as folder:
    TestDatabases(folder).create_empty("postgresql", folder=folder)
    print(folder, (folder / "pg" / "postmaster.pid").read_text().split()[0], flush=True)
    sys.stdin.read()
"""


def test_two_databases_of_one_test_do_not_share_rows(new_database) -> None:
    first, second = (sa.create_engine(new_database(empty=True)) for _ in range(2))
    with first.begin() as connection:
        connection.execute(sa.text("CREATE TABLE shelf (sku TEXT)"))
    assert sa.inspect(first).get_table_names() == ["shelf"]
    assert sa.inspect(second).get_table_names() == []
    first.dispose()
    second.dispose()


def test_a_dropped_database_is_gone_even_while_somebody_is_connected(
    backend: Backend, databases: TestDatabases, tmp_path: Path
) -> None:
    url = databases.create_empty(backend, folder=tmp_path)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        databases.drop(url)
        connection.invalidate()
    engine.dispose()
    assert list(tmp_path.iterdir()) == []
    if backend == "postgresql":
        with pytest.raises(sa.exc.OperationalError, match="does not exist"):
            engine.connect()


def test_a_migrated_database_has_tables_and_an_empty_one_has_none(new_database) -> None:
    migrated, empty = sa.create_engine(new_database()), sa.create_engine(new_database(empty=True))
    assert "orders" in sa.inspect(migrated).get_table_names()
    assert sa.inspect(empty).get_table_names() == []
    migrated.dispose()
    empty.dispose()


def test_a_finished_run_stops_its_server_and_removes_its_folder() -> None:
    owner, folder, server = _start_a_run()
    assert server.is_running()
    owner.communicate("", timeout=60)
    assert owner.returncode == 0
    server.wait(timeout=10)
    assert not folder.exists()


def test_a_run_killed_half_way_is_cleaned_up_by_the_next() -> None:
    owner, folder, server = _start_a_run()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert server.is_running(), "the server outlives its owner, that is the point of this test"
    remove_abandoned_runs()
    server.wait(timeout=10)
    assert not folder.exists()


def _start_a_run() -> tuple[subprocess.Popen[str], Path, psutil.Process]:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER_OF_A_RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    folder, server_pid = owner.stdout.readline().split()
    return owner, Path(folder), psutil.Process(int(server_pid))
