"""The daily run: what it says of demand and stock, that it is repeatable, and that it knows nothing of the future."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines import plan
from pipelines.daily import RunReport, run_daily
from pipelines.transform.as_of import AsOf
from pipelines.transform.plan import closed_dates, history
from pipelines.warehouse import read
from pipelines.warehouse.errors import ChecksFailed, SourceUnreadable, WarehouseLocked
from pipelines.warehouse.publish import generations, run_lock
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.write import table_hash
from tests.pipelines.book import Book, at, day

# What the model makes of `raw` does not depend on where `raw` came from: test_extract proves that it is the same.
ONE_DATABASE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
PUBLISHED_AT = datetime(2026, 3, 20, 22, tzinfo=UTC)


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    book = Book(database_url)
    book.location("HEL", default=True)
    book.location("TRE")
    book.location("OLD", tracked=False, kind="history")
    book.sku("LAMP", "RUG", "VASE", "CARD")
    book.sku("SET", kind="kit")
    book.supplier("ACME", 5, "LAMP", "RUG", moq=10, pack=12, cost=250)
    yield book
    book.close()


@pytest.fixture
def warehouse_dir(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


@pytest.fixture
def run(book: Book, database_url: str, warehouse_dir: Path) -> Callable[..., RunReport]:
    def run(as_of: date, **asked: object) -> RunReport:
        number = len(list(warehouse_dir.glob("generation-*"))) if warehouse_dir.exists() else 0
        return run_daily(
            database_url,
            warehouse_dir,
            as_of=as_of,
            **{"run_id": f"run-{number}", "now": lambda: PUBLISHED_AT, "horizon_days": 28, **asked},  # type: ignore[arg-type]
        )

    return run


def demand(warehouse_dir: Path, sku: str) -> list[tuple[object, ...]]:
    """(location, days after Monday, demand, gifts, lost, censored) of a SKU."""
    rows = read.query(
        warehouse_dir,
        "SELECT location_code, demand_date - DATE '2026-03-02' AS day, demand_qty, gift_qty, lost_qty, is_censored "
        "FROM core.fct_demand_daily WHERE sku = $sku ORDER BY ALL",
        {"sku": sku},
    )
    return rows.rows()


def without_stock(warehouse_dir: Path, sku: str) -> list[int]:
    """Days after Monday that the forecast sees as days without stock."""
    with read.live_warehouse(warehouse_dir) as warehouse:
        published = warehouse.publication()
        known = history(warehouse.con, AsOf(published.as_of_date, published.business_zone))
    rows = known.filter(pl.col("is_censored") & pl.col("unique_id").str.starts_with(f"{sku}@"))
    return [(ds - day(0)).days for ds in rows["ds"]]


def hashes(warehouse_dir: Path) -> dict[str, str]:
    """Fingerprints of every table of data; meta tells generations apart, and PostgreSQL counts transactions of neighbours."""
    with read.live_warehouse(warehouse_dir) as warehouse:
        return {t.full_name: table_hash(warehouse.con, t) for t in TABLES if t.schema != "meta"}


def steady_sales(book: Book, sku: str, days: range, qty: int = 2) -> None:
    for number in days:
        book.order(f"{sku}{number}", at(day(number)), f"{sku}@HEL: {qty}")
        book.ship(f"{sku}{number}", at(day(number), 15))


@ONE_DATABASE
def test_demand_is_what_was_asked_for_where_it_was_planned_shipped_or_not(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 100", "LAMP@TRE: 100")
    book.order("A1", at(day(0)), "LAMP@HEL: 3")
    book.order("A2", at(day(0), 13), "LAMP@HEL: 2", "LAMP@TRE: 4")
    book.ship("A1", at(day(1)))
    book.order("A3", at(day(1)), "LAMP@TRE: 1")
    run(day(2))
    assert demand(warehouse_dir, "LAMP") == [
        ("HEL", 0, 5, 0, 0, False),
        ("TRE", 0, 4, 0, 0, False),
        ("TRE", 1, 1, 0, 0, False),
    ]


@ONE_DATABASE
def test_what_is_planned_nowhere_is_asked_of_the_default_location(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 100")
    book.order("A1", at(day(0)), "LAMP: 3")
    run(day(0))
    assert demand(warehouse_dir, "LAMP") == [("HEL", 0, 3, 0, 0, False)]


@ONE_DATABASE
def test_a_kit_is_demand_for_its_components_and_a_gift_is_marked(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 100", "RUG@HEL: 100", "CARD@HEL: 100")
    book.order("A1", at(day(0)), "SET@HEL: 2", "LAMP@HEL: 2", "RUG@HEL: 4", "CARD@HEL: 1",
               kinds=("kit", "component", "component", "gift"))  # fmt: skip
    run(day(0))
    assert demand(warehouse_dir, "SET") == []
    assert demand(warehouse_dir, "LAMP") == [("HEL", 0, 2, 0, 0, False)]
    assert demand(warehouse_dir, "RUG") == [("HEL", 0, 4, 0, 0, False)]
    assert demand(warehouse_dir, "CARD") == [("HEL", 0, 1, 1, 0, False)]


@ONE_DATABASE
def test_a_cancelled_order_is_no_demand_unless_there_was_no_stock(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 100")
    book.order("A1", at(day(0)), "LAMP@HEL: 3")
    book.cancel("A1", at(day(1)), "customer")
    book.order("A2", at(day(0)), "LAMP@TRE: 5")
    book.cancel("A2", at(day(1)), "out_of_stock")
    run(day(2))
    assert demand(warehouse_dir, "LAMP") == [("TRE", 0, 5, 0, 5, True)]
    assert without_stock(warehouse_dir, "LAMP") == [0, 1, 2]


@ONE_DATABASE
def test_a_line_edited_down_is_demand_for_what_is_left_and_for_what_we_did_not_have(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 100", "RUG@HEL: 100")
    book.order("A1", at(day(0)), "LAMP@HEL: 8", "RUG@HEL: 8")
    book.edit("A1", at(day(1)), {1: 6}, "customer")
    book.edit("A1", at(day(2)), {1: 2, 2: 5}, "out_of_stock")
    book.edit("A1", at(day(3)), {1: 4}, "customer")
    run(day(4))
    assert demand(warehouse_dir, "LAMP") == [("HEL", 0, 4 + 4, 0, 4, False)]
    assert demand(warehouse_dir, "RUG") == [("HEL", 0, 5 + 3, 0, 3, False)]
    run(day(1))
    assert demand(warehouse_dir, "LAMP") == [("HEL", 0, 6, 0, 0, False)]
    stock = read.query(warehouse_dir, "SELECT outstanding_qty FROM core.fct_stock_daily WHERE sku = 'RUG'")
    assert stock.rows() == [(8,)]


@ONE_DATABASE
def test_days_with_nothing_available_are_censored_until_the_day_stock_came(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 5")
    book.order("A1", at(day(0)), "LAMP@HEL: 2")
    book.order("A2", at(day(2)), "LAMP@HEL: 4")  # three are free, four are asked for: one waits
    book.move(at(day(5)), "LAMP@HEL: 10")
    book.order("A3", at(day(6)), "LAMP@HEL: 1")
    run(day(7))
    assert demand(warehouse_dir, "LAMP") == [
        ("HEL", 0, 2, 0, 0, False),
        ("HEL", 2, 4, 0, 0, True),
        ("HEL", 6, 1, 0, 0, False),
    ]
    assert without_stock(warehouse_dir, "LAMP") == [2, 3, 4, 5], "also the day that was empty when it began"


@ONE_DATABASE
def test_half_a_year_after_anything_happened_there_an_empty_place_does_not_carry_the_product_any_more(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 2")
    book.order("A", at(day(1)), "LAMP: 2")  # the last: nothing is left to promise
    book.move(at(day(300)), "LAMP@HEL: 9")
    for number in range(0, 310, 2):
        book.order(f"OPEN{number}", at(day(number)), "RUG: 1")
    run(day(304))
    without = without_stock(warehouse_dir, "LAMP")
    assert without == list(range(1, 1 + 182 + 1)), "and no day after it, when goods come again"
    # By parts, on the next day and back again, it is the same.
    run(day(150))
    assert without_stock(warehouse_dir, "LAMP") == list(range(1, 151))
    run(day(304))
    assert without_stock(warehouse_dir, "LAMP") == without


@ONE_DATABASE
def test_where_stock_is_not_recorded_nobody_knows_and_the_suggestion_says_so(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    for number in range(0, 60, 2):
        book.order(f"H{number}", at(day(number)), "LAMP: 6", origin="history", business_date=day(number))
    run(day(60))
    history = read.query(warehouse_dir, "SELECT DISTINCT location_code, is_censored FROM core.fct_demand_daily")
    assert history.rows() == [("OLD", None)]
    row = plan.suggestions(warehouse_dir).rows.row(0, named=True)
    assert row["location_code"] == "OLD"
    assert "stock_not_recorded" in row["reason_codes"]
    assert row["inventory_position_qty"] is None
    assert row["suggested_qty"] >= 30


def test_imported_history_keeps_its_own_business_date_and_live_orders_take_the_zones(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 100")
    book.order("H1", at(day(0), 12), "RUG: 1", origin="history", business_date=day(-1))
    book.order("A1", at(day(0), 23.5), "LAMP@HEL: 1")  # still Monday in Shanghai, already Tuesday in Auckland
    run(day(1))
    assert [row[1] for row in demand(warehouse_dir, "RUG")] == [-1]
    assert [row[1] for row in demand(warehouse_dir, "LAMP")] == [0]
    run(day(1), zone="Pacific/Auckland")
    assert [row[1] for row in demand(warehouse_dir, "LAMP")] == [1]


@ONE_DATABASE
def test_stock_available_and_on_order_make_the_position_and_the_waterfall_adds_up(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 200")
    steady_sales(book, "LAMP", range(60), qty=3)
    book.order("OPEN", at(day(60)), "LAMP@HEL: 7")  # asked for, not sent: takes seven of what is there
    book.purchase("PO1", at(day(55)), "ACME", "LAMP@HEL: 24")
    book.receive("PO1", at(day(58)), "LAMP@HEL: 12")
    run(day(60))
    row = plan.suggestions(warehouse_dir, only_to_buy=False, sku="LAMP").rows.row(0, named=True)
    assert row["on_hand_qty"] == 200 - 60 * 3 + 12
    assert row["reserved_qty"] == 7
    assert row["on_order_qty"] == 12
    assert row["inventory_position_qty"] == 32 - 7 + 12
    assert (row["supplier_code"], row["lead_time_days"], row["protection_interval_days"]) == ("ACME", 5, 12)
    parts = [value for name, value in row.items() if name.endswith("_part_qty")]
    assert sum(parts) == row["suggested_qty"]
    assert row["suggested_qty"] % 12 == 0
    assert row["order_value_cents"] == 250 * row["suggested_qty"]
    assert str(row["order_up_to_qty"]) in row["reason"]
    steps = plan.waterfall(row, language="zh")
    assert steps["total_qty"].last() == row["suggested_qty"]
    assert steps.filter(pl.col("part") == "在途")["qty"].item() == -12


def test_the_same_day_again_gives_the_same_tables_from_changes_or_from_nothing(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 60", "RUG@HEL: 9")
    steady_sales(book, "LAMP", range(30))
    book.wait_until_settled()
    run(day(20))
    later = run(day(30))
    assert not later.is_full_load
    first = hashes(warehouse_dir)
    again = run(day(30))
    assert (again.is_full_load, again.changed_keys) == (False, {})
    assert hashes(warehouse_dir) == first
    assert run(day(30), full=True).is_full_load
    assert hashes(warehouse_dir) == first


def test_nothing_that_happens_after_the_day_changes_what_was_known_then(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 60", "RUG@HEL: 20")
    steady_sales(book, "LAMP", range(40))
    book.order("OPEN", at(day(39)), "LAMP@HEL: 4")
    book.order("DOUBT", at(day(40)), "RUG@HEL: 5")
    book.order("LOST", at(day(40)), "RUG@TRE: 3")
    book.order("EDIT", at(day(40)), "RUG@HEL: 6", "LAMP@TRE: 2")
    book.purchase("PO1", at(day(38)), "ACME", "LAMP@HEL: 24")
    run(day(40))
    known = {name: value for name, value in hashes(warehouse_dir).items() if name.split(".")[0] in ("core", "mart")}
    book.ship("OPEN", at(day(41)))
    book.cancel("DOUBT", at(day(41)))
    book.cancel("LOST", at(day(42)), "out_of_stock")
    book.edit("EDIT", at(day(41)), {1: 9, 2: 0}, "out_of_stock")
    book.edit("EDIT", at(day(42)), {1: 1})
    book.receive("PO1", at(day(42)), "LAMP@HEL: 24")
    book.order("NEW", at(day(41), 0.5), "LAMP@HEL: 50", "VASE@HEL: 1")
    book.order("OLD1", at(day(44)), "LAMP: 50", origin="history", business_date=day(41))
    book.move(at(day(43)), "LAMP@HEL: -3", reason="count")
    book.move(at(day(43)), "RUG@HEL: 5", business_date=day(39))  # recorded later, dated back: not known then
    run(day(40))
    assert {name: value for name, value in hashes(warehouse_dir).items() if name in known} == known
    run(day(44))
    assert {name: value for name, value in hashes(warehouse_dir).items() if name in known} != known


@ONE_DATABASE
def test_the_backlog_counts_open_orders_by_stage_and_age(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 60")
    book.order("A1", at(day(0)), "LAMP@HEL: 3", status="review")
    book.order("A2", at(day(2)), "LAMP@HEL: 5")
    book.order("A3", at(day(2)), "LAMP@HEL: 1", "SET@HEL: 1", "RUG@HEL: 2", kinds=("item", "kit", "component"))
    book.order("DONE", at(day(2)), "LAMP@HEL: 1")
    book.ship("DONE", at(day(3)))
    run(day(4))
    rows = plan.backlog(warehouse_dir).rows.select("stage", "age_days", "orders_count", "open_qty", "open_value_cents")
    assert sorted(rows.rows()) == [("ready", 2, 2, 8, 700), ("review", 4, 1, 3, 300)]


@ONE_DATABASE
def test_one_product_tells_its_whole_story_in_both_languages(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 130")
    steady_sales(book, "LAMP", range(60))
    report = run(day(60))
    story = plan.product_plan(warehouse_dir, "LAMP", "HEL", language="zh")
    assert story.publication.generation == report.generation
    assert story.here.history["demand_date"].to_list() == [
        day(number) for number in range(61)
    ]  # also days without demand
    assert story.here.history["demand_qty"].to_list() == [2] * 60 + [0]
    assert story.here.forecast.height == story.here.totals.height == 28
    assert story.here.totals["mean_qty"].is_sorted()
    assert story.here.choice is not None and story.suggestion is not None
    assert any("一" <= letter <= "鿿" for letter in story.here.choice["reason"])
    english = plan.product_plan(warehouse_dir, "LAMP", "HEL", language="en")
    assert english.suggestion is not None
    assert english.suggestion["reason"] and english.suggestion["reason"] != story.suggestion["reason"]
    unknown = plan.product_plan(warehouse_dir, "NOTHING", "HEL")
    assert (unknown.suggestion, unknown.here.choice, unknown.here.history.height) == (None, None, 0)


@ONE_DATABASE
def test_an_empty_business_publishes_empty_tables(run: Callable[..., RunReport], warehouse_dir: Path) -> None:
    report = run(day(0))
    assert report.row_counts["mart.reorder_suggestion"] == 0
    assert report.row_counts["core.dim_location"] == 3
    assert plan.suggestions(warehouse_dir).rows.height == 0
    assert plan.exceptions(warehouse_dir).rows.height == 0


@ONE_DATABASE
def test_the_report_is_plain_json_with_a_line_per_step(book: Book, run: Callable[..., RunReport]) -> None:
    told: list[str] = []
    report = run(day(0), progress=told.append)
    text = json.loads(json.dumps(report.as_json()))
    assert [step["name"] for step in text["steps"]] == told
    assert text["as_of_date"] == "2026-03-02"


def test_a_failing_run_says_why_and_leaves_yesterdays_data(
    book: Book, run: Callable[..., RunReport], database_url: str, warehouse_dir: Path
) -> None:
    run(day(0))
    with run_lock(warehouse_dir, run_id="other"), pytest.raises(WarehouseLocked):
        run(day(1))
    elsewhere = {"run_id": "x", "now": lambda: PUBLISHED_AT}
    with pytest.raises(SourceUnreadable):
        run_daily("sqlite:////nowhere/orders.db", warehouse_dir, as_of=day(1), **elsewhere)  # type: ignore[arg-type]
    with book.store.unit_of_work() as uow:  # a rule of the warehouse that no constraint of the core knows
        uow.conn.exec_driver_sql("UPDATE location SET code = ''  WHERE code = 'TRE'")
    with pytest.raises(ChecksFailed, match=r"raw\.location: 1 rows break 'location_code <> ''"):
        run(day(1))
    assert read.publication(warehouse_dir).as_of_date == day(0)
    assert [path.name for _, path in generations(warehouse_dir)] == ["generation-000001.duckdb"]
    assert not list(warehouse_dir.glob("building-*"))


SMALL_DISK = """
import resource, sys
from datetime import UTC, date, datetime
from pathlib import Path
from pipelines.daily import run_daily
from pipelines.warehouse.errors import WarehouseError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))  # what a full disk does to a file
try:
    run_daily(sys.argv[1], Path(sys.argv[2]), as_of=date(2026, 3, 3), run_id="full", now=lambda: datetime.now(UTC))
