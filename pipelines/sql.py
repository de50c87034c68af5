"""Values as SQL writes them.

DuckDB takes parameters too, but the first one given to it imports pandas, which takes longer than a small load.
"""

from datetime import date


def literal(value: date | str) -> str:
    """A text or a day as a literal.

    >>> literal("it's")
    "'it''s'"
    """
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    return "'" + value.replace("'", "''") + "'"
