"""Writing a table of a generation that is being built: whole tables, by name, never a column more or less."""

from collections.abc import Sequence
from contextlib import suppress

import duckdb
import polars as pl

from pipelines.warehouse.contract import Table, create_sql
from pipelines.warehouse.errors import ColumnsDiffer


def create_tables(con: duckdb.DuckDBPyConnection, tables: Sequence[Table]) -> None:
    """Create every schema and table in an empty generation."""
    for statement in create_sql(tables):
        con.execute(statement)


def replace_with_frame(con: duckdb.DuckDBPyConnection, table: Table, frame: pl.DataFrame) -> int:
    """Make `frame` the whole content of `table`; returns its number of rows.

    Raises:
        ColumnsDiffer: `frame` lacks a declared column or brings an undeclared one. Nothing was changed.
    """
    same_columns(table, frame.columns)
    con.register("frame_to_write", frame.to_arrow())
    try:
        return replace_with_query(con, table, "SELECT * FROM frame_to_write")
    finally:
        con.unregister("frame_to_write")


def replace_with_query(con: duckdb.DuckDBPyConnection, table: Table, query: str) -> int:
    """Make the rows of `query` the whole content of `table`, sorted by its key; returns their number.

    Sorted, so that a rerun writes the same table and a reader who asks for one product touches few blocks.

    Raises:
        ColumnsDiffer: `query` lacks a declared column or brings an undeclared one. Nothing was changed.
    """
    same_columns(table, [str(row[0]) for row in con.execute(f"DESCRIBE {query}").fetchall()])
    order = ", ".join(f'"{name}"' for name in table.key)
    con.execute("BEGIN")
    try:
        con.execute(f"DELETE FROM {table.full_name}")
        con.execute(f"INSERT INTO {table.full_name} BY NAME SELECT * FROM ({query}) ORDER BY {order}")
        con.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.TransactionException):  # a full disk has ended the transaction already
            con.execute("ROLLBACK")
        raise
    return count_rows(con, table)


def count_rows(con: duckdb.DuckDBPyConnection, table: Table) -> int:
    """Rows in `table` now."""
    row = con.execute(f"SELECT count(*) FROM {table.full_name}").fetchone()
    return int(row[0]) if row else 0


def table_hash(con: duckdb.DuckDBPyConnection, table: Table) -> str:
    """A fingerprint of the rows of `table`, whatever their order: two equal tables have equal hashes."""
    columns = ", ".join(f"coalesce(\"{name}\"::VARCHAR, '␀')" for name in table.column_names)
    one_row = f"md5_number_lower(concat_ws('␟', {columns}))::HUGEINT"
    row = con.execute(f"SELECT count(*), coalesce(sum({one_row}), 0) FROM {table.full_name}").fetchone()
    rows, total = row or (0, 0)
    return f"{rows}:{total:x}"


def same_columns(table: Table, columns: Sequence[str]) -> None:
    """Check that `columns` are those that `table` declares, in any order.

    Raises:
        ColumnsDiffer: They are not.
    """
    missing = [name for name in table.column_names if name not in columns]
    unknown = [name for name in columns if name not in table.column_names]
    if missing or unknown:
        raise ColumnsDiffer(table=table.full_name, missing=missing, unknown=unknown)
