"""From rows of demand to a complete calendar, and what kind of demand each series is.

`read_history` judges the rows (nothing is dropped in silence), `complete_calendar` fills the days without rows with
zero, marks closed days and estimates stock-out days, `demand_shape` describes each series.

A day is one of: ``recorded`` (there is a row), ``no_row`` (none: nobody asked, zero), ``closed`` (we were shut: zero,
and it says nothing about demand) and ``stock_out`` (`is_censored`: y is a lower bound).

Stock-out days are estimated simply: the larger of what was sold and the mean of the last `STOCK_OUT_LOOK_BACK` days
*before it* that were the same weekday, open and in stock; where there are none, of all earlier open days in stock.
Only earlier days are looked at, so a forecast made at any cutoff sees the same estimates.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from forecasting.errors import BadSetting, DuplicateDays, MonthlyRows
from forecasting.frames import Frame, date_column, number_column, text_column, to_polars, typed
from forecasting.reasons import sentence

MONTHS = 6  # so many different days, all the first or the last of a month, are no chance
SILENCE_DAYS = 5 * 365  # a day before so long a silence is a mistyped year or a zero date, not years of zero demand
NO_DATE = date(1899, 12, 31)  # what a sheet shows as 1900-01-00, where a date was left empty
STOCK_OUT_LOOK_BACK = 8
ADI_LIMIT, CV2_LIMIT = (
    1.32,
    0.49,
)  # Syntetos, Boylan & Croston (2005), "On the categorization of demand patterns", JORS 56

ROWS = {"unique_id": pl.String, "ds": pl.Date, "y": pl.Float64, "is_censored": pl.Boolean}
EXCEPTIONS = {
    "unique_id": pl.String,
    "ds": pl.Date,
    "code": pl.String,
    "value": pl.String,
    "rows": pl.Int64,
    "is_blocking": pl.Boolean,
    "message_zh": pl.String,
    "message_en": pl.String,
}


@dataclass(frozen=True)
class History:
    """Rows that may be learned from, and what was found on the way.

    Attributes:
        rows: One row per (unique_id, ds), sorted; y is finite and not negative; only days up to `as_of`.
        exceptions: One row per finding, see `forecasting`; blocking ones took their series out of `rows`.
        counts: Rows read, used and left out, by reason. `rows_read` is the sum of used, after_as_of, implausible,
            quarantined and summed.
        as_of: Last day known.
    """

    rows: pl.DataFrame
    exceptions: pl.DataFrame
    counts: dict[str, int]
    as_of: date


def first_day(days: pl.Series, as_of: date) -> date:
    """The first of `days` after which, through `as_of`, no silence is longer than `SILENCE_DAYS`; `as_of` where there is none.

    Give it the days of all series together. What lies before is a mistyped year (0206, 2002), Excel's 1900 or Unix's 1970, and
    would stretch everybody's calendar.

    >>> first_day(pl.Series([date(1970, 1, 1), date(2019, 5, 6), date(2024, 2, 1)]), date(2026, 6, 30))
    datetime.date(2019, 5, 6)
    """
    earliest = days.min()
    if isinstance(earliest, date) and (as_of - earliest).days <= SILENCE_DAYS:
        return earliest
    told: list[date] = [*days.filter(days <= as_of).unique().sort(), as_of]
    after_silence = [later for day, later in pairwise(told) if (later - day).days > SILENCE_DAYS]
    return after_silence[-1] if after_silence else told[0]


def read_history(history: Frame, *, as_of: date, duplicates: Literal["error", "sum"] = "error") -> History:
    """Judge demand rows: cut at `as_of`, take out what can't be read, clip what was netted below zero.

    Rows before `first_day` are left out and listed, by series, with the first one's number, counted from 1 as they came.

    Args:
        history: unique_id, ds, y and perhaps is_censored; see `forecasting`.
        as_of: Last whole day known. Later rows are counted and listed, never used.
        duplicates: Several rows of one (unique_id, ds): refuse, or add them up and count.

    Raises:
        DuplicateDays: Rows repeat a day and `duplicates` is "error".
        MissingColumns, BadFrame: A column is missing, or of a type that is none of its own.
    """
    if duplicates not in ("error", "sum"):
        raise BadSetting(f'duplicates must be "error" or "sum", got {duplicates!r}')
    frame = to_polars(history, name="history", needs=("unique_id", "ds", "y"), may_have=("is_censored",))
    findings: list[pl.DataFrame] = []
    rows = frame.select(
        pl.int_range(1, pl.len() + 1).alias("row"),
        text_column(frame, "unique_id").alias("unique_id"),
        _as_date(frame).alias("ds"),
        pl.col("ds").cast(pl.String).alias("ds_text"),
        number_column(frame, "y", name="history").alias("y"),
        pl.col("y").cast(pl.String).alias("y_text"),
        typed(frame, name="history", types={"is_censored": pl.Boolean}).to_series(),
    )
    counts = {"rows_read": rows.height}

    anonymous = pl.col("unique_id").is_null() | (pl.col("unique_id").str.strip_chars() == "")
    nameless = rows.filter(anonymous)
    if nameless.height:
        findings.append(_finding("missing_id", unique_id="", value="", rows=nameless.height, is_blocking=False))
    rows = rows.filter(~anonymous)

    # The cut comes first: what a later row holds, however broken, changes nothing.
    later = rows.filter(pl.col("ds") > as_of)
    counts["rows_after_as_of"] = later.height
    findings.append(_listed(later, "after_as_of", pl.col("ds").max().cast(pl.String)))
    rows = rows.filter(pl.col("ds").is_null() | (pl.col("ds") <= as_of))

    begins = first_day(rows["ds"], as_of)
    ancient = rows.filter(pl.col("ds") < begins)
    counts["rows_implausible_date"] = ancient.height
    rows = rows.filter(pl.col("ds").is_null() | (pl.col("ds") >= begins))
    findings.append(_too_early(ancient, begins, rows["ds"].max()))

    dateless = rows.filter(pl.col("ds").is_null())
    findings.append(_listed(dateless, "bad_date", pl.col("ds_text").first(), blocking=True))
    valueless = rows.filter(pl.col("ds").is_not_null() & (pl.col("y").is_null() | ~pl.col("y").is_finite()))
    findings.append(_listed(valueless, "bad_value", pl.col("y_text").first(), blocking=True, of_a_day=True))
    broken = pl.concat([dateless["unique_id"], valueless["unique_id"]]).unique()
    quarantined = pl.col("unique_id").is_in(broken.implode())
    counts["rows_quarantined"] = rows.filter(quarantined).height + nameless.height
    counts["series_quarantined"] = broken.len()
    rows = rows.filter(~quarantined)

    rows, repeated = _one_row_a_day(rows, duplicates)
    counts["rows_summed"] = int(repeated["rows"].sum()) if repeated.height else 0
    findings.append(repeated)

    negative = rows.filter(pl.col("y") < 0)
    counts["rows_clipped"] = negative.height
    findings.append(_listed(negative, "negative_clipped", pl.col("y").min().cast(pl.String)))
    rows = rows.with_columns(pl.col("y").clip(lower_bound=0.0))

    _warn_of_months(rows["ds"])
    counts["rows_used"] = rows.height
    return History(
        rows=rows.select(*ROWS).sort("unique_id", "ds"),
        exceptions=pl.concat(findings).sort("unique_id", "code", "ds", nulls_last=False),
        counts=counts,
        as_of=as_of,
    )


def _warn_of_months(days: pl.Series) -> None:
    """Say so where all rows, of half a year or more, lie on the first or on the last days of months."""
    days = days.unique()
    is_first = days.dt.day() == 1
    if days.len() >= MONTHS and (is_first.all() or (days.dt.month_end() == days).all()):
        warnings.warn(MonthlyRows(days=days.len()), stacklevel=4)


def _as_date(frame: pl.DataFrame) -> pl.Series:
    read = date_column(frame, "ds", name="history")
    at = (read.is_null() & frame["ds"].is_not_null()).arg_true()
    at = at.filter(frame["ds"].gather(at).cast(pl.String).str.contains(r"^\s*1900[-/]0?1[-/]00?\b"))
    return read.scatter(at, NO_DATE) if at.len() else read


def _one_row_a_day(rows: pl.DataFrame, duplicates: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    extra = rows.height - rows.select("unique_id", "ds").n_unique() if rows.height else 0
    if not extra:
        return rows, pl.DataFrame(schema=EXCEPTIONS)
    by_day = rows.group_by("unique_id", "ds").agg(
        pl.col("y").sum(),
        pl.col("is_censored").any(ignore_nulls=True) & pl.col("is_censored").is_not_null().any(),
        pl.col("is_censored").is_null().all().alias("unknown"),
        (pl.len() - 1).cast(pl.Int64).alias("rows"),
    )
    repeated = by_day.filter(pl.col("rows") > 0).sort("unique_id", "ds")
    if duplicates == "error":
        first = repeated.row(0, named=True)
        raise DuplicateDays(rows=extra, unique_id=first["unique_id"], ds=first["ds"])
    summed = by_day.with_columns(
        is_censored=pl.when(pl.col("unknown")).then(None).otherwise(pl.col("is_censored"))
    ).select(*ROWS)
    found = repeated.group_by("unique_id", maintain_order=True).agg(pl.col("rows").sum())
    return summed, exceptions_frame(
        [
            {"unique_id": uid, "code": "duplicates_summed", "rows": n, "value": "", "is_blocking": False}
            for uid, n in found.iter_rows()
        ]
    )


def _too_early(rows: pl.DataFrame, begins: date, last: object) -> pl.DataFrame:
    """One finding per series of `rows`, which lie before `begins`, the `first_day`; `last` of the others, None where there are
    none and `begins` is the as-of day."""
    found = rows.sort("unique_id", "ds", "row").group_by("unique_id", maintain_order=True)
    written = pl.col("ds_text").first().str.strip_chars().str.slice(0, 10)
    listed = found.agg(written.alias("value"), pl.len().alias("rows"), pl.col("row").first())
    others = {
        "code": "history_too_old" if last is None else "implausible_date",
        "others_from": str(begins),
        "others_through": str(last),
    }
    return exceptions_frame([{**row, **others, "is_blocking": False} for row in listed.iter_rows(named=True)])


def _listed(
    rows: pl.DataFrame, code: str, value: pl.Expr, *, blocking: bool = False, of_a_day: bool = False
) -> pl.DataFrame:
    """One finding per series of `rows`, with the first one's day where that says more than the value."""
    if not rows.height:
        return pl.DataFrame(schema=EXCEPTIONS)
    found = rows.sort("unique_id", "ds").group_by("unique_id", maintain_order=True)
    listed = found.agg(
        (pl.col("ds").first() if of_a_day else pl.lit(None, pl.Date)).alias("ds"),
        value.alias("value"),
        pl.len().cast(pl.Int64).alias("rows"),
    )
    return exceptions_frame([{**row, "code": code, "is_blocking": blocking} for row in listed.iter_rows(named=True)])


