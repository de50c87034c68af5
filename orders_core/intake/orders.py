"""Takes in live orders: every order of the file is placed through the same service as any other order.

The order is the unit: one with a bad line stays out whole. An order is recognised by its channel and number, so the
same file, or the same orders under another file name, place nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from orders_core.domain.permissions import Actor
from orders_core.errors import IdempotencyMismatch, OrdersError
from orders_core.intake.fields import (
    parse_choice,
    parse_currency,
    parse_date,
    parse_id,
    parse_instant,
    parse_price,
    parse_qty,
    parse_sku,
    parse_text,
)
from orders_core.intake.files import Row
from orders_core.intake.mapping import Mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused, Problem
from orders_core.intake.runs import KEYS_AT_A_TIME, ImportOptions, Run, chunks, import_run
from orders_core.intake.sheet import Sheet, in_memory, read_sheet, said
from orders_core.services.drafting import LineIn
from orders_core.services.place_order import AddressIn, PlacedOrder, PlaceOrder, place_order
from orders_core.store.tables import Channel, Customer, Sku
from orders_core.store.uow import Store, UnitOfWork

PAYMENTS = ("prepaid", "credit", "on_delivery")
PAYMENTS_ZH = {"预付": "prepaid", "款到发货": "prepaid", "账期": "credit", "月结": "credit", "货到付款": "on_delivery"}
DELIVERIES = ("courier", "own_truck", "pick_up")
DELIVERIES_ZH = {"快递": "courier", "自送": "own_truck", "自提": "pick_up"}
ADDRESS = ("recipient", "phone", "street", "city", "region", "postcode", "country")


@dataclass(frozen=True)
class Head:
    """What a row says about its whole order; rows may leave parts empty, but must not contradict each other."""

    customer: str
    address: tuple[str, ...]
    payment: str | None
    delivery: str | None
    requested_date: date | None
    note: str


@dataclass(frozen=True)
class OrderRow:
    """One row of an order file that was read and found good."""

    order_id: str
    line_no: str
    line: LineIn
    head: Head
    currency: str | None


def import_orders(
    store: Store, actor: Actor, path: Path, mapping: Mapping, options: ImportOptions, *, is_replay: bool = False
) -> Outcome:
    """Place the orders in the file at `path` and say what became of every row.

    Raises:
        FileRefused: The file as a whole can't be read; nothing was written.
    """
    channel = options.channel or mapping.channel
    if not channel:
        facts: dict[str, str | int] = {
            "file": mapping.name,
            "path": "channel",
            "detail": "say where the orders come from",
        }
        raise FileRefused(Problem("E_CONFIG", facts=facts), exit_code=2)
    _must_be_there(store, channel, mapping)
    with import_run(store, actor, path, mapping, in_memory(options), is_replay=is_replay) as run:
        sheet = read_sheet(run, lambda row: parse_row(run, row))
        must_exist(sheet, run)
        whole_orders(sheet)
        orders = grouped(sheet)
        if not options.quarantine or options.dry_run:
            rehearse(sheet, run, channel, orders)
        run.outcome.facts["orders"] = len({row.order_id for row in sheet.good.values()})
        if sheet.settle():
            run.store.run(_channel, actor, channel, mapping)
            place_all(sheet, run, channel, orders)
    return run.outcome


def parse_row(run: Run, row: Row) -> OrderRow | list[Problem]:
    """The row as an order line, or all that is wrong with it."""
    mapping, notes = run.mapping, list[Problem]()

    def cell(field: str) -> str:
        return run.cell(row, field)

    def optional(field: str, words: dict[str, str], choices: Sequence[str]) -> str | Problem | None:
        raw = cell(field).strip()
        return words.get(raw) or parse_choice(raw, field, choices) if raw else None

    order_id, sku = parse_id(cell("order_id"), "order_id"), parse_sku(cell("sku"), fold_case=mapping.fold_sku_case)
    qty, customer = parse_qty(cell("qty"), notes=notes), parse_id(cell("customer"), "customer")
    currency = parse_currency(raw) if (raw := cell("currency")).strip() else mapping.currency
    money = currency if isinstance(currency, str) else "CNY"
    price = parse_price(raw, "price", currency=money) if (raw := cell("price")).strip() else None
    payment = optional("payment", PAYMENTS_ZH, PAYMENTS)
    delivery = optional("delivery", DELIVERIES_ZH, DELIVERIES)
    wanted = (
        parse_date(raw, "requested_date", format=mapping.date_format)
        if (raw := cell("requested_date")).strip()
        else None
    )
    ordered = None
    if (raw := cell("ordered_at")).strip():
        zone = cell("zone").strip() or mapping.zone
        ordered = parse_instant(raw, "ordered_at", zone=zone, format=mapping.date_format)
    texts = [parse_text(cell(field), field, max_chars=300) for field in ADDRESS]
    note, unit = parse_text(cell("note"), "note"), parse_text(cell("unit"), "unit", max_chars=30)
    parsed = (order_id, sku, qty, customer, currency, price, payment, delivery, wanted, ordered, note, unit, *texts)
    problems = [value for value in parsed if isinstance(value, Problem)]
    if problems:
        return problems
    for said_aside in notes:
        run.note(row.line, said_aside)
    line_no = cell("line_no").strip()
    line = LineIn(
        sku=str(sku),
        qty=qty if isinstance(qty, int) else 0,
        unit=str(unit).strip() or None,
        unit_price_cents=price if isinstance(price, int) else None,
        external_line_no=line_no or None,
    )
    head = Head(
        customer=str(customer),
        address=tuple(map(str, texts)),
        payment=payment if isinstance(payment, str) else None,
        delivery=delivery if isinstance(delivery, str) else None,
        requested_date=wanted if isinstance(wanted, date) else None,
        note=str(note),
    )
    return OrderRow(str(order_id), line_no, line, head, cell("currency").strip().upper() or None)


def must_exist(sheet: Sheet[OrderRow], run: Run) -> None:
    """SKUs and customers are named, not made up: a row that names an unknown one stays out."""
    skus: set[str] = set()
    customers: dict[str, str] = {}
    with run.store.reading() as conn:
        for some in chunks({row.line.sku for row in sheet.good.values()}, KEYS_AT_A_TIME):
            skus.update(conn.scalars(select(Sku.sku).where(Sku.sku.in_(some))))
        for some in chunks({row.head.customer for row in sheet.good.values()}, KEYS_AT_A_TIME):
            found = conn.execute(select(Customer.code, Customer.currency).where(Customer.code.in_(some)))
            customers.update((code, currency) for code, currency in found)
    for line, row in list(sheet.good.items()):
        if row.line.sku not in skus:
            sheet.reject(line, Problem("E_REF", "sku", row.line.sku))
        if row.head.customer not in customers:
            sheet.reject(line, Problem("E_REF", "customer", row.head.customer))
        elif row.currency and row.currency != customers[row.head.customer]:
            expected = customers[row.head.customer]
            sheet.reject(line, Problem("E_CHOICE", "currency", row.currency, facts={"expected": expected}))


def grouped(sheet: Sheet[OrderRow]) -> dict[str, list[int]]:
    """The good lines of every order, in file order."""
    orders: dict[str, list[int]] = {}
    for line in sorted(sheet.good):
        orders.setdefault(sheet.good[line].order_id, []).append(line)
    return orders


def whole_orders(sheet: Sheet[OrderRow]) -> None:
    """Rows that repeat or contradict each other, and then: an order with a bad line stays out whole."""
    for order_id, lines in grouped(sheet).items():
        by_line_no: dict[str, int] = {}
        for line in lines:
            row = sheet.good[line]
            other = by_line_no.setdefault(row.line_no, line) if row.line_no else line
            if other == line:
                continue
            if sheet.good.get(other) == row:
                sheet.is_duplicate(line)
                continue
            for here, there in ((line, other), (other, line)):
                facts: dict[str, str | int] = {"key": f"{order_id}/{row.line_no}", "other_line": there}
                sheet.reject(here, Problem("E_CONFLICT", "order_id", order_id, facts=facts))
        left = [line for line in lines if line in sheet.good]
        for line in left[1:]:
            if _contradict(sheet.good[left[0]].head, sheet.good[line].head):
                facts = {"key": order_id, "other_line": left[0]}
                sheet.reject(line, Problem("E_CONFLICT", "order_id", order_id, facts=facts))
    spoiled: dict[str, int] = {}
    for line in sorted(sheet.bad):
        row_id = parse_id(sheet.run.cell(sheet.rows[line], "order_id")) if _is_whole(sheet, line) else None
        if isinstance(row_id, str):
            spoiled.setdefault(row_id, line)
    for line, row in sorted(sheet.good.items()):
        if (bad_line := spoiled.get(row.order_id)) is not None:
            facts = {"key": row.order_id, "other_line": bad_line}
            sheet.reject(line, Problem("E_ORDER_BAD", "order_id", row.order_id, facts=facts))


def _is_whole(sheet: Sheet[OrderRow], line: int) -> bool:
    return len(sheet.rows[line].cells) == len(sheet.run.source.header)


def _contradict(one: Head, other: Head) -> bool:
    pairs = [
        (one.customer, other.customer),
        (one.payment, other.payment),
        (one.delivery, other.delivery),
        (one.requested_date, other.requested_date),
        (one.note, other.note),
        *zip(one.address, other.address, strict=True),
    ]
    return any(a and b and a != b for a, b in pairs)


def command_of(rows: Sequence[OrderRow], channel: str) -> PlaceOrder:
    """The rows of one order as the order to place; of what they say about the whole, the first that says it counts."""
    heads = [row.head for row in rows]
    address: dict[str, Any] = {
        field: next((head.address[i] for head in heads if head.address[i].strip()), None)
        for i, field in enumerate(ADDRESS)
    }
    return PlaceOrder(
        channel=channel,
        customer=heads[0].customer,
        lines=[row.line for row in rows],
        external_id=rows[0].order_id,
        address=AddressIn(**address) if any(address.values()) else None,
        payment_method=next((head.payment for head in heads if head.payment), "credit"),
        delivery_method=next((head.delivery for head in heads if head.delivery), "courier"),
        requested_date=next((head.requested_date for head in heads if head.requested_date), None),
        note=next((head.note for head in heads if head.note), None),
    )


class _Rehearsed(Exception):
    """Thrown to undo an order that was only tried."""

    def __init__(self, placed: PlacedOrder) -> None:
        self.placed = placed


def rehearse(sheet: Sheet[OrderRow], run: Run, channel: str, orders: dict[str, list[int]]) -> None:
    """Place every order and undo it: what a service would refuse keeps the file out before anything is written."""
    for done, (order_id, lines) in enumerate(orders.items()):
        run.tell("checking", done, len(orders))
        command = command_of([sheet.good[line] for line in lines], channel)
        try:
            run.store.run(_try, run.actor, command, run.mapping)
        except _Rehearsed as tried:
            if tried.placed.is_repeat:
                for line in lines:
                    sheet.is_duplicate(line)
        except OrdersError as error:
            for line in lines:
                sheet.reject(line, _refusal(order_id, error))
    for order_id in [key for key, lines in orders.items() if not any(line in sheet.good for line in lines)]:
        del orders[order_id]


def _try(uow: UnitOfWork, actor: Actor, command: PlaceOrder, mapping: Mapping) -> None:
    _channel(uow, actor, command.channel, mapping)
    raise _Rehearsed(place_order(uow, actor, command))


def place_all(sheet: Sheet[OrderRow], run: Run, channel: str, orders: dict[str, list[int]]) -> None:
    """Place the orders, each in a transaction of its own."""
    placed: list[str] = []
    repeated = 0
    for done, (order_id, lines) in enumerate(orders.items()):
        run.tell("placing", done, len(orders))
        command = command_of([sheet.good[line] for line in lines], channel)
        try:
            answer = run.commit(place_order, command, rows=len(lines))
        except OrdersError as error:
            problem = _refusal(order_id, error)
            sheet.refused_later(lines, lambda _, problem=problem: problem)  # type: ignore[misc]
        else:
            if answer.is_repeat:
                repeated += 1
                run.outcome.accepted -= len(lines)
                run.outcome.duplicates += len(lines)
            else:
                placed.append(answer.number)
    sheet.leave_quarantine()
    run.outcome.facts |= {"orders": len(placed), "orders_known": repeated, "numbers": placed[:1_000]}


def _refusal(order_id: str, error: OrdersError) -> Problem:
    if isinstance(error, IdempotencyMismatch):
        facts: dict[str, str | int] = {"key": order_id, "detail": str(error.number)}
        return Problem("E_CONFLICT", "order_id", order_id, "stored", facts)
    return Problem("E_ORDER_REFUSED", "order_id", order_id, facts={"key": order_id, **said(error)})


def _must_be_there(store: Store, code: str, mapping: Mapping) -> None:
    """The mapping's own channel may be made; one given by hand must be there."""
    with store.reading() as conn:
        if conn.scalar(select(Channel.id).where(Channel.code == code)) is not None:
            return
    if code != mapping.channel or "channel" not in mapping.create:
        raise FileRefused(Problem("E_REF", "channel", code), exit_code=2)


def _channel(uow: UnitOfWork, _: Actor, code: str, mapping: Mapping) -> None:
    if uow.conn.scalar(select(Channel.id).where(Channel.code == code)) is None:
        name = mapping.channel_name or code
        uow.conn.execute(insert(Channel), {"id": uow.new_id(), "code": code, "name": name, "kind": "api"})
