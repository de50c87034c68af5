"""Settings, from environment variables with the prefix DINGHUO_. Read by entry points only, once, and passed down.

What the business decides (rules, prices, service targets) is not here: those are versioned rows, edited on screen.
"""

from __future__ import annotations

import os
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from orders_core.errors import ConfigError

PREFIX = "DINGHUO_"
NOT_SETTINGS = ("DINGHUO_TEST_", "DINGHUO_CHROMIUM", "DINGHUO_SECRET_")
"""Variables of the tests, and secrets that rows of the database name (webhook subscriptions)."""


class UnknownSetting(ConfigError):
    """Nothing of that name can be set."""

    en = "setting {key} is not known; did you mean {nearest}?"
    zh = "未知设置 {key}；是否想写 {nearest}？"


class WrongSetting(ConfigError):
    """The value is not what the setting takes."""

    en = "setting {key} is {value}; expected {expected}"
    zh = "设置 {key} 的值为 {value}；应为{expected_zh}"


class MissingSetting(ConfigError):
    """Another setting makes this one necessary."""

    en = "setting {key} is needed with {because}"
    zh = "设置了 {because} 时，必须同时设置 {key}"


class Settings(BaseSettings):
    """How this installation runs. Made by `from_env`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    database_url: str = Field(default="sqlite:///orders.db", repr=False)  # may hold a password
    warehouse_dir: Path = Path("warehouse")
    business_zone: str = "Asia/Shanghai"
    language: Literal["zh", "en"] = "zh"
    mail_sender: Literal["file", "smtp"] = "file"
    mail_from: str = "orders@localhost"
    outbox_dir: Path = Path("outbox")
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    first_day: date = date(2009, 1, 1)  # the first business day that Dagster offers to build
    alert_urls: SecretStr = SecretStr("")  # who hears of a failed job: see pipelines.alerts; a webhook's URL is its key

    @field_validator("business_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(name)
        return name

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str) -> str:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ValueError("not a URL") from error
        if parsed.drivername not in ("sqlite", "postgresql+psycopg") or not parsed.database:
            raise ValueError(parsed.drivername)
        return url

    @model_validator(mode="after")
    def _smtp_is_whole(self) -> Settings:
        if self.mail_sender == "smtp" and not self.smtp_host:
            raise MissingSetting(key=f"{PREFIX}SMTP_HOST", because=f"{PREFIX}MAIL_SENDER=smtp")
        if bool(self.smtp_user) != bool(self.smtp_password.get_secret_value()):
            there, missing = ("USER", "PASSWORD") if self.smtp_user else ("PASSWORD", "USER")
            raise MissingSetting(key=f"{PREFIX}SMTP_{missing}", because=f"{PREFIX}SMTP_{there}")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose days are business days."""
        return ZoneInfo(self.business_zone)

    def masked(self) -> dict[str, str]:
        """Every setting as text to show: passwords as stars, also the one inside the database URL."""
        shown = {name: str(getattr(self, name)) for name in type(self).model_fields}
        shown["database_url"] = make_url(self.database_url).render_as_string(hide_password=True)
        return shown


_EXPECTED = {
    "database_url": (
        "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
        " sqlite:///文件 或 postgresql+psycopg://用户:密码@主机/库名",
    ),
    "business_zone": ("an IANA zone like Asia/Shanghai", " IANA 时区,如 Asia/Shanghai"),
    "first_day": ("a day like 2024-01-31", "日期，如 2024-01-31"),
    "smtp_port": ("a whole number from 1 to 65535", " 1 到 65535 的整数"),
    "language": ("zh or en", " zh 或 en"),
    "mail_sender": ("file or smtp", " file 或 smtp"),
    "smtp_security": ("starttls, tls or none", " starttls、tls 或 none"),
}
_SECRET = {"smtp_password", "database_url", "alert_urls"}  # never repeated in a message


def from_env() -> Settings:
    """Settings from the environment; what is not set has its default.

    Raises:
        ConfigError: An unknown DINGHUO_ variable (with the nearest name), a wrong value, or one that is missing.
    """
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for key in os.environ:
        if key.startswith(PREFIX) and not key.startswith(NOT_SETTINGS) and key not in known:
            raise UnknownSetting(key=key, nearest=get_close_matches(key, known, n=1, cutoff=0.0)[0])
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        expected, expected_zh = _EXPECTED.get(name, (wrong["msg"], wrong["msg"]))
        raise WrongSetting(
            key=f"{PREFIX}{name.upper()}",
            value="…" if name in _SECRET else repr(wrong["input"]),
            expected=expected,
            expected_zh=expected_zh,
        ) from None  # the cause repeats the value, which may be a secret