def _finding(code: str, *, unique_id: str, value: str, rows: int, is_blocking: bool) -> pl.DataFrame:
    return exceptions_frame(
        [{"unique_id": unique_id, "code": code, "value": value, "rows": rows, "is_blocking": is_blocking}]
    )


def exceptions_frame(found: list[dict[str, object]]) -> pl.DataFrame:
    """Findings with their sentences, in the columns of `EXCEPTIONS`; what else a finding holds serves its sentence."""
    rows = []
    for finding in found:
        code = str(finding["code"])
        shown = {name: finding.get(name) for name in EXCEPTIONS}
        rows.append({**shown, "message_zh": sentence(code, finding, "zh"), "message_en": sentence(code, finding, "en")})
    return pl.DataFrame(rows, schema=EXCEPTIONS) if rows else pl.DataFrame(schema=EXCEPTIONS)


@dataclass(frozen=True)
class Calendar:
    """Every day of every series from the first row of any of them through `as_of`, as arrays: series × day.

    Attributes:
        ids: unique_id of each array row, sorted.
        start: Date of the first array column.
        y: What the rows say; 0 where there is no row.
        demand: What is learned from: y, with stock-out days estimated. 0 before a series' first row.
        is_stock_out: Days that ran out of stock.
        is_closed: Days that were closed (one row of the array: the same for all series).
        has_row: Days that had a row in the history.
        first: Column of each series' first row.
        is_stock_recorded: Whether any row of the series says if stock ran out.
    """

    ids: list[str]
    start: date
    y: np.ndarray
    demand: np.ndarray
    is_stock_out: np.ndarray
    is_closed: np.ndarray
    has_row: np.ndarray
    first: np.ndarray
    is_stock_recorded: np.ndarray

    @property
    def as_of(self) -> date:
        """The last day of the calendar."""
        return self.start + timedelta(days=self.y.shape[1] - 1)

    def frame(self) -> pl.DataFrame:
        """One row per (unique_id, ds): y, demand_estimate_qty, is_censored (NULL: not recorded), day_kind."""
        inside = np.arange(self.y.shape[1])[None, :] >= self.first[:, None]
        kind = np.where(self.has_row, "recorded", "no_row")
        kind = np.where(self.is_closed[None, :] & ~self.has_row, "closed", kind)
        kind = np.where(self.is_stock_out, "stock_out", kind)
        dates = pl.date_range(self.start, self.as_of, eager=True)
        rows, columns = np.nonzero(inside)
        recorded = pl.Series(self.is_stock_recorded[rows])
        return pl.DataFrame(
            {
                "unique_id": pl.Series(self.ids, dtype=pl.String).gather(rows),
                "ds": dates.gather(columns),
                "y": self.y[rows, columns],
                "demand_estimate_qty": self.demand[rows, columns],
                "is_censored": self.is_stock_out[rows, columns],
                "day_kind": kind[rows, columns],
            }
        ).with_columns(is_censored=pl.when(recorded).then(pl.col("is_censored")))


