"""Textbook stock rules, each in a few lines, with the source of its formula and a number to check it by.

A *level* is a target of the inventory position (on hand + on order − backordered), in units. Costs are in any one money
unit. `level_costs` turns samples of demand (forecast paths) into the cost of every level; `best_lot_size_reorder_point`
and `best_s_S` are exact for whatever cost and demand they are given, so the same code serves Poisson demand of a
textbook and the paths of a forecast.

Sources: Silver, Pyke & Thomas 2017, "Inventory and Production Management in Supply Chains"; Nahmias & Olsen 2015,
"Production and Operations Analysis"; Zipkin 2000, "Foundations of Inventory Management"; Snyder & Shen 2019,
"Fundamentals of Supply Chain Theory".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from forecasting.arrays import Floats


@dataclass(frozen=True)
class PriceBreak:
    """Every unit of an order of `min_qty` or more costs `unit_cost_cents` (all-units discount)."""

    min_qty: int
    unit_cost_cents: float


@dataclass(frozen=True)
class Lot:
    """An order size and what it costs a year: goods, ordering and holding."""

    qty: float
    yearly_cost: float


def eoq(*, yearly_demand: float, order_cost: float, yearly_holding_cost: float) -> float:
    """Harris' economic order quantity √(2KD/h), units (Silver, Pyke & Thomas §4.2). `yearly_holding_cost` per unit.

    Nahmias' example 4.1, pencils: 60 a week, 12 dollars an order, 0.02 a pencil at 25 % a year.

    >>> round(eoq(yearly_demand=3120, order_cost=12, yearly_holding_cost=0.005))
    3870
    """
    if yearly_holding_cost <= 0:
        return math.inf if order_cost > 0 and yearly_demand > 0 else 0.0
    return math.sqrt(2 * order_cost * yearly_demand / yearly_holding_cost)


def yearly_cost(
    qty: float, *, yearly_demand: float, order_cost: float, holding_ratio: float, unit_cost: float
) -> float:
    """Goods, orders and half a lot in stock, a year (Nahmias §4.5). `holding_ratio`: of the unit cost, per year."""
    ordering = order_cost * yearly_demand / qty if order_cost else 0.0
    return unit_cost * yearly_demand + ordering + holding_ratio * unit_cost * qty / 2


def price_at(qty: float, unit_cost: float, breaks: Sequence[PriceBreak]) -> float:
    """Unit cost of an order of `qty`: that of the highest break it reaches, `unit_cost` below all of them."""
    reached = [b for b in breaks if b.min_qty <= qty]
    return max(reached, key=lambda b: b.min_qty).unit_cost_cents if reached else unit_cost


def eoq_all_units(
    *,
    yearly_demand: float,
    order_cost: float,
    holding_ratio: float,
    unit_cost: float,
    breaks: Sequence[PriceBreak] = (),
    least_qty: float = 1.0,
) -> Lot:
    """The cheapest lot when larger orders get a lower price on all units: the EOQ of each price, raised to where that
    price begins; the cheapest of them (Nahmias §4.7; Silver, Pyke & Thomas §4.5). The smaller lot wins a tie.

    Nahmias' example 4.4, trash bags: the EOQ is 400, and 500 at 0.29 costs 198.10 a year instead of 204.00.

    >>> bags = eoq_all_units(yearly_demand=600, order_cost=8, holding_ratio=0.2, unit_cost=0.30,
    ...                      breaks=[PriceBreak(500, 0.29), PriceBreak(1000, 0.28)])
    >>> bags.qty, round(bags.yearly_cost, 2)
    (500.0, 198.1)
    """
    lots = []
    for price in [PriceBreak(0, unit_cost), *sorted(breaks, key=lambda b: b.min_qty)]:
        own = eoq(
            yearly_demand=yearly_demand,
            order_cost=order_cost,
            yearly_holding_cost=holding_ratio * price.unit_cost_cents,
        )
        qty = max(own, float(price.min_qty), least_qty)
        cost = yearly_cost(
            qty,
            yearly_demand=yearly_demand,
            order_cost=order_cost,
            holding_ratio=holding_ratio,
            unit_cost=price_at(qty, unit_cost, breaks),
        )
        lots.append(Lot(qty, cost))
    return min(lots, key=lambda lot: (round(lot.yearly_cost, 9), lot.qty))


def critical_ratio(*, underage_cost: float, overage_cost: float) -> float:
    """The chance of having enough at which one more unit no longer pays: cu / (cu + co) (Nahmias §5.3)."""
    return underage_cost / (underage_cost + overage_cost)


def newsvendor_normal(*, mean: float, sd: float, underage_cost: float, overage_cost: float) -> float:
    """The newsvendor's quantity for normal demand, μ + zσ (Nahmias §5.3).

    Nahmias' example 5.3, Mac's newsstand: N(11.73, 4.74²), 0.50 lost a missed sale, 0.15 a left copy.

    >>> round(newsvendor_normal(mean=11.73, sd=4.74, underage_cost=0.50, overage_cost=0.15), 1)
    15.2
    """
    ratio = critical_ratio(underage_cost=underage_cost, overage_cost=overage_cost)
    return mean + sd * float(ndtri(ratio))


def normal_loss(z: float) -> float:
    """L(z) = φ(z) − z(1 − Φ(z)): units short when stock is z standard deviations above the mean, in standard deviations
    (Silver, Pyke & Thomas appendix II.1, there Gᵤ).

    >>> round(normal_loss(0), 4), round(normal_loss(1), 4)
    (0.3989, 0.0833)
    """
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * 0.5 * math.erfc(z / math.sqrt(2))


def newsvendor_cost_normal(level: float, *, mean: float, sd: float, holding_cost: float, shortage_cost: float) -> float:
    """Expected cost of a period that starts with `level` units, normal demand (Snyder & Shen §4.3.2).

    Their example 4.3: N(50, 8²), 0.18 a unit left, 0.70 a unit short; the best level costs 1.9976.

    >>> best = newsvendor_normal(mean=50, sd=8, underage_cost=0.70, overage_cost=0.18)
    >>> round(best, 2), round(newsvendor_cost_normal(best, mean=50, sd=8, holding_cost=0.18, shortage_cost=0.70), 4)
    (56.6, 1.9976)
    """
    short = sd * normal_loss((level - mean) / sd)
    return holding_cost * (level - mean + short) + shortage_cost * short


def cycle_service_normal(reorder_point: float, *, mean: float, sd: float) -> float:
    """The chance of no stock-out in a cycle, Φ((s − μ)/σ), of the demand over the lead time (or protection interval)."""
    return 0.5 * math.erfc((mean - reorder_point) / sd / math.sqrt(2))


def fill_rate_normal(reorder_point: float, *, lot_qty: float, mean: float, sd: float) -> float:
    """The share of demand served from stock under (R, Q), 1 − σ L(z) / Q (Silver, Pyke & Thomas §6.7; Nahmias §5.5).
    `mean` and `sd` of the demand over the lead time."""
    return 1 - sd * normal_loss((reorder_point - mean) / sd) / lot_qty


def reorder_point_for_fill_rate(fill_rate_ratio: float, *, lot_qty: float, mean: float, sd: float) -> float:
    """The reorder point at which `fill_rate_normal` is what is asked for.

    Nahmias' example 5.5, mustard: lots of 100, N(100, 25²) over the lead time, 98 %.

    >>> round(reorder_point_for_fill_rate(0.98, lot_qty=100, mean=100, sd=25))
    126
    """
    low, high = mean - 10 * sd - lot_qty, mean + 10 * sd
    for _ in range(80):
        middle = (low + high) / 2
        if fill_rate_normal(middle, lot_qty=lot_qty, mean=mean, sd=sd) < fill_rate_ratio:
            low = middle
        else:
            high = middle
    return high


def lot_size_reorder_point_normal(
    *,
    yearly_demand: float,
    order_cost: float,
    yearly_holding_cost: float,
    shortage_cost: float,
    mean: float,
    sd: float,
) -> tuple[float, float]:
    """(Q, R) by turns: Q = √(2λ(K + p n(R))/h), 1 − F(R) = Qh/(pλ) (Hadley & Whitin 1963; Nahmias §5.4).

    Nahmias' example 5.4, mustard: 200 jars a year, 50 an order, 2 a jar and year, 25 a jar short.

    >>> [round(x) for x in lot_size_reorder_point_normal(yearly_demand=200, order_cost=50, yearly_holding_cost=2,
    ...                                                  shortage_cost=25, mean=100, sd=25)]
    [111, 143]
    """
    lot = eoq(yearly_demand=yearly_demand, order_cost=order_cost, yearly_holding_cost=yearly_holding_cost)
    for _ in range(100):
        z = float(ndtri(1 - min(0.999999, lot * yearly_holding_cost / (shortage_cost * yearly_demand))))
        short = sd * normal_loss(z)
        lot = math.sqrt(2 * yearly_demand * (order_cost + shortage_cost * short) / yearly_holding_cost)
    return lot, mean + z * sd


# ------------------------------------------------------------------------------------------- exact, over samples or a pmf


@dataclass(frozen=True)
class LevelCosts:
    """Expected cost of a period (or per unit of time) for each whole level `first`, `first + 1`, …"""

    first: int
    cost: Floats

    def at(self, level: int) -> float:
        """Beyond the ends the cost goes on in a straight line, as it does where demand never reaches."""
        i = level - self.first
        if i < 0:
            return float(self.cost[0] + i * (self.cost[1] - self.cost[0]))
        if i >= self.cost.size:
            return float(self.cost[-1] + (i - self.cost.size + 1) * (self.cost[-1] - self.cost[-2]))
        return float(self.cost[i])

    @property
    def best(self) -> int:
        """The base-stock level: the cheapest one, the lowest of equals."""
        return self.first + int(np.argmin(self.cost))


def level_costs(
    demand: Floats, *, holding_cost: float, shortage_cost: float, weights: Floats | None = None
) -> LevelCosts:
    """h E[(S − D)⁺] + p E[(D − S)⁺] for each whole level S from below the least demand to above the largest.

    Args:
        demand: Samples of the demand over the lead time (or protection interval), or its possible values.
        weights: Their chances; equal when not given.
    """
    chance = np.full(demand.size, 1 / demand.size) if weights is None else weights
    first = math.floor(demand.min()) - 1
    levels = np.arange(first, math.ceil(demand.max()) + 2, dtype=np.float64)
    order = np.argsort(demand)
    values, chances = demand[order], chance[order]
    below = np.searchsorted(values, levels, side="right")
    mass = np.concatenate([[0.0], np.cumsum(chances)])[below]
    money = np.concatenate([[0.0], np.cumsum(chances * values)])[below]
    left = levels * mass - money  # E[(S − D)⁺]
    short = float(chances @ values) - levels + left  # E[(D − S)⁺] = E[D] − S + E[(S − D)⁺]
    return LevelCosts(first, holding_cost * left + shortage_cost * short)


def best_lot_size_reorder_point(costs: LevelCosts, *, demand_rate: float, order_cost: float) -> tuple[int, int, float]:
    """The best (R, Q) and its cost per unit of time: when the position falls to R, order Q.

    The cost is (Kλ + Σ_{y=R+1}^{R+Q} G(y)) / Q; the best Q levels are taken one by one, always the cheaper neighbour,
    until the next one costs more than the average (Federgruen & Zheng 1992, Operations Research 40).
    """
    low = high = costs.best
    total = order_cost * demand_rate + costs.at(low)
    qty = 1
    while True:
        under, over = costs.at(low - 1), costs.at(high + 1)
        if min(under, over) >= total / qty:
            return low - 1, qty, total / qty
        if under <= over:
            low -= 1
        else:
            high += 1
        total += min(under, over)
        qty += 1


def best_s_S(
    costs: LevelCosts, pmf: Sequence[float] | NDArray[np.float64], *, order_cost: float
) -> tuple[int, int, float]:
    """The best (s, S) under periodic review and its cost a period: at or below s order up to S.

    c(s, S) = (K + Σ_j m(j) G(S − j)) / M(S − s), with m the renewal density of one period's demand (Zheng & Federgruen
    1991, Operations Research 39, whose bounds end the search).

    Args:
        costs: Cost of a period that starts (after arrivals) at each level.
        pmf: Chances that a period's demand is 0, 1, 2 …; less than one for 0.
    """
    chance = np.asarray(pmf, dtype=np.float64)
    if not chance[0] < 1:
        raise ValueError("nobody ever asks for anything: every level is as good")
    renewal: list[float] = [float(1 / (1 - chance[0]))]  # m(0), m(1), …

    def m(j: int) -> float:
        while len(renewal) <= j:
            n = len(renewal)
            past = np.asarray(renewal[max(0, n - chance.size + 1) :])[::-1]  # m(n−1), m(n−2), …
            renewal.append(float(chance[1 : past.size + 1] @ past) * renewal[0])
        return renewal[j]

    def cost(s: int, top: int) -> float:
        density = [m(j) for j in range(top - s)]
        held: float = sum(density[j] * costs.at(top - j) for j in range(top - s))
        return float(order_cost + held) / sum(density)

    middle = costs.best
    top, s = middle, middle - 1
    while cost(s, top) > costs.at(s):  # a lower s is better as long as that level is cheaper than the average
        s -= 1
    best = (s, top, cost(s, top))
    top += 1
    while costs.at(top) <= best[2]:
        if cost(best[0], top) < best[2]:
            s = best[0]
            while s + 1 < top and cost(s, top) <= costs.at(s + 1):
                s += 1
            best = (s, top, cost(s, top))
        top += 1
    return best
