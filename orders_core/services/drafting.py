"""From what was asked for to what an order would be: SKUs, units, prices, kits, gifts, offers. Reads only.

Placing and editing an order both draft it here, so that a preview and the real thing cannot differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, or_, select, text

from orders_core.domain.pricing import (
    Offer,
    PricedLine,
    PriceRow,
    Totals,
    cancelled_cents,
    choose_price,
    price_order,
)
from orders_core.domain.rules import Rules, build_rules
from orders_core.errors import InvalidCommand, InvalidQuantity, NotFound
from orders_core.store.prepared import Prepared
from orders_core.store.tables import Coupon, GiftRule, KitComponent, Price, Promotion, RuleSet, Sku, SkuUnit
from orders_core.store.uow import UnitOfWork

MAX_QTY = 9_999_999
MAX_LINES = 2_000
MAX_CENTS = 9 * 10**15  # of a line or an order: a 64-bit integer, and a number every JSON reader keeps exact


@dataclass(frozen=True)
class LineIn:
    """A line as asked for: `qty` of `unit` (None = pieces). `unit_price_cents` only where a person may set prices."""

    sku: str
    qty: int
    unit: str | None = None
    unit_price_cents: int | None = None
    note: str | None = None
    external_line_no: str | None = None


@dataclass(frozen=True)
class SkuRow:
    """What drafting knows of one SKU for this customer today."""

    id: int
    sku: str
    name: str
    name_en: str | None
    kind: str
    base_unit: str
    supply_mode: str
    is_stock_tracked: bool
    tax_rate_bp: int
    weight_g: int
    status: str
    prices: Sequence[PriceRow]


@dataclass
class DraftLine:
    """One line of the order to be; parts point at their parent by position."""

    line_no: int
    kind: str
    sku: SkuRow
    unit: str
    units_per_pack: int
    pack_qty: int
    unit_price_cents: int
    price_kind: str
    list_price_cents: int | None
    parent_no: int | None = None
    note: str | None = None
    external_line_no: str | None = None
    discount_cents: int = 0
    tax_cents: int = 0
    net_cents: int = 0
    cancelled_qty: int = 0  # base units of it that were cancelled since, of a box part of which has gone

    @property
    def ordered_qty(self) -> int:
        """Base units."""
        return self.pack_qty * self.units_per_pack

    @property
    def standing_qty(self) -> int:
        """Base units still wanted."""
        return self.ordered_qty - self.cancelled_qty

    @property
    def cancelled_cents(self) -> int:
        """The share of its gross for what was cancelled."""
        gross = self.pack_qty * self.unit_price_cents
        return cancelled_cents(gross, ordered_qty=self.ordered_qty, cancelled_qty=self.cancelled_qty)

    def worth_cents(self, *, is_tax_on_top: bool) -> int:
        """What is paid for it: net without what was cancelled, and the tax when it comes on top."""
        return self.net_cents - self.cancelled_cents + (self.tax_cents if is_tax_on_top else 0)

    @property
    def takes_stock(self) -> bool:
        return self.kind in ("item", "component", "gift") and self.sku.is_stock_tracked

    @property
    def ships(self) -> bool:
        return self.kind in ("item", "component", "gift")


@dataclass
class Draft:
    """An order as it would be: lines with money, totals, and what a person should look at."""

    lines: list[DraftLine]
    totals: Totals
    price_problems: list[Mapping[str, Any]]
    shipping_cents: int
    coupon_id: int | None = None


@dataclass(frozen=True)
class Offers:
    """The promotions and gift rules in force, cached under their version."""

    promotions: tuple[Offer, ...] = ()
    gifts: Mapping[int, Sequence[Any]] = field(default_factory=dict)  # trigger SKU id -> gift rules


_SKUS = (
    select(
        Sku.id,
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.kind,
        Sku.base_unit,
        Sku.supply_mode,
        Sku.is_stock_tracked,
        Sku.tax_rate_bp,
        Sku.weight_g,
        Sku.status,
        Price.kind.label("price_kind"),
        Price.unit.label("price_unit"),
        Price.min_qty,
        Price.unit_price_cents,
    )
    .outerjoin(
        Price,
        and_(
            Price.sku_id == Sku.id,
            Price.currency == bindparam("currency"),
            Price.valid_from_date <= bindparam("today"),
            or_(Price.valid_to_date.is_(None), Price.valid_to_date >= bindparam("today")),
            or_(
                Price.kind.in_(["list", "promotion", "floor"]),
                and_(Price.kind == "level", Price.level_code == bindparam("level_code")),
                and_(Price.kind == "contract", Price.customer_id == bindparam("customer_id")),
            ),
        ),
    )
    .order_by(Sku.id)
)
_SKUS_BY_CODE = Prepared(_SKUS.where(Sku.sku.in_(bindparam("skus", expanding=True))))
_SKUS_BY_ID = Prepared(_SKUS.where(Sku.id.in_(bindparam("sku_ids", expanding=True))))
_UNITS = select(SkuUnit.sku_id, SkuUnit.unit, SkuUnit.units_per_pack).where(
    SkuUnit.sku_id.in_(bindparam("sku_ids", expanding=True))
)
_COMPONENTS = (
    select(KitComponent.kit_sku_id, KitComponent.component_sku_id, KitComponent.qty)
    .where(KitComponent.kit_sku_id.in_(bindparam("sku_ids", expanding=True)))
    .order_by(KitComponent.kit_sku_id, KitComponent.component_sku_id)
)


def rules_for(uow: UnitOfWork, *, version: int, channel_code: str, policy: Mapping[str, Any] | None) -> Rules:
    """The rules of this version with the channel's policy laid over them; built once per process and version."""
    key = ("rules", version, channel_code, str(policy) if policy else "")
    rules = uow.cache.get(key)
    if rules is None:
        body = uow.conn.execute(select(RuleSet.body).where(RuleSet.version == version)).scalar_one()
        rules = uow.cache[key] = build_rules(body, policy)
    found: Rules = rules
    return found


