"""From the order core into `raw` of a new generation: all of it the first time, then only what the change log names.

The work is done in a process of its own that opens nothing but the generation file and, read-only, the order database.
Never attach orders.db in a process that holds it through sqlite3, an idle pool connection included: when DuckDB closes
its handle, the system drops every lock the process has on the file, and a second writer walks into our transaction.

Everything is read in one transaction, so the rows of `raw` belong to one moment of the order database.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pipelines.sql import literal
from pipelines.warehouse.contract import Column
from pipelines.warehouse.errors import BuildFailed, SourceChanged, SourceDiffers, SourceUnreadable, WarehouseError

Columns = dict[str, dict[str, str]]
"""Table -> column -> type."""
KEYS_A_QUERY = 5_000
"""Changed keys are looked up by the order database's own indexes, so many at a time."""
FEW_DAYS = 100
"""Up to so many touched business days are compared one by one, by the range of their row ids; beyond, all of them."""
MEMORY_LIMIT = "1500MB"
"""What DuckDB may hold before it spills beside the generation; the scanners come on top."""


@dataclass(frozen=True)
class Source:
    """An order database as DuckDB attaches it. `name` carries no password and is what the watermark is kept under."""

    kind: str
    address: str
    name: str

    @classmethod
    def from_url(cls, database_url: str) -> "Source":
        """From a URL as SQLAlchemy writes it (`sqlite:///orders.db`, `postgresql+psycopg://user@host/name`)."""
        from psycopg.conninfo import make_conninfo
        from sqlalchemy.engine import make_url

        url = make_url(database_url)
        if url.get_backend_name() == "sqlite":
            path = str(Path(url.database or "").absolute())
            return cls("sqlite", path, f"sqlite:{path}")
        host = url.host or url.query.get("host") or ""
        facts = {"dbname": url.database, "user": url.username, "password": url.password, "host": host, "port": url.port}
        address = make_conninfo("", **{key: value for key, value in facts.items() if value})
        return cls("postgres", address, f"postgresql:{url.database}@{host}")


@dataclass(frozen=True)
class Extracted:
    """What an extraction read.

    Attributes:
        is_full: True when everything was read, False when only what changed.
        changed_keys: Changed keys per entity of the change log; empty on a full load.
        rows_read: Rows read per raw table.
        days_compared: Business days whose totals were compared with the order database's.
        warnings: What a person should look at, each with its `code` and the sentence in `en` and `zh`.
    """

    is_full: bool
    changed_keys: dict[str, int]
    rows_read: dict[str, int]
    days_compared: int
    warnings: list[dict[str, str]]


