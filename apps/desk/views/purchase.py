"""One purchase order: what was ordered from whom, by which suggestion, and what of it has come."""

from __future__ import annotations

import streamlit as st

from apps.components.figures import day, moment, money, qty
from apps.components.ledger import ledger
from apps.components.sentences import escaped
from apps.desk.screen import Screen, show_told
from apps.readers import locations, purchase_order


def show(screen: Screen) -> None:
    """Draw the purchase order named by `?no=`."""
    t = screen.t
    number = st.query_params.get("no", "").strip()
    with screen.store.reading() as conn:
        found = purchase_order(conn, number)
        places = locations(conn, language=screen.language)
    screen.title(t("purchase.title", number=number))
    show_told(f"purchase:{number}")
    st.page_link(screen.pages["plan"], label=t("product.back"), icon=":material/arrow_back:")
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
        changed = line.suggested_qty is not None and line.suggested_qty != line.qty
        said = t("purchase.changed", qty=qty(line.suggested_qty), reason=line.reason) if changed else ""
        shown.append(
            {
                t("col.sku"): escaped(line.sku),
                t("col.qty"): line.qty,
                t("purchase.received"): line.received_qty,
                t("purchase.expected"): "" if expected is None else day(expected, screen.language, today=screen.today),
                t("col.name"): escaped(name),
                t("col.note"): escaped(said),
            }
        )
    ledger(shown, figures={t("col.qty"): qty, t("purchase.received"): qty})
