"""The order queue, its counts and the home page's tiles: one condition each, so that they agree; money by currency."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import update

from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.tracking import TrackingEventIn, record_event
from orders_core.store import tables
from orders_core.store.queries import VIEWS, home_tiles, order_queue, view_counts
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, MANAGER


@pytest.fixture
def shop(store: Store) -> Store:
    """Six orders: two ready and long approved, one part of which waits, one cancelled, one lost by a carrier, one in euro."""
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    build.carrier(store)
    build.stock(store, "LAMP@WH1: 8, RUG@WH1: 10")
    in_trouble = build.order(store, "LAMP 1", note="trouble").number
    build.ship(store, in_trouble, tracking_number="SF1")
    event = TrackingEventIn("SF", "SF1", "exception", store.clock.now(), "e1")
    store.run(record_event, MANAGER, event)
    build.order(store, "LAMP 3", note="first")
    build.order(store, "LAMP 2", note="second")
    build.order(store, "LAMP 90", note="short")
    cancelled = build.order(store, "RUG 1", note="cancelled").number
    store.run(cancel_order, CLERK, CancelOrder(cancelled, "test"))
    euro = build.order(store, "RUG 1", note="euro").number
    with store.unit_of_work() as uow:
        uow.conn.execute(update(tables.Order).where(tables.Order.number == euro).values(currency="EUR"))
    return store


def in_a_month(store: Store) -> tuple[date, datetime]:
    now = store.clock.now() + timedelta(days=30)
    return now.astimezone(store.zone).date(), now


def numbers(store: Store, view: str) -> set[str]:
    today, now = in_a_month(store)
    with store.reading() as conn:
        page = order_queue(conn, today=today, now=now, view=view)
    assert page.total == len(page.rows)
    return {row.number for row in page.rows}


def test_every_view_holds_what_it_counts_and_a_tile_what_its_view_holds(shop: Store) -> None:
    today, now = in_a_month(shop)
    with shop.reading() as conn:
        counts = view_counts(conn, today=today, now=now)
        tiles = home_tiles(conn, today=today, now=now)
    found = {view: len(numbers(shop, view)) for view in VIEWS}
    assert counts == found
    expected = {"all": 6, "open": 4, "overdue": 4, "short": 1, "ready": 4, "stuck": 4, "courier": 1, "on_the_way": 1}
    assert found == {**dict.fromkeys(VIEWS, 0), **expected}
    assert {name: tile.count for name, tile in tiles.items() if name != "returns"} == {
        name: found[name] for name in ("overdue", "short", "review", "courier", "stuck")
    }


def test_a_tile_never_adds_euro_to_yuan(shop: Store) -> None:
    today, now = in_a_month(shop)
    with shop.reading() as conn:
        stuck = home_tiles(conn, today=today, now=now)["stuck"]
        review = home_tiles(conn, today=today, now=now)["review"]
    totals: dict[str, int] = {}
    for number in numbers(shop, "stuck"):
        order = build.order_row(shop, number)
        totals[order.currency] = totals.get(order.currency, 0) + order.total_cents
    assert set(totals) == {"CNY", "EUR"}
    assert stuck.cents == totals
    assert list(stuck.cents.values()) == sorted(totals.values(), reverse=True)
    assert (review.count, review.oldest_at, review.cents) == (0, None, {})


def test_nothing_is_overdue_or_stuck_on_the_day_itself(shop: Store) -> None:
    now = shop.clock.now()
    with shop.reading() as conn:
        counts = view_counts(conn, today=now.astimezone(shop.zone).date(), now=now)
    assert (counts["overdue"], counts["stuck"], counts["ready"]) == (0, 0, 4)
