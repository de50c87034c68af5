"""Between the warehouse and the forecast: the frames it learns from, and its answers as tables.

Nothing is decided here. The forecast and the suggestions are `forecasting`'s; this names their series, gathers what is
known of stock, orders under way and suppliers at the end of the as-of date, and lays the answers out as declared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import polars as pl

from pipelines.transform.as_of import AsOf
from pipelines.transform.demand import known_days
from pipelines.warehouse.tables import PARTS, QUANTILES

SERIES = "sku || '@' || location_code AS unique_id"


@dataclass(frozen=True)
class PlanningDefaults:
    """What holds where a supplier or a SKU says nothing: days, and the chance of no stock-out aimed at."""

    lead_time_days: int = 14
    review_period_days: int = 7
    cycle_service_ratio: float = 0.95


def history(con: duckdb.DuckDBPyConnection, as_of: AsOf) -> pl.DataFrame:
    """Demand to learn from: unique_id, ds, y (units), is_censored."""
    return con.execute(f"""
      SELECT {SERIES}, demand_date AS ds, demand_qty::DOUBLE AS y, is_censored
      FROM ({known_days(as_of)}) ORDER BY unique_id, ds""").pl()


def adjustments(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Adjustments of past demand that nobody took back, as `forecasting.overrides` asks for them."""
    return con.execute(f"""
      SELECT adjustment_id, {SERIES}, from_date, through_date, adjustment_kind AS kind, daily_qty, author, reason
      FROM core.fct_demand_adjustment WHERE withdrawn_at IS NULL ORDER BY adjustment_id""").pl()


