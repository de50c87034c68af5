"""What keeps the rest honest: number series, rules, change log, outbox, decisions, audit, imports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import UserDefinedType

from orders_core.store.base import Base, Facts, Id, LogId, Zero, one_of, ref


class NumberSeries(Base):
    """One row per series of numbers: row ids, order numbers, invoice numbers. Taken in blocks; gaps are fine."""

    __tablename__ = "number_series"
    __table_args__ = (CheckConstraint("next_value > 0", name="next_value_positive"), {"sqlite_strict": True})
    name: Mapped[str] = mapped_column(primary_key=True)
    next_value: Mapped[int]


class RuleSet(Base):
    """One row per version of the business rules (checks, auto-approval, shortage, routing, edit and notice policy)."""

    __tablename__ = "rule_set"
    __table_args__ = (
        Index(
            "uq_rule_set_current",
            "is_current",
            unique=True,
            sqlite_where=text("is_current"),
            postgresql_where=text("is_current"),
        ),
        {"sqlite_strict": True},
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    is_current: Mapped[bool]
    body: Mapped[Facts]
    author: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[datetime]


class TransactionId(UserDefinedType[int]):
    """PostgreSQL's xid8."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class CurrentTransaction(FunctionElement[int]):
    """The running transaction's id on PostgreSQL; NULL on SQLite, where ids are commit order already."""

    inherit_cache = True
    name = "current_transaction"


@compiles(CurrentTransaction, "postgresql")
def _current_transaction_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "pg_current_xact_id()"


@compiles(CurrentTransaction)
def _current_transaction(element: Any, compiler: Any, **kw: Any) -> str:
    return "NULL"


class ChangeLog(Base):
    """One row per change of an entity, without its content: a reader re-reads the row by key, highest version wins.

    On PostgreSQL a row is safe to read once `transaction_id < pg_snapshot_xmin(pg_current_snapshot())`; on SQLite the
    id is commit order.
    """

    __tablename__ = "change_log"
    __table_args__ = (
        one_of("operation", ["insert", "update", "delete"]),
        Index("ix_change_log_entity", "entity", "entity_id"),
        {"sqlite_strict": True, "sqlite_autoincrement": True},
    )
    id: Mapped[LogId]
    entity: Mapped[str]
    entity_id: Mapped[int]
    version: Mapped[int]
    operation: Mapped[str]
    at: Mapped[datetime]
    transaction_id: Mapped[int | None] = mapped_column(
        TransactionId().with_variant(sqlite.INTEGER(), "sqlite"),
        server_default=CurrentTransaction(),
    )


