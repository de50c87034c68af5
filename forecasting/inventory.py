"""Inventory policy: what a service target costs in stock, and what lies too long. Frames in, frames out.

The warehouse has the marts that stand on stored movements (`mart.turnover`, `mart.excess_dead_stock`, `mart.abc_xyz`); this
is what needs the forecast's distribution, or works on any frame without a warehouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from forecasting.errors import BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.frames import Frame, is_pandas, like, to_polars
from forecasting.marginal import paths_of_totals

CURVE: dict[str, Any] = {
    "cycle_service_ratio": pl.Float64,
    "fill_rate_ratio": pl.Float64,
    "mean_on_hand_qty": pl.Float64,
    "mean_stock_cents": pl.Float64,
    "short_qty": pl.Float64,
    "yearly_holding_cents": pl.Float64,
    "yearly_shortage_cents": pl.Float64,
    "yearly_cost_cents": pl.Float64,
    "series": pl.Int64,
}
STEPS = (0.50, 0.60, 0.70, 0.80, 0.85, 0.90, 0.95, 0.98, 0.99)


def service_curve(totals: Frame, positions: Frame, *, ratios: Sequence[float] = STEPS) -> Frame:
    """What each cycle service target would cost in stock, over all series together: the planner's slider.

    Per series the order-up-to level S is the `ratio` quantile of the demand of lead time L + review period R (at least its
    mean, rounded up as `suggest` does). With D(t) the demand of the first t days on a path, what was ordered today is for the
    days L + 1 … L + R: stock in their evenings is (S − D(t))⁺, and short in the cycle is (D(L + R) − S)⁺ − (D(L) − S)⁺
    (Silver, Pyke & Thomas 2017, §7.9). Nothing is assumed of the shape of demand; what is short waits.

    Args:
        totals: From `plan_demand`.
        positions: unique_id, lead_time_days, review_period_days (1 or more), unit_cost_cents, holding_cost_cents (a unit
            and day), shortage_cost_cents (a unit short); series whose interval is longer than the forecast are left out.
        ratios: Targets, each above 0 and below 1.

    Returns:
        One row per ratio: fill_rate_ratio (share of demand served from stock), mean_on_hand_qty, mean_stock_cents,
        short_qty (a review period), yearly costs, series. Stock and cost never fall as the target rises.
    """
    for ratio in ratios:
        if not 0 < ratio < 1:
            raise BadSetting(f"a service ratio must be between 0 and 1, got {ratio}")
    needs = (
        "unique_id", "lead_time_days", "review_period_days", "unit_cost_cents", "holding_cost_cents", "shortage_cost_cents",
    )  # fmt: skip
    at = to_polars(positions, name="positions", needs=needs).select(needs).sort("unique_id")
    table = to_polars(totals, name="totals", needs=("unique_id", "horizon_days", "mean", *QUANTILE_COLUMNS))
    table = table.sort("unique_id", "horizon_days").join(at.select("unique_id"), on="unique_id", how="semi")
    levels = np.array(QUANTILES)
    sums = {ratio: np.zeros(7) for ratio in ratios}
    for (unique_id,), part in table.partition_by("unique_id", as_dict=True, maintain_order=True).items():
        one = at.row(by_predicate=pl.col("unique_id") == unique_id, named=True)
        lead, review = one["lead_time_days"], one["review_period_days"]
        if lead + review > part.height:
            continue
        spread, mean = part.select(QUANTILE_COLUMNS).to_numpy(), part["mean"].to_numpy()
        paths = paths_of_totals(spread[: lead + review], levels)
        x = paths[:, lead - 1] if lead else np.zeros(paths.shape[0])
        z = paths[:, -1]
        for ratio in ratios:
            quantile = float(np.interp(ratio, levels, spread[lead + review - 1]))
            level = max(np.ceil(round(quantile, 6)), np.floor(mean[lead + review - 1] + 0.5))
            on_hand = float(np.maximum(level - paths[:, lead : lead + review], 0.0).mean())
            short = float((np.maximum(z - level, 0.0) - np.maximum(x - level, 0.0)).mean())
            cycles = 365 / review
            sums[ratio] += (
                on_hand,
                on_hand * one["unit_cost_cents"],
                short,
                on_hand * one["holding_cost_cents"] * 365,
                short * cycles * one["shortage_cost_cents"],
                float((z - x).mean()),
                1,
            )
    rows = []
    for ratio, (on_hand, stock, short, holding, shortage, asked, series) in sums.items():
        fill = 1 - short / asked if asked > 0 else None
        rows.append((ratio, fill, on_hand, stock, short, holding, shortage, holding + shortage, int(series)))
    return like(pl.DataFrame(rows, schema=CURVE, orient="row"), pandas=is_pandas(totals))


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
    at = to_polars(positions, name="positions", needs=columns).select(columns).filter(pl.col("on_hand_qty") > 0)
    table = to_polars(totals, name="totals", needs=("unique_id", "horizon_days", "q95"))
    cover = (
        table.sort("horizon_days")
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
