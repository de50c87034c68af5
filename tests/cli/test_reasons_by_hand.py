"""A stranger with the printed reason and a pencil comes to the suggested quantity, at the demo company, in both languages."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sqlalchemy import create_engine, text

from apps.demo.run import build_demo
from forecasting.marginal import Paths
from forecasting.reasons import sentences
from forecasting.replenishment import suggest
from pipelines.daily import run_daily
from pipelines.transform.plan import PlanningDefaults
from tests.cli.conftest import Cli

LAST_DAY = date(2026, 11, 22)
HEAD = {
    "en": r"(\d+) expected in \d+ days, safety stock ([+-]\d+): order-up-to level (-?\d+); inventory position = "
    r"(\d+) on hand and free \+ (\d+) on order − (\d+) backordered = (-?\d+); \S+ − \S+ = (-?\d+).*?, order (\d+)",
    "zh": r"保护期 \d+ 天预期需求 (\d+)，安全库存 ([+-]\d+)，目标库存 (-?\d+)；库存头寸 = "
    r"可用实物 (\d+) \+ 在途 (\d+) − 欠货 (\d+) = (-?\d+)；\S+ − \S+ = (-?\d+).*?，建议 (\d+)",
}
STEPS = {  # what a step is called in print: en, zh; its terms are the numbers it names, its part stands in brackets
    "late": (r"(\d+) units on order come only after", r"在途中有 (\d+) 件要到下次"),
    "lost": (r"demand expected to be lost before an order can arrive", r"到货前预计丢单"),
    "average": (
        r"until an order can arrive ([\d.]+) are expected to be asked for, (\d+) are there and "
        r"([\d.]+) come; in \d+ of \d+ possible futures stock runs out meanwhile, [\d.]+ short on average: "
        r"(\d+) × ([\d.]+) ÷ (\d+) = ([\d.]+)",
        r"补货到货前预期需求 ([\d.]+)，现有 (\d+)，其间到货 ([\d.]+)；\d+ 种可能中有 \d+ 种会断货，平均少 [\d.]+："
        r"(\d+) × ([\d.]+) ÷ (\d+) = ([\d.]+)",
    ),
    "share_of_lost": (
        r"that is of all places together: rounded (\d+), of which this place's share is ([\d.]+)%",
        r"以上为各处合计，取整 (\d+)，本处份额 ([\d.]+)%",
    ),
    "pooled": (
        r"together up to (\d+) \((\d+) expected, safety stock ([+-]\d+)\); this place is expected to send "
        r"([\d.]+)% of it, so its level is (\d+)",
        r"合计补到 (\d+)（预期需求 (\d+)，安全库存 ([+-]\d+)）；本处预计发出其中 ([\d.]+)%，目标库存 (\d+)",
    ),
    "idle": (r"(\d+) more lie free at places", r"还没卖过的地方另有 (\d+) 件可代发"),
    "above": (
        r"places with more than their share \(position − share\): .+; (\d+) in all",
        r"多于应有份额的地方（头寸 − 份额）：.+；合计多 (\d+)",
    ),
    "together": (
        r"together the places lack (-?\d+) − (-?\d+) \+ (\d+) late − (\d+) lost = (-?\d+), each for itself (\d+); "
        r"of (\d+) to order (\d+) fall here by what each lacks, and no more than the \d+ − (\d+) that places settled before",
        r"各处合计缺 (-?\d+) − (-?\d+) \+ 太晚到 (\d+) − 丢单 (\d+) = (-?\d+)，逐处相加缺 (\d+)；"
        r"应订 (\d+)，按各处所缺分给本处 (\d+)，且不超过先定的地方订后余下的 \d+ − (\d+)",
    ),
    "promised": (r"customers wait for (\d+) units where they were promised", r"客户在原处等的 (\d+) 件"),
    "elsewhere": (r"other places have or order more than their share", r"别处多于应有份额的库存与订货可代发"),
    "min_max": (r"min (\d+) / max (\d+)", r"最小 (\d+) / 最大 (\d+)"),
    "to_max": (r"up to the max of (\d+)", r"补到最大库存 (\d+)"),
    "minimum": (r"raised to the minimum order quantity (\d+)", r"按起订量 (\d+) 提高"),
    "packs": (r"rounded up to full packs of (\d+)", r"按箱规 (\d+) 取整"),
    "fewer_packs": (r"rounded down to full packs of (\d+)", r"按箱规 (\d+) 舍去零头"),
    "wait": (r"ordering now is expected to cost more than at the next review", r"现在订预计比等下次检查更贵"),
    "price_break": (r"the unit cost falls from ¥([\d.,]+) to ¥([\d.,]+)", r"单价由 ¥([\d.,]+) 降到 ¥([\d.,]+)"),
    "joint": (r"to reach the supplier's least order value of ¥([\d.,]+)", r"凑足供应商起订金额 ¥([\d.,]+)"),
    "made_here": (r"made here: a production order", r"自产：下生产任务单"),
    "nothing_needed": (r"nothing needed", r"，不缺，"),
}
COST = {
    "en": r"¥(\S+) to keep a unit for a week, ¥(\S+) for a unit short; the last unit of the target is needed with a chance of "
    r"(\S+)%, which saves ¥(\S+), and is kept for (\S+) weeks, which costs ¥(\S+); one more would save ¥(\S+) and cost ¥(\S+);",
    "zh": r"一件存一周 ¥(\S+?)，缺一件 ¥(\S+?)；目标的最后一件有 (\S+?)% 的可能用得上，省 ¥(\S+?)，预计存 (\S+?) 周，"
    r"花 ¥(\S+?)；再多一件省 ¥(\S+?)，花 ¥(\S+?)；",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo company after five weeks; Jingdezhen gives a price break, Yixing asks for a large order."""
    folder = tmp_path_factory.mktemp("demo")
    built = build_demo(folder, last_day=LAST_DAY, days=35)
    engine = create_engine(built.database_url)
    with engine.begin() as con:
        breaks = '[{"min_qty": 240, "unit_cost_cents": 400}]'
        con.execute(text("UPDATE supplier_sku SET price_breaks = :b WHERE sku_id = (SELECT id FROM sku WHERE sku = 'PMB-60')"),
                    {"b": breaks})  # fmt: skip
        con.execute(text("UPDATE supplier SET min_order_cents = 2000000 WHERE code = 'YXG'"))
    engine.dispose()
    now = datetime(2026, 11, 23, tzinfo=UTC)
    cheap = PlanningDefaults(min_max_value_cents=30_000)  # so that some of those by min/max lie below the min
    run_daily(built.database_url, built.warehouse_dir, as_of=LAST_DAY, run_id="demo", now=lambda: now, defaults=cheap)
    yield folder


