"""What a colleague does at the desk, in a real browser: review, approve once, pick, ship, read the plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import streamlit as st
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import func, select, update
from streamlit.runtime.scriptrunner import StopException

from apps.desk.screen import COLLEAGUES, Screen
from orders_core.services.returns import RequestReturn, request_return
from orders_core.services.review import ApproveOrder, approve_order
from orders_core.services.warehouse import PickAll, pick_all
from orders_core.store import tables
from orders_core.store.verify import verify
from tests.browser.conftest import Desk
from tests.support.browser import settled
from tests.support.build import (
    CLERK,
    MANAGER,
    PICKER,
    channel,
    customer,
    order,
    order_row,
    release_all,
    rows,
    ship,
    sku,
    stock,
)

APPROVE = re.compile("^(审核通过|Approve)$")
SAYS = {
    "zh-CN": {
        "amount": "超过自动审核上限", "approved": "已审核通过", "review": "待审核", "already": "已由 mei 于",
        "desk": "订单工作台", "plan": "买、调还是等", "why": "数量怎么来的", "trust": re.compile("可信度 [A-D]。回测 \\d+ 次"),
        "bulk": "1 单已通过，1 单跳过",
    },
    "en-US": {
        "amount": "the most approved without a person", "approved": "is approved", "review": "To review",
        "already": "was already approved by mei at", "desk": "Order desk", "plan": "Buy, move or wait",
        "why": "Why this quantity",
        "trust": re.compile(r"Trust [A-D]\. In \d+ backtests"),
        "bulk": "1 approved, 1 skipped",
    },
}  # fmt: skip


@pytest.fixture(params=["desktop", "phone"])
def window(request: pytest.FixtureRequest) -> Page:
    """A desktop's or a telephone's browser."""
    chosen: Page = request.getfixturevalue("page" if request.param == "desktop" else "phone")
    return chosen


@pytest.fixture(scope="module", autouse=True)
def books_stay_right(desk: Desk) -> Iterator[None]:
    """Whatever was clicked, the invariants hold in the end."""
    yield
    assert verify(desk.store) == []


def to_review(desk: Desk) -> str:
    """A new order that waits because its total, 1,010.00, is above what is approved without a person."""
    placed = order(desk.store, "LAMP 101")
    assert placed.status == "review"
    return placed.number


def audits(desk: Desk, number: str, action: str) -> int:
    """How often something was done to an order, as the audit trail tells."""
    entry = tables.AuditEntry
    mine = (entry.entity == "orders", entry.entity_id == order_row(desk.store, number).id, entry.action == action)
    return int(rows(desk.store, select(func.count().label("times")).select_from(entry).where(*mine))[0].times)


def cells(page: Page, text: str) -> Locator:
    """The cells of the page's grids that hold a text; a grid is drawn, its cells are there for screen readers."""
    return page.locator("[role=gridcell]").filter(has_text=text)


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_an_order_is_reviewed_with_its_reasons_approved_and_waits_to_be_picked(
    desk: Desk, window: Page, locale: str
) -> None:
    says, number = SAYS[locale], to_review(desk)
    desk.app.visit(window)
    expect(window.get_by_role("heading", name=says["desk"])).to_be_visible()
    expect(window.get_by_role("link", name=re.compile(f"{says['review']} \\d+")).first).to_be_visible()

    desk.app.visit(window, f"order?no={number}")
    expect(window.get_by_text(says["amount"])).to_be_visible()
    window.get_by_role("button", name=APPROVE).click()
    expect(window.get_by_text(f"{number} {says['approved']}")).to_be_visible()
    expect(window.get_by_role("button", name=APPROVE)).to_have_count(0)

    desk.app.visit(window, "warehouse?role=warehouse&at=WH1")
    cells(window, number).first.wait_for(state="attached")
    assert order_row(desk.store, number).status == "ready"
    assert audits(desk, number, "order.approve") == 1


@pytest.mark.parametrize("pause_ms", [0, 60, 250])
def test_two_quick_clicks_approve_once(desk: Desk, page: Page, pause_ms: int) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"order?no={number}")
    box = page.get_by_role("button", name=APPROVE).bounding_box()
    assert box is not None
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*at)
    page.wait_for_timeout(pause_ms)
    page.mouse.click(*at)
    expect(page.get_by_text(f"{number} 已审核通过")).to_be_visible()
    settled(page)
    assert audits(desk, number, "order.approve") == 1
    assert order_row(desk.store, number).status == "ready"


