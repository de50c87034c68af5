"""What Dagster loads: `dagster dev -m pipelines.definitions`, or `dg dev`.

The order database, the warehouse folder and the business zone come from the environment, as everywhere:
DINGHUO_DATABASE_URL, DINGHUO_WAREHOUSE_DIR, DINGHUO_BUSINESS_ZONE.
"""

import os
from pathlib import Path

import dagster as dg

from pipelines.defs.daily import WarehouseRun, daily_assets

FIRST_DAY = "2009-01-01"


def build_definitions(*, database_url: str, warehouse_dir: Path, zone: str) -> dg.Definitions:
    """Assets, the job `daily`, and its schedule (off until someone switches it on), for one business."""
    partitions = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, timezone=zone)
    daily = dg.define_asset_job(
        "daily",
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        description="Load the changes, model, forecast, suggest, check, publish: the warehouse of one business day.",
    )
    return dg.Definitions(
        assets=daily_assets(partitions),
        jobs=[daily],
        schedules=[dg.build_schedule_from_partitioned_job(daily, hour_of_day=2, minute_of_hour=30)],
        resources={
            "warehouse": WarehouseRun(database_url=database_url, warehouse_dir=str(warehouse_dir.absolute()), zone=zone)
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions for the environment Dagster was started in."""
    return build_definitions(
        database_url=os.environ.get("DINGHUO_DATABASE_URL", "sqlite:///orders.db"),
        warehouse_dir=Path(os.environ.get("DINGHUO_WAREHOUSE_DIR", "warehouse")),
        zone=os.environ.get("DINGHUO_BUSINESS_ZONE", "Asia/Shanghai"),
    )
