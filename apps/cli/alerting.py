"""Telling people when `dinghuo run …` fails, where DINGHUO_ALERT_URLS says whom; the run's result is never changed by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apps.cli.context import LOCKED, USAGE, Context
from apps.cli.stopping import is_a_stop
from orders_core.errors import OrdersError

if TYPE_CHECKING:
    from pipelines.alerts import Alerts


@contextmanager
def told(out: Context, job: str, *, run_id: str) -> Iterator[None]:
    """Tell of a failure inside the block, and of the recovery when it ends well. The failure goes on its way.

    Neither wrong usage, nor a lock that another run holds, nor being asked to stop is an incident.

    Raises:
        WrongAlertAddress: DINGHUO_ALERT_URLS can't be understood; said before anything runs.
    """
    alerts = alerts_of(out)
    if alerts is None:
        yield
        return
    try:
        yield
    except Exception as error:
        if not is_a_stop(error):
            _tell(out, alerts, job, run_id, error)
        raise
    _say_all(out, alerts.recovered(job))


def alerts_of(out: Context) -> Alerts | None:
    """Who is to be told, as the settings say; None when nobody is."""
    settings = out.settings
    setting = settings.alert_urls.get_secret_value()
    if not setting.strip():
        return None
    from orders_core.ports import SystemClock
    from pipelines.alerts import Alerts, MailServer, addresses

    mail_server = None
    if settings.smtp_host:
        mail_server = MailServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value(),
            sender=settings.mail_from,
        )
    return Alerts(
        addresses(setting, mail_server=mail_server),
        warehouse_dir=settings.warehouse_dir,
        zone=settings.business_zone,
        language=settings.language,
        mail_server=mail_server,
        now=SystemClock().now,
    )


def _tell(out: Context, alerts: Alerts, job: str, run_id: str, error: Exception) -> None:
    from apps.cli.main import exit_code_of  # here: main imports the commands
    from orders_core.ports import SystemClock
    from pipelines.alerts import Failure
    from pipelines.warehouse.errors import WarehouseError

    if isinstance(error, WarehouseError):
        exit_code, code, en, zh = error.exit_code, error.code, error.message("en"), error.message("zh")
    elif isinstance(error, OrdersError):
        exit_code, code, en, zh = exit_code_of(error), error.code, error.text("en"), error.text("zh")
    else:
        exit_code, code = 1, type(error).__name__
        en = zh = (str(error).strip() or code).splitlines()[0]
    if exit_code not in (USAGE, LOCKED):
        failure = Failure(job=job, code=code, en=en, zh=zh, at=SystemClock().now(), run_id=run_id)
        _say_all(out, alerts.failed(failure))


def _say_all(out: Context, problems: list[str]) -> None:
    for problem in problems:
        out.warn(problem, problem)
