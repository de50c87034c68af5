"""One order: where it stands and why, what it consists of, who did what, and what can be done about it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from apps.components.figures import day, moment, money, qty, signed
from apps.components.ledger import ledger
from apps.components.sentences import (
    action_words,
    audit_detail,
    escaped,
    masked,
    masked_mail,
    reason_sentence,
    route_sentence,
    short_words,
    status_word,
)
from apps.components.words import has
from apps.desk.screen import Screen, Service
from apps.desk.views.home import promise_words
from apps.readers import channels, locations
from orders_core.domain.lifecycle import PERMISSIONS
from orders_core.domain.validation import said_reason
from orders_core.errors import OrdersError
from orders_core.services.cancel import CancelOrder, cancel_order, preview_cancel
from orders_core.services.drafting import MAX_QTY
from orders_core.services.edit import EditOrder, LineChange, edit_order, preview_edit
from orders_core.services.perform import PerformServices, perform_services
from orders_core.services.review import (
    AddNote,
    ApproveOrder,
    HoldOrder,
    RejectOrder,
    ResumeOrder,
    add_note,
    approve_order,
    hold_order,
    reject_order,
    resume_order,
)
from orders_core.services.split import SplitByStock, split_by_stock
from orders_core.store.queries import OrderPage, order_page

STATUS_LOOK = {
    "review": ("orange", ":material/pending_actions:"),
    "held": ("orange", ":material/pause_circle:"),
    "waiting_stock": ("red", ":material/inventory_2:"),
    "ready": ("blue", ":material/task_alt:"),
    "picking": ("blue", ":material/shelves:"),
    "partly_shipped": ("blue", ":material/local_shipping:"),
    "shipped": ("blue", ":material/local_shipping:"),
    "partly_delivered": ("blue", ":material/local_shipping:"),
    "delivered": ("green", ":material/check_circle:"),
    "cancelled": ("gray", ":material/cancel:"),
    "rejected": ("gray", ":material/cancel:"),
}
PERMISSION = {**PERMISSIONS, "note": "order.note"}


def show(screen: Screen) -> None:
    """Draw the order named by `?no=`."""
    number = st.query_params.get("no", "").strip()
    if not number:
        screen.title(screen.t("nav.order"))
        asked = st.text_input(screen.t("col.order"), placeholder="SO-…")
        st.caption(screen.t("order.ask"))
        if asked:
            screen.go("order", no=asked.strip())
        return
    with screen.store.reading() as conn:
        page = order_page(conn, number)
        names = locations(conn, language=screen.language)
        channel_names = channels(conn, language=screen.language)
    if page is None:
        screen.title(screen.t("nav.order"))
        st.warning(screen.t("order.missing", number=number), icon=":material/search_off:")
        return
    screen.title(number)
    screen.show_told(f"order:{number}")
    _headline(screen, page, channel_names)
    _steps(screen, page)
    _why(screen, page)
    _lines(screen, page, names)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _route(screen, page, names)
        _timeline(screen, page)
    with right:
        _money(screen, page)
        _shipments(screen, page)
        _messages(screen, page)
    _actions(screen, page)


# ------------------------------------------------------------------------------------------------ the top


def _headline(screen: Screen, page: OrderPage, channel_names: Mapping[str, str]) -> None:
    order = page.order
    colour, icon = STATUS_LOOK[order.status]
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.badge(status_word(order.status, screen.language), icon=icon, color=colour)
        st.markdown(f"**{escaped(order.customer)}** :gray[{order.customer_code}]", width="content")
        st.markdown(f"**{money(order.total_cents, order.currency)}**", width="content")
        if order.promised_by_date is not None:
            words = promise_words(screen, order)
            st.markdown(screen.t("order.promised", day=words), width="content")
        st.caption(
            screen.t(
                "order.via",
                channel=channel_names[order.channel],
                day=day(order.business_date, screen.language, today=screen.today),
            ),
            width="content",
        )
        if order.requested_date is not None:
            wanted = day(order.requested_date, screen.language, today=screen.today)
            st.caption(screen.t("order.wanted", day=wanted), width="content")


def _steps(screen: Screen, page: OrderPage) -> None:
    """Placed → checks → approved → picked → shipped → delivered, each done, under way or still to come."""
    order = page.order
    checks = _checks(page)
    steps: list[tuple[str, str]] = [("done", screen.t("step.placed", time=_when(screen, order.placed_at)))]
    if checks:
        passed = sum(check["is_passed"] for check in checks)
        words = screen.t("step.checks", passed=passed, all=len(checks))
        steps.append(("done" if passed == len(checks) or order.approved_at else "now", words))
    if order.approved_at is not None:
        key = "step.approved_auto" if order.approved_by == "auto" else "step.approved"
        steps.append(("done", screen.t(key, who=order.approved_by, time=_when(screen, order.approved_at))))
    else:
        steps.append(("to come", screen.t("step.approve")))
    picking = order.status == "picking"
    gone = order.status in ("partly_shipped", "shipped", "partly_delivered", "delivered")
    steps.append(("done" if gone else "now" if picking else "to come", screen.t("step.pick")))
    partly = order.status == "partly_shipped"
    steps.append(("now" if partly else "done" if gone else "to come", screen.t("step.ship")))
    delivered = order.status == "delivered"
    under_way = order.status in ("shipped", "partly_delivered")
    steps.append(("done" if delivered else "now" if under_way else "to come", screen.t("step.deliver")))
    if order.status in ("cancelled", "rejected"):
        steps = [step for step in steps if step[0] == "done"] + [("stopped", screen.t(f"step.{order.status}"))]
    looks = {
        "done": ":green[:material/check_circle:] {}",
        "now": ":orange[:material/clock_loader_40:] **{}**",
        "to come": ":gray[:material/radio_button_unchecked: {}]",
        "stopped": ":red[:material/cancel: {}]",
    }
    st.markdown(" :gray[──] ".join(looks[state].format(words) for state, words in steps))


def _when(screen: Screen, at: Any) -> str:
    return moment(at, screen.language, zone=screen.zone, today=screen.today)


def _checks(page: OrderPage) -> Sequence[Mapping[str, Any]]:
    """The newest decision's checks: {check, is_passed, code, …facts} each; empty for imported history."""
    for decision in reversed(page.decisions):
        if decision.kind == "approve" and decision.reasons and "check" in decision.reasons[0]:
            found: Sequence[Mapping[str, Any]] = decision.reasons
            return found
    return ()


