"""What is known of the weeks to come: holidays that move, shopping days, promotions, prices; and what they do to demand.

Everything lies on weeks that end on the as-of day, as the forecast's own do, and reaches past it. Two readers: the
global model takes the arrays as regressors (`forecasting.panel.Panel.known`); a simple model takes the multipliers of
`event_factors`: it learns from demand ÷ factor, and its forecast is multiplied by the factor of the week ahead.

>>> from datetime import date
>>> known = calendar_regressors(date(2026, 2, 22), past_weeks=3, ahead_weeks=1, country="CN")
>>> known["spring_festival_share"].round(2).tolist()  # 春节 begins on Tuesday 17 February 2026
[0.0, 0.0, 0.86, 0.14]
>>> known["spring_festival_offset_weeks"].tolist()
[-2.0, -1.0, 0.0, 1.0]

Holidays come from the `holidays` library. Only those whose date follows from the calendar are used: days off moved by a
decree of the year before ("observed", "substituted") and holidays that were held once are left out, because nobody
knew them when an early forecast would have been made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import holidays
import numpy as np
import polars as pl

from forecasting.arrays import Floats, Ints
from forecasting.errors import BadFrame, BadSetting
from forecasting.frames import Frame, date_column, to_polars, typed

WEEKS_BEFORE, WEEKS_AFTER = 8, 3  # how far an event is felt: 春节 stock is bought from two months before

# Chinese statutory festivals as the library calls them in English: our name, days that life stands still.
CHINA = {
    "New Year's Day": ("new_year", 1),
    "Chinese New Year (Spring Festival)": ("spring_festival", 7),
    "Tomb-Sweeping Day": ("qingming", 1),
    "Labor Day": ("labour_day", 1),
    "Dragon Boat Festival": ("dragon_boat", 1),
    "Mid-Autumn Festival": ("mid_autumn", 1),
    "National Day": ("national_day", 7),
}
SHOPPING_DAYS = {"618": (6, 18), "double_11": (11, 11), "double_12": (12, 12)}


@dataclass(frozen=True)
class Event:
    """One occurrence: `days` days from `first` on."""

    name: str
    first: date
    days: int


def is_known(country: str) -> bool:
    """Whether holidays are known for an ISO code."""
    return country.upper() in holidays.list_supported_countries()


def known_country(country: str) -> str:
    """The country's code as it is written.

    Raises:
        BadSetting: No holidays are known for it.
    """
    if not is_known(country):
        raise BadSetting(f"no holidays are known for country {country!r}; use an ISO code such as CN or GB")
    return country.upper()


def events(country: str, first_year: int, last_year: int) -> list[Event]:
    """Holidays and shopping days of a country in those years, sorted by name and date.

    Args:
        country: ISO code, e.g. "CN", "GB". China's get the names of `reasons.EVENT_WORDS`; another country's holidays are named
            after the library's English names (``christmas_day``), and Black Friday stands for its shopping days.

    Raises:
        BadSetting: The library doesn't know the country.
    """
    country = known_country(country)
    # two years more on either side tell a yearly holiday from one that was held once
    years = range(first_year - 2, last_year + 3)
    known = holidays.country_holidays(country, years=years, language=_english(country))
    days: dict[str, list[date]] = {}
    for day, names in sorted(known.items()):
        for name in names.split("; "):
            if "observed" not in name and "substituted" not in name:
                days.setdefault(name, []).append(day)
    found = [event for name, dates in days.items() for event in _occurrences(name, dates, country, len(years))]
    for year in years:
        if country == "CN":
            found += [Event(name, date(year, *at), 1) for name, at in SHOPPING_DAYS.items()]
        else:
            found.append(Event("black_friday", _black_friday(year), 1))
    return sorted((e for e in found if first_year <= e.first.year <= last_year), key=lambda e: (e.name, e.first))


def _english(country: str) -> str | None:
    languages: Mapping[str, Sequence[str]] = holidays.list_localized_countries()
    return next((code for code in languages.get(country, ()) if code.startswith("en")), None)


def _occurrences(name: str, dates: list[date], country: str, years: int) -> Iterator[Event]:
    if country == "CN":
        if name not in CHINA:
            return
        ours, lasts = CHINA[name]
        for year in sorted({d.year for d in dates}):
            first = min(d for d in dates if d.year == year)
            # shared with 中秋 in some years, the library then lists 国庆 from its second day on
            yield Event(ours, date(year, 10, 1) if ours == "national_day" else first, lasts)
        return
    if len({d.year for d in dates}) < min(4, years - 1):
        return
    ours = re.sub(r"[^a-z0-9]+", "_", name.lower().replace("'", "")).strip("_")
    start = last = dates[0]
    for day in [*dates[1:], date.max]:
        if (day - last).days > 1:
            yield Event(ours, start, (last - start).days + 1)
            start = day
        last = day


def _black_friday(year: int) -> date:
    first = date(year, 11, 1)
    return first + timedelta(days=(3 - first.weekday()) % 7 + 21 + 1)  # the day after the fourth Thursday


def week_ends(as_of: date, *, past_weeks: int, ahead_weeks: int) -> list[date]:
    """Last day of each week: `past_weeks` that end with `as_of`, then `ahead_weeks` beyond it."""
    if past_weeks < 0 or ahead_weeks < 0:
        raise BadSetting(f"past_weeks and ahead_weeks must not be negative, got {past_weeks} and {ahead_weeks}")
    return [as_of + timedelta(days=7 * w) for w in range(1 - past_weeks, ahead_weeks + 1)]


def calendar_regressors(as_of: date, *, past_weeks: int, ahead_weeks: int, country: str) -> dict[str, Floats]:
    """Holidays and shopping days as arrays of one value a week, `past_weeks` then `ahead_weeks`.

    Returns:
        Two arrays per event, the same names for every grid of a country:
        ``<event>_share``: share of the week's seven days inside the event, 0–1;
        ``<event>_offset_weeks``: weeks since the week in which it begins, −8 (eight weeks to go) … 0 … 3, NaN farther away.
    """
    ends = week_ends(as_of, past_weeks=past_weeks, ahead_weeks=ahead_weeks)
    reach = timedelta(weeks=1 + max(WEEKS_BEFORE, WEEKS_AFTER))
    calendar = events(country, (as_of - timedelta(weeks=past_weeks) - reach).year, (max([as_of, *ends]) + reach).year)
    names = sorted({event.name for event in calendar})
    out: dict[str, Floats] = {}
    for name in names:
        share, offset = np.zeros(len(ends)), np.full(len(ends), np.nan)
        for event in (e for e in calendar if e.name == name):
            for w, end in enumerate(ends):
                begins = (event.first - (end - timedelta(days=6))).days  # days from the week's first to the event's
                share[w] += max(0, min(7, begins + event.days) - max(0, begins)) / 7
                since = -(begins // 7)
                if -WEEKS_BEFORE <= since <= WEEKS_AFTER:
                    offset[w] = since
        out[f"{name}_share"], out[f"{name}_offset_weeks"] = np.minimum(share, 1.0), offset
    return out


def series_regressors(
    ids: Sequence[str],
    *,
    as_of: date,
    past_weeks: int,
    ahead_weeks: int,
    promotions: Frame | None = None,
    prices: Frame | None = None,
    products: Sequence[str] | None = None,
) -> dict[str, Floats]:
    """Promotions and prices as series × week arrays, on the same weeks as `calendar_regressors`.

    Args:
        ids: unique_id per row of the arrays.
        promotions: unique_id and/or product (either; both NULL or no such column: all series), start_date, end_date
            (both days included), perhaps depth_ratio (0.2 = 20 % off) and name. Planned ones too.
        prices: unique_id, ds, price: valid from that day until the series' next row; the last one stays. Planned too.
        products: Product of each series, needed where promotions name products.

    Returns:
        ``promotion_share``: share of the week's days inside a promotion; ``promotion_depth_ratio``: mean over the seven
        days of the deepest one that day (0 without, or where no depth is given); ``price``: mean of the days
        that have one, NaN before the first;
        `forecasting.regressors.price_state` makes columns of it. Only of what was given; rows of other series are
        left alone.

    Raises:
        BadFrame: A promotion has no dates or ends before it begins, or a depth is not in 0–1.
    """
    start = as_of - timedelta(days=7 * past_weeks - 1)
    days = 7 * (past_weeks + ahead_weeks)
    row = {unique_id: i for i, unique_id in enumerate(ids)}
    out: dict[str, Floats] = {}
    if promotions is not None:
        inside = np.zeros((len(ids), days), dtype=bool)
        depth = np.zeros((len(ids), days))
        of_product: dict[str, list[int]] = {}
        for i, product in enumerate(products or ()):
            of_product.setdefault(product, []).append(i)
        for promo in read_promotions(promotions).iter_rows(named=True):
            if promo["unique_id"] is not None:
                at = [row[promo["unique_id"]]] if promo["unique_id"] in row else []
            elif promo["product"] is not None:
                if products is None:
                    raise BadFrame(f"promotion {promo['name']!r} names product {promo['product']}: pass products=")
                at = of_product.get(promo["product"], [])
            else:
                at = list(range(len(ids)))
            low, high = max(0, (promo["start_date"] - start).days), min(days, (promo["end_date"] - start).days + 1)
            if at and low < high:
                inside[at, low:high] = True
                depth[at, low:high] = np.maximum(depth[at, low:high], promo["depth_ratio"])
        out["promotion_share"] = _by_week(inside.astype(np.float64))
        out["promotion_depth_ratio"] = _by_week(depth)
    if prices is not None:
        price = _daily_price(_prices(prices), row, start, days)
        known = np.isfinite(price)
        count = known.reshape(len(ids), -1, 7).sum(axis=2)
        total = np.where(known, price, 0.0).reshape(len(ids), -1, 7).sum(axis=2)
        out["price"] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def _by_week(days: Floats) -> Floats:
    return np.asarray(days.reshape(days.shape[0], -1, 7).mean(axis=2))


def read_promotions(frame: Frame) -> pl.DataFrame:
    """Promotions as `series_regressors` describes them, in plain types; dates may come as text.

    Raises:
        BadFrame: One has no dates or ends before it begins, or a depth is no number in 0–1; the first is named.
    """
    may_have = ("unique_id", "product", "name", "depth_ratio")
    given = to_polars(frame, name="promotions", needs=("start_date", "end_date"), may_have=may_have)
    columns = {"unique_id": pl.String, "product": pl.String, "name": pl.String, "depth_ratio": pl.Float64}
    columns |= {"start_date": pl.Date, "end_date": pl.Date}

    def column(name: str, dtype: pl.DataType) -> pl.Expr | pl.Series:
        if name not in given.columns:
            return pl.lit(None, dtype=dtype).alias(name)
        if dtype == pl.Date:
            return date_column(given, name, name="promotions").alias(name)
        read = pl.col(name).cast(dtype, strict=False)
        return pl.when(~read.is_in(["", "nan"])).then(read).alias(name) if name in ("unique_id", "product") else read

    asked = (pl.col("depth_ratio") if "depth_ratio" in given.columns else pl.lit(None)).alias("told")
    promos = given.select(*(column(name, dtype) for name, dtype in columns.items()), asked)  # type: ignore[arg-type]
    depth = pl.col("depth_ratio").fill_nan(None)
    is_unread = (
        depth.is_null() & pl.col("told").is_not_null() & ~pl.col("told").cast(pl.String).is_in(["", "NaN", "nan"])
    )
    bad = promos.filter(
        pl.col("start_date").is_null()
        | pl.col("end_date").is_null()
        | (pl.col("end_date") < pl.col("start_date"))
        | ~depth.fill_null(0.0).is_between(0, 1)
        | is_unread
    )
    if bad.height:
        first = bad.row(0, named=True)
        raise BadFrame(
            f"{bad.height} promotions can't be used, first {first['name'] or first['unique_id'] or first['product']!r}: "
            f"from {first['start_date']} to {first['end_date']}, depth {first['told']} (0–1)"
        )
    return promos.drop("told").with_columns(depth.fill_null(0.0))


def _prices(frame: Frame) -> pl.DataFrame:
    given = to_polars(frame, name="prices", needs=("unique_id", "ds", "price"))
    prices = typed(given, name="prices", types={"unique_id": pl.String, "ds": pl.Date, "price": pl.Float64})
    return prices.filter(pl.col("ds").is_not_null() & pl.col("price").is_finite() & (pl.col("price") > 0))


def _daily_price(prices: pl.DataFrame, row: Mapping[str, int], start: date, days: int) -> Floats:
    price = np.full((len(row), days), np.nan)
    # several rows of one day: their mean, whatever order they come in
    for unique_id, ds, value in (
        prices.group_by("unique_id", "ds").agg(pl.col("price").sort().mean()).sort("unique_id", "ds").iter_rows()
    ):
        at = (ds - start).days
        if unique_id in row and at < days:
            price[row[unique_id], max(0, at) :] = value
    return price


# Weeks before and after in which an event is felt; the others one week either way.
REACH = {
    "spring_festival": (8, 3),
    "mid_autumn": (6, 1),
    "national_day": (2, 1),
    "double_11": (2, 1),
    "618": (2, 1),
    "christmas_day": (8, 2),
    "black_friday": (2, 1),
    "good_friday": (4, 1),
}
LEAST_FACTOR, MOST_FACTOR = 0.1, 50.0  # mooncakes sell forty times a quiet week; beyond it one odd week speaks
KNOT_WEEKS = 13
PRIOR_NUMBERS, PRIOR_VARIANCE = 4.0, 0.02  # before looking, a day moves by 14 %, as surely as four numbers would say
EVIDENCE_ROUNDS = 30
FEWEST_WEEKS = 52  # before a year is over nobody can tell an event from a season
MIN_WEEKLY_QTY = 2.0  # units a week of a group, below which the logarithm of a week says nothing

LIFTS = {
    "level": pl.Int64,
    "group": pl.Int64,
    "event": pl.String,
    "days": pl.String,
    "factor": pl.Float64,
    "occurrences": pl.Int64,
}


@dataclass(frozen=True)
class EventFactors:
    """What events multiply the demand of each series by.

    Attributes:
        factors: series × (past + ahead) weeks, 1 where nothing is known to happen; divide the past by it before a
            simple model learns, multiply the forecast with it.
        lifts: One row per level, group, event and days: the factor of such a day and how often the event was seen
            whole, with all days on which it is felt.
            ``days``: ``during``; ``before_0`` its eve, ``before_2`` two weeks earlier, ``after_1`` a week after its
            last day; the days between lie on a line between them. Level 0 is all series together; the factors of
            deeper levels are whole ones, not what they add.
        names: Events that were met in the past.
        strongest: series × ahead week: which of `names` moves the week most; -1 where none does.
    """

    factors: Floats
    lifts: pl.DataFrame
    names: tuple[str, ...] = ()
    strongest: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))


def event_factors(
    y: Floats, *, as_of: date, ahead_weeks: int, country: str, levels: Sequence[Ints] = ()
) -> EventFactors:
    """Multiplicative lift of the days before, in and after every event, pooled over groups of series, shrunk to none.

    A day's factor is exp(sum of what its events do); a week's is the mean of its days'. The logarithm of a group's
    week, relative to the usual demand of its series, is a slow curve (a line that may bend every 13 weeks) plus the
    logarithm of the week's factor. All numbers are estimated together by ridge regression, linearised anew in each
    round; how hard an event is pulled to nothing is learned from the data (evidence maximisation: MacKay 1992,
    "Bayesian interpolation", Neural Computation 4; Tipping 2001, JMLR 1), so an event that does nothing here gets 1.
    What was seen whole in k years is then believed to k / (k + 1): half, if it was once, because a season or a single large
    week looks the same. A deeper level (category, then product) learns what its series
    do beyond what the wider level says.

    Args:
        y: series × past week, units, NaN where demand is not known; the last week ends on `as_of`.
        ahead_weeks: Weeks wanted beyond `as_of`.
        country: Whose calendar, see `events`.
        levels: Group code per series, wide to narrow, each refining the one before; below 0: in no group of this level.
    """
    series, past = y.shape
    names, design, whole = _daily_design(as_of, past, ahead_weeks, country)
    known = ~np.isnan(y)
    value = np.where(known, y, 0.0)
    usual = value.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    part = np.array([sorted({n for n, _ in names}).index(n) + 1 for n, _ in names], dtype=np.int64)
    years = [whole[name] for name, _ in names]
    belief = np.array([k / (k + 1) for k in years])
    effect = np.zeros((series, len(names)))  # logarithm, per series: what its groups said so far
    rows: list[dict[str, object]] = []
    for level, codes in enumerate((np.zeros(series, dtype=np.int64), *levels)):
        for group in np.unique(codes[codes >= 0]):
            members = np.flatnonzero(codes == group)
            before = effect[members[0]]
            expected = usual[members] @ known[members]  # of the series whose demand of the week is known
            lift = before + belief * _lift(value[members].sum(axis=0), expected, design[:past], part, before)
            effect[members] = lift
            rows += [
                {"level": level, "group": int(group), "event": n, "days": d, "factor": round(f, 4), "occurrences": k}
                for (n, d), f, k in zip(names, np.exp(lift).tolist(), years, strict=True)
            ]
    factors = np.ones((series, past + ahead_weeks))
    met_names = tuple(sorted({n for n, _ in names}))
    strongest = np.full((series, ahead_weeks), -1, dtype=np.int64)
    own_columns = [part == i + 1 for i in range(len(met_names))]
    lifts_found, of = np.unique(effect, axis=0, return_inverse=True)
    for i, lift in enumerate(lifts_found if names else ()):
        same = of.reshape(-1) == i
        factors[same] = np.exp(design @ lift).mean(axis=1)
        alone = [np.abs(np.log(np.exp(design[past:][..., own] @ lift[own]).mean(axis=1))) for own in own_columns]
        strongest[same] = np.where(np.max(alone, axis=0) > 0, np.argmax(alone, axis=0), -1)
    return EventFactors(
        np.clip(factors, LEAST_FACTOR, MOST_FACTOR), pl.DataFrame(rows, schema=LIFTS), met_names, strongest
    )


def _daily_design(
    as_of: date, past_weeks: int, ahead_weeks: int, country: str
) -> tuple[list[tuple[str, str]], Floats, Counter[str]]:
    """(event, days) per column; week × day of the week × column: how much of a day belongs to the column; and how often each
    event lay in the past with all days on which it is felt."""
    weeks = past_weeks + ahead_weeks
    start = as_of - timedelta(days=7 * past_weeks - 1)
    day = np.arange(7 * weeks, dtype=np.float64)
    columns: dict[tuple[str, str], Floats] = {}
    whole: Counter[str] = Counter()
    for event in events(country, start.year - 1, (as_of + timedelta(weeks=ahead_weeks + 10)).year):
        before, after = REACH.get(event.name, (1, 1))
        felt_from, felt_until = (
            event.first - timedelta(weeks=before),
            event.first + timedelta(event.days - 1, weeks=after),
        )
        whole[event.name] += start <= felt_from and felt_until <= as_of
        until = (event.first - start).days - day
        since = -until - event.days + 1
        parts = {"during": ((until <= 0) & (since <= 0)).astype(np.float64)}
        parts |= {f"before_{n}": _hat(until, n) for n in range(before)}
        parts |= {f"after_{n}": _hat(since, n) for n in range(after)}
        for days, belongs in parts.items():
            columns[event.name, days] = columns.get((event.name, days), 0.0) + belongs
    names = [name for name, belongs in sorted(columns.items()) for name in [name] if belongs[: 7 * past_weeks].any()]
    stacked = np.array([columns[name] for name in names]).reshape(len(names), weeks, 7)
    return names, np.moveaxis(stacked, 0, 2), whole


def _hat(days: Floats, weeks: int) -> Floats:
    """1 on the first day outside the event, `weeks` weeks away from it, and a week on either side down to 0."""
    return np.where(days > 0, np.maximum(0.0, 1 - np.abs((days - 1) / 7 - weeks)), 0.0)


def _lift(asked: Floats, expected: Floats, design: Floats, part: Ints, before: Floats) -> Floats:
    """Logarithmic effect per column of `design` of one group, beyond `before`.

    `asked` and `expected` are the group's units per week and what its series usually sell. Each round solves a ridge
    regression, then sets every event's prior variance, and the noise's, to what makes the data most likely.
    """
    seen = expected > 0
    beta = np.zeros(design.shape[2])
    if not beta.size or seen.sum() < FEWEST_WEEKS or asked[seen].mean() < MIN_WEEKLY_QTY:
        return beta
    index = np.log((asked[seen] + 0.5) / (expected[seen] + 0.5))
    trend = _bent_line(seen.size)[seen]
    # counts around m have a logarithm of variance 1/m, besides what the business varies by itself
    root = np.sqrt(expected[seen] / (expected[seen] + 10.0))
    bends = trend.shape[1]
    part = np.concatenate([np.zeros(bends, dtype=np.int64), part])
    variance = np.full(int(part.max()) + 1, 0.1)
    variance[0] = 10.0  # the slow curve is hardly held
    noise = max(float(np.var(index)), 1e-4)
    design = design[seen]
    for _ in range(EVIDENCE_ROUNDS):
        days = np.exp(design @ (before + beta))
        slope = ((days / days.sum(axis=1, keepdims=True))[:, None, :] @ design)[:, 0, :]
        target = root * (index - np.log(days.mean(axis=1)) + slope @ beta)
        x = np.column_stack([trend, slope]) * root[:, None]
        covariance = np.linalg.inv(x.T @ x / noise + np.diag(1 / variance[part]))
        found = covariance @ (x.T @ target) / noise
        gained = 1 - np.diag(covariance) / variance[part]  # of each number, how much the data decide
        rest = target - x @ found
        noise = max(float(rest @ rest) / max(rest.size - float(gained.sum()), 1.0), 1e-4)
        for p in range(1, variance.size):
            own = part == p
            given = float((found[own] ** 2).sum()) + PRIOR_NUMBERS * PRIOR_VARIANCE
            variance[p] = given / (float(gained[own].sum()) + PRIOR_NUMBERS)
        moved = float(np.abs(found[bends:] - beta).max())
        beta = found[bends:]
        if moved < 1e-3:
            break
    return beta


def _bent_line(weeks: int) -> Floats:
    """A level, a slope, and a bend every quarter."""
    t = np.arange(weeks, dtype=np.float64)
    knots = np.arange(KNOT_WEEKS, weeks - KNOT_WEEKS // 2, KNOT_WEEKS)
    return np.column_stack([np.ones(weeks), t / weeks, *(np.maximum(0.0, t - k) / KNOT_WEEKS for k in knots)])
