"""What a model is told is the past only, and the same for learning as for forecasting."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.boost import BoostSettings, learn
from forecasting.features import Features, training_rows
from forecasting.panel import Panel

CUTOFF = 60
SETTINGS = BoostSettings(trees=6, least_rows=20)


def panel(periods: int = 70, *, seed: int = 3) -> Panel:
    """Twelve series of three products in four shops, with stock-outs, a season and a promotion known ahead."""
    rng = np.random.default_rng(seed)
    season = 1 + 0.6 * np.sin(2 * np.pi * np.arange(periods) / 52)
    promoted = (rng.random((12, periods + 10)) < 0.1).astype(float)
    level = np.exp(rng.uniform(-0.5, 3, (12, 1)))
    y = rng.poisson(level * season * (1 + promoted[:, :periods])).astype(float)
    y[rng.random(y.shape) < 0.06] = np.nan
    attributes = {"product": np.arange(12) % 3, "location": np.arange(12) // 3}
    return Panel(tuple(f"S{i}" for i in range(12)), date(2024, 1, 1), y, attributes, {"promotion": promoted})


WHOLE = panel()
MODEL = learn(Features(WHOLE), until=CUTOFF, horizon=3, settings=SETTINGS)


def changed(values: list[float], extra: int) -> Panel:
    """The panel with everything after the cutoff replaced, and some periods more."""
    rng = np.random.default_rng(len(values))
    after = rng.choice(np.array(values), (12, WHOLE.periods - CUTOFF + extra))
    y = np.concatenate([WHOLE.y[:, :CUTOFF], after], axis=1)
    return Panel(WHOLE.ids, WHOLE.start, y, WHOLE.attributes, WHOLE.known)


@given(
    values=st.lists(st.sampled_from([0.0, 3.0, 5000.0, 1e9, float("nan")]), min_size=1, max_size=5),
    extra=st.integers(-8, 10),
    step=st.integers(0, 2),
)
def test_nothing_after_the_cutoff_changes_a_byte(values: list[float], extra: int, step: int) -> None:
    before, after = Features(WHOLE.until(CUTOFF)), Features(changed(values, extra))
    for told, same in zip(before.rows(CUTOFF, step), after.rows(CUTOFF, step), strict=True):
        assert told.tobytes() == same.tobytes()
    assert (
        MODEL.forecast(before, cutoff=CUTOFF, horizon=3).tobytes()
        == MODEL.forecast(after, cutoff=CUTOFF, horizon=3).tobytes()
    )


@given(values=st.lists(st.sampled_from([0.0, 7.0, 1e9, float("nan")]), min_size=1, max_size=4))
def test_nothing_after_it_is_learned_from(values: list[float]) -> None:
    rows = training_rows(Features(WHOLE.until(CUTOFF)), range(45, CUTOFF), range(3), known_until=CUTOFF)
    same = training_rows(Features(changed(values, 4)), range(45, CUTOFF), range(3), known_until=CUTOFF)
    for column, other in zip(rows, same, strict=True):
        assert column.tobytes() == other.tobytes()


def test_the_model_learned_is_the_same_whatever_comes_after() -> None:
    again = learn(Features(changed([1e9, float("nan")], 5)), until=CUTOFF, horizon=3, settings=SETTINGS)
    features = Features(WHOLE)
    assert (
        again.forecast(features, cutoff=CUTOFF, horizon=3).tobytes()
        == MODEL.forecast(features, cutoff=CUTOFF, horizon=3).tobytes()
    )


def test_what_was_asked_while_out_of_stock_is_not_a_zero() -> None:
    y = np.full((4, 60), 5.0)
    y[0, 40:60] = np.nan
    features = Features(Panel(tuple("abcd"), date(2024, 1, 1), y, {}))
    _, unit = features.rows(60, 0)
    assert unit == pytest.approx(np.full(4, 5.0), rel=0.02)


def test_the_unit_follows_the_season_of_the_target() -> None:
    weeks = np.arange(160)
    season = 1 + 0.8 * np.sin(2 * np.pi * weeks / 52)
    features = Features(Panel(("a", "b"), date(2021, 1, 4), np.outer([10.0, 40.0], season), {}))
    for cutoff in (110, 123, 136):
        _, unit = features.rows(cutoff, 2)
        assert unit == pytest.approx(np.array([10.0, 40.0]) * season[cutoff + 2], rel=0.15)


def test_a_regressor_is_known_up_to_the_target_and_no_further() -> None:
    features, known = Features(WHOLE), {"promotion": WHOLE.known["promotion"].copy()}
    known["promotion"][:, CUTOFF + 2 :] = 99.0
    other = Features(Panel(WHOLE.ids, WHOLE.start, WHOLE.y, WHOLE.attributes, known))
    assert features.rows(CUTOFF, 1)[0].tobytes() == other.rows(CUTOFF, 1)[0].tobytes()
    assert features.rows(CUTOFF, 2)[0].tobytes() != other.rows(CUTOFF, 2)[0].tobytes()


def test_rows_asked_for_twice_are_the_same_and_forgetting_loses_nothing() -> None:
    features = Features(WHOLE)
    first = features.rows(50, 1)[0].tobytes()
    features.forget(60)
    assert features.rows(50, 1)[0].tobytes() == first


def test_the_jumps_of_one_big_product_are_less_of_a_season_when_series_count_by_their_root() -> None:
    y = np.full((16, 104), 4.0)
    y[0] = 20.0
    y[0, 13:26] = 200.0  # in one of two years; nothing else has a season
    made = Panel(tuple(f"S{i}" for i in range(16)), date(2021, 1, 4), y, {})
    by_size, by_root = Features(made).season(104), Features(made, by_root=True).season(104)
    jump = [season[15:25].mean() / season[30:50].mean() for season in (by_size, by_root)]
    assert 1.0 < jump[1] < 0.75 * jump[0]


def test_by_root_a_week_without_the_big_series_is_no_weak_week() -> None:
    y = np.full((4, 104), 2.0)
    y[0] = 60.0
    y[0, [8, 60]] = np.nan  # the same week of both years
    season = Features(Panel(tuple("abcd"), date(2021, 1, 4), y, {}), by_root=True).season(104)
    assert season == pytest.approx(np.ones_like(season), abs=0.02)
