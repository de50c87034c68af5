"""Building the demo company: a database with two years of history, and the warehouse learned from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from apps.demo.history import build_company, live_through
from orders_core.notifications.delivery import DeliveryPolicy, deliver_due
from orders_core.notifications.senders import FileSender
from orders_core.ports import FixedClock
from orders_core.store import schema
from orders_core.store.uow import Store

DAYS = 730
ORDERS_PER_DAY = 7.2
ZONE = "Asia/Shanghai"


@dataclass(frozen=True)
class Demo:
    """Where the demo company lives and how much of it there is."""

    database_url: str
    warehouse_dir: Path
    as_of: date
    orders: int


def build_demo(
    folder: Path,
    *,
    last_day: date,
    days: int = DAYS,
    orders_per_day: float = ORDERS_PER_DAY,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Demo:
    """Build the demo company in `folder` so that its history ends on `last_day`; same input, same company.

    The database is written under another name and moved into place when it is whole, so a broken-off build leaves
    nothing half-made behind.

    Args:
        tell: Called with what is being done, how far it is, and how far it goes.

    Raises:
        FileExistsError: `folder` has a database already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database, building = folder / "orders.db", folder / "orders.building.db"
    if database.exists():
        raise FileExistsError(database)
    for leftover in folder.glob("orders.building.db*"):
        leftover.unlink()
    first = last_day - timedelta(days=days - 1)
    url = f"sqlite:///{building}"
    schema.upgrade(url)
    store = Store.open(url, clock=FixedClock(datetime.combine(first, time(0), UTC)), zone=ZONE)
    orders = 0
    try:
        world = build_company(store, first=first)
        for done, (_, orders) in enumerate(  # noqa: B007 - the last count is the answer
            live_through(store, world, days=days, orders_per_day=orders_per_day), 1
        ):
            tell("orders", done, days)
        mail = FileSender(folder / "outbox", sender="mail@shanchali.example", clock=store.clock)
        policy = DeliveryPolicy(quiet_from=None, join_window=timedelta(0))
        tell("mail", 0, 1)
        report = deliver_due(store, {"mail": mail}, limit=100_000, worker="demo", policy=policy)
        if report.retry_count or report.dead_count:
            raise RuntimeError(f"of the demo's mails {report.retry_count + report.dead_count} could not be written")
        tell("mail", 1, 1)
    finally:
        store.close()
    building.rename(database)
    return Demo(f"sqlite:///{database}", folder / "warehouse", last_day, orders)
