"""Catalogue files: what is created and changed, and which references must hold. On both databases."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from orders_core.intake.catalogue import import_catalogue
from orders_core.intake.files import Declared
from orders_core.intake.mapping import load_mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused
from orders_core.intake.runs import ImportOptions
from orders_core.store.tables import KitComponent, Price, Product, Sku, SkuBarcode, SkuUnit, Supplier, SupplierSku
from orders_core.store.uow import Store
from tests.support import build

CATALOGUE = load_mapping("catalogue")
KEEP = ImportOptions(quarantine=True, accept_price_changes=True)


def file(folder: Path, header: str, *lines: str, name: str = "catalogue.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def take_in(store: Store, path: Path, options: ImportOptions = KEEP) -> Outcome:
    return import_catalogue(store, build.MANAGER, path, CATALOGUE, options)


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return (outcome.read, outcome.accepted, outcome.quarantined, outcome.duplicates)


def rows(store: Store, *columns: Any) -> list[Any]:
    with store.reading() as conn:
        return [tuple(row) for row in conn.execute(select(*columns).order_by(*columns))]


def test_a_catalogue_comes_in_whole_and_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "货号,名称,类目,大单位,箱规,单价,成本,条码,税率,供应商,提前期,起订量",
        "00123,铁观音,茶,箱,12,58.00,30.10,06901234567892,13%,FJ,10,24",
        "LAMP,Lamp,,,,9.5,,,,,,",
    )
    outcome = take_in(store, path)
    assert (counts(outcome), outcome.exit_code) == ((2, 2, 0, 0), 0)
    assert rows(store, Sku.sku, Sku.name, Sku.pinyin) == [
        ("00123", "铁观音", "tgy tieguanyin"),
        ("LAMP", "Lamp", "lamp lamp"),
    ]
    assert rows(store, SkuUnit.unit, SkuUnit.units_per_pack) == [("箱", 12)]
    assert rows(store, SkuBarcode.barcode) == [("06901234567892",)]
    assert rows(store, Price.kind, Price.unit_price_cents) == [("list", 950), ("list", 5800)]
    assert rows(store, SupplierSku.unit_cost_cents, SupplierSku.min_order_qty, SupplierSku.lead_time_days) == [
        (3010, 24, 10)
    ]
    again = take_in(store, path)
    assert (counts(again), again.exit_code) == ((2, 0, 0, 2), 0)


def test_an_empty_cell_leaves_what_is_known(store: Store, tmp_path: Path) -> None:
    take_in(store, file(tmp_path, "sku,name,weight_g,category,name_en", "TEA,茶,250,饮料,Tea"))
    assert counts(take_in(store, file(tmp_path, "sku,name,weight_g", "TEA,好茶,"))) == (1, 1, 0, 0)
    assert rows(store, Sku.name, Sku.name_en, Sku.weight_g) == [("好茶", "Tea", 250)]
    with store.reading() as conn:
        assert conn.scalar(select(Product.category_id)) is not None


def test_changed_prices_are_confirmed_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    take_in(store, file(tmp_path, "sku,name,price", "TEA,茶,58", "CUP,杯,5"))
    changed = file(tmp_path, "sku,name,price", "TEA,茶,68", "CUP,杯,5")
    with pytest.raises(FileRefused) as refused:
        take_in(store, changed, replace(KEEP, accept_price_changes=False))
    assert (refused.value.code, refused.value.exit_code) == ("E_CONFIRM", 2)
    assert "TEA 58.00 → 68.00" in str(refused.value)
    asked: list[Any] = []
    no = replace(KEEP, accept_price_changes=False, confirm=lambda question: bool(asked.append(question)))
    with pytest.raises(FileRefused):
        take_in(store, changed, no)
    assert asked[0].preview[1] == ("TEA", "58.00", "68.00")
    store.clock.advance(days=2)  # type: ignore[attr-defined]
    assert counts(take_in(store, changed)) == (2, 1, 0, 1)
    with store.reading() as conn:
        prices = conn.execute(
            select(Price.unit_price_cents, Price.valid_to_date.is_(None)).where(Price.unit_price_cents > 500)
        ).all()
    assert sorted(map(tuple, prices)) == [(5800, False), (6800, True)]


def test_case_57_spellings_of_one_sku_are_a_conflict_not_two_products(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, file(tmp_path, "sku,name", "ab-1,x", "AB-1,x", "ＡＢ-1,x", "OK,y"))
    assert counts(outcome) == (4, 1, 3, 0)
    assert outcome.by_code == Counter(E_CONFLICT=3)
    assert "the same SKU" in outcome.problems[0].sentence("en")


def test_a_sku_that_stands_twice_is_a_duplicate_or_a_conflict(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, file(tmp_path, "sku,name", "A,a", "A,a", "B,b", "B,other"))
    assert counts(outcome) == (4, 1, 2, 1)
    assert [p.problem.facts["other_line"] for p in outcome.problems] == [5, 4]


def test_case_57_a_twin_of_a_sku_in_the_books_is_a_conflict(store: Store, tmp_path: Path) -> None:
    take_in(store, file(tmp_path, "sku,name", "AB-1,x"))
    outcome = take_in(store, file(tmp_path, "sku,name", "ab-1,x"))
    assert outcome.by_code == Counter(E_CONFLICT=1)
    assert rows(store, Sku.sku) == [("AB-1",)]


def test_case_59_missing_parents_and_components_are_named(store: Store, tmp_path: Path) -> None:
    header = "sku,name,product,component,component_qty"
    outcome = take_in(
        store,
        file(
            tmp_path,
            header,
            "A,a,GHOST,,",
            "SET,set,,A2,2",
            "SET,set,,GHOST,1",
            "B,b,,,",
            "B-RED,red,B,,",
            "KIT,kit,,B,3",
        ),
    )
    assert [(p.line, p.problem.code, p.problem.field) for p in outcome.problems if p.problem.code == "E_REF"] == [
        (2, "E_REF", "product"),
        (3, "E_REF", "component"),
        (4, "E_REF", "component"),
    ]
    assert rows(store, Sku.sku, Sku.kind) == [("B", "item"), ("B-RED", "item"), ("KIT", "kit")]
    assert rows(store, Product.code) == [("B",), ("KIT",)]
    assert rows(store, KitComponent.qty) == [(3,)]


def test_a_kit_comes_in_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    header = "sku,name,component,price"
    outcome = take_in(
        store,
        file(
            tmp_path, header, "A,a,,1", "SET,set,A,1", "SET,set,GHOST,1", "BAD,bad,,x", "KIT,kit,BAD,1", "KIT,kit,A,1"
        ),
    )
    assert counts(outcome) == (6, 1, 5, 0)
    assert rows(store, Sku.sku) == [("A",)]
    assert counts(take_in(store, file(tmp_path, header, "SET,set,A,1"))) == (1, 1, 0, 0)


def test_case_59_a_kit_that_contains_itself_is_named_with_its_path(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, file(tmp_path, "sku,name,component", "A,a,B", "B,b,C", "C,c,A", "OK,ok,"))
    assert outcome.by_code["E_CYCLE"] == 3
    assert outcome.problems[0].problem.facts["path"] == "A → B → C → A"
    assert rows(store, Sku.sku) == [("OK",)]


@pytest.mark.parametrize("raw", ["-2", "0", "7 days"])
def test_case_60_a_lead_time_is_a_number_of_days(store: Store, tmp_path: Path, raw: str) -> None:
    outcome = take_in(store, file(tmp_path, "sku,name,supplier,cost,lead_time_days", f"A,a,FJ,1,{raw}"))
    assert outcome.by_code == Counter(E_LEAD_TIME=1)


def test_case_60_a_blank_lead_time_takes_the_default_and_is_flagged(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, file(tmp_path, "sku,name,supplier,cost,lead_time_days", "A,a,FJ,1,"))
    assert (counts(outcome), outcome.by_code) == ((1, 1, 0, 0), Counter(W_LEAD_TIME=1))
    assert "14" in outcome.problems[0].sentence("zh")
    assert rows(store, Supplier.code, Supplier.lead_time_days) == [("FJ", 14)]


@pytest.mark.parametrize("declared", [Declared(rows=3), Declared(needs_count=True), Declared(sha256="0" * 64)])
def test_case_61_a_cut_file_changes_nothing(store: Store, tmp_path: Path, declared: Declared) -> None:
    take_in(store, file(tmp_path, "sku,name", "A,old"))
    cut = file(tmp_path, "sku,name", "A,new", "B,new")
    with pytest.raises(FileRefused) as refused:
        take_in(store, cut, replace(KEEP, declared=declared))
    assert refused.value.code == "E_TRUNCATED"
    assert rows(store, Sku.sku, Sku.name) == [("A", "old")]


def test_case_61_a_mapping_may_ask_for_the_closing_count(store: Store, tmp_path: Path) -> None:
    strict = CATALOGUE.model_copy(update={"trailer": "required"})
    with pytest.raises(FileRefused, match="#rows"):
        import_catalogue(store, build.MANAGER, file(tmp_path, "sku,name", "A,a"), strict, KEEP)
    whole = file(tmp_path, "sku,name", "A,a", "#rows,1")
    assert import_catalogue(store, build.MANAGER, whole, strict, KEEP).accepted == 1


def test_case_61_by_default_one_bad_row_keeps_the_old_catalogue(store: Store, tmp_path: Path) -> None:
    take_in(store, file(tmp_path, "sku,name", "A,old"))
    outcome = take_in(store, file(tmp_path, "sku,name,price", "A,new,1", "B,new,x"), ImportOptions())
    assert (counts(outcome), outcome.exit_code) == ((2, 0, 2, 0), 3)
    assert rows(store, Sku.sku, Sku.name) == [("A", "old")]


def test_a_barcode_has_one_owner_and_a_pack_one_size(store: Store, tmp_path: Path) -> None:
    header = "sku,name,barcode,pack_unit,units_per_pack"
    take_in(store, file(tmp_path, header, "A,a,690,box,12"))
    outcome = take_in(store, file(tmp_path, header, "B,b,690,,", "A,a,,box,10", "C,c,,box,"))
    assert [(p.problem.code, p.problem.field) for p in outcome.problems] == [
        ("E_CONFLICT", "barcode"),
        ("E_CONFLICT", "units_per_pack"),
        ("E_REQUIRED", "units_per_pack"),
    ]


def test_a_planner_without_the_right_to_set_up_may_not_make_suppliers(store: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "sku,name,supplier,cost", "A,a,FJ,1")
    with pytest.raises(Exception, match=r"setup\.change"):
        import_catalogue(store, build.PLANNER, path, CATALOGUE, KEEP)
    with store.reading() as conn:
        assert conn.scalar(select(func.count()).select_from(Sku)) == 0
    assert import_catalogue(store, build.PLANNER, file(tmp_path, "sku,name", "A,a"), CATALOGUE, KEEP).accepted == 1
