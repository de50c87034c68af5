"""What a planner does at the desk, in a real browser: approve together and one by one, override, adjust, take back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import delete, select, text

from apps.approving import is_bulk, suggested, why_not
from apps.components.planning import published_plan
from orders_core.services.approve_suggestions import ApproveSuggestions, approve_suggestions
from orders_core.store import tables
from orders_core.store.verify import verify
from tests.browser.conftest import Desk
from tests.browser.test_desk import cells
from tests.support.browser import settled
from tests.support.build import PLANNER, rows

PICTURES = os.environ.get("DINGHUO_TEST_PICTURE_FOLDER")
SAYS = {
    "zh-CN": {
        "trusted": re.compile("审核可信的"), "to_trust": "可信的待审 {} 项",
        "trusted_shown": re.compile("审核筛选出的可信 1 项"), "both": "合计误差按整段预测期算",
        "go": re.compile(r"审核通过 \d+ 项"),
        "done": re.compile(r"已审核 \d+ 项，已生成：PO-"),
        "one": re.compile(r"审核 [\d,]+ 件"), "left_out": "不能批量审核", "why": "请填写原因", "worth": "预测调整的效果",
        "override": "调整预测", "set": "保存调整", "reason": "原因", "kept": "已保存", "expires": "失效）", "back": "撤回",
        "title": "计划员的调整", "adjust": "调整历史", "ticked": re.compile("审核 2 项"),
        "go_one": "审核通过", "bad_qty": "数量 {} 不是 1 到", "suggested": "当时建议订 69 件",
        "close": "关闭采购单", "close_made": "关闭生产任务单", "close_go": "确认关闭",
        "say_why": "请填写原因。", "cancelled": "已取消",
        "qty": "采购数量（件）",
        "changed": "改数量的原因", "who": "pia 已审核", "reason_kept": "改量原因",
        "daily": "每天件数", "how": "方式", "replace": "替换每天的需求", "save": "保存调整",
        "made_here": "自产，下生产任务单", "qty_made": "生产数量（件）", "makes": "将生成生产任务单 1 张",
        "not_again": "已审核过：{}。", "tick_one": re.compile("审核 1 项"),
        "here": "仅本处", "send": "WH10、WH9 互相代发", "itself": "本处自己发出",
        "too_many": "不是 0 到 9,999,999 的数", "inactive": "已不再向 JDZ 采购",
    },
    "en-US": {
        "trusted": re.compile(r"Approve the \d+ trusted"), "to_trust": "{} trusted and not approved yet",
        "trusted_shown": re.compile("Approve the 1 trusted of this choice"), "both": "The error of the total counts",
        "go": re.compile(r"Order \d+ suggestions"),
        "done": re.compile(r"\d+ approved; orders: PO-"),
        "one": re.compile(r"Approve [\d,]+ units"), "left_out": "are left out", "why": "Say why",
        "worth": "What overrides were worth",
        "override": "Change the forecast", "set": "Set it", "reason": "Why", "kept": "Kept; plans of", "expires": "(expires",
        "back": "Take back", "title": "What planners changed", "adjust": "Adjust the past", "ticked": re.compile("Approve 2 "),
        "go_one": "Order it", "bad_qty": "{} is not a whole number from 1 to",
        "close": "Close this order", "close_made": "Close this order", "suggested": "69 units were suggested",
        "close_go": "Close the order", "say_why": "Say why.", "cancelled": "is cancelled",
        "qty": "Units to buy", "changed": "Why another quantity", "who": "pia approved", "reason_kept": "changed because",
        "daily": "Units a day", "how": "How", "replace": "Replace each day's demand", "save": "Adjust",
        "made_here": "Made here, by a production order", "qty_made": "Units to make",
        "makes": "Production orders this makes: 1",
        "not_again": "Left out, approved before: {}.", "tick_one": re.compile("Approve 1 "),
        "here": "This place", "send": "the order goes by the forecast of them together",
        "itself": "What this place itself sent",
        "too_many": "is not a number from 0 to 9,999,999", "inactive": "JDZ is no longer bought from",
    },
}  # fmt: skip


@pytest.fixture
def window(request: pytest.FixtureRequest, size: str) -> Page:
    """A desktop's or a telephone's browser."""
    chosen: Page = request.getfixturevalue("page" if size == "desktop" else "phone")
    return chosen


DESKTOP_AND_PHONE = pytest.mark.parametrize(("locale", "size"), [("zh-CN", "desktop"), ("en-US", "phone")])
PHONE_AND_DESKTOP = pytest.mark.parametrize(("locale", "size"), [("zh-CN", "phone"), ("en-US", "desktop")])


@pytest.fixture(autouse=True)
def nothing_approved(desk: Desk) -> Iterator[None]:
    """Each test finds the plan as it was published; the invariants hold after each."""
    yield
    assert verify(desk.store) == []
    with desk.store.engine.begin() as conn:
        for table in (
            tables.SuggestionApproval, tables.PurchaseOrderLine, tables.PurchaseOrder, tables.ProductionOrder
        ):  # fmt: skip
            conn.execute(delete(table))
        conn.execute(text("DELETE FROM change_log WHERE entity IN ('purchase_order', 'production_order')"))
        for table in (tables.ForecastOverride, tables.DemandAdjustment):
            conn.execute(delete(table))
            conn.execute(text(f"DELETE FROM change_log WHERE entity = '{table.__tablename__}'"))


def shoot(page: Page, name: str) -> None:
    """Keep a picture where one was asked for."""
    if PICTURES:
        size = page.viewport_size or {"width": 0}
        page.wait_for_timeout(600)
        page.screenshot(path=Path(PICTURES) / f"{name}_{size['width']}.png")


def bought(desk: Desk) -> list[tuple[str, int]]:
    """(SKU, units) of what was ordered: lines of purchase orders, then production orders."""
    query = "SELECT s.sku, l.qty FROM {} l JOIN sku s ON s.id = l.sku_id ORDER BY l.id"
    lines, made = (rows(desk.store, text(query.format(table))) for table in ("purchase_order_line", "production_order"))
    return [tuple(row) for row in (*lines, *made)]


def plan_rows(desk: Desk) -> list[dict[str, Any]]:
    """The published suggestions, each with its `as_of_date`."""
    plan = published_plan(Path(desk.store.url.removeprefix("sqlite:///")).parent / "warehouse", "en")
    assert plan is not None
    return [{**row, "as_of_date": plan.as_of_date} for row in plan.rows.iter_rows(named=True)]


def planned(desk: Desk, *, in_bulk: bool) -> list[str]:
    """The SKUs to buy whose forecasts may be approved together, or those that may not; there are some of both."""
    found = [row["sku"] for row in plan_rows(desk) if why_not(row) is None and is_bulk(row) == in_bulk]
    assert found
    return sorted(found)


def tick(page: Page, *numbers: int) -> None:
    """Tick rows of the grid, the first is 0."""
    for number in numbers:
        grid = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
        assert grid is not None
        page.mouse.click(grid["x"] + 16, grid["y"] + 50 + 32 * number)
        settled(page)


def fill(page: Page, label: str, words: str) -> None:
    """Write into a field of the open dialog and press Enter, which is when the app reads it.

    Tab would open the calendar of a date beside it.
    """
    field = page.get_by_role("dialog").get_by_label(label, exact=True)
    field.fill(words)
    field.press("Enter")
    settled(page)


def button(where: Page | Locator, name: str | re.Pattern[str]) -> Locator:
    return where.get_by_role("button", name=name)


@PHONE_AND_DESKTOP
def test_the_trusted_are_approved_together_after_a_look_at_the_totals(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "plan?role=planner")
    cells(window, "POT").first.wait_for(state="attached")
    shoot(window, f"plan_{locale}")
    button(window, says["trusted"]).click()
    dialog = window.get_by_role("dialog")
    expect(dialog.get_by_text("JDZ")).to_be_visible()
    shoot(window, f"approve_{locale}")
    button(dialog, says["go"]).click()
    expect(window.get_by_text(says["done"])).to_be_visible()
    assert sorted(sku for sku, _ in bought(desk)) == planned(desk, in_bulk=True)
    numbers = [row.number for row in rows(desk.store, select(tables.PurchaseOrder.number))]
    numbers += [row.number for row in rows(desk.store, select(tables.ProductionOrder.number))]
    for number in numbers:
        expect(window.get_by_role("link", name=number)).to_be_visible()
    window.get_by_role("link", name=numbers[0]).click()
    expect(window.get_by_role("heading", name=numbers[0])).to_be_visible()
    shoot(window, f"purchase_{locale}")


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_the_page_counts_as_trusted_what_its_button_approves(desk: Desk, page: Page, locale: str) -> None:
    """Those that go by min/max, too, and none that was approved; a choice of rows says that it is one."""
    says = SAYS[locale]
    row = next(row for row in plan_rows(desk) if row["sku"] == "POT")
    asked = suggested(row, as_of_date=row["as_of_date"])
    desk.store.run(approve_suggestions, PLANNER, ApproveSuggestions([asked], row["as_of_date"]))
    desk.app.visit(page, "plan?role=planner")
    shown = button(page, says["trusted"])
    expect(shown).to_be_visible()
    left = len(planned(desk, in_bulk=True)) - 1
    assert left > 0
    assert re.search(r"\d+", shown.inner_text())[0] == str(left)  # type: ignore[index]
    expect(page.get_by_text(says["to_trust"].format(left))).to_be_visible()
    shoot(page, f"trusted_{locale}")
    page.get_by_role("searchbox").fill("JAM")
    page.get_by_role("searchbox").press("Enter")
    expect(button(page, says["trusted_shown"])).to_be_visible()


@DESKTOP_AND_PHONE
def test_a_made_product_becomes_a_production_order_with_its_own_page(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=JAM&at=WH9&role=planner")
    expect(window.get_by_text(says["made_here"])).to_be_visible()
    shoot(window, f"made_{locale}")
    button(window, says["one"]).click()
    dialog = window.get_by_role("dialog")
    fill(window, says["qty_made"], "44")
    fill(window, says["changed"], "spring fair")
    expect(dialog.get_by_text(says["makes"])).to_be_visible()
    shoot(window, f"approve_made_{locale}")
    button(dialog, says["go_one"]).click()
    expect(window.get_by_text(says["who"])).to_be_visible()
    (order,) = rows(desk.store, select(tables.ProductionOrder.__table__))
    assert bought(desk) == [("JAM", 44)] and order.number.startswith("MO-")
    window.get_by_role("link", name=order.number).click()
    expect(window.get_by_role("heading", name=order.number)).to_be_visible()
    expect(window.get_by_text(says["reason_kept"])).to_be_visible()
    shoot(window, f"production_{locale}")
    button(window, says["close_made"]).click()
    fill(window, says["reason"], "wrong quantity")
    shoot(window, f"close_made_{locale}")
    button(window.get_by_role("dialog"), says["close_go"]).click()
    expect(window.get_by_text(f"{order.number} {says['cancelled']}")).to_be_visible()
    assert rows(desk.store, select(tables.ProductionOrder.status))[0].status == "cancelled"
    expect(button(window, says["close_made"])).to_have_count(0)
    shoot(window, f"closed_made_{locale}")


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_a_phone_shows_product_quantity_and_approve_without_sideways_scrolling(
    desk: Desk, phone: Page, locale: str
) -> None:
    """The grid is painted, so its text is found by place: the columns that end inside the window are those two."""
    desk.app.visit(phone, "plan?role=planner")
    cells(phone, "POT").first.wait_for(state="attached")
    grid = phone.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert grid is not None and grid["x"] >= 0 and grid["x"] + grid["width"] <= 390
    heads = [head for head in phone.locator("[role=columnheader]").all_inner_texts() if head.strip()]
    wanted = ["SKU", "建议量" if locale == "zh-CN" else "Suggest"]
    assert heads[:2] == wanted
    box = button(phone, SAYS[locale]["trusted"]).bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844


@pytest.mark.parametrize("locale", ["zh-CN"])
def test_two_quick_clicks_order_once(desk: Desk, page: Page, locale: str) -> None:
    desk.app.visit(page, "plan?role=planner")
    button(page, SAYS[locale]["trusted"]).click()
    box = button(page.get_by_role("dialog"), SAYS[locale]["go"]).bounding_box()
    assert box is not None
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*at)
    page.wait_for_timeout(60)
    page.mouse.click(*at)
    expect(page.get_by_text("已生成：PO-").first).to_be_visible()
    settled(page)
    assert sorted(sku for sku, _ in bought(desk)) == planned(desk, in_bulk=True)


@pytest.mark.parametrize("locale", ["en-US"])
def test_of_ticked_rows_the_doubtful_are_left_out_and_named(desk: Desk, page: Page, locale: str) -> None:
    says = SAYS[locale]
    good, doubtful = planned(desk, in_bulk=True)[0], planned(desk, in_bulk=False)[0]
    desk.app.visit(page, "plan?role=planner")
    cells(page, doubtful).first.wait_for(state="attached")
    names = page.locator("[role=gridcell]").all_inner_texts()
    order = [name for name in names if name in ("POT", "DISH", "CUP", "JAM")]
    tick(page, order.index(good), order.index(doubtful))
    button(page, says["ticked"]).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(says["left_out"])).to_be_visible()
    expect(dialog.get_by_text(doubtful)).to_be_visible()
    shoot(page, f"left_out_{locale}")
    button(dialog, says["go_one"]).click()
    expect(page.get_by_text("PO-").first).to_be_visible()
    settled(page)
    assert [sku for sku, _ in bought(desk)] == [good]


def test_the_select_boxes_change_their_language_with_the_page_and_keep_what_was_chosen(desk: Desk, page: Page) -> None:
    desk.app.visit(page, "plan?role=planner&lang=en&at=WH9")
    boxes = page.get_by_test_id("stSelectbox").locator("input")
    expect(boxes.first).to_have_value("Demo role: Planner pia")
    page.get_by_role("radio", name="中文").click()
    expect(page.get_by_role("heading", name="买、调还是等")).to_be_visible()
    expect(boxes.first).to_have_value("演示角色：计划员 pia")
    expect(boxes.nth(1)).to_have_value("WH9")
    boxes.nth(1).click()
    page.get_by_role("option", name="全部").click()
    expect(page).not_to_have_url(re.compile("at=WH9"))
    page.get_by_role("radio", name="EN", exact=True).click()
    expect(boxes.nth(1)).to_have_value("All locations")
    expect(boxes.first).to_have_value("Demo role: Planner pia")


@PHONE_AND_DESKTOP
def test_ticked_rows_that_cannot_be_ordered_are_named_with_the_reason(desk: Desk, window: Page, locale: str) -> None:
    """CUP was approved already: ticked alone, there is no button but a reason; with others, both."""
    says = SAYS[locale]
    row = next(row for row in plan_rows(desk) if row["sku"] == "CUP")
    asked = suggested(row, as_of_date=row["as_of_date"])
    desk.store.run(approve_suggestions, PLANNER, ApproveSuggestions([asked], row["as_of_date"]))
    desk.app.visit(window, "plan?role=planner")
    cells(window, "CUP").first.wait_for(state="attached")
    names = [
        name for name in window.locator("[role=gridcell]").all_inner_texts() if name in ("POT", "DISH", "CUP", "JAM")
    ]
    tick(window, names.index("CUP"))
    said = window.get_by_text(says["not_again"].format("CUP"))
    expect(said).to_be_in_viewport()
    expect(button(window, says["trusted"])).to_have_count(0)
    shoot(window, f"not_again_{locale}")
    tick(window, names.index("POT"))
    expect(button(window, says["tick_one"])).to_be_in_viewport()
    expect(said).to_be_in_viewport()
    shoot(window, f"one_of_two_{locale}")


@DESKTOP_AND_PHONE
def test_another_quantity_needs_a_reason_and_is_shown_with_it(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=CUP&at=WH9&role=planner")
    button(window, says["one"]).click()
    dialog = window.get_by_role("dialog")
    for wrong in ("0", "999999999"):
        fill(window, says["qty"], wrong)
        expect(dialog.get_by_text(says["bad_qty"].format(f"{int(wrong):,}"))).to_be_visible()
        expect(button(dialog, says["go_one"])).not_to_be_visible()  # what was typed is never taken for another number
    shoot(window, f"bad_qty_{locale}")
    fill(window, says["qty"], "77")
    button(dialog, says["go_one"]).click()
    expect(dialog.get_by_text(says["why"])).to_be_visible()
    fill(window, says["changed"], "spring fair")
    shoot(window, f"one_{locale}")
    button(dialog, says["go_one"]).click()
    expect(window.get_by_text(says["who"])).to_be_visible()
    assert bought(desk) == [("CUP", 77)]
    expect(window.get_by_text(says["suggested"])).to_be_visible()  # and no longer "order now"
    (kept,) = rows(desk.store, select(tables.SuggestionApproval.__table__))
    assert (kept.approved_qty, kept.reason, kept.approved_by) == (77, "spring fair", "pia")
    number = rows(desk.store, select(tables.PurchaseOrder.number))[0].number
    window.get_by_role("link", name=number).click()
    expect(window.get_by_text(says["reason_kept"])).to_be_visible()
    button(window, says["close"]).click()
    dialog = window.get_by_role("dialog")
    button(dialog, says["close_go"]).click()
    expect(dialog.get_by_text(says["say_why"])).to_be_visible()
    fill(window, says["reason"], "wrong quantity")
    shoot(window, f"close_{locale}")
    button(dialog, says["close_go"]).click()
    expect(window.get_by_text(f"{number} {says['cancelled']}")).to_be_visible()
    assert rows(desk.store, select(tables.PurchaseOrder.status))[0].status == "cancelled"
    expect(button(window, says["close"])).to_have_count(0)
    shoot(window, f"closed_{locale}")
    desk.app.visit(window, "product?sku=CUP&at=WH9&role=planner")
    expect(window.get_by_text(says["who"])).to_have_count(0)
    shoot(window, f"open_again_{locale}")
    button(window, says["one"]).click()
    button(window.get_by_role("dialog"), says["go_one"]).click()
    expect(window.get_by_text(says["who"])).to_be_visible()
    assert bought(desk) == [("CUP", 77), ("CUP", 69)]


@DESKTOP_AND_PHONE
def test_places_that_send_for_each_other_are_shown_together_and_alone(desk: Desk, window: Page, locale: str) -> None:
    """At WH9 nothing is left, so that it could not send; together they have enough, and that is what counts."""
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=BOWL&at=WH9&role=planner")
    expect(window.get_by_text(says["send"])).to_be_visible()
    expect(window.get_by_text("已没有可用的" if locale == "zh-CN" else "Nothing is left here")).to_be_visible()
    stock = "700 件" if locale == "zh-CN" else "700 units"  # 1,100 less two a day for 200 days
    expect(window.get_by_text(stock)).to_be_visible()
    shoot(window, f"together_{locale}")
    window.get_by_role("radio", name=says["here"]).click()
    expect(window.get_by_text(says["itself"])).to_be_visible()
    expect(window.get_by_text(stock)).to_have_count(0)
    shoot(window, f"here_{locale}")
    desk.app.visit(window, "product?sku=POT&at=WH9&role=planner")
    expect(window.get_by_text(says["send"])).to_have_count(0)


@DESKTOP_AND_PHONE
def test_an_override_is_set_shown_with_who_and_why_and_taken_back(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=POT&at=WH9&role=planner")
    button(window, says["override"]).click()
    dialog = window.get_by_role("dialog")
    button(dialog, says["set"]).click()
    expect(dialog.get_by_role("alert")).to_be_visible()  # no reason
    fill(window, says["reason"], "new *menu*")
    shoot(window, f"override_{locale}")
    button(dialog, says["set"]).click()
    expect(window.get_by_text(says["kept"]).first).to_be_visible()
    expect(window.get_by_text(says["both"])).to_be_visible()
    expect(window.get_by_role("heading", name=says["title"])).to_be_visible()
    expect(window.get_by_text("pia: new *menu*" if locale == "en-US" else "pia：new *menu*")).to_be_visible()
    expect(window.get_by_text(says["expires"])).to_be_visible()
    shoot(window, f"product_{locale}")
    row = rows(desk.store, select(tables.ForecastOverride.__table__).order_by(tables.ForecastOverride.id.desc()))[0]
    assert (row.kind, row.author, row.reason) == ("set_daily", "pia", "new *menu*")
    assert row.expires_date == row.through_date == row.from_date + timedelta(days=13)
    button(window, says["back"]).click()
    expect(window.get_by_role("heading", name=says["title"])).to_have_count(0)
    assert (
        rows(desk.store, select(tables.ForecastOverride.withdrawn_by).where(tables.ForecastOverride.id == row.id))[
            0
        ].withdrawn_by
        == "pia"
    )


def is_refused(window: Page, words: str, *, kept: dict[str, str]) -> None:
    """The open dialog says why, inside the window, and its fields still hold what was typed."""
    dialog = window.get_by_role("dialog")
    alert = dialog.get_by_role("alert")
    expect(alert).to_contain_text(words)
    alert.scroll_into_view_if_needed()
    box, width = alert.bounding_box(), (window.viewport_size or {"width": 0})["width"]
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    settled(window)
    for label, typed in kept.items():
        expect(dialog.get_by_label(label, exact=True)).to_have_value(typed)


@DESKTOP_AND_PHONE
def test_a_refused_override_stays_in_its_dialog_to_be_mended(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=POT&at=WH9&role=planner")
    button(window, says["override"]).click()
    fill(window, says["daily"], "99999999")
    fill(window, says["reason"], "fair in May")
    button(window.get_by_role("dialog"), says["set"]).click()
    is_refused(window, says["too_many"], kept={says["reason"]: "fair in May"})
    shoot(window, f"override_refused_{locale}")
    fill(window, says["daily"], "12")
    button(window.get_by_role("dialog"), says["set"]).click()
    expect(window.get_by_text(says["kept"]).first).to_be_visible()
    (row,) = rows(desk.store, select(tables.ForecastOverride.__table__))
    assert (row.amount, row.reason) == (12.0, "fair in May")


@PHONE_AND_DESKTOP
def test_a_refused_adjustment_stays_in_its_dialog_to_be_mended(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=POT&at=WH9&role=planner")
    button(window, says["adjust"]).click()
    dialog = window.get_by_role("dialog")
    dialog.get_by_role("combobox", name=says["how"]).click()
    window.get_by_role("option", name=says["replace"]).click()
    fill(window, says["daily"], "99999999")
    fill(window, says["reason"], "one hotel")
    button(dialog, says["save"]).click()
    is_refused(window, says["too_many"], kept={says["reason"]: "one hotel"})
    shoot(window, f"adjust_refused_{locale}")
    fill(window, says["daily"], "2")
    button(dialog, says["save"]).click()
    expect(window.get_by_role("heading", name=says["title"])).to_be_visible()
    (row,) = rows(desk.store, select(tables.DemandAdjustment.__table__))
    assert (row.kind, row.daily_qty, row.reason) == ("replace", 2.0, "one hotel")


@DESKTOP_AND_PHONE
def test_a_refused_approval_stays_in_its_dialog_with_quantity_and_reason(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "product?sku=CUP&at=WH9&role=planner")
    with desk.store.engine.begin() as conn:
        conn.execute(text("UPDATE supplier SET is_active = 0 WHERE code = 'JDZ'"))
    try:
        button(window, says["one"]).click()
        dialog = window.get_by_role("dialog")
        fill(window, says["qty"], "77")
        fill(window, says["changed"], "spring fair")
        button(dialog, says["go_one"]).click()
        is_refused(window, says["inactive"], kept={says["qty"]: "77", says["changed"]: "spring fair"})
        shoot(window, f"approve_refused_{locale}")
        assert bought(desk) == []
    finally:
        with desk.store.engine.begin() as conn:
            conn.execute(text("UPDATE supplier SET is_active = 1 WHERE code = 'JDZ'"))
    button(dialog, says["go_one"]).click()
    expect(window.get_by_text(says["who"])).to_be_visible()
    assert bought(desk) == [("CUP", 77)]


@pytest.mark.parametrize("locale", ["en-US"])
def test_past_days_are_adjusted_from_the_products_page(desk: Desk, page: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(page, "product?sku=POT&at=WH9&role=planner")
    button(page, says["adjust"]).click()
    fill(page, says["reason"], "one hotel")
    button(page.get_by_role("dialog"), "Adjust").click()
    expect(page.get_by_text("By pia: one hotel")).to_be_visible()
    (row,) = rows(desk.store, select(tables.DemandAdjustment.__table__))
    assert (row.kind, row.reason) == ("ignore", "one hotel")


@PHONE_AND_DESKTOP
def test_what_overrides_were_worth_stands_on_the_planners_page(desk: Desk, window: Page, locale: str) -> None:
    """The plan of eight days ago said six POTs a day on somebody's word; three a day went, as the model had said."""
    desk.app.visit(window, "plan?role=planner")
    window.get_by_text(SAYS[locale]["worth"]).click()
    table = window.locator("[data-testid=stTable]").last
    expect(table.get_by_text("tea fair")).to_be_visible()
    shoot(window, f"worth_{locale}")
    cells_of_row = table.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells_of_row[-1].startswith("−") and int(cells_of_row[-1].replace("−", "")) >= 15


def test_others_see_the_plan_but_may_not_order(desk: Desk, page: Page) -> None:
    desk.app.visit(page, "plan?role=clerk")
    expect(button(page, SAYS["zh-CN"]["trusted"])).to_be_disabled()
