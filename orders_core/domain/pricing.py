"""What a line costs this customer, and what promotions take off. Pure: the caller brings prices and offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from orders_core.domain.money import half_up, share, tax_contained, tax_on_top

_KIND_ORDER = {"contract": 0, "level": 1, "list": 2}


@dataclass(frozen=True)
class PriceRow:
    """A price that is valid today for this customer."""

    kind: str  # list, level, contract, promotion, floor
    unit: str
    min_qty: int  # in `unit`
    unit_price_cents: int


@dataclass(frozen=True)
class ChosenPrice:
    """The price of one selling unit, where it comes from, and the floor below which a second person must agree."""

    unit_price_cents: int
    kind: str
    list_price_cents: int | None
    floor_cents: int | None


def choose_price(rows: Iterable[PriceRow], *, unit: str, units_per_pack: int, pack_qty: int) -> ChosenPrice | None:
    """The price for `pack_qty` of `unit`: contract beats level beats list; a promotion wins where it is cheaper.

    Within one kind the highest quantity tier reached wins. A box without a price of its own costs its pieces, whose
    tiers then count in pieces. None when there is no price at all.
    """
    best: dict[str, tuple[bool, int, int]] = {}  # kind -> (is the unit's own price, tier in pieces, price of a `unit`)
    for row in rows:
        if row.unit == unit:
            found = (True, row.min_qty * units_per_pack, row.unit_price_cents)
        elif row.unit == "each":
            found = (False, row.min_qty, row.unit_price_cents * units_per_pack)
        else:
            continue
        if found[1] > pack_qty * units_per_pack and row.kind != "floor":
            continue  # tier not reached
        if row.kind not in best or found[:2] > best[row.kind][:2]:
            best[row.kind] = found
    base = min((kind for kind in best if kind in _KIND_ORDER), key=_KIND_ORDER.__getitem__, default=None)
    if base is None and "promotion" not in best:
        return None
    kind = base if base is not None else "promotion"
    if "promotion" in best and best["promotion"][2] < best[kind][2]:
        kind = "promotion"
    return ChosenPrice(
        unit_price_cents=best[kind][2],
        kind=kind,
        list_price_cents=best["list"][2] if "list" in best else None,
        floor_cents=best["floor"][2] if "floor" in best else None,
    )


@dataclass(frozen=True)
class Offer:
    """A promotion as priced: `rule` holds what its kind needs.

    order_threshold {from_cents, off_cents} · percent {ratio_bp, skus?, from_cents?} · free_shipping {from_cents}.
    """

    promotion_id: int
    kind: str
    rule: dict[str, Any]
    name: str
    priority: int = 0
    needs_coupon: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True)
class PricedLine:
    """A line's money in minor units; parts (components, gifts) cost nothing.

    `cancelled_cents` of its gross are of units cancelled since: no promotion counts them and no tax is due on them.
    """

    sku: str
    pack_qty: int
    unit_price_cents: int
    tax_rate_bp: int
    discount_cents: int = 0
    tax_cents: int = 0  # contained in, or on top of, net
    net_cents: int = 0
    cancelled_cents: int = 0

    @property
    def gross_cents(self) -> int:
        return self.pack_qty * self.unit_price_cents

    @property
    def standing_cents(self) -> int:
        return self.gross_cents - self.cancelled_cents


@dataclass(frozen=True)
class Totals:
    """An order's money; `total_cents = goods − discount + charges + tax` (tax only when it comes on top).

    What was cancelled of its goods is among the charges, as a reduction.
    """

    lines: tuple[PricedLine, ...]
    goods_cents: int
    discount_cents: int
    charges_cents: int
    tax_cents: int
    total_cents: int
    discounts: tuple[tuple[Offer, int], ...] = field(default=())
    is_shipping_free: bool = False


def cancelled_cents(gross_cents: int, *, ordered_qty: int, cancelled_qty: int) -> int:
    """The share of a line's gross for the units cancelled of it.

    >>> cancelled_cents(1001, ordered_qty=12, cancelled_qty=6), cancelled_cents(0, ordered_qty=0, cancelled_qty=0)
    (500, 0)
    """
    if not cancelled_qty:
        return 0
    return gross_cents - half_up(gross_cents * (ordered_qty - cancelled_qty), ordered_qty)


def price_order(
    lines: Sequence[PricedLine],
    *,
    offers: Sequence[Offer] = (),
    shipping_cents: int = 0,
    other_charges_cents: int = 0,
    prices_include_tax: bool = True,
) -> Totals:
    """Total an order: promotions by priority (highest first), each shared over its lines by largest remainder.

    A line never goes below zero. Tax is taken per line after its discount.
    """
    discounts = [0] * len(lines)
    taken: list[tuple[Offer, int]] = []
    is_shipping_free = False
    for offer in sorted(offers, key=lambda o: (-o.priority, o.promotion_id)):
        skus = offer.rule.get("skus")
        part = [i for i, line in enumerate(lines) if skus is None or line.sku in skus]
        left = [lines[i].standing_cents - discounts[i] for i in part]
        base = sum(left)
        if not part or base <= 0 or base < offer.rule.get("from_cents", 0):
            continue
        if offer.kind == "free_shipping":
            is_shipping_free = True
            continue
        off = (
            offer.rule["off_cents"]
            if offer.kind == "order_threshold"
            else half_up(base * offer.rule["ratio_bp"], 10_000)
        )
        off = min(off, base)
        if off <= 0:
            continue
        for i, amount in zip(part, share(off, left), strict=True):
            discounts[i] += amount
        taken.append((offer, off))
    priced = []
    for line, discount in zip(lines, discounts, strict=True):
        net = line.gross_cents - discount
        taxed = net - line.cancelled_cents
        tax = (tax_contained if prices_include_tax else tax_on_top)(taxed, line.tax_rate_bp)
        priced.append(replace(line, discount_cents=discount, tax_cents=tax, net_cents=net))
    goods = sum(line.gross_cents for line in priced)
    discount = sum(discounts)
    tax = 0 if prices_include_tax else sum(line.tax_cents for line in priced)
    cancelled = sum(line.cancelled_cents for line in priced)
    charges = other_charges_cents - cancelled + (0 if is_shipping_free else shipping_cents)
    return Totals(
        lines=tuple(priced),
        goods_cents=goods,
        discount_cents=discount,
        charges_cents=charges,
        tax_cents=tax,
        total_cents=goods - discount + charges + tax,
        discounts=tuple(taken),
        is_shipping_free=is_shipping_free,
    )
