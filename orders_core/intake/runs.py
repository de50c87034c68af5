"""What every import does around its rows: open, ask, lock out others, keep the ledger, quarantine, close.

    with import_run(store, actor, path, mapping, options) as run:
        for row in run.rows(): ...
    run.outcome

A run that dies leaves what it committed; running the same file again finishes it, because every row is recognised.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from orders_core.domain.permissions import Actor
from orders_core.errors import OrdersError
from orders_core.intake.files import (
    Declared,
    Limits,
    Question,
    Row,
    Source,
    open_source,
    require_answers,
    stored_name,
)
from orders_core.intake.mapping import Layout, Mapping, layout
from orders_core.intake.outcome import Outcome, Report, RowProblem
from orders_core.intake.problems import FileRefused, Problem
from orders_core.store.tables import ImportRun, QuarantinedRow, RunLock
from orders_core.store.uow import Store, UnitOfWork

LOCK_SECONDS = 60
BATCH_SECONDS = 0.25  # a writer may keep others waiting this long, no longer
AIM_SECONDS = 0.12
KEYS_AT_A_TIME = 400
PERMISSIONS: dict[str, str] = {
    "orders": "order.place",
    "catalogue": "catalogue.change",
    "stock": "stock.count",
    "customers": "customer.change",
    "tracking": "tracking.record",
}

T = TypeVar("T")
Progress = Callable[[str, int, int | None], None]  # what is being done, rows so far, rows in all if known


@dataclass(frozen=True)
class ImportOptions:
    """How a file is to be taken in.

    `quarantine`: take the good rows and keep the bad ones aside; without it one bad row keeps the whole file out.
    `confirm` is shown what was guessed about the file and says yes or no; without it a guess is refused.
    """

    quarantine: bool = False
    dry_run: bool = False
    declared: Declared = field(default_factory=Declared)
    limits: Limits = field(default_factory=Limits)
    report: Path | None = None
    channel: str | None = None  # where the orders come from, instead of the mapping's own
    mode: str | None = None  # of a stock file: absolute or delta
    accept_price_changes: bool = False
    confirm: Callable[[Question], bool] | None = None
    progress: Progress | None = None


class BadRow(NamedTuple):
    """A row to be kept out, with the first thing that is wrong with it."""

    row_key: str
    line: int
    problem: Problem
    cells: list[str]
    header: list[str] | None = None  # of `cells`, where it is not the file's


@dataclass
class Run:
    """One import at work."""

    store: Store
    actor: Actor
    mapping: Mapping
    options: ImportOptions
    source: Source
    layout: Layout
    outcome: Outcome
    report: Report
    id: int = 0  # of its import_run row; 0 in a dry run
    noun: str = ""
    holder: str = ""
    is_replay: bool = False  # the rows come from quarantine; those still bad stay there as they are
    _locked_at: float = 0.0
    _batch_rows: int = 200

    def rows(self) -> Iterator[Row]:
        """Every row of the file, counted as read."""
        for batch in self.source.batches():
            self.outcome.read += len(batch)
            self.tell("reading", self.outcome.read)
            yield from batch

    def cell(self, row: Row, field: str) -> str:
        """The text of a field; empty when the file has no such column."""
        place = self.layout.index.get(field)
        return row.cells[place] if place is not None else ""

    def tell(self, doing: str, done: int, total: int | None = None) -> None:
        """Report progress, and keep the lock alive while reading takes long."""
        if self.options.progress:
            self.options.progress(doing, done, total)
        if self.id and time.monotonic() - self._locked_at > LOCK_SECONDS / 6:
            self.store.run(_keep_lock, self.actor, self.noun, self.holder)
            self._locked_at = time.monotonic()

    def note(self, line: int, problem: Problem) -> None:
        """Put a problem into the ledger and the report; warnings and notes too."""
        found = RowProblem(self.outcome.file, line, problem)
        self.outcome.note(found)
        self.report.write(found)

    def known_bad(self, keys: Sequence[str]) -> set[str]:
        """Which of the rows were kept out by an earlier run already."""
        known: set[str] = set()
        if self.is_replay:
            return known
        with self.store.reading() as conn:
            for some in chunks(keys, KEYS_AT_A_TIME):
                wanted = select(QuarantinedRow.row_key).where(
                    QuarantinedRow.noun == self.noun, QuarantinedRow.row_key.in_(some)
                )
                known.update(conn.scalars(wanted))
        return known

    def leave_quarantine(self, keys: Iterable[str]) -> None:
        """Rows that are in the books now wait no longer, though it was not a replay that brought them in."""
        if self.is_replay:
            return
        waiting = select(QuarantinedRow.id).where(QuarantinedRow.noun == self.noun, QuarantinedRow.status == "open")
        with self.store.reading() as conn:
            if conn.execute(waiting.limit(1)).first() is None:
                return
        for some in chunks(keys, KEYS_AT_A_TIME):
            self.store.run(_leave_quarantine, self.actor, self.noun, some)

    def keep_out(self, bad: Iterable[BadRow]) -> None:
        """Store rows in quarantine, as they were, for replay."""
        if self.is_replay:
            self.outcome.still_bad.update(row.line for row in bad)
            return
        for some in chunks(bad, self._batch_rows):
            self.commit(_store_quarantine, self.id, self.noun, self.source, some, rows=len(some))

    def commit(self, service: Callable[..., T], *args: Any, rows: int) -> T:
        """Run one batch in its own transaction and learn from it how large the next may be."""
        started = time.monotonic()
        result = self.store.run(service, self.actor, *args)
        took = time.monotonic() - started
        self.outcome.facts["longest_batch_ms"] = max(round(took * 1000), self.outcome.facts.get("longest_batch_ms", 0))
        fitting = int(rows * AIM_SECONDS / max(took, 0.001))
        self._batch_rows = max(20, min(fitting, self._batch_rows * 2, 4_000))
        return result

    @property
    def batch_rows(self) -> int:
        """How many rows the next transaction should hold to stay well under 250 ms."""
        return self._batch_rows


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def row_key(*content: str, occurrence: int = 1) -> str:
    """What a row is recognised by in any later file: its content, and the how-manieth row with this content it is."""
    digest = hashlib.sha256("\x1f".join(content).encode()).hexdigest()[:32]
    return digest if occurrence == 1 else f"{digest}#{occurrence}"


@contextmanager
def import_run(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Iterator[Run]:
    """Open the file, ask what must be asked, lock out a second import of the same kind, and close the books at the end.

    Raises:
        FileRefused: The file can't be read (exit 3), something must be confirmed first (exit 2), or somebody else is
            importing (E_LOCKED, exit 5).
    """
    actor.must("import.history" if mapping.origin == "history" else PERMISSIONS[mapping.noun])
    needs_count = options.declared.needs_count or mapping.trailer == "required"
    source = open_source(path, replace(options.declared, needs_count=needs_count), options.limits)
    if options.confirm is None or not all(map(options.confirm, source.questions)):
        require_answers(source)
    columns = layout(mapping, source.header)
    outcome = Outcome(stored_name(source.name), is_dry_run=options.dry_run)
    outcome.facts["sha256"] = source.sha256
    holder = f"{actor.name} ({os.getpid()})"
    with Report(options.report) as report:
        run = Run(store, actor, mapping, options, source, columns, outcome, report, noun=mapping.noun, holder=holder)
        run.is_replay = is_replay
        for heading in columns.unused:
            run.note(0, Problem("W_COLUMN", raw=heading))
        if not options.dry_run:
            run.id = store.run(_begin, actor, run)
        try:
            yield run
            if outcome.read == 0:
                run.note(0, Problem("W_NO_ROWS", facts={"file": outcome.file}))
            outcome.check()
        except BaseException as error:
            if run.id:
                store.run(_end, actor, run, "refused" if isinstance(error, OrdersError) else "failed")
            raise
        if run.id:
            store.run(_end, actor, run, "refused" if outcome.is_refused else "done")


def _begin(uow: UnitOfWork, actor: Actor, run: Run) -> int:
    _take_lock(uow, run.noun, run.holder)
    run_id = uow.new_id()
    uow.conn.execute(
        insert(ImportRun),
        {
            "id": run_id,
            "noun": run.noun,
            "file_name": run.outcome.file,
            "file_hash": run.source.sha256,
            "mapping": run.mapping.name,
            "encoding": run.source.encoding or None,
            "status": "running",
            "facts": {"is_replay": run.is_replay, **_given(run.options)},
            "actor": actor.name,
            "started_at": uow.now,
        },
    )
    uow.audit(actor, "import.begin", "import_run", run_id, facts={"file": run.outcome.file, "noun": run.noun})
    return run_id


def _end(uow: UnitOfWork, actor: Actor, run: Run, status: str) -> None:
    outcome = run.outcome
    counts = {
        "read_rows": outcome.read,
        "accepted_rows": outcome.accepted,
        "quarantined_rows": outcome.quarantined,
        "duplicate_rows": outcome.duplicates,
    }
    facts = {**outcome.facts, **_given(run.options), "by_code": dict(outcome.by_code)}
    uow.conn.execute(
        update(ImportRun).where(ImportRun.id == run.id),
        {**counts, "status": status, "facts": facts, "finished_at": uow.now},
    )
    uow.audit(actor, f"import.{status}", "import_run", run.id, facts=counts)
    uow.conn.execute(delete(RunLock).where(RunLock.name == _lock(run.noun), RunLock.holder == run.holder))


def _given(options: ImportOptions) -> Dict[str, Any]:
    """What was said about the file from outside; a replay of its rows says the same."""
    return {name: value for name, value in (("channel", options.channel), ("mode", options.mode)) if value}


def _leave_quarantine(uow: UnitOfWork, _: Actor, noun: str, keys: Sequence[str]) -> None:
    uow.conn.execute(
        update(QuarantinedRow)
        .where(QuarantinedRow.noun == noun, QuarantinedRow.row_key.in_(keys), QuarantinedRow.status == "open")
        .values(status="replayed")
    )


def _lock(noun: str) -> str:
    return f"import {noun}"


def _take_lock(uow: UnitOfWork, noun: str, holder: str) -> None:
    name, until = _lock(noun), uow.now + timedelta(seconds=LOCK_SECONDS)
    mine = {"holder": holder, "taken_at": uow.now, "expires_at": until}
    # `or holder`: the command may be run again after a lock, its own lock must not stop it.
    free = or_(RunLock.expires_at <= uow.now, RunLock.holder == holder)
    claimed = uow.conn.scalar(update(RunLock).where(RunLock.name == name, free).values(mine).returning(RunLock.name))
    if claimed:
        return
    held = uow.row(select(RunLock.holder, RunLock.taken_at).where(RunLock.name == name))
    if held is not None:
        raise _locked(held.holder, held.taken_at)
    try:
        with uow.conn.begin_nested():
            uow.conn.execute(insert(RunLock), {"name": name, **mine})
    except IntegrityError:  # another process took it between the two statements
        raise _locked("?", uow.now) from None


def _locked(who: str, since: datetime) -> FileRefused:
    facts: dict[str, str | int] = {"who": who, "since": f"{since:%Y-%m-%d %H:%M:%S} UTC"}
    return FileRefused(Problem("E_LOCKED", facts=facts), exit_code=5)


def _keep_lock(uow: UnitOfWork, _: Actor, noun: str, holder: str) -> None:
    kept = uow.conn.scalar(
        update(RunLock)
        .where(RunLock.name == _lock(noun), RunLock.holder == holder)
        .values(expires_at=uow.now + timedelta(seconds=LOCK_SECONDS))
        .returning(RunLock.name)
    )
    if kept is None:
        held = uow.row(select(RunLock.holder, RunLock.taken_at).where(RunLock.name == _lock(noun)))
        raise _locked(held.holder if held else "?", held.taken_at if held else uow.now)


def _store_quarantine(uow: UnitOfWork, _: Actor, run_id: int, noun: str, source: Source, bad: Sequence[BadRow]) -> None:
    first_id = uow.new_id(len(bad))
    uow.conn.execute(
        insert(QuarantinedRow),
        [
            {
                "id": first_id + place,
                "import_run_id": run_id,
                "noun": noun,
                "row_key": row.row_key,
                "file_hash": source.sha256,
                "line": row.line,
                "field": row.problem.field or None,
                "code": row.problem.code,
                "message": row.problem.message("en"),
                "raw": raw_facts(row.header or source.header, row.cells, row.problem),
                "created_at": uow.now,
            }
            for place, row in enumerate(bad)
        ],
    )


def raw_facts(header: Sequence[str], cells: Sequence[str], problem: Problem) -> Dict[str, Any]:
    """What is needed to show the row and say its problem in any language, and to import it again."""
    problem_facts = {"raw": problem.raw, "why": problem.why, "facts": dict(problem.facts)}
    return {"header": list(header), "cells": list(cells), "problem": problem_facts}
