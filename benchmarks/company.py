"""The company the speed and fault measurements work on, and the orders its customers place.

3,000 SKUs with stock at 3 locations; list, level, tier, promotion and floor prices for all and contract prices for
some; customers with a credit limit and coordinates; two promotions running; every check switched on. Seeded.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Table, func, insert, select, update

from orders_core.domain.permissions import Actor
from orders_core.services.drafting import LineIn
from orders_core.services.place_order import PlaceOrder
from orders_core.store import tables
from orders_core.store.uow import Store, UnitOfWork

CLERK = Actor("bench", frozenset({"clerk"}))
CHANNEL = "BENCH"
HOT_SKU = "BENCH-00000"
_LOCATIONS = (("BENCH-SH", 31.2, 121.5), ("BENCH-GZ", 23.1, 113.3), ("BENCH-BJ", 39.9, 116.4))
_FIRST_DAY = date(2020, 1, 1)
_RULES = {
    "checks": dict.fromkeys(
        ("customer", "address", "price", "credit", "payment", "duplicate", "stock", "amount"), "review"
    ),
    "auto_approve": {"is_on": True, "max_total_cents": {"CNY": 100_000_000}},
    "shortage": {"policy": "refuse"},
}


@dataclass(frozen=True)
class Company:
    """What orders are made from: codes, in the order they were seeded."""

    skus: tuple[str, ...]
    customers: tuple[str, ...]
    channel: str = CHANNEL

    def orders(self, seed: str, *, key: str, sku_count: int = 3, is_hot: bool = False) -> Orders:
        """An endless, repeatable stream of orders with keys of its own; `is_hot`: HOT_SKU is in every one."""
        return Orders(self, random.Random(seed), key, sku_count, is_hot)


class Orders:
    """Gives one PlaceOrder after another: a customer, `sku_count` different SKUs, 1 to 5 of each."""

    def __init__(self, company: Company, rng: random.Random, key: str, sku_count: int, is_hot: bool) -> None:
        self._company, self._rng, self._key, self._sku_count, self._is_hot = company, rng, key, sku_count, is_hot
        self._number = 0

    def next(self) -> PlaceOrder:
        self._number += 1
        skus = self._rng.sample(self._company.skus, self._sku_count)
        if self._is_hot and HOT_SKU not in skus:
            skus[0] = HOT_SKU
        lines = [(sku, self._rng.randint(1, 5)) for sku in skus]
        return order_of(self._rng.choice(self._company.customers), lines, key=f"{self._key}-{self._number}")


def order_of(customer: str, lines: list[tuple[str, int]], *, key: str) -> PlaceOrder:
    """An order on credit for `(sku, qty)` lines, as a clerk enters it."""
    return PlaceOrder(CHANNEL, customer, tuple(LineIn(sku, qty) for sku, qty in lines), idem_key=key)


def load_company(store: Store) -> Company:
    """The company as it was seeded; empty when it is not there."""
    with store.reading() as conn:
        skus = conn.scalars(select(tables.Sku.sku).where(tables.Sku.sku.like("BENCH-%")).order_by(tables.Sku.id))
        customers = conn.scalars(
            select(tables.Customer.code).where(tables.Customer.code.like("BENCH-%")).order_by(tables.Customer.id)
        )
        return Company(tuple(skus), tuple(customers))


def seed_company(
    store: Store, *, sku_count: int = 3000, customer_count: int = 200, stock_qty: int = 1_000_000
) -> Company:
    """Write the company in one transaction, `stock_qty` of each SKU in all, unless it is there already."""
    company = load_company(store)
    if not company.skus:
        with store.unit_of_work() as uow:
            company = _Seeding(uow, random.Random(2026)).write(sku_count, customer_count, stock_qty)
    return company


class _Seeding:
    def __init__(self, uow: UnitOfWork, rng: random.Random) -> None:
        self._uow, self._rng = uow, rng

    def write(self, sku_count: int, customer_count: int, stock_qty: int) -> Company:
        uow = self._uow
        version = 1 + (uow.conn.scalar(select(func.max(tables.RuleSet.version))) or 0)
        uow.conn.execute(update(tables.RuleSet).values(is_current=False))
        self._insert(
            tables.RuleSet,
            [
                {
                    "version": version,
                    "is_current": True,
                    "body": _RULES,
                    "author": "bench",
                    "reason": "benchmark",
                    "created_at": uow.now,
                }
            ],
        )
        self._insert(tables.Channel, [{"id": uow.new_id(), "code": CHANNEL, "name": "基准", "kind": "phone"}])
        location_ids = self._locations()
        customer_ids = self._customers(customer_count)
        sku_ids = self._skus(sku_count)
        self._stock(sku_ids, location_ids, stock_qty)
        self._prices(sku_ids, customer_ids)
        self._promotions()
        return Company(tuple(sku_ids), tuple(customer_ids))

    def _insert(self, table: Any, rows: list[dict[str, Any]]) -> None:
        target: Table = table.__table__
        self._uow.conn.execute(insert(target), rows)
        if "id" in target.c and ("version" in target.c or table is tables.StockMovement):
            for row in rows:
                self._uow.changed(target.name, row["id"], 1, "insert")

    def _locations(self) -> list[int]:
        rows = [
            {
                "id": self._uow.new_id(),
                "code": code,
                "name": code,
                "rank": rank,
                "latitude": latitude,
                "longitude": longitude,
            }
            for rank, (code, latitude, longitude) in enumerate(_LOCATIONS)
        ]
        self._insert(tables.Location, rows)
        return [row["id"] for row in rows]

    def _customers(self, count: int) -> dict[str, int]:
        first = self._uow.new_id(3 * count)
        customers, contacts, addresses = [], [], []
        for number in range(count):
            ident, code = first + 3 * number, f"BENCH-{number:04d}"
            customers.append(
                {
                    "id": ident,
                    "code": code,
                    "name": f"客户 {number}",
                    "level_code": "A",
                    "credit_limit_cents": 10**13,
                    "terms_days": 30,
                    "created_at": self._uow.now,
                }
            )
            contacts.append(
                {
                    "id": ident + 1,
                    "customer_id": ident,
                    "name": "王五",
                    "phone": "+8613800138000",
                    "email": f"bench{number}@example.cn",
                    "is_primary": True,
                }
            )
            addresses.append(
                {
                    "id": ident + 2,
                    "customer_id": ident,
                    "recipient": "王五",
                    "phone": "+8613800138000",
                    "region": "上海",
                    "city": "上海",
                    "street": f"人民路 {number} 号",
                    "latitude": self._rng.uniform(22, 41),
                    "longitude": self._rng.uniform(110, 122),
                    "is_default": True,
                }
            )
        self._insert(tables.Customer, customers)
        self._insert(tables.CustomerContact, contacts)
        self._insert(tables.CustomerAddress, addresses)
        return {row["code"]: row["id"] for row in customers}

    def _skus(self, count: int) -> dict[str, int]:
        first = self._uow.new_id(2 * count)
        products, skus = [], []
        for number in range(count):
            code, name = f"BENCH-{number:05d}", f"商品 {number}"
            products.append(
                {"id": first + 2 * number, "code": code, "name": name, "tax_rate_bp": 1300, "created_at": self._uow.now}
            )
            skus.append(
                {
                    "id": first + 2 * number + 1,
                    "product_id": first + 2 * number,
                    "sku": code,
                    "name": name,
                    "tax_rate_bp": 1300,
                    "weight_g": self._rng.randint(50, 2000),
                    "created_at": self._uow.now,
                }
            )
        self._insert(tables.Product, products)
        self._insert(tables.Sku, skus)
        return {row["sku"]: row["id"] for row in skus}

    def _stock(self, sku_ids: dict[str, int], location_ids: list[int], qty: int) -> None:
        uow = self._uow
        share, rest = divmod(qty, len(location_ids))
        first = uow.new_id(len(sku_ids) * len(location_ids))
        levels, movements = [], []
        for sku_id in sku_ids.values():
            for i, location_id in enumerate(location_ids):
                here = share + rest * (i == 0)
                if here == 0:
                    continue
                levels.append({"sku_id": sku_id, "location_id": location_id, "on_hand_qty": here})
                movements.append(
                    {
                        "id": first + len(movements),
                        "sku_id": sku_id,
                        "location_id": location_id,
                        "qty": here,
                        "reason": "opening",
                        "at": uow.now,
                        "business_date": uow.today,
                        "actor": "bench",
                    }
                )
        self._insert(tables.StockLevel, levels)
        self._insert(tables.StockMovement, movements)

    def _prices(self, sku_ids: dict[str, int], customer_ids: dict[str, int]) -> None:
        rows: list[dict[str, Any]] = []

        def add(sku_id: int, kind: str, cents: int, **more: Any) -> None:
            # Every row needs every key: an executemany has one list of columns.
            row = {"level_code": None, "customer_id": None, "min_qty": 1, "valid_to_date": None} | more
            rows.append(
                row
                | {
                    "sku_id": sku_id,
                    "kind": kind,
                    "currency": "CNY",
                    "unit_price_cents": cents,
                    "valid_from_date": _FIRST_DAY,
                }
            )

        for sku_id in sku_ids.values():
            cents = self._rng.randint(500, 20_000)
            add(sku_id, "list", cents)
            add(sku_id, "list", cents * 95 // 100, min_qty=10)
            add(sku_id, "list", cents * 2, valid_to_date=_FIRST_DAY + timedelta(days=365))  # over
            add(sku_id, "level", cents * 92 // 100, level_code="A")
            add(sku_id, "level", cents * 97 // 100, level_code="B")
            add(sku_id, "floor", cents // 2)
            if self._rng.random() < 0.1:
                add(sku_id, "promotion", cents * 85 // 100)
        listed = [row for row in rows if row["kind"] == "list" and row["min_qty"] == 1 and row["valid_to_date"] is None]
        for customer_id in customer_ids.values():
            for row in self._rng.sample(listed, min(50, len(listed))):
                add(row["sku_id"], "contract", row["unit_price_cents"] * 80 // 100, customer_id=customer_id)
        first = self._uow.new_id(len(rows))
        at = self._uow.now
        self._insert(tables.Price, [row | {"id": first + i, "created_at": at} for i, row in enumerate(rows)])

    def _promotions(self) -> None:
        starts_at = self._uow.now - timedelta(days=1)
        rules = {
            "BENCH-5OFF": ("percent", {"ratio_bp": 500, "from_cents": 100_000}),
            "BENCH-SHIP": ("free_shipping", {"from_cents": 50_000}),
        }
        self._insert(
            tables.Promotion,
            [
                {
                    "id": self._uow.new_id(),
                    "code": code,
                    "name": code,
                    "kind": kind,
                    "rule": rule,
                    "starts_at": starts_at,
                }
                for code, (kind, rule) in rules.items()
            ],
        )
