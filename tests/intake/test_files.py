"""Opening and reading people's files. Numbers are those of the cases in cases/bad_input.md."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import textwrap
import zipfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders_core.intake.files import Declared, Limits, Row, Source, open_source, require_answers, stored_name
from orders_core.intake.problems import MESSAGES, FileRefused
from tests.intake.workbooks import WORKBOOK, write_parts, write_workbook


def file(folder: Path, content: bytes | str, name: str = "orders.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(source: Source) -> list[Row]:
    return [row for batch in source.batches() for row in batch]


def cells(source: Source) -> list[list[str]]:
    return [row.cells for row in rows(source)]


def refused(path: Path, declared: Declared | None = None, limits: Limits | None = None) -> FileRefused:
    """What opening or reading the file is refused with, in both languages."""
    with pytest.raises(FileRefused) as caught:
        rows(open_source(path, declared, limits))
    assert caught.value.text("zh") != caught.value.text("en")
    return caught.value


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_case_01_an_empty_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    error = refused(file(tmp_path, content))
    assert error.code == "E_EMPTY_FILE"
    assert "orders.csv" in str(error)
    assert error.exit_code == 3


def test_case_02_a_header_without_rows_is_no_rows(tmp_path: Path) -> None:
    source = open_source(file(tmp_path, "order_no,sku,qty\n"))
    assert source.header == ("order_no", "sku", "qty")
    assert rows(source) == []


def test_case_05_a_byte_order_mark_is_taken_off_once_at_the_start_only(tmp_path: Path) -> None:
    source = open_source(file(tmp_path, "\ufefforder_no,sku\n\ufeffA1,\ufeffLAMP\n"))
    assert source.header[0] == "order_no"
    assert cells(source) == [["\ufeffA1", "\ufeffLAMP"]]


def test_case_06_a_gb18030_file_is_read_after_a_person_saw_the_first_rows(tmp_path: Path) -> None:
    lines = ["订单号,收货人"] + [f"A{n},联通营业厅" for n in range(9)]
    path = file(tmp_path, "\n".join(lines).encode("gbk"))
    source = open_source(path)
    (question,) = source.questions
    assert (question.about, question.answer) == ("encoding", "gb18030")
    assert question.preview[0] == ("订单号", "收货人")
    assert len(question.preview) == 1 + 5
    with pytest.raises(FileRefused) as unanswered:
        require_answers(source)
    assert (unanswered.value.code, unanswered.value.exit_code) == ("E_CONFIRM", 2)

    answered = open_source(path, Declared(encoding="GBK"))
    require_answers(answered)
    assert answered.encoding == "gb18030"
    assert cells(answered)[0] == ["A0", "联通营业厅"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-7", "detect"])
def test_case_06_latin_1_and_guessing_are_never_accepted(tmp_path: Path, encoding: str) -> None:
    error = refused(file(tmp_path, "a,b\n"), Declared(encoding=encoding))
    assert (error.code, error.exit_code) == ("E_ENCODING", 2)


@pytest.mark.parametrize(
    ("content", "offset", "line"),
    [
        ("a,b\n1,好\n".encode() + "2,好".encode()[:-1], 12, 3),  # cut inside the last character
        ("a,b\n1,好\n".encode() + b"2,\xff\xff\n", 12, 3),
        ("甲,乙\n".encode("gbk") + b"1,\xff\xff\n", 0, 1),
    ],
)
def test_case_07_bytes_of_no_encoding_are_named_by_offset_and_line(
    tmp_path: Path, content: bytes, offset: int, line: int
) -> None:
    error = refused(file(tmp_path, content))
    assert error.code == "E_ENCODING"
    facts = error.problem.facts
    assert (facts["offset"], facts["line"]) == (offset, line)


def test_case_07_the_offset_is_right_far_into_a_large_file(tmp_path: Path) -> None:
    good = "a,b\n" + "1,好\n" * 400_000
    error = refused(file(tmp_path, good.encode() + b"\x80,x\n"), Declared(encoding="utf-8"))
    assert error.problem.facts["offset"] == len(good.encode())
    assert error.problem.facts["line"] == 400_002


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_case_08_utf_16_is_recognised_by_its_mark(tmp_path: Path, encoding: str) -> None:
    path = file(tmp_path, "\ufeff订单号\tsku\r\nA1\t灯\r\n".encode(encoding), "unicode text.txt")
    source = open_source(path, Declared(delimiter="tab"))
    assert source.encoding == "utf-16"
    assert (source.header, cells(source)) == (("订单号", "sku"), [["A1", "灯"]])


def test_case_08_utf_16_without_a_mark_never_becomes_strings_full_of_nul(tmp_path: Path) -> None:
    error = refused(file(tmp_path, "order_no,sku\r\nA1,LAMP\r\n".encode("utf-16-le")))
    assert error.code == "E_ENCODING"
    assert "UTF-16" in str(error)


def test_case_09_another_delimiter_is_proposed_and_must_be_confirmed(tmp_path: Path) -> None:
    path = file(tmp_path, "order_no;sku;price\nA1;LAMP;1,50\n")
    (question,) = open_source(path).questions
    assert (question.about, question.answer) == ("delimiter", "semicolon")
    declared = open_source(path, Declared(delimiter=question.answer))
    assert declared.questions == ()
    assert cells(declared) == [["A1", "LAMP", "1,50"]]  # still text: parse_money refuses it


def test_case_09_a_comma_inside_quotes_is_no_delimiter(tmp_path: Path) -> None:
    (question,) = open_source(file(tmp_path, '"price, net, each"\tsku\nA\tB\n')).questions
    assert question.answer == "tab"


def test_case_09_tsv_and_plain_commas_need_no_question(tmp_path: Path) -> None:
    assert open_source(file(tmp_path, "a\tb\n1\t2\n", "x.tsv")).questions == ()
    assert open_source(file(tmp_path, "a,b\n1,2\n")).questions == ()
    assert open_source(file(tmp_path, "sku\nLAMP\n")).questions == ()


def test_case_11_a_quoted_field_may_hold_line_ends_and_the_row_is_where_it_starts(tmp_path: Path) -> None:
    content = 'id,address\r\n1,"1 Road,\r\nTown"\r\n\r\n2,"a\nb\nc"\r\n3,plain\r\n'
    read = rows(open_source(file(tmp_path, content)))
    assert [(row.line, row.cells) for row in read] == [
        (2, ["1", "1 Road,\r\nTown"]),
        (5, ["2", "a\nb\nc"]),
        (8, ["3", "plain"]),
    ]


def test_case_12_rows_that_are_too_wide_or_too_narrow_are_named(tmp_path: Path) -> None:
    source = open_source(file(tmp_path, "a,b,c\n1,2\n1,2,3\n1,2,3,4\n"))
    read = rows(source)
    problems = [row.problem for row in read]
    assert problems[1] is None
    assert problems[0] is not None and problems[2] is not None
    assert problems[0].code == problems[2].code == "E_ROW_WIDTH"
    assert problems[0].message("en") == "expected 3 fields, got 2"
    assert problems[2].raw == "1,2,3,4"


def test_case_12_quotes_that_do_not_pair_spoil_their_row_only(tmp_path: Path) -> None:
    read = rows(open_source(file(tmp_path, 'a,b\n"x"y,1\n2,3\n')))
    assert read[0].problem is not None
    assert read[0].problem.code == "E_QUOTE"
    assert read[1].cells == ["2", "3"]


def test_case_13_a_sheet_number_that_lost_digits_comes_as_e_notation(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "o.xlsx", [["order_no", "qty"], [6901234567890123456, 2], ["00123", 1]])
    read = cells(open_source(path))
    assert read[0][0].startswith("6.9012345678901") and read[0][0].endswith("E+18")
    assert read[1][0] == "00123"


def test_case_14_zeros_and_e_numbers_stay_text_in_every_kind_of_file(tmp_path: Path) -> None:
    values = ["00123", "1E5", "0012.50"]
    text = open_source(file(tmp_path, "a,b,c\n" + ",".join(values) + "\n"))
    sheet = open_source(write_workbook(tmp_path / "o.xlsx", [["a", "b", "c"], values]))
    table = pa.table({name: [value] for name, value in zip("abc", values, strict=True)})
    pq.write_table(table, tmp_path / "o.parquet")
    assert cells(text) == cells(sheet) == cells(open_source(tmp_path / "o.parquet")) == [values]


def test_case_14_a_number_shown_with_leading_zeros_keeps_them(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "o.xlsx", [["a"], [123]], {"A2": "00000"})
    assert cells(open_source(path)) == [["00123"]]


def test_case_25_limits_stop_a_file_early_and_name_the_number(tmp_path: Path) -> None:
    wide = refused(file(tmp_path, ",".join(f"c{n}" for n in range(20_000)) + "\n"))
    assert (wide.code, wide.problem.facts["actual"]) == ("E_LIMIT", 20_000)
    field = refused(file(tmp_path, "a,b\n1," + "x" * 200_000 + "\n"))
    assert field.code == "E_LIMIT"
    open_quote = refused(file(tmp_path, 'a,b\n1,"' + "x\n" * 1_000_000))
    assert open_quote.code == "E_LIMIT"
    assert "line 2" in str(open_quote)
    long_row = refused(file(tmp_path, "a,b\n" + "x," * 600_000 + "\n"))
    assert (long_row.code, long_row.problem.why) == ("E_LIMIT", "row")
    many = refused(file(tmp_path, "a\n" + "1\n" * 11), limits=Limits(rows=10))
    assert (many.problem.facts["limit"], many.problem.facts["actual"]) == (10, 11)
    big = refused(file(tmp_path, "a\n" + "1\n" * 100), limits=Limits(file_bytes=50))
    assert big.code == "E_LIMIT"
    pq.write_table(pa.table({"a": list(range(20))}), tmp_path / "o.parquet")
    assert refused(tmp_path / "o.parquet", limits=Limits(rows=10)).code == "E_LIMIT"


MEMORY = """
import resource, sys
from pathlib import Path
from orders_core.intake.files import open_source
from orders_core.intake.problems import FileRefused
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    count = sum(len(batch) for batch in open_source(Path(sys.argv[1])).batches())
except FileRefused as refused:
    count = refused.code
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def grown_kib(path: Path) -> tuple[str, int]:
    """What a fresh process read of the file, and by how much its memory peaked above its start, in KiB."""
    out = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True).stdout
    count, grown = out.split()
    return count, int(grown)


