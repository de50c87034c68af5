"""Column types as the revisions name them. A revision already released means what stands here: add, don't change."""

from __future__ import annotations

import sqlalchemy as sa

from orders_core.store.base import Big, Day, Flag, Instant, Json
from orders_core.store.tables.platform import CurrentTransaction, TransactionId

INT = Big
TEXT = sa.Text()
JSON = Json()
FLAG = Flag()
REAL = sa.Float(53).with_variant(sa.dialects.sqlite.REAL(), "sqlite")
INSTANT = Instant()
DAY = Day()
TRANSACTION_ID = TransactionId().with_variant(sa.dialects.sqlite.INTEGER(), "sqlite")
CURRENT_TRANSACTION = CurrentTransaction()
