"""The table of orders, the same on the home page and in the queue: the number opens the order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from apps.components.figures import SIGNS, decimals, money, whole_units
from apps.components.sentences import status_word, why_it_waits
from apps.desk.screen import Screen
from apps.readers import channels
from orders_core.store.queries import OPEN_STATUSES

ROW_PIXELS = 32
MOST_ROWS = 20  # more scroll inside the grid
MOST_PIXELS = 680


def queue_grid(
    screen: Screen,
    name: str,
    rows: Sequence[Any],
    short: Mapping[int, Sequence[Any]],
    *,
    title: str,
    is_selectable: bool,
) -> Any:
    """Draw rows of `queries.order_queue`, `short` being their lines without stock by order id.

    A click on a number opens that order. Returns what Streamlit says of the selection. The grid remembers positions, not
    orders: another set of rows is another grid, or the third row ticked would mean someone else's order.
    """
    t = screen.t
    currencies = {row.currency for row in rows}
    is_one_currency = len(currencies) == 1
    currency = next(iter(currencies)) if is_one_currency else ""
    numbers = [row.number for row in rows]
    mark = hashlib.sha256("|".join(numbers).encode()).hexdigest()[:12]
    day = "MM-DD" if screen.language == "zh" else "D MMM"
    with screen.store.reading() as conn:
        channel_names = channels(conn, language=screen.language)
    config: dict[str, Any] = {
        "number": st.column_config.ButtonColumn(
            t("col.order"),
            type="tertiary",
            alignment="left",
            width=170,
            pinned=True,
            key=f"open_{name}_{mark}",
            on_click=_open,
            args=(f"open_{name}_{mark}", numbers),
        ),
        "customer": st.column_config.TextColumn(t("col.customer"), width=140),
        "total": st.column_config.NumberColumn(
            t("col.total"), format=f"{SIGNS.get(currency, f'{currency} ')}%,.{decimals(currency)}f", width=100
        )
        if is_one_currency
        else st.column_config.TextColumn(t("col.total"), alignment="right", width=100),
        "promised": st.column_config.DateColumn(t("col.promised"), format=day, width=75),
        "left": st.column_config.TextColumn(t("col.left"), width=95),
        "stage": st.column_config.TextColumn(t("col.stage"), width=110),
        "why": st.column_config.TextColumn(t("col.why"), width=420),
        "channel": st.column_config.TextColumn(t("col.channel"), width=85),
        "placed": st.column_config.DatetimeColumn(t("col.placed"), format=f"{day} HH:mm", width=105),
    }
    event = st.dataframe(
        [_row(screen, row, short.get(row.id, ()), channel_names, as_number=is_one_currency) for row in rows],
        key=f"{name}_{mark}",
        on_select="rerun" if is_selectable else "ignore",
        selection_mode="multi-row",
        hide_index=True,
        row_height=ROW_PIXELS,
        height="content" if len(rows) <= MOST_ROWS else MOST_PIXELS,
        placeholder="",
        alt=title,
        column_order=None if is_selectable else [name for name in config if name not in ("channel", "placed")],
        column_config=config,
    )
    if number := st.session_state.pop("open_order", None):
        screen.go("order", no=number)
    return event


def _row(
    screen: Screen, row: Any, short: Sequence[Any], channel_names: Mapping[str, str], *, as_number: bool
) -> dict[str, Any]:
    return {
        "number": row.number,
        "customer": row.customer,
        "total": whole_units(row.total_cents, row.currency) if as_number else money(row.total_cents, row.currency),
        "promised": row.promised_by_date,
        "left": _left(screen, row),
        "stage": status_word(row.status, screen.language),
        "why": why_it_waits(row, short, screen.language),
        "channel": channel_names.get(row.channel, row.channel),
        "placed": row.placed_at.astimezone(screen.zone).replace(tzinfo=None),
    }


def _left(screen: Screen, row: Any) -> str:
    """The time left to the promise, said where it is short."""
    if row.promised_by_date is None or row.status not in OPEN_STATUSES:
        return ""
    late = (screen.today - row.promised_by_date).days
    if late > 0:
        return "▲ " + screen.t("late.days", n=late)
    return "◆ " + screen.t("late.today") if late == 0 else screen.t("left.days", n=-late)


def _open(key: str, numbers: list[str]) -> None:
    st.session_state["open_order"] = numbers[st.session_state[key]["row"]]
