"""A suggestion is ordered once, bought or made, whoever approves it and however often; receiving it closes the order."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text

from orders_core.domain.permissions import Actor
from orders_core.errors import (
    IdempotencyMismatch,
    InvalidCommand,
    NotAllowed,
    NotFound,
    NotInBulk,
    OrdersError,
    PermissionDenied,
    SuggestionOld,
    SuggestionOvertaken,
)
from orders_core.services.approve_suggestions import (
    ApprovedSuggestions,
    ApproveSuggestions,
    Suggested,
    approve_suggestions,
)
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.close_replenishment import CloseReplenishment, close_replenishment
from orders_core.services.production import ReportProduction, report_production
from orders_core.services.receiving import ReceivedLine, ReceiveGoods, receive_goods
from orders_core.store import tables
from orders_core.store.queries import approved_suggestions
from orders_core.store.uow import Store, UnitOfWork
from orders_core.store.verify import verify
from tests.support import build
from tests.support.build import CLERK, MANAGER, PICKER, PLANNER

TODAY = date(2026, 3, 2)
PLAN = TODAY - timedelta(days=1)


@pytest.fixture
def shop(store: Store) -> Store:
    """Lamps and rugs from ACORN, tea from TEAHOUSE, cake of our own, all in WH1."""
    build.stock(store, "LAMP@WH1: 1, RUG@WH1: 1, TEA@WH1: 1, LAMP@WH2: 1")
    build.supplier(store, "ACORN", "LAMP 500, RUG 250")
    build.supplier(store, "TEAHOUSE", "TEA 100")
    build.sku(store, "CAKE", supply_mode="make")
    return store


def suggested(sku: str, qty: int = 10, supplier: str = "ACORN", grade: str | None = "A", **fields: Any) -> Suggested:
    return Suggested(**{
        "as_of_date": PLAN, "sku": sku, "location": "WH1", "supplier": supplier, "suggested_qty": qty, "grade": grade,
        **fields,
    })  # fmt: skip


def approve(*asked: Suggested, **fields: Any) -> ApproveSuggestions:
    return ApproveSuggestions(asked, **{"newest_plan_date": PLAN, **fields})


def cake(qty: int = 10, **fields: Any) -> Suggested:
    """The suggestion to make cake; nobody sells it."""
    return suggested("CAKE", qty, **{"supplier": None, "is_made": True, **fields})


def made(store: Store) -> list[tuple[str, str, int]]:
    """(production order, SKU, units) of each."""
    query = text("SELECT p.number, s.sku, p.qty FROM production_order p JOIN sku s ON s.id = p.sku_id ORDER BY p.id")
    return [tuple(row) for row in build.rows(store, query)]


def bought(store: Store) -> list[tuple[str, str, int]]:
    """(purchase order, SKU, units) of every line."""
    query = text(
        "SELECT p.number, s.sku, l.qty FROM purchase_order_line l JOIN purchase_order p ON p.id = l.purchase_order_id"
        " JOIN sku s ON s.id = l.sku_id ORDER BY l.id"
    )
    return [tuple(row) for row in build.rows(store, query)]


def test_approved_suggestions_make_one_purchase_order_per_supplier_and_place(shop: Store) -> None:
    facts = {"order_up_to_qty": 12, "reason_codes": ["x"]}
    done = shop.run(
        approve_suggestions,
        PLANNER,
        approve(
            suggested("RUG", 20, facts=facts, lead_time_days=7),
            suggested("TEA", 5, "TEAHOUSE"),
            suggested("LAMP", 10),
            suggested("LAMP", 3, location="WH2"),
        ),
    )
    assert len(done.purchase_orders) == 3
    numbers = [one.purchase_order for one in done.approved]
    assert numbers[0] == numbers[2] and len(set(numbers)) == 3
    assert sorted((sku, qty) for _, sku, qty in bought(shop)) == [("LAMP", 3), ("LAMP", 10), ("RUG", 20), ("TEA", 5)]
    order = build.rows(shop, select(tables.PurchaseOrder.__table__).where(tables.PurchaseOrder.number == numbers[0]))[0]
    assert (order.total_cents, order.status, order.approved_by) == (20 * 250 + 10 * 500, "sent", "pia")
    line = build.rows(
        shop, select(tables.PurchaseOrderLine.__table__).where(tables.PurchaseOrderLine.purchase_order_id == order.id)
    )[0]
    assert line.suggestion["order_up_to_qty"] == 12 and line.suggestion["as_of_date"] == "2026-03-01"
    assert line.expected_date == date(2026, 3, 9)


def test_approving_twice_gives_the_same_purchase_order_whoever_clicks(shop: Store) -> None:
    first = shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP"), idem_key="click"))
    same_click = shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP"), idem_key="click"))
    other_person = shop.run(approve_suggestions, MANAGER, approve(replace(suggested("LAMP"), qty=99, reason="more")))
    for again in (same_click, other_person):
        assert again.is_repeat and again.approved[0].is_repeat
        assert again.purchase_orders == first.purchase_orders
        assert (again.approved[0].qty, again.approved[0].approved_by) == (10, "pia")
    assert bought(shop) == [(first.purchase_orders[0], "LAMP", 10)]
    with pytest.raises(IdempotencyMismatch):
        shop.run(approve_suggestions, PLANNER, approve(suggested("RUG"), idem_key="click"))


def test_what_is_new_among_approved_ones_is_ordered_alone(shop: Store) -> None:
    shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP")))
    done = shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP"), suggested("RUG")))
    assert [one.is_repeat for one in done.approved] == [True, False]
    assert [(sku, qty) for _, sku, qty in bought(shop)] == [("LAMP", 10), ("RUG", 10)]
    assert len(done.purchase_orders) == 2


def test_processes_that_approve_the_same_suggestions_at_once_order_each_once(shop: Store, stated_count) -> None:
    count = stated_count(small=8, stated=60)
    commands = [
        approve(
            *(
                (cake(), suggested("LAMP"), suggested("RUG"))
                if n % 2
                else (suggested("RUG"), suggested("LAMP"), cake())
            ),
            idem_key=f"click {n}",
        )
        if n % 3
        else approve(suggested("RUG") if n % 2 else cake(), idem_key=f"click {n}")
        for n in range(count)
    ]
    answers = build.at_once(shop, approve_suggestions, MANAGER, commands, processes=4)
    assert all(isinstance(answer, ApprovedSuggestions) for answer in answers), answers
    assert sorted(sku for _, sku, _ in bought(shop)) == ["LAMP", "RUG"]
    assert [(sku, qty) for _, sku, qty in made(shop)] == [("CAKE", 10)]
    number_of = {sku: number for number, sku, _ in (*bought(shop), *made(shop))}
    for answer in answers:
        assert all(one.number == number_of[one.sku] for one in answer.approved)


def test_receiving_what_was_approved_closes_the_purchase_order(shop: Store) -> None:
    (number,) = shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP"))).purchase_orders
    part = shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 4)], number))
    assert part.purchase_order_status == "sent"
    rest = shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 6)], number))
    assert rest.purchase_order_status == "received"
    assert build.on_hand(shop, "LAMP@WH1") == 11
    again = shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP")))
    assert again.purchase_orders == (number,)


def test_another_quantity_is_kept_with_who_and_why(shop: Store) -> None:
    with pytest.raises(InvalidCommand, match="say why"):
        shop.run(approve_suggestions, PLANNER, approve(replace(suggested("LAMP"), qty=40)))
    asked = replace(suggested("LAMP"), qty=40, reason="fair in April")
    assert shop.run(approve_suggestions, PLANNER, approve(asked)).approved[0].qty == 40
    (kept,) = build.rows(shop, select(tables.SuggestionApproval.__table__))
    assert (kept.suggested_qty, kept.approved_qty, kept.reason, kept.approved_by) == (10, 40, "fair in April", "pia")


def test_doubtful_forecasts_are_approved_one_by_one_unless_by_min_max(shop: Store) -> None:
    for grade in ("C", "D", None):
        with pytest.raises(NotInBulk, match="RUG") as refused:
            shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP"), suggested("RUG", grade=grade)))
        assert refused.value.code == "E_NOT_IN_BULK" and "RUG" in refused.value.text("zh")
    assert bought(shop) == []
    shop.run(
        approve_suggestions,
        PLANNER,
        approve(suggested("LAMP", grade="B"), suggested("TEA", 5, "TEAHOUSE", "D", is_min_max=True)),
    )
    shop.run(approve_suggestions, PLANNER, approve(suggested("RUG", grade="D")))
    assert len(bought(shop)) == 3


def test_an_older_plan_is_refused_unless_told(shop: Store) -> None:
    old = suggested("LAMP", as_of_date=PLAN - timedelta(days=1))
    with pytest.raises(SuggestionOld, match="2026-02-28"):
        shop.run(approve_suggestions, PLANNER, approve(old))
    assert shop.run(approve_suggestions, PLANNER, approve(old, newest_plan_date=None)).approved[0].qty == 10


def test_a_plan_made_before_the_last_order_is_refused_unless_told(shop: Store) -> None:
    """The plan of the 1st does not know what was ordered on the 2nd by the plan of the day before."""
    old = suggested("LAMP", as_of_date=PLAN - timedelta(days=1))
    (number,) = shop.run(approve_suggestions, PLANNER, approve(old, newest_plan_date=None)).purchase_orders
    with pytest.raises(SuggestionOvertaken, match=number) as refused:
        shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP")))
    assert number in refused.value.text("zh")
    shop.clock.advance(days=1)
    tomorrow = suggested("LAMP", 3, as_of_date=TODAY)  # made at the end of the day of the order: knows of it
    done = shop.run(approve_suggestions, PLANNER, approve(tomorrow, newest_plan_date=TODAY))
    assert done.approved[0].qty == 3


def test_what_cannot_be_bought_is_refused_by_name_and_nothing_is_ordered(shop: Store) -> None:
    for asked, words in (
        (suggested("CAKE"), "CAKE is made, not bought"),
        (suggested("RUG", is_made=True), "RUG is bought, not made"),
        (replace(suggested("RUG"), supplier=None), "nobody is known to sell RUG"),
        (suggested("LAMP"), "LAMP at WH1 is named twice"),
    ):
        with pytest.raises(InvalidCommand, match=words):
            shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP"), asked))
    with pytest.raises(InvalidCommand, match="at least one"):
        shop.run(approve_suggestions, PLANNER, approve())
    with pytest.raises(PermissionDenied):
        shop.run(approve_suggestions, CLERK, approve(suggested("LAMP")))
    assert bought(shop) == made(shop) == []


def test_a_made_sku_becomes_one_production_order_whoever_approves_it(shop: Store) -> None:
    asked = cake(12, lead_time_days=4)
    first = shop.run(approve_suggestions, PLANNER, approve(asked, suggested("LAMP"), idem_key="click"))
    again = shop.run(approve_suggestions, PLANNER, approve(asked, suggested("LAMP"), idem_key="click"))
    other = shop.run(approve_suggestions, MANAGER, approve(replace(asked, qty=99, reason="more")))
    ((number, sku, qty),) = made(shop)
    assert (sku, qty, first.production_orders, len(first.purchase_orders)) == ("CAKE", 12, (number,), 1)
    assert [(one.purchase_order is None, one.production_order) for one in first.approved] == [
        (True, number),
        (False, None),
    ]
    for answer in (again, other):
        assert answer.is_repeat and answer.approved[0].production_order == number
        assert (answer.approved[0].qty, answer.approved[0].approved_by) == (12, "pia")
    assert other.purchase_orders == () and [sku for _, sku, _ in bought(shop)] == ["LAMP"]
    (order,) = build.rows(shop, select(tables.ProductionOrder.__table__))
    assert (order.status, order.due_date, order.order_line_id) == ("open", date(2026, 3, 6), None)
    shop.run(report_production, PICKER, ReportProduction(number, done_qty=12))
    assert build.on_hand(shop, "CAKE@WH1") == 12
    assert shop.run(approve_suggestions, PLANNER, approve(asked)).production_orders == (number,)


def test_made_suggestions_follow_the_rules_of_bought_ones(shop: Store) -> None:
    """Trust, reasons, old plans and plans overtaken by a later order; a cancelled order overtakes nothing."""
    with pytest.raises(NotInBulk, match="CAKE"):
        shop.run(approve_suggestions, PLANNER, approve(cake(grade="D"), suggested("LAMP")))
    with pytest.raises(InvalidCommand, match="say why"):
        shop.run(approve_suggestions, PLANNER, approve(replace(cake(), qty=40)))
    old = cake(as_of_date=PLAN - timedelta(days=1))
    with pytest.raises(SuggestionOld, match="CAKE"):
        shop.run(approve_suggestions, PLANNER, approve(old))
    (number,) = shop.run(approve_suggestions, PLANNER, approve(old, newest_plan_date=None)).production_orders
    with pytest.raises(SuggestionOvertaken, match=number):
        shop.run(approve_suggestions, PLANNER, approve(cake(), suggested("LAMP")))
    shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP")))
    close(shop, number)
    assert len(shop.run(approve_suggestions, PLANNER, approve(cake())).production_orders) == 1


def close(store: Store, number: str, reason: str = "wrong", actor: Actor = PLANNER) -> Any:
    return store.run(close_replenishment, actor, CloseReplenishment(number, reason))


def test_bought_and_made_orders_are_closed_alike_with_who_and_why(shop: Store) -> None:
    done = shop.run(approve_suggestions, PLANNER, approve(cake(), suggested("LAMP")))
    (work,), (bought_number,) = done.production_orders, done.purchase_orders
    for number, action in ((work, "production.close"), (bought_number, "purchase_order.close")):
        with pytest.raises(PermissionDenied):
            close(shop, number, actor=CLERK)
        with pytest.raises(PermissionDenied, match="WH1"):
            close(shop, number, actor=replace(PLANNER, location_codes=frozenset({"WH2"})))
        closed, again = close(shop, number, "too many"), close(shop, number, "again")
        assert (closed.number, closed.status, closed.is_repeat) == (number, "cancelled", False)
        assert (again.status, again.is_repeat) == ("cancelled", True)
        query = text("SELECT actor, facts FROM audit_entry WHERE action = :action").bindparams(action=action)
        (entry,) = build.rows(shop, query)
        assert entry.actor == "pia" and "too many" in str(entry.facts)
    (order,) = build.rows(shop, select(tables.ProductionOrder.__table__))
    assert (order.qty, order.done_qty, order.done_at is None) == (10, 0, False), "what was ordered stays on record"
    with pytest.raises(NotAllowed):
        shop.run(report_production, PICKER, ReportProduction(work, done_qty=1))
    with pytest.raises(NotFound, match="no purchase or production order MO-0"):
        close(shop, "MO-0")


def test_what_was_made_before_closing_stays_and_what_is_finished_is_not_closed(shop: Store) -> None:
    (work,) = shop.run(approve_suggestions, PLANNER, approve(cake())).production_orders
    shop.run(report_production, PICKER, ReportProduction(work, done_qty=4, scrap_qty=1))
    closed = close(shop, work)
    assert (closed.status, closed.done_qty, closed.short_qty) == ("done", 4, 6)
    assert build.on_hand(shop, "CAKE@WH1") == 4
    assert close(shop, work).is_repeat
    shop.clock.advance(days=1)
    done = shop.run(
        approve_suggestions,
        PLANNER,
        approve(*(replace(one, as_of_date=TODAY) for one in (cake(), suggested("LAMP"))), newest_plan_date=TODAY),
    )
    (work,), (number,) = done.production_orders, done.purchase_orders
    shop.run(report_production, PICKER, ReportProduction(work, done_qty=10))
    shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 10)], number))
    for finished, status, said in ((work, "done", "已全部完工"), (number, "received", "已全部收货")):
        with pytest.raises(NotAllowed, match=finished) as refused:
            close(shop, finished)
        assert (refused.value.code, refused.value.status) == ("E_STAGE", status)
        assert refused.value.text("zh").endswith(said)


def test_what_is_made_for_a_customer_is_closed_when_nobody_waits_for_it(shop: Store) -> None:
    build.company(shop)
    build.rules(shop, shortage={"policy": "backorder"})
    build.stock(shop, "CAKE@WH1: 0")
    placed = build.order(shop, "CAKE 3").number
    ((work, _, _),) = made(shop)
    with pytest.raises(NotAllowed, match=placed) as refused:
        close(shop, work)
    assert placed in refused.value.text("zh") and refused.value.reason_code == "awaited"
    shop.run(report_production, PICKER, ReportProduction(work, done_qty=1))
    shop.run(cancel_order, MANAGER, CancelOrder(placed, "no"))
    assert close(shop, work).status == "done"


def standing(store: Store) -> list[tuple[str, str]]:
    """(SKU, number) of every suggestion that is approved now."""
    query = approved_suggestions().where(tables.SuggestionApproval.withdrawn_at.is_(None))
    return sorted((row.sku, row.number) for row in build.rows(store, query))


def test_a_suggestion_whose_order_was_closed_with_nothing_received_is_open_again(shop: Store) -> None:
    asked = (cake(), suggested("LAMP"), suggested("RUG"))
    first = shop.run(approve_suggestions, PLANNER, approve(*asked, idem_key="click"))
    (work,), (number,) = first.production_orders, first.purchase_orders
    shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 4)], number))
    assert close(shop, number).status == "closed" and close(shop, work).status == "cancelled"
    repeated = shop.run(approve_suggestions, PLANNER, approve(*asked, idem_key="click"))
    assert repeated.is_repeat and [one.number for one in repeated.approved] == [work, number, number], "the same click"
    again = shop.run(approve_suggestions, MANAGER, approve(replace(asked[0], qty=3, reason="less"), *asked[1:]))
    assert [one.is_repeat for one in again.approved] == [False, True, False], "of the lamps four came"
    assert [(one.qty, one.approved_by) for one in again.approved] == [(3, "mei"), (10, "pia"), (10, "mei")]
    new_work, new_number = again.approved[0].number, again.approved[2].number
    assert standing(shop) == [("CAKE", new_work), ("LAMP", number), ("RUG", new_number)]
    assert [(sku, qty) for _, sku, qty in made(shop)] == [("CAKE", 10), ("CAKE", 3)]
    assert len(build.rows(shop, select(tables.SuggestionApproval.id))) == 5, "who approved what before stays on record"
    third = shop.run(approve_suggestions, PLANNER, approve(*asked))
    assert third.is_repeat and [one.number for one in third.approved] == [new_work, number, new_number]
    repeated = shop.run(approve_suggestions, PLANNER, approve(*asked, idem_key="click"))
    assert [one.number for one in repeated.approved] == [new_work, number, new_number]


def approve_or_close(uow: UnitOfWork, actor: Actor, command: Any) -> Any:
    """Either, for processes that do both at once."""
    service: Any = approve_suggestions if isinstance(command, ApproveSuggestions) else close_replenishment
    return service(uow, actor, command)


@pytest.mark.parametrize("is_closed_before", [True, False])
def test_processes_that_approve_a_closed_suggestion_again_at_once_order_it_once(
    shop: Store, stated_count, is_closed_before: bool
) -> None:
    """While some close the first orders and others approve, nothing is ever ordered twice beside a standing order."""
    count = stated_count(small=8, stated=60)
    asked = (cake(), suggested("LAMP"))
    first = shop.run(approve_suggestions, PLANNER, approve(*asked))
    numbers = {one.sku: one.number for one in first.approved}
    closings = [CloseReplenishment(number, "wrong") for number in numbers.values()]
    if is_closed_before:
        for closing in closings:
            shop.run(close_replenishment, PLANNER, closing)
    commands = [approve(*asked[:: 1 if n % 2 else -1], idem_key=f"click {n}") for n in range(count)]
    mixed = [*commands[: count // 2], *closings, *commands[count // 2 :]]
    answers = build.at_once(shop, approve_or_close, MANAGER, mixed, processes=4)
    assert not [answer for answer in answers if isinstance(answer, OrdersError)], answers
    shop.run(approve_suggestions, MANAGER, approve(*asked))  # whoever asked before the closing got the first order
    now = dict(standing(shop))
    assert set(now) == {"CAKE", "LAMP"} and not set(now.values()) & set(numbers.values())
    assert [(sku, qty) for _, sku, qty in (*bought(shop), *made(shop))] == [("LAMP", 10)] * 2 + [("CAKE", 10)] * 2
    for answer in answers:
        if isinstance(answer, ApprovedSuggestions):
            assert all(one.number in (numbers[one.sku], now[one.sku]) for one in answer.approved)


def test_many_suggestions_are_approved_with_as_many_queries_as_few(shop: Store) -> None:
    """The writer is held for the time of these queries, and everybody else waits for it."""
    skus = [f"TOY-{n}" for n in range(30)]
    for sku in skus:
        build.sku(shop, sku)
    build.supplier(shop, "TOYS", ", ".join(f"{sku} 100" for sku in skus))
    counts = []
    for wanted in (skus[:2], skus[2:]):
        command, seen = approve(*(suggested(sku, supplier="TOYS") for sku in wanted)), []

        def count(conn, cursor, statement, parameters, context, executemany, seen=seen) -> None:  # type: ignore[no-untyped-def]
            seen.append(statement)

        event.listen(shop.engine, "before_cursor_execute", count)
        try:
            shop.run(approve_suggestions, PLANNER, command)
        finally:
            event.remove(shop.engine, "before_cursor_execute", count)
        counts.append([statement for statement in seen if "_counter" not in statement])
    assert len(counts[0]) > 5 and len(counts[1]) <= len(counts[0]), "\n".join(counts[1])


@pytest.mark.breaks_invariants
def test_verify_names_an_approval_whose_purchase_order_says_otherwise(shop: Store) -> None:
    shop.run(approve_suggestions, PLANNER, approve(suggested("LAMP")))
    with shop.engine.begin() as conn:
        conn.execute(text("UPDATE suggestion_approval SET approved_qty = 9, reason = 'x'"))
    (found,) = verify(shop)
    assert found.code == "suggestion_bought" and "LAMP@WH1" in str(found)
