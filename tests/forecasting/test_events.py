from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from apps.demo import catalogue
from apps.demo.catalogue import ITEMS, MID_AUTUMN, NEW_YEAR
from apps.demo.seasons import season, traffic
from forecasting.errors import BadFrame, BadSetting
from forecasting.events import (
    calendar_regressors,
    event_factors,
    events,
    series_regressors,
    week_ends,
)
from forecasting.models import forecast_weeks

SUNDAY = date(2026, 2, 22)


def occurrences(name: str, country: str = "CN") -> dict[int, date]:
    return {event.first.year: event.first for event in events(country, 2015, 2030) if event.name == name}


def test_moving_chinese_holidays_are_known_for_every_year_from_2015_to_2030() -> None:
    spring = occurrences("spring_festival")
    autumn = occurrences("mid_autumn")
    assert {y: d for y, d in spring.items() if y in NEW_YEAR} == NEW_YEAR
    assert {y: d for y, d in autumn.items() if y in MID_AUTUMN} == MID_AUTUMN
    # 中秋 fell on 国庆 itself in 2020: neither may be lost
    assert autumn[2020] == date(2020, 10, 1) and autumn[2028] == date(2028, 10, 3)
    assert occurrences("dragon_boat")[2025] == date(2025, 5, 31)
    assert occurrences("qingming")[2027] == date(2027, 4, 5)
    for name in (
        "spring_festival",
        "qingming",
        "dragon_boat",
        "mid_autumn",
        "national_day",
        "618",
        "double_11",
        "double_12",
    ):
        assert sorted(occurrences(name)) == list(range(2015, 2031)), name
    assert {d.strftime("%m-%d") for d in occurrences("national_day").values()} == {"10-01"}


def test_a_holiday_held_once_or_moved_by_decree_is_no_event() -> None:
    british = {(e.name, e.first) for e in events("gb", 2020, 2026)}
    assert ("christmas_day", date(2022, 12, 25)) in british and ("good_friday", date(2026, 4, 3)) in british
    assert not any(first == date(2022, 9, 19) for _, first in british)  # a funeral nobody knew of a year before
    assert not any("observed" in name for name, _ in british)
    assert ("black_friday", date(2024, 11, 29)) in british
    assert {e.days for e in events("CN", 2020, 2026) if e.name == "spring_festival"} == {7}


def test_an_unknown_country_is_refused_by_name() -> None:
    with pytest.raises(BadSetting, match="XX"):
        events("XX", 2025, 2026)


def test_the_grid_ends_on_the_as_of_day_and_reaches_past_it() -> None:
    ends = week_ends(SUNDAY, past_weeks=2, ahead_weeks=1)
    assert ends == [SUNDAY - timedelta(days=7), SUNDAY, SUNDAY + timedelta(days=7)]
    with pytest.raises(BadSetting, match="-1"):
        week_ends(SUNDAY, past_weeks=-1, ahead_weeks=1)


@pytest.mark.parametrize("shift", range(7))
def test_shares_of_a_week_add_up_to_the_days_of_the_event_whatever_the_weekday(shift: int) -> None:
    known = calendar_regressors(SUNDAY + timedelta(days=shift), past_weeks=20, ahead_weeks=10, country="CN")
    assert all(values.shape == (30,) for values in known.values())
    assert 7 * known["spring_festival_share"].sum() == pytest.approx(7)
    assert 7 * known["double_11_share"].sum() == pytest.approx(1)
    offset = known["spring_festival_offset_weeks"]
    first = int(np.flatnonzero(offset == 0)[0])
    assert known["spring_festival_share"][first] > 0 and known["spring_festival_share"][first - 1] == 0
    assert offset[first - 8 : first + 4].tolist() == list(range(-8, 4))
    assert np.isnan(offset[[first - 9, first + 4]]).all()


def test_a_later_as_of_day_changes_no_week_that_both_know() -> None:
    early = calendar_regressors(SUNDAY, past_weeks=60, ahead_weeks=20, country="CN")
    late = calendar_regressors(SUNDAY + timedelta(weeks=20), past_weeks=80, ahead_weeks=0, country="CN")
    assert early.keys() == late.keys()
    for name, values in early.items():
        np.testing.assert_array_equal(values, late[name])