class CutOff(dict[str, Any]):
    """Streamlit's session state once a second click waits: whoever reads it is stopped there."""

    def __getitem__(self, key: str) -> NoReturn:
        raise StopException

    get = setdefault = __setitem__ = __getitem__  # type: ignore[assignment]


def test_what_a_click_did_is_said_though_a_second_click_stops_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number = to_review(desk)
    screen = Screen("zh", COLLEAGUES["clerk"], desk.store, Path(), datetime.now(UTC), None, None, told=[])
    monkeypatch.setattr(st, "session_state", CutOff())
    for _ in range(2):
        screen.act(approve_order, ApproveOrder(number), number=number, asked="approve", done=lambda _: "已审核")
    assert [kind for _, kind, _ in screen.told] == ["success", "info"]


def test_a_service_is_said_to_be_performed(desk: Desk, page: Page) -> None:
    sku(desk.store, "FIT", price_cents=3_000, kind="service")
    number = order(desk.store, "FIT 1", customer="SHOP").number
    desk.app.visit(page, f"order?no={number}")
    page.get_by_role("button", name="完成服务").click()
    expect(page.get_by_text(f"{number} 的服务已记为完成")).to_be_visible()
    assert order_row(desk.store, number).status == "delivered"


def test_two_quick_clicks_write_one_note(desk: Desk, page: Page) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"order?no={number}")
    page.get_by_role("button", name="备注/联系记录").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("客户要早到")
    dialog.get_by_role("textbox").press("Tab")
    settled(page)
    dialog.get_by_role("button", name="备注/联系记录").dblclick()
    expect(dialog).to_have_count(0)
    settled(page)
    note = tables.OrderNote
    written = select(note.text).where(note.order_id == order_row(desk.store, number).id)
    assert [row.text for row in rows(desk.store, written)] == ["客户要早到"]


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_who_clicks_second_hears_who_was_first(desk: Desk, page: Page, locale: str) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"order?no={number}")
    desk.store.run(approve_order, MANAGER, ApproveOrder(number))
    page.get_by_role("button", name=APPROVE).click()
    expect(page.get_by_text(SAYS[locale]["already"])).to_be_visible()
    assert audits(desk, number, "order.approve") == 1


def test_a_tile_opens_exactly_its_rows_and_the_link_keeps_them(desk: Desk, page: Page) -> None:
    to_review(desk)
    desk.app.visit(page)
    tile = page.get_by_role("link", name=re.compile(r"待审核 \d+")).first
    counted = int(re.findall(r"\d+", tile.inner_text())[-1])
    tile.click()
    expect(page.get_by_text(f"共 {counted} 单")).to_be_visible()
    assert "view=review" in page.url
    page.reload()
    settled(page)
    expect(page.get_by_text(f"共 {counted} 单")).to_be_visible()
    other_tab = page.context.new_page()
    other_tab.goto(page.url)
    settled(other_tab)
    expect(other_tab.get_by_text(f"共 {counted} 单")).to_be_visible()


def test_a_search_without_a_match_says_so_and_can_be_cleared(desk: Desk, page: Page) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"orders?view=review&q={number}")
    expect(page.get_by_text("共 1 单")).to_be_visible()
    expect(cells(page, number)).to_have_count(1)
    search = page.get_by_placeholder("订单号、外部单号、客户")
    search.fill("no such thing")
    search.press("Enter")
    expect(page.get_by_text("没有符合条件的订单")).to_be_visible()
    page.get_by_role("button", name="清除筛选").click()
    expect(page.get_by_text(re.compile(r"共 \d+ 单"))).to_be_visible()


