"""What the replay is given of a company: which places of a product send for each other, and which stand alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from forecasting.replay import with_service_costs
from pipelines.daily import run_daily
from pipelines.replay import past, pools_of, sample_of
from tests.pipelines.book import Book, at, day


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """LAMP lies at two places and at a market stall that counts nothing; RUG lies at one place."""
    book = Book(database_url)
    book.location("HEL", default=True)
    book.location("TKU")
    book.location("STALL", tracked=False, kind="store")
    book.sku("LAMP", "RUG")
    book.supplier("ACME", 7, "LAMP", "RUG", cost=250)
    book.move(at(day(0), 8), "LAMP@HEL: 90", "LAMP@TKU: 50", "RUG@HEL: 40")
    for number in range(31):
        lines = ("LAMP@HEL: 2", "LAMP@TKU: 1", "LAMP@STALL: 1", "RUG@HEL: 1")
        book.order(f"A{number}", at(day(number)), *lines)
        book.ship(f"A{number}", at(day(number), 15))
    yield book
    book.close()


def test_places_that_record_their_stock_are_one_pool(book: Book, database_url: str, tmp_path: Path) -> None:
    run_daily(database_url, tmp_path, as_of=day(29), run_id="one", now=lambda: datetime(2026, 6, 1, tzinfo=UTC))
    terms = past(tmp_path, weeks=1).terms
    assert dict(terms.select("unique_id", "pool_id").iter_rows()) == {
        "LAMP@HEL": "LAMP@*",
        "LAMP@TKU": "LAMP@*",
        "LAMP@STALL": None,
        "RUG@HEL": "RUG@*",
    }
    assert pools_of(terms) == 1  # RUG is alone in its own
    assert with_service_costs(terms, holding_ratio=0.25, cycle_service_ratio=0.95)["pool_id"].null_count() == 1
    apart = past(tmp_path, weeks=1, places_apart=True).terms
    assert (apart["pool_id"].null_count(), pools_of(apart)) == (4, 0)
    assert apart.drop("pool_id").equals(terms.drop("pool_id"))
    drawn = [sample_of(terms, count)["unique_id"].to_list() for count in (1, 2, 3, 9)]
    assert all(("LAMP@HEL" in ids) == ("LAMP@TKU" in ids) for ids in drawn)  # a product is drawn with all its places
    assert drawn[-1] == sample_of(terms, None)["unique_id"].to_list() == sorted(terms["unique_id"])
    assert len(drawn[0]) < len(drawn[1]) < len(drawn[2]) == 4
