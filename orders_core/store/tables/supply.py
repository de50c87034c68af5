"""Where goods come from: suppliers and what they offer, purchase requests, purchase orders, goods receipts."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, Version, Zero, never_negative, one_of, ref


class Supplier(Base):
    """One row per supplier, with its usual lead time (supplier order to shelf) and terms."""

    __tablename__ = "supplier"
    __table_args__ = (*never_negative("lead_time_days", "min_order_cents"), {"sqlite_strict": True})
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    currency: Mapped[str] = mapped_column(default="CNY", server_default="CNY")
    lead_time_days: Mapped[int]
    lead_time_sd_days: Mapped[float]
    review_period_days: Mapped[int] = mapped_column(default=7, server_default="7")
    min_order_cents: Mapped[Zero]
    email: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    version: Mapped[Version]


class SupplierSku(Base):
    """One row per SKU a supplier offers: MOQ, pack, price. Rank 0 is bought from first."""

    __tablename__ = "supplier_sku"
    __table_args__ = (
        CheckConstraint("min_order_qty > 0 AND pack_qty > 0", name="qty_positive"),
        *never_negative("unit_cost_cents"),
        Index("ix_supplier_sku_sku", "sku_id", "rank"),
        {"sqlite_strict": True},
    )
    supplier_id: Mapped[int] = mapped_column(ref("supplier"), primary_key=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    supplier_sku_code: Mapped[str | None]
    rank: Mapped[Zero]
    min_order_qty: Mapped[int] = mapped_column(default=1, server_default="1")
    pack_qty: Mapped[int] = mapped_column(default=1, server_default="1")
    unit_cost_cents: Mapped[int]
    price_breaks: Mapped[Facts | None]  # [{min_qty, unit_cost_cents}]
    lead_time_days: Mapped[int | None]  # empty = the supplier's
    is_lead_time_default: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class SupplierClosedDay(Base):
    """One row per day a supplier does not work or ship (春节, stock-taking)."""

    __tablename__ = "supplier_closed_day"
    __table_args__ = ({"sqlite_strict": True},)
    supplier_id: Mapped[int] = mapped_column(ref("supplier"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    note: Mapped[str | None]


class PurchaseRequest(Base):
    """One row per need that the stock could not meet: what to buy or make, for which order line."""

    __tablename__ = "purchase_request"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        one_of("status", ["open", "ordered", "closed", "cancelled"]),
        Index(
            "uq_purchase_request_open_line",
            "order_line_id",
            "location_id",
            unique=True,
            sqlite_where=text("status = 'open'"),
            postgresql_where=text("status = 'open'"),
        ),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"), index=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    qty: Mapped[int]
    order_line_id: Mapped[int | None] = mapped_column(ref("order_line"))
    status: Mapped[str] = mapped_column(default="open", server_default="open")
    reason: Mapped[str]
    purchase_order_line_id: Mapped[int | None] = mapped_column(ref("purchase_order_line"))
    created_at: Mapped[datetime]
    version: Mapped[Version]


class PurchaseOrder(Base):
    """One row per order to a supplier (采购单)."""

    __tablename__ = "purchase_order"
    __table_args__ = (
        one_of("status", ["draft", "sent", "confirmed", "received", "closed", "cancelled"]),
        Index("ix_purchase_order_status", "status", "expected_date"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    supplier_id: Mapped[int] = mapped_column(ref("supplier"), index=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    status: Mapped[str]
    currency: Mapped[str]
    total_cents: Mapped[int]
    ordered_at: Mapped[datetime | None]
    business_date: Mapped[date]
    expected_date: Mapped[date | None]
    is_date_confirmed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    source_run_key: Mapped[str | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    approved_by: Mapped[str | None]
    version: Mapped[Version]


class PurchaseOrderLine(Base):
    """One row per SKU in a purchase order."""

    __tablename__ = "purchase_order_line"
    __table_args__ = (
        UniqueConstraint("purchase_order_id", "line_no"),
        CheckConstraint("qty > 0", name="qty_positive"),
        *never_negative("received_qty", "cancelled_qty", "unit_cost_cents"),
        Index("ix_purchase_order_line_sku", "sku_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    purchase_order_id: Mapped[int] = mapped_column(ref("purchase_order"))
    line_no: Mapped[int]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    qty: Mapped[int]
    received_qty: Mapped[Zero]
    cancelled_qty: Mapped[Zero]
    unit_cost_cents: Mapped[int]
    expected_date: Mapped[date | None]
    suggestion: Mapped[Facts | None]  # the reorder suggestion it came from, with its waterfall


class GoodsReceipt(Base):
    """One row per arrival of goods (收货)."""

    __tablename__ = "goods_receipt"
    __table_args__ = ({"sqlite_strict": True},)
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    purchase_order_id: Mapped[int | None] = mapped_column(ref("purchase_order"), index=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    received_at: Mapped[datetime]
    business_date: Mapped[date]
    actor: Mapped[str]


class GoodsReceiptLine(Base):
    """One row per SKU and lot received."""

    __tablename__ = "goods_receipt_line"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        one_of("state", ["on_hand", "inspection"]),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    goods_receipt_id: Mapped[int] = mapped_column(ref("goods_receipt"), index=True)
    purchase_order_line_id: Mapped[int | None] = mapped_column(ref("purchase_order_line"), index=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    lot_id: Mapped[int | None] = mapped_column(ref("lot"))
    qty: Mapped[int]
    unit_cost_cents: Mapped[int | None]
    state: Mapped[str] = mapped_column(default="on_hand", server_default="on_hand")
