"""Places that serve each other (`forecasting.pools`): one level for all of them, shared out; what they order makes up what all
lack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from forecasting.cases import Case, OrderSettings, read_case
from forecasting.pools import share_out
from forecasting.positions import Forecast
from forecasting.quantities import set_quantity

POOL_TERMS = (
    "lead_time_days",
    "lead_times_days",
    "review_period_days",
    "cycle_service_ratio",
    "fill_rate_ratio",
    "target",
    "policy",
    "supply_kind",
    "supplier_code",
    "unit_cost_cents",
    "unit_price_cents",
    "weekly_holding_cost_cents",
    "shortage_cost_cents",
    "shelf_life_days",
)

MOST_NAMED = 8  # places a reason names of those that hold more than their share; the rest is in its sum


@dataclass(frozen=True)
class Pool:
    """Positions that serve each other, and one case for all of them together."""

    case: Case
    members: tuple[Case, ...]


def pools_of(
    cases: Sequence[Case],
    forecast: Forecast,
    day: date,
    closed: Mapping[str, frozenset[date]],
    settings: OrderSettings,
    aging: dict[str, list[tuple[int, int]]],
    sizes: Mapping[str, int],
) -> list[Pool]:
    """The pools that can be planned as one; what expires in them is noted under their name.

    That is where their summed demand is forecast, and all their places have the same terms and no rule of their own: the
    forecast of the sum can't be divided otherwise.
    """
    by_pool: dict[str, list[Case]] = {}
    for case in cases:
        if case.position["pool_id"] in forecast.rows:
            by_pool.setdefault(case.position["pool_id"], []).append(case)
    pools = []
    for pool_id, members in by_pool.items():
        first = members[0]
        terms = {tuple(str(case.position[name]) for name in POOL_TERMS) for case in members}
        has_rule = first.position["policy"] != "order_up_to" or any(c.position["min_qty"] is not None for c in members)
        if len(members) < 2 or len(members) < sizes[pool_id] or len(terms) > 1 or has_rule:
            continue
        known = [case.position["on_hand_qty"] for case in members if case.position["on_hand_qty"] is not None]
        sums = {name: sum(case.position[name] for case in members) for name in ("on_order_qty", "backordered_qty")}
        on_hand = sum(known) + first.position["idle_elsewhere_qty"] if known else None
        together = first.position | sums | {"unique_id": pool_id, "on_hand_qty": on_hand}
        pool = read_case(together, forecast, day, closed, settings, sorted(due for c in members for due in c.arrivals))
        if not isinstance(pool, Case):
            continue
        aging[pool_id] = sorted(pair for case in members for pair in aging.get(case.unique_id, []))
        pools.append(Pool(pool, tuple(members)))
        for case in members:
            case.pool = pool
    return pools


def share_level(pool: Pool) -> None:
    """Give each place its share of the pool's level, by what it is expected to send."""
    whole, members = pool.case, pool.members
    until = whole.timing.interval_days[0]
    expected = [float(case.mean[min(until, case.mean.size) - 1]) for case in members]
    shares = [qty / sum(expected) if sum(expected) > 0 else 1 / len(members) for qty in expected]
    late = [sum(qty for days, qty in case.arrivals if days > until) for case in members]
    parts = zip(
        members,
        shares,
        share_out(whole.order_up_to_qty, shares),
        share_out(whole.reorder_point_qty, shares),
        share_out(whole.lost_qty, shares),
        share_out(whole.late_qty, late if sum(late) else [case.position["on_order_qty"] for case in members]),
        strict=True,
    )
    demand = math.floor(whole.expected_qty + 0.5)
    for case, share, level, point, lost, late_qty in parts:
        case.order_up_to_qty, case.reorder_point_qty, case.lost_qty, case.late_qty = level, point, lost, late_qty
        case.expected_qty = whole.expected_qty * share
        case.cycle_service_ratio, case.fill_rate_ratio = whole.cycle_service_ratio, whole.fill_rate_ratio
        case.reasons += ["pooled", *whole.reasons]
        case.facts |= whole.facts | {
            "pool_places": ", ".join(_place(one) for one in members),
            "pool_order_up_to_qty": whole.order_up_to_qty,
            "pool_demand_qty": demand,
            "pool_safety_qty": whole.order_up_to_qty - demand,
            "pool_share_ratio": round(share, 6),
            "pool_position_qty": whole.inventory_position_qty,
            "pool_reorder_point_qty": whole.reorder_point_qty,
            "pool_late_qty": whole.late_qty,
            "pool_lost_qty": whole.lost_qty,
        }