except WarehouseError as error:
    print(error.code)
"""


@pytest.mark.parametrize("room_bytes", [-1, 20_000], ids=["no room for the copy", "no room for what is new"])
@ONE_DATABASE
def test_a_full_disk_is_named_and_leaves_yesterdays_data(
    book: Book, run: Callable[..., RunReport], database_url: str, warehouse_dir: Path, room_bytes: int
) -> None:
    run(day(0))
    limit_bytes = warehouse_dir.joinpath("generation-000001.duckdb").stat().st_size + room_bytes
    book.order("A1", at(day(1)), *[f"LAMP@HEL: {number}" for number in range(1, 3000)])
    command = [sys.executable, "-c", SMALL_DISK, database_url, str(warehouse_dir), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "E_BUILD_FAILED", done.stdout + done.stderr
    assert read.publication(warehouse_dir).as_of_date == day(0)
    assert not list(warehouse_dir.glob("building-*"))


def test_a_day_nobody_ordered_was_closed_only_where_people_order_on_most_days() -> None:
    weekdays = [day(number) for number in range(100) if day(number).weekday() < 5 and number != 50]
    closed = closed_dates(weekdays, as_of=day(99), horizon_days=14)
    assert day(50) in closed, "a holiday in the past"
    assert {day(number).weekday() for number in range(100) if day(number) in closed} >= {5, 6}
    assert [d for d in closed if d > day(99)] == [d for d in map(day, range(100, 114)) if d.weekday() >= 5]
    assert closed_dates([day(0), day(10), day(20)], as_of=day(30), horizon_days=14) == []
    assert closed_dates([], as_of=day(30), horizon_days=14) == []


@ONE_DATABASE
def test_the_frames_that_learn_hold_no_day_after_the_cutoff(
    book: Book, run: Callable[..., RunReport], warehouse_dir: Path
) -> None:
    book.move(at(day(0), 8), "LAMP@HEL: 60")
    steady_sales(book, "LAMP", range(10))
    run(day(5))
    with read.live_warehouse(warehouse_dir) as warehouse:
        last_days = {
            "core.fct_demand_daily": "demand_date",
            "core.fct_stock_daily": "stock_date",
            "core.fct_order_line": "business_date",
            "core.fct_stock_movement": "business_date",
        }
        for name, column in last_days.items():
            assert warehouse.table(name)[column].max() == day(5), name
        forecast: pl.DataFrame = warehouse.table("mart.demand_forecast")
        assert forecast["demand_date"].min() == day(6)
