"""Replay where places serve each other: against a slow twin that moves unit by unit, and against one joint stock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecasting.errors import BadFrame
from forecasting.forecast import PlanSettings
from forecasting.pools import with_pooled_stock_outs
from forecasting.replay import AS_ORDERED, Known, MeanWithCover, Ours, cheapest, compare, replay
from tests.forecasting.builders import END, daily

DAYS = 14
START = END - timedelta(days=DAYS - 1)
OURS = Ours(PlanSettings(folds=3, paths=20, slow_series=0))
Place = dict[str, Any]


@st.composite
def companies(draw: st.DrawFn) -> list[Place]:
    """Up to six places, in two pools, alone in one, or in none; with demand, stock, and what arrives day by day."""
    places = []
    for name in "ABCDEF"[: draw(st.integers(2, 6))]:
        qty = st.lists(st.sampled_from([0, 0, 0, 1, 2, 5]), min_size=DAYS, max_size=DAYS)
        places.append(
            {
                "name": name,
                "pool": draw(st.sampled_from(["P", "P", "P", "Q", "Q", "R", None])),
                "on_hand": draw(st.integers(0, 9)),
                "owed": draw(st.sampled_from([0, 0, 3])),
                "demand": draw(qty),
                "arrives": draw(qty),
            }
        )
    return places


def terms_of(places: list[Place], **columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "unique_id": [place["name"] for place in places],
            "pool_id": [place["pool"] for place in places],
            "on_hand_qty": [place["on_hand"] for place in places],
            "backordered_qty": [place["owed"] for place in places],
            **columns,
        },
        schema_overrides={"pool_id": pl.String},
    ).with_columns(pl.lit(1.0).alias("holding_cost_cents"), pl.lit(7.0).alias("shortage_cost_cents"))


def lived(places: list[Place], *, is_lost: bool) -> dict[str, list[dict[str, int]]]:
    """What the replay says of each place and week when nobody orders and things arrive as they do."""
    history = pl.concat([daily(place["name"], place["demand"]) for place in places])
    coming = [
        (place["name"], START + timedelta(days=day), qty)
        for place in places
        for day, qty in enumerate(place["arrives"])
    ]
    under_way = pl.DataFrame(coming, schema=["unique_id", "arrival_date", "ordered_qty"], orient="row")
    result = replay(
        history,
        terms_of(places).sample(fraction=1.0, shuffle=True, seed=1),
        {"nobody": lambda known: np.zeros(known.positions.height, dtype=np.int64)},
        start=START,
        days=DAYS,
        under_way=under_way,
        is_lost=is_lost,
    )
    columns = {
        "evening": "holding_cents",
        "lost or late": "shortage_cents",
        "short": "short_qty",
        "asked": "demand_qty",
        "end": "end_on_hand_qty",
    }
    rows = result.money.select("unique_id", **columns).partition_by("unique_id", as_dict=True, include_key=False)
    return {str(key[0]): frame.to_dicts() for key, frame in rows.items()}


def by_hand(places: list[Place], *, is_lost: bool) -> dict[str, list[dict[str, int]]]:
    """The same, unit by unit: who needs one takes it from the own shelf, or from the neighbour whose shelf was fullest."""
    stock = {place["name"]: place["on_hand"] for place in places}
    owed = {place["name"]: place["owed"] for place in places}
    pool = {place["name"]: place["pool"] or place["name"] for place in places}
    weeks: dict[str, list[dict[str, int]]] = {name: [] for name in stock}

    def serve(asked: dict[str, int]) -> dict[str, int]:
        """What is still asked for afterwards."""
        still = {}
        for name, qty in asked.items():
            own = min(qty, stock[name])
            stock[name] -= own
            still[name] = qty - own
        fullest = sorted(stock, key=lambda name: (-stock[name], name))
        for name in sorted(still):
            for giver in fullest:
                while still[name] and stock[giver] and pool[giver] == pool[name]:
                    stock[giver] -= 1
                    still[name] -= 1
        return still

    for day in range(DAYS):
        for place in places:
            stock[place["name"]] += place["arrives"][day]
        owed = serve(owed)
        short = serve({place["name"]: place["demand"][day] for place in places})
        if not is_lost:
            owed = {name: qty + short[name] for name, qty in owed.items()}
        for place in places:
            name = place["name"]
            if day % 7 == 0:
                weeks[name].append({"evening": 0, "lost or late": 0, "short": 0, "asked": 0, "end": 0})
            week = weeks[name][-1]
            week["evening"] += stock[name]
            week["lost or late"] += 7 * short[name] if is_lost else owed[name]
            week["short"] += short[name]
            week["asked"] += place["demand"][day]
            week["end"] = stock[name]
    return weeks


@given(places=companies(), is_lost=st.booleans())
def test_places_serve_each_other_as_one_would_play_by_hand(places: list[Place], is_lost: bool) -> None:
    assert lived(places, is_lost=is_lost) == by_hand(places, is_lost=is_lost)


@given(places=companies(), is_lost=st.booleans())
def test_a_pool_is_short_of_what_one_joint_stock_would_be(places: list[Place], is_lost: bool) -> None:
    places = [place | {"pool": "P"} for place in places]
    summed = {name: sum(place[name] for place in places) for name in ("on_hand", "owed")}
    by_day = {
        name: [sum(qty) for qty in zip(*(p[name] for p in places), strict=True)] for name in ("demand", "arrives")
    }
    (joint,) = lived([{"name": "J", "pool": None} | summed | by_day], is_lost=is_lost).values()
    found = list(lived(places, is_lost=is_lost).values())
    for week, whole in enumerate(joint):
        assert {name: sum(rows[week][name] for rows in found) for name in whole} == whole


def test_who_has_most_left_sends_first() -> None:
    one = {"pool": "P", "owed": 0, "arrives": [0] * DAYS, "demand": [0] * DAYS}
    places = [
        one | {"name": "A", "on_hand": 3},
        one | {"name": "B", "on_hand": 6, "demand": [1] + [0] * 13},
        one | {"name": "C", "on_hand": 1, "demand": [7] + [0] * 13},
        one | {"name": "D", "on_hand": 9, "pool": None},
    ]
    end = {name: weeks[0]["end"] for name, weeks in lived(places, is_lost=True).items()}
    assert end == {"A": 2, "B": 0, "C": 0, "D": 9}  # C's own one, five of B, which has more left, one of A


def test_alone_in_a_pool_is_alone() -> None:
    history = pl.concat([daily(name, [3.0] * 60) for name in "AB"])
    places = [{"name": name, "pool": None, "on_hand": qty, "owed": 0} for name, qty in (("A", 0), ("B", 90))]
    terms = terms_of(places)
    runs = [
        replay(history, each, {"mean": MeanWithCover(), "ours": OURS}, start=START, days=DAYS).money
        for each in (terms, terms.drop("pool_id"), terms.with_columns(pl.Series("pool_id", ["P", "Q"])))
    ]
    assert_frame_equal(runs[0], runs[1])
    assert_frame_equal(runs[0], runs[2])
    pooled = terms.with_columns(pl.lit("P").alias("pool_id"))
    assert replay(history, pooled, {"mean": MeanWithCover()}, start=START, days=DAYS).summary["short_qty"].item() == 0
    assert runs[0].filter(policy="mean")["short_qty"].sum() == 3 * DAYS


def test_a_neighbour_that_sent_the_goods_leaves_nothing_unrecorded() -> None:
    """Three a day each; in the replay's days A had nothing, and B sent for both, until it had nothing either."""
    a = daily("A", [3.0] * 60 + [0.0] * DAYS, censored=range(60, 74))
    b = daily("B", [3.0] * 60 + [6.0] * 11 + [0.0] * 3, censored=range(71, 74))
    history = pl.concat([a, b])
    terms = pl.DataFrame({"unique_id": ["A", "B"], "pool_id": ["P", "P"], "on_hand_qty": [500, 500]})
    seen = []

    def note(known: Known) -> np.ndarray:
        seen.append(known.history)
        return np.zeros(2, dtype=np.int64)

    def asked(terms: pl.DataFrame) -> dict[str, int]:
        money = replay(history, terms, {"note": note}, start=START, days=DAYS).money
        return dict(money.group_by("unique_id").agg(pl.col("demand_qty").sum()).iter_rows())

    # the last three days, on which nobody had any, lack six each: shared as 21 to 27, what each sent on eight such weekdays
    assert asked(terms) == {"A": 7, "B": 6 * 11 + 10}
    assert asked(terms.drop("pool_id"))["A"] == 3 * DAYS
    assert_frame_equal(seen[0], history.filter(pl.col("ds") < START))  # what was recorded stays as it was
    assert with_pooled_stock_outs(history, terms)["is_censored"].sum() == 2 * 3


