"""A state machine that runs a small company in random order through the public services, with the books beside it.

Before each step the books say what must come of it: done, or refused with this error. After each step the database and
the books must agree on every level, order and cent; `verify` runs every few steps and at the end, after everything that
can still leave was made to leave. Which shipment carries what is read from the database before a step (`verify` ties
shipments to orders); how much that is of an order, and what it does to stock and money, is the books' own sum.

Services are called through their modules, so that a test can plant a bug in one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar, TypeVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import func, select

from orders_core.domain.permissions import Actor
from orders_core.errors import (
    AlreadyExists,
    BelowShipped,
    CreditExceeded,
    InsufficientStock,
    InvalidCommand,
    NotAllowed,
    OrdersError,
    OverPayment,
    QuantityExceeded,
)
from orders_core.ports import FixedClock
from orders_core.services import (
    cancel,
    carts,
    credit,
    edit,
    payments,
    place_order,
    receiving,
    refunds,
    returns,
    review,
    shipping,
    split,
    transfers,
    warehouse,
)
from orders_core.services.drafting import LineIn
from orders_core.services.master_data import GiftIn, save_gift_rule
from orders_core.services.stock import OpeningStock, StockIn, opening_stock
from orders_core.store import tables
from orders_core.store.uow import Store, UnitOfWork
from orders_core.store.verify import verify
from tests.laws.books import (
    CREDIT_LIMIT,
    FREE,
    GIFTS,
    KITS,
    LOTS,
    MOST_WITHOUT_A_PERSON,
    OPENING,
    PACKS,
    PLACES,
    PRICES,
    Books,
    CartBook,
    OrderBook,
    ReturnBook,
    of_sku,
    of_stock,
    sku_of,
    units_asked,
)
from tests.support import build
from tests.support.build import CASHIER, CLERK, MANAGER, PICKER
from tests.support.databases import TESTS_BEGIN_AT

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., None])

BUYER = "BUYER"
HOLD_MINUTES = 8
VERIFY_EVERY = 10  # steps
MOST_ORDERS = 5  # living or dead; the fewer, the farther each comes
OPEN = ("waiting_stock", "ready", "picking", "partly_shipped")
GOING = ("ready", "picking", "partly_shipped")  # the warehouse may work on it
GONE = ("shipped", "partly_delivered", "delivered", "rejected")
PARTABLE = ("review", "held", "waiting_stock", "ready", "partly_shipped")

sold = st.sampled_from(sorted(PRICES))
skus = st.sampled_from(sorted(PLACES))
units = st.integers(1, 6)
nth = st.integers(0, 15)  # one of what is there, counted round; above 12 also where the action makes no sense
size = {"SET": 3, "MUG box": 2}  # of these fewer are asked for: they should be there
lines = st.dictionaries(sold, units, min_size=1, max_size=3).map(
    lambda asked: {key: -(-qty // size.get(key, 1)) for key, qty in asked.items()}
)


def furnish(store: Store, *, backorders: bool) -> None:
    """The company the machine runs: a buyer on credit, two places, and goods and rules the books know."""
    build.company(store)
    build.customer(store, BUYER, credit_limit_cents=CREDIT_LIMIT)
    build.sku(store, "LAMP", price_cents=PRICES["LAMP"])
    box = PACKS["MUG box"]
    build.sku(store, "MUG", price_cents=PRICES["MUG"], box_of=box, box_price_cents=box * PRICES["MUG box"])
    build.sku(store, "RUG", price_cents=PRICES["RUG"])
    build.sku(store, "TEA", price_cents=PRICES["TEA"], is_lot_tracked=True)
    build.sku(store, "CARD", price_cents=None)
    parts = ", ".join(f"{sku_of(part)} {each}" for part, each in KITS["SET"].items())
    build.sku(store, "SET", price_cents=PRICES["SET"], components=parts)
    build.stock(store, ", ".join(f"{sku}@{place}: {qty}" for (sku, place), qty in OPENING.items()))
    lots = [StockIn("TEA", qty, lot_code=lot, expiry_date=expiry(days)) for lot, (qty, days) in LOTS.items()]
    store.run(opening_stock, PICKER, OpeningStock("WH1", lots))
    for trigger, (gift, every) in GIFTS.items():
        store.run(save_gift_rule, MANAGER, GiftIn(trigger, every, sku_of(gift)))
    build.rules(
        store,
        shortage={"policy": "backorder" if backorders else "refuse"},
        cart={"hold_minutes": HOLD_MINUTES},
        checks={"duplicate": "ignore"},
        auto_approve={"max_total_cents": {"CNY": MOST_WITHOUT_A_PERSON}},
    )


def expiry(days: int) -> date:
    return TESTS_BEGIN_AT.date() + timedelta(days=days)


def line_in(key: str, packs: int) -> LineIn:
    return LineIn(sku_of(key), packs, "box" if key in PACKS else None)


def give_money_back(uow: UnitOfWork, actor: Actor, order_id: int, cents: int, key: str) -> None:
    """A refund as services grant it: the refund, then the claim on the customer's credit."""
    refunds.grant_refund(uow, actor, order_id=order_id, amount_cents=cents, reason="goodwill", idem_key=key)
    credit.settle_claim(uow, order_id, may_exceed=True)


@dataclass(frozen=True)
class Action:
    """Something people do: how often, whether it can come up now, and what is drawn for it."""

    run: Callable[..., None]
    weight: int
    when: Callable[[Any], Any]
    arguments: dict[str, st.SearchStrategy[Any]]


ACTIONS: list[Action] = []


def action(
    *, weight: int, when: Callable[[Any], Any] = lambda _: True, **arguments: st.SearchStrategy[Any]
) -> Callable[[F], F]:
    """Makes a method of the machine one of its actions."""

    def register(run: F) -> F:
        ACTIONS.append(Action(run, weight, when, arguments))
        return run

    return register


