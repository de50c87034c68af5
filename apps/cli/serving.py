"""`dinghuo serve` and `dinghuo demo`: the desk in the browser, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.context import Context, WrongArgument, both, command
from orders_core.errors import OrdersError

if TYPE_CHECKING:
    from orders_core.settings import Settings

PROJECT = Path(__file__).parents[2]  # where the desk's theme lies (.streamlit)
DESK = PROJECT / "apps" / "desk" / "main.py"
HOST = "127.0.0.1"  # the desk has no login: nobody else's machine reaches it
PORT = 8501
START_SECONDS = 60
MAIL_SECONDS = 20
DEMO_MARK = "DEMO"  # a file in the demo's folder: only such a folder is ever rebuilt

Port = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help=both("default: 8501, or a free one", "默认 8501 或空闲端口")),
]


class DeskFailed(OrdersError):
    """The desk did not come up."""

    code = "E_SERVE"
    en = "the desk did not start: {reason}"
    zh = "工作台没有启动：{reason}"


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    command(app, "serve", "Open the desk on this machine.", "在本机打开工作台。")(serve)
    command(
        app,
        "demo",
        "A company to try things with: build it, run the daily job, open the desk.",
        "演示公司：建立数据、运行每日任务、打开工作台。",
    )(demo)


def serve(out: Context, port: Port = None) -> None:
    """Run the desk until Ctrl-C; the address goes to stdout once it answers."""
    with out.store():
        pass  # refused here, in words, rather than on a page
    _serve(out, out.settings, port)


def demo(
    out: Context,
    port: Port = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help=both("only build it", "只建立数据，不打开"))] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help=both("throw it away and build it anew", "清除后重新建立"))
    ] = False,
    days: Annotated[
        int | None,
        typer.Option("--days", min=30, max=2000, help=both("of history (default: two years)", "历史天数（默认两年）")),
    ] = None,
) -> None:
    """Build ./demo (or the folder of -C) unless it is there, learn from it, and open the desk."""
    from apps.cli.daily import run_and_show
    from apps.demo.run import DAYS, build_demo
    from orders_core.ports import SystemClock
    from pipelines.warehouse.publish import live_generation

    folder = (out.folder or Path("demo")).absolute()
    settings = out.settings.model_copy(
        update={
            "database_url": f"sqlite:///{folder / 'orders.db'}",
            "warehouse_dir": folder / "warehouse",
            "outbox_dir": folder / "outbox",
            "business_zone": "Asia/Shanghai",
        }
    )
    out.use(settings)
    if (folder / "orders.db").exists() and not (folder / DEMO_MARK).exists():
        raise WrongArgument(
            flag="--folder",
            problem=f"{folder} holds a business that was not made by dinghuo demo; nothing was touched",
            problem_zh=f"{folder} 中的数据不是 dinghuo demo 建立的，未做任何改动",
        )
    if rebuild:
        _throw_away(folder)
    clock = SystemClock()
    last_day = clock.now().astimezone(settings.zone).date() - timedelta(days=1)
    if not (folder / "orders.db").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DEMO_MARK).write_text("made by dinghuo demo; dinghuo demo --rebuild replaces it\n", encoding="utf-8")
        out.say(f"building the demo company in {folder}", f"正在 {folder} 建立演示公司")
        with out.progress() as progress:
            built = build_demo(
                folder, last_day=last_day, days=days or DAYS, tell=progress or (lambda doing, done, total: None)
            )
        out.say(f"{built.orders:,} orders", f"{built.orders:,} 张订单")
    if live_generation(settings.warehouse_dir) is None:
        out.say("running the daily job", "正在运行每日任务")
        report = run_and_show(out, last_day, full=False, now=clock.now)
        out.say(
            f"{report.counts['suggestions_to_buy']:,} suggestions to buy",
            f"{report.counts['suggestions_to_buy']:,} 条采购建议",
        )
    out.say(
        f"look around: dinghuo orders list -C {_short(folder)}, dinghuo plan show -C {_short(folder)}",
        f"试试：dinghuo orders list -C {_short(folder)}、dinghuo plan show -C {_short(folder)}",
    )
    if no_serve:
        out.emit({"folder": folder, "database_url": settings.database_url}, str(folder))
    else:
        _serve(out, settings, port)


def _short(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _throw_away(folder: Path) -> None:
    """Remove the demo's own files, and nothing else that lies there."""
    for path in [*folder.glob("orders.db*"), *folder.glob("warehouse*"), folder / "outbox"]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _serve(out: Context, settings: Settings, port: int | None) -> None:
    """Start Streamlit in a process group of its own, say the address, and take the group down again at the end."""
    if not DESK.exists():
        raise DeskFailed(reason=f"{DESK} is missing")
    port = _port(port)
    url = f"http://{HOST}:{port}"
    options = {
        "server.address": HOST,
        "server.port": port,
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    arguments = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(DESK),
        *(f"--{key}={value}" for key, value in options.items()),
    ]
    quiet = None if out.verbosity > 0 else subprocess.DEVNULL
    environment = {**os.environ, **_as_environment(settings)}
    # Each its own group: Ctrl-C in the terminal reaches us alone, and we end both groups in order.
    child = subprocess.Popen(
        arguments, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL,
        stdout=sys.stderr if quiet is None else quiet, stderr=None, start_new_session=True,
    )  # fmt: skip
    # Confirmations go out by themselves, and a clerk hears of an order within a minute.
    mail = subprocess.Popen(
        [sys.executable, "-m", "apps.cli", "notices", "deliver", "--every", str(MAIL_SECONDS), "-q"],
        cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_until_it_answers(child, url)
        out.emit({"url": url, "pid": child.pid}, url)
        out.say("the desk is open; Ctrl-C ends it", "工作台已打开；按 Ctrl-C 结束")
        code = child.wait()
        raise DeskFailed(reason=f"exit code {code}")
    finally:
        _end(mail)
        _end(child)


def _port(asked: int | None) -> int:
    """The port asked for, or the usual one, or any free one."""
    for candidate in (asked,) if asked is not None else (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError as error:
                if asked is not None:
                    raise WrongArgument(
                        flag="--port",
                        problem=f"{asked} can't be used: {error.strerror}",
                        problem_zh=f"{asked} 不可用：{error.strerror}",
                    ) from None
                continue
            return int(probe.getsockname()[1])
    raise DeskFailed(reason="no port is free")


def _as_environment(settings: Settings) -> dict[str, str]:
    """What the desk's process needs to work on the same business; it runs in the project's folder."""
    from sqlalchemy.engine import make_url

    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).absolute()))
    return {
        "DINGHUO_DATABASE_URL": url.render_as_string(hide_password=False),
        "DINGHUO_WAREHOUSE_DIR": str(settings.warehouse_dir.absolute()),
        "DINGHUO_OUTBOX_DIR": str(settings.outbox_dir.absolute()),
        "DINGHUO_BUSINESS_ZONE": settings.business_zone,
    }


def _wait_until_it_answers(child: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise DeskFailed(reason=f"exit code {child.returncode}")
        with suppress(OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:  # not up yet
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise DeskFailed(reason=f"no answer at {url} within {START_SECONDS} s")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the whole group, kindly first."""
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            return
