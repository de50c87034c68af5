"""The `store` fixture fails a test that leaves a broken database behind, unless the test says it means to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]

_TESTS = """
import pytest
from sqlalchemy import text

def _take_an_id_nobody_gave_out(store):
    with store.unit_of_work() as uow:
        uow.conn.execute(text("INSERT INTO location (id, code, name) VALUES (4711, 'HEL', 'HEL')"))

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

def test_clean(store): ...

def test_broken(store):
    _take_an_id_nobody_gave_out(store)

@pytest.mark.breaks_invariants
def test_broken_on_purpose(store):
    _take_an_id_nobody_gave_out(store)
"""


def test_a_test_that_leaves_a_broken_row_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(_TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", str(PROJECT / "pyproject.toml"), "-p", "tests.conftest", "-rA"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    ran = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "3 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    assert re.search(r"^ERROR .*test_inner\.py::test_broken\[sqlite\] - ", ran.stdout, re.MULTILINE)
    assert "the test left a database that breaks\n" in ran.stdout
    assert "next_id: number_series location: the next row id is 1, but there is a row 4711" in ran.stdout
