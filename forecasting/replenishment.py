"""How much to order, by when, and why: a periodic-review order-up-to policy on the forecast's own distribution.

Every `review_period_days` somebody looks; what is ordered then arrives `lead_time_days` later; so one look has to
cover the protection interval, lead time + review period, lengthened by the supplier's closed days (Silver, Pyke &
Thomas 2017, "Inventory and Production Management in Supply Chains", §7.9). The level to order up to is, by `target`,

    cost           where the next unit's expected saving falls below its expected cost, over the paths of the forecast
                   (`forecasting.marginal`): holding until the next order comes, a unit short, a unit that expires
    cycle_service  the quantile `cycle_service_ratio` of the demand of the protection interval: the chance of no stock-out
    fill_rate      the least level that serves `fill_rate_ratio` of the demand from stock

and what is ordered is the level less the inventory position (on hand + on order − backordered), then the terms of the
supplier. Every step is a part in whole units, and the parts add up to suggested_qty exactly, in this order:

    demand_part        expected demand of the protection interval, rounded half up
    safety_part        the rest of the order-up-to level; below zero where a unit short costs little
    backordered, on_hand (−), on_order (−)
    late_part          on order, but later than the next order would come
    lost_part (−)      expected to be asked for and lost before an order can arrive
    surplus_part       stock above the level (it makes the sum zero when nothing is needed)
    elsewhere_part (−) other places of the pool hold more than their share and send in its stead
    transfer_part (−)  comes from another place, which has too much of it
    lot_part           more at once, because each order costs (EOQ), or by min/max
    moq_part, pack_part  to the least order and to whole packs; by cost also rounded down
    wait_part (−)      this order would cost more now than at the next review
    price_break_part   to the quantity from which on every unit is cheaper, where that costs less a year
    joint_part         to the supplier's least order value, or (−) waiting until there is enough
    budget_part (−)    what the budget doesn't reach

Positions that share a `pool_id` serve each other (`forecasting.pools`): the level is found once, from the forecast of
their summed demand, and shared out by what each is expected to send. What others hold above their share counts against the
need of the rest, and so does what packs add to the order of a place settled before. Places whose terms differ, or one
of which has a rule of its own, are planned apart.

When demand is normal with standard deviation σ a day, the quantile is μ(L+R) + z σ √(L+R), the textbook formula; here it
comes from the forecast's paths, whatever their shape.

Costs that nobody gave are derived and said in the facts: a unit is kept for `holding_ratio` of its cost a year, and a
unit short costs the margin (price − cost), or `shortage_ratio` of the cost where no price is known.

Where stock is not recorded (`on_hand_qty` NULL) the position is taken as what is on order minus what is backordered,
i.e. an empty shelf; the reason `stock_not_recorded` says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any

import polars as pl

from forecasting import joint
from forecasting.cases import DEFAULT_SETTINGS, PARTS, Case, OrderSettings, read_case
from forecasting.demand import exceptions_frame
from forecasting.errors import BadFrame, BadSetting
from forecasting.frames import Frame, as_of_day, is_pandas, like, to_polars, typed
from forecasting.levels import set_levels
from forecasting.marginal import Paths
from forecasting.policies import PriceBreak, price_at
from forecasting.pooled_orders import count_idle, pools_of, settle, share_level
from forecasting.positions import (
    TARGETS,
    Target,
    days_by_key,
    of_paths,
    of_totals,
    qty_by_day,
    read_choices,
    read_positions,
)
from forecasting.quantities import change_part, set_policy, set_quantity
from forecasting.suggestion_rows import SUGGESTIONS, suggestion_row
from forecasting.supply import whole_packs

__all__ = ["PARTS", "OrderSettings", "Suggestions", "suggest"]

TRANSFERS: dict[str, Any] = {
    "sku": pl.String,
    "from_unique_id": pl.String,
    "to_unique_id": pl.String,
    "from_location_code": pl.String,
    "to_location_code": pl.String,
    "supply_kind": pl.String,
    "transfer_qty": pl.Int64,
    "saving_cents": pl.Float64,
}
SUPPLIERS: dict[str, Any] = {
    "supplier_code": pl.String,
    "decision": pl.String,
    "lines": pl.Int64,
    "order_value_cents": pl.Float64,
    "min_order_cents": pl.Float64,
    "saving_cents": pl.Float64,
}


@dataclass(frozen=True)
class Suggestions:
    """What `suggest` gives; columns in `forecasting`.

    Attributes:
        suggestions: One row per position that has a forecast, sorted by unique_id; quantity 0 where nothing is needed.
        exceptions: Positions without a forecast, with too short a one, or with impossible numbers.
        transfers: Moves from one place to another that replace purchases, best saving first.
        suppliers: One row per supplier with a least order value: whether its order was enough, raised, waits, or lies beyond
            the budget.
    """

    suggestions: Any
    exceptions: Any
    transfers: Any
    suppliers: Any


def suggest(
    totals: Frame | None,
    positions: Frame,
    *,
    as_of: date | datetime,
    cycle_service_ratio: float = 0.95,
    choices: Frame | None = None,
    paths: Paths | None = None,
    target: Target | None = None,
    fill_rate_ratio: float = 0.98,
    settings: OrderSettings = DEFAULT_SETTINGS,
    on_order: Frame | None = None,
    expiring: Frame | None = None,
    closed_days: Frame | None = None,
    suppliers: Frame | None = None,
    routes: Sequence[joint.Route] = (),
    budget_cents: float | Mapping[str, float] | None = None,
) -> Suggestions:
    """Suggest an order for each position.

    Args:
        totals: From `plan_demand`: demand from the day after `as_of` through each day. May be None with `paths`.
        positions: unique_id and, where known, lead time, review period, stock, minimum and pack; see `forecasting`. Those
            that share a pool_id are planned together where `totals` (or `paths`) hold their sum under that name.
        as_of: The day the forecast was made at. Ordering "today" means this day.
        cycle_service_ratio: Chance of no stock-out in a cycle, where a position names none; above 0, below 1.
        choices: From `plan_demand`; gives the suggestions their trust grade and what has to be known about the history.
        paths: Possible futures; where given they are used in place of `totals`.
        target: What the level is chosen by where a position names nothing: "cost" with `paths`, else "cycle_service".
            Where a position's costs are not known, "cost" is "cycle_service" (`cost_unknown`).
        fill_rate_ratio: As `cycle_service_ratio`, for the target "fill_rate".
        settings: What costs and min/max are derived from.
        on_order: unique_id, ds, qty: when units of `on_order_qty` arrive. The rest is taken to come halfway through the
            lead time.
        expiring: unique_id, ds, qty: units on hand that expire at the end of that day. Used with `paths`.
        closed_days: supplier_code, ds: days on which a supplier takes no order, doesn't work and doesn't deliver.
        suppliers: supplier_code, min_order_cents: the least value of all lines of one order. One row per supplier.
        routes: What moving goods between two locations costs; a position needs sku and location_code for that, and none is
            moved within a pool, whose places send for each other.
        budget_cents: All orders together cost no more; by currency, those in a currency (others have no limit).

    Returns:
        Frames of the kind `positions` is. `order_by_date` is the last open day on which ordering keeps to the service
        ratio: the day before the inventory position falls below the reorder point, at the earliest `order_date`, and
        where nothing is worth ordering now, the next review; NULL when the forecast doesn't reach that day.
        `stockout_date`: the day on which expected demand uses up what is on hand and on order.

    Raises:
        BadFrame, BadSetting: The call itself is wrong. Impossible rows are listed in `exceptions`.
    """
    for name, ratio in (("cycle_service_ratio", cycle_service_ratio), ("fill_rate_ratio", fill_rate_ratio)):
        if not isinstance(ratio, int | float) or not 0 < ratio < 1:
            raise BadSetting(
                f"{name} must be between 0 and 1, got {ratio!r}", f"{name} 应在 0 与 1 之间，实为 {ratio!r}"
            )
    for budget in budget_cents.values() if isinstance(budget_cents, Mapping) else (budget_cents or 0.0,):
        if not 0 <= budget < math.inf:
            raise BadSetting(f"budget_cents must be 0 or more, got {budget}")
    if target is not None and target not in TARGETS:
        raise BadSetting(f"target must be one of {', '.join(TARGETS)}, got {target}")
    default: Target = target or ("cycle_service" if paths is None else "cost")
    day = as_of_day(as_of)
    asked, found = read_positions(positions, cycle_service_ratio, fill_rate_ratio, default)
    about = read_choices(choices)
    closed = days_by_key(closed_days, "closed_days", "supplier_code")
    dated = qty_by_day(on_order, "on_order", day)
    aging = qty_by_day(expiring, "expiring", day)
    forecast = of_totals(totals, asked, day) if paths is None else of_paths(paths, day)

    cases: list[Case] = []
    for position in asked.iter_rows(named=True):
        case = read_case(position, forecast, day, closed, settings, dated.get(position["unique_id"], []))
        if isinstance(case, Case):
            cases.append(case)
        else:
            found.append(case)
    sizes = dict(asked.group_by("pool_id").len().drop_nulls().iter_rows())
    pools = pools_of(cases, forecast, day, closed, settings, aging, sizes)
    alone = [*(case for case in cases if case.pool is None), *(pool.case for pool in pools)]
    set_levels(alone, forecast, settings, aging)
    for pool in pools:
        share_level(pool)
    for case in cases:
        set_policy(case, settings, about.get((case.pool or case).unique_id))
        if case.pool is None and sizes.get(case.position["pool_id"]) == 1:
            count_idle(case)
    moved = joint.transfers(_places(cases), routes) if routes else []
    by_name = {case.unique_id: case for case in cases}
    for move in moved:
        by_name[move.to_unique_id].transfer_qty += move.qty
    for case in cases:
        if case.pool is None:
            set_quantity(case, settings)
    for pool in pools:
        settle(pool, settings)
    least_values = _join_orders(cases, suppliers)
    if budget_cents is not None and budget_cents != {}:
        _keep_to_budget(cases, budget_cents, least_values)
    rows = [suggestion_row(case, day, about.get((case.pool or case).unique_id), settings) for case in cases]

    def frame(rows: Any, schema: dict[str, Any]) -> Any:
        return like(pl.DataFrame(rows, schema=schema, orient="row"), pandas=is_pandas(positions))

    return Suggestions(
        suggestions=frame(rows, SUGGESTIONS),
        exceptions=like(exceptions_frame(sorted(found, key=_by_name)), pandas=is_pandas(positions)),
        transfers=frame(
            [
                {
                    "sku": t.sku,
                    "from_unique_id": t.from_unique_id,
                    "to_unique_id": t.to_unique_id,
                    "from_location_code": t.from_location_code,
                    "to_location_code": t.to_location_code,
                    "supply_kind": "transfer",
                    "transfer_qty": t.qty,
                    "saving_cents": round(t.saving_cents, 4),
                }
                for t in moved
            ],
            TRANSFERS,
        ),
        suppliers=frame(_supplier_rows(cases, least_values), SUPPLIERS),
    )


def _by_name(finding: Mapping[str, object]) -> tuple[str, str]:
    return str(finding["unique_id"]), str(finding["code"])


def _places(cases: Sequence[Case]) -> list[joint.Place]:
    places = []
    for case in cases:
        p, gap = case.position, case.gap_qty
        if p["sku"] is None or p["location_code"] is None or case.pool is not None:
            continue
        there = max(0, (p["on_hand_qty"] or 0) - p["backordered_qty"])
        places.append(
            joint.Place(
                unique_id=case.unique_id,
                sku=p["sku"],
                location_code=p["location_code"],
                needed_qty=max(0, gap - case.elsewhere_qty),
                surplus_qty=max(0, min(-gap - case.extra_qty, there)),
                weekly_holding_cents=case.weekly_holding or 0.0,
                order_cents=p["order_cost_cents"],
                kept_weeks=lambda qty, case=case: case.used_after_weeks(-qty / 2),  # type: ignore[misc]
            )
        )
    return places


def _lines(cases: Sequence[Case]) -> list[joint.Line]:
    lines = []
    for case in cases:
        p, own = case.position, case.cost
        if own is None or p["unit_cost_cents"] is None:
            continue
        moved = case.transfer_qty
        lines.append(
            joint.Line(
                unique_id=case.unique_id,
                qty=case.quantity.suggested_qty,
                first_qty=whole_packs(p["moq_qty"], p["pack_qty"]),
                step_qty=p["pack_qty"],
                value=partial(_value, p["unit_cost_cents"], case.breaks),
                cost=lambda qty, own=own, moved=moved: own(moved + qty),  # type: ignore[misc]
                used_after_weeks=case.sold_after_weeks,
                supplier_code=_bought_from(case),
                currency=p["currency"],
            )
        )
    return lines


def _bought_from(case: Case) -> str | None:
    """The supplier's code; None for what we make, whoever else could sell it, and where nobody is known."""
    code: str | None = case.position["supplier_code"]
    return code if case.position["supply_kind"] == "purchase" else None


