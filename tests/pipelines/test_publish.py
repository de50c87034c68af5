"""Publishing: readers see a whole generation or the one before, whatever happens to the run that builds."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines.warehouse import read
from pipelines.warehouse.contract import Column, Table
from pipelines.warehouse.errors import (
    BuildFailed,
    ChecksFailed,
    ColumnsDiffer,
    WarehouseLocked,
    WarehouseMissing,
    WarehouseUnreadable,
)
from pipelines.warehouse.publish import (
    Published,
    generations,
    live_link,
    publish_generation,
    run_lock,
    spare_generation,
    start_generation,
)
from pipelines.warehouse.tables import META_TABLES
from pipelines.warehouse.write import create_tables, replace_with_frame, table_hash

SKU = Column("sku", "VARCHAR", "Stock keeping unit.")
QTY = Column("ordered_qty", "INTEGER", "Units asked for.", "units", "ordered_qty > 0")
LEFT = Table("mart", "left_half", "One row per sku.", ("sku",), (SKU, QTY))
RIGHT = Table("mart", "right_half", "One row per sku.", ("sku",), (SKU, QTY))
TABLES = (LEFT, RIGHT, *META_TABLES)
SEEN = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)


def publish(warehouse_dir: Path, qty: int, *, rows: int = 10, run_id: str = "run", keep: int = 5) -> Published:
    """Publish a generation in which every row of both tables says `qty`."""
    frame = pl.DataFrame({"sku": [f"S{n}" for n in range(rows)], "ordered_qty": pl.repeat(qty, rows, eager=True)})
    with run_lock(warehouse_dir, run_id=run_id):
        building = start_generation(warehouse_dir, run_id=run_id)
        with duckdb.connect(str(building)) as con:
            create_tables(con, TABLES)
            replace_with_frame(con, LEFT, frame)
            replace_with_frame(con, RIGHT, frame)
        return publish_generation(
            warehouse_dir,
            building,
            tables=TABLES,
            run_id=run_id,
            as_of_date=date(2026, 11, 21),
            business_zone="Asia/Shanghai",
            published_at=SEEN,
            keep=keep,
        )


def halves(warehouse_dir: Path) -> list[int]:
    sql = "SELECT DISTINCT ordered_qty FROM (FROM mart.left_half UNION ALL FROM mart.right_half)"
    return read.query(warehouse_dir, sql)["ordered_qty"].to_list()


@pytest.fixture
def warehouse_dir(tmp_path: Path) -> Path:
    return tmp_path / "it's a warehouse"  # a quote in the path must not end the SQL text


def test_what_was_published_is_what_a_reader_gets_with_its_date(warehouse_dir: Path) -> None:
    published = publish(warehouse_dir, 7, run_id="first")
    assert published.row_counts == {"mart.left_half": 10, "mart.right_half": 10}
    assert halves(warehouse_dir) == [7]
    live = read.publication(warehouse_dir)
    assert (live.generation, live.run_id, live.as_of_date) == (1, "first", date(2026, 11, 21))
    assert (live.published_at, live.business_zone) == (SEEN, "Asia/Shanghai")


def test_before_the_first_publication_a_reader_is_told_what_to_do(warehouse_dir: Path) -> None:
    with pytest.raises(WarehouseMissing, match="dinghuo run daily"):
        read.publication(warehouse_dir)


def test_parameters_reach_the_question_as_values(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 7)
    sql = "SELECT count(*) AS n FROM mart.left_half WHERE sku = $sku"
    assert read.query(warehouse_dir, sql, {"sku": "S1"})["n"].item() == 1
    assert read.query(warehouse_dir, sql, {"sku": "S1' OR 1=1 --"})["n"].item() == 0


def test_a_reader_cannot_write(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 7)
    with pytest.raises(duckdb.Error, match="read-only"):
        read.query(warehouse_dir, "DELETE FROM mart.left_half")


def test_a_broken_promise_blocks_publication_and_the_old_generation_stays(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 7)
    with pytest.raises(ChecksFailed, match=r"mart\.left_half: 10 rows break 'ordered_qty > 0'") as caught:
        publish(warehouse_dir, 0)
    assert caught.value.exit_code == 4
    assert "仍使用上一版数据" in caught.value.message("zh")
    assert halves(warehouse_dir) == [7]
    assert not list(warehouse_dir.glob("building-*"))


def test_a_frame_with_a_missing_or_strange_column_is_refused(warehouse_dir: Path) -> None:
    con = duckdb.connect(":memory:")
    create_tables(con, TABLES)
    with pytest.raises(ColumnsDiffer, match=r"lack columns \['ordered_qty'\].*undeclared columns \['qty'\]"):
        replace_with_frame(con, LEFT, pl.DataFrame({"sku": ["A"], "qty": [1]}))


def test_two_tables_with_the_same_rows_have_the_same_hash_in_any_order() -> None:
    con = duckdb.connect(":memory:")
    create_tables(con, TABLES)
    con.execute("INSERT INTO mart.left_half VALUES ('A', 1), ('B', NULL)")
    con.execute("INSERT INTO mart.right_half VALUES ('B', NULL), ('A', 1)")
    assert table_hash(con, LEFT) == table_hash(con, RIGHT)
    con.execute("UPDATE mart.right_half SET ordered_qty = 2 WHERE sku = 'A'")
    assert table_hash(con, LEFT) != table_hash(con, RIGHT)


def test_only_the_newest_generations_are_kept_and_one_to_spare(warehouse_dir: Path) -> None:
    for qty in range(1, 6):
        publish(warehouse_dir, qty, keep=2)
    assert [number for number, _ in generations(warehouse_dir)] == [3, 4, 5]
    assert halves(warehouse_dir) == [5]


def test_the_spare_generation_is_never_one_that_is_to_stay_nor_live_nor_newer_than_the_live_one(
    warehouse_dir: Path,
) -> None:
    for qty in range(1, 4):
        publish(warehouse_dir, qty, keep=2)
    assert spare_generation(warehouse_dir, keep=3) is None
    assert spare_generation(warehouse_dir, keep=2) == warehouse_dir / "generation-000001.duckdb"
    live_link(warehouse_dir).unlink()
    live_link(warehouse_dir).symlink_to(Path(warehouse_dir.name) / "generation-000001.duckdb")  # as after a rollback
    assert spare_generation(warehouse_dir, keep=2) is None


def test_a_generation_that_nobody_reads_is_built_on_without_copying(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    publish(warehouse_dir, 2)
    old, live = (path for _, path in generations(warehouse_dir))
    inode = old.stat().st_ino
    with run_lock(warehouse_dir, run_id="next"):
        building = start_generation(warehouse_dir, run_id="next", copy_of=live, spare=old)
        assert building.stat().st_ino == inode
        assert not old.exists()


# One reader has it open twice and closes one: DuckDB's own lock, which is the process's, is gone by then.
TWO_READERS = """
import sys
from pathlib import Path
from pipelines.warehouse import read
warehouse_dir = Path(sys.argv[1])
with read.live_warehouse(warehouse_dir) as slow:
    with read.live_warehouse(warehouse_dir) as quick:
        quick.publication()
    print("reading", flush=True)
    sys.stdin.readline()
    print(slow.query("SELECT DISTINCT ordered_qty FROM mart.left_half").rows(), flush=True)
