"""What the planner's page and `dinghuo plan show` read: suggestions with their reasons, and one product's story.

Every function answers from one generation of the warehouse and hands back how fresh it is. Sentences come in the asked
language ("zh" or "en"); codes and numbers are the same in both.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.transform.as_of import AsOf
from pipelines.transform.demand import known_days
from pipelines.warehouse.errors import DayNotKept
from pipelines.warehouse.read import LiveWarehouse, Publication, live_warehouse


@dataclass(frozen=True)
class Plan:
    """A frame and the generation it was read from."""

    publication: Publication
    rows: pl.DataFrame


@dataclass(frozen=True)
class Outlook:
    """What was asked for and what is expected of one SKU, at one location or at all that send for each other.

    Attributes:
        places: The locations, as codes.
        levels: inventory_position_qty, reorder_point_qty and safety_stock_qty, of several places of them all; None where
            there is no suggestion, or stock is not recorded.
        choice: Model, grade, backtest errors, demand class, and `reason` as a sentence; None when not forecast.
        history: One row per day from the first demand through the as-of date: demand_date, demand_qty,
            is_censored (out of stock, of several places all of them; NULL: stock not recorded).
        forecast: One row per day: demand_date, horizon_days, mean_qty, q05_qty … q99_qty of that day.
        totals: The same for the sum from the day after the as-of date through demand_date.
    """

    places: tuple[str, ...]
    levels: dict[str, int] | None
    choice: dict[str, Any] | None
    history: pl.DataFrame
    forecast: pl.DataFrame
    totals: pl.DataFrame


@dataclass(frozen=True)
class ProductPlan:
    """Everything shown of one SKU at one location.

    Attributes:
        publication: The generation all of it was read from.
        suggestion: The row of `suggestions`, or None when there is none.
        here: Of this location alone.
        together: Of all locations that send for each other, which is what the order goes by; None where this one stands alone.
    """

    publication: Publication
    suggestion: dict[str, Any] | None
    here: Outlook
    together: Outlook | None


_SUGGESTIONS_OF_TODAY = "mart.reorder_suggestion"
_SUGGESTIONS_OF_A_DAY = "(SELECT * EXCLUDE (as_of_date) FROM mart.suggestion_history WHERE as_of_date = $as_of)"
_SUGGESTIONS = """
  SELECT s.sku, p.sku_name, p.sku_name_en, s.location_code, s.suggested_qty, s.order_by_date, s.stockout_date,
    s.supplier_code, v.supplier_name, s.* EXCLUDE (sku, location_code, suggested_qty, order_by_date, stockout_date,
      supplier_code)
  FROM {source} s JOIN core.dim_product p USING (sku)
    LEFT JOIN core.dim_supplier v USING (supplier_code)
  WHERE (s.suggested_qty > 0 OR list_contains(s.reason_codes, 'budget_cut') OR NOT $only_to_buy)
    AND coalesce(s.sku = $sku, $sku IS NULL)
    AND coalesce(s.location_code = $location_code, $location_code IS NULL)
  ORDER BY s.order_by_date NULLS LAST, s.order_value_cents DESC NULLS LAST, s.suggested_qty DESC, s.sku, s.location_code
"""


def suggestions(
    warehouse_dir: Path,
    *,
    language: str = "en",
    only_to_buy: bool = True,
    sku: str | None = None,
    location_code: str | None = None,
    as_of: date | None = None,
) -> Plan:
    """What to restock, by order-by date, then value, quantity, sku and location.

    Args:
        only_to_buy: Leave out rows with nothing to order; what the budget left out stays.
        sku, location_code: Only these.
        as_of: As it was suggested at the end of that day; by default the newest. Names are today's.

    Returns:
        Columns: sku, sku_name, sku_name_en, location_code, suggested_qty, order_by_date, stockout_date, supplier_code,
        supplier_name, and all others of `mart.reorder_suggestion` (docs/warehouse.md), among them the parts named in
        `WATERFALL`, which sum to suggested_qty; reason_codes (list), facts (JSON text) and reason (the sentences in
        `language`).

    Raises:
        WarehouseMissing: Nothing was published yet.
        DayNotKept: No daily run kept the plan of `as_of`.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        rows = _suggestions(warehouse, language, only_to_buy, sku, location_code, as_of)
        return Plan(_planned(warehouse, as_of), rows)


def aim(warehouse_dir: Path, *, language: str = "en") -> str:
    """What the suggestions of the newest plan aim at, in `language`.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    from forecasting.reasons import aims
    from pipelines.transform.plan import planning_defaults

    with live_warehouse(warehouse_dir) as warehouse:
        planned = _planned(warehouse)
        defaults = planning_defaults(warehouse.con, AsOf(planned.as_of_date, planned.business_zone))
    said = aims(asdict(defaults), "zh" if language == "zh" else "en")
    return ("；" if language == "zh" else "; ").join(said)


def override_value(warehouse_dir: Path, *, sku: str | None = None, location_code: str | None = None) -> Plan:
    """What each override was worth, as far as its days are known by now: `mart.override_value`, the newest first.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        rows = warehouse.query(
            "FROM mart.override_value WHERE coalesce(sku = $sku, $sku IS NULL) "
            "AND coalesce(location_code = $location_code, $location_code IS NULL) ORDER BY override_id DESC",
            {"sku": sku, "location_code": location_code},
        )
        return Plan(warehouse.publication("mart.override_value"), rows)


