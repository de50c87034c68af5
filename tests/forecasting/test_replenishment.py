from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.errors import BadFrame, BadSetting
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES, plan_demand
from forecasting.joint import Route
from forecasting.levels import textbook_order_up_to
from forecasting.marginal import Paths
from forecasting.quantities import order_quantity
from forecasting.reasons import sentences
from forecasting.replenishment import PARTS, OrderSettings, Suggestions, suggest
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
    assert [row[part] for part in PARTS if row[part]] == [160, 27, -180, 13, 4]
    assert (row["on_hand_part_qty"], row["moq_part_qty"], row["pack_part_qty"]) == (-180, 13, 4)
    assert row["suggested_qty"] == 24
    assert {"below_target", "moq_applied", "pack_rounded"} <= set(row["reason_codes"])


def test_enough_stock_orders_nothing_and_says_how_much_is_above_the_target() -> None:
    row = one({"lead_time_days": 9, "on_hand_qty": 200, "moq_qty": 50})
    assert row["suggested_qty"] == 0
    assert row["surplus_part_qty"] == 13
    assert sum(row[part] for part in PARTS) == 0
    assert row["reason_codes"] == ["enough_stock", "by_cycle_service"]


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


# --------------------------------------------------------------------------------------------------- over the paths


def weeks_of(*series: np.ndarray, ids: tuple[str, ...] = ("A",)) -> Paths:
    return Paths(ids, END + timedelta(days=1), np.stack(series), 7)


def by_paths(paths: Paths, *positions: dict[str, object], **options: object) -> Suggestions:
    rows = [{"unique_id": name, **position} for name, position in zip(paths.unique_ids, positions, strict=True)]
    return suggest(None, pl.DataFrame(rows, infer_schema_length=None), as_of=END, paths=paths, **options)  # type: ignore[arg-type]


def first(found: Suggestions) -> dict[str, object]:
    assert found.exceptions.height == 0, found.exceptions.to_dicts()
    row = found.suggestions.row(0, named=True)
    assert sum(row[part] for part in PARTS) == row["suggested_qty"]
    return row


POISSON = np.random.default_rng(7).poisson(20, size=(400, 8)).astype(float)
VN2 = {"lead_time_days": 14, "review_period_days": 7, "weekly_holding_cost_cents": 0.2, "shortage_cost_cents": 1.0}


def test_the_vn2_rules_one_week_decides_and_the_lost_sales_before_it_are_not_bought_again() -> None:
    # ordered now it can be sold in week three; a unit kept costs 0.2, one missed 1.0: P(enough) = 1 / 1.2
    row = first(by_paths(weeks_of(POISSON), {**VN2, "on_hand_qty": 30}))
    stock, lost = np.full(400, 30.0), np.zeros(400)
    for week in (0, 1):
        lost += np.maximum(POISSON[:, week] - stock, 0)
        stock = np.maximum(stock - POISSON[:, week], 0)
    short_of = POISSON[:, 2] - stock
    costs = [np.mean(0.2 * np.maximum(q - short_of, 0) + np.maximum(short_of - q, 0)) for q in range(60)]
    assert row["suggested_qty"] == int(np.argmin(costs))
    assert row["lost_part_qty"] == -math.floor(lost.mean() + 0.5)
    facts = json.loads(str(row["facts"]))
    assert facts["until_arrival_demand_qty"] == round(POISSON[:, :2].sum(axis=1).mean(), 2)
    assert (facts["free_now_qty"], facts["coming_before_qty"]) == (30, 0)
    assert (facts["short_futures"], facts["futures"]) == ((lost > 0).sum(), 400)
    assert (facts["missed_qty"], facts["lost_mean_qty"]) == (round(lost[lost > 0].mean(), 2), round(lost.mean(), 2))
    assert row["target"] == "cost"
    assert row["cycle_service_ratio"] == pytest.approx(1 / 1.2, abs=0.06)
    assert row["expected_saving_cents"] == pytest.approx(costs[0] - min(costs), abs=1e-3)
    assert "by_cost" in row["reason_codes"]


