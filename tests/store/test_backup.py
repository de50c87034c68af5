"""A backup holds everything, from either database into either database, and nothing is overwritten unasked."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import AlreadyExists, SchemaVersion
from orders_core.ports import FixedClock
from orders_core.store import schema
from orders_core.store.audit import seal_audit, verify_audit
from orders_core.store.backup import BackupDamaged, DatabaseNotEmpty, backup, restore
from orders_core.store.base import Base
from orders_core.store.uow import Store, UnitOfWork
from orders_core.store.verify import verify
from tests.conftest import NewDatabase
from tests.store.business import small_business
from tests.support.databases import BACKENDS, Backend, TestDatabases


def contents(url: str, clock: FixedClock) -> dict[str, list[Any]]:
    """Every row of every table, but for the transaction ids, which mean something in one database only."""
    store = Store.open(url, clock=clock)
    with store.reading() as conn:
        found = {
            table.name: sorted(
                (tuple(row) for row in conn.execute(table.select().with_only_columns(*columns(table)))), key=repr
            )
            for table in Base.metadata.sorted_tables
        }
    store.close()
    return found


def columns(table: Any) -> list[Any]:
    return [column for column in table.columns if column.name != "transaction_id"]


@pytest.fixture
def business(store: Store) -> Store:
    small_business(store)
    seal_audit(store)
    return store


@pytest.mark.parametrize("into", BACKENDS)
def test_a_backup_restores_every_row_into_either_database(
    business: Store, into: Backend, databases: TestDatabases, tmp_path: Path, clock: FixedClock
) -> None:
    before = contents(business.url, clock)
    report = backup(business.url, tmp_path / "backup.db")
    assert report.violations == []
    assert report.rows == sum(map(len, before.values()))
    assert [path.name for path in tmp_path.glob("*backup*")] == ["backup.db"]

    target = databases.create_empty(into, folder=tmp_path)
    restored = restore(tmp_path / "backup.db", target)
    assert restored.rows == report.rows
    assert contents(target, clock) == before
    copy = Store.open(target, clock=clock)
    assert verify(copy) == []
    assert verify_audit(copy).is_intact  # sealed bytes are the same bytes on both databases
    copy.run(say_something, SYSTEM)  # new log rows do not collide with restored ones
    assert seal_audit(copy) == 1
    assert verify_audit(copy).is_intact
    copy.close()
    databases.drop(target)


def say_something(uow: UnitOfWork, actor: Actor) -> None:
    uow.audit(actor, "order.note", "orders", 100)


def test_a_database_with_rows_is_overwritten_only_when_told(
    business: Store, new_database: NewDatabase, tmp_path: Path, clock: FixedClock
) -> None:
    backup(business.url, tmp_path / "first.db")
    first = contents(business.url, clock)
    business.run(say_something, SYSTEM)
    with pytest.raises(DatabaseNotEmpty) as refused:
        restore(tmp_path / "first.db", business.url)
    assert refused.value.code == "E_EXISTS"
    assert contents(business.url, clock) != first
    restore(tmp_path / "first.db", business.url, overwrite=True)
    assert contents(business.url, clock) == first
    fresh = new_database()
    restore(tmp_path / "first.db", fresh)  # upgraded, but not used yet: that is empty
    assert contents(fresh, clock) == first


def test_a_file_that_is_there_is_not_overwritten(business: Store, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_text("mine")
    with pytest.raises(AlreadyExists):
        backup(business.url, tmp_path / "backup.db")
    assert (tmp_path / "backup.db").read_text() == "mine"


def test_a_backup_while_others_write_is_one_moment(business: Store, tmp_path: Path) -> None:
    """Writers add two audit rows per transaction; a copy never has one of them alone."""

    def two(uow: UnitOfWork, actor: Actor) -> None:
        uow.audit(actor, "first", "pair", 1)
        uow.flush()
        uow.audit(actor, "second", "pair", 1)

    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            business.run(two, SYSTEM)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(5):
            backup(business.url, tmp_path / f"{i}.db")
    finally:
        stop.set()
        writer.join()
    counts = []
    for i in range(5):
        with closing(sqlite3.connect(tmp_path / f"{i}.db")) as conn:
            query = "SELECT sum(action = 'first'), sum(action = 'second') FROM audit_entry WHERE entity = 'pair'"
            first, second = conn.execute(query).fetchone()
            assert first == second
            counts.append(first or 0)
    assert counts == sorted(counts)
    assert counts[-1] > 0


@pytest.mark.breaks_invariants
def test_broken_rows_are_kept_and_told(business: Store, tmp_path: Path) -> None:
    with business.engine.begin() as conn:
        conn.execute(text("UPDATE coupon SET used_count = 2"))
    report = backup(business.url, tmp_path / "backup.db")
    assert [violation.code for violation in report.violations] == ["coupon_used"]


def test_an_empty_database_has_nothing_to_back_up(new_database: NewDatabase, tmp_path: Path) -> None:
    with pytest.raises(SchemaVersion):
        backup(new_database(empty=True), tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_a_damaged_or_foreign_file_is_refused_and_nothing_changes(
    business: Store, tmp_path: Path, clock: FixedClock
) -> None:
    before = contents(business.url, clock)
    good = tmp_path / "good.db"
    backup(business.url, good)
    torn = bytearray(good.read_bytes())
    torn[len(torn) // 2 : len(torn) // 2 + 8192] = bytes(8192)
    (tmp_path / "torn.db").write_bytes(torn)
    (tmp_path / "notes.txt").write_text("not a database at all\n" * 100)
    with pytest.raises(BackupDamaged, match=str(tmp_path / "torn.db")) as damaged:
        restore(tmp_path / "torn.db", business.url, overwrite=True)
    assert damaged.value.text("zh") != damaged.value.text("en")
    for part in (2, 3, 10):  # a copy that broke off
        (tmp_path / "half.db").write_bytes(torn[: len(torn) // part])
        with pytest.raises(BackupDamaged, match=str(tmp_path / "half.db")):
            restore(tmp_path / "half.db", business.url, overwrite=True)
    with pytest.raises(schema.NotADatabase):
        restore(tmp_path / "notes.txt", business.url, overwrite=True)
    with pytest.raises(BackupDamaged):
        restore(tmp_path / "missing.db", business.url, overwrite=True)
    with closing(sqlite3.connect(good)) as conn:
        conn.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
        conn.commit()
    with pytest.raises(SchemaVersion, match="9999"):
        restore(good, business.url, overwrite=True)
    assert contents(business.url, clock) == before


def test_a_backup_that_cannot_be_finished_leaves_nothing(
    business: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(_path: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("orders_core.store.backup._sync", disk_full)
    (tmp_path / "backups").mkdir()
    with pytest.raises(OSError, match="no space left"):
        backup(business.url, tmp_path / "backups" / "backup.db")
    assert list((tmp_path / "backups").iterdir()) == []
