"""The business rules as data: checks, auto-approval, shortage, routing, edit and notice policy.

Stored as versioned rows (`rule_set`), edited on screen; a channel's `policy` overrides parts of them. Every decision
names the version it was made under.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Verdict = Literal["refuse", "review", "ignore"]
MAX_CENTS = 10**15  # more is a slip of the finger


class Checks(_Part):
    """What a failed check does: refuse the order, send it to a person, or nothing."""

    customer: Verdict = "review"  # the customer is on hold, closed or overdue
    address: Verdict = "review"  # recipient, phone, street are there; the phone can be one
    price: Verdict = "review"  # a price given by hand differs from the list, or lies below the floor
    credit: Verdict = "review"
    payment: Verdict = "review"  # a prepaid order waits for its money
    duplicate: Verdict = "review"  # same customer, same lines, same day
    stock: Verdict = "ignore"  # what is short, where the shortage policy lets it in at all
    amount: Verdict = "review"  # above auto_approve.max_total_cents


class AutoApprove(_Part):
    is_on: bool = True
    max_total_cents: dict[str, int] = Field(default_factory=lambda: {"CNY": 5_000_000, "GBP": 500_000, "USD": 700_000})


class Shortage(_Part):
    """What happens to units that are not there. `refuse` is decided for the whole order."""

    policy: Literal["refuse", "backorder"] = "refuse"
    min_ship_qty: int = 1  # fewer available than this (or than the line, if smaller): reserve nothing yet
    max_late_days: int | None = None  # with 0, what cannot go at once is not split: all or nothing
    purchase_request: bool = True
    # A gift is never a reason to refuse an order: it waits, or the order goes without it. None = as the policy above:
    # it waits where its units may be owed, and is left out where not.
    gift: Literal["wait", "leave_out"] | None = None


class Routing(_Part):
    strategy: Literal["fewest_packages", "fixed_order"] = "fewest_packages"
    order: tuple[str, ...] = ()  # location codes, for fixed_order; the rest by rank


class Reserve(_Part):
    within_days: int | None = None  # orders wanted later than this are reserved only when their day comes near


class Promise(_Part):
    handling_days: int = 1
    transit_days: int = 2
    supply_days: int = 14  # where no purchase order and no supplier says better


class CartRules(_Part):
    hold_minutes: int = 0  # 0 = carts hold no stock
    merge: Literal["sum", "guest_wins"] = "sum"


class ShippingFee(_Part):
    fee_cents: dict[str, int] = Field(default_factory=dict)  # per currency; empty = none
    free_from_cents: dict[str, int] = Field(default_factory=dict)


class Delivery(_Part):
    over_delivery_ratio_bp: int = 0  # 5000 = up to 50 % more than ordered may ship
    ship_unpaid: bool = True  # goods of an order whose total rose after payment may still leave


class Counting(_Part):
    approval_over_qty: int = 20  # a larger difference waits for a second person


class Notices(_Part):
    clerks: tuple[str, ...] = ()
    tell_clerks: Literal["review", "all"] = "review"
    quiet_from_hour: int = 22
    quiet_to_hour: int = 8


class AfterSales(_Part):
    ask_every_days: int = 30
    low_score: int = 2  # this or lower opens a ticket
    answer_hours: dict[str, int] = Field(
        default_factory=lambda: {"damaged": 8, "missing": 8, "low_score": 24, "other": 24}
    )


CLASSES = tuple(abc + xyz for abc in "ABC" for xyz in "XYZ")
"""Products by the money they bring (A most) and by how much the units of a week vary (X least): `mart.abc_xyz`."""


class Planning(_Part):
    """What the suggestions aim at, and what holds where a supplier or a SKU says nothing; plans as of the day it is set and
    later go by it. `pipelines.transform.plan.PlanningDefaults` says what each number means."""

    target: Literal["cost", "cycle_service", "fill_rate"] = "cost"
    cycle_service_ratio: float = Field(default=0.95, gt=0, lt=1)  # also where costs are not known
    fill_rate_ratio: float = Field(default=0.98, gt=0, lt=1)
    pools_places: bool = True  # places of one product send for each other: one safety stock for all of them
    protects_channels: bool = False  # hold units back for the channel that earns most by them
    holding_ratio: float = Field(default=0.25, ge=0, le=10)
    shortage_ratio: float = Field(default=0.5, ge=0, le=100)
    min_max_value_cents: int | None = Field(default=20_000, ge=0, le=MAX_CENTS)
    transfer_unit_cents: int | None = Field(default=None, ge=0, le=MAX_CENTS)  # None: no transfers are suggested
    transfer_fixed_cents: int = Field(default=0, ge=0, le=MAX_CENTS)
    # What the orders of one plan may cost, by currency; none: no limit
    budget_cents: dict[Annotated[str, Field(pattern="^[A-Z]{3}$")], Annotated[int, Field(ge=0, le=MAX_CENTS)]] = Field(
        default_factory=dict
    )
    # Cycle service of a class of products by money and variation, whatever the target of the others is; "AX": 0.98
    class_service: dict[Annotated[str, Field(pattern="^[ABC][XYZ]$")], Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=dict
    )


class Rules(_Part):
    """One version of the business rules."""

    checks: Checks = Checks()
    auto_approve: AutoApprove = AutoApprove()
    shortage: Shortage = Shortage()
    routing: Routing = Routing()
    reserve: Reserve = Reserve()
    promise: Promise = Promise()
    cart: CartRules = CartRules()
    shipping: ShippingFee = ShippingFee()
    delivery: Delivery = Delivery()
    counting: Counting = Counting()
    notices: Notices = Notices()
    after_sales: AfterSales = AfterSales()
    planning: Planning = Planning()
    prices_include_tax: bool = True


DEFAULT_RULES: dict[str, Any] = Rules().model_dump(mode="json")
"""Version 1, written by the first upgrade."""


def build_rules(body: Mapping[str, Any], *overrides: Mapping[str, Any] | None) -> Rules:
    """Rules from a stored body with a channel's overrides laid over it, key by key.

    Raises pydantic.ValidationError naming the path of an unknown or wrong key.
    """
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in body.items()}
    for override in overrides:
        for key, value in (override or {}).items():
            if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
                merged[key] = {**merged[key], **value}
            else:
                merged[key] = value
    return Rules.model_validate(merged, strict=False)
