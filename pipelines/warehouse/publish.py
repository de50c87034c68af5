"""A new generation of the warehouse: built aside, checked, made durable, then swapped in with one rename.

    warehouse/                          the folder: `warehouse_dir`
      .lock                             held by the one run that writes
      building-RUN.duckdb               a generation being built; nobody reads it
      generation-000042.duckdb          complete, never written again
    warehouse.duckdb                    link to the live generation, beside the folder

Every file name is used once. DuckDB gives a process the old content when it reopens a path it still holds, and replays
a stale `.wal` into a new file of the same name; neither can happen to a name that never comes back.
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from pipelines.sql import literal
from pipelines.warehouse.contract import Table, Violation, contract_hash, examples_sql, violations_sql
from pipelines.warehouse.errors import BuildFailed, ChecksFailed, WarehouseLocked
from pipelines.warehouse.write import count_rows

GENERATION_NAME = re.compile(r"generation-(\d{6,})\.duckdb")


@dataclass(frozen=True)
class Published:
    """The generation that has just gone live."""

    generation: int
    path: Path
    row_counts: dict[str, int]


def live_link(warehouse_dir: Path) -> Path:
    """Where the link to the live generation is: beside the folder, with its name and `.duckdb`."""
    return warehouse_dir.parent / f"{warehouse_dir.name}.duckdb"


def live_generation(warehouse_dir: Path) -> Path | None:
    """The file the link leads to now, or None when nothing was ever published."""
    link = live_link(warehouse_dir)
    try:
        return link.parent / link.readlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return link  # no link: somebody copied the house with a tool that follows links, and this is the file itself


def generations(warehouse_dir: Path) -> list[tuple[int, Path]]:
    """Every complete generation on disk with its number, oldest first."""
    found = [(GENERATION_NAME.fullmatch(path.name), path) for path in warehouse_dir.glob("generation-*.duckdb")]
    return sorted((int(match[1]), path) for match, path in found if match)


@contextmanager
def run_lock(warehouse_dir: Path, *, run_id: str) -> Iterator[None]:
    """Be the only run that writes to `warehouse_dir`; the system frees the lock even after kill -9.

    Raises:
        WarehouseLocked: Another run holds it; the error names that run.
        BuildFailed: The folder can't be written to.
    """
    try:
        warehouse_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(warehouse_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BuildFailed(path=str(warehouse_dir), reason=str(error)) from error
    try:
        _take_lock(warehouse_dir, descriptor, run_id)
        yield
    finally:
        os.close(descriptor)


def _take_lock(warehouse_dir: Path, descriptor: int, run_id: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"run {run_id}, process {os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        raise WarehouseLocked(folder=str(warehouse_dir), holder=holder or "unknown") from None
    except OSError as error:  # a disk so full that the few words of the lock have no room
        raise BuildFailed(path=str(warehouse_dir / ".lock"), reason=str(error)) from error


def spare_generation(warehouse_dir: Path, *, keep: int) -> Path | None:
    """The oldest generation, if the next one may be built on it: beyond the `keep` that stay, and older than the live one.

    A run that fails costs the generation it began on. One more than `keep` lies there for that; after a failure there is
    none to spare until the next publication.
    """
    there = generations(warehouse_dir)
    live = live_generation(warehouse_dir)
    live_number = next((number for number, path in there if path == live), 0)
    return there[0][1] if len(there) > max(keep, 1) and there[0][0] < live_number else None


def start_generation(
    warehouse_dir: Path, *, run_id: str, copy_of: Path | None = None, spare: Path | None = None
) -> Path:
    """The path a new generation is built at. Sweeps what dead runs left.

    What lies there is `spare` itself, renamed, unless somebody reads it; else a copy of `copy_of`; else nothing yet.
    Call it inside `run_lock`: only then is every other `building-` file known to be dead.

    Raises:
        BuildFailed: The disk has no room for the copy.
    """
    path = warehouse_dir / f"building-{run_id}.duckdb"
    try:
        for leftover in warehouse_dir.glob("building-*"):
            _remove(leftover)
        if (spare is None or not _take(spare, path)) and copy_of is not None:
            shutil.copyfile(copy_of, path)
    except OSError as error:
        remove_build(path)
        raise BuildFailed(path=str(path), reason=str(error)) from error
    return path


def _take(generation: Path, building: Path) -> bool:
    """Rename `generation` to `building`; False, and nothing changed, when somebody reads it.

    Nobody can begin to read it after the rename: a reader attaches it by its name, and that never comes back.
    """
    descriptor = os.open(generation, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        generation.rename(building)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    try:
        duckdb.connect(str(building)).close()
    except duckdb.Error:  # another program reads it, which knows only DuckDB's lock; or it is damaged
        building.rename(generation)
        return False
    return True


def find_violations(con: duckdb.DuckDBPyConnection, tables: Sequence[Table]) -> list[Violation]:
    """Every promise of `tables` that the rows in `con` break, with examples; empty when all is well."""
    violations = []
    for table in tables:
        for rule, rows in con.execute(violations_sql(table)).fetchall():
            found = con.execute(examples_sql(table, rule))
            names = [column[0] for column in found.description or ()]
            examples = tuple(
                ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True)) for row in found.fetchall()
            )
            violations.append(Violation(table.full_name, str(rule), int(rows), examples))
    return violations


def refuse_violations(violations: Sequence[Violation]) -> None:
    """Stop a build that breaks its contract.

    Raises:
        ChecksFailed: There are violations; the error names the first five and holds them all.
    """
    if violations:
        summary = "; ".join(str(violation) for violation in violations[:5])
        raise ChecksFailed(summary=summary, violations=violations)


def publish_generation(
    warehouse_dir: Path,
    building: Path,
    *,
    tables: Sequence[Table],
    run_id: str,
    as_of_date: date,
    business_zone: str,
    published_at: datetime,
    keep: int = 5,
    is_checked: bool = False,
    left_alone: Collection[str] = (),
) -> Published:
    """Check the generation at `building`, make it durable and let the link lead to it.

    Readers see the old generation until the rename and the new one after it, nothing between.

    Args:
        warehouse_dir: The folder of generations, locked by the caller.
        building: From `start_generation`; no connection may still hold it.
        tables: What the generation promises to contain.
        run_id, as_of_date, business_zone, published_at: Written to `meta.publication`.
        keep: Generations left on disk, the live one included; and one more, to spare.
        left_alone: Tables this run did not build: who built them stays as it stands in `meta.table_rows`.
        is_checked: The caller has held the rows against the contract already (`find_violations`, `refuse_violations`).

    Raises:
        ChecksFailed: Rows break a promise. The building file is removed, the old generation stays live.
        BuildFailed: DuckDB or the disk refused. Same consequence.
    """
    number = max((number for number, _ in generations(warehouse_dir)), default=0) + 1
    final = warehouse_dir / f"generation-{number:06d}.duckdb"
    try:
        with duckdb.connect(str(building)) as con:
            row_counts = _stamp(con, tables, number, run_id, as_of_date, business_zone, published_at, left_alone)
            if not is_checked:
                refuse_violations(find_violations(con, tables))
            con.execute("CHECKPOINT")
        _assert_no_wal(building)
        _fsync(building)
        building.rename(final)
        _fsync(warehouse_dir)
        swap_link(warehouse_dir, final)
    except (duckdb.Error, OSError) as error:
        _remove_unpublished(warehouse_dir, building, final)
        raise BuildFailed(path=str(building), reason=str(error)) from error
    except BaseException:
        _remove_unpublished(warehouse_dir, building, final)
        raise
    _sweep(warehouse_dir, keep=keep, live=final)
    return Published(number, final, row_counts)


def _stamp(
    con: duckdb.DuckDBPyConnection,
    tables: Sequence[Table],
    number: int,
    run_id: str,
    as_of_date: date,
    business_zone: str,
    published_at: datetime,
    left_alone: Collection[str],
) -> dict[str, int]:
    row_counts = {table.full_name: count_rows(con, table) for table in tables if table.schema != "meta"}
    con.execute("DELETE FROM meta.publication")
    run, moment = literal(run_id), f"{literal(published_at.isoformat())}::TIMESTAMPTZ"
    con.execute(
        f"INSERT INTO meta.publication BY NAME SELECT {number} AS generation, {run} AS run_id, "
        f"{literal(as_of_date)} AS as_of_date, {literal(business_zone)} AS business_zone, {moment} AS published_at, "
        f"{literal(contract_hash(tables))} AS contract_hash"
    )
    con.execute(f"UPDATE meta.plan_day SET planned_at = {moment} WHERE run_id = {run}")
    builders = dict(con.execute("SELECT table_name, built_by_run_id FROM meta.table_rows").fetchall())
    con.execute("DELETE FROM meta.table_rows")
    rows = []
    for name, count in row_counts.items():
        built_by = builders.get(name) if name in left_alone else run_id
        rows.append(f"({literal(name)}, {count}, {literal(built_by) if built_by else 'NULL'})")
    con.execute(f"INSERT INTO meta.table_rows VALUES {', '.join(rows)}")
    return row_counts


def _assert_no_wal(path: Path) -> None:
    wal = path.with_name(path.name + ".wal")
    if wal.exists():
        raise BuildFailed(path=str(path), reason=f"{wal.name} is still there after CHECKPOINT and close")


def swap_link(warehouse_dir: Path, target: Path) -> None:
    """Let the link lead to `target`, durably: readers see the one or the other generation."""
    link = live_link(warehouse_dir)
    new_link = warehouse_dir / "building-link"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(Path(warehouse_dir.name) / target.name)  # relative to the link's folder: the house can move
    new_link.replace(link)
    _fsync(link.parent)


def _sweep(warehouse_dir: Path, *, keep: int, live: Path) -> None:
    for _, path in generations(warehouse_dir)[: -max(keep, 1) - 1]:  # one to spare
        if path != live:
            path.unlink(missing_ok=True)


def _remove_unpublished(warehouse_dir: Path, building: Path, final: Path) -> None:
    """Also what has its final name already, unless the link leads there: night after night they would fill the disk."""
    remove_build(building)
    (warehouse_dir / "building-link").unlink(missing_ok=True)
    if live_generation(warehouse_dir) != final:
        final.unlink(missing_ok=True)


def remove_build(building: Path) -> None:
    """Take away an unfinished generation with all that DuckDB laid beside it; nothing happens when there is none."""
    for path in building.parent.glob(building.name + "*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)  # DuckDB's spill folder
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
