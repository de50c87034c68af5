"""Mappings: what they accept, what they refuse, and how headings find their field."""

from __future__ import annotations

from pathlib import Path

import pytest

from orders_core.intake.mapping import built_in_mappings, layout, load_mapping, parse_mapping, template_header
from orders_core.intake.problems import FileRefused

GOOD = """
noun = "stock"
title = "x"
zone = "Asia/Shanghai"
[columns]
sku = { names = ["货号"], required = true }
qty = { names = ["数量", "On Hand"], required = true }
"""


def refusal(text: str) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        parse_mapping(text, "my.toml")
    assert caught.value.code == "E_CONFIG"
    assert caught.value.exit_code == 2
    return caught.value


def test_every_built_in_mapping_loads_and_has_a_template_in_both_languages() -> None:
    assert set(built_in_mappings()) == {"catalogue", "customers", "online-retail", "orders", "stock", "tracking"}
    for name in built_in_mappings():
        mapping = load_mapping(name)
        for language in ("zh", "en"):
            header = template_header(mapping, language)  # type: ignore[arg-type]
            assert set(layout(mapping, tuple(header)).index) == set(mapping.columns)


@pytest.mark.parametrize(
    "heading", ["订单号", "Order No", "order_no", "ORDER-NO", " order no ", "Ｏｒｄｅｒ Ｎｏ", "order_id"]
)
def test_headings_are_known_in_both_languages_and_any_spelling(heading: str) -> None:
    found = layout(load_mapping("orders"), (heading, "SKU", "数量", "客户编码", "whatever"))
    assert found.index["order_id"] == 0
    assert found.unused == ("whatever",)


def test_case_03_a_missing_required_column_refuses_the_file_with_all_the_names() -> None:
    with pytest.raises(FileRefused) as caught:
        layout(load_mapping("orders"), ("order_no", "sku", "quantitty", "customer"))
    assert caught.value.code == "E_HEADER"
    assert caught.value.exit_code == 3
    text = str(caught.value)
    assert "qty" in text and "quantitty" in text
    assert "数量" in caught.value.text("zh")


def test_two_columns_for_one_field_are_refused() -> None:
    with pytest.raises(FileRefused, match="two columns mean sku"):
        layout(load_mapping("stock"), ("sku", "货号", "location", "qty"))


def test_case_83_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    assert "did you mean zone?" in str(refusal(GOOD.replace("zone", "zonne")))
    assert "did you mean location?" in str(refusal(GOOD + 'locatoin = { names = ["仓"] }'))
    assert "did you mean required?" in str(refusal(GOOD.replace("required", "requird", 1)))


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"Asia/Shanghai"', '"Asia/Shanghi"', "zone"),
        ('"Asia/Shanghai"', "8", "zone"),
        ("required = true", 'required = "yes"', "columns.sku.required"),
        ('"stock"', '"stocks"', "noun"),
        ('["货号"]', "[]", "columns.sku.names"),
        ('["货号"]', '["数量"]', "columns.qty.names"),
        ("title", 'noun = "stock"\ntitle', "-"),  # a key twice
    ],
)
def test_case_84_a_wrong_value_is_refused_with_its_path(old: str, new: str, place: str) -> None:
    assert f"my.toml: {place}:" in str(refusal(GOOD.replace(old, new, 1)))


def test_history_needs_its_table() -> None:
    assert "history" in str(refusal(GOOD.replace('noun = "stock"', 'noun = "stock"\norigin = "history"')))


def test_a_mapping_may_be_a_file_and_a_missing_one_names_those_built_in(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(GOOD, "utf-8")
    assert load_mapping(str(tmp_path / "m.toml")).noun == "stock"
    with pytest.raises(FileRefused, match="online-retail"):
        load_mapping(str(tmp_path / "missing.toml"))
