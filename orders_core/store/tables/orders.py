"""What customers asked for: carts, orders with their lines and charges, change sets and notes."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, Version, Zero, never_negative, one_of, ref

ORDER_STATUSES = [
    "review",
    "held",
    "waiting_stock",
    "ready",
    "picking",
    "partly_shipped",
    "shipped",
    "partly_delivered",
    "delivered",
    "cancelled",
    "rejected",
]
STOCK_LINE_KINDS = ("item", "component", "gift")
"""Line kinds that take stock and ship; a kit ships as its component lines, a service not at all."""


class Cart(Base):
    """One row per cart; kept until it becomes an order or is abandoned."""

    __tablename__ = "cart"
    __table_args__ = (
        one_of("status", ["open", "ordered", "merged", "abandoned"]),
        Index("ix_cart_customer", "customer_id", "status"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    token: Mapped[str] = mapped_column(unique=True)
    customer_id: Mapped[int | None] = mapped_column(ref("customer"))
    channel_id: Mapped[int] = mapped_column(ref("channel"))
    currency: Mapped[str]
    coupon_code: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="open", server_default="open")
    order_id: Mapped[int | None] = mapped_column(ref("orders"))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    version: Mapped[Version]


class CartLine(Base):
    """One row per SKU and unit in a cart; `seen_price_cents` is what the customer was last shown."""

    __tablename__ = "cart_line"
    __table_args__ = (
        UniqueConstraint("cart_id", "sku_id", "unit"),
        CheckConstraint("pack_qty > 0", name="pack_qty_positive"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    cart_id: Mapped[int] = mapped_column(ref("cart"))
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    unit: Mapped[str]
    pack_qty: Mapped[int]
    seen_price_cents: Mapped[int | None]
    added_at: Mapped[datetime]


class Order(Base):
    """One row per order. `status` is derived from quantities and a few facts (domain/lifecycle.py), never set by hand.

    Money: total = goods − discounts + charges + tax on top; all parts are sums of the lines and charges.
    `origin = history` records closed facts of an old system: no reservation, movement, notice or decision.
    """

    __tablename__ = "orders"
    __table_args__ = (
        one_of("status", ORDER_STATUSES),
        one_of("origin", ["live", "history"]),
        one_of("kind", ["sale", "exchange", "resend", "standing"]),
        one_of("payment_method", ["prepaid", "credit", "on_delivery"]),
        one_of("delivery_method", ["courier", "own_truck", "pick_up"]),
        one_of("language", ["zh", "en"]),
        *never_negative("goods_cents", "discount_cents", "tax_cents", "paid_cents", "refunded_cents"),
        *never_negative("credit_claimed_cents"),
        CheckConstraint("refunded_cents <= paid_cents", name="refund_within_payment"),
        CheckConstraint("total_cents = goods_cents - discount_cents + charges_cents + tax_cents", name="total_adds_up"),
        CheckConstraint("cancelled_at IS NULL OR status = 'cancelled'", name="cancelled_stays"),
        UniqueConstraint("channel_id", "external_id"),
        UniqueConstraint("idem_scope", "idem_key"),
        Index("ix_orders_customer", "customer_id", "business_date"),
        Index("ix_orders_status", "status", "promised_by_date"),
        Index("ix_orders_placed", "placed_at"),
        Index(
            "ix_orders_owing",
            "customer_id",
            "business_date",
            sqlite_where=text("credit_claimed_cents > 0"),
            postgresql_where=text("credit_claimed_cents > 0"),
        ),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    channel_id: Mapped[int] = mapped_column(ref("channel"))
    external_id: Mapped[str | None]
    idem_scope: Mapped[str | None]  # who sent the key: a key never answers another caller
    idem_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    lines_hash: Mapped[str]  # same SKUs and quantities, for noticing the same order twice
    possible_duplicate_of_id: Mapped[int | None] = mapped_column(ref("orders"))
    customer_id: Mapped[int] = mapped_column(ref("customer"))
    salesperson_id: Mapped[int | None] = mapped_column(ref("staff"))
    origin: Mapped[str] = mapped_column(default="live", server_default="live")
    kind: Mapped[str] = mapped_column(default="sale", server_default="sale")
    source_order_id: Mapped[int | None] = mapped_column(ref("orders"))  # exchange or resend of that order
    status: Mapped[str]
    review_reasons: Mapped[Facts | None]  # [{code, …facts}] of the checks that failed
    hold_reason: Mapped[str | None]
    priority: Mapped[Zero]  # higher is served first
    language: Mapped[str]
    currency: Mapped[str]
    goods_cents: Mapped[int]
    discount_cents: Mapped[Zero]
    charges_cents: Mapped[Zero]
    tax_cents: Mapped[Zero]  # tax on top of prices; contained tax is only reported per line
    total_cents: Mapped[int]
    paid_cents: Mapped[Zero]
    refunded_cents: Mapped[Zero]
    credit_claimed_cents: Mapped[Zero]
    payment_method: Mapped[str]
    delivery_method: Mapped[str] = mapped_column(default="courier", server_default="courier")
    address_id: Mapped[int | None] = mapped_column(ref("customer_address"))
    recipient: Mapped[str | None]
    phone: Mapped[str | None]
    country: Mapped[str | None]
    region: Mapped[str | None]
    city: Mapped[str | None]
    street: Mapped[str | None]
    postcode: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    business_date: Mapped[date]
    placed_at: Mapped[datetime]
    requested_date: Mapped[date | None]  # not before: the customer wants it on this day
    promised_by_date: Mapped[date | None]
    is_promise_estimated: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    approved_at: Mapped[datetime | None]
    approved_by: Mapped[str | None]
    rejected_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    cancel_reason: Mapped[str | None]
    coupon_code: Mapped[str | None]
    note: Mapped[str | None]
    version: Mapped[Version]


class OrderLine(Base):
    """One row per line. Quantities are base units; `pack_qty` × `units_per_pack` = `ordered_qty` as it was entered.

    A kit line carries the money, its component lines (`parent_line_id`, price 0) carry the stock; a gift line hangs
    on its trigger line the same way.
    """

    __tablename__ = "order_line"
    __table_args__ = (
        UniqueConstraint("order_id", "line_no"),
        one_of("kind", ["item", "kit", "component", "gift", "service"]),
        CheckConstraint("(kind IN ('component', 'gift')) = (parent_line_id IS NOT NULL)", name="parent_of_part"),
        *never_negative("ordered_qty", "cancelled_qty", "reserved_qty", "backordered_qty", "over_delivery_qty"),
        *never_negative("shipped_qty", "delivered_qty", "returned_qty", "refunded_cents", "discount_cents"),
        CheckConstraint("units_per_pack > 0", name="units_per_pack_positive"),
        CheckConstraint("cancelled_qty <= ordered_qty", name="cancelled_was_ordered"),
        CheckConstraint("shipped_qty <= ordered_qty - cancelled_qty + over_delivery_qty", name="shipped_was_ordered"),
        CheckConstraint("delivered_qty <= shipped_qty", name="delivered_was_shipped"),
        CheckConstraint("returned_qty <= shipped_qty", name="returned_was_shipped"),
        CheckConstraint(
            "reserved_qty + backordered_qty <= ordered_qty - cancelled_qty + over_delivery_qty",
            name="promised_was_ordered",
        ),
        Index("ix_order_line_sku", "sku_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ref("orders"))
    line_no: Mapped[int]
    parent_line_id: Mapped[int | None] = mapped_column(ref("order_line"))
    kind: Mapped[str] = mapped_column(default="item", server_default="item")
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    description: Mapped[str | None]
    unit: Mapped[str]
    units_per_pack: Mapped[int] = mapped_column(default=1, server_default="1")
    pack_qty: Mapped[int]
    unit_price_cents: Mapped[int]  # per `unit`
    price_kind: Mapped[str]  # list, level, contract, promotion, manual, part, history
    list_price_cents: Mapped[int | None]
    discount_cents: Mapped[Zero]  # this line's share of all discounts
    tax_rate_bp: Mapped[Zero]
    tax_cents: Mapped[Zero]
    net_cents: Mapped[int]  # pack_qty × unit price − discount
    unit_cost_cents: Mapped[int | None]
    ordered_qty: Mapped[int]
    part_qty: Mapped[int | None]  # of a component: base units in one of its kit
    cancelled_qty: Mapped[Zero]
    reserved_qty: Mapped[Zero]
    backordered_qty: Mapped[Zero]
    over_delivery_qty: Mapped[Zero]
    shipped_qty: Mapped[Zero]
    delivered_qty: Mapped[Zero]
    returned_qty: Mapped[Zero]
    refunded_cents: Mapped[Zero]
    external_line_no: Mapped[str | None]
    note: Mapped[str | None]


class OrderCharge(Base):
    """One row per amount of an order that is not goods: shipping, a fee, a discount given by hand. Signed."""

    __tablename__ = "order_charge"
    __table_args__ = (
        one_of("kind", ["shipping", "fee", "discount", "tax", "manual", "surcharge"]),
        Index("ix_order_charge_order", "order_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ref("orders"))
    kind: Mapped[str]
    code: Mapped[str | None]
    description: Mapped[str | None]
    amount_cents: Mapped[int]
    external_line_no: Mapped[str | None]


class OrderDiscount(Base):
    """One row per promotion or coupon that lowered an order; the shares are on the lines."""

    __tablename__ = "order_discount"
    __table_args__ = (
        *never_negative("amount_cents"),
        Index("ix_order_discount_order", "order_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ref("orders"))
    promotion_id: Mapped[int | None] = mapped_column(ref("promotion"))
    coupon_id: Mapped[int | None] = mapped_column(ref("coupon"))
    description: Mapped[str | None]
    amount_cents: Mapped[int]


class OrderChange(Base):
    """One row per change set of an order: drafted, previewed, then applied or dropped. One open at a time."""

    __tablename__ = "order_change"
    __table_args__ = (
        one_of("status", ["open", "applied", "dropped"]),
        Index(
            "uq_order_change_open",
            "order_id",
            unique=True,
            sqlite_where=text("status = 'open'"),
            postgresql_where=text("status = 'open'"),
        ),
        UniqueConstraint("order_id", "idem_key"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ref("orders"), index=True)
    base_version: Mapped[int]
    status: Mapped[str]
    changes: Mapped[Facts]
    preview: Mapped[Facts | None]
    reason: Mapped[str | None]
    idem_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    author: Mapped[str]
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class OrderNote(Base):
    """One row per note on an order or contact with its customer (电话、邮件、微信)."""

    __tablename__ = "order_note"
    __table_args__ = (one_of("kind", ["note", "contact"]), {"sqlite_strict": True})
    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ref("orders"), index=True)
    kind: Mapped[str]
    medium: Mapped[str | None]
    text: Mapped[str]
    author: Mapped[str]
    at: Mapped[datetime]
