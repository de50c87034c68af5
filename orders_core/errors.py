"""One family of errors. The class tells the caller what can be done; the facts are attributes; the text names the
thing, the place and the numbers, in the reader's language.

>>> error = InsufficientStock(sku="LAMP", asked_qty=3, available_qty=2)
>>> str(error)
'LAMP: 3 asked for, 2 available to promise'
>>> error.text("zh")
'LAMP：需要 3，可售 2'
>>> error.code
'E_STOCK_SHORT'
"""

from __future__ import annotations

from typing import Any, ClassVar

from orders_core.problems import PROBLEMS, SAID_ZH


class OrdersError(Exception):
    """Base of everything the core refuses. `facts` fill the sentence; `code` is stable and safe to program against."""

    code: ClassVar[str] = "E_ORDERS"
    en: ClassVar[str] = "refused"
    zh: ClassVar[str] = "已拒绝"

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.text("en"))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.facts))

    def text(self, language: str = "en") -> str:
        """The sentence in `zh` or `en`."""
        is_zh = language == "zh"
        said = dict(self.facts)
        for name in ("entity", "action", "status", "line_status", "kind") if is_zh else ():
            if isinstance(said.get(name), str):
                said[name] = SAID_ZH.get(said[name], said[name])
        for name in ("problem", "reason"):  # a code of `problems.py`, or a sentence with its twin in `…_zh`
            value = said.get(name)
            if value in PROBLEMS:
                said[name] = PROBLEMS[value][is_zh].format(**said)
            elif is_zh and said.get(f"{name}_zh"):
                said[name] = said[f"{name}_zh"]
        return (self.zh if is_zh else self.en).format(**said)


def _rebuild(kind: type[OrdersError], facts: dict[str, Any]) -> OrdersError:
    return kind(**facts)


class NotFound(OrdersError):
    """Nothing of that name is there (or not for this actor)."""

    code = "E_NOT_FOUND"
    en = "no {entity} {key}"
    zh = "未找到{entity} {key}"


class InvalidCommand(OrdersError):
    """The request itself is wrong; asking again the same way will not help."""

    code = "E_INVALID"
    en = "{field}: {problem}"
    zh = "{field}：{problem}"


class InvalidQuantity(InvalidCommand):
    code = "E_QTY"
    en = "{place}: quantity {qty} is not a whole number from 1 to 9,999,999"
    zh = "{place}：数量 {qty} 不是 1 到 9,999,999 的整数"


class InsufficientStock(OrdersError):
    """Not enough available to promise. `short` lists every short SKU when there are several."""

    code = "E_STOCK_SHORT"
    en = "{sku}: {asked_qty} asked for, {available_qty} available to promise"
    zh = "{sku}：需要 {asked_qty}，可售 {available_qty}"


class CreditExceeded(OrdersError):
    code = "E_CREDIT"
    en = "customer {customer}: open {used_cents} + this {asked_cents} exceeds the limit {limit_cents} (in cents, {currency})"
    zh = "客户 {customer}：已用 {used_cents} + 本单 {asked_cents} 超过额度 {limit_cents}（{currency}，单位：分）"


class VersionConflict(OrdersError):
    """Someone else changed it meanwhile; nothing was written. Read again, then decide."""

    code = "E_VERSION"
    en = "{entity} {key} is at version {current_version}, you saw {expected_version}"
    zh = "{entity} {key} 当前版本 {current_version}，您看到的是 {expected_version}"


class NotAllowed(OrdersError):
    """The stage × action table (domain/lifecycle.py) says no at this stage; `reason` says why."""

    code = "E_STAGE"
    en = "{action} is not possible for {entity} {key} in stage {status}: {reason}"
    zh = "{entity} {key} {status}，不能{action}：{reason}"


class PermissionDenied(OrdersError):
    code = "E_PERMISSION"
    en = "{actor} may not {permission}"
    zh = "{actor} 无权执行 {permission}"


