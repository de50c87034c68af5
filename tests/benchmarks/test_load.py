"""The load is measured on trade that keeps the rules of the schema, beside a plain copy (issue 3, line 1)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import pytest

from benchmarks import load as benchmark
from benchmarks import three_years
from benchmarks.common import Address, Databases
from pipelines.extract import extract
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import RAW_TABLES
from tests.pipelines.test_extract import empty_generation, raw_rows


def test_three_years_are_read_in_full_and_then_as_they_go_on(new_database, tmp_path: Path) -> None:
    url = new_database(empty=True)
    assert three_years.write_history(url, lines=600).lines == 600
    generation = empty_generation(tmp_path / "generation.duckdb")
    first = extract(url, generation, full=True)
    assert first.rows_read["order_line"] == 600
    assert min(first.rows_read[name] for name in ("orders", "shipment_line", "stock_movement", "order_edit")) > 0
    with duckdb.connect(str(generation)) as con:
        assert find_violations(con, RAW_TABLES) == []
    assert 80 <= three_years.change(url, lines=80, round_no=0) <= 87
    later = extract(url, generation, full=False, reconcile="touched")
    assert not later.is_full
    assert 10 < later.rows_read["order_line"] < 600
    anew = empty_generation(tmp_path / "anew.duckdb")
    extract(url, anew, full=True)
    assert raw_rows(generation) == raw_rows(anew)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_three_years_are_the_same_each_time_and_refer_to_nothing_that_is_not_there(
    new_database, tmp_path: Path
) -> None:
    found = []
    for number in range(2):
        url = new_database(empty=True)
        three_years.write_history(url, lines=300)
        three_years.change(url, lines=50, round_no=0)
        with sqlite3.connect(Address.of(url).name) as connection:  # PostgreSQL itself refuses what refers to nothing
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        generation = empty_generation(tmp_path / f"{number}.duckdb")
        extract(url, generation, full=True)
        rows = raw_rows(generation)
        with duckdb.connect(str(generation)) as con:  # the rules too, but for the moment the database was made
            rows["raw.rule_set"] = con.sql("SELECT * EXCLUDE (created_at) FROM raw.rule_set").fetchall()
        assert len(rows["raw.rule_set"]) == 1
        found.append(rows)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_measuring_gives_the_keys_that_are_asked_for(new_database) -> None:
    with Databases(new_database(empty=True)) as databases:
        found = benchmark.measure(databases, lines=400, changes=60)
    assert found["lines"] == 400
    assert found["changes"] >= 60
    assert min(found[key] for key in ("full_seconds", "plain_copy_seconds", "incremental_seconds")) > 0
    assert found["full_ratio"] == pytest.approx(found["full_seconds"] / found["plain_copy_seconds"], rel=0.05)
    assert 50 < found["peak_mb"] < 3072
