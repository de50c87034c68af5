"""What units that came back are worth, and the money that follows: their order costs less, what was paid above goes back.

Each line's share of what was paid for it is cumulated over its returns, so that parts never exceed the whole and the last
return takes the remainder.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.pricing import cancelled_cents
from orders_core.domain.returns import worth_cents
from orders_core.services.orders_state import order_for_change
from orders_core.services.refunds import take_off
from orders_core.store.tables import OrderLine, ReturnAuthorization, ReturnLine, Sku
from orders_core.store.uow import UnitOfWork

RETURN_LINES = (
    select(
        ReturnLine.id,
        ReturnLine.order_line_id,
        ReturnLine.sku_id,
        ReturnLine.qty,
        ReturnLine.received_qty,
        ReturnLine.restocked_qty,
        ReturnLine.repair_qty,
        ReturnLine.scrapped_qty,
        ReturnLine.refund_cents,
        ReturnLine.lot_id,
        OrderLine.line_no,
        OrderLine.kind,
        OrderLine.pack_qty,
        OrderLine.unit_price_cents,
        OrderLine.ordered_qty,
        OrderLine.cancelled_qty,
        OrderLine.shipped_qty,
        OrderLine.returned_qty,
        OrderLine.net_cents,
        OrderLine.tax_cents,
        OrderLine.refunded_cents.label("line_refunded_cents"),
        Sku.sku,
    )
    .join(OrderLine, OrderLine.id == ReturnLine.order_line_id)
    .join(Sku, Sku.id == ReturnLine.sku_id)
    .where(ReturnLine.return_id == bindparam("return_id"))
    .order_by(OrderLine.line_no)
)
"""One row per line of a return (`return_id`) with the facts of its order line, in the order's order."""


def book_line(uow: UnitOfWork, line: Any, qty: int, *, is_tax_on_top: bool, is_refunded: bool) -> int:
    """Count `qty` of a return line as back, on it and on its order line; returns what they are worth in cents."""
    cents = _worth(uow, line, qty, is_tax_on_top=is_tax_on_top) if is_refunded else 0
    uow.conn.execute(
        update(ReturnLine)
        .where(ReturnLine.id == line.id)
        .values(received_qty=ReturnLine.received_qty + qty, refund_cents=ReturnLine.refund_cents + cents)
    )
    uow.conn.execute(
        update(OrderLine)
        .where(OrderLine.id == line.order_line_id)
        .values(returned_qty=OrderLine.returned_qty + qty, refunded_cents=OrderLine.refunded_cents + cents)
    )
    return cents


def _worth(uow: UnitOfWork, line: Any, qty: int, *, is_tax_on_top: bool) -> int:
    """The share of the line's money for `qty` more units, cumulated over earlier returns of the line."""
    gone = cancelled_cents(
        line.pack_qty * line.unit_price_cents, ordered_qty=line.ordered_qty, cancelled_qty=line.cancelled_qty
    )
    whole = line.net_cents - gone + (line.tax_cents if is_tax_on_top else 0)
    standing_qty = line.ordered_qty - line.cancelled_qty
    before = uow.conn.execute(
        select(func.coalesce(func.sum(ReturnLine.received_qty), 0))
        .join(ReturnAuthorization, ReturnAuthorization.id == ReturnLine.return_id)
        .where(ReturnLine.order_line_id == line.order_line_id, ReturnAuthorization.is_refunded)
    ).scalar_one()
    worth = worth_cents(
        whole,
        ordered_qty=standing_qty,
        sent_free_qty=max(0, line.shipped_qty - standing_qty),
        came_back_qty=int(before) + qty,
    )
    return max(0, worth - int(line.line_refunded_cents))


def settle_worth(uow: UnitOfWork, actor: Actor, order: Any, rma: Any, worth: int) -> None:
    """The order's total falls by what came back; what was paid above it is refunded, credit owed falls."""
    take_off(
        uow,
        actor,
        order,
        code=f"return:{rma.number}",
        cents=worth,
        reason=rma.reason or "goods_returned",
        idem_key=f"return:{rma.id}:{rma.version}",
        return_id=rma.id,
    )


def refund_instead(uow: UnitOfWork, actor: Actor, exchange: Any) -> None:
    """Nothing is sent for goods that came back for exchange: their return becomes one for money, also for what is still
    to come. `exchange` is the row of the order that is no more."""
    rma = uow.row(
        select(ReturnAuthorization.__table__).where(
            ReturnAuthorization.order_id == exchange.source_order_id,
            ReturnAuthorization.exchange_order_id == exchange.id,
            ReturnAuthorization.kind == "exchange",
        )
    )
    if rma is None:
        return
    order = order_for_change(uow, order_id=rma.order_id)
    uow.conn.execute(
        update(ReturnAuthorization)
        .where(ReturnAuthorization.id == rma.id)
        .values(kind="return", is_refunded=True, version=ReturnAuthorization.version + 1)
    )
    worth = 0
    for line in uow.rows(RETURN_LINES, {"return_id": rma.id}):
        more = line.qty - line.received_qty if line.kind == "service" else 0  # a service does not come back by itself
        worth += book_line(uow, line, more, is_tax_on_top=order.tax_cents > 0, is_refunded=True)
    if worth:
        uow.conn.execute(
            update(ReturnAuthorization)
            .where(ReturnAuthorization.id == rma.id)
            .values(refund_cents=ReturnAuthorization.refund_cents + worth)
        )
        settle_worth(uow, actor, order, rma, worth)
    uow.changed("return_authorization", rma.id, rma.version + 1)
    facts = {"return": rma.number, "instead_of": exchange.number, "worth_cents": worth}
    uow.audit(actor, "return.refund_instead", "orders", order.id, facts=facts)
