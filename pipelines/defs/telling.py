"""Dagster's part in telling people: a sensor for runs that failed and one for runs that went well (`pipelines.alerts`)."""

from datetime import UTC, datetime

import dagster as dg

from pipelines.alerts import Alerts, Failure
from pipelines.warehouse.errors import ChecksFailed, WarehouseLocked

JOBS = {"daily": "daily", "refresh": "refresh", "__ASSET_JOB": "daily"}
"""Dagster's name of a job and ours; what is started from the asset graph is the daily run."""


def alert_sensors(alerts: Alerts) -> list[dg.SensorDefinition]:
    """Both sensors, running as soon as the daemon does: who gave addresses wants to be told."""

    @dg.run_failure_sensor(
        name="tell_failure", minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING
    )
    def tell_failure(context: dg.RunFailureSensorContext) -> None:
        failure = failure_of(context)
        if failure.code != WarehouseLocked.code:  # another run at work is no incident
            for problem in alerts.failed(failure):
                context.log.warning(problem)

    @dg.run_status_sensor(
        dg.DagsterRunStatus.SUCCESS,
        name="tell_recovery",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def tell_recovery(context: dg.RunStatusSensorContext) -> None:
        for problem in alerts.recovered(JOBS.get(context.dagster_run.job_name, context.dagster_run.job_name)):
            context.log.warning(problem)

    return [tell_failure, tell_recovery]


def failure_of(context: dg.RunFailureSensorContext) -> Failure:
    """What made a run fail: the first step's error by its code, the checks it did not pass, or the run's own end."""
    run, instance = context.dagster_run, context.instance
    code, en, zh = "RUN_FAILED", context.failure_event.message or "the run ended", ""
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data is not None and "code" in data.user_failure_data.metadata:
            facts = data.user_failure_data.metadata
            code, en, zh = (str(facts[name].value) for name in ("code", "en", "zh"))
            break
        if data.error is not None:
            code, en = str(data.error.cls_name), data.error.message.strip().splitlines()[-1]
            if code == "DagsterAssetCheckFailedError":
                error = ChecksFailed(summary=_broken(instance, run.run_id), violations=[])
                code, en, zh = error.code, error.message("en"), error.message("zh")
            break
    return Failure(
        job=JOBS.get(run.job_name, run.job_name), code=code, en=en, zh=zh or en, at=datetime.now(UTC), run_id=run.run_id
    )


def _broken(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the failed checks of a run found."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = [record.event_log_entry.dagster_event.asset_check_evaluation_data for record in records]
    words = [str(word) for one in found if not one.passed for word in one.metadata["broken"].value]
    return "; ".join(words)
