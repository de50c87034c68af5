"""Approving suggestions, overriding the forecast and adjusting the past from the command line."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import text, update

from apps.approving import suggested
from apps.components.planning import most_urgent_first, published_plan
from orders_core.ports import FixedClock, SystemClock
from orders_core.services.approve_suggestions import ApproveSuggestions, approve_suggestions
from orders_core.services.close_replenishment import CloseReplenishment, close_replenishment
from orders_core.services.plan_changes import SetPlanning, set_planning
from orders_core.services.receiving import ReceivedLine, ReceiveGoods, receive_goods
from orders_core.store.tables import SupplierSku
from orders_core.store.uow import Store
from pipelines.warehouse.tables import PARTS
from tests.cli.conftest import Cli
from tests.support import build

LAST_DAY = "2026-03-30"


@pytest.fixture
def traded(shop: Store, clock: FixedClock) -> Store:
    """A company that sold lamps and rugs for four weeks; forecasts of so short a history have grade D."""
    build.rules(shop, shortage={"policy": "backorder"}, checks={"duplicate": "ignore"})
    build.supplier(shop, "S1", "LAMP 450, RUG 100")
    is_rug = SupplierSku.sku_id == build.sku(shop, "RUG")
    with shop.unit_of_work() as uow:  # rugs come by five, ten at least
        uow.conn.execute(update(SupplierSku).where(is_rug).values(min_order_qty=10, pack_qty=5))
    for day in range(28):
        build.order(shop, f"LAMP {1 + day % 3}, RUG 1")
        clock.advance(days=1)
    return shop


def lines_bought(store: Store) -> list[tuple[str, int]]:
    query = "SELECT s.sku, l.qty FROM purchase_order_line l JOIN sku s ON s.id = l.sku_id ORDER BY l.id"
    return [tuple(row) for row in build.rows(store, text(query))]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_suggestion_approved_twice_is_one_purchase_order_and_a_changed_one_has_its_reason(
    traded: Store, cli: Cli
) -> None:
    assert cli("run", "daily", "--as-of", LAST_DAY).code == 0
    rehearsed = cli("plan", "approve", "LAMP@WH1", "--dry-run", "--json")
    assert rehearsed.data["dry_run"] and lines_bought(traded) == []
    first = cli("plan", "approve", "LAMP@WH1", "--as", "pia", "--json")
    again = cli("plan", "approve", "LAMP@WH1", "--as", "mei", "--json")
    (one,), (other,) = first.data["approved"], again.data["approved"]
    assert (one["is_repeat"], other["is_repeat"], other["approved_by"]) == (False, True, "pia")
    assert one["purchase_order"] == other["purchase_order"]
    assert lines_bought(traded) == [("LAMP", one["qty"])]
    (total,) = first.data["totals"]
    assert (total["supplier_code"], total["lines"], total["value_cents"]) == ("S1", 1, one["qty"] * 450)
    said = cli("plan", "approve", "LAMP@WH1")
    assert "approved before by pia" in said.err and one["purchase_order"] in said.out
    assert "已由 pia 审核" in cli("plan", "approve", "LAMP@WH1", "--lang", "zh").err
    assert cli("plan", "approve", "RUG@WH1:7").err.startswith("E_INVALID")
    assert cli("plan", "approve", "VASE@WH1").code == cli("plan", "approve").code == 2
    slip = cli("plan", "approve", "RUG@WH1:4O")
    assert slip.code == 2 and "RUG@WH1:4O: '4O' is not a whole number" in slip.err
    for asked in (("--sku", "VASE"), ("--location", "WH7"), ("--sku", "RUG", "--location", "WH7")):
        unknown = cli("plan", "show", *asked)
        assert unknown.code == 2 and f"the plan has no {asked[1] if len(asked) == 2 else 'WH7'}" in unknown.err
    none_of_it = cli("plan", "approve", "RUG@WH1:0")
    assert none_of_it.code == 2 and "'0' is not a whole number of units, 1 to" in none_of_it.err
    nobody = cli("plan", "approve", "--trusted", "--supplier", "S9")
    assert nobody.code == 2 and "buys nothing from S9; it knows S1" in nobody.err
    alone = cli("plan", "approve", "RUG@WH1", "--supplier", "S2")
    assert alone.code == 2 and "--supplier" in alone.err, "an option that does nothing is refused by name"
    assert lines_bought(traded) == [("LAMP", one["qty"])]
    seven = ("plan", "approve", "RUG@WH1:7", "--reason", "shelf is small")
    tried = cli(*seven, "--dry-run", "--lang", "zh").err
    assert "RUG@WH1：7 件低于供应商的起订量 10 件" in tried and "7 件不是整箱（5 件/箱）" in tried
    bought = cli(*seven)
    assert "RUG@WH1: 7 is less than the supplier's least order of 10" in bought.err and "RUG" in bought.out
    assert lines_bought(traded)[-1] == ("RUG", 7)
    number = cli("plan", "show", "--sku", "RUG", "--json").data["suggestions"][0]["approved_number"]
    assert (
        f"7 stays, not 9; to undo it: dinghuo plan close {number}"
        in cli("plan", "approve", "RUG@WH1:9", "--reason", "r").err
    )
    assert cli("plan", "close", number, "--reason", " ").code == cli("plan", "close", number).code == 2
    assert cli("plan", "close", number, "--reason", "wrong", "--dry-run", "--json").data["status"] == "cancelled"
    assert "已取消" in cli("plan", "close", number, "--reason", "wrong quantity", "--lang", "zh").err
    assert cli("plan", "close", number, "--reason", "another").err.startswith("it was closed before")
    assert cli("plan", "close", "PO-0", "--reason", "r").err.startswith("E_NOT_FOUND")
    (rug,) = cli("plan", "show", "--sku", "RUG", "--json").data["suggestions"]
    assert rug["approved_number"] is None, "nothing of it had come: the suggestion is open again"
    unseen = cli("plan", "approve", "--trusted", "--dry-run", "--json").data["approved"]
    assert "RUG" not in {each["sku"] for each in unseen}, "a person closed it: only a person orders it again"
    assert cli(*seven, "--json").data["purchase_orders"] != [number]
    assert lines_bought(traded)[1:] == [("RUG", 7), ("RUG", 7)]
    rows = cli("plan", "show", "--json").data["suggestions"]
    trusted = {row["sku"] for row in rows if row["grade"] in ("A", "B") or "min_max" in row["reason_codes"]}
    again = cli("plan", "approve", "--trusted", "--json").data
    approved = again["approved"]
    assert "RUG" in trusted
    assert {each["sku"] for each in approved} == trusted and all(each["is_repeat"] for each in approved)
    assert again["totals"] == [], "nothing was ordered a second time, so nothing is added up"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_is_made_is_closed_like_what_is_bought_and_no_longer_on_order(
    traded: Store, cli: Cli, clock: FixedClock
) -> None:
    build.sku(traded, "CAKE", supply_mode="make")
    build.stock(traded, "CAKE@WH1: 8")
    for _ in range(7):
        build.order(traded, "CAKE 1")
        clock.advance(days=1)
    clock.advance(days=-1)  # on the evening of the plan's day
    last = clock.now().astimezone(traded.zone).date()

    def cake(day: date) -> dict[str, Any]:
        assert cli("run", "daily", "--as-of", str(day)).code == 0
        (row,) = cli("plan", "show", "--all", "--sku", "CAKE", "--json").data["suggestions"]
        return dict(row)

    assert cake(last)["on_order_qty"] == 0
    plan = published_plan(Path("warehouse").resolve(), "en")  # kept by path: another test's folder has this name, too
    assert plan is not None
    row = plan.rows.filter(pl.col("sku") == "CAKE").row(0, named=True)
    asked = suggested(row, as_of_date=last, qty=9, reason="fair")
    (number,) = traded.run(approve_suggestions, build.PLANNER, ApproveSuggestions([asked], last)).production_orders
    assert cake(last)["on_order_qty"] == 9
    asked_again = cli("plan", "approve", "CAKE@WH1:7", "--reason", "r")
    assert f"9 stays, not 7; to undo it: dinghuo plan close {number}" in asked_again.err
    assert cli("plan", "close", number, "--reason", "wrong", "--dry-run", "--json").data["status"] == "cancelled"
    assert f"{number} 已取消" in cli("plan", "close", number, "--reason", "r", "--dry-run", "--lang", "zh").err
    clock.advance(days=1)  # the command line's clock is today's, so a plan of then would not know what it closes
    traded.run(close_replenishment, build.PLANNER, CloseReplenishment(number, "wrong"))
    assert cake(last + timedelta(days=1))["on_order_qty"] == 0
    missing = cli("plan", "close", "MO-0", "--reason", "r", "--lang", "zh")
    assert "未找到采购单或生产任务单 MO-0" in missing.err


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_plan_is_listed_in_the_order_of_the_desk_and_says_what_was_approved(
    traded: Store, cli: Cli, clock: FixedClock
) -> None:
    """LAMP is the most money, but lies on the shelf; RUG is out of stock."""
    clock.advance(days=-1)
    last = str(clock.now().astimezone(traded.zone).date())
    traded.run(receive_goods, build.PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 42, unit_cost_cents=450)]))
    assert cli("run", "daily", "--as-of", last).code == 0
    desk = published_plan(Path("warehouse"), "en")
    assert desk is not None
    shown = cli("plan", "show", "--json").data["suggestions"]
    assert [(row["sku"], row["status"]) for row in shown] == [("RUG", "out"), ("LAMP", "now")]
    assert [row["sku"] for row in shown] == desk.rows["sku"].to_list()
    assert shown[0]["order_value_cents"] < shown[1]["order_value_cents"]
    assert {row["approved_number"] for row in shown} == {None}
    (number,) = cli("plan", "approve", "RUG@WH1:7", "--reason", "fair", "--as", "pia", "--json").data["purchase_orders"]
    rug, lamp = cli("plan", "show", "--json").data["suggestions"]
    assert (rug["approved_number"], rug["approved_qty"], rug["approved_by"]) == (number, 7, "pia")
    assert lamp["approved_number"] is None
    english, chinese = (cli("plan", "show", "--lang", language).out.splitlines() for language in ("en", "zh"))
    assert "ordered as" in english[0] and "已生成" in chinese[0]
    assert english[1].startswith("▲ out") and chinese[1].startswith("▲ 已断货")
    assert [number in line for line in (*english[1:3], *chinese[1:3])] == [True, False] * 2
    assert "inventory position" in english[1] and "by least expected cost" not in english[1], (
        "the sum; the rest by --sku"
    )
    assert "target by least expected cost" in cli("plan", "show", "--sku", "LAMP").out
    rows = list(csv.DictReader(io.StringIO(cli("plan", "show", "--csv").out)))
    assert [(row["status"], row["approved_number"]) for row in rows] == [("out", number), ("now", "")]
    assert [sum(int(row[part]) for part in PARTS) for row in rows] == [int(row["suggested_qty"]) for row in rows]
    assert (rows[0]["approved_by"], rows[1]["unit_cost_cents"]) == ("pia", "450")
    for beyond, statuses in (
        ("LAMP", [("LAMP", "cut"), ("RUG", "enough")]),
        ("RUG", [("RUG", "cut"), ("LAMP", "enough")]),  # out of stock, but of it nothing is ordered
    ):
        cut = desk.rows.with_columns(
            suggested_qty=pl.lit(0), reason_codes=pl.when(pl.col("sku") == beyond).then(["budget_cut"]).otherwise([])
        )
        assert most_urgent_first(cut, desk.as_of_date).select("sku", "status").rows() == statuses


def test_an_override_is_set_listed_and_withdrawn(shop: Store, cli: Cli) -> None:
    today = SystemClock().now().astimezone(shop.zone).date()
    days = ("--from", str(today), "--through", str(today + timedelta(days=9)), "--reason", "fair")
    number = cli("plan", "override", "set", "LAMP@WH1", *days, "--times", "2", "--as", "pia").out.strip()
    (row,) = csv.DictReader(io.StringIO(cli("plan", "override", "list", "--csv").out))
    assert (row["id"], row["sku"], row["kind"], row["amount"], row["author"]) == (
        number,
        "LAMP",
        "multiply",
        "2.0",
        "pia",
    )
    assert row["expires_date"] == str(today + timedelta(days=9))
    listed = cli("plan", "override", "list", "--lang", "zh").out
    assert "制定人" in listed and "乘以倍数" in listed and "multiply" not in listed
    again = cli("plan", "override", "set", "LAMP@WH1", *days, "--times", "2", "--as", "mei")
    assert f"pia set the same for the same days before: number {number}" in again.err
    assert cli("plan", "override", "withdraw", number, "--as", "mei").out.strip() == number
    assert cli("plan", "override", "list", "--json").data == []
    (kept,) = cli("plan", "override", "list", "--all", "--json").data
    assert kept["withdrawn_by"] == "mei"
    assert cli("plan", "override", "set", "LAMP@WH1", *days).code == 2
    assert cli("plan", "override", "set", "LAMP@WH1", *days, "--times", "2", "--daily", "1").code == 2
    assert cli("plan", "override", "set", "LAMP", *days, "--times", "2").code == 2
    assert cli("plan", "override", "set", "LAMP@WH1", *days, "--times", "200").err.split()[0] == "E_INVALID"


def test_past_days_are_adjusted_listed_and_taken_back(shop: Store, cli: Cli) -> None:
    days = ("--from", "2026-03-20", "--through", "2026-03-21", "--reason", "hotel")
    number = cli("plan", "adjust", "set", "LAMP@WH1", *days, "--daily", "1.5", "--key", "k").out.strip()
    assert cli("plan", "adjust", "set", "LAMP@WH1", *days, "--daily", "1.5", "--key", "k").out.strip() == number
    assert cli("plan", "adjust", "set", "RUG@WH1", *days, "--ignore", "--dry-run").code == 0
    (row,) = cli("plan", "adjust", "list", "--json").data
    assert (row["kind"], row["daily_qty"], row["from_date"]) == ("replace", 1.5, "2026-03-20")
    assert cli("plan", "adjust", "withdraw", number).code == 0
    assert cli("plan", "adjust", "list", "--json").data == []
    assert cli("plan", "adjust", "set", "LAMP@WH1", *days).code == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_overrides_were_worth_is_listed_and_an_older_plan_needs_a_word(
    traded: Store, cli: Cli, clock: FixedClock
) -> None:
    from orders_core.services.plan_changes import SetOverride, set_override

    last = clock.now().astimezone(traded.zone).date() - timedelta(days=1)
    clock.advance(days=-1)  # on the evening of the plan's day
    traded.run(receive_goods, build.PICKER, ReceiveGoods("WH1", [ReceivedLine("LAMP", 100, unit_cost_cents=450)]))
    days = (last + timedelta(days=1), last + timedelta(days=7))
    traded.run(set_override, build.PLANNER, SetOverride("LAMP", "WH1", *days, "set_daily", 5.0, "fair"))
    assert cli("run", "daily", "--as-of", str(last)).code == 0
    assert cli("plan", "overrides", "--json").data["overrides"] == []
    of_that_day = ("plan", "approve", "LAMP@WH1", "--of", str(last), "--key", "k", "--json")
    first = cli(*of_that_day)
    clock.advance(days=1)
    for _ in range(7):
        build.order(traded, "LAMP 5")
        clock.advance(days=1)
    assert cli("run", "daily", "--as-of", str(last + timedelta(days=7))).code == 0
    data = cli("plan", "overrides", "--json").data
    (one,), (author,) = data["overrides"], data["authors"]
    assert (one["known_days"], one["after_error_qty"], one["reason"]) == (7, 0.0, "fair")
    assert one["value_added_qty"] == pytest.approx(35 - one["before_qty"], abs=0.01)
    assert (author["author"], author["value_added_qty"]) == ("pia", one["value_added_qty"])
    said = cli("plan", "overrides", "--by", "reason")
    assert "fair" in said.out and "units of error less" in said.err
    assert "误差共减少" in cli("plan", "overrides", "--lang", "zh").err
    old = cli(*of_that_day)  # by now there is a newer plan; the same command is still the same
    assert old.code == 0 and old.data["as_of_date"] == str(last)
    assert old.data["is_repeat"] and old.data["purchase_orders"] == first.data["purchase_orders"]
    new = cli("plan", "approve", "LAMP@WH1")
    assert new.err.split()[0] == "E_SUGGESTION_OVERTAKEN" and old.data["purchase_orders"][0] in new.err
    assert len(lines_bought(traded)) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_each_service_would_take_is_a_table_and_a_file(traded: Store, cli: Cli) -> None:
    assert cli("run", "daily", "--as-of", LAST_DAY).code == 0
    shown = cli("plan", "service").out.splitlines()
    assert shown[0].split("  ")[0] == "cycle service" and shown[1].startswith("50 %")
    assert {"least cost", "as now"} <= {line.split("  ")[0] for line in shown}
    assert cli("plan", "service", "--lang", "zh").out.startswith("周期服务率")
    targets = cli("plan", "service", "--json").data["targets"]
    assert [row["mean_stock_cents"] for row in targets] == sorted(row["mean_stock_cents"] for row in targets)
    assert cli("plan", "service", "--csv").out.startswith("currency,order_aim,service_ratio,")
    assert cli("plan", "service", "--class", "ax").code == 2
    nobody = cli("plan", "service", "--class", "CX")
    assert (nobody.out, "no planned product is in class CX" in nobody.err) == ("", True)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_the_budget_leaves_out_is_listed_as_beyond_it_also_when_out_of_stock(
    traded: Store, cli: Cli, clock: FixedClock
) -> None:
    clock.advance(days=-1)
    traded.run(set_planning, build.PLANNER, SetPlanning(budgets={"CNY": 1}, reason="none left"))
    last = str(clock.now().astimezone(traded.zone).date())
    assert cli("run", "daily", "--as-of", last).code == 0
    rows = cli("plan", "show", "--json").data["suggestions"]
    assert {row["suggested_qty"] for row in rows} == {0} and {row["status"] for row in rows} == {"cut"}
    assert "2 of 2 suggestions, 2 of them beyond the budget" in cli("plan", "show").err
    assert "共 2 条建议（其中 2 条超出预算）" in cli("plan", "show", "--lang", "zh").err


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_suggestions_aim_at_is_set_and_shown_in_a_line(traded: Store, cli: Cli) -> None:
    assert "least expected cost" in cli("setup", "target").out
    assert cli("setup", "target", "--by", "luck").err.startswith("E_INVALID")
    assert cli("setup", "target", "--by", "fill_rate", "--ratio", "1.5").err.startswith("E_INVALID")
    rehearsed = cli("setup", "target", "--by", "fill_rate", "--ratio", "0.97", "--dry-run", "--json").data
    assert (rehearsed["target"], cli("setup", "target", "--json").data["target"]) == ("fill_rate", "cost")
    said = cli("setup", "target", "--by", "fill_rate", "--ratio", "0.97", "--reason", "fair", "--lang", "zh")
    assert said.out.splitlines()[0] == "补货目标：满足率 97%"
    for wrong, named in (("CNY", "CNY"), ("CNY=much", "much"), ("CNY=1.234", "1.234"), ("YUAN=5", "YUAN")):
        refused = cli("setup", "target", "--budget", wrong)
        assert refused.code and named in refused.err and not refused.out
    assert cli("setup", "target", "--holding", "-1", "--lang", "zh").err.startswith("E_INVALID")
    held = cli("setup", "target", "--budget", "CNY=500.50", "--budget", "EUR=9", "--holding", "0.3", "--json").data
    assert (held["budget_cents"], held["holding_ratio"]) == ({"CNY": 50_050, "EUR": 900}, 0.3)
    lifted = cli("setup", "target", "--budget", "EUR=none", "--reason", "no longer").out
    assert "the orders of each plan, made goods included, cost no more than ¥500.50" in lifted and "€" not in lifted
    assert "what was approved of earlier plans" in lifted
    assert "之前计划已审核的" in cli("setup", "target", "--lang", "zh").out
    assert "tonight" not in cli("setup", "target", "--budget", "EUR=none", "--reason", "again").err, "nothing changed"
    assert "EUR is named twice" in cli("setup", "target", "--budget", "EUR=1", "--budget", "EUR=2").err
    assert cli("setup", "target", "--budget", "JPY=12.5").err.endswith("like 1234\n")
    classes = ("setup", "target", "--class", "AX=0.98", "--class", "CZ=0.8", "--reason", "a shelf")
    assert cli(*classes, "--json").data["class_service"] == {"AX": 0.98, "CZ": 0.8}
    assert "CZ 类商品按周期服务率 80%" in cli("setup", "target", "--class", "AX=none", "--lang", "zh").out
    for wrong in ("AX", "AX=much", "AA=0.9", "AX=98"):
        assert cli("setup", "target", "--class", wrong).code
    moved = cli("setup", "target", "--transfer-cents", "150", "--min-max-cents", "none")
    assert "0 cents a time and 150 cents a unit" in moved.out and "no transfers are suggested while" in moved.out
    assert "grades C and D" not in moved.out and "tonight" in moved.err
    assert "a time and" not in cli("setup", "target", "--transfer-cents", "none", "--places-apart").out
    assert "much is not a whole number" in cli("setup", "target", "--transfer-cents", "much").err
    assert "a year costs 30%" in lifted and "一年的成本为进价的 30%" in cli("setup", "target", "--lang", "zh").out
    assert cli("run", "daily", "--as-of", LAST_DAY).code == 0  # before it was set
    assert "orders are for least expected cost" in cli("plan", "show").err
    assert "补货目标：预期成本最低" in cli("plan", "show", "--lang", "zh").err
