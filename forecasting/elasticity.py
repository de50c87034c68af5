"""How demand answers prices and promotions: a regression of log demand, of all series together.

log y = level of the series + β · x, where β = β_all + β_product + β_series and each part is shrunk towards nothing: a product
that was never cut answers as products do, a shop with a short history as the product does elsewhere (ridge regression
level by level; Hoerl & Kennard 1970, "Ridge regression", and the hierarchical store models of Montgomery 1997). What a week
has that the columns don't know is shared by all places, so a thousand shops in one week are about one observation:
the strength of each shrinkage is counted in periods, not in rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.arrays import Floats, Ints


@dataclass(frozen=True)
class ElasticitySettings:
    """How much is believed.

    Attributes:
        half_life_periods: A period this long ago counts half.
        penalty_all, penalty_product, penalty_series: Periods of evidence that must be outweighed.
        level_half_life_periods: The same for the level, which follows what the columns leave over.
        level_penalty: Periods with which the level is drawn to that of the whole history.
    """

    half_life_periods: float = 60.0
    penalty_all: float = 10.0
    penalty_product: float = 60.0
    penalty_series: float = 60.0
    level_half_life_periods: float = 6.0
    level_penalty: float = 2.0


def log_demand(y: Floats) -> Floats:
    """Natural logarithm of demand; a period without any is taken as half a unit, NaN stays."""
    return np.log(np.maximum(y, 0.5))


def expected_log_demand(
    seen: Floats, columns: Floats, product: Ints, settings: ElasticitySettings = ElasticitySettings()
) -> tuple[Floats, Floats]:
    """Log demand of every period of `columns`, as it follows from the periods of `seen`.

    Args:
        seen: series × period: log demand before the cutoff, NaN where unknown.
        columns: series × (period + periods ahead) × column, no NaN.
        product: Code per series: who shares a β.

    Returns:
        Two arrays series × (period + periods ahead): with the level of the cutoff (the forecast), and with the level of the
        whole history (what the past is measured against).
    """
    series, cutoff = seen.shape
    age = cutoff - 1.0 - np.arange(cutoff)
    known = ~np.isnan(seen)
    weight = known * 0.5 ** (age / settings.half_life_periods)
    total = weight.sum(axis=1) + 1e-9
    y = np.nan_to_num(seen)
    # a series without any demand starts from the middle of the others
    level = np.where(known.any(axis=1), (weight * y).sum(axis=1) / total, np.median(y[known]) if known.any() else 0.0)
    centre = np.matmul(weight[:, None, :], columns[:, :cutoff])[:, 0] / total[:, None]
    x = columns - centre[:, None]
    spread = np.sqrt(np.einsum("st,stk->k", weight, x[:, :cutoff] ** 2) / total.sum()) + 1e-3
    x /= spread
    weighted = x[:, :cutoff] * weight[..., None]
    gram = np.matmul(weighted.transpose(0, 2, 1), x[:, :cutoff])
    left = np.einsum("stk,st->sk", weighted, np.where(known, y - level[:, None], 0.0))
    beta = np.zeros_like(left)
    everyone = np.zeros(series, dtype=np.int64)
    for codes, penalty in (
        (everyone, settings.penalty_all),
        (product, settings.penalty_product),
        (np.arange(series), settings.penalty_series),
    ):
        step = _ridge(gram, left, codes, penalty)[codes]
        beta += step
        left = left - np.matmul(gram, step[..., None])[..., 0]
    fitted = level[:, None] + np.matmul(x, beta[..., None])[..., 0]
    recent = known * 0.5 ** (age / settings.level_half_life_periods)
    over = np.where(known, y - fitted[:, :cutoff], 0.0)
    moved = (recent * over).sum(axis=1) / (recent.sum(axis=1) + settings.level_penalty)
    return fitted + moved[:, None], fitted


def _ridge(gram: Floats, left: Floats, codes: Ints, penalty: float) -> Floats:
    """Coefficients per group: gram matrices averaged over its series, so that a penalty is in periods."""
    groups = int(codes.max()) + 1
    size = np.bincount(codes, minlength=groups)
    of_group = np.zeros((groups, *gram.shape[1:]))
    toward = np.zeros((groups, left.shape[1]))
    np.add.at(of_group, codes, gram)
    np.add.at(toward, codes, left)
    scale = np.maximum(size, 1)
    of_group = of_group / scale[:, None, None] + penalty * np.eye(left.shape[1])
    return np.asarray(np.linalg.solve(of_group, (toward / scale[:, None])[..., None])[..., 0])
