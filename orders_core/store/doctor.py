"""What may be wrong with this installation, with the remedy: `dinghuo doctor`. Changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from orders_core.errors import OrdersError
from orders_core.settings import Settings
from orders_core.store import schema
from orders_core.store.uow import make_engine

LEAST_FREE_BYTES = 1_000_000_000
LEAST_POSTGRESQL = 140_000
CONNECT_SECONDS = 5

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fail`: it will not work; `warn`: it may hurt one day. The sentence names the remedy."""

    level: Level
    code: str
    en: str
    zh: str

    def text(self, language: str = "en") -> str:
        """The sentence in `zh` or `en`."""
        return self.zh if language == "zh" else self.en


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; one finding each, in reading order."""
    return [
        _python(),
        _packages(),
        *_sqlite(sqlite3.sqlite_version_info, is_used=_database_file(settings) is not None),
        _settings(settings),
        *(_folder(name, path) for name, path in _folders(settings)),
        *(_free_space(path) for path in sorted({_existing(path) for _, path in _folders(settings)})),
        *_database(settings),
        _warehouse(settings.warehouse_dir),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("ok", "python", f"Python {version}", f"Python {version}")
    return Finding("fail", "python", f"Python {version}; use 3.11 to 3.13", f"Python {version}；请使用 3.11 至 3.13")


def _packages() -> Finding:
    """Whether what is installed is what the project asks for."""
    try:
        asked = [Requirement(line) for line in metadata.requires("dinghuo") or []]
    except metadata.PackageNotFoundError:
        return Finding("warn", "packages", "not installed; run `make setup`", "未安装；请运行 `make setup`")
    wrong = []
    needed = [requirement for requirement in asked if requirement.marker is None or requirement.marker.evaluate()]
    for requirement in needed:
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = "–"
        if found == "–" or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} ({requirement.specifier})")
    if wrong:
        listed = ", ".join(wrong)
        return Finding("fail", "packages", f"{listed}; run `make setup`", f"{listed};请运行 `make setup`")
    return Finding("ok", "packages", f"{len(needed)} packages as asked for", f"{len(needed)} 个依赖包均符合要求")


def _sqlite(version: tuple[int, int, int], *, is_used: bool) -> Iterator[Finding]:
    name = ".".join(map(str, version))
    if version < (3, 37, 0):  # STRICT tables
        yield Finding(
            "fail", "sqlite", f"SQLite {name}; 3.37 or newer is needed", f"SQLite {name}；需要 3.37 或更新版本"
        )
    elif is_used and has_wal_reset_bug(version):
        yield Finding(
            "warn",
            "sqlite_wal_reset",
            f"SQLite {name} has the WAL-reset bug (rarely, two processes at a checkpoint lose a page); use 3.51.3, 3.50.7"
            " or 3.44.6, or PostgreSQL, and keep backups",
            f"SQLite {name} 存在 WAL 重置缺陷(极少数情况下，两个进程同时做检查点会丢失页面)；请升级到 3.51.3、3.50.7"
            " 或 3.44.6，或改用 PostgreSQL，并保持备份",
        )
    else:
        yield Finding("ok", "sqlite", f"SQLite {name}", f"SQLite {name}")


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether an SQLite version may lose a write when a WAL is reset; fixed in 3.51.3, 3.50.7 and 3.44.6.

    >>> has_wal_reset_bug((3, 40, 1)), has_wal_reset_bug((3, 44, 6)), has_wal_reset_bug((3, 51, 3))
    (True, False, False)
    """
    fixed_in_branch = {(3, 44): 6, (3, 50): 7}
    least = fixed_in_branch.get(version[:2])
    return version < (3, 51, 3) and (least is None or version[2] < least)


def _settings(settings: Settings) -> Finding:
    shown = ", ".join(f"{name}={value}" for name, value in settings.masked().items() if value)
    return Finding("ok", "settings", shown, shown)