def test_who_asked_in_vain_at_one_place_is_not_counted_at_the_others() -> None:
    """Two a day are asked for, first at A, then at B, and in the replay's days at A again, where they wait: all is recorded."""
    a = daily("A", [2.0] * 70 + [None] * 70 + [2.0] * DAYS, censored=range(140, 154))
    b = daily("B", [None] * 70 + [2.0] * 70 + [0.0] * DAYS, censored=range(140, 154))
    terms = pl.DataFrame({"unique_id": ["A", "B"], "pool_id": ["P", "P"]})

    def asked(history: pl.DataFrame, terms: pl.DataFrame = terms) -> int:
        found: int = (
            replay(history, terms, {"mean": MeanWithCover()}, start=START, days=DAYS).summary["demand_qty"].item()
        )
        return found

    assert asked(pl.concat([a, b])) == 2 * DAYS
    # nobody waits and nothing is recorded: the same two a day are missing once
    unrecorded = a.with_columns(pl.when(pl.col("ds") < START).then("y").otherwise(0.0).alias("y"))
    assert asked(pl.concat([unrecorded, b])) == 2 * DAYS
    assert asked(pl.concat([a, b]), terms.drop("pool_id")) > 2 * DAYS


def test_ours_orders_for_a_pool_what_it_lacks_together() -> None:
    """A has far too much and B nothing: apart B is ordered for, together nothing is, for every service asked."""
    rng = np.random.default_rng(4)
    history = pl.concat([daily(name, rng.poisson(4.0, 200).astype(float).tolist()) for name in "ABC"])
    places = [
        {"name": n, "pool": p, "on_hand": q, "owed": 0} for n, p, q in (("A", "P", 900), ("B", "P", 0), ("C", None, 0))
    ]
    terms = terms_of(places)
    at_95 = Ours(OURS.settings, 0.95)
    plans: list[dict[str, Any]] = []

    def spy(known: Known) -> np.ndarray:
        qty = at_95(known)
        plans.append(known.shared)
        return qty

    policies = {"ours": OURS, "spy": spy}
    apart, together = (
        replay(history, each, policies, start=START, days=DAYS).orders
        for each in (terms.with_columns(pl.lit(None).alias("pool_id")), terms)
    )
    assert set(apart["unique_id"]) == {"B", "C"}
    assert set(together["unique_id"]) == {"C"}
    planned = [{name for plan in shared.values() for name in plan.totals["unique_id"]} for shared in plans]
    pools = set(terms["pool_id"].drop_nulls())
    assert planned[-1] >= pools and not planned[0] & pools  # without pools none is planned


