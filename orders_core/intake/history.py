"""Takes in old invoices as closed facts: what was ordered, when, by whom, at what price, and what came back.

Nothing moves: no reservation, no stock movement, no notice, no decision. The goods left from a location whose stock was
never recorded. The line is the unit: a bad one stays out by itself, and a line that is in the books already is a
duplicate, whatever the file is called.

Two passes. The first reads and checks every row into a spool on disk. The second takes the spool order by order, in
transactions of well under 250 ms; killed at any moment, the same file run again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import and_, func, insert, or_, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.intake.fields import (
    minor_digits,
    parse_currency,
    parse_id,
    parse_instant,
    parse_money,
    parse_signed_qty,
    parse_sku,
    parse_text,
)
from orders_core.intake.files import Row
from orders_core.intake.mapping import History, Mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import Problem
from orders_core.intake.runs import (
    KEYS_AT_A_TIME,
    BadRow,
    ImportOptions,
    Run,
    chunks,
    import_run,
    row_key,
)
from orders_core.intake.spool import Line, Spool, Spooled, open_spool
from orders_core.store.base import from_micros
from orders_core.store.tables import (
    Channel,
    Customer,
    Location,
    Order,
    OrderCharge,
    OrderLine,
    Product,
    ReturnAuthorization,
    ReturnLine,
    ShipmentLine,
    Sku,
)
from orders_core.store.uow import Store, UnitOfWork

SPOOL_ROWS = 10_000
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


def import_history(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Outcome:
    """Take in the old invoices in the file at `path` and say what became of every row.

    `is_replay`: the rows come from quarantine, single lines of invoices that are in the books already.

    Raises:
        FileRefused: The file as a whole can't be read; nothing was written.
    """
    history = mapping.history
    assert history is not None  # the mapping was checked: origin = history has its table
    with import_run(store, actor, path, mapping, options, is_replay=is_replay) as run, open_spool() as spool:
        read_into(spool, run, history)
        spool.ready()
        compare_within_file(spool, mapping)
        compare_with_books(spool, run)
        bad, known_bad = settle_bad_rows(spool, run)
        outcome = run.outcome
        outcome.quarantined = bad
        outcome.accepted = spool.count()
        outcome.duplicates = outcome.read - outcome.accepted - bad
        outcome.facts["known_bad_rows"] = known_bad
        if bad and not options.quarantine:
            outcome.refuse()
        elif not options.dry_run:
            run.keep_out(new_bad_rows(spool, run))
            write_books(spool, run, history)
    return outcome


# --- first pass: every row by itself


def read_into(spool: Spool, run: Run, history: History) -> None:
    """Check every row of the file; good ones become `Line`s, bad ones wait with their first problem."""
    read = RowReader(run, history)
    for rows in chunks(run.rows(), SPOOL_ROWS):
        good: list[Line] = []
        bad: list[Spooled] = []
        for row in rows:
            found = [row.problem] if row.problem else read.line(row)
            if isinstance(found, Line):
                good.append(found)
            else:
                bad.append(Spooled(row.line, read.content(row), found[0], row.cells))
        spool.add(good, bad)


class RowReader:
    """Turns a row into a `Line`, or into all that is wrong with it. A file has few texts many times: all are cached."""

    def __init__(self, run: Run, history: History) -> None:
        self.history, self.mapping = history, run.mapping
        # A column the file does not have is read from an empty cell put behind each row.
        names = "order_id ordered_at zone sku description qty price currency customer country line_no"
        self.places = [run.layout.index.get(name, -1) for name in names.split()]
        mapping, remember = run.mapping, lru_cache(65_536)
        self.order_of = remember(lambda raw: parse_id(raw, "order_id"))
        self.at_of = remember(
            lambda raw, zone: parse_instant(
                raw, "ordered_at", zone=zone.strip() or mapping.zone, format=mapping.date_format
            )
        )
        self.sku_of = remember(lambda raw: parse_sku(raw, "sku", fold_case=mapping.fold_sku_case))
        self.description_of = remember(lambda raw: parse_text(raw, "description"))
        self.qty_of = remember(parse_signed_qty)
        self.price_of = remember(self._price)
        self.currency_of = remember(self._currency)
        self.customer_of = remember(lambda raw: parse_id(raw, "customer") if raw.strip() else history.walk_in)
        self.country_of = remember(lambda raw: parse_text(raw, "country"))

    def _currency(self, raw: str) -> str | Problem:
        if raw.strip():
            return parse_currency(raw)
        return self.mapping.currency or Problem("E_REQUIRED", "currency")

    def _price(self, raw: str, currency: str | Problem) -> int | Problem:
        cents = parse_money(raw, "price", currency=currency if isinstance(currency, str) else "CNY")
        if isinstance(cents, int) and cents <= 0:
            return Problem("E_PRICE", "price", raw)
        return cents

    def line(self, row: Row) -> Line | list[Problem]:
        """The row as a line, or its problems, the price's first."""
        cells = [*row.cells, ""]
        key, when, zone, sku_text, words, number, price, money, buyer, land, line_no = [cells[i] for i in self.places]
        order_key, at, sku, qty = self.order_of(key), self.at_of(when, zone), self.sku_of(sku_text), self.qty_of(number)
        customer, currency = self.customer_of(buyer), self.currency_of(money)
        cents, description, country = self.price_of(price, currency), self.description_of(words), self.country_of(land)
        if (
            isinstance(cents, int)
            and isinstance(order_key, str)
            and isinstance(at, int)
            and isinstance(sku, str)
            and isinstance(qty, int)
            and isinstance(customer, str)
            and isinstance(currency, str)
            and isinstance(description, str)
            and isinstance(country, str)
        ):
            prefix = self.history.cancel_prefix
            if prefix is not None and order_key.startswith(prefix):
                kind, is_wrong = "credit", qty > 0
            elif sku in self.history.charges:
                kind, is_wrong = "charge", False
            else:
                kind, is_wrong = "item", qty < 0
            if is_wrong:
                return [Problem("E_QTY", "qty", number, "credit" if kind == "credit" else "sale")]
            return Line(
                row.line,
                order_key,
                at,
                kind,
                sku,
                description,
                qty,
                cents,
                customer,
                country,
                currency,
                line_no.strip(),
            )
        parsed = (cents, order_key, at, sku, qty, customer, currency, description, country)
        return [value for value in parsed if isinstance(value, Problem)]

    def content(self, row: Row) -> str:
        """What a bad row is recognised by, in this file or in the same one saved another way."""
        if row.problem is not None:
            return "\x1f".join(row.cells)
        cells = [*row.cells, ""]
        key, when, zone, sku, _, number, price, money, buyer, _, line_no = [cells[i].strip() for i in self.places]
        at = self.at_of(when, zone)
        moment = str(at) if isinstance(at, int) else when
        amount = f"{Decimal(price).normalize():f}" if _NUMBER.fullmatch(price) else price  # 0, 0.0 and 0.00 are one
        return "\x1f".join([moment, key, sku, number, amount, money, buyer, line_no])


