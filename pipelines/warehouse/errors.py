"""What can go wrong in the warehouse, as one small family.

The warehouse is a leaf: it knows no order core, so it brings its own errors. Each has a `code` for machines, an
`exit_code` for the command line (4 a quality gate stopped it, 5 another run holds the lock, 1 otherwise), its facts as
attributes, and its words in English and Chinese.
"""


class WarehouseError(Exception):
    """Base of every warehouse error. `str(error)` is English; `message("zh")` the same in Chinese."""

    code = "E_WAREHOUSE"
    exit_code = 1
    en = "the warehouse failed: {reason}"
    zh = "数据仓库出错:{reason}"

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        super().__init__(self.en.format(**facts))

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def message(self, language: str = "en") -> str:
        """The sentence for a person, in `language` ("zh" or "en")."""
        return (self.zh if language == "zh" else self.en).format(**self.facts)


class WarehouseMissing(WarehouseError):
    """Nothing has been published yet, or the link points nowhere."""

    code = "E_WAREHOUSE_MISSING"
    en = "{link} does not lead to a published warehouse; run 'dinghuo run daily' first"
    zh = "{link} 没有指向已发布的数据仓库,请先运行 dinghuo run daily"


class WarehouseUnreadable(WarehouseError):
    """The live generation is damaged. Another one can be put in its place."""

    code = "E_WAREHOUSE_UNREADABLE"
    en = (
        "{path} can't be read: {reason}; 'dinghuo warehouse rollback' puts the generation before in its place, "
        "'dinghuo run daily --full' builds a new one"
    )
    zh = "无法读取 {path}:{reason};可用 dinghuo warehouse rollback 换回上一版,或用 dinghuo run daily 重新生成"


class ContractDiffers(WarehouseError):
    """The live generation was built under another contract and can't answer a question of this one."""

    code = "E_CONTRACT_DIFFERS"
    en = (
        "generation {generation} was built by another version of this program (contract {found}, today's is {expected}) "
        "and can't answer this; 'dinghuo run daily' builds one that can"
    )
    zh = (
        "第 {generation} 版数据由本程序的另一版本生成（契约 {found}，当前为 {expected}），无法回答此问题；"
        "请运行 dinghuo run daily 重新生成"
    )


class DayNotKept(WarehouseError):
    """No daily run has kept the plan of the day that was asked for."""

    code = "E_DAY_NOT_KEPT"
    en = (
        "the plan of {day} was not kept; kept are {days} days from {first} to {last}; "
        "'dinghuo run backfill {day}..{day}' makes it from what was known then"
    )
    zh = (
        "没有保存 {day} 的计划；已保存 {days} 天（{first} 至 {last}）；"
        "可用 dinghuo run backfill {day}..{day} 按当时已知的数据补算"
    )


class WarehouseLocked(WarehouseError):
    """Another run is writing. Nothing was changed; try again later."""

    code = "E_LOCKED"
    exit_code = 5
    en = "{folder} is locked by another run ({holder}); nothing was changed"
    zh = "{folder} 正被另一个任务占用({holder}),未做任何改动"


class ChecksFailed(WarehouseError):
    """A blocking check found bad rows; the new generation was not published and the old one stays live."""

    code = "E_CHECKS_FAILED"
    exit_code = 4
    en = "publication stopped, the old generation stays live: {summary}"
    zh = "已停止发布,仍使用上一版数据:{summary}"


class ColumnsDiffer(WarehouseError):
    """A frame does not have the columns its table declares."""

    code = "E_COLUMNS"
    exit_code = 4
    en = "{table}: the rows to write lack columns {missing} and bring undeclared columns {unknown}"
    zh = "{table}:待写入的数据缺少列 {missing},多出未声明的列 {unknown}"


class BuildFailed(WarehouseError):
    """DuckDB or the disk refused while a generation was built; the old one stays live."""

    code = "E_BUILD_FAILED"
    en = "building generation {path} failed, the old one stays live: {reason}"
    zh = "生成 {path} 失败,仍使用上一版数据:{reason}"

    @property
    def is_damage(self) -> bool:
        """True when a generation does not hold what was written to it: nothing can be built on it."""
        said = ("Corrupt database file", "Could not read enough bytes")
        return any(words in str(self.facts["reason"]) for words in said)


class SourceUnreadable(WarehouseError):
    """The order database could not be read, or its tables are not those the extract expects."""

    code = "E_SOURCE"
    en = "the order database could not be read ({source}): {reason}"
    zh = "无法读取订单数据库({source}):{reason}"


class SourceChanged(WarehouseError):
    """A table of the order database lacks a column or has another type of it than this program reads; nothing was read."""

    code = "E_SOURCE_CHANGED"
    en = "the order database ({source}) is not as this program reads it: {difference}; bring both to one version"
    zh = "订单数据库({source})的结构与程序读取的不符:{difference_zh};请将两者升级到同一版本"


class SourceDiffers(WarehouseError):
    """After the load a business day does not add up to the order database's totals; nothing was published."""

    code = "E_SOURCE_DIFFERS"
    exit_code = 4
    en = "the rows read do not add up to the order database ({source}): {difference}; run again with --full"
    zh = "读取的数据与订单数据库({source})的合计不一致:{difference_zh};请加 --full 重新运行"
