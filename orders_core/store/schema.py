"""The database's schema: brought up to date, recognised, refused when it is not ours or too new.

`upgrade(url)` is what `dinghuo init` and `dinghuo upgrade` call; it needs no alembic.ini. Tables are declared in
`tables/`, the way there is in `migrations/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, insert, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from orders_core.domain.rules import DEFAULT_RULES
from orders_core.errors import ConfigError, SchemaVersion
from orders_core.ports import Clock, SystemClock
from orders_core.store import tables
from orders_core.store.base import Base
from orders_core.store.uow import make_engine

VERSION_TABLE = "dinghuo_schema"  # not alembic_version: Dagster keeps one of its own, perhaps in the same database

_UPGRADE_LOCK = 7_364_446_486  # "dinghuo" on a telephone's keys; any number nobody else locks


class NotADatabase(SchemaVersion):
    """The file is no SQLite database."""

    en = "{place} is not an SQLite database; nothing was changed (this program needs schema {needed})"
    zh = "{place} 不是 SQLite 数据库，未做任何改动(程序需要结构版本 {needed})"


class ForeignDatabase(SchemaVersion):
    """A database, but of another program."""

    en = "{place} belongs to another program: it has {tables}, no {version_table}; this program needs schema {needed}"
    zh = "{place} 属于其他程序：其中有 {tables}，但没有 {version_table}；程序需要结构版本 {needed}"


class NoFolder(ConfigError):
    """The database file's folder is not there."""

    en = "setting {key}: there is no folder {folder}; make it, or name another database"
    zh = "设置 {key}：文件夹 {folder} 不存在；请先创建，或改用其他数据库"


def alembic_config() -> Config:
    """Alembic's settings, wherever the program runs."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
    return config


def newest_version() -> str:
    """The schema version this program needs, like `0001`."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError("orders_core/store/migrations/versions holds no revision")
    return head


def schema_version(url: str) -> str | None:
    """The version a database is at; None when it is empty or not there. Never creates a file.

    Raises:
        NotADatabase, ForeignDatabase: It is not one of ours (both are SchemaVersion).
    """
    file = _sqlite_file(url)
    if file is not None and not file.exists():
        return None
    with _connect(url) as conn:
        return _version(conn, place=place_of(url))


def needs_upgrade(url: str) -> bool:
    """Whether `upgrade` would change something.

    Raises:
        SchemaVersion: The database is newer than this program, or not ours.
    """
    found = schema_version(url)
    _refuse_newer(found)
    return found != newest_version()


def require_current(url: str) -> None:
    """Refuse to work on a database whose schema is not exactly this program's.

    Raises:
        SchemaVersion: Older, newer, empty, not there or not ours; says both versions.
    """
    found = schema_version(url)
    if found != newest_version():
        raise SchemaVersion(found=found or "–", needed=newest_version())


def upgrade(url: str, *, clock: Clock | None = None) -> str:
    """Bring an empty or older database to the newest schema, ready for use, in one transaction; gives the version.

    Two processes may upgrade at once: the second waits and finds nothing left to do.

    Raises:
        SchemaVersion: The database is newer than this program, or not ours; nothing was changed.
        NoFolder: There is no such folder for the SQLite file.
    """
    file = _sqlite_file(url)
    if file is not None and not file.parent.is_dir():
        raise NoFolder(key="database_url", folder=file.parent)
    with _connect(url) as conn:
        if conn.dialect.name == "sqlite":
            # Rebuilding a table drops the old one; checked as a whole before the commit instead.
            _execute_outside_transaction(conn, "PRAGMA foreign_keys=OFF")
        with conn.begin():
            if conn.dialect.name == "postgresql":
                conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            _refuse_newer(_version(conn, place=place_of(url)))
            config = alembic_config()
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
            seed(conn, clock or SystemClock())
            if conn.dialect.name == "sqlite" and (broken := conn.exec_driver_sql("PRAGMA foreign_key_check").all()):
                raise RuntimeError(f"the upgrade would leave {len(broken)} rows that refer to nothing: {broken[:5]}")
    return newest_version()


def create_all(engine: Engine) -> None:
    """Create the tables as declared, without their history; tests compare it with what `upgrade` makes."""
    Base.metadata.create_all(engine)


def seed(conn: Connection, clock: Clock) -> None:
    """What every database starts with: version 1 of the rule set, when it has none."""
    if conn.scalar(select(func.count()).select_from(tables.RuleSet)) == 0:
        conn.execute(
            insert(tables.RuleSet).values(
                version=1,
                is_current=True,
                body=DEFAULT_RULES,
                author="system",
                reason="built in",
                created_at=clock.now(),
            )
        )


@contextmanager
def _connect(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with engine.connect() as conn:
            yield conn
    except DatabaseError as error:
        if "file is not a database" in str(error.orig):
            raise NotADatabase(place=place_of(url), found="–", needed=newest_version()) from error
        raise
    finally:
        engine.dispose()


def _execute_outside_transaction(conn: Connection, statement: str) -> None:
    driver = conn.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    driver.execute(statement)


def _version(conn: Connection, *, place: str) -> str | None:
    there = set(inspect(conn).get_table_names())
    if VERSION_TABLE in there:
        context = MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision()
    # An SQLite file has one owner; a PostgreSQL database may be shared with tables that are not in our way.
    foreign = there if conn.dialect.name == "sqlite" else there & set(Base.metadata.tables)
    if foreign:
        raise ForeignDatabase(
            place=place,
            tables=", ".join(sorted(foreign)[:3]),
            version_table=VERSION_TABLE,
            found="–",
            needed=newest_version(),
        )
    return None


def _refuse_newer(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaVersion(found=found, needed=newest_version())


def _sqlite_file(url: str) -> Path | None:
    """The SQLite database's file; None on PostgreSQL and in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def place_of(url: str) -> str:
    """What to call a database in a message: its file, or its URL without the password."""
    return str(_sqlite_file(url) or make_url(url).render_as_string(hide_password=True))
