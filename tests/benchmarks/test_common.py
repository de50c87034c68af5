"""Workers, databases and RESULTS.md as every benchmark uses them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.common import Address, Databases, Figure, Pace, Speed, WorkerFailed, record, run_workers


def _meet(gate, number: int) -> tuple[int, int]:
    gate.wait()
    return number, os.getpid()


def _fail_once(gate, number: int) -> None:
    if number == 1:
        raise ValueError("the second worker trips")
    gate.wait()


def _die(gate, number: int) -> None:
    if number == 1:
        os._exit(7)
    gate.wait()


def test_workers_run_at_once_in_processes_of_their_own_and_answer_in_order() -> None:
    answers = run_workers(_meet, [[0], [1], [2]])
    assert [number for number, _ in answers] == [0, 1, 2]
    assert len({pid for _, pid in answers} | {os.getpid()}) == 4


def test_a_worker_that_raises_is_reported_and_nobody_waits_for_it() -> None:
    with pytest.raises(WorkerFailed, match="the second worker trips") as failed:
        run_workers(_fail_once, [[0], [1], [2]])
    assert "BrokenBarrier" not in str(failed.value)


def test_a_worker_that_dies_is_reported_and_nobody_waits_for_it() -> None:
    with pytest.raises(WorkerFailed, match="ended with 7"):
        run_workers(_die, [[0], [1], [2]])


def test_speed_counts_from_the_first_start_to_the_last_end() -> None:
    paces = [Pace(10, 1.0, 3.0, 0.5, 20.0), Pace(20, 2.0, 6.0, 1.0, 30.0)]
    assert Speed.of(paces) == Speed(processes=2, done=30, per_second=6.0, cpu_ms_each=50.0, peak_mb=30.0)


def test_a_copy_holds_what_the_source_held_and_is_gone_afterwards(new_database) -> None:
    url = new_database()
    with Databases(url) as databases:
        copy = databases.copy(url, "copy")
        engine = sa.create_engine(copy)
        with engine.begin() as conn:
            conn.execute(sa.text("DELETE FROM rule_set"))
        engine.dispose()
    source = sa.create_engine(url)
    with source.connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM rule_set")).scalar_one() == 1
    source.dispose()
    if databases.kind == "sqlite":
        assert not Path(Address.of(copy).name).exists()
    else:
        with pytest.raises(sa.exc.OperationalError, match="does not exist"):
            engine.connect()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sqlite:////tmp/orders.db", Address(True, "/tmp/orders.db")),
        (
            "postgresql+psycopg://me:p%40ss@db.example:5433/orders",
            Address(False, "orders", "db.example", 5433, "me", "p@ss"),
        ),
        ("postgresql+psycopg://postgres@/orders?host=/tmp/pg", Address(False, "orders", "/tmp/pg", None, "postgres")),
    ],
)
def test_the_parts_of_a_url(url: str, address: Address) -> None:
    assert Address.of(url) == address


def test_results_keep_other_sections_and_replace_their_own(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\nWords at the top.\n", encoding="utf-8")
    record("first", [Figure("speed", "1", "goal 2")], path=path, command="one")
    record("second", [Figure("speed", "7")], path=path, command="two")
    record("first", [Figure("speed", "3", "goal 2")], path=path, command="three")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Results\n\nWords at the top.\n\n## first\n")
    assert text.count("## first") == text.count("## second") == 1
    assert "| speed | 3 | goal 2 |" in text
    assert "| speed | 7 |  |" in text
    assert "| speed | 1 |" not in text
    assert "`three`" in text
