"""How the command line talks: data on stdout, words on stderr, in the reader's language, on any terminal."""

from __future__ import annotations

import csv
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

Progress = Callable[[str, int, int | None], None]  # what is being done, how far, out of how many if known

DOING = {
    "reading": ("reading", "读取"),
    "checking": ("checking", "检查"),
    "comparing": ("comparing", "比对"),
    "writing": ("writing", "写入"),
    "placing": ("placing", "下单"),
    "load": ("load", "读取订单"),
    "forecast": ("forecast", "预测"),
    "suggestions": ("suggestions", "补货建议"),
    "publish": ("publish", "发布"),
    "orders": ("days lived", "模拟天数"),
}
"""What long work says it is doing, for the progress bar: (en, zh)."""


def language_of(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """`zh` or `en`: what `--lang` says, else DINGHUO_LANGUAGE, else the locale; English where none of them says.

    >>> language_of(["orders", "list", "--lang", "zh"], {}), language_of([], {"LANG": "zh_CN.UTF-8"}), language_of([], {})
    ('zh', 'zh', 'en')
    """
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word.startswith("--lang"):
            value = word.partition("=")[2] or (arguments[place + 1] if place + 1 < len(arguments) else "")
            if value in ("zh", "en"):
                return value
    if environment.get("DINGHUO_LANGUAGE") in ("zh", "en"):
        return environment["DINGHUO_LANGUAGE"]
    locale = next((environment[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(key)), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def make_streams_safe() -> None:
    """Characters the terminal can't show become escapes instead of an error; nothing is lost, nothing crashes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@dataclass
class Terminal:
    """Where a command's data and words go. `verbosity` is −1 with -q, 1 with -v."""

    language: str = "en"
    is_json: bool = False
    verbosity: int = 0
    _bar: Any = None

    def text(self, en: str, zh: str) -> str:
        """The one of the two that the reader reads."""
        return zh if self.language == "zh" else en

    def say(self, en: str, zh: str) -> None:
        """A word about what was done; -q silences it."""
        if self.verbosity >= 0:
            self.warn(en, zh)

    def warn(self, en: str, zh: str) -> None:
        """A word that is said even with -q: what went wrong."""
        write_line(self.text(en, zh), sys.stderr)

    def detail(self, en: str, zh: str) -> None:
        """A word for who asked with -v."""
        if self.verbosity > 0:
            self.say(en, zh)

    def emit(self, data: Any, text: str | Callable[[], str]) -> None:
        """The result on stdout: `data` with --json, else `text`."""
        if self.is_json:
            write_json(data, sys.stdout)
        else:
            write_line(text if isinstance(text, str) else text(), sys.stdout)

    def emit_rows(
        self,
        columns: Mapping[str, tuple[str, str]],
        rows: Sequence[Mapping[str, Any]],
        *,
        as_csv: bool = False,
        data: Any = None,
    ) -> None:
        """A list on stdout: aligned columns for a person, CSV, or with --json `data` (the rows as they are when None).

        `columns` are the keys to show with their headings (en, zh); CSV and JSON carry the keys.
        """
        if self.is_json:
            write_json(rows if data is None else data, sys.stdout)
        elif as_csv:
            write_csv(list(columns), rows, sys.stdout)
        elif rows:
            headings = [self.text(*words) for words in columns.values()]
            cells = [[shown(row.get(key)) for key in columns] for row in rows]
            is_number = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in columns]
            write_line("\n".join(aligned([headings, *cells], is_number)), sys.stdout)

    @property
    def can_ask(self) -> bool:
        """Whether somebody sits there who could answer."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, en: str, zh: str) -> bool:
        """A yes or no from a person; only where `can_ask`."""
        self.pause_bar()
        write_line(self.text(en, zh) + " [y/N]", sys.stderr)
        return sys.stdin.readline().strip().lower() in ("y", "yes", "是", "好")

    def pause_bar(self) -> None:
        """Take the progress bar away; the next step draws it again."""
        if self._bar is not None:
            self._bar.stop()

    @contextmanager
    def progress(self) -> Iterator[Progress | None]:
        """A progress bar on stderr, only for a person who watches; None where there is none."""
        if self.verbosity < 0 or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        bar = self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = bar.add_task("")

        def tell(doing: str, done: int, total: int | None) -> None:
            words = self.text(*DOING.get(doing, (doing, doing)))
            bar.update(task, description=words, completed=done, total=total)
            bar.start()  # not before: a question may be asked first

        try:
            yield tell
        finally:
            bar.stop()


def write_line(text: str, out: TextIO) -> None:
    """A line, or several, at once on a stream."""
    out.write(clean(text, keep_lines=True) + "\n")
    out.flush()


def clean(text: str, *, keep_lines: bool = False) -> str:
    """`text` without characters that would steer a terminal: they come from customers' files, too.

    >>> clean("ACME\\x1b[2J")
    'ACME�[2J'
    """
    if text.isprintable():
        return text
    kept = "\n\t\u3000\xa0" if keep_lines else "\u3000\xa0"  # wide and hard spaces are harmless
    return "".join(c if c.isprintable() or c in kept else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: dates and instants as ISO text, names of fields as keys."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_mapping"):  # a row of a query
        return plain(dict(value._mapping))
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def write_json(data: Any, out: TextIO) -> None:
    """One JSON document. What the terminal's encoding does not have is escaped, so that it stays valid JSON."""
    is_utf8 = (out.encoding or "").lower().replace("-", "") == "utf8"
    write_line(json.dumps(plain(data), ensure_ascii=not is_utf8, indent=2), out)


def write_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    """CSV with a header, in UTF-8 unless a person watches; text a spreadsheet would take for a formula is made harmless."""
    from orders_core.intake.fields import neutralise

    if not out.isatty() and hasattr(out, "reconfigure"):
        out.reconfigure(encoding="utf-8", newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [plain(row.get(column)) for column in columns]
        writer.writerow([neutralise(cell) if isinstance(cell, str) else "" if cell is None else cell for cell in cells])
    out.flush()


def shown(value: Any) -> str:
    """A value as it stands in a table cell: instants to the minute, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return clean(str(value))


def width_of(text: str) -> int:
    """Columns a text takes on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))


def aligned(rows: Sequence[Sequence[str]], is_number: Sequence[bool]) -> list[str]:
    """Rows of cells as lines with columns under each other, numbers to the right."""
    widths = [max(width_of(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for cell, width, right in zip(row, widths, is_number, strict=True):
            gap = " " * (width - width_of(cell))
            cells.append(gap + cell if right else cell + gap)
        lines.append("  ".join(cells).rstrip())
    return lines


def money(cents: int, currency: str) -> str:
    """An amount for a person.

    >>> money(123456, "CNY"), money(-5, "GBP"), money(500, "JPY")
    ('CNY 1,234.56', 'GBP -0.05', 'JPY 500')
    """
    from babel.numbers import get_currency_precision

    digits = get_currency_precision(currency)
    return f"{currency} {Decimal(cents).scaleb(-digits):,.{digits}f}"


def default_name() -> str:
    """Who sits at this machine, for the audit trail."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid-{os.getuid()}"
