"""Takes the pictures of the README from a running demo: every page, zh and en, desktop and telephone.

    dinghuo demo &                       # in another window
    python -m scripts.screenshots http://127.0.0.1:8501 demo docs/screenshots

The one of Dagster is taken by its own test: DINGHUO_TEST_PICTURE_FOLDER=docs/screenshots pytest tests/browser/test_dagster.py

The order shown is the largest that waits for review; the product is the one to restock with the highest value.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from orders_core.store.queries import order_queue
from orders_core.store.uow import Store
from pipelines.warehouse import read

LANGUAGES = {"zh": "zh-CN", "en": "en-US"}
DESKTOP, PHONE = (1280, 900), (390, 844)


def main() -> int:
    """Take them all; 0 when done."""
    url, folder, into = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    into.mkdir(parents=True, exist_ok=True)
    pages = pages_of(folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("DINGHUO_CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        for language in LANGUAGES:
            for name, path in pages.items():
                shoot(browser, f"{url}/{path}", language, into / f"{name}_{language}.png", DESKTOP)
                shoot(browser, f"{url}/{path}", language, into / f"{name}_{language}_390.png", PHONE)
        browser.close()
    return 0


def pages_of(folder: Path) -> dict[str, str]:
    """Picture's name → path and query of the page."""
    store = Store.open(f"sqlite:///{folder.resolve()}/orders.db")
    now = store.clock.now()
    with store.reading() as conn:
        waiting = order_queue(conn, today=now.date(), now=now, view="review", limit=200).rows
    store.close()
    largest = max(waiting, key=lambda row: row.total_cents).number
    dearest = read.query(
        folder / "warehouse",
        "SELECT sku, location_code FROM mart.reorder_suggestion ORDER BY order_value_cents DESC NULLS LAST LIMIT 1",
    ).row(0, named=True)
    return {
        "home": "",
        "queue": "orders",
        "order": f"order?no={largest}",
        "pick": "warehouse?role=warehouse",
        "planner": "plan?role=planner",
        "product": f"product?sku={dearest['sku']}&at={dearest['location_code']}&role=planner",
        "returns": "returns",
    }


def shoot(browser: Browser, url: str, language: str, picture: Path, size: tuple[int, int]) -> None:
    """One page, once its script has run and its charts are drawn."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale=LANGUAGES[language], timezone_id="Asia/Shanghai"
    )
    page = context.new_page()
    page.goto(url)
    page.locator('[data-testid=stApp][data-test-script-state="notRunning"]').wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=picture)
    context.close()


if __name__ == "__main__":
    sys.exit(main())
