"""Files taken in from the command line: counts, exit codes, quarantine, questions. The importers have tests of their own."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from orders_core.store.uow import Store
from tests.cli.conftest import Cli
from tests.support import build

GOOD = "订单号,SKU,数量,客户编码\nA-1,LAMP,2,ACME\nA-2,RUG,1,ACME\n"
BAD = "订单号,SKU,数量,客户编码\nA-1,LAMP,2,ACME\nA-2,RUG,1.5,ACME\n"


def file(text: str, name: str = "orders.csv", encoding: str = "utf-8") -> str:
    Path(name).write_bytes(text.encode(encoding))
    return name


def test_good_orders_go_in_and_a_second_run_places_none(shop: Store, cli: Cli) -> None:
    first = cli("orders", "import", file(GOOD), "--json")
    assert (first.code, first.data["read"], first.data["accepted"]) == (0, 2, 2)
    second = cli("orders", "import", file(GOOD, "again.csv"), "--json")
    assert (second.code, second.data["accepted"], second.data["duplicates"]) == (0, 0, 2)
    assert cli("orders", "list", "--json").data["total"] == 2


def test_one_bad_row_keeps_the_whole_file_out(shop: Store, cli: Cli) -> None:
    said = cli("orders", "import", file(BAD))
    assert (said.code, said.out.startswith("2 rows read = 0 accepted + 2 quarantined")) == (3, True)
    assert 'E_QTY line 3: qty must be a whole number from 1 to 9999999, not "1.5"' in said.err
    assert cli("orders", "list", "--json").data["total"] == 0


def test_quarantine_takes_the_good_rows_and_the_bad_ones_come_back_repaired(shop: Store, cli: Cli) -> None:
    kept = cli("orders", "import", file(BAD), "--quarantine", "--report", "report.csv", "--lang", "zh")
    assert (kept.code, "导入 1" in kept.out) == (3, True)
    assert "E_QTY" in Path("report.csv").read_text("utf-8-sig")
    listed = cli("quarantine", "list", "orders", "--json").data
    assert (listed["total"], listed["rows"][0]["line"], listed["rows"][0]["code"]) == (1, 3, "E_QTY")
    assert "1.5" in cli("quarantine", "list").out
    again = cli("orders", "import", file(BAD), "--quarantine", "--json")
    assert (again.code, again.data["duplicates"]) == (0, 2)
    assert cli("quarantine", "replay", "orders").code == 3  # as it is, it is as bad as before
    assert cli("quarantine", "export", "orders", "repair.csv", "--json").data["rows"] == 1
    assert cli("quarantine", "export", "orders", "repair.csv").code == 1  # never over a file somebody may have repaired
    with Path("repair.csv").open(encoding="utf-8-sig", newline="") as opened:
        (row,) = csv.DictReader(opened)
    row["数量"] = "4"
    with Path("repair.csv").open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, row)
        writer.writeheader()
        writer.writerow(row)
    replayed = cli("quarantine", "replay", "orders", "--repaired", "repair.csv", "--json")
    assert (replayed.code, replayed.data["accepted"]) == (0, 1)
    assert cli("quarantine", "list", "--json").data["total"] == 0
    assert build.level(shop, "RUG@WH1").reserved_qty == 4


def test_a_rehearsal_writes_nothing(shop: Store, cli: Cli) -> None:
    said = cli("orders", "import", file(GOOD), "--dry-run", "--json")
    assert (said.code, said.data["accepted"], said.data["dry_run"]) == (0, 2, True)
    assert cli("orders", "list", "--json").data["total"] == 0


def test_without_a_terminal_a_question_is_answered_by_a_flag_or_not_at_all(shop: Store, cli: Cli) -> None:
    name = file(GOOD, encoding="gb18030")
    asked = cli("orders", "import", name)
    assert (asked.code, asked.out) == (2, "")
    assert "--encoding gb18030" in asked.err
    assert cli("orders", "import", name, "--encoding", "gb18030").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nope.csv"], 3, "E_FILE"),
        (["/dev/zero"], 3, "E_FILE"),
        (["."], 3, "E_FILE"),
        (["good.csv", "--mapping", "nope"], 2, "E_CONFIG"),
        (["good.csv", "--mapping", "stock"], 2, "E_CHOICE"),
        (["good.csv", "--mode", "both"], 2, "E_ARG --mode"),
        (["good.csv", "--rows", "-1"], 2, "E_ARG"),
        (["good.csv", "--rows", "3"], 3, "E_TRUNCATED"),
        (["empty.csv"], 3, "E_EMPTY_FILE"),
        (["good.csv", "--report", "no/such/folder.csv"], 1, "E_FILE no/such/folder.csv"),
    ],
)
def test_what_can_not_be_read_is_refused_in_words(
    shop: Store, cli: Cli, words: list[str], code: int, said: str
) -> None:
    file(GOOD, "good.csv")
    file("", "empty.csv")
    result = cli("orders", "import", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert "Traceback" not in result.err
    assert cli("orders", "list", "--json").data["total"] == 0


def test_every_kind_of_file_has_its_import(shop: Store, cli: Cli) -> None:
    build.carrier(shop, "SF")
    files = {
        "catalog": "SKU,名称,单价\nTEA,茶,12.50\n",
        "stock": "SKU,仓库,数量,方式\nLAMP,WH1,25,absolute\n",
        "customers": "客户编码,客户名称\nBETA,乙公司\n",
    }
    for noun, text in files.items():
        said = cli(noun, "import", file(text, f"{noun}.csv"), "--json")
        assert (noun, said.code, said.data["accepted"]) == (noun, 0, 1)
    assert build.on_hand(shop, "LAMP@WH1") == 25
    number = cli("orders", "place", "LAMP:1", "--customer", "ACME", "--channel", "phone").out.strip()
    build.ship(shop, number, tracking_number="SF1")
    events = "快递公司,运单号,状态,时间\nSF,SF1,已揽收,2026-03-02T10:00:00+08:00\n"
    assert cli("tracking", "import", file(events, "tracking.csv"), "--json").data["accepted"] == 1


def test_changed_prices_need_a_yes(shop: Store, cli: Cli) -> None:
    assert cli("catalog", "import", file("SKU,名称,单价\nTEA,茶,12.50\n", "a.csv")).code == 0
    dearer = file("SKU,名称,单价\nTEA,茶,13.50\n", "b.csv")
    refused = cli("catalog", "import", dearer)
    assert (refused.code, "--accept-price-changes" in refused.err) == (2, True)
    assert cli("catalog", "import", dearer, "--accept-price-changes").code == 0
