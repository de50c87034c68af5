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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from forecasting import joint
from forecasting.arrays import Floats
from forecasting.demand import exceptions_frame
from forecasting.errors import BadSetting
from forecasting.forecast import QUANTILES
from forecasting.frames import Frame, as_of_day, is_pandas, like, text_column, to_polars
from forecasting.marginal import (
    Need,
    NextUnit,
    Paths,
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
from forecasting.policies import (
    PriceBreak,
    best_lot_size_reorder_point,
    best_s_S,
    eoq,
    level_costs,
    price_at,
    yearly_cost,
)
from forecasting.pools import share_out
from forecasting.positions import (
    TARGETS,
    Forecast,
    Target,
    days_by_key,
    exception,
    of_paths,
    of_totals,
    qty_by_day,
    read_choices,
    read_positions,
    wrong,
)
from forecasting.reasons import facts_json
from forecasting.supply import AlwaysClosed, Timing, arrival_day, next_open_day, previous_open_day, timing, whole_packs
from forecasting.supply import read_price_breaks as read_breaks

WEEKS_A_YEAR = 52
MAX_WEEKS = 52.0  # what is not used within a year counts as kept for one
CHUNK = 128  # series worked on at once: what they need fits a processor's cache

PARTS = (
    "demand_part_qty",
    "safety_part_qty",
    "backordered_part_qty",
    "on_hand_part_qty",
    "on_order_part_qty",
    "late_part_qty",
    "lost_part_qty",
    "surplus_part_qty",
    "elsewhere_part_qty",
    "transfer_part_qty",
    "lot_part_qty",
    "moq_part_qty",
    "pack_part_qty",
    "wait_part_qty",
    "price_break_part_qty",
    "joint_part_qty",
    "budget_part_qty",
)
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
class OrderSettings:
    """What holds where a position says nothing.

    Attributes:
        holding_ratio: To keep a unit for a year, as a share of its cost: money, room, insurance, ageing.
        shortage_ratio: A unit short, as a share of its cost, where neither a shortage cost nor a price is known.
        shortage: Whether unmet demand is lost or waits.
        max_lot_days: A lot is never larger than the demand of so many days.
        min_max_value_cents: Products with grade C or D go by min/max when that is worth no more than this; None: never.
        min_max_cover_days: Max lies so many days of demand above min.
    """

    holding_ratio: float = 0.25
    shortage_ratio: float = 0.5
    shortage: Shortage = "lost"
    max_lot_days: int = 182
    min_max_value_cents: float | None = None
    min_max_cover_days: int = 28

    def __post_init__(self) -> None:
        if self.shortage not in ("lost", "backordered"):
            raise BadSetting(f"shortage must be lost or backordered, got {self.shortage}")
        for name in ("holding_ratio", "shortage_ratio", "max_lot_days", "min_max_cover_days"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadSetting(f"{name} must be 0 or more, got {getattr(self, name)}")


DEFAULT_SETTINGS = OrderSettings()


@dataclass(frozen=True)
class Suggestions:
    """What `suggest` gives; columns in `forecasting`.

    Attributes:
        suggestions: One row per position that has a forecast, sorted by unique_id; quantity 0 where nothing is needed.
        exceptions: Positions without a forecast, with too short a one, or with impossible numbers.
        transfers: Moves from one place to another that replace purchases, best saving first.
        suppliers: One row per supplier with a least order value: whether its order was enough, raised, or waits.
    """

    suggestions: Any
    exceptions: Any
    transfers: Any
    suppliers: Any


@dataclass(frozen=True)
class Quantity:
    """An order quantity and the whole units it is made of.

    >>> q = order_quantity(expected_demand_qty=42.4, order_up_to_qty=60, on_hand_qty=20, on_order_qty=0,
    ...                    backordered_qty=3, moq_qty=1, pack_qty=12)
    >>> q.suggested_qty, q.parts["demand_part_qty"], q.parts["safety_part_qty"], q.parts["pack_part_qty"]
    (48, 42, 18, 5)
    """

    suggested_qty: int
    parts: dict[str, int]


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
        suppliers: supplier_code, min_order_cents: the least value of all lines of one order.
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
        if not 0 < ratio < 1:
            raise BadSetting(f"{name} must be between 0 and 1, got {ratio}")
    if target is not None and target not in TARGETS:
        raise BadSetting(f"target must be one of {', '.join(TARGETS)}, got {target}")
    default: Target = target or ("cycle_service" if paths is None else "cost")
    day = as_of_day(as_of)
    asked, found = read_positions(positions, cycle_service_ratio, fill_rate_ratio, default)
    about = read_choices(choices)
    closed = days_by_key(closed_days, "closed_days", "supplier_code")
    dated = qty_by_day(on_order, "on_order", day)
    aging = qty_by_day(expiring, "expiring", day)
    forecast = of_totals(totals, asked) if paths is None else of_paths(paths, day)

    cases: list[_Case] = []
    for position in asked.iter_rows(named=True):
        case = _case(position, forecast, day, closed, settings, dated.get(position["unique_id"], []))
        if isinstance(case, _Case):
            cases.append(case)
        else:
            found.append(case)
    sizes = dict(asked.group_by("pool_id").len().drop_nulls().iter_rows())
    pools = _pools(cases, forecast, day, closed, settings, aging, sizes)
    alone = [*(case for case in cases if case.pool is None), *(pool.case for pool in pools)]
    for at in range(0, len(alone), CHUNK):
        _set_levels(alone[at : at + CHUNK], forecast, settings, aging)
    for pool in pools:
        _share_level(pool)
    for case in cases:
        _set_policy(case, settings, about.get((case.pool or case).unique_id))
        if case.pool is None and sizes.get(case.position["pool_id"]) == 1:
            _count_idle(case)
    moved = joint.transfers(_places(cases), routes) if routes else []
    for move in moved:
        next(c for c in cases if c.unique_id == move.to_unique_id).transfer_qty += move.qty
    for case in cases:
        if case.pool is None:
            _set_quantity(case, settings)
    for pool in pools:
        _settle(pool, settings)
    joined = _join_orders(cases, suppliers)
    if budget_cents is not None:
        least = {str(row[0]): row[4] for row in joined if row[1] in ("enough", "raised")}
        budgets = budget_cents.items() if isinstance(budget_cents, Mapping) else [(None, budget_cents)]
        for currency, budget in budgets:
            in_it = [case for case in cases if currency is None or case.position["currency"] == currency]
            _keep_to_budget(in_it, budget, least)
    rows = [_row(case, day, about.get((case.pool or case).unique_id), settings) for case in cases]

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
        suppliers=frame(joined, SUPPLIERS),
    )


def _by_name(finding: Mapping[str, object]) -> tuple[str, str]:
    return str(finding["unique_id"]), str(finding["code"])


# ------------------------------------------------------------------------------------------------------ one position


@dataclass
class _Case:
    """One position on its way to a suggestion; every step fills in what it decides."""

    position: dict[str, Any]
    at: int  # row of the forecast
    timing: Timing
    mean: Floats  # expected running total by day
    closed: frozenset[date]
    breaks: tuple[PriceBreak, ...]
    arrivals: list[tuple[int, int]]  # days from now, units
    target: str
    weekly_holding: float | None
    shortage_cost: float | None
    reasons: list[str]
    facts: dict[str, object]
    order_up_to_qty: int = 0
    reorder_point_qty: int = 0
    expected_qty: float = 0.0
    cycle_service_ratio: float = 0.0
    fill_rate_ratio: float | None = None
    late_qty: int = 0
    lost_qty: int = 0
    pool: _Case | None = None  # all places together, where it is planned with them
    elsewhere_qty: int = 0
    transfer_qty: int = 0
    least_qty: int = 0
    extra_qty: int = 0
    multiple_qty: int = 1
    is_by_cost: bool = False
    cost: Callable[[int], float] | None = None  # of so many units more, from an order or from another place
    samples: tuple[Floats, Floats] | None = None  # demand of the protection interval, and of it until the lead time
    quantity: Quantity = field(default_factory=lambda: Quantity(0, dict.fromkeys(PARTS, 0)))

    @property
    def unique_id(self) -> str:
        return str(self.position["unique_id"])

    @property
    def inventory_position_qty(self) -> int:
        p = self.position
        return int((p["on_hand_qty"] or 0) + p["on_order_qty"] - p["backordered_qty"])

    @property
    def gap_qty(self) -> int:
        return self.order_up_to_qty - self.inventory_position_qty + self.late_qty - self.lost_qty

    @property
    def daily_qty(self) -> float:
        return float(self.mean[-1]) / self.mean.size

    def used_after_weeks(self, qty: float) -> float:
        """Weeks after an order arrives until `qty` more than there is now is used, as expected."""
        wanted = self.inventory_position_qty + qty
        if self.mean[-1] >= wanted:
            days = float(np.searchsorted(self.mean, wanted)) + 1
        elif self.daily_qty > 0:
            days = self.mean.size + (wanted - float(self.mean[-1])) / self.daily_qty
        else:
            return MAX_WEEKS
        return min(MAX_WEEKS, max(0.0, days - self.timing.lead_days[0]) / 7)

    def sold_after_weeks(self, qty: float) -> float:
        """The same, infinite where the last of them expires before."""
        weeks, keeps = self.used_after_weeks(qty), self.position["shelf_life_days"]
        return math.inf if keeps and 7 * weeks > keeps else weeks


def _case(
    position: dict[str, Any],
    forecast: Forecast,
    day: date,
    closed: Mapping[str, frozenset[date]],
    settings: OrderSettings,
    arrivals: list[tuple[int, int]],
) -> _Case | dict[str, object]:
    """The position with its forecast and its dates, or what is wrong with it."""
    unique_id = position["unique_id"]
    impossible = wrong(position)
    if impossible:
        return exception(unique_id, "bad_position", impossible)
    at = forecast.rows.get(unique_id)
    if at is None:
        return exception(unique_id, "no_forecast", "")
    mean = forecast.mean(at)
    if not np.isfinite(mean).all():
        return exception(unique_id, "bad_forecast", "")
    days_off = closed.get(position["supplier_code"] or "", frozenset())
    try:
        breaks = read_breaks(position["price_breaks"])
        when = timing(
            day,
            lead_times_days=position["lead_times_days"] or (),
            usual_days=position["lead_time_days"],
            review_period_days=position["review_period_days"],
            closed=days_off,
        )
    except (ValueError, AlwaysClosed) as error:
        return exception(unique_id, "bad_position", str(error))
    longest = max(when.interval_days)
    if longest > mean.size:
        too_short = exception(unique_id, "horizon_too_short", f"{longest} > {mean.size}")
        return {**too_short, "protection_interval_days": longest, "horizon_days": mean.size}
    holding, shortage, facts = _costs(position, settings)
    target = position["target"]
    reasons: list[str] = []
    if target == "cost" and (holding is None or shortage is None):
        target, reasons = "cycle_service", ["cost_unknown"]
    return _Case(
        position, at, when, mean, days_off, breaks, arrivals, target, holding, shortage, reasons, facts
    )  # fmt: skip


def _costs(position: dict[str, Any], settings: OrderSettings) -> tuple[float | None, float | None, dict[str, object]]:
    """What it costs to keep a unit for a week and to be short of one, and where that comes from."""
    unit, price = position["unit_cost_cents"], position["unit_price_cents"]
    holding, shortage = position["weekly_holding_cost_cents"], position["shortage_cost_cents"]
    facts: dict[str, object] = {}
    if holding is None and unit is not None:
        holding = unit * settings.holding_ratio / WEEKS_A_YEAR
        facts["holding_ratio"] = settings.holding_ratio
    if shortage is None and unit is not None:
        if price is not None and price > unit:
            shortage, facts["shortage_from"] = price - unit, "margin"
        else:
            shortage, facts["shortage_from"] = unit * settings.shortage_ratio, "share_of_cost"
    return holding, shortage, facts


def _set_levels(
    cases: Sequence[_Case], forecast: Forecast, settings: OrderSettings, aging: Mapping[str, list[tuple[int, int]]]
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
    if over_paths:
        _set_levels_over_paths(over_paths, forecast, settings, aging)


def _set_level_by_quantile(case: _Case, forecast: Forecast) -> None:
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
    cases: Sequence[_Case], forecast: Forecast, settings: OrderSettings, aging: Mapping[str, list[tuple[int, int]]]
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
    reached, filled = cycle_service_of(need, chosen), fill_rate_of(need, chosen)
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
        case.lost_qty = math.floor(float(need.lost_before_qty[i]) + 0.5)
        case.order_up_to_qty = int(chosen[i]) + case.inventory_position_qty - case.late_qty + case.lost_qty
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


# ----------------------------------------------------------------------------------- places that serve each other


@dataclass(frozen=True)
class _Pool:
    """Positions that serve each other, and one case for all of them together."""

    case: _Case
    members: tuple[_Case, ...]


def _pools(
    cases: Sequence[_Case],
    forecast: Forecast,
    day: date,
    closed: Mapping[str, frozenset[date]],
    settings: OrderSettings,
    aging: dict[str, list[tuple[int, int]]],
    sizes: Mapping[str, int],
) -> list[_Pool]:
    """The pools that can be planned as one; what expires in them is noted under their name.

    That is where their summed demand is forecast, and all their places have the same terms and no rule of their own: the
    forecast of the sum can't be divided otherwise.
    """
    by_pool: dict[str, list[_Case]] = {}
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
        pool = _case(together, forecast, day, closed, settings, sorted(due for c in members for due in c.arrivals))
        if not isinstance(pool, _Case):
            continue
        aging[pool_id] = sorted(pair for case in members for pair in aging.get(case.unique_id, []))
        pools.append(_Pool(pool, tuple(members)))
        for case in members:
            case.pool = pool
    return pools


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


def _share_level(pool: _Pool) -> None:
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
            "pool_places": ", ".join(str(one.position["location_code"] or one.unique_id) for one in members),
            "pool_order_up_to_qty": whole.order_up_to_qty,
            "pool_demand_qty": demand,
            "pool_safety_qty": whole.order_up_to_qty - demand,
            "pool_share_ratio": round(share, 6),
            "pool_position_qty": whole.inventory_position_qty,
            "pool_reorder_point_qty": whole.reorder_point_qty,
        }


def _settle(pool: _Pool, settings: OrderSettings) -> None:
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
    ordered = 0
    for at in sorted(range(len(members)), key=lambda at: (-planned[at], at)):
        case = members[at]
        needs = max(promised[at], min(planned[at], lacking - ordered))
        case.elsewhere_qty = lacks[at] - needs
        others = sum(planned) - planned[at]
        case.cost = None if whole.cost is None else partial(_more, whole.cost, others, least_qty=promised[at])
        _set_quantity(case, settings)
        planned[at] = case.quantity.suggested_qty
        ordered += planned[at]
    if whole.cost is not None:
        before = 0  # so that the savings of the places add up to the pool's
        for case in members:
            case.cost = partial(_more, whole.cost, before)
            before += case.quantity.suggested_qty


def _count_idle(case: _Case) -> None:
    """What lies free at places that never sold it serves the only place that does, before anything is bought."""
    has_rule = case.position["policy"] != "order_up_to" or case.position["min_qty"] is not None
    promised = max(0, -case.inventory_position_qty)  # who waits here is not sent to from elsewhere
    case.elsewhere_qty = 0 if has_rule else min(max(0, case.gap_qty - promised), case.position["idle_elsewhere_qty"])
    if case.cost is not None and case.elsewhere_qty:
        case.cost = partial(_more, case.cost, case.elsewhere_qty)


def _more(cost: Callable[[int], float], before_qty: int, qty: int, *, least_qty: int = 0) -> float:
    """The cost of `qty` beside what was ordered before; below `least_qty`, which customers wait for, there is no saving."""
    return math.inf if qty < least_qty else cost(before_qty + qty)


def _unit_facts(which: str, unit: NextUnit, i: int, rates: tuple[float, float, float]) -> dict[str, object]:
    """What the last unit of the level, or the next one, is expected to save and to cost."""
    holding, short, waste = rates
    return {
        f"{which}_saving_cents": round(short * float(unit.missed[i]), 4),
        f"{which}_cost_cents": round(holding * float(unit.kept[i]) + waste * float(unit.spoilt[i]), 4),
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


def _set_policy(case: _Case, settings: OrderSettings, choice: Mapping[str, Any] | None) -> None:
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


def _most_at_once(case: _Case, settings: OrderSettings) -> float:
    days = settings.max_lot_days
    if case.position["shelf_life_days"]:
        days = min(days, case.position["shelf_life_days"])
    return case.daily_qty * days


def _order_min_max(case: _Case, least: int, most: int, reason: str) -> None:
    case.order_up_to_qty = least
    case.extra_qty = most - least
    case.late_qty = case.lost_qty = 0
    case.reasons.append(reason)
    case.facts |= {"min_qty": least, "max_qty": most}


def _order_s_S_or_R_Q(case: _Case) -> None:
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


def _set_quantity(case: _Case, settings: OrderSettings) -> None:
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


def _qty_with_breaks(case: _Case, qty: int, settings: OrderSettings) -> int:
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


# ------------------------------------------------------------------------------------------------------ several at once


def _places(cases: Sequence[_Case]) -> list[joint.Place]:
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


def _lines(cases: Sequence[_Case]) -> list[joint.Line]:
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
                unit_cost_cents=price_at(case.quantity.suggested_qty, p["unit_cost_cents"], case.breaks),
                cost=lambda qty, own=own, moved=moved: own(moved + qty),  # type: ignore[misc]
                used_after_weeks=case.sold_after_weeks,
            )
        )
    return lines


