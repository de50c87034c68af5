"""Codes to rows: the location or SKUs a command names, or a typed refusal that names them back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import Rules
from orders_core.errors import InvalidQuantity, NotAllowed, NotFound, PermissionDenied
from orders_core.services.drafting import MAX_QTY, rules_for
from orders_core.store.tables import Location, RuleSet, Sku
from orders_core.store.uow import UnitOfWork

_LOCATION = select(Location.__table__).where(Location.code == bindparam("code"))
_SKUS = select(Sku.__table__).where(Sku.sku.in_(bindparam("skus", expanding=True)))


def location_named(uow: UnitOfWork, actor: Actor, code: str) -> Any:
    """The location's row, when there is one and the actor works there.

    Raises:
        NotFound: no such location.
        PermissionDenied: the actor is limited to other locations.
    """
    row = uow.row(_LOCATION, {"code": code})
    if row is None:
        raise NotFound(entity="location", key=code)
    must_work_at(actor, code)
    return row


def must_work_at(actor: Actor, code: str) -> None:
    """Raise PermissionDenied when the actor is limited to other locations."""
    if actor.location_codes and code not in actor.location_codes:
        raise PermissionDenied(actor=actor.name, permission=f"location {code}")


def skus_named(uow: UnitOfWork, codes: Iterable[str]) -> Mapping[str, Any]:
    """SKU code -> row, for every code asked for.

    Raises:
        NotFound: some are not there; all of them are named.
    """
    wanted = sorted(set(codes))
    found = {row.sku: row for row in uow.rows(_SKUS, {"skus": wanted})}
    unknown = [code for code in wanted if code not in found]
    if unknown:
        raise NotFound(entity="SKU", key=", ".join(unknown), keys=unknown)
    return found


def must_be_qty(qty: Any, place: str, *, smallest: int = 1) -> None:
    """Raise InvalidQuantity unless `qty` is a whole number from `smallest` to 9,999,999."""
    if type(qty) is not int or not smallest <= qty <= MAX_QTY:
        raise InvalidQuantity(place=place, qty=qty)


def current_rules(uow: UnitOfWork) -> Rules:
    """The rules in force where no channel is involved; `review.rules_of` gives a channel's."""
    version = uow.conn.execute(select(RuleSet.version).where(RuleSet.is_current)).scalar_one()
    return rules_for(uow, version=version, channel_code="", policy=None)


def must_be_in(document: Any, action: str, statuses: Sequence[str], entity: str = "transfer") -> None:
    """Raise NotAllowed unless the document is in one of the stages."""
    if document.status not in statuses:
        raise NotAllowed(
            action=action,
            entity=entity,
            key=document.number,
            status=document.status,
            reason=f"it must be {' or '.join(statuses)}",
            reason_code="stage",
        )
