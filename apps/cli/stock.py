"""`dinghuo stock …`: what lies where, counts, arrivals."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from apps.cli import imports
from apps.cli.context import Context, Csv, DryRun, a_day, both, command
from apps.cli.orders import Key, parse_lines
from apps.cli.terminal import plain

Location = Annotated[str, typer.Option("--location", help=both("where", "仓编码"))]
Units = Annotated[
    list[str], typer.Argument(metavar="SKU:QTY[:LOT]", help=both("what, how many pieces", "货号:件数[:批次]"))
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the group the imports made."""
    stock = imports.groups["stock"]
    command(stock, "show", "What lies where, reserved and free.", "查看库存。")(show)
    command(stock, "receive", "Book goods in; who waits for them gets them.", "收货入库，优先满足等待的订单。")(receive)
    command(stock, "count", "Count stock; large differences wait for a second person.", "盘点；差异大的需第二人复核。")(
        count
    )
    command(stock, "approve-count", "A second person's yes or no to a count.", "复核盘点。")(approve_count)


def show(
    out: Context,
    sku: Annotated[str | None, typer.Argument(help=both("only this SKU", "只看该货号"))] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help=both("rows at most", "最多行数"))] = 200,
    as_csv: Csv = False,
) -> None:
    """One row per SKU and location."""
    from orders_core.errors import NotFound
    from orders_core.store.queries import stock_of

    with out.store() as store, store.reading() as conn:
        found = stock_of(conn, search=sku, limit=limit)
    if sku is not None and not found:
        raise NotFound(entity=out.text("stock of SKU", "该货号的库存"), key=sku)
    out.emit_rows(
        {
            "sku": ("sku", "货号"),
            "name": ("name", "名称"),
            "location_code": ("location", "仓"),
            "on_hand_qty": ("on hand", "实物"),
            "reserved_qty": ("reserved", "占用"),
            "saleable_qty": ("free", "可售"),
            "backordered_qty": ("backordered", "欠货"),
            "inspecting_qty": ("inspecting", "待检"),
            "overcommitted_qty": ("over-committed", "超占"),
        },
        [dict(row._mapping) for row in found],
        as_csv=as_csv,
    )
    out.say(f"{len(found)} rows", f"{len(found)} 行")


def receive(
    out: Context,
    lines: Units,
    location: Location,
    purchase_order: Annotated[str | None, typer.Option("--purchase-order", help=both("its number", "采购单号"))] = None,
    expiry: Annotated[
        str | None, typer.Option("--expiry", metavar="YYYY-MM-DD", help=both("of the lots named", "所列批次的有效期"))
    ] = None,
    inspect: Annotated[
        bool, typer.Option("--inspect", help=both("they lie apart until inspected", "先放待检区"))
    ] = False,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Book an arrival in."""
    from orders_core.services.receiving import ReceivedLine, ReceiveGoods, receive_goods

    expiry_date = a_day("--expiry", expiry)
    arrived = [
        ReceivedLine(line.sku, line.qty, line.unit, expiry_date if line.unit else None, is_for_inspection=inspect)
        for line in parse_lines(lines)
    ]
    with out.store() as store:
        asked = ReceiveGoods(location, arrived, purchase_order=purchase_order, idem_key=key)
        received = out.run(store, receive_goods, asked, dry_run=dry_run)
    data = {**plain(received), "dry_run": dry_run}
    del data["receipt_id"]
    out.emit(data, received.number)
    orders = ", ".join(sorted({each.number for each in received.filled}))
    if orders:
        out.say(f"given to waiting orders: {orders}", f"已分配给等待的订单：{orders}")


def count(out: Context, lines: Units, location: Location, key: Key = None, dry_run: DryRun = False) -> None:
    """Start a count, note every figure, post it."""
    from orders_core.services.counts import PostCount, RecordCount, StartCount, post_count, record_count, start_count

    found = parse_lines(lines)

    def whole_count(uow: Any, actor: Any, start: StartCount) -> Any:
        state = start_count(uow, actor, start)
        if state.status == "open":
            for line in found:
                record_count(uow, actor, RecordCount(state.number, line.sku, line.qty, line.unit))
        return post_count(uow, actor, PostCount(state.number))

    with out.store() as store:
        state = out.run(store, whole_count, StartCount(location, idem_key=key), dry_run=dry_run)
    _show_count(out, state, dry_run)
    if state.status == "waiting_approval":
        again = f"dinghuo stock approve-count {state.number} --as NAME"
        out.say(f"a large difference waits for a second person: {again}", f"差异较大，需第二人复核：{again}")


def approve_count(
    out: Context,
    number: Annotated[str, typer.Argument(help=both("the count's number", "盘点单号"))],
    refuse: Annotated[bool, typer.Option("--refuse", help=both("do not book it", "不予入账"))] = False,
) -> None:
    """Book a count with large differences, or refuse it; not by who counted."""
    from orders_core.services.counts import ApproveCount
    from orders_core.services.counts import approve_count as decide

    with out.store() as store:
        state = out.run(store, decide, ApproveCount(number, is_approved=not refuse))
    _show_count(out, state, False)


def _show_count(out: Context, state: Any, dry_run: bool) -> None:
    differences = [{**plain(each), "difference_qty": each.difference_qty} for each in state.differences]
    out.emit(
        {"number": state.number, "status": state.status, "differences": differences, "dry_run": dry_run},
        f"{state.number}  {state.status}",
    )
    for each in state.differences:
        line = f"{each.sku}: {each.expected_qty} -> {each.counted_qty} ({each.difference_qty:+d})"
        out.say(line, line)
