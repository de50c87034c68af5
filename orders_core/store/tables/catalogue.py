"""What is sold: products, their SKUs (variants), packs, kits, gifts, prices and costs."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from orders_core.store.base import Base, Facts, Id, Version, Zero, never_negative, one_of, ref


class Category(Base):
    """One row per product category; a tree."""

    __tablename__ = "category"
    __table_args__ = ({"sqlite_strict": True},)
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ref("category"))


class Product(Base):
    """One row per product; what a customer calls one thing, in one or more variants (规格)."""

    __tablename__ = "product"
    __table_args__ = (
        one_of("supply_mode", ["stock", "make"]),
        one_of("status", ["active", "discontinued"]),
        CheckConstraint("tax_rate_bp BETWEEN 0 AND 10000", name="tax_rate"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    description: Mapped[str | None]
    brand: Mapped[str | None]
    category_id: Mapped[int | None] = mapped_column(ref("category"), index=True)
    tax_rate_bp: Mapped[Zero]  # 1300 = 13 %
    supply_mode: Mapped[str] = mapped_column(default="stock", server_default="stock")
    status: Mapped[str] = mapped_column(default="active", server_default="active")
    launched_date: Mapped[date | None]
    discontinued_date: Mapped[date | None]
    created_at: Mapped[datetime]
    version: Mapped[Version]


class ProductPicture(Base):
    """One row per picture of a product, in the order shown."""

    __tablename__ = "product_picture"
    __table_args__ = (UniqueConstraint("product_id", "position"), {"sqlite_strict": True})
    id: Mapped[Id]
    product_id: Mapped[int] = mapped_column(ref("product"))
    position: Mapped[Zero]
    url: Mapped[str]
    alt: Mapped[str | None]


class Sku(Base):
    """One row per SKU: what is priced, ordered and stocked. `kit` SKUs are sold as one and stocked as components."""

    __tablename__ = "sku"
    __table_args__ = (
        one_of("kind", ["item", "kit", "service"]),
        one_of("status", ["active", "discontinued"]),
        one_of("supply_mode", ["stock", "make"]),
        *never_negative("weight_g", "volume_cm3"),
        Index("ix_sku_pinyin", "pinyin"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    product_id: Mapped[int] = mapped_column(ref("product"), index=True)
    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str | None]
    spec: Mapped[Facts | None]  # {"口味": "清香", "净含量": "250 g"}
    pinyin: Mapped[str | None]  # initials and full, "tgy tieguanyin": found by typing either
    kind: Mapped[str] = mapped_column(default="item", server_default="item")
    supply_mode: Mapped[str] = mapped_column(default="stock", server_default="stock")
    is_stock_tracked: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    is_lot_tracked: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    base_unit: Mapped[str] = mapped_column(default="each", server_default="each")
    tax_rate_bp: Mapped[Zero]
    weight_g: Mapped[Zero]
    volume_cm3: Mapped[Zero]
    shelf_life_days: Mapped[int | None]
    status: Mapped[str] = mapped_column(default="active", server_default="active")
    origin: Mapped[str] = mapped_column(default="live", server_default="live")
    created_at: Mapped[datetime]
    version: Mapped[Version]


class SkuUnit(Base):
    """One row per selling unit of a SKU other than its base unit: a box of 12."""

    __tablename__ = "sku_unit"
    __table_args__ = (CheckConstraint("units_per_pack > 0", name="units_per_pack_positive"), {"sqlite_strict": True})
    sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    units_per_pack: Mapped[int]


class SkuBarcode(Base):
    """One row per barcode; `unit` says what is scanned, a piece or a box."""

    __tablename__ = "sku_barcode"
    __table_args__ = ({"sqlite_strict": True},)
    barcode: Mapped[str] = mapped_column(primary_key=True)
    sku_id: Mapped[int] = mapped_column(ref("sku"), index=True)
    unit: Mapped[str] = mapped_column(default="each", server_default="each")


class KitComponent(Base):
    """One row per component of a kit; `qty` base units of the component in one kit."""

    __tablename__ = "kit_component"
    __table_args__ = (
        CheckConstraint("qty > 0", name="qty_positive"),
        CheckConstraint("kit_sku_id <> component_sku_id", name="not_itself"),
        {"sqlite_strict": True},
    )
    kit_sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    component_sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    qty: Mapped[int]


class GiftRule(Base):
    """One row per gift (赠品): `gift_qty` of the gift for every `trigger_qty` of the trigger SKU ordered."""

    __tablename__ = "gift_rule"
    __table_args__ = (
        CheckConstraint("trigger_qty > 0 AND gift_qty > 0", name="qty_positive"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    trigger_sku_id: Mapped[int] = mapped_column(ref("sku"), index=True)
    trigger_qty: Mapped[int]
    gift_sku_id: Mapped[int] = mapped_column(ref("sku"))
    gift_qty: Mapped[int]
    valid_from_date: Mapped[date | None]
    valid_to_date: Mapped[date | None]


class Substitute(Base):
    """One row per SKU that may stand in for another, best rank first."""

    __tablename__ = "substitute"
    __table_args__ = (
        CheckConstraint("sku_id <> substitute_sku_id", name="not_itself"),
        {"sqlite_strict": True},
    )
    sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    substitute_sku_id: Mapped[int] = mapped_column(ref("sku"), primary_key=True)
    rank: Mapped[Zero]


class Price(Base):
    """One row per price and period. Contract beats level beats list; within a kind the highest `min_qty` reached wins.

    `unit` is the selling unit the price is for; `valid_to_date` is the last day, empty = open. `floor` is the price
    below which a line needs a second person.
    """

    __tablename__ = "price"
    __table_args__ = (
        one_of("kind", ["list", "level", "contract", "promotion", "floor"]),
        CheckConstraint("(kind = 'contract') = (customer_id IS NOT NULL)", name="contract_has_customer"),
        CheckConstraint("(kind = 'level') = (level_code IS NOT NULL)", name="level_has_code"),
        *never_negative("unit_price_cents"),
        CheckConstraint("min_qty > 0", name="min_qty_positive"),
        CheckConstraint("valid_to_date IS NULL OR valid_to_date >= valid_from_date", name="period"),
        Index("ix_price_sku", "sku_id", "kind"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    kind: Mapped[str]
    level_code: Mapped[str | None]
    customer_id: Mapped[int | None] = mapped_column(ref("customer"), index=True)
    currency: Mapped[str]
    unit: Mapped[str] = mapped_column(default="each", server_default="each")
    min_qty: Mapped[int] = mapped_column(default=1, server_default="1")  # in `unit`
    unit_price_cents: Mapped[int]
    valid_from_date: Mapped[date]
    valid_to_date: Mapped[date | None]
    approved_by: Mapped[str | None]
    created_at: Mapped[datetime]


class Cost(Base):
    """One row per cost of a base unit and period, standard or moving average."""

    __tablename__ = "cost"
    __table_args__ = (
        one_of("kind", ["standard", "moving_average"]),
        *never_negative("unit_cost_cents"),
        Index("ix_cost_sku", "sku_id", "valid_from_date"),
        {"sqlite_strict": True},
    )
    id: Mapped[Id]
    sku_id: Mapped[int] = mapped_column(ref("sku"))
    location_id: Mapped[int | None] = mapped_column(ref("location"))
    kind: Mapped[str]
    currency: Mapped[str]
    unit_cost_cents: Mapped[int]
    valid_from_date: Mapped[date]
    valid_to_date: Mapped[date | None]
    created_at: Mapped[datetime]
