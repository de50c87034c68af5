"""Days of 23, 24½ and 25 hours, a day that never was, leap days, week 53: what is counted by day adds up to what there was.

Orders, shipments and movements are laid around the instants at which a zone's clock jumps, in the same tables of `raw`
that a load fills, and the queries of the model count them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.model import MODELLED
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import TABLES, table
from pipelines.warehouse.write import create_tables, replace_with_query

COUNTED = (
    "core.dim_product",
    "core.dim_location",
    "core.dim_calendar",
    "core.fct_order_line",
    "core.fct_line_location",
    "core.fct_shipment_line",
    "core.fct_stock_movement",
    "core.fct_stock_daily",
    "core.fct_out_of_stock",
    "core.fct_demand_daily",
)


@dataclass(frozen=True)
class Event:
    """An order of `qty` units at an instant: stock came in with it, and it left `hours_later`."""

    at: datetime
    qty: int
    hours_later: float = 0.5


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as con:
        create_tables(con, TABLES)
        yield con


def model(con: duckdb.DuckDBPyConnection, events: Sequence[Event], as_of: AsOf, *, has_calendar: bool) -> None:
    """Fill `raw` with the events and build the counted tables from it."""
    for each in TABLES:
        if each.schema == "raw":
            con.execute(f"DELETE FROM {each.full_name}")

    def fill(name: str, rows: Sequence[dict[str, object]]) -> None:
        """Rows by column; what a column needs and a row does not say is something harmless."""
        harmless = {"VARCHAR": "x", "BIGINT": 0, "DOUBLE": 0.0, "BOOLEAN": True, "DATE": date(2000, 1, 1)}
        harmless["TIMESTAMP WITH TIME ZONE"] = datetime(1990, 1, 1, tzinfo=UTC)
        columns = table(name).columns
        values = [[row.get(c.name, None if c.nullable else harmless[c.type]) for row in rows] for c in columns]
        con.execute(f"INSERT INTO {name} SELECT {', '.join(f'unnest(?::{c.type}[])' for c in columns)}", values)

    zone = ZoneInfo(as_of.zone)
    numbered = list(enumerate(events, start=1))
    fill("raw.sku", [{"sku_id": 1, "sku": "LAMP", "sku_kind": "item", "supply_mode": "stock", "sku_status": "active"}])
    fill("raw.location", [{"location_id": 1, "location_code": "HEL", "location_kind": "warehouse", "country": "FI"}])
    fill("raw.channel", [{"channel_id": 1}])
    fill("raw.customer", [{"customer_id": 1, "customer_kind": "person", "customer_status": "active", "language": "en"}])
    fill("raw.orders", [
        {"order_id": n, "order_number": f"A{n}", "channel_id": 1, "customer_id": 1, "origin": "live", "order_kind": "sale",
         "currency": "CNY", "total_cents": 100 * e.qty, "placed_at": e.at, "version": 1,
         "business_date": e.at.astimezone(zone).date()}
        for n, e in numbered
    ])  # fmt: skip
    fill("raw.order_line", [
        {"order_line_id": n, "order_id": n, "line_no": 1, "line_kind": "item", "sku_id": 1, "units_per_pack": 1,
         "unit_price_cents": 100, "net_cents": 100 * e.qty, "ordered_qty": e.qty, "shipped_qty": e.qty}
        for n, e in numbered
    ])  # fmt: skip
    fill("raw.shipment_line", [
        {"shipment_line_id": n, "shipment_id": n, "order_id": n, "order_line_id": n, "sku_id": 1, "location_id": 1,
         "planned_qty": e.qty, "shipped_qty": e.qty, "created_at": e.at,
         "shipped_at": e.at + timedelta(hours=e.hours_later)}
        for n, e in numbered
    ])  # fmt: skip
    moved = [(e.at, e.qty) for e in events] + [(e.at + timedelta(hours=e.hours_later), -e.qty) for e in events]
    fill("raw.stock_movement", [
        {"stock_movement_id": n, "sku_id": 1, "location_id": 1, "movement_qty": qty, "stock_state": "on_hand",
         "moved_at": at, "business_date": at.astimezone(zone).date()}
        for n, (at, qty) in enumerate(moved, start=1)
    ])  # fmt: skip
    for modelled in MODELLED:
        if modelled.name in COUNTED and (has_calendar or modelled.name != "core.dim_calendar"):
            replace_with_query(con, table(modelled.name), modelled.query(as_of))
    assert find_violations(con, [table(name) for name in COUNTED]) == []


def by_day(con: duckdb.DuckDBPyConnection, name: str, day: str, qty: str) -> dict[date, int]:
    rows = con.execute(f"SELECT {day}, sum({qty})::BIGINT FROM {name} WHERE {qty} <> 0 GROUP BY 1").fetchall()
    return {date: int(total) for date, total in rows if total}


def expected(dated: Sequence[tuple[datetime, int]], as_of: AsOf) -> dict[date, int]:
    """The slow twin: each event on the day that the clock on the wall shows."""
    days: Counter[date] = Counter()
    for at, qty in dated:
        day = at.astimezone(ZoneInfo(as_of.zone)).date()
        if day <= as_of.day:
            days[day] += qty
    return {day: qty for day, qty in days.items() if qty}


def assert_adds_up(
    con: duckdb.DuckDBPyConnection, events: Sequence[Event], as_of: AsOf, *, has_calendar: bool = False
) -> None:
    model(con, events, as_of, has_calendar=has_calendar)
    placed = [(e.at, e.qty) for e in events]
    left = [(e.at + timedelta(hours=e.hours_later), e.qty) for e in events]
    asked = expected(placed, as_of)
    assert by_day(con, "core.fct_order_line", "business_date", "ordered_qty") == asked
    assert by_day(con, "core.fct_line_location", "business_date", "demand_qty") == asked
    assert by_day(con, "core.fct_demand_daily", "demand_date", "demand_qty") == asked
    assert by_day(con, "core.fct_shipment_line", "shipped_date", "shipped_qty") == expected(left, as_of)
    moved = expected([*placed, *((at, -qty) for at, qty in left)], as_of)
    assert by_day(con, "core.fct_stock_movement", "business_date", "movement_qty") == moved
    on_hand = con.execute("SELECT on_hand_qty FROM core.fct_stock_daily WHERE valid_to_date IS NULL").fetchall()
    assert on_hand in ([], [(sum(moved.values()),)])
    if not has_calendar:  # its holidays take most of the time
        return
    for bucket, bucket_of in (
        ("iso_year, iso_week", lambda day: tuple(day.isocalendar())[:2]),
        ("month", lambda day: (day.replace(day=1),)),
    ):
        wanted: Counter[object] = Counter()
        for day, qty in asked.items():
            wanted[bucket_of(day)] += qty
        rows = con.execute(
            f"SELECT {bucket}, sum(demand_qty)::BIGINT FROM core.fct_demand_daily JOIN core.dim_calendar "
            "ON calendar_date = demand_date WHERE demand_qty > 0 GROUP BY ALL"
        ).fetchall()
        assert {row[:-1]: row[-1] for row in rows} == wanted
        assert sum(row[-1] for row in rows) == sum(qty for at, qty in placed if at < as_of.end_at)


def around(*instants: datetime) -> list[Event]:
    """Orders every 45 minutes from 30 hours before to 30 hours after, and just before each of these moments."""
    step = timedelta(minutes=45)
    return [
        Event(instant + number * step + delta, number % 7 + 1, hours_later=number % 5 + 0.5)
        for instant in instants
        for number in range(-40, 41)
        for delta in (timedelta(), -timedelta(microseconds=1))
    ]


ODD = {
    "23 hours in New York": ("America/New_York", "2026-03-08T07:00Z"),
    "25 hours in New York": ("America/New_York", "2026-11-01T06:00Z"),
    "23 hours in Helsinki": ("Europe/Helsinki", "2026-03-29T01:00Z"),
    "25 hours in Helsinki": ("Europe/Helsinki", "2026-10-25T01:00Z"),
    "half an hour less on Lord Howe": ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    "half an hour more on Lord Howe": ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    "no midnight in Cairo": ("Africa/Cairo", "2026-04-23T22:00Z"),
    "two midnights in Havana": ("America/Havana", "2026-11-01T05:00Z"),
    "an hour to midnight twice in São Paulo": ("America/Sao_Paulo", "2019-02-17T02:00Z"),
    "Apia without 30 December": ("Pacific/Apia", "2011-12-30T10:00Z"),
    "a quarter to in Kathmandu": ("Asia/Kathmandu", "2026-06-30T18:15Z"),
    "half past in Kolkata": ("Asia/Kolkata", "2026-03-31T18:30Z"),
    "29 February in Shanghai": ("Asia/Shanghai", "2028-02-28T16:00Z"),
    "29 February over in Kolkata": ("Asia/Kolkata", "2028-02-29T18:30Z"),
    "week 53 at the end of 2026": ("Europe/Helsinki", "2026-12-31T22:00Z"),
    "week 53 of 2020 reaches into 2021": ("Pacific/Auckland", "2021-01-02T11:00Z"),
    "week 1 of 2025 begins in 2024": ("Asia/Shanghai", "2024-12-29T16:00Z"),
    "a plain year's end in UTC": ("UTC", "2023-01-01T00:00Z"),
}


@pytest.mark.parametrize(("zone", "instant"), ODD.values(), ids=ODD.keys())
def test_counts_by_day_week_and_month_add_up_around_odd_instants(
    con: duckdb.DuckDBPyConnection, zone: str, instant: str
) -> None:
    at = datetime.fromisoformat(instant)
    events = around(at)
    whole = AsOf(at.astimezone(ZoneInfo(zone)).date() + timedelta(days=10), zone)
    assert_adds_up(con, events, whole, has_calendar=True)
    total = con.execute("SELECT sum(demand_qty)::BIGINT FROM core.fct_demand_daily").fetchone()
    assert total == (sum(event.qty for event in events),)
    if zone == "Pacific/Apia":
        days = con.execute("SELECT DISTINCT demand_date FROM core.fct_demand_daily WHERE demand_qty > 0").fetchall()
        assert (date(2011, 12, 30),) not in days
    # And as it was known on the very day: what is after its end belongs to the next day, nothing to both or none.
    assert_adds_up(con, events, AsOf(at.astimezone(ZoneInfo(zone)).date(), zone))


ZONES = sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith(("posix/", "right/")))
instants = st.integers(0, 28 * 365 * 86_400).map(lambda s: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
near_a_jump = st.sampled_from([datetime.fromisoformat(instant) for _, instant in ODD.values()]).flatmap(
    lambda at: st.timedeltas(timedelta(hours=-30), timedelta(hours=30)).map(lambda delta: at + delta)
)


@given(zone=st.sampled_from(ZONES), at=st.lists(instants | near_a_jump, min_size=1, max_size=40), data=st.data())
def test_the_business_day_is_the_one_on_the_wall_and_begins_where_the_one_before_ends(
    zone: str, at: list[datetime], data: st.DataObject
) -> None:
    day = data.draw(st.sampled_from(at)).astimezone(ZoneInfo(zone)).date()
    as_of = AsOf(day, zone)
    with duckdb.connect(":memory:") as con:
        found = con.execute(
            f"SELECT t, {as_of.business_day('t')}, {as_of.known('t')} FROM (SELECT unnest(?::TIMESTAMPTZ[]) AS t)", [at]
        ).fetchall()
    for instant, business_day, is_known in found:
        assert business_day == instant.astimezone(ZoneInfo(zone)).date()
        assert is_known == (business_day <= day)


@given(
    zone=st.sampled_from(ZONES),
    events=st.lists(
        st.builds(Event, instants | near_a_jump, st.integers(1, 9), st.floats(0, 100).map(lambda h: round(h, 2))),
        min_size=1,
        max_size=12,
    ),
    data=st.data(),
)
def test_counts_by_day_add_up_for_random_orders_in_random_zones(
    con: duckdb.DuckDBPyConnection, zone: str, events: list[Event], data: st.DataObject
) -> None:
    day = data.draw(st.sampled_from(events)).at.astimezone(ZoneInfo(zone)).date()
    assert_adds_up(con, events, AsOf(day, zone))
