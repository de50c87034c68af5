"""What is committed is told, once; what was rolled back is not; what can't be told is visible."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import NotFound, PermissionDenied
from orders_core.notifications.delivery import DeliveryPolicy, DeliveryReport, dead_letters, give_up, retry
from orders_core.notifications.senders import FileSender, SmtpSender
from orders_core.ports import FixedClock, Message
from orders_core.store.tables import AuditEntry, Outbox
from orders_core.store.uow import Store, UnitOfWork
from tests.notifications.conftest import Mailbox, StartServer
from tests.notifications.workers import (
    NEVER_QUIET,
    Says,
    commit_then_die,
    deliver,
    deliver_and_log,
    die_before_commit,
    put,
    queue,
    send_then_die,
)


class Postman:
    """Remembers what it was handed; `fails` with that error while it is not None."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.fails: Exception | None = None

    def send(self, message: Message) -> None:
        if self.fails is not None:
            raise self.fails
        self.messages.append(message)

    @property
    def subjects(self) -> list[str]:
        return [message.subject for message in self.messages]


@pytest.fixture
def postman() -> Postman:
    return Postman()


@pytest.fixture
def files(tmp_path: Path, clock: FixedClock) -> FileSender:
    return FileSender(tmp_path / "mail", sender="orders@shop.example", clock=clock)


def _statuses(store: Store) -> list[tuple[str, int]]:
    with store.reading() as conn:
        rows = conn.execute(select(Outbox.status, Outbox.attempts).order_by(Outbox.id))
        return [(row.status, row.attempts) for row in rows]