def _set_part(case: _Case, part: str, qty: int) -> None:
    """Order `qty` instead, the difference being `part`."""
    now = case.quantity
    difference = qty - now.suggested_qty
    if difference:
        case.quantity = Quantity(qty, now.parts | {part: now.parts[part] + difference})


def _bought_from(case: _Case) -> str | None:
    """The supplier's code; None for what we make, whoever else could sell it, and where nobody is known."""
    code: str | None = case.position["supplier_code"]
    return code if case.position["supply_kind"] == "purchase" else None


def _join_orders(cases: Sequence[_Case], suppliers: Frame | None) -> list[tuple[object, ...]]:
    """Raise each supplier's order to its least value, or let it wait; what was done, a row per supplier."""
    if suppliers is None:
        return []
    frame = to_polars(suppliers, name="suppliers", needs=("supplier_code", "min_order_cents"))
    by_supplier: dict[str, list[_Case]] = {}
    for case in cases:
        if (code := _bought_from(case)) is not None:
            by_supplier.setdefault(code, []).append(case)
    done: list[tuple[object, ...]] = []
    terms = frame.select(text_column(frame, "supplier_code"), pl.col("min_order_cents").cast(pl.Float64))
    for code, least in terms.sort("supplier_code").iter_rows():
        own = by_supplier.get(code, [])
        if not least or not any(case.quantity.suggested_qty for case in own):
            continue
        if any(c.quantity.suggested_qty and (c.cost is None or c.position["unit_cost_cents"] is None) for c in own):
            for case in own:
                if case.quantity.suggested_qty:
                    case.reasons.append("order_value_unknown")
                    case.facts["min_order_cents"] = least
            done.append((code, "unknown", sum(c.quantity.suggested_qty > 0 for c in own), None, least, None))
            continue
        lines = _lines(own)
        found = joint.to_least_value(lines, least)
        value = 0.0
        for case in own:
            now, qty = case.quantity.suggested_qty, found.qty.get(case.unique_id, 0)
            case.facts |= {"min_order_cents": least}
            if qty != now:
                case.reasons.append("joint_raised" if qty > now else "joint_waits")
                _set_part(case, "joint_part_qty", qty)
            if qty:
                value += qty * price_at(qty, case.position["unit_cost_cents"], case.breaks)
        count = sum(case.quantity.suggested_qty > 0 for case in own)
        done.append((code, found.decision, count, value, least, round(found.saving_cents, 4)))
    return done


