"""kill -9 at random moments loses nothing that was acknowledged (issue 2, line 5)."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.company import CLERK, seed_company
from benchmarks.faults import Findings, Phase, SideLog, inject
from orders_core.services.place_order import place_order
from orders_core.store.uow import Store


def test_kill_9_while_placing_and_delivering_loses_nothing(new_database, tmp_path: Path, stated_count, record_property):
    found = inject(new_database(), stated_count(small=4, stated=100), tmp_path)
    record_property("found", {key: value for key, value in vars(found).items() if key != "examples"})
    assert found.examples == []
    assert (found.lost, found.violations, found.duplicates) == (0, 0, 0)
    assert found.max_recovery_seconds < 1
    assert found.killed_placing + found.killed_delivering >= found.injections
    assert found.files > 0
    assert found.mails > 0
    assert found.acknowledged > 0


@pytest.fixture
def phase(new_database, tmp_path: Path) -> Phase:
    url = new_database()
    with closing(Store.open(url)) as store:
        orders = seed_company(store, sku_count=20, customer_count=2).orders("a", key="a")
        for position in (1, 2):
            number = store.run(place_order, CLERK, orders.next()).number
            (tmp_path / "phase").mkdir(exist_ok=True)
            SideLog(tmp_path / "phase" / "place0.log").note(position, number)
    (tmp_path / "phase" / "place0.log").rename(tmp_path / "place0.log")
    (tmp_path / "phase").rmdir()
    phase = Phase(url, tmp_path / "phase", Findings(), random.Random(1), mails=None)
    (tmp_path / "place0.log").rename(tmp_path / "phase" / "place0.log")
    return phase


def test_a_good_database_gives_no_findings(phase: Phase) -> None:
    phase.check_database(everybody_is_dead=True)
    assert phase.found.is_right, phase.found.examples


def test_an_acknowledged_order_that_is_gone_is_found(phase: Phase) -> None:
    SideLog(phase.folder / "place0.log").note(3, "SO-20260101-999999")
    phase.check_database(everybody_is_dead=True)
    assert phase.found.lost == 1
    assert phase.found.examples == ["lost: order SO-20260101-999999 was acknowledged and is not there"]


def test_a_broken_invariant_is_found(phase: Phase) -> None:
    with closing(Store.open(phase.url)) as store, store.engine.begin() as conn:
        conn.execute(sa.text("UPDATE stock_level SET on_hand_qty = on_hand_qty + 1 WHERE reserved_qty > 0"))
    phase.check_database(everybody_is_dead=True)
    assert phase.found.violations > 0


def test_a_file_written_again_is_found(phase: Phase) -> None:
    (phase.folder / "mail").mkdir()
    mail = phase.folder / "mail" / "a@b.eml"
    mail.write_text("once")
    phase.check_database(everybody_is_dead=True)
    again = phase.folder / "mail" / "other"
    again.write_text("once")
    again.replace(mail)
    phase.check_database(everybody_is_dead=True)
    assert phase.found.duplicates == 1


def test_a_side_log_knows_what_stayed_unanswered(tmp_path: Path) -> None:
    path = tmp_path / "place0.log"
    log = SideLog(path)
    log.note(1, None)
    log.note(1, "SO-1")
    log.note(2, None)
    with path.open("ab") as torn:
        torn.write(b'[2, "SO-')
    found = SideLog(path)
    assert (found.asked, found.acknowledged, found.asked_again) == (2, {1: "SO-1"}, 0)
    found.note(2, None)
    found.note(2, "SO-2")
    again = SideLog(path)
    assert (again.asked, again.acknowledged, again.asked_again) == (2, {1: "SO-1", 2: "SO-2"}, 1)
