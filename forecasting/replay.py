"""What a way of ordering would have cost: past demand day by day, ordered for with only what was known then, in money.

>>> import polars as pl
>>> from datetime import date, timedelta
>>> days = [date(2026, 1, 1) + timedelta(days=d) for d in range(120)]
>>> history = pl.DataFrame({"unique_id": ["LAMP@HEL"] * 120, "ds": days, "y": [5.0] * 120})
>>> terms = pl.DataFrame({"unique_id": ["LAMP@HEL"], "on_hand_qty": [70], "lead_time_days": [7], "unit_cost_cents": [800.0],
...                       "holding_cost_cents": [0.5], "shortage_cost_cents": [66.5]})
>>> week_more = replay(history, terms, {"mean13": MeanWithCover(cover_weeks=1)}, start=days[92], days=28)
>>> week_more.summary.select("holding_cents", "shortage_cents", "orders", "fill_rate_ratio").row(0)
(700, 0, 4, 1.0)

One day: what is due arrives; demand is served, the rest is lost (or waits); what lies there in the evening is paid for;
where a review is due, the policy is asked how much to order. What is ordered in the evening of day t with a lead time of L
days is there in the morning of day t + L + 1, so that lead time + review period are the days one order has to cover, as in
`replenishment`. The first review is in the evening before `start`.

Places of one pool (`pool_id` of the terms) serve each other: what a place can't serve, waiting or of the day, goes out from the
others of its pool, from the one with most left first (ties by unique_id); where that is not enough for all who ask, they are
served by unique_id. Demand, and what nobody could serve, are counted where they were asked for. So it is under every policy
and for what was really ordered; what sending from another place costs is not counted.

A policy is anything that can be called with a `Known` and answers with one whole number per position. It is given history
up to the evening of the review and no more, and the same lead times, minimums, packs and costs as every other policy.
`Ours` is the product itself: `plan_demand` and `suggest`.

On days on which stock was really out (`is_censored`; of a pool: everywhere) what was recorded is a lower bound: demand of the
replay is then the estimate the forecast learns from (`demand`: eight earlier days of that weekday), in whole units, the same
for everybody.
Without it, what was really ordered would look better than it was: who met an empty shelf was not counted.

Money. Holding: units on hand in the evening × holding_cost_cents (a unit and day). Shortage: shortage_cost_cents × units
lost; where they wait, × units waiting in the evening / 7 (a unit and week, as in `replenishment`). Ordering: order_cost_cents ×
orders. Cost is the sum of the three. What the goods themselves cost is told beside it (`purchase_cents`), not added.
Amounts are rounded per series and week; totals are sums of the rounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from statsforecast import models as sf

from forecasting.arrays import Floats, Ints
from forecasting.demand import ROWS, complete_calendar, first_day, read_history
from forecasting.errors import BadFrame, BadSetting
from forecasting.forecast import ITEMS, DemandPlan, PlanSettings, plan_demand
from forecasting.frames import Frame, is_pandas, like, one_row_each, text_column, to_polars, typed
from forecasting.pools import pooled_history, read_pools, with_pooled_stock_outs, with_pools
from forecasting.positions import POSITIONS
from forecasting.replenishment import OrderSettings, suggest

TERMS: dict[str, tuple[Any, object]] = {  # column: type, value where it is NULL or missing
    "lead_time_days": (pl.Int64, 14),
    "lead_time_sd_days": (pl.Float64, 0.0),
    "review_period_days": (pl.Int64, 7),
    "on_hand_qty": (pl.Int64, 0),
    "backordered_qty": (pl.Int64, 0),
    "moq_qty": (pl.Int64, 1),
    "pack_qty": (pl.Int64, 1),
    "unit_cost_cents": (pl.Float64, 0.0),
    "holding_cost_cents": (pl.Float64, 0.0),
    "shortage_cost_cents": (pl.Float64, 0.0),
    "order_cost_cents": (pl.Float64, 0.0),
}
MONEY: dict[str, Any] = {
    "policy": pl.String,
    "unique_id": pl.String,
    "period_start": pl.Date,
    "holding_cents": pl.Int64,
    "shortage_cents": pl.Int64,
    "ordering_cents": pl.Int64,
    "cost_cents": pl.Int64,
    "purchase_cents": pl.Int64,
    "orders": pl.Int64,
    "ordered_qty": pl.Int64,
    "demand_qty": pl.Int64,
    "short_qty": pl.Int64,
    "end_on_hand_qty": pl.Int64,
}
ORDERS: dict[str, Any] = {
    "policy": pl.String,
    "unique_id": pl.String,
    "ordered_date": pl.Date,
    "arrival_date": pl.Date,
    "ordered_qty": pl.Int64,
}
AS_ORDERED = "as_ordered"
DEFAULT_SERVICE = 0.95


@dataclass(frozen=True)
class Known:
    """What a policy may know at a review: the evening of `as_of`.

    Attributes:
        as_of: Last day known.
        history: unique_id, ds, y, is_censored of every series through `as_of`, sorted.
        daily: The same demand as an array: one row per row of `positions`, the last column is `as_of`.
        positions: One row per series that is reviewed today, sorted by unique_id: its terms and costs, pool_id (NULL:
            alone), and on_hand_qty, on_order_qty, backordered_qty as this policy has brought them about.
        items: What is known of the things themselves, as `plan_demand` takes it; an end_date only once it has passed.
        closed_dates: Days without business, past and coming, as they could be told on `as_of`.
        promotions: As `plan_demand` takes them, as they were known on `as_of`.
        is_lost: Demand that meets no stock goes away; False: it waits.
        shared: Notes that all policies of this evening share: what does not depend on stock, like a forecast.
        memory: Notes of this policy from its earlier reviews in this replay.
    """

    as_of: date
    history: pl.DataFrame
    daily: Floats
    positions: pl.DataFrame
    items: pl.DataFrame | None
    closed_dates: Collection[date]
    promotions: Frame | None
    is_lost: bool
    shared: dict[str, Any]
    memory: dict[str, Any]

    @property
    def interval_days(self) -> Ints:
        """Lead time + review period of each position, days."""
        return (self.positions["lead_time_days"] + self.positions["review_period_days"]).to_numpy()

    def up_to(self, level: Floats) -> Ints:
        """Order quantities that raise each inventory position to `level`, by minimum and pack."""
        column = {name: self.positions[name].to_numpy() for name in ("moq_qty", "pack_qty")}
        p = self.positions.select(pl.col("on_hand_qty") + pl.col("on_order_qty") - pl.col("backordered_qty"))
        short = np.ceil(np.round(level, 6)).astype(np.int64) - p.to_series().to_numpy()
        raised = np.where(short > 0, np.maximum(short, column["moq_qty"]), 0)
        return np.asarray(-(-raised // column["pack_qty"]) * column["pack_qty"])


Policy = Callable[[Known], Ints]


@dataclass(frozen=True)
class Replay:
    """What `replay` gives.

    Attributes:
        money: One row per (policy, unique_id, period_start): what a week cost, columns of `MONEY`; units are whole units.
        summary: One row per policy, in the order asked for: the sums, fill_rate_ratio, and mean_stock_cents (what lay
            there of an evening at cost).
        orders: One row per order: policy, unique_id, ordered_date, arrival_date, ordered_qty.
    """

    money: Any
    summary: Any
    orders: Any


def service_costs(
    unit_cost_cents: float, *, holding_ratio: float, cycle_service_ratio: float, review_period_days: int
) -> tuple[float, float]:
    """Holding cost of a unit and day and the cost of a unit lost at which `cycle_service_ratio` is just worth its stock.

    The newsvendor's critical ratio Cu / (Cu + Co) = service, with Co the holding of one review period (Silver, Pyke &
    Thomas 2017, §9.2), solved for Cu. Minor currency units, not rounded. `holding_ratio`: of the unit cost, a year.

    >>> holding, shortage = service_costs(1000, holding_ratio=0.25, cycle_service_ratio=0.95, review_period_days=7)
    >>> round(holding, 3), round(shortage, 1)
    (0.685, 91.1)
    """
    if not 0 < cycle_service_ratio < 1:
        raise BadSetting(f"cycle_service_ratio must be between 0 and 1, got {cycle_service_ratio}")
    holding = unit_cost_cents * holding_ratio / 365
    return holding, holding * review_period_days * cycle_service_ratio / (1 - cycle_service_ratio)


def with_service_costs(
    terms: pl.DataFrame, *, holding_ratio: float, cycle_service_ratio: float, order_cost_cents: float = 0.0
) -> pl.DataFrame:
    """`terms` with holding_cost_cents and shortage_cost_cents of `service_costs`, and order_cost_cents for all."""
    costs = [
        service_costs(
            cost,
            holding_ratio=holding_ratio,
            cycle_service_ratio=cycle_service_ratio,
            review_period_days=review,
        )
        for cost, review in terms.select("unit_cost_cents", "review_period_days").iter_rows()
    ]
    return terms.with_columns(
        pl.Series("holding_cost_cents", [holding for holding, _ in costs], dtype=pl.Float64),
        pl.Series("shortage_cost_cents", [shortage for _, shortage in costs], dtype=pl.Float64),
        pl.lit(order_cost_cents, dtype=pl.Float64).alias("order_cost_cents"),
    )


def replay(
    history: Frame,
    terms: Frame,
    policies: Mapping[str, Policy],
    *,
    start: date,
    days: int,
    items: Frame | None = None,
    closed_dates: Callable[[date], Collection[date]] = lambda as_of: (),
    promotions: Callable[[date], Frame | None] = lambda as_of: None,
    under_way: Frame | None = None,
    as_ordered: Frame | None = None,
    is_lost: bool = True,
    seed: int = 7,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Replay:
    """Run `days` days of demand from `start` through every policy.

    Args:
        history: unique_id, ds, y, is_censored, before `start` and through the replay; as `plan_demand` takes it. Rows
            that can't be read (y below zero, no number, a mistyped year: `demand.first_day`) are no demand here.
        terms: One row per series to be replayed: columns of `TERMS`; on_hand_qty and backordered_qty are those of the
            morning of `start`, before anything is received. Series with the same pool_id (text; NULL or missing: none)
            serve each other; they are reviewed on the same days.
        policies: Name -> policy. The first is the one others are compared with, see `compare`.
        start: First day of demand; the evening before is the first review.
        days: Days of demand.
        items: As `plan_demand` takes it.
        closed_dates: Asked at each review for the days without business known then, past and coming.
        promotions: Asked at each review for those known then, past and planned; as `plan_demand` takes them.
        under_way: What was ordered before `start`: unique_id, arrival_date, ordered_qty. It arrives for every policy.
        as_ordered: What was really ordered: unique_id, ordered_date, arrival_date (NULL: not arrived yet), ordered_qty.
            Run as one policy more, named ``as_ordered``.
        is_lost: Demand that meets no stock goes away; False: it waits, and is served first.
        seed: Draws the lead times where lead_time_sd_days is above zero: the same for all policies.
        tell: Called with the days done and the days in all.

    Returns:
        Frames of the kind `history` is. Same input, same bytes.

    Raises:
        BadFrame, BadSetting: The call itself is wrong.
    """
    if days < 1:
        raise BadSetting(f"days must be at least 1, got {days}")
    if not policies and as_ordered is None:
        raise BadSetting("replay needs at least one policy")
    about = _read_terms(terms)
    ids = about["unique_id"].to_list()
    rows = _read_rows(history)
    rows = rows.filter(pl.col("ds") >= first_day(rows["ds"], start - timedelta(days=1)))
    first = min([start - timedelta(days=1), *rows["ds"].sort().head(1).to_list()])
    demand = _by_day(
        rows.with_columns(pl.col("y").round(0)), ids, "ds", "y", first=first, days=(start - first).days + days
    )
    demand += _unrecorded(rows, about, first=first, days=demand.shape[1])
    before = demand.shape[1] - days  # columns through the evening before `start`
    ahead = np.zeros((len(ids), days), dtype=np.int64)
    if under_way is not None:
        frame = to_polars(under_way, name="under_way", needs=("unique_id", "arrival_date", "ordered_qty"))
        types = {"unique_id": pl.String, "arrival_date": pl.Date, "ordered_qty": pl.Float64}
        frame = typed(frame, name="under_way", types=types)
        ahead += _by_day(frame, ids, "arrival_date", "ordered_qty", first=start, days=days).astype(np.int64)
    runs = {name: _Run(about, ahead, is_lost=is_lost) for name in policies}
    if as_ordered is not None:
        runs[AS_ORDERED] = _Run(about, ahead, is_lost=is_lost)
        runs[AS_ORDERED].order_what_was(as_ordered, ids, start=start, days=days)
    known_items = None if items is None else to_polars(items, name="items", needs=("unique_id",), may_have=ITEMS)
    review = about["review_period_days"].to_numpy()
    for day in range(days):
        as_of = start + timedelta(days=day - 1)
        due = np.flatnonzero(day % review == 0)
        if due.size and policies:
            lead_days = _lead_days(about, as_of, seed)
            past, closed, shared = rows.filter(pl.col("ds") <= as_of), closed_dates(as_of), dict[str, Any]()
            offers = promotions(as_of)
            for name, policy in policies.items():
                known = Known(
                    as_of=as_of,
                    history=past,
                    daily=demand[due, : before + day],
                    positions=runs[name].positions(due),
                    items=_items_known(known_items, as_of),
                    closed_dates=closed,
                    promotions=offers,
                    is_lost=is_lost,
                    shared=shared,
                    memory=runs[name].memory,
                )
                runs[name].order(
                    due, _checked(policy(known), name, due.size), day=day, lead_days=lead_days, as_of=as_of
                )
        for run in runs.values():
            run.live(day, demand[:, before + day].astype(np.int64))
        tell(day + 1, days)
    money = pl.concat([run.money(name, start) for name, run in runs.items()])
    orders = pl.concat([run.order_rows(name) for name, run in runs.items()])
    pandas = is_pandas(history)
    return Replay(
        money=like(money, pandas=pandas),
        summary=like(_summary(money, {name: run.mean_stock_cents() for name, run in runs.items()}), pandas=pandas),
        orders=like(orders, pandas=pandas),
    )


class _Run:
    """The stock of all series under one policy, and what it cost so far: arrays of series × day."""

    def __init__(self, about: pl.DataFrame, ahead: Ints, *, is_lost: bool) -> None:
        self.about, self.is_lost = about, is_lost
        self.pool = _pool_numbers(about)
        self.on_hand, self.waiting = about["on_hand_qty"].to_numpy().copy(), about["backordered_qty"].to_numpy().copy()
        self.arrivals = ahead.copy()
        self.on_order = ahead.sum(axis=1)
        self.demand, self.evening, self.short, self.late, self.ordered = (np.zeros_like(ahead) for _ in range(5))
        self.memory: dict[str, Any] = {}
        self._orders: list[tuple[date, Ints, Ints, Ints]] = []

    def positions(self, due: Ints) -> pl.DataFrame:
        """Where the series that are due stand this evening."""
        now = {"on_hand_qty": self.on_hand, "on_order_qty": self.on_order, "backordered_qty": self.waiting}
        return self.about.with_columns(pl.Series(name, qty) for name, qty in now.items())[due]

    def order(self, due: Ints, qty: Ints, *, day: int, lead_days: Ints, as_of: date) -> None:
        """Order `qty` of the series `due` in the evening before `day`."""
        at, qty = due[qty > 0], qty[qty > 0]
        self.ordered[at, day] = qty
        self.on_order[at] += qty
        arrives = day + lead_days[at]
        in_time = arrives < self.arrivals.shape[1]
        np.add.at(self.arrivals, (at[in_time], arrives[in_time]), qty[in_time])
        self._orders.append((as_of, at, lead_days[at] + 1, qty))

    def order_what_was(self, as_ordered: Frame, ids: Sequence[str], *, start: date, days: int) -> None:
        """Take the orders of the replay's days, and their arrivals, from what really happened."""
        frame = to_polars(
            as_ordered, name="as_ordered", needs=("unique_id", "ordered_date", "arrival_date", "ordered_qty")
        )
        types = {"unique_id": pl.String, "ordered_date": pl.Date, "arrival_date": pl.Date, "ordered_qty": pl.Int64}
        frame = typed(frame, name="as_ordered", types=types)
        # an order of the last day serves nothing that is counted, and no policy is asked for one
        frame = frame.filter(
            pl.col("ordered_date").is_between(start - timedelta(days=1), start + timedelta(days=days - 2))
        )
        where = {unique_id: i for i, unique_id in enumerate(ids)}
        frame = frame.filter(pl.col("unique_id").is_in(ids)).sort("ordered_date", "unique_id")
        self.ordered += _by_day(
            frame, ids, "ordered_date", "ordered_qty", first=start - timedelta(days=1), days=days
        ).astype(np.int64)
        self.arrivals += _by_day(frame, ids, "arrival_date", "ordered_qty", first=start, days=days).astype(np.int64)
        for unique_id, ordered, arrival, qty in frame.select(
            "unique_id", "ordered_date", "arrival_date", "ordered_qty"
        ).iter_rows():
            took = (arrival - ordered).days if arrival is not None else -1
            self._orders.append((ordered, np.array([where[unique_id]]), np.array([took]), np.array([qty])))

    def live(self, day: int, demand: Ints) -> None:
        """What is due arrives, the waiting are served, then the day's demand."""
        self.on_hand += self.arrivals[:, day]
        self.on_order -= self.arrivals[:, day]
        self.waiting -= self._serve(self.waiting)
        sold = self._serve(demand)
        self.demand[:, day], self.short[:, day] = demand, demand - sold
        if not self.is_lost:
            self.waiting += demand - sold
            self.late[:, day] = self.waiting
        self.evening[:, day] = self.on_hand

    def _serve(self, asked: Ints) -> Ints:
        """Units served of what is asked at each place: from its own stock, then from that of its pool."""
        served = np.minimum(self.on_hand, asked)
        self.on_hand -= served
        taken, given = _lend(self.on_hand, asked - served, self.pool)
        self.on_hand -= taken
        return np.asarray(served + given)

    def money(self, policy: str, start: date) -> pl.DataFrame:
        """One row per series and week, columns of `MONEY`."""
        series, days = self.evening.shape
        weeks = np.arange(0, days, 7)

        def weekly(daily: Ints) -> Ints:
            return np.add.reduceat(daily, weeks, axis=1)

        def cents(units: Ints | Floats, price: str) -> Ints:
            return np.asarray(np.floor(units * self.about[price].to_numpy()[:, None] + 0.5).astype(np.int64))

        # a unit that waits pays by the week, see the module's text
        short = weekly(self.short) if self.is_lost else weekly(self.late) / 7
        orders = weekly((self.ordered > 0).astype(np.int64))
        columns = {
            "holding_cents": cents(weekly(self.evening), "holding_cost_cents"),
            "shortage_cents": cents(short, "shortage_cost_cents"),
            "ordering_cents": cents(orders, "order_cost_cents"),
            "purchase_cents": cents(weekly(self.ordered), "unit_cost_cents"),
            "orders": orders,
            "ordered_qty": weekly(self.ordered),
            "demand_qty": weekly(self.demand),
            "short_qty": weekly(self.short),
            "end_on_hand_qty": self.evening[:, np.append(weeks[1:], days) - 1],
        }
        starts = pl.Series([start + timedelta(days=int(week)) for week in weeks], dtype=pl.Date)
        frame = pl.DataFrame(
            {
                "policy": pl.repeat(policy, series * weeks.size, dtype=pl.String, eager=True),
                "unique_id": self.about["unique_id"].gather(np.repeat(np.arange(series), weeks.size)),
                "period_start": starts.gather(np.tile(np.arange(weeks.size), series)),
                **{name: values.ravel() for name, values in columns.items()},
            }
        )
        cost = pl.sum_horizontal("holding_cents", "shortage_cents", "ordering_cents").alias("cost_cents")
        return frame.with_columns(cost).select(*MONEY).cast(pl.Schema(MONEY))

    def mean_stock_cents(self) -> int:
        """What lay there of an evening, at cost."""
        return round(float((self.evening.mean(axis=1) * self.about["unit_cost_cents"].to_numpy()).sum()))

    def order_rows(self, policy: str) -> pl.DataFrame:
        """One row per order, columns of `ORDERS`."""
        made = [
            pl.DataFrame(
                {
                    "policy": pl.repeat(policy, at.size, dtype=pl.String, eager=True),
                    "unique_id": self.about["unique_id"].gather(at),
                    "ordered_date": pl.repeat(ordered, at.size, dtype=pl.Date, eager=True),
                    "arrival_date": [ordered + timedelta(days=int(d)) if d >= 0 else None for d in took],
                    "ordered_qty": qty,
                },
                schema=ORDERS,
            )
            for ordered, at, took, qty in self._orders
        ]
        return pl.concat([pl.DataFrame(schema=ORDERS), *made])


