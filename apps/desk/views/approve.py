"""Asking a planner to approve suggestions: what it comes to per supplier first, then the orders."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import streamlit as st

from apps.approving import is_bulk, is_made, series, suggested, terms_missed, totals_by_order, worth
from apps.components.figures import money, qty
from apps.components.ledger import ledger
from apps.components.planning import published_plan
from apps.components.sentences import escaped
from apps.desk.screen import Screen
from apps.readers import locations
from orders_core.services.approve_suggestions import (
    ApprovedSuggestions,
    ApproveSuggestions,
    Suggested,
    approve_suggestions,
)
from orders_core.services.drafting import MAX_QTY


def ask_approval(screen: Screen, rows: Sequence[Mapping[str, Any]], *, as_of_date: date) -> None:
    """Open the dialog for rows of the plan of `as_of_date`: one with its quantity to change, several as suggested."""
    t = screen.t
    key = uuid.uuid4().hex  # of this opening of the dialog: a second click orders nothing twice

    @st.dialog(t("approve.title"), width="large")
    def ask() -> None:
        allowed = list(rows) if len(rows) == 1 else [row for row in rows if is_bulk(row)]
        left_out = [row["sku"] for row in rows if row not in allowed]
        if left_out:
            said = t("approve.left_out", n=len(left_out), skus=escaped(listed(left_out)))
            st.warning(said, icon=":material/visibility:")
        if not allowed:
            return
        quantity, reason = None, None
        if len(allowed) == 1:
            quantity, reason = _change(screen, allowed[0])
            if not 1 <= quantity <= MAX_QTY:
                st.error(t("approve.bad_qty", qty=qty(quantity), most=qty(MAX_QTY)), icon=":material/block:")
                return
        chosen = [(row, row["suggested_qty"] if quantity is None else quantity) for row in allowed]
        _totals(screen, chosen)
        asked = [suggested(row, as_of_date=as_of_date, qty=amount, reason=reason) for row, amount in chosen]
        label = t("approve.go_one") if len(asked) == 1 else t("approve.go", n=len(asked))
        if st.button(label, type="primary", key="approve_go"):
            if quantity is not None and quantity != allowed[0]["suggested_qty"] and not reason:
                st.warning(t("approve.say_why"))
                return
            _approve(screen, asked, key)

    ask()


def listed(skus: Sequence[str]) -> str:
    """The first eight, and a sign that there are more."""
    return ", ".join(skus[:8]) + (" …" if len(skus) > 8 else "")


def _change(screen: Screen, row: Mapping[str, Any]) -> tuple[int, str | None]:
    """The quantity the planner wants, and why when it is another one."""
    t = screen.t
    st.markdown(
        t("approve.one_made" if is_made(row) else "approve.one", sku=escaped(row["sku"]), qty=qty(row["suggested_qty"]))
    )
    st.caption(escaped(row["reason"]))
    number = st.number_input(
        t("approve.qty_made" if is_made(row) else "approve.qty"),
        value=max(1, row["suggested_qty"]),  # no bounds: out of them the field would keep the last good number
        step=row["pack_qty"] or 1,
        key="approve_qty",
    )
    for missed, term in terms_missed(row, int(number)) if 1 <= number <= MAX_QTY else []:
        said = t(f"approve.{missed}", of=escaped(series(row)), qty=qty(int(number)), term=qty(term))
        st.warning(said, icon=":material/inventory_2:")
    reason = st.text_input(t("approve.reason"), key="approve_reason")
    return int(number), reason.strip() or None


def _totals(screen: Screen, chosen: Sequence[tuple[Mapping[str, Any], int]]) -> None:
    t = screen.t
    with screen.store.reading() as conn:
        places = locations(conn, language=screen.language)
    totals = totals_by_order(chosen)
    bought = sum(not total["is_made"] for total in totals)
    made = sum(total["lines"] for total in totals if total["is_made"])
    kinds = "totals_both" if bought and made else "totals_made" if made else "totals"
    st.markdown(t(f"approve.{kinds}", n=bought, made=made))
    ledger(
        [
            {
                t("col.supplier"): t("approve.made_here")
                if total["is_made"]
                else escaped(total["supplier_name"] or total["supplier_code"] or ""),
                t("col.place"): escaped(places.get(total["location_code"], total["location_code"])),
                t("approve.products"): total["lines"],
                t("col.units"): total["qty"],
                t("col.value"): escaped(worth(total, money) or t("approve.worth_unknown")),
            }
            for total in totals
        ],
        figures={t("approve.products"): qty, t("col.units"): qty},
    )
    cents: dict[str, int] = {}
    for total in totals:
        if total["value_cents"] is not None and total["currency"]:
            cents[total["currency"]] = cents.get(total["currency"], 0) + total["value_cents"]
    if len(totals) > 1 and cents:
        st.markdown(t("approve.in_all", amount=" + ".join(money(amount, code) for code, amount in cents.items())))


def _approve(screen: Screen, asked: Sequence[Suggested], key: str) -> None:
    newest = published_plan(screen.warehouse_dir, screen.language)
    day = asked[0].as_of_date if newest is None else newest.as_of_date
    command = ApproveSuggestions(asked, day, idem_key=f"desk:{key}")

    def done(result: ApprovedSuggestions) -> str:
        said = []
        for word, is_repeat in (("approve.done", False), ("approve.done.again", True)):
            these = [one for one in result.approved if one.is_repeat == is_repeat]
            if these:
                numbers = dict.fromkeys(one.number for one in these)
                said.append(screen.t(word, n=len(these), numbers=", ".join(numbers)))
        return " ".join(said)

    screen.act_in_dialog(approve_suggestions, command, asked="purchase", done=done)
