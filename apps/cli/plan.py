"""`dinghuo plan …`: what to restock and why, approving it, and what a planner knows better than the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any

import typer

from apps.cli.context import Context, Csv, DryRun, WrongArgument, a_day, both, command, group, one_of
from apps.cli.orders import Key
from apps.cli.terminal import money, plain

SHOWN_ROWS = 50

Series = Annotated[str, typer.Argument(metavar="SKU@LOCATION", help=both("which product, where", "货号@仓编码"))]
OnlySku = Annotated[str | None, typer.Option("--sku", help=both("only this SKU", "只看该货号"))]
OnlyLocation = Annotated[str | None, typer.Option("--location", help=both("only this location", "只看该仓"))]
From = Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help=both("first day", "第一天"))]
Through = Annotated[str, typer.Option("--through", metavar="YYYY-MM-DD", help=both("last day", "最后一天"))]
Reason = Annotated[str, typer.Option("--reason", help=both("why, in a few words", "原因"))]
Everything = Annotated[
    bool, typer.Option("--all", help=both("also expired and withdrawn ones", "包括已失效和已撤回的"))
]
Number = Annotated[int, typer.Argument(metavar="ID", help=both("its number, see list", "编号（见 list）"))]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    plan = group("What to restock, and why.", "补货建议及原因。")
    app.add_typer(plan, name="plan")
    command(plan, "show", "Suggestions with their reasons, most urgent first.", "补货建议，最紧急的在前。")(show)
    command(
        plan, "approve", "Order what is suggested, each once.", "审核补货建议，生成采购单或生产任务单（每条一次）。"
    )(approve)
    command(
        plan,
        "close",
        "End a purchase order or production order: what has not come is cancelled.",
        "关闭采购单或生产任务单：未到的数量取消。",
    )(close)
    command(
        plan, "service", "What each service target would take in stock and lose.", "各服务水平要占多少库存、丢多少单。"
    )(service)
    override = group("Changes of the forecast.", "调整预测。")
    plan.add_typer(override, name="override")
    command(override, "set", "Change the forecast of coming days.", "调整未来几天的预测。")(set_one)
    command(override, "list", "Overrides with author, reason and expiry.", "查看预测调整。")(list_overrides)
    command(override, "withdraw", "Take an override back.", "撤回一条预测调整。")(withdraw_one)
    adjust = group("Past days that mislead the forecast.", "调整历史需求。")
    plan.add_typer(adjust, name="adjust")
    command(adjust, "set", "Ignore or replace the demand of past days.", "忽略或替换过去几天的需求。")(adjust_days)
    command(adjust, "list", "Adjustments with author and reason.", "查看历史需求调整。")(list_adjustments)
    command(adjust, "withdraw", "Take an adjustment back.", "撤回一条历史需求调整。")(withdraw_adjusted)
    command(plan, "overrides", "What overrides were worth: errors without and with them.", "预测调整的效果。")(
        overrides
    )


def show(
    out: Context,
    sku: Annotated[str | None, typer.Option("--sku", help=both("only this SKU", "只看该货号"))] = None,
    location: Annotated[str | None, typer.Option("--location", help=both("only this location", "只看该仓"))] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=both("also where nothing is to be bought", "包括无需采购的"))
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help=both("rows at most", "最多行数"))] = None,
    as_csv: Csv = False,
) -> None:
    """One row per product and location, with the number of the order it became where it was approved."""
    from apps.components.planning import most_urgent_first
    from apps.components.words import say
    from apps.readers import approvals
    from forecasting.reasons import sentence
    from pipelines.plan import aim, suggestions

    plan = suggestions(
        out.settings.warehouse_dir, language=out.language, only_to_buy=not everything, sku=sku, location_code=location
    )
    if plan.rows.is_empty() and (sku or location):
        _refuse_unknown(out, sku, location)
    known = plan.publication
    with out.store() as store, store.reading() as conn:
        approved = approvals(conn, known.as_of_date)
    for_person = not (out.is_json or as_csv)
    if limit is None:  # a person reads the first ones, a program all of them
        limit = SHOWN_ROWS if for_person else plan.rows.height
    sorted_rows = most_urgent_first(plan.rows, known.as_of_date)
    beyond = sorted_rows["status"].eq("cut").sum()
    rows = sorted_rows.head(limit).to_dicts()
    for row in rows:
        became = approved.get((row["sku"], row["location_code"]))
        row["approved_number"] = became.number if became else None
        row["approved_qty"] = became.approved_qty if became else None
        row["approved_by"] = became.approved_by if became else None
        row["facts"] = json.loads(row["facts"]) if isinstance(row.get("facts"), str) else row.get("facts")
        if out.language == "en" and not as_csv:
            row["sku_name"] = row["sku_name_en"] or row["sku_name"]
    is_list = for_person and sku is None
    if for_person:
        for row in rows:
            row["status"] = say(out.language, f"plan.status.{row['status']}")
            if is_list:
                row["reason"] = sentence(row["reason_codes"][0], row["facts"], out.language) + " …"
    columns = {
        "status": ("status", "状态"),
        "sku": ("sku", "货号"),
        "sku_name": ("name", "名称"),
        "location_code": ("location", "仓"),
        "suggested_qty": ("order", "建议量"),
        "order_by_date": ("order by", "最迟下单"),
        "stockout_date": ("runs out", "预计断货"),
        "supplier_code": ("supplier", "供应商"),
        "approved_number": ("ordered as", "已生成"),
        "reason": ("because", "原因"),
    }
    if as_csv:  # all there is, for a sheet to work on
        others = [name for name in plan.rows.columns if name not in ("facts", "reason_codes")]
        columns |= {name: (name, name) for name in (*others, "approved_qty", "approved_by") if name not in columns}
    out.emit_rows(
        columns,
        rows,
        as_csv=as_csv,
        data={"publication": known, "total": plan.rows.height, "suggestions": rows},
    )
    total, published = plan.rows.height, f"{known.published_at:%Y-%m-%d %H:%M} UTC"
    en, zh = (f", {beyond} of them beyond the budget", f"（其中 {beyond} 条超出预算）") if beyond else ("", "")
    out.say(
        f"{len(rows)} of {total} suggestions{en}, as of {known.as_of_date}, published {published}",
        f"共 {total} 条建议{zh}，显示 {len(rows)} 条；数据截至 {known.as_of_date}，发布于 {published}",
    )
    if is_list and rows:
        out.say("the whole reason: --sku SKU, or --csv", "完整原因：--sku 货号，或 --csv")
    aimed_at = aim(out.settings.warehouse_dir, language=out.language)
    out.say(aimed_at, aimed_at)


def service(
    out: Context,
    of_class: Annotated[
        str | None, typer.Option("--class", metavar="AX", help=both("only products of this class", "只看该类商品"))
    ] = None,
    as_csv: Csv = False,
) -> None:
    """One row per currency and target, least stock first: what is expected if demand goes on as in the coming weeks."""
    from apps.components.figures import fine_percent, percent
    from orders_core.domain.rules import CLASSES
    from pipelines.policy import policy, summed

    if of_class is not None and of_class not in CLASSES:
        listed = ", ".join(CLASSES)
        raise WrongArgument(
            flag="--class", problem=f"{of_class} is not one of {listed}", problem_zh=f"{of_class} 不是 {listed} 之一"
        )
    known = policy(out.settings.warehouse_dir)
    points = known.points if of_class is None else known.points.filter(known.points["class"] == of_class)
    if points.is_empty() and of_class is not None:
        out.say(f"no planned product is in class {of_class}", f"{of_class} 类没有参与计划的商品")
    rows: list[dict[str, Any]] = []
    for currency in sorted(points["currency"].drop_nulls().unique()):
        sums = summed(points.filter(currency=currency), kept=known.class_service if of_class is None else ())
        rows += [{"currency": currency, **row} for row in sums.to_dicts()]
    words = {"cost": ("least cost", "总费用最低"), "now": ("as now", "现在的目标"), "cycle_service": ("", "")}
    shown = rows
    if not (out.is_json or as_csv):
        shown = [
            {
                "target": words[row["order_aim"]][out.language == "zh"] or percent(row["service_ratio"]),
                "fill": None if row["fill_rate_ratio"] is None else fine_percent(row["fill_rate_ratio"]),
                "short": f"{row['yearly_short_qty']:,.0f}",
                **{
                    name: money(round(row[f"{name}_cents"]), row["currency"])
                    for name in ("mean_stock", "yearly_holding", "yearly_shortage", "yearly_cost")
                },
            }
            for row in rows
        ]
    columns = {
        "target": ("cycle service", "周期服务率"),
        "fill": ("from stock", "现货满足率"),
        "mean_stock": ("mean stock", "平均库存"),
        "short": ("missed a year", "年缺货件数"),
        "yearly_holding": ("keeping a year", "年持有费用"),
        "yearly_shortage": ("missing a year", "年缺货损失"),
        "yearly_cost": ("together", "合计"),
    }
    if as_csv or out.is_json:
        columns = {name: (name, name) for name in (rows[0] if rows else ())}
    out.emit_rows(columns, shown, as_csv=as_csv, data={"publication": known.publication, "targets": rows})
    if known.class_service and of_class is None:
        listed = ", ".join(f"{name} {percent(ratio)}" for name, ratio in known.class_service.items())
        out.say(f"classes with a target of their own keep it: {listed}", f"另设目标的分类保持不变：{listed}")


def _refuse_unknown(out: Context, sku: str | None, location: str | None) -> None:
    """A product or place that the plan knows nothing of is most likely a slip of the hand, not one with nothing to order."""
    from pipelines.plan import suggestions

    for flag, word, one in (
        ("--sku", sku, {"sku": sku}),
        ("--location", location, {"location_code": location}),
        ("--sku --location", f"{sku}@{location}", {"sku": sku, "location_code": location}),
    ):
        if None in one.values():
            continue
        known = suggestions(out.settings.warehouse_dir, only_to_buy=False, **one)
        if known.rows.is_empty():
            raise WrongArgument(flag=flag, problem=f"the plan has no {word}", problem_zh=f"计划里没有 {word}")


def approve(
    out: Context,
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SKU@LOCATION[:QTY]", help=both("which, and how many if not as suggested", "货号@仓[:数量]")
        ),
    ] = None,
    trusted: Annotated[
        bool,
        typer.Option(
            "--trusted", help=both("all of grade A or B, or by min/max", "全部可信度 A、B 或按最小/最大库存的")
        ),
    ] = False,
    supplier: Annotated[
        str | None,
        typer.Option(
            "--supplier", help=both("with --trusted: only this supplier's", "仅该供应商（与 --trusted 合用）")
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help=both("why another quantity", "改数量的原因"))] = None,
    of_day: Annotated[
        str | None,
        typer.Option("--of", metavar="YYYY-MM-DD", help=both("of an older plan, on purpose", "指定较早日期的计划")),
    ] = None,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """One purchase order per supplier and place, one production order per made product. What was approved before is named,
    not ordered again, unless that order was closed and nothing of it had come.
    """
    from apps.approving import is_bulk, is_made, series, suggested, terms_missed, totals_by_order, why_not, worth
    from apps.components.words import say
    from apps.readers import closed_again
    from orders_core.services.approve_suggestions import ApproveSuggestions, approve_suggestions
    from pipelines.plan import suggestions

    if bool(wanted) == trusted:
        raise WrongArgument(
            flag="SKU@LOCATION",
            problem="name suggestions, or say --trusted",
            problem_zh="请指定建议，或使用 --trusted",
        )
    if supplier is not None and not trusted:
        raise WrongArgument(flag="--supplier", problem="goes with --trusted only", problem_zh="只能与 --trusted 合用")
    older = a_day("--of", of_day)
    plan = suggestions(out.settings.warehouse_dir, language=out.language, only_to_buy=False, as_of=older)
    rows = {(row["sku"], row["location_code"]): row for row in plan.rows.iter_rows(named=True)}
    if trusted:
        _must_be_bought_from(supplier, rows.values())
        with out.store() as store, store.reading() as conn:
            closed = closed_again(conn, plan.publication.as_of_date)
        chosen = [
            (row, row["suggested_qty"])
            for row in rows.values()
            if why_not(row) is None
            and is_bulk(row)
            and (row["sku"], row["location_code"]) not in closed
            and (supplier is None or (supplier == row["supplier_code"] and not is_made(row)))
        ]
        if not chosen:
            out.say("nothing to approve", "没有可审核的建议")
            out.emit({"approved": [], "purchase_orders": [], "dry_run": dry_run}, "")
            return
    else:
        chosen = [_named(rows, word) for word in wanted or ()]
    as_of = plan.publication.as_of_date
    asked = ApproveSuggestions(
        [suggested(row, as_of_date=as_of, qty=qty, reason=reason) for row, qty in chosen],
        newest_plan_date=as_of if older is None else None,
        idem_key=key,
    )
    with out.store() as store:
        done = out.run(store, approve_suggestions, asked, dry_run=dry_run)
    ordered_now = [pair for pair, one in zip(chosen, done.approved, strict=True) if not one.is_repeat]
    totals = totals_by_order(ordered_now)
    out.emit_rows(
        {
            "sku": ("sku", "货号"),
            "location": ("location", "仓"),
            "qty": ("qty", "数量"),
            "number": ("order", "单号"),
            "approved_by": ("approved by", "审核人"),
        },
        [{**plain(one), "number": one.number} for one in done.approved],
        data={**plain(done), "as_of_date": as_of, "totals": totals, "dry_run": dry_run},
    )
    for (_, wanted_qty), one in zip(chosen, done.approved, strict=True):
        if one.is_repeat:
            en = zh = ""
            if wanted_qty != one.qty:
                en, zh = f"; {one.qty} stays, not {wanted_qty}", f"；仍为 {one.qty} 件，未改为 {wanted_qty}"
                undo = f"dinghuo plan close {one.number}"
                en, zh = f"{en}; to undo it: {undo}", f"{zh}；如需撤回：{undo}"
            out.say(
                f"{one.sku}@{one.location} was approved before by {one.approved_by}: {one.number}{en}",
                f"{one.sku}@{one.location} 已由 {one.approved_by} 审核：{one.number}{zh}",
            )
    for row, qty in ordered_now:
        for missed, term in terms_missed(row, qty):
            out.say(*(say(lang, f"approve.{missed}", of=series(row), qty=qty, term=term) for lang in ("en", "zh")))
    for total in totals:
        value = worth(total, money)
        who, where, lines, units = (total[name] for name in ("supplier_code", "location_code", "lines", "qty"))
        en, zh = ("made here for", "自产，入") if total["is_made"] else (f"{who} to", f"{who} 送")
        out.say(
            f"{en} {where}: {lines} {'product' if lines == 1 else 'products'}, {units:,} {'unit' if units == 1 else 'units'}, "
            f"{value or 'value not known'}",
            f"{zh} {where}：{lines} 种，{units:,} 件，{value or '金额未知'}",
        )


def close(
    out: Context,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help=both("of the order", "采购单或生产任务单号"))],
    reason: Reason,
    dry_run: DryRun = False,
) -> None:
    """A suggestion of which nothing came can be approved again; what else is still needed, the next plan suggests anew."""
    from apps.components.words import say
    from orders_core.services.close_replenishment import CloseReplenishment, close_replenishment
    from orders_core.services.production import ProductionState

    if not reason.strip():
        raise WrongArgument(flag="--reason", problem="say why", problem_zh="请填写原因")
    with out.store() as store:
        done = out.run(store, close_replenishment, CloseReplenishment(number, reason.strip()), dry_run=dry_run)
    out.emit({**plain(done), "dry_run": dry_run}, number)
    kind = "production" if isinstance(done, ProductionState) else "purchase"
    if done.is_repeat:
        out.say(
            "it was closed before; the reason given then stays on record",
            "此前已关闭；审计记录保留当时的原因",
        )
    out.say(
        *(
            say(lang, "purchase.close_done", number=number, status=say(lang, f"{kind}.status.{done.status}"))
            for lang in ("en", "zh")
        )
    )


def _must_be_bought_from(supplier: str | None, rows: Iterable[Mapping[str, Any]]) -> None:
    """A supplier of nothing in the plan is most likely a slip of the hand."""
    from apps.approving import is_made

    known = sorted({row["supplier_code"] for row in rows if row["supplier_code"] and not is_made(row)})
    if supplier is not None and supplier not in known:
        raise WrongArgument(
            flag="--supplier",
            problem=f"the plan buys nothing from {supplier}; it knows {', '.join(known) or 'no supplier'}",
            problem_zh=f"计划里没有向 {supplier} 采购的商品；已知供应商：{'、'.join(known) or '无'}",
        )


def _named(rows: Mapping[tuple[str, str], Mapping[str, Any]], word: str) -> tuple[Mapping[str, Any], int]:
    """The suggestion a word like LAMP@WH1 or LAMP@WH1:40 names, and its quantity."""
    name, colon, qty = word.rpartition(":")
    is_qty = bool(colon) and qty.isascii() and qty.isdigit() and len(qty) <= 7 and int(qty) > 0
    row = rows.get(_series("SKU@LOCATION", name if is_qty else word))
    if row is None and "@" in name and _series("SKU@LOCATION", name) in rows:
        raise WrongArgument(
            flag="SKU@LOCATION",
            problem=f"{word}: {qty!r} is not a whole number of units, 1 to 9,999,999",
            problem_zh=f"{word}：“{qty}”不是 1 到 9,999,999 的整数件数",
        )
    if row is None:
        raise WrongArgument(flag="SKU@LOCATION", problem=f"the plan has no {word}", problem_zh=f"计划里没有 {word}")
    if not is_qty and not row["suggested_qty"]:
        raise WrongArgument(
            flag="SKU@LOCATION",
            problem=f"nothing is suggested for {word}; to order all the same write {word}:QTY",
            problem_zh=f"{word} 没有建议量；仍要订货请写成 {word}:数量",
        )
    return row, int(qty) if is_qty else row["suggested_qty"]


def _series(flag: str, word: str) -> tuple[str, str]:
    sku, at, place = word.rpartition("@")
    if not (sku and at and place):
        raise WrongArgument(
            flag=flag, problem=f"{word} is not written like LAMP@WH1", problem_zh=f"{word} 应写成 LAMP@WH1 的形式"
        )
    return sku, place


# ------------------------------------------------------------------------------------------------ overrides


def set_one(
    out: Context,
    series: Series,
    first: From,
    through: Through,
    reason: Reason,
    daily: Annotated[float | None, typer.Option("--daily", help=both("units a day", "每天件数"))] = None,
    times: Annotated[
        float | None, typer.Option("--times", help=both("times the model, 1.2 = 20 % more", "乘以倍数"))
    ] = None,
    weekly: Annotated[
        float | None, typer.Option("--add-weekly", help=both("units a week more, or fewer", "每周增减件数"))
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="YYYY-MM-DD", help=both("plans of this day on ignore it", "从哪天的计划起失效")
        ),
    ] = None,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Exactly one of --daily, --times, --add-weekly. Without --expires it holds until its last day."""
    from orders_core.services.plan_changes import SetOverride, set_override

    sku, place = _series("SKU@LOCATION", series)
    amounts = {"set_daily": daily, "multiply": times, "add_weekly": weekly}
    given = [(kind, amount) for kind, amount in amounts.items() if amount is not None]
    if len(given) != 1:
        raise WrongArgument(
            flag="--daily, --times, --add-weekly", problem="say exactly one of them", problem_zh="三者必须且只能选一个"
        )
    ((kind, amount),) = given
    from_date, through_date = _must_day("--from", first), _must_day("--through", through)
    asked = SetOverride(sku, place, from_date, through_date, kind, amount, reason, a_day("--expires", expires), key)
    _change(out, set_override, asked, dry_run)
    say_from_when(out)


