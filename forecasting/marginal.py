"""What one more unit is worth, read from the paths of a forecast: order while it saves more than it costs.

Of everything that can come (a path), what has to be ordered now so that nothing is missing through a period is one
number, the *need*. It starts when the order arrives and matters until the order of the next review arrives:

    need(t) = demand through t − on hand − arrivals through t + backordered − what was lost before the order arrives

(where unmet demand is lost, the running maximum of it: later arrivals don't serve customers who have left). With y units
ordered now, on a path

    left over at the end of t = (y − need(t))⁺     short = (need(end) − y)⁺

so the y-th unit is kept in stock while need(t) < y and is missed when need(end) ≥ y. The best y is where the expected
saving of the next unit falls below its expected cost: the newsvendor's critical ratio (Silver, Pyke & Thomas 2017 §9.2;
Zipkin 2000 §9.4.6), with the demand, the lead time and the stock on the way all taken from the same paths. Units that
would be needed only later are left to the next review: looking one review ahead is what Zipkin 2008 (Operations
Research 56, "Old and new methods for lost-sales inventory systems") calls the myopic policy, within a few percent of the
best one.

Lead times are drawn with the paths, evenly: path i gets the fractions of i/φ and of i·√2 (a Kronecker sequence), so
that few paths meet all lead times and the numbers don't depend on a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forecasting.arrays import Floats, Ints

Bools = NDArray[np.bool_]
Shortage = Literal["lost", "backordered"]
"""What becomes of demand that meets no stock: `lost` costs once a unit, `backordered` a unit and week that it waits."""

NEVER = 1e15  # a need no order is as large as
LEVELS = (np.arange(100) + 0.5) / 100


@dataclass(frozen=True)
class Paths:
    """Possible futures of many series.

    Attributes:
        unique_ids: Series of each row of `y`.
        start: First day of the first period, the day after the as-of day.
        y: Demand, units: series × path × period.
        period_days: 1 or 7.
    """

    unique_ids: Sequence[str]
    start: date
    y: Floats
    period_days: int = 1


def paths_of_totals(quantiles: Floats, levels: Floats) -> Floats:
    """Running totals by day as a hundred paths, each always at the same quantile of the total: path × day.

    What is computed here needs the total through a day only, one day at a time, so paths that keep their rank give the
    same expected cost as any others with these totals (where demand waits and the lead time is certain; else nearly).
    Above the last known quantile the tail goes on as a normal one does.

    Args:
        quantiles: Of the total through each day: day × level.
        levels: Levels of the quantiles, rising.
    """
    low = np.searchsorted(levels, LEVELS, side="right") - 1
    at = np.clip(low, 0, levels.size - 2)
    part = ((LEVELS - levels[at]) / (levels[at + 1] - levels[at]))[:, None]
    columns = quantiles.T
    out = columns[at] * (1 - part) + columns[at + 1] * part
    out[low < 0] = columns[0]
    out[low >= levels.size - 1] = columns[-1] + 0.37 * (columns[-1] - columns[-3])  # z: 2.576, 2.326, 1.645
    return np.maximum.accumulate(np.maximum(out, 0.0), axis=1)


def spread_lead_times(lead: Sequence[Sequence[float]], paths: int, *, second: bool = False) -> Ints:
    """Which lead time each path meets: series × path, from equally likely ones per series."""
    step = np.sqrt(2.0) if second else (np.sqrt(5.0) - 1) / 2
    at = ((np.arange(paths) + 0.5) * step) % 1.0
    out = np.empty((len(lead), paths), dtype=np.int64)
    for i, choices in enumerate(lead):
        values = np.asarray(choices, dtype=np.int64)
        out[i] = values[0] if values.size == 1 else values[(at * values.size).astype(np.int64)]
    return out


@dataclass(frozen=True)
class Need:
    """What has to be ordered now, on each path of each series.

    Attributes:
        by_period: Series × path × period from the order's arrival on: need through the period; negative when stock
            there will do.
        is_inside: The same shape: the period lies before the arrival of the next order.
        at_end, before: Series × path: need through the last such period, and through the one before the arrival.
        at_expiry: Series × path: need through the last period before an order of now expires; `NEVER` when that is
            not within sight.
        lost_before: Series × path: units lost before the order can arrive.
        demand_qty: Per series, expected demand from now until the next order arrives; `window_demand_qty` of it from
            the arrival of this order on.
        late_qty: Per series, units on order that come only after the next order would, or not within sight.
    """

    by_period: Floats
    is_inside: Bools
    at_end: Floats
    before: Floats
    at_expiry: Floats
    lost_before: Floats
    demand_qty: Floats
    window_demand_qty: Floats
    late_qty: Floats

    def of(self, i: int) -> Need:
        """The need of one series, as arrays of one."""
        one = slice(i, i + 1)
        return Need(*(getattr(self, name)[one] for name in self.__dataclass_fields__))


def need_of(
    y: Floats,
    *,
    on_hand: Floats,
    backordered: Floats,
    arrivals: Floats,
    lead: Ints,
    until: Ints,
    shelf_life: Ints,
    shortage: Shortage,
) -> Need:
    """The need of every series and path.

    Args:
        y: Demand: series × path × period.
        on_hand, backordered: Units per series now.
        arrivals: Series × period: units on order that are there from the start of that period on.
        lead, until: Series × path: the period from which on this order serves, and the one from which on the next
            does; `lead < until <= periods`.
        shelf_life: Periods per series that goods keep after they arrive; 0 = for ever.
        shortage: What becomes of unmet demand.
    """
    n, paths, horizon = y.shape
    keeps = np.where(shelf_life > 0, shelf_life, 10 * horizon)[:, None]
    serves_until = np.minimum(until, lead + keeps)  # what has expired serves nobody
    width = int((serves_until - lead).max())
    sight = int(max(until.max(), min(horizon, (lead + keeps).max()))) if (shelf_life > 0).any() else int(until.max())
    asked = np.cumsum(y[:, :, :sight], axis=2)
    come = np.cumsum(arrivals, axis=1)
    net = asked - (come[:, :sight] + (on_hand - backordered)[:, None])[:, None, :]

    def through(values: Floats, end: Ints) -> Floats:
        """`values` at period `end` − 1; before the first period what it was at the start."""
        found = np.take_along_axis(values, np.maximum(end - 1, 0)[:, :, None], axis=2)[:, :, 0]
        return np.where(end > 0, found, 0.0)

    before = through(net, lead) + np.where(lead > 0, 0.0, (backordered - on_hand)[:, None])
    if shortage == "lost":
        waiting = np.maximum(
            0.0, np.maximum(0.0, backordered - on_hand)[:, None] - come[:, :sight]
        )  # not lost: it waits
        lost = np.maximum(np.maximum.accumulate(net - waiting[:, None, :], axis=2), 0.0)
        lost_before = np.where(lead > 0, through(lost, lead), 0.0)
    else:
        lost_before = np.zeros((n, paths))
    steps = lead[:, :, None] + np.arange(width)
    is_inside = steps < serves_until[:, :, None]
    by_period = np.take_along_axis(net, np.minimum(steps, sight - 1), axis=2)
    if shortage == "lost":
        by_period = np.maximum.accumulate(by_period, axis=2) - lost_before[:, :, None]
        before = before - lost_before
    at_end = np.take_along_axis(by_period, (serves_until - lead - 1)[:, :, None], axis=2)[:, :, 0]
    expires = lead + keeps
    in_sight = (expires <= sight) & (shelf_life > 0)[:, None]
    if in_sight.any():
        last = np.where(in_sight, expires, 1)
        left = through(np.where(np.arange(sight) >= lead[:, :, None], net, -NEVER), last)
        at_expiry = np.where(in_sight, np.maximum(at_end, left - lost_before), NEVER)
    else:
        at_expiry = np.full((n, paths), NEVER)
    demand = through(asked, serves_until)
    on_time = np.take_along_axis(come, np.minimum(until, horizon) - 1, axis=1).mean(axis=1)
    return Need(
        by_period=by_period,
        is_inside=is_inside,
        at_end=at_end,
        before=before,
        at_expiry=at_expiry,
        lost_before=lost_before,
        demand_qty=demand.mean(axis=1),
        window_demand_qty=(demand - through(asked, lead)).mean(axis=1),
        late_qty=come[:, -1] - on_time,
    )


def expected_cost(
    need: Need, qty: Floats | float, *, holding: Floats, short: Floats, waste: Floats, shortage: Shortage
) -> Floats:
    """Expected cost of ordering `qty` now, until the next order arrives, per series. Without the goods themselves.

    Args:
        need: From `need_of`.
        qty: Units per series.
        holding: Money per unit and period.
        short: Money per unit lost, or per unit and period that it waits.
        waste: Money per unit that expires.
        shortage: As in `need_of`.
    """
    y = np.broadcast_to(np.asarray(qty, dtype=np.float64), holding.shape)
    left = np.maximum(y[:, None, None] - need.by_period, 0.0) * need.is_inside
    cost = holding * left.sum(axis=2).mean(axis=1)
    if shortage == "lost":
        cost = cost + short * np.maximum(need.at_end - y[:, None], 0.0).mean(axis=1)
    else:
        waiting = np.maximum(need.by_period - y[:, None, None], 0.0) * need.is_inside
        cost = cost + short * waiting.sum(axis=2).mean(axis=1)
    return np.asarray(cost + waste * np.maximum(y[:, None] - need.at_expiry, 0.0).mean(axis=1))


def cheapest_qty(
    need: Need, *, holding: Floats, short: Floats, waste: Floats, shortage: Shortage, tolerance: float = 1e-9
) -> Ints:
    """The whole quantity per series with the least `expected_cost`, the lowest of equals; below zero it is how much of
    the stock there is too much.

    The saving of the next unit never grows with the quantity, so halving the range finds where it turns.
    """
    n = holding.size
    low = np.floor(need.by_period.min(axis=(1, 2), where=need.is_inside, initial=NEVER)).astype(np.int64) - 1
    high = np.ceil(need.by_period.max(axis=(1, 2), where=need.is_inside, initial=-NEVER)).astype(np.int64)
    count = need.is_inside.sum(axis=2).mean(axis=1)
    active = np.arange(n)
    while active.size:
        middle = (low[active] + high[active]) // 2
        unit = _next_unit(need, middle, active, count[active], shortage)
        added = holding[active] * unit.kept + waste[active] * unit.spoilt - short[active] * unit.missed
        pays = added < -tolerance * (1.0 + short[active])
        low[active] = np.where(pays, middle + 1, low[active])
        high[active] = np.where(pays, high[active], middle)
        active = active[low[active] < high[active]]
    return np.asarray(low)


@dataclass(frozen=True)
class NextUnit:
    """What one unit more than a quantity is expected to do until the next order arrives, per series.

    Attributes:
        missed: The chance that it would be missed; where demand waits, the periods that it would be waited for.
        kept: Periods that it is kept.
        spoilt: The chance that it expires.
    """

    missed: Floats
    kept: Floats
    spoilt: Floats


def next_unit(need: Need, qty: Ints, *, shortage: Shortage) -> NextUnit:
    """The unit after `qty`: ordering it pays while `missed` × the cost of a unit short is more than `kept` × holding it and
    `spoilt` × its cost."""
    return _next_unit(need, qty, np.arange(qty.size), need.is_inside.sum(axis=2).mean(axis=1), shortage)


def _next_unit(need: Need, qty: Ints, rows: Ints, periods: Floats, shortage: Shortage) -> NextUnit:
    asked = np.clip(need.by_period[rows] - qty[:, None, None], 0.0, 1.0) * need.is_inside[rows]
    used = asked.sum(axis=2).mean(axis=1)  # periods, of the window, in which it is needed by then
    missed = used if shortage == "backordered" else np.clip(need.at_end[rows] - qty[:, None], 0.0, 1.0).mean(axis=1)
    spoilt = np.clip(qty[:, None] + 1 - need.at_expiry[rows], 0.0, 1.0).mean(axis=1)
    return NextUnit(missed, periods - used, spoilt)


def qty_for_cycle_service(need: Need, ratio: Floats) -> Ints:
    """The least whole quantity per series with a chance of no stock-out until the next order of at least `ratio`."""
    at = np.sort(need.at_end, axis=1)
    place = ratio * (at.shape[1] - 1)
    low = np.floor(place).astype(np.int64)
    rows = np.arange(at.shape[0])
    high = np.minimum(low + 1, at.shape[1] - 1)
    value = at[rows, low] + (place - low) * (at[rows, high] - at[rows, low])
    return np.asarray(np.ceil(np.round(value, 6)).astype(np.int64))


def qty_for_fill_rate(need: Need, ratio: Floats) -> Ints:
    """The least whole quantity per series with which at least `ratio` of the demand between the two arrivals is served.

    Short of the cycle are E[(need at its end − y)⁺] − E[(need before it − y)⁺] units, as in Silver, Pyke & Thomas §7.9.
    """
    allowed = (1 - ratio) * need.window_demand_qty + 1e-9
    low = np.floor(np.minimum(need.at_end.min(axis=1), need.before.min(axis=1))).astype(np.int64)
    high = np.ceil(need.at_end.max(axis=1)).astype(np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        short = np.maximum(need.at_end - middle[:, None], 0.0).mean(axis=1)
        short = short - np.maximum(need.before - middle[:, None], 0.0).mean(axis=1)
        enough = short <= allowed
        high = np.where(enough, middle, high)
        low = np.where(enough, low, np.minimum(middle + 1, high))
    return np.asarray(high)


def cycle_service_of(need: Need, qty: Floats) -> Floats:
    """The chance per series that nothing is missing until the next order arrives, with `qty` ordered now."""
    return np.asarray((need.at_end <= np.asarray(qty)[:, None] + 1e-9).mean(axis=1))


def fill_rate_of(need: Need, qty: Floats) -> Floats:
    """The share of the demand between the two arrivals that is served with `qty` ordered now; 1 without demand."""
    y = np.asarray(qty, dtype=np.float64)[:, None]
    short = np.maximum(need.at_end - y, 0.0).mean(axis=1) - np.maximum(need.before - y, 0.0).mean(axis=1)
    demand = need.window_demand_qty
    return np.where(demand > 0, 1 - np.clip(short / np.where(demand > 0, demand, 1.0), 0.0, 1.0), 1.0)


def with_expiries(y: Floats, *, on_hand: float, expiring: Floats, arrivals: Floats) -> Floats:
    """Demand of one series plus the stock on hand that expires unsold: path × period.

    Args:
        y: Demand: path × period.
        on_hand: Units now.
        expiring: Per period, units on hand that expire at its end. What expires first is sold first.
        arrivals: Per period, units that arrive before it.
    """
    out = y.copy()
    left_first = np.minimum(np.cumsum(expiring), on_hand)  # units on hand that must be gone by the end of each period
    gone = np.zeros(y.shape[0])
    stock = np.full(y.shape[0], on_hand)
    for t in range(y.shape[1]):
        stock = stock + arrivals[t]
        sold = np.minimum(stock, y[:, t])
        spoilt = np.clip(left_first[t] - gone - sold, 0.0, stock - sold)
        stock = stock - sold - spoilt
        gone = gone + sold + spoilt
        out[:, t] += spoilt
    return out
