"""Rows in quarantine: written out to be repaired, and taken in again.

    write_quarantine(store, "orders", Path("repair.csv"))     # a person corrects the cells
    replay(store, actor, "orders", options, repaired=Path("repair.csv"))

Without a repaired file the rows are tried as they are: what was wrong may have been the catalogue, not the row.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select, update

from orders_core.domain.permissions import Actor
from orders_core.intake.fields import neutralise, restore
from orders_core.intake.files import Declared, open_source, require_answers
from orders_core.intake.mapping import load_mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused, Problem
from orders_core.intake.runs import ImportOptions
from orders_core.intake.take_in import IMPORTERS, take_in
from orders_core.store.tables import ImportRun, QuarantinedRow
from orders_core.store.uow import Store, UnitOfWork

OUR_COLUMNS = ("quarantine_id", "file", "line", "code", "message_zh", "message_en")


@dataclass(frozen=True)
class Kept:
    """One row in quarantine."""

    id: int
    mapping: str
    given: tuple[tuple[str, str], ...]  # channel and mode, where the file's import was told
    file: str
    line: int
    problem: Problem
    header: tuple[str, ...]
    cells: tuple[str, ...]


def kept_rows(store: Store, noun: str) -> list[Kept]:
    """The rows of a noun that are still in quarantine, oldest first."""
    query = (
        select(QuarantinedRow.__table__, ImportRun.mapping, ImportRun.file_name, ImportRun.facts)
        .join(ImportRun, ImportRun.id == QuarantinedRow.import_run_id)
        .where(QuarantinedRow.noun == noun, QuarantinedRow.status == "open")
        .order_by(QuarantinedRow.id)
    )
    with store.reading() as conn:
        found = conn.execute(query).all()
    kept = []
    for row in found:
        said = row.raw["problem"]
        problem = Problem(row.code, row.field or "", said["raw"], said["why"], said["facts"])
        cells, header = tuple(row.raw["cells"]), tuple(row.raw["header"])
        given = tuple((name, row.facts[name]) for name in ("channel", "mode") if name in (row.facts or {}))
        kept.append(Kept(row.id, row.mapping, given, row.file_name, row.line, problem, header, cells))
    return kept


def write_quarantine(store: Store, noun: str, path: Path) -> int:
    """Write the rows still in quarantine as one CSV to be repaired, with all their columns; returns how many."""
    kept = kept_rows(store, noun)
    headings = list(dict.fromkeys(heading for row in kept for heading in row.header))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*OUR_COLUMNS, *headings])
        for row in kept:
            cells = dict(zip(row.header, row.cells, strict=False))
            words = (row.file, row.line, row.problem.code, row.problem.message("zh"), row.problem.message("en"))
            own = [neutralise(str(word)) for word in words]
            writer.writerow([row.id, *own, *(neutralise(cells.get(heading, "")) for heading in headings)])
    return len(kept)


def replay(
    store: Store, actor: Actor, noun: str, options: ImportOptions, *, repaired: Path | None = None
) -> list[Outcome]:
    """Take rows of quarantine in again, as they are or as `repaired`; one outcome per way they came by.

    They come as they came: by the same mapping, channel and mode, unless `options` says otherwise.

    Rows that go in leave quarantine, the others stay as they are.

    Raises:
        FileRefused: The repaired file can't be read, or is not one `write_quarantine` wrote.
    """
    if noun not in IMPORTERS:
        raise FileRefused(Problem("E_CHOICE", "noun", noun, facts={"expected": ", ".join(IMPORTERS)}), exit_code=2)
    kept = kept_rows(store, noun)
    if repaired is not None:
        kept = _with_repairs(kept, repaired, options.declared)
    groups: dict[tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]], list[Kept]] = {}
    for row in kept:
        groups.setdefault((row.mapping, row.given, row.header), []).append(row)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="dinghuo-replay-") as folder:
        for (mapping_name, given, header), rows in groups.items():
            path = Path(folder) / "quarantine.csv"
            lines = _write(path, header, rows)
            mapping = load_mapping(mapping_name)
            told = dict(given)
            again = replace(
                options,
                channel=options.channel or told.get("channel"),
                mode=options.mode or told.get("mode"),
                declared=Declared(encoding="utf-8", delimiter=","),
                quarantine=True,
            )
            outcome = take_in(store, actor, noun, path, mapping, again, is_replay=True)
            outcomes.append(outcome)
            done = [row.id for row, line in zip(rows, lines, strict=True) if line not in outcome.still_bad]
            if done and not options.dry_run:
                store.run(_leave_quarantine, actor, done)
    return outcomes


def _write(path: Path, header: Sequence[str], rows: Sequence[Kept]) -> list[int]:
    """The rows as a plain CSV file; returns the physical line each begins on."""
    lines, at = [], 1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        at += 1 + sum(heading.count("\n") for heading in header)
        for row in rows:
            lines.append(at)
            writer.writerow(row.cells)
            at += 1 + sum(len(cell.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1 for cell in row.cells)
    return lines


def _with_repairs(kept: Sequence[Kept], path: Path, declared: Declared) -> list[Kept]:
    """The rows the repaired file names, with its cells; a row of quarantine it leaves out is left alone."""
    source = open_source(path, declared)
    require_answers(source)
    if "quarantine_id" not in source.header:
        facts: dict[str, str | int] = {"missing": "quarantine_id", "unknown": "-", "found": ", ".join(source.header)}
        raise FileRefused(Problem("E_HEADER", facts=facts))
    by_id = {str(row.id): row for row in kept}
    repaired = []
    for batch in source.batches():
        for row in batch:
            cells = {heading: restore(cell) for heading, cell in zip(source.header, row.cells, strict=False)}
            own = by_id.get(cells["quarantine_id"].strip())
            if own is not None:
                repaired.append(replace(own, cells=tuple(cells.get(heading, "") for heading in own.header)))
    return repaired


def _leave_quarantine(uow: UnitOfWork, actor: Actor, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), 400):
        some = list(ids[start : start + 400])
        uow.conn.execute(update(QuarantinedRow).where(QuarantinedRow.id.in_(some)).values(status="replayed"))
    uow.audit(actor, "import.replayed", "quarantined_row", ids[0], facts={"rows": len(ids)})
