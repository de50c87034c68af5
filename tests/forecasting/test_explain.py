"""A forecast's parts sum to it, for every model and whatever is closed."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.explain import PARTS, explain
from forecasting.forecast import PlanSettings, plan_demand
from forecasting.reasons import sentences
from tests.forecasting.builders import END, daily, weekly_pattern
from tests.forecasting.test_learned import planned

amounts = st.floats(0, 1e5)


@given(
    sold=st.lists(amounts, max_size=12),
    more=amounts,
    ratios=st.lists(st.floats(0, 5), max_size=6),
    weight=st.sampled_from([0.0, 0.5, 1.0]),
    totals=st.tuples(amounts, amounts),
    days=st.integers(1, 60),
)
def test_the_parts_sum_to_the_forecast(
    sold: list[float], more: float, ratios: list[float], weight: float, totals: tuple[float, float], days: int
) -> None:
    parts = explain(
        sold=np.array(sold),
        demand=np.array(sold) + more,
        season_ratio=np.array(ratios),
        season_weight=weight,
        open_total=max(totals),
        total=min(totals),
        days=days,
    )
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["explained_qty"], abs=1e-6)
    assert parts["explained_qty"] == round(min(totals), 2)


def test_an_empty_shelf_and_closed_days_have_their_parts() -> None:
    sold = weekly_pattern(30)
    out = list(range(len(sold) - 7, len(sold)))
    empty = [v if i not in out else 0.0 for i, v in enumerate(sold)]
    shut = [END + timedelta(days=d) for d in (7, 8, 14)]
    plan = plan_demand(daily("A", empty, censored=out), as_of=END, horizon_days=28, closed_dates=shut)
    facts = json.loads(plan.choices["facts"][0])
    assert facts["stock_out_part_qty"] > 0.1 * facts["level_part_qty"]
    assert facts["closed_part_qty"] < 0
    assert facts["explained_qty"] == pytest.approx(plan.totals["mean"][-1], abs=0.006)
    assert sum(facts[name] for name in PARTS) == pytest.approx(facts["explained_qty"], abs=1e-6)


def test_a_shared_season_is_told_apart_from_the_level() -> None:
    plan = planned()
    facts = [json.loads(text) for text in plan.choices["facts"].to_list()]
    totals = plan.totals.filter(pl.col("horizon_days") == 28).sort("unique_id")["mean"].to_list()
    for told, total in zip(facts, totals, strict=True):
        assert sum(told[name] for name in PARTS) == pytest.approx(total, abs=0.006)
    boosted = [f for f in facts if f["model"].startswith("boosted")]
    assert boosted
    assert all(f["season_part_qty"] != 0 for f in boosted)
    assert all(f["season_part_qty"] == 0 for f in facts if not f["model"].startswith("boosted"))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_person_reads_the_parts(language: str) -> None:
    history = daily("A", weekly_pattern(30))
    plan = plan_demand(history, as_of=date(2026, 6, 30), horizon_days=14, settings=PlanSettings(paths=20))
    row = plan.choices.row(0, named=True)
    said = sentences(row["reason_codes"], row["facts"], "zh" if language == "zh" else "en")
    facts = json.loads(row["facts"])
    assert any(
        f"{facts['explained_qty']:.1f}" in sentence and f"{facts['level_part_qty']:.1f}" in sentence
        for sentence in said
    )
