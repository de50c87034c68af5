"""Who orders and who works here: customers with contacts, addresses and consent; channels; staff."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, LogId, Version, Zero, never_negative, one_of, ref


class Customer(Base):
    """One row per customer. `credit_used_cents` is what approved orders on credit owe; raised only under a guard."""

    __tablename__ = "customer"
    __table_args__ = (
        one_of("kind", ["business", "person", "walk_in"]),
        one_of("status", ["active", "on_hold", "closed"]),
        one_of("language", ["zh", "en"]),
        *never_negative("credit_used_cents", "terms_days"),
        CheckConstraint("credit_limit_cents IS NULL OR credit_limit_cents >= 0", name="credit_limit_not_negative"),
        Index("ix_customer_name", "name"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="business", server_default="business")
    status: Mapped[str] = mapped_column(default="active", server_default="active")
    language: Mapped[str] = mapped_column(default="zh", server_default="zh")
    currency: Mapped[str] = mapped_column(default="CNY", server_default="CNY")
    level_code: Mapped[str | None]
    salesperson_id: Mapped[int | None] = mapped_column(ref("staff"), index=True)
    credit_limit_cents: Mapped[int | None]  # empty = no credit: prepaid or on delivery only
    credit_used_cents: Mapped[Zero]
    terms_days: Mapped[Zero]
    tax_number: Mapped[str | None]
    invoice_title: Mapped[str | None]
    wants_suggestions: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    merged_into_id: Mapped[int | None] = mapped_column(ref("customer"))
    origin: Mapped[str] = mapped_column(default="live", server_default="live")
    created_at: Mapped[datetime]
    version: Mapped[Version]


class CustomerContact(Base):
    """One row per person to talk to at a customer."""

    __tablename__ = "customer_contact"
    __table_args__ = (
        Index(
            "uq_customer_contact_primary",
            "customer_id",
            unique=True,
            sqlite_where=text("is_primary"),
            postgresql_where=text("is_primary"),
        ),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    name: Mapped[str]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    role: Mapped[str | None]
    is_primary: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class CustomerAddress(Base):
    """One row per delivery address; `is_masked` when a marketplace gave only an OAID and stars."""

    __tablename__ = "customer_address"
    __table_args__ = (
        CheckConstraint("(latitude IS NULL) = (longitude IS NULL)", name="both_coordinates"),
        Index(
            "uq_customer_address_default",
            "customer_id",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    recipient: Mapped[str]
    phone: Mapped[str | None]
    country: Mapped[str] = mapped_column(default="CN", server_default="CN")
    region: Mapped[str | None]  # province (省) or state; what carriers price by
    city: Mapped[str | None]
    district: Mapped[str | None]
    street: Mapped[str]
    postcode: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    oaid: Mapped[str | None]
    is_masked: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_default: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))


class ConsentEvent(Base):
    """One row per consent given or withdrawn; the newest per customer, medium and purpose holds."""

    __tablename__ = "consent_event"
    __table_args__ = (
        one_of("medium", ["mail", "sms", "wechat", "phone"]),
        one_of("purpose", ["marketing", "survey"]),
        Index("ix_consent_event_customer", "customer_id", "medium", "purpose", "at"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    customer_id: Mapped[int] = mapped_column(ref("customer"))
    medium: Mapped[str]
    purpose: Mapped[str]
    is_granted: Mapped[bool]
    evidence: Mapped[str]
    at: Mapped[datetime]


class Channel(Base):
    """One row per way orders come in. `policy` overrides the rule set for this channel."""

    __tablename__ = "channel"
    __table_args__ = (
        one_of("kind", ["web", "marketplace", "store", "phone", "mail", "walk_in", "api", "standing", "history"]),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    kind: Mapped[str]
    policy: Mapped[Facts | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))


class Staff(Base):
    """One row per colleague (or machine account) who acts in the system."""

    __tablename__ = "staff"
    __table_args__ = (one_of("language", ["zh", "en"]), {"sqlite_strict": True})
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    email: Mapped[str | None] = mapped_column(unique=True)
    language: Mapped[str] = mapped_column(default="zh", server_default="zh")
    roles: Mapped[Facts]  # ["clerk", "warehouse"]
    location_scope: Mapped[Facts | None]  # location codes; empty = all
    password_hash: Mapped[str | None]
    totp_secret: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[datetime]
    version: Mapped[Version]


class StaffSession(Base):
    """One row per login; checked on every request, so that it can be ended from here."""

    __tablename__ = "staff_session"
    __table_args__ = ({"sqlite_strict": True},)
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    staff_id: Mapped[int | None] = mapped_column(ref("staff"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ref("customer"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class ApiKey(Base):
    """One row per key of another system; only its hash is kept."""

    __tablename__ = "api_key"
    __table_args__ = ({"sqlite_strict": True},)
    id: Mapped[Id]
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    channel_id: Mapped[int | None] = mapped_column(ref("channel"))
    customer_id: Mapped[int | None] = mapped_column(ref("customer"))
    permissions: Mapped[Facts]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class BehaviourEvent(Base):
    """One row per thing a customer did that is not an order: a view, a search, a cart change."""

    __tablename__ = "behaviour_event"
    __table_args__ = (
        one_of("kind", ["view", "search", "cart_add", "cart_remove", "checkout", "mail_open", "mail_click"]),
        Index("ix_behaviour_event_customer", "customer_id", "at"),
        {"sqlite_strict": True},
    )
    id: Mapped[LogId]
    customer_id: Mapped[int | None] = mapped_column(ref("customer"))
    session_key: Mapped[str | None]
    kind: Mapped[str]
    sku_id: Mapped[int | None] = mapped_column(ref("sku"))
    channel_id: Mapped[int | None] = mapped_column(ref("channel"))
    facts: Mapped[Facts | None]
    at: Mapped[datetime]


class Promotion(Base):
    """One row per promotion: a price rule with a period. `rule` as in domain/pricing.py."""

    __tablename__ = "promotion"
    __table_args__ = (
        one_of("kind", ["order_threshold", "percent", "free_shipping"]),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    kind: Mapped[str]
    rule: Mapped[Facts]
    priority: Mapped[Zero]
    needs_coupon: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    version: Mapped[Version]


class Coupon(Base):
    """One row per coupon code; `used_count` never exceeds `max_uses`."""

    __tablename__ = "coupon"
    __table_args__ = (
        CheckConstraint("used_count BETWEEN 0 AND max_uses", name="uses"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    promotion_id: Mapped[int] = mapped_column(ref("promotion"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ref("customer"))
    max_uses: Mapped[int] = mapped_column(default=1, server_default="1")
    used_count: Mapped[Zero]
    expires_at: Mapped[datetime | None]


class CouponUse(Base):
    """One row per order a coupon was spent on."""

    __tablename__ = "coupon_use"
    __table_args__ = ({"sqlite_strict": True},)
    coupon_id: Mapped[int] = mapped_column(ref("coupon"), primary_key=True)
    order_id: Mapped[int] = mapped_column(ref("orders"), primary_key=True)
    discount_cents: Mapped[int]
    at: Mapped[datetime]


class Campaign(Base):
    """One row per list of customers contacted with an offer."""

    __tablename__ = "campaign"
    __table_args__ = (
        CheckConstraint("control_ratio_bp BETWEEN 0 AND 10000", name="control_ratio"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    promotion_id: Mapped[int | None] = mapped_column(ref("promotion"))
    audience: Mapped[Facts]
    control_ratio_bp: Mapped[int]
    no_control_reason: Mapped[str | None]
    status: Mapped[str]
    created_at: Mapped[datetime]
    version: Mapped[Version]


class CampaignMember(Base):
    """One row per customer in a campaign, treated or left alone on purpose (control group)."""

    __tablename__ = "campaign_member"
    __table_args__ = (one_of("arm", ["treated", "control"]), {"sqlite_strict": True})
    campaign_id: Mapped[int] = mapped_column(ref("campaign"), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ref("customer"), primary_key=True)
    arm: Mapped[str]
    offer: Mapped[Facts | None]
    exported_at: Mapped[datetime | None]


class StandingOrder(Base):
    """One row per rhythm a customer agreed to (周期订单)."""

    __tablename__ = "standing_order"
    __table_args__ = (
        CheckConstraint("every_days > 0", name="every_days_positive"),
        one_of("status", ["active", "paused", "ended"]),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    customer_id: Mapped[int] = mapped_column(ref("customer"), index=True)
    channel_id: Mapped[int] = mapped_column(ref("channel"))
    address_id: Mapped[int] = mapped_column(ref("customer_address"))
    every_days: Mapped[int]
    next_at: Mapped[datetime]
    payment_method: Mapped[str]
    status: Mapped[str] = mapped_column(default="active", server_default="active")
    agreed_at: Mapped[datetime]
    version: Mapped[Version]


class StandingOrderLine(Base):
    """One row per line of a standing order."""

    __tablename__ = "standing_order_line"
    __table_args__ = (
        UniqueConstraint("standing_order_id", "sku_id", "unit"),
        CheckConstraint("pack_qty > 0", name="pack_qty_positive"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    standing_order_id: Mapped[int] = mapped_column(ref("standing_order"))
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    unit: Mapped[str]
    pack_qty: Mapped[int]


class StandingOrderCycle(Base):
    """One row per cycle of a standing order: created once, shown before it is sent, or skipped."""

    __tablename__ = "standing_order_cycle"
    __table_args__ = (one_of("status", ["announced", "created", "skipped"]), {"sqlite_strict": True})
    standing_order_id: Mapped[int] = mapped_column(ref("standing_order"), primary_key=True)
    cycle_no: Mapped[int] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    status: Mapped[str]
    order_id: Mapped[int | None] = mapped_column(ref("orders"), unique=True)
