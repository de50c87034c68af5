"""The level to order up to: by the quantiles of the forecast, or over its paths by cost, cycle service or fill rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from forecasting.arrays import Floats, Ints
from forecasting.cases import Case, OrderSettings
from forecasting.forecast import QUANTILES
from forecasting.marginal import (
    Need,
    NextUnit,
    Shortage,
    cheapest_qty,
    cycle_service_of,
    expected_cost,
    fill_rate_of,
    need_of,
    next_unit,
    qty_for_cycle_service,
    qty_for_fill_rate,
    spread_lead_times,
    with_expiries,
)
from forecasting.positions import Forecast

CHUNK = 128  # series worked on at once: what they need fits a processor's cache


def demand_quantile(levels: Floats, values: Floats, ratio: float) -> float:
    """The quantile `ratio` between known ones, straight lines between them; outside them the outermost."""
    return float(np.interp(ratio, levels, values))


def textbook_order_up_to(*, daily_mean: float, daily_sd: float, days: int, z: float) -> float:
    """μT + zσ√T: the order-up-to level for independent normal days (Silver, Pyke & Thomas 2017, §7.9), units. What
    `suggest` comes to when the forecast's paths are like that.

    >>> round(textbook_order_up_to(daily_mean=10, daily_sd=4, days=16, z=1.645), 2)
    186.32
    """
    return daily_mean * days + z * daily_sd * math.sqrt(days)


def set_levels(
    cases: Sequence[Case], forecast: Forecast, settings: OrderSettings, aging: Mapping[str, list[tuple[int, int]]]
) -> None:
    """The level of each position: by its quantiles where nothing else is asked, else over the paths."""
    over_paths = []
    for case in cases:
        p = case.position
        is_costed = case.weekly_holding is not None and case.shortage_cost is not None
        by_quantile = forecast.quantiles is not None and case.target == "cycle_service" and not p["lead_times_days"]
        if not by_quantile or is_costed or p["policy"] != "order_up_to":
            over_paths.append(case)
        if by_quantile:
            _set_level_by_quantile(case, forecast)
    for at in range(0, len(over_paths), CHUNK):
        _set_levels_over_paths(over_paths[at : at + CHUNK], forecast, settings, aging)


def _set_level_by_quantile(case: Case, forecast: Forecast) -> None:
    ratio = case.position["cycle_service_ratio"]
    spread = forecast.spread(case.at)
    lead, interval = case.timing.lead_days[0], case.timing.interval_days[0]
    case.expected_qty = float(case.mean[interval - 1])
    level = math.ceil(round(demand_quantile(np.array(QUANTILES), spread[interval - 1], ratio), 6))
    case.order_up_to_qty = max(
        level, math.floor(case.expected_qty + 0.5)
    )  # a low quantile must not plan to miss the mean
    case.reorder_point_qty = (
        math.ceil(round(demand_quantile(np.array(QUANTILES), spread[lead - 1], ratio), 6)) if lead else 0
    )
    case.cycle_service_ratio = ratio
    if not QUANTILES[0] <= ratio <= QUANTILES[-1]:
        case.reasons.append("service_capped")


def _set_levels_over_paths(
    cases: Sequence[Case], forecast: Forecast, settings: OrderSettings, aging: Mapping[str, list[tuple[int, int]]]
) -> None:
    size = forecast.period_days
    lead = [[-(-d // size) for d in case.timing.lead_days] for case in cases]
    until = [[-(-d // size) for d in case.timing.interval_days] for case in cases]
    keeps = np.array([max(1, (c.position["shelf_life_days"] or 0) // size) if c.position["shelf_life_days"] else 0
                      for c in cases], dtype=np.int64)  # fmt: skip
    # before closed days the order of now and that of the next review may come on one day
    longest = max(*(max(each) for each in until), *(max(each) + 1 for each in lead))
    most = max((max(row) + int(k) for row, k in zip(lead, keeps, strict=True) if k), default=0)
    y = forecast.paths([case.at for case in cases], max(longest, most))
    n, count, horizon = y.shape
    arrivals = np.zeros((n, horizon + 1))
    for i, case in enumerate(cases):
        for days, qty in case.arrivals:
            arrivals[i, min(horizon, -(-max(days, 0) // size))] += qty
        left = case.position["on_order_qty"] - sum(qty for _, qty in case.arrivals)
        arrivals[i, min(horizon, case.timing.lead_days[0] // 2 // size)] += left
        if case.unique_id in aging:
            spoils = np.zeros(horizon)
            for days, qty in aging[case.unique_id]:
                if -(-max(days, 1) // size) <= horizon:
                    spoils[-(-max(days, 1) // size) - 1] += qty
            on_hand, asked_qty = float(case.position["on_hand_qty"] or 0), y[i, :, : max(until[i])].sum()
            y[i] = with_expiries(y[i], on_hand=on_hand, expiring=spoils, arrivals=arrivals[i])
            spoilt = math.floor((y[i, :, : max(until[i])].sum() - asked_qty) / count + 0.5)
            if spoilt and case.target != "cycle_service":
                case.reasons.append("expires_unsold")
                case.facts["expiring_qty"] = spoilt
    leads = spread_lead_times(lead, count)
    ends = np.maximum(spread_lead_times(until, count, second=True), leads + 1)
    need = need_of(
        y,
        on_hand=np.array([float(c.position["on_hand_qty"] or 0) for c in cases]),
        backordered=np.array([float(c.position["backordered_qty"]) for c in cases]),
        arrivals=arrivals,
        lead=leads,
        until=ends,
        shelf_life=keeps,
        shortage=settings.shortage,
    )
    waits = size / 7 if settings.shortage == "backordered" else 1.0
    holding = np.array([(c.weekly_holding or 0.0) * size / 7 for c in cases])
    short = np.array([(c.shortage_cost or 0.0) * waits for c in cases])
    waste = np.array([c.position["unit_cost_cents"] or 0.0 for c in cases])
    cheapest = cheapest_qty(need, holding=holding, short=short, waste=waste, shortage=settings.shortage)
    for_service = qty_for_cycle_service(need, np.array([c.position["cycle_service_ratio"] for c in cases]))
    for_fill = (
        qty_for_fill_rate(need, np.array([c.position["fill_rate_ratio"] for c in cases]))
        if any(c.target == "fill_rate" for c in cases)
        else cheapest
    )
    by_target = {"cost": cheapest, "cycle_service": for_service, "fill_rate": for_fill}
    chosen = np.array([int(by_target[c.target][i]) for i, c in enumerate(cases)], dtype=np.float64)
    reached, filled, lost = cycle_service_of(need, chosen), fill_rate_of(need, chosen), need.lost_before.mean(axis=1)
    money = {"holding": holding, "short": short, "waste": waste}
    at_nothing = expected_cost(need, 0.0, **money, shortage=settings.shortage)
    at_chosen = expected_cost(need, np.maximum(chosen, 0.0), **money, shortage=settings.shortage)
    last, following = (next_unit(need, cheapest - less, shortage=settings.shortage) for less in (1, 0))
    for i, case in enumerate(cases):
        if case.weekly_holding is not None and case.shortage_cost is not None:
            known = {0: float(at_nothing[i]), max(0, int(chosen[i])): float(at_chosen[i])}
            case.cost = _cost_of(need, i, known, holding=holding, short=short, waste=waste, shortage=settings.shortage)
        if case.target == "cost":
            rates = (float(holding[i]), float(short[i]), float(waste[i]))
            case.facts |= _unit_facts("last", last, i, rates) | _unit_facts("next", following, i, rates)
            case.facts["last_kept_weeks"] = round(float(last.kept[i]) * size / 7, 2)
            missed = "last_missed_ratio" if settings.shortage == "lost" else "last_missed_weeks"
            case.facts[missed] = round(float(last.missed[i]) * (1 if settings.shortage == "lost" else size / 7), 6)
        if case.position["policy"] != "order_up_to":
            asked = np.concatenate([np.zeros((count, 1)), np.cumsum(y[i], axis=1)], axis=1)
            each = np.arange(count)
            case.samples = (asked[each, ends[i]], asked[each, leads[i]])
        if case.order_up_to_qty or case.cycle_service_ratio:
            continue  # by its quantiles, as exact as they are
        case.expected_qty = float(need.demand_qty[i])
        case.late_qty = round(float(need.late_qty[i]))
        case.lost_qty = math.floor(float(lost[i]) + 0.5)
        if case.lost_qty:
            case.facts |= _loss_facts(need, i, case, arrivals[i], leads[i])
        level = int(chosen[i]) + case.inventory_position_qty - case.late_qty + case.lost_qty
        case.order_up_to_qty = max(0, level)
        case.cycle_service_ratio = min(max(float(reached[i]), 0.001), 0.999)
        case.fill_rate_ratio = float(filled[i])
        if case.target == "cycle_service":
            case.cycle_service_ratio = case.position["cycle_service_ratio"]
        served = max(1, lead[i][0])
        of_lead = np.sort(y[i, :, :served].sum(axis=1))
        case.reorder_point_qty = (
            math.ceil(round(float(np.interp(case.cycle_service_ratio, (np.arange(count) + 0.5) / count, of_lead)), 6))
            if lead[i][0]
            else 0
        )
        # futures differ in what is lost before an order comes; the level counts it on average
        case.reorder_point_qty = min(case.reorder_point_qty, case.order_up_to_qty)


def _unit_facts(which: str, unit: NextUnit, i: int, rates: tuple[float, float, float]) -> dict[str, object]:
    """What the last unit of the level, or the next one, is expected to save and to cost."""
    holding, short, waste = rates
    return {
        f"{which}_saving_cents": round(short * float(unit.missed[i]), 4),
        f"{which}_cost_cents": round(holding * float(unit.kept[i]) + waste * float(unit.spoilt[i]), 4),
    }


def _loss_facts(need: Need, i: int, case: Case, arrivals: Floats, leads: Ints) -> dict[str, object]:
    """What is lost on average before an order can arrive, in units, and what that is the average of."""
    lost, p = need.lost_before[i], case.position
    free_qty = (p["on_hand_qty"] or 0) - p["backordered_qty"]
    there = np.maximum(0.0, free_qty + np.append(0.0, np.cumsum(arrivals))[leads])
    missed = lost[lost > 0]
    return {
        "until_arrival_demand_qty": round(float(need.demand_qty[i] - need.window_demand_qty[i]), 2),
        "free_now_qty": max(0, free_qty),
        "coming_before_qty": round(float(there.mean()) - max(0, free_qty), 2),
        "futures": lost.size,
        "short_futures": missed.size,
        "missed_qty": round(float(missed.mean()), 2),
        "lost_mean_qty": round(float(lost.mean()), 2),
    }


def _cost_of(
    need: Need, i: int, known: dict[int, float], *, holding: Floats, short: Floats, waste: Floats, shortage: Shortage
) -> Callable[[int], float]:
    """The expected cost of one series by quantity, remembered; `known` holds some to begin with."""
    known = {qty: round(cost, 9) for qty, cost in known.items()}
    one = slice(i, i + 1)

    def cost(qty: int) -> float:
        if qty not in known:
            found = expected_cost(
                need.of(i), float(qty), holding=holding[one], short=short[one], waste=waste[one], shortage=shortage
            )
            known[qty] = round(float(found[0]), 9)
        return known[qty]

    return cost