def value_by(rows: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Rows of `override_value` summed per `names` ("author", "reason"), most worth first.

    Columns: the names, overrides (how many), known_days, actual_qty, before_error_qty, after_error_qty, value_added_qty (units;
    above 0 the forecast was nearer with them) and value_added_ratio (of the demand of these days; NULL without demand).
    """
    sums = ("known_days", "actual_qty", "before_error_qty", "after_error_qty", "value_added_qty")
    return (
        rows.group_by(names)
        .agg(pl.len().alias("overrides"), *(pl.col(column).sum().round(6) for column in sums))
        .with_columns(
            pl.when(pl.col("actual_qty") > 0)
            .then((pl.col("value_added_qty") / pl.col("actual_qty")).round(4))
            .alias("value_added_ratio")
        )
        .sort("value_added_qty", *names, descending=[True, *(False for _ in names)])
    )


def plan_days(warehouse_dir: Path) -> list[date]:
    """The days whose plan is kept as it was, oldest first; `suggestions(as_of=…)` answers for these.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        return _plan_days(warehouse)


def product_plan(warehouse_dir: Path, sku: str, location_code: str, *, language: str = "en") -> ProductPlan:
    """History, forecast, choice and suggestion of one SKU at one location; empty frames when it is unknown.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        suggested = _suggestions(warehouse, language, False, sku, None)
        this = suggested.filter(pl.col("location_code") == location_code)
        shared = suggested.filter(pl.col("reason_codes").list.contains("pooled"))
        is_shared = location_code in shared["location_code"]
        return ProductPlan(
            publication=_planned(warehouse),
            suggestion=this.row(0, named=True) if this.height else None,
            here=_outlook(warehouse, language, sku, (location_code,), this),
            together=_outlook(warehouse, language, sku, tuple(shared["location_code"].sort()), shared)
            if is_shared
            else None,
        )


WATERFALL = {
    "demand_part_qty": ("保护期预期需求", "expected demand of the protection interval"),
    "safety_part_qty": ("安全库存", "safety stock"),
    "backordered_part_qty": ("欠货", "backordered"),
    "on_hand_part_qty": ("未占用实物库存", "on hand, not reserved"),
    "on_order_part_qty": ("在途", "on order"),
    "late_part_qty": ("在途中到得太晚的", "on order, but too late to count"),
    "lost_part_qty": ("到货前预计丢单", "demand expected to be lost before an order can arrive"),
    "surplus_part_qty": ("超出目标库存", "stock above the target"),
    "elsewhere_part_qty": (
        "别处多余的库存与订货代发",
        "sent from other places, which have or order more than their share",
    ),
    "transfer_part_qty": ("从别处调拨", "comes from another place"),
    "lot_part_qty": ("一次多订(订货成本或最大库存)", "more at once: an order costs, or up to max"),
    "moq_part_qty": ("补足起订量", "up to the minimum order quantity"),
    "pack_part_qty": ("按箱规取整", "to whole packs"),
    "wait_part_qty": ("等下次更省", "waits: cheaper at the next review"),
    "price_break_part_qty": ("到价格折扣的数量", "up to a price break"),
    "joint_part_qty": ("凑供应商起订金额", "for the supplier's least order value"),
    "budget_part_qty": ("预算不够", "beyond the budget"),
}


def waterfall(suggestion: Mapping[str, Any], *, language: str = "en") -> pl.DataFrame:
    """Why this quantity, step by step: part (label), qty (signed units), total_qty (sum so far; the last is the suggestion)."""
    parts = {labels[0 if language == "zh" else 1]: suggestion.get(name) or 0 for name, labels in WATERFALL.items()}
    frame = pl.DataFrame(
        {"part": list(parts), "qty": list(parts.values())}, schema={"part": pl.String, "qty": pl.Int64}
    )
    return frame.with_columns(pl.col("qty").cum_sum().alias("total_qty"))


def backlog(warehouse_dir: Path) -> Plan:
    """Open orders by stage and age: stage, age_days, currency, orders_count, open_qty, open_value_cents.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    with live_warehouse(warehouse_dir) as warehouse:
        return Plan(
            warehouse.publication(), warehouse.query("FROM mart.backlog ORDER BY stage, age_days DESC, currency")
        )


def exceptions(warehouse_dir: Path, *, language: str = "en") -> Plan:
    """What a planner should look at because the forecast or the suggestions set it aside: unique_id, exception_code,
    exception_date, exception_rows, is_blocking and message in `language`.

    Raises:
        WarehouseMissing: Nothing was published yet.
    """
    message = "message_zh" if language == "zh" else "message_en"
    with live_warehouse(warehouse_dir) as warehouse:
        rows = warehouse.query(
            f"SELECT * EXCLUDE (step, exception_no, message_zh, message_en), {message} AS message FROM ("
            "SELECT 1 AS step, * FROM mart.forecast_exception UNION ALL SELECT 2, * FROM mart.suggestion_exception) "
            "ORDER BY step, exception_no"
        )
        return Plan(_planned(warehouse), rows)


def _outlook(
    warehouse: LiveWarehouse, language: str, sku: str, places: tuple[str, ...], suggested: pl.DataFrame
) -> Outlook:
    names = ("demand_forecast", "demand_forecast_total", "forecast_choice")
    where, asked = "sku = $sku AND location_code = $place", {"sku": sku, "place": places[0]}
    if len(places) > 1:
        names, where, asked = (
            ("pool_forecast", "pool_forecast_total", "pool_forecast_choice"),
            "sku = $sku",
            {"sku": sku},
        )
    forecast, totals, choices = (warehouse.query(f"FROM mart.{name} WHERE {where}", asked) for name in names)
    choice = _with_reason(choices, language)
    sums = suggested.select("inventory_position_qty", "reorder_point_qty", "safety_stock_qty")
    is_known = sums.height > 0 and sums["inventory_position_qty"].null_count() == 0
    levels = sums.sum().row(0, named=True) if is_known else None
    if (
        levels is not None and len(places) > 1
    ):  # of the whole, which the rounded parts of its places add up to but for a unit
        levels["safety_stock_qty"] = json.loads(suggested["facts"][0])["pool_safety_qty"]
    return Outlook(
        places=places,
        levels=levels,
        choice=choice.row(0, named=True) if choice.height else None,
        history=_history(warehouse, sku, places),
        forecast=forecast.sort("demand_date"),
        totals=totals.sort("demand_date"),
    )


def _history(warehouse: LiveWarehouse, sku: str, places: tuple[str, ...]) -> pl.DataFrame:
    """`Outlook.history`."""
    from forecasting.pools import pooled_history

    planned = _planned(warehouse)
    only = "sku = $sku AND list_contains($places, location_code)"
    known = warehouse.query(
        f"SELECT location_code AS unique_id, demand_date AS ds, demand_qty AS y, is_censored "
        f"FROM ({known_days(AsOf(planned.as_of_date, planned.business_zone), only=only)})",
        {"sku": sku, "places": list(places)},
    )
    if len(places) > 1:
        known = pooled_history(known, pl.DataFrame({"unique_id": places, "pool_id": sku}))
    first = known["ds"].min() if known.height else None
    days = pl.date_range(first, planned.as_of_date, eager=True) if first is not None else known["ds"]
    censored = (
        pl.col("is_censored").fill_null(False) if known["is_censored"].count() else pl.lit(None, dtype=pl.Boolean)
    )
    return (
        days.alias("ds")
        .to_frame()
        .join(known, on="ds", how="left", maintain_order="left")
        .select(
            demand_date="ds",
            demand_qty=pl.col("y").fill_null(0).cast(pl.Int64),
            is_censored=censored,
        )
    )


def _suggestions(
    warehouse: LiveWarehouse,
    language: str,
    only_to_buy: bool,
    sku: str | None,
    location_code: str | None,
    as_of: date | None = None,
) -> pl.DataFrame:
    asked: dict[str, object] = {"only_to_buy": only_to_buy, "sku": sku, "location_code": location_code}
    if as_of is None:
        return _with_reason(warehouse.query(_SUGGESTIONS.format(source=_SUGGESTIONS_OF_TODAY), asked), language)
    days = _plan_days(warehouse)
    if as_of not in days:
        raise DayNotKept(day=as_of, first=min(days, default="-"), last=max(days, default="-"), days=len(days))
    of_a_day = _SUGGESTIONS.format(source=_SUGGESTIONS_OF_A_DAY)
    return _with_reason(warehouse.query(of_a_day, asked | {"as_of": as_of}), language)


def _planned(warehouse: LiveWarehouse, as_of: date | None = None) -> Publication:
    """Which run made the plan that answers, of which day and when; `as_of` for one that was kept."""
    newest = warehouse.publication("mart.reorder_suggestion")
    if as_of is None:
        return newest
    kept = warehouse.query("SELECT run_id, planned_at FROM meta.plan_day WHERE as_of_date = ?", [as_of]).row(0)
    return replace(newest, as_of_date=as_of, run_id=kept[0], published_at=kept[1].astimezone(UTC))


def _plan_days(warehouse: LiveWarehouse) -> list[date]:
    return [day for (day,) in warehouse.query("SELECT as_of_date FROM meta.plan_day ORDER BY 1").iter_rows()]


def _with_reason(rows: pl.DataFrame, language: str) -> pl.DataFrame:
    """`rows` with their codes and facts said as sentences."""
    from forecasting.reasons import sentences

    end = "。" if language == "zh" else ". "
    said = [
        end.join(sentences(codes, facts, "zh" if language == "zh" else "en"))
        for codes, facts in zip(rows["reason_codes"].to_list(), rows["facts"].to_list(), strict=True)
    ]
    return rows.with_columns(pl.Series("reason", said, dtype=pl.String))
