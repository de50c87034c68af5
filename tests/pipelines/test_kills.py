"""kill -9 at any moment of a run: readers never notice, and the next run ends as if nothing had happened.

The runs are real processes on a real order database that changes between them. Half of the kills come at a random time,
half at a random step of the code that publishes, where a moment is too short to be hit by time. Half take the whole
group of processes, half the run alone and leave the process that reads the orders an orphan.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.warehouse import read
from pipelines.warehouse.publish import live_link
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.write import table_hash
from tests.conftest import StatedCount
from tests.pipelines.book import Book, at

FIRST_DAY = date(2026, 3, 2)

# Starts a run in a process and a group of its own for each line it is sent. It forks, so that the libraries are loaded
# once; nothing of DuckDB or Polars has run before the fork.
RUNS = r'''
import json, os, signal, sys, time, traceback
from datetime import UTC, date, datetime
from pathlib import Path
import duckdb, polars, statsforecast, sqlalchemy
import forecasting.forecast, forecasting.replenishment
from pipelines.daily import run_daily, run_refresh
from pipelines.warehouse import publish

def die_at(step):
    """kill -9 at that step of the code in publish.py: a line, a call, or a return."""
    left = [step]
    def count(frame, event, arg):
        if frame.f_code.co_filename != publish.__file__ or frame.f_code.co_name == "find_violations":
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return count
    sys.settrace(count)
    return left

for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        left = die_at(asked["die_at_step"] or 10**9)
        run = run_daily if asked["is_daily"] else run_refresh
        log = open(asked["log"], "a", buffering=1)
        try:
            run(asked["url"], Path(asked["folder"]), as_of=date.fromisoformat(asked["as_of"]), run_id=asked["run_id"],
                now=lambda: datetime.now(UTC), keep=2, progress=lambda step: log.write(step + "\n"))
        except BaseException:
            traceback.print_exc(file=log)
            log.close()
            os._exit(1)
        log.write(f"done {10**9 - left[0]}\n")
        log.close()
        os._exit(0)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), time.time()]), flush=True)
'''

READER = r"""
import json, os, sys, time
from pathlib import Path
from pipelines.warehouse import read
folder, stop = Path(sys.argv[1]), Path(sys.argv[2])
seen, questions, asker = [], 0, os.getppid()
while not stop.exists() and os.getppid() == asker:  # whoever waits for the answer may have been killed, too
    with read.live_warehouse(folder) as warehouse:
        generation = warehouse.publication().generation
        said = dict(warehouse.query("SELECT table_name, row_count FROM meta.table_rows").rows())
        counts = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) FROM {name}" for name in said)
        there = dict(warehouse.query(counts).rows())
        assert there == said, (generation, {n: (there[n], said[n]) for n in said if there[n] != said[n]})
        assert generation == warehouse.publication().generation
    assert generation >= max(seen, default=0), "went back in time"
    if generation not in seen:
        seen.append(generation)
    questions += 1
    time.sleep(0.05)
