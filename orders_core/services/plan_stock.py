"""Which location serves which line of an order with how much, what waits, and why: read and decided, nothing promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import select, text

from orders_core.domain.rules import Rules
from orders_core.errors import NotFound
from orders_core.routing.assign import Assigned, Assignment, assign
from orders_core.services.drafting import DraftLine
from orders_core.services.fill import free_expired
from orders_core.store.inventory import Change, must_have, supply_for
from orders_core.store.tables import Location
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class StockPlan:
    """Which location serves which line with how much, and the routing decision behind it."""

    lines: Sequence[DraftLine]  # as asked for, less the gifts that are left out
    parts: Sequence[tuple[DraftLine, Assigned]]
    assignment: Assignment
    any_backorder: bool

    @property
    def short(self) -> list[dict[str, Any]]:
        """What is promised without stock, per SKU; a waiting gift is no reason to look at an order."""
        short: dict[str, dict[str, Any]] = {}
        for line, part in self.parts:
            if part.backordered_qty and line.kind != "gift":
                entry = short.setdefault(
                    line.sku.sku, {"code": "short", "sku": line.sku.sku, "short_qty": 0, "asked_qty": 0}
                )
                entry["short_qty"] += part.backordered_qty
        for line, part in self.parts:
            if line.sku.sku in short:
                short[line.sku.sku]["asked_qty"] += part.reserved_qty + part.backordered_qty
        return list(short.values())


def plan_stock(
    uow: UnitOfWork,
    lines: Sequence[DraftLine],
    rules: Rules,
    *,
    channel_id: int,
    near: tuple[float, float] | None,
    wanted_date: date | None = None,
) -> StockPlan:
    """Choose locations for the lines' units: what can be reserved now, what waits (where the policy allows).

    A gift that is not there waits or is left out, as `rules.shortage.gift` says; the plan's `lines` are what stays.

    Raises InsufficientStock when less of a line that is paid for is saleable than asked for and the policy refuses.
    """
    needs = _needs(lines)
    any_backorder = rules.shortage.policy == "backorder"
    not_yet = (
        rules.reserve.within_days is not None
        and wanted_date is not None
        and wanted_date > uow.today + timedelta(days=rules.reserve.within_days)
    )
    supply = supply_for(uow, list(needs), channel_id=channel_id, near=near, any_backorder=any_backorder or not_yet)
    plan = assign(needs, supply.offered, supply.sites, strategy=rules.routing.strategy, fixed_order=rules.routing.order)
    short = plan.left_over.keys() | {part.sku_id for part in plan.parts if part.backordered_qty}
    if short and free_expired(uow, short):
        supply = supply_for(uow, list(needs), channel_id=channel_id, near=near, any_backorder=any_backorder or not_yet)
        plan = assign(
            needs, supply.offered, supply.sites, strategy=rules.routing.strategy, fixed_order=rules.routing.order
        )
    late_qty = dict(plan.left_over)
    if rules.shortage.gift == "leave_out" and not not_yet:
        for part in plan.parts:
            late_qty[part.sku_id] = late_qty.get(part.sku_id, 0) + part.backordered_qty
    fitting = lines if rules.shortage.gift == "wait" else _without_late_gifts(lines, late_qty)
    if fitting != lines:
        return plan_stock(uow, fitting, rules, channel_id=channel_id, near=near, wanted_date=wanted_date)
    if plan.left_over and not any_backorder and not not_yet:
        paid = _needs([line for line in lines if line.kind != "gift"])
        must_have(paid, supply.available, {line.sku.id: line.sku.sku for line in lines})
        any_backorder = True  # for the gifts: nothing else is left over
    home = plan.parts[0].location_id if plan.parts else _default_location(uow)
    parts = list(plan.parts) + [Assigned(sku, home, 0, qty) for sku, qty in plan.left_over.items()]
    planned = _joined(parts)
    parts = _as_policy_says(planned, needs, rules, not_yet=not_yet)
    _add_missing_levels(uow, parts, supply.offered)
    # units there that are not reserved yet are not owed by the location: they need no backorder depth
    is_put_off = parts != planned
    parts = [
        Assigned(p.sku_id, p.location_id, 0, 0, p.qty) if p.location_id in supply.untracked_location_ids else p
        for p in parts
    ]
    return StockPlan(lines, _per_line(lines, parts, home), plan, any_backorder or not_yet or is_put_off)


def _needs(lines: Sequence[DraftLine]) -> dict[int, int]:
    """Base units per SKU id that the lines take from stock."""
    needs: dict[int, int] = {}
    for line in lines:
        if line.takes_stock:
            needs[line.sku.id] = needs.get(line.sku.id, 0) + line.ordered_qty
    return needs


def _without_late_gifts(lines: Sequence[DraftLine], late_qty: Mapping[int, int]) -> Sequence[DraftLine]:
    """The lines with as many units less of their gifts as are not there, the last gift first."""
    if not late_qty or all(line.kind != "gift" for line in lines):
        return lines
    left = dict(late_qty)
    kept = []
    for line in reversed(lines):
        cut = min(line.ordered_qty, left.get(line.sku.id, 0)) if line.kind == "gift" else 0
        if cut:
            left[line.sku.id] -= cut
        if cut < line.ordered_qty:
            kept.append(replace(line, pack_qty=line.pack_qty - cut) if cut else line)
    return kept[::-1]


def gifts_left_out(asked: Sequence[DraftLine], plan: StockPlan) -> dict[str, int]:
    """SKU -> units of gifts that were due and that the plan goes without."""
    left: dict[str, int] = {}
    for sign, lines in ((1, asked), (-1, plan.lines)):
        for line in lines:
            if line.kind == "gift":
                left[line.sku.sku] = left.get(line.sku.sku, 0) + sign * line.ordered_qty
    return {sku: qty for sku, qty in left.items() if qty}


def _joined(parts: Sequence[Assigned]) -> list[Assigned]:
    joined: dict[tuple[int, int], Assigned] = {}
    for p in parts:
        old = joined.get((p.sku_id, p.location_id))
        joined[p.sku_id, p.location_id] = (
            p
            if old is None
            else Assigned(
                p.sku_id, p.location_id, p.reserved_qty + old.reserved_qty, p.backordered_qty + old.backordered_qty
            )
        )
    return [joined[key] for key in sorted(joined)]


def _as_policy_says(
    parts: Sequence[Assigned], needs: Mapping[int, int], rules: Rules, *, not_yet: bool
) -> list[Assigned]:
    """Reserve nothing of a SKU yet where too little of it, over all locations, could go at once.

    It then waits in one place, where it can become whole. Nothing is reserved either when the wanted day is far off.
    """
    if not_yet:
        return [Assigned(p.sku_id, p.location_id, 0, p.reserved_qty + p.backordered_qty) for p in parts]
    now: dict[int, int] = defaultdict(int)
    waits_at: dict[int, int] = {}
    for part in parts:
        now[part.sku_id] += part.reserved_qty
        if part.backordered_qty:
            waits_at.setdefault(part.sku_id, part.location_id)
    too_few = {
        sku_id
        for sku_id in waits_at
        if rules.shortage.max_late_days == 0 or now[sku_id] < min(rules.shortage.min_ship_qty, needs[sku_id])
    }
    kept = [part for part in parts if part.sku_id not in too_few]
    kept += [Assigned(sku_id, waits_at[sku_id], 0, needs[sku_id]) for sku_id in too_few]
    return sorted(kept, key=lambda part: (part.sku_id, part.location_id))


def _add_missing_levels(uow: UnitOfWork, parts: Sequence[Assigned], offered: Mapping[int, Mapping[int, Any]]) -> None:
    """A SKU backordered where it never lay has no level to count on yet."""
    for part in parts:
        if part.sku_id not in offered.get(part.location_id, {}):
            uow.conn.execute(
                text(
                    "INSERT INTO stock_level (sku_id, location_id) VALUES (:sku_id, :location_id) ON CONFLICT DO NOTHING"
                ),
                {"sku_id": part.sku_id, "location_id": part.location_id},
            )


def _per_line(lines: Sequence[DraftLine], parts: Sequence[Assigned], home: int) -> list[tuple[DraftLine, Assigned]]:
    """Share the parts of each SKU over its lines, first line first, stock before backorder."""
    left = {(p.sku_id, p.location_id): [p.reserved_qty, p.backordered_qty, p.untracked_qty] for p in parts}
    shared = []
    for line in lines:
        if not line.ships:
            continue
        if not line.takes_stock:
            shared.append((line, Assigned(line.sku.id, home, 0, 0)))
            continue
        need = line.ordered_qty
        for (sku_id, location_id), units in left.items():
            if sku_id != line.sku.id or need == 0:
                continue
            now = min(need, units[0])
            late = min(need - now, units[1])
            untracked = min(need - now - late, units[2])
            part = Assigned(sku_id, location_id, now, late, untracked)
            if part.qty:
                left[sku_id, location_id] = [units[0] - now, units[1] - late, units[2] - untracked]
                need -= part.qty
                shared.append((line, part))
    return shared


def _default_location(uow: UnitOfWork) -> int:
    found = uow.rows(
        select(Location.id)
        .where(Location.is_active, Location.can_ship)
        .order_by(Location.is_default.desc(), Location.rank, Location.id)
        .limit(1)
    )
    if not found:
        raise NotFound(entity="location", key="(any that can ship)")
    return int(found[0].id)


def changes_of(parts: Sequence[tuple[DraftLine, Assigned]]) -> list[Change]:
    """What the parts ask of the stock levels, one change per SKU and location."""
    wanted: dict[tuple[int, int], list[int]] = {}
    for _, part in parts:
        units = wanted.setdefault((part.sku_id, part.location_id), [0, 0])
        units[0] += part.reserved_qty
        units[1] += part.backordered_qty
    return [Change(sku, loc, reserve_qty=now, backorder_qty=late) for (sku, loc), (now, late) in wanted.items()]
