"""`dinghuo replay`: the last weeks in money, on both databases."""

from __future__ import annotations

import pytest

from orders_core.ports import FixedClock
from orders_core.store.uow import Store
from tests.cli.conftest import Cli
from tests.support import build

LAST_DAY = "2026-05-03"


@pytest.fixture
def traded(shop: Store, clock: FixedClock) -> Store:
    """A company that sold a few lamps a day for nine weeks: from one place, and when that was empty from the other."""
    build.stock(shop, "LAMP@WH2: 70")
    build.rules(shop, shortage={"policy": "backorder"})
    build.supplier(shop, "S1", "LAMP 450")
    for day in range(62):
        build.order(shop, f"LAMP {1 + day % 3}")
        clock.advance(days=1)
    return shop


def test_the_last_weeks_are_told_in_money(traded: Store, cli: Cli) -> None:
    missing = cli("replay")
    assert (missing.code, missing.err.split()[0]) == (1, "E_WAREHOUSE_MISSING")
    assert cli("run", "daily", "--as-of", LAST_DAY).code == 0
    words = ("replay", "--weeks", "3", "--policy", "ours,mean13,as_ordered", "--service", "0.9", "--order-cost", "10")
    said = cli(*words, "--json")
    assert said.code == 0
    assert (said.data["series"], said.data["pools"]) == (2, 1)
    assert (said.data["last_date"], said.data["cycle_service_ratio"]) == (LAST_DAY, 0.9)
    assert [row["policy"] for row in said.data["policies"]] == ["ours", "mean13"]  # nothing was bought in these weeks
    ours, mean = said.data["policies"]
    for row in (ours, mean):
        assert row["cost_cents"] == row["holding_cents"] + row["shortage_cents"] + row["ordering_cents"]
        assert row["ordering_cents"] == 10 * row["orders"]
        assert row["purchase_cents"] == 450 * row["ordered_qty"]
        assert 40 <= row["demand_qty"] <= 50  # with what days without stock would have asked for
    assert mean["difference"]["difference_cents"] == ours["cost_cents"] - mean["cost_cents"]
    shown = cli(*words)
    assert "13-week mean with cover" in shown.out
    assert f"{ours['cost_cents'] / 100:,.2f}" in shown.out
    assert "products that lie at several places: 1; these send for each other" in shown.err
    zh = cli(*words, "--lang", "zh")
    assert "1 个商品存于多仓；无论哪种订货方式，各仓互相代发" in zh.err
    words = ("replay", "--weeks", "3", "--policy", "mean13", "--places-apart")
    apart = cli(*words, "--json").data
    assert (apart["series"], apart["pools"]) == (2, 0)
    # the place that was empty first is then taken to have been asked all the same
    assert apart["policies"][0]["demand_qty"] > mean["demand_qty"]
    assert "no place sends for another" in cli(*words).err
    assert "各仓独立，互不代发" in cli(*words, "--lang", "zh").err


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--policy", "luck"], "luck is not one of ours"), (["--service", "1"], "not between 0 and 1")],
)
def test_a_way_that_is_none_is_refused(cli: Cli, words: list[str], says: str) -> None:
    said = cli("replay", *words)
    assert said.code == 2
    assert says in said.err
