"""Ctrl-C and SIGTERM: what is being written is finished or rolled back, locks are given back, and then the program ends.

An exception that may come anywhere can come in the middle of a COPY, and leaves a connection nobody can use to give the
lock back. So a long import is asked to stop, and does so between two batches; whoever presses Ctrl-C again won't wait.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked: list[int] = []  # signals that have come; a process has one set of signal handlers, so this is the process's
_waiting: list[bool] = [False]


def listen() -> None:
    """Take Ctrl-C and SIGTERM the same way from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def asked_by() -> int | None:
    """The signal that first asked us to stop, if any did."""
    return _asked[0] if _asked else None


def _on_signal(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    if not _waiting[0] or len(_asked) > 1:
        raise KeyboardInterrupt


def is_a_stop(error: BaseException) -> bool:
    """Whether an error is a signal's doing: DuckDB, stopped in a query, raises a RuntimeError from our KeyboardInterrupt."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


def stop_if_asked() -> None:
    """A place where stopping does no harm.

    Raises:
        KeyboardInterrupt: Somebody asked.
    """
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def between_batches() -> Iterator[Callable[[], None]]:
    """Within the block a first signal waits for the function it hands out to be called, or for the block's end."""
    _waiting[0] = True
    try:
        yield stop_if_asked
    finally:
        _waiting[0] = False
    stop_if_asked()


@contextmanager
def at_once() -> Iterator[None]:
    """Within the block a signal stops us where we are, as when a person is being asked something."""
    before, _waiting[0] = _waiting[0], False
    try:
        yield
    finally:
        _waiting[0] = before
