"""Takes in the catalogue: products, SKUs, packs, barcodes, kits, list prices, costs and suppliers.

An empty cell leaves what is known as it is; a row that says only what is known is a duplicate. Nothing is written unless
all references hold: parents, components and pack sizes. Changed prices are shown and confirmed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, or_, select

from orders_core.domain.permissions import Actor
from orders_core.intake.fields import (
    parse_choice,
    parse_currency,
    parse_id,
    parse_lead_time_days,
    parse_money,
    parse_price,
    parse_qty,
    parse_sku,
    parse_stock,
    parse_text,
)
from orders_core.intake.files import Question, Row
from orders_core.intake.mapping import Mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused, Problem
from orders_core.intake.runs import KEYS_AT_A_TIME, ImportOptions, Run, chunks, import_run
from orders_core.intake.sheet import Sheet, in_memory, read_sheet, write_all
from orders_core.services.master_data import (
    OfferedSku,
    PriceIn,
    ProductIn,
    SkuIn,
    SupplierIn,
    save_price,
    save_product,
    save_supplier,
)
from orders_core.store.tables import (
    Category,
    Cost,
    KitComponent,
    Price,
    Product,
    Sku,
    SkuBarcode,
    SkuUnit,
    Supplier,
    SupplierSku,
)
from orders_core.store.uow import Store, UnitOfWork

DEFAULT_LEAD_TIME_DAYS = 14
"""For a supplier of which nobody has said how long it takes; every SKU it is used for is flagged W_LEAD_TIME."""
SUPPLY = ("stock", "make")
SUPPLY_ZH = {"备货": "stock", "采购": "stock", "生产": "make", "定制": "make"}
STATUS = ("active", "discontinued")
STATUS_ZH = {"在售": "active", "正常": "active", "停售": "discontinued", "停产": "discontinued"}


@dataclass(frozen=True)
class SkuRow:
    """One row of a catalogue file that was read and found good; `said` holds the fields it fills."""

    line: int
    sku: str
    raw_sku: str
    component: str | None
    component_qty: int
    said: tuple[tuple[str, Any], ...]

    def get(self, name: str) -> Any:
        return dict(self.said).get(name)


@dataclass(frozen=True)
class Entry:
    """One SKU of the file: its rows, one for each component when it is a kit."""

    rows: tuple[SkuRow, ...]

    @property
    def sku(self) -> str:
        return self.rows[0].sku

    @property
    def components(self) -> dict[str, int]:
        return {row.component: row.component_qty for row in self.rows if row.component}

    def get(self, name: str) -> Any:
        """What the first row that says it says."""
        return next((value for row in self.rows if (value := row.get(name)) is not None), None)


@dataclass
class Known:
    """What the books hold of the SKUs a file names."""

    skus: dict[str, Any] = field(default_factory=dict)  # by code
    products: dict[int, Any] = field(default_factory=dict)
    product_codes: dict[str, int] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)  # casefolded -> code
    packs: dict[int, dict[str, int]] = field(default_factory=dict)
    barcodes: dict[str, str] = field(default_factory=dict)  # barcode -> sku
    prices: dict[tuple[int, str], Any] = field(default_factory=dict)  # (sku id, currency) -> list price in force
    costs: dict[int, int] = field(default_factory=dict)
    components: dict[int, dict[str, int]] = field(default_factory=dict)
    offers: dict[tuple[str, int], Any] = field(default_factory=dict)  # (supplier, sku id)
    categories: dict[int, str] = field(default_factory=dict)


def import_catalogue(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Outcome:
    """Take in the catalogue file at `path` and say what became of every row.

    Raises:
        FileRefused: The file as a whole can't be read (exit 3), or prices would change and nobody said yes (exit 2).
    """
    with import_run(store, actor, path, mapping, in_memory(options), is_replay=is_replay) as run:
        sheet = read_sheet(run, lambda row: parse_row(run, row))
        one_spelling_each(sheet)
        one_row_each(sheet)
        with store.reading() as conn:
            known = look_up(conn, sheet)
        must_hold(sheet, known)
        entries = sorted_for_writing(grouped(sheet), known)
        unchanged = [line for entry in entries if not changes(entry, known) for line in (r.line for r in entry.rows)]
        for line in unchanged:
            sheet.is_duplicate(line)
        entries = [entry for entry in entries if entry.rows[0].line in sheet.good]
        confirm_prices(run, entries, known)
        if any(entry.get("supplier") for entry in entries):
            actor.must("setup.change")
        if sheet.settle():
            flag_lead_times(run, entries, known)
            writer = CatalogueWriter(known, {row.line: entry for entry in entries for row in entry.rows}, mapping)
            # A SKU is written with the first of its rows; the others of a kit ride along.
            write_all(sheet, [row.line for entry in entries for row in entry.rows], writer.write)
    return run.outcome


def parse_row(run: Run, row: Row) -> SkuRow | list[Problem]:
    """The row as a SKU (or one component of a kit), or all that is wrong with it."""
    parsed: dict[str, Any] = {}

    def take(name: str, parse: Any, key: str | None = None) -> None:
        if (raw := run.cell(row, name)).strip():
            parsed[key or name] = parse(raw)

    def sku(name: str) -> str | Problem:
        return parse_sku(run.cell(row, name), name, fold_case=run.mapping.fold_sku_case)

    code = sku("sku")
    component = sku("component") if run.cell(row, "component").strip() else None
    component_qty: int | Problem = 1
    if component is not None:
        component_qty = parse_qty(run.cell(row, "component_qty") or "1", "component_qty")
    if not run.cell(row, "name").strip():
        parsed["name"] = Problem("E_REQUIRED", "name")
    take("name", lambda raw: parse_text(raw.strip(), "name", max_chars=200))
    take("name_en", lambda raw: parse_text(raw.strip(), "name_en", max_chars=200))
    take("product", lambda raw: parse_id(raw, "product"))
    take("category", lambda raw: parse_text(raw.strip(), "category", max_chars=100))
    take("pack_unit", lambda raw: parse_text(raw.strip(), "pack_unit", max_chars=30))
    take("units_per_pack", lambda raw: parse_qty(raw, "units_per_pack"))
    take("currency", parse_currency)
    currency = parsed.get("currency", run.mapping.currency)
    money = currency if isinstance(currency, str) else "CNY"
    take("price", lambda raw: parse_price(raw, currency=money))
    take("cost", lambda raw: parse_money(raw, "cost", currency=money))
    take("barcode", lambda raw: parse_id(raw, "barcode"))
    take("tax_percent", _basis_points, "tax_rate_bp")
    take("weight_g", lambda raw: parse_stock(raw, "weight_g"))
    take("supply", lambda raw: SUPPLY_ZH.get(raw.strip()) or parse_choice(raw, "supply", SUPPLY), "supply_mode")
    take("status", lambda raw: STATUS_ZH.get(raw.strip()) or parse_choice(raw, "status", STATUS))
    take("supplier", lambda raw: parse_id(raw, "supplier"))
    take("lead_time_days", parse_lead_time_days)
    take("moq", lambda raw: parse_qty(raw, "moq"))
    for one, other in (("pack_unit", "units_per_pack"), ("units_per_pack", "pack_unit")):
        if one in parsed and other not in parsed:
            parsed[other] = Problem("E_REQUIRED", other)
    if isinstance(parsed.get("cost"), int) and parsed["cost"] < 0:
        parsed["cost"] = Problem("E_NUMBER", "cost", run.cell(row, "cost"))
    if "price" in parsed and not isinstance(currency, str):
        parsed["currency"] = currency or Problem("E_REQUIRED", "currency")
    problems = [x for x in (code, component, component_qty, *parsed.values()) if isinstance(x, Problem)]
    if problems:
        return problems
    parsed["currency"] = money
    raw_sku = run.cell(row, "sku").strip()
    qty = component_qty if isinstance(component_qty, int) else 1
    return SkuRow(
        row.line, str(code), raw_sku, str(component) if component else None, qty, tuple(sorted(parsed.items()))
    )


def _basis_points(raw: str) -> int | Problem:
    """`13` or `13%` -> 1300."""
    percent = parse_money(raw.strip().removesuffix("%"), "tax_percent", currency="CNY")
    if isinstance(percent, int) and not 0 <= percent <= 10_000:
        return Problem("E_NUMBER", "tax_percent", raw)
    return percent


# --- what only shows beside other rows


def one_spelling_each(sheet: Sheet[SkuRow]) -> None:
    """`ab-1`, `AB-1` and `ＡＢ-1` are one SKU that somebody wrote in several ways, never several."""
    alike: dict[str, list[int]] = {}
    for line in sorted(sheet.good):
        alike.setdefault(sheet.good[line].sku.casefold(), []).append(line)
    for lines in alike.values():
        spellings = {sheet.good[line].raw_sku: line for line in reversed(lines)}
        if len(spellings) == 1:
            continue
        for line in lines:
            row = sheet.good[line]
            other, other_line = next((raw, at) for raw, at in spellings.items() if raw != row.raw_sku)
            facts: dict[str, str | int] = {"key": row.sku.upper(), "other": other, "other_line": other_line}
            sheet.reject(line, Problem("E_CONFLICT", "sku", row.raw_sku, "twin", facts))


def one_row_each(sheet: Sheet[SkuRow]) -> None:
    """A SKU stands once, a kit once per component; the same row again is a duplicate, another one a conflict."""
    seen: dict[tuple[str, str | None], int] = {}
    plain: dict[str, int] = {}
    for line in sorted(sheet.good):
        row = sheet.good[line]
        other = seen.setdefault((row.sku, row.component), line)
        if other == line:
            first = plain.setdefault(row.sku, line)
            if first != line and (row.component is None or sheet.good.get(first, row).component is None):
                _reject_pair(sheet, line, first, row.sku)
        elif (first_row := sheet.good.get(other)) and (first_row.said, first_row.component_qty) == (
            row.said,
            row.component_qty,
        ):
            sheet.is_duplicate(line)
        else:
            _reject_pair(sheet, line, other, row.sku)


def _reject_pair(sheet: Sheet[SkuRow], line: int, other: int, key: str) -> None:
    for here, there in ((line, other), (other, line)):
        if here in sheet.good:
            facts: dict[str, str | int] = {"key": key, "other_line": there}
            sheet.reject(here, Problem("E_CONFLICT", "sku", sheet.good[here].raw_sku, facts=facts))


def grouped(sheet: Sheet[SkuRow]) -> dict[str, Entry]:
    """The good rows of the file, SKU by SKU."""
    rows: dict[str, list[SkuRow]] = {}
    for line in sorted(sheet.good):
        rows.setdefault(sheet.good[line].sku, []).append(sheet.good[line])
    return {sku: Entry(tuple(own)) for sku, own in rows.items()}


def look_up(conn: Connection, sheet: Sheet[SkuRow]) -> Known:
    """What the books hold of everything the file names."""
    known = Known()
    rows = list(sheet.good.values())
    names = {row.sku for row in rows} | {row.component for row in rows if row.component}
    names |= {str(row.get("product")) for row in rows if row.get("product")}
    for some in chunks(sorted(names), KEYS_AT_A_TIME):
        alike = [name.lower() for name in some]
        found = conn.execute(select(Sku.__table__).where(or_(Sku.sku.in_(some), func.lower(Sku.sku).in_(alike)))).all()
        known.skus.update((sku.sku, sku) for sku in found)
        codes = conn.execute(select(Product.code, Product.id).where(Product.code.in_(some)))
        known.product_codes.update((code, product_id) for code, product_id in codes)
    known.twins = {code.casefold(): code for code in known.skus}
    by_id = {sku.id: code for code, sku in known.skus.items()}
    for ids in chunks(sorted(by_id), KEYS_AT_A_TIME):
        products = {known.skus[by_id[sku_id]].product_id for sku_id in ids}
        known.products.update(
            (p.id, p) for p in conn.execute(select(Product.__table__).where(Product.id.in_(products)))
        )
        for pack in conn.execute(select(SkuUnit.__table__).where(SkuUnit.sku_id.in_(ids))):
            known.packs.setdefault(pack.sku_id, {})[pack.unit] = pack.units_per_pack
        prices = select(Price.__table__).where(
            Price.sku_id.in_(ids), Price.kind == "list", Price.valid_to_date.is_(None), Price.min_qty == 1
        )
        for price in conn.execute(prices.where(Price.unit == "each").order_by(Price.valid_from_date)):
            known.prices[price.sku_id, price.currency] = price
        costs = select(Cost.sku_id, Cost.unit_cost_cents).where(Cost.sku_id.in_(ids), Cost.kind == "standard")
        known.costs.update((sku_id, cents) for sku_id, cents in conn.execute(costs.order_by(Cost.valid_from_date)))
        part = select(KitComponent.kit_sku_id, Sku.sku, KitComponent.qty).join(
            Sku, Sku.id == KitComponent.component_sku_id
        )
        for kit_id, code, qty in conn.execute(part.where(KitComponent.kit_sku_id.in_(ids))):
            known.components.setdefault(kit_id, {})[code] = qty
        offers = select(Supplier.code, SupplierSku.__table__).join(Supplier, Supplier.id == SupplierSku.supplier_id)
        for offer in conn.execute(offers.where(SupplierSku.sku_id.in_(ids))):
            known.offers[offer.code, offer.sku_id] = offer
    for some in chunks(sorted({str(code) for row in rows if (code := row.get("barcode"))}), KEYS_AT_A_TIME):
        owners = select(SkuBarcode.barcode, Sku.sku).join(Sku, Sku.id == SkuBarcode.sku_id)
        owned = conn.execute(owners.where(SkuBarcode.barcode.in_(some)))
        known.barcodes.update((barcode, code) for barcode, code in owned)
    known.categories = {row.id: row.code for row in conn.execute(select(Category.id, Category.code))}
    return known


def must_hold(sheet: Sheet[SkuRow], known: Known) -> None:
    """Every reference leads somewhere, no kit contains itself, no pack changes its size, no barcode its owner."""
    entries = grouped(sheet)
    barcodes: dict[str, SkuRow] = {}
    for line, row in list(sheet.good.items()):
        entry, stored = entries[row.sku], known.skus.get(row.sku)
        twin = known.twins.get(row.sku.casefold())
        if twin is not None and twin != row.sku and row.sku not in known.skus:
            facts: dict[str, str | int] = {"key": row.sku, "detail": twin}
            sheet.reject(line, Problem("E_CONFLICT", "sku", row.raw_sku, "stored", facts))
        if row.component and row.component not in entries and row.component not in known.skus:
            sheet.reject(line, Problem("E_REF", "component", row.component))
        parent = row.get("product")
        if parent and parent != row.sku and parent not in known.product_codes and parent not in entries:
            sheet.reject(line, Problem("E_REF", "product", parent))
        if stored is not None and (unit := row.get("pack_unit")):
            size = known.packs.get(stored.id, {}).get(unit)
            if size is not None and size != row.get("units_per_pack"):
                facts = {"key": f"{row.sku} {unit}", "detail": str(size)}
                problem = Problem("E_CONFLICT", "units_per_pack", str(row.get("units_per_pack")), "stored", facts)
                sheet.reject(line, problem)
        if barcode := row.get("barcode"):
            owner = known.barcodes.get(barcode, row.sku)
            first = barcodes.setdefault(barcode, row)
            if owner != row.sku or first.sku != row.sku:
                other = owner if owner != row.sku else first.sku
                facts = {"key": barcode, "detail": other}
                sheet.reject(line, Problem("E_CONFLICT", "barcode", barcode, "stored", facts))
        if row.get("supplier") and row.get("cost") is None:
            sheet.reject(line, Problem("E_REQUIRED", "cost"))
        path = _cycle(entry.sku, entries, known)
        if path:
            sheet.reject(line, Problem("E_CYCLE", "component", row.component or "", facts={"path": " → ".join(path)}))
    _lost_components(sheet)


def _lost_components(sheet: Sheet[SkuRow]) -> None:
    """A kit comes in whole or not at all, and not without a component that stays out."""
    changed = True
    while changed:
        changed = False
        spoiled = {
            sheet.run.cell(sheet.rows[line], "sku").strip(): line for line in sheet.bad if _is_whole(sheet, line)
        }
        for line, row in list(sheet.good.items()):
            of_itself = spoiled.get(row.raw_sku)
            of_part = spoiled.get(row.component or "")
            if of_itself is not None and row.component:
                facts: dict[str, str | int] = {"key": row.sku, "other_line": of_itself}
                sheet.reject(line, Problem("E_ORDER_BAD", "sku", row.raw_sku, "kit", facts))
                changed = True
            elif of_part is not None and row.component:
                sheet.reject(line, Problem("E_REF", "component", row.component))
                changed = True


def _is_whole(sheet: Sheet[SkuRow], line: int) -> bool:
    return len(sheet.rows[line].cells) == len(sheet.run.source.header)


def _cycle(start: str, entries: dict[str, Entry], known: Known) -> list[str]:
    """The way from a kit back to itself, empty when there is none."""

    def parts(sku: str) -> Iterator[str]:
        if sku in entries:
            yield from entries[sku].components
        if sku in known.skus:
            yield from known.components.get(known.skus[sku].id, {})

    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop()
        for part in parts(way[-1]):
            if part == start:
                return [*way, part]
            if part not in seen:
                seen.add(part)
                ways.append([*way, part])
    return []


def sorted_for_writing(entries: dict[str, Entry], known: Known) -> list[Entry]:
    """Plain SKUs before kits, and a product's own SKU before its variants."""

    def rank(entry: Entry) -> tuple[bool, bool, int]:
        parent = entry.get("product")
        is_variant = bool(parent) and parent != entry.sku and parent not in known.product_codes
        return (bool(entry.components), is_variant, entry.rows[0].line)

    return sorted(entries.values(), key=rank)


