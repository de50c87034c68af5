"""What units that come back are worth."""

from __future__ import annotations

from orders_core.domain.money import half_up


def worth_cents(whole_cents: int, *, ordered_qty: int, sent_free_qty: int, came_back_qty: int) -> int:
    """The share of a line's money for all units of it that came back: units sent beyond the order cost nothing.

    `whole_cents` and `ordered_qty` are those of what still stands of the line, without what was cancelled of it.

    They are the first to come back, so that what is kept is what was paid for. Never above `whole_cents`.

    >>> worth_cents(1000, ordered_qty=10, sent_free_qty=0, came_back_qty=5)
    500
    >>> worth_cents(1000, ordered_qty=10, sent_free_qty=2, came_back_qty=5)
    300
    >>> worth_cents(1000, ordered_qty=10, sent_free_qty=2, came_back_qty=12)
    1000
    """
    paid_qty = max(0, came_back_qty - sent_free_qty)
    return min(whole_cents, half_up(whole_cents * paid_qty, ordered_qty))
