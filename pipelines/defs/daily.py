"""The daily run as Dagster shows it: one asset per table, each with a check that stops what is downstream.

The same functions as `pipelines.daily`, in the same order. A partition is a business day: materialising it builds and
publishes the warehouse as it was known at the end of that day; a range of days is one run that does what
`run_backfill` does. Everything runs in one process, because one run holds the lock and one generation file from its
first step to its last.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
from pydantic import PrivateAttr

from pipelines.daily import (
    SOURCES,
    RunSettings,
    build_day,
    build_forecast,
    build_suggestions,
    building_generation,
    defaults_of,
    keep_plan,
    load,
    open_generation,
    publish,
    through_newest_plan,
)
from pipelines.defs.trouble import named_errors
from pipelines.extract import Extracted
from pipelines.hints import publish_prices
from pipelines.model import MODELLED, Modelled
from pipelines.parts import Parts, base_of, tables_read
from pipelines.transform import plan
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.contract import Column, Table
from pipelines.warehouse.errors import BuildFailed
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import HISTORY_TABLES, RAW_TABLES, table

FORECAST = ("mart.demand_forecast", "mart.demand_forecast_total", "mart.pool_forecast", "mart.pool_forecast_total",
            "mart.pool_forecast_choice", "mart.forecast_override", "mart.forecast_choice",
            "mart.forecast_exception")  # fmt: skip
SUGGESTIONS = ("mart.reorder_suggestion", "mart.suggestion_exception", "mart.transfer_suggestion",
               "mart.supplier_order", "mart.service_curve")  # fmt: skip
PLANNED_FROM = (
    "core.dim_product",
    "core.dim_location",
    "core.fct_order_line",
    "core.fct_stock_daily",
    "core.fct_out_of_stock",
    "core.fct_demand_daily",
    "core.fct_forecast_override",
    "core.fct_demand_adjustment",
    "mart.abc_xyz",
    "raw.rule_set",
)
SUPPLIED_FROM = (
    "raw.supplier",
    "raw.supplier_closed_day",
    "raw.supplier_sku",
    "raw.cost",
    "raw.stock_movement",
    "raw.lot",
    "raw.purchase_order_line",
    "raw.goods_receipt_line",
    "raw.production_order",
    "raw.transfer_line",
)
PUBLICATION = dg.AssetKey(["meta", "publication"])
STOCK_PRICE = dg.AssetKey(["orders", "stock_price"])
OWNERS = {"raw": "team:data", "core": "team:data", "mart": "team:planning", "meta": "team:data"}
POOL = "warehouse"
"""Every step that writes is in this pool; `dagster.yaml` lets one run at a time have it."""
FRESH = dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=timedelta(hours=36))
"""A night's run may be two hours late before it is said, and half a day before it is red."""


