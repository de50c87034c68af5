"""${message}.

Made by `python -m orders_core.store.migrations.make`, then read by a person.
"""

# ruff: noqa: E501 - conditions are kept on one line

import sqlalchemy as sa
from alembic import op

from orders_core.store.migrations import types as t

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
