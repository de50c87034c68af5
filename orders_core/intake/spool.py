"""The rows of a history file on disk between its two passes: sorted, grouped and counted there, not in memory.

A plain SQLite file in the temporary folder, gone when the import ends. Rows that follow in a file need not belong
together; here they come back order by order, oldest first.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from orders_core.intake.problems import Problem

SCHEMA = """
CREATE TABLE good (
  line INTEGER PRIMARY KEY, order_key TEXT NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, sku TEXT NOT NULL,
  description TEXT NOT NULL, qty INTEGER NOT NULL, cents INTEGER NOT NULL, customer TEXT NOT NULL,
  country TEXT NOT NULL, currency TEXT NOT NULL, line_no TEXT NOT NULL, is_known INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE bad (
  line INTEGER PRIMARY KEY, content TEXT NOT NULL, problem TEXT NOT NULL, cells TEXT NOT NULL, header TEXT NOT NULL
) STRICT;
"""


class Line(NamedTuple):
    """One row of a history file, read and found good. `at` is microseconds UTC, `cents` the price of one unit."""

    line: int
    order_key: str
    at: int
    kind: str  # item, charge or credit
    sku: str
    description: str
    qty: int
    cents: int
    customer: str
    country: str
    currency: str
    line_no: str

    @property
    def content(self) -> tuple[str, str, int, int, str]:
        """What makes it the same line as another one."""
        return (self.kind, self.sku, self.qty, self.cents, self.line_no)


class Spooled(NamedTuple):
    """A bad row as it waits: `content` says when two are the same row, `cells` is the row as text."""

    line: int
    content: str
    problem: Problem
    cells: list[str]
    header: list[str] | None = None  # of `cells`, where it is not the file's


class Spool:
    """See the module. One connection, one thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;" + SCHEMA)
        self._db.execute("BEGIN")

    def add(self, good: Iterable[Line], bad: Iterable[Spooled]) -> None:
        """Keep rows for the second pass."""
        self._db.executemany(f"INSERT INTO good VALUES ({','.join('?' * 12)}, 0)", good)
        self._db.executemany(
            "INSERT INTO bad VALUES (?, ?, ?, ?, ?)",
            ((b.line, b.content, _dump(b.problem), _text(b.cells), _text(b.header)) for b in bad),
        )

    def ready(self) -> None:
        """All rows are in: sort them."""
        self._db.execute("CREATE INDEX good_order ON good (order_key, line)")
        self._db.execute("CREATE TABLE first AS SELECT order_key, min(line) AS line FROM good GROUP BY order_key")
        self._db.execute("CREATE INDEX first_line ON first (line)")

    def close(self) -> None:
        self._db.close()

    def _lines(self, where: str, parameters: tuple[object, ...] = ()) -> Iterator[Line]:
        columns = ", ".join(f"g.{name}" for name in Line._fields)
        return map(Line._make, self._db.execute(f"SELECT {columns} FROM {where}", parameters))

    def orders(self) -> Iterator[list[Line]]:
        """The lines not known yet, one list per order, the order that begins first in the file first."""
        lines = self._lines("first f JOIN good g USING (order_key) WHERE NOT g.is_known ORDER BY f.line, g.line")
        for _, group in groupby(lines, key=lambda line: line.order_key):
            yield list(group)

    def order_keys(self) -> Iterator[str]:
        """Every order of the file."""
        return (key for (key,) in self._db.execute("SELECT order_key FROM first ORDER BY line"))

    def order(self, order_key: str) -> list[Line]:
        """All lines of one order, in file order."""
        return list(self._lines("good g WHERE g.order_key = ? ORDER BY g.line", (order_key,)))

    def count(self) -> int:
        """Good lines that are not known yet."""
        return int(self._db.execute("SELECT count(*) FROM good WHERE NOT is_known").fetchone()[0])

    def mark_known(self, lines: Iterable[int]) -> None:
        """These lines are in the books already."""
        self._db.executemany("UPDATE good SET is_known = 1 WHERE line = ?", ((line,) for line in lines))

    def reject(self, bad: Iterable[Spooled]) -> None:
        """Move lines that look bad only beside others from the good to the bad rows."""
        found = list(bad)
        self._db.executemany("DELETE FROM good WHERE line = ?", ((row.line,) for row in found))
        self.add((), found)

    def mixed_orders(self) -> list[str]:
        """Orders whose lines name different customers or currencies."""
        query = (
            "SELECT order_key FROM good GROUP BY order_key"
            " HAVING count(DISTINCT customer) > 1 OR count(DISTINCT currency) > 1"
        )
        return [key for (key,) in self._db.execute(query)]

    def repeated_line_numbers(self) -> list[list[Line]]:
        """Lines that share order and line number, where the file has line numbers."""
        query = (
            "good g JOIN (SELECT order_key, line_no FROM good WHERE line_no <> '' GROUP BY order_key, line_no"
            " HAVING count(*) > 1) r ON r.order_key = g.order_key AND r.line_no = g.line_no"
            " ORDER BY g.order_key, g.line_no, g.line"
        )
        return [list(group) for _, group in groupby(self._lines(query), key=lambda x: (x.order_key, x.line_no))]

    def descriptions(self) -> dict[str, str]:
        """The most frequent description of every SKU."""
        query = (
            "SELECT sku, description FROM (SELECT sku, description, row_number() OVER ("
            "PARTITION BY sku ORDER BY count(*) DESC, min(line)) AS place"
            " FROM good WHERE description <> '' GROUP BY sku, description) WHERE place = 1"
        )
        return dict(self._db.execute(query).fetchall())

    def bad_rows(self) -> Iterator[tuple[int, Spooled]]:
        """(how-manieth row of its content, row) of every bad row, in file order."""
        query = (
            "SELECT row_number() OVER (PARTITION BY content ORDER BY line), line, content, problem, cells, header"
            " FROM bad ORDER BY line"
        )
        for occurrence, line, content, problem, cells, header in self._db.execute(query):
            yield occurrence, Spooled(line, content, _load(problem), json.loads(cells), json.loads(header))


def _dump(problem: Problem) -> str:
    return json.dumps([problem.code, problem.field, problem.raw, problem.why, dict(problem.facts)], ensure_ascii=False)


def _text(cells: list[str] | None) -> str:
    return json.dumps(cells, ensure_ascii=False)


def _load(text: str) -> Problem:
    return Problem(*json.loads(text))


@contextmanager
def open_spool() -> Iterator[Spool]:
    """A spool in a temporary folder that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="dinghuo-import-") as folder:
        spool = Spool(Path(folder) / "rows.db")
        try:
            yield spool
        finally:
            spool.close()
