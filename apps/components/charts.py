"""The desk's charts (Altair). Each takes plain rows or frames and the reader's words; colours are those of LOOK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

WATCH, BAD, QUIET = "#B7791F", "#B23A2E", "#7A8691"
AGE_COLOURS = {"today": "#A9C9CC", "1_day": "#4F939B", "2_3_days": "#D08C2B", "older": "#B23A2E"}


@dataclass(frozen=True)
class Inks:
    """The two colours of a chart that the light and the dark page write in differently."""

    history: str
    accent: str


LIGHT, DARK = Inks("#1E2329", "#0F5F6B"), Inks("#E8E6E1", "#5FB6C4")


def backlog_bars(
    rows: Sequence[Any],
    *,
    stages: Mapping[str, str],
    ages: Mapping[str, str],
    labels: Mapping[str, str],
) -> alt.Chart:
    """Open orders by stage (bars) and age (colours); clicking one selects its `status` under the name `stage`.

    Args:
        rows: status, age and orders, as `queries.backlog_by_stage` gives them.
        stages: status → word, in the order of the work.
        ages: age → word, youngest first.
        labels: Words for `stage`, `orders`, `age`.
    """
    frame = pl.DataFrame(
        [
            {
                "status": row.status,
                "stage": stages[row.status],
                "age": ages[row.age],
                "age_no": list(ages).index(row.age),
                "orders": row.orders,
            }
            for row in rows
        ]
    )
    chosen = alt.selection_point(name="stage", fields=["status"])
    return (
        alt.Chart(frame.to_pandas())
        .mark_bar(size=18, cursor="pointer")
        .encode(
            y=alt.Y(
                "stage:N",
                sort=list(stages.values()),
                title=None,
                axis=alt.Axis(labelLimit=160, ticks=False, domain=False),
            ),
            x=alt.X("sum(orders):Q", title=labels["orders"], axis=alt.Axis(format="d", tickMinStep=1, tickCount=6)),
            color=alt.Color(
                "age:N",
                title=labels["age"],
                sort=list(ages.values()),
                scale=alt.Scale(domain=list(ages.values()), range=[AGE_COLOURS[age] for age in ages]),
                legend=alt.Legend(orient="top", columns=2, titleOrient="left"),
            ),
            order=alt.Order("age_no:Q"),
            tooltip=[
                alt.Tooltip("stage:N", title=labels["stage"]),
                alt.Tooltip("age:N", title=labels["age"]),
                alt.Tooltip("orders:Q", title=labels["orders"]),
            ],
        )
        .add_params(chosen)
        .properties(height=alt.Step(30))
    )


def demand_fan(
    history: pl.DataFrame, forecast: pl.DataFrame, *, labels: Mapping[str, str], inks: Inks
) -> alt.LayerChart:
    """Daily demand: history in ink, the forecast's mean in the accent with its 50, 80 and 90 % fan, stock-out days marked.

    Args:
        history: demand_date, demand_qty, is_censored (null: not known).
        forecast: demand_date, mean_qty, q05_qty … q95_qty.
        labels: Words for `day`, `demand`, `history`, `forecast`, `stockout`.
        inks: LIGHT or DARK.
    """
    past = history.select("demand_date", "demand_qty", "is_censored").to_pandas()
    ahead = forecast.select(
        "demand_date", "mean_qty", "q05_qty", "q10_qty", "q25_qty", "q50_qty", "q75_qty", "q90_qty", "q95_qty"
    ).to_pandas()
    out = past[past["is_censored"].fillna(value=False).astype(bool)]
    x = alt.X("demand_date:T", title=None, axis=alt.Axis(format="%m-%d", labelOverlap=True, grid=False))
    title = labels["demand"]
    fan = [
        alt.Chart(ahead)
        .mark_area(color=inks.accent, opacity=opacity, interpolate="step-after")
        .encode(x=x, y=alt.Y(f"{low}:Q", title=title), y2=f"{high}:Q")
        for low, high, opacity in (
            ("q05_qty", "q95_qty", 0.14),
            ("q10_qty", "q90_qty", 0.20),
            ("q25_qty", "q75_qty", 0.30),
        )
    ]
    series = alt.Color(
        "series:N",
        title=None,
        scale=alt.Scale(
            domain=[labels["history"], labels["forecast"], labels["stockout"]], range=[inks.history, inks.accent, BAD]
        ),
        legend=alt.Legend(orient="top"),
    )
    lines = [
        alt.Chart(past.assign(series=labels["history"]))
        .mark_line(strokeWidth=1.2, interpolate="step-after")
        .encode(
            x=x,
            y=alt.Y("demand_qty:Q", title=title),
            color=series,
            tooltip=[
                alt.Tooltip("demand_date:T", title=labels["day"], format="%Y-%m-%d"),
                alt.Tooltip("demand_qty:Q", title=labels["history"]),
            ],
        ),
        alt.Chart(ahead.assign(series=labels["forecast"]))
        .mark_line(strokeWidth=2)
        .encode(
            x=x,
            y="mean_qty:Q",
            color=series,
            tooltip=[
                alt.Tooltip("demand_date:T", title=labels["day"], format="%Y-%m-%d"),
                alt.Tooltip("mean_qty:Q", title=labels["forecast"], format=".1f"),
                alt.Tooltip("q05_qty:Q", title="5 %", format=".0f"),
                alt.Tooltip("q25_qty:Q", title="25 %", format=".0f"),
                alt.Tooltip("q75_qty:Q", title="75 %", format=".0f"),
                alt.Tooltip("q95_qty:Q", title="95 %", format=".0f"),
            ],
        ),
        alt.Chart(out.assign(series=labels["stockout"], zero=0))
        .mark_point(shape="triangle-up", size=40, filled=True, yOffset=6)
        .encode(
            x=x,
            y="zero:Q",
            color=series,
            tooltip=[alt.Tooltip("demand_date:T", title=labels["stockout"], format="%Y-%m-%d")],
        ),
    ]
    return alt.layer(*fan, *lines).properties(height=300)


def stock_fan(
    left: pl.DataFrame, *, reorder_point_qty: int, safety_stock_qty: int, labels: Mapping[str, str], inks: Inks
) -> alt.LayerChart:
    """Stock ahead when nothing more is ordered: a step line with its 50, 80 and 90 % fan, reorder and safety lines.

    Args:
        left: As `planning.projected_stock` gives it.
        labels: Words for `day`, `left`, `reorder_point`, `safety_stock`, `empty`.
        inks: LIGHT or DARK.
    """
    frame = left.to_pandas()
    x = alt.X("demand_date:T", title=None, axis=alt.Axis(format="%m-%d", labelOverlap=True, grid=False))
    fan = [
        alt.Chart(frame)
        .mark_area(color=inks.accent, opacity=opacity, interpolate="step-after")
        .encode(x=x, y=alt.Y(f"low_{share}_qty:Q", title=labels["left"]), y2=f"high_{share}_qty:Q")
        for share, opacity in ((90, 0.14), (80, 0.20), (50, 0.30))
    ]
    line = (
        alt.Chart(frame)
        .mark_line(color=inks.accent, strokeWidth=2, interpolate="step-after")
        .encode(
            x=x,
            y="mean_qty:Q",
            tooltip=[
                alt.Tooltip("demand_date:T", title=labels["day"], format="%Y-%m-%d"),
                alt.Tooltip("mean_qty:Q", title=labels["left"], format=".0f"),
                alt.Tooltip("low_90_qty:Q", title="5 %", format=".0f"),
                alt.Tooltip("high_90_qty:Q", title="95 %", format=".0f"),
            ],
        )
    )
    levels = pl.DataFrame(
        {
            "qty": [reorder_point_qty, safety_stock_qty, 0],
            "level": [labels["reorder_point"], labels["safety_stock"], labels["empty"]],
        }
    ).to_pandas()
    rules = (
        alt.Chart(levels)
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.4)
        .encode(
            y="qty:Q",
            color=alt.Color(
                "level:N",
                title=None,
                sort=None,
                scale=alt.Scale(domain=list(levels["level"]), range=[WATCH, QUIET, BAD]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[alt.Tooltip("level:N", title=" "), alt.Tooltip("qty:Q", title=" ")],
        )
    )
    return alt.layer(*fan, line, rules).properties(height=230)


def class_heat(cells: Sequence[Mapping[str, Any]], *, labels: Mapping[str, str], inks: Inks) -> alt.LayerChart:
    """Products by the money they bring (rows) and by how their weeks vary (columns); clicking one selects its `class` under the
    name `class`.

    Args:
        cells: class (such as "AX"), products, share (of the money sold, 0 to 1), shown (what stands in the cell), told (in
            words).
        labels: Words for `A` … `C`, `X` … `Z`.
        inks: LIGHT or DARK.
    """
    frame = pl.DataFrame(
        [{**cell, "abc": labels[cell["class"][0]], "xyz": labels[cell["class"][1]]} for cell in cells]
    ).to_pandas()
    chosen = alt.selection_point(name="class", fields=["class"])
    x = alt.X("xyz:N", sort=[labels[one] for one in "XYZ"], title=None,
              axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False, labelLimit=130))  # fmt: skip
    y = alt.Y("abc:N", sort=[labels[one] for one in "ABC"], title=None,
              axis=alt.Axis(ticks=False, domain=False, labelLimit=130))  # fmt: skip
    base = alt.Chart(frame).encode(x=x, y=y)
    empty = base.transform_filter("datum.products == 0").mark_rect(color=inks.accent, opacity=0.04)
    full = base.transform_filter("datum.products > 0").encode(tooltip=[alt.Tooltip("told:N", title=" ")])
    rect = full.mark_rect(color=inks.accent).encode(
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 0.6], range=[0.1, 0.5], clamp=True), legend=None)
    )
    words = base.mark_text(
        color=inks.history, lineBreak="\n", fontSize=12, lineHeight=16, baseline="middle", dy=-14
    ).encode(text="shown:N")
    clicked = (  # above the words, which would catch the click
        full.mark_rect(color=inks.accent, fillOpacity=0.01, stroke=inks.history, cursor="pointer")
        .encode(
            strokeWidth=alt.condition(chosen, alt.value(2.5), alt.value(0.5), empty=False),
            strokeOpacity=alt.condition(chosen, alt.value(1.0), alt.value(0.15), empty=False),
        )
        .add_params(chosen)
    )
    return alt.layer(empty, rect, words, clicked).properties(height=240)


def service_line(
    targets: pl.DataFrame, marks: Sequence[Mapping[str, Any]], *, labels: Mapping[str, str], money: str, inks: Inks
) -> alt.LayerChart:
    """What share of demand each target serves from stock (up), and the stock it takes (right), with named points on it.

    Args:
        targets: target (its words), stock (whole money), fill_rate_ratio.
        marks: name, stock, fill_rate_ratio, is_now.
        labels: Words for `stock`, `fill`, `target`.
        money: Format of the stock axis.
        inks: LIGHT or DARK.
    """
    x = alt.X(
        "stock:Q",
        title=labels["stock"],
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(format=money, tickCount=5),
    )
    y = alt.Y(
        "fill_rate_ratio:Q", title=labels["fill"], scale=alt.Scale(zero=False), axis=alt.Axis(format=".0%", tickCount=5)
    )
    line = alt.Chart(targets.to_pandas()).encode(x=x, y=y, tooltip=[
        alt.Tooltip("target:N", title=labels["target"]),
        alt.Tooltip("stock:Q", title=labels["stock"], format=money),
        alt.Tooltip("fill_rate_ratio:Q", title=labels["fill"], format=".1%"),
    ])  # fmt: skip
    dots = pl.DataFrame(marks).to_pandas()
    points = alt.Chart(dots).encode(x=x, y=y, tooltip=[alt.Tooltip("name:N", title=" ")])
    colour = alt.condition("datum.is_now", alt.value(inks.history), alt.value(WATCH))
    return alt.layer(
        line.mark_line(color=inks.accent, strokeWidth=2),
        line.mark_point(color=inks.accent, size=30, filled=True),
        points.mark_point(size=140, filled=True, opacity=1).encode(color=colour),
        points.transform_filter("datum.is_now")
        .mark_text(align="right", dx=-10, dy=-10, fontWeight="bold")
        .encode(text="name:N", color=colour),
        points.transform_filter("!datum.is_now")
        .mark_text(align="left", dx=4, dy=16, fontWeight="bold")
        .encode(text="name:N", color=colour),
    ).properties(height=260)
