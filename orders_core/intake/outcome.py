"""What became of every row of a file: read = accepted + quarantined + duplicates, always."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from orders_core.intake.fields import neutralise
from orders_core.intake.problems import Language, Problem

SHOWN_PROBLEMS = 200
REPORT_HEADER = ("file", "line", "field", "code", "message_zh", "message_en", "raw")


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A problem and the row it is about; line 0 is the file as a whole."""

    file: str
    line: int
    problem: Problem

    def sentence(self, language: Language) -> str:
        """`line 12: price "1,50" …`"""
        text = self.problem.message(language)
        if not self.line:
            return text
        return f"第 {self.line} 行：{text}" if language == "zh" else f"line {self.line}: {text}"


@dataclass
class Outcome:
    """The ledger of one import, in file rows.

    `quarantined` are rows kept out of the books: with --quarantine they are stored for replay, without it the whole
    file was refused (`is_refused`) and they are all its rows that were not known already.
    """

    file: str
    read: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    is_refused: bool = False
    is_dry_run: bool = False
    problems: list[RowProblem] = field(default_factory=list)  # the first ones; the report holds them all
    by_code: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)  # orders, returns, standalone credits, …
    still_bad: set[int] = field(default_factory=set)  # lines, in a replay of quarantine

    def note(self, row: RowProblem) -> None:
        """Count a problem; the first 200 are kept to be shown."""
        self.by_code[row.problem.code] += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(row)

    def refuse(self) -> None:
        """Nothing of the file was taken in: all its rows that were not known before stay out."""
        self.is_refused = True
        self.accepted, self.quarantined = 0, self.read - self.duplicates

    def check(self) -> None:
        """Fail loudly when the rows do not add up: that would be our mistake, never the file's."""
        if self.read != self.accepted + self.quarantined + self.duplicates:
            raise AssertionError(f"rows lost: {self.as_json()}")

    @property
    def exit_code(self) -> int:
        """0 when every row is in (or was known), 3 when rows stayed out."""
        return 3 if self.quarantined or self.is_refused else 0

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the counts first, then what they consist of."""
        counts = {name: getattr(self, name) for name in ("read", "accepted", "quarantined", "duplicates")}
        problems = [
            {
                "line": row.line,
                "field": row.problem.field,
                "code": row.problem.code,
                "zh": row.problem.message("zh"),
                "en": row.problem.message("en"),
                "raw": row.problem.raw,
            }
            for row in self.problems
        ]
        flags = {"refused": self.is_refused, "dry_run": self.is_dry_run}
        return {"file": self.file, **counts, **flags, "by_code": dict(self.by_code), **self.facts, "problems": problems}

    def summary(self, language: Language) -> str:
        """One line for a person."""
        n = (self.read, self.accepted, self.quarantined, self.duplicates)
        known = self.facts.get("known_bad_rows", 0)  # among the duplicates
        if language == "zh":
            refused = "，整个文件未导入" if self.is_refused else ""
            return (
                "读取 {} 行 = 导入 {} + 隔离 {} + 重复 {}".format(*n)
                + refused
                + (f"；其中 {known} 行此前已隔离，仍未导入" if known else "")
            )
        refused = "; the whole file stays out" if self.is_refused else ""
        kept = f"; {known} of these were kept out before and still are not in" if known else ""
        return "{} rows read = {} accepted + {} quarantined + {} duplicates".format(*n) + refused + kept


class Report:
    """Every problem of an import, row by row, in a CSV a spreadsheet can open (BOM, formulas made harmless).

    Without a path nothing is written. Used as a context manager around the import.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("w", encoding="utf-8-sig", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(REPORT_HEADER)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if kind is not None and self._path is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()  # half a report would pass for a whole one

    def write(self, row: RowProblem) -> None:
        """Append one problem."""
        if self._writer is not None:
            self._writer.writerow([neutralise(str(cell)) for cell in _cells(row)])


def _cells(row: RowProblem) -> Sequence[str | int]:
    problem = row.problem
    said = (problem.message("zh"), problem.message("en"))
    return (row.file, row.line, problem.field, problem.code, *said, problem.raw)
