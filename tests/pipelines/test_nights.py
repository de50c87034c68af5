"""Bad nights, for real: a full disk, an order database that can't be read, a changed contract, a damaged generation.

Each time the command says by name what is wrong and ends with another code than 0, the tables of the night before are
served, and nothing is left behind. No mocks: the disk is a small file system, the damage is in the bytes.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from sqlalchemy.engine import make_url
from streamlit.testing.v1 import AppTest

from pipelines import plan
from pipelines.changes import unseen_changes
from pipelines.daily import run_daily
from pipelines.warehouse import read
from pipelines.warehouse.errors import BuildFailed, SourceUnreadable, WarehouseError
from pipelines.warehouse.publish import live_generation, live_link
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.write import table_hash
from tests.pipelines.book import Book, at
from tests.pipelines.test_publish import overwrite
from tests.support.databases import TestDatabases

LAST_NIGHT, TONIGHT = date(2026, 3, 20), date(2026, 3, 21)


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class House:
    """An order database with its warehouse, in one folder."""

    folder: Path

    @property
    def orders(self) -> Path:
        return self.folder / "orders.db"

    @property
    def warehouse_dir(self) -> Path:
        return self.folder / "warehouse"

    def hashes(self) -> dict[str, str]:
        with read.live_warehouse(self.warehouse_dir) as warehouse:
            return {t.full_name: table_hash(warehouse.con, t) for t in TABLES if t.schema != "meta"}

    def is_as_it_was(self) -> bool:
        """The generation of last night answers, whole, and there is nothing beside it that was not there."""
        assert read.publication(self.warehouse_dir).as_of_date == LAST_NIGHT
        assert plan.suggestions(self.warehouse_dir, only_to_buy=False).rows.height == 2
        names = sorted(path.name for path in self.warehouse_dir.iterdir())
        assert names == [".lock", "generation-000001.duckdb", "generation-000002.duckdb"], names
        return True


@pytest.fixture(scope="module")
def last_night(databases: TestDatabases, tmp_path_factory: pytest.TempPathFactory) -> House:
    """Built once: two generations are published, and since then there was trade. Tests take copies."""
    folder = tmp_path_factory.mktemp("house")
    made = databases.create("sqlite", folder=folder)
    Path(made.removeprefix("sqlite:///")).rename(folder / "orders.db")
    house = House(folder)
    url = f"sqlite:///{house.orders}"
    book = Book(url)
    book.location("HEL", default=True)
    book.sku("LAMP", "RUG")
    book.supplier("ACME", 5, "LAMP", "RUG", moq=10, pack=12, cost=250)
    book.move(at(date(2026, 3, 2), 8), "LAMP@HEL: 300", "RUG@HEL: 40")
    for number in range(19):
        book.order(f"A{number}", at(date(2026, 3, 2) + timedelta(days=number)), "LAMP@HEL: 3", "RUG@HEL: 2")
    for night in (LAST_NIGHT - timedelta(days=1), LAST_NIGHT):
        run_daily(url, house.warehouse_dir, as_of=night, run_id=f"night-{night}", now=lambda: datetime.now(UTC))
    for number in range(300):  # a busy day: more than fits beside on a full disk
        book.order(f"B{number}", at(TONIGHT, 9), *["LAMP@HEL: 1"] * 20)
    book.close()
    return house


@pytest.fixture
def house(last_night: House, tmp_path: Path) -> House:
    return copied(last_night, tmp_path / "house")


def copied(house: House, folder: Path) -> House:
    shutil.copytree(house.folder, folder, symlinks=True, dirs_exist_ok=True)
    return House(folder)


@pytest.fixture
def dinghuo(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The program, run in this process on the house."""
    from apps.cli.main import run

    for key in [key for key in os.environ if key.startswith(("LC_", "LANG"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("DINGHUO_DATABASE_URL", f"sqlite:///{house.orders}")
    monkeypatch.setenv("DINGHUO_WAREHOUSE_DIR", str(house.warehouse_dir))

    def said(*words: str, language: str = "en") -> Said:
        monkeypatch.setenv("DINGHUO_LANGUAGE", language)
        capsys.readouterr()
        code = run(words)
        return Said(code, *capsys.readouterr())

    return said


TONIGHTS_RUN = ("run", "daily", "--as-of", TONIGHT.isoformat())

# ------------------------------------------------------------------------------------------------ a full disk


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A real file system of that size at `folder`; skips where this process may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here; the test with a limit on files covers the same")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all that is left on the file system of `folder`; remove the file to give it back."""
    ballast = folder / "ballast"
    disk = os.statvfs(folder)
    with ballast.open("wb") as file:
        if disk.f_bavail:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)
    return ballast


def test_a_disk_that_fills_at_any_step_is_named_and_tomorrow_all_is_well(last_night: House, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 150_000_000):
        house = copied(last_night, tmp_path / "disk" / "house")
        house.orders.unlink()  # SQLite, too, wants to write beside its file

        def run(progress: Callable[[str], object]) -> None:
            run_daily(f"sqlite:///{last_night.orders}", house.warehouse_dir, as_of=TONIGHT, run_id="tonight",
                      now=lambda: datetime.now(UTC), progress=progress)  # fmt: skip

        for step in ("before", "load", "core.fct_order_line", "publish"):
            if step == "before":
                fill(tmp_path / "disk")
            with pytest.raises(BuildFailed, match="No space left on device") as caught:
                run(lambda begun, step=step: fill(tmp_path / "disk") if begun == step else None)
            (tmp_path / "disk" / "ballast").unlink()
            assert caught.value.exit_code == 1
            assert "仍使用上一版数据" in caught.value.message("zh")
            assert house.is_as_it_was(), step
        run(lambda _: None)
        assert read.publication(house.warehouse_dir).as_of_date == TONIGHT


SMALL_FILES = """
import resource, sys
limit_bytes = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))  # what a full disk does to a file, anywhere
from apps.cli.main import main
main()
"""


def test_the_program_says_that_the_disk_is_full(house: House) -> None:
    live = live_generation(house.warehouse_dir)
    assert live is not None
    environment = {**os.environ, "DINGHUO_DATABASE_URL": f"sqlite:///{house.orders}", "DINGHUO_LANGUAGE": "en",
                   "DINGHUO_WAREHOUSE_DIR": str(house.warehouse_dir)}  # fmt: skip
    command = [sys.executable, "-c", SMALL_FILES, str(live.stat().st_size + 20_000), *TONIGHTS_RUN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("E_BUILD_FAILED building generation ")
    assert "Traceback" not in done.stderr
    assert house.is_as_it_was()


# ------------------------------------------------------------------------------------------------ the order database


def lose(path: Path) -> None:
    path.unlink()


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def write_over(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 1000)


def damage_pages(path: Path) -> None:
    for page in range(4096, path.stat().st_size, 4096):
        overwrite(path, page, 200)


def rename_a_column(path: Path) -> None:
    with sqlite3.connect(path) as con:
        con.execute("ALTER TABLE order_line RENAME COLUMN net_cents TO net_amount")
    con.close()


def lose_a_table(path: Path) -> None:
    with sqlite3.connect(path) as con:
        con.execute("PRAGMA foreign_keys = off")
        con.execute("ALTER TABLE goods_receipt_line RENAME TO gone")
    con.close()


@pytest.mark.parametrize(
    "trouble",
    [lose, make_a_folder, empty, cut, write_over, damage_pages, rename_a_column, lose_a_table],
    ids=lambda trouble: trouble.__name__,
)
def test_an_order_database_that_cannot_be_read_is_named_and_last_nights_tables_are_served(
    house: House, dinghuo: Callable[..., Said], trouble: Callable[[Path], None]
) -> None:
    trouble(house.orders)
    for language in ("en", "zh"):
        said = dinghuo(*TONIGHTS_RUN, language=language)
        assert said.code == 1, said
        assert re.match(r"E_[A-Z_]+ .", said.err.splitlines()[-1]), said.err
    assert house.is_as_it_was()
    # And the run itself, which opens the order database in its own way, when nobody has looked before.
    with pytest.raises(WarehouseError) as caught:
        run_daily(f"sqlite:///{house.orders}", house.warehouse_dir, as_of=TONIGHT, run_id="tonight",
                  now=lambda: datetime.now(UTC))  # fmt: skip
    assert caught.value.code in ("E_SOURCE", "E_SOURCE_CHANGED")
    assert caught.value.exit_code == 1
    assert str(house.orders) in caught.value.message("zh")
    assert house.is_as_it_was()
    assert house.orders.exists() == (trouble is not lose), "nobody makes an empty order database by looking for one"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("trouble", ["no such database", "no server"])
def test_a_postgresql_that_does_not_answer_is_named(
    house: House,
    dinghuo: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    new_database: Callable[..., str],
    trouble: str,
) -> None:
    url = make_url(new_database(empty=True))
    url = url.set(database="nowhere") if trouble == "no such database" else url.set(query={"host": "/nowhere"})
    monkeypatch.setenv("DINGHUO_DATABASE_URL", url.render_as_string(hide_password=False))
    said = dinghuo(*TONIGHTS_RUN)
    assert (said.code, said.err.split()[0]) == (1, "E_DATABASE"), said
    with pytest.raises(SourceUnreadable, match="nowhere"):
        run_daily(url.render_as_string(hide_password=False), house.warehouse_dir, as_of=TONIGHT, run_id="tonight",
                  now=lambda: datetime.now(UTC))  # fmt: skip
    assert house.is_as_it_was()


# ------------------------------------------------------------------------------------------------ the generation


def test_a_changed_contract_is_built_from_nothing_and_keeps_what_was_planned_on_earlier_days(
    house: House, dinghuo: Callable[..., Said]
) -> None:
    live = live_generation(house.warehouse_dir)
    assert live is not None
    with duckdb.connect(str(live)) as con:  # as an older version of the program has left it
        con.execute("UPDATE meta.publication SET contract_hash = 'of last year'")
        con.execute("ALTER TABLE core.dim_customer DROP COLUMN language")
        con.execute("DROP TABLE mart.override_history")
    assert dinghuo("plan", "show", "--all").code == 0, "the old one answers until then"
    planned = "SELECT * FROM mart.suggestion_history WHERE as_of_date <= $day ORDER BY ALL"
    before = read.query(house.warehouse_dir, planned, {"day": LAST_NIGHT})
    assert before.height == 4
    assert dinghuo(*TONIGHTS_RUN).code == 0
    assert "language" in read.query(house.warehouse_dir, "FROM core.dim_customer").columns
    assert read.query(house.warehouse_dir, planned, {"day": LAST_NIGHT}).equals(before)
    assert read.publication(house.warehouse_dir).as_of_date == TONIGHT


def turn_a_byte_of_each_block(path: Path) -> None:
    """Of every block with rows, but not where the generation says what it is: it opens, and looks well."""
    with duckdb.connect(str(path), read_only=True) as con:
        blocks = {
            each.full_name: {
                block
                for (block,) in con.execute(f"SELECT block_id FROM pragma_storage_info('{each.full_name}')").fetchall()
            }
            for each in TABLES
        }
    for block in set().union(*blocks.values()) - blocks["meta.publication"] - {-1, None}:
        overwrite(path, 3 * 4096 + block * 262_144 + 1000, 1)


@pytest.mark.parametrize("damage", [empty, turn_a_byte_of_each_block], ids=lambda damage: damage.__name__)
def test_a_damaged_generation_is_named_to_readers_who_can_go_back_and_the_next_run_builds_it_anew(
    house: House, dinghuo: Callable[..., Said], damage: Callable[[Path], None]
) -> None:
    live = live_generation(house.warehouse_dir)
    assert live is not None
    wanted = house.hashes()
    damage(live)
    for language in ("en", "zh"):
        said = dinghuo("plan", "show", language=language)
        assert said.code == 1
        assert said.err.startswith("E_WAREHOUSE_UNREADABLE "), said.err
        assert str(live) in said.err
        assert "dinghuo warehouse rollback" in said.err
    assert dinghuo("warehouse", "rollback").code == 0
    assert dinghuo("plan", "show").code == 0
    assert read.publication(house.warehouse_dir).as_of_date == LAST_NIGHT - timedelta(days=1)

    live_link(house.warehouse_dir).unlink()  # and had nobody gone back:
    live_link(house.warehouse_dir).symlink_to(Path(house.warehouse_dir.name) / live.name)
    assert unseen_changes(f"sqlite:///{house.orders}", house.warehouse_dir), "a watch runs, and does not only complain"
    said = dinghuo("run", "daily", "--as-of", LAST_NIGHT.isoformat())
    assert said.code == 0
    # An empty file is seen at once, and a damaged block only by who reads it.
    assert ("W_GENERATION_DAMAGED" in said.err) == (damage is turn_a_byte_of_each_block), said.err
    found = house.hashes()
    # Tonight's trade has come into `raw` since; what it makes of last night is the same.
    assert {name: value for name, value in found.items() if not name.startswith("raw.")} == {
        name: value for name, value in wanted.items() if not name.startswith("raw.")
    }


def the_plan_page(warehouse_dir: str) -> None:
    from pathlib import Path
    from types import SimpleNamespace

    from apps.desk.main import _page
    from apps.desk.views import plan

    _page(plan.show, SimpleNamespace(warehouse_dir=Path(warehouse_dir), language="zh", t=str))()  # type: ignore[arg-type]


def test_the_desk_says_that_the_plan_is_damaged_and_how_to_go_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page that is tested so takes the place of `__main__`, which every process started afterwards would run.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    live = live_generation(house.warehouse_dir)
    assert live is not None
    empty(live)
    page = AppTest.from_function(the_plan_page, args=(str(house.warehouse_dir),)).run()
    assert not page.exception
    assert [str(live) in error.value and "dinghuo warehouse rollback" in error.value for error in page.error] == [True]
