"""Stock rules on the numbers of their textbooks, and beside the slow search of every possibility."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, poisson

from forecasting.policies import (
    LevelCosts,
    PriceBreak,
    best_lot_size_reorder_point,
    best_s_S,
    cycle_service_normal,
    eoq,
    eoq_all_units,
    fill_rate_normal,
    level_costs,
    lot_size_reorder_point_normal,
    newsvendor_cost_normal,
    newsvendor_normal,
    normal_loss,
    price_at,
    reorder_point_for_fill_rate,
    yearly_cost,
)


def test_eoq_of_pencils_and_of_candy_bars() -> None:
    # Nahmias example 4.1; Snyder & Shen example 3.1 (Joe's corner store)
    assert eoq(yearly_demand=60 * 52, order_cost=12, yearly_holding_cost=0.25 * 0.02) == pytest.approx(3870, abs=1)
    assert eoq(yearly_demand=1300, order_cost=8, yearly_holding_cost=0.225) == pytest.approx(304.05, abs=0.01)
    assert eoq(yearly_demand=0, order_cost=12, yearly_holding_cost=1) == 0


def test_all_units_discounts_of_trash_bags() -> None:
    # Nahmias example 4.4: EOQs 400, 406, 414; G(400) = 204.00, G(500) = 198.10, G(1000) = 200.80
    price = {"yearly_demand": 600, "order_cost": 8, "holding_ratio": 0.2}
    assert [round(yearly_cost(q, unit_cost=c, **price), 2) for q, c in [(400, 0.30), (500, 0.29), (1000, 0.28)]] == [
        204.00,
        198.10,
        200.80,
    ]
    breaks = [PriceBreak(1000, 0.28), PriceBreak(500, 0.29)]
    assert eoq_all_units(unit_cost=0.30, breaks=breaks, **price).qty == 500
    assert eoq_all_units(unit_cost=0.30, breaks=[], **price).qty == pytest.approx(400)
    assert [price_at(q, 0.30, breaks) for q in (1, 499, 500, 999, 1000)] == [0.30, 0.30, 0.29, 0.29, 0.28]


@given(
    demand=st.integers(50, 3000),
    order_cost=st.integers(0, 40),
    drops=st.lists(st.tuples(st.integers(2, 900), st.floats(0.5, 0.99)), max_size=3),
)
def test_no_lot_is_cheaper_than_the_one_found(demand: int, order_cost: int, drops: list[tuple[int, float]]) -> None:
    breaks, unit = [], 1.0
    for least, drop in sorted(dict(drops).items()):
        unit *= drop
        breaks.append(PriceBreak(least, unit))
    terms = {"yearly_demand": float(demand), "order_cost": float(order_cost), "holding_ratio": 0.25}
    found = eoq_all_units(unit_cost=1.0, breaks=breaks, **terms)
    every = min(yearly_cost(q, unit_cost=price_at(q, 1.0, breaks), **terms) for q in range(1, 2000))
    assert found.yearly_cost <= every + 1e-6


def test_newsvendors_of_the_textbooks() -> None:
    # Nahmias example 5.3; Snyder & Shen example 4.3
    assert newsvendor_normal(mean=11.73, sd=4.74, underage_cost=0.50, overage_cost=0.15) == pytest.approx(
        15.24, abs=0.02
    )
    best = newsvendor_normal(mean=50, sd=8, underage_cost=0.70, overage_cost=0.18)
    assert best == pytest.approx(56.604, abs=0.001)
    cost = {"mean": 50, "sd": 8, "holding_cost": 0.18, "shortage_cost": 0.70}
    assert newsvendor_cost_normal(best, **cost) == pytest.approx(1.9976, abs=0.0001)


def test_the_newsvendor_of_poisson_demand_on_whole_levels() -> None:
    # Snyder & Shen example 4.5: Poisson(50), 0.18 and 0.70: level 56, cost 1.7972
    values = np.arange(0.0, 200.0)
    costs = level_costs(values, holding_cost=0.18, shortage_cost=0.70, weights=poisson.pmf(values, 50))
    assert costs.best == 56
    assert costs.at(56) == pytest.approx(1.7972, abs=0.0001)
    assert costs.at(-5) == pytest.approx(0.70 * 55)  # beyond the ends in a straight line
    assert costs.at(400) == pytest.approx(0.18 * 350)


def test_normal_loss_and_fill_rate() -> None:
    # Silver, Pyke & Thomas appendix II: G(0) = 0.3989, G(1) = 0.0833, G(2) = 0.0085.
    # Nahmias example 5.5: L(z) = 0.08, z = 1.02
    assert [round(normal_loss(z), 4) for z in (0, 1, 2, 1.02)] == [0.3989, 0.0833, 0.0085, 0.0802]
    assert normal_loss(-1.3) == pytest.approx(norm.pdf(1.3) + 1.3 * norm.cdf(1.3))
    assert reorder_point_for_fill_rate(0.98, lot_qty=100, mean=100, sd=25) == pytest.approx(125.6, abs=0.2)
    assert fill_rate_normal(125.6, lot_qty=100, mean=100, sd=25) == pytest.approx(0.98, abs=0.0003)
    # the same stock, two service levels (Nahmias §5.5): a high share of units, a lower chance of no stock-out
    assert cycle_service_normal(125.6, mean=100, sd=25) == pytest.approx(0.847, abs=0.001)


def test_lot_size_and_reorder_point_of_the_mustard() -> None:
    # Nahmias example 5.4: (Q, R) = (111, 143)
    lot, point = lot_size_reorder_point_normal(
        yearly_demand=200, order_cost=50, yearly_holding_cost=2, shortage_cost=25, mean=100, sd=25
    )
    assert (round(lot), round(point)) == (111, 143)


def test_exact_r_q_of_poisson_demand() -> None:
    # Snyder & Shen example 5.8 (Federgruen & Zheng): λ = 1.5, L = 2, h = 20, p = 150, K = 100: (3, 5), 107.92
    values = np.arange(0.0, 60.0)
    costs = level_costs(values, holding_cost=20, shortage_cost=150, weights=poisson.pmf(values, 3))
    point, lot, cost = best_lot_size_reorder_point(costs, demand_rate=1.5, order_cost=100)
    assert (point, lot) == (3, 5)
    assert cost == pytest.approx(107.9236, abs=0.0001)


def test_exact_s_S_of_poisson_demand() -> None:
    # Zheng & Federgruen 1991; Snyder & Shen example 4.7: Poisson(6), h = 1, p = 4, K = 5: (4, 10), 8.034
    values = np.arange(0.0, 60.0)
    pmf = poisson.pmf(values, 6)
    costs = level_costs(values, holding_cost=1, shortage_cost=4, weights=pmf)
    s, top, cost = best_s_S(costs, pmf, order_cost=5)
    assert (s, top) == (4, 10)
    assert cost == pytest.approx(8.0341, abs=0.0001)


def chain_cost(s: int, top: int, costs: LevelCosts, pmf: np.ndarray, order_cost: float) -> float:
    """Cost a period of (s, S), the slow way: the stationary chain of levels after ordering."""
    levels = list(range(s + 1, top + 1))
    moves = np.zeros((len(levels), len(levels)))
    for i, level in enumerate(levels):
        for demand, chance in enumerate(pmf):
            after = level - demand
            moves[i, levels.index(after if after > s else top)] += chance
    stay = np.linalg.matrix_power(moves, 4096)[0]
    orders = sum(stay[i] * chance for i, level in enumerate(levels) for d, chance in enumerate(pmf) if level - d <= s)
    return float(sum(stay[i] * costs.at(level) for i, level in enumerate(levels)) + order_cost * orders)


@pytest.mark.parametrize("seed", range(4))
def test_s_S_and_r_q_beside_every_possibility(seed: int) -> None:
    rng = np.random.default_rng(seed)
    demand = rng.poisson(3, size=60).astype(float)
    order_cost = float(rng.integers(2, 25))
    costs = level_costs(demand, holding_cost=1.0, shortage_cost=6.0)
    pmf = np.bincount(demand.astype(int)) / demand.size
    s, top, cost = best_s_S(costs, pmf, order_cost=order_cost)
    assert cost == pytest.approx(chain_cost(s, top, costs, pmf, order_cost), rel=1e-6)
    pairs = [(a, b) for a, b in itertools.product(range(-6, 8), range(-2, 22)) if a < b]
    assert cost <= min(chain_cost(a, b, costs, pmf, order_cost) for a, b in pairs) + 1e-6

    rate = float(demand.mean())
    _, _, found = best_lot_size_reorder_point(costs, demand_rate=rate, order_cost=order_cost)
    every = min(
        (order_cost * rate + sum(costs.at(y) for y in range(r + 1, r + q + 1))) / q
        for r, q in itertools.product(range(-10, 12), range(1, 40))
    )
    assert found == pytest.approx(every)


def test_nobody_asks_for_anything() -> None:
    with pytest.raises(ValueError, match="nobody ever asks"):
        best_s_S(level_costs(np.zeros(3), holding_cost=1, shortage_cost=2), [1.0], order_cost=3)
