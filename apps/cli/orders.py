"""`dinghuo orders …`: place, look at, decide."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from apps.cli import imports
from apps.cli.context import (
    FAILED,
    REFUSED,
    Context,
    Csv,
    DryRun,
    WrongArgument,
    a_day,
    both,
    cents_of,
    command,
    one_of,
)
from apps.cli.terminal import aligned, money, plain, shown

if TYPE_CHECKING:
    from orders_core.store.queries import OrderPage
    from orders_core.store.uow import Store

_LINE = re.compile(r"(?P<sku>.+?):(?P<qty>[0-9]{1,7})(?::(?P<unit>[^:]+))?")

Numbers = Annotated[list[str], typer.Argument(metavar="NUMBER", help=both("order numbers", "订单号"))]
Lines = Annotated[list[str], typer.Argument(metavar="SKU:QTY[:UNIT]", help=both("what, how many", "货号:数量[:单位]"))]
Key = Annotated[
    str | None,
    typer.Option("--key", help=both("said again with this key, nothing happens twice", "幂等键：重复执行也只生效一次")),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the group the imports made."""
    orders = imports.groups["orders"]
    command(orders, "place", "Place an order.", "下单。")(place)
    command(orders, "show", "One order as a clerk wants to see it.", "查看一张订单。")(show)
    command(orders, "list", "Orders, least time left first.", "订单列表，最紧急的在前。")(list_orders)
    command(orders, "approve", "Approve waiting orders.", "审核通过。")(approve)
    command(orders, "hold", "Stop orders; nothing of them is picked or shipped.", "挂起订单，暂停拣货发货。")(hold)
    command(orders, "resume", "Let held orders go on.", "恢复挂起的订单。")(resume)
    command(orders, "reject", "Turn waiting orders down.", "驳回待审核订单。")(reject)
    command(orders, "cancel", "Cancel what has not left yet.", "取消尚未发出的部分。")(cancel)
    command(orders, "perform", "Say that the services sold with orders were performed.", "登记订单中的服务已完成。")(
        perform
    )
    command(orders, "invoice", "Ask for the invoice of an order.", "申请开票。")(invoice)
    command(orders, "pay", "Record a payment for an order.", "登记订单收款。")(pay)
    command(
        orders,
        "refund",
        "Take an amount off an order; what was paid above it goes back.",
        "减免订单金额，多付部分退还。",
    )(refund)


def said(kind: str, code: str, language: str) -> str:
    """One of our codes in the desk's words; a code without words is shown as it is."""
    from apps.components.words import WORDS

    zh, en = WORDS.get(f"{kind}.{code}", (code, code))
    return zh if language == "zh" else en


class Asked(NamedTuple):
    """A line typed as SKU:QTY[:UNIT]."""

    sku: str
    qty: int
    unit: str | None


def parse_lines(texts: Sequence[str]) -> list[Asked]:
    """`LAMP:2`, `TEA:3:box` as lines.

    >>> parse_lines(["LAMP:2", "TEA:3:box"])
    [Asked(sku='LAMP', qty=2, unit=None), Asked(sku='TEA', qty=3, unit='box')]
    """
    lines = []
    for text in texts:
        match = _LINE.fullmatch(text)
        if match is None:
            raise WrongArgument(
                flag="SKU:QTY[:UNIT]",
                problem=f"{text} is not like LAMP:2 or TEA:3:box",
                problem_zh=f"{text} 应写成 LAMP:2 或 TEA:3:box 的形式",
            )
        lines.append(Asked(match["sku"], int(match["qty"]), match["unit"]))
    return lines


