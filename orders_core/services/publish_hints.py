"""What the nightly run hands to the core: what a unit is worth where it lies, and units held back for a channel.

Promising and routing read both in the order's own transaction and work without them. A publication replaces the whole of the
one before; what a person protected by hand (`set_stock_policy`) is never touched and wins where both name the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import delete, insert, select

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import InvalidCommand
from orders_core.ports import Clock
from orders_core.store.tables import Channel, Location, Sku, StockPrice, StockProtection
from orders_core.store.uow import Store, UnitOfWork


@dataclass(frozen=True)
class PriceHint:
    """The worth of one more unit of `sku` at `location`, in minor units."""

    sku: str
    location: str
    currency: str
    price_cents: int


@dataclass(frozen=True)
class ProtectionHint:
    """Units of `sku` at `location` held back for `channel`; above 0."""

    sku: str
    location: str
    channel: str
    protected_qty: int


@dataclass(frozen=True)
class PublishHints:
    """All hints of one run; `run_key` names the run (its as-of date and id)."""

    run_key: str
    prices: Sequence[PriceHint] = ()
    protected: Sequence[ProtectionHint] = ()


@dataclass(frozen=True)
class HintsPublished:
    """What was published: rows now live, and how many named something the core does not have (or no longer)."""

    run_key: str
    prices: int
    protected: int
    unknown: int
    is_repeat: bool


def publish_hints_to(
    database_url: str,
    command: PublishHints,
    *,
    planned_date: date,
    zone: str,
    actor: Actor | None = None,
    clock: Clock | None = None,
) -> HintsPublished | None:
    """`publish_hints` for a job that has no store open; None, and nothing told, where the plan is of an earlier day than
    yesterday and says nothing of today.

    Args:
        planned_date: Last day the plan knows.
        actor: Who does it; the system where nobody does.
        clock: Tells today; the system's.
    """
    store = Store.open(database_url, clock=clock, zone=zone)
    try:
        today = store.clock.now().astimezone(store.zone).date()
        if planned_date < today - timedelta(days=1):
            return None
        return store.run(publish_hints, actor or SYSTEM, command)
    finally:
        store.close()


def publish_hints(uow: UnitOfWork, actor: Actor, command: PublishHints) -> HintsPublished:
    """Replace the hints of earlier runs. Publishing the same run again changes nothing.

    Raises:
        PermissionDenied: The actor may not change the catalogue.
        InvalidCommand: No run key, a price below 0 or a protected quantity below 1.
    """
    actor.must("catalogue.change")
    if not command.run_key:
        raise InvalidCommand(field="run_key", problem="run_key_missing")
    for hint in command.prices:
        if hint.price_cents < 0:
            raise InvalidCommand(
                field=f"{hint.sku}@{hint.location}", problem="price_out_of_range", price_cents=hint.price_cents
            )
    for row in command.protected:
        if row.protected_qty < 1:
            raise InvalidCommand(
                field=f"{row.sku}@{row.location}",
                problem="amount_out_of_range",
                amount=row.protected_qty,
                least=1,
                most="9,999,999",
            )
    skus = {row.sku: row.id for row in uow.rows(select(Sku.sku, Sku.id))}
    places = {row.code: row.id for row in uow.rows(select(Location.code, Location.id))}
    channels = {row.code: row.id for row in uow.rows(select(Channel.code, Channel.id))}
    prices = [
        {
            "sku_id": skus[hint.sku],
            "location_id": places[hint.location],
            "currency": hint.currency,
            "price_cents": hint.price_cents,
        }
        for hint in command.prices
        if hint.sku in skus and hint.location in places
    ]
    by_hand = {
        (row.sku_id, row.location_id, row.channel_id)
        for row in uow.rows(
            select(StockProtection.sku_id, StockProtection.location_id, StockProtection.channel_id).where(
                StockProtection.run_key.is_(None)
            )
        )
    }
    known = [
        (skus[hint.sku], places[hint.location], channels[hint.channel], hint.protected_qty)
        for hint in command.protected
        if hint.sku in skus and hint.location in places and hint.channel in channels
    ]
    protected = [
        {"sku_id": sku, "location_id": place, "channel_id": channel, "protected_qty": qty}
        for sku, place, channel, qty in known
        if (sku, place, channel) not in by_hand
    ]
    unknown = len(command.prices) - len(prices) + len(command.protected) - len(known)
    live_keys = {row.run_key for row in uow.rows(select(StockPrice.run_key).distinct())} | {
        row.run_key
        for row in uow.rows(select(StockProtection.run_key).where(StockProtection.run_key.is_not(None)).distinct())
    }
    is_repeat = live_keys == {command.run_key}
    if not is_repeat:
        uow.conn.execute(delete(StockPrice))
        uow.conn.execute(delete(StockProtection).where(StockProtection.run_key.is_not(None)))
        if prices:
            stamp = {"run_key": command.run_key, "published_at": uow.now}
            uow.conn.execute(insert(StockPrice), [price | stamp for price in prices])
        if protected:
            uow.conn.execute(insert(StockProtection), [row | {"run_key": command.run_key} for row in protected])
        facts = {"run_key": command.run_key, "prices": len(prices), "protected": len(protected), "unknown": unknown}
        uow.audit(actor, "hints.publish", "stock_price", 0, facts=facts)
    return HintsPublished(command.run_key, len(prices), len(protected), unknown, is_repeat)