"""


def test_a_generation_that_somebody_still_reads_is_copied_and_not_built_on(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1, rows=20_000)
    command = [sys.executable, "-c", TWO_READERS, str(warehouse_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        publish(warehouse_dir, 2, rows=20_000)
        old, live = (path for _, path in generations(warehouse_dir))
        with run_lock(warehouse_dir, run_id="next"):
            building = start_generation(warehouse_dir, run_id="next", copy_of=live, spare=old)
            with duckdb.connect(str(building)) as con:
                con.execute("UPDATE mart.left_half SET ordered_qty = 3")
                con.execute("CHECKPOINT")
        assert old.exists()
        out, _ = reader.communicate("go on\n", timeout=60)
    assert (reader.returncode, out) == (0, "[(1,)]\n")


def test_a_reader_in_the_writing_process_keeps_what_it_reads(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1, rows=20_000)
    with read.live_warehouse(warehouse_dir) as slow:
        publish(warehouse_dir, 2, rows=20_000)
        old, live = (path for _, path in generations(warehouse_dir))
        with run_lock(warehouse_dir, run_id="next"):
            start_generation(warehouse_dir, run_id="next", copy_of=live, spare=old)
        assert old.exists()
        assert slow.query("SELECT DISTINCT ordered_qty FROM mart.left_half").rows() == [(1,)]


ANOTHER_PROGRAM = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
print("reading", flush=True)
sys.stdin.readline()
"""


