"""The daily run: load what changed, model it, forecast, suggest what to restock, publish. One plain function."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepReport:
    """One step of a run: what it wrote and how long it took."""

    name: str
    rows: int
    seconds: float


@dataclass(frozen=True)
class RunReport:
    """What a finished run did.

    Attributes:
        run_id: As given.
        as_of_date: Last business day whose facts were used.
        business_zone: IANA zone of the business days.
        generation: Number of the generation that is live now.
        published_at: When it went live, UTC.
        is_full_load: True when everything was read, False when only what changed since the generation before.
        changed_keys: Changed keys read per entity of the change log (all rows on a full load).
        row_counts: Rows per published table, such as {"mart.reorder_suggestion": 412}.
        counts: What the forecast read, used and set aside (see `forecasting`), and `suggestions_to_buy`.
        steps: In the order they ran.
    """

    run_id: str
    as_of_date: date
    business_zone: str
    generation: int
    published_at: datetime
    is_full_load: bool
    changed_keys: dict[str, int]
    row_counts: dict[str, int]
    counts: dict[str, int]
    steps: tuple[StepReport, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, dates as ISO text."""
        return {
            **asdict(self),
            "as_of_date": self.as_of_date.isoformat(),
            "published_at": self.published_at.isoformat(),
            "steps": [asdict(step) for step in self.steps],
        }


def run_daily(
    database_url: str,
    warehouse_dir: Path,
    *,
    as_of: date,
    zone: str = "Asia/Shanghai",
    run_id: str,
    now: Callable[[], datetime],
    full: bool = False,
    horizon_days: int = 56,
    cycle_service_ratio: float = 0.95,
    review_period_days: int = 7,
    keep: int = 5,
    progress: Callable[[str], None] = lambda step: None,
) -> RunReport:
    """Build and publish the warehouse as it is known at the end of business day `as_of` in `zone`.

    Nothing recorded after that moment is used. Running the same day again on the same orders gives the same tables.

    Args:
        database_url: The order database, as SQLAlchemy writes it (`sqlite:///orders.db`, `postgresql+psycopg://…`).
        warehouse_dir: Folder of generations; the link to the live one lies beside it, `warehouse_dir` + ".duckdb".
        as_of: Last business day to learn from.
        zone: IANA zone of the business day.
        run_id: Name of this run, unique; letters, digits and dashes.
        now: Tells the time of publication (`uow.clock.now`); nothing else in the run reads a clock.
        full: Read everything again instead of what changed.
        horizon_days: Days forecast; longer when a supplier's lead time and the review period together are longer.
        cycle_service_ratio: Chance of no stock-out in one protection interval that suggestions aim at.
        review_period_days: Days between two looks at the suggestions.
        keep: Generations left on disk.
        progress: Told the name of each step as it starts.

    Returns:
        What was read, written and published.

    Raises:
        WarehouseLocked: Another run is writing (exit code 5).
        ChecksFailed: A promise of the contract is broken (exit code 4); the generation before stays live.
        SourceUnreadable, BuildFailed: The order database or the disk refused (exit code 1); same consequence.
        All are `pipelines.warehouse.errors.WarehouseError` with `code`, `exit_code` and `message("zh" | "en")`.
    """
    raise NotImplementedError("under construction: the signature is settled, the body follows with the core's tables")
