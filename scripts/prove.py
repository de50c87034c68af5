"""Runs every test that has a stated count at that count, then the benchmarks; all write their part of RESULTS.md.

`make prove` runs it in the background. What a test hands to pytest's `record_property` becomes a figure of its line.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.common import PROJECT, Figure, record

WORK = PROJECT / "run" / "prove"
BENCHMARKS = ("place_order", "load", "forecast_scale", "vn2", "orange_juice", "spare_parts", "replay")


def main() -> int:
    """Run everything; 0 when all of it passed."""
    WORK.mkdir(parents=True, exist_ok=True)
    exit_codes = [run_stated_counts(), *(run_benchmark(name) for name in BENCHMARKS)]
    sys.stdout.write(f"exit codes of the tests and of {', '.join(BENCHMARKS)}: {exit_codes}\n")
    return int(any(exit_codes))


def run_stated_counts() -> int:
    """Run the tests and record what they found; gives pytest's exit code."""
    junit = WORK / "tests.xml"
    junit.unlink(missing_ok=True)  # an old one would be read as new when pytest breaks off early
    command = [sys.executable, "-m", "pytest", "--stated-counts", "-m", "prove or slow", "--timeout=7200"]
    ran = subprocess.run([*command, f"--junit-xml={junit}"], cwd=PROJECT, check=False)
    record("Stated counts", read_figures(junit), command="make prove")
    return ran.returncode


def run_benchmark(name: str) -> int:
    """Run `python -m benchmarks.NAME`, which records its own figures; gives its exit code."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--record", "--out", str(WORK / f"{name}.json")]
    return subprocess.run(command, cwd=PROJECT, check=False).returncode


def read_figures(junit: Path) -> list[Figure]:
    """One figure per test of a JUnit file, in the order they ran: how it ended, how long it took, what it recorded."""
    figures = []
    for case in ET.parse(junit).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.')}.{case.get('name')}"
        recorded = ", ".join(f"{found.get('name')} {found.get('value')}" for found in case.iter("property"))
        measured = f"{_outcome(case)}, {float(case.get('time', '0')):.1f} s" + (f": {recorded}" if recorded else "")
        figures.append(Figure(*(text.replace("|", "\\|").replace("\n", " ") for text in (name, measured))))
    return figures


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "FAILED"
    skipped = case.find("skipped")
    return "passed" if skipped is None else f"not run ({skipped.get('message')})"


if __name__ == "__main__":
    sys.exit(main())
