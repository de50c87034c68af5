"""Customer files and carrier event files. On both databases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orders_core.intake.customers import import_customers, parse_email, parse_phone
from orders_core.intake.files import Declared
from orders_core.intake.mapping import load_mapping
from orders_core.intake.outcome import Outcome
from orders_core.intake.problems import Problem
from orders_core.intake.runs import ImportOptions
from orders_core.intake.tracking import import_tracking
from orders_core.store.tables import Customer, CustomerAddress, CustomerContact, Order, Package, TrackingEvent
from orders_core.store.uow import Store
from tests.support import build

KEEP = ImportOptions(quarantine=True)
CUSTOMERS = "客户编码,客户名称,语言,信用额度,账期,电话,邮箱,地址"
EVENTS = "快递公司,运单号,状态,时间"


def file(folder: Path, header: str, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "file.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding)
    return path


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return (outcome.read, outcome.accepted, outcome.quarantined, outcome.duplicates)


def customers(store: Store, path: Path, options: ImportOptions = KEEP) -> Outcome:
    return import_customers(store, build.MANAGER, path, load_mapping("customers"), options)


def tracking(store: Store, path: Path, options: ImportOptions = KEEP) -> Outcome:
    return import_tracking(store, build.MANAGER, path, load_mapping("tracking"), options)


def rows(store: Store, *columns: Any) -> list[Any]:
    with store.reading() as conn:
        return [tuple(row) for row in conn.execute(select(*columns).order_by(*columns))]


def test_customers_come_in_with_contact_and_address_and_again_change_nothing(store: Store, tmp_path: Path) -> None:
    path = file(
        tmp_path, CUSTOMERS, "00042,联通营业厅,中文,5000.50,30,13800138000,a@b.cn,人民路 1 号", "C2,Bob,en,,,,,"
    )
    assert counts(customers(store, path)) == (2, 2, 0, 0)
    assert rows(store, Customer.code, Customer.language, Customer.credit_limit_cents, Customer.terms_days) == [
        ("00042", "zh", 500_050, 30),
        ("C2", "en", None, 0),
    ]
    assert rows(store, CustomerContact.phone, CustomerContact.email) == [("13800138000", "a@b.cn")]
    assert rows(store, CustomerAddress.street) == [("人民路 1 号",)]
    again = customers(store, path)
    assert (counts(again), again.exit_code) == ((2, 0, 0, 2), 0)


def test_an_empty_cell_leaves_what_is_known_of_a_customer(store: Store, tmp_path: Path) -> None:
    customers(store, file(tmp_path, CUSTOMERS, "C1,Ann,en,100,30,13800138000,a@b.cn,1 Road"))
    assert counts(customers(store, file(tmp_path, CUSTOMERS, "C1,Anna,,,,,,"))) == (1, 1, 0, 0)
    assert rows(store, Customer.name, Customer.credit_limit_cents) == [("Anna", 10_000)]
    assert rows(store, CustomerContact.email) == [("a@b.cn",)]


def test_bad_customers_stay_out_each_with_its_reason(store: Store, tmp_path: Path) -> None:
    outcome = customers(
        store,
        file(
            tmp_path,
            CUSTOMERS,
            "C1,,zh,,,,,",
            "C2,x,fr,,,,,",
            'C3,x,,"1,50",,,,',
            "C4,x,,,,12,,",
            "C5,x,,,,,no mail,",
            "C6,x,,-1,,,,",
            "C7,x,,,,,,",
            "C7,other,,,,,,",
        ),
    )
    assert counts(outcome) == (8, 0, 8, 0)
    assert outcome.by_code == Counter(E_REQUIRED=1, E_CHOICE=1, E_NUMBER=2, E_PHONE=1, E_EMAIL=1, E_CONFLICT=2)


@pytest.mark.parametrize("raw", ["138****1234", "+86 138 0013 8000", "010-12345678", "13800138000"])
def test_phones_are_kept_as_written(raw: str) -> None:
    assert parse_phone(raw, "CN") == raw


@pytest.mark.parametrize("raw", ["a@b\r\nBcc: c@d.cn", "a@b", "@", "a b@c.cn"])
def test_case_79_an_address_that_could_smuggle_a_header_is_no_address(raw: str) -> None:
    assert isinstance(parse_email(raw), Problem)


@pytest.fixture
def shipped(store: Store) -> Store:
    build.company(store)
    build.stock(store, "LAMP@WH1: 100")
    build.carrier(store, "SF")
    for number in ("SF001", "SF002"):
        placed = build.order(store, "LAMP 1" if number == "SF001" else "LAMP 2")
        build.ship(store, placed.number, tracking_number=number)
    return store


def test_events_move_their_parcels_and_the_same_file_again_changes_nothing(shipped: Store, tmp_path: Path) -> None:
    lines = ["SF,SF001,运输中,2026-03-02 09:00:00", "SF,SF001,已签收,2026-03-02 09:05:00"]
    path = file(tmp_path, EVENTS, *lines, encoding="gb18030")
    options = ImportOptions(quarantine=True, declared=Declared(encoding="gbk"))
    assert counts(tracking(shipped, path, options)) == (2, 2, 0, 0)
    assert rows(shipped, Package.tracking_number, Package.status) == [("SF001", "delivered"), ("SF002", "packed")]
    assert ("delivered",) in rows(shipped, Order.status)
    again = tracking(shipped, path, options)
    assert (counts(again), again.exit_code) == ((2, 0, 0, 2), 0)
    assert len(rows(shipped, TrackingEvent.id)) == 2


def test_two_bad_rows_stay_out_and_the_rest_goes_in(shipped: Store, tmp_path: Path) -> None:
    outcome = tracking(
        shipped,
        file(
            tmp_path,
            EVENTS,
            "SF,SF001,运输中,2026-03-02 09:00:00",
            "YTO,SF001,运输中,2026-03-02 09:00:00",
            "SF,SF002,运输中,02/03/2026",
            "SF,SF999,运输中,2026-03-02 09:00:00",
        ),
    )
    assert (counts(outcome), outcome.exit_code) == ((4, 1, 3, 0), 3)
    assert outcome.by_code == Counter(E_REF=1, E_DATE=1, E_REFUSED=1)


def test_case_48_an_unknown_status_is_kept_and_moves_nothing(shipped: Store, tmp_path: Path) -> None:
    outcome = tracking(shipped, file(tmp_path, EVENTS, "SF,SF001,玄学状态,2026-03-02 09:00:00"))
    assert (counts(outcome), outcome.by_code) == ((1, 1, 0, 0), Counter(W_STATUS=1))
    assert rows(shipped, TrackingEvent.raw_status, TrackingEvent.outcome) == [("玄学状态", "unmapped")]


def test_case_49_an_impossible_time_moves_nothing(shipped: Store, tmp_path: Path) -> None:
    outcome = tracking(shipped, file(tmp_path, EVENTS, "SF,SF001,已签收,2099-03-02 09:00:00"), ImportOptions())
    assert (counts(outcome), outcome.by_code) == ((1, 0, 1, 0), Counter(E_TIME=1))
    assert rows(shipped, TrackingEvent.id) == []
