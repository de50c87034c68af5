"""From rows of the published plan to the command that buys them; the desk and the command line share it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from orders_core.services.approve_suggestions import TRUSTED_GRADES, Suggested

BY_MIN_MAX = {"min_max", "min_max_given"}
"""Reasons of a suggestion that goes by fixed levels instead of its forecast."""
_WATERFALL = ("_part_qty", "_days", "_ratio", "_qty")


def is_bulk(row: Mapping[str, Any]) -> bool:
    """Whether a suggestion may be approved together with others: its forecast is trusted, or is not what it goes by."""
    return row["grade"] in TRUSTED_GRADES or bool(BY_MIN_MAX & set(row["reason_codes"]))


def why_not(row: Mapping[str, Any]) -> str | None:
    """Why a suggestion can't be approved; None when it can.

    Returns:
        `nothing` (none is suggested) or `no_supplier` (nobody is known to sell it, and we don't make it).
    """
    if not row["suggested_qty"]:
        return "nothing"
    return "no_supplier" if row["supplier_code"] is None and not is_made(row) else None


def is_made(row: Mapping[str, Any]) -> bool:
    """Whether production makes it; plans kept from before this was told are of bought goods."""
    return row.get("supply_kind") == "production"


def series(row: Mapping[str, Any]) -> str:
    """How a suggestion is named, like LAMP@WH1."""
    return f"{row['sku']}@{row['location_code']}"


def terms_missed(row: Mapping[str, Any], qty: int) -> list[tuple[str, int]]:
    """What of its terms a quantity does not keep to, with the units of the term: `below_least` (the least order; of what
    we make `below_lot`) and `broken_pack`. A planner may have agreed otherwise, so it is said and not refused.

    >>> terms_missed({"moq_qty": 24, "pack_qty": 12}, 20)
    [('below_least', 24), ('broken_pack', 12)]
    """
    least, pack = row["moq_qty"] or 1, row["pack_qty"] or 1
    smallest = "below_lot" if is_made(row) else "below_least"
    missed = {smallest: (least, qty < least), "broken_pack": (pack, qty % pack > 0)}
    return [(name, units) for name, (units, is_missed) in missed.items() if is_missed]


def suggested(
    row: Mapping[str, Any], *, as_of_date: date, qty: int | None = None, reason: str | None = None
) -> Suggested:
    """The suggestion of a row of `pipelines.plan.suggestions`, with the quantity a planner makes of it."""
    facts = row["facts"]
    kept = {name: value for name, value in row.items() if name.endswith(_WATERFALL)}
    return Suggested(
        as_of_date=as_of_date,
        sku=row["sku"],
        location=row["location_code"],
        supplier=None if is_made(row) else row["supplier_code"],
        suggested_qty=row["suggested_qty"],
        qty=qty,
        reason=reason,
        unit_cost_cents=row["unit_cost_cents"],
        lead_time_days=row["lead_time_days"],
        grade=row["grade"],
        is_min_max=bool(BY_MIN_MAX & set(row["reason_codes"])),
        is_made=is_made(row),
        facts={
            **kept,
            "grade": row["grade"],
            "reason_codes": list(row["reason_codes"]),
            "facts": json.loads(facts) if isinstance(facts, str) else facts,
        },
    )


def worth(total: Mapping[str, Any], money: Callable[[int, str], str]) -> str | None:
    """A total's value worded by `money` (cents, currency); None while a cost or the currency is not known."""
    cents, currency = total["value_cents"], total["currency"]
    return None if cents is None or not currency else money(cents, currency)


def totals_by_order(rows: Sequence[tuple[Mapping[str, Any], int]]) -> list[dict[str, Any]]:
    """What (row, quantity) pairs come to, per supplier, place and currency: one purchase order each.

    What we make comes last, per place and currency, with no supplier and `is_made`: one production order per product.
    `lines` counts products, `qty` units; `value_cents` is None as soon as a cost is not known.
    """
    found: dict[tuple[bool, str, str, str], dict[str, Any]] = {}
    for row, qty in rows:
        by_us = is_made(row)
        supplier = None if by_us else row["supplier_code"]
        key = (by_us, supplier or "", row["location_code"], row["currency"] or "")
        total = found.setdefault(
            key,
            {
                "supplier_code": supplier, "supplier_name": None if by_us else row["supplier_name"], "is_made": by_us,
                "location_code": row["location_code"], "currency": row["currency"], "lines": 0, "qty": 0,
                "value_cents": 0,
            },
        )  # fmt: skip
        total["lines"] += 1
        total["qty"] += qty
        cost = row["unit_cost_cents"]
        known = total["value_cents"] is not None and cost is not None
        total["value_cents"] = total["value_cents"] + qty * cost if known else None
    return [found[key] for key in sorted(found)]
