"""What a global model is told about a series at a cutoff: the same function for learning and for forecasting.

A row is (series, cutoff, step): `step` 0 is the first period that isn't known. Everything is told in units of the
series' own level at the cutoff, so that a series of one a week and one of a thousand teach each other. Only periods
before the cutoff are read, and of `Panel.known` also those up to the target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forecasting.arrays import Floats, Ints
from forecasting.panel import Panel
from forecasting.regressors import PRICE, price_state

LAGS = 6
MEANS = (2, 4, 8, 13, 26, 52, 104)
SMOOTHING = 0.2
MOMENTS = ((1, 8), (2, 13), (4, 26))  # mean of the last n periods of a group against its last m
LEAST_LEVEL = 0.05  # units a period: below it a level says nothing
LEAST_INDEX = 0.2
SHRINK_PERIODS = 40.0  # observations of the wider group that a group's season is mixed with


class Features:
    """Feature rows of a panel. What depends on the cutoff alone is worked out once and kept.

    Args:
        panel: The series.
        by_root: In the season that all share a series counts by the root of its size, not by its size: the jumps of one
            big product are no season of the others then. Where half the series are spare parts it changes nothing or
            errs a little more (docs/decisions.md, section 14).
    """

    def __init__(self, panel: Panel, *, by_root: bool = False) -> None:
        self.panel, self.by_root = panel, by_root
        self._known = ~np.isnan(panel.y)
        self._value = np.nan_to_num(panel.y)
        self._positions = panel.season_position(np.arange(panel.periods + 3 * panel.season_length))
        total = np.zeros(len(panel.ids), dtype=np.int64)
        self._groups = {"total": total, **panel.attributes}
        self._prices = price_state(panel) if PRICE in panel.known else {}
        self._sums = {name: self._by_group(codes) for name, codes in self._groups.items()}
        self._at: dict[int, _Cutoff] = {}

    def rows(self, cutoff: int, step: int, *, told_step: int | None = None) -> tuple[Floats, Floats]:
        """Features (series × column, NaN where there is nothing to say) and the expected units they are told in
        (level × season of the target period), for the forecast of period `cutoff + step` made at `cutoff`.

        `told_step` is the step the model is told instead, for targets further away than it was taught."""
        at = self._cutoff(cutoff)
        columns, unit = at.target(step, step if told_step is None else told_step)
        stacked = np.column_stack([at.columns, columns])
        return stacked, unit

    def season(self, cutoff: int) -> Floats:
        """The season that all series share, by position in the year, around 1, as known at `cutoff`."""
        return np.asarray(np.maximum(self._cutoff(cutoff).seasons["total"][0], LEAST_INDEX))

    def forget(self, before: int) -> None:
        """Drop what was kept of cutoffs before `before`."""
        self._at = {cutoff: kept for cutoff, kept in self._at.items() if cutoff >= before}

    def _cutoff(self, cutoff: int) -> _Cutoff:
        if cutoff not in self._at:
            self._at[cutoff] = _Cutoff(self, cutoff)
        return self._at[cutoff]

    def _by_group(self, codes: Ints) -> tuple[Floats, Floats]:
        groups = int(codes.max(initial=-1)) + 1
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(groups))
        if not groups:
            return np.zeros((0, self.panel.periods)), np.zeros((0, self.panel.periods))
        return (
            np.add.reduceat(self._value[order], starts, axis=0),
            np.add.reduceat(self._known[order].astype(np.float64), starts, axis=0),
        )


class _Cutoff:
    """What is known at one cutoff."""

    def __init__(self, source: Features, cutoff: int) -> None:
        self.source, self.cutoff = source, cutoff
        c = cutoff
        self.seasons = self._seasons()
        season = self.seasons["total"][0]
        index = np.maximum(season[source._positions[:c]], LEAST_INDEX)
        known = source._known[:, :c]
        value = source._value[:, :c] / index
        ever = _mean(value, known, c, weight=1.0, prior=_overall(value, known))
        year = _mean(value, known, 52, weight=4.0, prior=ever)
        quarter = _mean(value, known, 13, weight=3.0, prior=year)
        self.level = np.maximum(0.6 * quarter + 0.4 * year, LEAST_LEVEL)
        self.seen = seen = np.where(known, value, np.nan)
        scale = self.level[:, None]
        columns = [
            _lags(seen, LAGS) / scale,
            np.column_stack([_mean_known(seen[:, -n:]) for n in MEANS]) / scale,
            (_smoothed(value, known, year) / self.level)[:, None],
            np.log(self.level)[:, None],
            _recent_shape(seen[:, -26:], scale),
            known[:, -13:].mean(axis=1)[:, None],
            _ages(source._value[:, :c], known),
        ]
        for name, codes in source._groups.items():
            sums, counts = source._sums[name]
            flat, count = sums[:, :c] / index, counts[:, :c]
            for recent, before in MOMENTS:
                columns.append(_momentum(flat, count, recent, before)[codes][:, None])
            if name != "total":
                columns.append(_others(value, known, flat, count, codes)[:, None])
        self.columns = np.column_stack(columns)

    def target(self, step: int, told_step: int) -> tuple[Floats, Floats]:
        """The columns that depend on the target period, and the unit."""
        source, c = self.source, self.cutoff
        position = int(source._positions[c + step])
        index = max(float(self.seasons["total"][0][position]), LEAST_INDEX)
        recent = source._positions[max(0, c - 4) : c]
        columns: list[Floats] = []
        series = len(source.panel.ids)
        for name, codes in source._groups.items():
            season = self.seasons[name]
            if name == "total":
                columns += [np.full(series, index), np.full(series, index / max(season[0][recent].mean(), LEAST_INDEX))]
                continue
            ratio = season[:, position] / index
            lately = season[:, recent].mean(axis=1) / max(self.seasons["total"][0][recent].mean(), LEAST_INDEX)
            columns += [ratio[codes], (ratio / np.maximum(lately, 0.05))[codes]]
        year = 52 if source.panel.period_days else 12
        for half in (0, 1, 3):
            columns.append(_around(self.seen, c + step - year, half) / self.level)
        before = _around(self.seen, c + step - year - 9, 6)
        columns.append((_around(self.seen, c + step - year, 2) + 0.2) / (before + 0.2))
        columns += [np.full(series, float(told_step)), np.full(series, float(position))]
        for values in source.panel.known.values():
            columns += _known_ahead(values, c, step)
        columns += [values[:, c + step] for values in source._prices.values()]
        return np.column_stack(columns), self.level * index

    def _seasons(self) -> dict[str, Floats]:
        """Seasonal index per group: group × position, around 1. Groups are mixed with the total's by how much they
        have been seen."""
        source, c = self.source, self.cutoff
        positions = source._positions[:c]
        year = 52 if source.panel.period_days else 12
        length = source.panel.season_length
        asked, expected = self._by_root() if source.by_root else (part[0, :c] for part in source._sums["total"])
        whole = _season(asked[None], expected[None], positions, length, year, prior=None)
        found = {"total": whole}
        for name in source.panel.attributes:
            sums, counts = source._sums[name]
            found[name] = _season(sums[:, :c], counts[:, :c], positions, length, year, prior=whole)
        return found

    def _by_root(self) -> tuple[Floats, Floats]:
        """Demand of each period over the root of its series' size, summed, and what would be expected without a season:
        a period in which a big series isn't known is no weak one."""
        value, known = self.source._value[:, : self.cutoff], self.source._known[:, : self.cutoff]
        size = ((value.sum(axis=1) + 0.5) / (known.sum(axis=1) + 0.5))[:, None]
        return (value / np.sqrt(size)).sum(axis=0), (known * np.sqrt(size)).sum(axis=0)


