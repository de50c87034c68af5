"""Changing an order before and after approval: add, remove, change quantity, address, date; money and stock follow.

A preview does the change for real and undoes it, so it cannot differ from the change itself. Prices agreed when the
order was placed stay; new lines cost today's price; promotions are those of the moment the order was placed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.permissions import Actor
from orders_core.domain.returns import worth_cents
from orders_core.domain.rules import Rules
from orders_core.errors import AlreadyExists, BelowShipped, InvalidCommand, InvalidQuantity, NotFound
from orders_core.notifications.tell import tell_customer
from orders_core.routing.assign import Assigned
from orders_core.services.credit import settle_claim
from orders_core.services.drafting import (
    MAX_QTY,
    Draft,
    DraftLine,
    LineIn,
    Offers,
    Pricing,
    draft_order,
    gifts_due,
    load_skus,
    offer_of,
    offers_in_force,
    part_line,
    total_draft,
)
from orders_core.services.fill import hand_on
from orders_core.services.idempotency import keyed
from orders_core.services.invoices import follow_order
from orders_core.services.orders_state import order_for_change, sync_order
from orders_core.services.place_order import (
    SENT_AGAIN,
    AddressIn,
    failing,
    insert_lines,
    insert_shipments,
    must_not_refuse,
    promised_date,
)
from orders_core.services.plan_stock import changes_of, plan_stock
from orders_core.services.refunds import grant_refund
from orders_core.services.releasing import give_back, lines_as_they_stand
from orders_core.services.review import checks_now, reconsider, rules_of
from orders_core.services.supply import request_supply
from orders_core.store.inventory import lock_levels, promise
from orders_core.store.tables import (
    Customer,
    NumberSeries,
    Order,
    OrderChange,
    OrderCharge,
    OrderDiscount,
    OrderLine,
    Promotion,
    Shipment,
    ShipmentLine,
)
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class LineChange:
    """Set line `line_no` to `pack_qty` of its selling unit; 0 removes what has not shipped."""

    line_no: int
    pack_qty: int


@dataclass(frozen=True)
class EditOrder:
    """What to change. Only what is given changes; `expected_version` protects against another person's change.

    With a `reason`, who approves orders may let this one change take more credit than is left.
    """

    number: str
    expected_version: int | None = None
    lines: Sequence[LineChange] = ()
    add: Sequence[LineIn] = ()
    address: AddressIn | None = None
    requested_date: date | None = None
    note: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Edited:
    """What the change did to money, stock and date; also what a preview shows."""

    order_id: int
    number: str
    status: str
    version: int
    total_before_cents: int
    total_cents: int
    refund_cents: int
    due_cents: int
    reserved_qty: int  # change of reserved units, + more
    backordered_qty: int
    promised_by_date: date | None
    is_promise_estimated: bool


_LINES = select(OrderLine.__table__).where(OrderLine.order_id == bindparam("order_id")).order_by(OrderLine.line_no)
_CUSTOMER = select(
    Customer.level_code,
    Customer.currency,
    select(NumberSeries.next_value).where(NumberSeries.name == "offers").scalar_subquery().label("offers_version"),
).where(Customer.id == bindparam("customer_id"))


_PLANNED = (
    select(Shipment.id, Shipment.version)
    .distinct()
    .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .where(OrderLine.order_id == bindparam("order_id"), Shipment.status == "planned", ~Shipment.is_consolidated)
)
_IN_WAREHOUSE = (
    select(Shipment.id)
    .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .where(OrderLine.order_id == bindparam("order_id"), Shipment.status.in_(["released", "picked", "packed"]))
    .limit(1)
)
_OTHER_CHARGES = text(
    "SELECT COALESCE(SUM(amount_cents), 0) FROM order_charge WHERE order_id = :order_id AND kind <> 'shipping'"
    " AND (code IS NULL OR code NOT LIKE 'cancelled:%')"
)
_OWN_CHARGES = text(
    "DELETE FROM order_charge WHERE order_id = :order_id AND (kind = 'shipping' OR code LIKE 'cancelled:%')"
)
_SHIPPING = text(
    "SELECT COALESCE(SUM(amount_cents), 0) FROM order_charge WHERE order_id = :order_id AND kind = 'shipping'"
)
_CAME_BACK = text(
    "SELECT rl.id, rl.return_id, rl.received_qty, rl.refund_cents, ra.number FROM return_line rl"
    " JOIN return_authorization ra ON ra.id = rl.return_id"
    " WHERE rl.order_line_id = :line_id AND ra.is_refunded AND rl.received_qty > 0 ORDER BY rl.id DESC"
)
_SHIFT_RETURN = (
    text("UPDATE return_line SET refund_cents = refund_cents + :cents WHERE id = :id"),
    text("UPDATE return_authorization SET refund_cents = refund_cents + :cents WHERE id = :return_id"),
)
_SHIFT_CHARGE = text(
    "UPDATE order_charge SET amount_cents = amount_cents - :cents WHERE id = (SELECT MIN(id) FROM order_charge"
    " WHERE code = :code)"
)


def preview_edit(uow: UnitOfWork, actor: Actor, command: EditOrder) -> Edited:
    """What `edit_order` would do; leaves order, stock, history and version untouched."""
    with uow.dry_run():
        return edit_order(uow, actor, command)


def edit_order(uow: UnitOfWork, actor: Actor, command: EditOrder) -> Edited:
    """Change an order in one transaction: lines, stock, money, date; what was paid too much is refunded.

    Raises:
        VersionConflict: someone changed it meanwhile; nothing is written.
        BelowShipped: a line would fall below what has shipped; the message names the minimum.
        CreditExceeded: the larger total needs more credit than is left, and no reviewer gave a reason.
        InsufficientStock, NotFound, InvalidCommand, NotAllowed.
    """
    actor.must("order.edit")
    order = order_for_change(uow, number=command.number, expected_version=command.expected_version, actor=actor)
    must_allow("edit", status=order.status, key=order.number)
    if order.origin == "history":
        raise InvalidCommand(field="number", problem="imported_history", number=order.number)
    before = uow.rows(_LINES, {"order_id": order.id})
    command = _real_changes(order, before, command)
    if not (command.lines or command.add or command.address or command.requested_date or command.note is not None):
        return _unchanged(order)
    _free_goods_stay(actor, order, before, command)
    if command.address is not None:
        is_on_its_way = order.status == "partly_shipped" and uow.row(_IN_WAREHOUSE, {"order_id": order.id}) is not None
        must_allow("readdress", status="picking" if is_on_its_way else order.status, key=order.number)
    may_exceed = command.reason is not None and actor.may("order.approve")
    return change_order(uow, actor, order, before, command, may_exceed=may_exceed)


def change_order(
    uow: UnitOfWork, actor: Actor, order: Any, before: Sequence[Any], command: EditOrder, *, may_exceed: bool
) -> Edited:
    """Do what `edit_order` has allowed, or a cancel: `order` and `before` are its row and lines. All is priced again."""
    stood_before = lines_as_they_stand(uow, order.id)
    rules, _ = rules_of(uow, order.channel_id)
    customer = uow.rows(_CUSTOMER, {"customer_id": order.customer_id})[0]
    pricing = Pricing(
        customer_id=order.customer_id,
        level_code=customer.level_code,
        currency=order.currency,
        rules=rules.model_copy(update={"prices_include_tax": not _is_tax_on_top(order, before, rules)}),
        offers=_offers_of(uow, order, customer.offers_version or 1),
        coupon_code=order.coupon_code,
        may_set_prices=not actor.is_customer,
        offers_at=order.placed_at,
        has_spent_coupon=order.coupon_code is not None,
        is_free=order.kind in SENT_AGAIN,
    )
    _change_address(uow, order, command)
    problems: Sequence[Mapping[str, Any]] = ()
    if command.lines or command.add or any(row.cancelled_qty for row in before):
        problems = _change_lines(uow, order_for_change(uow, order_id=order.id), before, command, pricing)
    paid = order.paid_cents - order.refunded_cents
    total = uow.conn.execute(select(Order.total_cents).where(Order.id == order.id)).scalar_one()
    refund = max(0, paid - total)
    if refund:
        key = f"edit:{order.id}:{order.version}"
        grant_refund(
            uow, actor, order_id=order.id, amount_cents=refund, reason=command.reason or "order_changed", idem_key=key
        )
    _look_again(uow, actor, order, rules, problems)
    settle_claim(uow, order.id, may_exceed=may_exceed)
    follow_order(uow, actor, order.id)
    hand_on(uow)
    promised, is_estimated = _new_promise(uow, order, rules)
    uow.conn.execute(
        update(Order).where(Order.id == order.id).values(promised_by_date=promised, is_promise_estimated=is_estimated)
    )
    state = sync_order(uow, order.id)
    if order.hold_reason and state.status in ("shipped", "partly_delivered", "delivered"):  # nothing is left to hold
        uow.conn.execute(update(Order).where(Order.id == order.id).values(hold_reason=None))
    if state.status == "review":
        state = reconsider(uow, order.id) or state
    after = uow.rows(_LINES, {"order_id": order.id})
    facts = {
        "reason": command.reason,
        "total_before_cents": order.total_cents,
        "total_cents": total,
        "lines": [asdict(change) for change in command.lines],
        "added": [asdict(line) for line in command.add],
        "before": stood_before,
    }
    uow.audit(actor, "order.edit", "orders", order.id, version=state.version, facts=facts)
    tell_customer(
        uow,
        "order_changed",
        order.id,
        dedupe_key=f"order_changed:{order.id}:{state.version}",
        difference_cents=total - order.total_cents,
    )
    return Edited(
        order_id=order.id,
        number=order.number,
        status=state.status,
        version=state.version,
        total_before_cents=order.total_cents,
        total_cents=total,
        refund_cents=refund,
        due_cents=max(0, total - paid),
        reserved_qty=sum(x.reserved_qty for x in after) - sum(x.reserved_qty for x in before),
        backordered_qty=sum(x.backordered_qty for x in after) - sum(x.backordered_qty for x in before),
        promised_by_date=promised,
        is_promise_estimated=is_estimated,
    )


def _real_changes(order: Any, before: Sequence[Any], command: EditOrder) -> EditOrder:
    """The command without what asks for the present: an edit that changes nothing leaves no version and no mail."""
    wanted = _wanted_packs(order, before, command)
    packs = {row.line_no: row.pack_qty for row in before}
    address = command.address
    if address is not None and all(x is None or x == getattr(order, name) for name, x in asdict(address).items()):
        address = None
    return replace(
        command,
        lines=tuple(LineChange(no, qty) for no, qty in wanted.items() if qty != packs[no]),
        address=address,
        requested_date=None if command.requested_date == order.requested_date else command.requested_date,
        note=None if command.note == order.note else command.note,
    )


def _free_goods_stay(actor: Actor, order: Any, before: Sequence[Any], command: EditOrder) -> None:
    """An exchange or a resend costs nothing: only who decides returns makes it larger."""
    if order.kind not in SENT_AGAIN or actor.may("return.decide"):
        return
    packs = {row.line_no: row.pack_qty for row in before}
    if command.add or any(change.pack_qty > packs[change.line_no] for change in command.lines):
        raise InvalidCommand(field="lines", problem="free_goods_grow", number=order.number)


def _unchanged(order: Any) -> Edited:
    return Edited(
        order_id=order.id,
        number=order.number,
        status=order.status,
        version=order.version,
        total_before_cents=order.total_cents,
        total_cents=order.total_cents,
        refund_cents=0,
        due_cents=max(0, order.total_cents - (order.paid_cents - order.refunded_cents)),
        reserved_qty=0,
        backordered_qty=0,
        promised_by_date=order.promised_by_date,
        is_promise_estimated=order.is_promise_estimated,
    )


def _offers_of(uow: UnitOfWork, order: Any, version: int) -> Offers:
    """The offers in force, and those this order was placed with, also when they were switched off since."""
    offers = offers_in_force(uow, version)
    known = {offer.promotion_id for offer in offers.promotions}
    taken = uow.rows(
        select(Promotion.__table__)
        .join(OrderDiscount, OrderDiscount.promotion_id == Promotion.id)
        .where(OrderDiscount.order_id == order.id)
    )
    return replace(offers, promotions=(*offers.promotions, *(offer_of(x) for x in taken if x.id not in known)))


def _look_again(uow: UnitOfWork, actor: Actor, order: Any, rules: Rules, problems: Sequence[Mapping[str, Any]]) -> None:
    """What an edit made doubtful waits for review again: prices always; a larger total and another address are checked
    as those of a new order, unless a reviewer edits.

    An order that waits already keeps its reasons and gets these added.
    """
    now = order_for_change(uow, order_id=order.id)
    reasons = [dict(p) for p in problems] if rules.checks.price == "review" else []
    asked = set() if actor.may("order.approve") else _made_doubtful(order, now)
    if asked:
        checks = [check for check in checks_now(uow, now, rules) if check.name in asked]
        must_not_refuse(checks, rules)
        reasons += [dict(check.reason) for check in failing(checks, rules)]
    if reasons:
        uow.conn.execute(
            update(Order)
            .where(Order.id == order.id)
            .values(approved_at=None, approved_by=None, review_reasons=[*(now.review_reasons or []), *reasons])
        )


def _made_doubtful(before: Any, now: Any) -> set[str]:
    """The checks that an edit asks again."""
    asked = {"customer", "payment", "amount"} if now.total_cents > before.total_cents else set()
    if now.address_id is None and any(
        getattr(now, x) != getattr(before, x) for x in ("recipient", "phone", "street", "country")
    ):
        asked.add("address")
    return asked


def _change_lines(
    uow: UnitOfWork, order: Any, before: Sequence[Any], command: EditOrder, pricing: Pricing
) -> Sequence[Mapping[str, Any]]:
    """Move quantities, stock and money of the lines to what the command asks; returns what is odd about new prices."""
    wanted = _wanted_packs(order, before, command)
    problems: Sequence[Mapping[str, Any]] = ()
    kept, added = _kept_lines(uow, before, wanted, pricing)
    if command.add:
        last = max(line.line_no for line in [*kept, *added])
        drafted = draft_order(uow, pricing, command.add)
        problems = drafted.price_problems
        for line in drafted.lines:
            line.line_no += last
            line.parent_no = None if line.parent_no is None else line.parent_no + last
        added += drafted.lines
    if not any(line.pack_qty for line in kept) and not added:
        raise InvalidCommand(field="lines", problem="nothing_left")
    lines = [*kept, *added]
    shipping = _shipping_cents(uow, order, before, kept, total_draft(uow, pricing, lines), pricing)
    _follow_returns(uow, before, kept, is_tax_on_top=not pricing.rules.prices_include_tax)
    other = uow.conn.execute(_OTHER_CHARGES, {"order_id": order.id}).scalar_one()
    draft = total_draft(uow, pricing, lines, shipping_cents=shipping, other_charges_cents=int(other))
    draft.lines = _move_stock(uow, order, before, kept, added, pricing)
    _write_lines(uow, order, draft)
    return problems


def _is_tax_on_top(order: Any, before: Sequence[Any], rules: Rules) -> bool:
    """As when the order was placed; where none of its lines is taxed, as the rules are now."""
    if any(row.tax_cents for row in before):
        return bool(order.tax_cents)
    return not rules.prices_include_tax


def _shipping_cents(
    uow: UnitOfWork, order: Any, before: Sequence[Any], kept: Sequence[DraftLine], after: Draft, pricing: Pricing
) -> int:
    """The fee of the order stays, unless the edit wins or loses free shipping: then it is today's."""
    rows = {row.line_no: row for row in before}
    as_before = [replace(line, pack_qty=rows[line.line_no].pack_qty) for line in kept]
    was_free = total_draft(uow, pricing, as_before).shipping_cents == 0
    if was_free != (after.shipping_cents == 0):
        return after.shipping_cents
    return int(uow.conn.execute(_SHIPPING, {"order_id": order.id}).scalar_one())


