"""Home: what is on fire, where the work stands, and the ten orders with least time left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from apps.components.charts import backlog_bars
from apps.components.figures import age, day, qty, short_money
from apps.components.sentences import status_word
from apps.desk.queue_grid import queue_grid
from apps.desk.screen import Screen
from apps.readers import short_lines
from orders_core.store.queries import OPEN_STATUSES, Tile, backlog_by_stage, home_tiles, order_queue

TILES = ("overdue", "short", "review", "courier", "returns", "stuck")
STAGES = ("review", "held", "waiting_stock", "ready", "picking", "partly_shipped")
VIEW_OF_STAGE = {
    "review": "review", "held": "held", "waiting_stock": "short", "ready": "ready", "picking": "picking",
    "partly_shipped": "on_the_way",
}  # fmt: skip
NEXT_UP = 10


def show(screen: Screen) -> None:
    """Draw the home page."""
    screen.title(screen.t("nav.home"))
    screen.show_told("home")
    with screen.store.reading() as conn:
        tiles = home_tiles(conn, today=screen.today, now=screen.now)
        backlog = backlog_by_stage(conn, now=screen.now)
        queue = order_queue(conn, today=screen.today, now=screen.now, view="open", limit=NEXT_UP)
        short = short_lines(conn, [row.id for row in queue.rows])
    _tiles(screen, tiles)
    if not queue.rows:
        st.info(screen.t("home.nothing"), icon=":material/inbox:")
        return
    _stages(screen, backlog)
    _next_up(screen, queue.rows, short)


def _tiles(screen: Screen, tiles: Mapping[str, Tile]) -> None:
    """Six things that need a person: how many, the oldest, the money, and the way to exactly these rows."""
    grid = st.grid(6, min_column_width=178, gap="xsmall", border=True)
    for name in TILES:
        tile = tiles[name]
        with grid.cell(), st.container(gap="xxsmall"):
            if tile.count == 0:
                st.markdown(f":small[**{screen.t(f'tile.{name}')}** :gray[0]]")
                st.caption(screen.t(f"tile.{name}.none"))
                continue
            page, params = ("returns", {}) if name == "returns" else ("orders", {"view": name})
            label = f"**{screen.t(f'tile.{name}')} {qty(tile.count)}**"
            st.page_link(screen.pages[page], label=label, icon=_icon(name), query_params=params)
            st.caption(_tile_detail(screen, tile))


def _icon(name: str) -> str:
    """Only what is late or broken carries a mark."""
    return {"overdue": ":material/schedule:", "short": ":material/inventory_2:", "courier": ":material/warning:"}.get(
        name, ""
    )


def _tile_detail(screen: Screen, tile: Tile) -> str:
    parts = []
    if tile.oldest_at is not None:
        parts.append(screen.t("tile.oldest", age=age(screen.now - tile.oldest_at, screen.language)))
    if tile.cents:
        shown = " + ".join(short_money(cents, currency, screen.language) for currency, cents in tile.cents.items())
        parts.append(screen.t("tile.refund", money=shown) if tile.name == "returns" else shown)
    return " · ".join(parts)


def _next_up(screen: Screen, rows: Sequence[Any], short: Mapping[int, Sequence[Any]]) -> None:
    st.subheader(screen.t("home.next_up"), anchor=False)
    st.caption(screen.t("home.next_up.sentence", n=len(rows)))
    queue_grid(screen, "next", rows, short, title=screen.t("home.next_up"), is_selectable=False)


def promise_words(screen: Screen, row: Any) -> str:
    """The promised day, red with the days late when it has passed."""
    if row.promised_by_date is None:
        return f":gray[{screen.t('order.no_promise')}]"
    shown = day(row.promised_by_date, screen.language, today=screen.today)
    if row.is_promise_estimated:
        shown += f" ({screen.t('estimate')})"
    if row.status not in OPEN_STATUSES:
        return shown
    late = (screen.today - row.promised_by_date).days
    if late > 0:
        return f":red[:material/schedule: {shown} · {screen.t('late.days', n=late)}]"
    if late == 0:
        return f":orange[{shown} · {screen.t('late.today')}]"
    return shown


def _stages(screen: Screen, backlog: Sequence[Any]) -> None:
    """Open work as bars that open their queue, and the same numbers as a table beside them."""
    t = screen.t
    stages = {name: status_word(name, screen.language) for name in STAGES}
    ages = {name: t(f"age.{name}") for name in ("today", "1_day", "2_3_days", "older")}
    st.subheader(t("home.stages"), anchor=False, help=t("home.stages.help"))
    left, right = st.columns([3, 2], gap="large")
    with left:
        chart = backlog_bars(
            backlog, stages=stages, ages=ages, labels={name: t(f"chart.{name}") for name in ("stage", "orders", "age")}
        )
        clicked = st.altair_chart(chart, key="stages", on_select="rerun", alt=t("home.stages"))
        chosen = clicked["selection"].get("stage")
        if chosen:
            screen.go("orders", view=VIEW_OF_STAGE[chosen[0]["status"]])
    with right:
        counted = {(row.status, row.age): row.orders for row in backlog}
        rows = [
            {t("chart.stage"): words} | {ages[name]: counted.get((status, name)) for name in ages}
            for status, words in stages.items()
            if any((status, name) in counted for name in ages)
        ]
        st.dataframe(rows, hide_index=True, row_height=30, placeholder="", alt=t("home.stages"))