def place(
    out: Context,
    lines: Lines,
    customer: Annotated[str, typer.Option("--customer", help=both("customer's code", "客户编码"))],
    channel: Annotated[str, typer.Option("--channel", help=both("how the order came in", "渠道编码"))],
    key: Key = None,
    external_id: Annotated[
        str | None, typer.Option("--external-id", help=both("the channel's own number", "渠道自己的单号"))
    ] = None,
    payment: Annotated[
        str,
        typer.Option(
            "--payment",
            help=both("credit, prepaid or on_delivery", "credit 账期 / prepaid 预付 / on_delivery 货到付款"),
        ),
    ] = "credit",
    delivery: Annotated[
        str,
        typer.Option(
            "--delivery", help=both("courier, own_truck or pick_up", "courier 快递 / own_truck 自送 / pick_up 自提")
        ),
    ] = "courier",
    requested_date: Annotated[
        str | None, typer.Option("--requested-date", metavar="YYYY-MM-DD", help=both("wanted by", "要求到货日"))
    ] = None,
    coupon: Annotated[str | None, typer.Option("--coupon", help=both("coupon code", "优惠券"))] = None,
    note: Annotated[str | None, typer.Option("--note", help=both("for the clerk", "备注"))] = None,
    dry_run: DryRun = False,
) -> None:
    """Place an order; says its number, where it stands and why it waits."""
    from orders_core.domain.validation import reason_text
    from orders_core.services.drafting import LineIn
    from orders_core.services.place_order import PlaceOrder, place_order

    one_of("--payment", payment, ("credit", "prepaid", "on_delivery"))
    one_of("--delivery", delivery, ("courier", "own_truck", "pick_up"))
    asked = PlaceOrder(
        channel=channel,
        customer=customer,
        lines=[LineIn(line.sku, line.qty, line.unit) for line in parse_lines(lines)],
        idem_key=key,
        external_id=external_id,
        payment_method=payment,
        delivery_method=delivery,
        requested_date=a_day("--requested-date", requested_date),
        coupon_code=coupon,
        note=note,
    )
    with out.store() as store:
        placed = out.run(store, place_order, asked, dry_run=dry_run)
    data = {**plain(placed), "dry_run": dry_run}
    del data["order_id"]
    out.emit(data, placed.number)
    status = said("status", placed.status, out.language)
    total = money(placed.total_cents, placed.currency)
    by = placed.promised_by_date or "-"
    about = out.text(" (estimated)", "（预计）") if placed.is_promise_estimated else ""
    again = out.text(" (placed before)", "（此前已下单）") if placed.is_repeat else ""
    out.say(f"{status}, {total}, promised by {by}{about}{again}", f"{status}，{total}，承诺 {by} 前送达{about}{again}")
    if placed.backordered_qty:
        out.say(f"{placed.backordered_qty} units wait for stock", f"{placed.backordered_qty} 件等待到货")
    for reason in placed.review_reasons:
        sentence = reason_text(reason, out.language)
        out.say(f"waits: {sentence}", f"待审核原因：{sentence}")


def list_orders(
    out: Context,
    view: Annotated[
        str,
        typer.Option(
            "--view",
            help=both(
                "open, review, short, ready, picking, held, on_the_way, overdue, courier, stuck, all",
                "视图：open 未完成、review 待审核、short 缺货、ready 待下发、picking 拣货中、held 挂起、on_the_way 在途、"
                "overdue 超时未发、courier 快递异常、stuck 停滞、all 全部",
            ),
        ),
    ] = "open",
    search: Annotated[
        str | None, typer.Option("--search", help=both("part of a number, code or name", "单号、编码或名称的一部分"))
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help=both("only this channel", "只看该渠道"))] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help=both("orders at most", "最多订单数"))] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, help=both("leave out the first", "跳过前若干张"))] = 0,
    as_csv: Csv = False,
) -> None:
    """One line per order, with why it waits."""
    from orders_core.store.queries import VIEWS, order_queue

    one_of("--view", view, VIEWS)
    with out.store() as store, store.reading() as conn:
        now = store.clock.now()
        page = order_queue(
            conn,
            today=now.astimezone(store.zone).date(),
            now=now,
            view=view,
            search=search,
            channel=channel,
            limit=limit,
            offset=offset,
        )
    rows = [
        {
            "number": row.number,
            "status": row.status,
            "customer_code": row.customer_code,
            "customer": row.customer,
            "channel": row.channel,
            "total_cents": row.total_cents,
            "currency": row.currency,
            "placed_at": row.placed_at,
            "business_date": row.business_date,
            "promised_by_date": row.promised_by_date,
            "reasons": _waits(row, out.language),
            "reason_codes": [reason["code"] for reason in row.review_reasons or []],
        }
        for row in page.rows
    ]
    data = {"total": page.total, "orders": rows}
    if as_csv or out.is_json:
        csv_rows = [
            {**row, "reasons": " ".join(row["reasons"]), "reason_codes": " ".join(row["reason_codes"])} for row in rows
        ]
        out.emit_rows(
            dict.fromkeys(rows[0], ("", "")) if rows else {"number": ("", "")}, csv_rows, as_csv=as_csv, data=data
        )
    else:
        for row in rows:
            row["status"] = said("status", row["status"], out.language)
            row["total"] = money(row["total_cents"], row["currency"])
            row["reasons"] = " ".join(row["reasons"])
        out.emit_rows(
            {
                "number": ("number", "订单号"),
                "status": ("status", "状态"),
                "customer": ("customer", "客户"),
                "channel": ("channel", "渠道"),
                "total": ("total", "金额"),
                "business_date": ("placed", "下单日"),
                "promised_by_date": ("promised", "承诺日"),
                "reasons": ("waits because", "等待原因"),
            },
            rows,
        )
    out.say(f"{len(rows)} of {page.total} orders", f"共 {page.total} 张订单，显示 {len(rows)} 张")