# --- what only shows beside other rows


def compare_within_file(spool: Spool, mapping: Mapping) -> None:
    """Lines of one order that disagree about the customer, and lines that share a line number."""
    for same in spool.repeated_line_numbers():
        first, *others = same
        if all(other[1:] == first[1:] for other in others):
            spool.mark_known(other.line for other in others)  # the same line twice
        else:
            key = f"{first.order_key}/{first.line_no}"
            pairs = [(first, others[0].line), *((other, first.line) for other in others)]
            spool.reject(_conflict(line, key, other, mapping) for line, other in pairs)
    for order_key in spool.mixed_orders():
        first, *others = spool.order(order_key)
        odd = [line for line in others if (line.customer, line.currency) != (first.customer, first.currency)]
        spool.reject(_conflict(line, order_key, first.line, mapping) for line in odd)


def _conflict(line: Line, key: str, other_line: int, mapping: Mapping) -> Spooled:
    problem = Problem("E_CONFLICT", "order_id", line.order_key, facts={"key": key, "other_line": other_line})
    return _spooled(line, problem)


def _spooled(line: Line, problem: Problem) -> Spooled:
    """A line that was read well, as text again under our own headings."""
    digits = minor_digits(line.currency)
    whole, cents = divmod(line.cents, 10**digits)
    texts = {
        "order_id": line.order_key,
        "ordered_at": from_micros(line.at).isoformat(),
        "sku": line.sku,
        "description": line.description,
        "qty": str(line.qty),
        "price": f"{whole}.{cents:0{digits}d}" if digits else str(whole),
        "customer": line.customer,
        "country": line.country,
        "currency": line.currency,
        "line_no": line.line_no,
    }
    content = "\x1f".join(map(str, line[1:]))
    return Spooled(line.line, content, problem, list(texts.values()), list(texts))


