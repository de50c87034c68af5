"""A suggestion as a row: its numbers, the codes and facts of its reason, and the days to order by and to run out on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.cases import PARTS, Case, OrderSettings
from forecasting.policies import price_at
from forecasting.reasons import facts_json
from forecasting.supply import arrival_day, next_open_day, previous_open_day

SUGGESTIONS: dict[str, Any] = {
    "unique_id": pl.String,
    "suggested_qty": pl.Int64,
    "supply_kind": pl.String,
    "supplier_code": pl.String,
    "order_date": pl.Date,
    "arrival_date": pl.Date,
    "order_by_date": pl.Date,
    "stockout_date": pl.Date,
    "lead_time_days": pl.Int64,
    "review_period_days": pl.Int64,
    "protection_interval_days": pl.Int64,
    "target": pl.String,
    "policy": pl.String,
    "cycle_service_ratio": pl.Float64,
    "fill_rate_ratio": pl.Float64,
    "expected_demand_qty": pl.Float64,
    "order_up_to_qty": pl.Int64,
    "reorder_point_qty": pl.Int64,
    "safety_stock_qty": pl.Int64,
    "inventory_position_qty": pl.Int64,
    "on_hand_qty": pl.Int64,
    "on_order_qty": pl.Int64,
    "backordered_qty": pl.Int64,
    "moq_qty": pl.Int64,
    "pack_qty": pl.Int64,
    **dict.fromkeys(PARTS, pl.Int64),
    "unit_cost_cents": pl.Float64,
    "weekly_holding_cost_cents": pl.Float64,
    "shortage_cost_cents": pl.Float64,
    "expected_saving_cents": pl.Float64,
    "grade": pl.String,
    "reason_codes": pl.List(pl.String),
    "facts": pl.String,
}

OWN_LEVEL = frozenset({"min_max_given", "by_s_S", "by_R_Q"})
"""Rules that set the level themselves, whatever the target."""

WORKED_OUT = (
    "below_target",
    "enough_stock",
    "expires_unsold",
    "on_order_late",
    "lost_on_average",
    "lost_share",
    "lost_before_arrival",
    "pooled",
    "idle_elsewhere",
    "above_share",
    "lacked_together",
    "promised_there",
    "served_elsewhere",
    "transferred",
    "min_max",
    "min_max_given",
    "by_s_S",
    "by_R_Q",
    "up_to_max",
    "whole_lots",
    "lot_for_order_cost",
    "moq_applied",
    "pack_rounded",
    "pack_rounded_down",
    "wait_cheaper",
    "price_break",
    "joint_raised",
    "joint_waits",
    "budget_cut",
)
"""Reasons that say a step of the quantity, in the order of the steps; what else there is to say comes after them."""

# What a buyer has to know of the history before ordering; the rest stays with the forecast.
INHERITED = frozenset(
    {
        "stock_outs_unknown",
        "stock_out_days_estimated",
        "promotion_ahead",
        "overridden",
        "discontinued",
        "no_demand",
        "no_demand_lately",
        "dying",
        "new",
        "short_history",
        "prior",
    }
)


def suggestion_row(
    case: Case, as_of: date, choice: Mapping[str, Any] | None, settings: OrderSettings
) -> dict[str, object]:
    p, parts, ordered = case.position, case.quantity.parts, case.quantity.suggested_qty
    on_hand, position_qty = p["on_hand_qty"], case.inventory_position_qty
    interval = p["lead_time_days"] + p["review_period_days"] + case.timing.shutdown_days
    interval = max(interval, case.timing.interval_days[0]) if len(case.timing.interval_days) == 1 else interval
    needed = max(0, case.gap_qty)
    reasons = ["below_target" if needed else "enough_stock", *case.reasons]
    if not OWN_LEVEL & set(case.reasons):
        by_cost = "by_cost" if settings.shortage == "lost" else "by_cost_waiting"
        reasons.append(by_cost if case.target == "cost" else f"by_{case.target}")
    together = case.pool or case  # while others send in its stead, a place is not late
    if needed and ordered and together.inventory_position_qty < together.reorder_point_qty:
        reasons.append("order_overdue" if case.pool is None else "order_overdue_together")
    if together.position["idle_elsewhere_qty"] and (case.pool is not None or parts["elsewhere_part_qty"]):
        reasons.append("idle_elsewhere")
    is_put_off = bool({"budget_cut", "joint_waits"} & set(case.reasons))
    if case.pool is not None and (ordered or is_put_off) and position_qty < 0:
        reasons.append("customers_wait_here")
    if on_hand is None:
        reasons.append("stock_not_recorded")
    told = {
        "late_part_qty": "on_order_late",
        "lost_part_qty": "lost_before_arrival",
        "elsewhere_part_qty": "served_elsewhere",
        "transfer_part_qty": "transferred",
        "lot_part_qty": "up_to_max"
        if case.extra_qty
        else "whole_lots"
        if case.multiple_qty > 1
        else "lot_for_order_cost",
        "moq_part_qty": "moq_applied",
        "pack_part_qty": "pack_rounded" if parts["pack_part_qty"] > 0 else "pack_rounded_down",
        "wait_part_qty": "wait_cheaper",
        "price_break_part_qty": "price_break",
    }
    reasons += [reason for part, reason in told.items() if parts[part]]
    if parts["lost_part_qty"]:
        reasons += ["lost_on_average"] if case.pool is None else ["lost_on_average", "lost_share"]
    if case.timing.shutdown_days > 0:
        reasons.append("supplier_closed")
    if len(set(case.timing.lead_days)) > 1:
        reasons.append("lead_time_spread")
    if p["is_lead_time_default"]:
        reasons.append("lead_time_default")
    if p["supply_kind"] == "production":
        reasons.append("made_here")
    unit = p["unit_cost_cents"]
    paid = None if unit is None else price_at(ordered, unit, case.breaks)
    saving = case.cost(case.transfer_qty) - case.cost(case.transfer_qty + ordered) if case.cost and ordered else 0.0
    facts: dict[str, object] = {
        "inventory_position_qty": position_qty,
        "order_up_to_qty": case.order_up_to_qty,
        "reorder_point_qty": case.reorder_point_qty,
        "moq_qty": p["moq_qty"],
        "pack_qty": p["pack_qty"],
        "cycle_service_ratio": round(case.cycle_service_ratio, 4),
        "protection_interval_days": interval,
        "expected_demand_qty": round(case.expected_qty, 2),
        "on_hand_qty": on_hand or 0,
        "on_order_qty": p["on_order_qty"],
        "backordered_qty": p["backordered_qty"],
        "gap_qty": case.order_up_to_qty - position_qty,
        "idle_elsewhere_qty": p["idle_elsewhere_qty"],
        **({"waiting_qty": -position_qty} if case.pool is not None and position_qty < 0 else {}),
        "needed_qty": needed,
        "suggested_qty": ordered,
        **{name: qty for name, qty in parts.items() if qty or name in ("demand_part_qty", "safety_part_qty")},
        **case.facts,
    }
    if p["currency"] is not None:
        facts["currency"] = p["currency"]
    if case.fill_rate_ratio is not None:
        facts["fill_rate_ratio"] = round(case.fill_rate_ratio, 6)
    if case.weekly_holding is not None and case.shortage_cost is not None:
        facts["weekly_holding_cost_cents"] = round(case.weekly_holding, 4)
        facts["shortage_cost_cents"] = round(case.shortage_cost, 4)
    if parts["lot_part_qty"] and case.least_qty:
        yearly = round(case.daily_qty * 364, 1)
        facts |= {"lot_qty": case.least_qty, "order_cost_cents": p["order_cost_cents"], "yearly_demand_qty": yearly}
    if len(set(case.timing.lead_days)) > 1:
        facts |= {"lead_low_days": min(case.timing.lead_days), "lead_high_days": max(case.timing.lead_days)}
    if case.timing.shutdown_days > 0:
        facts["shutdown_days"] = case.timing.shutdown_days
    facts["lead_time_days"] = p["lead_time_days"]
    if choice:
        reasons.extend(c for c in choice["reason_codes"] if c in INHERITED)
        facts |= choice["facts"]
    return {
        **{name: p[name] for name in SUGGESTIONS if name in p},
        "suggested_qty": ordered,
        "order_date": case.timing.order_date,
        "arrival_date": as_of
        + timedelta(days=(arrival_day(case.timing.order_date, p["lead_time_days"], case.closed) - as_of).days),
        "order_by_date": _order_by(case, as_of),
        "stockout_date": _stockout(case.mean, position_qty, as_of) if on_hand is not None else None,
        "protection_interval_days": interval,
        "target": case.target,
        "cycle_service_ratio": case.cycle_service_ratio,
        "fill_rate_ratio": case.fill_rate_ratio,
        "expected_demand_qty": round(case.expected_qty, 6),
        "order_up_to_qty": case.order_up_to_qty,
        "reorder_point_qty": case.reorder_point_qty,
        "safety_stock_qty": parts["safety_part_qty"],
        "inventory_position_qty": position_qty if on_hand is not None else None,
        **parts,
        "unit_cost_cents": paid,
        "weekly_holding_cost_cents": case.weekly_holding,
        "shortage_cost_cents": case.shortage_cost,
        "expected_saving_cents": round(saving, 4),
        "grade": choice["grade"] if choice else None,
        "reason_codes": sorted(dict.fromkeys(reasons), key=_as_worked_out),
        "facts": facts_json(facts),
    }


def _as_worked_out(reason: str) -> int:
    return WORKED_OUT.index(reason) if reason in WORKED_OUT else len(WORKED_OUT)


def _order_by(case: Case, as_of: date) -> date | None:
    """The last day to order on; where nothing is worth ordering now, not before the next review.

    Places that send for each other run short together: theirs is the day of them all, but today where customers wait.
    """
    if case.pool is not None and case.inventory_position_qty < 0:
        found: date | None = case.timing.order_date
    else:
        found = _last_day_to_order(case.pool or case, as_of)
    waits = not case.quantity.suggested_qty and "budget_cut" not in case.reasons
    if found is None or not waits:
        return found
    review = case.timing.order_date + timedelta(days=case.position["review_period_days"])
    return max(found, next_open_day(review, case.closed))


def _last_day_to_order(case: Case, as_of: date) -> date | None:
    """The last open day before the position falls below the reorder point; before a shutdown that lies higher, by the
    demand of the days by which it lengthens the lead time."""
    mean, position_qty, point = case.mean, case.inventory_position_qty, case.reorder_point_qty
    if not point and not mean[-1]:
        return None  # nobody will ask for it
    if position_qty < point:
        return case.timing.order_date
    left = position_qty - np.append(0.0, mean[:-1])  # at the start of each day, before its demand
    left = np.append(left, position_qty - mean[-1])
    points = np.full(left.size, float(point))
    if case.closed:
        points += _later_demand(case, as_of, left.size)
    below = np.flatnonzero(left < points)
    if not below.size:
        return None
    last = as_of + timedelta(days=max(0, int(below[0]) - 1))
    return previous_open_day(last, case.closed, not_before=case.timing.order_date)


def _later_demand(case: Case, as_of: date, days: int) -> Floats:
    """By day of ordering: expected demand of the days by which closed days lengthen the usual lead time."""
    usual = case.position["lead_time_days"]
    nearest = max(case.closed) + timedelta(days=usual)
    out = np.zeros(days)
    known = np.append(0.0, case.mean)
    for d in range(min(days, max(0, (nearest - as_of).days + 1))):
        day = as_of + timedelta(days=d)
        took = (arrival_day(next_open_day(day, case.closed), usual, case.closed) - day).days
        if took > usual:
            out[d] = known[min(d + took, known.size - 1)] - known[min(d + usual, known.size - 1)]
    return out


def _stockout(mean: Floats, inventory_position: int, as_of: date) -> date | None:
    if inventory_position <= 0 and mean[-1] > 0:
        return as_of + timedelta(days=int(np.flatnonzero(mean > 0)[0]) + 1)
    used_up = np.flatnonzero(mean >= inventory_position) if mean[-1] > 0 else np.zeros(0)
    return as_of + timedelta(days=int(used_up[0]) + 1) if used_up.size else None
