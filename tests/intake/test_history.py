"""Old invoices as closed facts, on both databases. Sums are compared with a slow, obvious twin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import PermissionDenied
from orders_core.intake.history import import_history
from orders_core.intake.mapping import Mapping, load_mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import FileRefused
from orders_core.intake.runs import ImportOptions
from orders_core.store.tables import (
    ChangeLog,
    Customer,
    Decision,
    ImportRun,
    Location,
    Order,
    OrderCharge,
    OrderLine,
    Outbox,
    QuarantinedRow,
    ReturnAuthorization,
    ReturnLine,
    RunLock,
    Sku,
    StockLevel,
    StockMovement,
)
from orders_core.store.uow import Store

RETAIL = load_mapping("online-retail")
HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,CustomerID,Country"
KEEP = ImportOptions(quarantine=True)


def invoices(folder: Path, *lines: str, name: str = "old.csv", header: str = HEADER) -> Path:
    """A file of `invoice,sku,description,qty,date,price,customer`; the country is added."""
    path = folder / name
    path.write_text("\n".join([header, *(f"{line},United Kingdom" for line in lines)]) + "\n", "utf-8")
    return path


def take_in(store: Store, path: Path, options: ImportOptions = KEEP, mapping: Mapping = RETAIL, **more: Any) -> Outcome:
    return import_history(store, SYSTEM, path, mapping, options, **more)


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return (outcome.read, outcome.accepted, outcome.quarantined, outcome.duplicates)


def rows(store: Store, *columns: Any, **where: Any) -> list[Any]:
    with store.reading() as conn:
        return list(conn.execute(select(*columns).filter_by(**where).order_by(*columns)))


def count(store: Store, table: Any) -> int:
    with store.reading() as conn:
        return conn.scalar(select(func.count()).select_from(table)) or 0


LAMPS = "100,LAMP,RED LAMP,12,2010-01-05 10:00,6.95,C7"
RUGS = "100,RUG,,2,2010-01-05 10:00,20,C7"


def test_an_invoice_becomes_a_delivered_order_and_nothing_moves(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, invoices(tmp_path, LAMPS, RUGS, "100,POST,POSTAGE,3,2010-01-05 10:00,1.50,C7"))
    assert counts(outcome) == (3, 3, 0, 0)
    assert outcome.exit_code == 0
    assert rows(store, Order.external_id, Order.status, Order.goods_cents, Order.charges_cents, Order.total_cents) == [
        ("100", "delivered", 12 * 695 + 2 * 2000, 450, 12 * 695 + 2 * 2000 + 450)
    ]
    assert rows(store, OrderLine.line_no, OrderLine.ordered_qty, OrderLine.delivered_qty) == [(1, 12, 12), (2, 2, 2)]
    assert rows(store, OrderCharge.kind, OrderCharge.code, OrderCharge.amount_cents) == [("shipping", "POST", 450)]
    assert rows(store, Sku.sku, Sku.name, Sku.origin) == [("LAMP", "RED LAMP", "history"), ("RUG", "RUG", "history")]
    assert rows(store, Location.code, Location.kind, Location.is_stock_tracked) == [("online-retail", "history", False)]
    for table in (StockMovement, StockLevel, Outbox, Decision):
        assert count(store, table) == 0
    assert rows(store, ChangeLog.entity, ChangeLog.version) == [("location", 1), ("orders", 1)]


def test_the_time_is_the_old_systems_own(store: Store, tmp_path: Path) -> None:
    take_in(store, invoices(tmp_path, "1,LAMP,,1,2010-07-01 00:30,1,C7"))
    ((day, at),) = rows(store, Order.business_date, Order.placed_at)
    assert day == date(2010, 7, 1)
    assert at.isoformat() == "2010-06-30T23:30:00+00:00"


def test_lines_of_an_invoice_need_not_follow_each_other(store: Store, tmp_path: Path) -> None:
    other = "101,LAMP,RED LAMP,1,2010-01-05 11:00,6.95,C8"
    assert counts(take_in(store, invoices(tmp_path, LAMPS, other, RUGS))) == (3, 3, 0, 0)
    assert rows(store, Order.external_id, Order.goods_cents) == [("100", 12 * 695 + 4000), ("101", 695)]


def test_a_cancellation_comes_back_on_the_invoice_it_was_sold_on(store: Store, tmp_path: Path) -> None:
    outcome = take_in(
        store,
        invoices(
            tmp_path,
            "100,LAMP,,12,2010-01-05 10:00,6.95,C7",
            "101,LAMP,,12,2010-01-06 10:00,7.50,C7",  # newer, but at another price
            "102,LAMP,,12,2010-01-06 10:00,6.95,C8",  # another customer
            "C103,LAMP,,-5,2010-01-07 10:00,6.95,C7",
            "104,LAMP,,12,2010-01-08 10:00,6.95,C7",  # after the cancellation
        ),
    )
    assert outcome.facts["returns"] == 1
    assert _returned(store) == {"100": 5, "101": 0, "102": 0, "104": 0}
    ((kind, external, cents, status),) = rows(
        store,
        ReturnAuthorization.kind,
        ReturnAuthorization.external_id,
        ReturnAuthorization.refund_cents,
        ReturnAuthorization.status,
    )
    assert (kind, external, cents, status) == ("return", "C103", 5 * 695, "closed")


def _returned(store: Store) -> dict[str, int]:
    with store.reading() as conn:
        query = select(Order.external_id, OrderLine.returned_qty).join(OrderLine, OrderLine.order_id == Order.id)
        return {key or "": qty for key, qty in conn.execute(query)}


def test_more_is_never_taken_back_than_was_sold_and_the_rest_is_a_credit(store: Store, tmp_path: Path) -> None:
    outcome = take_in(
        store,
        invoices(
            tmp_path,
            "100,LAMP,,5,2010-01-05 10:00,6.95,C7",
            "C101,LAMP,,-4,2010-01-07 10:00,6.95,C7",
            "C102,LAMP,,-4,2010-01-08 10:00,6.95,C7",
            "C103,LAMP,,-1,2010-01-09 10:00,6.95,",  # of a walk-in sale nobody knows which one
            "C104,M,Manual,-1,2010-01-09 10:00,99,C7",
        ),
    )
    assert _returned(store) == {"100": 4}
    assert {key: outcome.facts[key] for key in ("returns", "standalone_credits", "standalone_credit_lines")} == {
        "returns": 1,
        "standalone_credits": 3,
        "standalone_credit_lines": 3,
    }
    assert rows(store, Sku.sku, Sku.kind) == [("LAMP", "item"), ("M", "service")]


def test_a_later_sale_never_takes_back_an_earlier_cancellation(store: Store, tmp_path: Path) -> None:
    outcome = take_in(
        store,
        invoices(
            tmp_path,
            "C100,LAMP,,-1,2010-01-05 10:00,6.95,C7",
            "C100,RUG,,-1,2010-01-09 10:00,20,C7",  # its other line is later, the sale lies between
            "101,LAMP,,5,2010-01-06 10:00,6.95,C7",
            "101,RUG,,5,2010-01-06 10:00,20,C7",
        ),
    )
    assert _returned_by_sku(store) == {"LAMP": 0, "RUG": 1}
    assert (outcome.facts["returned_lines"], outcome.facts["standalone_credit_lines"]) == (1, 1)


def _returned_by_sku(store: Store) -> dict[str, int]:
    with store.reading() as conn:
        query = select(Sku.sku, OrderLine.returned_qty).join(OrderLine, OrderLine.sku_id == Sku.id)
        return {row.sku: row.returned_qty for row in conn.execute(query)}


def test_a_walk_in_cancellation_is_a_credit_even_when_a_walk_in_sale_would_fit(store: Store, tmp_path: Path) -> None:
    path = invoices(tmp_path, "100,LAMP,,5,2010-01-05 10:00,6.95,", "C101,LAMP,,-1,2010-01-07 10:00,6.95,")
    assert take_in(store, path).facts["standalone_credits"] == 1
    assert _returned(store) == {"100": 0}


def test_equal_bad_rows_are_kept_and_known_one_by_one(store: Store, tmp_path: Path) -> None:
    bad = "1,LAMP,,1,2010-01-05 10:00,0,C7"
    assert counts(take_in(store, invoices(tmp_path, bad, bad))) == (2, 0, 2, 0)
    assert counts(take_in(store, invoices(tmp_path, bad, bad, bad, name="three.csv"))) == (3, 0, 1, 2)


def test_one_cancellation_of_two_invoices_becomes_two_returns(store: Store, tmp_path: Path) -> None:
    path = invoices(
        tmp_path,
        "100,LAMP,,5,2010-01-05 10:00,6.95,C7",
        "101,RUG,,5,2010-01-05 10:00,20,C7",
        "C102,LAMP,,-1,2010-01-07 10:00,6.95,C7",
        "C102,RUG,,-2,2010-01-07 10:00,20,C7",
        "C102,VASE,,-3,2010-01-07 10:00,9,C7",
    )
    take_in(store, path)
    assert rows(store, ReturnAuthorization.external_id, ReturnAuthorization.kind) == [
        ("C102", "return"),
        ("C102#2", "return"),
        ("C102#3", "credit"),
    ]
    assert counts(take_in(store, path)) == (5, 0, 0, 5)


def test_sales_without_a_customer_are_walk_in_sales(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, invoices(tmp_path, "100,LAMP,,1,2010-01-05 10:00,5,", "101,LAMP,,1,2010-01-05 10:00,5,"))
    assert outcome.facts["walk_in_orders"] == 2
    assert rows(store, Customer.code, Customer.kind) == [("WALK-IN", "walk_in")]


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        ("1,LAMP,,1,2010-01-05 10:00,0,C7", "E_PRICE", "price"),
        ("1,LAMP,,-9,2010-01-05 10:00,0.0,", "E_PRICE", "price"),
        ("A1,B,Adjust bad debt,1,2010-01-05 10:00,-53594.36,", "E_PRICE", "price"),
        ("1,PADS,,1,2010-01-05 10:00,0.001,C7", "E_CENT", "price"),
        ("1,LAMP,,-3,2010-01-05 10:00,5,C7", "E_QTY", "qty"),
        ("C1,M,Manual,1,2010-01-05 10:00,373.57,", "E_QTY", "qty"),
        ("1,LAMP,,1,05/01/2010 10:00,5,C7", "E_DATE", "ordered_at"),
        ("1,LAMP,,1,2010-03-28 01:30,5,C7", "E_TIME_NONEXISTENT", "ordered_at"),
        ("1,L\u200bAMP,,1,2010-01-05 10:00,5,C7", "E_SKU_CHAR", "sku"),
        (",LAMP,,1,2010-01-05 10:00,5,C7", "E_REQUIRED", "order_id"),
    ],
)
def test_a_bad_line_stays_out_by_itself_with_its_reason(
    store: Store, tmp_path: Path, line: str, code: str, field: str
) -> None:
    path = invoices(tmp_path, LAMPS, line)
    report = tmp_path / "report.csv"
    outcome = take_in(store, path, ImportOptions(quarantine=True, report=report))
    assert counts(outcome) == (2, 1, 1, 0)
    assert outcome.exit_code == 3
    assert rows(store, QuarantinedRow.code, QuarantinedRow.field, QuarantinedRow.line) == [(code, field, 3)]
    ((raw,),) = rows(store, QuarantinedRow.raw)
    assert raw["header"][:2] == ["Invoice", "StockCode"]
    assert f",{code}," in report.read_text("utf-8-sig")
    again = take_in(store, path)
    assert (counts(again), again.exit_code) == ((2, 0, 0, 2), 0)


def test_without_quarantine_one_bad_line_keeps_the_whole_file_out(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, invoices(tmp_path, LAMPS, "1,LAMP,,1,2010-01-05 10:00,0,C7"), ImportOptions())
    assert (counts(outcome), outcome.is_refused, outcome.exit_code) == ((2, 0, 2, 0), True, 3)
    assert count(store, Order) == count(store, QuarantinedRow) == count(store, Sku) == 0
    assert rows(store, ImportRun.status, ImportRun.read_rows) == [("refused", 2)]


def test_a_dry_run_says_the_same_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    path = invoices(tmp_path, LAMPS, "1,LAMP,,1,2010-01-05 10:00,0,C7")
    outcome = take_in(store, path, ImportOptions(quarantine=True, dry_run=True))
    assert counts(outcome) == (2, 1, 1, 0)
    for table in (Order, QuarantinedRow, ImportRun, Sku, RunLock):
        assert count(store, table) == 0


def test_case_19_identical_lines_are_lines_and_with_a_line_number_duplicates(store: Store, tmp_path: Path) -> None:
    assert counts(take_in(store, invoices(tmp_path, LAMPS, LAMPS))) == (2, 2, 0, 0)
    assert rows(store, Order.goods_cents) == [(2 * 12 * 695,)]
    numbered = replace_columns(RETAIL)
    path = invoices(tmp_path, f"1,{LAMPS}", f"1,{LAMPS}", header=f"line_no,{HEADER}", name="numbered.csv")
    path.write_text(path.read_text("utf-8").replace(",100,", ",200,"), "utf-8")
    assert counts(take_in(store, path, mapping=numbered)) == (2, 1, 0, 1)


def replace_columns(mapping: Mapping) -> Mapping:
    column = next(iter(mapping.columns.values())).model_copy(update={"names": ("line_no",), "required": False})
    return mapping.model_copy(update={"columns": {**mapping.columns, "line_no": column}})


def test_case_20_one_line_number_with_two_contents_is_a_conflict_naming_both_rows(store: Store, tmp_path: Path) -> None:
    path = invoices(
        tmp_path,
        "1,100,LAMP,,1,2010-01-05 10:00,5,C7",
        "1,100,LAMP,,2,2010-01-05 10:00,5,C7",
        "2,100,RUG,,1,2010-01-05 10:00,5,C7",
        header=f"line_no,{HEADER}",
    )
    outcome = take_in(store, path, mapping=replace_columns(RETAIL))
    assert counts(outcome) == (3, 1, 2, 0)
    assert [(p.line, p.problem.facts["other_line"]) for p in outcome.problems] == [(2, 3), (3, 2)]


def test_lines_of_one_invoice_have_one_customer(store: Store, tmp_path: Path) -> None:
    outcome = take_in(store, invoices(tmp_path, LAMPS, RUGS.replace("C7", "C9")))
    assert counts(outcome) == (2, 1, 1, 0)
    assert outcome.by_code == Counter(E_CONFLICT=1)


def test_case_21_the_same_rows_in_another_file_are_known(store: Store, tmp_path: Path) -> None:
    bad = "1,LAMP,,1,2010-01-05 10:00,0,C7"
    credit = "C102,LAMP,,-1,2010-01-07 10:00,6.95,C7"
    take_in(store, invoices(tmp_path, LAMPS, RUGS, bad, credit, "9,POST,Post,2,2010-01-05 10:00,3,C7"))
    again = invoices(
        tmp_path,
        "9,POST,Post,2,2010-01-05T10:00:00Z,3.00,C7",
        bad.replace(",0,", ",0.00,"),
        RUGS,
        credit,
        LAMPS.replace("LAMP,RED", "lamp,Red"),
        name="re-export.csv",
    )
    outcome = take_in(store, again)
    assert (counts(outcome), outcome.exit_code) == ((5, 0, 0, 5), 0)


def test_a_later_file_may_add_lines_to_an_invoice(store: Store, tmp_path: Path) -> None:
    take_in(store, invoices(tmp_path, LAMPS))
    outcome = take_in(store, invoices(tmp_path, LAMPS, RUGS, name="longer.csv"))
    assert counts(outcome) == (2, 1, 0, 1)
    assert rows(store, Order.goods_cents, Order.version) == [(12 * 695 + 4000, 2)]
    assert rows(store, OrderLine.line_no) == [(1,), (2,)]


def test_a_file_that_repeats_an_invoice_with_a_changed_line_is_in_conflict(store: Store, tmp_path: Path) -> None:
    take_in(store, invoices(tmp_path, LAMPS, RUGS))
    outcome = take_in(store, invoices(tmp_path, LAMPS, RUGS.replace(",2,", ",5,"), name="changed.csv"))
    assert counts(outcome) == (2, 0, 1, 1)
    assert outcome.by_code == Counter(E_CONFLICT=1)
    assert rows(store, Order.goods_cents) == [(12 * 695 + 4000,)]


def test_only_those_who_may_take_in_history(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PermissionDenied):
        import_history(store, Actor("ann", frozenset({"clerk"})), invoices(tmp_path, LAMPS), RETAIL, KEEP)


def test_case_62_a_second_import_at_the_same_time_is_told_who_is_at_it(store: Store, tmp_path: Path) -> None:
    path = invoices(tmp_path, LAMPS)

    def meanwhile(doing: str, done: int, total: int | None) -> None:
        other = Actor("bob", frozenset({"manager"}))
        with pytest.raises(FileRefused) as refused:
            import_history(store, other, path, RETAIL, replace(KEEP, progress=None))
        seen.append(refused.value)

    seen: list[FileRefused] = []
    take_in(store, path, ImportOptions(progress=meanwhile))
    assert seen[0].code == "E_LOCKED"
    assert seen[0].exit_code == 5
    assert "system" in str(seen[0])
    assert count(store, RunLock) == 0
    assert counts(take_in(store, path)) == (1, 0, 0, 1)  # free again


KILLED = """
import sys
from pathlib import Path
from orders_core.domain.permissions import SYSTEM
from orders_core.intake.history import import_history
from orders_core.intake.mapping import load_mapping
from orders_core.intake.runs import ImportOptions
from orders_core.store.uow import Store
store = Store.open(sys.argv[1])
def progress(doing, done, total):
    if doing == "writing":
        print(done, flush=True)
