"""Buy, move or wait: what to restock, most urgent first, each with its reason."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

import polars as pl
import streamlit as st

from apps.components.figures import SIGNS, age, day, moment, money, qty, short_money
from apps.components.planning import STALE_AFTER, STATUSES, Published, published_plan
from apps.desk.screen import Screen, from_url, show_told, to_url
from apps.readers import locations

ROWS = 50


def show(screen: Screen) -> None:
    """Draw the planner's home."""
    t = screen.t
    published = published_plan(screen.warehouse_dir, screen.language)
    if published is None:
        screen.title(t("plan.title"))
        st.info(t("plan.missing"), icon=":material/inventory:")
        return
    screen.title(t("plan.title"), as_of=plan_age(screen, published.as_of_date, published.published_at))
    show_told("plan")
    warn_if_stale(screen, published.as_of_date, published.published_at)
    to_buy = published.rows.filter(pl.col("suggested_qty") > 0)
    _sentence(screen, to_buy)
    rows = _filtered(screen, published)
    if rows.is_empty():
        key = "plan.none" if to_buy.is_empty() else "plan.no_match"
        st.info(t(key), icon=":material/inbox:")
        return
    pages = -(-rows.height // ROWS)
    page_no = min(max(1, int(st.session_state.get("page") or st.query_params.get("page") or 1)), pages)
    shown = rows.slice((page_no - 1) * ROWS, ROWS)
    first = (page_no - 1) * ROWS + 1
    counted = t("plan.count", total=qty(rows.height), first=first, last=first + shown.height - 1)
    st.caption(f"{counted} {t('plan.pick_hint')}")
    _table(screen, shown)
    if pages > 1:
        st.pagination(pages, key="page", bind="query-params")


def plan_age(screen: Screen, as_of: date, published_at: Any) -> str:
    """How fresh the plan is: the day it knows, and when it was published."""
    return screen.t(
        "as_of_day",
        day=day(as_of, screen.language, today=screen.today),
        time=moment(published_at, screen.language, zone=screen.zone, today=screen.today),
    )


def warn_if_stale(screen: Screen, as_of: date, published_at: Any) -> None:
    """A band, not a toast, when the daily run has not run lately."""
    old = screen.now - published_at
    if old > STALE_AFTER or (screen.today - as_of).days > 2:
        shown = day(as_of, screen.language, today=screen.today)
        st.warning(
            screen.t("plan.stale", day=shown, age=age(old, screen.language)), icon=":material/history_toggle_off:"
        )


def _sentence(screen: Screen, to_buy: pl.DataFrame) -> None:
    """How many decisions, how much money, how many of them can be trusted."""
    t = screen.t
    value = to_buy.filter(pl.col("order_value_cents").is_not_null()).group_by("currency").agg(
        pl.col("order_value_cents").sum()
    ).sort("order_value_cents", descending=True)  # fmt: skip
    amounts = [
        short_money(cents, currency, screen.language) for currency, cents in value.iter_rows() if currency is not None
    ]
    trusted = to_buy.filter(pl.col("grade").is_in(["A", "B"])).height
    said = [t("plan.decisions", n=qty(to_buy.height)), " + ".join(amounts), t("plan.trusted", n=qty(trusted))]
    st.markdown(" · ".join(part for part in said if part))


def _filtered(screen: Screen, published: Published) -> pl.DataFrame:
    t = screen.t
    rows = published.rows
    counts = dict(rows.group_by("status").len().iter_rows())
    counts["all"] = sum(counts.get(name, 0) for name in STATUSES if name != "enough")
    names = ["all", *STATUSES]
    st.pills(
        t("plan.status"),
        names,
        key=from_url("status", "all", names),
        format_func=lambda name: f"{t(f'plan.status.{name}')} {qty(counts.get(name, 0))}",
        required=True,
        on_change=_first_page,
        label_visibility="collapsed",
    )
    status = to_url("status", "all")
    left, right = st.columns([3, 2])
    search = left.text_input(
        t("plan.search"),
        key="q",
        bind="query-params",
        type="search",
        placeholder=t("plan.search"),
        on_change=_first_page,
        label_visibility="collapsed",
    )
    with screen.store.reading() as conn:
        places = locations(conn, language=screen.language)
    known = sorted(rows["location_code"].unique())
    right.selectbox(
        t("plan.place"),
        ["", *known],
        key=from_url("at", "", ["", *known]),
        format_func=lambda code: places.get(code, code) if code else t("warehouse.all"),
        on_change=_first_page,
        label_visibility="collapsed",
    )
    place = to_url("at", "")
    rows = rows.filter(pl.col("status") != "enough") if status == "all" else rows.filter(pl.col("status") == status)
    if place:
        rows = rows.filter(pl.col("location_code") == place)
    if search:
        wanted = search.lower()
        rows = rows.filter(
            pl.any_horizontal(
                pl.col(name).str.to_lowercase().str.contains(wanted, literal=True)
                for name in ("sku", "sku_name", "sku_name_en")
            )
        )
    order = {name: i for i, name in enumerate(STATUSES)}
    return rows.sort(
        pl.col("status").replace_strict(order),
        pl.col("order_by_date"),
        pl.col("order_value_cents").fill_null(0) * -1,
        nulls_last=True,
        maintain_order=True,
    )


def _first_page() -> None:
    if "page" in st.session_state:
        st.session_state["page"] = 1


def _table(screen: Screen, shown: pl.DataFrame) -> None:
    t = screen.t
    with screen.store.reading() as conn:
        places = locations(conn, language=screen.language)
    name = "sku_name_en" if screen.language == "en" else "sku_name"
    currencies = set(shown["currency"].drop_nulls())
    one = len(currencies) == 1
    sign = SIGNS.get(next(iter(currencies)), "") if one else ""
    rows = [
        {
            "status": t(f"plan.status.{row['status']}"),
            "sku": row["sku"],
            "name": row[name] or row["sku_name"],
            "place": places.get(row["location_code"], row["location_code"]),
            "stockout": row["stockout_date"],
            "order_by": row["order_by_date"],
            "suggest": row["suggested_qty"],
            "value": _value(row, as_number=one),
            "supplier": row["supplier_name"] or "",
            "trust": row["grade"] or "",
            "why": row["reason"],
        }
        for row in shown.iter_rows(named=True)
    ]
    keys = list(zip(shown["sku"], shown["location_code"], strict=True))
    mark = hashlib.sha256(repr(keys).encode()).hexdigest()[:12]
    date_format = "MM-DD" if screen.language == "zh" else "D MMM"
    st.dataframe(
        rows,
        key=f"plan_{mark}",
        hide_index=True,
        row_height=32,
        height="content" if len(rows) <= 18 else 640,
        placeholder="",
        alt=t("plan.title"),
        column_config={
            "status": st.column_config.TextColumn(t("col.status"), width=95, pinned=True),
            "sku": st.column_config.ButtonColumn(
                t("col.sku"), type="tertiary", alignment="left", width=110, pinned=True, key=f"open_{mark}",
                on_click=_open, args=(f"open_{mark}", keys),
            ),
            "name": st.column_config.TextColumn(t("col.name"), width=145),
            "place": st.column_config.TextColumn(t("col.place"), width=135),
            "stockout": st.column_config.DateColumn(
                t("col.stockout"), format=date_format, width=150, help=t("col.stockout.help")
            ),
            "order_by": st.column_config.DateColumn(t("col.order_by"), format=date_format, width=85),
            "suggest": st.column_config.NumberColumn(t("col.suggest"), format="%,d", width=75),
            "value": st.column_config.NumberColumn(t("col.value"), format=f"{sign}%,.0f", width=90)
            if one
            else st.column_config.TextColumn(t("col.value"), alignment="right", width=90),
            "supplier": st.column_config.TextColumn(t("col.supplier"), width=100),
            "trust": st.column_config.TextColumn(t("col.trust"), alignment="center", width=60),
            "why": st.column_config.TextColumn(t("col.reason"), width=420),
        },
    )  # fmt: skip
    if opened := st.session_state.pop("open_product", None):
        screen.go("product", sku=opened[0], at=opened[1])


def _value(row: dict[str, Any], *, as_number: bool) -> Any:
    cents = row["order_value_cents"]
    if as_number:
        return None if cents is None else cents / 100
    return "" if cents is None else money(cents, row["currency"])


def _open(key: str, keys: list[tuple[str, str]]) -> None:
    st.session_state["open_product"] = keys[st.session_state[key]["row"]]