def _season(sums: Floats, counts: Floats, positions: Ints, length: int, year: int, prior: Floats | None) -> Floats:
    """Season of each group from sums and counts (group × period) that end at the cutoff: demand of a position over
    the level of its year, years counted back from the cutoff so that each holds every position once."""
    groups, periods = sums.shape
    whole_years = periods // year
    flat = np.ones((groups, length))
    if not whole_years:
        return flat
    level = np.zeros((groups, periods))
    for back in range(whole_years):
        block = slice(periods - (back + 1) * year, periods - back * year)
        level[:, block] = (sums[:, block].sum(axis=1) / np.maximum(counts[:, block].sum(axis=1), 1.0))[:, None]
    start = periods - whole_years * year
    level[:, :start] = level[:, start : start + 1]  # an unfinished year: taken as selling like the one after it
    asked = np.zeros((groups, length))
    expected = np.zeros((groups, length))
    np.add.at(asked.T, positions, sums.T)
    np.add.at(expected.T, positions, (counts * level).T)
    if prior is None:
        index = np.where(expected > 0, asked / np.maximum(expected, 1e-9), np.nan)
        index = index / np.nanmean(index, axis=1, keepdims=True)
        return np.where(np.isnan(index), 1.0, index)
    asked = asked + 0.5 * (np.roll(asked, 1, axis=1) + np.roll(asked, -1, axis=1))
    expected = expected + 0.5 * (np.roll(expected, 1, axis=1) + np.roll(expected, -1, axis=1))
    return np.asarray((asked + SHRINK_PERIODS * prior) / (expected + SHRINK_PERIODS))


def _mean(value: Floats, known: np.ndarray, periods: int, *, weight: float, prior: Floats | float) -> Floats:
    recent = slice(max(0, value.shape[1] - periods), None)
    total: Floats = value[:, recent].sum(axis=1) + weight * prior
    return np.asarray(total / (known[:, recent].sum(axis=1) + weight))


