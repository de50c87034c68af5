"""Extraction: complete the first time, then only what changed, with the same result; never a danger to the orders."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.engine import make_url

from orders_core.store import tables as t
from orders_core.store.backup import backup, restore
from orders_core.store.read_models import READ_MODELS, source_columns
from orders_core.store.uow import Store
from pipelines import extract as extraction
from pipelines.extract import Extracted, extract
from pipelines.warehouse.errors import SourceChanged, SourceDiffers, SourceUnreadable
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import RAW_TABLES, TABLES, table
from pipelines.warehouse.write import create_tables, table_hash
from tests.pipelines.book import MONDAY, Book, at


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    book = Book(database_url)
    book.location("HEL", default=True)
    book.sku("LAMP", "RUG")
    book.move(at(MONDAY, 8), "LAMP@HEL: 10", "RUG@HEL: 5")
    book.order("A1", at(MONDAY, 9), "LAMP@HEL: 3", "RUG@HEL: 1")
    book.order("A2", at(MONDAY, 10), "LAMP@HEL: 2")
    book.wait_until_settled()
    yield book
    book.close()


@pytest.fixture
def building(tmp_path: Path) -> Path:
    return empty_generation(tmp_path / "building.duckdb")


def empty_generation(path: Path) -> Path:
    with duckdb.connect(str(path)) as con:
        create_tables(con, TABLES)
    return path


def raw_hashes(building: Path) -> dict[str, str]:
    with duckdb.connect(str(building)) as con:
        assert find_violations(con, RAW_TABLES) == []
        return {raw.full_name: table_hash(con, raw) for raw in RAW_TABLES}


def raw_rows(building: Path) -> dict[str, list[str]]:
    """Every row of every raw table as text, sorted."""
    with duckdb.connect(str(building)) as con:
        return {
            raw.full_name: sorted(
                row for (row,) in con.execute(f"SELECT r::VARCHAR FROM {raw.full_name} AS r").fetchall()
            )
            for raw in RAW_TABLES
        }


def change_something(book: Book) -> None:
    book.ship("A1", at(MONDAY, 11))
    book.cancel("A2", at(MONDAY, 12))
    book.order("A3", at(MONDAY, 13), "RUG@HEL: 2")


def test_the_first_load_reads_everything_with_the_types_of_the_contract(
    book: Book, database_url: str, building: Path
) -> None:
    extracted = extract(database_url, building, full=False)
    assert extracted.is_full
    assert extracted.rows_read["orders"] == 2
    assert extracted.rows_read["order_line"] == 3
    with duckdb.connect(str(building)) as con:
        ((placed_us, business_date, origin),) = con.execute(
            "SELECT epoch_us(placed_at), business_date, origin FROM raw.orders WHERE order_number = 'A1'"
        ).fetchall()
        assert placed_us == at(MONDAY, 9).timestamp() * 1_000_000
        assert (business_date, origin) == (MONDAY, "live")
        assert con.execute("SELECT is_default, location_rank FROM raw.location").fetchall() == [(True, 0)]
    raw_hashes(building)


def test_later_loads_read_what_changed_and_end_with_the_same_tables_as_a_full_load(
    book: Book, database_url: str, building: Path, tmp_path: Path
) -> None:
    extract(database_url, building, full=False)
    change_something(book)
    later = extract(database_url, building, full=False)
    assert not later.is_full
    assert later.changed_keys["orders"] == 3
    assert later.rows_read["stock_movement"] == 2
    anew = empty_generation(tmp_path / "anew.duckdb")
    assert extract(database_url, anew, full=True).is_full
    assert raw_hashes(building) == raw_hashes(anew)


def test_nothing_changed_nothing_read_again(book: Book, database_url: str, building: Path) -> None:
    extract(database_url, building, full=False)
    before = raw_hashes(building)
    again = extract(database_url, building, full=False)
    assert not again.is_full
    assert again.changed_keys == {}
    assert {model.name for model in READ_MODELS if model.keys and again.rows_read[model.name]} == set()
    assert raw_hashes(building) == before


def test_the_generation_says_which_rows_its_load_read_again(book: Book, database_url: str, building: Path) -> None:
    def changed_keys() -> set[tuple[str, int]]:
        with duckdb.connect(str(building)) as con:
            assert find_violations(con, (table("meta.changed_key"),)) == []
            return set(con.execute("FROM meta.changed_key").fetchall())

    book.wait_until_settled()
    extract(database_url, building, full=False)
    assert changed_keys() == set()
    book.cancel("A2", at(MONDAY, 12))
    book.wait_until_settled()
    extract(database_url, building, full=False)
    assert changed_keys() == {("orders", book.id_of(t.Order, "A2")), ("shipment", book.id_of(t.Shipment, "A2@HEL"))}
    book.ship("A1", at(MONDAY, 13))
    book.wait_until_settled()
    extract(database_url, building, full=False)
    entities = sorted(entity for entity, _ in changed_keys())
    assert entities == ["orders", "shipment", "stock_movement", "stock_movement"]
    assert ("orders", book.id_of(t.Order, "A1")) in changed_keys()
    extract(database_url, building, full=True)
    assert changed_keys() == set()


def test_changed_keys_are_looked_up_some_at_a_time(
    book: Book, database_url: str, building: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(database_url, building, full=False)
    change_something(book)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(building.read_bytes())
    extract(database_url, building, full=False)
    monkeypatch.setattr(extraction, "KEYS_A_QUERY", 2)
    source = extraction.Source.from_url(database_url)
    if source.kind == "sqlite":
        book.close()  # this once the extraction runs in this very process, to reach the constant
    in_twos = extraction._run(source, str(copy), full=False, reconcile="all", columns=source_columns(source.kind))
    assert in_twos.changed_keys["orders"] == 3
    assert raw_hashes(copy) == raw_hashes(building)


def test_another_database_or_a_restored_one_is_read_in_full(
    book: Book, database_url: str, new_database: object, building: Path
) -> None:
    extract(database_url, building, full=False)
    with book.store.unit_of_work() as uow:  # a backup of before A2 would not have its change, or another in its place
        uow.conn.execute(update(t.ChangeLog).values(at=at(MONDAY, 23)))
    assert extract(database_url, building, full=False).is_full
    other = new_database()  # type: ignore[operator]
    Book(other).close()
    elsewhere = extract(other, building, full=False)
    assert elsewhere.is_full
    with duckdb.connect(str(building)) as con:
        assert con.execute("SELECT count(*) FROM raw.orders").fetchone() == (0,)


def test_a_change_that_the_log_does_not_name_is_noticed(book: Book, database_url: str, building: Path) -> None:
    extract(database_url, building, full=False)
    with book.store.unit_of_work() as uow:
        uow.conn.execute(update(t.OrderLine).values(ordered_qty=t.OrderLine.ordered_qty + 1))
    with pytest.raises(SourceDiffers, match="ordered_qty 9 there, 6 here") as caught:
        extract(database_url, building, full=False)
    assert caught.value.exit_code == 4
    assert extract(database_url, building, full=True).is_full


def test_a_deleted_row_is_deleted(book: Book, database_url: str, building: Path) -> None:
    extract(database_url, building, full=False)
    with book.store.unit_of_work() as uow:
        line_id = book.id_of(t.OrderLine, "A1-2")
        uow.conn.execute(delete(t.ShipmentLine).where(t.ShipmentLine.order_line_id == line_id))
        uow.conn.execute(delete(t.OrderLine).where(t.OrderLine.id == line_id))
        uow.changed("orders", book.id_of(t.Order, "A1"), 3)
    extract(database_url, building, full=False)
    with duckdb.connect(str(building)) as con:
        assert con.execute("SELECT count(*) FROM raw.order_line WHERE order_line_id = ?", [line_id]).fetchone() == (0,)


def test_a_missing_or_foreign_database_is_a_named_error(tmp_path: Path, building: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"nowhere\.db"):
        extract(f"sqlite:///{tmp_path}/nowhere.db", building, full=False)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(SourceUnreadable, match="change_log"):
        extract(f"sqlite:///{foreign}", building, full=False)


def test_a_touched_day_that_does_not_add_up_is_named_and_the_nightly_comparison_sees_every_day(
    book: Book, database_url: str, building: Path
) -> None:
    book.order("B1", at(MONDAY + timedelta(days=1), 9), "LAMP@HEL: 1")
    book.wait_until_settled()
    extract(database_url, building, full=False)
    with book.store.unit_of_work() as uow:  # Monday's line changes and nobody says so
        on_a1 = t.OrderLine.id == book.id_of(t.OrderLine, "A1-1")
        uow.conn.execute(update(t.OrderLine).where(on_a1).values(ordered_qty=t.OrderLine.ordered_qty + 1))
    book.ship("B1", at(MONDAY + timedelta(days=1), 12))
    book.wait_until_settled()
    assert extract(database_url, building, full=False, reconcile="touched").days_compared == 1
    for reconcile in ("all", "touched"):
        if reconcile == "touched":
            book.ship("A2", at(MONDAY, 15))  # a day of many orders is compared for one of them
        with pytest.raises(SourceDiffers) as caught:
            extract(database_url, building, full=False, reconcile=reconcile)  # type: ignore[arg-type]
        assert caught.value.days == ["2026-03-02"]
        assert "2026-03-02 ordered_qty 7 there, 6 here" in str(caught.value)
        assert "2026-03-02 ordered_qty 应为 7,实际为 6" in caught.value.message("zh")


def test_a_database_restored_from_a_backup_is_read_in_full(
    book: Book, database_url: str, building: Path, tmp_path: Path
) -> None:
    book.close()
    backup(database_url, tmp_path / "backup.db")
    later = Book.__new__(Book)
    later.__dict__.update(book.__dict__, store=Store.open(database_url, clock=book.clock))
    change_something(later)
    extract(database_url, building, full=False)
    later.close()
    restore(tmp_path / "backup.db", database_url, overwrite=True)
    assert extract(database_url, building, full=False, reconcile="touched").is_full
    anew = empty_generation(tmp_path / "anew.duckdb")
    extract(database_url, anew, full=True)
    assert raw_rows(building) == raw_rows(anew)
    assert len(raw_rows(building)["raw.orders"]) == 2


def test_a_backup_younger_than_the_last_load_is_read_on_from_it(
    book: Book, database_url: str, building: Path, tmp_path: Path
) -> None:
    extract(database_url, building, full=False)
    change_something(book)
    book.close()
    backup(database_url, tmp_path / "backup.db")
    restore(tmp_path / "backup.db", database_url, overwrite=True)
    extract(database_url, building, full=False)
    anew = empty_generation(tmp_path / "anew.duckdb")
    extract(database_url, anew, full=True)
    assert raw_rows(building) == raw_rows(anew)
    assert len(raw_rows(building)["raw.orders"]) == 3


def test_a_new_column_of_the_source_warns(book: Book, database_url: str, building: Path) -> None:
    assert extract(database_url, building, full=False).warnings == []
    with book.store.unit_of_work() as uow:
        uow.conn.execute(text("ALTER TABLE orders ADD COLUMN loyalty_points BIGINT" if not uow.is_sqlite
                              else "ALTER TABLE orders ADD COLUMN loyalty_points INTEGER"))  # fmt: skip
    for full in (False, True):
        (warning,) = extract(database_url, building, full=full).warnings
        assert warning["code"] == "W_SOURCE_COLUMN"
        assert warning["en"].startswith("orders.loyalty_points (")
        assert "新增了列 orders.loyalty_points" in warning["zh"]


def test_a_missing_or_changed_column_of_the_source_stops_the_load_by_name(
    book: Book, database_url: str, building: Path
) -> None:
    extract(database_url, building, full=False)
    before = raw_rows(building)
    book.cancel("A2", at(MONDAY, 12))
    with book.store.unit_of_work() as uow:
        uow.conn.execute(text("ALTER TABLE customer RENAME COLUMN level_code TO price_level"))
        uow.conn.execute(text("ALTER TABLE orders DROP COLUMN note"))
        kind = "INTEGER" if uow.is_sqlite else "BIGINT"
        uow.conn.execute(text(f"ALTER TABLE orders ADD COLUMN note {kind}"))
    for full in (False, True):
        with pytest.raises(SourceChanged) as caught:
            extract(database_url, building, full=full)
        assert caught.value.exit_code != 0
        assert f"orders.note should be text, found {kind.lower()}" in str(caught.value)
        assert "customer.level_code should be text, found nothing" in str(caught.value)
        assert "customer.level_code 应为 text,实际没有" in caught.value.message("zh")
        assert {(c["table"], c["column"]) for c in caught.value.changes} == {  # type: ignore[attr-defined]
            ("orders", "note"), ("customer", "level_code")}  # fmt: skip
    assert raw_rows(building) == before


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_transaction_still_running_is_read_when_it_has_ended(book: Book, database_url: str, building: Path) -> None:
    # The slow one takes its numbers first, and is still running while A3 comes and goes and two loads read on.
    with book.store.engine.connect() as slow, slow.begin():
        log = {"entity": "orders", "entity_id": book.id_of(t.Order, "A1"), "version": 2, "operation": "update"}
        slow.execute(insert(t.ChangeLog).values(at=at(MONDAY), **log))
        slow.execute(update(t.Order).where(t.Order.number == "A1").values(cancel_reason="late"))
        extract(database_url, building, full=False)
        book.order("A3", at(MONDAY, 13), "RUG@HEL: 2")
        assert not extract(database_url, building, full=False, reconcile="touched").is_full
        with duckdb.connect(str(building)) as con:
            assert con.execute("SELECT count(*) FROM raw.orders").fetchone() == (3,)
    later = extract(database_url, building, full=False, reconcile="touched")
    assert not later.is_full
    with duckdb.connect(str(building)) as con:
        assert con.execute("SELECT cancel_reason FROM raw.orders WHERE order_number = 'A1'").fetchall() == [("late",)]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_change_log_is_searched_only_from_where_a_change_can_still_appear(
    book: Book, database_url: str, building: Path
) -> None:
    """On PostgreSQL the log has no index by transaction; ids bound the search, but never past a transaction that runs."""

    def mark() -> tuple[int, int, int]:
        with duckdb.connect(str(building)) as con:
            (row,) = con.execute("SELECT position, after_id, later_position FROM meta.watermark").fetchall()
            return row  # type: ignore[no-any-return]

    with book.store.engine.begin() as conn:  # ids are far enough from the beginning that a bound can be seen
        conn.execute(text("SELECT setval(pg_get_serial_sequence('change_log', 'id'), 1000000)"))
    book.ship("A1", at(MONDAY, 11))
    with book.store.engine.connect() as slow, slow.begin():
        slow.execute(text("SELECT pg_current_xact_id()"))
        extract(database_url, building, full=False)
        while_it_runs = mark()
    assert while_it_runs[0] < while_it_runs[2]
    assert while_it_runs[1] == 0
    book.wait_until_settled()
    extract(database_url, building, full=False)
    assert mark()[1] > 990_000


SECOND_WRITER = """
import sqlite3, sys, threading
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
enough = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), enough.set())).start()
tries = entered = 0
while not enough.wait(0.01):
    tries += 1
    try:
        connection.execute("BEGIN IMMEDIATE")
        entered += 1
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        assert "locked" in str(error), error
    if tries == 1:
        print("trying", flush=True)
