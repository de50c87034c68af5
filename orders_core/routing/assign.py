"""Which location ships which units of one order: one location if it can, then fewest packages, then nearest, then default.

Pure: levels in, plan and reasons out. What cannot be served at once is backordered at one place, or left over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

_MOST_PACKAGES = 4  # beyond this many locations the search turns greedy


@dataclass(frozen=True)
class Site:
    """A location as routing sees it."""

    location_id: int
    code: str
    rank: int = 0
    is_default: bool = False
    distance_km: float | None = None


@dataclass(frozen=True)
class Offered:
    """What one location has of one SKU for this order: units it can reserve now, units it may backorder (None = any)."""

    reservable_qty: int
    backorderable_qty: int | None = 0


@dataclass(frozen=True)
class Assigned:
    """Units of one SKU from one location: reserved now, promised without stock, or from where stock is not tracked."""

    sku_id: int
    location_id: int
    reserved_qty: int
    backordered_qty: int
    untracked_qty: int = 0

    @property
    def qty(self) -> int:
        return self.reserved_qty + self.backordered_qty + self.untracked_qty


@dataclass(frozen=True)
class Assignment:
    """The plan, what it leaves over per SKU, the reason, and the sites it was chosen over."""

    parts: tuple[Assigned, ...]
    left_over: Mapping[int, int]
    reason: Mapping[str, Any]
    alternatives: tuple[Mapping[str, Any], ...]


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance (haversine, mean Earth radius 6,371 km)."""
    a, b = math.radians(lat1), math.radians(lat2)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(h))


def _preference(site: Site) -> tuple[float, bool, int, int]:
    return (
        site.distance_km if site.distance_km is not None else math.inf,
        not site.is_default,
        site.rank,
        site.location_id,
    )


def assign(
    needs: Mapping[int, int],
    offered: Mapping[int, Mapping[int, Offered]],
    sites: Sequence[Site],
    *,
    strategy: str = "fewest_packages",
    fixed_order: Sequence[str] = (),
) -> Assignment:
    """Assign the units of one order to locations.

    Args:
        needs: Base units per SKU id.
        offered: location id -> SKU id -> what it has; a missing entry has nothing.
        sites: The locations that may ship, any order.
        strategy: `fewest_packages`, or `fixed_order` which drains the locations one after another.
        fixed_order: Location codes first to last for `fixed_order`; the others follow by rank.

    Returns:
        Parts in (SKU, location) order; reserved + backordered + left over = need, per SKU.
    """
    by_preference = sorted(sites, key=_preference)
    if strategy == "fixed_order":
        place = {code: i for i, code in enumerate(fixed_order)}
        chosen = sorted(sites, key=lambda s: (place.get(s.code, len(place)), s.rank, s.location_id))
        reason: dict[str, Any] = {"code": "fixed_order", "sites": [s.code for s in chosen]}
        alternatives: tuple[Mapping[str, Any], ...] = ()
    else:
        chosen, reason, alternatives = _fewest(needs, offered, by_preference)
    left = dict(needs)
    reserved: dict[tuple[int, int], int] = {}
    backordered: dict[tuple[int, int], int] = {}
    for site in chosen:
        has = offered.get(site.location_id, {})
        for sku_id, qty in left.items():
            take = min(qty, has[sku_id].reservable_qty) if sku_id in has else 0
            if take > 0:
                reserved[sku_id, site.location_id] = take
                left[sku_id] = qty - take
    in_plan = {location_id for _, location_id in reserved}
    late_order = sorted(
        by_preference, key=lambda s: s.location_id not in in_plan
    )  # late units join a package if they can
    for sku_id, qty in left.items():
        for site in late_order:
            if qty <= 0:
                break
            has_sku = offered.get(site.location_id, {}).get(sku_id)
            if has_sku is None:
                continue
            depth = qty if has_sku.backorderable_qty is None else min(qty, has_sku.backorderable_qty)
            if depth > 0:
                backordered[sku_id, site.location_id] = depth
                qty -= depth
        left[sku_id] = qty
    keys = sorted(reserved.keys() | backordered.keys())
    return Assignment(
        parts=tuple(
            Assigned(sku, loc, reserved.get((sku, loc), 0), backordered.get((sku, loc), 0)) for sku, loc in keys
        ),
        left_over={sku_id: qty for sku_id, qty in left.items() if qty > 0},
        reason=reason,
        alternatives=alternatives,
    )


def _fewest(
    needs: Mapping[int, int], offered: Mapping[int, Mapping[int, Offered]], by_preference: Sequence[Site]
) -> tuple[list[Site], dict[str, Any], tuple[Mapping[str, Any], ...]]:
    """The smallest set of sites that serves as many units as all of them together; nearest set among equals."""
    usable: list[tuple[Site, dict[int, int]]] = []
    for site in by_preference:
        has = offered.get(site.location_id, {})
        gives = {sku: min(qty, has[sku].reservable_qty) for sku, qty in needs.items() if sku in has}
        gives = {sku: qty for sku, qty in gives.items() if qty > 0}
        if gives:
            usable.append((site, gives))
    servable = sum(min(qty, sum(gives.get(sku, 0) for _, gives in usable)) for sku, qty in needs.items())
    alternatives = tuple(
        {"site": site.code, "serves_qty": sum(gives.values()), "distance_km": _rounded(site.distance_km)}
        for site, gives in usable
    )
    for size in range(1, min(len(usable), _MOST_PACKAGES) + 1):
        for group in combinations(usable, size):  # usable is sorted by preference: the first hit is the nearest
            if sum(min(qty, sum(gives.get(sku, 0) for _, gives in group)) for sku, qty in needs.items()) == servable:
                sites = [site for site, _ in group]
                code = "one_location" if size == 1 else "fewest_packages"
                reason = {"code": code, "sites": [site.code for site in sites], "packages": size}
                if sites[0].distance_km is not None:
                    reason["distance_km"] = _rounded(sites[0].distance_km)
                return sites, reason, alternatives
    if not usable:
        return [], {"code": "no_stock", "sites": [], "packages": 0}, alternatives
    greedy = sorted(usable, key=lambda pair: -sum(pair[1].values()))
    return [s for s, _ in greedy], {"code": "many_locations", "sites": [s.code for s, _ in greedy]}, alternatives


def _rounded(km: float | None) -> float | None:
    return None if km is None else round(km, 1)
