"""What the planner decides against or after the model: overrides, history adjustments, approved suggestions."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Id, Version, never_negative, one_of, ref

OVERRIDE_KINDS = ("set_daily", "multiply", "add_weekly")
ADJUSTMENT_KINDS = ("ignore", "replace")


class ForecastOverride(Base):
    """One row per change a planner made to coming days of a forecast. Never deleted: withdrawn, or it expires."""

    __tablename__ = "forecast_override"
    __table_args__ = (
        one_of("kind", OVERRIDE_KINDS),
        CheckConstraint("from_date <= through_date", name="days_in_order"),
        CheckConstraint("kind = 'add_weekly' OR amount >= 0", name="amount_not_negative"),
        CheckConstraint("(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name="withdrawn_by_somebody"),
        Index("ix_forecast_override_series", "sku_id", "location_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    location_id: Mapped[int] = mapped_column(ref("location"))
    from_date: Mapped[date]
    through_date: Mapped[date]
    kind: Mapped[str]
    amount: Mapped[float]  # set_daily: units a day; multiply: ratio; add_weekly: units a week, + or −
    author: Mapped[str]
    reason: Mapped[str]
    expires_date: Mapped[date]  # plans as of this day and later know nothing of it
    created_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    version: Mapped[Version]


class DemandAdjustment(Base):
    """One row per stretch of past days that a planner knows to mislead. The demand itself stays as it was recorded."""

    __tablename__ = "demand_adjustment"
    __table_args__ = (
        one_of("kind", ADJUSTMENT_KINDS),
        CheckConstraint("from_date <= through_date", name="days_in_order"),
        CheckConstraint("(kind = 'replace') = (daily_qty IS NOT NULL)", name="qty_when_replaced"),
        CheckConstraint("daily_qty >= 0", name="daily_qty_not_negative"),
        CheckConstraint("(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name="withdrawn_by_somebody"),
        Index("ix_demand_adjustment_series", "sku_id", "location_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    location_id: Mapped[int] = mapped_column(ref("location"))
    from_date: Mapped[date]
    through_date: Mapped[date]
    kind: Mapped[str]
    daily_qty: Mapped[float | None]  # replace: units of each of the days
    author: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    version: Mapped[Version]


class SuggestionApproval(Base):
    """One row per approved suggestion (day of the plan, SKU, location) and what it became.

    That is a line of a purchase order, or of a made SKU a production order. When it is closed and nothing of it came, the
    approval is withdrawn: it stays on record, and the suggestion may be approved again.
    """

    __tablename__ = "suggestion_approval"
    __table_args__ = (
        Index(  # approved once, however often it is clicked
            "uq_suggestion_approval_standing",
            "as_of_date",
            "sku_id",
            "location_id",
            unique=True,
            sqlite_where=text("withdrawn_at IS NULL"),
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
        UniqueConstraint("purchase_order_line_id"),
        UniqueConstraint("production_order_id"),
        CheckConstraint("(purchase_order_line_id IS NULL) <> (production_order_id IS NULL)", name="bought_or_made"),
        CheckConstraint("approved_qty > 0", name="approved_qty_positive"),
        *never_negative("suggested_qty"),
        CheckConstraint("approved_qty = suggested_qty OR reason IS NOT NULL", name="change_has_reason"),
        Index("ix_suggestion_approval_series", "sku_id", "location_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    as_of_date: Mapped[date]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    location_id: Mapped[int] = mapped_column(ref("location"))
    suggested_qty: Mapped[int]
    approved_qty: Mapped[int]
    reason: Mapped[str | None]  # why another quantity than suggested
    approved_by: Mapped[str]
    approved_at: Mapped[datetime]
    business_date: Mapped[date]
    purchase_order_line_id: Mapped[int | None] = mapped_column(ref("purchase_order_line"))
    production_order_id: Mapped[int | None] = mapped_column(ref("production_order"))
    withdrawn_at: Mapped[datetime | None]