def _why(screen: Screen, page: OrderPage) -> None:
    """What stands against the order as sentences, then what was checked and found right."""
    order, t = page.order, screen.t
    checks = _checks(page)
    passed = [t(f"check.{check['check']}") for check in checks if check["is_passed"]]
    waits = [reason_sentence(reason, order.currency, screen.language) for reason in order.review_reasons or ()]
    is_waiting = order.status in ("review", "held", "waiting_stock")
    short = [line for line in page.lines if line.backordered_qty > 0]
    if not is_waiting and not short and not checks:
        return
    st.subheader(t("order.why" if is_waiting else "order.checks"), anchor=False)
    if order.hold_reason:
        reason = escaped(said_reason(order.hold_reason, screen.language))
        st.markdown(f":orange[:material/pause_circle:] {t('why.held', reason=reason)}")
    for sentence in waits:
        st.markdown(f":orange[:material/error:] {escaped(sentence)}")
    if short:
        can_split = any(line.reserved_qty > 0 for line in page.lines)
        words = short_words(short, screen.language, most=8)
        st.markdown(f":red[:material/inventory_2:] {t('order.short' if can_split else 'order.short_all', lines=words)}")
    if not waits and not is_waiting:
        for check in checks:
            if not check["is_passed"]:
                sentence = reason_sentence(check, order.currency, screen.language)
                st.markdown(f":gray[:material/error:] {escaped(sentence)}")
    if passed:
        join = "、" if screen.language == "zh" else ", "
        st.markdown(f":green[:material/check:] :gray[{t('order.passed', checks=join.join(passed))}]")


# ------------------------------------------------------------------------------------------ what it holds


