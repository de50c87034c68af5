"""Alembic runs this file for every command; `schema.upgrade` and `make` hand in the connection."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import DefaultClause, TextClause

from orders_core.store.base import Base
from orders_core.store.migrations import types
from orders_core.store.schema import VERSION_TABLE
from orders_core.store.tables.platform import CurrentTransaction

_NAMES = {name: value for name, value in vars(types).items() if name.isupper()}


def render_item(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Names of types.py instead of SQLAlchemy's long spelling."""
    if kind == "type":
        for name, known in _NAMES.items():
            if type(known) is type(item) and repr(known) == repr(item):
                return f"t.{name}"
        raise ValueError(f"no name in migrations/types.py for the type {item!r}")
    if kind == "server_default" and isinstance(item, DefaultClause):
        if isinstance(item.arg, CurrentTransaction):
            return "t.CURRENT_TRANSACTION"
        if isinstance(item.arg, TextClause):
            return f"sa.text({item.arg.text!r})"  # Alembic would put it in brackets on SQLite
    return False


def is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Only tables of the core are compared; others may share the database."""
    return kind != "table" or name in Base.metadata.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=context.config.attributes.get("render_as_batch", True),  # SQLite alters a table by rebuilding it
    render_item=render_item,
    include_name=is_ours,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
