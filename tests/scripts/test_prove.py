"""`make prove` tells what passed, what failed and what was not run, with the figures tests recorded."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from scripts.prove import Measured, read_proofs, report

_TESTS = """
import pytest

def test_the_last_unit_is_sold_once(record_property):
    record_property("sold", 1000)
    record_property("refused", 1000)

def test_that_fails():
    assert 1 == 2

@pytest.mark.skip(reason="no | browser")
def test_not_run(): ...
"""


def test_the_report_names_what_passed_failed_and_was_skipped(tmp_path: Path) -> None:
    (tmp_path / "test_stock.py").write_text(_TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--junit-xml=out.xml", "-p", "no:cacheprovider"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    proofs = read_proofs(tmp_path / "out.xml")
    text = report(datetime(2026, 11, 22, 4, 30, tzinfo=UTC), proofs, [Measured("place_order", 1, 12.4, "too slow\n")])

    rows = [line for line in text.splitlines() if line.startswith("| test_stock.")]
    assert [row.split(" | ")[1] for row in rows] == ["passed", "FAILED", "skipped: no \\| browser"]
    assert rows[0].endswith("| sold 1000, refused 1000 |")
    assert "2026-11-22 04:30 UTC" in text
    assert "### place_order (12 s, FAILED with exit code 1)\n\n```\ntoo slow\n```" in text
