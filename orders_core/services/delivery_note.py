"""The delivery note (发货单): what travels with the goods, as plain data. Printing it is another matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import bindparam, select, text

from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound
from orders_core.services.lookups import must_work_at
from orders_core.store.tables import (
    Carrier,
    Customer,
    Location,
    Lot,
    Order,
    OrderLine,
    Package,
    Shipment,
    ShipmentLine,
    ShippedLot,
    Sku,
)
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class NoteLine:
    """One line: `qty` base units = `packs` full selling units + `pieces`; what of the order line is still to come.

    `done_percent` is what has left of the order line in all, 100 at most.
    """

    line_no: int
    sku: str
    name: str
    name_en: str | None
    qty: int
    packs: int
    unit: str
    pieces: int
    base_unit: str
    lots: tuple[tuple[str, date | None, int], ...]
    ordered_qty: int
    open_qty: int
    done_percent: int


@dataclass(frozen=True)
class DeliveryNote:
    """A note for one order on a shipment: a consolidated shipment has one per order, each with its own address."""

    shipment: str
    order: str
    customer: str
    recipient: str | None
    phone: str | None
    address: str
    location: str
    delivery_method: str
    carrier: str | None
    tracking_numbers: tuple[str, ...]
    is_shipped: bool
    lines: tuple[NoteLine, ...]
    still_to_come: tuple[NoteLine, ...]  # other lines of the order, nothing of them on this shipment
    packages: int
    copy_no: int  # 1 for the first print

    @property
    def total_qty(self) -> int:
        return sum(line.qty for line in self.lines)


@dataclass(frozen=True)
class PrintNote:
    """A shipment's notes; `is_copy_counted` when they are really printed."""

    shipment: str
    is_copy_counted: bool = False


_NOTE = (
    select(
        Shipment.id,
        Shipment.number,
        Shipment.delivery_method,
        Shipment.shipped_at,
        Shipment.note_copies,
        Location.code.label("location"),
        Carrier.name.label("carrier"),
    )
    .join(Location, Location.id == Shipment.location_id)
    .outerjoin(Carrier, Carrier.id == Shipment.carrier_id)
    .where(Shipment.number == bindparam("number"))
)
_LINES = (
    select(
        OrderLine.id,
        OrderLine.order_id,
        OrderLine.line_no,
        OrderLine.unit,
        OrderLine.units_per_pack,
        (OrderLine.ordered_qty - OrderLine.cancelled_qty).label("ordered_qty"),
        OrderLine.shipped_qty.label("line_shipped_qty"),
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.base_unit,
        ShipmentLine.id.label("shipment_line_id"),
        ShipmentLine.shipped_qty,
        ShipmentLine.picked_qty,
        ShipmentLine.backordered_qty,
        ShipmentLine.qty,
        ShipmentLine.is_withdrawn,
    )
    .join(Sku, Sku.id == OrderLine.sku_id)
    .outerjoin(
        ShipmentLine,
        (ShipmentLine.order_line_id == OrderLine.id) & (ShipmentLine.shipment_id == bindparam("shipment_id")),
    )
    .where(OrderLine.order_id.in_(bindparam("order_ids", expanding=True)))
    .where(OrderLine.kind.in_(["item", "component", "gift"]))
    .order_by(OrderLine.order_id, OrderLine.line_no)
)
_ORDERS = (
    select(
        Order.id,
        Order.number,
        Order.recipient,
        Order.phone,
        Order.country,
        Order.region,
        Order.city,
        Order.street,
        Order.postcode,
        Customer.name.label("customer"),
    )
    .join(Customer, Customer.id == Order.customer_id)
    .where(
        Order.id.in_(
            select(OrderLine.order_id)
            .join(ShipmentLine, ShipmentLine.order_line_id == OrderLine.id)
            .where(ShipmentLine.shipment_id == bindparam("shipment_id"), ~ShipmentLine.is_withdrawn)
        )
    )
    .order_by(Order.id)
)


