"""Demand that comes now and then: the pooled forecast of `forecasting.intermittent` beside statsforecast's models.

    python -m benchmarks.spare_parts --data ../shared/data/spare_parts --out FILE.json
    python -m benchmarks.spare_parts --file FILE.parquet --holdout 12

A file has one row per (part, t) with its demand y. The last `--holdout` periods are forecast from the ones before them, all
from one origin (a year of twelve months; six months where there are fewer than 36 periods).

**RMSSE** here is sqrt(Σ mean squared error / Σ scale), both sums over the parts; the scale of a part is the mean squared change
from one period to the next of the periods learned from. A part whose past never changed has scale zero and still counts
with its error. Of the definitions in use this is the one under which forecasting nothing at all is not the best answer
(the row `zero` shows it), and on RAF it comes closest to the published numbers. The mean of the parts' own RMSSE (M5's;
parts of scale zero left out) is printed beside it as `series mean`: most parts have one or two orders a year, the root is
taken before the mean, and zero beats every model there.

**Pinball** is the mean quantile loss over parts, periods and q of `QUANTILES`, in units. A model that only gives a mean gets
a spread the two usual ways, normal and negative binomial with the variance of its past around that mean; the better
of the two counts. statsforecast's Croston and TSB bring none of their own.

**The curve**: every period the part is reviewed and ordered up to the quantile q of the demand of the `LEAD_TIME` + 1 periods
that the order must last for; what is ordered arrives `LEAD_TIME` periods later; what can't be served waits. Every
`REFRESH` periods all is forecast anew from what is known by then. Fill rate is the share of units served at once; holding a
unit for a period costs 1. Walking q from low to high draws a curve, and beyond the last q multiples of its level, the
same for all; the holding cost is read off at the fill rates of `FILL_RATES`, and of a model's two spreads the cheaper counts.
If FILE_price.parquet (part, price) lies beside FILE, the same is printed once more with every unit weighed by its price.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.common import Figure, processes, record, whole_run, write_json
from forecasting.arrays import Floats
from forecasting.intermittent import demand_paths, expected, learn

Curves = Mapping[tuple[str, str], Sequence[tuple[float, float]]]  # (model, spread) -> (fill rate, holding)

SETS = ("braf", "man", "auto")
PUBLISHED = {  # RAF, the twelve months after the ones given here
    "ADIDA": 0.611,
    "HistoricAverage": 0.614,
    "AutoETS": 0.620,
    "TSB": 0.626,
    "CrostonSBA": 0.636,
    "SeasonalNaive": 0.931,
}
GOAL = 0.600
OURS, ZERO = "pooled", "zero"
QUANTILES = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
LEAD_TIME, REFRESH = 2, 3
LEVELS = np.array([0.5, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.998, 0.999, 0.9995])
BEYOND = np.array([1.3, 1.7, 2.2, 3.0, 4.0, 6.0, 9.0])
FILL_RATES = (0.90, 0.95, 0.98)
STOCKED = ("CrostonSBA", "TSB")
SPREADS = ("normal", "negative binomial")
HOLDINGS = {"holding_at_fill_rate": "units", "holding_at_fill_rate_in_money": "money"}
PATHS, BATCH, SEED = 2000, 250, 20261123
FEW_PARTS = 200  # not worth starting processes for
MONTHS = 12


@dataclass(frozen=True)
class Parts:
    """A set: demand as part × period, and what a unit costs where that is known."""

    name: str
    y: Floats
    price: Floats | None


def read_parts(path: Path) -> Parts:
    """Read part, t, y of one file; periods without a row had no demand.

    Raises:
        ValueError: a column is missing, or a part has two rows for one period.
    """
    frame = pl.read_parquet(path)
    if missing := {"part", "t", "y"} - set(frame.columns):
        raise ValueError(f"{path.name} lacks the columns {', '.join(sorted(missing))}")
    if frame.select("part", "t").is_duplicated().any():
        raise ValueError(f"{path.name} has two rows for one part and period")
    wide = frame.sort("t").pivot(on="t", index="part", values="y").sort("part")
    beside = path.with_name(f"{path.stem}_price.parquet")
    price = None
    if beside.exists():
        found = wide.select("part").join(pl.read_parquet(beside), on="part", how="left", maintain_order="left")
        price = found["price"].fill_null(found["price"].median()).to_numpy().astype(np.float64)
    return Parts(path.stem, wide.drop("part").fill_null(0.0).to_numpy().astype(np.float64), price)


# --- what is measured -------------------------------------------------------------------------------------------------


def rmsse(past: Floats, came: Floats, ahead: Floats) -> tuple[float, float]:
    """RMSSE over all parts together, and the mean of the parts' own; see the module's text."""
    scale = np.mean(np.diff(past, axis=1) ** 2, axis=1)
    error = np.mean((came - ahead) ** 2, axis=1)
    moves = scale > 0
    own = np.sqrt(error[moves] / scale[moves])
    return float(np.sqrt(error.sum() / scale.sum())), float(own.mean())


def pinball(came: Floats, quantiles: Floats) -> float:
    """Mean quantile loss of part × level against part × period, units."""
    gap = came[:, :, None] - quantiles[:, None, :]
    return float(np.maximum(QUANTILES * gap, (QUANTILES - 1) * gap).mean())


def stock_run(came: Floats, targets: Floats, worth: Floats) -> tuple[float, float]:
    """Order every period up to `targets` and see what happens.

    Args:
        came: part × period, demand.
        targets: part × period, order-up-to level known when the period starts.
        worth: Of a unit, per part.

    Returns:
        Fill rate and mean worth on the shelf at the end of a period. The first period starts with its target on the shelf.
    """
    shelf, waiting = targets[:, 0].copy(), np.zeros(len(came))
    due = np.zeros((len(came), LEAD_TIME + 1))  # what arrives in 0, 1, … periods
    served = held = 0.0
    for period in range(came.shape[1]):
        position = shelf + due.sum(axis=1) - waiting
        due[:, LEAD_TIME] += np.maximum(0.0, targets[:, period] - position)
        shelf += due[:, 0]
        due = np.column_stack([due[:, 1:], np.zeros(len(came))])
        late = np.minimum(shelf, waiting)
        shelf, waiting = shelf - late, waiting - late
        now = np.minimum(shelf, came[:, period])
        shelf, waiting = shelf - now, waiting + came[:, period] - now
        served += float(worth @ now)
        held += float(worth @ shelf)
    asked = float(worth @ came.sum(axis=1))
    return (served / asked if asked else 1.0), held / came.shape[1]


def holding_at(curve: Sequence[tuple[float, float]], fill_rate: float) -> float:
    """Holding cost at which a curve of (fill rate, holding) first reaches a fill rate; NaN where it never does."""
    low_fill, low_held = 0.0, 0.0
    for fill, held in curve:
        if fill >= fill_rate:
            return low_held + (held - low_held) * (fill_rate - low_fill) / (fill - low_fill)
        low_fill, low_held = fill, held
    return float("nan")


# --- the models ---------------------------------------------------------------------------------------------------


def _models(season: int) -> Mapping[str, Callable[[], Any]]:
    from statsforecast import models

    return {
        "CrostonClassic": models.CrostonClassic,
        "CrostonOptimized": models.CrostonOptimized,
        "CrostonSBA": models.CrostonSBA,
        "TSB": lambda: models.TSB(0.1, 0.1),
        "ADIDA": models.ADIDA,
        "IMAPA": models.IMAPA,
        "HistoricAverage": models.HistoricAverage,
        "AutoETS": lambda: models.AutoETS(season_length=season),
        "SeasonalNaive": lambda: models.SeasonalNaive(season),
    }


def _forecast(name: str, past: Floats, horizon: int, season: int) -> Floats:
    model = _models(season)[name]()
    ahead = np.zeros((len(past), horizon))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for i, y in enumerate(past):
            if y.any():  # without any demand all of them say zero, or fail on the way there
                ahead[i] = model.forecast(y=np.ascontiguousarray(y), h=horizon)["mean"]
    return np.maximum(np.nan_to_num(ahead), 0.0)


def _timed(name: str, past: Floats, horizon: int, season: int) -> tuple[Floats, float]:
    began = time.process_time()
    return _forecast(name, past, horizon, season), time.process_time() - began


def _statsforecast(past: Floats, horizon: int, season: int) -> tuple[dict[str, Floats], float]:
    """Every model's means, part × period ahead; many parts are shared out among processes, whose CPU seconds come second
    (the forkserver's children, so `whole_run` doesn't see them)."""
    if len(past) < FEW_PARTS:
        return {name: _forecast(name, past, horizon, season) for name in _models(season)}, 0.0
    cores = os.cpu_count() or 1
    shares = np.array_split(past, 4 * cores)
    found: dict[str, Floats] = {}
    cpu_seconds = 0.0
    with ProcessPoolExecutor(cores, mp_context=processes()) as pool:
        for name in _models(season):
            jobs = [pool.submit(_timed, name, share, horizon, season) for share in shares if len(share)]
            found[name] = np.concatenate([job.result()[0] for job in jobs])
            cpu_seconds += sum(job.result()[1] for job in jobs)
    return found, cpu_seconds


def spread_quantiles(spread: str, mean: Floats, variance: Floats, levels: Floats) -> Floats:
    """Quantiles part × level of a normal distribution cut at zero, or a negative binomial one."""
    if spread == "normal":
        return np.maximum(0.0, mean[:, None] + np.sqrt(variance)[:, None] * stats.norm.ppf(levels))
    mean = np.maximum(mean, 1e-9)
    share = mean / np.maximum(variance, 1.01 * mean)
    size = mean * share / (1 - share)
    found = stats.nbinom.ppf(levels[None, :], size[:, None], share[:, None])
    # scipy's search gives up on tiny sizes; the gamma distribution of the same mean and variance is next to it
    return np.where(
        np.isfinite(found), found, stats.gamma.ppf(levels[None, :], size[:, None], scale=1 / share[:, None])
    )


def our_quantiles(past: Floats, *, horizon: int, periods: int, levels: Floats) -> Floats:
    """Quantiles part × level of the demand of the next `periods` together."""
    pool = learn(past, horizon=horizon)
    found = []
    for start in range(0, len(past), BATCH):
        rng = np.random.default_rng([SEED, past.shape[1], start])
        paths = demand_paths(pool, past[start : start + BATCH], horizon=periods, paths=PATHS, rng=rng)
        found.append(np.quantile(paths.sum(axis=2), levels, axis=1, method="inverted_cdf").T)
    return np.concatenate(found)


# --- a set --------------------------------------------------------------------------------------------------------


def measure(parts: Parts, *, holdout: int) -> dict[str, Any]:
    """All figures of one set, its last `holdout` periods held back."""
    known = parts.y.shape[1] - holdout
    past, came = parts.y[:, :known], parts.y[:, known:]
    season = min(MONTHS, known // 2)
    watch = time.perf_counter()
    pool = learn(past, horizon=holdout)
    means = {OURS: np.repeat(expected(pool, past).mean[:, None], holdout, axis=1)}
    ours = our_quantiles(past, horizon=holdout, periods=1, levels=QUANTILES)
    seconds = time.perf_counter() - watch

    theirs, cpu_seconds = _statsforecast(past, holdout, season)
    means |= theirs | {ZERO: np.zeros(came.shape)}
    models = {
        name: dict(zip(("rmsse", "rmsse_series_mean"), rmsse(past, came, ahead), strict=True))
        | {"bias_ratio": float(ahead.sum() / came.sum() - 1)}
        for name, ahead in means.items()
    }
    losses = {OURS: {"paths": pinball(came, ours)}}
    for name in _flat(means):
        mean = means[name][:, 0]
        variance = np.mean((past - mean[:, None]) ** 2, axis=1)
        losses[name] = {way: pinball(came, spread_quantiles(way, mean, variance, QUANTILES)) for way in SPREADS}
    best = min(theirs, key=lambda name: models[name]["rmsse"])
    return {
        "set": parts.name,
        "parts": len(parts.y),
        "holdout": holdout,
        "rmsse": models[OURS]["rmsse"],
        "best_statsforecast_rmsse": models[best]["rmsse"],
        "best_statsforecast": best,
        "rmsse_series_mean": models[OURS]["rmsse_series_mean"],
        "best_statsforecast_rmsse_series_mean": min(models[name]["rmsse_series_mean"] for name in theirs),
        "pinball": losses[OURS]["paths"],
        "best_statsforecast_pinball": min(min(losses[name].values()) for name in losses if name != OURS),
        "coverage": {
            f"{q:g}": float((came <= ours[:, [at]]).mean())
            for at, q in enumerate(QUANTILES)
            if q in (0.9, 0.95, 0.98, 0.99)
        },
        "half_life_periods": pool.half_life_periods,
        "seconds": seconds,
        "workers_cpu_seconds": cpu_seconds,
        "models": models,
        "pinballs": losses,
        **_curves(parts, known),
    }


def _flat(means: Mapping[str, Floats]) -> list[str]:
    """The models whose forecast is one level, so that one variance goes with it."""
    return [name for name in means if name not in (OURS, ZERO, "AutoETS", "SeasonalNaive")]


def _curves(parts: Parts, known: int) -> dict[str, Any]:
    """Holding at each fill rate of ordering up to the levels, by model; and the whole curves."""
    periods = LEAD_TIME + 1
    came = parts.y[:, known:]
    targets: dict[tuple[str, str], list[Floats]] = {}
    for start in range(0, came.shape[1], REFRESH):
        past = parts.y[:, : known + start]
        ours = our_quantiles(past, horizon=came.shape[1], periods=periods, levels=LEVELS)
        found = {(OURS, "paths"): ours}
        for name in STOCKED:
            mean = _forecast(name, past, 1, MONTHS)[:, 0]
            variance = np.mean((past - mean[:, None]) ** 2, axis=1)
            for way in SPREADS:
                found[name, way] = spread_quantiles(way, periods * mean, periods * variance, LEVELS)
        for key, levels in found.items():
            up_to = np.hstack([levels, levels[:, -1:] * BEYOND])
            targets.setdefault(key, []).extend([up_to] * min(REFRESH, came.shape[1] - start))
    by_level = {key: np.stack(found, axis=1) for key, found in targets.items()}  # part × period × level

    def walk(worth: Floats) -> Curves:
        return {
            key: [stock_run(came, up_to[:, :, level], worth) for level in range(up_to.shape[2])]
            for key, up_to in by_level.items()
        }

    units = walk(np.ones(len(came)))
    return {
        "holding_at_fill_rate": _holdings(units),
        "holding_at_fill_rate_in_money": None if parts.price is None else _holdings(walk(parts.price)),
        "curves": {f"{name}, {way}": curve for (name, way), curve in units.items()},
    }


def _holdings(curves: Curves) -> dict[str, dict[str, float | None]]:
    return {f"{rate:g}": {name: _least(curves, name, rate) for name in (OURS, *STOCKED)} for rate in FILL_RATES}


def _least(curves: Curves, name: str, rate: float) -> float | None:
    """The lowest holding of a model at a fill rate, whichever spread it takes; None where it never gets there."""
    found = [holding_at(curve, rate) for (model, _), curve in curves.items() if model == name]
    reached = [cost for cost in found if np.isfinite(cost)]
    return min(reached) if reached else None


# --- words --------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/spare_parts"), help="folder of the three sets"
    )
    parser.add_argument("--file", type=Path, help="one file instead: part, t, y")
    parser.add_argument("--holdout", type=int, help="periods held back; 12, or 6 where there are fewer than 36")
    parser.add_argument("--out", help="write the figures as JSON")
    parser.add_argument("--record", action="store_true", help="write them to benchmarks/RESULTS.md")
    asked = parser.parse_args(arguments)
    paths = [asked.file] if asked.file else [asked.data / f"{name}.parquet" for name in SETS]
    paths = [path for path in paths if path.exists()]
    if not paths:
        print(f"spare_parts skipped: there is no {asked.file or asked.data}")
        return 0
    console = Console(width=128)
    results = []
    for path in paths:
        parts = read_parts(path)
        holdout = asked.holdout or (MONTHS if parts.y.shape[1] >= 3 * MONTHS else MONTHS // 2)
        if not 0 < holdout <= parts.y.shape[1] // 2:
            parser.error(
                f"--holdout {holdout}: {path.name} has {parts.y.shape[1]} periods, at most half can be held back"
            )
        result = measure(parts, holdout=holdout)
        results.append(result)
        _print(console, result)
    run = whole_run()
    run["cpu_seconds"] = round(run["cpu_seconds"] + sum(result["workers_cpu_seconds"] for result in results), 1)
    console.print(f"whole run: {run['wall_seconds']} s, {run['cpu_seconds']} CPU-s, peak {run['peak_mb']} MB")
    write_json(asked.out, {**results[0], "run": run, "sets": {result["set"]: result for result in results}})
    if asked.record:
        for result in results:
            record(f"spare_parts {result['set']}", [*_figures(result), _run_figure(run)])
    return 0


def _run_figure(run: Mapping[str, float]) -> Figure:
    return Figure("whole run, all sets", f"{run['wall_seconds']} s, {run['cpu_seconds']} CPU-s", f"{run['peak_mb']} MB")


def _figures(result: Mapping[str, Any]) -> list[Figure]:
    title = f"{result['parts']:,} parts, last {result['holdout']} periods held back"
    goal = f"; goal ≤ {GOAL}" if result["set"] == "braf" else ""
    figures = [
        Figure(f"RMSSE, {title}", f"{result['rmsse']:.4f}", _held_against(result, "rmsse") + goal),
        Figure(
            "RMSSE, mean of the parts' own",
            f"{result['rmsse_series_mean']:.4f}",
            _held_against(result, "rmsse_series_mean") + f" (zero {result['models'][ZERO]['rmsse_series_mean']:.4f})",
        ),
        Figure("bias", f"{result['models'][OURS]['bias_ratio']:+.1%}", _held_against(result, "bias_ratio")),
        Figure("pinball, units", f"{result['pinball']:.4f}", _least_losses(result)),
        Figure(
            "demand at or below the quantile",
            ", ".join(f"{q}: {share:.3f}" for q, share in result["coverage"].items()),
            "at least the quantile: demand is in whole units",
        ),
    ]
    for key, what in HOLDINGS.items():
        for rate, costs in (result[key] or {}).items():
            theirs = ", ".join(f"{name} {_amount(costs[name])}" for name in STOCKED)
            figures.append(Figure(f"{what} held at fill rate {float(rate):.0%}", _amount(costs[OURS]), theirs))
    figures.append(Figure("learning and forecasting", f"{result['seconds']:.2f} s", ""))
    return figures


def _amount(cost: float | None) -> str:
    return "not reached" if cost is None else f"{cost:,.0f}"


def _held_against(result: Mapping[str, Any], key: str) -> str:
    form = "{:+.0%}" if key == "bias_ratio" else "{:.4f}"
    shown = [name for name in result["models"] if name not in (OURS, ZERO)]
    return ", ".join(f"{name} {form.format(result['models'][name][key])}" for name in shown)


def _least_losses(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {min(ways.values()):.4f}" for name, ways in result["pinballs"].items() if name != OURS)


def _print(console: Console, result: Mapping[str, Any]) -> None:
    table = Table("model", "RMSSE", "series mean", "bias", "pinball", "published", title=f"{result['set']}: RMSSE")
    for name, row in sorted(result["models"].items(), key=lambda item: float(item[1]["rmsse"])):
        losses = result["pinballs"].get(name)
        table.add_row(
            name,
            f"{row['rmsse']:.4f}",
            f"{row['rmsse_series_mean']:.4f}",
            f"{row['bias_ratio']:+.1%}",
            f"{min(losses.values()):.4f}" if losses else "",
            f"{PUBLISHED[name]:.3f}" if result["set"] == "braf" and name in PUBLISHED else "",
        )
    console.print(table)
    for key, what in HOLDINGS.items():
        if result[key] is None:
            continue
        costs = Table("fill rate", *(OURS, *STOCKED), title=f"{result['set']}: {what} held, mean of the periods' ends")
        for rate, found in result[key].items():
            costs.add_row(f"{float(rate):.0%}", *(_amount(found[name]) for name in (OURS, *STOCKED)))
        console.print(costs)
    console.print(
        f"demand at or below the quantile: {result['coverage']}; learned and forecast in {result['seconds']:.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
