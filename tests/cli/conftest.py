"""The command line in this process (`cli`, quick) and as a real program (`dinghuo`, for streams, signals and exit codes)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orders_core.store.uow import Store
from tests.support import build

PROJECT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "apps.cli"]


@dataclass(frozen=True)
class Said:
    """What a command line gave back."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)


Cli = Callable[..., Said]


def environment(**more: str) -> dict[str, str]:
    """An environment without this machine's settings and language."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("DINGHUO_", "LC_", "LANG"))}
    return {**own, "PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "utf-8", **more}


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs a command line in this process, in an empty folder, in English."""
    for key in list(os.environ):
        if key.startswith(("DINGHUO_", "LC_", "LANG")) and not key.startswith("DINGHUO_TEST_"):
            monkeypatch.delenv(key)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: str) -> Said:
        from apps.cli.main import run as run_program

        capsys.readouterr()
        code = run_program(words)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture
def dinghuo(tmp_path: Path) -> Cli:
    """Runs the real program in an empty folder, in English unless told otherwise; nobody sits at its terminal."""
    folder = tmp_path / "there"
    folder.mkdir(exist_ok=True)

    def run(*words: str, env: Mapping[str, str] | None = None) -> Said:
        done = subprocess.run(
            [*PROGRAM, *words], cwd=folder, env=environment(**(env or {})), stdin=subprocess.DEVNULL,
            capture_output=True, check=False, timeout=300,
        )  # fmt: skip
        encoding = (env or {}).get("PYTHONIOENCODING", "utf-8").partition(":")[0]
        return Said(done.returncode, *(stream.decode(encoding, "replace") for stream in (done.stdout, done.stderr)))

    return run


@pytest.fixture
def shop(store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A company with stock, and the command line working on its database."""
    monkeypatch.setenv("DINGHUO_DATABASE_URL", store.url)
    build.company(store)
    build.stock(store, "LAMP@WH1: 20, RUG@WH1: 5")
    return store
