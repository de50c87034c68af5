"""Goods that come back: asked for, decided, received under inspection, then restocked, repaired or scrapped; money follows.

What a return is worth, and how its money follows, is in `returned_money.py`. When the order of an exchange is cancelled, its
return becomes one for money.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from orders_core.domain.lifecycle import must_allow
from orders_core.domain.money import half_up
from orders_core.domain.permissions import Actor
from orders_core.errors import AlreadyExists, InvalidCommand, LotRefused, NotFound, QuantityExceeded
from orders_core.notifications.tell import line_facts, ordered_lines, tell_customer
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.drafting import LineIn
from orders_core.services.idempotency import is_repeat, keyed
from orders_core.services.lookups import location_named, must_work_at
from orders_core.services.orders_state import has_shipped, order_for_change, sync_order
from orders_core.services.place_order import AddressIn, PlaceOrder, place_order
from orders_core.services.returned_money import RETURN_LINES, book_line, settle_worth
from orders_core.services.review import HoldOrder, ResumeOrder, hold_order, resume_order
from orders_core.services.stock import bring_in
from orders_core.store.inventory import Move, move
from orders_core.store.tables import (
    Channel,
    Customer,
    Location,
    Order,
    OrderLine,
    ReturnAuthorization,
    ReturnLine,
    ShipmentLine,
    ShippedLot,
    Sku,
    StockMovement,
)
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class RequestReturn:
    """Ask to return `units` ({order line no: base units}) of an order.

    kind: return (退货退款), exchange (换货), repair (维修), resend (补发), refund_only (仅退款: before it ships it stops the
    picker until decided). `is_refunded=False` takes goods back for nothing.
    """

    order_number: str
    units: Mapping[int, int]
    reason: str
    kind: str = "return"
    is_refunded: bool = True
    idem_key: str | None = None


@dataclass(frozen=True)
class DecideReturn:
    """Approve or refuse a requested return; an approved exchange or resend makes its order at price 0."""

    number: str
    is_approved: bool
    reason: str | None = None


@dataclass(frozen=True)
class ReceiveReturn:
    """Units that arrived ({order line no: base units}) at a location; they wait there for inspection (待检)."""

    number: str
    units: Mapping[int, int]
    location: str
    idem_key: str | None = None


@dataclass(frozen=True)
class Disposition:
    """What becomes of received units of one line: back on the shelf, to repair, or scrapped (返架、维修、报废)."""

    line_no: int
    restock_qty: int = 0
    repair_qty: int = 0
    scrap_qty: int = 0


@dataclass(frozen=True)
class InspectReturn:
    number: str
    dispositions: Sequence[Disposition]
    idem_key: str | None = None


@dataclass(frozen=True)
class ReturnState:
    """Where a return stands."""

    return_id: int
    number: str
    status: str
    refund_cents: int
    exchange_number: str | None = None
    is_repeat: bool = False


_ASKED = (
    select(func.coalesce(func.sum(ReturnLine.qty), 0))
    .join(ReturnAuthorization, ReturnAuthorization.id == ReturnLine.return_id)
    .where(
        ReturnLine.order_line_id == bindparam("line_id"),
        ReturnAuthorization.status.not_in(["refused", "cancelled"]),
    )
)
_ASKED_BEFORE = _ASKED.where(ReturnAuthorization.kind.not_in(["resend", "refund_only"]))
_OPEN_REFUND_ONLY = select(ReturnAuthorization.number).where(
    ReturnAuthorization.order_id == bindparam("order_id"),
    ReturnAuthorization.kind == "refund_only",
    ReturnAuthorization.status == "requested",
)
_RESENT_BEFORE = _ASKED.where(ReturnAuthorization.kind == "resend")  # a unit is sent again once


def request_return(uow: UnitOfWork, actor: Actor, command: RequestReturn) -> ReturnState:
    """Ask for a return; never more of a line than has shipped and is not asked back (or sent again) already.

    Raises QuantityExceeded naming the line and the most that can still come back.
    """
    actor.must("return.request")
    if command.kind not in ("return", "exchange", "repair", "resend", "refund_only"):
        raise InvalidCommand(
            field="kind",
            problem="not_one_of",
            value=command.kind,
            choices="return, exchange, repair, resend, refund_only",
        )
    order = order_for_change(uow, number=command.order_number, actor=actor)
    key = keyed(uow, ReturnAuthorization, command, ReturnAuthorization.order_id == order.id)
    if key.row is not None:
        return _state(uow, key.row.id, is_repeat=True)
    if command.kind == "refund_only":
        _stop_for_money(uow, actor, order)
    else:
        must_allow("return", status=order.status, key=order.number, has_left=has_shipped(uow, order.id))
    lines = {row.line_no: row for row in uow.rows(select(OrderLine.__table__).where(OrderLine.order_id == order.id))}
    if not command.units and command.kind != "refund_only":
        raise InvalidCommand(field="units", problem="no_units_named")
    return_id, number = uow.new_id(), uow.new_number("RT")
    uow.conn.execute(
        insert(ReturnAuthorization),
        {
            "id": return_id,
            "number": number,
            "order_id": order.id,
            "customer_id": order.customer_id,
            "channel_id": order.channel_id,
            "kind": command.kind,
            "status": "requested",
            "reason": command.reason,
            "is_refunded": command.is_refunded and command.kind in ("return", "refund_only"),
            "currency": order.currency,
            "business_date": uow.today,
            "requested_at": uow.now,
            **key.columns,
        },
    )
    for line_no, qty in sorted(command.units.items()):
        line = lines.get(line_no)
        if line is None:
            raise NotFound(entity="line", key=f"{order.number}/{line_no}")
        if line.kind == "component" and command.kind != "resend":  # its kit's line brings it back
            kit = next(row.line_no for row in lines.values() if row.id == line.parent_line_id)
            raise InvalidCommand(field="units", problem="part_of_a_kit", line_no=line_no, kit_no=kit)
        asked_before = _RESENT_BEFORE if command.kind == "resend" else _ASKED_BEFORE
        before = uow.conn.execute(asked_before, {"line_id": line.id}).scalar_one()
        most = line.shipped_qty - int(before)
        if type(qty) is not int or not 0 < qty <= most:
            raise QuantityExceeded(what=f"return of {order.number} line {line_no}", asked_qty=qty, limit_qty=most)
        _insert_line(uow, return_id, line, qty)
    uow.changed("return_authorization", return_id, 1, "insert")
    facts = {"return": number, "kind": command.kind, "reason": command.reason, "units": dict(command.units)}
    uow.audit(actor, "return.request", "orders", order.id, facts=facts)
    return ReturnState(return_id, number, "requested", 0)


def _insert_line(uow: UnitOfWork, return_id: int, line: Any, qty: int) -> None:
    """One return line; of a kit it is the kit's own line, its components come back with it."""
    row = {
        "return_id": return_id,
        "order_line_id": line.id,
        "sku_id": line.sku_id,
        "qty": qty,
        "unit_price_cents": half_up(line.net_cents, line.ordered_qty) if line.ordered_qty else 0,
    }
    uow.conn.execute(insert(ReturnLine), {"id": uow.new_id(), **row})


