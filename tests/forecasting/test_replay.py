"""Replay: the arithmetic against a slow twin, money that adds up, and orders that know nothing of what comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecasting.errors import BadFrame, BadSetting
from forecasting.forecast import PlanSettings
from forecasting.replay import (
    AS_ORDERED,
    COVERS,
    Known,
    MeanWithCover,
    Ours,
    Policy,
    SeasonalNaive,
    TextbookSafety,
    cheapest,
    compare,
    invented_stock,
    replay,
    service_costs,
    with_service_costs,
)
from tests.forecasting.builders import END, daily

START = END - timedelta(days=27)
quantities = st.sampled_from([0.0, 0.0, 1.0, 3.0, 8.0])


def histories(*values: Sequence[float]) -> pl.DataFrame:
    """Series A, B, … that end on `END`."""
    return pl.concat([daily(chr(65 + i), each) for i, each in enumerate(values)])


def two_terms(**columns: Sequence[float]) -> pl.DataFrame:
    costs = {"unit_cost_cents": [900.0, 77.0], "holding_cost_cents": [1.7, 0.3], "shortage_cost_cents": [450.0, 41.0]}
    return pl.DataFrame({"unique_id": ["A", "B"], **costs, "order_cost_cents": [100.0, 35.0], **columns})


def last_week_again(known: Known) -> np.ndarray:
    """A rule one can follow by hand: order what was asked for in the last seven days."""
    return known.daily[:, -7:].sum(axis=1).astype(np.int64)


def twin(
    demand: Sequence[int],
    terms: dict[str, float],
    *,
    order: Callable[[Sequence[int]], int],
    past: Sequence[int],
    is_lost: bool,
    under_way: dict[int, int],
) -> list[dict[str, float]]:
    """One series under one policy, as one would play it with counters on a table; one entry per week."""
    on_hand, waiting = int(terms["on_hand_qty"]), int(terms["backordered_qty"])
    coming = dict(under_way)
    weeks: list[dict[str, float]] = []
    for day, asked in enumerate(demand):
        if day % 7 == 0:
            weeks.append({"evening": 0, "short": 0, "late": 0, "orders": 0, "ordered": 0})
        week = weeks[-1]
        if day % terms["review_period_days"] == 0:
            qty = order([*past, *demand[:day]])
            if qty:
                arrives = day + int(terms["lead_time_days"])
                coming[arrives] = coming.get(arrives, 0) + qty
                week["orders"] += 1
                week["ordered"] += qty
        on_hand += coming.get(day, 0)
        while waiting and on_hand:
            waiting, on_hand = waiting - 1, on_hand - 1
        for _ in range(asked):
            if on_hand:
                on_hand -= 1
            else:
                week["short"] += 1
                waiting += 0 if is_lost else 1
        week["evening"] += on_hand
        week["late"] += waiting
    return weeks


@given(
    past=st.lists(quantities, min_size=10, max_size=20),
    future=st.lists(quantities, min_size=28, max_size=28),
    on_hand=st.integers(0, 30),
    owed=st.integers(0, 4),
    lead=st.integers(0, 9),
    review=st.sampled_from([1, 7, 10]),
    is_lost=st.booleans(),
    coming=st.integers(0, 12),
)
def test_the_replay_is_what_one_would_play_by_hand(
    past: list[float], future: list[float], on_hand: int, owed: int, lead: int, review: int, is_lost: bool, coming: int
) -> None:
    terms = two_terms(
        on_hand_qty=[on_hand, 5], backordered_qty=[owed, 0], lead_time_days=[lead, 3], review_period_days=[review, 7]
    )
    under_way = pl.DataFrame({"unique_id": ["A"], "arrival_date": [START + timedelta(days=4)], "ordered_qty": [coming]})
    result = replay(
        histories(past + future, future[::-1]),
        terms,
        {"again": last_week_again},
        start=START,
        days=28,
        under_way=under_way,
        is_lost=is_lost,
    )
    about = {**terms.row(0, named=True), "review_period_days": review}
    weeks = twin(
        [int(y) for y in future],
        about,
        order=lambda known: sum(known[-7:]),
        past=[int(y) for y in past],
        is_lost=is_lost,
        under_way={4: coming},
    )
    got = result.money.filter(pl.col("unique_id") == "A").to_dicts()
    for week, row in zip(weeks, got, strict=True):
        shortage = week["short"] * 450.0 if is_lost else week["late"] / 7 * 450.0
        assert row["holding_cents"] == int(week["evening"] * 1.7 + 0.5)
        assert row["shortage_cents"] == int(shortage + 0.5)
        assert (row["orders"], row["ordered_qty"], row["short_qty"]) == (week["orders"], week["ordered"], week["short"])
        assert row["ordering_cents"] == 100 * week["orders"]
        assert row["purchase_cents"] == 900 * week["ordered"]
        assert row["cost_cents"] == row["holding_cents"] + row["shortage_cents"] + row["ordering_cents"]


def test_units_and_money_are_conserved() -> None:
    rng = np.random.default_rng(3)
    history = histories(*rng.poisson(3.0, (2, 150)).astype(float))
    result = replay(
        history,
        two_terms(on_hand_qty=[40, 10]),
        {"mean": MeanWithCover(), "naive": SeasonalNaive()},
        start=START,
        days=28,
    )
    came = result.orders.filter(pl.col("arrival_date") <= END).group_by("policy").agg(pl.col("ordered_qty").sum())
    arrived = dict(came.iter_rows())
    for row in result.summary.iter_rows(named=True):
        served = row["demand_qty"] - row["short_qty"]
        assert 50 + arrived[row["policy"]] - served == row["end_on_hand_qty"]
        assert row["cost_cents"] == row["holding_cents"] + row["shortage_cents"] + row["ordering_cents"]
    summed = result.money.group_by("policy", maintain_order=True).agg(pl.col("cost_cents").sum())
    assert_frame_equal(summed, result.summary.select("policy", "cost_cents"))


POLICIES: dict[str, Policy] = {
    "mean": MeanWithCover(),
    "naive": SeasonalNaive(),
    "textbook": TextbookSafety(models=("TSB", "WindowAverage", "AutoETS")),
    "ours": Ours(PlanSettings(folds=3, paths=20, slow_series=0)),
    "ours at 90 %": Ours(PlanSettings(folds=3, paths=20, slow_series=0), 0.9),
}


@settings(max_examples=8)
@given(
    first=st.lists(quantities, min_size=120, max_size=150),
    second=st.lists(quantities, min_size=120, max_size=150),
    other=st.lists(st.sampled_from([0.0, 2.0, 500.0]), min_size=28, max_size=28),
    reviews=st.integers(1, 3),
)
def test_demand_after_a_review_changes_no_order_made_until_then(
    first: list[float], second: list[float], other: list[float], reviews: int
) -> None:
    known_days = 7 * (reviews - 1)
    changed_from = START + timedelta(days=known_days)
    keep = 28 - known_days
    history = histories(first, second)
    changed = histories([*first[:-keep], *other[-keep:]], [*second[:-keep], *other[:keep]])
    assert_frame_equal(history.filter(pl.col("ds") < changed_from), changed.filter(pl.col("ds") < changed_from))
    terms = two_terms(on_hand_qty=[9, 9])
    items = pl.DataFrame({"unique_id": ["A"], "end_date": [END]})
    orders = [
        replay(each, terms, POLICIES, start=START, days=28, items=items).orders.filter(
            pl.col("ordered_date") < changed_from
        )
        for each in (history, changed)
    ]
    assert_frame_equal(*orders)


def test_a_policy_is_given_the_day_before_and_no_more() -> None:
    seen: list[tuple[date, date, int]] = []

    def note(known: Known) -> np.ndarray:
        seen.append((known.as_of, known.history["ds"].max(), known.daily.shape[1]))  # type: ignore[arg-type]
        assert known.items is not None
        assert known.items["end_date"].to_list() == [None]
        known.daily[0, 0] = 9  # what a policy does to its copy harms nobody
        return np.zeros(1, dtype=np.int64)

    items = pl.DataFrame({"unique_id": ["A"], "end_date": [END]})
    terms = two_terms().head(1)
    replay(histories([1.0] * 40), terms, {"note": note}, start=START, days=28, items=items)
    assert seen == [(day, day, 12 + 7 * i) for i, day in enumerate(START + timedelta(days=7 * i - 1) for i in range(4))]


def test_what_was_really_ordered_is_replayed_from_its_dates() -> None:
    ordered = pl.DataFrame(
        {
            "unique_id": ["A", "A", "A", "Z"],
            "ordered_date": [START, START + timedelta(days=9), END, START],
            "arrival_date": [START + timedelta(days=3), None, END, START],
            "ordered_qty": [6, 7, 8, 9],
        }
    )
    terms = two_terms(on_hand_qty=[3, 0])
    result = replay(histories([1.0] * 28, [0.0] * 28), terms, {}, start=START, days=28, as_ordered=ordered)
    row = result.summary.row(0, named=True)
    # 3 there, 6 from the fourth day on; the order of the last day serves nothing, the open one never came
    assert (row["policy"], row["orders"], row["ordered_qty"], row["short_qty"]) == (AS_ORDERED, 2, 13, 28 - 9)
    assert row["holding_cents"] == round((2 + 1 + 0 + 5 + 4 + 3 + 2) * 1.7) + round(1 * 1.7)
    assert result.orders["ordered_qty"].to_list() == [6, 7]


def test_drawn_lead_times_are_the_same_for_every_policy_and_every_run() -> None:
    terms = two_terms(lead_time_days=[10, 10], lead_time_sd_days=[4.0, 0.0])

    def twelve(known: Known) -> np.ndarray:
        return np.full(known.positions.height, 12)

    history = histories([2.0] * 90, [2.0] * 90)
    runs = [replay(history, terms, {"a": twelve, "b": twelve}, start=START, days=28) for _ in range(2)]
    assert_frame_equal(runs[0].money, runs[1].money)
    took = runs[0].orders.with_columns(days=(pl.col("arrival_date") - pl.col("ordered_date")).dt.total_days())
    of = {key[0]: rows["days"].to_list() for key, rows in took.partition_by("policy", as_dict=True).items()}
    assert of["a"] == of["b"]
    assert set(took.filter(pl.col("unique_id") == "B")["days"]) == {11}  # on the shelf in the morning after ten days
    assert took.filter(pl.col("unique_id") == "A")["days"].n_unique() > 1


def test_the_cost_of_a_shortage_is_what_makes_the_service_worth_its_stock() -> None:
    terms = with_service_costs(
        pl.DataFrame({"unique_id": ["A"], "unit_cost_cents": [1000.0], "review_period_days": [7]}),
        holding_ratio=0.25,
        cycle_service_ratio=0.9,
    )
    holding, shortage = terms.select("holding_cost_cents", "shortage_cost_cents").row(0)
    assert shortage / (shortage + 7 * holding) == pytest.approx(0.9)
    with pytest.raises(BadSetting, match="between 0 and 1"):
        service_costs(1000, holding_ratio=0.25, cycle_service_ratio=1.0, review_period_days=7)


def test_an_interval_is_of_differences_series_by_series() -> None:
    rng = np.random.default_rng(5)
    base = rng.integers(0, 10_000, 200)
    ids = [f"S{i:03d}" for i in range(200)]
    one = pl.DataFrame({"policy": "ours", "unique_id": ids, "cost_cents": base})
    other = pl.DataFrame({"policy": "other", "unique_id": ids[::-1], "cost_cents": base[::-1] + 10})
    money = pl.concat([one, other])
    found = compare(money).row(0, named=True)
    # each series costs 10 less, however much the series differ among themselves: there is nothing to doubt
    assert (found["difference_cents"], found["low_cents"], found["high_cents"]) == (-2000, -2000, -2000)
    noisy = pl.concat([one, other.with_columns(pl.col("cost_cents") + rng.integers(-500, 500, 200))])
    row = compare(noisy).row(0, named=True)
    assert row["low_cents"] < row["difference_cents"] < row["high_cents"]
    assert row == compare(noisy).row(0, named=True)
    apart = (noisy["cost_cents"].to_numpy()[:200] - noisy["cost_cents"].to_numpy()[200:][::-1]).std() * np.sqrt(200)
    assert row["high_cents"] - row["low_cents"] == pytest.approx(2 * 1.96 * apart, rel=0.1)  # the normal interval
    assert compare(money, policy="other").row(0, named=True)["difference_cents"] == 2000
    with pytest.raises(BadSetting, match="not in money"):
        compare(money, policy="nobody")


def test_rules_of_thumb_order_what_they_say() -> None:
    positions = {"on_hand_qty": [10, 0], "lead_time_days": [7, 7], "review_period_days": [7, 7]}
    history = histories([2.0] * 400, [*[0.0] * 386, *[1.0] * 14])
    made = replay(
        history,
        two_terms(**positions, moq_qty=[1, 40], pack_qty=[12, 1]),
        {"mean": MeanWithCover(cover_weeks=1), "naive": SeasonalNaive(cover_weeks=0)},
        start=END,
        days=1,
    )
    assert dict(made.orders.select("policy", "unique_id").iter_rows()) == {"mean": "B", "naive": "B"}
    qty = {(row[0], row[1]): row[4] for row in made.orders.iter_rows()}
    assert qty["mean", "A"] == 36  # 21 days × 2 − 10 there = 32, in dozens
    assert qty["naive", "A"] == 24  # 14 days a year ago × 2 − 10 = 18
    assert qty["mean", "B"] == qty["naive", "B"] == 40  # 13 units, the least order is 40


def test_textbook_safety_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    weekly = rng.normal(70, 7, 120).round()
    days = np.repeat(weekly / 7, 7)
    history = daily("A", [round(float(d)) for d in days])
    level: list[float] = []

    class Spy(TextbookSafety):
        def __call__(self, known: Known) -> np.ndarray:
            qty = super().__call__(known)
            level.append(float(qty[0]))
            return qty

    terms = pl.DataFrame({"unique_id": ["A"], "lead_time_days": [14], "review_period_days": [7]})
    replay(history, terms, {"textbook": Spy(0.975, models=("WindowAverage",))}, start=END, days=1)
    sums = history["y"].to_numpy()[-1 - 13 * 7 : -1].reshape(13, 7).sum(axis=1)
    sigma = 7.3  # of weeks around their 13-week mean
    assert level[0] == pytest.approx(3 * sums.mean() + 1.96 * sigma * np.sqrt(3), rel=0.03)


def test_frames_come_back_as_they_were_given_and_inputs_stay() -> None:
    history = histories([2.0] * 60, [1.0] * 60)
    terms = two_terms(on_hand_qty=[9, 9])
    before = history.clone()
    result = replay(history, terms, {"mean": MeanWithCover()}, start=START, days=10)
    as_pandas = replay(history.to_pandas(), terms.to_pandas(), {"mean": MeanWithCover()}, start=START, days=10)
    assert isinstance(as_pandas.summary, pd.DataFrame)
    assert as_pandas.summary["cost_cents"].tolist() == result.summary["cost_cents"].to_list()
    assert_frame_equal(history, before)
    shuffled = replay(
        history.sample(fraction=1.0, shuffle=True, seed=1), terms[::-1], {"mean": MeanWithCover()}, start=START, days=10
    )
    assert_frame_equal(shuffled.money, result.money)


@pytest.mark.parametrize(
    ("answer", "says"),
    [(np.array([1]), "2 whole numbers"), (np.array([1, -1]), "none below 0"), (np.array([1.5, 2.0]), "whole numbers")],
)
def test_an_answer_that_is_no_order_is_refused(answer: np.ndarray, says: str) -> None:
    with pytest.raises(BadSetting, match=says):
        replay(histories([1.0] * 40, [1.0] * 40), two_terms(), {"odd": lambda known: answer}, start=START, days=7)


def test_impossible_terms_are_refused_with_their_series() -> None:
    history = histories([1.0] * 40, [1.0] * 40)
    with pytest.raises(BadFrame, match="review_period_days of B must be at least 1, got 0"):
        replay(history, two_terms(review_period_days=[7, 0]), {"m": MeanWithCover()}, start=START, days=7)
    with pytest.raises(BadFrame, match="one row per unique_id"):
        replay(history, pl.concat([two_terms(), two_terms()]), {"m": MeanWithCover()}, start=START, days=7)
    with pytest.raises(BadSetting, match="at least one policy"):
        replay(history, two_terms(), {}, start=START, days=7)


def test_an_empty_shelf_of_then_was_asked_for_too() -> None:
    """Three a day were asked for; on the last week's days nothing was there to sell, and nothing was recorded."""
    out = list(range(53, 60))
    history = daily("A", [*[3.0] * 53, *[0.0] * 7], censored=out)
    ordered = pl.DataFrame({"unique_id": ["A"], "ordered_date": [END], "arrival_date": [END], "ordered_qty": [1]})
    terms = two_terms(on_hand_qty=[63, 0]).head(1)
    row = replay(history, terms, {}, start=START, days=28, as_ordered=ordered).summary.row(0, named=True)
    assert (row["demand_qty"], row["short_qty"]) == (84, 21)
    as_recorded = history.with_columns(pl.lit(False).alias("is_censored"))
    row = replay(as_recorded, terms, {}, start=START, days=28, as_ordered=ordered).summary.row(0, named=True)
    assert (row["demand_qty"], row["short_qty"]) == (63, 0)


