"""Backup and restore: `dinghuo backup FILE`, `dinghuo restore FILE`.

A backup is always one SQLite file with the core's own tables, whichever database it came from, and can be restored into
either: that is also the way from SQLite to PostgreSQL. From SQLite it is a page-for-page copy made while others work;
from PostgreSQL the rows of one snapshot, table by table (no pg_dump needed). The copy is checked before it gets its
name, so a file that is there is whole and on the disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from orders_core.errors import AlreadyExists, OrdersError, SchemaVersion
from orders_core.store import schema
from orders_core.store.base import Base, Day, Flag
from orders_core.store.tables.platform import TransactionId
from orders_core.store.uow import RETRY_SECONDS, Store, make_engine
from orders_core.store.verify import Violation, verify

ROWS_AT_A_TIME = 5000
_MADE_BY_UPGRADE = {"rule_set", "number_series"}


class BackupDamaged(OrdersError):
    """The copy is not what it should be; no backup was kept, nothing was restored."""

    code = "E_BACKUP"
    en = "{file}: {problem}"
    zh = "{file}：{problem_zh}"


class DatabaseNotEmpty(AlreadyExists):
    """The database to restore into has rows; nothing was changed."""

    en = "{entity} {key} has {rows} rows already; restoring would replace them"
    zh = "{entity} {key} 中已有 {rows} 行数据，恢复会将其覆盖"


@dataclass(frozen=True)
class BackupReport:
    """What was copied. `violations` were in the data already: a backup keeps them, and says so."""

    file: Path
    size_bytes: int
    rows: int
    schema_version: str
    violations: list[Violation]


def backup(url: str, target: Path) -> BackupReport:
    """Copy the database, as it is at one moment, into the new file `target`; others go on working meanwhile.

    Raises:
        AlreadyExists: `target` is there; nothing was written.
        SchemaVersion: The database is empty, not ours, or (PostgreSQL) not at this program's schema.
        BackupDamaged: The copy failed its check; nothing was kept.
    """
    if target.exists():
        raise AlreadyExists(entity="file", key=target)
    version = schema.schema_version(url)
    if version is None:
        raise SchemaVersion(found="–", needed=schema.newest_version())
    unfinished = target.with_name(f".{target.name}.unfinished")
    _remove(unfinished)
    try:
        if _is_sqlite(url):
            with closing(_open(_file(url))) as source, closing(_open(unfinished)) as copy:
                source.backup(copy)
        else:
            schema.require_current(url)
            _export(url, unfinished)
        rows, violations = _check(unfinished, version)
        _sync(unfinished)
        unfinished.rename(target)
        _sync(target.parent)
    finally:
        _remove(unfinished)
    return BackupReport(target, target.stat().st_size, rows, version, violations)


def restore(file: Path, url: str, *, overwrite: bool = False) -> BackupReport:
    """Make the database at `url` what the backup `file` holds, whole or not at all; the file stays as it is.

    A backup of an older version is upgraded on the way. A database without any business rows counts as empty.

    Raises:
        DatabaseNotEmpty: There are rows, and `overwrite` was not said; nothing was changed.
        SchemaVersion: The file is not a backup of ours, or of a newer version; or the database is not ours or newer.
        BackupDamaged: The file is broken; nothing was changed.
    """
    with TemporaryDirectory(prefix="dinghuo-restore-") as folder:
        copy = Path(folder) / "backup.db"
        try:
            rows, violations, version = _checked_copy(file, copy)
        except (sqlite3.DatabaseError, DatabaseError) as error:
            broken = str(getattr(error, "orig", error))
            raise BackupDamaged(file=file, problem=broken, problem_zh=f"无法读取（{broken}）") from error
        schema.upgrade(url)
        there = _business_rows(url)
        if there and not overwrite:
            raise DatabaseNotEmpty(entity="database", key=schema.place_of(url), rows=there)
        if _is_sqlite(url):
            with closing(_open(copy)) as source, closing(_open(_file(url))) as target:
                source.backup(target)
        else:
            _import(copy, url)
    return BackupReport(file, file.stat().st_size, rows, version, violations)


def _checked_copy(file: Path, copy: Path) -> tuple[int, list[Violation], str]:
    """Copy a backup, bring the copy to this program's schema and check it: its rows, violations and the version it had."""
    version = schema.schema_version(f"sqlite:///{file}")
    if version is None:
        raise BackupDamaged(file=file, problem="there is no backup", problem_zh="备份文件不存在或为空")
    schema.needs_upgrade(f"sqlite:///{file}")  # refuses a newer one
    with closing(_open(file)) as source, closing(_open(copy)) as scratch:
        source.backup(scratch)
    _check_file(copy, named=file)
    schema.upgrade(f"sqlite:///{copy}")
    rows, violations = _check(copy, schema.newest_version())
    return rows, violations, version


