"""A small company in the trade's shorthand, built through the public services.

    company(store)                                   # channels, customer ACME with address, contact and credit
    rules(store, shortage={"policy": "backorder"})   # a new version of the rules
    stock(store, "LAMP@WH1: 10, RUG@WH1: 0")         # SKUs, prices and locations come into being as needed
    placed = order(store, "LAMP 2, RUG 1")
    on_hand(store, "LAMP@WH1"), level(store, "LAMP@WH1").reserved_qty
    ship(store, placed.number); deliver(store, placed.number)

What has no service of its own here (channels, customers, products) is written as rows, change log included.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import build_rules
from orders_core.errors import OrdersError
from orders_core.ports import FixedClock
from orders_core.services.place_order import LineIn, PlacedOrder, PlaceOrder, place_order
from orders_core.services.shipping import (
    ConfirmDelivery,
    ConfirmedDelivery,
    Pack,
    PackageIn,
    ShippedShipment,
    ShipShipment,
    confirm_delivery,
    pack,
    ship_shipment,
)
from orders_core.services.stock import OpeningStock, StockIn, opening_stock
from orders_core.services.warehouse import PickAll, Release, pick_all, release
from orders_core.store import tables
from orders_core.store.uow import Store, UnitOfWork

CLERK = Actor("ann", frozenset({"clerk"}))
SALES = Actor("sam", frozenset({"sales"}))
PICKER = Actor("wei", frozenset({"warehouse"}))
PLANNER = Actor("pia", frozenset({"planner"}))
CASHIER = Actor("kai", frozenset({"cashier"}))
MANAGER = Actor("mei", frozenset({"manager"}))
CUSTOMER = "ACME"

PRICE_CENTS = 1000
_PLACED = re.compile(r"^(?P<sku>[^@:\s]+)@(?P<location>[^@:\s]+)(?:\s*:\s*(?P<qty>\d+))?$")


def company(store: Store) -> None:
    """Channels `phone` and `web`, and customer ACME with 10 million of credit. Twice is the same as once."""
    channel(store, "phone")
    channel(store, "web")
    customer(store, CUSTOMER)


def channel(store: Store, code: str, *, kind: str | None = None, policy: Mapping[str, Any] | None = None) -> int:
    """A channel's id; made when it is not there."""
    with store.unit_of_work() as uow:
        known = _id_of(uow, tables.Channel, code)
        if known is not None:
            return known
        row = {"id": uow.new_id(), "code": code, "name": code, "kind": kind or code, "policy": policy}
        uow.conn.execute(insert(tables.Channel), row)
        return int(row["id"])


def customer(
    store: Store,
    code: str,
    *,
    credit_limit_cents: int | None = 1_000_000_000,
    email: str | None = "buyer@acme.cn",
    near: tuple[float, float] | None = (31.2, 121.5),
    phone: str | None = "+8613800138000",
    street: str = "人民路 1 号",
    **fields: Any,
) -> int:
    """A customer's id, with one contact and one address; made when it is not there. `fields` are columns of the table."""
    with store.unit_of_work() as uow:
        known = _id_of(uow, tables.Customer, code)
        if known is not None:
            return known
        ident = uow.new_id(3)
        row: dict[str, Any] = {
            "id": ident, "code": code, "name": code, "credit_limit_cents": credit_limit_cents, "terms_days": 30,
            "created_at": uow.now, **fields,
        }  # fmt: skip
        uow.conn.execute(insert(tables.Customer), row)
        uow.conn.execute(
            insert(tables.CustomerContact),
            {"id": ident + 1, "customer_id": ident, "name": "王五", "phone": phone, "email": email, "is_primary": True},
        )
        uow.conn.execute(
            insert(tables.CustomerAddress),
            {
                "id": ident + 2, "customer_id": ident, "recipient": "王五", "phone": phone, "region": "上海",
                "city": "上海", "street": street, "latitude": near and near[0], "longitude": near and near[1],
                "is_default": True,
            },
        )  # fmt: skip
        uow.changed("customer", ident, 1, "insert")
        return ident


def location(store: Store, code: str, **fields: Any) -> int:
    """A location's id; made when it is not there, in the order of its code. `fields` are columns of the table."""
    with store.unit_of_work() as uow:
        known = _id_of(uow, tables.Location, code)
        if known is not None:
            return known
        digits = re.sub(r"\D", "", code)
        row = {"id": uow.new_id(), "code": code, "name": code, "rank": int(digits or 0), **fields}
        uow.conn.execute(insert(tables.Location), row)
        uow.changed("location", row["id"], 1, "insert")
        return int(row["id"])


