"""What has to be there before an order can be: channels, places, carriers, suppliers, customers, products, prices, offers.

Each `save_…` makes the row when its code is new and changes it otherwise; saving the same again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from pypinyin import Style, lazy_pinyin
from sqlalchemy import insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import build_rules
from orders_core.errors import InvalidCommand, NotFound
from orders_core.services.drafting import bump_offers
from orders_core.store import tables as t
from orders_core.store.base import Base
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class Saved:
    """The row's id and what happened to it: `insert`, `update`, or `same`."""

    id: int
    operation: str


def _save(uow: UnitOfWork, table: type[Base], key: Mapping[str, Any], values: Mapping[str, Any]) -> Saved:
    """Insert or update one row by its natural key, with version and change log where the table has them."""
    columns = table.__table__.c
    row = uow.row(select(table.__table__).where(*(columns[name] == value for name, value in key.items())))
    has_version = "version" in columns
    name = str(table.__tablename__)
    if row is None:
        new = {"id": uow.new_id(), **key, **values}
        if "created_at" in columns:
            new.setdefault("created_at", uow.now)
        uow.conn.execute(insert(table), new)
        if has_version:
            uow.changed(name, new["id"], 1, "insert")
        return Saved(new["id"], "insert")
    changed = {column: value for column, value in values.items() if getattr(row, column) != value}
    if not changed:
        return Saved(row.id, "same")
    if has_version:
        changed["version"] = row.version + 1
        uow.changed(name, row.id, row.version + 1)
    uow.conn.execute(update(table).where(columns.id == row.id).values(**changed))
    return Saved(row.id, "update")


def _id(uow: UnitOfWork, table: type[Base], code: str, entity: str, column: str = "code") -> int:
    columns = table.__table__.c
    found = uow.conn.execute(select(columns.id).where(columns[column] == code)).scalar()
    if found is None:
        raise NotFound(entity=entity, key=code)
    return int(found)


@dataclass(frozen=True)
class ChannelIn:
    """A way orders come in. `policy` overrides parts of the rules, e.g. {"shortage": {"policy": "backorder"}}."""

    code: str
    name: str
    kind: str
    name_en: str | None = None
    policy: Mapping[str, Any] | None = None


def save_channel(uow: UnitOfWork, actor: Actor, command: ChannelIn) -> Saved:
    """Make or change a channel; a policy with unknown keys is refused naming the path."""
    actor.must("setup.change")
    current = uow.conn.execute(select(t.RuleSet.body).where(t.RuleSet.is_current)).scalar_one()
    build_rules(current, command.policy)
    values = {"name": command.name, "name_en": command.name_en, "kind": command.kind, "policy": command.policy}
    return _save(uow, t.Channel, {"code": command.code}, values)


@dataclass(frozen=True)
class LocationIn:
    """A place that holds or ships goods. Coordinates both or none."""

    code: str
    name: str
    name_en: str | None = None
    kind: str = "warehouse"
    region: str | None = None
    address: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    rank: int = 0
    is_default: bool = False
    is_stock_tracked: bool = True
    can_ship: bool = True


def save_location(uow: UnitOfWork, actor: Actor, command: LocationIn) -> Saved:
    """Make or change a location; a new default takes the word from the old one."""
    actor.must("setup.change")
    if command.is_default:
        uow.conn.execute(
            update(t.Location).where(t.Location.is_default, t.Location.code != command.code).values(is_default=False)
        )
    values = {name: value for name, value in command.__dict__.items() if name != "code"}
    return _save(uow, t.Location, {"code": command.code}, values)


@dataclass(frozen=True)
class RateIn:
    """What a carrier asks to a region (None = everywhere else)."""

    region: str | None
    base_cents: int
    per_kg_cents: int
    transit_days: int
    currency: str = "CNY"


@dataclass(frozen=True)
class CarrierIn:
    code: str
    name: str
    name_en: str | None = None
    kind: str = "courier"
    needs_tracking_number: bool = True
    rates: Sequence[RateIn] = ()


def save_carrier(uow: UnitOfWork, actor: Actor, command: CarrierIn) -> Saved:
    """Make or change a carrier and its rates."""
    actor.must("setup.change")
    values = {name: value for name, value in command.__dict__.items() if name not in ("code", "rates")}
    saved = _save(uow, t.Carrier, {"code": command.code}, values)
    for rate in command.rates:
        key = {"carrier_id": saved.id, "region": rate.region}
        _save(uow, t.CarrierRate, key, {k: v for k, v in rate.__dict__.items() if k != "region"})
    return saved


