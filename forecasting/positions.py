"""What `suggest` is given: positions, forecasts and dates as frames, read once and judged row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.errors import BadFrame
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.frames import Frame, date_column, one_row_each, text_column, to_polars, typed
from forecasting.marginal import LEVELS, Paths, paths_of_totals

Target = Literal["cost", "cycle_service", "fill_rate"]
TARGETS = ("cost", "cycle_service", "fill_rate")
FALL = 0.001  # units by which rounding may make a running total fall
POLICIES = ("order_up_to", "s_S", "R_Q")

POSITIONS: dict[str, tuple[Any, object]] = {  # column: type, value where it is NULL or missing
    "lead_time_days": (pl.Int64, 7),
    "lead_times_days": (pl.List(pl.Int64), None),  # None: lead_time_days for certain
    "review_period_days": (pl.Int64, 7),
    "on_hand_qty": (pl.Int64, None),
    "on_order_qty": (pl.Int64, 0),
    "backordered_qty": (pl.Int64, 0),
    "moq_qty": (pl.Int64, 1),
    "pack_qty": (pl.Int64, 1),
    "cycle_service_ratio": (pl.Float64, None),  # None: the argument of `suggest`, as for the next two
    "fill_rate_ratio": (pl.Float64, None),
    "target": (pl.String, None),
    "policy": (pl.String, "order_up_to"),
    "min_qty": (pl.Int64, None),
    "max_qty": (pl.Int64, None),
    "supply_kind": (pl.String, "purchase"),
    "supplier_code": (pl.String, None),
    "sku": (pl.String, None),
    "location_code": (pl.String, None),
    "pool_id": (pl.String, None),  # of places that serve each other
    "idle_elsewhere_qty": (
        pl.Int64,
        0,
    ),  # free at places of the pool without a position; the same for all
    "currency": (pl.String, None),
    "unit_cost_cents": (pl.Float64, None),
    "unit_price_cents": (pl.Float64, None),
    "weekly_holding_cost_cents": (pl.Float64, None),
    "shortage_cost_cents": (pl.Float64, None),
    "order_cost_cents": (pl.Float64, 0.0),
    "price_breaks": (pl.String, None),
    "shelf_life_days": (pl.Int64, None),
}


@dataclass(frozen=True)
class Forecast:
    """Totals or paths behind one face."""

    rows: Mapping[str, int]
    period_days: int
    means: Sequence[Floats]  # running totals by day
    quantiles: Sequence[Floats] | None  # of totals by day: day × level; None when there are paths
    y: Floats | None

    def mean(self, at: int) -> Floats:
        return self.means[at]

    def spread(self, at: int) -> Floats:
        assert self.quantiles is not None
        return self.quantiles[at]

    def paths(self, rows: Sequence[int], periods: int) -> Floats:
        """Demand by period: series × path × period, as many periods as asked for where they are known."""
        if self.y is not None:
            return np.array(self.y[list(rows), :, : min(periods, self.y.shape[2])], dtype=np.float64)
        assert self.quantiles is not None
        longest = min(periods, max(self.means[at].size for at in rows))
        out = np.empty((len(rows), LEVELS.size, longest))
        for i, at in enumerate(rows):
            known = min(longest, self.means[at].size)
            totals = paths_of_totals(self.quantiles[at][:known], np.array(QUANTILES))
            out[i, :, :known] = np.diff(totals, axis=1, prepend=0.0)
            out[i, :, known:] = 0.0
        return out


def of_totals(totals: Frame | None, asked: pl.DataFrame, as_of: date) -> Forecast:
    if totals is None:
        raise BadFrame("totals must be given where there are no paths")
    table = to_polars(totals, name="totals", needs=("unique_id", "horizon_days", "mean", *QUANTILE_COLUMNS))
    types = {
        "unique_id": pl.String,
        "horizon_days": pl.Int64,
        "mean": pl.Float64,
        **dict.fromkeys(QUANTILE_COLUMNS, pl.Float64),
    }
    table = table.with_columns(typed(table, name="totals", types=types)).sort("unique_id", "horizon_days")
    wanted = asked["unique_id"].append(asked["pool_id"].drop_nulls()).unique()
    table = table.filter(pl.col("unique_id").is_in(wanted.implode()))
    spans = _spans(table)
    _refuse_another_day(table, as_of)
    falls = pl.col("unique_id").is_in(_falling_series(table).implode())
    table = table.with_columns(mean=pl.when(falls).then(math.nan).otherwise("mean"))  # listed as `bad_forecast`
    mean = table["mean"].to_numpy()
    spread = table.select(QUANTILE_COLUMNS).to_numpy()
    mean = np.where(np.isfinite(spread).all(axis=1), mean, np.nan)  # such a series is listed
    return Forecast(
        rows={name: i for i, name in enumerate(spans)},
        period_days=1,
        means=[mean[start : start + n] for start, n in spans.values()],
        quantiles=[spread[start : start + n] for start, n in spans.values()],
        y=None,
    )


def of_paths(paths: Paths, as_of: date) -> Forecast:
    y = np.asarray(paths.y)
    ids = [str(name) for name in paths.unique_ids]
    size = getattr(paths, "period_days", 1)
    if y.ndim != 3 or y.shape[0] != len(ids) or y.shape[1] < 1 or y.shape[2] < 1:
        raise BadFrame(f"paths.y must be series × path × period with {len(ids)} series, it is {y.shape}")
    if len(set(ids)) != len(ids):
        raise BadFrame("paths.unique_ids must differ")
    if size < 1:
        raise BadFrame(f"paths.period_days must be at least 1, got {size}")
    if paths.start != as_of + timedelta(days=1):
        raise BadFrame(f"paths start on {paths.start}, as_of is {as_of}: they must start on the day after it")
    bad = np.atleast_1d(~np.isfinite(y).all(axis=(1, 2)) | (y < 0).any(axis=(1, 2)))
    totals = np.cumsum(np.where(bad[:, None, None], 0.0, y).mean(axis=1), axis=1)
    days = np.arange(1, y.shape[2] * size + 1)
    ends = np.arange(0, y.shape[2] + 1) * size
    means = [
        np.full(days.size, np.nan) if bad[i] else np.interp(days, ends, np.append(0.0, totals[i]))
        for i in range(len(ids))
    ]
    return Forecast({name: i for i, name in enumerate(ids)}, size, means, None, y)


def read_positions(
    positions: Frame, cycle_service_ratio: float, fill_rate_ratio: float, target: Target
) -> tuple[pl.DataFrame, list[dict[str, object]]]:
    """Positions with every column, and those with a value that is of no use; one bad row never stops the others."""
    known = {*POSITIONS, "lead_time_sd_days"}  # the last is a term of `replay` and no misspelling
    frame = one_row_each(positions, name="positions", may_have=known)
    fills = {"cycle_service_ratio": cycle_service_ratio, "fill_rate_ratio": fill_rate_ratio, "target": target}
    columns, unread = [], []
    for name, (dtype, default) in POSITIONS.items():
        if name not in frame.columns:
            columns.append(pl.lit(fills.get(name, default), dtype=dtype).alias(name))
            continue
        try:
            given = text_column(frame, name) if dtype == pl.String else pl.col(name).cast(dtype, strict=False)
            value = frame.select(given).to_series()
        except pl.exceptions.PolarsError as error:
            raise BadFrame(f"positions.{name}: {error}") from error
        lost = value.is_null() & frame[name].is_not_null()
        if lost.any():
            unread.append(
                pl.when(pl.lit(lost)).then(pl.lit(f"{name} ") + pl.lit(frame[name].cast(pl.String, strict=False)))
            )
        fill = fills.get(name, default)
        columns.append(pl.lit(value if fill is None else value.fill_null(fill)).alias(name))
    is_default = (
        pl.col("lead_time_days").is_null() if "lead_time_days" in frame.columns else pl.lit(False)
    ).alias("is_lead_time_default")  # fmt: skip
    unreadable = (pl.coalesce(unread) if unread else pl.lit(None, dtype=pl.String)).alias("unreadable")
    read = frame.select("unique_id", *columns, is_default, unreadable).sort("unique_id")
    bad = read.filter(pl.col("unreadable").is_not_null())
    found = [exception(i, "bad_position", value) for i, value in bad.select("unique_id", "unreadable").iter_rows()]
    return read.filter(pl.col("unreadable").is_null()).drop("unreadable"), found


def read_choices(choices: Frame | None) -> dict[str, dict[str, Any]]:
    if choices is None:
        return {}
    frame = to_polars(choices, name="choices", needs=("unique_id", "grade", "reason_codes", "facts"))
    rows = frame.select(text_column(frame, "unique_id"), "grade", "reason_codes", "facts").iter_rows(named=True)
    return {row["unique_id"]: {**row, "facts": json.loads(row["facts"])} for row in rows}


def days_by_key(frame: Frame | None, name: str, key: str) -> dict[str, frozenset[date]]:
    if frame is None:
        return {}
    table = to_polars(frame, name=name, needs=(key, "ds"))
    table = typed(table, name=name, types={key: pl.String, "ds": pl.Date}).drop_nulls()
    return {code: frozenset(days) for code, days in table.group_by(key).agg("ds").iter_rows()}


def qty_by_day(frame: Frame | None, name: str, as_of: date) -> dict[str, list[tuple[int, int]]]:
    """(days from now, units) by series, nearest first."""
    if frame is None:
        return {}
    table = to_polars(frame, name=name, needs=("unique_id", "ds", "qty"))
    table = typed(table, name=name, types={"unique_id": pl.String, "ds": pl.Date, "qty": pl.Int64}).drop_nulls()
    out: dict[str, list[tuple[int, int]]] = {}
    for unique_id, ds, qty in table.filter(pl.col("qty") > 0).sort("unique_id", "ds", "qty").iter_rows():
        out.setdefault(unique_id, []).append(((ds - as_of).days, qty))
    return out


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


def _refuse_another_day(table: pl.DataFrame, as_of: date) -> None:
    """Raises BadFrame where `table` is of another day than `as_of`."""
    if "ds" in table.columns:
        first = date_column(table, "ds", name="totals").filter(table["horizon_days"] == 1)
        other = first.filter(first != as_of + timedelta(days=1))
        if other.len():
            raise BadFrame(
                f"totals begin on {other[0]}, as_of is {as_of}: they must begin on the day after it",
                f"totals 从 {other[0]} 开始，截至日为 {as_of}：应从截至日的次日开始",
            )


def _falling_series(table: pl.DataFrame) -> pl.Series:
    """The series whose running total falls. Raises BadFrame where most do: `table` holds days, and not their totals."""
    falling = table.filter(pl.col("mean").diff().over("unique_id") < -FALL)
    ids = falling["unique_id"].unique()
    if 2 * ids.len() > table["unique_id"].n_unique():
        unique_id, days = falling.select("unique_id", "horizon_days").row(0)
        raise BadFrame(
            f"totals of {unique_id} fall on day {days}, and a running total never does: pass plan.totals, not plan.forecasts",
            f"{unique_id} 的 totals 在第 {days} 天变小，而累计值不会变小：请传 plan.totals，不是 plan.forecasts",
        )
    return ids


def wrong(position: dict[str, Any]) -> str:
    """What is impossible about a position, or nothing."""
    for name in ("lead_time_days", "on_hand_qty", "on_order_qty", "backordered_qty", "min_qty", "shelf_life_days"):
        if (position[name] or 0) < 0:
            return f"{name} {position[name]} < 0"
    for name in ("review_period_days", "moq_qty", "pack_qty"):
        if position[name] < 1:
            return f"{name} {position[name]} < 1"
    for name in ("cycle_service_ratio", "fill_rate_ratio"):
        if not 0 < position[name] < 1:
            return f"{name} {position[name]}"
    for name in ("unit_cost_cents", "unit_price_cents", "weekly_holding_cost_cents", "shortage_cost_cents",
                 "order_cost_cents"):  # fmt: skip
        if position[name] is not None and not 0 <= position[name] < math.inf:
            return f"{name} {position[name]}"
    if any(days is None or days < 0 for days in position["lead_times_days"] or ()):
        return f"lead_times_days {position['lead_times_days']}"
    if (position["min_qty"] is None) != (position["max_qty"] is None):
        return "min_qty and max_qty go together"
    if position["max_qty"] is not None and position["max_qty"] < position["min_qty"]:
        return f"max_qty {position['max_qty']} < min_qty {position['min_qty']}"
    for name, known in (("target", TARGETS), ("policy", POLICIES), ("supply_kind", ("purchase", "production"))):
        if position[name] not in known:
            return f"{name} {position[name]}"
    return ""


def exception(unique_id: str, code: str, value: str) -> dict[str, object]:
    return {"unique_id": unique_id, "code": code, "value": value, "rows": 1, "is_blocking": True}