@settings(max_examples=5)
@given(
    first=st.lists(st.sampled_from([0.0, 0.0, 1.0, 3.0, 8.0]), min_size=120, max_size=150),
    other=st.lists(st.sampled_from([0.0, 2.0, 500.0]), min_size=DAYS, max_size=DAYS),
    out=st.lists(st.booleans(), min_size=DAYS, max_size=DAYS),
)
def test_demand_after_a_review_changes_no_order_of_a_pool(
    first: list[float], other: list[float], out: list[bool]
) -> None:
    was_out = range(0, len(first) - 7, 5)
    # B was last heard of long before, and then again in the days that are not known yet
    gone = [*[2.0] * 60, *[None] * 300]
    censored = [373 - 7 + day for day, is_out in enumerate(out[:7]) if is_out]

    def history(later: list[float], *, is_heard_of: bool) -> pl.DataFrame:
        a = daily("A", [*first[:-7], *later[:7]], censored=was_out)
        b = daily("B", [*gone, *[None] * 7, *(later[7:] if is_heard_of else [None] * 7)], censored=[3, *censored])
        return pl.concat([a, b])

    terms = pl.DataFrame({"unique_id": ["A", "B"], "pool_id": ["P", "P"], "on_hand_qty": [9, 9]})
    policies = {"mean": MeanWithCover(), "ours": OURS}
    ways = [history(first[-DAYS:], is_heard_of=False), history(other, is_heard_of=True)]
    found = [
        replay(way, terms, policies, start=START, days=DAYS).orders.filter(
            pl.col("ordered_date") < START + timedelta(days=7)
        )
        for way in ways
    ]
    assert_frame_equal(*found)


