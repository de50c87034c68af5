"""The metrics beside slow, obvious twins that work row by row."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.choose import trust_grade
from forecasting.metrics import naive_scale, point_scores, quantile_scores

rows = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=1
)


def frame(values: list[tuple[str, int, int, int, bool]]) -> pl.DataFrame:
    schema = {"g": pl.String, "y": pl.Float64, "mean": pl.Float64, "q90": pl.Float64, "is_masked": pl.Boolean}
    return pl.DataFrame(values, schema=schema, orient="row")


@given(values=rows)
def test_point_scores_equal_the_slow_twin(values: list[tuple[str, int, int, int, bool]]) -> None:
    fast = {row["g"]: row for row in point_scores(frame(values), by=["g"]).iter_rows(named=True)}
    for group in "AB":
        mine = [(y, f) for g, y, f, _, masked in values if g == group and not masked]
        if not mine:
            assert group not in fast
            continue
        demand = sum(y for y, _ in mine)
        absolute = sum(abs(f - y) for y, f in mine)
        assert fast[group]["n"] == len(mine)
        assert fast[group]["bias_units"] == pytest.approx(sum(f - y for y, f in mine) / len(mine))
        assert fast[group]["rmse_units"] == pytest.approx(math.sqrt(sum((f - y) ** 2 for y, f in mine) / len(mine)))
        if demand:
            assert fast[group]["wape_ratio"] == pytest.approx(absolute / demand)
        else:
            assert math.isnan(fast[group]["wape_ratio"])


@given(values=rows)
def test_quantile_scores_equal_the_slow_twin(values: list[tuple[str, int, int, int, bool]]) -> None:
    mine = [(y, q) for _, y, _, q, masked in values if not masked]
    if not mine:
        return
    fast = quantile_scores(frame(values), quantiles=[0.9]).row(0, named=True)
    loss = 0.0
    inside = 0
    for y, q in mine:
        loss += 0.9 * (y - q) if y > q else 0.1 * (q - y)
        inside += y <= q
    assert fast["pinball"] == pytest.approx(loss / len(mine))
    assert fast["coverage_ratio"] == pytest.approx(inside / len(mine))


def test_rmsse_scale_is_the_naive_error_and_missing_for_a_constant() -> None:
    assert naive_scale(np.array([1.0, 3.0, 0.0])) == pytest.approx(math.sqrt((4 + 9) / 2))
    assert math.isnan(naive_scale(np.array([5.0, 5.0, 5.0])))
    assert math.isnan(naive_scale(np.array([5.0])))


@pytest.mark.parametrize(
    ("wape", "skill", "grade"),
    [
        (0.2, 0.1, "A"),
        (0.2, -0.01, "B"),
        (0.5, -0.05, "B"),
        (0.51, 0.5, "C"),
        (0.9, -0.26, "D"),
        (1.01, 0.9, "D"),
        (float("nan"), float("nan"), "D"),
    ],
)
def test_trust_grades_need_a_small_error_and_no_better_simple_rule(wape: float, skill: float, grade: str) -> None:
    assert trust_grade(wape_ratio=wape, skill_ratio=skill) == grade
