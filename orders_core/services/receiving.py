"""Goods from suppliers: purchase orders, their confirmed dates, goods receipts, and who gets what of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotAllowed, NotFound, QuantityExceeded
from orders_core.services.fill import Filled, Level, fill_due, fill_waiting, lock_waiting_orders, who_would_get
from orders_core.services.idempotency import is_repeat, keyed
from orders_core.services.lookups import location_named, must_be_in, must_be_qty, must_work_at, skus_named
from orders_core.services.review import rules_of
from orders_core.services.shortage import tell_delay
from orders_core.services.stock import StockChanged, StockIn, bring_in, levels_now, lot_named
from orders_core.store.inventory import Move, move
from orders_core.store.tables import (
    GoodsReceipt,
    GoodsReceiptLine,
    Location,
    Order,
    OrderLine,
    PurchaseOrder,
    PurchaseOrderLine,
    PurchaseRequest,
    Shipment,
    ShipmentLine,
    SuggestionApproval,
    Supplier,
    SupplierSku,
)
from orders_core.store.uow import UnitOfWork

# ------------------------------------------------------------------------------------------- purchase orders

OPEN_PURCHASE = ("draft", "sent", "confirmed")
"""Purchase orders of which something may still come."""


@dataclass(frozen=True)
class PurchaseLine:
    """What to buy: base units; without a cost the supplier's price counts. `suggestion` is where the idea came from."""

    sku: str
    qty: int
    unit_cost_cents: int | None = None
    expected_date: date | None = None
    suggestion: Any = None


@dataclass(frozen=True)
class CreatePurchaseOrder:
    """An order to a supplier, delivered to one location; `requests` are the purchase requests it serves (ids)."""

    supplier: str
    location: str
    lines: Sequence[PurchaseLine]
    expected_date: date | None = None
    requests: Sequence[int] = ()
    source_run_key: str | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class ConfirmPurchaseOrder:
    """The supplier confirmed: the goods come on that day. `line_dates` (line no -> day) where lines differ."""

    number: str
    expected_date: date
    line_dates: tuple[tuple[int, date], ...] = ()


@dataclass(frozen=True)
class ClosePurchaseOrder:
    """Nothing more comes: what was not received is cancelled."""

    number: str
    reason: str


@dataclass(frozen=True)
class PurchaseOrderState:
    """A purchase order as it is; `told_orders` were told another date because of it."""

    purchase_order_id: int
    number: str
    status: str
    total_cents: int
    told_orders: tuple[str, ...] = ()
    is_repeat: bool = False


def create_purchase_order(
    uow: UnitOfWork, actor: Actor, command: CreatePurchaseOrder, *, approved_by: str | None = None
) -> PurchaseOrderState:
    """Order goods from a supplier.

    Raises:
        NotFound: no such supplier, location, SKU or open request.
        InvalidCommand: a SKU has no cost here, and the supplier quotes none; or the supplier is not active.
    """
    actor.must("purchase.order")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, PurchaseOrder, command)
    if once.row is not None:
        return PurchaseOrderState(once.row.id, once.row.number, once.row.status, once.row.total_cents, is_repeat=True)
    supplier = uow.row(select(Supplier.__table__).where(Supplier.code == command.supplier))
    if supplier is None:
        raise NotFound(entity="supplier", key=command.supplier)
    if not supplier.is_active:
        raise InvalidCommand(field="supplier", problem="supplier_is_inactive", supplier=supplier.code)
    if not command.lines:
        raise InvalidCommand(field="lines", problem="purchase_without_lines")
    skus = skus_named(uow, [line.sku for line in command.lines])
    costs = _supplier_costs(uow, supplier.id, [sku.id for sku in skus.values()])
    order_id, number = uow.new_id(1 + len(command.lines)), uow.new_number("PO")
    rows = []
    for line_no, line in enumerate(command.lines, 1):
        must_be_qty(line.qty, f"line {line_no} ({line.sku})")
        sku = skus[line.sku]
        cost = line.unit_cost_cents if line.unit_cost_cents is not None else costs.get(sku.id)
        if cost is None:
            raise InvalidCommand(
                field=f"lines[{line_no}].unit_cost_cents", problem="no_quote", supplier=supplier.code, sku=sku.sku
            )
        rows.append(
            {
                "id": order_id + line_no,
                "purchase_order_id": order_id,
                "line_no": line_no,
                "sku_id": sku.id,
                "qty": line.qty,
                "unit_cost_cents": cost,
                "expected_date": line.expected_date,
                "suggestion": line.suggestion,
            }
        )
    total = sum(row["qty"] * row["unit_cost_cents"] for row in rows)
    uow.conn.execute(
        insert(PurchaseOrder),
        {
            "id": order_id,
            "number": number,
            "supplier_id": supplier.id,
            "location_id": place.id,
            "status": "sent",
            "currency": supplier.currency,
            "total_cents": total,
            "ordered_at": uow.now,
            "business_date": uow.today,
            "expected_date": command.expected_date,
            "source_run_key": command.source_run_key,
            "created_at": uow.now,
            "created_by": actor.name,
            "approved_by": approved_by,
            **once.columns,
        },
    )
    uow.conn.execute(insert(PurchaseOrderLine), rows)
    _serve_requests(uow, command.requests, {row["sku_id"]: row["id"] for row in rows})
    uow.changed("purchase_order", order_id, 1, "insert")
    uow.audit(actor, "purchase_order.create", "purchase_order", order_id, version=1, facts={"number": number})
    return PurchaseOrderState(order_id, number, "sent", total)


