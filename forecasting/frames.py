"""The edge: Polars or pandas in, the same kind out. Inside everything is Polars."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from forecasting.errors import BadFrame, MissingColumns, MisspeltColumn

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
    # NaN stays visible as the word, so that the row can be quarantined with it
    return pl.Series(
        name, ["nan" if v != v else None if e is None else str(v) for v, e in zip(values, empty, strict=True)]
    )


def like(frame: pl.DataFrame, *, pandas: bool) -> Frame:
    """`frame` in the kind the caller works with."""
    return frame.to_pandas() if pandas else frame


def as_of_day(as_of: date | datetime) -> date:
    """The last whole day that may be known: a date is taken as its end, a moment excludes the day it is part of."""
    if isinstance(as_of, datetime):
        return as_of.date() - timedelta(days=1)
    return as_of


def text_column(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Expression for an identifier column as text, whatever its type. Whole numbers with a gap, which pandas reads as 7.0,
    are the text of the whole number."""
    dtype, text = frame.schema[column], pl.col(column).cast(pl.String)
    if dtype.is_float():
        return text.str.strip_suffix(".0")
    return pl.col(column) if dtype == pl.String else text


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
