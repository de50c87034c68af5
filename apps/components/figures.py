"""Figures as a reader of zh or en writes them: money, quantities, shares, days and instants.

Minus is − (U+2212), units come after the number, compact money is 万/亿 in Chinese and K/M in English.
"""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from babel.numbers import get_currency_precision

from forecasting.money import SIGNS
from forecasting.money import money as money

_WEEKDAYS = "一二三四五六日"


def decimals(currency: str) -> int:
    """How many decimals an amount of the currency has.

    >>> decimals("CNY"), decimals("JPY")
    (2, 0)
    """
    return int(get_currency_precision(currency))


def whole_units(cents: int, currency: str) -> float:
    """An amount of minor units in the currency's own unit, for a grid that writes the numbers itself.

    >>> whole_units(1234, "CNY"), whole_units(1234, "JPY")
    (12.34, 1234.0)
    """
    return cents / 10 ** decimals(currency)


def short_money(cents: int, currency: str, language: str) -> str:
    """An amount for a tile, without cents.

    >>> short_money(4_130_000, "CNY", "zh"), short_money(4_130_000, "CNY", "en"), short_money(93_200, "CNY", "en")
    ('¥4.1万', '¥41.3K', '¥932')
    >>> short_money(41_300, "JPY", "en")
    'JPY 41.3K'
    """
    units = abs(whole_units(cents, currency))
    steps = ((1e8, "亿"), (1e4, "万")) if language == "zh" else ((1e6, "M"), (1e3, "K"))
    for size, word in steps:
        if units >= size:
            shown = f"{units / size:.1f}".removesuffix(".0") + word
            break
    else:
        shown = f"{units:,.0f}"
    return f"{'−' if cents < 0 else ''}{SIGNS.get(currency, currency + ' ')}{shown}"


def qty(number: float) -> str:
    """A number of units.

    >>> qty(1200), qty(-3)
    ('1,200', '−3')
    """
    return f"{number:,.0f}".replace("-", "−")


def signed(number: float) -> str:
    """A change: with its sign, also when it is more.

    >>> signed(3), signed(-3), signed(0)
    ('+3', '−3', '0')
    """
    return f"+{qty(number)}" if number > 0 else qty(number)


def percent(ratio: float) -> str:
    """A share. What is not whole is never shown as 100 %.

    >>> percent(0.934), percent(-0.05), percent(0.9993), percent(1.0)
    ('93 %', '−5 %', '99.9 %', '100 %')
    """
    is_nearly_whole = 0.995 <= ratio < 1
    return f"{math.floor(ratio * 1000) / 10 if is_nearly_whole else round(ratio * 100)} %".replace("-", "−")


def fine_percent(ratio: float) -> str:
    """A share to a tenth of a percent, rounded down: what is not whole is never shown as 100 %.

    >>> fine_percent(0.9337), fine_percent(0.99952), fine_percent(1.0)
    ('93.3 %', '99.9 %', '100 %')
    """
    return f"{math.floor(ratio * 1000 + 1e-9) / 10:.1f} %".replace("100.0", "100")


def day(on: date, language: str, *, today: date) -> str:
    """A day with its weekday; with its year when that is not this one's.

    >>> day(date(2026, 11, 24), "zh", today=date(2026, 11, 22)), day(date(2026, 11, 24), "en", today=date(2026, 11, 22))
    ('11-24 周二', 'Tue 24 Nov')
    >>> day(date(2025, 11, 24), "zh", today=date(2026, 11, 22)), day(date(2025, 11, 24), "en", today=date(2026, 11, 22))
    ('2025-11-24', '24 Nov 2025')
    """
    if on.year != today.year:
        return on.isoformat() if language == "zh" else f"{on.day} {on:%b %Y}"
    return f"{on:%m-%d} 周{_WEEKDAYS[on.weekday()]}" if language == "zh" else f"{on:%a} {on.day} {on:%b}"


def clock_time(at: datetime, zone: ZoneInfo) -> str:
    """The time of day in the business zone, such as 08:14."""
    return f"{at.astimezone(zone):%H:%M}"


def moment(at: datetime, language: str, *, zone: ZoneInfo, today: date) -> str:
    """Day and time in the business zone; the time alone when it is today.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 11, 22, 0, 14, tzinfo=UTC), "en", zone=ZoneInfo("Asia/Shanghai"), today=date(2026, 11, 23))
    '22 Nov 08:14'
    """
    local = at.astimezone(zone)
    if local.date() == today:
        return f"{local:%H:%M}"
    if language == "zh":
        return f"{local:%Y-%m-%d %H:%M}" if local.year != today.year else f"{local:%m-%d %H:%M}"
    year = f" {local:%Y}" if local.year != today.year else ""
    return f"{local.day} {local:%b}{year} {local:%H:%M}"


def age(since: timedelta, language: str) -> str:
    """How long something waits: hours up to two days, then days.

    >>> age(timedelta(hours=26), "zh"), age(timedelta(days=5), "en"), age(timedelta(minutes=4), "en")
    ('26 小时', '5 d', '4 min')
    """
    minutes = max(0, int(since.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} 分钟" if language == "zh" else f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} 小时" if language == "zh" else f"{minutes // 60} h"
    return f"{minutes // 1440} 天" if language == "zh" else f"{minutes // 1440} d"
