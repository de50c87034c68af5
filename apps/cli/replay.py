"""`dinghuo replay`: what the last weeks would have cost under several ways of ordering, in money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.context import Context, WrongArgument, both, command
from apps.cli.terminal import money

if TYPE_CHECKING:
    from pipelines.replay import Past

POLICIES = {
    "ours": ("ours, by cost", "本系统（按成本）"),
    "tuned": ("ours, to the service that was cheapest before", "本系统（按此前最省的周期服务率）"),
    "service": ("ours, to the service target", "本系统（按周期服务率）"),
    "mean13": ("13-week mean with cover", "13 周均值加安全天数"),
    "naive": ("same weeks a year ago with cover", "去年同期加安全天数"),
    "statsforecast": ("statsforecast's best, textbook safety", "statsforecast 最优模型加教科书安全库存"),
    "as_ordered": ("what was really ordered", "实际采购"),
}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "replay",
        "What the last weeks would have cost under several ways of ordering.",
        "回放：最近若干周用不同订货方式会花多少钱。",
    )(replay)


def replay(
    out: Context,
    weeks: Annotated[int, typer.Option("--weeks", min=1, max=104, help=both("weeks back", "回放周数"))] = 26,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="NAME,NAME",
            help=both(f"of {', '.join(POLICIES)}; the first is compared with the others", "订货方式，首个与其余比较"),
        ),
    ] = None,
    service: Annotated[
        float,
        typer.Option("--service", help=both("service that a lost unit's cost is worth", "周期服务率（决定丢单成本）")),
    ] = 0.95,
    holding: Annotated[
        float | None,
        typer.Option(
            "--holding",
            min=0,
            help=both("a year, of the unit cost (else as planned with)", "年持有成本占进价的比例（默认同补货计划）"),
        ),
    ] = None,
    order_cost: Annotated[
        int, typer.Option("--order-cost", min=0, help=both("cents per ordered product", "每次订货成本（分）"))
    ] = 0,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help=both("only so many products", "只抽样若干商品"))
    ] = None,
    backorders: Annotated[
        bool, typer.Option("--backorders", help=both("what is short waits and isn't lost", "缺货等待（不丢单）"))
    ] = False,
    places_apart: Annotated[
        bool, typer.Option("--places-apart", help=both("no place sends for another", "各仓独立，互不代发"))
    ] = False,
) -> None:
    """Replay the live generation's last weeks; nothing is written."""
    names = (policy or "ours,mean13,naive,as_ordered").split(",")
    for name in names:
        if name not in POLICIES:
            listed = ", ".join(POLICIES)
            raise WrongArgument(
                flag="--policy",
                problem=f"{name} is not one of {listed}",
                problem_zh=f"{name} 不是 {listed} 之一",
            )
    if not 0 < service < 1:
        raise WrongArgument(
            flag="--service",
            problem=f"{service} is not between 0 and 1, such as 0.95",
            problem_zh=f"{service} 不在 0 与 1 之间，例如 0.95",
        )
    from forecasting.replay import AS_ORDERED, compare, with_service_costs
    from forecasting.replay import replay as run_replay
    from pipelines.replay import past as past_of
    from pipelines.replay import pools_of, sample_of

    past = past_of(out.settings.warehouse_dir, weeks=weeks, places_apart=places_apart)
    if not past.terms.height:
        raise WrongArgument(
            flag="--weeks",
            problem=f"nothing was asked for in the year before {past.start}, when the replay would begin",
            problem_zh=f"回放起点 {past.start} 之前一年没有需求",
        )
    if AS_ORDERED in names and not past.as_ordered.height:
        names = [name for name in names if name != AS_ORDERED]
        out.say("nothing was bought in these weeks: as_ordered is left out", "期间没有采购：不含实际采购")
    terms = with_service_costs(
        sample_of(past.terms, sample),
        holding_ratio=past.holding_ratio if holding is None else holding,
        cycle_service_ratio=service,
        order_cost_cents=float(order_cost),
    )
    made = {name: policy_named(name, past, terms, service, not backorders) for name in names if name != AS_ORDERED}
    with out.progress() as progress:
        result = run_replay(
            past.history.join(terms.select("unique_id"), on="unique_id", how="semi", maintain_order="left"),
            terms,
            made,
            start=past.start,
            days=past.days,
            items=past.items.join(terms.select("unique_id"), on="unique_id", how="semi", maintain_order="left"),
            closed_dates=past.closed_dates,
            promotions=past.promotions,
            under_way=past.under_way,
            as_ordered=past.as_ordered if AS_ORDERED in names else None,
            is_lost=not backorders,
            tell=lambda done, total: progress("replay", done, total) if progress is not None else None,
        )
    against = {
        row["compared_with"]: row for row in compare(result.money, policy=names[0], pools=terms).iter_rows(named=True)
    }
    rows = sorted(result.summary.to_dicts(), key=lambda row: names.index(row["policy"]))
    data = {
        "first_date": past.start,
        "last_date": past.publication.as_of_date,
        "currency": past.currency,
        "series": terms.height,
        "pools": pools_of(terms),
        "series_with_invented_stock": past.invented_count,
        "series_with_cost_from_price": past.unpriced_count,
        "cycle_service_ratio": service,
        "holding_ratio": holding,
        "order_cost_cents": order_cost,
        "policies": [row | {"difference": against.get(row["policy"])} for row in rows],
    }
    _show(out, data, past.currency)
    if data["pools"]:
        out.say(
            f"products that lie at several places: {data['pools']:,}; these send for each other, however is ordered",
            f"{data['pools']:,} 个商品存于多仓；无论哪种订货方式，各仓互相代发",
        )
    elif places_apart:
        out.say("no place sends for another", "各仓独立，互不代发")
    if "tuned" in made:
        ratio = made["tuned"].cycle_service_ratio
        out.say(
            f"the weeks before were cheapest {'by cost' if ratio is None else f'at {ratio:.0%} cycle service'}",
            f"此前各周以{'按成本' if ratio is None else f'周期服务率 {ratio:.0%}'}最省",
        )
    if any(row["low_cents"] <= 0 <= row["high_cents"] for row in against.values()):
        out.say("where the interval holds 0 no difference is proven", "区间含 0 时差异并无定论")


