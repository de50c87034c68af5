"""From the order core into `raw` of a new generation: all of it the first time, then only what the change log names.

The work is done in a process of its own that opens nothing but the generation file and, read-only, the order database.
Never attach orders.db in a process that holds it through sqlite3, an idle pool connection included: when DuckDB closes
its handle, the system drops every lock the process has on the file, and a second writer walks into our transaction.

Everything is read in one transaction, so the rows of `raw` belong to one moment of the order database.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines.warehouse.contract import Column
from pipelines.warehouse.errors import BuildFailed, SourceDiffers, SourceUnreadable, WarehouseError

FEW_KEYS = 20_000
"""Up to so many changed keys are looked up by the order database's own indexes; beyond, one scan is faster."""
KEYS_A_QUERY = 5_000


@dataclass(frozen=True)
class Source:
    """An order database as DuckDB attaches it. `name` carries no password and is what the watermark is kept under."""

    kind: str
    address: str
    name: str

    @classmethod
    def from_url(cls, database_url: str) -> "Source":
        """From a URL as SQLAlchemy writes it (`sqlite:///orders.db`, `postgresql+psycopg://user@host/name`)."""
        from sqlalchemy.engine import make_url

        url = make_url(database_url)
        if url.get_backend_name() == "sqlite":
            path = str(Path(url.database or "").absolute())
            return cls("sqlite", path, f"sqlite:{path}")
        host = url.host or url.query.get("host") or ""
        facts = {"dbname": url.database, "user": url.username, "password": url.password, "host": host, "port": url.port}
        address = " ".join(f"{key}='{_escaped(str(value))}'" for key, value in facts.items() if value)
        return cls("postgres", address, f"postgresql:{url.database}@{host}")


@dataclass(frozen=True)
class Extracted:
    """What an extraction read: changed keys per entity (empty on a full load), rows read per raw table, its kind."""

    is_full: bool
    changed_keys: dict[str, int]
    rows_read: dict[str, int]


