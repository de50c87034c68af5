"""What a planner knows and the model does not, kept apart from the model: history adjustments before it learns, overrides
of its forecast afterwards. Nothing here fits anything, and every number that is changed stays beside the changed one.

``adjustments`` (one row per stretch of past days of one series)
    adjustment_id int, unique_id, from_date, through_date, kind: ``ignore`` (the days count as unknown) or ``replace``
    (each counts as ``daily_qty`` units), daily_qty, author, reason. Where two speak of a day, the higher id counts.
``overrides`` (one row per stretch of coming days of one series)
    override_id int, unique_id, from_date, through_date, kind with its amount: ``set_daily`` (units a day), ``multiply``
    (ratio), ``add_weekly`` (units a week, spread evenly over seven days; may be negative), author, reason, expires_date.
    They are applied in the order of their ids, each to what the one before left; demand never falls below zero.

All may be Polars or pandas frames, also with dates as text; what comes out is Polars.

>>> from datetime import date
>>> forecasts = pl.DataFrame({"unique_id": ["A"], "ds": [date(2026, 1, 2)], "horizon_days": [1], "mean": [4.0], "q95": [8.0]})
>>> fair = {"override_id": 1, "unique_id": "A", "from_date": date(2026, 1, 1), "through_date": date(2026, 1, 31),
...         "kind": "multiply", "amount": 1.5, "author": "pia", "reason": "fair", "expires_date": date(2026, 1, 31)}
>>> done = apply_overrides(forecasts, forecasts, pl.DataFrame([fair]), as_of=date(2026, 1, 1))
>>> done.forecasts.select("model_mean", "mean", "q95").row(0)
(4.0, 6.0, 12.0)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from forecasting.errors import BadFrame
from forecasting.frames import Frame, date_column, text_column, to_polars, typed
from forecasting.reasons import facts_json

STRETCH: dict[str, Any] = {"unique_id": pl.String, "from_date": pl.Date, "through_date": pl.Date, "kind": pl.String}
ADJUSTMENTS = {"adjustment_id": pl.Int64, **STRETCH, "daily_qty": pl.Float64}
OVERRIDES = {"override_id": pl.Int64, **STRETCH, "amount": pl.Float64, "expires_date": pl.Date}
ADJUSTMENT_KINDS = ("ignore", "replace")
OVERRIDE_KINDS = ("set_daily", "multiply", "add_weekly")

STEPS: dict[str, Any] = {
    "override_id": pl.Int64,
    "unique_id": pl.String,
    "ds": pl.Date,
    "before_mean": pl.Float64,
    "after_mean": pl.Float64,
}


@dataclass(frozen=True)
class Adjusted:
    """What to learn from, and what became of each adjusted day.

    Attributes:
        history: unique_id, ds, y, is_censored, as `plan_demand` takes it, sorted.
        days: One row per adjusted day: unique_id, ds, adjustment_id, kind, y_recorded (NULL: there was no row), y.
    """

    history: pl.DataFrame
    days: pl.DataFrame


@dataclass(frozen=True)
class Overridden:
    """The forecast after the planner.

    Attributes:
        forecasts, totals: As given, with `model_mean` beside `mean`; the quantiles moved in proportion to the mean.
        steps: One row per override and day it changed: override_id, unique_id, ds, before_mean, after_mean (units of that
            day before and after this override).
    """

    forecasts: pl.DataFrame
    totals: pl.DataFrame
    steps: pl.DataFrame


def apply_adjustments(history: Frame, adjustments: Frame) -> Adjusted:
    """Lay history adjustments over the recorded demand, which is left as it was.

    An ignored day is handed on as one whose demand is not known, like a day without stock; the days of a stretch that had
    no row are adjusted too. Nothing is adjusted before a series' first row or after its last known day, and series without
    history are left alone.

    Raises:
        MissingColumns, BadFrame: Of what can't be read, the first is named: a kind that is none, a day that is none, an end
            before the beginning.
    """
    history = _by_day(history, name="history", needs=("y",), may_have=("is_censored",))
    if "is_censored" not in history.columns:
        history = history.with_columns(pl.lit(None, dtype=pl.Boolean).alias("is_censored"))
    changes = _changes(adjustments, name="adjustments", types=ADJUSTMENTS, kinds=ADJUSTMENT_KINDS)
    days = _each_day(changes, "adjustment_id").sort("adjustment_id")
    days = days.unique(["unique_id", "ds"], keep="last", maintain_order=True)
    born = history.group_by("unique_id").agg(
        pl.col("ds").min().alias("first"), pl.col("is_censored").is_not_null().any().alias("is_stock_recorded")
    )
    days = days.join(born, on="unique_id", how="inner").filter(pl.col("ds") >= pl.col("first"))
    if days.is_empty():
        empty = {"unique_id": pl.String, "ds": pl.Date, "adjustment_id": pl.Int64, "kind": pl.String}
        return Adjusted(history, pl.DataFrame(schema={**empty, "y_recorded": pl.Float64, "y": pl.Float64}))
    is_ignored = pl.col("kind") == "ignore"
    days = days.join(
        history.select("unique_id", "ds", pl.col("y").alias("y_recorded")), on=["unique_id", "ds"], how="left"
    )
    days = days.with_columns(
        pl.when(is_ignored).then(0.0).otherwise(pl.col("daily_qty")).alias("y"),
        pl.when(is_ignored)
        .then(True)
        .when(pl.col("is_stock_recorded"))
        .then(False)
        .otherwise(None)
        .alias("is_censored"),
    ).sort("unique_id", "ds")
    untouched = history.join(days, on=["unique_id", "ds"], how="anti")
    columns = ["unique_id", "ds", "y", "is_censored"]
    learned = pl.concat([untouched.select(columns), days.select(columns)]).sort("unique_id", "ds")
    return Adjusted(learned, days.select("unique_id", "ds", "adjustment_id", "kind", "y_recorded", "y"))


def apply_overrides(forecasts: Frame, totals: Frame, overrides: Frame, *, as_of: date) -> Overridden:
    """Lay overrides over a finished forecast.

    Args:
        forecasts, totals: Of `plan_demand`, sorted by unique_id and ds.
        overrides: See the module. From `expires_date` on (as_of on it or later) an override does nothing.
        as_of: Last day learned from.

    Returns:
        The same rows in the same order. Where the model expects nothing, quantiles are those of a Poisson count with the
        planner's mean: there is nothing to be in proportion to.

    Raises:
        MissingColumns, BadFrame: As `apply_adjustments`.
    """
    forecasts = _by_day(forecasts, name="forecasts", needs=("mean",))
    totals = _by_day(totals, name="totals", needs=("mean",))
    changes = _changes(overrides, name="overrides", types=OVERRIDES, kinds=OVERRIDE_KINDS)
    steps = _steps(forecasts, changes.filter(pl.col("expires_date") > as_of))
    final = steps.group_by("unique_id", "ds", maintain_order=True).agg(pl.col("after_mean").last())
    changed = forecasts.select("unique_id", "ds", pl.col("mean").alias("model_mean")).join(
        final, on=["unique_id", "ds"], how="inner"
    )
    change = changed.select("unique_id", "ds", (pl.col("after_mean") - pl.col("model_mean")).alias("change"))
    daily = _moved(forecasts, change)
    running = (
        totals.select("unique_id", "ds")
        .join(change.select("unique_id").unique(), on="unique_id", how="semi", maintain_order="left")
        .join(change, on=["unique_id", "ds"], how="left", maintain_order="left")
        .with_columns(pl.col("change").fill_null(0.0).cum_sum().over("unique_id", order_by="ds"))
    )
    return Overridden(daily, _moved(totals, running), steps)


def move_pools(
    forecasts: pl.DataFrame, totals: pl.DataFrame, told: pl.DataFrame, pools: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Forecasts and totals of pools of places (unique_id is the pool_id) moved by what overrides changed at their places.

    A pool's forecast is its own and may be below that of a place; no day of it goes below zero, and its totals are the sums
    of its days as they were moved.

    Args:
        forecasts, totals: Of the pools, from `plan_demand`.
        told: `Overridden.forecasts`, of their places.
        pools: unique_id, pool_id.
    """
    change = (
        told.join(pools, on="unique_id", how="inner")
        .group_by("pool_id", "ds")
        .agg((pl.col("mean") - pl.col("model_mean")).sum().alias("change"))
        .filter(pl.col("change") != 0)
        .rename({"pool_id": "unique_id"})
    )
    daily = _moved(forecasts, change)
    running = (
        daily.join(change.select("unique_id").unique(), on="unique_id", how="semi", maintain_order="left")
        .select("unique_id", "ds", change=pl.col("mean") - pl.col("model_mean"))
        .with_columns(pl.col("change").cum_sum().over("unique_id", order_by="ds"))
    )
    return daily, _moved(totals, running)