# --- what would change


def changes(entry: Entry, known: Known) -> bool:
    """Whether the entry says anything the books don't hold yet."""
    sku = known.skus.get(entry.sku)
    if sku is None:
        return True
    product = known.products[sku.product_id]
    price = known.prices.get((sku.id, entry.get("currency")))
    pairs: list[tuple[Any, Any]] = [
        (entry.get("name"), sku.name),
        (entry.get("name_en"), sku.name_en),
        (entry.get("product"), product.code),
        (entry.get("category"), known.categories.get(product.category_id)),
        (entry.get("tax_rate_bp"), sku.tax_rate_bp),
        (entry.get("weight_g"), sku.weight_g),
        (entry.get("supply_mode"), sku.supply_mode),
        (entry.get("status"), sku.status),
        (entry.get("units_per_pack"), known.packs.get(sku.id, {}).get(entry.get("pack_unit"))),
        (entry.get("barcode"), entry.get("barcode") if known.barcodes.get(entry.get("barcode")) == entry.sku else ""),
        (entry.get("price"), price.unit_price_cents if price else None),
        (entry.get("cost"), known.costs.get(sku.id)),
    ]
    if any(new is not None and new != old for new, old in pairs):
        return True
    if entry.components and entry.components != known.components.get(sku.id):
        return True
    if supplier := entry.get("supplier"):
        offer = known.offers.get((supplier, sku.id))
        terms = (("cost", "unit_cost_cents"), ("moq", "min_order_qty"), ("lead_time_days", "lead_time_days"))
        return offer is None or any(
            entry.get(new) is not None and entry.get(new) != getattr(offer, old) for new, old in terms
        )
    return False