def compare_with_books(spool: Spool, run: Run) -> None:
    """Mark the lines that earlier runs took in.

    An invoice in the books may get further lines from a later file, but a file that repeats an invoice with a changed
    line is in conflict with it: nobody can say which of the two is right.
    """
    for done, keys in enumerate(chunks(spool.order_keys(), KEYS_AT_A_TIME)):
        run.tell("comparing", done * KEYS_AT_A_TIME)
        for order_key, booked in booked_lines(run, keys).items():
            left = Counter(booked)
            known: list[int] = []
            new: list[Line] = []
            for line in spool.order(order_key):
                content = _as_booked(line)
                if left[content] > 0:
                    left[content] -= 1
                    known.append(line.line)
                else:
                    new.append(line)
            spool.mark_known(known)
            if new and known and left.total() and not run.is_replay:
                detail = f"{left.total()} of its {len(booked)} lines differ"
                facts: dict[str, str | int] = {"key": order_key, "detail": detail}
                problem = Problem("E_CONFLICT", "order_id", order_key, "stored", facts)
                spool.reject(_spooled(line, problem) for line in new)


Booked = tuple[str, str, int, int, str]


def _as_booked(line: Line) -> Booked:
    """A line as the books would show it: charges are kept as one amount."""
    if line.kind == "charge":
        return ("charge", line.sku, 1, line.qty * line.cents, line.line_no)
    return line.content


def booked_lines(run: Run, order_keys: Sequence[str]) -> dict[str, list[Booked]]:
    """The lines in the books of those of the orders that are there."""
    found: dict[str, list[Booked]] = defaultdict(list)
    prefix = run.mapping.history.cancel_prefix if run.mapping.history else None
    credits = [key for key in order_keys if prefix and key.startswith(prefix)]
    sales = [key for key in order_keys if not (prefix and key.startswith(prefix))]
    with run.store.reading() as conn:
        channel_id = conn.scalar(select(Channel.id).where(Channel.code == run.mapping.channel))
        if channel_id is None:
            return {}
        wanted = select(Order.id, Order.external_id).where(Order.channel_id == channel_id, Order.external_id.in_(sales))
        orders: dict[int, str] = {order_id: key or "" for order_id, key in conn.execute(wanted)}
        for ids in chunks(orders, KEYS_AT_A_TIME):
            lines = select(
                OrderLine.order_id,
                Sku.sku,
                OrderLine.ordered_qty,
                OrderLine.unit_price_cents,
                OrderLine.external_line_no,
            ).join(Sku, Sku.id == OrderLine.sku_id)
            for order_id, sku, qty, cents, line_no in conn.execute(lines.where(OrderLine.order_id.in_(ids))):
                found[orders[order_id]].append(("item", sku, qty, cents, line_no or ""))
            charges = select(
                OrderCharge.order_id, OrderCharge.code, OrderCharge.amount_cents, OrderCharge.external_line_no
            )
            for order_id, code, cents, line_no in conn.execute(charges.where(OrderCharge.order_id.in_(ids))):
                found[orders[order_id]].append(("charge", code or "", 1, cents, line_no or ""))
        for order_id in orders:
            found.setdefault(orders[order_id], [])
        for some in chunks(credits, 100):
            returns = select(ReturnAuthorization.id, ReturnAuthorization.external_id).where(
                ReturnAuthorization.channel_id == channel_id,
                or_(*(_external_is(key) for key in some)),
            )
            keys = {return_id: (external or "").partition("#")[0] for return_id, external in conn.execute(returns)}
            back = select(
                ReturnLine.return_id, Sku.sku, ReturnLine.qty, ReturnLine.unit_price_cents, ReturnLine.external_line_no
            ).join(Sku, Sku.id == ReturnLine.sku_id)
            for return_id, sku, qty, cents, line_no in conn.execute(back.where(ReturnLine.return_id.in_(keys))):
                found[keys[return_id]].append(("credit", sku, -qty, cents, line_no or ""))
    return found


