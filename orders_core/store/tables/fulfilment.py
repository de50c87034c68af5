"""How goods leave: carriers, shipments and their packages, waves and pick lists, tracking, production."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, Version, Zero, never_negative, one_of, ref

SHIPMENT_STATUSES = ["planned", "released", "picked", "packed", "shipped", "delivered", "exception", "cancelled"]
PACKAGE_STATUSES = [
    "packed",
    "picked_up",
    "in_transit",
    "out_for_delivery",
    "delivered",
    "exception",
    "returned",
]


class Carrier(Base):
    """One row per way goods travel. Own truck (自送) and pick-up (自提) need no tracking number."""

    __tablename__ = "carrier"
    __table_args__ = (one_of("kind", ["courier", "own_truck", "pick_up"]), {"sqlite_strict": True})
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    kind: Mapped[str] = mapped_column(default="courier", server_default="courier")
    needs_tracking_number: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    settings: Mapped[Facts | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))


class CarrierRate(Base):
    """One row per carrier and destination region (empty = everywhere else): price and days."""

    __tablename__ = "carrier_rate"
    __table_args__ = (
        UniqueConstraint("carrier_id", "region"),
        *never_negative("base_cents", "per_kg_cents", "transit_days"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    carrier_id: Mapped[int] = mapped_column(ref("carrier"))
    region: Mapped[str | None]
    currency: Mapped[str]
    base_cents: Mapped[int]
    per_kg_cents: Mapped[Zero]
    transit_days: Mapped[int]


class Shipment(Base):
    """One row per dispatch from one location, planned or gone; it may carry lines of several orders."""

    __tablename__ = "shipment"
    __table_args__ = (
        one_of("status", SHIPMENT_STATUSES),
        one_of("delivery_method", ["courier", "own_truck", "pick_up"]),
        Index("ix_shipment_queue", "location_id", "status", "planned_date"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    status: Mapped[str] = mapped_column(default="planned", server_default="planned")
    delivery_method: Mapped[str] = mapped_column(default="courier", server_default="courier")
    carrier_id: Mapped[int | None] = mapped_column(ref("carrier"))
    rate_cents: Mapped[int | None]
    currency: Mapped[str | None]
    rate_reason: Mapped[Facts | None]
    is_consolidated: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    planned_date: Mapped[date | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    note_copies: Mapped[Zero]  # delivery notes printed
    created_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
    shipped_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    version: Mapped[Version]


class ShipmentLine(Base):
    """One row per order line in a shipment: of `qty`, `reserved_qty` is set aside, `backordered_qty` waits for stock.

    Before it ships: qty = reserved + backordered where stock is tracked. Shipping turns reserved into `shipped_qty`;
    what did not go moves to one further planned shipment.
    """

    __tablename__ = "shipment_line"
    __table_args__ = (
        UniqueConstraint("shipment_id", "order_line_id"),
        CheckConstraint("qty > 0", name="qty_positive"),
        *never_negative("reserved_qty", "backordered_qty", "picked_qty", "shipped_qty", "delivered_qty"),
        CheckConstraint("reserved_qty + backordered_qty <= qty", name="promised_is_planned"),
        CheckConstraint("shipped_qty <= qty", name="shipped_is_planned"),
        CheckConstraint("delivered_qty <= shipped_qty", name="delivered_was_shipped"),
        Index("ix_shipment_line_order_line", "order_line_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    shipment_id: Mapped[int] = mapped_column(ref("shipment"))
    order_line_id: Mapped[int] = mapped_column(ref("order_line"))
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    qty: Mapped[int]
    reserved_qty: Mapped[Zero]
    backordered_qty: Mapped[Zero]
    picked_qty: Mapped[Zero]
    shipped_qty: Mapped[Zero]
    delivered_qty: Mapped[Zero]
    is_withdrawn: Mapped[bool] = mapped_column(
        default=False, server_default=text("false")
    )  # taken back after picking began


class Wave(Base):
    """One row per set of pick lists released together (波次)."""

    __tablename__ = "wave"
    __table_args__ = (one_of("status", ["open", "released", "done", "cancelled"]), {"sqlite_strict": True})
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    status: Mapped[str]
    cutoff_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    version: Mapped[Version]


class PickList(Base):
    """One row per list of lines to pick at one location (拣货单); the warehouse's work order."""

    __tablename__ = "pick_list"
    __table_args__ = (
        one_of("status", ["open", "picking", "done", "cancelled"]),
        Index("ix_pick_list_queue", "location_id", "status"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    wave_id: Mapped[int | None] = mapped_column(ref("wave"), index=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    status: Mapped[str]
    assigned_to: Mapped[str | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    version: Mapped[Version]


class PickListLine(Base):
    """One row per shipment line and lot to pick, in walking order by category and bin."""

    __tablename__ = "pick_list_line"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        *never_negative("picked_qty", "short_qty"),
        one_of("status", ["open", "picked", "short", "cancelled"]),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    pick_list_id: Mapped[int] = mapped_column(ref("pick_list"), index=True)
    position: Mapped[int]
    shipment_line_id: Mapped[int] = mapped_column(ref("shipment_line"), index=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    lot_id: Mapped[int | None] = mapped_column(ref("lot"))
    bin_code: Mapped[str | None]
    qty: Mapped[int]
    picked_qty: Mapped[Zero]
    short_qty: Mapped[Zero]
    status: Mapped[str] = mapped_column(default="open", server_default="open")


class ShippedLot(Base):
    """One row per lot that left with a shipment line."""

    __tablename__ = "shipped_lot"
    __table_args__ = (CheckConstraint("qty > 0", name="qty_positive"), {"sqlite_strict": True})
    shipment_line_id: Mapped[int] = mapped_column(ref("shipment_line"), primary_key=True)
    lot_id: Mapped[int] = mapped_column(ref("lot"), primary_key=True)
    qty: Mapped[int]


class Package(Base):
    """One row per box of a shipment, with its own tracking number and its own status from carrier events."""

    __tablename__ = "package"
    __table_args__ = (
        UniqueConstraint("shipment_id", "package_no"),
        UniqueConstraint("carrier_id", "tracking_number"),
        one_of("status", PACKAGE_STATUSES),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    shipment_id: Mapped[int] = mapped_column(ref("shipment"))
    package_no: Mapped[int]
    carrier_id: Mapped[int | None] = mapped_column(ref("carrier"))
    tracking_number: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="packed", server_default="packed")
    status_at: Mapped[datetime | None]
    weight_g: Mapped[int | None]
    label_copies: Mapped[Zero]  # beyond the first: 补打
    created_at: Mapped[datetime]
    version: Mapped[Version]


class PackageLine(Base):
    """One row per shipment line in a package."""

    __tablename__ = "package_line"
    __table_args__ = (CheckConstraint("qty > 0", name="qty_positive"), {"sqlite_strict": True})
    package_id: Mapped[int] = mapped_column(ref("package"), primary_key=True)
    shipment_line_id: Mapped[int] = mapped_column(ref("shipment_line"), primary_key=True, index=True)
    qty: Mapped[int]


class TrackingEvent(Base):
    """One row per event a carrier reported, kept as it came; `outcome` says what it did."""

    __tablename__ = "tracking_event"
    __table_args__ = (
        UniqueConstraint("carrier_id", "event_key"),
        one_of("outcome", ["applied", "late", "unmapped", "quarantined"]),
        Index("ix_tracking_event_package", "package_id", "occurred_at"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    carrier_id: Mapped[int] = mapped_column(ref("carrier"))
    event_key: Mapped[str]
    package_id: Mapped[int | None] = mapped_column(ref("package"))
    tracking_number: Mapped[str]
    status: Mapped[str | None]
    raw_status: Mapped[str]
    occurred_at: Mapped[datetime | None]
    received_at: Mapped[datetime]
    place: Mapped[str | None]
    outcome: Mapped[str]
    raw: Mapped[Facts | None]


class SignedReceipt(Base):
    """One row per signed delivery receipt (回单); what was signed may differ from what was shipped."""

    __tablename__ = "signed_receipt"
    __table_args__ = ({"sqlite_strict": True},)
    id: Mapped[Id]
    shipment_id: Mapped[int] = mapped_column(ref("shipment"), unique=True)
    signed_by: Mapped[str]
    signed_at: Mapped[datetime]
    picture_url: Mapped[str | None]
    difference: Mapped[Facts | None]  # [{shipment_line_id, shipped_qty, signed_qty}]
    created_at: Mapped[datetime]


class ProductionOrder(Base):
    """One row per work order to production (生产任务单): units to make at a location, done and scrapped so far."""

    __tablename__ = "production_order"
    __table_args__ = (
        one_of("status", ["open", "started", "done", "cancelled"]),
        CheckConstraint("qty > 0", name="qty_positive"),
        *never_negative("done_qty", "scrap_qty"),
        Index("ix_production_order_queue", "location_id", "status"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    location_id: Mapped[int] = mapped_column(ref("location"))
    order_line_id: Mapped[int | None] = mapped_column(ref("order_line"), index=True)
    qty: Mapped[int]
    done_qty: Mapped[Zero]
    scrap_qty: Mapped[Zero]
    status: Mapped[str]
    due_date: Mapped[date | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    version: Mapped[Version]