def _lines(screen: Screen, page: OrderPage, names: Mapping[str, str]) -> None:
    t, order = screen.t, page.order
    st.subheader(t("order.lines"), anchor=False)
    by_id = {line.id: line for line in page.lines}
    places: dict[int, list[str]] = {}
    for row in page.shipments:
        if row.status != "cancelled" and row.location_code not in places.setdefault(row.line_no, []):
            places[row.line_no].append(row.location_code)
    rows = []
    for line in page.lines:
        name = _name(screen, line)
        if line.parent_line_id is not None:
            key = "order.gift_of" if line.kind == "gift" else "order.part_of"
            name = t(key, name=name, line=by_id[line.parent_line_id].line_no)
        takes_stock = line.kind in ("item", "component", "gift")
        unit = f"{qty(line.pack_qty)} {_unit(screen, line)}" + (
            f" × {line.units_per_pack}" if line.units_per_pack > 1 else ""
        )
        rows.append(
            {
                t("col.line"): line.line_no,
                t("col.sku"): line.sku,
                t("col.name"): name,
                t("col.qty"): unit,
                t("col.unit_price"): money(line.unit_price_cents, order.currency) if line.unit_price_cents else "",
                t("col.net"): money(line.net_cents, order.currency) if line.net_cents else "",
                t("col.from"): ", ".join(names.get(code, code) for code in places.get(line.line_no, ()))
                or ("" if takes_stock else t("order.no_stock_needed")),
                t("col.reserved"): qty(line.reserved_qty) if takes_stock else "",
                t("col.backordered"): qty(line.backordered_qty) if line.backordered_qty else "",
                t("col.shipped"): qty(line.shipped_qty) if line.shipped_qty else "",
                t("col.note"): line.note or "",
            }
        )
    if not any(row[t("col.note")] for row in rows):
        for row in rows:
            del row[t("col.note")]
    numbers = ("col.qty", "col.unit_price", "col.net", "col.reserved", "col.backordered", "col.shipped")
    st.dataframe(
        rows,
        hide_index=True,
        row_height=32,
        alt=t("order.lines"),
        column_config={
            t("col.line"): st.column_config.NumberColumn(width=45),
            **{t(name): st.column_config.TextColumn(alignment="right") for name in numbers},
        },
    )


def _name(screen: Screen, line: Any) -> str:
    return str((line.name_en or line.name) if screen.language == "en" else line.name)


def _unit(screen: Screen, line: Any) -> str:
    return screen.t(f"unit.{line.unit}") if has(f"unit.{line.unit}") else str(line.unit)


def _route(screen: Screen, page: OrderPage, names: Mapping[str, str]) -> None:
    """Which places could serve the order, which was chosen, and by which rule."""
    t = screen.t
    st.subheader(t("order.route"), anchor=False)
    routes = [decision for decision in page.decisions if decision.kind == "route"]
    if not routes:
        st.caption(t("route.none"))
        return
    route = routes[-1]
    reason = route.reasons[0]
    st.markdown(route_sentence(reason, names, screen.language))
    chosen = set(reason.get("sites", ()))
    rows = [
        {
            t("col.place"): names.get(site["site"], site["site"]),
            t("col.serves"): site["serves_qty"],
            t("col.distance"): site.get("distance_km"),
            t("col.chosen"): ":green[:material/check:]" if site["site"] in chosen else "",
        }
        for site in route.alternatives or ()
    ]
    if rows:
        ledger(rows, figures={t("col.serves"): qty, t("col.distance"): lambda km: f"{qty(km)} km"})
    if reason["code"] in ("one_location", "fewest_packages"):
        st.caption(t("route.rule"))


def _timeline(screen: Screen, page: OrderPage) -> None:
    t = screen.t
    st.subheader(t("order.timeline"), anchor=False)
    roles = {"system": t("rules"), "auto": t("rules")}
    rows = [
        {
            t("col.when"): _when(screen, entry.at),
            t("col.who"): roles.get(entry.actor, entry.actor),
            t("col.what"): action_words(entry.action, screen.language),
            t("reason"): escaped(audit_detail(entry.facts, page.order.currency, screen.language)),
        }
        for entry in reversed(page.timeline)
    ]
    if rows:
        ledger(rows)


