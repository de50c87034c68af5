"""What was paid and what is owed: receipts, settlements, refunds, opening balances, statements, invoice requests."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Id, Version, Zero, never_negative, one_of, ref


class PaymentReceipt(Base):
    """One row per payment received (收款); settled against one or several orders, the rest is a prepayment."""

    __tablename__ = "payment_receipt"
    __table_args__ = (
        CheckConstraint("amount_cents > 0", name="amount_positive"),
        CheckConstraint("settled_cents BETWEEN 0 AND amount_cents", name="settled_within_amount"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    amount_cents: Mapped[int]
    settled_cents: Mapped[Zero]
    currency: Mapped[str]
    method: Mapped[str]
    reference: Mapped[str | None]
    origin: Mapped[str] = mapped_column(default="live", server_default="live")
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    received_at: Mapped[datetime]
    business_date: Mapped[date]
    actor: Mapped[str]


class ReceiptSettlement(Base):
    """One row per part of a receipt set against an order (核销). Negative parts undo earlier ones."""

    __tablename__ = "receipt_settlement"
    __table_args__ = (
        CheckConstraint("amount_cents <> 0", name="amount_not_zero"),
        Index("ix_receipt_settlement_order", "order_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    payment_receipt_id: Mapped[int] = mapped_column(ref("payment_receipt"), index=True)
    order_id: Mapped[int] = mapped_column(ref("orders"))
    amount_cents: Mapped[int]
    at: Mapped[datetime]


class Refund(Base):
    """One row per refund granted; `paid` when the money went out. Never more in all than the order was paid."""

    __tablename__ = "refund"
    __table_args__ = (
        CheckConstraint("amount_cents > 0", name="amount_positive"),
        one_of("status", ["granted", "paid", "failed"]),
        UniqueConstraint("order_id", "idem_key"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    order_id: Mapped[int | None] = mapped_column(ref("orders"), index=True)
    return_id: Mapped[int | None] = mapped_column(ref("return_authorization"), index=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    amount_cents: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str]
    idem_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    origin: Mapped[str] = mapped_column(default="live", server_default="live")
    granted_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    business_date: Mapped[date]
    actor: Mapped[str]


class OpeningBalance(Base):
    """One row per customer and currency: what was owed when this system began (期初)."""

    __tablename__ = "opening_balance"
    __table_args__ = (UniqueConstraint("customer_id", "currency"), {"sqlite_strict": True})
    id: Mapped[Id]
    customer_id: Mapped[int] = mapped_column(ref("customer"))
    currency: Mapped[str]
    amount_cents: Mapped[int]  # positive = the customer owes
    as_of_date: Mapped[date]


class Statement(Base):
    """One row per customer, currency and month (对账单): opening + deliveries − returns − receipts = closing."""

    __tablename__ = "statement"
    __table_args__ = (
        UniqueConstraint("customer_id", "currency", "month"),
        CheckConstraint(
            "closing_cents = opening_cents + delivered_cents - returned_cents - received_cents",
            name="closing_adds_up",
        ),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    customer_id: Mapped[int] = mapped_column(ref("customer"))
    currency: Mapped[str]
    month: Mapped[str]  # 2026-11
    opening_cents: Mapped[int]
    delivered_cents: Mapped[int]
    returned_cents: Mapped[int]
    received_cents: Mapped[int]
    closing_cents: Mapped[int]
    token_hash: Mapped[str | None] = mapped_column(unique=True)
    agreed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    version: Mapped[Version]


class InvoiceRequest(Base):
    """One row per invoice asked for (开票申请), or a red one for returns; the tax system's number comes back."""

    __tablename__ = "invoice_request"
    __table_args__ = (
        UniqueConstraint("customer_id", "idem_key"),
        one_of("kind", ["blue", "red"]),
        one_of("status", ["requested", "exported", "issued", "refused", "cancelled"]),
        CheckConstraint("amount_cents > 0", name="amount_positive"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    kind: Mapped[str]
    red_of_id: Mapped[int | None] = mapped_column(ref("invoice_request"))
    status: Mapped[str]
    title: Mapped[str]
    tax_number: Mapped[str | None]
    currency: Mapped[str]
    amount_cents: Mapped[int]
    tax_cents: Mapped[Zero]
    issued_number: Mapped[str | None] = mapped_column(unique=True)
    issued_at: Mapped[datetime | None]
    idem_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    version: Mapped[Version]


class InvoiceRequestLine(Base):
    """One row per order line (part) invoiced."""

    __tablename__ = "invoice_request_line"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        *never_negative("amount_cents"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    invoice_request_id: Mapped[int] = mapped_column(ref("invoice_request"), index=True)
    order_line_id: Mapped[int] = mapped_column(ref("order_line"), index=True)
    qty: Mapped[int]
    amount_cents: Mapped[int]
    tax_rate_bp: Mapped[Zero]
