"""The database as a whole: made, upgraded, examined, verified, backed up, restored, its audit trail sealed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from orders_core.store.uow import Store
from tests.cli.conftest import Cli
from tests.support import build


def test_init_makes_a_database_once_and_a_folder_if_asked(cli: Cli) -> None:
    first = cli("init", "-C", "shop", "--json")
    assert (first.code, first.data["is_new"], Path("shop/orders.db").exists()) == (0, True, True)
    assert cli("init", "-C", "shop", "--json").data["is_new"] is False
    assert cli("upgrade", "-C", "shop").code == 0
    assert cli("verify", "-C", "shop", "--json").data["violations"] == []


def test_nothing_is_made_by_looking(cli: Cli) -> None:
    for words in (["orders", "list"], ["verify"], ["upgrade"], ["stock", "show"], ["serve"]):
        said = cli(*words)
        assert (said.code, said.err.split()[0]) == (1, "E_NO_DATABASE")
    assert list(Path().iterdir()) == []


def test_the_flag_goes_before_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("init", "--db", "a.db")
    monkeypatch.setenv("DINGHUO_DATABASE_URL", "sqlite:///nowhere.db")
    assert cli("verify").code == 1
    assert cli("verify", "--db", "a.db").code == 0
    assert cli("verify", "--db", "mysql://x/y").err.startswith("E_ARG --db")


def test_a_setting_that_is_not_known_stops_everything(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGHUO_DATABSE_URL", "sqlite:///x.db")
    said = cli("init")
    assert (said.code, "DINGHUO_DATABASE_URL" in said.err) == (2, True)


def test_what_is_not_our_database_is_left_alone(cli: Cli) -> None:
    content = b"no database at all, but long enough to look at"
    Path("orders.db").write_bytes(content)
    said = cli("orders", "list")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("E_SCHEMA_VERSION")
    assert Path("orders.db").read_bytes() == content


def test_a_newer_database_is_refused_with_both_versions(cli: Cli) -> None:
    cli("init")
    with sqlite3.connect("orders.db") as conn:
        conn.execute("UPDATE dinghuo_schema SET version_num = '9999'")
    conn.close()
    for words in (["orders", "list"], ["upgrade"], ["init"]):
        said = cli(*words)
        assert (said.code, said.err.startswith("E_SCHEMA_VERSION database is at schema 9999")) == (1, True)


@pytest.mark.breaks_invariants
def test_verify_names_what_is_broken(shop: Store, cli: Cli) -> None:
    clean = cli("verify")
    assert (clean.code, clean.out.startswith("clean: ")) == (0, True)
    with shop.unit_of_work() as uow:
        uow.conn.execute(text("UPDATE stock_level SET on_hand_qty = on_hand_qty + 1 WHERE on_hand_qty = 20"))
    said = cli("verify")
    assert said.code == 1
    assert said.out.startswith("stock_on_hand: stock_level LAMP@WH1: ")
    (violation,) = cli("verify", "--json").data["violations"]
    assert (violation["code"], violation["key"]) == ("stock_on_hand", "LAMP@WH1")
    assert violation["zh"] in cli("verify", "--lang", "zh").out


def test_a_backup_comes_back_as_it_was(shop: Store, cli: Cli) -> None:
    assert cli("backup", "b.db").out == "b.db\n"
    assert cli("backup", "b.db").err.startswith("E_EXISTS")
    assert cli("backup", "no/such/folder/b.db").err.startswith("E_ARG FILE: there is no folder")
    cli("orders", "place", "LAMP:2", "--customer", "ACME", "--channel", "phone")
    unasked = cli("restore", "b.db")  # nobody is there to say yes
    assert (unasked.code, "--overwrite" in unasked.err) == (2, True)
    assert build.level(shop, "LAMP@WH1").reserved_qty == 2
    assert cli("restore", "b.db", "--overwrite", "--json").data["violations"] == []
    assert build.level(shop, "LAMP@WH1").reserved_qty == 0
    assert cli("restore", "nope.db", "--overwrite").err.startswith("E_BACKUP")


@pytest.mark.breaks_invariants
def test_the_audit_trail_is_sealed_and_tampering_shows(shop: Store, cli: Cli) -> None:
    cli("orders", "place", "LAMP:2", "--customer", "ACME", "--channel", "phone", "--as", "mei")
    sealed = cli("audit", "seal", "--json").data["sealed"]
    report = cli("audit", "verify", "--json").data
    assert (report["is_intact"], report["sealed"], report["unsealed"]) == (True, sealed, 0)
    assert cli("audit", "verify", "--known-seal", report["last_seal"]).code == 0
    assert cli("audit", "verify", "--known-seal", "0" * 64).code == 1
    with shop.unit_of_work() as uow:
        uow.conn.execute(text("UPDATE audit_entry SET actor = 'nobody' WHERE actor = 'mei'"))
    said = cli("audit", "verify")
    assert (said.code, "is not what was sealed" in said.out) == (1, True)


def test_doctor_warns_with_exit_0_and_fails_with_exit_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    said = cli("doctor", "--json")
    assert said.code == 0
    assert {"level": "warn", "code": "schema"}.items() <= next(f for f in said.data if f["code"] == "schema").items()
    monkeypatch.setenv("DINGHUO_DATABASE_URL", "sqlite:///no/such/folder/orders.db")
    failed = cli("doctor", "--lang", "zh")
    assert (failed.code, "文件夹" in failed.out) == (1, True)


def test_a_database_that_does_not_answer_is_an_error_and_no_traceback(cli: Cli) -> None:
    said = cli("verify", "--db", "postgresql+psycopg://u:geheim@127.0.0.1:1/x")
    assert (said.code, said.err.split()[0]) == (1, "E_DATABASE")
    assert "geheim" not in said.err
