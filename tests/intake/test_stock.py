"""Stock files: absolute or delta, never both; facts are taken as they are. On both databases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orders_core.intake.mapping import load_mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused
from orders_core.intake.runs import ImportOptions
from orders_core.intake.stock import import_stock
from orders_core.store.tables import StockMovement
from orders_core.store.uow import Store
from tests.support import build

STOCK = load_mapping("stock")
KEEP = ImportOptions(quarantine=True)
HEADER = "货号,仓库,数量"


@pytest.fixture
def shop(store: Store) -> Store:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10, RUG@WH1: 0")
    return store


def file(folder: Path, *lines: str, header: str = HEADER, name: str = "stock.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def take_in(store: Store, path: Path, options: ImportOptions = KEEP) -> Outcome:
    return import_stock(store, build.MANAGER, path, STOCK, options)


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return (outcome.read, outcome.accepted, outcome.quarantined, outcome.duplicates)


def movements(store: Store) -> list[Any]:
    with store.reading() as conn:
        return [
            tuple(row)
            for row in conn.execute(select(StockMovement.qty, StockMovement.reason).order_by(StockMovement.id))
        ]


def test_a_count_becomes_the_difference_and_again_changes_nothing(shop: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "LAMP,WH1,7", "RUG,WH1,4")
    assert counts(take_in(shop, path)) == (2, 2, 0, 0)
    assert (build.on_hand(shop, "LAMP@WH1"), build.on_hand(shop, "RUG@WH1")) == (7, 4)
    assert movements(shop)[-2:] == [(-3, "count"), (4, "count")]
    again = take_in(shop, path)
    assert (counts(again), again.exit_code) == ((2, 0, 0, 2), 0)
    assert len(movements(shop)) == 3


def test_the_first_stock_of_a_sku_is_its_opening(shop: Store, tmp_path: Path) -> None:
    build.sku(shop, "VASE")
    take_in(shop, file(tmp_path, "VASE,WH1,5"))
    assert movements(shop)[-1] == (5, "opening")


def test_a_delta_file_is_taken_once(shop: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "LAMP,WH1,-3", "RUG,WH1,+4")
    delta = ImportOptions(quarantine=True, mode="delta")
    assert counts(take_in(shop, path, delta)) == (2, 2, 0, 0)
    assert (build.on_hand(shop, "LAMP@WH1"), build.on_hand(shop, "RUG@WH1")) == (7, 4)
    assert counts(take_in(shop, path, delta)) == (2, 0, 0, 2)
    assert build.on_hand(shop, "LAMP@WH1") == 7


def test_a_delta_that_takes_more_than_is_there_is_refused_alone(shop: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "RUG,WH1,2", "LAMP,WH1,-30")
    outcome = take_in(shop, path, ImportOptions(quarantine=True, mode="delta"))
    assert counts(outcome) == (2, 1, 1, 0)
    assert outcome.by_code == Counter(E_REFUSED=1)
    assert (build.on_hand(shop, "LAMP@WH1"), build.on_hand(shop, "RUG@WH1")) == (10, 2)


def test_case_53_stock_below_what_is_promised_is_taken_and_listed(shop: Store, tmp_path: Path) -> None:
    build.order(shop, "LAMP 5")
    outcome = take_in(shop, file(tmp_path, "LAMP,WH1,3"))
    assert (counts(outcome), outcome.exit_code) == ((1, 1, 0, 0), 0)
    assert outcome.facts["overcommitted"] == [{"sku": "LAMP", "location": "WH1", "overcommitted_qty": 2}]
    assert "over-committed by 2" in outcome.problems[0].sentence("en")
    level = build.level(shop, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty, level.overcommitted_qty) == (3, 5, 2)


def test_case_54_numbers_out_of_range_and_other_units_are_refused(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(
        shop,
        file(
            tmp_path,
            "LAMP,WH1,-1,",
            "RUG,WH1,1000000000000,",
            "LAMP,WH1,5,box",
            "RUG,WH1,6,each",
            header=HEADER + ",单位",
        ),
    )
    assert outcome.by_code == Counter(E_STOCK=2, E_UNIT=1)
    assert build.on_hand(shop, "RUG@WH1") == 6


def test_case_55_absolute_and_delta_rows_in_one_file_are_refused(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(
        shop, file(tmp_path, "LAMP,WH1,5,absolute", "RUG,WH1,5,增减", header=HEADER + ",方式"), ImportOptions()
    )
    assert (outcome.by_code, outcome.exit_code) == (Counter(E_MODE=1), 3)
    assert outcome.problems[0].problem.facts["other_line"] == 2
    plus = take_in(shop, file(tmp_path, "LAMP,WH1,5", "RUG,WH1,+5"), ImportOptions())
    assert plus.by_code == Counter(E_MODE=1)
    assert build.on_hand(shop, "LAMP@WH1") == 10
    with pytest.raises(FileRefused) as refused:
        take_in(shop, file(tmp_path, "LAMP,WH1,5"), ImportOptions(mode="both"))
    assert refused.value.exit_code == 2


def test_case_56_a_sku_twice_is_refused_naming_both_rows(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "LAMP,WH1,5", "RUG,WH1,1", "LAMP,WH1,6"))
    assert outcome.by_code == Counter(E_DUP_SKU=2)
    assert [(p.line, p.problem.facts["other_line"]) for p in outcome.problems] == [(2, 4), (4, 2)]
    assert (build.on_hand(shop, "LAMP@WH1"), build.on_hand(shop, "RUG@WH1")) == (10, 1)


def test_unknown_skus_and_locations_are_named(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "GHOST,WH1,5", "LAMP,NOWHERE,5"))
    assert [(p.problem.code, p.problem.field) for p in outcome.problems] == [("E_REF", "sku"), ("E_REF", "location")]


def test_a_sku_kept_by_lot_is_counted_by_lot(shop: Store, tmp_path: Path) -> None:
    build.sku(shop, "TEA", is_lot_tracked=True)
    header = HEADER + ",批次,有效期"
    outcome = take_in(
        shop, file(tmp_path, "TEA,WH1,5,L1,2027-01-01", "TEA,WH1,3,L2,2027-06-01", "TEA,WH1,3,,", header=header)
    )
    assert counts(outcome) == (3, 2, 1, 0)
    assert build.on_hand(shop, "TEA@WH1") == 8
    lots = file(tmp_path, "TEA,WH1,4,L1,2027-01-01", "TEA,WH1,3,L2,2027-06-01", header=header, name="second.csv")
    assert counts(take_in(shop, lots)) == (2, 1, 0, 1)
    assert build.on_hand(shop, "TEA@WH1") == 7