def confirm_prices(run: Run, entries: Sequence[Entry], known: Known) -> None:
    """Show the list prices that would change; without a yes nothing is written."""
    changed: list[tuple[str, str, str]] = []
    for entry in entries:
        sku = known.skus.get(entry.sku)
        price = known.prices.get((sku.id, entry.get("currency"))) if sku is not None else None
        new = entry.get("price")
        if price is not None and new is not None and price.unit_price_cents != new:
            changed.append((entry.sku, _money(price.unit_price_cents), _money(new)))
    run.outcome.facts["price_changes"] = len(changed)
    if not changed or run.options.accept_price_changes or run.options.dry_run:
        return
    question = Question("price", "yes", (("sku", "now", "new"), *changed[:5]))
    if run.options.confirm is not None and run.options.confirm(question):
        return
    shown = "; ".join(f"{sku} {old} → {new}" for sku, old, new in changed[:5])
    facts: dict[str, str | int] = {"count": len(changed), "shown": shown}
    raise FileRefused(Problem("E_CONFIRM", why="price", facts=facts), exit_code=2)


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def flag_lead_times(run: Run, entries: Sequence[Entry], known: Known) -> None:
    """Say for which SKUs nobody has said how long the supplier takes."""
    for entry in entries:
        if entry.get("supplier") and entry.get("lead_time_days") is None:
            sku = known.skus.get(entry.sku)
            offer = known.offers.get((entry.get("supplier"), sku.id)) if sku is not None else None
            if offer is None or offer.lead_time_days is None:
                facts: dict[str, str | int] = {"sku": entry.sku, "actual": DEFAULT_LEAD_TIME_DAYS}
                run.note(entry.rows[0].line, Problem("W_LEAD_TIME", "lead_time_days", facts=facts))


