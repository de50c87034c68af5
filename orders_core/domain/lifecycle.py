"""Which stage an order is in, and who may do what when. One table; printed in docs/architecture.md.

The status is derived from quantities and a few facts, so an order cannot be stuck in a wrong one: whoever changes a
quantity calls `services.orders_state.sync_order`, which stores what `order_status` says for the queue to filter by.
"""

from __future__ import annotations

from dataclasses import dataclass

from orders_core.errors import NotAllowed


@dataclass(frozen=True)
class OrderFacts:
    """What the status is derived from. Quantities are sums over the lines that take stock, in base units; services
    (installation, a fee) take none and count when somebody says that they were performed."""

    is_cancelled: bool
    is_rejected: bool
    is_held: bool
    is_approved: bool
    is_in_warehouse: bool  # a pick list or a packed shipment exists
    ordered_qty: int  # less what was cancelled
    reserved_qty: int
    backordered_qty: int
    shipped_qty: int
    delivered_qty: int
    back_qty: int = 0  # sent, never delivered and returned, once nothing is on its way any more
    service_qty: int = 0  # ordered less what was cancelled
    performed_qty: int = 0


def order_status(facts: OrderFacts) -> str:
    """The headline status of an order."""
    if facts.is_cancelled:
        return "cancelled"
    if facts.is_rejected:
        return "rejected"
    goods_left_qty = facts.ordered_qty - facts.shipped_qty
    has_begun = facts.shipped_qty > 0 or facts.performed_qty > 0
    everything_left = goods_left_qty <= 0 and facts.performed_qty >= facts.service_qty
    if everything_left and (has_begun or facts.is_approved):
        if facts.delivered_qty + facts.back_qty >= facts.shipped_qty:
            return "delivered"
        return "partly_delivered" if facts.delivered_qty > 0 else "shipped"
    if facts.is_held:
        return "held"
    if not facts.is_approved:
        return "review"
    if has_begun:
        return "partly_shipped"
    if facts.is_in_warehouse:
        return "picking"
    if goods_left_qty > 0 and facts.backordered_qty >= goods_left_qty:  # nothing that is left can go
        return "waiting_stock"
    return "ready"


REASONS = {
    "waiting": ("it waits for review", "订单待审核"),
    "held": ("it is on hold", "订单已挂起"),
    "approved": ("it is approved already", "订单已审核"),
    "not_held": ("it is not on hold", "订单未挂起"),
    "no_stock": ("nothing of it is in stock yet", "暂无库存"),
    "in_warehouse": (
        "the warehouse is picking it; the picker is stopped by a cancel or a hold",
        "仓库正在拣货，请先取消或挂起",
    ),
    "gone": ("the goods have left", "货物已发出"),
    "delivered": ("it is delivered; open a return instead", "订单已送达，请走退货"),
    "not_gone": ("nothing of it has left yet", "尚未发货"),
    "cancelled": ("it is cancelled", "订单已取消"),
    "rejected": ("it was rejected", "订单已驳回"),
    "performed": ("no service of it is still to be performed", "没有待完成的服务"),
}
"""Why an action is not possible: (en, zh)."""

PERMISSIONS = {
    "edit": "order.edit",
    "readdress": "order.edit",
    "approve": "order.approve",
    "reject": "order.approve",
    "hold": "order.hold",
    "resume": "order.hold",
    "split": "order.split",
    "release": "shipment.release",
    "pick": "shipment.pick",
    "ship": "shipment.ship",
    "cancel": "order.cancel",
    "perform": "service.perform",
    "return": "return.request",
    "refund": "money.refund",
    "invoice": "invoice.request",
}
"""What can be done with an order, and the permission it takes (`permissions.ROLES` says who has it)."""

ACTIONS = tuple(PERMISSIONS)

