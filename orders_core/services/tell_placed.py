"""What a new order tells: the customer's confirmation and likely delay, and the clerks where it needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import select

from orders_core.domain.rules import Rules
from orders_core.services.drafting import Draft
from orders_core.store.tables import Staff
from orders_core.store.uow import UnitOfWork


def tell_placed(
    uow: UnitOfWork,
    caller: Any,
    rules: Rules,
    draft: Draft,
    order_id: int,
    number: str,
    promised: date | None,
    is_estimated: bool,
    *,
    late_qty: int,
    reasons: Sequence[Mapping[str, Any]],
) -> None:
    """The customer's confirmation, the likely delay, and the clerks' notice; each once, in this transaction."""
    facts: dict[str, Any] = {
        "number": number,
        "customer": caller.name,
        "lines": [
            {
                "sku": x.sku.sku,
                "name": (x.sku.name_en or x.sku.name) if caller.language == "en" else x.sku.name,
                "qty": x.pack_qty,
                "unit": x.unit,
            }
            for x in draft.lines
            if x.kind != "component"
        ],
        "total_cents": draft.totals.total_cents,
        "currency": caller.currency,
        "promised_by_date": promised.isoformat() if promised else None,
        "is_estimated": is_estimated,
    }
    common = {"entity": "orders", "entity_id": order_id}
    uow.notify(
        "order_confirmation",
        dedupe_key=f"order_confirmation:{order_id}",
        recipient=caller.email,
        language=caller.language,
        facts=facts,
        **common,  # type: ignore[arg-type]
    )
    if late_qty:
        uow.notify(
            "order_delayed",
            dedupe_key=f"order_delayed:{order_id}:1",
            recipient=caller.email,
            language=caller.language,
            facts=facts,
            **common,  # type: ignore[arg-type]
        )
    if rules.notices.clerks and (reasons or rules.notices.tell_clerks == "all"):
        known = uow.rows(select(Staff.email, Staff.language).where(Staff.email.in_(rules.notices.clerks)))
        languages = {row.email: row.language for row in known}
        for clerk in rules.notices.clerks:
            uow.notify(
                "clerk_new_order",
                dedupe_key=f"clerk_new_order:{order_id}:{clerk}",
                recipient=clerk,
                language=languages.get(clerk, "zh"),  # a shared mailbox is nobody's
                facts={**facts, "reasons": list(reasons)},
                **common,  # type: ignore[arg-type]
            )
