"""What the text of a cell may mean. Numbers are those of the cases in cases/bad_input.md."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders_core.intake.fields import (
    neutralise,
    parse_choice,
    parse_currency,
    parse_date,
    parse_id,
    parse_instant,
    parse_lead_time_days,
    parse_money,
    parse_price,
    parse_qty,
    parse_signed_qty,
    parse_sku,
    parse_stock,
    parse_text,
    restore,
)
from orders_core.intake.problems import Problem, shown


def code(parsed: object) -> str:
    assert isinstance(parsed, Problem), f"accepted as {parsed!r}"
    assert parsed.message("zh") != parsed.message("en")
    return parsed.code


@pytest.mark.parametrize(
    "raw", ["1,50", "1.234,50", "1,234.50", "¥1", "1e3", "NaN", "inf", "1_000", "1.", ".5", "--1", "²"]
)
def test_case_09_money_with_a_comma_or_anything_else_is_refused_never_guessed(raw: str) -> None:
    assert code(parse_money(raw, currency="CNY")) == "E_NUMBER"


@pytest.mark.parametrize(
    ("raw", "currency", "cents"),
    [
        ("6.95", "GBP", 695),
        ("0.1", "CNY", 10),
        ("-53594.36", "GBP", -5359436),
        ("0.29", "CNY", 29),  # 0.29 * 100 is 28.999… as a float
        ("1234567890.12", "CNY", 123456789012),
        ("1500", "JPY", 1500),
        ("1.5000", "CNY", 150),
        ("-0.05", "CNY", -5),
        (" 7.5 ", "CNY", 750),
    ],
)
def test_money_is_whole_cents(raw: str, currency: str, cents: int) -> None:
    assert parse_money(raw, currency=currency) == cents


def test_money_finer_than_a_cent_is_refused() -> None:
    assert code(parse_money("0.001", currency="GBP")) == "E_CENT"
    assert code(parse_money("1.5", currency="JPY")) == "E_CENT"
    assert code(parse_price("0.00", currency="GBP")) == "E_PRICE"
    assert code(parse_price("-1", currency="GBP")) == "E_PRICE"
    assert code(parse_price("", currency="GBP")) == "E_REQUIRED"


@given(cents=st.integers(-(10**12), 10**12), places=st.integers(2, 6))
def test_money_reads_back_every_amount_whatever_the_number_of_decimals(cents: int, places: int) -> None:
    assert parse_money(f"{Decimal(cents).scaleb(-2):.{places}f}", currency="CNY") == cents


@pytest.mark.parametrize("raw", ["6.90123E+12", "6E+18", "6901234567890120000", "690123456789012000"])
def test_case_13_a_number_a_spreadsheet_damaged_is_refused_as_an_id(raw: str) -> None:
    problem = parse_id(raw, "order_id")
    assert code(problem) == "E_PRECISION_LOST"
    assert code(parse_sku(raw)) == "E_PRECISION_LOST"
    assert isinstance(problem, Problem) and "text" in problem.message("en")


@pytest.mark.parametrize("raw", ["00123", "1E5", "6901234567890", "690123456789012345", "SO-2024/001", "订单-7"])
def test_case_14_ids_stay_as_they_are_written(raw: str) -> None:
    assert parse_id(raw) == raw


@pytest.mark.parametrize(
    "raw", ["0", "-3", "1.5", "1_000", "²", "1e3", "+1", "१२", "12345678", "1 000", "③", "0x1F", "1.0"]
)
def test_case_15_a_quantity_is_a_plain_whole_number(raw: str) -> None:
    assert code(parse_qty(raw)) == "E_QTY"


def test_case_15_full_width_digits_are_read_with_a_note() -> None:
    notes: list[Problem] = []
    assert parse_qty("１２", notes=notes) == 12
    assert [(note.code, note.refuses) for note in notes] == [("N_WIDTH", False)]
    assert parse_qty(" 7 ", notes=notes) == 7
    assert len(notes) == 1


@given(st.integers(-(10**8), 10**8))
def test_quantities_are_read_within_their_limits_only(qty: int) -> None:
    assert (parse_qty(str(qty)) == qty) == (1 <= qty <= 9_999_999)
    assert (parse_signed_qty(str(qty)) == qty) == (1 <= abs(qty) <= 9_999_999)
    assert (parse_stock(str(qty)) == qty) == (0 <= qty <= 9_999_999)
    assert (parse_stock(str(qty), delta=True) == qty) == (abs(qty) <= 9_999_999)


@given(st.text(max_size=8))
def test_no_text_that_is_not_a_number_becomes_a_quantity(text: str) -> None:
    parsed = parse_qty(text)
    if isinstance(parsed, int):
        assert str(parsed) == "".join(str(int(char)) for char in text.strip())


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("01/02/2024", "ambiguous"),
        ("1.2.24", "ambiguous"),
        ("2024-02-30", "none"),
        ("45323", ""),
        ("2024年2月1日", ""),
        ("２０２４-02-01", ""),
        ("2024-2-1", ""),
        ("20240201", ""),
        ("0024-02-01", "range"),
        ("2199-01-01", "range"),
    ],
)
def test_case_17_only_iso_dates_are_read(raw: str, why: str) -> None:
    problem = parse_date(raw)
    assert code(problem) == "E_DATE"
    assert isinstance(problem, Problem) and problem.why == why


def test_case_17_a_declared_format_is_read_and_nothing_else() -> None:
    assert parse_date("01/02/2024", format="%d/%m/%Y") == date(2024, 2, 1)
    assert parse_date("2024年2月1日", format="%Y年%m月%d日") == date(2024, 2, 1)
    assert code(parse_date("2024-02-01", format="%d/%m/%Y")) == "E_DATE"
    assert code(parse_date("１/02/2024", format="%d/%m/%Y")) == "E_DATE"


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_case_18_a_time_needs_a_zone() -> None:
    assert code(parse_instant("2024-03-10 12:30")) == "E_ZONE"
    assert code(parse_instant("2024-03-10 12:30", zone="Mars/Base")) == "E_ZONE"
    assert code(parse_instant("2024-03-10 12:30", zone="../etc/passwd")) == "E_ZONE"
    assert parse_instant("2024-03-10 12:30", zone="Asia/Shanghai") == micros(datetime(2024, 3, 10, 4, 30, tzinfo=UTC))
    assert parse_instant("2024-03-10T12:30:01.5+05:30") == micros(datetime(2024, 3, 10, 7, 0, 1, 500_000, tzinfo=UTC))
    assert parse_instant("2024-03-10T12:30Z") == micros(datetime(2024, 3, 10, 12, 30, tzinfo=UTC))
    assert parse_instant("2024-03-10", zone="Asia/Shanghai") == micros(datetime(2024, 3, 9, 16, tzinfo=UTC))


def test_case_18_a_time_the_clock_jumped_over_does_not_exist() -> None:
    assert code(parse_instant("2024-03-10 02:30", zone="America/New_York")) == "E_TIME_NONEXISTENT"


def test_case_18_a_time_that_happened_twice_needs_its_offset() -> None:
    problem = parse_instant("2024-11-03 01:30", zone="America/New_York")
    assert code(problem) == "E_TIME_AMBIGUOUS"
    assert isinstance(problem, Problem)
    assert (problem.facts["first"], problem.facts["second"]) == ("-0400", "-0500")
    early = parse_instant("2024-11-03 01:30-04:00", zone="America/New_York")
    late = parse_instant("2024-11-03 01:30-05:00", zone="America/New_York")
    assert isinstance(early, int) and isinstance(late, int)
    assert late - early == 3_600_000_000


@given(
    at=st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    zone=st.sampled_from(["Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC"]),
)
def test_every_moment_written_with_its_offset_is_read_back(at: datetime, zone: str) -> None:
    local = at.astimezone(ZoneInfo(zone))
    assert parse_instant(at.isoformat()) == micros(at)
    without = parse_instant(local.replace(tzinfo=None).isoformat(), zone=zone)
    if isinstance(without, int):
        assert without == micros(at)
    else:
        assert without.code == "E_TIME_AMBIGUOUS"


@pytest.mark.parametrize("raw", ["AB1 ", "\u00a0AB1", "ＡＢ１", "AB1\u3000"])
def test_case_23_spaces_and_full_width_letters_are_folded(raw: str) -> None:
    assert parse_sku(raw) == "AB1"


@pytest.mark.parametrize(
    ("raw", "char"),
    [("AB\u200b1", "U+200B"), ("\u0410B1", "U+0410"), ("AB\u00ad1", "U+00AD"), ("灯1", "U+706F"), ("AB\t1", "U+0009")],
)
def test_case_23_what_no_eye_can_tell_is_named(raw: str, char: str) -> None:
    problem = parse_sku(raw)
    assert code(problem) == "E_SKU_CHAR"
    assert isinstance(problem, Problem)
    assert char in problem.message("en") and char in problem.message("zh")


def test_case_23_case_is_folded_where_the_mapping_says_so() -> None:
    assert (parse_sku("85123a"), parse_sku("85123a", fold_case=True)) == ("85123a", "85123A")
    assert code(parse_sku("  ")) == "E_REQUIRED"


HOSTILE = [
    '=HYPERLINK("http://x","y")',
    "+8613800000000",
    "@SUM(1)",
    "<img src=x onerror=y>",
    "[a](javascript:x)",
    "-1+1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_case_24_hostile_text_is_stored_as_written_and_harmless_in_a_spreadsheet(text: str) -> None:
    assert parse_text(text) == text
    out = neutralise(text)
    assert out[0] not in "=+-@"
    assert parse_text(out) == text


@given(st.one_of(st.text(max_size=20), st.text("'=+-@\t\r＝a", max_size=6)))
def test_case_24_what_we_write_out_reads_back_the_same(text: str) -> None:
    out = neutralise(text)
    assert restore(out) == text
    assert not out or out[0] not in "=+-@\t\r＝＋－＠"


def test_texts_hold_no_control_characters_and_have_a_length() -> None:
    assert parse_text("1 Road\r\nTown\t") == "1 Road\r\nTown\t"
    assert code(parse_text("a\x07b")) == "E_TEXT"
    assert code(parse_text("x" * 5_000)) == "E_LENGTH"
    assert code(parse_id("x" * 65)) == "E_LENGTH"
    assert code(parse_id("a\u200bb")) == "E_TEXT"


@pytest.mark.parametrize("raw", ["-1", "1.5", "1e12", "1000000000000", "12 箱", "abc"])
def test_case_54_stock_outside_its_range_is_refused(raw: str) -> None:
    assert code(parse_stock(raw)) == "E_STOCK"


def test_stock_counts_and_stock_changes_differ_in_sign_only() -> None:
    assert (parse_stock("0"), parse_stock("-5", delta=True), parse_stock("+5", delta=True)) == (0, -5, 5)
    assert code(parse_stock("+5")) == "E_STOCK"


@pytest.mark.parametrize("raw", ["-2", "0", "7 days", "1.5", "9999"])
def test_case_60_a_lead_time_is_whole_days(raw: str) -> None:
    assert code(parse_lead_time_days(raw)) == "E_LEAD_TIME"


def test_case_60_a_blank_lead_time_is_left_to_the_default() -> None:
    assert (parse_lead_time_days("  "), parse_lead_time_days("7")) == (None, 7)


def test_choices_and_currencies() -> None:
    assert parse_choice(" Credit ", "payment", ("prepaid", "credit")) == "credit"
    assert code(parse_choice("later", "payment", ("prepaid", "credit"))) == "E_CHOICE"
    assert (parse_currency("cny"), code(parse_currency("RMB!"))) == ("CNY", "E_CURRENCY")


def test_messages_show_the_invisible() -> None:
    assert shown("AB\u200b1") == '"AB<U+200B>1"'
    assert len(shown("x" * 500)) < 70
