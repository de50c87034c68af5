"""The one call: demand history in, forecasts with their spread, choices with their reasons, and exceptions out.

>>> import polars as pl
>>> from datetime import date, timedelta
>>> days = [date(2026, 1, 1) + timedelta(days=d) for d in range(120)]
>>> history = pl.DataFrame({"unique_id": ["LAMP@HEL"] * 120, "ds": days, "y": [5.0] * 120})
>>> plan = plan_demand(history, as_of=days[-1], horizon_days=14)
>>> plan.totals.filter(pl.col("horizon_days") == 14).select("mean", "q95").row(0)
(70.0, 70.0)

A series' numbers depend on its own rows and on what was learned from all of them first (`learned`; also which get the slow
models, see `PlanSettings`), so a catalogue may be worked through in batches, stopped and resumed, with the same result:
`plan_batches`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.backtest import BACKTEST, backtest, backtest_frame
from forecasting.choose import MIN_FOLDS, Choice, choose
from forecasting.demand import (
    EXCEPTIONS,
    Calendar,
    History,
    Shape,
    complete_calendar,
    demand_shape,
    exceptions_frame,
    read_history,
    weekly,
)
from forecasting.errors import BadSetting
from forecasting.events import known_country, read_promotions
from forecasting.explain import LEVEL_WEEKS, explain
from forecasting.frames import Frame, as_of_day, day_of, is_pandas, like, one_row_each, to_polars, typed
from forecasting.learned import ATTRIBUTES, Learned, learn_together
from forecasting.metrics import quantile_column
from forecasting.models import (
    BOOSTED,
    COMBINATIONS,
    SIMPLE_RULES,
    candidates,
    default_model,
    forecast_weeks,
    learning_start,
    outlier_cap,
)
from forecasting.paths import day_paths, day_shares, deviations, quantiles, seed_of, week_paths
from forecasting.reasons import EVENT_WORDS, facts_json
from forecasting.similar import NewSeries, start_new

QUANTILES = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.98, 0.99)
QUANTILE_COLUMNS = tuple(quantile_column(q) for q in QUANTILES)
QUIET_DAYS = 364  # without demand for a year of weeks: nothing to forecast
MIN_SO_FAR_DAYS = 14  # one order yesterday is not that order every day
MIN_MODEL_WEEKS = 4
MAX_BACKTEST_WEEKS = 8
EVENT_TOLD = 0.05  # an event that moves a week by less is not spoken of

FORECASTS: dict[str, Any] = {
    "unique_id": pl.String,
    "ds": pl.Date,
    "horizon_days": pl.Int64,
    "mean": pl.Float64,
    **dict.fromkeys(QUANTILE_COLUMNS, pl.Float64),
    "model": pl.String,
}
CHOICES: dict[str, Any] = {
    "unique_id": pl.String,
    "model": pl.String,
    "grade": pl.String,
    "wape_ratio": pl.Float64,
    "rmsse": pl.Float64,
    "bias_units": pl.Float64,
    "baseline_model": pl.String,
    "baseline_wape_ratio": pl.Float64,
    "skill_ratio": pl.Float64,
    "folds": pl.Int64,
    "alternatives": pl.String,
    "demand_class": pl.String,
    "adi": pl.Float64,
    "cv2": pl.Float64,
    "first_demand_date": pl.Date,
    "last_demand_date": pl.Date,
    "history_days": pl.Int64,
    "demand_days": pl.Int64,
    "censored_days": pl.Int64,
    "is_stock_recorded": pl.Boolean,
    "is_dying": pl.Boolean,
    "is_new": pl.Boolean,
    "reason_codes": pl.List(pl.String),
    "facts": pl.String,
}
ITEMS: dict[str, Any] = {
    "unique_id": pl.String,
    "start_date": pl.Date,
    "end_date": pl.Date,
    "unit_cost_cents": pl.Float64,
    "prior_daily_qty": pl.Float64,
    "use_slow_models": pl.Boolean,
    **dict.fromkeys(ATTRIBUTES, pl.String),
    "name": pl.String,
    "supplier": pl.String,
    "price": pl.Float64,
}


@dataclass(frozen=True)
class PlanSettings:
    """How much work to do.

    Attributes:
        folds: Backtest cutoffs per series, two weeks apart.
        step_weeks: Weeks between cutoffs.
        paths: Possible futures drawn per series for the quantiles.
        slow_series: How many series, by last year's demand × unit_cost_cents (units where no cost is given), also try
            the slow models. A column `use_slow_models` in items decides instead where it is there.
        batch_series: Series held in memory at once.
        country: ISO code such as "CN": whose festivals and shopping days move demand (`events`); None: nobody's.
    """

    folds: int = 6
    step_weeks: int = 2
    paths: int = 200
    slow_series: int = 300
    batch_series: int = 2_000
    country: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("folds", 0), ("step_weeks", 1), ("paths", 20), ("slow_series", 0), ("batch_series", 1)):
            if getattr(self, name) < least:
                raise BadSetting(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.country is not None:
            known_country(self.country)


@dataclass(frozen=True)
class DemandPlan:
    """What `plan_demand` gives; the columns are described in `forecasting`.

    Attributes:
        forecasts: One row per (unique_id, ds).
        totals: One row per (unique_id, horizon_days): demand from the day after as_of through ds.
        choices: One row per series asked about that could be read.
        exceptions: What a person should look at.
        backtest: Forecasts of the chosen model and of the simple rule at the backtest's cutoffs.
        counts: Rows and series, by what became of them.
        as_of: Last day learned from.
    """

    forecasts: Any
    totals: Any
    choices: Any
    exceptions: Any
    backtest: Any
    counts: dict[str, int]
    as_of: date


def plan_demand(
    history: Frame,
    *,
    as_of: date | datetime,
    horizon_days: int = 28,
    items: Frame | None = None,
    closed_dates: Collection[date] = (),
    promotions: Frame | None = None,
    duplicates: Literal["error", "sum"] = "error",
    settings: PlanSettings = PlanSettings(),
) -> DemandPlan:
    """Forecast every series for `horizon_days` days after `as_of`.

    Args:
        history: unique_id, ds, y, is_censored; see `forecasting`.
        as_of: Last day known, its end. A moment (datetime) excludes the day it is part of, which isn't over.
        horizon_days: Days ahead, 1–400. At least the longest protection interval.
        items: What is known about the things themselves; see `forecasting`.
        closed_dates: Days without business, past and coming: their zero says nothing, and nothing is forecast on them.
        promotions: Past and planned ones: unique_id or product (of `items`; neither: all series), start_date, end_date,
            depth_ratio (0.2 = 20 % off; none: only the announcement). What such weeks sell beside ordinary ones is learned
            from those that were (`forecasting.promotions`); with fewer than four such weeks by the oldest fold of the
            backtest, or where its forecasts end no nearer with them, `exceptions` names those that move nothing. A series
            without one is forecast as ever.
        duplicates: Several rows of one (unique_id, ds) are an error, or are summed and counted.
        settings: How much work to do.

    Returns:
        Frames of the kind `history` is (Polars or pandas), sorted; same input, same bytes.

    Raises:
        DuplicateDays: See `duplicates`.
        BadFrame, BadSetting: The call itself is wrong. A broken series never raises, it is listed in `exceptions`.
    """
    plans = list(
        plan_batches(
            history,
            as_of=as_of,
            horizon_days=horizon_days,
            items=items,
            closed_dates=closed_dates,
            promotions=promotions,
            duplicates=duplicates,
            settings=settings,
        )
    )
    pandas = is_pandas(history)

    def together(name: str) -> Frame:
        return like(pl.concat([to_polars(getattr(plan, name), name=name, needs=()) for plan in plans]), pandas=pandas)

    counts: dict[str, int] = {}
    for plan in plans:
        for key, n in plan.counts.items():
            counts[key] = counts.get(key, 0) + n
    exceptions = pl.concat([plan.exceptions for plan in plans]).sort("unique_id", "code", "ds", nulls_last=False)
    return DemandPlan(
        forecasts=together("forecasts"),
        totals=together("totals"),
        choices=together("choices"),
        exceptions=like(exceptions, pandas=pandas),
        backtest=together("backtest"),
        counts=counts,
        as_of=plans[0].as_of,
    )


def plan_batches(
    history: Frame,
    *,
    as_of: date | datetime,
    horizon_days: int = 28,
    items: Frame | None = None,
    closed_dates: Collection[date] = (),
    promotions: Frame | None = None,
    duplicates: Literal["error", "sum"] = "error",
    settings: PlanSettings = PlanSettings(),
    done: Collection[str] = (),
) -> Iterator[DemandPlan]:
    """`plan_demand` in pieces of `settings.batch_series` series, Polars frames, sorted by unique_id: store one, go on
    with the next.

    The first piece carries what was found while reading the history, and its counts. Series in `done` are skipped, so
    a run that was stopped goes on where it was; the numbers don't depend on where the pieces were cut.
    """
    if not isinstance(horizon_days, int | np.integer) or not 1 <= horizon_days <= 400:
        raise BadSetting(
            f"horizon_days must be 1 to 400, got {horizon_days!r}",
            f"horizon_days 应为 1 到 400 的整数，实为 {horizon_days!r}",
        )
    day = as_of_day(as_of)
    closed = frozenset(day_of(closed, name="closed_dates") for closed in closed_dates)
    about = read_items(items)
    known = _after_relaunch(read_history(history, as_of=day, duplicates=duplicates), about)
    promos = None if promotions is None else read_promotions(promotions)
    learned = learn_together(
        known.rows,
        as_of=day,
        about=about,
        horizon_weeks=-(-horizon_days // 7),
        fold_weeks=min(-(-horizon_days // 7), MAX_BACKTEST_WEEKS),
        folds=settings.folds,
        step_weeks=settings.step_weeks,
        country=settings.country,
        promotions=promos,
    )
    horizon_weeks, young_days = -(-horizon_days // 7), 7 * (MIN_MODEL_WEEKS + 1)
    new = start_new(known.rows, about, as_of=day, horizon_weeks=horizon_weeks, young_days=young_days)
    quarantined = set(known.exceptions.filter(pl.col("is_blocking"))["unique_id"])
    sizes = known.rows.group_by("unique_id").agg(pl.len().alias("n")).sort("unique_id")
    rows_of: dict[str, tuple[int, int]] = {}
    offset = 0
    for unique_id, n in sizes.iter_rows():
        rows_of[unique_id] = (offset, n)
        offset += n
    slow = _slow_series(known, about, settings.slow_series)
    start = known.rows["ds"].min()
    ids = sorted((set(rows_of) | set(about)) - quarantined - set(done))
    pieces = [ids[at : at + settings.batch_series] for at in range(0, len(ids), settings.batch_series)] or [[]]
    for number, piece in enumerate(pieces):
        spans = [rows_of[i] for i in piece if i in rows_of]
        rows = pl.concat([known.rows.slice(*span) for span in _merged(spans)]) if spans else known.rows.clear()
        plan = _plan_piece(
            replace(known, rows=rows),
            ids=piece,
            about=about,
            horizon_days=horizon_days,
            closed=closed,
            settings=settings,
            slow=slow,
            learned=learned,
            start=start if isinstance(start, date) else day,
            new=new,
        )
        if number == 0:
            plan = replace(
                plan,
                exceptions=pl.concat(
                    [
                        known.exceptions,
                        _promotions_aside(promos, rows_of, about, day, horizon_days, learned),
                        plan.exceptions,
                    ]
                ),
                counts={**known.counts, **plan.counts},
            )
        yield plan


def _promotions_aside(
    promos: pl.DataFrame | None,
    ids: Collection[str],
    about: Mapping[str, Mapping[str, Any]],
    as_of: date,
    horizon_days: int,
    learned: Learned,
) -> pl.DataFrame:
    """Promotions of things nobody knows, and planned ones that move no forecast because nothing was learned of them."""
    if promos is None:
        return exceptions_frame([])
    products = {str(item["product"]) for item in about.values() if item["product"] is not None}
    found: dict[tuple[str, str], int] = {}
    for promo in promos.iter_rows(named=True):
        by_id, whose = promo["unique_id"] is not None, promo["unique_id"] or promo["product"] or "*"
        is_known = whose == "*" or (whose in ids or whose in about if by_id else whose in products)
        is_ahead = promo["end_date"] > as_of and (promo["start_date"] - as_of).days <= horizon_days
        if not is_known or (is_ahead and learned.promotions is None):
            key = (whose, "promotion_unlearned" if is_known else "promotion_unknown")
            found[key] = found.get(key, 0) + 1
    return exceptions_frame(
        [
            {"unique_id": whose, "code": code, "value": whose, "rows": rows, "is_blocking": False}
            for (whose, code), rows in sorted(found.items())
        ]
    )


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, n in spans:
        if merged and merged[-1][0] + merged[-1][1] == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + n)
        else:
            merged.append((start, n))
    return merged


def read_items(items: Frame | None) -> dict[str, dict[str, Any]]:
    """What is known about each thing, by unique_id; columns that are missing are None. See `forecasting`.

    Raises:
        BadFrame: A unique_id appears twice or is missing, or a column is not of the type it should be.
    """
    if items is None:
        return {}
    frame = one_row_each(items, name="items", may_have=ITEMS)
    return {row["unique_id"]: row for row in typed(frame, name="items", types=ITEMS).iter_rows(named=True)}


def _after_relaunch(known: History, about: dict[str, dict[str, Any]]) -> History:
    """Without the rows before an item's start_date: the relaunched thing starts anew."""
    starts = {i: item["start_date"] for i, item in about.items() if item["start_date"] is not None}
    if not starts:
        return known
    start = pl.DataFrame(
        {"unique_id": list(starts), "start_date": list(starts.values())},
        schema={"unique_id": pl.String, "start_date": pl.Date},
    )
    rows = known.rows.join(start, on="unique_id", how="left", maintain_order="left")
    kept = rows.filter(pl.col("start_date").is_null() | (pl.col("ds") >= pl.col("start_date"))).drop("start_date")
    counts = {**known.counts, "rows_before_start": rows.height - kept.height}
    return replace(known, rows=kept, counts={**counts, "rows_used": kept.height})


