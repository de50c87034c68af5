"""Opens a person's file and reads it as rows of text, whatever kind it is, in bounded memory.

`open_source` looks at the whole file once (what it is, how it is encoded, its SHA-256) and refuses it there or not at
all; `Source.batches` then streams the rows. A row carries the physical line it starts on: the line in a CSV with its
header on line 1, the row number of a sheet, and for Parquet, which has no lines, the number of the record.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from orders_core.intake.problems import FileRefused, Problem
from orders_core.intake.workbook import check_workbook, sheet_rows

Kind = Literal["csv", "xlsx", "parquet"]

BATCH_ROWS = 5_000
CHUNK_BYTES = 1 << 20
PREVIEW_ROWS = 5
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "utf-8-sig": "utf-8", "utf-16": "utf-16", "utf16": "utf-16"} | {
    "gb18030": "gb18030",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "cp936": "gb18030",
}
EXTENSIONS: dict[str, Kind] = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".xlsx": "xlsx", ".parquet": "parquet"}
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "xlsx"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"PAR1", "parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls) or a workbook with a password"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x7fELF", "a program"),
)
KINDS: dict[Kind, str] = {"csv": "text", "xlsx": "an Excel workbook", "parquet": "a Parquet file"}


@dataclass(frozen=True)
class Limits:
    """The largest file that is read. Beyond any of these it is refused with E_LIMIT before anything is written."""

    file_bytes: int = 2 << 30
    rows: int = 5_000_000
    columns: int = 1_000
    field_chars: int = 100_000
    row_chars: int = 1_000_000
    unpacked_bytes: int = 2 << 30
    unpacked_ratio: int = 200
    zip_members: int = 2_000


@dataclass(frozen=True)
class Declared:
    """What the person says about the file, so that nobody has to ask: None means not said."""

    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    rows: int | None = None  # how many rows the sender wrote
    sha256: str | None = None
    needs_count: bool = False  # refuse a text file that does not say how many rows it should have


class Row(NamedTuple):
    """One row as text, the line it starts on, and what is wrong with the row as a whole, if anything."""

    line: int
    cells: list[str]
    problem: Problem | None = None


@dataclass(frozen=True)
class Question:
    """Something read out of the file that a person must confirm: look at `preview`, then declare `answer`."""

    about: Literal["encoding", "delimiter", "price"]
    answer: str
    preview: tuple[tuple[str, ...], ...]

    def problem(self, file: str) -> Problem:
        """The same as a refusal, for a run without anybody to ask."""
        return Problem("E_CONFIRM", why=self.about, facts={"file": file, "answer": self.answer})


@dataclass(frozen=True)
class Source:
    """A file that has been looked at and can be read, any number of times."""

    path: Path
    name: str  # for display only, never used as a path
    kind: Kind
    size_bytes: int
    sha256: str
    header: tuple[str, ...]
    encoding: str = ""
    delimiter: str = ""
    sheet: str | None = None
    questions: tuple[Question, ...] = ()
    limits: Limits = field(default_factory=Limits)
    declared_rows: int | None = None
    needs_count: bool = False

    def batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[Row]]:
        """All rows below the header, in order, `batch_rows` at a time.

        Raises:
            FileRefused: A limit is passed, the file is cut off, or it changed since it was opened.
        """
        with _regular(self.path, self.limits) as file:
            rows = self._counted(_without_header(_rows(self, file)))
            while batch := list(islice(rows, batch_rows)):
                yield batch
            if os.fstat(file.fileno()).st_size != self.size_bytes:
                raise _refused("E_FILE", self.name, "changed")

    def _counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        width, count, announced = len(self.header), 0, self.declared_rows
        for row in rows:
            if row.cells and row.cells[0].startswith("#rows") and (closing := _announced_rows(row.cells)) is not None:
                announced = closing
                continue
            count += 1
            if count > self.limits.rows:
                raise _over(self.name, "rows", "行", count, self.limits.rows)
            if row.problem is None and len(row.cells) != width:
                facts = {"expected": width, "actual": len(row.cells)}
                row = row._replace(problem=Problem("E_ROW_WIDTH", raw=self.raw(row), facts=facts))
            yield row
        if announced is not None and announced != count:
            raise _refused("E_TRUNCATED", self.name, expected=announced, actual=count)
        if announced is None and self.needs_count and self.kind == "csv":
            raise _refused("E_TRUNCATED", self.name, "trailer")

    def raw(self, row: Row) -> str:
        """The row as it could stand in a CSV file: what quarantine keeps."""
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter or ",", lineterminator="").writerow(row.cells)
        return text.getvalue()


def open_source(path: Path, declared: Declared | None = None, limits: Limits | None = None) -> Source:
    """Look at the file at `path` and say how to read it.

    `questions` of the result is not empty when a person has to confirm the encoding or the delimiter first.

    Raises:
        FileRefused: It can't be read, with the reason; nothing was read as data.
    """
    declared, limits = declared or Declared(), limits or Limits()
    with _regular(path, limits) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        kind = _kind(path.name, file)
        if kind == "csv":
            look = _look_at_text(path.name, file, declared.encoding)
        else:
            look = _Look(sha256=_sha256(file))
            if kind == "xlsx":
                check_workbook(file, path.name, limits)
        if declared.sha256 and declared.sha256.lower() != look.sha256:
            raise _refused("E_TRUNCATED", path.name, "sha256", expected=declared.sha256, actual=look.sha256)
        delimiter, asked_delimiter = "", False
        if kind == "csv":
            delimiter, asked_delimiter = _delimiter(path.name, file, look.encoding, declared.delimiter)
        source = Source(
            path=path,
            name=path.name,
            kind=kind,
            size_bytes=size_bytes,
            sha256=look.sha256,
            header=(),
            encoding=look.encoding,
            delimiter=delimiter,
            sheet=declared.sheet,
            limits=limits,
            declared_rows=declared.rows,
            needs_count=declared.needs_count,
        )
        first = list(islice(_rows(source, file), PREVIEW_ROWS + 1))
        if not first:
            raise _refused("E_EMPTY_FILE", path.name)
        if len(first[0].cells) > limits.columns:
            raise _over(path.name, "columns", "列", len(first[0].cells), limits.columns)
        preview = tuple(tuple(row.cells) for row in first)
        questions = []
        if look.asked:
            questions.append(Question("encoding", look.encoding, preview))
        if asked_delimiter:
            questions.append(Question("delimiter", DELIMITERS[delimiter], preview))
        header = tuple(cell.strip() for cell in first[0].cells)
        return replace(source, header=header, questions=tuple(questions))


def require_answers(source: Source) -> None:
    """Refuse with exit code 2 when something about the file still has to be confirmed."""
    for question in source.questions:
        raise FileRefused(question.problem(source.name), exit_code=2)


def stored_name(name: str) -> str:
    """A file name as text to show: its last part, control characters gone, at most 120 characters. Never a path."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if unicodedata.category(c)[0] != "C")[:120] or "unnamed"


