"""Money on the pages: in the currency it is of, with the decimals that currency has."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from apps.components.figures import decimals, short_money, whole_units
from apps.components.sentences import error_sentence
from orders_core.errors import CreditExceeded


@pytest.mark.parametrize(
    ("cents", "currency", "language", "shown"),
    [
        (1234, "JPY", "en", "JPY 1.2K"),
        (51_000, "KRW", "zh", "KRW 5.1万"),
        (-930, "JPY", "zh", "−JPY 930"),
        (1_500_000, "KWD", "en", "KWD 1.5K"),  # a dinar has a thousand fils
        (93_200, "CNY", "en", "¥932"),
    ],
)
def test_short_money_knows_how_many_decimals_a_currency_has(
    cents: int, currency: str, language: str, shown: str
) -> None:
    assert short_money(cents, currency, language) == shown


def test_a_grid_gets_amounts_in_the_currencys_own_unit() -> None:
    assert [(whole_units(1234, name), decimals(name)) for name in ("CNY", "JPY", "KWD")] == [
        (12.34, 2),
        (1234, 0),
        (1.234, 3),
    ]


@pytest.mark.parametrize(
    ("currency", "amounts"), [("GBP", ("£10.00", "£20.50", "£25.00")), ("JPY", ("JPY 1,000", "JPY 2,050", "JPY 2,500"))]
)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_credit_is_refused_in_the_customers_own_currency(
    currency: str, amounts: tuple[str, ...], language: str
) -> None:
    error = CreditExceeded(customer="ACME", used_cents=1000, asked_cents=2050, limit_cents=2500, currency=currency)
    kind, said = error_sentence(
        error, language, number="SO-1", asked="approve", last=None, zone=ZoneInfo("UTC"), today=date(2026, 3, 2)
    )
    assert kind == "warning"
    assert all(amount in said for amount in amounts), said
    assert "¥" not in said
