"""Inventory policy: which products matter, what more or less service would cost, and what lies too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import streamlit as st

from apps.components.charts import class_heat, service_line
from apps.components.figures import SIGNS, fine_percent, percent, qty, short_money, whole_units
from apps.components.planning import published_plan, published_policy
from apps.components.sentences import escaped
from apps.desk.screen import Screen, from_url, to_url
from apps.desk.views.plan import plan_age, warn_if_stale
from apps.readers import locations, planning_rules
from orders_core.domain.rules import CLASSES, Planning
from orders_core.services.plan_changes import SetPlanning, set_planning
from pipelines.policy import Policy, summed

ROWS = 100


def show(screen: Screen) -> None:
    """Draw the page."""
    t = screen.t
    known = published_policy(screen.warehouse_dir)
    if known is None or known.points.is_empty():
        screen.title(t("policy.title"))
        st.info(t("plan.missing"), icon=":material/inventory:")
        return
    planned = known.publication
    screen.title(t("policy.title"), as_of=plan_age(screen, planned.as_of_date, planned.published_at))
    screen.show_told("policy")
    warn_if_stale(screen, planned.as_of_date, planned.published_at)
    plan = published_plan(screen.warehouse_dir, screen.language)
    if plan is not None:
        st.caption(escaped(plan.aim))
    currency = _currency(screen, known)
    points = known.points.filter(pl.col("currency") == currency)
    _sentence(screen, known, currency)
    left, right = st.columns([2, 3], gap="large")
    with left:
        chosen = _classes(screen, known, currency)
    if chosen is not None:
        points = points.filter(pl.col("class") == chosen)
    with right:
        _service(screen, known, points, currency, chosen)
    _lying(screen, known, currency, chosen)


def _currency(screen: Screen, known: Policy) -> str:
    """The currency all amounts of the page are in: that of the most stock, or the one the reader picked."""
    stock = known.points.filter(order_aim="now").group_by("currency").agg(pl.col("mean_stock_cents").sum())
    names = stock.drop_nulls("currency").sort("mean_stock_cents", descending=True)["currency"].to_list()
    if len(names) < 2:
        return names[0] if names else ""
    st.pills(screen.t("policy.currency"), names, key=from_url("in", names[0], names), required=True)
    return to_url("in", names[0])


def _sentence(screen: Screen, known: Policy, currency: str) -> None:
    """What lies there at cost, and how much of it sells slowly or not at all."""
    stock = known.products.filter(cost_currency=currency)["stock_cents"].sum()
    lying = known.lying.filter(currency=currency)
    dead, excess = (lying.filter(stock_class=kind)["excess_value_cents"].sum() for kind in ("dead", "excess"))
    said = {"stock": stock, "excess": excess, "dead": dead}
    st.markdown(
        screen.t(
            "policy.sentence",
            **{name: short_money(round(cents or 0), currency, screen.language) for name, cents in said.items()},
        )
    )


def _classes(screen: Screen, known: Policy, currency: str) -> str | None:
    """The 3 × 3 classes; returns the one that was clicked."""
    t = screen.t
    st.subheader(t("policy.classes"), anchor=False, help=t("policy.classes.help"))
    rows = known.products
    sold = rows.filter(currency=currency)
    money = sold["net_cents"].sum() or 1
    cells = []
    for name in CLASSES:
        mine = rows.filter(pl.col("class") == name)
        share = (sold.filter(pl.col("class") == name)["net_cents"].sum() or 0) / money
        stock = short_money(
            round(mine.filter(cost_currency=currency)["stock_cents"].sum() or 0), currency, screen.language
        )
        facts = {"n": qty(mine.height), "share": percent(share), "stock": stock, "name": name}
        cells.append({
            "class": name, "products": mine.height, "share": share,
            "shown": t("policy.cell", **facts) if mine.height else "–", "told": t("policy.cell.told", **facts),
        })  # fmt: skip
    labels = {one: t(f"policy.class.{one}") for one in "ABCXYZ"}
    clicked: Any = st.altair_chart(
        class_heat(cells, labels=labels, inks=screen.inks), key="classes", on_select="rerun", alt=t("policy.classes")
    )
    picked = clicked["selection"].get("class")
    chosen = str(picked[0]["class"]) if picked else None
    unclassed = rows.filter(~pl.col("class").is_in(CLASSES)).height
    if chosen is not None:
        said = [t("policy.chosen", name=chosen)]
    else:
        said = [t("policy.pick"), *([t("policy.unclassed", n=qty(unclassed))] if unclassed else [])]
    st.caption(("" if screen.language == "zh" else " ").join(said))
    return chosen


def _service(screen: Screen, known: Policy, points: pl.DataFrame, currency: str, chosen: str | None) -> None:
    """The curve with today's point and the reader's, what would change, and the button that makes it so."""
    t = screen.t
    st.subheader(t("policy.service"), anchor=False, help=t("policy.service.help"))
    with screen.store.reading() as conn:
        planning = planning_rules(conn)
    rows = summed(points, kept=known.class_service if chosen is None else ())
    grid = rows.filter(order_aim="cycle_service").sort("service_ratio")
    if grid.is_empty():
        st.info(t("policy.no_cost"), icon=":material/inbox:")
        return
    now = rows.row(by_predicate=pl.col("order_aim") == "now", named=True)
    ratios = grid["service_ratio"].to_list()
    by_cost = rows.filter(order_aim="cost")
    is_cost_offered = by_cost.height > 0 and (chosen is None or planning.target == "cost")
    hows = ["cycle_service", "cost"] if is_cost_offered else ["cycle_service"]
    st.segmented_control(
        t("policy.aim"), hows, key=from_url("aim", "cycle_service", hows), required=True,
        format_func=lambda name: t(f"policy.aim.{name}"), label_visibility="collapsed",
    )  # fmt: skip
    aim = to_url("aim", "cycle_service")
    if aim == "cost":
        proposed, ratio = by_cost.row(0, named=True), None
        words = t("policy.aim.cost")
    else:
        reached = now["service_ratio"] or ratios[-1]  # nothing is asked for: any service is reached
        nearest = min(ratios, key=lambda one: abs(one - reached))
        ratio = st.select_slider(
            t("policy.slider"), ratios, value=nearest, format_func=percent, key=f"ratio_{chosen}_{currency}"
        )
        proposed = grid.row(by_predicate=pl.col("service_ratio") == ratio, named=True)
        words = percent(float(ratio))
    _differences(screen, now, proposed, currency)
    marks = [
        {"name": t("policy.now"), "is_now": True, **_at(now, currency)},
        {"name": words, "is_now": False, **_at(proposed, currency)},
    ]
    shown = grid.select(
        target=pl.Series([percent(one) for one in ratios]),
        stock=pl.Series([whole_units(round(one), currency) for one in grid["mean_stock_cents"]]),
        fill_rate_ratio="fill_rate_ratio",
    )
    st.altair_chart(
        service_line(
            shown, marks, labels={name: t(f"policy.{name}") for name in ("stock", "fill", "target")},
            money=",.3~s", inks=screen.inks,
        ),
        alt=t("policy.service"),
    )  # fmt: skip
    if chosen is None and planning.class_service:
        listed = ", ".join(f"{name} {percent(its)}" for name, its in planning.class_service.items())
        are_planned = planning.class_service == known.class_service
        st.caption(t("policy.own" if are_planned else "policy.own.next", classes=listed))
    own, planned = (classes.get(chosen or "") for classes in (planning.class_service, known.class_service))
    _apply(screen, planning, aim, ratio, chosen, is_planned=own == planned)


def _at(row: dict[str, Any], currency: str) -> dict[str, Any]:
    return {"stock": whole_units(round(row["mean_stock_cents"]), currency), "fill_rate_ratio": row["fill_rate_ratio"]}


def _differences(screen: Screen, now: dict[str, Any], proposed: dict[str, Any], currency: str) -> None:
    """Four figures at the proposed target, each with its difference to what orders aim at now."""
    t = screen.t

    def amount(cents: float) -> str:
        return short_money(round(cents), currency, screen.language)

    def change(name: str) -> float:
        return float(proposed[name] - now[name])

    def signed_amount(cents: float) -> str:
        return ("-" if cents < 0 else "+") + amount(abs(cents))  # Streamlit knows a fall by the hyphen

    fill, before = (1.0 if row["fill_rate_ratio"] is None else row["fill_rate_ratio"] for row in (proposed, now))
    points = 100 * (fill - before)  # where nothing is asked for nothing is missed
    with st.container(horizontal=True, gap="medium"):
        st.metric(
            t("policy.fill"), fine_percent(fill), f"{points:+.1f} {t('policy.points')}", width=130,
            delta_color="off" if abs(points) < 0.05 else "normal",
        )  # fmt: skip
        st.metric(
            t("policy.stock"), amount(proposed["mean_stock_cents"]), signed_amount(change("mean_stock_cents")),
            delta_color="inverse", width=130,
        )  # fmt: skip
        st.metric(
            t("policy.short"), qty(proposed["yearly_short_qty"]), f"{round(change('yearly_short_qty')):+,}",
            delta_color="inverse", width=130,
        )  # fmt: skip
        st.metric(
            t("policy.cost"), amount(proposed["yearly_cost_cents"]), signed_amount(change("yearly_cost_cents")),
            delta_color="inverse", width=130, help=t("policy.cost.help"),
        )  # fmt: skip


def _apply(
    screen: Screen, planning: Planning, aim: str, ratio: float | None, chosen: str | None, *, is_planned: bool
) -> None:
    """The button that makes the proposed target that of all products, or of the class that was clicked."""
    t = screen.t
    of_all = planning.cycle_service_ratio if planning.target == "cycle_service" else None
    if chosen is None:
        command = SetPlanning(target=aim, ratio=ratio)
        is_so = planning.target == aim and (ratio is None or planning.cycle_service_ratio == ratio)
        words = t("policy.apply.cost") if ratio is None else t("policy.apply", ratio=percent(ratio))
    else:
        command = SetPlanning(class_service={chosen: None if ratio == of_all else ratio})
        is_so = planning.class_service.get(chosen, of_all) == ratio and (ratio is not None or planning.target == "cost")
        words = t("policy.apply.class_cost", name=chosen)
        if ratio is not None:
            words = t("policy.apply.class", name=chosen, ratio=percent(ratio))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        is_off = is_so or not screen.may("forecast.override")
        if st.button(words, type="primary", key="apply_policy", disabled=is_off):
            _ask_why(screen, command, words)
        if is_so:
            st.caption(t("policy.apply.is_so" if is_planned else "policy.apply.is_set"), width="content")
        screen.say_role("forecast.override")


def _ask_why(screen: Screen, command: SetPlanning, words: str) -> None:
    """Open the dialog that changes what suggestions aim at, with its reason."""
    t = screen.t

    @st.dialog(words)
    def ask() -> None:
        st.markdown(t("policy.apply.says"))
        reason = st.text_input(t("policy.apply.why"), key="policy_reason").strip()
        if st.button(t("policy.apply.go"), type="primary", key="policy_go"):
            if not reason:
                st.warning(t("policy.apply.say_why"))
                return
            why = replace(command, reason=reason)
            screen.act_in_dialog(set_planning, why, asked="change", done=lambda _: t("policy.applied"))

    ask()


def _lying(screen: Screen, known: Policy, currency: str, chosen: str | None) -> None:
    """What lies too long, most money first."""
    t = screen.t
    rows = known.lying if chosen is None else known.lying.filter(pl.col("class") == chosen)
    rows = rows.filter((pl.col("currency") == currency) | pl.col("currency").is_null())
    st.subheader(t("policy.lying"), anchor=False, help=t("policy.lying.help"))
    if rows.is_empty():
        st.info(t("policy.lying.none"), icon=":material/check:")
        return
    with screen.store.reading() as conn:
        places = locations(conn, language=screen.language)
    english = screen.language == "en"
    shown = [
        {
            "sku": row["sku"],
            "name": (row["sku_name_en"] if english else None) or row["sku_name"],
            "kind": t(f"policy.lying.{row['stock_class']}"),
            "excess": row["excess_qty"],
            "value": None if row["excess_value_cents"] is None else whole_units(row["excess_value_cents"], currency),
            "there": row["on_hand_qty"],
            "sold": row["sold_91d_qty"],
            "place": places.get(row["location_code"], row["location_code"]),
            "left": row["last_shipped_date"],
            "class": row["class"],
        }
        for row in rows.head(ROWS).iter_rows(named=True)
    ]
    date_format = "YYYY-MM-DD" if screen.language == "zh" else "D MMM YYYY"
    sign = SIGNS.get(currency, f"{currency} ")
    st.dataframe(
        shown, hide_index=True, row_height=32, placeholder="", alt=t("policy.lying"), key="lying",
        height="content" if len(shown) <= 18 else 640,
        column_config={
            "sku": st.column_config.TextColumn(t("col.sku"), pinned=True, width=105),
            "name": st.column_config.TextColumn(t("col.name"), width=160),
            "kind": st.column_config.TextColumn(t("policy.lying.kind"), width=90),
            "excess": st.column_config.NumberColumn(t("policy.lying.excess_qty"), format="%,d", width=80),
            "value": st.column_config.NumberColumn(t("col.value"), format=f"{sign}%,.0f", width=90),
            "there": st.column_config.NumberColumn(t("policy.lying.there"), format="%,d", width=80),
            "sold": st.column_config.NumberColumn(t("policy.lying.sold"), format="%,d", width=95),
            "place": st.column_config.TextColumn(t("col.place"), width=135),
            "left": st.column_config.DateColumn(t("policy.lying.left"), format=date_format, width=120),
            "class": st.column_config.TextColumn(t("policy.lying.class"), width=60),
        },
    )  # fmt: skip
    if rows.height > ROWS:
        st.caption(t("policy.lying.more", n=qty(rows.height), shown=ROWS))