def _supplier_costs(uow: UnitOfWork, supplier_id: int, sku_ids: Sequence[int]) -> dict[int, int]:
    rows = uow.rows(
        select(SupplierSku.sku_id, SupplierSku.unit_cost_cents).where(
            SupplierSku.supplier_id == supplier_id, SupplierSku.sku_id.in_(sorted(set(sku_ids)))
        )
    )
    return {row.sku_id: row.unit_cost_cents for row in rows}


def _serve_requests(uow: UnitOfWork, requests: Sequence[int], line_of_sku: dict[int, int]) -> None:
    for request_id in requests:
        request = uow.row(
            select(PurchaseRequest.__table__).where(PurchaseRequest.id == request_id, PurchaseRequest.status == "open")
        )
        if request is None or request.sku_id not in line_of_sku:
            raise NotFound(entity="open purchase request", key=request_id)
        version = uow.conn.execute(
            update(PurchaseRequest)
            .where(PurchaseRequest.id == request_id)
            .values(
                status="ordered",
                purchase_order_line_id=line_of_sku[request.sku_id],
                version=PurchaseRequest.version + 1,
            )
            .returning(PurchaseRequest.version)
        ).scalar_one()
        uow.changed("purchase_request", request_id, version)


def confirm_purchase_order(uow: UnitOfWork, actor: Actor, command: ConfirmPurchaseOrder) -> PurchaseOrderState:
    """The supplier's day is now firm. Orders that wait for these goods get their date anew; who gets a later one is told.

    Raises:
        NotAllowed: it is received or cancelled already.
    """
    actor.must("purchase.order")
    order = _purchase_order(uow, command.number)
    must_be_in(order, "confirm", OPEN_PURCHASE, "purchase order")
    _advance(uow, order, status="confirmed", expected_date=command.expected_date, is_date_confirmed=True)
    for line_no, day in command.line_dates:
        uow.conn.execute(
            update(PurchaseOrderLine)
            .where(PurchaseOrderLine.purchase_order_id == order.id, PurchaseOrderLine.line_no == line_no)
            .values(expected_date=day)
        )
    uow.audit(
        actor,
        "purchase_order.confirm",
        "purchase_order",
        order.id,
        facts={"expected_date": command.expected_date.isoformat()},
    )
    told = _date_anew(uow, order)
    return PurchaseOrderState(order.id, order.number, "confirmed", order.total_cents, told)


_WAITING_FOR = (
    select(Order.id, Order.number, Order.channel_id, Order.promised_by_date)
    .distinct()
    .join(OrderLine, OrderLine.order_id == Order.id)
    .join(ShipmentLine, ShipmentLine.order_line_id == OrderLine.id)
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(PurchaseOrderLine, PurchaseOrderLine.sku_id == ShipmentLine.sku_id)
    .where(
        PurchaseOrderLine.purchase_order_id == bindparam("purchase_order_id"),
        Shipment.location_id == bindparam("location_id"),
        ShipmentLine.backordered_qty > 0,
        Order.cancelled_at.is_(None),
    )
    .order_by(Order.id)
)


def _date_anew(uow: UnitOfWork, order: Any) -> tuple[str, ...]:
    """Work out the promised dates of the orders that wait for a purchase order's goods; the numbers of those told."""
    told = []
    for row in uow.rows(_WAITING_FOR, {"purchase_order_id": order.id, "location_id": order.location_id}):
        if not uow.is_sqlite:
            uow.rows(select(Order.id).where(Order.id == row.id).with_for_update(key_share=True))
        rules, _ = rules_of(uow, row.channel_id)
        before = row.promised_by_date
        tell_delay(uow, rules, row.id)
        after = uow.conn.execute(select(Order.promised_by_date).where(Order.id == row.id)).scalar_one()
        if before is None or (after is not None and after > before):
            told.append(row.number)
    return tuple(told)


