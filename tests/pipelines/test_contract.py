"""The contract: each rule is counted, the docs page is what the declarations say, a word means one thing everywhere."""

import duckdb
import pytest

from pipelines.warehouse.contract import Column, Rule, Table, contract_hash, docs_page, key_check_name, row_checks
from pipelines.warehouse.docs import PAGE
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.write import create_tables

SKU = Column("sku", "VARCHAR", "Stock keeping unit.")
QTY = Column("ordered_qty", "INTEGER", "Units asked for.", "units", "ordered_qty > 0")
SHIPPED = Column("shipped_qty", "INTEGER", "Units sent.", "units", "shipped_qty >= 0", nullable=True)
LINE = Table(
    "core",
    "fct_line",
    "One row per line.",
    ("sku",),
    (SKU, QTY, SHIPPED),
    (Rule("shipped_qty <= ordered_qty", "nothing is sent that was not ordered"),),
)


def violations_of(rows: str) -> list[tuple[str, int]]:
    con = duckdb.connect(":memory:")
    create_tables(con, [LINE])
    con.execute(f"INSERT INTO core.fct_line VALUES {rows}")
    return sorted((violation.rule, violation.rows) for violation in find_violations(con, [LINE]))


def test_good_rows_break_nothing_and_an_allowed_null_is_good() -> None:
    assert violations_of("('A', 1, 1), ('B', 2, NULL)") == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("(NULL, 1, 1)", [("sku is present", 1)]),
        ("('A', 0, 0), ('B', -1, NULL)", [("ordered_qty > 0", 2)]),
        ("('A', 1, -1)", [("shipped_qty >= 0", 1)]),
        ("('A', 1, 2)", [("shipped_qty <= ordered_qty", 1)]),
        ("('A', 1, 1), ('A', 1, 1), ('B', 1, 1)", [("(sku) is unique", 2)]),
        ("('A', NULL, -1)", [("ordered_qty is present", 1), ("shipped_qty >= 0", 1)]),
    ],
)
def test_each_kind_of_bad_row_is_counted_under_the_rule_it_breaks(rows: str, expected: list[tuple[str, int]]) -> None:
    assert violations_of(rows) == expected


def test_a_violation_shows_rows_that_break_the_rule() -> None:
    con = duckdb.connect(":memory:")
    create_tables(con, [LINE])
    con.execute("INSERT INTO core.fct_line VALUES ('LAMP', 1, 2)")
    (violation,) = find_violations(con, [LINE])
    assert str(violation) == "core.fct_line: 1 rows break 'shipped_qty <= ordered_qty', such as sku=LAMP"


def test_every_declared_table_can_be_created_and_checked_while_empty() -> None:
    con = duckdb.connect(":memory:")
    create_tables(con, TABLES)
    assert find_violations(con, TABLES) == []


def test_a_column_name_has_one_type_one_unit_and_one_rule_everywhere() -> None:
    first: dict[str, Column] = {}
    for table in TABLES:
        for column in table.columns:
            other = first.setdefault(column.name, column)
            assert (column.type, column.unit, column.rule) == (other.type, other.unit, other.rule), (
                f"{table.full_name}.{column.name} is declared differently elsewhere"
            )


def test_every_table_says_its_grain_and_has_a_key_of_its_own_columns() -> None:
    for table in TABLES:
        assert table.grain.startswith("One row per "), table.full_name
        assert table.key, table.full_name
        assert set(table.key) <= set(table.column_names), table.full_name
        assert len(set(table.column_names)) == len(table.columns), table.full_name


def test_names_carry_their_unit_last() -> None:
    units = {"_cents": "cents", "_days": "days", "_at": "UTC", "_qty": "units", "_ratio": "ratio"}
    for table in TABLES:
        for column in table.columns:
            for ending, unit in units.items():
                if column.name.endswith(ending):
                    assert column.unit == unit, f"{table.full_name}.{column.name} should have the unit {unit}"


def test_the_hash_follows_promises_and_not_words() -> None:
    reworded = Table(LINE.schema, LINE.name, "One row per thing.", LINE.key, LINE.columns, LINE.rules)
    stricter = Table(LINE.schema, LINE.name, LINE.grain, LINE.key, LINE.columns, ())
    assert contract_hash([reworded]) == contract_hash([LINE])
    assert contract_hash([stricter]) != contract_hash([LINE])


def test_the_docs_page_is_what_the_declarations_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == docs_page(TABLES), "run python -m pipelines.warehouse.docs"


def test_names_of_promises_are_unique_within_a_table() -> None:
    for table in TABLES:
        names = [key_check_name(table), *(check.name for check in row_checks(table))]
        assert len(set(names)) == len(names), table.full_name
