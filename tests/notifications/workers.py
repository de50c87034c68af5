"""What the delivery tests run in processes of their own. Top-level functions, so that spawn can find them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.notifications.delivery import DeliveryPolicy, DeliveryReport, deliver_due
from orders_core.notifications.senders import FileSender
from orders_core.ports import FixedClock, Message, Sender
from orders_core.store.uow import Store, UnitOfWork
from tests.notifications.facts import example_facts

NEVER_QUIET = DeliveryPolicy(quiet_from=None, quiet_until=None)


def queue(store: Store, template: str, key: str, **notice: Any) -> None:
    """Commit one notice; `facts` are changes to the examples, everything else goes to `uow.notify`."""

    def run(uow: UnitOfWork, _actor: Actor) -> None:
        put(uow, template, key, **notice)

    store.run(run, SYSTEM)


def put(
    uow: UnitOfWork,
    template: str,
    key: str,
    *,
    facts: Mapping[str, Any] | None = None,
    language: str = "zh",
    **notice: Any,
) -> None:
    uow.notify(
        template,
        dedupe_key=key,
        recipient=notice.pop("recipient", "lin@example.com"),
        language=language,
        facts=example_facts(template, **(facts or {})) if notice.get("kind") != "webhook" else dict(facts or {}),
        **notice,
    )


def deliver(
    store: Store, sender: Sender, *, kind: str = "mail", policy: DeliveryPolicy = NEVER_QUIET
) -> DeliveryReport:
    return deliver_due(store, {kind: sender}, limit=100, worker="tester", policy=policy)


class Says:
    """A sender made of a function."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.send = send


def commit_then_die(url: str, at: datetime) -> None:
    """Commit a notice, then die before anything could send it."""
    queue(Store.open(url, clock=FixedClock(at)), "order_confirmation", "order_confirmation:1")
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_commit(url: str, at: datetime) -> None:
    def run(uow: UnitOfWork, _actor: Actor) -> None:
        put(uow, "order_confirmation", "order_confirmation:1")
        uow.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    Store.open(url, clock=FixedClock(at)).run(run, SYSTEM)


def send_then_die(url: str, at: datetime, sender: Sender) -> None:
    """Hand the message to the real sender, then die before the row is marked."""

    def send(message: Message) -> None:
        sender.send(message)
        os.kill(os.getpid(), signal.SIGKILL)

    deliver(Store.open(url, clock=FixedClock(at)), Says(send))


def deliver_and_log(url: str, at: datetime, folder: Path, worker: str) -> None:
    """Deliver all that is due; every single handing over is one line in `folder`/log."""
    clock = FixedClock(at)
    files = FileSender(folder / "mail", sender="orders@shop.example", clock=clock)
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def send(message: Message) -> None:
        os.write(log, f"{message.message_id}\n".encode())
        files.send(message)

    deliver_due(Store.open(url, clock=clock), {"mail": Says(send)}, limit=1000, worker=worker, policy=NEVER_QUIET)