class Company(RuleBasedStateMachine):
    """One example: a fresh database and fresh books. A subclass says where databases come from."""

    outcomes: ClassVar[Counter[str]] = Counter()
    among: ClassVar[Sequence[str]] = ()  # names of the only actions that come up; empty: all
    open_store: ClassVar[Callable[[bool, FixedClock], tuple[Store, Callable[[], None]]]]

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.lists: list[str] = []
        self.is_open = False
        self.has_failed = False
        self.all_parcels: dict[str, list[Any]] | None = None
        self.key_of: dict[int, str] = {}  # order line id -> its name in the books
        self.given_out: list[tuple[str, str]] = []  # SKUs and places of which free units went to who waits

    @initialize(backorders=st.booleans(), asked=lines)
    def begin(self, backorders: bool, asked: dict[str, int]) -> None:
        self.clock = FixedClock(TESTS_BEGIN_AT)
        self.store, self.drop = type(self).open_store(backorders, self.clock)
        self.books = Books(backorders, self.clock.now())
        self.is_open = True
        self.place(asked, is_prepaid=False, priority=0)

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """One action. Not a rule each: Hypothesis would switch most of them off in most examples, and few orders would
        come as far as a return."""
        actions = [one for one in ACTIONS if not self.among or one.run.__name__ in self.among]
        can = [one for one in actions if one.when(self) for _ in range(one.weight)]
        chosen = data.draw(st.sampled_from(can))
        arguments = {name: data.draw(strategy) for name, strategy in chosen.arguments.items()}
        note(f"{chosen.run.__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})")
        chosen.run(self, **arguments)

    # ------------------------------------------------------------------------------------------ doing and refusing

    def must(self, refusal: type[OrdersError] | None, service: Callable[..., Any], actor: Actor, *command: Any) -> Any:
        """Run a command and hold it to what the books say: done (its result), or refused with `refusal` (None)."""
        self.clock.advance(minutes=1)
        self.books.now = self.clock.now()
        self.all_parcels = None
        self.has_failed = True  # until books and database are found to agree again
        try:
            result = self.store.run(service, actor, *command)
        except OrdersError as error:
            note(f"refused: {error}")
            self.outcomes["refused"] += 1
            if type(error) is not refusal:
                want = "to be done" if refusal is None else f"refused with {refusal.__name__}"
                raise AssertionError(
                    f"{service.__name__} was refused with {type(error).__name__} ({error}); the books want it {want}"
                ) from error
            return None
        self.outcomes["done"] += 1
        assert refusal is None, f"{service.__name__}{command} was done; the books want {refusal.__name__}"
        return result

    def later(self) -> Any:
        """The books at the moment the next command runs: a minute on."""
        self.books.now = self.clock.now() + timedelta(minutes=1)
        return self.books

    def stage(self, order: OrderBook) -> str:
        parcels = {s.status for s in self.parcels(order)}
        return order.stage(
            is_picking=not parcels.isdisjoint({"released", "picked", "packed"}), is_under_way="shipped" in parcels
        )

    def parcels(self, order: OrderBook) -> list[Any]:
        """The order's shipments as the database has them now."""
        if self.all_parcels is None:
            of_order = (
                select(
                    tables.Shipment.__table__,
                    tables.Location.code.label("location"),
                    tables.Order.number.label("order"),
                )
                .distinct()
                .join(tables.Location, tables.Location.id == tables.Shipment.location_id)
                .join(tables.ShipmentLine, tables.ShipmentLine.shipment_id == tables.Shipment.id)
                .join(tables.OrderLine, tables.OrderLine.id == tables.ShipmentLine.order_line_id)
                .join(tables.Order, tables.Order.id == tables.OrderLine.order_id)
                .order_by(tables.Shipment.id)
            )
            self.all_parcels = defaultdict(list)
            for row in build.rows(self.store, of_order):
                self.all_parcels[row.order].append(row)
        return self.all_parcels[order.number]

    def inside(self, shipment: str) -> Any:
        return [line for line in build.shipment_lines(self.store, shipment) if not line.is_withdrawn]

    def key(self, line: Any) -> str:
        """The name in the books of a shipment line."""
        return self.key_of[line.order_line_id]

    def name_lines(self, order: OrderBook) -> None:
        """Take over the numbers of the order's lines: each is there once, and is what the books think it is."""
        rows = {row.id: row for row in build.order_lines(self.store, order.number)}
        for row in rows.values():
            key = row.sku if row.unit != "box" else f"{row.sku} box"
            if row.parent_line_id is not None:
                key = f"{rows[row.parent_line_id].sku}/{row.sku}"
            self.key_of[row.id] = key
            order.line_no[key] = row.line_no
        assert len(order.line_no) == len(rows), f"{order.number} has a line twice: {[row.sku for row in rows.values()]}"

    def free_at(self, sku: str, place: str) -> int:
        """Units at a place that no order and no cart has; what a cart had whose time is over is free."""
        if len(PLACES[sku]) == 1:
            return self.books.free(sku)
        return self.books.on_hand[sku, place] - sum(row.reserved_qty for row in self._planned(sku, place))

    def _planned(self, sku: str, place: str) -> Sequence[Any]:
        """What orders have or wait for at a place."""
        line = tables.ShipmentLine
        query = (
            select(line.reserved_qty, line.backordered_qty, tables.Order.number.label("order"))
            .join(tables.Shipment, tables.Shipment.id == line.shipment_id)
            .join(tables.Location, tables.Location.id == tables.Shipment.location_id)
            .join(tables.Sku, tables.Sku.id == line.sku_id)
            .join(tables.OrderLine, tables.OrderLine.id == line.order_line_id)
            .join(tables.Order, tables.Order.id == tables.OrderLine.order_id)
            .where(tables.Sku.sku == sku, tables.Location.code == place)
        )
        return build.rows(self.store, query)

    def one_of(self, n: int, all_: Sequence[T], apt: Callable[[T], bool]) -> T | None:
        """Mostly one for which the action makes sense, so that examples get somewhere; sometimes any."""
        some = [one for one in all_ if apt(one)] if n < 12 else []
        some = some or list(all_)
        return some[n % len(some)] if some else None

    def nth_order(self, n: int, *stages: str) -> OrderBook:
        order = self.one_of(n, self.books.orders, lambda o: not stages or self.stage(o) in stages)
        assert order is not None
        return order

    def nth_parcel(self, n: int, *statuses: str, stages: Sequence[str] = ()) -> tuple[OrderBook, Any] | None:
        every = [(o, s) for o in self.books.orders for s in self.parcels(o)]
        return self.one_of(n, every, lambda x: x[1].status in statuses and (not stages or self.stage(x[0]) in stages))

    # ------------------------------------------------------------------------------------------------ taking orders

    def _cannot_have(self, asked: Mapping[str, int], *, always: bool = False) -> type[OrdersError] | None:
        """What refuses these units: more than is free, where nothing may wait. A gift is no reason."""
        needs = of_sku({key: qty for key, qty in asked.items() if key not in FREE})
        is_short = any(qty > self.books.free_for_new(sku, qty) for sku, qty in needs.items())
        return InsufficientStock if is_short and (always or not self.books.backorders) else None

    def _enter(self, placed: Any, asked: Mapping[str, int], *, is_prepaid: bool, priority: int = 0) -> None:
        order = OrderBook(placed.number, is_prepaid, priority, Counter())
        self.name_lines(order)
        self.books.make_room(asked)
        self.books.orders.append(order)
        for key in sorted(asked, key=lambda key: order.line_no.get(key, 0)):
            self.books.want(order, key, asked[key])
        order.is_approved = self.books.lets_through(order)
        assert placed.total_cents == order.total
        late = order.waiting.total()
        assert placed.backordered_qty == late, f"{placed.backordered_qty} promised without stock, the books have {late}"

    @action(
        weight=4,
        when=lambda self: len(self.books.orders) < MOST_ORDERS,
        asked=lines,
        is_prepaid=st.booleans(),
        priority=st.integers(0, 1),
    )
    def place(self, asked: dict[str, int], is_prepaid: bool, priority: int) -> None:
        self.later()
        command = place_order.PlaceOrder(
            channel="phone", customer=BUYER, lines=[line_in(key, qty) for key, qty in asked.items()], priority=priority,
            payment_method="prepaid" if is_prepaid else "credit", delivery_method="own_truck",
        )  # fmt: skip
        in_units = units_asked(asked)
        placed = self.must(self._cannot_have(in_units), place_order.place_order, CLERK, command)
        if placed is not None:
            self._enter(placed, in_units, is_prepaid=is_prepaid, priority=priority)

    @action(weight=2, n=st.integers(0, 1), sku=st.sampled_from(["LAMP", "MUG", "TEA"]), qty=st.integers(0, 5))
    def lay_into_cart(self, n: int, sku: str, qty: int) -> None:
        """Stock is kept for the cart from now; its own units never stand against it."""
        books = self.later()
        open_carts = books.carts
        cart = open_carts[n] if n < len(open_carts) else CartBook(f"cart-{self.steps}")
        until = cart.keeps_until.pop(sku, None)
        refusal = self._cannot_have({sku: qty}, always=True)
        command = carts.SetCartLine(cart.token, sku, qty, channel="web", customer=BUYER)
        if self.must(refusal, carts.set_cart_line, CLERK, command) is None:
            if until is not None:
                cart.keeps_until[sku] = until
            return
        if cart not in open_carts:
            open_carts.append(cart)
        books.make_room({sku: qty})
        cart.wants[sku] = qty
        if qty:
            cart.keeps_until[sku] = books.now + timedelta(minutes=HOLD_MINUTES)
        if until is not None:
            books.give_out([sku])

    @action(weight=2, when=lambda self: self.books.carts, n=nth)
    def check_out(self, n: int) -> None:
        """The cart's own units go into the order; a second click gives the same order."""
        books = self.later()
        cart = books.carts[n % len(books.carts)]
        kept, cart.keeps_until = cart.keeps_until, {}
        asked = units_asked(+cart.wants)
        refusal = self._cannot_have(asked) if asked else InvalidCommand
        command = carts.Checkout(cart.token, delivery_method="own_truck")
        placed = self.must(refusal, carts.check_out, CLERK, command)
        if placed is None:
            cart.keeps_until = kept
            return
        books.carts.remove(cart)
        self._enter(placed, asked, is_prepaid=False)
        books.give_out(kept)
        again = self.must(None, carts.check_out, CLERK, command)
        assert (again.number, again.is_repeat) == (placed.number, True)

    @action(weight=1, when=lambda self: self.books.carts, minutes=st.integers(1, HOLD_MINUTES))
    def wait(self, minutes: int) -> None:
        """Time passes; a cart may lose its units."""
        self.books.now = self.clock.advance(minutes=minutes)

    # -------------------------------------------------------------------------------------------------- the clerk

    @action(weight=4, when=lambda self: self.books.orders, n=nth, key=sold, packs=st.integers(0, 7))
    def change(self, n: int, key: str, packs: int) -> None:
        """Set a line to a number of packs, or add one: its parts and gifts, stock and money follow."""
        books, order = (
            self.later(),
            self.nth_order(n, "review", "held", "waiting_stock", "ready", "partly_shipped", "shipped", "delivered"),
        )
        is_new = key not in order.line_no
        if is_new and packs == 0:
            return
        change = self._change_of(order, key, packs)
        costs = change.get(key, 0) * PRICES[key]
        refusal: type[OrdersError] | None = None
        if self.stage(order) in ("picking", "cancelled", "rejected"):
            refusal = NotAllowed
        elif packs * PACKS.get(key, 1) < order.must_stay(key):
            refusal = BelowShipped
        elif not change:
            refusal = None
        elif sum((order.wanted + order.cancelled).values()) + sum(change.values()) == 0:
            refusal = InvalidCommand
        elif self._cannot_have({x: more for x, more in change.items() if more > 0}):
            refusal = InsufficientStock
        elif costs > 0 and order.is_approved and not order.is_prepaid and books.credit_used + costs > CREDIT_LIMIT:
            refusal = CreditExceeded
        if is_new:
            command = edit.EditOrder(order.number, add=[line_in(key, packs)])
        else:
            command = edit.EditOrder(order.number, lines=[edit.LineChange(order.line_no[key], packs)])
        edited = self.must(refusal, edit.edit_order, CLERK, command)
        if edited is None:
            return
        self.name_lines(order)
        refunded = order.refunded
        books.give_out(self._apply(order, change))
        if change:
            books.give_back_excess(order)
            books.look_again([order])
        assert edited.total_cents == order.total
        assert edited.refund_cents == order.refunded - refunded

    def _change_of(self, order: OrderBook, key: str, packs: int) -> dict[str, int]:
        """What setting a line to so many packs does to it, its parts and its gift, in units; nothing when it is so."""
        ordered = order.wanted + order.cancelled
        change = {x: qty - ordered[x] for x, qty in units_asked({key: packs}).items()}
        change |= {x: -ordered[x] for x in (key, *KITS.get(key, ())) if x not in change}
        if not change[key]:
            return {}
        if key in GIFTS:  # a gift grows with its line and shrinks with it; one that has left stays
            gift, every = GIFTS[key]
            due, has = packs // every, ordered[gift]
            change[gift] = max(max(has, due) if change[key] > 0 else min(has, due), order.shipped[gift]) - has
        return {x: more for x, more in change.items() if more}

    def _apply(self, order: OrderBook, change: Mapping[str, int]) -> set[str]:
        """Returns the SKUs of which reserved units came free."""
        self.books.make_room({key: more for key, more in change.items() if more > 0})
        freed = set()
        for key in sorted(change, key=lambda key: order.line_no.get(key, 0)):
            if change[key] > 0:
                self.books.want(order, key, change[key])
            elif self.books.withdraw(order, key, -change[key]):
                freed.add(sku_of(key))
        return freed

    @action(weight=2, when=lambda self: self.books.orders, n=nth)
    def cancel(self, n: int) -> None:
        """What has not left goes back, stock and money; a second cancel does nothing."""
        self.later()
        order = self.nth_order(n, "review", "held", *OPEN)
        refusal: type[OrdersError] | None = None
        if self.stage(order) in GONE:
            refusal = NotAllowed
        elif not order.is_cancelled and of_stock(order.shipped) and not self._has_rest(order):
            refusal = InvalidCommand  # all that is left makes a kit whole
        if self.must(refusal, cancel.cancel_order, CLERK, cancel.CancelOrder(order.number, "no")) is not None:
            self._end(order)

    def _has_rest(self, order: OrderBook) -> bool:
        """Whether anything is left that a cancel takes off, of an order part of which has gone."""
        kits = {*KITS, *(part for parts in KITS.values() for part in parts)}
        return any(qty for key, qty in (order.wanted - order.shipped).items() if key not in kits) or any(
            order.must_stay(kit) < (order.wanted + order.cancelled)[kit] for kit in KITS
        )

    def _end(self, order: OrderBook) -> None:
        if order.is_cancelled:
            return
        freed = set(of_sku(+order.reserved))
        if of_stock(order.shipped):  # lines fall to what has left; the rest of a box that was opened goes in pieces
            for key in PRICES:
                pack = PACKS.get(key, 1)
                packs = -(-order.must_stay(key) // pack)
                if packs * pack < (order.wanted + order.cancelled)[key]:
                    self._apply(order, self._change_of(order, key, packs))
            for key, qty in (order.wanted - order.shipped).items():
                if not any(key == kit or key in parts for kit, parts in KITS.items()):
                    self.books.withdraw(order, key, qty)
                    order.cancelled[key] += qty
        else:
            order.reserved.clear()
            order.waiting.clear()
            order.is_cancelled = True
        order.is_held = order.is_held_for_money = False
        self.books.give_back_excess(order)
        self.books.give_out(freed)

    @action(weight=1, when=lambda self: self.books.orders, n=nth, reason=st.sampled_from([None, "the boss says so"]))
    def approve(self, n: int, reason: str | None) -> None:
        books, order = self.later(), self.nth_order(n, "review")
        refusal: type[OrdersError] | None = None
        if self.stage(order) != "review":
            refusal = NotAllowed
        elif (
            reason is None and not order.is_prepaid and order.owed > 0 and books.credit_used + order.owed > CREDIT_LIMIT
        ):
            refusal = CreditExceeded
        command = review.ApproveOrder(order.number, reason=reason)
        if self.must(refusal, review.approve_order, CLERK, command) is not None:
            order.is_approved = True

    @action(weight=1, when=lambda self: self.books.orders, n=nth)
    def reject(self, n: int) -> None:
        """Only what nobody has approved yet can be turned down."""
        books, order = self.later(), self.nth_order(n, "review", "held")
        may = self.stage(order) in ("review", "held") and not of_stock(order.shipped)
        command = review.RejectOrder(order.number, "no")
        if self.must(None if may else NotAllowed, review.reject_order, CLERK, command) is not None:
            freed = set(of_sku(+order.reserved))
            order.reserved.clear()
            order.waiting.clear()
            order.is_rejected = True
            order.is_held = False
            books.give_back_excess(order)
            books.give_out(freed)

    @action(weight=1, when=lambda self: self.books.orders, n=nth)
    def hold(self, n: int) -> None:
        order = self.nth_order(n, *OPEN)
        may = self.stage(order) in ("review", *OPEN)
        command = review.HoldOrder(order.number, "wait")
        if self.must(None if may else NotAllowed, review.hold_order, CLERK, command) is not None:
            order.is_held = True
            order.is_held_for_money = False

    @action(weight=2, when=lambda self: any(o.is_held for o in self.books.orders), n=nth)
    def resume(self, n: int) -> None:
        order = self.nth_order(n, "held")
        may = self.stage(order) == "held"
        command = review.ResumeOrder(order.number)
        if self.must(None if may else NotAllowed, review.resume_order, CLERK, command) is not None:
            self._goes_on(order)

    def _goes_on(self, order: OrderBook) -> None:
        """It is served again, and gets what came free meanwhile."""
        order.is_held = order.is_held_for_money = False
        self.books.give_out(of_sku(+order.waiting))

    @action(weight=1, when=lambda self: self.books.orders, n=nth)
    def split_by_stock(self, n: int) -> None:
        order = self.nth_order(n, *PARTABLE)
        may = self.stage(order) in PARTABLE
        self.must(None if may else NotAllowed, split.split_by_stock, CLERK, split.SplitByStock(order.number))

    @action(weight=1, when=lambda self: self.books.orders, n=nth, qty=units)
    def split_by_hand(self, n: int, qty: int) -> None:
        found = self.nth_parcel(n, "planned", stages=PARTABLE)
        if found is None or found[1].status != "planned":
            return
        order, parcel = found
        inside = self.inside(parcel.number)
        refusal: type[OrdersError] | None = None
        if self.stage(order) not in PARTABLE:
            refusal = NotAllowed
        elif qty > inside[0].qty:
            refusal = QuantityExceeded
        elif qty == sum(line.qty for line in inside):
            refusal = InvalidCommand
        command = split.SplitByHand(order.number, parcel.number, {order.line_no[self.key(inside[0])]: qty})
        self.must(refusal, split.split_by_hand, CLERK, command)

    # ---------------------------------------------------------------------------------------------- the warehouse

    @action(weight=3, sku=skus, qty=units, n=nth)
    def receive_goods(self, sku: str, qty: int, n: int) -> None:
        """Goods arrive and go to the orders that wait for them."""
        books, place = self.later(), PLACES[sku][n % len(PLACES[sku])]
        line = receiving.ReceivedLine(sku, qty)
        if sku == "TEA":
            lot, days = f"R{self.steps}", 5 + self.steps % 40
            line = receiving.ReceivedLine(sku, qty, lot_code=lot, expiry_date=expiry(days))
            books.lots[lot], books.expires[lot] = qty, days
        self.must(None, receiving.receive_goods, PICKER, receiving.ReceiveGoods(place, [line]))
        self._came(sku, place, qty)

    def _came(self, sku: str, place: str, qty: int) -> None:
        """Units are on a shelf, and go to who waits there."""
        self.books.on_hand[sku, place] += qty
        self.books.give_out([sku])
        self.given_out.append((sku, place))

    @action(weight=2, when=lambda self: any(o.waiting.total() for o in self.books.orders))
    def reserve_due(self) -> None:
        """The daily job: what became free goes to the orders that wait."""
        self.later()
        self.must(None, receiving.reserve_due, PICKER, receiving.ReserveDue())
        for sku, places in PLACES.items():
            for place in places:
                self._came(sku, place, 0)

    @action(weight=2, n=st.integers(0, 1), qty=st.integers(1, 4))
    def send_elsewhere(self, n: int, qty: int) -> None:
        """Rugs leave one place for the other, as far as nobody has them."""
        self.later()
        here, there = PLACES["RUG"][n], PLACES["RUG"][1 - n]
        refusal = QuantityExceeded if qty > self.free_at("RUG", here) else None
        command = transfers.PlanTransfer(here, there, [transfers.TransferQty("RUG", qty)])
        planned = self.must(refusal, transfers.plan_transfer, PICKER, command)
        if planned is not None:
            self.must(None, transfers.ship_transfer, PICKER, transfers.ShipTransfer(planned.number))
            self.books.on_hand["RUG", here] -= qty
            self.books.under_way[planned.number] = (qty, there)

    @action(weight=2, when=lambda self: self.books.under_way, n=nth)
    def arrive(self, n: int) -> None:
        self.later()
        number = sorted(self.books.under_way)[n % len(self.books.under_way)]
        qty, place = self.books.under_way.pop(number)
        self.must(None, transfers.receive_transfer, PICKER, transfers.ReceiveTransfer(number))
        self._came("RUG", place, qty)

    @action(weight=3, when=lambda self: self.books.orders, n=nth)
    def release(self, n: int) -> None:
        found = self.nth_parcel(n, "planned", stages=GOING)
        if found is not None:
            self._release(*found)

    def _release(self, order: OrderBook, parcel: Any) -> None:
        may = (
            parcel.status == "planned"
            and self.stage(order) in GOING
            and sum(line.reserved_qty for line in self.inside(parcel.number)) > 0
        )
        command = warehouse.Release(parcel.location, [parcel.number])
        released = self.must(None, warehouse.release, PICKER, command)
        assert released.shipments == ((parcel.number,) if may else ())
        assert [s.shipment for s in released.skipped] == ([] if may else [parcel.number])
        self.lists += released.pick_lists

    @action(weight=3, when=lambda self: self.lists, n=nth)
    def pick_all(self, n: int) -> None:
        number = self.one_of(n, self.lists, lambda x: any(line.status == "open" for line in self._sheet(x).lines))
        assert number is not None
        self._pick_all(number)

    def _pick_all(self, number: str) -> None:
        sheet = self._sheet(number)
        order = self._order_of(sheet)
        is_stopped = self.stage(order) not in GOING
        asks = any(line.status in ("open", "cancelled") for line in sheet.lines)
        command = warehouse.PickAll(number)
        self.must(NotAllowed if asks and is_stopped else None, warehouse.pick_all, PICKER, command)

    def _sheet(self, number: str) -> Any:
        with self.store.unit_of_work() as uow:
            return warehouse.pick_sheet(uow, PICKER, number)

    def _order_of(self, sheet: Any) -> OrderBook:
        return next(order for order in self.books.orders if order.number == sheet.lines[0].order)

    @action(weight=2, when=lambda self: self.lists, n=nth, found=st.integers(0, 3))
    def pick_short(self, n: int, found: int) -> None:
        """Fewer were found than the books say: they are gone, and the order waits unless others are free."""
        books = self.later()
        sheet = self.one_of(n, [self._sheet(x) for x in self.lists], lambda x: any(y.status == "open" for y in x.lines))
        assert sheet is not None
        order = self._order_of(sheet)
        line = next((line for line in sheet.lines if line.status == "open"), None)
        if line is None:
            return
        refusal: type[OrdersError] | None = None
        if self.stage(order) not in GOING:
            refusal = NotAllowed
        elif found >= line.qty:
            refusal = QuantityExceeded
        key, free = self._key_on(sheet, line), self.free_at(line.sku, sheet.location)
        command = warehouse.ShortPick(sheet.number, line.position, found)
        if self.must(refusal, warehouse.short_pick, PICKER, command) is None:
            return
        missing = line.qty - found
        from_carts = books.overdue(line.sku)
        books.take_from_carts(line.sku)
        late = missing - max(0, min(missing, free))  # others of the same shelf are as good
        order.reserved[key] -= late
        order.waiting[key] += late
        books.on_hand[line.sku, sheet.location] -= missing
        if line.lot_code is not None:
            books.lots[line.lot_code] -= missing
        if from_carts:
            books.give_out([line.sku])

    def _key_on(self, sheet: Any, line: Any) -> str:
        query = (
            select(tables.ShipmentLine.order_line_id)
            .join(tables.PickListLine, tables.PickListLine.shipment_line_id == tables.ShipmentLine.id)
            .join(tables.PickList, tables.PickList.id == tables.PickListLine.pick_list_id)
            .where(tables.PickList.number == sheet.number, tables.PickListLine.position == line.position)
        )
        return self.key_of[build.rows(self.store, query)[0].order_line_id]

    @action(weight=2, when=lambda self: self.books.orders, n=nth)
    def pack(self, n: int) -> None:
        found = self.nth_parcel(n, "picked", stages=GOING)
        if found is None:
            return
        order, parcel = found
        refusal: type[OrdersError] | None = None
        if parcel.status == "picked":
            if self.stage(order) not in GOING:
                refusal = NotAllowed
            elif not sum(min(line.picked_qty, line.qty) for line in self.inside(parcel.number)):
                refusal = InvalidCommand
        elif parcel.status not in ("packed", "shipped", "delivered"):
            refusal = NotAllowed
        self.must(refusal, shipping.pack, PICKER, shipping.Pack(parcel.number))

    @action(weight=4, when=lambda self: self.books.orders, n=nth)
    def ship(self, n: int) -> None:
        """Ship what is boxed, else picked, else reserved of a shipment; what did not go is planned again."""
        found = self.nth_parcel(n, "planned", "picked", "packed", stages=GOING)
        if found:
            self._ship(*found)

    @action(weight=4, when=lambda self: self.books.orders, n=nth)
    def ship_all(self, n: int) -> None:
        """All that is ready of an order goes: so that some kits are whole at the customer's, and can come back."""
        order = self.nth_order(n, *GOING)
        for parcel in self.parcels(order):
            if self.stage(order) in GOING and parcel.status in ("planned", "picked", "packed") and self._going(parcel):
                self._ship(order, parcel)

    def _ship(self, order: OrderBook, parcel: Any) -> None:
        going = self._going(parcel)
        refusal: type[OrdersError] | None = None
        is_repeat = parcel.status in ("shipped", "delivered")
        if not is_repeat:
            if parcel.status in ("cancelled", "released") or self.stage(order) not in (
                "ready",
                "picking",
                "partly_shipped",
            ):
                refusal = NotAllowed
            elif not going.total():
                refusal = InvalidCommand
        shipped = self.must(refusal, shipping.ship_shipment, PICKER, shipping.ShipShipment(parcel.number))
        if shipped is None or is_repeat:
            return
        by_sku: Counter[str] = Counter()
        for key, qty in going.items():
            assert 0 <= qty <= order.reserved[key], f"{qty} {key} left, {order.reserved[key]} were reserved"
            order.reserved[key] -= qty
            order.shipped[key] += qty
            by_sku[sku_of(key)] += qty
            self.books.on_hand[sku_of(key), parcel.location] -= qty
        assert Counter(shipped.shipped) == by_sku
        if going["TEA"]:
            self._lots_leave(order, parcel, going["TEA"])

    def _lots_leave(self, order: OrderBook, parcel: Any, qty: int) -> None:
        """Which lots went is read; it is all of it, of lots that were there, and first expired first where nobody picks."""
        left = self._lots_in(parcel)
        assert left.total() == qty
        if parcel.status == "planned" and not self._tea_is_picked():
            wanted: Counter[str] = Counter()
            for lot in sorted(+self.books.lots, key=lambda lot: (self.books.expires[lot], lot)):
                wanted[lot] = min(self.books.lots[lot], qty - wanted.total())
            assert {self.books.expires[x] for x in left} == {self.books.expires[x] for x in +wanted}, (left, wanted)
        self.books.lots.subtract(left)
        order.has_lot.update(left)
        assert all(qty >= 0 for qty in self.books.lots.values()), (
            f"more left of a lot than there was: {self.books.lots}"
        )

    def _lots_in(self, parcel: Any) -> Counter[str]:
        query = (
            select(tables.Lot.lot_code, tables.ShippedLot.qty)
            .join(tables.Lot, tables.Lot.id == tables.ShippedLot.lot_id)
            .join(tables.ShipmentLine, tables.ShipmentLine.id == tables.ShippedLot.shipment_line_id)
            .where(tables.ShipmentLine.shipment_id == parcel.id)
        )
        return Counter({row.lot_code: row.qty for row in build.rows(self.store, query)})

    def _tea_is_picked(self) -> bool:
        """Whether tea lies in a box or is on a list somewhere: its lots are taken."""
        every = [
            s
            for order in self.books.orders
            for s in self.parcels(order)
            if s.status in ("released", "picked", "packed")
        ]
        return any(self.key(line) == "TEA" for parcel in every for line in self.inside(parcel.number))

    def _going(self, parcel: Any) -> Counter[str]:
        going: Counter[str] = Counter()
        packed = dict(
            build.rows(
                self.store,
                select(tables.PackageLine.shipment_line_id, func.sum(tables.PackageLine.qty))
                .join(tables.Package, tables.Package.id == tables.PackageLine.package_id)
                .where(tables.Package.shipment_id == parcel.id)
                .group_by(tables.PackageLine.shipment_line_id),
            )
        )
        for line in self.inside(parcel.number):
            if parcel.status == "packed":
                going[self.key(line)] += int(packed.get(line.id, 0))
            elif parcel.status == "picked":
                going[self.key(line)] += min(line.picked_qty, line.qty)
            else:
                going[self.key(line)] += line.reserved_qty
        return +going

    @action(
        weight=2, when=lambda self: any(o.shipped for o in self.books.orders), n=nth, missing=st.sampled_from([0, 0, 1])
    )
    def deliver(self, n: int, missing: int) -> None:
        """The customer signs, sometimes for one less."""
        found = self.nth_parcel(n, "shipped")
        if found is None:
            return
        order, parcel = found
        inside = [line for line in self.inside(parcel.number) if line.shipped_qty]
        by_sku: Counter[str] = Counter()
        for line in inside:
            by_sku[line.sku] += line.shipped_qty
        if inside:
            by_sku[inside[0].sku] -= missing
        command = shipping.ConfirmDelivery(parcel.number, "Wang", signed=dict(by_sku) if missing else None)
        has_left = parcel.status in ("shipped", "delivered")
        done = self.must(None if has_left else NotAllowed, shipping.confirm_delivery, PICKER, command)
        if done is not None and parcel.status == "shipped":
            for line in inside:  # what is signed for counts for the first line of its SKU first
                qty = min(line.shipped_qty, by_sku[line.sku])
                by_sku[line.sku] -= qty
                order.delivered[self.key(line)] += qty

    @action(weight=1, when=lambda self: any(o.shipped for o in self.books.orders), n=nth)
    def take_back(self, n: int) -> None:
        """The truck turned round: goods on hand and reserved again, unless the customer sends some of them back."""
        found = self.nth_parcel(n, "shipped")
        if found is None:
            return
        order, parcel = found
        back = +Counter({self.key(line): line.shipped_qty for line in self.inside(parcel.number)})
        asked = any(order.shipped[key] - qty < order.asked_back[key] for key, qty in back.items())
        asked |= any(order.asked_back[kit] and parts.keys() & back.keys() for kit, parts in KITS.items())
        may = parcel.status == "shipped" and not asked
        lots = self._lots_in(parcel)
        command = shipping.TakeBack(parcel.number, "flat tyre")
        if self.must(None if may else NotAllowed, shipping.take_back, PICKER, command) is not None:
            for key, qty in back.items():
                order.shipped[key] -= qty
                order.reserved[key] += qty
                self.books.on_hand[sku_of(key), parcel.location] += qty
            self.books.lots.update(lots)
            order.has_lot.subtract(lots)

    # ------------------------------------------------------------------------------------------------ coming back

    @action(
        weight=8,
        when=lambda self: any(o.shipped.total() for o in self.books.orders),
        n=nth,
        m=nth,
        qty=st.integers(1, 3),
    )
    def ask_return(self, n: int, m: int, qty: int) -> None:
        """Never more than has left and is not asked back already; a part of a kit only with it."""
        order = self.one_of(n, self.books.orders, lambda o: any(o.can_come_back(key) > 0 for key in o.line_no))
        assert order is not None
        key = self.one_of(m, sorted(order.line_no), lambda x: order.can_come_back(x) > 0)
        assert key is not None
        refusal: type[OrdersError] | None = None
        if self.stage(order) in ("review", "waiting_stock", "ready", "picking", "rejected"):
            refusal = NotAllowed
        elif any(key in parts for parts in KITS.values()):
            refusal = InvalidCommand
        elif qty > order.can_come_back(key):
            refusal = QuantityExceeded
        command = returns.RequestReturn(order.number, {order.line_no[key]: qty}, "not nice")
        asked = self.must(refusal, returns.request_return, CLERK, command)
        if asked is not None:
            order.asked_back[key] += qty
            self.books.returns.append(ReturnBook(asked.number, order, key, qty))

    @action(weight=1, when=lambda self: self.books.orders, n=nth)
    def ask_money_only(self, n: int) -> None:
        """Before anything has left, the customer wants the money rather than the goods: the order is stopped."""
        order = self.nth_order(n, "review", "waiting_stock", "ready", "picking")
        stage = self.stage(order)
        refusal: type[OrdersError] | None = None
        if stage not in ("review", "waiting_stock", "ready", "picking", "held") or +order.shipped:
            refusal = InvalidCommand
        elif any(b.order is order and b.key is None and b.status == "requested" for b in self.books.returns):
            refusal = AlreadyExists
        command = returns.RequestReturn(order.number, {}, "too slow", kind="refund_only")
        asked = self.must(refusal, returns.request_return, CLERK, command)
        if asked is not None:
            if not order.is_held:
                order.is_held = order.is_held_for_money = True
            self.books.returns.append(ReturnBook(asked.number, order, None, 0))

    @action(
        weight=10,
        when=lambda self: any(b.status == "requested" for b in self.books.returns),
        n=nth,
        is_approved=st.sampled_from([True, True, False]),
    )
    def decide_return(self, n: int, is_approved: bool) -> None:
        back = self.one_of(n, self.books.returns, lambda b: b.status == "requested")
        assert back is not None
        order, key = back.order, back.key
        refusal: type[OrdersError] | None = None
        if back.status != "requested" or (key is None and is_approved and +order.shipped):
            refusal = InvalidCommand
        elif key is None and is_approved and self.stage(order) == "rejected":
            refusal = NotAllowed
        was_held = self.stage(order) == "held"
        command = returns.DecideReturn(back.number, is_approved)
        if self.must(refusal, returns.decide_return, CLERK, command) is None:
            return
        if key is None:
            back.status = "closed" if is_approved else "refused"
            if is_approved:
                self._end(order)
            elif was_held and order.is_held_for_money:
                self._goes_on(order)
        else:
            back.status = "approved" if is_approved else "refused"
            if not is_approved:
                order.asked_back[key] -= back.asked

    @action(weight=10, when=lambda self: any(b.is_expected for b in self.books.returns), n=nth, qty=st.integers(1, 3))
    def receive_return(self, n: int, qty: int) -> None:
        """Units come back under inspection; what they cost is no longer owed, or given back."""
        books = self.later()
        back = self.one_of(n, books.returns, lambda b: b.is_expected)
        assert back is not None
        refusal: type[OrdersError] | None = None
        if back.status not in ("approved", "received"):
            refusal = InvalidCommand
        elif qty > back.asked - back.received:
            refusal = QuantityExceeded
        if back.key is None:  # money only: nothing comes
            return
        comes = self._on_shelf(back.key, qty)
        (place,) = {PLACES[sku][0] for sku in comes}
        command = returns.ReceiveReturn(back.number, {back.order.line_no[back.key]: qty}, place)
        if self.must(refusal, returns.receive_return, PICKER, command) is not None:
            back.status = "received"
            back.received += qty
            back.order.came_back[back.key] += qty
            books.inspecting.update({(sku, place): more for sku, more in comes.items()})
            books.give_back_excess(back.order)

    def _on_shelf(self, key: str, qty: int) -> Counter[str]:
        """What so many of a line are on a shelf: a kit comes back as its parts."""
        return Counter({sku_of(part): each * qty for part, each in KITS.get(key, {key: 1}).items()})

    @action(
        weight=8,
        when=lambda self: any(b.inspected < b.received for b in self.books.returns),
        n=nth,
        restock=st.integers(0, 2),
        repair=st.integers(0, 1),
        scrap=st.integers(0, 1),
    )
    def inspect_return(self, n: int, restock: int, repair: int, scrap: int) -> None:
        back = self.one_of(n, self.books.returns, lambda b: b.inspected < b.received)
        assert back is not None
        asked = restock + repair + scrap
        refusal: type[OrdersError] | None = None
        if back.status != "received":
            refusal = InvalidCommand
        elif not 0 < asked <= back.received - back.inspected:
            refusal = QuantityExceeded
        if back.key is None:  # money only: nothing comes
            return
        self.later()
        line_no = back.order.line_no[back.key]
        command = returns.InspectReturn(back.number, [returns.Disposition(line_no, restock, repair, scrap)])
        if refusal is not None:
            self.must(refusal, returns.inspect_return, PICKER, command)
            return
        before = self._lots_on_hand()
        self.must(None, returns.inspect_return, PICKER, command)
        if restock:
            for sku, qty in self._on_shelf(back.key, restock).items():
                self._came(sku, PLACES[sku][0], qty)
        back.inspected += asked
        self.books.inspecting.subtract({(sku, PLACES[sku][0]): n for sku, n in self._on_shelf(back.key, asked).items()})
        if back.inspected == back.asked:
            back.status = "closed"
        if back.key == "TEA" and restock:  # which of the customer's lots came is read
            lots = Counter({lot: qty - before[lot] for lot, qty in self._lots_on_hand().items()})
            assert lots.total() == restock and all(0 <= lots[x] <= back.order.has_lot[x] for x in lots), lots
            self.books.lots.update(lots)
            back.order.has_lot.subtract(lots)

    def _lots_on_hand(self) -> Counter[str]:
        query = select(tables.Lot.lot_code, tables.LotLevel.on_hand_qty).join(
            tables.Lot, tables.Lot.id == tables.LotLevel.lot_id
        )
        return Counter({row.lot_code: row.on_hand_qty for row in build.rows(self.store, query)})

    # ------------------------------------------------------------------------------------------------------ money

    @action(
        weight=3,
        when=lambda self: self.books.orders,
        n=nth,
        cents=st.one_of(st.just(0), st.integers(1, 9_000)),
        above=st.sampled_from([0, 0, 1]),
    )
    def pay(self, n: int, cents: int, above: int) -> None:
        """Pay an order: all it owes (cents = 0), a part, or a cent too much."""
        books, order = (
            self.later(),
            self.nth_order(n, "review", "held", *OPEN, "shipped", "partly_delivered", "delivered"),
        )
        cents = (cents or max(order.owed, 1)) + above
        command = payments.ReceivePayment(BUYER, cents, f"pay-{self.steps}", settle={order.number: cents})
        refusal = OverPayment if cents > order.owed else None
        received = self.must(refusal, payments.receive_payment, CASHIER, command)
        if received is not None:
            order.paid += cents
            assert list(received.approved) == books.look_again(books.orders)

    @action(weight=1, when=lambda self: self.books.orders, cents=st.integers(1, 12_000))
    def pay_oldest(self, cents: int) -> None:
        """Money without a word what for pays approved orders first, then those that wait; the rest stays."""
        books = self.later()
        command = payments.ReceivePayment(BUYER, cents, f"pay-{self.steps}")
        received = self.must(None, payments.receive_payment, CASHIER, command)
        for order in sorted(books.orders, key=lambda o: not o.is_approved):
            part = min(cents, max(0, order.owed))
            order.paid += part
            cents -= part
        books.receipts[received.number] = cents
        assert received.left_cents == cents
        assert list(received.approved) == books.look_again(books.orders)

    @action(
        weight=2,
        when=lambda self: any(self.books.receipts.values()),
        n=nth,
        m=nth,
        cents=st.one_of(st.just(0), st.integers(1, 3_000)),
    )
    def use_prepayment(self, n: int, m: int, cents: int) -> None:
        books = self.later()
        order = self.one_of(n, books.orders, lambda o: o.owed > 0)
        assert order is not None
        number = self.one_of(m, sorted(books.receipts), lambda x: books.receipts[x] > 0)
        assert number is not None
        cents = cents or max(1, min(order.owed, books.receipts[number]))
        refusal = OverPayment if cents > min(order.owed, books.receipts[number]) else None
        command = payments.SettleReceipt(number, order.number, cents)
        received = self.must(refusal, payments.settle_receipt, CASHIER, command)
        if received is not None:
            order.paid += cents
            books.receipts[number] -= cents
            assert received.left_cents == books.receipts[number]
            assert list(received.approved) == books.look_again(books.orders)

    @action(
        weight=2,
        when=lambda self: any(o.paid for o in self.books.orders),
        n=nth,
        cents=st.one_of(st.just(0), st.integers(1, 2_000)),
        above=st.sampled_from([0, 0, 1]),
    )
    def refund(self, n: int, cents: int, above: int) -> None:
        """Money back: all that is left of what was paid (cents = 0), a part, or a cent too much."""
        payers = [o for o in self.books.orders if o.paid]
        order = payers[n % len(payers)]
        cents = (cents or max(order.paid_net, 1)) + above
        order_id = build.order_row(self.store, order.number).id
        refusal = OverPayment if cents > order.paid_net else None
        self.must(refusal, give_money_back, MANAGER, order_id, cents, f"refund-{self.steps}")
        if refusal is None:
            order.refunded += cents

    @action(weight=1, when=lambda self: any(o.refunded for o in self.books.orders), n=nth, has_failed=st.booleans())
    def pay_refund(self, n: int, has_failed: bool) -> None:
        """The bank did it, or failed to; what is paid stays paid."""
        granted = build.rows(self.store, select(tables.Refund.number, tables.Refund.status).order_by(tables.Refund.id))
        refund = granted[n % len(granted)]
        refusal = InvalidCommand if refund.status == "paid" and has_failed else None
        self.must(refusal, payments.pay_refund, CASHIER, payments.PayRefund(refund.number, has_failed))

    # ---------------------------------------------------------------------------------------------------- agreeing

    @invariant()
    def books_and_database_agree(self) -> None:
        if not self.is_open:
            return
        self.steps += 1
        self.books.now = self.clock.now()  # an action may have looked ahead and then not run
        found = self._found()
        self._take_over_who_has(found)
        wanted = self._wanted()
        for key in sorted(found.keys() | wanted.keys()):
            assert found.get(key) == wanted.get(key), (
                f"{key}: the database has {found.get(key)}, the books {wanted.get(key)}"
            )
        if self.steps % VERIFY_EVERY == 0:
            self._verify()
        self.has_failed = False

    def _verify(self) -> None:
        broken = [str(violation) for violation in verify(self.store)]
        assert not broken, "; ".join(broken)

    def _take_over_who_has(self, found: dict[str, Any]) -> None:
        """Which of an order's own lines of one SKU gets a unit first is read, and who is given what of a SKU that lies
        at two places: there the database may have given more than the books knew, never less."""
        for order in self.books.orders:
            rows = {key: found[f"{order.number} {key}"] for key in order.line_no if key not in KITS}
            for key, row in rows.items():
                open_qty = order.reserved[key] + order.waiting[key]
                assert row["reserved"] + row["waiting"] == open_qty, f"{order.number} {key}: {row}, {open_qty} are open"
            has = of_sku({key: row["reserved"] for key, row in rows.items()})
            for sku, qty in has.items():
                known = of_sku(order.reserved)[sku]
                assert qty == known or (len(PLACES[sku]) > 1 and qty > known), (
                    f"{order.number} has {qty} {sku}, not {known}"
                )
            for key, row in rows.items():
                order.reserved[key], order.waiting[key] = row["reserved"], row["waiting"]
        busy = {order.number for order in self.books.orders if order.is_held or order.is_dead}
        for sku, place in self.given_out:
            waiting = sum(row.backordered_qty for row in self._planned(sku, place) if row.order not in busy)
            assert not waiting or self.free_at(sku, place) <= 0, f"{waiting} {sku}@{place} wait beside free ones"
        self.given_out = []

    def _wanted(self) -> dict[str, Any]:
        books = self.books
        wanted: dict[str, Any] = {"credit used": books.credit_used}
        for sku, places in PLACES.items():
            reserved, on_hand = books.promised(books.orders, sku), sum(books.on_hand[sku, place] for place in places)
            assert 0 <= reserved + books.held(sku) <= on_hand, f"{sku}: more is promised than is there"
            wanted[sku] = {
                "reserved": reserved + books.held(sku),
                "waiting": sum(qty for o in books.orders for key, qty in o.waiting.items() if sku_of(key) == sku),
            }
            for place in places:
                wanted[f"{sku}@{place}"] = {
                    "on_hand": books.on_hand[sku, place],
                    "inspecting": books.inspecting[sku, place],
                    "overcommitted": 0,
                }
        wanted["lots"] = +books.lots
        for order in books.orders:
            assert order.paid_net >= 0, f"{order.number}: {order.refunded} was given back of {order.paid}"
            wanted[order.number] = {
                "total": order.total,
                "paid": order.paid,
                "refunded": order.refunded,
                "claims": order.claims,
                "stage": self.stage(order),
            }
            for key in order.line_no:
                wanted[f"{order.number} {key}"] = {
                    "wanted": order.wanted[key],
                    "reserved": order.reserved[key],
                    "waiting": order.waiting[key],
                    "shipped": order.gone(key, order.shipped),
                    "delivered": order.gone(key, order.delivered),
                    "came_back": order.came_back[key],
                }
        return wanted

    def _found(self) -> dict[str, Any]:
        """The same, as the database has it. Units of a cart whose time is over count as free: whoever needs them has them."""
        found: dict[str, Any] = {}
        with self.store.reading() as conn:
            level, hold, order, line = tables.StockLevel, tables.CartHold, tables.Order, tables.OrderLine
            over: dict[int, int] = defaultdict(int)
            for row in conn.execute(select(hold.sku_id, hold.qty).where(hold.expires_at <= self.clock.now())):
                over[row.sku_id] += row.qty
            of_level = (
                select(level.__table__, tables.Sku.sku, tables.Location.code.label("place"))
                .join(tables.Sku, tables.Sku.id == level.sku_id)
                .join(tables.Location, tables.Location.id == level.location_id)
            )
            for row in conn.execute(of_level):
                found[f"{row.sku}@{row.place}"] = {
                    "on_hand": row.on_hand_qty,
                    "inspecting": row.inspecting_qty,
                    "overcommitted": row.overcommitted_qty,
                }
                sums = found.setdefault(row.sku, {"reserved": -over[row.sku_id], "waiting": 0})
                sums["reserved"] += row.reserved_qty
                sums["waiting"] += row.backordered_qty
            for row in conn.execute(select(order.__table__)):
                found[row.number] = {
                    "total": row.total_cents,
                    "paid": row.paid_cents,
                    "refunded": row.refunded_cents,
                    "claims": row.credit_claimed_cents,
                    "stage": row.status,
                }
            query = select(line.__table__, order.number, order.cancelled_at).join(order)
            for row in conn.execute(query):
                found[f"{row.number} {self.key_of.get(row.id, row.id)}"] = {
                    "wanted": row.ordered_qty - (row.cancelled_qty if row.cancelled_at is None else 0),
                    "reserved": row.reserved_qty,
                    "waiting": row.backordered_qty,
                    "shipped": row.shipped_qty,
                    "delivered": row.delivered_qty,
                    "came_back": row.returned_qty,
                }
            used = select(tables.Customer.credit_used_cents).where(tables.Customer.code == BUYER)
            found["credit used"] = conn.execute(used).scalar_one()
        found["lots"] = +self._lots_on_hand()
        return found

    # ----------------------------------------------------------------------------------------------------- the end

    def teardown(self) -> None:
        if not self.is_open:
            return
        try:
            if not self.has_failed:
                self._verify()
                self._everything_reserved_can_leave()
                self._verify()
        finally:
            self.store.close()
            self.drop()

    def _everything_reserved_can_leave(self) -> None:
        """Nothing is stuck: approve, resume, pick, ship until every reserved unit of every living order has left."""
        for order in self.books.orders:
            if order.is_dead or not order.reserved.total():
                continue
            if order.is_held:
                self.must(None, review.resume_order, CLERK, review.ResumeOrder(order.number))
                self._goes_on(order)
                self.books_and_database_agree()
            if not order.is_approved:
                self.must(None, review.approve_order, CLERK, review.ApproveOrder(order.number, reason="the end"))
                order.is_approved = True
            for _ in range(3):  # what was not picked or boxed is planned again
                for parcel in self.parcels(order):
                    if parcel.status == "released":
                        for number in self._lists_of(parcel):
                            self._pick_all(number)
                for parcel in self.parcels(order):
                    if parcel.status not in ("cancelled", "shipped", "delivered") and self._going(parcel):
                        self._ship(order, parcel)
            stuck = {
                s.number: s.status for s in self.parcels(order) if s.status not in ("shipped", "delivered", "cancelled")
            }
            assert not order.reserved.total(), f"{order.number} cannot leave: {order.reserved}, shipments {stuck}"
        self.books_and_database_agree()

    def _lists_of(self, parcel: Any) -> list[str]:
        return [n for n in self.lists if any(line.shipment == parcel.number for line in self._sheet(n).lines)]
