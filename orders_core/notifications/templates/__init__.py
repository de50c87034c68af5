"""The notices there are, and the facts each of them needs.

A service queues a notice with `uow.notify(template, facts={…})`; the words are in `NAME.zh.jinja` and `NAME.en.jinja`
beside this file. A fact that is missing is an error, also when the text would happen not to use it. More facts than
these do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orders_core.errors import InvalidCommand

FACTS: dict[str, str] = {
    "number": "order number; None in a ticket that belongs to no order",
    "customer": "the customer's name, as we address them",
    "recipient": "who gets the goods",
    "channel": "name of the channel the order came in by",
    "lines": "[{sku, name, qty, unit}], the goods this notice is about; name in the notice's language",
    "open_lines": "[{sku, name, qty, unit}], what of the order is still to come; [] when that was all",
    "total_cents": "what the order costs now, in minor units of `currency`",
    "difference_cents": "new total less old total; above zero the customer pays more",
    "refund_cents": "money that goes back, 0 for none",
    "currency": "ISO code, CNY",
    "promised_by_date": "ISO date, or None while there is no date",
    "previous_promised_by_date": "ISO date promised before, or None",
    "is_estimated": "true unless the date is firm; the text says 'estimated'",
    "reasons": "[{code, …facts}] of domain.validation, why the order waits for review; [] when it does not",
    "delivery_method": "courier, own_truck or pick_up",
    "carrier": "the carrier's name, or None",
    "tracking_numbers": "[text], all of the order's numbers this notice is about; [] without carrier",
    "delivered_date": "ISO date of the (last) delivery",
    "reason": "a sentence for the customer, a code of domain.validation.OWN_REASONS, or None",
    "return_number": "number of the return",
    "is_approved": "whether the return was accepted",
    "return_to": "where to send the goods, one text, or None when nothing comes back",
    "ticket_number": "number of the ticket",
    "subject": "what the ticket is about, in the customer's words",
    "due_date": "ISO date by which we answer",
    "solution": "how the ticket was solved",
    "link": "secret link the customer answers by; None: by answering the mail",
    "line": "{sku, name, qty, unit}, the line that cannot be served",
    "substitute": "{sku, name, qty, unit}, what we offer instead",
}
"""What each fact means. Money is integer minor units, dates are ISO text (`date.isoformat()`)."""

_ORDER = {"number", "customer"}
_PROMISE = {"promised_by_date", "is_estimated"}
_PARCEL = {"carrier", "tracking_numbers"}

TEMPLATES: dict[str, frozenset[str]] = {
    "order_confirmation": frozenset({*_ORDER, *_PROMISE, "lines", "total_cents", "currency"}),
    "clerk_new_order": frozenset({*_ORDER, *_PROMISE, "lines", "total_cents", "currency", "reasons"}),
    "order_delayed": frozenset({*_ORDER, *_PROMISE, "lines"}),
    "stock_available": frozenset({*_ORDER, *_PROMISE, "lines"}),
    "order_approved": frozenset({*_ORDER, *_PROMISE}),
    "order_changed": frozenset({*_ORDER, *_PROMISE, "lines", "total_cents", "difference_cents", "currency"}),
    "order_cancelled": frozenset({*_ORDER, "reason", "refund_cents", "currency"}),
    "shipped": frozenset({*_ORDER, *_PROMISE, *_PARCEL, "recipient", "delivery_method", "lines", "open_lines"}),
    "arriving": frozenset({*_ORDER, *_PARCEL}),
    "delivered": frozenset({*_ORDER, *_PARCEL, "delivered_date"}),
    "delivery_exception": frozenset({*_ORDER, *_PARCEL, "reason"}),
    "refund_granted": frozenset({*_ORDER, "refund_cents", "currency", "reason"}),
    "return_decided": frozenset(
        {*_ORDER, "return_number", "is_approved", "reason", "lines", "refund_cents", "currency", "return_to"}
    ),
    "satisfaction_request": frozenset({*_ORDER, "link"}),
    "ticket_opened": frozenset({*_ORDER, "ticket_number", "subject", "due_date"}),
    "ticket_solved": frozenset({*_ORDER, "ticket_number", "subject", "solution"}),
    "substitute_offer": frozenset({*_ORDER, "line", "substitute", "difference_cents", "currency", "link"}),
}
"""Template -> the facts it needs."""

OPTIONAL: dict[str, frozenset[str]] = {
    "order_confirmation": frozenset({"recipient"}),
    "clerk_new_order": frozenset({"channel"}),
    "order_delayed": frozenset({"previous_promised_by_date"}),
}
"""Template -> facts it uses when they are given; left out is the same as None."""

FOR_STAFF = frozenset({"clerk_new_order"})
"""Written to colleagues: no greeting by name."""

ANSWERS = frozenset({"order_confirmation", "ticket_opened"}) | FOR_STAFF
"""Sent at any hour: an answer to what someone just did. All others stay quiet at night."""

JOINED = frozenset(
    {
        "order_approved",
        "order_changed",
        "order_delayed",
        "stock_available",
        "shipped",
        "arriving",
        "delivered",
        "delivery_exception",
        "refund_granted",
    }
)
"""News of an order: what is due for one order and reader at the same time goes out as one mail."""


def require_facts(template: str, facts: Mapping[str, Any]) -> None:
    """Refuse facts that `template` cannot be written from.

    Raises:
        InvalidCommand: No such template, or a fact is missing; names all that are.
    """
    if template not in TEMPLATES:
        raise InvalidCommand(
            field="template", problem="no_such_template", template=template, known=", ".join(TEMPLATES)
        )
    missing = sorted(TEMPLATES[template] - facts.keys())
    if missing:
        raise InvalidCommand(field=f"notice {template}", problem="facts_missing", missing=", ".join(missing))