def _waits(order: Any, language: str) -> list[str]:
    """Why an order waits, as sentences."""
    from orders_core.domain.validation import reason_text

    sentences = [reason_text(reason, language) for reason in order.review_reasons or []]
    if order.hold_reason:
        sentences.append(reason_text({"code": "held_by_hand", "reason": order.hold_reason}, language))
    return sentences


def show(out: Context, number: Annotated[str, typer.Argument(help=both("order number", "订单号"))]) -> None:
    """Stage, why it waits, money, lines, shipments, timeline, what can be done."""
    with out.store() as store:
        zone = store.zone
        page = _page(store, number)
    out.emit(_page_as_json(page, out.language), lambda: "\n".join(_page_lines(out, page, zone)))


def _page(store: Store, number: str) -> OrderPage:
    """All about one order; raises NotFound."""
    from orders_core.errors import NotFound
    from orders_core.store.queries import order_page

    with store.reading() as conn:
        page = order_page(conn, number)
    if page is None:
        raise NotFound(entity="order", key=number)
    return page


_HIDDEN = {"id", "body_hash", "lines_hash", "idem_key", "idem_scope"}


def _public(row: Any) -> Any:
    """A row without our own ids and hashes."""
    kept = dict(row._mapping).items()
    return {
        key: value for key, value in kept if key not in _HIDDEN and (not key.endswith("_id") or key == "external_id")
    }


def _page_as_json(page: OrderPage, language: str) -> dict[str, Any]:
    parts = (
        "lines",
        "charges",
        "shipments",
        "packages",
        "tracking",
        "decisions",
        "timeline",
        "notes",
        "returns",
        "tickets",
    )
    return {
        **_public(page.order),
        "waits": _waits(page.order, language),
        **{name: [_public(row) for row in getattr(page, name)] for name in parts},
        "possible": [action for action, why in page.actions.items() if why is None],
    }


