"""Amounts as a person reads them, in the currency's own way."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from babel.numbers import get_currency_precision

SIGNS = {"CNY": "¥", "GBP": "£", "USD": "$", "EUR": "€"}


def money(cents: float, currency: str) -> str:
    """An amount of minor units of `currency`, with as many decimals as it has; two more below ten units where it is not
    whole, so that what a piece costs a week can be reckoned with.

    >>> money(241800, "CNY"), money(-50, "GBP"), money(100, "CHF"), money(500, "JPY")
    ('¥2,418.00', '−£0.50', 'CHF 1.00', 'JPY 500')
    >>> money(7102.7, "CNY"), money(57.6923, "CNY"), money(7.5, "JPY")
    ('¥71.03', '¥0.5769', 'JPY 7.50')
    """
    digits = get_currency_precision(currency)
    amount = Decimal(str(cents)).scaleb(-digits)
    if cents != round(cents) and abs(amount) < 10:
        digits += 2
    shown = abs(amount).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{'−' if amount < 0 else ''}{SIGNS.get(currency, f'{currency} ')}{shown:,}"
