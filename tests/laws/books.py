"""The model beside the machine: the books a planner would keep on paper. Nothing here is taken from the product's code.

Stock is on hand or under inspection; an order's line is wanted, and each unit of it is reserved, waits for stock, or has
left; money is paid or given back. Everything else (what is free, what is owed, which stage) follows from these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

PRICES = {"LAMP": 1000, "MUG": 300, "RUG": 700}  # cents
HOMES = {"LAMP": "WH1", "MUG": "WH1", "RUG": "WH2"}  # each SKU lies at one place
OPENING = {"LAMP": 8, "MUG": 5, "RUG": 6}
CREDIT_LIMIT = 20_000  # cents
MOST_WITHOUT_A_PERSON = 7_000  # cents; a larger order waits for review


@dataclass
class OrderBook:
    """One order. Counters are units by SKU."""

    number: str
    is_prepaid: bool
    priority: int
    skus: list[str]  # in the order of its lines
    wanted: Counter[str]
    reserved: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    shipped: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    asked_back: Counter[str] = field(default_factory=Counter)
    came_back: Counter[str] = field(default_factory=Counter)
    paid: int = 0
    refunded: int = 0
    is_approved: bool = False
    is_held: bool = False
    is_held_for_money: bool = False  # a customer who wants only his money stopped it
    is_cancelled: bool = False
    is_rejected: bool = False

    @property
    def total(self) -> int:
        """What is kept or still to come, in cents."""
        return sum((self.wanted[sku] - self.came_back[sku]) * PRICES[sku] for sku in self.skus)

    @property
    def paid_net(self) -> int:
        return self.paid - self.refunded

    @property
    def is_dead(self) -> bool:
        return self.is_cancelled or self.is_rejected

    @property
    def owed(self) -> int:
        return 0 if self.is_dead else self.total - self.paid_net

    @property
    def claims(self) -> int:
        """Cents of credit it uses."""
        return self.owed if self.is_approved and not self.is_prepaid else 0

    def stage(self, *, is_picking: bool) -> str:
        """The one word for where it stands; `is_picking`: the warehouse has some of it on a list or in a box."""
        if self.is_cancelled:
            return "cancelled"
        if self.is_rejected:
            return "rejected"
        left = self.shipped.total()
        if left == self.wanted.total():
            arrived = self.delivered.total()
            return "shipped" if arrived == 0 else "delivered" if arrived == left else "partly_delivered"
        if self.is_held:
            return "held"
        if not self.is_approved:
            return "review"
        if left:
            return "partly_shipped"
        if is_picking:
            return "picking"
        return "ready" if self.reserved.total() else "waiting_stock"


@dataclass
class ReturnBook:
    """Units of one SKU that come back from one order; no SKU: the customer wants only his money."""

    number: str
    order: OrderBook
    sku: str | None
    asked: int
    status: str = "requested"
    received: int = 0
    inspected: int = 0

    @property
    def is_expected(self) -> bool:
        return self.status in ("approved", "received") and self.received < self.asked


@dataclass
class CartBook:
    """What a customer laid into the cart; each line keeps its units until its time is over."""

    token: str
    wants: Counter[str] = field(default_factory=Counter)
    keeps_until: dict[str, datetime] = field(default_factory=dict)


@dataclass
class Books:
    """Everything, and the moment it is."""

    backorders: bool  # whether more may be promised than is there
    now: datetime
    on_hand: Counter[str] = field(default_factory=lambda: Counter(OPENING))
    inspecting: Counter[str] = field(default_factory=Counter)
    orders: list[OrderBook] = field(default_factory=list)
    returns: list[ReturnBook] = field(default_factory=list)
    carts: list[CartBook] = field(default_factory=list)
    receipts: dict[str, int] = field(default_factory=dict)  # payment receipts: cents not used yet

    def held(self, sku: str) -> int:
        """Units kept for carts whose time is not over."""
        return sum(
            cart.wants[sku] for cart in self.carts if sku in cart.keeps_until and self.now < cart.keeps_until[sku]
        )

    def free(self, sku: str) -> int:
        return self.on_hand[sku] - sum(order.reserved[sku] for order in self.orders) - self.held(sku)

    def overdue(self, sku: str) -> int:
        """Units that carts kept too long and nobody has taken from them yet; they count as free."""
        return sum(cart.wants[sku] for cart in self.carts if sku in cart.keeps_until) - self.held(sku)

    def take_from_carts(self, sku: str) -> None:
        for cart in self.carts:
            if sku in cart.keeps_until and cart.keeps_until[sku] <= self.now:
                del cart.keeps_until[sku]

    def needs_overdue(self, sku: str, qty: int) -> bool:
        """Whether someone new who wants `qty` has to take from carts what they kept too long."""
        return self.overdue(sku) > 0 and qty > self.free(sku) - self.overdue(sku)

    def free_for_new(self, sku: str, qty: int) -> int:
        """What someone new who wants `qty` may have: what carts kept too long goes to the orders that wait first."""
        if not self.needs_overdue(sku, qty):
            return self.free(sku)
        return max(0, self.free(sku) - sum(o.waiting[sku] for o in self.orders if not o.is_held and not o.is_dead))

    def make_room(self, asked: Mapping[str, int]) -> None:
        """Someone new wants these units."""
        for sku, qty in asked.items():
            if self.needs_overdue(sku, qty):
                self.take_from_carts(sku)
                self.give_out([sku])

    @property
    def credit_used(self) -> int:
        return sum(order.claims for order in self.orders)

    def lets_through(self, order: OrderBook) -> bool:
        """Whether an order that waits for review needs nobody: paid or within credit, and not a large one."""
        if order.total > MOST_WITHOUT_A_PERSON or (order.is_prepaid and order.owed > 0):
            return False
        return order.is_prepaid or order.owed <= 0 or self.credit_used + order.owed <= CREDIT_LIMIT

    def look_again(self, orders: list[OrderBook]) -> list[str]:
        """Approve what needs nobody any more, oldest first; the numbers of those approved."""
        approved = []
        for order in orders:
            if not order.is_approved and not order.is_dead and not order.is_held and self.lets_through(order):
                order.is_approved = True
                approved.append(order.number)
        return approved

    def promise(self, order: OrderBook, sku: str, qty: int) -> None:
        """Reserve what is free, wait for the rest."""
        now = max(0, min(qty, self.free(sku)))
        order.reserved[sku] += now
        order.waiting[sku] += qty - now

    def withdraw(self, order: OrderBook, sku: str, qty: int) -> int:
        """The order wants `qty` fewer: what waits goes first. Returns how many reserved units came free."""
        late = min(qty, order.waiting[sku])
        order.waiting[sku] -= late
        order.reserved[sku] -= qty - late
        return qty - late

    def give_out(self, skus: Iterable[str]) -> None:
        """Free units go to the orders that wait: the important first, then the oldest."""
        for sku in skus:
            for order in sorted(self.orders, key=lambda o: -o.priority):  # sorted is stable: oldest first
                if not order.is_held and not order.is_dead:
                    qty = max(0, min(order.waiting[sku], self.free(sku)))
                    order.waiting[sku] -= qty
                    order.reserved[sku] += qty
                    if qty:
                        self.take_from_carts(sku)

    def give_back_excess(self, order: OrderBook) -> None:
        """What was paid above what the order costs is refunded; all of it when the order is dead."""
        costs = 0 if order.is_dead else order.total
        order.refunded += max(0, order.paid_net - costs)