def say_from_when(out: Context) -> None:
    """What was just changed counts in plans of today and later, and last night's is of yesterday."""
    from apps.components.words import say

    with out.store() as store:
        day = store.clock.now().astimezone(store.zone).date()
    out.say(*(say(language, "change.set_cli", day=day) for language in ("en", "zh")))


def _must_day(flag: str, text: str) -> date:
    day = a_day(flag, text)
    if day is None:
        raise WrongArgument(flag=flag, problem="a day is missing", problem_zh="缺少日期")
    return day


def list_overrides(
    out: Context,
    sku: OnlySku = None,
    location: OnlyLocation = None,
    everything: Everything = False,
    as_csv: Csv = False,
) -> None:
    """Those in force, the newest first."""
    from apps.readers import overrides as read

    with out.store() as store, store.reading() as conn:
        today = store.clock.now().astimezone(store.zone).date()
        rows = read(conn, sku=sku, location_code=location, in_force_on=None if everything else today)
    _list_changes(
        out,
        rows,
        {"kind": ("kind", "方式"), "amount": ("amount", "数值"), "expires_date": ("expires", "失效日")},
        as_csv,
    )


def _list_changes(out: Context, rows: Sequence[Any], own: Mapping[str, tuple[str, str]], as_csv: bool) -> None:
    from apps.components.words import say

    hidden = {"idem_key", "body_hash", "version", "sku_id", "location_id"}
    shown = [{name: value for name, value in row._mapping.items() if name not in hidden} for row in rows]
    if not (out.is_json or as_csv):
        shown = [row | {"kind": say(out.language, f"change.kind.{row['kind']}")} for row in shown]
    out.emit_rows(
        {
            "id": ("id", "编号"),
            "sku": ("sku", "货号"),
            "location_code": ("location", "仓"),
            "from_date": ("from", "自"),
            "through_date": ("through", "至"),
            **own,
            "author": ("author", "制定人"),
            "reason": ("reason", "原因"),
            "withdrawn_by": ("withdrawn by", "撤回人"),
        },
        shown,
        as_csv=as_csv,
    )
    out.say(f"{len(shown)} rows", f"{len(shown)} 行")


