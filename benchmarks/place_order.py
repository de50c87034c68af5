"""How fast a three-line order is placed, every check on, beside the raw driver and django-oscar 4.

    python -m benchmarks.place_order [--url URL] [--processes N] [--orders N] [--out FILE.json]

- ours: `orders_core.services.place_order` through `Store.run`, on a copy of a seeded company (benchmarks/company.py)
- raw: the statements of the same orders, recorded once at the driver's cursor, replayed with the same parameters by
  sqlite3 or psycopg alone on another copy: the same rows, the same transactions, the same durability
- oscar: `OrderCreator.place_order` (benchmarks/oscar_shop.py) in an environment of its own, same database kind, same disk

CPU is the worker processes' own, start-up and ten orders of warm-up excluded; a statement is one execute or executemany
call of the driver's cursor, BEGIN and COMMIT left out. Without `--url` both a temporary SQLite file and a temporary
PostgreSQL server are measured. With `--url` the company is seeded there and everything runs on copies beside it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, event, text

from benchmarks.common import (
    PROJECT,
    Address,
    Databases,
    Figure,
    Speed,
    database_urls,
    paced,
    record,
    run_workers,
    whole_run,
    write_json,
)
from benchmarks.company import CLERK, Company, load_company, seed_company
from benchmarks.oversell import sell_out, units_oversold
from orders_core.services.place_order import place_order
from orders_core.store import schema
from orders_core.store.uow import Store

PROCESSES = (1, 8, 32)
SKUS, CUSTOMERS = 3000, 200
WARM_UP_ORDERS = 10
OSCAR = ("django-oscar>=4,<5", "psycopg[binary]>=3.3,<3.4")
OSCAR_FOLDER = PROJECT / ".venv-oscar"
SPREADS = {"3,000 SKUs": False, "one hot SKU": True}
_TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK")


@dataclass(frozen=True)
class Call:
    """One call of a driver's cursor. `is_aside`: on another connection, in a transaction of its own (id blocks)."""

    is_many: bool
    statement: str
    parameters: Any
    is_aside: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="SQLite or PostgreSQL; default: a temporary one of each")
    parser.add_argument("--processes", type=int, help="only this many worker processes; default 1, 8 and 32")
    parser.add_argument("--orders", type=int, default=960, help="orders per measurement (default 960)")
    parser.add_argument("--oscar-orders", type=int, default=160, help="orders per measurement of django-oscar")
    parser.add_argument("--data", help="not needed: the company is made up with a fixed seed")
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--record", action="store_true", help="also write them to benchmarks/RESULTS.md")
    asked = parser.parse_args()
    counts = PROCESSES if asked.processes is None else (asked.processes,)
    console = Console(width=None if sys.stdout.isatty() else 130)
    oscar = _oscar_python(console)
    figures: dict[str, dict[str, Any]] = {}
    with database_urls(asked.url) as urls:
        for url in urls:
            with Databases(url) as databases:
                console.print(f"measuring on {databases.kind} …")
                figures[databases.kind] = measure(
                    databases, process_counts=counts, orders=asked.orders, oscar_orders=asked.oscar_orders, oscar=oscar
                )
    first = next(iter(figures.values()))
    result = {key: value for key, value in first.items() if key != "runs"} | figures | whole_run()
    for kind, figure in figures.items():
        _print(console, kind, figure)
    console.print(f"{result['wall_seconds']} s wall, {result['cpu_seconds']} CPU-s, peak {result['peak_mb']} MB")
    write_json(asked.out, result)
    if asked.record:
        for kind, figure in figures.items():
            record(f"place_order on {kind}", _figures(figure))
    return int(any(figure["oversold"] or figure["deadlocks"] for figure in figures.values()))


