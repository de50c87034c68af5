"""Planner.

Made by `python -m orders_core.store.migrations.make`, then read by a person.
"""

import sqlalchemy as sa
from alembic import op

from orders_core.store.migrations import types as t

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "demand_adjustment",
        sa.Column("id", t.INT, autoincrement=False, nullable=False),
        sa.Column("sku_id", t.INT, nullable=False),
        sa.Column("location_id", t.INT, nullable=False),
        sa.Column("from_date", t.DAY, nullable=False),
        sa.Column("through_date", t.DAY, nullable=False),
        sa.Column("kind", t.TEXT, nullable=False),
        sa.Column("daily_qty", t.REAL, nullable=True),
        sa.Column("author", t.TEXT, nullable=False),
        sa.Column("reason", t.TEXT, nullable=False),
        sa.Column("created_at", t.INSTANT, nullable=False),
        sa.Column("withdrawn_at", t.INSTANT, nullable=True),
        sa.Column("withdrawn_by", t.TEXT, nullable=True),
        sa.Column("idem_key", t.TEXT, nullable=True),
        sa.Column("body_hash", t.TEXT, nullable=True),
        sa.Column("version", t.INT, server_default="1", nullable=False),
        sa.CheckConstraint(
            "(kind = 'replace') = (daily_qty IS NOT NULL)", name=op.f("ck_demand_adjustment_qty_when_replaced")
        ),
        sa.CheckConstraint("kind IN ('ignore', 'replace')", name=op.f("ck_demand_adjustment_kind_known")),
        sa.CheckConstraint(
            "(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name=op.f("ck_demand_adjustment_withdrawn_by_somebody")
        ),
        sa.CheckConstraint("daily_qty >= 0", name=op.f("ck_demand_adjustment_daily_qty_not_negative")),
        sa.CheckConstraint("from_date <= through_date", name=op.f("ck_demand_adjustment_days_in_order")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_demand_adjustment_location_id")),
        sa.ForeignKeyConstraint(["sku_id"], ["sku.id"], name=op.f("fk_demand_adjustment_sku_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_demand_adjustment")),
        sa.UniqueConstraint("idem_key", name=op.f("uq_demand_adjustment_idem_key")),
        sqlite_strict=True,
    )
    with op.batch_alter_table("demand_adjustment", schema=None) as batch_op:
        batch_op.create_index("ix_demand_adjustment_series", ["sku_id", "location_id"], unique=False)

    op.create_table(
        "forecast_override",
        sa.Column("id", t.INT, autoincrement=False, nullable=False),
        sa.Column("sku_id", t.INT, nullable=False),
        sa.Column("location_id", t.INT, nullable=False),
        sa.Column("from_date", t.DAY, nullable=False),
        sa.Column("through_date", t.DAY, nullable=False),
        sa.Column("kind", t.TEXT, nullable=False),
        sa.Column("amount", t.REAL, nullable=False),
        sa.Column("author", t.TEXT, nullable=False),
        sa.Column("reason", t.TEXT, nullable=False),
        sa.Column("expires_date", t.DAY, nullable=False),
        sa.Column("created_at", t.INSTANT, nullable=False),
        sa.Column("withdrawn_at", t.INSTANT, nullable=True),
        sa.Column("withdrawn_by", t.TEXT, nullable=True),
        sa.Column("idem_key", t.TEXT, nullable=True),
        sa.Column("body_hash", t.TEXT, nullable=True),
        sa.Column("version", t.INT, server_default="1", nullable=False),
        sa.CheckConstraint("kind = 'add_weekly' OR amount >= 0", name=op.f("ck_forecast_override_amount_not_negative")),
        sa.CheckConstraint(
            "kind IN ('set_daily', 'multiply', 'add_weekly')", name=op.f("ck_forecast_override_kind_known")
        ),
        sa.CheckConstraint(
            "(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name=op.f("ck_forecast_override_withdrawn_by_somebody")
        ),
        sa.CheckConstraint("from_date <= through_date", name=op.f("ck_forecast_override_days_in_order")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_forecast_override_location_id")),
        sa.ForeignKeyConstraint(["sku_id"], ["sku.id"], name=op.f("fk_forecast_override_sku_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forecast_override")),
        sa.UniqueConstraint("idem_key", name=op.f("uq_forecast_override_idem_key")),
        sqlite_strict=True,
    )
    with op.batch_alter_table("forecast_override", schema=None) as batch_op:
        batch_op.create_index("ix_forecast_override_series", ["sku_id", "location_id"], unique=False)

    op.create_table(
        "suggestion_approval",
        sa.Column("id", t.INT, autoincrement=False, nullable=False),
        sa.Column("as_of_date", t.DAY, nullable=False),
        sa.Column("sku_id", t.INT, nullable=False),
        sa.Column("location_id", t.INT, nullable=False),
        sa.Column("suggested_qty", t.INT, nullable=False),
        sa.Column("approved_qty", t.INT, nullable=False),
        sa.Column("reason", t.TEXT, nullable=True),
        sa.Column("approved_by", t.TEXT, nullable=False),
        sa.Column("approved_at", t.INSTANT, nullable=False),
        sa.Column("business_date", t.DAY, nullable=False),
        sa.Column("purchase_order_line_id", t.INT, nullable=False),
        sa.CheckConstraint(
            "approved_qty = suggested_qty OR reason IS NOT NULL", name=op.f("ck_suggestion_approval_change_has_reason")
        ),
        sa.CheckConstraint("approved_qty > 0", name=op.f("ck_suggestion_approval_approved_qty_positive")),
        sa.CheckConstraint("suggested_qty >= 0", name=op.f("ck_suggestion_approval_suggested_qty_not_negative")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_suggestion_approval_location_id")),
        sa.ForeignKeyConstraint(
            ["purchase_order_line_id"],
            ["purchase_order_line.id"],
            name=op.f("fk_suggestion_approval_purchase_order_line_id"),
        ),
        sa.ForeignKeyConstraint(["sku_id"], ["sku.id"], name=op.f("fk_suggestion_approval_sku_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suggestion_approval")),
        sa.UniqueConstraint(
            "as_of_date", "sku_id", "location_id", name=op.f("uq_suggestion_approval_as_of_date_sku_id_location_id")
        ),
        sa.UniqueConstraint("purchase_order_line_id", name=op.f("uq_suggestion_approval_purchase_order_line_id")),
        sqlite_strict=True,
    )
    with op.batch_alter_table("suggestion_approval", schema=None) as batch_op:
        batch_op.create_index("ix_suggestion_approval_series", ["sku_id", "location_id"], unique=False)