print(tries, entered)
"""


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_writer_stays_alone_while_its_process_extracts(book: Book, database_url: str, building: Path) -> None:
    path = make_url(database_url).database
    assert path is not None
    ours = sqlite3.connect(path, isolation_level=None)
    ours.execute("BEGIN IMMEDIATE")
    ours.execute("UPDATE customer SET name = 'ours'")
    with subprocess.Popen(
        [sys.executable, "-c", SECOND_WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "trying\n"
        extracted: Extracted = extract(database_url, building, full=False)
        answer, _ = second.communicate("")
    tries, entered = map(int, answer.split())
    assert extracted.rows_read["orders"] == 2
    assert tries > 10
    assert entered == 0
    ours.execute("COMMIT")
    ours.close()


IMPORTS = """
import sys, pipelines.extract, orders_core.store.read_models, pipelines.warehouse.tables
print(*sys.modules)
"""


def test_the_reading_process_opens_nothing_but_its_two_files() -> None:
    """What it imports holds no way to the database but DuckDB: no sqlite3, no psycopg, no store."""
    loaded = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout.split()
    assert "orders_core.store.read_models" in loaded
    assert not {"sqlite3", "psycopg", "sqlalchemy", "orders_core.store.uow"} & set(loaded)


def test_every_read_model_has_a_table_with_its_columns() -> None:
    con = duckdb.connect(":memory:")
    for model in READ_MODELS:
        declared = table(f"raw.{model.name}")
        names = [part.split()[-1].split(".")[-1] for part in _top_level_columns(model.select)]
        assert names == list(declared.column_names), model.name
        assert declared.key[0] == names[0]
    con.close()


def _top_level_columns(select: str) -> list[str]:
    """The column expressions of a SELECT, split at commas outside brackets."""
    depth, parts, current = 0, [], ""
    for word in (
        select[select.index("SELECT") + 6 :].replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split()
    ):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0 and word == "FROM":
            break
        if depth == 0 and word == ",":
            parts.append(current)
            current = ""
        else:
            current += f" {word}"
    return [*parts, current]
