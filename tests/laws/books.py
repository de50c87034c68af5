"""The model beside the machine: the books a planner would keep on paper. Nothing here is taken from the product's code.

Stock is on hand or under inspection; an order's line is wanted, and each unit of it is reserved, waits for stock, or has
left; money is paid or given back. Everything else (what is free, what is owed, which stage) follows from these.

A line is named by what it is for: `MUG`, `MUG box` (mugs sold by three), `SET` (a kit), `SET/MUG` (the mugs in it),
`LAMP/CARD` (the card that comes free with every third lamp). All its counters are in units. Where a SKU lies at two
places, the books know the sums only: nobody loses what he has, and who waits beside free units is given some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

PRICES = {"LAMP": 1000, "MUG": 300, "MUG box": 280, "RUG": 700, "TEA": 400, "SET": 1400}  # cents a unit
PACKS = {"MUG box": 3}  # units in what it is sold by; else 1
KITS = {"SET": {"SET/LAMP": 1, "SET/MUG": 2}}  # units in one
GIFTS = {"LAMP": ("LAMP/CARD", 3)}  # one for every three
FREE = {gift for gift, _ in GIFTS.values()}
PLACES = {"LAMP": ["WH1"], "MUG": ["WH1"], "RUG": ["WH2", "WH1"], "TEA": ["WH1"], "CARD": ["WH1"]}
OPENING = {("LAMP", "WH1"): 8, ("MUG", "WH1"): 14, ("RUG", "WH2"): 4, ("RUG", "WH1"): 2, ("CARD", "WH1"): 2}
LOTS = {"T1": (3, 10), "T2": (4, 30)}  # of TEA: units, days until it expires
CREDIT_LIMIT = 20_000  # cents
MOST_WITHOUT_A_PERSON = 7_000  # cents; a larger order waits for review


def sku_of(key: str) -> str:
    """What is taken from the shelf for a line."""
    return key.split("/")[-1].split(" ")[0]


def units_asked(packs: Mapping[str, int]) -> Counter[str]:
    """Units of every line that an order of these packs has, parts and gifts included, in the order of its lines."""
    asked = Counter({key: qty * PACKS.get(key, 1) for key, qty in packs.items()})
    for kit in KITS.keys() & packs.keys():
        asked.update({part: each * asked[kit] for part, each in KITS[kit].items()})
    for trigger in GIFTS.keys() & packs.keys():
        gift, every = GIFTS[trigger]
        asked[gift] = asked[trigger] // every
    return +asked


def of_sku(lines: Mapping[str, int]) -> Counter[str]:
    """Units by SKU instead of by line; a kit is only its parts."""
    units: Counter[str] = Counter()
    for key, qty in lines.items():
        if key not in KITS:
            units[sku_of(key)] += qty
    return units


def of_stock(lines: Mapping[str, int]) -> int:
    """Units that are on a shelf or leave it."""
    return of_sku(lines).total()


@dataclass
class OrderBook:
    """One order. Counters are units by line."""

    number: str
    is_prepaid: bool
    priority: int
    wanted: Counter[str]  # without what was cancelled of a broken box
    line_no: dict[str, int] = field(default_factory=dict)
    cancelled: Counter[str] = field(default_factory=Counter)
    has_lot: Counter[str] = field(default_factory=Counter)  # TEA the customer has, by lot
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
        return sum((self.wanted[key] - self.came_back[key]) * cents for key, cents in PRICES.items())

    def gone(self, key: str, moved: Counter[str]) -> int:
        """Units of a line that were shipped (or delivered); a kit has when all its parts have."""
        if key in KITS:
            return min(moved[part] // each for part, each in KITS[key].items())
        return moved[key]

    def must_stay(self, key: str) -> int:
        """Units a line cannot be lowered below: of a kit, those a part of which has left."""
        if key in KITS:
            return max(-(-self.shipped[part] // each) for part, each in KITS[key].items())
        return self.shipped[key]

    def can_come_back(self, key: str) -> int:
        return self.gone(key, self.shipped) - self.asked_back[key]

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
        return self.owed if (self.is_approved or self.shipped.total()) and not self.is_prepaid else 0

    def never_arrived(self, part: str) -> int:
        """Units that were sent, that nobody got and that came back, alone or in a kit."""
        back = self.came_back[part] + sum(self.came_back[kit] * parts.get(part, 0) for kit, parts in KITS.items())
        return min(back, self.shipped[part] - self.delivered[part])

    def stage(self, *, is_picking: bool, is_under_way: bool) -> str:
        """The one word for where it stands; `is_picking`: the warehouse has some of it on a list or in a box."""
        if self.is_cancelled:
            return "cancelled"
        if self.is_rejected:
            return "rejected"
        left = of_stock(self.shipped)
        if left == of_stock(self.wanted):
            arrived = self.delivered.total()
            if not is_under_way and arrived + sum(map(self.never_arrived, self.shipped)) == left:
                return "delivered"
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
    """Units of one line that come back; no line: the customer wants only his money."""

    number: str
    order: OrderBook
    key: str | None
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
    on_hand: Counter[tuple[str, str]] = field(default_factory=lambda: Counter(OPENING))  # by SKU and place
    inspecting: Counter[tuple[str, str]] = field(default_factory=Counter)
    lots: Counter[str] = field(default_factory=Counter)  # TEA on hand
    expires: dict[str, int] = field(default_factory=lambda: {lot: days for lot, (_, days) in LOTS.items()})
    under_way: dict[str, tuple[int, str]] = field(default_factory=dict)  # transfers of RUG: units, where to
    orders: list[OrderBook] = field(default_factory=list)
    returns: list[ReturnBook] = field(default_factory=list)
    carts: list[CartBook] = field(default_factory=list)
    receipts: dict[str, int] = field(default_factory=dict)  # payment receipts: cents not used yet

    def __post_init__(self) -> None:
        for lot, (qty, _) in LOTS.items():
            self.lots[lot] = qty
            self.on_hand["TEA", "WH1"] += qty

    def held(self, sku: str) -> int:
        """Units kept for carts whose time is not over."""
        return sum(
            cart.wants[sku] for cart in self.carts if sku in cart.keeps_until and self.now < cart.keeps_until[sku]
        )

    def free(self, sku: str) -> int:
        on_hand = sum(self.on_hand[sku, place] for place in PLACES[sku])
        return on_hand - self.promised(self.orders, sku) - self.held(sku)

    def promised(self, orders: Iterable[OrderBook], sku: str) -> int:
        return sum(of_sku(order.reserved)[sku] for order in orders)

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
        waiting = sum(of_sku(o.waiting)[sku] for o in self.orders if not o.is_held and not o.is_dead)
        return max(0, self.free(sku) - waiting)

    def make_room(self, asked: Mapping[str, int]) -> None:
        """Someone new wants these units."""
        for sku, qty in of_sku(asked).items():
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

    def want(self, order: OrderBook, key: str, more: int) -> None:
        """A line wants `more` units: reserve what is free, wait for the rest. A gift nobody may wait for is left out."""
        if key in KITS:
            order.wanted[key] += more
            return
        now = max(0, min(more, self.free(sku_of(key))))
        late = 0 if key in FREE and not self.backorders else more - now
        order.wanted[key] += now + late
        order.reserved[key] += now
        order.waiting[key] += late

    def withdraw(self, order: OrderBook, key: str, qty: int) -> int:
        """A line wants `qty` units fewer: what waits goes first. Returns how many reserved units came free."""
        order.wanted[key] -= qty
        if key in KITS:
            return 0
        late = min(qty, order.waiting[key])
        order.waiting[key] -= late
        order.reserved[key] -= qty - late
        return qty - late

    def give_out(self, skus: Iterable[str]) -> None:
        """Free units go to the orders that wait: the important first, then the oldest."""
        for sku in skus:
            if len(PLACES[sku]) > 1:  # who waits where the units are is not in the books
                continue
            for order in sorted(self.orders, key=lambda o: -o.priority):  # sorted is stable: oldest first
                if not order.is_held and not order.is_dead:
                    for key in [key for key in order.waiting if sku_of(key) == sku]:
                        qty = max(0, min(order.waiting[key], self.free(sku)))
                        order.waiting[key] -= qty
                        order.reserved[key] += qty
                        if qty:
                            self.take_from_carts(sku)

    def give_back_excess(self, order: OrderBook) -> None:
        """What was paid above what the order costs is refunded; all of it when the order is dead."""
        costs = 0 if order.is_dead else order.total
        order.refunded += max(0, order.paid_net - costs)