_YES = ""
STAGES: dict[str, dict[str, str]] = {
    "review": dict(
        edit=_YES, readdress=_YES, approve=_YES, reject=_YES,
        hold=_YES, resume="not_held", split=_YES, release="waiting",
        pick="waiting", ship="waiting", cancel=_YES, perform="waiting",
        **{"return": "not_gone"}, refund=_YES, invoice="waiting",
    ),
    "held": dict(
        edit=_YES, readdress=_YES, approve="held", reject=_YES,
        hold="held", resume=_YES, split=_YES, release="held",
        pick="held", ship="held", cancel=_YES, perform="held",
        **{"return": _YES}, refund=_YES, invoice="held",
    ),
    "waiting_stock": dict(
        edit=_YES, readdress=_YES, approve="approved", reject="approved",
        hold=_YES, resume="not_held", split=_YES, release="no_stock",
        pick="no_stock", ship="no_stock", cancel=_YES, perform=_YES,
        **{"return": "not_gone"}, refund=_YES, invoice=_YES,
    ),
    "ready": dict(
        edit=_YES, readdress=_YES, approve="approved", reject="approved",
        hold=_YES, resume="not_held", split=_YES, release=_YES,
        pick=_YES, ship=_YES, cancel=_YES, perform=_YES,
        **{"return": "not_gone"}, refund=_YES, invoice=_YES,
    ),
    "picking": dict(
        edit="in_warehouse", readdress="in_warehouse", approve="approved", reject="approved",
        hold=_YES, resume="not_held", split="in_warehouse", release=_YES,
        pick=_YES, ship=_YES, cancel=_YES, perform=_YES,
        **{"return": "not_gone"}, refund=_YES, invoice=_YES,
    ),
    "partly_shipped": dict(
        edit=_YES, readdress=_YES, approve="approved", reject="gone",
        hold=_YES, resume="not_held", split=_YES, release=_YES,
        pick=_YES, ship=_YES, cancel=_YES, perform=_YES,
        **{"return": _YES}, refund=_YES, invoice=_YES,
    ),
    "shipped": dict(
        edit=_YES, readdress="gone", approve="approved", reject="gone",
        hold="gone", resume="not_held", split="gone", release="gone",
        pick="gone", ship="gone", cancel="gone", perform="performed",
        **{"return": _YES}, refund=_YES, invoice=_YES,
    ),
    "partly_delivered": dict(
        edit=_YES, readdress="gone", approve="approved", reject="gone",
        hold="gone", resume="not_held", split="gone", release="gone",
        pick="gone", ship="gone", cancel="gone", perform="performed",
        **{"return": _YES}, refund=_YES, invoice=_YES,
    ),
    "delivered": dict(
        edit=_YES, readdress="delivered", approve="approved", reject="delivered",
        hold="delivered", resume="not_held", split="delivered", release="delivered",
        pick="delivered", ship="delivered", cancel="delivered", perform="performed",
        **{"return": _YES}, refund=_YES, invoice=_YES,
    ),
    "cancelled": dict(
        edit="cancelled", readdress="cancelled", approve="cancelled", reject="cancelled",
        hold="cancelled", resume="cancelled", split="cancelled", release="cancelled",
        pick="cancelled", ship="cancelled", cancel="cancelled", perform="cancelled",
        **{"return": _YES}, refund=_YES, invoice="cancelled",
    ),
    "rejected": dict(
        edit="rejected", readdress="rejected", approve="rejected", reject="rejected",
        hold="rejected", resume="rejected", split="rejected", release="rejected",
        pick="rejected", ship="rejected", cancel="rejected", perform="rejected",
        **{"return": "rejected"}, refund=_YES, invoice="rejected",
    ),
}  # fmt: skip
"""Stage × action: empty = allowed, else the reason why not. Adding units to a delivered order reopens it by edit."""


def why_not(action: str, status: str, *, has_left: bool = False) -> str | None:
    """The reason code why `action` is not possible in `status`, or None when it is.

    What has left can come back in any stage, also of an order whose rest waits for review again.

    >>> why_not("cancel", "shipped"), why_not("approve", "review"), why_not("return", "review", has_left=True)
    ('gone', None, None)
    """
    if action == "return" and has_left:
        return None
    return STAGES[status][action] or None


def must_allow(action: str, *, status: str, key: str, entity: str = "order", has_left: bool = False) -> None:
    """Raise NotAllowed with the reason unless the stage × action table allows it."""
    reason = why_not(action, status, has_left=has_left)
    if reason is not None:
        raise NotAllowed(
            action=action,
            entity=entity,
            key=key,
            status=status,
            reason=REASONS[reason][0],
            reason_zh=REASONS[reason][1],
            reason_code=reason,
        )
