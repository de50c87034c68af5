"""Problems of customers: reported, assigned, answered in time, solved with a stated solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotFound
from orders_core.notifications.tell import tell_customer
from orders_core.services.idempotency import keyed
from orders_core.services.review import rules_of
from orders_core.store.tables import Order, Ticket, TicketMessage
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class OpenTicket:
    """A problem with an order. kind: damaged, missing, wrong_item, late, quality, low_score, invoice, other."""

    order_number: str
    kind: str
    subject: str
    text: str
    idem_key: str | None = None
    priority: int = 0


@dataclass(frozen=True)
class AssignTicket:
    number: str
    assigned_to: str


@dataclass(frozen=True)
class AnswerTicket:
    """A message on a ticket, ours or the customer's (what a customer sends always is). Our first stops the clock."""

    number: str
    text: str
    is_from_customer: bool = False


@dataclass(frozen=True)
class SolveTicket:
    number: str
    solution: str


@dataclass(frozen=True)
class TicketState:
    ticket_id: int
    number: str
    status: str
    due_at: datetime
    is_repeat: bool = False


def open_ticket(uow: UnitOfWork, actor: Actor, command: OpenTicket) -> TicketState:
    """Open a ticket with the answer time the rules give its kind; the customer is told the number and the time."""
    actor.must("ticket.open")
    order = uow.row(select(Order.__table__).where(Order.number == command.order_number))
    if order is None:
        raise NotFound(entity="order", key=command.order_number)
    actor.must_own(order.customer_id, entity="order", key=command.order_number)
    key = keyed(uow, Ticket, command)
    if key.row is not None:
        return TicketState(key.row.id, key.row.number, key.row.status, key.row.due_at, is_repeat=True)
    rules, _ = rules_of(uow, order.channel_id)
    hours = rules.after_sales.answer_hours
    due_at = uow.now + timedelta(hours=hours.get(command.kind, hours["other"]))
    ticket_id, number = uow.new_id(), uow.new_number("TK")
    uow.conn.execute(
        insert(Ticket),
        {
            "id": ticket_id,
            "number": number,
            "customer_id": order.customer_id,
            "order_id": order.id,
            "kind": command.kind,
            "subject": command.subject,
            "priority": command.priority,
            "status": "open",
            "due_at": due_at,
            "opened_at": uow.now,
            **key.columns,
        },
    )
    _say(uow, ticket_id, actor, command.text, is_from_customer=actor.is_customer)
    uow.changed("ticket", ticket_id, 1, "insert")
    uow.audit(actor, "ticket.open", "orders", order.id, facts={"ticket": number, "kind": command.kind})
    tell_customer(
        uow,
        "ticket_opened",
        order.id,
        dedupe_key=f"ticket_opened:{ticket_id}",
        ticket_number=number,
        subject=command.subject,
        due_date=due_at.astimezone(uow.zone).date().isoformat(),
    )
    return TicketState(ticket_id, number, "open", due_at)


def assign_ticket(uow: UnitOfWork, actor: Actor, command: AssignTicket) -> TicketState:
    """Give a ticket its owner."""
    actor.must("ticket.work")
    ticket = _open_one(uow, actor, command.number)
    return _set(uow, actor, ticket, "ticket.assign", status="assigned", assigned_to=command.assigned_to)


def answer_ticket(uow: UnitOfWork, actor: Actor, command: AnswerTicket) -> TicketState:
    """Add a message; our first answer stops the clock. Another customer's ticket is not there."""
    is_from_customer = command.is_from_customer or actor.is_customer
    actor.must("ticket.open" if is_from_customer else "ticket.work")
    ticket = _open_one(uow, actor, command.number)
    _say(uow, ticket.id, actor, command.text, is_from_customer=is_from_customer)
    if is_from_customer:
        return _set(uow, actor, ticket, "ticket.customer", status="assigned" if ticket.assigned_to else "open")
    first = ticket.first_answer_at or uow.now
    return _set(uow, actor, ticket, "ticket.answer", status="waiting_customer", first_answer_at=first)


def solve_ticket(uow: UnitOfWork, actor: Actor, command: SolveTicket) -> TicketState:
    """Close a ticket with what was done; the customer is told. Raises InvalidCommand without a stated solution."""
    actor.must("ticket.work")
    if not command.solution.strip():
        raise InvalidCommand(field="solution", problem="solution_missing")
    ticket = _open_one(uow, actor, command.number)
    first = ticket.first_answer_at or uow.now
    state = _set(
        uow,
        actor,
        ticket,
        "ticket.solve",
        status="solved",
        solution=command.solution,
        solved_at=uow.now,
        first_answer_at=first,
    )
    if ticket.order_id is not None:
        tell_customer(
            uow,
            "ticket_solved",
            ticket.order_id,
            dedupe_key=f"ticket_solved:{ticket.id}:{ticket.version}",
            ticket_number=ticket.number,
            subject=ticket.subject,
            solution=command.solution,
        )
    return state


def overdue_tickets(conn: Connection, now: datetime) -> Sequence[Any]:
    """Open tickets not answered by their time: number, subject, kind, assigned_to, due_at; longest overdue first."""
    return conn.execute(
        select(Ticket.number, Ticket.subject, Ticket.kind, Ticket.assigned_to, Ticket.due_at)
        .where(Ticket.status.in_(["open", "assigned"]), Ticket.first_answer_at.is_(None), Ticket.due_at < now)
        .order_by(Ticket.due_at)
    ).all()


def _open_one(uow: UnitOfWork, actor: Actor, number: str) -> Any:
    ticket = uow.row(select(Ticket.__table__).where(Ticket.number == number))
    if ticket is None:
        raise NotFound(entity="ticket", key=number)
    actor.must_own(ticket.customer_id, entity="ticket", key=number)
    if ticket.status in ("solved", "closed"):
        raise InvalidCommand(field="ticket", problem="ticket_is_closed", number=number, status=ticket.status)
    return ticket


def _say(uow: UnitOfWork, ticket_id: int, actor: Actor, words: str, *, is_from_customer: bool) -> None:
    uow.conn.execute(
        insert(TicketMessage),
        {
            "id": uow.new_id(),
            "ticket_id": ticket_id,
            "author": actor.name,
            "is_from_customer": is_from_customer,
            "text": words,
            "at": uow.now,
        },
    )


def _set(uow: UnitOfWork, actor: Actor, ticket: Any, action: str, **values: Any) -> TicketState:
    uow.conn.execute(update(Ticket).where(Ticket.id == ticket.id).values(version=Ticket.version + 1, **values))
    uow.changed("ticket", ticket.id, ticket.version + 1)
    uow.audit(actor, action, "ticket", ticket.id, facts={"number": ticket.number})
    return TicketState(ticket.id, ticket.number, values["status"], ticket.due_at)