def _database_file(settings: Settings) -> Path | None:
    parsed = make_url(settings.database_url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def _folders(settings: Settings) -> list[tuple[str, Path]]:
    """Where files are written: the setting's name and the folder."""
    folders = [("warehouse_dir", settings.warehouse_dir.absolute().parent)]
    if settings.mail_sender == "file":
        folders.append(("outbox_dir", settings.outbox_dir.absolute()))
    file = _database_file(settings)
    return folders if file is None else [("database_url", file.absolute().parent), *folders]


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _folder(name: str, folder: Path) -> Finding:
    if name == "database_url" and not folder.is_dir():
        return Finding(
            "fail",
            "folder",
            f"{name}: there is no folder {folder}; make it, or name another database",
            f"{name}：文件夹 {folder} 不存在；请先创建，或改用其他数据库",
        )
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError as error:
        return Finding(
            "fail",
            "folder",
            f"{name}: {folder} can't be written ({error.strerror}); give this user the right, or name another place",
            f"{name}：无法写入 {folder}({error.strerror})；请授予权限，或改用其他位置",
        )
    return Finding("ok", "folder", f"{name}: {folder} can be written", f"{name}：{folder} 可写")


def _free_space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    size = f"{free / 1e9:.1f} GB"
    if free < LEAST_FREE_BYTES:
        return Finding(
            "warn",
            "disk",
            f"{size} free at {folder}, less than {LEAST_FREE_BYTES / 1e9:.0f} GB; free some space before work stops",
            f"{folder} 剩余 {size}，不足 {LEAST_FREE_BYTES / 1e9:.0f} GB；请尽快清理空间",
        )
    return Finding("ok", "disk", f"{size} free at {folder}", f"{folder} 剩余 {size}")


def _database(settings: Settings) -> Iterator[Finding]:
    url, file = settings.database_url, _database_file(settings)
    place = schema.place_of(url)
    if file is None:
        reachable = _postgresql(url, place)
        yield reachable
        if reachable.level == "fail":
            return
    elif not file.absolute().parent.is_dir():
        return  # said already
    try:
        found = schema.schema_version(url)
        is_old = schema.needs_upgrade(url)
    except OrdersError as error:
        yield Finding("fail", "schema", error.text("en"), error.text("zh"))
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip()
        yield Finding("fail", "schema", f"{place} can't be read: {reason}", f"无法读取 {place}：{reason}")
    else:
        needed = schema.newest_version()
        if found is None:
            yield Finding(
                "warn", "schema", f"{place} is empty; run `dinghuo init`", f"{place} 为空;请运行 `dinghuo init`"
            )
        elif is_old:
            yield Finding(
                "fail",
                "schema",
                f"{place} is at schema {found}, {needed} is needed; make a backup, then run `dinghuo upgrade`",
                f"{place} 的结构版本为 {found}，需要 {needed}；请先备份，再运行 `dinghuo upgrade`",
            )
        else:
            yield Finding("ok", "schema", f"{place} is at schema {found}", f"{place} 的结构版本为 {found}")


def _postgresql(url: str, place: str) -> Finding:
    engine = make_engine(
        make_url(url).update_query_dict({"connect_timeout": str(CONNECT_SECONDS)}).render_as_string(hide_password=False)
    )
    try:
        with engine.connect() as conn:
            number = int(conn.execute(text("SHOW server_version_num")).scalar_one())
            name = conn.execute(text("SHOW server_version")).scalar_one()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip()
        return Finding(
            "fail",
            "postgresql",
            f"{place} can't be reached: {reason}; is the server running, are host and password right?",
            f"无法连接 {place}：{reason}；请检查服务器是否运行、主机与密码是否正确",
        )
    finally:
        engine.dispose()
    if number < LEAST_POSTGRESQL:
        least = LEAST_POSTGRESQL // 10_000
        return Finding(
            "fail",
            "postgresql",
            f"PostgreSQL {name}; {least} or newer is needed",
            f"PostgreSQL {name}；需要 {least} 或更新版本",
        )
    return Finding("ok", "postgresql", f"PostgreSQL {name} at {place}", f"PostgreSQL {name}({place})")


def _warehouse(folder: Path) -> Finding:
    """The link beside the warehouse folder that leads to the live generation."""
    link = folder.parent / f"{folder.name}.duckdb"
    if not link.is_symlink():
        if link.exists():
            return Finding(
                "fail",
                "warehouse",
                f"{link} is a file, not the link that publishing swaps; move it away",
                f"{link} 是普通文件，而不是发布用的链接；请将其移走",
            )
        return Finding(
            "warn",
            "warehouse",
            f"no warehouse is published yet at {link}; run `dinghuo run daily`",
            f"{link} 尚未发布数据仓库；请运行 `dinghuo run daily`",
        )
    if not link.exists():
        return Finding(
            "fail",
            "warehouse",
            f"{link} leads to {link.readlink()}, which is not there; run `dinghuo run daily`",
            f"{link} 指向的 {link.readlink()} 不存在；请运行 `dinghuo run daily`",
        )
    return Finding("ok", "warehouse", f"{link} leads to {link.readlink()}", f"{link} 指向 {link.readlink()}")