def test_case_25_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    line = "A1000,LAMP-1,12,19.99,2024-02-01 10:00," + "客户" * 30 + "\n"
    small.write_text("order_no,sku,qty,price,at,note\n" + line * 20_000, "utf-8")
    with large.open("w", encoding="utf-8") as out:
        out.write("order_no,sku,qty,price,at,note\n")
        for _ in range(20):
            out.write(line * 20_000)
    assert large.stat().st_size > 80_000_000
    few, little = grown_kib(small)
    many, much = grown_kib(large)
    assert (few, many) == ("20000", "400000")
    assert much < little + 12_000


def test_case_25_a_field_of_fifty_megabytes_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "field.csv"
    path.write_bytes(b'a,b\n1,"' + b"x" * 50_000_000 + b'"\n')
    answer, grown = grown_kib(path)
    assert answer == "E_LIMIT"
    assert grown < 40_000


def test_case_26_a_workbook_named_csv_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    write_workbook(tmp_path / "o.xlsx", [["a"], [1]])
    (tmp_path / "o.xlsx").rename(tmp_path / "o.csv")
    error = refused(tmp_path / "o.csv")
    assert error.code == "E_FILE_TYPE"
    assert "Excel" in str(error)
    assert refused(file(tmp_path, "a,b\n1,2\n", "text.xlsx")).code == "E_FILE_TYPE"
    assert refused(file(tmp_path, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, "o.xls")).code == "E_FILE_TYPE"
    assert refused(file(tmp_path, b"PAR1 not really", "o.parquet")).code == "E_FILE_TYPE"
    assert refused(file(tmp_path, b"PK\x03\x04 cut off", "c.xlsx")).code == "E_FILE_TYPE"