def _money(screen: Screen, page: OrderPage) -> None:
    t, order = screen.t, page.order
    st.subheader(t("order.money"), anchor=False)
    amounts = [(t("money.goods"), order.goods_cents)]
    if order.discount_cents:
        amounts.append((t("money.discount"), -order.discount_cents))
    amounts += [(charge.description or t(f"charge.{charge.kind}"), charge.amount_cents) for charge in page.charges]
    if order.tax_cents:
        amounts.append((t("money.tax"), order.tax_cents))
    amounts.append((f"**{t('money.total')}**", order.total_cents))
    amounts.append((t("money.paid"), order.paid_cents))
    if order.refunded_cents:
        amounts.append((t("money.refunded"), -order.refunded_cents))
    due = order.total_cents - order.paid_cents + order.refunded_cents
    if due > 0 and order.status not in ("cancelled", "rejected"):
        amounts.append((t("money.due"), due))
    ledger(
        [{t("col.what"): name, t("col.amount"): cents} for name, cents in amounts],
        figures={t("col.amount"): lambda cents: money(int(cents), order.currency)},
        has_header=False,
    )
    method = t(f"money.method.{order.payment_method}")
    if order.payment_method == "credit" and order.credit_limit_cents is not None:
        used, limit = (money(c, order.currency) for c in (order.credit_used_cents, order.credit_limit_cents))
        method += " · " + t("money.credit", used=used, limit=limit)
    st.caption(method)


def _shipments(screen: Screen, page: OrderPage) -> None:
    t = screen.t
    st.subheader(t("order.shipments"), anchor=False)
    place = " ".join(escaped(part) for part in (page.order.region, page.order.city, page.order.street) if part)
    who = " ".join(escaped(part) for part in (page.order.recipient, masked(page.order.phone)) if part)
    st.caption(" · ".join(part for part in (t(f"delivery.{page.order.delivery_method}"), who, place) if part))
    seen: dict[str, list[Any]] = {}
    for row in page.shipments:
        seen.setdefault(row.number, []).append(row)
    rows = []
    for number, lines in seen.items():
        first = lines[0]
        units = sum(line.shipped_qty or line.qty for line in lines)
        waiting = sum(line.backordered_qty for line in lines)
        state = t(f"shipment.{first.status}")
        if first.shipped_at is not None:
            state += f" {_when(screen, first.delivered_at or first.shipped_at)}"
        elif waiting:
            state += f" · {t('col.backordered')} {qty(waiting)}"
        place = (first.location or first.location_code) if screen.language == "zh" else first.location_code
        rows.append(
            {
                t("col.shipment"): number,
                t("col.from"): place,
                t("col.units"): units,
                t("col.state"): state,
            }
        )
    if rows:
        ledger(rows, figures={t("col.units"): qty})
    numbers = [package.tracking_number for package in page.packages if package.tracking_number]
    if numbers:
        st.caption(f"{t('col.tracking')}: {', '.join(numbers)}")


def _messages(screen: Screen, page: OrderPage) -> None:
    t = screen.t
    st.subheader(t("order.messages"), anchor=False)
    if not page.notices:
        st.caption(t("order.messages.none"))
        return
    rows = []
    for notice in page.notices:
        key = f"template.{notice.template}"
        at = _when(screen, notice.sent_at) if notice.sent_at is not None else ""
        state = t(f"outbox.{notice.status}", time=at, error=notice.last_error or "")
        if notice.status == "dead":
            state = f":red[:material/error: {escaped(state)}]"
        rows.append(
            {
                t("col.message"): t(key) if has(key) else notice.template,
                t("col.to"): escaped(masked_mail(notice.recipient)),
                t("col.state"): state,
            }
        )
    ledger(rows)


# ------------------------------------------------------------------------------------------------ actions


