"""The import contracts of `.importlinter` hold, and each of them would notice a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ("apps", "pipelines", "forecasting", "orders_core")

# contract -> an import that breaks it: the file it is written into, and the line
BREACHES = {
    "direction": ("forecasting/breach.py", "import orders_core.domain"),
    "core": ("orders_core/services/breach.py", "import duckdb"),
    "pure": ("orders_core/domain/breach.py", "import sqlalchemy"),
    "pipelines": ("pipelines/defs/breach.py", "import orders_core.store.uow"),
    "frames": ("forecasting/breach.py", "import duckdb"),
    "leaf": ("pipelines/warehouse/breach.py", "import orders_core.errors"),
    "pages": ("apps/desk/breach.py", "import sqlalchemy"),
    "production": ("orders_core/breach.py", "import tests.support.databases"),
}


def _lint(project: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    chosen = [f"--contract={contract}" for contract in contracts]
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run(
        [*command, "--no-cache", "--no-logo", *chosen], cwd=project, capture_output=True, text=True, check=False
    )


def _contracts() -> set[str]:
    config = ConfigParser()
    config.read(PROJECT / ".importlinter", encoding="utf-8")
    return {section.rpartition(":")[2] for section in config.sections() if ":contract:" in section}


def test_every_import_goes_in_an_allowed_direction() -> None:
    result = _lint(PROJECT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_has_a_breach_that_proves_it() -> None:
    assert set(BREACHES) == _contracts()


@pytest.mark.parametrize("contract", BREACHES)
def test_a_breach_of_the_contract_is_noticed(contract: str, tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / ".importlinter", tmp_path)
    file, line = BREACHES[contract]
    (tmp_path / file).write_text(line + "\n", encoding="utf-8")

    result = _lint(tmp_path, contract)

    breach = file.removesuffix(".py").replace("/", ".")
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{breach} -> {line.removeprefix('import ').partition('.')[0]}" in result.stdout
