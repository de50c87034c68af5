"""An approved suggestion of a made SKU is a production order."""

import sqlalchemy as sa
from alembic import op

from orders_core.store.migrations import types as t

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("suggestion_approval", schema=None, table_kwargs={"sqlite_strict": True}) as batch_op:
        batch_op.alter_column("purchase_order_line_id", existing_type=t.INT, nullable=True)
        batch_op.add_column(sa.Column("production_order_id", t.INT, nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_suggestion_approval_production_order_id"), "production_order", ["production_order_id"], ["id"]
        )
        batch_op.create_unique_constraint(op.f("uq_suggestion_approval_production_order_id"), ["production_order_id"])
        batch_op.create_check_constraint(
            op.f("ck_suggestion_approval_bought_or_made"),
            "(purchase_order_line_id IS NULL) <> (production_order_id IS NULL)",
        )
