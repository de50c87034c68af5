"""The planner's changes: kept beside the model's numbers, in proportion, in force until they expire, originals untouched."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.errors import BadFrame, MissingColumns
from forecasting.forecast import QUANTILE_COLUMNS, DemandPlan, plan_demand
from forecasting.overrides import apply_adjustments, apply_overrides, note_adjustments, note_overrides
from forecasting.reasons import sentences

AS_OF = date(2026, 3, 1)
DAY = timedelta(days=1)


def override(
    kind: str = "multiply", amount: float = 1.5, first: int = 1, last: int = 7, **fields: Any
) -> dict[str, Any]:
    return {
        "override_id": 1, "unique_id": "LAMP@HEL", "from_date": AS_OF + first * DAY, "through_date": AS_OF + last * DAY,
        "kind": kind, "amount": amount, "author": "pia", "reason": "fair", "expires_date": AS_OF + last * DAY, **fields,
    }  # fmt: skip


def adjustment(
    kind: str = "ignore", qty: float | None = None, first: int = 9, last: int = 8, **fields: Any
) -> dict[str, Any]:
    """Days counted back from the as-of day."""
    return {
        "adjustment_id": 1, "unique_id": "LAMP@HEL", "from_date": AS_OF - first * DAY, "through_date": AS_OF - last * DAY,
        "kind": kind, "daily_qty": qty, "author": "pia", "reason": "one hotel", **fields,
    }  # fmt: skip


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), infer_schema_length=None)


def history(y: dict[str, float] | None = None, *, is_censored: bool | None = False) -> pl.DataFrame:
    """200 days of 4 to 6 units for two series; `y` says other units of days counted back from the as-of day."""
    rows = []
    for unique_id in ("LAMP@HEL", "RUG@HEL"):
        for back in range(200):
            units = float(4 + back % 3)
            if unique_id == "LAMP@HEL" and y and str(back) in y:
                units = y[str(back)]
            rows.append((unique_id, AS_OF - back * DAY, units, is_censored))
    schema = {"unique_id": pl.String, "ds": pl.Date, "y": pl.Float64, "is_censored": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("unique_id", "ds")


@pytest.fixture(scope="module")
def plan() -> DemandPlan:
    return plan_demand(history(), as_of=AS_OF, horizon_days=28)


def test_an_override_moves_mean_and_quantiles_in_proportion_and_keeps_the_models_mean(plan: DemandPlan) -> None:
    done = apply_overrides(plan.forecasts, plan.totals, frame(override()), as_of=AS_OF)
    for model, after in ((plan.forecasts, done.forecasts), (plan.totals, done.totals)):
        assert after.select(model.columns).columns == model.columns
        assert after.select("unique_id", "ds").equals(model.select("unique_id", "ds"))
        assert after["model_mean"].equals(model["mean"].alias("model_mean"))
        rug = pl.col("unique_id") == "RUG@HEL"
        assert after.filter(rug).drop("model_mean").equals(model.filter(rug))
    lamp = done.forecasts.filter(unique_id="LAMP@HEL")
    model = plan.forecasts.filter(unique_id="LAMP@HEL")
    for name in ("mean", *QUANTILE_COLUMNS):
        np.testing.assert_allclose(lamp[name][:7], model[name][:7] * 1.5, atol=1e-5)
        assert lamp[name][7:].equals(model[name][7:])


def test_totals_are_the_sums_of_the_overridden_days(plan: DemandPlan) -> None:
    asked = [
        override("set_daily", 20.0, 3, 5),
        override("add_weekly", -7.0, 1, 20, override_id=2),
        override("multiply", 2.0, 5, 9, override_id=3),
    ]
    done = apply_overrides(plan.forecasts, plan.totals, frame(*asked), as_of=AS_OF)
    lamp, total = (each.filter(unique_id="LAMP@HEL") for each in (done.forecasts, done.totals))
    np.testing.assert_allclose(total["mean"], lamp["mean"].cum_sum(), atol=1e-4)
    np.testing.assert_allclose(total["q95"] / total["mean"], total["q95"] * 0 + plan.totals.filter(unique_id="LAMP@HEL")["q95"]
                               / plan.totals.filter(unique_id="LAMP@HEL")["mean"], rtol=1e-4)  # fmt: skip
    assert lamp["mean"][2] == 19.0  # set to 20, one a day less
    assert lamp["mean"][4] == 38.0  # and doubled, in the order they were made
    quantiles = total.select(QUANTILE_COLUMNS).to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_steps_say_what_each_override_did_and_add_up(plan: DemandPlan) -> None:
    asked = frame(override("set_daily", 20.0, 3, 5), override("multiply", 2.0, 5, 9, override_id=2))
    done = apply_overrides(plan.forecasts, plan.totals, asked, as_of=AS_OF)
    day = done.steps.filter(pl.col("ds") == AS_OF + 5 * DAY)
    model = plan.forecasts.filter((pl.col("unique_id") == "LAMP@HEL") & (pl.col("ds") == AS_OF + 5 * DAY))[
        "mean"
    ].item()
    assert day.select("override_id", "before_mean", "after_mean").rows() == [(1, model, 20.0), (2, 20.0, 40.0)]
    assert done.steps.height == 3 + 5


def test_demand_never_falls_below_zero(plan: DemandPlan) -> None:
    done = apply_overrides(plan.forecasts, plan.totals, frame(override("add_weekly", -9_999.0)), as_of=AS_OF)
    lamp = done.forecasts.filter(unique_id="LAMP@HEL")
    assert lamp.select("mean", *QUANTILE_COLUMNS).head(7).to_numpy().sum() == 0
    assert (done.totals.to_numpy()[:, 3:-1].astype(float) >= 0).all()


def test_what_the_model_expects_nothing_of_gets_the_spread_of_counts() -> None:
    quiet = history().with_columns(y=pl.when(pl.col("unique_id") == "LAMP@HEL").then(0.0).otherwise("y"))
    plan = plan_demand(quiet, as_of=AS_OF, horizon_days=14)
    done = apply_overrides(plan.forecasts, plan.totals, frame(override("set_daily", 4.0)), as_of=AS_OF)
    lamp, total = (each.filter(unique_id="LAMP@HEL") for each in (done.forecasts, done.totals))
    assert lamp.select("model_mean", "mean", "q50", "q95").row(0) == (0.0, 4.0, 4.0, 8.0)
    assert total.select("mean", "q50").row(6) == (28.0, 28.0)
    assert (lamp["mean"][7:] == 0).all() and (lamp["q95"][7:] == 0).all()


def test_an_override_is_in_force_until_its_day_comes(plan: DemandPlan) -> None:
    for expires, in_force in ((AS_OF + DAY, True), (AS_OF, False), (AS_OF - DAY, False)):
        done = apply_overrides(plan.forecasts, plan.totals, frame(override(expires_date=expires)), as_of=AS_OF)
        assert (done.steps.height > 0) == in_force
        assert done.forecasts.drop("model_mean").equals(plan.forecasts) != in_force


def test_no_overrides_change_nothing(plan: DemandPlan) -> None:
    none = frame(override()).clear()
    done = apply_overrides(plan.forecasts, plan.totals, none, as_of=AS_OF)
    assert done.forecasts.drop("model_mean").equals(plan.forecasts)
    assert done.totals.drop("model_mean").equals(plan.totals)
    assert note_overrides(plan.choices, done.steps, none).equals(plan.choices)


def test_overrides_of_unknown_series_or_days_beyond_the_horizon_do_nothing(plan: DemandPlan) -> None:
    asked = frame(override(unique_id="VASE@HEL"), override(first=100, last=110, override_id=2))
    done = apply_overrides(plan.forecasts, plan.totals, asked, as_of=AS_OF)
    assert done.forecasts.drop("model_mean").equals(plan.forecasts) and done.steps.is_empty()


def test_the_reason_names_who_why_and_by_how_much(plan: DemandPlan) -> None:
    asked = frame(override("set_daily", 20.0), override("add_weekly", 7.0, override_id=2, author="mei", reason="press"))
    done = apply_overrides(plan.forecasts, plan.totals, asked, as_of=AS_OF)
    noted = note_overrides(plan.choices, done.steps, asked)
    assert noted["unique_id"].equals(plan.choices["unique_id"]) and noted.schema == plan.choices.schema
    lamp, rug = noted.iter_rows(named=True)
    said = [sentences(lamp["reason_codes"], lamp["facts"], language)[-1] for language in ("en", "zh")]
    assert "pia; mei changed the forecast of 2026-03-02 to 2026-03-08: fair; press" in said[0] and "now 147)" in said[0]
    assert "pia; mei 调整" in said[1]
    assert "overridden" not in rug["reason_codes"]


# ---------------------------------------------------------------------------------------------------- the past


def test_an_ignored_bulk_order_is_not_learned_from_and_stays_on_record() -> None:
    bulk = history({"8": 900.0})
    adjusted = apply_adjustments(bulk, frame(adjustment()))
    as_if_never = plan_demand(history(), as_of=AS_OF, horizon_days=28)
    learned = plan_demand(adjusted.history, as_of=AS_OF, horizon_days=28)
    misled = plan_demand(bulk, as_of=AS_OF, horizon_days=28)
    total = {name: plan.totals.filter(unique_id="LAMP@HEL", horizon_days=28)["mean"].item()
             for name, plan in (("never", as_if_never), ("learned", learned), ("misled", misled))}  # fmt: skip
    assert abs(total["learned"] - total["never"]) < 0.1 * abs(total["misled"] - total["never"])
    assert adjusted.days.select("ds", "kind", "y_recorded").rows() == [
        (AS_OF - 9 * DAY, "ignore", 4.0),
        (AS_OF - 8 * DAY, "ignore", 900.0),
    ]
    rug = pl.col("unique_id") == "RUG@HEL"
    assert learned.totals.filter(rug).equals(as_if_never.totals.filter(rug))


def test_replaced_days_count_as_the_quantity_also_where_there_was_no_row() -> None:
    known = history().filter(pl.col("ds") != AS_OF - 8 * DAY)
    adjusted = apply_adjustments(known, frame(adjustment("replace", 30.0)))
    lamp = adjusted.history.filter(unique_id="LAMP@HEL")
    assert lamp.filter(pl.col("ds").is_between(AS_OF - 9 * DAY, AS_OF - 8 * DAY))["y"].to_list() == [30.0, 30.0]
    assert adjusted.days["y_recorded"].to_list() == [4.0, None]
    assert lamp.height == known.filter(unique_id="LAMP@HEL").height + 1


def test_the_last_adjustment_of_a_day_counts_and_none_before_the_first_row() -> None:
    asked = frame(adjustment("replace", 30.0), adjustment("replace", 10.0, adjustment_id=2),
                  adjustment("replace", 5.0, 300, 250, adjustment_id=3), adjustment(unique_id="VASE@HEL"))  # fmt: skip
    adjusted = apply_adjustments(history(), asked)
    assert set(adjusted.days["adjustment_id"]) == {2}
    assert adjusted.history.height == history().height


def test_no_adjustments_give_the_history_back() -> None:
    assert apply_adjustments(history(), frame(adjustment()).clear()).history.equals(history())


@pytest.mark.parametrize("is_censored", [None, False])
def test_ignored_days_are_not_told_as_days_without_stock(is_censored: bool | None) -> None:
    asked = frame(adjustment())
    adjusted = apply_adjustments(history(is_censored=is_censored), asked)
    plan = plan_demand(adjusted.history, as_of=AS_OF, horizon_days=14)
    noted = note_adjustments(plan.choices, adjusted, asked)
    lamp = noted.row(0, named=True)
    assert (lamp["censored_days"], lamp["is_stock_recorded"]) == (0, is_censored is not None)
    assert ("stock_outs_unknown" in lamp["reason_codes"]) == (is_censored is None)
    assert "stock_out_days_estimated" not in lamp["reason_codes"]
    assert "pia adjusted 2 past days" in sentences(lamp["reason_codes"], lamp["facts"], "en")[-1]
    assert noted.row(1, named=True) == plan.choices.row(1, named=True)


def test_changes_may_be_text_or_pandas_and_the_history_may_record_no_stock(plan: DemandPlan) -> None:
    told = frame(override())
    text = told.with_columns(pl.col("from_date", "through_date", "expires_date").cast(pl.String))
    expected = apply_overrides(plan.forecasts, plan.totals, told, as_of=AS_OF)
    for changes in (text, told.to_pandas()):
        done = apply_overrides(plan.forecasts.to_pandas(), plan.totals.to_pandas(), changes, as_of=AS_OF)
        assert_frame_equal(done.totals, expected.totals)
        assert note_overrides(plan.choices, done.steps, changes).equals(
            note_overrides(plan.choices, expected.steps, told)
        )
    bare = history().drop("is_censored").with_columns(pl.col("ds").cast(pl.String))
    adjusted = apply_adjustments(bare, frame(adjustment("replace", 2.0)))
    assert adjusted.days["y"].to_list() == [2.0, 2.0]


def test_a_change_that_can_not_be_used_is_refused_by_number(plan: DemandPlan) -> None:
    with pytest.raises(
        MissingColumns, match=r"overrides needs column\(s\) expires_date \(did you mean it by 'expire_date'"
    ):
        told = frame(override()).rename({"expires_date": "expire_date"})
        apply_overrides(plan.forecasts, plan.totals, told, as_of=AS_OF)
    for wrong in ({"kind": "mutiply"}, {"last": 0}, {"from_date": None}):
        with pytest.raises(BadFrame, match="overrides: number 1 of LAMP@HEL can't be used"):
            apply_overrides(plan.forecasts, plan.totals, frame(override(), override(**wrong)), as_of=AS_OF)
    with pytest.raises(
        BadFrame, match=r"adjustments: number 1 of LAMP@HEL can't be used: kind 'ignor' \(one of ignore, replace\)"
    ):
        apply_adjustments(history(), frame(adjustment("ignor")))
