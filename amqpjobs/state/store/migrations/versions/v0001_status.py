"""The status of jobs: one table."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "amqpjobs_status",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.Double),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
        sa.Column("error", sa.Text),
        sa.Column("worker", sa.String(255)),
        sa.Column("result", sa.Text),
        sa.Column("result_expires_at", sa.Double),
        sa.Column("due_at", sa.Double),
        sa.Column("queued_at", sa.Double),
        sa.Column("started_at", sa.Double),
    )
    for name, columns in (
        ("sequence", ["sequence"]),
        ("state", ["state", "sequence"]),
        ("queue", ["queue", "sequence"]),
        ("results", ["result_expires_at"]),
    ):
        op.create_index(f"amqpjobs_status_{name}", "amqpjobs_status", columns)


def downgrade() -> None:
    """Take it away, with all that was recorded."""
    op.drop_table("amqpjobs_status")
