"""What planners changed of one product's plan: who, why, until when; setting it, and taking it back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import streamlit as st

from apps.components.figures import day, qty
from apps.components.sentences import escaped
from apps.desk.screen import Screen
from apps.readers import adjustments, overrides
from orders_core.services.plan_changes import (
    AdjustDemand,
    PlanChangeState,
    SetOverride,
    Withdraw,
    adjust_demand,
    set_override,
    withdraw_adjustment,
    withdraw_override,
)
from orders_core.store.tables.planning import ADJUSTMENT_KINDS, OVERRIDE_KINDS


def show_changes(screen: Screen, sku: str, place: str) -> None:
    """Overrides in force and adjustments that count, each with a button that takes it back."""
    t = screen.t
    with screen.store.reading() as conn:
        ahead = overrides(conn, sku=sku, location_code=place, in_force_on=screen.today)
        past = adjustments(conn, sku=sku, location_code=place, is_open=True)
    if not (ahead or past):
        return
    st.subheader(t("change.title"), anchor=False)
    for row in ahead:
        words = t(
            f"change.{row.kind}",
            amount=_amount(row.amount),
            first=_day(screen, row.from_date),
            last=_day(screen, row.through_date),
        )
        said = t(
            "change.who_until", who=escaped(row.author), reason=escaped(row.reason), day=_day(screen, row.expires_date)
        )
        _line(screen, f"{words} {said}", key=f"withdraw_{row.id}", service=withdraw_override, change_id=row.id)
    for row in past:
        words = t(
            f"change.{row.kind}",
            amount=_amount(row.daily_qty or 0),
            first=_day(screen, row.from_date),
            last=_day(screen, row.through_date),
        )
        said = t("change.who", who=escaped(row.author), reason=escaped(row.reason))
        _line(screen, f"{words} {said}", key=f"withdraw_{row.id}", service=withdraw_adjustment, change_id=row.id)
    st.caption(t("change.next_run"))


def _line(screen: Screen, words: str, *, key: str, service: Callable[..., Any], change_id: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(words, width="stretch")
        st.button(
            screen.t("change.withdraw"),
            key=key,
            type="tertiary",
            icon=":material/undo:",
            disabled=not screen.may("forecast.override"),
            on_click=_withdraw,
            args=(screen, service, change_id),
        )


def _day(screen: Screen, on: date) -> str:
    return day(on, screen.language, today=screen.today)


def _amount(number: float) -> str:
    return f"{number:,.2f}".rstrip("0").rstrip(".").replace("-", "−")


def _withdraw(screen: Screen, service: Callable[..., Any], change_id: int) -> None:
    def done(result: PlanChangeState) -> str:
        return screen.t("change.withdrawn")

    screen.act(service, Withdraw(change_id), number="", asked="change", done=done)


def _keep(screen: Screen, service: Callable[..., Any], command: Any) -> None:
    def done(result: PlanChangeState) -> str:
        return screen.t("change.set", day=screen.today)

    screen.act_in_dialog(service, command, asked="change", done=done)


def ask_override(screen: Screen, sku: str, place: str, *, daily_qty: float) -> None:
    """Open the dialog that changes the forecast of coming days, which is `daily_qty` units a day so far."""
    t = screen.t
    starts_with = {"set_daily": round(daily_qty, 1), "multiply": 1.2, "add_weekly": 7.0}
    key = uuid.uuid4().hex  # of this opening of the dialog: a second click changes nothing twice
    tomorrow = screen.today + timedelta(days=1)

    @st.dialog(t("change.ask_override", sku=escaped(sku)))
    def ask() -> None:
        kind = st.selectbox(
            t("change.kind"),
            list(OVERRIDE_KINDS),
            format_func=lambda name: t(f"change.kind.{name}"),
            key="override_kind",
        )
        amount = st.number_input(
            t(f"change.amount.{kind}"), value=starts_with[kind], step=0.1 if kind == "multiply" else 1.0,
            min_value=None if kind == "add_weekly" else 0.0, key=f"override_amount_{kind}",
        )  # fmt: skip
        left, right = st.columns(2)
        first = left.date_input(t("change.from"), value=tomorrow, key="override_from")
        last = right.date_input(t("change.through"), value=tomorrow + timedelta(days=13), key="override_through")
        expires = st.date_input(
            t("change.expires"), value=last, help=t("change.expires.help"), key=f"override_expires_{last}"
        )
        reason = st.text_input(t("change.reason"), key="override_reason")
        if st.button(t("change.go_override"), type="primary", key="override_go"):
            if not reason.strip():
                st.warning(t("told.reason_needed"))
                return
            command = SetOverride(
                sku, place, first, last, kind, float(amount), reason.strip(), expires, idem_key=f"desk:{key}"
            )
            _keep(screen, set_override, command)

    ask()


def ask_adjustment(screen: Screen, sku: str, place: str) -> None:
    """Open the dialog that says which past days mislead."""
    t = screen.t
    key = uuid.uuid4().hex
    yesterday = screen.today - timedelta(days=1)

    @st.dialog(t("change.ask_adjustment", sku=escaped(sku)))
    def ask() -> None:
        kind = st.selectbox(
            t("change.kind"),
            list(ADJUSTMENT_KINDS),
            format_func=lambda name: t(f"change.kind.{name}"),
            key="adjust_kind",
        )
        daily = None
        if kind == "replace":
            daily = st.number_input(
                t("change.amount.set_daily"), min_value=0.0, value=1.0, step=1.0, key="adjust_daily"
            )
        left, right = st.columns(2)
        first = left.date_input(t("change.from"), value=yesterday, max_value=screen.today, key="adjust_from")
        last = right.date_input(t("change.through"), value=yesterday, max_value=screen.today, key="adjust_through")
        reason = st.text_input(t("change.reason"), key="adjust_reason")
        if st.button(t("change.go_adjustment"), type="primary", key="adjust_go"):
            if not reason.strip():
                st.warning(t("told.reason_needed"))
                return
            command = AdjustDemand(sku, place, first, last, kind, reason.strip(), daily, idem_key=f"desk:{key}")
            _keep(screen, adjust_demand, command)

    ask()


def overridden_sentence(screen: Screen, ahead: Any) -> str | None:
    """How far overrides move the coming days of a forecast; None when they don't."""
    changed = ahead.filter(ahead["mean_qty"] != ahead["model_mean_qty"])
    if changed.is_empty():
        return None
    model, now = (qty(float(changed[name].sum())) for name in ("model_mean_qty", "mean_qty"))
    return screen.t("change.moved", days=changed.height, model=model, now=now)