class IdempotencyMismatch(OrdersError):
    """The key was used before with another body; nothing was written."""

    code = "E_IDEMPOTENCY_MISMATCH"
    en = "key {key} was used before for {number} with other content"
    zh = "幂等键 {key} 已用于 {number}，但内容不同"


class BelowShipped(OrdersError):
    code = "E_BELOW_SHIPPED"
    en = "order {number} line {line_no}: {asked_qty} asked for, the minimum is {shipped_qty} already shipped"
    zh = "订单 {number} 第 {line_no} 行：要改为 {asked_qty}，但已发货 {shipped_qty}，不能更少"


class BelowFloorPrice(OrdersError):
    code = "E_FLOOR_PRICE"
    en = "{sku}: price {price_cents} is below the floor {floor_cents} (in cents); a second person must approve"
    zh = "{sku}：价格 {price_cents} 低于底价 {floor_cents}(分)，需要第二人审批"


class OverPayment(OrdersError):
    """More money would go out (or be settled) than came in."""

    code = "E_MONEY"
    en = "{what}: {asked_cents} asked for, at most {limit_cents} possible (in cents)"
    zh = "{what}：要求 {asked_cents}，最多 {limit_cents}(分)"


class QuantityExceeded(OrdersError):
    """More units than the document allows: shipped, picked, returned or received."""

    code = "E_QTY_EXCEEDED"
    en = "{what}: {asked_qty} asked for, at most {limit_qty} possible"
    zh = "{what}：要求 {asked_qty}，最多 {limit_qty}"


class WrongScan(OrdersError):
    code = "E_SCAN"
    en = "pick list {number}: scanned {scanned}, expected {expected}"
    zh = "拣货单 {number}：扫到 {scanned}，应为 {expected}"


class SuggestionOld(OrdersError):
    """The suggestion is not of the newest plan. Look at that one, or say that the older one counts all the same."""

    code = "E_SUGGESTION_OLD"
    en = "{sku} at {location}: suggested by the plan of {as_of_date}, the newest is of {newest_date}"
    zh = "{location} 的 {sku}：这是 {as_of_date} 的建议，最新计划为 {newest_date}"


class SuggestionOvertaken(OrdersError):
    """Another plan's suggestion was ordered after this plan was made: it does not know those units are coming."""

    code = "E_SUGGESTION_OVERTAKEN"
    en = (
        "{sku} at {location}: {number} ordered {ordered_qty} on {ordered_date}, after the plan of {as_of_date} was made"
    )
    zh = "{location} 的 {sku}：{as_of_date} 的计划生成之后，{number} 已于 {ordered_date} 采购 {ordered_qty}"


class NotInBulk(OrdersError):
    """Suggestions nobody should approve unseen: their forecasts are of grade C or D, or have none."""

    code = "E_NOT_IN_BULK"
    en = "approve one by one, the forecast is of grade C or D: {skus}"
    zh = "预测可信度为 C 或 D，请逐条审核：{skus}"


class LotRefused(OrdersError):
    code = "E_LOT"
    en = "lot {lot_code} of {sku}: {problem}"
    zh = "{sku} 批次 {lot_code}：{problem}"


class AlreadyExists(OrdersError):
    code = "E_EXISTS"
    en = "{entity} {key} is there already"
    zh = "{entity} {key} 已存在"


class Busy(OrdersError):
    """The database stayed locked through every retry; nothing was written, try again later."""

    code = "E_BUSY"
    en = "the database was busy for {seconds} s; nothing was written, try again"
    zh = "数据库繁忙 {seconds} 秒，未写入任何内容，请重试"


class SchemaVersion(OrdersError):
    code = "E_SCHEMA_VERSION"
    en = "database is at schema {found}, this program needs {needed}"
    zh = "数据库结构版本为 {found}，程序需要 {needed}"


class ConfigError(OrdersError):
    code = "E_CONFIG"
    en = "setting {key}: {problem}"
    zh = "设置 {key}：{problem}"
