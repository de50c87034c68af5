"""A suggestion whose order was closed with nothing received may be approved again."""

import sqlalchemy as sa
from alembic import op

from orders_core.store.migrations import types as t

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("suggestion_approval", schema=None, table_kwargs={"sqlite_strict": True}) as batch_op:
        batch_op.add_column(sa.Column("withdrawn_at", t.INSTANT, nullable=True))
        batch_op.drop_constraint(op.f("uq_suggestion_approval_as_of_date_sku_id_location_id"), type_="unique")
        batch_op.create_index(
            "uq_suggestion_approval_standing",
            ["as_of_date", "sku_id", "location_id"],
            unique=True,
            sqlite_where=sa.text("withdrawn_at IS NULL"),
            postgresql_where=sa.text("withdrawn_at IS NULL"),
        )
    op.execute("""
        UPDATE suggestion_approval SET withdrawn_at = (
          SELECT coalesce(max(e.at), suggestion_approval.approved_at)
          FROM purchase_order_line l LEFT JOIN audit_entry e ON e.entity = 'purchase_order'
            AND e.entity_id = l.purchase_order_id AND e.action = 'purchase_order.close'
          WHERE l.id = suggestion_approval.purchase_order_line_id)
        WHERE purchase_order_line_id IN (
          SELECT l.id FROM purchase_order_line l JOIN purchase_order p ON p.id = l.purchase_order_id
          WHERE p.status IN ('cancelled', 'closed') AND l.received_qty = 0)""")
