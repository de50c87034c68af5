"""The order queue: saved views, search, pasted numbers, fifty rows a page; open one, approve many."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from apps.components.figures import money, qty
from apps.components.sentences import reason_sentence, status_word
from apps.desk.queue_grid import queue_grid
from apps.desk.screen import Screen, from_url, to_url
from apps.readers import channels, short_lines
from orders_core.domain.lifecycle import why_not
from orders_core.services.review import ApproveOrder, approve_order, in_bulk
from orders_core.store.queries import Page, order_queue, view_counts

SHOWN_VIEWS = (
    "open",
    "review",
    "overdue",
    "short",
    "ready",
    "picking",
    "held",
    "courier",
    "stuck",
    "on_the_way",
    "all",
)
ROWS = 50


def show(screen: Screen) -> None:
    """Draw the queue."""
    screen.title(screen.t("orders.title"))
    screen.show_told("orders")
    view, search, channel, numbers, page_no = _filters(screen)
    with screen.store.reading() as conn:
        # Who pastes numbers wants these orders, wherever they stand.
        asked = {"view": "all", "numbers": numbers} if numbers else {"view": view, "search": search, "channel": channel}
        found = order_queue(conn, today=screen.today, now=screen.now, limit=ROWS, offset=(page_no - 1) * ROWS, **asked)
        short = short_lines(conn, [row.id for row in found.rows])
    if numbers:
        _say_what_was_pasted(screen, numbers, found)
    if not found.rows:
        _empty(screen, is_filtered=bool(search or channel or numbers or page_no > 1))
        return
    first = (page_no - 1) * ROWS + 1
    st.caption(
        screen.t("orders.count", total=qty(found.total), first=first, last=first + len(found.rows) - 1)
        + (" " + screen.t("orders.pick_hint"))
    )
    selected = _table(screen, found.rows, short)
    if found.total > ROWS:
        st.pagination(-(-found.total // ROWS), key="page", bind="query-params")
    _actions(screen, found.rows, selected)


# ----------------------------------------------------------------------------------------------- filters


def _filters(screen: Screen) -> tuple[str, str | None, str | None, list[str], int]:
    """The filters in one row, each bound to the URL: view, search, channel, pasted numbers, page."""
    with screen.store.reading() as conn:
        behind = view_counts(conn, today=screen.today, now=screen.now)
        names = channels(conn, language=screen.language)
    st.pills(
        screen.t("orders.views"),
        SHOWN_VIEWS,
        key=from_url("view", "open", list(SHOWN_VIEWS)),
        format_func=lambda name: f"{screen.t(f'view.{name}')} {qty(behind[name])}",
        required=True,
        on_change=_first_page,
        label_visibility="collapsed",
    )
    view = to_url("view", "open")
    left, middle, right = st.columns([4, 2, 2], vertical_alignment="bottom")
    search = left.text_input(
        screen.t("orders.search"),
        key="q",
        bind="query-params",
        type="search",
        placeholder=screen.t("orders.search.hint"),
        on_change=_first_page,
        label_visibility="collapsed",
    )
    middle.selectbox(
        screen.t("orders.channel"),
        ["", *names],
        key=from_url("channel", "", ["", *names], language=screen.language),
        format_func=lambda code: names[code] if code else screen.t("orders.all_channels"),
        on_change=_first_page,
        label_visibility="collapsed",
    )
    channel = to_url("channel", "", language=screen.language)
    with right.popover(screen.t("orders.paste"), icon=":material/content_paste:", width="stretch"):
        st.text_area(
            screen.t("orders.paste"),
            key=from_url("nos", ""),
            placeholder=screen.t("orders.paste.hint"),
            on_change=_first_page,
            height=160,
        )
    pasted = re.split(r"[\s,,;;、]+", to_url("nos", "").strip())
    numbers = list(dict.fromkeys(number for number in pasted if number))
    page_no = int(st.session_state.get("page") or st.query_params.get("page") or 1)
    return view, search or None, channel or None, numbers, max(1, page_no)


def _first_page() -> None:
    """Another filter starts at its first page."""
    if "page" in st.session_state:
        st.session_state["page"] = 1


def _say_what_was_pasted(screen: Screen, numbers: Sequence[str], found: Page) -> None:
    st.caption(screen.t("orders.paste.found", asked=len(numbers), found=found.total))
    there = {row.number for row in found.rows}
    if found.total < len(numbers) and found.total <= ROWS:
        missing = [number for number in numbers if number not in there]
        st.warning(screen.t("orders.paste.missing", numbers=", ".join(missing)), icon=":material/search_off:")


def _empty(screen: Screen, *, is_filtered: bool) -> None:
    st.info(screen.t("orders.empty" if is_filtered else "orders.empty.view"), icon=":material/inbox:")
    if is_filtered:
        st.button(screen.t("clear_filters"), on_click=_clear, args=(screen.language,), icon=":material/filter_alt_off:")


def _clear(language: str) -> None:
    for key in ("q", f"url_channel_{language}", "url_nos"):
        st.session_state[key] = ""
    _first_page()


# ------------------------------------------------------------------------------------------------- table


def _table(screen: Screen, rows: Sequence[Any], short: Mapping[int, Sequence[Any]]) -> list[Any]:
    """The page's rows; returns the selected ones."""
    event = queue_grid(screen, "queue", rows, short, title=screen.t("orders.title"), is_selectable=True)
    return [rows[i] for i in event["selection"]["rows"] if i < len(rows)]