def _actions(screen: Screen, page: OrderPage) -> None:
    """The bar at the bottom. What the stage does not allow is not offered; what the role may not do says so."""
    order, can = page.order, page.actions
    t, number, version = screen.t, page.order.number, page.order.version
    over_credit = [r for r in order.review_reasons or () if r["code"] in ("credit_exceeded", "no_credit")]

    def button(action: str, label: str | None = None, *, primary: bool = False, **kwargs: Any) -> bool:
        return st.button(
            label or t(f"action.{action}"),
            key=f"do_{action}",
            type="primary" if primary else "secondary",
            disabled=not screen.may(PERMISSION[action]),
            help=screen.role_help(PERMISSION[action]),
            **kwargs,
        )

    with st.bottom, st.container(horizontal=True, gap="small"):
        if can["approve"] is None:
            if over_credit:
                if button("approve", t("action.approve_once"), primary=True):
                    _approve_once(screen, order, over_credit[0])
            else:
                command = ApproveOrder(number, expected_version=version)
                button("approve", primary=True, on_click=_approve, args=(screen, command))
        if can["resume"] is None:
            button(
                "resume",
                primary=can["approve"] is not None,
                on_click=_run,
                args=(screen, resume_order, ResumeOrder(number, version), "resume", number),
            )
        if can["hold"] is None and button("hold"):
            _ask_reason(screen, "hold", number, lambda why: (hold_order, HoldOrder(number, why, version)))
        if can["split"] is None and any(line.backordered_qty for line in page.lines):
            button("split", on_click=_split, args=(screen, SplitByStock(number, version)))
        if can["perform"] is None and any(_open_service(line) for line in page.lines):
            performed = PerformServices(number, idem_key=f"desk:{number}:{version}")
            button("perform", on_click=_run, args=(screen, perform_services, performed, "perform", number))
        if can["edit"] is None and order.origin == "live" and button("edit"):
            _edit(screen, page)
        if button("note"):
            _note(screen, number)
        if can["reject"] is None and button("reject"):
            _ask_reason(screen, "reject", number, lambda why: (reject_order, RejectOrder(number, why, version)))
        if can["cancel"] is None and button("cancel"):
            _ask_reason(
                screen,
                "cancel",
                number,
                lambda why: (cancel_order, CancelOrder(number, why, version)),
                said=_services_dropped(screen, number),
            )


def _open_service(line: Any) -> bool:
    return bool(line.kind == "service" and line.ordered_qty - line.cancelled_qty > line.delivered_qty)


def _approve(screen: Screen, command: ApproveOrder) -> None:
    """Approve; a second click (ours or a colleague's) hears who was first, and nothing is done twice."""
    _run(screen, approve_order, command, "approve", command.number)


def _run(screen: Screen, service: Service, command: Any, action: str, number: str) -> None:
    done = screen.t(f"done.{action}", number=number)
    screen.act(service, command, number=number, asked=action, done=lambda _: done)


def _split(screen: Screen, command: SplitByStock) -> None:
    def done(result: Any) -> str:
        if not result.new_shipments:
            return screen.t("done.split.none")
        return screen.t("done.split", number=command.number, shipments=", ".join(result.new_shipments))

    screen.act(split_by_stock, command, number=command.number, asked="split", done=done)


def _services_dropped(screen: Screen, number: str) -> str:
    """What a cancel would take off besides goods: services that nobody performed yet."""
    try:
        preview = screen.store.run(preview_cancel, screen.actor, CancelOrder(number, "-"))
    except OrdersError as error:
        return screen.refusal(error, number=number, asked="cancel")[1]
    services = [f"{line.sku} × {line.qty}" for line in preview.dropped if line.kind == "service"]
    return screen.t("ask.cancel.services", services=escaped(", ".join(services))) if services else ""


def _ask_reason(
    screen: Screen, action: str, number: str, make: Callable[[str], tuple[Service, Any]], *, said: str = ""
) -> None:
    """A dialog that wants a reason before it acts; `said` is what to know first."""

    @st.dialog(f"{screen.t(f'action.{action}')} {number}")
    def ask() -> None:
        st.markdown(screen.t(f"ask.{action}"))
        if said:
            st.markdown(said)
        why = st.text_input(screen.t("reason"), key=f"why_{action}")
        if st.button(screen.t(f"action.{action}"), type="primary", key=f"go_{action}"):
            if not why.strip():
                st.warning(screen.t("told.reason_needed"))
                return
            service, command = make(why.strip())
            _run(screen, service, command, action, number)
            st.rerun()

    ask()


