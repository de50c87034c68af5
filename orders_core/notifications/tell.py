"""Queue a notice to the customer of an order, or to colleagues: recipient, language and the usual facts looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, select

from orders_core.notifications.templates import OPTIONAL, TEMPLATES, require_facts
from orders_core.store.prepared import Prepared
from orders_core.store.tables import Customer, CustomerContact, Order, OrderLine, Sku, Staff
from orders_core.store.uow import UnitOfWork

_ORDER = Prepared(
    select(
        Order.number,
        Order.origin,
        Order.language,
        Order.recipient,
        Order.currency,
        Order.total_cents,
        Order.promised_by_date,
        Order.is_promise_estimated,
        Order.delivery_method,
        Customer.name.label("customer"),
        CustomerContact.email,
    )
    .join(Customer, Customer.id == Order.customer_id)
    .outerjoin(CustomerContact, and_(CustomerContact.customer_id == Customer.id, CustomerContact.is_primary))
    .where(Order.id == bindparam("order_id"))
)
_ORDERED = Prepared(
    select(
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.base_unit,
        OrderLine.unit,
        OrderLine.units_per_pack,
        (OrderLine.ordered_qty - OrderLine.cancelled_qty).label("qty"),
    )
    .join(Sku, Sku.id == OrderLine.sku_id)
    .where(
        OrderLine.order_id == bindparam("order_id"),
        OrderLine.kind != "component",
        OrderLine.ordered_qty > OrderLine.cancelled_qty,
    )
    .order_by(OrderLine.line_no)
)
_STAFF = Prepared(select(Staff.id, Staff.email, Staff.language, Staff.roles).where(Staff.is_active))


def tell_customer(
    uow: UnitOfWork,
    template: str,
    order_id: int,
    *,
    dedupe_key: str,
    not_before: datetime | None = None,
    **facts: Any,
) -> None:
    """Queue a notice to the customer of an order, in the order's language and in this transaction.

    Number, customer, recipient, currency, total, dates, delivery method and the order's lines come from the order as it
    is now, unless given. Nobody is told of imported history, nor where the customer's main contact has no mail address.

    Raises:
        InvalidCommand: No such template, or it needs a fact that is neither given nor the order's.
    """
    (order,) = uow.rows(_ORDER, {"order_id": order_id})
    known: dict[str, Any] = {
        "number": order.number,
        "customer": order.customer,
        "recipient": order.recipient or order.customer,
        "currency": order.currency,
        "total_cents": order.total_cents,
        "promised_by_date": order.promised_by_date.isoformat() if order.promised_by_date else None,
        "is_estimated": order.is_promise_estimated,
        "delivery_method": order.delivery_method,
        **facts,
    }
    if "lines" in TEMPLATES.get(template, ()) and "lines" not in facts:
        known["lines"] = ordered_lines(uow, order_id, order.language)
    require_facts(template, known)
    if order.origin == "history":
        return
    uow.notify(
        template,
        dedupe_key=dedupe_key,
        recipient=order.email,
        language=order.language,
        facts={
            name: known[name] for name in known if name in TEMPLATES[template] | OPTIONAL.get(template, frozenset())
        },
        entity="orders",
        entity_id=order_id,
        not_before=not_before,
    )


def tell_staff(
    uow: UnitOfWork,
    template: str,
    roles: Iterable[str],
    *,
    dedupe_key: str,
    facts: Mapping[str, Any],
    order_id: int | None = None,
) -> None:
    """Queue a notice to each active colleague with one of the roles and a mail address, in the colleague's language.

    Raises:
        InvalidCommand: No such template, or a fact is missing.
    """
    require_facts(template, facts)
    wanted = set(roles)
    for colleague in uow.rows(_STAFF):
        if wanted.isdisjoint(colleague.roles):
            continue
        uow.notify(
            template,
            dedupe_key=f"{dedupe_key}:{colleague.id}",
            recipient=colleague.email,
            language=colleague.language,
            facts=facts,
            entity="orders" if order_id is not None else None,
            entity_id=order_id,
        )


def ordered_lines(uow: UnitOfWork, order_id: int, language: str) -> list[dict[str, Any]]:
    """What of an order still stands, as the customer entered it: [{sku, name, qty, unit}]. A kit is one line."""
    return [
        line_facts(
            row.sku,
            row.name_en if language == "en" and row.name_en else row.name,
            qty=row.qty,
            unit=row.unit,
            units_per_pack=row.units_per_pack,
            base_unit=row.base_unit,
        )
        for row in uow.rows(_ORDERED, {"order_id": order_id})
    ]


def line_facts(sku: str, name: str, *, qty: int, unit: str, units_per_pack: int, base_unit: str) -> dict[str, Any]:
    """`qty` base units of a line as a notice says them: in the line's own unit, or in base units when a pack is broken.

    >>> line_facts("TEA", "tea", qty=24, unit="box", units_per_pack=12, base_unit="each")
    {'sku': 'TEA', 'name': 'tea', 'qty': 2, 'unit': 'box'}
    >>> line_facts("TEA", "tea", qty=25, unit="box", units_per_pack=12, base_unit="each")["unit"]
    'each'
    """
    packs, rest = divmod(qty, units_per_pack)
    if rest:
        return {"sku": sku, "name": name, "qty": qty, "unit": base_unit}
    return {"sku": sku, "name": name, "qty": packs, "unit": unit}
