"""Carts: kept across devices and days, merged at login, pointing out what changed; may hold stock for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.domain.pricing import choose_price
from orders_core.errors import InvalidCommand, InvalidQuantity, NotFound
from orders_core.routing.assign import assign
from orders_core.services.drafting import MAX_QTY, LineIn, Pricing, load_skus, offers_in_force
from orders_core.services.fill import free_expired, hand_on
from orders_core.services.place_order import AddressIn, PlacedOrder, PlaceOrder, order_placed, place_order
from orders_core.services.review import rules_of
from orders_core.store.inventory import (
    Change,
    must_have,
    promise,
    release_holds,
    supply_for,
)
from orders_core.store.tables import Cart, CartHold, CartLine, Channel, Customer, NumberSeries, Order, Sku, SkuUnit
from orders_core.store.uow import UnitOfWork


@dataclass(frozen=True)
class SetCartLine:
    """Put `qty` of a SKU (in `unit`) into the cart named by its token; 0 takes it out.

    The cart is made when new: `customer`'s, else the acting customer's own, else a guest's.
    """

    token: str
    sku: str
    qty: int
    unit: str | None = None
    channel: str = "web"
    customer: str | None = None


@dataclass(frozen=True)
class CartItem:
    """A line as it stands today; what changed since it was last shown is pointed out."""

    sku: str
    name: str
    unit: str
    pack_qty: int
    unit_price_cents: int | None
    seen_price_cents: int | None
    available_qty: int | None  # base units, own hold included; None = not tracked
    held_qty: int

    @property
    def has_price_changed(self) -> bool:
        return self.seen_price_cents is not None and self.seen_price_cents != self.unit_price_cents


@dataclass(frozen=True)
class CartView:
    """A cart as a customer sees it."""

    cart_id: int
    token: str
    status: str
    currency: str
    items: Sequence[CartItem]
    version: int

    @property
    def goods_cents(self) -> int:
        return sum((item.unit_price_cents or 0) * item.pack_qty for item in self.items)


def set_cart_line(uow: UnitOfWork, actor: Actor, command: SetCartLine) -> CartView:
    """Change one line of a cart; where the channel's rules hold stock for carts, the hold follows and starts anew.

    Raises InsufficientStock when the hold cannot be had (a cart's own hold never counts against itself).
    """
    actor.must("cart.change")
    if type(command.qty) is not int or not 0 <= command.qty <= MAX_QTY:
        raise InvalidQuantity(place=f"cart line {command.sku}", qty=command.qty)
    cart = _open_cart(uow, actor, command)
    sku = uow.row(select(Sku.id, Sku.base_unit, Sku.is_stock_tracked, Sku.kind).where(Sku.sku == command.sku))
    if sku is None:
        raise NotFound(entity="SKU", key=command.sku)
    unit = command.unit or sku.base_unit
    per_pack = _units_per_pack(uow, sku, command.sku, unit)
    line = uow.row(
        select(CartLine.id, CartLine.pack_qty).where(
            CartLine.cart_id == cart.id, CartLine.sku_id == sku.id, CartLine.unit == unit
        )
    )
    if line is not None:
        _drop_holds(uow, cart.id, line.id)
    if command.qty == 0:
        if line is not None:
            uow.conn.execute(delete(CartLine).where(CartLine.id == line.id))
    else:
        line_id = line.id if line is not None else uow.new_id()
        if line is None:
            row = {"id": line_id, "cart_id": cart.id, "sku_id": sku.id, "unit": unit, "pack_qty": command.qty}
            uow.conn.execute(insert(CartLine), {**row, "added_at": uow.now})
        else:
            uow.conn.execute(update(CartLine).where(CartLine.id == line_id).values(pack_qty=command.qty))
        rules, _ = rules_of(uow, cart.channel_id)
        if rules.cart.hold_minutes > 0 and sku.is_stock_tracked and sku.kind == "item":
            _hold(uow, cart, line_id, command.sku, sku.id, command.qty * per_pack, rules.cart.hold_minutes)
    uow.conn.execute(update(Cart).where(Cart.id == cart.id).values(changed_at=uow.now, version=Cart.version + 1))
    uow.changed("cart", cart.id, cart.version + 1)
    hand_on(uow)
    return look_at_cart(uow, actor, command.token, mark_seen=True)


def _open_cart(uow: UnitOfWork, actor: Actor, command: SetCartLine) -> Any:
    cart = _cart_for_change(uow, actor, command.token)
    if cart is not None:
        _must_be_open(cart)
        return cart
    channel = uow.row(select(Channel.id).where(Channel.code == command.channel, Channel.is_active))
    if channel is None:
        raise NotFound(entity="channel", key=command.channel)
    customer = _customer_named(uow, actor, command.customer)
    uow.conn.execute(
        insert(Cart),
        {
            "id": uow.new_id(),
            "token": command.token,
            "customer_id": customer.id if customer else None,
            "channel_id": channel.id,
            "currency": customer.currency if customer else "CNY",
            "created_at": uow.now,
            "changed_at": uow.now,
            "version": 1,
        },
    )
    return uow.rows(select(Cart.__table__).where(Cart.token == command.token))[0]


def _customer_named(uow: UnitOfWork, actor: Actor, code: str | None) -> Any:
    """Whose cart it is to be: the customer named, else the one who acts; None for a guest."""
    if code is None and actor.customer_id is None:
        return None
    named = Customer.id == actor.customer_id if code is None else Customer.code == code
    customer = uow.row(select(Customer.id, Customer.code, Customer.currency).where(named))
    if customer is None:
        raise NotFound(entity="customer", key=code)
    actor.must_own(customer.id, entity="customer", key=code)
    return customer


def _cart_for_change(uow: UnitOfWork, actor: Actor, token: str) -> Any:
    """The cart's row, locked until the transaction ends: it becomes one order, and no line comes too late."""
    cart = uow.row(select(Cart.__table__).where(Cart.token == token).with_for_update(key_share=True))
    if cart is not None and not _may_touch(actor, cart):
        raise NotFound(entity="cart", key=token)
    return cart


def _must_be_open(cart: Any) -> None:
    if cart.status != "open":
        raise InvalidCommand(field="token", problem="cart_is_closed", status=cart.status)


def _may_touch(actor: Actor, cart: Any) -> bool:
    """A cart of nobody yet belongs to whoever knows its token."""
    return cart.customer_id is None or actor.owns(cart.customer_id)


def _units_per_pack(uow: UnitOfWork, sku: Any, code: str, unit: str) -> int:
    if unit == sku.base_unit:
        return 1
    found = uow.conn.execute(
        select(SkuUnit.units_per_pack).where(SkuUnit.sku_id == sku.id, SkuUnit.unit == unit)
    ).scalar()
    if found is None:
        raise InvalidCommand(field="unit", problem="not_sold_by", sku=code, unit=unit)
    return int(found)


def _hold(uow: UnitOfWork, cart: Any, line_id: int, code: str, sku_id: int, qty: int, minutes: int) -> None:
    """Set units aside for a cart line until `minutes` from now."""
    supply = supply_for(uow, [sku_id], channel_id=cart.channel_id)
    plan = assign({sku_id: qty}, supply.offered, supply.sites)
    if sum(part.reserved_qty for part in plan.parts) < qty and free_expired(uow, [sku_id]):
        supply = supply_for(uow, [sku_id], channel_id=cart.channel_id)
        plan = assign({sku_id: qty}, supply.offered, supply.sites)
    there = {sku_id: sum(part.reserved_qty for part in plan.parts)}
    must_have({sku_id: qty}, there, {sku_id: code})
    untracked = supply.untracked_location_ids  # nothing to set aside there
    parts = [part for part in plan.parts if part.reserved_qty and part.location_id not in untracked]
    if not parts:
        return
    promise(
        uow,
        [Change(sku_id, part.location_id, reserve_qty=part.reserved_qty) for part in parts],
        channel_id=cart.channel_id,
    )
    uow.conn.execute(
        insert(CartHold),
        [
            {
                "cart_line_id": line_id,
                "location_id": part.location_id,
                "sku_id": sku_id,
                "qty": part.reserved_qty,
                "expires_at": uow.now + timedelta(minutes=minutes),
            }
            for part in parts
        ],
    )


def _drop_holds(uow: UnitOfWork, cart_id: int, line_id: int | None = None) -> None:
    query = (
        select(CartHold.cart_line_id, CartHold.location_id, CartHold.sku_id, CartHold.qty)
        .join(CartLine, CartLine.id == CartHold.cart_line_id)
        .where(CartLine.cart_id == cart_id)
    )
    if line_id is not None:
        query = query.where(CartHold.cart_line_id == line_id)
    release_holds(uow, uow.rows(query))


def look_at_cart(uow: UnitOfWork, actor: Actor, token: str, *, mark_seen: bool = False) -> CartView:
    """The cart with today's prices and stock; `mark_seen` remembers these prices as shown."""
    cart = uow.row(select(Cart.__table__).where(Cart.token == token))
    if cart is None or not _may_touch(actor, cart):
        raise NotFound(entity="cart", key=token)
    lines = uow.rows(
        select(
            CartLine.id,
            CartLine.sku_id,
            CartLine.unit,
            CartLine.pack_qty,
            CartLine.seen_price_cents,
            select(func.coalesce(func.sum(CartHold.qty), 0))
            .where(CartHold.cart_line_id == CartLine.id)
            .scalar_subquery()
            .label("held_qty"),
        )
        .where(CartLine.cart_id == cart.id)
        .order_by(CartLine.added_at, CartLine.id)
    )
    items = []
    if lines:
        pricing = _pricing(uow, cart)
        ids = sorted({line.sku_id for line in lines})
        skus = load_skus(uow, pricing, ids=ids)
        supply = supply_for(uow, ids, channel_id=cart.channel_id)
        for line in lines:
            sku = skus[line.sku_id]
            per_pack = _units_per_pack(uow, sku, sku.sku, line.unit)
            price = _price(sku, line, per_pack)
            is_limited = sku.is_stock_tracked and not supply.untracked_location_ids
            available = supply.available.get(line.sku_id, 0) + int(line.held_qty) if is_limited else None
            items.append(
                CartItem(
                    sku=sku.sku,
                    name=sku.name,
                    unit=line.unit,
                    pack_qty=line.pack_qty,
                    unit_price_cents=price,
                    seen_price_cents=line.seen_price_cents,
                    available_qty=available,
                    held_qty=int(line.held_qty),
                )
            )
            if mark_seen and price != line.seen_price_cents:
                uow.conn.execute(update(CartLine).where(CartLine.id == line.id).values(seen_price_cents=price))
    return CartView(cart.id, cart.token, cart.status, cart.currency, items, cart.version)


def _pricing(uow: UnitOfWork, cart: Any) -> Pricing:
    rules, _ = rules_of(uow, cart.channel_id)
    level = None
    if cart.customer_id is not None:
        level = uow.conn.execute(select(Customer.level_code).where(Customer.id == cart.customer_id)).scalar()
    version = uow.conn.execute(select(NumberSeries.next_value).where(NumberSeries.name == "offers")).scalar()
    return Pricing(
        customer_id=cart.customer_id or 0,
        level_code=level,
        currency=cart.currency,
        rules=rules,
        offers=offers_in_force(uow, version or 1),
    )


def _price(sku: Any, line: Any, per_pack: int) -> int | None:
    chosen = choose_price(sku.prices, unit=line.unit, units_per_pack=per_pack, pack_qty=line.pack_qty)
    return chosen.unit_price_cents if chosen else None


@dataclass(frozen=True)
class MergeCarts:
    """Join a guest's cart (or another one of the customer's) into the customer's own after login."""

    guest_token: str
    token: str
    customer: str


def merge_carts(uow: UnitOfWork, actor: Actor, command: MergeCarts) -> CartView:
    """Merge the guest cart's lines by the rules (`sum`, or `guest_wins`); the guest cart is closed.

    Raises:
        NotFound: no such open cart, or one of the two is another customer's.
        InvalidCommand: it is one cart, or the two have different currencies: nothing is merged.
    """
    actor.must("cart.change")
    if command.guest_token == command.token:
        raise InvalidCommand(field="token", problem="cart_into_itself")
    tokens = [command.guest_token, command.token]  # two merges at once lock in the same order
    uow.rows(select(Cart.id).where(Cart.token.in_(tokens)).order_by(Cart.id).with_for_update(key_share=True))
    customer = _customer_named(uow, actor, command.customer)
    guest = _cart_for_change(uow, actor, command.guest_token)
    if guest is None or guest.status != "open" or guest.customer_id not in (None, customer.id):
        raise NotFound(entity="cart", key=command.guest_token)
    mine = _open_cart(
        uow, actor, SetCartLine(command.token, sku="", qty=0, channel=_channel(uow, guest), customer=command.customer)
    )
    if mine.customer_id != customer.id:
        raise NotFound(entity="cart", key=command.token)
    lines = uow.rows(
        select(CartLine.unit, CartLine.pack_qty, Sku.sku, CartLine.sku_id)
        .join(Sku, Sku.id == CartLine.sku_id)
        .where(CartLine.cart_id == guest.id)
        .order_by(CartLine.id)
    )
    if lines and guest.currency != mine.currency:
        raise InvalidCommand(
            field="currency", problem="carts_of_two_currencies", guest=guest.currency, own=mine.currency
        )
    rules, _ = rules_of(uow, mine.channel_id)
    _drop_holds(uow, guest.id)
    for line in lines:
        own = uow.conn.execute(
            select(CartLine.pack_qty).where(
                CartLine.cart_id == mine.id, CartLine.sku_id == line.sku_id, CartLine.unit == line.unit
            )
        ).scalar()
        qty = line.pack_qty + (own or 0) if rules.cart.merge == "sum" else line.pack_qty
        set_cart_line(uow, actor, SetCartLine(command.token, line.sku, qty, line.unit))
    uow.conn.execute(update(Cart).where(Cart.id == guest.id).values(status="merged", version=Cart.version + 1))
    uow.changed("cart", guest.id, guest.version + 1)
    return look_at_cart(uow, actor, command.token)


def _channel(uow: UnitOfWork, cart: Any) -> str:
    code: str = uow.conn.execute(select(Channel.code).where(Channel.id == cart.channel_id)).scalar_one()
    return code


@dataclass(frozen=True)
class Checkout:
    """Turn a cart into an order; the cart itself is the key, so a double click by whomever gives one order."""

    token: str
    customer: str | None = None
    payment_method: str = "credit"
    delivery_method: str = "courier"
    address_id: int | None = None
    address: AddressIn | None = None
    requested_date: date | None = None
    coupon_code: str | None = None
    note: str | None = None


def check_out(uow: UnitOfWork, actor: Actor, command: Checkout) -> PlacedOrder:
    """Place the cart's order: its own holds are given back and promised again in the same transaction.

    A hold that expired protects nothing: stock is checked anew, and refused when someone else has it now. A cart that
    was ordered answers with its order.

    Raises:
        InvalidCommand: the cart was merged into another or abandoned, or nobody is named whose order it is.
        And what `place_order` raises.
    """
    cart = _cart_for_change(uow, actor, command.token)
    if cart is None:
        raise NotFound(entity="cart", key=command.token)
    if cart.order_id is not None:
        return order_placed(uow, uow.rows(select(Order.__table__).where(Order.id == cart.order_id))[0])
    _must_be_open(cart)
    customer = command.customer
    owner_id = cart.customer_id or actor.customer_id
    if customer is None and owner_id is not None:
        customer = uow.conn.execute(select(Customer.code).where(Customer.id == owner_id)).scalar_one()
    if customer is None:
        raise InvalidCommand(field="customer", problem="no_customer")
    lines = uow.rows(
        select(Sku.sku, CartLine.pack_qty, CartLine.unit)
        .join(Sku, Sku.id == CartLine.sku_id)
        .where(CartLine.cart_id == cart.id)
        .order_by(CartLine.id)
    )
    _drop_holds(uow, cart.id)
    placed = place_order(
        uow,
        actor,
        PlaceOrder(
            channel=_channel(uow, cart),
            customer=customer,
            lines=tuple(LineIn(line.sku, line.pack_qty, line.unit) for line in lines),
            address_id=command.address_id,
            address=command.address,
            payment_method=command.payment_method,
            delivery_method=command.delivery_method,
            requested_date=command.requested_date,
            coupon_code=command.coupon_code or cart.coupon_code,
            note=command.note,
        ),
    )
    uow.conn.execute(
        update(Cart)
        .where(Cart.id == cart.id)
        .values(status="ordered", order_id=placed.order_id, changed_at=uow.now, version=Cart.version + 1)
    )
    uow.changed("cart", cart.id, cart.version + 1)
    hand_on(uow)
    return placed
