"""The runs: load what changed, model it, forecast, suggest what to restock, publish. Plain functions.

`run_daily` is the whole story in order, `run_refresh` the part of it that is worth doing every few minutes, and
`run_backfill` the daily story for one day after the other. `pipelines.defs` tells Dagster the same with the same steps.
Between steps nothing is held but the path of the generation being built, so that each step can also run alone.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from orders_core.store.read_models import READ_MODELS
from pipelines.extract import Extracted, extract
from pipelines.model import MODELLED
from pipelines.parts import Parts, base_of
from pipelines.sql import literal
from pipelines.transform import plan
from pipelines.transform.as_of import AsOf
from pipelines.transform.plan import PlanningDefaults
from pipelines.warehouse import read
from pipelines.warehouse.contract import contract_hash
from pipelines.warehouse.errors import BuildFailed
from pipelines.warehouse.publish import (
    Published,
    find_violations,
    generations,
    live_generation,
    publish_generation,
    refuse_violations,
    remove_build,
    run_lock,
    spare_generation,
    start_generation,
)
from pipelines.warehouse.tables import HISTORY_TABLES, TABLES, table
from pipelines.warehouse.write import create_tables, replace_with_frame, replace_with_query

SOURCES = {f"raw.{model.name}": model.keys for model in READ_MODELS if model.keys}
PLANNED = (
    "mart.demand_forecast",
    "mart.demand_forecast_total",
    "mart.pool_forecast",
    "mart.pool_forecast_total",
    "mart.pool_forecast_choice",
    "mart.forecast_override",
    "mart.forecast_choice",
    "mart.forecast_exception",
    "mart.reorder_suggestion",
    "mart.suggestion_exception",
    "mart.transfer_suggestion",
    "mart.supplier_order",
    "mart.service_curve",
)
"""What the forecast and the suggestions write."""
BUILT_NIGHTLY = (*PLANNED, *HISTORY_TABLES, *(modelled.name for modelled in MODELLED if modelled.is_nightly))
"""Tables that a refresh leaves as they are."""
MEMORY_LIMIT = "2GB"
"""What DuckDB may hold while tables are modelled; beyond it works on disk."""
MAX_HORIZON_DAYS = 182


@dataclass(frozen=True)
class RunSettings:
    """What one run is asked to do; see `run_daily` for each."""

    database_url: str
    warehouse_dir: Path
    as_of: date
    zone: str
    run_id: str
    full: bool = False
    horizon_days: int = 56
    defaults: PlanningDefaults | None = None
    keep: int = 5

    def __post_init__(self) -> None:
        ZoneInfo(self.zone)  # an unknown zone is named before anything starts
        if not re.fullmatch(r"[A-Za-z0-9-]{1,80}", self.run_id):
            raise ValueError(f"run_id may hold letters, digits and dashes only, got {self.run_id!r}")

    @property
    def known(self) -> AsOf:
        return AsOf(self.as_of, self.zone)


@dataclass(frozen=True)
class StepReport:
    """One step of a run: what it wrote and how long it took."""

    name: str
    rows: int
    seconds: float


@dataclass(frozen=True)
class RunReport:
    """What a finished run did.

    Attributes:
        run_id: As given.
        as_of_date: Last business day whose facts were used.
        business_zone: IANA zone of the business days.
        generation: Number of the generation that is live now.
        published_at: When it went live, UTC.
        is_full_load: True when everything was read, False when only what changed since the generation before.
        changed_keys: Changed keys read per entity of the change log; empty on a full load.
        row_counts: Rows per published table, such as {"mart.reorder_suggestion": 412}.
        days_compared: Business days whose orders, quantities, money and movements were held against the order database.
        warnings: What a person should look at, each with `code`, `en` and `zh`: columns of the order database nobody reads.
        counts: What the forecast read, used and set aside (see `forecasting`), and `suggestions_to_buy`.
        steps: In the order they ran.
    """

    run_id: str
    as_of_date: date
    business_zone: str
    generation: int
    published_at: datetime
    is_full_load: bool
    changed_keys: dict[str, int]
    row_counts: dict[str, int]
    days_compared: int
    warnings: list[dict[str, str]]
    counts: dict[str, int]
    steps: tuple[StepReport, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, dates as ISO text."""
        return {
            **asdict(self),
            "as_of_date": self.as_of_date.isoformat(),
            "published_at": self.published_at.isoformat(),
            "steps": [asdict(step) for step in self.steps],
        }