def _by_day(frame: Frame, *, name: str, needs: Sequence[str], may_have: Sequence[str] = ()) -> pl.DataFrame:
    """`frame` with its unique_id as text and its ds as days."""
    given = to_polars(frame, name=name, needs=("unique_id", "ds", *needs), may_have=may_have)
    return given.with_columns(text_column(given, "unique_id"), date_column(given, "ds", name=name).alias("ds"))


def _changes(
    frame: Frame, *, name: str, types: Mapping[str, Any], kinds: Sequence[str], needs: Sequence[str] = ()
) -> pl.DataFrame:
    """Adjustments or overrides in plain types, whatever else they hold."""
    given = to_polars(frame, name=name, needs=(*types, *needs))
    read = given.with_columns(typed(given, name=name, types=types))
    dated = pl.all_horizontal(pl.col(column).is_not_null() for column, dtype in types.items() if dtype == pl.Date)
    amount = next(column for column, dtype in types.items() if dtype == pl.Float64)
    is_said = pl.col(amount).is_finite() | (pl.col("kind") == "ignore")
    is_fine = dated & (pl.col("through_date") >= pl.col("from_date")) & pl.col("kind").is_in(kinds) & is_said
    for one in read.filter(~is_fine.fill_null(False)).head(1).iter_rows(named=True):
        number = one[next(iter(types))]
        whose = one["unique_id"]
        days = ", ".join(f"{column} {one[column]}" for column, dtype in types.items() if dtype == pl.Date)
        raise BadFrame(
            f"{name}: number {number} of {whose} can't be used: kind {one['kind']!r} (one of {', '.join(kinds)}), "
            f"{amount} {one[amount]}, {days}",
            f"{name}：{whose} 的第 {number} 号无法使用：kind {one['kind']!r}（应为 {'、'.join(kinds)} 之一），"
            f"{amount} {one[amount]}，{days}",
        )
    return read


