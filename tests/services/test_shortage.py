"""Purchase orders and what to do about a short line: each way with cost and date, and one click that does it."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import insert, select

from orders_core.errors import (
    IdempotencyMismatch,
    InvalidCommand,
    NotAllowed,
    NotFound,
    QuantityExceeded,
    VersionConflict,
)
from orders_core.services.receiving import (
    ClosePurchaseOrder,
    ConfirmPurchaseOrder,
    CreatePurchaseOrder,
    PurchaseLine,
    ReceivedLine,
    ReceiveGoods,
    close_purchase_order,
    confirm_purchase_order,
    create_purchase_order,
    receive_goods,
)
from orders_core.services.shortage import (
    ActOnShortage,
    AnswerOffer,
    ShowOptions,
    act_on_shortage,
    answer_offer,
    shortage_options,
)
from orders_core.services.transfers import ReceiveTransfer, ShipTransfer, receive_transfer, ship_transfer
from orders_core.store import tables
from tests.support import build
from tests.support.build import CLERK, PICKER, PLANNER

TODAY = date(2026, 3, 2)


@pytest.fixture
def shop(store):
    """Lamps from supplier S1 at 4.00 in 7 days; 2 at WH1. BULB at 12.00 may stand in for LAMP."""
    build.company(store)
    build.rules(store, shortage={"policy": "backorder"})
    build.supplier(store, "S1", "LAMP 400, RUG 900")
    build.stock(store, "LAMP@WH1: 2, RUG@WH1: 10")
    return store


def buy(store, text: str, **fields):
    code, qty = text.split()
    command = CreatePurchaseOrder("S1", "WH1", [PurchaseLine(code, int(qty))], **fields)
    return store.run(create_purchase_order, PLANNER, command)


def options(store, number: str, line_no: int = 1):
    shown = store.run(shortage_options, CLERK, ShowOptions(number, line_no))
    return {option.kind: option for option in shown.options}, shown


def act(store, number: str, kind: str, **fields):
    return store.run(act_on_shortage, CLERK, ActOnShortage(number, 1, kind, **fields))


def test_a_purchase_order_is_received_against_its_lines_once(shop) -> None:
    placed = build.order(shop, "LAMP 5")
    (request,) = build.rows(shop, select(tables.PurchaseRequest.id, tables.PurchaseRequest.qty))
    assert request.qty == 3
    bought = buy(shop, "LAMP 10", requests=[request.id], idem_key="b1")
    assert (bought.total_cents, bought.status) == (4000, "sent")
    assert buy(shop, "LAMP 10", requests=[request.id], idem_key="b1").number == bought.number
    receipt = ReceiveGoods("WH1", [ReceivedLine("LAMP", 6)], bought.number, idem_key="g1")
    first = shop.run(receive_goods, PICKER, receipt)
    assert [(x.order, x.qty) for x in first.filled] == [(placed.number, 3)]
    assert shop.run(receive_goods, PICKER, receipt).number == first.number
    assert build.on_hand(shop, "LAMP@WH1") == 8
    with pytest.raises(IdempotencyMismatch):
        shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 7)], bought.number, idem_key="g1"))
    with pytest.raises(QuantityExceeded) as refusal:
        shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 5)], bought.number))
    assert refusal.value.limit_qty == 4
    done = shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 4)], bought.number))
    assert done.purchase_order_status == "received"
    with pytest.raises(NotAllowed):
        shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 1)], bought.number))
    costs = build.rows(
        shop, select(tables.StockMovement.unit_cost_cents).where(tables.StockMovement.reason == "receipt")
    )
    assert costs == [(400,), (400,)]
    assert build.rows(shop, select(tables.PurchaseRequest.status)) == [("closed",)]


def test_a_confirmed_later_day_is_told_and_stands_on_the_order(shop) -> None:
    placed = build.order(shop, "LAMP 5")
    row = build.order_row(shop, placed.number)
    assert (row.promised_by_date, row.is_promise_estimated) == (TODAY + timedelta(days=10), True)
    bought = buy(shop, "LAMP 10")
    day = TODAY + timedelta(days=20)
    state = shop.run(confirm_purchase_order, PLANNER, ConfirmPurchaseOrder(bought.number, day))
    assert state.told_orders == (placed.number,)
    row = build.order_row(shop, placed.number)
    assert (row.promised_by_date, row.is_promise_estimated) == (day + timedelta(days=3), False)
    notice = build.notices(shop, "order_delayed", number=placed.number)[-1]
    assert notice.facts["promised_by_date"] == row.promised_by_date.isoformat()
    assert notice.facts["previous_promised_by_date"] == (TODAY + timedelta(days=10)).isoformat()
    assert notice.facts["is_estimated"] is False
    closed = shop.run(close_purchase_order, PLANNER, ClosePurchaseOrder(bought.number, "supplier gave up"))
    assert closed.status == "cancelled"
    assert build.order_row(shop, placed.number).is_promise_estimated is True


def test_every_way_out_has_a_cost_and_a_date(shop) -> None:
    build.sku(shop, "BULB", price_cents=1200)
    build.stock(shop, "BULB@WH1: 10, LAMP@WH2: 0")
    placed = build.order(shop, "LAMP 5, RUG 1")
    build.stock(shop, "LAMP@WH2: 9")
    with shop.unit_of_work() as uow:
        ids = {x.sku: x.id for x in uow.rows(select(tables.Sku.id, tables.Sku.sku))}
        uow.conn.execute(insert(tables.Substitute), {"sku_id": ids["LAMP"], "substitute_sku_id": ids["BULB"]})
        uow.conn.execute(
            insert(tables.CarrierRate),
            {"id": uow.new_id(), "carrier_id": _carrier_id(shop, uow), "currency": "CNY", "base_cents": 700,
             "transit_days": 2},
        )  # fmt: skip
    before = build.order_row(shop, placed.number)
    ways, shown = options(shop, placed.number)
    assert (shown.short_qty, shown.location, list(ways)) == (
        3,
        "WH1",
        ["wait", "restock", "substitute", "split", "transfer", "cancel"],
    )
    assert (ways["wait"].promised_by_date, ways["wait"].is_estimated) == (TODAY + timedelta(days=10), True)
    assert (ways["restock"].cost_cents, ways["substitute"].cost_cents) == (3 * 400, -3 * 200)
    assert ways["substitute"].promised_by_date == TODAY + timedelta(days=3)
    assert (ways["transfer"].qty, ways["transfer"].cost_cents) == (3, 700)
    assert ways["transfer"].promised_by_date == TODAY + timedelta(days=6)
    assert (ways["cancel"].qty, ways["cancel"].cost_cents) == (3, 3000)
    assert build.order_row(shop, placed.number) == before
    with pytest.raises(NotFound):
        options(shop, placed.number, 2)


def _carrier_id(store, uow) -> int:
    known = uow.conn.execute(select(tables.Carrier.id)).scalar()
    if known is None:
        known = uow.new_id()
        uow.conn.execute(insert(tables.Carrier), {"id": known, "code": "SF", "name": "SF"})
    return known


def test_waiting_asks_the_buyer_tells_the_customer_and_records_the_choice_in_one_transaction(shop) -> None:
    build.rules(shop, shortage={"purchase_request": False})
    placed = build.order(shop, "LAMP 5")
    build.rules(shop, shortage={"purchase_request": True})
    assert build.rows(shop, select(tables.PurchaseRequest.id)) == []
    bought = buy(shop, "LAMP 10")
    shop.run(confirm_purchase_order, PLANNER, ConfirmPurchaseOrder(bought.number, TODAY + timedelta(days=4)))
    done = act(shop, placed.number, "wait", idem_key="w1")
    assert act(shop, placed.number, "wait", idem_key="w1").is_repeat
    assert build.rows(shop, select(tables.PurchaseRequest.qty)) == [(3,)]
    row = build.order_row(shop, placed.number)
    notice = build.notices(shop, "order_delayed", number=placed.number)[-1]
    assert (row.promised_by_date, row.is_promise_estimated) == (TODAY + timedelta(days=7), False)
    assert (notice.facts["promised_by_date"], notice.facts["is_estimated"]) == (
        (TODAY + timedelta(days=7)).isoformat(),
        False,
    )
    assert len(build.notices(shop, "order_delayed", number=placed.number)) == 2
    decision = build.rows(shop, select(tables.Decision.__table__).where(tables.Decision.kind == "shortage"))
    assert [(x.outcome, len(x.alternatives) > 1, x.actor) for x in decision] == [("wait", True, "ann")]
    assert done.order.status == "ready"


def test_a_refused_way_changes_nothing(shop) -> None:
    placed = build.order(shop, "LAMP 5")
    before = build.order_row(shop, placed.number)
    with pytest.raises(InvalidCommand, match="transfer is not open for LAMP; there is wait, restock"):
        act(shop, placed.number, "transfer")
    assert build.order_row(shop, placed.number) == before


def test_a_substitute_waits_for_the_customers_yes(shop) -> None:
    build.sku(shop, "BULB", price_cents=1200)
    build.stock(shop, "BULB@WH1: 10")
    with shop.unit_of_work() as uow:
        ids = {x.sku: x.id for x in uow.rows(select(tables.Sku.id, tables.Sku.sku))}
        uow.conn.execute(insert(tables.Substitute), {"sku_id": ids["LAMP"], "substitute_sku_id": ids["BULB"]})
    placed = build.order(shop, "LAMP 5")
    done = act(shop, placed.number, "substitute")
    assert done.change_id is not None
    assert [x.sku for x in build.order_lines(shop, placed.number)] == ["LAMP"]
    (notice,) = build.notices(shop, "substitute_offer", number=placed.number)
    assert (notice.facts["substitute"]["sku"], notice.facts["substitute"]["qty"]) == ("BULB", 3)
    assert notice.facts["difference_cents"] == 600
    state = shop.run(answer_offer, CLERK, AnswerOffer(placed.number, is_accepted=True))
    assert [(x.sku, x.ordered_qty, x.reserved_qty) for x in build.order_lines(shop, placed.number)] == [
        ("LAMP", 2, 2),
        ("BULB", 3, 3),
    ]
    assert (state.status, build.order_row(shop, placed.number).total_cents) == ("ready", 2 * 1000 + 3 * 1200)
    with pytest.raises(NotFound):
        shop.run(answer_offer, CLERK, AnswerOffer(placed.number, is_accepted=True))


def test_a_substitute_refused_or_overtaken_leaves_the_order_waiting(shop) -> None:
    build.sku(shop, "BULB", price_cents=1200)
    build.stock(shop, "BULB@WH1: 10")
    with shop.unit_of_work() as uow:
        ids = {x.sku: x.id for x in uow.rows(select(tables.Sku.id, tables.Sku.sku))}
        uow.conn.execute(insert(tables.Substitute), {"sku_id": ids["LAMP"], "substitute_sku_id": ids["BULB"]})
    placed = build.order(shop, "LAMP 5")
    act(shop, placed.number, "substitute")
    shop.run(answer_offer, CLERK, AnswerOffer(placed.number, is_accepted=False))
    assert build.order_lines(shop, placed.number)[0].backordered_qty == 3
    act(shop, placed.number, "substitute")
    shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 3)]))  # the lamps came after all
    with pytest.raises(VersionConflict):
        shop.run(answer_offer, CLERK, AnswerOffer(placed.number, is_accepted=True))


def test_a_split_lets_what_is_there_go_now(shop) -> None:
    placed = build.order(shop, "LAMP 5")
    act(shop, placed.number, "split")
    parts = [
        [(x.qty, x.reserved_qty, x.backordered_qty) for x in build.shipment_lines(shop, shipment.number)]
        for shipment in build.shipments(shop, placed.number)
    ]
    assert parts == [[(2, 2, 0)], [(3, 0, 3)]]


def test_a_transfer_brings_the_goods_to_the_order(shop) -> None:
    build.stock(shop, "LAMP@WH2: 0")
    placed = build.order(shop, "LAMP 5")
    build.stock(shop, "LAMP@WH2: 4")
    done = act(shop, placed.number, "transfer", from_location="WH2")
    row = build.order_row(shop, placed.number)
    assert (row.promised_by_date, row.is_promise_estimated) == (TODAY + timedelta(days=6), True)
    shop.run(ship_transfer, PICKER, ShipTransfer(done.transfer))
    shop.run(receive_transfer, PICKER, ReceiveTransfer(done.transfer))
    assert build.order_lines(shop, placed.number)[0].reserved_qty == 5
    assert build.on_hand(shop, "LAMP@WH2") == 1


@pytest.mark.parametrize(("text", "status"), [("LAMP 5", "ready"), ("LAMP 5, RUG 1", "ready")])
def test_cancelling_what_is_short_keeps_the_rest(shop, text: str, status: str) -> None:
    placed = build.order(shop, text)
    done = act(shop, placed.number, "cancel")
    line = build.order_lines(shop, placed.number)[0]
    assert (line.ordered_qty - line.cancelled_qty, line.reserved_qty, line.backordered_qty) == (2, 2, 0)
    assert done.order.status == status
    assert build.rows(shop, select(tables.PurchaseRequest.status)) == [("cancelled",)]
    assert len(build.notices(shop, "order_changed", number=placed.number)) == 1


def test_cancelling_all_that_an_order_is_cancels_it(shop) -> None:
    shop.run(receive_goods, PICKER, ReceiveGoods("WH1", [ReceivedLine("RUG", 1)]))
    build.stock(shop, "VASE@WH1: 0")
    placed = build.order(shop, "VASE 2")
    done = act(shop, placed.number, "cancel")
    assert done.order.status == "cancelled"
