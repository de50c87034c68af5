"""One believable value per fact, for rendering every template."""

from __future__ import annotations

from typing import Any

from orders_core.notifications.templates import OPTIONAL, TEMPLATES

LINES = [
    {"sku": "TGY-250", "name": "铁观音 250 g", "qty": 3, "unit": "box"},
    {"sku": "CUP-12", "name": "茶杯", "qty": 1200, "unit": "each"},
]

EXAMPLES: dict[str, Any] = {
    "number": "SO-20261122-000317",
    "customer": "林记贸易",
    "recipient": "林小姐",
    "channel": "网店",
    "lines": LINES,
    "open_lines": [{"sku": "POT-01", "name": "紫砂壶", "qty": 2, "unit": "each"}],
    "total_cents": 241_800,
    "difference_cents": -5_050,
    "refund_cents": 1_234,
    "currency": "CNY",
    "promised_by_date": "2026-11-24",
    "previous_promised_by_date": "2026-11-23",
    "is_estimated": True,
    "reasons": [{"code": "customer_on_hold"}, {"code": "short", "sku": "POT-01", "short_qty": 1, "asked_qty": 2}],
    "delivery_method": "courier",
    "carrier": "顺丰速运",
    "tracking_numbers": ["SF1001", "SF1002"],
    "delivered_date": "2026-11-25",
    "reason": "客户地址改变",
    "return_number": "RA-20261122-000007",
    "is_approved": True,
    "return_to": "苏州市工业园区茶路 1 号",
    "ticket_number": "TK-20261122-000004",
    "subject": "杯子破了",
    "due_date": "2026-11-26",
    "solution": "已补发 2 个茶杯",
    "link": "https://shop.example/s/3f9c1d",
    "line": LINES[0],
    "substitute": {"sku": "TGY-500", "name": "铁观音 500 g", "qty": 2, "unit": "box"},
}


def example_facts(template: str, **changes: Any) -> dict[str, Any]:
    """Exactly the facts `template` declares, optional ones included, with some changed."""
    return {name: EXAMPLES[name] for name in declared(template)} | changes


def declared(template: str) -> frozenset[str]:
    """The facts a template needs or may use."""
    return TEMPLATES[template] | OPTIONAL.get(template, frozenset())
