"""From a level to a quantity: the rule that turns one into the other, lots, minimum, packs and price breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forecasting.cases import PARTS, WEEKS_A_YEAR, Case, OrderSettings, Quantity
from forecasting.policies import best_lot_size_reorder_point, best_s_S, eoq, level_costs, price_at, yearly_cost
from forecasting.supply import whole_packs


def order_quantity(
    *,
    expected_demand_qty: float,
    order_up_to_qty: int,
    on_hand_qty: int | None,
    on_order_qty: int,
    backordered_qty: int,
    moq_qty: int = 1,
    pack_qty: int = 1,
    late_qty: int = 0,
    lost_qty: int = 0,
    elsewhere_qty: int = 0,
    transfer_qty: int = 0,
    least_qty: int = 0,
    extra_qty: int = 0,
    multiple_qty: int = 1,
    cost: Callable[[int], float] | None = None,
    break_qty: Callable[[int], int] | None = None,
) -> Quantity:
    """The quantity to order and its waterfall; `parts` sum to `suggested_qty`. On hand None counts as zero.

    Args:
        expected_demand_qty, order_up_to_qty, on_hand_qty, on_order_qty, backordered_qty: Units.
        moq_qty, pack_qty: The supplier's least order, and the number it comes in multiples of.
        late_qty: Of what is on order, too late to count.
        lost_qty: Of the expected demand, lost before an order can arrive.
        elsewhere_qty: Other places hold so much above their share; no more than is needed of it counts, as of
        transfer_qty: Comes from another place.
        least_qty: At least so much when anything (EOQ).
        extra_qty: So much on top when anything (max − min).
        multiple_qty: Lots come in multiples of it, (R, Q).
        cost: Expected cost when so many units are ordered now; then the number of packs is the cheaper one, and nothing
            is ordered when that costs less. Must be convex.
        break_qty: The quantity at which a price break makes it worth to order, the same one where none does.

    >>> q = order_quantity(expected_demand_qty=42.4, order_up_to_qty=60, on_hand_qty=20, on_order_qty=0,
    ...                    backordered_qty=3, moq_qty=1, pack_qty=12)
    >>> q.suggested_qty, q.parts["demand_part_qty"], q.parts["safety_part_qty"], q.parts["pack_part_qty"]
    (48, 42, 18, 5)
    """
    demand = math.floor(expected_demand_qty + 0.5)
    on_hand = on_hand_qty or 0
    gap = order_up_to_qty + backordered_qty - on_hand - on_order_qty + late_qty - lost_qty
    needed = max(0, gap)
    own = max(0, needed - elsewhere_qty)
    left = max(0, own - transfer_qty)
    lot = whole_packs(max(left + extra_qty, least_qty), multiple_qty) if left else 0
    raised = max(lot, moq_qty) if lot else 0
    packed = whole_packs(raised, pack_qty)
    if cost is not None and packed != left:
        fewer = packed - pack_qty
        if fewer >= max(moq_qty, least_qty) and cost(fewer) < cost(packed):
            packed = fewer
    is_waiting = cost is not None and packed != left and cost(packed) >= cost(0)  # the level itself always pays
    ordered = 0 if is_waiting else packed
    broken = break_qty(ordered) if break_qty is not None and ordered else ordered
    parts = dict.fromkeys(PARTS, 0) | {
        "demand_part_qty": demand,
        "safety_part_qty": order_up_to_qty - demand,
        "backordered_part_qty": backordered_qty,
        "on_hand_part_qty": -on_hand,
        "on_order_part_qty": -on_order_qty,
        "late_part_qty": late_qty,
        "lost_part_qty": -lost_qty,
        "surplus_part_qty": needed - gap,
        "elsewhere_part_qty": own - needed,
        "transfer_part_qty": left - own,
        "lot_part_qty": lot - left,
        "moq_part_qty": raised - lot,
        "pack_part_qty": packed - raised,
        "wait_part_qty": ordered - packed,
        "price_break_part_qty": broken - ordered,
    }
    return Quantity(broken, parts)


def set_policy(case: Case, settings: OrderSettings, choice: Mapping[str, Any] | None) -> None:
    """Which rule turns the level into an order: up to it, min/max, (s, S) or (R, Q); and the lot worth its ordering
    cost."""
    p = case.position
    unit, yearly = p["unit_cost_cents"], case.daily_qty * 364
    if p["min_qty"] is not None and p["max_qty"] is not None:
        _order_min_max(case, p["min_qty"], p["max_qty"], "min_max_given")
    elif p["policy"] != "order_up_to" and case.samples is not None and case.weekly_holding is not None:
        _order_s_S_or_R_Q(case)
    elif choice is not None and choice["grade"] in ("C", "D") and settings.min_max_value_cents is not None:
        top = case.order_up_to_qty + math.ceil(round(case.daily_qty * settings.min_max_cover_days, 6))
        if unit is not None and 0 < top * unit <= settings.min_max_value_cents:
            case.facts["min_max_value_cents"] = settings.min_max_value_cents
            _order_min_max(case, case.order_up_to_qty, top, "min_max")
    if not case.extra_qty and case.multiple_qty == 1 and p["order_cost_cents"] > 0 and case.weekly_holding:
        lot = eoq(
            yearly_demand=yearly,
            order_cost=p["order_cost_cents"],
            yearly_holding_cost=case.weekly_holding * WEEKS_A_YEAR,
        )
        case.least_qty = math.floor(min(lot, _most_at_once(case, settings)) + 0.5)
    case.is_by_cost = case.target == "cost" and not case.extra_qty and case.multiple_qty == 1


def _most_at_once(case: Case, settings: OrderSettings) -> float:
    days = settings.max_lot_days
    if case.position["shelf_life_days"]:
        days = min(days, case.position["shelf_life_days"])
    return case.daily_qty * days


def _order_min_max(case: Case, least: int, most: int, reason: str) -> None:
    case.order_up_to_qty = least
    case.extra_qty = most - least
    case.late_qty = case.lost_qty = 0
    case.reasons.append(reason)
    case.facts |= {"min_qty": least, "max_qty": most}


def _order_s_S_or_R_Q(case: Case) -> None:
    """(s, S) or (R, Q) by cost over the paths, a review as the period (see `forecasting.policies`)."""
    assert case.samples is not None and case.weekly_holding is not None and case.shortage_cost is not None
    whole, before = case.samples
    weeks = case.position["review_period_days"] / 7
    costs = level_costs(whole, holding_cost=case.weekly_holding * weeks, shortage_cost=case.shortage_cost)
    asked = np.maximum(np.rint(whole - before), 0).astype(np.int64)
    pmf = np.bincount(asked) / asked.size
    if pmf[0] >= 1:
        return
    order_cost = case.position["order_cost_cents"]
    if case.position["policy"] == "s_S":
        s, top, _ = best_s_S(costs, pmf, order_cost=order_cost)
        _order_min_max(case, s + 1, top, "by_s_S")
        case.facts["reorder_at_qty"] = s
    else:
        point, lot, _ = best_lot_size_reorder_point(costs, demand_rate=float(asked.mean()), order_cost=order_cost)
        case.order_up_to_qty, case.multiple_qty = point + 1, lot
        case.late_qty = case.lost_qty = 0
        case.reasons.append("by_R_Q")
        case.facts |= {"reorder_at_qty": point, "lot_qty": lot}


def set_quantity(case: Case, settings: OrderSettings) -> None:
    p, own = case.position, case.cost
    moved = case.transfer_qty
    case.quantity = order_quantity(
        expected_demand_qty=case.expected_qty,
        order_up_to_qty=case.order_up_to_qty,
        on_hand_qty=p["on_hand_qty"],
        on_order_qty=p["on_order_qty"],
        backordered_qty=p["backordered_qty"],
        moq_qty=p["moq_qty"],
        pack_qty=p["pack_qty"],
        late_qty=case.late_qty,
        lost_qty=case.lost_qty,
        elsewhere_qty=case.elsewhere_qty,
        transfer_qty=moved,
        least_qty=case.least_qty,
        extra_qty=case.extra_qty,
        multiple_qty=case.multiple_qty,
        cost=None if own is None or not case.is_by_cost else lambda qty: own(moved + qty),
        break_qty=(lambda qty: _qty_with_breaks(case, qty, settings)) if case.breaks else None,
    )


def _qty_with_breaks(case: Case, qty: int, settings: OrderSettings) -> int:
    """`qty`, or the price break above it that costs less a year (`policies.yearly_cost`)."""
    p, yearly = case.position, case.daily_qty * 364
    unit = p["unit_cost_cents"]
    if unit is None or not unit or not case.weekly_holding or not yearly:
        return qty
    holding_ratio = case.weekly_holding * WEEKS_A_YEAR / unit
    review_qty = case.daily_qty * p["review_period_days"]

    def cost(lot: float) -> float:
        return yearly_cost(
            lot,
            yearly_demand=yearly,
            order_cost=p["order_cost_cents"],
            holding_ratio=holding_ratio,
            unit_cost=price_at(lot, unit, case.breaks),
        )

    # what is ordered now may be less than usual; a lot is compared with the usual one, else a small top-up looked dear
    usual, price = max(qty, review_qty, case.least_qty), price_at(qty, unit, case.breaks)
    best = (yearly_cost(usual, yearly_demand=yearly, order_cost=p["order_cost_cents"],
                        holding_ratio=holding_ratio, unit_cost=price), qty)  # fmt: skip
    for b in case.breaks:
        lot = whole_packs(b.min_qty, p["pack_qty"])
        if lot > qty and lot <= _most_at_once(case, settings):
            best = min(best, (cost(lot), lot))
    if best[1] != qty:
        paid = price_at(best[1], unit, case.breaks)
        case.facts |= {
            "unit_cost_cents": price,
            "paid_unit_cost_cents": paid,
            "yearly_demand_qty": round(yearly, 1),
            "break_saving_cents": round((price - paid) * yearly),
            "break_holding_cents": round(holding_ratio * (paid * best[1] - price * usual) / 2),
        }
    return best[1]


def change_part(case: Case, part: str, qty: int) -> None:
    """Order `qty` instead, the difference being `part`."""
    now = case.quantity
    difference = qty - now.suggested_qty
    if difference:
        case.quantity = Quantity(qty, now.parts | {part: now.parts[part] + difference})
