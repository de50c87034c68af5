"""The review queue: approve, reject, hold, resume, note; one by one or in bulk; and approving again by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.domain.rules import Rules
from orders_core.domain.validation import Check, CheckInput, run_checks
from orders_core.errors import InvalidCommand, OrdersError
from orders_core.notifications.tell import tell_customer
from orders_core.services.credit import settle_claim
from orders_core.services.drafting import rules_for
from orders_core.services.fill import fill_where_waits, hand_on
from orders_core.services.idempotency import is_repeat, source_of
from orders_core.services.invoices import follow_order
from orders_core.services.orders_state import OrderState, has_shipped, order_for_change, sync_order
from orders_core.services.refunds import give_coupon_back, grant_refund
from orders_core.services.releasing import give_back
from orders_core.services.returned_money import refund_instead
from orders_core.services.supply import request_missing
from orders_core.store.base import to_micros
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    Channel,
    Customer,
    CustomerAddress,
    Inbox,
    Order,
    OrderLine,
    OrderNote,
    RuleSet,
    Shipment,
    ShipmentLine,
    Sku,
)
from orders_core.store.uow import Store, UnitOfWork


@dataclass(frozen=True)
class ApproveOrder:
    """Approve a waiting order. `reason` is needed where credit is exceeded: it is then approved once, above the limit."""

    number: str
    expected_version: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class RejectOrder:
    number: str
    reason: str
    expected_version: int | None = None


@dataclass(frozen=True)
class HoldOrder:
    """Stop an order with a reason; the warehouse may not pick or ship it until it is resumed."""

    number: str
    reason: str
    expected_version: int | None = None


@dataclass(frozen=True)
class ResumeOrder:
    number: str
    expected_version: int | None = None


@dataclass(frozen=True)
class AddNote:
    """A note, or (with a medium: phone, mail, wechat …) a contact with the customer."""

    number: str
    text: str
    medium: str | None = None
    idem_key: str | None = None


_APPROVE = Prepared(
    "UPDATE orders SET approved_at = :now, approved_by = :actor, review_reasons = NULL WHERE id = :order_id"
)


def approve_order(uow: UnitOfWork, actor: Actor, command: ApproveOrder) -> OrderState:
    """Approve a waiting order by hand: credit is claimed, what is short is asked for, the customer is told.

    Raises:
        NotAllowed: it is not waiting (approved already, held, cancelled …).
        VersionConflict: someone changed it meanwhile.
        CreditExceeded: it needs more credit than is left and no reason was given.
    """
    actor.must("order.approve")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    must_allow("approve", status=order.status, key=order.number)
    waited_for = order.review_reasons or []
    state = _approve(uow, actor, order, by=actor.name, may_exceed=command.reason is not None)
    uow.decide(
        "approve",
        "orders",
        order.id,
        "approved",
        [{"code": "by_hand", "reason": command.reason, "waited_for": waited_for}],
        actor=actor.name,
    )
    facts = {"reason": command.reason, "waited_for": [reason["code"] for reason in waited_for]}
    uow.audit(actor, "order.approve", "orders", order.id, version=state.version, facts=facts)
    return state


def _approve(uow: UnitOfWork, actor: Actor, order: Any, *, by: str, may_exceed: bool) -> OrderState:
    uow.write(_APPROVE, [{"now": to_micros(uow.now), "actor": by, "order_id": order.id}])
    settle_claim(uow, order.id, may_exceed=may_exceed)
    rules, _ = rules_of(uow, order.channel_id)
    if rules.shortage.purchase_request:
        for line in uow.rows(_BACKORDERED, {"order_id": order.id}):
            request_missing(uow, line, order.number)
    state = sync_order(uow, order.id)
    tell_customer(uow, "order_approved", order.id, dedupe_key=f"order_approved:{order.id}:{state.version}")
    return state


_BACKORDERED = Prepared(
    select(
        ShipmentLine.order_line_id,
        ShipmentLine.sku_id,
        ShipmentLine.backordered_qty,
        Shipment.location_id,
        Sku.supply_mode,
    )
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .join(Sku, Sku.id == ShipmentLine.sku_id)
    .where(OrderLine.order_id == bindparam("order_id"), ShipmentLine.backordered_qty > 0)
)


_RULES = Prepared(
    select(RuleSet.version, Channel.code, Channel.policy)
    .select_from(RuleSet)
    .join(Channel, Channel.id == bindparam("channel_id"))
    .where(RuleSet.is_current)
)


def rules_of(uow: UnitOfWork, channel_id: int) -> tuple[Rules, int]:
    """The current rules as they hold for a channel, and their version."""
    (row,) = uow.rows(_RULES, {"channel_id": channel_id})
    return rules_for(uow, version=row.version, channel_code=row.code, policy=row.policy), row.version


def reject_order(uow: UnitOfWork, actor: Actor, command: RejectOrder) -> OrderState:
    """Turn a waiting order down: stock, credit and payments go back, the customer is told why.

    Raises:
        NotAllowed: it is approved (unless held), or part of it has left.
    """
    actor.must("order.approve")
    if not command.reason.strip():
        raise InvalidCommand(field="reason", problem="reason_missing")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    must_allow("reject", status=order.status, key=order.number)
    if has_shipped(uow, order.id):  # held after a part had left
        must_allow("reject", status="partly_shipped", key=order.number)
    give_back(uow, order)
    uow.conn.execute(
        text("UPDATE orders SET rejected_at = :now, cancel_reason = :reason, hold_reason = NULL WHERE id = :order_id"),
        {"now": to_micros(uow.now), "reason": command.reason, "order_id": order.id},
    )
    give_coupon_back(uow, order.id)
    paid = order.paid_cents - order.refunded_cents
    if paid > 0:
        grant_refund(
            uow, actor, order_id=order.id, amount_cents=paid, reason=command.reason, idem_key=f"reject:{order.id}"
        )
    settle_claim(uow, order.id)
    follow_order(uow, actor, order.id)
    if order.kind == "exchange":
        refund_instead(uow, actor, order)
    state = sync_order(uow, order.id)
    uow.audit(actor, "order.reject", "orders", order.id, version=state.version, facts={"reason": command.reason})
    tell_customer(
        uow,
        "order_cancelled",
        order.id,
        dedupe_key=f"order_cancelled:{order.id}",
        reason=command.reason,
        refund_cents=max(0, paid),
    )
    hand_on(uow)
    return state


def hold_order(uow: UnitOfWork, actor: Actor, command: HoldOrder) -> OrderState:
    """Stop an order with a reason."""
    actor.must("order.hold")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    must_allow("hold", status=order.status, key=order.number)
    return _set_hold(uow, actor, order.id, command.reason, "order.hold")


def resume_order(uow: UnitOfWork, actor: Actor, command: ResumeOrder) -> OrderState:
    """Let a held order go on where it stood; it gets what came free meanwhile and nobody else took."""
    actor.must("order.hold")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version)
    must_allow("resume", status=order.status, key=order.number)
    state = _set_hold(uow, actor, order.id, None, "order.resume")
    if not fill_where_waits(uow, order.id):
        return state
    now = order_for_change(uow, order_id=order.id)
    return OrderState(order.id, order.number, now.status, now.version)


def _set_hold(uow: UnitOfWork, actor: Actor, order_id: int, reason: str | None, action: str) -> OrderState:
    uow.conn.execute(
        text("UPDATE orders SET hold_reason = :reason WHERE id = :order_id"), {"reason": reason, "order_id": order_id}
    )
    state = sync_order(uow, order_id)
    uow.audit(actor, action, "orders", order_id, version=state.version, facts={"reason": reason})
    return state


def add_note(uow: UnitOfWork, actor: Actor, command: AddNote) -> int:
    """Write a note or a contact on an order; returns its id."""
    actor.must("order.note")
    order = order_for_change(uow, number=command.number)
    if is_repeat(uow, actor, _note_of(order.id), command):
        return _noted(uow, actor, order.id, command)
    note_id = uow.new_id()
    kind = "note" if command.medium is None else "contact"
    uow.conn.execute(
        insert(OrderNote),
        {
            "id": note_id,
            "order_id": order.id,
            "kind": kind,
            "medium": command.medium,
            "text": command.text,
            "author": actor.name,
            "at": uow.now,
        },
    )
    uow.audit(actor, f"order.{kind}", "orders", order.id, facts={"text": command.text, "medium": command.medium})
    return note_id


_CUSTOMER_NOW = Prepared(
    select(
        Customer.status,
        Customer.terms_days,
        Customer.credit_limit_cents,
        Customer.credit_used_cents,
        CustomerAddress.is_masked,
        select(Order.business_date)
        .where(Order.customer_id == Customer.id, Order.credit_claimed_cents > 0)
        .order_by(Order.business_date)
        .limit(1)
        .scalar_subquery()
        .label("oldest_owing_date"),
    )
    .outerjoin(CustomerAddress, CustomerAddress.id == bindparam("address_id"))
    .where(Customer.id == bindparam("customer_id"))
)


def _note_of(order_id: int) -> str:
    return f"order.note:{order_id}"


def _noted(uow: UnitOfWork, actor: Actor, order_id: int, command: AddNote) -> int:
    """The id of the note that this command's key made."""
    made = select(Inbox.received_at).where(
        Inbox.source == source_of(actor, _note_of(order_id)), Inbox.message_key == command.idem_key
    )
    query = select(OrderNote.id).where(
        OrderNote.order_id == order_id,
        OrderNote.text == command.text,
        OrderNote.medium.is_not_distinct_from(command.medium),
        OrderNote.at == made.scalar_subquery(),
    )
    return int(uow.conn.execute(query.order_by(OrderNote.id).limit(1)).scalar_one())