def sku(
    store: Store,
    code: str,
    *,
    price_cents: int | None = PRICE_CENTS,
    currency: str = "CNY",
    box_of: int | None = None,
    box_price_cents: int | None = None,
    components: str = "",
    category: str | None = None,
    barcodes: Mapping[str, str] | None = None,
    **fields: Any,
) -> int:
    """A SKU's id; made when it is not there, with its product and list price. `fields` are columns of the table.

    `box_of=12` sells it by the box of 12 too; `components="LAMP 1, BULB 2"` makes it a kit; `barcodes={"690…": "box"}`.
    """
    parts = {code_: sku(store, code_) for code_, _, _ in _lines(components)} if components else {}
    with store.unit_of_work() as uow:
        known = _id_of(uow, tables.Sku, code, column="sku")
        if known is not None:
            return known
        ident = uow.new_id(5)
        tax = fields.get("tax_rate_bp", 0)
        category_id = None
        if category is not None:
            category_id = _id_of(uow, tables.Category, category)
            if category_id is None:
                category_id = uow.new_id()
                uow.conn.execute(insert(tables.Category), {"id": category_id, "code": category, "name": category})
        uow.conn.execute(
            insert(tables.Product),
            {
                "id": ident, "code": f"P-{code}", "name": code, "tax_rate_bp": tax, "category_id": category_id,
                "created_at": uow.now,
            },
        )  # fmt: skip
        if components:
            fields = {"kind": "kit", "is_stock_tracked": False, **fields}
        uow.conn.execute(
            insert(tables.Sku),
            {
                "id": ident + 1, "product_id": ident, "sku": code, "name": f"{code}(中)", "name_en": code.title(),
                "created_at": uow.now, **fields,
            },
        )  # fmt: skip
        prices = [("each", price_cents)] if price_cents is not None else []
        if box_of is not None:
            uow.conn.execute(insert(tables.SkuUnit), {"sku_id": ident + 1, "unit": "box", "units_per_pack": box_of})
            if box_price_cents is not None:
                prices.append(("box", box_price_cents))
        for i, (unit, cents) in enumerate(prices):
            uow.conn.execute(
                insert(tables.Price),
                {
                    "id": ident + 2 + i, "sku_id": ident + 1, "kind": "list", "currency": currency, "unit": unit,
                    "unit_price_cents": cents, "valid_from_date": date(2020, 1, 1), "created_at": uow.now,
                },
            )  # fmt: skip
        for part, qty, _ in _lines(components):
            uow.conn.execute(
                insert(tables.KitComponent), {"kit_sku_id": ident + 1, "component_sku_id": parts[part], "qty": qty}
            )
        for barcode, unit in (barcodes or {}).items():
            uow.conn.execute(insert(tables.SkuBarcode), {"barcode": barcode, "sku_id": ident + 1, "unit": unit})
        uow.changed("product", ident, 1, "insert")
        uow.changed("sku", ident + 1, 1, "insert")
        return ident + 1


def rules(store: Store, **parts: Mapping[str, Any] | bool) -> int:
    """A new version of the rules: the current ones with these parts laid over them; returns the version."""
    with store.unit_of_work() as uow:
        now = uow.rows(select(tables.RuleSet.version, tables.RuleSet.body).where(tables.RuleSet.is_current))[0]
        body = build_rules(now.body, parts).model_dump(mode="json")
        uow.conn.execute(update(tables.RuleSet).values(is_current=False))
        uow.conn.execute(
            insert(tables.RuleSet),
            {
                "version": now.version + 1, "is_current": True, "body": body, "author": "test", "reason": "test",
                "created_at": uow.now,
            },
        )  # fmt: skip
        return int(now.version) + 1


def stock(store: Store, text: str, *, unit_cost_cents: int | None = None) -> None:
    """Opening stock, `"LAMP@WH1: 10, RUG@WH1: 0"`; SKUs (10.00 each) and locations are made as needed."""
    for entry in _split(text):
        code, place, qty = _placed(entry)
        sku(store, code)
        location(store, place)
        line = StockIn(code, qty, unit_cost_cents=unit_cost_cents)
        store.run(opening_stock, PICKER, OpeningStock(place, [line]))


def carrier(store: Store, code: str = "SF", **fields: Any) -> int:
    """A carrier's id; made when it is not there. `fields` are columns of the table."""
    with store.unit_of_work() as uow:
        known = _id_of(uow, tables.Carrier, code)
        if known is not None:
            return known
        row = {"id": uow.new_id(), "code": code, "name": code, **fields}
        uow.conn.execute(insert(tables.Carrier), row)
        return int(row["id"])


