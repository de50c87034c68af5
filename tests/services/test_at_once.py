"""Placing, receiving, releasing, picking short, shipping and cancelling at the same time, by real processes."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from orders_core.domain.permissions import Actor
from orders_core.errors import NotAllowed, OrdersError
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.orders_state import order_for_change
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.place_order import place_order
from orders_core.services.receiving import ReceivedLine, ReceiveGoods, receive_goods
from orders_core.services.returns import DecideReturn, RequestReturn, decide_return, request_return
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.services.warehouse import PickAll, Release, ShortPick, pick_all, release, short_pick
from orders_core.store.uow import Store, UnitOfWork
from tests.support import build
from tests.support.build import MANAGER

SKUS = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Step:
    """What was done."""

    verb: str


def a_bit_of_everything(uow: UnitOfWork, actor: Actor, seed: int) -> Step:
    """One random step of a busy day; the services refuse by name what cannot be."""
    rng = random.Random(seed)
    lines = ", ".join(f"{sku} {rng.randint(1, 4)}" for sku in rng.sample(SKUS, 2))
    step = rng.choice(["place", "place", "receive", "release", "pick", "short", "ship", "cancel"])
    if step == "place":
        place_order(uow, actor, build.order_command(lines, customer=rng.choice(["ACME", "BETA"]), note=str(seed)))
    elif step == "receive":
        line = ReceivedLine(rng.choice(SKUS), rng.randint(1, 9), unit_cost_cents=100)
        receive_goods(uow, actor, ReceiveGoods("WH1", [line]))
    elif step == "release":
        release(uow, actor, Release("WH1", shipments_per_list=2))
    elif step in ("pick", "short"):
        number = _any(uow, "SELECT number FROM pick_list WHERE status IN ('open', 'picking')", rng)
        if number is not None and step == "pick":
            pick_all(uow, actor, PickAll(number))
        elif number is not None:
            short_pick(uow, actor, ShortPick(number, 1))
    elif step == "ship":
        number = _any(uow, "SELECT number FROM shipment WHERE status = 'picked'", rng)
        if number is not None:
            ship_shipment(uow, actor, ShipShipment(number, "SF", packages=[PackageIn(tracking_number=number)]))
    else:
        number = _any(uow, "SELECT number FROM orders WHERE status IN ('ready', 'picking', 'waiting_stock')", rng)
        if number is not None:
            cancel_order(uow, actor, CancelOrder(number, "test"))
    return Step(step)


def _any(uow: UnitOfWork, query: str, rng: random.Random) -> str | None:
    found = uow.conn.exec_driver_sql(f"{query} ORDER BY id").scalars().all()
    return rng.choice(found) if found else None


def test_a_busy_day_of_four_processes_leaves_books_that_agree(store, stated_count) -> None:
    build.company(store)
    build.customer(store, "BETA")
    build.carrier(store)
    build.rules(store, shortage={"policy": "backorder"}, checks={"duplicate": "ignore"})
    build.stock(store, "A@WH1: 20, B@WH1: 5, C@WH1: 0, D@WH1: 9")
    count = stated_count(small=120, stated=2000)
    answers = build.at_once(store, a_bit_of_everything, MANAGER, range(count), processes=4)
    done = {answer.verb for answer in answers if isinstance(answer, Step)}
    assert done == {"place", "receive", "release", "pick", "short", "ship", "cancel"}
    assert _deadlocks(store) == 0


def one_customers_business(uow: UnitOfWork, actor: Actor, seed: int) -> Step:
    """One random step on the orders of one customer, which all share stock levels and one line of credit.

    An order is chosen before it is locked, so it may be cancelled meanwhile: such a step is refused by name.
    """
    rng = random.Random(seed)
    step = rng.choice(["place", "place", "edit", "cancel", "pay"])
    number = _any(uow, "SELECT number FROM orders WHERE status IN ('ready', 'review', 'waiting_stock')", rng)
    if step == "pay":
        receive_payment(uow, actor, ReceivePayment("ACME", rng.randint(1, 5) * 1_000, f"pay-{seed}"))
    elif step == "place" or number is None:
        step = "place"
        lines = ", ".join(f"{sku} {rng.randint(1, 4)}" for sku in rng.sample(SKUS, 2))
        place_order(uow, actor, build.order_command(lines))
    elif step == "edit":
        edit_order(uow, actor, EditOrder(number, lines=[LineChange(1, rng.randint(1, 6))]))
    else:
        cancel_order(uow, actor, CancelOrder(number, "test"))
    return Step(step)


def test_one_customers_orders_payments_edits_and_cancellations_at_once_meet_no_deadlock(store, stated_count) -> None:
    build.company(store)
    build.customer(store, "ACME")
    build.rules(store, shortage={"policy": "backorder"}, checks={"duplicate": "ignore"})
    build.stock(store, "A@WH1: 20, B@WH1: 5, C@WH1: 0, D@WH1: 9")
    count = stated_count(small=100, stated=1000)
    answers = build.at_once(store, one_customers_business, MANAGER, range(count), processes=4)
    unexpected = [a for a in answers if isinstance(a, OrdersError) and not isinstance(a, NotAllowed)]
    assert unexpected == []
    assert {answer.verb for answer in answers if isinstance(answer, Step)} == {"place", "edit", "cancel", "pay"}
    assert _deadlocks(store) == 0


def _deadlocks(store: Store) -> int:
    """How often the database broke a command off; the store repeats it, so that no answer shows it."""
    if store.url.startswith("sqlite"):
        return 0
    return int(
        build.rows(store, text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))[0][0]
    )


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_command_does_not_wait_for_the_order_that_its_own_may_repeat(store) -> None:
    build.company(store)
    build.rules(store, checks={"duplicate": "ignore"})
    build.stock(store, "A@WH1: 20")
    first, again = build.order(store, "A 1"), build.order(store, "A 1")
    with store.unit_of_work() as other, store.unit_of_work() as uow:
        order_for_change(other, number=first.number)
        uow.conn.execute(text("SET LOCAL lock_timeout = '2s'"))
        assert cancel_order(uow, MANAGER, CancelOrder(again.number, "ordered twice")).status == "cancelled"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_who_waits_for_an_order_does_not_hold_its_return_meanwhile(store) -> None:
    build.company(store)
    build.stock(store, "A@WH1: 5")
    number = build.order(store, "A 5").number
    build.ship(store, number)
    back = store.run(request_return, MANAGER, RequestReturn(number, {1: 1}, "broken")).number
    deciding = threading.Thread(target=store.run, args=(decide_return, MANAGER, DecideReturn(back, is_approved=True)))
    with store.unit_of_work() as uow:
        order_for_change(uow, number=number)
        deciding.start()
        while not build.rows(store, text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")):
            assert deciding.is_alive()
        uow.rows(text("SELECT 1 FROM return_authorization FOR NO KEY UPDATE NOWAIT"))
    deciding.join(timeout=60)
    ((status,),) = build.rows(store, text("SELECT status FROM return_authorization"))
    assert status == "approved"
