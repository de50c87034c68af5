"""What is committed works on any machine: no path of ours, no registry of ours."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# Written with a class around one letter each, so that this file does not hold what it looks for.
NOT_FOR_OTHERS = {
    "a path of one machine": re.compile(rb"/[w]ork/|/[r]oot/|/[h]ome/[a-z]|/[U]sers/[a-z]|/[o]pt/(?:wheels|pypi)"),
    "a package registry": re.compile(
        rb"[-]-(?:extra-)?index-url|[-]-find-links|https?://[^\s/]*(?:[p]ypi|[p]ythonhosted|[a]rtifactory|[n]exus)"
    ),
}


def _committed_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    # A file deleted but not committed yet is still listed.
    return [path for name in listed.decode().split("\0") if name and (path := PROJECT / name).is_file()]


def _findings(content: bytes) -> list[str]:
    newline = b"\n"
    return [
        f"line {1 + content.count(newline, 0, match.start())}: {what}: {match.group().decode()}"
        for what, pattern in NOT_FOR_OTHERS.items()
        for match in pattern.finditer(content)
    ]


def test_no_committed_file_names_a_machine_or_a_registry() -> None:
    files = _committed_files()
    assert PROJECT / "Makefile" in files
    found = [f"{path.relative_to(PROJECT)} {finding}" for path in files for finding in _findings(path.read_bytes())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "planted",
    ["data = '/" + "work/main/data'", "cd /" + "root/x", "-" + "-index-url x", "https://" + "pypi.example.com/simple"],
)
def test_a_planted_path_or_registry_is_found_with_its_line(planted: str) -> None:
    findings = _findings(b"first\n" + planted.encode())
    assert len(findings) == 1
    assert findings[0].startswith("line 2: ")
