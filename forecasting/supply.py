"""What a supplier's terms do to an order: days it is closed, how long it takes, least quantities, packs, prices.

Dates are local business days. A lead time is counted in calendar days, as suppliers state it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from scipy.special import gammaincinv

from forecasting.frames import Frame, to_polars, typed
from forecasting.policies import PriceBreak

SHUTDOWN_DAYS = 3
"""Closed days in a row from which on work stops: they lengthen a lead time. A closed weekend does not; the stated lead
time has weekends in it."""
MAX_CLOSED_DAYS = 400
MIN_RECEIPTS = 8
MAX_RECEIPTS = 30
MAX_LEAD_TIME_DAYS = 400


class AlwaysClosed(ValueError):
    """A supplier has no open day for more than a year."""


def next_open_day(day: date, closed: Collection[date]) -> date:
    """`day` itself, or the first later day that is not closed.

    Raises:
        AlwaysClosed: There is none within 400 days.
    """
    for later in range(MAX_CLOSED_DAYS):
        if day + timedelta(days=later) not in closed:
            return day + timedelta(days=later)
    raise AlwaysClosed(f"closed on every day from {day} for {MAX_CLOSED_DAYS} days")


def previous_open_day(day: date, closed: Collection[date], *, not_before: date) -> date:
    """`day` itself, or the last earlier day that is not closed; `not_before` moved to its next open day when none is."""
    while day >= not_before:
        if day not in closed:
            return day
        day -= timedelta(days=1)
    return next_open_day(not_before, closed)


def is_shutdown(day: date, closed: Collection[date]) -> bool:
    """Whether `day` is one of `SHUTDOWN_DAYS` or more closed days in a row."""
    if day not in closed:
        return False
    run = 1
    for step in (-1, 1):
        near = day + timedelta(days=step)
        while near in closed and run < SHUTDOWN_DAYS:
            run += 1
            near += timedelta(days=step)
    return run >= SHUTDOWN_DAYS


def arrival_day(ordered: date, lead_time_days: int, closed: Collection[date] = ()) -> date:
    """The day on which the goods of an order are on the shelf.

    Days of a shutdown (春节) are not worked and count for nothing; what would come on another closed day comes on the
    next open one.

    >>> spring = {date(2027, 2, d) for d in range(4, 14)}  # ten days closed
    >>> arrival_day(date(2027, 2, 1), 7), arrival_day(date(2027, 2, 1), 7, spring)
    (datetime.date(2027, 2, 8), datetime.date(2027, 2, 18))
    """
    if not closed:
        return ordered + timedelta(days=lead_time_days)
    day, worked = ordered, 0
    while worked < lead_time_days:
        day += timedelta(days=1)
        worked += not is_shutdown(day, closed)
        if (day - ordered).days > lead_time_days + MAX_CLOSED_DAYS:
            raise AlwaysClosed(f"an order of {ordered} would never come: closed for {MAX_CLOSED_DAYS} days")
    return next_open_day(day, closed)


@dataclass(frozen=True)
class Timing:
    """When an order placed now comes, and when the one after it would. Days count from the as-of day.

    Attributes:
        order_date: First open day from the as-of day on.
        lead_days: To the arrival of this order, for each lead time that is as likely as any other.
        interval_days: To the arrival of the order of the next review, for each: what this order has to last for.
        shutdown_days: By how much closed days lengthen the protection interval (of the usual lead time).
    """

    order_date: date
    lead_days: tuple[int, ...]
    interval_days: tuple[int, ...]
    shutdown_days: int


def timing(
    as_of: date, *, lead_times_days: Sequence[int], usual_days: int, review_period_days: int, closed: Collection[date]
) -> Timing:
    """When orders of now and of the next review come. A review on a closed day is held on the next open one, so before
    a shutdown the order of now has to last until what is ordered after it arrives."""
    order_date = next_open_day(as_of, closed)
    following = next_open_day(order_date + timedelta(days=review_period_days), closed)

    def days(ordered: date, lead: int) -> int:
        return (arrival_day(ordered, lead, closed) - as_of).days

    leads = tuple(lead_times_days) or (usual_days,)
    return Timing(
        order_date=order_date,
        lead_days=tuple(days(order_date, lead) for lead in leads),
        interval_days=tuple(days(following, lead) for lead in leads),
        shutdown_days=days(following, usual_days) - usual_days - review_period_days,
    )


def lead_time_samples(
    receipts_days: Sequence[int], *, stated_days: int, stated_sd_days: float = 0.0, count: int = 12
) -> list[int]:
    """Equally likely lead times, days, sorted: real ones, and what the supplier states while there are few.

    Args:
        receipts_days: Days from order to receipt, newest last; the last 30 are used.
        stated_days, stated_sd_days: What the supplier says. A lead time isn't negative and has its long tail to the
            right, so the stated spread is taken as a gamma distribution (Silver, Pyke & Thomas §6.10.3 warn that a
            normal one understates it).
        count: How many stated ones; each real receipt beyond none replaces one of them, all at `MIN_RECEIPTS`.

    >>> lead_time_samples([], stated_days=14), lead_time_samples([12, 20] * 5, stated_days=14)[:6]
    ([14], [12, 12, 12, 12, 12, 20])
    """
    real = [min(max(0, int(days)), MAX_LEAD_TIME_DAYS) for days in receipts_days][-MAX_RECEIPTS:]
    left = count - math.floor(count * len(real) / MIN_RECEIPTS)
    if left <= 0:
        return sorted(real)
    if stated_sd_days <= 0 or stated_days <= 0:
        return sorted(real + [stated_days] * (left if real else 1))
    shape = (stated_days / stated_sd_days) ** 2
    stated = gammaincinv(shape, (np.arange(left) + 0.5) / left) * stated_days / shape  # quantiles of the gamma
    return sorted(real + [int(min(round(x), MAX_LEAD_TIME_DAYS)) for x in stated])


def receipt_days(receipts: Frame) -> dict[str, list[int]]:
    """Days from order to receipt per `key`, oldest receipt first, of a frame with key, ordered_date, received_date.

    Rows without one of the dates, or received before they were ordered, are left out.
    """
    frame = to_polars(receipts, name="receipts", needs=("key", "ordered_date", "received_date"))
    types = {"key": pl.String, "ordered_date": pl.Date, "received_date": pl.Date}
    days = (
        typed(frame, name="receipts", types=types)
        .with_columns((pl.col("received_date") - pl.col("ordered_date")).dt.total_days().alias("days"))
        .filter(pl.col("days") >= 0)
        .sort("key", "received_date", "ordered_date")
        .group_by("key", maintain_order=True)
        .agg("days")
    )
    return {str(key): list(values) for key, values in days.iter_rows()}


def read_price_breaks(text: str | None) -> tuple[PriceBreak, ...]:
    """Price breaks from JSON text `[{"min_qty": 100, "unit_cost_cents": 230}]`, lowest quantity first.

    Raises:
        ValueError: It is not that, or a quantity is below 1 or a price below 0.
    """
    if not text:
        return ()
    try:
        breaks = [PriceBreak(int(b["min_qty"]), float(b["unit_cost_cents"])) for b in json.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"price_breaks {text!r}") from error
    if any(b.min_qty < 1 or not 0 <= b.unit_cost_cents < math.inf for b in breaks):
        raise ValueError(f"price_breaks {text!r}")
    return tuple(sorted(breaks, key=lambda b: b.min_qty))


def whole_packs(qty: int, pack_qty: int) -> int:
    """`qty` rounded up to a multiple of `pack_qty`."""
    return -(-qty // pack_qty) * pack_qty
