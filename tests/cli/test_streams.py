"""The program as a shell sees it: streams, signals, terminals, questions. Real processes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert
from sqlalchemy import select as query

from orders_core.ports import SystemClock
from orders_core.store.tables import Order, RunLock
from orders_core.store.uow import Store
from tests.cli.conftest import PROGRAM, Cli, environment
from tests.support import build

HEAVY = ("polars", "pandas", "dagster", "statsforecast", "streamlit", "duckdb", "sqlalchemy", "pyarrow", "rich")


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    code = (
        "import resource, sys\nfrom apps.cli.main import run\nassert run(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
        "print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded, seconds = done.stderr.splitlines()
    assert loaded == "[]"
    assert float(seconds) < 0.5  # of processor time: how long it takes on a machine that does nothing else
    assert "orders" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["orders", "list", "--nope"],
        ["nope"],
        ["orders"],
        ["orders", "show"],
        ["orders", "list", "--limit", "many"],
        ["orders", "place", "LAMP:1", "--customer", "ACME"],
        ["run", "daily", "--as-of", "2024-13-01"],
        ["run", "daily", "--as-of", "20240131"],
    ],
)
def test_wrong_usage_exits_2_with_words_on_stderr_only(dinghuo: Cli, words: list[str]) -> None:
    said = dinghuo(*words)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err
    assert said.err.startswith(("Usage: ", "E_ARG "))
    flag = [word for word in words if word.startswith("--")]
    assert not flag or any(f in said.err for f in (*flag, "--channel"))


def test_usage_is_explained_in_chinese_too(dinghuo: Cli) -> None:
    said = dinghuo("orders", "list", "--nope", env={"LANG": "zh_CN.UTF-8"})
    assert "没有选项 --nope" in said.err
    assert "用法：" in dinghuo("orders", "--help", "--lang", "zh").out
    assert "下单" in dinghuo("--lang", "zh", "orders", "--help").out
    assert "--as-of：2024-13-01 不是有效日期" in dinghuo("run", "daily", "--as-of", "2024-13-01", "--lang=zh").err


def test_data_go_to_stdout_and_words_to_stderr(dinghuo: Cli) -> None:
    made = dinghuo("init")
    assert (made.code, made.out) == (0, "orders.db\n")
    assert made.err.startswith("ready.")
    assert dinghuo("orders", "list", "-q").err == ""
    assert dinghuo("--version").out.startswith("dinghuo ")


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "latin-1"])
def test_no_terminal_is_too_poor_for_our_words(dinghuo: Cli, encoding: str) -> None:
    env = {"PYTHONIOENCODING": encoding, "DINGHUO_LANGUAGE": "zh"}
    dinghuo("init", env=env)
    dinghuo("setup", "location", "WH1", "--name", "主仓 ☃", env=env)
    for words in (["--help"], ["orders", "list"], ["doctor"], ["orders", "show", "订单☃"], ["nope☃"]):
        assert "Traceback" not in dinghuo(*words, env=env).err
    listed = dinghuo("quarantine", "list", "--json", env=env)
    assert listed.data == {"total": 0, "rows": []}
    failed = dinghuo("orders", "show", "订单☃", "--json", env=env)
    assert failed.code == 1
    assert ("未找到" if encoding == "gbk" else "\\u672a\\u627e\\u5230") in failed.err


def test_chinese_names_stay_json_on_an_ascii_terminal(store: Store, dinghuo: Cli) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 20")
    env = {"DINGHUO_DATABASE_URL": store.url, "PYTHONIOENCODING": "ascii"}
    assert dinghuo("stock", "show", "--json", env=env).data[0]["name"] == "LAMP(中)"


def test_nobody_reading_any_more_is_no_error(store: Store) -> None:
    build.company(store)
    for number in range(40):
        build.stock(store, f"SKU-{number:03}-{'X' * 40}@WH1: 1")
    env = environment(DINGHUO_DATABASE_URL=store.url)
    child = subprocess.Popen(
        [*PROGRAM, "stock", "show", "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()  # like `| head -0`
    assert child.stderr.read() == b""
    assert child.wait(60) == 141


def old_invoices(folder: Path, *, invoices: int) -> Path:
    path = folder / "old.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("Invoice,StockCode,Description,Quantity,InvoiceDate,Price,CustomerID,Country\n")
        for i in range(invoices):
            for line in range(4):
                file.write(
                    f"{500000 + i},{20000 + (i + line) % 500},THING,2,2010-01-04 10:00:00,1.25,{i % 300},France\n"
                )
    return path


@contextmanager
def importing(store: Store, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A history import that has begun to write."""
    words = ["orders", "import", str(path), "--mapping", "online-retail", "--quarantine", "--json"]
    env = environment(DINGHUO_DATABASE_URL=store.url)
    child = subprocess.Popen([*PROGRAM, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while orders_in(store) == 0:
            assert child.poll() is None, "the import ended before it could be stopped"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield child
    finally:
        child.kill()
        child.wait()


def orders_in(store: Store) -> int:
    with store.reading() as conn:
        return int(conn.scalar(query(func.count()).select_from(Order)) or 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_import_gives_its_lock_back_and_goes_on_next_time(
    store: Store, dinghuo: Cli, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    path = old_invoices(tmp_path, invoices=4000)
    env = {"DINGHUO_DATABASE_URL": store.url}
    with importing(store, path) as child:
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (code, b""), err.decode()
    assert b"Traceback" not in err
    done = orders_in(store)
    assert 0 < done < 4000
    with store.reading() as conn:
        assert conn.execute(query(RunLock.name)).all() == []
    again = dinghuo("orders", "import", str(path), "--mapping", "online-retail", "--quarantine", "--json", env=env)
    assert (again.code, again.data["read"], again.data["accepted"]) == (0, 16000, 16000 - 4 * done)
    assert orders_in(store) == 4000


def test_somebody_elses_import_is_named_with_exit_5(shop: Store, cli: Cli, tmp_path: Path) -> None:
    now = SystemClock().now()
    lock = {"name": "import orders", "holder": "ann (7)", "taken_at": now, "expires_at": now + timedelta(minutes=1)}
    with shop.unit_of_work() as uow:
        uow.conn.execute(insert(RunLock), lock)
    said = cli("orders", "import", str(old_invoices(tmp_path, invoices=1)), "--mapping", "online-retail")
    assert (said.code, said.out) == (5, "")
    assert said.err.startswith("E_LOCKED ann (7) has been importing this since")


@contextmanager
def at_a_terminal(*words: str, env: dict[str, str], answer: str) -> Iterator[tuple[int, str]]:
    """Run the program with a terminal on stdin and stderr; who sits there types `answer`."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([*PROGRAM, *words], env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer.encode())
    seen = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            part = os.read(ours, 10_000)
        except OSError:  # the other end is closed: the program has ended
            break
        seen += part
    yield child.wait(60), seen.decode(errors="replace")
    assert child.stdout is not None
    child.stdout.close()
    os.close(ours)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_a_person_at_a_terminal_is_asked_and_sees_a_bar(store: Store, tmp_path: Path, answer: str, code: int) -> None:
    build.company(store)
    build.stock(store, "LAMP@WH1: 20")
    path = tmp_path / "gbk.csv"
    path.write_bytes("订单号,SKU,数量,客户编码\nA-1,LAMP,2,ACME\n".encode("gb18030"))
    env = environment(DINGHUO_DATABASE_URL=store.url, TERM="xterm", COLUMNS="120")
    with at_a_terminal("orders", "import", str(path), env=env, answer=answer) as (exit_code, seen):
        assert exit_code == code
        assert "订单号" in seen  # the first rows, as they were read
        assert "encoding: gb18030. Is that right? [y/N]" in seen
        assert ("━" in seen and "placing" in seen) == (code == 0)
    assert orders_in(store) == (1 if code == 0 else 0)
