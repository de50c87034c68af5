"""Where Dagster keeps its own runs and logs: a folder of ours, with telemetry off, one writer, and runs that can't hang.

DAGSTER_HOME=$(python -m pipelines.defs.home dagster-home) dagster dev -m pipelines.definitions
"""

import sys
from pathlib import Path

SETTINGS = """\
# Nothing about this business is sent anywhere.
telemetry:
  enabled: false
nux:
  enabled: false

# One run writes to the warehouse at a time; the others wait in the queue.
concurrency:
  pools:
    granularity: run
    default_limit: 1
run_coordinator:
  module: dagster._core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 2

# A run whose process died is ended within two minutes, one that hangs after four hours. Nothing is run again by itself:
# a step asks for that where it may help (pipelines/defs/trouble.py), and bad data stay bad.
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 180
  max_runtime_seconds: 14400
  max_resume_run_attempts: 0
  poll_interval_seconds: 60
run_retries:
  enabled: false

# Stale tables are said in the asset graph.
freshness:
  enabled: true

# Ticks that found nothing are forgotten after a week.
retention:
  sensor:
    purge_after_days:
      skipped: 7
      success: 30
"""


def dagster_home(folder: Path) -> Path:
    """`folder` made ready to be DAGSTER_HOME, as Dagster wants it: absolute and there. Settings that are there stay."""
    home = folder.absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(SETTINGS, encoding="utf-8")
    return home


if __name__ == "__main__":
    sys.stdout.write(f"{dagster_home(Path(sys.argv[1]))}\n")
