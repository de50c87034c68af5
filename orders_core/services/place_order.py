"""Placing an order: checked, priced, routed, its stock promised and, when clean, approved; all or nothing.

One transaction of at most 14 statements for a three-line order (benchmarks/place_order.py counts them): one reads
everything about the caller, one the SKUs with their prices, one the stock; the rest write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import Rules
from orders_core.domain.validation import Check, CheckInput, credit_reason, reason_text, run_checks
from orders_core.errors import IdempotencyMismatch, InvalidCommand, NotFound
from orders_core.routing.assign import Assigned
from orders_core.services.credit import claim_anyway, claim_credit
from orders_core.services.drafting import (
    Draft,
    DraftLine,
    LineIn,
    Pricing,
    draft_order,
    offers_in_force,
    rules_for,
)
from orders_core.services.plan_stock import StockPlan, changes_of, gifts_left_out, plan_stock
from orders_core.services.supply import expected_date, request_supply
from orders_core.services.tell_placed import tell_placed
from orders_core.store.inventory import promise
from orders_core.store.prepared import Prepared
from orders_core.store.tables import (
    Channel,
    Coupon,
    CouponUse,
    Customer,
    CustomerAddress,
    CustomerContact,
    NumberSeries,
    Order,
    OrderCharge,
    OrderDiscount,
    OrderLine,
    RuleSet,
    Shipment,
    ShipmentLine,
)
from orders_core.store.uow import Contended, UnitOfWork


@dataclass(frozen=True)
class AddressIn:
    """Where to, typed in for this order only."""

    recipient: str | None = None
    phone: str | None = None
    street: str | None = None
    city: str | None = None
    region: str | None = None
    postcode: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class PlaceOrder:
    """An order as asked for.

    `priority` is 0 to 9, the highest served first; `source_order_id` the same customer's order that is sent again.
    `idem_key` makes repeating harmless for one caller; `external_id` is the channel's own order number and does the
    same for the channel. Without an address the customer's default one is used.
    """

    channel: str
    customer: str
    lines: Sequence[LineIn]
    idem_key: str | None = None
    external_id: str | None = None
    address_id: int | None = None
    address: AddressIn | None = None
    payment_method: str = "credit"
    delivery_method: str = "courier"
    requested_date: date | None = None
    coupon_code: str | None = None
    priority: int = 0
    note: str | None = None
    kind: str = "sale"
    source_order_id: int | None = None


@dataclass(frozen=True)
class PlacedOrder:
    """What the caller gets: the number to track by, where the order stands, and why it waits (if it does)."""

    order_id: int
    number: str
    status: str
    total_cents: int
    currency: str
    promised_by_date: date | None
    is_promise_estimated: bool
    backordered_qty: int
    review_reasons: Sequence[Mapping[str, Any]]
    is_repeat: bool = False


MAX_PRIORITY = 9
KINDS = ("sale", "exchange", "resend", "standing")
SENT_AGAIN = ("exchange", "resend")
_SCOPED_ORDER = (
    select(Order.id)
    .where(Order.idem_scope == bindparam("idem_scope"), Order.idem_key == bindparam("idem_key"))
    .scalar_subquery()
)
_SAME_TODAY = (
    select(func.min(Order.number))
    .where(
        Order.customer_id == Customer.id,
        Order.business_date == bindparam("today"),
        Order.lines_hash == bindparam("lines_hash"),
        Order.kind.not_in(SENT_AGAIN),
        Order.cancelled_at.is_(None),
        Order.rejected_at.is_(None),
    )
    .scalar_subquery()
)
_OLDEST_OWING = (
    select(func.min(Order.business_date))
    .where(Order.customer_id == Customer.id, Order.credit_claimed_cents > 0)
    .scalar_subquery()
)
_CALLER = (
    select(
        Customer.id,
        Customer.code,
        Customer.name,
        Customer.status,
        Customer.language,
        Customer.currency,
        Customer.level_code,
        Customer.salesperson_id,
        Customer.credit_limit_cents,
        Customer.credit_used_cents,
        Customer.terms_days,
        CustomerContact.email,
        CustomerAddress.id.label("address_id"),
        CustomerAddress.recipient,
        CustomerAddress.phone,
        CustomerAddress.country,
        CustomerAddress.region,
        CustomerAddress.city,
        CustomerAddress.street,
        CustomerAddress.postcode,
        CustomerAddress.latitude,
        CustomerAddress.longitude,
        CustomerAddress.is_masked,
        Channel.id.label("channel_id"),
        Channel.code.label("channel_code"),
        Channel.kind.label("channel_kind"),
        Channel.policy,
        RuleSet.version.label("rules_version"),
        select(NumberSeries.next_value).where(NumberSeries.name == "offers").scalar_subquery().label("offers_version"),
        _SCOPED_ORDER.label("repeat_of_id"),
        _SAME_TODAY.label("duplicate_number"),
        _OLDEST_OWING.label("oldest_owing_date"),
    )
    .select_from(Customer)
    .join(Channel, and_(Channel.code == bindparam("channel"), Channel.is_active))
    .join(RuleSet, and_(RuleSet.is_current))
    .outerjoin(CustomerContact, and_(CustomerContact.customer_id == Customer.id, CustomerContact.is_primary))
    .where(Customer.code == bindparam("customer"))
)
_WITH_DEFAULT_ADDRESS = Prepared(
    _CALLER.outerjoin(CustomerAddress, and_(CustomerAddress.customer_id == Customer.id, CustomerAddress.is_default))
)
_WITH_ADDRESS = Prepared(
    _CALLER.outerjoin(
        CustomerAddress, and_(CustomerAddress.customer_id == Customer.id, CustomerAddress.id == bindparam("address_id"))
    )
)
_INSERT_ORDER = Prepared(insert(Order.__table__))  # type: ignore[arg-type]
_INSERT_LINES = Prepared(insert(OrderLine.__table__))  # type: ignore[arg-type]
_INSERT_SHIPMENTS = Prepared(insert(Shipment.__table__))  # type: ignore[arg-type]
_INSERT_DISCOUNTS = Prepared(insert(OrderDiscount.__table__))  # type: ignore[arg-type]
_INSERT_SHIPMENT_LINES = Prepared(insert(ShipmentLine.__table__))  # type: ignore[arg-type]


def place_order(uow: UnitOfWork, actor: Actor, command: PlaceOrder) -> PlacedOrder:
    """Take an order: number, prices, promised stock, checks, and approval when nothing needs a person.

    Raises:
        IdempotencyMismatch: the key was used for another order.
        InsufficientStock: less is saleable than asked for, and the shortage policy refuses backorders.
        NotFound, InvalidCommand, InvalidQuantity: the order itself is wrong; the message names the line.
    """
    actor.must("order.place")
    is_free = command.kind in SENT_AGAIN
    if is_free:  # only a decided return makes one
        actor.must("return.decide")
        if command.source_order_id is None:
            raise InvalidCommand(field="source_order_id", problem="original_missing", kind=command.kind)
    if command.kind not in KINDS:
        raise InvalidCommand(field="kind", problem="not_one_of", value=command.kind, choices=", ".join(KINDS))
    if type(command.priority) is not int or not 0 <= command.priority <= MAX_PRIORITY:
        raise InvalidCommand(field="priority", problem="priority_impossible", value=command.priority, most=MAX_PRIORITY)
    if command.priority and actor.is_customer:
        raise InvalidCommand(field="priority", problem="priority_is_ours")
    body_hash, lines_hash = _hashes(command)
    # what is sent again is meant to be like its original; no order has an empty hash
    looks_like = "" if is_free else lines_hash
    caller = _caller(uow, actor, command, looks_like)
    if caller.repeat_of_id is not None:
        return _repeat(uow, actor, caller.repeat_of_id, body_hash, command)
    if command.source_order_id is not None:
        _must_be_theirs(uow, command.source_order_id, caller.id)
    rules = rules_for(uow, version=caller.rules_version, channel_code=caller.channel_code, policy=caller.policy)
    pricing = Pricing(
        customer_id=caller.id,
        level_code=caller.level_code,
        currency=caller.currency,
        rules=rules,
        offers=offers_in_force(uow, caller.offers_version or 1),
        coupon_code=command.coupon_code,
        may_set_prices=not actor.is_customer,
        is_free=is_free,
    )
    draft = draft_order(uow, pricing, command.lines)
    duplicate_id = _id_of(uow, caller.duplicate_number)
    near = _coordinates(command, caller)
    plan = plan_stock(
        uow, draft.lines, rules, channel_id=caller.channel_id, near=near, wanted_date=command.requested_date
    )
    return _write(
        uow,
        actor,
        command,
        caller,
        rules,
        replace(draft, lines=list(plan.lines)),
        plan,
        gifts_left_out=gifts_left_out(draft.lines, plan),
        duplicate_id=duplicate_id,
        body_hash=body_hash,
        lines_hash=lines_hash,
    )


def _must_be_theirs(uow: UnitOfWork, order_id: Any, customer_id: int) -> None:
    """Raise NotFound unless the original order is there and this customer's."""
    is_id = type(order_id) is int and 0 < order_id < 2**63
    query = select(Order.customer_id).where(Order.id == order_id)
    if not is_id or uow.conn.execute(query).scalar() != customer_id:
        raise NotFound(entity="order", key=order_id)


