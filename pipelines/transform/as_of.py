"""The moment whose knowledge is allowed, as the SQL of the transforms needs it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pipelines.sql import literal


@dataclass(frozen=True)
class AsOf:
    """The end of business day `day` in `zone`."""

    day: date
    zone: str

    @property
    def end_at(self) -> datetime:
        """The first instant that is not known any more, UTC."""
        return datetime.combine(self.day + timedelta(days=1), time(), tzinfo=ZoneInfo(self.zone)).astimezone(UTC)

    @property
    def day_sql(self) -> str:
        """The as-of date as a literal."""
        return literal(self.day)

    @property
    def end_sql(self) -> str:
        """That instant as a literal."""
        return f"TIMESTAMPTZ '{self.end_at.isoformat()}'"

    def known(self, instant: str) -> str:
        """SQL: true if what the column `instant` dates had happened by then; NULL has not."""
        return f"coalesce({instant} < {self.end_sql}, false)"

    def if_known(self, instant: str) -> str:
        """SQL: the column `instant` where what it dates had happened by then, else NULL."""
        return f"CASE WHEN {self.known(instant)} THEN {instant} END"

    def unchanged_since(self, changed_at: str) -> str:
        """SQL: true if a row last changed at `changed_at` stands as it stood then."""
        return f"coalesce({changed_at} < {self.end_sql}, true)"

    def business_day(self, instant: str) -> str:
        """SQL: the business day of the column `instant`."""
        return f"CAST({instant} AT TIME ZONE '{ZoneInfo(self.zone).key}' AS DATE)"
