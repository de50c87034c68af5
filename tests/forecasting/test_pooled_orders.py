"""Places that send for each other: one level for all of them, shared out; their orders add up to what they lack together."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.forecast import QUANTILE_COLUMNS
from forecasting.overrides import move_pools
from forecasting.reasons import sentences
from forecasting.replenishment import PARTS, OrderSettings, Suggestions, suggest
from tests.forecasting.builders import END
from tests.forecasting.test_replenishment import Z, normal_totals

HEL, TKU = "LAMP@HEL", "LAMP@TKU"
POOL = "LAMP@*"
PLACES = pl.concat(
    [normal_totals(HEL, daily_mean=10, daily_sd=4, days=60), normal_totals(TKU, daily_mean=5, daily_sd=4, days=60)]
)
TOGETHER = normal_totals(POOL, daily_mean=15, daily_sd=math.hypot(4, 4), days=60)
TOTALS = pl.concat([PLACES, TOGETHER])


def asked(totals: pl.DataFrame, *positions: dict[str, object], **options: object) -> dict[str, dict[str, object]]:
    usual = {"lead_time_days": 9, "review_period_days": 7, "pool_id": POOL}
    found: Suggestions = suggest(totals, pl.DataFrame([usual | p for p in positions]), as_of=END, **options)  # type: ignore[arg-type]
    return {row["unique_id"]: row for row in found.suggestions.iter_rows(named=True)}


def test_the_level_of_the_pool_is_the_textbook_s_and_is_shared_by_what_each_sends() -> None:
    # 16 days of N(15, 32) a day: 240 + 1.645 · √32 · 4 = 277.2, so 278; two thirds of it are 185.3, one third 92.7
    rows = asked(TOTALS, {"unique_id": HEL, "on_hand_qty": 100}, {"unique_id": TKU, "on_hand_qty": 50})
    assert [rows[place]["order_up_to_qty"] for place in (HEL, TKU)] == [185, 93]
    assert [rows[place]["suggested_qty"] for place in (HEL, TKU)] == [85, 43]
    facts = json.loads(str(rows[TKU]["facts"]))
    assert (facts["pool_order_up_to_qty"], facts["pool_demand_qty"], facts["pool_safety_qty"]) == (278, 240, 38)
    assert facts["pool_share_ratio"] == pytest.approx(1 / 3, abs=1e-6)
    alone = asked(PLACES, {"unique_id": HEL, "on_hand_qty": 100}, {"unique_id": TKU, "on_hand_qty": 50})
    assert [alone[place]["order_up_to_qty"] for place in (HEL, TKU)] == [
        187,
        107,
    ]  # 27 + 27 units of safety stock, not 38


def test_what_another_place_has_too_much_of_is_not_bought_again() -> None:
    rows = asked(TOTALS, {"unique_id": HEL, "on_hand_qty": 100}, {"unique_id": TKU, "on_hand_qty": 133})
    assert rows[TKU]["suggested_qty"] == 0
    assert (rows[HEL]["elsewhere_part_qty"], rows[HEL]["suggested_qty"]) == (-40, 45)
    assert "served_elsewhere" in rows[HEL]["reason_codes"]  # type: ignore[operator]
    said = sentences(rows[HEL]["reason_codes"], str(rows[HEL]["facts"]), "en")  # type: ignore[arg-type]
    assert "places with more than their share (position − share): LAMP@TKU 133 − 93 = 40; 40 in all" in said
    assert (
        "together the places lack 278 − 233 + 0 late − 0 lost = 45, each for itself 85; of 45 to order 45 fall here by "
        "what each lacks, and no more than the 45 − 0 that places settled before leave"
    ) in said


def test_of_many_places_with_more_than_their_share_a_reason_names_those_with_the_most() -> None:
    ids = [f"LAMP@P{i}" for i in range(12)]
    totals = [normal_totals(i, daily_mean=5, daily_sd=0, days=60) for i in ids]
    totals.append(normal_totals(POOL, daily_mean=60, daily_sd=0, days=60))
    places = [{"unique_id": i, "on_hand_qty": 80 + at if at else 0} for at, i in enumerate(ids)]  # each should have 80
    facts = json.loads(str(asked(pl.concat(totals), *places)["LAMP@P0"]["facts"]))
    named = [f"LAMP@P{at} {80 + at} − 80 = {at}" for at in range(11, 3, -1)]
    assert facts["pool_above"] == ", ".join([*named, "…"])
    assert facts["pool_above_qty"] == sum(range(1, 12))


def test_what_lies_where_nobody_asked_yet_is_not_bought_again() -> None:
    idle = {"idle_elsewhere_qty": 28}
    rows = asked(TOTALS, {"unique_id": HEL, "on_hand_qty": 100} | idle, {"unique_id": TKU, "on_hand_qty": 50} | idle)
    assert sum(int(str(row["suggested_qty"])) for row in rows.values()) == 278 - 150 - 28
    (alone,) = asked(PLACES, {"unique_id": HEL, "on_hand_qty": 100} | idle).values()
    assert (alone["suggested_qty"], alone["elsewhere_part_qty"]) == (187 - 100 - 28, -28)
    waiting = {"unique_id": HEL, "on_hand_qty": 0, "backordered_qty": 10, "idle_elsewhere_qty": 500}
    (kept,) = asked(PLACES, waiting).values()
    assert (kept["suggested_qty"], kept["elsewhere_part_qty"]) == (10, -187)  # who waits here is not sent to from there
    (plenty,) = asked(PLACES, {"unique_id": HEL, "on_hand_qty": 100, "idle_elsewhere_qty": 500}).values()
    assert (plenty["suggested_qty"], plenty["elsewhere_part_qty"]) == (0, -87)
    apart = asked(
        TOTALS,
        {"unique_id": HEL, "on_hand_qty": 100, "lead_time_days": 8} | idle,
        {"unique_id": TKU, "on_hand_qty": 50} | idle,
    )
    assert [row["elsewhere_part_qty"] for row in apart.values()] == [0, 0]  # nobody says whose it is


def test_a_place_with_a_rule_of_its_own_stands_outside() -> None:
    rows = asked(
        TOTALS, {"unique_id": HEL, "on_hand_qty": 0}, {"unique_id": TKU, "on_hand_qty": 0, "min_qty": 5, "max_qty": 9}
    )
    assert rows[TKU]["suggested_qty"] == 9
    assert rows[HEL]["order_up_to_qty"] == 187  # alone, so by its own forecast


@settings(deadline=None, max_examples=60)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 200), st.integers(0, 60), st.integers(0, 9), st.integers(1, 24)),
        min_size=2,
        max_size=4,
    ),
    by_cost=st.booleans(),
)
def test_the_orders_add_up_to_what_the_pool_lacks(places: list[tuple[int, int, int, int, int]], by_cost: bool) -> None:
    means = [weight for *_, weight, _ in places]
    ids = [f"LAMP@P{i}" for i in range(len(places))]
    totals = [normal_totals(i, daily_mean=mean, daily_sd=2, days=60) for i, mean in zip(ids, means, strict=True)]
    totals.append(normal_totals(POOL, daily_mean=sum(means), daily_sd=2 * math.sqrt(len(places)), days=60))
    positions = [
        {"unique_id": i, "on_hand_qty": on_hand, "on_order_qty": on_order, "backordered_qty": waiting, "pack_qty": pack,
         "unit_cost_cents": 1000.0, "unit_price_cents": 1800.0}
        for i, (on_hand, on_order, waiting, _, pack) in zip(ids, places, strict=True)
    ]  # fmt: skip
    rows = asked(pl.concat(totals), *positions, target="cost" if by_cost else "cycle_service",
                 settings=OrderSettings(holding_ratio=2.0)).values()  # fmt: skip
    gaps, needs, promised, ordered = [], [], 0, 0
    for row in rows:
        assert sum(int(row[part]) for part in PARTS) == row["suggested_qty"]  # type: ignore[call-overload]
        gap = sum(int(row[part]) for part in PARTS[:7])  # type: ignore[call-overload]
        gaps.append(gap)
        needs.append(max(0, gap) + int(row["elsewhere_part_qty"]))  # type: ignore[call-overload]
        waits = max(0, -int(row["inventory_position_qty"]))  # type: ignore[call-overload]
        assert min(waits, max(0, gap)) <= needs[-1] <= max(0, gap)
        promised += min(waits, max(0, gap))
        ordered += int(row["suggested_qty"])  # type: ignore[call-overload]
    lacking = max(0, sum(gaps), promised)
    assert sum(needs) <= lacking
    if not by_cost:  # by cost a pack is also left out, or an order waits
        assert lacking <= ordered < lacking + max(pack for *_, pack in places) + promised
    facts = json.loads(str(next(iter(rows))["facts"]))
    assert sum(int(row["order_up_to_qty"]) for row in rows) == facts["pool_order_up_to_qty"]  # type: ignore[call-overload]


def four_places(**each: object) -> tuple[pl.DataFrame, list[dict[str, object]]]:
    """Four equal places, five a day each, whose sum varies half as much as theirs do; what holds for each of them."""
    ids = [f"LAMP@P{i}" for i in range(4)]
    totals = [normal_totals(i, daily_mean=5, daily_sd=4, days=60) for i in ids]
    cost = {"unit_cost_cents": 1000.0, "unit_price_cents": 1800.0}
    return pl.concat([*totals, normal_totals(POOL, daily_mean=20, daily_sd=8, days=60)]), [
        {"unique_id": i} | cost | each for i in ids
    ]


def ordered(totals: pl.DataFrame, places: list[dict[str, object]], **options: object) -> list[int]:
    return [int(str(row["suggested_qty"])) for row in asked(totals, *places, **options).values()]


def test_packs_of_one_place_are_seen_by_the_next() -> None:
    # together up to 320 + 1.645 · 8 · 4 = 372.6: 373; each has 87, so 25 are missing, six or seven at each
    totals, places = four_places(on_hand_qty=87, pack_qty=24)
    assert sum(ordered(totals, places)) == 48  # not a pack for each of the four
    assert sum(ordered(totals, [place | {"moq_qty": 100, "pack_qty": 1} for place in places])) == 100
    # by cost neither do all four wait for each other, nor round up all together
    by_cost = {"target": "cost", "settings": OrderSettings(holding_ratio=1.0)}
    (level,) = {
        json.loads(str(row["facts"]))["pool_order_up_to_qty"] for row in asked(totals, *places, **by_cost).values()
    }
    for missing in (8, 20, 28, 32, 40, 52, 60, 72):  # as many packs as one place for all of them would order
        stock = [(level - missing) // 4 + (at < (level - missing) % 4) for at in range(4)]
        near = [place | {"on_hand_qty": qty} for place, qty in zip(places, stock, strict=True)]
        one = near[0] | {"unique_id": POOL, "pool_id": None, "on_hand_qty": sum(stock)}
        assert sum(ordered(totals, near, **by_cost)) == sum(ordered(totals, [one], **by_cost))


def test_the_savings_of_the_places_are_that_of_the_pool() -> None:
    totals, places = four_places(on_hand_qty=40)
    rows = list(asked(totals, *places, target="cost").values())
    one = {
        "unique_id": POOL,
        "pool_id": None,
        "on_hand_qty": 160,
        "unit_cost_cents": 1000.0,
        "unit_price_cents": 1800.0,
    }
    (whole,) = asked(totals, one, target="cost").values()
    assert sum(int(str(row["suggested_qty"])) for row in rows) == whole["suggested_qty"]
    assert sum(float(str(row["expected_saving_cents"])) for row in rows) == pytest.approx(
        whole["expected_saving_cents"]
    )


def test_places_run_short_together_and_are_not_late_alone() -> None:
    # 15 a day go, together up to 278; the reorder point of nine days is 135 + 1.645 · √32 · 3 = 162.9: 163
    rows = asked(TOTALS, {"unique_id": HEL, "on_hand_qty": 20}, {"unique_id": TKU, "on_hand_qty": 233})
    assert (rows[HEL]["suggested_qty"], rows[TKU]["suggested_qty"]) == (25, 0)
    assert rows[HEL]["order_by_date"] == END + timedelta(days=6)  # 253 - 6 · 15 = 163, a day later it is less
    assert "order_overdue" not in rows[HEL]["reason_codes"]  # type: ignore[operator]
    assert rows[TKU]["order_by_date"] == END + timedelta(days=7)  # has nothing to order before the next review
    late = asked(TOTALS, {"unique_id": HEL, "on_hand_qty": 120}, {"unique_id": TKU, "on_hand_qty": 30})
    for row in late.values():
        said = sentences(row["reason_codes"], str(row["facts"]), "en")  # type: ignore[arg-type]
        assert "together they have 150, below their reorder point 163: order now" in said
        assert row["order_by_date"] == END
    waiting = {"unique_id": HEL, "on_hand_qty": 0, "backordered_qty": 3}
    served = asked(TOTALS, waiting, {"unique_id": TKU, "on_hand_qty": 400})
    assert served[HEL]["order_by_date"] == END
    said = sentences(served[HEL]["reason_codes"], str(served[HEL]["facts"]), "en")  # type: ignore[arg-type]
    assert any("customers wait for 3 units promised from here" in text for text in said)


def test_customers_who_wait_at_a_place_are_not_sent_to_from_another() -> None:
    totals, places = four_places(on_hand_qty=100)
    places[2] |= {"on_hand_qty": 0, "on_order_qty": 10, "backordered_qty": 41}
    assert ordered(totals, [place | {"on_hand_qty": 400} if at != 2 else place for at, place in enumerate(places)]) == [
        0, 0, 31, 0,
    ]  # fmt: skip


def test_waiting_for_the_next_review_is_not_for_customers_who_wait() -> None:
    # by cost, packs of 18: together there is plenty, so a pack for the ten who wait at HEL saves the pool nothing
    cost = {"unit_cost_cents": 1000.0, "unit_price_cents": 1800.0, "pack_qty": 18}
    waiting = {"unique_id": HEL, "on_hand_qty": 0, "backordered_qty": 10}
    rows = asked(TOTALS, waiting | cost, {"unique_id": TKU, "on_hand_qty": 400} | cost, target="cost")
    assert (rows[HEL]["suggested_qty"], rows[HEL]["wait_part_qty"]) == (18, 0)
    assert rows[TKU]["suggested_qty"] == 0


def test_a_budget_leaves_out_customers_who_wait_last_and_still_names_them() -> None:
    """Helsinki owes 10 units, which Turku's plenty does not send; both places together have enough."""
    cost = {"unit_cost_cents": 100.0, "unit_price_cents": 160.0, "currency": "EUR"}
    places = (
        {"unique_id": HEL, "on_hand_qty": 0, "backordered_qty": 10, "supplier_code": "ACME"} | cost,
        {"unique_id": TKU, "on_hand_qty": 400, "supplier_code": "ACME"} | cost,
        {"unique_id": "VASE@HEL", "pool_id": None, "on_hand_qty": 150} | cost,
    )
    totals = pl.concat([TOTALS, normal_totals("VASE@HEL", daily_mean=10, daily_sd=4, days=60)])
    free = asked(totals, *places, target="cost")
    assert (free[HEL]["suggested_qty"], free[TKU]["suggested_qty"]) == (10, 0)
    assert float(str(free[HEL]["expected_saving_cents"])) > 10 * 60 * 0.9, "what is promised and not ordered is missed"
    wanted = int(str(free["VASE@HEL"]["suggested_qty"]))
    assert wanted > 10
    tight = asked(totals, *places, target="cost", budget_cents={"EUR": 1_000.0})
    assert (tight[HEL]["suggested_qty"], tight["VASE@HEL"]["suggested_qty"]) == (10, 0)
    none = asked(totals, *places, target="cost", budget_cents={"EUR": 0.0})[HEL]
    assert none["suggested_qty"] == 0
    assert {"budget_cut", "customers_wait_here"} <= set(none["reason_codes"])  # type: ignore[call-overload]
    least = pl.DataFrame({"supplier_code": ["ACME"], "min_order_cents": [1_500]})
    assert asked(totals, *places, target="cost", suppliers=least)[HEL]["suggested_qty"] == 15, "raised and not put off"


