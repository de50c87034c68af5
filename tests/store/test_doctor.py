"""The doctor names what is wrong, where, and what to do about it; and changes nothing."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
from sqlalchemy import text

from orders_core.settings import Settings
from orders_core.store import doctor, schema
from orders_core.store.doctor import Finding, examine, has_wal_reset_bug
from orders_core.store.uow import make_engine
from tests.conftest import NewDatabase


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in os.environ:
        if key.startswith("DINGHUO_"):
            monkeypatch.delenv(key)


def settings(url: str, tmp_path: Path, **values: str) -> Settings:
    return Settings(
        **{"database_url": url, "warehouse_dir": tmp_path / "warehouse", "outbox_dir": tmp_path / "outbox", **values}  # type: ignore[arg-type]
    )


def only(findings: list[Finding], code: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.code == code]
    return finding


def test_a_sound_installation_has_nothing_that_fails(database_url: str, tmp_path: Path) -> None:
    findings = examine(settings(database_url, tmp_path))
    assert [finding.text() for finding in findings if finding.level == "fail"] == []
    assert {"python", "packages", "settings", "folder", "disk", "schema", "warehouse"} <= {f.code for f in findings}
    assert only(findings, "schema").level == "ok"
    for finding in findings:
        assert finding.text("zh")
        assert finding.text("en")


def test_looking_changes_nothing(tmp_path: Path) -> None:
    findings = examine(settings(f"sqlite:///{tmp_path}/orders.db", tmp_path))
    assert only(findings, "schema").level == "warn"
    assert "dinghuo init" in only(findings, "schema").text()
    assert list(tmp_path.iterdir()) == []


def test_an_older_or_newer_database_is_named(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(database_url)
    with engine.begin() as conn:
        conn.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    finding = only(examine(settings(database_url, tmp_path)), "schema")
    assert finding.level == "fail"
    assert "9999" in finding.text()
    monkeypatch.setattr(schema, "needs_upgrade", lambda _url: True)
    finding = only(examine(settings(database_url, tmp_path)), "schema")
    assert finding.level == "fail"
    assert "dinghuo upgrade" in finding.text("zh")


def test_secrets_are_masked(new_database: NewDatabase, tmp_path: Path) -> None:
    url = "postgresql+psycopg://clerk:geheim@127.0.0.1:1/orders"
    findings = examine(settings(url, tmp_path, smtp_user="u", smtp_password="geheim"))
    assert "geheim" not in " ".join(finding.text(language) for finding in findings for language in ("zh", "en"))
    unreachable = only(findings, "postgresql")
    assert unreachable.level == "fail"
    assert "127.0.0.1" in unreachable.text()
    assert "schema" not in {finding.code for finding in findings}


@pytest.mark.parametrize(
    ("version", "is_there"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug(version: tuple[int, int, int], is_there: bool) -> None:
    assert has_wal_reset_bug(version) is is_there


def test_the_wal_reset_bug_is_told_where_sqlite_is_used(
    new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.sqlite3, "sqlite_version_info", (3, 40, 1))
    url = new_database()
    told = {finding.code: finding.level for finding in examine(settings(url, tmp_path))}
    assert told.get("sqlite_wal_reset") == ("warn" if url.startswith("sqlite") else None)
    monkeypatch.setattr(doctor.sqlite3, "sqlite_version_info", (3, 36, 0))
    assert only(examine(settings(url, tmp_path)), "sqlite").level == "fail"


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12, 400_000_000))
    finding = only(examine(settings(f"sqlite:///{tmp_path}/orders.db", tmp_path)), "disk")
    assert finding.level == "warn"
    assert "0.4 GB" in finding.text("zh")
    assert str(tmp_path) in finding.text("zh")


def test_folders_that_are_missing_or_cannot_be_written_are_named(tmp_path: Path) -> None:
    findings = examine(settings(f"sqlite:///{tmp_path}/missing/orders.db", tmp_path, warehouse_dir="/proc/warehouse"))
    failing = {finding.text() for finding in findings if finding.level == "fail"}
    assert any(str(tmp_path / "missing") in sentence for sentence in failing)
    assert any("warehouse_dir" in sentence and "/proc" in sentence for sentence in failing)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "orders.db").write_text("hello " * 1000)
    finding = only(examine(settings(f"sqlite:///{tmp_path}/orders.db", tmp_path)), "schema")
    assert finding.level == "fail"
    assert "orders.db" in finding.text("zh")


def test_the_warehouse_link_is_followed(tmp_path: Path) -> None:
    here = settings(f"sqlite:///{tmp_path}/orders.db", tmp_path)
    link = tmp_path / "warehouse.duckdb"
    assert only(examine(here), "warehouse").level == "warn"
    (tmp_path / "warehouse").mkdir()
    link.symlink_to(Path("warehouse") / "generation-000001.duckdb")
    assert only(examine(here), "warehouse").level == "fail"
    (tmp_path / "warehouse" / "generation-000001.duckdb").touch()
    assert only(examine(here), "warehouse").level == "ok"
    link.unlink()
    link.touch()
    assert only(examine(here), "warehouse").level == "fail"


def test_a_package_of_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.4.0" if name == "sqlalchemy" else true_version(name))
    finding = only(examine(settings(f"sqlite:///{tmp_path}/orders.db", tmp_path)), "packages")
    assert finding.level == "fail"
    assert "sqlalchemy 1.4.0" in finding.text()
