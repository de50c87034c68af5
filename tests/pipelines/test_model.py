"""What the modelled tables say of a few days whose every event is known, and of days past."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import select

from orders_core.ports import FixedClock
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.carts import SetCartLine, set_cart_line
from orders_core.services.follow_up import AnswerFollowUp, AskCustomers, answer_follow_up, ask_customers
from orders_core.services.master_data import PriceIn, ProductIn, SkuIn, save_product
from orders_core.services.payments import PayRefund, ReceivePayment, pay_refund, receive_payment
from orders_core.services.returns import (
    DecideReturn,
    Disposition,
    InspectReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    inspect_return,
    receive_return,
    request_return,
)
from orders_core.services.tickets import AnswerTicket, OpenTicket, SolveTicket, answer_ticket, open_ticket, solve_ticket
from orders_core.services.tracking import TrackingEventIn, record_event
from orders_core.store.tables import Refund
from orders_core.store.uow import Store
from pipelines import parts
from pipelines.daily import (
    SOURCES,
    RunSettings,
    building_generation,
    load,
    open_generation,
    run_refresh,
)
from pipelines.model import MODELLED
from pipelines.transform import calendar, service_marts, stock_marts
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.tables import TABLES, table
from pipelines.warehouse.write import create_tables, replace_with_query, table_hash
from tests.pipelines.test_daily import PUBLISHED_AT, hashes
from tests.support import build

ZONE = "Asia/Shanghai"
BY_DAY = {modelled.name for modelled in MODELLED if not modelled.is_nightly}


class Story:
    """Five days of a shop; each call is what happens on one of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        build.company(store)
        build.rules(store, shortage={"policy": "backorder"})
        build.location(store, "WH1", is_default=True)
        build.stock(store, "LAMP@WH1: 20, RUG@WH1: 12", unit_cost_cents=400)
        build.sku(store, "SET", components="LAMP 1, RUG 2")

    def day_0(self) -> None:
        self.sent = build.order(self.store, "LAMP 4, RUG 1").number
        self.kit = build.order(self.store, "SET 2", channel="web").number
        self.given_up = build.order(self.store, "LAMP 2").number
        money = ReceivePayment("ACME", 5_000, "p", settle={self.sent: 5_000})
        self.store.run(receive_payment, build.CASHIER, money)
        self.store.run(set_cart_line, build.CLERK, SetCartLine("cart", "LAMP", 3))

    def day_1(self) -> None:
        build.ship(self.store, self.sent, tracking_number="SF1")
        self.store.run(cancel_order, build.CLERK, CancelOrder(self.given_up, "customer"))
        self.report("SF1", "in transit")
        self.report("SF-unknown", "in transit")

    def day_2(self) -> None:
        build.deliver(self.store, self.sent)
        self.report("SF1", "in transit", hours_ago=3)  # older than what is known
        asked = RequestReturn(self.sent, {1: 3}, "broken")
        self.rma = self.store.run(request_return, build.CLERK, asked).number
        self.store.run(decide_return, build.MANAGER, DecideReturn(self.rma, True))
        self.ticket = self.store.run(
            open_ticket, build.CLERK, OpenTicket(self.sent, "damaged", "Lamp", "broken")
        ).number
        ask = AskCustomers("https://shop/{token}", lambda: "secret")
        assert self.store.run(ask_customers, build.MANAGER, ask) == 1

    def day_3(self) -> None:
        self.store.run(receive_return, build.PICKER, ReceiveReturn(self.rma, {1: 1}, "WH1"))
        self.store.run(answer_ticket, build.CLERK, AnswerTicket(self.ticket, "we look"))
        self.store.run(answer_follow_up, build.MANAGER, AnswerFollowUp("secret", 4))
        build.ship(self.store, self.kit, tracking_number="SF2")

    def day_4(self) -> None:
        self.store.run(receive_return, build.PICKER, ReceiveReturn(self.rma, {1: 2}, "WH1"))
        dispositions = [Disposition(1, restock_qty=2, scrap_qty=1)]
        self.store.run(inspect_return, build.PICKER, InspectReturn(self.rma, dispositions))
        self.store.run(solve_ticket, build.CLERK, SolveTicket(self.ticket, "money back"))
        for (number,) in build.rows(self.store, select(Refund.number)):
            self.store.run(pay_refund, build.CASHIER, PayRefund(number))

    def report(self, number: str, word: str, *, hours_ago: int = 0) -> None:
        at = self.store.clock.now() - timedelta(hours=hours_ago)
        self.store.run(record_event, build.MANAGER, TrackingEventIn("SF", number, word, at))


