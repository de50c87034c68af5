"""Returns that wait for a person, oldest first."""

from __future__ import annotations

import streamlit as st

from apps.components.figures import age, money, qty
from apps.components.sentences import escaped
from apps.desk.screen import Screen, show_told
from apps.readers import waiting_returns


def show(screen: Screen) -> None:
    """Draw what the home page's tile counts."""
    t = screen.t
    screen.title(t("returns.title"))
    show_told("returns")
    with screen.store.reading() as conn:
        rows = waiting_returns(conn)
    if not rows:
        st.info(t("returns.none"), icon=":material/inbox:")
        return
    st.caption(t("returns.count", n=qty(len(rows)), age=age(screen.now - rows[0].requested_at, screen.language)))
    with st.container(border=True, gap="xxsmall"):
        for row in rows:
            number, order, who, kind, refund = st.columns(
                [2, 2, 2.5, 2.5, 1.5], vertical_alignment="center", gap="small"
            )
            number.markdown(f":small[**{row.number}**]")
            order.page_link(screen.pages["order"], label=row.order_number, query_params={"no": row.order_number})
            who.markdown(f":small[{escaped(row.customer)}]")
            waits = age(screen.now - row.requested_at, screen.language)
            state = f":orange[{t(f'return.status.{row.status}')}] :gray[{waits}]"
            kind.markdown(f":small[{t(f'return.{row.kind}')} · {state}]")
            amount = money(row.refund_cents, row.currency) if row.refund_cents else ""
            refund.markdown(f":small[{escaped(amount)}]", text_alignment="right")
