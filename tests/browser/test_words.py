"""The desk says everything in both languages, with the same facts."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

from apps.components.words import WORDS
from orders_core.domain.lifecycle import ACTIONS
from orders_core.notifications.templates import TEMPLATES
from orders_core.store.tables.orders import ORDER_STATUSES

APPS = Path(__file__).parents[2] / "apps"
_KEY = re.compile(r"""\bt\(\s*"([a-z_.0-9A-Z]+)\"""")


def _facts(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name}


def test_both_languages_are_there_and_name_the_same_facts() -> None:
    assert WORDS
    for key, (chinese, english) in WORDS.items():
        assert chinese and english, key
        assert _facts(chinese) == _facts(english), key
    # Numbers aside, Chinese is Chinese: a word forgotten in translation would read the same in both.
    same = {key for key, (chinese, english) in WORDS.items() if chinese == english}
    assert same == {"col.sku"}


def test_every_key_a_page_asks_for_has_words() -> None:
    files = [*(APPS / "desk").rglob("*.py"), *(APPS / "components").rglob("*.py")]
    asked = {key for file in files for key in _KEY.findall(file.read_text(encoding="utf-8"))}
    assert len(asked) > 100
    assert asked - WORDS.keys() == set()


def test_what_the_core_names_has_words() -> None:
    named = [f"status.{status}" for status in ORDER_STATUSES]
    named += [f"action.{action}" for action in ACTIONS]
    named += [f"template.{template}" for template in TEMPLATES]
    assert [key for key in named if key not in WORDS] == []