def run_daily(
    database_url: str,
    warehouse_dir: Path,
    *,
    as_of: date,
    zone: str = "Asia/Shanghai",
    run_id: str,
    now: Callable[[], datetime],
    full: bool = False,
    horizon_days: int = 56,
    defaults: PlanningDefaults | None = None,
    keep: int = 5,
    progress: Callable[[str], None] = lambda step: None,
) -> RunReport:
    """Build and publish the warehouse as it is known at the end of business day `as_of` in `zone`.

    Nothing recorded after that moment is used. Running the same day again on the same orders gives the same tables.

    Args:
        database_url: The order database, as SQLAlchemy writes it (`sqlite:///orders.db`, `postgresql+psycopg://…`).
        warehouse_dir: Folder of generations; the link to the live one lies beside it, `warehouse_dir` + ".duckdb".
        as_of: Last business day to learn from.
        zone: IANA zone of the business day.
        run_id: Name of this run, unique; letters, digits and dashes.
        now: Tells the time of publication (`uow.clock.now`); nothing else in the run reads a clock.
        full: Read everything again instead of what changed.
        horizon_days: Days forecast; more when a supplier's lead time and the review period together are longer.
        defaults: What holds where a supplier says nothing; by default what planners set in the rules by that day.
        keep: Generations left on disk.
        progress: Told the name of each step as it starts.

    Returns:
        What was read, written and published.

    Raises:
        WarehouseLocked: Another run is writing (exit code 5).
        ChecksFailed, SourceDiffers: A promise of the contract is broken, or the load does not add up (exit code 4).
        SourceUnreadable, BuildFailed: The order database or the disk refused (exit code 1).
        All are `pipelines.warehouse.errors.WarehouseError` with `code`, `exit_code` and `message("zh" | "en")`; after
        each the generation before stays live.
    """
    settings = RunSettings(
        database_url=database_url,
        warehouse_dir=warehouse_dir,
        as_of=as_of,
        zone=zone,
        run_id=run_id,
        full=full,
        horizon_days=horizon_days,
        defaults=defaults,
        keep=keep,
    )
    return _run(settings, [as_of], now=now, progress=progress, is_refresh=False)


def run_refresh(
    database_url: str,
    warehouse_dir: Path,
    *,
    as_of: date,
    zone: str = "Asia/Shanghai",
    run_id: str,
    now: Callable[[], datetime],
    keep: int = 5,
    progress: Callable[[str], None] = lambda step: None,
) -> RunReport:
    """Bring the warehouse up to this moment without forecasting anew: every few minutes of the day `as_of`.

    Only what changed is read, modelled and checked. Forecasts, suggestions and the tables that only the daily run builds
    stay as they are; `meta.table_rows` says which run built each table. Where there is nothing to go on from (no
    generation yet, another contract) it is a daily run, so that no table is left empty.

    Args, raises: As `run_daily`.
    """
    settings = RunSettings(
        database_url=database_url, warehouse_dir=warehouse_dir, as_of=as_of, zone=zone, run_id=run_id, keep=keep
    )
    return _run(settings, [as_of], now=now, progress=progress, is_refresh=True)


def run_backfill(
    database_url: str,
    warehouse_dir: Path,
    *,
    first: date,
    last: date,
    zone: str = "Asia/Shanghai",
    run_id: str,
    now: Callable[[], datetime],
    full: bool = False,
    horizon_days: int = 56,
    defaults: PlanningDefaults | None = None,
    keep: int = 5,
    progress: Callable[[str], None] = lambda step: None,
) -> RunReport:
    """Do for each day from `first` through `last` what its daily run does, and publish the last.

    The orders are loaded once. Each day's forecast and suggestions are kept as they were known then
    (`mart.forecast_history`, `mart.suggestion_history`), as its own daily run would have kept them. When a later
    day than `last` is planned already, the newest such day is built again after it: a backfill of the past never takes
    the newest plan off the screens.

    Args, raises: As `run_daily`; ValueError when `last` is before `first`.
    """
    if last < first:
        raise ValueError(f"a backfill goes forward: {last} is before {first}")
    settings = RunSettings(
        database_url=database_url,
        warehouse_dir=warehouse_dir,
        as_of=last,
        zone=zone,
        run_id=run_id,
        full=full,
        horizon_days=horizon_days,
        defaults=defaults,
        keep=keep,
    )
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return _run(settings, days, now=now, progress=progress, is_refresh=False, ends_at_newest=True)


