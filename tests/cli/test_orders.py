"""Placing, looking at and deciding on orders from the command line, on both databases."""

from __future__ import annotations

import csv
import io

import pytest

from orders_core.store.uow import Store
from tests.cli.conftest import Cli
from tests.support import build

WAITING = ("--payment", "prepaid")  # a prepaid order waits for its money


def place(cli: Cli, *words: str) -> str:
    said = cli("orders", "place", "--customer", "ACME", "--channel", "phone", *words)
    assert said.code == 0, said.err
    return said.out.strip()


def test_an_order_is_placed_and_its_number_is_all_there_is_on_stdout(shop: Store, cli: Cli) -> None:
    number = place(cli, "LAMP:2", "RUG:1")
    row = build.order_row(shop, number)
    assert (row.status, row.total_cents) == ("ready", 3000)
    assert build.level(shop, "LAMP@WH1").reserved_qty == 2


def test_a_rehearsal_places_nothing(shop: Store, cli: Cli) -> None:
    said = cli("orders", "place", "LAMP:2", "--customer", "ACME", "--channel", "phone", "--dry-run", "--json")
    assert (said.code, said.data["dry_run"], said.data["total_cents"]) == (0, True, 2000)
    assert "nothing was written" in said.err
    assert build.level(shop, "LAMP@WH1").reserved_qty == 0
    assert cli("orders", "list", "--view", "all", "--json").data["total"] == 0


def test_the_same_key_places_one_order(shop: Store, cli: Cli) -> None:
    assert place(cli, "LAMP:2", "--key", "k1") == place(cli, "LAMP:2", "--key", "k1")
    other = cli("orders", "place", "LAMP:3", "--customer", "ACME", "--channel", "phone", "--key", "k1")
    assert (other.code, other.err.split()[0]) == (1, "E_IDEMPOTENCY_MISMATCH")


def test_a_shortage_is_said_in_the_readers_language_without_a_traceback(shop: Store, cli: Cli) -> None:
    asked = ("orders", "place", "LAMP:21", "--customer", "ACME", "--channel", "phone")
    assert cli(*asked).err == "E_STOCK_SHORT LAMP: 21 asked for, 20 available to promise\n"
    said = cli(*asked, "--lang", "zh")
    assert (said.code, said.out, said.err) == (1, "", "E_STOCK_SHORT LAMP：需要 21，可售 20\n")


@pytest.mark.parametrize("line", ["LAMP", "LAMP:", "LAMP:two", ":2", "LAMP:-1", "LAMP:2:", "LAMP:12345678"])
def test_a_line_that_is_not_sku_and_quantity_is_wrong_usage(cli: Cli, line: str) -> None:
    said = cli("orders", "place", line, "--customer", "ACME", "--channel", "phone")
    assert said.code == 2
    assert f"{line} is not like LAMP:2" in said.err


def test_a_clerk_sees_stage_reason_lines_shipments_and_what_happened(shop: Store, cli: Cli) -> None:
    number = place(cli, "LAMP:2", *WAITING)
    shown = cli("orders", "show", number).out
    for words in (
        "review",
        "still to be paid",
        "Lamp",
        "SH-",
        "WH1",
        "placed",
        "possible now: Edit quantity, Change the address, Approve, Reject",
    ):
        assert words in shown
    assert "待审核" in cli("orders", "show", number, "--lang", "zh").out
    data = cli("orders", "show", number, "--json").data
    assert (data["number"], data["status"], data["lines"][0]["sku"]) == (number, "review", "LAMP")
    assert "approve" in data["possible"]
    assert not [key for key in data if key == "id" or key.endswith("_hash")]


def test_an_unknown_order_is_named(shop: Store, cli: Cli) -> None:
    said = cli("orders", "show", "SO-1")
    assert (said.code, said.out, said.err) == (1, "", "E_NOT_FOUND no order SO-1\n")


