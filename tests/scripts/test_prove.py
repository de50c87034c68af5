"""`make prove` tells what passed, what failed and what was not run, with the figures tests recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.prove import read_figures

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


def test_the_figures_name_what_passed_failed_and_was_skipped(tmp_path: Path) -> None:
    (tmp_path / "test_stock.py").write_text(_TESTS, encoding="utf-8")
    configuration = Path(__file__).parents[2] / "pyproject.toml"
    command = [sys.executable, "-m", "pytest", "-c", str(configuration), "--junit-xml=out.xml", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    figures = read_figures(tmp_path / "out.xml")

    assert [figure.name for figure in figures] == [
        "test_stock.test_the_last_unit_is_sold_once",
        "test_stock.test_that_fails",
        "test_stock.test_not_run",
    ]
    assert [figure.measured for figure in figures] == [
        "passed, 0.0 s: sold 1000, refused 1000",
        "FAILED, 0.0 s",
        "not run (no \\| browser), 0.0 s",
    ]
