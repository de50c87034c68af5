"""Building a modelled table again: all of it, or only the parts that something moved.

One query a table serves both. To build parts, the keys to build are put in a table, and the query is run in a catalog
of views that bear the names of the tables it reads: those with the key's columns show only rows with these keys. What
then differs from the rows that stood there is written, and noted as moved for the tables built after.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from pipelines.model import Modelled
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.contract import Table, Violation
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import INSTANT, TABLES, table
from pipelines.warehouse.write import replace_with_query, same_columns

MOST_PARTS = 0.5
"""When more than this share of a table's parts moved, it is built anew: one pass over all is cheaper then."""
FEW_PARTS = 0.005
"""Up to so many parts a row of the table are few: then nobody counts all parts, which takes a pass over all rows."""

_NAMED_TABLE = re.compile(r"\b(?:raw|core|mart)\.\w+")


def tables_read(query: str) -> tuple[str, ...]:
    """The tables that `query` names, sorted."""
    return tuple(sorted(set(_NAMED_TABLE.findall(query))))


@dataclass
class Parts:
    """What has moved so far in one build, and the building by parts.

    Attributes:
        con: The generation being built, nobody else's.
        base: The day its modelled tables are of, or None when everything is to be built anew.
        sources: Raw table -> (entity of the change log -> column of the table), of the tables read by changed keys.
        moved: Modelled tables built so far whose changed rows are known; they lie in the catalog `moved`.
        anew: Those that were built whole because most of them moved.
    """

    con: duckdb.DuckDBPyConnection
    base: AsOf | None
    sources: Mapping[str, Mapping[str, str]]
    moved: set[str] = field(default_factory=set)
    anew: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        row = self.con.execute("SELECT current_database()").fetchone()
        self.home = f'"{row[0]}"' if row else ""
        self.con.execute("ATTACH ':memory:' AS moved")
        self._views: set[tuple[str, str]] = set()

    def build(self, modelled: Modelled, as_of: AsOf) -> int:
        """Bring one table up to `as_of`; returns how many of its rows changed (all, when it was built anew)."""
        target = table(modelled.name)
        query = modelled.query(as_of)
        if self.base is None or self.anew & set(modelled.moved_by) or self._moves_all(modelled):
            return self._anew(target, query)
        if not modelled.key:
            self._fresh(target, query, catalog=None)
            return self._write(target, f"SELECT * FROM {self.home}.{target.full_name}")
        keys = self._touched(modelled, as_of)
        if not keys:
            self._note(target, f"SELECT * FROM {self.home}.{target.full_name} LIMIT 0")
            return 0
        if keys > FEW_PARTS * self._rows(target.full_name) and keys > MOST_PARTS * self._rows(
            f"(SELECT DISTINCT {_list(modelled.key)} FROM {target.full_name})"
        ):
            return self._anew(target, query)
        catalog = self._catalog(modelled.key, tables_read(query))
        self._fresh(target, query, catalog=catalog)
        return self._write(
            target,
            f"SELECT * FROM {self.home}.{target.full_name} SEMI JOIN {catalog}.main.keys USING ({_list(modelled.key)})",
        )

    def close(self) -> None:
        """Forget what moved and the views; the generation stays open."""
        for catalog in ["moved", *sorted(catalog for catalog, name in self._views if not name)]:
            self.con.execute(f"DETACH {catalog}")

    def violations(self, tables: Sequence[Table]) -> list[Violation]:
        """What the moved rows of `tables` break of the contract; of tables never noted as moved, what any row breaks."""
        found = []
        for checked in tables:
            if checked.full_name in self.moved:
                found += self._violations_of_moved(checked)
            elif checked.full_name in self.sources:
                found += self._violations_of_read(checked)
            else:
                found += find_violations(self.con, [checked])
        return found

    # ---------------------------------------------------------------------------------------- which keys

    def _moves_all(self, modelled: Modelled) -> bool:
        """Whether a table changed that moves this one and can't tell which part of it."""
        return any(
            name in self.moved
            and not set(modelled.key) & set(table(name).column_names)
            and self._rows(f"moved.{name}") > 0
            for name in (modelled.moved_by if modelled.key else ())
        )

    def _touched(self, modelled: Modelled, as_of: AsOf) -> int:
        """Fill the key's table with what is to be built again; returns how many keys."""
        catalog = self._catalog(modelled.key, ())
        key = _list(modelled.key)
        self.con.execute(f"DELETE FROM {catalog}.main.keys")
        queries: list[str] = []
        for mover in modelled.moved_by:
            if mover in self.sources:
                queries += self._touched_by_source(modelled, mover, as_of)
            else:
                queries += self._touched_by_table(modelled, mover)
        for query in queries:
            new = f"SELECT DISTINCT {key} FROM ({query}) ANTI JOIN {catalog}.main.keys USING ({key})"
            self.con.execute(f"INSERT INTO {catalog}.main.keys {new}")
        row = self.con.execute(f"SELECT count(*) FROM {catalog}.main.keys").fetchone()
        return int(row[0]) if row else 0

    def _touched_by_source(self, modelled: Modelled, mover: str, as_of: AsOf) -> list[str]:
        """From a raw table: what the load changed, and what is dated after the earlier of the two days.

        A row with nothing after both days reads the same on either, so going back a day costs no more than going on.
        """
        assert self.base is not None
        earlier = min(self.base, as_of, key=lambda known: known.day)
        columns = table(mover).column_names
        key = _list(modelled.key)
        queries = []
        for entity, column in self.sources[mover].items():
            changed = f"SELECT entity_id AS {column} FROM meta.changed_key WHERE entity = '{entity}'"
            if modelled.key == (column,):  # also of rows that are there no more
                queries.append(changed)
            else:
                queries.append(f"SELECT {key} FROM {mover} SEMI JOIN ({changed}) USING ({column})")
        instants = [column.name for column in table(mover).columns if column.type == INSTANT]
        if "changed_at" in instants:  # no other date of the row is later
            instants = ["changed_at"]
        later = [f"{name} >= {earlier.end_sql}" for name in instants]
        later += [f"business_date > {earlier.day_sql}"] if "business_date" in columns else []
        if later:
            queries.append(f"SELECT {key} FROM {mover} WHERE {' OR '.join(later)}")
        return queries

    def _touched_by_table(self, modelled: Modelled, mover: str) -> list[str]:
        """From a table built before: the keys of its moved rows; by the columns it has when it has not all."""
        moved = f"moved.{mover}"
        shared = [name for name in modelled.key if name in table(mover).column_names]
        if len(shared) == len(modelled.key):
            return [f"SELECT {_list(shared)} FROM {moved}"]
        if not self._rows(moved):
            return []
        holders = [
            name
            for name in (modelled.name, *modelled.moved_by)
            if set(modelled.key) <= set(table(name).column_names) and name != mover
        ]
        key = _list(modelled.key)
        return [f"SELECT {key} FROM {name} SEMI JOIN {moved} USING ({_list(shared)})" for name in holders]

    # ---------------------------------------------------------------------------------------- building

    def _catalog(self, key: tuple[str, ...], reads: Sequence[str]) -> str:
        """The catalog in which tables are narrowed to the keys of `key`, with a view for each of `reads`."""
        catalog = "part_" + "_".join(key)
        if (catalog, "") not in self._views:
            self.con.execute(f"ATTACH ':memory:' AS {catalog}")
            self.con.execute(
                f"CREATE TABLE {catalog}.main.keys ({', '.join(f'{name} {_type_of(name)}' for name in key)})"
            )
            self._views.add((catalog, ""))
        for name in reads:
            if (catalog, name) in self._views:
                continue
            is_narrowed = set(key) <= set(table(name).column_names)
            narrowing = f" SEMI JOIN {catalog}.main.keys USING ({_list(key)})" if is_narrowed else ""
            self.con.execute(f"CREATE SCHEMA IF NOT EXISTS {catalog}.{name.split('.')[0]}")
            self.con.execute(f"CREATE VIEW {catalog}.{name} AS SELECT * FROM {self.home}.{name}{narrowing}")
            self._views.add((catalog, name))
        return catalog

    def _fresh(self, target: Table, query: str, *, catalog: str | None) -> None:
        """Run the query into the temporary table `fresh`, reading from `catalog` when one is given."""
        same_columns(target, [str(row[0]) for row in self.con.execute(f"DESCRIBE {query}").fetchall()])
        values = ", ".join(f'CAST("{c.name}" AS {c.type}) AS "{c.name}"' for c in target.columns)
        if catalog is not None:
            self.con.execute(f"USE {catalog}")
        try:
            self.con.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS SELECT {values} FROM ({query})")
        finally:
            self.con.execute(f"USE {self.home}")

    def _write(self, target: Table, stood: str) -> int:
        """Let `fresh` take the place of the rows `stood`; only what differs is written, and noted as moved."""
        self._note(
            target,
            f"(({stood}) EXCEPT ALL FROM temp.fresh) UNION ALL (FROM temp.fresh EXCEPT ALL ({stood}))",
        )
        moved, key = f"moved.{target.full_name}", _list(target.key)
        rows = self._rows(moved)
        if rows:
            home = f"{self.home}.{target.full_name}"
            self.con.execute("BEGIN")
            same = " AND ".join(f"t.{name} = m.{name}" for name in target.key)
            self.con.execute(f"DELETE FROM {home} t USING (SELECT DISTINCT {key} FROM {moved}) m WHERE {same}")
            self.con.execute(
                f"INSERT INTO {home} BY NAME SELECT * FROM temp.fresh SEMI JOIN {moved} USING ({key}) ORDER BY {key}"
            )
            self.con.execute("COMMIT")
        return rows

    def _anew(self, target: Table, query: str) -> int:
        self.anew.add(target.full_name)
        return replace_with_query(self.con, target, query)

    def _note(self, target: Table, rows: str) -> None:
        self.con.execute(f"CREATE SCHEMA IF NOT EXISTS moved.{target.schema}")
        self.con.execute(f"CREATE OR REPLACE TABLE moved.{target.full_name} AS {rows}")
        self.moved.add(target.full_name)

    def _rows(self, name: str) -> int:
        row = self.con.execute(f"SELECT count(*) FROM {name}").fetchone()
        return int(row[0]) if row else 0

    # ---------------------------------------------------------------------------------------- checking

    def _violations_of_moved(self, checked: Table) -> list[Violation]:
        if not self._rows(f"moved.{checked.full_name}"):
            return []
        rows = f"SELECT * FROM {self.home}.{checked.full_name}"
        has_null = " OR ".join(f"{name} IS NULL" for name in checked.key)  # which no join finds
        moved = f"{rows} SEMI JOIN moved.{checked.full_name} USING ({_list(checked.key)})"
        return self._violations_in(checked, f"{moved} UNION ALL {rows} WHERE {has_null}")

    def _violations_of_read(self, checked: Table) -> list[Violation]:
        parts, before = [], ""
        for entity, column in self.sources[checked.full_name].items():
            keys = f"(SELECT entity_id AS {column} FROM {self.home}.meta.changed_key WHERE entity = '{entity}')"
            parts.append(f"SELECT * FROM {self.home}.{checked.full_name} SEMI JOIN {keys} USING ({column}){before}")
            before += f" ANTI JOIN {keys} USING ({column})"  # a row that two keys name is one row
        changed = " UNION ALL ".join(parts)
        return self._violations_in(checked, changed)

    def _violations_in(self, checked: Table, rows: str) -> list[Violation]:
        """Violations among `rows`, shown to the checks under the table's own name."""
        if ("checked", "") not in self._views:
            self.con.execute("ATTACH ':memory:' AS checked")
            self._views.add(("checked", ""))
        self.con.execute(f"CREATE SCHEMA IF NOT EXISTS checked.{checked.schema}")
        self.con.execute(f"CREATE OR REPLACE TABLE checked.{checked.full_name} AS {rows}")
        self.con.execute("USE checked")
        try:
            return find_violations(self.con, [checked])
        finally:
            self.con.execute(f"USE {self.home}")


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _type_of(name: str) -> str:
    return next(column.type for one in TABLES for column in one.columns if column.name == name)


def base_of(con: duckdb.DuckDBPyConnection, zone: str) -> AsOf | None:
    """The day the modelled tables in `con` are of, or None when there is none yet or its days are of another zone."""
    row = con.execute("SELECT as_of_date, business_zone FROM meta.publication").fetchone()
    return AsOf(*row) if row is not None and row[1] == zone else None