_STOPPED = "refund_only"
"""The hold that a refund-only request puts on its order, and that ends with its refusal; another hold stays."""


def _stop_for_money(uow: UnitOfWork, actor: Actor, order: Any) -> None:
    """Hold an order of which nothing has left; one such request at a time, or refusing one would let the goods go."""
    if order.status not in ("review", "waiting_stock", "ready", "picking", "held"):
        raise InvalidCommand(field="kind", problem="order_has_left", number=order.number)
    _must_be_whole(uow, order)
    other = uow.row(_OPEN_REFUND_ONLY, {"order_id": order.id})
    if other is not None:
        raise AlreadyExists(entity="return", key=other.number)
    if order.status != "held":
        hold_order(uow, _as_clerk(actor), HoldOrder(order.number, _STOPPED))


def _must_be_whole(uow: UnitOfWork, order: Any) -> None:
    """An order on hold does not say by its status that part of it has left; the money of that part is a return's."""
    if has_shipped(uow, order.id):
        raise InvalidCommand(field="kind", problem="order_has_left", number=order.number)


def _as_clerk(actor: Actor) -> Actor:
    """A customer's refund-only stops his own order: the hold is the system's, in his name."""
    return Actor(actor.name, actor.roles | {"system"}, actor.staff_id, actor.customer_id, actor.location_codes)


