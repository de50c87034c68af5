"""What to do about a line that is short: wait, restock, substitute, split, transfer or cancel, each with cost and date.

One click does it: stock, purchase request and the customer's notice go in the same transaction. A substitute is only
offered; it waits for the customer's yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import bindparam, select, text, update

from orders_core.domain.permissions import Actor
from orders_core.domain.rules import Rules
from orders_core.errors import InvalidCommand, NotFound, OrdersError
from orders_core.notifications.tell import line_facts, tell_customer
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.drafting import LineIn
from orders_core.services.edit import (
    EditOrder,
    LineChange,
    OpenChange,
    apply_change,
    drop_change,
    edit_order,
    open_change,
    preview_edit,
)
from orders_core.services.idempotency import is_repeat
from orders_core.services.orders_state import OrderState, order_for_change, sync_order
from orders_core.services.place_order import promised_date
from orders_core.services.review import rules_of
from orders_core.services.split import SplitByStock, split_by_stock
from orders_core.services.supply import expected_date, request_missing
from orders_core.services.transfers import PlanTransfer, TransferQty, plan_transfer
from orders_core.store.tables import Order, OrderChange, OrderLine, Shipment, ShipmentLine, Sku, SupplierSku
from orders_core.store.uow import UnitOfWork

KINDS = ("wait", "restock", "substitute", "split", "transfer", "cancel")


@dataclass(frozen=True)
class ShowOptions:
    """A line of an order that waits for stock."""

    number: str
    line_no: int


@dataclass(frozen=True)
class Option:
    """One way out: the day the customer would have it, whether that is an estimate, and what it costs us.

    `cost_cents` is above what the order costs us anyway, in the order's currency; negative saves. `detail` holds what
    the way needs (substitute SKU, source location, units).
    """

    kind: str
    qty: int
    promised_by_date: date | None
    is_estimated: bool
    cost_cents: int
    currency: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Shortage:
    """What is short of a line, base units, where, and the ways out."""

    number: str
    line_no: int
    sku: str
    location: str
    short_qty: int
    options: tuple[Option, ...]


@dataclass(frozen=True)
class ActOnShortage:
    """Take one of the ways. `substitute` names the SKU offered, `from_location` where a transfer comes from."""

    number: str
    line_no: int
    kind: str
    substitute: str | None = None
    from_location: str | None = None
    idem_key: str | None = None


@dataclass(frozen=True)
class ActedOnShortage:
    """The order afterwards; for a substitute, the change that waits for the customer; for a transfer, its number."""

    order: OrderState
    kind: str
    change_id: int | None = None
    transfer: str | None = None
    is_repeat: bool = False


@dataclass(frozen=True)
class AnswerOffer:
    """The customer's yes or no to a substitute."""

    number: str
    is_accepted: bool


_SHORT = (
    select(
        OrderLine.id.label("order_line_id"),
        OrderLine.order_id,
        OrderLine.line_no,
        OrderLine.kind,
        OrderLine.unit,
        OrderLine.units_per_pack,
        OrderLine.pack_qty,
        OrderLine.ordered_qty,
        OrderLine.net_cents,
        OrderLine.reserved_qty.label("line_reserved_qty"),
        ShipmentLine.backordered_qty,
        Shipment.location_id,
        Sku.id.label("sku_id"),
        Sku.sku,
        Sku.name,
        Sku.name_en,
        Sku.base_unit,
        Sku.supply_mode,
        Sku.weight_g,
    )
    .select_from(ShipmentLine)
    .join(Shipment, Shipment.id == ShipmentLine.shipment_id)
    .join(OrderLine, OrderLine.id == ShipmentLine.order_line_id)
    .join(Sku, Sku.id == OrderLine.sku_id)
    .where(
        OrderLine.order_id == bindparam("order_id"),
        ShipmentLine.backordered_qty > 0,
        Shipment.status.in_(["planned", "released", "picked", "packed"]),
    )
    .order_by(OrderLine.line_no, ShipmentLine.backordered_qty.desc())
)
_ELSEWHERE = text(
    "SELECT w.code, w.id, w.region, s.on_hand_qty - s.reserved_qty - CASE WHEN s.safety_qty > 0 THEN s.safety_qty ELSE 0 END"
    " AS free_qty FROM stock_level s JOIN location w ON w.id = s.location_id WHERE s.sku_id = :sku_id"
    " AND w.id <> :location_id AND w.is_active AND w.is_stock_tracked"
    " AND s.on_hand_qty - s.reserved_qty - CASE WHEN s.safety_qty > 0 THEN s.safety_qty ELSE 0 END > 0"
    " ORDER BY free_qty DESC, w.rank, w.code"
)
_SUBSTITUTES = text(
    "SELECT k.id, k.sku, k.name, k.name_en, k.base_unit, (SELECT COALESCE(SUM(l.on_hand_qty - l.reserved_qty"
    " - CASE WHEN l.safety_qty > 0 THEN l.safety_qty ELSE 0 END), 0) FROM stock_level l JOIN location w"
    " ON w.id = l.location_id WHERE l.sku_id = k.id AND w.is_active AND w.can_ship"
    " AND l.on_hand_qty > l.reserved_qty) AS free_qty"
    " FROM substitute s JOIN sku k ON k.id = s.substitute_sku_id WHERE s.sku_id = :sku_id AND k.status = 'active'"
    " ORDER BY s.rank, k.sku"
)
_FREIGHT = text(
    "SELECT MIN(r.base_cents + r.per_kg_cents * :kg) AS cents FROM carrier_rate r JOIN carrier c ON c.id = r.carrier_id"
    " WHERE c.is_active AND r.currency = :currency AND (r.region = :region OR r.region IS NULL)"
)


