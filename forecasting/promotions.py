"""What price promotions multiply demand by: learned from those that were, applied to those that are planned.

A day inside a promotion sells exp(a + b·x) times an ordinary one, x = −ln(1 − discount); a week with a share s of such days
1 + s·(exp(a + b·x) − 1) times. So b is the (negative) price elasticity of a promotion and a what the announcement does by
itself, the constant-elasticity form of Tellis 1988 ("The price elasticity of selective demand", Journal of Marketing
Research 25). What an ordinary week would have sold is read from the weeks around without a promotion.

a and b are learned from all series together, then what each category and product does beyond it, each pulled to nothing as
strongly as its weeks are few: a quasi-Poisson regression with normal priors (Wedderburn 1974, "Quasi-likelihood functions",
Biometrika 61). Series without a promotion are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.arrays import Floats, Ints

AROUND_WEEKS = 8  # on either side, of which an ordinary week is read
LEAST_ORDINARY = 3  # weeks without a promotion among them
LEAST_ROWS = 4  # weeks of promotions in which a group was seen; fewer say nothing
PRIOR_SD = (
    (0.5, 2.0),
    (0.25, 1.0),
    (0.25, 1.0),
)  # of a and b: of all series; what a category adds; what a product adds
LEAST_FACTOR, MOST_FACTOR = 0.5, 20.0
MOST_DEPTH = 0.95
ROUNDS = 25


@dataclass(frozen=True)
class PromotionLifts:
    """What was learned.

    Attributes:
        a, b: Per series; 0 for those without anything learned.
        weeks: Weeks of promotions it was learned from, over all series.
    """

    a: Floats
    b: Floats
    weeks: int

    def factors(self, share: Floats, depth: Floats) -> Floats:
        """What each week is multiplied by: series × week, 1 without a promotion.

        Args:
            share, depth: `events.series_regressors`: share of the week's days inside a promotion, and mean depth over all
                seven days.
        """
        full = np.exp(self.a[:, None] + self.b[:, None] * _log_cut(share, depth))
        return np.asarray(np.clip(1 + share * (full - 1), LEAST_FACTOR, MOST_FACTOR))


def promotion_lifts(y: Floats, share: Floats, depth: Floats, *, levels: Sequence[Ints] = ()) -> PromotionLifts:
    """Learn from past weeks.

    Args:
        y: series × week, units, NaN where demand is not known; without what festivals do.
        share, depth: Of the same weeks.
        levels: Group code per series, wide to narrow (category, product), at most two.

    >>> y = np.full((4, 40), 10.0); y[:, 20:22] = 30.0
    >>> share, depth = np.zeros((2, 4, 40)); share[:, 20:22] = 1.0; depth[:, 20:22] = 0.2
    >>> promotion_lifts(y, share, depth).factors(np.ones((4, 1)), np.full((4, 1), 0.2)).round(1)[0]
    array([3.])
    """
    ordinary = _ordinary(y, share)
    row, week = np.nonzero((share > 0) & ~np.isnan(y) & (ordinary > 0))
    found = np.zeros((y.shape[0], 2))
    if row.size < LEAST_ROWS:
        return PromotionLifts(found[:, 0], found[:, 1], 0)
    asked, usual, days = y[row, week], ordinary[row, week], share[row, week]
    cut = _log_cut(share, depth)[row, week]
    for codes, sd in zip((np.zeros(y.shape[0], dtype=np.int64), *levels), PRIOR_SD, strict=False):
        before = found.copy()
        of = codes[row]
        for group in np.unique(of[of >= 0]):
            at = of == group
            if at.sum() >= LEAST_ROWS:
                own = _fit(asked[at], usual[at], days[at], cut[at], before[row[at]], np.array(sd))
                found[codes == group] = before[codes == group] + own
    return PromotionLifts(found[:, 0], found[:, 1], int(row.size))


def _log_cut(share: Floats, depth: Floats) -> Floats:
    """−ln(1 − mean discount of the days inside), 0 where there is none."""
    inside = np.divide(depth, share, out=np.zeros_like(depth), where=share > 0)
    return np.asarray(-np.log1p(-np.minimum(inside, MOST_DEPTH)))


def _ordinary(y: Floats, share: Floats) -> Floats:
    """Mean of the weeks around that are known and without a promotion; NaN where there are too few."""
    counts = np.where((share > 0) | np.isnan(y), 0.0, 1.0)
    sums = np.where(counts > 0, np.nan_to_num(y), 0.0)

    def around(values: Floats) -> Floats:
        wide = np.pad(values, ((0, 0), (AROUND_WEEKS + 1, AROUND_WEEKS))).cumsum(axis=1)
        return np.asarray(wide[:, 2 * AROUND_WEEKS + 1 :] - wide[:, : -2 * AROUND_WEEKS - 1])

    seen = around(counts)
    return np.where(seen >= LEAST_ORDINARY, around(sums) / np.maximum(seen, 1.0), np.nan)


def _fit(asked: Floats, usual: Floats, share: Floats, cut: Floats, before: Floats, sd: Floats) -> Floats:
    """a and b beyond `before` (row × 2): Newton's steps, the spread of the counts estimated between them."""
    design = np.column_stack([np.ones_like(cut), cut])
    beta = np.zeros(2)
    spread = 1.0
    for _ in range(ROUNDS):
        full = np.exp(np.clip((design * (before + beta)).sum(axis=1), -3.0, 4.0))
        expected = np.maximum(usual * (1 + share * (full - 1)), 1e-6)
        slope = (usual * share * full)[:, None] * design
        spread = max(1.0, float(np.mean((asked - expected) ** 2 / expected)))
        gradient = slope.T @ ((asked - expected) / expected) / spread - beta / sd**2
        curve = (slope / expected[:, None]).T @ slope / spread + np.diag(1 / sd**2)
        step = np.linalg.solve(curve, gradient)
        beta = beta + np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < 1e-6:
            break
    return np.asarray(beta)
