"""The VN2 benchmark on made-up sales: the game's arithmetic, that nothing is known before it is played, its words."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import vn2
from forecasting.arrays import Floats
from forecasting.panel import Panel

START, WEEKS, SHOPS, PRODUCTS = date(2022, 1, 3), 76, 4, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vn2")
    rng = np.random.default_rng(8)
    keys = [(store, product) for store in range(SHOPS) for product in range(PRODUCTS)]
    rows = [
        (store, product, START + timedelta(weeks=t), float(rng.poisson(1.5 + 2 * product)), bool(rng.random() > 0.02))
        for store, product in keys
        for t in range(WEEKS)
    ]
    names = ["store", "product", "week", "sales", "in_stock"]
    pl.DataFrame(rows, names, orient="row").sample(fraction=1.0, shuffle=True, seed=1).write_parquet(
        made / "weekly_sales.parquet"
    )
    pl.DataFrame({"store": [s for s, _ in keys], "product": [p for _, p in keys]}).with_columns(
        productgroup=pl.col("product") // 2, department=pl.lit(0)
    ).write_parquet(made / "master.parquet")
    return made


@pytest.fixture(scope="module")
def sales(folder: Path) -> vn2.Sales:
    return vn2.load(folder)


def test_sales_are_read_by_store_and_product_and_what_was_not_in_stock_is_not_demand(
    folder: Path, sales: vn2.Sales
) -> None:
    rows = pl.read_parquet(folder / "weekly_sales.parquet")
    assert np.isnan(sales.panel.y).sum() == rows.filter(~pl.col("in_stock")).height > 0
    for store, product, week, units in rows.filter("in_stock").select("store", "product", "week", "sales").rows()[:50]:
        assert sales.panel.y[store * PRODUCTS + product, (week - START).days // 7] == units


def test_the_game_by_hand() -> None:
    demand = [3.0, 0.0, 4.0, 1.0, 0.0, 9.0, 2.0, 5.0]
    panel = Panel(("a",), START, np.array([[1.0] * 30 + demand]))
    orders = iter([4, 0, 0, 6, 1, 2])
    seen: list[tuple[float, float, float]] = []

    def order(revealed: Panel, stock: vn2.Stock) -> Floats:
        seen.append((stock.end[0], stock.next_week[0], stock.week_after[0]))
        return np.array([float(next(orders))])

    one = np.array([1.0])
    cost = vn2.play(panel, 30, vn2.Stock(one, one, one), order)
    # In the shop each week: 2 1 4 0 0 6 1 2; sold 2 0 4 0 0 6 1 2; so left from week 3 on 1 0 0 0 0 0, lost 0 …
    # start: 1+1=2 sold 2; 0+1=1 sold 0; 1+4=5 sold 4; 1+0=1 sold 1; 0+0 sold 0; 0+6=6 sold 6, 3 lost; 1 of 2; 2 of 5
    assert seen == [(1, 1, 1), (0, 1, 4), (1, 4, 0), (1, 0, 0), (0, 0, 6), (0, 6, 1)]
    assert cost[0] == pytest.approx(0.2 * 1 + 3 + 1 + 3)


def test_a_week_is_revealed_only_after_it_has_been_played(sales: vn2.Sales) -> None:
    start = 60
    everything = sales.panel
    stock = vn2.starting_state(everything.until(start))
    planner = vn2.Planner(everything.until(start))
    usual: list[Floats] = []
    for week in range(3):
        usual.append(planner.order(everything.until(start + week), stock))
    y = everything.y.copy()
    y[:, start + 1 :] = 777.0
    altered = Panel(everything.ids, everything.start, y, everything.attributes)
    other = vn2.Planner(altered.until(start))
    assert other.order(altered.until(start), stock).tolist() == usual[0].tolist()
    assert other.order(altered.until(start + 1), stock).tolist() == usual[1].tolist()
    assert other.order(altered.until(start + 2), stock).tolist() != usual[2].tolist()
    periods = []

    def order(revealed: Panel, _stock: vn2.Stock) -> Floats:
        periods.append(revealed.periods)
        return np.zeros(len(revealed.ids))

    vn2.play(everything, start, stock, order)
    assert periods == [60, 61, 62, 63, 64, 65]


def test_a_series_stays_in_stock_when_every_known_week_of_the_window_after_it_is() -> None:
    y = np.ones((2, 30))
    y[1, 22] = np.nan
    stays = vn2.stays_in_stock(Panel(("a", "b"), START, y), 14)  # forecasts made before weeks 14 … 27
    assert stays[0].all()
    assert stays[1].tolist() == [True] + [False] * 8 + [True] * 5


def test_a_window_costs_the_same_twice_and_weeks_after_it_change_nothing(sales: vn2.Sales) -> None:
    def figures(of: vn2.Sales) -> dict[str, object]:
        made = vn2.measure_window(of, 60, None)
        assert made.pop("seconds") >= 0
        return made

    first = figures(sales)
    assert first == figures(vn2.Sales(sales.panel.until(68), sales.keys))
    assert first["ratio"] == pytest.approx(float(str(first["cost"])) / float(str(first["benchmark_cost"])), abs=1e-3)
    assert 0 < int(str(first["series"])) < SHOPS * PRODUCTS  # some ran out


def test_with_a_state_no_series_is_left_out(sales: vn2.Sales, folder: Path, tmp_path: Path) -> None:
    state = sales.keys.select("store", "product").with_columns(end=pl.lit(2), w1=pl.lit(3), w2=pl.lit(4)).slice(1)
    state.sample(fraction=1.0, shuffle=True, seed=2).write_parquet(tmp_path / "state.parquet")
    stock = vn2.read_state(tmp_path / "state.parquet", sales.keys)
    assert stock.end.tolist() == [0.0] + [2.0] * (SHOPS * PRODUCTS - 1)
    assert stock.week_after.tolist() == [0.0] + [4.0] * (SHOPS * PRODUCTS - 1)
    assert vn2.measure_window(sales, 60, stock)["series"] == SHOPS * PRODUCTS


def test_the_command_writes_its_keys(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.json"
    windows = f"{START + timedelta(weeks=60)},{START + timedelta(weeks=64)}"
    monkeypatch.setattr("sys.argv", ["vn2", "--data", str(folder), "--windows", windows, "--out", str(out)])
    vn2.main()
    told = json.loads(out.read_text())
    assert {"mean_ratio", "coverage_80", "coverage_90", "wape_h3", "seconds"} < told.keys()
    assert [window["start"] for window in told["windows"]] == windows.split(",")
    assert told["mean_ratio"] == pytest.approx(np.mean([w["ratio"] for w in told["windows"]]), abs=1e-3)


def test_a_folder_without_data_is_said_and_a_window_that_does_not_fit_is_refused(
    sales: vn2.Sales, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["vn2", "--data", str(tmp_path)])
    assert vn2.main() == 0
    assert "skipped" in capsys.readouterr().out
    for text in ("2022-01-03", "2023-03-01", "2030-01-07"):
        with pytest.raises(SystemExit, match=f"can't start on {text}"):
            vn2.windows_of(sales, text)
    assert vn2.windows_of(sales, None)[-1] == WEEKS - 8