def close_purchase_order(uow: UnitOfWork, actor: Actor, command: ClosePurchaseOrder) -> PurchaseOrderState:
    """End a purchase order: what did not come is cancelled, and who waits for it gets a new date. Suggestions it came from
    are open again where nothing of them came.

    Raises:
        NotFound, PermissionDenied: no such purchase order; the actor may not order, or not for its location.
        NotAllowed: all of it is received.
    """
    actor.must("purchase.order")
    order = _purchase_order(uow, command.number)
    must_work_at(actor, uow.conn.execute(select(Location.code).where(Location.id == order.location_id)).scalar_one())
    if order.status == "received":
        raise NotAllowed(
            action="close",
            entity="purchase order",
            key=order.number,
            status=order.status,
            reason="all of it is received",
            reason_zh="已全部收货",
            reason_code="all_came",
        )
    if order.status not in OPEN_PURCHASE:
        return PurchaseOrderState(order.id, order.number, order.status, order.total_cents, is_repeat=True)
    uow.conn.execute(
        text(
            "UPDATE purchase_order_line SET cancelled_qty = CASE WHEN qty > received_qty THEN qty - received_qty ELSE 0 END"
            " WHERE purchase_order_id = :id"
        ),
        {"id": order.id},
    )
    nothing_came = select(PurchaseOrderLine.id).where(
        PurchaseOrderLine.purchase_order_id == order.id, PurchaseOrderLine.received_qty == 0
    )
    uow.conn.execute(
        update(SuggestionApproval)
        .where(SuggestionApproval.purchase_order_line_id.in_(nothing_came))
        .values(withdrawn_at=uow.now)
    )
    came = uow.conn.execute(
        text("SELECT COALESCE(SUM(received_qty), 0) FROM purchase_order_line WHERE purchase_order_id = :id"),
        {"id": order.id},
    ).scalar_one()
    status = "closed" if came else "cancelled"
    _advance(uow, order, status=status)
    uow.audit(actor, "purchase_order.close", "purchase_order", order.id, facts={"reason": command.reason})
    return PurchaseOrderState(order.id, order.number, status, order.total_cents, _date_anew(uow, order))


def _purchase_order(uow: UnitOfWork, number: str) -> Any:
    query = select(PurchaseOrder.__table__).where(PurchaseOrder.number == number)
    row = uow.row(query if uow.is_sqlite else query.with_for_update())
    if row is None:
        raise NotFound(entity="purchase order", key=number)
    return row


def _advance(uow: UnitOfWork, order: Any, **values: Any) -> None:
    version = uow.conn.execute(
        update(PurchaseOrder)
        .where(PurchaseOrder.id == order.id)
        .values(version=PurchaseOrder.version + 1, **values)
        .returning(PurchaseOrder.version)
    ).scalar_one()
    uow.changed("purchase_order", order.id, version)


# --------------------------------------------------------------------------------------------- goods receipts


@dataclass(frozen=True)
class ReceivedLine:
    """Goods that arrived, base units. Without a cost that of the purchase order counts.

    `is_for_inspection`: they lie apart and are promised to nobody until `inspect_goods` says so.
    """

    sku: str
    qty: int
    lot_code: str | None = None
    expiry_date: date | None = None
    unit_cost_cents: int | None = None
    is_for_inspection: bool = False


@dataclass(frozen=True)
class ReceiveGoods:
    """An arrival at a location, against a purchase order or without one."""

    location: str
    lines: Sequence[ReceivedLine]
    purchase_order: str | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class ReceivedGoods:
    """The receipt, who got what of it, and what became of the purchase order."""

    receipt_id: int
    number: str
    filled: tuple[Filled, ...]
    purchase_order_status: str | None = None
    is_repeat: bool = False


