"""How demand moves over the year at the demo company: named curves, weekdays, festivals, shopping days."""

from __future__ import annotations

import math
from datetime import date

from apps.demo.catalogue import MID_AUTUMN, NEW_YEAR

_WEEKDAY = (1.12, 1.05, 1.0, 1.0, 1.08, 0.92, 0.83)


def _wave(day: date, peak_day_of_year: int, height: float) -> float:
    """1 ± height, a year long, highest on `peak_day_of_year`."""
    return 1 + height * math.cos(2 * math.pi * (day.timetuple().tm_yday - peak_day_of_year) / 365.25)


def _bump(day: date, centre: date, days_before: int, height: float) -> float:
    """A rise over `days_before` that peaks a week before `centre` and is over on it."""
    left = (centre - day).days
    if not 0 <= left <= days_before:
        return 0.0
    return height * math.exp(-(((left - 7) / (days_before / 3)) ** 2))


def _festival(day: date, table: dict[int, date], days_before: int, height: float) -> float:
    return sum(_bump(day, centre, days_before, height) for centre in table.values())


def season(curve: str, day: date) -> float:
    """The factor of a named curve on a day; 1 is an ordinary day."""
    if curve == "spring":
        return _wave(day, 105, 0.7)
    if curve == "summer":
        return _wave(day, 200, 0.6)
    if curve == "winter":
        return _wave(day, 10, 0.6)
    if curve == "tea":
        return _wave(day, 320, 0.2) + _festival(day, NEW_YEAR, 30, 0.6)
    if curve == "gift":
        return 0.85 + _festival(day, NEW_YEAR, 35, 1.2) + _festival(day, MID_AUTUMN, 30, 0.7)
    if curve == "newyear":
        return 0.15 + _festival(day, NEW_YEAR, 40, 4.5)
    if curve == "moon":
        return 0.12 + _festival(day, MID_AUTUMN, 35, 5.0)
    return 1.0


def shopping_day(day: date) -> float:
    """双11, 618, 双12 and their eves lift every curve."""
    if (day.month, day.day) in ((11, 11), (6, 18)):
        return 2.4
    if (day.month, day.day) in ((11, 10), (6, 17), (12, 12)):
        return 1.7
    return 1.0


def is_shut(day: date) -> bool:
    """The week of 春节: orders still come in, nothing is picked."""
    return any(0 <= (day - first).days <= 6 for first in NEW_YEAR.values())


def traffic(day: date) -> float:
    """How many orders a day has, beside an ordinary one."""
    quiet = 0.35 if is_shut(day) else 1.0
    return _WEEKDAY[day.weekday()] * shopping_day(day) * quiet * (1 + _festival(day, NEW_YEAR, 35, 0.5))