def _slow_series(known: History, about: dict[str, dict[str, Any]], most: int) -> frozenset[str]:
    told = {i for i, item in about.items() if item["use_slow_models"] is not None}
    if told:
        return frozenset(i for i in told if about[i]["use_slow_models"])
    lately = known.rows.filter(pl.col("ds") > known.as_of - timedelta(days=QUIET_DAYS))
    demand = lately.group_by("unique_id").agg(pl.col("y").sum()).sort("unique_id")
    worth = [
        (-y * ((about[i]["unit_cost_cents"] if i in about else None) or 1.0), i) for i, y in demand.iter_rows() if y > 0
    ]
    return frozenset(i for _, i in sorted(worth)[:most])


@dataclass
class _Series:
    """What is gathered about one series on the way to its rows."""

    unique_id: str
    item: dict[str, Any] | None
    days: Floats
    shape: Shape
    is_stock_recorded: bool = False
    censored_days: int = 0
    at: int = -1  # row of the weekly arrays
    names: tuple[str, ...] = ()
    model: str = ""
    choice: Choice | None = None
    ahead: Floats = field(default_factory=lambda: np.zeros(0))
    events_ahead: Floats | None = None  # what they multiply each week by, where that is worth a word
    ordinary: Floats | None = None  # weekly demand without them, there too
    reasons: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def _plan_piece(
    known: History,
    *,
    ids: list[str],
    about: dict[str, dict[str, Any]],
    horizon_days: int,
    closed: frozenset[date],
    settings: PlanSettings,
    slow: frozenset[str],
    learned: Learned,
    start: date,
    new: Mapping[str, NewSeries],
) -> DemandPlan:
    calendar = complete_calendar(known, closed_dates=closed, start=start)
    weeks = weekly(calendar.demand, calendar.first)
    is_masked = weekly(calendar.is_stock_out) > 0
    horizon_weeks = -(-horizon_days // 7)
    then, factors = learned.factors(calendar.ids, past_weeks=weeks.shape[1], ahead_weeks=horizon_weeks)
    found: list[dict[str, object]] = []

    series: list[_Series] = []
    where = {unique_id: i for i, unique_id in enumerate(calendar.ids)}
    for unique_id in ids:
        one = _describe(unique_id, where.get(unique_id), calendar, about.get(unique_id))
        if one is None:
            found.append({"unique_id": unique_id, "code": "empty_history", "value": "", "rows": 0, "is_blocking": True})
            continue
        if not one.model and one.at >= 0:
            use_slow, use_learned = unique_id in slow, unique_id in learned.at
            one.names = candidates(one.shape.demand_class, one.shape.adi, use_slow=use_slow, use_learned=use_learned)
        series.append(one)

    asked: list[tuple[str, ...]] = [()] * len(calendar.ids)
    for one in series:
        if one.names:
            asked[one.at] = tuple(dict.fromkeys((*one.names, *SIMPLE_RULES)))
    tested = backtest(
        weeks,
        is_masked,
        models=asked,
        horizon_weeks=min(horizon_weeks, MAX_BACKTEST_WEEKS),
        folds=settings.folds,
        step_weeks=settings.step_weeks,
        given=_learned_folds(learned, calendar.ids),
        events=then,
    )
    keep: list[tuple[str, ...]] = [()] * len(calendar.ids)
    for one in series:
        if one.names:
            default = learned.default(one.shape.demand_class)
            one.choice = choose(tested, series=one.at, names=one.names, default=default, weeks=weeks[one.at])
            _settle(one, one.choice, weeks[one.at], factors[one.at], learned, new.get(one.unique_id))
            if one.model not in ("mean_so_far", "similar"):
                _note_events(one, weeks[one.at], factors[one.at], calendar.as_of, learned)
            keep[one.at] = tuple(n for n in dict.fromkeys((one.model, one.choice.baseline_model)) if n in asked[one.at])
        failures = tested.failures.get(one.at, {}) if one.names else {}
        found.extend(
            {"unique_id": one.unique_id, "code": "model_failed", "value": said, "rows": 0, "is_blocking": False}
            for said in failures.values()
        )

    daily, totals = _future(series, calendar, weeks, is_masked, horizon_days, closed, settings.paths, learned)
    choices = pl.DataFrame([_choice_row(one, calendar) for one in series], schema=CHOICES, orient="row")
    return DemandPlan(
        forecasts=daily,
        totals=totals,
        choices=choices,
        exceptions=exceptions_frame(found).sort("unique_id", "code", "ds", nulls_last=False),
        backtest=backtest_frame(tested, ids=calendar.ids, as_of=calendar.as_of, weeks=weeks.shape[1], keep=keep)
        if calendar.ids
        else pl.DataFrame(schema=BACKTEST),
        counts={
            "series": len(ids),
            "series_forecast": sum(one.model not in ("no_demand", "discontinued") for one in series),
            "series_no_demand": sum(one.model == "no_demand" for one in series),
            "series_empty": len(ids) - len(series),
        },
        as_of=calendar.as_of,
    )


def _describe(unique_id: str, at: int | None, calendar: Calendar, item: dict[str, Any] | None) -> _Series | None:
    """A series with its shape, and its model already where none has to be fitted. None: nothing to go by at all."""
    no_days = np.zeros(0)
    if at is None:
        prior = item["prior_daily_qty"] if item else None
        if prior is None or not np.isfinite(prior) or prior < 0:
            return None
        one = _Series(unique_id, item, no_days, demand_shape(no_days), model="prior")
        one.reasons, one.facts = ["prior"], {"prior_daily_qty": prior}
        return _ended(one, calendar.as_of)
    days = calendar.demand[at, calendar.first[at] :]
    one = _Series(
        unique_id,
        item,
        days,
        demand_shape(days),
        is_stock_recorded=bool(calendar.is_stock_recorded[at]),
        censored_days=int(calendar.is_stock_out[at].sum()),
        at=at,
    )
    shape = one.shape
    one.facts = {"history_days": int(days.size), "demand_class": shape.demand_class}
    if item and item["start_date"] is not None:
        one.reasons.append("relaunched")
        one.facts["start_date"] = str(item["start_date"])
    if shape.demand_class == "no_demand":
        one.model = "no_demand"
        one.reasons.append("no_demand")
    elif days.size - 1 - shape.last_demand >= QUIET_DAYS:
        one.model = "no_demand"
        one.reasons.append("no_demand_lately")
        one.facts["quiet_days"] = int(days.size - 1 - shape.last_demand)
    if shape.is_dying:
        one.reasons.append("dying")
    if shape.is_new:
        one.reasons.append("new")
    if one.censored_days:
        one.reasons.append("stock_out_days_estimated")
        one.facts["censored_days"] = one.censored_days
    if not one.is_stock_recorded:
        one.reasons.append("stock_outs_unknown")
    if shape.first_demand >= 0:
        one.facts["first_demand_date"] = str(_date_of(one, calendar, shape.first_demand))
        one.facts["last_demand_date"] = str(_date_of(one, calendar, shape.last_demand))
    return _ended(one, calendar.as_of)


def _ended(one: _Series, as_of: date) -> _Series:
    if one.item and one.item["end_date"] is not None:
        one.facts["end_date"] = str(one.item["end_date"])
        one.reasons.append("discontinued")
        if one.item["end_date"] <= as_of:
            one.model = "discontinued"
    return one


def _date_of(one: _Series, calendar: Calendar, day: int) -> date:
    return calendar.as_of - timedelta(days=one.days.size - 1 - day)


def _learned_folds(learned: Learned, ids: Sequence[str]) -> dict[str, Floats]:
    rows = np.array([learned.at.get(unique_id, -1) for unique_id in ids], dtype=np.int64)
    found = {}
    for name, folds in learned.folds.items():
        found[name] = folds[:, rows]
        found[name][:, rows < 0] = np.nan
    return found


def _note_events(one: _Series, weeks: Floats, factors: Floats, as_of: date, learned: Learned) -> None:
    """Whether events or promotions move the weeks ahead or the last ones; says what moves those ahead most."""
    moved = np.abs(factors - 1) > EVENT_TOLD
    ahead = factors[weeks.size :]
    if moved[max(0, weeks.size - LEVEL_WEEKS) :].any():
        one.events_ahead, one.ordinary = ahead, weeks / factors[: weeks.size]
    if not moved[weeks.size :].any():
        return
    week = int(np.argmax(np.abs(np.log(ahead))))
    row, of_week = learned.rows[one.unique_id], week - ahead.size
    promoted = 1.0 if learned.promotions is None else float(learned.promotions[row, of_week])
    if learned.events is None or abs(np.log(promoted)) > abs(np.log(ahead[week] / promoted)):
        one.reasons.append("promotion_ahead")
        one.facts |= {
            "promotion_from": str(as_of + timedelta(days=7 * week + 1)),
            "promotion_factor": round(float(ahead[week]), 4),
        }
        return
    name = learned.events.names[learned.events.strongest[row, week]]
    one.reasons.append("event_ahead")
    one.facts |= {
        "event": name if name in EVENT_WORDS else name.replace("_", " ").title(),
        "event_from": str(as_of + timedelta(days=7 * week + 1)),
        "event_factor": round(float(ahead[week]), 4),
    }


def _settle(
    one: _Series, choice: Choice, demand: Floats, factors: Floats, learned: Learned, new: NewSeries | None
) -> None:
    """Settle the model of a series and its weekly forecast, learned from ordinary weeks: without what events did."""
    weeks, horizon_weeks = demand / factors[: demand.size], factors.size - demand.size
    start = learning_start(weeks)
    default = learned.default(one.shape.demand_class)
    row = learned.at.get(one.unique_id)
    given = {} if row is None else {name: ahead[row] for name, ahead in learned.ahead.items()}
    cap = outlier_cap(weeks)
    if (weeks > cap).any():
        one.reasons.append("outliers_capped")
        one.facts |= {"outlier_weeks": int((weeks > cap).sum()), "outlier_cap_qty": round(cap, 2)}
    first = int(np.flatnonzero(weeks > 0)[0]) if (weeks > 0).any() else weeks.size
    if first < start < weeks.size:
        gap_weeks = start - 1 - int(np.flatnonzero(weeks[:start] > 0)[-1])
        began = weeks.size - start
        one.reasons.append("restarted_after_gap")
        one.facts |= {"gap_weeks": gap_weeks, "weeks_since_restart": began}
    so_far = weeks.size - start
    home = default_model(one.shape.demand_class)
    wanted = (choice.model, default, home) if so_far >= MIN_MODEL_WEEKS else ()
    for name in wanted:
        made, _ = forecast_weeks(demand, horizon_weeks, (name,), given=given, events=factors)
        if name in made:
            one.model, one.ahead = name, made[name]
            break
    else:  # too young for any model
        since = one.days[one.shape.first_demand :] if not so_far or first == start else one.days[-7 * so_far :]
        daily = float(since.sum()) / max(MIN_SO_FAR_DAYS, since.size)
        one.model, one.ahead = "mean_so_far", np.full(horizon_weeks, 7 * daily)
        if new is not None:
            one.model, one.ahead = "similar", new.weeks
            one.reasons.extend(new.reason_codes)
            one.facts |= new.facts
    if choice.folds < MIN_FOLDS:
        one.reasons.insert(0, "short_history")
        one.facts["model"] = one.model
        return
    is_default = one.model == default
    why = "simple_rule_is_best" if one.model in SIMPLE_RULES else "chosen_by_backtest"
    one.reasons.insert(0, "default_of_class" if is_default else why)
    one.facts |= {
        "model": one.model,
        "folds": choice.folds,
        "error": round(choice.error, 4),
        "baseline_model": choice.baseline_model,
        "baseline_error": round(choice.baseline_error, 4),
    }


def _future(
    series: list[_Series],
    calendar: Calendar,
    weeks: Floats,
    is_masked: np.ndarray,
    horizon_days: int,
    closed: frozenset[date],
    paths: int,
    learned: Learned,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The daily forecasts and the running totals of all series; says in each one's facts what its total is made of."""
    sold = weekly(calendar.y, calendar.first)
    dates = [calendar.as_of + timedelta(days=d + 1) for d in range(horizon_days)]
    levels = np.array(QUANTILES)
    mean = np.zeros((len(series), horizon_days))
    of_day = np.zeros((len(series), len(QUANTILES), horizon_days))
    of_total = np.zeros_like(of_day)
    is_shown = np.ones((len(series), horizon_days), dtype=bool)
    shut = np.array([d in closed for d in dates])
    for row, one in enumerate(series):
        end = one.item["end_date"] if one.item else None
        gone = np.array([end is not None and d > end for d in dates])
        is_shown[row] = ~gone
        if one.model in ("no_demand", "discontinued"):
            continue
        rng = np.random.default_rng(seed_of(one.unique_id))
        if one.model == "prior":
            ahead = np.full(-(-horizon_days // 7), 7 * float(one.facts["prior_daily_qty"]))
            shares, spread, level = np.full((1, 7), 1 / 7), np.zeros(0), 0.0
        else:
            ahead = one.ahead
            shares = day_shares(one.days)
            usual = learned.without_promotions(one.unique_id, weeks[one.at], -(-horizon_days // 7))
            spread, level = deviations(usual, is_masked[one.at])
        open_days = ~(shut | gone)
        every_day = np.outer(ahead, shares.mean(axis=0)).ravel()[:horizon_days]
        mean[row] = every_day * open_days
        if one.at >= 0:
            began = weeks.shape[1] - one.days.size // 7  # its first whole week
            season_weight = COMBINATIONS.get(one.model, {one.model: 1.0}).get(BOOSTED, 0.0)
            ordinary = ahead if one.events_ahead is None else ahead / one.events_ahead
            one.reasons.append("explained" if one.events_ahead is None else "explained_with_events")
            one.facts |= explain(
                sold=sold[one.at, began:],
                demand=weeks[one.at, began:],
                season_ratio=learned.season_ratio,
                season_weight=season_weight,
                open_total=float(every_day.sum()),
                total=float(mean[row].sum()),
                days=horizon_days,
                ordinary=None if one.ordinary is None else one.ordinary[began:],
                ordinary_total=float(np.outer(ordinary, shares.mean(axis=0)).ravel()[:horizon_days].sum()),
            )
        possible = week_paths(ahead, spread, level, paths=paths, rng=rng)
        possible = learned.outcomes.bend(
            possible,
            ahead,
            own_weeks=spread.size,
            age_weeks=(one.days.size - one.shape.first_demand) // 7 if one.at >= 0 else 0,
        )
        days = day_paths(possible, shares, days=horizon_days, rng=rng) * open_days
        of_day[row] = quantiles(days, levels)
        of_total[row] = quantiles(days.cumsum(axis=1), levels)

    def frame(means: Floats, spread: Floats, shown: np.ndarray) -> pl.DataFrame:
        row, day = np.nonzero(shown)
        return pl.DataFrame(
            {
                "unique_id": pl.Series([one.unique_id for one in series], dtype=pl.String).gather(row),
                "ds": pl.Series(dates, dtype=pl.Date).gather(day),
                "horizon_days": day + 1,
                "mean": means[row, day].round(6),
                **{name: spread[row, q, day].round(6) for q, name in enumerate(QUANTILE_COLUMNS)},
                "model": pl.Series([one.model for one in series], dtype=pl.String).gather(row),
            },
            schema=FORECASTS,
        )

    return frame(mean, of_day, is_shown), frame(mean.cumsum(axis=1), of_total, np.ones_like(is_shown))


def _choice_row(one: _Series, calendar: Calendar) -> dict[str, object]:
    choice, shape = one.choice, one.shape
    nan = float("nan")
    return {
        "unique_id": one.unique_id,
        "model": one.model,
        "grade": choice.grade if choice else "D",
        "wape_ratio": _number(choice.wape_ratio if choice else nan),
        "rmsse": _number(choice.rmsse if choice else nan),
        "bias_units": _number(choice.bias_units if choice else nan),
        "baseline_model": choice.baseline_model or None if choice else None,
        "baseline_wape_ratio": _number(choice.baseline_wape_ratio if choice else nan),
        "skill_ratio": _number(choice.skill_ratio if choice else nan),
        "folds": choice.folds if choice else 0,
        "alternatives": facts_json(choice.alternatives if choice else {}),
        "demand_class": shape.demand_class,
        "adi": _number(shape.adi),
        "cv2": _number(shape.cv2),
        "first_demand_date": _date_of(one, calendar, shape.first_demand) if shape.first_demand >= 0 else None,
        "last_demand_date": _date_of(one, calendar, shape.last_demand) if shape.last_demand >= 0 else None,
        "history_days": int(one.days.size),
        "demand_days": shape.demand_days,
        "censored_days": one.censored_days,
        "is_stock_recorded": one.is_stock_recorded,
        "is_dying": shape.is_dying,
        "is_new": shape.is_new,
        "reason_codes": one.reasons,
        "facts": facts_json({k: v for k, v in one.facts.items() if v == v}),
    }


def _number(value: float) -> float | None:
    """Rounded so that the same input gives the same bytes whatever the order of a sum; None for what doesn't exist."""
    return round(value, 6) if np.isfinite(value) else None


__all__ = ["EXCEPTIONS", "QUANTILES", "DemandPlan", "PlanSettings", "plan_batches", "plan_demand", "read_items"]
