"""Where goods are: locations, levels, movements, lots, reservations, counts and transfers."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, Version, Zero, never_negative, one_of, ref

MOVEMENT_REASONS = [
    "opening",
    "receipt",
    "ship",
    "return",
    "inspection",
    "scrap",
    "repair",
    "adjust",
    "count",
    "transfer_out",
    "transfer_in",
    "production_in",
    "production_use",
    "short_pick",
]


class Location(Base):
    """One row per place that holds or ships goods (仓库、门店、工厂). Imported history sits at untracked ones."""

    __tablename__ = "location"
    __table_args__ = (
        one_of("kind", ["warehouse", "store", "factory", "history"]),
        CheckConstraint("(latitude IS NULL) = (longitude IS NULL)", name="both_coordinates"),
        Index(
            "uq_location_default",
            "is_default",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    kind: Mapped[str] = mapped_column(default="warehouse", server_default="warehouse")
    country: Mapped[str] = mapped_column(default="CN", server_default="CN")
    region: Mapped[str | None]
    address: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    rank: Mapped[Zero]  # order of preference where nothing else decides; lowest first
    is_default: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_stock_tracked: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    can_ship: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    version: Mapped[Version]


class Bin(Base):
    """One row per bin of a location; `walk_rank` is the order a picker walks."""

    __tablename__ = "bin"
    __table_args__ = (UniqueConstraint("location_id", "code"), {"sqlite_strict": True})
    id: Mapped[Id]
    location_id: Mapped[int] = mapped_column(ref("location"))
    code: Mapped[str]
    walk_rank: Mapped[Zero]


class StockLevel(Base):
    """One row per SKU and location that ever held stock; `on_hand_qty` is always the sum of its movements.

    Only a count or an import of facts raises `overcommitted_qty` (promised, but not there). `safety_qty` is kept
    unpromised; below zero it is how deep the location may be backordered. Backorders are never reserved.
    """

    __tablename__ = "stock_level"
    __table_args__ = (
        *never_negative("on_hand_qty", "reserved_qty", "overcommitted_qty", "backordered_qty", "inspecting_qty"),
        CheckConstraint("reserved_qty <= on_hand_qty + overcommitted_qty", name="reserved_is_there"),
        Index("ix_stock_level_location", "location_id"),
        {"sqlite_strict": True},
    )
    sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ref("location"), primary_key=True)
    on_hand_qty: Mapped[Zero]
    reserved_qty: Mapped[Zero]
    overcommitted_qty: Mapped[Zero]
    backordered_qty: Mapped[Zero]
    inspecting_qty: Mapped[Zero]  # there, but not yet on hand: returned or received goods under inspection (待检)
    safety_qty: Mapped[Zero]
    is_backorderable: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    bin_id: Mapped[int | None] = mapped_column(ref("bin"))
    version: Mapped[Version]


class StockProtection(Base):
    """One row per stock level and channel: units held back for that channel; every other channel sees them as gone."""

    __tablename__ = "stock_protection"
    __table_args__ = (CheckConstraint("protected_qty > 0", name="protected_qty_positive"), {"sqlite_strict": True})
    sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ref("location"), primary_key=True)
    channel_id: Mapped[int] = mapped_column(ref("channel"), primary_key=True)
    protected_qty: Mapped[int]
    run_key: Mapped[str | None]


class StockPrice(Base):
    """One row per SKU and location: what one more unit kept here is worth, published by the nightly run."""

    __tablename__ = "stock_price"
    __table_args__ = ({"sqlite_strict": True},)
    sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ref("location"), primary_key=True)
    currency: Mapped[str]
    price_cents: Mapped[int]
    run_key: Mapped[str]
    published_at: Mapped[datetime]


class Lot(Base):
    """One row per traceable group of goods (批次)."""

    __tablename__ = "lot"
    __table_args__ = (UniqueConstraint("sku_id", "lot_code"), {"sqlite_strict": True})
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    lot_code: Mapped[str]
    expiry_date: Mapped[date | None]
    unit_cost_cents: Mapped[int | None]
    created_at: Mapped[datetime]


class LotLevel(Base):
    """One row per lot and location; over a SKU's lots they sum to its stock level's on hand."""

    __tablename__ = "lot_level"
    __table_args__ = (*never_negative("on_hand_qty"), {"sqlite_strict": True})
    lot_id: Mapped[int] = mapped_column(ref("lot"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ref("location"), primary_key=True)
    on_hand_qty: Mapped[Zero]


class StockMovement(Base):
    """One row per immutable signed change of on hand (or, in state `inspection`, of goods under inspection)."""

    __tablename__ = "stock_movement"
    __table_args__ = (
        one_of("reason", MOVEMENT_REASONS),
        one_of("state", ["on_hand", "inspection"]),
        CheckConstraint("qty <> 0", name="qty_not_zero"),
        Index("ix_stock_movement_level", "sku_id", "location_id", "at"),
        Index("ix_stock_movement_source", "source", "source_id"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    location_id: Mapped[int] = mapped_column(ref("location"), index=True)
    lot_id: Mapped[int | None] = mapped_column(ref("lot"))
    qty: Mapped[int]  # base units, in is positive
    state: Mapped[str] = mapped_column(default="on_hand", server_default="on_hand")
    reason: Mapped[str]
    source: Mapped[str | None]  # entity that caused it: shipment, goods_receipt, return_authorization …
    source_id: Mapped[int | None]
    unit_cost_cents: Mapped[int | None]
    at: Mapped[datetime]
    business_date: Mapped[date]
    actor: Mapped[str]
    note: Mapped[str | None]


class CartHold(Base):
    """One row per cart line and location whose units are set aside until `expires_at`.

    The reservations of orders, which do not expire, are `shipment_line.reserved_qty`.
    """

    __tablename__ = "cart_hold"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        Index("ix_cart_hold_level", "sku_id", "location_id"),
        {"sqlite_strict": True},
    )
    cart_line_id: Mapped[int] = mapped_column(ref("cart_line"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ref("location"), primary_key=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    qty: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class StockCount(Base):
    """One row per count (盘点) of a location."""

    __tablename__ = "stock_count"
    __table_args__ = (one_of("status", ["open", "waiting_approval", "posted", "cancelled"]), {"sqlite_strict": True})
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    location_id: Mapped[int] = mapped_column(ref("location"))
    status: Mapped[str]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    started_at: Mapped[datetime]
    posted_at: Mapped[datetime | None]
    counted_by: Mapped[str | None]
    approved_by: Mapped[str | None]
    version: Mapped[Version]


class StockCountLine(Base):
    """One row per SKU (and lot) counted. `expected_qty` is on hand at the moment of counting: shipping goes on."""

    __tablename__ = "stock_count_line"
    __table_args__ = (*never_negative("counted_qty"), {"sqlite_strict": True})
    id: Mapped[Id]
    stock_count_id: Mapped[int] = mapped_column(ref("stock_count"), index=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    lot_id: Mapped[int | None] = mapped_column(ref("lot"))
    expected_qty: Mapped[int]
    counted_qty: Mapped[int]
    counted_at: Mapped[datetime]


class Transfer(Base):
    """One row per move of goods between two locations; `staged` ones wait for goods that are still to come."""

    __tablename__ = "transfer"
    __table_args__ = (
        one_of("status", ["staged", "planned", "in_transit", "received", "cancelled"]),
        CheckConstraint("from_location_id <> to_location_id", name="two_places"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    number: Mapped[str] = mapped_column(unique=True)
    from_location_id: Mapped[int] = mapped_column(ref("location"))
    to_location_id: Mapped[int] = mapped_column(ref("location"))
    status: Mapped[str]
    idem_key: Mapped[str | None] = mapped_column(unique=True)
    body_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    shipped_at: Mapped[datetime | None]
    received_at: Mapped[datetime | None]
    version: Mapped[Version]


class TransferLine(Base):
    """One row per SKU in a transfer."""

    __tablename__ = "transfer_line"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        CheckConstraint("received_qty BETWEEN 0 AND shipped_qty", name="received_was_shipped"),
        CheckConstraint("shipped_qty BETWEEN 0 AND qty", name="shipped_was_planned"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    transfer_id: Mapped[int] = mapped_column(ref("transfer"), index=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    lot_id: Mapped[int | None] = mapped_column(ref("lot"))
    qty: Mapped[int]
    shipped_qty: Mapped[Zero]
    received_qty: Mapped[Zero]
    note: Mapped[Facts | None]