def _run(
    settings: RunSettings,
    days: list[date],
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None],
    is_refresh: bool,
    ends_at_newest: bool = False,
) -> RunReport:
    """Run; when the generation it is built on turns out to be damaged, build everything anew instead of failing again."""
    how = {"now": now, "progress": progress, "is_refresh": is_refresh, "ends_at_newest": ends_at_newest}
    try:
        return _build(settings, days, **how)
    except BuildFailed as error:
        if settings.full or not error.is_damage:
            raise
        reason = error.facts["reason"]
        told = {
            "code": "W_GENERATION_DAMAGED",
            "en": f"everything was built anew, because the generation to go on from is damaged: {reason}",
            "zh": f"原有一版数据已损坏,已全部重新生成:{reason}",
        }
    report = _build(replace(settings, full=True), days, **how)
    return replace(report, warnings=[told, *report.warnings])


def _build(
    settings: RunSettings,
    days: list[date],
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None],
    is_refresh: bool,
    ends_at_newest: bool,
) -> RunReport:
    steps: list[StepReport] = []
    counts: dict[str, int] = {}

    @contextmanager
    def step(name: str) -> Iterator[list[int]]:
        progress(name)
        started = time.monotonic()
        rows: list[int] = []
        yield rows
        steps.append(StepReport(name, sum(rows), round(time.monotonic() - started, 3)))

    with building_generation(settings) as building:
        with step("load") as rows:
            extracted = load(settings, building, reconcile="touched" if is_refresh else "all")
            rows += extracted.rows_read.values()
        with open_generation(building) as con:
            base = base_of(con, settings.zone)
            is_refresh = is_refresh and base is not None
            *before, last = through_newest_plan(con, days) if ends_at_newest else days
            for day in before:
                base = build_day(replace(settings, as_of=day), con, base, step=step)
            today = replace(settings, as_of=last)
            parts = Parts(con, base, SOURCES)
            build_model(today, parts, step=step, with_nightly=not is_refresh)
            if not is_refresh:
                counts = build_plan(today, con, step=step)
            with step("check"):
                check(con, parts if is_refresh else None)
            parts.close()
        with step("publish") as rows:
            published_at = now()
            left_alone = BUILT_NIGHTLY if is_refresh else ()
            published = publish(today, building, published_at, is_checked=True, left_alone=left_alone)
            rows += published.row_counts.values()
    return RunReport(
        run_id=settings.run_id,
        as_of_date=today.as_of,
        business_zone=settings.zone,
        generation=published.generation,
        published_at=published_at,
        is_full_load=extracted.is_full,
        changed_keys=extracted.changed_keys,
        row_counts=published.row_counts,
        days_compared=extracted.days_compared,
        warnings=extracted.warnings,
        counts=counts,
        steps=tuple(steps),
    )


@contextmanager
def building_generation(settings: RunSettings) -> Iterator[Path]:
    """Be the one run that writes, with a generation to build on.

    That is the oldest one there is to spare, which its own watermark tells what it has not seen yet; else a copy of the
    live one, which takes time by its size; else, when the contract is no longer that of the live one, an empty one. What
    a refresh does not build, and the plans kept of earlier days, come from the live one. What was not published when the
    block ends is removed.
    """
    folder = settings.warehouse_dir
    with run_lock(folder, run_id=settings.run_id):
        live = live_generation(folder)
        base = live if live is not None and not settings.full and _has_todays_contract(live) else None
        spare = None if base is None else spare_generation(folder, keep=settings.keep)
        if spare is not None and not _has_todays_contract(spare):
            spare = None
        building = start_generation(folder, run_id=settings.run_id, copy_of=base, spare=spare)
        try:
            with open_generation(building) as con:
                if base is None:
                    create_tables(con, TABLES)
                    _bring_history(con, folder)
                elif spare is not None:
                    _bring_what_stays(con, base)
            yield building
        finally:
            remove_build(building)


def _bring_what_stays(con: duckdb.DuckDBPyConnection, live: Path) -> None:
    """From the live generation: the nightly tables that another run built since, and the plans kept since."""
    with read.attached(con, live, "older"):
        stale = con.execute(
            "SELECT l.table_name, l.built_by_run_id FROM older.meta.table_rows l JOIN meta.table_rows h USING (table_name) "
            "WHERE l.built_by_run_id IS DISTINCT FROM h.built_by_run_id"
        ).fetchall()
        for name, built_by in stale:
            if name in BUILT_NIGHTLY:
                if name not in HISTORY_TABLES:
                    replace_with_query(con, table(name), f"SELECT * FROM older.{name}")
                run = literal(built_by) if built_by else "NULL"
                con.execute(f"UPDATE meta.table_rows SET built_by_run_id = {run} WHERE table_name = {literal(name)}")
        con.execute("CREATE OR REPLACE TEMP TABLE day_to_bring AS FROM older.meta.plan_day EXCEPT FROM meta.plan_day")
        for name in (*HISTORY_TABLES, "meta.plan_day"):
            con.execute(f"DELETE FROM {name} WHERE as_of_date IN (SELECT as_of_date FROM day_to_bring)")
            con.execute(f"INSERT INTO {name} BY NAME FROM older.{name} SEMI JOIN day_to_bring USING (as_of_date)")


