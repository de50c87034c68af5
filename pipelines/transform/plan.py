"""Between the warehouse and the forecast: the frames it learns from, and its answers as tables.

Nothing is decided here. The forecast and the suggestions are `forecasting`'s; this names their series, gathers what is
known of stock, orders under way and suppliers at the end of the as-of date, and lays the answers out as declared.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal

import duckdb
import polars as pl

from pipelines.transform.as_of import AsOf
from pipelines.transform.demand import known_days
from pipelines.transform.stock_marts import product_classes
from pipelines.warehouse.tables import PARTS, QUANTILES

SERIES = "sku || '@' || location_code AS unique_id"
MAX_PROMOTION_DAYS = 400  # one without an end: further than any forecast goes


@dataclass(frozen=True)
class PlanningDefaults:
    """What holds where a supplier or a SKU says nothing.

    Attributes:
        lead_time_days, review_period_days: Days.
        target: What an order is chosen by: least expected "cost", or "cycle_service", or "fill_rate".
        cycle_service_ratio: Chance of no stock-out aimed at where that is the target, or costs are not known.
        fill_rate_ratio: Share of demand to serve from stock, where that is the target.
        holding_ratio: To keep a unit for a year, as a share of its cost.
        shortage_ratio: A unit short, as a share of its cost, where no price is known; else it is the margin.
        min_max_value_cents: Products with grade C or D go by min/max when that is worth no more, in their currency.
        transfer_unit_cents, transfer_fixed_cents: Cost of moving goods between any two of our places; no unit cost: no
            transfers are suggested.
        budget_cents: What the orders of one plan in a currency may cost, by currency; others have no limit.
        class_service: Cycle service of the products of a class such as "AX", whatever `target` says.
        pools_places: Whether the places of one product send for each other and are planned together.
        protects_channels: Whether units are held back for the channel that earns most by them (`pipelines.hints`).
    """

    lead_time_days: int = 14
    review_period_days: int = 7
    target: Literal["cost", "cycle_service", "fill_rate"] = "cost"
    cycle_service_ratio: float = 0.95
    fill_rate_ratio: float = 0.98
    holding_ratio: float = 0.25
    shortage_ratio: float = 0.5
    min_max_value_cents: int | None = 20_000
    transfer_unit_cents: int | None = None
    transfer_fixed_cents: int = 0
    budget_cents: Mapping[str, int] = field(default_factory=dict)
    class_service: Mapping[str, float] = field(default_factory=dict)
    pools_places: bool = True
    protects_channels: bool = False


def planning_defaults(con: duckdb.DuckDBPyConnection, as_of: AsOf) -> PlanningDefaults:
    """The defaults with what planners set in the business rules by the as-of date."""
    row = con.execute(f"""
      SELECT rules_body FROM raw.rule_set WHERE {as_of.known("created_at")} ORDER BY rules_version DESC LIMIT 1""").fetchone()
    set_by_hand = json.loads(row[0]).get("planning", {}) if row else {}
    return replace(PlanningDefaults(), **set_by_hand)


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


def country(con: duckdb.DuckDBPyConnection) -> str | None:
    """Whose festivals and shopping days move demand: the country where most products are asked for. None: nobody's, also
    where no holidays are known for it."""
    from forecasting.events import is_known

    found = con.execute("""
      SELECT country FROM core.dim_location JOIN core.fct_demand_daily USING (location_code)
      GROUP BY 1 ORDER BY count(DISTINCT (sku, location_code)) DESC, 1 LIMIT 1""").fetchone()
    return str(found[0]) if found and is_known(str(found[0])) else None


def promotions(con: duckdb.DuckDBPyConnection, as_of: AsOf, series: pl.DataFrame) -> pl.DataFrame:
    """Promotion prices as known on the as-of date, past and planned: unique_id, start_date, end_date, depth_ratio (off the
    list price of the first day, 0 where there is none; of several prices of one period the lowest), known_from_date. One that
    is not below the list price is none: nobody pays it.

    `series`: unique_id, sku, of places and of pools. A promotion without an end lasts as far as any forecast goes.
    """
    found = con.execute(f"""
      WITH offered AS (
        SELECT p.sku, p.valid_from_date AS start_date,
          coalesce(p.valid_to_date, {as_of.day_sql} + {MAX_PROMOTION_DAYS}) AS end_date,
          1 - p.unit_price_cents / nullif(l.unit_price_cents, 0) AS off_ratio,
          {as_of.business_day("p.known_from_at")} AS known_from_date
        FROM core.fct_price p LEFT JOIN core.fct_price l ON l.sku = p.sku AND l.price_kind = 'list'
          AND l.currency = p.currency AND l.selling_unit = p.selling_unit AND l.min_packs <= p.min_packs
          AND l.valid_from_date <= p.valid_from_date
          AND (l.valid_to_date IS NULL OR l.valid_to_date >= p.valid_from_date)
        WHERE p.price_kind = 'promotion'
        QUALIFY row_number() OVER (PARTITION BY p.price_id ORDER BY l.min_packs DESC, l.valid_from_date DESC) = 1
      )
      SELECT sku, start_date, end_date, max(coalesce(off_ratio, 0))::DOUBLE AS depth_ratio,
        min(known_from_date) AS known_from_date
      FROM offered WHERE coalesce(off_ratio, 1) > 0 GROUP BY ALL""").pl()
    return (
        found.join(series, on="sku")
        .select("unique_id", "start_date", "end_date", "depth_ratio", "known_from_date")
        .sort(pl.all())
    )


def items(con: duckdb.DuckDBPyConnection, as_of: AsOf) -> pl.DataFrame:
    """One row per series with demand: unique_id, end_date (no forecast after it), unit_cost_cents, and the groups it
    learns with: product (the SKU at all places), category, location; with name and supplier also what new ones are like."""
    return con.execute(f"""
      WITH series AS (SELECT DISTINCT sku, location_code FROM core.fct_demand_daily)
      SELECT {SERIES}, p.discontinued_date AS end_date, c.unit_cost_cents,
        sku AS product, p.category_code AS category, location_code AS location, p.sku_name AS name,
        c.supplier_code AS supplier
      FROM series JOIN core.dim_product p USING (sku) LEFT JOIN ({_sourcing(as_of)}) c USING (sku) ORDER BY 1""").pl()


def positions(con: duckdb.DuckDBPyConnection, as_of: AsOf, defaults: PlanningDefaults) -> pl.DataFrame:
    """One row per series with demand: where it stands, what is under way, from whom it comes and how long that takes.

    Open demand takes stock first: `reserved_qty` is the part of `on_hand_qty` (NULL where stock is not recorded) that
    covers it, `backordered_qty` what it lacks. `lead_times_days` are lead times that are as likely as each other, from real
    receipts and what the supplier states; NULL where `lead_time_days` is taken for certain. `pool_id` names the places that
    send for each other: all of a SKU that record their stock and may ship; NULL where each is planned for itself.
    `idle_elsewhere_qty` is what lies free at places that may ship it and were never asked for it: sent there to
    be sold, perhaps, but no series yet.
    """
    found = con.execute(
        f"""
      WITH series AS (
        SELECT DISTINCT d.sku, d.location_code, l.is_location_stock_tracked AND p.is_sku_stock_tracked AS is_tracked,
          l.is_active AND l.can_ship AS is_sending
        FROM core.fct_demand_daily d JOIN raw.location l USING (location_code) JOIN core.dim_product p USING (sku)
        WHERE p.sku_kind = 'item'
      ), stock AS (
        SELECT sku, location_code, on_hand_qty, greatest(0, outstanding_qty) AS outstanding_qty
        FROM core.fct_stock_daily WHERE valid_to_date IS NULL
      ), under_way AS (SELECT sku, location_code, sum(qty) AS qty FROM ({_under_way(as_of)}) GROUP BY ALL),
      idle AS (
        SELECT sku, sum(greatest(0, on_hand_qty - outstanding_qty)) AS qty FROM stock
          JOIN raw.location USING (location_code) ANTI JOIN series USING (sku, location_code)
        WHERE is_active AND can_ship AND is_location_stock_tracked GROUP BY ALL
      ), source AS ({_sourcing(as_of)}), sold AS ({_prices(as_of)}),
      made AS (SELECT sku FROM raw.sku WHERE supply_mode = 'make')
      SELECT {SERIES}, sku, location_code, is_tracked,
        CASE WHEN is_tracked THEN coalesce(on_hand_qty, 0) END::BIGINT AS on_hand_qty,
        CASE WHEN is_tracked THEN least(greatest(coalesce(on_hand_qty, 0), 0), coalesce(outstanding_qty, 0)) END::BIGINT
          AS reserved_qty,
        CASE WHEN is_tracked THEN
          coalesce(outstanding_qty, 0) - least(greatest(coalesce(on_hand_qty, 0), 0), coalesce(outstanding_qty, 0))
          ELSE 0 END::BIGINT AS backordered_qty,
        coalesce(u.qty, 0)::BIGINT AS on_order_qty,
        CASE WHEN made.sku IS NULL THEN 'purchase' ELSE 'production' END AS supply_kind,
        supplier_code, unit_cost_cents, source.currency, unit_price_cents, price_breaks, shelf_life_days,
        coalesce(moq_qty, 1) AS moq_qty, coalesce(pack_qty, 1) AS pack_qty,
        coalesce(source.lead_time_days, $lead_time_days)::BIGINT AS lead_time_days,
        coalesce(source.review_period_days, $review_period_days)::BIGINT AS review_period_days,
        $cycle_service_ratio::DOUBLE AS cycle_service_ratio,
        CASE WHEN $pools_places AND is_tracked AND is_sending THEN sku || '@*' END AS pool_id,
        CASE WHEN $pools_places AND is_tracked AND is_sending THEN coalesce(idle.qty, 0) ELSE 0 END::BIGINT
          AS idle_elsewhere_qty
      FROM series LEFT JOIN idle USING (sku) LEFT JOIN stock USING (sku, location_code)
        LEFT JOIN under_way u USING (sku, location_code)
        LEFT JOIN source USING (sku) LEFT JOIN sold ON sold.sku = series.sku AND sold.currency = source.currency
        LEFT JOIN made USING (sku) ORDER BY unique_id""",
        {
            "lead_time_days": defaults.lead_time_days,
            "review_period_days": defaults.review_period_days,
            "cycle_service_ratio": defaults.cycle_service_ratio,
            "pools_places": defaults.pools_places,
        },
    ).pl()
    return _with_lead_times(con, as_of, _with_class_service(con, found, defaults))


def _with_class_service(
    con: duckdb.DuckDBPyConnection, positions: pl.DataFrame, defaults: PlanningDefaults
) -> pl.DataFrame:
    """`positions` with their `target`, and with the service of their class where it has one of its own."""
    if not defaults.class_service:
        return positions.with_columns(target=pl.lit(defaults.target, dtype=pl.String))
    classes = con.execute(product_classes()).pl().select("sku", "class")
    names, own = list(defaults.class_service), list(defaults.class_service.values())
    set_for = pl.DataFrame({"class": names, "own_ratio": own}, schema={"class": pl.String, "own_ratio": pl.Float64})
    found = positions.join(classes.join(set_for, on="class"), on="sku", how="left", maintain_order="left")
    return found.with_columns(
        target=pl.when(pl.col("own_ratio").is_null()).then(pl.lit(defaults.target)).otherwise(pl.lit("cycle_service")),
        cycle_service_ratio=pl.coalesce("own_ratio", "cycle_service_ratio"),
    ).drop("class", "own_ratio")


def _sourcing(as_of: AsOf) -> str:
    """One row per SKU: the supplier it is bought from first, with terms; the cost alone where nobody is known to sell it.

    A cost is one that holds everywhere on the as-of date; moving average before standard, the newest first.
    """
    return f"""
      WITH offer AS (
        SELECT k.sku_id, s.supplier_code, s.currency, o.unit_cost_cents, o.moq_qty, o.pack_qty, o.price_breaks,
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
        coalesce(o.currency, c.currency) AS currency, o.moq_qty, o.pack_qty, o.price_breaks, k.shelf_life_days,
        o.lead_time_days, o.review_period_days
      FROM raw.sku k LEFT JOIN offer o USING (sku_id) LEFT JOIN cost c USING (sku_id)"""


def _under_way(as_of: AsOf) -> str:
    """Units on their way, a row each (sku, location_code, due_date, qty): bought and not received, being made, in transfer.

    What a purchase order is now counts only if it was so then; what had arrived is told by dated receipts.
    """
    is_over = "status IN ('cancelled', 'closed', 'received', 'done')"
    return f"""
        SELECT k.sku, l.location_code, CASE WHEN {as_of.unchanged_since("p.changed_at")} THEN p.expected_date END AS due_date,
          greatest(0, p.purchased_qty - coalesce(r.received_qty, 0)
          - CASE WHEN {as_of.unchanged_since("p.changed_at")} THEN p.cancelled_qty ELSE 0 END) AS qty
        FROM raw.purchase_order_line p JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
          LEFT JOIN (SELECT purchase_order_line_id, sum(received_qty) AS received_qty FROM raw.goods_receipt_line
                     WHERE {as_of.known("received_at")} GROUP BY 1) r USING (purchase_order_line_id)
        WHERE {as_of.known("p.ordered_at")}
          AND NOT (p.purchase_order_{is_over} AND {as_of.unchanged_since("p.changed_at")})
        UNION ALL
        SELECT k.sku, l.location_code, CASE WHEN {as_of.unchanged_since("p.changed_at")} THEN p.due_date END,
          greatest(0, p.production_qty - coalesce(m.made_qty, 0))
        FROM raw.production_order p JOIN raw.sku k USING (sku_id) JOIN raw.location l USING (location_id)
          LEFT JOIN (SELECT source_id AS production_order_id, sum(movement_qty) AS made_qty FROM raw.stock_movement
                     WHERE movement_reason = 'production_in' AND source_entity = 'production_order'
                       AND {as_of.known("moved_at")} GROUP BY 1) m USING (production_order_id)
        WHERE {as_of.known("p.created_at")}
          AND NOT (p.production_{is_over} AND {as_of.unchanged_since("p.changed_at")})
        UNION ALL
        SELECT k.sku, l.location_code, NULL, t.shipped_qty
        FROM raw.transfer_line t JOIN raw.sku k USING (sku_id) JOIN raw.location l ON l.location_id = t.to_location_id
        WHERE {as_of.known("t.shipped_at")} AND NOT {as_of.known("t.received_at")}"""


def _prices(as_of: AsOf) -> str:
    """One row per SKU and currency: what a unit was sold for, on average over the last 91 days, after discounts."""
    return f"""
      SELECT sku, currency, sum(net_cents) / sum(ordered_qty) AS unit_price_cents FROM core.fct_order_line
      WHERE cancelled_qty = 0 AND NOT is_gift AND NOT is_part AND net_cents > 0
        AND business_date > {as_of.day_sql} - 91 AND business_date <= {as_of.day_sql}
      GROUP BY ALL"""


def on_order(con: duckdb.DuckDBPyConnection, as_of: AsOf) -> pl.DataFrame:
    """When what is under way is due, where that is known: unique_id, ds, qty."""
    return con.execute(f"""
      SELECT {SERIES}, due_date AS ds, sum(qty)::BIGINT AS qty FROM ({_under_way(as_of)})
      WHERE due_date IS NOT NULL AND qty > 0 GROUP BY ALL ORDER BY ALL""").pl()


def expiring(con: duckdb.DuckDBPyConnection, as_of: AsOf) -> pl.DataFrame:
    """What lies in lots that expire: unique_id, ds (the last day of use), qty."""
    return con.execute(f"""
      SELECT {SERIES}, expiry_date AS ds, sum(movement_qty)::BIGINT AS qty
      FROM raw.stock_movement m JOIN raw.lot t ON t.lot_id = m.lot_id JOIN raw.sku k ON k.sku_id = m.sku_id
        JOIN raw.location l ON l.location_id = m.location_id
      WHERE expiry_date IS NOT NULL AND stock_state = 'on_hand' AND {as_of.known("moved_at")}
      GROUP BY ALL HAVING sum(movement_qty) > 0 ORDER BY ALL""").pl()


def closed_days(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Days on which suppliers are closed: supplier_code, ds."""
    return con.execute("""
      SELECT supplier_code, closed_date AS ds FROM raw.supplier_closed_day JOIN raw.supplier USING (supplier_id)
      ORDER BY ALL""").pl()


def least_order_values(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Suppliers that ask for a least order value: supplier_code, min_order_cents."""
    return con.execute("""
      SELECT supplier_code, min_order_cents FROM raw.supplier WHERE min_order_cents > 0 AND is_active ORDER BY ALL""").pl()


def _with_lead_times(con: duckdb.DuckDBPyConnection, as_of: AsOf, positions: pl.DataFrame) -> pl.DataFrame:
    """`positions` and `lead_times_days`.

    A purchase order line took the days until the last of it came. A SKU's own receipts count where there are enough of
    them, else those of all that the supplier sends.
    """
    from forecasting.supply import MIN_RECEIPTS, lead_time_samples, receipt_days

    came = con.execute(f"""
      SELECT supplier_code, sku, {as_of.business_day("p.ordered_at")} AS ordered_date,
        {as_of.business_day("max(r.received_at)")} AS received_date
      FROM raw.goods_receipt_line r JOIN raw.purchase_order_line p USING (purchase_order_line_id)
        JOIN raw.supplier USING (supplier_id) JOIN raw.sku k ON k.sku_id = p.sku_id
      WHERE {as_of.known("r.received_at")} AND {as_of.known("p.ordered_at")}
      GROUP BY p.purchase_order_line_id, supplier_code, sku, p.ordered_at ORDER BY ALL""").pl()
    spread = dict(con.execute("SELECT supplier_code, lead_time_sd_days FROM raw.supplier").fetchall())
    by_supplier = receipt_days(came.rename({"supplier_code": "key"}))
    by_sku = receipt_days(came.with_columns(key=pl.concat_str("supplier_code", pl.lit("\n"), "sku")))
    known: dict[tuple[str, str, int], list[int] | None] = {}
    column: list[list[int] | None] = []
    for supplier, sku, stated in positions.select("supplier_code", "sku", "lead_time_days").iter_rows():
        key = (supplier, sku, stated)
        if supplier is not None and key not in known:
            own = by_sku.get(f"{supplier}\n{sku}", [])
            days = own if len(own) >= MIN_RECEIPTS else by_supplier.get(supplier, [])
            samples = lead_time_samples(days, stated_days=stated, stated_sd_days=spread.get(supplier) or 0.0)
            known[key] = None if samples == [stated] else samples
        column.append(known.get(key))
    return positions.with_columns(pl.Series("lead_times_days", column, dtype=pl.List(pl.Int64)))


def longest_interval_days(positions: pl.DataFrame, closed: pl.DataFrame, as_of: date) -> int:
    """Days that the longest protection interval lasts, closed days of the supplier included; 0 without positions."""
    from forecasting.supply import AlwaysClosed, timing

    days_off = {code: frozenset(days) for code, days in closed.group_by("supplier_code").agg("ds").iter_rows()}
    longest = 0
    terms = positions.select("supplier_code", "lead_time_days", "review_period_days", "lead_times_days").unique()
    for supplier, lead, review, leads in terms.iter_rows():
        try:
            found = timing(
                as_of,
                lead_times_days=leads or (),
                usual_days=lead,
                review_period_days=review,
                closed=days_off.get(supplier, frozenset()),
            )
        except AlwaysClosed:
            continue  # its suggestion says so
        longest = max(longest, *found.interval_days)
    return longest


def routes(con: duckdb.DuckDBPyConnection, defaults: PlanningDefaults) -> list[tuple[str, str]]:
    """Pairs of our places between which goods may be moved; none while nobody said what that costs."""
    if defaults.transfer_unit_cents is None:
        return []
    places = con.execute(
        "SELECT location_code FROM raw.location WHERE is_active AND is_location_stock_tracked ORDER BY 1"
    ).fetchall()
    return [(a, b) for (a,) in places for (b,) in places if a != b]


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


def places_and_pools(frame: pl.DataFrame, pools: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of the places, and those of the pools; order kept."""
    is_pool = pl.col("unique_id").is_in(pools["pool_id"].drop_nulls().unique().implode())
    return frame.filter(~is_pool.fill_null(False)), frame.filter(is_pool)


def counted(choices: pl.DataFrame, series: int) -> dict[str, int]:
    """How many series there are, and how many of them were forecast, have no demand, or have nothing to go by."""
    no_demand = choices.filter(pl.col("model") == "no_demand").height
    forecast = choices.filter(~pl.col("model").is_in(["no_demand", "discontinued"])).height
    return {
        "series": series,
        "series_forecast": forecast,
        "series_no_demand": no_demand,
        "series_empty": series - choices.height,
    }


def pool_names(positions: pl.DataFrame) -> pl.DataFrame:
    """Whose places send for each other: unique_id (the pool_id), sku."""
    return positions.select(unique_id="pool_id", sku="sku").drop_nulls().unique()


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
    """`mart.demand_forecast_total` and `mart.pool_forecast_total` as `forecasting` knows them."""
    quantiles = ", ".join(f"{q}_qty AS {q}" for q in QUANTILES)
    columns = f"demand_date AS ds, horizon_days, mean_qty AS mean, {quantiles}, model"
    return con.execute(f"""
      SELECT {SERIES}, {columns} FROM mart.demand_forecast_total
      UNION ALL SELECT sku || '@*', {columns} FROM mart.pool_forecast_total ORDER BY unique_id, ds""").pl()


def stored_choices(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """`mart.forecast_choice` and `mart.pool_forecast_choice` as far as an order depends on them: unique_id, grade,
    reason_codes, facts."""
    return con.execute(f"""
      SELECT {SERIES}, grade, reason_codes, facts FROM mart.forecast_choice
      UNION ALL SELECT sku || '@*', grade, reason_codes, facts FROM mart.pool_forecast_choice ORDER BY 1""").pl()


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
        "target",
        "lead_times_days",
        "supply_kind",
        "supplier_code",
        "sku",
        "location_code",
        "pool_id",
        "idle_elsewhere_qty",
        "currency",
        "unit_cost_cents",
        "unit_price_cents",
        "price_breaks",
        "shelf_life_days",
    )


def transfer_table(transfers: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """`Suggestions.transfers` with declared names."""
    return transfers.select(columns)


def supplier_order_table(suppliers: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """`Suggestions.suppliers` with declared names."""
    cents = [pl.col(name).round().cast(pl.Int64) for name in ("order_value_cents", "min_order_cents")]
    return suppliers.rename({"lines": "suggested_lines_count"}).with_columns(cents).select(columns)


def service_curve_table(curve: pl.DataFrame, positions: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """What `forecasting.inventory.service_curve` gives, with declared names."""
    places = positions.select("unique_id", "sku", planned_place="location_code")
    pools = pool_names(positions).with_columns(planned_place=pl.lit("*"))
    named = curve.join(pl.concat([places, pools]), on="unique_id", how="left", maintain_order="left", validate="m:1")
    return named.rename({"target": "order_aim", "cycle_service_ratio": "service_ratio"}).select(columns)


def suggestion_table(suggestions: pl.DataFrame, positions: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """`Suggestions.suggestions` with where things stood, the supplier, the value and the forecast's grade."""
    own = [
        "unique_id", "suggested_qty", "order_by_date", "stockout_date", "protection_interval_days", "order_up_to_qty",
        "reorder_point_qty", "safety_stock_qty", "inventory_position_qty", *PARTS, "reason_codes", "facts", "order_date",
        "arrival_date", "order_target", "cycle_service_ratio", "fill_rate_ratio", "weekly_holding_cost_cents",
        "shortage_cost_cents", "expected_saving_cents", "unit_cost_cents", "grade",
    ]  # fmt: skip
    joined = (
        suggestions.rename({"target": "order_target"})
        .select(own)
        .with_columns(pl.col("unit_cost_cents").round().cast(pl.Int64))
        .join(positions.drop("cycle_service_ratio", "unit_cost_cents"), on="unique_id", how="inner", validate="1:1")
    )
    return joined.with_columns((pl.col("suggested_qty") * pl.col("unit_cost_cents")).alias("order_value_cents")).select(
        columns
    )
