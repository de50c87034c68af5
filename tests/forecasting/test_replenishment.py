from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.errors import BadFrame, BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES, plan_demand
from forecasting.reasons import sentences
from forecasting.replenishment import PARTS, order_quantity, suggest, textbook_order_up_to
from tests.forecasting.builders import END, daily, weekly_pattern

Z = (-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.054, 2.326)


def normal_totals(unique_id: str, *, daily_mean: float, daily_sd: float, days: int) -> pl.DataFrame:
    """Totals as they are when days are independent and normal: what the textbook assumes."""
    return pl.DataFrame(
        [
            {
                "unique_id": unique_id,
                "horizon_days": d,
                "mean": daily_mean * d,
                **{
                    name: max(0.0, daily_mean * d + z * daily_sd * math.sqrt(d))
                    for name, z in zip(QUANTILE_COLUMNS, Z, strict=True)
                },
            }
            for d in range(1, days + 1)
        ]
    )


def one(position: dict[str, object], *, mean: float = 10.0, sd: float = 4.0, **options: object) -> dict[str, object]:
    totals = normal_totals("LAMP@HEL", daily_mean=mean, daily_sd=sd, days=60)
    found = suggest(totals, pl.DataFrame([{"unique_id": "LAMP@HEL", **position}]), as_of=END, **options)  # type: ignore[arg-type]
    return found.suggestions.row(0, named=True)


def test_the_textbook_order_up_to_level() -> None:
    # L + R = 9 + 7 = 16 days of N(10, 4²): S = 160 + 1.645 · 4 · √16 = 186.32; lead time alone: 90 + 1.645 · 4 · 3 = 109.74
    row = one(
        {"lead_time_days": 9, "review_period_days": 7, "on_hand_qty": 120, "on_order_qty": 30, "backordered_qty": 5}
    )
    assert row["order_up_to_qty"] == math.ceil(textbook_order_up_to(daily_mean=10, daily_sd=4, days=16, z=1.645)) == 187
    assert row["safety_stock_qty"] == 27
    assert row["reorder_point_qty"] == 110
    assert row["inventory_position_qty"] == 145
    assert row["suggested_qty"] == 187 - 145
    # 145 − 10 d falls below 110 on day 4: order by the end of day 3; used up on day 15
    assert row["order_by_date"] == END + timedelta(days=3)
    assert row["stockout_date"] == END + timedelta(days=15)


def test_a_ratio_between_two_quantiles_lies_on_the_line_between_them() -> None:
    row = one({"lead_time_days": 9, "review_period_days": 7, "on_hand_qty": 0}, cycle_service_ratio=0.925)
    assert row["order_up_to_qty"] == math.ceil(160 + 16 * (1.282 + 1.645) / 2)
    capped = one({"on_hand_qty": 0}, cycle_service_ratio=0.999)
    assert "service_capped" in capped["reason_codes"]


def test_minimum_and_pack_are_parts_of_the_sum() -> None:
    row = one({"lead_time_days": 9, "on_hand_qty": 180, "moq_qty": 20, "pack_qty": 12})
    assert [row[part] for part in PARTS] == [160, 27, 0, -180, 0, 0, 13, 4]
    assert row["suggested_qty"] == 24
    assert {"below_target", "moq_applied", "pack_rounded"} <= set(row["reason_codes"])


def test_enough_stock_orders_nothing_and_says_how_much_is_above_the_target() -> None:
    row = one({"lead_time_days": 9, "on_hand_qty": 200, "moq_qty": 50})
    assert row["suggested_qty"] == 0
    assert row["surplus_part_qty"] == 13
    assert sum(row[part] for part in PARTS) == 0
    assert row["reason_codes"] == ["enough_stock"]


def test_stock_that_is_not_recorded_counts_as_an_empty_shelf_and_is_flagged() -> None:
    row = one({"lead_time_days": 9})
    assert row["suggested_qty"] == 187 == row["demand_part_qty"] + row["safety_part_qty"]
    assert row["inventory_position_qty"] is None
    assert row["stockout_date"] is None
    assert "stock_not_recorded" in row["reason_codes"]