def _overall(value: Floats, known: np.ndarray) -> float:
    return float(value.sum() / max(1, known.sum()))


def _mean_known(values: Floats) -> Floats:
    """Mean of each row's known periods; NaN where none is."""
    count = (~np.isnan(values)).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _lags(seen: Floats, lags: int) -> Floats:
    out = np.full((seen.shape[0], lags), np.nan)
    have = min(lags, seen.shape[1])
    out[:, :have] = seen[:, seen.shape[1] - have :][:, ::-1]
    return out


def _smoothed(value: Floats, known: np.ndarray, start: Floats) -> Floats:
    level = start.copy()
    for t in range(max(0, value.shape[1] - 40), value.shape[1]):
        level = np.where(known[:, t], (1 - SMOOTHING) * level + SMOOTHING * value[:, t], level)
    return level


def _recent_shape(seen: Floats, scale: Floats) -> Floats:
    """Share of zeros, spread, largest and median of the recent periods."""
    count = np.maximum((~np.isnan(seen)).sum(axis=1), 1)
    filled = np.nan_to_num(seen)
    mean = filled.sum(axis=1) / count
    spread = np.sqrt(np.nansum((seen - mean[:, None]) ** 2, axis=1) / count)
    ordered = np.sort(seen, axis=1)  # NaN last
    median = ordered[np.arange(seen.shape[0]), (count - 1) // 2]
    return np.column_stack(
        [(seen == 0).sum(axis=1) / count, *(x / scale[:, 0] for x in (spread, filled.max(axis=1, initial=0.0), median))]
    )


def _ages(value: Floats, known: np.ndarray) -> Floats:
    """Periods since the first one known, and since the last with demand (NaN: never)."""
    periods = value.shape[1]
    first = np.where(known.any(axis=1), periods - np.argmax(known, axis=1), np.nan)
    asked = value > 0
    last = np.where(asked.any(axis=1), np.argmax(asked[:, ::-1], axis=1), np.nan)
    return np.column_stack([np.minimum(first, 104.0), np.minimum(last, 52.0)])


def _momentum(sums: Floats, counts: Floats, recent: int, before: int) -> Floats:
    """Mean of the last `recent` periods over that of the last `before`, one unit added to both: rare demand says
    little."""
    now = (sums[:, -recent:].sum(axis=1) + 1.0) / (counts[:, -recent:].sum(axis=1) + 1.0)
    then = (sums[:, -before:].sum(axis=1) + 1.0) / (counts[:, -before:].sum(axis=1) + 1.0)
    return np.asarray(now / then)


def _others(value: Floats, known: np.ndarray, sums: Floats, counts: Floats, codes: Ints) -> Floats:
    """The same momentum (2 against 13 periods) of the rest of the series' group: does it jump elsewhere too?"""
    now = sums[:, -2:].sum(axis=1)[codes] - value[:, -2:].sum(axis=1) + 1.0
    now /= counts[:, -2:].sum(axis=1)[codes] - known[:, -2:].sum(axis=1) + 1.0
    then = sums[:, -13:].sum(axis=1)[codes] - value[:, -13:].sum(axis=1) + 1.0
    then /= counts[:, -13:].sum(axis=1)[codes] - known[:, -13:].sum(axis=1) + 1.0
    return np.asarray(now / then)


def _around(seen: Floats, centre: int, half: int) -> Floats:
    """Mean of the known periods within `half` of `centre`; NaN outside."""
    low, high = max(0, centre - half), min(seen.shape[1], centre + half + 1)
    if low >= high:
        return np.full(seen.shape[0], np.nan)
    return _mean_known(seen[:, low:high])


def _known_ahead(values: Floats, cutoff: int, step: int) -> list[Floats]:
    """A regressor at the target, and against its mean of the last 13 periods."""
    at = values[:, cutoff + step]
    return [at, at - _mean_known(values[:, max(0, cutoff - 13) : cutoff])]


def training_rows(
    features: Features, cutoffs: Sequence[int], steps: Sequence[int], *, known_until: int
) -> tuple[Floats, Floats, Floats, Ints, Ints]:
    """Rows to learn from: features, target / unit, unit, cutoff, series; of targets before `known_until` that are
    known."""
    parts: list[tuple[Floats, Floats, Floats, Ints, Ints]] = []
    y = features.panel.y
    for cutoff in cutoffs:
        for step in steps:
            if cutoff + step >= known_until:
                continue
            rows, unit = features.rows(cutoff, step)
            target = y[:, cutoff + step]
            at = np.flatnonzero(~np.isnan(target))
            parts.append((rows[at], target[at] / unit[at], unit[at], np.full(at.size, cutoff), at))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]