def test_promotions_of_a_series_a_product_and_everything_lie_on_their_days() -> None:
    promotions = pl.DataFrame(
        {
            "unique_id": ["A@HEL", None, None, "GONE"],
            "product": [None, "B", None, None],
            "start_date": [date(2026, 2, 16), date(2026, 2, 20), date(2026, 3, 1), date(2026, 2, 16)],
            "end_date": [date(2026, 2, 22), date(2026, 2, 24), date(2026, 3, 1), date(2026, 2, 22)],
            "depth_ratio": [0.2, 0.5, None, 0.9],
            "name": ["a", "b", "all", "other"],
        }
    )
    ids, products = ["A@HEL", "B@HEL", "B@TKU"], ["A", "B", "B"]
    known = series_regressors(ids, as_of=SUNDAY, past_weeks=1, ahead_weeks=2, promotions=promotions, products=products)
    assert (7 * known["promotion_share"]).round(6).tolist() == [[7, 1, 0], [3, 3, 0], [3, 3, 0]]
    np.testing.assert_allclose(known["promotion_depth_ratio"], [[0.2, 0, 0], [1.5 / 7, 1 / 7, 0], [1.5 / 7, 1 / 7, 0]])
    with pytest.raises(BadFrame, match="product B"):
        series_regressors(ids, as_of=SUNDAY, past_weeks=1, ahead_weeks=2, promotions=promotions)


def test_of_overlapping_promotions_a_day_has_the_deepest_once() -> None:
    promotions = pl.DataFrame(
        {
            "start_date": [date(2026, 2, 16), date(2026, 2, 16)],
            "end_date": [date(2026, 2, 19), date(2026, 2, 22)],
            "depth_ratio": [0.3, 0.1],
        }
    )
    known = series_regressors(["A"], as_of=SUNDAY, past_weeks=1, ahead_weeks=0, promotions=promotions.to_pandas())
    assert known["promotion_share"].tolist() == [[1.0]]
    assert known["promotion_depth_ratio"][0, 0] == pytest.approx((4 * 0.3 + 3 * 0.1) / 7)


@pytest.mark.parametrize(
    ("column", "value"), [("end_date", date(2026, 2, 1)), ("start_date", None), ("depth_ratio", 20.0)]
)
def test_a_promotion_that_makes_no_sense_is_named(column: str, value: object) -> None:
    row = {"name": "spring", "start_date": date(2026, 2, 16), "end_date": date(2026, 2, 22), "depth_ratio": 0.2}
    promotions = pl.DataFrame({name: [v] for name, v in (row | {column: value}).items()})
    with pytest.raises(BadFrame, match="spring"):
        series_regressors(["A"], as_of=SUNDAY, past_weeks=1, ahead_weeks=0, promotions=promotions)


def test_a_price_holds_until_the_next_and_nothing_is_known_before_the_first() -> None:
    prices = pl.DataFrame(
        {
            "unique_id": ["A", "A", "A", "C"],
            "ds": [date(2026, 2, 26), date(2026, 2, 12), date(2026, 2, 20), date(2026, 2, 20)],
            "price": [8.0, 10.0, -1.0, 5.0],
        }
    )
    known = series_regressors(["A", "B"], as_of=SUNDAY, past_weeks=3, ahead_weeks=2, prices=prices)["price"]
    np.testing.assert_allclose(known[0], [np.nan, 10.0, 10.0, (3 * 10 + 4 * 8) / 7, 8.0], equal_nan=True)
    assert np.isnan(known[1]).all()


# ---- what events do to demand -------------------------------------------------------------------------------------

START, END = date(2024, 1, 1), date(2027, 3, 14)  # the demo company's curves; three 春节 and two 中秋 to learn from
HORIZON = 6


