"""Days and holidays."""

import json
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

from pipelines.sql import literal
from pipelines.transform.as_of import AsOf

COUNTRIES = (
    *("CN", "HK", "MO", "TW", "JP", "KR", "SG", "MY", "TH", "VN", "ID", "PH", "AE", "AU", "NZ", "US", "CA"),
    *("MX", "BR", "GB", "IE", "DE", "AT", "CH", "FR", "BE", "NL", "LU", "ES", "PT", "IT", "PL", "CZ", "SE", "NO"),
    *("DK", "FI", "EE", "LV", "LT", "HU", "RO", "GR", "TR", "ZA"),
)
"""Where a location may be whose holidays are known; elsewhere there are none in the table."""
YEARS_BACK = 20
DAYS_AHEAD = 400


def dim_calendar(as_of: AsOf) -> str:
    """One row per day, from the first business day to over a year after the as-of date. Holidays are China's."""
    years = _years(as_of)
    zh, en, makeup = _china(years)
    holidays = [(day, zh[day], en[day]) for day in sorted(zh)]
    new_years = [(day,) for day in _lunar_new_years(zh)]
    return f"""
      WITH holiday(calendar_date, holiday_name, holiday_name_en) AS ({_values(holidays)}),
      makeup(calendar_date) AS ({_values((day,) for day in makeup)}),
      new_year(new_year_date) AS ({_values(new_years)}),
      first_day AS (
        SELECT greatest(DATE '{years[0]}-01-01', least({as_of.day_sql}, min(business_date))) AS first_date
        FROM (SELECT business_date FROM raw.orders UNION ALL SELECT business_date FROM raw.stock_movement)
      ), day AS (
        SELECT unnest(generate_series(first_date, {as_of.day_sql} + {DAYS_AHEAD}, INTERVAL 1 DAY))::DATE AS calendar_date
        FROM first_day
      ), nearest AS (
        SELECT calendar_date, arg_min(new_year_date - calendar_date, abs(new_year_date - calendar_date)) AS days
        FROM day, new_year GROUP BY ALL
      )
      SELECT calendar_date, isoyear(calendar_date) AS iso_year, weekofyear(calendar_date) AS iso_week,
        isodow(calendar_date) AS weekday, date_trunc('month', calendar_date)::DATE AS month,
        date_trunc('quarter', calendar_date)::DATE AS quarter, calendar_date = last_day(calendar_date) AS is_month_end,
        isodow(calendar_date) >= 6 AS is_weekend, h.holiday_name IS NOT NULL AS is_holiday, h.holiday_name,
        h.holiday_name_en, m.calendar_date IS NOT NULL AS is_makeup_workday,
        month(calendar_date) = 11 AND day(calendar_date) = 11 AS is_double_eleven,
        month(calendar_date) = 6 AND day(calendar_date) = 18 AS is_six_eighteen, n.days AS days_to_lunar_new_year
      FROM day LEFT JOIN holiday h USING (calendar_date) LEFT JOIN makeup m USING (calendar_date)
        JOIN nearest n USING (calendar_date)"""


def dim_holiday(as_of: AsOf) -> str:
    """One row per country where we have a location, and public holiday."""
    return f"""
      SELECT h[1] AS country, h[2]::DATE AS holiday_date, h[3] AS holiday_name, h[4] AS holiday_name_en
      FROM (SELECT unnest(from_json({literal(_all_holidays(_years(as_of)))}, '[["VARCHAR"]]')) AS h)
      WHERE h[1] IN (SELECT country FROM raw.location)"""


def _years(as_of: AsOf) -> range:
    return range(as_of.day.year - YEARS_BACK, as_of.day.year + 3)


@lru_cache(maxsize=4)
def _china(years: range) -> tuple[dict[date, str], dict[date, str], list[date]]:
    """Names in zh and en by day, and the weekend days worked instead."""
    import holidays

    zh = holidays.country_holidays("CN", years=years, language="zh_CN")
    en = holidays.country_holidays("CN", years=years, language="en_US")
    makeup = sorted(day for day in zh.weekend_workdays if day.year in years)
    return dict(zh), dict(en), makeup


def _lunar_new_years(zh: dict[date, str]) -> list[date]:
    """The first day of 春节 of each year; the eve (农历除夕), a holiday in some years, has a name of its own."""
    first: dict[int, date] = {}
    for day in sorted(zh):
        if zh[day].startswith("春节"):
            first.setdefault(day.year, day)
    return list(first.values())


@lru_cache(maxsize=4)
def _all_holidays(years: range) -> str:
    """Every country's holidays as one JSON text: DuckDB reads it ten times faster than thousands of VALUES."""
    rows = [row for country in COUNTRIES for row in _holidays(country, years)]
    return json.dumps(rows, ensure_ascii=False)


def _holidays(country: str, years: range) -> list[tuple[str, str, str | None, str]]:
    import holidays

    languages = holidays.country_holidays(country).supported_languages
    en = holidays.country_holidays(country, years=years, language="en_US" if "en_US" in languages else None)
    zh = holidays.country_holidays(country, years=years, language="zh_CN") if "zh_CN" in languages else {}
    return [(country, day.isoformat(), zh.get(day), en[day]) for day in sorted(en)]


def _values(rows: Iterable[tuple[date | str, ...]]) -> str:
    return "VALUES " + ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
