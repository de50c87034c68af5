"""The benchmark of prices and promotions known ahead, on made-up shops in the same shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import orange_juice

STORES, WEEKS, FIRST_WEEK = (2, 5, 9), 45, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shops, eleven brands; brand 1 is cut every fifth week and sells four times as much, a week is missing."""
    rng = np.random.default_rng(3)
    rows = []
    for store in STORES:
        for week in range(FIRST_WEEK, FIRST_WEEK + WEEKS):
            if store == 5 and week == 50:
                continue
            price = {f"price{brand}": 0.04 for brand in range(1, 12)}
            is_cut = week % 5 == 0
            price["price1"] = 0.02 if is_cut else 0.04
            for brand in range(1, 12):
                promoted = is_cut and brand == 1
                logmove = 6.0 + brand / 10 + (np.log(4) if promoted else 0.0) + rng.normal(0, 0.1)
                marks = {"deal": int(promoted), "feat": float(promoted)}
                rows.append({"store": store, "brand": brand, "week": week, "logmove": logmove, **price, **marks})
    path = tmp_path_factory.mktemp("orange_juice")
    pl.DataFrame(rows).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path / "sales.parquet")
    return path


def test_the_panel_has_each_brands_own_price_and_knows_what_is_missing(folder: Path) -> None:
    panel, first_week = orange_juice.load(folder)
    assert (len(panel.ids), panel.periods, first_week) == (33, WEEKS, FIRST_WEEK)
    assert panel.known["price"][panel.ids.index("2/1"), :6].tolist() == [0.02, 0.04, 0.04, 0.04, 0.04, 0.02]
    assert (panel.known["price"][panel.ids.index("9/11")] == 0.04).all()
    assert np.isnan(panel.y[:, 10]).sum() == 11 and np.isnan(panel.y).sum() == 11


def test_errors_are_in_percent_and_missing_weeks_do_not_count() -> None:
    mape, wape = orange_juice.ape_and_error(np.array([50.0, 3.0, 9.0]), np.array([100.0, 2.0, np.nan]))
    assert (mape, wape) == pytest.approx((50.0, 50.0))
    mape, wape = orange_juice.ape_and_error(np.array([50.0, 2.0]), np.array([100.0, 2.0]))
    assert (mape, wape) == pytest.approx((25.0, 100 * 50 / 102))


def test_a_round_needs_weeks_before_it_and_its_own_two_after(folder: Path) -> None:
    panel, first_week = orange_juice.load(folder)
    last = FIRST_WEEK + WEEKS - 1
    assert orange_juice.cutoffs_of(panel, first_week, f"80,{last - 3}") == [41, WEEKS - 3]
    for wrong in (FIRST_WEEK + 5, last - 2):
        with pytest.raises(SystemExit, match=f"can't end on week {wrong}"):
            orange_juice.cutoffs_of(panel, first_week, f"80,{wrong}")


def test_the_promotion_is_foreseen_and_the_file_has_the_agreed_keys(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "figures.json"
    # the forecast weeks are 80 and 81: brand 1 is cut in the first
    monkeypatch.setattr("sys.argv", ["orange_juice", "--data", str(folder), "--ends", "78", "--out", str(out)])
    orange_juice.main()
    result = json.loads(out.read_text())
    assert {"mape", "wape", "lightgbm_mape", "seconds"} <= result.keys()
    assert result["observations"] == 2 * len(STORES) * 11
    assert result["mape"] < 12
    assert result["wape"] < 0.5 * result["scores"]["last value"]["wape"]
    assert set(result["scores"]) >= {"ours", "LightGBM", "last value", "mean", "ETS"}


def test_it_says_that_the_data_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["orange_juice", "--data", str(tmp_path)])
    assert orange_juice.main() == 0
    assert "skipped: no sales.parquet" in capsys.readouterr().out
