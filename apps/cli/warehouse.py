"""`dinghuo warehouse …`: what is published, which generations are kept, going back to one, and any table as a list or file."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.context import Context, Csv, DryRun, WrongArgument, both, command, group
from apps.cli.terminal import write_csv

if TYPE_CHECKING:
    from pipelines.warehouse.contract import Table
    from pipelines.warehouse.generations import Generation

SHOWN_ROWS = 20


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    warehouse = group("The published tables.", "数据仓库（已发布的数据表）。")
    app.add_typer(warehouse, name="warehouse")
    command(warehouse, "status", "What is live, how old it is and what waits.", "当前版本、新旧程度与待加载的变更。")(
        status
    )
    command(warehouse, "generations", "Every generation that is kept.", "列出保留的各版数据。")(generations)
    command(warehouse, "rollback", "Let readers see an older generation again.", "退回到较早的一版数据。")(rollback)
    command(warehouse, "show", "Rows of a table: as a list, CSV or JSON.", "查看数据表，可输出 CSV 或 JSON。")(show)


def status(out: Context) -> None:
    """The live generation in a few lines; with --json everything there is to know."""
    from orders_core.ports import SystemClock
    from pipelines.changes import unseen_changes
    from pipelines.warehouse.contract import contract_hash
    from pipelines.warehouse.errors import SourceUnreadable
    from pipelines.warehouse.generations import list_generations
    from pipelines.warehouse.read import live_warehouse
    from pipelines.warehouse.tables import TABLES

    settings = out.settings
    with live_warehouse(settings.warehouse_dir) as live:
        known, path = live.publication(), live.path
        row_counts = dict(live.query("SELECT table_name, row_count FROM meta.table_rows ORDER BY table_name").rows())
        read_from = live.query("SELECT * FROM meta.watermark ORDER BY source_name").to_dicts()
    kept = list_generations(settings.warehouse_dir)
    try:
        unseen = unseen_changes(settings.database_url, settings.warehouse_dir)
        waiting, trouble = (0 if unseen is None else unseen.changes), None
    except SourceUnreadable as error:  # the tables can be read without it
        waiting, trouble = None, error
    schemas: dict[str, int] = {}
    for name, rows in row_counts.items():
        schemas[name.split(".")[0]] = schemas.get(name.split(".")[0], 0) + rows
    age_seconds = round((SystemClock().now() - known.published_at).total_seconds())
    has_todays_contract = known.contract_hash == contract_hash(TABLES)
    data = {
        "publication": known,
        "age_seconds": age_seconds,
        "path": path,
        "has_todays_contract": has_todays_contract,
        "rows_by_schema": schemas,
        "row_counts": row_counts,
        "watermarks": read_from,
        "changes_waiting": waiting,
        "size_bytes": path.stat().st_size,
        "generations": len(kept),
        "all_size_bytes": sum(each.size_bytes for each in kept),
    }
    t, zone = out.text, settings.zone
    rows_text = ", ".join(f"{schema} {rows:,}" for schema, rows in schemas.items())
    waits = t("not known", "未知") if waiting is None else f"{waiting:,}"
    lines = [
        t(
            f"generation {known.generation}, as of {known.as_of_date} ({known.business_zone}), run {known.run_id}",
            f"第 {known.generation} 版，数据截至 {known.as_of_date}（{known.business_zone}），任务 {known.run_id}",
        ),
        t(
            f"published {known.published_at.astimezone(zone):%Y-%m-%d %H:%M}, {_age(out, age_seconds)} ago",
            f"发布于 {known.published_at.astimezone(zone):%Y-%m-%d %H:%M}，{_age(out, age_seconds)}前",
        ),
        t(f"rows: {rows_text}", f"行数：{rows_text}"),
        *(
            t(
                f"read up to position {mark['position']:,} of {mark['source_name']}, last change "
                + (
                    f"{mark['last_change_at'].astimezone(zone):%Y-%m-%d %H:%M:%S}" if mark["last_change_at"] else "none"
                ),
                f"已读到 {mark['source_name']} 的位置 {mark['position']:,}，最后变更 "
                + (f"{mark['last_change_at'].astimezone(zone):%Y-%m-%d %H:%M:%S}" if mark["last_change_at"] else "无"),
            )
            for mark in read_from
        ),
        t(f"changes waiting to be loaded: {waits}", f"待加载的变更：{waits}"),
        t(
            f"{_size(path.stat().st_size)}; generations kept: {len(kept)}, {_size(sum(k.size_bytes for k in kept))}",
            f"{_size(path.stat().st_size)}；保留 {len(kept)} 版，共 {_size(sum(k.size_bytes for k in kept))}",
        ),
    ]
    out.emit(data, "\n".join(lines))
    if trouble is not None:
        out.warn(f"{trouble.code} {trouble.message('en')}", f"{trouble.code} {trouble.message('zh')}")
    if not has_todays_contract:
        _warn_of_contract(out, known.generation)


def generations(out: Context, as_csv: Csv = False) -> None:
    """Newest first; the live one is marked."""
    from pipelines.warehouse.errors import WarehouseMissing
    from pipelines.warehouse.generations import list_generations
    from pipelines.warehouse.publish import live_link

    kept = list_generations(out.settings.warehouse_dir)
    if not kept:
        raise WarehouseMissing(link=str(live_link(out.settings.warehouse_dir)))
    rows = [_as_row(each) for each in kept]
    if not (out.is_json or as_csv):
        for row in rows:
            row["is_live"] = out.text("live", "当前") if row["is_live"] else ""
            row["size"] = _size(row["size_bytes"])
            row["published_at"] = row["published_at"] and row["published_at"].astimezone(out.settings.zone)
            if row["run_id"] is None:
                row["run_id"] = out.text("can't be read", "无法读取")
    words = {
        "generation": ("generation", "版次"),
        "is_live": ("", ""),
        "as_of_date": ("as of", "数据截至"),
        "published_at": ("published", "发布时间"),
        "size": ("size", "大小"),
        "run_id": ("run", "任务"),
    }
    if as_csv:
        words = {key: words.get(key, ("", "")) for key in rows[0]}
    out.emit_rows(words, rows, as_csv=as_csv)


def rollback(
    out: Context,
    number: Annotated[
        int | None,
        typer.Argument(metavar="[NUMBER]", help=both("default: the one before the live one", "默认为当前版的前一版")),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Nothing is deleted; the next run goes on from the order database and publishes a newer one."""
    from pipelines.warehouse.generations import roll_back

    target = roll_back(out.settings.warehouse_dir, number, dry_run=dry_run)
    known = target.publication
    assert known is not None
    out.emit(
        {**_as_row(target), "is_dry_run": dry_run},
        out.text(
            f"generation {target.number}, as of {known.as_of_date}",
            f"第 {target.number} 版，数据截至 {known.as_of_date}",
        ),
    )
    if dry_run:
        out.say("dry run: nothing was changed", "试运行：未做任何改动")
    elif target.is_live:
        out.say("it was live already", "它本来就是当前版")
    else:
        out.say("live now; the next run goes on from there", "已成为当前版；下一次任务将在此基础上继续")
    if not target.has_todays_contract:
        _warn_of_contract(out, target.number)


