"""Shipments that have left, in shorthand: `ship(store, number, "SF1: LAMP 1", "SF2: LAMP 1, RUG 2")`, one text per box.

Written as rows, of SKUs without stock records: what tracking looks at, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select, update

from orders_core.services.orders_state import sync_order
from orders_core.store.tables import Carrier, OrderLine, Package, PackageLine, Shipment, ShipmentLine, Sku
from orders_core.store.uow import Store, UnitOfWork
from tests.support import build


def shop(store: Store) -> None:
    """A company that sells LAMP and RUG from WH1, with carriers SF, YT and the own truck."""
    build.company(store)
    build.location(store, "WH1", is_default=True)
    for code in ("LAMP", "RUG"):
        build.sku(store, code, is_stock_tracked=False)
    for code, name, name_en, fields in (
        ("SF", "顺丰速运", "SF Express", {}),
        ("YT", "圆通速递", None, {"settings": {"status_map": {"SIGN": "delivered", "in transit": "exception"}}}),
        ("TRUCK", "自送", None, {"kind": "own_truck", "needs_tracking_number": False}),
    ):
        carrier(store, code, name=name, name_en=name_en, **fields)


def carrier(store: Store, code: str, **fields: Any) -> None:
    with store.unit_of_work() as uow:
        uow.conn.execute(insert(Carrier), {"id": uow.new_id(), "code": code, **fields})


def ship(
    store: Store,
    number: str,
    *boxes: str,
    carrier_code: str | None = "SF",
    shipment_carrier: str | None = None,
    leaves: bool = True,
) -> list[int]:
    """Pack an order's shipment into the boxes and send all of it off (unless it only `leaves` later): the package ids.

    `carrier_code` is written on the boxes, `shipment_carrier` on the shipment.
    """
    (shipment,) = build.shipments(store, number)
    with store.unit_of_work() as uow:
        carrier_id = uow.conn.execute(select(Carrier.id).where(Carrier.code == shipment_carrier)).scalar()
        uow.conn.execute(update(Shipment).where(Shipment.id == shipment.id).values(carrier_id=carrier_id))
        ids = _pack(uow, shipment.id, boxes, carrier_code)
        if leaves:
            leave(uow, shipment.id)
    return ids


def leave(uow: UnitOfWork, shipment_id: int) -> None:
    """Every line of the shipment goes."""
    version = uow.conn.execute(
        update(Shipment)
        .where(Shipment.id == shipment_id)
        .values(status="shipped", shipped_at=uow.now, version=Shipment.version + 1)
        .returning(Shipment.version)
    ).scalar_one()
    uow.changed("shipment", shipment_id, version)
    uow.conn.execute(
        update(ShipmentLine).where(ShipmentLine.shipment_id == shipment_id).values(shipped_qty=ShipmentLine.qty)
    )
    for order_id in _orders(uow, shipment_id):
        sync_order(uow, order_id)


def consolidate(store: Store, into: str, *others: str) -> None:
    """Put the shipments of other orders into the first one's."""
    (target,) = build.shipments(store, into)
    with store.unit_of_work() as uow:
        for number in others:
            (source,) = build.shipments(store, number)
            uow.conn.execute(
                update(ShipmentLine).where(ShipmentLine.shipment_id == source.id).values(shipment_id=target.id)
            )
            uow.conn.execute(delete(Shipment).where(Shipment.id == source.id))
            uow.changed("shipment", source.id, source.version, "delete")


def _pack(uow: UnitOfWork, shipment_id: int, boxes: tuple[str, ...], carrier_code: str | None) -> list[int]:
    carrier_id = uow.conn.execute(select(Carrier.id).where(Carrier.code == carrier_code)).scalar()
    lines: Mapping[str, int] = {
        row.sku: row.id
        for row in uow.rows(
            select(ShipmentLine.id, Sku.sku)
            .join(Sku, Sku.id == ShipmentLine.sku_id)
            .where(ShipmentLine.shipment_id == shipment_id)
        )
    }
    ids = []
    for place, box in enumerate(boxes, 1):
        tracking_number, _, content = box.partition(":")
        ids.append(uow.new_id())
        uow.conn.execute(
            insert(Package),
            {
                "id": ids[-1],
                "shipment_id": shipment_id,
                "package_no": place,
                "carrier_id": carrier_id,
                "tracking_number": tracking_number.strip() or None,
                "created_at": uow.now,
            },
        )
        for part in content.split(",") if content else []:
            code, qty = part.split()
            row = {"package_id": ids[-1], "shipment_line_id": lines[code], "qty": int(qty)}
            uow.conn.execute(insert(PackageLine), row)
    return ids


def _orders(uow: UnitOfWork, shipment_id: int) -> list[int]:
    statement = (
        select(OrderLine.order_id)
        .join(ShipmentLine, ShipmentLine.order_line_id == OrderLine.id)
        .where(ShipmentLine.shipment_id == shipment_id)
        .distinct()
        .order_by(OrderLine.order_id)
    )
    return [row.order_id for row in uow.rows(statement)]
