"""Prices and promotions known ahead: the columns, the regression and the forecast built on them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from forecasting.elasticity import ElasticitySettings, expected_log_demand, log_demand
from forecasting.errors import BadFrame, BadSetting
from forecasting.features import Features
from forecasting.panel import Panel
from forecasting.priced import PricedFeatures, PricedSettings, _weighted_median, learn_priced, taught
from forecasting.regressors import price_state

STORES, BRANDS, WEEKS, AHEAD = 4, 3, 60, 3
QUICK = PricedSettings(trees=15, every=2, models=1)


def made_up(*, seed: int = 1, elasticity: float = -2.5, noise: float = 0.1) -> Panel:
    """Shops × brands: a price that is cut some weeks, an advertisement that adds to it, demand that answers both."""
    rng = np.random.default_rng(seed)
    series = STORES * BRANDS
    product = np.tile(np.arange(BRANDS), STORES)
    is_cut = (rng.random((BRANDS, WEEKS + AHEAD)) < 0.25)[product]
    feat = is_cut & (rng.random((BRANDS, WEEKS + AHEAD)) < 0.5)[product]
    price = np.where(is_cut, 3.0 * rng.choice([0.8, 0.65, 0.5], (BRANDS, WEEKS + AHEAD))[product], 3.0)
    level = rng.uniform(2.0, 5.0, series)[:, None]
    log_y = level + elasticity * np.log(price / 3.0) + 0.4 * feat + rng.normal(0, noise, price.shape)
    return Panel(
        tuple(f"{store}/{brand}" for store in range(STORES) for brand in range(BRANDS)),
        date(2025, 1, 6),
        np.exp(log_y[:, :WEEKS]),
        {"product": product, "location": np.repeat(np.arange(STORES), BRANDS)},
        {"price": price, "feat": feat.astype(np.float64)},
    )


def changed(panel: Panel, *, y_from: int | None = None, plan_from: int | None = None) -> Panel:
    """The same panel with other demand and another plan from a period on."""
    y = panel.y.copy()
    known = {name: values.copy() for name, values in panel.known.items()}
    if y_from is not None:
        y[:, y_from:] = 7.0 * y[:, y_from:] + 3.0
    if plan_from is not None:
        known["price"][:, plan_from:] *= 0.6
        known["feat"][:, plan_from:] = 1.0 - known["feat"][:, plan_from:]
    return Panel(panel.ids, panel.start, y, panel.attributes, known, panel.period_days)


# --- columns --------------------------------------------------------------------------------------------------------


def test_a_column_reads_its_own_period_and_earlier_ones_only() -> None:
    panel = made_up()
    before, after = (price_state(p, ["feat"]) for p in (panel, changed(panel, plan_from=40)))
    for name, values in before.items():
        assert np.array_equal(values[:, :40], after[name][:, :40]), name
    assert not np.array_equal(before["depth"][:, 40:], after["depth"][:, 40:])


def test_rivals_are_those_of_the_same_place() -> None:
    price = np.array([[2.0, 2.0], [1.0, 4.0], [3.0, 3.0], [0.5, 9.0]])
    panel = Panel(
        tuple("abcd"), date(2026, 1, 5), np.ones((4, 1)), {"location": np.array([0, 0, 0, 1])}, {"price": price}
    )
    state = price_state(panel)
    assert np.exp(state["over_cheapest_rival"]) == pytest.approx(
        np.array([[2.0, 2 / 3], [0.5, 2.0], [3.0, 1.5], [1, 1]])
    )
    assert state["rank"].tolist() == [[0.5, 0.0], [0.0, 1.0], [1.0, 0.5], [0.0, 0.0]]


def test_fast_rivals_equal_their_slow_twin() -> None:
    panel = made_up(seed=5)
    state = price_state(panel, ["feat"])
    place, log_price = panel.attributes["location"], np.log(panel.known["price"])
    for row in range(len(panel.ids)):
        others = [o for o in range(len(panel.ids)) if place[o] == place[row] and o != row]
        assert state["over_cheapest_rival"][row] == pytest.approx(log_price[row] - log_price[others].min(axis=0))
        assert state["rivals_depth"][row] == pytest.approx(state["depth"][others].mean(axis=0))
        assert state["rivals_feat"][row] == pytest.approx(panel.known["feat"][others].mean(axis=0))


def test_weeks_since_and_how_long_a_price_stands() -> None:
    price = np.array([[4.0, 4.0, 2.0, 2.0, 2.0, 4.0, 4.0]])
    state = price_state(Panel(("a",), date(2026, 1, 5), np.ones((1, 7)), {}, {"price": price}))
    assert state["periods_at_price"].tolist() == [[0, 1, 0, 1, 2, 0, 1]]
    assert state["periods_since_cut"].tolist() == [[30, 30, 30, 1, 1, 1, 2]]


def test_a_gap_in_a_price_is_filled_from_elsewhere_then_from_the_last_one() -> None:
    price = np.array([[2.0, np.nan, np.nan], [2.0, 1.0, np.nan]])
    panel = Panel(("a@1", "a@2"), date(2026, 1, 5), np.ones((2, 3)), {"product": np.array([0, 0])}, {"price": price})
    assert np.exp(price_state(panel)["depth"]) == pytest.approx(np.array([[1, 0.5, 0.5], [1, 0.5, 0.5]]))


def test_a_price_that_comes_says_nothing_about_the_time_before_it() -> None:
    price = np.array([[np.nan, np.nan, 2.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    found = []
    for first in (2.0, 0.5):
        price[0, 2] = first
        panel = Panel(
            ("a@1", "b@1"), date(2026, 1, 5), np.ones((2, 4)), {"location": np.zeros(2, int)}, {"price": price}
        )
        found.append({name: values[:, :2] for name, values in price_state(panel).items()})
    for name, values in found[0].items():
        assert np.array_equal(values, found[1][name]), name
    assert found[0]["over_cheapest_rival"].tolist() == [[0, 0], [0, 0]]


def test_a_series_without_a_usable_price_says_nothing_and_does_not_disturb_the_others() -> None:
    panel = made_up()
    price = panel.known["price"].copy()
    price[3] = np.nan
    price[4, 4:] = 0.0
    codes = {name: np.arange(len(panel.ids)) for name in ("product", "location")}
    state = price_state(Panel(panel.ids, panel.start, panel.y, codes, {"price": price}))
    whole = price_state(Panel(panel.ids, panel.start, panel.y, codes, {"price": panel.known["price"]}))
    for name, values in state.items():
        assert not values[3].any(), name
        assert np.array_equal(np.delete(values, [3, 4], axis=0), np.delete(whole[name], [3, 4], axis=0)), name
        assert np.isfinite(values).all(), name
    assert (state["over_median"][4, 40:] == 0).all()


def test_a_promotion_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(BadFrame, match="display is not among what is known ahead"):
        price_state(made_up(), ["display"])


# --- regression -----------------------------------------------------------------------------------------------------


def test_the_regression_finds_the_elasticity_that_was_put_in() -> None:
    panel = made_up(noise=0.05)
    depth = np.log(panel.known["price"] / 3.0)[..., None]
    ahead, _ = expected_log_demand(
        log_demand(panel.y),
        np.concatenate([depth, panel.known["feat"][..., None]], axis=-1),
        panel.attributes["product"],
        ElasticitySettings(penalty_all=0.1, penalty_product=0.1, penalty_series=10.0),
    )
    cheap, dear = panel.known["price"][:, WEEKS:].min(axis=1) < 3, panel.known["price"][:, WEEKS:].max(axis=1) >= 3
    both = np.flatnonzero(cheap & dear)
    assert both.size
    for row in both:
        low, high = panel.known["price"][row, WEEKS:].argmin(), panel.known["price"][row, WEEKS:].argmax()
        answer = ahead[row, WEEKS + low] - ahead[row, WEEKS + high]
        expected = -2.5 * depth[row, WEEKS + low, 0] + 0.4 * panel.known["feat"][row, WEEKS + low]
        assert answer == pytest.approx(expected, abs=0.2)


def test_a_product_that_was_never_cut_answers_as_the_others_do() -> None:
    panel = made_up()
    price = panel.known["price"].copy()
    y = panel.y.copy()
    mine = panel.attributes["product"] == 0
    price[mine, :WEEKS] = 3.0
    y[mine] = 20.0
    price[mine, WEEKS:] = 1.5
    columns = np.log(price / 3.0)[..., None]
    ahead, _ = expected_log_demand(log_demand(y), columns, panel.attributes["product"])
    lift = np.exp(ahead[mine, WEEKS] - np.log(20.0))
    assert (lift > 2.5).all() and (lift < 2**2.5 * 1.3).all()


def test_no_demand_is_half_a_unit_and_a_series_without_history_takes_the_middle() -> None:
    assert log_demand(np.array([0.0, 1.0, np.nan])).tolist()[:2] == [np.log(0.5), 0.0]
    seen = np.vstack([np.full(30, 2.0), np.full(30, 4.0), np.full(30, np.nan)])
    ahead, _ = expected_log_demand(seen, np.zeros((3, 32, 1)), np.zeros(3, dtype=np.int64))
    assert ahead[:, 31] == pytest.approx([2.0, 4.0, 3.0])


# --- forecast -------------------------------------------------------------------------------------------------------


def test_nothing_after_the_cutoff_changes_a_row_or_a_forecast() -> None:
    panel, cutoff, steps = made_up(), 45, (0, 2)
    altered = changed(panel, y_from=cutoff, plan_from=cutoff + steps[-1] + 1)
    found = []
    for each in (panel, altered):
        features = PricedFeatures(each, ["feat"], QUICK)
        told = taught(features, until=cutoff, steps=steps)
        model = learn_priced(features, until=cutoff, steps=steps)
        ahead = model.forecast(features, cutoff=cutoff, steps=steps)
        found.append((told.values.tobytes(), told.log_y.tobytes(), ahead.tobytes()))
    assert found[0] == found[1]


def test_it_knows_the_promotion_that_comes() -> None:
    panel = made_up()
    features = PricedFeatures(panel, ["feat"], QUICK)
    cutoffs, steps = range(50, WEEKS - 1, 3), (0, 1)
    ours, mean, actual = [], [], []
    for cutoff in cutoffs:
        model = learn_priced(features, until=cutoff, steps=steps)
        ours.append(model.forecast(features, cutoff=cutoff, steps=steps))
        mean.append(np.repeat(panel.y[:, :cutoff].mean(axis=1)[:, None], 2, axis=1))
        actual.append(panel.y[:, cutoff : cutoff + 2])
    ours_error, mean_error = (
        np.abs(np.array(f) - np.array(actual)).sum() / np.array(actual).sum() for f in (ours, mean)
    )
    assert ours_error < 0.35 * mean_error


def test_the_same_plan_gives_the_same_forecast_twice_and_a_lower_one_for_percentage_errors() -> None:
    panel = made_up(noise=0.4)
    found = []
    for _ in range(2):
        features = PricedFeatures(panel, ["feat"], QUICK)
        model = learn_priced(features, until=WEEKS, steps=(0,))
        found.append([model.forecast(features, cutoff=WEEKS, steps=(0,), percentage=p) for p in (False, True)])
    assert found[0][0].tobytes() == found[1][0].tobytes()
    assert (found[0][1] < found[0][0]).all()


def test_the_weighted_median_has_the_smallest_percentage_error() -> None:
    values = np.random.default_rng(2).lognormal(0.0, 0.6, 501)
    best = _weighted_median(values, 1.0 / values)
    error = [np.mean(np.abs(point - values) / values) for point in (best, *np.linspace(0.2, 3.0, 300))]
    assert error[0] == pytest.approx(min(error), rel=1e-3)
    assert best < np.median(values)


def test_too_short_a_history_is_refused_with_the_number_needed() -> None:
    with pytest.raises(BadSetting, match="21 are needed"):
        taught(PricedFeatures(made_up(), ["feat"], QUICK), until=20, steps=(0, 1))


def test_the_model_of_all_series_is_told_of_prices_when_there_are_any() -> None:
    panel = made_up()
    without = Panel(panel.ids, panel.start, panel.y, panel.attributes, {"feat": panel.known["feat"]})
    (rows, _), (fewer, _) = (Features(p).rows(WEEKS, 1) for p in (panel, without))
    depth = price_state(panel)["depth"][:, WEEKS + 1]
    told = [column for column in rows.T if np.array_equal(column, depth)]
    assert told and rows.shape[1] > fewer.shape[1] and not [c for c in fewer.T if np.array_equal(c, depth)]