def offer_of(row: Any) -> Offer:
    """A promotion's row as pricing sees it."""
    return Offer(row.id, row.kind, row.rule, row.name, row.priority, row.needs_coupon, row.starts_at, row.ends_at)


def offers_in_force(uow: UnitOfWork, version: int) -> Offers:
    """Promotions and gift rules, read once per process and `version` (see bump_offers)."""
    key = ("offers", version)
    offers = uow.cache.get(key)
    if offers is None:
        promotions = tuple(offer_of(row) for row in uow.rows(select(Promotion.__table__).where(Promotion.is_active)))
        gifts: dict[int, list[Any]] = defaultdict(list)
        for rule in uow.rows(select(GiftRule.__table__).order_by(GiftRule.id)):
            gifts[rule.trigger_sku_id].append(rule)
        offers = uow.cache[key] = Offers(promotions, gifts)
    found: Offers = offers
    return found


def bump_offers(uow: UnitOfWork) -> None:
    """Tell every process that promotions or gift rules changed; call it in the transaction that changes them."""
    uow.conn.execute(
        text(
            "INSERT INTO number_series (name, next_value) VALUES ('offers', 2)"
            " ON CONFLICT (name) DO UPDATE SET next_value = number_series.next_value + 1"
        )
    )


@dataclass(frozen=True)
class Pricing:
    """For whom and when lines are priced."""

    customer_id: int
    level_code: str | None
    currency: str
    rules: Rules
    offers: Offers
    coupon_code: str | None = None
    may_set_prices: bool = False
    offers_at: datetime | None = None  # an edited order keeps the offers of the moment it was placed
    has_spent_coupon: bool = False  # and the coupon it spent then
    is_free: bool = False  # an exchange or a resend costs nothing


