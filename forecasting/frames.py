"""The edge: Polars or pandas in, the same kind out. Inside everything is Polars."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl

from forecasting.errors import BadFrame, BadSetting, MissingColumns, MisspeltColumn

if TYPE_CHECKING:
    import pandas as pd

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame
else:
    Frame = object

FLOAT = pl.Float64()


def is_pandas(frame: object) -> bool:
    """Whether `frame` is a pandas DataFrame, without importing pandas for somebody who doesn't use it."""
    return type(frame).__module__.partition(".")[0] == "pandas"


def to_polars(frame: Frame, *, name: str, needs: Sequence[str], may_have: Collection[str] = ()) -> pl.DataFrame:
    """`frame` as Polars with columns of plain types; mixed Python objects become text, to be judged row by row. A named index
    of a pandas frame is a column.

    Args:
        frame: What the caller handed in.
        name: What the caller knows it as.
        needs: Columns without which it is of no use.
        may_have: Columns that are read where they are there. One that is missing while another looks like it is warned of
            (`MisspeltColumn`); the rest are the caller's own.

    Raises:
        BadFrame: It is no frame, or of a type that can't be read.
        MissingColumns: A column of `needs` is missing.
    """
    if isinstance(frame, pl.LazyFrame):
        try:
            frame = frame.collect()
        except pl.exceptions.PolarsError as error:
            raise BadFrame(f"{name} could not be read: {error}", f"{name} 无法读取：{error}") from error
    if isinstance(frame, pl.DataFrame):
        out = frame
    elif is_pandas(frame):
        out = _from_pandas(frame, name)
    else:
        kind = type(frame).__name__
        raise BadFrame(
            f"{name} must be a Polars or pandas DataFrame, got {kind}",
            f"{name} 应为 Polars 或 pandas 的 DataFrame，实为 {kind}",
        )
    objects = [column for column, dtype in out.schema.items() if dtype == pl.Object]
    if objects:
        out = out.with_columns([_plain_objects(column, out[column].to_list()) for column in objects])
    coded = [column for column, dtype in out.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    if coded:
        out = out.with_columns(pl.col(coded).cast(pl.String))
    _look_at_names(out.columns, name=name, needs=needs, may_have=may_have)
    return out


def _from_pandas(frame: pd.DataFrame, name: str) -> pl.DataFrame:
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise BadFrame(f"{name} has two columns {twice[0]}", f"{name} 有两列都叫 {twice[0]}")
    for level in frame.index.names:
        if level is not None and level not in frame.columns:
            frame = frame.reset_index(level=level)
    columns: dict[str, pl.Series] = {}
    for column, values in frame.items():
        try:
            if values.dtype == object:  # may hold anything, also numbers beside text
                columns[str(column)] = _plain_objects(str(column), list(values))
            else:
                columns[str(column)] = pl.from_pandas(values).alias(str(column))
        except (TypeError, ValueError, NotImplementedError, pl.exceptions.PolarsError) as error:
            raise BadFrame(
                f"{name} column {column} can't be read: it is {values.dtype}",
                f"{name} 的列 {column} 无法读取：类型为 {values.dtype}",
            ) from error
    return pl.DataFrame(columns)


def _look_at_names(found: Sequence[str], *, name: str, needs: Sequence[str], may_have: Collection[str]) -> None:
    own = [column for column in found if column not in needs and column not in may_have]
    missing = [column for column in needs if column not in found]
    if missing:
        raise MissingColumns(frame=name, missing={column: _nearest(column, own) for column in missing}, found=found)
    for column in own:
        for wanted in may_have:
            if wanted not in found and _looks_like(column, wanted):
                warnings.warn(MisspeltColumn(frame=name, column=column, nearest=wanted), stacklevel=2)


def _nearest(wanted: str, own: Sequence[str]) -> str | None:
    plain = {_letters(column): column for column in reversed(own)}
    near = difflib.get_close_matches(_letters(wanted), list(plain), n=1, cutoff=0.3)
    return plain[near[0]] if near else None


UNITS = r"_(qty|days|cents|ratio)$"
SHORTEST_NAME, LONG_NAME = (
    5,
    9,
)  # letters; a slip makes another word of a shorter one, a wrong letter of one that is not long


def _looks_like(column: str, wanted: str) -> bool:
    """Whether `column` is `wanted` in other capitals or with other blanks, without its unit, or with one slip after the first
    letter: a letter missing, too many, exchanged with its neighbour or, in a long name, wrong.

    >>> [_looks_like(c, "on_hand_qty") for c in ("On hand qty", "on_hand", "on_hnad_qty", "on_hand_value")]
    [True, True, True, False]
    """
    one, other = _letters(column), _letters(wanted)
    if one == other:
        return True
    if (
        one[:1] != other[:1]
        or min(len(one), len(other)) < SHORTEST_NAME
        or re.findall(r"\d", one) != re.findall(r"\d", other)
    ):
        return False  # category_2 is no slip
    return one == _letters(re.sub(UNITS, "", wanted)) or _is_one_slip(one, other)


def _letters(column: str) -> str:
    return re.sub(r"[\W_]+", "", column.casefold())


def _is_one_slip(one: str, other: str) -> bool:
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[same:], other[same:]
    is_wrong_letter = a[1:] == b[1:] and len(one) == len(other) >= LONG_NAME
    return is_wrong_letter or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _plain_objects(name: str, values: list[object]) -> pl.Series:
    if any(isinstance(v, list | np.ndarray) for v in values):  # a list column, as pandas keeps it
        return pl.Series(name, [list(v) if isinstance(v, list | np.ndarray) else None for v in values])
    empty = [None if v is None or v != v or type(v).__name__ == "NAType" else v for v in values]
    kinds = {type(v) for v in empty if v is not None}
    if kinds <= {bool}:
        return pl.Series(name, empty, dtype=pl.Boolean)
    if kinds <= {date} or kinds <= {datetime}:
        return pl.Series(name, empty)
    return pl.Series(name, [None if v is None else str(v) for v in empty], dtype=pl.String)


def like(frame: pl.DataFrame, *, pandas: bool) -> Frame:
    """`frame` in the kind the caller works with."""
    return frame.to_pandas() if pandas else frame


def as_of_day(as_of: date | datetime) -> date:
    """The last whole day that may be known: a date is taken as its end, a moment excludes the day it is part of.

    Raises:
        BadSetting: It is neither.
    """
    day = day_of(as_of, name="as_of")
    return day - timedelta(days=1) if isinstance(as_of, datetime) else day


def day_of(value: object, *, name: str) -> date:
    """A date, or the day of a moment, also numpy's and pandas'.

    Raises:
        BadSetting: It is neither; the argument `name` is named.
    """
    day = value.item() if isinstance(value, np.datetime64) else value
    if not isinstance(day, date) or day != day:  # NaT calls itself a date
        raise BadSetting(
            f"{name} must be a date such as date(2026, 6, 30), got {value!r}",
            f"{name} 应为日期，如 date(2026, 6, 30)，实为 {value!r}",
        )
    return day.date() if isinstance(day, datetime) else day


def text_column(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Expression for an identifier column as text, whatever its type, without blanks around it. Whole numbers with a gap, which
    pandas reads as 7.0, are the text of the whole number."""
    dtype, text = frame.schema[column], pl.col(column).cast(pl.String)
    if dtype.is_nested():
        raise BadFrame(
            f"column {column} must hold text or numbers, it is {dtype}", f"列 {column} 应为文本或数字，实为 {dtype}"
        )
    if dtype.is_float():
        return text.str.strip_suffix(".0")
    return text.str.strip_chars()


def date_column(frame: pl.DataFrame, column: str, *, name: str) -> pl.Series:
    """A column of days: dates, moments (cut to their day) or text like 2026-03-01 or 2026/3/1; NULL where a text is none.

    Raises:
        BadFrame: It is of another type.
    """
    given = frame[column]
    if given.dtype == pl.String:
        text = given.str.strip_chars()  # else " 2026-03-12" would be read as 2026-03-1
        read = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        at = (read.is_null() & text.is_not_null()).arg_true()
        in_a_sheet = text.gather(at).str.extract(r"^(\d{4}/\d{1,2}/\d{1,2})(?:\D|$)")
        return read.scatter(at, in_a_sheet.str.to_date("%Y/%m/%d", strict=False)) if at.len() else read
    if isinstance(given.dtype, pl.Datetime):
        return given.dt.date()
    if given.dtype in (pl.Date, pl.Null):
        return given.cast(pl.Date)
    raise BadFrame(
        f"{name} column {column} must hold dates or text like 2026-03-01, it is {given.dtype}",
        f"{name} 的列 {column} 应为日期或 2026-03-01 这样的文本，实为 {given.dtype}",
    )


def number_column(frame: pl.DataFrame, column: str, *, name: str) -> pl.Series:
    """A column of numbers, or of text that says some; NULL where a text says none.

    Raises:
        BadFrame: It is of another type.
    """
    given = frame[column]
    if given.dtype == pl.String:
        return given.str.strip_chars().cast(pl.Float64, strict=False)
    if given.dtype.is_numeric() or given.dtype in (pl.Boolean, pl.Null):
        return given.cast(pl.Float64, strict=False)
    raise BadFrame(
        f"{name} column {column} must hold numbers, it is {given.dtype}",
        f"{name} 的列 {column} 应为数字，实为 {given.dtype}",
    )


FLAGS = {"true": True, "1": True, "false": False, "0": False}
SAYS_NOTHING = ("", "nan", "nat")
KINDS = {
    pl.Date: ("a date like 2026-03-01", "2026-03-01 这样的日期"),
    pl.Boolean: ("true or false", "true 或 false"),
    pl.Float64: ("a number", "数字"),
    pl.Int64: ("a number", "数字"),
}


def typed(frame: pl.DataFrame, *, name: str, types: Mapping[str, Any]) -> pl.DataFrame:
    """The columns of `types` alone, as these types (text, dates, flags, numbers), which may come as text; NULL where the frame
    lacks one, and where a text is blank or a number NaN.

    Raises:
        BadFrame: A value is not of its type; its column, its row (from 1) and the first such value are named.
    """
    return pl.DataFrame([_typed(frame, column, dtype, name) for column, dtype in types.items()])


def _typed(frame: pl.DataFrame, column: str, dtype: Any, name: str) -> pl.Series:
    if column not in frame.columns:
        return pl.repeat(None, frame.height, dtype=dtype, eager=True).alias(column)
    given = frame[column]
    if dtype == pl.String:
        return frame.select(text_column(frame, column)).to_series()
    if dtype == pl.Date:
        values = date_column(frame, column, name=name)
    elif dtype == pl.Boolean and given.dtype == pl.String:
        word = given.str.strip_chars().str.to_lowercase()
        values = word.replace_strict(FLAGS, default=None, return_dtype=pl.Boolean)
    elif given.dtype == dtype and not dtype.is_float():
        values = given
    else:
        values = number_column(frame, column, name=name).fill_nan(None).cast(dtype, strict=False)
    lost = (values.is_null() & given.is_not_null()).arg_true()
    lost = lost.filter(~given.gather(lost).cast(pl.String).str.strip_chars().str.to_lowercase().is_in(SAYS_NOTHING))
    if lost.len():
        at, (kind, kind_zh) = lost[0], KINDS[dtype]
        raise BadFrame(
            f"{name}: {column} of row {at + 1} is {given[at]!r}, not {kind}",
            f"{name}：第 {at + 1} 行的 {column} 为 {given[at]!r}，应为{kind_zh}",
        )
    return values


def one_row_each(frame: Frame, *, name: str, needs: Sequence[str] = (), may_have: Collection[str] = ()) -> pl.DataFrame:
    """`frame` as Polars with its unique_id as text, which every row has and no two share; columns as for `to_polars`.

    Raises:
        BadFrame: A unique_id appears twice or is missing, or a column is.
    """
    out = to_polars(frame, name=name, needs=("unique_id", *needs), may_have=may_have)
    out = out.with_columns(text_column(out, "unique_id"))
    if out["unique_id"].is_null().any() or out["unique_id"].n_unique() != out.height:
        raise BadFrame(
            f"{name} must have one row per unique_id, and none without",
            f"{name} 中每个 unique_id 应有且只有一行，且不能为空",
        )
    return out