def withdraw_one(out: Context, number: Number, dry_run: DryRun = False) -> None:
    """It stays on record; later plans know nothing of it."""
    from orders_core.services.plan_changes import Withdraw, withdraw_override

    _change(out, withdraw_override, Withdraw(number), dry_run)


def withdraw_adjusted(out: Context, number: Number, dry_run: DryRun = False) -> None:
    """It stays on record; later plans learn from the days as they were."""
    from orders_core.services.plan_changes import Withdraw, withdraw_adjustment

    _change(out, withdraw_adjustment, Withdraw(number), dry_run)


def _change(out: Context, service: Any, asked: Any, dry_run: bool) -> None:
    """Run one change of the plan and say its number."""
    with out.store() as store:
        done = out.run(store, service, asked, dry_run=dry_run)
    out.emit({**plain(done), "dry_run": dry_run}, str(done.change_id))


# ------------------------------------------------------------------------------------------------ the past


def adjust_days(
    out: Context,
    series: Series,
    first: From,
    through: Through,
    reason: Reason,
    ignore: Annotated[bool, typer.Option("--ignore", help=both("take the days for unknown", "视为未知"))] = False,
    daily: Annotated[float | None, typer.Option("--daily", help=both("units a day instead", "改为每天件数"))] = None,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Either --ignore or --daily. What was recorded stays as it is."""
    from orders_core.services.plan_changes import AdjustDemand, adjust_demand

    sku, place = _series("SKU@LOCATION", series)
    if ignore == (daily is not None):
        raise WrongArgument(flag="--ignore, --daily", problem="say one of them", problem_zh="两者必须且只能选一个")
    from_date, through_date = _must_day("--from", first), _must_day("--through", through)
    asked = AdjustDemand(sku, place, from_date, through_date, "ignore" if ignore else "replace", reason, daily, key)
    _change(out, adjust_demand, asked, dry_run)
    out.say("the next daily run learns from it", "下次每日任务起生效")


def list_adjustments(
    out: Context,
    sku: OnlySku = None,
    location: OnlyLocation = None,
    everything: Everything = False,
    as_csv: Csv = False,
) -> None:
    """Those that count, the newest first."""
    from apps.readers import adjustments as read

    with out.store() as store, store.reading() as conn:
        rows = read(conn, sku=sku, location_code=location, is_open=not everything)
    _list_changes(out, rows, {"kind": ("kind", "方式"), "daily_qty": ("units a day", "每天件数")}, as_csv)


# ------------------------------------------------------------------------------------------------ measured


def overrides(
    out: Context,
    sku: OnlySku = None,
    location: OnlyLocation = None,
    by: Annotated[
        str, typer.Option("--by", metavar="override|author|reason", help=both("one row per", "按什么汇总"))
    ] = "override",
    as_csv: Csv = False,
) -> None:
    """Units of error without and with the overrides, of days that are known by now; above 0 they helped."""
    from pipelines.plan import override_value, value_by

    one_of("--by", by, ("override", "author", "reason"))
    value = override_value(out.settings.warehouse_dir, sku=sku, location_code=location)
    authors, reasons = value_by(value.rows, "author").to_dicts(), value_by(value.rows, "reason").to_dicts()
    rows = {"override": value.rows.to_dicts(), "author": authors, "reason": reasons}[by]
    who = {
        "override": {
            "override_id": ("id", "编号"),
            "sku": ("sku", "货号"),
            "location_code": ("location", "仓"),
            "author": ("author", "制定人"),
            "reason": ("reason", "原因"),
        },
        "author": {"author": ("author", "制定人"), "overrides": ("overrides", "条数")},
        "reason": {"reason": ("reason", "原因"), "overrides": ("overrides", "条数")},
    }[by]
    out.emit_rows(
        {
            **who,
            "known_days": ("days", "天数"),
            "actual_qty": ("demand", "实际需求"),
            "before_error_qty": ("error before", "调整前误差"),
            "after_error_qty": ("error after", "调整后误差"),
            "value_added_qty": ("value added", "减少的误差"),
        },
        rows,
        as_csv=as_csv,
        data={
            "publication": value.publication,
            "overrides": value.rows.to_dicts(),
            "authors": authors,
            "reasons": reasons,
        },
    )
    total, day = float(value.rows["value_added_qty"].sum()), value.publication.as_of_date
    out.say(
        f"{value.rows.height} overrides with known days, as of {day}: "
        f"{abs(total):,.0f} units of error {'less' if total >= 0 else 'more'} than without them",
        f"截至 {day}，{value.rows.height} 条调整已有实际数据："
        f"误差共{'减少' if total >= 0 else '增加'} {abs(total):,.0f} 件",
    )
