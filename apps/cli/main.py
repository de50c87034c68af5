"""The command line: `dinghuo NOUN VERB`. Data go to stdout, words to stderr; see `apps.cli.context` for the exit codes.

What is heavy (databases, frames, forecasts) is imported by the command that needs it, so that `dinghuo --help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from apps.cli import daily, database, imports, notices, orders, plan, replay, serving, setup, stock, stopping, warehouse
from apps.cli.context import FAILED, LANGUAGE, LOCKED, USAGE, WrongArgument, both, group
from apps.cli.terminal import language_of, make_streams_safe, write_line
from orders_core.errors import Busy, ConfigError, OrdersError
from pipelines.warehouse.errors import WarehouseError

BROKEN_PIPE, INTERRUPTED = 141, 130  # 128 + the signal's number, as shells say it

app = group(
    "Orders, stock, shipments and after-sales, and what to restock. Exit codes: 0 done, 1 failed, 2 wrong usage,"
    " 3 rows refused or quarantined, 4 stopped by a quality gate, 5 locked by another run.",
    "订单、库存、发货、售后，以及补货建议。退出码：0 完成，1 失败，2 用法错误，"
    "3 有行被拒绝或隔离，4 被质量检查拦下，5 被其他任务占用。",
)
for part in (database, setup, imports, orders, stock, notices, daily, plan, replay, warehouse, serving):
    part.add_to(app)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        write_line(f"dinghuo {version('dinghuo')}", sys.stdout)
        raise typer.Exit


@app.callback()
def _whole(
    lang: Annotated[str | None, LANGUAGE] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help=both("the version", "版本"))
    ] = False,
) -> None:
    pass


def main() -> None:
    """The program `dinghuo`."""
    make_streams_safe()
    stopping.listen()
    code = run(sys.argv[1:])
    signal_number = stopping.asked_by()
    if signal_number is not None:
        code = 128 + signal_number
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    if code == BROKEN_PIPE:
        # The interpreter flushes once more at exit; there is nobody left to complain to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code. What went wrong is said on stderr; our own mistakes are raised."""
    language = language_of(arguments, os.environ)
    try:
        code = typer.main.get_command(app).main(
            list(arguments), prog_name="dinghuo", standalone_mode=False, obj=language
        )
        return int(code or 0)
    except typer.TyperException as error:
        return _say_usage(error, language)
    except WarehouseError as error:
        return _say(error.code, error.message(language), error.exit_code)
    except OrdersError as error:
        return _say(error.code, error.text(language), exit_code_of(error))
    except (BrokenPipeError, SystemExit):  # Typer's way of saying that nobody reads any more
        return BROKEN_PIPE
    except OSError as error:
        if error.filename is None:  # not about a file that was named to us
            raise
        return _say("E_FILE", f"{error.filename}: {error.strerror}", FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if stopping.is_a_stop(error):
            return INTERRUPTED
        reason = _database_trouble(error)
        if reason is None:
            raise  # our own mistake crashes loudly
        said = f"数据库无法使用：{reason}" if language == "zh" else f"the database can't be used: {reason}"
        return _say("E_DATABASE", said, FAILED)


def exit_code_of(error: OrdersError) -> int:
    """The exit code that tells a script what to do about a refusal."""
    if "exit_code" in error.facts:
        return int(error.facts["exit_code"])
    if isinstance(error, WrongArgument | ConfigError):
        return USAGE
    return LOCKED if isinstance(error, Busy) else FAILED


def _say(code: str, text: str, exit_code: int) -> int:
    write_line(f"{code} {text}", sys.stderr)
    return exit_code


def _say_usage(error: Any, language: str) -> int:
    """What was wrong with the command line, how it is written, and where to read on."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a noun without a verb: its help, on stderr
        write_line(context.get_help(), sys.stderr)
        return USAGE
    if context is not None:
        write_line(context.get_usage(), sys.stderr)
    write_line(f"E_ARG {_usage_sentence(error, language)}", sys.stderr)
    if context is not None:
        see = "详见" if language == "zh" else "see"
        write_line(f"{see} {context.command_path} --help", sys.stderr)
    return USAGE


def _usage_sentence(error: Any, language: str) -> str:
    english = str(error.format_message())
    if language != "zh":
        return english
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    if kind == "NoSuchOption":
        return f"没有选项 {error.option_name}"
    if kind == "MissingParameter" and parameter is not None:
        return f"缺少 {parameter.get_error_hint()}"
    return f"用法错误：{english}"


def _database_trouble(error: Exception) -> str | None:
    """What the database said when it could not be reached or written; None when the mistake is ours."""
    if "sqlalchemy" not in sys.modules:
        return None
    import sqlite3

    from sqlalchemy.exc import DatabaseError, OperationalError

    said = error.orig if isinstance(error, DatabaseError) else error
    # Plain DatabaseError, and none of its other kinds, is how SQLite says that the file is damaged.
    is_trouble = isinstance(error, OperationalError | sqlite3.OperationalError) or type(said) is sqlite3.DatabaseError
    return str(said).strip().splitlines()[0] if is_trouble else None
