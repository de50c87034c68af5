"""Suggestions of the daily run: the supplier's terms reach them, and a person can work each out again from what is stored."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from forecasting.reasons import sentences
from orders_core.store import tables as t
from pipelines import plan
from pipelines.daily import RunReport, run_daily
from pipelines.transform.plan import PlanningDefaults
from pipelines.warehouse import read
from pipelines.warehouse.tables import PARTS
from tests.pipelines.book import Book, at, day

ONE_DATABASE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
DAYS = 70


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """LAMP, RUG and VASE sold at Helsinki, LAMP lying at Tampere; ACME shuts for twelve days from the fifth day on."""
    book = Book(database_url)
    book.location("HEL", default=True)
    book.location("TRE")
    book.sku("LAMP", "RUG", "VASE", "PIN")
    book.sku("CAKE", shelf_life_days=14)
    book.sku("CHAIR", supply_mode="make")
    book.supplier("ACME", 5, "LAMP", "RUG", moq=10, pack=12, cost=250)
    book.supplier("BOLT", 4, "VASE", "CAKE", cost=1_000)
    book.supplier("TINY", 3, "PIN", cost=2)
    for number in range(9):
        book.purchase(f"PO{number}", at(day(5 * number)), "BOLT", "VASE@HEL: 20")
        book.receive(f"PO{number}", at(day(5 * number + 4 + 3 * (number % 2))), "VASE@HEL: 20")
    book.purchase("DUE", at(day(DAYS - 3)), "ACME", "RUG@HEL: 24", expected=day(DAYS + 2))
    book.move(at(day(0), 8), "LAMP@HEL: 230", "LAMP@TRE: 400", "RUG@HEL: 160", "VASE@HEL: 60", "PIN@HEL: 80",
              "CAKE@HEL: 150", "CHAIR@HEL: 80")  # fmt: skip
    for number in range(DAYS):
        lines = ["LAMP@HEL: 3", "RUG@HEL: 2", "VASE@HEL: 3", "CAKE@HEL: 2", "CHAIR@HEL: 1"]
        lines += ["LAMP@TRE: 1"] if number % 9 == 0 else []
        lines += ["PIN@HEL: 7"] if number % 8 == 0 else []
        book.order(f"A{number}", at(day(number)), *lines)
        book.ship(f"A{number}", at(day(number), 15))
    with book._transaction(at(day(DAYS))) as uow:
        acme, bolt = book.id_of(t.Supplier, "ACME"), book.id_of(t.Supplier, "BOLT")
        shut = [{"supplier_id": acme, "day": day(DAYS + d)} for d in range(5, 17)]
        uow.conn.execute(insert(t.SupplierClosedDay), shut)
        uow.conn.execute(update(t.Supplier).where(t.Supplier.id == bolt).values(min_order_cents=90_000))
        breaks = [{"min_qty": 120, "unit_cost_cents": 200}]
        lamp = (t.SupplierSku.supplier_id == acme) & (t.SupplierSku.sku_id == book.id_of(t.Sku, "LAMP"))
        uow.conn.execute(update(t.SupplierSku).where(lamp).values(price_breaks=breaks))
    yield book
    book.close()


def run(database_url: str, warehouse_dir: Path, **changed: Any) -> RunReport:
    return run_daily(
        database_url, warehouse_dir, as_of=day(DAYS), run_id=f"run-{len(changed)}", horizon_days=56,
        now=lambda: datetime(2026, 6, 1, tzinfo=UTC),
        defaults=PlanningDefaults(**changed),
    )  # fmt: skip


def by_sku(warehouse_dir: Path, place: str = "HEL") -> dict[str, dict[str, Any]]:
    rows = plan.suggestions(warehouse_dir, only_to_buy=False, location_code=place).rows
    return {row["sku"]: row for row in rows.iter_rows(named=True)}


def worked_out_by_hand(row: dict[str, Any]) -> int:
    """The quantity as docs/numbers.md tells a person to work it out, from the printed parts and terms alone."""
    target = row["demand_part_qty"] + row["safety_part_qty"]
    assert target == row["order_up_to_qty"]
    there = (row["on_hand_qty"] or 0) - (row["reserved_qty"] or 0) + row["on_order_qty"] - row["backordered_qty"]
    needed = max(0, target - there + row["late_part_qty"] + row["lost_part_qty"])
    left = needed + row["transfer_part_qty"]
    qty = left + row["lot_part_qty"]
    if qty:
        qty = max(qty, row["moq_qty"])
        if row["pack_part_qty"] >= 0:
            qty = -(-qty // row["pack_qty"]) * row["pack_qty"]
        else:
            qty = qty // row["pack_qty"] * row["pack_qty"]
    if row["wait_part_qty"]:
        qty = 0
    return int(qty + row["price_break_part_qty"] + row["joint_part_qty"] + row["budget_part_qty"])


@ONE_DATABASE
def test_the_terms_of_suppliers_reach_the_suggestions_and_every_quantity_can_be_worked_out_again(
    book: Book, database_url: str, tmp_path: Path
) -> None:
    report = run(database_url, tmp_path / "w", pools_places=False)  # else Tampere's 400 lamps would do
    rows = by_sku(tmp_path / "w")
    assert set(rows) == {"LAMP", "RUG", "VASE", "PIN", "CAKE", "CHAIR"}

    lamp, rug, vase = rows["LAMP"], rows["RUG"], rows["VASE"]
    # four of the five days are worked before the twelve shut ones: it comes on day 17; so does the next review, plus five
    assert (lamp["protection_interval_days"], lamp["arrival_date"]) == (22, day(DAYS + 17))
    assert "supplier_closed" in lamp["reason_codes"]
    assert lamp["order_target"] == "cost"
    assert lamp["price_break_part_qty"] > 0
    assert lamp["unit_cost_cents"] == 200
    assert lamp["suggested_qty"] >= 120
    assert lamp["order_value_cents"] == 200 * lamp["suggested_qty"]
    assert json.loads(rug["facts"])["shutdown_days"] == 10
    assert rug["on_order_part_qty"] == -24

    assert vase["supplier_code"] == "BOLT"
    assert "lead_time_spread" in vase["reason_codes"]  # receipts took four and seven days
    assert json.loads(vase["facts"])["lead_low_days"] == 4
    assert json.loads(vase["facts"])["lead_high_days"] == 7
    joined = read.query(tmp_path / "w", "SELECT * FROM mart.supplier_order").row(0, named=True)
    assert (joined["supplier_code"], joined["decision"]) == ("BOLT", "raised")
    ordered = sum(row["order_value_cents"] for row in rows.values() if row["supplier_code"] == "BOLT")
    assert ordered == joined["order_value_cents"] >= 90_000
    assert rows["CAKE"]["suggested_qty"] <= 2 * 14 * 2  # it keeps for two weeks

    assert rows["CHAIR"]["supply_kind"] == "production"
    assert "made_here" in rows["CHAIR"]["reason_codes"]
    assert rows["CHAIR"]["order_target"] == "cycle_service"  # nobody knows what it costs
    assert "cost_unknown" in rows["CHAIR"]["reason_codes"]
    assert "min_max" in rows["PIN"]["reason_codes"]  # worth cents, and too short a history to be trusted

    checked = 0
    for place in ("HEL", "TRE"):
        for row in by_sku(tmp_path / "w", place).values():
            assert worked_out_by_hand(row) == row["suggested_qty"] == sum(row[part] for part in PARTS), row["sku"]
            for language in ("zh", "en"):
                assert all("{" not in text for text in sentences(row["reason_codes"], row["facts"], language))
            assert str(row["order_up_to_qty"]) in row["reason"]
            assert plan.waterfall(row)["total_qty"].last() == row["suggested_qty"]
            checked += 1
    assert checked == report.row_counts["mart.reorder_suggestion"] == 7


@ONE_DATABASE
def test_transfers_and_budgets_where_they_are_switched_on(book: Book, database_url: str, tmp_path: Path) -> None:
    apart = {"pools_places": False, "transfer_unit_cents": 1}
    run(database_url, tmp_path / "w", **apart, target="fill_rate", budget_cents={"CNY": 89_000})
    rows = by_sku(tmp_path / "w")
    moves = read.query(tmp_path / "w", "SELECT * FROM mart.transfer_suggestion")
    (move,) = moves.rows(named=True)
    assert (move["sku"], move["from_location_code"], move["to_location_code"]) == ("LAMP", "TRE", "HEL")
    assert rows["LAMP"]["transfer_part_qty"] == -move["transfer_qty"] < 0
    assert rows["LAMP"]["order_target"] == "fill_rate"
    spent = read.query(tmp_path / "w", "SELECT sum(order_value_cents) AS cents FROM mart.reorder_suggestion")
    assert spent["cents"].item() <= 89_000
    assert rows["VASE"]["suggested_qty"] == rows["CAKE"]["suggested_qty"] == 0  # BOLT takes no order that small
    assert "budget_cut" in rows["VASE"]["reason_codes"]
    for row in rows.values():
        assert worked_out_by_hand(row) == row["suggested_qty"]
    kept = read.query(
        tmp_path / "w", "SELECT * EXCLUDE (as_of_date) FROM mart.suggestion_history ORDER BY sku, location_code"
    )
    now = read.query(tmp_path / "w", "SELECT * FROM mart.reorder_suggestion ORDER BY sku, location_code")
    assert kept.equals(now.select(kept.columns))
    assert now.height == 7


@pytest.fixture
def keeping(database_url: str) -> Iterator[Book]:
    """HONEY, JAM and TEA sell alike and lie alike; JAM's lot expires soon, and TEA got a lot like it only a day later."""
    book = Book(database_url)
    book.location("HEL", default=True)
    book.sku("HONEY", "JAM", "TEA")
    book.supplier("ACME", 7, "HONEY", "JAM", "TEA", cost=250)
    book.move(at(day(0), 8), "HONEY@HEL: 240", "JAM@HEL: 180", "TEA@HEL: 240")
    book.move(at(day(2), 8), "JAM@HEL: 60", expires=day(33))
    for number in range(31):
        book.order(f"A{number}", at(day(number)), "HONEY@HEL: 5", "JAM@HEL: 5", "TEA@HEL: 5")
        book.ship(f"A{number}", at(day(number), 15))
    book.move(at(day(31), 8), "TEA@HEL: 60", expires=day(33))
    yield book
    book.close()


def test_what_expires_on_the_shelf_is_ordered_again_in_time(keeping: Book, database_url: str, tmp_path: Path) -> None:
    run_daily(database_url, tmp_path / "w", as_of=day(30), run_id="r", now=lambda: datetime(2026, 6, 1, tzinfo=UTC))
    rows = by_sku(tmp_path / "w")
    assert rows["TEA"]["suggested_qty"] == rows["HONEY"]["suggested_qty"]  # what comes tomorrow was not known
    spoilt = json.loads(rows["JAM"]["facts"])["expiring_qty"]
    assert 40 <= spoilt <= 50  # sixty less what three days sell
    assert rows["JAM"]["demand_part_qty"] == rows["HONEY"]["demand_part_qty"] + spoilt
    assert rows["JAM"]["suggested_qty"] > rows["HONEY"]["suggested_qty"]
    assert f"about {spoilt} are units on hand that expire unsold" in rows["JAM"]["reason"]
    assert worked_out_by_hand(rows["JAM"]) == rows["JAM"]["suggested_qty"]