@dataclass(frozen=True)
class OfferedSku:
    """What a supplier asks for a SKU; lead time None = the supplier's."""

    sku: str
    unit_cost_cents: int
    min_order_qty: int = 1
    pack_qty: int = 1
    lead_time_days: int | None = None
    rank: int = 0


@dataclass(frozen=True)
class SupplierIn:
    code: str
    name: str
    lead_time_days: int
    name_en: str | None = None
    lead_time_sd_days: float = 0.0
    review_period_days: int = 7
    min_order_cents: int = 0
    currency: str = "CNY"
    email: str | None = None
    offers: Sequence[OfferedSku] = ()
    closed_days: Sequence[date] = ()


def save_supplier(uow: UnitOfWork, actor: Actor, command: SupplierIn) -> Saved:
    """Make or change a supplier, what it offers and the days it is closed."""
    actor.must("setup.change")
    own = {"code", "offers", "closed_days"}
    values = {name: value for name, value in command.__dict__.items() if name not in own}
    saved = _save(uow, t.Supplier, {"code": command.code}, values)
    for offer in command.offers:
        sku_id = _id(uow, t.Sku, offer.sku, "SKU", "sku")
        terms = {name: value for name, value in offer.__dict__.items() if name != "sku"}
        known = uow.row(
            select(t.SupplierSku.sku_id).where(t.SupplierSku.supplier_id == saved.id, t.SupplierSku.sku_id == sku_id)
        )
        if known is None:
            uow.conn.execute(insert(t.SupplierSku), {"supplier_id": saved.id, "sku_id": sku_id, **terms})
        else:
            uow.conn.execute(
                update(t.SupplierSku)
                .where(t.SupplierSku.supplier_id == saved.id, t.SupplierSku.sku_id == sku_id)
                .values(**terms)
            )
    known_days = {
        row.day for row in uow.rows(select(t.SupplierClosedDay.day).where(t.SupplierClosedDay.supplier_id == saved.id))
    }
    new_days = [day for day in command.closed_days if day not in known_days]
    if new_days:
        uow.conn.execute(insert(t.SupplierClosedDay), [{"supplier_id": saved.id, "day": day} for day in new_days])
    return saved


@dataclass(frozen=True)
class CustomerIn:
    """A customer with its main contact and default address. `credit_limit_cents` None = no credit."""

    code: str
    name: str
    kind: str = "business"
    language: str = "zh"
    currency: str = "CNY"
    level_code: str | None = None
    credit_limit_cents: int | None = None
    terms_days: int = 0
    salesperson: str | None = None
    contact: str | None = None
    email: str | None = None
    phone: str | None = None
    recipient: str | None = None
    street: str | None = None
    city: str | None = None
    district: str | None = None
    region: str | None = None
    postcode: str | None = None
    country: str = "CN"
    latitude: float | None = None
    longitude: float | None = None
    consents: Sequence[tuple[str, str, bool]] = ()  # (medium, purpose, granted)
    status: str = "active"