def _external_is(key: str) -> Any:
    """One cancellation may have become several returns: `C1`, `C1#2`, `C1#3`."""
    external = ReturnAuthorization.external_id
    return or_(external == key, and_(external > f"{key}#", external < f"{key}$"))


def settle_bad_rows(spool: Spool, run: Run) -> tuple[int, int]:
    """(rows that stay out now, rows an earlier run kept out already); the new ones go into ledger and report."""
    new = known = 0
    for row in _bad_rows(spool, run):
        if row is None:
            known += 1
        else:
            new += 1
            run.note(row.line, row.problem)
    return new, known


def new_bad_rows(spool: Spool, run: Run) -> Iterator[BadRow]:
    """The bad rows no earlier run kept out."""
    return (row for row in _bad_rows(spool, run) if row is not None)


def _bad_rows(spool: Spool, run: Run) -> Iterator[BadRow | None]:
    channel = run.mapping.channel or ""
    for some in chunks(spool.bad_rows(), KEYS_AT_A_TIME):
        keys = [row_key(channel, row.content, occurrence=occurrence) for occurrence, row in some]
        known = run.known_bad(keys)
        for key, (_, row) in zip(keys, some, strict=True):
            yield None if key in known else BadRow(key, row.line, row.problem, row.cells, row.header)


# --- second pass: into the books


class Names(NamedTuple):
    """Ids of what lines refer to by name."""

    channel_id: int
    location_id: int
    skus: dict[str, int]
    customers: dict[str, int]


@dataclass
class Written:
    """What one transaction did; merged into the run once it is committed."""

    skus: dict[str, int] = field(default_factory=dict)
    customers: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def write_books(spool: Spool, run: Run, history: History) -> None:
    """Write the spooled orders, batch after batch; each is in the books whole or not at all."""
    descriptions = spool.descriptions()
    channel_id, location_id = run.commit(_channel_and_location, run.mapping, history, rows=1)
    names = Names(channel_id, location_id, {}, {})
    counts: Counter[str] = Counter()
    total, written = spool.count(), 0
    batch: list[list[Line]] = []
    rows = 0

    def flush() -> None:
        nonlocal rows, written
        done = run.commit(_write_batch, run.mapping, history, names, descriptions, batch, rows=rows)
        names.skus.update(done.skus)
        names.customers.update(done.customers)
        counts.update(done.counts)
        written += rows
        run.tell("writing", written, total)
        batch.clear()
        rows = 0

    for order in spool.orders():
        if batch and rows + len(order) > run.batch_rows:
            flush()
        batch.append(order)
        rows += len(order)
    if batch:
        flush()
    run.outcome.facts.update(counts)