def complete_calendar(history: History, *, closed_dates: Collection[date] = (), start: date | None = None) -> Calendar:
    """The clean rows on a calendar without holes that begins with `start`, or with the first row; see the module's text for
    what a day without a row means."""
    rows = history.rows
    ids = rows["unique_id"].unique().sort().to_list()
    if start is None:
        earliest = rows["ds"].min()
        start = earliest if isinstance(earliest, date) else history.as_of
    days = (history.as_of - start).days + 1
    at_series = rows["unique_id"].rle_id().to_numpy().astype(np.int64)  # rows are sorted: a run is a series
    at_day = _days_since(rows["ds"], start)
    shape = (len(ids), days)
    y = np.zeros(shape)
    has_row = np.zeros(shape, dtype=bool)
    is_stock_out = np.zeros(shape, dtype=bool)
    y[at_series, at_day] = rows["y"].to_numpy()
    has_row[at_series, at_day] = True
    is_stock_out[at_series, at_day] = rows["is_censored"].fill_null(False).to_numpy()
    first = np.argmax(has_row, axis=1) if ids else np.zeros(0, dtype=np.int64)
    is_closed = np.zeros(days, dtype=bool)
    for day in closed_dates:
        if start <= day <= history.as_of:
            is_closed[(day - start).days] = True
    recorded = rows.group_by("unique_id").agg(pl.col("is_censored").is_not_null().any()).sort("unique_id")
    is_stock_recorded = recorded["is_censored"].to_numpy() if ids else np.zeros(0, dtype=bool)
    demand = _with_stock_outs_estimated(y, is_stock_out, is_closed[None, :] & ~has_row, first)
    return Calendar(ids, start, y, demand, is_stock_out, is_closed, has_row, first, is_stock_recorded)