def _approve_once(screen: Screen, order: Any, reason: Mapping[str, Any]) -> None:
    @st.dialog(f"{screen.t('action.approve')} {order.number}")
    def ask() -> None:
        sentence = reason_sentence(reason, order.currency, screen.language)
        st.markdown(screen.t("ask.approve_once", reason=escaped(sentence)))
        why = st.text_input(screen.t("reason"), key="why_approve")
        if st.button(screen.t("action.approve"), type="primary", key="go_approve"):
            if not why.strip():
                st.warning(screen.t("told.reason_needed"))
                return
            _approve(screen, ApproveOrder(order.number, expected_version=order.version, reason=why.strip()))
            st.rerun()

    ask()


def _note(screen: Screen, number: str) -> None:
    key = uuid.uuid4().hex  # of this opening of the dialog: a second click writes nothing twice

    @st.dialog(f"{screen.t('action.note')} {number}")
    def ask() -> None:
        medium = st.segmented_control(
            screen.t("ask.medium"),
            ["none", "phone", "mail", "wechat"],
            default="none",
            format_func=lambda name: screen.t(f"medium.{name}"),
            required=True,
        )
        text = st.text_area(screen.t("ask.note"))
        if st.button(screen.t("action.note"), type="primary", key="go_note") and text.strip():
            command = AddNote(number, text.strip(), None if medium == "none" else medium, idem_key=key)
            _run(screen, add_note, command, "note", number)
            st.rerun()

    ask()


def _edit(screen: Screen, page: OrderPage) -> None:
    """Change one line's quantity, with what it does to money, stock and date before anything is written."""
    order, t = page.order, screen.t
    lines = {line.line_no: line for line in page.lines if line.parent_line_id is None}

    @st.dialog(f"{t('action.edit')} {order.number}")
    def ask() -> None:
        line_no = st.selectbox(
            t("ask.line"), list(lines), format_func=lambda no: f"{no} · {lines[no].sku} · {_name(screen, lines[no])}"
        )
        line = lines[line_no]
        new = st.number_input(
            t("ask.new_qty", unit=_unit(screen, line)),
            value=line.pack_qty,  # no bounds: out of them the field would keep the last good number
            step=1,
            key=f"qty_{line_no}",
        )
        if not 0 <= new <= MAX_QTY:
            st.error(t("edit.bad_qty", qty=qty(int(new)), most=qty(MAX_QTY)), icon=":material/block:")
            return
        why = st.text_input(t("reason"), key="why_edit")
        if new == line.pack_qty:
            st.caption(t("edit.same"))
            return
        command = EditOrder(
            order.number, order.version, lines=(LineChange(line_no, int(new)),), reason=why.strip() or None
        )
        try:
            preview = screen.store.run(preview_edit, screen.actor, command)
        except OrdersError as error:
            kind, sentence = screen.refusal(error, number=order.number, asked="edit")
            (st.error if kind == "error" else st.warning)(sentence)
            return
        _preview(screen, order.currency, preview)
        if st.button(t("edit.apply"), type="primary", key="go_edit"):
            _run(screen, edit_order, command, "edit", order.number)
            st.rerun()

    ask()


def _preview(screen: Screen, currency: str, preview: Any) -> None:
    t = screen.t
    change = preview.total_cents - preview.total_before_cents
    sign = "+" if change > 0 else ""
    said = [
        t(
            "edit.total",
            before=money(preview.total_before_cents, currency),
            after=money(preview.total_cents, currency),
            change=sign + money(change, currency),
        )
    ]
    if preview.refund_cents:
        said.append(t("edit.refund", money=money(preview.refund_cents, currency)))
    if preview.due_cents:
        said.append(t("edit.due", money=money(preview.due_cents, currency)))
    said.append(t("edit.stock", reserved=signed(preview.reserved_qty), backordered=signed(preview.backordered_qty)))
    if preview.promised_by_date is not None:
        promised = day(preview.promised_by_date, screen.language, today=screen.today)
        said.append(t("edit.promise", day=promised + (f" ({t('estimate')})" if preview.is_promise_estimated else "")))
    st.markdown(f"**{t('edit.preview')}**\n\n" + "\n".join(f"- {sentence}" for sentence in said))