def _hashes(command: PlaceOrder) -> tuple[str, str]:
    lines = [[x.sku, x.qty, x.unit, x.unit_price_cents, x.note, x.external_line_no] for x in command.lines]
    address = command.address
    body = [
        command.channel,
        command.customer,
        lines,
        command.external_id,
        command.address_id,
        None
        if address is None
        else [
            address.recipient,
            address.phone,
            address.street,
            address.city,
            address.region,
            address.postcode,
            address.country,
        ],
        command.payment_method,
        command.delivery_method,
        command.requested_date.isoformat() if command.requested_date else None,
        command.coupon_code,
        command.note,
        command.kind,
        command.source_order_id,
        command.priority,
    ]
    same = sorted((x.sku, x.unit or "", x.qty) for x in command.lines)
    return _digest(body), _digest(same)


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, ensure_ascii=False).encode(), digest_size=16).hexdigest()


def _caller(uow: UnitOfWork, actor: Actor, command: PlaceOrder, lines_hash: str) -> Any:
    scope, key = idempotency(actor, command)
    parameters: dict[str, Any] = {
        "customer": command.customer,
        "channel": command.channel,
        "idem_scope": scope,
        "idem_key": key,
        "today": uow.today,
        "lines_hash": lines_hash,
    }
    if command.address_id is None:
        row = uow.row(_WITH_DEFAULT_ADDRESS, parameters)
    else:
        row = uow.row(_WITH_ADDRESS, {**parameters, "address_id": command.address_id})
    if row is None:
        known = uow.row(select(Customer.id).where(Customer.code == command.customer))
        what = ("customer", command.customer) if known is None else ("channel", command.channel)
        raise NotFound(entity=what[0], key=what[1])
    actor.must_own(row.id, entity="customer", key=command.customer)
    if command.address_id is not None and row.address_id is None:
        raise NotFound(entity="address", key=command.address_id)
    if command.payment_method not in ("prepaid", "credit", "on_delivery"):
        raise InvalidCommand(
            field="payment_method",
            problem="not_one_of",
            value=command.payment_method,
            choices="prepaid, credit, on_delivery",
        )
    if command.delivery_method not in ("courier", "own_truck", "pick_up"):
        raise InvalidCommand(
            field="delivery_method",
            problem="not_one_of",
            value=command.delivery_method,
            choices="courier, own_truck, pick_up",
        )
    return row


