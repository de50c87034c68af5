"""One purchase order, or production order: what was ordered, by which suggestion, and what of it has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from apps.components.figures import day, moment, money, qty
from apps.components.ledger import ledger
from apps.components.sentences import escaped
from apps.desk.screen import Screen
from apps.readers import locations, production_order, purchase_order
from orders_core.services.close_replenishment import CloseReplenishment, close_replenishment
from orders_core.services.production import OPEN_PRODUCTION, ProductionState
from orders_core.services.receiving import OPEN_PURCHASE, PurchaseOrderState


def show(screen: Screen) -> None:
    """Draw the purchase order or production order named by `?no=`."""
    t = screen.t
    number = st.query_params.get("no", "").strip()
    with screen.store.reading() as conn:
        found = purchase_order(conn, number)
        made = production_order(conn, number) if found is None else None
        places = locations(conn, language=screen.language)
    screen.title(t("purchase.title" if made is None else "production.title", number=number))
    screen.show_told(f"purchase:{number}")
    st.page_link(screen.pages["plan"], label=t("product.back"), icon=":material/arrow_back:")
    if made is not None:
        _made(screen, made, places)
        return
    if found is None:
        st.warning(t("purchase.missing", number=escaped(number)), icon=":material/search_off:")
        return
    order, lines = found
    english = screen.language == "en"
    supplier = order.supplier_name_en if english and order.supplier_name_en else order.supplier_name
    who = order.approved_by or order.created_by
    at = moment(order.created_at, screen.language, zone=screen.zone, today=screen.today)
    place = places.get(order.location_code, order.location_code)
    st.markdown(
        t(
            "purchase.sentence",
            supplier=escaped(supplier),
            place=escaped(place),
            status=t(f"purchase.status.{order.status}"),
            total=escaped(money(order.total_cents, order.currency)),
            who=escaped(who),
            time=at,
        )
    )
    shown = []
    for line in lines:
        expected = line.expected_date or order.expected_date
        name = line.name_en if english and line.name_en else line.name
        shown.append(
            {
                t("col.sku"): escaped(line.sku),
                t("col.qty"): line.qty,
                t("purchase.received"): line.received_qty,
                t("purchase.expected"): "" if expected is None else day(expected, screen.language, today=screen.today),
                t("col.name"): escaped(name),
                t("col.note"): _changed(screen, line),
            }
        )
    ledger(shown, figures={t("col.qty"): qty, t("purchase.received"): qty})
    if order.status in OPEN_PURCHASE:
        _offer_close(screen, number, kind="purchase")


def _offer_close(screen: Screen, number: str, *, kind: str) -> None:
    """The button that ends a purchase order or a production order (`kind`)."""
    if st.button(screen.t(f"{kind}.close"), key="close_purchase", disabled=not screen.may("purchase.order")):
        _ask_close(screen, number, kind=kind)
    screen.say_role("purchase.order")


def _ask_close(screen: Screen, number: str, *, kind: str) -> None:
    """Open the dialog that ends it, with its reason."""
    t = screen.t

    @st.dialog(t(f"{kind}.close_title", number=number))
    def ask() -> None:
        st.markdown(t(f"{kind}.close_says"))
        reason = st.text_input(t("purchase.close_why"), key="close_reason").strip()
        if st.button(t("purchase.close_go"), type="primary", key="close_go"):
            if not reason:
                st.warning(t("purchase.close_say_why"))
                return
            command = CloseReplenishment(number, reason)

            def done(closed: PurchaseOrderState | ProductionState) -> str:
                return t("purchase.close_done", number=number, status=t(f"{kind}.status.{closed.status}"))

            screen.act_in_dialog(close_replenishment, command, asked="purchase", done=done)

    ask()


def _made(screen: Screen, order: Any, places: Mapping[str, str]) -> None:
    """A production order: one product."""
    t = screen.t
    place = places.get(order.location_code, order.location_code)
    status = t(f"production.status.{order.status}")
    at = moment(order.created_at, screen.language, zone=screen.zone, today=screen.today)
    name = order.name_en if screen.language == "en" and order.name_en else order.name
    said = [t("production.sentence", product=escaped(name), place=escaped(place), status=status, time=at)]
    if order.approved_by is not None:
        said.append(t("production.approved", who=escaped(order.approved_by)))
    st.markdown((" " if screen.language == "en" else "").join(said))
    due = "" if order.due_date is None else day(order.due_date, screen.language, today=screen.today)
    shown = {
        t("col.sku"): escaped(order.sku),
        t("col.qty"): order.qty,
        t("production.done"): order.done_qty,
        t("production.scrap"): order.scrap_qty,
        t("production.due"): due,
    }
    ledger([shown], figures={t("col.qty"): qty, t("production.done"): qty, t("production.scrap"): qty})
    if changed := _changed(screen, order):
        st.caption(changed)
    if order.status in OPEN_PRODUCTION:
        _offer_close(screen, order.number, kind="production")


def _changed(screen: Screen, line: Any) -> str:
    """What was suggested, where another quantity was ordered, and why."""
    if line.suggested_qty is None or line.suggested_qty == line.qty:
        return ""
    return escaped(screen.t("purchase.changed", qty=qty(line.suggested_qty), reason=line.reason))