# --- opening


def _refused(code: str, file: str, why: str = "", **facts: str | int) -> FileRefused:
    return FileRefused(Problem(code, why=why, facts={"file": stored_name(file), **facts}))


def _over(file: str, what: str, what_zh: str, actual: int, limit: int) -> FileRefused:
    return _refused("E_LIMIT", file, what=what, what_zh=what_zh, actual=actual, limit=limit)


def _regular(path: Path, limits: Limits) -> io.BufferedReader:
    """Open `path` for reading when it is a regular file of allowed size; a FIFO or device is never waited for."""
    name = path.name or str(path)
    if "\0" in str(path):
        raise _refused("E_FILE", name, "name")
    try:
        if path.is_symlink() and path.resolve().parent != path.parent.resolve():
            raise _refused("E_FILE", name, "outside", target=str(path.resolve().parent))
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _refused("E_FILE", name, "missing") from None
    except PermissionError:
        raise _refused("E_FILE", name, "permission") from None
    except OSError as error:  # a name too long, a loop of links, a socket
        raise _refused("E_FILE", name, "kind", kind=error.strerror or "unreadable", kind_zh="无法打开的") from None
    mode, size = os.fstat(handle).st_mode, os.fstat(handle).st_size
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind, kind_zh = _what(mode)
        raise _refused("E_FILE", name, "kind", kind=kind, kind_zh=kind_zh)
    if size > limits.file_bytes:
        os.close(handle)
        raise _over(name, "bytes", "字节", size, limits.file_bytes)
    return open(handle, "rb")  # noqa: PTH123  a handle, not a path


def _what(mode: int) -> tuple[str, str]:
    if stat.S_ISDIR(mode):
        return "a directory", "目录"
    if stat.S_ISFIFO(mode):
        return "a pipe", "管道"
    return "a device", "设备"


