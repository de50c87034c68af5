"""What a planner knows and the model does not: overrides of coming days, adjustments of past ones. Nothing is deleted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, get_args

from babel.numbers import is_currency
from sqlalchemy import insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import CLASSES, MAX_CENTS, Planning
from orders_core.errors import InvalidCommand, NotFound
from orders_core.services.idempotency import keyed
from orders_core.services.lookups import current_rules, location_named, must_work_at, skus_named
from orders_core.services.master_data import ChangeRules, new_rules
from orders_core.store.tables import DemandAdjustment, ForecastOverride, Location
from orders_core.store.tables.planning import ADJUSTMENT_KINDS, OVERRIDE_KINDS
from orders_core.store.uow import UnitOfWork

TARGETS = ("cost", "cycle_service", "fill_rate")
NUMBERS = ("holding_ratio", "shortage_ratio", "min_max_value_cents", "transfer_unit_cents", "transfer_fixed_cents")
MOST = {"set_daily": 9_999_999.0, "multiply": 100.0, "add_weekly": 9_999_999.0}
"""The largest amount of each kind; a ratio beyond it is a slip of the finger."""


@dataclass(frozen=True)
class SetOverride:
    """Change the forecast of one SKU at one location from `from_date` through `through_date`.

    `kind` says what `amount` is: `set_daily` units a day, `multiply` a ratio (1.2 = 20 % more), `add_weekly` units a
    week spread evenly over its days, negative to take off. Overrides of the same day add up in the order they were made; a
    `set_daily` starts anew. Plans as of `expires_date` and later know nothing of it; `through_date` when not given.
    """

    sku: str
    location: str
    from_date: date
    through_date: date
    kind: str
    amount: float
    reason: str
    expires_date: date | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class AdjustDemand:
    """Days of the past that mislead: `ignore` takes them for unknown, `replace` for `daily_qty` units each."""

    sku: str
    location: str
    from_date: date
    through_date: date
    kind: str
    reason: str
    daily_qty: float | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class SetPlanning:
    """What suggestions aim at from now on; None leaves a part as it is. Plans as of an earlier day know nothing of it.

    Attributes:
        target: "cost" (least expected cost), "cycle_service" or "fill_rate".
        ratio: What the named service is to reach; with "cost" the cycle service where costs are not known.
        protects_channels: Whether the nightly run holds units back for the channel that earns most by them.
        reason: Why, for the trail.
        pools_places: Whether the places of one product are planned together, because they send for each other.
        numbers: By name: holding_ratio, shortage_ratio, min_max_value_cents, transfer_unit_cents, transfer_fixed_cents of
            `domain.rules.Planning`; None only where it may be.
        budgets: What the orders of one plan in a currency may cost, cents by currency; None: as much as they come to.
        class_service: Cycle service of a class of products such as "AX" (`mart.abc_xyz`); None: as the others.
    """

    target: str | None = None
    ratio: float | None = None
    protects_channels: bool | None = None
    reason: str = ""
    pools_places: bool | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    budgets: Mapping[str, int | None] = field(default_factory=dict)
    class_service: Mapping[str, float | None] = field(default_factory=dict)


def set_planning(uow: UnitOfWork, actor: Actor, command: SetPlanning) -> Planning:
    """Change what suggestions aim at, by a new version of the rules; returns what holds now.

    Raises:
        PermissionDenied: The actor is no planner.
        InvalidCommand: An unknown target, currency or class, a ratio that is not between 0 and 1, or a number out of its
            range.
    """
    actor.must("forecast.override")
    now = current_rules(uow).planning
    target = command.target or now.target
    if target not in TARGETS:
        raise InvalidCommand(field="target", problem="not_one_of", value=target, choices=", ".join(TARGETS))
    if command.ratio is not None:
        _must_be_service(command.ratio)
    changed: dict[str, Any] = {"target": target}
    if command.ratio is not None:
        changed["fill_rate_ratio" if target == "fill_rate" else "cycle_service_ratio"] = command.ratio
    for switch in ("pools_places", "protects_channels"):
        if getattr(command, switch) is not None:
            changed[switch] = getattr(command, switch)
    for name, number in command.numbers.items():
        _must_be_in_range(name, number)
        changed[name] = number
    for currency, cents in command.budgets.items():
        if not is_currency(currency):
            raise InvalidCommand(field="budget", problem="unknown_currency", currency=currency)
        if cents is not None:
            _must_be_amount(cents, "budget", least=0, most=MAX_CENTS)
    if command.budgets:
        budgets = {**now.budget_cents, **command.budgets}
        changed["budget_cents"] = {code: budgets[code] for code in sorted(budgets) if budgets[code] is not None}
    for name, ratio in command.class_service.items():
        if name not in CLASSES:
            raise InvalidCommand(field="class", problem="not_one_of", value=name, choices=", ".join(CLASSES))
        if ratio is not None:
            _must_be_service(ratio)
    if command.class_service:
        by_class = {**now.class_service, **command.class_service}
        changed["class_service"] = {name: by_class[name] for name in sorted(by_class) if by_class[name] is not None}
    wanted = now.model_copy(update=changed)
    if wanted != now:
        new_rules(uow, actor, ChangeRules({"planning": wanted.model_dump()}, command.reason))
    return wanted


def _must_be_service(ratio: float) -> None:
    if not 0 < ratio < 1:
        raise InvalidCommand(field="ratio", problem="amount_out_of_range", amount=ratio, least="0.001", most="0.999")


@dataclass(frozen=True)
class Withdraw:
    """Take back an override or an adjustment by its id: later plans know nothing of it. It stays on record."""

    change_id: int


@dataclass(frozen=True)
class PlanChangeState:
    """An override or an adjustment as it stands; `is_repeat` when nothing new happened."""

    change_id: int
    is_withdrawn: bool = False
    is_repeat: bool = False


def set_override(uow: UnitOfWork, actor: Actor, command: SetOverride) -> PlanChangeState:
    """Set an override of a forecast.

    Raises:
        NotFound: no such SKU or location.
        InvalidCommand: days in the wrong order or over, an amount out of range, no reason, expired already, or the same
            in force for the same days: twice 1.2 times is 1.44 times, which nobody means.
    """
    actor.must("forecast.override")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, ForecastOverride, command)
    if once.row is not None:
        return PlanChangeState(once.row.id, once.row.withdrawn_at is not None, is_repeat=True)
    sku = skus_named(uow, [command.sku])[command.sku]
    _must_be_days(command.from_date, command.through_date)
    _must_be_kind(command.kind, OVERRIDE_KINDS)
    least = -MOST["add_weekly"] if command.kind == "add_weekly" else 0.0
    _must_be_amount(command.amount, "amount", least=least, most=MOST[command.kind])
    expires = command.expires_date or command.through_date
    for name, day in (("through_date", command.through_date), ("expires_date", expires)):
        if day <= uow.today:
            raise InvalidCommand(field=name, problem="days_are_over", day=day.isoformat())
    _must_be_new(uow, command, sku.id, place.id)
    values = {"amount": float(command.amount), "expires_date": expires, **once.columns}
    return _write(uow, actor, ForecastOverride, command, sku_id=sku.id, location_id=place.id, **values)


def _must_be_new(uow: UnitOfWork, command: SetOverride, sku_id: int, location_id: int) -> None:
    same = uow.rows(
        select(ForecastOverride.id, ForecastOverride.author).where(
            ForecastOverride.sku_id == sku_id,
            ForecastOverride.location_id == location_id,
            ForecastOverride.from_date == command.from_date,
            ForecastOverride.through_date == command.through_date,
            ForecastOverride.kind == command.kind,
            ForecastOverride.amount == float(command.amount),
            ForecastOverride.withdrawn_at.is_(None),
            ForecastOverride.expires_date > uow.today,
        )
    )
    if same:
        raise InvalidCommand(field="amount", problem="overridden_alike", author=same[0].author, number=same[0].id)


def adjust_demand(uow: UnitOfWork, actor: Actor, command: AdjustDemand) -> PlanChangeState:
    """Adjust days of the past for the forecast to learn from; what was recorded of them stays as it is.

    Raises:
        NotFound: no such SKU or location.
        InvalidCommand: days in the wrong order or not come yet, a quantity missing or out of range, no reason.
    """
    actor.must("forecast.override")
    place = location_named(uow, actor, command.location)
    once = keyed(uow, DemandAdjustment, command)
    if once.row is not None:
        return PlanChangeState(once.row.id, once.row.withdrawn_at is not None, is_repeat=True)
    sku = skus_named(uow, [command.sku])[command.sku]
    _must_be_days(command.from_date, command.through_date)
    _must_be_kind(command.kind, ADJUSTMENT_KINDS)
    if command.through_date > uow.today:
        raise InvalidCommand(field="through_date", problem="adjusts_the_future", day=command.through_date.isoformat())
    qty = None
    if command.kind == "replace":
        _must_be_amount(command.daily_qty, "daily_qty", least=0.0, most=MOST["set_daily"])
        qty = float(command.daily_qty or 0)
    values = {"daily_qty": qty, **once.columns}
    return _write(uow, actor, DemandAdjustment, command, sku_id=sku.id, location_id=place.id, **values)


def withdraw_override(uow: UnitOfWork, actor: Actor, command: Withdraw) -> PlanChangeState:
    """Take an override back. A second time changes nothing."""
    return _withdraw(uow, actor, ForecastOverride, command, "forecast override")


def withdraw_adjustment(uow: UnitOfWork, actor: Actor, command: Withdraw) -> PlanChangeState:
    """Take an adjustment of past demand back. A second time changes nothing."""
    return _withdraw(uow, actor, DemandAdjustment, command, "demand adjustment")


def _must_be_days(first: date, last: date) -> None:
    if first > last:
        raise InvalidCommand(
            field="from_date", problem="days_backwards", from_date=first.isoformat(), through_date=last.isoformat()
        )


def _must_be_in_range(name: str, number: float | None) -> None:
    if name not in NUMBERS:
        raise InvalidCommand(field="numbers", problem="not_one_of", value=name, choices=", ".join(NUMBERS))
    about = Planning.model_fields[name]
    if number is None and type(None) in get_args(about.annotation):
        return
    least, most = (next(getattr(b, end) for b in about.metadata if hasattr(b, end)) for end in ("ge", "le"))
    _must_be_amount(number, name, least=least, most=most)
    if name.endswith("_cents") and not isinstance(number, int):
        raise InvalidCommand(field=name, problem="not_whole", amount=number)


def _must_be_kind(kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise InvalidCommand(field="kind", problem="not_one_of", value=kind, choices=", ".join(kinds))


def _must_be_amount(amount: Any, field: str, *, least: float, most: float) -> None:
    is_number = isinstance(amount, int | float) and not isinstance(amount, bool) and math.isfinite(amount)
    if not is_number or not least <= amount <= most:
        raise InvalidCommand(
            field=field, problem="amount_out_of_range", amount=amount, least=f"{least:,.0f}", most=f"{most:,.0f}"
        )


def _write(
    uow: UnitOfWork, actor: Actor, table: type[ForecastOverride] | type[DemandAdjustment], command: Any, **values: Any
) -> PlanChangeState:
    if not command.reason.strip():
        raise InvalidCommand(field="reason", problem="override_without_reason")
    entity, change_id = table.__tablename__, uow.new_id()
    said = {"from_date": command.from_date, "through_date": command.through_date, "kind": command.kind}
    row = {
        "id": change_id, **said, "author": actor.name, "reason": command.reason.strip(), "created_at": uow.now, **values,
    }  # fmt: skip
    uow.conn.execute(insert(table), row)
    uow.changed(entity, change_id, 1, "insert")
    uow.audit(
        actor,
        f"{entity}.set",
        entity,
        change_id,
        version=1,
        facts={"sku": command.sku, "location": command.location, "reason": row["reason"], **said},
    )
    return PlanChangeState(change_id)


def _withdraw(
    uow: UnitOfWork,
    actor: Actor,
    table: type[ForecastOverride] | type[DemandAdjustment],
    command: Withdraw,
    said: str,
) -> PlanChangeState:
    actor.must("forecast.override")
    query = select(table.__table__).where(table.id == command.change_id)
    row = uow.row(query if uow.is_sqlite else query.with_for_update(key_share=True))
    if row is None:
        raise NotFound(entity=said, key=command.change_id)
    must_work_at(actor, uow.conn.execute(select(Location.code).where(Location.id == row.location_id)).scalar_one())
    if row.withdrawn_at is not None:
        return PlanChangeState(row.id, is_withdrawn=True, is_repeat=True)
    version = uow.conn.execute(
        update(table)
        .where(table.id == row.id)
        .values(withdrawn_at=uow.now, withdrawn_by=actor.name, version=table.version + 1)
        .returning(table.version)
    ).scalar_one()
    entity = table.__tablename__
    uow.changed(entity, row.id, version)
    uow.audit(actor, f"{entity}.withdraw", entity, row.id, version=version, facts={"author": row.author})
    return PlanChangeState(row.id, is_withdrawn=True)
