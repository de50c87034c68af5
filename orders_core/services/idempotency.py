"""Repeating a command is harmless: its key is stored with what it made, and a repeat answers from there.

A document (transfer, goods receipt, pick list …) holds key and body hash in its own row. A command that leaves only
movements behind keeps them in `inbox`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, insert, select

from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch
from orders_core.store.base import Base, dump_json
from orders_core.store.tables import Inbox
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class Keyed:
    """A command's key and body hash, and the row an earlier delivery of it made."""

    idem_key: str | None
    body_hash: str | None
    row: Any = None

    @property
    def columns(self) -> dict[str, str | None]:
        """What the new row stores."""
        return {"idem_key": self.idem_key, "body_hash": self.body_hash}


def body_hash(command: Any) -> str:
    """A hash of everything a command dataclass asks for, its key left out."""
    body = {name: value for name, value in asdict(command).items() if name != "idem_key"}
    return hashlib.blake2b(dump_json(body).encode(), digest_size=16).hexdigest()


def keyed(uow: UnitOfWork, table: type[Base], command: Any, *within: ColumnElement[bool]) -> Keyed:
    """The row of `table` that this command's `idem_key` made before, if any; `within` narrows whose key it is.

    Raises:
        IdempotencyMismatch: the key was used with another body.
    """
    if command.idem_key is None:
        return Keyed(None, None)
    digest = body_hash(command)
    columns = table.__table__.c
    row = uow.row(select(table.__table__).where(columns.idem_key == command.idem_key, *within))
    if row is not None and row.body_hash != digest:
        raise IdempotencyMismatch(key=command.idem_key, number=getattr(row, "number", row.id))
    return Keyed(command.idem_key, digest, row)


def source_of(actor: Actor, verb: str) -> str:
    """Where `inbox` keeps the keys of a verb: each caller has their own, two people count from 1 side by side."""
    return f"{verb} {actor.scope}"


def is_repeat(uow: UnitOfWork, actor: Actor, verb: str, command: Any) -> bool:
    """Whether this caller's command came before, for verbs without a document; remembers it when not.

    Raises:
        IdempotencyMismatch: the key was used with another body.
    """
    if command.idem_key is None:
        return False
    digest = body_hash(command)
    source = source_of(actor, verb)
    known = uow.row(select(Inbox.body_hash).where(Inbox.source == source, Inbox.message_key == command.idem_key))
    if known is None:
        uow.conn.execute(
            insert(Inbox),
            {"source": source, "message_key": command.idem_key, "body_hash": digest, "received_at": uow.now},
        )
        return False
    if known.body_hash != digest:
        raise IdempotencyMismatch(key=command.idem_key, number=verb)
    return True
