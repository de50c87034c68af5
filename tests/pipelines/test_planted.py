"""A bad row for every promise of the contract is caught by its check, under its name, and stops publication.

The rows are made from the declarations, so that a table declared tomorrow is covered tomorrow. For a promise whose
breaking row can't be found among the values below, give one in `EXAMPLES`.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import duckdb
import pytest

from pipelines.daily import SOURCES
from pipelines.model import MODELLED
from pipelines.parts import Parts
from pipelines.warehouse.contract import Check, Column, Table, key_check_name, row_checks
from pipelines.warehouse.errors import ChecksFailed, WarehouseMissing
from pipelines.warehouse.publish import (
    find_violations,
    publish_generation,
    refuse_violations,
    run_lock,
    start_generation,
)
from pipelines.warehouse.read import publication
from pipelines.warehouse.tables import META_TABLES, TABLES
from pipelines.warehouse.write import create_tables
from tests.conftest import StatedCount

Row = dict[str, str]
"""Column -> its value as SQL."""

VALUES = {
    "VARCHAR": ["'CNY'", "'x'", "''"],
    "VARCHAR[]": ["['x']"],
    "BIGINT": ["1", "0", "2", "-1", "7"],
    "DOUBLE": ["0.5", "1.0", "0.0", "-1.0", "2.0", "'nan'::DOUBLE"],
    "DATE": ["DATE '2026-01-01'", "DATE '2026-01-02'"],
    "BOOLEAN": ["true", "false"],
    "TIMESTAMP WITH TIME ZONE": ["TIMESTAMPTZ '2026-01-01 00:00:00+00'", "TIMESTAMPTZ '2026-01-02 00:00:00+00'"],
}
"""Values to try, per type, beside the words and numbers that a rule itself names."""

NUMBER = r"(?<![\w.'-])\d+(?![\w'])"

EXAMPLES: dict[tuple[str, str], Row] = {}
"""(table, promise) -> columns of a row that breaks it, where `VALUES` can't."""


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """One empty warehouse for all promises."""
    with duckdb.connect(":memory:") as con:
        create_tables(con, TABLES)
        yield con


def good_values(con: duckdb.DuckDBPyConnection, table: Table) -> dict[str, list[str]]:
    """Per column of `table`, the values that keep what is promised of the column by itself."""
    good = {}
    for column in table.columns:
        of_its_own = [
            f"NOT ({check.bad_sql})" for check in row_checks(table) if named_in(check, table) == [column.name]
        ]
        kept = choose(con, {column.name: values_of(column, table)}, where=of_its_own)
        good[column.name] = [row[column.name] for row in kept]
        assert kept, f"no value of {table.full_name}.{column.name} meets {of_its_own}: add one to VALUES"
    return good


def search(
    con: duckdb.DuckDBPyConnection, table: Table, good: dict[str, list[str]], broken: Check | None = None
) -> Row | None:
    """A row of `table` that breaks `broken` and as little else as can be, or nothing at all; None when none is found.

    Some promises can't be broken alone: less than nothing ordered is also less than was cancelled.
    """
    between = [check for check in row_checks(table) if len(named_in(check, table)) > 1]
    tried = dict.fromkeys(
        name for check in [*([broken] if broken else []), *between] for name in named_in(check, table)
    )
    most = 6 if len(tried) < 6 else 3 if len(tried) < 9 else 2  # of a long sum or chain two values of each will do
    choices = {name: good[name][:most] for name in tried}
    if broken and len(named_in(broken, table)) < 3:
        choices |= {c.name: values_of(c, table) for c in table.columns if c.name in named_in(broken, table)}
    kept = [f"coalesce(NOT ({check.bad_sql}), true)" for check in between if check != broken]
    row = {name: values[0] for name, values in good.items()}
    if not tried:
        return row
    found = choose(con, choices, where=[broken.bad_sql] if broken else kept, prefer=kept)
    return row | found[0] if found else None


def named_in(check: Check, table: Table) -> list[str]:
    """The columns a check is about."""
    words = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", check.bad_sql)))
    return [name for name in table.column_names if name in words]


def values_of(column: Column, table: Table) -> list[str]:
    """What may be tried: values of its type, and the words and numbers that the rules about it name."""
    assert column.type in VALUES, f"say in VALUES what may be tried for the type {column.type} of {column.name}"
    literal = {"VARCHAR": r"'[^']*'", "BIGINT": NUMBER, "DOUBLE": NUMBER}.get(column.type)
    rules = [column.rule, *(rule.sql for rule in table.rules if re.search(rf"\b{column.name}\b", rule.sql))]
    named = [found for rule in rules for found in re.findall(literal, rule)] if literal else []
    return list(dict.fromkeys([*VALUES[column.type], *named]))


def choose(
    con: duckdb.DuckDBPyConnection, choices: dict[str, list[str]], *, where: list[str], prefer: Sequence[str] = ()
) -> list[Row]:
    """Combinations of values that meet all of `where`, those first that meet most of `prefer`; up to ten."""
    lists = [
        "(" + " UNION ALL ".join(f'SELECT {value} AS "{name}", {at} AS "{name} at"' for at, value in enumerate(values))
        + f') AS "from {name}"'
        for name, values in choices.items()
    ]  # fmt: skip
    at = ", ".join(f'"{name} at"' for name in choices)
    met = " + ".join(f"({condition})::INTEGER" for condition in ("true", *prefer))
    found = con.execute(
        f"SELECT {at} FROM {', '.join(lists)} WHERE {' AND '.join(f'({condition})' for condition in where) or 'true'} "
        f"ORDER BY {met} DESC, {at} LIMIT 10"
    ).fetchall()
    return [{name: values[at] for (name, values), at in zip(choices.items(), row, strict=True)} for row in found]


