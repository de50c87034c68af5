"""The inventory policy page in a real browser: the curve, a class clicked, the aim changed with a reason, and refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from apps.readers import planning_rules
from orders_core.domain.rules import Planning
from orders_core.services.plan_changes import SetPlanning, set_planning
from tests.browser.conftest import Desk
from tests.browser.test_planner import DESKTOP_AND_PHONE, button, fill, shoot, window  # noqa: F401
from tests.support.browser import settled
from tests.support.build import PLANNER

SAYS = {
    "zh-CN": {
        "title": "库存策略", "fill": "现货满足率", "apply": re.compile("从下次计划起按"), "cost": "总费用最低",
        "service": "周期服务率", "why": "原因",
        "apply_cost": re.compile("从下次计划起按总费用最低补货"), "go": "确认修改", "say_why": "请填写原因。",
        "is_so": "已是当前目标。", "done": "补货目标已改",
        "one_class": "只看 AX 类", "class": re.compile("AX 类从下次计划起按 60 % 补货"),
        "class_cost": re.compile("AX 类从下次计划起按总费用最低"), "own": "从下次计划起另设目标的分类：AX 60 %",
    },
    "en-US": {
        "title": "Inventory policy", "fill": "Served from stock", "apply": re.compile("Aim at [0-9.]+ %"), "cost": "Least cost",
        "service": "Cycle service",
        "why": "Why", "apply_cost": re.compile("Aim at the least cost"), "go": "Change it", "say_why": "Say why.",
        "is_so": "That is the aim already.", "done": "The aim is changed", "one_class": "Only class AX",
        "class": re.compile("Class AX: aim at 60 %"), "class_cost": re.compile("Class AX: aim at the least cost"),
        "own": "from the next plan: AX 60 %",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def aims_as_before(desk: Desk) -> Iterator[None]:
    """The rules after each test are those before it."""
    yield
    desk.store.run(
        set_planning, PLANNER, SetPlanning(target="cost", ratio=0.95, reason="as before", class_service={"AX": None})
    )


def aims(desk: Desk) -> Planning:
    with desk.store.reading() as conn:
        return planning_rules(conn)


@DESKTOP_AND_PHONE
def test_a_planner_moves_the_slider_and_changes_the_aim(desk: Desk, window: Page, locale: str) -> None:  # noqa: F811
    says = SAYS[locale]
    desk.app.visit(window, "policy?role=planner")
    expect(window.get_by_role("heading", name=says["title"])).to_be_visible()
    expect(window.get_by_text(says["fill"]).first).to_be_visible()
    shoot(window, f"policy_{locale}")
    slider = window.get_by_role("slider")
    slider.focus()
    slider.press("Home")  # the least of the targets
    settled(window)
    expect(button(window, re.compile("50 %"))).to_be_visible()
    slider.press("ArrowRight")
    settled(window)
    button(window, re.compile("60 %")).click()
    dialog = window.get_by_role("dialog")
    button(dialog, says["go"]).click()
    expect(dialog.get_by_text(says["say_why"])).to_be_visible()
    assert aims(desk).target == "cost", "nothing changes without a reason"
    fill(window, says["why"], "less stock before the fair")
    button(dialog, says["go"]).click()
    expect(window.get_by_text(says["done"])).to_be_visible()
    assert (aims(desk).target, aims(desk).cycle_service_ratio) == ("cycle_service", 0.6)
    window.get_by_text(says["cost"], exact=True).click()
    settled(window)
    expect(button(window, says["apply_cost"])).to_be_enabled()


def click_class_ax(page: Page, shown: str) -> None:
    """Click the first cell that has products; a click on a chart that is being drawn anew is lost, so look, and click again."""
    marks = page.locator("[data-testid=stVegaLiteChart] svg").first.locator("[aria-roledescription='rect mark']")
    for patience in (5_000, 10_000, 20_000):
        marks.first.wait_for(state="attached")
        marks.nth(marks.count() - 2).click()  # the last layer, which takes clicks, has AX and BZ
        try:
            expect(page.get_by_text(shown)).to_be_visible(timeout=patience)
        except AssertionError:
            continue
        return
    raise AssertionError(f"three clicks on a class did not show {shown}")


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_a_clicked_class_has_its_own_curve_and_gets_a_target_of_its_own(desk: Desk, page: Page, locale: str) -> None:
    says = SAYS[locale]
    desk.app.visit(page, "policy?role=planner&aim=cost")
    expect(page.get_by_text(says["is_so"])).to_be_visible()
    assert button(page, says["apply_cost"]).is_disabled()
    before = page.get_by_test_id("stMetricValue").nth(1).inner_text()
    click_class_ax(page, says["one_class"])
    expect(page.get_by_test_id("stMetricValue").nth(1)).not_to_have_text(before)
    expect(button(page, says["class_cost"])).to_be_disabled()
    page.get_by_text(says["service"], exact=True).click()
    settled(page)
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    settled(page)
    slider.press("ArrowRight")
    expect(button(page, says["class"])).to_be_visible()
    shoot(page, f"policy_class_{locale}")
    button(page, says["class"]).click()
    fill(page, says["why"], "the fair is over")
    button(page.get_by_role("dialog"), says["go"]).click()
    expect(page.get_by_text(says["done"])).to_be_visible()
    assert (aims(desk).target, aims(desk).class_service) == ("cost", {"AX": 0.6})
    desk.app.visit(page, "policy?role=planner")
    expect(page.get_by_text(says["own"])).to_be_visible()


@pytest.mark.parametrize("locale", ["en-US"])
def test_a_clerk_reads_and_is_told_whose_part_it_is_to_change(desk: Desk, page: Page, locale: str) -> None:
    desk.app.visit(page, "policy?role=clerk")
    assert button(page, SAYS[locale]["apply"]).is_disabled()
    expect(page.get_by_text("Planner").last).to_be_visible()