def test_units_on_the_way_count_from_the_week_in_which_they_come() -> None:
    paths, here = weeks_of(POISSON), {**VN2, "on_hand_qty": 0, "on_order_qty": 40}
    coming = pl.DataFrame({"unique_id": ["A"], "ds": [END + timedelta(days=14)], "qty": [40]})
    early = first(by_paths(paths, here, on_order=coming.with_columns(ds=pl.lit(END))))
    late = first(by_paths(paths, here, on_order=coming))
    assert early["suggested_qty"] > 20  # the forty are sold in the two weeks before
    assert late["suggested_qty"] == 0  # they come when this order would, and are more than that week takes
    coming_before = [json.loads(str(row["facts"])).get("coming_before_qty") for row in (early, late)]
    assert coming_before == [40, 0]
    never = first(by_paths(paths, here, on_order=coming.with_columns(ds=pl.lit(END + timedelta(days=40)))))
    assert never["late_part_qty"] == 40
    assert "on_order_late" in never["reason_codes"]


def test_targets_by_name_over_paths() -> None:
    paths = weeks_of(POISSON)
    waits = OrderSettings(shortage="backordered")
    at = {"lead_time_days": 14, "review_period_days": 7, "on_hand_qty": 0}
    whole = POISSON[:, :3].sum(axis=1)
    service = first(by_paths(paths, at, target="cycle_service", cycle_service_ratio=0.9, settings=waits))
    assert service["suggested_qty"] == math.ceil(np.quantile(whole, 0.9))
    assert (service["target"], service["cycle_service_ratio"]) == ("cycle_service", 0.9)
    filled = first(by_paths(paths, {**at, "fill_rate_ratio": 0.97}, target="fill_rate", settings=waits))
    before = POISSON[:, :2].sum(axis=1)

    def served(level: float) -> float:
        short = np.maximum(whole - level, 0).mean() - np.maximum(before - level, 0).mean()
        return 1 - short / POISSON[:, 2].mean()

    assert served(filled["suggested_qty"]) >= 0.97 > served(filled["suggested_qty"] - 1)
    assert filled["suggested_qty"] < service["suggested_qty"]
    assert "by_fill_rate" in filled["reason_codes"]
    unknown = first(by_paths(paths, at))  # nobody said what anything costs
    assert unknown["target"] == "cycle_service"
    assert "cost_unknown" in unknown["reason_codes"]


def test_costs_nobody_gave_come_from_the_unit_cost_and_are_told() -> None:
    row = first(by_paths(weeks_of(POISSON), {**VN2, "weekly_holding_cost_cents": None, "shortage_cost_cents": None,
                                             "unit_cost_cents": 520.0, "unit_price_cents": 800.0}))  # fmt: skip
    assert row["weekly_holding_cost_cents"] == pytest.approx(520 * 0.25 / 52)
    assert row["shortage_cost_cents"] == 280
    share = first(by_paths(weeks_of(POISSON), {"lead_time_days": 14, "unit_cost_cents": 520.0}))
    assert share["shortage_cost_cents"] == 260


def test_by_cost_from_stored_totals_is_the_newsvendor_too() -> None:
    row = one(
        {"lead_time_days": 9, "review_period_days": 1, "on_hand_qty": 0, "weekly_holding_cost_cents": 7.0,
         "shortage_cost_cents": 133.0},
        target="cost",
        settings=OrderSettings(shortage="backordered"),
    )  # fmt: skip
    # a day's holding 1, a week's waiting 133 is 19 a day: the 95 % quantile of ten days of N(10, 4²)
    assert row["order_up_to_qty"] == pytest.approx(100 + 1.645 * 4 * math.sqrt(10), abs=1)


def test_a_wider_lead_time_needs_more_stock() -> None:
    daily_paths = Paths(("A", "B"), END + timedelta(days=1), np.full((2, 200, 40), 10.0))
    found = by_paths(
        daily_paths,
        {**VN2, "lead_times_days": None, "on_hand_qty": 0},
        {**VN2, "lead_times_days": [7, 10, 14, 25], "on_hand_qty": 0},
        settings=OrderSettings(shortage="backordered"),
    )
    sure, spread = found.suggestions.rows(named=True)
    assert spread["suggested_qty"] > sure["suggested_qty"]
    assert "lead_time_spread" in spread["reason_codes"]
    assert spread["cycle_service_ratio"] <= 0.8 or spread["suggested_qty"] == 320


