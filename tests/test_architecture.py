"""The stage × action table in docs/architecture.md is the one the code uses."""

from __future__ import annotations

from pathlib import Path

from orders_core.domain.lifecycle import ACTIONS, PERMISSIONS, REASONS, STAGES
from orders_core.domain.permissions import ROLES

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def stage_table() -> str:
    """The stage × action table as Markdown; the first row says who may do it at all."""
    head = f"| stage | {' | '.join(ACTIONS)} |\n|{' --- |' * (len(ACTIONS) + 1)}\n"
    who = [", ".join(sorted(role for role, may in ROLES.items() if PERMISSIONS[action] in may)) for action in ACTIONS]
    head += f"| **who** | {' | '.join(who)} |\n"
    rows = (f"| {stage} | {' | '.join(row[action] for action in ACTIONS)} |\n" for stage, row in STAGES.items())
    return head + "".join(rows)


def reason_table() -> str:
    """What each reason code says, as Markdown."""
    head = "| reason | en | zh |\n| --- | --- | --- |\n"
    return head + "".join(f"| {code} | {en} | {zh} |\n" for code, (en, zh) in REASONS.items())


def _between(name: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.split(f"<!-- {name}:begin -->\n")[1].split(f"<!-- {name}:end -->")[0]


def test_the_printed_stage_table_is_the_one_in_use() -> None:
    assert _between("stages") == stage_table()


def test_the_printed_reasons_are_the_ones_in_use() -> None:
    assert _between("reasons") == reason_table()


def test_every_action_takes_a_permission_that_somebody_has() -> None:
    for action in ACTIONS:
        assert any(PERMISSIONS[action] in may for may in ROLES.values()), action


def test_every_stage_answers_every_action_with_a_known_reason() -> None:
    for stage, row in STAGES.items():
        assert set(row) == set(ACTIONS), stage
        assert all(reason == "" or reason in REASONS for reason in row.values()), stage
