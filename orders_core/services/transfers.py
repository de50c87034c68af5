"""Goods from one location to another: planned (or staged for goods still to come), sent, received."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotFound, QuantityExceeded
from orders_core.services.fill import free_expired
from orders_core.services.idempotency import keyed
from orders_core.services.lookups import location_named, must_be_in, must_be_qty, must_work_at, skus_named
from orders_core.services.stock import LotTake, bring_in, free_lots, levels_now, lot_named, take_fefo
from orders_core.store.inventory import Move, move
from orders_core.store.tables import (
    Location,
    Sku,
    Transfer,
    TransferLine,
)
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class TransferQty:
    """Units of one SKU to move."""

    sku: str
    qty: int
    lot_code: str | None = None


@dataclass(frozen=True)
class PlanTransfer:
    """Goods to go from one location to another. `is_staged` lets it wait for goods that are still to come."""

    from_location: str
    to_location: str
    lines: Sequence[TransferQty]
    is_staged: bool = False
    idem_key: str | None = None


@dataclass(frozen=True)
class TransferState:
    """A transfer as it is."""

    transfer_id: int
    number: str
    status: str
    is_repeat: bool = False


@dataclass(frozen=True)
class ShipTransfer:
    number: str


@dataclass(frozen=True)
class ReceiveTransfer:
    """What arrived, per SKU; everything that was sent when empty."""

    number: str
    received: Mapping[str, int] | None = None


@dataclass(frozen=True)
class CancelTransfer:
    number: str


def plan_transfer(uow: UnitOfWork, actor: Actor, command: PlanTransfer) -> TransferState:
    """Plan to move goods; they leave the stock with `ship_transfer`.

    Raises:
        QuantityExceeded: less is free at the source than asked for, and it is not staged.
    """
    actor.must("stock.move")
    source = location_named(uow, actor, command.from_location)
    target = uow.row(select(Location.__table__).where(Location.code == command.to_location))
    if target is None:
        raise NotFound(entity="location", key=command.to_location)
    if target.id == source.id:
        raise InvalidCommand(field="to_location", problem="same_location", location=target.code)
    once = keyed(uow, Transfer, command)
    if once.row is not None:
        return TransferState(once.row.id, once.row.number, once.row.status, is_repeat=True)
    skus = skus_named(uow, [line.sku for line in command.lines])
    for number, line in enumerate(command.lines, 1):
        must_be_qty(line.qty, f"line {number} ({line.sku})")
    if not command.is_staged:
        _must_be_free(uow, source, skus, command.lines)
    transfer_id = uow.new_id(1 + len(command.lines))
    number_ = uow.new_number("TR")
    status = "staged" if command.is_staged else "planned"
    uow.conn.execute(
        insert(Transfer),
        {
            "id": transfer_id,
            "number": number_,
            "from_location_id": source.id,
            "to_location_id": target.id,
            "status": status,
            "created_at": uow.now,
            **once.columns,
        },
    )
    uow.conn.execute(
        insert(TransferLine),
        [
            {
                "id": transfer_id + i,
                "transfer_id": transfer_id,
                "sku_id": skus[line.sku].id,
                "lot_id": None if line.lot_code is None else lot_named(uow, skus[line.sku], line.lot_code),
                "qty": line.qty,
            }
            for i, line in enumerate(command.lines, 1)
        ],
    )
    uow.changed("transfer", transfer_id, 1, "insert")
    uow.audit(actor, "transfer.plan", "transfer", transfer_id, version=1, facts={"number": number_, "status": status})
    return TransferState(transfer_id, number_, status)


def _must_be_free(uow: UnitOfWork, source: Any, skus: Mapping[str, Any], lines: Sequence[TransferQty]) -> None:
    asked: dict[str, int] = defaultdict(int)
    for line in lines:
        asked[line.sku] += line.qty
    free_expired(uow, {skus[code].id for code in asked})  # what a cart kept too long may leave
    free = {
        level.sku: level.on_hand_qty - level.reserved_qty
        for level in levels_now(uow, source.id, [skus[code].id for code in asked])
    }
    for code, qty in asked.items():
        if skus[code].is_stock_tracked and source.is_stock_tracked and qty > free.get(code, 0):
            raise QuantityExceeded(
                what=f"transfer {code}@{source.code}", asked_qty=qty, limit_qty=max(0, free.get(code, 0))
            )


def ship_transfer(uow: UnitOfWork, actor: Actor, command: ShipTransfer) -> TransferState:
    """The goods leave the source; on their way they belong to no location's stock.

    Raises:
        QuantityExceeded: meanwhile they are promised to orders, or have not come yet (staged).
    """
    actor.must("stock.move")
    transfer, lines = _transfer(uow, command.number)
    if transfer.status in ("in_transit", "received"):
        return TransferState(transfer.id, transfer.number, transfer.status, is_repeat=True)
    must_be_in(transfer, "ship", ("staged", "planned"))
    must_work_at(actor, transfer.from_code)
    free_expired(uow, {line.sku_id for line in lines})
    moves: list[Move] = []
    for line in lines:
        takes = [LotTake(line.lot_id, line.qty)]
        if line.is_lot_tracked and line.lot_id is None:
            takes = take_fefo(free_lots(uow, transfer.from_location_id, [line.sku_id])[line.sku_id], line.qty)
            there = sum(take.qty for take in takes)
            if there < line.qty:
                raise QuantityExceeded(
                    what=f"transfer {line.sku}@{transfer.from_code}", asked_qty=line.qty, limit_qty=there
                )
        if line.is_stock_tracked and transfer.from_tracked:
            moves += [
                Move(
                    line.sku_id,
                    transfer.from_location_id,
                    -take.qty,
                    "transfer_out",
                    lot_id=take.lot_id,
                    source="transfer",
                    source_id=transfer.id,
                )
                for take in takes
            ]
        _ship_transfer_line(uow, transfer.id, line, takes)
    move(uow, actor, moves)
    return _advance(uow, actor, transfer, "in_transit", "transfer.ship", shipped_at=uow.now)


def _ship_transfer_line(uow: UnitOfWork, transfer_id: int, line: Any, takes: Sequence[LotTake]) -> None:
    """The line is sent; when it took several lots, it becomes one line per lot, so that they arrive as such."""
    first, *others = takes
    uow.conn.execute(
        update(TransferLine)
        .where(TransferLine.id == line.id)
        .values(lot_id=first.lot_id, qty=first.qty, shipped_qty=first.qty)
    )
    for take in others:
        uow.conn.execute(
            insert(TransferLine),
            {
                "id": uow.new_id(),
                "transfer_id": transfer_id,
                "sku_id": line.sku_id,
                "lot_id": take.lot_id,
                "qty": take.qty,
                "shipped_qty": take.qty,
            },
        )


def receive_transfer(uow: UnitOfWork, actor: Actor, command: ReceiveTransfer) -> TransferState:
    """The goods arrive; orders that wait there get theirs. What was sent and did not arrive stays on the line.

    Raises:
        QuantityExceeded: more than was sent.
    """
    actor.must("stock.receive")
    transfer, lines = _transfer(uow, command.number)
    if transfer.status == "received":
        return TransferState(transfer.id, transfer.number, transfer.status, is_repeat=True)
    must_be_in(transfer, "receive", ("in_transit",))
    must_work_at(actor, transfer.to_code)
    left = None if command.received is None else dict(command.received)
    moves: list[Move] = []
    for line in lines:
        qty = line.shipped_qty if left is None else min(line.shipped_qty, left.get(line.sku, 0))
        if left is not None and line.sku in left:
            left[line.sku] -= qty
        if qty == 0:
            continue
        uow.conn.execute(update(TransferLine).where(TransferLine.id == line.id).values(received_qty=qty))
        if line.is_stock_tracked and transfer.to_tracked:
            moves.append(
                Move(
                    line.sku_id,
                    transfer.to_location_id,
                    qty,
                    "transfer_in",
                    lot_id=line.lot_id,
                    source="transfer",
                    source_id=transfer.id,
                )
            )
    for sku, qty in (left or {}).items():
        if qty > 0:
            sent = sum(line.shipped_qty for line in lines if line.sku == sku)
            raise QuantityExceeded(what=f"{transfer.number} {sku}", asked_qty=sent + qty, limit_qty=sent)
    bring_in(uow, actor, moves)
    return _advance(uow, actor, transfer, "received", "transfer.receive", received_at=uow.now)


def cancel_transfer(uow: UnitOfWork, actor: Actor, command: CancelTransfer) -> TransferState:
    """Call a transfer off that has not left."""
    actor.must("stock.move")
    transfer, _ = _transfer(uow, command.number)
    if transfer.status == "cancelled":
        return TransferState(transfer.id, transfer.number, transfer.status, is_repeat=True)
    must_be_in(transfer, "cancel", ("staged", "planned"))
    return _advance(uow, actor, transfer, "cancelled", "transfer.cancel")


_TRANSFER = text(
    "SELECT t.id, t.number, t.status, t.version, t.from_location_id, t.to_location_id, a.code AS from_code,"
    " b.code AS to_code, a.is_stock_tracked AS from_tracked, b.is_stock_tracked AS to_tracked FROM transfer t"
    " JOIN location a ON a.id = t.from_location_id JOIN location b ON b.id = t.to_location_id WHERE t.number = :number"
)
_TRANSFER_LOCKED = text(f"{_TRANSFER.text} FOR UPDATE OF t")
_TRANSFER_LINES = (
    select(
        TransferLine.id,
        TransferLine.sku_id,
        TransferLine.lot_id,
        TransferLine.qty,
        TransferLine.shipped_qty,
        Sku.sku,
        Sku.is_lot_tracked,
        Sku.is_stock_tracked,
    )
    .join(Sku, Sku.id == TransferLine.sku_id)
    .where(TransferLine.transfer_id == bindparam("transfer_id"))
    .order_by(TransferLine.sku_id, TransferLine.id)
)


def _transfer(uow: UnitOfWork, number: str) -> tuple[Any, Sequence[Any]]:
    row = uow.row(_TRANSFER if uow.is_sqlite else _TRANSFER_LOCKED, {"number": number})
    if row is None:
        raise NotFound(entity="transfer", key=number)
    return row, uow.rows(_TRANSFER_LINES, {"transfer_id": row.id})


def _advance(uow: UnitOfWork, actor: Actor, transfer: Any, status: str, action: str, **at: Any) -> TransferState:
    version = transfer.version + 1
    uow.conn.execute(update(Transfer).where(Transfer.id == transfer.id).values(status=status, version=version, **at))
    uow.changed("transfer", transfer.id, version)
    uow.audit(actor, action, "transfer", transfer.id, version=version, facts={"number": transfer.number})
    return TransferState(transfer.id, transfer.number, status)
