"""What a column and a table of the warehouse promise, and what follows from the promise.

A column is declared once (`pipelines.warehouse.tables`), a table lists columns, its grain and its key. From that one
declaration come the DDL, the query that counts every broken promise, the text of docs/warehouse.md, the types of the
readers, and a hash that tells whether the promise has changed since a generation was built.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.sql import literal


@dataclass(frozen=True)
class Column:
    """One named quantity or fact, with the same meaning wherever it appears.

    Attributes:
        name: As in the glossary; the unit comes last.
        type: DuckDB type.
        meaning: One sentence for the docs page.
        unit: Such as "units", "cents", "days", "UTC"; empty for names and codes.
        rule: SQL that must not be false for any row. NULL passes: whether NULL is allowed is `nullable`.
        nullable: True if the value may be unknown; the meaning says what unknown means.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""
    rule: str = ""
    nullable: bool = False

    def or_null(self, when: str) -> "Column":
        """The same column where it may be unknown; `when` says when it is."""
        return replace(self, nullable=True, meaning=f"{self.meaning} Empty {when}.")


@dataclass(frozen=True)
class Rule:
    """Something that must hold between the columns of one row: SQL that must not be false, and why."""

    sql: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """One table of the warehouse.

    Attributes:
        schema: raw, core, mart or meta.
        name: With its prefix, such as `fct_order_line`.
        grain: "One row per …".
        key: Columns that together are unique.
        columns: In order.
        rules: Promises between columns.
    """

    schema: str
    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()

    @property
    def full_name(self) -> str:
        """Schema and name, as written in SQL."""
        return f"{self.schema}.{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in declared order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Check:
    """One promise that can be counted: `bad_sql` is true for a row that breaks it."""

    name: str
    bad_sql: str


@dataclass(frozen=True)
class Violation:
    """How often a table breaks one promise, with up to three rows that do."""

    table: str
    rule: str
    rows: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = f", such as {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.table}: {self.rows} rows break '{self.rule}'{shown}"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def ddl(table: Table) -> str:
    """CREATE TABLE for `table`.

    Promises are checked after the build by one query, not row by row by constraints: DuckDB's indexes would double the
    load time, and one refused row would hide all the others.
    """
    lines = ",\n  ".join(f"{_name(column.name)} {column.type}" for column in table.columns)
    return f"CREATE TABLE {table.full_name} (\n  {lines}\n)"


def create_sql(tables: Sequence[Table]) -> list[str]:
    """Statements that create every schema and table, in order."""
    schemas = dict.fromkeys(table.schema for table in tables)
    return [f"CREATE SCHEMA IF NOT EXISTS {schema}" for schema in schemas] + [ddl(table) for table in tables]


def row_checks(table: Table) -> list[Check]:
    """The promises of `table` that one row can break: values present, column rules, rules between columns."""
    checks = [
        Check(f"{column.name} is present", f"{_name(column.name)} IS NULL")
        for column in table.columns
        if not column.nullable
    ]
    checks += [Check(column.rule, f"NOT ({column.rule})") for column in table.columns if column.rule]
    checks += [Check(rule.sql, f"NOT ({rule.sql})") for rule in table.rules]
    return checks


def key_check_name(table: Table) -> str:
    """How a repeated key is named in a violation."""
    return f"({', '.join(table.key)}) is unique"


def violations_sql(table: Table) -> str:
    """One query giving (rule, rows) for every promise of `table` that is broken, nothing when all hold."""
    counts = ",\n    ".join(
        f"count(*) FILTER (WHERE {check.bad_sql}) AS {_name(f'c{number}')}"
        for number, check in enumerate(row_checks(table))
    )
    named = "\n    ".join(
        f"UNION ALL SELECT {literal(check.name)}, c{number} FROM counted"
        for number, check in enumerate(row_checks(table))
    )
    key = ", ".join(_name(name) for name in table.key)
    return f"""
  WITH counted AS (SELECT
    {counts}
    FROM {table.full_name}),
  repeated AS (SELECT count(*) AS times FROM {table.full_name} GROUP BY {key} HAVING count(*) > 1)
  SELECT * FROM (
    SELECT {literal(key_check_name(table))} AS rule, coalesce(sum(times), 0)::BIGINT AS rows FROM repeated
    {named}
  ) WHERE rows > 0"""


def examples_sql(table: Table, rule: str) -> str:
    """A query giving up to three rows, as text, that break `rule` (a name out of `violations_sql`)."""
    key = ", ".join(_name(name) for name in table.key)
    shown = f"SELECT {key} FROM {table.full_name}"
    if rule == key_check_name(table):
        return f"SELECT {key}, count(*) AS times FROM {table.full_name} GROUP BY {key} HAVING count(*) > 1 LIMIT 3"
    bad_sql = next(check.bad_sql for check in row_checks(table) if check.name == rule)
    return f"{shown} WHERE {bad_sql} LIMIT 3"


def contract_hash(tables: Sequence[Table]) -> str:
    """A fingerprint of what the tables are and promise; rewording a meaning leaves it as it is."""
    facts = [
        {
            "table": table.full_name,
            "key": table.key,
            "columns": [(c.name, c.type, c.unit, c.rule, c.nullable) for c in table.columns],
            "rules": [rule.sql for rule in table.rules],
        }
        for table in tables
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def docs_page(tables: Sequence[Table]) -> str:
    """The whole of docs/warehouse.md."""
    parts = [
        "# The warehouse, table by table",
        "",
        "Written by `python -m pipelines.warehouse.docs`; do not edit by hand, change `pipelines/warehouse/tables.py`.",
        "A rule is SQL that no row may break; a broken rule stops publication and the previous generation stays live.",
        f"Contract `{contract_hash(tables)}`.",
    ]
    for table in tables:
        parts += ["", f"## {table.full_name}", "", f"{table.grain} Key: {', '.join(f'`{k}`' for k in table.key)}.", ""]
        parts += ["| column | type | unit | meaning | rule |", "| --- | --- | --- | --- | --- |"]
        for column in table.columns:
            promises = [] if column.nullable else ["present"]
            promises += [f"`{column.rule}`"] if column.rule else []
            rule = "; ".join(promises).replace("|", "\\|")
            meaning = column.meaning.replace("|", "\\|")
            parts.append(f"| `{column.name}` | {column.type} | {column.unit} | {meaning} | {rule} |")
        parts += [f"\nRule: `{rule.sql}`: {rule.meaning}" for rule in table.rules]
    return "\n".join(parts) + "\n"
