"""Runs every test that has a stated count at that count, and the benchmarks, and writes benchmarks/RESULTS.md.

`make prove` runs it in the background. What a test hands to pytest's `record_property` becomes a figure of its line.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks" / "RESULTS.md"
WORK = PROJECT / "run" / "prove"

BENCHMARKS = ("place_order",)


@dataclass(frozen=True)
class Proof:
    """One test run at its stated count."""

    name: str
    outcome: str
    seconds: float
    figures: str


@dataclass(frozen=True)
class Measured:
    """One benchmark's words, and whether it ended well."""

    name: str
    exit_code: int
    seconds: float
    output: str


def main() -> int:
    """Run everything; 0 when all of it passed."""
    WORK.mkdir(parents=True, exist_ok=True)
    started = datetime.now(UTC)
    tests_exit_code, proofs = run_stated_counts()
    measured = [run_benchmark(name) for name in BENCHMARKS]
    RESULTS.write_text(report(started, proofs, measured), encoding="utf-8")
    sys.stdout.write(f"written: {RESULTS.relative_to(PROJECT)}\n")
    return int(tests_exit_code != 0 or any(benchmark.exit_code for benchmark in measured))


def run_stated_counts() -> tuple[int, list[Proof]]:
    """pytest's exit code and one proof per test; what pytest prints goes to our own output."""
    junit = WORK / "tests.xml"
    junit.unlink(missing_ok=True)  # an old one would be read as new when pytest breaks off early
    command = [sys.executable, "-m", "pytest", "--stated-counts", "-m", "prove or slow", "--timeout=7200"]
    ran = subprocess.run([*command, f"--junit-xml={junit}", "-rs"], cwd=PROJECT, check=False)
    return ran.returncode, read_proofs(junit)


def read_proofs(junit: Path) -> list[Proof]:
    """The proofs in a JUnit file, in the order they ran."""
    return [
        Proof(
            name=f"{case.get('classname', '').removeprefix('tests.')}.{case.get('name')}",
            outcome=_outcome(case),
            seconds=float(case.get("time", "0")),
            figures=", ".join(f"{p.get('name')} {p.get('value')}" for p in case.iter("property")),
        )
        for case in ET.parse(junit).iter("testcase")
    ]


def _outcome(case: ET.Element) -> str:
    for tag, outcome in (("failure", "FAILED"), ("error", "FAILED"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            reason = f": {found.get('message')}" if tag == "skipped" else ""
            return outcome + reason
    return "passed"


def run_benchmark(name: str) -> Measured:
    """Run `python -m benchmarks.NAME` and keep what it prints; its JSON lies in run/prove."""
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(WORK / f"{name}.json")]
    ran = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    sys.stdout.write(ran.stdout)
    return Measured(name, ran.returncode, time.monotonic() - began, ran.stdout)


def report(started: datetime, proofs: Iterable[Proof], measured: Iterable[Measured]) -> str:
    """The text of RESULTS.md."""
    lines = ["# Results", "", "Written by `make prove`.", "", *_circumstances(started), "", "## Stated counts", ""]
    lines += ["| test | outcome | seconds | figures |", "|---|---|---:|---|"]
    for proof in proofs:
        cells = (proof.name, proof.outcome, f"{proof.seconds:.1f}", proof.figures)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    lines += ["", "## Benchmarks"]
    for benchmark in measured:
        state = "" if benchmark.exit_code == 0 else f", FAILED with exit code {benchmark.exit_code}"
        lines += ["", f"### {benchmark.name} ({benchmark.seconds:.0f} s{state})", ""]
        lines += ["```", benchmark.output.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _circumstances(started: datetime) -> list[str]:
    commit = _git("rev-parse", "--short", "HEAD")
    changed = " with uncommitted changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return [
        f"- commit {commit}{changed}, {started:%Y-%m-%d %H:%M} UTC",
        f"- {platform.system()} {platform.machine()}, {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
    ]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