def test_what_nobody_ticked_is_not_selected(desk: Desk, page: Page) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"orders?view=review&q={number}")
    expect(cells(page, number)).to_have_count(1)
    approve = page.get_by_role("button", name=re.compile(r"^审核 \d+ 单"))
    expect(approve).to_have_count(0)
    expect(page.get_by_text("已选 1 单")).to_have_count(0)
    grid = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert grid is not None
    page.mouse.click(grid["x"] + 16, grid["y"] + 50)
    expect(page.get_by_text("已选 1 单")).to_be_visible()
    expect(approve).to_be_enabled()


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_pasted_orders_are_approved_together_and_the_rest_is_explained(desk: Desk, page: Page, locale: str) -> None:
    good = to_review(desk)
    customer(desk.store, f"LIN-{locale}", credit_limit_cents=100_000)
    poor = order(desk.store, f"LAMP 90, RUG {10 + len(locale)}", customer=f"LIN-{locale}", payment_method="credit")
    assert [reason["code"] for reason in poor.review_reasons] == ["credit_exceeded", "amount_high"]
    desk.app.visit(page, f"orders?nos={good}+{poor.number}+SO-NONE")
    expect(page.get_by_text("SO-NONE", exact=False).first).to_be_visible()
    page.get_by_role("button", name=re.compile("^(审核 2 单|Approve 2)")).click()
    dialog = page.get_by_role("dialog")
    for number in (good, poor.number):
        expect(dialog.get_by_text(number)).to_be_visible()
    dialog.get_by_role("button", name=re.compile("^(审核通过 1 单|Approve 1)$")).click()
    expect(page.get_by_text(SAYS[locale]["bulk"])).to_be_visible()
    assert order_row(desk.store, good).status == "ready"
    assert order_row(desk.store, poor.number).status == "review"


def test_credit_is_exceeded_only_with_a_reason_that_is_kept(desk: Desk, page: Page) -> None:
    number = order(desk.store, "LAMP 101", customer="LIN", payment_method="credit", note="second").number
    desk.app.visit(page, f"order?no={number}")
    expect(page.get_by_text("超出额度 ¥1,000.00").first).to_be_visible()
    page.get_by_role("button", name="超额审核").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="审核通过").click()
    expect(dialog.get_by_text("请填写原因")).to_be_visible()
    assert order_row(desk.store, number).status == "review"
    dialog.get_by_label("原因").fill("老客户,已电话确认")
    dialog.get_by_label("原因").press("Tab")
    dialog.get_by_role("button", name="审核通过").click()
    expect(page.get_by_text(f"{number} 已审核通过")).to_be_visible()
    expect(page.get_by_text("老客户,已电话确认")).to_be_visible()


def test_a_new_quantity_shows_its_money_and_stock_before_it_is_written(desk: Desk, page: Page) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"order?no={number}")
    page.get_by_role("button", name="改数量").click()
    dialog = page.get_by_role("dialog")
    quantity = dialog.get_by_role("spinbutton")
    for wrong in ("99999999", "-1"):  # what was typed is never taken for the last good number
        quantity.fill(wrong)
        quantity.press("Enter")
        expect(dialog.get_by_text(f"数量 {int(wrong):,} 不是 0 到 9,999,999".replace("-", "−"))).to_be_visible()
        expect(dialog.get_by_role("button", name="确认修改")).to_have_count(0)
    quantity.fill("120")
    quantity.press("Enter")
    expect(dialog.get_by_text("¥1,010.00 → ¥1,200.00（+¥190.00）")).to_be_visible()
    expect(dialog.get_by_text("占用 +19 件")).to_be_visible()
    assert order_row(desk.store, number).total_cents == 101_000, "a preview writes nothing"
    dialog.get_by_role("button", name="确认修改").click()
    expect(page.get_by_text(f"{number} 已修改")).to_be_visible()
    assert order_row(desk.store, number).total_cents == 120_000


def test_the_warehouse_releases_picks_and_ships(desk: Desk, page: Page) -> None:
    number = order(desk.store, "LAMP 7").number
    desk.app.visit(page, "warehouse?role=warehouse&at=WH1")
    page.get_by_role("button", name="下发 WH1 全部").click()
    expect(page.get_by_text("拣货单：PL-")).to_be_visible()
    page.get_by_role("link", name=re.compile("PL-")).last.click()
    page.get_by_role("button", name="全部已拣").click()
    expect(page.get_by_text("可以发货")).to_be_visible()
    assert order_row(desk.store, number).status == "picking"


