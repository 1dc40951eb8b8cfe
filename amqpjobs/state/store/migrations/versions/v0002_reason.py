"""A job that failed has a reason, and its state is called as everywhere else."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE = "amqpjobs_status"
status = sa.table(TABLE, sa.column("state"), sa.column("reason"), sa.column("answered", sa.Boolean))


def upgrade() -> None:
    """``succeeded`` is ``done``; ``dead`` is ``failed``; what was ``failed`` had been answered."""
    op.add_column(TABLE, sa.Column("reason", sa.String(255)))
    answered = sa.Column("answered", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column(TABLE, answered)
    _change("failed", "failed", answered=True)
    _change("dead", "failed")
    _change("succeeded", "done")


def downgrade() -> None:
    """The words of before."""
    _change("done", "succeeded")
    op.execute(
        status.update()
        .where(status.c.state == "failed", status.c.answered.is_(False))
        .values(state="dead")
    )
    op.drop_column(TABLE, "answered")
    op.drop_column(TABLE, "reason")


def _change(before: str, after: str, **more: object) -> None:
    op.execute(status.update().where(status.c.state == before).values(state=after, **more))