def test_what_was_really_ordered_serves_the_pool_too_and_a_rule_is_set_by_it() -> None:
    history = pl.concat([daily("A", [0.0] * 90), daily("B", [2.0] * 90)])
    ordered = pl.DataFrame(
        {
            "unique_id": ["A"],
            "ordered_date": [START],
            "arrival_date": [START + timedelta(days=4)],
            "ordered_qty": [20],
        }
    )
    terms = pl.DataFrame({"unique_id": ["A", "B"], "pool_id": ["P", "P"], "on_hand_qty": [2, 0]})
    row = replay(history, terms, {}, start=START, days=DAYS, as_ordered=ordered).summary.row(0, named=True)
    assert (row["policy"], row["short_qty"], row["end_on_hand_qty"]) == (AS_ORDERED, 2 * 3, 0)
    # B's demand alone moves stock: with A's shelf full for weeks, the leanest cover serves B as well as any
    costs = terms.with_columns(pl.lit(1.0).alias("holding_cost_cents"), pl.lit(50.0).alias("shortage_cost_cents"))
    rules = [MeanWithCover(cover) for cover in (0.0, 4.0)]
    assert cheapest(rules, history, costs, start=START, days=28) == rules[0]


def test_an_interval_draws_the_places_of_a_pool_together() -> None:
    """What one place costs more its neighbour costs less: pool by pool there is nothing to doubt."""
    rng = np.random.default_rng(5)
    swing = rng.integers(-500, 500, 100)
    ids = [f"S{i:03d}@{place}" for place in "AB" for i in range(100)]
    cost = {"ours": np.concatenate([1000 + swing, 1000 - swing]), "other": np.full(200, 1010)}
    money = pl.concat(
        [pl.DataFrame({"policy": name, "unique_id": ids, "cost_cents": each}) for name, each in cost.items()]
    )
    pools = pl.DataFrame({"unique_id": ids, "pool_id": [unique_id[:4] for unique_id in ids]})
    apart, together = (compare(money, pools=each).row(0, named=True) for each in (None, pools))
    assert apart["difference_cents"] == together["difference_cents"] == -2000
    assert (together["low_cents"], together["high_cents"]) == (-2000, -2000)
    assert apart["high_cents"] - apart["low_cents"] > 1000


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"review_period_days": [7, 14]}, r"review_period_days .* pool P, got \[7, 14\]"),
        ({"pool_id": ["B", "B"]}, "B is a unique_id and a pool_id"),
    ],
)
def test_pools_that_can_not_be_planned_are_refused(columns: dict[str, Any], says: str) -> None:
    history = pl.concat([daily(name, [1.0] * 40) for name in "AB"])
    terms = pl.DataFrame({"unique_id": ["A", "B"], "pool_id": ["P", "P"]} | columns)
    with pytest.raises(BadFrame, match=says):
        replay(history, terms, {"mean": MeanWithCover()}, start=START, days=7)
