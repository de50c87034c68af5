"""The benchmark of intermittent demand: its measures by hand, and the keys it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import spare_parts as benchmark
from tests.forecasting.test_intermittent import parts


def write(y: np.ndarray, path: Path, *, prices: bool = False) -> Path:
    part, t = np.nonzero(np.ones(y.shape))
    pl.DataFrame({"part": part, "t": t, "y": y.ravel()}).write_parquet(path)
    if prices:
        beside = path.with_name(f"{path.stem}_price.parquet")
        pl.DataFrame({"part": np.arange(len(y)), "price": np.full(len(y), 3.0)}).write_parquet(beside)
    return path


def test_rmsse_by_hand() -> None:
    past = np.array([[0.0, 2.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])  # scales 4, 0, 1/2
    came = np.array([[1.0, 3.0], [1.0, 0.0], [0.0, 0.0]])
    ahead = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])  # mean squared errors 2, 1/2, 1
    together, mean = benchmark.rmsse(past, came, ahead)
    assert together == pytest.approx(np.sqrt(3.5 / 4.5))
    assert mean == pytest.approx((np.sqrt(2 / 4) + np.sqrt(1 / 0.5)) / 2)


def test_pinball_agrees_with_its_slow_twin() -> None:
    rng = np.random.default_rng(0)
    came, quantiles = rng.poisson(2.0, (4, 3)).astype(float), rng.random((4, benchmark.QUANTILES.size))
    slow = []
    for part in range(4):
        for y in came[part]:
            for q, f in zip(benchmark.QUANTILES, quantiles[part], strict=True):
                slow.append(q * (y - f) if y >= f else (1 - q) * (f - y))
    assert benchmark.pinball(came, quantiles) == pytest.approx(np.mean(slow))


def test_a_stock_run_by_hand() -> None:
    """Five on the shelf, lead time of two periods: what is asked for beyond them waits and is not served at once."""
    came = np.array([[3.0, 4.0, 0.0, 1.0, 0.0]])
    fill, held = benchmark.stock_run(came, np.full((1, 5), 5.0), np.ones(1))
    # 0: serves 3, 2 left. 1: 3 ordered, 2 of 4 served, 2 wait. 2: 4 ordered, nothing arrives. 3: 3 arrive, 2 are late, 1 is
    # asked for and served. 4: 4 arrive and stay.
    assert fill == pytest.approx((3 + 2 + 1) / 8)
    assert held == pytest.approx((2 + 0 + 0 + 0 + 4) / 5)


def test_more_stock_serves_more_and_worth_weighs_both() -> None:
    came = parts(series=50, periods=12, seed=1)
    few, many = (benchmark.stock_run(came, np.full(came.shape, up_to), np.ones(50)) for up_to in (1.0, 9.0))
    assert few[0] < many[0]
    assert few[1] < many[1]
    twice = benchmark.stock_run(came, np.full(came.shape, 9.0), np.full(50, 2.0))
    assert twice == (pytest.approx(many[0]), pytest.approx(2 * many[1]))


def test_holding_is_read_off_between_two_points() -> None:
    curve = [(0.5, 10.0), (0.9, 50.0), (0.96, 80.0)]
    assert benchmark.holding_at(curve, 0.9) == pytest.approx(50.0)
    assert benchmark.holding_at(curve, 0.93) == pytest.approx(65.0)
    assert np.isnan(benchmark.holding_at(curve, 0.98))


def test_a_negative_binomial_spread_covers_counts_and_a_normal_one_is_cut_at_zero() -> None:
    mean, variance = np.array([2.0, 1e-7]), np.array([6.0, 3e3])
    counts = np.random.default_rng(2).negative_binomial(1.0, 1 / 3, 20_000)
    found = benchmark.spread_quantiles("negative binomial", mean, variance, np.array([0.5, 0.9]))
    assert (counts <= found[0, 1]).mean() == pytest.approx(0.9, abs=0.04)
    assert np.isfinite(found).all()
    assert benchmark.spread_quantiles("normal", mean, variance, np.array([0.01])).min() == 0.0


def test_a_file_that_repeats_a_period_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pl.DataFrame({"part": [1, 1], "t": [0, 0], "y": [1.0, 2.0]}).write_parquet(path)
    with pytest.raises(ValueError, match=r"twice\.parquet has two rows"):
        benchmark.read_parts(path)


def test_the_held_back_year_changes_nothing_that_is_forecast(tmp_path: Path) -> None:
    y = parts(series=60, periods=36, seed=3)
    later = y.copy()
    later[:, 24:] = 99.0
    found = [
        benchmark.our_quantiles(each[:, :24], horizon=12, periods=1, levels=benchmark.QUANTILES) for each in (y, later)
    ]
    assert np.array_equal(*found)


def test_the_keys_that_are_asked_for_and_the_same_result_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "PATHS", 100)
    path = write(parts(series=24, periods=30, seed=4, probability=0.3), tmp_path / "some.parquet", prices=True)
    results = []
    for number in range(2):
        out = tmp_path / f"{number}.json"
        assert benchmark.main(["--file", str(path), "--holdout", "6", "--out", str(out)]) == 0
        results.append(json.loads(out.read_text()))
    found = results[0]
    assert {"rmsse", "pinball", "best_statsforecast_rmsse", "seconds"} <= found.keys()
    assert found["best_statsforecast_rmsse"] == min(
        row["rmsse"] for name, row in found["models"].items() if name not in ("pooled", "zero")
    )
    assert {"CrostonClassic", "CrostonOptimized", "CrostonSBA", "TSB", "ADIDA", "IMAPA"} < found["models"].keys()
    units, money = found["holding_at_fill_rate"], found["holding_at_fill_rate_in_money"]
    assert money["0.9"]["pooled"] == pytest.approx(3 * units["0.9"]["pooled"])
    assert [found[key] for key in ("models", "pinballs", "curves")] == [
        results[1][key] for key in ("models", "pinballs", "curves")
    ]


def test_it_says_that_it_was_skipped_where_there_is_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--data", str(tmp_path / "none")]) == 0
    assert "skipped" in capsys.readouterr().out