# --- writing


class CatalogueWriter:
    """Writes SKUs through the master data services; what a row leaves empty keeps its value."""

    def __init__(self, known: Known, entries: dict[int, Entry], mapping: Mapping) -> None:
        self.known, self.entries, self.mapping = known, entries, mapping

    def write(self, uow: UnitOfWork, actor: Actor, rows: Sequence[SkuRow]) -> list[bool]:
        """One transaction; every row here changes something."""
        for row in rows:
            entry = self.entries[row.line]
            if entry.rows[0].line == row.line:
                self._save(uow, actor, entry)
        return [True] * len(rows)

    def _save(self, uow: UnitOfWork, actor: Actor, entry: Entry) -> None:
        sku = self.known.skus.get(entry.sku)
        product = self.known.products[sku.product_id] if sku is not None else None
        code = entry.get("product") or (product.code if product else entry.sku)
        if product is None or product.code != code:
            product = uow.row(select(Product.__table__).where(Product.code == code))
        name, name_en = entry.get("name"), _or(entry.get("name_en"), product, "name_en")
        is_variant = product is not None and code != entry.sku
        if product is not None and is_variant:  # a variant doesn't rename the product it belongs to
            name, name_en = product.name, product.name_en
        save_product(
            uow,
            actor,
            ProductIn(
                code=code,
                name=name,
                name_en=name_en,
                category=entry.get("category") or self._category(uow, product),
                brand=_or(None, product, "brand"),
                tax_rate_bp=_or(entry.get("tax_rate_bp"), product, "tax_rate_bp", 0),
                supply_mode=_or(entry.get("supply_mode"), product, "supply_mode", "stock"),
                status=_or(None if is_variant else entry.get("status"), product, "status", "active"),
                launched_date=_or(None, product, "launched_date"),
                discontinued_date=_or(None, product, "discontinued_date"),
                skus=[self._sku(entry, sku)],
            ),
        )
        self._price(uow, entry, sku)
        if entry.get("supplier"):
            self._offer(uow, actor, entry)

    def _category(self, uow: UnitOfWork, product: Any) -> str | None:
        if product is None or product.category_id is None:
            return None
        return uow.conn.scalar(select(Category.code).where(Category.id == product.category_id))

    def _sku(self, entry: Entry, sku: Any) -> SkuIn:
        unit, barcode = entry.get("pack_unit"), entry.get("barcode")
        return SkuIn(
            sku=entry.sku,
            name=entry.get("name"),
            name_en=_or(entry.get("name_en"), sku, "name_en"),
            spec=_or(None, sku, "spec"),
            kind=_or(None, sku, "kind", "item"),
            supply_mode=_or(entry.get("supply_mode"), sku, "supply_mode", "stock"),
            is_stock_tracked=_or(None, sku, "is_stock_tracked", True),
            is_lot_tracked=_or(None, sku, "is_lot_tracked", False),
            weight_g=_or(entry.get("weight_g"), sku, "weight_g", 0),
            volume_cm3=_or(None, sku, "volume_cm3", 0),
            shelf_life_days=_or(None, sku, "shelf_life_days"),
            status=_or(entry.get("status"), sku, "status", "active"),
            boxes={unit: entry.get("units_per_pack")} if unit else {},
            barcodes={barcode: "each"} if barcode else {},
            components=entry.components or (self.known.components.get(sku.id, {}) if sku is not None else {}),
            unit_cost_cents=entry.get("cost"),
        )

    def _price(self, uow: UnitOfWork, entry: Entry, sku: Any) -> None:
        """The new list price holds from today, the old one until yesterday."""
        cents, currency = entry.get("price"), entry.get("currency")
        old = self.known.prices.get((sku.id, currency)) if sku is not None else None
        if cents is None or (old is not None and old.unit_price_cents == cents):
            return
        sku_id = uow.conn.scalar(select(Sku.id).where(Sku.sku == entry.sku))
        assert sku_id is not None  # it was saved a moment ago
        if old is not None and old.valid_from_date < uow.today:
            yesterday: date = uow.today - timedelta(days=1)
            save_price(
                uow,
                sku_id,
                PriceIn("list", old.unit_price_cents, old.valid_from_date, currency, "each", 1, None, None, yesterday),
            )
        save_price(uow, sku_id, PriceIn("list", cents, uow.today, currency))

    def _offer(self, uow: UnitOfWork, actor: Actor, entry: Entry) -> None:
        code = entry.get("supplier")
        supplier = uow.row(select(Supplier.__table__).where(Supplier.code == code))
        offer = OfferedSku(
            sku=entry.sku,
            unit_cost_cents=entry.get("cost"),
            min_order_qty=entry.get("moq") or 1,
            lead_time_days=entry.get("lead_time_days"),
        )
        save_supplier(
            uow,
            actor,
            SupplierIn(
                code=code,
                name=_or(None, supplier, "name", code),
                lead_time_days=_or(None, supplier, "lead_time_days", DEFAULT_LEAD_TIME_DAYS),
                name_en=_or(None, supplier, "name_en"),
                lead_time_sd_days=_or(None, supplier, "lead_time_sd_days", 0.0),
                review_period_days=_or(None, supplier, "review_period_days", 7),
                min_order_cents=_or(None, supplier, "min_order_cents", 0),
                currency=_or(None, supplier, "currency", entry.get("currency")),
                email=_or(None, supplier, "email"),
                offers=[offer],
            ),
        )


def _or(said: Any, row: Any, column: str, default: Any = None) -> Any:
    """What the file says, else what is known, else the default."""
    if said is not None:
        return said
    return getattr(row, column) if row is not None else default
