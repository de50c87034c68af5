from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from forecasting.errors import BadFrame, BadSetting
from forecasting.reasons import sentence, sentences
from forecasting.similar import cold_start, first_weeks

BEGIN = date(2025, 1, 6)
AS_OF = BEGIN + timedelta(days=419)
RUSH = np.array([2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.8, 0.8])
KINDS = {"MUG": 8.0, "LAMP": 40.0, "CARD": 150.0, "VASE": 3.0}  # units a week
WORDS = ("RED", "BLUE", "GREEN", "STAR", "HEART", "CITY")


def company(seed: int, launches: int = 120) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, float]]:
    """History, catalogue and the true weekly level of products launched one after the other, and of 40 that were always
    there and sell half as much as when they were new."""
    rng = np.random.default_rng(seed)
    rows, about, truth = [], [], {}
    for n in range(launches + 40):
        kind = list(KINDS)[n % len(KINDS)]
        product = f"N{n:03d}" if n < launches else f"OLD{n:03d}"
        level = KINDS[kind] * rng.gamma(4.0, 1 / 4.0)
        start = 70 + n * (400 - 70) // launches if n < launches else 0
        for day in range(start, 420):
            rush = RUSH[min((day - start) // 7, 7)] if n < launches else 0.4
            units = rng.poisson(level / 7 * rush * rng.gamma(1.0))
            if units or day == start:
                rows.append((product, BEGIN + timedelta(days=day), float(max(units, day == start))))
        price = {"MUG": 6.0, "LAMP": 30.0, "CARD": 1.0, "VASE": 22.0}[kind] * rng.uniform(0.8, 1.25)
        about.append((product, f"{WORDS[n % 6]} {WORDS[(n // 6) % 6]} {kind}", price, f"S{n % 3}"))
        truth[product] = level
    history = pl.DataFrame(rows, schema=["product", "ds", "y"], orient="row")
    return history, pl.DataFrame(about, schema=["product", "name", "price", "supplier"], orient="row"), truth


def test_first_weeks_are_whole_weeks_after_a_launch_that_was_seen() -> None:
    day = [BEGIN + timedelta(days=d) for d in (0, 60, 60, 66, 67, 75, 400)]
    history = pl.DataFrame({"product": ["OLD", *["NEW"] * 6], "ds": day, "y": [5.0, 1.0, 1.0, 2.0, 4.0, 9.0, 99.0]})
    found = first_weeks(history.sample(fraction=1, shuffle=True, seed=1), as_of=BEGIN + timedelta(days=79))
    assert found.rows() == [
        ("NEW", BEGIN + timedelta(days=60), 1, BEGIN + timedelta(days=66), 4.0),
        ("NEW", BEGIN + timedelta(days=60), 2, BEGIN + timedelta(days=73), 4.0),
    ]
    told = pl.DataFrame({"product": ["OLD"], "launch_date": [BEGIN]})
    assert first_weeks(history, as_of=AS_OF, catalogue=told.to_pandas())["product"].unique().sort().to_list() == [
        "NEW",
        "OLD",
    ]


def test_a_mistyped_year_makes_no_product_a_launch() -> None:
    day = [BEGIN + timedelta(days=d) for d in (0, 7, 60)]
    history = pl.DataFrame({"product": ["OLD", "OLD", "NEW"], "ds": day, "y": [5.0, 5.0, 1.0]})
    typo = pl.DataFrame({"product": ["NEW"], "ds": [date(206, 3, 1)], "y": [1.0]})
    found = first_weeks(pl.concat([history, typo]), as_of=BEGIN + timedelta(days=79))
    assert found.rows() == first_weeks(history, as_of=BEGIN + timedelta(days=79)).rows()


def errors(weeks: int) -> dict[str, float]:
    """Total absolute error of the next eight weeks beside total demand, for launches with `weeks` whole weeks of their own,
    by ours, by the mature products of the kind, and by the mean so far."""
    off = {"ours": 0.0, "mature": 0.0, "so_far": 0.0}
    total = 0.0
    for seed in (1, 2):
        history, catalogue, _ = company(seed)
        kind = dict(catalogue.select("product", pl.col("name").str.extract(r"(\w+)$")).iter_rows())
        starts = dict(history.group_by("product").agg(pl.col("ds").min()).iter_rows())
        for day in range(200, 361, 20):
            as_of = BEGIN + timedelta(days=day)
            known = history.filter(pl.col("ds") <= as_of)
            new = [p for p, start in starts.items() if 0 <= (as_of - start).days + 1 - 7 * weeks < 7 and start > BEGIN]
            made = cold_start(sorted(new), catalogue, known, as_of=as_of, horizon_weeks=8).totals
            ours = dict(made.filter(pl.col("week") == 8).select("product", "mean").iter_rows())
            mature = known.filter(
                pl.col("product").str.starts_with("OLD") & (pl.col("ds") > as_of - timedelta(days=91))
            ).with_columns(kind=pl.col("product").replace_strict(kind))
            of_kind = dict(
                mature.group_by("kind").agg(pl.col("y").sum() / pl.col("product").n_unique() / 13).iter_rows()
            )
            ahead = history.filter((pl.col("ds") > as_of) & (pl.col("ds") <= as_of + timedelta(days=56)))
            actual = dict(ahead.group_by("product").agg(pl.col("y").sum()).iter_rows())
            own = dict(known.group_by("product").agg(pl.col("y").sum()).iter_rows())
            for p in new:
                days = (as_of - starts[p]).days + 1
                off["ours"] += abs(ours[p] - actual.get(p, 0.0))
                off["mature"] += abs(8 * of_kind[kind[p]] - actual.get(p, 0.0))
                off["so_far"] += abs(56 * own[p] / days - actual.get(p, 0.0))
                total += actual.get(p, 0.0)
    assert total > 500
    return {name: value / total for name, value in off.items()}


@pytest.mark.parametrize("weeks", [1, 2, 4])
def test_a_young_product_is_forecast_better_than_by_its_kind_and_better_than_by_its_mean_so_far(weeks: int) -> None:
    error = errors(weeks)
    assert error["ours"] < 0.95 * error["so_far"]
    assert error["ours"] < 0.9 * error["mature"]


def test_before_its_launch_a_product_sells_what_its_kind_did_when_it_was_new() -> None:
    history, catalogue, _ = company(4)
    new = pl.DataFrame(
        {"product": ["X1", "X2"], "name": ["GOLD LAMP", "金色 VASE"], "price": [31.0, 21.0], "supplier": [None, None]}
    )
    made = cold_start(["X1", "X2"], pl.concat([catalogue, new], how="vertical_relaxed"), history, as_of=AS_OF)
    lamp, vase = (float(made.items.filter(pl.col("product") == p)["weekly_qty"][0]) for p in ("X1", "X2"))
    assert 25 < lamp < 60 and 1.5 < vase < 12
    weeks = made.forecasts.filter(pl.col("product") == "X1")["mean"].to_numpy()
    assert weeks[0] > 1.5 * weeks[5]  # the rush of a launch
    best = made.analogues.filter(pl.col("product") == "X1")
    names = dict(catalogue.select("product", "name").iter_rows())
    assert all(names[p].endswith("LAMP") for p in best["analogue"][:10])
    assert best["weight_ratio"].sum() == pytest.approx(1, abs=1e-4)
    assert best["in_common"][0].to_list() == ["price", "name"]
    for language in ("zh", "en"):
        row = made.items.row(0, named=True)
        said = " ".join(sentences(row["reason_codes"], row["facts"], language))
        assert best["analogue"][0] in said


def test_own_weeks_count_for_more_the_more_there_are() -> None:
    history, catalogue, _ = company(5)
    name = pl.DataFrame({"product": ["X"], "name": ["GOLD MUG"], "price": [6.0], "supplier": ["S1"]})
    about = pl.concat([catalogue, name])
    level, weight = [], []
    for days in (0, 7, 28, 84):
        own = pl.DataFrame(
            {"product": ["X"] * days, "ds": [AS_OF - timedelta(days=d) for d in range(days)], "y": [6.0] * days},
            schema=history.schema,
        )
        item = cold_start(["X"], about, pl.concat([history, own]), as_of=AS_OF).items.row(0, named=True)
        level.append(item["weekly_qty"])
        weight.append(item["own_weight_ratio"])
        assert item["own_qty"] == 6.0 * days and ("cold_start_own_weeks" in item["reason_codes"]) == (days > 0)
    assert weight[0] == 0 and weight == sorted(weight) and weight[-1] > 0.6
    assert level == sorted(level) and level[0] < 14 and level[-1] > 25  # it sells 42 a week, mugs sell 8


def test_one_enormous_order_is_not_taken_for_a_level() -> None:
    history, catalogue, _ = company(6)
    about = pl.concat(
        [catalogue, pl.DataFrame({"product": ["X"], "name": ["GOLD MUG"], "price": [6.0], "supplier": ["S1"]})]
    )
    typo = pl.DataFrame({"product": ["X"], "ds": [AS_OF - timedelta(days=6)], "y": [74215.0]})
    made = cold_start(["X"], about, pl.concat([history, typo]), as_of=AS_OF).items
    assert made["weekly_qty"][0] < 200 and made["own_qty"][0] == 74215
    later = cold_start(["N119"], about, pl.concat([history, typo]), as_of=AS_OF).items["prior_weekly_qty"][0]
    assert later < 2 * cold_start(["N119"], catalogue, history, as_of=AS_OF).items["prior_weekly_qty"][0]


def test_the_spread_of_the_analogues_covers_what_comes() -> None:
    inside, asked = 0, 0
    for seed in (8, 9):
        history, catalogue, _ = company(seed)
        starts = dict(history.group_by("product").agg(pl.col("ds").min()).iter_rows())
        for day in range(220, 360, 20):
            as_of = BEGIN + timedelta(days=day)
            new = sorted(p for p, s in starts.items() if 7 <= (as_of - s).days + 1 < 21 and p.startswith("N"))
            made = cold_start(new, catalogue, history, as_of=as_of).totals.filter(pl.col("week") == 8)
            ahead = history.filter((pl.col("ds") > as_of) & (pl.col("ds") <= as_of + timedelta(days=56)))
            actual = dict(ahead.group_by("product").agg(pl.col("y").sum()).iter_rows())
            for row in made.iter_rows(named=True):
                inside += row["q05"] <= actual.get(row["product"], 0.0) <= row["q95"]
                asked += 1
    assert asked > 50
    assert 0.8 < inside / asked <= 0.99


def test_only_products_known_before_the_cutoff_serve_and_what_comes_later_changes_nothing() -> None:
    history, catalogue, _ = company(7)
    as_of = BEGIN + timedelta(days=250)
    starts = dict(history.group_by("product").agg(pl.col("ds").min()).iter_rows())
    new = sorted(p for p, s in starts.items() if 0 <= (as_of - s).days < 10)
    now = history.filter(pl.col("ds") <= as_of)
    then = cold_start(
        new, catalogue.filter(pl.col("product").is_in(now["product"].unique().implode())), now, as_of=as_of
    )
    changed = history.with_columns(y=pl.when(pl.col("ds") > as_of).then(1000.0).otherwise("y"))
    later = cold_start(list(reversed(new)), catalogue, changed, as_of=as_of)
    assert all(starts[p] <= as_of for p in then.analogues["analogue"])
    for name in ("forecasts", "totals", "analogues"):
        one, other = getattr(then, name), getattr(later, name)
        assert one.equals(pl.concat([other.filter(pl.col("product") == p) for p in new]))
    assert not (then.analogues["product"] == then.analogues["analogue"]).any()


def test_quantiles_of_totals_are_those_of_the_paths_and_means_add_up() -> None:
    history, catalogue, _ = company(3, launches=60)
    made = cold_start(["N059"], catalogue, history, as_of=AS_OF, horizon_weeks=5)
    assert made.paths.shape == (1, 500, 5)
    assert made.totals["mean"][4] == pytest.approx(made.forecasts["mean"].sum(), abs=1e-4)
    assert made.totals["q90"][4] == pytest.approx(np.quantile(made.paths[0].sum(axis=1), 0.9))
    assert made.paths[0].sum(axis=1).mean() == pytest.approx(made.totals["mean"][4], rel=0.15)
    assert made.forecasts["ds"].to_list() == [AS_OF + timedelta(days=7 * w) for w in range(1, 6)]


def test_nothing_to_go_by_and_wrong_calls() -> None:
    history, catalogue, _ = company(3, launches=10)
    nobody = cold_start(["N001"], catalogue, history.filter(pl.col("product").str.starts_with("OLD")), as_of=AS_OF)
    assert nobody.forecasts.is_empty() and nobody.items.is_empty() and nobody.paths.shape[0] == 0
    assert nobody.forecasts.schema == cold_start(["N001"], catalogue, history, as_of=AS_OF).forecasts.schema
    with pytest.raises(BadFrame, match="first GHOST"):
        cold_start(["GHOST"], catalogue, history, as_of=AS_OF)
    with pytest.raises(BadFrame, match="one row per product"):
        cold_start(["N001"], pl.concat([catalogue, catalogue]), history, as_of=AS_OF)
    with pytest.raises(BadSetting, match="0"):
        cold_start(["N001"], catalogue, history, as_of=AS_OF, horizon_weeks=0)
    bare = catalogue.select("product", price=pl.lit(0.0))
    assert np.isfinite(cold_start(["N001"], bare, history, as_of=AS_OF).forecasts["mean"].to_numpy()).all()
    assert "缺货" not in sentence("cold_start", {"analogue_count": 1, "analogues": "A", "prior_weekly_qty": 2.0}, "zh")
