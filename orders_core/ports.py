"""What the core asks of the world: the time, a sender, a carrier. Entry points hand in the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time; always timezone-aware UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still until it is moved; for tests and for simulated time.

    >>> clock = FixedClock(datetime(2026, 11, 22, tzinfo=UTC))
    >>> clock.advance(minutes=10).minute
    10
    """

    def __init__(self, at: datetime) -> None:
        self._at = at.astimezone(UTC)

    def now(self) -> datetime:
        return self._at

    def set(self, at: datetime) -> datetime:
        """Move to `at` (aware) and return it in UTC."""
        self._at = at.astimezone(UTC)
        return self._at

    def advance(self, **delta: float) -> datetime:
        """Move by a timedelta given as keywords, e.g. `advance(minutes=10, seconds=1)`."""
        self._at += timedelta(**delta)
        return self._at


@dataclass(frozen=True)
class Message:
    """One rendered notice, ready to be sent; `message_id` stays the same over every retry."""

    message_id: str
    recipient: str
    subject: str
    body: str
    language: str
    kind: str = "mail"


class Sender(Protocol):
    """Hands a message over. Returning means it was accepted; any exception means try again later."""

    def send(self, message: Message) -> None: ...
