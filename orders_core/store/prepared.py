"""Statements that run for every order: compiled once per database, then handed to the driver as they are.

SQLAlchemy looks a statement up, lays out its parameters and builds a result object each time it runs; over the 14 statements
of an order that costs more than the database itself (benchmarks/place_order.py; a third of an order's CPU time). A `Prepared`
is declared once, where the statement was, and takes and gives the same values: parameters by name, rows by attribute.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect, Insert, bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

_Convert = Callable[[Any], Any]


class Prepared:
    """One statement of a module, built or as SQL text. A parameter that is a list stands for `IN (…)`.

    Example:
        _BY_CODE = Prepared(select(Sku.id, Sku.name).where(Sku.sku.in_(bindparam("skus", expanding=True))))
        names = [row.name for row in uow.rows(_BY_CODE, {"skus": ["LAMP", "RUG"]})]
    """

    def __init__(self, statement: ClauseElement | str) -> None:
        self._statement = statement
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def rows(self, conn: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run a query, or a change with RETURNING; gives every row."""
        lists = {name: _padded(value) for name, value in parameters.items() if type(value) is list}
        if lists:
            parameters = {**parameters, **lists}
        key = (conn.dialect.name, *((name, len(value)) for name, value in lists.items()))
        return self._for(key, conn, parameters).rows(conn, parameters)

    def write(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a change once per row, or insert the rows; all have the same names, and no lists among the values.

        A column that an insert leaves out gets its declared default.
        """
        self._for((conn.dialect.name, *rows[0]), conn, rows[0]).write(conn, rows)

    def _for(self, key: tuple[Any, ...], conn: Connection, parameters: Mapping[str, Any]) -> _Compiled:
        if not conn.in_transaction():
            conn.begin()  # as SQLAlchemy does by itself: SQLite would commit each statement alone
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, conn.dialect, parameters)
        return compiled


def _padded(values: list[Any]) -> list[Any]:
    """5, 6, 7 and 8 values share one statement: the last value again changes nothing in an IN."""
    size = 1 << max(0, len(values) - 1).bit_length()
    return values + values[-1:] * (size - len(values))


def _cursor(conn: Connection) -> Any:
    """The one cursor of this driver's connection; every statement has fetched its rows when the next one runs."""
    known = conn.info
    cursor = known.get("prepared_cursor")
    if cursor is None:
        cursor = known["prepared_cursor"] = conn.connection.cursor()
    return cursor


class _Compiled:
    """The text for one database and one shape of parameters, and how values go in and come out."""

    def __init__(self, statement: ClauseElement | str, dialect: Dialect, parameters: Mapping[str, Any]) -> None:
        if isinstance(statement, str):
            lists = [name for name, value in parameters.items() if type(value) is list]
            statement = text(statement).bindparams(*(bindparam(name, expanding=True) for name in lists))
        compiler = (
            # As for many rows: no RETURNING of the number the database gives.
            statement.compile(dialect=dialect, column_keys=list(parameters), for_executemany=True)
            if isinstance(statement, Insert)
            else statement.compile(dialect=dialect)
        )
        assert isinstance(compiler, SQLCompiler)
        defaults = {column.key: _default(column) for column in compiler.insert_prefetch}
        state = compiler.construct_expanded_state({**defaults, **parameters})
        self._dialect = dialect
        self._sql = state.statement
        self._is_positional = compiler.positional
        self._lists = {name: names for name, names in state.parameter_expansion.items() if name in parameters}
        # driver's name -> how to convert what the caller gives under it, or the statement's own value
        self._slots: dict[str, tuple[bool, _Convert | None, Any]] = {}
        for bind, name in compiler.bind_names.items():
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            for one in state.parameter_expansion.get(name, [name]):
                if name in parameters:
                    self._slots[one] = (True, convert, None)
                else:
                    own = state.parameters[one]
                    self._slots[one] = (False, None, own if convert is None else convert(own))
        self._ordered = [(name, *self._slots[name]) for name in state.positiontup or self._slots]
        self._columns = list(getattr(statement, "exported_columns", ()))  # a text has none: its rows come as they are
        self._row: Any = None
        self._reads: list[tuple[int, _Convert]] = []

    def rows(self, conn: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        cursor = _cursor(conn)
        self._run(cursor.execute, self._values(parameters))
        if self._row is None:
            self._learn_row(cursor.description)
        found = cursor.fetchall()
        make, reads = self._row._make, self._reads
        if not reads:
            return [make(row) for row in found]
        rows = []
        for row in found:
            values = list(row)
            for position, convert in reads:
                values[position] = convert(values[position])
            rows.append(make(values))
        return rows

    def write(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        cursor = _cursor(conn)
        if len(rows) == 1:
            self._run(cursor.execute, self._values(rows[0]))
        else:
            self._run(cursor.executemany, [self._values(row) for row in rows])

    def _values(self, given: Mapping[str, Any]) -> Any:
        if self._lists:
            given = dict(given)
            for name, names in self._lists.items():
                given.update(zip(names, given[name], strict=True))
        if self._is_positional:
            return [
                own if not is_given else given[name] if convert is None else convert(given[name])
                for name, is_given, convert, own in self._ordered
            ]
        return {
            name: own if not is_given else given[name] if convert is None else convert(given[name])
            for name, is_given, convert, own in self._ordered
        }

    def _learn_row(self, description: Sequence[Any]) -> None:
        reads = []
        for position, (column, described) in enumerate(zip(self._columns, description, strict=False)):
            convert = column.type.dialect_impl(self._dialect).result_processor(self._dialect, described[1])
            if convert is not None:
                reads.append((position, convert))
        names = [column.key for column in self._columns] or [described[0] for described in description]
        self._reads = reads  # before the row type, by which other threads know that both are there
        self._row = namedtuple("Row", names, rename=True)  # type: ignore[misc]

    def _run(self, call: Callable[[str, Any], Any], values: Any) -> None:
        try:
            call(self._sql, values)
        except self._dialect.loaded_dbapi.Error as error:
            # As SQLAlchemy reports it, so that the unit of work knows a lock or a raced key when it meets one.
            raise DBAPIError.instance(
                self._sql, values, error, self._dialect.loaded_dbapi.Error, dialect=self._dialect
            ) from error


def _default(column: Any) -> Any:
    if column.default is None or not column.default.is_scalar:
        raise TypeError(f"{column}: only plain default values can be prepared")
    return column.default.arg