def _lend(left: Ints, need: Ints, pool: Ints) -> tuple[Ints, Ints]:
    """Units taken of what is left at each place, and given to each that needs some, within pools (0: alone).

    Who has most left gives first, who comes first is given first.
    """
    taken, given = np.zeros_like(left), np.zeros_like(need)
    asks = np.zeros(int(pool.max(initial=0)) + 1, dtype=np.bool_)
    asks[pool[need > 0]] = True
    asks[0] = False
    at = np.flatnonzero(asks[pool])
    if not at.size:
        return taken, given
    left, need, pool = left[at], need[at], pool[at]
    has, lacks = (np.bincount(pool, weights=units).astype(np.int64) for units in (left, need))
    moved = np.minimum(has, lacks)
    taken[at] = _in_turn(left, pool, moved, np.lexsort((-left, pool)))
    given[at] = _in_turn(need, pool, moved, np.lexsort((pool,)))
    return taken, given


def _in_turn(units: Ints, pool: Ints, moved: Ints, order: Ints) -> Ints:
    """The part of `units` that `moved` of each pool takes when it goes through them in `order` (sorted by pool)."""
    units, pool = units[order], pool[order]
    before = np.cumsum(units) - units
    begins = np.flatnonzero(np.diff(pool, prepend=-1))
    before -= np.repeat(before[begins], np.diff(np.append(begins, pool.size)))
    out = np.empty_like(units)
    out[order] = np.clip(moved[pool] - before, 0, units)
    return out


