"""Settings come from DINGHUO_ variables; what is unknown, wrong or missing is refused by name."""

from __future__ import annotations

import os
from zoneinfo import ZoneInfo

import pytest

from orders_core.errors import ConfigError
from orders_core.settings import MissingSetting, UnknownSetting, WrongSetting, from_env


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in os.environ:
        if key.startswith("DINGHUO_"):
            monkeypatch.delenv(key)


def test_nothing_set_is_a_working_installation() -> None:
    settings = from_env()
    assert settings.database_url == "sqlite:///orders.db"
    assert settings.zone == ZoneInfo("Asia/Shanghai")
    assert (settings.language, settings.mail_sender) == ("zh", "file")


def test_what_is_set_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGHUO_DATABASE_URL", "postgresql+psycopg://u:geheim@db/orders")
    monkeypatch.setenv("DINGHUO_BUSINESS_ZONE", "Europe/London")
    monkeypatch.setenv("DINGHUO_SMTP_PORT", "25")
    settings = from_env()
    assert settings.database_url == "postgresql+psycopg://u:geheim@db/orders"
    assert (settings.zone, settings.smtp_port) == (ZoneInfo("Europe/London"), 25)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("DINGHUO_DATABSE_URL", "DINGHUO_DATABASE_URL"),
        ("DINGHUO_SMTP_PASWORD", "DINGHUO_SMTP_PASSWORD"),
        ("DINGHUO_safty_stock", "DINGHUO_"),
        ("DINGHUO_", "DINGHUO_"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, key: str, nearest: str
) -> None:
    monkeypatch.setenv(key, "7")
    with pytest.raises(UnknownSetting) as refused:
        from_env()
    assert refused.value.code == "E_CONFIG"
    assert (refused.value.key, refused.value.nearest[: len(nearest)]) == (key, nearest)


def test_variables_of_tests_and_of_webhook_secrets_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("DINGHUO_TEST_RUN", "DINGHUO_CHROMIUM", "DINGHUO_SECRET_CARRIER"):
        monkeypatch.setenv(key, "x")
    from_env()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DINGHUO_SMTP_PORT", "twenty"),
        ("DINGHUO_SMTP_PORT", "-1"),
        ("DINGHUO_SMTP_PORT", "NaN"),
        ("DINGHUO_LANGUAGE", "de"),
        ("DINGHUO_BUSINESS_ZONE", "Asia/Peking"),
        ("DINGHUO_MAIL_SENDER", "pigeon"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(WrongSetting) as refused:
        from_env()
    for language in ("zh", "en"):
        assert key in refused.value.text(language)
        assert repr(value) in refused.value.text(language)
    assert refused.value.expected != refused.value.expected_zh


@pytest.mark.parametrize(
    "url", ["mysql://u:geheim@h/d", "u:geheim@h", "postgresql+psycopg2://u:geheim@h/d", "sqlite://"]
)
def test_a_wrong_database_url_is_refused_without_repeating_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DINGHUO_DATABASE_URL", url)
    with pytest.raises(ConfigError) as refused:
        from_env()
    assert "geheim" not in refused.value.text("zh") + refused.value.text("en")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"DINGHUO_MAIL_SENDER": "smtp"}, "DINGHUO_SMTP_HOST"),
        ({"DINGHUO_SMTP_USER": "u"}, "DINGHUO_SMTP_PASSWORD"),
        ({"DINGHUO_SMTP_PASSWORD": "geheim"}, "DINGHUO_SMTP_USER"),
    ],
)
def test_what_another_setting_needs_is_named(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(MissingSetting) as refused:
        from_env()
    assert refused.value.key == missing
    assert "geheim" not in str(refused.value)


def test_secrets_are_shown_as_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGHUO_DATABASE_URL", "postgresql+psycopg://u:geheim@db/orders")
    monkeypatch.setenv("DINGHUO_SMTP_USER", "u")
    monkeypatch.setenv("DINGHUO_SMTP_PASSWORD", "geheim")
    settings = from_env()
    assert "geheim" not in str(settings.masked()) + repr(settings) + str(settings)
    assert settings.masked()["database_url"] == "postgresql+psycopg://u:***@db/orders"
    assert settings.smtp_password.get_secret_value() == "geheim"
