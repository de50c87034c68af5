"""How much to order, by when, and why: a periodic-review order-up-to policy on the forecast's own distribution.

Every `review_period_days` somebody looks; what is ordered then arrives `lead_time_days` later; so one look has to
cover the protection interval, lead time + review period (Silver, Pyke & Thomas 2017, "Inventory and Production
Management in Supply Chains", §7.9).

    order_up_to_qty        = quantile `cycle_service_ratio` of the demand of the protection interval, rounded up
    safety_stock_qty       = order_up_to_qty − expected demand of the protection interval
    inventory_position_qty = on hand + on order − backordered
    reorder_point_qty      = the same quantile of the demand of the lead time alone, rounded up
    needed                 = max(0, order_up_to_qty − inventory_position_qty)
    suggested_qty          = needed, raised to moq_qty, rounded up to a multiple of pack_qty; 0 when nothing is needed

`cycle_service_ratio` is the chance of no stock-out in a cycle, not the share of units served. When demand is normal
with standard deviation σ a day, the quantile is μ(L+R) + z σ √(L+R), the textbook formula; here it comes from the
forecast's paths, whatever their shape.

The parts are whole units and add up to suggested_qty exactly:

    demand + safety + backordered − on hand − on order + surplus + minimum + pack

Columns `demand_part_qty` … `pack_part_qty`, signs included. `demand_part_qty` is the expected demand rounded half up,
`safety_part_qty` the rest of the order-up-to level, `surplus_part_qty` stock above that level (it makes the sum zero when
nothing is needed).

Where stock is not recorded (`on_hand_qty` NULL) the position is taken as what is on order minus what is backordered,
i.e. an empty shelf; the reason `stock_not_recorded` says so. The suggestion is then the order-up-to level itself: demand of
the protection interval plus safety.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from forecasting.demand import exceptions_frame
from forecasting.errors import BadFrame, BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.frames import Frame, as_of_day, is_pandas, like, text_column, to_polars
from forecasting.models import Floats
from forecasting.reasons import facts_json

PARTS = (
    "demand_part_qty",
    "safety_part_qty",
    "backordered_part_qty",
    "on_hand_part_qty",
    "on_order_part_qty",
    "surplus_part_qty",
    "moq_part_qty",
    "pack_part_qty",
)
POSITIONS: dict[str, tuple[Any, object]] = {  # column: type, value where it is NULL or missing
    "lead_time_days": (pl.Int64, 7),
    "review_period_days": (pl.Int64, 7),
    "on_hand_qty": (pl.Int64, None),
    "on_order_qty": (pl.Int64, 0),
    "backordered_qty": (pl.Int64, 0),
    "moq_qty": (pl.Int64, 1),
    "pack_qty": (pl.Int64, 1),
    "cycle_service_ratio": (pl.Float64, None),  # None: the argument of `suggest`
}
SUGGESTIONS: dict[str, Any] = {
    "unique_id": pl.String,
    "suggested_qty": pl.Int64,
    "order_by_date": pl.Date,
    "stockout_date": pl.Date,
    "lead_time_days": pl.Int64,
    "review_period_days": pl.Int64,
    "protection_interval_days": pl.Int64,
    "cycle_service_ratio": pl.Float64,
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
    "grade": pl.String,
    "reason_codes": pl.List(pl.String),
    "facts": pl.String,
}


@dataclass(frozen=True)
class Suggestions:
    """What `suggest` gives; columns in `forecasting`.

    Attributes:
        suggestions: One row per position that has a forecast, sorted by unique_id; quantity 0 where nothing is needed.
        exceptions: Positions without a forecast, with too short a one, or with impossible numbers.
    """

    suggestions: Any
    exceptions: Any


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
) -> Quantity:
    """The quantity to order and its waterfall; `parts` sum to `suggested_qty`. On hand None counts as zero."""
    demand = min(math.floor(expected_demand_qty + 0.5), order_up_to_qty)
    on_hand = on_hand_qty or 0
    gap = order_up_to_qty + backordered_qty - on_hand - on_order_qty
    needed = max(0, gap)
    raised = max(needed, moq_qty) if needed else 0
    packed = -(-raised // pack_qty) * pack_qty
    parts = {
        "demand_part_qty": demand,
        "safety_part_qty": order_up_to_qty - demand,
        "backordered_part_qty": backordered_qty,
        "on_hand_part_qty": -on_hand,
        "on_order_part_qty": -on_order_qty,
        "surplus_part_qty": needed - gap,
        "moq_part_qty": raised - needed,
        "pack_part_qty": packed - raised,
    }
    return Quantity(packed, parts)


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
    totals: Frame,
    positions: Frame,
    *,
    as_of: date | datetime,
    cycle_service_ratio: float = 0.95,
    choices: Frame | None = None,
) -> Suggestions:
    """Suggest an order for each position.

    Args:
        totals: From `plan_demand`: demand from the day after `as_of` through each day.
        positions: unique_id and, where known, lead time, review period, stock, minimum and pack; see `forecasting`.
        as_of: The day the forecast was made at. Ordering "today" means this day.
        cycle_service_ratio: Chance of no stock-out in a cycle, where a position names none; above 0, below 1.
        choices: From `plan_demand`; gives the suggestions their trust grade and what has to be known about the history.

    Returns:
        Frames of the kind `totals` is. `order_by_date` is the last day on which ordering keeps to the service ratio:
        the day before the inventory position falls below the reorder point, at the earliest `as_of`; NULL when the
        forecast doesn't reach that day. `stockout_date`: the day on which expected demand uses up what is on hand and
        on order.

    Raises:
        BadFrame, BadSetting: The call itself is wrong. Impossible rows are listed in `exceptions`.
    """
    if not 0 < cycle_service_ratio < 1:
        raise BadSetting(f"cycle_service_ratio must be between 0 and 1, got {cycle_service_ratio}")
    day = as_of_day(as_of)
    table = to_polars(totals, name="totals", needs=("unique_id", "horizon_days", "mean", *QUANTILE_COLUMNS))
    asked = _read_positions(positions, cycle_service_ratio)
    about = _read_choices(choices)
    table = table.sort("unique_id", "horizon_days")
    table = table.join(asked.select("unique_id"), on="unique_id", how="semi", maintain_order="left")
    spans = _spans(table)
    mean = table["mean"].to_numpy()
    spread = table.select(QUANTILE_COLUMNS).to_numpy()

    rows: list[dict[str, object]] = []
    found: list[dict[str, object]] = []
    for position in asked.iter_rows(named=True):
        unique_id = position["unique_id"]
        wrong = _wrong(position)
        if wrong:
            found.append(_exception(unique_id, "bad_position", wrong))
            continue
        if unique_id not in spans:
            found.append(_exception(unique_id, "no_forecast", ""))
            continue
        start, horizon_days = spans[unique_id]
        interval = position["lead_time_days"] + position["review_period_days"]
        if interval > horizon_days:
            facts = {"protection_interval_days": interval, "horizon_days": horizon_days}
            found.append({**_exception(unique_id, "horizon_too_short", f"{interval} > {horizon_days}"), **facts})
            continue
        span = slice(start, start + horizon_days)
        rows.append(_suggestion(position, mean[span], spread[span], day, about.get(unique_id)))
    pandas = is_pandas(totals)
    return Suggestions(
        suggestions=like(pl.DataFrame(rows, schema=SUGGESTIONS, orient="row"), pandas=pandas),
        exceptions=like(exceptions_frame(found), pandas=pandas),
    )


def _suggestion(
    position: dict[str, Any], mean: Floats, spread: Floats, as_of: date, choice: dict[str, Any] | None
) -> dict[str, object]:
    """One row. `mean` and `spread` are running totals: index d − 1 is the demand of the first d days."""
    levels = np.array(QUANTILES)
    ratio = position["cycle_service_ratio"]
    lead, interval = position["lead_time_days"], position["lead_time_days"] + position["review_period_days"]
    expected = float(mean[interval - 1])
    order_up_to = math.ceil(round(demand_quantile(levels, spread[interval - 1], ratio), 6))
    order_up_to = max(order_up_to, math.floor(expected + 0.5))  # a skewed low quantile must not plan to miss the mean
    reorder_point = math.ceil(round(demand_quantile(levels, spread[lead - 1], ratio), 6)) if lead else 0
    on_hand = position["on_hand_qty"]
    quantity = order_quantity(
        expected_demand_qty=expected,
        order_up_to_qty=order_up_to,
        on_hand_qty=on_hand,
        on_order_qty=position["on_order_qty"],
        backordered_qty=position["backordered_qty"],
        moq_qty=position["moq_qty"],
        pack_qty=position["pack_qty"],
    )
    inventory_position = (on_hand or 0) + position["on_order_qty"] - position["backordered_qty"]

    reasons = ["below_target" if quantity.suggested_qty else "enough_stock"]
    order_by = _order_by(mean, inventory_position, reorder_point, as_of)
    if quantity.suggested_qty and inventory_position < reorder_point:
        reasons.append("order_overdue")
    if on_hand is None:
        reasons.append("stock_not_recorded")
    if quantity.parts["moq_part_qty"]:
        reasons.append("moq_applied")
    if quantity.parts["pack_part_qty"]:
        reasons.append("pack_rounded")
    if ratio > QUANTILES[-1] or ratio < QUANTILES[0]:
        reasons.append("service_capped")
    facts: dict[str, object] = {
        "inventory_position_qty": inventory_position,
        "order_up_to_qty": order_up_to,
        "reorder_point_qty": reorder_point,
        "moq_qty": position["moq_qty"],
        "pack_qty": position["pack_qty"],
        "cycle_service_ratio": ratio,
        "protection_interval_days": interval,
        "expected_demand_qty": round(expected, 2),
    }
    if choice:
        inherited = [c for c in choice["reason_codes"] if c in INHERITED]
        reasons.extend(inherited)
        facts |= choice["facts"]
    return {
        **position,
        "suggested_qty": quantity.suggested_qty,
        "order_by_date": order_by,
        "stockout_date": _stockout(mean, inventory_position, as_of) if on_hand is not None else None,
        "protection_interval_days": interval,
        "expected_demand_qty": round(expected, 6),
        "order_up_to_qty": order_up_to,
        "reorder_point_qty": reorder_point,
        "safety_stock_qty": quantity.parts["safety_part_qty"],
        "inventory_position_qty": inventory_position if on_hand is not None else None,
        **quantity.parts,
        "grade": choice["grade"] if choice else None,
        "reason_codes": reasons,
        "facts": facts_json(facts),
    }


# What a buyer has to know of the history before ordering; the rest stays with the forecast.
INHERITED = frozenset(
    {
        "stock_outs_unknown",
        "stock_out_days_estimated",
        "discontinued",
        "no_demand",
        "no_demand_lately",
        "dying",
        "new",
        "short_history",
        "prior",
    }
)


def _order_by(mean: Floats, inventory_position: int, reorder_point: int, as_of: date) -> date | None:
    below = np.flatnonzero(inventory_position - mean < reorder_point)
    if not reorder_point and not mean[-1]:
        return None  # nobody will ask for it
    if inventory_position < reorder_point:
        return as_of
    return as_of + timedelta(days=int(below[0])) if below.size else None


def _stockout(mean: Floats, inventory_position: int, as_of: date) -> date | None:
    if inventory_position <= 0 and mean[-1] > 0:
        return as_of + timedelta(days=int(np.flatnonzero(mean > 0)[0]) + 1)
    used_up = np.flatnonzero(mean >= inventory_position) if mean[-1] > 0 else np.zeros(0)
    return as_of + timedelta(days=int(used_up[0]) + 1) if used_up.size else None


def _read_positions(positions: Frame, cycle_service_ratio: float) -> pl.DataFrame:
    frame = to_polars(positions, name="positions", needs=("unique_id",))
    frame = frame.with_columns(text_column(frame, "unique_id").alias("unique_id"))
    if frame["unique_id"].is_null().any() or frame["unique_id"].n_unique() != frame.height:
        raise BadFrame("positions must have one row per unique_id, and none without")
    columns = []
    for name, (dtype, default) in POSITIONS.items():
        value = pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype=dtype).alias(name)
        fill = cycle_service_ratio if name == "cycle_service_ratio" else default
        columns.append(value if fill is None else value.fill_null(fill))
    try:
        return frame.select("unique_id", *columns).sort("unique_id")
    except pl.exceptions.PolarsError as error:
        raise BadFrame(f"positions: {error}") from error


def _read_choices(choices: Frame | None) -> dict[str, dict[str, Any]]:
    if choices is None:
        return {}
    frame = to_polars(choices, name="choices", needs=("unique_id", "grade", "reason_codes", "facts"))
    rows = frame.select("unique_id", "grade", "reason_codes", "facts").iter_rows(named=True)
    return {row["unique_id"]: {**row, "facts": json.loads(row["facts"])} for row in rows}


def _spans(table: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Where each series' rows are. Raises BadFrame when its days are not 1, 2, 3 …"""
    sizes = table.group_by("unique_id", maintain_order=True).agg(
        pl.len().alias("n"), pl.col("horizon_days").max().alias("last"), pl.col("horizon_days").n_unique().alias("days")
    )
    spans: dict[str, tuple[int, int]] = {}
    offset = 0
    for unique_id, n, last, days in sizes.iter_rows():
        if not n == last == days:
            raise BadFrame(f"totals of {unique_id} must have one row for each of the days 1 to {last}, it has {n}")
        spans[unique_id] = (offset, n)
        offset += n
    return spans


def _wrong(position: dict[str, Any]) -> str:
    for name in ("lead_time_days", "on_hand_qty", "on_order_qty", "backordered_qty"):
        if (position[name] or 0) < 0:
            return f"{name} {position[name]} < 0"
    for name in ("review_period_days", "moq_qty", "pack_qty"):
        if position[name] < 1:
            return f"{name} {position[name]} < 1"
    if not 0 < position["cycle_service_ratio"] < 1:
        return f"cycle_service_ratio {position['cycle_service_ratio']}"
    return ""


def _exception(unique_id: str, code: str, value: str) -> dict[str, object]:
    return {"unique_id": unique_id, "code": code, "value": value, "rows": 1, "is_blocking": True}
