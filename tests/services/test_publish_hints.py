"""Hints of the nightly run: one publication replaces the other, a person's protection stays, repeating changes nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, PermissionDenied
from orders_core.services.publish_hints import PriceHint, ProtectionHint, PublishHints, publish_hints
from orders_core.services.stock import SetStockPolicy, set_stock_policy
from orders_core.store.tables import AuditEntry, StockPrice, StockProtection
from orders_core.store.uow import Store
from tests.support import build

MANAGER = Actor("mei", frozenset({"manager"}))


@pytest.fixture
def shop(store: Store) -> Store:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10, RUG@WH1: 4")
    return store


def live(store: Store) -> tuple[list[tuple[int, str]], list[tuple[int, str | None]]]:
    prices = build.rows(store, select(StockPrice.price_cents, StockPrice.run_key).order_by(StockPrice.price_cents))
    kept = build.rows(
        store,
        select(StockProtection.protected_qty, StockProtection.run_key).order_by(StockProtection.protected_qty),
    )
    return [tuple(row) for row in prices], [tuple(row) for row in kept]


def test_a_publication_replaces_the_one_before_and_repeats_without_effect(shop: Store) -> None:
    first = PublishHints(
        "2026-03-01/a",
        [PriceHint("LAMP", "WH1", "CNY", 120), PriceHint("RUG", "WH1", "CNY", 0), PriceHint("GONE", "WH1", "CNY", 9)],
        [ProtectionHint("LAMP", "WH1", "phone", 3)],
    )
    done = shop.run(publish_hints, MANAGER, first)
    assert (done.prices, done.protected, done.unknown, done.is_repeat) == (2, 1, 1, False)
    assert live(shop) == ([(0, first.run_key), (120, first.run_key)], [(3, first.run_key)])
    assert shop.run(publish_hints, MANAGER, first).is_repeat
    entries = build.rows(shop, select(func.count()).select_from(AuditEntry).where(AuditEntry.action == "hints.publish"))
    assert entries[0][0] == 1
    shop.run(publish_hints, MANAGER, PublishHints("2026-03-02/b", [PriceHint("RUG", "WH1", "CNY", 7)]))
    assert live(shop) == ([(7, "2026-03-02/b")], [])


def test_what_a_person_protects_is_not_touched(shop: Store) -> None:
    shop.run(set_stock_policy, MANAGER, SetStockPolicy("LAMP", "WH1", protected={"phone": 5}))
    hint = ProtectionHint("LAMP", "WH1", "phone", 3)
    assert shop.run(publish_hints, MANAGER, PublishHints("a", (), [hint])).protected == 0
    shop.run(publish_hints, MANAGER, PublishHints("b"))
    assert live(shop) == ([], [(5, None)])


def test_impossible_hints_are_refused_whole(shop: Store) -> None:
    good = PriceHint("LAMP", "WH1", "CNY", 120)
    for wrong in (
        PublishHints("", [good]),
        PublishHints("a", [good, PriceHint("RUG", "WH1", "CNY", -1)]),
        PublishHints("a", [good], [ProtectionHint("LAMP", "WH1", "phone", 0)]),
    ):
        with pytest.raises(InvalidCommand):
            shop.run(publish_hints, MANAGER, wrong)
    with pytest.raises(PermissionDenied):
        shop.run(publish_hints, Actor("c", frozenset({"customer"})), PublishHints("a", [good]))
    assert live(shop) == ([], [])
