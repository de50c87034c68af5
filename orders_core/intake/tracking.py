"""Takes in carrier events from a file, through the same service as webhooks: late, repeated and unknown ones do no harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import OrdersError
from orders_core.intake.fields import parse_id, parse_instant, parse_text
from orders_core.intake.files import Row
from orders_core.intake.mapping import Mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import Problem
from orders_core.intake.runs import ImportOptions, Run, import_run
from orders_core.intake.sheet import Sheet, in_memory, read_sheet, said
from orders_core.services.tracking import TrackingEventIn, TrackingResult, import_events
from orders_core.store.base import from_micros
from orders_core.store.tables import Carrier
from orders_core.store.uow import Store, UnitOfWork


@dataclass(frozen=True)
class EventRow:
    """One carrier event of a file that was read and found good."""

    carrier: str
    tracking_number: str
    raw_status: str
    occurred_at: datetime
    place: str
    event_key: str | None


def import_tracking(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Outcome:
    """Record the carrier events in the file at `path` and say what became of every row.

    Raises:
        FileRefused: The file as a whole can't be read; nothing was written.
    """
    with import_run(store, actor, path, mapping, in_memory(options), is_replay=is_replay) as run:
        sheet = read_sheet(run, lambda row: parse_row(run, row))
        must_exist(sheet, run)
        if not options.quarantine or options.dry_run:
            rehearse(sheet, run)
        if sheet.settle():
            record_all(sheet, run)
    return run.outcome


def parse_row(run: Run, row: Row) -> EventRow | list[Problem]:
    """The row as a carrier event, or all that is wrong with it."""
    mapping = run.mapping

    def cell(field: str) -> str:
        return run.cell(row, field)

    carrier, number = parse_id(cell("carrier"), "carrier"), parse_id(cell("tracking_number"), "tracking_number")
    status: str | Problem = parse_text(cell("status"), "status", max_chars=200)
    if isinstance(status, str) and not status.strip():
        status = Problem("E_REQUIRED", "status")
    zone = cell("zone").strip() or mapping.zone
    at = parse_instant(cell("occurred_at"), "occurred_at", zone=zone, format=mapping.date_format)
    place = parse_text(cell("place"), "place", max_chars=200)
    event_key = parse_id(raw, "event_id") if (raw := cell("event_id")).strip() else None
    problems = [x for x in (carrier, number, status, at, place, event_key) if isinstance(x, Problem)]
    if problems:
        return problems
    return EventRow(
        carrier=str(carrier),
        tracking_number=str(number),
        raw_status=str(status).strip(),
        occurred_at=from_micros(at if isinstance(at, int) else 0),
        place=str(place),
        event_key=event_key if isinstance(event_key, str) else None,
    )


def must_exist(sheet: Sheet[EventRow], run: Run) -> None:
    """Carriers are named by their code or by one of their names."""
    with run.store.reading() as conn:
        known: dict[str, str] = {}
        for code, name, name_en in conn.execute(select(Carrier.code, Carrier.name, Carrier.name_en)):
            known |= {word: code for word in (code, name, name_en) if word}
    for line, row in list(sheet.good.items()):
        if row.carrier in known:
            sheet.good[line] = EventRow(known[row.carrier], *(getattr(row, name) for name in list(row.__dict__)[1:]))
        else:
            sheet.reject(line, Problem("E_REF", "carrier", row.carrier))


def event_of(row: EventRow, mapping: Mapping) -> TrackingEventIn:
    """The row as the service takes it; the mapping translates the carrier's words."""
    return TrackingEventIn(
        carrier=row.carrier,
        tracking_number=row.tracking_number,
        raw_status=mapping.statuses.get(row.raw_status, row.raw_status),
        occurred_at=row.occurred_at,
        event_key=row.event_key,
        place=row.place or None,
        raw={"status": row.raw_status},
    )


class _Rehearsed(Exception):
    def __init__(self, results: list[TrackingResult]) -> None:
        self.results = results


def _try(uow: UnitOfWork, actor: Actor, events: Sequence[TrackingEventIn]) -> None:
    raise _Rehearsed(import_events(uow, actor, events))


def rehearse(sheet: Sheet[EventRow], run: Run) -> None:
    """Record every event and undo it, so that what would be refused keeps the file out before anything is written."""
    for done, line in enumerate(sorted(sheet.good)):
        run.tell("checking", done, len(sheet.rows))
        try:
            run.store.run(_try, run.actor, [event_of(sheet.good[line], run.mapping)])
        except _Rehearsed as tried:
            refusal = tried.results[0].refusal
            if tried.results[0].outcome == "quarantined" and refusal is not None:
                sheet.reject(line, _refused(sheet.good[line], refusal))
        except OrdersError as error:
            sheet.reject(line, _refused(sheet.good[line], error))


def record_all(sheet: Sheet[EventRow], run: Run) -> None:
    """Record the events, in file order, many to a transaction."""
    outcome, left = run.outcome, sorted(sheet.good)
    while left:
        some, left = left[: run.batch_rows], left[run.batch_rows :]
        events = [event_of(sheet.good[line], run.mapping) for line in some]
        results = run.commit(import_events, events, rows=len(some))
        for line, result in zip(some, results, strict=True):
            row = sheet.good[line]
            if result.outcome == "repeated":
                outcome.accepted -= 1
                outcome.duplicates += 1
            elif result.outcome == "unmapped":
                run.note(line, Problem("W_STATUS", "status", row.raw_status))
            elif result.outcome == "quarantined" and result.refusal is not None:
                problem = _refused(row, result.refusal)
                sheet.refused_later([line], lambda _, problem=problem: problem)  # type: ignore[misc]


def _refused(row: EventRow, error: OrdersError) -> Problem:
    if error.code == "E_TIME":
        return Problem("E_TIME", "occurred_at", row.occurred_at.isoformat())
    return Problem("E_REFUSED", "tracking_number", row.tracking_number, facts=said(error))
