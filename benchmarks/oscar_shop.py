"""django-oscar's `OrderCreator.place_order` on the same work, for benchmarks/place_order.py to stand beside ours.

Runs in an environment of its own (`.venv-oscar`), started by place_order.py:

    python -m benchmarks.oscar_shop URL seed --skus 3000 --customers 200
    python -m benchmarks.oscar_shop URL run --processes 8 --orders 400 [--hot]

The last line on standard output is a JSON object. What is measured is kind to oscar: baskets are filled, priced and
their offers applied beforehand, analytics commit together with the order, and only `place_order` itself is timed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from decimal import Decimal
from typing import Any

from benchmarks.common import Address, Speed, paced, run_workers

WARM_UP_ORDERS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    commands = parser.add_subparsers(dest="command", required=True)
    seeding = commands.add_parser("seed")
    seeding.add_argument("--skus", type=int, required=True)
    seeding.add_argument("--customers", type=int, required=True)
    running = commands.add_parser("run")
    running.add_argument("--processes", type=int, required=True)
    running.add_argument("--orders", type=int, required=True)
    running.add_argument("--hot", action="store_true")
    asked = parser.parse_args()
    configure(asked.url)
    if asked.command == "seed":
        seed(skus=asked.skus, customers=asked.customers)
        result: dict[str, Any] = {}
    else:
        result = run(processes=asked.processes, orders=asked.orders, is_hot=asked.hot)
    print(json.dumps(result))


def configure(url: str) -> None:
    """Oscar's documented settings on our database; SQLite in WAL with synchronous=FULL and BEGIN IMMEDIATE, as we run."""
    import django
    from django.conf import settings
    from oscar import defaults

    address = Address.of(url)
    if address.is_sqlite:
        options = {
            "timeout": 60,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;"
            " PRAGMA temp_store=MEMORY;",
        }
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": address.name, "OPTIONS": options}
    else:
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": address.name,
            "HOST": address.host or "",
            "PORT": address.port or "",
            "USER": address.user or "",
            "PASSWORD": address.password or "",
        }
    shop_apps = (
        "analytics checkout address shipping catalogue catalogue.reviews communication partner basket payment offer order"
        " customer search voucher wishlists dashboard dashboard.reports dashboard.users dashboard.orders"
        " dashboard.catalogue dashboard.offers dashboard.partners dashboard.pages dashboard.ranges dashboard.reviews"
        " dashboard.vouchers dashboard.communications dashboard.shipping"
    )
    settings.configure(
        **{name: getattr(defaults, name) for name in dir(defaults) if name.isupper()},
        SECRET_KEY="benchmark",
        DATABASES={"default": {**database, "CONN_MAX_AGE": None}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        MIGRATION_MODULES=_NoMigrations(),  # the tables straight from the models: the same tables, a minute sooner
        SITE_ID=1,
        USE_TZ=True,
        HAYSTACK_CONNECTIONS={"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}},
        INSTALLED_APPS=[
            *("django.contrib." + app for app in ("admin", "auth", "contenttypes", "sessions", "messages")),
            *("django.contrib." + app for app in ("staticfiles", "sites", "flatpages")),
            "oscar.config.Shop",
            *(f"oscar.apps.{app}.apps.{_CONFIGS.get(app, app.title() + 'Config')}" for app in shop_apps.split()),
            *("widget_tweaks", "haystack", "treebeard", "django_tables2"),
        ],
    )
    django.setup()


# How oscar calls the apps whose class is not named after the folder.
_DASHBOARD = "reports users orders catalogue offers partners pages ranges reviews vouchers communications shipping"
_CONFIGS = {"catalogue.reviews": "CatalogueReviewsConfig"} | {
    f"dashboard.{part}": f"{part.title()}DashboardConfig" for part in _DASHBOARD.split(" ")
}


class _NoMigrations:
    def __contains__(self, app: str) -> bool:
        return True

    def __getitem__(self, app: str) -> None:
        return None


def seed(*, skus: int, customers: int) -> None:
    """Tables, one partner, `skus` products each with a stock record, `customers` users, one offer over all products."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import transaction
    from oscar.core.loading import get_model

    call_command("migrate", run_syncdb=True, verbosity=0)
    with transaction.atomic():
        get_model("address", "Country").objects.create(
            iso_3166_1_a2="CN", iso_3166_1_a3="CHN", iso_3166_1_numeric="156", name="China", printable_name="China"
        )
        kind = get_model("catalogue", "ProductClass").objects.create(
            name="Goods", requires_shipping=True, track_stock=True
        )
        partner = get_model("partner", "Partner").objects.create(name="Dinghuo", code="dinghuo")
        product_model, stock_model = get_model("catalogue", "Product"), get_model("partner", "StockRecord")
        for number in range(skus):
            product = product_model(title=f"Product {number}", upc=f"UPC{number:05d}", product_class=kind)
            product.slug = f"product-{number}"
            product_model.objects.bulk_create([product])
            stock_model.objects.create(
                product=product,
                partner=partner,
                partner_sku=f"SKU-{number:05d}",
                price_currency="CNY",
                price=Decimal(500 + number % 900) / 100,
                num_in_stock=1_000_000,
            )
        users = get_user_model()
        users.objects.bulk_create(
            [users(username=f"c{number}", email=f"c{number}@x.cn") for number in range(customers)]
        )
        every_product = get_model("offer", "Range").objects.create(name="Everything", includes_all_products=True)
        offer = get_model("offer", "ConditionalOffer")
        offer.objects.create(
            name="5 % from 20",
            offer_type=offer.SITE,
            condition=get_model("offer", "Condition").objects.create(range=every_product, type="Value", value=20),
            benefit=get_model("offer", "Benefit").objects.create(range=every_product, type="Percentage", value=5),
        )


def run(*, processes: int, orders: int, is_hot: bool) -> dict[str, Any]:
    """Speed of `orders` orders spread over `processes`, statements of one, and units promised beyond stock."""
    from django.db import connections
    from oscar.core.loading import get_model

    user_ids = list(get_model("auth", "User").objects.order_by("id").values_list("id", flat=True))
    product_ids = list(get_model("catalogue", "Product").objects.order_by("id").values_list("id", flat=True))
    statements = _count_statements(user_ids, product_ids)
    connections.close_all()  # before the fork: a connection belongs to one process
    jobs = [[seed, orders // processes, is_hot, user_ids, product_ids] for seed in range(processes)]
    reports = run_workers(_place, jobs, method="fork")
    speed = Speed.of([pace for pace, _ in reports])
    whole = sum(seconds for _, seconds in reports)
    return {
        **speed.as_dict(),
        "statements": statements,
        "checkout_cpu_ms_each": round(speed.cpu_ms_each + 1000 * whole / speed.done, 3),
    }


def _count_statements(user_ids: list[int], product_ids: list[int]) -> float:
    """Mean calls of a cursor's execute and executemany while placing one order, transaction control left out."""
    from django.db import connection

    counted = 0

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal counted
        counted += not sql.startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"))
        return execute(sql, params, many, context)

    shop = _Shop(random.Random("statements"), user_ids, product_ids, is_hot=False)
    shop.place(shop.fill_basket())
    baskets = [shop.fill_basket() for _ in range(10)]
    with connection.execute_wrapper(count):
        for basket in baskets:
            shop.place(basket)
    return counted / len(baskets)


def _place(gate: Any, seed: int, orders: int, is_hot: bool, user_ids: list[int], product_ids: list[int]) -> Any:
    """A worker: its pace over placing the orders, and the CPU seconds that filling their baskets took before."""
    shop = _Shop(random.Random(seed), user_ids, product_ids, is_hot=is_hot)
    for _ in range(WARM_UP_ORDERS):
        shop.place(shop.fill_basket())
    cpu = time.process_time()
    baskets = [shop.fill_basket() for _ in range(orders)]
    filling_seconds = time.process_time() - cpu
    with paced(gate) as pace:
        for basket in baskets:
            shop.place(basket)
        pace.done = orders
    return pace, filling_seconds


class _Shop:
    def __init__(self, rng: random.Random, user_ids: list[int], product_ids: list[int], *, is_hot: bool) -> None:
        from oscar.core.loading import get_class, get_model

        self._rng, self._user_ids, self._product_ids, self._is_hot = rng, user_ids, product_ids, is_hot
        self._users, self._products = get_model("auth", "User"), get_model("catalogue", "Product")
        self._baskets, self._addresses = get_model("basket", "Basket"), get_model("order", "ShippingAddress")
        self._strategy = get_class("partner.strategy", "Default")()
        self._creator, self._applicator = (
            get_class("order.utils", "OrderCreator"),
            get_class("offer.applicator", "Applicator"),
        )
        self._total, self._free = (
            get_class("checkout.calculators", "OrderTotalCalculator"),
            get_class("shipping.methods", "Free"),
        )

    def fill_basket(self) -> Any:
        """A saved basket of three products with prices and offers, everything loaded."""
        from django.db import transaction

        user = self._users.objects.get(id=self._rng.choice(self._user_ids))
        with transaction.atomic():
            basket = self._baskets.objects.create(owner=user)
            basket.strategy = self._strategy
            wanted = self._rng.sample(self._product_ids, 3)
            if self._is_hot and self._product_ids[0] not in wanted:
                wanted[0] = self._product_ids[0]
            for product in self._products.objects.filter(id__in=wanted):
                basket.add_product(product, quantity=self._rng.randint(1, 5))
        basket = self._baskets.objects.select_related("owner").get(id=basket.id)
        basket.strategy = self._strategy
        self._applicator().apply(basket, user)
        return basket

    def place(self, basket: Any) -> Any:
        """One order, committed."""
        from django.db import transaction

        user = basket.owner
        method = self._free()
        charge = method.calculate(basket)
        total = self._total().calculate(basket, charge)
        # As in oscar's own sandbox (ATOMIC_REQUESTS): address, order and analytics are one transaction, one fsync.
        with transaction.atomic():
            address = self._addresses.objects.create(
                first_name="Wang", last_name="Wu", line1="1 Renmin Road", line4="Shanghai", country_id="CN"
            )
            order = self._creator().place_order(
                basket=basket,
                total=total,
                shipping_method=method,
                shipping_charge=charge,
                user=user,
                shipping_address=address,
            )
            basket.submit()
        return order


if __name__ == "__main__":
    main()