def _value(unit_cost_cents: float, breaks: Sequence[PriceBreak], qty: int) -> float:
    return qty * price_at(qty, unit_cost_cents, breaks)


@dataclass(frozen=True)
class _LeastValue:
    """A supplier's least order value, and what was done to reach it."""

    cents: float
    decision: str


def _join_orders(cases: Sequence[Case], suppliers: Frame | None) -> dict[str, _LeastValue]:
    """Raise each supplier's order to its least value, or let it wait; what was done, by supplier."""
    if suppliers is None:
        return {}
    frame = to_polars(suppliers, name="suppliers", needs=("supplier_code", "min_order_cents"))
    by_supplier = _by_supplier(cases)
    done = {}
    terms = typed(frame, name="suppliers", types={"supplier_code": pl.String, "min_order_cents": pl.Float64})
    twice = terms.filter(terms["supplier_code"].is_duplicated())["supplier_code"].drop_nulls()
    if twice.len():
        raise BadFrame(f"suppliers has several rows of {twice[0]}", f"suppliers 中 {twice[0]} 有多行")
    for code, least in terms.sort("supplier_code").iter_rows():
        own = by_supplier.get(code, [])
        if not least or not any(case.quantity.suggested_qty for case in own):
            continue
        if any(c.quantity.suggested_qty and not _is_costed(c) for c in own):
            for case in own:
                if case.quantity.suggested_qty:
                    case.reasons.append("order_value_unknown")
                    case.facts["min_order_cents"] = least
            done[code] = _LeastValue(least, "unknown")
            continue
        found = joint.to_least_value(_lines(own), least)
        for case in own:
            now, qty = case.quantity.suggested_qty, found.qty.get(case.unique_id, 0)
            case.facts |= {"min_order_cents": least}
            if qty != now:
                case.reasons.append("joint_raised" if qty > now else "joint_waits")
                change_part(case, "joint_part_qty", qty)
        done[code] = _LeastValue(least, found.decision)
    return done