def settle(pool: Pool, settings: OrderSettings) -> None:
    """Set the quantities of a pool, the place that lacks most first, so that they make up what the pool lacks.

    What others hold above their share counts for those that lack something, and so does what packs and minimums add to the
    orders of places settled before. Customers who wait at a place for more than it has and gets are its own: what is
    promised there is not sent from elsewhere. A quantity is weighed with those of the others as they are by then.
    """
    whole, members = pool.case, pool.members
    lacks = [max(0, case.gap_qty) for case in members]
    promised = [min(lack, max(0, -case.inventory_position_qty)) for case, lack in zip(members, lacks, strict=True)]
    lacking = min(sum(lacks), max(sum(promised), whole.gap_qty))
    rest = share_out(lacking - sum(promised), [lack - own for lack, own in zip(lacks, promised, strict=True)])
    planned = [own + more for own, more in zip(promised, rest, strict=True)]
    together = _above_share(members) | {
        "pool_gap_qty": whole.gap_qty,
        "pool_lacks_qty": sum(lacks),
        "pool_lacking_qty": lacking,
        "promised_qty": sum(promised),
    }
    told = ["lacked_together"]
    if together["pool_above_qty"]:
        told.append("above_share")
    if sum(promised):
        told.append("promised_there")
    ordered = 0
    for at in sorted(range(len(members)), key=lambda at: (-planned[at], at)):
        case = members[at]
        needs = max(promised[at], min(planned[at], lacking - ordered))
        case.elsewhere_qty = lacks[at] - needs
        if case.elsewhere_qty:
            case.facts |= together | {"lacking_here_qty": planned[at], "ordered_before_qty": ordered}
            case.reasons += told
        others = sum(planned) - planned[at]
        case.cost = None if whole.cost is None else partial(_more, whole.cost, others, least_qty=promised[at])
        set_quantity(case, settings)
        planned[at] = case.quantity.suggested_qty
        ordered += planned[at]
    if whole.cost is not None:
        before = 0  # so that the savings of the places add up to the pool's
        for case, least in zip(members, promised, strict=True):
            case.cost = partial(_more_or_owed, whole.cost, before, least, case.shortage_cost or 0.0)
            before += case.quantity.suggested_qty


def _above_share(members: Sequence[Case]) -> dict[str, object]:
    """What places hold above their share, in units: `position − share = above` by place, the most first; and their sum."""
    above = sorted((case for case in members if case.gap_qty < 0), key=lambda case: case.gap_qty)
    told = []
    for case in above[:MOST_NAMED]:
        position_qty = case.inventory_position_qty
        told.append(f"{_place(case)} {position_qty} − {position_qty + case.gap_qty} = {-case.gap_qty}")
    return {
        "pool_above": ", ".join(told) + (", …" if len(above) > MOST_NAMED else ""),
        "pool_above_qty": -sum(case.gap_qty for case in above),
    }


def _place(case: Case) -> str:
    return str(case.position["location_code"] or case.unique_id)


def count_idle(case: Case) -> None:
    """What lies free at places that never sold it serves the only place that does, before anything is bought."""
    has_rule = case.position["policy"] != "order_up_to" or case.position["min_qty"] is not None
    promised = max(0, -case.inventory_position_qty)  # who waits here is not sent to from elsewhere
    case.elsewhere_qty = 0 if has_rule else min(max(0, case.gap_qty - promised), case.position["idle_elsewhere_qty"])
    if case.elsewhere_qty and promised:
        case.reasons.append("promised_there")
        case.facts["promised_qty"] = promised
    if case.cost is not None and case.elsewhere_qty:
        case.cost = partial(_more_or_owed, case.cost, case.elsewhere_qty, promised, case.shortage_cost or 0.0)


def _more(cost: Callable[[int], float], before_qty: int, qty: int, *, least_qty: int = 0) -> float:
    """The cost of `qty` beside what was ordered before; below `least_qty`, which customers wait for, there is no saving."""
    return math.inf if qty < least_qty else cost(before_qty + qty)


def _more_or_owed(
    cost: Callable[[int], float], before_qty: int, promised: int, shortage_cost: float, qty: int
) -> float:
    """The cost of `qty` beside what was ordered before; a unit that customers wait for at this place is missed for certain
    when it is not ordered."""
    return cost(before_qty + qty) + shortage_cost * max(0, promised - qty)
