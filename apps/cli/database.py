"""`dinghuo init|upgrade|doctor|verify|backup|restore` and `dinghuo audit …`: the database as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.context import FAILED, USAGE, Context, WrongArgument, both, command, group
from apps.cli.context import NoDatabase as _NoDatabase


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    audit = group("The audit trail: seal it, and see that nobody changed it.", "审计记录：封存与核验。")
    app.add_typer(audit, name="audit")
    command(app, "init", "Make the database, ready for use.", "建立数据库。")(init)
    command(app, "upgrade", "Bring the database to this program's schema.", "把数据库升级到本程序的结构版本。")(upgrade)
    command(app, "doctor", "Look for trouble: versions, settings, disk, database.", "体检：版本、设置、磁盘、数据库。")(
        doctor
    )
    command(app, "verify", "Check every invariant over the live database.", "在实际数据上检查所有不变量。")(verify)
    command(app, "backup", "Copy the database into one checked file.", "把数据库备份成一个经过校验的文件。")(backup)
    command(app, "restore", "Make the database what a backup holds.", "从备份文件恢复数据库。")(restore)
    command(audit, "verify", "See whether the sealed trail is intact.", "核验已封存的审计记录。")(audit_verify)
    command(audit, "seal", "Seal what has happened since the last time.", "封存新的审计记录。")(audit_seal)


def init(out: Context) -> None:
    """Make the database; a folder named with -C is made, too."""
    from orders_core.store import schema

    if out.folder is not None:
        out.folder.mkdir(parents=True, exist_ok=True)
    url = out.settings.database_url
    before = schema.schema_version(url)
    version = schema.upgrade(url)
    place = schema.place_of(url)
    out.emit({"database": place, "schema": version, "is_new": before is None}, place)
    if before is None:
        out.say(
            "ready. Next: dinghuo setup channel, dinghuo setup location, dinghuo catalog import, dinghuo stock import",
            "已建立。接下来：dinghuo setup channel、dinghuo setup location、dinghuo catalog import、dinghuo stock import",
        )
    else:
        out.say(f"was there already, at schema {before}", f"已存在，结构版本 {before}")


def upgrade(out: Context) -> None:
    """Upgrade an existing database."""
    from orders_core.store import schema

    url = out.settings.database_url
    before, place = schema.schema_version(url), schema.place_of(url)
    if before is None:
        raise _NoDatabase(place=place)
    version = schema.upgrade(url)
    out.emit({"database": place, "schema": version, "schema_before": before}, version)
    if before == version:
        out.say(f"{place} needed no upgrade", f"{place} 无需升级")
    else:
        out.say(f"{place} upgraded from {before} to {version}", f"{place} 已从 {before} 升级到 {version}")


def doctor(out: Context) -> int:
    """Warnings exit 0, what will not work exits 1."""
    from orders_core.store.doctor import examine

    findings = examine(out.settings)
    rows = [{"level": each.level, "code": each.code, "finding": each.text(out.language)} for each in findings]
    words = {"level": ("level", "级别"), "code": ("checked", "检查项"), "finding": ("finding", "结果")}
    out.emit_rows(words, rows)
    failed, warned = (sum(each.level == level for each in findings) for level in ("fail", "warn"))
    out.say(f"{failed} failed, {warned} warnings", f"{failed} 项不通过，{warned} 项警告")
    return FAILED if failed else 0


def verify(out: Context) -> int:
    """Each violation is one line; exit 1 when there is any."""
    from orders_core.store.verify import INVARIANTS
    from orders_core.store.verify import verify as violations_of

    with out.store() as store:
        violations = violations_of(store)
    found = [
        {"code": each.code, "entity": each.entity, "key": each.key, "en": each.text("en"), "zh": each.text("zh")}
        for each in violations
    ]
    out.emit(
        {"invariants": len(INVARIANTS), "violations": found},
        lambda: (
            "\n".join(each.text(out.language) for each in violations)
            or out.text(f"clean: {len(INVARIANTS)} invariants hold", f"无违规：{len(INVARIANTS)} 条不变量全部成立")
        ),
    )
    if violations:
        out.say(f"{len(violations)} violations", f"{len(violations)} 处违规")
    return FAILED if violations else 0


def backup(out: Context, file: Annotated[Path, typer.Argument(help=both("the new file", "新文件"))]) -> None:
    """Copy the database into a new file while others work."""
    from orders_core.store.backup import backup as copy_into

    if not file.absolute().parent.is_dir():
        parent = file.absolute().parent
        raise WrongArgument(flag="FILE", problem=f"there is no folder {parent}", problem_zh=f"文件夹 {parent} 不存在")
    report = copy_into(out.settings.database_url, file)
    out.emit(_as_json(report), str(report.file))
    _say_report(out, report, "backed up", "已备份")


def restore(
    out: Context,
    file: Annotated[Path, typer.Argument(help=both("a backup", "备份文件"))],
    overwrite: Annotated[bool, typer.Option("--overwrite", help=both("replace what is there", "覆盖现有数据"))] = False,
) -> int:
    """Restore; a database with rows is replaced only when told so."""
    from orders_core.store.backup import DatabaseNotEmpty
    from orders_core.store.backup import restore as restore_from

    try:
        report = restore_from(file, out.settings.database_url, overwrite=overwrite)
    except DatabaseNotEmpty as error:
        if not (out.can_ask and out.ask(f"{error.text('en')}. Replace them?", f"{error.text('zh')}。确定覆盖?")):
            out.warn(
                f"{error.code} {error.text('en')}; say --overwrite",
                f"{error.code} {error.text('zh')}；确认请加 --overwrite",
            )
            return USAGE
        report = restore_from(file, out.settings.database_url, overwrite=True)
    out.emit(_as_json(report), str(report.file))
    _say_report(out, report, "restored", "已恢复")
    return 0


def _as_json(report: object) -> dict[str, object]:
    from orders_core.store.backup import BackupReport

    assert isinstance(report, BackupReport)
    return {
        "file": report.file,
        "size_bytes": report.size_bytes,
        "rows": report.rows,
        "schema": report.schema_version,
        "violations": [str(each) for each in report.violations],
    }


def _say_report(out: Context, report: object, en: str, zh: str) -> None:
    data = _as_json(report)
    out.say(
        f"{en}: {data['rows']:,} rows, schema {data['schema']}", f"{zh}：{data['rows']:,} 行，结构版本 {data['schema']}"
    )
    if data["violations"]:
        count = len(data["violations"])  # type: ignore[arg-type]
        out.warn(f"its data break {count} invariants: dinghuo verify", f"其中数据有 {count} 处违规：dinghuo verify")


def audit_verify(
    out: Context,
    known_seal: Annotated[
        str | None, typer.Option("--known-seal", help=both("a seal you kept elsewhere", "您另行保存的封印"))
    ] = None,
) -> int:
    """Name the first line that is not what was sealed; exit 1 when there is one."""
    from orders_core.store.audit import verify_audit

    with out.store() as store:
        report = verify_audit(store, known_seal=known_seal)
    problem = report.problem
    data = {
        "is_intact": report.is_intact,
        "sealed": report.sealed_count,
        "unsealed": report.unsealed_count,
        "first_unsealed_id": report.first_unsealed_id,
        "last_seal": report.last_seal,
        "problem": problem and {"kind": problem.kind, "en": problem.text("en"), "zh": problem.text("zh")},
    }
    lines = out.text(
        f"sealed {report.sealed_count}, not sealed yet {report.unsealed_count}; last seal {report.last_seal or '-'}",
        f"已封存 {report.sealed_count} 条，未封存 {report.unsealed_count} 条；最后封印 {report.last_seal or '-'}",
    )
    out.emit(data, lines if problem is None else f"{problem.text(out.language)}\n{lines}")
    if problem is None:
        out.say("intact", "完好")
    return 0 if report.is_intact else FAILED


def audit_seal(out: Context) -> None:
    """Seal the tail."""
    from orders_core.store.audit import seal_audit

    with out.store() as store:
        sealed = seal_audit(store)
    out.emit({"sealed": sealed}, str(sealed))
    out.say(f"{sealed} audit rows sealed", f"封存了 {sealed} 条审计记录")
