"""The replay's benchmark on invoices made up here: through the whole product, with the figures its readers look for."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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


def test_the_demo_is_told_with_its_places_together_and_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's part on a small company in its stead: the JSON holds both, and a plain line what it is with places apart."""
    monkeypatch.chdir(tmp_path)
    invoices(tmp_path / "orders.parquet")
    warehouse = benchmark.online_retail(tmp_path / "orders.parquet", tmp_path / "company")
    monkeypatch.setattr(benchmark, "online_retail", lambda path, folder, end: warehouse)
    monkeypatch.setattr(benchmark, "demo_company", lambda folder: warehouse)
    monkeypatch.setattr(benchmark, "DEMO_WEEKS", 1)
    told = []

    def measured(warehouse: Path, names: list[str], *, places_apart: bool, **given: Any) -> dict[str, Any]:
        told.append(places_apart)
        return real(warehouse, ["ours", "mean13"], places_apart=places_apart, **given)

    real = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", measured)
    for more, parts in (([], [False, False, True]), (["--places-apart"], [True, True])):
        told.clear()
        monkeypatch.setattr(
            sys, "argv", ["replay", "--file", "orders.parquet", "--weeks", "1", "--out", "out.json", *more]
        )
        benchmark.main()
        figures = json.loads((tmp_path / "out.json").read_text("utf-8"))
        assert told == parts
        assert ("demo" in figures) == (not more)
        apart = figures["demo_places_apart"]
        line = f"With every place standing alone: ours {apart['policies']['ours']['cost']:,.2f}, mean13"
        assert line in capsys.readouterr().out
        assert apart["pools"] == 0


def test_without_the_data_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["replay", "--data", "nowhere"])
    assert benchmark.main() == 0
    assert "skipped" in capsys.readouterr().out
