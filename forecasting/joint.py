"""Orders that share something: a supplier's least order value, a budget, or stock that another place has too much of.

Every function works on `Line`s: what is suggested for one thing, and what it would cost to order less or more of it now
(`Line.cost`, the expected cost until the next order arrives). Quantities move in whole steps (packs); nothing here
looks at a forecast.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_STEPS = 20
"""A line is cut in at most so many steps, so that a large order doesn't take a thousand."""


@dataclass(frozen=True)
class Line:
    """What is to be ordered of one thing.

    Attributes:
        unique_id: Its name.
        qty: Suggested units; 0 when nothing is needed.
        first_qty: Least units of an order, a multiple of `step_qty`.
        step_qty: Units of a pack.
        value: Price of so many units, cents; with a price break more units may cost less.
        cost: Expected cost, cents, until the next order arrives, when so many units are ordered now.
        used_after_weeks: Weeks until the last of so many units is used; infinite when it expires before.
        supplier_code, currency: Whose order it is part of, and in what money; None where it is made, or not known.
    """

    unique_id: str
    qty: int
    first_qty: int
    step_qty: int
    value: Callable[[int], float]
    cost: Callable[[int], float]
    used_after_weeks: Callable[[int], float]
    supplier_code: str | None = None
    currency: str | None = None

    def more(self, qty: int) -> int:
        """The next larger quantity that can be ordered."""
        return max(self.first_qty, qty + self.step_qty)

    def less(self, qty: int, step_qty: int) -> int:
        """A quantity about `step_qty` smaller that can be ordered, or 0."""
        return qty - step_qty if qty - step_qty >= self.first_qty else 0


@dataclass(frozen=True)
class Joint:
    """Quantities of one supplier's lines by unique_id, and what was done to reach its least order value."""

    decision: Literal["enough", "raised", "waited"]
    qty: dict[str, int]


def to_least_value(lines: Sequence[Line], least_value_cents: float) -> Joint:
    """Raise the order of one supplier to its least value, or wait for the next review when that is cheaper.

    Added are the packs that will be used soonest: they bring forward what would be ordered next anyway. All together is
    ordered when the expected saving of what is needed exceeds the expected cost of what was added.
    """
    qty = {line.unique_id: line.qty for line in lines}
    value = sum(line.value(line.qty) for line in lines)
    if value >= least_value_cents or value <= 0:
        return Joint("enough", qty)
    soonest = [
        (line.used_after_weeks(line.more(line.qty)), i)
        for i, line in enumerate(lines)
        if line.value(line.more(line.qty)) > 0
    ]
    heapq.heapify(soonest)
    while value < least_value_cents and soonest:
        weeks, i = heapq.heappop(soonest)
        if math.isinf(weeks):
            break  # nothing is left but what would expire
        line = lines[i]
        more = line.more(qty[line.unique_id])
        value += line.value(more) - line.value(qty[line.unique_id])
        qty[line.unique_id] = more
        heapq.heappush(soonest, (line.used_after_weeks(line.more(more)), i))
    if value < least_value_cents or saving_cents(lines, qty) <= 0:
        return Joint("waited", dict.fromkeys(qty, 0))
    return Joint("raised", qty)


def saving_cents(lines: Sequence[Line], qty: Mapping[str, int]) -> float:
    """What ordering these quantities now saves against waiting for the next review, as expected."""
    return sum(line.cost(0) - line.cost(qty[line.unique_id]) for line in lines if qty[line.unique_id])


