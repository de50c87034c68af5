"""Seals over the audit trail, so that a changed, removed or slipped-in line shows: `dinghuo audit verify`.

Actions append their audit rows unchained, in their own transactions. One sealer at a time then chains the committed rows
in the order of their ids: seal = SHA-256(previous seal, row). What is not sealed yet is the unsealed tail.

Which rows may be sealed: a row once passed over could never be sealed in order any more. On SQLite a writer holds the
database's only write lock, so ids are commit order and every visible row is safe. On PostgreSQL an id is taken before
the commit: row 6 can be visible while row 5 is not. So the sealer takes note of the highest id and of the next
transaction id in one snapshot, waits until every transaction below the latter has ended (none lasts over a second), and
seals only up to the former: whatever is still missing there was rolled back. (A transaction has its id by then, because
its audit rows are the last things it writes.)

A chain cannot show that its end was cut off together with the rows. Who keeps a seal elsewhere asks for it: `known_seal`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, insert, text

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.store.tables import AuditSeal
from orders_core.store.uow import Store, UnitOfWork

ROWS_AT_A_TIME = 5000  # a transaction of the sealer stays well under a second
_SEALER_LOCK = 7_364_446_487  # next to the upgrade's
_FIRST_SEAL = ""

_COLUMNS = "e.id, e.at, e.actor, e.roles, e.action, e.entity, e.entity_id, e.version, e.facts"
_LAST_SEALED = text("SELECT position, audit_entry_id, seal FROM audit_seal ORDER BY position DESC LIMIT 1")
_NEXT_ROWS = text(
    f"SELECT {_COLUMNS} FROM audit_entry e WHERE e.id > :last_id AND e.id <= :upto_id ORDER BY e.id LIMIT :limit"
)
_HORIZON = text(
    "SELECT (SELECT max(id) FROM audit_entry) AS upto_id, pg_snapshot_xmax(pg_current_snapshot())::text AS next_transaction"
)
_IS_SETTLED = text("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= CAST(:next_transaction AS xid8)")
_CHAIN = text(
    f"SELECT s.position, s.audit_entry_id, s.seal, {_COLUMNS} FROM audit_seal s"
    " LEFT JOIN audit_entry e ON e.id = s.audit_entry_id ORDER BY s.position"
)
_UNSEALED = text(
    "SELECT count(*) AS rows_count, min(e.id) AS first_id FROM audit_entry e"
    " WHERE NOT EXISTS (SELECT 1 FROM audit_seal s WHERE s.audit_entry_id = e.id)"
)


def seal_audit(store: Store, *, wait_seconds: float = 10.0) -> int:
    """Seal what has been committed and is not sealed yet; gives how many rows.

    Any number of processes may call it: they take turns. On PostgreSQL, when a transaction has been open for longer
    than `wait_seconds`, nothing is sealed this time.
    """
    upto_id = _settled_upto(store, wait_seconds)
    sealed = 0
    while upto_id is not None:
        count = store.run(_seal_some, SYSTEM, upto_id)
        sealed += count
        if count < ROWS_AT_A_TIME:
            break
    return sealed


def _settled_upto(store: Store, wait_seconds: float) -> int | None:
    """The highest id up to which no row can appear any more; None when there is none or it took too long."""
    if store.engine.dialect.name == "sqlite":
        with store.reading() as conn:
            return conn.execute(text("SELECT max(id) FROM audit_entry")).scalar_one_or_none()
    with store.engine.connect() as conn:
        horizon = conn.execute(_HORIZON).one()
        conn.rollback()  # nothing of ours stays open while we wait
        deadline = time.monotonic() + wait_seconds
        while horizon.upto_id is not None:
            is_settled = conn.execute(_IS_SETTLED, {"next_transaction": horizon.next_transaction}).scalar_one()
            conn.rollback()
            if is_settled:
                return int(horizon.upto_id)
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
    return None


def _seal_some(uow: UnitOfWork, _actor: Actor, upto_id: int) -> int:
    if not uow.is_sqlite:  # on SQLite the unit of work itself has the only write lock
        uow.conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SEALER_LOCK})
    last = uow.row(_LAST_SEALED)
    position, last_id, seal = (last.position, last.audit_entry_id, last.seal) if last else (0, 0, _FIRST_SEAL)
    rows = uow.rows(_NEXT_ROWS, {"last_id": last_id, "upto_id": upto_id, "limit": ROWS_AT_A_TIME})
    seals = []
    for row in rows:
        position += 1
        seal = _seal(seal, row)
        seals.append({"position": position, "audit_entry_id": row.id, "seal": seal, "sealed_at": uow.now})
    if seals:
        uow.conn.execute(insert(AuditSeal), seals)
    return len(seals)


def _seal(previous: str, row: Row[Any]) -> str:
    """SHA-256 over the previous seal and the row's columns as stored (JSON text, microseconds: the same everywhere)."""
    values = [row.id, row.at, row.actor, row.roles, row.action, row.entity, row.entity_id, row.version, row.facts]
    canonical = json.dumps([previous, *values], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class AuditProblem:
    """The first line where the trail is not what was sealed."""

    kind: Literal["changed", "missing", "inserted", "seal_missing", "unknown_seal"]
    audit_entry_id: int | None
    position: int | None

    def text(self, language: str = "en") -> str:
        """The sentence in `zh` or `en`."""
        en, zh = _SENTENCES[self.kind]
        return (zh if language == "zh" else en).format(id=self.audit_entry_id, position=self.position)


_SENTENCES = {
    "changed": (
        "audit row {id} (seal {position}) or the seal before it is not what was sealed",
        "审计记录 {id}(封印 {position})或其前一封印与封存时不同",
    ),
    "missing": (
        "audit row {id} (seal {position}) was sealed but is not there any more",
        "审计记录 {id}(封印 {position})已封存，但现已不存在",
    ),
    "inserted": (
        "audit row {id} appeared among rows that were sealed without it",
        "审计记录 {id} 是在其后的记录封存之后插入的",
    ),
    "seal_missing": ("seal {position} is not there", "缺少封印 {position}"),
    "unknown_seal": (
        "the seal you kept is not in the chain: the trail was cut off or rewritten",
        "您保存的封印不在链中：审计记录被截断或改写",
    ),
}


@dataclass(frozen=True)
class AuditReport:
    """How far the trail is sealed and whether it holds. `last_seal` is what to keep elsewhere."""

    sealed_count: int
    unsealed_count: int
    first_unsealed_id: int | None
    last_seal: str | None
    problem: AuditProblem | None

    @property
    def is_intact(self) -> bool:
        return self.problem is None


def verify_audit(store: Store, *, known_seal: str | None = None) -> AuditReport:
    """Check every seal against its row; names the first tampered, missing or slipped-in row and the unsealed tail."""
    with store.reading() as conn:
        sealed, last_id, last_seal, problem = 0, 0, None, None
        for link in _links(conn):
            sealed, last_id, last_seal = link.position, link.audit_entry_id, link.seal
            problem = problem or link.problem
        unsealed = conn.execute(_UNSEALED).one()
        if unsealed.first_id is not None and unsealed.first_id < last_id:
            inserted = AuditProblem("inserted", unsealed.first_id, None)
            if problem is None or (problem.audit_entry_id or 0) > unsealed.first_id:
                problem = inserted
        if known_seal is not None and problem is None:
            is_there = conn.execute(text("SELECT 1 FROM audit_seal WHERE seal = :seal"), {"seal": known_seal}).first()
            problem = None if is_there else AuditProblem("unknown_seal", None, None)
    return AuditReport(sealed, unsealed.rows_count, unsealed.first_id, last_seal, problem)


@dataclass(frozen=True)
class _Link:
    position: int
    audit_entry_id: int
    seal: str
    problem: AuditProblem | None


def _links(conn: Connection) -> Iterator[_Link]:
    previous, position = _FIRST_SEAL, 0
    for row in conn.execute(_CHAIN).yield_per(ROWS_AT_A_TIME):
        position += 1
        problem = None
        if row.position != position:
            problem = AuditProblem("seal_missing", None, position)
        elif row.id is None:
            problem = AuditProblem("missing", row.audit_entry_id, position)
        elif _seal(previous, row) != row.seal:
            problem = AuditProblem("changed", row.audit_entry_id, position)
        yield _Link(row.position, row.audit_entry_id, row.seal, problem)
        previous, position = row.seal, row.position
