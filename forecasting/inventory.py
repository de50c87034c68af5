"""Inventory policy: what a service target costs in stock, and what lies too long. Frames in, frames out.

The warehouse has the marts that stand on stored movements (`mart.turnover`, `mart.excess_dead_stock`, `mart.abc_xyz`); this
is what needs the forecast's distribution, or works on any frame without a warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.cases import DEFAULT_SETTINGS, Case, OrderSettings, read_case
from forecasting.errors import BadSetting
from forecasting.frames import Frame, as_of_day, is_pandas, like, text_column, to_polars, typed
from forecasting.levels import CHUNK
from forecasting.marginal import (
    LEVELS,
    Need,
    cheapest_qty,
    cycle_service_of,
    expected_cost,
    need_of,
    qty_for_cycle_service,
    qty_for_fill_rate,
    spread_lead_times,
)
from forecasting.pooled_orders import pools_of
from forecasting.positions import Forecast, Target, of_totals, read_choices, read_positions
from forecasting.quantities import set_policy
from forecasting.supply import whole_packs

CURVE: dict[str, Any] = {
    "unique_id": pl.String,
    "currency": pl.String,
    "target": pl.String,
    "cycle_service_ratio": pl.Float64,
    "order_up_to_qty": pl.Int64,
    "mean_on_hand_qty": pl.Float64,
    "yearly_demand_qty": pl.Float64,
    "yearly_short_qty": pl.Float64,
    "mean_stock_cents": pl.Float64,
    "yearly_holding_cents": pl.Float64,
    "yearly_shortage_cents": pl.Float64,
}
RATIOS = (0.50, 0.60, 0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
ABOVE = 8  # so many positions stand for all that packs and minimums put above a level


def service_curve(
    totals: Frame,
    positions: Frame,
    *,
    as_of: date | datetime,
    ratios: Sequence[float] = RATIOS,
    settings: OrderSettings = DEFAULT_SETTINGS,
    choices: Frame | None = None,
    target: Target = "cost",
    cycle_service_ratio: float = 0.95,
    fill_rate_ratio: float = 0.98,
) -> Frame:
    """What each target would cost in stock and in sales, per position or pool, if demand went on as in the coming weeks.

    A review raises the inventory position to a level S or, because of packs and minimums, up to Q − 1 units above it; as
    reviews go on it is anywhere there equally often (Zipkin 2000, §6.2.3). With D(t) the demand of the first t days
    after a review, L the lead time and R the review period, from the position S + u follow in the evenings of the days
    L + 1 … L + R the stock (S + u − D(t))⁺, and in a cycle are short (D(L + R) − S − u)⁺ − (D(L) − S − u)⁺ (Silver, Pyke &
    Thomas 2017, §7.9). D and L are those that `suggest` reads: nothing is assumed of their shape. What is short is taken to
    wait; where it is lost there is a little more stock than said. Closed days and shelf life are not looked at,
    nor the rules (s, S) and (R, Q), which are taken for ordering up to a level.

    Args:
        totals, positions, choices, settings: As `suggest` takes them; the stock of the positions plays no part.
        as_of: The day the forecast was made at.
        ratios: Cycle service targets, each above 0 and below 1.
        target, fill_rate_ratio, cycle_service_ratio: As `suggest` takes them: what orders aim at now.

    Returns:
        By `unique_id`, for each position that stands alone and each pool that is planned together: a row for each of
        `ratios` (target `cycle_service`); where its costs are known one for `cost`, with the service that comes to; and
        one for what it aims at `now`.
        Quantities and money are expected ones: on hand and stock of an evening, the others of a year. Money is NULL
        where the cost it needs is not known. Positions that `suggest` would list in its exceptions are left out.

    Raises:
        BadFrame, BadSetting: The call itself is wrong.
    """
    for ratio in (*ratios, cycle_service_ratio, fill_rate_ratio):
        if not 0 < ratio < 1:
            raise BadSetting(f"a service ratio must be between 0 and 1, got {ratio}")
    day = as_of_day(as_of)
    asked, _ = read_positions(positions, cycle_service_ratio, fill_rate_ratio, target)
    about = read_choices(choices)
    forecast = of_totals(totals, asked, day)
    read = [read_case(position, forecast, day, {}, settings, []) for position in asked.iter_rows(named=True)]
    cases = [case for case in read if isinstance(case, Case)]
    sizes = dict(asked.group_by("pool_id").len().drop_nulls().iter_rows())
    pools = pools_of(cases, forecast, day, {}, settings, {}, sizes)
    alone = [*(case for case in cases if case.pool is None), *(pool.case for pool in pools)]
    alone.sort(key=lambda case: case.unique_id)
    rows: list[tuple[object, ...]] = []
    for at in range(0, len(alone), CHUNK):
        chunk = alone[at : at + CHUNK]
        need, cycles = _from_a_review(chunk, forecast)
        grid = [qty_for_cycle_service(need, np.full(len(chunk), ratio)) for ratio in ratios]
        for i, case in enumerate(chunk):
            cycle = _Cycle(need.of(i), float(cycles[i]), settings)
            levels = [("cycle_service", ratio, int(level[i])) for ratio, level in zip(ratios, grid, strict=True)]
            rows += _curve_of(case, cycle, levels, about.get(case.unique_id))
    return like(pl.DataFrame(rows, schema=CURVE, orient="row"), pandas=is_pandas(totals))


def _from_a_review(cases: Sequence[Case], forecast: Forecast) -> tuple[Need, Floats]:
    """Demand from a review on through each day between the arrivals of its order and of the next, and reviews a year."""
    lead = spread_lead_times([case.timing.lead_days for case in cases], LEVELS.size)
    until = spread_lead_times([case.timing.interval_days for case in cases], LEVELS.size, second=True)
    until = np.maximum(until, lead + 1)
    y = forecast.paths([case.at for case in cases], int(until.max()))
    nothing = np.zeros(len(cases))
    need = need_of(
        y,
        on_hand=nothing,
        backordered=nothing,
        arrivals=np.zeros((len(cases), y.shape[2] + 1)),
        lead=lead,
        until=until,
        shelf_life=np.zeros(len(cases), dtype=np.int64),
        shortage="backordered",
    )
    return need, 365 / (until - lead).mean(axis=1)


@dataclass(frozen=True)
class _Cycle:
    """Demand of one position from a review on, and what follows from where that review leaves it."""

    need: Need
    cycles: float  # a year
    settings: OrderSettings

    def followed_by(self, at: Floats) -> tuple[Floats, Floats, Floats]:
        """Mean stock of an evening, units short a year, and unit-weeks waited for them, for each row of inventory positions,
        each of a row as likely."""
        inside = self.need.by_period[self.need.is_inside]
        on_hand = _mean_above(at, inside)
        waiting = inside.mean() - at + on_hand
        end, before = self.need.at_end[0], self.need.before[0]
        short = (end.mean() - at + _mean_above(at, end)) - (before.mean() - at + _mean_above(at, before))
        return on_hand.mean(axis=1), short.mean(axis=1) * self.cycles, waiting.mean(axis=1) * 365 / 7

    def service(self, at: int) -> float:
        """The chance that a cycle from `at` on misses nothing."""
        return float(cycle_service_of(self.need, np.array([float(at)]))[0])

    def cheapest(self, case: Case) -> int:
        """The position with the least expected cost of a cycle."""
        holding, short = self._rates(case)
        found = cheapest_qty(
            self.need, holding=holding, short=short, waste=np.zeros(1), shortage=self.settings.shortage
        )
        return max(0, int(found[0]))

    def cheapest_from(self, case: Case, best: int, lot: int) -> int:
        """The lowest position at which nothing is ordered: a whole lot more would cost as much (the condition of the best
        (R, Q) rule, Zipkin 2000, §6.5.2). `best` is the `cheapest` one."""
        low, high = max(0, best - lot + 1), best
        while low < high:
            middle = (low + high) // 2
            if self._cost(case, middle) <= self._cost(case, middle + lot):
                high = middle
            else:
                low = middle + 1
        return low

    def _cost(self, case: Case, at: int) -> float:
        """Expected cost of a cycle from the position `at` on."""
        holding, short = self._rates(case)
        shortage = self.settings.shortage
        return float(
            expected_cost(self.need, float(at), holding=holding, short=short, waste=np.zeros(1), shortage=shortage)[0]
        )

    def _rates(self, case: Case) -> tuple[Floats, Floats]:
        """Holding a unit for a day, and a unit lost or waiting for a day."""
        days = 7 if self.settings.shortage == "backordered" else 1
        return np.array([(case.weekly_holding or 0.0) / 7]), np.array([(case.shortage_cost or 0.0) / days])


def _mean_above(at: Floats, demand: Floats) -> Floats:
    """E[(at − demand)⁺] for each of `at`."""
    ordered = np.sort(demand, axis=None)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, at, side="right")
    return np.asarray((count * at - sums[count]) / ordered.size)


def _curve_of(
    case: Case, cycle: _Cycle, grid: Sequence[tuple[str, float, int]], choice: Mapping[str, Any] | None
) -> list[tuple[object, ...]]:
    """The rows of a position: those of the `grid` (target, ratio, level), of the least cost, and of what it aims at."""
    p, need, settings = case.position, cycle.need, cycle.settings
    is_costed = case.weekly_holding is not None and case.shortage_cost is not None
    cheapest = cycle.cheapest(case) if is_costed else 0
    if case.target == "cost":
        case.order_up_to_qty = cheapest
    elif case.target == "fill_rate":
        case.order_up_to_qty = int(qty_for_fill_rate(need, np.array([p["fill_rate_ratio"]]))[0])
    else:
        case.order_up_to_qty = int(qty_for_cycle_service(need, np.array([p["cycle_service_ratio"]]))[0])
    set_policy(case, settings, choice)
    lot = _lot_qty(case, float(need.window_demand_qty[0]))
    is_free = not case.extra_qty and case.multiple_qty == 1  # to order fewer packs, or to wait, where that is cheaper
    levels = [*grid]
    if is_costed:
        least = cycle.cheapest_from(case, cheapest, lot) if is_free else cheapest
        levels.append(("cost", cycle.service(least), least))
    now = least if case.target == "cost" and is_free else case.order_up_to_qty
    levels.append(("now", cycle.service(now), now))
    steps = np.arange(lot, dtype=np.float64) if lot <= ABOVE else (np.arange(ABOVE) + 0.5) / ABOVE * lot - 0.5
    followed = cycle.followed_by(np.array([level for _, _, level in levels])[:, None] + steps)
    rows: list[tuple[object, ...]] = []
    for (target, ratio, level), on_hand, short, waited in zip(
        levels, *(part.tolist() for part in followed), strict=True
    ):
        missed = short if settings.shortage == "lost" else waited
        rows.append((
            case.unique_id, p["currency"], target, ratio, level, on_hand,
            float(need.window_demand_qty[0]) * cycle.cycles, short,
            None if p["unit_cost_cents"] is None else on_hand * p["unit_cost_cents"],
            None if case.weekly_holding is None else on_hand * case.weekly_holding / 7 * 365,
            None if case.shortage_cost is None else missed * case.shortage_cost,
        ))  # fmt: skip
    return rows


def _lot_qty(case: Case, cycle_demand_qty: float) -> int:
    """Positions, in units, among which a review leaves this one: packs, or lots larger than what a cycle sells. Of what
    nobody asks for nothing is ordered."""
    if cycle_demand_qty <= 0:
        return 1
    p = case.position
    lot = whole_packs(max(case.least_qty, p["moq_qty"]), p["pack_qty"])
    return int(max(p["pack_qty"], lot if lot > cycle_demand_qty else 1, case.multiple_qty, case.extra_qty + 1))


def stock_health(positions: Frame, totals: Frame, *, as_of: date, dead_after_days: int = 180) -> Frame:
    """What lies where it will not sell: excess over the forecast, dead stock, its age and how fast it turns.

    Args:
        positions: unique_id, on_hand_qty, unit_cost_cents; last_out_date (NULL: nothing ever left), in_since_date (since
            when there has been stock without a break), yearly_out_qty (units that left in a year).
        totals: From `plan_demand`; the longest horizon of a series is what its stock may cover. High demand counts: the
            95 % quantile.
        dead_after_days: Stock of which nothing left for so long, and that has been there so long, is dead.

    Returns:
        One row per position with stock: unique_id, on_hand_qty, stock_cents, age_days, turns_ratio (units that left in a year /
        units there), cover_qty (95 % demand of the horizon), excess_qty, excess_cents, stock_class: dead, excess or ok.
    """
    columns = ("unique_id", "on_hand_qty", "unit_cost_cents", "last_out_date", "in_since_date", "yearly_out_qty")
    given = to_polars(positions, name="positions", needs=columns).select(columns)
    types = {"unique_id": pl.String, "last_out_date": pl.Date, "in_since_date": pl.Date}
    at = given.with_columns(typed(given, name="positions", types=types)).filter(pl.col("on_hand_qty") > 0)
    table = to_polars(totals, name="totals", needs=("unique_id", "horizon_days", "q95"))
    cover = (
        table.with_columns(text_column(table, "unique_id"))
        .sort("horizon_days")
        .group_by("unique_id")
        .agg(pl.col("q95").last().ceil().cast(pl.Int64).alias("cover_qty"))
    )

    def days_since(name: str) -> pl.Expr:
        return (pl.lit(as_of) - pl.col(name)).dt.total_days()

    age = days_since("in_since_date")
    is_dead = (age >= dead_after_days) & (days_since("last_out_date") >= dead_after_days).fill_null(True)
    above = pl.max_horizontal(pl.col("on_hand_qty") - pl.col("cover_qty"), 0)
    kind = pl.when("is_dead").then(pl.lit("dead")).when(above > 0).then(pl.lit("excess")).otherwise(pl.lit("ok"))
    excess = pl.when("is_dead").then("on_hand_qty").otherwise(above)
    found = (
        at.join(cover, on="unique_id", how="left")
        .with_columns(pl.col("cover_qty").fill_null(0), is_dead.fill_null(False).alias("is_dead"))
        .select(
            "unique_id",
            "on_hand_qty",
            (pl.col("on_hand_qty") * pl.col("unit_cost_cents")).alias("stock_cents"),
            age.alias("age_days"),
            (pl.col("yearly_out_qty") / pl.col("on_hand_qty")).round(6).alias("turns_ratio"),
            "cover_qty",
            excess.alias("excess_qty"),
            (excess * pl.col("unit_cost_cents")).alias("excess_cents"),
            kind.alias("stock_class"),
        )
        .sort("unique_id")
    )
    return like(found, pandas=is_pandas(positions))