def save_customer(uow: UnitOfWork, actor: Actor, command: CustomerIn) -> Saved:
    """Make or change a customer, its main contact, default address and consents."""
    actor.must("customer.change")
    salesperson_id = None
    if command.salesperson is not None:
        salesperson_id = _id(uow, t.Staff, command.salesperson, "colleague")
    own = ("name", "kind", "language", "currency", "level_code", "credit_limit_cents", "terms_days", "status")
    values = {name: getattr(command, name) for name in own}
    saved = _save(uow, t.Customer, {"code": command.code}, {**values, "salesperson_id": salesperson_id})
    parts = []
    if command.contact or command.email or command.phone:
        contact = {"name": command.contact or command.name, "phone": command.phone, "email": command.email}
        parts.append(_save(uow, t.CustomerContact, {"customer_id": saved.id, "is_primary": True}, contact))
    if command.street:
        place = ("city", "district", "region", "postcode", "country", "latitude", "longitude", "street", "phone")
        address = {name: getattr(command, name) for name in place}
        address["recipient"] = command.recipient or command.contact or command.name
        parts.append(_save(uow, t.CustomerAddress, {"customer_id": saved.id, "is_default": True}, address))
    if saved.operation == "same" and any(part.operation != "same" for part in parts):
        # Contacts and addresses have no version of their own: a change of theirs is a change of the customer.
        raised = update(t.Customer).where(t.Customer.id == saved.id).values(version=t.Customer.version + 1)
        uow.changed("customer", saved.id, uow.conn.execute(raised.returning(t.Customer.version)).scalar_one())
        saved = Saved(saved.id, "update")
    for medium, purpose, is_granted in command.consents:
        newest = uow.conn.execute(
            select(t.ConsentEvent.is_granted)
            .where(
                t.ConsentEvent.customer_id == saved.id,
                t.ConsentEvent.medium == medium,
                t.ConsentEvent.purpose == purpose,
            )
            .order_by(t.ConsentEvent.at.desc(), t.ConsentEvent.id.desc())
            .limit(1)
        ).scalar()
        if newest != is_granted:
            row = {"id": uow.new_id(), "customer_id": saved.id, "medium": medium, "purpose": purpose}
            uow.conn.execute(
                insert(t.ConsentEvent), {**row, "is_granted": is_granted, "evidence": actor.name, "at": uow.now}
            )
    return saved


@dataclass(frozen=True)
class PriceIn:
    """A price from a day on. `level_code` for kind level, `customer` for kind contract."""

    kind: str
    unit_price_cents: int
    valid_from_date: date
    currency: str = "CNY"
    unit: str = "each"
    min_qty: int = 1
    level_code: str | None = None
    customer: str | None = None
    valid_to_date: date | None = None


@dataclass(frozen=True)
class SkuIn:
    """A SKU; `boxes` = {unit: units per pack}, `components` makes it a kit, `unit_cost_cents` its standard cost."""

    sku: str
    name: str
    name_en: str | None = None
    spec: Mapping[str, str] | None = None
    kind: str = "item"
    supply_mode: str = "stock"
    is_stock_tracked: bool = True
    is_lot_tracked: bool = False
    weight_g: int = 0
    volume_cm3: int = 0
    shelf_life_days: int | None = None
    status: str = "active"
    boxes: Mapping[str, int] = field(default_factory=dict)
    barcodes: Mapping[str, str] = field(default_factory=dict)  # barcode → unit
    components: Mapping[str, int] = field(default_factory=dict)
    prices: Sequence[PriceIn] = ()
    unit_cost_cents: int | None = None


@dataclass(frozen=True)
class ProductIn:
    """A product with its SKUs; the category is made when new."""

    code: str
    name: str
    skus: Sequence[SkuIn]
    name_en: str | None = None
    category: str | None = None
    category_en: str | None = None
    brand: str | None = None
    tax_rate_bp: int = 0
    supply_mode: str = "stock"
    status: str = "active"
    launched_date: date | None = None
    discontinued_date: date | None = None
    pictures: Sequence[str] = ()


def pinyin_of(name: str) -> str:
    """Initials and full pinyin, so that both find it.

    >>> pinyin_of("铁观音")
    'tgy tieguanyin'
    """
    initials = "".join(lazy_pinyin(name, style=Style.FIRST_LETTER)).lower().replace(" ", "")
    return f"{initials} {''.join(lazy_pinyin(name)).lower().replace(' ', '')}"


def save_product(uow: UnitOfWork, actor: Actor, command: ProductIn) -> Saved:
    """Make or change a product with its SKUs, packs, barcodes, kit components, prices and cost.

    Raises NotFound for a missing component, InvalidCommand for a kit that contains itself, naming the path.
    """
    actor.must("catalogue.change")
    category_id = None
    if command.category is not None:
        names = {"name": command.category, "name_en": command.category_en}
        category_id = _save(uow, t.Category, {"code": command.category}, names).id
    own = ("name", "name_en", "brand", "tax_rate_bp", "supply_mode", "status", "launched_date", "discontinued_date")
    values = {name: getattr(command, name) for name in own}
    saved = _save(uow, t.Product, {"code": command.code}, {**values, "category_id": category_id})
    for item in command.skus:
        _save_sku(uow, saved.id, command, item)
    for position, url in enumerate(command.pictures):
        _save(uow, t.ProductPicture, {"product_id": saved.id, "position": position}, {"url": url, "alt": command.name})
    return saved


