"""From release to delivery: mixed units, wrong scans, short picks, boxes, tracking numbers, signed receipts."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidCommand,
    NotAllowed,
    PermissionDenied,
    QuantityExceeded,
    WrongScan,
)
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.delivery_note import PrintNote, delivery_notes
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.shipping import (
    ConfirmDelivery,
    Difference,
    Pack,
    PackageIn,
    ShipShipment,
    TakeBack,
    confirm_delivery,
    pack,
    ship_shipment,
    take_back,
)
from orders_core.services.stock import SetStockPolicy, set_stock_policy
from orders_core.services.tracking import TrackingEventIn, record_event
from orders_core.services.warehouse import (
    PickAll,
    Release,
    Scan,
    ShortPick,
    Tick,
    pick_all,
    pick_sheet,
    release,
    scan,
    short_pick,
    tick,
)
from orders_core.store import tables
from tests.support import build
from tests.support.build import CLERK, PICKER, PLANNER


@pytest.fixture
def shop(store):
    """Tea by the box of 12 (barcode BOX) and the piece (EACH), lamps and rugs, all at WH1."""
    build.company(store)
    build.carrier(store)
    build.sku(
        store, "TEA", box_of=12, box_price_cents=11000, category="b-food", barcodes={"EACH": "each", "BOX": "box"}
    )
    build.sku(store, "LAMP", category="a-light")
    build.sku(store, "RUG", category="b-food")
    build.stock(store, "TEA@WH1: 100, LAMP@WH1: 10, RUG@WH1: 10")
    return store


def first_shipment(store, number: str) -> str:
    return build.shipments(store, number)[0].number


def shipped_by(tracking: str) -> list[PackageIn]:
    return [PackageIn(tracking_number=tracking)]


def test_boxes_and_pieces_of_one_order_are_picked_and_shipped_exactly(shop) -> None:
    placed = build.order(shop, "TEA 2 box, TEA 5")
    assert placed.total_cents == 2 * 11000 + 5 * 1000
    (pick_list,) = build.release_all(shop, "WH1")
    sheet = shop.run(pick_sheet, PICKER, pick_list)
    assert [(x.packs, x.unit, x.pieces, x.qty) for x in sheet.lines] == [(2, "box", 0, 24), (5, "each", 0, 5)]
    assert sheet.total_qty == 29
    shop.run(scan, PICKER, Scan(pick_list, "BOX", 2))
    with pytest.raises(WrongScan, match="TEA × 12, expected TEA × 5"):
        shop.run(scan, PICKER, Scan(pick_list, "BOX"))
    progress = shop.run(scan, PICKER, Scan(pick_list, "EACH", 5))
    assert (progress.status, progress.picked_qty, progress.open_qty) == ("done", 29, 0)
    shipment = first_shipment(shop, placed.number)
    shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=shipped_by("SF1")))
    assert build.on_hand(shop, "TEA@WH1") == 71
    (note,) = shop.run(delivery_notes, PICKER, PrintNote(shipment))
    assert [(x.packs, x.unit, x.pieces) for x in note.lines] == [(2, "box", 0), (5, "each", 0)]
    assert (note.total_qty, note.recipient, "人民路" in note.address, note.tracking_numbers) == (
        29,
        "王五",
        True,
        ("SF1",),
    )


def test_a_broken_box_is_shown_as_boxes_and_pieces(shop) -> None:
    build.rules(shop, shortage={"policy": "backorder"})
    placed = build.order(shop, "TEA 9 box")
    (pick_list,) = build.release_all(shop, "WH1")
    (line,) = shop.run(pick_sheet, PICKER, pick_list).lines
    assert (line.packs, line.pieces, line.qty) == (8, 4, 100)
    shop.run(pick_all, PICKER, PickAll(pick_list))
    shipment = first_shipment(shop, placed.number)
    shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=shipped_by("SF1")))
    (note,) = shop.run(delivery_notes, PICKER, PrintNote(shipment, is_copy_counted=True))
    assert (note.lines[0].packs, note.lines[0].pieces, note.lines[0].open_qty, note.copy_no) == (8, 4, 8, 1)
    (note,) = shop.run(delivery_notes, PICKER, PrintNote(shipment, is_copy_counted=True))
    assert note.copy_no == 2


def test_lists_run_by_category_and_bin_over_several_orders(shop) -> None:
    for sku, bin_code in (("TEA", "B-2"), ("LAMP", "A-9"), ("RUG", "B-1")):
        shop.run(set_stock_policy, PLANNER, SetStockPolicy(sku, "WH1", bin_code=bin_code))
    build.order(shop, "TEA 1, LAMP 1")
    build.order(shop, "RUG 1, LAMP 2")
    (pick_list,) = build.release_all(shop, "WH1")
    sheet = shop.run(pick_sheet, PICKER, pick_list)
    assert [(x.bin_code, x.sku, x.qty) for x in sheet.lines] == [
        ("A-9", "LAMP", 1),
        ("A-9", "LAMP", 2),
        ("B-1", "RUG", 1),
        ("B-2", "TEA", 1),
    ]


def test_a_wrong_item_is_refused_at_the_scan_and_a_repeated_scan_counts_once(shop) -> None:
    build.order(shop, "LAMP 2")
    (pick_list,) = build.release_all(shop, "WH1")
    with pytest.raises(WrongScan, match="scanned RUG, expected LAMP × 2"):
        shop.run(scan, PICKER, Scan(pick_list, "RUG"))
    with pytest.raises(WrongScan, match="scanned 4711, expected LAMP × 2"):
        shop.run(scan, PICKER, Scan(pick_list, "4711"))
    for _ in range(2):
        progress = shop.run(scan, PICKER, Scan(pick_list, "LAMP", idem_key="s1"))
    assert (progress.picked_qty, progress.open_qty, progress.is_repeat) == (1, 1, True)
    with pytest.raises(IdempotencyMismatch):
        shop.run(scan, PICKER, Scan(pick_list, "LAMP", 2, idem_key="s1"))
    for _ in range(2):
        progress = shop.run(tick, PICKER, Tick(pick_list, 1))
    assert (progress.status, progress.picked_qty) == ("done", 2)


def test_a_release_repeated_gives_the_same_lists(shop) -> None:
    build.order(shop, "LAMP 2")
    first = shop.run(release, PICKER, Release("WH1", idem_key="r1"))
    second = shop.run(release, PICKER, Release("WH1", idem_key="r1"))
    assert (second.pick_lists, second.wave, second.shipments) == (first.pick_lists, first.wave, first.shipments)
    assert second.is_repeat
    assert shop.run(release, PICKER, Release("WH1")).wave is None
    with pytest.raises(IdempotencyMismatch):
        shop.run(release, PICKER, Release("WH1", shipments_per_list=1, idem_key="r1"))


def test_a_short_pick_takes_the_missing_units_out_and_makes_a_backorder(shop) -> None:
    build.rules(shop, shortage={"policy": "backorder"})
    placed = build.order(shop, "LAMP 10, RUG 1")
    (pick_list,) = build.release_all(shop, "WH1")
    progress = shop.run(short_pick, PICKER, ShortPick(pick_list, 1, found_qty=7, note="shelf empty"))
    assert (progress.short_qty, progress.open_qty) == (3, 1)
    level = build.level(shop, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty, level.backordered_qty) == (7, 7, 3)
    movement = build.rows(shop, select(tables.StockMovement.qty).where(tables.StockMovement.reason == "short_pick"))
    assert movement == [(-3,)]
    assert build.rows(shop, select(tables.PurchaseRequest.qty)) == [(3,)]
    (notice,) = build.notices(shop, "order_delayed", number=placed.number)
    row = build.order_row(shop, placed.number)
    assert notice.facts["promised_by_date"] == row.promised_by_date.isoformat() == "2026-03-19"
    assert (notice.facts["previous_promised_by_date"], row.is_promise_estimated) == ("2026-03-05", True)
    shop.run(pick_all, PICKER, PickAll(pick_list))
    shipped = shop.run(
        ship_shipment, PICKER, ShipShipment(first_shipment(shop, placed.number), "SF", packages=shipped_by("SF1"))
    )
    assert shipped.shipped == {"LAMP": 7, "RUG": 1}
    (rest,) = build.shipment_lines(shop, shipped.rest_shipments[placed.number])
    assert (rest.qty, rest.backordered_qty) == (3, 3)
    assert build.order_row(shop, placed.number).status == "partly_shipped"


def test_a_short_pick_takes_other_free_units_where_there_are_some(shop) -> None:
    placed = build.order(shop, "LAMP 4")
    (pick_list,) = build.release_all(shop, "WH1")
    shop.run(short_pick, PICKER, ShortPick(pick_list, 1, found_qty=1))
    (line,) = build.order_lines(shop, placed.number)
    level = build.level(shop, "LAMP@WH1")
    assert (level.on_hand_qty, level.reserved_qty, line.reserved_qty, line.backordered_qty) == (7, 4, 4, 0)
    assert build.notices(shop, "order_delayed") == []


def test_a_line_of_which_nothing_is_found_leaves_the_shipment_planned(shop) -> None:
    build.rules(shop, shortage={"policy": "backorder"})
    placed = build.order(shop, "LAMP 10")
    (pick_list,) = build.release_all(shop, "WH1")
    progress = shop.run(short_pick, PICKER, ShortPick(pick_list, 1))
    assert progress.status == "done"
    assert [x.status for x in build.shipments(shop, placed.number)] == ["planned"]
    assert build.order_row(shop, placed.number).status == "waiting_stock"


def test_a_cancelled_order_stops_the_picker(shop) -> None:
    placed = build.order(shop, "LAMP 2")
    other = build.order(shop, "RUG 1")
    (pick_list,) = build.release_all(shop, "WH1")
    shop.run(tick, PICKER, Tick(pick_list, 1, qty=1))
    shop.run(cancel_order, CLERK, CancelOrder(placed.number, "changed mind"))
    for service, command in ((scan, Scan(pick_list, "LAMP")), (tick, Tick(pick_list, 1))):
        with pytest.raises(NotAllowed, match="in stage cancelled"):
            shop.run(service, PICKER, command)
    progress = shop.run(pick_all, PICKER, PickAll(pick_list))
    assert (progress.status, progress.picked_qty) == ("done", 1)
    with pytest.raises(NotAllowed):
        shop.run(ship_shipment, PICKER, ShipShipment(first_shipment(shop, placed.number), "SF"))
    assert build.ship(shop, other.number) == []  # it is picked already
    assert build.on_hand(shop, "LAMP@WH1") == 10


def test_cancelling_the_only_order_of_a_list_closes_list_and_wave(shop) -> None:
    placed = build.order(shop, "LAMP 2")
    (pick_list,) = build.release_all(shop, "WH1")
    shop.run(scan, PICKER, Scan(pick_list, "LAMP"))
    shop.run(cancel_order, CLERK, CancelOrder(placed.number, "changed mind"))
    assert build.rows(shop, select(tables.PickList.status)) == [("cancelled",)]
    assert build.rows(shop, select(tables.Wave.status)) == [("done",)]


def test_what_an_edit_leaves_of_a_released_rest_can_be_released_again(shop) -> None:
    placed = build.order(shop, "LAMP 8, RUG 1")
    shipment = first_shipment(shop, placed.number)
    shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=shipped_by("SF1"), quantities={"RUG": 1}))
    build.release_all(shop, "WH1")
    shop.run(edit_order, CLERK, EditOrder(placed.number, lines=[LineChange(1, 5)]))
    rest = build.shipments(shop, placed.number)[-1]
    assert rest.status == "planned"
    (again,) = build.release_all(shop, "WH1")
    assert shop.run(pick_all, PICKER, PickAll(again)).picked_qty == 5


def test_several_boxes_each_with_contents_and_number(shop) -> None:
    placed = build.order(shop, "LAMP 3, RUG 2")
    (pick_list,) = build.release_all(shop, "WH1")
    shop.run(pick_all, PICKER, PickAll(pick_list))
    shipment = first_shipment(shop, placed.number)
    with pytest.raises(InvalidCommand, match="say what is in each"):
        shop.run(pack, PICKER, Pack(shipment, [PackageIn(), PackageIn()]))
    with pytest.raises(QuantityExceeded):
        shop.run(pack, PICKER, Pack(shipment, [PackageIn({"LAMP": 4})]))
    boxes = [PackageIn({"LAMP": 2}), PackageIn({"LAMP": 1, "RUG": 2}, weight_g=800)]
    packed = shop.run(pack, PICKER, Pack(shipment, boxes))
    assert shop.run(pack, PICKER, Pack(shipment, boxes)).package_ids == packed.package_ids
    with pytest.raises(InvalidCommand, match="SF needs a tracking number for each box"):
        shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF"))
    with pytest.raises(AlreadyExists):
        shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=shipped_by("SF1") * 2))
    numbers = [PackageIn(tracking_number="SF1"), PackageIn(tracking_number="SF2")]
    shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=numbers))
    content = build.rows(
        shop,
        select(tables.Package.tracking_number, tables.Sku.sku, tables.PackageLine.qty)
        .join(tables.PackageLine, tables.PackageLine.package_id == tables.Package.id)
        .join(tables.ShipmentLine, tables.ShipmentLine.id == tables.PackageLine.shipment_line_id)
        .join(tables.Sku, tables.Sku.id == tables.ShipmentLine.sku_id)
        .order_by(tables.Package.package_no, tables.Sku.sku),
    )
    assert content == [("SF1", "LAMP", 2), ("SF2", "LAMP", 1), ("SF2", "RUG", 2)]
    assert build.notices(shop, "shipped", number=placed.number)[0].facts["tracking_numbers"] == ["SF1", "SF2"]
    other = build.order(shop, "LAMP 1")
    with pytest.raises(AlreadyExists, match="SF SF1"):
        shop.run(
            ship_shipment, PICKER, ShipShipment(first_shipment(shop, other.number), "SF", packages=shipped_by("SF1"))
        )


def test_own_truck_needs_no_number_and_what_is_signed_for_less_opens_a_difference(shop) -> None:
    placed = build.order(shop, "LAMP 5, RUG 1", delivery_method="own_truck")
    shipment = first_shipment(shop, placed.number)
    with pytest.raises(NotAllowed):
        shop.run(confirm_delivery, PICKER, ConfirmDelivery(shipment, "王五"))
    shop.run(ship_shipment, PICKER, ShipShipment(shipment))
    done = shop.run(confirm_delivery, PICKER, ConfirmDelivery(shipment, "王五", signed={"LAMP": 3}))
    assert done.differences == (Difference("LAMP", 5, 3),)
    assert done.orders[0].status == "partly_delivered"
    (ticket,) = build.rows(shop, select(tables.Ticket.number, tables.Ticket.kind))
    assert (ticket.number, ticket.kind) == (done.ticket, "missing")
    again = shop.run(confirm_delivery, PICKER, ConfirmDelivery(shipment, "王五", signed={"LAMP": 3}))
    assert (again.is_repeat, again.differences) == (True, done.differences)
    assert len(build.rows(shop, select(tables.Ticket.id))) == 1


def test_pick_up_is_delivered_when_signed_for_and_the_customer_told_once(shop) -> None:
    placed = build.order(shop, "LAMP 5", delivery_method="pick_up")
    build.ship(shop, placed.number)
    (done,) = build.deliver(shop, placed.number)
    assert (done.orders[0].status, done.differences, done.ticket) == ("delivered", (), None)
    (notice,) = build.notices(shop, "delivered", number=placed.number)
    assert (notice.facts["delivered_date"], notice.facts["tracking_numbers"]) == ("2026-03-02", [])


def test_a_picked_shipment_taken_back_ships_again(shop) -> None:
    placed = build.order(shop, "LAMP 5")
    build.ship(shop, placed.number, tracking_number="SF1")
    shipment = first_shipment(shop, placed.number)
    (state,) = shop.run(take_back, PICKER, TakeBack(shipment, "wrong truck"))
    level = build.level(shop, "LAMP@WH1")
    assert (state.status, level.on_hand_qty, level.reserved_qty) == ("picking", 10, 5)
    shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF", packages=shipped_by("SF1")))
    build.deliver(shop, placed.number)
    with pytest.raises(NotAllowed, match="nobody has seen"):
        shop.run(take_back, PICKER, TakeBack(shipment, "too late"))


def test_a_box_the_carrier_delivered_before_we_shipped_it_counts_once_it_has_left(shop) -> None:
    placed = build.order(shop, "LAMP 5")
    shipment = first_shipment(shop, placed.number)
    shop.run(pick_all, PICKER, PickAll(build.release_all(shop, "WH1")[0]))
    shop.run(pack, PICKER, Pack(shipment, shipped_by("SF1"), carrier="SF"))
    event = TrackingEventIn("SF", "SF1", "delivered", shop.clock.now(), event_key="e1")
    shop.run(record_event, PICKER, event)
    assert build.order_row(shop, placed.number).status == "picking"
    shipped = shop.run(ship_shipment, PICKER, ShipShipment(shipment, "SF"))
    assert shipped.orders[0].status == "delivered"
    with pytest.raises(NotAllowed):
        shop.run(take_back, PICKER, TakeBack(shipment, "too late"))


def test_kits_ship_as_their_components(shop) -> None:
    build.sku(shop, "SET", components="LAMP 1, RUG 2", price_cents=5000)
    placed = build.order(shop, "SET 3")
    (shipped,) = build.ship(shop, placed.number)
    assert shipped.shipped == {"LAMP": 3, "RUG": 6}
    kit, *parts = build.order_lines(shop, placed.number)
    assert (kit.shipped_qty, [part.shipped_qty for part in parts]) == (3, [3, 6])
    assert build.order_row(shop, placed.number).status == "shipped"


def test_who_works_elsewhere_or_has_no_part_in_it_is_refused(shop) -> None:
    build.order(shop, "LAMP 1")
    with pytest.raises(PermissionDenied, match="location WH1"):
        shop.run(release, Actor("far", frozenset({"warehouse"}), location_codes=frozenset({"WH2"})), Release("WH1"))
    with pytest.raises(PermissionDenied, match=r"ann may not shipment\.release"):
        shop.run(release, CLERK, Release("WH1"))


def test_two_releases_at_once_put_each_shipment_on_one_list(shop) -> None:
    for n in range(1, 7):
        build.order(shop, f"TEA {n}")
    answers = build.at_once(shop, release, PICKER, [Release("WH1")] * 4, processes=4)
    listed = [shipment for answer in answers for shipment in answer.shipments]
    assert (len(listed), len(set(listed))) == (6, 6)


def test_shipping_at_once_from_two_processes_takes_the_stock_once(shop) -> None:
    placed = build.order(shop, "LAMP 4")
    (pick_list,) = build.release_all(shop, "WH1")
    shop.run(pick_all, PICKER, PickAll(pick_list))
    command = ShipShipment(first_shipment(shop, placed.number), "SF", packages=shipped_by("SF1"))
    answers = build.at_once(shop, ship_shipment, PICKER, [command] * 4, processes=4)
    assert sorted(answer.is_repeat for answer in answers) == [False, True, True, True]
    assert build.on_hand(shop, "LAMP@WH1") == 6
    assert len(build.notices(shop, "shipped")) == 1


def test_the_planned_day_decides_what_is_released_today(shop, clock) -> None:
    build.order(shop, "LAMP 1", requested_date=date(2026, 3, 5))
    assert build.release_all(shop, "WH1") == ()
    clock.advance(days=3)
    assert len(build.release_all(shop, "WH1")) == 1
