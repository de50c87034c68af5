"""What this package refuses, and why. The class says what the caller can do, the attributes hold the facts."""


class ForecastError(ValueError):
    """Something in the call itself is wrong, so that no series can be worked out. `code` is stable, for programs."""

    code = "E_FORECAST"


class BadFrame(ForecastError):
    """A column is missing or the frame is of a kind we can't read."""

    code = "E_FORECAST_FRAME"


class DuplicateDays(ForecastError):
    """The same series has several rows for one day, and nobody said that they may be summed."""

    code = "E_DUPLICATE_DAY"

    def __init__(self, *, rows: int, unique_id: str, ds: object) -> None:
        self.rows, self.unique_id, self.ds = rows, unique_id, ds
        super().__init__(
            f"{rows} rows repeat a (unique_id, ds) that is there already, first {unique_id} on {ds}; "
            'pass duplicates="sum" if they are parts of one day\'s demand'
        )


class BadSetting(ForecastError):
    """A parameter is outside what makes sense."""

    code = "E_FORECAST_SETTING"
