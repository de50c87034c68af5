"""Home: what is on fire, where the work stands, and the ten orders with least time left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from apps.components.charts import backlog_bars
from apps.components.figures import age, day, money, qty, short_money
from apps.components.sentences import escaped, status_word, why_it_waits
from apps.desk.screen import Screen, show_told
from apps.readers import open_currencies, short_lines
from orders_core.store.queries import Tile, backlog_by_stage, home_tiles, order_queue

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
    show_told("home")
    with screen.store.reading() as conn:
        tiles = home_tiles(conn, today=screen.today, now=screen.now)
        backlog = backlog_by_stage(conn, now=screen.now)
        queue = order_queue(conn, view="open", limit=NEXT_UP)
        short = short_lines(conn, [row.id for row in queue.rows])
        currencies = open_currencies(conn)
    _tiles(screen, tiles, currencies)
    if not queue.rows:
        st.info(screen.t("home.nothing"), icon=":material/inbox:")
        return
    _next_up(screen, queue.rows, short)
    _stages(screen, backlog)


def _tiles(screen: Screen, tiles: Mapping[str, Tile], currencies: Sequence[str]) -> None:
    """Six things that need a person: how many, the oldest, the money, and the way to exactly these rows."""
    grid = st.grid(6, min_column_width=165, gap="xsmall")
    for name in TILES:
        tile = tiles[name]
        with grid.cell(border=True, gap="xxsmall"):
            if tile.orders == 0:
                st.markdown(f"**{screen.t(f'tile.{name}')}** :gray[0]")
                st.caption(screen.t(f"tile.{name}.none"))
                continue
            page, params = ("returns", {}) if name == "returns" else ("orders", {"view": name})
            label = f"**{screen.t(f'tile.{name}')} {qty(tile.orders)}**"
            st.page_link(screen.pages[page], label=label, icon=_icon(name), query_params=params)
            st.caption(_tile_detail(screen, tile, currencies))


def _icon(name: str) -> str:
    """Only what is late or broken carries a mark."""
    return {"overdue": ":material/schedule:", "short": ":material/inventory_2:", "courier": ":material/warning:"}.get(
        name, ""
    )


def _tile_detail(screen: Screen, tile: Tile, currencies: Sequence[str]) -> str:
    parts = []
    if tile.oldest_at is not None:
        parts.append(screen.t("tile.oldest", age=age(screen.now - tile.oldest_at, screen.language)))
    if len(currencies) == 1:  # amounts of several currencies are never added up
        amount = short_money(tile.money_cents, currencies[0], screen.language)
        parts.append(screen.t("tile.refund", money=amount) if tile.name == "returns" else amount)
    return " · ".join(parts)


def _next_up(screen: Screen, rows: Sequence[Any], short: Mapping[int, Sequence[Any]]) -> None:
    st.subheader(screen.t("home.next_up"), anchor=False)
    st.caption(screen.t("home.next_up.sentence", n=len(rows)))
    with st.container(gap="xxsmall"):
        for row in rows:
            with st.container(border=True):
                number, who, when, why, action = st.columns(
                    [2.1, 2.1, 1.9, 4.2, 1.4], vertical_alignment="center", gap="small"
                )
                number.page_link(screen.pages["order"], label=f"**{row.number}**", query_params={"no": row.number})
                who.markdown(f"{escaped(row.customer)} :gray[{money(row.total_cents, row.currency)}]")
                when.markdown(promise_words(screen, row))
                why.markdown(
                    f":gray[{status_word(row.status, screen.language)}] · "
                    + escaped(why_it_waits(row, short.get(row.id, ()), screen.language))
                )
                action.page_link(
                    screen.pages["warehouse" if row.status in ("ready", "picking") else "order"],
                    label=screen.t(f"next.{row.status}"),
                    icon=":material/arrow_forward:",
                    query_params={"no": row.number} if row.status not in ("ready", "picking") else {},
                )


def promise_words(screen: Screen, row: Any) -> str:
    """The promised day, red with the days late when it has passed."""
    if row.promised_by_date is None:
        return f":gray[{screen.t('order.no_promise')}]"
    shown = day(row.promised_by_date, screen.language, today=screen.today)
    if row.is_promise_estimated:
        shown += f" ({screen.t('estimate')})"
    late = (screen.today - row.promised_by_date).days
    if late > 0:
        return f":red[:material/schedule: {shown} · {screen.t('late.days', n=late)}]"
    if late == 0:
        return f":orange[{shown} · {screen.t('late.today')}]"
    return shown


def _stages(screen: Screen, backlog: Sequence[Any]) -> None:
    st.subheader(screen.t("home.stages"), anchor=False)
    st.caption(screen.t("home.stages.help"))
    chart = backlog_bars(
        backlog,
        stages={name: status_word(name, screen.language) for name in STAGES},
        ages={name: screen.t(f"age.{name}") for name in ("today", "1_day", "2_3_days", "older")},
        labels={name: screen.t(f"chart.{name}") for name in ("stage", "orders", "age")},
    )
    clicked = st.altair_chart(chart, key="stages", on_select="rerun", alt=screen.t("home.stages"))
    chosen = clicked["selection"].get("stage")
    if chosen:
        screen.go("orders", view=VIEW_OF_STAGE[chosen[0]["status"]])
    with st.expander(screen.t("as_table")):
        st.dataframe(
            [
                {
                    screen.t("chart.stage"): status_word(row.status, screen.language),
                    screen.t("chart.age"): screen.t(f"age.{row.age}"),
                    screen.t("chart.orders"): row.orders,
                }
                for row in sorted(backlog, key=lambda row: (STAGES.index(row.status), row.age))
            ],
            hide_index=True,
            alt=screen.t("home.stages"),
        )
