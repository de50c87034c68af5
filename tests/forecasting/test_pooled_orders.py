"""Places that send for each other: one level for all of them, shared out; their orders add up to what they lack together."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.forecast import QUANTILE_COLUMNS
from forecasting.overrides import move_pools
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
    gaps, needs = [], []
    for row in rows:
        assert sum(int(row[part]) for part in PARTS) == row["suggested_qty"]  # type: ignore[call-overload]
        gap = sum(int(row[part]) for part in PARTS[:7])  # type: ignore[call-overload]
        gaps.append(gap)
        needs.append(max(0, gap) + int(row["elsewhere_part_qty"]))  # type: ignore[call-overload]
        assert 0 <= needs[-1] <= max(0, gap)
    assert sum(needs) == max(0, sum(gaps))
    facts = json.loads(str(next(iter(rows))["facts"]))
    assert sum(int(row["order_up_to_qty"]) for row in rows) == facts["pool_order_up_to_qty"]  # type: ignore[call-overload]


def test_an_override_at_one_place_moves_the_pool_by_as_much() -> None:
    told = PLACES.with_columns(ds=END + pl.duration(days=pl.col("horizon_days"))).with_columns(
        model_mean=pl.col("mean"),
        mean=pl.when(pl.col("unique_id") == TKU).then(2 * pl.col("mean")).otherwise(pl.col("mean")),
    )
    totals = TOGETHER.with_columns(ds=END + pl.duration(days=pl.col("horizon_days")))
    pools = pl.DataFrame({"unique_id": [HEL, TKU], "pool_id": [POOL, POOL]})
    moved = move_pools(totals, told, pools).row(15, named=True)
    assert (moved["ds"], moved["model_mean"], moved["mean"]) == (END + timedelta(days=16), 240, 320)
    upper = QUANTILE_COLUMNS[Z.index(1.645)]
    assert moved[upper] == pytest.approx(TOGETHER[upper][15] * 320 / 240)
    assert (
        move_pools(totals, told.with_columns(mean="model_mean"), pools)
        .drop("model_mean")
        .equals(totals.select(move_pools(totals, told, pools).drop("model_mean").columns))
    )
