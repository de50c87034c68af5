"""The replay's benchmark on invoices made up here: through the whole product, with the figures its readers look for."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks import replay as benchmark


def invoices(path: Path) -> None:
    """Five months of a small trade in the shape of the real file; the last day is 2011-08-31."""
    rows = []
    for day in range(150):
        at = datetime.fromisoformat("2011-08-31T09:00") - timedelta(days=149 - day)
        if at.weekday() == 5:
            continue
        for i in range(3):
            qty = 2 + (day * (i + 3)) % (4 + i)
            rows.append(
                (f"{500000 + day}", f"2210{i}A", f"LAMP {i}", qty, at, 2.5 + i, 13000 + day % 9, "United Kingdom")
            )
        rows.append((f"{500000 + day}", "POST", "POSTAGE", 1, at, 18.0, 13000 + day % 9, "United Kingdom"))
    names = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "CustomerID", "Country")
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(path)


def test_the_figures_are_those_of_a_replay_through_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    invoices(tmp_path / "orders.parquet")
    out = tmp_path / "out.json"
    words = ["replay", "--file", "orders.parquet", "--weeks", "2", "--no-demo", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    figures = json.loads(out.read_text("utf-8"))
    assert (figures["series"], figures["weeks"], figures["currency"]) == (3, 2, "GBP")  # postage is not stocked
    assert list(figures["policies"]) == ["ours", "naive", "mean13", "statsforecast", "by_cost"]
    for policy in figures["policies"].values():
        assert policy["cost"] == pytest.approx(policy["holding"] + policy["shortage"] + policy["ordering"])
        assert 0 < policy["fill_rate"] <= 1
        assert policy["orders"] > 0
    ours = figures["policies"]["ours"]["cost"]
    for name, apart in figures["differences"].items():
        assert apart["difference"] == pytest.approx(ours - figures["policies"][name]["cost"])
        assert apart["low"] <= apart["difference"] <= apart["high"]
    assert figures["cpu_seconds"] > 0
    assert "statsforecast" in capsys.readouterr().out


def test_without_the_data_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["replay", "--data", "nowhere"])
    assert benchmark.main() == 0
    assert "skipped" in capsys.readouterr().out