def idempotency(actor: Actor, command: PlaceOrder) -> tuple[str | None, str | None]:
    """Whose key, and which: the channel's own order number, else the caller's key."""
    if command.external_id is not None:
        return f"channel:{command.channel}", command.external_id
    return (actor.scope, command.idem_key) if command.idem_key is not None else (None, None)


def _repeat(uow: UnitOfWork, actor: Actor, order_id: int, body_hash: str, command: PlaceOrder) -> PlacedOrder:
    row = uow.rows(select(Order.__table__).where(Order.id == order_id))[0]
    if row.body_hash != body_hash:
        number = row.number if actor.owns(row.customer_id) else "-"
        raise IdempotencyMismatch(key=command.external_id or command.idem_key, number=number)
    return order_placed(uow, row)


def order_placed(uow: UnitOfWork, row: Any) -> PlacedOrder:
    """What the caller of an order that is there already gets; `row` is its row."""
    late = uow.conn.execute(
        select(func.coalesce(func.sum(OrderLine.backordered_qty), 0)).where(OrderLine.order_id == row.id)
    ).scalar_one()
    return PlacedOrder(
        order_id=row.id,
        number=row.number,
        status=row.status,
        total_cents=row.total_cents,
        currency=row.currency,
        promised_by_date=row.promised_by_date,
        is_promise_estimated=row.is_promise_estimated,
        backordered_qty=int(late),
        review_reasons=row.review_reasons or [],
        is_repeat=True,
    )