def delivery_notes(uow: UnitOfWork, actor: Actor, command: PrintNote) -> list[DeliveryNote]:
    """The note of each order on a shipment: goods with boxes and pieces, customer, address, what is still to come.

    Before the goods leave it shows what would go. Raises NotFound.
    """
    actor.must("shipment.ship")
    shipment = uow.row(_NOTE, {"number": command.shipment})
    if shipment is None:
        raise NotFound(entity="shipment", key=command.shipment)
    must_work_at(actor, shipment.location)
    copy_no = shipment.note_copies + 1
    if command.is_copy_counted:
        row = uow.conn.execute(
            text(
                "UPDATE shipment SET note_copies = note_copies + 1, version = version + 1 WHERE id = :id"
                " RETURNING note_copies, version"
            ),
            {"id": shipment.id},
        ).one()
        copy_no = row.note_copies
        uow.changed("shipment", shipment.id, row.version)
        uow.audit(actor, "note.print", "shipment", shipment.id, version=row.version, facts={"copy_no": copy_no})
    orders = uow.rows(_ORDERS, {"shipment_id": shipment.id})
    lines = uow.rows(_LINES, {"shipment_id": shipment.id, "order_ids": [order.id for order in orders]})
    lots = _lots(uow, [line.shipment_line_id for line in lines if line.shipment_line_id is not None])
    boxes = uow.rows(
        select(Package.tracking_number).where(Package.shipment_id == shipment.id).order_by(Package.package_no)
    )
    return [
        _note(shipment, order, [line for line in lines if line.order_id == order.id], lots, boxes, copy_no)
        for order in orders
    ]


def _note(
    shipment: Any, order: Any, lines: Sequence[Any], lots: dict[int, list[Any]], boxes: Sequence[Any], copy_no: int
) -> DeliveryNote:
    here, later = [], []
    for line in lines:
        qty = _qty_here(shipment, line)
        shown = _line(shipment, line, qty, lots.get(line.shipment_line_id, []))
        if qty:
            here.append(shown)
        elif shown.open_qty:
            later.append(shown)
    address = " ".join(part for part in (order.country, order.region, order.city, order.street, order.postcode) if part)
    return DeliveryNote(
        shipment=shipment.number,
        order=order.number,
        customer=order.customer,
        recipient=order.recipient,
        phone=order.phone,
        address=address,
        location=shipment.location,
        delivery_method=shipment.delivery_method,
        carrier=shipment.carrier,
        tracking_numbers=tuple(box.tracking_number for box in boxes if box.tracking_number),
        is_shipped=shipment.shipped_at is not None,
        lines=tuple(here),
        still_to_come=tuple(later),
        packages=len(boxes),
        copy_no=copy_no,
    )


def _qty_here(shipment: Any, line: Any) -> int:
    """Units of an order line that go (or went) with this shipment."""
    if line.shipment_line_id is None or line.is_withdrawn:
        return 0
    if shipment.shipped_at is not None:
        return int(line.shipped_qty)
    return int(line.picked_qty or line.qty - line.backordered_qty)


def _line(shipment: Any, line: Any, qty: int, lots: Sequence[Any]) -> NoteLine:
    gone = line.line_shipped_qty + (qty if shipment.shipped_at is None else 0)
    return NoteLine(
        line_no=line.line_no,
        sku=line.sku,
        name=line.name,
        name_en=line.name_en,
        qty=qty,
        packs=qty // line.units_per_pack,
        unit=line.unit,
        pieces=qty % line.units_per_pack,
        base_unit=line.base_unit,
        lots=tuple((lot.lot_code, lot.expiry_date, lot.qty) for lot in lots),
        ordered_qty=line.ordered_qty,
        open_qty=max(0, line.ordered_qty - gone),
        done_percent=min(100, gone * 100 // line.ordered_qty) if line.ordered_qty else 100,
    )


def _lots(uow: UnitOfWork, line_ids: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    if line_ids:
        rows = uow.rows(
            select(ShippedLot.shipment_line_id, ShippedLot.qty, Lot.lot_code, Lot.expiry_date)
            .join(Lot, Lot.id == ShippedLot.lot_id)
            .where(ShippedLot.shipment_line_id.in_(line_ids))
            .order_by(Lot.expiry_date, Lot.lot_code)
        )
        for row in rows:
            found.setdefault(row.shipment_line_id, []).append(row)
    return found