def _read_terms(terms: Frame) -> pl.DataFrame:
    frame = one_row_each(terms, name="terms", may_have={**TERMS, **POSITIONS})
    if "pool_id" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("pool_id"))
    read = typed(frame, name="terms", types={name: dtype for name, (dtype, _) in TERMS.items()})
    columns = [read[name].fill_null(default) for name, (_, default) in TERMS.items()]
    others = [name for name in frame.columns if name not in TERMS and name not in ("unique_id", "pool_id")]
    pooled = pl.when(pl.len().over("pool_id") > 1).then(text_column(frame, "pool_id")).alias("pool_id")
    about = frame.select("unique_id", *columns, pooled, *others).sort("unique_id")
    for name, least in {**dict.fromkeys(TERMS, 0), "review_period_days": 1, "moq_qty": 1, "pack_qty": 1}.items():
        wrong = about.filter(~(pl.col(name) >= least) | ~pl.col(name).cast(pl.Float64).is_finite())
        if wrong.height:
            unique_id, value = wrong.select("unique_id", name).row(0)
            raise BadFrame(f"terms: {name} of {unique_id} must be at least {least}, got {value}")
    apart = read_pools(about).join(about.select("unique_id", "review_period_days"), on="unique_id")
    apart = apart.group_by("pool_id").agg(pl.col("review_period_days").unique().sort()).sort("pool_id")
    for pool_id, reviews in apart.filter(pl.col("review_period_days").list.len() > 1).iter_rows():
        raise BadFrame(f"terms: review_period_days must be the same at all places of pool {pool_id}, got {reviews}")
    both = about.filter(pl.col("unique_id").is_in(about["pool_id"].drop_nulls().unique().to_list()))
    if both.height:
        raise BadFrame(f"terms: {both['unique_id'][0]} is a unique_id and a pool_id; name the pool otherwise")
    return about


