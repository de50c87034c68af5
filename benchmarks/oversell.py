"""The last unit is fought over by real processes: nothing is sold twice, nobody sees a lock, nobody deadlocks.

    python -m benchmarks.oversell [--url URL] [--processes 32] [--attempts 2000] [--out FILE.json]

- one SKU, half as many units as attempts: exactly the units are sold, every refusal is InsufficientStock
- three-line orders over 20 SKUs, lines in any order, from 8 processes: the server counts 0 deadlocks
- every idempotency key delivered 50 times, at once and by different processes: one order per key

After each, every invariant is verified. Without `--url` on a temporary SQLite file and a temporary PostgreSQL.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, text

from benchmarks.common import Databases, Figure, database_urls, record, run_workers, whole_run, write_json
from benchmarks.company import CHANNEL, CLERK, HOT_SKU, load_company, order_of, seed_company
from orders_core.errors import OrdersError
from orders_core.services.place_order import PlaceOrder, place_order
from orders_core.store import schema
from orders_core.store.tables import Channel, Order
from orders_core.store.uow import Store
from orders_core.store.verify import verify

ANSWERED = "answered"  # the command was carried out; other outcomes are an error's class name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="SQLite or PostgreSQL; default: a temporary one of each")
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--attempts", type=int, default=2000, help="on one SKU with half as many units")
    parser.add_argument("--data", help="not needed: the company is made up with a fixed seed")
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--record", action="store_true", help="also write them to benchmarks/RESULTS.md")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)
    found: dict[str, dict[str, Any]] = {}
    with database_urls(asked.url) as urls:
        for url in urls:
            with Databases(url) as databases:
                found[databases.kind] = measure(databases, processes=asked.processes, attempts=asked.attempts)
    for kind, parts in found.items():
        figures = _figures(parts)
        table = Table("what", "measured", "held against", title=f"Fighting over stock on {kind}")
        for figure in figures:
            table.add_row(figure.name, figure.measured, figure.reference)
        console.print(table)
        if asked.record:
            record(f"oversell on {kind}", figures)
    write_json(asked.out, found | whole_run())
    return int(not all(part["is_right"] for parts in found.values() for part in parts.values()))


def measure(databases: Databases, *, processes: int, attempts: int) -> dict[str, dict[str, Any]]:
    """The three fights, each on a database of its own."""
    found = {}
    for name, fight in (
        ("sell_out", lambda url: sell_out(url, units=attempts // 2, attempts=attempts, processes=processes)),
        ("crossing", lambda url: crossing_orders(url, orders=800, processes=8)),
        ("repeats", lambda url: repeated_deliveries(url, keys=20, deliveries=1000, processes=8)),
    ):
        url = databases.create(name)
        started = time.monotonic()
        found[name] = fight(url)
        found[name]["seconds"] = round(time.monotonic() - started, 1)
        deadlocks = found[name]["deadlocks"] = databases.deadlocks(url)
        found[name]["is_right"] = found[name]["is_right"] and deadlocks == 0
        databases.drop(url)
    return found


def sell_out(url: str, *, units: int, attempts: int, processes: int) -> dict[str, Any]:
    """More attempts on one SKU than it has units, on an empty database."""
    _seed(url, sku_count=1, stock_qty=units)
    outcomes = _run(_try_one_unit, url, _shares(attempts, processes))
    oversold = max(outcomes[ANSWERED] - units, 0) + units_oversold(url)
    expected = Counter({ANSWERED: units, "InsufficientStock": attempts - units})
    return _result(
        url,
        outcomes,
        is_right=outcomes == expected and oversold == 0,
        units=units,
        attempts=attempts,
        processes=processes,
        sold=outcomes[ANSWERED],
        refused=outcomes["InsufficientStock"],
        oversold=oversold,
    )


def crossing_orders(url: str, *, orders: int, processes: int) -> dict[str, Any]:
    """Three-line orders over 20 SKUs, each naming them in another order, on an empty database."""
    _seed(url, sku_count=20, stock_qty=100 * orders)
    outcomes = _run(_place_three_lines, url, _shares(orders, processes))
    expected = Counter({ANSWERED: orders})
    return _result(url, outcomes, is_right=outcomes == expected, orders=outcomes[ANSWERED], processes=processes)


def repeated_deliveries(url: str, *, keys: int, deliveries: int, processes: int) -> dict[str, Any]:
    """The same `keys` orders delivered again and again by all processes, on an empty database."""
    _seed(url, sku_count=20, stock_qty=100 * keys)
    outcomes = _run(_deliver_keys, url, _shares(deliveries, processes), keys)
    with closing(Store.open(url)) as store, store.reading() as conn:
        mine = select(func.count()).select_from(Order).join(Channel).where(Channel.code == CHANNEL)
        orders = int(conn.execute(mine).scalar_one())
    numbers = {outcome for outcome in outcomes if outcome.startswith("SO-")}
    right = orders == keys == len(numbers) and sum(outcomes.values()) == sum(outcomes[x] for x in numbers)
    return _result(url, outcomes, is_right=right, keys=keys, deliveries=deliveries, orders=orders)


def units_oversold(url: str) -> int:
    """Units that shipments were promised from stock beyond what ever came in, summed over SKUs and locations."""
    statement = text(
        """
        WITH promised AS (
            SELECT s.location_id, l.sku_id, SUM(l.reserved_qty + l.shipped_qty) AS qty
            FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
            WHERE s.status <> 'cancelled' GROUP BY s.location_id, l.sku_id
        ), received AS (
            SELECT location_id, sku_id, SUM(qty) AS qty FROM stock_movement
            WHERE reason <> 'ship' AND state = 'on_hand' GROUP BY location_id, sku_id
        )
        SELECT COALESCE(SUM(p.qty - COALESCE(r.qty, 0)), 0)
        FROM promised p LEFT JOIN received r ON r.location_id = p.location_id AND r.sku_id = p.sku_id
        WHERE p.qty > COALESCE(r.qty, 0)
        """
    )
    with closing(Store.open(url)) as store, store.reading() as conn:
        return int(conn.execute(statement).scalar_one())


def _seed(url: str, *, sku_count: int, stock_qty: int) -> None:
    schema.upgrade(url)
    with closing(Store.open(url)) as store:
        seed_company(store, sku_count=sku_count, customer_count=20, stock_qty=stock_qty)


def _shares(total: int, processes: int) -> list[int]:
    """The work of each process; they add up to `total`."""
    return [total // processes + (worker < total % processes) for worker in range(processes)]


def _run(work: Any, url: str, shares: Sequence[int], *more: Any) -> Counter[str]:
    jobs = [[url, f"w{worker}", share, *more] for worker, share in enumerate(shares)]
    return sum(run_workers(work, jobs), Counter())


def _result(url: str, outcomes: Counter[str], *, is_right: bool, **counts: int) -> dict[str, Any]:
    with closing(Store.open(url)) as store:
        violations = [str(violation) for violation in verify(store)]
    unexpected = {
        name: n for name, n in outcomes.items() if name not in (ANSWERED, "InsufficientStock") and "SO-" not in name
    }
    return {
        **counts,
        "unexpected": unexpected,
        "violations": violations[:3],
        "is_right": is_right and not unexpected and not violations,
    }


def _outcome(store: Store, command: PlaceOrder) -> str:
    try:
        store.run(place_order, CLERK, command)
    except OrdersError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - what reaches a caller is what is counted here
        return f"{type(error).__name__}: {error}"[:200]
    return ANSWERED


def _try_one_unit(gate: Any, url: str, worker: str, attempts: int) -> Counter[str]:
    with closing(Store.open(url)) as store:
        customers, rng = load_company(store).customers, random.Random(worker)
        commands = [order_of(rng.choice(customers), [(HOT_SKU, 1)], key=f"{worker}-{n}") for n in range(attempts)]
        gate.wait()
        return Counter(_outcome(store, command) for command in commands)


def _place_three_lines(gate: Any, url: str, worker: str, orders: int) -> Counter[str]:
    with closing(Store.open(url)) as store:
        stream = load_company(store).orders(worker, key=worker)
        commands = [stream.next() for _ in range(orders)]
        gate.wait()
        return Counter(_outcome(store, command) for command in commands)


def _deliver_keys(gate: Any, url: str, worker: str, deliveries: int, keys: int) -> Counter[str]:
    with closing(Store.open(url)) as store:
        stream = load_company(store).orders("the same for all", key="key")
        commands = [stream.next() for _ in range(keys)]
        rng = random.Random(worker)
        counted: Counter[str] = Counter()
        gate.wait()
        for number in range(deliveries):
            if number % keys == 0:
                rng.shuffle(commands)
            try:
                counted[store.run(place_order, CLERK, commands[number % keys]).number] += 1
            except Exception as error:  # noqa: BLE001 - what reaches a caller is what is counted here
                counted[f"{type(error).__name__}: {error}"[:200]] += 1
        return counted


def _figures(parts: dict[str, dict[str, Any]]) -> list[Figure]:
    sell, cross, repeat = parts["sell_out"], parts["crossing"], parts["repeats"]
    found = [
        Figure(
            f"sold of {sell['units']} units in {sell['attempts']} attempts by {sell['processes']} processes",
            f"{sell['sold']} sold, {sell['refused']} refused as InsufficientStock",
            f"exactly {sell['units']}, the rest refused",
        ),
        Figure(
            f"three-line orders over 20 SKUs by {cross['processes']} processes",
            f"{cross['orders']} orders, {cross['deadlocks']} deadlocks",
            "0 deadlocks",
        ),
        Figure(
            f"{repeat['deliveries']} deliveries of {repeat['keys']} keys",
            f"{repeat['orders']} orders",
            f"{repeat['keys']} orders",
        ),
    ]
    for part in parts.values():
        found += [
            Figure("reached a caller", f"{name} × {times}", "nothing") for name, times in part["unexpected"].items()
        ]
        found += [Figure("broken", violation, "nothing") for violation in part["violations"]]
    return found


if __name__ == "__main__":
    sys.exit(main())
