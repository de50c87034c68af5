"""Every column and every table of the warehouse, declared once."""

from pipelines.warehouse.contract import Column, Table

# ------------------------------------------------------------------------------------------------ meta
generation = Column(
    "generation", "BIGINT", "Number of the generation; grows with each publication.", rule="generation > 0"
)
run_id = Column("run_id", "VARCHAR", "The run that built this generation.")
as_of_date = Column("as_of_date", "DATE", "Last business day whose facts were used.")
business_zone = Column("business_zone", "VARCHAR", "IANA time zone of the business day.")
published_at = Column("published_at", "TIMESTAMP WITH TIME ZONE", "When the generation went live.", "UTC")
contract_hash = Column("contract_hash", "VARCHAR", "Fingerprint of the contract the generation was checked against.")
table_name = Column("table_name", "VARCHAR", "Schema and table.")
row_count = Column("row_count", "BIGINT", "Rows in the table when it was published.", "rows", "row_count >= 0")

PUBLICATION = Table(
    "meta",
    "publication",
    "One row per generation, which is one row in each file.",
    ("generation",),
    (generation, run_id, as_of_date, business_zone, published_at, contract_hash),
)
TABLE_ROWS = Table("meta", "table_rows", "One row per table outside meta.", ("table_name",), (table_name, row_count))
META_TABLES = (PUBLICATION, TABLE_ROWS)

TABLES: tuple[Table, ...] = META_TABLES