def _read_rows(history: Frame) -> pl.DataFrame:
    frame = to_polars(history, name="history", needs=("unique_id", "ds", "y"), may_have=("is_censored",))
    return typed(frame, name="history", types=ROWS).sort("unique_id", "ds")


def _by_day(frame: pl.DataFrame, ids: Sequence[str], day: str, value: str, *, first: date, days: int) -> Floats:
    """Sums by series and day: series × day, from `first`; what is no number, below zero or of no day counts as nothing."""
    numbers = pl.DataFrame({"unique_id": ids, "at": range(len(ids))}, schema={"unique_id": pl.String, "at": pl.Int64})
    at = (
        frame.select("unique_id", (pl.col(day) - first).dt.total_days().alias("day"), pl.col(value).cast(pl.Float64))
        .filter(pl.col("day").is_between(0, days - 1) & pl.col(value).is_finite() & (pl.col(value) > 0))
        .join(numbers, on="unique_id", how="inner", maintain_order="left")
    )
    out = np.zeros((len(ids), days))
    np.add.at(out, (at["at"].to_numpy(), at["day"].to_numpy()), at[value].to_numpy())
    return out


def _unrecorded(rows: pl.DataFrame, about: pl.DataFrame, *, first: date, days: int) -> Floats:
    """Whole units that were probably asked for on days without stock beyond what was recorded: series × day.

    Of a pool it is what its summed demand lacks, put where its places lack it: who asked at one of them on such a day
    didn't ask at the others too. The part of a unit that one such day leaves is carried to the next.
    """
    ids, pools = about["unique_id"].to_list(), read_pools(about)
    if not pools.height:
        lacks = _lacking(rows, ids, first=first, days=days)
    else:
        lacks = _lacking(with_pooled_stock_outs(rows, pools), ids, first=first, days=days)
        names = pools["pool_id"].unique().sort().to_list()
        together = _lacking(pooled_history(rows, pools), names, first=first, days=days)
        number = _pool_numbers(about)
        at = np.flatnonzero(number)
        whose = number[at] - 1
        apart = np.zeros_like(together)
        np.add.at(apart, whose, lacks[at])
        equal = 1 / np.bincount(whose)[:, None]
        scale = np.divide(together, apart, out=np.zeros_like(together), where=apart > 0)
        lacks[at] = np.where(apart[whose] > 0, lacks[at] * scale[whose], (together * equal)[whose])
    some = np.flatnonzero(lacks.any(axis=1))
    lacks[some] = np.diff(np.floor(np.cumsum(lacks[some], axis=1) + 1e-9), axis=1, prepend=0.0)
    return lacks