def _page_lines(out: Context, page: OrderPage, zone: Any) -> list[str]:
    order, t = page.order, out.text

    def at(moment: Any) -> str:
        return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}" if moment else ""

    status = said("status", order.status, out.language)
    lines = [f"{order.number}  {status}  {order.customer} ({order.customer_code}), {order.channel_name}"]
    dates = [t(f"placed {at(order.placed_at)}", f"下单 {at(order.placed_at)}")]
    if order.requested_date:
        dates.append(t(f"wanted {order.requested_date}", f"要求 {order.requested_date}"))
    if order.promised_by_date:
        about = t(" (estimated)", "（预计）") if order.is_promise_estimated else ""
        dates.append(t(f"promised {order.promised_by_date}{about}", f"承诺 {order.promised_by_date}{about}"))
    lines.append(", ".join(dates))
    for sentence in _waits(order, out.language):
        lines.append(t("! ", "! ") + sentence)
    owes = order.total_cents - (order.paid_cents - order.refunded_cents)
    amounts = [
        (t("goods", "商品"), order.goods_cents),
        (t("discount", "优惠"), -order.discount_cents),
        (t("charges", "费用"), order.charges_cents),
        (t("tax", "税"), order.tax_cents),
        (t("total", "合计"), order.total_cents),
        (t("paid", "已付"), order.paid_cents),
        (t("refunded", "已退"), order.refunded_cents),
        (t("owes", "待付"), owes),
    ]
    kept = {t("total", "合计"), t("owes", "待付")}
    lines.append(
        ", ".join(f"{name} {money(cents, order.currency)}" for name, cents in amounts if cents or name in kept)
    )
    address = [order.recipient, order.phone, order.region, order.city, order.street, order.postcode]
    if any(address):
        method = said("delivery", order.delivery_method, out.language)
        lines.append(t("to ", "收货 ") + " ".join(part for part in address if part) + f" ({method})")
    lines += _section(out, "lines", "明细", _LINE_COLUMNS, [_line_cells(out, order, line) for line in page.lines])
    lines += _section(
        out, "shipments", "发货单", _SHIPMENT_COLUMNS, [_shipment_cells(out, each, at) for each in page.shipments]
    )
    lines += _section(out, "packages", "包裹", _PACKAGE_COLUMNS, [_public(each) for each in page.packages])
    lines += _section(
        out, "returns", "退货", {"number": ("number", "单号"), "kind": ("kind", "类型"), "status": ("status", "状态")},
        [_public(each) for each in page.returns],
    )  # fmt: skip
    for note in page.notes:
        lines.append(f"{at(note.at)}  {note.author}: {note.text}")
    happened = [
        {
            "at": at(each.at),
            "actor": each.actor,
            "action": said("audit", each.action, out.language),
            "facts": _facts(each.facts),
        }
        for each in page.timeline
    ]
    lines += _section(out, "timeline", "时间线", dict.fromkeys(("at", "actor", "action", "facts"), ("", "")), happened)
    possible = [said("action", action, out.language) for action, why in page.actions.items() if why is None]
    lines += ["", t("possible now: ", "现在可以：") + (", ".join(possible) or "-")]
    return lines


_LINE_COLUMNS = {
    "line_no": ("#", "行"),
    "sku": ("sku", "货号"),
    "name": ("name", "名称"),
    "ordered": ("ordered", "订购"),
    "price": ("price", "单价"),
    "net": ("net", "金额"),
    "reserved_qty": ("reserved", "占用"),
    "backordered_qty": ("backordered", "欠货"),
    "shipped_qty": ("shipped", "已发"),
    "delivered_qty": ("delivered", "送达"),
    "returned_qty": ("returned", "退回"),
}
_SHIPMENT_COLUMNS = {
    "number": ("number", "单号"),
    "status": ("status", "状态"),
    "location_code": ("from", "仓"),
    "sku": ("sku", "货号"),
    "qty": ("qty", "数量"),
    "reserved_qty": ("reserved", "占用"),
    "shipped_qty": ("shipped", "已发"),
    "planned_date": ("planned", "计划日"),
    "shipped": ("shipped at", "发货时间"),
}
_PACKAGE_COLUMNS = {
    "tracking_number": ("tracking number", "运单号"),
    "status": ("status", "状态"),
    "weight_g": ("g", "克"),
}


def _section(out: Context, en: str, zh: str, columns: Mapping[str, tuple[str, str]], rows: Sequence[Any]) -> list[str]:
    """A heading and its rows, indented; nothing when there are none. Columns that are empty in every row are left out."""
    if not rows:
        return []
    kept = [key for key in columns if any(row.get(key) not in (None, "", 0) for row in rows)]
    headings = [out.text(*columns[key]) for key in kept]
    cells = [[shown(row.get(key)) for key in kept] for row in rows]
    is_number = [all(isinstance(row.get(key), int | None) for row in rows) for key in kept]
    table = aligned([headings, *cells] if any(headings) else cells, is_number)
    return ["", out.text(en, zh), *(f"  {line}" for line in table)]


