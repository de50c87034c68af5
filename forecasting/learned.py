"""What is learned from all series together, before they are worked through one by one.

Boosted trees (`boost`), and for demand that comes now and then what all series say of rates and sizes (`intermittent`).
Each is fitted twice. One has seen no target after the oldest cutoff of the backtest and forecasts all its folds, so
that what is chosen and graded was made without knowing what it is judged by; one has seen everything and forecasts what
comes. From the folds of a sample of series each demand class gets its default: the trees joined with something slower
(`models.joined_model`), unless another had a clearly smaller squared error in units of each series.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from forecasting import intermittent
from forecasting.arrays import Floats
from forecasting.boost import learn
from forecasting.demand import demand_shape
from forecasting.events import EventFactors, event_factors, series_regressors
from forecasting.explain import LEVEL_WEEKS
from forecasting.features import Features
from forecasting.frames import Frame
from forecasting.models import (
    BOOSTED,
    POOLED,
    default_model,
    forecast_weeks,
    joined_model,
    learned_models,
    learning_start,
)
from forecasting.outcomes import Outcomes, learn_outcomes
from forecasting.panel import Panel, attribute_codes, plausible
from forecasting.promotions import promotion_lifts

ATTRIBUTES = ("product", "category", "location", "channel")
LEAST_SERIES, LEAST_CUTOFF = 30, 40  # fewer series or weeks teach each other nothing
LEAST_WEEKS = 800  # known weeks of demand before the oldest cutoff, over all series
MOST_SERIES = 3_000  # learned from; the others are only forecast
TAUGHT_STEPS = 8
CLASS_SERIES = 300  # per class, for its default
LEAST_IN_CLASS = 20
# `joined_model`, unless another is so much better: the winner among near equals changes from week to week, and every
# change orders something that can't be sent back.
JOINED_MARGIN = 0.05
LEAST_KNOWN_DAYS = 4  # of a week with stock-outs: fewer days say nothing about the week
LEAST_PROMOTION_CUTOFF = 13  # weeks before the oldest cutoff, from which what promotions do can be learned
LEAST_EVENT_WEEKS = 52  # before the oldest cutoff: what is chosen there must know events as what comes does
EVENTS_GAIN = 0.01  # of the error in the folds; where events do nothing, factors by chance stay within half of it
EVENT_PRODUCTS = 400  # the largest get event factors of their own, the others those of their category


@dataclass(frozen=True)
class Learned:
    """What the batches are given.

    Attributes:
        at: unique_id -> row of the arrays of those that models were learned from.
        rows: unique_id -> row of the factors of events and promotions, also where there is too little for any model.
        folds: Model -> fold × series × week ahead, newest fold first: its forecast at the backtest's cutoffs, units of
            ordinary weeks (see `events`).
        ahead: Model -> series × week ahead: its forecast from the as-of day, units of ordinary weeks.
        season_ratio: Per week ahead: the season that all share over that of the last eight weeks.
        defaults: Demand class -> model a series of it gets unless its own backtest speaks strongly for another.
        outcomes: How the defaults' forecasts of the folds ended, for a sample of series.
        events: What holidays and shopping days multiply each week by, past ones and those ahead, as known on the as-of day;
            None without a country or a year of weeks before the oldest cutoff. Ordinary weeks are demand ÷ factor.
        events_then: The same, series × past week, as known at the oldest cutoff of the backtest.
        promotions, promotions_then: What promotions multiply each week by besides: series × past and ahead weeks, as known on
            the as-of day; series × past week, as known at the oldest cutoff. None where none was seen by then, or the folds
            end no nearer with them.
    """

    at: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    folds: Mapping[str, Floats] = field(default_factory=dict)
    ahead: Mapping[str, Floats] = field(default_factory=dict)
    season_ratio: Floats = field(default_factory=lambda: np.ones(0))
    defaults: Mapping[str, str] = field(default_factory=dict)
    outcomes: Outcomes = field(default_factory=Outcomes)
    events: EventFactors | None = None
    events_then: Floats | None = None
    promotions: Floats | None = None
    promotions_then: Floats | None = None

    def factors(self, ids: Sequence[str], *, past_weeks: int, ahead_weeks: int) -> tuple[Floats, Floats]:
        """Factors of events and promotions for the backtest (series × past week) and for now (series × past and ahead
        weeks); 1 for none."""
        then, now = np.ones((len(ids), past_weeks)), np.ones((len(ids), past_weeks + ahead_weeks))
        known = (
            (self.events_then, None if self.events is None else self.events.factors),
            (self.promotions_then, self.promotions),
        )
        for of_then, of_now in known:
            if of_then is not None and of_now is not None and ids:
                rows = np.array([self.rows[unique_id] for unique_id in ids])
                then = then * of_then[rows][:, -past_weeks:]
                now = now * of_now[rows][:, -past_weeks - ahead_weeks :]
        return then, now

    def without_promotions(self, unique_id: str, weeks: Floats, ahead_weeks: int) -> Floats:
        """Past `weeks` of a series as they would have been without what promotions did."""
        if self.promotions is None:
            return weeks
        factors = self.promotions[self.rows[unique_id]]
        return np.asarray(weeks / factors[: factors.size - ahead_weeks][-weeks.size :])

    def default(self, demand_class: str) -> str:
        """The model a series of this class gets when its own backtest gives no strong reason for another."""
        return self.defaults.get(demand_class, default_model(demand_class))


NOTHING = Learned()


def learn_together(
    rows: pl.DataFrame,
    *,
    as_of: date,
    about: Mapping[str, Mapping[str, Any]],
    horizon_weeks: int,
    fold_weeks: int,
    folds: int,
    step_weeks: int,
    country: str | None = None,
    promotions: Frame | None = None,
) -> Learned:
    """Learn from clean rows (see `demand.read_history`) of all series.

    Args:
        rows: unique_id, ds, y, is_censored, sorted.
        as_of: Last day known.
        about: What is known of each thing; `ATTRIBUTES` are used where they are there.
        horizon_weeks: Weeks to forecast.
        fold_weeks: Weeks ahead in each fold of the backtest.
        folds, step_weeks: As the backtest has them.
        country: Whose holidays and shopping days move demand; None: nobody's.
        promotions: Past and planned ones, as `events.series_regressors` takes them.

    Returns:
        No models when there are too few series or weeks; what promotions do is learned all the same.
    """
    panel = weekly_panel(rows, as_of=as_of, about=about)
    cutoffs = [panel.periods - fold_weeks - k * step_weeks for k in range(folds)]
    if not cutoffs or cutoffs[-1] < LEAST_PROMOTION_CUTOFF:
        return NOTHING
    all_rows = {unique_id: i for i, unique_id in enumerate(panel.ids)}
    sample = _sample(panel)
    is_little = len(panel.ids) < LEAST_SERIES or cutoffs[-1] < LEAST_CUTOFF
    is_little = is_little or np.isfinite(panel.y[:, : cutoffs[-1]]).sum() < LEAST_WEEKS
    if is_little or not np.nansum(panel.y[sample, : cutoffs[-1]]) > 0:  # or nothing was sold yet
        if promotions is None:
            return NOTHING
        share, depth = _promoted(panel, promotions, about, horizon_weeks)
        promoted_then, promoted = _promotions(panel, panel, share, depth, None, cutoffs, fold_weeks)
        return Learned(rows=all_rows, promotions=promoted, promotions_then=promoted_then)
    events = events_then = None
    then = now_panel = panel
    if country is not None and cutoffs[-1] >= LEAST_EVENT_WEEKS:
        events_then = learn_events(panel.until(cutoffs[-1]), panel.periods - cutoffs[-1], country).factors
        if not _events_help(panel, events_then, cutoffs, fold_weeks):
            events_then = None
    if events_then is not None and country is not None:
        events = learn_events(panel, horizon_weeks, country)
        then = replace(panel, y=panel.y / events_then)
        now_panel = replace(panel, y=panel.y / events.factors[:, : panel.periods])
    promoted = promoted_then = None
    if promotions is not None:
        share, depth = _promoted(panel, promotions, about, horizon_weeks)
        promoted_then, promoted = _promotions(then, now_panel, share, depth, events_then, cutoffs, fold_weeks)
    if promoted is not None and promoted_then is not None:
        then = replace(then, y=then.y / promoted_then)
        now_panel = replace(now_panel, y=now_panel.y / promoted[:, : panel.periods])
    teachers = _part(then, sample)
    steps = min(TAUGHT_STEPS, fold_weeks)
    all_features, features = Features(then), Features(teachers)
    past = learn(features, until=cutoffs[-1], horizon=steps)
    tested = []
    for cutoff in cutoffs:
        tested.append(past.forecast(all_features, cutoff=cutoff, horizon=fold_weeks))
        all_features.forget(cutoff + 1)
    pool = intermittent.learn(teachers.y[:, : cutoffs[-1]], horizon=fold_weeks)
    if now_panel is not then:
        teachers = _part(now_panel, sample)
        all_features, features = Features(now_panel), Features(teachers)
    now = learn(features, until=panel.periods, horizon=steps)
    ahead = now.forecast(all_features, cutoff=panel.periods, horizon=horizon_weeks)
    season = all_features.season(panel.periods)
    coming = season[panel.season_position(np.arange(panel.periods, panel.periods + horizon_weeks))]
    recent = season[panel.season_position(np.arange(panel.periods - LEVEL_WEEKS, panel.periods))].mean()
    pool_now = intermittent.learn(teachers.y, horizon=fold_weeks)
    rates = [intermittent.expected(pool, then.y[:, :cutoff]).mean for cutoff in cutoffs]
    made = {BOOSTED: np.array(tested), POOLED: np.repeat(np.array(rates)[:, :, None], fold_weeks, axis=2)}
    rate_now = intermittent.expected(pool_now, now_panel.y).mean
    moved = [each for each in (events_then, promoted_then) if each is not None]
    defaults, outcomes = _defaults(panel, cutoffs, made, np.prod(moved, axis=0) if moved else None)
    return Learned(
        at=all_rows,
        rows=all_rows,
        folds=made,
        ahead={BOOSTED: ahead, POOLED: np.repeat(rate_now[:, None], horizon_weeks, axis=1)},
        season_ratio=coming / recent,
        defaults=defaults,
        outcomes=outcomes,
        events=events,
        events_then=events_then,
        promotions=promoted,
        promotions_then=promoted_then,
    )


def _events_help(panel: Panel, factors: Floats, cutoffs: Sequence[int], weeks: int) -> bool:
    """Whether forecasts end nearer with what events multiply by."""
    return _nearer(panel, np.arange(len(panel.ids)), None, factors, cutoffs, weeks)


def _promotions(
    then: Panel,
    now: Panel,
    share: Floats,
    depth: Floats,
    events: Floats | None,
    cutoffs: Sequence[int],
    weeks: int,
) -> tuple[Floats | None, Floats | None]:
    """What promotions multiply by as known at the oldest cutoff, and as known now; None and None where that is no help. The
    panels are without what events do, as known then and now."""
    found = _lifted(then.until(cutoffs[-1]), share, depth, then.periods)
    if found is None or not _promotions_help(then, found, events, cutoffs, weeks):
        return None, None
    return found, _lifted(now, share, depth, share.shape[1])


def _promotions_help(then: Panel, factors: Floats, events: Floats | None, cutoffs: Sequence[int], weeks: int) -> bool:
    """Whether forecasts of the series that had a promotion in the folds end nearer with what promotions multiply by, beside
    events. Where there was none, nothing speaks against what was learned."""
    touched = np.flatnonzero((factors[:, cutoffs[-1] :] != 1).any(axis=1))
    panel = then if events is None else replace(then, y=then.y * events)
    both = factors if events is None else factors * events
    return not touched.size or _nearer(panel, touched, events, both, cutoffs, weeks)


def _nearer(
    panel: Panel, rows: np.ndarray, before: Floats | None, after: Floats, cutoffs: Sequence[int], weeks: int
) -> bool:
    """Whether the default forecast of the folds, weeks that the factors have not seen, ends nearer with factors `after` than
    `before`: squared error in units of each series, at least `EVENTS_GAIN` lower."""
    name, oldest = default_model("smooth"), cutoffs[-1]
    error = np.zeros(2)
    for i in sorted(rows.tolist(), key=lambda i: zlib.crc32(panel.ids[i].encode()))[:CLASS_SERIES]:
        known = np.nan_to_num(panel.y[i])
        scale = max(float(np.mean(known[:oldest] ** 2)), 1e-9)
        for cutoff in cutoffs if known[:oldest].any() else ():
            coming = slice(cutoff, cutoff + weeks)
            for way, told in enumerate((None if before is None else before[i], after[i])):
                made, _ = forecast_weeks(known[:cutoff], weeks, (name,), events=told)
                if name in made:
                    error[way] += float(np.nansum((made[name] - panel.y[i, coming]) ** 2)) / scale
    return bool(error[1] <= (1 - EVENTS_GAIN) * error[0])


def _promoted(
    panel: Panel, promotions: Frame, about: Mapping[str, Mapping[str, Any]], ahead_weeks: int
) -> tuple[Floats, Floats]:
    """Share of days and mean depth of promotions: series × past and ahead weeks."""
    found = series_regressors(
        panel.ids,
        as_of=panel.start + timedelta(days=7 * panel.periods - 1),
        past_weeks=panel.periods,
        ahead_weeks=ahead_weeks,
        promotions=promotions,
        products=[str(about.get(i, {}).get("product")) for i in panel.ids],
    )
    return found["promotion_share"], found["promotion_depth_ratio"]


def _lifted(panel: Panel, share: Floats, depth: Floats, weeks: int) -> Floats | None:
    """What promotions multiply the first `weeks` weeks by, learned from `panel`; None where it saw too few."""
    seen = slice(0, panel.periods)
    each = np.arange(len(panel.ids))  # products that lie at one place only are no attribute: each series is its own
    levels = [panel.attributes.get("category", np.zeros_like(each)), panel.attributes.get("product", each)]
    lifts = promotion_lifts(panel.y, share[:, seen], depth[:, seen], levels=levels)
    return lifts.factors(share[:, :weeks], depth[:, :weeks]) if lifts.weeks else None


def learn_events(panel: Panel, ahead_weeks: int, country: str) -> EventFactors:
    """What events multiply demand by: learned for all, then for each category, then for each of the largest products."""
    each = np.arange(len(panel.ids))
    category = panel.attributes.get("category", np.zeros_like(each))
    pairs = np.column_stack([category, panel.attributes.get("product", each)])
    own = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    sold = np.bincount(own, np.nansum(panel.y, axis=1))
    large = np.argsort(-sold, kind="stable")[:EVENT_PRODUCTS]
    levels = [category, np.where(np.isin(own, large), own, -1)]
    as_of = panel.start + timedelta(days=7 * panel.periods - 1)
    return event_factors(panel.y, as_of=as_of, ahead_weeks=ahead_weeks, country=country, levels=levels)


def weekly_panel(rows: pl.DataFrame, *, as_of: date, about: Mapping[str, Mapping[str, Any]]) -> Panel:
    """Rows as weeks that end on the as-of day, from the first whole week of any series.

    A week with stock-outs counts as its days in stock would have it over seven days, and is not known when fewer than
    four of them were in stock. Weeks before a series' first row are not known; after it a day without a row is zero.
    """
    if not rows.height:
        return Panel((), as_of, np.zeros((0, 0)))
    back = (pl.lit(as_of) - pl.col("ds")).dt.total_days() // 7
    out = pl.col("is_censored").fill_null(False)
    grid = (
        rows.lazy()
        .with_columns(back=back)
        .group_by("unique_id", "back")
        .agg(good=pl.col("y").filter(~out).sum(), sold=pl.col("y").sum(), out_days=out.sum())
        .sort("unique_id", "back")
        .collect()
    )
    first_day = rows["ds"].min()
    assert isinstance(first_day, date)
    weeks = max(1, ((as_of - first_day).days + 1) // 7)
    ids = tuple(grid["unique_id"].unique().sort().to_list())
    row = grid["unique_id"].rle_id().to_numpy().astype(np.int64)
    column = weeks - 1 - grid["back"].to_numpy()
    inside = column >= 0
    known_days = 7 - grid["out_days"].to_numpy().astype(np.float64)
    good, sold = grid["good"].to_numpy(), grid["sold"].to_numpy()
    value = np.where(known_days >= LEAST_KNOWN_DAYS, np.maximum(good * 7 / np.maximum(known_days, 1), sold), np.nan)
    y = np.zeros((len(ids), weeks))
    y[row[inside], column[inside]] = value[inside]
    first = rows.group_by("unique_id").agg(pl.col("ds").min()).sort("unique_id")["ds"]
    born = weeks - 1 - np.array([(as_of - day).days // 7 for day in first.to_list()])
    y[np.arange(weeks)[None, :] < born[:, None]] = np.nan
    attributes = {}
    for name in ATTRIBUTES:
        values = [about[i].get(name) if i in about else None for i in ids]
        codes = attribute_codes(pl.Series(values, dtype=pl.String))
        if 0 < codes.max(initial=0) < len(ids) - 1:  # one group for all says nothing, nor one for each
            attributes[name] = codes
    return Panel(ids, as_of - timedelta(days=7 * weeks - 1), plausible(y), attributes)


def _sample(panel: Panel) -> np.ndarray:
    """Rows to learn from: whole products, so that places still see each other; by name, not by position."""
    if len(panel.ids) <= MOST_SERIES:
        return np.arange(len(panel.ids))
    product = panel.attributes.get("product")
    key = np.array([zlib.crc32(i.encode()) for i in panel.ids])
    if product is not None:
        lowest = np.full(int(product.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, product, key)
        key = lowest[product]
    return np.sort(np.argsort(key, kind="stable")[:MOST_SERIES])


def _part(panel: Panel, rows: np.ndarray) -> Panel:
    if rows.size == len(panel.ids):
        return panel
    return Panel(
        tuple(panel.ids[i] for i in rows),
        panel.start,
        panel.y[rows],
        {name: codes[rows] for name, codes in panel.attributes.items()},
        {name: values[rows] for name, values in panel.known.items()},
        panel.period_days,
    )


def _defaults(
    panel: Panel, cutoffs: Sequence[int], folds: Mapping[str, Floats], events: Floats | None
) -> tuple[dict[str, str], Outcomes]:
    """The default of each demand class with enough series, and how forecasts by it ended in the folds."""
    oldest, weeks = cutoffs[-1], folds[BOOSTED].shape[2]
    order = sorted(range(len(panel.ids)), key=lambda i: zlib.crc32(panel.ids[i].encode()))
    tried: dict[str, list[tuple[int, dict[str, Floats]]]] = {}
    for i in order:
        known = np.nan_to_num(panel.y[i])
        shape = demand_shape(known[:oldest])
        rows = tried.setdefault(shape.demand_class, [])
        if shape.demand_class == "no_demand" or len(rows) >= CLASS_SERIES:
            continue
        if oldest - learning_start(known[:oldest]) < LEAST_CUTOFF // 2:
            continue
        names = (default_model(shape.demand_class), *learned_models(shape.demand_class))
        ahead = {name: np.full((len(cutoffs), weeks), np.inf) for name in names}
        for fold, cutoff in enumerate(cutoffs):
            given = {name: each[fold, i] for name, each in folds.items()}
            made, _ = forecast_weeks(
                known[:cutoff], weeks, names, given=given, events=None if events is None else events[i]
            )
            for name in made:
                ahead[name][fold] = made[name]
        rows.append((i, ahead))
    actual = np.array([panel.y[:, c : c + weeks] for c in cutoffs])
    found: dict[str, str] = {}
    forecast: dict[int, Floats] = {}
    for demand_class, rows in tried.items():
        model = default_model(demand_class)
        if len(rows) >= LEAST_IN_CLASS:
            scale = [float(np.mean(np.nan_to_num(panel.y[i, :oldest]) ** 2)) for i, _ in rows]
            error = {
                name: float(np.mean([min(np.nansum((ahead[name] - actual[:, i]) ** 2) / size, 1e6)
                                     for (i, ahead), size in zip(rows, scale, strict=True)]))
                for name in rows[0][1]
            }  # fmt: skip
            model, best = joined_model(demand_class), min(error, key=lambda name: (error[name], name))
            if error[model] > (1 + JOINED_MARGIN) * error[best]:
                model = best
            found[demand_class] = model
        forecast |= {i: ahead[model] for i, ahead in rows}
    if not forecast:
        return found, Outcomes()
    by_row = np.stack(list(forecast.values()), axis=1)
    return found, learn_outcomes(panel.y, np.array(list(forecast)), by_row, np.array(cutoffs))
