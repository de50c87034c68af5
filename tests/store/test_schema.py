"""The schema: what `upgrade` makes is what the tables declare, and databases that are not ours are left alone."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, inspect, select, text

from orders_core.domain.rules import Rules, build_rules
from orders_core.errors import SchemaVersion
from orders_core.ports import FixedClock
from orders_core.store import schema, tables
from orders_core.store.base import Base
from orders_core.store.uow import Store, make_engine
from tests.conftest import NewDatabase
from tests.store.business import small_business

# ------------------------------------------------------------------------------------------- what a schema consists of


def without_spaces(sql: str) -> str:
    """SQL in one spelling: no line breaks, no spaces beside brackets and commas, no needless quotes."""
    sql = re.sub(r"\s+", " ", sql).strip()
    return re.sub(r" ?([(),]) ?", r"\1", sql).replace('"', "")


def clauses(create_table: str) -> list[str]:
    """The columns and constraints of a CREATE TABLE, and what stands after them, in no particular order."""
    sql = without_spaces(create_table)
    start, end = sql.index("("), sql.rindex(")")
    found, depth, clause = [f"after: {sql[end + 1 :]}"], 0, ""
    for letter in sql[start + 1 : end] + ",":
        if letter == "," and depth == 0:
            found.append(clause)
            clause = ""
            continue
        depth += (letter == "(") - (letter == ")")
        clause += letter
    return sorted(found)


def sqlite_schema(conn: Connection) -> dict[str, object]:
    rows = conn.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").all()
    return {
        f"{kind} {name}": clauses(sql) if kind == "table" else without_spaces(sql)
        for kind, name, sql in rows
        if name != schema.VERSION_TABLE
    }


POSTGRESQL_SCHEMA = {
    "column": """SELECT table_name || '.' || column_name, data_type, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "constraint": """SELECT c.conrelid::regclass || ' ' || c.conname, c.contype::text, pg_get_constraintdef(c.oid)
        FROM pg_constraint c WHERE c.connamespace = 'public'::regnamespace AND c.conrelid <> 0""",
    "index": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}


def postgresql_schema(conn: Connection) -> dict[str, object]:
    return {
        f"{kind} {row[0]}": tuple(row[1:])
        for kind, query in POSTGRESQL_SCHEMA.items()
        for row in conn.exec_driver_sql(query)
        if schema.VERSION_TABLE not in row[0]
    }


def schema_of(engine: Engine) -> dict[str, object]:
    with engine.connect() as conn:
        return sqlite_schema(conn) if conn.dialect.name == "sqlite" else postgresql_schema(conn)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def declared(new_database: NewDatabase) -> Iterator[Engine]:
    """A database whose tables were made from the declaration, without the revisions."""
    engine = make_engine(new_database(empty=True))
    schema.create_all(engine)
    yield engine
    engine.dispose()


def test_the_upgraded_schema_equals_the_declared_one(engine: Engine, declared: Engine) -> None:
    upgraded_schema, declared_schema = schema_of(engine), schema_of(declared)
    assert len(declared_schema) > len(Base.metadata.tables)  # tables and their indexes
    differences = [
        f"{name}:\n  upgraded {upgraded_schema.get(name)}\n  declared {declared_schema.get(name)}"
        for name in sorted(upgraded_schema.keys() | declared_schema.keys())
        if upgraded_schema.get(name) != declared_schema.get(name)
    ]
    hint = "python -m orders_core.store.migrations.make (see its docstring)"
    assert not differences, f"{hint}\n" + "\n".join(differences)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE orders ADD COLUMN extra INTEGER",
        "DROP INDEX ix_orders_status",
        "DROP INDEX uq_location_default; CREATE UNIQUE INDEX uq_location_default ON location (is_default)",
        "DROP TABLE ticket_message; CREATE TABLE ticket_message (id BIGINT)",
    ],
)
def test_the_comparison_sees_a_difference(engine: Engine, declared: Engine, change: str) -> None:
    with engine.begin() as conn:
        for statement in change.split(";"):
            conn.exec_driver_sql(statement)
    assert schema_of(engine) != schema_of(declared)


