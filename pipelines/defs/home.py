"""Where Dagster keeps its own runs and logs: a folder of ours, with telemetry off."""

from pathlib import Path

SETTINGS = """\
# Nothing about this business is sent anywhere.
telemetry:
  enabled: false
"""


def dagster_home(folder: Path) -> Path:
    """`folder` made ready to be DAGSTER_HOME, as Dagster wants it: absolute and there. Settings that are there stay."""
    home = folder.absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(SETTINGS, encoding="utf-8")
    return home