def extract(database_url: str, building: Path, *, full: bool) -> Extracted:
    """Bring `raw` in the generation at `building` up to the present of the order database.

    Args:
        database_url: The order database.
        building: A generation that nobody else has open, with all its tables there; `raw` as of its own watermark.
        full: Read everything. Without it, too, when there is no watermark, or the database is another one or was
            restored from a backup since.

    Raises:
        SourceUnreadable: The order database could not be read.
        SourceDiffers: After the load `raw` does not add up to the order database's totals.
        BuildFailed: The generation could not be written.
    """
    source = Source.from_url(database_url)
    request = {"source": asdict(source), "building": str(building), "full": full}
    child = subprocess.run(
        [sys.executable, "-m", "pipelines.extract"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(child.stdout.splitlines()[-1]) if child.stdout.strip() else {}
    if child.returncode == 0:
        return Extracted(**answer)
    kinds: dict[str, type[WarehouseError]] = {
        kind.code: kind for kind in (SourceUnreadable, SourceDiffers, BuildFailed)
    }
    if answer.get("code") in kinds:
        raise kinds[answer["code"]](**answer["facts"])
    reason = f"the reading process ended with {child.returncode}: {child.stderr.strip()[-500:]}"
    raise SourceUnreadable(source=source.name, reason=reason)


# ------------------------------------------------------------------------------------------------ in the child


def main() -> int:
    """Read the request from stdin, extract, answer on stdout. Only `extract` starts this."""
    request = json.loads(sys.stdin.read())
    try:
        answer: dict[str, Any] = asdict(_run(Source(**request["source"]), request["building"], request["full"]))
    except WarehouseError as error:
        answer = {"code": error.code, "facts": error.facts}
        status = 1
    else:
        status = 0
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def _run(source: Source, building: str, full: bool) -> Extracted:
    import duckdb

    with duckdb.connect(":memory:") as con:
        con.execute("SET preserve_insertion_order = false")
        try:
            con.execute(f"ATTACH '{_escaped(building)}' AS warehouse")
        except duckdb.Error as error:
            raise BuildFailed(path=building, reason=str(error)) from error
        try:
            _load_scanner(con, source.kind)
            con.execute(f"ATTACH '{_escaped(source.address)}' AS source (TYPE {source.kind}, READ_ONLY)")
            con.execute(f"USE source.{'main' if source.kind == 'sqlite' else 'public'}")
            con.execute("BEGIN")
            extracted = _Load(con, source).load(full=full)
            con.execute("COMMIT")
        except duckdb.Error as error:
            if building in str(error):  # DuckDB names the file it could not write: our disk, not the order database
                raise BuildFailed(path=building, reason=str(error)) from error
            raise SourceUnreadable(source=source.name, reason=str(error)) from error
    return extracted


def _load_scanner(con: Any, kind: str) -> None:
    """The scanner from its PyPI package, which works offline; from DuckDB's own repository where there is none."""
    import duckdb

    name = f"{kind}_scanner"
    package = find_spec(f"duckdb_extension_{name}")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if file.exists():
            con.execute(f"LOAD '{_escaped(str(file))}'")
            return
    con.execute(f"INSTALL {name}")
    con.execute(f"LOAD {name}")


class _Load:
    """One load of `raw`: the connection it runs on, and how the order database is asked directly."""

    def __init__(self, con: Any, source: Source) -> None:
        from orders_core.store import read_models

        self.con = con
        self.source = source
        self.models = read_models
        is_sqlite = source.kind == "sqlite"
        self.head_sql = read_models.SQLITE_HEAD if is_sqlite else read_models.POSTGRESQL_HEAD
        self.changes_sql = read_models.SQLITE_CHANGES if is_sqlite else read_models.POSTGRESQL_CHANGES

    def load(self, *, full: bool) -> Extracted:
        position = self.ask(self.head_sql)[0][0]
        since = None if full else self.usable_watermark(int(position))
        if since is None:
            changed: dict[str, set[int]] = {}
            rows_read = {model.name: self.read_all(model) for model in self.models.READ_MODELS}
        else:
            changed = self.changed_keys(since)
            rows_read = {model.name: self.read_changed(model, changed) for model in self.models.READ_MODELS}
        self.compare_totals()
        self.keep_watermark(int(position))
        self.keep_changed_keys(changed)
        return Extracted(since is None, {entity: len(keys) for entity, keys in changed.items()}, rows_read)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query that the order database answers itself, in this transaction."""
        return list(self.con.execute(f"FROM {self.source.kind}_query('source', '{_escaped(sql)}')").fetchall())

    def usable_watermark(self, position: int) -> int | None:
        """The position to read on from, or None when `raw` is of another database or of a future now undone."""
        row = self.con.execute(
            "SELECT position, last_change_id, epoch_us(last_change_at) FROM warehouse.meta.watermark "
            "WHERE source_name = ?",
            [self.source.name],
        ).fetchone()
        if row is None or row[0] > position:
            return None
        mark = self.ask(self.models.CHANGE_BY_ID.format(last_change_id=row[1]))
        return int(row[0]) if [int(at) for (at,) in mark] == ([row[2]] if row[1] else []) else None

    def changed_keys(self, since: int) -> dict[str, set[int]]:
        changed: dict[str, set[int]] = {}
        for entity, entity_id, _version in self.ask(self.changes_sql.format(position=since)):
            changed.setdefault(entity, set()).add(int(entity_id))
        return changed

    def read_all(self, model: Any) -> int:
        self.con.execute(f"DELETE FROM warehouse.raw.{model.name}")
        return self.insert(model, f"({model.select}) AS r")

    def read_changed(self, model: Any, changed: dict[str, set[int]]) -> int:
        if not model.keys:
            return self.read_all(model)
        # First all deletions, then all insertions, each row once: a shipment line may be named by its order and by its
        # shipment, and may have been named by another shipment before.
        rows = 0
        for entity, column in model.keys.items():
            keys = sorted(changed.get(entity, ()))
            self.con.execute(
                f"DELETE FROM warehouse.raw.{model.name} WHERE {column} IN (SELECT unnest(?::BIGINT[]))", [keys]
            )
        for entity, column in model.keys.items():
            rows += self.read_keys(model, column, sorted(changed.get(entity, ())))
        return rows

    def read_keys(self, model: Any, column: str, keys: Sequence[int]) -> int:
        if len(keys) > FEW_KEYS:
            self.con.execute("CREATE OR REPLACE TEMP TABLE keys_to_read AS SELECT unnest(?::BIGINT[]) AS key", [keys])
            return self.insert(model, f"({model.select}) AS r WHERE {column} IN (SELECT key FROM temp.keys_to_read)")
        rows = 0
        for some in _chunks(keys):
            sql = f"SELECT * FROM ({model.select}) AS r WHERE {column} IN ({', '.join(map(str, some))})"
            rows += self.insert(model, f"{self.source.kind}_query('source', '{_escaped(sql)}') AS r")
        return rows

    def insert(self, model: Any, rows_sql: str) -> int:
        """Append rows that are not there yet, with the declared types; returns how many were read."""
        columns = self.columns(model)
        values = ", ".join(f"{_typed(column)} AS {column.name}" for column in columns)
        new = f"SELECT {values} FROM {rows_sql}"
        if model.keys:
            id_column = columns[0].name
            new = f"SELECT * FROM ({new}) ANTI JOIN warehouse.raw.{model.name} USING ({id_column})"
        return int(self.con.execute(f"INSERT INTO warehouse.raw.{model.name} BY NAME {new}").fetchone()[0])

    def columns(self, model: Any) -> tuple[Column, ...]:
        from pipelines.warehouse.tables import table

        return table(f"raw.{model.name}").columns

    def compare_totals(self) -> None:
        """Every order and line must have arrived once: a change that the log does not name would stay unseen."""
        there = [int(value) for value in self.ask(self.models.TOTALS)[0]]
        cursor = self.con.execute("USE warehouse.raw").execute(self.models.TOTALS)
        names = [column[0] for column in cursor.description]
        here = [int(value) for value in cursor.fetchone()]
        if here != there:
            pairs = zip(names, there, here, strict=True)
            wrong = ", ".join(f"{name} {source} there, {raw} here" for name, source, raw in pairs if source != raw)
            raise SourceDiffers(source=self.source.name, difference=wrong)

    def keep_watermark(self, position: int) -> None:
        last = self.ask(self.models.LAST_CHANGE)
        last_id, last_at = (int(last[0][0]), int(last[0][1])) if last else (0, None)
        self.con.execute("DELETE FROM warehouse.meta.watermark")
        self.con.execute(
            "INSERT INTO warehouse.meta.watermark VALUES (?, ?, ?, make_timestamptz(?))",
            [self.source.name, position, last_id, last_at],
        )

    def keep_changed_keys(self, changed: dict[str, set[int]]) -> None:
        """What is built from `raw` by parts asks this table which rows to look at."""
        self.con.execute("DELETE FROM warehouse.meta.changed_key")
        for entity, keys in changed.items():
            self.con.execute("INSERT INTO warehouse.meta.changed_key SELECT ?, unnest(?::BIGINT[])", [entity, [*keys]])


def _typed(column: Column) -> str:
    """How a column arrives: instants are microseconds since 1970 in the core, SQLite has neither days nor booleans."""
    if column.type == "TIMESTAMP WITH TIME ZONE":
        return f"make_timestamptz(CAST({column.name} AS BIGINT))"
    return f"CAST({column.name} AS {column.type})"


def _chunks(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), KEYS_A_QUERY):
        yield keys[start : start + KEYS_A_QUERY]


def _escaped(text: str) -> str:
    return text.replace("'", "''")


if __name__ == "__main__":
    sys.exit(main())
