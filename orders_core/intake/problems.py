"""What can be wrong with a file, a row or a field, as a value that says so in Chinese and in English.

A bad field is not an exception here: a file of a hundred thousand rows has some, and each one is kept, counted
and shown. Only what stops the whole file is raised, as `FileRefused`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orders_core.errors import OrdersError

Language = Literal["zh", "en"]

# code, or code.why -> (English, Chinese). `{raw}` is the text in the file, `{field}` the column; other names are facts.
MESSAGES: dict[str, tuple[str, str]] = {
    # --- the whole file
    "E_FILE.missing": ("{file} does not exist", "文件 {file} 不存在"),
    "E_FILE.kind": ("{file} is {kind}, not a regular file", "{file} 是{kind_zh}，不是普通文件"),
    "E_FILE.permission": ("{file} may not be read: permission denied", "没有权限读取 {file}"),
    "E_FILE.outside": (
        "{file} is a link to {target}, outside its own folder; give the real path",
        "{file} 是指向其所在文件夹之外（{target}）的链接，请给出真实路径",
    ),
    "E_FILE.name": ("the file name holds a NUL character", "文件名含有 NUL 字符"),
    "E_FILE.changed": ("{file} changed while it was being read; import it again", "读取期间 {file} 被改动，请重新导入"),
    "E_FILE_TYPE": (
        "{file} is named {named} but is {found}; save it as CSV (UTF-8), XLSX or Parquet",
        "{file} 的扩展名是 {named}，内容却是 {found}；请另存为 CSV（UTF-8）、XLSX 或 Parquet",
    ),
    "E_FILE_TYPE.broken": (
        "{file} is not a readable {named} file: {detail}",
        "{file} 不是可读的 {named} 文件：{detail}",
    ),
    "E_EMPTY_FILE": ("{file} is empty (0 bytes of text)", "{file} 是空文件（没有任何内容）"),
    "E_ENCODING": (
        "{file} is not valid {encoding}: byte {offset}, line {line}; save it again as UTF-8",
        "{file} 不是有效的 {encoding}：字节 {offset}，第 {line} 行；请另存为 UTF-8",
    ),
    "E_ENCODING.neither": (
        "{file} is neither UTF-8 (fails at byte {offset}, line {line}) nor GB18030 (fails at byte {offset2}, "
        "line {line2}); save it again as UTF-8",
        "{file} 既不是 UTF-8（字节 {offset}，第 {line} 行出错）也不是 GB18030（字节 {offset2}，第 {line2} 行出错）；"
        "请另存为 UTF-8",
    ),
    "E_ENCODING.nul": (
        "{file} holds NUL bytes (byte {offset}, line {line}): it looks like UTF-16 without its mark; save it as UTF-8",
        "{file} 含有 NUL 字节（字节 {offset}，第 {line} 行）：像是缺少标记的 UTF-16；请另存为 UTF-8",
    ),
    "E_ENCODING.unknown": (
        "encoding {raw} is not read here; use utf-8, utf-16 or gb18030",
        "不支持编码 {raw}；可用 utf-8、utf-16、gb18030",
    ),
    "E_CONFIRM.encoding": (
        "{file} reads as {answer}; look at the first rows and confirm with --encoding {answer}",
        "{file} 按 {answer} 可以读出；请查看前几行并用 --encoding {answer} 确认",
    ),
    "E_CONFIRM.delimiter": (
        "{file} seems to be separated by {answer}; look at the first rows and confirm with --delimiter {answer}",
        "{file} 的分隔符像是 {answer}；请查看前几行并用 --delimiter {answer} 确认",
    ),
    "E_HEADER": (
        "the header lacks: {missing}; not known: {unknown}; it has: {found}",
        "表头缺少列：{missing}；不认识的列：{unknown}；现有列：{found}",
    ),
    "E_HEADER.twice": (
        "two columns mean {field}: {found}",
        "有两列都表示 {field}：{found}",
    ),
    "E_LIMIT": (
        "{file} has {actual} {what}, more than the {limit} allowed; split the file",
        "{file} 有 {actual} {what_zh}，超过上限 {limit}；请拆分文件",
    ),
    "E_LIMIT.row": (
        "the row that begins on line {line} is longer than {limit} characters (a quote that is never closed?)",
        "从第 {line} 行开始的一行超过 {limit} 个字符（引号没有闭合？）",
    ),
    "E_LIMIT.ratio": (
        "{file} would unpack to {actual} times its size, more than the {limit} times allowed",
        "{file} 解压后是原来的 {actual} 倍，超过上限 {limit} 倍",
    ),
    "E_TRUNCATED": (
        "{file} looks cut off: {expected} rows announced, {actual} found; send the whole file again",
        "{file} 像是不完整：应有 {expected} 行，实有 {actual} 行；请重新上传完整文件",
    ),
    "E_TRUNCATED.sha256": (
        "{file} has the checksum {actual}, {expected} was announced; send the whole file again",
        "{file} 的校验和是 {actual}，应为 {expected}；请重新上传完整文件",
    ),
    "E_TRUNCATED.trailer": (
        "{file} has no closing row '#rows,COUNT'; without it a broken upload can't be told from a short file",
        "{file} 没有结尾行“#rows，行数”；没有它就无法分辨文件是否上传完整",
    ),
    "E_TRUNCATED.quote": (
        "{file} ends inside the quoted field that begins on line {line}; send the whole file again",
        "{file} 在第 {line} 行开始的引号字段中间结束；请重新上传完整文件",
    ),
    "E_XML": (
        "{file} declares XML entities or a document type, which is refused",
        "{file} 声明了 XML 实体或文档类型，拒绝读取",
    ),
    "E_CONFIG": ("{file}: {path}: {detail}", "{file}：{path}：{detail}"),
    "E_CONFIG.unknown": (
        "{file}: unknown key {path}; did you mean {nearest}?",
        "{file}：不认识的键 {path}；是不是 {nearest}？",
    ),
    "E_LOCKED": (
        "{who} has been importing this since {since}; try again when that has finished",
        "{who} 从 {since} 起正在导入；请等它结束后再试",
    ),
    # --- a row
    "E_ROW_WIDTH": ("expected {expected} fields, got {actual}", "应有 {expected} 列，实有 {actual} 列"),
    "E_QUOTE": ("the quotes of this row do not pair: {detail}", "本行引号不成对：{detail}"),
    "E_CONFLICT": (
        "{key} is already on line {other_line} with other content; neither was taken in",
        "{key} 已在第 {other_line} 行出现且内容不同；两行都没有导入",
    ),
    "E_CONFLICT.stored": (
        "{key} is already stored with other content: {detail}",
        "{key} 已经存在且内容不同：{detail}",
    ),
    "E_CONFLICT.twin": (
        "{raw} and {other} (line {other_line}) are the same SKU {key} in another spelling",
        "{raw} 与 {other}（第 {other_line} 行）是同一 SKU {key} 的不同写法",
    ),
    "E_ORDER_BAD": (
        "order {key} stays out whole because of line {other_line}",
        "订单 {key} 因第 {other_line} 行有错而整单未导入",
    ),
    "E_ORDER_BAD.kit": (
        "kit {key} stays out whole because of line {other_line}",
        "套装 {key} 因第 {other_line} 行有错而整套未导入",
    ),
    "E_ORDER_REFUSED": ("order {key} was refused: {detail}", "订单 {key} 未被接受：{detail_zh}"),
    "E_REFUSED": ("refused: {detail}", "未被接受：{detail_zh}"),
    "E_CONFIRM.price": (
        "{count} prices would change ({shown}); look at them and confirm with --accept-price-changes",
        "有 {count} 个价格将改变（{shown}）；请查看后用 --accept-price-changes 确认",
    ),
    "E_DUP_SKU": (
        "{key} is on line {other_line} and again here; put one row per SKU and location",
        "{key} 在第 {other_line} 行和本行重复出现；每个 SKU 每个仓只能一行",
    ),
    "E_MODE": (
        "this row is {actual}, line {other_line} is {expected}; one file is either absolute or delta",
        "本行是 {actual}，第 {other_line} 行是 {expected}；一个文件只能全是绝对数或全是增减数",
    ),
    "E_REF": ("{field} {raw} is not known", "{field} {raw} 不存在"),
    "E_CYCLE": ("the kit contains itself: {path}", "套装循环包含自身：{path}"),
    # --- a field
    "E_REQUIRED": ("{field} is empty", "{field} 不能为空"),
    "E_QTY": (
        "{field} must be a whole number from 1 to 9999999, not {raw}",
        "{field} 必须是 1 到 9999999 的整数，不能是 {raw}",
    ),
    "E_QTY.signed": (
        "{field} must be a whole number from -9999999 to 9999999 and not 0, not {raw}",
        "{field} 必须是 -9999999 到 9999999 之间的非零整数，不能是 {raw}",
    ),
    "E_QTY.credit": (
        "{field} of a cancellation must be negative, not {raw}",
        "冲销行的{field}必须是负数，不能是 {raw}",
    ),
    "E_QTY.sale": ("{field} of a sale must be positive, not {raw}", "销售行的{field}必须是正数，不能是 {raw}"),
    "E_STOCK": (
        "{field} must be a whole number from {least} to 9999999, not {raw}",
        "{field} 必须是 {least} 到 9999999 的整数，不能是 {raw}",
    ),
    "E_STOCK.short": (
        "{field} {raw} would leave {sku} at {location} with {actual} units",
        "{field} {raw} 会使 {location} 的 {sku} 变成 {actual} 件",
    ),
    "E_UNIT": (
        "unit {raw} is not the unit of {sku}, which is {expected}",
        "单位 {raw} 与 {sku} 的单位 {expected} 不符",
    ),
    "E_NUMBER": (
        "{field} must be a number such as 1234.50, not {raw}; decimals take a point, thousands take nothing",
        "{field} 应写成 1234.50 这样的数字，不能是 {raw}；小数用点，千位不加分隔符",
    ),
    "E_CENT": (
        "{field} {raw} is finer than the smallest unit of {currency}",
        "{field} {raw} 小于 {currency} 的最小单位",
    ),
    "E_PRICE": ("{field} must be above 0, not {raw}", "{field} 必须大于 0，不能是 {raw}"),
    "E_CURRENCY": ("{raw} is not a currency code such as CNY", "{raw} 不是 CNY 这样的货币代码"),
    "E_DATE": ("{field} must be written {expected}, not {raw}", "{field} 应写成 {expected}，不能是 {raw}"),
    "E_DATE.ambiguous": (
        "{field} {raw} can be read as two different days; write it {expected} or declare the format",
        "{field} {raw} 可以理解为两个不同的日期；请写成 {expected} 或声明格式",
    ),
    "E_DATE.none": ("{field} {raw} is no day of the calendar", "{field} {raw} 在日历上不存在"),
    "E_DATE.range": (
        "{field} {raw} lies outside 1970-01-01 to 2100-12-31",
        "{field} {raw} 不在 1970-01-01 到 2100-12-31 之间",
    ),
    "E_ZONE": (
        "{field} {raw} names no time zone; add an offset or declare the zone of the file",
        "{field} {raw} 没有时区；请加上偏移或声明文件的时区",
    ),
    "E_ZONE.unknown": (
        "{raw} is not an IANA time zone such as Asia/Shanghai",
        "{raw} 不是 Asia/Shanghai 这样的 IANA 时区",
    ),
    "E_TIME_NONEXISTENT": (
        "{field} {raw} does not exist in {zone}: the clock jumped over it",
        "{field} {raw} 在 {zone} 不存在：时钟拨快时跳过了它",
    ),
    "E_TIME_AMBIGUOUS": (
        "{field} {raw} happened twice in {zone}; add the offset ({first} or {second})",
        "{field} {raw} 在 {zone} 出现过两次；请加上偏移（{first} 或 {second}）",
    ),
    "E_SKU_CHAR": (
        "{field} {raw} holds {char} ({name}) at place {place}; a SKU is written in ASCII",
        "{field} {raw} 的第 {place} 位是 {char}（{name}）；SKU 只能用 ASCII 字符",
    ),
    "E_PRECISION_LOST": (
        "{field} {raw} was damaged by a spreadsheet (digits were lost); format the column as text and export again",
        "{field} {raw} 已被电子表格损坏（位数丢失）；请把该列设为文本格式后重新导出",
    ),
    "E_TEXT": ("{field} holds the control character {char}", "{field} 含有控制字符 {char}"),
    "E_LENGTH": ("{field} has {actual} characters, {limit} are allowed", "{field} 有 {actual} 个字符，最多 {limit} 个"),
    "E_CHOICE": ("{field} must be one of {expected}, not {raw}", "{field} 只能是 {expected}，不能是 {raw}"),
    "E_EMAIL": ("{field} {raw} is not an e-mail address", "{field} {raw} 不是有效的电子邮件地址"),
    "E_PHONE": ("{field} {raw} is not a phone number", "{field} {raw} 不是有效的电话号码"),
    "E_LEAD_TIME": (
        "{field} must be whole days from 1 to 730, not {raw}",
        "{field} 必须是 1 到 730 的整天数，不能是 {raw}",
    ),
    "E_TIME": ("{field} {raw} can't be the time of a carrier event", "{field} {raw} 不可能是物流事件的时间"),
    # --- worth saying, nothing is refused
    "W_NO_ROWS": ("{file} has a header and no rows: nothing to take in", "{file} 只有表头没有数据：没有可导入的内容"),
    "W_COLUMN": ("column {raw} is not used", "没有用到列 {raw}"),
    "W_LEAD_TIME": (
        "no lead time for {sku}: the default of {actual} days is used",
        "{sku} 没有提前期：采用默认 {actual} 天",
    ),
    "W_OVERCOMMITTED": (
        "{sku} at {location}: {actual} on hand, {reserved} reserved, over-committed by {over}",
        "{location} 的 {sku}：实物 {actual}，占用 {reserved}，超占 {over}",
    ),
    "W_STATUS": (
        "carrier status {raw} is not mapped; kept as it came, nothing moved",
        "承运商状态 {raw} 没有对应；已原样保存，状态未变",
    ),
    "N_WIDTH": ("{field} {raw} was read as {actual}", "{field} {raw} 读作 {actual}"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a field, a row or a file.

    `code` is for programs (E_ refuses, W_ and N_ only tell), `field` the column in our words, `raw` the text as it
    stood in the file, `facts` the numbers and names the sentence needs.
    """

    code: str
    field: str = ""
    raw: str = ""
    why: str = ""
    facts: Mapping[str, str | int] = dataclasses.field(default_factory=dict)

    def message(self, language: Language) -> str:
        """The sentence a person reads, in `zh` or `en`."""
        template = MESSAGES.get(f"{self.code}.{self.why}") or MESSAGES[self.code]
        words: dict[str, str | int] = {"field": self.field, "raw": shown(self.raw), **self.facts}
        return template[1 if language == "zh" else 0].format_map(words)

    @property
    def refuses(self) -> bool:
        """True when what it is about can't be taken in."""
        return self.code.startswith("E_")


class FileRefused(OrdersError):
    """A whole file can't be taken in; nothing was written. `problem` says why, `exit_code` what a program returns."""

    def __init__(self, problem: Problem, *, exit_code: int = 3) -> None:
        self.code = problem.code  # type: ignore[misc]  # this class stands for all file-level codes
        super().__init__(problem=problem, exit_code=exit_code)

    def text(self, language: str = "en") -> str:
        problem: Problem = self.facts["problem"]
        return problem.message("zh" if language == "zh" else "en")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.facts["problem"], self.facts["exit_code"]))


def _rebuild(problem: Problem, exit_code: int) -> FileRefused:
    return FileRefused(problem, exit_code=exit_code)


def shown(raw: str) -> str:
    """`raw` as it can stand in a message: quoted, cut to 60 characters, invisible characters as U+XXXX.

    >>> shown("AB\\u200b1")
    '"AB<U+200B>1"'
    """
    text = raw if len(raw) <= 60 else raw[:57] + "..."
    return '"' + "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text) + '"'
