"""Jobs that were cancelled are remembered, for workers that start later."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLE = "amqpjobs_cancelled"


def upgrade() -> None:
    """A table with a time to live in each row."""
    op.create_table(
        TABLE,
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_index("amqpjobs_cancelled_expiry", TABLE, ["expires_at"])


def downgrade() -> None:
    """Without it workers that start later do not know."""
    op.drop_table(TABLE)
