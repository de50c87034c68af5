"""Counting stock (盘点) while shipping goes on; large differences wait for a second person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound, PermissionDenied
from orders_core.services.idempotency import keyed
from orders_core.services.lookups import current_rules, location_named, must_be_in, must_be_qty, skus_named
from orders_core.services.stock import bring_in, lot_named
from orders_core.store.inventory import Move
from orders_core.store.tables import (
    Lot,
    LotLevel,
    Sku,
    StockCount,
    StockCountLine,
    StockLevel,
)
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class StartCount:
    """A count (盘点) of a location begins; shipping goes on meanwhile."""

    location: str
    idem_key: str | None = None


@dataclass(frozen=True)
class RecordCount:
    """What was found of one SKU (and lot). Counting it again replaces the first figure."""

    count: str
    sku: str
    counted_qty: int
    lot_code: str | None = None


@dataclass(frozen=True)
class PostCount:
    count: str


@dataclass(frozen=True)
class ApproveCount:
    """A second person's yes (or no) to large differences."""

    count: str
    is_approved: bool = True


@dataclass(frozen=True)
class CountDifference:
    """Counted less expected at the moment of counting, base units."""

    sku: str
    lot_code: str | None
    expected_qty: int
    counted_qty: int

    @property
    def difference_qty(self) -> int:
        return self.counted_qty - self.expected_qty


@dataclass(frozen=True)
class CountState:
    """A count as it is, with its differences so far."""

    count_id: int
    number: str
    status: str
    differences: tuple[CountDifference, ...] = ()
    is_repeat: bool = False


def start_count(uow: UnitOfWork, actor: Actor, command: StartCount) -> CountState:
    """Open a count."""
    actor.must("stock.count")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, StockCount, command)
    if once.row is not None:
        return CountState(once.row.id, once.row.number, once.row.status, is_repeat=True)
    count_id, number = uow.new_id(), uow.new_number("CO")
    uow.conn.execute(
        insert(StockCount),
        {
            "id": count_id,
            "number": number,
            "location_id": place.id,
            "status": "open",
            "started_at": uow.now,
            "counted_by": actor.name,
            **once.columns,
        },
    )
    uow.changed("stock_count", count_id, 1, "insert")
    uow.audit(actor, "count.start", "stock_count", count_id, version=1, facts={"location": place.code})
    return CountState(count_id, number, "open")


def record_count(uow: UnitOfWork, actor: Actor, command: RecordCount) -> CountDifference:
    """Note what was found; what should have been there is on hand at this very moment.

    So goods that leave before or after do not show up as a difference. The level's lock makes it one moment.
    """
    actor.must("stock.count")
    count = _count(uow, command.count)
    must_be_in(count, "count", ("open",), "count")
    must_be_qty(command.counted_qty, command.sku, smallest=0)
    sku = skus_named(uow, [command.sku])[command.sku]
    lot_id = lot_named(uow, sku, command.lot_code)
    expected = _on_hand(uow, sku.id, count.location_id, lot_id)
    values = {"expected_qty": expected, "counted_qty": command.counted_qty, "counted_at": uow.now}
    known = uow.row(
        select(StockCountLine.id).where(
            StockCountLine.stock_count_id == count.id,
            StockCountLine.sku_id == sku.id,
            StockCountLine.lot_id.is_(None) if lot_id is None else StockCountLine.lot_id == lot_id,
        )
    )
    if known is not None:
        uow.conn.execute(update(StockCountLine).where(StockCountLine.id == known.id).values(**values))
    else:
        uow.conn.execute(
            insert(StockCountLine),
            {"id": uow.new_id(), "stock_count_id": count.id, "sku_id": sku.id, "lot_id": lot_id, **values},
        )
    _set_count(uow, count, "open", counted_by=actor.name)
    return CountDifference(command.sku, command.lot_code, expected, command.counted_qty)