def within_budget(
    lines: Sequence[Line],
    budget_cents: float | Mapping[str, float],
    least_value_cents: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """Quantities that cost no more than the budget, by unique_id: step by step the units go whose absence is expected to
    cost least per money they free.

    The saving of a further unit falls with the quantity, so taking the least one each time is, but for the last step,
    the best there is (the continuous knapsack: Dantzig 1957, Operations Research 5). A supplier whose order falls below its
    least value gets none; the one whose whole order saves least per money first, and all is cut anew without it. What is
    left in the end goes to the packs that save most and still fit.

    Args:
        lines: What is suggested.
        budget_cents: For all lines, or by currency; other currencies have no limit.
        least_value_cents: Least value of an order by supplier, which the suggested quantities reach.
    """
    wanted = {line.unique_id: line.qty for line in lines}
    least = least_value_cents or {}
    if isinstance(budget_cents, Mapping):
        budgets = [([line for line in lines if line.currency == code], cents) for code, cents in budget_cents.items()]
    else:
        budgets = [(list(lines), budget_cents)]
    orders = {code: [line for line in lines if line.supplier_code == code] for code in least}
    left_out: set[str | None] = set()
    while True:
        qty = {line.unique_id: 0 if line.supplier_code in left_out else line.qty for line in lines}
        for members, budget in budgets:
            _cut(members, qty, budget)
        values = {code: sum(line.value(qty[line.unique_id]) for line in own) for code, own in orders.items()}
        too_small = [
            (saving_cents(own, wanted) / sum(line.value(line.qty) for line in own), code)
            for code, own in orders.items()
            if 0 < values[code] < least[code] and any(qty[line.unique_id] < line.qty for line in own)
        ]
        if not too_small:
            break
        left_out.add(min(too_small)[1])
    open_orders = {code for code, value in values.items() if value >= least[code]}
    for members, budget in budgets:
        fits = [line for line in members if line.supplier_code not in least or line.supplier_code in open_orders]
        _fill(fits, qty, budget - sum(line.value(qty[line.unique_id]) for line in members))
    return qty


def _cut(lines: Sequence[Line], qty: dict[str, int], budget_cents: float) -> None:
    """Lower `qty` until it costs no more than the budget."""
    value = sum(line.value(qty[line.unique_id]) for line in lines)
    if value <= budget_cents:
        return
    steps = [-(-max(line.qty // MAX_STEPS, 1) // line.step_qty) * line.step_qty for line in lines]

    def loss(i: int) -> tuple[float, int, int]:
        line, now = lines[i], qty[lines[i].unique_id]
        fewer = line.less(now, steps[i])
        while fewer and line.value(fewer) >= line.value(now):  # below a price break: fewer would cost more
            fewer = line.less(fewer, steps[i])
        return (line.cost(fewer) - line.cost(now)) / (line.value(now) - line.value(fewer)), i, fewer

    least = [loss(i) for i, line in enumerate(lines) if line.value(qty[line.unique_id]) > 0]
    heapq.heapify(least)
    while value > budget_cents and least:
        _, i, fewer = heapq.heappop(least)
        line = lines[i]
        value -= line.value(qty[line.unique_id]) - line.value(fewer)
        qty[line.unique_id] = fewer
        if fewer:
            heapq.heappush(least, loss(i))


def _fill(lines: Sequence[Line], qty: dict[str, int], left_cents: float) -> None:
    """Raise `qty` towards what was suggested by the packs that save most per money, as far as the money goes."""

    def gain(i: int) -> tuple[float, int, int, float] | None:
        line, now = lines[i], qty[lines[i].unique_id]
        more = line.more(now)
        added, saved = line.value(more) - line.value(now), line.cost(now) - line.cost(more)
        if more > line.qty or added > left_cents or saved <= 0:
            return None
        return -saved / max(added, 1e-9), i, more, added

    best = [found for i in range(len(lines)) if (found := gain(i)) is not None]
    heapq.heapify(best)
    while best:
        _, i, more, added = heapq.heappop(best)
        if added > left_cents:
            continue
        qty[lines[i].unique_id] = more
        left_cents -= added
        if (found := gain(i)) is not None:
            heapq.heappush(best, found)


@dataclass(frozen=True)
class Place:
    """One SKU at one place, before anything is ordered.

    Attributes:
        unique_id, sku, location_code: What and where.
        needed_qty: Units wanted above what is there and on order; 0 when none.
        surplus_qty: Units above this place's own target that lie there and are free to go; 0 when none.
        weekly_holding_cents: To keep a unit for a week.
        order_cents: Cost of an order to the supplier, saved when none is needed.
        kept_weeks: Weeks, on average, that the last so many units would otherwise lie here.
    """

    unique_id: str
    sku: str
    location_code: str
    needed_qty: int
    surplus_qty: int
    weekly_holding_cents: float
    order_cents: float
    kept_weeks: Callable[[int], float]


@dataclass(frozen=True)
class Route:
    """What moving goods from one place to another costs."""

    from_location_code: str
    to_location_code: str
    unit_cents: float
    fixed_cents: float = 0.0


@dataclass(frozen=True)
class Transfer:
    """Units to move instead of buying them, and what that saves."""

    sku: str
    from_unique_id: str
    to_unique_id: str
    from_location_code: str
    to_location_code: str
    qty: int
    saving_cents: float


def transfers(places: Sequence[Place], routes: Sequence[Route]) -> list[Transfer]:
    """Moves of surplus stock that are cheaper than buying the same units, best saving first.

    A unit that moves is bought later, when the giving place would have used it, or never: saved is keeping it until then.
    Saved too is the order itself when nothing is left to buy; the move costs what its route says. Nobody gives units
    below its own target.
    """
    by_route = {(r.from_location_code, r.to_location_code): r for r in routes}
    by_sku: dict[str, list[Place]] = {}
    for place in places:
        by_sku.setdefault(place.sku, []).append(place)
    moved = []
    for sku in sorted(by_sku):
        needed = {p.unique_id: p.needed_qty for p in by_sku[sku] if p.needed_qty > 0}
        surplus = {p.unique_id: p.surplus_qty for p in by_sku[sku] if p.surplus_qty > 0}
        pairs = [
            (giver, taker, by_route[giver.location_code, taker.location_code])
            for giver in by_sku[sku]
            for taker in by_sku[sku]
            if giver.unique_id in surplus
            and taker.unique_id in needed
            and (giver.location_code, taker.location_code) in by_route
        ]
        while pairs:
            offers = []
            for giver, taker, route in pairs:
                qty = min(surplus[giver.unique_id], needed[taker.unique_id])
                given = giver.surplus_qty - surplus[giver.unique_id]
                kept = giver.kept_weeks(given + qty) * (given + qty) - giver.kept_weeks(given) * given
                saving = giver.weekly_holding_cents * kept - route.unit_cents * qty - route.fixed_cents
                saving += taker.order_cents if qty == needed[taker.unique_id] else 0.0
                offers.append((saving, qty, giver, taker))
            saving, qty, giver, taker = max(offers, key=lambda o: (o[0], o[2].unique_id, o[3].unique_id))
            if saving <= 0 or qty < 1:
                break
            moved.append(
                Transfer(
                    sku,
                    giver.unique_id,
                    taker.unique_id,
                    giver.location_code,
                    taker.location_code,
                    qty,
                    saving,
                )
            )
            surplus[giver.unique_id] -= qty
            needed[taker.unique_id] -= qty
            pairs = [p for p in pairs if surplus[p[0].unique_id] and needed[p[1].unique_id]]
    return sorted(moved, key=lambda t: (-t.saving_cents, t.from_unique_id, t.to_unique_id))
