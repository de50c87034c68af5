"""Who gets what when goods arrive: by priority, then the day they were wanted, then age. Pure.

The preview and the real thing call the same function, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class Waiting:
    """Units of one shipment line that wait for stock at its location.

    `due_date` is the day the customer asked for, else the day of the order; `least_qty` the fewest worth reserving.
    """

    shipment_line_id: int
    order_id: int
    order_number: str
    sku_id: int
    location_id: int
    channel_id: int
    waiting_qty: int
    priority: int
    due_date: date
    placed_at: datetime
    least_qty: int = 1


@dataclass(frozen=True)
class Free:
    """What one level has to give: units, and how many of them only one channel may take (channel id -> units)."""

    qty: int
    protected: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What one waiting line gets, and how much it still waits for."""

    waiting: Waiting
    qty: int

    @property
    def still_waiting_qty(self) -> int:
        return self.waiting.waiting_qty - self.qty


def allocate(waiting: Sequence[Waiting], free: Mapping[tuple[int, int], Free]) -> list[Given]:
    """Give the free units to the waiting lines, in the order they are served.

    Args:
        waiting: Lines in any order.
        free: (SKU id, location id) -> what it has; a missing entry has nothing.

    Returns:
        One entry per waiting line, first served first; never more than is free, never more than is waited for.

    >>> day, now = date(2026, 3, 2), datetime(2026, 3, 2)
    >>> a = Waiting(1, 1, "SO-1", 7, 1, 1, 4, 0, day, now)
    >>> b = Waiting(2, 2, "SO-2", 7, 1, 1, 3, 0, day, now.replace(hour=9))
    >>> [(g.waiting.order_number, g.qty, g.still_waiting_qty) for g in allocate([b, a], {(7, 1): Free(5)})]
    [('SO-1', 4, 0), ('SO-2', 1, 2)]
    """
    left = {level: has.qty for level, has in free.items()}
    given = []
    for line in sorted(waiting, key=lambda w: (-w.priority, w.due_date, w.placed_at, w.order_id, w.shipment_line_id)):
        level = (line.sku_id, line.location_id)
        others = (
            sum(qty for channel, qty in free[level].protected.items() if channel != line.channel_id)
            if (level in free)
            else 0
        )
        qty = max(0, min(line.waiting_qty, left.get(level, 0) - others))
        if qty < line.least_qty:
            qty = 0
        if qty:
            left[level] -= qty
        given.append(Given(line, qty))
    return given
