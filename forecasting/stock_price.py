"""What a unit is worth where it lies, and how many units a channel should find: hints for promising and routing.

    price = shortage_cost × P(demand until the next arrival > stock free now)

the expected saving of one more unit kept until goods come: marginal analysis of the newsvendor (Silver, Pyke & Thomas 2017,
"Inventory and Production Management in Supply Chains", §9.2), read from the forecast's distribution of the total. A place
that will run out asks nearly the full shortage cost for its next unit, one that has plenty asks nothing.

    protected(best channel) = least y with P(its demand until the next arrival > y) < worth elsewhere / worth there

Littlewood's rule (Littlewood 1972, "Forecasting and control of passenger bookings"; Talluri & van Ryzin 2004, §2.2.1): a
unit is held back for the channel that pays best while the chance that it is asked for there is worth more than the next
best channel pays for certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from forecasting.arrays import Floats
from forecasting.forecast import QUANTILE_COLUMNS, QUANTILES
from forecasting.frames import Frame, is_pandas, like, one_row_each, text_column, to_polars, typed
from forecasting.marginal import paths_of_totals

PRICES: dict[str, Any] = {
    "unique_id": pl.String,
    "free_qty": pl.Int64,
    "until_date": pl.Date,
    "chance_needed_ratio": pl.Float64,
    "price_cents": pl.Int64,
}
PROTECTED: dict[str, Any] = {"unique_id": pl.String, "channel_code": pl.String, "protected_qty": pl.Int64}


def stock_prices(totals: Frame, positions: Frame, *, as_of: date) -> Frame:
    """The worth of one more unit at each place.

    >>> evenly = {name: [100 * q] for name, q in zip(QUANTILE_COLUMNS, QUANTILES)}
    >>> totals = pl.DataFrame({"unique_id": ["A"], "horizon_days": [7], **evenly})
    >>> at = pl.DataFrame({"unique_id": ["A"], "free_qty": [75], "days_to_arrival": [7], "shortage_cost_cents": [400.0]})
    >>> stock_prices(totals, at, as_of=date(2026, 6, 30)).select("chance_needed_ratio", "price_cents").row(0)
    (0.25, 100)

    Args:
        totals: From `plan_demand`: demand from the day after `as_of` through each day.
        positions: unique_id; free_qty, units on hand that nobody has claimed (NULL: not recorded, no price);
            days_to_arrival, days until goods can come (1 or more; cut to the forecast's horizon); shortage_cost_cents, what
            a unit short costs, in minor units.
        as_of: The day the forecast was made at.

    Returns:
        One row per position with a forecast and recorded stock, sorted: unique_id, free_qty, until_date,
        chance_needed_ratio (that demand through `until_date` is larger than what is free), price_cents (rounded half up).
    """
    asked = _positions(
        positions, {"free_qty": pl.Int64, "days_to_arrival": pl.Int64, "shortage_cost_cents": pl.Float64}
    )
    rows = []
    for position, days, demand in _demand(totals, asked.drop_nulls("free_qty")):
        chance = float((demand > position["free_qty"]).mean())
        price = int(np.floor((position["shortage_cost_cents"] or 0.0) * chance + 0.5))
        until = as_of + timedelta(days=days)
        rows.append((position["unique_id"], position["free_qty"], until, round(chance, 6), price))
    return like(pl.DataFrame(rows, schema=PRICES, orient="row"), pandas=is_pandas(totals))


def protected_stock(totals: Frame, positions: Frame, *, shares: Frame, worth_cents: Mapping[str, float]) -> Frame:
    """Units to hold back for the channel that pays best.

    Args:
        totals, positions: As in `stock_prices`.
        shares: unique_id, channel_code, share_ratio: which part of the demand comes by each channel.
        worth_cents: What a unit sold earns by channel, in minor units; channels that are not named earn nothing more
            than the least of them.

    Returns:
        unique_id, channel_code, protected_qty; only rows above 0 and never more than is free, sorted. Nothing where
        one channel alone sells.
    """
    asked = _positions(positions, {"free_qty": pl.Int64, "days_to_arrival": pl.Int64})
    part = to_polars(shares, name="shares", needs=("unique_id", "channel_code", "share_ratio"))
    of: dict[str, dict[str, float]] = {}
    for unique_id, channel, share in part.select("unique_id", "channel_code", "share_ratio").iter_rows():
        of.setdefault(unique_id, {})[channel] = share
    least = min(worth_cents.values(), default=0.0)
    rows = []
    for position, _, demand in _demand(totals, asked.drop_nulls("free_qty")):
        channels = of.get(position["unique_id"], {})
        worth = sorted(((worth_cents.get(c, least), c) for c, share in channels.items() if share > 0), reverse=True)
        if len(worth) < 2 or worth[0][0] <= 0 or worth[0][0] == worth[1][0]:
            continue
        (best, channel), (other, _) = worth[:2]
        its = _thinned(demand, channels[channel])
        qty = int(np.ceil(np.round(np.quantile(its, 1 - other / best, method="inverted_cdf"), 6)))
        qty = min(qty, max(0, position["free_qty"]))
        if qty > 0:
            rows.append((position["unique_id"], channel, qty))
    return like(pl.DataFrame(rows, schema=PROTECTED, orient="row"), pandas=is_pandas(totals))


def _thinned(demand: Floats, share: float) -> Floats:
    """The demand of a channel that takes each unit with chance `share`: its mean, and the binomial spread around it in
    nine equally likely steps."""
    steps = np.array([-1.593, -0.967, -0.589, -0.282, 0.0, 0.282, 0.589, 0.967, 1.593])  # normal, at (i + ½) / 9
    spread = np.sqrt(demand * share * (1 - share))
    return np.asarray(np.maximum(0.0, demand[:, None] * share + spread[:, None] * steps).ravel())


def _positions(positions: Frame, columns: Mapping[str, Any]) -> pl.DataFrame:
    frame = one_row_each(positions, name="positions", needs=tuple(columns))
    return typed(frame, name="positions", types={"unique_id": pl.String, **columns}).sort("unique_id")


def _demand(totals: Frame, asked: pl.DataFrame) -> list[tuple[dict[str, Any], int, Floats]]:
    """Position, days looked at, and a hundred equally likely totals of them, of each position with a forecast."""
    table = to_polars(totals, name="totals", needs=("unique_id", "horizon_days", *QUANTILE_COLUMNS))
    table = table.with_columns(text_column(table, "unique_id"))
    longest = table.group_by("unique_id").agg(pl.col("horizon_days").max().alias("longest_days"))
    days = pl.min_horizontal(pl.max_horizontal("days_to_arrival", 1), "longest_days").alias("horizon_days")
    at = asked.join(longest, on="unique_id", how="inner").with_columns(days.cast(table.schema["horizon_days"]))
    at = at.join(table, on=["unique_id", "horizon_days"], how="inner").sort("unique_id")
    quantiles = at.select(QUANTILE_COLUMNS).to_numpy()
    levels = np.array(QUANTILES)
    return [
        (row, row["horizon_days"], paths_of_totals(quantiles[i : i + 1], levels)[:, 0])
        for i, row in enumerate(at.select(*asked.columns, "horizon_days").iter_rows(named=True))
    ]
