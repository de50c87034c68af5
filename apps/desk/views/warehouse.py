"""The warehouse's day: release approved shipments, pick by list, ship with the tracking number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import streamlit as st

from apps.components.figures import day, qty
from apps.components.sentences import escaped
from apps.desk.screen import Screen, from_url, to_url
from apps.readers import carriers, locations, open_pick_lists, ready_to_ship, sku_names
from orders_core.domain.lifecycle import REASONS
from orders_core.errors import OrdersError
from orders_core.services.shipping import PackageIn, ShipShipment, ship_shipment
from orders_core.services.warehouse import (
    PickAll,
    Release,
    ShortPick,
    Tick,
    pick_all,
    pick_sheet,
    release,
    short_pick,
    tick,
)
from orders_core.store.queries import pick_queue

STAGES = ("release", "pick", "ship")


def show(screen: Screen) -> None:
    """Draw the queue of the chosen stage, or the pick list named by `?list=`."""
    number = st.query_params.get("list", "")
    screen.title(screen.t("warehouse.title"))
    screen.show_told("warehouse")
    if number:
        _sheet(screen, number)
        return
    with screen.store.reading() as conn:
        names = locations(conn, language=screen.language)
        every = pick_queue(conn, limit=500)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    place_key = from_url("at", "", ["", *names], language=screen.language)
    stage_key = from_url("stage", "release", list(STAGES))
    right.selectbox(
        screen.t("col.place"),
        ["", *names],
        key=place_key,
        format_func=lambda code: names[code] if code else screen.t("warehouse.all"),
        label_visibility="collapsed",
    )
    place = to_url("at", "", language=screen.language) or None
    waiting = [row for row in every if row.status == "planned" and (place is None or row.location_code == place)]
    with screen.store.reading() as conn:
        lists = open_pick_lists(conn, location_code=place)
        picked = ready_to_ship(conn, location_code=place)
    behind = {"release": len(waiting), "pick": len(lists), "ship": len(picked)}
    with left:
        st.segmented_control(
            screen.t("warehouse.title"),
            STAGES,
            key=stage_key,
            format_func=lambda name: f"{screen.t(f'warehouse.{name}')} {qty(behind[name])}",
            required=True,
            label_visibility="collapsed",
        )
    stage = to_url("stage", "release")
    if stage == "release":
        _to_release(screen, waiting, names, place)
    elif stage == "pick":
        _to_pick(screen, lists, names)
    else:
        _to_ship(screen, picked, names)


def _grid(screen: Screen, key: str, rows: list[dict[str, Any]], *, mode: str, **config: Any) -> list[int]:
    """A table whose rows can be ticked; other rows make another grid, so that a tick never moves to another row."""
    mark = hashlib.sha256(repr([list(row.values())[:2] for row in rows]).encode()).hexdigest()[:12]
    event = st.dataframe(
        rows,
        key=f"{key}_{mark}",
        on_select="rerun",
        selection_mode=mode,  # type: ignore[arg-type]
        hide_index=True,
        row_height=34,
        height="content" if len(rows) <= 18 else 640,
        placeholder="",
        alt=screen.t("warehouse.title"),
        column_config=config,
    )
    return [i for i in event["selection"]["rows"] if i < len(rows)]


def _promise(screen: Screen, on: Any) -> str:
    if on is None:
        return ""
    late = (screen.today - on).days
    mark = "▲ " if late > 0 else "◆ " if late == 0 else ""
    return mark + day(on, screen.language, today=screen.today)


# ------------------------------------------------------------------------------------------------ release


def _to_release(screen: Screen, waiting: Sequence[Any], names: Any, place: str | None) -> None:
    t = screen.t
    if not waiting:
        st.info(t("warehouse.release.none"), icon=":material/inbox:")
        return
    units = sum(int(row.units) for row in waiting)
    st.caption(t("warehouse.release.count", shipments=qty(len(waiting)), units=qty(units)))
    rows = [
        {
            t("col.shipment"): row.shipment,
            t("col.order"): row.order_number,
            t("col.customer"): row.customer,
            t("col.promised"): _promise(screen, row.promised_by_date),
            t("col.lines"): row.lines,
            t("col.units"): int(row.units),
            t("col.place"): names.get(row.location_code, row.location_code),
        }
        for row in waiting
    ]
    ticked = [waiting[i] for i in _grid(screen, "release", rows, mode="multi-row")]
    places = {row.location_code for row in ticked} if ticked else {place} if place else set()
    if not ticked and len(names) == 1:
        places = set(names)
    with st.bottom, st.container(horizontal=True, vertical_alignment="center"):
        if len(places) != 1:
            st.caption(t("warehouse.release.one_place"), width="content")
            return
        code = places.pop()
        assert code is not None
        label = (
            t("warehouse.release.some", n=len(ticked))
            if ticked
            else t("warehouse.release.all", place=names.get(code, code))
        )
        st.button(
            label,
            key="release",
            type="primary",
            on_click=_release,
            args=(screen, code, [row.shipment for row in ticked] or None),
            disabled=not screen.may("shipment.release"),
            help=screen.role_help("shipment.release"),
        )
        screen.say_role("shipment.release")


def _release(screen: Screen, place: str, shipments: list[str] | None) -> None:
    def done(result: Any) -> str:
        if not result.shipments:
            said = [screen.t("done.release.none")]
        else:
            lists = ", ".join(result.pick_lists)
            said = [screen.t("done.release", shipments=len(result.shipments), lists=lists)]
        said += [
            screen.t("done.release.skipped", shipment=x.shipment, reason=_reason(screen, x.reason_code, x.reason))
            for x in result.skipped[:5]
            if shipments is not None  # releasing everything due passes over what can't go anyway
        ]
        return "\n\n".join(said)

    if screen.act(release, Release(place, shipments), number="", asked="release", done=done):
        st.session_state["url_stage"] = "pick"


def _reason(screen: Screen, code: str, fallback: str) -> str:
    words = REASONS.get(code)
    return words[1 if screen.language == "zh" else 0] if words else fallback


# --------------------------------------------------------------------------------------------------- pick


def _to_pick(screen: Screen, lists: Sequence[Any], names: Any) -> None:
    t = screen.t
    if not lists:
        st.info(t("warehouse.pick.none"), icon=":material/inbox:")
        return
    left = sum(int(row.open_units) for row in lists)
    st.caption(t("warehouse.pick.count", lists=len(lists), units=qty(left)))
    for row in lists:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.page_link(
                screen.pages["warehouse"],
                label=f"**{row.number}**",
                icon=":material/checklist:",
                query_params={"list": row.number},
            )
            st.markdown(names.get(row.location_code, row.location_code), width="content")
            st.markdown(f":gray[{t(f'list.{row.status}')}]", width="content")
            st.markdown(
                f"{t('lines', n=qty(row.lines))} · {qty(row.units)} {t('units')}"
                f" · {t('line.open')} {qty(row.open_units)}",
                width="content",
            )


def _sheet(screen: Screen, number: str) -> None:
    """One list in walking order, with what can be done to its lines."""
    t = screen.t
    st.page_link(
        screen.pages["warehouse"],
        label=t("warehouse.back"),
        icon=":material/arrow_back:",
        query_params={"stage": "pick"},
    )
    if not screen.may("shipment.pick"):
        st.warning(screen.role_help("shipment.pick"), icon=":material/lock:")
        return
    try:
        sheet = screen.store.run(pick_sheet, screen.actor, number)
    except OrdersError as error:
        st.warning(error.text(screen.language), icon=":material/search_off:")
        return
    with screen.store.reading() as conn:
        names = locations(conn, language=screen.language)
        goods = sku_names(conn, [line.sku for line in sheet.lines], language=screen.language)
    st.subheader(
        t(
            "warehouse.sheet",
            number=number,
            place=names.get(sheet.location, sheet.location),
            status=t(f"list.{sheet.status}"),
        ),
        anchor=False,
    )
    picked = sum(line.picked_qty for line in sheet.lines)
    st.caption(t("warehouse.sheet.progress", lines=len(sheet.lines), units=qty(sheet.total_qty), picked=qty(picked)))
    rows = [
        {
            t("col.line"): line.position,
            t("col.bin"): line.bin_code or "",
            t("col.sku"): line.sku,
            t("col.name"): goods[line.sku],
            t("col.qty"): line.qty,
            t("col.packs"): f"{line.packs} {line.unit}" + (f" + {line.pieces}" if line.pieces else "")
            if line.unit != line.base_unit
            else "",
            t("col.lot"): line.lot_code or "",
            t("col.picked"): line.picked_qty,
            t("col.status"): t(f"line.{line.status}"),
            t("col.order"): line.order,
        }
        for line in sheet.lines
    ]
    for name in (t("col.bin"), t("col.packs"), t("col.lot")):  # columns nobody fills here say nothing
        if not any(row[name] for row in rows):
            for row in rows:
                del row[name]
    ticked = [sheet.lines[i] for i in _grid(screen, f"sheet_{number}", rows, mode="multi-row")]
    still_open = [line for line in ticked if line.status == "open"]
    if sheet.status not in ("open", "picking"):
        return
    with st.bottom, st.container(horizontal=True):
        if still_open:
            st.button(
                t("warehouse.tick"),
                key="tick",
                type="primary",
                on_click=_tick,
                args=(screen, number, [x.position for x in still_open]),
            )
            if len(still_open) == 1 and st.button(t("warehouse.short"), key="short"):
                _short(screen, number, still_open[0])
        else:
            st.button(
                t("warehouse.pick_all"), key="pick_all", type="primary", on_click=_pick_all, args=(screen, number)
            )


def _progress(screen: Screen, result: Any) -> str:
    if result.status == "done":
        said = screen.t("done.pick.finished", list=result.pick_list)
    else:
        said = screen.t("done.pick", list=result.pick_list, picked=qty(result.picked_qty), open=qty(result.open_qty))
    if result.stopped_orders:
        said += " " + screen.t("warehouse.stopped", orders=", ".join(result.stopped_orders))
    return said


def _pick_all(screen: Screen, number: str) -> None:
    screen.act(pick_all, PickAll(number), number="", asked="pick", done=lambda result: _progress(screen, result))


def _tick(screen: Screen, number: str, positions: list[int]) -> None:
    for position in positions:
        if not screen.act(
            tick, Tick(number, position), number="", asked="pick", done=lambda result: _progress(screen, result)
        ):
            return


def _short(screen: Screen, number: str, line: Any) -> None:
    @st.dialog(f"{screen.t('warehouse.short')} {line.sku}")
    def ask() -> None:
        st.markdown(screen.t("warehouse.short.ask"))
        found = st.number_input(
            screen.t("warehouse.short.found"), min_value=0, max_value=line.qty - 1, value=line.picked_qty
        )
        if st.button(screen.t("warehouse.short"), type="primary", key="go_short"):
            command = ShortPick(number, line.position, int(found))
            said = screen.t("done.short")
            screen.act(short_pick, command, number="", asked="pick", done=lambda _: said)
            st.rerun()

    ask()


# --------------------------------------------------------------------------------------------------- ship


def _to_ship(screen: Screen, picked: Sequence[Any], names: Any) -> None:
    t = screen.t
    if not picked:
        st.info(t("warehouse.ship.none"), icon=":material/inbox:")
        return
    st.caption(t("warehouse.ship.count", shipments=qty(len(picked))))
    rows = [
        {
            t("col.shipment"): row.shipment,
            t("col.order"): row.order_number,
            t("col.customer"): row.customer,
            t("col.promised"): _promise(screen, row.promised_by_date),
            t("col.units"): int(row.units),
            t("col.state"): t(f"shipment.{row.status}"),
            t("col.kind"): t(f"delivery.{row.delivery_method}"),
            t("col.place"): names.get(row.location_code, row.location_code),
        }
        for row in picked
    ]
    ticked = _grid(screen, "ship", rows, mode="single-row")
    chosen = picked[ticked[0]] if ticked else picked[0] if len(picked) == 1 else None
    if chosen is None:
        st.caption(t("warehouse.ship.choose"))
        return
    with screen.store.reading() as conn:
        couriers = carriers(conn, language=screen.language)
    is_courier = chosen.delivery_method == "courier"
    with st.form("ship", border=True):
        st.markdown(f"**{chosen.shipment}** · {chosen.order_number} · {escaped(chosen.customer)}")
        if is_courier:
            left, right = st.columns(2)
            left.selectbox(
                t("warehouse.carrier"),
                list(couriers),
                key=f"ship_carrier_{screen.language}",
                format_func=lambda code: couriers[code],
            )
            right.text_input(t("col.tracking"), key=f"tracking_{chosen.shipment}")
        st.form_submit_button(
            t("warehouse.ship.go", shipment=chosen.shipment),
            type="primary",
            on_click=_ship,
            args=(screen, chosen),
            disabled=not screen.may("shipment.ship") or (is_courier and not couriers),
            help=screen.role_help("shipment.ship"),
        )
    screen.say_role("shipment.ship")
    if is_courier and not couriers:
        st.warning(t("warehouse.no_carrier"))


def _ship(screen: Screen, chosen: Any) -> None:
    # As a callback, before the page is drawn: a page that ended its drawing to start again lost its URL
    # to who clicked in that moment.
    is_courier = chosen.delivery_method == "courier"
    carrier = st.session_state[f"ship_carrier_{screen.language}"] if is_courier else None
    tracking = st.session_state[f"tracking_{chosen.shipment}"].strip() or None if is_courier else None

    def done(result: Any) -> str:
        said = screen.t("done.ship", shipment=chosen.shipment)
        if result.rest_shipments:
            said += " " + screen.t("done.ship.rest", shipments=", ".join(result.rest_shipments.values()))
        return said

    boxes = () if chosen.status == "packed" and tracking is None else (PackageIn(tracking_number=tracking),)
    command = ShipShipment(chosen.shipment, carrier=carrier, packages=boxes)
    screen.act(ship_shipment, command, number=chosen.order_number, asked="ship", done=done)