def test_case_26_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = write_parts(tmp_path / "bomb.xlsx", b"<worksheet>" + b" " * 60_000_000 + b"</worksheet>")
    assert bomb.stat().st_size < 100_000
    assert refused(bomb).code == "E_LIMIT"
    answer, grown = grown_kib(bomb)
    assert (answer, grown < 20_000) == ("E_LIMIT", True)


def test_case_26_too_many_members_or_too_much_in_all_is_refused(tmp_path: Path) -> None:
    crowd = write_parts(tmp_path / "crowd.xlsx", "<worksheet/>", {f"x/{n}": b"x" for n in range(50)})
    assert refused(crowd, limits=Limits(zip_members=20)).code == "E_LIMIT"
    assert refused(crowd, limits=Limits(unpacked_bytes=100)).code == "E_LIMIT"
    huge_list = tmp_path / "list.xlsx"
    with zipfile.ZipFile(huge_list, "w") as archive:
        for n in range(12_000):
            archive.writestr(f"{'d' * 60}/{n}", b"")
    assert refused(huge_list).problem.facts["what"] == "bytes of member list"


@pytest.mark.parametrize("part", ["sheet", "workbook"])
def test_case_26_xml_entities_are_refused_wherever_they_stand(tmp_path: Path, part: str) -> None:
    doctype = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    sheet = '<worksheet><sheetData><row r="1"><c t="inlineStr"><is><t>&e;</t></is></c></row></sheetData></worksheet>'
    if part == "sheet":
        path = write_parts(tmp_path / "x.xlsx", doctype + sheet)
    else:
        path = write_parts(tmp_path / "x.xlsx", sheet.replace("&e;", "a"), workbook=doctype + WORKBOOK)
    assert refused(path).code == "E_XML"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/cron.d/x", "x"),
        ("C:\\temp\\CON.csv", "CON.csv"),
        ("a\0b.csv", "ab.csv"),
        ("x" * 300, "x" * 120),
        ("订单😀.csv", "订单😀.csv"),
        ("\u202egpj.csv", "gpj.csv"),
        ("", "unnamed"),
    ],
)
def test_case_27_a_file_name_is_only_text_to_show(name: str, shown: str) -> None:
    assert stored_name(name) == shown


