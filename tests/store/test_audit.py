"""The audit trail is sealed in order by one sealer at a time, and whatever is done to it afterwards is named."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import insert, text

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.store import audit
from orders_core.store.audit import seal_audit, verify_audit
from orders_core.store.tables import AuditEntry
from orders_core.store.uow import Store, UnitOfWork


def act(uow: UnitOfWork, actor: Actor, count: int) -> None:
    for i in range(count):
        uow.audit(actor, "order.note", "ticket", i, facts={"说明": f"第 {i} 条", "qty": i})


def tamper(store: Store, *statements: str) -> None:
    """As someone would who has the database in his hands: constraints out of the way."""
    with store.engine.connect() as conn:
        if conn.dialect.name == "sqlite":
            driver = conn.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA foreign_keys=OFF")
        with conn.begin():
            if conn.dialect.name == "postgresql":
                conn.execute(text("SET LOCAL session_replication_role = 'replica'"))
            for statement in statements:
                assert conn.exec_driver_sql(statement).rowcount > 0
    store.engine.dispose()


def test_what_is_committed_gets_sealed_once(store: Store) -> None:
    assert seal_audit(store) == 0
    store.run(act, SYSTEM, 3)
    report = verify_audit(store)
    assert (report.sealed_count, report.unsealed_count, report.first_unsealed_id) == (0, 3, 1)
    assert seal_audit(store) == 3
    assert seal_audit(store) == 0
    store.run(act, SYSTEM, 2)
    report = verify_audit(store)
    assert (report.sealed_count, report.unsealed_count, report.is_intact) == (3, 2, True)
    assert seal_audit(store) == 2
    report = verify_audit(store)
    assert (report.sealed_count, report.unsealed_count, report.first_unsealed_id) == (5, 0, None)
    assert report.last_seal is not None
    assert len(report.last_seal) == 64


def test_more_rows_than_one_transaction_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ROWS_AT_A_TIME", 4)
    store.run(act, SYSTEM, 8)
    assert seal_audit(store) == 8
    assert verify_audit(store).is_intact


TAMPERED: dict[str, tuple[list[str], str, int | None]] = {
    "an action": (["UPDATE audit_entry SET action = 'order.approve' WHERE id = 3"], "changed", 3),
    "an actor": (["UPDATE audit_entry SET actor = 'nobody' WHERE id = 1"], "changed", 1),
    "a fact": (["UPDATE audit_entry SET facts = replace(facts, '\"qty\":4', '\"qty\":5') WHERE id = 5"], "changed", 5),
    "a moment": (["UPDATE audit_entry SET at = at + 1 WHERE id = 2"], "changed", 2),
    "a version that was empty": (["UPDATE audit_entry SET version = 1 WHERE id = 2"], "changed", 2),
    "a row removed": (["DELETE FROM audit_entry WHERE id = 4"], "missing", 4),
    "a row removed with its seal": (
        ["DELETE FROM audit_seal WHERE position = 4", "DELETE FROM audit_entry WHERE id = 4"],
        "seal_missing",
        None,
    ),
    "a seal removed": (["DELETE FROM audit_seal WHERE position = 4"], "seal_missing", None),
    "the first seal removed": (["DELETE FROM audit_seal WHERE position = 1"], "seal_missing", None),
    "a seal rewritten": (["UPDATE audit_seal SET seal = 'x' WHERE position = 4"], "changed", 4),
    "two rows exchanged": (
        [
            "UPDATE audit_seal SET audit_entry_id = 99 WHERE position = 2",
            "UPDATE audit_seal SET audit_entry_id = 2 WHERE position = 3",
            "UPDATE audit_seal SET audit_entry_id = 3 WHERE position = 2",
        ],
        "changed",
        3,
    ),
    "a row slipped in": (
        [
            "INSERT INTO audit_entry (id, at, actor, roles, action, entity, entity_id)"
            " VALUES (0, 0, 'x', 'x', 'x', 'x', 1)"
        ],
        "inserted",
        0,
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_done_to_the_trail_is_named(store: Store, what: str) -> None:
    statements, kind, audit_entry_id = TAMPERED[what]
    store.run(act, SYSTEM, 6)
    seal_audit(store)
    assert verify_audit(store).is_intact
    tamper(store, *statements)
    problem = verify_audit(store).problem
    assert problem is not None
    assert (problem.kind, problem.audit_entry_id) == (kind, audit_entry_id)
    assert problem.text("zh") != problem.text("en")


def test_a_trail_cut_off_at_its_end_shows_to_who_kept_a_seal(store: Store) -> None:
    store.run(act, SYSTEM, 6)
    seal_audit(store)
    kept = verify_audit(store).last_seal
    assert verify_audit(store, known_seal=kept).is_intact
    tamper(store, "DELETE FROM audit_seal WHERE position > 4", "DELETE FROM audit_entry WHERE id > 4")
    assert verify_audit(store).is_intact
    problem = verify_audit(store, known_seal=kept).problem
    assert problem is not None
    assert problem.kind == "unknown_seal"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_row_that_commits_late_is_sealed_before_its_followers(store: Store) -> None:
    row = {"at": store.clock.now(), "actor": "a", "roles": "", "action": "x", "entity": "x", "entity_id": 1}
    with store.engine.connect() as slow:
        slow.execute(insert(AuditEntry), row)  # takes id 1 and keeps it open
        store.run(act, SYSTEM, 2)  # ids 2 and 3 are committed
        assert seal_audit(store, wait_seconds=0.2) == 0
        assert verify_audit(store).unsealed_count == 2
        slow.commit()
    assert seal_audit(store) == 3
    with store.reading() as conn:
        sealed = conn.execute(text("SELECT audit_entry_id FROM audit_seal ORDER BY position")).scalars().all()
    assert sealed == [1, 2, 3]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_transaction_that_rolls_back_leaves_a_gap_and_no_harm(store: Store) -> None:
    row = {"at": store.clock.now(), "actor": "a", "roles": "", "action": "x", "entity": "x", "entity_id": 1}
    with store.engine.connect() as failing:
        failing.execute(insert(AuditEntry), row)
        store.run(act, SYSTEM, 1)
        failing.rollback()
    assert seal_audit(store) == 1
    assert verify_audit(store).is_intact


def test_sealers_at_once_take_turns_while_others_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ROWS_AT_A_TIME", 3)
    failures: list[BaseException] = []

    def repeat(work: Callable[[], object]) -> None:
        try:
            for _ in range(10):
                work()
        except BaseException as error:  # noqa: BLE001 - whatever it was, the test tells
            failures.append(error)

    jobs: list[Callable[[], object]] = [lambda: seal_audit(store)] * 3 + [lambda: store.run(act, SYSTEM, 5)] * 2
    threads = [threading.Thread(target=repeat, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    seal_audit(store)
    report = verify_audit(store)
    assert (report.sealed_count, report.unsealed_count, report.problem) == (100, 0, None)