def receive_goods(uow: UnitOfWork, actor: Actor, command: ReceiveGoods) -> ReceivedGoods:
    """Book goods in and give them to the orders that wait, by priority, then the day wanted, then age.

    Raises:
        QuantityExceeded: more than the purchase order still has to bring; receive the rest without it.
        LotRefused: a SKU kept by lot came without its lot, or with another expiry date.
        NotAllowed: the purchase order is closed.
    """
    actor.must("stock.receive")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, GoodsReceipt, command)
    if once.row is not None:
        return ReceivedGoods(once.row.id, once.row.number, (), is_repeat=True)
    if not command.lines:
        raise InvalidCommand(field="lines", problem="receipt_without_lines")
    skus = skus_named(uow, [line.sku for line in command.lines])
    order, open_lines = None, {}
    if command.purchase_order is not None:
        order = _purchase_order(uow, command.purchase_order)
        must_be_in(order, "receive", OPEN_PURCHASE, "purchase order")
        if order.location_id != place.id:
            raise InvalidCommand(field="location", problem="delivered_elsewhere", number=order.number)
        open_lines = _open_lines(uow, order.id)
    receipt_id, number = uow.new_id(), uow.new_number("GR")
    rows, moves = _received(uow, command, place, skus, order, open_lines, receipt_id)
    uow.conn.execute(
        insert(GoodsReceipt),
        {
            "id": receipt_id,
            "number": number,
            "purchase_order_id": None if order is None else order.id,
            "location_id": place.id,
            "received_at": uow.now,
            "business_date": uow.today,
            "actor": actor.name,
            **once.columns,
        },
    )
    uow.conn.execute(insert(GoodsReceiptLine), rows)
    levels: set[Level] = {(m.sku_id, m.location_id) for m in moves if m.state == "on_hand"}
    lock_waiting_orders(uow, levels)
    move(uow, actor, moves)
    status = None if order is None else _received_of(uow, order, rows)
    filled = fill_waiting(uow, actor, levels)
    uow.audit(actor, "goods.receive", "goods_receipt", receipt_id, facts={"number": number, "location": place.code})
    return ReceivedGoods(receipt_id, number, tuple(filled), status)


def _open_lines(uow: UnitOfWork, order_id: int) -> dict[int, list[Any]]:
    """SKU id -> the purchase order's lines with what they still have to bring (a list to count down)."""
    lines: dict[int, list[Any]] = defaultdict(list)
    for row in uow.rows(
        select(
            PurchaseOrderLine.id,
            PurchaseOrderLine.sku_id,
            PurchaseOrderLine.unit_cost_cents,
            (PurchaseOrderLine.qty - PurchaseOrderLine.received_qty - PurchaseOrderLine.cancelled_qty).label(
                "open_qty"
            ),
        )
        .where(PurchaseOrderLine.purchase_order_id == order_id)
        .order_by(PurchaseOrderLine.line_no)
    ):
        lines[row.sku_id].append([row.id, int(row.open_qty), row.unit_cost_cents])
    return lines


def _received(
    uow: UnitOfWork,
    command: ReceiveGoods,
    place: Any,
    skus: Any,
    order: Any,
    open_lines: dict[int, list[Any]],
    receipt_id: int,
) -> tuple[list[dict[str, Any]], list[Move]]:
    """The receipt's lines and movements, units shared over the purchase order's lines of the SKU."""
    rows: list[dict[str, Any]] = []
    moves: list[Move] = []
    for number, line in enumerate(command.lines, 1):
        must_be_qty(line.qty, f"line {number} ({line.sku})")
        sku = skus[line.sku]
        lot_id = lot_named(
            uow,
            sku,
            line.lot_code,
            expiry_date=line.expiry_date,
            unit_cost_cents=line.unit_cost_cents,
            is_new=True,
        )
        parts: list[tuple[int | None, int, int | None]] = []
        if order is None:
            parts.append((None, line.qty, line.unit_cost_cents))
        else:
            left = line.qty
            for open_line in open_lines.get(sku.id, []):
                take = min(left, open_line[1])
                if take > 0:
                    open_line[1] -= take
                    left -= take
                    cost = line.unit_cost_cents if line.unit_cost_cents is not None else open_line[2]
                    parts.append((open_line[0], take, cost))
            if left:
                raise QuantityExceeded(what=f"{order.number} {line.sku}", asked_qty=line.qty, limit_qty=line.qty - left)
        state = "inspection" if line.is_for_inspection else "on_hand"
        for line_id, qty, cost in parts:
            rows.append(
                {
                    "id": uow.new_id(),
                    "goods_receipt_id": receipt_id,
                    "purchase_order_line_id": line_id,
                    "sku_id": sku.id,
                    "lot_id": lot_id,
                    "qty": qty,
                    "unit_cost_cents": cost,
                    "state": state,
                }
            )
            if sku.is_stock_tracked and place.is_stock_tracked:
                moves.append(
                    Move(
                        sku.id,
                        place.id,
                        qty,
                        "receipt",
                        lot_id=lot_id,
                        state=state,
                        source="goods_receipt",
                        source_id=receipt_id,
                        unit_cost_cents=cost,
                    )
                )
    return rows, moves