def show(
    out: Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help=both("such as mart.backlog", "如 mart.backlog"))],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help=both("only these rows; repeatable", "只看这些行，可重复")),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help=both("rows at most", "最多行数"))] = None,
    as_csv: Csv = False,
) -> None:
    """In the order of the table's key. Without --limit a person sees the first rows, a program gets all."""
    from pipelines.warehouse.read import live_warehouse

    table = _table_of(name)
    conditions, values = _conditions(table, where or [])
    if limit is None and not (out.is_json or as_csv):
        limit = SHOWN_ROWS
    columns = ", ".join(f'"{column}"' for column in table.column_names)
    from_where = f"FROM {table.full_name}" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    order = ", ".join(f'"{column}"' for column in table.key)
    with live_warehouse(out.settings.warehouse_dir) as live:
        known = live.publication(table.full_name)
        total = int(live.query(f"SELECT count(*) AS n {from_where}", values).item())
        rows = live.query(
            f"SELECT {columns} {from_where} ORDER BY {order}" + (f" LIMIT {limit}" if limit else ""), values
        )
    if as_csv and not out.is_json:
        write_csv(table.column_names, rows.iter_rows(named=True), sys.stdout)
    else:
        data = {"publication": known, "table": table.full_name, "total": total} if out.is_json else {}
        listed = rows.to_dicts()
        out.emit_rows({c: (c, c) for c in table.column_names}, listed, data={**data, "rows": listed})
    published = f"{known.published_at.astimezone(out.settings.zone):%Y-%m-%d %H:%M}"
    out.say(
        f"{rows.height:,} of {total:,} rows of {table.full_name}, as of {known.as_of_date}, published {published}",
        f"{table.full_name} 共 {total:,} 行，显示 {rows.height:,} 行；数据截至 {known.as_of_date}，发布于 {published}",
    )


