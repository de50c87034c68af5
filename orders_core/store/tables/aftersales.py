"""After the delivery: returns, tickets and follow-ups."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, Version, Zero, never_negative, one_of, ref


class ReturnAuthorization(Base):
    """One row per permission to return (退货申请). Imported credits without a known order stand alone."""

    __tablename__ = "return_authorization"
    __table_args__ = (
        one_of("kind", ["return", "exchange", "refund_only", "resend", "repair", "credit"]),
        one_of("status", ["requested", "approved", "received", "closed", "refused", "cancelled"]),
        one_of("origin", ["live", "history"]),
        CheckConstraint("order_id IS NOT NULL OR origin = 'history'", name="order_known"),
        UniqueConstraint("order_id", "idem_key"),
        UniqueConstraint("channel_id", "external_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    order_id: Mapped[int | None] = mapped_column(ref("orders"), index=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    channel_id: Mapped[int | None] = mapped_column(ref("channel"))
    external_id: Mapped[str | None]
    location_id: Mapped[int | None] = mapped_column(ref("location"))  # where the goods come back to
    kind: Mapped[str]
    status: Mapped[str]
    origin: Mapped[str] = mapped_column(default="live", server_default="live")
    reason: Mapped[str | None]
    exchange_order_id: Mapped[int | None] = mapped_column(ref("orders"))
    is_refunded: Mapped[bool] = mapped_column(
        default=True, server_default=text("true")
    )  # else goods come back for nothing
    refund_cents: Mapped[Zero]  # what the goods received so far were worth to the customer
    currency: Mapped[str]
    idem_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    business_date: Mapped[date]
    requested_at: Mapped[datetime]
    received_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    version: Mapped[Version]


class ReturnLine(Base):
    """One row per returned SKU (退货明细): asked for, received, and what became of it."""

    __tablename__ = "return_line"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        *never_negative("received_qty", "restocked_qty", "repair_qty", "scrapped_qty", "refund_cents"),
        CheckConstraint("received_qty <= qty", name="received_was_asked"),
        CheckConstraint("restocked_qty + repair_qty + scrapped_qty <= received_qty", name="disposed_was_received"),
        Index("ix_return_line_order_line", "order_line_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    return_id: Mapped[int] = mapped_column(ref("return_authorization"), index=True)
    order_line_id: Mapped[int | None] = mapped_column(ref("order_line"))
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    lot_id: Mapped[int | None] = mapped_column(ref("lot"))
    qty: Mapped[int]
    unit_price_cents: Mapped[Zero]
    received_qty: Mapped[Zero]
    restocked_qty: Mapped[Zero]
    repair_qty: Mapped[Zero]
    scrapped_qty: Mapped[Zero]
    refund_cents: Mapped[Zero]
    external_line_no: Mapped[str | None]


class Ticket(Base):
    """One row per problem reported (售后工单), with an owner, a clock and a stated solution."""

    __tablename__ = "ticket"
    __table_args__ = (
        one_of("status", ["open", "assigned", "waiting_customer", "solved", "closed"]),
        one_of("kind", ["damaged", "missing", "wrong_item", "late", "quality", "low_score", "invoice", "other"]),
        CheckConstraint("status <> 'solved' OR solution IS NOT NULL", name="solved_has_solution"),
        Index("ix_ticket_queue", "status", "due_at"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    order_id: Mapped[int | None] = mapped_column(ref("orders"), index=True)
    return_id: Mapped[int | None] = mapped_column(ref("return_authorization"))
    kind: Mapped[str]
    subject: Mapped[str]
    priority: Mapped[Zero]
    status: Mapped[str]
    assigned_to: Mapped[str | None]
    due_at: Mapped[datetime]
    first_answer_at: Mapped[datetime | None]
    solution: Mapped[str | None]
    solved_at: Mapped[datetime | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    opened_at: Mapped[datetime]
    version: Mapped[Version]


class TicketMessage(Base):
    """One row per thing said on a ticket, by us or by the customer."""

    __tablename__ = "ticket_message"
    __table_args__ = ({"sqlite_strict": True},)
    id: Mapped[Id]
    ticket_id: Mapped[int] = mapped_column(ref("ticket"), index=True)
    author: Mapped[str]
    is_from_customer: Mapped[bool]
    text: Mapped[str]
    at: Mapped[datetime]


class FollowUp(Base):
    """One row per time we asked a customer how it was; answered by secret link, at most one ask in 30 days."""

    __tablename__ = "follow_up"
    __table_args__ = (
        CheckConstraint("score IS NULL OR score BETWEEN 1 AND 5", name="score_1_to_5"),
        CheckConstraint("(score IS NULL) = (answered_at IS NULL)", name="answered_has_score"),
        Index("ix_follow_up_customer", "customer_id", "asked_at"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ref("orders"), unique=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"))
    token_hash: Mapped[str] = mapped_column(unique=True)
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    score: Mapped[int | None]
    comment: Mapped[str | None]
    ticket_id: Mapped[int | None] = mapped_column(ref("ticket"))
    facts: Mapped[Facts | None]
