"""Takes in stock: either what is there (absolute, like a count) or by how much it changed (delta), never both in one file.

A row that says what is known already changes nothing and counts as a duplicate. Stock below what is promised is taken
as the fact it is, and listed as over-committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.intake.fields import parse_choice, parse_date, parse_id, parse_sku, parse_stock, parse_text
from orders_core.intake.files import Row
from orders_core.intake.mapping import Mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused, Problem
from orders_core.intake.runs import KEYS_AT_A_TIME, ImportOptions, Run, chunks, import_run
from orders_core.intake.sheet import Sheet, in_memory, read_sheet, write_all
from orders_core.services.lookups import must_work_at
from orders_core.services.stock import AdjustStock, StockIn, adjust_stock, bring_in, lot_named
from orders_core.store.inventory import Move
from orders_core.store.tables import Location, LotLevel, Sku, StockLevel
from orders_core.store.uow import Store, UnitOfWork

MODES = ("absolute", "delta")
MODES_ZH = {
    "绝对": "absolute",
    "盘点": "absolute",
    "实盘": "absolute",
    "增减": "delta",
    "调整": "delta",
    "变动": "delta",
}


@dataclass(frozen=True)
class StockRow:
    """One row of a stock file that was read and found good."""

    line: int
    sku: str
    location: str
    qty: int
    mode: str
    unit: str | None
    lot: str | None
    expiry_date: date | None


def import_stock(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Outcome:
    """Take in the stock file at `path` and say what became of every row.

    Raises:
        FileRefused: The file as a whole can't be read; nothing was written.
    """
    if options.mode is not None and options.mode not in MODES:
        raise FileRefused(Problem("E_CHOICE", "mode", options.mode, facts={"expected": ", ".join(MODES)}), exit_code=2)
    with import_run(store, actor, path, mapping, in_memory(options), is_replay=is_replay) as run:
        sheet = read_sheet(run, lambda row: parse_row(run, row))
        one_mode(sheet, options.mode)
        one_row_each(sheet)
        places = must_exist(sheet, run)
        for code in {row.location for row in sheet.good.values()}:
            must_work_at(actor, code)
        if sheet.settle():
            writer = StockWriter(run, places)
            write_all(sheet, sorted(sheet.good), writer.write)
            writer.tell_overcommitted()
    return run.outcome


def parse_row(run: Run, row: Row) -> StockRow | list[Problem]:
    """The row as stock of one SKU at one location, or all that is wrong with it."""

    def cell(field: str) -> str:
        return run.cell(row, field)

    raw = cell("mode").strip()
    mode = MODES_ZH.get(raw) or (parse_choice(raw, "mode", MODES) if raw else None)
    if mode is None:
        mode = run.options.mode or run.mapping.mode or Problem("E_REQUIRED", "mode")
    sku = parse_sku(cell("sku"), fold_case=run.mapping.fold_sku_case)
    location = parse_id(cell("location"), "location")
    qty: int | Problem = parse_stock(cell("qty"), delta=mode == "delta")
    if mode == "absolute" and cell("qty").strip().startswith("+"):
        qty = Problem("E_MODE", "qty", cell("qty"), facts={"actual": "delta", "expected": "absolute", "other_line": 1})
    if mode == "delta" and qty == 0:
        qty = Problem("E_STOCK", "qty", cell("qty"), facts={"least": "-9999999 (not 0)"})
    unit = parse_text(cell("unit"), "unit", max_chars=30)
    lot = parse_id(raw, "lot") if (raw := cell("lot")).strip() else None
    expiry = (
        parse_date(raw, "expiry_date", format=run.mapping.date_format) if (raw := cell("expiry_date")).strip() else None
    )
    problems = [x for x in (mode, sku, location, qty, unit, lot, expiry) if isinstance(x, Problem)]
    if problems:
        return problems
    return StockRow(
        line=row.line,
        sku=str(sku),
        location=str(location),
        qty=qty if isinstance(qty, int) else 0,
        mode=str(mode),
        unit=str(unit).strip() or None,
        lot=lot if isinstance(lot, str) else None,
        expiry_date=expiry if isinstance(expiry, date) else None,
    )


def one_mode(sheet: Sheet[StockRow], declared: str | None) -> None:
    """Every row is of the mode declared, else of the first row's."""
    rows = [sheet.good[line] for line in sorted(sheet.good)]
    if not rows:
        return
    mode = declared or rows[0].mode
    for row in rows:
        if row.mode != mode:
            facts: dict[str, str | int] = {"actual": row.mode, "expected": mode, "other_line": rows[0].line}
            sheet.reject(row.line, Problem("E_MODE", "mode", row.mode, facts=facts))


def one_row_each(sheet: Sheet[StockRow]) -> None:
    """A SKU stands once per location and lot; neither sum nor last row is guessed."""
    seen: dict[tuple[str, str, str | None], int] = {}
    for line in sorted(sheet.good):
        row = sheet.good[line]
        other = seen.setdefault((row.sku, row.location, row.lot), line)
        if other != line:
            for here, there in ((line, other), (other, line)):
                facts: dict[str, str | int] = {"key": f"{row.sku} @ {row.location}", "other_line": there}
                if here in sheet.good or here == line:
                    sheet.reject(here, Problem("E_DUP_SKU", "sku", row.sku, facts=facts))


@dataclass(frozen=True)
class Places:
    """The SKUs and locations a file names."""

    skus: dict[str, Any]
    locations: dict[str, int]


