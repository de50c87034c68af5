"""The store and the unit of work: how a command reaches the database, whole or not at all.

A service is a function `(uow, actor, command) -> result`. Entry points call `store.run(service, actor, command)`, which
opens the unit of work, commits, and repeats the whole command when the database says so (a lock, a deadlock, two
writers with one key). Change log, audit, decisions and notices are collected while the command runs and written in
one statement each just before the commit.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Concatenate, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Row, create_engine, event, insert, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, MultipleResultsFound, OperationalError
from sqlalchemy.sql.base import Executable

from orders_core.domain.permissions import Actor
from orders_core.errors import Busy
from orders_core.ports import Clock, SystemClock
from orders_core.store.prepared import Prepared
from orders_core.store.tables import AuditEntry, ChangeLog, Decision, Outbox

P = ParamSpec("P")
R = TypeVar("R")

ID_BLOCK = 1000  # row ids taken at a time
NUMBER_BLOCK = 50  # document numbers taken at a time
RETRY_SECONDS = 60.0
_RETRIED_SQLSTATES = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available

_TAKE_BLOCK = text(
    "INSERT INTO number_series (name, next_value) VALUES (:series, 1 + :count)"
    " ON CONFLICT (name) DO UPDATE SET next_value = number_series.next_value + :count RETURNING next_value"
)
_CHANGES = Prepared(insert(ChangeLog.__table__))  # type: ignore[arg-type]
_AUDIT = Prepared(insert(AuditEntry.__table__))  # type: ignore[arg-type]
_DECISIONS = Prepared(insert(Decision.__table__))  # type: ignore[arg-type]


class Contended(Exception):
    """Someone else took the units between reading and reserving; the command is run again at once."""


class Ids:
    """Hands out row ids and document numbers from the database's number series, a block at a time.

    One unit of work at a time owns an `Ids`. On SQLite a block is taken inside the unit of work's own transaction (the
    write lock is exclusive anyway) and thrown away with it; on PostgreSQL in a transaction of its own, so that nobody
    waits for a series while holding stock.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left: dict[str, list[int]] = {}  # series -> [next, end)
        self._uncommitted: set[str] = set()

    def take(self, conn: Connection, series: str, count: int = 1) -> int:
        """The first of `count` consecutive numbers of a series."""
        left = self._left.get(series)
        if left is None or left[1] - left[0] < count:
            size = max(ID_BLOCK if series == "id" else NUMBER_BLOCK, count)
            wanted = {"series": series, "count": size}
            if conn.dialect.name == "sqlite":
                end = conn.execute(_TAKE_BLOCK, wanted).scalar_one()
                self._uncommitted.add(series)
            else:
                with self._engine.begin() as own:
                    end = own.execute(_TAKE_BLOCK, wanted).scalar_one()
            left = self._left[series] = [end - size, end]
        first = left[0]
        left[0] += count
        return first

    def settle(self, *, committed: bool) -> None:
        """Keep the blocks taken in the transaction that just ended, or throw them away with it."""
        if not committed:
            for series in self._uncommitted:
                del self._left[series]
        self._uncommitted.clear()