def test_every_constraint_is_named_in_the_database(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        names = [name for name in schema_of(engine) if name.startswith("constraint")]
        wrong = [n for n in names if not re.search(r" (pk|uq|fk|ck)_|_not_null$", n)]
        assert names
        assert wrong == []
        return
    for name, sql in schema_of(engine).items():
        if name.startswith("table"):
            for clause in sql:  # type: ignore[attr-defined]
                unnamed = re.match(r"(CHECK|UNIQUE|FOREIGN KEY|PRIMARY KEY)", clause)
                assert not unnamed, f"{name}: {clause}"
                assert "CHECK" not in clause or clause.startswith("CONSTRAINT ck_"), f"{name}: {clause}"


# ------------------------------------------------------------------------------------------------------------- upgrade


def test_an_upgraded_database_is_ready_for_use(database_url: str, engine: Engine) -> None:
    assert schema.schema_version(database_url) == schema.newest_version()
    assert not schema.needs_upgrade(database_url)
    schema.require_current(database_url)
    with engine.connect() as conn:
        rule_set = conn.execute(select(tables.RuleSet)).one()
    assert (rule_set.version, rule_set.is_current) == (1, True)
    assert build_rules(rule_set.body) == Rules()


def test_upgrading_twice_changes_nothing(database_url: str, engine: Engine) -> None:
    before = schema_of(engine)
    schema.upgrade(database_url)
    assert schema_of(engine) == before
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM rule_set")) == 1


def test_an_upgrade_that_breaks_leaves_the_database_empty(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(schema, "seed", break_down)
    url = new_database(empty=True)
    with pytest.raises(RuntimeError, match="power cut"):
        schema.upgrade(url)
    engine = make_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_two_upgrades_at_once_make_one_schema(new_database: NewDatabase) -> None:
    url = new_database(empty=True)
    failures: list[Exception] = []

    def run() -> None:
        try:
            schema.upgrade(url)
        except Exception as error:  # noqa: BLE001 - whatever it was, the test tells
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert schema.schema_version(url) == schema.newest_version()


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """The first one switches it to WAL, which SQLite does not let the others wait for: 30 of 400 files were refused."""
    failures: list[Exception] = []

    def open_it(url: str) -> None:
        engine = make_engine(url)
        try:
            with engine.begin() as conn:
                conn.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a)")
        except Exception as error:  # noqa: BLE001 - whatever it was, the test tells
            failures.append(error)
        finally:
            engine.dispose()

    for number in range(100):
        threads = [threading.Thread(target=open_it, args=(f"sqlite:///{tmp_path}/{number}.db",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_rule_set_of_the_company_survives_an_upgrade(database_url: str, engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(text("UPDATE rule_set SET author = 'boss'"))
    schema.upgrade(database_url)
    with engine.connect() as conn:
        assert conn.scalars(text("SELECT author FROM rule_set")).all() == ["boss"]


def test_what_was_approved_before_suggestions_could_be_made_survives_the_upgrade(new_database: NewDatabase) -> None:
    url = new_database(empty=True)
    config, engine = schema.alembic_config(), make_engine(url)
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0002")
    small_business(Store(engine, clock=FixedClock(datetime(2026, 3, 2, tzinfo=UTC)), zone=ZoneInfo("Asia/Shanghai")))
    schema.upgrade(url)
    with engine.connect() as conn:
        kept = conn.execute(select(tables.SuggestionApproval.__table__)).one()
    engine.dispose()
    assert (kept.approved_qty, kept.purchase_order_line_id, kept.production_order_id) == (10, 601, None)


@pytest.mark.parametrize(("received_qty", "is_open_again"), [(0, True), (7, False)])
def test_suggestions_whose_orders_were_closed_empty_before_the_upgrade_are_open_again(
    new_database: NewDatabase, received_qty: int, is_open_again: bool
) -> None:
    url = new_database(empty=True)
    config, engine = schema.alembic_config(), make_engine(url)
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0003")
    small_business(Store(engine, clock=FixedClock(datetime(2026, 3, 2, tzinfo=UTC)), zone=ZoneInfo("Asia/Shanghai")))
    with engine.begin() as conn:
        conn.execute(text("UPDATE purchase_order SET status = 'closed'"))
        conn.execute(text("UPDATE purchase_order_line SET received_qty = :qty"), {"qty": received_qty})
        conn.execute(
            text(
                "INSERT INTO audit_entry (at, actor, roles, action, entity, entity_id)"
                " VALUES (1772500000000000, 'pia', 'planner', 'purchase_order.close', 'purchase_order', 600)"
            )
        )
    schema.upgrade(url)
    with engine.connect() as conn:
        (kept,) = conn.execute(select(tables.SuggestionApproval.__table__)).all()
    engine.dispose()
    assert kept.withdrawn_at == (datetime(2026, 3, 3, 1, 6, 40, tzinfo=UTC) if is_open_again else None)


# -------------------------------------------------------------------------------------------------------------- refused


def test_a_newer_database_is_refused_with_both_versions(database_url: str, engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    for action in (schema.upgrade, schema.needs_upgrade, schema.require_current):
        with pytest.raises(SchemaVersion) as refused:
            action(database_url)
        assert refused.value.code == "E_SCHEMA_VERSION"
        assert (refused.value.found, refused.value.needed) == ("9999", schema.newest_version())
    assert schema.schema_version(database_url) == "9999"


def test_an_empty_database_needs_an_upgrade_and_is_not_worked_on(new_database: NewDatabase) -> None:
    url = new_database(empty=True)
    assert schema.schema_version(url) is None
    assert schema.needs_upgrade(url)
    with pytest.raises(SchemaVersion):
        schema.require_current(url)


def test_asking_for_the_version_does_not_make_a_file(tmp_path: Path) -> None:
    path = tmp_path / "nothing.db"
    assert schema.schema_version(f"sqlite:///{path}") is None
    assert not path.exists()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("order_id,sku,qty\n" * 100, encoding="utf-8")
    before = path.read_bytes()
    for action in (schema.upgrade, schema.schema_version):
        with pytest.raises(schema.NotADatabase) as refused:
            action(f"sqlite:///{path}")
        assert refused.value.code == "E_SCHEMA_VERSION"
        assert str(path) in str(refused.value)
        assert str(path) in refused.value.text("zh")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["orders.csv"]


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE bookmark (id INTEGER)")
    conn.close()
    with pytest.raises(schema.ForeignDatabase, match="bookmark"):
        schema.upgrade(f"sqlite:///{path}")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "orders.db"
    with pytest.raises(schema.NoFolder, match="missing"):
        schema.upgrade(f"sqlite:///{path}")


def test_postgresql_tables_of_others_are_not_in_the_way(new_database: NewDatabase) -> None:
    url = new_database(empty=True)
    engine = make_engine(url)
    if engine.dialect.name == "postgresql":
        with engine.begin() as conn:
            conn.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
            conn.execute(text("CREATE TABLE runs (id BIGINT)"))
        assert schema.upgrade(url) == schema.newest_version()
        with engine.begin() as conn:
            conn.execute(text(f"DROP TABLE {schema.VERSION_TABLE}"))
    else:
        schema.create_all(engine)
    with pytest.raises(schema.ForeignDatabase):
        schema.upgrade(url)
    engine.dispose()


def test_foreign_keys_are_on_again_after_an_upgrade(database_url: str, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        with engine.connect() as conn:
            assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    with engine.connect() as conn, pytest.raises(Exception, match=r"(?i)foreign key"):
        conn.execute(text("INSERT INTO bin (id, location_id, code) VALUES (1, 99, 'A-1')"))
        conn.commit()
