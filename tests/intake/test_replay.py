"""Quarantine: rows are written out, repaired and taken in again. On both databases."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import SYSTEM
from orders_core.intake.mapping import load_mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused
from orders_core.intake.replay import kept_rows, replay, write_quarantine
from orders_core.intake.runs import ImportOptions
from orders_core.intake.take_in import take_in
from orders_core.store.tables import Channel, Order, OrderLine, QuarantinedRow
from orders_core.store.uow import Store
from tests.support import build

KEEP = ImportOptions(quarantine=True)
HEADER = "订单号,SKU,数量,客户编码,备注"


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return (outcome.read, outcome.accepted, outcome.quarantined, outcome.duplicates)


def rows(store: Store, *columns: Any) -> list[Any]:
    with store.reading() as conn:
        return [tuple(row) for row in conn.execute(select(*columns).order_by(*columns))]


@pytest.fixture
def quarantined(store: Store, tmp_path: Path) -> Store:
    build.company(store)
    build.stock(store, "LAMP@WH1: 100")
    path = tmp_path / "orders.csv"
    lines = ['A2,VASE,1,ACME,"two\nlines"', "A2,LAMP,1,ACME,", "A1,LAMP,x,ACME,=1+1", "A3,LAMP,1,ACME,"]
    path.write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")
    outcome = take_in(store, SYSTEM, "orders", path, load_mapping("orders"), KEEP)
    assert counts(outcome) == (4, 1, 3, 0)
    return store


def test_rows_are_written_out_with_their_reasons_and_come_back_repaired(quarantined: Store, tmp_path: Path) -> None:
    out = tmp_path / "repair.csv"
    assert write_quarantine(quarantined, "orders", out) == 3
    with out.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["code"] for row in table] == ["E_REF", "E_ORDER_BAD", "E_QTY"]
    repaired = table[2]
    assert repaired["备注"] == "'=1+1"
    assert repaired["message_zh"].startswith("qty 必须")
    repaired["数量"] = "5"
    with out.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerow(repaired)
    (outcome,) = replay(quarantined, SYSTEM, "orders", KEEP, repaired=out)
    assert counts(outcome) == (1, 1, 0, 0)
    assert rows(quarantined, Order.external_id, Order.note) == [("A1", "=1+1"), ("A3", None)]
    assert Counter(status for (status,) in rows(quarantined, QuarantinedRow.status)) == Counter(open=2, replayed=1)


def test_what_was_wrong_may_have_been_the_catalogue(quarantined: Store) -> None:
    (still,) = replay(quarantined, SYSTEM, "orders", KEEP)
    assert (counts(still), still.exit_code) == ((3, 0, 3, 0), 3)
    build.stock(quarantined, "VASE@WH1: 5")
    (outcome,) = replay(quarantined, SYSTEM, "orders", KEEP)
    assert counts(outcome) == (3, 2, 1, 0)
    assert [row.line for row in kept_rows(quarantined, "orders")] == [5]
    assert [key for (key,) in rows(quarantined, Order.external_id)] == ["A2", "A3"]


def test_a_file_that_is_no_repair_file_is_refused(quarantined: Store, tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as refused:
        replay(quarantined, SYSTEM, "orders", KEEP, repaired=tmp_path / "orders.csv")
    assert refused.value.code == "E_HEADER"
    with pytest.raises(FileRefused):
        replay(quarantined, SYSTEM, "nothing", KEEP)


def test_a_repaired_line_of_an_old_invoice_joins_its_invoice(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    header = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,CustomerID,Country"
    lines = [
        "100,LAMP,,2,2010-01-05 10:00,5,C7,UK",
        "100,RUG,,3,2010-01-05 10:00,0,C7,UK",
        "C101,RUG,,-1,2010-01-06 10:00,0,C7,UK",
    ]
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    retail = load_mapping("online-retail")
    take_in(store, SYSTEM, "orders", path, retail, KEEP)
    out = tmp_path / "repair.csv"
    write_quarantine(store, "orders", out)
    out.write_text(out.read_text("utf-8-sig").replace(",0,C7", ",4,C7"), "utf-8")
    (outcome,) = replay(store, SYSTEM, "orders", KEEP, repaired=out)
    assert counts(outcome) == (2, 2, 0, 0)
    assert rows(store, Order.goods_cents) == [(2 * 500 + 3 * 400,)]
    assert rows(store, OrderLine.ordered_qty, OrderLine.returned_qty) == [(2, 0), (3, 1)]
    again = take_in(store, SYSTEM, "orders", path, retail, KEEP)
    assert (counts(again), again.exit_code) == ((3, 0, 0, 3), 0)


def test_a_mapping_of_another_noun_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as refused:
        take_in(store, SYSTEM, "stock", tmp_path / "x.csv", load_mapping("orders"), KEEP)
    assert refused.value.exit_code == 2


def test_the_same_file_again_brings_in_what_has_become_right_and_a_replay_nothing_twice(
    store: Store, tmp_path: Path
) -> None:
    build.company(store)
    build.channel(store, "WEB", kind="web")
    build.stock(store, "LAMP@WH1: 100")
    path = tmp_path / "orders.csv"
    path.write_text(f"{HEADER}\nB1,LAMP,1,ACME,\nB2,VASE,2,ACME,\nB3,LAMP,x,ACME,\n", "utf-8")
    from_web = ImportOptions(quarantine=True, channel="WEB")
    first = take_in(store, SYSTEM, "orders", path, load_mapping("orders"), from_web)
    assert counts(first) == (3, 1, 2, 0)
    build.stock(store, "VASE@WH1: 5")
    second = take_in(store, SYSTEM, "orders", path, load_mapping("orders"), from_web)
    assert counts(second) == (3, 1, 0, 2)  # B1 is there, B3 waits
    assert second.summary("en").endswith("1 of these were kept out before and still are not in")
    assert [row.line for row in kept_rows(store, "orders")] == [4]
    assert build.level(store, "VASE@WH1").reserved_qty == 2
    (again,) = replay(store, SYSTEM, "orders", KEEP)
    assert counts(again) == (1, 0, 1, 0)
    assert rows(store, Order.external_id) == [("B1",), ("B2",)]


def test_a_replay_brings_orders_in_by_the_channel_of_their_file(store: Store, tmp_path: Path) -> None:
    build.company(store)
    build.channel(store, "WEB", kind="web")
    path = tmp_path / "orders.csv"
    path.write_text(f"{HEADER}\nB2,VASE,2,ACME,\n", "utf-8")
    take_in(store, SYSTEM, "orders", path, load_mapping("orders"), ImportOptions(quarantine=True, channel="WEB"))
    build.stock(store, "VASE@WH1: 5")
    (outcome,) = replay(store, SYSTEM, "orders", KEEP)
    assert counts(outcome) == (1, 1, 0, 0)
    with store.reading() as conn:
        codes = conn.execute(select(Channel.code).join(Order, Order.channel_id == Channel.id)).all()
    assert [tuple(row) for row in codes] == [("WEB",)]