@pytest.fixture
def story(store: Store, clock: FixedClock) -> Story:
    return Story(store)


def tell(story: Story, clock: FixedClock) -> Iterator[date]:
    """Each day of the story, after what happened on it."""
    for number in range(5):
        getattr(story, f"day_{number}")()
        yield clock.now().date()
        clock.advance(days=1)


def modelled(url: str, folder: Path, *days: date) -> Iterator[duckdb.DuckDBPyConnection]:
    """The modelled tables as known on each of `days`, from one load of the order database as it is now."""
    settings = RunSettings(url, folder, as_of=days[0], zone=ZONE, run_id="model", full=True)
    with building_generation(settings) as building:
        load(settings, building)
        with open_generation(building) as con:
            for day in days:
                for one in MODELLED:
                    replace_with_query(con, table(one.name), one.query(AsOf(day, ZONE)))
                yield con


Ask = Callable[..., list[tuple[Any, ...]]]


def ask(con: duckdb.DuckDBPyConnection) -> Ask:
    """Answers questions about the tables as they stand now, also later on."""
    copy = duckdb.connect(":memory:")
    for one in TABLES:
        rows = con.execute(f"FROM {one.full_name}").to_arrow_table()
        copy.execute(f"CREATE SCHEMA IF NOT EXISTS {one.schema}")
        copy.register("rows", rows)
        copy.execute(f"CREATE TABLE {one.full_name} AS FROM rows")
    return lambda sql, *values: copy.execute(sql, values).fetchall()


