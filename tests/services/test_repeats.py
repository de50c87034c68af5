"""A command sent again with its key has one effect and the same answer; another body under the key is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from orders_core.domain.permissions import Actor
from orders_core.errors import AlreadyExists, IdempotencyMismatch
from orders_core.services.edit import (
    EditOrder,
    LineChange,
    OpenChange,
    apply_change,
    drop_change,
    open_change,
)
from orders_core.services.returns import (
    DecideReturn,
    Disposition,
    InspectReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    inspect_return,
    receive_return,
    request_return,
)
from orders_core.services.review import AddNote, add_note
from orders_core.services.split import SplitByHand, split_by_hand
from orders_core.store.tables import OrderChange, OrderNote
from orders_core.store.uow import Store
from tests.support import build
from tests.support.build import CLERK, MANAGER, PICKER


@pytest.fixture
def number(store: Store) -> str:
    """The number of an order of six lamps that are all there."""
    build.company(store)
    build.stock(store, "LAMP@WH1: 6")
    return build.order(store, "LAMP 6").number


def approved_return(store: Store, number: str) -> str:
    build.ship(store, number)
    build.deliver(store, number)
    asked = store.run(request_return, CLERK, RequestReturn(number, {1: 4}, "broken"))
    store.run(decide_return, CLERK, DecideReturn(asked.number, is_approved=True))
    return asked.number


def test_a_return_received_twice_under_one_key_came_back_once(store: Store, number: str) -> None:
    back = approved_return(store, number)
    command = ReceiveReturn(back, {1: 2}, "WH1", idem_key="truck 7")
    first = store.run(receive_return, PICKER, command)
    again = store.run(receive_return, PICKER, command)
    assert again == replace(first, is_repeat=True)
    assert build.order_lines(store, number)[0].returned_qty == 2
    assert build.level(store, "LAMP@WH1").inspecting_qty == 2
    with pytest.raises(IdempotencyMismatch):
        store.run(receive_return, PICKER, replace(command, units={1: 1}))
    store.run(receive_return, PICKER, replace(command, idem_key="truck 8"))
    assert build.order_lines(store, number)[0].returned_qty == 4


def test_a_return_inspected_twice_under_one_key_is_put_back_once(store: Store, number: str) -> None:
    back = approved_return(store, number)
    store.run(receive_return, PICKER, ReceiveReturn(back, {1: 4}, "WH1"))
    command = InspectReturn(back, [Disposition(1, restock_qty=2)], idem_key="bench 1")
    first = store.run(inspect_return, PICKER, command)
    again = store.run(inspect_return, PICKER, command)
    assert again == replace(first, is_repeat=True)
    assert (build.on_hand(store, "LAMP@WH1"), build.level(store, "LAMP@WH1").inspecting_qty) == (2, 2)
    with pytest.raises(IdempotencyMismatch):
        store.run(inspect_return, PICKER, replace(command, dispositions=[Disposition(1, scrap_qty=2)]))


def test_the_last_inspection_sent_again_is_answered_though_the_return_is_closed(store: Store, number: str) -> None:
    back = approved_return(store, number)
    store.run(receive_return, PICKER, ReceiveReturn(back, {1: 4}, "WH1"))
    command = InspectReturn(back, [Disposition(1, scrap_qty=4)], idem_key="bench 2")
    assert store.run(inspect_return, PICKER, command).status == "closed"
    assert store.run(inspect_return, PICKER, command).is_repeat


def test_a_note_sent_twice_is_one_note_and_two_notes_may_say_the_same(store: Store, number: str) -> None:
    store.run(add_note, CLERK, AddNote(number, "called back"))
    command = AddNote(number, "called back", medium="phone", idem_key="click 1")
    first = store.run(add_note, CLERK, command)
    assert store.run(add_note, CLERK, command) == first
    ((count,),) = build.rows(store, select(func.count()).select_from(OrderNote))
    assert count == 2
    with pytest.raises(IdempotencyMismatch):
        store.run(add_note, CLERK, replace(command, text="no answer"))


def test_a_split_sent_twice_makes_one_shipment(store: Store, number: str) -> None:
    (shipment,) = build.shipments(store, number)
    version = build.order_row(store, number).version
    command = SplitByHand(number, shipment.number, {1: 2}, expected_version=version, idem_key="click 2")
    first = store.run(split_by_hand, CLERK, command)
    again = store.run(split_by_hand, CLERK, command)
    assert again == replace(first, is_repeat=True)
    assert [line.qty for x in build.shipments(store, number) for line in build.shipment_lines(store, x.number)] == [
        4,
        2,
    ]
    with pytest.raises(IdempotencyMismatch):
        store.run(split_by_hand, CLERK, replace(command, units={1: 1}))


def test_a_change_set_opened_twice_under_one_key_is_one_also_after_it_was_applied(store: Store, number: str) -> None:
    version = build.order_row(store, number).version
    edit = EditOrder(number, expected_version=version, lines=[LineChange(1, 3)])
    first = store.run(open_change, CLERK, OpenChange(edit, idem_key="click 3"))
    assert store.run(open_change, CLERK, OpenChange(edit, idem_key="click 3")) == first
    with pytest.raises(AlreadyExists):
        store.run(open_change, MANAGER, OpenChange(edit, idem_key="click 4"))
    with pytest.raises(IdempotencyMismatch):
        store.run(open_change, CLERK, OpenChange(replace(edit, lines=[LineChange(1, 2)]), idem_key="click 3"))
    store.run(apply_change, CLERK, first)
    assert store.run(open_change, CLERK, OpenChange(edit, idem_key="click 3")) == first
    assert build.order_lines(store, number)[0].ordered_qty == 3
    second = store.run(open_change, CLERK, OpenChange(EditOrder(number, lines=[LineChange(1, 2)]), idem_key="click 5"))
    store.run(drop_change, CLERK, second)
    ((count,),) = build.rows(store, select(func.count()).select_from(OrderChange))
    assert count == 2


def test_two_people_count_their_keys_side_by_side(store: Store, number: str) -> None:
    back = approved_return(store, number)
    other = Actor("lin", frozenset({"warehouse"}))
    store.run(receive_return, PICKER, ReceiveReturn(back, {1: 1}, "WH1", idem_key="1"))
    assert not store.run(receive_return, other, ReceiveReturn(back, {1: 2}, "WH1", idem_key="1")).is_repeat
    assert store.run(receive_return, other, ReceiveReturn(back, {1: 2}, "WH1", idem_key="1")).is_repeat
    assert build.order_lines(store, number)[0].returned_qty == 3
    mine = store.run(add_note, CLERK, AddNote(number, "ring twice", idem_key="1"))
    theirs = store.run(add_note, MANAGER, AddNote(number, "ring once", idem_key="1"))
    assert mine != theirs
    assert store.run(add_note, MANAGER, AddNote(number, "ring once", idem_key="1")) == theirs