def _line_cells(out: Context, order: Any, line: Any) -> dict[str, Any]:
    unit = f" {line.unit}" if line.units_per_pack != 1 else ""
    cancelled = out.text(f" (-{line.cancelled_qty})", f"(-{line.cancelled_qty})") if line.cancelled_qty else ""
    return {
        **line._mapping,
        "name": (line.name if out.language == "zh" else line.name_en) or line.name,
        "ordered": f"{line.pack_qty}{unit}{cancelled}",
        "price": money(line.unit_price_cents, order.currency),
        "net": money(line.net_cents, order.currency),
    }


def _shipment_cells(out: Context, row: Any, at: Callable[[Any], str]) -> dict[str, Any]:
    return {
        **row._mapping,
        "status": said("shipment", row.status, out.language),
        "shipped": at(row.shipped_at),
    }


def _facts(facts: Any) -> str:
    """The facts of a timeline entry on one line."""
    if not isinstance(facts, Mapping):
        return ""
    simple = {key: value for key, value in facts.items() if isinstance(value, str | int) and value != ""}
    return ", ".join(f"{key} {value}" for key, value in simple.items())


# ------------------------------------------------------------------------------------------------------- decisions

Reason = Annotated[
    str,
    typer.Option("--reason", help=both("is kept, and told where the customer is told", "原因（会保存，并通知客户）")),
]