def supplier(store: Store, code: str, skus: str, *, lead_time_days: int = 7, **fields: Any) -> int:
    """A supplier's id with what it offers, `"LAMP 500, RUG 250"` (cents a unit); made when it is not there."""
    offers = [(sku(store, name), cents) for name, cents, _ in _lines(skus)]
    with store.unit_of_work() as uow:
        known = _id_of(uow, tables.Supplier, code)
        if known is not None:
            return known
        row = {
            "id": uow.new_id(), "code": code, "name": code, "lead_time_days": lead_time_days, "lead_time_sd_days": 1.0,
            **fields,
        }  # fmt: skip
        uow.conn.execute(insert(tables.Supplier), row)
        for sku_id, cents in offers:
            uow.conn.execute(
                insert(tables.SupplierSku), {"supplier_id": row["id"], "sku_id": sku_id, "unit_cost_cents": cents}
            )
        uow.changed("supplier", row["id"], 1, "insert")
        return int(row["id"])


def order(
    store: Store,
    text: str,
    *,
    customer: str = CUSTOMER,
    channel: str = "phone",
    actor: Actor = CLERK,
    **fields: Any,
) -> PlacedOrder:
    """Place an order, `"LAMP 2, RUG 1 box"`. `fields` are those of `PlaceOrder`."""
    return store.run(place_order, actor, order_command(text, customer=customer, channel=channel, **fields))


def order_command(text: str, *, customer: str = CUSTOMER, channel: str = "phone", **fields: Any) -> PlaceOrder:
    """The command `order` runs."""
    lines = [LineIn(code, qty, unit) for code, qty, unit in _lines(text)]
    return PlaceOrder(channel=channel, customer=customer, lines=lines, **fields)


def release_all(store: Store, place: str) -> Sequence[str]:
    """Release everything that can go at a location; the pick lists' numbers."""
    return store.run(release, PICKER, Release(place)).pick_lists


def ship(store: Store, number: str, *, tracking_number: str | None = None) -> list[ShippedShipment]:
    """Release, pick, pack and ship what is reserved of an order, one parcel per shipment, by carrier SF."""
    shipped = []
    carrier(store)
    for shipment in shipments(store, number):
        if shipment.status != "planned" or not any(
            x.qty > x.backordered_qty for x in shipment_lines(store, shipment.number)
        ):
            continue
        released = store.run(release, PICKER, Release(shipment.location, [shipment.number]))
        assert not released.skipped, released.skipped
        for pick_list in released.pick_lists:
            store.run(pick_all, PICKER, PickAll(pick_list))
        store.run(pack, PICKER, Pack(shipment.number))
        is_courier = shipment.delivery_method == "courier"
        parcel = PackageIn(tracking_number=(tracking_number or f"SF{shipment.id}") if is_courier else None)
        command = ShipShipment(shipment.number, carrier="SF" if is_courier else None, packages=[parcel])
        shipped.append(store.run(ship_shipment, PICKER, command))
    return shipped


def ship_some(store: Store, number: str, quantities: Mapping[str, int]) -> str:
    """Pick an order's first planned shipment and send these units (by SKU) of it by SF; the shipment's number."""
    carrier(store)
    first = next(x for x in shipments(store, number) if x.status == "planned")
    released = store.run(release, PICKER, Release(first.location, [first.number]))
    for pick_list in released.pick_lists:
        store.run(pick_all, PICKER, PickAll(pick_list))
    command = ShipShipment(first.number, "SF", [PackageIn(tracking_number=f"SF{first.id}")], quantities)
    store.run(ship_shipment, PICKER, command)
    return str(first.number)


def deliver(store: Store, number: str) -> list[ConfirmedDelivery]:
    """Every shipment of an order that is under way was signed for as shipped."""
    return [
        store.run(confirm_delivery, PICKER, ConfirmDelivery(shipment.number, "王五"))
        for shipment in shipments(store, number)
        if shipment.status == "shipped"
    ]


def level(store: Store, text: str) -> Any:
    """The stock level's row of `"LAMP@WH1"`: on_hand_qty, reserved_qty, backordered_qty …; None when there is none."""
    code, place, _ = _placed(text)
    with store.reading() as conn:
        return conn.execute(
            select(tables.StockLevel.__table__)
            .join(tables.Sku, tables.Sku.id == tables.StockLevel.sku_id)
            .join(tables.Location, tables.Location.id == tables.StockLevel.location_id)
            .where(tables.Sku.sku == code, tables.Location.code == place)
        ).one_or_none()


def on_hand(store: Store, text: str) -> int:
    """Units physically at `"LAMP@WH1"`, reserved ones included."""
    row = level(store, text)
    return 0 if row is None else int(row.on_hand_qty)