def _days_since(days: pl.Series, start: date) -> np.ndarray:
    epoch = date(1970, 1, 1)
    return np.asarray(days.to_physical().to_numpy().astype(np.int64) - (start - epoch).days)


def _with_stock_outs_estimated(
    y: np.ndarray, is_stock_out: np.ndarray, is_shut: np.ndarray, first: np.ndarray
) -> np.ndarray:
    demand = y.copy()
    usable = ~is_stock_out & ~is_shut & (np.arange(y.shape[1])[None, :] >= first[:, None])
    for i in np.flatnonzero(is_stock_out.any(axis=1)):
        good = usable[i]
        for day in np.flatnonzero(is_stock_out[i]):
            same_weekday = np.arange(day - 7, -1, -7)
            seen = same_weekday[good[same_weekday]][:STOCK_OUT_LOOK_BACK]
            if not seen.size:
                seen = np.flatnonzero(good[:day])
            if seen.size:
                demand[i, day] = max(y[i, day], float(y[i, seen].mean()))
    return demand


def weekly(days: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """Sums of whole weeks along the last axis, the last week ending with the last day; days that fill no week at the
    start are left out. So the newest week is never half a week, whatever weekday it ends on.

    With the `first` day of each series its own first week is none either unless it is whole, whoever else is in `days`.
    """
    if first is not None:
        size = days.shape[-1]
        days = np.where(np.arange(size) >= (size - (size - first) // 7 * 7)[:, None], days, 0)
    weeks = days.shape[-1] // 7
    return np.asarray(days[..., days.shape[-1] - 7 * weeks :].reshape(*days.shape[:-1], weeks, 7).sum(axis=-1))


@dataclass(frozen=True)
class Shape:
    """What kind of demand one series is. Weeks, because forecasts are made in weeks.

    Attributes:
        demand_class: smooth, erratic, intermittent, lumpy, or no_demand (Syntetos, Boylan & Croston 2005: ADI 1.32,
            CV² 0.49).
        adi: Weeks per week with demand, from the first demand on; NaN without demand.
        cv2: Squared coefficient of variation of the weeks that have demand.
        first_demand, last_demand: Day columns, -1 without demand.
        demand_days: Days with demand.
        is_new: First demand in the last 8 weeks.
        is_dying: The silence since the last demand is at least 13 weeks and four times the usual interval.
    """

    demand_class: str
    adi: float
    cv2: float
    first_demand: int
    last_demand: int
    demand_days: int
    is_new: bool
    is_dying: bool


def demand_shape(demand: np.ndarray) -> Shape:
    """Describe one series of daily demand that ends on the as-of day."""
    asked = np.flatnonzero(demand > 0)
    if not asked.size:
        return Shape("no_demand", float("nan"), float("nan"), -1, -1, 0, False, False)
    days = demand.size
    weeks = weekly(demand[asked[0] :]) if days - asked[0] >= 7 else demand[asked[0] :].sum(keepdims=True)
    sizes = weeks[weeks > 0]
    if not sizes.size:  # all of it in the first days, before the first whole week
        sizes = np.array([demand.sum()])
    adi = weeks.size / sizes.size
    cv2 = float((sizes.std() / sizes.mean()) ** 2)
    quiet = days - 1 - int(asked[-1])
    active = np.flatnonzero(weeks > 0)
    usual_interval = 7 * (active[-1] - active[0]) / (active.size - 1) if active.size > 1 else 0.0
    return Shape(
        demand_class={
            (False, False): "smooth",
            (False, True): "erratic",
            (True, False): "intermittent",
            (True, True): "lumpy",
        }[(adi >= ADI_LIMIT, cv2 >= CV2_LIMIT)],
        adi=adi,
        cv2=cv2,
        first_demand=int(asked[0]),
        last_demand=int(asked[-1]),
        demand_days=int(asked.size),
        is_new=days - int(asked[0]) <= 56,
        is_dying=quiet >= 91 and quiet >= 4 * usual_interval,
    )