def check_lines(lines: Sequence[LineIn]) -> None:
    """Refuse an empty order, too many lines, and quantities that are not whole numbers from 1 to 9,999,999."""
    if not lines:
        raise InvalidCommand(field="lines", problem="order_without_lines")
    if len(lines) > MAX_LINES:
        raise InvalidCommand(field="lines", problem="too_many_lines", lines_count=len(lines), limit_count=MAX_LINES)
    for number, line in enumerate(lines, 1):
        if type(line.qty) is not int or not 1 <= line.qty <= MAX_QTY:
            raise InvalidQuantity(place=f"line {number} ({line.sku})", qty=line.qty)
        if line.unit_price_cents is not None and not 0 <= line.unit_price_cents <= 10**12:
            raise InvalidCommand(
                field=f"lines[{number}].unit_price_cents",
                problem="price_out_of_range",
                price_cents=line.unit_price_cents,
            )


def load_skus(
    uow: UnitOfWork, pricing: Pricing, *, codes: Sequence[str] = (), ids: Sequence[int] = ()
) -> dict[int, SkuRow]:
    """SKUs by id with the prices valid today for this customer."""
    parameters: dict[str, Any] = {
        "currency": pricing.currency,
        "today": uow.today,
        "level_code": pricing.level_code,
        "customer_id": pricing.customer_id,
    }
    if codes:
        rows = uow.rows(_SKUS_BY_CODE, {**parameters, "skus": list(codes)})
    else:
        rows = uow.rows(_SKUS_BY_ID, {**parameters, "sku_ids": list(ids)})
    found: dict[int, tuple[Any, list[PriceRow]]] = {}
    for row in rows:
        entry = found.setdefault(row.id, (row, []))
        if row.price_kind is not None:
            entry[1].append(PriceRow(row.price_kind, row.price_unit, row.min_qty, row.unit_price_cents))
    return {sku_id: SkuRow(*row[:11], prices) for sku_id, (row, prices) in found.items()}  # type: ignore[call-arg]


def draft_order(uow: UnitOfWork, pricing: Pricing, lines: Sequence[LineIn]) -> Draft:
    """Resolve, price and total the lines; kits bring their components, triggers their gifts.

    Raises:
        NotFound: a SKU is not there (all unknown ones are named).
        InvalidCommand: a SKU is discontinued, has no price, or no such unit.
    """
    check_lines(lines)
    known = load_skus(uow, pricing, codes=sorted({line.sku for line in lines}))
    by_code = {row.sku: row for row in known.values()}
    unknown = sorted({line.sku for line in lines} - by_code.keys())
    if unknown:
        raise NotFound(entity="SKU", key=", ".join(unknown), keys=unknown)
    units = _packs(uow, lines, by_code)
    drafted: list[DraftLine] = []
    problems: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        sku = by_code[line.sku]
        if sku.status != "active":
            raise InvalidCommand(field=f"lines[{number}].sku", problem="discontinued", sku=sku.sku)
        unit = line.unit or sku.base_unit
        per_pack = units[sku.id, unit]
        chosen = choose_price(sku.prices, unit=unit, units_per_pack=per_pack, pack_qty=line.qty)
        price, price_kind = (chosen.unit_price_cents, chosen.kind) if chosen else (None, "manual")
        if pricing.is_free:
            price, price_kind, chosen = 0, "manual", None
        elif line.unit_price_cents is not None:
            if not pricing.may_set_prices:
                raise InvalidCommand(field=f"lines[{number}].unit_price_cents", problem="prices_are_ours")
            if price is not None and line.unit_price_cents != price:
                problems.append(
                    {
                        "code": "price_changed",
                        "sku": sku.sku,
                        "price_cents": line.unit_price_cents,
                        "expected_cents": price,
                    }
                )
                price_kind = "manual"
            price = line.unit_price_cents
        if price is None:
            raise InvalidCommand(
                field=f"lines[{number}].sku", problem="no_price", sku=sku.sku, currency=pricing.currency
            )
        floor = chosen.floor_cents if chosen else None
        if floor is not None and price < floor:
            problems.append({"code": "below_floor", "sku": sku.sku, "price_cents": price, "floor_cents": floor})
        drafted.append(
            DraftLine(
                line_no=number,
                kind=sku.kind,
                sku=sku,
                unit=unit,
                units_per_pack=per_pack,
                pack_qty=line.qty,
                unit_price_cents=price,
                price_kind=price_kind,
                list_price_cents=chosen.list_price_cents if chosen else None,
                note=line.note,
                external_line_no=line.external_line_no,
            )
        )
    drafted += _parts(uow, pricing, drafted, known)
    return total_draft(uow, pricing, drafted, problems)


