"""Returns that wait for a person, oldest first; each is read and decided on its own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from apps.components.figures import age, moment, money, qty
from apps.components.ledger import ledger
from apps.components.sentences import escaped
from apps.desk.screen import Screen
from apps.readers import ReturnPage, return_page, sku_names, waiting_returns
from orders_core.services.returns import DecideReturn, ReturnState, decide_return


def show(screen: Screen) -> None:
    """Draw what the home page's tile counts, or the return named by `?no=`."""
    t = screen.t
    screen.title(t("returns.title"))
    number = st.query_params.get("no", "").strip()
    if number:
        st.query_params["no"] = (
            number  # a link within one page reaches us but not the address: the next click would lose it
        )
        screen.show_told(f"returns:{number}")
        _one(screen, number)
        return
    screen.show_told("returns")
    with screen.store.reading() as conn:
        rows = waiting_returns(conn)
    if not rows:
        st.info(t("returns.none"), icon=":material/inbox:")
        return
    oldest = age(screen.now - rows[0].requested_at, screen.language)
    st.caption(f"{t('returns.count', n=qty(len(rows)), age=oldest)} {t('returns.pick_hint')}")
    with st.container(border=True, gap="xxsmall"):
        for row in rows:
            _row(screen, row)


def _row(screen: Screen, row: Any) -> None:
    t = screen.t
    number, order, who, kind, refund = st.columns([2, 2, 2.5, 2.5, 1.5], vertical_alignment="center", gap="small")
    number.page_link(screen.pages["returns"], label=f"**{row.number}**", query_params={"no": row.number})
    order.page_link(screen.pages["order"], label=row.order_number, query_params={"no": row.order_number})
    who.markdown(f":small[{escaped(row.customer)}]")
    waits = age(screen.now - row.requested_at, screen.language)
    state = f":orange[{t(f'return.status.{row.status}')}] :gray[{waits}]"
    kind.markdown(f":small[{t(f'return.{row.kind}')} · {state}]")
    amount = money(row.refund_cents, row.currency) if row.refund_cents else ""
    refund.markdown(f":small[{escaped(amount)}]", text_alignment="right")


# ---------------------------------------------------------------------------------------------------- one


def _one(screen: Screen, number: str) -> None:
    """One return: who wants what back and why, what it is worth, and the decision."""
    t = screen.t
    st.button(t("returns.back"), key="back", type="tertiary", icon=":material/arrow_back:", on_click=_back)
    with screen.store.reading() as conn:
        page = return_page(conn, number)
        names = sku_names(conn, [line.sku for line in page.lines], language=screen.language) if page else {}
    if page is None:
        st.warning(t("returns.missing", number=escaped(number)), icon=":material/search_off:")
        return
    row = page.row
    words = {"kind": t(f"return.{row.kind}"), "status": t(f"return.status.{row.status}")}
    st.subheader(t("returns.one", number=number, **words), anchor=False)
    time = moment(row.requested_at, screen.language, zone=screen.zone, today=screen.today)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(screen.pages["order"], label=row.order_number, query_params={"no": row.order_number})
        st.markdown(t("returns.asked", customer=escaped(row.customer), time=time), width="content")
    if row.reason:
        st.markdown(t("returns.why", reason=f"**{escaped(row.reason)}**"))
    if page.lines:
        st.subheader(t("returns.lines"), anchor=False)
        lines = [
            {
                t("col.line"): str(line.line_no),
                t("col.sku"): escaped(line.sku),
                t("col.name"): escaped(names[line.sku]),
                t("col.qty"): line.qty,
            }
            for line in page.lines
        ]
        ledger(lines, figures={t("col.qty"): qty})
    st.markdown(escaped(_money(screen, page)))
    if row.status == "requested":
        _decide(screen, number)


def _back() -> None:
    st.query_params.pop("no", None)


def _money(screen: Screen, page: ReturnPage) -> str:
    """What approving it gives back, or what it gave back."""
    row = page.row
    if row.status != "requested":
        if row.refund_cents:
            return screen.t("returns.refunded", money=money(row.refund_cents, row.currency))
        return ""
    if row.kind in ("exchange", "resend"):
        return screen.t("returns.about.again")
    if page.about_cents is None:
        return screen.t("returns.about.none")
    key = "returns.about.refund_only" if row.kind == "refund_only" else "returns.about"
    return screen.t(key, money=money(page.about_cents, row.currency))


def _decide(screen: Screen, number: str) -> None:
    may = screen.may("return.decide")
    with st.bottom, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            screen.t("returns.approve"),
            key="approve_return",
            type="primary",
            disabled=not may,
            on_click=_run,
            args=(screen, DecideReturn(number, is_approved=True)),
        )
        if st.button(screen.t("returns.refuse"), key="refuse_return", disabled=not may):
            _refuse(screen, number)
        screen.say_role("return.decide")


def _refuse(screen: Screen, number: str) -> None:
    @st.dialog(f"{screen.t('returns.refuse.go')} {number}")
    def ask() -> None:
        st.markdown(screen.t("returns.refuse.ask"))
        why = st.text_input(screen.t("reason"), key="why_refuse_return")
        if st.button(screen.t("returns.refuse.go"), type="primary", key="go_refuse_return"):
            if not why.strip():
                st.warning(screen.t("told.reason_needed"))
                return
            _run(screen, DecideReturn(number, is_approved=False, reason=why.strip()))
            st.rerun()

    ask()


def _run(screen: Screen, command: DecideReturn) -> None:
    """Decide once; a second click hears that it is decided."""

    def done(result: ReturnState) -> str:
        if not command.is_approved:
            return screen.t("done.return.refused", number=result.number)
        if result.exchange_number is not None:
            return screen.t("done.return.again", number=result.number, order=result.exchange_number)
        return screen.t("done.return.approved", number=result.number)

    screen.act(decide_return, command, number=command.number, asked="return", done=done)