def by_hand(reason: str, language: str) -> tuple[int, set[str]]:
    """The quantity as docs/numbers.md tells a person to work it out, from the printed words alone; and the steps taken."""
    head = re.match(HEAD[language], reason)
    assert head, reason
    demand, safety, level, on_hand, on_order, backordered, position, gap, _ = map(int, head.groups())
    assert (demand + safety, on_hand + on_order - backordered, level - position) == (level, position, gap)
    terms: dict[str, list[float]] = {}
    parts: dict[str, int] = {}
    above = ""
    for said in reason.split("。" if language == "zh" else ". "):
        for step, words in STEPS.items():
            if found := re.search(words[language == "zh"], said):
                terms[step] = [float(number.replace(",", "").rstrip(".")) for number in found.groups() if number]
                above = said if step == "above" else above
                part = re.search(r"[(（]([+-]\d+)[)）]$", said)
                parts[step] = int(part[1]) if part else 0
    assert parts.get("late", 0) == (terms["late"][0] if "late" in terms else 0)
    check_lost(terms, -parts.get("lost", 0))
    qty = max(0, gap + parts.get("late", 0) + parts.get("lost", 0))
    assert ("nothing_needed" in terms) == (qty == 0)
    if "pooled" in terms:
        together, expected, kept, percent, level_here = terms["pooled"]
        assert together == expected + kept and abs(together * percent / 100 - level_here) < 1 + together / 10_000
        assert "min_max" in terms or level_here == level
    sent = sent_by_hand(terms, lacks=qty, waiting=min(qty, max(0, -position)), above=above)
    assert parts.get("elsewhere", 0) == -sent, reason
    qty -= sent
    if "to_max" in terms:  # below the min: up to the max
        least, most = terms["min_max"]
        assert (least, most) == (level, terms["to_max"][0])
        qty += int(most - least)
    if "minimum" in terms:
        raised = max(qty, int(terms["minimum"][0]))
        assert raised - qty == parts["minimum"]
        qty = raised
    if "packs" in terms:
        pack = int(terms["packs"][0])
        assert (-(-qty // pack)) * pack - qty == parts["packs"] > 0
        qty += parts["packs"]
    if "fewer_packs" in terms:
        pack = int(terms["fewer_packs"][0])
        assert qty // pack * pack - qty == parts["fewer_packs"] < 0
        qty += parts["fewer_packs"]
    if "wait" in terms:
        assert parts["wait"] == -qty
        qty = 0
    return qty + parts.get("price_break", 0) + parts.get("joint", 0), set(terms)


def check_lost(terms: Mapping[str, Sequence[float]], lost: int) -> None:
    """What is lost before an order can arrive is the average of the printed futures, and lies within what they bound."""
    assert ("average" in terms) == (lost > 0)
    if lost:
        demand, there, coming, short, missed, futures, mean = terms["average"]
        assert abs(short * missed / futures - mean) < 0.011 and 0 < short <= futures
        assert demand - there - coming - 0.12 < mean < demand + 0.06
        assert ("share_of_lost" in terms) == ("pooled" in terms)
        whole, percent = terms.get("share_of_lost", (lost, 100))
        assert abs(whole - mean) < 0.506
        assert abs(whole * percent / 100 - lost) < 1 + whole / 10_000  # shared out in whole units


def sent_by_hand(terms: Mapping[str, Sequence[float]], *, lacks: int, waiting: int, above: str) -> int:
    """What other places send to one that lacks `lacks` units, `waiting` of them promised to customers there."""
    if "together" not in terms:
        assert "pooled" not in terms or "elsewhere" not in terms
        return int(min(lacks - waiting, terms["idle"][0])) if "elsewhere" in terms else 0
    level, position, late, lost, gap, each, to_order, here, before = terms["together"]
    promised = terms["promised"][0] if "promised" in terms else 0
    assert (level, gap) == (terms["pooled"][0], level - position + late - lost)
    assert "share_of_lost" not in terms or lost == terms["share_of_lost"][0]
    more = [tuple(map(int, numbers)) for numbers in re.findall(r"(-?\d+) − (-?\d+) = (\d+)", above)]
    assert all(has - share == rest for has, share, rest in more)
    held = terms["above"][0] if more else 0
    named = sum(rest for *_, rest in more)
    assert named == held or (named < held and "…" in above)
    if late == lost == 0:  # min/max of a place count neither
        assert each - held - (terms["idle"][0] if "idle" in terms else 0) == gap
    assert waiting <= promised and to_order == min(each, max(promised, gap))
    share = (lacks - waiting) / (each - promised) if each > promised else 0
    assert abs(waiting + (to_order - promised) * share - here) < 1
    return lacks - max(waiting, int(min(here, to_order - before)))


def test_the_printed_reason_is_enough_to_work_each_quantity_out_again(demo: Path, cli: Cli) -> None:
    steps: dict[str, set[str]] = {"en": set(), "zh": set()}
    for language in ("en", "zh"):
        printed = cli("plan", "show", "--all", "--csv", "--lang", language, "-C", str(demo)).out
        rows = list(csv.DictReader(io.StringIO(printed)))
        assert len(rows) > 100
        for row in rows:
            qty, taken = by_hand(row["reason"], language)
            assert qty == int(row["suggested_qty"]), row
            steps[language] |= taken
            assert qty or not re.search("order now|应立即订", row["reason"]), (
                row
            )  # waiting and hurrying don't go together
    assert steps["en"] == steps["zh"] == set(STEPS) - {"promised"}  # nobody waits for more than there is


def test_what_random_pools_lose_and_send_each_other_can_be_worked_out_from_the_printed_words() -> None:
    rng = np.random.default_rng(5)
    taken: set[str] = set()
    for count in [1, 2, 3, 4, 12] * 30:
        ids = [f"LAMP@P{i}" for i in range(count)]
        pack, idle, lead = int(rng.choice([1, 12, 24])), int(rng.choice([0, 20])), [int(rng.integers(1, 20)), 9]
        places = pl.DataFrame(
            [
                {"unique_id": i, "location_code": i[5:], "pool_id": "LAMP@*", "lead_time_days": 9, "lead_times_days": lead,
                 "on_hand_qty": int(rng.integers(0, 200) * rng.choice([0, 1])), "on_order_qty": int(rng.choice([0, 40])),
                 "backordered_qty": int(rng.choice([0, 0, 50])), "idle_elsewhere_qty": idle, "pack_qty": pack,
                 "unit_cost_cents": 1000.0, "unit_price_cents": 1800.0, "currency": "CNY"}
                for i in ids
            ]
        )  # fmt: skip
        y = rng.poisson(rng.gamma(2, 3, (count, 200, 1)), (count, 200, 40)).astype(np.float64)
        names = [*ids, "LAMP@*"] if count > 1 else ids
        futures = Paths(
            names, LAST_DAY + timedelta(days=1), np.concatenate([y, y.sum(axis=0, keepdims=True)])[: len(names)]
        )
        found = suggest(None, places, as_of=LAST_DAY, paths=futures, target="cost")
        for row in found.suggestions.iter_rows(named=True):
            for language, end in (("en", ". "), ("zh", "。")):
                reason = end.join(sentences(row["reason_codes"], row["facts"], language))
                qty, steps = by_hand(reason, language)
                assert qty == row["suggested_qty"], reason
                taken |= steps
    assert {"average", "together", "above", "promised", "idle", "elsewhere"} <= taken


def test_the_orders_of_places_that_send_for_each_other_add_up_to_what_they_lack_together(demo: Path, cli: Cli) -> None:
    printed = cli("plan", "show", "--all", "--csv", "--lang", "en", "-C", str(demo)).out
    lacking: dict[str, list[tuple[int, int, int, int]]] = {}
    with_rules_of_their_own: set[str] = set()
    idle: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(printed)):
        if " min " in row["reason"]:
            with_rules_of_their_own.add(row["sku"])
        elif "send for each other" in row["reason"]:
            head = re.match(HEAD["en"], row["reason"])
            assert head
            parts = {
                step: int(found[1])
                for step in ("late", "lost", "elsewhere")
                if (found := re.search(STEPS[step][0] + r".*?\(([+-]\d+)\)", row["reason"]))
            }
            free = re.search(STEPS["idle"][0], row["reason"])
            idle[row["sku"]] = int(free[1]) if free else 0
            gap = int(head[8]) + parts.get("late", 0) + parts.get("lost", 0)
            lacking.setdefault(row["sku"], []).append(
                (
                    gap,
                    max(0, gap) + parts.get("elsewhere", 0),
                    int(row["suggested_qty"]),
                    max(0, min(gap, -int(head[7]))),
                )
            )
    lacking = {sku: places for sku, places in lacking.items() if sku not in with_rules_of_their_own}
    assert len(lacking) > 10 and any(idle[sku] for sku in lacking)
    for sku, places in lacking.items():
        needed = sum(needed for _, needed, *_ in places)
        lacks = max(sum(gap for gap, *_ in places) - idle[sku], sum(waiting for *_, waiting in places))
        from_packs = sum(max(0, ordered - needed) for _, needed, ordered, _ in places)
        assert needed + from_packs >= lacks, (sku, places)
        assert needed == lacks or from_packs, (sku, places)


def test_the_printed_costs_show_why_the_target_is_not_one_more_or_less(demo: Path, cli: Cli) -> None:
    for language in ("en", "zh"):
        rows = csv.DictReader(
            io.StringIO(cli("plan", "show", "--all", "--csv", "--lang", language, "-C", str(demo)).out)
        )
        for row in rows:
            said = re.search(COST[language], row["reason"])
            assert said, row["reason"]
            holding, short, chance, saved, weeks, cost, next_saved, next_cost = (
                float(number.replace(",", "").lstrip("<>")) for number in said.groups()
            )
            assert saved == pytest.approx(chance / 100 * short, abs=0.0001 * short + 0.01)
            assert cost == pytest.approx(weeks * holding, abs=0.01 * holding + 0.01)
            assert saved >= cost - 0.01 and next_saved <= next_cost + 0.01
            assert "100%" not in row["reason"] and "cents" not in row["reason"] and " 分" not in row["reason"]
