"""What is too young for a model is told from similar things in the one call."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecasting.forecast import DemandPlan, PlanSettings, plan_batches, plan_demand
from forecasting.reasons import sentences
from tests.forecasting.builders import END, daily

SETTINGS = PlanSettings(paths=20, folds=2, slow_series=0)
DAYS = 7 * 30
LEVELS = {"MUG": 4.0, "LAMP": 20.0}  # units a day


def company() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Mugs and lamps launched one after the other, a card that was always there, and a mug and a lamp that have had two days
    so far, as good as any other's."""
    rng = np.random.default_rng(2)
    frames, items = [daily("CARD@HEL", [1.0] * DAYS)], [("CARD@HEL", "PLAIN CARD", "HEL")]
    for n in range(24):
        kind = "MUG" if n % 2 else "LAMP"
        sold = rng.poisson(LEVELS[kind], DAYS - 63 - 7 * (n // 2)).astype(float).tolist()
        frames.append(daily(f"{kind}{n:02d}@HEL", sold))
        items.append((f"{kind}{n:02d}@HEL", f"NUMBER {n} {kind}", "HEL"))
    for kind in LEVELS:
        frames.append(daily(f"NEW {kind}@HEL", [LEVELS[kind]] * 2))
        items.append((f"NEW {kind}@HEL", f"GOLDEN {kind}", "HEL"))
    return pl.concat(frames), pl.DataFrame(items, schema=["unique_id", "name", "location"], orient="row")


HISTORY, ITEMS = company()


@cache
def planned() -> DemandPlan:
    return plan_demand(HISTORY, as_of=END, horizon_days=28, items=ITEMS, settings=SETTINGS)


def total(plan: DemandPlan, unique_id: str) -> float:
    mine = plan.totals.filter((pl.col("unique_id") == unique_id) & (pl.col("horizon_days") == 28))
    return float(mine["mean"].item())


def choice(plan: DemandPlan, unique_id: str) -> dict[str, object]:
    return plan.choices.filter(pl.col("unique_id") == unique_id).row(0, named=True)


def test_a_new_thing_is_expected_to_sell_as_its_kind_does_and_not_as_its_first_day() -> None:
    plain = plan_demand(HISTORY, as_of=END, horizon_days=28, settings=SETTINGS)
    for kind, level in LEVELS.items():
        name = f"NEW {kind}@HEL"
        assert (choice(plain, name)["model"], choice(planned(), name)["model"]) == ("mean_so_far", "similar")
        assert abs(total(planned(), name) - 28 * level) < abs(total(plain, name) - 28 * level)
    assert total(planned(), "NEW LAMP@HEL") > 1.5 * total(planned(), "NEW MUG@HEL")
    assert not planned().choices.filter(~pl.col("unique_id").str.starts_with("NEW"))["model"].eq("similar").any()


@pytest.mark.parametrize(("language", "word"), [("zh", "相似商品"), ("en", "similar products")])
def test_a_planner_reads_which_things_were_alike(language: str, word: str) -> None:
    row = choice(planned(), "NEW MUG@HEL")
    codes, facts = row["reason_codes"], json.loads(str(row["facts"]))
    assert isinstance(codes, list)
    said = sentences(codes, facts, "zh" if language == "zh" else "en")
    assert any(word in text and " MUG" in text and f"{facts['prior_weekly_qty']:.1f}" in text for text in said)
    assert any(f"{facts['own_qty']:.0f}" in text and f"{facts['own_percent']}%" in text for text in said)


def test_without_words_for_it_or_without_launches_to_go_by_nothing_changes() -> None:
    plain = plan_demand(HISTORY, as_of=END, horizon_days=28, settings=SETTINGS)
    nameless = plan_demand(HISTORY, as_of=END, horizon_days=28, items=ITEMS.drop("name"), settings=SETTINGS)
    lonely = ITEMS.with_columns(location=pl.col("unique_id"))
    for plan in (nameless, plan_demand(HISTORY, as_of=END, horizon_days=28, items=lonely, settings=SETTINGS)):
        assert_frame_equal(plain.totals, plan.totals, check_exact=True)


def test_pieces_are_told_the_same_and_rows_after_the_as_of_day_change_nothing() -> None:
    later = pl.concat([daily(f"{i}@HEL", [99.0] * 20, end=END + timedelta(days=20)) for i in ("NEW MUG", "MUG01", "X")])
    after = plan_demand(pl.concat([HISTORY, later]), as_of=END, horizon_days=28, items=ITEMS, settings=SETTINGS)
    small = PlanSettings(paths=20, folds=2, slow_series=0, batch_series=9)
    pieces = list(plan_batches(HISTORY, as_of=END, horizon_days=28, items=ITEMS, settings=small))
    for name in ("forecasts", "totals", "choices"):
        assert_frame_equal(getattr(planned(), name), getattr(after, name), check_exact=True)
        assert_frame_equal(getattr(planned(), name), pl.concat([getattr(p, name) for p in pieces]), check_exact=True)