# ----------------------------------------------------------------------------------------------- actions


def _actions(screen: Screen, rows: Sequence[Any], selected: Sequence[Any]) -> None:
    """The bar at the bottom: open the one, approve the many."""
    # Pasted numbers are chosen by pasting: they work without a mouse. Nothing else is chosen until it is ticked.
    chosen = selected or (list(rows) if st.session_state.get("url_nos") else [])
    if not chosen:
        return
    with st.bottom, st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(screen.t("orders.picked" if selected else "orders.pasted", n=len(chosen)), width="content")
        if st.button(
            screen.t("orders.approve_n", n=len(chosen)),
            type="primary",
            disabled=not screen.may("order.approve"),
            help=screen.role_help("order.approve"),
            key="bulk",
        ):
            _bulk_dialog(screen, chosen)
        if len(chosen) == 1 and st.button(screen.t("orders.open_one", number=chosen[0].number), key="open_one"):
            screen.go("order", no=chosen[0].number)
        screen.say_role("order.approve")


def _bulk_dialog(screen: Screen, rows: Sequence[Any]) -> None:
    @st.dialog(screen.t("orders.bulk.title"), width="large")
    def ask() -> None:
        st.markdown(screen.t("orders.bulk.ask", n=len(rows)))
        flagged = {row.number: warning for row in rows if (warning := _will_skip(screen, row))}
        st.table(
            [
                {
                    screen.t("col.order"): row.number,
                    screen.t("col.customer"): row.customer,
                    screen.t("col.total"): money(row.total_cents, row.currency),
                    screen.t("col.why"): f":orange[:material/warning: {flagged[row.number]}]"
                    if row.number in flagged
                    else " ".join(reason_sentence(r, row.currency, screen.language) for r in row.review_reasons or ()),
                }
                for row in rows
            ],
            border="horizontal",
            hide_index=True,
        )
        if flagged:
            st.caption(screen.t("orders.bulk.flagged", n=len(flagged)))
        commands = [ApproveOrder(row.number, expected_version=row.version) for row in rows]
        label = screen.t("orders.bulk.go", n=len(rows) - len(flagged))
        if st.button(label, type="primary", key="bulk_go", on_click=_approve_all, args=(screen, commands)):
            st.rerun()

    ask()


def _will_skip(screen: Screen, row: Any) -> str | None:
    """Why an order will not be approved with the others, as far as it can be seen beforehand."""
    if why_not("approve", row.status):
        return screen.t("bulk.will_skip.stage", status=status_word(row.status, screen.language))
    if any(reason["code"] in ("credit_exceeded", "no_credit") for reason in row.review_reasons or ()):
        return screen.t("bulk.will_skip.credit")
    return None


def _approve_all(screen: Screen, commands: Sequence[ApproveOrder]) -> None:
    result = in_bulk(screen.store, approve_order, screen.actor, commands)
    words = [screen.t("orders.bulk.done", done=len(result.done), skipped=len(result.skipped))]
    words += [screen.refusal(error, number=number, asked="approve")[1] for number, error in result.skipped]
    screen.tell("success" if result.done else "warning", "\n\n".join(words))
