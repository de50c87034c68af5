"""Case 38 from an order to a letter: one mail each in the customer's language, whatever dies in between.

What the delivery itself does (retries, dead letters, SMTP) is proved under the same number in tests/notifications.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from sqlalchemy import select

from orders_core.notifications.delivery import DeliveryPolicy, deliver_due
from orders_core.notifications.senders import FileSender
from orders_core.ports import FixedClock
from orders_core.services.place_order import place_order
from orders_core.store import tables
from orders_core.store.uow import Store, UnitOfWork
from tests.support.build import CLERK, company, customer, order_command, rows, stock

BUYERS = {"LIN": "zh", "SMITH": "en"}


def _a_process_of_its_own(target: Callable[..., None], *args: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _place_then_die(url: str, at: datetime) -> None:
    store = Store.open(url, clock=FixedClock(at))
    for buyer in BUYERS:
        store.run(place_order, CLERK, order_command("LAMP 1", customer=buyer))
    os.kill(os.getpid(), signal.SIGKILL)


def _die_before_the_commit(url: str, at: datetime) -> None:
    def place_and_die(uow: UnitOfWork, *command: Any) -> None:
        place_order(uow, *command)
        uow.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    Store.open(url, clock=FixedClock(at)).run(place_and_die, CLERK, order_command("LAMP 1", customer="LIN"))


def _shop(store: Store) -> None:
    company(store)
    stock(store, "LAMP@WH1: 5")
    for code, language in BUYERS.items():
        customer(store, code, email=f"{code.lower()}@example.com", language=language)


def _letters(store: Store, clock: FixedClock, folder: Path) -> dict[str, tuple[str, str]]:
    """Deliver what is due, twice; the letters in the folder: who to → (language, subject)."""
    sender = FileSender(folder, sender="orders@shop.example", clock=clock)
    for _ in range(2):
        awake = DeliveryPolicy(quiet_from=None, quiet_until=None)
        deliver_due(store, {"mail": sender}, limit=100, worker="tester", policy=awake)
    letters = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in folder.glob("*.eml")]
    found = {str(x["To"]): (str(x["Content-Language"]), str(x["Subject"])) for x in letters}
    assert len(found) == len(letters)
    return found


def test_case_38_each_customer_gets_one_mail_in_his_language_though_the_process_died_after_the_commit(
    store: Store, clock: FixedClock, tmp_path: Path
) -> None:
    _shop(store)
    _a_process_of_its_own(_place_then_die, store.url, clock.now())
    assert len(rows(store, select(tables.Order.id))) == len(BUYERS)
    letters = _letters(store, clock, tmp_path / "mail")
    assert {who: language for who, (language, _) in letters.items()} == {
        "lin@example.com": "zh",
        "smith@example.com": "en",
    }
    assert letters["lin@example.com"][1].startswith("已收到您的订单")
    assert letters["smith@example.com"][1].startswith("We have your order")


def test_case_38_nobody_is_told_of_an_order_that_was_not_committed(
    store: Store, clock: FixedClock, tmp_path: Path
) -> None:
    _shop(store)
    _a_process_of_its_own(_die_before_the_commit, store.url, clock.now())
    assert rows(store, select(tables.Order.id)) == []
    assert _letters(store, clock, tmp_path / "mail") == {}
