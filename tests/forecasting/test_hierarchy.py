from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.errors import BadFrame, BadSetting
from forecasting.hierarchy import (
    Hierarchy,
    aggregate,
    correlated_paths,
    hierarchy,
    reconcile,
    scaled_paths,
    shared_correlation,
)

LEVELS = [[], ["category"], ["category", "product"], ["location"], ["channel"]]


def company(series: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "unique_id": [f"P{i // 3}@{'HEL' if i % 3 else 'TKU'}-{i % 3}" for i in range(series)],
            "product": [f"P{i // 3}" for i in range(series)],
            "category": [None if i // 3 % 4 == 3 else f"C{i // 3 % 4}" for i in range(series)],
            "location": ["HEL" if i % 3 else "TKU" for i in range(series)],
            "channel": [["shop", "web"][i % 2] for i in range(series)],
        }
    )


def tree_of(series: int) -> Hierarchy:
    return hierarchy(company(series), levels=LEVELS)


def millionths(values: pl.Series) -> list[int]:
    """Whole millionths of what is printed, refusing what isn't one."""
    out = [round(v * 1e6) for v in values]
    assert [n / 1e6 for n in out] == values.to_list()
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 14), st.integers(1, 3), st.integers(0, 10**6), st.booleans())
def test_every_level_adds_up_to_the_last_digit_however_unlike_the_forecasts_are(
    count: int, steps: int, seed: int, is_structural: bool
) -> None:
    rng = np.random.default_rng(seed)
    tree = tree_of(count)
    nodes = tree.matrix.shape[0]
    base = rng.gamma(0.4, 30, (count, steps)) * (rng.random((count, steps)) < 0.8)
    wanted = rng.gamma(0.7, 60, (nodes, steps))
    variance = None if is_structural else rng.gamma(1.0, 10.0, nodes + count) + 1e-3
    mean = reconcile(tree, base, wanted, variance)
    assert mean.shape == base.shape and (mean >= 0).all() and np.isfinite(mean).all()
    assert (mean[base == 0] == 0).all()
    ds = [f"w{i}" for i in range(steps)]
    rows = tree.frame(mean, names=ds).with_columns(u=pl.Series(millionths(tree.frame(mean, names=ds)["mean"])))
    about = company(count).with_columns(pl.col("category").fill_null("-"))
    single = rows.filter(pl.col("level") == "series").join(about, left_on="key", right_on="unique_id")
    for level in LEVELS:
        key = pl.concat_str(level, separator="/") if level else pl.lit("")
        summed = single.group_by(key.alias("key"), "ds").agg(pl.col("u").sum())
        shown = rows.filter(pl.col("level") == ("/".join(level) or "total")).select("key", "ds", "u")
        assert summed.sort("key", "ds").equals(shown.sort("key", "ds"))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10), st.integers(0, 10**6))
