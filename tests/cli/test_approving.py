"""What the desk and the command line share when suggestions are approved."""

from __future__ import annotations

from typing import Any

from apps.approving import totals_by_supplier, why_not, worth


def row(**fields: Any) -> dict[str, Any]:
    """A suggestion to buy ten lamps from ACORN at 5.00."""
    return {
        "sku": "LAMP", "location_code": "WH1", "suggested_qty": 10, "supplier_code": "ACORN", "supplier_name": "Acorn",
        "supply_kind": "purchase", "unit_cost_cents": 500, "currency": "GBP", **fields,
    }  # fmt: skip


def said(cents: int, currency: str) -> str:
    return f"{currency} {cents}"


def test_a_total_is_worded_only_when_costs_and_currency_are_known() -> None:
    for fields, words in (({}, "GBP 5000"), ({"currency": None}, None), ({"unit_cost_cents": None}, None)):
        (total,) = totals_by_supplier([(row(**fields), 10)])
        assert worth(total, said) == words


def test_what_cannot_be_approved_has_a_reason() -> None:
    assert why_not(row()) is None
    assert why_not(row(suggested_qty=0)) == "nothing"
    assert why_not(row(supplier_code=None)) == "no_supplier"
