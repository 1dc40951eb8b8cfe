"""What RabbitMQ does not remember: outbox, inbox, schedules, slots, claims, what waits."""

from alembic import op

from amqpjobs.state.store.tables import MEMORY

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. A later migration that changes one writes down here what it was."""
    for table in MEMORY:
        # The outbox and the inbox may be there: the user's own migrations may have made them.
        table.create(op.get_bind(), checkfirst=True)


def downgrade() -> None:
    """What was not sent is lost with them."""
    for table in reversed(MEMORY):
        table.drop(op.get_bind(), checkfirst=True)
