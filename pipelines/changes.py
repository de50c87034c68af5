"""Whether the order database has changes that the live generation has not seen: cheap enough to ask every few seconds."""

from dataclasses import dataclass
from pathlib import Path

from orders_core.store import read_models
from pipelines.extract import Source
from pipelines.warehouse import read
from pipelines.warehouse.errors import SourceUnreadable, WarehouseMissing, WarehouseUnreadable


@dataclass(frozen=True)
class Unseen:
    """Changes that wait to be loaded.

    Attributes:
        changes: Rows of the change log since the live generation's watermark; None when nothing was loaded yet.
        mark: Changes whenever another change comes, so that the same state is not answered with run after run.
    """

    changes: int | None
    mark: str


def unseen_changes(database_url: str, warehouse_dir: Path) -> Unseen | None:
    """What the next load would find, or None when the live generation has seen everything.

    Asks the order database over a read-only connection of its own that is closed again at once. On PostgreSQL a
    transaction that runs for long, in any of its databases, makes rows look unseen that were read already; `mark` then
    stays the same.

    Raises:
        SourceUnreadable: The order database doesn't answer.
    """
    from sqlalchemy.exc import SQLAlchemyError

    source = Source.from_url(database_url)
    seen = _seen(warehouse_dir, source.name)
    is_sqlite = source.kind == "sqlite"
    head_sql = read_models.SQLITE_HEAD if is_sqlite else read_models.POSTGRESQL_HEAD
    changes_sql = read_models.SQLITE_CHANGES if is_sqlite else read_models.POSTGRESQL_CHANGES
    try:
        position = _ask(database_url, head_sql)[0]
        if seen is None or seen["position"] > position:  # never loaded, or restored from a backup since
            (newest_id,) = _ask(database_url, "SELECT coalesce(max(id), 0) FROM change_log")
            return Unseen(None, f"all-{newest_id}")
        unseen_sql = changes_sql.format_map(seen)
        changes, newest_id = _ask(database_url, f"SELECT count(*), coalesce(max(id), 0) FROM ({unseen_sql}) unseen")
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SourceUnreadable(source=source.name, reason=reason) from error
    return Unseen(changes, f"{newest_id}-{changes}") if changes else None


def _seen(warehouse_dir: Path, source_name: str) -> dict[str, int] | None:
    """Where the live generation's load of this order database ended, and above which ids it is worth looking."""
    try:
        rows = read.query(
            warehouse_dir, "SELECT position, after_id FROM meta.watermark WHERE source_name = ?", [source_name]
        ).to_dicts()
    except (WarehouseMissing, WarehouseUnreadable):  # the next run builds a damaged one anew
        return None
    return rows[0] if rows else None


def _ask(database_url: str, sql: str) -> tuple[int, ...]:
    """One row of integers. Nothing is pooled: a connection left open here could cost a writer its locks (see extract)."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.pool import NullPool

    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        # Opened so, a file that is not there is an error and never an empty database made by looking.
        url = url.set(database=f"file:{Path(url.database or '').absolute()}", query={"mode": "ro", "uri": "true"})
        arguments: dict[str, object] = {"timeout": 5}
    else:
        arguments = {"connect_timeout": 5, "options": "-c default_transaction_read_only=on"}
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    with engine.connect() as con:
        return tuple(int(value) for value in con.execute(text(sql)).one())
