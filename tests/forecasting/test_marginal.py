"""The value of the next unit over the paths, beside a slow simulation that does what a shelf does, period by period."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from forecasting.marginal import (
    LEVELS,
    Need,
    Shortage,
    cheapest_qty,
    cycle_service_of,
    expected_cost,
    fill_rate_of,
    need_of,
    paths_of_totals,
    qty_for_cycle_service,
    qty_for_fill_rate,
    spread_lead_times,
    with_expiries,
)
from forecasting.policies import newsvendor_cost_normal, newsvendor_normal


@dataclass(frozen=True)
class Told:
    """What happened on one path from the arrival of the order until the next one arrives."""

    left: float  # units × periods kept
    lost: float
    waiting: float  # units × periods late
    missed: float  # units not served from stock
    lost_before: float  # before the order arrives


def shelf(
    demand: list[float], *, on_hand: float, backordered: float, arrivals: list[float], lead: int, until: int, qty: float,
    shortage: Shortage,
) -> Told:  # fmt: skip
    """One path, the obvious way."""
    stock, waits = on_hand, backordered
    left = lost = waiting = missed = lost_before = 0.0
    for t in range(until):
        stock += arrivals[t] + (qty if t == lead else 0.0)
        served = min(stock, waits)
        stock, waits = stock - served, waits - served
        sold = min(stock, demand[t])
        stock -= sold
        short = demand[t] - sold
        if shortage == "backordered":
            waits += short
        if t >= lead:
            left, waiting, missed = left + stock, waiting + waits, missed + short
            lost += short if shortage == "lost" else 0.0
        else:
            lost_before += short if shortage == "lost" else 0.0
    return Told(left, lost, waiting, missed, lost_before)


@dataclass(frozen=True)
class Scene:
    y: np.ndarray
    on_hand: int
    backordered: int
    arrivals: list[int]
    lead: np.ndarray
    until: np.ndarray
    shortage: Shortage

    def need(self) -> Need:
        return need_of(
            self.y[None],
            on_hand=np.array([float(self.on_hand)]),
            backordered=np.array([float(self.backordered)]),
            arrivals=np.array([[float(a) for a in self.arrivals] + [0.0]]),
            lead=self.lead[None],
            until=self.until[None],
            shelf_life=np.zeros(1, dtype=np.int64),
            shortage=self.shortage,
        )

    def told(self, qty: float) -> list[Told]:
        return [
            shelf(
                list(self.y[p]), on_hand=self.on_hand, backordered=self.backordered, arrivals=list(self.arrivals),
                lead=int(self.lead[p]), until=int(self.until[p]), qty=qty, shortage=self.shortage,
            )
            for p in range(self.y.shape[0])
        ]  # fmt: skip


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    paths, horizon = draw(st.integers(1, 5)), 8
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    whole = draw(st.booleans())
    y = rng.gamma(0.7, 4.0, size=(paths, horizon))
    lead = rng.integers(0, 4, size=paths)
    shortage: Shortage = draw(st.sampled_from(["lost", "backordered"]))
    return Scene(
        y=np.rint(y) if whole else y,
        on_hand=draw(st.integers(0, 12)),
        backordered=draw(st.integers(0, 3)) if shortage == "backordered" else 0,
        arrivals=[draw(st.integers(0, 6)) if draw(st.booleans()) else 0 for _ in range(horizon)],
        lead=lead,
        until=lead + rng.integers(1, 5, size=paths),
        shortage=shortage,
    )


@settings(max_examples=150)
@given(scene=scenes(), waiting=st.integers(0, 12))
def test_what_waits_already_is_not_lost_before_the_order_arrives(scene: Scene, waiting: int) -> None:
    scene = replace(scene, backordered=waiting)
    lost = float(np.mean([told.lost_before for told in scene.told(0)]))
    assert float(scene.need().lost_before[0].mean()) == pytest.approx(lost, abs=1e-9)


@settings(max_examples=150)
@given(scene=scenes(), holding=st.floats(0.01, 2), short=st.floats(0, 20))
def test_the_cost_of_ordering_more_is_what_the_shelf_says(scene: Scene, holding: float, short: float) -> None:
    need = scene.need()
    money = {"holding": np.array([holding]), "short": np.array([short]), "waste": np.zeros(1)}

    def slow(qty: int) -> float:
        told = scene.told(qty)
        per_unit = [t.lost if scene.shortage == "lost" else t.waiting for t in told]
        return float(np.mean([holding * t.left for t in told]) + short * np.mean(per_unit))

    def fast(qty: int) -> float:
        return float(expected_cost(need, float(qty), **money, shortage=scene.shortage)[0])

    # what later arrivals cost is the same whatever is ordered now, so differences are compared
    costs = [slow(q) for q in range(60)]
    for q in (1, 3, 10, 40):
        assert fast(q) - fast(0) == pytest.approx(costs[q] - costs[0], abs=1e-6)
    best = int(cheapest_qty(need, **money, shortage=scene.shortage)[0])
    assert costs[min(max(best, 0), 59)] <= min(costs) + 1e-6


@settings(max_examples=100)
@given(scene=scenes(), ratio=st.floats(0.3, 0.99))
def test_service_is_what_the_shelf_serves(scene: Scene, ratio: float) -> None:
    need = scene.need()
    for q in (0, 2, 9, 30):
        told = scene.told(q)
        asked = [sum(scene.y[p][scene.lead[p] : scene.until[p]]) for p in range(scene.y.shape[0])]
        assert float(need.window_demand_qty[0]) == pytest.approx(float(np.mean(asked)))
        if scene.shortage == "lost" and sum(asked):
            filled = 1 - sum(t.missed for t in told) / sum(asked)
            assert float(fill_rate_of(need, np.array([q]))[0]) == pytest.approx(filled, abs=1e-6)
    for qty, reached in (
        (int(qty_for_fill_rate(need, np.array([ratio]))[0]), fill_rate_of),
        (int(qty_for_cycle_service(need, np.array([ratio]))[0]), None),
    ):
        if reached is not None:
            assert reached(need, np.array([qty]))[0] >= ratio - 1e-6
            assert qty <= need.at_end.min() + 1 or reached(need, np.array([qty - 1]))[0] < ratio + 1e-6
        else:
            at = np.quantile(need.at_end[0], ratio)
            assert at - 1e-6 <= qty < at + 1


def test_one_period_of_normal_demand_is_the_newsvendor() -> None:
    # Snyder & Shen example 4.3: N(50, 8²), 0.18 and 0.70: 56.6 units, cost 1.9976
    demand = norm.ppf((np.arange(4000) + 0.5) / 4000, 50, 8)
    scene = Scene(demand[:, None], 0, 0, [0], np.zeros(4000, dtype=int), np.ones(4000, dtype=int), "lost")
    money = {"holding": np.array([0.18]), "short": np.array([0.70]), "waste": np.zeros(1)}
    best = cheapest_qty(scene.need(), **money, shortage="lost")
    assert best[0] == round(newsvendor_normal(mean=50, sd=8, underage_cost=0.70, overage_cost=0.18)) == 57
    cost = expected_cost(scene.need(), best, **money, shortage="lost")[0]
    assert cost == pytest.approx(
        newsvendor_cost_normal(57, mean=50, sd=8, holding_cost=0.18, shortage_cost=0.70), abs=1e-3
    )


def test_base_stock_over_lead_time_and_review_is_the_textbook_level() -> None:
    # L + R = 16 days of N(10, 4²), S = 160 + z·16; what waits costs by the unit and period, so z is that of b / (b + h)
    rng = np.random.default_rng(4)
    y = np.maximum(0, rng.normal(10, 4, size=(4000, 10)))
    scene = Scene(y, 0, 0, [0] * 10, np.full(4000, 9), np.full(4000, 10), "backordered")
    money = {"holding": np.array([1.0]), "short": np.array([19.0]), "waste": np.zeros(1)}
    best = cheapest_qty(scene.need(), **money, shortage="backordered")[0]
    assert best == pytest.approx(100 + norm.ppf(0.95) * 4 * 10**0.5, abs=1.5)
    assert cycle_service_of(scene.need(), np.array([best]))[0] == pytest.approx(0.95, abs=0.01)


def test_goods_that_expire_before_they_are_used_are_bought_less() -> None:
    y = np.full((1, 4, 12), 1.0)
    terms = {
        "on_hand": np.zeros(1), "backordered": np.zeros(1), "arrivals": np.zeros((1, 13)),
        "lead": np.full((1, 4), 1), "until": np.full((1, 4), 7), "shortage": "lost",
    }  # fmt: skip
    money = {"holding": np.array([0.001]), "short": np.array([5.0]), "waste": np.array([3.0])}
    kept = need_of(y, shelf_life=np.array([0]), **terms)
    short_lived = need_of(y, shelf_life=np.array([4]), **terms)
    assert cheapest_qty(kept, **money, shortage="lost")[0] == 6
    assert cheapest_qty(short_lived, **money, shortage="lost")[0] == 4  # what lives four periods serves four
    lucky = y.copy()
    lucky[0, :2] = 3.0  # on half of the paths three times as much
    sure = need_of(lucky, shelf_life=np.array([0]), **terms)
    spoils = need_of(lucky, shelf_life=np.array([6]), **terms)
    dear = {**money, "waste": np.array([9.0])}
    assert cheapest_qty(sure, **dear, shortage="lost")[0] == 18
    assert cheapest_qty(spoils, **dear, shortage="lost")[0] == 6  # the other twelve would spoil on half of the paths


def test_what_expires_on_the_shelf_is_sold_first_and_then_gone() -> None:
    y = np.array([[1.0, 1.0, 1.0, 1.0], [4.0, 0.0, 0.0, 0.0]])
    with_them = with_expiries(y, on_hand=6.0, expiring=np.array([0.0, 5.0, 0.0, 0.0]), arrivals=np.zeros(4))
    assert with_them.tolist() == [[1.0, 4.0, 1.0, 1.0], [4.0, 1.0, 0.0, 0.0]]
    assert y[0, 1] == 1.0


def test_lead_times_meet_the_paths_in_their_shares_and_apart_from_each_other() -> None:
    first = spread_lead_times([[3, 3, 5, 9], [7]], 400)
    second = spread_lead_times([[3, 3, 5, 9], [7]], 400, second=True)
    for drawn in (first, second):
        assert np.bincount(drawn[0], minlength=10)[[3, 5, 9]] == pytest.approx([200, 100, 100], abs=4)
        assert (drawn[1] == 7).all()
    both = np.mean((first[0] == 9) & (second[0] == 9))
    assert both == pytest.approx(1 / 16, abs=0.01)


def test_totals_become_paths_with_the_same_quantiles() -> None:
    levels = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99])
    days = np.arange(1, 31)
    quantiles = np.maximum(0, 10 * days[:, None] + 4 * np.sqrt(days)[:, None] * norm.ppf(levels)[None, :])
    paths = paths_of_totals(quantiles, levels)
    assert paths.shape == (LEVELS.size, 30)
    assert (np.diff(paths, axis=1) >= 0).all()
    assert (np.diff(paths, axis=0) >= 0).all()
    at_16 = paths[:, 15]
    assert at_16.mean() == pytest.approx(160, abs=0.4)
    assert np.quantile(at_16, 0.9) == pytest.approx(160 + 16 * norm.ppf(0.9), abs=0.4)
    assert at_16[-1] == pytest.approx(160 + 16 * norm.ppf(0.995), abs=0.3)
