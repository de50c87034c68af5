"""What a unit is worth where it lies, and what a channel should find, on numbers one can work out by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from forecasting.errors import BadFrame
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.stock_price import protected_stock, stock_prices

AS_OF = date(2026, 6, 30)


def evenly(unique_id: str, most: float, *, days: int = 14) -> pl.DataFrame:
    """Demand of `days` days spread evenly between 0 and `most`, by day in proportion."""
    rows = [
        {"unique_id": unique_id, "horizon_days": day, "mean": most / 2 * day / days}
        | {name: q * most * day / days for name, q in zip(QUANTILE_COLUMNS, QUANTILES, strict=True)}
        for day in range(1, days + 1)
    ]
    return pl.DataFrame(rows)


def at(unique_id: str, free: int | None, days: int, cents: float = 400.0) -> pl.DataFrame:
    values = {"unique_id": unique_id, "free_qty": free, "days_to_arrival": days, "shortage_cost_cents": cents}
    return pl.DataFrame(values, schema_overrides={"free_qty": pl.Int64})


def test_a_unit_is_worth_what_it_saves_times_the_chance_that_it_is_asked_for() -> None:
    totals = evenly("A", 100)
    worth = [stock_prices(totals, at("A", free, 14), as_of=AS_OF).row(0, named=True) for free in (0, 25, 75, 400)]
    assert [row["chance_needed_ratio"] for row in worth] == [1.0, 0.75, 0.25, 0.0]
    assert [row["price_cents"] for row in worth] == [400, 300, 100, 0]
    assert worth[0]["until_date"] == date(2026, 7, 14)


def test_goods_that_come_sooner_make_the_stock_there_cheaper() -> None:
    totals = evenly("A", 100)
    prices = [stock_prices(totals, at("A", 30, days), as_of=AS_OF)["price_cents"][0] for days in (1, 5, 7, 14, 99)]
    assert prices == sorted(prices)
    assert (prices[0], prices[2], prices[-2] == prices[-1]) == (0, 160, True)  # at most 50 in seven days, 30 are there


def test_a_place_without_recorded_stock_or_forecast_has_no_price() -> None:
    positions = pl.concat([at("A", None, 7), at("B", 3, 7), at("C", 3, 7)])
    totals = pl.concat([evenly("A", 10), evenly("C", 10)])
    assert stock_prices(totals, positions, as_of=AS_OF)["unique_id"].to_list() == ["C"]
    with pytest.raises(BadFrame, match="one row per unique_id"):
        stock_prices(totals, pl.concat([positions, positions]), as_of=AS_OF)


def test_the_best_channel_finds_what_it_is_likelier_to_sell_better() -> None:
    rng = np.random.default_rng(2)
    total = rng.poisson(40, 200_000)
    row = {"unique_id": "A", "horizon_days": 7, "mean": 40.0}
    totals = pl.DataFrame([row | dict(zip(QUANTILE_COLUMNS, np.quantile(total, QUANTILES), strict=True))])
    shares = pl.DataFrame({"unique_id": "A", "channel_code": ["shop", "web"], "share_ratio": [0.5, 0.5]})
    worth = {"shop": 100.0, "web": 60.0}
    found = protected_stock(totals, at("A", 50, 7), shares=shares, worth_cents=worth)
    its = rng.binomial(total, 0.5)  # Littlewood by simulation
    wanted = next(y for y in range(100) if (its > y).mean() <= 0.6)
    assert found.rows() == [("A", "shop", pytest.approx(wanted, abs=1))]
    assert protected_stock(totals, at("A", 5, 7), shares=shares, worth_cents=worth)["protected_qty"].to_list() == [5]
    alike = {"shop": 100.0, "web": 100.0}
    assert protected_stock(totals, at("A", 50, 7), shares=shares, worth_cents=alike).height == 0
    assert protected_stock(totals, at("A", 50, 7), shares=shares.head(1), worth_cents=worth).height == 0
