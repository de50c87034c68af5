"""A file that fits into memory, checked row by row: what live orders, catalogue, stock, customers and tracking share.

Such files are made by people; 200,000 rows are the limit. History, which is larger, has a spool on disk instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from orders_core.domain.permissions import Actor
from orders_core.errors import OrdersError
from orders_core.intake.files import Row
from orders_core.intake.problems import Problem
from orders_core.intake.runs import BadRow, ImportOptions, Run, row_key
from orders_core.store.uow import UnitOfWork

MAX_ROWS = 200_000

T = TypeVar("T")


@dataclass
class Sheet(Generic[T]):
    """The rows of a file: good ones parsed, bad ones with their problems, and those that are in the books already."""

    run: Run
    rows: dict[int, Row] = field(default_factory=dict)
    good: dict[int, T] = field(default_factory=dict)
    bad: dict[int, list[Problem]] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def reject(self, line: int, problem: Problem) -> None:
        """The row stays out."""
        self.good.pop(line, None)
        self.known.discard(line)
        self.bad.setdefault(line, []).append(problem)

    def is_duplicate(self, line: int) -> None:
        """The row is in the books already, or stands twice in the file."""
        self.good.pop(line, None)
        self.known.add(line)

    def key(self, line: int, seen: Counter[str]) -> str:
        """What the row is recognised by in a later file."""
        row, layout = self.rows[line], self.run.layout
        if len(row.cells) == len(self.run.source.header):
            content = [
                f"{name}={row.cells[i].strip()}" for name, i in sorted(layout.index.items()) if row.cells[i].strip()
            ]
        else:
            content = row.cells
        whose = self.run.options.channel or self.run.mapping.channel or ""
        digest = row_key(whose, *content)
        seen[digest] += 1
        return row_key(whose, *content, occurrence=seen[digest])

    def settle(self) -> bool:
        """Count the rows and tell of the bad ones; True when the good rows are to be written now."""
        run, outcome = self.run, self.run.outcome
        seen: Counter[str] = Counter()
        lines = sorted(self.bad)
        keys = dict(zip(lines, (self.key(line, seen) for line in lines), strict=True))
        known_bad = run.known_bad(list(keys.values()))
        bad: list[BadRow] = []
        for line in lines:
            if keys[line] not in known_bad:
                for problem in self.bad[line]:
                    run.note(line, problem)
                bad.append(BadRow(keys[line], line, self.bad[line][0], self.rows[line].cells))
        outcome.accepted, outcome.quarantined = len(self.good), len(bad)
        outcome.duplicates = outcome.read - outcome.accepted - outcome.quarantined
        if len(bad) < len(lines):
            outcome.facts["known_bad_rows"] = len(lines) - len(bad)
        if bad and not run.options.quarantine:
            outcome.refuse()
            return False
        if run.options.dry_run:
            return False
        run.keep_out(bad)
        return True

    def leave_quarantine(self) -> None:
        """Of the rows that went in, those that an earlier file had left in quarantine are no longer there."""
        seen: Counter[str] = Counter()
        self.run.leave_quarantine(self.key(line, seen) for line in sorted(self.good))  # most files: none is asked for

    def refused_later(self, lines: Iterable[int], problem_of: Callable[[int], Problem]) -> None:
        """Rows that passed every check but were refused by a service when it came to it."""
        run, seen = self.run, Counter[str]()
        late: list[BadRow] = []
        for line in lines:
            self.good.pop(line, None)
            problem = problem_of(line)
            run.note(line, problem)
            late.append(BadRow(self.key(line, seen), line, problem, self.rows[line].cells))
        run.outcome.accepted -= len(late)
        known = run.known_bad([row.row_key for row in late])
        new = [row for row in late if row.row_key not in known]
        run.outcome.quarantined += len(new)
        run.outcome.duplicates += len(late) - len(new)
        run.keep_out(new)


def read_sheet(run: Run, parse: Callable[[Row], T | list[Problem]]) -> Sheet[T]:
    """Check every row of the file by itself."""
    sheet: Sheet[T] = Sheet(run)
    for row in run.rows():
        sheet.rows[row.line] = row
        parsed = [row.problem] if row.problem else parse(row)
        if isinstance(parsed, list):
            sheet.bad[row.line] = parsed
        else:
            sheet.good[row.line] = parsed
    return sheet


def write_all(
    sheet: Sheet[T], lines: Sequence[int], write: Callable[[UnitOfWork, Actor, Sequence[T]], Sequence[bool]]
) -> None:
    """Write the good rows, many to a transaction; `write` says of each whether it changed anything.

    When a service refuses one of them its transaction is undone and tried again row by row, so that the refusal meets
    the row that earned it.
    """
    run = sheet.run
    left = list(lines)
    while left:
        some, left = left[: run.batch_rows], left[run.batch_rows :]
        run.tell("writing", len(lines) - len(left), len(lines))
        try:
            _count(sheet, some, run.commit(write, [sheet.good[line] for line in some], rows=len(some)))
        except OrdersError:
            for line in some:
                try:
                    _count(sheet, [line], run.commit(write, [sheet.good[line]], rows=1))
                except OrdersError as error:
                    problem = Problem("E_REFUSED", facts=said(error))
                    sheet.refused_later([line], lambda _, problem=problem: problem)  # type: ignore[misc]
    sheet.leave_quarantine()


def _count(sheet: Sheet[T], lines: Sequence[int], changed: Sequence[bool]) -> None:
    same = sum(not is_new for _, is_new in zip(lines, changed, strict=True))
    sheet.run.outcome.accepted -= same
    sheet.run.outcome.duplicates += same


def in_memory(options: ImportOptions) -> ImportOptions:
    """The same options with the row limit of files that are held in memory."""
    return replace(options, limits=replace(options.limits, rows=min(options.limits.rows, MAX_ROWS)))


def said(error: OrdersError) -> dict[str, str | int]:
    """A refusal by a service, as facts of a problem."""
    return {"detail": f"{error.code} {error.text('en')}", "detail_zh": f"{error.code} {error.text('zh')}"}
