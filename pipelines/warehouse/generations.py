"""The generations on disk: what each of them is, and letting the link lead to an older one."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipelines.warehouse.contract import contract_hash
from pipelines.warehouse.errors import WarehouseError, WarehouseMissing
from pipelines.warehouse.publish import generations, live_generation, live_link, run_lock, swap_link
from pipelines.warehouse.read import LiveWarehouse, Publication, attached
from pipelines.warehouse.tables import TABLES


class UnknownGeneration(WarehouseError):
    """No such generation is kept."""

    code = "E_NO_GENERATION"
    en = "{folder} holds no generation {asked}; there are {there}"
    zh = "{folder} 中没有第 {asked} 版;现有:{there}"


class GenerationUnreadable(WarehouseError):
    """The file is no whole generation; the link was left where it was."""

    code = "E_GENERATION"
    en = "{path} can't be read as a generation: {reason}"
    zh = "无法读取 {path}:{reason}"


@dataclass(frozen=True)
class Generation:
    """One complete file of the warehouse.

    Attributes:
        number: As in its name.
        path: The file.
        size_bytes: On disk.
        is_live: The link leads to it.
        publication: What it says of itself; None when the file can't be read.
        has_todays_contract: Its columns and promises are those of this program.
    """

    number: int
    path: Path
    size_bytes: int
    is_live: bool
    publication: Publication | None
    has_todays_contract: bool


def list_generations(warehouse_dir: Path) -> list[Generation]:
    """Every generation that is kept, newest first. A file that can't be read is among them, and says so."""
    live = live_generation(warehouse_dir)
    found = []
    for number, path in reversed(generations(warehouse_dir)):
        try:
            publication = _publication(path)
            size_bytes = path.stat().st_size
        except FileNotFoundError:
            continue  # a run has swept it meanwhile
        except GenerationUnreadable:
            publication, size_bytes = None, path.stat().st_size
        has_todays = publication is not None and publication.contract_hash == contract_hash(TABLES)
        found.append(Generation(number, path, size_bytes, path == live, publication, has_todays))
    return found


def roll_back(warehouse_dir: Path, number: int | None = None, *, dry_run: bool = False) -> Generation:
    """Let the link lead to generation `number`, or to the newest whole one before the live one.

    Readers see the one or the other, nothing between. Nothing is deleted; the next run starts from the generation that is
    live then and reads from the order database what it has not seen.

    Returns:
        The generation that is live now, or would be with `dry_run`.

    Raises:
        UnknownGeneration: It is not kept, or there is none before the live one. The error names those there are.
        GenerationUnreadable: The file is damaged.
        WarehouseMissing: Nothing was ever published.
        WarehouseLocked: A run is writing.
    """
    if dry_run:
        return _target(warehouse_dir, number)
    with run_lock(warehouse_dir, run_id="rollback"):
        target = _target(warehouse_dir, number)
        if not target.is_live:
            swap_link(warehouse_dir, target.path)
    return target


def _target(warehouse_dir: Path, number: int | None) -> Generation:
    kept = list_generations(warehouse_dir)
    if not kept:
        raise WarehouseMissing(link=str(live_link(warehouse_dir)))
    if number is None:
        live_number = next((each.number for each in kept if each.is_live), kept[0].number + 1)
        target = next((each for each in kept if each.number < live_number and each.publication), None)
    else:
        target = next((each for each in kept if each.number == number), None)
    if target is None:
        there = ", ".join(f"{each.number}{' (live)' if each.is_live else ''}" for each in kept)
        asked = "before the live one" if number is None else number
        raise UnknownGeneration(folder=str(warehouse_dir), asked=asked, there=there)
    if target.publication is None:
        _publication(target.path)  # says why
    return target


def _publication(path: Path) -> Publication:
    try:
        with duckdb.connect(":memory:") as con, attached(con, path, "warehouse"):
            con.execute("USE warehouse")
            try:
                return LiveWarehouse(con, path).publication()
            finally:
                con.execute("USE memory")  # what is in use can't be detached
    except (duckdb.Error, OSError, ValueError, TypeError, IndexError) as error:
        # Swept since we looked, or a run takes it to build on.
        if isinstance(error, BlockingIOError) or not path.exists():
            raise FileNotFoundError(path) from error
        raise GenerationUnreadable(path=str(path), reason=str(error).splitlines()[0]) from error
