"""Asking customers how it was: at most once in 30 days, answered by a secret link, a low score opens a ticket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import insert, select, update

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import InvalidCommand, NotFound
from orders_core.notifications.tell import tell_customer
from orders_core.services.review import rules_of
from orders_core.services.tickets import OpenTicket, open_ticket
from orders_core.store.tables import FollowUp, Order
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class AskCustomers:
    """Ask about up to `limit` orders delivered and not asked about; `link` holds {token}; `new_token` makes secrets."""

    link: str
    new_token: Callable[[], str]
    limit: int = 500


@dataclass(frozen=True)
class AnswerFollowUp:
    """A customer's answer by link: score 1 (bad) to 5 (good)."""

    token: str
    score: int
    comment: str | None = None


def ask_customers(uow: UnitOfWork, actor: Actor, command: AskCustomers) -> int:
    """Queue the question for customers not asked within the rules' days; returns how many. Run by the daily job."""
    asked = 0
    since: dict[int, object] = {}
    orders = uow.rows(
        select(Order.id, Order.customer_id, Order.channel_id)
        .outerjoin(FollowUp, FollowUp.order_id == Order.id)
        .where(Order.status == "delivered", Order.origin == "live", FollowUp.id.is_(None))
        .where(Order.placed_at >= uow.now - timedelta(days=90))
        .order_by(Order.id)
        .limit(command.limit)
    )
    for order in orders:
        if order.customer_id in since:
            continue
        since[order.customer_id] = order.id
        rules, _ = rules_of(uow, order.channel_id)
        recent = uow.conn.execute(
            select(FollowUp.id)
            .where(
                FollowUp.customer_id == order.customer_id,
                FollowUp.asked_at > uow.now - timedelta(days=rules.after_sales.ask_every_days),
            )
            .limit(1)
        ).first()
        if recent is not None:
            continue
        token, follow_up_id = command.new_token(), uow.new_id()
        uow.conn.execute(
            insert(FollowUp),
            {
                "id": follow_up_id,
                "order_id": order.id,
                "customer_id": order.customer_id,
                "token_hash": token_hash(token),
                "asked_at": uow.now,
            },
        )
        link = command.link.format(token=token)
        tell_customer(uow, "satisfaction_request", order.id, dedupe_key=f"satisfaction:{order.id}", link=link)
        uow.changed("follow_up", follow_up_id, 1, "insert")
        uow.audit(actor, "follow_up.ask", "orders", order.id)
        asked += 1
    return asked


def token_hash(token: str) -> str:
    """What is stored of a secret link's token."""
    return hashlib.sha256(token.encode()).hexdigest()


def answer_follow_up(uow: UnitOfWork, actor: Actor, command: AnswerFollowUp) -> int | None:
    """Store an answer; returns the ticket's id when the score is low enough to open one. The link is the permission.

    Raises NotFound for an unknown link; a second answer replaces nothing and returns the first one's ticket.
    """
    if type(command.score) is not int or not 1 <= command.score <= 5:
        raise InvalidCommand(field="score", problem="not_a_score", score=command.score)
    asked = uow.row(
        select(FollowUp.id, FollowUp.order_id, FollowUp.score, FollowUp.ticket_id, Order.number, Order.channel_id)
        .join(Order, Order.id == FollowUp.order_id)
        .where(FollowUp.token_hash == token_hash(command.token))
    )
    if asked is None:
        raise NotFound(entity="question", key="(link)")
    if asked.score is not None:
        ticket_id: int | None = asked.ticket_id
        return ticket_id
    rules, _ = rules_of(uow, asked.channel_id)
    ticket = None
    if command.score <= rules.after_sales.low_score:
        words = command.comment or f"score {command.score}"
        opened = open_ticket(
            uow,
            SYSTEM,
            OpenTicket(asked.number, "low_score", f"{command.score}/5", words, idem_key=f"follow_up:{asked.id}"),
        )
        ticket = opened.ticket_id
    uow.conn.execute(
        update(FollowUp)
        .where(FollowUp.id == asked.id)
        .values(score=command.score, comment=command.comment, answered_at=uow.now, ticket_id=ticket)
    )
    uow.changed("follow_up", asked.id, 2)
    uow.audit(actor, "follow_up.answer", "orders", asked.order_id, facts={"score": command.score})
    return ticket
