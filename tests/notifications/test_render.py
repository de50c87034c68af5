"""Every notice can be written in both languages from the facts it declares, and from nothing less."""

from __future__ import annotations

import re

import jinja2
import pytest
from jinja2 import meta

from orders_core.domain.validation import OWN_REASONS
from orders_core.errors import InvalidCommand
from orders_core.notifications.render import TEMPLATE_FOLDER, Notice, _environment, render, render_joined
from orders_core.notifications.templates import ANSWERS, FACTS, FOR_STAFF, JOINED, TEMPLATES
from tests.notifications.facts import declared, example_facts

LANGUAGES = ["zh", "en"]
CHINESE = re.compile("[一-鿿]")
EVERY = [(template, language) for template in TEMPLATES for language in LANGUAGES]


@pytest.mark.parametrize(("template", "language"), EVERY)
def test_every_template_is_written_in_both_languages_from_the_facts_it_declares(template: str, language: str) -> None:
    facts = example_facts(template)
    subject, body = render(template, language, facts)
    assert subject and "\n" not in subject
    assert facts["number"] in subject + body
    assert not re.search(r"[{}]|None|True|False|\n\n\n", subject + body)
    spaces = [line for line in body.splitlines() if line != line.rstrip()]
    assert not spaces


@pytest.mark.parametrize(("template", "language"), EVERY)
def test_a_template_uses_exactly_the_facts_it_declares(template: str, language: str) -> None:
    source = (TEMPLATE_FOLDER / f"{template}.{language}.jinja").read_text(encoding="utf-8")
    used = meta.find_undeclared_variables(_environment(language).parse(source))
    greeted = set() if template in FOR_STAFF else {"customer"}
    assert used | greeted == declared(template)


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_missing_fact_is_named(template: str) -> None:
    facts = example_facts(template)
    for name in TEMPLATES[template]:
        with pytest.raises(InvalidCommand, match=f"notice {template}: missing facts: {name}$"):
            render(template, "zh", {key: value for key, value in facts.items() if key != name})


@pytest.mark.parametrize("template", TEMPLATES)
def test_english_notices_hold_no_chinese_but_the_facts_own(template: str) -> None:
    english = {"lines", "open_lines", "line", "substitute"} & TEMPLATES[template]
    line = {"sku": "A", "name": "tea", "qty": 1, "unit": "each"}
    changes = {name: line if name in ("line", "substitute") else [line] for name in english}
    words = {name: "words" for name in declared(template) if isinstance(example_facts(template)[name], str)}
    dates = {name: "2026-11-24" for name in words if name.endswith("_date")}
    facts = example_facts(template, **changes) | words | dates
    if "currency" in facts:
        facts["currency"] = "GBP"
    for method in ("courier", "own_truck", "pick_up"):
        subject, body = render(template, "en", facts | {"delivery_method": method})
        assert not CHINESE.search(subject + body)


def test_sets_of_templates_name_only_templates_there_are() -> None:
    assert TEMPLATES.keys() >= (FOR_STAFF | ANSWERS | JOINED)
    assert {name for template in TEMPLATES for name in declared(template)} == FACTS.keys()


def test_money_dates_and_quantities_are_written_as_the_reader_does() -> None:
    facts = example_facts("order_confirmation", is_estimated=False)
    _, zh = render("order_confirmation", "zh", facts)
    assert "合计：¥2,418.00" in zh
    assert "承诺送达日期：2026年11月24日（周二）" in zh
    assert "  - TGY-250 铁观音 250 g × 3 箱\n  - CUP-12 茶杯 × 1,200 件" in zh
    _, en = render("order_confirmation", "en", facts | {"currency": "GBP"})
    assert "Total: £2,418.00" in en
    assert "by Tue 24 Nov 2026." in en
    assert "3 boxes" in en and "1,200 pieces" in en
    _, yen = render("order_confirmation", "en", facts | {"currency": "JPY"})
    assert "Total: JP¥241,800\n" in yen  # a yen has no smaller unit


def test_an_estimated_date_says_so_and_a_firm_one_does_not() -> None:
    for template in (name for name, facts in TEMPLATES.items() if "is_estimated" in facts):
        estimated = render(template, "en", example_facts(template, is_estimated=True)).body.lower()
        firm = render(template, "en", example_facts(template, is_estimated=False)).body.lower()
        assert "estimated" in estimated and "estimated" not in firm, template
        assert "预计" in render(template, "zh", example_facts(template, is_estimated=True)).body
        unknown = render(template, "en", example_facts(template, promised_by_date=None)).body
        assert "There is no delivery date yet" in unknown and "24 Nov" not in unknown