def _kind(name: str, file: io.BufferedReader) -> Kind:
    """What the first bytes say the file is, which its extension must not contradict."""
    head = file.read(16)
    file.seek(0)
    if not head:
        raise _refused("E_EMPTY_FILE", name)
    extension = Path(name).suffix.lower()
    found = next((kind for magic, kind in MAGIC if head.startswith(magic)), "csv")
    for kind, words in KINDS.items():
        if found == kind and EXTENSIONS.get(extension, kind) == kind:
            return kind
        if found == kind:
            raise _refused("E_FILE_TYPE", name, named=extension, found=words)
    raise _refused("E_FILE_TYPE", name, named=extension or "nothing", found=found)


def _sha256(file: io.BufferedReader) -> str:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


# --- text: encoding, delimiter


@dataclass(frozen=True)
class _Look:
    sha256: str
    encoding: str = ""
    asked: bool = False


@dataclass(frozen=True)
class _BadBytes:
    offset: int
    line: int
    is_nul: bool = False


def _look_at_text(name: str, file: io.BufferedReader, declared: str | None) -> _Look:
    """The encoding: its mark, else the one declared, else strict UTF-8, else strict GB18030 to be confirmed."""
    sha256 = _sha256(file)
    head = file.read(4)
    if declared is not None and declared.strip().lower() not in ENCODINGS:
        raise FileRefused(Problem("E_ENCODING", raw=declared, why="unknown"), exit_code=2)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _Look(sha256, _must_decode(name, file, "utf-16"))
    if head.startswith(codecs.BOM_UTF8):
        return _Look(sha256, _must_decode(name, file, "utf-8"))
    if declared is not None:
        return _Look(sha256, _must_decode(name, file, ENCODINGS[declared.strip().lower()]))
    bad = _first_bad_byte(file, "utf-8")
    if bad is None:
        return _Look(sha256, "utf-8")
    if bad.is_nul:
        raise _refused("E_ENCODING", name, "nul", offset=bad.offset, line=bad.line)
    worse = _first_bad_byte(file, "gb18030")
    if worse is None:
        return _Look(sha256, "gb18030", asked=True)
    facts = {"offset": bad.offset, "line": bad.line, "offset2": worse.offset, "line2": worse.line}
    raise _refused("E_ENCODING", name, "neither", **facts)


def _must_decode(name: str, file: io.BufferedReader, encoding: str) -> str:
    bad = _first_bad_byte(file, encoding)
    if bad is None:
        return encoding
    why = "nul" if bad.is_nul else ""
    raise _refused("E_ENCODING", name, why, encoding=encoding.upper(), offset=bad.offset, line=bad.line)


def _first_bad_byte(file: io.BufferedReader, encoding: str) -> _BadBytes | None:
    """Where decoding strictly stops, reading a megabyte at a time; NUL characters count as bad."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    at, line = 0, 1
    while True:
        chunk = file.read(CHUNK_BYTES)
        waiting = decoder.getstate()[0]
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            return _BadBytes(at - len(waiting) + error.start, line + _line_ends(before.decode(encoding, "ignore")))
        if "\0" in text:
            before_nul = text[: text.index("\0")]
            offset = at - len(waiting) + len(before_nul.encode(encoding.replace("utf-16", "utf-16-le")))
            return _BadBytes(offset, line + _line_ends(before_nul), is_nul=True)
        if not chunk:
            return None
        line += _line_ends(text)
        at += len(chunk)


def _line_ends(text: str) -> int:
    return text.count("\n") or text.count("\r")


def _delimiter(name: str, file: io.BufferedReader, encoding: str, declared: str | None) -> tuple[str, bool]:
    """The delimiter and whether a person must confirm it: the extension's own needs no question."""
    if declared is not None:
        by_name = {words: mark for mark, words in DELIMITERS.items()} | {"\\t": "\t"}
        mark = by_name.get(declared, declared)
        if mark not in DELIMITERS:
            facts = {"expected": ", ".join(by_name)}
            raise FileRefused(Problem("E_CHOICE", "delimiter", declared, facts=facts), exit_code=2)
        return mark, False
    usual = "\t" if name.lower().endswith(".tsv") else ","
    seen = _marks_in_header(file, encoding)
    if not seen or set(seen) == {usual}:
        return usual, False
    best = max(seen, key=lambda mark: (seen[mark], mark == usual))
    return best, best != usual or seen[best] < 2 * sum(n for mark, n in seen.items() if mark != best)


def _marks_in_header(file: io.BufferedReader, encoding: str) -> Counter[str]:
    outside = _text(file, encoding).readline(100_000)
    parts = outside.split('"')[::2]  # every second part stands outside quotes
    return Counter(char for part in parts for char in part if char in DELIMITERS)