import_history(store, SYSTEM, Path(sys.argv[2]), load_mapping("online-retail"),
    ImportOptions(quarantine=True, progress=progress))
"""


def test_case_93_a_killed_import_goes_on_where_it_stopped(store: Store, tmp_path: Path) -> None:
    lines = [f"{n // 5},SKU{n % 40},,{1 + n % 7},2010-01-05 10:00,2.50,C{n // 5 % 30}" for n in range(20_000)]
    path = invoices(tmp_path, *lines)
    child = subprocess.Popen([sys.executable, "-c", KILLED, store.url, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = count(store, OrderLine)
    assert 0 < done < 20_000
    store.clock.advance(minutes=2)  # type: ignore[attr-defined]  # the dead run's lock has expired by then
    with store.engine.begin() as conn:
        conn.execute(RunLock.__table__.delete())  # type: ignore[attr-defined]
    outcome = take_in(store, path)
    assert counts(outcome) == (20_000, 20_000 - done, 0, done)
    assert count(store, OrderLine) == 20_000


INVOICE_LINE = st.tuples(
    st.sampled_from(["1", "2", "3", "C4", "C5"]),
    st.sampled_from(["LAMP", "lamp", "RUG", "POST", "D", "BAD\u200b"]),
    st.integers(-4, 6),
    st.sampled_from(["2010-01-05 10:00", "2010-02-01 09:00", "2010-02-30 09:00"]),
    st.sampled_from(["5", "6.95", "0", "0.001", "-1"]),
    st.sampled_from(["C7", "C8", ""]),
)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(INVOICE_LINE, min_size=1, max_size=25))
def test_whatever_the_lines_are_the_money_adds_up_and_the_second_run_takes_in_nothing(
    new_database: Any, tmp_path: Path, lines: list[tuple[str, str, int, str, str, str]]
) -> None:
    store = Store.open(new_database())
    try:
        path = invoices(tmp_path, *(f"{inv},{sku},,{q},{at},{p},{c}" for inv, sku, q, at, p, c in lines))
        outcome = take_in(store, path)
        assert outcome.read == len(lines) == outcome.accepted + outcome.quarantined
        assert booked_cents(store) + quarantined_value(store) * 100 == sum(
            q * Decimal(p) * 100 for _, _, q, _, p, _ in lines
        )
        again = take_in(store, path)
        assert (counts(again), again.exit_code) == ((len(lines), 0, 0, len(lines)), 0)
    finally:
        store.close()


def booked_cents(store: Store) -> int:
    """Sales and charges less what came back."""
    with store.reading() as conn:
        sold = conn.scalar(select(func.coalesce(func.sum(Order.total_cents), 0))) or 0
        back = conn.scalar(select(func.coalesce(func.sum(ReturnLine.qty * ReturnLine.unit_price_cents), 0))) or 0
    return int(sold) - int(back)


def quarantined_value(store: Store) -> Decimal:
    """Quantity × price of the rows kept aside."""
    total = Decimal(0)
    for (raw,) in rows(store, QuarantinedRow.raw):
        fields = dict(zip((h.lower() for h in raw["header"]), raw["cells"], strict=True))
        qty, price = fields.get("quantity") or fields["qty"], fields["price"]
        total += int(qty) * Decimal(price)
    return total


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_whole_of_online_retail_is_taken_in_to_the_cent(store: Store, shared_folder: Path) -> None:
    """Line 8 of what must hold, without the command line around it."""
    import polars as pl

    path = shared_folder / "data" / "online_retail" / "orders_2009-12_2011-08.parquet"
    started = time.monotonic()
    outcome = take_in(store, path)
    assert time.monotonic() - started <= 180
    assert outcome.read == 823_643
    assert outcome.accepted + outcome.quarantined == 823_643
    frame = pl.read_parquet(path)
    assert by_month(store) == Counter(
        {
            month: sum(q * Decimal(repr(p)) for q, p in zip(part["Quantity"], part["Price"], strict=True))
            for (month,), part in frame.group_by(pl.col("InvoiceDate").dt.strftime("%Y-%m"))
        }
    )
    again = take_in(store, path)
    assert (counts(again), again.exit_code) == ((823_643, 0, 0, 823_643), 0)


def by_month(store: Store) -> Counter[str]:
    """Quantity × price in the books and in quarantine, per month of the invoice."""
    found: Counter[str] = Counter()
    with store.reading() as conn:
        for day, cents in conn.execute(select(Order.business_date, Order.total_cents)):
            found[f"{day:%Y-%m}"] += Decimal(cents) / 100  # type: ignore[assignment]
        back = select(ReturnAuthorization.business_date, ReturnLine.qty * ReturnLine.unit_price_cents)
        for day, cents in conn.execute(back.join(ReturnLine, ReturnLine.return_id == ReturnAuthorization.id)):
            found[f"{day:%Y-%m}"] -= Decimal(cents) / 100  # type: ignore[assignment]
        for (raw,) in conn.execute(select(QuarantinedRow.raw)):
            fields = dict(zip(raw["header"], raw["cells"], strict=True))
            found[fields["InvoiceDate"][:7]] += int(fields["Quantity"]) * Decimal(fields["Price"])  # type: ignore[assignment]
    return found
