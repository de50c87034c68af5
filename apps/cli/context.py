"""What every command shares: its common options, the settings, the store, who acts, and what an error becomes."""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from apps.cli.terminal import Terminal, default_name, language_of
from orders_core.errors import OrdersError

if TYPE_CHECKING:
    from orders_core.domain.permissions import Actor
    from orders_core.settings import Settings
    from orders_core.store.uow import Store

DONE, FAILED, USAGE, REFUSED, GATE, LOCKED = 0, 1, 2, 3, 4, 5
"""Exit codes: done; failed; used wrongly; rows refused or quarantined; a quality gate stopped it; locked by another run."""

_AMOUNT = re.compile(r"(?P<whole>[0-9]{1,12})(?:\.(?P<part>[0-9]+))?")
_BREAK = " ¦ "  # between the English and the Chinese half of a help text
_WORDS = {
    "Usage:": "用法：",
    "Options:": "选项：",
    "Arguments:": "参数：",
    "Commands:": "命令：",
    "[OPTIONS]": "[选项]",
    "COMMAND [ARGS]...": "命令 [参数]...",
    "[required]": "[必填]",
    "[default: ": "[默认：",
    "Show this message and exit.": "显示本帮助。",
}
"""The help page's own words."""


class WrongArgument(OrdersError):
    """An option or argument makes no sense; nothing was done."""

    code = "E_ARG"
    en = "{flag}: {problem}"
    zh = "{flag}：{problem_zh}"


def both(en: str, zh: str) -> str:
    """A help text in both languages; the help page shows the reader's half."""
    return en + _BREAK + zh


def half(text: str | None, language: str) -> str | None:
    """The half of a help text in `language`."""
    if not text or _BREAK not in text:
        return text
    en, zh = text.split(_BREAK, 1)
    return zh if language == "zh" else en


class _Spoken:
    """A command or group whose help page is in the reader's language."""

    def get_help(self, ctx: typer.Context) -> str:
        language = ctx.find_root().obj or "en"
        for part in (self, *self.params, *getattr(self, "commands", {}).values()):  # type: ignore[attr-defined]
            if getattr(part, "help", None):
                part.help = half(part.help, language)
        page = str(super().get_help(ctx))  # type: ignore[misc]
        if language == "zh":
            for en, zh in _WORDS.items():
                page = page.replace(en, zh)
        return page


class SpokenCommand(_Spoken, TyperCommand):
    """A command with help in two languages."""


class SpokenGroup(_Spoken, TyperGroup):
    """A group of commands with help in two languages."""


def _check_language(language: str | None) -> str | None:
    one_of("--lang", language, ("zh", "en"))
    return language


LANGUAGE = typer.Option(
    "--lang", metavar="zh|en", callback=_check_language, help=both("language of the words", "文字语言")
)


