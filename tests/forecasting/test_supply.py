from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from forecasting.policies import PriceBreak
from forecasting.supply import (
    AlwaysClosed,
    arrival_day,
    is_shutdown,
    lead_time_samples,
    next_open_day,
    previous_open_day,
    read_price_breaks,
    receipt_days,
    timing,
)

NEW_YEAR = frozenset(date(2027, 2, 4) + timedelta(days=d) for d in range(12))  # 春节, 4 to 15 February 2027
SUNDAYS = frozenset(date(2027, 1, 3) + timedelta(days=7 * w) for w in range(20))


def test_a_shutdown_stops_the_work_and_a_closed_weekend_only_the_door() -> None:
    assert arrival_day(date(2027, 1, 4), 7, NEW_YEAR) == date(2027, 1, 11)
    assert arrival_day(date(2027, 2, 1), 7, NEW_YEAR) == date(2027, 2, 20)  # 2 and 3 February, then from the 16th on
    assert arrival_day(date(2027, 1, 4), 6, SUNDAYS) == date(2027, 1, 11)  # due on a Sunday: Monday
    assert arrival_day(date(2027, 1, 4), 14, SUNDAYS) == date(2027, 1, 18)  # Sundays on the way are in the lead time
    assert arrival_day(date(2027, 1, 4), 0) == date(2027, 1, 4)
    assert [is_shutdown(date(2027, 2, d), NEW_YEAR) for d in (3, 4, 15, 16)] == [False, True, True, False]
    assert not is_shutdown(date(2027, 1, 3), SUNDAYS)


def test_open_days_before_and_after() -> None:
    assert next_open_day(date(2027, 2, 4), NEW_YEAR) == date(2027, 2, 16)
    assert previous_open_day(date(2027, 2, 10), NEW_YEAR, not_before=date(2027, 1, 1)) == date(2027, 2, 3)
    assert previous_open_day(date(2027, 2, 10), NEW_YEAR, not_before=date(2027, 2, 5)) == date(2027, 2, 16)
    for_ever = {date(2027, 1, 1) + timedelta(days=d) for d in range(900)}
    with pytest.raises(AlwaysClosed):
        next_open_day(date(2027, 1, 1), for_ever)
    with pytest.raises(AlwaysClosed):
        arrival_day(date(2026, 12, 31), 3, for_ever)


def test_before_new_year_the_order_has_to_last_until_what_is_ordered_after_it_comes() -> None:
    usual = timing(date(2027, 1, 4), lead_times_days=(), usual_days=7, review_period_days=7, closed=NEW_YEAR)
    assert (usual.lead_days, usual.interval_days, usual.shutdown_days) == ((7,), (14,), 0)
    # on 28 January: what is ordered now comes on 16 February (six days worked); the next review falls on 4 February, is
    # held on the 16th, and comes on the 23rd
    before = timing(date(2027, 1, 28), lead_times_days=(), usual_days=7, review_period_days=7, closed=NEW_YEAR)
    assert (before.lead_days, before.interval_days, before.shutdown_days) == ((19,), (26,), 12)
    inside = timing(date(2027, 2, 6), lead_times_days=(3, 9), usual_days=5, review_period_days=7, closed=NEW_YEAR)
    assert inside.order_date == date(2027, 2, 16)
    assert inside.lead_days == (13, 19)


def test_real_receipts_replace_what_the_supplier_states() -> None:
    assert lead_time_samples([], stated_days=10) == [10]
    stated = lead_time_samples([], stated_days=10, stated_sd_days=3.0, count=200)
    assert np.mean(stated) == pytest.approx(10, abs=0.1)
    assert np.std(stated) == pytest.approx(3.0, abs=0.1)
    assert min(stated) >= 0
    some = lead_time_samples([21, 22], stated_days=10)
    assert some == [10] * 9 + [21, 22]
    assert lead_time_samples([20] * 8, stated_days=10) == [20] * 8
    assert lead_time_samples(list(range(60)), stated_days=10) == list(range(30, 60))  # the newest


def test_days_from_order_to_receipt_by_key() -> None:
    frame = pl.DataFrame(
        {
            "key": ["ACME", "ACME", "ACME", "BOLT"],
            "ordered_date": [date(2027, 1, 10), date(2027, 1, 1), None, date(2027, 1, 5)],
            "received_date": [date(2027, 1, 30), date(2027, 1, 8), date(2027, 1, 9), date(2027, 1, 4)],
        }
    )
    assert receipt_days(frame) == {"ACME": [7, 20]}


def test_price_breaks_are_read_and_nonsense_is_named() -> None:
    text = '[{"min_qty": 500, "unit_cost_cents": 28}, {"min_qty": 100, "unit_cost_cents": 29.5}]'
    assert read_price_breaks(text) == (PriceBreak(100, 29.5), PriceBreak(500, 28))
    assert read_price_breaks(None) == read_price_breaks("[]") == ()
    for bad in (
        "{",
        "[{}]",
        '[{"min_qty": 0, "unit_cost_cents": 1}]',
        '[{"min_qty": 5, "unit_cost_cents": -1}]',
        "[7]",
    ):
        with pytest.raises(ValueError, match="price_breaks"):
            read_price_breaks(bad)