def extract(
    database_url: str, building: Path, *, full: bool, reconcile: Literal["touched", "all"] = "all"
) -> Extracted:
    """Bring `raw` in the generation at `building` up to the present of the order database.

    Args:
        database_url: The order database.
        building: A generation that nobody else has open, with all its tables there; `raw` as of its own watermark.
        full: Read everything. Without it, too, when there is no watermark, or the database is another one or was
            restored from a backup since.
        reconcile: Compare totals with the order database for the business days that the changed orders and movements
            belong to, or for all days. A full load always compares all.

    Raises:
        SourceUnreadable: The order database could not be read.
        SourceChanged: A table of it lacks a column, or has another type of it, than this program reads.
        SourceDiffers: After the load a day of `raw` does not add up to the order database's totals.
        BuildFailed: The generation could not be written.
    """
    from orders_core.store.read_models import source_columns

    source = Source.from_url(database_url)
    request = {
        "source": asdict(source),
        "building": str(building),
        "full": full,
        "reconcile": reconcile,
        "columns": source_columns(source.kind),
    }
    alive, mine = os.pipe()  # nobody else holds `mine`: the child's end of it ends when this process does
    try:
        child = subprocess.run(
            [sys.executable, "-m", "pipelines.extract", str(alive)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[alive],
        )
    finally:
        os.close(alive)
        os.close(mine)
    answer = json.loads(child.stdout.splitlines()[-1]) if child.stdout.strip() else {}
    if child.returncode == 0:
        return Extracted(**answer)
    kinds: dict[str, type[WarehouseError]] = {
        kind.code: kind for kind in (SourceUnreadable, SourceChanged, SourceDiffers, BuildFailed)
    }
    if answer.get("code") in kinds:
        raise kinds[answer["code"]](**answer["facts"])
    reason = f"the reading process ended with {child.returncode}: {child.stderr.strip()[-500:]}"
    raise SourceUnreadable(source=source.name, reason=reason)


# ------------------------------------------------------------------------------------------------ in the child


@dataclass(frozen=True)
class Watermark:
    """How far the change log was read, and where to look for the rest; see `meta.watermark`."""

    position: int
    later_position: int
    later_id: int
    after_id: int = 0

    def following(self, before: "Watermark") -> "Watermark":
        """This one, with what the one before it knew: a promise for later stands until its position is reached."""
        reached = [mark for mark in (before, self) if mark.later_position <= self.position]
        after_id = max(before.after_id, *(mark.later_id for mark in reached), 0)
        later = self if before in reached else before
        return Watermark(self.position, later.later_position, later.later_id, after_id)


def main() -> int:
    """Read the request from stdin, extract, answer on stdout. Only `extract` starts this."""
    threading.Thread(target=_end_with_the_run, args=[int(sys.argv[1])], daemon=True).start()
    request = json.loads(sys.stdin.read())
    try:
        answer: dict[str, Any] = asdict(_run(**{**request, "source": Source(**request["source"])}))
    except WarehouseError as error:
        answer = {"code": error.code, "facts": error.facts}
        status = 1
    else:
        status = 0
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def _end_with_the_run(alive: int) -> None:
    """A run that was killed leaves nobody to write for, and the next one takes this one's file away."""
    os.read(alive, 1)
    os._exit(1)


def _run(source: Source, building: str, full: bool, reconcile: str, columns: Columns) -> Extracted:
    import duckdb

    with duckdb.connect(":memory:") as con:
        con.execute("SET preserve_insertion_order = false")
        con.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        con.execute("SET checkpoint_threshold = '256MB'")  # once, as the file is closed, and not at the commit too
        con.execute(f"SET temp_directory = {literal(f'{building}.spill')}")  # swept with the generation
        try:
            con.execute(f"ATTACH {literal(building)} AS warehouse")
        except duckdb.Error as error:
            raise BuildFailed(path=building, reason=str(error)) from error
        try:
            load_scanner(con, source.kind)
            con.execute(f"ATTACH {literal(source.address)} AS source (TYPE {source.kind}, READ_ONLY)")
            con.execute(f"USE {_schema(source)}")
            con.execute("BEGIN")
            extracted = _Load(con, source).load(full=full, reconcile=reconcile, columns=columns)
            con.execute("COMMIT")
        except duckdb.Error as error:
            # DuckDB names the file it could not write, and only its own files can be corrupt: our disk, not the orders
            if building in str(error) or "Corrupt database file" in str(error):
                raise BuildFailed(path=building, reason=str(error)) from error
            raise SourceUnreadable(source=source.name, reason=str(error)) from error
    return extracted


def _schema(source: Source) -> str:
    return f"source.{'main' if source.kind == 'sqlite' else 'public'}"


def load_scanner(con: Any, kind: str) -> None:
    """The scanner from its PyPI package, which works offline; from DuckDB's own repository where there is none."""
    import duckdb

    name = f"{kind}_scanner"
    package = find_spec(f"duckdb_extension_{name}")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if file.exists():
            con.execute(f"LOAD {literal(str(file))}")
            return
    con.execute(f"INSTALL {name}")
    con.execute(f"LOAD {name}")


class _Load:
    """One load of `raw`: the connection it runs on, and how the order database is asked directly.

    Values are written into the SQL: the first parameter given to DuckDB imports pandas, which takes longer than all else
    in a small load.
    """

    def __init__(self, con: Any, source: Source) -> None:
        from orders_core.store import read_models

        self.con = con
        self.source = source
        self.models = read_models
        self.is_log_at_hand = False
        is_sqlite = source.kind == "sqlite"
        self.head_sql = read_models.SQLITE_HEAD if is_sqlite else read_models.POSTGRESQL_HEAD
        self.changes_sql = read_models.SQLITE_CHANGES if is_sqlite else read_models.POSTGRESQL_CHANGES
        self.columns_sql = read_models.SQLITE_COLUMNS if is_sqlite else read_models.POSTGRESQL_COLUMNS

    def load(self, *, full: bool, reconcile: str, columns: Columns) -> Extracted:
        began = self.head()
        warnings = self.compare_columns(columns)
        before = None if full else self.usable_watermark(began)
        if before is not None:
            return replace(self.read_on(before, reconcile), warnings=warnings)
        rows_read = {model.name: self.read_all(model) for model in self.models.READ_MODELS}
        # On SQLite DuckDB scans on connections of its own, each of which sees another moment. So what has changed since
        # we began is read once more, by queries that one transaction answers.
        self.con.execute("COMMIT")
        self.con.execute("BEGIN")
        days_compared = self.read_on(began, reconcile="all").days_compared
        self.con.execute("DELETE FROM warehouse.meta.changed_key")
        return Extracted(True, {}, rows_read, days_compared, warnings)

    def read_on(self, before: Watermark, reconcile: str) -> Extracted:
        """Read what changed since `before`, all of it as it is at one moment."""
        now = self.head()
        self.find_changed_keys(before)
        days = self.touched_days()
        self.let_server_scan("off")
        rows_read = {model.name: self.read_changed(model) for model in self.models.READ_MODELS}
        self.let_server_scan("on")
        days |= self.touched_days()
        days_compared = self.compare_totals(sorted(days) if reconcile == "touched" else None)
        self.keep_watermark(now.following(before))
        return Extracted(False, self.count_changed_keys(), rows_read, days_compared, [])

    def head(self) -> Watermark:
        return Watermark(*(int(value) for value in self.ask(self.head_sql)[0]))

    def let_server_scan(self, on_off: Literal["on", "off"]) -> None:
        if self.source.kind == "postgres":
            self.ask(self.models.POSTGRESQL_BY_INDEX.format(on_off=on_off))

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query that the order database answers itself, in this transaction."""
        return list(self.con.execute(f"FROM {self.asked(sql)}").fetchall())

    def asked(self, sql: str) -> str:
        """`sql` as a table that the order database works out itself, by its own indexes."""
        return f"{self.source.kind}_query('source', {literal(sql)})"

    def compare_columns(self, columns: Columns) -> list[dict[str, str]]:
        """What is new in the tables that are read; what is missing or of another type stops the load."""
        there: Columns = {}
        for table_name, column, kind in self.ask(self.columns_sql):
            there.setdefault(table_name, {})[column] = kind
        changes = [
            {"table": name, "column": column, "expected": kind, "found": there.get(name, {}).get(column)}
            for name, known in columns.items()
            for column, kind in known.items()
            if there.get(name, {}).get(column) != kind
        ]
        if changes:
            en = "; ".join(
                f"{c['table']}.{c['column']} should be {c['expected']}, found {c['found'] or 'nothing'}"
                for c in changes[:5]
            )
            zh = ";".join(
                f"{c['table']}.{c['column']} 应为 {c['expected']},实际{'为 ' + c['found'] if c['found'] else '没有'}"
                for c in changes[:5]
            )
            raise SourceChanged(source=self.source.name, difference=en, difference_zh=zh, changes=changes)
        return [
            {
                "code": "W_SOURCE_COLUMN",
                "en": f"{name}.{column} ({kind}) is new in the order database; the warehouse does not read it",
                "zh": f"订单数据库新增了列 {name}.{column}({kind}),数据仓库未读取该列",
            }
            for name in sorted(columns)
            for column, kind in there[name].items()
            if column not in columns[name]
        ]

    def usable_watermark(self, now: Watermark) -> Watermark | None:
        """Where to read on from, or None when `raw` is of another database or of a future now undone."""
        row = self.con.execute(
            "SELECT last_change_id, epoch_us(last_change_at), position, later_position, later_id, after_id "
            f"FROM warehouse.meta.watermark WHERE source_name = {literal(self.source.name)}"
        ).fetchone()
        if row is None or row[2] > now.position:
            return None
        found = self.ask(self.models.CHANGE_BY_ID.format(last_change_id=row[0]))
        return Watermark(*row[2:]) if [int(at) for (at,) in found] == ([row[1]] if row[0] else []) else None

    def keep_watermark(self, now: Watermark) -> None:
        last = self.ask(self.models.LAST_CHANGE)
        last_id, last_at = last[0] if last else (0, "NULL")
        self.con.execute("DELETE FROM warehouse.meta.watermark")
        self.con.execute(
            f"INSERT INTO warehouse.meta.watermark BY NAME SELECT {literal(self.source.name)} AS source_name, "
            f"{last_id} AS last_change_id, make_timestamptz({last_at}) AS last_change_at, {now.position} AS position, "
            f"{now.after_id} AS after_id, {now.later_position} AS later_position, {now.later_id} AS later_id"
        )

    def find_changed_keys(self, before: Watermark) -> None:
        """What is built from `raw` by parts asks this table, too, which rows to look at."""
        self.con.execute("DELETE FROM warehouse.meta.changed_key")
        changes = self.asked(self.changes_sql.format(position=before.position, after_id=before.after_id))
        self.con.execute(
            "INSERT INTO warehouse.meta.changed_key "
            f"SELECT DISTINCT entity, entity_id::BIGINT FROM {changes} ORDER BY entity, entity_id::BIGINT"
        )

    def count_changed_keys(self) -> dict[str, int]:
        counts = "SELECT entity, count(*) FROM warehouse.meta.changed_key GROUP BY entity ORDER BY entity"
        return dict(self.con.execute(counts).fetchall())

    def read_all(self, model: Any) -> int:
        """Replace the whole raw table by one scan of the order database's."""
        self.con.execute(f"DELETE FROM warehouse.raw.{model.name}")
        self.have_log_at_hand()
        return self.insert(model, f"({model.select})")

    def read_changed(self, model: Any) -> int:
        """Replace the rows that belong to changed keys, or add the new ones, or replace all of a small table."""
        raw, id_column = f"warehouse.raw.{model.name}", self.columns(model)[0].name
        if not model.keys and not model.is_append_only:
            self.con.execute(f"DELETE FROM {raw}")
            return self.insert(model, self.asked(model.select))
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE reread AS FROM {raw} LIMIT 0")
        if model.is_append_only:
            ids = self.asked(f"SELECT {id_column} FROM ({model.select}) AS r")
            self.read_keys(
                model,
                id_column,
                f"SELECT {id_column}::BIGINT AS {id_column} FROM {ids} EXCEPT FROM (SELECT {id_column} FROM {raw})",
            )
        for entity, column in model.keys.items():
            keys = f"SELECT entity_id FROM warehouse.meta.changed_key WHERE entity = '{entity}'"
            self.con.execute(f"DELETE FROM {raw} WHERE {column} IN ({keys})")
            self.read_keys(model, column, keys)
        # Each row once: a shipment line may be named by its order and by its shipment, and may have been in another
        # shipment before.
        once = f"SELECT DISTINCT ON ({id_column}) * FROM temp.reread"
        return int(self.con.execute(f"INSERT INTO {raw} {once}").fetchone()[0])

    def read_keys(self, model: Any, column: str, keys_sql: str) -> None:
        """Put the present rows whose `column` is one of the keys that `keys_sql` gives into `reread`."""
        for some in _chunks(sorted(key for (key,) in self.con.execute(keys_sql).fetchall())):
            sql = f"SELECT * FROM ({model.select}) AS r WHERE {column} IN ({', '.join(map(str, some))})"
            self.insert(model, self.asked(sql), into="temp.reread")

    def insert(self, model: Any, rows_sql: str, *, into: str = "") -> int:
        """Append rows with the declared types; returns how many."""
        values = ", ".join(f"{_typed(column)} AS {column.name}" for column in self.columns(model))
        into = into or f"warehouse.raw.{model.name}"
        done = self.con.execute(f"INSERT INTO {into} BY NAME SELECT {values} FROM {rows_sql} AS r").fetchone()
        return int(done[0])

    def have_log_at_hand(self) -> None:
        """Before a scan: the change log is read once, not once per row that asks when it last changed.

        Names without a schema lead to temporary tables first, so the SELECTs find this one.
        """
        if not self.is_log_at_hand:
            self.con.execute(
                'CREATE TEMP TABLE change_log AS SELECT entity, entity_id, max("at") AS "at" '
                f"FROM {_schema(self.source)}.change_log WHERE entity <> 'stock_movement' GROUP BY entity, entity_id"
            )
            self.is_log_at_hand = True

    def columns(self, model: Any) -> tuple[Column, ...]:
        from pipelines.warehouse.tables import table

        return table(f"raw.{model.name}").columns

    def touched_days(self) -> set[str]:
        """The business days that changed orders and movements belong to in `raw` now."""
        named = "SELECT entity_id FROM warehouse.meta.changed_key WHERE entity ="
        found = self.con.execute(f"""
            SELECT business_date::VARCHAR FROM warehouse.raw.orders WHERE order_id IN ({named} 'orders')
            UNION SELECT business_date::VARCHAR FROM warehouse.raw.stock_movement
            WHERE stock_movement_id IN ({named} 'stock_movement')""")
        return {day for (day,) in found.fetchall()}

    def compare_totals(self, days: list[str] | None) -> int:
        """Every order, line and movement must have arrived once: a change that the log does not name would stay unseen.

        `days` are compared, or all when it is None; returns how many.
        """
        if days is not None and len(days) > FEW_DAYS:
            days = None
        wrong: dict[str, list[tuple[str, int, int]]] = {}
        compared: set[str] = set()
        for sql, name, raw_id in zip(
            self.models.DAILY_TOTALS,
            ("orders", "orders", "stock_movement"),
            ("order_id", "order_id", "stock_movement_id"),
            strict=True,
        ):
            there, names = self.totals_there(sql, name, raw_id, days)
            here = self.totals_here(sql, days)
            compared |= there.keys() | here.keys()
            for day in there.keys() | here.keys():
                nothing = (0,) * len(names)
                pairs = zip(names, there.get(day, nothing), here.get(day, nothing), strict=True)
                wrong.setdefault(day, []).extend((what, ours, raw) for what, ours, raw in pairs if ours != raw)
        differing = sorted((day, found) for day, found in wrong.items() if found)
        if differing:
            said = [(day, what, there, raw) for day, found in differing[:5] for what, there, raw in found]
            raise SourceDiffers(
                source=self.source.name,
                difference="; ".join(f"{day} {what} {there} there, {raw} here" for day, what, there, raw in said),
                difference_zh=";".join(f"{day} {what} 应为 {there},实际为 {raw}" for day, what, there, raw in said),
                days=[day for day, _ in differing],
            )
        return len(compared)

    def totals_here(self, sql: str, days: list[str] | None) -> dict[str, tuple[int, ...]]:
        where = "true" if days is None else f"o.business_date IN ({_listed(days)})" if days else "false"
        asked = sql.format(order_id="order_id", movement_qty="movement_qty", days=where)
        found = _by_day(self.con.execute("USE warehouse.raw").execute(asked).fetchall())
        self.con.execute(f"USE {_schema(self.source)}")
        return found

    def totals_there(
        self, sql: str, name: str, raw_id: str, days: list[str] | None
    ) -> tuple[dict[str, tuple[int, ...]], list[str]]:
        """The order database's totals by day, and what they are called.

        It has no index by business day. But the rows of a day were numbered about when they were written, and `raw` knows
        the first and the last number of each.
        """
        conditions = ["1 = 1"] if days is None else ["1 = 0"]
        if days:
            ranges = self.con.execute(
                f"SELECT business_date::VARCHAR, min({raw_id}), max({raw_id}) FROM warehouse.raw.{name} "
                f"WHERE business_date IN ({_listed(days)}) GROUP BY business_date"
            ).fetchall()
            conditions += [f"o.business_date = '{day}' AND o.id BETWEEN {low} AND {high}" for day, low, high in ranges]
        each = [sql.format(order_id="id", movement_qty="qty", days=condition) for condition in conditions]
        cursor = self.con.execute(f"FROM {self.asked(' UNION ALL '.join(each))}")
        return _by_day(cursor.fetchall()), [column[0] for column in cursor.description[1:]]


def _typed(column: Column) -> str:
    """How a column arrives: instants are microseconds since 1970 in the core, SQLite has neither days nor booleans."""
    if column.type == "TIMESTAMP WITH TIME ZONE":
        return f"make_timestamptz(CAST({column.name} AS BIGINT))"
    return f"CAST({column.name} AS {column.type})"


def _by_day(rows: list[tuple[Any, ...]]) -> dict[str, tuple[int, ...]]:
    return {str(day): tuple(int(value) for value in values) for day, *values in rows}


def _listed(days: Sequence[str]) -> str:
    return ", ".join(f"DATE '{day}'" for day in days)


def _chunks(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), KEYS_A_QUERY):
        yield keys[start : start + KEYS_A_QUERY]


if __name__ == "__main__":
    sys.exit(main())
