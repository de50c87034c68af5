"""What goes wrong in a step, by name: tried again only where another moment may help, never where the data are wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import duckdb

from pipelines.warehouse.errors import BuildFailed, SourceUnreadable, WarehouseError, WarehouseLocked

MAX_RETRIES = 4
FIRST_WAIT_SECONDS = 5  # then 10, 20, 40: over a minute in all
TRANSIENT = (
    "database is locked",
    "connection refused",
    "could not connect",
    "connection to server",
    "server closed the connection",
    "the database system is",  # starting up, shutting down, in recovery mode
    "too many clients",
    "timeout expired",
)
"""What databases say when they will answer another time."""


def is_transient(error: WarehouseError) -> bool:
    """Whether the same step may well succeed in a moment."""
    if isinstance(error, WarehouseLocked):
        return True
    return isinstance(error, SourceUnreadable) and any(words in str(error).lower() for words in TRANSIENT)


@contextmanager
def named_errors(context: dg.OpExecutionContext | dg.AssetExecutionContext, *, place: str) -> Iterator[None]:
    """Ask for a retry where it may help; else fail the step with the error's code and words, for the alert to say."""
    try:
        try:
            yield
        except duckdb.Error as error:  # a full disk, no memory: said by the name it has everywhere else
            raise BuildFailed(path=place, reason=str(error)) from error
    except WarehouseError as error:
        if is_transient(error) and context.retry_number < MAX_RETRIES:
            wait = FIRST_WAIT_SECONDS * 2**context.retry_number
            context.log.warning(f"{error.code} {error}; again in {wait} s")
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait) from error
        raise dg.Failure(
            f"{error.code} {error}",
            metadata={"code": error.code, "en": error.message("en"), "zh": error.message("zh")},
            allow_retries=False,
        ) from error
