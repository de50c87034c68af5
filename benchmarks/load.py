"""How fast the warehouse is loaded: all of it, and what changed since, beside a plain copy of the same tables by DuckDB.

    python -m benchmarks.load [--url URL] [--lines N] [--changes N] [--out FILE.json] [--record]

- plain copy: DuckDB attaches the database and says CREATE TABLE AS SELECT * for each table that the loader reads, into a
  new file; the faster of two
- full load: `pipelines.extract` into an empty generation, totals of every business day compared
- incremental publish: `pipelines.daily.run_refresh` after `--changes` order lines were placed, edited, shipped, delivered
  or paid; again with a tenth of the history, because it should cost by the change. Six small refreshes go before, so that
  what is measured is a refresh among others, built on the oldest generation to spare.

Three years of trade are written first (benchmarks/three_years.py). The first generation is modelled without forecasting:
that is measured elsewhere. Each measurement is a process of its own; its memory is the larger of the process and the
child it reads in, a PostgreSQL server's not counted. Without `--url` a temporary SQLite file and a temporary PostgreSQL
are measured; with it the database must be empty, and a second one is made beside it.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import three_years
from benchmarks.common import (
    Databases,
    Figure,
    database_urls,
    peak_mb,
    record,
    run_workers,
    whole_run,
    write_json,
)

LINES, CHANGES = 5_000_000, 10_000
WARM_UPS, WARM_UP_CHANGES = 6, 100
_NOW = datetime.combine(three_years.LAST_DAY, datetime.min.time(), UTC) + timedelta(hours=15)  # 23:00 in Shanghai


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an empty SQLite or PostgreSQL database; default: a temporary one of each")
    parser.add_argument("--lines", type=int, default=LINES, help=f"order lines of history (default {LINES:,})")
    parser.add_argument("--changes", type=int, default=CHANGES, help=f"order lines to change (default {CHANGES:,})")
    parser.add_argument("--data", help="not needed: the trade is made up with a fixed seed")
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--record", action="store_true", help="also write them to benchmarks/RESULTS.md")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)
    figures: dict[str, dict[str, Any]] = {}
    with database_urls(asked.url) as urls:
        for url in urls:
            with Databases(url) as databases:
                console.print(f"measuring on {databases.kind} …")
                figures[databases.kind] = measure(
                    databases, lines=asked.lines, changes=asked.changes, tell=console.print
                )
    result = next(iter(figures.values())) | figures | whole_run()
    for kind, figure in figures.items():
        _print(console, kind, figure)
    write_json(asked.out, result)
    if asked.record:
        for kind, figure in figures.items():
            record(f"load on {kind}", _figures(figure))
    return int(any(figure["full_ratio"] > 1.5 for figure in figures.values()))


def measure(databases: Databases, *, lines: int, changes: int, tell: Any = lambda text: None) -> dict[str, Any]:
    """Every figure of one database."""
    written = _alone(_write, databases.url, lines)
    tell(f"  {written['lines']:,} lines of {written['orders']:,} orders written in {written['seconds']:.0f} s")
    with _folder() as folder:
        plain = min((_alone(_plain_copy, databases.url, folder) for _ in range(2)), key=lambda copy: copy["seconds"])
    tell(f"  plain copy {plain['seconds']:.1f} s")
    whole = _publish(databases.url, changes, tell)
    small_url = databases.create("tenth")
    _alone(_write, small_url, max(lines // 10, 1))
    tell("  with a tenth of the history:")
    tenth = _publish(small_url, changes, tell)
    databases.drop(small_url)
    return {
        "database": databases.kind,
        "lines": written["lines"],
        "changes": whole["changed_lines"],
        "generate_seconds": round(written["seconds"], 1),
        "plain_copy_seconds": round(plain["seconds"], 2),
        "plain_copy_cpu_seconds": round(plain["cpu_seconds"], 2),
        "plain_copy_mb": plain["size_mb"],
        "full_seconds": round(whole["first"]["load_seconds"], 2),
        "full_cpu_seconds": round(whole["first"]["load_cpu_seconds"], 2),
        "full_ratio": round(whole["first"]["load_seconds"] / plain["seconds"], 3),
        "model_seconds": round(whole["first"]["model_seconds"], 2),
        "incremental_seconds": round(whole["refresh"]["seconds"], 2),
        "incremental_cpu_seconds": round(whole["refresh"]["cpu_seconds"], 2),
        "incremental_steps": whole["refresh"]["steps"],
        "incremental_seconds_tenth": round(tenth["refresh"]["seconds"], 2),
        "incremental_steps_tenth": tenth["refresh"]["steps"],
        "history_ratio": round(whole["refresh"]["seconds"] / tenth["refresh"]["seconds"], 2),
        "history_cpu_ratio": round(whole["refresh"]["cpu_seconds"] / tenth["refresh"]["cpu_seconds"], 2),
        "load_peak_mb": round(whole["first"]["load_peak_mb"], 1),
        "model_peak_mb": round(whole["first"]["peak_mb"], 1),
        "incremental_peak_mb": round(whole["refresh"]["peak_mb"], 1),
        "peak_mb": round(max(whole["first"]["load_peak_mb"], whole["first"]["peak_mb"], whole["refresh"]["peak_mb"]), 1),
    }  # fmt: skip


def _publish(url: str, changes: int, tell: Any) -> dict[str, Any]:
    """The first generation, then a refresh after `changes` lines were changed."""
    with _folder() as folder:
        warehouse = folder / "warehouse"
        first = _alone(_first_generation, url, warehouse)
        tell(f"  full load {first['load_seconds']:.1f} s, modelled in {first['model_seconds']:.1f} s")
        for round_no in range(WARM_UPS):
            _alone(_change, url, WARM_UP_CHANGES, round_no)
            _alone(_refresh, url, warehouse, f"warm-up-{round_no}")
        changed_lines = _alone(_change, url, changes, WARM_UPS)
        refresh = _alone(_refresh, url, warehouse, "measured")
        tell(f"  {changed_lines:,} changed lines published in {refresh['seconds']:.1f} s")
    return {"first": first, "refresh": refresh, "changed_lines": changed_lines}


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dinghuo-load-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _alone(work: Any, *arguments: Any) -> Any:
    """What `work` returns, run in a process of its own."""
    return run_workers(work, [arguments], method="spawn")[0]


class _Watch:
    """Seconds, and CPU seconds of this process and its children, since it was made."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.monotonic(), self._cpu()

    def _cpu(self) -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def cpu_seconds(self) -> float:
        return self._cpu() - self.cpu_started


