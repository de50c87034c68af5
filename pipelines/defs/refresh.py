"""Near real time: a sensor on the change log, and the job it starts whenever an order moved."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg

from pipelines.changes import unseen_changes
from pipelines.daily import run_refresh
from pipelines.defs.daily import POOL, PUBLICATION, key_of
from pipelines.defs.trouble import named_errors
from pipelines.warehouse import read
from pipelines.warehouse.errors import SourceUnreadable, WarehouseMissing

EVERY_SECONDS = 15
AGAIN_AFTER_SECONDS = 300
"""The same changes are tried again so long after a run that did not bring them."""
WRITING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def refresh_job(*, database_url: str, warehouse_dir: Path, zone: str) -> dg.JobDefinition:
    """The job `refresh`: one step that does what `dinghuo run refresh` does.

    It belongs to no partition: it brings today, which is not over. The tables it moved are logged as materialised, with
    their check, which has passed: otherwise the run fails and publishes nothing.
    """

    @dg.op(pool=POOL, out=dg.Out(dg.Nothing))
    def refresh_tables(context: dg.OpExecutionContext) -> None:
        with named_errors(context, place=str(warehouse_dir)):
            report = run_refresh(
                database_url,
                warehouse_dir,
                as_of=_today(zone),
                zone=zone,
                run_id=context.run_id,
                now=lambda: datetime.now(UTC),
                progress=context.log.info,
            )
        for warning in report.warnings:
            context.log.warning(f"{warning['code']} {warning['en']}")
        changed = {step.name: step.rows for step in report.steps}
        for name, rows in report.row_counts.items():
            # Without a generation to go on from it was a daily run, which builds every table.
            if changed.get(name) or report.counts:
                key = key_of(name)
                metadata = {"dagster/row_count": rows, "rows_changed": changed.get(name, rows)}
                context.log_event(dg.AssetMaterialization(key, metadata=metadata))
                context.log_event(
                    dg.AssetCheckEvaluation(asset_key=key, check_name="contract", passed=True, metadata={})
                )
        context.log_event(
            dg.AssetMaterialization(
                PUBLICATION,
                metadata={
                    "generation": report.generation,
                    "as_of_date": str(report.as_of_date),
                    "changes_read": sum(report.changed_keys.values()),
                    "seconds": sum(step.seconds for step in report.steps),
                    "dagster/row_count": 1,
                },
            )
        )

    @dg.job(
        name="refresh",
        executor_def=dg.in_process_executor,
        description="Load what changed, model it, check what moved, publish; no forecast.",
    )
    def refresh() -> None:
        refresh_tables()

    return refresh


def change_log_sensor(
    job: dg.JobDefinition, *, database_url: str, warehouse_dir: Path, zone: str
) -> dg.SensorDefinition:
    """Starts `refresh` when the change log has what the live generation has not, or when a new day has begun.

    One run at a time. Its cursor remembers which changes it last started a run for, so that a run that fails is tried
    again after `AGAIN_AFTER_SECONDS` or with the next change, and not every tick.
    """

    @dg.sensor(
        name="change_log",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        description=f"A fresh order is in the warehouse within a minute: looks every {EVERY_SECONDS} s.",
    )
    def change_log(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        running = context.instance.get_runs(dg.RunsFilter(statuses=WRITING), limit=1)
        if running:
            return dg.SkipReason(f"run {running[0].run_id} of {running[0].job_name} is still writing")
        today = _today(zone).isoformat()
        try:
            unseen = unseen_changes(database_url, warehouse_dir)
            mark, waiting = (unseen.mark, unseen.changes) if unseen else ("", 0)
        except SourceUnreadable as error:  # the run will fail by this name, and people be told
            mark, waiting = error.code, None
        if not mark and _known_day(warehouse_dir) == today:
            return dg.SkipReason("the live generation has seen every change")
        last = json.loads(context.cursor) if context.cursor else {}
        now = datetime.now(UTC).timestamp()
        mark = f"{today} {mark}"
        if last.get("mark") == mark and now - last["at"] < AGAIN_AFTER_SECONDS:
            return dg.SkipReason("a run was started for these changes a moment ago")
        return dg.SensorResult(
            run_requests=[dg.RunRequest(tags={"dinghuo/changes": "all" if waiting is None else str(waiting)})],
            cursor=json.dumps({"mark": mark, "at": now}),
        )

    return change_log


def _today(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def _known_day(warehouse_dir: Path) -> str:
    try:
        return read.publication(warehouse_dir).as_of_date.isoformat()
    except WarehouseMissing:
        return ""