def test_a_past_day_is_as_it_was_known_then_and_built_by_parts_as_anew(
    story: Story, clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 1.0)  # of so few orders most move every day; still by parts
    by_day = tmp_path / "by_day"
    known: dict[date, dict[str, str]] = {}
    for day in tell(story, clock):
        run_refresh(story.store.url, by_day, as_of=day, run_id=day.isoformat(), now=lambda: PUBLISHED_AT)
        known[day] = {name: value for name, value in hashes(by_day).items() if name in BY_DAY}
    assert len(set(map(str, known.values()))) == 5, "a day on which nothing changes proves nothing"
    for day, con in zip(known, modelled(story.store.url, tmp_path / "anew", *known), strict=True):
        anew = {name: table_hash(con, table(name)) for name in BY_DAY}
        assert {name for name in anew if anew[name] != known[day][name]} == set(), day


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_going_on_by_a_day_without_a_new_load_builds_what_is_dated_on_it(
    story: Story, clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 1.0)
    days = list(tell(story, clock))
    settings = RunSettings(story.store.url, tmp_path, as_of=days[0], zone=ZONE, run_id="model", full=True)
    with building_generation(settings) as building:
        load(settings, building)
        with open_generation(building) as con:
            for before, day in zip([None, *days], days, strict=False):
                base = None if before is None else AsOf(before, ZONE)
                by_parts = parts.Parts(con, base, SOURCES)
                for one in MODELLED:
                    by_parts.build(one, AsOf(day, ZONE))
                by_parts.close()
                found = {name: table_hash(con, table(name)) for name in BY_DAY}
                for one in MODELLED:
                    replace_with_query(con, table(one.name), one.query(AsOf(day, ZONE)))
                assert {name for name in found if table_hash(con, table(name)) != found[name]} == set(), day


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_each_fact_is_there_once_with_its_dates_and_sums_to_what_the_order_core_has(
    story: Story, clock: FixedClock, tmp_path: Path
) -> None:
    days = list(tell(story, clock))
    on_day_3, at_last = (ask(con) for con in modelled(story.store.url, tmp_path / "w", days[3], days[4]))
    noon = [clock.now() - timedelta(days=5 - number) for number in range(5)]

    assert at_last("SELECT order_number, ordered_qty, cancelled_qty, shipped_qty, open_qty, delivered_qty, is_in_full, "
                   "net_cents FROM core.fct_order ORDER BY order_id") == [
        (story.sent, 5, 0, 5, 0, 5, True, 5000),
        (story.kit, 6, 0, 6, 0, 0, False, 2000),  # two kits are two lamps and four rugs
        (story.given_up, 2, 2, 0, 0, 0, False, 2000),
    ]  # fmt: skip
    assert at_last("SELECT placed_at, approved_at, first_released_at, first_shipped_at, last_shipped_at, "
                   "last_delivered_at FROM core.fct_order WHERE order_number = $1", story.sent) == [
        (noon[0], noon[0], noon[1], noon[1], noon[1], noon[2])
    ]  # fmt: skip
    assert at_last("SELECT cancelled_at FROM core.fct_order WHERE cancelled_at IS NOT NULL") == [(noon[1],)]
    assert at_last("SELECT sum(net_cents), sum(lines_count), count(*) FROM core.fct_order") == at_last(
        "SELECT sum(net_cents), count(*) FILTER (WHERE line_kind <> 'component'), count(DISTINCT order_id) "
        "FROM raw.order_line"
    )

    assert at_last("SELECT location_code, carrier_code, shipped_at, delivered_at, orders_on_board, packages_count, "
                   "lines_count, shipped_qty FROM core.fct_shipment ORDER BY shipped_at") == [
        ("WH1", "SF", noon[1], noon[2], 1, 1, 2, 5), ("WH1", "SF", noon[3], None, 1, 1, 2, 6),
    ]  # fmt: skip
    assert at_last("SELECT sum(shipped_qty) FROM core.fct_shipment") == at_last(
        "SELECT sum(shipped_qty) FROM raw.shipment_line"
    )

    assert at_last("SELECT tracking_number, tracking_status, tracking_outcome, shipment_id IS NOT NULL "
                   "FROM core.fct_tracking_event WHERE carrier_status = 'in transit' ORDER BY reported_at, 1") == [
        ("SF-unknown", None, "quarantined", False),
        ("SF1", "in_transit", "applied", True),
        ("SF1", "in_transit", "late", True),
    ]  # fmt: skip

    returned = ("SELECT asked_qty, returned_qty, restocked_qty, repair_qty, scrapped_qty, refund_cents, decided_at, "
                "received_at, closed_at, is_refused FROM core.fct_return_line")  # fmt: skip
    assert on_day_3(returned) == [(3, 1, 0, 0, 0, 1000, noon[2], noon[3], None, False)]
    assert at_last(returned) == [(3, 3, 2, 0, 1, 3000, noon[2], noon[4], noon[4], False)]

    ticket = "SELECT ticket_kind, opened_at, first_answer_at, solved_at FROM core.fct_ticket"
    assert on_day_3(ticket) == [("damaged", noon[2], noon[3], None)]
    assert at_last(ticket) == [("damaged", noon[2], noon[3], noon[4])]
    assert at_last("SELECT asked_at, answered_at, score FROM core.fct_follow_up") == [(noon[2], noon[3], 4)]

    money = ("SELECT payment_kind, sum(amount_cents), count(*), max(paid_at) FROM core.fct_payment GROUP BY ALL "
             "ORDER BY ALL")  # fmt: skip
    assert on_day_3(money) == [("receipt", 5000, 1, noon[0]), ("refund", 1000, 1, None)]
    assert at_last(money) == [("receipt", 5000, 1, noon[0]), ("refund", 3000, 2, noon[4])]
    assert at_last("SELECT event_kind, sku, happened_at FROM core.fct_behaviour_event") == [
        ("cart_add", "LAMP", noon[0])
    ]

    assert at_last("FROM mart.channel_daily ORDER BY channel_code") == [
        (days[0], "phone", "CNY", 2, 1, 5, 5000), (days[0], "web", "CNY", 1, 0, 6, 2000),
    ]  # fmt: skip
    assert at_last("FROM mart.customer") == [("ACME", "CNY", days[0], days[0], 2, 11, 7000, None)]
    assert at_last("FROM mart.return_daily") == [(days[2], "phone", "CNY", 1, 0, 3, 3, 2, 0, 1, 3000)]
    # damaged goods want an answer in 8 hours; it took a day
    assert at_last("FROM mart.satisfaction") == [(days[2], 1, 1, 0, 1, 24.0, 1, 1, 0, 4.0)]
    assert at_last("FROM mart.cycle_time ORDER BY ended_date, cycle_stage") == [
        ("review", days[0], 3, 0.0, 0.0),
        ("release", days[1], 1, 24.0, 24.0),
        ("warehouse", days[1], 1, 0.0, 0.0),
        ("transit", days[2], 1, 24.0, 24.0),
        ("whole", days[2], 1, 48.0, 48.0),
        ("release", days[3], 1, 72.0, 72.0),
        ("warehouse", days[3], 1, 0.0, 0.0),
    ]
    promised = build.order_row(story.store, story.sent).promised_by_date
    assert days[2] <= promised <= days[4], "else the next line proves nothing"
    assert at_last("FROM mart.on_time_in_full ORDER BY channel_code") == [
        (promised, "WH1", "phone", 2, 2, 2, 5, 5, 1.0), (promised, "WH1", "web", 2, 0, 0, 6, 0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_price_and_a_cost_of_a_past_day_are_as_they_were_known_then(
    store: Store, clock: FixedClock, tmp_path: Path
) -> None:
    def tea(*prices: PriceIn, cost: int) -> ProductIn:
        return ProductIn("TEA", "茶", [SkuIn("TEA", "茶", prices=prices, unit_cost_cents=cost)])

    today = clock.now().date()
    tomorrow = today + timedelta(days=1)
    summer = PriceIn("promotion", 5000, date(2026, 6, 1), valid_to_date=date(2026, 6, 30))
    store.run(save_product, build.PLANNER, tea(PriceIn("list", 5800, today), summer, cost=3000))
    clock.advance(days=1)
    ended = PriceIn("list", 5800, today, valid_to_date=today)
    for _ in range(2):  # the same again changes nothing
        store.run(save_product, build.PLANNER, tea(ended, PriceIn("list", 6800, tomorrow), cost=3300))
    store.run(save_product, build.PLANNER, tea(cost=3400))  # a slip of the same day
    prices = "SELECT unit_price_cents, valid_from_date, valid_to_date FROM core.fct_price ORDER BY ALL"
    costs = "SELECT unit_cost_cents, valid_from_date, valid_to_date FROM core.fct_cost ORDER BY ALL"
    promised = (5000, date(2026, 6, 1), date(2026, 6, 30))
    then, now = (ask(con) for con in modelled(store.url, tmp_path, today, tomorrow))
    assert then(prices) == [promised, (5800, today, None)]
    assert now(prices) == [promised, (5800, today, today), (6800, tomorrow, None)]
    assert then(costs) == [(3000, date(2000, 1, 1), None)]
    assert now(costs) == [(3000, date(2000, 1, 1), today), (3400, tomorrow, None)]


def hand_made(**rows: str) -> duckdb.DuckDBPyConnection:
    """Empty tables of the contract, with `rows` (VALUES of named columns) in some: `core__fct_cost="(sku) ('A')"`."""
    con = duckdb.connect(":memory:")
    con.execute("SET TimeZone = 'UTC'")
    create_tables(con, TABLES)
    for name, values in rows.items():
        columns, _, tuples = values.partition("VALUES")
        con.execute(f"INSERT INTO {name.replace('__', '.')} {columns} VALUES {tuples}")
    return con


def test_the_calendar_knows_weeks_ends_holidays_and_the_lunar_new_year() -> None:
    con = hand_made(
        raw__orders="(business_date) VALUES (DATE '2024-02-29')", raw__location="(country) VALUES ('GB'), ('XX')"
    )
    as_of = AsOf(date(2026, 12, 31), ZONE)
    con.execute(f"CREATE VIEW day AS {calendar.dim_calendar(as_of)}")

    def is_so(columns: str, day: str) -> tuple[Any, ...] | None:
        return con.execute(f"SELECT {columns} FROM day WHERE calendar_date = '{day}'").fetchone()

    assert con.execute("SELECT min(calendar_date), max(calendar_date), count(*) FROM day").fetchone() == (
        date(2024, 2, 29), date(2028, 2, 4), 1437,
    )  # fmt: skip
    assert is_so("is_month_end, weekday, month, quarter", "2024-02-29") == (True, 4, date(2024, 2, 1), date(2024, 1, 1))
    assert is_so("iso_year, iso_week", "2026-12-31") == (2026, 53)
    assert is_so("iso_year, iso_week, is_weekend", "2027-01-03") == (2026, 53, True)
    assert is_so("holiday_name, holiday_name_en, is_holiday", "2025-01-28")[1:] == ("Chinese New Year's Eve", True)
    assert [is_so("days_to_lunar_new_year", f"2025-{day}")[0] for day in ("01-26", "01-29", "02-01")] == [3, 0, -3]
    assert is_so("is_makeup_workday, is_weekend, is_holiday", "2025-01-26") == (True, True, False)
    sales = con.execute("SELECT calendar_date FROM day WHERE is_double_eleven OR is_six_eighteen ORDER BY 1").fetchall()
    assert sales[:2] == [(date(2024, 6, 18),), (date(2024, 11, 11),)]
    british = con.execute(calendar.dim_holiday(as_of)).fetchall()
    assert {country for country, *_ in british} == {"GB"}, "only where there is a location, and only what is known"
    assert ("GB", date(2026, 12, 25), None, "Christmas Day") in british


TODAY = AsOf(date(2026, 3, 31), ZONE)


def test_turnover_divides_what_left_in_a_year_by_the_mean_of_what_was_there() -> None:
    con = hand_made(
        core__fct_stock_daily="(sku, location_code, stock_date, valid_to_date, on_hand_qty) VALUES "
        "('LAMP', 'WH1', DATE '2026-03-22', DATE '2026-03-26', 30), ('LAMP', 'WH1', DATE '2026-03-27', NULL, 10)",
        core__fct_shipment_line="(sku, location_code, shipped_date, shipped_qty) VALUES "
        "('LAMP', 'WH1', DATE '2026-03-27', 20), ('LAMP', 'WH1', DATE '2026-01-10', 6), "
        "('LAMP', 'WH1', DATE '2025-05-01', 14), ('LAMP', 'WH1', DATE '2025-03-31', 100), "
        "('RUG', 'OLD', DATE '2026-03-31', 1)",
    )
    # 5 days of 30 and 5 of 10 are 20 on the mean; 40 of them left within the year; 26 in 91 days are 10 in 35
    assert con.execute(stock_marts.turnover(TODAY)).fetchall() == [
        ("LAMP", "WH1", 20, 26, 40, 10, 20.0, 2.0, 35.0), ("RUG", "OLD", 1, 1, 1, None, None, None, None),
    ]  # fmt: skip


def test_dead_stock_did_not_move_for_half_a_year_and_excess_is_more_than_sells_in_one() -> None:
    con = hand_made(
        core__fct_stock_daily="(sku, location_code, stock_date, valid_to_date, on_hand_qty) VALUES "
        "('DEAD', 'WH1', DATE '2025-01-01', NULL, 7), ('SLOW', 'WH1', DATE '2025-01-01', NULL, 50), "
        "('GOOD', 'WH1', DATE '2025-01-01', NULL, 30), ('NEW', 'WH1', DATE '2026-03-01', NULL, 90), "
        "('BACK', 'WH1', DATE '2025-01-01', DATE '2026-02-27', 9), "  # sold out for a day, and here again for a month
        "('BACK', 'WH1', DATE '2026-02-28', DATE '2026-02-28', 0), ('BACK', 'WH1', DATE '2026-03-01', NULL, 80)",
        core__fct_shipment_line="(sku, location_code, shipped_date, shipped_qty) VALUES "
        "('SLOW', 'WH1', DATE '2026-03-01', 13), ('GOOD', 'WH1', DATE '2026-03-01', 26), "
        "('DEAD', 'WH1', DATE '2025-10-02', 5)",
        core__fct_cost="(sku, cost_id, cost_kind, unit_cost_cents, currency, valid_from_date, valid_to_date) VALUES "
        "('SLOW', 1, 'standard', 300, 'CNY', DATE '2020-01-01', NULL), "
        "('SLOW', 2, 'standard', 900, 'CNY', DATE '2026-04-01', NULL)",
    )
    # 13 in 91 days are 25.7 in 180, so 24 of 50 are too many; 26 sell out 30 in time
    found = con.execute(
        f"SELECT sku, stock_class, excess_qty, excess_value_cents FROM ({stock_marts.excess_dead_stock(TODAY)}) ORDER BY 1"
    ).fetchall()
    assert found == [("DEAD", "dead", 7, None), ("SLOW", "excess", 24, 7200)]


def test_abc_ranks_by_money_within_a_currency_and_xyz_by_how_weeks_vary() -> None:
    lines = [("EVEN", 80, week, 5) for week in range(10)] + [
        ("RARE", 100, 9, 5),
        ("RARE", 50, 0, 1),
        ("LAST", 40, 0, 1),
    ]
    values = ", ".join(
        f"({number}, '{sku}', 'CNY', {cents}, {qty}, 0, DATE '2026-03-31' - {7 * week}, 'item')"
        for number, (sku, cents, week, qty) in enumerate(lines)
    )
    columns = "(order_id, sku, currency, net_cents, ordered_qty, cancelled_qty, business_date, line_kind)"
    orders = ", ".join(f"({number}, 'sale', NULL)" for number in range(len(lines)))
    con = hand_made(
        core__fct_order_line=f"{columns} VALUES {values}, (99, 'GONE', 'CNY', 9999, 1, 1, DATE '2026-03-30', 'item'), "
        "(100, 'EVEN', 'USD', 7, 1, 0, DATE '2025-04-01', 'item'), "
        "(101, 'SENT AGAIN', 'CNY', 9999, 1, 0, DATE '2026-03-30', 'item')",
        core__fct_order=f"(order_id, order_kind, cancelled_at) VALUES {orders}, (100, 'sale', NULL), "
        "(99, 'sale', TIMESTAMPTZ '2026-03-30 00:00:00+00'), (101, 'resend', NULL)",
    )
    found = con.execute(f"SELECT * FROM ({stock_marts.abc_xyz(TODAY)}) ORDER BY currency, net_cents DESC").fetchall()
    # RARE: 10 weeks with 6 units, 5 of them in one: mean 0.6, standard deviation the root of 2.6 - 0.36
    assert [(*row[:5], row[5] and round(row[5], 3), row[6]) for row in found] == [
        ("EVEN", "CNY", 800, "A", 10, 0, "X"),
        ("RARE", "CNY", 150, "B", 10, 2.494, "Z"),
        ("LAST", "CNY", 40, "C", 1, None, None),
        ("EVEN", "USD", 7, "A", 10, 0, "X"),
    ]


def test_what_is_exchanged_or_sent_again_is_no_order_that_a_customer_placed() -> None:
    con = hand_made(
        core__fct_order="(order_kind, business_date, channel_code, customer_code, currency, ordered_qty, cancelled_qty, "
        "net_cents) VALUES " + ", ".join(
            f"('{kind}', DATE '2026-03-0{number}', 'web', 'ACME', 'CNY', 2, 0, 500)"
            for number, kind in ((1, "sale"), (2, "exchange"), (3, "resend"), (5, "sale"))
        )
    )  # fmt: skip
    days = con.execute(f"SELECT business_date, orders_count FROM ({service_marts.channel_daily(TODAY)}) ORDER BY 1")
    assert days.fetchall() == [(date(2026, 3, 1), 1), (date(2026, 3, 5), 1)]
    assert con.execute(service_marts.customer(TODAY)).fetchall() == [
        ("ACME", "CNY", date(2026, 3, 1), date(2026, 3, 5), 2, 4, 1000, 4.0)
    ]