def test_before_new_year_more_is_ordered_and_not_on_a_closed_day() -> None:
    totals = normal_totals("LAMP@HEL", daily_mean=10, daily_sd=0, days=60)
    shut = pl.DataFrame({"supplier_code": "ACME", "ds": [END + timedelta(days=d) for d in range(5, 17)]})
    at = {"unique_id": "LAMP@HEL", "supplier_code": "ACME", "lead_time_days": 7, "on_hand_qty": 0}
    usual = suggest(totals, pl.DataFrame([at]), as_of=END).suggestions.row(0, named=True)
    found = suggest(totals, pl.DataFrame([at]), as_of=END, closed_days=shut).suggestions.row(0, named=True)
    # ordered today it comes on day 19 (7 days worked); the next review is held on day 17 and comes on day 24
    assert (usual["suggested_qty"], usual["protection_interval_days"]) == (140, 14)
    assert (found["suggested_qty"], found["protection_interval_days"]) == (240, 24)
    assert found["arrival_date"] == END + timedelta(days=19)
    assert "supplier_closed" in found["reason_codes"]
    closed_now = suggest(totals, pl.DataFrame([at]), as_of=END + timedelta(days=6), closed_days=shut)
    assert closed_now.suggestions["order_date"].to_list() == [END + timedelta(days=17)]
    # 170 last 17 days: 7 days of lead time would do with an order on day 10; the shop is closed then, and work stops
    ample = suggest(totals, pl.DataFrame([{**at, "on_hand_qty": 170}]), as_of=END, closed_days=shut)
    assert ample.suggestions["order_by_date"].item() == END
    free = suggest(totals, pl.DataFrame([{**at, "on_hand_qty": 170}]), as_of=END)
    assert free.suggestions["order_by_date"].item() == END + timedelta(days=10)


def test_where_nothing_is_ordered_the_day_is_not_before_the_next_review() -> None:
    at = {"lead_time_days": 9, "review_period_days": 7, "supplier_code": "ACME", "unit_cost_cents": 500.0}
    # 60 lacks 126 to 187 and lies below the reorder point of 110; the supplier wants more than that is worth
    least = pl.DataFrame({"supplier_code": ["ACME"], "min_order_cents": [10_000_000]})
    waits = one({**at, "on_hand_qty": 60}, suppliers=least)
    assert (waits["suggested_qty"], waits["order_by_date"]) == (0, END + timedelta(days=7))
    closed = pl.DataFrame({"supplier_code": "ACME", "ds": [END + timedelta(days=d) for d in (7, 8)]})
    assert one({**at, "on_hand_qty": 60}, suppliers=least, closed_days=closed)["order_by_date"] == END + timedelta(
        days=9
    )
    cut = one({**at, "on_hand_qty": 60}, budget_cents=0.0)
    assert (cut["suggested_qty"], cut["order_by_date"]) == (0, END)  # it would have been ordered: it is late
    assert one({**at, "on_hand_qty": 60})["order_by_date"] == END


@pytest.mark.parametrize(("lead", "review", "closed"), [(14, 1, [14]), (14, 2, [14, 15]), (9, 7, range(3, 40))])
def test_two_reviews_before_closed_days_whose_orders_come_on_one_day(lead: int, review: int, closed: list[int]) -> None:
    shut = pl.DataFrame({"supplier_code": "ACME", "ds": [END + timedelta(days=d) for d in closed]})
    at = {"lead_time_days": lead, "review_period_days": review, "supplier_code": "ACME", "on_hand_qty": 20,
          "unit_cost_cents": 500.0, "unit_price_cents": 900.0}  # fmt: skip
    row = one(at, closed_days=shut, target="cost")
    assert row["suggested_qty"] == sum(row[part] for part in PARTS) > 0  # type: ignore[call-overload,operator,misc]


def test_minimum_packs_and_waiting_by_cost() -> None:
    paths = weeks_of(POISSON)
    at = {**VN2, "on_hand_qty": 40}
    bare = first(by_paths(paths, at))
    assert 20 <= bare["suggested_qty"] <= 27
    down = first(by_paths(paths, {**at, "pack_qty": bare["suggested_qty"] - 1}))
    assert down["suggested_qty"] == bare["suggested_qty"] - 1
    assert "pack_rounded_down" in down["reason_codes"]
    huge = first(by_paths(paths, {**at, "moq_qty": 500}))
    assert huge["suggested_qty"] == 0
    assert huge["wait_part_qty"] == -500
    assert "wait_cheaper" in huge["reason_codes"]
    dear = first(by_paths(paths, {**at, "moq_qty": 500, "shortage_cost_cents": 50.0}))
    assert dear["suggested_qty"] == 500


