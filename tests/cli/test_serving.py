"""The demo company and the desk, from one command to the last process gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import PROGRAM, Cli, environment


def test_the_demo_is_built_learned_from_and_kept(cli: Cli) -> None:
    built = cli("demo", "--no-serve", "--days", "40", "--json")
    assert built.code == 0, built.err
    folder = Path(built.data["folder"])
    assert folder == Path("demo").absolute()
    assert cli("verify", "-C", "demo", "--json").data["violations"] == []
    orders = cli("orders", "list", "--view", "all", "-C", "demo", "--json").data["total"]
    assert orders > 100
    assert cli("plan", "show", "-C", "demo", "--json").data["total"] > 0
    before = (folder / "orders.db").stat().st_ino
    assert cli("demo", "--no-serve").code == 0
    assert (folder / "orders.db").stat().st_ino == before  # what somebody tried out in it is not thrown away


def test_only_a_demo_is_ever_rebuilt(cli: Cli) -> None:
    cli("init", "-C", "shop")
    before = Path("shop/orders.db").read_bytes()
    said = cli("demo", "--rebuild", "--no-serve", "-C", "shop")
    assert (said.code, "not made by dinghuo demo" in said.err) == (2, True)
    assert Path("shop/orders.db").read_bytes() == before


def test_a_demo_is_not_built_over_a_business(cli: Cli) -> None:
    cli("init", "-C", "shop")
    said = cli("demo", "--no-serve", "-C", "shop")
    assert (said.code, "not made by dinghuo demo" in said.err) == (2, True)


def test_a_port_that_is_taken_is_refused_by_name(cli: Cli) -> None:
    cli("init")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = cli("serve", "--port", str(port))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"E_ARG --port: {port} can't be used")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_desk_answers_and_leaves_no_process_behind(
    dinghuo: Cli, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    dinghuo("init")
    child = subprocess.Popen(
        [*PROGRAM, "serve"], cwd=tmp_path / "there", env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        url = child.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as page:
            assert page.status == 200
        desk = psutil.Process(child.pid).children(recursive=True)
        assert desk
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == code
    assert b"Traceback" not in err
    deadline = time.monotonic() + 10
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in desk):
        assert time.monotonic() < deadline, "the desk outlived the command"
        time.sleep(0.1)


def test_a_desk_that_falls_over_is_said(dinghuo: Cli, tmp_path: Path) -> None:
    dinghuo("init")
    child = subprocess.Popen(
        [*PROGRAM, "serve"], cwd=tmp_path / "there", env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline().startswith(b"http")
    for process in psutil.Process(child.pid).children():
        os.kill(process.pid, signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, b"E_SERVE" in err) == (1, True)
