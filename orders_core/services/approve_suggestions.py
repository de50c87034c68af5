"""Approved suggestions become orders, each suggestion once, whoever clicks, until its order is closed with nothing received.

What is bought: one purchase order per supplier and place. What we make: one production order each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import insert, select

from orders_core.domain.permissions import Actor
from orders_core.errors import InvalidCommand, NotInBulk, SuggestionOld, SuggestionOvertaken
from orders_core.services.idempotency import is_repeat
from orders_core.services.lookups import location_named, must_be_qty, skus_named
from orders_core.services.production import Wanted, open_production_orders
from orders_core.services.receiving import CreatePurchaseOrder, PurchaseLine, create_purchase_order
from orders_core.store.queries import approved_suggestions
from orders_core.store.tables import (
    PurchaseOrder,
    PurchaseOrderLine,
    Sku,
    SuggestionApproval,
)
from orders_core.store.uow import UnitOfWork

TRUSTED_GRADES = ("A", "B")


@dataclass(frozen=True)
class Suggested:
    """One suggestion of the plan of `as_of_date`, and what the planner makes of it.

    Attributes:
        as_of_date, sku, location: Which suggestion; it is approved once.
        supplier: Whom to buy from (code); None when nobody is known to sell it, or it is made.
        suggested_qty: Base units, as suggested.
        qty: Base units to buy or make; as suggested when None. Another number needs a `reason`.
        unit_cost_cents: What the planner saw; the supplier's price when None.
        lead_time_days: Order to shelf; the line is expected, or the production order due, then.
        grade: Trust in the forecast, A to D; None when it has none.
        is_min_max: The quantity comes from fixed levels for a cheap product, so its grade does not matter.
        is_made: Production makes it; as the plan knew the SKU.
        facts: The suggestion's other numbers (its waterfall), kept with the purchase order's line.
    """

    as_of_date: date
    sku: str
    location: str
    supplier: str | None
    suggested_qty: int
    qty: int | None = None
    reason: str | None = None
    unit_cost_cents: int | None = None
    lead_time_days: int | None = None
    grade: str | None = None
    is_min_max: bool = False
    is_made: bool = False
    facts: Mapping[str, Any] | None = None

    @property
    def approved_qty(self) -> int:
        return self.suggested_qty if self.qty is None else self.qty


@dataclass(frozen=True)
class ApproveSuggestions:
    """Buy or make what these suggestions say.

    `newest_plan_date` is the day of the newest plan there is; None lets suggestions of any plan through, and those that a
    later order has overtaken.
    """

    suggestions: Sequence[Suggested]
    newest_plan_date: date | None
    idem_key: str | None = None


@dataclass(frozen=True)
class Approved:
    """What became of one suggestion; `is_repeat` when it was approved before, with the quantity of then.

    Either `purchase_order` or `production_order` is its number, the other is None.
    """

    as_of_date: date
    sku: str
    location: str
    qty: int
    purchase_order: str | None
    production_order: str | None
    approved_by: str
    is_repeat: bool = False

    @property
    def number(self) -> str:
        """Of the order it became."""
        return self.purchase_order or self.production_order or ""


@dataclass(frozen=True)
class ApprovedSuggestions:
    """One entry per suggestion, in the order asked; the numbers behind them are given oldest first."""

    approved: tuple[Approved, ...]
    purchase_orders: tuple[str, ...]
    production_orders: tuple[str, ...]
    is_repeat: bool = False


Key = tuple[date, str, str]


def approve_suggestions(uow: UnitOfWork, actor: Actor, command: ApproveSuggestions) -> ApprovedSuggestions:
    """Make one purchase order per supplier and place, and one production order per made SKU and place, of the suggestions
    that nobody approved yet.

    A suggestion (day, SKU, location) approved before keeps its order and quantity, whoever asks again: the answer names it.
    Once that order was closed and nothing of it had come the suggestion is open again, but not for the command that was sent
    before: its `idem_key` orders once.
    Everything is ordered, or nothing. Who may order from suppliers may have a suggestion made, too.

    Raises:
        NotFound: no such SKU, location or supplier.
        NotInBulk: several at once, and some are of grade C, D or none and not by min/max.
        SuggestionOld, SuggestionOvertaken: not of the newest plan, or another one was ordered since it was made.
        InvalidCommand: nothing named, one named twice, no supplier, a SKU that is made by now or no longer is,
            another quantity without a reason.
        InvalidQuantity: not 1 to 9,999,999 units.
    """
    actor.must("purchase.order")
    if not command.suggestions:
        raise InvalidCommand(field="suggestions", problem="nothing_to_approve")
    places = {
        code: location_named(uow, actor, code) for code in sorted({asked.location for asked in command.suggestions})
    }
    is_sent_again = is_repeat(uow, actor, "suggestions.approve", command)  # the key with another body is refused
    skus = skus_named(uow, [asked.sku for asked in command.suggestions])
    sku_ids = sorted(sku.id for sku in skus.values())
    if not uow.is_sqlite:  # who approves the same SKU waits, and then sees what was approved
        uow.rows(select(Sku.id).where(Sku.id.in_(sku_ids)).order_by(Sku.id).with_for_update(key_share=True))
    asked_keys = [_key(asked) for asked in command.suggestions]
    _must_differ(asked_keys)
    known = _known(uow, sku_ids, command.suggestions, withdrawn_too=is_sent_again)
    new = [asked for asked in command.suggestions if _key(asked) not in known]
    _must_be_trusted(command.suggestions, new)
    for asked in new:
        _must_be_sound(asked, skus[asked.sku])
    if command.newest_plan_date is not None:
        _must_be_newest(uow, new, sku_ids, command.newest_plan_date)
    groups: dict[tuple[str, str], list[Suggested]] = defaultdict(list)
    for asked in new:
        if not asked.is_made:
            groups[asked.supplier or "", asked.location].append(asked)
    for (supplier, place), members in sorted(groups.items()):
        _buy(uow, actor, supplier, place, members)
    _make(uow, actor, [asked for asked in new if asked.is_made], skus, places)
    if new:  # what was approved before stays in the answer, also when somebody closed it since we looked
        known |= _known(uow, sku_ids, command.suggestions)
    repeated = set(asked_keys) - {_key(asked) for asked in new}
    approved = tuple(
        Approved(
            *key,
            qty=known[key].approved_qty,
            purchase_order=None if known[key].is_made else known[key].number,
            production_order=known[key].number if known[key].is_made else None,
            approved_by=known[key].approved_by,
            is_repeat=key in repeated,
        )
        for key in asked_keys
    )
    oldest_first = sorted({known[key].order_id: known[key] for key in asked_keys}.items())
    bought = tuple(row.number for _, row in oldest_first if not row.is_made)
    made = tuple(row.number for _, row in oldest_first if row.is_made)
    return ApprovedSuggestions(approved, bought, made, is_repeat=not new)


def _key(asked: Suggested) -> Key:
    return asked.as_of_date, asked.sku, asked.location


def _must_differ(keys: Sequence[Key]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise InvalidCommand(field="suggestions", problem="suggested_twice", sku=key[1], location=key[2])
        seen.add(key)


def _known(
    uow: UnitOfWork, sku_ids: Sequence[int], asked: Sequence[Suggested], *, withdrawn_too: bool = False
) -> dict[Key, Any]:
    """What is approved of these days, SKUs and places, with the order of each; `withdrawn_too`: or was, the last time."""
    days = sorted({one.as_of_date for one in asked})
    query = approved_suggestions().where(
        SuggestionApproval.as_of_date.in_(days), SuggestionApproval.sku_id.in_(sku_ids)
    )
    if not withdrawn_too:
        query = query.where(SuggestionApproval.withdrawn_at.is_(None))
    rows = uow.rows(query.order_by(SuggestionApproval.id))
    return {(row.as_of_date, row.sku, row.location_code): row for row in rows}


def _must_be_trusted(asked: Sequence[Suggested], new: Sequence[Suggested]) -> None:
    """Several at once are approved unseen, so their forecasts must deserve it."""
    doubtful = [one.sku for one in new if one.grade not in TRUSTED_GRADES and not one.is_min_max]
    if doubtful and len(asked) > 1:
        raise NotInBulk(skus=", ".join(sorted(set(doubtful))))


def _must_be_sound(asked: Suggested, sku: Any) -> None:
    must_be_qty(asked.approved_qty, f"{asked.sku}@{asked.location}")
    is_made_now = sku.supply_mode == "make"  # it may have changed after the plan was made
    if asked.is_made and not is_made_now:
        raise InvalidCommand(field="suggestions", problem="bought_not_made", sku=asked.sku)
    if is_made_now and not asked.is_made:
        raise InvalidCommand(field="suggestions", problem="made_not_bought", sku=asked.sku)
    if asked.supplier is None and not asked.is_made:
        raise InvalidCommand(field="suggestions", problem="no_supplier", sku=asked.sku)
    if asked.approved_qty != asked.suggested_qty and not (asked.reason or "").strip():
        raise InvalidCommand(
            field="reason",
            problem="change_without_reason",
            approved_qty=asked.approved_qty,
            suggested_qty=asked.suggested_qty,
        )


def _must_be_newest(uow: UnitOfWork, new: Sequence[Suggested], sku_ids: Sequence[int], newest: date) -> None:
    """No suggestion is of an older plan, or made before its SKU was last ordered for that place by another one."""
    for asked in new:
        if asked.as_of_date < newest:
            raise SuggestionOld(
                sku=asked.sku, location=asked.location, as_of_date=str(asked.as_of_date), newest_date=str(newest)
            )
    oldest = min((asked.as_of_date for asked in new), default=newest)
    ordered: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in uow.rows(
        approved_suggestions()
        .where(
            SuggestionApproval.sku_id.in_(sku_ids),
            SuggestionApproval.business_date > oldest,
            SuggestionApproval.withdrawn_at.is_(None),
        )
        .order_by(SuggestionApproval.id.desc())
    ):
        ordered[row.sku, row.location_code].append(row)
    for asked in new:
        for later in ordered[asked.sku, asked.location]:
            if later.as_of_date != asked.as_of_date and later.business_date > asked.as_of_date:
                raise SuggestionOvertaken(
                    sku=asked.sku,
                    location=asked.location,
                    number=later.number,
                    ordered_qty=later.approved_qty,
                    ordered_date=str(later.business_date),
                    as_of_date=str(asked.as_of_date),
                )


def _buy(
    uow: UnitOfWork,
    actor: Actor,
    supplier: str,
    place: str,
    members: Sequence[Suggested],
) -> None:
    """One purchase order, and for each of its lines the suggestion it came from."""
    lines = [
        PurchaseLine(
            asked.sku,
            asked.approved_qty,
            unit_cost_cents=asked.unit_cost_cents,
            expected_date=_expected(uow, asked),
            suggestion={
                **(asked.facts or {}),
                "as_of_date": asked.as_of_date.isoformat(),
                "suggested_qty": asked.suggested_qty,
                "approved_by": actor.name,
                "reason": asked.reason,
            },
        )
        for asked in members
    ]
    days = {asked.as_of_date.isoformat() for asked in members}
    command = CreatePurchaseOrder(supplier, place, lines, source_run_key=f"plan {', '.join(sorted(days))}")
    made = create_purchase_order(uow, actor, command, approved_by=actor.name)
    made_lines = uow.rows(
        select(PurchaseOrderLine.id, PurchaseOrderLine.sku_id, PurchaseOrder.location_id)
        .join(PurchaseOrder, PurchaseOrder.id == PurchaseOrderLine.purchase_order_id)
        .where(PurchaseOrderLine.purchase_order_id == made.purchase_order_id)
        .order_by(PurchaseOrderLine.line_no)
    )
    _keep(
        uow,
        actor,
        [
            (asked, {"sku_id": line.sku_id, "location_id": line.location_id, "purchase_order_line_id": line.id})
            for asked, line in zip(members, made_lines, strict=True)
        ],
    )
    facts = {"number": made.number, "suggestions": [_named(one) for one in members]}
    uow.audit(actor, "suggestion.approve", "purchase_order", made.purchase_order_id, facts=facts)


def _make(
    uow: UnitOfWork,
    actor: Actor,
    members: Sequence[Suggested],
    skus: Mapping[str, Any],
    places: Mapping[str, Any],
) -> None:
    """A production order for each, due when the plan expects it on the shelf."""
    if not members:
        return
    wanted = [
        Wanted(skus[asked.sku].id, places[asked.location].id, asked.approved_qty, _expected(uow, asked))
        for asked in members
    ]
    opened = open_production_orders(uow, actor, wanted)
    _keep(
        uow,
        actor,
        [
            (asked, {"sku_id": one.sku_id, "location_id": one.location_id, "production_order_id": order.id})
            for asked, one, order in zip(members, wanted, opened, strict=True)
        ],
    )
    for asked, order in zip(members, opened, strict=True):
        facts = {"number": order.number, "suggestions": [_named(asked)], "suggestion": asked.facts}
        uow.audit(actor, "suggestion.approve", "production_order", order.id, facts=facts)


def _expected(uow: UnitOfWork, asked: Suggested) -> date | None:
    return None if asked.lead_time_days is None else uow.today + timedelta(days=asked.lead_time_days)


def _named(asked: Suggested) -> str:
    return f"{asked.as_of_date} {asked.sku}@{asked.location}"


def _keep(uow: UnitOfWork, actor: Actor, became: Sequence[tuple[Suggested, Mapping[str, int]]]) -> None:
    """Remember what each suggestion became; while that stands its day, SKU and place are unique, so there is no second time."""
    approval_id = uow.new_id(len(became))
    uow.conn.execute(
        insert(SuggestionApproval),
        [
            {
                "id": approval_id + number,
                "as_of_date": asked.as_of_date,
                "suggested_qty": asked.suggested_qty,
                "approved_qty": asked.approved_qty,
                "reason": (asked.reason or "").strip() or None,
                "approved_by": actor.name,
                "approved_at": uow.now,
                "business_date": uow.today,
                **ids,
            }
            for number, (asked, ids) in enumerate(became)
        ],
    )
