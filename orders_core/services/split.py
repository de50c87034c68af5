"""Splitting what an order has still to ship: by stock, or by hand. Quantities and money are conserved: the order stays
one order, only its shipments become more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, text

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotFound, QuantityExceeded
from orders_core.services.idempotency import keyed
from orders_core.services.orders_state import OrderState, order_for_change, sync_order
from orders_core.store.tables import OrderLine, Shipment, ShipmentLine
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class SplitByStock:
    """Let what is reserved go now; what waits for stock gets a shipment of its own."""

    number: str
    expected_version: int | None = None


@dataclass(frozen=True)
class SplitByHand:
    """Move base units of a planned shipment's lines ({order line no: units}) to a new shipment of the same location."""

    number: str
    shipment_number: str
    units: Mapping[int, int]
    expected_version: int | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class Split:
    """The order's state and the numbers of the new shipments; empty when there was nothing to split."""

    state: OrderState
    new_shipments: tuple[str, ...]
    is_repeat: bool = False


_NO_KEY: Mapping[str, str | None] = {"idem_key": None, "body_hash": None}
_PLANNED = (
    select(
        ShipmentLine.id,
        ShipmentLine.shipment_id,
        ShipmentLine.order_line_id,
        ShipmentLine.sku_id,
        ShipmentLine.qty,
        ShipmentLine.reserved_qty,
        ShipmentLine.backordered_qty,
        OrderLine.line_no,
        Shipment.number,
        Shipment.location_id,
        Shipment.delivery_method,
        Shipment.carrier_id,
        Shipment.planned_date,
    )
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .where(Shipment.status == "planned", ~ShipmentLine.is_withdrawn)
    .order_by(Shipment.id, OrderLine.line_no)
)


def split_by_stock(uow: UnitOfWork, actor: Actor, command: SplitByStock) -> Split:
    """Part every planned shipment of the order that has both reserved and waiting units."""
    actor.must("order.split")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    must_allow("split", status=order.status, key=order.number)
    by_shipment: dict[int, list[Any]] = {}
    for line in uow.rows(_PLANNED.where(OrderLine.order_id == order.id)):
        by_shipment.setdefault(line.shipment_id, []).append(line)
    new = []
    for lines in by_shipment.values():
        if any(x.reserved_qty for x in lines) and any(x.backordered_qty for x in lines):
            late = {x.id: x.backordered_qty for x in lines if x.backordered_qty}
            new.append(_part(uow, lines, late, waiting_first=True))
    return _done(uow, actor, order, "by_stock", new)


def split_by_hand(uow: UnitOfWork, actor: Actor, command: SplitByHand) -> Split:
    """Move chosen units to a new shipment, which keeps the command's key; reserved units go before waiting ones.

    Raises:
        QuantityExceeded: a line has fewer units on that shipment.
        InvalidCommand: all or nothing would move.
        IdempotencyMismatch: the key belongs to another split.
    """
    actor.must("order.split")
    order = order_for_change(uow, number=command.number)
    key = keyed(uow, Shipment, command)
    if key.row is not None:
        return Split(OrderState(order.id, order.number, order.status, order.version), (key.row.number,), is_repeat=True)
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    must_allow("split", status=order.status, key=order.number)
    lines = uow.rows(_PLANNED.where(OrderLine.order_id == order.id, Shipment.number == command.shipment_number))
    if not lines:
        raise NotFound(entity="planned shipment", key=command.shipment_number)
    by_no = {x.line_no: x for x in lines}
    moved: dict[int, int] = {}
    for line_no, qty in command.units.items():
        line = by_no.get(line_no)
        if line is None:
            raise NotFound(entity="line", key=f"{command.shipment_number}/{line_no}")
        if not 0 < qty <= line.qty:
            raise QuantityExceeded(what=f"{command.shipment_number} line {line_no}", asked_qty=qty, limit_qty=line.qty)
        moved[line.id] = qty
    if not moved or sum(moved.values()) == sum(x.qty for x in lines):
        raise InvalidCommand(field="units", problem="some_not_all")
    return _done(uow, actor, order, "by_hand", [_part(uow, lines, moved, waiting_first=False, key=key.columns)])


def _part(
    uow: UnitOfWork,
    lines: Sequence[Any],
    moved: Mapping[int, int],
    *,
    waiting_first: bool,
    key: Mapping[str, str | None] = _NO_KEY,
) -> str:
    """Move units of some lines to a new shipment like theirs; returns its number. Levels do not change."""
    like = lines[0]
    shipment_id, number = uow.new_id(), uow.new_number("SH")
    uow.conn.execute(
        insert(Shipment),
        {
            "id": shipment_id,
            "number": number,
            "location_id": like.location_id,
            "delivery_method": like.delivery_method,
            "carrier_id": like.carrier_id,
            "planned_date": like.planned_date,
            "created_at": uow.now,
            **key,
        },
    )
    for line in lines:
        qty = moved.get(line.id, 0)
        if qty == 0:
            continue
        if waiting_first:
            late = min(qty, line.backordered_qty)
            now = min(qty - late, line.reserved_qty)
        else:
            now = min(qty, line.reserved_qty)
            late = min(qty - now, line.backordered_qty)
        if qty == line.qty:
            uow.conn.execute(
                text("UPDATE shipment_line SET shipment_id = :shipment_id WHERE id = :id"),
                {"shipment_id": shipment_id, "id": line.id},
            )
            continue
        uow.conn.execute(
            text(
                "UPDATE shipment_line SET qty = qty - :qty, reserved_qty = reserved_qty - :now,"
                " backordered_qty = backordered_qty - :late WHERE id = :id"
            ),
            {"qty": qty, "now": now, "late": late, "id": line.id},
        )
        uow.conn.execute(
            insert(ShipmentLine),
            {
                "id": uow.new_id(),
                "shipment_id": shipment_id,
                "order_line_id": line.order_line_id,
                "sku_id": line.sku_id,
                "qty": qty,
                "reserved_qty": now,
                "backordered_qty": late,
            },
        )
    version = uow.conn.execute(
        text("UPDATE shipment SET version = version + 1 WHERE id = :id RETURNING version"), {"id": like.shipment_id}
    ).scalar_one()
    uow.changed("shipment", like.shipment_id, version)
    uow.changed("shipment", shipment_id, 1, "insert")
    return number


def _done(uow: UnitOfWork, actor: Actor, order: Any, how: str, new: list[str]) -> Split:
    if not new:
        return Split(OrderState(order.id, order.number, order.status, order.version), ())
    state = sync_order(uow, order.id)
    uow.decide("split", "orders", order.id, ",".join(new), [{"code": how}], actor=actor.name)
    uow.audit(actor, "order.split", "orders", order.id, version=state.version, facts={"how": how, "shipments": new})
    return Split(state, tuple(new))
