"""Our codes in words, for lists and timelines: (en, zh). A code without words is shown as it is."""

from __future__ import annotations

from collections.abc import Mapping

STATUSES = {
    "review": ("review", "待审核"),
    "held": ("held", "已挂起"),
    "waiting_stock": ("waiting for stock", "待到货"),
    "ready": ("ready", "待拣货"),
    "picking": ("picking", "拣货中"),
    "partly_shipped": ("partly shipped", "部分发货"),
    "shipped": ("shipped", "已发货"),
    "partly_delivered": ("partly delivered", "部分送达"),
    "delivered": ("delivered", "已送达"),
    "cancelled": ("cancelled", "已取消"),
    "rejected": ("rejected", "已驳回"),
}
SHIPMENTS = {
    "planned": ("planned", "已计划"),
    "released": ("released", "已下发"),
    "picked": ("picked", "已拣"),
    "packed": ("packed", "已打包"),
    "shipped": ("shipped", "已发货"),
    "delivered": ("delivered", "已送达"),
    "exception": ("exception", "异常"),
    "cancelled": ("cancelled", "已取消"),
}
DELIVERIES = {
    "courier": ("courier", "快递"),
    "own_truck": ("own truck", "自送"),
    "pick_up": ("pick-up", "自提"),
}
STEPS = {
    "edit": ("edit", "修改"),
    "approve": ("approve", "审核"),
    "reject": ("reject", "驳回"),
    "hold": ("hold", "挂起"),
    "resume": ("resume", "恢复"),
    "split": ("split", "拆单"),
    "release": ("release", "下发"),
    "pick": ("pick", "拣货"),
    "ship": ("ship", "发货"),
    "cancel": ("cancel", "取消"),
    "return": ("return", "退货"),
    "refund": ("refund", "退款"),
}
ACTIONS = {
    "order.place": ("placed", "下单"),
    "order.approve": ("approved", "审核通过"),
    "order.reject": ("rejected", "驳回"),
    "order.hold": ("put on hold", "挂起"),
    "order.resume": ("resumed", "恢复"),
    "order.edit": ("edited", "修改"),
    "order.split": ("split", "拆单"),
    "order.cancel": ("cancelled", "取消"),
    "order.pay": ("paid", "收款"),
    "order.refund": ("refund granted", "批准退款"),
    "order.note": ("note", "备注"),
    "order.contact": ("contact", "联系客户"),
    "order.delivered": ("delivered", "送达"),
    "order.change_opened": ("change opened", "开启变更"),
    "order.change_dropped": ("change dropped", "放弃变更"),
    "shipment.release": ("released to the warehouse", "下发仓库"),
    "shipment.ship": ("shipped", "发货"),
    "note.print": ("delivery note printed", "打印送货单"),
    "follow_up.ask": ("customer asked how it was", "发出满意度询问"),
    "follow_up.answer": ("customer answered", "客户已评价"),
    "return.request": ("return requested", "申请退货"),
    "ticket.open": ("ticket opened", "建立工单"),
}


def said(table: Mapping[str, tuple[str, str]], code: str, language: str) -> str:
    """The words for a code, or the code."""
    pair = table.get(code)
    return code if pair is None else pair[1 if language == "zh" else 0]