class WarehouseRun(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The one generation a Dagster run builds, locked from its first step to its last.

    Attributes:
        database_url, warehouse_dir, zone: As in `pipelines.daily.run_daily`.
    """

    database_url: str
    warehouse_dir: str
    zone: str = "Asia/Shanghai"
    _open: ExitStack = PrivateAttr(default_factory=ExitStack)
    _building: Path = PrivateAttr()
    _today: RunSettings = PrivateAttr()
    _con: duckdb.DuckDBPyConnection | None = PrivateAttr(default=None)
    _parts: Parts = PrivateAttr()
    _positions: pl.DataFrame | None = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["WarehouseRun"]:
        try:
            yield self
        finally:
            self._open.close()

    def begin(self, run_id: str, days: Sequence[date]) -> Extracted:
        """Lock, load, and do every day but the last; `today` is then the day the rest of the run is for.

        When a later day than these is planned already, it comes last, so that a backfill of the past never takes the
        newest plan off the screens.
        """
        settings = RunSettings(
            database_url=self.database_url,
            warehouse_dir=Path(self.warehouse_dir),
            as_of=days[-1],
            zone=self.zone,
            run_id=run_id,
        )
        try:
            extracted = self._load(settings)
        except BuildFailed as error:
            if not error.is_damage:
                raise
            settings = replace(settings, full=True)  # nothing can be built on a damaged generation
            extracted = self._load(settings)
        con = self._con = self._open.enter_context(open_generation(self._building))
        base = base_of(con, self.zone)
        *before, last = through_newest_plan(con, days)
        for day in before:
            base = build_day(replace(settings, as_of=day), con, base)
        self._today = replace(settings, as_of=last)
        self._parts = Parts(con, base, SOURCES)
        return extracted

    def _load(self, settings: RunSettings) -> Extracted:
        self._open.close()  # of an attempt before
        self._building = self._open.enter_context(building_generation(settings))
        return load(settings, self._building)

    @property
    def today(self) -> RunSettings:
        """What the run is asked to do, on its last day."""
        return self._today

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The generation being built, open for writing."""
        if self._con is None:
            raise dg.Failure(
                "a generation is built and published whole: materialize all assets (the job 'daily'), not some of them",
                allow_retries=False,
            )
        return self._con

    @property
    def parts(self) -> Parts:
        """What has moved so far on the last day."""
        return self._parts

    @property
    def positions(self) -> pl.DataFrame:
        """Where every product and place stands on the last day, worked out once for forecast and suggestions."""
        if self._positions is None:
            self._positions = plan.positions(self.con, self._today.known, defaults_of(self._today, self.con))
        return self._positions

    def publish(self) -> Any:
        """Check everything once more and let the link lead to the generation."""
        self.con.close()
        return publish(self._today, self._building, datetime.now(UTC))


def daily_assets(partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Every table of `raw`, `core` and `mart`, and the publication that all of them lead to."""
    forecast_tables, suggestion_tables = [table(n) for n in FORECAST], [table(n) for n in SUGGESTIONS]
    history_tables = [table(n) for n in HISTORY_TABLES]
    common: dict[str, Any] = {
        "partitions_def": partitions,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "pool": POOL,
    }

    @dg.multi_asset(name="load", specs=[_spec(t) for t in RAW_TABLES], check_specs=_checks(RAW_TABLES), **common)
    def load_raw(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        with named_errors(context, place=warehouse.warehouse_dir):
            if PUBLICATION not in context.job_def.asset_layer.executable_asset_keys:
                raise dg.Failure("nothing would be published: materialize all assets (the job 'daily')")
            days = [date.fromisoformat(key) for key in context.partition_keys]
            extracted = warehouse.begin(context.run.run_id, days)
            for warning in extracted.warnings:
                context.log.warning(f"{warning['code']} {warning['en']}")
            for raw in RAW_TABLES:
                read = {"rows_read": extracted.rows_read[raw.name], "is_full_load": extracted.is_full}
                yield _result(warehouse.con, raw, read)

    def modelled_asset(modelled: Modelled) -> dg.AssetsDefinition:
        built = table(modelled.name)

        @dg.multi_asset(
            name=modelled.name.replace(".", "_"),
            specs=[_spec(built, _reads(modelled))],
            check_specs=_checks([built]),
            **common,
        )
        def build(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
            con = warehouse.con
            with named_errors(context, place=warehouse.warehouse_dir):
                changed = warehouse.parts.build(modelled, warehouse.today.known)
                yield _result(con, built, {"rows_changed": changed})

        return build

    @dg.multi_asset(
        name="forecast",
        specs=[_spec(t, PLANNED_FROM) for t in forecast_tables],
        check_specs=_checks(forecast_tables),
        **common,
    )
    def forecast(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        con = warehouse.con
        with named_errors(context, place=warehouse.warehouse_dir):
            counts = build_forecast(warehouse.today, con, warehouse.positions)
            for written in forecast_tables:
                yield _result(con, written, counts)

    @dg.multi_asset(
        name="suggestions",
        specs=[_spec(t, (*FORECAST, *PLANNED_FROM, *SUPPLIED_FROM)) for t in suggestion_tables],
        check_specs=_checks(suggestion_tables),
        **common,
    )
    def suggestions(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        con = warehouse.con
        with named_errors(context, place=warehouse.warehouse_dir):
            counts = build_suggestions(warehouse.today, con, warehouse.positions)
            for written in suggestion_tables:
                yield _result(con, written, counts)

    @dg.multi_asset(
        name="keep_plan",
        specs=[_spec(t, (*SUGGESTIONS, *FORECAST)) for t in history_tables],
        check_specs=_checks(history_tables),
        **common,
    )
    def history(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        con = warehouse.con
        with named_errors(context, place=warehouse.warehouse_dir):
            keep_plan(warehouse.today, con)
            for written in history_tables:
                yield _result(con, written, {})

    built = [load_raw, *map(modelled_asset, MODELLED), forecast, suggestions, history]
    read_by_others = {dep.asset_key for asset in built for spec in asset.specs for dep in spec.deps}
    ends = [spec.key for asset in built for spec in asset.specs if spec.key not in read_by_others]

    @dg.multi_asset(
        name="publish",
        specs=[_spec(table("meta.publication"), [".".join(key.path) for key in ends])],  # so it comes after every table
        **common,
    )
    def publication(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        with named_errors(context, place=warehouse.warehouse_dir):
            published = warehouse.publish()
            yield dg.MaterializeResult(
                asset_key=PUBLICATION,
                metadata={
                    "generation": published.generation,
                    "as_of_date": str(warehouse.today.as_of),
                    "rows": sum(published.row_counts.values()),
                    "dagster/row_count": 1,
                },
            )

    @dg.multi_asset(
        name="stock_prices",
        specs=[
            dg.AssetSpec(
                STOCK_PRICE,
                deps=[PUBLICATION],
                description="What a unit is worth where it lies, in the order database; only by a plan of today or yesterday.",
                group_name="orders",
                owners=[OWNERS["mart"]],
                freshness_policy=FRESH,
            )
        ],
        **common,
    )
    def stock_prices(context: dg.AssetExecutionContext, warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        with named_errors(context, place=warehouse.warehouse_dir):
            done = publish_prices(warehouse.database_url, Path(warehouse.warehouse_dir), zone=warehouse.zone)
            yield dg.MaterializeResult(asset_key=STOCK_PRICE, metadata={"stock_prices": done.prices if done else 0})

    return [*built, publication, stock_prices]


def key_of(full_name: str) -> dg.AssetKey:
    """The asset that a table is: `core.dim_product` is `core/dim_product`."""
    return dg.AssetKey(full_name.split("."))


def _reads(modelled: Modelled) -> tuple[str, ...]:
    """The tables that the query of a modelled table names, and those that move it: the graph is what the SQL says."""
    any_day = AsOf(date(2000, 1, 1), "UTC")
    return tuple(sorted({*tables_read(modelled.query(any_day)), *modelled.moved_by} - {modelled.name}))


def _spec(built: Table, reads: Sequence[str] = ()) -> dg.AssetSpec:
    return dg.AssetSpec(
        key_of(built.full_name),
        deps=[key_of(read) for read in reads],
        description=built.grain,
        group_name=built.schema,
        owners=[OWNERS[built.schema]],
        kinds={"duckdb"},
        freshness_policy=FRESH,
        metadata={
            "key": ", ".join(built.key),
            "dagster/table_name": f"warehouse.{built.full_name}",
            "dagster/column_schema": dg.TableSchema(
                columns=[_column(column) for column in built.columns],
                constraints=dg.TableConstraints(other=[rule.sql for rule in built.rules]),
            ),
        },
    )


def _column(column: Column) -> dg.TableColumn:
    unit = f" [{column.unit}]" if column.unit else ""
    return dg.TableColumn(
        column.name,
        column.type,
        description=column.meaning + unit,
        constraints=dg.TableColumnConstraints(nullable=column.nullable, other=[column.rule] if column.rule else []),
    )


def _checks(tables: Sequence[Table]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            "contract",
            asset=key_of(checked.full_name),
            blocking=True,
            description="No row breaks a promise of docs/warehouse.md.",
        )
        for checked in tables
    ]


def _result(con: duckdb.DuckDBPyConnection, written: Table, metadata: dict[str, Any]) -> dg.MaterializeResult:
    key = key_of(written.full_name)
    broken = [str(violation) for violation in find_violations(con, [written])]
    counted = con.execute(f"SELECT count(*) FROM {written.full_name}").fetchone()
    check = dg.AssetCheckResult(passed=not broken, check_name="contract", asset_key=key, metadata={"broken": broken})
    return dg.MaterializeResult(
        asset_key=key,
        metadata={**metadata, "dagster/row_count": int(counted[0]) if counted else 0},
        check_results=[check],
    )