@dataclass
class UnitOfWork:
    """One transaction: its connection, the one moment it calls now, and what it will have changed.

    `now` stands still within a unit of work, so that all rows of one command carry the same instant.
    """

    conn: Connection
    now: datetime
    ids: Ids
    zone: ZoneInfo
    cache: dict[Any, Any]
    attempt: int = 0  # how often this command was run before
    freed: set[tuple[int, int]] = field(default_factory=set)  # (SKU id, location id) where units were given back
    _changes: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    _audit: list[dict[str, Any]] = field(default_factory=list)
    _decisions: list[dict[str, Any]] = field(default_factory=list)
    _notices: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def today(self) -> date:
        """The business date of `now`."""
        return self.now.astimezone(self.zone).date()

    @property
    def is_sqlite(self) -> bool:
        return self.conn.dialect.name == "sqlite"

    def new_id(self, count: int = 1) -> int:
        """The first of `count` consecutive row ids."""
        return self.ids.take(self.conn, "id", count)

    def new_number(self, prefix: str) -> str:
        """A document number like SO-20261122-000317: unique, rising, with gaps."""
        return f"{prefix}-{self.today:%Y%m%d}-{self.ids.take(self.conn, prefix):06d}"

    def rows(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Every row of a query."""
        if isinstance(statement, Prepared):
            return statement.rows(self.conn, parameters or {})
        return self.conn.execute(statement, parameters).all()

    def row(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Row[Any] | None:
        """The only row of a query, or None."""
        if isinstance(statement, Prepared):
            found: list[Row[Any]] = statement.rows(self.conn, parameters or {})
            if len(found) > 1:
                raise MultipleResultsFound(f"{len(found)} rows where one was expected")
            return found[0] if found else None
        return self.conn.execute(statement, parameters).one_or_none()

    def write(self, statement: Prepared, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that all have the same columns."""
        statement.write(self.conn, rows)

    def changed(self, entity: str, entity_id: int, version: int, operation: str = "update") -> None:
        """Tell the change log; once per entity and unit of work, the last version counts."""
        known = self._changes.get((entity, entity_id))
        if known is not None:
            known["version"] = max(version, known["version"])
            return
        self._changes[entity, entity_id] = {
            "entity": entity,
            "entity_id": entity_id,
            "version": version,
            "operation": operation,
            "at": self.now,
        }

    def audit(
        self,
        actor: Actor,
        action: str,
        entity: str,
        entity_id: int,
        *,
        version: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Append who did what to the audit trail, which is also the entity's timeline."""
        self._audit.append(
            {
                "at": self.now,
                "actor": actor.name,
                "roles": ",".join(sorted(actor.roles)),
                "action": action,
                "entity": entity,
                "entity_id": entity_id,
                "version": version,
                "facts": facts,
            }
        )

    def decide(
        self,
        kind: str,
        entity: str,
        entity_id: int,
        outcome: str,
        reasons: Sequence[Mapping[str, Any]],
        *,
        alternatives: Sequence[Mapping[str, Any]] | None = None,
        rules_version: int = 0,
        actor: str = "system",
    ) -> None:
        """Store a decision with its reasons and what it was chosen over."""
        self._decisions.append(
            {
                "kind": kind,
                "entity": entity,
                "entity_id": entity_id,
                "outcome": outcome,
                "reasons": reasons,
                "alternatives": alternatives,
                "rules_version": rules_version,
                "at": self.now,
                "actor": actor,
            }
        )

    def notify(
        self,
        template: str,
        *,
        dedupe_key: str,
        recipient: str | None,
        language: str,
        facts: Mapping[str, Any],
        entity: str | None = None,
        entity_id: int | None = None,
        kind: str = "mail",
        ordering_key: str | None = None,
        not_before: datetime | None = None,
    ) -> None:
        """Queue a notice in this transaction. A second one with the same `dedupe_key` is dropped by the database.

        Without a recipient nothing is queued: there is nobody to tell.
        """
        if not recipient:
            return
        self._notices.append(
            {
                "dedupe_key": dedupe_key,
                "ordering_key": ordering_key,
                "kind": kind,
                "template": template,
                "language": language,
                "recipient": recipient,
                "facts": facts,
                "entity": entity,
                "entity_id": entity_id,
                "next_try_at": not_before or self.now,
                "created_at": self.now,
            }
        )

    @contextmanager
    def dry_run(self) -> Iterator[None]:
        """Do it for real, then undo it: what a preview shows is what would happen, and nothing is left of it."""
        self.flush()
        savepoint = self.conn.begin_nested()
        try:
            yield
            self.flush()
        finally:
            self._forget()
            savepoint.rollback()
            self.ids.settle(committed=False)

    @contextmanager
    def one_of_many(self) -> Iterator[None]:
        """One of many commands in this transaction: when it raises, what it did is undone and the others stay."""
        self.flush()
        savepoint = self.conn.begin_nested()
        try:
            yield
            self.flush()
        except BaseException:
            self._forget()
            savepoint.rollback()
            self.ids.settle(committed=False)
            raise
        savepoint.commit()

    def _forget(self) -> None:
        self._changes, self._audit, self._decisions, self._notices, self.freed = {}, [], [], [], set()

    def flush(self) -> None:
        """Write what was collected; called before the commit, and before a query that must see it."""
        if self._changes:
            self.write(_CHANGES, list(self._changes.values()))
            self._changes = {}
        if self._audit:
            self.write(_AUDIT, self._audit)
            self._audit = []
        if self._decisions:
            self.write(_DECISIONS, self._decisions)
            self._decisions = []
        if self._notices:
            self.write(self._notice_insert(), self._notices)
            self._notices = []

    def _notice_insert(self) -> Prepared:
        statement: Prepared | None = self.cache.get("insert_outbox")
        if statement is None:
            if self.is_sqlite:
                from sqlalchemy.dialects.sqlite import insert as upsert  # noqa: PLC0415 - two functions, one name
            else:
                from sqlalchemy.dialects.postgresql import insert as upsert  # type: ignore[assignment] # noqa: PLC0415
            statement = Prepared(
                upsert(Outbox.__table__).on_conflict_do_nothing(  # type: ignore[arg-type]
                    index_elements=["dedupe_key"]
                )
            )
            self.cache["insert_outbox"] = statement
        return statement


class Store:
    """A database of the core, open for work. One per process and database; threads may share it.

    Example:
        store = Store.open("sqlite:///orders.db")
        result = store.run(place_order, actor, command)
    """

    def __init__(self, engine: Engine, *, clock: Clock, zone: ZoneInfo) -> None:
        self.engine = engine
        self.clock = clock
        self.zone = zone
        self._idle_ids: list[Ids] = []
        self.cache: dict[Any, Any] = {}  # rule sets by version, dialect's statements
        self._random = random.Random()

    @property
    def url(self) -> str:
        """The URL another process opens the same database with (password included)."""
        return self.engine.url.render_as_string(hide_password=False)

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, zone: str = "Asia/Shanghai") -> Store:
        """Open `sqlite:///path` or `postgresql+psycopg://…`; the schema must be there (see schema.upgrade)."""
        return cls(make_engine(url), clock=clock or SystemClock(), zone=ZoneInfo(zone))

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def unit_of_work(self, *, attempt: int = 0) -> Iterator[UnitOfWork]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self.engine.connect() as conn:
            ids = self._idle_ids.pop() if self._idle_ids else Ids(self.engine)
            try:
                with conn.begin():
                    uow = UnitOfWork(conn, self.clock.now().astimezone(UTC), ids, self.zone, self.cache, attempt)
                    yield uow
                    uow.flush()
            except BaseException:
                ids.settle(committed=False)
                raise
            else:
                ids.settle(committed=True)
            finally:
                self._idle_ids.append(ids)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading only; sees one consistent state and blocks nobody."""
        with self.engine.connect().execution_options(dinghuo_read_only=True) as conn, conn.begin():
            if conn.dialect.name == "postgresql":
                conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield conn

    def run(
        self,
        service: Callable[Concatenate[UnitOfWork, Actor, P], R],
        actor: Actor,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run one command in its own transaction and return what it returned, committed.

        The whole command is repeated when the database asks for it: a lock, a deadlock, or another writer who used the
        same key a moment earlier (the repeat then finds that writer's row).

        Raises:
            Busy: still locked after 60 s; nothing was written.
            OrdersError: what the service refused; nothing was written.
        """
        started = time.monotonic()
        conflicts = 0
        for attempt in itertools.count():
            try:
                with self.unit_of_work(attempt=attempt) as uow:
                    return service(uow, actor, *args, **kwargs)
            except Contended:
                continue
            except IntegrityError as error:
                conflicts += 1
                if conflicts > 3 or not _is_raced_key(error):
                    raise
            except DBAPIError as error:
                if not _is_transient(error):
                    raise
                waited = time.monotonic() - started
                if waited > RETRY_SECONDS:
                    raise Busy(seconds=round(waited)) from error
            time.sleep(self._random.uniform(0.001, 0.02))
        raise AssertionError("unreachable")


def _is_raced_key(error: IntegrityError) -> bool:
    return "UNIQUE constraint" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "23505"


def _is_transient(error: DBAPIError) -> bool:
    if isinstance(error, OperationalError) and "locked" in str(error.orig):
        return True
    return getattr(error.orig, "sqlstate", None) in _RETRIED_SQLSTATES


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Switch the file to WAL, which it then stays in. Where several open a new file at once, SQLite calls it locked without
    waiting for the timeout; so we wait."""
    started = time.monotonic()
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() - started > RETRY_SECONDS:
                raise
        time.sleep(random.uniform(0.001, 0.02))


def make_engine(url: str) -> Engine:
    """An engine with the settings this project relies on (see docs/decisions.md, 'SQLite settings')."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_pre_ping=False, isolation_level="READ COMMITTED")
    engine = create_engine(parsed, connect_args={"timeout": RETRY_SECONDS})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        _use_wal(cursor)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-65536", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(conn: Connection) -> None:
        # A deferred BEGIN that reads and then writes fails at once with "database is locked".
        read_only = conn.get_execution_options().get("dinghuo_read_only", False)
        conn.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