def _save_sku(uow: UnitOfWork, product_id: int, product: ProductIn, item: SkuIn) -> None:
    kind = "kit" if item.components else item.kind
    own = (
        "name",
        "name_en",
        "spec",
        "supply_mode",
        "is_lot_tracked",
        "weight_g",
        "volume_cm3",
        "shelf_life_days",
        "status",
    )
    values = {name: getattr(item, name) for name in own}
    saved = _save(
        uow,
        t.Sku,
        {"sku": item.sku},
        {
            **values,
            "product_id": product_id,
            "kind": kind,
            "is_stock_tracked": item.is_stock_tracked and kind == "item",
            "pinyin": pinyin_of(item.name),
            "tax_rate_bp": product.tax_rate_bp,
        },
    )
    packs = {r.unit: r for r in uow.rows(select(t.SkuUnit.__table__).where(t.SkuUnit.sku_id == saved.id))}
    for unit, size in item.boxes.items():
        if unit not in packs:
            uow.conn.execute(insert(t.SkuUnit), {"sku_id": saved.id, "unit": unit, "units_per_pack": size})
        elif packs[unit].units_per_pack != size:
            raise InvalidCommand(
                field=f"{item.sku} {unit}", problem="pack_size_is_fixed", units_per_pack=packs[unit].units_per_pack
            )
    for barcode, unit in item.barcodes.items():
        owner = uow.conn.execute(select(t.SkuBarcode.sku_id).where(t.SkuBarcode.barcode == barcode)).scalar()
        if owner is None:
            uow.conn.execute(insert(t.SkuBarcode), {"barcode": barcode, "sku_id": saved.id, "unit": unit})
        elif owner != saved.id:
            raise InvalidCommand(field=f"{item.sku} barcode", problem="barcode_is_anothers", barcode=barcode)
    _save_components(uow, saved.id, item)
    for price in item.prices:
        save_price(uow, saved.id, price)
    if item.unit_cost_cents is not None:
        _save_cost(uow, saved.id, item.unit_cost_cents, first_date=product.launched_date or date(2000, 1, 1))


def _save_cost(uow: UnitOfWork, sku_id: int, cents: int, *, first_date: date) -> None:
    """The standard cost from today on; the first one holds since `first_date`. What it was until yesterday stays known."""
    query = select(t.Cost.__table__).where(t.Cost.sku_id == sku_id, t.Cost.kind == "standard")
    old = uow.row(query.where(t.Cost.valid_to_date.is_(None)).order_by(t.Cost.valid_from_date.desc()).limit(1))
    if old is not None and old.unit_cost_cents == cents:
        return
    if old is not None and old.valid_from_date < uow.today:
        ended = update(t.Cost).where(t.Cost.id == old.id)
        uow.conn.execute(ended.values(valid_to_date=uow.today - timedelta(days=1)))
        first_date = uow.today
    elif old is not None:
        first_date = old.valid_from_date
    key = {"sku_id": sku_id, "kind": "standard", "valid_from_date": first_date}
    _save(uow, t.Cost, key, {"unit_cost_cents": cents, "currency": "CNY"})


def _save_components(uow: UnitOfWork, kit_id: int, item: SkuIn) -> None:
    for code, qty in item.components.items():
        part = uow.row(select(t.Sku.id, t.Sku.kind).where(t.Sku.sku == code))
        if part is None:
            raise NotFound(entity="component", key=f"{item.sku} → {code}")
        if part.kind == "kit":
            raise InvalidCommand(field=f"{item.sku} → {code}", problem="kit_in_a_kit")
        known = uow.conn.execute(
            select(t.KitComponent.qty).where(
                t.KitComponent.kit_sku_id == kit_id, t.KitComponent.component_sku_id == part.id
            )
        ).scalar()
        if known is None:
            uow.conn.execute(insert(t.KitComponent), {"kit_sku_id": kit_id, "component_sku_id": part.id, "qty": qty})


def save_price(uow: UnitOfWork, sku_id: int, price: PriceIn) -> Saved:
    """Make a price or change its amount; one per SKU, kind, scope, unit, tier and first day."""
    customer_id = None if price.customer is None else _id(uow, t.Customer, price.customer, "customer")
    key = {
        "sku_id": sku_id,
        "kind": price.kind,
        "level_code": price.level_code,
        "customer_id": customer_id,
        "currency": price.currency,
        "unit": price.unit,
        "min_qty": price.min_qty,
        "valid_from_date": price.valid_from_date,
    }
    return _save(uow, t.Price, key, {"unit_price_cents": price.unit_price_cents, "valid_to_date": price.valid_to_date})