def test_a_dear_order_is_placed_seldom_and_for_more() -> None:
    paths = Paths(("A",), END + timedelta(days=1), np.full((1, 20, 60), 10.0))
    at = {"lead_time_days": 7, "unit_cost_cents": 364.0, "on_hand_qty": 0, "order_cost_cents": 5000.0}
    row = first(by_paths(paths, at))
    # EOQ = √(2 · 5000 · 3640 / 91) = 632 units
    assert row["suggested_qty"] == 632
    assert row["lot_part_qty"] == 632 - (70 + 70 - 70)
    assert "lot_for_order_cost" in row["reason_codes"]
    assert first(by_paths(paths, {**at, "shelf_life_days": 28}))["suggested_qty"] <= 280


def test_a_price_break_is_taken_where_it_saves_more_than_it_ties_up() -> None:
    paths = Paths(("A",), END + timedelta(days=1), np.full((1, 20, 60), 10.0))
    at = {"lead_time_days": 7, "unit_cost_cents": 100.0, "on_hand_qty": 0, "shortage_cost_cents": 50.0}
    breaks = '[{"min_qty": 300, "unit_cost_cents": 95}, {"min_qty": 5000, "unit_cost_cents": 94.9}]'
    row = first(by_paths(paths, {**at, "price_breaks": breaks}))
    assert row["suggested_qty"] == 300  # a year's 3,640 units 5 cheaper, half of 300 in stock at 25 %
    assert row["unit_cost_cents"] == 95
    assert row["price_break_part_qty"] == 300 - 70
    slight = '[{"min_qty": 1500, "unit_cost_cents": 99.9}]'
    assert first(by_paths(paths, {**at, "price_breaks": slight}))["suggested_qty"] == 70


def test_s_S_r_Q_and_min_max_where_asked() -> None:
    paths = weeks_of(POISSON)
    at = {**VN2, "order_cost_cents": 20.0}
    low = first(by_paths(paths, {**at, "policy": "s_S", "on_hand_qty": 10}))
    assert "by_s_S" in low["reason_codes"]
    facts = json.loads(low["facts"])
    assert low["suggested_qty"] == facts["max_qty"] - 10
    enough = first(by_paths(paths, {**at, "policy": "s_S", "on_hand_qty": facts["reorder_at_qty"] + 1}))
    assert enough["suggested_qty"] == 0
    at_s = first(by_paths(paths, {**at, "policy": "s_S", "on_hand_qty": facts["reorder_at_qty"]}))
    assert at_s["suggested_qty"] == facts["max_qty"] - facts["reorder_at_qty"]
    lots = first(by_paths(paths, {**at, "policy": "R_Q", "on_hand_qty": 0}))
    facts = json.loads(lots["facts"])
    assert lots["suggested_qty"] % facts["lot_qty"] == 0
    assert facts["reorder_at_qty"] < lots["suggested_qty"] <= facts["reorder_at_qty"] + facts["lot_qty"]
    given_min = first(by_paths(paths, {**at, "min_qty": 30, "max_qty": 50, "on_hand_qty": 29}))
    assert given_min["suggested_qty"] == 21
    assert first(by_paths(paths, {**at, "min_qty": 30, "max_qty": 50, "on_hand_qty": 30}))["suggested_qty"] == 0


def test_cheap_and_poorly_forecast_products_go_by_min_and_max_alone() -> None:
    paths = weeks_of(POISSON, POISSON, POISSON, ids=("A", "B", "C"))
    at = {**VN2, "on_hand_qty": 0, "unit_cost_cents": 10.0}
    choices = pl.DataFrame(
        {"unique_id": ["A", "B", "C"], "grade": ["A", "D", "D"], "reason_codes": [["new"]] * 3, "facts": ["{}"] * 3}
    )
    found = by_paths(
        paths,
        at,
        at,
        {**at, "unit_cost_cents": 1e6},
        choices=choices,
        settings=OrderSettings(min_max_value_cents=5_000),
    )
    trusted, cheap, dear = found.suggestions.rows(named=True)
    assert "min_max" in cheap["reason_codes"]
    assert "min_max" not in trusted["reason_codes"] + dear["reason_codes"]
    assert cheap["lot_part_qty"] == pytest.approx(80, abs=2)  # four weeks of 20 above min
    assert sum(cheap[part] for part in PARTS) == cheap["suggested_qty"] > trusted["suggested_qty"]