print(json.dumps([seen, questions]))
"""


class Runs:
    """Starts runs, waits for them or kills them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.log = folder.with_name("run.log")
        self.server = subprocess.Popen(
            [sys.executable, "-c", RUNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(
        self, as_of: date, run_id: str, *, folder: Path | None = None, is_daily: bool, die_at_step: int = 0
    ) -> int:
        """The process of a new run."""
        self.log.write_text("")
        asked = {"url": self.url, "folder": str(folder or self.folder), "as_of": as_of.isoformat(), "run_id": run_id,
                 "is_daily": is_daily, "die_at_step": die_at_step, "log": str(self.log)}  # fmt: skip
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self._answer())

    def end(self) -> int:
        """The exit code of the run that was started, once it has ended; less than 0 is a signal."""
        return int(json.loads(self._answer())[0])

    def run(self, as_of: date, run_id: str, **asked: Any) -> tuple[float, int]:
        """One undisturbed run: its seconds, and its steps in publish.py."""
        started = time.monotonic()
        self.start(as_of, run_id, **asked)
        assert self.end() == 0, self.log.read_text()
        return time.monotonic() - started, int(self.log.read_text().split()[-1])

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline()


@contextmanager
def reading(folder: Path, stop: Path) -> Iterator[list[Any]]:
    """Somebody who asks all the time; afterwards: generations seen, and how many questions were answered."""
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(folder), str(stop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    result: list[Any] = []
    try:
        yield result
    finally:
        stop.touch()
        out, err = reader.communicate(timeout=60)
    assert reader.returncode == 0, err
    result += json.loads(out)


def hashes(folder: Path) -> dict[str, str]:
    with read.live_warehouse(folder) as warehouse:
        return {t.full_name: table_hash(warehouse.con, t) for t in TABLES if t.schema != "meta"}


def orphans(folder: Path) -> list[psutil.Process]:
    """Processes that still read orders for a generation in `folder`: they hold it open."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = any(str(folder) in file.path for file in process.open_files())
            if is_ours and "pipelines.extract" in process.cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.timeout(3600)  # a hundred kills take half an hour
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_readers_never_notice_a_killed_run_and_the_next_ends_as_if_it_had_not_been(
    database_url: str, tmp_path: Path, stated_count: StatedCount, record_property: Callable[[str, object], None]
) -> None:
    kills = stated_count(small=4, stated=100)
    compared_every = stated_count(small=4, stated=1)
    rng = random.Random(20261122)
    folder, calm = tmp_path / "warehouse", tmp_path / "calm"
    book = Book(database_url)
    book.location("HEL", default=True)
    book.sku("LAMP", "RUG")
    book.supplier("ACME", 5, "LAMP", "RUG", moq=10, pack=12, cost=250)
    book.move(at(FIRST_DAY, 8), "LAMP@HEL: 500", "RUG@HEL: 90")

    def trade(day: date, number: int) -> None:
        book.order(f"A{number}", at(day, 9), f"LAMP@HEL: {number % 5 + 1}", f"RUG@HEL: {number % 3 + 1}")
        book.order(f"B{number}", at(day, 10), "LAMP@HEL: 4")
        if number % 2:
            book.ship(f"A{number}", at(day, 15))
            book.edit(f"B{number}", at(day, 16), {1: 2})
        elif number:
            book.cancel(f"B{number - 1}", at(day, 16))
        book.store.close()  # SQLite writes its -wal back; the run is another process

    for number in range(20):
        trade(FIRST_DAY + timedelta(days=number), number)
    today = FIRST_DAY + timedelta(days=20)

    runs = Runs(database_url, folder)
    cost = {is_daily: runs.run(today, f"first-{is_daily}", is_daily=is_daily) for is_daily in (True, False)}
    if compared_every == 1:
        runs.run(today, "first", folder=calm, is_daily=True)

    killed_in: dict[str, int] = {}
    with reading(folder, tmp_path / "stop") as result:
        for number in range(kills):
            if number and number % 4 == 0:
                today += timedelta(days=1)
            trade(today, 20 + number)
            is_daily, is_by_step, is_alone = number % 4 == 3, number % 2 == 1, number % 8 in (0, 1, 6, 7)
            seconds, steps = cost[is_daily]
            # A moment in each tenth of the run in turn, or a step in each tenth of publishing.
            share = (number * 7 % 10 + rng.random()) / 10
            pid = runs.start(today, f"killed-{number}", is_daily=is_daily,
                             die_at_step=1 + int(share * steps) if is_by_step else 0)  # fmt: skip
            if not is_by_step:
                time.sleep(share * seconds)
                with suppress(ProcessLookupError):  # it was quicker than expected
                    (os.kill if is_alone else os.killpg)(pid, signal.SIGKILL)
            status = runs.end()
            said = runs.log.read_text().split()
            assert status in (0, -signal.SIGKILL), runs.log.read_text()
            step = "done" if status == 0 else said[-1] if said else "start"
            killed_in[step] = killed_in.get(step, 0) + 1
            if is_by_step and not is_alone:  # it killed itself; its child goes with it
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

            # At once: the orphan may be there still.
            cost[is_daily] = runs.run(today, f"next-{number}", is_daily=is_daily)
            if (number + 1) % compared_every == 0:
                runs.run(today, f"calm-{number}", folder=calm, is_daily=is_daily)
                assert hashes(folder) == hashes(calm), f"after kill {number} in {step}"
            names = sorted(path.name for path in folder.iterdir())
            assert all(name == ".lock" or name.startswith("generation-") for name in names), names
            assert len(names) <= 1 + 3, "two are kept, and one to spare"
            psutil.wait_procs(orphans(folder), timeout=5)
            assert not orphans(folder)
            assert sorted(path.name for path in folder.iterdir()) == names, "an orphan wrote after the next run"
            assert live_link(folder).is_symlink()
    generations_seen, questions = result
    record_property("killed_in", killed_in)
    record_property("read", f"{questions} questions, {len(generations_seen)} generations")
    assert kills < 100 or {"start", "load", "check", "publish"} <= set(killed_in), killed_in
    assert killed_in.get("done", 0) < kills / 2, "most of the kills must find a run to kill"
    assert len(generations_seen) > kills / 2
    assert questions > kills
    runs.server.stdin.close()  # type: ignore[union-attr]
    runs.server.wait(timeout=30)
