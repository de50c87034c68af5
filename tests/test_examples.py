"""The examples in the docstrings are true, in every module that has some."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = ("apps", "benchmarks", "forecasting", "orders_core", "pipelines")
TOLD = sorted(
    str(file.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for house in HOUSES
    for file in (ROOT / house).rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8") and file.name != "__init__.py"
)


def test_there_are_examples() -> None:
    assert {"forecasting.quantities", "forecasting.policies", "apps.approving"} <= set(TOLD)


@pytest.mark.parametrize("name", TOLD)
def test_the_examples_in_the_docstrings_are_true(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed
