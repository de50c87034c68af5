"""The database's history: Alembic revisions, applied by `orders_core.store.schema.upgrade`.

After changing a table: `python -m orders_core.store.migrations.make "what changed"` (see make.py).
"""
