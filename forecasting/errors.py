"""What this package refuses, and why. The class says what the caller can do, the attributes hold the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ForecastError(ValueError):
    """Something in the call itself is wrong, so that no series can be worked out. `code` is stable, for programs."""

    code = "E_FORECAST"

    def __init__(self, message: str, message_zh: str = "") -> None:
        self.message_en, self.message_zh = message, message_zh or message
        super().__init__(message)

    def text(self, language: str = "en") -> str:
        """The sentence in `zh` (where it has one) or `en`."""
        return self.message_zh if language == "zh" else self.message_en


class BadFrame(ForecastError):
    """A column is missing or the frame is of a kind we can't read."""

    code = "E_FORECAST_FRAME"


class MissingColumns(BadFrame):
    """A frame lacks columns that it must have.

    Attributes:
        frame: Which frame, as the argument is called.
        missing: Column -> the caller's column that is probably meant to be it, None where none is near.
        found: The columns that there are.
    """

    code = "E_FORECAST_COLUMN"

    def __init__(self, *, frame: str, missing: Mapping[str, str | None], found: Sequence[str]) -> None:
        self.frame, self.missing, self.found = frame, dict(missing), tuple(found)
        en = ", ".join(f"{c} (did you mean it by {near!r}?)" if near else c for c, near in missing.items())
        zh = "、".join(f"{c}（是否就是 {near!r}？）" if near else c for c, near in missing.items())
        super().__init__(
            f"{frame} needs column(s) {en}; it has {', '.join(found) or 'none'}",
            f"{frame} 缺少列：{zh}；现有列：{'、'.join(found) or '无'}",
        )


class FrameWarning(UserWarning):
    """A frame can be read, and perhaps not as it is meant. `warnings.simplefilter("error", FrameWarning)` refuses it."""

    code = "W_FORECAST_FRAME"

    def __init__(self, message: str, message_zh: str) -> None:
        self.message_en, self.message_zh = message, message_zh
        super().__init__(message)

    def text(self, language: str = "en") -> str:
        """The sentence in `zh` or `en`."""
        return self.message_zh if language == "zh" else self.message_en


class MisspeltColumn(FrameWarning):
    """A frame has a column that is not read and looks like one that would be; warned of, as it may be the caller's own.

    Attributes:
        frame: Which frame, as the argument is called.
        column: What the caller wrote.
        nearest: The column that would be read, and that the frame lacks.
    """

    code = "W_FORECAST_COLUMN"

    def __init__(self, *, frame: str, column: str, nearest: str) -> None:
        self.frame, self.column, self.nearest = frame, column, nearest
        super().__init__(
            f"{frame}: column {column!r} is not read; did you mean {nearest}?",
            f"{frame}：列 {column!r} 未使用；是否想写 {nearest}？",
        )


class MonthlyRows(FrameWarning):
    """Every row of a history lies on the first, or the last, day of a month: sums of months, it seems, and read as sales of
    that one day.

    Attributes:
        days: How many different days there are.
    """

    code = "W_FORECAST_MONTHLY"

    def __init__(self, *, days: int) -> None:
        self.days = days
        super().__init__(
            f"history: all {days} days with rows are the first or last of a month; sums of months are read as demand of that "
            "one day, so spread each over the days of its month",
            f"history：{days} 个有数据的日期全在月初或月末；月合计会被当作当天的需求，请先摊到当月各天",
        )


class DuplicateDays(ForecastError):
    """The same series has several rows for one day, and nobody said that they may be summed."""

    code = "E_DUPLICATE_DAY"

    def __init__(self, *, rows: int, unique_id: str, ds: object) -> None:
        self.rows, self.unique_id, self.ds = rows, unique_id, ds
        super().__init__(
            f"{rows} rows repeat a (unique_id, ds) that is there already, first {unique_id} on {ds}; "
            'pass duplicates="sum" if they are parts of one day\'s demand',
            f"{rows} 行的 (unique_id, ds) 与前面的行重复，第一处是 {unique_id} 的 {ds}；"
            '若是同一天需求的几部分，请写 duplicates="sum"',
        )


class BadSetting(ForecastError):
    """A parameter is outside what makes sense."""

    code = "E_FORECAST_SETTING"
