"""A real Chromium, driven by Playwright, and Streamlit apps running as processes of their own.

`page` is a desktop window (1280 × 800), `phone` a telephone (390 × 844), both speaking zh-CN; a test in English says
`@pytest.mark.parametrize("locale", ["en-US"])`. Tests that use them are marked `browser`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, sync_playwright

CHROMIUM_VARIABLE = "DINGHUO_CHROMIUM"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}

_PROJECT = Path(__file__).parents[2]


def chromium_path() -> str:
    """The Chromium to drive: `DINGHUO_CHROMIUM`, or Debian's. Skips the test where there is none, fails it under CI."""
    path = os.environ.get(CHROMIUM_VARIABLE, "/usr/bin/chromium")
    if shutil.which(path) is None:
        message = f"no browser: {path} is not there; install Chromium or name one with {CHROMIUM_VARIABLE}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


# One browser per test file, not per run: while Playwright's driver is alive, asyncio.run() fails in other tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = chromium_path()
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, which is what containers are; every page here is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def locale() -> str:
    """The browser's language."""
    return "zh-CN"


@pytest.fixture
def page(browser: Browser, locale: str) -> Iterator[Page]:
    """A page of a desktop browser with no cookies of other tests."""
    with _window(browser, locale, DESKTOP) as page:
        yield page


@pytest.fixture
def phone(browser: Browser, locale: str) -> Iterator[Page]:
    """A page of a telephone's browser with no cookies of other tests."""
    with _window(browser, locale, PHONE, is_phone=True) as page:
        yield page


@contextmanager
def _window(browser: Browser, locale: str, size: ViewportSize, *, is_phone: bool = False) -> Iterator[Page]:
    context = browser.new_context(
        viewport=size, locale=locale, timezone_id="Asia/Shanghai", is_mobile=is_phone, has_touch=is_phone
    )
    context.set_default_timeout(30_000)  # the machine is shared by two test workers and the app itself
    yield context.new_page()
    context.close()


@dataclass(frozen=True)
class RunningApp:
    """A Streamlit app that answers at `url`; what it prints goes to `log`."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def visit(self, page: Page, path: str = "") -> None:
        """Open a page of the app and wait until its script has run to the end."""
        page.goto(f"{self.url}/{path}")
        settled(page)


def settled(page: Page) -> Locator:
    """Wait until the app's script has run to its end; gives the app's element, to look things up in."""
    app = page.locator('[data-testid=stApp][data-test-script-state="notRunning"]')
    app.wait_for()
    return app


@contextmanager
def running_app(
    script: Path, *, log_folder: Path, environment: Mapping[str, str] | None = None, start_seconds: float = 60
) -> Iterator[RunningApp]:
    """Run a Streamlit script on a free port of localhost, in a process group of its own, which is stopped in the end.

    Args:
        script: The file `streamlit run` gets.
        log_folder: Where `streamlit.log` is written.
        environment: Variables added to this process's own.
        start_seconds: How long the app may take until it answers.

    Raises:
        RuntimeError: The app ended or did not answer in time; the message holds the end of its log.
    """
    port = free_port()
    log = log_folder / "streamlit.log"
    command = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--server.headless=true", "--browser.gatherUsageStats=false"]
    command += ["--server.fileWatcherType=none"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=_PROJECT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        app = RunningApp(f"http://127.0.0.1:{port}", log, process)
        _wait_until_healthy(app, start_seconds)
        yield app
    finally:
        stop_group(process)


def _wait_until_healthy(app: RunningApp, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and app.process.poll() is None:
        if _answers(f"{app.url}/_stcore/health"):
            return
        time.sleep(0.05)
    end_of_log = app.log.read_text(encoding="utf-8", errors="replace")[-2000:]
    state = "did not answer" if app.process.returncode is None else f"ended with {app.process.returncode}"
    raise RuntimeError(f"the app {state} within {seconds:g} s; its log ends:\n{end_of_log}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False  # not listening yet


def stop_group(process: subprocess.Popen[bytes], *, patience_seconds: float = 10) -> None:
    """End a process started with `start_new_session=True` and all its children: asked first, then killed."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def free_port() -> int:
    """A TCP port of localhost nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