def total_draft(
    uow: UnitOfWork,
    pricing: Pricing,
    lines: list[DraftLine],
    problems: Sequence[Mapping[str, Any]] = (),
    *,
    shipping_cents: int | None = None,
    other_charges_cents: int = 0,
) -> Draft:
    """Total lines that are already resolved: offers, discount shares, shipping fee, tax. The lines are updated in place."""
    offers, coupon_id = ([], None) if pricing.is_free else _applicable_offers(uow, pricing)
    priced = [
        PricedLine(x.sku.sku, x.pack_qty, x.unit_price_cents, x.sku.tax_rate_bp, cancelled_cents=x.cancelled_cents)
        for x in lines
    ]
    goods = sum(line.standing_cents for line in priced)
    for line, gross in zip(lines, priced, strict=True):
        _must_fit(f"lines[{line.line_no}]", gross.gross_cents)
    _must_fit("total", goods)
    if pricing.is_free:
        shipping_cents = 0
    if shipping_cents is None:
        fee = pricing.rules.shipping.fee_cents.get(pricing.currency, 0)
        free_from = pricing.rules.shipping.free_from_cents.get(pricing.currency)
        shipping_cents = 0 if free_from is not None and goods >= free_from else fee
    totals = price_order(
        priced,
        offers=offers,
        shipping_cents=shipping_cents,
        other_charges_cents=other_charges_cents,
        prices_include_tax=pricing.rules.prices_include_tax,
    )
    _must_fit("total", totals.total_cents)
    for line, money in zip(lines, totals.lines, strict=True):
        line.discount_cents, line.tax_cents, line.net_cents = money.discount_cents, money.tax_cents, money.net_cents
    shipping = 0 if totals.is_shipping_free else shipping_cents
    return Draft(lines, totals, list(problems), shipping, coupon_id)


def _must_fit(field: str, cents: int) -> None:
    if cents > MAX_CENTS:
        raise InvalidCommand(field=field, problem="amount_too_large", cents=cents, limit_cents=MAX_CENTS)


def _packs(uow: UnitOfWork, lines: Sequence[LineIn], by_code: Mapping[str, SkuRow]) -> dict[tuple[int, str], int]:
    """(SKU id, unit) -> base units in one; only asked for when a line is not in base units."""
    packs = {(row.id, row.base_unit): 1 for row in by_code.values()}
    asked = {by_code[line.sku].id for line in lines if line.unit not in (None, by_code[line.sku].base_unit)}
    if asked:
        for row in uow.rows(_UNITS, {"sku_ids": sorted(asked)}):
            packs[row.sku_id, row.unit] = row.units_per_pack
        for number, line in enumerate(lines, 1):
            if line.unit is not None and (by_code[line.sku].id, line.unit) not in packs:
                raise InvalidCommand(field=f"lines[{number}].unit", problem="not_sold_by", sku=line.sku, unit=line.unit)
    return packs