def shortage_options(uow: UnitOfWork, actor: Actor, command: ShowOptions) -> Shortage:
    """The ways out for a short line, with cost and date. Changes nothing.

    Raises:
        NotFound: no such order, or that line is not short.
    """
    actor.must("order.shortage")
    order = order_for_change(uow, number=command.number)
    line = _short_line(uow, order, command.line_no)
    return _options(uow, actor, order, line)


def act_on_shortage(uow: UnitOfWork, actor: Actor, command: ActOnShortage) -> ActedOnShortage:
    """Take one way out, whole: stock or order changed, the buyer asked, the customer told, the choice recorded.

    Raises:
        NotFound: no such order, or that line is not short.
        InvalidCommand: that way is not open; the message lists the ones that are.
    """
    actor.must("order.shortage")
    order = order_for_change(uow, number=command.number)
    if is_repeat(uow, actor, "shortage.act", command):
        return ActedOnShortage(
            OrderState(order.id, order.number, order.status, order.version), command.kind, is_repeat=True
        )
    line = _short_line(uow, order, command.line_no)
    shown = _options(uow, actor, order, line)
    chosen = _chosen(shown, command)
    rules, version = rules_of(uow, order.channel_id)
    for_them = Actor(actor.name, frozenset({"system"}))  # the one click carries what the way needs
    change_id, transfer = None, None
    if chosen.kind != "cancel" and rules.shortage.purchase_request:
        request_missing(uow, line, order.number)
    if chosen.kind in ("wait", "restock"):
        state = tell_delay(uow, rules, order.id, is_always_told=True)
    elif chosen.kind == "split":
        split_by_stock(uow, for_them, SplitByStock(order.number))
        state = tell_delay(uow, rules, order.id, is_always_told=True)
    elif chosen.kind == "transfer":
        planned = plan_transfer(
            uow,
            for_them,
            PlanTransfer(
                from_location=chosen.detail["from_location"],
                to_location=shown.location,
                lines=(TransferQty(line.sku, chosen.qty),),
            ),
        )
        transfer = planned.number
        by = (chosen.promised_by_date, True) if chosen.qty >= line.backordered_qty else None
        state = tell_delay(uow, rules, order.id, is_always_told=True, by=by)
    elif chosen.kind == "substitute":
        change_id = _offer(uow, for_them, order, line, chosen)
        state = sync_order(uow, order.id)
        # The offer is for the order as it is now.
        uow.conn.execute(update(OrderChange).where(OrderChange.id == change_id).values(base_version=state.version))
    else:
        state = _cancel_short(uow, for_them, order, line)
    uow.decide(
        "shortage",
        "orders",
        order.id,
        chosen.kind,
        [_facts(chosen, line)],
        alternatives=[_facts(option, line) for option in shown.options if option is not chosen],
        rules_version=version,
        actor=actor.name,
    )
    uow.audit(actor, f"shortage.{chosen.kind}", "orders", order.id, version=state.version, facts=_facts(chosen, line))
    return ActedOnShortage(state, chosen.kind, change_id, transfer)


def answer_offer(uow: UnitOfWork, actor: Actor, command: AnswerOffer) -> OrderState:
    """The customer said yes (the order changes to the substitute) or no (it goes on waiting).

    Raises:
        NotFound: nothing is offered.
        VersionConflict: the order changed since; offer anew.
    """
    actor.must("order.edit")
    order = order_for_change(uow, number=command.number, actor=actor)
    offer = uow.row(
        select(OrderChange.id).where(
            OrderChange.order_id == order.id, OrderChange.status == "open", OrderChange.reason == _OFFER
        )
    )
    if offer is None:
        raise NotFound(entity="offer for", key=command.number)
    if command.is_accepted:
        edited = apply_change(uow, actor, offer.id)
        return OrderState(order.id, order.number, edited.status, edited.version)
    drop_change(uow, actor, offer.id)
    return OrderState(order.id, order.number, order.status, order.version)