def company(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weekly counts of the demo company's products from its own curves, category and product codes."""
    rng = np.random.default_rng(seed)
    days = [START + timedelta(days=d) for d in range((END - START).days + 1)]
    days = days[len(days) % 7 :]
    busy = np.array([traffic(d) for d in days])
    curve = {item.season: np.array([season(item.season, d) for d in days]) for item in ITEMS}
    daily = [i.weekly / 7 * curve[i.season] * busy * rng.gamma(4, 1 / 4, len(days)) for i in ITEMS]
    weeks = rng.poisson(np.array(daily)).reshape(len(ITEMS), -1, 7).sum(axis=2).astype(float)
    categories = sorted(catalogue.CATEGORIES)
    return weeks, np.array([categories.index(i.category) for i in ITEMS]), np.arange(len(ITEMS))


def test_factors_learned_before_the_cutoff_lower_the_error_around_the_festivals_and_elsewhere_do_no_harm() -> None:
    weeks, category, product = company(seed=7)
    known = weeks.shape[1]
    calendar = calendar_regressors(END, past_weeks=known, ahead_weeks=0, country="CN")
    festive = np.zeros(known, dtype=bool)
    for name, low in (("spring_festival", -6), ("mid_autumn", -5)):
        offset = calendar[f"{name}_offset_weeks"]
        festive |= (offset >= low) & (offset <= 1)
    plain, ours, asked = np.zeros(2), np.zeros(2), np.zeros(2)  # ordinary weeks, festive weeks
    for cutoff in range(110, known - HORIZON + 1, 11):
        as_of = END - timedelta(weeks=known - cutoff)
        past, actual = weeks[:, :cutoff], weeks[:, cutoff : cutoff + HORIZON]
        lift = event_factors(past, as_of=as_of, ahead_weeks=HORIZON, country="CN", levels=[category, product]).factors
        for s, row in enumerate(past):
            blind, _ = forecast_weeks(row, HORIZON, ("theta_and_mean",))
            calm, _ = forecast_weeks(row / lift[s, :cutoff], HORIZON, ("theta_and_mean",))
            kind = festive[cutoff : cutoff + HORIZON].astype(int)
            np.add.at(plain, kind, np.abs(blind["theta_and_mean"] - actual[s]))
            np.add.at(ours, kind, np.abs(calm["theta_and_mean"] * lift[s, cutoff:] - actual[s]))
            np.add.at(asked, kind, actual[s])
    assert asked.min() > 3000
    assert ours[1] < 0.8 * plain[1]
    assert ours[0] < 1.02 * plain[0]


def test_a_planner_reads_that_spring_festival_is_quiet_and_the_weeks_before_are_busy() -> None:
    weeks, category, _ = company(seed=3)
    found = event_factors(weeks, as_of=END, ahead_weeks=0, country="CN", levels=[category]).lifts
    spring = dict(
        found.filter((pl.col("level") == 0) & (pl.col("event") == "spring_festival"))
        .select("days", "factor")
        .iter_rows()
    )
    assert 0.2 < spring["during"] < 0.55  # the curve says 0.35
    assert spring["before_1"] > 1.5
    unheard_of = found.filter((pl.col("level") == 0) & pl.col("event").is_in(["qingming", "dragon_boat", "labour_day"]))
    assert unheard_of.height and unheard_of["factor"].is_between(0.85, 1.18).all()
    assert (
        found.filter(pl.col("event") == "spring_festival")["occurrences"].max() == 3
    )  # the first began before the weeks


def test_where_events_do_nothing_the_factors_are_close_to_one() -> None:
    rng = np.random.default_rng(5)
    level = rng.gamma(2.0, 20.0, (40, 1)) * (1 + 0.3 * np.cos(2 * np.pi * np.arange(156) / 52.18))
    level = level * np.exp(rng.normal(0, 0.25, 156))  # weeks differ, whatever the calendar says
    calm = event_factors(rng.poisson(level).astype(float), as_of=SUNDAY, ahead_weeks=8, country="CN").factors
    assert np.abs(np.log(calm)).mean() < 0.042


def test_what_happened_once_is_believed_less_than_what_came_back_each_year() -> None:
    rng = np.random.default_rng(11)
    weeks = 156
    offset = calendar_regressors(SUNDAY, past_weeks=weeks, ahead_weeks=0, country="CN")["spring_festival_offset_weeks"]
    noise = np.exp(rng.normal(0, 0.25, weeks))
    every = rng.poisson(60 * noise * np.where(offset == -2, 2.0, 1.0)).astype(float)[None, :]
    young = every.copy()
    young[:, : weeks - 52] = np.nan  # only the last 春节 is known
    lift = {}
    for name, y in (("every", every), ("young", young)):
        rows = event_factors(y, as_of=SUNDAY, ahead_weeks=0, country="CN").lifts
        chosen = rows.filter((pl.col("event") == "spring_festival") & pl.col("days").str.starts_with("before"))
        lift[name] = float(np.abs(np.log(chosen["factor"].to_numpy())).max())
    assert lift["young"] < lift["every"]


def test_weeks_that_are_not_known_and_nothing_at_all_are_no_error() -> None:
    weeks, category, _ = company(seed=2)
    weeks[::3, :70] = np.nan
    weeks[5] = np.nan
    factors = event_factors(weeks, as_of=END, ahead_weeks=4, country="CN", levels=[category]).factors
    assert factors.shape == (weeks.shape[0], weeks.shape[1] + 4) and np.isfinite(factors).all()
    assert (factors >= 0.1).all() and (factors <= 50).all()
    assert event_factors(np.zeros((0, 60)), as_of=END, ahead_weeks=4, country="CN").factors.shape == (0, 64)
    assert (event_factors(np.zeros((2, 60)), as_of=END, ahead_weeks=4, country="CN").factors == 1).all()
    assert (event_factors(np.ones((2, 3)), as_of=END, ahead_weeks=4, country="GB").factors == 1).all()


def test_weeks_after_the_cutoff_change_no_factor() -> None:
    weeks, category, _ = company(seed=4)
    cut = 120
    as_of = END - timedelta(weeks=weeks.shape[1] - cut)
    before = event_factors(weeks[:, :cut], as_of=as_of, ahead_weeks=6, country="CN", levels=[category])
    again = event_factors(weeks[:, :cut].copy(), as_of=as_of, ahead_weeks=6, country="CN", levels=[category])
    assert before.factors.tobytes() == again.factors.tobytes()
    farther = event_factors(weeks[:, :cut], as_of=as_of, ahead_weeks=20, country="CN", levels=[category])
    assert farther.factors[:, : cut + 6].tobytes() == before.factors.tobytes()