def _coordinates(command: PlaceOrder, caller: Any) -> tuple[float, float] | None:
    where = command.address or caller
    if where.latitude is None or where.longitude is None:
        return None
    return where.latitude, where.longitude


def failing(checks: Sequence[Check], rules: Rules) -> list[Check]:
    """The failed checks that the rules send to a person."""
    verdicts = rules.checks.model_dump()
    return [c for c in checks if not c.is_passed and verdicts[c.name] == "review"]


def must_not_refuse(checks: Sequence[Check], rules: Rules) -> None:
    """Raise InvalidCommand with the reason of the first failed check that the rules answer with a refusal."""
    verdicts = rules.checks.model_dump()
    for check in checks:
        if not check.is_passed and verdicts[check.name] == "refuse":
            raise InvalidCommand(
                field=check.name, problem=reason_text(check.reason, "en"), problem_zh=reason_text(check.reason, "zh")
            )


def _write(
    uow: UnitOfWork,
    actor: Actor,
    command: PlaceOrder,
    caller: Any,
    rules: Rules,
    draft: Draft,
    plan: StockPlan,
    *,
    gifts_left_out: Mapping[str, int],
    duplicate_id: int | None,
    body_hash: str,
    lines_hash: str,
) -> PlacedOrder:
    """Check, then write everything: order, lines, charges, shipments, promises, decisions, notices."""
    order_id = uow.new_id()
    number = uow.new_number("SO")
    totals = draft.totals
    where = command.address or caller
    country = where.country or caller.country or "CN"
    checks = run_checks(
        CheckInput(
            customer_status=caller.status,
            terms_days=caller.terms_days,
            oldest_owing_date=caller.oldest_owing_date,
            credit_limit_cents=caller.credit_limit_cents,
            credit_used_cents=caller.credit_used_cents,
            payment_method=command.payment_method,
            paid_cents=0,
            total_cents=totals.total_cents,
            currency=caller.currency,
            today=uow.today,
            delivery_method=command.delivery_method,
            recipient=where.recipient,
            phone=where.phone,
            country=country,
            street=where.street,
            is_masked=command.address is None and bool(caller.is_masked),
            duplicate_number=caller.duplicate_number,
            price_problems=draft.price_problems,
            short=plan.short,
        ),
        rules,
    )
    must_not_refuse(checks, rules)
    waits = failing(checks, rules)
    # levels before the customer's credit: everybody locks in this order (decisions.md, 9)
    promise(uow, changes_of(plan.parts), channel_id=caller.channel_id, any_backorder=plan.any_backorder)
    claimed = 0
    if not waits and command.payment_method == "credit" and totals.total_cents > 0:
        if claim_credit(uow, caller.id, totals.total_cents):
            claimed = totals.total_cents
        else:  # someone took the credit since it was read
            reason = credit_reason(caller.credit_used_cents, totals.total_cents, caller.credit_limit_cents or 0)
            checks = [Check("credit", False, reason) if c.name == "credit" else c for c in checks]
            waits = failing(checks, rules)
            if not waits:  # the rules ignore credit: owe it all the same
                claim_anyway(uow, caller.id, totals.total_cents)
                claimed = totals.total_cents
    is_approved = not waits
    late_qty = sum(part.backordered_qty for _, part in plan.parts)
    promised: date | None = None
    is_estimated = False
    if plan.parts:
        late = {(line.sku.id, part.location_id) for line, part in plan.parts if part.backordered_qty}
        promised, is_estimated = promised_date(uow, rules, late, command.requested_date)
    goods_qty = sum(line.ordered_qty for line in draft.lines if line.ships)
    all_waits = 0 < goods_qty <= late_qty  # an order of services only waits for no stock
    status = "review" if waits else ("waiting_stock" if all_waits else "ready")
    reasons = [dict(check.reason) for check in waits]
    scope, key = idempotency(actor, command)
    uow.write(
        _INSERT_ORDER,
        [
            {
                "id": order_id,
                "number": number,
                "channel_id": caller.channel_id,
                "external_id": command.external_id,
                "idem_scope": scope,
                "idem_key": key,
                "body_hash": body_hash,
                "lines_hash": lines_hash,
                "possible_duplicate_of_id": duplicate_id,
                "customer_id": caller.id,
                "salesperson_id": caller.salesperson_id,
                "kind": command.kind,
                "source_order_id": command.source_order_id,
                "status": status,
                "review_reasons": reasons or None,
                "priority": command.priority,
                "language": caller.language,
                "currency": caller.currency,
                "goods_cents": totals.goods_cents,
                "discount_cents": totals.discount_cents,
                "charges_cents": totals.charges_cents,
                "tax_cents": totals.tax_cents,
                "total_cents": totals.total_cents,
                "credit_claimed_cents": claimed,
                "payment_method": command.payment_method,
                "delivery_method": command.delivery_method,
                "address_id": None if command.address else caller.address_id,
                "recipient": where.recipient,
                "phone": where.phone,
                "country": country,
                "region": where.region,
                "city": where.city,
                "street": where.street,
                "postcode": where.postcode,
                "latitude": where.latitude,
                "longitude": where.longitude,
                "business_date": uow.today,
                "placed_at": uow.now,
                "requested_date": command.requested_date,
                "promised_by_date": promised,
                "is_promise_estimated": is_estimated,
                "approved_at": uow.now if is_approved else None,
                "approved_by": "auto" if is_approved else None,
                "coupon_code": command.coupon_code,
                "note": command.note,
                "version": 1,
            }
        ],
    )
    line_ids = insert_lines(uow, order_id, draft.lines, plan.parts)
    if draft.shipping_cents:
        uow.conn.execute(
            insert(OrderCharge),
            {"id": uow.new_id(), "order_id": order_id, "kind": "shipping", "amount_cents": draft.shipping_cents},
        )
    _insert_discounts(uow, order_id, draft)
    insert_shipments(
        uow,
        plan.parts,
        line_ids,
        delivery_method=command.delivery_method,
        planned_date=command.requested_date or uow.today,
    )
    if is_approved:
        request_supply(
            uow, rules, order_id=order_id, number=number, parts=[(line_ids[x.line_no], x, p) for x, p in plan.parts]
        )
    _explain(uow, order_id, caller.rules_version, checks, plan, is_approved=is_approved)
    uow.changed("orders", order_id, 1, "insert")
    facts: dict[str, Any] = {"number": number, "status": status}
    if gifts_left_out:
        facts["gifts_left_out"] = gifts_left_out
    uow.audit(actor, "order.place", "orders", order_id, version=1, facts=facts)
    tell_placed(uow, caller, rules, draft, order_id, number, promised, is_estimated, late_qty=late_qty, reasons=reasons)
    return PlacedOrder(
        order_id=order_id,
        number=number,
        status=status,
        total_cents=totals.total_cents,
        currency=caller.currency,
        promised_by_date=promised,
        is_promise_estimated=is_estimated,
        backordered_qty=late_qty,
        review_reasons=reasons,
    )


