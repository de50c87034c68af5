"""Reading the published warehouse: one question, one whole generation, never a lock on the writer.

The link is resolved for each question and that file is attached read-only to a fresh in-memory connection, so a reader
always sees one complete generation, also while the next one is being swapped in, and never an old one from a cache.

Beside DuckDB's own lock a reader holds a shared `flock` on the file: DuckDB's is the process's, and gone as soon as any
reader of the same process closes the file. The run that takes an old generation to build on asks for the other one.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl

from pipelines.sql import literal
from pipelines.warehouse.contract import Table, contract_hash
from pipelines.warehouse.errors import (
    ColumnsDiffer,
    ContractDiffers,
    WarehouseError,
    WarehouseMissing,
    WarehouseUnreadable,
)
from pipelines.warehouse.publish import live_generation, live_link
from pipelines.warehouse.tables import TABLES, table

Parameters = Sequence[object] | Mapping[str, object]
FRAME_TYPES: dict[str, pl.DataType] = {
    "VARCHAR": pl.String(),
    "BIGINT": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "DATE": pl.Date(),
    "BOOLEAN": pl.Boolean(),
    "TIMESTAMP WITH TIME ZONE": pl.Datetime("us", "UTC"),
    "VARCHAR[]": pl.List(pl.String()),
}
"""DuckDB type of a declared column -> what a reader's frame has."""


def frame_schema(table: Table) -> dict[str, pl.DataType]:
    """The columns of `table` as a Polars frame has them, in declared order.

    Instants are microseconds in UTC. Example: {"sku": String, "on_hand_qty": Int64, "moved_at": Datetime("us", "UTC")}.
    """
    return {column.name: FRAME_TYPES[column.type] for column in table.columns}


@dataclass(frozen=True)
class Publication:
    """Which generation answers, what it knows, and since when it is there.

    Attributes:
        generation: Its number; grows with each publication.
        run_id: The run that built it.
        as_of_date: Last business day whose facts it knows.
        business_zone: IANA zone of its business days.
        published_at: Instant it was published, UTC.
        contract_hash: Fingerprint of the contract it was checked against.
    """

    generation: int
    run_id: str
    as_of_date: date
    business_zone: str
    published_at: datetime
    contract_hash: str


@dataclass(frozen=True)
class LiveWarehouse:
    """One attached generation: ask it as many questions as belong together."""

    con: duckdb.DuckDBPyConnection
    path: Path

    def query(self, sql: str, params: Parameters = ()) -> pl.DataFrame:
        """Rows of `sql` as a Polars frame; values go in `params`, never into the text."""
        return self.con.execute(sql, params or None).pl()

    def table(self, full_name: str) -> pl.DataFrame:
        """A whole declared table, such as "mart.reorder_suggestion", sorted by its key.

        Its columns and their types are those of the contract (`frame_schema`), whatever generation answers.

        Raises:
            ColumnsDiffer: The live generation is of an older contract and lacks columns.
        """
        declared = table(full_name)
        there = [str(row[0]) for row in self.con.execute(f"DESCRIBE {declared.full_name}").fetchall()]
        missing = [name for name in declared.column_names if name not in there]
        if missing:
            raise ColumnsDiffer(table=full_name, missing=missing, unknown=[])
        columns, key = (", ".join(f'"{name}"' for name in names) for names in (declared.column_names, declared.key))
        rows = self.query(f"SELECT {columns} FROM {declared.full_name} ORDER BY {key}")
        return rows.cast(pl.Schema(frame_schema(declared)))

    def publication(self, of: str | None = None) -> Publication:
        """What this generation is; with a table's name, of which day and moment that table is.

        A refresh leaves the tables of the daily run as they are: they are of its day, however new the generation is.
        """
        row = self.query(
            "SELECT * EXCLUDE (published_at), epoch_us(published_at) AS published_us FROM meta.publication"
        ).row(0, named=True)
        if of is not None:
            built = self.query(
                """
                SELECT p.run_id, p.as_of_date, epoch_us(p.planned_at) AS published_us
                FROM meta.table_rows t JOIN meta.plan_day p ON p.run_id = t.built_by_run_id
                WHERE t.table_name = ? AND p.planned_at IS NOT NULL ORDER BY p.as_of_date DESC LIMIT 1""",
                [of],
            ).to_dicts()
            row |= built[0] if built else {}
        published_at = datetime.fromtimestamp(row.pop("published_us") / 1_000_000, tz=UTC)
        return Publication(published_at=published_at, **row)