def decide_return(uow: UnitOfWork, actor: Actor, command: DecideReturn) -> ReturnState:
    """Approve or refuse; the customer is told. Refund-only cancels the order, exchange and resend make a free one."""
    actor.must("return.decide")
    rma, order = _returned_with_order(uow, command.number)
    if rma.status != "requested":
        raise InvalidCommand(field="return", problem="return_is_decided", number=rma.number, status=rma.status)
    goods = _goods_of(uow, rma, order)
    status = "approved" if command.is_approved else "refused"
    exchange_id = None
    refund = 0
    if rma.kind == "refund_only":
        if command.is_approved:
            refund = _cancel_for_money(uow, actor, rma, order)
            status = "closed"
        elif order.status == "held" and order.hold_reason == _STOPPED:
            resume_order(uow, actor, ResumeOrder(order.number))
    elif rma.kind == "return" and command.is_approved:
        refund = _credit_services(uow, actor, rma, order)
        if all(line.kind == "service" for line in uow.rows(RETURN_LINES, {"return_id": rma.id})):
            status = "closed"  # nothing is to come back
    elif rma.kind in ("exchange", "resend") and command.is_approved:
        exchange_id = _send_again(uow, rma, order)
        status = "closed" if rma.kind == "resend" else "approved"
    uow.conn.execute(
        update(ReturnAuthorization)
        .where(ReturnAuthorization.id == rma.id)
        .values(
            status=status,
            exchange_order_id=exchange_id,
            refund_cents=refund,
            closed_at=uow.now if status in ("closed", "refused") else None,
            version=ReturnAuthorization.version + 1,
        )
    )
    uow.changed("return_authorization", rma.id, rma.version + 1)
    facts = {"return": rma.number, "reason": command.reason}
    uow.audit(actor, f"return.{status}", "orders", order.id, facts=facts)
    tell_customer(
        uow,
        "return_decided",
        order.id,
        dedupe_key=f"return_decided:{rma.id}",
        lines=goods,
        return_number=rma.number,
        is_approved=command.is_approved,
        reason=command.reason,
        refund_cents=refund,
        return_to=_return_address(uow) if status == "approved" else None,
    )
    return _state(uow, rma.id)


def _cancel_for_money(uow: UnitOfWork, actor: Actor, rma: Any, order: Any) -> int:
    """Cancel the order of an approved refund-only request; the cents that this gives back, its refund named after it."""
    _must_be_whole(uow, order)
    cancel_order(uow, actor, CancelOrder(order.number, reason=rma.reason or _STOPPED), return_id=rma.id)
    refunded: int = uow.conn.execute(select(Order.refunded_cents).where(Order.id == order.id)).scalar_one()
    return refunded - int(order.refunded_cents)


def _credit_services(uow: UnitOfWork, actor: Actor, rma: Any, order: Any) -> int:
    """Services of an approved return cannot come back: they are taken off the order at once. Returns the cents."""
    worth = 0
    for line in uow.rows(RETURN_LINES, {"return_id": rma.id}):
        if line.kind == "service":
            worth += book_line(uow, line, line.qty, is_tax_on_top=order.tax_cents > 0, is_refunded=rma.is_refunded)
    if worth:
        settle_worth(uow, actor, order, rma, worth)
    return worth


def _goods_of(uow: UnitOfWork, rma: Any, order: Any) -> list[dict[str, Any]]:
    """What a return is about, for its notice: its own lines; of a request for money only the whole order."""
    rows = uow.rows(_GOODS, {"return_id": rma.id})
    if not rows:
        return ordered_lines(uow, order.id, order.language)
    return [
        line_facts(
            row.sku,
            row.name_en if order.language == "en" and row.name_en else row.name,
            qty=row.qty,
            unit=row.unit,
            units_per_pack=row.units_per_pack,
            base_unit=row.base_unit,
        )
        for row in rows
    ]


_GOODS = (
    select(Sku.sku, Sku.name, Sku.name_en, Sku.base_unit, OrderLine.unit, OrderLine.units_per_pack, ReturnLine.qty)
    .join(OrderLine, OrderLine.id == ReturnLine.order_line_id)
    .join(Sku, Sku.id == ReturnLine.sku_id)
    .where(ReturnLine.return_id == bindparam("return_id"))
    .order_by(OrderLine.line_no)
)


def _return_address(uow: UnitOfWork) -> str | None:
    row = uow.row(select(Location.name, Location.address).where(Location.is_default))
    return None if row is None else f"{row.name} {row.address or ''}".strip()