def policy_named(name: str, past: Past, terms: Any, service: float, is_lost: bool) -> Any:
    """A policy by name; a rule's cover, and the service of `tuned`, are those that were cheapest in the same number of
    days before."""
    from forecasting.forecast import PlanSettings
    from forecasting.replay import COVERS, SERVICES, MeanWithCover, Ours, SeasonalNaive, TextbookSafety, cheapest

    if name == "statsforecast":
        return TextbookSafety(service)
    # half the work of the daily run's: it is done week after week
    settings = PlanSettings(folds=4, slow_series=0, country=past.country)
    rules = {
        "mean13": [MeanWithCover(cover) for cover in COVERS],
        "naive": [SeasonalNaive(cover) for cover in COVERS],
        "tuned": [Ours(settings, ratio) for ratio in SERVICES],
    }
    if name not in rules:
        return Ours(settings, service if name == "service" else None)
    return cheapest(
        rules[name],
        past.history.join(terms.select("unique_id"), on="unique_id", how="semi", maintain_order="left"),
        terms,
        start=past.start,
        days=past.days,
        items=past.items,
        closed_dates=past.closed_dates,
        promotions=past.promotions,
        is_lost=is_lost,
    )


def _show(out: Context, data: dict[str, Any], currency: str) -> None:
    def amount(cents: int) -> str:
        return money(cents, currency)

    shown = []
    for row in data["policies"]:
        apart = row["difference"]
        shown.append(
            {
                "policy": out.text(*POLICIES[row["policy"]]),
                **{name: amount(row[f"{name}_cents"]) for name in ("cost", "holding", "shortage", "ordering")},
                "orders": row["orders"],
                "fill": f"{100 * (row['fill_rate_ratio'] or 0):.1f} %",
                "stock": amount(row["mean_stock_cents"]),
                "difference": amount(apart["difference_cents"]) if apart else "",
                "interval": f"{amount(apart['low_cents'])} … {amount(apart['high_cents'])}" if apart else "",
            }
        )
    out.emit_rows(
        {
            "policy": ("way of ordering", "订货方式"),
            "cost": ("cost", "总成本"),
            "holding": ("holding", "持有"),
            "shortage": ("shortage", "缺货"),
            "ordering": ("ordering", "订货"),
            "orders": ("orders", "订货次数"),
            "fill": ("fill rate", "满足率"),
            "stock": ("mean stock", "平均库存"),
            "difference": ("first less this", "首个减该方式"),
            "interval": ("95 % interval", "95% 区间"),
        },
        shown,
        data=data,
    )
    first, last, count, service = data["first_date"], data["last_date"], data["series"], data["cycle_service_ratio"]
    out.say(
        f"{first} to {last}, {count:,} products at a place, a lost unit costs what makes {service:.0%} service worth it;"
        f" {data['series_with_invented_stock']:,} begin with 4 weeks of demand because no stock is recorded,"
        f" {data['series_with_cost_from_price']:,} are taken to cost half their price",
        f"{first} 至 {last}，{count:,} 个商品×仓，丢单成本按周期服务率 {service:.0%} 折算；"
        f"{data['series_with_invented_stock']:,} 个无库存记录，以 4 周需求为期初；"
        f"{data['series_with_cost_from_price']:,} 个无成本，按售价一半计",
    )