def _keep_to_budget(cases: Sequence[_Case], budget_cents: float, least_values: Mapping[str, Any]) -> None:
    """Cut what is ordered and made to the budget; a supplier whose order then falls below its least value gets none."""
    qty = joint.within_budget(_lines([c for c in cases if c.quantity.suggested_qty]), budget_cents)
    left: dict[str, float] = {}
    for case in cases:
        code, unit = _bought_from(case), case.position["unit_cost_cents"]
        if case.unique_id in qty and unit is not None and code is not None:
            left[code] = left.get(code, 0.0) + qty[case.unique_id] * price_at(qty[case.unique_id], unit, case.breaks)
    too_small = {code for code, value in left.items() if value < least_values.get(code, 0.0)}
    for case in cases:
        now = case.quantity.suggested_qty
        reached = 0 if case.unique_id in qty and _bought_from(case) in too_small else qty.get(case.unique_id, now)
        if reached != now:
            case.reasons.append("budget_cut")
            case.facts["budget_cents"] = budget_cents
            _set_part(case, "budget_part_qty", reached)


# ------------------------------------------------------------------------------------------------------------ the row


def _row(case: _Case, as_of: date, choice: Mapping[str, Any] | None, settings: OrderSettings) -> dict[str, object]:
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
    if case.pool is not None and ordered and position_qty < 0:
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


OWN_LEVEL = frozenset({"min_max_given", "by_s_S", "by_R_Q"})
"""Rules that set the level themselves, whatever the target."""
WORKED_OUT = (
    "below_target",
    "enough_stock",
    "expires_unsold",
    "on_order_late",
    "lost_before_arrival",
    "pooled",
    "idle_elsewhere",
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


def _as_worked_out(reason: str) -> int:
    return WORKED_OUT.index(reason) if reason in WORKED_OUT else len(WORKED_OUT)


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


def _order_by(case: _Case, as_of: date) -> date | None:
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


def _last_day_to_order(case: _Case, as_of: date) -> date | None:
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


def _later_demand(case: _Case, as_of: date, days: int) -> Floats:
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
