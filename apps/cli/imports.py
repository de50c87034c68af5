"""`dinghuo orders|catalog|stock|customers|tracking import`, and what was kept out: `dinghuo quarantine …`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.context import Context, Csv, DryRun, both, command, group, one_of
from apps.cli.stopping import at_once, between_batches
from apps.cli.terminal import Progress, aligned, clean

if TYPE_CHECKING:
    from orders_core.intake.files import Question
    from orders_core.intake.outcome import Outcome

SHOWN_PROBLEMS = 20

NOUNS = {
    "orders": ("orders", "Place the orders of a file, or take in an old system's.", "导入订单文件或历史订单。"),
    "catalog": ("catalogue", "Take in products, prices and kits.", "导入商品、价格与套装。"),
    "stock": ("stock", "Take in what lies where, or by how much it changed.", "导入库存（实盘数或增减数）。"),
    "customers": ("customers", "Take in customers with contact and address.", "导入客户、联系人与地址。"),
    "tracking": ("tracking", "Take in carriers' events.", "导入物流轨迹。"),
}
"""Group of commands → what mappings call it, and the help of its import."""

_MAPPING_NOUNS = tuple(noun for noun, _, _ in NOUNS.values())

_GROUPS = {
    "orders": ("Orders: import, place, look at, decide.", "订单：导入、下单、查看、审核。"),
    "catalog": ("Products, prices, kits.", "商品、价格、套装。"),
    "stock": ("Stock: import, count, receive, look at.", "库存：导入、盘点、收货、查看。"),
    "customers": ("Customers.", "客户。"),
    "tracking": ("Carriers' events.", "物流轨迹。"),
}

groups: dict[str, typer.Typer] = {}


def add_to(app: typer.Typer) -> None:
    """Add the groups and their `import`, and `quarantine`."""
    for name, (en, zh) in _GROUPS.items():
        groups[name] = group(en, zh)
        app.add_typer(groups[name], name=name)
        noun, *words = NOUNS[name]
        command(groups[name], "import", *words)(_import_of(noun))
    kept = group("Rows that imports kept out: look at them, try them again.", "被隔离的行：查看与重试。")
    app.add_typer(kept, name="quarantine")
    command(kept, "list", "Rows kept out, with the reason.", "列出被隔离的行及原因。")(quarantine_list)
    command(kept, "export", "Write the rows kept out to a CSV to be repaired.", "把被隔离的行导出为 CSV 以便修正。")(
        quarantine_export
    )
    command(kept, "replay", "Take the rows in again.", "重新导入被隔离的行。")(quarantine_replay)


def _import_of(noun: str) -> Any:
    def run(
        out: Context,
        file: Annotated[Path, typer.Argument(help=both("CSV, XLSX or Parquet", "CSV、XLSX 或 Parquet 文件"))],
        mapping: Annotated[
            str,
            typer.Option(
                "--mapping", metavar="NAME|FILE", help=both("how columns are read", "列映射（内置名或 TOML 文件）")
            ),
        ] = noun,
        quarantine: Annotated[
            bool,
            typer.Option(
                "--quarantine", help=both("take the good rows, keep the bad ones aside", "导入正确的行，隔离错误的行")
            ),
        ] = False,
        dry_run: DryRun = False,
        report: Annotated[
            Path | None, typer.Option("--report", help=both("every problem, row by row, as CSV", "逐行问题报告（CSV）"))
        ] = None,
        encoding: Annotated[
            str | None, typer.Option("--encoding", help=both("utf-8, utf-16 or gb18030", "文件编码"))
        ] = None,
        delimiter: Annotated[
            str | None,
            typer.Option(
                "--delimiter", help=both("comma, semicolon, tab or pipe", "分隔符：comma、semicolon、tab、pipe")
            ),
        ] = None,
        sheet: Annotated[str | None, typer.Option("--sheet", help=both("sheet of a workbook", "工作表名"))] = None,
        rows: Annotated[
            int | None, typer.Option("--rows", min=0, help=both("rows the sender wrote", "发送方声明的行数"))
        ] = None,
        sha256: Annotated[
            str | None, typer.Option("--sha256", help=both("checksum the sender gave", "发送方给出的校验和"))
        ] = None,
        channel: Annotated[
            str | None, typer.Option("--channel", help=both("where the orders come from", "订单来源渠道"))
        ] = None,
        mode: Annotated[
            str | None,
            typer.Option("--mode", help=both("stock: absolute or delta", "库存：absolute 实盘 / delta 增减")),
        ] = None,
        accept_price_changes: Annotated[
            bool, typer.Option("--accept-price-changes", help=both("catalogue: change prices", "商品：确认价格变动"))
        ] = False,
    ) -> int:
        from orders_core.intake.files import Declared
        from orders_core.intake.mapping import load_mapping
        from orders_core.intake.runs import ImportOptions
        from orders_core.intake.take_in import take_in

        read_as = load_mapping(mapping)
        one_of("--mode", mode, ("absolute", "delta"))
        with out.store() as store, _reporting(out) as progress:
            options = ImportOptions(
                quarantine=quarantine,
                dry_run=dry_run,
                declared=Declared(encoding, delimiter, sheet, rows, sha256),
                report=report,
                channel=channel,
                mode=mode,
                accept_price_changes=accept_price_changes,
                confirm=(lambda question: _confirm(out, question)) if out.can_ask else None,
                progress=progress,
            )
            outcome = take_in(store, out.actor, noun, file, read_as, options)
        show_outcome(out, outcome, report)
        return int(outcome.exit_code)

    return run


@contextmanager
def _reporting(out: Context) -> Iterator[Progress]:
    """Hears how far an import is: draws the bar, and lets it stop there when somebody asked it to."""
    with out.progress() as draw, between_batches() as stop_if_asked:

        def tell(doing: str, done: int, total: int | None) -> None:
            stop_if_asked()
            if draw is not None:
                draw(doing, done, total)

        yield tell


def _confirm(out: Context, question: Question) -> bool:
    """Show a person the first rows as they were read, and ask."""
    width = max(len(row) for row in question.preview)
    cells = [[clean(cell)[:24] for cell in row] + [""] * (width - len(row)) for row in question.preview]
    lines = "\n".join(aligned(cells, [False] * width))
    out.warn(lines, lines)
    with at_once():
        return out.ask(
            f"{question.about}: {question.answer}. Is that right?", f"{question.about}:{question.answer}。对吗?"
        )


def show_outcome(out: Context, outcome: Outcome, report: Path | None = None) -> None:
    """The counts on stdout, the first problems on stderr."""
    language: Any = out.language
    out.emit(outcome.as_json(), outcome.summary(language))
    _say_problems(out, outcome, report)
    if outcome.is_refused:
        out.say(
            "nothing was taken in; --quarantine takes the good rows and keeps the bad ones aside",
            "整个文件未导入；加 --quarantine 可导入正确的行并隔离错误的行",
        )


def _say_problems(out: Context, outcome: Outcome, report: Path | None) -> None:
    language: Any = out.language
    for row in outcome.problems[:SHOWN_PROBLEMS]:
        line = f"{row.problem.code} {row.sentence(language)}"
        out.say(line, line)
    total = sum(outcome.by_code.values())
    if total > SHOWN_PROBLEMS:
        codes = ", ".join(f"{code} {count:,}" for code, count in outcome.by_code.most_common())
        where = f"; {out.text('all of them in', '全部见')} {report}" if report else "; --report FILE"
        out.say(f"{total:,} in all: {codes}{where}", f"共 {total:,} 条：{codes}{where}")


Noun = Annotated[str, typer.Argument(metavar="NOUN", help=both(", ".join(_MAPPING_NOUNS), ", ".join(_MAPPING_NOUNS)))]


def quarantine_list(
    out: Context,
    noun: Annotated[str | None, typer.Argument(metavar="[NOUN]", help=both("only this kind", "只看该类"))] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help=both("rows at most", "最多行数"))] = 50,
    as_csv: Csv = False,
) -> None:
    """What stayed out, with the reason and the text as it stood in the file."""
    from orders_core.intake.replay import kept_rows

    nouns = _MAPPING_NOUNS if noun is None else (_noun(noun),)
    with out.store() as store:
        kept = [(each, row) for each in nouns for row in kept_rows(store, each)]
    rows = [
        {
            "file": row.file,
            "line": row.line,
            "noun": each,
            "code": row.problem.code,
            "reason": row.problem.message("zh" if out.language == "zh" else "en"),
            "cells": ",".join(row.cells),
        }
        for each, row in kept[:limit]
    ]
    out.emit_rows(
        {
            "file": ("file", "文件"),
            "line": ("line", "行"),
            "noun": ("kind", "类别"),
            "code": ("code", "代码"),
            "reason": ("reason", "原因"),
            "cells": ("row", "原文"),
        },
        rows,
        as_csv=as_csv,
        data={"total": len(kept), "rows": rows},
    )
    out.say(f"{len(rows)} of {len(kept)} rows in quarantine", f"隔离区共 {len(kept)} 行，显示 {len(rows)} 行")


def quarantine_export(
    out: Context, noun: Noun, file: Annotated[Path, typer.Argument(help=both("the new CSV", "新的 CSV 文件"))]
) -> None:
    """Write the rows to a CSV; repair the cells there, then replay it."""
    from orders_core.errors import AlreadyExists
    from orders_core.intake.replay import write_quarantine

    if file.exists():
        raise AlreadyExists(entity="文件" if out.language == "zh" else "file", key=file)
    with out.store() as store:
        count = write_quarantine(store, _noun(noun), file)
    out.emit({"file": file, "rows": count}, str(file))
    again = f"dinghuo quarantine replay {noun} --repaired {file}"
    out.say(f"{count} rows; repair them, then {again}", f"{count} 行；修正后运行 {again}")


def quarantine_replay(
    out: Context,
    noun: Noun,
    repaired: Annotated[
        Path | None, typer.Option("--repaired", help=both("the exported CSV, corrected", "修正后的导出文件"))
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Take the rows in again: corrected, or as they are when something else was wrong (a SKU that was missing)."""
    from orders_core.intake.replay import replay
    from orders_core.intake.runs import ImportOptions

    with out.store() as store, _reporting(out) as progress:
        options = ImportOptions(quarantine=True, dry_run=dry_run, progress=progress)
        outcomes = replay(store, out.actor, _noun(noun), options, repaired=repaired)
    counts = ("read", "accepted", "quarantined", "duplicates")
    totals = {name: sum(getattr(each, name) for each in outcomes) for name in counts}
    out.emit(
        {**totals, "dry_run": dry_run, "outcomes": [each.as_json() for each in outcomes]},
        lambda: (
            "\n".join(each.summary("zh" if out.language == "zh" else "en") for each in outcomes)
            or out.text("nothing in quarantine", "隔离区没有行")
        ),
    )
    for outcome in outcomes:
        _say_problems(out, outcome, None)
    return max((int(each.exit_code) for each in outcomes), default=0)


def _noun(name: str) -> str:
    """What mappings call a kind of file; the group's own name (catalog) is understood, too."""
    noun = NOUNS[name][0] if name in NOUNS else name
    one_of("NOUN", noun, _MAPPING_NOUNS)
    return noun
