"""A whole catalogue in one run: backtest, forecast and orders for 15,000 series of 170 weeks.

    python -m benchmarks.forecast_scale [--series N] [--length N] [--data DIR] [--out FILE.json] [--record]

The series are drawn with a seed from vn2 (half of them; weeks in which the shop was out of stock are marked) and from
the spare parts of RAF and MAN. Each is made as long as asked by repeating itself, vn2 by whole years so that seasons stay
where they are, and thinned (each unit is kept with a chance drawn per series), so that no two are the same. The last four
weeks are held back.

`plan_demand` and `suggest` do all of it, as in a daily run: grid, stock-outs, what is learned together, six backtest
folds, choice, quantiles, orders. Beside them plain statsforecast, AutoETS and DynamicOptimizedTheta, forecasts once
without a backtest, on a tenth of the series; its time is scaled to all. Accuracy is compared on that same tenth: WAPE of
each of the four weeks held back.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.common import PROJECT, Figure, record, whole_run, write_json
from forecasting.arrays import Floats
from forecasting.forecast import plan_demand
from forecasting.replenishment import suggest

SEED = 20261122
HELD_BACK = 4
AS_OF = date(2026, 6, 28)
YEAR = 52
LEAD_TIME_DAYS, REVIEW_PERIOD_DAYS = 14, 7


def load(folder: Path) -> tuple[Floats, Floats]:
    """vn2 as series × week, NaN where out of stock; and spare parts as series × period, their last 72 periods."""
    sales = pl.read_parquet(folder / "vn2" / "weekly_sales.parquet").sort("store", "product", "week")
    weeks = sales["week"].n_unique()
    shop = sales.select(pl.when("in_stock").then(pl.col("sales").cast(pl.Float64)).otherwise(None))
    parts = []
    for name in ("braf", "man"):
        frame = pl.read_parquet(folder / "spare_parts" / f"{name}.parquet").sort("part", "t")
        parts.append(frame["y"].to_numpy().reshape(-1, frame["t"].n_unique())[:, -72:])
    return shop.to_series().to_numpy().reshape(-1, weeks), np.vstack(parts)


def resample(folder: Path, series: int, length: int) -> Floats:
    """series × week; NaN where out of stock."""
    shop, parts = load(folder)
    rng = np.random.default_rng(SEED)
    years = -(-length // YEAR)
    newest = shop[:, -(shop.shape[1] // YEAR) * YEAR :]
    sources = (np.tile(newest, years)[:, -length:], np.tile(parts, -(-length // parts.shape[1]))[:, -length:])
    drawn = []
    for number, source in enumerate(sources):
        count = series // 2 if number else series - series // 2
        picked = np.maximum(source[rng.integers(0, source.shape[0], count)], 0.0)
        keep = rng.uniform(0.5, 1.0, (count, 1))
        units = rng.binomial(np.nan_to_num(picked).astype(np.int64), keep).astype(np.float64)
        drawn.append(np.where(np.isnan(picked), np.nan, units))
    return np.vstack(drawn)


def history_of(y: Floats) -> pl.DataFrame:
    """Rows as `plan_demand` takes them: one a week, on its last day; of a week out of stock one a day."""
    series, weeks = y.shape
    ids = pl.Series([f"S{i:05d}" for i in range(series)])
    last_days = pl.Series([AS_OF - timedelta(weeks=weeks - 1 - w) for w in range(weeks)], dtype=pl.Date)
    row, week = np.nonzero(~np.isnan(y))
    known = pl.DataFrame({"unique_id": ids.gather(row), "ds": last_days.gather(week), "y": y[row, week]})
    row, week = np.nonzero(np.isnan(y))
    out = pl.DataFrame({"unique_id": ids.gather(row), "ds": last_days.gather(week), "y": np.zeros(row.size)})
    days = [out.with_columns(pl.col("ds") - timedelta(days=back)) for back in range(7)]
    return pl.concat(
        [known.with_columns(is_censored=pl.lit(False)), *(day.with_columns(is_censored=pl.lit(True)) for day in days)]
    )


def wape(mean: Floats, actual: Floats) -> float:
    """Absolute error over demand, of what is known."""
    return float(np.nansum(np.abs(mean - actual)) / np.nansum(actual))


def statsforecast_run(y: Floats) -> tuple[dict[str, Floats], float]:
    """Forecasts of plain AutoETS and DynamicOptimizedTheta on all cores, weeks out of stock as the zeros that were sold;
    and wall seconds."""
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS, DynamicOptimizedTheta

    series, weeks = y.shape
    frame = pl.DataFrame(
        {
            "unique_id": np.repeat(np.arange(series), weeks),
            "ds": np.tile(np.arange(weeks), series),
            "y": np.nan_to_num(y).ravel(),
        }
    )
    models = [AutoETS(season_length=1), DynamicOptimizedTheta(season_length=1)]
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = StatsForecast(models=models, freq=1, n_jobs=os.cpu_count() or 1).forecast(df=frame, h=HELD_BACK)
    seconds = time.monotonic() - began
    made = made.sort("unique_id", "ds")
    shape = (series, HELD_BACK)
    return {name: made[name].to_numpy().reshape(shape) for name in ("AutoETS", "DynamicOptimizedTheta")}, seconds


def measure(folder: Path, series: int, length: int) -> dict[str, Any]:
    """Every figure."""
    y = resample(folder, series, length)
    past, actual = y[:, :-HELD_BACK], y[:, -HELD_BACK:]
    history = history_of(past)
    positions = pl.DataFrame(
        {
            "unique_id": [f"S{i:05d}" for i in range(series)],
            "lead_time_days": LEAD_TIME_DAYS,
            "review_period_days": REVIEW_PERIOD_DAYS,
            "on_hand_qty": np.nan_to_num(past[:, -4:]).sum(axis=1).astype(np.int64),
        }
    )
    began, cpu = time.monotonic(), time.process_time()
    plan = plan_demand(history, as_of=AS_OF, horizon_days=7 * HELD_BACK)
    forecast_seconds = time.monotonic() - began
    orders = suggest(plan.totals, positions, as_of=AS_OF, choices=plan.choices).suggestions
    seconds = time.monotonic() - began
    cpu_seconds = time.process_time() - cpu
    peak = whole_run()["peak_mb"]

    daily = plan.forecasts.select("unique_id", "horizon_days", "mean")
    weekly = (
        daily.group_by("unique_id", week=(pl.col("horizon_days") - 1) // 7)
        .agg(pl.col("mean").sum())
        .sort("unique_id", "week")
    )
    ours = weekly["mean"].to_numpy().reshape(series, HELD_BACK)
    tenth = np.arange(0, series, 10)
    theirs, their_seconds = statsforecast_run(past[tenth])
    simple = np.nanmean(past[tenth, -8:], axis=1)
    simple = np.repeat(np.nan_to_num(simple)[:, None], HELD_BACK, axis=1)
    errors = {name: round(wape(mean, actual[tenth]), 4) for name, mean in theirs.items()}
    squared = {name: round(rmse(mean, actual[tenth]), 4) for name, mean in {**theirs, "ours": ours[tenth]}.items()}
    return {
        "series": series,
        "length": length,
        "seconds": round(seconds, 1),
        "forecast_seconds": round(forecast_seconds, 1),
        "our_cpu_seconds": round(cpu_seconds, 1),
        "peak_mb": peak,
        "orders": orders.height,
        "wape": round(wape(ours[tenth], actual[tenth]), 4),
        "wape_all": round(wape(ours, actual), 4),
        "statsforecast_seconds": round(their_seconds * series / tenth.size, 1),
        "statsforecast_wape": min(errors.values()),
        "statsforecast": errors,
        "rmse": squared,
        "mean_8_weeks_wape": round(wape(simple, actual[tenth]), 4),
        "models": dict(plan.choices["model"].value_counts().sort("count", descending=True).iter_rows()),
    }


def rmse(mean: Floats, actual: Floats) -> float:
    """Root mean squared error over the series in each week, averaged over the weeks, units; of what is known."""
    squared = np.nanmean((mean - actual) ** 2, axis=0)
    return float(np.sqrt(squared).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=15_000)
    parser.add_argument("--length", type=int, default=170, help="weeks of each series, the four held back included")
    parser.add_argument(
        "--data", default=str(PROJECT.parent / "shared" / "data"), help="folder with vn2 and spare_parts"
    )
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--record", action="store_true", help="also write them to benchmarks/RESULTS.md")
    asked = parser.parse_args()
    folder = Path(asked.data)
    console = Console(width=None if sys.stdout.isatty() else 130)
    needed = [
        folder / "vn2" / "weekly_sales.parquet",
        *(folder / "spare_parts" / f"{n}.parquet" for n in ("braf", "man")),
    ]
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        console.print(f"skipped: {', '.join(missing)} not there")
        return 0
    result = measure(folder, asked.series, asked.length)
    result |= whole_run() | {"peak_mb": result["peak_mb"]}
    table = Table("what", "measured", "held against", title="Forecast at scale")
    for line in figures(result):
        table.add_row(line.name, line.measured, line.reference)
    console.print(table)
    console.print(f"models: {result['models']}")
    write_json(asked.out, result)
    if asked.record:
        record("forecast_scale", figures(result))
    faster = result["seconds"] < result["statsforecast_seconds"]
    return int(not (faster and result["wape"] < result["statsforecast_wape"]))


def figures(result: dict[str, Any]) -> list[Figure]:
    told = ", ".join(f"{name} {error:.3f}" for name, error in result["statsforecast"].items())
    return [
        Figure(
            f"{result['series']:,} series × {result['length']} weeks: backtest, forecast, orders",
            f"{result['seconds']} s ({result['our_cpu_seconds']} CPU-s; forecast {result['forecast_seconds']} s)",
            f"goal ≤ 300 s, better ≤ 120 s; statsforecast without a backtest {result['statsforecast_seconds']} s",
        ),
        Figure("peak memory", f"{result['peak_mb']} MB", "goal ≤ 4,096 MB"),
        Figure(
            "WAPE of the four weeks held back",
            f"{result['wape']:.3f}",
            f"{told}; mean of 8 weeks {result['mean_8_weeks_wape']:.3f}",
        ),
        Figure(
            "root mean squared error",
            f"{result['rmse']['ours']:.3f}",
            ", ".join(f"{k} {v:.3f}" for k, v in result["rmse"].items() if k != "ours"),
        ),
        Figure("the whole run", f"{result['wall_seconds']} s, {result['cpu_seconds']} CPU-s", ""),
    ]


if __name__ == "__main__":
    sys.exit(main())
