"""Promotions: what past ones multiplied demand by is learned, applied to planned ones, said, and never learned from later."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.errors import BadFrame
from forecasting.explain import EVENT_PART, PARTS
from forecasting.forecast import DemandPlan, PlanSettings, plan_batches, plan_demand
from forecasting.learned import learn_together
from forecasting.models import BOOSTED
from forecasting.promotions import promotion_lifts
from forecasting.reasons import sentences
from tests.forecasting.builders import daily

LAST = date(2026, 10, 31)
WEEKS, AHEAD, SERIES = 90, 4, 30
SETTINGS = PlanSettings(paths=20, folds=3, slow_series=0)


def drawn(
    seed: int, *, a: float, b: float, series: int = 40, weeks: int = 104
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Demand, share and depth of promotions: 12 a week, four promotions of half a week or a whole one in each series."""
    rng = np.random.default_rng(seed)
    share, depth = np.zeros((2, series, weeks))
    for i in range(series):
        for week in rng.choice(np.arange(5, weeks - 5), 4, replace=False):
            share[i, week] = rng.choice([3 / 7, 1.0])
            depth[i, week] = share[i, week] * rng.choice([0.1, 0.2, 0.3])
    inside = np.divide(depth, share, out=np.zeros_like(depth), where=share > 0)
    full = np.exp(a + b * -np.log1p(-inside))
    return rng.poisson(12 * (1 + share * (full - 1))).astype(float), share, depth


@pytest.mark.parametrize(("a", "b"), [(0.3, 3.0), (0.0, 2.0), (0.0, 0.0), (0.8, 0.0)])
def test_what_promotions_did_is_found_again(a: float, b: float) -> None:
    lifts = promotion_lifts(*drawn(5, a=a, b=b))
    told = lifts.factors(np.ones((40, 2)), np.tile([0.1, 0.3], (40, 1)))[0]
    assert told == pytest.approx(np.exp(a + b * -np.log([0.9, 0.7])), rel=0.12)
    half = lifts.factors(np.full((40, 1), 3 / 7), np.full((40, 1), 0.3 * 3 / 7))[0, 0]
    assert half == pytest.approx(1 + 3 / 7 * (told[1] - 1))
    assert lifts.factors(np.zeros((40, 1)), np.zeros((40, 1))).tolist() == [[1.0]] * 40


def test_a_group_that_answers_otherwise_is_told_apart_and_few_weeks_are_hardly_believed() -> None:
    y, share, depth = drawn(6, a=0.0, b=3.0)
    calm, _, _ = drawn(7, a=0.0, b=0.0)
    y[30:] = calm[30:]
    group = np.repeat([0, 1], [30, 10])
    deep = np.full((40, 1), 0.3)
    told = promotion_lifts(y, share, depth, levels=[group]).factors(np.ones((40, 1)), deep)[:, 0]
    assert told[0] == pytest.approx(np.exp(3 * -np.log(0.7)), rel=0.15) and told[-1] < 1.35
    once, seen = np.zeros((2, 40, 104))
    once[0, 50:54], seen[0, 50:54] = 1.0, 0.2
    y[0, 50:54] = 48.0  # four times an ordinary week, in four weeks of one series
    assert 1.5 < promotion_lifts(y, once, seen).factors(np.ones((40, 1)), np.full((40, 1), 0.2))[0, 0] < 4.0
    assert promotion_lifts(y[:, :20], once[:, :20], seen[:, :20]).weeks == 0