def measure(
    databases: Databases,
    *,
    process_counts: Sequence[int],
    orders: int,
    oscar_orders: int,
    oscar: Path | None,
    sku_count: int = SKUS,
) -> dict[str, Any]:
    """Every figure of one database; the headline ones are of the first process count over 3,000 SKUs."""
    company = seed(databases.url, sku_count=sku_count)
    oscar_url = _seed_oscar(databases, oscar) if oscar else None
    deadlocks = oversold = 0
    runs: list[dict[str, Any]] = []
    statements: dict[str, float] = {}
    for spread, is_hot in SPREADS.items():
        warm_up = WARM_UP_ORDERS * max(process_counts)
        with recorded(databases, company, orders=orders, warm_up=warm_up, is_hot=is_hot) as traces:
            statements |= {} if statements else statements_per_order(traces)
            for processes in process_counts:
                run: dict[str, Any] = {"spread": spread, "processes": processes}
                ours, lost, locked = _run_ours(databases, company, processes, orders, is_hot=is_hot)
                oversold, deadlocks = oversold + lost, deadlocks + locked
                run["ours"] = ours.as_dict()
                run["raw"] = _run_raw(databases, traces, processes).as_dict()
                if oscar and oscar_url:
                    run["oscar"] = _run_oscar(databases, oscar, oscar_url, processes, oscar_orders, is_hot=is_hot)
                runs.append(run)
    fight = databases.create("sellout")
    sold_out = sell_out(fight, units=200, attempts=400, processes=8)
    oversold, deadlocks = oversold + sold_out["oversold"], deadlocks + databases.deadlocks(fight)
    head = runs[0]
    oscar_ran = head.get("oscar", {})
    return {
        "database": databases.kind,
        "processes": head["processes"],
        "orders_per_second": head["ours"]["per_second"],
        "cpu_ms_per_order": head["ours"]["cpu_ms_each"],
        **statements,
        "raw_orders_per_second": head["raw"]["per_second"],
        "raw_cpu_ms_per_order": head["raw"]["cpu_ms_each"],
        "of_raw": round(head["ours"]["per_second"] / head["raw"]["per_second"], 3),
        "oscar_orders_per_second": oscar_ran.get("per_second"),
        "oscar_cpu_ms_per_order": oscar_ran.get("cpu_ms_each"),
        "oscar_checkout_cpu_ms_per_order": oscar_ran.get("checkout_cpu_ms_each"),
        "oscar_statements_per_order": oscar_ran.get("statements"),
        "oscar_cpu_ratio": _ratio(oscar_ran.get("cpu_ms_each"), head["ours"]["cpu_ms_each"]),
        "oscar_speed_ratio": _ratio(head["ours"]["per_second"], oscar_ran.get("per_second")),
        "oversold": oversold,
        "deadlocks": deadlocks,
        "sell_out": sold_out,
        "runs": runs,
    }


def _ratio(over: float | None, under: float | None) -> float | None:
    return round(over / under, 2) if over is not None and under else None


def seed(url: str, *, sku_count: int = SKUS) -> Company:
    schema.upgrade(url)
    with closing(Store.open(url)) as store:
        company = seed_company(store, sku_count=sku_count, customer_count=CUSTOMERS)
        if store.engine.dialect.name == "postgresql":
            with store.engine.begin() as conn:  # autovacuum would get round to it in a minute
                conn.execute(text("ANALYZE"))
    return company


# --- ours ---------------------------------------------------------------------------------------------------------


