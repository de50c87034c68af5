"""Who may do what: an actor, the roles, and the permission each service names."""

from __future__ import annotations

from dataclasses import dataclass, field

from orders_core.errors import PermissionDenied

ROLES: dict[str, frozenset[str]] = {
    "customer": frozenset(
        {
            "order.place",
            "order.edit",
            "order.cancel",
            "cart.change",
            "return.request",
            "invoice.request",
            "ticket.open",
        }
    ),
    "sales": frozenset(
        {
            "order.place",
            "order.edit",
            "order.cancel",
            "order.note",
            "cart.change",
            "return.request",
            "invoice.request",
            "ticket.open",
        }
    ),
    "clerk": frozenset(
        {
            "order.place",
            "order.edit",
            "order.cancel",
            "order.note",
            "order.approve",
            "order.hold",
            "order.split",
            "order.shortage",
            "service.perform",
            "cart.change",
            "return.request",
            "return.decide",
            "invoice.request",
            "ticket.open",
            "ticket.work",
            "customer.change",
            "tracking.record",
        }
    ),
    "warehouse": frozenset(
        {
            "stock.move",
            "stock.count",
            "stock.receive",
            "shipment.release",
            "shipment.pick",
            "shipment.ship",
            "shipment.deliver",
            "service.perform",
            "return.receive",
            "production.report",
            "tracking.record",
        }
    ),
    "planner": frozenset(
        {"purchase.order", "purchase.request", "catalogue.change", "stock.receive", "stock.count.approve"}
    ),
    "cashier": frozenset({"money.receive", "money.refund", "customer.credit", "invoice.request"}),
    "marketing": frozenset({"promotion.change"}),
}
"""Permissions per role. `manager` and `system` may do everything."""


@dataclass(frozen=True)
class Actor:
    """Who acts: a colleague, a customer, or the system.

    `customer_id` limits an actor to one customer's own data; `location_codes` (empty = all) to some locations.
    """

    name: str
    roles: frozenset[str] = frozenset()
    staff_id: int | None = None
    customer_id: int | None = None
    location_codes: frozenset[str] = field(default_factory=frozenset)

    def may(self, permission: str) -> bool:
        """Whether any of the actor's roles carries the permission."""
        if "manager" in self.roles or "system" in self.roles:
            return True
        return any(permission in ROLES.get(role, frozenset()) for role in self.roles)

    def must(self, permission: str) -> None:
        """Raise PermissionDenied unless the actor may."""
        if not self.may(permission):
            raise PermissionDenied(actor=self.name, permission=permission)

    @property
    def scope(self) -> str:
        """The caller an idempotency key belongs to."""
        return f"customer:{self.customer_id}" if self.customer_id is not None else f"actor:{self.name}"


SYSTEM = Actor("system", frozenset({"system"}))
"""The system itself: scheduled jobs, carrier events, automatic approval."""
