"""`dinghuo run daily|refresh|backfill`: what the orders teach."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.alerting import alerts_of, told
from apps.cli.context import Context, WrongArgument, a_day, both, command, group

if TYPE_CHECKING:
    from orders_core.store.uow import Store
    from pipelines.daily import RunReport


TOLD_STEPS = 5  # of a daily run beside the modelled tables: load, forecast, suggestions, check, publish


def add_to(app: typer.Typer) -> None:
    """Add the groups."""
    run = group("Jobs.", "任务。")
    app.add_typer(run, name="run")
    command(run, "daily", "Learn from the orders: demand, forecast, suggestions.", "每日任务：需求、预测、补货建议。")(
        daily
    )
    command(
        run,
        "refresh",
        "Bring the tables up to this moment, without a new forecast.",
        "刷新数据到当前时刻（不重新预测）。",
    )(refresh)
    command(
        run, "backfill", "Do a range of days again, each as it was known then.", "补跑一段日期，每天按当时所知重算。"
    )(backfill)


def daily(
    out: Context,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="YYYY-MM-DD",
            help=both("last day to learn from (default: yesterday)", "学习到哪一天为止（默认昨天）"),
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help=both("read everything again", "全部重新读取"))] = False,
) -> None:
    """Build and publish the warehouse as known at the end of a business day; seal the audit trail."""
    day, run_id = a_day("--as-of", as_of), new_run_id()
    with told(out, "daily", run_id=run_id):
        _daily(out, day, full=full, run_id=run_id)


def _daily(out: Context, day: date | None, *, full: bool, run_id: str) -> None:
    from orders_core.services.receiving import ReserveDue, reserve_due
    from orders_core.store.audit import seal_audit

    with out.store() as store:
        today = store.clock.now().astimezone(store.zone).date()
        if day is None:
            day = today - timedelta(days=1)
            out.say(f"as of {day}, the last whole business day", f"截至 {day}（最近一个完整营业日）")
        _not_in_future("--as-of", day, today)
        _not_before_all(store, day, today)
        # What is to be done once a day, and not when an earlier day is looked at again.
        is_today = day >= today - timedelta(days=1)
        # Goods that came free since go to the orders that wait for them.
        filled = out.run(store, reserve_due, ReserveDue()) if is_today else []
        sealed = seal_audit(store) if is_today else 0
        clock = store.clock
    report = run_and_show(out, day, full=full, now=clock.now, run_id=run_id)
    priced = _publish_prices(out)
    if is_today:  # the prices are in the trail as well
        with out.store() as store:
            sealed += seal_audit(store)
    _say_warnings(out, report)
    if not report.row_counts.get("core.fct_order_line"):
        out.say(
            f"no orders up to {day}; --as-of {today} takes today's, too",
            f"截至 {day} 没有订单；--as-of {today} 可包含今天",
        )
    given = sorted({each.number for each in filled})
    if given:
        out.say(f"given to waiting orders: {', '.join(given)}", f"已分配给等待的订单：{', '.join(given)}")
    data = {**report.as_json(), "orders_given_stock": given, "audit_rows_sealed": sealed, "stock_prices": priced}
    out.emit(data, lambda: _report_lines(out, report))


def _publish_prices(out: Context) -> int:
    """Tell the core what a unit is worth where it lies; returns how many prices are live."""
    from pipelines.hints import publish_prices

    at = out.settings
    done = publish_prices(at.database_url, at.warehouse_dir, zone=at.business_zone, actor=out.actor)
    return 0 if done is None else done.prices


def _say_warnings(out: Context, report: RunReport) -> None:
    """What a person should look at although the run went well."""
    for warning in report.warnings:
        out.warn(f"{warning['code']} {warning['en']}", f"{warning['code']} {warning['zh']}")


def _not_in_future(flag: str, day: date, today: date) -> None:
    """Of a day that has not come nothing is known: its tables would be empty, and live."""
    if day > today:
        raise WrongArgument(
            flag=flag,
            problem=f"{day} is in the future; today is {today}",
            problem_zh=f"{day} 在今天（{today}）之后",
        )


def _not_before_all(store: Store, day: date, today: date) -> None:
    """A day before the first order would replace the plan by an empty one: a slip in the year. Yesterday is none."""
    from apps.readers import first_order_date

    with store.reading() as conn:
        first = first_order_date(conn)
    if first is not None and day < min(first, today - timedelta(days=1)):
        raise WrongArgument(
            flag="--as-of",
            problem=f"{day} is before the first order, of {first}: its plan would be empty",
            problem_zh=f"{day} 早于首个订单（{first}），计划会是空的",
        )


def new_run_id() -> str:
    """A name for one run from the command line."""
    return f"cli-{uuid.uuid4().hex[:12]}"


def run_and_show(out: Context, day: date, *, full: bool, now: Any, run_id: str | None = None) -> RunReport:
    """The daily run with a progress bar; the settings say where."""
    # Here and not above: DuckDB and Polars take their time, and no store is open any more when the run begins.
    from pipelines.daily import run_daily
    from pipelines.model import MODELLED

    settings = out.settings
    with _steps(out, len(MODELLED) + TOLD_STEPS) as tell:
        return run_daily(
            settings.database_url,
            settings.warehouse_dir,
            as_of=day,
            zone=settings.business_zone,
            run_id=run_id or new_run_id(),
            now=now,
            full=full,
            progress=tell,
        )


@contextmanager
def _steps(out: Context, steps: int) -> Iterator[Callable[[str], None]]:
    """What a run is given to tell its steps to: a bar, where somebody watches."""
    with out.progress() as progress:
        done = 0

        def tell(step: str) -> None:
            nonlocal done
            if progress is not None:
                progress(step, done, max(steps, done))
            done += 1

        yield tell


def refresh(
    out: Context,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="YYYY-MM-DD", help=both("last day to take (default: today)", "包含到哪一天（默认今天）")
        ),
    ] = None,
    watch: Annotated[
        int | None,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            min=1,
            help=both(
                "go on until stopped: look for changes every so many seconds", "持续运行：每隔若干秒检查一次变更"
            ),
        ),
    ] = None,
) -> None:
    """Load what changed, model it, check what moved, publish. Forecast and suggestions stay those of the daily run."""
    day, run_id = a_day("--as-of", as_of), new_run_id()
    if watch is None:
        with told(out, "refresh", run_id=run_id):
            _refresh(out, day, run_id=run_id)
    else:
        _watch(out, day, every_seconds=watch)


def _refresh(out: Context, day: date | None, *, run_id: str) -> None:
    from pipelines.daily import run_refresh
    from pipelines.model import MODELLED

    with out.store() as store:
        clock = store.clock
        today = clock.now().astimezone(store.zone).date()
        day = day or today
        _not_in_future("--as-of", day, today)
    settings = out.settings
    with _steps(out, len(MODELLED) + TOLD_STEPS) as tell:
        report = run_refresh(
            settings.database_url,
            settings.warehouse_dir,
            as_of=day,
            zone=settings.business_zone,
            run_id=run_id,
            now=clock.now,
            progress=tell,
        )
    _say_warnings(out, report)
    out.emit(report.as_json(), lambda: _report_lines(out, report))


def _watch(out: Context, day: date | None, *, every_seconds: int) -> None:
    """Refresh whenever there is news, until a signal comes. A run that fails is said and told, and the watch goes on."""
    from orders_core.errors import OrdersError
    from pipelines.changes import unseen_changes
    from pipelines.warehouse.errors import WarehouseError, WarehouseMissing, WarehouseUnreadable
    from pipelines.warehouse.read import publication

    alerts_of(out)  # a wrong address is refused now, and not in the night; so is a database that is not there
    with out.store():
        pass
    settings, clock = out.settings, _system_clock()
    out.say(f"looking for changes every {every_seconds} s", f"每 {every_seconds} 秒检查一次变更")
    while True:
        run_id = new_run_id()
        try:
            with told(out, "refresh", run_id=run_id):
                try:
                    known_day = publication(settings.warehouse_dir).as_of_date
                except (WarehouseMissing, WarehouseUnreadable):  # a refresh builds it anew
                    known_day = None
                wanted_day = day or clock.now().astimezone(settings.zone).date()
                if known_day != wanted_day or unseen_changes(settings.database_url, settings.warehouse_dir):
                    _refresh(out, day, run_id=run_id)
        except WarehouseError as error:
            out.warn(f"{error.code} {error.message('en')}", f"{error.code} {error.message('zh')}")
        except OrdersError as error:
            out.warn(f"{error.code} {error.text('en')}", f"{error.code} {error.text('zh')}")
        time.sleep(every_seconds)


def _system_clock() -> Any:
    from orders_core.ports import SystemClock

    return SystemClock()


def backfill(
    out: Context,
    days: Annotated[
        str, typer.Argument(metavar="A..B", help=both("first and last day: 2024-01-01..2024-01-31", "首日..末日"))
    ],
    full: Annotated[bool, typer.Option("--full", help=both("read everything again", "全部重新读取"))] = False,
) -> None:
    """Load once, then do for each day what its daily run does. The newest plan stays on the screens."""
    first, last = _range_of_days(days)
    run_id = new_run_id()
    with told(out, "backfill", run_id=run_id):
        from pipelines.daily import run_backfill
        from pipelines.model import MODELLED

        with out.store() as store:
            clock = store.clock
            today = clock.now().astimezone(store.zone).date()
        _not_in_future("A..B", last, today)
        settings, count = out.settings, (last - first).days + 1
        with _steps(out, count * (len(MODELLED) + 2) + 3) as tell:
            report = run_backfill(
                settings.database_url,
                settings.warehouse_dir,
                first=first,
                last=last,
                zone=settings.business_zone,
                run_id=run_id,
                now=clock.now,
                full=full,
                progress=tell,
            )
        _say_warnings(out, report)
        data = {**report.as_json(), "first_date": first, "last_date": last, "days": count}
        out.emit(
            data,
            lambda: (
                out.text(f"{count} days, {first} to {last}\n", f"{count} 天，{first} 至 {last}\n")
                + _report_lines(out, report)
            ),
        )


def _range_of_days(text: str) -> tuple[date, date]:
    """First and last day of `A..B`, or of one day.

    Raises:
        WrongArgument: A day that is none, or a range that runs backwards.
    """
    start, dots, end = text.partition("..")
    first = a_day("A..B", start)
    last = a_day("A..B", end) if dots else first
    assert first is not None
    assert last is not None
    if last < first:
        raise WrongArgument(
            flag="A..B",
            problem=f"{text} runs backwards; write {last}..{first}",
            problem_zh=f"{text} 首日晚于末日；请写成 {last}..{first}",
        )
    return first, last


def _report_lines(out: Context, report: RunReport) -> str:
    counts, t = report.counts, out.text
    seconds = sum(step.seconds for step in report.steps)
    kind = t("everything read", "全量读取") if report.is_full_load else t("changes read", "增量读取")
    read = report.row_counts.get("core.fct_order_line", 0)
    lines = [
        t(
            f"generation {report.generation}, as of {report.as_of_date}, {kind}, {seconds:.1f} s",
            f"第 {report.generation} 版，截至 {report.as_of_date}，{kind}，{seconds:.1f} 秒",
        ),
    ]
    if counts:  # a refresh forecasts nothing
        series, rows, to_buy = counts["series"], counts["suggestions"], counts["suggestions_to_buy"]
        lines += [
            t(
                f"{read:,} order lines, {series:,} products at a place forecast, {rows:,} suggestions, {to_buy:,} to buy",
                f"订单明细 {read:,} 行，预测 {series:,} 个商品×仓，建议 {rows:,} 条，其中 {to_buy:,} 条需要采购",
            ),
        ]
    else:
        changed = sum(report.changed_keys.values())
        lines += [
            t(f"{read:,} order lines, {changed:,} changes read", f"订单明细 {read:,} 行，读取变更 {changed:,} 条")
        ]
    if out.verbosity > 0:
        lines += [f"  {step.name}  {step.rows:,}  {step.seconds:.1f} s" for step in report.steps]
    return "\n".join(lines)