def test_units_that_come_too_late_are_told_where_they_are_under_way() -> None:
    totals, places = four_places(on_hand_qty=60)
    due = pl.DataFrame(
        {
            "unique_id": ["LAMP@P0", "LAMP@P1"],
            "ds": [END + timedelta(days=2), END + timedelta(days=45)],
            "qty": [20, 20],
        }
    )
    under_way = [place | {"on_order_qty": 20} if at < 2 else place for at, place in enumerate(places)]
    rows = asked(totals, *under_way, target="cost", on_order=due)
    assert [row["late_part_qty"] for row in rows.values()] == [0, 20, 0, 0]


@pytest.mark.parametrize(
    "odd", [{"lead_time_days": 30}, {"min_qty": 5, "max_qty": 9}, {"cycle_service_ratio": 0.8}, {"on_hand_qty": -3}]
)
def test_places_of_different_terms_are_planned_apart(odd: dict[str, object]) -> None:
    totals, places = four_places(on_hand_qty=50)
    rows = asked(totals, *(place | odd if at == 1 else place for at, place in enumerate(places)))
    assert not any("pooled" in str(row["reason_codes"]) for row in rows.values())


def by_day(totals: pl.DataFrame) -> pl.DataFrame:
    """Totals as the forecasts of their days."""
    names = ("mean", *QUANTILE_COLUMNS)
    days = (pl.col(name) - pl.col(name).shift(1, fill_value=0.0).over("unique_id") for name in names)
    return totals.with_columns(ds=END + pl.duration(days=pl.col("horizon_days"))).with_columns(days)