def _peak_with_children_mb() -> float:
    return max(peak_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


# --- each in a process of its own ---------------------------------------------------------------------------------


def _write(_gate: Any, url: str, lines: int) -> dict[str, Any]:
    watch = _Watch()
    written = three_years.write_history(url, lines=lines)
    if not url.startswith("sqlite"):
        _vacuum(url)  # as a database that grew for three years would long have been
    return {"orders": written.orders, "lines": written.lines, "seconds": watch.seconds}


def _vacuum(url: str) -> None:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def _plain_copy(_gate: Any, url: str, folder: Path) -> dict[str, Any]:
    import duckdb

    from orders_core.store.read_models import source_columns

    copy = folder / "copy.duckdb"
    copy.unlink(missing_ok=True)
    watch = _Watch()
    with duckdb.connect(str(copy)) as con:
        con.execute("SET preserve_insertion_order = false")
        three_years.attach(con, url, read_only=True)
        is_sqlite = url.startswith("sqlite")
        for name in source_columns("sqlite" if is_sqlite else "postgres"):
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM source.{'main' if is_sqlite else 'public'}.{name}")
        con.execute("CHECKPOINT")
    return {
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "peak_mb": peak_mb(),
        "size_mb": copy.stat().st_size >> 20,
    }


def _first_generation(_gate: Any, url: str, warehouse: Path) -> dict[str, Any]:
    """Load everything, model everything but the forecast, check, publish."""
    from pipelines import daily
    from pipelines.model import MODELLED
    from pipelines.parts import Parts

    settings = daily.RunSettings(url, warehouse, three_years.LAST_DAY, three_years.ZONE, "first", full=True)
    with daily.building_generation(settings) as building:
        load = _Watch()
        daily.load(settings, building)
        load_seconds, load_cpu_seconds = load.seconds, load.cpu_seconds
        load_peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        model = _Watch()
        with daily.open_generation(building) as con:
            parts = Parts(con, None, daily.SOURCES)
            for modelled in MODELLED:
                parts.build(modelled, settings.known)
            parts.close()
        daily.publish(settings, building, _NOW)
    return {
        "load_seconds": load_seconds,
        "load_cpu_seconds": load_cpu_seconds,
        "load_peak_mb": load_peak_mb,
        "model_seconds": model.seconds,
        "peak_mb": _peak_with_children_mb(),
    }


def _refresh(_gate: Any, url: str, warehouse: Path, run_id: str) -> dict[str, Any]:
    from pipelines.daily import run_refresh

    watch = _Watch()
    report = run_refresh(
        url, warehouse, as_of=three_years.LAST_DAY, zone=three_years.ZONE, run_id=run_id, now=lambda: _NOW
    )
    if report.is_full_load:
        raise AssertionError("the refresh read everything")
    steps = {step.name: step.seconds for step in report.steps if step.seconds >= 0.05}
    return {
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "peak_mb": _peak_with_children_mb(),
        "steps": steps,
    }


def _change(_gate: Any, url: str, lines: int, round_no: int) -> int:
    return three_years.change(url, lines=lines, round_no=round_no)


# --- words --------------------------------------------------------------------------------------------------------


def _figures(figure: dict[str, Any]) -> Sequence[Figure]:
    plain = f"plain copy {figure['plain_copy_seconds']} s ({figure['plain_copy_cpu_seconds']} CPU-s)"
    full = f"{figure['full_seconds']} s ({figure['full_cpu_seconds']} CPU-s)"
    tenth = f"with a tenth of the history {figure['incremental_seconds_tenth']} s"
    return [
        Figure(f"full load of {figure['lines']:,} order lines", full, plain),
        Figure("of the plain copy's time", f"{figure['full_ratio']} ×", "goal ≤ 1.5 ×"),
        Figure(
            f"{figure['changes']:,} changed lines published",
            f"{figure['incremental_seconds']} s ({figure['incremental_cpu_seconds']} CPU-s)",
            "goal ≤ 5 s",
        ),
        Figure(
            "ten times more history",
            f"{figure['history_ratio']} × the time ({figure['history_cpu_ratio']} × the CPU)",
            f"goal ≤ 2 ×; {tenth}",
        ),
        Figure(
            "peak memory",
            f"{figure['peak_mb']} MB (load {figure['load_peak_mb']}, refresh {figure['incremental_peak_mb']})",
            "goal ≤ 3 GiB",
        ),
    ]


def _print(console: Console, kind: str, figure: dict[str, Any]) -> None:
    table = Table("what", "measured", "held against", title=f"Loading the warehouse from {kind}")
    for line in _figures(figure):
        table.add_row(line.name, line.measured, line.reference)
    console.print(table)
    for name in ("incremental_steps", "incremental_steps_tenth"):
        console.print(f"{name}: {figure[name]}")


if __name__ == "__main__":
    sys.exit(main())