@dataclass(frozen=True)
class PromotionIn:
    """A promotion; `rule` as in domain/pricing.Offer."""

    code: str
    name: str
    kind: str
    rule: Mapping[str, Any]
    starts_at: datetime
    ends_at: datetime | None = None
    name_en: str | None = None
    priority: int = 0
    needs_coupon: bool = False
    is_active: bool = True


def save_promotion(uow: UnitOfWork, actor: Actor, command: PromotionIn) -> Saved:
    """Make or change a promotion; it holds from the next order on."""
    actor.must("promotion.change")
    needs = {"order_threshold": {"from_cents", "off_cents"}, "percent": {"ratio_bp"}, "free_shipping": {"from_cents"}}
    missing = needs.get(command.kind, set()) - command.rule.keys()
    if command.kind not in needs or missing:
        raise InvalidCommand(
            field="rule", problem="rule_incomplete", kind=command.kind, missing=", ".join(sorted(missing)) or "-"
        )
    values = {name: value for name, value in command.__dict__.items() if name != "code"}
    saved = _save(uow, t.Promotion, {"code": command.code}, {**values, "rule": dict(command.rule)})
    if saved.operation != "same":
        bump_offers(uow)
    return saved


@dataclass(frozen=True)
class GiftIn:
    """`gift_qty` of the gift for every `trigger_qty` of the trigger."""

    trigger_sku: str
    trigger_qty: int
    gift_sku: str
    gift_qty: int = 1
    valid_from_date: date | None = None
    valid_to_date: date | None = None


def save_gift_rule(uow: UnitOfWork, actor: Actor, command: GiftIn) -> Saved:
    """Make or change a gift rule; it holds from the next order on."""
    actor.must("promotion.change")
    key = {
        "trigger_sku_id": _id(uow, t.Sku, command.trigger_sku, "SKU", "sku"),
        "gift_sku_id": _id(uow, t.Sku, command.gift_sku, "SKU", "sku"),
        "trigger_qty": command.trigger_qty,
    }
    dates = {"valid_from_date": command.valid_from_date, "valid_to_date": command.valid_to_date}
    saved = _save(uow, t.GiftRule, key, {"gift_qty": command.gift_qty, **dates})
    if saved.operation != "same":
        bump_offers(uow)
    return saved


@dataclass(frozen=True)
class StaffIn:
    code: str
    name: str
    roles: Sequence[str]
    email: str | None = None
    language: str = "zh"


def save_staff(uow: UnitOfWork, actor: Actor, command: StaffIn) -> Saved:
    """Make or change a colleague."""
    actor.must("setup.change")
    values = {"name": command.name, "roles": list(command.roles), "email": command.email, "language": command.language}
    return _save(uow, t.Staff, {"code": command.code}, values)


@dataclass(frozen=True)
class ChangeRules:
    """Parts of the rules to change, with the reason."""

    parts: Mapping[str, Any]
    reason: str


def change_rules(uow: UnitOfWork, actor: Actor, command: ChangeRules) -> int:
    """A new version of the rules: the current ones with these parts laid over; returns the version.

    Raises pydantic.ValidationError naming the path of an unknown or wrong key; nothing is written then.
    """
    actor.must("setup.change")
    return new_rules(uow, actor, command)


def new_rules(uow: UnitOfWork, actor: Actor, command: ChangeRules) -> int:
    """What `change_rules` does, for services that say themselves who may change which part."""
    now = uow.rows(select(t.RuleSet.version, t.RuleSet.body).where(t.RuleSet.is_current))[0]
    body = build_rules(now.body, command.parts).model_dump(mode="json")
    uow.conn.execute(update(t.RuleSet).where(t.RuleSet.is_current).values(is_current=False))
    version = int(now.version) + 1
    row = {"version": version, "is_current": True, "body": body, "author": actor.name, "reason": command.reason}
    uow.conn.execute(insert(t.RuleSet), {**row, "created_at": uow.now})
    uow.audit(
        actor, "rules.change", "rule_set", version, facts={"parts": dict(command.parts), "reason": command.reason}
    )
    return version
