"""Imports every module of some packages and prints what that did, as JSON. Run as a script by test_importing.py.

    python -m tests.contracts.import_all PROJECT PACKAGE...

Prints {"modules": [...], "did": [...], "loaded": [...]}: the modules imported, what our own lines did while being
imported (files written, connections, processes, environment variables read), and every module loaded at the end.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from types import FrameType
from typing import Any

# Audit events of CPython, https://docs.python.org/3/library/audit_events.html
_CHANGES_SOMETHING = {
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "os.putenv", "os.unsetenv",
    "os.fork", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "sqlite3.connect",
}  # fmt: skip
# Scripts that a tool runs by importing them: Alembic's env.py is its configuration.
_SCRIPTS = (".__main__", ".migrations.env")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def import_all(project: str, packages: list[str]) -> dict[str, list[str]]:
    did: list[str] = []
    ours = tuple(f"{project}/{package}/" for package in packages)
    sys.addaudithook(lambda event, args: _note_event(did, ours, event, args))
    _note_environment_reads(did, ours)

    modules = []
    for package in packages:
        modules.append(package)
        found = pkgutil.walk_packages([f"{project}/{package}"], f"{package}.", onerror=_raise)
        modules.extend(module.name for module in found if not module.name.endswith(_SCRIPTS))
    for module in modules:
        importlib.import_module(module)
    return {
        "modules": modules,
        "did": sorted({finding.removeprefix(f"{project}/") for finding in did}),
        "loaded": sorted(sys.modules),
    }


def _raise(_module: str) -> None:
    raise  # walk_packages calls this from inside its except block


def _note_event(did: list[str], ours: tuple[str, ...], event: str, args: tuple[Any, ...]) -> None:
    opens_for_writing = event == "open" and isinstance(args[2], int) and bool(args[2] & _WRITING)
    if (opens_for_writing or event in _CHANGES_SOMETHING) and (line := _line_to_blame(sys._getframe(1), ours)):
        did.append(f"{line}: {event} {args[0]!r}")


def _line_to_blame(frame: FrameType | None, ours: tuple[str, ...]) -> str | None:
    """The line of ours that had it done, or None when the import of somebody else's module did it."""
    while frame:
        if frame.f_code.co_filename.startswith(ours):
            return _place(frame)
        if frame.f_code.co_name == "<module>":
            return None
        frame = frame.f_back
    return None


def _note_environment_reads(did: list[str], ours: tuple[str, ...]) -> None:
    read = os.environ.__class__.__getitem__

    def noting(environ: Any, key: str) -> str:
        frame = sys._getframe(1)
        # os.getenv and Mapping.get are called by whoever wants to know
        while frame.f_code.co_name in ("get", "getenv", "__contains__") and frame.f_back:
            frame = frame.f_back
        if frame.f_code.co_filename.startswith(ours):
            did.append(f"{_place(frame)}: reads the environment variable {key}")
        return read(environ, key)

    os.environ.__class__.__getitem__ = noting  # type: ignore[method-assign]


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


if __name__ == "__main__":
    result = import_all(sys.argv[1], sys.argv[2:])
    sys.stdout.write(json.dumps(result))
