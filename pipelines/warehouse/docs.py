"""`python -m pipelines.warehouse.docs` writes docs/warehouse.md; a test compares the file with the declarations."""

from pathlib import Path

from pipelines.warehouse.contract import docs_page
from pipelines.warehouse.tables import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "warehouse.md"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(docs_page(TABLES), encoding="utf-8")


if __name__ == "__main__":
    main()
