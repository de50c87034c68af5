"""Two years of the demo company's life, driven through the public services over simulated time, one commit a day.

Nothing is written past the services: what the demo shows is what the services do. Everything is drawn from one seed,
so two runs tell the same story.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import bindparam, select

from apps.demo import catalogue as c
from apps.demo.seasons import is_shut, season, traffic
from orders_core.domain.permissions import SYSTEM, Actor
from orders_core.errors import InsufficientStock, OrdersError
from orders_core.ports import FixedClock
from orders_core.services import master_data as md
from orders_core.services.cancel import CancelOrder, cancel_order
from orders_core.services.drafting import LineIn
from orders_core.services.edit import EditOrder, LineChange, edit_order
from orders_core.services.follow_up import AnswerFollowUp, AskCustomers, answer_follow_up, ask_customers
from orders_core.services.payments import PayRefund, ReceivePayment, pay_refund, receive_payment
from orders_core.services.place_order import PlaceOrder, place_order
from orders_core.services.production import ReportProduction, report_production
from orders_core.services.receiving import (
    ConfirmPurchaseOrder,
    CreatePurchaseOrder,
    PurchaseLine,
    ReceivedLine,
    ReceiveGoods,
    ReserveDue,
    confirm_purchase_order,
    create_purchase_order,
    receive_goods,
    reserve_due,
)
from orders_core.services.returns import (
    DecideReturn,
    Disposition,
    InspectReturn,
    ReceiveReturn,
    RequestReturn,
    decide_return,
    inspect_return,
    receive_return,
    request_return,
)
from orders_core.services.review import ApproveOrder, approve_order
from orders_core.services.shipping import (
    ConfirmDelivery,
    Pack,
    PackageIn,
    ShipShipment,
    confirm_delivery,
    pack,
    ship_shipment,
)
from orders_core.services.stock import OpeningStock, StockIn, opening_stock
from orders_core.services.tickets import OpenTicket, SolveTicket, open_ticket, solve_ticket
from orders_core.services.tracking import TrackingEventIn, record_event
from orders_core.services.warehouse import PickAll, Release, pick_all, release
from orders_core.store import tables as t
from orders_core.store.prepared import Prepared
from orders_core.store.uow import Store, UnitOfWork

ANN = Actor("ann", frozenset({"clerk"}))
SAM = Actor("sam", frozenset({"sales"}))
WEI = Actor("wei", frozenset({"warehouse"}))
PIA = Actor("pia", frozenset({"planner"}))
KAI = Actor("kai", frozenset({"cashier"}))
MEI = Actor("mei", frozenset({"manager"}))

MAIL_DAYS = 30
"""Mail is switched on this many days before the last one: two years of it would only be two years of old mail."""

_ZONE_OFFSET = timedelta(hours=8)  # 上海: the demo's business day


@dataclass
class Buyer:
    """A customer of the demo: how often it orders, what it likes, on which channel."""

    code: str
    channel: str
    weight: float
    language: str
    payment: str
    likes: Sequence[str]
    is_dealer: bool
    region: str
    quits_on: int = 10_000


@dataclass
class World:
    """What the simulation remembers between days; the database remembers the rest."""

    rng: random.Random
    first: date
    buyers: list[Buyer]
    items: Mapping[str, c.Item]
    customers: Sequence[md.CustomerIn]
    arrivals: dict[date, list[tuple[str, str, list[ReceivedLine]]]] = field(default_factory=lambda: defaultdict(list))
    events: dict[date, list[TrackingEventIn]] = field(default_factory=lambda: defaultdict(list))
    deliveries: dict[date, list[str]] = field(default_factory=lambda: defaultdict(list))
    payments: dict[date, list[tuple[str, int, str]]] = field(default_factory=lambda: defaultdict(list))
    after: dict[date, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    sold: dict[tuple[str, str], deque[int]] = field(default_factory=dict)
    answers: dict[date, list[str]] = field(default_factory=lambda: defaultdict(list))
    labels: int = 0
    placed: int = 0
    refused: int = 0


def build_company(store: Store, *, first: date, seed: int = 7) -> World:
    """Set the company up on its first morning: places, people, products, prices, opening stock."""
    rng = random.Random(seed)
    items = {item.sku: item for item in c.ITEMS}
    with store.unit_of_work() as uow:
        uow.now = _at(first, 8, 0)
        rules = {
            "shortage": {"policy": "backorder"},
            "shipping": {"fee_cents": {"CNY": 1000, "USD": 800}, "free_from_cents": {"CNY": 19_900, "USD": 9_900}},
            "auto_approve": {"max_total_cents": {"CNY": 1_500_000, "USD": 300_000}},
        }
        md.change_rules(uow, MEI, md.ChangeRules(rules, "how Shanchali works"))
        for code, name, roles, mail, language in c.STAFF:
            md.save_staff(uow, MEI, md.StaffIn(code, name, roles, mail, language))
        for code, name, name_en, kind, _ in c.CHANNELS:
            policy = {"shortage": {"policy": "refuse"}} if code in ("tmall", "store") else None
            md.save_channel(uow, MEI, md.ChannelIn(code, name, kind, name_en, policy))
        for rank, (code, name, name_en, kind, region, lat, lon, is_default) in enumerate(c.LOCATIONS):
            place = md.LocationIn(code, name, name_en, kind, region, name, lat, lon, rank, is_default)
            md.save_location(uow, MEI, place)
        _save_carriers(uow)
        _save_products(uow, first)
        _save_suppliers(uow)
        _save_promotions(uow, first)
        customers, buyers = _save_customers(uow, rng)
        for code, *_ in c.LOCATIONS:
            lines = [
                StockIn(
                    item.sku,
                    max(2, round(item.weekly * c.SHARE[code] * 6)),
                    lot_code=f"{item.sku}-A" if item.lots else None,
                    expiry_date=first + timedelta(days=item.shelf_life_days or 0) if item.lots else None,
                    unit_cost_cents=round(item.cost_yuan * 100),
                )
                for item in c.ITEMS
                if item.born == 0
            ]
            opening_stock(uow, MEI, OpeningStock(code, lines, idem_key=f"opening:{code}"))
    return World(rng, first, buyers, items, customers)


def _save_carriers(uow: UnitOfWork) -> None:
    for code, name, name_en, base, days in (
        ("SF", "顺丰速运", "SF Express", 1800, 1),
        ("ZTO", "中通快递", "ZTO", 800, 3),
    ):
        rates = [md.RateIn(None, base, 300, days), md.RateIn("重庆", base + 300, 400, days + 1)]
        md.save_carrier(uow, MEI, md.CarrierIn(code, name, name_en, rates=rates))
    md.save_carrier(uow, MEI, md.CarrierIn("OWN", "自送", "Own truck", "own_truck", needs_tracking_number=False))
    md.save_carrier(uow, MEI, md.CarrierIn("PICKUP", "自提", "Pick-up", "pick_up", needs_tracking_number=False))


def _save_products(uow: UnitOfWork, first: date) -> None:
    since = first - timedelta(days=30)
    for i, item in enumerate(c.ITEMS):
        cents = round(item.price_yuan * 100)
        prices = [
            md.PriceIn("list", cents, since),
            md.PriceIn("level", round(cents * 0.82), since, level_code="dealer"),
            md.PriceIn("floor", round(item.cost_yuan * 110), since),
            md.PriceIn("list", round(cents / 5.5), since, currency="USD"),
        ]
        if item.box:
            prices.append(md.PriceIn("list", round(cents * item.box * 0.93), since, unit="box"))
        barcode = f"69{40000 + i:05d}{i * 37 % 100000:05d}"
        sku = md.SkuIn(
            item.sku,
            item.name,
            item.name_en,
            {"规格": item.spec} if item.spec else None,
            is_lot_tracked=item.lots,
            weight_g=item.weight_g,
            shelf_life_days=item.shelf_life_days,
            boxes={"box": item.box} if item.box else {},
            barcodes={barcode: "each"},
            prices=prices,
            unit_cost_cents=round(item.cost_yuan * 100),
            supply_mode="make" if item.made else "stock",
        )
        zh, en = c.CATEGORIES[item.category]
        launched = first + timedelta(days=item.born)
        product = md.ProductIn(item.sku, item.name, [sku], item.name_en, zh, en, "山茶里", 1300, launched_date=launched)
        md.save_product(uow, MEI, product)
    for code, (name, name_en, yuan, parts, _, _) in c.KITS.items():
        prices = [md.PriceIn("list", round(yuan * 100), since), md.PriceIn("list", round(yuan * 18), since, "USD")]
        kit = md.SkuIn(code, name, name_en, components=parts, prices=prices, weight_g=900)
        md.save_product(uow, MEI, md.ProductIn(code, name, [kit], name_en, "礼盒", "Gift boxes", "山茶里", 1300))
    md.save_gift_rule(uow, MEI, md.GiftIn("TGY-500", 2, "CX-1", 1))


def _save_suppliers(uow: UnitOfWork) -> None:
    for code, name, name_en, days, sd, minimum, mail in c.SUPPLIERS:
        offers = [
            md.OfferedSku(
                item.sku,
                round(item.cost_yuan * 100),
                min_order_qty=max(6, round(item.weekly)),
                pack_qty=item.box or 6,
            )
            for item in c.ITEMS
            if item.supplier == code and not item.made
        ]
        closed = [first + timedelta(days=n) for first in c.NEW_YEAR.values() for n in range(-5, 12)]
        supplier = md.SupplierIn(
            code, name, days, name_en, sd, 7, minimum, email=mail, offers=offers, closed_days=closed
        )
        md.save_supplier(uow, MEI, supplier)


def _save_promotions(uow: UnitOfWork, first: date) -> None:
    for year in sorted({first.year, first.year + 1, first.year + 2}):
        for month, day, name, name_en in ((6, 16, "618 满减", "618"), (11, 9, "双11 满减", "Singles' Day")):
            starts = _at(date(year, month, day), 0, 0)
            rule = {"from_cents": 30_000, "off_cents": 4_000}
            promotion = md.PromotionIn(
                f"{year}-{month}", name, "order_threshold", rule, starts, starts + timedelta(days=4), name_en, 10
            )
            md.save_promotion(uow, MEI, promotion)


def _save_customers(uow: UnitOfWork, rng: random.Random) -> tuple[list[md.CustomerIn], list[Buyer]]:
    skus = [item.sku for item in c.ITEMS if item.sku != "CX-1"] + list(c.KITS)
    weight = {item.sku: item.weekly for item in c.ITEMS} | {code: kit[4] for code, kit in c.KITS.items()}
    cities = rng.choices(c.CITIES, [city[4] for city in c.CITIES], k=180)
    customers: list[md.CustomerIn] = []
    buyers = []
    for i, (region, city, lat, lon, _) in enumerate(cities):
        is_english = i % 11 == 3
        is_dealer = not is_english and i % 4 == 0
        surname = c.SURNAMES[i * 7 % len(c.SURNAMES)]
        if is_english:
            name = c.PEOPLE_EN[i // 11 % len(c.PEOPLE_EN)]
        elif is_dealer:
            name = f"{city}{surname}记{c.SHOPS_ZH[i // 4 % len(c.SHOPS_ZH)]}"
        else:
            name = surname + rng.choice(("女士", "先生"))
        channel = (
            "api" if is_dealer and i % 16 == 0 else rng.choices(("web", "tmall", "phone", "store"), (42, 26, 14, 10))[0]
        )
        if is_dealer and channel == "tmall":
            channel = "phone"
        code = f"C{1000 + i}"
        customers.append(
            md.CustomerIn(
                code,
                name,
                "business" if is_dealer else "person",
                "en" if is_english else "zh",
                "USD" if is_english else "CNY",
                "dealer" if is_dealer else None,
                rng.choice((1_500_000, 3_000_000, 6_000_000)) if is_dealer else None,
                30 if is_dealer else 0,
                "sam" if is_dealer else None,
                name,
                None,
                f"1{rng.choice((38, 39, 58, 86))}{rng.randrange(10**8):08d}",
                None,
                f"{rng.choice(('人民路', '中山路', '解放路', '建国路', '和平路'))} {rng.randrange(1, 400)} 号",
                city,
                None,
                region,
                latitude=round(lat + rng.uniform(-0.2, 0.2), 4),
                longitude=round(lon + rng.uniform(-0.2, 0.2), 4),
                consents=(("mail", "marketing", rng.random() < 0.6),),
            ),
        )
        md.save_customer(uow, MEI, customers[-1])
        likes = rng.choices(skus, [weight[sku] for sku in skus], k=14 if is_dealer else 7)
        payment = "credit" if is_dealer else rng.choices(("prepaid", "on_delivery"), (8, 2))[0]
        quits = rng.randrange(200, 700) if rng.random() < 0.12 else 10_000
        buyers.append(
            Buyer(
                code,
                channel,
                (2.2 if is_dealer else 1.0) * rng.lognormvariate(0, 0.7),
                "en" if is_english else "zh",
                payment,
                likes,
                is_dealer,
                region,
                quits,
            )
        )
    return customers, buyers


def _at(day: date, hour: int, minute: int) -> datetime:
    """An instant of the business day, in UTC."""
    return datetime.combine(day, time(hour, minute), tzinfo=UTC) - _ZONE_OFFSET


def live_through(store: Store, world: World, *, days: int, orders_per_day: float) -> Iterator[tuple[date, int]]:
    """Simulate day after day, one commit each; yields the day and the orders so far."""
    clock = store.clock
    assert isinstance(clock, FixedClock), "the demo lives on simulated time"
    for n in range(days):
        day = world.first + timedelta(days=n)
        clock.set(_at(day, 21, 0))
        with store.unit_of_work() as uow:
            _one_day(uow, world, n, day, orders_per_day, days_left=days - 1 - n)
        yield day, world.placed


def _one_day(uow: UnitOfWork, world: World, n: int, day: date, orders_per_day: float, *, days_left: int) -> None:
    is_last = days_left == 0
    rng = world.rng
    uow.now = _at(day, 8, 30)
    if days_left == MAIL_DAYS:
        _start_writing_mail(uow, world)
    _receive(uow, world, day)
    _carriers(uow, world, day)
    if not is_shut(day):
        _clear_review(uow, world, day)
        uow.now = _at(day, 10, 0)
        _ship_what_is_ready(uow, world, day, is_last=is_last)
    # on the last day some orders are left lying in every stage, so that there is something to do
    count = _poisson(rng, orders_per_day * traffic(day) * (2.0 if is_last else 1.0))
    active = [b for b in world.buyers if n < b.quits_on]
    for i, buyer in enumerate(rng.choices(active, [b.weight for b in active], k=count)):
        uow.now = _at(day, 9 + i * 11 // max(1, count), rng.randrange(60))
        _order(uow, world, n, day, buyer)
    if is_last:
        uow.now = _at(day, 17, 30)
        _leave_questions(uow, world, day)
    uow.now = _at(day, 18, 0)
    _money(uow, world, day)
    _after_sales(uow, world, day)
    if n % 7 == 5 and not is_shut(day):
        _make(uow, world)
    if n % 7 == 3 and not is_shut(day):
        uow.now = _at(day, 19, 0)
        _buy(uow, world, n, day)
    if n % 30 == 29:
        _ask(uow, world, day)


def _leave_questions(uow: UnitOfWork, world: World, day: date) -> None:
    """What a desk finds in the morning: a large order, one that looks sent twice, a return, a parcel in trouble."""
    large, twice = [b for b in world.buyers if b.is_dealer and b.payment == "credit" and b.language == "zh"][:2]
    in_stock = [item.sku for item in sorted(c.ITEMS, key=lambda item: -item.price_yuan) if item.born == 0][:4]
    event = PlaceOrder("phone", large.code, [LineIn(sku, 15) for sku in in_stock], idem_key="event", note="周年庆用")
    _try(uow, place_order, SAM, event)
    for key in ("once", "twice"):
        uow.now += timedelta(minutes=9)
        again = PlaceOrder("phone", twice.code, [LineIn(in_stock[-1], 2)], idem_key=f"{key}-{day:%y%m%d}")
        _try(uow, place_order, SAM, again)
    arrived = uow.rows(
        select(t.Order.number)
        .join(t.OrderLine, t.OrderLine.order_id == t.Order.id)
        .where(t.Order.status == "delivered", t.OrderLine.line_no == 1, t.OrderLine.kind == "item")
        .order_by(t.Order.id.desc())
        .limit(1)
    )
    for row in arrived:
        _try(uow, request_return, ANN, RequestReturn(row.number, {1: 1}, "颜色与图片不符"))
    to_come = next((event for due in sorted(world.events) if due > day for event in world.events[due]), None)
    if to_come is not None:
        record_event(uow, SYSTEM, _event(to_come.carrier, to_come.tracking_number, "exception", day, 0))


def _start_writing_mail(uow: UnitOfWork, world: World) -> None:
    """The company asks for mail addresses and switches mail on; before, it told its customers by phone."""
    by_code = {buyer.code: buyer for buyer in world.buyers}
    for customer in world.customers:
        if by_code[customer.code].channel in ("web", "api", "phone"):
            md.save_customer(uow, MEI, replace(customer, email=f"{customer.code.lower()}@mail.example"))
    change = md.ChangeRules({"notices": {"clerks": ["desk@shanchali.example"]}}, "mail is switched on")
    md.change_rules(uow, MEI, change)


def _try(uow: UnitOfWork, service: Callable[[UnitOfWork, Actor, Any], Any], actor: Actor, command: Any) -> Any:
    """Run one command of the day; a refusal leaves no trace and returns None."""
    try:
        with uow.one_of_many():
            return service(uow, actor, command)
    except OrdersError:
        return None


def _poisson(rng: random.Random, mean: float) -> int:
    count, left = 0, rng.expovariate(1)
    while left < mean:
        count += 1
        left += rng.expovariate(1)
    return count


def _basket(world: World, n: int, day: date, buyer: Buyer) -> list[LineIn]:
    """What a buyer puts in: mostly what it likes, weighted by season and by what is alive."""
    rng = world.rng
    weights: dict[str, float] = {}
    for sku in buyer.likes:
        item = world.items.get(sku)
        if item is None:
            weights[sku] = c.KITS[sku][4] * season(c.KITS[sku][5], day)
        elif item.born <= n < item.dies + 40:
            ramp = min(1.0, (n - item.born) / 40) if item.born else 1.0
            fade = 1.0 if n < item.dies else max(0.0, 1 - (n - item.dies) / 40)
            weights[sku] = (3 + item.weekly) * season(item.season, day) * ramp * fade
    for item in c.ITEMS:
        if item.born <= n < item.dies and item.sku != "CX-1":
            weights[item.sku] = weights.get(item.sku, 0) + 0.12 * item.weekly * season(item.season, day)
    chosen: dict[str, LineIn] = {}
    skus, mass = list(weights), list(weights.values())
    for sku in rng.choices(skus, mass, k=rng.choice((1, 1, 2, 2, 3, 4)) + (3 if buyer.is_dealer else 0)):
        box = world.items[sku].box if sku in world.items else 0
        if buyer.is_dealer and box and rng.random() < 0.2:
            chosen[sku] = LineIn(sku, 1, "box")
        else:
            cheap = sku in world.items and world.items[sku].price_yuan < 25
            qty = rng.choice((2, 3, 4, 6)) if buyer.is_dealer or cheap else rng.choice((1, 1, 1, 2, 2, 3))
            chosen[sku] = LineIn(sku, qty)
    if buyer.language == "en":
        return [LineIn(line.sku, line.qty) for line in chosen.values()]
    return list(chosen.values())


def _order(uow: UnitOfWork, world: World, n: int, day: date, buyer: Buyer) -> None:
    rng = world.rng
    lines = _basket(world, n, day, buyer)
    key = f"{buyer.channel}-{day:%y%m%d}-{world.placed + world.refused}"
    by_channel = buyer.channel in ("tmall", "api")
    command = PlaceOrder(
        channel=buyer.channel,
        customer=buyer.code,
        lines=lines,
        external_id=key if by_channel else None,
        idem_key=None if by_channel else key,
        payment_method=buyer.payment,
        delivery_method="pick_up" if buyer.channel == "store" and rng.random() < 0.5 else "courier",
        requested_date=day + timedelta(days=rng.randrange(5, 15)) if rng.random() < 0.05 else None,
        priority=1 if buyer.is_dealer and rng.random() < 0.1 else 0,
    )
    actor = SAM if buyer.channel in ("phone", "store") else SYSTEM
    try:
        with uow.one_of_many():
            placed = place_order(uow, actor, command)
    except InsufficientStock as short:
        # a customer who cannot have all of it takes the rest, or goes away
        left = [line for line in lines if line.sku not in {s["sku"] for s in short.facts["short"]}]
        world.refused += 1
        placed = None
        if left and rng.random() < 0.6:
            again = PlaceOrder(**{**command.__dict__, "lines": left, "idem_key": f"{key}-b", "external_id": None})
            placed = _try(uow, place_order, actor, again)
    if placed is None:
        return
    world.placed += 1
    if buyer.payment == "prepaid":
        pays_on = day if rng.random() < 0.93 else day + timedelta(days=rng.randrange(1, 4))
        world.payments[pays_on].append((buyer.code, placed.total_cents, placed.number))
    elif buyer.payment == "credit":
        days = rng.choice((20, 25, 28, 30, 30, 33, 38))
        world.payments[day + timedelta(days=days)].append((buyer.code, placed.total_cents, placed.number))
    for line in lines:
        parts = c.KITS[line.sku][3] if line.sku in c.KITS else {line.sku: 1}
        for sku, per_kit in parts.items():
            units = line.qty * per_kit * (world.items[sku].box if line.unit == "box" else 1)
            world.sold.setdefault((sku, ""), deque(maxlen=400)).append(n * 1_000_000 + units)
    roll = rng.random()
    if roll < 0.03:
        _try(uow, cancel_order, ANN, CancelOrder(placed.number, rng.choice(("客户改主意", "重复下单", "地址有误"))))
    elif roll < 0.06 and len(lines) > 1:
        _try(uow, edit_order, ANN, EditOrder(placed.number, lines=[LineChange(1, lines[0].qty + 1)], reason="客户来电"))


_BILL = Prepared(
    select(t.Order.total_cents, t.Order.paid_cents, t.Order.refunded_cents, t.Order.status).where(
        t.Order.number == bindparam("number")
    )
)
_PICKED = Prepared(
    select(t.Shipment.number, t.Shipment.delivery_method).where(
        t.Shipment.number.in_(bindparam("numbers", expanding=True)), t.Shipment.status == "picked"
    )
)


def _money(uow: UnitOfWork, world: World, day: date) -> None:
    for customer, _, number in world.payments.pop(day, []):
        order = uow.row(_BILL, {"number": number})
        if order is None or order.status in ("cancelled", "rejected"):
            continue
        owes = order.total_cents - (order.paid_cents - order.refunded_cents)
        if owes > 0:
            method = world.rng.choice(("alipay", "wechat", "transfer"))
            payment = ReceivePayment(customer, owes, f"pay:{number}:{owes}", method, settle={number: owes})
            receive_payment(uow, KAI, payment)
    for row in uow.rows(select(t.Refund.number).where(t.Refund.status == "granted", t.Refund.origin == "live")):
        _try(uow, pay_refund, KAI, PayRefund(row.number))


def _clear_review(uow: UnitOfWork, world: World, day: date) -> None:
    """The clerks look at what waits since yesterday; prepaid orders wait for their money, then are dropped."""
    rows = uow.rows(
        select(t.Order.number, t.Order.review_reasons, t.Order.business_date).where(
            t.Order.status == "review", t.Order.business_date < day
        )
    )
    for row in rows:
        codes = {reason["code"] for reason in row.review_reasons or []}
        if "payment_waiting" in codes:
            if (day - row.business_date).days > 7:
                _try(uow, cancel_order, ANN, CancelOrder(row.number, "一周未付款"))
        elif world.rng.random() < 0.8:
            _try(uow, approve_order, ANN, ApproveOrder(row.number, reason="已电话确认"))


def _ship_what_is_ready(uow: UnitOfWork, world: World, day: date, *, is_last: bool) -> None:
    rng = world.rng
    for location, *_ in c.LOCATIONS:
        released = _try(uow, release, WEI, Release(location, shipments_per_list=12))
        if released is None or not released.shipments:
            continue
        lists = list(released.pick_lists)
        if is_last and location == "SZ":
            lists = lists[: len(lists) // 2]  # half of today's lists are still being picked when the demo opens
        for number in lists:
            pick_all(uow, WEI, PickAll(number))
        uow.now = _at(day, 16, rng.randrange(60))
        for shipment in uow.rows(_PICKED, {"numbers": list(released.shipments)}):
            _dispatch(uow, world, day, shipment)


def _dispatch(uow: UnitOfWork, world: World, day: date, shipment: Any) -> None:
    rng = world.rng
    if shipment.delivery_method != "courier":
        carrier = "PICKUP" if shipment.delivery_method == "pick_up" else "OWN"
        if _try(uow, ship_shipment, WEI, ShipShipment(shipment.number, carrier)) is not None:
            world.deliveries[day + timedelta(days=rng.randrange(0, 3))].append(shipment.number)
        return
    carrier = rng.choices(("SF", "ZTO"), (4, 6))[0]
    world.labels += 1
    number = f"{carrier}{10_000_000 + world.labels * 7919 % 90_000_000:08d}{world.labels % 10}"
    if _try(uow, pack, WEI, Pack(shipment.number, [PackageIn(tracking_number=number)], carrier)) is None:
        return
    shipped = _try(uow, ship_shipment, WEI, ShipShipment(shipment.number, carrier))
    if shipped is None:
        return
    days = rng.choices((1, 2, 3, 4), (5, 3, 1.5, 0.5) if carrier == "SF" else (1, 4, 4, 1.5))[0]
    if rng.random() < 0.04:
        days += rng.randrange(2, 7)  # a late carrier
        world.events[day + timedelta(days=3)].append(_event(carrier, number, "exception", day, 3))
    if days > 2 or rng.random() < 0.15:
        world.events[day + timedelta(days=1)].append(_event(carrier, number, "in_transit", day, 1))
    arrives = day + timedelta(days=days + (7 if is_shut(day + timedelta(days=days)) else 0))
    world.events[arrives].append(_event(carrier, number, "delivered", arrives, 0))
    order = shipped.orders[0].number
    roll = rng.random()
    if roll < 0.035:
        world.after[arrives + timedelta(days=rng.randrange(1, 9))].append(("return", order))
    elif roll < 0.05:
        world.after[arrives + timedelta(days=rng.randrange(0, 3))].append(("ticket", order))


def _event(carrier: str, number: str, status: str, day: date, later: int) -> TrackingEventIn:
    at = _at(day + timedelta(days=later), 7, 30)
    return TrackingEventIn(carrier, number, status, at, f"{number}:{status}:{later}")


def _carriers(uow: UnitOfWork, world: World, day: date) -> None:
    for event in world.events.pop(day, []):
        record_event(uow, SYSTEM, event)
    for number in world.deliveries.pop(day, []):
        _try(uow, confirm_delivery, WEI, ConfirmDelivery(number, "本人"))


def _after_sales(uow: UnitOfWork, world: World, day: date) -> None:
    rng = world.rng
    for what, number in world.after.pop(day, []):
        if what == "decline":
            _try(uow, decide_return, ANN, DecideReturn(number, is_approved=False, reason="已拆封使用"))
            continue
        if what == "ticket":
            kind = rng.choice(("damaged", "missing", "late", "quality"))
            words = {"damaged": "杯子碎了一只", "missing": "少发一件", "late": "还没收到", "quality": "有茶垢味"}[kind]
            ticket = _try(uow, open_ticket, ANN, OpenTicket(number, kind, words, f"订单 {number}:{words}"))
            if ticket is not None and rng.random() < 0.85:
                _try(uow, solve_ticket, ANN, SolveTicket(ticket.number, "已补偿并致歉"))
            continue
        line = uow.rows(
            select(t.OrderLine.line_no, t.OrderLine.shipped_qty)
            .join(t.Order, t.Order.id == t.OrderLine.order_id)
            .where(t.Order.number == number, t.OrderLine.parent_line_id.is_(None), t.OrderLine.shipped_qty > 0)
            .order_by(t.OrderLine.line_no)
            .limit(1)
        )
        if not line:
            continue
        qty = min(line[0].shipped_qty, rng.choice((1, 1, 2)))
        reason = rng.choice(("不喜欢", "与描述不符", "买多了", "包装破损"))
        asked = _try(uow, request_return, ANN, RequestReturn(number, {line[0].line_no: qty}, reason))
        if asked is None:
            continue
        if rng.random() < 0.1:
            world.after[day + timedelta(days=2)].append(("decline", asked.number))
            continue
        _try(uow, decide_return, ANN, DecideReturn(asked.number, is_approved=True))
        if _try(uow, receive_return, WEI, ReceiveReturn(asked.number, {line[0].line_no: qty}, "SZ")) is None:
            continue
        good = Disposition(line[0].line_no, restock_qty=qty)
        bad = Disposition(line[0].line_no, scrap_qty=qty)
        _try(uow, inspect_return, WEI, InspectReturn(asked.number, [good if rng.random() < 0.7 else bad]))


def _ask(uow: UnitOfWork, world: World, day: date) -> None:
    tokens: list[str] = []

    def new_token() -> str:
        tokens.append(f"{world.rng.getrandbits(96):024x}")
        return tokens[-1]

    ask_customers(uow, SYSTEM, AskCustomers("https://shanchali.example/s/{token}", new_token, limit=60))
    for token in tokens:
        if world.rng.random() < 0.45:
            score = world.rng.choices((1, 2, 3, 4, 5), (3, 4, 13, 40, 40))[0]
            _try(uow, answer_follow_up, SYSTEM, AnswerFollowUp(token, score, None if score > 2 else "不太满意"))


def _receive(uow: UnitOfWork, world: World, day: date) -> None:
    for number, location, lines in world.arrivals.pop(day, []):
        _try(uow, receive_goods, WEI, ReceiveGoods(location, lines, number, idem_key=f"receipt:{number}"))


def _make(uow: UnitOfWork, world: World) -> None:
    """The workshop finishes what was asked of it; now and then a piece breaks in the kiln. Then the nightly round."""
    for row in uow.rows(
        select(t.ProductionOrder.number, t.ProductionOrder.qty, t.ProductionOrder.done_qty).where(
            t.ProductionOrder.status.in_(["open", "started"])
        )
    ):
        broken = 1 if world.rng.random() < 0.1 else 0
        left = row.qty - row.done_qty
        report = ReportProduction(row.number, left, broken, is_finished=True, idem_key=f"made:{row.number}:{left}")
        _try(uow, report_production, WEI, report)
    _try(uow, reserve_due, PIA, ReserveDue())


def _buy(uow: UnitOfWork, world: World, n: int, day: date) -> None:
    """How the buyers really order: look at four weeks of sales and top up to a fixed cover; slow in season, so it hurts."""
    rng = world.rng
    position: dict[tuple[str, str], int] = {}
    rows = uow.rows(
        select(
            t.Sku.sku,
            t.Location.code,
            (t.StockLevel.on_hand_qty - t.StockLevel.reserved_qty - t.StockLevel.backordered_qty).label("qty"),
        )
        .join(t.Sku, t.Sku.id == t.StockLevel.sku_id)
        .join(t.Location, t.Location.id == t.StockLevel.location_id)
    )
    for row in rows:
        position[row.sku, row.code] = row.qty
    for arrivals in world.arrivals.values():
        for _, location, lines in arrivals:
            for line in lines:
                position[line.sku, location] = position.get((line.sku, location), 0) + line.qty
    wanted: dict[tuple[str, str], list[PurchaseLine]] = defaultdict(list)
    for item in c.ITEMS:
        if not item.born <= n < item.dies or (item.made and n % 2):
            continue
        recent = sum(x % 1_000_000 for x in world.sold.get((item.sku, ""), ()) if x // 1_000_000 > n - 28)
        days = next(s[3] for s in c.SUPPLIERS if s[0] == item.supplier)
        weekly = recent / 4 if n > 28 else item.weekly
        cover = (days + 7) / 7 + 1.2
        for code, *_ in c.LOCATIONS:
            if rng.random() < 0.06:
                continue  # forgotten this week
            target = max(3.0, weekly * c.SHARE[code] * cover)
            short = target - position.get((item.sku, code), 0)
            if short > target * 0.35:
                pack = item.box or 6
                wanted[item.supplier, code].append(PurchaseLine(item.sku, -(-round(short) // pack) * pack))
    for (supplier, location), lines in wanted.items():
        order = _try(uow, create_purchase_order, PIA, CreatePurchaseOrder(supplier, location, lines))
        if order is None:
            continue
        days = next(s[3] for s in c.SUPPLIERS if s[0] == supplier)
        spread = next(s[4] for s in c.SUPPLIERS if s[0] == supplier)
        arrives = day + timedelta(days=max(2, round(rng.gauss(days, spread))))
        while is_shut(arrives):
            arrives += timedelta(days=7)
        if rng.random() < 0.7:
            _try(uow, confirm_purchase_order, PIA, ConfirmPurchaseOrder(order.number, day + timedelta(days=days)))
        received = [
            ReceivedLine(
                line.sku,
                line.qty,
                lot_code=f"{line.sku}-{arrives:%y%m%d}" if world.items[line.sku].lots else None,
                expiry_date=(
                    arrives + timedelta(days=world.items[line.sku].shelf_life_days or 0)
                    if world.items[line.sku].lots
                    else None
                ),
            )
            for line in lines
        ]
        world.arrivals[arrives].append((order.number, location, received))
