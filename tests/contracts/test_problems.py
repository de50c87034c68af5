"""What is wrong with a request is said in both languages: every caller names a known problem and brings its facts."""

from __future__ import annotations

import ast
from pathlib import Path
from string import Formatter

from orders_core.errors import CreditExceeded, InvalidCommand, LotRefused
from orders_core.problems import PROBLEMS

CORE = Path(__file__).parents[2] / "orders_core"


def _facts(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def _named() -> list[tuple[str, str | None, set[str]]]:
    """(place, problem code or None when it is not one, names of the facts) of every refusal that names a problem."""
    found: list[tuple[str, str | None, set[str]]] = []
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            facts = {keyword.arg or "" for keyword in node.keywords}
            if node.func.id in ("InvalidCommand", "LotRefused"):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "problem"]
            else:
                values = [node.args[2]] if node.func.id == "wrong_stage" else []
            for value in values:
                code = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
                found.append((f"{path.name}:{node.lineno}", code, facts))
    return found


def test_both_languages_name_the_same_facts() -> None:
    assert [code for code, (en, zh) in PROBLEMS.items() if _facts(en) != _facts(zh)] == []


def test_every_refusal_names_a_known_problem_and_brings_its_facts() -> None:
    named = _named()
    assert len(named) > 80
    for place, code, facts in named:
        if code is None:
            assert facts & {"problem_zh", "reason_zh"}, f"{place} says its problem in one language"
        else:
            assert code in PROBLEMS, f"{place}: no problem {code!r}"
            assert _facts(PROBLEMS[code][0]) <= facts, f"{place}: {code} lacks {_facts(PROBLEMS[code][0]) - facts}"
    assert set(PROBLEMS) - {code for _, code, _ in named} == set()


def test_a_problem_is_said_in_the_readers_language() -> None:
    refused = InvalidCommand(field="unit", problem="not_sold_by", sku="TEA", unit="box")
    assert (str(refused), refused.text("zh")) == ("unit: TEA is not sold by box", "unit：TEA 不按 box 销售")
    assert "没有该批次" in LotRefused(lot_code="L1", sku="TEA", problem="no_such_lot").text("zh")


def test_exceeded_credit_names_its_currency() -> None:
    refused = CreditExceeded(customer="ACME", used_cents=1, asked_cents=2, limit_cents=2, currency="GBP")
    assert "GBP" in str(refused) and "GBP" in refused.text("zh")