def _lacking(rows: pl.DataFrame, ids: Sequence[str], *, first: date, days: int) -> Floats:
    """What the estimate of a day without stock lies above what was recorded: series × day."""
    out = np.zeros((len(ids), days))
    short = rows.filter(pl.col("is_censored")).select("unique_id").unique()
    if not short.height:
        return out
    last = first + timedelta(days=days - 1)
    known = read_history(
        rows.join(short, on="unique_id", how="semi", maintain_order="left"), as_of=last, duplicates="sum"
    )
    calendar = complete_calendar(known)
    where = {unique_id: i for i, unique_id in enumerate(ids)}
    for row, unique_id in enumerate(calendar.ids):
        if unique_id in where:
            estimate = calendar.demand[row, -days:]
            more = np.maximum(0.0, estimate - calendar.y[row, -days:])
            out[where[unique_id], days - estimate.size :] = np.where(calendar.is_stock_out[row, -days:], more, 0.0)
    return out


def _pool_numbers(about: pl.DataFrame) -> Ints:
    """Number of the pool of each series, from 1 in the order of their names; 0: alone."""
    return np.asarray(about["pool_id"].rank("dense").fill_null(0).to_numpy().astype(np.int64))


def _lead_days(about: pl.DataFrame, as_of: date, seed: int) -> Ints:
    """Days until an order of this evening is there: the stated lead time, or drawn around it, never below one."""
    stated, spread = about["lead_time_days"].to_numpy(), about["lead_time_sd_days"].to_numpy()
    drawn = stated + spread * np.random.default_rng([seed, as_of.toordinal()]).standard_normal(stated.size)
    return np.where(spread > 0, np.maximum(1, np.floor(drawn + 0.5)).astype(np.int64), stated)