def overrides(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Overrides that nobody took back, expired ones too, as `forecasting.overrides` asks for them."""
    return con.execute(f"""
      SELECT override_id, {SERIES}, from_date, through_date, override_kind AS kind, override_amount AS amount, author,
        reason, expires_date
      FROM core.fct_forecast_override WHERE withdrawn_at IS NULL ORDER BY override_id""").pl()


def order_dates(con: duckdb.DuckDBPyConnection) -> list[date]:
    """Business days on which somebody ordered something, in order."""
    return [
        day for (day,) in con.execute("SELECT DISTINCT business_date FROM core.fct_order_line ORDER BY 1").fetchall()
    ]


def closed_dates(order_dates: Sequence[date], *, as_of: date, horizon_days: int) -> list[date]:
    """Days without business, past and coming, told from the days on which anybody ordered anything.

    A day without a single order in a business that sells on most days was a closed one: its zero is not lack of demand.
    A weekday closed in each of the last 13 weeks stays closed. Where orders come on fewer than half of the days nothing
    can be told, and no day is taken for closed.
    """
    if not order_dates:
        return []
    open_days = set(order_dates)
    days = [order_dates[0] + timedelta(days=d) for d in range((as_of - order_dates[0]).days + 1)]
    if 2 * len(open_days) < len(days):
        return []
    quarter = days[-91:]
    shut_weekdays = set(range(7)) - {day.weekday() for day in quarter if day in open_days} if len(days) >= 91 else set()
    coming = [as_of + timedelta(days=d) for d in range(1, horizon_days + 1)]
    return [day for day in days if day not in open_days] + [day for day in coming if day.weekday() in shut_weekdays]


def items(con: duckdb.DuckDBPyConnection, as_of: AsOf) -> pl.DataFrame:
    """One row per series with demand: unique_id, end_date (no forecast after it), unit_cost_cents."""
    return con.execute(f"""
      WITH series AS (SELECT DISTINCT sku, location_code FROM core.fct_demand_daily)
      SELECT {SERIES}, p.discontinued_date AS end_date, c.unit_cost_cents
      FROM series JOIN core.dim_product p USING (sku) LEFT JOIN ({_sourcing(as_of)}) c USING (sku) ORDER BY 1""").pl()


def positions(con: duckdb.DuckDBPyConnection, as_of: AsOf, defaults: PlanningDefaults) -> pl.DataFrame:
    """One row per series with demand: where it stands, what is under way, and from whom it comes.

    Open demand takes stock first: `reserved_qty` is the part of it that stock on hand covers, `backordered_qty` the rest.
    `on_hand_qty` is what is left on hand for future demand plus nothing else, NULL where stock is not recorded.
    """
    return con.execute(
        f"""
      WITH series AS (
        SELECT DISTINCT d.sku, d.location_code, l.is_location_stock_tracked AND p.is_sku_stock_tracked AS is_tracked
        FROM core.fct_demand_daily d JOIN core.dim_location l USING (location_code) JOIN core.dim_product p USING (sku)
        WHERE p.sku_kind = 'item'
      ), stock AS (
        SELECT sku, location_code, on_hand_qty, greatest(0, outstanding_qty) AS outstanding_qty
        FROM core.fct_stock_daily WHERE valid_to_date IS NULL
      ), under_way AS ({_under_way(as_of)}), source AS ({_sourcing(as_of)})
      SELECT {SERIES}, sku, location_code, is_tracked,
        CASE WHEN is_tracked THEN coalesce(on_hand_qty, 0) END::BIGINT AS on_hand_qty,
        CASE WHEN is_tracked THEN least(greatest(coalesce(on_hand_qty, 0), 0), coalesce(outstanding_qty, 0)) END::BIGINT
          AS reserved_qty,
        CASE WHEN is_tracked THEN
          coalesce(outstanding_qty, 0) - least(greatest(coalesce(on_hand_qty, 0), 0), coalesce(outstanding_qty, 0))
          ELSE 0 END::BIGINT AS backordered_qty,
        coalesce(u.qty, 0)::BIGINT AS on_order_qty,
        supplier_code, unit_cost_cents, source.currency,
        coalesce(moq_qty, 1) AS moq_qty, coalesce(pack_qty, 1) AS pack_qty,
        coalesce(source.lead_time_days, $lead_time_days)::BIGINT AS lead_time_days,
        coalesce(source.review_period_days, $review_period_days)::BIGINT AS review_period_days,
        $cycle_service_ratio::DOUBLE AS cycle_service_ratio
      FROM series LEFT JOIN stock USING (sku, location_code) LEFT JOIN under_way u USING (sku, location_code)
        LEFT JOIN source USING (sku) ORDER BY unique_id""",
        {
            "lead_time_days": defaults.lead_time_days,
            "review_period_days": defaults.review_period_days,
            "cycle_service_ratio": defaults.cycle_service_ratio,
        },
    ).pl()


def _sourcing(as_of: AsOf) -> str:
    """One row per SKU: the supplier it is bought from first, with terms; the cost alone where nobody is known to sell it.

    A cost is one that holds everywhere on the as-of date; moving average before standard, the newest first.
    """
    return f"""
      WITH offer AS (
        SELECT k.sku_id, s.supplier_code, s.currency, o.unit_cost_cents, o.moq_qty, o.pack_qty,
          coalesce(o.lead_time_days, s.lead_time_days) AS lead_time_days, s.review_period_days
        FROM raw.supplier_sku o JOIN raw.supplier s USING (supplier_id) JOIN raw.sku k USING (sku_id) WHERE s.is_active
        QUALIFY row_number() OVER (PARTITION BY k.sku_id ORDER BY o.supplier_rank, s.supplier_code) = 1
      ), cost AS (
        SELECT sku_id, currency, unit_cost_cents FROM raw.cost
        WHERE location_id IS NULL AND {as_of.known("created_at")} AND valid_from_date <= {as_of.day_sql}
          AND coalesce(valid_to_date >= {as_of.day_sql}, true)
        QUALIFY row_number() OVER (
          PARTITION BY sku_id ORDER BY cost_kind = 'standard', valid_from_date DESC, cost_id DESC) = 1
      )
      SELECT k.sku, o.supplier_code, coalesce(o.unit_cost_cents, c.unit_cost_cents) AS unit_cost_cents,
        coalesce(o.currency, c.currency) AS currency, o.moq_qty, o.pack_qty, o.lead_time_days, o.review_period_days
      FROM raw.sku k LEFT JOIN offer o USING (sku_id) LEFT JOIN cost c USING (sku_id)"""


def _under_way(as_of: AsOf) -> str:
    """Units on their way per SKU and location: bought and not received, being made, in transfer.

    What a purchase order is now counts only if it was so then; what had arrived is told by dated receipts.
    """
    is_over = "status IN ('cancelled', 'closed', 'received', 'done')"
    return f"""
      SELECT sku, location_code, sum(qty) AS qty FROM (
        SELECT k.sku, l.location_code, greatest(0, p.purchased_qty - coalesce(r.received_qty, 0)
          - CASE WHEN {as_of.unchanged_since("p.changed_at")} THEN p.cancelled_qty ELSE 0 END) AS qty
        FROM raw.purchase_order_line p JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
          LEFT JOIN (SELECT purchase_order_line_id, sum(received_qty) AS received_qty FROM raw.goods_receipt_line
                     WHERE {as_of.known("received_at")} GROUP BY 1) r USING (purchase_order_line_id)
        WHERE {as_of.known("p.ordered_at")}
          AND NOT (p.purchase_order_{is_over} AND {as_of.unchanged_since("p.changed_at")})
        UNION ALL
        SELECT k.sku, l.location_code, greatest(0, p.production_qty - coalesce(m.made_qty, 0))
        FROM raw.production_order p JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
          LEFT JOIN (SELECT source_id AS production_order_id, sum(movement_qty) AS made_qty FROM raw.stock_movement
                     WHERE movement_reason = 'production_in' AND source_entity = 'production_order'
                       AND {as_of.known("moved_at")} GROUP BY 1) m USING (production_order_id)
        WHERE {as_of.known("p.created_at")}
          AND NOT (p.production_{is_over} AND {as_of.unchanged_since("p.changed_at")})
        UNION ALL
        SELECT k.sku, l.location_code, t.shipped_qty
        FROM raw.transfer_line t JOIN raw.sku k USING (sku_id) JOIN raw.location l ON l.location_id = t.to_location_id
        WHERE {as_of.known("t.shipped_at")} AND NOT {as_of.known("t.received_at")}
      ) GROUP BY ALL"""


# ------------------------------------------------------------------------------------------------ answers as tables


def series_names(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """What each series is: unique_id, sku, location_code. A SKU may hold an '@', so names are looked up, not cut."""
    return con.execute(f"SELECT DISTINCT {SERIES}, sku, location_code FROM core.fct_demand_daily").pl()


def forecast_table(forecasts: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """`DemandPlan.forecasts` or `.totals` with declared names."""
    renamed = {
        "ds": "demand_date", "model_mean": "model_mean_qty", "mean": "mean_qty", **{q: f"{q}_qty" for q in QUANTILES},
    }  # fmt: skip
    return forecasts.rename(renamed).join(names, on="unique_id", how="left", validate="m:1").drop("unique_id")


def override_table(steps: pl.DataFrame, names: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """`Overridden.steps` with declared names."""
    renamed = {"ds": "demand_date", "before_mean": "before_mean_qty", "after_mean": "after_mean_qty"}
    return steps.rename(renamed).join(names, on="unique_id", how="left", validate="m:1").select(columns)


def choice_table(choices: pl.DataFrame, names: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """`DemandPlan.choices` with declared names."""
    return choices.join(names, on="unique_id", how="left", validate="1:1").select(columns)


def exception_table(exceptions: pl.DataFrame) -> pl.DataFrame:
    """Exceptions of the forecast or of the suggestions, numbered in a fixed order."""
    ordered = exceptions.unique().sort("unique_id", "code", "ds", "message_en", nulls_last=True)
    return ordered.select(
        pl.int_range(1, pl.len() + 1).alias("exception_no"),
        "unique_id",
        pl.col("code").alias("exception_code"),
        pl.col("ds").alias("exception_date"),
        pl.col("rows").cast(pl.Int64).alias("exception_rows"),
        "is_blocking",
        "message_zh",
        "message_en",
    )


def stored_totals(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """`mart.demand_forecast_total` as `forecasting` knows it."""
    quantiles = ", ".join(f"{q}_qty AS {q}" for q in QUANTILES)
    return con.execute(f"""
      SELECT {SERIES}, demand_date AS ds, horizon_days, mean_qty AS mean, {quantiles}, model
      FROM mart.demand_forecast_total ORDER BY unique_id, ds""").pl()


def stored_grades(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The grade of each series."""
    return con.execute(f"SELECT {SERIES}, grade FROM mart.forecast_choice").pl()


def positions_for_suggestions(positions: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """What `forecasting.replenishment.suggest` asks for, of series with a forecast: on hand is what open orders leave."""
    forecast = positions.join(totals.select("unique_id").unique(), on="unique_id", how="semi", maintain_order="left")
    return forecast.select(
        "unique_id",
        "lead_time_days",
        "review_period_days",
        (pl.col("on_hand_qty") - pl.col("reserved_qty")).alias("on_hand_qty"),
        "on_order_qty",
        "backordered_qty",
        "moq_qty",
        "pack_qty",
        "cycle_service_ratio",
    )


def suggestion_table(
    suggestions: pl.DataFrame, positions: pl.DataFrame, grades: pl.DataFrame, columns: tuple[str, ...]
) -> pl.DataFrame:
    """`Suggestions.suggestions` with where things stood, the supplier, the value and the forecast's grade."""
    own = [
        "unique_id", "suggested_qty", "order_by_date", "stockout_date", "protection_interval_days", "order_up_to_qty",
        "reorder_point_qty", "safety_stock_qty", "inventory_position_qty", *PARTS, "reason_codes", "facts",
    ]  # fmt: skip
    joined = (
        suggestions.select(own)
        .join(positions, on="unique_id", how="inner", validate="1:1")
        .join(grades, on="unique_id", how="left", validate="1:1")
    )
    return joined.with_columns((pl.col("suggested_qty") * pl.col("unit_cost_cents")).alias("order_value_cents")).select(
        columns
    )
