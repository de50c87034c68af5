"""More of what kind of demand a series has: trend, season, where in its life it is, and weeks that stick out.

`demand.demand_shape` tells how often and how evenly a series sells; this module reads its whole weeks.

>>> import numpy as np
>>> weeks = np.array([20.0 + w % 3 for w in range(60)])
>>> weeks[40] = 900.0
>>> np.flatnonzero(outliers(weeks)).tolist()
[40]
>>> trend_and_season(np.arange(1.0, 61.0))  # a straight line; a season takes two years to see
(1.0, nan)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from forecasting.arrays import Floats
from forecasting.demand import Shape
from forecasting.models import WEEKS_OF_YEAR, learning_start, outlier_cap

QUARTER = 13
MIN_LIFE_WEEKS = 8
GROWTH_RATIO, SURE = 1.25, 2.0  # a quarter more, and two standard errors away from nothing
QUIET_SHARE, QUIET_NEIGHBOURS, QUIET_MIN_QTY = 0.1, 8, 10.0

STAGES: dict[str, tuple[str, str]] = {  # what a planner reads, (中文, English)
    "new": ("新品", "new"),
    "growing": ("成长", "growing"),
    "mature": ("成熟", "mature"),
    "declining": ("衰退", "declining"),
    "dying": ("濒临淘汰", "dying"),
    "no_demand": ("无需求", "no demand"),
}
OUTLIERS = {
    "unique_id": pl.String,
    "ds": pl.Date,
    "y": pl.Float64,
    "kind": pl.String,
    "limit_qty": pl.Float64,
}


@dataclass(frozen=True)
class LifeCycle:
    """Where in its life a series is, and what moves it.

    Attributes:
        stage: A key of `STAGES`.
        growth_ratio: Demand of the last 13 weeks over that of the same 13 a year before; with less than 65 weeks over that
            of the weeks before them, with less than 26 second half over first. NaN where there is nothing to compare.
        trend_strength, season_strength: 0 none … 1 nothing else, see `trend_and_season`.
        outlier_weeks: How many weeks stick out.
    """

    stage: str
    growth_ratio: float
    trend_strength: float
    season_strength: float
    outlier_weeks: int


def life_cycle(shape: Shape, weeks: Floats) -> LifeCycle:
    """Describe one series.

    Args:
        shape: From `demand.demand_shape` of its days: says whether it is new (first demand in the last 8 weeks) or dying
            (silent for far longer than usual).
        weeks: Weekly demand up to the as-of day, units; NaN where it isn't known.

    A series grows (declines) when the last 13 weeks sell at least a quarter more (a fifth less) than before and the
    difference is more than two standard errors, weeks varying as they do. Large weeks are capped first
    (`models.outlier_cap`), so that one order is no growth.
    """
    filled = np.nan_to_num(weeks)
    capped = np.where(np.isnan(weeks), np.nan, np.minimum(filled, outlier_cap(filled)))[learning_start(filled) :]
    trend, season = trend_and_season(capped)
    now, before = _periods(capped)
    ratio, sure = _growth(now, before)
    if shape.demand_class == "no_demand":
        stage = "no_demand"
    elif shape.is_dying:
        stage = "dying"
    elif shape.is_new:
        stage = "new"
    elif ratio >= GROWTH_RATIO and sure > SURE:
        stage = "growing"
    elif ratio <= 1 / GROWTH_RATIO and sure < -SURE:
        stage = "declining"
    else:
        stage = "mature"
    return LifeCycle(stage, ratio, trend, season, int(outliers(weeks).sum()))


def _periods(weeks: Floats) -> tuple[Floats, Floats]:
    """The newest weeks and those they are compared with, known ones only."""
    if weeks.size >= WEEKS_OF_YEAR + QUARTER:
        now, before = weeks[-QUARTER:], weeks[-WEEKS_OF_YEAR - QUARTER : -WEEKS_OF_YEAR]
    else:
        length = min(QUARTER, weeks.size // 2)
        now, before = weeks[weeks.size - length :], weeks[weeks.size - 2 * length : weeks.size - length]
    return now[~np.isnan(now)], before[~np.isnan(before)]


def _growth(now: Floats, before: Floats) -> tuple[float, float]:
    """Ratio of the means, and their difference in standard errors."""
    if now.size + before.size < MIN_LIFE_WEEKS or min(now.size, before.size) < 2:
        return float("nan"), 0.0
    one, two = float(before.mean()), float(now.mean())
    # at least what counts vary by
    spread = (max(float(now.var(ddof=1)), two) / now.size + max(float(before.var(ddof=1)), one) / before.size) ** 0.5
    ratio = two / one if one > 0 else float("inf") if two > 0 else float("nan")
    return ratio, (two - one) / spread if spread > 0 else 0.0


def trend_and_season(weeks: Floats) -> tuple[float, float]:
    """How much of a series' variation its slow movement and its yearly one explain, each from 0 to 1.

    strength = max(0, 1 − var(rest) / var(part + rest)): Wang, Smith & Hyndman 2006, "Characteristic-based clustering for
    time series data". The trend is a moving mean of a year (of a quarter, below two years); the season is what the same
    five weeks of all years have in common around it (five, because one week of two years is mostly chance).

    Args:
        weeks: Units, NaN where not known.

    Returns:
        Trend (NaN below 26 weeks) and season (NaN below 104 weeks).
    """
    nan = float("nan")
    known = ~np.isnan(weeks)
    if known.sum() < 2 * QUARTER:
        return nan, nan
    has_season = weeks.size >= 2 * WEEKS_OF_YEAR and known.sum() >= WEEKS_OF_YEAR + QUARTER
    trend = _moving_line(weeks, WEEKS_OF_YEAR // 2 if has_season else QUARTER // 2)
    rest = weeks - trend
    season = np.zeros(weeks.size)
    if has_season:
        position = np.arange(weeks.size) % WEEKS_OF_YEAR
        total = np.bincount(position, np.where(known, rest, 0.0), WEEKS_OF_YEAR)
        count = np.bincount(position, known, WEEKS_OF_YEAR)
        around = [np.add.reduce([np.roll(x, shift) for shift in range(-2, 3)]) for x in (total, count)]
        of_position = around[0] / np.maximum(around[1], 1)
        season = (of_position - of_position.mean())[position]
        rest = rest - season
    rest, trend, season = rest[known], trend[known], season[known]
    return _strength(trend, rest), _strength(season, rest) if has_season else nan


def _moving_line(weeks: Floats, half: int) -> Floats:
    """Value at each week of the straight line through the known weeks within `half` of it."""
    t = np.arange(weeks.size, dtype=np.float64)
    known = (~np.isnan(weeks)).astype(np.float64)
    y = np.nan_to_num(weeks)
    sums = np.cumsum(np.vstack([np.zeros(5), np.column_stack([known, known * t, known * t**2, y, y * t])]), axis=0)
    at = np.arange(weeks.size)
    count, of_t, of_t2, of_y, of_ty = (sums[np.minimum(at + half + 1, weeks.size)] - sums[np.maximum(at - half, 0)]).T
    n = np.maximum(count, 1.0)
    below = of_t2 - of_t**2 / n
    slope = np.where(below > 0.5, (of_ty - of_t * of_y / n) / np.where(below > 0.5, below, 1.0), 0.0)
    line = of_y / n + slope * (t - of_t / n)
    return np.asarray(np.where(count > 0, line, y.sum() / max(known.sum(), 1.0)))


def _strength(part: Floats, rest: Floats) -> float:
    whole = float((part + rest).var())
    if whole < 1e-12:
        return 0.0
    return round(max(0.0, 1.0 - float(rest.var()) / whole), 6)


def outliers(weeks: Floats) -> NDArray[np.bool_]:
    """Weeks that stick out of one series, for a person to look at; the weeks themselves are not changed.

    High: above `models.outlier_cap`, six times the upper quartile of the weeks with demand. Models learn such a week as
    the cap. Low: at most a tenth of the median of the eight known weeks on either side, where both say ten units or
    more: a stock-out nobody recorded, a closure, a lost file. Low weeks are learned as they are until somebody says
    otherwise. To keep festivals out, pass weeks divided by `events.event_factors`.

    Args:
        weeks: Units, NaN where not known: never an outlier.
    """
    return _high(weeks) | _low(weeks)


def _high(weeks: Floats) -> NDArray[np.bool_]:
    filled = np.nan_to_num(weeks)
    return np.asarray(filled > outlier_cap(filled))


def _low(weeks: Floats) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray(weeks <= _least(weeks))


def _least(weeks: Floats) -> Floats:
    """Below this a week is low; NaN where the weeks around don't sell enough to tell, or aren't there."""
    limit = np.full(weeks.size, np.nan)
    known = np.flatnonzero(~np.isnan(weeks))
    n = QUIET_NEIGHBOURS
    if known.size <= 2 * n:
        return limit
    middle = np.median(sliding_window_view(weeks[known], n), axis=1)  # of the n weeks from each on
    usual = np.minimum(middle[: -n - 1], middle[n + 1 :])
    limit[known[n:-n]] = np.where(usual >= QUIET_MIN_QTY, QUIET_SHARE * usual, np.nan)
    return limit


def outliers_frame(ids: Sequence[str], weeks: Floats, *, as_of: date) -> pl.DataFrame:
    """The weeks of many series that stick out, for the planner's list.

    Args:
        ids: unique_id per row of `weeks`.
        weeks: series × week, units, the last week ending on `as_of`; NaN where not known.

    Returns:
        unique_id, ds (last day of the week), y (as it was), kind (``high`` or ``low``), limit_qty (the most, or the least,
        that would not have been listed); sorted by unique_id and ds.
    """
    rows: list[tuple[str, date, float, str, float]] = []
    for unique_id, own in zip(ids, weeks, strict=True):
        cap, least = outlier_cap(np.nan_to_num(own)), _least(own)
        for kind, flagged in (("high", _high(own)), ("low", _low(own))):
            for week in np.flatnonzero(flagged).tolist():
                limit = cap if kind == "high" else float(least[week])
                ends = as_of - timedelta(days=7 * (own.size - 1 - week))
                rows.append((unique_id, ends, float(own[week]), kind, round(limit, 2)))
    return pl.DataFrame(rows, schema=OUTLIERS, orient="row").sort("unique_id", "ds")
