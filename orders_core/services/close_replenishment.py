"""An order of ours is ended before all of it came, whether it is bought or made."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from orders_core.domain.permissions import Actor
from orders_core.errors import NotFound
from orders_core.services.production import CloseProductionOrder, ProductionState, close_production_order
from orders_core.services.receiving import ClosePurchaseOrder, PurchaseOrderState, close_purchase_order
from orders_core.store.tables import ProductionOrder, PurchaseOrder
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class CloseReplenishment:
    """Nothing more comes of the purchase order or production order of this number; `reason` is kept."""

    number: str
    reason: str


def close_replenishment(
    uow: UnitOfWork, actor: Actor, command: CloseReplenishment
) -> PurchaseOrderState | ProductionState:
    """End a purchase order or a production order: what has not come no longer counts as on order, what came stays.

    Closing it again changes nothing and answers with `is_repeat`.

    Raises:
        NotFound: no order of either kind has this number.
        PermissionDenied: the actor may not order, or is limited to other locations.
        NotAllowed: all of it has come, or it is made for a customer's order that waits for it.
    """
    actor.must("purchase.order")
    if uow.row(select(PurchaseOrder.id).where(PurchaseOrder.number == command.number)) is not None:
        return close_purchase_order(uow, actor, ClosePurchaseOrder(command.number, command.reason))
    if uow.row(select(ProductionOrder.id).where(ProductionOrder.number == command.number)) is not None:
        return close_production_order(uow, actor, CloseProductionOrder(command.number, command.reason))
    raise NotFound(entity="purchase or production order", key=command.number)
