"""The documents name only commands that exist, and say the same in both languages."""

from __future__ import annotations

import re
import shlex
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.core import TyperGroup

PROJECT = Path(__file__).parents[1]
DOCUMENTS = sorted([*PROJECT.glob("README*.md"), *(PROJECT / "docs").rglob("*.md")])

_FENCED = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_IN_A_SENTENCE = re.compile(r"`((?:make|dinghuo) [^`\n]+)`")
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def _commands(text: str) -> list[str]:
    """Every `make …` and `dinghuo …` of a document, from its shell blocks and from its sentences."""
    lines = [line.removeprefix("$ ").strip() for block in _FENCED.findall(text) for line in block.splitlines()]
    in_blocks = [line for line in lines if line.split(" ")[0] in ("make", "dinghuo", ".venv/bin/dinghuo")]
    return in_blocks + _IN_A_SENTENCE.findall(text)


def _objection(command: str) -> str | None:
    """Why a command can't be run as written, or None."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = set(_TARGET.findall((PROJECT / "Makefile").read_text(encoding="utf-8")))
        unknown = [word for word in words[1:] if "=" not in word and word not in targets]
        return f"no make target {unknown[0]}" if unknown else None
    return _objection_of_dinghuo(words[1:])


def _objection_of_dinghuo(words: list[str]) -> str | None:
    from apps.cli.main import app

    at, path = typer.main.get_command(app), "dinghuo"
    while isinstance(at, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in at.commands:
            return f"no command {words[0]} in {path}"
        at, path, words = at.commands[words[0]], f"{path} {words[0]}", words[1:]
    options = {option for parameter in at.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in {*options, "--help"}]
    return f"{path} has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_command_in_the_documents_exists(document: Path) -> None:
    objections = {command: _objection(command) for command in _commands(document.read_text(encoding="utf-8"))}
    assert {command: why for command, why in objections.items() if why} == {}


def test_the_readme_says_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(_commands((PROJECT / "README.md").read_text(encoding="utf-8")))


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    assert _FENCED.findall(english) == _FENCED.findall(chinese)


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("```sh\nmake demmo\n```", "no make target demmo"),
        ("then `make tset` it", "no make target tset"),
        ("```sh\ndinghuo fly\n```", "no command fly in dinghuo"),
        ("```sh\n$ dinghuo orders fly --json\n```", "no command fly in dinghuo orders"),
        ("```sh\n.venv/bin/dinghuo verify --loudly\n```", "dinghuo verify has no option --loudly"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(text: str, objection: str) -> None:
    (command,) = _commands(text)
    assert _objection(command) == objection


_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_library_example_runs_on_a_plain_csv_and_sets_a_bad_row_aside(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [date(2026, 6, 30) - timedelta(days=back) for back in range(200)]
    rows = [f"{name},{day},{level + day.weekday()}" for name, level in (("LAMP", 3), ("ROPE", 9)) for day in days]
    rows += [
        f"VASE,{day},{'sold out' if day == days[20] else 2}" for day in days
    ]  # far below what tells a column's type
    (tmp_path / "demand.csv").write_text("\n".join(["unique_id,ds,y", *rows]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (example,) = _PYTHON.findall((PROJECT / readme).read_text(encoding="utf-8"))
    lines = [line for line in example.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    scope: dict[str, object] = {}
    exec(example, scope)
    bought = scope["buy"].suggestions  # type: ignore[attr-defined]
    assert bought["unique_id"].to_list() == ["LAMP", "ROPE"]
    assert bought.filter(pl.col("unique_id") == "ROPE")["suggested_qty"].item() % 6 == 0
    assert bought.filter(pl.col("unique_id") == "ROPE")["suggested_qty"].item() > 12 * 10
    (broken,) = scope["plan"].exceptions.rows(named=True)  # type: ignore[attr-defined]
    assert (broken["unique_id"], broken["ds"], broken["code"]) == ("VASE", days[20], "bad_value")
    assert "order_by_date" in capsys.readouterr().out