def test_payment_lets_a_waiting_order_through_once(shop: Store, cli: Cli) -> None:
    number = place(cli, "LAMP:2", *WAITING)
    assert cli("orders", "pay", number, "--amount", "5.5", "--key", "p1").code == 0
    assert cli("orders", "pay", number, "--amount", "5.5", "--key", "p1").code == 0  # the same money again
    assert build.order_row(shop, number).paid_cents == 550
    said = cli("orders", "pay", number, "--json")
    assert (said.data["amount_cents"], said.data["approved"]) == (1450, [number])
    assert build.order_row(shop, number).status == "ready"
    assert cli("orders", "pay", number).err == f"E_INVALID {number}: it owes nothing\n"


@pytest.mark.parametrize("amount", ["1.234", "-5", "1,50", "abc", "1e3", ""])
def test_an_amount_is_never_guessed(shop: Store, cli: Cli, amount: str) -> None:
    number = place(cli, "LAMP:2", *WAITING)
    said = cli("orders", "pay", number, f"--amount={amount}")
    assert (said.code, said.err.split(":")[0]) == (2, "E_ARG --amount")
    assert build.order_row(shop, number).paid_cents == 0


def test_decisions_on_many_orders_do_what_can_be_done_and_explain_the_rest(shop: Store, cli: Cli) -> None:
    first, second = place(cli, "LAMP:2", *WAITING), place(cli, "LAMP:3", *WAITING)
    assert cli("orders", "hold", first, "--reason", "wait").code == 0
    said = cli("orders", "approve", first, second, "SO-1", "--json")
    assert said.code == 3
    assert said.data["done"] == [{"number": second, "status": "ready"}]
    assert [each["code"] for each in said.data["refused"]] == ["E_STAGE", "E_NOT_FOUND"]
    assert cli("orders", "approve", first).code == 1  # nothing could be done
    assert cli("orders", "resume", first).out == f"{first}  to review\n"
    assert cli("orders", "reject", first, "--reason", "no").out == f"{first}  rejected\n"
    assert cli("orders", "cancel", second, "--reason", "no").out == f"{second}  cancelled\n"
    assert build.level(shop, "LAMP@WH1").reserved_qty == 0


def test_a_service_is_performed_and_an_invoice_asked_for_once(shop: Store, cli: Cli) -> None:
    build.sku(shop, "FIT", price_cents=3_000, kind="service")
    number = place(cli, "FIT:2", "--payment", "credit")
    assert cli("orders", "perform", number, "--dry-run", "--json").data["done"][0]["status"] == "delivered"
    assert cli("orders", "perform", number).out == f"{number}  delivered\n"
    assert cli("orders", "perform", number).code == 1
    asked = cli("orders", "invoice", number, "--title", "Acme Ltd", "--amount", "40.00", "--key", "k1", "--json").data
    assert (asked["amount_cents"], asked["title"], asked["is_repeat"]) == (4_000, "Acme Ltd", False)
    again = cli("orders", "invoice", number, "--title", "Acme Ltd", "--amount", "40.00", "--key", "k1", "--json").data
    assert (again["number"], again["is_repeat"]) == (asked["number"], True)
    too_much = cli("orders", "invoice", number, "--title", "Acme Ltd", "--amount", "40.00")
    assert (too_much.code, too_much.err.split(" ")[0]) == (1, "E_MONEY")


def test_an_order_costs_less_once_and_gives_back_what_was_paid_above_it(shop: Store, cli: Cli) -> None:
    number = place(cli, "LAMP:2", *WAITING)
    cli("orders", "pay", number)
    less = ("orders", "refund", number, "--amount", "5.50", "--reason", "scratched", "--key", "r1")
    assert cli(*less, "--dry-run", "--json").data["refunded_cents"] == 550
    assert cli(*less, "--json").data["total_cents"] == 1_450
    assert cli(*less, "--json").data["is_repeat"] is True
    assert build.order_row(shop, number).refunded_cents == 550
    too_much = cli("orders", "refund", number, "--amount", "14.51", "--reason", "scratched")
    assert (too_much.code, too_much.err.split(" ")[0]) == (1, "E_MONEY")


def test_approving_can_be_rehearsed(shop: Store, cli: Cli) -> None:
    number = place(cli, "LAMP:2", *WAITING)
    said = cli("orders", "approve", number, "--dry-run", "--json").data
    assert (said["done"], said["dry_run"]) == ([{"number": number, "status": "ready"}], True)
    assert build.order_row(shop, number).status == "review"