def must_exist(sheet: Sheet[StockRow], run: Run) -> Places:
    """SKUs and locations are named, not made up; a unit is the SKU's own; a SKU kept by lot names its lot."""
    skus: dict[str, Any] = {}
    with run.store.reading() as conn:
        found = conn.execute(select(Location.code, Location.id, Location.is_stock_tracked)).all()
        locations = {row.code: row.id for row in found if row.is_stock_tracked}
        for some in chunks({row.sku for row in sheet.good.values()}, KEYS_AT_A_TIME):
            skus.update((sku.sku, sku) for sku in conn.execute(select(Sku.__table__).where(Sku.sku.in_(some))))
    for line, row in list(sheet.good.items()):
        sku = skus.get(row.sku)
        if sku is None or not sku.is_stock_tracked:
            sheet.reject(line, Problem("E_REF", "sku", row.sku))
        elif row.unit is not None and row.unit != sku.base_unit:
            facts: dict[str, str | int] = {"sku": row.sku, "expected": sku.base_unit}
            sheet.reject(line, Problem("E_UNIT", "unit", row.unit, facts=facts))
        elif sku.is_lot_tracked and row.lot is None and row.mode == "absolute":
            sheet.reject(line, Problem("E_REQUIRED", "lot"))
        if row.location not in locations:
            sheet.reject(line, Problem("E_REF", "location", row.location))
    return Places(skus, locations)


class StockWriter:
    """Writes rows as movements: the difference to what is there, or the change itself."""

    def __init__(self, run: Run, places: Places) -> None:
        self.run, self.places = run, places
        self.touched: set[tuple[int, int]] = set()

    def write(self, uow: UnitOfWork, actor: Actor, rows: Sequence[StockRow]) -> list[bool]:
        """One transaction; says of each row whether it changed anything."""
        self.touched.update((self.places.skus[row.sku].id, self.places.locations[row.location]) for row in rows)
        if rows[0].mode == "delta":
            return [self._change(uow, actor, row) for row in rows]
        there = self._on_hand(uow, rows)
        moves: list[Move] = []
        changed = []
        for row in rows:
            move = self._difference(uow, row, there)
            changed.append(move is not None)
            if move is not None and move.qty != 0:
                moves.append(move)
        bring_in(uow, actor, moves)
        return changed

    def _change(self, uow: UnitOfWork, actor: Actor, row: StockRow) -> bool:
        stock = StockIn(row.sku, row.qty, lot_code=row.lot, expiry_date=row.expiry_date)
        key = f"{self.run.source.sha256[:32]}:{row.line}"
        note = f"{self.run.outcome.file}:{row.line}"
        return not adjust_stock(uow, actor, AdjustStock(row.location, [stock], note, idem_key=key)).is_repeat

    def _on_hand(self, uow: UnitOfWork, rows: Sequence[StockRow]) -> dict[tuple[int, int], int]:
        """What is there of the SKUs now, nobody else changing it until the commit."""
        ids = sorted({self.places.skus[row.sku].id for row in rows})
        levels = select(StockLevel.sku_id, StockLevel.location_id, StockLevel.on_hand_qty).where(
            StockLevel.sku_id.in_(ids)
        )
        if not uow.is_sqlite:
            levels = levels.order_by(StockLevel.sku_id, StockLevel.location_id).with_for_update()
        return {(level.sku_id, level.location_id): level.on_hand_qty for level in uow.rows(levels)}

    def _difference(self, uow: UnitOfWork, row: StockRow, there: dict[tuple[int, int], int]) -> Move | None:
        """The movement that makes the stock what the row says; None when it is that already."""
        sku, location_id = self.places.skus[row.sku], self.places.locations[row.location]
        known = there.get((sku.id, location_id))
        reason = "opening" if known is None else "count"
        lot_id = None
        if sku.is_lot_tracked:
            lot_id = lot_named(uow, sku, row.lot, expiry_date=row.expiry_date, is_new=row.qty > 0)
            lot = select(LotLevel.on_hand_qty).where(LotLevel.lot_id == lot_id, LotLevel.location_id == location_id)
            known = uow.conn.scalar(lot)
        if known == row.qty or (known is None and row.qty == 0):
            return None
        note = f"{self.run.outcome.file}:{row.line}"
        return Move(sku.id, location_id, row.qty - (known or 0), reason, lot_id=lot_id, note=note, is_fact=True)

    def tell_overcommitted(self) -> None:
        """List what is promised but not there, among the levels of this file."""
        over: list[dict[str, Any]] = []
        query = (
            select(
                Sku.sku, Location.code, StockLevel.on_hand_qty, StockLevel.reserved_qty, StockLevel.overcommitted_qty
            )
            .join(Sku, Sku.id == StockLevel.sku_id)
            .join(Location, Location.id == StockLevel.location_id)
            .where(StockLevel.overcommitted_qty > 0)
            .order_by(Sku.sku, Location.code)
        )
        codes = {(self.places.skus[sku].sku): sku for sku in self.places.skus}
        with self.run.store.reading() as conn:
            found = conn.execute(query).all()
        for sku, location, on_hand, reserved, by in found:
            if sku in codes and (self.places.skus[sku].id, self.places.locations.get(location)) in self.touched:
                facts: dict[str, str | int] = {"sku": sku, "location": location, "actual": on_hand}
                self.run.note(0, Problem("W_OVERCOMMITTED", "qty", facts={**facts, "reserved": reserved, "over": by}))
                over.append({"sku": sku, "location": location, "overcommitted_qty": by})
        self.run.outcome.facts["overcommitted"] = over