def _send_again(uow: UnitOfWork, rma: Any, order: Any) -> int:
    """The free order that an exchange or resend sends to the same address."""
    lines = uow.rows(RETURN_LINES, {"return_id": rma.id})
    buyer = uow.rows(
        select(Customer.code, Channel.code.label("channel"))
        .select_from(Customer)
        .join(Channel, Channel.id == order.channel_id)
        .where(Customer.id == order.customer_id)
    )[0]
    placed = place_order(
        uow,
        Actor(f"return {rma.number}", frozenset({"system"})),
        PlaceOrder(
            channel=buyer.channel,
            customer=buyer.code,
            lines=tuple(LineIn(line.sku, line.qty) for line in lines),
            idem_key=f"return:{rma.id}",
            address=AddressIn(
                order.recipient,
                order.phone,
                order.street,
                order.city,
                order.region,
                order.postcode,
                order.country,
                order.latitude,
                order.longitude,
            ),
            kind=rma.kind,
            source_order_id=order.id,
            payment_method=order.payment_method,
            delivery_method=order.delivery_method,
        ),
    )
    return placed.order_id


def receive_return(uow: UnitOfWork, actor: Actor, command: ReceiveReturn) -> ReturnState:
    """Book returned units in under inspection and settle their money; the same unit cannot be received twice.

    Raises:
        QuantityExceeded: more arrives than was agreed.
        IdempotencyMismatch: the key belongs to another arrival.
    """
    actor.must("return.receive")
    rma, order = _returned_with_order(uow, command.number)
    if is_repeat(uow, actor, "return.receive", command):
        return _state(uow, rma.id, is_repeat=True)
    if rma.status not in ("approved", "received") or rma.kind in ("resend", "refund_only"):
        raise InvalidCommand(
            field="return", problem="return_not_expected", number=rma.number, kind=rma.kind, status=rma.status
        )
    location = location_named(uow, actor, command.location)
    by_no = {line.line_no: line for line in uow.rows(RETURN_LINES, {"return_id": rma.id})}
    lots = _lots_out(uow, order.id)
    moves: list[Move] = []
    worth = 0
    for line_no, qty in sorted(command.units.items()):
        line = by_no.get(line_no)
        if line is None:
            raise NotFound(entity="return line", key=f"{rma.number}/{line_no}")
        left = line.qty - line.received_qty
        if type(qty) is not int or not 0 < qty <= left:
            raise QuantityExceeded(what=f"{rma.number} line {line_no}", asked_qty=qty, limit_qty=left)
        worth += book_line(uow, line, qty, is_tax_on_top=order.tax_cents > 0, is_refunded=rma.is_refunded)
        moves += _came_back(uow, line, qty, rma.id, location, lots)
    if location.is_stock_tracked:
        move(uow, actor, moves)
    uow.conn.execute(
        update(ReturnAuthorization)
        .where(ReturnAuthorization.id == rma.id)
        .values(
            status="received",
            location_id=location.id,
            received_at=uow.now,
            refund_cents=ReturnAuthorization.refund_cents + worth,
            version=ReturnAuthorization.version + 1,
        )
    )
    uow.changed("return_authorization", rma.id, rma.version + 1)
    if worth:
        settle_worth(uow, actor, order, rma, worth)
    uow.audit(actor, "return.receive", "orders", order.id, facts={"return": rma.number, "units": dict(command.units)})
    sync_order(uow, order.id)
    return _state(uow, rma.id)


_Lots = dict[int, dict[int, int]]  # SKU id -> lot id -> units


def _lots_out(uow: UnitOfWork, order_id: int) -> _Lots:
    """What the customer has of each lot: shipped less what came back."""
    shipped = (
        select(ShipmentLine.sku_id, ShippedLot.lot_id, ShippedLot.qty)
        .join(ShipmentLine, ShipmentLine.id == ShippedLot.shipment_line_id)
        .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
        .where(OrderLine.order_id == order_id)
    )
    returned = (
        select(StockMovement.sku_id, StockMovement.lot_id, -StockMovement.qty)
        .join(ReturnAuthorization, ReturnAuthorization.id == StockMovement.source_id)
        .where(
            StockMovement.source == "return_authorization",
            StockMovement.reason == "return",
            StockMovement.lot_id.is_not(None),
            ReturnAuthorization.order_id == order_id,
        )
    )
    return _summed([*uow.rows(shipped), *uow.rows(returned)])