def _each_day(changes: pl.DataFrame, number: str) -> pl.DataFrame:
    """One row per change and day of it, with the column `ds`."""
    days = changes.with_columns(pl.date_ranges("from_date", "through_date").alias("ds"))
    return days.explode("ds").sort("unique_id", "ds", number)


def _steps(forecasts: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    days = _each_day(overrides, "override_id").join(
        forecasts.select("unique_id", "ds", "mean"), on=["unique_id", "ds"], how="inner", maintain_order="left"
    )
    rows = []
    at, mean = ("", date.min), 0.0
    for day in days.iter_rows(named=True):
        if (day["unique_id"], day["ds"]) != at:
            at, mean = (day["unique_id"], day["ds"]), day["mean"]
        before = mean
        if day["kind"] == "set_daily":
            mean = day["amount"]
        elif day["kind"] == "multiply":
            mean = before * day["amount"]
        else:
            mean = before + day["amount"] / 7
        mean = round(max(0.0, mean), 6)
        rows.append((day["override_id"], *at, before, mean))
    return pl.DataFrame(rows, schema=STEPS, orient="row")


def _moved(rows: pl.DataFrame, change: pl.DataFrame) -> pl.DataFrame:
    """`rows` with `model_mean` beside a mean moved by `change` (unique_id, ds, change), quantiles in proportion."""
    quantiles = [name for name in rows.columns if name[0] == "q" and name[1:].isdigit()]
    at = rows.columns.index("mean")
    columns = [*rows.columns[:at], "model_mean", *rows.columns[at:]]
    moved = rows.join(change, on=["unique_id", "ds"], how="left", maintain_order="left").with_columns(
        pl.col("mean").alias("model_mean"),
        pl.max_horizontal(pl.lit(0.0), pl.col("mean") + pl.col("change").fill_null(0.0)).round(6).alias("mean"),
    )
    is_moved = pl.col("change").is_not_null() & (pl.col("mean") != pl.col("model_mean"))
    ratio = pl.col("mean") / pl.col("model_mean")
    moved = moved.with_columns(
        pl.when(is_moved & (pl.col("model_mean") > 0)).then((pl.col(q) * ratio).round(6)).otherwise(pl.col(q)).alias(q)
        for q in quantiles
    )
    is_new = is_moved & (pl.col("model_mean") <= 0)
    means = moved.filter(is_new).select("mean").unique()
    if not means.is_empty():
        from scipy.stats import poisson  # noqa: PLC0415 - slow to import, rarely needed

        counts = means.with_columns(
            pl.Series(f"{q}_of_counts", poisson.ppf(int(q[1:]) / 100, means["mean"].to_numpy()), dtype=pl.Float64)
            for q in quantiles
        )
        moved = moved.join(counts, on="mean", how="left", maintain_order="left").with_columns(
            pl.when(is_new).then(pl.col(f"{q}_of_counts")).otherwise(pl.col(q)).alias(q) for q in quantiles
        )
    return moved.select(columns)


def note_adjustments(
    choices: pl.DataFrame, adjusted: Adjusted, adjustments: Frame, *, pools: pl.DataFrame | None = None
) -> pl.DataFrame:
    """`choices` with the reason `history_adjusted` where days were; ignored days no longer count as days without stock.

    With `pools` (unique_id, pool_id) the choices are those of pools, and `adjusted.history` holds the sums they were learned
    from: a pool is told of the days of all its places."""
    changes = _changes(
        adjustments, name="adjustments", types=ADJUSTMENTS, kinds=ADJUSTMENT_KINDS, needs=("author", "reason")
    )
    who = {row["adjustment_id"]: row for row in changes.iter_rows(named=True)}
    facts: dict[str, dict[str, Any]] = {}
    ignored: dict[str, int] = {}
    told = _whose(adjusted.days, pools)
    for (unique_id,), days in told.group_by("unique_id", maintain_order=True):
        used = [who[number] for number in days["adjustment_id"].unique().sort()]
        facts[str(unique_id)] = {
            "adjusted_days": days["ds"].n_unique(),
            "adjustment_author": _joined(used, "author"),
            "adjustment_reason": _joined(used, "reason"),
        }
        ignored[str(unique_id)] = days.filter(pl.col("kind") == "ignore")["ds"].n_unique()
    was_recorded = dict(
        adjusted.history.join(told.select("unique_id", "ds"), on=["unique_id", "ds"], how="anti")
        .group_by("unique_id")
        .agg(pl.col("is_censored").is_not_null().any())
        .iter_rows()
    )
    rows = []
    for row in choices.filter(pl.col("unique_id").is_in(list(facts))).iter_rows(named=True):
        unique_id, codes, known = row["unique_id"], list(row["reason_codes"]), json.loads(row["facts"])
        row["censored_days"] = max(0, row["censored_days"] - ignored[unique_id])
        row["is_stock_recorded"] = was_recorded.get(unique_id, False)
        known.pop("censored_days", None)
        if row["censored_days"]:
            known["censored_days"] = row["censored_days"]
        elif "stock_out_days_estimated" in codes:
            codes.remove("stock_out_days_estimated")
        if not row["is_stock_recorded"] and "stock_outs_unknown" not in codes:
            codes.append("stock_outs_unknown")
        row["reason_codes"], row["facts"] = [*codes, "history_adjusted"], facts_json({**known, **facts[unique_id]})
        rows.append(row)
    return _with_rows(choices, rows)


def note_overrides(
    choices: pl.DataFrame,
    steps: pl.DataFrame,
    overrides: Frame,
    *,
    pools: pl.DataFrame | None = None,
    together: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """`choices` with the reason `overridden` where an override changed a day: who, why, which days, by how much.

    With `pools` (unique_id, pool_id) the choices are those of pools, which are told of what changed at all their places; the
    units are then those of `together`, their forecast as `move_pools` moved it."""
    changes = _changes(overrides, name="overrides", types=OVERRIDES, kinds=OVERRIDE_KINDS, needs=("author", "reason"))
    who = {row["override_id"]: row for row in changes.iter_rows(named=True)}
    facts: dict[str, dict[str, Any]] = {}
    for (unique_id,), days in _whose(steps, pools).group_by("unique_id", maintain_order=True):
        used = [who[number] for number in days["override_id"].unique().sort()]
        by_day = days.group_by("ds").agg(pl.col("before_mean").first(), pl.col("after_mean").last())
        if together is not None:
            of_all = together.filter(pl.col("unique_id") == unique_id).join(by_day, on="ds", how="semi")
            by_day = of_all.select("ds", before_mean="model_mean", after_mean="mean")
        facts[str(unique_id)] = {
            "override_author": _joined(used, "author"),
            "override_reason": _joined(used, "reason"),
            "override_from": str(days["ds"].min()),
            "override_through": str(days["ds"].max()),
            "override_model_qty": round(float(by_day["before_mean"].sum()), 2),
            "override_qty": round(float(by_day["after_mean"].sum()), 2),
        }
    rows = []
    for row in choices.filter(pl.col("unique_id").is_in(list(facts))).iter_rows(named=True):
        row["facts"] = facts_json({**json.loads(row["facts"]), **facts[row["unique_id"]]})
        rows.append({**row, "reason_codes": [*row["reason_codes"], "overridden"]})
    return _with_rows(choices, rows)


def _whose(days: pl.DataFrame, pools: pl.DataFrame | None) -> pl.DataFrame:
    """`days` with the unique_id of whom they are told of."""
    if pools is None:
        return days
    pairs = pools.select("unique_id", "pool_id").drop_nulls()
    joined = days.join(pairs, on="unique_id", how="inner", maintain_order="left").drop("unique_id")
    return joined.rename({"pool_id": "unique_id"})


def _joined(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    return "; ".join(dict.fromkeys(str(row[name]) for row in rows))


def _with_rows(choices: pl.DataFrame, rows: list[dict[str, Any]]) -> pl.DataFrame:
    if not rows:
        return choices
    changed = pl.DataFrame(rows, schema=choices.schema)
    kept = choices.join(changed, on="unique_id", how="anti")
    return pl.concat([kept, changed]).sort("unique_id")