def shop(lift: float = 3.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Thirty products whose demand is `lift` times as much in their promotions (20 % off, whole weeks), one of which is to
    come in the second week after `LAST` for every third product."""
    rng = np.random.default_rng(3)
    frames, promos = [], []
    for i in range(SERIES):
        weeks = {9 + (i * 7) % 13, 33 + (i * 5) % 11, 58 + (i * 3) % 9, 70 + i % 17}
        sold = rng.poisson([(15 + i) * (lift if w in weeks else 1.0) for w in range(WEEKS)])
        frames.append(daily(f"S{i:02d}@SZ", [v for w in sold for v in (0, 0, float(w), 0, 0, 0, 0)], end=LAST))
        ahead = {WEEKS + 1} if i % 3 == 0 else set()
        for week in weeks | ahead:
            start = LAST + timedelta(days=7 * (week - WEEKS) + 1)
            promos.append((f"S{i:02d}@SZ", start, start + timedelta(days=6), 0.2))
    columns = {"unique_id": pl.String, "start_date": pl.Date, "end_date": pl.Date, "depth_ratio": pl.Float64}
    return pl.concat(frames), pl.DataFrame(promos, schema=columns, orient="row")


HISTORY, PROMOTIONS = shop()


@cache
def planned(is_told: bool = True) -> DemandPlan:
    told = PROMOTIONS if is_told else None
    return plan_demand(HISTORY, as_of=LAST, horizon_days=7 * AHEAD, promotions=told, settings=SETTINGS)


def weeks_of(plan: DemandPlan) -> np.ndarray:
    week = ((pl.col("horizon_days") - 1) // 7).alias("week")
    return (
        plan.forecasts.group_by("unique_id", week)
        .agg(pl.col("mean").sum())
        .sort("unique_id", "week")["mean"]
        .to_numpy()
        .reshape(-1, AHEAD)
    )


def test_a_planned_promotion_raises_its_week_and_past_ones_do_not_raise_the_others() -> None:
    coming = 15.0 + np.arange(SERIES)[:, None] * np.ones(AHEAD)
    coming[::3, 1] *= 3
    blind, told = (np.abs(weeks_of(planned(is_told)) - coming).sum() / coming.sum() for is_told in (False, True))
    assert told < 0.5 * blind
    assert weeks_of(planned())[::3, 1] == pytest.approx(coming[::3, 1], rel=0.25)


@pytest.mark.parametrize(("language", "words"), [("zh", "有促销"), ("en", "a promotion: the week from")])
def test_a_planner_reads_of_it_and_the_parts_still_sum(language: str, words: str) -> None:
    totals = planned().totals.filter(pl.col("horizon_days") == 7 * AHEAD).sort("unique_id")["mean"].to_list()
    for i, row in enumerate(planned().choices.sort("unique_id").iter_rows(named=True)):
        facts = json.loads(row["facts"])
        said = sentences(row["reason_codes"], row["facts"], "zh" if language == "zh" else "en")
        assert any(words in text and "2026-11-08" in text for text in said) == (i % 3 == 0)
        if i % 3 == 0:
            assert facts["promotion_factor"] == pytest.approx(3.0, rel=0.2) and facts[EVENT_PART] > 0
            assert sum(facts[name] for name in (*PARTS, EVENT_PART)) == pytest.approx(totals[i], abs=0.01)


def test_promotions_that_change_nothing_change_nothing() -> None:
    history, promotions = shop(lift=1.0)
    plans = [
        plan_demand(history, as_of=LAST, horizon_days=7 * AHEAD, promotions=told, settings=SETTINGS)
        for told in (None, promotions, promotions.clear())
    ]
    for name in ("forecasts", "totals", "choices", "backtest"):
        assert_frame_equal(getattr(plans[0], name), getattr(plans[1], name))
        assert_frame_equal(getattr(plans[0], name), getattr(plans[2], name))


def test_past_promotions_do_not_widen_what_may_come() -> None:
    def above(plan: DemandPlan) -> np.ndarray:
        ahead = plan.totals.filter(pl.col("horizon_days") == 14).sort("unique_id")
        wide: np.ndarray = (ahead["q95"] - ahead["mean"]).to_numpy()[1::3]  # of those without a promotion ahead
        return wide

    calm = plan_demand(shop(lift=1.0)[0], as_of=LAST, horizon_days=7 * AHEAD, settings=SETTINGS)
    assert above(planned()).mean() < 1.6 * above(calm).mean()


def test_pieces_know_the_promotions_of_the_whole() -> None:
    small = PlanSettings(paths=20, folds=3, slow_series=0, batch_series=11)
    pieces = plan_batches(HISTORY, as_of=LAST, horizon_days=7 * AHEAD, promotions=PROMOTIONS, settings=small)
    assert_frame_equal(pl.concat([piece.forecasts for piece in pieces]), planned().forecasts)


def test_the_backtest_knows_of_a_promotion_but_not_what_came_of_it() -> None:
    """Demand after the oldest cutoff is another: what was learned for the folds is the same."""
    oldest = LAST - timedelta(weeks=AHEAD + 2 * 2)
    later = HISTORY.with_columns(y=pl.when(pl.col("ds") > oldest).then((pl.col("y") * 1.3).round()).otherwise("y"))
    found = [
        learn_together(rows.with_columns(pl.lit(None, dtype=pl.Boolean).alias("is_censored")), as_of=LAST, about={},
                       horizon_weeks=AHEAD, fold_weeks=AHEAD, folds=3, step_weeks=2, promotions=PROMOTIONS)
        for rows in (HISTORY.drop("is_censored", strict=False), later.drop("is_censored", strict=False))
    ]  # fmt: skip
    ordinary = found[0].folds[BOOSTED] / (15 + np.arange(SERIES))[None, :, None]
    assert np.abs(ordinary - 1).mean() < 0.08  # units of weeks without a promotion
    (then, now), (then_again, now_again) = ((one.promotions_then, one.promotions) for one in found)
    assert then is not None and then_again is not None and np.array_equal(then, then_again)
    assert now is not None and now_again is not None and not np.array_equal(now, now_again)


@pytest.mark.parametrize(
    "bad",
    [
        {"end_date": date(2026, 1, 1)},
        {"depth_ratio": 1.5},
        {"start_date": None},
        {"depth_ratio": "30%"},
        {"end_date": "next week"},
    ],
)
def test_a_promotion_that_cannot_be_is_refused_by_name(bad: dict[str, object]) -> None:
    one = {"unique_id": "S01@SZ", "start_date": date(2026, 3, 1), "end_date": date(2026, 3, 9), "depth_ratio": 0.2}
    for history in (HISTORY, HISTORY.head(30)):  # also where there is too little to learn from
        with pytest.raises(BadFrame, match=r"1 promotions can't be used, first 'S01@SZ'"):
            plan_demand(history, as_of=LAST, promotions=pl.DataFrame([one | bad]), settings=SETTINGS)


def test_a_company_of_six_products_learns_it_too() -> None:
    few = [f"S{i:02d}@SZ" for i in range(6)]
    history, promotions = (frame.filter(pl.col("unique_id").is_in(few)) for frame in (HISTORY, PROMOTIONS))
    told = plan_demand(history, as_of=LAST, horizon_days=7 * AHEAD, promotions=promotions, settings=SETTINGS)
    week = weeks_of(told)
    assert week[3, 1] == pytest.approx(3 * 18, rel=0.3) and max(week[3, 0], week[3, 2]) < 0.6 * week[3, 1]
    assert told.exceptions.is_empty()


def test_a_promotion_that_moves_nothing_is_told() -> None:
    planned_only = PROMOTIONS.filter(pl.col("start_date") > LAST)
    unknown = {"unique_id": "TYPO", "start_date": LAST, "end_date": LAST, "depth_ratio": 0.1}
    given = pl.concat([planned_only, pl.DataFrame([unknown], schema=PROMOTIONS.schema)])
    found = plan_demand(HISTORY, as_of=LAST, horizon_days=7 * AHEAD, promotions=given, settings=SETTINGS).exceptions
    assert found["code"].to_list() == ["promotion_unlearned"] * 10 + ["promotion_unknown"]
    assert found["unique_id"].to_list()[::10] == ["S00@SZ", "TYPO"]
    assert "judge yourself" in found["message_en"][0] and "TYPO" in found["message_zh"][-1]
    assert not found["is_blocking"].any()
    by_product = given.drop("unique_id").with_columns(product=pl.lit("POT"))
    found = plan_demand(HISTORY, as_of=LAST, promotions=by_product, settings=SETTINGS).exceptions
    assert found.select("unique_id", "code", "rows").rows() == [("POT", "promotion_unknown", 11)]


def test_promotions_may_come_as_text() -> None:
    text = PROMOTIONS.with_columns(pl.col("start_date", "end_date", "depth_ratio").cast(pl.String))
    told = plan_demand(HISTORY, as_of=LAST, horizon_days=7 * AHEAD, promotions=text, settings=SETTINGS)
    assert_frame_equal(told.forecasts, planned().forecasts)
