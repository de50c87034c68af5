"""The ledger of an import and its report."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from orders_core.intake.outcome import Outcome, Report, RowProblem
from orders_core.intake.problems import Problem


def test_rows_add_up_or_it_is_our_mistake() -> None:
    Outcome("o.csv", read=10, accepted=6, quarantined=1, duplicates=3).check()
    with pytest.raises(AssertionError, match="rows lost"):
        Outcome("o.csv", read=10, accepted=6, quarantined=1, duplicates=2).check()


def test_a_refused_file_still_adds_up_and_exits_3() -> None:
    outcome = Outcome("o.csv", read=10, accepted=6, quarantined=1, duplicates=3)
    outcome.refuse()
    outcome.check()
    assert (outcome.accepted, outcome.quarantined, outcome.exit_code) == (0, 7, 3)
    assert "stays out" in outcome.summary("en") and "未导入" in outcome.summary("zh")


def test_only_rows_that_stayed_out_make_it_exit_3() -> None:
    assert Outcome("o.csv", read=5, duplicates=5).exit_code == 0
    assert Outcome("o.csv", read=5, accepted=4, quarantined=1).exit_code == 3
    assert Outcome("o.csv").exit_code == 0


def test_the_report_explains_each_row_in_both_languages_and_runs_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    with Report(path) as report:
        report.write(RowProblem("o.csv", 7, Problem("E_QTY", "qty", "=1+1")))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["line"], row["field"], row["code"], row["raw"]) == ("7", "qty", "E_QTY", "'=1+1")
    assert "整数" in row["message_zh"] and "whole number" in row["message_en"]


def test_half_a_report_is_never_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stopped"), Report(tmp_path / "r.csv"):
        raise ValueError("stopped")
    assert not (tmp_path / "r.csv").exists()


def test_json_has_the_counts_and_every_problem_shown() -> None:
    outcome = Outcome("o.csv", read=2, accepted=1, quarantined=1)
    outcome.note(RowProblem("o.csv", 3, Problem("E_QTY", "qty", "0")))
    body = outcome.as_json()
    assert {key: body[key] for key in ("read", "accepted", "quarantined", "duplicates")} == {
        "read": 2,
        "accepted": 1,
        "quarantined": 1,
        "duplicates": 0,
    }
    assert body["by_code"] == {"E_QTY": 1}
    assert body["problems"][0]["line"] == 3
    assert "第 3 行" in outcome.problems[0].sentence("zh")