def _received_of(uow: UnitOfWork, order: Any, rows: Sequence[dict[str, Any]]) -> str:
    """Count what came on the purchase order's lines; it is received when nothing is open any more."""
    uow.conn.execute(
        text("UPDATE purchase_order_line SET received_qty = received_qty + :qty WHERE id = :purchase_order_line_id"),
        [{"qty": row["qty"], "purchase_order_line_id": row["purchase_order_line_id"]} for row in rows],
    )
    left = uow.conn.execute(
        text(
            "SELECT COUNT(*) FROM purchase_order_line WHERE purchase_order_id = :id"
            " AND qty > received_qty + cancelled_qty"
        ),
        {"id": order.id},
    ).scalar_one()
    status = order.status if left else "received"
    _advance(uow, order, status=status)
    return str(status)


# ------------------------------------------------------------------------------------------------ inspection


@dataclass(frozen=True)
class InspectGoods:
    """What came of goods under inspection (待检): accepted units go on hand, refused ones are scrapped."""

    location: str
    sku: str
    accepted_qty: int
    refused_qty: int = 0
    lot_code: str | None = None
    note: str | None = None
    idem_key: str | None = None


def inspect_goods(uow: UnitOfWork, actor: Actor, command: InspectGoods) -> StockChanged:
    """Decide on goods under inspection; what is accepted goes to the orders that wait.

    Raises:
        QuantityExceeded: fewer are under inspection.
    """
    actor.must("stock.receive")
    place = location_named(uow, actor, command.location)
    sku = skus_named(uow, [command.sku])[command.sku]
    if is_repeat(uow, actor, "stock.inspect", command):
        return StockChanged(levels_now(uow, place.id, [sku.id]), is_repeat=True)
    must_be_qty(command.accepted_qty, f"{sku.sku} accepted", smallest=0)
    must_be_qty(command.refused_qty, f"{sku.sku} refused", smallest=0)
    if command.accepted_qty + command.refused_qty == 0:
        raise InvalidCommand(field="accepted_qty", problem="nothing_decided")
    lot_id = lot_named(uow, sku, command.lot_code)
    moves = []
    if command.accepted_qty:
        qty = command.accepted_qty
        moves.append(Move(sku.id, place.id, -qty, "inspection", lot_id=lot_id, state="inspection", note=command.note))
        moves.append(Move(sku.id, place.id, qty, "inspection", lot_id=lot_id, note=command.note))
    if command.refused_qty:
        qty = command.refused_qty
        moves.append(Move(sku.id, place.id, -qty, "scrap", lot_id=lot_id, state="inspection", note=command.note))
    bring_in(uow, actor, moves)
    uow.audit(actor, "stock.inspect", "sku", sku.id, facts={"location": place.code, "note": command.note})
    return StockChanged(levels_now(uow, place.id, [sku.id]))


# ---------------------------------------------------------------------------------------------- who gets what


@dataclass(frozen=True)
class WhoGetsWhat:
    """What would arrive at a location; empty: what lies there free."""

    location: str
    lines: Sequence[StockIn] = ()


def who_gets_what(uow: UnitOfWork, actor: Actor, command: WhoGetsWhat) -> list[Filled]:
    """Who would get what if these goods arrived now, in the order served (C5). Changes nothing.

    It is the same function that fills orders, so the real receipt gives the same.
    """
    actor.must("stock.receive")
    place = location_named(uow, actor, command.location)
    skus = skus_named(uow, [line.sku for line in command.lines])
    arriving: dict[Level, int] = defaultdict(int)
    for line in command.lines:
        arriving[skus[line.sku].id, place.id] += line.qty
    if not command.lines:
        waiting = uow.rows(
            text("SELECT sku_id FROM stock_level WHERE location_id = :id AND backordered_qty > 0"), {"id": place.id}
        )
        arriving.update({(row.sku_id, place.id): 0 for row in waiting})
    return who_would_get(uow, arriving)


@dataclass(frozen=True)
class ReserveDue:
    """Reserve what is free for the orders whose day has come near; `location` narrows it. Run by the daily job."""

    location: str | None = None


def reserve_due(uow: UnitOfWork, actor: Actor, command: ReserveDue) -> list[Filled]:
    """Give free stock to every order that waits and may have it by now (by-date reservations, see rules.reserve)."""
    actor.must("stock.receive")
    if command.location is None:
        return fill_due(uow, actor)
    place = location_named(uow, actor, command.location)
    waiting = uow.rows(
        text("SELECT sku_id FROM stock_level WHERE location_id = :id AND backordered_qty > 0"), {"id": place.id}
    )
    return fill_due(uow, actor, {(row.sku_id, place.id) for row in waiting})