def order_row(store: Store, number: str) -> Any:
    """The order's row."""
    return rows(store, select(tables.Order.__table__).where(tables.Order.number == number))[0]


def order_lines(store: Store, number: str) -> Sequence[Any]:
    """The order's lines with their SKU code as `sku`, in order."""
    return rows(
        store,
        select(tables.OrderLine.__table__, tables.Sku.sku)
        .join(tables.Order, tables.Order.id == tables.OrderLine.order_id)
        .join(tables.Sku, tables.Sku.id == tables.OrderLine.sku_id)
        .where(tables.Order.number == number)
        .order_by(tables.OrderLine.line_no),
    )


def shipments(store: Store, number: str) -> Sequence[Any]:
    """The shipments that carry lines of an order, with `location`, oldest first."""
    carries = (
        select(tables.ShipmentLine.shipment_id)
        .join(tables.OrderLine, tables.OrderLine.id == tables.ShipmentLine.order_line_id)
        .join(tables.Order, tables.Order.id == tables.OrderLine.order_id)
        .where(tables.Order.number == number)
    )
    return rows(
        store,
        select(tables.Shipment.__table__, tables.Location.code.label("location"))
        .join(tables.Location, tables.Location.id == tables.Shipment.location_id)
        .where(tables.Shipment.id.in_(carries))
        .order_by(tables.Shipment.id),
    )


def shipment_lines(store: Store, shipment: str) -> Sequence[Any]:
    """The lines of a shipment (by its number) with their SKU code as `sku`."""
    return rows(
        store,
        select(tables.ShipmentLine.__table__, tables.Sku.sku)
        .join(tables.Shipment, tables.Shipment.id == tables.ShipmentLine.shipment_id)
        .join(tables.Sku, tables.Sku.id == tables.ShipmentLine.sku_id)
        .where(tables.Shipment.number == shipment)
        .order_by(tables.ShipmentLine.id),
    )


def notices(store: Store, template: str, *, number: str | None = None) -> Sequence[Any]:
    """The queued notices of a template (for one order), oldest first."""
    query = select(tables.Outbox.__table__).where(tables.Outbox.template == template).order_by(tables.Outbox.id)
    found = rows(store, query)
    return [row for row in found if number is None or row.facts.get("number") == number]


def rows(store: Store, query: Any) -> Sequence[Any]:
    """Every row of a query, read outside any command."""
    with store.reading() as conn:
        return conn.execute(query).all()


def at_once(
    store: Store, service: Callable[..., Any], actor: Actor, commands: Sequence[Any], *, processes: int = 2
) -> list[Any]:
    """Run one service call per command from real processes that begin together, each with its own connection.

    Returns, in the order of `commands`, what the service returned or the `OrdersError` it raised. Any other error is
    a failure of the test and is raised here.
    """
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(
            target=_work,
            args=(
                store.url,
                store.clock.now(),
                service,
                actor,
                list(enumerate(commands))[n::processes],
                start,
                answers,
            ),
        )
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = dict(answers.get(timeout=300) for _ in commands)
    for worker in workers:
        worker.join(timeout=60)
    broken = [answer for answer in found.values() if isinstance(answer, str)]
    assert not broken, f"{len(broken)} of {len(commands)} calls failed with something untyped, first: {broken[0]}"
    return [found[i] for i in range(len(commands))]


def _work(
    url: str,
    now: datetime,
    service: Callable[..., Any],
    actor: Actor,
    commands: Sequence[tuple[int, Any]],
    start: Any,
    answers: Any,
) -> None:
    store = Store.open(url, clock=FixedClock(now))
    start.wait()
    for i, command in commands:
        try:
            answers.put((i, store.run(service, actor, command)))
        except OrdersError as refusal:
            answers.put((i, refusal))
        except Exception as error:  # noqa: BLE001 - carried to the test, which fails with it
            answers.put((i, f"{type(error).__name__}: {error}"))
    store.close()


def _id_of(uow: UnitOfWork, table: Any, code: str, column: str = "code") -> int | None:
    return uow.conn.execute(select(table.id).where(getattr(table, column) == code)).scalar()


def _split(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _placed(entry: str) -> tuple[str, str, int]:
    match = _PLACED.match(entry)
    assert match, f"{entry!r} is not written like LAMP@WH1: 10"
    return match["sku"], match["location"], int(match["qty"] or 0)


def _lines(text: str) -> list[tuple[str, int, str | None]]:
    """SKU, quantity and unit of `"LAMP 2, RUG 1 box"`."""
    lines = []
    for entry in _split(text):
        code, qty, *unit = entry.split()
        lines.append((code, int(qty), unit[0] if unit else None))
    return lines