def _items_known(items: pl.DataFrame | None, as_of: date) -> pl.DataFrame | None:
    """`items` without dates that lie ahead: nobody says since when they were known."""
    if items is None:
        return None
    dates = [name for name in ("start_date", "end_date") if name in items.columns]
    return items.with_columns(pl.when(pl.col(name) <= as_of).then(pl.col(name)).alias(name) for name in dates)


def _checked(qty: Ints, policy: str, series: int) -> Ints:
    out = np.asarray(qty)
    if out.shape != (series,) or not np.issubdtype(out.dtype, np.integer) or (out < 0).any():
        raise BadSetting(f"policy {policy} must answer with {series} whole numbers, none below 0, got {out!r}")
    return out.astype(np.int64)


def _summary(money: pl.DataFrame, mean_stock_cents: Mapping[str, int]) -> pl.DataFrame:
    sums = [name for name, dtype in MONEY.items() if dtype == pl.Int64 and name != "end_on_hand_qty"]
    end = pl.col("end_on_hand_qty").filter(pl.col("period_start") == pl.col("period_start").max()).sum()
    stock = pl.DataFrame(
        {"policy": list(mean_stock_cents), "mean_stock_cents": list(mean_stock_cents.values())},
        schema={"policy": pl.String, "mean_stock_cents": pl.Int64},
    )
    served = 1 - pl.col("short_qty") / pl.col("demand_qty")
    return (
        money.group_by("policy", maintain_order=True)
        .agg(*[pl.col(name).sum() for name in sums], end)
        .with_columns(pl.when(pl.col("demand_qty") > 0).then(served.round(6)).alias("fill_rate_ratio"))
        .join(stock, on="policy", how="left", maintain_order="left")
    )


DIFFERENCES: dict[str, Any] = {
    "policy": pl.String,
    "compared_with": pl.String,
    "difference_cents": pl.Int64,
    "low_cents": pl.Int64,
    "high_cents": pl.Int64,
    "ratio": pl.Float64,
}


def compare(
    money: Frame,
    *,
    policy: str | None = None,
    pools: Frame | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 7,
) -> Frame:
    """What `policy` costs less or more than each other one, with an interval by paired bootstrap over the series.

    Series are drawn with replacement, both policies' costs of a series together, and the differences summed; the interval
    is the middle `level` of `draws` such sums (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §13.3).

    Args:
        money: `Replay.money`.
        policy: Which one; the first in `money` when None.
        pools: unique_id, pool_id, such as the terms: series of a pool are drawn together, because what one of them costs
            depends on the stock of the others.

    Returns:
        One row per other policy: policy, compared_with, difference_cents (below 0: `policy` is cheaper), low_cents,
        high_cents, ratio (cost of `policy` / cost of the other; NULL when that is 0).
    """
    table = to_polars(money, name="money", needs=("policy", "unique_id", "cost_cents"))
    names = table["policy"].unique(maintain_order=True).to_list()
    policy = names[0] if policy is None else policy
    if policy not in names:
        raise BadSetting(f"policy {policy} is not in money; it has {', '.join(names)}")
    if pools is not None:
        table = table.join(read_pools(pools), on="unique_id", how="left", maintain_order="left").with_columns(
            pl.coalesce("pool_id", "unique_id").alias("unique_id")
        )
    costs = (
        table.group_by("unique_id", "policy")
        .agg(pl.col("cost_cents").sum())
        .pivot(on="policy", index="unique_id", values="cost_cents")
        .sort("unique_id")
    )
    others = [name for name in names if name != policy]
    own = costs[policy].to_numpy()
    apart = np.column_stack([own - costs[name].to_numpy() for name in others]) if others else np.zeros((own.size, 0))
    rng = np.random.default_rng(seed)
    sums = np.array([apart[rng.integers(0, own.size, own.size)].sum(axis=0) for _ in range(draws)])
    rows = []
    for i, name in enumerate(others):
        low, high = np.quantile(sums[:, i], [(1 - level) / 2, (1 + level) / 2])
        other = int(costs[name].sum())
        ratio = round(float(own.sum()) / other, 6) if other else None
        rows.append((policy, name, int(apart[:, i].sum()), int(np.floor(low)), int(np.ceil(high)), ratio))
    return like(pl.DataFrame(rows, schema=DIFFERENCES, orient="row"), pandas=is_pandas(money))


