"""Why a forecast is this many: what was sold lately, and what was added to it or taken off, in units that sum to it.

level       what was sold in the last eight weeks (or since its first whole one), a week, times the weeks of the horizon
stock_out   what would have been sold besides had the shelf not been empty (estimated demand − sold)
season      the coming weeks against the last eight, by the season that all series share
event       festivals, shopping days and promotions: what they do to the coming weeks, less what they did to the last eight
closed      days of the horizon without business, or after the end of the product
trend       the rest: what the model saw in trend, in last year, in other products and places
"""

from __future__ import annotations

import numpy as np

from forecasting.arrays import Floats

LEVEL_WEEKS = 8
PARTS = ("level_part_qty", "stock_out_part_qty", "season_part_qty", "closed_part_qty", "trend_part_qty")
EVENT_PART = "event_part_qty"  # one part more, where events move the last weeks or the coming ones


def explain(
    *,
    sold: Floats,
    demand: Floats,
    season_ratio: Floats,
    season_weight: float,
    open_total: float,
    total: float,
    days: int,
    ordinary: Floats | None = None,
    ordinary_total: float = 0.0,
) -> dict[str, float]:
    """The parts of a forecast total, units, two decimals; they sum to ``explained_qty``, the total rounded alike.

    Args:
        sold, demand: Per week, oldest first, ending with the as-of day: as recorded, and with stock-outs estimated.
        season_ratio: Per week ahead: its season over that of the last eight weeks; 1 where none is known.
        season_weight: How much of the forecast follows that season: 1 for the boosted model, a half for a mean with it.
        open_total: The forecast of the horizon with every day open.
        total: The forecast itself.
        days: Length of the horizon.
        ordinary, ordinary_total: `demand` and `open_total` as they would be without festivals and promotions; None where
            these do nothing, then they are no part.

    >>> week = np.full(8, 10.0)
    >>> explain(sold=week - 1, demand=week, season_ratio=np.array([1.5, 1.5]), season_weight=1.0, open_total=31.0,
    ...         total=28.0, days=14)["season_part_qty"]
    10.0
    """
    weeks = days / 7
    lately = sold[-LEVEL_WEEKS:].mean() if sold.size else 0.0
    estimated = demand[-LEVEL_WEEKS:].mean() if demand.size else 0.0
    level = ordinary[-LEVEL_WEEKS:].mean() if ordinary is not None and ordinary.size else estimated
    inside = np.clip(weeks - np.arange(season_ratio.size), 0.0, 1.0)  # share of each week within the horizon
    parts = {
        "level_part_qty": lately * weeks,
        "stock_out_part_qty": (estimated - lately) * weeks,
        "season_part_qty": season_weight * level * float(((season_ratio - 1) * inside).sum()),
        "closed_part_qty": total - open_total,
    }
    if ordinary is not None:
        parts[EVENT_PART] = (level - estimated) * weeks + open_total - ordinary_total
    rounded = {name: round(float(qty), 2) + 0.0 for name, qty in parts.items()}
    explained = round(float(total), 2)
    rounded["trend_part_qty"] = round(explained - sum(rounded.values()), 2) + 0.0
    return {"explained_days": days, "explained_qty": explained, **rounded}