def test_facts_that_may_be_none_leave_no_trace() -> None:
    assert "Reason" not in render("order_cancelled", "en", example_facts("order_cancelled", reason=None)).body
    assert "back" not in render("order_cancelled", "en", example_facts("order_cancelled", refund_cents=0)).body
    without = {name: value for name, value in example_facts("order_delayed").items() if name[:8] != "previous"}
    assert "Promised before" not in render("order_delayed", "en", without).body
    own = example_facts("shipped", delivery_method="own_truck", carrier=None, tracking_numbers=[], open_lines=[])
    body = render("shipped", "en", own).body
    assert "Carrier" not in body and "Tracking" not in body and "Still to come" not in body and "own truck" in body
    ticket = render("ticket_opened", "zh", example_facts("ticket_opened", number=None)).body
    assert "订单" not in ticket and "已记录为工单" in ticket
    offer = render("substitute_offer", "zh", example_facts("substitute_offer", link=None, difference_cents=0)).body
    assert "回复本邮件" in offer and "价格不变" in offer


def test_none_where_text_is_due_and_a_line_without_its_sku_are_errors() -> None:
    with pytest.raises(InvalidCommand, match="None where the text needs it"):
        render("satisfaction_request", "zh", example_facts("satisfaction_request", link=None))
    with pytest.raises(InvalidCommand, match="None where the text needs it"):
        render("order_confirmation", "zh", example_facts("order_confirmation", currency=None))
    with pytest.raises(jinja2.UndefinedError, match="sku"):
        render("order_confirmation", "zh", example_facts("order_confirmation", lines=[{"name": "x", "qty": 1}]))


def test_clerks_read_why_an_order_waits_in_their_language() -> None:
    facts = example_facts("clerk_new_order")
    subject, body = render("clerk_new_order", "zh", facts)
    assert subject.startswith("待审订单") and "  - 客户已被挂起。\n  - POT-01：2 中缺 1。" in body
    subject, body = render("clerk_new_order", "en", facts)
    assert subject.startswith("Order to review") and "  - POT-01: 1 of 2 are not in stock." in body
    assert "needs no review" in render("clerk_new_order", "en", facts | {"reasons": []}).body


def test_unknown_templates_and_languages_are_refused() -> None:
    with pytest.raises(InvalidCommand, match="there is no 'shiped'"):
        render("shiped", "zh", {})
    with pytest.raises(InvalidCommand, match="'de' is not zh or en"):
        render("shipped", "de", example_facts("shipped"))


def test_a_customers_words_neither_break_the_subject_nor_are_they_run() -> None:
    words = "broken\r\nBcc: all@example.com\n\n{{ number }} <b>"
    subject, body = render("ticket_opened", "en", example_facts("ticket_opened", subject=words))
    assert subject == "We have your report, ticket TK-20261122-000004: broken Bcc: all@example.com {{ number }} <b>"
    assert "{{ number }} <b>" in body


def test_a_greeting_takes_a_name_with_braces() -> None:
    assert render("order_approved", "en", example_facts("order_approved", customer="{0} Ltd")).body.startswith(
        "Dear {0} Ltd,\n\n"
    )


def test_joined_notices_have_one_greeting_and_keep_both_tracking_numbers() -> None:
    first = Notice("shipped", example_facts("shipped", tracking_numbers=["SF1"], open_lines=[]))
    second = Notice("shipped", example_facts("shipped", tracking_numbers=["SF2"], open_lines=[]))
    subject, body = render_joined("zh", [first, second])
    assert subject == render("shipped", "zh", first.facts).subject
    assert "SF1" in body and "SF2" in body
    assert body.count("您好") == 1 and body.count("订货服务") == 1
    arriving = Notice("arriving", example_facts("arriving"))
    assert render_joined("en", [first, arriving]).subject == "Order SO-20261122-000317: 2 pieces of news"
    assert render_joined("en", [arriving]) == render("arriving", "en", arriving.facts)


def test_a_clerk_reads_amounts_and_missing_fields_in_his_language() -> None:
    reasons = [
        {"code": "address_incomplete", "missing": "recipient, phone, street"},
        {"code": "amount_high", "total_cents": 600_000, "max_cents": 500_000},
    ]
    told = example_facts("clerk_new_order") | {"reasons": reasons, "currency": "CNY"}
    chinese, english = (render("clerk_new_order", language, told).body for language in ("zh", "en"))
    assert "缺少：收货人、电话、地址" in chinese and "金额 ¥6,000.00 超过自动审核上限 ¥5,000.00" in chinese
    assert "分" not in chinese and "cents" not in english
    assert "lacks: recipient, phone, street" in english and "CN¥6,000.00" in english


@pytest.mark.parametrize("code", sorted(OWN_REASONS))
def test_our_own_reason_is_said_in_the_readers_language_and_a_persons_as_he_gave_it(code: str) -> None:
    told = example_facts("refund_granted") | {"reason": code}
    assert f"Reason: {OWN_REASONS[code][0]}" in render("refund_granted", "en", told).body
    assert f"原因：{OWN_REASONS[code][1]}" in render("refund_granted", "zh", told).body
    assert "原因：too late" in render("refund_granted", "zh", told | {"reason": "too late"}).body