def group(en: str, zh: str) -> typer.Typer:
    """A group of commands: a noun."""
    noun = typer.Typer(
        cls=SpokenGroup,
        help=both(en, zh),
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @noun.callback()
    def _speak(lang: Annotated[str | None, LANGUAGE] = None) -> None:
        pass  # read from the command line before anything is parsed: see language_of

    return noun


class Context(Terminal):
    """A terminal, and the business the command works on."""

    database: str | None = None
    folder: Path | None = None
    actor_name: str | None = None
    _settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings of this run: flag before environment before default."""
        if self._settings is None:
            self._settings = self._read_settings()
        return self._settings

    def use(self, settings: Settings) -> None:
        """Work on what these settings name instead."""
        self._settings = settings

    def _read_settings(self) -> Settings:
        from pydantic import ValidationError
        from sqlalchemy.engine import make_url

        from orders_core.settings import Settings, from_env

        settings = from_env()
        if self.database is not None:
            url = self.database if "://" in self.database else f"sqlite:///{self.database}"
            try:
                settings = Settings(**{**settings.model_dump(), "database_url": url})
            except ValidationError:
                raise WrongArgument(
                    flag="--db",
                    problem="expected a file, sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
                    problem_zh="应为文件、sqlite:///文件 或 postgresql+psycopg://用户:密码@主机/库名",
                ) from None
        if self.folder is None:
            return settings
        inside = {
            "warehouse_dir": self.folder / settings.warehouse_dir,
            "outbox_dir": self.folder / settings.outbox_dir,
        }
        url = make_url(settings.database_url)
        if self.database is None and url.get_backend_name() == "sqlite" and url.database:
            inside["database_url"] = f"sqlite:///{self.folder / url.database}"
        return settings.model_copy(update=inside)

    @property
    def actor(self) -> Actor:
        """Who acts: the person at this machine. Whoever may open the database may do everything in it."""
        from orders_core.domain.permissions import Actor

        return Actor(self.actor_name or default_name(), frozenset({"manager"}))

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The business's database, refused unless its schema is exactly this program's."""
        from apps.wiring import open_store
        from orders_core.store import schema

        settings = self.settings
        if schema.schema_version(settings.database_url) is None:
            place = schema.place_of(settings.database_url)
            raise NoDatabase(place=place if "://" in place else Path(place).absolute())
        schema.require_current(settings.database_url)
        store = open_store(settings)
        try:
            yield store
        finally:
            store.close()

    def run(self, store: Store, service: Callable[..., Any], command: Any, *, dry_run: bool = False) -> Any:
        """Run a service, or with `dry_run` see what it would do and undo it."""
        if not dry_run:
            return store.run(service, self.actor, command)

        def rehearse(uow: Any, actor: Any) -> Any:
            with uow.dry_run():
                return service(uow, actor, command)

        result = store.run(rehearse, self.actor)
        self.say("dry run: nothing was written", "试运行：未写入任何内容")
        return result


class NoDatabase(OrdersError):
    """There is nothing to work on yet."""

    code = "E_NO_DATABASE"
    en = "there is no business at {place} yet; make one with 'dinghuo init', or a demo with 'dinghuo demo'"
    zh = "{place} 还没有数据；请先运行 dinghuo init，或用 dinghuo demo 建立演示公司"


_JSON = typer.Option("--json", help=both("the result as JSON on stdout", "以 JSON 输出结果"))
_QUIET = typer.Option("-q", "--quiet", help=both("no words, only data and errors", "只输出数据和错误"))
_VERBOSE = typer.Option("-v", "--verbose", help=both("more words", "更多说明"))
_DATABASE = typer.Option("--db", metavar="URL|FILE", help=both("the database (DINGHUO_DATABASE_URL)", "数据库"))
_FOLDER = typer.Option("-C", "--folder", metavar="DIR", help=both("the business's folder", "数据所在文件夹"))
_ACTOR = typer.Option("--as", metavar="NAME", help=both("who does this (default: you)", "操作人（默认为当前用户）"))

_COMMON: dict[str, Any] = {
    "lang": Annotated[str | None, LANGUAGE],
    "json_": Annotated[bool, _JSON],
    "quiet": Annotated[bool, _QUIET],
    "verbose": Annotated[bool, _VERBOSE],
    "database": Annotated[str | None, _DATABASE],
    "folder": Annotated[Path | None, _FOLDER],
    "actor": Annotated[str | None, _ACTOR],
}

DryRun = Annotated[bool, typer.Option("--dry-run", help=both("do nothing, show what would happen", "只预演，不写入"))]
Csv = Annotated[bool, typer.Option("--csv", help=both("the list as CSV on stdout", "以 CSV 输出列表"))]


def command(app: typer.Typer, name: str, en: str, zh: str) -> Callable[[Callable[..., int | None]], Callable[..., Any]]:
    """Make a function a command of `app`, with the options every command has.

    The function gets a `Context` first, then its own options by name; what it returns is the exit code, None is 0.
    """

    def decorate(function: Callable[..., int | None]) -> Callable[..., Any]:
        hints = typing.get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        annotations = {"ctx": typer.Context} | {each.name: hints[each.name] for each in own} | _COMMON

        def run(ctx: typer.Context, **values: Any) -> None:
            common = {key: values.pop(key) for key in _COMMON}
            language = common["lang"] or ctx.find_root().obj or language_of([], os.environ)
            context = Context(language, common["json_"], common["verbose"] - common["quiet"])
            context.database, context.folder, context.actor_name = (
                common[key] for key in ("database", "folder", "actor")
            )
            code = function(context, **values)
            if code:
                raise typer.Exit(code)

        keyword = inspect.Parameter.KEYWORD_ONLY
        run.__name__, run.__annotations__ = function.__name__, annotations
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
            + [parameter.replace(kind=keyword, annotation=hints[parameter.name]) for parameter in own]
            + [
                inspect.Parameter(
                    key, keyword, annotation=kind, default=False if key in ("json_", "quiet", "verbose") else None
                )
                for key, kind in _COMMON.items()
            ]
        )
        app.command(name, help=both(en, zh), cls=SpokenCommand)(run)
        return function

    return decorate


def a_day(flag: str, text: str | None) -> date | None:
    """The day an option names.

    Raises:
        WrongArgument: It is not a day written 2024-01-31.
    """
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise WrongArgument(
            flag=flag,
            problem=f"{text} is not a day of the calendar; write it like 2024-01-31",
            problem_zh=f"{text} 不是有效日期；请写成 2024-01-31 的形式",
        )
    return day


def cents_of(flag: str, text: str, currency: str) -> int:
    """An amount typed like 1234.50, in minor units of the currency.

    Raises:
        WrongArgument: It is no amount, or has more decimals than the currency.
    """
    from babel.numbers import get_currency_precision

    digits = int(get_currency_precision(currency))
    match = _AMOUNT.fullmatch(text)
    if match is None or len(match["part"] or "") > digits:
        like = f"{1234.5:.{digits}f}"
        raise WrongArgument(
            flag=flag,
            problem=f"{text} is not an amount with at most {digits} decimals, like {like}",
            problem_zh=f"{text} 不是金额，应写成 {like} 的形式，最多 {digits} 位小数",
        )
    return int(match["whole"]) * 10**digits + int((match["part"] or "").ljust(digits, "0") or 0)


def one_of(flag: str, value: str | None, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of `choices`; None is none given."""
    if value is not None and value not in choices:
        listed = ", ".join(choices)
        raise WrongArgument(
            flag=flag, problem=f"{value} is not one of {listed}", problem_zh=f"{value} 不是 {listed} 之一"
        )
