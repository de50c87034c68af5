"""What a person reads is in his own language: notices, tickets, refusals, and the reasons the system gives itself."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from orders_core.errors import NotAllowed
from orders_core.notifications.render import render
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.payments import ReceivePayment, receive_payment
from orders_core.services.returns import RequestReturn, request_return
from orders_core.services.shipping import ConfirmDelivery, confirm_delivery
from orders_core.services.tracking import TrackingEventIn, deliver_package, record_event
from orders_core.store.tables import Carrier, Package, Ticket
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CASHIER, CLERK, PICKER


def _english(store: Store, lines: str = "LAMP 3", *, tracking_number: str = "T1") -> str:
    """An order of an English customer, sent by a carrier with a name in both languages."""
    build.company(store)
    build.customer(store, "ENG", language="en", email="e@e.uk")
    build.stock(store, "LAMP@WH1: 10")
    build.carrier(store)
    with store.unit_of_work() as uow:
        uow.conn.execute(update(Carrier).values(name="顺丰", name_en="SF Express"))
    number = build.order(store, lines, customer="ENG").number
    build.ship(store, number, tracking_number=tracking_number)
    return number


def test_an_english_customer_reads_the_carriers_english_name_and_subject(store: Store) -> None:
    number = _english(store)
    (parcel,) = build.shipments(store, number)
    store.run(confirm_delivery, PICKER, ConfirmDelivery(parcel.number, "Bob", signed={"LAMP": 2}))
    assert build.rows(store, select(Ticket.subject)) == [(f"Signed for other than sent: {parcel.number}",)]
    other = _english(store, "LAMP 1", tracking_number="T2")
    build.deliver(store, other)
    assert build.notices(store, "delivered", number=other)[0].facts["carrier"] == "SF Express"


def test_the_carriers_chinese_words_are_not_sent_to_an_english_customer(store: Store) -> None:
    number = _english(store)
    event = TrackingEventIn("SF", "T1", "疑难件", store.clock.now())
    assert store.run(record_event, PICKER, event).outcome == "applied"
    (told,) = build.notices(store, "delivery_exception", number=number)
    assert told.facts["reason"] is None


@pytest.mark.breaks_invariants  # a package that went out with no shipment sent
def test_a_package_that_has_not_left_is_refused_in_one_language_at_a_time(store: Store) -> None:
    _english(store)
    with store.unit_of_work() as uow:
        package_id = uow.conn.execute(select(Package.id)).scalar_one()
        uow.conn.execute(update(build.tables.Shipment).values(shipped_at=None, status="packed"))
    with pytest.raises(NotAllowed) as refused:
        store.run(deliver_package, PICKER, package_id)
    assert "nothing of it has left yet" in str(refused.value) and str(refused.value).isascii()
    assert "尚未发货" in refused.value.text("zh")


def test_the_systems_own_reasons_are_kept_by_code(store: Store) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 10")
    number = build.order(store, "LAMP 4", payment_method="prepaid").number
    store.run(receive_payment, CASHIER, ReceivePayment("ACME", 4_000, "pay"))
    store.run(edit_order, CLERK, EditOrder(number, lines=[LineChange(1, 3)]))
    (told,) = build.notices(store, "refund_granted", number=number)
    assert "原因：订单已修改" in render(told.template, told.language, told.facts).body
    store.run(request_return, CLERK, RequestReturn(number, {}, "不要了", kind="refund_only"))
    assert build.order_row(store, number).hold_reason == "refund_only"