def _die(target: Callable[..., None], *args: Any) -> None:
    """Run `target` in a process of its own, which kills itself."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


# ------------------------------------------------------------------------------------------------------------ case 38


def test_case_38_killed_between_commit_and_sending_tells_exactly_once(
    store: Store, clock: FixedClock, files: FileSender, tmp_path: Path
) -> None:
    _die(commit_then_die, store.url, clock.now())
    assert deliver(store, files).sent_count == 1
    assert deliver(store, files) == DeliveryReport()
    assert len(list((tmp_path / "mail").iterdir())) == 1


def test_case_38_the_same_notice_queued_again_is_not_told_again(store: Store, postman: Postman) -> None:
    queue(store, "order_confirmation", "order_confirmation:1")
    deliver(store, postman)
    queue(store, "order_confirmation", "order_confirmation:1")
    deliver(store, postman)
    assert len(postman.messages) == 1


def test_case_38_what_was_rolled_back_is_never_told(store: Store, clock: FixedClock, postman: Postman) -> None:
    def refused(uow: UnitOfWork, _actor: Actor) -> None:
        put(uow, "order_confirmation", "order_confirmation:2")
        uow.flush()
        raise NotFound(entity="order", key=2)

    with pytest.raises(NotFound):
        store.run(refused, SYSTEM)
    _die(die_before_commit, store.url, clock.now())
    assert deliver(store, postman) == DeliveryReport()
    assert postman.messages == []


def test_case_38_killed_between_file_and_mark_writes_no_second_file(
    store: Store, clock: FixedClock, files: FileSender, tmp_path: Path
) -> None:
    queue(store, "order_confirmation", "order_confirmation:1")
    _die(send_then_die, store.url, clock.now(), files)
    (file,) = (tmp_path / "mail").glob("*.eml")
    before = file.read_bytes()
    assert deliver(store, files).sent_count == 0, "the dead worker's claim still stands"
    clock.advance(minutes=11)
    assert deliver(store, files).sent_count == 1
    assert [file] == list((tmp_path / "mail").glob("*.eml")) and file.read_bytes() == before
    assert _statuses(store) == [("sent", 2)]


def test_case_38_smtp_repeats_once_per_kill_under_the_same_message_id(
    store: Store, clock: FixedClock, start_server: StartServer, mailbox: Mailbox
) -> None:
    queue(store, "order_confirmation", "order_confirmation:1")
    sender = SmtpSender(start_server(), sender="orders@shop.example", clock=clock)
    _die(send_then_die, store.url, clock.now(), sender)
    clock.advance(minutes=11)
    for _ in range(3):
        deliver(store, sender)
    assert len(mailbox.letters) == 2
    assert len({letter["Message-ID"] for letter in mailbox.letters}) == 1


def test_case_38_a_provider_that_is_down_is_tried_at_doubling_pauses_then_dead_and_visible(
    store: Store, clock: FixedClock, start_server: StartServer, mailbox: Mailbox
) -> None:
    queue(store, "order_confirmation", "order_confirmation:1")
    sender = SmtpSender(start_server(), sender="orders@shop.example", clock=clock)
    mailbox.refuse = "451 down"
    policy = DeliveryPolicy(max_attempts=4, retry_base=timedelta(minutes=1), quiet_from=None)
    for pause_minutes in (1, 2, 4):
        assert deliver(store, sender, policy=policy) == DeliveryReport(retry_count=1)
        clock.advance(minutes=pause_minutes, seconds=-1)
        assert deliver(store, sender, policy=policy) == DeliveryReport()
        clock.advance(seconds=1)
    assert deliver(store, sender, policy=policy) == DeliveryReport(dead_count=1)
    clock.advance(days=1)
    assert deliver(store, sender, policy=policy) == DeliveryReport()
    with store.reading() as conn:
        (letter,) = dead_letters(conn)
    assert (letter.template, letter.recipient, letter.attempts) == ("order_confirmation", "lin@example.com", 4)
    assert letter.last_error is not None and "451" in letter.last_error and "down" in letter.last_error
    mailbox.refuse = None
    store.run(retry, SYSTEM, letter.id)
    assert deliver(store, sender, policy=policy) == DeliveryReport(sent_count=1)
    with store.reading() as conn:
        assert dead_letters(conn) == []
        assert conn.execute(select(AuditEntry.action)).scalars().all() == ["notice.retry"]


def test_case_38_a_chinese_customer_gets_the_chinese_template(store: Store, postman: Postman) -> None:
    queue(store, "order_confirmation", "a", language="zh")
    queue(store, "order_confirmation", "b", language="en")
    deliver(store, postman)
    zh, en = postman.messages
    assert zh.subject == "已收到您的订单 SO-20261122-000317" and "感谢您的订货" in zh.body and zh.language == "zh"
    assert en.subject == "We have your order SO-20261122-000317" and "Thank you" in en.body and en.language == "en"


# ------------------------------------------------------------------------------------------------------------ workers


def test_workers_at_once_hand_each_message_over_once(store: Store, clock: FixedClock, tmp_path: Path) -> None:
    def many(uow: UnitOfWork, _actor: Actor) -> None:
        for number in range(30):
            put(uow, "order_confirmation", f"order_confirmation:{number}")

    store.run(many, SYSTEM)
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=deliver_and_log, args=(store.url, clock.now(), tmp_path, f"worker {number}"))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    handed_over = Counter((tmp_path / "log").read_text().split())
    assert len(handed_over) == 30 and set(handed_over.values()) == {1}
    assert set(_statuses(store)) == {("sent", 1)}


def test_a_worker_that_overran_its_lease_does_not_mark_the_others_claim(
    store: Store, clock: FixedClock, postman: Postman
) -> None:
    queue(store, "order_confirmation", "a")

    def dawdle(_message: Message) -> None:
        clock.advance(minutes=11)
        postman.fails = ConnectionError("down")
        assert deliver(store, postman) == DeliveryReport(retry_count=1)

    assert deliver(store, Says(dawdle)) == DeliveryReport(sent_count=1, overrun_count=1)
    assert _statuses(store) == [("waiting", 2)]


def test_a_message_that_takes_the_process_down_each_time_is_given_up(
    store: Store, clock: FixedClock, postman: Postman
) -> None:
    queue(store, "order_confirmation", "a")
    policy = DeliveryPolicy(max_attempts=2, quiet_from=None)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            deliver(store, Says(_interrupt), policy=policy)
        clock.advance(minutes=11)
    assert deliver(store, postman, policy=policy) == DeliveryReport(dead_count=1)
    assert postman.messages == []
    with store.reading() as conn:
        (letter,) = dead_letters(conn)
    assert letter.last_error == "the process ended, or took too long, while sending it"


def _interrupt(_message: Message) -> None:
    raise KeyboardInterrupt


def test_one_bad_notice_does_not_stop_the_others(store: Store, postman: Postman) -> None:
    queue(store, "order_confirmation", "bad", facts={"lines": [{"name": "no sku"}]})
    queue(store, "order_confirmation", "good")
    assert deliver(store, postman) == DeliveryReport(sent_count=1, retry_count=1)
    assert _statuses(store) == [("waiting", 1), ("sent", 1)]


def test_only_due_rows_of_kinds_that_have_a_sender_are_sent(store: Store, clock: FixedClock, postman: Postman) -> None:
    queue(store, "order_confirmation", "later", not_before=clock.now() + timedelta(hours=1))
    queue(store, "order.placed", "hook", kind="webhook", facts={"number": "SO-1"})
    assert deliver(store, postman) == DeliveryReport()
    clock.advance(hours=1)
    assert deliver(store, postman) == DeliveryReport(sent_count=1)
    assert deliver(store, postman, kind="webhook") == DeliveryReport(sent_count=1)
    hook = postman.messages[1]
    assert hook.subject == "order.placed" and '"facts":{"number":"SO-1"}' in hook.body and hook.message_id in hook.body


def test_a_new_database_never_repeats_an_old_ones_message_ids(
    store: Store, clock: FixedClock, postman: Postman
) -> None:
    queue(store, "order_confirmation", "order_confirmation:1")
    clock.advance(seconds=1)
    queue(store, "order_confirmation", "order_confirmation:2")
    deliver(store, postman)
    first, second = (message.message_id for message in postman.messages)
    assert first != second and first.startswith("<") and first.endswith("@dinghuo.invalid>")


# ----------------------------------------------------------------------------------------------------------- ordering


def _hook(store: Store, key: str, ordering_key: str) -> None:
    queue(store, key, key, kind="webhook", ordering_key=ordering_key)


def test_webhooks_of_one_key_go_in_order_and_wait_for_each_other(
    store: Store, clock: FixedClock, postman: Postman
) -> None:
    _hook(store, "a1", "a")
    _hook(store, "b1", "b")
    _hook(store, "a2", "a")

    def only_b(message: Message) -> None:
        if message.subject == "a1":
            raise ConnectionError("down")
        postman.send(message)

    assert deliver(store, Says(only_b), kind="webhook") == DeliveryReport(sent_count=1, retry_count=1)
    assert postman.subjects == ["b1"]
    clock.advance(minutes=1)
    assert deliver(store, postman, kind="webhook").sent_count == 2
    assert postman.subjects == ["b1", "a1", "a2"]


def test_a_dead_letter_blocks_its_key_until_someone_decides(store: Store, postman: Postman) -> None:
    _hook(store, "a1", "a")
    _hook(store, "a2", "a")
    postman.fails = ConnectionError("down")
    assert deliver(store, postman, kind="webhook", policy=DeliveryPolicy(max_attempts=1)).dead_count == 1
    postman.fails = None
    assert deliver(store, postman, kind="webhook") == DeliveryReport()
    with store.reading() as conn:
        (letter,) = dead_letters(conn)
    assert (letter.template, letter.ordering_key) == ("a1", "a")
    with pytest.raises(PermissionDenied):
        store.run(give_up, Actor("wu", frozenset({"clerk"})), letter.id)
    store.run(give_up, Actor("li", frozenset({"manager"})), letter.id)
    deliver(store, postman, kind="webhook")
    assert postman.subjects == ["a2"]
    with pytest.raises(NotFound, match="no dead letter"):
        store.run(retry, SYSTEM, letter.id)


# --------------------------------------------------------------------------------------------------------- I3: quiet


@pytest.mark.parametrize(
    ("local", "is_quiet"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("07:59", True), ("08:00", False)],
)
def test_the_night_is_from_ten_to_eight_in_local_time(local: str, is_quiet: bool) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    at = datetime.combine(datetime(2026, 3, 2).date(), time.fromisoformat(local), zone)  # noqa: DTZ001
    assert DeliveryPolicy().is_quiet(at, zone) is is_quiet
    assert not DeliveryPolicy(quiet_from=None).is_quiet(at, zone)
    assert DeliveryPolicy(quiet_from=time(1), quiet_until=time(5)).is_quiet(at.replace(hour=3), zone)


def test_at_night_customers_get_only_answers_and_colleagues_get_all(
    store: Store, clock: FixedClock, postman: Postman
) -> None:
    clock.advance(hours=14)  # 23:00 in Shanghai
    queue(store, "shipped", "shipped:1")
    queue(store, "order_confirmation", "order_confirmation:2")
    queue(store, "clerk_new_order", "clerk_new_order:2")
    clock.advance(hours=1)
    assert deliver(store, postman, policy=DeliveryPolicy()).sent_count == 2
    assert not any("已发货" in subject for subject in postman.subjects)
    clock.advance(hours=8)
    assert deliver(store, postman, policy=DeliveryPolicy()).sent_count == 1
    assert postman.subjects[-1].endswith("已发货")


# -------------------------------------------------------------------------------------------------------- I3: joined


def _news(store: Store, template: str, key: str, order_id: int = 7, **notice: Any) -> None:
    queue(store, template, key, entity="orders", entity_id=order_id, **notice)


def test_news_of_one_order_is_joined_in_one_mail(store: Store, clock: FixedClock, postman: Postman) -> None:
    _news(store, "shipped", "shipped:1", facts={"tracking_numbers": ["SF1"]})
    clock.advance(minutes=4)
    assert deliver(store, postman) == DeliveryReport(), "there may be more in a minute"
    _news(store, "shipped", "shipped:2", facts={"tracking_numbers": ["SF2"]})
    _news(store, "shipped", "other order", order_id=8)
    _news(store, "shipped", "other reader", recipient="wang@example.com")
    clock.advance(minutes=1)
    assert deliver(store, postman) == DeliveryReport(sent_count=1, joined_count=1)
    (message,) = postman.messages
    assert message.body.index("SF1") < message.body.index("SF2")
    assert message.body.count("您好") == 1
    clock.advance(minutes=5)
    assert deliver(store, postman) == DeliveryReport(sent_count=2)
    assert {status for status, _ in _statuses(store)} == {"sent"}


def test_confirmations_and_surveys_are_never_joined(store: Store, clock: FixedClock, postman: Postman) -> None:
    _news(store, "order_confirmation", "a")
    _news(store, "satisfaction_request", "b")
    _news(store, "shipped", "c")
    clock.advance(minutes=5)
    assert deliver(store, postman) == DeliveryReport(sent_count=3)


def test_a_joined_mail_that_failed_stays_the_mail_it_was(store: Store, clock: FixedClock, postman: Postman) -> None:
    _news(store, "shipped", "shipped:1")
    _news(store, "arriving", "arriving:1")
    clock.advance(minutes=5)
    handed_over: list[Message] = []

    def accept_and_fail(message: Message) -> None:
        handed_over.append(message)
        raise ConnectionError("broke off")

    assert deliver(store, Says(accept_and_fail)) == DeliveryReport(retry_count=1)
    _news(store, "delivered", "delivered:7")
    clock.advance(minutes=5)
    assert deliver(store, postman) == DeliveryReport(sent_count=2, joined_count=1)
    assert postman.messages[1] == handed_over[0]
    assert postman.messages[0].subject.endswith("已送达")


def test_a_worker_killed_over_a_joined_mail_loses_none_of_it(
    store: Store, clock: FixedClock, files: FileSender, tmp_path: Path, postman: Postman
) -> None:
    _news(store, "shipped", "shipped:1")
    _news(store, "arriving", "arriving:1")
    clock.advance(minutes=5)
    _die(send_then_die, store.url, clock.now(), files)
    _news(store, "delivered", "delivered:7")
    clock.advance(minutes=11)
    assert deliver(store, files) == DeliveryReport(sent_count=2, joined_count=1)
    assert len(list((tmp_path / "mail").iterdir())) == 2
    assert {status for status, _ in _statuses(store)} == {"sent"}


def test_a_dead_joined_mail_is_decided_as_one(store: Store, clock: FixedClock, postman: Postman) -> None:
    _news(store, "shipped", "shipped:1")
    _news(store, "arriving", "arriving:1")
    clock.advance(minutes=5)
    postman.fails = ConnectionError("down")
    policy = DeliveryPolicy(max_attempts=1, quiet_from=None)
    assert deliver(store, postman, policy=policy) == DeliveryReport(dead_count=1)
    with store.reading() as conn:
        lead, follower = dead_letters(conn)
    postman.fails = None
    store.run(retry, SYSTEM, follower.id)
    assert deliver(store, postman, policy=policy) == DeliveryReport(sent_count=1, joined_count=1)
    assert "派送" in postman.messages[0].body and "已发出" in postman.messages[0].body
    assert _statuses(store) == [("sent", 1), ("sent", 0)]
    with pytest.raises(NotFound):
        store.run(retry, SYSTEM, lead.id)


def test_pauses_double_and_stop_at_the_cap() -> None:
    policy = NEVER_QUIET
    assert [policy.pause(n) // timedelta(minutes=1) for n in (1, 2, 3, 8, 9, 10_000)] == [1, 2, 4, 128, 240, 240]