def post_count(uow: UnitOfWork, actor: Actor, command: PostCount) -> CountState:
    """Book the differences; a large one makes the whole count wait for a second person instead."""
    actor.must("stock.count")
    count = _count(uow, command.count)
    differences = _differences(uow, count.id)
    if count.status in ("posted", "waiting_approval"):
        return CountState(count.id, count.number, count.status, _shown(differences), is_repeat=True)
    must_be_in(count, "post", ("open",), "count")
    limit = current_rules(uow).counting.approval_over_qty
    if any(abs(row.counted_qty - row.expected_qty) > limit for row in differences):
        _set_count(uow, count, "waiting_approval")
        uow.audit(actor, "count.wait", "stock_count", count.id, facts={"approval_over_qty": limit})
        return CountState(count.id, count.number, "waiting_approval", _shown(differences))
    return _post(uow, actor, count, differences)


def approve_count(uow: UnitOfWork, actor: Actor, command: ApproveCount) -> CountState:
    """Book a count with large differences, or refuse it; not by the person who counted.

    Raises:
        PermissionDenied: the same person counted.
    """
    actor.must("stock.count.approve")
    count = _count(uow, command.count)
    differences = _differences(uow, count.id)
    if count.status == "posted" and command.is_approved:
        return CountState(count.id, count.number, count.status, _shown(differences), is_repeat=True)
    must_be_in(count, "approve", ("waiting_approval",), "count")
    if actor.name == count.counted_by:
        raise PermissionDenied(actor=actor.name, permission="approve a count of their own")
    if not command.is_approved:
        _set_count(uow, count, "cancelled", approved_by=actor.name)
        uow.audit(actor, "count.refuse", "stock_count", count.id)
        return CountState(count.id, count.number, "cancelled", _shown(differences))
    return _post(uow, actor, count, differences, approved_by=actor.name)


def _post(
    uow: UnitOfWork, actor: Actor, count: Any, differences: Sequence[Any], approved_by: str | None = None
) -> CountState:
    moves = [
        Move(
            row.sku_id,
            count.location_id,
            row.counted_qty - row.expected_qty,
            "count",
            lot_id=row.lot_id,
            source="stock_count",
            source_id=count.id,
            is_fact=True,
        )
        for row in differences
        if row.counted_qty != row.expected_qty
    ]
    bring_in(uow, actor, moves)
    _set_count(uow, count, "posted", posted_at=uow.now, approved_by=approved_by)
    uow.audit(actor, "count.post", "stock_count", count.id, facts={"differences": len(moves)})
    return CountState(count.id, count.number, "posted", _shown(differences))


def _count(uow: UnitOfWork, number: str) -> Any:
    query = select(StockCount.__table__).where(StockCount.number == number)
    row = uow.row(query if uow.is_sqlite else query.with_for_update())
    if row is None:
        raise NotFound(entity="count", key=number)
    return row


def _set_count(uow: UnitOfWork, count: Any, status: str, **values: Any) -> None:
    version = uow.conn.execute(
        update(StockCount)
        .where(StockCount.id == count.id)
        .values(status=status, version=StockCount.version + 1, **values)
        .returning(StockCount.version)
    ).scalar_one()
    uow.changed("stock_count", count.id, version)


def _on_hand(uow: UnitOfWork, sku_id: int, location_id: int, lot_id: int | None) -> int:
    level = select(StockLevel.on_hand_qty).where(StockLevel.sku_id == sku_id, StockLevel.location_id == location_id)
    if lot_id is not None:
        level = select(LotLevel.on_hand_qty).where(LotLevel.lot_id == lot_id, LotLevel.location_id == location_id)
    row = uow.row(level if uow.is_sqlite else level.with_for_update())
    return 0 if row is None else int(row.on_hand_qty)


def _differences(uow: UnitOfWork, count_id: int) -> Sequence[Any]:
    return uow.rows(
        select(
            StockCountLine.sku_id,
            StockCountLine.lot_id,
            StockCountLine.expected_qty,
            StockCountLine.counted_qty,
            Sku.sku,
            Lot.lot_code,
        )
        .join(Sku, Sku.id == StockCountLine.sku_id)
        .outerjoin(Lot, Lot.id == StockCountLine.lot_id)
        .where(StockCountLine.stock_count_id == count_id)
        .order_by(StockCountLine.id)
    )


def _shown(rows: Sequence[Any]) -> tuple[CountDifference, ...]:
    return tuple(CountDifference(row.sku, row.lot_code, row.expected_qty, row.counted_qty) for row in rows)