def _follow_returns(uow: UnitOfWork, before: Sequence[Any], kept: Sequence[DraftLine], *, is_tax_on_top: bool) -> None:
    """What came back for money stays worth its share of its line: a line that got dearer or cheaper takes it along."""
    rows = {row.line_no: row for row in before}
    for line in kept:
        row = rows[line.line_no]
        back = uow.rows(_CAME_BACK, {"line_id": row.id}) if row.returned_qty and line.standing_qty else ()
        if not back:
            continue
        worth = worth_cents(
            line.worth_cents(is_tax_on_top=is_tax_on_top),
            ordered_qty=line.standing_qty,
            sent_free_qty=max(0, row.shipped_qty - line.standing_qty),
            came_back_qty=sum(x.received_qty for x in back),
        )
        left = worth - row.refunded_cents
        for part in back:  # newest first; nobody's share falls below nothing
            change = max(left, -part.refund_cents)
            left -= change
            if change:
                _shift_return(uow, row.order_id, part, change)
        uow.conn.execute(update(OrderLine).where(OrderLine.id == row.id).values(refunded_cents=worth - left))


def _shift_return(uow: UnitOfWork, order_id: int, part: Any, cents: int) -> None:
    """A return is worth `cents` more: its line, itself, and the charge by which the order's total fell."""
    where = {"cents": cents, "id": part.id, "return_id": part.return_id, "code": f"return:{part.number}"}
    for statement in _SHIFT_RETURN:
        uow.conn.execute(statement, where)
    if uow.conn.execute(_SHIFT_CHARGE, where).rowcount == 0:  # it was worth nothing yet
        charge = {"order_id": order_id, "kind": "discount", "code": where["code"], "amount_cents": -cents}
        uow.conn.execute(insert(OrderCharge), {"id": uow.new_id(), **charge})


