"""`dinghuo notices …`: send what is due, look at what was given up, try it again."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.context import Context, Csv, both, command, group

if TYPE_CHECKING:
    from orders_core.ports import Clock, Sender
    from orders_core.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    notices = group("Mail to customers and clerks.", "给客户和同事的通知。")
    app.add_typer(notices, name="notices")
    command(notices, "deliver", "Send what is due.", "发送到期的通知。")(deliver)
    command(notices, "dead", "What was given up and waits for a person.", "列出发送失败、待人工处理的通知。")(dead)
    command(notices, "retry", "Try given-up notices again.", "重试发送失败的通知。")(retry)
    command(notices, "drop", "Never send given-up notices.", "放弃发送失败的通知。")(drop)


def _mail_sender(settings: Settings, clock: Clock) -> Sender:
    from orders_core.notifications.senders import FileSender, SmtpSender, SmtpServer

    if settings.mail_sender == "file":
        return FileSender(settings.outbox_dir, sender=settings.mail_from, clock=clock)
    server = SmtpServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_user or None,
        settings.smtp_password.get_secret_value() or None,
    )
    return SmtpSender(server, sender=settings.mail_from, clock=clock)


def deliver(
    out: Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help=both("messages at most", "最多封数"))] = 500,
    every: Annotated[
        int | None,
        typer.Option(
            "--every", min=1, help=both("go on until stopped, every so many seconds", "每隔若干秒持续发送,直到停止")
        ),
    ] = None,
) -> None:
    """Send what is due: into files, or by the SMTP server of the settings."""
    from orders_core.notifications.delivery import deliver_due

    with out.store() as store:
        senders = {"mail": _mail_sender(out.settings, store.clock)}
        worker = f"{socket.gethostname()}-{os.getpid()}"
        report = deliver_due(store, senders, limit=limit, worker=worker)
        while every is not None:
            time.sleep(every)
            report = deliver_due(store, senders, limit=limit, worker=worker)
    out.emit(
        report,
        out.text(
            f"{report.sent_count} sent, {report.retry_count} to be tried again, {report.dead_count} given up",
            f"已发送 {report.sent_count}，待重试 {report.retry_count}，放弃 {report.dead_count}",
        ),
    )
    if report.sent_count and out.settings.mail_sender == "file":
        out.say(f"as files in {out.settings.outbox_dir}", f"邮件文件在 {out.settings.outbox_dir}")


def dead(out: Context, as_csv: Csv = False) -> None:
    """Oldest first."""
    from orders_core.notifications.delivery import dead_letters

    with out.store() as store, store.reading() as conn:
        letters = dead_letters(conn)
    out.emit_rows(
        {
            "id": ("id", "编号"),
            "template": ("notice", "通知"),
            "recipient": ("to", "收件人"),
            "attempts": ("tries", "次数"),
            "last_error": ("last error", "最后错误"),
            "created_at": ("since (UTC)", "时间（UTC）"),
        },
        [dict(vars(letter)) for letter in letters],
        as_csv=as_csv,
    )
    out.say(f"{len(letters)} given up", f"{len(letters)} 条待处理")


Ids = Annotated[list[int], typer.Argument(metavar="ID", help=both("from 'notices dead'", "见 notices dead"))]


def retry(out: Context, ids: Ids) -> None:
    """They go out with the next 'notices deliver'."""
    from orders_core.notifications.delivery import retry as again

    _decide(out, again, ids)


def drop(out: Context, ids: Ids) -> None:
    """They are never sent."""
    from orders_core.notifications.delivery import give_up

    _decide(out, give_up, ids)


def _decide(out: Context, service: Any, ids: list[int]) -> None:
    """All of them or none: these are few."""

    def decide_all(uow: Any, actor: Any, _: None) -> None:
        for each in ids:
            service(uow, actor, each)

    with out.store() as store:
        out.run(store, decide_all, None)
    out.emit({"ids": ids}, "\n".join(map(str, ids)))