def _channel_and_location(uow: UnitOfWork, _: Actor, mapping: Mapping, history: History) -> tuple[int, int]:
    channel_id = uow.conn.scalar(select(Channel.id).where(Channel.code == mapping.channel))
    if channel_id is None:
        channel_id = uow.new_id()
        name = mapping.channel_name or mapping.channel
        uow.conn.execute(insert(Channel), {"id": channel_id, "code": mapping.channel, "name": name, "kind": "history"})
    location_id = uow.conn.scalar(select(Location.id).where(Location.code == history.location))
    if location_id is None:
        location_id = uow.new_id()
        uow.conn.execute(
            insert(Location),
            {
                "id": location_id,
                "code": history.location,
                "name": history.location_name,
                "country": history.country,
                "kind": "history",
                "is_stock_tracked": False,
                "can_ship": False,
            },
        )
        uow.changed("location", location_id, 1, "insert")
    return channel_id, location_id


def _write_batch(
    uow: UnitOfWork,
    _: Actor,
    mapping: Mapping,
    history: History,
    names: Names,
    descriptions: dict[str, str],
    orders: Sequence[Sequence[Line]],
) -> Written:
    """Several orders in one transaction: sales first, then what came back of them."""
    done = Written()
    lines = [line for order in orders for line in order]
    _make_skus(uow, mapping, history, names, descriptions, lines, done)
    _make_customers(uow, mapping, history, names, lines, done)
    writer = Writer(uow, mapping, history, names, done)
    if sales := [order for order in orders if order[0].kind != "credit"]:
        writer.sales(sales)
    if credits := [order for order in orders if order[0].kind == "credit"]:
        writer.credits(credits)
    return done


def _make_skus(
    uow: UnitOfWork,
    mapping: Mapping,
    history: History,
    names: Names,
    descriptions: dict[str, str],
    lines: Sequence[Line],
    done: Written,
) -> None:
    wanted = {line.sku: line for line in reversed(lines) if line.kind != "charge" and line.sku not in names.skus}
    if not wanted:
        return
    done.skus.update((row.sku, row.id) for row in uow.rows(select(Sku.sku, Sku.id).where(Sku.sku.in_(list(wanted)))))
    missing = [sku for sku in wanted if sku not in done.skus]
    if not missing:
        return
    taken = set(uow.conn.scalars(select(Product.code).where(Product.code.in_(missing))))
    first_id = uow.new_id(2 * len(missing))
    products, skus = [], []
    for place, sku in enumerate(missing):
        product_id, sku_id = first_id + 2 * place, first_id + 2 * place + 1
        name = descriptions.get(sku, "").strip() or sku
        is_service = sku in history.charges
        code = f"{sku} ({mapping.channel})" if sku in taken else sku
        at = from_micros(wanted[sku].at)
        products.append({"id": product_id, "code": code, "name": name, "created_at": at})
        skus.append(
            {
                "id": sku_id,
                "product_id": product_id,
                "sku": sku,
                "name": name,
                "kind": "service" if is_service else "item",
                "is_stock_tracked": not is_service,
                "origin": "history",
                "created_at": at,
            }
        )
        done.skus[sku] = sku_id
    uow.conn.execute(insert(Product), products)
    uow.conn.execute(insert(Sku), skus)
    done.counts["products_created"] += len(missing)


def _make_customers(
    uow: UnitOfWork, mapping: Mapping, history: History, names: Names, lines: Sequence[Line], done: Written
) -> None:
    wanted = {line.customer: line for line in reversed(lines) if line.customer not in names.customers}
    if not wanted:
        return
    known = select(Customer.code, Customer.id).where(Customer.code.in_(list(wanted)))
    done.customers.update((row.code, row.id) for row in uow.rows(known))
    missing = [code for code in wanted if code not in done.customers]
    if not missing:
        return
    first_id = uow.new_id(len(missing))
    rows = []
    for place, code in enumerate(missing):
        is_walk_in = code == history.walk_in
        rows.append(
            {
                "id": first_id + place,
                "code": code,
                "name": ("散客" if mapping.language == "zh" else "Walk-in") if is_walk_in else code,
                "kind": "walk_in" if is_walk_in else "business",
                "language": mapping.language,
                "currency": wanted[code].currency,
                "origin": "history",
                "created_at": from_micros(wanted[code].at),
            }
        )
        done.customers[code] = first_id + place
    uow.conn.execute(insert(Customer), rows)
    done.counts["customers_created"] += len(missing)