def _id_of(uow: UnitOfWork, number: str | None) -> int | None:
    """The id of the order that this one repeats."""
    if number is None:
        return None
    found: int = uow.rows(select(Order.id).where(Order.number == number))[0].id
    return found


def insert_lines(
    uow: UnitOfWork,
    order_id: int,
    lines: Sequence[DraftLine],
    parts: Sequence[tuple[DraftLine, Assigned]],
    known: Mapping[int, int] | None = None,
) -> dict[int, int]:
    """Write order lines with their promised quantities; returns line number -> row id.

    `known` are the ids of lines that are there already: a new gift may hang on one of them.
    """
    first = uow.new_id(len(lines))
    ids = {**(known or {}), **{line.line_no: first + i for i, line in enumerate(lines)}}
    ordered = {line.line_no: line.ordered_qty for line in lines}
    promised: dict[int, list[int]] = {}
    for line, part in parts:
        units = promised.setdefault(line.line_no, [0, 0])
        units[0] += part.reserved_qty
        units[1] += part.backordered_qty
    uow.write(
        _INSERT_LINES,
        [
            {
                "id": ids[line.line_no],
                "order_id": order_id,
                "line_no": line.line_no,
                "parent_line_id": None if line.parent_no is None else ids[line.parent_no],
                "kind": line.kind,
                "sku_id": line.sku.id,
                "unit": line.unit,
                "units_per_pack": line.units_per_pack,
                "pack_qty": line.pack_qty,
                "unit_price_cents": line.unit_price_cents,
                "price_kind": line.price_kind,
                "list_price_cents": line.list_price_cents,
                "discount_cents": line.discount_cents,
                "tax_rate_bp": line.sku.tax_rate_bp,
                "tax_cents": line.tax_cents,
                "net_cents": line.net_cents,
                "ordered_qty": line.ordered_qty,
                "part_qty": line.ordered_qty // ordered[line.parent_no]
                if line.kind == "component" and line.parent_no
                else None,
                "reserved_qty": promised.get(line.line_no, (0, 0))[0],
                "backordered_qty": promised.get(line.line_no, (0, 0))[1],
                "external_line_no": line.external_line_no,
                "note": line.note,
            }
            for line in lines
        ],
    )
    return ids


