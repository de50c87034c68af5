"""Column types and small helpers that every table uses.

The same declaration serves SQLite (STRICT tables, which know only INTEGER, TEXT, REAL and BLOB) and PostgreSQL.
Instants are INTEGER microseconds since 1970 UTC on both, JSON is TEXT on both: what is stored, hashed and extracted
is then the same everywhere. Days and flags take PostgreSQL's own types there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.sql.type_api import TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_US = timedelta(microseconds=1)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Big = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")


def to_micros(at: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware instant."""
    return (at - EPOCH) // _ONE_US


def from_micros(micros: int) -> datetime:
    """The aware UTC instant of microseconds since 1970-01-01 UTC."""
    return EPOCH + timedelta(microseconds=micros)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as INTEGER microseconds. Naive datetimes are refused."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Big)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_micros(value)


class Day(TypeDecorator[date]):
    """A local business date: DATE on PostgreSQL, ISO text on SQLite."""

    impl = Date
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Date())

    def process_bind_param(self, value: date | None, dialect: Dialect) -> Any:
        return value.isoformat() if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> date | None:
        return date.fromisoformat(value) if isinstance(value, str) else value


class Flag(TypeDecorator[bool]):
    """True or false: BOOLEAN on PostgreSQL, 0 or 1 on SQLite."""

    impl = Boolean
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else Boolean())

    def process_bind_param(self, value: bool | None, dialect: Dialect) -> Any:
        return int(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> bool | None:
        return None if value is None else bool(value)


# One for all: json.dumps with options builds another each time.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def dump_json(value: Any) -> str:
    """Compact JSON with sorted keys, so that equal facts are equal text."""
    return _ENCODER.encode(value)


class Json(TypeDecorator[Any]):
    """Facts as JSON text with sorted keys."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else dump_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Base(DeclarativeBase):
    """Every table of the core."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        int: Big,
        str: Text(),
        bool: Flag(),
        float: Float(53).with_variant(sqlite.REAL(), "sqlite"),
        datetime: Instant(),
        date: Day(),
    }


# Ids come from uow.ids before the row is written, so that rows of one command can refer to each other at once.
Id = Annotated[int, mapped_column(Big, primary_key=True, autoincrement=False)]
# Log tables are numbered by the database: on SQLite inside BEGIN IMMEDIATE that is commit order.
LogId = Annotated[int, mapped_column(Big, primary_key=True, autoincrement=True)]
Facts = Annotated[Any, mapped_column(Json())]
Zero = Annotated[int, mapped_column(Big, default=0, server_default="0")]
Version = Annotated[int, mapped_column(Big, default=1, server_default="1")]


def one_of(column: str, values: Sequence[str], *, name: str | None = None) -> CheckConstraint:
    """CHECK that `column` holds one of the words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name or f"{column}_known")


def never_negative(*columns: str) -> list[CheckConstraint]:
    """One named CHECK per column that it is zero or more."""
    return [CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative") for column in columns]


def ref(target: str) -> ForeignKey:
    """Foreign key to `table.id` (or `table.column`); nothing is ever deleted under a row that refers to it."""
    return ForeignKey(target if "." in target else f"{target}.id")
