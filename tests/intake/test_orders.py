"""Live order files: what is placed, what stays out, and that nothing is placed twice. On both databases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import PermissionDenied
from orders_core.intake.mapping import load_mapping
from orders_core.intake.orders import import_orders
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused
from orders_core.intake.runs import ImportOptions
from orders_core.store.tables import Customer, ImportRun, Order, OrderLine, QuarantinedRow, Sku
from orders_core.store.uow import Store
from tests.support import build

ORDERS = load_mapping("orders")
HEADER = "订单号,SKU,数量,客户编码"
KEEP = ImportOptions(quarantine=True)


@pytest.fixture
def shop(store: Store) -> Store:
    build.company(store)
    build.stock(store, "LAMP@WH1: 1000, RUG@WH1: 1000")
    return store


def file(folder: Path, *lines: str, header: str = HEADER, name: str = "orders.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def take_in(store: Store, path: Path, options: ImportOptions = KEEP, **more: Any) -> Outcome:
    return import_orders(store, build.MANAGER, path, ORDERS, options, **more)


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return (outcome.read, outcome.accepted, outcome.quarantined, outcome.duplicates)


def placed(store: Store) -> dict[str, list[tuple[str, int]]]:
    """external id -> [(sku, units)]"""
    found: dict[str, list[tuple[str, int]]] = {}
    with store.reading() as conn:
        query = select(Order.external_id, Sku.sku, OrderLine.ordered_qty).join_from(Order, OrderLine)
        for key, sku, qty in conn.execute(query.join(Sku, Sku.id == OrderLine.sku_id).order_by(OrderLine.id)):
            found.setdefault(key or "", []).append((sku, qty))
    return found


def test_rows_of_one_number_are_one_order_placed_like_any_other(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "00123,LAMP,2,ACME", "A2,RUG,1,ACME", "00123,RUG,3,ACME"))
    assert (counts(outcome), outcome.exit_code) == ((3, 3, 0, 0), 0)
    assert placed(shop) == {"00123": [("LAMP", 2), ("RUG", 3)], "A2": [("RUG", 1)]}
    assert build.level(shop, "LAMP@WH1").reserved_qty == 2


def test_case_40_good_orders_go_in_bad_ones_stay_out_and_again_adds_nothing(shop: Store, tmp_path: Path) -> None:
    lines = [f"A{n},LAMP,1,ACME" for n in range(97)]
    lines[20:20], lines[50:50], lines[99:99] = ["B1,LAMP,0,ACME"], ["B2,GHOST,1,ACME"], ["B3,LAMP,1,NOBODY"]
    assert len(lines) == 100
    path = file(tmp_path, *lines)
    outcome = take_in(shop, path)
    assert (counts(outcome), outcome.exit_code) == ((100, 97, 3, 0), 3)
    assert outcome.by_code == Counter(E_QTY=1, E_REF=2)
    assert [found.line for found in outcome.problems] == [22, 52, 101]
    again = take_in(shop, path)
    assert (counts(again), again.exit_code) == ((100, 0, 0, 100), 0)
    assert sorted(placed(shop)) == sorted(f"A{n}" for n in range(97))
    renamed = file(tmp_path, *reversed(lines), name="again.csv")
    assert counts(take_in(shop, renamed)) == (100, 0, 0, 100)


def test_by_default_one_bad_row_keeps_every_order_out(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,1,ACME", "A2,LAMP,x,ACME"), ImportOptions())
    assert (counts(outcome), outcome.exit_code) == ((2, 0, 2, 0), 3)
    assert placed(shop) == {}
    assert outcome.problems[0].sentence("zh").startswith("第 3 行")


def test_an_order_with_a_bad_line_stays_out_whole(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,1,ACME", "A1,LAMP,-3,ACME", "A2,LAMP,1,ACME"))
    assert counts(outcome) == (3, 1, 2, 0)
    assert outcome.by_code == Counter(E_QTY=1, E_ORDER_BAD=1)
    assert list(placed(shop)) == ["A2"]


def test_case_02_a_header_alone_is_said_aloud(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path))
    assert (counts(outcome), outcome.exit_code) == ((0, 0, 0, 0), 0)
    assert outcome.by_code == Counter(W_NO_ROWS=1)
    assert outcome.facts["orders"] == 0


def test_case_03_a_missing_column_refuses_the_file_before_the_first_row(shop: Store, tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as refused:
        take_in(shop, file(tmp_path, "A1,LAMP,ACME", header="order_no,sku,customer"))
    assert refused.value.code == "E_HEADER"
    with shop.reading() as conn:
        assert conn.scalar(select(func.count()).select_from(ImportRun)) == 0


def test_case_12_a_ragged_row_stays_out_and_the_others_go_in(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,1,ACME", "A2,LAMP,1", "A3,LAMP,1,ACME,extra"))
    assert counts(outcome) == (3, 1, 2, 0)
    assert outcome.by_code == Counter(E_ROW_WIDTH=2)


def test_case_15_full_width_digits_come_in_with_a_note(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "A1,ＬＡＭＰ,１２,ACME"))
    assert (counts(outcome), outcome.exit_code) == ((1, 1, 0, 0), 0)
    assert outcome.by_code == Counter(N_WIDTH=1)
    assert placed(shop) == {"A1": [("LAMP", 12)]}


NUMBERED = "行号," + HEADER


def test_case_19_the_same_row_twice_is_one_line_where_rows_are_numbered(shop: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "1,A1,LAMP,2,ACME", "1,A1,LAMP,2,ACME", "2,A1,LAMP,2,ACME", header=NUMBERED)
    assert counts(take_in(shop, path)) == (3, 2, 0, 1)
    assert placed(shop) == {"A1": [("LAMP", 2), ("LAMP", 2)]}
    plain = file(tmp_path, "A2,LAMP,2,ACME", "A2,LAMP,2,ACME", name="plain.csv")
    assert counts(take_in(shop, plain)) == (2, 2, 0, 0)


def test_case_20_one_number_with_two_quantities_is_a_conflict_naming_both(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(shop, file(tmp_path, "1,A1,LAMP,2,ACME", "1,A1,LAMP,3,ACME", header=NUMBERED))
    assert counts(outcome) == (2, 0, 2, 0)
    assert [(p.line, p.problem.code, p.problem.facts["other_line"]) for p in outcome.problems] == [
        (2, "E_CONFLICT", 3),
        (3, "E_CONFLICT", 2),
    ]
    assert placed(shop) == {}


@pytest.mark.parametrize("options", [KEEP, ImportOptions()])
def test_case_21_a_known_order_with_other_content_is_a_conflict(
    shop: Store, tmp_path: Path, options: ImportOptions
) -> None:
    take_in(shop, file(tmp_path, "A1,LAMP,2,ACME"))
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,9,ACME", name="changed.csv"), options)
    assert (counts(outcome), outcome.exit_code) == ((1, 0, 1, 0), 3)
    assert outcome.by_code == Counter(E_CONFLICT=1)
    assert placed(shop) == {"A1": [("LAMP", 2)]}


def test_rows_of_one_order_must_not_contradict_each_other(shop: Store, tmp_path: Path) -> None:
    build.customer(shop, "ZHOU")
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,2,ACME", "A1,RUG,2,ZHOU"))
    assert counts(outcome) == (2, 0, 2, 0)


def test_case_24_hostile_text_is_stored_as_it_came(shop: Store, tmp_path: Path) -> None:
    text = '=HYPERLINK("http://x","y")'
    quoted = text.replace('"', '""')
    take_in(shop, file(tmp_path, f'A1,LAMP,1,ACME,"{quoted}","1 Road,\r\nTown"', header=HEADER + ",收货人,地址"))
    with shop.reading() as conn:
        assert conn.execute(select(Order.recipient, Order.street)).all() == [(text, "1 Road,\r\nTown")]


def test_chinese_words_for_payment_and_delivery_are_understood(shop: Store, tmp_path: Path) -> None:
    header = HEADER + ",付款方式,配送方式"
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,1,ACME,月结,自提", "A2,LAMP,1,ACME,later,", header=header))
    assert outcome.by_code == Counter(E_CHOICE=1)
    with shop.reading() as conn:
        assert conn.execute(select(Order.payment_method, Order.delivery_method)).all() == [("credit", "pick_up")]


def test_what_a_service_refuses_is_a_row_in_the_report_not_a_crash(shop: Store, tmp_path: Path) -> None:
    build.rules(shop, shortage={"policy": "refuse"})
    path = file(tmp_path, "A1,LAMP,999,ACME", "A2,LAMP,999,ACME", "A3,LAMP,1,ACME")
    outcome = take_in(shop, path)
    assert counts(outcome) == (3, 2, 1, 0)
    assert outcome.by_code == Counter(E_ORDER_REFUSED=1)
    assert "E_STOCK_SHORT" in outcome.problems[0].sentence("en")
    assert set(placed(shop)) == {"A1", "A3"}


def test_by_default_what_a_service_would_refuse_keeps_every_order_out(shop: Store, tmp_path: Path) -> None:
    build.rules(shop, shortage={"policy": "refuse"})
    outcome = take_in(shop, file(tmp_path, "A1,LAMP,1,ACME", "A2,LAMP,5000,ACME"), ImportOptions())
    assert (counts(outcome), outcome.exit_code) == ((2, 0, 2, 0), 3)
    assert placed(shop) == {}


def test_a_dry_run_places_and_reserves_nothing(shop: Store, tmp_path: Path) -> None:
    outcome = take_in(
        shop, file(tmp_path, "A1,LAMP,1,ACME", "A2,GHOST,1,ACME"), ImportOptions(quarantine=True, dry_run=True)
    )
    assert counts(outcome) == (2, 1, 1, 0)
    assert placed(shop) == {}
    assert build.level(shop, "LAMP@WH1").reserved_qty == 0


def test_a_channel_given_by_hand_must_exist_and_keeps_its_own_numbers(shop: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "A1,LAMP,1,ACME")
    take_in(shop, path, ImportOptions(channel="phone"))
    assert counts(take_in(shop, path, ImportOptions(channel="web"))) == (1, 1, 0, 0)
    with pytest.raises(FileRefused) as refused:
        take_in(shop, path, ImportOptions(channel="nowhere"))
    assert refused.value.exit_code == 2


def test_a_price_may_be_given_and_must_be_in_the_customers_currency(shop: Store, tmp_path: Path) -> None:
    with shop.engine.begin() as conn:
        conn.execute(update(Customer).where(Customer.code == "ACME").values(currency="CNY"))
    header = HEADER + ",单价,币种"
    outcome = take_in(
        shop,
        file(tmp_path, "A1,LAMP,2,ACME,12.50,CNY", 'A2,LAMP,2,ACME,"12,50",CNY', "A3,LAMP,1,ACME,1,USD", header=header),
    )
    assert counts(outcome) == (3, 1, 2, 0)
    assert outcome.by_code == Counter(E_NUMBER=1, E_CHOICE=1)
    with shop.reading() as conn:
        assert conn.scalar(select(Order.goods_cents)) == 2500


def test_a_clerk_may_import_orders_and_a_picker_may_not(shop: Store, tmp_path: Path) -> None:
    path = file(tmp_path, "A1,LAMP,1,ACME")
    with pytest.raises(PermissionDenied):
        import_orders(shop, Actor("wei", frozenset({"warehouse"})), path, ORDERS, KEEP)
    assert import_orders(shop, build.CLERK, path, ORDERS, KEEP).accepted == 1


def test_rows_kept_aside_hold_what_is_needed_to_repair_them(shop: Store, tmp_path: Path) -> None:
    take_in(shop, file(tmp_path, "A1,LAMP,x,ACME"))
    with shop.reading() as conn:
        (row,) = conn.execute(select(QuarantinedRow.noun, QuarantinedRow.line, QuarantinedRow.raw)).all()
    assert (row.noun, row.line, row.raw["cells"]) == ("orders", 2, ["A1", "LAMP", "x", "ACME"])
