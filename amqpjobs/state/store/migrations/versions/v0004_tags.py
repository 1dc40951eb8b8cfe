"""A job may have tags."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "amqpjobs_status"


def upgrade() -> None:
    """Jobs that were recorded before have none."""
    op.add_column(TABLE, sa.Column("tags", sa.Text))


def downgrade() -> None:
    """Without them."""
    op.drop_column(TABLE, "tags")