def test_a_role_may_only_do_its_own(desk: Desk, page: Page) -> None:
    number = to_review(desk)
    desk.app.visit(page, f"order?no={number}&role=warehouse")
    expect(page.get_by_role("button", name=APPROVE)).to_be_disabled()


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("zh-CN", "订单专员 ann 无权执行此操作，请把右上角的演示角色切换为「仓管 wei」。"),
        ("en-US", "Order clerk ann may not do this: switch the demo role at the top to Warehouse wei."),
    ],
)
def test_who_may_not_release_reads_who_can(desk: Desk, window: Page, locale: str, words: str) -> None:
    order(desk.store, "LAMP 3")
    desk.app.visit(window, "warehouse?at=WH1")
    expect(window.get_by_text(words)).to_be_visible()
    expect(window.get_by_role("button", name=re.compile("^(下发 WH1|Release all)"))).to_be_disabled()


def test_a_parcel_without_its_number_is_asked_for_in_plain_words_and_the_answer_goes_when_it_ships(
    desk: Desk, page: Page
) -> None:
    sku(desk.store, "BOWL")
    stock(desk.store, "BOWL@WH3: 10")
    number = order(desk.store, "BOWL 1").number
    for pick_list in release_all(desk.store, "WH3"):
        desk.store.run(pick_all, PICKER, PickAll(pick_list))
    desk.app.visit(page, "warehouse?role=warehouse&stage=ship&at=WH3")
    send = page.get_by_role("button", name=re.compile("^SH-.* 发货$"))
    send.click()
    asked = page.get_by_text("请填写运单号：SF 要求每个包裹都有。")
    expect(asked).to_be_visible()
    expect(page.get_by_text("packages")).to_have_count(0)
    settled(page)
    page.get_by_label("运单号").fill("SF-BOWL-1")
    send.click()
    expect(page.get_by_text("已发货。")).to_be_visible()
    expect(asked).to_have_count(0)
    assert order_row(desk.store, number).status == "shipped"


@pytest.mark.parametrize("locale", ["en-US"])
def test_the_english_desk_names_goods_channels_and_couriers_in_english(desk: Desk, page: Page) -> None:
    sku(desk.store, "VASE", name="花瓶", name_en="Celadon vase")
    stock(desk.store, "VASE@WH4: 10")
    channel(desk.store, "corner", kind="store")
    with desk.store.unit_of_work() as uow:
        names = {"name": "街角小店", "name_en": "Corner shop"}
        uow.conn.execute(update(tables.Channel).where(tables.Channel.code == "corner").values(**names))
    number = order(desk.store, "VASE 1", channel="corner").number
    desk.app.visit(page, "orders?channel=corner")
    cells(page, number).first.wait_for(state="attached")
    expect(page.get_by_role("combobox", name="Channel")).to_have_value("Corner shop")

    desk.app.visit(page, f"order?no={number}")
    expect(page.get_by_text("Corner shop").first).to_be_visible()
    page.get_by_role("button", name="Edit quantity").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("combobox")).to_have_value("1 · VASE · Celadon vase")

    (pick_list,) = release_all(desk.store, "WH4")
    desk.app.visit(page, f"warehouse?role=warehouse&list={pick_list}")
    cells(page, "Celadon vase").first.wait_for(state="attached")


# ------------------------------------------------------------------------------------------------ returns


def asked_back(desk: Desk) -> tuple[str, str]:
    """An order of two LAMPs, 20.00, that has left, and the return its customer asks for: their numbers."""
    placed = order(desk.store, "LAMP 2")
    if placed.status == "review":  # it looks like the one of the test before
        desk.store.run(approve_order, MANAGER, ApproveOrder(placed.number))
    number = placed.number
    ship(desk.store, number)
    asked = desk.store.run(request_return, CLERK, RequestReturn(number, {1: 2}, "颜色与图片不符"))
    return number, asked.number


