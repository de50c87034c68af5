"""What Dagster loads: `dagster dev -m pipelines.definitions`, or `dg dev`.

The order database, the warehouse folder, the business zone and who is told of a failure come from the environment, as
everywhere: DINGHUO_DATABASE_URL, DINGHUO_WAREHOUSE_DIR, DINGHUO_BUSINESS_ZONE, DINGHUO_ALERT_URLS, DINGHUO_LANGUAGE,
DINGHUO_SMTP_… for mail, and DINGHUO_FIRST_DAY, the first day that can be built (2009-01-01 unless it is set).
"""

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg

from pipelines.alerts import Alerts, MailServer, addresses
from pipelines.defs.daily import WarehouseRun, daily_assets
from pipelines.defs.refresh import change_log_sensor, refresh_job
from pipelines.defs.telling import alert_sensors

FIRST_DAY = date(2009, 1, 1)


def build_definitions(
    *, database_url: str, warehouse_dir: Path, zone: str, first_day: date = FIRST_DAY, alerts: Alerts | None = None
) -> dg.Definitions:
    """For one business: the assets, the job `daily` with its schedule, the job `refresh` with its sensor, and who is told.

    Schedule and sensor are off until someone switches them on.
    """
    warehouse_dir = warehouse_dir.absolute()
    partitions = dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone=zone)
    daily = dg.define_asset_job(
        "daily",
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        description="Load the changes, model, forecast, suggest, check, publish: the warehouse of one business day.",
    )
    refresh = refresh_job(database_url=database_url, warehouse_dir=warehouse_dir, zone=zone)
    return dg.Definitions(
        assets=daily_assets(partitions),
        jobs=[daily, refresh],
        schedules=[dg.build_schedule_from_partitioned_job(daily, hour_of_day=2, minute_of_hour=30)],
        sensors=[
            change_log_sensor(refresh, database_url=database_url, warehouse_dir=warehouse_dir, zone=zone),
            *(alert_sensors(alerts) if alerts is not None else []),
        ],
        resources={"warehouse": WarehouseRun(database_url=database_url, warehouse_dir=str(warehouse_dir), zone=zone)},
        executor=dg.in_process_executor,
    )


def alerts_from(environment: Mapping[str, str]) -> Alerts | None:
    """Who is told of a failure, as the environment says; None when nobody is.

    Raises:
        WrongAlertAddress: DINGHUO_ALERT_URLS holds something that is no address.
    """
    setting = environment.get("DINGHUO_ALERT_URLS", "")
    if not setting.strip():
        return None
    mail_server = None
    if environment.get("DINGHUO_SMTP_HOST"):
        mail_server = MailServer(
            host=environment["DINGHUO_SMTP_HOST"],
            port=int(environment.get("DINGHUO_SMTP_PORT", "587")),
            security=environment.get("DINGHUO_SMTP_SECURITY", "starttls"),
            user=environment.get("DINGHUO_SMTP_USER", ""),
            password=environment.get("DINGHUO_SMTP_PASSWORD", ""),
            sender=environment.get("DINGHUO_MAIL_FROM", "orders@localhost"),
        )
    return Alerts(
        addresses(setting, mail_server=mail_server),
        warehouse_dir=Path(environment.get("DINGHUO_WAREHOUSE_DIR", "warehouse")).absolute(),
        zone=environment.get("DINGHUO_BUSINESS_ZONE", "Asia/Shanghai"),
        language=environment.get("DINGHUO_LANGUAGE", "zh"),
        mail_server=mail_server,
        now=lambda: datetime.now(UTC),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions for the environment Dagster was started in."""
    return build_definitions(
        database_url=os.environ.get("DINGHUO_DATABASE_URL", "sqlite:///orders.db"),
        warehouse_dir=Path(os.environ.get("DINGHUO_WAREHOUSE_DIR", "warehouse")),
        zone=os.environ.get("DINGHUO_BUSINESS_ZONE", "Asia/Shanghai"),
        first_day=date.fromisoformat(os.environ.get("DINGHUO_FIRST_DAY", FIRST_DAY.isoformat())),
        alerts=alerts_from(os.environ),
    )