def insert_shipments(
    uow: UnitOfWork,
    parts: Sequence[tuple[DraftLine, Assigned]],
    line_ids: Mapping[int, int],
    *,
    delivery_method: str,
    planned_date: date,
) -> dict[int, int]:
    """Plan one shipment per location with its lines; returns location id -> shipment id."""
    if not parts:
        return {}
    locations = sorted({part.location_id for _, part in parts})
    first = uow.new_id(len(locations) + len(parts))
    shipments = {location_id: first + i for i, location_id in enumerate(locations)}
    uow.write(
        _INSERT_SHIPMENTS,
        [
            {
                "id": shipment_id,
                "number": uow.new_number("SH"),
                "location_id": location_id,
                "delivery_method": delivery_method,
                "planned_date": planned_date,
                "created_at": uow.now,
            }
            for location_id, shipment_id in shipments.items()
        ],
    )
    uow.write(
        _INSERT_SHIPMENT_LINES,
        [
            {
                "id": first + len(locations) + i,
                "shipment_id": shipments[part.location_id],
                "order_line_id": line_ids[line.line_no],
                "sku_id": line.sku.id,
                "qty": part.qty or line.ordered_qty,
                "reserved_qty": part.reserved_qty,
                "backordered_qty": part.backordered_qty,
            }
            for i, (line, part) in enumerate(parts)
        ],
    )
    for shipment_id in shipments.values():
        uow.changed("shipment", shipment_id, 1, "insert")
    return shipments


def _insert_discounts(uow: UnitOfWork, order_id: int, draft: Draft) -> None:
    taken = draft.totals.discounts
    if taken:
        first = uow.new_id(len(taken))
        uow.write(
            _INSERT_DISCOUNTS,
            [
                {
                    "id": first + i,
                    "order_id": order_id,
                    "promotion_id": offer.promotion_id,
                    "coupon_id": draft.coupon_id if offer.needs_coupon else None,
                    "description": offer.name,
                    "amount_cents": amount,
                }
                for i, (offer, amount) in enumerate(taken)
            ],
        )
    if draft.coupon_id is not None:
        off = sum(amount for offer, amount in taken if offer.needs_coupon)
        used = uow.conn.execute(
            update(Coupon)
            .where(Coupon.id == draft.coupon_id, Coupon.used_count < Coupon.max_uses)
            .values(used_count=Coupon.used_count + 1)
            .returning(Coupon.used_count)
        )
        if used.first() is None:
            raise Contended
        uow.conn.execute(
            insert(CouponUse),
            {"coupon_id": draft.coupon_id, "order_id": order_id, "discount_cents": off, "at": uow.now},
        )


def promised_date(
    uow: UnitOfWork, rules: Rules, late: Iterable[tuple[int, int]], requested_date: date | None
) -> tuple[date, bool]:
    """The day the customer has it all, and whether that is an estimate: no confirmed purchase order stands behind it.

    `late` are the (SKU id, location id) that are promised without stock.
    """
    travel = timedelta(days=rules.promise.handling_days + rules.promise.transit_days)
    promised, is_estimated = uow.today + travel, False
    for sku_id, location_id in sorted(late):
        arrives, is_confirmed = expected_date(uow, rules, sku_id=sku_id, location_id=location_id)
        promised = max(promised, arrives + travel)
        is_estimated = is_estimated or not is_confirmed
    return max(promised, requested_date or promised), is_estimated


def _explain(
    uow: UnitOfWork, order_id: int, version: int, checks: Sequence[Check], plan: StockPlan, *, is_approved: bool
) -> None:
    uow.decide(
        "approve",
        "orders",
        order_id,
        "approved" if is_approved else "review",
        [{"check": c.name, "is_passed": c.is_passed, **c.reason} for c in checks],
        rules_version=version,
    )
    if plan.parts:
        uow.decide(
            "route",
            "orders",
            order_id,
            ",".join(plan.assignment.reason["sites"]),
            [plan.assignment.reason],
            alternatives=plan.assignment.alternatives,
            rules_version=version,
        )