COLUMNS = {
    "orders": "id, number, channel_id, external_id, lines_hash, customer_id, origin, status, language, currency,"
    " goods_cents, charges_cents, total_cents, payment_method, country, business_date, placed_at, approved_at,"
    " approved_by",
    "order_line": "id, order_id, line_no, sku_id, description, unit, pack_qty, unit_price_cents, price_kind,"
    " net_cents, ordered_qty, shipped_qty, delivered_qty, external_line_no",
    "order_charge": "id, order_id, kind, code, description, amount_cents, external_line_no",
    "shipment": "id, number, location_id, status, created_at, released_at, shipped_at, delivered_at",
    "shipment_line": "id, shipment_id, order_line_id, sku_id, qty, picked_qty, shipped_qty, delivered_qty",
    "return_authorization": "id, number, order_id, customer_id, channel_id, external_id, location_id, kind, status,"
    " origin, refund_cents, currency, business_date, requested_at, received_at, closed_at",
    "return_line": "id, return_id, order_line_id, sku_id, qty, unit_price_cents, received_qty, refund_cents,"
    " external_line_no",
}
"""What is said of each row, in the order in which tables can be filled; the database's defaults say the rest."""


class Writer:
    """Puts the orders of one transaction into the tables."""

    def __init__(self, uow: UnitOfWork, mapping: Mapping, history: History, names: Names, done: Written) -> None:
        self.uow, self.mapping, self.history, self.names, self.done = uow, mapping, history, names, done
        self.zone = ZoneInfo(mapping.zone or uow.zone.key)
        self.rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
        self.returned: Counter[int] = Counter()  # units that came back, by order line

    def flush(self) -> None:
        """Write the collected rows, table by table, straight to the driver: a file has millions of them."""
        for table, columns in COLUMNS.items():
            rows = self.rows[table]
            if rows and self.uow.is_sqlite:
                marks = ", ".join("?" * len(rows[0]))
                self.uow.conn.exec_driver_sql(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
            elif rows:
                # COPY checks the same constraints as INSERT and takes a third of the time.
                cursor: Any = self.uow.conn.connection.cursor()
                with cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
            rows.clear()

    def sku_id(self, sku: str) -> int:
        return self.done.skus.get(sku) or self.names.skus[sku]

    def customer_id(self, code: str) -> int:
        return self.done.customers.get(code) or self.names.customers[code]

    def day(self, at: int) -> date | str:
        """The business date where the old system stood, as the driver takes it."""
        day = from_micros(at).astimezone(self.zone).date()
        return day.isoformat() if self.uow.is_sqlite else day

    def sales(self, orders: Sequence[Sequence[Line]]) -> None:
        """Orders with their lines, charges and the shipment they left with."""
        keys = [order[0].order_key for order in orders]
        wanted = select(Order.id, Order.external_id, Order.version)
        booked = {
            row.external_id: row
            for row in self.uow.rows(
                wanted.where(Order.channel_id == self.names.channel_id, Order.external_id.in_(keys))
            )
        }
        for order in orders:
            self._sale(order, booked.get(order[0].order_key))
        self.flush()

    def _sale(self, order: Sequence[Line], booked: Any) -> None:
        """The rows of one order. Lines for an order that is in the books go to its end, with a shipment of their own."""
        first = order[0]
        next_id = self.uow.new_id(2 + 2 * len(order))
        order_id, shipment_id = (booked.id if booked else next_id), next_id + 1
        last_line_no, shipment_no = self._already(order_id) if booked else (0, 0)
        items = [line for line in order if line.kind == "item"]
        charges = [line for line in order if line.kind == "charge"]
        goods = sum(line.qty * line.cents for line in items)
        charged = sum(line.qty * line.cents for line in charges)
        at = min(line.at for line in order)
        number = f"{self.mapping.channel}/{first.order_key}"
        if booked:
            self._grow(order_id, booked.version, goods, charged)
        else:
            who = (self.names.channel_id, first.order_key, _lines_hash(items), self.customer_id(first.customer))
            what = ("history", "delivered", self.mapping.language, first.currency, goods, charged, goods + charged)
            when = (self.day(at), at, at, "history")
            self.rows["orders"].append((order_id, number, *who, *what, "prepaid", first.country or None, *when))
            self.uow.changed("orders", order_id, 1, "insert")
            self.done.counts["orders_created"] += 1
            self.done.counts["walk_in_orders"] += first.customer == self.history.walk_in
        if items:
            shipped = (f"{number}/{shipment_no + 1}", self.names.location_id, "delivered", at, at, at, at)
            self.rows["shipment"].append((shipment_id, *shipped))
        next_id += 2
        for line_no, line in enumerate(items, start=last_line_no + 1):
            sku_id, qty, cents = self.sku_id(line.sku), line.qty, line.cents
            sold = (line_no, sku_id, line.description or None, "each", qty, cents, "history", qty * cents)
            self.rows["order_line"].append((next_id, order_id, *sold, qty, qty, qty, line.line_no or None))
            self.rows["shipment_line"].append((next_id + 1, shipment_id, next_id, sku_id, qty, qty, qty, qty))
            next_id += 2
        for line in charges:
            text = line.description if line.qty == 1 else f"{line.description} × {line.qty}"
            kind, amount = self.history.charges[line.sku], line.qty * line.cents
            self.rows["order_charge"].append((next_id, order_id, kind, line.sku, text, amount, line.line_no or None))
            next_id += 1
        self.done.counts["charges"] += len(charges)

    def _already(self, order_id: int) -> tuple[int, int]:
        """(highest line number, number of shipments) of an order in the books."""
        last = self.uow.conn.scalar(select(func.max(OrderLine.line_no)).where(OrderLine.order_id == order_id))
        shipments = self.uow.conn.scalar(
            select(func.count(ShipmentLine.shipment_id.distinct()))
            .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
            .where(OrderLine.order_id == order_id)
        )
        return last or 0, shipments or 0

    def _grow(self, order_id: int, version: int, goods: int, charged: int) -> None:
        self.uow.conn.execute(
            update(Order)
            .where(Order.id == order_id)
            .values(
                goods_cents=Order.goods_cents + goods,
                charges_cents=Order.charges_cents + charged,
                total_cents=Order.total_cents + goods + charged,
                version=version + 1,
            )
        )
        self.uow.changed("orders", order_id, version + 1)
        self.done.counts["orders_extended"] += 1

    def credits(self, cancellations: Sequence[Sequence[Line]]) -> None:
        """What came back, after all sales of the batch are written."""
        taken = self._returns_booked([cancellation[0].order_key for cancellation in cancellations])
        for cancellation in cancellations:
            self._credit(cancellation, taken[cancellation[0].order_key])
        self.flush()
        self._take_back()

    def _credit(self, cancellation: Sequence[Line], taken: int) -> None:
        """A cancellation: each line comes back on the invoice it was sold on, the rest is a credit by itself."""
        first = cancellation[0]
        sold = self._sold_lines(cancellation)
        by_order: dict[int | None, list[tuple[Line, int | None]]] = defaultdict(list)
        for line in cancellation:
            match = _best_match(line, sold.get(self.sku_id(line.sku), ()), self.returned)
            if match is not None:
                self.returned[match.id] -= line.qty
            by_order[match.order_id if match else None].append((line, match.id if match else None))
        next_id = self.uow.new_id(len(by_order) + len(cancellation))
        for place, (order_id, group) in enumerate(by_order.items(), start=taken):
            return_id, next_id = next_id, next_id + 1
            external = first.order_key if place == 0 else f"{first.order_key}#{place + 1}"
            at = min(line.at for line, _ in group)
            amount = sum(-line.qty * line.cents for line, _ in group)
            who = (order_id, self.customer_id(first.customer), self.names.channel_id, external, self.names.location_id)
            what = ("credit" if order_id is None else "return", "closed", "history", amount, first.currency)
            number = f"{self.mapping.channel}/{external}"
            self.rows["return_authorization"].append((return_id, number, *who, *what, self.day(at), at, at, at))
            for line, order_line_id in group:
                qty, sku_id = -line.qty, self.sku_id(line.sku)
                money = (line.cents, qty, qty * line.cents)
                row = (next_id, return_id, order_line_id, sku_id, qty, *money, line.line_no or None)
                self.rows["return_line"].append(row)
                next_id += 1
            self.uow.changed("return_authorization", return_id, 1, "insert")
            self.done.counts["standalone_credits" if order_id is None else "returns"] += 1
            self.done.counts["standalone_credit_lines" if order_id is None else "returned_lines"] += len(group)

    def _returns_booked(self, order_keys: Sequence[str]) -> Counter[str]:
        """How many returns each of the cancellations has become in earlier runs."""
        external = ReturnAuthorization.external_id
        query = select(external).where(
            ReturnAuthorization.channel_id == self.names.channel_id, or_(*map(_external_is, order_keys))
        )
        return Counter((found or "").partition("#")[0] for found in self.uow.conn.scalars(query))

    def _sold_lines(self, cancellation: Sequence[Line]) -> dict[int, list[Any]]:
        """Lines this customer bought before, of the SKUs that come back, newest first."""
        first = cancellation[0]
        wanted = {self.sku_id(line.sku) for line in cancellation if line.sku not in self.history.charges}
        if first.customer == self.history.walk_in or not wanted:
            return {}  # of walk-in sales nobody knows which one it was
        left = (OrderLine.shipped_qty - OrderLine.returned_qty).label("left")
        query = (
            select(
                OrderLine.id, OrderLine.order_id, OrderLine.sku_id, OrderLine.unit_price_cents, left, Order.placed_at
            )
            .join(Order, Order.id == OrderLine.order_id)
            .where(
                Order.customer_id == self.customer_id(first.customer),
                Order.channel_id == self.names.channel_id,
                Order.origin == "history",
                Order.currency == first.currency,
                Order.placed_at <= from_micros(max(line.at for line in cancellation)),
                OrderLine.sku_id.in_(wanted),
                OrderLine.shipped_qty > OrderLine.returned_qty,
            )
            .order_by(Order.placed_at.desc(), OrderLine.id.desc())
        )
        found: dict[int, list[Any]] = defaultdict(list)
        for row in self.uow.rows(query):
            found[row.sku_id].append(row)
        return found

    def _take_back(self) -> None:
        """Count units as returned on the lines they were sold on, and tell the change log of their orders."""
        if not self.returned:
            return
        self.uow.conn.execute(
            text("UPDATE order_line SET returned_qty = returned_qty + :qty WHERE id = :id"),
            [{"id": line_id, "qty": qty} for line_id, qty in self.returned.items()],
        )
        touched = select(OrderLine.order_id).where(OrderLine.id.in_(list(self.returned)))
        raised = update(Order).where(Order.id.in_(touched)).values(version=Order.version + 1)
        for order_id, version in self.uow.conn.execute(raised.returning(Order.id, Order.version)):
            self.uow.changed("orders", order_id, version)


def _best_match(line: Line, sold: Sequence[Any], returned: Counter[int]) -> Any:
    """The newest earlier line with enough units left, one sold at the same price before all others."""
    at = from_micros(line.at)
    fitting = [row for row in sold if row.placed_at <= at and row.left - returned[row.id] >= -line.qty]
    return next((row for row in fitting if row.unit_price_cents == line.cents), fitting[0] if fitting else None)


def _lines_hash(items: Sequence[Line]) -> str:
    content = sorted((line.sku, line.qty) for line in items)
    return hashlib.sha256(repr(content).encode()).hexdigest()