_OFFER = "substitute"


def _short_line(uow: UnitOfWork, order: Any, line_no: int) -> Any:
    for line in uow.rows(_SHORT, {"order_id": order.id}):
        if line.line_no == line_no:
            return line
    raise NotFound(entity="short line", key=f"{order.number}/{line_no}")


def _options(uow: UnitOfWork, actor: Actor, order: Any, line: Any) -> Shortage:
    rules, _ = rules_of(uow, order.channel_id)
    place = uow.rows(text("SELECT code, region FROM location WHERE id = :id"), {"id": line.location_id})[0]
    travel = timedelta(days=rules.promise.handling_days + rules.promise.transit_days)
    arrives, is_confirmed = expected_date(uow, rules, sku_id=line.sku_id, location_id=line.location_id)
    short = line.backordered_qty
    currency = order.currency

    def option(kind: str, qty: int, day: date | None, is_estimated: bool, cost: int, **detail: Any) -> Option:
        return Option(kind, qty, day, is_estimated, cost, currency, detail)

    options = [option("wait", short, arrives + travel, not is_confirmed, 0)]
    unit_cost = uow.conn.execute(
        select(SupplierSku.unit_cost_cents).where(SupplierSku.sku_id == line.sku_id).order_by(SupplierSku.rank).limit(1)
    ).scalar()
    options.append(
        option(
            "restock",
            short,
            arrives + travel,
            not is_confirmed,
            short * (unit_cost or 0),
            supply_mode=line.supply_mode,
            is_cost_known=unit_cost is not None,
        )
    )
    is_own_line = line.kind == "item"
    if is_own_line:
        options += _substitute_options(uow, actor, order, line, uow.today + travel, option)
    if line.line_reserved_qty or _has_other_reserved(uow, order.id):
        fee = rules.shipping.fee_cents.get(currency, 0)
        options.append(option("split", short, arrives + travel, not is_confirmed, fee, now_by=uow.today + travel))
    weight_kg = -(-line.weight_g * short // 1000)
    for other in uow.rows(_ELSEWHERE, {"sku_id": line.sku_id, "location_id": line.location_id}):
        freight = uow.conn.execute(_FREIGHT, {"kg": weight_kg, "currency": currency, "region": place.region}).scalar()
        options.append(
            option(
                "transfer",
                min(int(other.free_qty), short),
                uow.today + travel + travel,
                True,
                int(freight or 0),
                from_location=other.code,
                is_cost_known=freight is not None,
            )
        )
    if is_own_line:
        packs = -(-short // line.units_per_pack)
        lost = line.net_cents * packs // line.pack_qty if line.pack_qty else 0
        options.append(option("cancel", packs * line.units_per_pack, None, False, lost))
    return Shortage(order.number, line.line_no, line.sku, place.code, short, tuple(options))


def _substitute_options(uow: UnitOfWork, actor: Actor, order: Any, line: Any, day: date, option: Any) -> list[Option]:
    """SKUs that may stand in and are there; the cost is what the order would cost less, from a real preview."""
    found = []
    clerk = Actor(actor.name, frozenset({"system"}))
    for other in uow.rows(_SUBSTITUTES, {"sku_id": line.sku_id}):
        edit = _substitution(order, line, other.sku)
        if other.free_qty < edit.add[0].qty:
            continue
        try:
            preview = preview_edit(uow, clerk, edit)
        except OrdersError:
            continue  # no price, no credit, wrong stage: not a way out
        difference = preview.total_cents - preview.total_before_cents
        found.append(
            option(
                "substitute",
                edit.add[0].qty,
                day,
                False,
                -difference,
                substitute=other.sku,
                difference_cents=difference,
                name=other.name,
                name_en=other.name_en,
                base_unit=other.base_unit,
            )
        )
    return found


def _substitution(order: Any, line: Any, sku: str) -> EditOrder:
    packs = -(-line.backordered_qty // line.units_per_pack)
    return EditOrder(
        number=order.number,
        expected_version=order.version,
        lines=(LineChange(line.line_no, line.pack_qty - packs),),
        add=(LineIn(sku, packs * line.units_per_pack),),
        reason=_OFFER,
    )


def _has_other_reserved(uow: UnitOfWork, order_id: int) -> bool:
    return bool(
        uow.conn.execute(
            text("SELECT COALESCE(SUM(reserved_qty), 0) FROM order_line WHERE order_id = :id"), {"id": order_id}
        ).scalar_one()
    )


def _chosen(shown: Shortage, command: ActOnShortage) -> Option:
    for option in shown.options:
        if (
            option.kind == command.kind
            and command.substitute in (None, option.detail.get("substitute"))
            and command.from_location in (None, option.detail.get("from_location"))
        ):
            return option
    ways = ", ".join(
        " ".join(filter(None, [o.kind, o.detail.get("substitute"), o.detail.get("from_location")]))
        for o in shown.options
    )
    raise InvalidCommand(field="kind", problem="way_not_open", kind=command.kind, sku=shown.sku, ways=ways)


def _facts(option: Option, line: Any) -> dict[str, Any]:
    day = option.promised_by_date
    return {
        "code": option.kind,
        "sku": line.sku,
        "short_qty": line.backordered_qty,
        "qty": option.qty,
        "promised_by_date": None if day is None else day.isoformat(),
        "is_estimated": option.is_estimated,
        "cost_cents": option.cost_cents,
        "substitute": option.detail.get("substitute"),
        "from_location": option.detail.get("from_location"),
    }


def _offer(uow: UnitOfWork, actor: Actor, order: Any, line: Any, chosen: Option) -> int:
    """Keep the change as the order's open change set and write to the customer."""
    other = chosen.detail
    change_id = open_change(uow, actor, OpenChange(_substitution(order, line, other["substitute"])))
    language = order.language
    name = other["name_en"] if language == "en" and other["name_en"] else other["name"]
    tell_customer(
        uow,
        "substitute_offer",
        order.id,
        dedupe_key=f"substitute_offer:{change_id}",
        line=_told(line, language, line.backordered_qty),
        substitute={"sku": other["substitute"], "name": name, "qty": chosen.qty, "unit": other["base_unit"]},
        difference_cents=other["difference_cents"],
        link=None,
    )
    return change_id


def _cancel_short(uow: UnitOfWork, actor: Actor, order: Any, line: Any) -> OrderState:
    packs = line.pack_qty - -(-line.backordered_qty // line.units_per_pack)
    others = uow.conn.execute(
        text(
            "SELECT COUNT(*) FROM order_line WHERE order_id = :id AND id <> :line_id AND parent_line_id IS NULL"
            " AND ordered_qty > cancelled_qty"
        ),
        {"id": order.id, "line_id": line.order_line_id},
    ).scalar_one()
    reason = f"{line.sku} 缺货 / out of stock"
    if packs == 0 and not others:
        return cancel_order(uow, actor, CancelOrder(order.number, reason))
    edited = edit_order(uow, actor, EditOrder(order.number, lines=(LineChange(line.line_no, packs),), reason=reason))
    return OrderState(order.id, order.number, edited.status, edited.version)


# ------------------------------------------------------------------------------- used wherever something falls short


def tell_delay(
    uow: UnitOfWork,
    rules: Rules,
    order_id: int,
    *,
    is_always_told: bool = False,
    by: tuple[date | None, bool] | None = None,
) -> OrderState:
    """Work out anew when the customer has it all, store it on the order and tell the customer when it is later.

    `by` is the date and whether it is an estimate, where the caller knows better. Ends with sync_order.
    """
    order = uow.rows(select(Order.__table__).where(Order.id == order_id))[0]
    late = uow.rows(_SHORT, {"order_id": order_id})
    levels = {(line.sku_id, line.location_id) for line in late}
    promised, is_estimated = by if by is not None else promised_date(uow, rules, levels, order.requested_date)
    is_later = promised is not None and (order.promised_by_date is None or promised > order.promised_by_date)
    is_news = is_later or is_estimated != order.is_promise_estimated
    if is_news or is_always_told:
        uow.conn.execute(
            update(Order)
            .where(Order.id == order_id)
            .values(promised_by_date=promised, is_promise_estimated=is_estimated)
        )
    state = sync_order(uow, order_id)
    if (is_later or is_always_told) and late:
        before = order.promised_by_date
        tell_customer(
            uow,
            "order_delayed",
            order_id,
            dedupe_key=f"order_delayed:{order_id}:{state.version}",
            previous_promised_by_date=None if before is None or before == promised else before.isoformat(),
            lines=_late_lines(late, order.language),
        )
    return state


def _late_lines(late: Sequence[Any], language: str) -> list[dict[str, Any]]:
    return [_told(line, language, line.backordered_qty) for line in late]


def _told(line: Any, language: str, qty: int) -> dict[str, Any]:
    name = line.name_en if language == "en" and line.name_en else line.name
    return line_facts(
        line.sku, name, qty=qty, unit=line.unit, units_per_pack=line.units_per_pack, base_unit=line.base_unit
    )
