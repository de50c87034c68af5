"""What is wrong with a request is said in both languages: every caller names a known problem and brings its facts."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from string import Formatter

from sqlalchemy import CheckConstraint

from orders_core.domain.lifecycle import ACTIONS
from orders_core.errors import CreditExceeded, InvalidCommand, LotRefused, NotAllowed, NotFound
from orders_core.problems import PROBLEMS, SAID_ZH
from orders_core.store import tables

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


def _constants(*names: str) -> set[str]:
    """The texts that refusals of the core give for these facts."""
    found = set()
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REFUSALS:
                values = [keyword.value for keyword in node.keywords if keyword.arg in names]
                found |= {x.value for x in values if isinstance(x, ast.Constant) and isinstance(x.value, str)}
    return found


_REFUSALS = {"NotFound", "AlreadyExists", "NotAllowed", "VersionConflict"}
_STAGED = (
    tables.Order,
    tables.Shipment,
    tables.ReturnAuthorization,
    tables.Ticket,
    tables.PickList,
    tables.PickListLine,
)


def test_what_a_refusal_names_has_a_chinese_word() -> None:
    named = _constants("entity", "action")
    assert len(named) > 30
    assert named | set(ACTIONS) <= SAID_ZH.keys()
    for table in _STAGED:
        rules = [str(x.sqltext) for x in table.__table__.constraints if isinstance(x, CheckConstraint)]
        statuses = [word for rule in rules if rule.startswith("status IN") for word in re.findall(r"'(\w+)'", rule)]
        assert statuses and set(statuses) <= SAID_ZH.keys(), table.__tablename__


def test_a_refusal_names_thing_stage_and_action_in_chinese() -> None:
    refused = NotAllowed(
        action="approve", entity="order", key="SO-1", status="held", reason="it is on hold", reason_zh="订单已挂起"
    )
    assert refused.text("zh") == "订单 SO-1 已挂起，不能审核：订单已挂起"
    assert str(refused) == "approve is not possible for order SO-1 in stage held: it is on hold"
    assert NotFound(entity="line", key="SO-1/9").text("zh") == "未找到订单行 SO-1/9"
    decided = InvalidCommand(field="return", problem="return_is_decided", number="RT-1", status="refused")
    assert decided.text("zh") == "return：RT-1 已处理，状态为 未通过"


def test_exceeded_credit_names_its_currency() -> None:
    refused = CreditExceeded(customer="ACME", used_cents=1, asked_cents=2, limit_cents=2, currency="GBP")
    assert "GBP" in str(refused) and "GBP" in refused.text("zh")
