"""Frames as strangers hand them in: columns with another name, types a CSV gives, dates as text."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.errors import BadFrame, BadSetting, FrameWarning, MissingColumns, MisspeltColumn
from forecasting.events import series_regressors
from forecasting.forecast import DemandPlan, PlanSettings, plan_demand
from forecasting.frames import to_polars
from forecasting.inventory import service_curve, stock_health
from forecasting.overrides import apply_overrides
from forecasting.replay import replay
from forecasting.replenishment import suggest
from forecasting.stock_price import stock_prices
from tests.forecasting.builders import END, daily, weekly_pattern

GOOD = daily("7", weekly_pattern(30))
QUICK = PlanSettings(folds=0, paths=20)
PLAN = plan_demand(GOOD, as_of=END, settings=QUICK)
STOCK = pl.DataFrame(
    {"unique_id": ["7"], "on_hand_qty": [20], "lead_time_days": [10], "pack_qty": [6], "supplier_code": ["S1"]}
)


def quantity(positions: Any = STOCK, **more: Any) -> int:
    found = suggest(more.pop("totals", PLAN.totals), positions, **{"as_of": END, **more})
    return int(found.suggestions["suggested_qty"][0])


@pytest.mark.parametrize(
    ("missing", "written", "nearest"),
    [
        ("y", "Y", "Y"),
        ("ds", "date", "date"),
        ("unique_id", "unique id", "unique id"),
        ("ds", " ds", " ds"),
        ("y", "price", None),
    ],
)
def test_a_missing_column_is_named_with_the_nearest_one_and_all_there_are(
    missing: str, written: str, nearest: str | None
) -> None:
    with pytest.raises(MissingColumns, match=rf"^history needs column\(s\) {missing}") as refused:
        plan_demand(GOOD.rename({missing: written}), as_of=END)
    error = refused.value
    assert (error.code, error.frame, error.missing) == ("E_FORECAST_COLUMN", "history", {missing: nearest})
    assert set(error.found) == {*GOOD.columns, written} - {missing}
    assert (f"did you mean it by {nearest!r}?" in str(error)) == (nearest is not None)
    assert error.text("zh").startswith(f"history 缺少列：{missing}")
    assert error.text("en") == str(error)


def test_the_frame_that_lacks_a_column_is_named() -> None:
    on_order = pl.DataFrame({"unique_id": ["7"], "ds": [END], "qyt": [5]})
    with pytest.raises(MissingColumns, match=r"on_order needs column\(s\) qty \(did you mean it by 'qyt'\?\)"):
        quantity(on_order=on_order)
    with pytest.raises(
        MissingColumns, match=r"closed_days needs column\(s\) supplier_code \(did you mean it by 'supplier'"
    ):
        quantity(closed_days=pl.DataFrame({"supplier": ["S1"], "ds": [END]}))
    with pytest.raises(MissingColumns, match=r"promotions needs column\(s\) start_date"):
        plan_demand(GOOD, as_of=END, promotions=pl.DataFrame({"start": [END], "end_date": [END]}))


ITEMS = pl.DataFrame({"unique_id": ["7"]})
PROMOTION = pl.DataFrame({"start_date": [END], "end_date": [END]})


def planned(history: pl.DataFrame = GOOD, **more: Any) -> DemandPlan:
    return plan_demand(history, as_of=END, settings=QUICK, **more)


def replayed(column: str) -> object:
    terms = ITEMS.with_columns(pl.lit(9.0).alias(column))
    return replay(GOOD, terms, {"none": lambda known: np.zeros(1, dtype=np.int64)}, start=END, days=1)


def promoted(column: str) -> object:
    promotions = PROMOTION.with_columns(pl.lit("7").alias(column))
    return series_regressors(["7"], as_of=END, past_weeks=2, ahead_weeks=1, promotions=promotions)


MISSPELT: list[tuple[str, str, str, Callable[[str], object]]] = [
    ("history", "is_censord", "is_censored", lambda c: planned(GOOD.rename({"is_censored": c}))),
    ("items", "end_dat", "end_date", lambda c: planned(items=ITEMS.with_columns(pl.lit(END).alias(c)))),
    ("promotions", "depth", "depth_ratio", lambda c: planned(promotions=PROMOTION.with_columns(pl.lit(0.2).alias(c)))),
    ("promotions", "uniqueid", "unique_id", promoted),
    ("terms", "unit_cost", "unit_cost_cents", replayed),
    ("positions", "supplier_cod", "supplier_code", lambda c: quantity(STOCK.rename({"supplier_code": c}))),
    ("positions", "supplyer_code", "supplier_code", lambda c: quantity(STOCK.rename({"supplier_code": c}))),
    ("positions", "on_hand", "on_hand_qty", lambda c: quantity(STOCK.rename({"on_hand_qty": c}))),
    ("positions", "On Hand Qty", "on_hand_qty", lambda c: quantity(STOCK.rename({"on_hand_qty": c}).to_pandas())),
    ("positions", "lead_tmie_days", "lead_time_days", lambda c: quantity(STOCK.rename({"lead_time_days": c}))),
]


@pytest.mark.parametrize(("frame", "written", "meant", "call"), MISSPELT, ids=[f"{f}-{w}" for f, w, _, _ in MISSPELT])
def test_a_misspelt_column_that_is_optional_is_warned_of(
    frame: str, written: str, meant: str, call: Callable[[str], object]
) -> None:
    with pytest.warns(MisspeltColumn) as told:
        call(written)
    found = [w.message for w in told if isinstance(w.message, MisspeltColumn)]
    assert {(w.frame, w.column, w.nearest) for w in found} == {(frame, written, meant)}
    assert str(found[0]) == f"{frame}: column {written!r} is not read; did you mean {meant}?"
    assert found[0].text("zh") == f"{frame}：列 {written!r} 未使用；是否想写 {meant}？"


def test_columns_of_the_callers_own_are_nobodys_business() -> None:
    own = (
        "supplier", "supplier_name", "sku_name", "product_id", "category_1", "pick_qty", "restart_date", "send_date",
        "allocation", "on_hand_value", "colour", "ABC", "price2", "mid_qty", "names", "mean", "note", "date", "created_at",
        "stock", "cost", "min", "max",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", MisspeltColumn)
        bare = STOCK.select("unique_id", *(pl.lit(1).alias(c) for c in own))
        quantity(bare)
        plan_demand(GOOD.with_columns(pl.lit(1).alias(c) for c in own), as_of=END, items=bare, settings=QUICK)
        # a column that is there as it should be has no look-alikes
        quantity(STOCK.with_columns(pl.lit(1).alias("on_hand"), pl.lit("x").alias("supplier_cod")))


def test_an_index_that_has_a_name_is_a_column() -> None:
    frame = GOOD.drop("is_censored").to_pandas()
    plain = plan_demand(frame, as_of=END, settings=QUICK).totals
    for index in ("ds", "unique_id", ["unique_id", "ds"]):
        pd.testing.assert_frame_equal(plan_demand(frame.set_index(index), as_of=END, settings=QUICK).totals, plain)
    assert quantity(STOCK.to_pandas().set_index("unique_id")) == quantity()
    unnamed = frame.set_index("unique_id").rename_axis(None)
    with pytest.raises(MissingColumns, match="unique_id"):
        plan_demand(unnamed, as_of=END)


def test_a_pandas_frame_that_can_not_be_read_is_refused_by_column() -> None:
    frame = GOOD.drop("is_censored").to_pandas()
    with pytest.raises(BadFrame, match="history has two columns y"):
        plan_demand(pd.concat([frame, frame[["y"]]], axis=1), as_of=END)
    with pytest.raises(BadFrame, match="history column y can't be read: it is complex128"):
        plan_demand(frame.assign(y=frame["y"].astype(complex)), as_of=END)


def test_categories_are_text() -> None:
    coded = GOOD.with_columns(
        pl.col("unique_id").cast(pl.Categorical),
        pl.col("ds").cast(pl.String).cast(pl.Categorical),
        pl.col("y").cast(pl.String).cast(pl.Categorical),
        is_censored=pl.lit("false").cast(pl.Categorical),
    )
    assert to_polars(coded, name="history", needs=()).schema["ds"] == pl.String
    plain = plan_demand(GOOD.with_columns(is_censored=pl.lit(False)), as_of=END, settings=QUICK)
    assert_frame_equal(plan_demand(coded, as_of=END, settings=QUICK).totals, plain.totals)


def test_dates_and_numbers_of_every_frame_may_be_text_as_a_csv_gives_them() -> None:
    late = STOCK.with_columns(on_order_qty=pl.lit(60))
    on_order = pl.DataFrame({"unique_id": [7], "ds": [END + timedelta(days=3)], "qty": [60]})
    closed = pl.DataFrame({"supplier_code": ["S1"] * 9, "ds": [END + timedelta(days=d) for d in range(9)]})
    least = pl.DataFrame({"supplier_code": ["S1"], "min_order_cents": ["50000"]})
    plain = quantity(late, on_order=on_order, closed_days=closed, suppliers=least)
    for form in ("%Y-%m-%d", "%Y/%-m/%-d", " %Y-%m-%d ", "%Y-%m-%d 00:00:00"):
        text = pl.col("ds").dt.strftime(form)
        written = on_order.with_columns(text, pl.col("qty").cast(pl.String))
        assert quantity(late, on_order=written, closed_days=closed.with_columns(text), suppliers=least) == plain
        items = ITEMS.with_columns(end_date=pl.lit(END).dt.strftime(form), use_slow_models=pl.lit("True"))
        ended = plan_demand(GOOD, as_of=END, items=items, settings=QUICK)
        assert ended.choices["model"].to_list() == ["discontinued"]
        padded = GOOD.with_columns(text, pl.col("y").map_elements(lambda y: f" {y} ", return_dtype=pl.String))
        assert_frame_equal(plan_demand(padded, as_of=END, settings=QUICK).totals, PLAN.totals)
    some = pd.DataFrame({"unique_id": ["7", "8"], "end_date": [str(END), np.nan]})
    assert plan_demand(GOOD, as_of=END, items=some, settings=QUICK).choices["model"].to_list() == ["discontinued"]


@pytest.mark.parametrize(
    ("frame", "column", "value", "kind"),
    [
        ("on_order", "ds", "soon", "a date like 2026-03-01"),
        ("on_order", "qty", "1,200", "a number"),
        ("closed_days", "ds", "30/06/2026", "a date like 2026-03-01"),
        ("suppliers", "min_order_cents", "many", "a number"),
    ],
)
def test_what_is_no_date_or_number_is_refused_by_frame_column_row_and_value(
    frame: str, column: str, value: str, kind: str
) -> None:
    rows = {
        "on_order": {"unique_id": ["7", "7"], "ds": ["2026-07-01"] * 2, "qty": ["5", "5"]},
        "closed_days": {"supplier_code": ["S1", "S1"], "ds": ["2026-07-01"] * 2},
        "suppliers": {"supplier_code": ["S1", "S2"], "min_order_cents": ["5", "6"]},
    }[frame]
    rows[column][1] = value
    with pytest.raises(BadFrame, match=f"^{frame}: {column} of row 2 is '{value}', not {kind}$") as refused:
        quantity(**{frame: pl.DataFrame(rows)})
    assert refused.value.text("zh").startswith(f"{frame}：第 2 行的 {column} 为 '{value}'")


def test_an_item_with_words_for_a_cost_is_refused_by_row() -> None:
    with pytest.raises(BadFrame, match=r"^items: unit_cost_cents of row 1 is 'x', not a number$"):
        planned(items=ITEMS.with_columns(unit_cost_cents=pl.lit("x")))


def test_a_blank_before_a_date_moves_no_day() -> None:
    late = GOOD.filter(pl.col("ds").dt.day() > 9)
    blank = late.with_columns(pl.format(" {}", pl.col("ds").cast(pl.String)))
    assert_frame_equal(
        plan_demand(blank, as_of=END, settings=QUICK).totals, plan_demand(late, as_of=END, settings=QUICK).totals
    )


@pytest.mark.parametrize("y", [pl.col("ds"), pl.col("ds").cast(pl.Datetime), pl.concat_list("y"), pl.struct("y")])
def test_a_demand_that_is_no_number_at_all_is_refused(y: pl.Expr) -> None:
    with pytest.raises(BadFrame, match="history column y must hold numbers, it is"):
        planned(GOOD.with_columns(y.alias("y")))


def test_an_identifier_that_is_none_is_refused() -> None:
    with pytest.raises(BadFrame, match="unique_id must hold text or numbers"):
        planned(GOOD.with_columns(pl.concat_list("unique_id")))


def test_places_without_a_pool_are_no_pool_however_pandas_writes_a_gap() -> None:
    history = pl.concat([daily(i, weekly_pattern(30)) for i in "ABCD"])
    plan = plan_demand(pl.concat([history, daily("P", weekly_pattern(30))]), as_of=END, settings=QUICK)
    stock = pl.DataFrame(
        {"unique_id": list("ABCD"), "pool_id": ["P", "P", None, None], "supplier_code": ["S", None, "S", None]}
    )
    text = stock.to_pandas().astype(object).where(stock.to_pandas().notna(), np.nan)
    plain, gaps = (suggest(plan.totals, frame, as_of=END).suggestions for frame in (stock, text))
    assert list(gaps["suggested_qty"]) == plain["suggested_qty"].to_list()
    assert gaps["supplier_code"].isna().tolist() == [False, True, False, True]


def test_a_supplier_with_two_least_values_is_refused() -> None:
    twice = pl.DataFrame({"supplier_code": ["S1", "S1"], "min_order_cents": [1000.0, 90000.0]})
    with pytest.raises(BadFrame, match="suppliers has several rows of S1"):
        quantity(suppliers=twice)


def test_totals_may_come_back_from_a_csv() -> None:
    file = PLAN.totals.write_csv()
    assert quantity(totals=pl.read_csv(file.encode())) == quantity()
    assert quantity(STOCK.to_pandas(), totals=pd.read_csv(StringIO(file))) == quantity()


def test_forecasts_of_days_are_not_taken_for_running_totals() -> None:
    with pytest.raises(BadFrame, match=r"pass plan.totals, not plan.forecasts"):
        quantity(totals=PLAN.forecasts)


def test_totals_of_another_day_are_refused() -> None:
    with pytest.raises(BadFrame, match="totals begin on 2026-07-01, as_of is 2026-07-05"):
        quantity(as_of=END + timedelta(days=5))


def test_a_total_that_is_no_number_is_listed_and_the_others_go_on() -> None:
    other = PLAN.totals.with_columns(unique_id=pl.lit("8"), q95=pl.lit(float("nan")))
    both = pl.concat([STOCK, STOCK.with_columns(unique_id=pl.lit("8"))])
    found = suggest(pl.concat([PLAN.totals, other]), both, as_of=END)
    assert found.suggestions["unique_id"].to_list() == ["7"]
    assert found.exceptions.select("unique_id", "code").rows() == [("8", "bad_forecast")]


@pytest.mark.parametrize("as_of", ["2026-06-30", None, pd.NaT, 20260630])
def test_an_as_of_that_is_no_date_is_refused_by_name(as_of: Any) -> None:
    with pytest.raises(BadSetting, match="as_of must be a date"):
        plan_demand(GOOD, as_of=as_of)
    with pytest.raises(BadSetting, match="as_of must be a date"):
        quantity(as_of=as_of)


@pytest.mark.parametrize("days", [28.0, "28", None, 0, 401])
def test_a_horizon_that_is_no_number_of_days_is_refused_by_name(days: Any) -> None:
    with pytest.raises(BadSetting, match="horizon_days must be 1 to 400, got"):
        plan_demand(GOOD, as_of=END, horizon_days=days)


def test_closed_days_may_be_moments_of_pandas_or_numpy_but_not_words() -> None:
    day = END + timedelta(days=2)
    closed = planned(closed_dates=[day]).totals
    for dates in (
        pd.DatetimeIndex([day]),
        [np.datetime64(day)],
        [datetime(day.year, day.month, day.day, 8, tzinfo=UTC)],
    ):
        assert_frame_equal(planned(closed_dates=dates).totals, closed)
    with pytest.raises(BadSetting, match=r"closed_dates must be a date such as .* got '2026-07-02'"):
        planned(closed_dates=["2026-07-02"])
    assert plan_demand(GOOD, as_of=np.datetime64(END), settings=QUICK).as_of == END  # type: ignore[arg-type]


def test_blanks_around_an_identifier_make_no_other_thing_of_it() -> None:
    halves = pl.concat([GOOD[:100], GOOD[100:].with_columns(unique_id=pl.lit("7 \u00a0"))])
    assert_frame_equal(planned(halves).totals, PLAN.totals)
    closed = pl.DataFrame({"supplier_code": ["S1 "] * 9, "ds": [END + timedelta(days=d) for d in range(9)]})
    exact = closed.with_columns(supplier_code=pl.lit("S1"))
    padded = STOCK.with_columns(unique_id=pl.lit(" 7"), supplier_code=pl.lit(" S1"))
    assert quantity(padded, closed_days=closed) == quantity(closed_days=exact) != quantity()


def test_a_supplier_that_pandas_reads_as_a_float_is_the_one_that_is_closed() -> None:
    two = pl.concat([STOCK, STOCK.with_columns(unique_id=pl.lit("8"))]).with_columns(
        supplier_code=pl.Series([1.0, None])
    )
    closed = pl.DataFrame({"supplier_code": [1] * 9, "ds": [END + timedelta(days=d) for d in range(9)]})
    found = suggest(PLAN.totals, two.to_pandas(), as_of=END, closed_days=closed).suggestions
    assert found["supplier_code"].tolist() == ["1"]
    assert found["order_date"].dt.date.tolist() == [END + timedelta(days=9)]


def test_what_stock_costs_and_is_worth_may_be_asked_with_frames_of_a_csv() -> None:
    totals = pl.read_csv(PLAN.totals.write_csv().encode())  # its unique_id is a number now
    days = {"lead_time_days": 10, "review_period_days": 7}
    costs = {"unit_cost_cents": 100.0, "holding_cost_cents": 0.1, "shortage_cost_cents": 80.0}
    at = ITEMS.with_columns(
        free_qty=pl.lit(3), days_to_arrival=pl.lit(7), **{c: pl.lit(v) for c, v in {**days, **costs}.items()}
    )
    terms = at.with_columns(weekly_holding_cost_cents=pl.lit(0.7))
    assert service_curve(PLAN.totals, terms, as_of=END).height
    assert_frame_equal(service_curve(totals, terms, as_of=END), service_curve(PLAN.totals, terms, as_of=END))
    assert_frame_equal(stock_prices(totals, at, as_of=END), stock_prices(PLAN.totals, at, as_of=END))
    lies = ITEMS.with_columns(on_hand_qty=pl.lit(900), unit_cost_cents=pl.lit(100.0), yearly_out_qty=pl.lit(5))
    dated = lies.with_columns(
        last_out_date=pl.lit(END - timedelta(days=9)), in_since_date=pl.lit(END - timedelta(days=90))
    )
    text = dated.with_columns(pl.col("last_out_date", "in_since_date").cast(pl.String))
    assert_frame_equal(stock_health(text, totals, as_of=END), stock_health(dated, PLAN.totals, as_of=END))


def test_totals_of_one_series_that_fall_are_listed_and_those_of_most_are_refused() -> None:
    other = PLAN.totals.with_columns(unique_id=pl.lit("8"))
    third = PLAN.totals.with_columns(unique_id=pl.lit("9"), mean=pl.col("mean").max() - pl.col("mean"))
    three = pl.concat([STOCK.with_columns(unique_id=pl.lit(name)) for name in "789"])
    found = suggest(pl.concat([PLAN.totals, other, third]), three, as_of=END)
    assert found.exceptions.select("unique_id", "code").rows() == [("9", "bad_forecast")]
    assert found.suggestions["unique_id"].to_list() == ["7", "8"]
    with pytest.raises(BadFrame, match=r"pass plan\.totals"):
        suggest(pl.concat([PLAN.totals, third]), three[:2].with_columns(unique_id=pl.Series(["9", "9x"])), as_of=END)


def test_a_term_of_replay_is_no_misspelling() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FrameWarning)
        suggest(PLAN.totals, STOCK.with_columns(lead_time_sd_days=pl.lit(2.0)), as_of=END)


@pytest.mark.parametrize(("kind", "amount"), [("set_daily", None), ("multiply", math.nan), ("add_weekly", math.inf)])
def test_an_override_without_an_amount_is_named(kind: str, amount: float | None) -> None:
    days = {"from_date": END + timedelta(days=1), "through_date": END + timedelta(days=3)}
    one = {
        "override_id": 4,
        "unique_id": "7",
        **days,
        "kind": kind,
        "amount": amount,
        "expires_date": END + timedelta(days=9),
    }
    with pytest.raises(BadFrame, match=r"number 4 of 7 .* amount"):
        apply_overrides(
            PLAN.forecasts, PLAN.totals, pl.DataFrame([one], schema_overrides={"amount": pl.Float64}), as_of=END
        )
