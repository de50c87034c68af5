"""Money in integer minor units: sharing, rounding, tax. Parts always sum to the whole."""

from __future__ import annotations

from collections.abc import Sequence


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` minor units over `weights` by largest remainder; equal parts when all weights are zero.

    Ties go to the earlier part. The parts sum to `total` exactly, also when it is negative.

    >>> share(299, [1000, 1000, 1000]), share(299, [4300, 1400, 2300]), share(10, [0, 0])
    ([100, 100, 99], [161, 52, 86], [5, 5])
    """
    if not weights:
        return []
    if total < 0:
        return [-part for part in share(-total, weights)]
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator rounded to the nearest whole, halves away from zero; denominator > 0.

    >>> half_up(25, 10), half_up(-25, 10), half_up(24, 10)
    (3, -3, 2)
    """
    if numerator < 0:
        return -half_up(-numerator, denominator)
    return (2 * numerator + denominator) // (2 * denominator)


def tax_contained(gross_cents: int, rate_bp: int) -> int:
    """The tax inside a tax-included amount at `rate_bp` basis points (1300 = 13 %).

    >>> tax_contained(11300, 1300)
    1300
    """
    return half_up(gross_cents * rate_bp, 10_000 + rate_bp)


def tax_on_top(net_cents: int, rate_bp: int) -> int:
    """The tax to add to a tax-free amount.

    >>> tax_on_top(10000, 1500)
    1500
    """
    return half_up(net_cents * rate_bp, 10_000)