def test_reconciling_is_the_textbook_formula_where_nothing_goes_below_zero(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = tree_of(count)
    base = rng.uniform(50, 60, (count, 1))
    wanted = tree.sums(base) * rng.uniform(0.95, 1.05, (tree.matrix.shape[0], 1))
    variance = rng.uniform(0.5, 2, tree.matrix.shape[0] + count)
    s = np.vstack([tree.matrix.toarray(), np.eye(count)])
    weight = np.diag(1 / variance)
    slow = np.linalg.solve(s.T @ weight @ s, s.T @ weight @ np.vstack([wanted, base]))
    np.testing.assert_allclose(reconcile(tree, base, wanted, variance), slow, rtol=1e-8)


def test_what_agrees_already_is_left_as_it_is() -> None:
    tree = tree_of(9)
    base = np.random.default_rng(1).gamma(1.0, 5.0, (9, 4))
    np.testing.assert_allclose(reconcile(tree, base, tree.sums(base)), base)
    unheard = np.full((tree.matrix.shape[0], 4), np.nan)
    np.testing.assert_array_equal(reconcile(tree, base, unheard), base)


def test_a_series_is_held_at_zero_and_the_others_give_the_rest() -> None:
    tree = hierarchy(pl.DataFrame({"unique_id": ["small", "large"]}), levels=[[]])
    variance = np.array([1e-9, 1.0, 1.0])  # the total is sure
    mean = reconcile(tree, np.array([[1.0], [19.0]]), np.array([[10.0]]), variance)
    assert mean[0, 0] == 0
    assert mean[1, 0] == pytest.approx(10)


def test_a_season_that_only_the_total_shows_reaches_the_products_and_lowers_the_error_of_the_total() -> None:
    rng = np.random.default_rng(8)
    products, weeks, ahead = 80, 104, 8
    season = 1 + 0.6 * np.cos(2 * np.pi * np.arange(weeks + ahead) / 52)
    y = rng.poisson(
        rng.gamma(1.0, 0.6, (products, 1)) * season
    )  # a product sells one every second week: no season to see
    tree = hierarchy(
        pl.DataFrame({"unique_id": [f"P{i}" for i in range(products)], "category": ["a", "b"] * (products // 2)}),
        levels=[[], ["category"]],
    )
    past, actual = y[:, :weeks].astype(float), y[:, weeks:].astype(float)
    base = np.repeat(past.mean(axis=1, keepdims=True), ahead, axis=1)
    aggregates = tree.sums(past)
    wanted = (aggregates[:, :ahead] + aggregates[:, 52 : 52 + ahead]) / 2  # the same weeks of the two years before
    variance = np.concatenate([(aggregates[:, 52:] - aggregates[:, :52]).var(axis=1) / 2, past.var(axis=1) + 1e-3])
    ours = reconcile(tree, base, wanted, variance)
    error = {
        name: np.abs(tree.sums(forecast)[0] - tree.sums(actual)[0]).sum()
        for name, forecast in (("bottom_up", base), ("reconciled", ours))
    }
    assert error["reconciled"] < 0.5 * error["bottom_up"]
    assert ((ours - actual) ** 2).sum() < 0.97 * ((base - actual) ** 2).sum()


def test_aggregates_of_a_long_frame_conserve_what_was_asked() -> None:
    about = company(12)
    day = date(2026, 1, 5)
    rows = pl.concat(
        [about.with_columns(ds=day + timedelta(days=7 * w), y=pl.Series(range(12)) * 1.0 + w) for w in range(3)]
    )
    summed = aggregate(rows.to_pandas(), levels=LEVELS)
    for level in summed["level"].unique():
        assert summed.filter(pl.col("level") == level)["y"].sum() == rows["y"].sum()
    tree = tree_of(12)
    fast = tree.sums(np.array([rows.filter(pl.col("unique_id") == i).sort("ds")["y"].to_numpy() for i in tree.ids]))
    order = tree.keys.select("level", "key").join(summed, on=["level", "key"], how="left", maintain_order="left")
    np.testing.assert_allclose(order["y"].to_numpy().reshape(fast.shape), fast)


def test_a_category_that_is_missing_is_a_key_of_its_own() -> None:
    keys = tree_of(12).keys.filter(pl.col("level") == "category")["key"].to_list()
    assert keys == ["-", "C0", "C1", "C2"]


def test_series_and_order_of_arrays_are_checked() -> None:
    about = company(4)
    assert hierarchy(about, levels=[[]], ids=list(reversed(about["unique_id"]))).ids[0] == about["unique_id"][-1]
    with pytest.raises(BadFrame, match="first NOBODY"):
        hierarchy(about, levels=[[]], ids=["NOBODY"])
    with pytest.raises(BadFrame, match="one row per unique_id"):
        hierarchy(pl.concat([about, about]), levels=[[]])
    with pytest.raises(BadFrame, match="category"):
        hierarchy(about.drop("category"), levels=LEVELS)
    tree = hierarchy(about, levels=[[]])
    with pytest.raises(BadSetting, match="positive"):
        reconcile(tree, np.ones((4, 1)), np.ones((1, 1)), np.zeros(5))
    with pytest.raises(BadFrame, match="1 series"):
        tree.frame(np.array([[1.0], [np.nan], [0.0], [1.0]]), names=["w"])
    with pytest.raises(BadFrame):
        reconcile(tree, np.ones((3, 1)), np.ones((1, 1)))


# ---- sums of possible futures -------------------------------------------------------------------------------------


def correlated_history(rng: np.random.Generator, series: int, weeks: int, shared: float) -> np.ndarray:
    common = np.exp(rng.normal(0, shared, weeks))
    return rng.poisson(40 * common[None, :] * np.exp(rng.normal(0, 0.15, (series, weeks)))).astype(float)


def test_the_correlation_between_series_is_read_from_their_weeks() -> None:
    rng = np.random.default_rng(3)
    assert shared_correlation(correlated_history(rng, 60, 60, 0.0)) < 0.05
    together = correlated_history(rng, 60, 60, 0.3)
    slow = np.corrcoef(together)[np.triu_indices(60, 1)].mean()
    assert shared_correlation(together) == pytest.approx(slow, abs=0.1)
    together[::2, :30] = np.nan
    assert shared_correlation(together) == pytest.approx(slow, abs=0.12)
    assert shared_correlation(np.ones((5, 60))) == 0
    assert shared_correlation(np.zeros((0, 60))) == 0


def test_paths_in_another_order_are_the_same_paths() -> None:
    paths = np.random.default_rng(4).poisson(2.0, (6, 50, 3)).astype(float)
    moved = correlated_paths(paths, 0.6, seed=1)
    for before, after in zip(paths, moved, strict=True):
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))
    np.testing.assert_array_equal(moved, correlated_paths(paths, 0.6, seed=1))
    with pytest.raises(BadSetting, match=r"1\.5"):
        correlated_paths(paths, 1.5, seed=1)


def test_the_interval_of_a_total_covers_what_it_says_when_series_move_together() -> None:
    rng = np.random.default_rng(6)
    series, weeks = 40, 400
    y = correlated_history(rng, series, 60 + weeks, 0.15)
    correlation = shared_correlation(y[:, :60])
    single = np.stack([rng.choice(row, 400) for row in y[:, :60]])[:, :, None]  # right for each series by itself
    covered = {}
    for name, paths in (("independent", single), ("ours", correlated_paths(single, correlation, seed=2))):
        low, high = np.quantile(paths.sum(axis=0), [0.05, 0.95])
        total = y[:, 60:].sum(axis=0)
        covered[name] = ((total >= low) & (total <= high)).mean()
    of_sums = np.quantile(single, [0.05, 0.95], axis=1).sum(axis=1)  # what adding up quantiles would say
    adding = ((total >= of_sums[0]) & (total <= of_sums[1])).mean()
    assert covered["independent"] < 0.5
    assert 0.83 < covered["ours"] < 0.96 and adding > 0.98


def test_the_long_frame_has_quantiles_of_sums_and_the_means_of_the_reconciled_forecast() -> None:
    tree = tree_of(6)
    paths = np.random.default_rng(5).gamma(2.0, 3.0, (6, 300, 2))
    mean = np.arange(12.0).reshape(6, 2)
    moved = scaled_paths(paths, mean)
    np.testing.assert_allclose(moved.mean(axis=1), mean)
    rows = tree.frame(mean, names=[date(2026, 1, 4), date(2026, 1, 11)], paths=moved, levels=[0.5, 0.9])
    total = rows.filter(pl.col("level") == "total")
    assert rows.columns == ["level", "key", "ds", "mean", "q50", "q90"]
    assert total["mean"].to_list() == mean.sum(axis=0).tolist()
    assert total["q90"].to_list() == pytest.approx(np.quantile(moved.sum(axis=0), 0.9, axis=0).tolist())
    assert (
        total["q90"][0] < rows.filter((pl.col("level") == "series") & (pl.col("ds") == date(2026, 1, 4)))["q90"].sum()
    )
    silent = scaled_paths(np.zeros((1, 4, 1)), np.array([[2.0]]))
    assert silent.ravel().tolist() == [2.0] * 4