def _text(file: io.BufferedReader, encoding: str) -> io.TextIOWrapper:
    """`file` from its start as text with its line ends kept, over a copy of the handle so that closing is harmless."""
    file.seek(0)
    copy = os.fdopen(os.dup(file.fileno()), "rb")
    return io.TextIOWrapper(copy, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")


# --- rows


def _rows(source: Source, file: io.BufferedReader) -> Iterator[Row]:
    """Every row that is not blank, the header first."""
    file.seek(0)
    if source.kind == "csv":
        return _csv_rows(source, file)
    if source.kind == "xlsx":
        rows = sheet_rows(file, source.name, source.sheet, source.limits)
        return (Row(line, cells) for line, cells in rows)
    return _parquet_rows(source, file)


def _without_header(rows: Iterator[Row]) -> Iterator[Row]:
    next(rows, None)
    return rows


def _csv_rows(source: Source, file: io.BufferedReader) -> Iterator[Row]:
    limits, since_row = source.limits, 0

    def physical_lines(text: io.TextIOWrapper) -> Iterator[str]:
        nonlocal since_row
        while line := text.readline(limits.row_chars + 1):
            since_row += len(line)
            if since_row > limits.row_chars:
                facts: dict[str, str | int] = {"line": begins, "limit": limits.row_chars}
                raise FileRefused(Problem("E_LIMIT", why="row", facts=facts))
            yield line

    with _text(file, source.encoding) as text:
        reader = csv.reader(physical_lines(text), delimiter=source.delimiter, strict=True)
        while True:
            begins, since_row = reader.line_num + 1, 0
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise _refused("E_TRUNCATED", source.name, "quote", line=begins) from None
                if since_row > limits.field_chars:
                    raise FileRefused(
                        Problem("E_LIMIT", why="row", facts={"line": begins, "limit": since_row})
                    ) from None
                yield Row(begins, [], Problem("E_QUOTE", facts={"detail": str(error)}))
                continue
            if since_row > limits.field_chars and (longest := max(map(len, cells))) > limits.field_chars:
                raise _over(source.name, "characters in one field", "个字符的字段", longest, limits.field_chars)
            if any(cells):
                yield Row(begins, cells)


def _announced_rows(cells: list[str]) -> int | None:
    """The count of a closing row `#rows,COUNT`, which the sender writes so that a cut file can be told."""
    if cells[0].strip() == "#rows" and len(cells) > 1 and cells[1].strip().isdecimal() and not any(cells[2:]):
        return int(cells[1])
    return None


def _parquet_rows(source: Source, file: io.BufferedReader) -> Iterator[Row]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        detail = str(error).splitlines()[0]
        raise _refused("E_FILE_TYPE", source.name, "broken", named="Parquet", detail=detail) from None
    meta = parquet.metadata
    if meta.num_rows > source.limits.rows:
        raise _over(source.name, "rows", "行", meta.num_rows, source.limits.rows)
    if meta.num_columns > source.limits.columns:
        raise _over(source.name, "columns", "列", meta.num_columns, source.limits.columns)
    unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    if unpacked > source.limits.unpacked_bytes:
        raise _over(source.name, "bytes when unpacked", "字节（解压后）", unpacked, source.limits.unpacked_bytes)
    yield Row(0, list(parquet.schema_arrow.names))
    line = 0
    try:
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS):
            columns = [_texts(batch.column(i), source) for i in range(batch.num_columns)]
            for cells in zip(*columns, strict=True):
                line += 1
                yield Row(line, list(cells))
    except (pa.ArrowException, OSError) as error:
        detail = str(error).splitlines()[0]
        raise _refused("E_FILE_TYPE", source.name, "broken", named="Parquet", detail=detail) from None


def _texts(column: pa.Array, source: Source) -> list[str]:
    """A column as text: numbers in their shortest form (6.95, never 6.9500000001), times as ISO 8601, NULL as ''."""
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise _refused("E_FILE_TYPE", source.name, "broken", named="Parquet", detail=f"a column of {kind}")
    if pa.types.is_floating(kind):
        return ["" if x is None else number_text(x) for x in column.to_pylist()]
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return [text or "" for text in texts]


def number_text(x: float) -> str:
    """The shortest text of a stored number: `12.0` -> `12`, `6.95` -> `6.95`, above 15 digits as E-notation."""
    return str(int(x)) if x.is_integer() and abs(x) < 1e15 else repr(x).replace("e", "E")