def _run_ours(
    databases: Databases, company: Company, processes: int, orders: int, *, is_hot: bool
) -> tuple[Speed, int, int]:
    """Speed, units promised beyond stock, deadlocks."""
    url = databases.copy(databases.url, "ours")
    share = max(1, orders // processes)
    jobs = [[url, f"w{worker}", share, is_hot] for worker in range(processes)]
    speed = Speed.of(run_workers(_place, jobs))
    found = speed, units_oversold(url), databases.deadlocks(url)
    databases.drop(url)
    return found


def _place(gate: Any, url: str, worker: str, count: int, is_hot: bool) -> Any:
    with closing(Store.open(url)) as store:
        stream = load_company(store).orders(worker, key=worker, is_hot=is_hot)
        for _ in range(WARM_UP_ORDERS):
            store.run(place_order, CLERK, stream.next())
        commands = [stream.next() for _ in range(count)]
        with paced(gate) as pace:
            for command in commands:
                store.run(place_order, CLERK, command)
            pace.done = count
        return pace


# --- the same statements on the raw driver ------------------------------------------------------------------------


@contextmanager
def recorded(databases: Databases, company: Company, *, orders: int, warm_up: int, is_hot: bool) -> Iterator[Path]:
    """A file with the statements of `orders` orders, as the driver got them; those of the warm-up have numbers < 0."""
    url = databases.copy(databases.url, "record")
    calls: list[tuple[int, Call]] = []
    with closing(Store.open(url)) as store:
        _listen(store.engine, calls)
        with store.reading():  # what a new connection says first is no part of an order
            pass
        stream = company.orders("record", key="record", is_hot=is_hot)
        traces = []
        for number in range(-warm_up, orders):
            calls.clear()
            store.run(place_order, CLERK, stream.next())
            main = calls[-1][0]  # what was collected is written last, just before the commit
            trace = [
                Call(call.is_many, call.statement, call.parameters, is_aside=connection != main)
                for connection, call in calls
                if not call.statement.lstrip().upper().startswith(_TRANSACTION_CONTROL)
            ]
            traces.append((number, trace))
    databases.drop(url)
    with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
        pickle.dump(traces, file)
        file.flush()
        yield Path(file.name)


def _listen(engine: Engine, calls: list[tuple[int, Call]]) -> None:
    """Have every connection made from now on tell `calls` what its cursors are asked to do."""

    def note(cursor: Any, is_many: bool, statement: Any, parameters: Any) -> None:
        calls.append((id(cursor.connection), Call(is_many, str(statement), parameters)))

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
        if engine.dialect.name == "sqlite":
            keywords["factory"] = _listening_sqlite(note)
        else:
            keywords["cursor_factory"] = _listening_psycopg(note)


def _listening_sqlite(note: Any) -> type[sqlite3.Connection]:
    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, parameters: Any = ()) -> Any:
            note(self, False, statement, parameters)
            return super().execute(statement, parameters)

        def executemany(self, statement: str, parameters: Any) -> Any:
            note(self, True, statement, parameters)
            return super().executemany(statement, parameters)

    class Connection(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:  # type: ignore[override]
            return super().cursor(Cursor)

    return Connection


def _listening_psycopg(note: Any) -> Any:
    import psycopg

    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **keywords: Any) -> Any:
            note(self, False, query, params)
            return super().execute(query, params, **keywords)

        def executemany(self, query: Any, params_seq: Any, **keywords: Any) -> Any:
            note(self, True, query, params_seq)
            return super().executemany(query, params_seq, **keywords)

    return Cursor


def statements_per_order(traces: Path) -> dict[str, float]:
    counts = [len(trace) for number, trace in pickle.loads(traces.read_bytes()) if number >= 0]
    return {
        "statements_per_order": round(sum(counts) / len(counts), 2),
        "most_statements_of_an_order": max(counts),
    }


def _run_raw(databases: Databases, traces: Path, processes: int) -> Speed:
    url = databases.copy(databases.url, "raw")
    speed = replay(url, traces, processes)
    databases.drop(url)
    return speed


def replay(url: str, traces: Path, processes: int) -> Speed:
    """Run the recorded statements on a copy of the database they were recorded on, shared over `processes`."""
    jobs = [[url, str(traces), worker, processes] for worker in range(processes)]
    return Speed.of(run_workers(_replay, jobs))


def _replay(gate: Any, url: str, traces: str, worker: int, workers: int) -> Any:
    recorded = pickle.loads(Path(traces).read_bytes())
    mine = [(number, trace) for number, trace in recorded if number % workers == worker]
    with closing(_raw_connection(url)) as connection:
        is_sqlite = isinstance(connection, sqlite3.Connection)
        for trace in [trace for number, trace in mine if number < 0][:WARM_UP_ORDERS]:
            _replay_order(connection, trace, is_sqlite=is_sqlite)
        timed = [trace for number, trace in mine if number >= 0]
        with paced(gate) as pace:
            for trace in timed:
                _replay_order(connection, trace, is_sqlite=is_sqlite)
            pace.done = len(timed)
    return pace


def _raw_connection(url: str) -> Any:
    """As orders_core.store.uow.make_engine sets it up."""
    address = Address.of(url)
    if address.is_sqlite:
        connection = sqlite3.connect(address.name, timeout=60, isolation_level=None)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-65536",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection
    import psycopg

    connection = psycopg.connect(**address.for_psycopg())
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


def _replay_order(connection: Any, trace: Sequence[Call], *, is_sqlite: bool) -> None:
    cursor = connection.cursor()
    for call in trace:
        if call.is_aside:
            cursor.execute(call.statement, call.parameters)
            cursor.fetchall()
            connection.commit()
    if is_sqlite:
        cursor.execute("BEGIN IMMEDIATE")
    for call in trace:
        if call.is_aside:
            continue
        if call.is_many:
            cursor.executemany(call.statement, call.parameters)
            continue
        cursor.execute(call.statement, call.parameters)
        if cursor.description is not None:
            cursor.fetchall()
    connection.commit()


