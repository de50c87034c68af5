"""Reading the published warehouse: one question, one whole generation, never a lock on the writer.

The link is resolved for each question and that file is attached read-only to a fresh in-memory connection, so a reader
always sees one complete generation, also while the next one is being swapped in, and never an old one from a cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl

from pipelines.warehouse.errors import WarehouseMissing
from pipelines.warehouse.publish import live_generation, live_link

Parameters = Sequence[object] | Mapping[str, object]


@dataclass(frozen=True)
class Publication:
    """Which generation answers, what it knows, and since when it is there.

    Attributes:
        generation: Its number; grows with each publication.
        run_id: The run that built it.
        as_of_date: Last business day whose facts it knows.
        business_zone: IANA zone of its business days.
        published_at: Instant it was published, UTC.
        contract_hash: Fingerprint of the contract it was checked against.
    """

    generation: int
    run_id: str
    as_of_date: date
    business_zone: str
    published_at: datetime
    contract_hash: str


@dataclass(frozen=True)
class LiveWarehouse:
    """One attached generation: ask it as many questions as belong together."""

    con: duckdb.DuckDBPyConnection
    path: Path

    def query(self, sql: str, params: Parameters = ()) -> pl.DataFrame:
        """Rows of `sql` as a Polars frame; values go in `params`, never into the text."""
        return self.con.execute(sql, params or None).pl()

    def table(self, full_name: str) -> pl.DataFrame:
        """A whole table, such as "mart.reorder_suggestion"."""
        schema, name = full_name.split(".")
        return self.query(f'SELECT * FROM "{schema}"."{name}"')

    def publication(self) -> Publication:
        """What this generation is."""
        row = self.query(
            "SELECT * EXCLUDE (published_at), epoch_us(published_at) AS published_us FROM meta.publication"
        ).row(0, named=True)
        published_at = datetime.fromtimestamp(row.pop("published_us") / 1_000_000, tz=UTC)
        return Publication(published_at=published_at, **row)


@contextmanager
def live_warehouse(warehouse_dir: Path) -> Iterator[LiveWarehouse]:
    """The live generation, attached read-only for as long as the `with` lasts.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with duckdb.connect(":memory:") as con:
        path = _attach_live(con, warehouse_dir)
        con.execute("USE warehouse")
        yield LiveWarehouse(con, path)


def query(warehouse_dir: Path, sql: str, params: Parameters = ()) -> pl.DataFrame:
    """One question to the live generation.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        return warehouse.query(sql, params)


def publication(warehouse_dir: Path) -> Publication:
    """What is live now.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        return warehouse.publication()


def _attach_live(con: duckdb.DuckDBPyConnection, warehouse_dir: Path) -> Path:
    path = live_generation(warehouse_dir)
    while path is not None:
        try:
            con.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS warehouse (READ_ONLY)")
            return path
        except duckdb.IOException:
            # Between reading the link and opening the file several publications may have swept it away: follow the
            # link again, but only if it has moved. An unreadable file that is still live is an error of its own.
            newer = live_generation(warehouse_dir)
            if newer == path and path.exists():
                raise
            path = newer if newer != path else None
    raise WarehouseMissing(link=str(live_link(warehouse_dir)))