def _table_of(name: str) -> Table:
    from pipelines.warehouse.tables import TABLES

    by_name = {table.full_name: table for table in TABLES}
    found = by_name.get(name) or next((t for t in TABLES if t.name == name), None)
    if found is None:
        names = [*by_name, *(table.name for table in TABLES)]
        nearest = get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise WrongArgument(
            flag="TABLE",
            problem=f"there is no table {name}; did you mean {nearest}?",
            problem_zh=f"没有数据表 {name}；是否想写 {nearest}？",
        )
    return found


def _conditions(table: Table, asked: list[str]) -> tuple[list[str], list[str]]:
    """SQL conditions on columns of `table`, and their values, for `column=value` words; empty value: is not known."""
    conditions, values = [], []
    for word in asked:
        column, equals, value = word.partition("=")
        if not equals or column not in table.column_names:
            nearest = get_close_matches(column, table.column_names, n=1, cutoff=0.0)[0]
            raise WrongArgument(
                flag="--where",
                problem=f"{word}: write COLUMN=VALUE with a column of {table.full_name}, such as {nearest}=…",
                problem_zh=f"{word}：请写成 列=值，列须属于 {table.full_name}，如 {nearest}=…",
            )
        if value == "":
            conditions.append(f'"{column}" IS NULL')
        else:
            conditions.append(f'CAST("{column}" AS VARCHAR) = ?')
            values.append(value)
    return conditions, values


def _as_row(generation: Generation) -> dict[str, Any]:
    known = generation.publication
    return {
        "generation": generation.number,
        "is_live": generation.is_live,
        "as_of_date": known and known.as_of_date,
        "published_at": known and known.published_at,
        "run_id": known and known.run_id,
        "size_bytes": generation.size_bytes,
        "has_todays_contract": generation.has_todays_contract,
        "path": generation.path,
    }


def _warn_of_contract(out: Context, number: int) -> None:
    out.warn(
        f"generation {number} was built to another contract: screens may miss columns until the next 'dinghuo run daily'",
        f"第 {number} 版按另一份数据约定生成：在下一次 dinghuo run daily 之前，页面可能缺少部分列",
    )


def _age(out: Context, seconds: int) -> str:
    for unit, en, zh, most in ((60, "min", "分钟", 120), (3600, "h", "小时", 72)):
        if seconds < unit * most:
            return f"{round(seconds / unit)} {out.text(en, zh)}"
    return f"{round(seconds / 86400)} {out.text('days', '天')}"


def _size(size_bytes: int) -> str:
    """Bytes for a person.

    >>> _size(1_300_000_000), _size(512_000)
    ('1.3 GB', '0.5 MB')
    """
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