def _check(file: Path, version: str) -> tuple[int, list[Violation]]:
    """Rows in a copy and the invariants they break; raises BackupDamaged when the file itself is broken."""
    _check_file(file, named=file)
    with closing(_open(file)) as conn:
        there = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = [name for name in Base.metadata.tables if name in there]
        rows = sum(conn.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ours)
    violations = []
    if version == schema.newest_version():
        store = Store.open(f"sqlite:///{file}")
        violations = verify(store)
        store.close()
    with closing(_open(file)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")  # one file, readable from a read-only place
    return rows, violations


def _check_file(file: Path, *, named: Path) -> None:
    try:
        with closing(_open(file)) as conn:
            (found,) = conn.execute("PRAGMA integrity_check").fetchone()
            orphans = len(conn.execute("PRAGMA foreign_key_check").fetchall()) if found == "ok" else 0
    except sqlite3.DatabaseError as error:
        found, orphans = str(error), 0
    if found != "ok":
        raise BackupDamaged(file=named, problem=f"damaged: {found}", problem_zh=f"文件损坏：{found}")
    if orphans:
        problem = f"{orphans} rows refer to nothing"
        raise BackupDamaged(file=named, problem=problem, problem_zh=f"{orphans} 行引用的数据不存在")


def _export(url: str, target: Path) -> None:
    """The rows of a PostgreSQL database, as one snapshot has them, into a new SQLite file."""
    schema.upgrade(f"sqlite:///{target}")
    store = Store.open(url)
    try:
        with store.reading() as source, closing(_open(target)) as copy:
            copy.execute("PRAGMA foreign_keys=OFF")
            for table in Base.metadata.sorted_tables:
                columns = ", ".join(column.name for column in table.columns)
                marks = ", ".join("?" * len(table.columns))
                copy.execute(f"DELETE FROM {table.name}")
                for rows in _rows_of(source, table):
                    copy.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", rows)
            copy.commit()
    finally:
        store.close()


def _rows_of(source: Connection, table: Table) -> Iterator[Sequence[Any]]:
    select_list = ", ".join(_as_sqlite_has_it(column) for column in table.columns)
    result = source.execution_options(stream_results=True).execute(text(f"SELECT {select_list} FROM {table.name}"))
    while rows := result.fetchmany(ROWS_AT_A_TIME):
        yield [tuple(row) for row in rows]


def _as_sqlite_has_it(column: Column[Any]) -> str:
    if isinstance(column.type, Flag):
        return f"CAST({column.name} AS integer)"
    if isinstance(column.type, Day):
        return f"to_char({column.name}, 'YYYY-MM-DD')"
    if isinstance(column.type, TransactionId):
        return "NULL"  # means nothing in another database
    return str(column.name)


def _import(source: Path, url: str) -> None:
    """Replace all rows of a PostgreSQL database by those of a file, in one transaction."""
    engine = make_engine(url)
    try:
        with closing(_open(source)) as rows_from, engine.begin() as conn:
            conn.execute(text(f"TRUNCATE {', '.join(table.name for table in Base.metadata.sorted_tables)}"))
            for table in Base.metadata.sorted_tables:
                _import_table(rows_from, conn, table)
    finally:
        engine.dispose()


def _import_table(source: sqlite3.Connection, conn: Connection, table: Table) -> None:
    columns = ", ".join(column.name for column in table.columns if not isinstance(column.type, TransactionId))
    driver = conn.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    # COPY is one statement: rows may refer to later rows of their own table.
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in source.execute(f"SELECT {columns} FROM {table.name}"):
            copy.write_row(row)
    if table.autoincrement_column is not None:
        conn.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), coalesce(max(id), 1), max(id) IS NOT NULL)"
                f" FROM {table.name}"
            )
        )


def _business_rows(url: str) -> int:
    engine = make_engine(url)
    try:
        with engine.connect() as conn:
            tables = [table for table in Base.metadata.sorted_tables if table.name not in _MADE_BY_UPGRADE]
            return sum(conn.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
    finally:
        engine.dispose()


def _is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def _file(url: str) -> Path:
    return Path(str(make_url(url).database))


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=RETRY_SECONDS)


def _remove(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm", f"{file.name}-journal"):
        file.with_name(name).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