def test_one_order_to_a_supplier_is_raised_or_waits() -> None:
    paths = weeks_of(POISSON, POISSON / 10, ids=("A", "B"))
    fast = {**VN2, "supplier_code": "ACME", "unit_cost_cents": 100.0, "on_hand_qty": 40, "shortage_cost_cents": 60.0}
    slow = {**fast, "on_hand_qty": 9}
    least = pl.DataFrame({"supplier_code": ["ACME", "BOLT"], "min_order_cents": [6_000, 10]})
    alone = by_paths(paths, fast, slow).suggestions
    assert 0 < (alone["suggested_qty"] * 100).sum() < 6_000
    found = by_paths(paths, fast, slow, suppliers=least)
    rows = found.suggestions.rows(named=True)
    assert (found.suggestions["suggested_qty"] * 100).sum() >= 6_000
    assert rows[0]["joint_part_qty"] > 0
    assert rows[1]["joint_part_qty"] == 0  # eight weeks of it would be there
    for row in rows:
        assert sum(row[part] for part in PARTS) == row["suggested_qty"]
    assert found.suppliers.select("supplier_code", "decision", "order_value_cents").rows() == [
        ("ACME", "raised", 6000.0)
    ]
    waits = by_paths(paths, fast, slow, suppliers=least.with_columns(min_order_cents=pl.lit(9_000_000)))
    assert waits.suggestions["suggested_qty"].sum() == 0
    assert waits.suppliers["decision"].to_list() == ["waited"]
    assert "joint_waits" in waits.suggestions["reason_codes"][0]


def test_a_budget_and_a_transfer_are_parts_of_the_sum() -> None:
    paths = weeks_of(POISSON, POISSON, ids=("LAMP@HEL", "LAMP@TRE"))
    at = {**VN2, "sku": "LAMP", "unit_cost_cents": 100.0, "weekly_holding_cost_cents": 2.0, "shortage_cost_cents": 60.0}
    here, there = {**at, "location_code": "HEL", "on_hand_qty": 400}, {**at, "location_code": "TRE", "on_hand_qty": 40}
    bare = by_paths(paths, here, there).suggestions["suggested_qty"].to_list()
    assert bare[0] == 0 < bare[1]
    moved = by_paths(paths, here, there, routes=[Route("HEL", "TRE", 5.0)])
    assert moved.suggestions["suggested_qty"].to_list() == [0, 0]
    assert moved.suggestions["transfer_part_qty"].to_list() == [0, -bare[1]]
    assert moved.transfers.select("from_unique_id", "to_unique_id", "supply_kind", "transfer_qty").rows() == [
        ("LAMP@HEL", "LAMP@TRE", "transfer", bare[1])
    ]
    assert by_paths(paths, here, there, routes=[Route("HEL", "TRE", 500.0)]).transfers.height == 0
    tight = by_paths(paths, here, there, budget_cents=1_000.0).suggestions.row(1, named=True)
    assert tight["suggested_qty"] == 10
    assert tight["budget_part_qty"] == 10 - bare[1]
    assert sum(tight[part] for part in PARTS) == 10


def test_a_supplier_whose_order_the_budget_cuts_below_its_least_value_gets_none() -> None:
    at = {**VN2, "supplier_code": "ACME", "unit_cost_cents": 100.0, "on_hand_qty": 40, "shortage_cost_cents": 60.0}
    least = pl.DataFrame({"supplier_code": ["ACME"], "min_order_cents": [2_000]})
    found = by_paths(weeks_of(POISSON), at, suppliers=least, budget_cents=1_500.0)
    row = found.suggestions.row(0, named=True)
    assert row["suggested_qty"] == 0 == sum(row[part] for part in PARTS)
    assert "budget_cut" in row["reason_codes"]


def test_a_budget_by_currency_limits_orders_in_that_currency_alone() -> None:
    paths = weeks_of(POISSON, POISSON, POISSON, ids=("CUP", "LAMP", "RUG"))
    at = {**VN2, "unit_cost_cents": 100.0, "shortage_cost_cents": 60.0, "on_hand_qty": 40}
    asked = tuple({**at, "currency": currency} for currency in ("CNY", "EUR", None))
    free = by_paths(paths, *asked).suggestions["suggested_qty"].to_list()
    assert min(free) > 10
    limited = by_paths(paths, *asked, budget_cents={"EUR": 1_000, "USD": 0}).suggestions["suggested_qty"].to_list()
    assert limited == [free[0], 10, free[2]]
    assert by_paths(paths, *asked, budget_cents=0.0).suggestions["suggested_qty"].to_list() == [0, 0, 0]
    codes = by_paths(paths, *asked, budget_cents={"EUR": 1_000}).suggestions["reason_codes"].to_list()
    assert ["budget_cut" in row for row in codes] == [False, True, False]
    assert ["budget_unknown" in row for row in codes] == [False, False, True], "no currency: it can't count"
    for wrong in (-1.0, math.nan, {"EUR": math.inf}):
        with pytest.raises(BadSetting, match="budget_cents"):
            by_paths(paths, *asked, budget_cents=wrong)