def _wanted_packs(order: Any, before: Sequence[Any], command: EditOrder) -> dict[int, int]:
    """Line number -> packs wanted, for the lines a person can change; refuses what cannot be."""
    own = {row.line_no: row for row in before if row.parent_line_id is None}
    wanted = {number: row.pack_qty for number, row in own.items()}
    twice = [no for no, times in Counter(change.line_no for change in command.lines).items() if times > 1]
    if twice:
        raise InvalidCommand(field="lines", problem="line_changed_twice", number=order.number, line_no=twice[0])
    for change in command.lines:
        row = own.get(change.line_no)
        if row is None:
            raise NotFound(entity="line", key=f"{order.number}/{change.line_no}")
        if type(change.pack_qty) is not int or not 0 <= change.pack_qty <= MAX_QTY:
            raise InvalidQuantity(place=f"line {change.line_no}", qty=change.pack_qty)
        gone = must_stay_qty(row, before)
        if change.pack_qty * row.units_per_pack < gone:
            raise BelowShipped(
                number=order.number,
                line_no=change.line_no,
                asked_qty=change.pack_qty * row.units_per_pack,
                shipped_qty=gone,
            )
        wanted[change.line_no] = change.pack_qty
    return wanted


def must_stay_qty(row: Any, lines: Sequence[Any]) -> int:
    """Base units of a line that have left: of a kit as many as its component that left most needs."""
    parts = [x for x in lines if x.parent_line_id == row.id and x.kind == "component"]
    return max([int(row.shipped_qty), *(-(-int(x.shipped_qty) // int(x.part_qty or 1)) for x in parts)])


def _kept_lines(
    uow: UnitOfWork, before: Sequence[Any], wanted: Mapping[int, int], pricing: Pricing
) -> tuple[list[DraftLine], list[DraftLine]]:
    """The existing lines at their new quantities, prices as agreed, components and gifts following their parents; and
    the gift lines that a raised line brings for the first time."""
    by_id = {row.id: row for row in before}
    due = {  # of the lines whose quantity changes
        row.id: gifts_due(uow, pricing, trigger_sku_id=row.sku_id, qty=wanted[row.line_no] * row.units_per_pack)
        for row in before
        if row.parent_line_id is None and wanted[row.line_no] != row.pack_qty
    }
    skus = load_skus(
        uow,
        pricing,
        ids=sorted({row.sku_id for row in before} | {sku_id for gifts in due.values() for sku_id in gifts}),
    )
    rules = {(rule.trigger_sku_id, rule.gift_sku_id) for found in pricing.offers.gifts.values() for rule in found}
    kept = []
    for row in before:
        if row.parent_line_id is None:
            packs = wanted[row.line_no]
        else:
            parent = by_id[row.parent_line_id]
            new_qty = wanted[parent.line_no] * parent.units_per_pack
            if parent.id not in due:
                packs = row.pack_qty
            elif row.kind == "gift" and (parent.sku_id, row.sku_id) in rules:
                units = due[parent.id].pop(row.sku_id, 0)
                packs = (max if new_qty > parent.ordered_qty else min)(row.pack_qty, units)
            elif row.kind == "component" and row.part_qty is not None:
                packs = row.part_qty * new_qty
            else:
                packs = row.pack_qty * new_qty // parent.ordered_qty if parent.ordered_qty else 0
            packs = max(packs, row.shipped_qty)  # a gift that left is not taken back by an edit
        kept.append(
            DraftLine(
                line_no=row.line_no,
                kind=row.kind,
                sku=replace(skus[row.sku_id], tax_rate_bp=row.tax_rate_bp),
                unit=row.unit,
                units_per_pack=row.units_per_pack,
                pack_qty=packs,
                unit_price_cents=row.unit_price_cents,
                price_kind=row.price_kind,
                list_price_cents=row.list_price_cents,
                cancelled_qty=min(row.cancelled_qty, max(0, packs * row.units_per_pack - row.shipped_qty)),
            )
        )
    new = [
        part_line(skus[sku_id], units, line_no=0, parent_no=by_id[parent_id].line_no, kind="gift")
        for parent_id, gifts in due.items()
        if wanted[by_id[parent_id].line_no] > by_id[parent_id].pack_qty
        for sku_id, units in gifts.items()
    ]
    for line_no, line in enumerate(new, 1 + max(row.line_no for row in before)):
        line.line_no = line_no
    return kept, new


def _move_stock(
    uow: UnitOfWork,
    order: Any,
    before: Sequence[Any],
    kept: Sequence[DraftLine],
    added: Sequence[DraftLine],
    pricing: Pricing,
) -> list[DraftLine]:
    """Give back what is no longer wanted, promise what is wanted more, on the order's own shipments where it can.

    Returns the order's lines as they are now: those asked for, less the gifts that are not there and do not wait.
    """
    rows = {row.line_no: row for row in before}
    less: dict[int, int] = {}
    more: list[DraftLine] = []
    for line in kept:
        row = rows[line.line_no]
        delta = line.standing_qty - (row.ordered_qty - row.cancelled_qty)
        if delta < 0 and line.ships:
            less[row.id] = -delta
        elif delta > 0:
            more.append(_copy(line, delta))
    asked = [*more, *added]
    if less and asked:
        lock_levels(uow, {line.sku.id for line in [*kept, *added]})
    if less:
        give_back(uow, order, units=less)
    near = None if order.latitude is None or order.longitude is None else (order.latitude, order.longitude)
    if not asked:
        return [*kept, *added]
    plan = plan_stock(
        uow, asked, pricing.rules, channel_id=order.channel_id, near=near, wanted_date=order.requested_date
    )
    planned = {line.line_no: line for line in plan.lines}
    more = [planned[line.line_no] for line in more if line.line_no in planned]
    added = [planned[line.line_no] for line in added if line.line_no in planned]
    for line in kept:
        if line.kind == "gift" and line.ordered_qty > rows[line.line_no].ordered_qty:
            given = planned[line.line_no].ordered_qty if line.line_no in planned else 0
            line.pack_qty = rows[line.line_no].ordered_qty + given
    # The rows must be there, at their new quantity, before units are promised on them.
    for line in more:
        uow.conn.execute(
            text("UPDATE order_line SET ordered_qty = ordered_qty + :qty WHERE id = :id"),
            {"id": rows[line.line_no].id, "qty": line.pack_qty},
        )
    ids = {row.line_no: row.id for row in before}
    if added:
        ids = insert_lines(uow, order.id, added, (), ids)
    promise(uow, changes_of(plan.parts), channel_id=order.channel_id, any_backorder=plan.any_backorder)
    _put_on_shipments(uow, order, plan.parts, ids)
    if order.approved_at is not None:
        parts = [(ids[x.line_no], x, p) for x, p in plan.parts]
        request_supply(uow, pricing.rules, order_id=order.id, number=order.number, parts=parts)
    return [*kept, *added]


def _copy(line: DraftLine, delta: int) -> DraftLine:
    """The same line, asking for `delta` more base units."""
    return DraftLine(
        line_no=line.line_no,
        kind=line.kind,
        sku=line.sku,
        unit=line.sku.base_unit,
        units_per_pack=1,
        pack_qty=delta,
        unit_price_cents=0,
        price_kind=line.price_kind,
        list_price_cents=None,
    )


def _put_on_shipments(
    uow: UnitOfWork, order: Any, parts: Sequence[tuple[DraftLine, Assigned]], ids: Mapping[int, int]
) -> None:
    """Add parts to the order's own planned shipments of the same location; plan new ones only where there is none."""
    planned = {
        row.location_id: row.id
        for row in uow.rows(
            select(Shipment.location_id, Shipment.id)
            .distinct()
            .join(ShipmentLine, ShipmentLine.shipment_id == Shipment.id)
            .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
            .where(OrderLine.order_id == order.id, Shipment.status == "planned", ~Shipment.is_consolidated)
            .order_by(Shipment.id.desc())
        )
    }
    new: list[tuple[DraftLine, Assigned]] = []
    for line, part in parts:
        shipment_id = planned.get(part.location_id)
        if shipment_id is None:
            new.append((line, part))
            continue
        units = {
            "qty": part.qty or line.ordered_qty,
            "reserved": part.reserved_qty,
            "backordered": part.backordered_qty,
        }
        grown = uow.conn.execute(
            text(
                "UPDATE shipment_line SET qty = CASE WHEN is_withdrawn THEN 0 ELSE qty END + :qty, is_withdrawn = FALSE,"
                " reserved_qty = reserved_qty + :reserved,"
                " backordered_qty = backordered_qty + :backordered"
                " WHERE shipment_id = :shipment_id AND order_line_id = :line_id RETURNING id"
            ),
            {**units, "shipment_id": shipment_id, "line_id": ids[line.line_no]},
        ).first()
        if grown is None:
            uow.conn.execute(
                insert(ShipmentLine),
                {
                    "id": uow.new_id(),
                    "shipment_id": shipment_id,
                    "order_line_id": ids[line.line_no],
                    "sku_id": line.sku.id,
                    "qty": units["qty"],
                    "reserved_qty": part.reserved_qty,
                    "backordered_qty": part.backordered_qty,
                },
            )
        version = uow.conn.execute(
            text("UPDATE shipment SET version = version + 1 WHERE id = :id RETURNING version"), {"id": shipment_id}
        ).scalar_one()
        uow.changed("shipment", shipment_id, version)
    insert_shipments(
        uow,
        new,
        ids,
        delivery_method=order.delivery_method,
        planned_date=order.requested_date or uow.today,
    )


def _write_lines(uow: UnitOfWork, order: Any, draft: Draft) -> None:
    """Store quantities and money of every line, the shipping charge, the discounts and the totals."""
    ids = {row.line_no: row.id for row in uow.rows(_LINES, {"order_id": order.id})}
    statement = text(
        "UPDATE order_line SET pack_qty = :pack_qty, ordered_qty = :ordered_qty, cancelled_qty = :cancelled_qty,"
        " discount_cents = :discount,"
        " tax_cents = :tax, net_cents = :net WHERE id = :id"
    )
    uow.conn.execute(
        statement,
        [
            {
                "id": ids[line.line_no],
                "pack_qty": line.pack_qty,
                "ordered_qty": line.ordered_qty,
                "cancelled_qty": line.cancelled_qty,
                "discount": line.discount_cents,
                "tax": line.tax_cents,
                "net": line.net_cents,
            }
            for line in draft.lines
        ],
    )
    uow.conn.execute(_OWN_CHARGES, {"order_id": order.id})
    charges: list[tuple[str, str | None, int]] = [("shipping", None, draft.shipping_cents)]
    charges += [("discount", f"cancelled:{line.line_no}", -line.cancelled_cents) for line in draft.lines]
    for kind, code, cents in charges:
        if cents:
            charge = {"order_id": order.id, "kind": kind, "code": code, "amount_cents": cents}
            uow.conn.execute(insert(OrderCharge), {"id": uow.new_id(), **charge})
    uow.conn.execute(text("DELETE FROM order_discount WHERE order_id = :id"), {"id": order.id})
    for offer, amount in draft.totals.discounts:
        uow.conn.execute(
            insert(OrderDiscount),
            {
                "id": uow.new_id(),
                "order_id": order.id,
                "promotion_id": offer.promotion_id,
                "coupon_id": draft.coupon_id if offer.needs_coupon else None,
                "description": offer.name,
                "amount_cents": amount,
            },
        )
    totals = draft.totals
    uow.conn.execute(
        update(Order)
        .where(Order.id == order.id)
        .values(
            goods_cents=totals.goods_cents,
            discount_cents=totals.discount_cents,
            charges_cents=totals.charges_cents,
            tax_cents=totals.tax_cents,
            total_cents=totals.total_cents,
        )
    )


_PLACE = ("street", "city", "region", "postcode", "country")


def _change_address(uow: UnitOfWork, order: Any, command: EditOrder) -> None:
    values: dict[str, Any] = {}
    if command.address is not None:
        values |= {name: value for name, value in asdict(command.address).items() if value is not None}
        values["address_id"] = None
        if any(values.get(x, getattr(order, x)) != getattr(order, x) for x in _PLACE):  # elsewhere: not the old point
            values = {"latitude": None, "longitude": None} | values
    if command.requested_date is not None:
        values["requested_date"] = command.requested_date
    if command.note is not None:
        values["note"] = command.note
    if values:
        uow.conn.execute(update(Order).where(Order.id == order.id).values(**values))
    if command.requested_date is not None:
        for row in uow.rows(_PLANNED, {"order_id": order.id}):
            planned = {"planned_date": command.requested_date, "version": row.version + 1}
            uow.conn.execute(update(Shipment).where(Shipment.id == row.id).values(**planned))
            uow.changed("shipment", row.id, row.version + 1)


def _new_promise(uow: UnitOfWork, order: Any, rules: Any) -> tuple[date | None, bool]:
    """The day again, from what is now on the order's open shipments; kept as promised when nothing is open."""
    rows = uow.rows(
        text(
            "SELECT sl.sku_id, s.location_id, sl.backordered_qty, o.requested_date FROM shipment_line sl"
            " JOIN shipment s ON s.id = sl.shipment_id JOIN order_line l ON l.id = sl.order_line_id"
            " JOIN orders o ON o.id = l.order_id"
            " WHERE l.order_id = :id AND s.status IN ('planned', 'released', 'picked', 'packed') AND NOT sl.is_withdrawn"
        ),
        {"id": order.id},
    )
    if not rows:
        return order.promised_by_date, order.is_promise_estimated
    late = {(row.sku_id, row.location_id) for row in rows if row.backordered_qty}
    wanted = uow.conn.execute(select(Order.requested_date).where(Order.id == order.id)).scalar()
    promised, is_estimated = promised_date(uow, rules, late, wanted)
    if order.promised_by_date is not None and not late and wanted is None:
        promised = min(promised, order.promised_by_date)  # an edit never delays what is there
    return promised, is_estimated


@dataclass(frozen=True)
class OpenChange:
    """Draft a change set on an order: previewed and kept until it is applied or dropped; one at a time."""

    edit: EditOrder
    idem_key: str | None = None


def open_change(uow: UnitOfWork, actor: Actor, command: OpenChange) -> int:
    """Keep a change as the order's one open change set, with its preview; returns its id.

    The same key drafts it once, whatever became of it since.

    Raises:
        AlreadyExists: another change set is open; it says who drafted it.
        IdempotencyMismatch: the key belongs to another change set of the order.
    """
    actor.must("order.edit")
    edit = command.edit
    order = order_for_change(uow, number=edit.number, actor=actor)
    key = keyed(uow, OrderChange, command, OrderChange.order_id == order.id)
    if key.row is not None:
        return int(key.row.id)
    order = order_for_change(uow, number=edit.number, expected_version=edit.expected_version)
    other = uow.row(
        select(OrderChange.id, OrderChange.author).where(OrderChange.order_id == order.id, OrderChange.status == "open")
    )
    if other is not None:
        raise AlreadyExists(entity="change set", key=f"{order.number} ({other.author})", author=other.author)
    preview = preview_edit(uow, actor, edit)
    change_id = uow.new_id()
    uow.conn.execute(
        insert(OrderChange),
        {
            "id": change_id,
            "order_id": order.id,
            "base_version": order.version,
            "status": "open",
            "changes": asdict(edit),
            "preview": asdict(preview),
            "reason": edit.reason,
            "author": actor.name,
            "created_at": uow.now,
            **key.columns,
        },
    )
    uow.audit(actor, "order.change_opened", "orders", order.id, facts={"change_id": change_id})
    return change_id


def apply_change(uow: UnitOfWork, actor: Actor, change_id: int) -> Edited:
    """Apply an open change set; refused with VersionConflict when the order changed since it was drafted."""
    change = _close(uow, actor, change_id, "applied")
    facts = change.changes
    address = facts.get("address")
    day = facts.get("requested_date")
    return edit_order(
        uow,
        actor,
        EditOrder(
            number=change.number,
            expected_version=change.base_version,
            lines=tuple(LineChange(**line) for line in facts["lines"]),
            add=tuple(LineIn(**line) for line in facts["add"]),
            address=AddressIn(**address) if address else None,
            requested_date=date.fromisoformat(day) if day else None,
            note=facts.get("note"),
            reason=facts.get("reason"),
        ),
    )


def drop_change(uow: UnitOfWork, actor: Actor, change_id: int) -> None:
    """Drop an open change set; the order stays as it is."""
    actor.must("order.edit")
    change = _close(uow, actor, change_id, "dropped")
    uow.audit(actor, "order.change_dropped", "orders", change.order_id, facts={"change_id": change_id})


def _close(uow: UnitOfWork, actor: Actor, change_id: int, status: str) -> Any:
    change = uow.row(
        select(OrderChange.__table__, Order.number, Order.customer_id)
        .join(Order, Order.id == OrderChange.order_id)
        .where(OrderChange.id == change_id, OrderChange.status == "open")
    )
    if change is None:
        raise NotFound(entity="open change set", key=change_id)
    actor.must_own(change.customer_id, entity="open change set", key=change_id)
    uow.conn.execute(update(OrderChange).where(OrderChange.id == change_id).values(status=status, closed_at=uow.now))
    return change