def test_who_did_it_is_in_the_timeline(shop: Store, cli: Cli) -> None:
    number = place(cli, "LAMP:2", "--as", "mei")
    assert {each["actor"] for each in cli("orders", "show", number, "--json").data["timeline"]} == {"mei"}


def test_lists_come_as_table_csv_and_json_with_identifiers_as_text(shop: Store, cli: Cli) -> None:
    build.sku(shop, "00123")
    build.stock(shop, "00123@WH1: 5")
    build.customer(shop, "=1+1")
    number = cli("orders", "place", "00123:2", "--customer", "=1+1", "--channel", "phone").out.strip()
    assert number in cli("orders", "list").out
    rows = list(csv.DictReader(io.StringIO(cli("orders", "list", "--csv").out)))
    assert (rows[0]["number"], rows[0]["customer"]) == (number, "'=1+1")  # no formula in a spreadsheet
    data = cli("orders", "list", "--json").data
    assert (data["total"], data["orders"][0]["customer"]) == (1, "=1+1")
    assert cli("stock", "show", "00123", "--json").data[0]["sku"] == "00123"
    assert cli("stock", "show", "00123", "--csv").out.splitlines()[1].startswith("00123,")
    assert cli("orders", "list", "--view", "nope").code == 2


def test_goods_come_in_and_are_counted(shop: Store, cli: Cli) -> None:
    received = cli("stock", "receive", "LAMP:10", "--location", "WH1", "--key", "g1")
    again = cli("stock", "receive", "LAMP:10", "--location", "WH1", "--key", "g1")
    assert received.out == again.out
    assert build.on_hand(shop, "LAMP@WH1") == 30
    assert cli("stock", "count", "LAMP:28", "--location", "WH1", "--as", "ann").out.split()[1] == "posted"
    assert build.on_hand(shop, "LAMP@WH1") == 28
    large = cli("stock", "count", "LAMP:1", "--location", "WH1", "--as", "ann", "--json").data
    assert (large["status"], large["differences"][0]["difference_qty"]) == ("waiting_approval", -27)
    assert cli("stock", "approve-count", large["number"], "--as", "ann").err.startswith("E_PERMISSION")
    assert cli("stock", "approve-count", large["number"], "--as", "mei").code == 0
    assert build.on_hand(shop, "LAMP@WH1") == 1


def test_notices_become_files_and_dead_ones_are_tried_again(shop: Store, cli: Cli) -> None:
    place(cli, "LAMP:2")
    assert cli("notices", "dead").out == ""
    said = cli("notices", "retry", "12345")
    assert (said.code, said.err) == (1, "E_NOT_FOUND no dead letter 12345\n")
    assert cli("notices", "deliver", "--json").data["dead_count"] == 0


def test_a_fresh_business_is_set_up_and_sells(cli: Cli) -> None:
    assert cli("init").code == 0
    assert cli("setup", "channel", "phone", "--name", "电话").code == 0
    assert cli("setup", "location", "WH1", "--default").code == 0
    assert cli("setup", "carrier", "SF", "--json").data == {"code": "SF", "operation": "insert"}
    assert cli("setup", "carrier", "SF", "--json").data["operation"] == "same"
    assert cli("setup", "channel", "x", "--kind", "drum").code == 2
    with open("goods.csv", "w", encoding="utf-8") as file:  # noqa: PTH123 - in the folder the fixture went to
        file.write("SKU,名称,单价\nTEA,茶,12.50\n")
    assert cli("catalog", "import", "goods.csv").code == 0
    with open("people.csv", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(
            "客户编码,客户名称,信用额度,账期,收货人,电话,地址\nACME,上海茶行,5000,30,王五,13800138000,人民路1号\n"
        )
    assert cli("customers", "import", "people.csv").code == 0
    assert cli("stock", "receive", "TEA:7", "--location", "WH1").code == 0
    placed = cli("orders", "place", "TEA:2", "--customer", "ACME", "--channel", "phone", "--json").data
    assert (placed["status"], placed["total_cents"]) == ("ready", 2500)
    assert cli("verify").code == 0
