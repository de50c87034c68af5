"""What the desk and the command line share when suggestions are approved."""

from __future__ import annotations

from datetime import date
from typing import Any

from apps.approving import suggested, totals_by_order, why_not, worth


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
        (total,) = totals_by_order([(row(**fields), 10)])
        assert worth(total, said) == words


def test_what_cannot_be_approved_has_a_reason() -> None:
    assert why_not(row()) is None
    assert why_not(row(suggested_qty=0)) == "nothing"
    assert why_not(row(supplier_code=None)) == "no_supplier"
    assert why_not(row(supplier_code=None, supply_kind="production")) is None


def test_what_we_make_is_ordered_from_no_supplier_and_added_up_apart() -> None:
    """A cake has a supplier for the days when we do not bake; now we do."""
    lamp, cake = row(), row(sku="CAKE", supply_kind="production")
    totals = totals_by_order([(cake, 4), (lamp, 10), (cake | {"sku": "PIE"}, 1)])
    assert [(one["is_made"], one["supplier_code"], one["lines"], one["qty"]) for one in totals] == [
        (False, "ACORN", 1, 10),
        (True, None, 2, 5),
    ]
    facts = {"reason_codes": [], "facts": "{}", "lead_time_days": 7, "grade": "A"}
    asked = suggested(cake | facts, as_of_date=date(2026, 3, 1))
    assert (asked.is_made, asked.supplier) == (True, None)