# --- django-oscar -------------------------------------------------------------------------------------------------


def _oscar_python(console: Console) -> Path | None:
    """The interpreter of an environment with django-oscar, made on first use; None, and said so, when it can't be."""
    python, done = OSCAR_FOLDER / "bin" / "python", OSCAR_FOLDER / "installed.json"
    if done.exists() and json.loads(done.read_text()) == list(OSCAR):
        return python
    console.print(f"installing django-oscar into {OSCAR_FOLDER.name} (once) …")
    shutil.rmtree(OSCAR_FOLDER, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    install = (
        [str(uv), "pip", "install", "--quiet", "--system-certs", "--python", str(python), *OSCAR]
        if uv.exists()
        else [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *OSCAR]
    )
    try:
        subprocess.run([sys.executable, "-m", "venv", str(OSCAR_FOLDER)], check=True)
        subprocess.run(install, check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        console.print(f"django-oscar could not be installed, so it is left out: {error}")
        return None
    done.write_text(json.dumps(OSCAR))
    return python


def _oscar(python: Path, url: str, *arguments: str) -> dict[str, Any]:
    command = [str(python), "-m", "benchmarks.oscar_shop", url, *arguments]
    ran = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _seed_oscar(databases: Databases, python: Path) -> str:
    url = databases.create("oscar")
    _oscar(python, url, "seed", "--skus", str(SKUS), "--customers", str(CUSTOMERS))
    return url


def _run_oscar(
    databases: Databases, python: Path, template: str, processes: int, orders: int, *, is_hot: bool
) -> dict[str, Any]:
    url = databases.copy(template, "oscar")
    hot = ["--hot"] if is_hot else []
    found = _oscar(python, url, "run", "--processes", str(processes), "--orders", str(max(orders, processes)), *hot)
    databases.drop(url)
    return found


# --- words --------------------------------------------------------------------------------------------------------


def _figures(figure: dict[str, Any]) -> list[Figure]:
    def times(ratio: float | None) -> str:
        return "not measured" if ratio is None else f"{ratio} ×"

    oscar = f"django-oscar {figure['oscar_cpu_ms_per_order']}"
    checkout = f"its whole checkout {figure['oscar_checkout_cpu_ms_per_order']}"
    found = [
        Figure(
            "statements an order",
            f"{figure['statements_per_order']} (most {figure['most_statements_of_an_order']})",
            f"goal ≤ 14; django-oscar {figure['oscar_statements_per_order']}",
        ),
        Figure(
            "CPU-ms an order",
            f"{figure['cpu_ms_per_order']}",
            f"goal ≤ 3, better ≤ 2; raw driver {figure['raw_cpu_ms_per_order']}; {oscar} ({checkout})",
        ),
        Figure(
            f"orders a second, processes: {figure['processes']}",
            f"{figure['orders_per_second']}",
            f"raw driver {figure['raw_orders_per_second']}; django-oscar {figure['oscar_orders_per_second']}",
        ),
        Figure("of the raw driver's speed", times(figure["of_raw"]), "goal ≥ 0.4 ×"),
        Figure("times django-oscar, CPU", times(figure["oscar_cpu_ratio"]), "goal ≥ 4 ×, better ≥ 6 ×"),
        Figure("times django-oscar, orders a second", times(figure["oscar_speed_ratio"]), "goal ≥ 4 ×, better ≥ 6 ×"),
        Figure("units oversold", f"{figure['oversold']}", "0"),
        Figure("deadlocks", f"{figure['deadlocks']}", "0"),
    ]
    for run in figure["runs"]:
        oscar = run.get("oscar", {}).get("per_second", "–")
        found.append(
            Figure(
                f"orders a second, {run['processes']} processes, {run['spread']}",
                f"{run['ours']['per_second']} ({run['ours']['cpu_ms_each']} CPU-ms, {run['ours']['peak_mb']} MB)",
                f"raw driver {run['raw']['per_second']}; django-oscar {oscar}",
            )
        )
    return found


def _print(console: Console, kind: str, figure: dict[str, Any]) -> None:
    table = Table("what", "measured", "held against", title=f"A three-line order on {kind}")
    for line in _figures(figure):
        table.add_row(line.name, line.measured, line.reference)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
