"""Who may do what: an actor, the roles, and the permission each service names."""

from __future__ import annotations

from dataclasses import dataclass, field

from orders_core.errors import NotFound, PermissionDenied

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
        {
            "forecast.override",
            "purchase.order",
            "purchase.request",
            "catalogue.change",
            "stock.receive",
            "stock.count.approve",
        }
    ),
    "cashier": frozenset({"money.receive", "money.refund", "customer.credit", "invoice.request"}),
    "marketing": frozenset({"promotion.change"}),
}
"""Permissions per role. `manager` and `system` may do everything."""


@dataclass(frozen=True)
class Actor:
    """Who acts: a colleague, a customer, or the system.

    `customer_id` is whose data a customer may touch; a guest is a customer without one and owns nothing yet.
    `location_codes` (empty = all) limits an actor to some locations.
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
    def is_customer(self) -> bool:
        """Whether this is a customer or a guest, and none of us."""
        return "customer" in self.roles or self.customer_id is not None

    def owns(self, customer_id: int | None) -> bool:
        """Whether the actor may touch what belongs to this customer: one of us always, a customer only his own."""
        return not self.is_customer or (customer_id is not None and customer_id == self.customer_id)

    def must_own(self, customer_id: int | None, *, entity: str, key: object) -> None:
        """Raise NotFound, as if it were not there, unless the actor may touch what belongs to this customer."""
        if not self.owns(customer_id):
            raise NotFound(entity=entity, key=key)

    @property
    def scope(self) -> str:
        """The caller an idempotency key belongs to."""
        return f"customer:{self.customer_id}" if self.customer_id is not None else f"actor:{self.name}"


SYSTEM = Actor("system", frozenset({"system"}))
"""The system itself: scheduled jobs, carrier events, automatic approval."""
