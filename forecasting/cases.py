"""One position on its way to a suggestion, and the settings it goes by; `forecasting.replenishment` says what the parts are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from forecasting.arrays import Floats
from forecasting.errors import BadSetting
from forecasting.marginal import Shortage
from forecasting.policies import PriceBreak
from forecasting.positions import Forecast, exception, wrong
from forecasting.supply import AlwaysClosed, Timing, timing
from forecasting.supply import read_price_breaks as read_breaks

WEEKS_A_YEAR = 52
MAX_WEEKS = 52.0  # what is not used within a year counts as kept for one

PARTS = (
    "demand_part_qty",
    "safety_part_qty",
    "backordered_part_qty",
    "on_hand_part_qty",
    "on_order_part_qty",
    "late_part_qty",
    "lost_part_qty",
    "surplus_part_qty",
    "elsewhere_part_qty",
    "transfer_part_qty",
    "lot_part_qty",
    "moq_part_qty",
    "pack_part_qty",
    "wait_part_qty",
    "price_break_part_qty",
    "joint_part_qty",
    "budget_part_qty",
)


@dataclass(frozen=True)
class OrderSettings:
    """What holds where a position says nothing.

    Attributes:
        holding_ratio: To keep a unit for a year, as a share of its cost: money, room, insurance, ageing.
        shortage_ratio: A unit short, as a share of its cost, where neither a shortage cost nor a price is known.
        shortage: Whether unmet demand is lost or waits.
        max_lot_days: A lot is never larger than the demand of so many days.
        min_max_value_cents: Products with grade C or D go by min/max when that is worth no more than this; None: never.
        min_max_cover_days: Max lies so many days of demand above min.
    """

    holding_ratio: float = 0.25
    shortage_ratio: float = 0.5
    shortage: Shortage = "lost"
    max_lot_days: int = 182
    min_max_value_cents: float | None = None
    min_max_cover_days: int = 28

    def __post_init__(self) -> None:
        if self.shortage not in ("lost", "backordered"):
            raise BadSetting(f"shortage must be lost or backordered, got {self.shortage}")
        for name in ("holding_ratio", "shortage_ratio", "max_lot_days", "min_max_cover_days"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadSetting(f"{name} must be 0 or more, got {getattr(self, name)}")


DEFAULT_SETTINGS = OrderSettings()


@dataclass(frozen=True)
class Quantity:
    """An order quantity and the whole units it is made of."""

    suggested_qty: int
    parts: dict[str, int]


@dataclass
class Case:
    """One position on its way to a suggestion; every step fills in what it decides."""

    position: dict[str, Any]
    at: int  # row of the forecast
    timing: Timing
    mean: Floats  # expected running total by day
    closed: frozenset[date]
    breaks: tuple[PriceBreak, ...]
    arrivals: list[tuple[int, int]]  # days from now, units
    target: str
    weekly_holding: float | None
    shortage_cost: float | None
    reasons: list[str]
    facts: dict[str, object]
    order_up_to_qty: int = 0
    reorder_point_qty: int = 0
    expected_qty: float = 0.0
    cycle_service_ratio: float = 0.0
    fill_rate_ratio: float | None = None
    late_qty: int = 0
    lost_qty: int = 0
    pool: Case | None = None  # all places together, where it is planned with them
    elsewhere_qty: int = 0
    transfer_qty: int = 0
    least_qty: int = 0
    extra_qty: int = 0
    multiple_qty: int = 1
    is_by_cost: bool = False
    cost: Callable[[int], float] | None = None  # of so many units more, from an order or from another place
    samples: tuple[Floats, Floats] | None = None  # demand of the protection interval, and of it until the lead time
    quantity: Quantity = field(default_factory=lambda: Quantity(0, dict.fromkeys(PARTS, 0)))

    @property
    def unique_id(self) -> str:
        return str(self.position["unique_id"])

    @property
    def inventory_position_qty(self) -> int:
        p = self.position
        return int((p["on_hand_qty"] or 0) + p["on_order_qty"] - p["backordered_qty"])

    @property
    def gap_qty(self) -> int:
        return self.order_up_to_qty - self.inventory_position_qty + self.late_qty - self.lost_qty

    @property
    def daily_qty(self) -> float:
        return float(self.mean[-1]) / self.mean.size

    def used_after_weeks(self, qty: float) -> float:
        """Weeks after an order arrives until `qty` more than there is now is used, as expected."""
        wanted = self.inventory_position_qty + qty
        if self.mean[-1] >= wanted:
            days = float(np.searchsorted(self.mean, wanted)) + 1
        elif self.daily_qty > 0:
            days = self.mean.size + (wanted - float(self.mean[-1])) / self.daily_qty
        else:
            return MAX_WEEKS
        return min(MAX_WEEKS, max(0.0, days - self.timing.lead_days[0]) / 7)

    def sold_after_weeks(self, qty: float) -> float:
        """The same, infinite where the last of them expires before."""
        weeks, keeps = self.used_after_weeks(qty), self.position["shelf_life_days"]
        return math.inf if keeps and 7 * weeks > keeps else weeks


def read_case(
    position: dict[str, Any],
    forecast: Forecast,
    day: date,
    closed: Mapping[str, frozenset[date]],
    settings: OrderSettings,
    arrivals: list[tuple[int, int]],
) -> Case | dict[str, object]:
    """The position with its forecast and its dates, or what is wrong with it."""
    unique_id = position["unique_id"]
    impossible = wrong(position)
    if impossible:
        return exception(unique_id, "bad_position", impossible)
    at = forecast.rows.get(unique_id)
    if at is None:
        return exception(unique_id, "no_forecast", "")
    mean = forecast.mean(at)
    if not np.isfinite(mean).all():
        return exception(unique_id, "bad_forecast", "")
    days_off = closed.get(position["supplier_code"] or "", frozenset())
    try:
        breaks = read_breaks(position["price_breaks"])
        when = timing(
            day,
            lead_times_days=position["lead_times_days"] or (),
            usual_days=position["lead_time_days"],
            review_period_days=position["review_period_days"],
            closed=days_off,
        )
    except (ValueError, AlwaysClosed) as error:
        return exception(unique_id, "bad_position", str(error))
    longest = max(when.interval_days)
    if longest > mean.size:
        too_short = exception(unique_id, "horizon_too_short", f"{longest} > {mean.size}")
        return {**too_short, "protection_interval_days": longest, "horizon_days": mean.size}
    holding, shortage, facts = _costs(position, settings)
    target = position["target"]
    reasons: list[str] = []
    if target == "cost" and (holding is None or shortage is None):
        target, reasons = "cycle_service", ["cost_unknown"]
    return Case(
        position, at, when, mean, days_off, breaks, arrivals, target, holding, shortage, reasons, facts
    )  # fmt: skip


def _costs(position: dict[str, Any], settings: OrderSettings) -> tuple[float | None, float | None, dict[str, object]]:
    """What it costs to keep a unit for a week and to be short of one, and where that comes from."""
    unit, price = position["unit_cost_cents"], position["unit_price_cents"]
    holding, shortage = position["weekly_holding_cost_cents"], position["shortage_cost_cents"]
    facts: dict[str, object] = {}
    if holding is None and unit is not None:
        holding = unit * settings.holding_ratio / WEEKS_A_YEAR
        facts["holding_ratio"] = settings.holding_ratio
    if shortage is None and unit is not None:
        if price is not None and price > unit:
            shortage, facts["shortage_from"] = price - unit, "margin"
        else:
            shortage, facts["shortage_from"] = unit * settings.shortage_ratio, "share_of_cost"
    return holding, shortage, facts