def test_a_suppliers_least_value_counts_its_lines_of_every_currency_under_a_budget() -> None:
    paths = weeks_of(POISSON, POISSON, ids=("CUP", "LAMP"))
    at = {**VN2, "supplier_code": "ACME", "unit_cost_cents": 100.0, "shortage_cost_cents": 60.0, "on_hand_qty": 40}
    asked = tuple({**at, "currency": currency} for currency in ("CNY", "EUR"))
    free = by_paths(paths, *asked).suggestions["suggested_qty"].to_list()
    least = pl.DataFrame({"supplier_code": ["ACME"], "min_order_cents": [100 * sum(free)]})
    roomy = by_paths(paths, *asked, suppliers=least, budget_cents={"CNY": 10**9}).suggestions
    assert roomy["suggested_qty"].to_list() == free
    tight = by_paths(paths, *asked, suppliers=least, budget_cents={"CNY": 1_000}).suggestions
    assert tight["suggested_qty"].to_list() == [0, 0], "cut in one currency, the supplier takes neither"


@pytest.mark.parametrize("kept_ratio", [0.9, 0.3])
def test_what_we_make_neither_fills_nor_falls_under_a_suppliers_least_value(kept_ratio: float) -> None:
    """The supplier who could sell what we make is not ordered from, so only the bought line counts for him."""
    paths = weeks_of(POISSON, POISSON, ids=("BOUGHT", "MADE"))
    at = {**VN2, "supplier_code": "ACME", "unit_cost_cents": 100.0, "on_hand_qty": 40, "shortage_cost_cents": 60.0}
    both = at, {**at, "supply_kind": "production"}
    values = (by_paths(paths, *both).suggestions["suggested_qty"] * 100).to_list()
    least = pl.DataFrame({"supplier_code": ["ACME"], "min_order_cents": [values[0]]})
    budget = kept_ratio * sum(values)
    found = by_paths(paths, *both, suppliers=least, budget_cents=budget)
    bought, made = found.suggestions.rows(named=True)
    assert bought["suggested_qty"] == 0, "cut below the least value, whatever is made besides"
    assert made["suggested_qty"] * 100 == min(values[1], budget // 100 * 100), "what the supplier leaves is spent on it"
    (supplier,) = found.suppliers.rows(named=True)
    assert (supplier["decision"], supplier["lines"], supplier["order_value_cents"]) == ("beyond_budget", 0, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    mean=st.floats(0.05, 60),
    lead=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    moq=st.sampled_from([1, 7, 90]),
    pack=st.sampled_from([1, 6, 24]),
    order_cost=st.sampled_from([0.0, 300.0]),
    breaks=st.sampled_from([None, '[{"min_qty": 60, "unit_cost_cents": 80}]']),
    target=st.sampled_from(["cost", "cycle_service", "fill_rate"]),
    shortage=st.sampled_from(["lost", "backordered"]),
    shelf=st.sampled_from([None, 10, 200]),
)
def test_laws(  # type: ignore[no-untyped-def]
    seed, mean, lead, moq, pack, order_cost, breaks, target, shortage, shelf
) -> None:
    """More on hand never orders more, a dearer shortage never less; parts sum, nothing is NaN, minimum and pack hold."""
    rng = np.random.default_rng(seed)
    ids = tuple(f"S{i}" for i in range(6))
    y = np.repeat(rng.negative_binomial(2, 2 / (2 + mean / 7), size=(1, 40, 45)).astype(float), 6, axis=0)
    stock = sorted(int(x) for x in rng.integers(0, 6 * mean + 5, size=3))
    short = sorted(float(x) for x in rng.uniform(1, 300, size=3))
    at = {"lead_time_days": lead[0], "lead_times_days": lead, "moq_qty": moq, "pack_qty": pack, "unit_cost_cents": 100.0,
          "order_cost_cents": order_cost, "price_breaks": breaks, "target": target, "shelf_life_days": shelf}  # fmt: skip
    positions = [{**at, "on_hand_qty": x, "shortage_cost_cents": 40.0} for x in stock]
    positions += [{**at, "on_hand_qty": stock[0], "shortage_cost_cents": x} for x in short]
    found = by_paths(
        Paths(ids, END + timedelta(days=1), y),
        *positions,
        settings=OrderSettings(shortage=shortage),
        fill_rate_ratio=0.9,
    )
    assert found.exceptions.height == 0
    qty = found.suggestions["suggested_qty"].to_list()
    assert qty[0] >= qty[1] >= qty[2]
    assert qty[3] <= qty[4] <= qty[5]
    for row in found.suggestions.rows(named=True):
        assert sum(row[part] for part in PARTS) == row["suggested_qty"] >= 0
        assert row["suggested_qty"] == 0 or (row["suggested_qty"] >= moq and row["suggested_qty"] % pack == 0)
        assert 0 < row["cycle_service_ratio"] < 1
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
        for language in ("zh", "en"):
            assert all("{" not in text for text in sentences(row["reason_codes"], row["facts"], language))


def test_one_bad_position_never_stops_the_others() -> None:
    y = np.stack([POISSON] * 9)
    y[1, 3, 2] = np.nan
    y[2, 0, 0] = -1
    rows = [{**VN2, "on_hand_qty": 3, "unit_cost_cents": 5.0} for _ in range(9)]
    rows[3]["price_breaks"] = "soon"
    rows[4]["lead_times_days"] = [3, -1]
    rows[5]["unit_cost_cents"] = float("nan")
    rows[6]["target"] = "hope"
    rows[7]["lead_time_days"] = 60
    found = by_paths(Paths(tuple("ABCDEFGHI"), END + timedelta(days=1), y, 7), *rows)
    assert found.suggestions["unique_id"].to_list() == ["A", "I"]
    assert dict(found.exceptions.select("unique_id", "code").rows()) == {
        "B": "bad_forecast", "C": "bad_forecast", "D": "bad_position", "E": "bad_position", "F": "bad_position",
        "G": "bad_position", "H": "horizon_too_short",
    }  # fmt: skip
    text = pl.DataFrame({"unique_id": ["A", "I"], "lead_time_days": ["7 days", "14"]})
    read = suggest(None, text, as_of=END, paths=Paths(("A", "I"), END + timedelta(days=1), y[[0, 8]], 7))
    assert read.exceptions.select("unique_id", "value").rows() == [("A", "lead_time_days 7 days")]
    assert read.suggestions["unique_id"].to_list() == ["I"]


def test_a_lead_time_nobody_gave_is_flagged() -> None:
    row = first(by_paths(weeks_of(POISSON), {"lead_time_days": None, "on_hand_qty": 0}))
    assert row["lead_time_days"] == 7
    assert "lead_time_default" in row["reason_codes"]


def test_paths_that_do_not_fit_the_call_are_refused() -> None:
    at = pl.DataFrame({"unique_id": ["A"]})
    for paths, words in (
        (Paths(("A",), END, POISSON[None], 7), "must start on the day after"),
        (Paths(("A", "B"), END + timedelta(days=1), POISSON[None], 7), "with 2 series"),
        (Paths(("A", "A"), END + timedelta(days=1), np.stack([POISSON] * 2), 7), "must differ"),
    ):
        with pytest.raises(BadFrame, match=words):
            suggest(None, at, as_of=END, paths=paths)
    with pytest.raises(BadFrame, match="totals must be given"):
        suggest(None, at, as_of=END)
    with pytest.raises(BadSetting, match="target must be one of"):
        suggest(None, at, as_of=END, target="luck")  # type: ignore[arg-type]


def test_the_same_call_twice_gives_the_same_bytes_whatever_the_order_of_rows() -> None:
    paths = weeks_of(POISSON, POISSON[::-1] * 2, ids=("A", "B"))
    at = {**VN2, "on_hand_qty": 3, "lead_times_days": [7, 14, 20]}
    one_way = by_paths(paths, at, at).suggestions
    other = suggest(
        None,
        pl.DataFrame([{"unique_id": "B", **at}, {"unique_id": "A", **at}]),
        as_of=END,
        paths=Paths(("B", "A"), paths.start, paths.y[::-1], 7),
    ).suggestions
    assert one_way.equals(other)
