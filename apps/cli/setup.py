"""`dinghuo setup …`: the few things that must be there before the first order: where orders come from, where goods lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer

from apps.cli.context import Context, DryRun, WrongArgument, both, cents_of, command, group, one_of

Value = TypeVar("Value")
CHANNEL_KINDS = ("web", "marketplace", "store", "phone", "mail", "walk_in", "api", "standing")
CARRIER_KINDS = ("courier", "own_truck", "pick_up")

Code = Annotated[str, typer.Argument(help=both("short and unique", "编码，简短且唯一"))]
Name = Annotated[str | None, typer.Option("--name", help=both("default: the code", "名称，默认与编码相同"))]
NameEn = Annotated[str | None, typer.Option("--name-en", help=both("in English", "英文名称"))]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    setup = group("What must be there before the first order.", "首单之前要设置的内容。")
    app.add_typer(setup, name="setup")
    command(setup, "channel", "Make or change a way orders come in.", "新建或修改渠道。")(channel)
    command(setup, "location", "Make or change a place that holds goods.", "新建或修改仓。")(location)
    command(setup, "target", "What suggestions aim at: see it, or change it.", "补货目标：查看或修改。")(target)
    command(setup, "carrier", "Make or change who brings the goods.", "新建或修改承运商。")(carrier)


def channel(
    out: Context,
    code: Code,
    name: Name = None,
    name_en: NameEn = None,
    kind: Annotated[
        str, typer.Option("--kind", help=both(", ".join(CHANNEL_KINDS), "、".join(CHANNEL_KINDS)))
    ] = "phone",
) -> None:
    """Save a channel."""
    from orders_core.services.master_data import ChannelIn, save_channel

    one_of("--kind", kind, CHANNEL_KINDS)
    _save(out, save_channel, ChannelIn(code, name or code, kind, name_en))


def location(
    out: Context,
    code: Code,
    name: Name = None,
    name_en: NameEn = None,
    region: Annotated[str | None, typer.Option("--region", help=both("province or state", "省份"))] = None,
    default: Annotated[
        bool, typer.Option("--default", help=both("orders go there when nothing speaks against it", "默认发货仓"))
    ] = False,
) -> None:
    """Save a location."""
    from orders_core.services.master_data import LocationIn, save_location

    _save(out, save_location, LocationIn(code, name or code, name_en, region=region, is_default=default))


def carrier(
    out: Context,
    code: Code,
    name: Name = None,
    name_en: NameEn = None,
    kind: Annotated[
        str, typer.Option("--kind", help=both(", ".join(CARRIER_KINDS), "、".join(CARRIER_KINDS)))
    ] = "courier",
) -> None:
    """Save a carrier; own trucks and pick-up need no tracking number."""
    from orders_core.services.master_data import CarrierIn, save_carrier

    one_of("--kind", kind, CARRIER_KINDS)
    _save(out, save_carrier, CarrierIn(code, name or code, name_en, kind, needs_tracking_number=kind == "courier"))


def target(
    out: Context,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help=both("cost, cycle_service or fill_rate", "cost 成本、cycle_service 周期服务率、fill_rate 满足率"),
        ),
    ] = None,
    ratio: Annotated[
        float | None, typer.Option("--ratio", help=both("the service, such as 0.95", "服务率，如 0.95"))
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="CNY=AMOUNT",
            help=both(
                "what the orders of a plan may cost; CNY=none: no limit",
                "每份计划采购和生产的金额上限；CNY=none 为不限",
            ),
        ),
    ] = None,
    class_service: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="AX=RATIO",
            help=both(
                "cycle service of a class of products; AX=none: as the others",
                "某类商品的周期服务率；AX=none 为与其他商品相同",
            ),
        ),
    ] = None,
    protect: Annotated[
        bool | None,
        typer.Option(
            "--protect-channels/--no-protect-channels",
            help=both("hold stock back for the channel that earns most", "是否为利润最高的渠道保留库存"),
        ),
    ] = None,
    pool: Annotated[
        bool | None,
        typer.Option(
            "--pool-places/--places-apart",
            help=both(
                "whether places send for each other and share one safety stock", "各处是否互相代发、共用安全库存"
            ),
        ),
    ] = None,
    holding: Annotated[
        float | None,
        typer.Option("--holding", help=both("a year's keeping, share of the cost", "每年持有成本占进价的比例")),
    ] = None,
    shortage: Annotated[
        float | None,
        typer.Option(
            "--shortage",
            help=both("a unit short, share of the cost, where no price is known", "无售价时缺一件的损失占进价的比例"),
        ),
    ] = None,
    min_max: Annotated[
        str | None,
        typer.Option(
            "--min-max-cents",
            metavar="CENTS|none",
            help=both(
                "grades C and D go by min/max up to this worth", "可信度 C、D 且最大库存金额不超过此数（分）按最小/最大"
            ),
        ),
    ] = None,
    move: Annotated[
        str | None,
        typer.Option(
            "--transfer-cents",
            metavar="CENTS|none",
            help=both("to move a unit between places that are planned apart", "分别计划的各处之间调拨每件的费用（分）"),
        ),
    ] = None,
    move_fixed: Annotated[
        str | None,
        typer.Option(
            "--transfer-fixed-cents", metavar="CENTS", help=both("and for each transfer", "每次调拨的固定费用（分）")
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help=both("why, in a few words", "原因"))] = "",
    dry_run: DryRun = False,
) -> None:
    """Plans as of today and later go by it; by default an order is for least expected cost."""
    from apps.cli.plan import say_from_when
    from forecasting.reasons import aims, terms
    from orders_core.services.plan_changes import SetPlanning, set_planning

    numbers: dict[str, float | None] = {}
    for name, ratio_given in (("holding_ratio", holding), ("shortage_ratio", shortage)):
        if ratio_given is not None:
            numbers[name] = ratio_given
    for name, flag, word in (
        ("min_max_value_cents", "--min-max-cents", min_max),
        ("transfer_unit_cents", "--transfer-cents", move),
        ("transfer_fixed_cents", "--transfer-fixed-cents", move_fixed),
    ):
        if word is not None:
            numbers[name] = _whole_or_none(flag, word)
    budgets = _set_by_name(
        "--budget", budget or (), lambda name, word: cents_of("--budget", word, name), example="CNY=50000"
    )
    by_class = _set_by_name("--class", class_service or (), _ratio, example="AX=0.98")
    asked = SetPlanning(by, ratio, protect, reason, pool, numbers, budgets, by_class)
    with out.store() as store:
        before = out.run(store, set_planning, SetPlanning())
        now = out.run(store, set_planning, asked, dry_run=dry_run)
    held, language = now.model_dump(), "zh" if out.language == "zh" else "en"
    out.emit(held, "\n".join([*aims(held, language), *terms(held, language)]))
    if now != before and not dry_run:
        say_from_when(out)


def _whole_or_none(flag: str, word: str) -> int | None:
    if word.lower() == "none":
        return None
    if not (word.isascii() and word.isdigit()):
        raise WrongArgument(
            flag=flag,
            problem=f"{word} is not a whole number of cents, nor none",
            problem_zh=f"{word} 不是整数（分），也不是 none",
        )
    return int(word)


def _set_by_name(
    flag: str, words: Sequence[str], read: Callable[[str, str], Value], *, example: str
) -> dict[str, Value | None]:
    """`NAME=VALUE` words by name, each value read by `read(name, value)`; `NAME=none` is None."""
    found: dict[str, Value | None] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not (name and value):
            raise WrongArgument(
                flag=flag,
                problem=f"{word} is not written like {example}",
                problem_zh=f"{word} 应写成 {example} 的形式",
            )
        if name in found:
            raise WrongArgument(flag=flag, problem=f"{name} is named twice", problem_zh=f"{name} 重复")
        found[name] = None if value.lower() == "none" else read(name, value)
    return found


def _ratio(name: str, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise WrongArgument(
            flag="--class",
            problem=f"{name}={word} is not a ratio such as 0.95, nor none",
            problem_zh=f"{name}={word} 不是 0.95 这样的比率，也不是 none",
        ) from error


_DONE = {"insert": ("made", "已新建"), "update": ("changed", "已修改"), "same": ("as it was", "无变化")}


def _save(out: Context, service: Any, wanted: Any) -> None:
    with out.store() as store:
        saved = out.run(store, service, wanted)
    out.emit({"code": wanted.code, "operation": saved.operation}, wanted.code)
    out.say(*_DONE[saved.operation])
