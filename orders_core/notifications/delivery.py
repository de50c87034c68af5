"""The delivery loop: takes due rows of the outbox, hands them to a sender, notes what became of them.

A row is claimed in one short transaction, sent outside any, and marked in another. Dying anywhere in between loses
nothing: the claim runs out and the row is handed over again under the same Message-ID.

News of one order for one reader that is due together becomes one mail: one row leads and stands for the mail, the
others follow it (`claimed_by = joined:LEADER`) for good, so that a retry says the same under the same Message-ID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Row, bindparam, exists, or_, select, update
from sqlalchemy.orm import aliased

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import NotFound
from orders_core.notifications.render import Notice, Text, render_joined
from orders_core.notifications.templates import ANSWERS, JOINED
from orders_core.ports import Message, Sender
from orders_core.store.base import dump_json, to_micros
from orders_core.store.prepared import Prepared
from orders_core.store.tables import Outbox
from orders_core.store.uow import Store, UnitOfWork

_ERROR_LENGTH = 500
_JOINED = "joined:"
_IS_DEAD = Outbox.status == "dead"
_ROW = select(
    Outbox.id,
    Outbox.kind,
    Outbox.template,
    Outbox.language,
    Outbox.recipient,
    Outbox.facts,
    Outbox.dedupe_key,
    Outbox.entity,
    Outbox.entity_id,
    Outbox.attempts,
    Outbox.last_error,
    Outbox.created_at,
)


@dataclass(frozen=True)
class DeliveryPolicy:
    """How patient the loop is, and when it keeps quiet.

    The nth failure waits `retry_base × 2^(n-1)`, at most `retry_cap`; the `max_attempts`th kills the row. From
    `quiet_from` to `quiet_until` (local time; None = never quiet) customers get only answers to what they just did.
    News of an order waits `join_window` for more of it. `lease` must be longer than a sender can take.
    """

    max_attempts: int = 8
    retry_base: timedelta = timedelta(minutes=1)
    retry_cap: timedelta = timedelta(hours=4)
    lease: timedelta = timedelta(minutes=10)
    quiet_from: time | None = time(22)
    quiet_until: time | None = time(8)
    join_window: timedelta = timedelta(minutes=5)

    def pause(self, attempts: int) -> timedelta:
        """How long to wait after the `attempts`th failure.

        >>> [DeliveryPolicy().pause(n) // timedelta(minutes=1) for n in (1, 2, 3, 9, 99)]
        [1, 2, 4, 240, 240]
        """
        return min(self.retry_cap, self.retry_base * (1 << min(attempts - 1, 30)))

    def is_quiet(self, at: datetime, zone: ZoneInfo) -> bool:
        """Whether customers are left alone at that moment."""
        if self.quiet_from is None or self.quiet_until is None:
            return False
        local = at.astimezone(zone).time()
        if self.quiet_from <= self.quiet_until:
            return self.quiet_from <= local < self.quiet_until
        return local >= self.quiet_from or local < self.quiet_until


@dataclass
class DeliveryReport:
    """What one round did. A mail that joins three notices is one message."""

    sent_count: int = 0  # messages a sender accepted
    joined_count: int = 0  # notices that went out inside another's message
    retry_count: int = 0  # messages that will be tried again
    dead_count: int = 0  # messages given up
    overrun_count: int = 0  # of those sent: the lease had run out meanwhile, another worker may have sent it too


@dataclass(frozen=True)
class DeadLetter:
    """A notice that was given up, and why."""

    id: int
    kind: str
    template: str
    recipient: str
    entity: str | None
    entity_id: int | None
    ordering_key: str | None
    attempts: int
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True)
class _Claim:
    """One message to send: the leading row and, with it, the rows that go out in the same message, oldest first."""

    lead: Row[Any]
    rows: Sequence[Row[Any]]
    attempts: int

    @property
    def ids(self) -> list[int]:
        return [row.id for row in self.rows]


def deliver_due(
    store: Store,
    senders: Mapping[str, Sender],
    *,
    limit: int,
    worker: str,
    policy: DeliveryPolicy | None = None,
    mail_domain: str = "dinghuo.invalid",
) -> DeliveryReport:
    """Send what is due, at most `limit` messages, and say what became of it.

    Any number of workers may run at once; a row is claimed by one of them.

    Args:
        store: The database; its clock says what is due, its zone when it is night.
        senders: Kind (`mail`, `sms`, `webhook`) -> sender. Rows of other kinds are left alone.
        limit: Messages at most in this round.
        worker: Who this is; a name no other process uses.
        policy: Patience and quiet hours; the defaults of DeliveryPolicy when None.
        mail_domain: Right part of the Message-IDs; has to stay the same while a message is being retried.
    """
    policy = policy or DeliveryPolicy()
    report = DeliveryReport(dead_count=store.run(_release_expired, SYSTEM, policy))
    for _ in range(limit):
        claim = store.run(_claim_next, SYSTEM, tuple(senders), worker, policy)
        if claim is None:
            break
        try:
            senders[claim.lead.kind].send(_message(claim, mail_domain))
        except Exception as error:  # noqa: BLE001 - whatever a sender raises is noted in the row, and the loop goes on
            if store.run(_note_failure, SYSTEM, claim, worker, policy, f"{type(error).__name__}: {error}"):
                report.dead_count += 1
            else:
                report.retry_count += 1
        else:
            if not store.run(_note_sent, SYSTEM, claim, worker):
                report.overrun_count += 1
            report.sent_count += 1
            report.joined_count += len(claim.rows) - 1
    return report


def dead_letters(conn: Connection) -> list[DeadLetter]:
    """What was given up and waits for a person, oldest first."""
    columns = [getattr(Outbox, name) for name in DeadLetter.__dataclass_fields__]
    return [DeadLetter(**row._mapping) for row in conn.execute(select(*columns).where(_IS_DEAD).order_by(Outbox.id))]


def retry(uow: UnitOfWork, actor: Actor, outbox_id: int) -> None:
    """Try a dead letter again, at once and from the first attempt; what it was joined with goes along.

    Raises:
        NotFound: It is not a dead letter.
        PermissionDenied: The actor may not (`notice.decide`).
    """
    lead, followers = _decided(uow, actor, outbox_id, "notice.retry")
    # last_error stays: it tells that this message was tried before and must not be joined with other news now.
    again = update(Outbox).values(status="waiting", attempts=0, next_try_at=uow.now, claimed_by=None)
    uow.conn.execute(again.where(Outbox.id == lead))
    uow.conn.execute(update(Outbox).where(Outbox.id.in_(followers)).values(status="sending"))


def give_up(uow: UnitOfWork, actor: Actor, outbox_id: int) -> None:
    """Never send a dead letter, nor what it was joined with; later rows of its ordering key may go.

    Raises:
        NotFound: It is not a dead letter.
        PermissionDenied: The actor may not (`notice.decide`).
    """
    lead, followers = _decided(uow, actor, outbox_id, "notice.give_up")
    uow.conn.execute(update(Outbox).where(Outbox.id.in_([lead, *followers])).values(status="cancelled"))


def _decided(uow: UnitOfWork, actor: Actor, outbox_id: int, action: str) -> tuple[int, list[int]]:
    """The dead letter's leading row and its followers, locked and the decision on them audited."""
    actor.must("notice.decide")
    letter = uow.row(select(Outbox.claimed_by).where(Outbox.id == outbox_id, _IS_DEAD))
    if letter is None:
        raise NotFound(entity="dead letter", key=outbox_id)
    is_follower = (letter.claimed_by or "").startswith(_JOINED)
    lead_id = int(letter.claimed_by.removeprefix(_JOINED)) if is_follower else outbox_id
    lead = uow.row(_ROW.where(Outbox.id == lead_id, _IS_DEAD).with_for_update())
    if lead is None:
        raise NotFound(entity="dead letter", key=outbox_id)
    facts = {"template": lead.template, "recipient": lead.recipient, "last_error": lead.last_error}
    uow.audit(actor, action, "outbox", lead_id, facts=facts)
    return lead_id, [row.id for row in _followers(uow, lead)]


def _release_expired(uow: UnitOfWork, _actor: Actor, policy: DeliveryPolicy) -> int:
    """Rows whose worker died wait again; those that outlived too many workers are dead. How many died."""
    ended = "the process ended, or took too long, while sending it"
    expired = uow.rows(
        _ROW.where(Outbox.status == "sending", Outbox.claimed_until < uow.now).with_for_update(skip_locked=True)
    )
    dead_count = 0
    for row in expired:
        is_dead = row.attempts >= policy.max_attempts
        dead_count += is_dead
        _set_aside(uow, [row.id, *(follower.id for follower in _followers(uow, row))], row.id, is_dead, uow.now, ended)
    return dead_count


def _claim_next(
    uow: UnitOfWork, _actor: Actor, kinds: Sequence[str], worker: str, policy: DeliveryPolicy
) -> _Claim | None:
    due = _DUE_AT_NIGHT if policy.is_quiet(uow.now, uow.zone) else _DUE
    lead = uow.row(due, {"now": uow.now, "kinds": list(kinds), "joined_before": uow.now - policy.join_window})
    if lead is None:
        return None
    # What was tried before stays the message it was.
    followers = _join(uow, lead) if lead.last_error is None else _followers(uow, lead)
    claim = {"outbox_id": lead.id, "attempt": lead.attempts + 1, "worker": worker, "until": uow.now + policy.lease}
    uow.write(_CLAIM_LEAD, [claim])
    return _Claim(lead, sorted([lead, *followers], key=lambda row: row.id), lead.attempts + 1)


def _due(*which: ColumnElement[bool]) -> Prepared:
    """The row to send next. Of one ordering key only the oldest that was not sent, and none while a dead one leads."""
    earlier = aliased(Outbox)
    is_blocked = exists(
        select(earlier.id).where(
            earlier.ordering_key == Outbox.ordering_key,
            earlier.id < Outbox.id,
            earlier.status.in_(["waiting", "sending", "dead"]),
        )
    )
    due = _ROW.where(
        Outbox.status == "waiting",
        Outbox.next_try_at <= bindparam("now"),
        Outbox.kind.in_(bindparam("kinds", expanding=True)),
        or_(Outbox.ordering_key.is_(None), ~is_blocked),
        or_(Outbox.template.not_in(JOINED), Outbox.created_at <= bindparam("joined_before")),
        *which,
    )
    return Prepared(due.order_by(Outbox.next_try_at, Outbox.id).limit(1).with_for_update(skip_locked=True, of=Outbox))


_DUE = _due()
_DUE_AT_NIGHT = _due(or_(Outbox.template.in_(ANSWERS), Outbox.kind == "webhook"))
_CLAIM_LEAD = Prepared(
    update(Outbox)
    .where(Outbox.id == bindparam("outbox_id"))
    .values(
        status="sending",
        attempts=bindparam("attempt"),
        claimed_by=bindparam("worker"),
        claimed_until=bindparam("until"),
    )
)
_JOINABLE = Prepared(
    _ROW.where(
        Outbox.entity == bindparam("of_entity"),
        Outbox.entity_id == bindparam("of_entity_id"),
        Outbox.kind == bindparam("of_kind"),
        Outbox.recipient == bindparam("to"),
        Outbox.language == bindparam("in_language"),
        Outbox.template.in_(JOINED),
        Outbox.status == "waiting",
        Outbox.next_try_at <= bindparam("now"),
        Outbox.last_error.is_(None),
        Outbox.ordering_key.is_(None),
        Outbox.id != bindparam("lead_id"),
    ).with_for_update(skip_locked=True)
)
# Without an end to the claim: they are sent, or die, with their leader.
_FOLLOW = Prepared(
    update(Outbox)
    .where(Outbox.id == bindparam("outbox_id"))
    .values(status="sending", claimed_by=bindparam("leader"), claimed_until=None)
)
_FOLLOWERS = Prepared(
    _ROW.where(
        Outbox.entity == bindparam("of_entity"),
        Outbox.entity_id == bindparam("of_entity_id"),
        Outbox.claimed_by == bindparam("leader"),
    )
)
_LEAD_SENT = Prepared(
    update(Outbox)
    .where(
        Outbox.id == bindparam("outbox_id"),
        Outbox.status == "sending",
        Outbox.claimed_by == bindparam("worker"),
        Outbox.attempts == bindparam("attempt"),
    )
    .values(status="sent", sent_at=bindparam("at"), claimed_until=None)
    .returning(Outbox.id)
)
_FOLLOWER_SENT = Prepared(
    update(Outbox).where(Outbox.id == bindparam("outbox_id")).values(status="sent", sent_at=bindparam("at"))
)


def _join(uow: UnitOfWork, lead: Row[Any]) -> Sequence[Row[Any]]:
    """Other news of the same order for the same reader that waits and was never tried; it follows `lead` from now on."""
    if lead.template not in JOINED or lead.entity_id is None:
        return []
    rows = uow.rows(
        _JOINABLE,
        {
            "of_entity": lead.entity,
            "of_entity_id": lead.entity_id,
            "of_kind": lead.kind,
            "to": lead.recipient,
            "in_language": lead.language,
            "now": uow.now,
            "lead_id": lead.id,
        },
    )
    if rows:
        uow.write(_FOLLOW, [{"outbox_id": row.id, "leader": f"{_JOINED}{lead.id}"} for row in rows])
    return rows


def _followers(uow: UnitOfWork, lead: Row[Any]) -> Sequence[Row[Any]]:
    if lead.template not in JOINED or lead.entity_id is None:
        return []
    where = {"of_entity": lead.entity, "of_entity_id": lead.entity_id, "leader": f"{_JOINED}{lead.id}"}
    return uow.rows(_FOLLOWERS, where)


def _note_sent(uow: UnitOfWork, _actor: Actor, claim: _Claim, worker: str) -> bool:
    """Mark the message sent; false, and nothing marked, when the claim is another worker's by now."""
    lead = {"outbox_id": claim.lead.id, "worker": worker, "attempt": claim.attempts, "at": uow.now}
    if not uow.rows(_LEAD_SENT, lead):
        return False
    followers = [{"outbox_id": row.id, "at": uow.now} for row in claim.rows if row.id != claim.lead.id]
    if followers:
        uow.write(_FOLLOWER_SENT, followers)
    return True


def _note_failure(
    uow: UnitOfWork, _actor: Actor, claim: _Claim, worker: str, policy: DeliveryPolicy, error: str
) -> bool:
    """Try again later, or give up after the last attempt; true when given up."""
    if not _is_still_ours(uow, claim, worker):
        return False
    is_dead = claim.attempts >= policy.max_attempts
    _set_aside(uow, claim.ids, claim.lead.id, is_dead, uow.now + policy.pause(claim.attempts), error)
    return is_dead


def _set_aside(
    uow: UnitOfWork, ids: Sequence[int], lead_id: int, is_dead: bool, next_try_at: datetime, error: str
) -> None:
    error = error[:_ERROR_LENGTH]
    uow.conn.execute(
        update(Outbox)
        .where(Outbox.id == lead_id)
        .values(status="waiting", next_try_at=next_try_at, claimed_until=None, last_error=error)
    )
    if is_dead:
        uow.conn.execute(update(Outbox).where(Outbox.id.in_(ids)).values(status="dead", last_error=error))


def _is_still_ours(uow: UnitOfWork, claim: _Claim, worker: str) -> bool:
    ours = select(Outbox.id).where(
        Outbox.id == claim.lead.id,
        Outbox.status == "sending",
        Outbox.claimed_by == worker,
        Outbox.attempts == claim.attempts,
    )
    return uow.row(ours.with_for_update()) is not None


def _message(claim: _Claim, mail_domain: str) -> Message:
    lead = claim.lead
    # Not the row's number: a new database starts again at 1, and a file of an old message must not stop a new one.
    key = f"{lead.dedupe_key}\n{lead.recipient}\n{to_micros(lead.created_at)}"
    message_id = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{mail_domain}>"
    if lead.kind == "webhook":
        text = Text(lead.template, dump_json({"id": message_id, "type": lead.template, "facts": lead.facts}))
    else:
        text = render_joined(lead.language, [Notice(row.template, row.facts) for row in claim.rows])
    return Message(message_id, lead.recipient, text.subject, text.body, lead.language, lead.kind)