def test_case_61_a_file_cut_off_in_a_quoted_field_is_refused(tmp_path: Path) -> None:
    error = refused(file(tmp_path, 'sku,name\nA,lamp\nB,"red ru'))
    assert (error.code, error.problem.facts["line"]) == ("E_TRUNCATED", 3)


def test_case_61_a_closing_row_count_tells_a_cut_file(tmp_path: Path) -> None:
    whole = file(tmp_path, "sku,name\nA,lamp\nB,rug\n#rows,2\n")
    assert len(rows(open_source(whole))) == 2
    assert refused(file(tmp_path, "sku,name\nA,lamp\n#rows,2\n")).code == "E_TRUNCATED"
    assert refused(file(tmp_path, "sku,name\nA,lamp\n"), Declared(rows=2)).code == "E_TRUNCATED"
    assert refused(file(tmp_path, "sku,name\nA,lamp\n"), Declared(needs_count=True)).code == "E_TRUNCATED"


def test_case_61_a_checksum_tells_a_changed_file(tmp_path: Path) -> None:
    content = "sku,name\nA,lamp\n"
    path = file(tmp_path, content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert open_source(path, Declared(sha256=digest.upper())).sha256 == digest
    assert refused(path, Declared(sha256="0" * 64)).code == "E_TRUNCATED"


def test_case_91_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path, tmp_path / "pipe", tmp_path / "missing.csv", tmp_path / ("n" * 300)):
        assert refused(path).code == "E_FILE"


def test_case_91_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    inside = file(tmp_path, "a,b\n1,2\n")
    (tmp_path / "near.csv").symlink_to(inside)
    assert len(rows(open_source(tmp_path / "near.csv"))) == 1
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "far.csv").symlink_to(inside)
    error = refused(tmp_path / "box" / "far.csv")
    assert (error.code, error.problem.why) == ("E_FILE", "outside")