def checks_now(uow: UnitOfWork, order: Any, rules: Rules) -> list[Check]:
    """Every check as it stands today for an order's row; what was asked of its lines when it was placed is not asked
    again."""
    (row,) = uow.rows(_CUSTOMER_NOW, {"customer_id": order.customer_id, "address_id": order.address_id})
    return run_checks(
        CheckInput(
            customer_status=row.status,
            terms_days=row.terms_days,
            oldest_owing_date=row.oldest_owing_date,
            credit_limit_cents=row.credit_limit_cents,
            credit_used_cents=row.credit_used_cents - order.credit_claimed_cents,  # by others
            payment_method=order.payment_method,
            paid_cents=order.paid_cents - order.refunded_cents,
            total_cents=order.total_cents,
            currency=order.currency,
            today=uow.today,
            delivery_method=order.delivery_method,
            recipient=order.recipient,
            phone=order.phone,
            country=order.country,
            street=order.street,
            is_masked=bool(row.is_masked),
            duplicate_number=None,
            price_problems=(),
            short=(),
        ),
        rules,
    )


def reconsider(uow: UnitOfWork, order_id: int) -> OrderState | None:
    """Check a waiting order again after its money or customer changed; approve it when nothing stands against it.

    Only reasons that can go away by themselves are looked at again (credit, payment, customer); an order that waits
    for a person's judgement keeps waiting for it. Returns the new state when something changed, else None.
    """
    order = order_for_change(uow, order_id=order_id)
    if order.status != "review":
        return None
    rules, version = rules_of(uow, order.channel_id)
    checks = checks_now(uow, order, rules)
    verdicts = rules.checks.model_dump()
    fresh = [c for c in checks if c.name in ("customer", "address", "credit", "payment", "amount")]
    kept = [r for r in order.review_reasons or [] if r["code"] in _NEEDS_A_PERSON]
    reasons = kept + [dict(c.reason) for c in fresh if not c.is_passed and verdicts[c.name] == "review"]
    if reasons == (order.review_reasons or []):
        return None
    if reasons:
        uow.conn.execute(update(Order).where(Order.id == order_id).values(review_reasons=reasons))
        return sync_order(uow, order_id)
    state = _approve(uow, SYSTEM, order, by="auto", may_exceed=False)
    uow.decide(
        "approve",
        "orders",
        order_id,
        "approved",
        [{"check": c.name, "is_passed": c.is_passed, **c.reason} for c in checks],
        rules_version=version,
    )
    uow.audit(SYSTEM, "order.approve", "orders", order_id, version=state.version, facts={"by": "rules"})
    return state


_NEEDS_A_PERSON = {"price_changed", "below_floor", "possible_duplicate", "short"}


@dataclass(frozen=True)
class BulkResult:
    """What became of each of many commands, in the order given: done, or skipped with the reason."""

    done: Sequence[str]
    skipped: Sequence[tuple[str, OrdersError]]


def in_bulk(
    store: Store,
    service: Callable[[UnitOfWork, Actor, Any], Any],
    actor: Actor,
    commands: Iterable[Any],
) -> BulkResult:
    """Run a command for many orders, each in a transaction of its own: what can be done is done, the rest explained."""
    done: list[str] = []
    skipped: list[tuple[str, OrdersError]] = []
    for command in commands:
        try:
            store.run(service, actor, command)
        except OrdersError as error:
            skipped.append((command.number, error))
        else:
            done.append(command.number)
    return BulkResult(done, skipped)