def approve(
    out: Context,
    numbers: Numbers,
    reason: Annotated[
        str | None, typer.Option("--reason", help=both("needed above the credit limit", "超出信用额度时必填"))
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Approve by hand."""
    from orders_core.services.review import ApproveOrder, approve_order

    return _decide(out, approve_order, [ApproveOrder(number, reason=reason) for number in numbers], dry_run)


def hold(out: Context, numbers: Numbers, reason: Reason, dry_run: DryRun = False) -> int:
    """Put on hold."""
    from orders_core.services.review import HoldOrder, hold_order

    return _decide(out, hold_order, [HoldOrder(number, reason) for number in numbers], dry_run)


def resume(out: Context, numbers: Numbers, dry_run: DryRun = False) -> int:
    """Resume."""
    from orders_core.services.review import ResumeOrder, resume_order

    return _decide(out, resume_order, [ResumeOrder(number) for number in numbers], dry_run)


def reject(out: Context, numbers: Numbers, reason: Reason, dry_run: DryRun = False) -> int:
    """Reject."""
    from orders_core.services.review import RejectOrder, reject_order

    return _decide(out, reject_order, [RejectOrder(number, reason) for number in numbers], dry_run)


def cancel(out: Context, numbers: Numbers, reason: Reason, dry_run: DryRun = False) -> int:
    """Cancel; what has left stays sold."""
    from orders_core.services.cancel import CancelOrder, cancel_order

    return _decide(out, cancel_order, [CancelOrder(number, reason) for number in numbers], dry_run)


def perform(out: Context, numbers: Numbers, dry_run: DryRun = False) -> int:
    """Record what is still to be performed as performed."""
    from orders_core.services.perform import PerformServices, perform_services

    return _decide(out, perform_services, [PerformServices(number) for number in numbers], dry_run)


def _dropped(out: Context, done: Mapping[str, Any]) -> str:
    """What a cancel takes off an order of which a part stays; nothing where all is gone, or nothing was cancelled."""
    if done["status"] == "cancelled":
        return ""
    lines = ", ".join(f"{line['sku']} × {line['qty']}" for line in done.get("dropped", ()))
    return out.text(f"  (taken off: {lines})", f"（取消：{lines}）") if lines else ""


def _decide(out: Context, service: Callable[..., Any], commands: Sequence[Any], dry_run: bool) -> int:
    """Decide on each order in a transaction of its own: what can be done is done, the rest is explained."""
    from orders_core.errors import OrdersError

    done, refused = [], []
    with out.store() as store:
        for each in commands:
            try:
                state = out.run(store, service, each, dry_run=dry_run)
            except OrdersError as error:
                refused.append(
                    {"number": each.number, "code": error.code, "en": error.text("en"), "zh": error.text("zh")}
                )
            else:
                dropped = {"dropped": [asdict(line) for line in state.dropped]} if hasattr(state, "dropped") else {}
                done.append({"number": state.number, "status": state.status, **dropped})
    lines = [f"{each['number']}  {said('status', each['status'], out.language)}{_dropped(out, each)}" for each in done]
    if done or out.is_json:
        out.emit({"done": done, "refused": refused, "dry_run": dry_run}, "\n".join(lines))
    for each in refused:
        out.warn(f"{each['code']} {each['en']}", f"{each['code']} {each['zh']}")
    if not refused:
        return 0
    return REFUSED if done else FAILED


def invoice(
    out: Context,
    number: Annotated[str, typer.Argument(help=both("order number", "订单号"))],
    title: Annotated[
        str | None, typer.Option("--title", help=both("default: the customer's", "抬头，默认为客户的"))
    ] = None,
    tax_number: Annotated[
        str | None, typer.Option("--tax-number", help=both("default: the customer's", "税号，默认为客户的"))
    ] = None,
    amount: Annotated[
        str | None,
        typer.Option("--amount", metavar="1234.50", help=both("default: all that is left", "默认为全部余额")),
    ] = None,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Ask for an invoice."""
    from orders_core.services.invoices import RequestInvoice, request_invoice

    with out.store() as store:
        currency = _page(store, number).order.currency
        cents = None if amount is None else cents_of("--amount", amount, currency)
        asked = RequestInvoice(number, title, tax_number, cents, idem_key=key)
        result = out.run(store, request_invoice, asked, dry_run=dry_run)
    data = {**plain(result), "dry_run": dry_run}
    del data["request_id"]
    out.emit(data, result.number)
    total = money(result.amount_cents, result.currency)
    out.say(f"{total} for {number}, made out to {result.title}", f"{number} 开票 {total}，抬头 {result.title}")


def pay(
    out: Context,
    number: Annotated[str, typer.Argument(help=both("order number", "订单号"))],
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="1234.50", help=both("default: what it owes", "默认为待付金额"))
    ] = None,
    method: Annotated[str, typer.Option("--method", help=both("transfer, cash, card …", "付款方式"))] = "transfer",
    reference: Annotated[
        str | None, typer.Option("--reference", help=both("of the bank or till", "银行或收银流水号"))
    ] = None,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Record money received for one order."""
    from orders_core.errors import InvalidCommand
    from orders_core.services.payments import ReceivePayment, receive_payment

    with out.store() as store:
        order = _page(store, number).order
        cents = order.total_cents - (order.paid_cents - order.refunded_cents)
        if amount is not None:
            cents = cents_of("--amount", amount, order.currency)
        elif cents <= 0:
            raise InvalidCommand(field=number, problem=out.text("it owes nothing", "没有待付金额"))
        received = out.run(
            store,
            receive_payment,
            ReceivePayment(
                customer=order.customer_code,
                amount_cents=cents,
                idem_key=key or str(uuid.uuid4()),
                method=method,
                currency=order.currency,
                reference=reference,
                settle={number: cents},
            ),
            dry_run=dry_run,
        )
    data = {**plain(received), "amount_cents": cents, "currency": order.currency, "dry_run": dry_run}
    del data["receipt_id"]
    out.emit(data, received.number)
    paid = money(cents, order.currency)
    out.say(f"{paid} for {number}", f"{number} 收款 {paid}")
    for other in received.approved:
        out.say(f"{other} went through with it", f"{other} 随之审核通过")


def refund(
    out: Context,
    number: Annotated[str, typer.Argument(help=both("order number", "订单号"))],
    amount: Annotated[
        str, typer.Option("--amount", metavar="1234.50", help=both("how much less it costs", "减免金额"))
    ],
    reason: Reason,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Let an order cost less, without goods coming back."""
    from orders_core.services.payments import RefundOrder, refund_order

    with out.store() as store:
        cents = cents_of("--amount", amount, _page(store, number).order.currency)
        done = out.run(store, refund_order, RefundOrder(number, cents, reason, idem_key=key), dry_run=dry_run)
    data = {**plain(done), "dry_run": dry_run}
    del data["order_id"]
    out.emit(data, done.number)
    costs, back = money(done.total_cents, done.currency), money(done.refunded_cents, done.currency)
    out.say(f"{number} costs {costs} now; {back} given back in all", f"{number} 现应收 {costs}，累计退款 {back}")