def return_status(desk: Desk, number: str) -> str:
    """Where a return stands."""
    query = select(tables.ReturnAuthorization.status).where(tables.ReturnAuthorization.number == number)
    return str(rows(desk.store, query)[0].status)


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_a_return_is_read_and_agreed_to_once_however_often_one_clicks(desk: Desk, window: Page, locale: str) -> None:
    number, asked = asked_back(desk)
    desk.app.visit(window, "returns")
    window.get_by_role("link", name=asked).click()
    for words in (number, "颜色与图片不符", "LAMP", "¥20.00"):
        expect(window.get_by_text(words).first).to_be_visible()
    window.get_by_role("button", name=re.compile("^(同意退货|Approve the return)$")).dblclick()
    expect(window.get_by_text(re.compile(f"{asked} (已同意|is approved)")).first).to_be_visible()
    settled(window)
    assert return_status(desk, asked) == "approved"
    assert audits(desk, number, "return.approved") == 1
    expect(window.get_by_role("button", name=re.compile("^(同意退货|Approve the return)$"))).to_have_count(0)
    widths = window.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]


def test_a_return_is_refused_with_a_reason(desk: Desk, page: Page) -> None:
    number, asked = asked_back(desk)
    desk.app.visit(page, f"returns?no={asked}")
    page.get_by_role("button", name="拒绝…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="拒绝退货").click()
    expect(dialog.get_by_text("请填写原因")).to_be_visible()
    assert return_status(desk, asked) == "requested"
    dialog.get_by_label("原因").fill("已拆封使用")
    dialog.get_by_label("原因").press("Tab")
    settled(page)
    dialog.get_by_role("button", name="拒绝退货").dblclick()
    expect(page.get_by_text(f"{asked} 已拒绝")).to_be_visible()
    settled(page)
    assert return_status(desk, asked) == "refused"
    assert audits(desk, number, "return.refused") == 1
    desk.app.visit(page, f"order?no={number}")
    expect(page.get_by_text("已拆封使用").first).to_be_visible()


def test_who_may_not_decide_a_return_reads_who_can(desk: Desk, page: Page) -> None:
    _, asked = asked_back(desk)
    desk.app.visit(page, f"returns?no={asked}&role=warehouse")
    expect(page.get_by_text("请把右上角的演示角色切换为「订单专员 ann」。")).to_be_visible()
    for name in ("同意退货", "拒绝…"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()


def test_a_return_that_is_not_there_is_said_to_be_missing(desk: Desk, page: Page) -> None:
    desk.app.visit(page, "returns?no=RT-NONE")
    expect(page.get_by_text("没有退货单 RT-NONE。")).to_be_visible()


# --------------------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize(("locale", "words"), [("zh-CN", "含在途断货日"), ("en-US", "Runs out incl. on order")])
def test_the_day_stock_runs_out_says_that_it_counts_what_is_on_order(desk: Desk, page: Page, words: str) -> None:
    desk.app.visit(page, "plan?role=planner")
    page.locator("[role=columnheader]").filter(has_text=words).wait_for(state="attached")


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_the_planner_sees_history_forecast_and_what_to_order_and_why(desk: Desk, window: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(window, "plan?role=planner")
    expect(window.get_by_role("heading", name=says["plan"])).to_be_visible()
    cells(window, "CUP").first.wait_for(state="attached")

    desk.app.visit(window, "product?sku=CUP&at=WH9&role=planner")
    expect(window.get_by_role("heading", name=says["why"])).to_be_visible()
    expect(
        window.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first
    ).to_be_visible()
    expect(window.get_by_text(says["trust"])).to_be_visible()
    # The waterfall can be added up again: its parts are its total.
    column = window.locator("[data-testid=stTable]").first.locator("tr td:last-child")
    column.first.wait_for()
    parts = column.all_inner_texts()
    amounts = [int(text.replace("−", "-").replace("+", "").replace(",", "")) for text in parts]
    assert amounts[-1] == sum(amounts[:-1]) > 0


@pytest.mark.parametrize(
    "where", ["", "orders", "orders?view=all", "warehouse", "returns", "plan", "product?sku=CUP&at=WH9"]
)
def test_no_page_scrolls_sideways_on_a_phone(desk: Desk, phone: Page, where: str) -> None:
    desk.app.visit(phone, where)
    phone.wait_for_timeout(300)
    widths = phone.evaluate(
        "[document.documentElement.scrollWidth, document.querySelector('[data-testid=stMain]').scrollWidth]"
    )
    assert max(widths) <= 390, widths
    assert phone.locator("[data-testid=stException]").count() == 0
