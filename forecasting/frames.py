"""The edge: Polars or pandas in, the same kind out. Inside everything is Polars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from forecasting.errors import BadFrame

if TYPE_CHECKING:
    import pandas as pd

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame
else:
    Frame = object

FLOAT = pl.Float64()


def is_pandas(frame: object) -> bool:
    """Whether `frame` is a pandas DataFrame, without importing pandas for somebody who doesn't use it."""
    return type(frame).__module__.partition(".")[0] == "pandas"


def to_polars(frame: Frame, *, name: str, needs: Sequence[str]) -> pl.DataFrame:
    """`frame` as Polars with columns of plain types; mixed Python objects become text, to be judged row by row.

    Raises:
        BadFrame: It is no frame, or a column of `needs` is missing.
    """
    if isinstance(frame, pl.LazyFrame):
        try:
            frame = frame.collect()
        except pl.exceptions.PolarsError as error:
            raise BadFrame(f"{name} could not be read: {error}") from error
    if isinstance(frame, pl.DataFrame):
        out = frame
    elif is_pandas(frame):
        columns: dict[str, pl.Series] = {}
        for column in frame.columns:  # pandas columns of dtype object may hold anything, also numbers beside text
            values = frame[column]
            if values.dtype == object:
                columns[str(column)] = _plain_objects(str(column), list(values))
            else:
                columns[str(column)] = pl.from_pandas(values).alias(str(column))
        out = pl.DataFrame(columns)
    else:
        raise BadFrame(f"{name} must be a Polars or pandas DataFrame, got {type(frame).__name__}")
    objects = [column for column, dtype in out.schema.items() if dtype == pl.Object]
    if objects:
        out = out.with_columns([_plain_objects(column, out[column].to_list()) for column in objects])
    missing = [column for column in needs if column not in out.columns]
    if missing:
        raise BadFrame(f"{name} needs column(s) {', '.join(missing)}; it has {', '.join(out.columns)}")
    return out


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


def one_row_each(frame: Frame, *, name: str, needs: Sequence[str] = ()) -> pl.DataFrame:
    """`frame` as Polars with its unique_id as text, which every row has and no two share; and columns `needs`.

    Raises:
        BadFrame: A unique_id appears twice or is missing, or a column is.
    """
    out = to_polars(frame, name=name, needs=("unique_id", *needs))
    out = out.with_columns(text_column(out, "unique_id"))
    if out["unique_id"].is_null().any() or out["unique_id"].n_unique() != out.height:
        raise BadFrame(f"{name} must have one row per unique_id, and none without")
    return out
