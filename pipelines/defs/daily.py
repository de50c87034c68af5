"""The daily run as Dagster shows it: one asset per table, each with a check that stops what is downstream.

The same functions as `pipelines.daily.run_daily`, in the same order. A partition is a business day: materialising it builds
and publishes the warehouse as it was known at the end of that day. Everything runs in one process, because one run holds
the lock and one generation file from its first step to its last.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import duckdb
from pydantic import PrivateAttr

from pipelines.daily import (
    RunSettings,
    build_forecast,
    build_modelled,
    build_suggestions,
    building_generation,
    load,
    open_generation,
    publish,
)
from pipelines.model import MODELLED, Modelled
from pipelines.transform.as_of import AsOf
from pipelines.warehouse.contract import Table
from pipelines.warehouse.publish import find_violations
from pipelines.warehouse.tables import MART_TABLES, RAW_TABLES, table

FORECAST = ("mart.demand_forecast", "mart.demand_forecast_total", "mart.forecast_choice", "mart.forecast_exception")
SUGGESTIONS = ("mart.reorder_suggestion", "mart.suggestion_exception")
PLANNED_FROM = (
    "core.dim_product",
    "core.dim_location",
    "core.fct_order_line",
    "core.fct_stock_daily",
    "core.fct_demand_daily",
)
SUPPLIED_FROM = ("raw.supplier", "raw.supplier_sku", "raw.cost", "raw.purchase_order_line", "raw.goods_receipt_line",
                 "raw.production_order", "raw.transfer_line")  # fmt: skip
PARTITION_TAGS = ("dagster/asset_partition_range_end", "dagster/partition")
"""Where a run says which day it is for; a backfill in one run builds what is known at the end of its last day."""


class WarehouseRun(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The one generation a Dagster run builds, locked from its first step to its last.

    Attributes:
        database_url, warehouse_dir, zone: As in `pipelines.daily.run_daily`.
    """

    database_url: str
    warehouse_dir: str
    zone: str = "Asia/Shanghai"
    _settings: RunSettings = PrivateAttr()
    _building: Path = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["WarehouseRun"]:
        run = context.run
        day = next((run.tags[tag] for tag in PARTITION_TAGS if run and tag in run.tags), None)
        if run is None or day is None:
            raise dg.DagsterInvariantViolationError("the daily run needs a partition: the business day it is for")
        self._settings = RunSettings(
            database_url=self.database_url,
            warehouse_dir=Path(self.warehouse_dir),
            as_of=date.fromisoformat(day),
            zone=self.zone,
            run_id=run.run_id,
        )
        with building_generation(self._settings) as building:
            self._building = building
            yield self

    @property
    def settings(self) -> RunSettings:
        """What the run is asked to do."""
        return self._settings

    @property
    def building(self) -> Path:
        """The generation file it builds."""
        return self._building


def daily_assets(partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Every table of `raw`, `core` and `mart`, and the publication that all of them lead to."""
    single_run = dg.BackfillPolicy.single_run()
    forecast_tables, suggestion_tables = [table(n) for n in FORECAST], [table(n) for n in SUGGESTIONS]

    @dg.multi_asset(
        name="load",
        specs=[_spec(t) for t in RAW_TABLES],
        check_specs=_checks(RAW_TABLES),
        partitions_def=partitions,
        backfill_policy=single_run,
    )
    def load_raw(warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        extracted = load(warehouse.settings, warehouse.building)
        with open_generation(warehouse.building) as con:
            for raw in RAW_TABLES:
                yield _result(con, raw, {"rows_read": extracted.rows_read[raw.name], "is_full_load": extracted.is_full})

    def modelled(one: Modelled) -> dg.AssetsDefinition:
        built = table(one.name)

        @dg.multi_asset(
            name=one.name.replace(".", "_"),
            specs=[_spec(built, _reads(one))],
            check_specs=_checks([built]),
            partitions_def=partitions,
            backfill_policy=single_run,
        )
        def build(warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
            with open_generation(warehouse.building) as con:
                rows = build_modelled(warehouse.settings, con, one)
                yield _result(con, built, {"dagster/row_count": rows})

        return build

    @dg.multi_asset(
        name="forecast",
        specs=[_spec(t, PLANNED_FROM) for t in forecast_tables],
        check_specs=_checks(forecast_tables),
        partitions_def=partitions,
        backfill_policy=single_run,
    )
    def forecast(warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        with open_generation(warehouse.building) as con:
            counts = build_forecast(warehouse.settings, con)
            for written in forecast_tables:
                yield _result(con, written, counts)

    @dg.multi_asset(
        name="suggestions",
        specs=[_spec(t, (*FORECAST, *PLANNED_FROM, *SUPPLIED_FROM)) for t in suggestion_tables],
        check_specs=_checks(suggestion_tables),
        partitions_def=partitions,
        backfill_policy=single_run,
    )
    def suggestions(warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        with open_generation(warehouse.building) as con:
            counts = build_suggestions(warehouse.settings, con)
            for written in suggestion_tables:
                yield _result(con, written, counts)

    everything = [
        *(t.full_name for t in RAW_TABLES),
        *(one.name for one in MODELLED),
        *(t.full_name for t in MART_TABLES),
    ]

    @dg.multi_asset(
        name="publish",
        specs=[_spec(table("meta.publication"), tuple(dict.fromkeys(everything)))],
        partitions_def=partitions,
        backfill_policy=single_run,
    )
    def publication(warehouse: WarehouseRun) -> Iterator[dg.MaterializeResult]:
        published = publish(warehouse.settings, warehouse.building, datetime.now(UTC))
        yield dg.MaterializeResult(
            asset_key=dg.AssetKey(["meta", "publication"]),
            metadata={"generation": published.generation, "rows": sum(published.row_counts.values())},
        )

    return [load_raw, *map(modelled, MODELLED), forecast, suggestions, publication]


def _reads(modelled: Modelled) -> tuple[str, ...]:
    """The tables that the query of a modelled table names: the graph is what the SQL says."""
    sql = modelled.query(AsOf(date(2000, 1, 1), "UTC"))
    return tuple(sorted(set(re.findall(r"\b(?:raw|core|mart)\.\w+", sql))))


def _spec(built: Table, reads: Sequence[str] = ()) -> dg.AssetSpec:
    return dg.AssetSpec(
        dg.AssetKey([built.schema, built.name]),
        deps=[dg.AssetKey(read.split(".")) for read in reads],
        description=built.grain,
        group_name=built.schema,
        kinds={"duckdb"},
    )


def _checks(tables: Sequence[Table]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            "contract",
            asset=dg.AssetKey([checked.schema, checked.name]),
            blocking=True,
            description="No row breaks a promise of docs/warehouse.md.",
        )
        for checked in tables
    ]


def _result(con: duckdb.DuckDBPyConnection, written: Table, metadata: dict[str, int | bool]) -> dg.MaterializeResult:
    broken = [str(violation) for violation in find_violations(con, [written])]
    key = dg.AssetKey([written.schema, written.name])
    check = dg.AssetCheckResult(passed=not broken, check_name="contract", asset_key=key, metadata={"broken": broken})
    return dg.MaterializeResult(asset_key=key, metadata=metadata, check_results=[check])
