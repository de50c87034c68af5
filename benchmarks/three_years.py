"""Three years of an ordering business, written straight into a migrated database: what the load is measured on.

Orders of 1 to 8 lines, evenly over the days, for 20,000 SKUs of which few sell often and most seldom (Zipf), from four
locations; shipments, movements, purchases and receipts, edits and cancellations, the audit trail, and the change log as
the services write it. DuckDB makes the rows from a seed, the database's own bulk door takes them; indexes and foreign
keys are made afterwards, so each constraint of the schema is checked by the database itself.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.common import Address
from orders_core.store import schema
from orders_core.store.base import dump_json
from orders_core.store.uow import Store

LAST_DAY = date(2026, 10, 30)  # a Friday
DAYS = 1096
SKUS, LOCATIONS, SUPPLIERS = 20_000, 4, 200
ZONE = "Asia/Shanghai"
_FIRST_ORDER_ID, _IDS_AN_ORDER = 1_000_000, 40
_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_FIRST_MIDNIGHT = int((datetime(2026, 10, 29, 16, tzinfo=UTC) - timedelta(days=DAYS - 1)).timestamp()) * 1_000_000
"""00:00 in Shanghai of the first day, microseconds."""
_LAST_MOMENT = _FIRST_MIDNIGHT + (DAYS - 1) * _DAY + 22 * _HOUR
"""22:00 in Shanghai of the last day; nothing has happened after it, until `change` goes on."""


@dataclass(frozen=True)
class Written:
    """What stands in the database."""

    orders: int
    lines: int


def write_history(url: str, *, lines: int, seed: int = 2026) -> Written:
    """Migrate the empty database at `url` and write exactly `lines` order lines with all that belongs to them.

    Nobody else may have it open. In this process DuckDB attaches an SQLite file while nothing else holds it.
    """
    schema.upgrade(url)
    with tempfile.TemporaryDirectory() as folder:
        return _write(url, lines, seed, Path(folder))


def _write(url: str, lines: int, seed: int, folder: Path) -> Written:
    import duckdb

    with duckdb.connect(str(folder / "made.duckdb")) as con:
        con.execute("SET memory_limit = '2500MB'; SET preserve_insertion_order = false")
        con.execute(f"CREATE MACRO u(i, k) AS (hash(i, k, {seed}) >> 11) / 9007199254740992.0")
        for name, query in _staged(lines).items():
            con.execute(f"CREATE TABLE {name} AS {query}")
        orders = _one(con, "SELECT count(*) FROM the_order")
        rows = _rows(next_id=_FIRST_ORDER_ID + _IDS_AN_ORDER * (orders + 1))
        fill = _fill_sqlite if Address.of(url).is_sqlite else _fill_postgresql
        fill(url, con, rows, folder)
        written = Written(orders, _one(con, "SELECT count(*) FROM the_line"))
    with closing(Store.open(url)) as store, store.engine.begin() as conn:
        highest = max(conn.execute(text(f"SELECT coalesce(max(id), 0) FROM {name}")).scalar_one() for name in rows
                      if name not in ("change_log", "audit_entry", "supplier_sku"))  # fmt: skip
        conn.execute(text("UPDATE number_series SET next_value = :next WHERE name = 'id'"), {"next": highest + 1})
        if conn.execute(text("SELECT count(*) FROM number_series WHERE name = 'id'")).scalar_one() == 0:
            conn.execute(text("INSERT INTO number_series VALUES ('id', :next)"), {"next": highest + 1})
        conn.execute(text("ANALYZE"))
    return written


def _one(con: Any, sql: str) -> int:
    return int(con.execute(sql).fetchone()[0])


# ------------------------------------------------------------------------------------------------ what happened


def _staged(lines: int) -> dict[str, str]:
    """Queries of the facts that the rows of the database are made from, in order."""
    skus, customers = min(SKUS, max(20, lines)), max(20, lines // 100)
    return {
        # As many orders as it takes to reach `lines`; the last one is cut short.
        "size": f"""
            SELECT i, least(lines, {lines} - before)::INT AS lines FROM (
              SELECT i, lines, coalesce(sum(lines) OVER (
                ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
              FROM (SELECT i, least(8, 1 + floor(8 * pow(u(i, 1), 1.6)))::INT AS lines
                FROM range({lines}) AS r(i))
            ) WHERE before < {lines}""",
        "the_order": f"""
            WITH placed AS (
              SELECT i, lines, {_FIRST_ORDER_ID} + {_IDS_AN_ORDER} * i AS id, day,
                {_FIRST_MIDNIGHT} + day * {_DAY} + (8 + 13 * u(i, 2)) * {_HOUR} AS placed_at
              FROM (SELECT *, i * {DAYS} // count(*) OVER () AS day FROM size)
            ), fate AS (
              SELECT *, u(i, 3) < 0.03 AS is_cancelled, u(i, 4) < 0.05 AS is_edited,
                1 + floor(4 * pow(u(i, 5), 2))::INT AS location_id, lines >= 3 AND u(i, 6) < 0.1 AS is_split,
                placed_at + (16 + 30 * u(i, 7)) * {_HOUR} AS leaves_at
              FROM placed
            )
            SELECT i, id, lines, location_id, is_split, placed_at::BIGINT AS placed_at,
              (DATE '{LAST_DAY - timedelta(days=DAYS - 1)}' + day::INT) AS business_date,
              100000 + floor(pow({customers}, u(i, 8)))::BIGINT AS customer_id, 11 + i % 3 AS channel_id,
              {_by_now("placed_at + 0.5 * 3600000000", "is_edited")} AS edited_at,
              {_by_now("placed_at + 3600000000", "is_cancelled")} AS cancelled_at,
              {_by_now("leaves_at - 4 * 3600000000", "NOT is_cancelled")} AS released_at,
              {_by_now("leaves_at - 2 * 3600000000", "NOT is_cancelled")} AS picked_at,
              {_by_now("leaves_at - 1 * 3600000000", "NOT is_cancelled")} AS packed_at,
              {_by_now("leaves_at", "NOT is_cancelled")} AS shipped_at,
              {_by_now(f"leaves_at + {2 * _DAY}", "NOT is_cancelled")} AS delivered_at
            FROM fate""",
        "the_line": f"""
            SELECT o.id + n AS id, o.id AS order_id, n AS line_no,
              10000 + 2 * floor(pow({skus} + 1, u(o.id + n, 9)))::BIGINT AS sku_id,
              (1 + floor(10 * pow(u(o.id + n, 10), 2)))::BIGINT AS qty,
              500 + hash(floor(pow({skus} + 1, u(o.id + n, 9)))) % 20000 AS unit_price_cents,
              is_split AND n % 2 = 0 AS is_second, o.cancelled_at IS NOT NULL AS is_cancelled, edited_at IS NOT NULL
                AND n = 1 AS is_edited, shipped_at, delivered_at,
              CASE WHEN is_split AND n % 2 = 0 THEN location_id % 4 + 1 ELSE location_id END AS location_id
            FROM the_order o, range(1, o.lines + 1) AS r(n)""",
        "the_shipment": """
            SELECT o.id + 10 + part AS id, (o.location_id + part - 1) % 4 + 1 AS location_id, o.* EXCLUDE (id, location_id)
            FROM the_order o, range(CASE WHEN o.is_split THEN 2 ELSE 1 END) AS r(part)""",
        "the_purchase": f"""
            WITH sold AS (
              SELECT sku_id, location_id, (shipped_at - {_FIRST_MIDNIGHT}) // {183 * _DAY} AS half, sum(qty)::BIGINT AS qty
              FROM the_line WHERE shipped_at IS NOT NULL GROUP BY ALL
            )
            SELECT *, 201 + sku_id // 2 % {SUPPLIERS} AS supplier_id, dense_rank() OVER (
                ORDER BY half, location_id, sku_id // 2 % {SUPPLIERS}) AS order_no, row_number() OVER () AS line_key,
              row_number() OVER (PARTITION BY half, location_id, sku_id // 2 % {SUPPLIERS} ORDER BY sku_id) AS line_no,
              {_FIRST_MIDNIGHT} + half * {183 * _DAY} - {10 * _DAY} AS ordered_at,
              {_FIRST_MIDNIGHT} + half * {183 * _DAY} AS received_at
            FROM sold""",
    }


def _by_now(moment: str, condition: str) -> str:
    return f"CASE WHEN {condition} AND {moment} <= {_LAST_MOMENT} THEN ({moment})::BIGINT END"


def _lines_as_they_stood(qty: str) -> str:
    """The lines of an order `o` as an audit entry keeps them."""
    return f"""(SELECT list({{'line_no': l.line_no, 'ordered_qty': {qty}, 'net_cents': ({qty}) * l.unit_price_cents,
      'places': [{{'location_id': l.location_id, 'qty': {qty}}}]}} ORDER BY line_no) FROM the_line l WHERE l.order_id = o.id)"""


def _day(moment: str) -> str:
    """The business day of an instant in microseconds."""
    return f"(make_timestamp({moment}) + INTERVAL 8 HOUR)::DATE"


# ------------------------------------------------------------------------------------------------ what is written of it


def _rows(*, next_id: int) -> dict[str, str]:
    """Table of the core -> query giving its rows; columns that are left out keep their defaults."""
    skus = "(SELECT DISTINCT sku_id FROM the_line)"
    began = _FIRST_MIDNIGHT - 30 * _DAY
    order_at = "[placed_at, edited_at, cancelled_at, released_at, shipped_at, delivered_at]"
    shipment_at = "[placed_at, cancelled_at, released_at, picked_at, packed_at, shipped_at, delivered_at]"
    purchase, receipt, purchase_line = (
        f"{next_id} + 4 * order_no",
        f"{next_id} + 4 * order_no + 1",
        f"{next_id} + 4 * line_key",
    )
    purchase_line, receipt_line = f"{purchase_line} + 2", f"{purchase_line} + 3"
    receipts = f"(SELECT {next_id} + 4 * line_key AS id, received_at FROM the_purchase)"

    def versions(moments: str) -> str:
        return f"len(list_filter({moments}, lambda x: x IS NOT NULL))"

    def log(entity: str, moments: str, source: str) -> str:
        return f"""
          SELECT '{entity}' AS entity, id AS entity_id, version, CASE WHEN version = 1 THEN 'insert' ELSE 'update' END
            AS operation, "at" FROM (
            SELECT id, unnest(moments) AS "at", generate_subscripts(moments, 1) AS version FROM (
              SELECT id, list_sort(list_filter({moments}, lambda x: x IS NOT NULL)) AS moments FROM {source}))"""

    def master(entity: str, row_id: str, source: str) -> str:
        return f"SELECT '{entity}', {row_id}, 1, 'insert', {began} FROM {source}"

    # An edit took one unit of the first line away; a cancellation came after it.
    before_edit = _lines_as_they_stood("l.qty + CASE WHEN l.is_edited THEN 1 ELSE 0 END")
    before_cancel = _lines_as_they_stood("l.qty")
    status = """CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled' WHEN delivered_at IS NOT NULL THEN 'delivered'
        WHEN shipped_at IS NOT NULL THEN 'shipped' WHEN released_at IS NOT NULL THEN 'picking' ELSE 'ready' END"""
    movement = "CASE WHEN is_cancelled THEN NULL ELSE shipped_at END"
    return {
        "channel": "SELECT 11 + i AS id, 'CH-' || i AS code, 'Channel ' || i AS name, 'web' AS kind FROM range(3) AS r(i)",
        "location": f"""SELECT 1 + i AS id, 'LOC-' || i AS code, 'Location ' || i AS name, i AS rank, i = 0 AS is_default,
            1 AS version FROM range({LOCATIONS}) AS r(i)""",
        "supplier": f"""SELECT 201 + i AS id, 'SUP-' || i AS code, 'Supplier ' || i AS name, 14 AS lead_time_days,
            3.0 AS lead_time_sd_days, 1 AS version FROM range({SUPPLIERS}) AS r(i)""",
        "category": "SELECT 401 + i AS id, 'CAT-' || i AS code, 'Category ' || i AS name FROM range(20) AS r(i)",
        "product": f"""SELECT sku_id - 1 AS id, 'P-' || sku_id // 2 AS code, 'Product ' || sku_id // 2 AS name,
            401 + sku_id // 2 % 20 AS category_id, {began} AS created_at, 1 AS version FROM {skus} ORDER BY 1""",
        "sku": f"""SELECT sku_id AS id, sku_id - 1 AS product_id, 'SKU-' || sku_id // 2 AS sku, 'Product ' || sku_id // 2
            AS name, {began} AS created_at, 1 AS version FROM {skus} ORDER BY 1""",
        "supplier_sku": f"""SELECT 201 + sku_id // 2 % {SUPPLIERS} AS supplier_id, sku_id, 300 AS unit_cost_cents
            FROM {skus} ORDER BY ALL""",
        "cost": f"""SELECT 500000 + sku_id AS id, sku_id, 'standard' AS kind, 'CNY' AS currency, 300 AS unit_cost_cents,
            DATE '2000-01-01' AS valid_from_date, {began} AS created_at FROM {skus} ORDER BY 1""",
        "customer": f"""SELECT DISTINCT customer_id AS id, 'C-' || customer_id AS code, 'Customer ' || customer_id AS name,
            {began} AS created_at, 1 AS version FROM the_order ORDER BY 1""",
        "orders": f"""
            SELECT o.id, 'SO-' || i AS number, channel_id, md5(o.id::VARCHAR) AS lines_hash, customer_id, {status} AS status,
              'zh' AS language, 'CNY' AS currency, m.cents AS goods_cents, m.cents AS total_cents,
              'credit' AS payment_method, '张三' AS recipient, '13800138000' AS phone, 'CN' AS country, '上海' AS region,
              '人民路 ' || i % 1000 || ' 号' AS street, business_date, placed_at, business_date + 4 AS promised_by_date,
              placed_at AS approved_at, 'system' AS approved_by, cancelled_at, CASE WHEN cancelled_at IS NOT NULL
                THEN CASE WHEN i % 4 = 0 THEN 'out of stock' ELSE 'customer' END END AS cancel_reason,
              {versions(order_at)} AS version
            FROM the_order o JOIN (SELECT order_id, sum(qty * unit_price_cents)::BIGINT AS cents FROM the_line
              GROUP BY order_id) m ON m.order_id = o.id ORDER BY o.id""",
        "order_line": """
            SELECT id, order_id, line_no, 'item' AS kind, sku_id, 'each' AS unit, qty AS pack_qty, unit_price_cents,
              'list' AS price_kind, unit_price_cents AS list_price_cents, qty * unit_price_cents AS net_cents,
              300 AS unit_cost_cents, qty AS ordered_qty, CASE WHEN is_cancelled THEN qty ELSE 0 END AS cancelled_qty,
              CASE WHEN shipped_at IS NULL AND NOT is_cancelled THEN qty ELSE 0 END AS reserved_qty,
              CASE WHEN shipped_at IS NULL THEN 0 ELSE qty END AS shipped_qty,
              CASE WHEN delivered_at IS NULL THEN 0 ELSE qty END AS delivered_qty
            FROM the_line ORDER BY id""",
        "shipment": f"""
            SELECT id, 'SH-' || id AS number, location_id, CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
                WHEN delivered_at IS NOT NULL THEN 'delivered' WHEN shipped_at IS NOT NULL THEN 'shipped'
                WHEN packed_at IS NOT NULL THEN 'packed' WHEN picked_at IS NOT NULL THEN 'picked'
                WHEN released_at IS NOT NULL THEN 'released' ELSE 'planned' END AS status, business_date AS planned_date,
              placed_at AS created_at, released_at, shipped_at, delivered_at, {versions(shipment_at)} AS version
            FROM the_shipment ORDER BY id""",
        "shipment_line": """
            SELECT id + 12 AS id, order_id + 10 + is_second::INT AS shipment_id, id AS order_line_id, sku_id, qty,
              CASE WHEN shipped_at IS NULL THEN qty ELSE 0 END AS reserved_qty,
              CASE WHEN shipped_at IS NULL THEN 0 ELSE qty END AS shipped_qty,
              CASE WHEN delivered_at IS NULL THEN 0 ELSE qty END AS delivered_qty
            FROM the_line WHERE NOT is_cancelled ORDER BY id""",
        "purchase_order": f"""
            SELECT DISTINCT {purchase} AS id, 'PO-' || order_no AS number, supplier_id, location_id, 'received' AS status,
              'CNY' AS currency, 0 AS total_cents, ordered_at, {_day("ordered_at")} AS business_date,
              ordered_at AS created_at, 'buyer' AS created_by, 2 AS version FROM the_purchase ORDER BY 1""",
        "purchase_order_line": f"""
            SELECT {purchase_line} AS id, {purchase} AS purchase_order_id, line_no, sku_id, qty, qty AS received_qty,
              300 AS unit_cost_cents FROM the_purchase ORDER BY 1""",
        "goods_receipt": f"""
            SELECT DISTINCT {receipt} AS id, 'GR-' || order_no AS number, {purchase} AS purchase_order_id, location_id,
              received_at, {_day("received_at")} AS business_date, 'store' AS actor FROM the_purchase ORDER BY 1""",
        "goods_receipt_line": f"""
            SELECT {receipt_line} AS id, {receipt} AS goods_receipt_id, {purchase_line} AS purchase_order_line_id, sku_id, qty
            FROM the_purchase ORDER BY 1""",
        "stock_movement": f"""
            SELECT id + 21 AS id, sku_id, location_id, -qty AS qty, 'ship' AS reason, 'shipment' AS source,
              order_id + 10 + is_second::INT AS source_id, shipped_at AS "at", {_day("shipped_at")} AS business_date,
              'store' AS actor FROM the_line WHERE shipped_at IS NOT NULL
            UNION ALL SELECT {next_id} + 4 * line_key, sku_id, location_id, qty, 'receipt', 'goods_receipt', {receipt},
              received_at, {_day("received_at")}, 'store' FROM the_purchase
            ORDER BY 1""",
        "audit_entry": f"""
            SELECT * FROM (
              SELECT placed_at AS "at", 'web' AS actor, 'customer' AS roles, 'order.place' AS action, 'orders' AS entity,
                id AS entity_id, NULL AS facts FROM the_order
              UNION ALL SELECT edited_at, 'clerk', 'clerk', 'order.edit', 'orders', id, json_object('reason',
                CASE WHEN i % 5 = 0 THEN 'out of stock' ELSE 'customer' END, 'before', {before_edit})::VARCHAR
              FROM the_order o WHERE edited_at IS NOT NULL
              UNION ALL SELECT cancelled_at, 'clerk', 'clerk', 'order.cancel', 'orders', id, json_object('reason',
                CASE WHEN i % 4 = 0 THEN 'out of stock' ELSE 'customer' END, 'before', {before_cancel})::VARCHAR
              FROM the_order o WHERE cancelled_at IS NOT NULL
              UNION ALL SELECT shipped_at, 'store', 'warehouse', 'shipment.ship', 'shipment', id, NULL
              FROM the_shipment WHERE shipped_at IS NOT NULL
              UNION ALL SELECT delivered_at, 'carrier', 'system', 'shipment.deliver', 'shipment', id, NULL
              FROM the_shipment WHERE delivered_at IS NOT NULL) ORDER BY "at", entity_id""",
        "change_log": f"""
            SELECT * FROM (
              {log("orders", order_at, "the_order")}
              UNION ALL {log("shipment", shipment_at, "the_shipment")}
              UNION ALL {log("stock_movement", f"[{movement}]", "(SELECT * REPLACE (id + 21 AS id) FROM the_line)")}
              UNION ALL {log("stock_movement", "[received_at]", receipts)}
              UNION ALL {log("purchase_order", "[ordered_at, received_at]",
                             f"(SELECT DISTINCT {purchase} AS id, ordered_at, received_at FROM the_purchase)")}
              UNION ALL {master("sku", "sku_id", skus)}
              UNION ALL {master("product", "sku_id - 1", skus)}
              UNION ALL {master("customer", "customer_id", "(SELECT DISTINCT customer_id FROM the_order)")}
              UNION ALL {master("location", "1 + i", f"range({LOCATIONS}) AS r(i)")}
              UNION ALL {master("supplier", "201 + i", f"range({SUPPLIERS}) AS r(i)")}
            ) ORDER BY "at", entity, entity_id""",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ into the database


def _fill_sqlite(url: str, con: Any, rows: dict[str, str], _folder: Path) -> None:
    path = Address.of(url).name
    with _later_sqlite_indexes(path):
        attach(con, url, read_only=False)
        con.execute("BEGIN")
        for name, query in rows.items():
            columns = ", ".join(f'"{column[0]}"' for column in con.execute(f"DESCRIBE {query}").fetchall())
            con.execute(f"INSERT INTO source.{name} ({columns}) {query}")
        con.execute("COMMIT")
        con.execute("DETACH source")


@contextmanager
def _later_sqlite_indexes(path: str) -> Iterator[None]:
    """Take the indexes away and make them again afterwards: sorted once is quicker than sorted in a million times."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
    yield
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous = OFF", "journal_mode = OFF", "threads = 2", "cache_size = -400000"):
            connection.execute(f"PRAGMA {pragma}")
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("PRAGMA journal_mode = WAL")


def _fill_postgresql(url: str, con: Any, rows: dict[str, str], folder: Path) -> None:
    import psycopg

    csv = folder / "rows.csv"
    with psycopg.connect(**Address.of(url).for_psycopg()) as connection, _later_postgresql_indexes(connection):
        for name, query in rows.items():
            columns = ", ".join(f'"{column[0]}"' for column in con.execute(f"DESCRIBE {query}").fetchall())
            con.execute(f"COPY ({query}) TO '{csv}' (FORMAT csv, HEADER false)")
            with (
                csv.open("rb") as file,
                connection.cursor().copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT csv)") as to,
            ):
                while block := file.read(1 << 20):
                    to.write(block)
            csv.unlink()


@contextmanager
def _later_postgresql_indexes(connection: Any) -> Iterator[None]:
    """Take foreign keys and indexes away and make them again afterwards, in the same transaction."""
    keys = connection.execute(
        "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = current_schema()::regnamespace"
    ).fetchall()
    indexes = connection.execute(
        "SELECT quote_ident(indexname), indexdef FROM pg_indexes WHERE schemaname = current_schema() AND indexname NOT IN"
        " (SELECT conname FROM pg_constraint WHERE connamespace = current_schema()::regnamespace)"
    ).fetchall()
    for table, key, _ in keys:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key}")
    for index, _ in indexes:
        connection.execute(f"DROP INDEX {index}")
    yield
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    for _, sql in indexes:
        connection.execute(sql)
    for table, key, definition in keys:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {key} {definition}")


def attach(con: Any, url: str, *, read_only: bool) -> None:
    """Attach the database at `url` as `source`, as the loader does."""
    from pipelines.extract import Source, load_scanner

    source = Source.from_url(url)
    load_scanner(con, source.kind)
    address = source.address.replace("'", "''")
    only = ", READ_ONLY" if read_only else ""
    journal = ", JOURNAL_MODE 'off'" if source.kind == "sqlite" and not read_only else ""
    con.execute(f"ATTACH '{address}' AS source (TYPE {source.kind}{only}{journal})")


# ------------------------------------------------------------------------------------------------ and on it goes

_COPIED = {
    "orders": "channel_id, lines_hash, customer_id, language, currency, goods_cents, total_cents, payment_method",
    "order_line": "line_no, kind, sku_id, unit, pack_qty, unit_price_cents, price_kind, net_cents, unit_cost_cents,"
    " ordered_qty",
    "shipment": "location_id",
    "shipment_line": "sku_id, qty",
}


def _statements() -> Iterator[str]:
    """What happens to the rows of the table `picked` (order_id, what), and what the change log is told of it."""

    def of(what: str) -> str:
        return f"IN (SELECT order_id FROM picked WHERE what = '{what}')"

    def lines(what: str) -> str:
        return f"IN (SELECT id FROM order_line WHERE order_id {of(what)})"

    def shipments(what: str) -> str:
        return f"IN (SELECT shipment_id FROM shipment_line WHERE order_line_id {lines(what)})"

    # New ones are the picked ones once more, with ids that are `:shift` higher.
    yield f"""INSERT INTO orders (id, number, status, business_date, placed_at, approved_at, {_COPIED["orders"]})
        SELECT id + :shift, 'SO-N' || (id + :shift), 'ready', :day, :now, :now, {_COPIED["orders"]}
        FROM orders WHERE id {of("new")}"""
    yield f"""INSERT INTO order_line (id, order_id, reserved_qty, {_COPIED["order_line"]})
        SELECT id + :shift, order_id + :shift, ordered_qty, {_COPIED["order_line"]}
        FROM order_line WHERE order_id {of("new")}"""
    yield f"""INSERT INTO shipment (id, number, status, created_at, {_COPIED["shipment"]})
        SELECT id + :shift, 'SH-N' || (id + :shift), 'planned', :now, {_COPIED["shipment"]}
        FROM shipment WHERE id {shipments("new")}"""
    yield f"""INSERT INTO shipment_line (id, shipment_id, order_line_id, reserved_qty, {_COPIED["shipment_line"]})
        SELECT id + :shift, shipment_id + :shift, order_line_id + :shift, qty, {_COPIED["shipment_line"]}
        FROM shipment_line WHERE order_line_id {lines("new")}"""
    for entity, named in (("orders", of("new")), ("shipment", shipments("new"))):
        yield f"""INSERT INTO change_log (entity, entity_id, version, operation, "at")
            SELECT '{entity}', id + :shift, 1, 'insert', :now FROM {entity} WHERE id {named}"""
    # An edited order asks for one unit more of its first line.
    first_line = f"order_id {of('edit')} AND line_no = 1"
    yield f"""UPDATE orders SET goods_cents = goods_cents + (SELECT unit_price_cents FROM order_line l
          WHERE l.order_id = orders.id AND line_no = 1), total_cents = total_cents + (SELECT unit_price_cents
          FROM order_line l WHERE l.order_id = orders.id AND line_no = 1), version = version + 1 WHERE id {of("edit")}"""
    yield f"""UPDATE shipment_line SET qty = qty + 1, reserved_qty = reserved_qty + 1
        WHERE order_line_id IN (SELECT id FROM order_line WHERE {first_line})"""
    yield f"""UPDATE order_line SET pack_qty = pack_qty + 1, ordered_qty = ordered_qty + 1,
        reserved_qty = reserved_qty + 1, net_cents = net_cents + unit_price_cents WHERE {first_line}"""
    yield f"UPDATE shipment SET version = version + 1 WHERE id {shipments('edit')}"
    # What leaves takes its stock along.
    yield f"UPDATE order_line SET shipped_qty = ordered_qty, reserved_qty = 0 WHERE order_id {of('ship')}"
    yield f"UPDATE shipment_line SET shipped_qty = qty, reserved_qty = 0 WHERE order_line_id {lines('ship')}"
    yield f"""UPDATE shipment SET status = 'shipped', released_at = coalesce(released_at, :now), shipped_at = :now,
        version = version + 1 WHERE id {shipments("ship")}"""
    yield f"UPDATE orders SET status = 'shipped', version = version + 1 WHERE id {of('ship')}"
    movements = f"""shipment_line l JOIN shipment s ON s.id = l.shipment_id WHERE l.order_line_id {lines("ship")}"""
    yield f"""INSERT INTO stock_movement (id, sku_id, location_id, qty, reason, source, source_id, "at", business_date, actor)
        SELECT l.id + 9, l.sku_id, s.location_id, -l.qty, 'ship', 'shipment', s.id, :now, :day, 'store' FROM {movements}"""
    yield f"""INSERT INTO change_log (entity, entity_id, version, operation, "at")
        SELECT 'stock_movement', l.id + 9, 1, 'insert', :now FROM {movements}"""
    yield f"UPDATE order_line SET delivered_qty = shipped_qty WHERE order_id {of('deliver')}"
    yield f"UPDATE shipment_line SET delivered_qty = shipped_qty WHERE order_line_id {lines('deliver')}"
    yield f"""UPDATE shipment SET status = 'delivered', delivered_at = :now, version = version + 1
        WHERE id {shipments("deliver")}"""
    yield f"UPDATE orders SET status = 'delivered', version = version + 1 WHERE id {of('deliver')}"
    yield f"UPDATE orders SET paid_cents = total_cents, version = version + 1 WHERE id {of('pay')}"
    yield """INSERT INTO change_log (entity, entity_id, version, operation, "at")
        SELECT 'orders', id, version, 'update', :now FROM orders
        WHERE id IN (SELECT order_id FROM picked WHERE what <> 'new')"""
    for what in ("edit", "ship", "deliver"):
        yield f"""INSERT INTO change_log (entity, entity_id, version, operation, "at")
            SELECT 'shipment', id, version, 'update', :now FROM shipment WHERE id {shipments(what)}"""


def change(url: str, *, lines: int, round_no: int) -> int:
    """Go on trading after 22:00 of the last day until at least `lines` lines were touched; returns how many.

    A quarter are lines of new orders. The others stand in the newest orders: what waits is shipped (one order in ten was
    edited just before), what travels is delivered, what was delivered is paid.
    """
    now = _LAST_MOMENT + (1 + round_no) * 20 * 60 * 1_000_000
    with closing(Store.open(url)) as store, store.engine.begin() as conn:
        newest = conn.execute(
            text(
                "SELECT o.id, o.status, (SELECT count(*) FROM order_line l WHERE l.order_id = o.id) AS lines"
                " FROM orders o WHERE o.cancelled_at IS NULL ORDER BY o.id DESC LIMIT :limit"
            ),
            {"limit": lines},
        ).all()
        told = {"shipped": "deliver", "delivered": "pay"}
        picked: list[dict[str, Any]] = []
        touched = 0
        for order in newest:
            if touched >= lines:
                break
            what = "new" if len(picked) % 4 == 0 else told.get(order.status, "ship")
            if what == "ship" and len(picked) % 10 == 9:
                what = "edit"
            picked.append({"order_id": order.id, "what": what})
            touched += order.lines
        conn.execute(text("CREATE TEMPORARY TABLE picked (order_id BIGINT PRIMARY KEY, what TEXT)"))
        conn.execute(text("INSERT INTO picked VALUES (:order_id, :what)"), picked)
        first = min(pick["order_id"] for pick in picked)
        next_id = conn.execute(text("SELECT next_value FROM number_series WHERE name = 'id'")).scalar_one()
        shift = next_id - first
        span = max(pick["order_id"] for pick in picked) - first + _IDS_AN_ORDER
        conn.execute(text("UPDATE number_series SET next_value = :to WHERE name = 'id'"), {"to": next_id + span})
        for order_id in [pick["order_id"] for pick in picked if pick["what"] == "edit"]:
            _note_edit(conn, order_id, now)
        day = LAST_DAY.isoformat() if store.engine.dialect.name == "sqlite" else LAST_DAY
        values = {"now": now, "shift": shift, "day": day}
        for sql in _statements():
            conn.execute(text(sql), {name: value for name, value in values.items() if f":{name}" in sql})
    return touched


def _note_edit(conn: Any, order_id: int, now: int) -> None:
    """The audit entry of an edit keeps the lines as they stood before it."""
    lines = conn.execute(
        text(
            "SELECT ol.line_no, ol.ordered_qty, ol.net_cents, s.location_id, l.qty FROM order_line ol JOIN shipment_line l"
            " ON l.order_line_id = ol.id JOIN shipment s ON s.id = l.shipment_id WHERE ol.order_id = :id ORDER BY 1"
        ),
        {"id": order_id},
    )
    before = [
        {"line_no": no, "ordered_qty": ordered, "net_cents": cents, "places": [{"location_id": place, "qty": qty}]}
        for no, ordered, cents, place, qty in lines
    ]
    conn.execute(
        text(
            'INSERT INTO audit_entry ("at", actor, roles, action, entity, entity_id, facts)'
            " VALUES (:now, 'clerk', 'clerk', 'order.edit', 'orders', :id, :facts)"
        ),
        {"now": now, "id": order_id, "facts": dump_json({"reason": "customer", "before": before})},
    )
