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
        unit_cost_cents: Price of a unit.
        cost: Expected cost, cents, until the next order arrives, when so many units are ordered now.
        used_after_weeks: Weeks until the last of so many units is used; infinite when it expires before.
    """

    unique_id: str
    qty: int
    first_qty: int
    step_qty: int
    unit_cost_cents: float
    cost: Callable[[int], float]
    used_after_weeks: Callable[[int], float]

    @property
    def value_cents(self) -> float:
        return self.qty * self.unit_cost_cents

    def more(self, qty: int) -> int:
        """The next larger quantity that can be ordered."""
        return max(self.first_qty, qty + self.step_qty)

    def less(self, qty: int, step_qty: int) -> int:
        """A quantity about `step_qty` smaller that can be ordered, or 0."""
        return qty - step_qty if qty - step_qty >= self.first_qty else 0


@dataclass(frozen=True)
class Joint:
    """Quantities of one supplier's lines by unique_id, and what was done to reach its least order value.

    `saving_cents` is what ordering all of it now saves against waiting for the next review, as expected.
    """

    decision: Literal["enough", "raised", "waited"]
    qty: dict[str, int]
    saving_cents: float


def to_least_value(lines: Sequence[Line], least_value_cents: float) -> Joint:
    """Raise the order of one supplier to its least value, or wait for the next review when that is cheaper.

    Added are the packs that will be used soonest: they bring forward what would be ordered next anyway. All together is
    ordered when the expected saving of what is needed exceeds the expected cost of what was added.
    """
    qty = {line.unique_id: line.qty for line in lines}
    value = sum(line.value_cents for line in lines)
    if value >= least_value_cents or value <= 0:
        return Joint("enough", qty, _saving(lines, qty))
    soonest = [
        (line.used_after_weeks(line.more(line.qty)), i) for i, line in enumerate(lines) if line.unit_cost_cents > 0
    ]
    heapq.heapify(soonest)
    while value < least_value_cents and soonest:
        weeks, i = heapq.heappop(soonest)
        if math.isinf(weeks):
            break  # nothing is left but what would expire
        line = lines[i]
        more = line.more(qty[line.unique_id])
        value += (more - qty[line.unique_id]) * line.unit_cost_cents
        qty[line.unique_id] = more
        heapq.heappush(soonest, (line.used_after_weeks(line.more(more)), i))
    saving = _saving(lines, qty)
    if value < least_value_cents or saving <= 0:
        return Joint("waited", dict.fromkeys(qty, 0), 0.0)
    return Joint("raised", qty, saving)


def _saving(lines: Sequence[Line], qty: Mapping[str, int]) -> float:
    return sum(line.cost(0) - line.cost(qty[line.unique_id]) for line in lines if qty[line.unique_id])


def within_budget(lines: Sequence[Line], budget_cents: float) -> dict[str, int]:
    """Quantities that cost no more than the budget, by unique_id: step by step the units go whose absence is expected to
    cost least per money they free.

    The saving of a further unit falls with the quantity, so taking the least one each time is, but for the last step,
    the best there is (the continuous knapsack: Dantzig 1957, Operations Research 5).
    """
    qty = {line.unique_id: line.qty for line in lines}
    value = sum(line.value_cents for line in lines)
    if value <= budget_cents:
        return qty
    steps = [-(-max(line.qty // MAX_STEPS, 1) // line.step_qty) * line.step_qty for line in lines]

    def loss(i: int) -> tuple[float, int]:
        line, now = lines[i], qty[lines[i].unique_id]
        fewer = line.less(now, steps[i])
        freed = (now - fewer) * line.unit_cost_cents
        return ((line.cost(fewer) - line.cost(now)) / freed, i)

    least = [loss(i) for i, line in enumerate(lines) if line.value_cents > 0]
    heapq.heapify(least)
    while value > budget_cents and least:
        _, i = heapq.heappop(least)
        line = lines[i]
        fewer = line.less(qty[line.unique_id], steps[i])
        value -= (qty[line.unique_id] - fewer) * line.unit_cost_cents
        qty[line.unique_id] = fewer
        if fewer:
            heapq.heappush(least, loss(i))
    return qty


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