def test_a_generation_open_in_another_program_or_damaged_is_not_built_on(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    publish(warehouse_dir, 2)
    old, live = (path for _, path in generations(warehouse_dir))

    def inode_built_on(run_id: str) -> int:
        with run_lock(warehouse_dir, run_id=run_id):
            return start_generation(warehouse_dir, run_id=run_id, copy_of=live, spare=old).stat().st_ino

    command = [sys.executable, "-c", ANOTHER_PROGRAM, str(old)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        assert inode_built_on("beside-a-reader") != old.stat().st_ino
        reader.communicate("done\n", timeout=60)
    old.write_bytes(b"not a database")
    assert inode_built_on("from-a-damaged-one") != old.stat().st_ino


def test_a_second_run_is_turned_away_and_told_who_holds_the_lock(warehouse_dir: Path) -> None:
    with run_lock(warehouse_dir, run_id="the-first"):
        with pytest.raises(WarehouseLocked, match="run the-first, process") as caught:
            publish(warehouse_dir, 1, run_id="the-second")
        assert caught.value.exit_code == 5
    publish(warehouse_dir, 1, run_id="the-third")


def test_a_long_reader_keeps_its_generation_while_newer_ones_are_published_and_swept(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    with read.live_warehouse(warehouse_dir) as warehouse:
        for qty in range(2, 6):
            publish(warehouse_dir, qty, keep=1)
        assert warehouse.query("FROM mart.left_half")["ordered_qty"].unique().to_list() == [1]
    assert halves(warehouse_dir) == [5]


READER = """
import sys, time
from pathlib import Path
from pipelines.warehouse import read
warehouse_dir, stop = Path(sys.argv[1]), Path(sys.argv[2])
seen, questions, last = set(), 0, 0
while not stop.exists():
    with read.live_warehouse(warehouse_dir) as warehouse:
        said = warehouse.publication()
        left = warehouse.query("SELECT min(ordered_qty) a, max(ordered_qty) b, count(*) n FROM mart.left_half").row(0)
        right = warehouse.query("SELECT min(ordered_qty) a, max(ordered_qty) b, count(*) n FROM mart.right_half").row(0)
    assert left == right == (said.generation, said.generation, 20_000), (said, left, right)
    assert said.generation >= last, "went back in time"
    last = said.generation
    seen.add(last)
    questions += 1
print(len(seen), questions)
"""


def test_a_reader_in_another_process_never_sees_an_error_or_half_a_state_while_30_generations_are_published(
    warehouse_dir: Path, tmp_path: Path
) -> None:
    publish(warehouse_dir, 1, rows=20_000)
    stop = tmp_path / "stop"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(warehouse_dir), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for qty in range(2, 32):
            # keep=1: what a reader may be about to open is swept away two publications later, the hardest case for it
            publish(warehouse_dir, qty, rows=20_000, keep=1)
    finally:
        stop.touch()
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err.decode()
        generations_seen, questions = map(int, out.split())
        assert generations_seen >= 3, "the reader must have lived through several publications"
        assert questions >= 10


BUILDER = """
import sys, time
from datetime import UTC, date, datetime
from pathlib import Path
import duckdb
from pipelines.warehouse import publish as p
from tests.pipelines.test_publish import TABLES, LEFT, create_tables
warehouse_dir = Path(sys.argv[1])
with p.run_lock(warehouse_dir, run_id="doomed"):
    building = p.start_generation(warehouse_dir, run_id="doomed")
    con = duckdb.connect(str(building))
    create_tables(con, TABLES)
    print("building", flush=True)
    while True:  # rows never stop coming: the file and its log are always half written
        con.execute("INSERT INTO mart.left_half SELECT 'S' || range, 1 FROM range(50000)")
"""


def test_kill_during_a_build_leaves_the_old_generation_live_and_the_next_run_cleans_up(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(warehouse_dir)], stdout=subprocess.PIPE)
    assert builder.stdout is not None
    assert builder.stdout.readline() == b"building\n"
    time.sleep(0.5)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert (warehouse_dir / "building-doomed.duckdb").exists(), "the test must really leave something behind"
    assert halves(warehouse_dir) == [1]
    publish(warehouse_dir, 2)
    assert halves(warehouse_dir) == [2]
    assert sorted(path.name for path in warehouse_dir.iterdir()) == [
        ".lock",
        "generation-000001.duckdb",
        "generation-000002.duckdb",
    ]


def test_a_run_that_died_between_its_two_renames_is_not_live_and_does_not_stop_the_next(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    (warehouse_dir / "generation-000002.duckdb").write_bytes(b"complete, but the link never moved")
    assert halves(warehouse_dir) == [1]
    assert publish(warehouse_dir, 3).generation == 3
    assert halves(warehouse_dir) == [3]


def overwrite(path: Path, at: int, size: int = 64) -> None:
    """Turn the bytes there around, as a bad disk would."""
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(size)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in old))


@pytest.mark.parametrize("damage", ["not a database", "empty", "cut in half", "header", "every block", "a folder"])
def test_a_damaged_live_file_is_named_with_what_to_do(warehouse_dir: Path, damage: str) -> None:
    live = publish(warehouse_dir, 1, rows=200_000).path
    size = live.stat().st_size
    if damage == "not a database":
        live.write_bytes(b"not a database")
    elif damage == "empty":
        live.write_bytes(b"")
    elif damage == "cut in half":
        os.truncate(live, size // 2)
    elif damage == "header":
        overwrite(live, 8)
    elif damage == "every block":  # the file opens, and only the question finds out
        for block in range(3 * 4096 + 100, size, 262_144):
            overwrite(live, block)
    else:
        live.unlink()
        live.mkdir()
    with pytest.raises(WarehouseUnreadable, match="warehouse rollback") as caught:
        halves(warehouse_dir)
    assert str(live) in caught.value.message("zh")
    assert "dinghuo warehouse rollback" in caught.value.message("zh")


def test_a_link_to_a_missing_file_is_named(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1).path.unlink()
    with pytest.raises(WarehouseMissing):
        halves(warehouse_dir)


def test_a_question_that_is_wrong_is_not_called_damage(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    with pytest.raises(duckdb.ParserException):
        read.query(warehouse_dir, "SELECT FROM WHERE")


def test_a_build_that_the_disk_refuses_is_a_named_error(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    with run_lock(warehouse_dir, run_id="run"), pytest.raises(BuildFailed, match="the old one stays live"):
        publish_generation(
            warehouse_dir,
            Path("/proc/building-nowhere.duckdb"),  # a real file system that takes no files
            tables=TABLES,
            run_id="run",
            as_of_date=date(2026, 11, 21),
            business_zone="Asia/Shanghai",
            published_at=SEEN,
        )
    assert halves(warehouse_dir) == [1]


def test_the_link_is_relative_so_that_the_house_can_be_moved(warehouse_dir: Path, tmp_path: Path) -> None:
    publish(warehouse_dir, 4)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    warehouse_dir.rename(moved / warehouse_dir.name)
    live_link(warehouse_dir).rename(moved / live_link(warehouse_dir).name)
    assert halves(moved / warehouse_dir.name) == [4]


def test_a_copy_of_the_house_without_links_is_read_and_published_to(warehouse_dir: Path, tmp_path: Path) -> None:
    publish(warehouse_dir, 4)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(warehouse_dir, copy / warehouse_dir.name)
    shutil.copyfile(live_link(warehouse_dir), copy / live_link(warehouse_dir).name)
    assert halves(copy / warehouse_dir.name) == [4]
    publish(copy / warehouse_dir.name, 5)
    assert halves(copy / warehouse_dir.name) == [5]


def test_a_link_that_cannot_be_swapped_leaves_nothing_behind_night_after_night(warehouse_dir: Path) -> None:
    publish(warehouse_dir, 1)
    link = live_link(warehouse_dir)
    link.unlink()
    link.mkdir()
    (link / "in the way").touch()  # a folder that is not empty: a rename over it is refused, for root as well
    for night in (2, 3):
        with pytest.raises(BuildFailed, match="the old one stays live"):
            publish(warehouse_dir, night)
        assert [number for number, _ in generations(warehouse_dir)] == [1]
    assert sorted(path.name for path in warehouse_dir.iterdir()) == [".lock", "generation-000001.duckdb"]


def test_a_folder_that_cannot_be_made_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildFailed, match="Not a directory"):
        publish(tmp_path / "file" / "warehouse", 1)
