"""The browser fixtures show what a user would see, and an app that is stopped is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.support.browser import CHROMIUM_VARIABLE, chromium_path, running_app, settled, stop_group

_APP = """
import streamlit as st

if st.button("审核通过"):
    st.session_state.approved_count = st.session_state.get("approved_count", 0) + 1
st.write(f"已审核 {st.session_state.get('approved_count', 0)} 单")
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("app")
    script = folder / "app.py"
    script.write_text(_APP, encoding="utf-8")
    with running_app(script, log_folder=folder) as running:
        yield running


def test_a_click_in_a_streamlit_app_is_seen_when_the_page_has_settled(app, page: Page) -> None:
    app.visit(page)
    assert settled(page).get_by_text("已审核 0 单").is_visible()
    page.get_by_role("button", name="审核通过").click()
    page.get_by_text("已审核 1 单").wait_for()
    assert page.evaluate("[innerWidth, innerHeight, navigator.language]") == [1280, 800, "zh-CN"]


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_a_phone_is_narrow_and_speaks_the_language_asked_for(app, phone: Page, locale: str) -> None:
    app.visit(phone)
    assert phone.evaluate("[innerWidth, innerHeight, navigator.language]") == [390, 844, locale]
    assert phone.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone") == "Asia/Shanghai"


def test_an_app_that_crashes_at_start_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with \d.*does not exist"):  # noqa: SIM117
        with running_app(tmp_path / "missing.py", log_folder=tmp_path):
            pass


def test_stopping_a_group_ends_children_that_ignore_being_asked(tmp_path: Path) -> None:
    child = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    stop_group(process, patience_seconds=2)
    assert process.stdout.read() == b"", "the pipe only ends when the last process holding it is gone"


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_fails_under_ci_and_skips_elsewhere(
    monkeypatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv(CHROMIUM_VARIABLE, "/nowhere/chromium")
    with pytest.raises(outcome, match="no browser: /nowhere/chromium"):
        chromium_path()