# ------------------------------------------------------------------------------------------------ policies


@dataclass(frozen=True)
class Ours:
    """The product: `plan_demand` and `suggest`, as the daily run calls them.

    Attributes:
        settings: How much work each forecast is.
        cycle_service_ratio: Chance of no stock-out in a cycle to order for; None: order by the costs of the position.
    """

    settings: PlanSettings = field(default_factory=PlanSettings)
    cycle_service_ratio: float | None = None

    def __call__(self, known: Known) -> Ints:
        plan = self.plan(known)
        asked = known.positions.join(plan.totals.select("unique_id"), on="unique_id", how="semi", maintain_order="left")
        found = suggest(
            plan.totals,
            asked.with_columns(
                (7 * pl.col("holding_cost_cents")).alias("weekly_holding_cost_cents"),
                pl.struct("lead_time_days", "lead_time_sd_days")
                .map_elements(_likely_lead_times, return_dtype=pl.List(pl.Int64))
                .alias("lead_times_days"),
            ),
            as_of=known.as_of,
            choices=plan.choices,
            target="cost" if self.cycle_service_ratio is None else "cycle_service",
            cycle_service_ratio=self.cycle_service_ratio or DEFAULT_SERVICE,
            settings=OrderSettings(shortage="lost" if known.is_lost else "backordered"),
        )
        answer = known.positions.select("unique_id").join(
            found.suggestions.select("unique_id", "suggested_qty"), on="unique_id", how="left", maintain_order="left"
        )
        return np.asarray(answer["suggested_qty"].fill_null(0).to_numpy())

    def plan(self, known: Known) -> DemandPlan:
        """The forecast of the evening; one for all service targets, because it doesn't depend on stock."""
        longest = known.interval_days + np.ceil(2 * known.positions["lead_time_sd_days"].to_numpy())
        horizon_days = int(longest.max())
        key = f"plan {horizon_days} {self.settings}"
        if key not in known.shared:
            history, items = with_pools(known.history, known.items, known.positions.select("unique_id", "pool_id"))
            known.shared[key] = plan_demand(
                history,
                as_of=known.as_of,
                horizon_days=horizon_days,
                items=items,
                closed_dates=known.closed_dates,
                promotions=known.promotions,
                settings=self.settings,
            )
        plan = known.shared[key]
        assert isinstance(plan, DemandPlan)
        return plan


def _likely_lead_times(stated: Mapping[str, float]) -> list[int]:
    """Nine equally likely lead times of a normal one, as `_lead_days` draws it."""
    mean, spread = stated["lead_time_days"], stated["lead_time_sd_days"]
    if spread <= 0:
        return [int(mean)]
    drawn = (mean + spread * NormalDist().inv_cdf((i + 0.5) / 9) for i in range(9))
    return [max(1, int(np.floor(days + 0.5))) for days in drawn]


@dataclass(frozen=True)
class MeanWithCover:
    """Order up to the mean of the last 13 weeks × (lead time + review period + `cover_weeks`).

    Of a product younger than that, the mean since its first demand, over four weeks at least.
    """

    cover_weeks: float = 1.0

    def __call__(self, known: Known) -> Ints:
        recent = known.daily[:, -91:]
        first = np.where(recent.any(axis=1), (known.daily != 0).argmax(axis=1), known.daily.shape[1])
        age = np.clip(known.daily.shape[1] - first, 28, 91)
        return known.up_to(recent.sum(axis=1) / age * (known.interval_days + 7 * self.cover_weeks))


@dataclass(frozen=True)
class SeasonalNaive:
    """Order up to the demand of the same days a year (52 weeks) ago, and `cover_weeks` more of them.

    Of a product without demand a year ago and before, the same number of days up to today.
    """

    cover_weeks: float = 1.0

    def __call__(self, known: Known) -> Ints:
        days = known.daily.shape[1]
        length = known.interval_days + round(7 * self.cover_weeks)
        year_ago = days - 364
        level = np.zeros(len(length))
        for row, (daily, n) in enumerate(zip(known.daily, length, strict=True)):
            is_old = year_ago > 0 and daily[:year_ago].any()
            level[row] = daily[year_ago : year_ago + n].sum() if is_old else daily[max(0, days - n) :].sum()
        return known.up_to(level)


COVERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def invented_stock(history: Frame, unique_ids: Sequence[str], *, start: date, weeks: float = 4.0) -> Ints:
    """Stock to begin with where none is recorded: `weeks` weeks of the mean demand of the 13 before `start`, rounded up."""
    daily = _by_day(_read_rows(history), list(unique_ids), "ds", "y", first=start - timedelta(days=91), days=91)
    return np.asarray(np.ceil(daily.sum(axis=1) / 13 * weeks).astype(np.int64))


SERVICES = (None, 0.95, 0.9, 0.85, 0.8, 0.75)


