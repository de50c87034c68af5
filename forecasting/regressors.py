"""Prices and promotions known ahead, as columns that a model of demand can learn from.

What moves demand is not the price but what it is against: what the product usually costs, what it cost last week, what
its rivals in the same place cost. Every column of a period reads that period and earlier ones only, so a column of a week
to come needs the plan up to that week and nothing after it.

>>> from datetime import date
>>> price = np.array([[2.0, 2.0, 1.5, 2.0], [1.8, 1.8, 1.8, 1.8]])
>>> panel = Panel(("A@HEL", "B@HEL"), date(2026, 1, 5), np.ones((2, 3)), {"location": np.array([0, 0])}, {"price": price})
>>> state = price_state(panel)
>>> state["depth"].round(2).tolist()  # log of the price over the usual one
[[0.0, 0.0, -0.29, 0.0], [0.0, 0.0, 0.0, 0.0]]
>>> state["over_cheapest_rival"][0].round(2).tolist()
[0.11, 0.11, -0.18, 0.11]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from forecasting.arrays import Floats, Ints
from forecasting.errors import BadFrame
from forecasting.panel import Panel

PRICE = "price"
USUAL_PERIODS = 26  # the highest price of half a year is the one without promotion
RECENT_PERIODS = 4
LONGEST = 30.0  # periods; longer ago is told as this long
CUT = -0.1  # log: a price this far below the usual one is a promotion, marked or not


def price_state(panel: Panel, promotions: Sequence[str] = ()) -> dict[str, Floats]:
    """Columns of price and promotion: name -> series × period, as far as the plan is known.

    Args:
        panel: `known` has ``price`` (money per unit, above zero) and the promotions. Attribute ``location`` says who
            are rivals (with ``category``, where there is one: only within it), ``product`` what is the same elsewhere.
        promotions: Names in `panel.known` of marks between 0 and 1, e.g. a display or an advertisement.

    Gaps in a price, and prices that aren't above zero, are filled with the middle price of the same product elsewhere in
    that period, then with the last one known; before the first one nothing is said (0), as of a series without any. Gaps
    in a mark are filled with its mean elsewhere, then 0.

    Raises:
        BadFrame: The price or a promotion isn't in `panel.known`.
    """
    missing = [name for name in (PRICE, *promotions) if name not in panel.known]
    if missing:
        raise BadFrame(f"{', '.join(missing)} is not among what is known ahead ({', '.join(panel.known) or 'nothing'})")
    series = len(panel.ids)
    product = panel.attributes.get("product", np.arange(series))
    place = panel.attributes.get("location", np.zeros(series, dtype=np.int64))
    category = panel.attributes.get("category", np.zeros(series, dtype=np.int64))
    rivals = np.unique(np.column_stack([place, category]), axis=0, return_inverse=True)[1].reshape(-1)
    price = panel.known[PRICE]
    given = _carried(_filled(np.log(np.where(price > 0, price, np.nan)), product, np.nanmedian))
    unsaid = np.isnan(given)
    log_price = np.nan_to_num(_carried(given[:, ::-1])[:, ::-1])  # where it is read, it stands for the first price
    rival_price = np.where(unsaid, np.inf, log_price)
    cheapest = _others_least(rival_price, rivals)
    depth = np.where(unsaid, 0.0, log_price - _rolling(log_price, USUAL_PERIODS, np.max))
    state = {
        "depth": depth,
        "depth_squared": depth**2,
        "over_median": log_price - _rolling(log_price, USUAL_PERIODS, np.median),
        "over_lowest_8": log_price - _before(_rolling(log_price, 8, np.min), 1),
        "cut": np.minimum(log_price - _before(log_price, 1), 0.0),
        "rise": np.maximum(log_price - _before(log_price, 1), 0.0),
        "depth_before": _before(depth, 1),
        "depth_2_before": _before(depth, 2),
        "depth_lately": _before(_rolling(depth, RECENT_PERIODS, np.mean), 1),
        "depth_twice": depth * _before(depth, 1),
        "periods_at_price": _run(np.abs(log_price - _before(log_price, 1)) < 0.01),
        "periods_since_cut": _since(depth < CUT),
        "over_elsewhere": log_price - _by_group(given, product, _median_known),
        "over_cheapest_rival": np.where(np.isfinite(cheapest), log_price - cheapest, 0.0),
        "rank": _rank(rival_price, rivals),
        "deepest_rival": _others_least(depth, rivals),
        "rivals_depth": _others_mean(depth, rivals),
    }
    state["rivals_depth_before"] = _before(state["rivals_depth"], 1)
    state = {name: np.where(unsaid, 0.0, values) for name, values in state.items()}
    for name in promotions:
        mark = np.nan_to_num(_filled(panel.known[name], product, np.nanmean))
        state |= {
            name: mark,
            f"{name}_before": _before(mark, 1),
            f"{name}_again": mark * _before(mark, 1),
            f"{name}_lately": _before(_rolling(mark, RECENT_PERIODS, np.mean), 1),
            f"{name}_depth": mark * depth,
            f"periods_since_{name}": _since(mark > 0.5),
            f"rivals_{name}": _others_mean(mark, rivals),
        }
    return state


def _rolling(values: Floats, periods: int, what: Callable[..., Any]) -> Floats:
    """`what` over the last `periods`, this one included; before the first period everything was as in it."""
    ahead = np.repeat(values[:, :1], periods - 1, axis=1)
    return np.asarray(what(sliding_window_view(np.concatenate([ahead, values], axis=1), periods, axis=1), axis=2))


def _before(values: Floats, periods: int) -> Floats:
    return np.concatenate([np.repeat(values[:, :1], periods, axis=1), values[:, :-periods]], axis=1)[
        :, : values.shape[1]
    ]


def _run(same: np.ndarray) -> Floats:
    """For how many periods before this one it was so."""
    run = np.zeros(same.shape)
    for t in range(1, same.shape[1]):
        run[:, t] = np.where(same[:, t], np.minimum(run[:, t - 1] + 1, LONGEST), 0.0)
    return run


def _since(was: np.ndarray) -> Floats:
    """Periods since it was last so, before this period."""
    since = np.full(was.shape, LONGEST)
    for t in range(1, was.shape[1]):
        since[:, t] = np.where(was[:, t - 1], 1.0, np.minimum(since[:, t - 1] + 1, LONGEST))
    return since


def _by_group(values: Floats, codes: Ints, what: Callable[..., Any]) -> Floats:
    """`what` over the series of a group, per period, for each of them."""
    out = np.empty_like(values)
    for code in np.unique(codes):
        at = np.flatnonzero(codes == code)
        out[at] = what(values[at], axis=0)
    return out


def _filled(values: Floats, product: Ints, what: Callable[..., Any]) -> Floats:
    gaps = np.isnan(values)
    if not gaps.any():
        return values

    return np.where(gaps, _by_group(values, product, lambda part, axis: _known(part, axis, what)), values)


def _known(part: Floats, axis: int, what: Callable[..., Any]) -> Floats:
    """`what` per period over the series that have a value, NaN where none has."""
    found = np.full(part.shape[1], np.nan)
    some = ~np.isnan(part).all(axis=axis)
    found[some] = what(part[:, some], axis=axis)
    return found


def _median_known(part: Floats, axis: int) -> Floats:
    return _known(part, axis, np.nanmedian)


def _carried(values: Floats) -> Floats:
    """Gaps take the last value before them; those at the start stay."""
    out = values.copy()
    for t in range(1, out.shape[1]):
        out[:, t] = np.where(np.isnan(out[:, t]), out[:, t - 1], out[:, t])
    return out


def _others_least(values: Floats, codes: Ints) -> Floats:
    """The least of the others in the group; one that is alone is compared with itself."""
    out = values.copy()
    for code in np.unique(codes):
        at = np.flatnonzero(codes == code)
        if at.size > 1:
            two = np.partition(values[at], 1, axis=0)
            out[at] = np.where(np.argmin(values[at], axis=0)[None] == np.arange(at.size)[:, None], two[1], two[0])
    return out


def _others_mean(values: Floats, codes: Ints) -> Floats:
    """Mean of the others in the group; 0 for one that is alone."""
    size = np.bincount(codes)[codes][:, None]
    return np.asarray((_by_group(values, codes, np.sum) - values) / np.maximum(size - 1, 1))


def _rank(values: Floats, codes: Ints) -> Floats:
    """Share of the group that is cheaper."""

    def cheaper(part: Floats, axis: int) -> Floats:
        ordered = np.sort(part, axis=axis)
        below = [np.searchsorted(ordered[:, t], part[:, t] - 1e-6) for t in range(part.shape[1])]
        return np.asarray(np.column_stack(below) / max(1, part.shape[axis] - 1))

    return _by_group(values, codes, cheaper)
