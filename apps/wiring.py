"""How the entry points are wired: the settings they read name a store and a warehouse, and these open them."""

from __future__ import annotations

from orders_core.ports import Clock
from orders_core.settings import Settings
from orders_core.store.uow import Store


def open_store(settings: Settings, *, clock: Clock | None = None) -> Store:
    """The order database the settings name, open for work; the schema must be there (see `schema.upgrade`)."""
    return Store.open(settings.database_url, clock=clock, zone=settings.business_zone)


def language_of(asked: str | None, locale: str | None, settings: Settings) -> str:
    """The language to speak, `zh` or `en`: the one asked for, else the reader's locale, else the installation's.

    >>> language_of(None, "en-GB", Settings()), language_of("zh", "en-GB", Settings()), language_of(None, None, Settings())
    ('en', 'zh', 'zh')
    """
    if asked in ("zh", "en"):
        return str(asked)
    if locale:
        return "zh" if locale.lower().startswith("zh") else "en"
    return settings.language