def _lots_inspected(uow: UnitOfWork, return_id: int) -> _Lots:
    """What of each lot waits for inspection."""
    query = select(StockMovement.sku_id, StockMovement.lot_id, StockMovement.qty).where(
        StockMovement.source == "return_authorization",
        StockMovement.source_id == return_id,
        StockMovement.state == "inspection",
        StockMovement.lot_id.is_not(None),
    )
    return _summed(uow.rows(query))


def _summed(rows: Sequence[Any]) -> _Lots:
    lots: _Lots = defaultdict(lambda: defaultdict(int))
    for sku_id, lot_id, qty in rows:
        lots[sku_id][lot_id] += qty
    return lots


def _came_back(uow: UnitOfWork, line: Any, qty: int, return_id: int, location: Any, lots: _Lots) -> list[Move]:
    """Movements of the units that came back, one per lot; a kit comes back as its components. Counts `lots` down."""
    parts = uow.rows(
        select(OrderLine.sku_id, OrderLine.ordered_qty, OrderLine.id).where(
            OrderLine.parent_line_id == line.order_line_id, OrderLine.kind == "component"
        )
    )
    pieces = [(part.sku_id, part.ordered_qty * qty // line.ordered_qty, part.id) for part in parts]
    pieces = pieces or [(line.sku_id, qty, line.order_line_id)]
    skus = select(Sku.id, Sku.sku, Sku.is_lot_tracked).where(
        Sku.id.in_([sku_id for sku_id, _, _ in pieces]), Sku.is_stock_tracked
    )
    tracked = {row.id: row for row in uow.rows(skus)}
    moves = []
    for sku_id, units, order_line_id in pieces:
        if sku_id not in tracked:
            continue
        takes: list[tuple[int | None, int]] = [(None, units)]
        if tracked[sku_id].is_lot_tracked and location.is_stock_tracked:
            takes = [*_take_lots(uow, lots[sku_id], units, order_line_id)]
            if sum(part for _, part in takes) < units:
                raise LotRefused(lot_code="-", sku=tracked[sku_id].sku, problem="lot_of_return_unknown", units=units)
        moves += [
            Move(
                sku_id,
                location.id,
                part,
                "return",
                state="inspection",
                lot_id=lot_id,
                source="return_authorization",
                source_id=return_id,
            )
            for lot_id, part in takes
        ]
    return moves


def _take_lots(uow: UnitOfWork, free: dict[int, int], units: int, order_line_id: int) -> Iterator[tuple[int, int]]:
    """Up to `units` by lot, those shipped on this line before others of the order; `free` is counted down."""
    shipped = (
        select(ShippedLot.lot_id)
        .join(ShipmentLine, ShipmentLine.id == ShippedLot.shipment_line_id)
        .where(ShipmentLine.order_line_id == order_line_id)
    )
    own = {row.lot_id for row in uow.rows(shipped)}
    for lot_id in sorted(free, key=lambda lot: (lot not in own, lot)):
        part = min(units, free[lot_id])
        if part > 0:
            free[lot_id] -= part
            units -= part
            yield lot_id, part


def inspect_return(uow: UnitOfWork, actor: Actor, command: InspectReturn) -> ReturnState:
    """Say what becomes of received units; restocked ones can be promised again, scrapped ones are written off."""
    actor.must("return.receive")
    rma = _returned(uow, command.number)
    if is_repeat(uow, actor, "return.inspect", command):
        return _state(uow, rma.id, is_repeat=True)
    if rma.status != "received" or rma.location_id is None:
        raise InvalidCommand(field="return", problem="nothing_to_inspect", number=rma.number, status=rma.status)
    location = uow.rows(select(Location.__table__).where(Location.id == rma.location_id))[0]
    must_work_at(actor, location.code)
    by_no = {line.line_no: line for line in uow.rows(RETURN_LINES, {"return_id": rma.id})}
    lots = _lots_inspected(uow, rma.id)
    moves: list[Move] = []
    for item in command.dispositions:
        line = by_no.get(item.line_no)
        if line is None:
            raise NotFound(entity="return line", key=f"{rma.number}/{item.line_no}")
        asked = item.restock_qty + item.repair_qty + item.scrap_qty
        left = line.received_qty - line.restocked_qty - line.repair_qty - line.scrapped_qty
        if min(item.restock_qty, item.repair_qty, item.scrap_qty) < 0 or not 0 < asked <= left:
            raise QuantityExceeded(what=f"{rma.number} line {item.line_no}", asked_qty=asked, limit_qty=left)
        uow.conn.execute(
            update(ReturnLine)
            .where(ReturnLine.id == line.id)
            .values(
                restocked_qty=ReturnLine.restocked_qty + item.restock_qty,
                repair_qty=ReturnLine.repair_qty + item.repair_qty,
                scrapped_qty=ReturnLine.scrapped_qty + item.scrap_qty,
            )
        )
        for qty, reason, is_restocked in (
            (item.restock_qty, "inspection", True),
            (item.repair_qty, "repair", False),
            (item.scrap_qty, "scrap", False),
        ):
            if qty:
                for back in _came_back(uow, line, qty, rma.id, location, lots):
                    out = {**back.__dict__, "qty": -back.qty, "reason": reason}
                    moves.append(Move(**out))
                    if is_restocked:
                        moves.append(Move(**{**back.__dict__, "reason": reason, "state": "on_hand"}))
    if location.is_stock_tracked:
        bring_in(uow, actor, moves)
    done = all(
        line.received_qty == line.restocked_qty + line.repair_qty + line.scrapped_qty and line.received_qty == line.qty
        for line in uow.rows(RETURN_LINES, {"return_id": rma.id})
        if line.kind != "service"
    )
    uow.conn.execute(
        update(ReturnAuthorization)
        .where(ReturnAuthorization.id == rma.id)
        .values(
            status="closed" if done else "received",
            closed_at=uow.now if done else None,
            version=ReturnAuthorization.version + 1,
        )
    )
    uow.changed("return_authorization", rma.id, rma.version + 1)
    facts = {"return": rma.number, "dispositions": [x.__dict__ for x in command.dispositions]}
    uow.audit(actor, "return.inspect", "orders", rma.order_id, facts=facts)
    return _state(uow, rma.id)


def kept_qty(uow: UnitOfWork, order_number: str) -> dict[int, int]:
    """Line number → units the customer has and pays for: delivered less what came back for money."""
    came_back = (
        select(func.coalesce(func.sum(ReturnLine.received_qty), 0))
        .join(ReturnAuthorization, ReturnAuthorization.id == ReturnLine.return_id)
        .where(ReturnLine.order_line_id == OrderLine.id, ReturnAuthorization.is_refunded)
        .scalar_subquery()
    )
    rows = uow.rows(
        select(OrderLine.line_no, OrderLine.delivered_qty, came_back.label("came_back_qty"))
        .join(Order, Order.id == OrderLine.order_id)
        .where(Order.number == order_number)
    )
    return {row.line_no: row.delivered_qty - int(row.came_back_qty) for row in rows}


def _returned_with_order(uow: UnitOfWork, number: str) -> tuple[Any, Any]:
    """A return and its order, both locked: the order first, as an edit does that passes a new price on to its returns."""
    query = select(ReturnAuthorization.order_id).where(ReturnAuthorization.number == number)
    order_id = uow.conn.execute(query).scalar()
    if order_id is None:
        raise NotFound(entity="return", key=number)
    order = order_for_change(uow, order_id=order_id)
    return _returned(uow, number), order


def _returned(uow: UnitOfWork, number: str) -> Any:
    query = select(ReturnAuthorization.__table__).where(ReturnAuthorization.number == number)
    row = uow.row(query if uow.is_sqlite else query.with_for_update(key_share=True))
    if row is None:
        raise NotFound(entity="return", key=number)
    return row


def _state(uow: UnitOfWork, return_id: int, *, is_repeat: bool = False) -> ReturnState:
    row = uow.rows(
        select(
            ReturnAuthorization.id,
            ReturnAuthorization.number,
            ReturnAuthorization.status,
            ReturnAuthorization.refund_cents,
            Order.number.label("exchange_number"),
        )
        .outerjoin(Order, Order.id == ReturnAuthorization.exchange_order_id)
        .where(ReturnAuthorization.id == return_id)
    )[0]
    return ReturnState(row.id, row.number, row.status, row.refund_cents, row.exchange_number, is_repeat)