def test_a_rule_of_thumb_is_compared_with_the_cover_that_was_cheapest_before() -> None:
    rng = np.random.default_rng(1)
    steady, wild = [4.0] * 300, rng.choice([0.0, 0.0, 0.0, 16.0], 300).tolist()
    start = END - timedelta(days=55)
    costs = {
        "holding_cost_cents": [1.0],
        "shortage_cost_cents": [140.0],
        "review_period_days": [7],
        "lead_time_days": [7],
    }
    terms = pl.DataFrame({"unique_id": ["A"], **costs})
    rules = [MeanWithCover(cover) for cover in COVERS]
    found = [cheapest(rules, histories(each), terms, start=start, days=56) for each in (steady, wild)]
    assert found[0] == MeanWithCover(0.0)
    assert found[1] in rules[1:]
    changed = histories([*wild[:-56], *[99.0] * 56])
    assert cheapest(rules, changed, terms, start=start, days=56) == found[1]  # set before the replay begins
    assert invented_stock(histories(steady), ["A", "Z"], start=start).tolist() == [112, 0]


def test_a_fit_that_runs_away_orders_the_plain_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runaway:
        def forecast(self, y: np.ndarray, h: int, fitted: bool) -> dict[str, np.ndarray]:
            return {"mean": np.full(h, 1e9), "fitted": np.zeros(y.size)}

    monkeypatch.setattr("forecasting.replay.sf.AutoETS", lambda season_length: Runaway())
    history = daily("A", [2.0] * 141)
    terms = pl.DataFrame({"unique_id": ["A"], "lead_time_days": [14], "review_period_days": [7]})
    rule = TextbookSafety(models=("AutoETS",))
    made = replay(history, terms, {"textbook": rule}, start=END, days=1)
    assert made.orders["ordered_qty"].to_list() == [42]  # three weeks of 14, and no spread


def test_a_mistyped_year_is_no_demand_and_does_not_stretch_the_replay() -> None:
    history = histories([3.0] * 100, [1.0] * 100)
    typo = daily("A", [5.0], end=date(206, 3, 1))
    seen: list[int] = []

    def look(known: Known) -> np.ndarray:
        seen.append(known.daily.shape[1])
        return last_week_again(known)

    with_it = replay(pl.concat([history, typo]), two_terms(), {"a": look}, start=START, days=7)
    without = replay(history, two_terms(), {"a": last_week_again}, start=START, days=7)
    assert max(seen) < 100
    assert_frame_equal(with_it.money, without.money)
