"""Who is told what about an order, in which language, and that a notice which can't be written is never queued."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update

from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import InvalidCommand
from orders_core.notifications.render import render
from orders_core.notifications.tell import line_facts, tell_customer, tell_staff
from orders_core.notifications.templates import TEMPLATES, require_facts
from orders_core.store.tables import CustomerContact, Order, Outbox, Staff
from orders_core.store.uow import Store, UnitOfWork
from tests.notifications.facts import example_facts
from tests.support import build


@pytest.fixture
def order_id(store: Store) -> int:
    """LAMP 2 boxes of 12 and 1 kit, placed by phone."""
    build.company(store)
    build.location(store, "WH1", is_default=True)
    build.sku(store, "LAMP", box_of=12, box_price_cents=10_000, is_stock_tracked=False)
    build.sku(store, "BULB", is_stock_tracked=False)
    build.sku(store, "SET", components="BULB 2")
    return build.order(store, "LAMP 2 box, SET 1").order_id


def tell(store: Store, template: str, order_id: int, **fields: Any) -> None:
    def run(uow: UnitOfWork, _actor: Actor) -> None:
        tell_customer(uow, template, order_id, dedupe_key=f"{template}:{order_id}:test", **fields)

    store.run(run, SYSTEM)


def last(store: Store) -> Any:
    return build.rows(store, select(Outbox.__table__).order_by(Outbox.id.desc()))[0]


def test_the_orders_own_facts_are_filled_in_and_kits_are_one_line(store: Store, order_id: int) -> None:
    tell(store, "stock_available", order_id)
    row = last(store)
    order = build.rows(store, select(Order.__table__))[0]
    assert (row.recipient, row.language, row.entity, row.entity_id) == ("buyer@acme.cn", "zh", "orders", order_id)
    assert row.facts["number"] == order.number and row.facts["customer"] == "ACME"
    assert row.facts["lines"] == [
        {"sku": "LAMP", "name": "LAMP(中)", "qty": 2, "unit": "box"},
        {"sku": "SET", "name": "SET(中)", "qty": 1, "unit": "each"},
    ]
    assert set(row.facts) == TEMPLATES["stock_available"], "no more than the notice needs is kept of a customer"
    assert "LAMP(中) × 2 箱" in render(row.template, row.language, row.facts).body


def test_an_english_order_is_told_of_in_english(store: Store, order_id: int) -> None:
    with store.unit_of_work() as uow:
        uow.conn.execute(update(Order).values(language="en", version=Order.version + 1))
        uow.changed("orders", order_id, 2)
    tell(store, "stock_available", order_id)
    assert last(store).language == "en" and last(store).facts["lines"][0]["name"] == "Lamp"


def test_a_missing_fact_is_refused_before_anything_is_queued(store: Store, order_id: int) -> None:
    before = build.rows(store, select(Outbox.id))
    with pytest.raises(InvalidCommand, match="notice arriving: missing facts: carrier, tracking_numbers"):
        tell(store, "arriving", order_id)
    with pytest.raises(InvalidCommand, match="there is no 'arived'"):
        tell(store, "arived", order_id)
    assert build.rows(store, select(Outbox.id)) == before


def test_nobody_is_told_where_there_is_nobody_to_tell(store: Store, order_id: int) -> None:
    before = build.rows(store, select(Outbox.id))
    with store.unit_of_work() as uow:
        uow.conn.execute(update(CustomerContact).values(email=None))
    tell(store, "stock_available", order_id)
    with pytest.raises(InvalidCommand):
        tell(store, "arriving", order_id)
    assert build.rows(store, select(Outbox.id)) == before


def test_colleagues_with_the_role_are_told_each_in_their_language(store: Store, order_id: int) -> None:
    with store.unit_of_work() as uow:
        for code, roles, fields in (
            ("li", ["manager"], {"email": "li@shop.example", "language": "en"}),
            ("wu", ["clerk", "manager"], {"email": "wu@shop.example"}),
            ("he", ["clerk"], {"email": "he@shop.example"}),
            ("no", ["manager"], {"email": None}),
            ("ex", ["manager"], {"email": "ex@shop.example", "is_active": False}),
        ):
            row = {"id": uow.new_id(), "code": code, "name": code, "roles": roles, "created_at": uow.now, **fields}
            uow.conn.execute(insert(Staff), row)
            uow.changed("staff", row["id"], 1, "insert")
        facts = example_facts("clerk_new_order")
        tell_staff(uow, "clerk_new_order", ["manager"], dedupe_key="new:1", facts=facts, order_id=order_id)
        with pytest.raises(InvalidCommand, match="missing facts: lines"):
            del facts["lines"]
            tell_staff(uow, "clerk_new_order", ["manager"], dedupe_key="new:2", facts=facts)
    query = select(Outbox.recipient, Outbox.language).where(Outbox.dedupe_key.like("new:%")).order_by(Outbox.id)
    told = [tuple(row) for row in build.rows(store, query)]
    assert told == [("li@shop.example", "en"), ("wu@shop.example", "zh")]


def test_what_placing_an_order_queues_can_be_written(store: Store) -> None:
    build.company(store)
    build.rules(
        store, shortage={"policy": "backorder"}, notices={"clerks": ["desk@shop.example"], "tell_clerks": "all"}
    )
    build.stock(store, "LAMP@WH1: 1")
    build.order(store, "LAMP 3")
    queued = build.rows(store, select(Outbox.__table__))
    assert {row.template for row in queued} == {"order_confirmation", "order_delayed", "clerk_new_order"}
    for row in queued:
        require_facts(row.template, row.facts)
        for language in ("zh", "en"):
            assert render(row.template, language, row.facts).body


def test_broken_packs_are_said_in_base_units() -> None:
    facts = {"unit": "box", "units_per_pack": 12, "base_unit": "each"}
    assert line_facts("TEA", "tea", qty=24, **facts) == {"sku": "TEA", "name": "tea", "qty": 2, "unit": "box"}
    assert line_facts("TEA", "tea", qty=25, **facts) == {"sku": "TEA", "name": "tea", "qty": 25, "unit": "each"}