def cheapest(
    rules: Sequence[Policy],
    history: Frame,
    terms: pl.DataFrame,
    *,
    start: date,
    days: int,
    items: Frame | None = None,
    closed_dates: Callable[[date], Collection[date]] = lambda as_of: (),
    promotions: Callable[[date], Frame | None] = lambda as_of: None,
    is_lost: bool = True,
) -> Policy:
    """The one of `rules` that would have cost least in the `days` before `start`; the first of equals.

    So that a rule is compared at its best, set by what was known when the replay begins. Stock at the start of those days is
    `invented_stock`; arguments as `replay` takes them.
    """
    if not terms.height:
        return rules[0]
    before = start - timedelta(days=days)
    at = terms.sort("unique_id")
    stock = invented_stock(history, at["unique_id"].to_list(), start=before)
    at = at.with_columns(pl.Series("on_hand_qty", stock), pl.lit(0).alias("backordered_qty"))
    tried = replay(
        history,
        at,
        {str(number): rule for number, rule in enumerate(rules)},
        start=before,
        days=days,
        items=items,
        closed_dates=closed_dates,
        promotions=promotions,
        is_lost=is_lost,
    ).summary
    found = to_polars(tried, name="summary", needs=("cost_cents",)).sort("cost_cents", maintain_order=True)
    return rules[int(found["policy"][0])]


BEST_OF = (
    "AutoETS",
    "DynamicOptimizedTheta",
    "AutoCES",
    "IMAPA",
    "TSB",
    "CrostonSBA",
    "WindowAverage",
    "SeasonalNaive",
)


@dataclass(frozen=True)
class TextbookSafety:
    """statsforecast's best model per product, and textbook safety stock: μT + zσ√T (Silver, Pyke & Thomas 2017, §7.9).

    The model is the one of `BEST_OF` with the lowest squared error over `folds` backtests of `horizon_weeks` total, chosen at
    the first review and fitted anew at each one. σ is the standard deviation of its errors one week ahead over the last
    year, z the normal quantile of the service ratio.
    """

    cycle_service_ratio: float = 0.95
    folds: int = 4
    horizon_weeks: int = 3
    models: Sequence[str] = BEST_OF

    def __call__(self, known: Known) -> Ints:
        z = NormalDist().inv_cdf(self.cycle_service_ratio)
        weeks = known.daily[:, known.daily.shape[1] % 7 :].reshape(known.daily.shape[0], -1, 7).sum(axis=2)
        horizon = -(-int(known.interval_days.max()) // 7)
        level = np.zeros(len(weeks))
        chosen: dict[str, str] = known.memory.setdefault("model", {})
        ids = known.positions["unique_id"]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for row, (unique_id, days) in enumerate(zip(ids, known.interval_days, strict=True)):
                asked = np.flatnonzero(weeks[row])
                if not asked.size:
                    continue
                y = np.ascontiguousarray(weeks[row, asked[0] :])
                if unique_id not in chosen:
                    chosen[unique_id] = self._best(y)
                mean, sigma = _fitted(chosen[unique_id], y, horizon)
                periods = days / 7
                expected = float(np.interp(periods, np.arange(horizon + 1), np.append(0.0, mean.cumsum())))
                level[row] = max(0.0, expected + z * sigma * np.sqrt(periods))
        return known.up_to(level)

    def _best(self, y: Floats) -> str:
        h = self.horizon_weeks
        cutoffs = [y.size - h - fold for fold in range(self.folds) if y.size - h - fold >= 8]
        if not cutoffs:
            return "WindowAverage"
        errors = []
        for name in self.models:
            squared = [(_fitted(name, y[:cut], h)[0].sum() - y[cut : cut + h].sum()) ** 2 for cut in cutoffs]
            errors.append(float(np.sum(squared)))
        return self.models[int(np.nanargmin(np.where(np.isfinite(errors), errors, np.inf)))]


def _fitted(name: str, y: Floats, horizon: int) -> tuple[Floats, float]:
    """Mean per week ahead, and the standard deviation of the errors one week ahead in the last year."""
    made: dict[str, Callable[[], Any]] = {
        "AutoETS": lambda: sf.AutoETS(season_length=1),
        "DynamicOptimizedTheta": lambda: sf.DynamicOptimizedTheta(season_length=1),
        "AutoCES": lambda: sf.AutoCES(season_length=1),
        "IMAPA": sf.IMAPA,
        "TSB": lambda: sf.TSB(0.2, 0.2),
        "CrostonSBA": sf.CrostonSBA,
        "WindowAverage": lambda: sf.WindowAverage(min(13, y.size)),
        "SeasonalNaive": lambda: sf.SeasonalNaive(52) if y.size > 52 else sf.WindowAverage(min(13, y.size)),
    }
    spread = float(y[-52:].std())
    try:
        said = made[name]().forecast(y=y, h=horizon, fitted=True)
    except Exception:  # noqa: BLE001 - a foreign optimiser may raise anything on a short series: its plain mean then
        return np.full(horizon, y[-13:].mean()), spread
    mean, errors = np.asarray(said["mean"], dtype=np.float64), (y - np.asarray(said["fitted"], dtype=np.float64))[-52:]
    # as in `models`: more than ten times the largest week so far is a fit that ran away, not a forecast
    if not np.isfinite(mean).all() or mean.max() > 10 * max(1.0, float(y.max())):
        return np.full(horizon, y[-13:].mean()), spread
    errors = errors[np.isfinite(errors)]
    return np.maximum(mean, 0.0), float(np.sqrt((errors**2).mean())) if errors.size >= 8 else spread