def _by_supplier(cases: Sequence[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        if (code := _bought_from(case)) is not None:
            found.setdefault(code, []).append(case)
    return found


def _is_costed(case: Case) -> bool:
    return case.cost is not None and case.position["unit_cost_cents"] is not None


def _keep_to_budget(
    cases: Sequence[Case], budget_cents: float | Mapping[str, float], least_values: Mapping[str, _LeastValue]
) -> None:
    """Cut what is ordered and made to the budget; what has no known cost or currency does not count, and says so."""
    by_currency = budget_cents if isinstance(budget_cents, Mapping) else None
    ordered = [case for case in cases if case.quantity.suggested_qty]
    reached = {code: one.cents for code, one in least_values.items() if one.decision in ("enough", "raised")}
    qty = joint.within_budget(_lines(ordered), budget_cents, reached)
    for case in ordered:
        currency, now = case.position["currency"], case.quantity.suggested_qty
        if not _is_costed(case) or (by_currency is not None and currency is None):
            case.reasons.append("budget_unknown")
        elif qty[case.unique_id] != now:
            case.reasons.append("budget_cut")
            case.facts["budget_cents"] = budget_cents if by_currency is None else by_currency.get(currency)
            change_part(case, "budget_part_qty", qty[case.unique_id])


def _supplier_rows(cases: Sequence[Case], least_values: Mapping[str, _LeastValue]) -> list[tuple[object, ...]]:
    """A row per supplier with a least order value of whom something was needed, as `SUPPLIERS` says."""
    by_supplier = _by_supplier(cases)
    rows: list[tuple[object, ...]] = []
    for code, least in least_values.items():
        own = [case for case in by_supplier[code] if case.quantity.suggested_qty]
        if least.decision == "unknown":
            rows.append((code, "unknown", len(own), None, least.cents, None))
            continue
        lines = _lines(own)
        value = float(sum(line.value(line.qty) for line in lines))
        saving = float(joint.saving_cents(lines, {line.unique_id: line.qty for line in lines}))
        decision = least.decision if own or least.decision == "waited" else "beyond_budget"
        rows.append((code, decision, len(own), value, least.cents, round(saving, 4)))
    return rows