def _bring_history(con: duckdb.DuckDBPyConnection, warehouse_dir: Path) -> None:
    """Copy the plans kept in the newest generation that can be read, live or not; tables and columns it has not stay empty.

    They can't be computed again as they were.
    """
    newest_first = [path for _, path in reversed(generations(warehouse_dir))]
    live = live_generation(warehouse_dir)
    for path in sorted(newest_first, key=lambda path: path != live):
        try:
            with read.attached(con, path, "older"):
                if _shared_columns(con, "meta.plan_day"):
                    for name in ("meta.plan_day", *HISTORY_TABLES):
                        if columns := _shared_columns(con, name):
                            con.execute(f"INSERT INTO {name} BY NAME SELECT {columns} FROM older.{name}")
                    return
        except (duckdb.IOException, OSError):  # damaged: the next older one may be whole
            for name in ("meta.plan_day", *HISTORY_TABLES):
                con.execute(f"DELETE FROM {name}")


def _shared_columns(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """The columns that the table has both today and in the older generation."""
    schema, bare = name.split(".")
    older = con.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = 'older' AND schema_name = ? AND table_name = ?",
        [schema, bare],
    ).fetchall()
    return ", ".join(column for (column,) in older if column in table(name).column_names)


def load(settings: RunSettings, building: Path, *, reconcile: Literal["touched", "all"] = "all") -> Extracted:
    """Bring `raw` up to the present of the order database; totals compared for the days touched, or for all.

    When everything was read (a first load; a database restored, or another one), what was modelled before is of other
    rows: the generation forgets for which day it was modelled, so that all of it is modelled anew.
    """
    extracted = extract(settings.database_url, building, full=settings.full, reconcile=reconcile)
    if extracted.is_full:
        with open_generation(building) as con:
            con.execute("DELETE FROM meta.publication")
    return extracted


