"""Importing a module does nothing: no file, no connection, no environment variable, no word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ("orders_core", "forecasting", "pipelines", "apps")


def _import_all(project: Path, cwd: Path, *packages: str) -> dict[str, list[str]]:
    # Bytecode is not written, or the interpreter's own files would be among what importing does.
    environment = {**os.environ, "PYTHONPATH": f"{project}:{PROJECT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.contracts.import_all", str(project), *packages]
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "", "importing said something"
    return dict(json.loads(ran.stdout))


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_every_module_does_nothing(package: str, tmp_path: Path) -> None:
    result = _import_all(PROJECT, tmp_path, package)
    assert package in result["modules"]
    assert result["did"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_order_core_runs_without_orchestrator_screens_and_warehouse(tmp_path: Path) -> None:
    loaded = set(_import_all(PROJECT, tmp_path, "orders_core")["loaded"])
    assert "sqlalchemy" in loaded
    assert loaded.isdisjoint({"dagster", "streamlit", "duckdb", "statsforecast", "pipelines", "forecasting", "apps"})


@pytest.mark.parametrize(
    ("line", "noticed"),
    [
        ("open('notes.txt', 'w').close()", "open 'notes.txt'"),
        ("import sqlite3; sqlite3.connect(':memory:')", "sqlite3.connect ':memory:'"),
        ("import pathlib; pathlib.Path('made').mkdir()", "os.mkdir"),
        ("import os; os.environ.get('HOME')", "reads the environment variable HOME"),
        ("import os; 'HOME' in os.environ", "reads the environment variable HOME"),
        ("import os; os.getenv('HOME')", "reads the environment variable HOME"),
        ("import socket; socket.socket().bind(('127.0.0.1', 0))", "socket.bind"),
    ],
)
def test_a_module_that_does_something_when_imported_is_noticed(line: str, noticed: str, tmp_path: Path) -> None:
    package = tmp_path / "project" / "busy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "worker.py").write_text(f"\n{line}\n", encoding="utf-8")
    (tmp_path / "cwd").mkdir()

    did = _import_all(tmp_path / "project", tmp_path / "cwd", "busy")["did"]

    assert [finding for finding in did if finding.startswith("busy/worker.py:2: ") and noticed in finding], did