class Outbox(Base):
    """One row per notice or event to send; written in the transaction it tells of, sent by the delivery loop.

    `dedupe_key` makes a second writing harmless. Rows of one `ordering_key` go strictly in order (webhooks); a dead
    letter blocks its key until someone decides.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        one_of("kind", ["mail", "sms", "webhook"]),
        one_of("status", ["waiting", "sending", "sent", "dead", "cancelled"]),
        one_of("language", ["zh", "en"]),
        Index("ix_outbox_due", "status", "next_try_at"),
        Index("ix_outbox_ordering", "ordering_key", "id"),
        Index("ix_outbox_entity", "entity", "entity_id"),
        {"sqlite_strict": True, "sqlite_autoincrement": True},
    )
    id: Mapped[LogId]
    dedupe_key: Mapped[str] = mapped_column(unique=True)
    ordering_key: Mapped[str | None]
    kind: Mapped[str]
    template: Mapped[str]
    language: Mapped[str]
    recipient: Mapped[str]
    facts: Mapped[Facts]
    entity: Mapped[str | None]
    entity_id: Mapped[int | None]
    status: Mapped[str] = mapped_column(default="waiting", server_default="waiting")
    attempts: Mapped[Zero]
    next_try_at: Mapped[datetime]
    claimed_until: Mapped[datetime | None]
    claimed_by: Mapped[str | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class WebhookSubscription(Base):
    """One row per other system that wants events."""

    __tablename__ = "webhook_subscription"
    __table_args__ = ({"sqlite_strict": True},)
    id: Mapped[Id]
    url: Mapped[str]
    secret_name: Mapped[str]  # the environment variable that holds it; never the secret
    events: Mapped[Facts]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[datetime]


class Inbox(Base):
    """One row per webhook received, so that an exact replay has no effect."""

    __tablename__ = "inbox"
    __table_args__ = ({"sqlite_strict": True},)
    source: Mapped[str] = mapped_column(primary_key=True)
    message_key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[str]
    received_at: Mapped[datetime]


class Decision(Base):
    """One row per decision of the system: what, why (reason codes and facts), and what it was chosen over."""

    __tablename__ = "decision"
    __table_args__ = (
        Index("ix_decision_entity", "entity", "entity_id"),
        {"sqlite_strict": True, "sqlite_autoincrement": True},
    )
    id: Mapped[LogId]
    kind: Mapped[str]  # approve, route, allocate, split, edit, carrier …
    entity: Mapped[str]
    entity_id: Mapped[int]
    outcome: Mapped[str]
    reasons: Mapped[Facts]  # [{code, …facts}]
    alternatives: Mapped[Facts | None]
    rules_version: Mapped[int]
    at: Mapped[datetime]
    actor: Mapped[str]


class AuditEntry(Base):
    """One row per action of a person or the system, appended in the action's own transaction; the order's timeline."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_entity", "entity", "entity_id"),
        {"sqlite_strict": True, "sqlite_autoincrement": True},
    )
    id: Mapped[LogId]
    at: Mapped[datetime]
    actor: Mapped[str]
    roles: Mapped[str]
    action: Mapped[str]
    entity: Mapped[str]
    entity_id: Mapped[int]
    version: Mapped[int | None]
    facts: Mapped[Facts | None]


class AuditSeal(Base):
    """One row per sealed audit entry: hash over the previous seal and the entry, so that tampering shows."""

    __tablename__ = "audit_seal"
    __table_args__ = ({"sqlite_strict": True},)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    audit_entry_id: Mapped[int] = mapped_column(ref("audit_entry"), unique=True)
    seal: Mapped[str]
    sealed_at: Mapped[datetime]


class ImportRun(Base):
    """One row per file taken in: what was read, accepted, quarantined and recognised as already known."""

    __tablename__ = "import_run"
    __table_args__ = (
        one_of("status", ["running", "done", "refused", "failed"]),
        CheckConstraint(
            "status <> 'done' OR read_rows = accepted_rows + quarantined_rows + duplicate_rows",
            name="rows_add_up",
        ),
        Index("ix_import_run_file", "file_hash"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    noun: Mapped[str]  # orders, catalogue, stock, customers, tracking
    file_name: Mapped[str]
    file_hash: Mapped[str]
    mapping: Mapped[str]
    encoding: Mapped[str | None]
    status: Mapped[str]
    read_rows: Mapped[Zero]
    accepted_rows: Mapped[Zero]
    quarantined_rows: Mapped[Zero]
    duplicate_rows: Mapped[Zero]
    facts: Mapped[Facts | None]
    actor: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class QuarantinedRow(Base):
    """One row per file row kept out, as it was, with the place, the field and the reason; replayable after repair."""

    __tablename__ = "quarantined_row"
    __table_args__ = (
        one_of("status", ["open", "replayed", "dropped"]),
        UniqueConstraint("noun", "row_key"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    import_run_id: Mapped[int] = mapped_column(ref("import_run"), index=True)
    noun: Mapped[str]
    row_key: Mapped[str]  # hash of the row's content and occurrence: the same row in a re-export is known
    file_hash: Mapped[str]
    line: Mapped[int]
    field: Mapped[str | None]
    code: Mapped[str]
    message: Mapped[str]
    raw: Mapped[Facts]
    status: Mapped[str] = mapped_column(default="open", server_default="open")
    created_at: Mapped[datetime]


class RunLock(Base):
    """One row per job that only one process may run at a time, with who holds it and until when."""

    __tablename__ = "run_lock"
    __table_args__ = ({"sqlite_strict": True},)
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    taken_at: Mapped[datetime]
    expires_at: Mapped[datetime]
