"""Cases 63–75 of the bad-input list: what a planner's history may hold, and what comes of it."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.demand import History, complete_calendar, read_history
from forecasting.errors import BadFrame, DuplicateDays, MonthlyRows
from forecasting.forecast import QUANTILE_COLUMNS, DemandPlan, PlanSettings, plan_batches, plan_demand
from forecasting.replenishment import suggest
from tests.conftest import StatedCount
from tests.forecasting.builders import END, daily, weekly_pattern

GOOD = daily("GOOD@HEL", weekly_pattern(30))


def choice(plan: DemandPlan, unique_id: str) -> dict[str, object]:
    return plan.choices.row(by_predicate=pl.col("unique_id") == unique_id, named=True)


def codes(plan: DemandPlan, unique_id: str) -> list[str]:
    return plan.exceptions.filter(pl.col("unique_id") == unique_id)["code"].to_list()


def total(plan: DemandPlan, unique_id: str, days: int) -> dict[str, float]:
    return plan.totals.row(
        by_predicate=(pl.col("unique_id") == unique_id) & (pl.col("horizon_days") == days), named=True
    )


def test_case_63_all_zeros_forecast_zero_with_no_safety_stock_and_say_so() -> None:
    plan = plan_demand(pl.concat([GOOD, daily("ZERO@HEL", [0.0] * 200)]), as_of=END)
    row = choice(plan, "ZERO@HEL")
    assert row["model"] == "no_demand"
    assert "no_demand" in row["reason_codes"]
    assert row["wape_ratio"] is None
    assert row["rmsse"] is None
    zero = plan.totals.filter(pl.col("unique_id") == "ZERO@HEL")
    assert zero.select("mean", *QUANTILE_COLUMNS).to_numpy().sum() == 0.0
    positions = pl.DataFrame({"unique_id": ["ZERO@HEL"], "on_hand_qty": [0], "moq_qty": [10]})
    bought = suggest(plan.totals, positions, as_of=END, choices=plan.choices).suggestions.row(0, named=True)
    assert (bought["suggested_qty"], bought["safety_stock_qty"], bought["order_by_date"]) == (0, 0, None)
    assert "no_demand" in bought["reason_codes"]


def test_case_65_an_item_without_history_is_listed_or_follows_the_prior_it_was_given() -> None:
    items = pl.DataFrame({"unique_id": ["NEW@HEL", "PRIOR@HEL"], "prior_daily_qty": [None, 2.0]})
    plan = plan_demand(GOOD, as_of=END, items=items)
    assert codes(plan, "NEW@HEL") == ["empty_history"]
    assert "NEW@HEL" not in plan.choices["unique_id"]
    assert total(plan, "PRIOR@HEL", 28)["mean"] == 56.0
    assert total(plan, "PRIOR@HEL", 28)["q05"] < 56.0 < total(plan, "PRIOR@HEL", 28)["q95"]
    assert choice(plan, "PRIOR@HEL")["grade"] == "D"
    bought = suggest(plan.totals, items.select("unique_id"), as_of=END)
    assert bought.exceptions.select("unique_id", "code").rows() == [("NEW@HEL", "no_forecast")]


def test_case_65_no_history_at_all_gives_empty_frames_with_all_their_columns() -> None:
    plan = plan_demand(GOOD.clear(), as_of=END)
    assert plan.forecasts.height == plan.totals.height == plan.choices.height == plan.exceptions.height == 0
    assert "q95" in plan.totals.columns
    assert "cutoff" in plan.backtest.columns


def test_case_66_negative_values_count_as_zero_and_are_counted() -> None:
    values = weekly_pattern(30)
    clean = plan_demand(daily("A", [0.0, *values[1:]]), as_of=END)
    netted = plan_demand(daily("A", [-4.0, *values[1:]]), as_of=END)
    assert netted.counts["rows_clipped"] == 1
    found = netted.exceptions.row(0, named=True)
    assert (found["code"], found["rows"], found["value"], found["is_blocking"]) == (
        "negative_clipped",
        1,
        "-4.0",
        False,
    )
    assert_frame_equal(clean.totals, netted.totals)


def test_case_67_missing_days_are_zero_but_closed_days_and_stock_outs_are_not() -> None:
    values = [4.0, None, 6.0, 0.0, 4.0, None, 2.0, 4.0, None, 0.0, 0.0, 4.0, None, 2.0]
    history = read_history(daily("A", values, censored=[9]), as_of=END)  # the second week's third day ran out at 0
    closed = END - timedelta(days=1)  # its sixth day
    frame = complete_calendar(history, closed_dates=[closed]).frame()
    assert frame.height == 14
    kinds = frame["day_kind"].to_list()
    assert kinds[1] == "no_row"
    assert kinds[9] == "stock_out"
    assert kinds[12] == "closed"
    assert frame["y"].to_list()[9] == 0.0
    assert frame["demand_estimate_qty"].to_list()[9] == 6.0  # the same weekday before, in stock
    assert frame["is_censored"].sum() == 1
    early = complete_calendar(history, start=history.rows["ds"].min() - timedelta(days=9))  # that of the oldest series
    assert early.y.shape[1] == complete_calendar(history).y.shape[1] + 9
    assert not early.y[:, :9].any()
    unrecorded = complete_calendar(read_history(daily("A", values), as_of=END)).frame()
    assert unrecorded["is_censored"].is_null().all()


def test_case_67_a_stock_out_does_not_teach_that_nobody_wants_it() -> None:
    values = [5.0] * 210
    gone = list(range(180, 210))
    empty = [0.0 if i in gone else v for i, v in enumerate(values)]
    blind = plan_demand(daily("A", empty), as_of=END)
    seeing = plan_demand(daily("A", empty, censored=gone), as_of=END)
    assert total(seeing, "A", 28)["mean"] == pytest.approx(140.0, abs=0.01)
    assert total(blind, "A", 28)["mean"] < 70
    assert "stock_out_days_estimated" in choice(seeing, "A")["reason_codes"]
    assert "stock_outs_unknown" in choice(blind, "A")["reason_codes"]


def test_case_68_duplicate_days_are_refused_unless_they_may_be_summed() -> None:
    values = weekly_pattern(30)
    halves = pl.concat([daily("A", [v / 2 for v in values])] * 2)
    with pytest.raises(DuplicateDays, match="210 rows repeat") as refused:
        plan_demand(halves, as_of=END)
    assert refused.value.rows == 210
    assert refused.value.unique_id == "A"
    summed = plan_demand(halves, as_of=END, duplicates="sum")
    assert summed.counts["rows_summed"] == 210
    assert codes(summed, "A") == ["duplicates_summed"]
    assert_frame_equal(summed.totals, plan_demand(daily("A", values), as_of=END).totals)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "twelve", None])
def test_case_69_a_bad_value_takes_out_its_series_and_the_others_go_on(bad: str | None) -> None:
    text = pl.concat([GOOD, daily("BAD@HEL", weekly_pattern(30))]).with_columns(
        y=pl.when((pl.col("unique_id") == "BAD@HEL") & (pl.col("ds") == END))
        .then(pl.lit(bad, dtype=pl.String))
        .otherwise(pl.col("y").cast(pl.String))
    )
    plan = plan_demand(text, as_of=END)
    found = plan.exceptions.filter(pl.col("is_blocking")).row(0, named=True)
    assert (found["unique_id"], found["ds"], found["code"]) == ("BAD@HEL", END, "bad_value")
    assert found["value"] == bad
    assert plan.counts["series_quarantined"] == 1
    assert_frame_equal(plan.totals, plan_demand(GOOD, as_of=END).totals)


def test_case_69_a_series_of_bad_values_is_one_finding_however_long() -> None:
    text = daily("BAD@HEL", weekly_pattern(30)).with_columns(y=pl.lit("1,200"))
    found = plan_demand(text, as_of=END).exceptions.select("unique_id", "ds", "code", "value", "rows").rows()
    assert found == [("BAD@HEL", text["ds"].min(), "bad_value", "1,200", 210)]


def test_case_69_numbers_and_words_mixed_in_a_pandas_column() -> None:
    frame = pl.concat([GOOD, daily("BAD@HEL", weekly_pattern(30))]).to_pandas()
    frame["y"] = frame["y"].astype(object)
    frame.loc[frame["unique_id"] == "BAD@HEL", "y"] = "a dozen"
    plan = plan_demand(frame, as_of=END)
    assert isinstance(plan.totals, pd.DataFrame)
    assert set(plan.totals["unique_id"]) == {"GOOD@HEL"}
    assert set(plan.exceptions["code"]) == {"bad_value"}
    assert plan.totals["mean"].tolist() == plan_demand(GOOD, as_of=END).totals["mean"].to_list()


def test_case_71_rows_after_as_of_are_listed_and_change_nothing_however_broken() -> None:
    plan = plan_demand(GOOD, as_of=END)
    later = daily("GOOD@HEL", [900.0, float("nan"), 900.0], end=END + timedelta(days=3))
    other = daily("LATER@HEL", [5.0], end=END + timedelta(days=9))
    more = plan_demand(pl.concat([GOOD, later, later, other]), as_of=END)
    for name in ("forecasts", "totals", "choices", "backtest"):
        assert_frame_equal(getattr(plan, name), getattr(more, name))
    assert more.counts["rows_after_as_of"] == 7
    assert more.exceptions.filter(pl.col("code") == "after_as_of").select("unique_id", "rows").rows() == [
        ("GOOD@HEL", 6),
        ("LATER@HEL", 1),
    ]


def test_case_71_todays_partial_day_is_not_learned_from() -> None:
    noon = datetime(2026, 6, 30, 12, 0, tzinfo=UTC)
    plan = plan_demand(GOOD, as_of=noon)
    assert plan.as_of == date(2026, 6, 29)
    assert plan.forecasts["ds"].min() == END
    assert plan.counts["rows_after_as_of"] == 1


def test_case_71_dates_in_1900_are_listed_and_do_not_stretch_the_calendar() -> None:
    ancient = pl.concat([daily("GOOD@HEL", [3.0], end=date(1900, 1, 1)), GOOD])
    plan = plan_demand(ancient, as_of=END)
    assert codes(plan, "GOOD@HEL") == ["implausible_date"]
    assert plan.counts["rows_implausible_date"] == 1
    assert choice(plan, "GOOD@HEL")["history_days"] == 210
    assert_frame_equal(plan.totals, plan_demand(GOOD, as_of=END).totals)


@pytest.mark.parametrize("wrong", ["0206-03-01", "1900-01-00", "1900/1/0", "1970-01-01", "2002-03-01", "2016-03-01"])
def test_case_71_a_mistyped_year_is_listed_by_row_and_changes_no_other_series(wrong: str) -> None:
    both = pl.concat([GOOD, daily("ALSO@HEL", weekly_pattern(30))]).with_columns(pl.col("ds").cast(pl.String))
    typo = pl.DataFrame(
        {"unique_id": ["ALSO@HEL"], "ds": [wrong], "y": [5.0], "is_censored": [None]}, schema=both.schema
    )
    plan = plan_demand(pl.concat([both, typo]), as_of=END)
    found = plan.exceptions.row(0, named=True)
    assert (found["unique_id"], found["code"], found["is_blocking"]) == ("ALSO@HEL", "implausible_date", False)
    assert found["value"] == wrong
    assert "(row 421)" in found["message_en"]
    assert "2025-12-03 to 2026-06-30" in found["message_en"]
    assert_frame_equal(plan.totals, plan_demand(both, as_of=END).totals)


@pytest.mark.parametrize("first_year", [1949, 1976, 2010])
def test_case_71_an_old_monthly_history_is_used_whole(first_year: int) -> None:
    months = [date(first_year + m // 12, m % 12 + 1, 1) for m in range(50 * 12)]
    with pytest.warns(MonthlyRows, match="600 days"):
        plan = plan_demand(pl.DataFrame({"unique_id": "A", "ds": months, "y": 30.0}), as_of=months[-1])
    assert plan.exceptions.height == 0
    assert plan.counts["rows_used"] == 600


def test_sums_of_months_are_warned_of_and_days_and_weeks_are_not() -> None:
    def read(days: list[date]) -> History:
        return read_history(pl.DataFrame({"unique_id": "A", "ds": days, "y": 1.0}), as_of=END)

    lasts = [date(2025, month, 1) - timedelta(days=1) for month in range(2, 13)]
    with pytest.warns(MonthlyRows) as told:
        read(lasts)
    assert "月末" in told[0].message.text("zh")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(lasts[:5])
        read([*lasts, date(2025, 6, 3)])
        read([END - timedelta(days=7 * week) for week in range(30)])
        read([END - timedelta(days=day) for day in range(300)])


def test_case_71_a_gap_of_years_is_no_mistake() -> None:
    before = daily("A", [3.0] * 50, end=END - timedelta(days=4 * 365))
    assert plan_demand(pl.concat([before, daily("A", [3.0] * 50)]), as_of=END).counts["rows_used"] == 100
    others = daily("B", [float(d % 90 == 0) for d in range(9 * 365)])  # the shop was open all the time
    lone = pl.concat([daily("A", [1.0], end=END - timedelta(days=9 * 365)), others, daily("A", [1.0])])
    assert plan_demand(lone, as_of=END).counts["rows_implausible_date"] == 0


def test_case_71_a_file_whose_dates_are_all_zero_has_no_history() -> None:
    zero = GOOD.with_columns(y=pl.lit(1.0), ds=pl.lit("1900-01-00")).unique()
    plan = plan_demand(zero, as_of=END)
    found = plan.exceptions.row(0, named=True)
    assert (found["code"], found["value"], plan.choices.height) == ("history_too_old", "1900-01-00", 0)
    assert "the as-of day 2026-06-30" in found["message_en"]


def test_case_71_a_date_that_is_none_takes_out_its_series() -> None:
    words = pl.concat([GOOD, daily("BAD@HEL", [1.0])]).with_columns(
        ds=pl.when(pl.col("unique_id") == "BAD@HEL").then(pl.lit("30/06/2026")).otherwise(pl.col("ds").cast(pl.String))
    )
    plan = plan_demand(words, as_of=END)
    assert codes(plan, "BAD@HEL") == ["bad_date"]
    assert_frame_equal(plan.totals, plan_demand(GOOD, as_of=END).totals)


def test_dates_as_a_sheet_writes_them_are_dates() -> None:
    sheet = GOOD.with_columns(ds=pl.col("ds").dt.strftime("%Y/%-m/%-d") + pl.lit(" 00:00"))
    assert "2026/6/1 00:00" in sheet["ds"]
    assert_frame_equal(plan_demand(sheet, as_of=END).totals, plan_demand(GOOD, as_of=END).totals)


def test_case_72_nothing_is_forecast_after_the_end_date() -> None:
    history = pl.concat([GOOD, GOOD.with_columns(unique_id=pl.lit("SOON@HEL"))])
    items = pl.DataFrame({"unique_id": ["GOOD@HEL", "SOON@HEL"], "end_date": [END, END + timedelta(days=10)]})
    plan = plan_demand(history, as_of=END, items=items)
    assert choice(plan, "GOOD@HEL")["model"] == "discontinued"
    assert "GOOD@HEL" not in plan.forecasts["unique_id"]
    assert total(plan, "GOOD@HEL", 28)["q99"] == 0.0
    soon = plan.forecasts.filter(pl.col("unique_id") == "SOON@HEL")
    assert soon["ds"].max() == END + timedelta(days=10)
    assert total(plan, "SOON@HEL", 28)["mean"] == total(plan, "SOON@HEL", 10)["mean"] > 0


def test_case_72_a_relaunch_by_status_or_after_a_long_gap_starts_a_new_regime() -> None:
    before, after = [50.0] * 140, [2.0] * 84
    items = pl.DataFrame({"unique_id": ["A"], "start_date": [END - timedelta(days=83)]})
    by_status = plan_demand(daily("A", before + after), as_of=END, items=items)
    assert total(by_status, "A", 28)["mean"] == pytest.approx(56.0, abs=0.01)
    assert "relaunched" in choice(by_status, "A")["reason_codes"]
    by_gap = plan_demand(daily("A", before + [0.0] * 210 + after), as_of=END)
    assert total(by_gap, "A", 28)["mean"] == pytest.approx(56.0, abs=0.01)
    assert "restarted_after_gap" in choice(by_gap, "A")["reason_codes"]


def test_case_73_one_sale_in_thirty_days_goes_by_crostons_family_and_its_total_makes_sense() -> None:
    plan = plan_demand(daily("SPARE@HEL", ([0.0] * 29 + [6.0]) * 24), as_of=END, horizon_days=90)
    row = choice(plan, "SPARE@HEL")
    assert row["demand_class"] == "intermittent"
    assert row["model"] in {"croston_sba", "tsb", "imapa", "tsb_and_imapa"}
    assert 9 < total(plan, "SPARE@HEL", 90)["mean"] < 27  # three sales of six
    assert total(plan, "SPARE@HEL", 90)["q95"] >= 18


def test_case_74_a_constant_series_is_forecast_as_it_is_with_no_width() -> None:
    plan = plan_demand(daily("A", [5.0] * 200), as_of=END)
    values = plan.forecasts.select("mean", *QUANTILE_COLUMNS).to_numpy()
    assert values == pytest.approx(5.0, abs=1e-6)
    assert total(plan, "A", 28)["q05"] == pytest.approx(140.0)
    assert choice(plan, "A")["grade"] == "A"


def test_case_75_one_broken_series_among_many_is_one_row_and_the_run_can_be_resumed(
    stated_count: StatedCount,
) -> None:
    many = stated_count(small=300, stated=100_000)
    values = [float((i * 3) % 7) for i in range(70)]
    one = daily("X", values).select("ds", "y")
    names = pl.DataFrame({"unique_id": [f"P{n:06d}@HEL" for n in range(many)]})
    history = names.join(one, how="cross").with_columns(
        y=pl.when((pl.col("unique_id") == "P000007@HEL") & (pl.col("ds") == END))
        .then(float("nan"))
        .otherwise(pl.col("y"))
    )
    settings = PlanSettings(batch_series=max(100, many // 20), slow_series=0, folds=3, paths=20)
    pieces = list(plan_batches(history, as_of=END, horizon_days=7, settings=settings))
    blocking = pl.concat([p.exceptions for p in pieces]).filter(pl.col("is_blocking"))
    assert blocking["unique_id"].to_list() == ["P000007@HEL"]
    assert sum(p.choices.height for p in pieces) == many - 1
    assert sum(p.forecasts.height for p in pieces) == 7 * (many - 1)
    first = pieces[0].choices["unique_id"].to_list()
    rest = plan_batches(history, as_of=END, horizon_days=7, settings=settings, done=first)
    assert_frame_equal(pl.concat([p.totals for p in pieces[1:]]), pl.concat([p.totals for p in rest]))


def test_stock_out_flags_may_be_words_and_a_strange_word_is_refused_by_name() -> None:
    flagged = GOOD.with_columns(is_censored=pl.Series([True, False, None] * (GOOD.height // 3 + 1))[: GOOD.height])
    written = flagged.with_columns(is_censored=pl.col("is_censored").cast(pl.String).str.to_titlecase().fill_null(""))
    said = plan_demand(written, as_of=END).totals
    assert_frame_equal(said, plan_demand(flagged, as_of=END).totals)
    with pytest.raises(BadFrame, match=r"is_censored.*'sold out'"):
        plan_demand(written.with_columns(is_censored=pl.lit("sold out")), as_of=END)


def test_a_file_that_can_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "demand.csv"
    file.write_text("unique_id,ds,y\n" + "A,2026-01-01,1\n" * 200 + "A,2026-01-02,many\n")
    with pytest.raises(BadFrame, match=r"history could not be read.*many"):
        plan_demand(pl.scan_csv(file), as_of=END)  # type: ignore[arg-type]