def _parts(
    uow: UnitOfWork, pricing: Pricing, lines: Sequence[DraftLine], known: Mapping[int, SkuRow]
) -> list[DraftLine]:
    """The component lines of kits and the gift lines of triggers, numbered after the lines themselves."""
    wanted: list[tuple[DraftLine, str, int, int]] = []  # parent, kind, SKU id, base units
    kits = sorted({line.sku.id for line in lines if line.kind == "kit"})
    if kits:
        components: dict[int, list[Any]] = defaultdict(list)
        for row in uow.rows(_COMPONENTS, {"sku_ids": kits}):
            components[row.kit_sku_id].append(row)
        for line in lines:
            if line.kind == "kit":
                if not components[line.sku.id]:
                    raise InvalidCommand(
                        field=f"lines[{line.line_no}].sku", problem="kit_without_parts", sku=line.sku.sku
                    )
                for row in components[line.sku.id]:
                    wanted.append((line, "component", row.component_sku_id, row.qty * line.ordered_qty))
    for line in lines:
        gifts = gifts_due(uow, pricing, trigger_sku_id=line.sku.id, qty=line.ordered_qty)
        wanted += [(line, "gift", sku_id, units) for sku_id, units in gifts.items()]
    if not wanted:
        return []
    missing = sorted({sku_id for _, _, sku_id, _ in wanted} - known.keys())
    skus = {**known, **(load_skus(uow, pricing, ids=missing) if missing else {})}
    return [
        part_line(skus[sku_id], qty, line_no=len(lines) + i, parent_no=parent.line_no, kind=kind)
        for i, (parent, kind, sku_id, qty) in enumerate(wanted, 1)
    ]


def gifts_due(uow: UnitOfWork, pricing: Pricing, *, trigger_sku_id: int, qty: int) -> dict[int, int]:
    """Gift SKU id -> units that come free with `qty` base units of a trigger; none with what is free itself.

    The rules are those of the day the order was placed, like its promotions.
    """
    if pricing.is_free:
        return {}
    day = uow.today if pricing.offers_at is None else pricing.offers_at.astimezone(uow.zone).date()
    due: dict[int, int] = {}
    for rule in pricing.offers.gifts.get(trigger_sku_id, ()):
        has_begun = rule.valid_from_date is None or rule.valid_from_date <= day
        has_ended = rule.valid_to_date is not None and rule.valid_to_date < day
        units = qty // rule.trigger_qty * rule.gift_qty
        if has_begun and not has_ended and units > 0:
            due[rule.gift_sku_id] = due.get(rule.gift_sku_id, 0) + units
    return due


def part_line(sku: SkuRow, qty: int, *, line_no: int, parent_no: int, kind: str) -> DraftLine:
    """A `component` or `gift` line of `qty` base units under its parent; it costs nothing."""
    return DraftLine(
        line_no=line_no,
        kind=kind,
        sku=sku,
        unit=sku.base_unit,
        units_per_pack=1,
        pack_qty=qty,
        unit_price_cents=0,
        price_kind="part",
        list_price_cents=None,
        parent_no=parent_no,
    )


def _applicable_offers(uow: UnitOfWork, pricing: Pricing) -> tuple[list[Offer], int | None]:
    now = pricing.offers_at or uow.now
    running = [
        offer
        for offer in pricing.offers.promotions
        if (offer.starts_at is None or offer.starts_at <= now) and (offer.ends_at is None or now < offer.ends_at)
    ]
    usable = [offer for offer in running if not offer.needs_coupon]
    if pricing.coupon_code is None:
        return usable, None
    coupon = uow.row(select(Coupon.__table__).where(Coupon.code == pricing.coupon_code))
    if pricing.has_spent_coupon:  # it was good when the order was placed; that stands
        kept = [o for o in pricing.offers.promotions if coupon is not None and o.promotion_id == coupon.promotion_id]
        return [*(o for o in usable if o not in kept), *kept], coupon.id if coupon is not None else None
    offer = next((o for o in running if coupon is not None and o.promotion_id == coupon.promotion_id), None)
    if (
        coupon is None
        or offer is None
        or coupon.used_count >= coupon.max_uses
        or (coupon.expires_at is not None and coupon.expires_at <= now)
        or (coupon.customer_id is not None and coupon.customer_id != pricing.customer_id)
    ):
        raise InvalidCommand(field="coupon_code", problem="coupon_unusable", coupon=pricing.coupon_code)
    return [*usable, offer], coupon.id