def insert(con: duckdb.DuckDBPyConnection, table: Table, row: Row) -> None:
    values = ", ".join(f'{value} AS "{name}"' for name, value in row.items())
    con.execute(f"INSERT INTO {table.full_name} BY NAME SELECT {values}")


@cache
def planted(table: Table) -> dict[str, list[Row]]:
    """Promise of `table` -> rows that break it; "" -> a row that breaks none."""
    with duckdb.connect(":memory:") as con:
        values = good_values(con, table)
        good = search(con, table, values)
        assert good is not None, f"no row of {table.full_name} keeps all its promises"
        rows: dict[str, list[Row]] = {"": [good], key_check_name(table): [good, good]}
        for check in row_checks(table):
            column = check.name.removesuffix(" is present")
            if column != check.name and column in table.column_names:
                rows[check.name] = [good | {column: "NULL"}]
                continue
            example = EXAMPLES.get((table.full_name, check.name))
            found = good | example if example else search(con, table, values, check)
            assert found, f"nothing was found that breaks {table.full_name} '{check.name}': give a row in EXAMPLES"
            rows[check.name] = [found]
    return rows


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.full_name)
def test_a_planted_row_for_every_promise_is_caught_under_its_name_and_stops_publication(
    con: duckdb.DuckDBPyConnection, table: Table
) -> None:
    rows_of = planted(table)
    promised = {f"{column.name} is present" for column in table.columns if not column.nullable}
    promised |= {column.rule for column in table.columns if column.rule} | {rule.sql for rule in table.rules}
    assert promised | {key_check_name(table), ""} == set(rows_of)
    for promise, rows in rows_of.items():
        con.execute(f"DELETE FROM {table.full_name}")
        for row in rows:
            insert(con, table, row)
        caught = {violation.rule: violation for violation in find_violations(con, [table])}
        if not promise:
            assert caught == {}, f"a good row breaks nothing: {rows}"
            continue
        assert promise in caught, f"{rows} should break '{promise}'"
        assert caught[promise].rows == len(rows)
        with pytest.raises(ChecksFailed) as refused:
            refuse_violations([caught[promise]])
        assert all(promise in refused.value.message(language) for language in ("en", "zh"))
    con.execute(f"DELETE FROM {table.full_name}")


def test_a_generation_with_every_promise_broken_is_not_published_and_names_each(tmp_path: Path) -> None:
    warehouse_dir = tmp_path / "warehouse"
    planted_in = [table for table in TABLES if table not in META_TABLES]  # publication itself writes those
    with run_lock(warehouse_dir, run_id="bad"):
        building = start_generation(warehouse_dir, run_id="bad")
        with duckdb.connect(str(building)) as con:
            create_tables(con, TABLES)
            con.execute("BEGIN")
            for table in planted_in:
                for rows in planted(table).values():
                    for row in rows:
                        insert(con, table, row)
            con.execute("COMMIT")
        with pytest.raises(ChecksFailed) as caught:
            publish_generation(
                warehouse_dir,
                building,
                tables=TABLES,
                run_id="bad",
                as_of_date=date(2026, 3, 2),
                business_zone="Asia/Shanghai",
                published_at=datetime(2026, 3, 2, 22, tzinfo=UTC),
            )
    promised = {(table.full_name, promise) for table in planted_in for promise in planted(table) if promise}
    assert {(violation.table, violation.rule) for violation in caught.value.violations} == promised  # type: ignore[attr-defined]
    with pytest.raises(WarehouseMissing):
        publication(warehouse_dir)
    assert [path.name for path in warehouse_dir.iterdir()] == [".lock"]


def test_a_refresh_that_looks_only_at_what_moved_catches_the_same_rows(stated_count: StatedCount) -> None:
    by_parts = {modelled.name for modelled in MODELLED if modelled.key}
    every = stated_count(small=6, stated=1)
    with duckdb.connect(":memory:") as con:
        create_tables(con, TABLES)
        parts = Parts(con, None, SOURCES)
        for target in TABLES:
            if target.full_name not in SOURCES and target.full_name not in by_parts:
                continue  # looked at whole, as in the daily run
            for promise, rows in list(planted(target).items())[1::every]:
                con.execute(f"DELETE FROM {target.full_name}")
                con.execute("DELETE FROM meta.changed_key")
                for row in rows:
                    insert(con, target, row)
                keys = SOURCES.get(target.full_name, {})
                if keys and all(rows[0][column] == "NULL" for column in keys.values()):
                    continue  # read by this key, it can't come without it
                for entity, column in keys.items():
                    con.execute(
                        f"INSERT INTO meta.changed_key SELECT DISTINCT '{entity}', {column} FROM {target.full_name} "
                        f"WHERE {column} IS NOT NULL"
                    )
                if target.full_name in by_parts:
                    parts._note(target, f"SELECT * FROM {parts.home}.{target.full_name}")
                assert promise in {violation.rule for violation in parts.violations([target])}, (target.full_name, rows)