POOLS = pl.DataFrame({"unique_id": [HEL, TKU], "pool_id": [POOL, POOL]})


def test_an_override_at_one_place_moves_the_pool_by_as_much() -> None:
    told = by_day(PLACES).with_columns(
        model_mean=pl.col("mean"),
        mean=pl.when(pl.col("unique_id") == TKU).then(2 * pl.col("mean")).otherwise(pl.col("mean")),
    )
    totals = TOGETHER.with_columns(ds=END + pl.duration(days=pl.col("horizon_days")))
    _, running = move_pools(by_day(TOGETHER), totals, told, POOLS)
    moved = running.row(15, named=True)
    assert (moved["ds"], moved["model_mean"], moved["mean"]) == (END + timedelta(days=16), 240, 320)
    upper = QUANTILE_COLUMNS[Z.index(1.645)]
    assert moved[upper] == pytest.approx(TOGETHER[upper][15] * 320 / 240)
    _, as_it_was = move_pools(by_day(TOGETHER), totals, told.with_columns(mean="model_mean"), POOLS)
    assert as_it_was.drop("model_mean").equals(totals.select(as_it_was.drop("model_mean").columns))


def test_a_place_that_closes_takes_no_more_from_its_pool_than_the_pool_expects() -> None:
    """The pool has a model of its own, which may expect less than that of its main place."""
    told = by_day(PLACES).with_columns(model_mean=pl.col("mean") * 9)
    closed = pl.col("horizon_days").is_between(4, 9) & (pl.col("unique_id") == TKU)
    told = told.with_columns(mean=pl.when(closed).then(0.0).otherwise("model_mean"))
    totals = TOGETHER.with_columns(ds=END + pl.duration(days=pl.col("horizon_days")))
    daily, running = move_pools(by_day(TOGETHER), totals, told, POOLS)
    days = daily["mean"].to_list()
    assert min(days) == 0
    assert running["mean"].to_list() == pytest.approx(np.cumsum(days).tolist())
    assert running["mean"].is_sorted()
