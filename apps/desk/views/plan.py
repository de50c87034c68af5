"""Buy, move or wait: what to restock, most urgent first, each with its reason."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl
import streamlit as st

from apps.approving import is_bulk, is_made, totals_by_order, why_not
from apps.components.figures import SIGNS, age, day, moment, money, qty, short_money, signed, whole_units
from apps.components.ledger import ledger
from apps.components.planning import STALE_AFTER, STATUSES, Published, override_value, published_plan
from apps.components.sentences import escaped
from apps.desk.screen import Screen, from_url, to_url
from apps.desk.views.approve import ask_approval, listed
from apps.readers import approvals, closed_again, locations

ROWS = 50
Known = Mapping[tuple[str, str], Any]  # what was approved, by SKU and location: `readers.approvals`


def show(screen: Screen) -> None:
    """Draw the planner's home."""
    t = screen.t
    published = published_plan(screen.warehouse_dir, screen.language)
    if published is None:
        screen.title(t("plan.title"))
        st.info(t("plan.missing"), icon=":material/inventory:")
        return
    screen.title(t("plan.title"), as_of=plan_age(screen, published.as_of_date, published.published_at))
    screen.show_told("plan")
    warn_if_stale(screen, published.as_of_date, published.published_at)
    to_buy = published.rows.filter(pl.col("suggested_qty") > 0)
    with screen.store.reading() as conn:
        known, places = approvals(conn, published.as_of_date), locations(conn, language=screen.language)
        closed = closed_again(conn, published.as_of_date)
    _sentence(screen, to_buy, _trusted(to_buy, known, closed))
    st.caption(escaped(published.aim))
    rows = _filtered(screen, published, places)
    if rows.is_empty():
        key = "plan.none" if (published.rows["status"] == "enough").all() else "plan.no_match"
        st.info(t(key), icon=":material/inbox:")
        return
    pages = -(-rows.height // ROWS)
    page_no = min(max(1, int(st.session_state.get("page") or st.query_params.get("page") or 1)), pages)
    shown = rows.slice((page_no - 1) * ROWS, ROWS)
    first = (page_no - 1) * ROWS + 1
    counted = t("plan.count", total=qty(rows.height), first=first, last=first + shown.height - 1)
    st.caption(f"{counted} {t('plan.pick_hint')}")
    selected = _table(screen, shown, known, places)
    if pages > 1:
        st.pagination(pages, key="page", bind="query-params")
    _ordered(screen, known)
    _worth(screen)
    _actions(screen, published, rows, selected or _trusted(rows, known, closed), known, is_ticked=bool(selected))


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


def _sentence(screen: Screen, to_buy: pl.DataFrame, trusted: Sequence[Mapping[str, Any]]) -> None:
    """How many decisions, how much money, how many of them may be approved together."""
    t = screen.t
    value = to_buy.filter(pl.col("order_value_cents").is_not_null()).group_by("currency").agg(
        pl.col("order_value_cents").sum()
    ).sort("order_value_cents", descending=True)  # fmt: skip
    amounts = [
        short_money(cents, currency, screen.language) for currency, cents in value.iter_rows() if currency is not None
    ]
    said = [t("plan.decisions", n=qty(to_buy.height)), " + ".join(amounts), t("plan.trusted", n=qty(len(trusted)))]
    st.markdown(" · ".join(part for part in said if part))


def _filtered(screen: Screen, published: Published, places: Mapping[str, str]) -> pl.DataFrame:
    t = screen.t
    rows = published.rows
    counts = dict(rows.group_by("status").len().iter_rows())
    counts["all"] = sum(counts.get(name, 0) for name in STATUSES if name != "enough")
    names = ["all", *(name for name in STATUSES if name != "cut" or counts.get("cut"))]
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
    known = sorted(rows["location_code"].unique())
    right.selectbox(
        t("plan.place"),
        ["", *known],
        key=from_url("at", "", ["", *known], language=screen.language),
        format_func=lambda code: places.get(code, code) if code else t("warehouse.all"),
        on_change=_first_page,
        label_visibility="collapsed",
    )
    place = to_url("at", "", language=screen.language)
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
    return rows


def _first_page() -> None:
    if "page" in st.session_state:
        st.session_state["page"] = 1


def _table(screen: Screen, shown: pl.DataFrame, known: Known, places: Mapping[str, str]) -> list[dict[str, Any]]:
    """The page's rows, product and quantity first so that a telephone shows both; returns the ticked ones."""
    t = screen.t
    name = "sku_name_en" if screen.language == "en" else "sku_name"
    currencies = set(shown.filter(pl.col("order_value_cents").is_not_null())["currency"])
    one = len(currencies) == 1 and None not in currencies  # a value of no known currency takes nobody's sign
    currency = next(iter(currencies)) if one else ""
    given = list(shown.iter_rows(named=True))
    rows = [
        {
            "sku": row["sku"],
            "suggest": row["suggested_qty"],
            "name": row[name] or row["sku_name"],
            "status": t(f"plan.status.{row['status']}"),
            "trust": row["grade"] or "",
            "order_by": row["order_by_date"],
            "value": _value(row, as_number=one),
            "place": places.get(row["location_code"], row["location_code"]),
            "supplier": t("approve.made_here") if is_made(row) else row["supplier_name"] or "",
            "stockout": row["stockout_date"],
            "ordered": _ordered_number(known, row),
            "why": row["reason"],
        }
        for row in given
    ]
    keys = list(zip(shown["sku"], shown["location_code"], strict=True))
    mark = hashlib.sha256(repr(keys).encode()).hexdigest()[:12]
    date_format = "MM-DD" if screen.language == "zh" else "D MMM"
    columns: dict[str, Any] = {
        "sku": st.column_config.ButtonColumn(
            t("col.sku"), type="tertiary", alignment="left", width=105, pinned=True, key=f"open_{mark}",
            on_click=_open, args=(f"open_{mark}", keys),
        ),
        "suggest": st.column_config.NumberColumn(t("col.suggest"), format="%,d", width=65, pinned=True),
        "name": st.column_config.TextColumn(t("col.name"), width=130),
        "status": st.column_config.TextColumn(t("col.status"), width=95),
        "trust": st.column_config.TextColumn(t("col.trust"), alignment="center", width=60),
        "order_by": st.column_config.DateColumn(t("col.order_by"), format=date_format, width=85),
        "value": st.column_config.NumberColumn(t("col.value"), format=f"{SIGNS.get(currency, f'{currency} ')}%,.0f", width=90)
        if one
        else st.column_config.TextColumn(t("col.value"), alignment="right", width=90),
        "ordered": st.column_config.TextColumn(t("col.became"), width=165),
        "place": st.column_config.TextColumn(t("col.place"), width=135),
        "supplier": st.column_config.TextColumn(t("col.supplier"), width=100),
        "stockout": st.column_config.DateColumn(
            t("col.stockout"), format=date_format, width=150, help=t("col.stockout.help")
        ),
        "why": st.column_config.TextColumn(t("col.reason"), width=420),
    }  # fmt: skip
    if not any(row["ordered"] for row in rows):
        del columns["ordered"]
    event: Any = st.dataframe(
        rows,
        key=f"plan_{mark}",
        on_select="rerun",
        selection_mode="multi-row",
        hide_index=True,
        row_height=32,
        height="content" if len(rows) <= 18 else 640,
        placeholder="",
        alt=t("plan.title"),
        column_order=list(columns),
        column_config=columns,
    )
    if opened := st.session_state.pop("open_product", None):
        screen.go("product", sku=opened[0], at=opened[1])
    return [given[i] for i in event["selection"]["rows"] if i < len(given)]


def _ordered_number(known: Known, row: Mapping[str, Any]) -> str:
    """The purchase or production order a suggestion became, if it was approved."""
    approval = known.get((row["sku"], row["location_code"]))
    return "" if approval is None else f"✓ {approval.number}"


def _ordered(screen: Screen, known: Known) -> None:
    """The orders made from this plan."""
    numbers = sorted({row.number for row in known.values()})
    if not numbers:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(screen.t("plan.ordered", n=len(numbers)), width="content")
        for number in numbers:
            st.page_link(screen.pages["purchase"], label=number, query_params={"no": number})


def _worth(screen: Screen) -> None:
    """What overrides were worth so far, by author and reason."""
    t = screen.t
    rows = override_value(screen.warehouse_dir, by=("author", "reason"))
    if rows.is_empty():
        return
    total = float(rows["value_added_qty"].sum())
    told = "plan.worth" if total >= 0 else "plan.worth.worse"
    with st.expander(t(told, n=qty(int(rows["overrides"].sum())), units=qty(abs(total)))):
        st.caption(t("plan.worth.help"))
        shown = [
            {
                t("col.who"): escaped(row["author"]),
                t("col.reason"): escaped(row["reason"]),
                t("plan.worth.days"): row["known_days"],
                t("plan.worth.before"): row["before_error_qty"],
                t("plan.worth.after"): row["after_error_qty"],
                t("plan.worth.added"): row["value_added_qty"],
            }
            for row in rows.iter_rows(named=True)
        ]
        ledger(
            shown,
            figures={
                t("plan.worth.days"): qty,
                t("plan.worth.before"): qty,
                t("plan.worth.after"): qty,
                t("plan.worth.added"): signed,
            },
        )


def _actions(
    screen: Screen,
    published: Published,
    rows: pl.DataFrame,
    wanted: list[dict[str, Any]],
    known: Known,
    *,
    is_ticked: bool,
) -> None:
    """The bar at the bottom: approve what is ticked, or else all of `rows` that may be approved unseen."""
    t = screen.t
    chosen, left_out = [], defaultdict[str, list[str]](list)
    for row in wanted:
        reason = _why_not(row, known)
        if reason is None:
            chosen.append(row)
        else:
            left_out[reason].append(row["sku"])
    if is_ticked:
        _say_left_out(screen, left_out)
    if not chosen:
        return
    totals = totals_by_order([(row, row["suggested_qty"]) for row in chosen])
    amounts: dict[str, int] = {}
    for total in totals:
        if total["value_cents"] is not None and total["currency"]:
            amounts[total["currency"]] = amounts.get(total["currency"], 0) + total["value_cents"]
    parts = [short_money(cents, currency, screen.language) for currency, cents in sorted(amounts.items())]
    if any(total["value_cents"] is None or not total["currency"] for total in totals):
        parts.append("?")  # some of it has no known cost
    worth = " + ".join(parts)
    is_whole = (
        rows.filter(pl.col("suggested_qty") > 0).height == published.rows.filter(pl.col("suggested_qty") > 0).height
    )
    with st.bottom, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        trusted = "plan.approve_trusted" if is_whole else "plan.approve_trusted_shown"
        label = t("plan.approve_n" if is_ticked else trusted, n=len(chosen), worth=worth)
        if st.button(label, type="primary", key="approve_plan", disabled=not screen.may("purchase.order")):
            ask_approval(screen, chosen, as_of_date=published.as_of_date)
        screen.say_role("purchase.order")


def _why_not(row: Mapping[str, Any], known: Known) -> str | None:
    """Why a row can't be approved (any more); None when it can."""
    return "approved" if (row["sku"], row["location_code"]) in known else why_not(row)


def _trusted(rows: pl.DataFrame, known: Known, closed: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    """The rows that may be approved together and are not yet: what the page counts is what its button approves.

    Where a person closed the order with nothing received (`closed`) a person approves again, one by one.
    """
    return [
        row
        for row in rows.iter_rows(named=True)
        if is_bulk(row) and _why_not(row, known) is None and (row["sku"], row["location_code"]) not in closed
    ]


def _say_left_out(screen: Screen, left_out: Mapping[str, Sequence[str]]) -> None:
    """Which ticked rows the button leaves out, and why: a bar that is not there would not say so."""
    if not left_out:
        return
    said = [screen.t(f"approve.not.{reason}", skus=escaped(listed(skus))) for reason, skus in left_out.items()]
    with st.bottom:
        st.caption(f":material/block: {' '.join(said)}")


def _value(row: dict[str, Any], *, as_number: bool) -> Any:
    cents = row["order_value_cents"]
    if as_number:
        return None if cents is None else whole_units(cents, row["currency"])
    return "" if cents is None or not row["currency"] else money(cents, row["currency"])


def _open(key: str, keys: list[tuple[str, str]]) -> None:
    st.session_state["open_product"] = keys[st.session_state[key]["row"]]