def test_case_91_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = file(tmp_path, "a,b\n1,2\n")
    path.chmod(0)
    tmp_path.chmod(0o755)
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from orders_core.intake.files import open_source
        from orders_core.intake.problems import FileRefused
        os.chdir("/")
        folder = os.open(Path(sys.argv[1]).parent, os.O_RDONLY)
        os.fchdir(folder)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            open_source(Path("orders.csv"))
        except FileRefused as refused:
            print(refused.code, refused.problem.why)
        """
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["E_FILE", "permission"]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "a,b\n1,2\n")
    source = open_source(path)
    file(tmp_path, "a,b\n1,2\n3,4\n")
    with pytest.raises(FileRefused, match="changed"):
        rows(source)


def test_sheets_give_dates_numbers_and_texts_as_one_would_type_them(tmp_path: Path) -> None:
    at = datetime(2011, 8, 31, 17, 45)  # noqa: DTZ001  a sheet has no zone
    path = write_workbook(
        tmp_path / "o.xlsx",
        [["at", "price", "qty", "yes", "text", "none", "last"], [at, 6.95, 12, True, "=1+1 not run", None, "x"]],
    )
    source = open_source(path)
    assert cells(source) == [["2011-08-31 17:45:00", "6.95", "12", "TRUE", "", "", "x"]]


def test_sheets_are_read_from_the_one_named_and_row_numbers_are_the_sheets_own(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.create_sheet("second")["A1"] = "sku"
    book["second"]["A4"] = "灯"
    book.save(tmp_path / "o.xlsx")
    source = open_source(tmp_path / "o.xlsx", Declared(sheet="second"))
    assert [(row.line, row.cells) for row in rows(source)] == [(4, ["灯"])]
    assert refused(tmp_path / "o.xlsx", Declared(sheet="third")).exit_code == 2


def test_sheet_texts_may_be_shared_rich_or_phonetic(tmp_path: Path) -> None:
    strings = (
        "<sst><si><t>plain</t></si><si><r><t>ri</t></r><r><t>ch</t></r></si>"
        "<si><t>課</t><rPh><t>か</t></rPh></si></sst>"
    )
    sheet = (
        '<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
        '<row r="2"><c r="B2" t="s"><v>2</v></c></row></sheetData></worksheet>'
    )
    path = write_parts(tmp_path / "o.xlsx", sheet, {"xl/sharedStrings.xml": strings.encode()})
    source = open_source(path)
    assert source.header == ("plain", "rich")
    assert cells(source) == [["", "課"]]


def test_parquet_gives_the_shortest_text_and_empty_for_null(tmp_path: Path) -> None:
    table = pa.table(
        {
            "price": pa.array([6.95, 12.0, None, 0.001, 53594.36]),
            "qty": pa.array([1, None, 3, 4, 5]),
            "at": pa.array([datetime(2011, 8, 31, 17, 45)] * 5),  # noqa: DTZ001
        }
    )
    pq.write_table(table, tmp_path / "o.parquet")
    read = rows(open_source(tmp_path / "o.parquet"))
    assert [row.cells[0] for row in read] == ["6.95", "12", "", "0.001", "53594.36"]
    assert [row.cells[1] for row in read] == ["1", "", "3", "4", "5"]
    assert read[0].cells[2] == "2011-08-31 17:45:00.000000"
    assert [row.line for row in read] == [1, 2, 3, 4, 5]


def test_parquet_columns_that_are_no_text_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [[1, 2]]}), tmp_path / "o.parquet")
    assert refused(tmp_path / "o.parquet").code == "E_FILE_TYPE"


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TABLE = st.lists(st.lists(TEXT, min_size=3, max_size=3).filter(any), max_size=8)


@given(table=TABLE, encoding=st.sampled_from(["utf-8", "utf-8-sig", "gb18030", "utf-16"]))
def test_any_table_written_as_csv_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], encoding: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([["a", "b", "c"], *table])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    declared = Declared(encoding=None if encoding.startswith("utf-8") else encoding, delimiter=",")
    kept = [row for row in table if row[0].strip() != "#rows"]
    assert cells(open_source(path, declared)) == kept


def test_every_message_exists_in_both_languages_and_names_the_same_facts() -> None:
    import string

    for code, (english, chinese) in MESSAGES.items():
        named = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, chinese)]
        plain = [{name.removesuffix("_zh") for name in names} for names in named]
        assert plain[0] == plain[1], code
        assert english != chinese