@contextmanager
def live_warehouse(warehouse_dir: Path) -> Iterator[LiveWarehouse]:
    """The live generation, attached read-only for as long as the `with` lasts.

    Raises:
        WarehouseMissing: Nothing was published yet.
        WarehouseUnreadable: The file is damaged, found now or by a question inside the `with`.
        ContractDiffers: It was built under another contract and lacks what a question inside the `with` names.
    """
    with duckdb.connect(":memory:") as con:
        path, descriptor = _attach_live(con, warehouse_dir)
        try:
            con.execute("USE warehouse")
            yield LiveWarehouse(con, path)
        except duckdb.IOException as error:  # a block that does not have its checksum, or is not there at all
            raise _unreadable(path, error) from error
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            named = _of_another_contract(con, path)
            if named is None:
                raise
            raise named from error
        finally:
            con.close()  # before the descriptor: closing that drops the lock DuckDB has on the file
            os.close(descriptor)


def query(warehouse_dir: Path, sql: str, params: Parameters = ()) -> pl.DataFrame:
    """One question to the live generation.

    Raises:
        WarehouseMissing, WarehouseUnreadable: See `live_warehouse`.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        return warehouse.query(sql, params)


def publication(warehouse_dir: Path) -> Publication:
    """What is live now.

    Raises:
        WarehouseMissing, WarehouseUnreadable: See `live_warehouse`.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        return warehouse.publication()


def _attach_live(con: duckdb.DuckDBPyConnection, warehouse_dir: Path) -> tuple[Path, int]:
    """Attach the live generation; returns its path and the descriptor that says somebody reads it."""
    path = live_generation(warehouse_dir)
    while path is not None:
        try:
            return path, _attach(con, path, "warehouse")
        except (OSError, duckdb.IOException) as error:
            # Between reading the link and opening the file several publications may have swept it away, or a run may
            # build on it: follow the link again, but only if it has moved.
            newer = live_generation(warehouse_dir)
            if newer == path and path.exists():
                raise _unreadable(path, error) from error
            path = newer if newer != path else None
    raise WarehouseMissing(link=str(live_link(warehouse_dir)))


@contextmanager
def attached(con: duckdb.DuckDBPyConnection, generation: Path, catalog: str) -> Iterator[None]:
    """One generation, live or not, as `catalog` of `con`, read-only for as long as the `with` lasts.

    Raises:
        OSError, duckdb.Error: It is not there, a run builds on it, or it is damaged.
    """
    descriptor = _attach(con, generation, catalog)
    try:
        yield
    finally:
        try:
            con.execute(f"DETACH {catalog}")
        finally:
            os.close(descriptor)


def _attach(con: duckdb.DuckDBPyConnection, generation: Path, catalog: str) -> int:
    """Attach; returns the descriptor that says somebody reads it, to be closed after the catalog: it drops DuckDB's lock."""
    descriptor = os.open(generation, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        con.execute(f"ATTACH {literal(str(generation))} AS {catalog} (READ_ONLY)")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _of_another_contract(con: duckdb.DuckDBPyConnection, path: Path) -> WarehouseError | None:
    """What to say of a question that named something not there; None when the question itself is wrong."""
    try:
        found, generation = con.execute("SELECT contract_hash, generation FROM meta.publication").fetchall()[0]
    except duckdb.IOException as error:
        return _unreadable(path, error)
    today = contract_hash(TABLES)
    return None if found == today else ContractDiffers(generation=generation, found=found, expected=today)


def _unreadable(path: Path, error: Exception) -> WarehouseUnreadable:
    return WarehouseUnreadable(path=str(path), reason=str(error))