@contextmanager
def open_generation(building: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The generation being built, to write to. Nobody else may have it open.

    Raises:
        BuildFailed: DuckDB or the disk refused, now or while it was open.
    """
    try:
        with duckdb.connect(str(building)) as con:
            con.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            con.execute(f"SET temp_directory = {literal(f'{building}.spill')}")  # swept with it
            con.execute("SET preserve_insertion_order = false")  # what is sorted says so
            yield con
    except duckdb.Error as error:
        raise BuildFailed(path=str(building), reason=str(error)) from error


Step = Callable[[str], AbstractContextManager[list[int]]]
"""Surrounds a step, which notes its rows in the list."""


@contextmanager
def untold(name: str) -> Iterator[list[int]]:
    """A step that nobody is told of."""
    yield []


def build_day(settings: RunSettings, con: duckdb.DuckDBPyConnection, base: AsOf | None, *, step: Step = untold) -> AsOf:
    """Model one day from the day `base`, plan it and keep its plan; returns the day, which the next goes on from."""
    parts = Parts(con, base, SOURCES)
    build_model(settings, parts, step=step)
    build_plan(settings, con, step=step)
    parts.close()
    return settings.known


def build_model(settings: RunSettings, parts: Parts, *, step: Step, with_nightly: bool = True) -> None:
    """Every modelled table, or all but those that only the daily run builds."""
    for modelled in MODELLED:
        if with_nightly or not modelled.is_nightly:
            with step(modelled.name) as rows:
                rows.append(parts.build(modelled, settings.known))


def build_plan(settings: RunSettings, con: duckdb.DuckDBPyConnection, *, step: Step) -> dict[str, int]:
    """Forecast, suggest and keep both; returns what the two counted."""
    positions = plan.positions(con, settings.known, defaults_of(settings, con))
    with step("forecast") as rows:
        counts = build_forecast(settings, con, positions)
        rows.append(counts["series"])
    with step("suggestions") as rows:
        counts |= build_suggestions(settings, con, positions)
        rows.append(counts["suggestions"])
    keep_plan(settings, con)
    return counts


def defaults_of(settings: RunSettings, con: duckdb.DuckDBPyConnection) -> PlanningDefaults:
    """What the run plans with where a supplier says nothing."""
    return settings.defaults or plan.planning_defaults(con, settings.known)


def build_forecast(settings: RunSettings, con: duckdb.DuckDBPyConnection, positions: pl.DataFrame) -> dict[str, int]:
    """Forecast every product and place with demand, as far ahead as `plan.positions` need it; returns what the forecast
    counted."""
    from forecasting.forecast import PlanSettings, plan_demand
    from forecasting.overrides import apply_adjustments, apply_overrides, move_pools, note_adjustments, note_overrides
    from forecasting.pools import with_pools

    history, items, names = plan.history(con, settings.known), plan.items(con, settings.known), plan.series_names(con)
    longest = plan.longest_interval_days(positions, plan.closed_days(con), settings.as_of)
    horizon_days = min(MAX_HORIZON_DAYS, max(settings.horizon_days, longest))
    closed = plan.closed_dates(plan.order_dates(con), as_of=settings.as_of, horizon_days=horizon_days)
    adjustments, overrides = plan.adjustments(con), plan.overrides(con)
    adjusted = apply_adjustments(history, adjustments)
    pools, shared = positions.select("unique_id", "pool_id"), plan.pool_names(positions)
    ignored = adjusted.days.filter(pl.col("kind") == "ignore").select("unique_id", "ds")
    known, about = with_pools(adjusted.history, items, pools, ignored=ignored)
    result = plan_demand(
        known,
        as_of=settings.as_of,
        horizon_days=horizon_days,
        items=about,
        closed_dates=closed,
        promotions=plan.promotions(con, settings.known, pl.concat([names.select("unique_id", "sku"), shared])),
        settings=PlanSettings(country=plan.country(con)),
    )
    totals, together = plan.places_and_pools(result.totals, pools)
    forecasts, daily_together = plan.places_and_pools(result.forecasts, pools)
    chosen, pools_chosen = plan.places_and_pools(result.choices, pools)
    found, _ = plan.places_and_pools(result.exceptions, pools)
    told = apply_overrides(forecasts, totals, overrides, as_of=settings.as_of)
    reasoned = note_overrides(note_adjustments(chosen, adjusted, adjustments), told.steps, overrides)
    choices, steps = table("mart.forecast_choice"), table("mart.forecast_override")
    replace_with_frame(con, table("mart.demand_forecast"), plan.forecast_table(told.forecasts, names))
    replace_with_frame(con, table("mart.demand_forecast_total"), plan.forecast_table(told.totals, names))
    daily_moved, moved = move_pools(daily_together, together, told.forecasts, pools)
    replace_with_frame(con, table("mart.pool_forecast"), plan.forecast_table(daily_moved, shared))
    replace_with_frame(con, table("mart.pool_forecast_total"), plan.forecast_table(moved, shared))
    pool_choices = table("mart.pool_forecast_choice")
    summed = replace(adjusted, history=known)
    pools_noted = note_adjustments(pools_chosen, summed, adjustments, pools=pools)
    pools_noted = note_overrides(pools_noted, told.steps, overrides, pools=pools, together=daily_moved)
    replace_with_frame(con, pool_choices, plan.choice_table(pools_noted, shared, pool_choices.column_names))
    replace_with_frame(con, steps, plan.override_table(told.steps, names, steps.column_names))
    replace_with_frame(con, choices, plan.choice_table(reasoned, names, choices.column_names))
    replace_with_frame(con, table("mart.forecast_exception"), plan.exception_table(found))
    return {**plan.counted(chosen, names.height), "horizon_days": horizon_days}


def build_suggestions(settings: RunSettings, con: duckdb.DuckDBPyConnection, positions: pl.DataFrame) -> dict[str, int]:
    """Suggest what to restock from the forecast in the generation, and say what other targets would cost; returns how many
    suggestions, and how many say buy."""
    from forecasting.inventory import service_curve
    from forecasting.joint import Route
    from forecasting.replenishment import OrderSettings, suggest

    defaults = defaults_of(settings, con)
    totals = plan.stored_totals(con)
    per_unit, per_move = defaults.transfer_unit_cents or 0, defaults.transfer_fixed_cents
    asked = plan.positions_for_suggestions(positions, totals)
    aim: dict[str, Any] = {
        "as_of": settings.as_of,
        "fill_rate_ratio": defaults.fill_rate_ratio,
        "choices": plan.stored_choices(con),
        "settings": OrderSettings(
            holding_ratio=defaults.holding_ratio,
            shortage_ratio=defaults.shortage_ratio,
            min_max_value_cents=defaults.min_max_value_cents,
        ),
    }
    result = suggest(
        totals,
        asked,
        **aim,
        on_order=plan.on_order(con, settings.known),
        expiring=plan.expiring(con, settings.known),
        closed_days=plan.closed_days(con),
        suppliers=plan.least_order_values(con),
        routes=[Route(a, b, per_unit, per_move) for a, b in plan.routes(con, defaults)],
        budget_cents=defaults.budget_cents,
    )
    target = table("mart.reorder_suggestion")
    frame = plan.suggestion_table(result.suggestions, positions, target.column_names)
    rows = replace_with_frame(con, target, frame)
    replace_with_frame(con, table("mart.suggestion_exception"), plan.exception_table(result.exceptions))
    moves, joined = table("mart.transfer_suggestion"), table("mart.supplier_order")
    replace_with_frame(con, moves, plan.transfer_table(result.transfers, moves.column_names))
    replace_with_frame(con, joined, plan.supplier_order_table(result.suppliers, joined.column_names))
    curve = table("mart.service_curve")
    replace_with_frame(
        con, curve, plan.service_curve_table(service_curve(totals, asked, **aim), positions, curve.column_names)
    )
    return {"suggestions": rows, "suggestions_to_buy": frame.filter(pl.col("suggested_qty") > 0).height}


def keep_plan(settings: RunSettings, con: duckdb.DuckDBPyConnection) -> None:
    """Keep the day's forecast and suggestions as they are now, in place of what its earlier run kept."""
    day = settings.known.day_sql
    weeks = ", ".join(str(7 * week) for week in (1, 2, 4, 8, 13, 26))
    rows = {
        "mart.suggestion_history": f"SELECT {day} AS as_of_date, * FROM mart.reorder_suggestion",
        "mart.forecast_history": f"SELECT {day} AS as_of_date, * FROM mart.demand_forecast_total "
        f"WHERE horizon_days IN ({weeks})",
        "mart.override_history": f"SELECT {day} AS as_of_date, * FROM mart.forecast_override",
    }
    con.execute("BEGIN")
    for name in HISTORY_TABLES:
        con.execute(f"DELETE FROM {name} WHERE as_of_date = {day}")
        con.execute(f"INSERT INTO {name} BY NAME {rows[name]} ORDER BY sku, location_code")
    con.execute(f"DELETE FROM meta.plan_day WHERE as_of_date = {day}")
    con.execute(f"INSERT INTO meta.plan_day VALUES ({day}, ?, NULL)", [settings.run_id])
    con.execute("COMMIT")


def check(con: duckdb.DuckDBPyConnection, parts: Parts | None) -> None:
    """Hold the rows against every promise of the contract: all rows, or those that `parts` moved.

    Raises:
        ChecksFailed: Some are broken.
    """
    refuse_violations(find_violations(con, TABLES) if parts is None else parts.violations(TABLES))


def publish(
    settings: RunSettings,
    building: Path,
    published_at: datetime,
    *,
    is_checked: bool = False,
    left_alone: Collection[str] = (),
) -> Published:
    """Let the link lead to the new generation, once every promise of the contract is checked."""
    return publish_generation(
        settings.warehouse_dir,
        building,
        tables=TABLES,
        run_id=settings.run_id,
        as_of_date=settings.as_of,
        business_zone=settings.zone,
        published_at=published_at,
        keep=settings.keep,
        is_checked=is_checked,
        left_alone=left_alone,
    )


def through_newest_plan(con: duckdb.DuckDBPyConnection, days: Sequence[date]) -> list[date]:
    """The days of a backfill, and after them the newest day that was planned when it is later than all of them.

    It is the day on the planners' screens, and built last so that it stays there.
    """
    row = con.execute("SELECT max(as_of_date) FROM meta.plan_day").fetchone()
    newest = row[0] if row else None
    return [*days, newest] if newest is not None and newest > days[-1] else [*days]


def _has_todays_contract(generation: Path) -> bool:
    """False also for a file that can't be read: the next generation is then built from nothing."""
    try:
        with duckdb.connect(":memory:") as con, read.attached(con, generation, "older"):
            row = con.execute("SELECT contract_hash FROM older.meta.publication").fetchone()
    except (duckdb.Error, OSError):
        return False
    return row == (contract_hash(TABLES),)
