"""An order database written down in the trade's shorthand, row by row, without the services.

Pipelines read tables, so their tests say what stands in the tables, also things that are rare in life: changes long
after the fact, other days, other zones. Each call is one transaction that tells the change log, as every service does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from time import sleep
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import delete, insert, select, text, update

from orders_core.domain.permissions import SYSTEM
from orders_core.ports import FixedClock
from orders_core.services.releasing import lines_as_they_stand
from orders_core.store import tables as t
from orders_core.store.tables.orders import STOCK_LINE_KINDS
from orders_core.store.uow import Store, UnitOfWork

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONDAY = date(2026, 3, 2)


def day(number: int) -> date:
    """The day `number` days after MONDAY."""
    return MONDAY + timedelta(days=number)


def at(day: date, hour: float = 12, zone: ZoneInfo = SHANGHAI) -> datetime:
    """That hour of a business day."""
    return (datetime.combine(day, time(), zone) + timedelta(hours=hour)).astimezone(UTC)


class Book:
    """Writes facts into a migrated database; every reference is by its code."""

    def __init__(self, url: str) -> None:
        self.clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.store = Store.open(url, clock=self.clock)
        self.known: dict[tuple[str, str], int] = {}
        with self._transaction(datetime(2025, 1, 1, tzinfo=UTC)) as uow:
            self._add(uow, t.Channel, "WEB", code="WEB", name="Web", kind="web")
            self._add(uow, t.Customer, "ANNA", code="ANNA", name="Anna", created_at=uow.now)
            self._add(uow, t.Product, "P", code="P", name="Product", created_at=uow.now)

    def close(self) -> None:
        self.store.close()

    def wait_until_settled(self) -> None:
        """Wait until a load reads what stands here once only.

        A load goes on from the oldest transaction still running, and PostgreSQL counts those of the whole server, where
        other tests run beside this one: rows written meanwhile are read a second time, which is right but not countable.
        """
        newest = text("SELECT pg_current_xact_id()")
        is_behind = text("SELECT pg_snapshot_xmin(pg_current_snapshot()) <= CAST(:newest AS xid8)")
        if self.store.engine.dialect.name == "sqlite":
            return
        with self.store.engine.connect() as conn:
            newest_id = str(conn.execute(newest).scalar_one())
            conn.commit()
            for _ in range(3000):
                if not conn.execute(is_behind, {"newest": newest_id}).scalar_one():
                    return
                conn.rollback()
                sleep(0.01)
        raise TimeoutError("a transaction has been open for 30 s")

    @contextmanager
    def _transaction(self, moment: datetime) -> Iterator[UnitOfWork]:
        self.clock.set(moment)
        with self.store.unit_of_work() as uow:
            yield uow

    def _add(self, uow: UnitOfWork, table: Any, known_as: str, /, **values: Any) -> int:
        row_id = uow.new_id()
        uow.conn.execute(insert(table).values(id=row_id, **values))
        self.known[table.__tablename__, known_as] = row_id
        return row_id

    def id_of(self, table: Any, code: str) -> int:
        return self.known[table.__tablename__, code]

    def location(self, code: str, *, tracked: bool = True, default: bool = False, kind: str = "warehouse") -> None:
        with self._transaction(datetime(2025, 1, 1, tzinfo=UTC)) as uow:
            self._add(uow, t.Location, code, code=code, name=code, kind=kind, is_default=default,
                      is_stock_tracked=tracked)  # fmt: skip

    def sku(self, *codes: str, kind: str = "item", **values: Any) -> None:
        with self._transaction(datetime(2025, 1, 1, tzinfo=UTC)) as uow:
            for code in codes:
                self._add(uow, t.Sku, code, product_id=self.id_of(t.Product, "P"), sku=code, name=code, kind=kind,
                          created_at=uow.now, **values)  # fmt: skip
                uow.changed("sku", self.id_of(t.Sku, code), 1, "insert")

    def supplier(
        self, code: str, lead_time_days: int, *skus: str, moq: int = 1, pack: int = 1, cost: int = 100
    ) -> None:
        with self._transaction(datetime(2025, 1, 1, tzinfo=UTC)) as uow:
            supplier_id = self._add(uow, t.Supplier, code, code=code, name=code, lead_time_days=lead_time_days,
                                    lead_time_sd_days=1.0)  # fmt: skip
            for sku in skus:
                uow.conn.execute(insert(t.SupplierSku).values(
                    supplier_id=supplier_id, sku_id=self.id_of(t.Sku, sku), min_order_qty=moq, pack_qty=pack,
                    unit_cost_cents=cost))  # fmt: skip

    def move(self, moment: datetime, *stock: str, reason: str = "receipt", business_date: date | None = None,
             expires: date | None = None) -> None:  # fmt: skip
        """`move(at(day), "LAMP@HEL: 10", "RUG@HEL: -2")`; what `expires` comes in a lot of its own."""
        with self._transaction(moment) as uow:
            for sku, location, qty in map(_read, stock):
                lot_id = None
                if expires is not None:
                    lot_id = self._add(uow, t.Lot, f"{sku} {moment}", sku_id=self.id_of(t.Sku, sku), expiry_date=expires,
                                       lot_code=f"{moment:%y%m%d}", created_at=uow.now)  # fmt: skip
                movement_id = self._add(
                    uow, t.StockMovement, f"{moment}", sku_id=self.id_of(t.Sku, sku), qty=qty, reason=reason,
                    location_id=self.id_of(t.Location, location), at=uow.now, actor="test", lot_id=lot_id,
                    business_date=business_date or uow.today)  # fmt: skip
                uow.changed("stock_movement", movement_id, 1, "insert")

    def order(self, number: str, moment: datetime, *lines: str, origin: str = "live", kinds: tuple[str, ...] = (),
              business_date: date | None = None, status: str = "ready") -> None:  # fmt: skip
        """`order("A1", at(day), "LAMP@HEL: 3")`: approved, and planned in a shipment per location. No @: not planned.

        `kinds` names the lines' kinds in order; components and gifts hang on the line before them that is neither.
        """
        with self._transaction(moment) as uow:
            order_id = self._add(
                uow, t.Order, number, number=number, channel_id=self.id_of(t.Channel, "WEB"), lines_hash="x",
                customer_id=self.id_of(t.Customer, "ANNA"), origin=origin, status=status, language="zh", currency="CNY",
                goods_cents=0, total_cents=0, payment_method="credit", placed_at=uow.now, approved_at=uow.now,
                business_date=business_date or uow.today)  # fmt: skip
            shipments: dict[str, int] = {}
            parent = None
            for line_no, line in enumerate(lines, start=1):
                sku, location, qty = _read(line)
                kind = kinds[line_no - 1] if kinds else "item"
                is_part = kind in ("component", "gift")
                line_id = self._add(
                    uow, t.OrderLine, f"{number}-{line_no}", order_id=order_id, line_no=line_no, kind=kind,
                    sku_id=self.id_of(t.Sku, sku), unit="each", pack_qty=qty, ordered_qty=qty, price_kind="list",
                    unit_price_cents=0 if is_part else 100, net_cents=0 if is_part else 100 * qty,
                    parent_line_id=parent if is_part else None,
                    shipped_qty=qty if origin == "history" else 0)  # fmt: skip
                parent = parent if is_part else line_id
                if location and kind in STOCK_LINE_KINDS:
                    if location not in shipments:
                        shipments[location] = self._shipment(uow, f"{number}@{location}", location)
                    uow.conn.execute(insert(t.ShipmentLine).values(
                        id=uow.new_id(), shipment_id=shipments[location], order_line_id=line_id,
                        sku_id=self.id_of(t.Sku, sku), qty=qty))  # fmt: skip
            uow.changed("orders", order_id, 1, "insert")

    def _shipment(self, uow: UnitOfWork, number: str, location: str) -> int:
        shipment_id = self._add(uow, t.Shipment, number, number=number, created_at=uow.now,
                                location_id=self.id_of(t.Location, location))  # fmt: skip
        uow.changed("shipment", shipment_id, 1, "insert")
        return shipment_id

    def ship(self, number: str, moment: datetime) -> None:
        """All of the order leaves, taking stock where it is tracked."""
        with self._transaction(moment) as uow:
            for shipment in uow.rows(self._shipments_of(number)):
                rows = uow.rows(select(t.ShipmentLine).where(t.ShipmentLine.shipment_id == shipment.id))
                uow.conn.execute(
                    update(t.ShipmentLine).where(t.ShipmentLine.shipment_id == shipment.id)
                    .values(shipped_qty=t.ShipmentLine.qty))  # fmt: skip
                uow.conn.execute(update(t.Shipment).where(t.Shipment.id == shipment.id)
                                 .values(status="shipped", shipped_at=uow.now))  # fmt: skip
                for row in rows:
                    uow.conn.execute(update(t.OrderLine).where(t.OrderLine.id == row.order_line_id)
                                     .values(shipped_qty=t.OrderLine.shipped_qty + row.qty))  # fmt: skip
                    movement_id = self._add(uow, t.StockMovement, "ship", sku_id=row.sku_id, qty=-row.qty,
                                            reason="ship", location_id=shipment.location_id, at=uow.now, actor="test",
                                            business_date=uow.today)  # fmt: skip
                    uow.changed("stock_movement", movement_id, 1, "insert")
                uow.changed("shipment", shipment.id, 2)
            self._change(uow, number, status="shipped")

    def cancel(self, number: str, moment: datetime, reason: str = "customer") -> None:
        with self._transaction(moment) as uow:
            facts = {"reason": reason, "before": lines_as_they_stand(uow, self.id_of(t.Order, number))}
            uow.audit(SYSTEM, "order.cancel", "orders", self.id_of(t.Order, number), facts=facts)
            for shipment in uow.rows(self._shipments_of(number)):
                uow.conn.execute(delete(t.ShipmentLine).where(t.ShipmentLine.shipment_id == shipment.id))
                uow.conn.execute(update(t.Shipment).where(t.Shipment.id == shipment.id).values(status="cancelled"))
                uow.changed("shipment", shipment.id, 2)
            uow.conn.execute(
                update(t.OrderLine).where(t.OrderLine.order_id == self.id_of(t.Order, number))
                .values(cancelled_qty=t.OrderLine.ordered_qty))  # fmt: skip
            self._change(uow, number, status="cancelled", cancelled_at=uow.now, cancel_reason=reason)

    def edit(self, number: str, moment: datetime, qtys: dict[int, int], reason: str = "customer") -> None:
        """Set lines to other quantities, as `services.edit` does: on the line, its shipment, and in the audit trail."""
        with self._transaction(moment) as uow:
            order_id = self.id_of(t.Order, number)
            before = uow.rows(select(t.OrderLine).where(t.OrderLine.order_id == order_id))
            stood_before = lines_as_they_stand(uow, order_id)
            for line in before:
                qty = qtys.get(line.line_no, line.ordered_qty)
                uow.conn.execute(update(t.OrderLine).where(t.OrderLine.id == line.id)
                                 .values(ordered_qty=qty, pack_qty=qty, net_cents=100 * qty))  # fmt: skip
                on_shipment = t.ShipmentLine.order_line_id == line.id
                if qty:
                    uow.conn.execute(update(t.ShipmentLine).where(on_shipment).values(qty=qty))
                else:
                    uow.conn.execute(delete(t.ShipmentLine).where(on_shipment))
            uow.audit(SYSTEM, "order.edit", "orders", order_id, facts={"reason": reason, "before": stood_before})
            self._change(uow, number)

    def _change(self, uow: UnitOfWork, number: str, **values: Any) -> None:
        order_id = self.id_of(t.Order, number)
        uow.conn.execute(update(t.Order).where(t.Order.id == order_id).values(version=t.Order.version + 1, **values))
        uow.changed("orders", order_id, 2)

    def _shipments_of(self, number: str) -> Any:
        lines = select(t.OrderLine.id).where(t.OrderLine.order_id == self.id_of(t.Order, number))
        ids = select(t.ShipmentLine.shipment_id).where(t.ShipmentLine.order_line_id.in_(lines))
        return select(t.Shipment.id, t.Shipment.location_id).where(t.Shipment.id.in_(ids))

    def purchase(self, number: str, moment: datetime, supplier: str, *stock: str, expected: date | None = None) -> None:
        """A purchase order sent at `moment`, one line per "LAMP@HEL: 10", all for the first location named."""
        with self._transaction(moment) as uow:
            location = _read(stock[0])[1]
            order_id = self._add(
                uow, t.PurchaseOrder, number, number=number, supplier_id=self.id_of(t.Supplier, supplier),
                location_id=self.id_of(t.Location, location), status="sent", currency="CNY", total_cents=0,
                ordered_at=uow.now, business_date=uow.today, expected_date=expected, created_at=uow.now,
                created_by="test")  # fmt: skip
            for line_no, (sku, _, qty) in enumerate(map(_read, stock), start=1):
                self._add(uow, t.PurchaseOrderLine, f"{number}-{sku}", purchase_order_id=order_id, line_no=line_no,
                          sku_id=self.id_of(t.Sku, sku), qty=qty, unit_cost_cents=100)  # fmt: skip
            uow.changed("purchase_order", order_id, 1, "insert")

    def receive(self, number: str, moment: datetime, *stock: str) -> None:
        """Goods of a purchase order arrive."""
        with self._transaction(moment) as uow:
            location_id = self.id_of(t.Location, _read(stock[0])[1])
            receipt_id = self._add(uow, t.GoodsReceipt, number, number=f"R-{number}-{uow.now}", location_id=location_id,
                                   purchase_order_id=self.id_of(t.PurchaseOrder, number), received_at=uow.now,
                                   business_date=uow.today, actor="test")  # fmt: skip
            for sku, _, qty in map(_read, stock):
                line_id = self.id_of(t.PurchaseOrderLine, f"{number}-{sku}")
                self._add(uow, t.GoodsReceiptLine, sku, goods_receipt_id=receipt_id, purchase_order_line_id=line_id,
                          sku_id=self.id_of(t.Sku, sku), qty=qty)  # fmt: skip
                uow.conn.execute(update(t.PurchaseOrderLine).where(t.PurchaseOrderLine.id == line_id)
                                 .values(received_qty=t.PurchaseOrderLine.received_qty + qty))  # fmt: skip
            uow.changed("purchase_order", self.id_of(t.PurchaseOrder, number), 2)
        self.move(moment, *stock)


def _read(text: str) -> tuple[str, str, int]:
    what, _, qty = text.rpartition(":")
    sku, _, location = what.strip().partition("@")
    return sku, location, int(qty)