def test_what_the_history_lacked_reaches_the_buyer_with_the_grade() -> None:
    plan = plan_demand(daily("LAMP@HEL", weekly_pattern(40)), as_of=END)
    row = suggest(plan.totals, pl.DataFrame({"unique_id": ["LAMP@HEL"]}), as_of=END, choices=plan.choices)
    got = row.suggestions.row(0, named=True)
    assert got["grade"] == plan.choices["grade"][0]
    assert {"stock_not_recorded", "stock_outs_unknown", "below_target", "order_overdue"} <= set(got["reason_codes"])
    for language in ("zh", "en"):
        assert all("{" not in text for text in sentences(got["reason_codes"], got["facts"], language))


whole = st.integers(0, 500)


@given(
    expected=st.floats(0, 400),
    extra=whole,
    on_hand=st.none() | whole,
    on_order=whole,
    backordered=whole,
    moq=st.integers(1, 90),
    pack=st.integers(1, 24),
)
def test_the_waterfall_sums_exactly_and_the_order_reaches_the_target(
    expected: float, extra: int, on_hand: int | None, on_order: int, backordered: int, moq: int, pack: int
) -> None:
    target = math.ceil(expected) + extra
    got = order_quantity(
        expected_demand_qty=expected,
        order_up_to_qty=target,
        on_hand_qty=on_hand,
        on_order_qty=on_order,
        backordered_qty=backordered,
        moq_qty=moq,
        pack_qty=pack,
    )
    assert sum(got.parts.values()) == got.suggested_qty
    position = (on_hand or 0) + on_order - backordered
    if position >= target:
        assert got.suggested_qty == 0
    else:
        assert got.suggested_qty % pack == 0
        assert got.suggested_qty >= max(moq, target - position)
        assert got.suggested_qty < max(moq, target - position) + pack


def test_positions_without_a_usable_forecast_or_with_impossible_numbers_are_listed() -> None:
    totals = normal_totals("A", daily_mean=1, daily_sd=0, days=20)
    positions = pl.DataFrame(
        {
            "unique_id": ["A", "B"],
            "lead_time_days": [20, 1],
        }
    )
    found = suggest(totals, positions, as_of=END)
    assert found.suggestions.height == 0
    assert found.exceptions.select("unique_id", "code").rows() == [("A", "horizon_too_short"), ("B", "no_forecast")]
    assert "27 days is longer than the forecast of 20 days" in found.exceptions["message_en"][0]
    wrong = suggest(totals, pl.DataFrame({"unique_id": ["A"], "pack_qty": [0]}), as_of=END)
    assert wrong.exceptions["value"].to_list() == ["pack_qty 0 < 1"]
    with pytest.raises(BadSetting):
        suggest(totals, positions, as_of=END, cycle_service_ratio=1.0)
    with pytest.raises(BadFrame, match="one row per unique_id"):
        suggest(totals, pl.concat([positions, positions]), as_of=END)
    with pytest.raises(BadFrame, match="one row for each of the days"):
        suggest(totals.filter(pl.col("horizon_days") != 3), positions, as_of=END)


def test_pandas_in_pandas_out() -> None:
    totals = normal_totals("A", daily_mean=2, daily_sd=1, days=20).to_pandas()
    found = suggest(totals, pd.DataFrame({"unique_id": ["A"]}), as_of=END)
    assert isinstance(found.suggestions, pd.DataFrame)
    assert int(found.suggestions["suggested_qty"][0]) > 0


def test_quantile_levels_and_columns_belong_together() -> None:
    assert len(QUANTILES) == len(QUANTILE_COLUMNS) == len(Z)
    assert QUANTILE_COLUMNS[0] == "q05"
    assert np.all(np.diff(QUANTILES) > 0)
