"""One SKU at one location: history and forecast, how the suggested quantity comes about, whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import polars as pl
import streamlit as st

from apps.approving import is_made, why_not
from apps.components.charts import demand_fan, stock_fan
from apps.components.figures import day, money, percent, qty, signed
from apps.components.ledger import ledger
from apps.components.planning import product, projected_stock
from apps.components.sentences import escaped
from apps.desk.screen import Screen
from apps.desk.views.approve import ask_approval
from apps.desk.views.plan import plan_age, warn_if_stale
from apps.desk.views.plan_changes import ask_adjustment, ask_override, overridden_sentence, show_changes
from apps.readers import approvals, locations

WINDOWS = {"90": 90, "365": 365, "all": None}


def show(screen: Screen) -> None:
    """Draw the product named by `?sku=` at the location named by `?at=`."""
    t = screen.t
    sku, place = st.query_params.get("sku", ""), st.query_params.get("at", "")
    plan = product(screen.warehouse_dir, sku, place, screen.language)
    with screen.store.reading() as conn:
        names = locations(conn, language=screen.language)
    where = names.get(place, place)
    if plan is None:
        screen.title(f"{sku} · {where}")
        st.info(t("plan.missing"), icon=":material/inventory:")
        return
    fresh = plan_age(screen, plan.publication.as_of_date, plan.publication.published_at)
    name = _name(screen, plan)
    screen.title(" · ".join(part for part in (sku, name, where) if part), as_of=fresh)
    st.page_link(screen.pages["plan"], label=t("product.back"), icon=":material/arrow_back:")
    screen.show_told(f"product:{sku}@{place}")
    warn_if_stale(screen, plan.publication.as_of_date, plan.publication.published_at)
    if plan.suggestion is None and plan.here.choice is None:
        st.warning(t("product.missing", sku=sku, place=where), icon=":material/search_off:")
        return
    with screen.store.reading() as conn:
        approval = approvals(conn, plan.publication.as_of_date).get((sku, place))
    _decision(screen, plan.suggestion, is_approved=approval is not None)
    _approval(screen, sku, place, plan, approval)
    show_changes(screen, sku, place)
    left, right = st.columns([3, 2], gap="large")
    with left:
        seen = _whose(screen, plan, names)
        if seen.levels is not None and plan.suggestion is not None:
            _projected(screen, sku, seen, through=plan.suggestion["protection_interval_days"] + 7)
        _chart(screen, sku, seen, as_of=plan.publication.as_of_date)
    with right:
        if plan.suggestion is not None:
            _waterfall(screen, plan.suggestion)
        _backtest(screen, seen.choice)


def _whose(screen: Screen, plan: Any, names: Mapping[str, str]) -> Any:
    """What the page shows: of the places that send for each other together, or of this one. Places that stand alone are
    not asked."""
    if plan.together is None:
        return plan.here
    t = screen.t
    chosen = st.segmented_control(
        t("product.whose"),
        ("together", "here"),
        default="together",
        key="whose",
        format_func=lambda name: t(f"product.whose.{name}", count=len(plan.together.places)),
        required=True,
        label_visibility="collapsed",
    )
    where = ("、" if screen.language == "zh" else ", ").join(names.get(code, code) for code in plan.together.places)
    st.caption(t(f"product.whose.{chosen}.help", where=escaped(where)))
    return plan.together if chosen == "together" else plan.here


def _name(screen: Screen, plan: Any) -> str:
    if plan.suggestion is None:
        return ""
    english = plan.suggestion["sku_name_en"]
    return str(english if screen.language == "en" and english else plan.suggestion["sku_name"])


def _decision(screen: Screen, row: Mapping[str, Any] | None, *, is_approved: bool) -> None:
    """What to do, in a sentence, and why."""
    if row is None:
        return
    t = screen.t
    said = []
    if "budget_cut" in row["reason_codes"] and row["suggested_qty"] == 0:
        said.append(t("product.cut"))
    elif row["suggested_qty"] == 0:
        said.append(t("product.wait"))
    elif is_approved:
        said.append(t("product.suggested", qty=qty(row["suggested_qty"])))
    elif row["order_by_date"] is None:
        said.append(t("product.buy_undated", qty=qty(row["suggested_qty"])))
    elif row["order_by_date"] <= screen.today:
        said.append(t("product.buy_now", qty=qty(row["suggested_qty"])))
    else:
        by = day(row["order_by_date"], screen.language, today=screen.today)
        said.append(t("product.buy", qty=qty(row["suggested_qty"]), day=by))
    if row["stockout_date"] is not None and row["inventory_position_qty"] <= 0:
        said.append(t("product.out_here"))
    elif row["stockout_date"] is not None:
        key = "product.out_here_on" if "pooled" in row["reason_codes"] else "product.out_on"
        said.append(t(key, day=day(row["stockout_date"], screen.language, today=screen.today)))
    if row["suggested_qty"] and is_made(row):
        said.append(t("product.made"))
    elif row["suggested_qty"] and row["supplier_name"] and row["unit_cost_cents"] is not None:
        cost, value = (money(row[name], row["currency"]) for name in ("unit_cost_cents", "order_value_cents"))
        said.append(t("product.from", supplier=escaped(row["supplier_name"]), cost=cost, value=value))
    st.markdown((" " if screen.language == "en" else "").join(said))
    st.caption(escaped(row["reason"]))


def _approval(screen: Screen, sku: str, place: str, plan: Any, approval: Any) -> None:
    """What became of the suggestion, and the bar that approves it or changes what it is made of."""
    t, as_of = screen.t, plan.publication.as_of_date
    if approval is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(
                t("product.approved", who=escaped(approval.approved_by), qty=qty(approval.approved_qty)),
                width="content",
            )
            st.page_link(screen.pages["purchase"], label=approval.number, query_params={"no": approval.number})
    with st.bottom, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        row = plan.suggestion
        if row is not None and why_not(row) is None and approval is None:
            label = t("product.approve", qty=qty(row["suggested_qty"]))
            if st.button(label, type="primary", key="approve_one", disabled=not screen.may("purchase.order")):
                ask_approval(screen, [row], as_of_date=as_of)
        may = screen.may("forecast.override")
        if st.button(t("change.override"), key="override", disabled=not may):
            ahead = plan.here.forecast.head(28)["mean_qty"].mean()
            ask_override(screen, sku, place, daily_qty=0.0 if ahead is None else float(ahead))
        if st.button(t("change.adjust"), key="adjust", disabled=not may):
            ask_adjustment(screen, sku, place)
        screen.say_role("forecast.override")


def _projected(screen: Screen, sku: str, seen: Any, *, through: int) -> None:
    """Stock day by day when nothing more is ordered: why the order is needed, and by when."""
    t, levels = screen.t, seen.levels
    st.subheader(t("product.projected"), anchor=False)
    ahead = seen.totals.head(max(28, through))  # further on there is only "long gone"
    left = projected_stock(ahead, levels["inventory_position_qty"])
    labels = {name: t(f"chart.{name}") for name in ("day", "left", "reorder_point", "safety_stock", "empty")}
    chart = stock_fan(
        left,
        reorder_point_qty=levels["reorder_point_qty"],
        safety_stock_qty=levels["safety_stock_qty"],
        labels=labels,
        inks=screen.inks,
    )
    st.altair_chart(chart, alt=t("product.projected.alt", sku=sku))
    st.caption(t("product.projected.help", position=qty(levels["inventory_position_qty"])))


def _chart(screen: Screen, sku: str, seen: Any, *, as_of: date) -> None:
    t = screen.t
    head = st.container(horizontal=True, vertical_alignment="center")
    head.subheader(t("product.history"), anchor=False)
    with head:
        window = st.segmented_control(
            t("product.window"),
            list(WINDOWS),
            default="90",
            key="window",
            format_func=lambda name: t(f"window.{name}"),
            required=True,
            label_visibility="collapsed",
        )
    days = WINDOWS[window]
    history = seen.history
    if days is not None and not history.is_empty():
        history = history.filter(pl.col("demand_date") > as_of - timedelta(days=days))
    labels = {name: t(f"chart.{name}") for name in ("day", "demand", "history", "forecast", "stockout")}
    st.altair_chart(demand_fan(history, seen.forecast, labels=labels, inks=screen.inks), alt=t("product.alt", sku=sku))
    if (moved := overridden_sentence(screen, seen.forecast)) is not None:
        st.caption(f":material/edit: {moved}")
    is_recorded = seen.history["is_censored"].is_not_null().any()
    st.caption(t("product.band" if is_recorded else "product.band.unknown"))
    with st.expander(t("as_table")):
        past = history.select(
            pl.col("demand_date").alias(t("chart.day")),
            pl.col("demand_qty").alias(t("chart.history")),
            pl.col("is_censored").alias(t("chart.stockout")),
        )
        ahead = seen.forecast.select(
            pl.col("demand_date").alias(t("chart.day")),
            pl.col("mean_qty").round(1).alias(t("chart.forecast")),
            pl.col("q05_qty").round(1).alias(t("chart.low")),
            pl.col("q95_qty").round(1).alias(t("chart.high")),
        )
        st.dataframe(ahead, hide_index=True, height=280, alt=t("chart.forecast"))
        st.dataframe(past.reverse(), hide_index=True, height=280, alt=t("chart.history"))


def _waterfall(screen: Screen, row: Mapping[str, Any]) -> None:
    """The quantity as a sum anyone can do again: each part with its sign and the numbers behind it."""
    from pipelines.plan import WATERFALL

    t = screen.t
    st.subheader(t("product.waterfall"), anchor=False)
    interval = t(
        "part.demand",
        days=row["protection_interval_days"],
        lead=row["lead_time_days"],
        review=row["review_period_days"],
    )
    on_hand = (
        t("part.on_hand_unknown")
        if row["on_hand_qty"] is None
        else t("part.on_hand", on_hand=qty(row["on_hand_qty"]), reserved=qty(row["reserved_qty"] or 0))
    )
    worded = {  # with the numbers behind them; the others say themselves
        "demand_part_qty": interval,
        "safety_part_qty": t(
            "part.safety" if row["order_target"] == "cycle_service" else "part.safety.reached",
            service=percent(row["cycle_service_ratio"]),
        ),
        "backordered_part_qty": t("part.backordered"),
        "on_hand_part_qty": on_hand,
        "on_order_part_qty": t("part.on_order"),
        "surplus_part_qty": t("part.surplus"),
        "moq_part_qty": t("part.moq", moq=qty(row["moq_qty"])),
        "pack_part_qty": t("part.pack", pack=qty(row["pack_qty"])),
    }
    always = ("demand_part_qty", "safety_part_qty", "on_hand_part_qty")
    shown = [
        {
            t("col.what"): worded.get(name, labels[0 if screen.language == "zh" else 1]),
            t("col.units"): row.get(name) or 0,
        }
        for name, labels in WATERFALL.items()
        if row.get(name) or name in always
    ]
    shown.append({t("col.what"): f"**= {t('part.total')}**", t("col.units"): row["suggested_qty"]})
    ledger(shown, figures={t("col.units"): signed}, has_header=False)


def _backtest(screen: Screen, choice: Mapping[str, Any] | None) -> None:
    if choice is None:
        return
    t = screen.t
    st.subheader(t("product.backtest"), anchor=False)
    is_tested = choice["wape_ratio"] is not None and choice["baseline_wape_ratio"] is not None
    if not is_tested:
        st.markdown(t("product.backtest.none"))
    else:
        from forecasting.reasons import WORDS as MODELS

        at = 0 if screen.language == "zh" else 1
        skill = choice["skill_ratio"] or 0
        key = "skill.better" if skill > 0.005 else "skill.worse" if skill < -0.005 else "skill.same"
        baseline = choice["baseline_model"]
        st.markdown(
            t(
                "product.backtest.sentence",
                grade=choice["grade"],
                folds=choice["folds"],
                wape=percent(choice["wape_ratio"]),
                baseline=MODELS.get(baseline, (baseline, baseline))[at],
                baseline_wape=percent(choice["baseline_wape_ratio"]),
                skill=t(key, percent=percent(abs(skill))) if key != "skill.same" else t(key),
                bias=f"{choice['bias_units']:+.1f}".replace("-", "−"),
            )
        )
    if choice["grade"]:
        st.caption(t(f"grade.{choice['grade']}"))
    if is_tested:
        st.caption(t("product.backtest.weekly"))
    st.caption(escaped(choice["reason"]))
