"""kill -9 at random moments, while orders are placed and notices delivered: nothing acknowledged is lost.

    python -m benchmarks.faults [--injections 100] [--url URL] [--out FILE.json]

Three processes place orders, two deliver notices; again and again some of them, or all, get kill -9 and are replaced.
A placing process notes in a side log of its own, on the disk before it goes on, what it is about to ask for and what it
was told; its successor asks again for what stayed unanswered, as a customer would. After every kill: the database opens
and answers within a second, what was acknowledged is there, every invariant holds. At the end all notices are delivered
and counted: half the injections with the file sender, half with SMTP against a real local server.

`lost`: acknowledged orders, or notices of them, that are not there. `violations`: broken invariants, and processes that
ended by themselves. `duplicates`: orders beyond one per key, files written again, mails repeated more often than
delivering processes were killed or under another Message-ID. Without `--url` on SQLite and PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as mail_policy
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from benchmarks.common import Figure, database_urls, processes, record, whole_run, write_json
from benchmarks.company import CLERK, load_company, seed_company
from orders_core.notifications.delivery import DeliveryPolicy, deliver_due
from orders_core.notifications.senders import FileSender, SmtpSender, SmtpServer
from orders_core.ports import Sender, SystemClock
from orders_core.services.place_order import place_order
from orders_core.store import schema
from orders_core.store.tables import Order, Outbox
from orders_core.store.uow import Store
from orders_core.store.verify import verify

PLACING, DELIVERING = 3, 2
SEED = 2026
FROM = "orders@dinghuo.invalid"
_LEASE = timedelta(seconds=10)
_POLICY = DeliveryPolicy(
    max_attempts=1000, retry_base=timedelta(seconds=1), lease=_LEASE, quiet_from=None, join_window=timedelta(0)
)


@dataclass
class Findings:
    """What kill -9 did to one database; the first four of bench/README.md, then what they rest on."""

    injections: int = 0
    lost: int = 0
    violations: int = 0
    duplicates: int = 0
    max_recovery_seconds: float = 0.0
    killed_placing: int = 0
    killed_delivering: int = 0
    acknowledged: int = 0
    asked_again: int = 0  # unanswered orders that a successor asked for again
    notices: int = 0
    files: int = 0
    mails: int = 0
    mail_repeats: int = 0
    mail_repeats_allowed: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return self.lost == self.violations == self.duplicates == 0 and self.max_recovery_seconds < 1

    def add(self, count: str, what: str, times: int = 1) -> None:
        """Count something bad and keep a few examples in words."""
        setattr(self, count, getattr(self, count) + times)
        if len(self.examples) < 10:
            self.examples.append(f"{count}: {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=100, help="kills on each database (default 100)")
    parser.add_argument("--url", help="an empty SQLite file or PostgreSQL database; default: a temporary one of each")
    parser.add_argument("--data", help="not needed: the company is made up with a fixed seed")
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--record", action="store_true", help="also write them to benchmarks/RESULTS.md")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)
    found: dict[str, Findings] = {}
    with database_urls(asked.url) as urls:
        for url in urls:
            with tempfile.TemporaryDirectory(prefix="dinghuo-faults-") as folder:
                found[url.partition(":")[0].partition("+")[0]] = inject(url, asked.injections, Path(folder))
    for kind, findings in found.items():
        figures = _figures(findings)
        table = Table("what", "measured", "held against", title=f"kill -9 on {kind}")
        for figure in figures:
            table.add_row(figure.name, figure.measured, figure.reference)
        console.print(table)
        if asked.record:
            record(f"faults on {kind}", figures)
    together: dict[str, Any] = {
        key: sum(getattr(findings, key) for findings in found.values())
        for key in ("injections", "lost", "violations", "duplicates")
    }
    together["max_recovery_seconds"] = max(findings.max_recovery_seconds for findings in found.values())
    write_json(asked.out, together | {kind: vars(findings) for kind, findings in found.items()} | whole_run())
    return int(not all(findings.is_right for findings in found.values()))


def inject(url: str, injections: int, folder: Path) -> Findings:
    """Kill `injections` times on the database of `url`; side logs and mail files go into `folder`."""
    schema.upgrade(url)
    with closing(Store.open(url)) as store:
        seed_company(store, sku_count=200, customer_count=50, stock_qty=10_000_000)
    found, rng = Findings(), random.Random(SEED)
    with_files = (injections + 1) // 2
    Phase(url, folder / "file", found, rng, mails=None).run(with_files)
    if injections > with_files:
        with _mail_server() as (port, mails):
            Phase(url, folder / "smtp", found, rng, mails=mails, port=port).run(injections - with_files)
    return found


class Phase:
    """Some injections with one kind of sender, and the count at their end."""

    def __init__(
        self,
        url: str,
        folder: Path,
        found: Findings,
        rng: random.Random,
        *,
        mails: list[bytes] | None,
        port: int | None = None,
    ) -> None:
        self.url, self.folder, self.found, self.rng, self.mails, self.port = url, folder, found, rng, mails, port
        self.folder.mkdir()
        self._context = processes()
        self._running: dict[str, Any] = {}
        self._started: Counter[str] = Counter()
        self._killed_delivering = 0
        self._first_notice = self._last_notice()
        self._files: dict[str, tuple[int, int]] = {}

    def run(self, injections: int) -> None:
        names = [f"place{n}" for n in range(PLACING)] + [f"deliver{n}" for n in range(DELIVERING)]
        try:
            for name in names:
                self._start(name)
            for _ in range(injections):
                self._wait_until_all_work()
                time.sleep(self.rng.uniform(0.05, 1.0))
                self._check_running()
                # Now one, now some, now everybody: a survivor must cope with what the dead left behind.
                victims = self.rng.sample(names, self.rng.choice([1, 1, 2, len(names)]))
                self._kill(victims)
                self.found.injections += 1
                self.check_database(everybody_is_dead=len(victims) == len(names))
                for name in victims:
                    self._start(name)
            self._wait_until_all_work()
            time.sleep(0.5)
            self._check_running()
        finally:
            (self.folder / "stop").touch()
            for process in self._running.values():
                process.join()
        self._deliver_the_rest()
        self.check_database(everybody_is_dead=True)
        self._count_notices()

    def _start(self, name: str) -> None:
        self._started[name] += 1
        generation = self._started[name]
        arguments: tuple[Any, ...]
        if name.startswith("place"):
            target, arguments = _place, (self.url, self.folder, name)
        else:
            target, arguments = _deliver, (self.url, self.folder, f"{name}-{generation}", self.port)
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        self._running[name] = process

    def _kill(self, names: list[str]) -> None:
        for name in names:
            os.kill(self._running[name].pid, signal.SIGKILL)
        for name in names:
            self._running[name].join()
            is_placing = name.startswith("place")
            self.found.killed_placing += is_placing
            self.found.killed_delivering += not is_placing
            self._killed_delivering += not is_placing

    def _wait_until_all_work(self) -> None:
        """On a busy machine starting takes longer than the moment until the next kill, and nothing would be tested."""
        deadline = time.monotonic() + 60
        while not all((self.folder / f"{process.pid}.working").exists() for process in self._running.values()):
            self._check_running()
            if time.monotonic() > deadline:
                raise TimeoutError("the processes to be killed did not start within 60 s")
            time.sleep(0.01)

    def _check_running(self) -> None:
        for name, process in self._running.items():
            if not process.is_alive():
                report = self.folder / f"{process.pid}.error"
                reason = report.read_text(encoding="utf-8") if report.exists() else f"exit code {process.exitcode}"
                self.found.add("violations", f"{name} ended by itself: {reason}")
                self._start(name)

    def check_database(self, *, everybody_is_dead: bool) -> None:
        """Opens and answers within a second, holds what was acknowledged, keeps every invariant."""
        acknowledged = {number for log in self._side_logs() for number in log.acknowledged.values()}
        started = time.monotonic()
        with closing(Store.open(self.url)) as store:
            with store.reading() as conn:
                conn.execute(select(func.count()).select_from(Order)).scalar_one()
            if everybody_is_dead:  # else a write would only measure the queue behind those alive
                with store.unit_of_work() as uow:
                    uow.new_id()
            seconds = time.monotonic() - started
            self.found.max_recovery_seconds = max(self.found.max_recovery_seconds, round(seconds, 3))
            with store.reading() as conn:
                there = set(conn.scalars(select(Order.number)))
                keys = Counter(conn.scalars(select(Order.idem_key)))
            for number in sorted(acknowledged - there):
                self.found.add("lost", f"order {number} was acknowledged and is not there")
            for key, times in keys.items():
                if times > 1:
                    self.found.add("duplicates", f"{times} orders of key {key}", times - 1)
            for violation in verify(store):
                self.found.add("violations", str(violation))
        for file in (self.folder / "mail").glob("*.eml"):
            state = file.stat()
            known = self._files.setdefault(file.name, (state.st_ino, state.st_mtime_ns))
            if known != (state.st_ino, state.st_mtime_ns):
                self._files[file.name] = (state.st_ino, state.st_mtime_ns)
                self.found.add("duplicates", f"file {file.name} was written again")

    def _side_logs(self) -> list[SideLog]:
        return [SideLog(self.folder / f"place{n}.log") for n in range(PLACING)]

    def _deliver_the_rest(self) -> None:
        """Send what is still waiting, and wait out the claims of the dead."""
        with closing(Store.open(self.url)) as store:
            left = select(func.count()).select_from(Outbox).where(Outbox.status.in_(["waiting", "sending"]))
            senders, last_progress = _senders(self.folder, self.port), time.monotonic()
            while time.monotonic() < last_progress + 60:
                if deliver_due(store, senders, limit=500, worker="the rest", policy=_POLICY).sent_count:
                    last_progress = time.monotonic()
                with store.reading() as conn:
                    if conn.execute(left).scalar_one() == 0:
                        return
                time.sleep(0.2)
        self.found.add("lost", "notices are still waiting, and for a minute none was sent")

    def _count_notices(self) -> None:
        logs = self._side_logs()
        numbers = {number for log in logs for number in log.acknowledged.values()}
        if not numbers:
            self.found.add("violations", "not one order was acknowledged: nothing was tested")
        self.found.acknowledged += len(numbers)
        self.found.asked_again += sum(log.asked_again for log in logs)
        with closing(Store.open(self.url)) as store, store.reading() as conn:
            rows = conn.execute(
                select(Outbox.status, Order.number)
                .outerjoin(Order, (Order.id == Outbox.entity_id) & (Outbox.entity == "orders"))
                .where(Outbox.id > self._first_notice)
            ).all()
        self.found.notices += len(rows)
        for row in rows:
            if row.status != "sent":
                self.found.add("lost", f"the notice of {row.number} is {row.status}")
        noticed = {row.number for row in rows}
        for number in sorted(numbers - noticed):
            self.found.add("lost", f"order {number} has no notice")
        letters = self._letters()
        for row in rows:
            ids = letters.get(row.number, Counter())
            if not ids:
                self.found.add("lost", f"no message about {row.number} went out")
            if len(ids) > 1:
                self.found.add("duplicates", f"{row.number} went out under {len(ids)} Message-IDs", len(ids) - 1)
        sent = sum(sum(ids.values()) for ids in letters.values())
        if self.mails is None:
            self.found.files += sent
            return
        repeats = sent - sum(len(ids) for ids in letters.values())
        too_many = repeats - self._killed_delivering
        self.found.mails += sent
        self.found.mail_repeats += repeats
        self.found.mail_repeats_allowed += self._killed_delivering
        if too_many > 0:
            self.found.add("duplicates", f"{repeats} repeats after {self._killed_delivering} kills", too_many)

    def _letters(self) -> dict[str, Counter[str]]:
        """Order number -> Message-ID -> how often it went out."""
        contents = self.mails
        if contents is None:
            contents = [file.read_bytes() for file in (self.folder / "mail").glob("*.eml")]
        letters: dict[str, Counter[str]] = {}
        for content in contents:
            letter = message_from_bytes(content, policy=mail_policy)
            number = re.search(r"SO-\d{8}-\d+", str(letter["Subject"]))
            if number is None:
                self.found.add("violations", f"a mail about no order: {letter['Subject']}")
                continue
            letters.setdefault(number[0], Counter())[str(letter["Message-ID"])] += 1
        return letters

    def _last_notice(self) -> int:
        with closing(Store.open(self.url)) as store, store.reading() as conn:
            return int(conn.execute(select(func.coalesce(func.max(Outbox.id), 0))).scalar_one())


class SideLog:
    """What one placing process asked for and was told, each line on the disk before the next step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked = 0  # orders of this process's stream, unanswered last one included
        self.asked_again = 0
        self.acknowledged: dict[int, str] = {}  # position in the stream -> order number
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                if line.endswith(b"]"):  # else a kill came in the middle of it, and nobody was told
                    position, number = json.loads(line)
                    self.asked_again += number is None and position == self.asked
                    self.asked = max(self.asked, position)
                    if number is not None:
                        self.acknowledged[position] = number

    def note(self, position: int, number: str | None) -> None:
        """`number` is None before asking."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, b"\n" + json.dumps([position, number]).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _place(url: str, folder: Path, name: str) -> None:
    with _reported(folder), closing(Store.open(url)) as store:
        log = SideLog(folder / f"{name}.log")
        stream = load_company(store).orders(name, key=f"{folder.name}-{name}")
        # An unanswered order is asked for again, under its key, as a customer's browser would.
        first = log.asked if log.asked and log.asked not in log.acknowledged else log.asked + 1
        for _ in range(1, first):
            stream.next()
        position = first
        (folder / f"{os.getpid()}.working").touch()
        while not (folder / "stop").exists():
            command = stream.next()
            log.note(position, None)
            log.note(position, store.run(place_order, CLERK, command).number)
            position += 1


def _deliver(url: str, folder: Path, worker: str, port: int | None) -> None:
    with _reported(folder), closing(Store.open(url)) as store:
        senders = _senders(folder, port)
        (folder / f"{os.getpid()}.working").touch()
        while not (folder / "stop").exists():
            if deliver_due(store, senders, limit=20, worker=worker, policy=_POLICY).sent_count == 0:
                time.sleep(0.02)


def _senders(folder: Path, port: int | None) -> dict[str, Sender]:
    if port is None:
        return {"mail": FileSender(folder / "mail", sender=FROM, clock=SystemClock())}
    return {"mail": SmtpSender(SmtpServer("127.0.0.1", port, "none"), sender=FROM, clock=SystemClock())}


@contextmanager
def _reported(folder: Path) -> Iterator[None]:
    """Leave an error where the parent finds it; kill -9 leaves none."""
    try:
        yield
    except BaseException:
        (folder / f"{os.getpid()}.error").write_text(traceback.format_exc(), encoding="utf-8")
        raise


@contextmanager
def _mail_server() -> Iterator[tuple[int, list[bytes]]]:
    """A real SMTP server on this machine: its port, and the mails it has accepted so far."""
    from aiosmtpd.controller import Controller

    mails: list[bytes] = []

    class Keep:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            mails.append(bytes(envelope.content))
            return "250 kept"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, mails
    finally:
        controller.stop()


def _figures(found: Findings) -> list[Figure]:
    kills = f"{found.killed_placing} placing and {found.killed_delivering} delivering processes"
    return [
        Figure("injections", f"{found.injections} ({kills} killed)"),
        Figure("acknowledged orders lost", f"{found.lost} of {found.acknowledged} (and their notices)", "0"),
        Figure("broken invariants", f"{found.violations}", "0"),
        Figure("orders, files or mails too many", f"{found.duplicates}", "0"),
        Figure("orders asked for again after a kill", f"{found.asked_again}", "each answered with one order"),
        Figure("files written", f"{found.files}", "one per notice, never again"),
        Figure(
            "mails repeated, same Message-ID",
            f"{found.mail_repeats} of {found.mails}",
            f"≤ {found.mail_repeats_allowed}",
        ),
        Figure("longest reopening", f"{found.max_recovery_seconds} s", "< 1 s"),
        *(Figure("example", example) for example in found.examples),
    ]


if __name__ == "__main__":
    sys.exit(main())
