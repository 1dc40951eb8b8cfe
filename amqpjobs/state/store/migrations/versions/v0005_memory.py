"""What RabbitMQ does not remember: outbox, inbox, schedules, slots, claims, what waits.

Until this is released it changes together with `amqpjobs.state.store.tables`; a test compares them
(tests/integration/state/test_schema.py). After that it stays: later changes are later migrations.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OUTBOX, INBOX = "amqpjobs_outbox", "amqpjobs_inbox"
NUMBERED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = (
    OUTBOX, INBOX, "amqpjobs_schedule", "amqpjobs_release", "amqpjobs_tick", "amqpjobs_slot",
    "amqpjobs_claim", "amqpjobs_waiting",
)  # fmt: skip


def upgrade() -> None:
    """Make the tables."""
    there = sa.inspect(op.get_bind())
    # The user's own migrations may have made these two, in the same database.
    if not there.has_table(OUTBOX):
        _make_outbox()
    if not there.has_table(INBOX):
        _make_inbox()
    _make_schedules()
    _make_ticks()
    _make_slots()
    _make_claims()
    _make_waiting()


def downgrade() -> None:
    """What was not sent is lost with them."""
    for table in reversed(TABLES):
        op.drop_table(table)


def _make_outbox() -> None:
    op.create_table(
        OUTBOX,
        sa.Column("id", NUMBERED, primary_key=True, autoincrement=True),
        sa.Column("app", sa.String(255), nullable=False),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("exchange", sa.String(255), nullable=False, server_default=""),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("key", sa.String(255)),
        sa.Column("properties", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("due_at", sa.Double),
        sa.Column("tracked", sa.String(255)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("lease", sa.String(36)),
        sa.Column("leased_until", sa.Double),
        sa.Column("failed_at", sa.Double),
        sa.Column("error", sa.Text),
    )
    _index(f"{OUTBOX}_open", OUTBOX, "app", "id", where="failed_at IS NULL")
    _index(f"{OUTBOX}_key", OUTBOX, "app", "key", "id", where="key IS NOT NULL")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"ALTER TABLE {OUTBOX} SET (autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 1000)"
        )


def _make_inbox() -> None:
    op.create_table(
        INBOX,
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("job", sa.String(255), primary_key=True),
        sa.Column("job_id", sa.String(255), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("result", sa.LargeBinary),
        sa.Column("done_at", sa.Double, nullable=False),
    )
    op.create_index(f"{INBOX}_done", INBOX, ["done_at"])


def _make_schedules() -> None:
    op.create_table(
        "amqpjobs_schedule",
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("in_code", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("properties", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("tracked", sa.String(255)),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("next_at", sa.Double),
        sa.Column("last_at", sa.Double),
        sa.Column("waiting_at", sa.Double),
        sa.Column("paused_at", sa.Double),
        sa.Column("paused_until", sa.Double),
        sa.Column("note", sa.Text),
        sa.Column("release", sa.String(64)),
        sa.Column("retired_at", sa.Double),
    )
    op.create_index("amqpjobs_schedule_next", "amqpjobs_schedule", ["app", "next_at"])
    waits = "waiting_at IS NOT NULL"
    _index("amqpjobs_schedule_waiting", "amqpjobs_schedule", "app", where=waits)
    op.create_table(
        "amqpjobs_release",
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )


def _make_ticks() -> None:
    op.create_table(
        "amqpjobs_tick",
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("schedule", sa.String(255), primary_key=True),
        sa.Column("due_at", sa.Double, primary_key=True),
        sa.Column("how", sa.String(20), primary_key=True),
        sa.Column("missed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("amqpjobs_tick_at", "amqpjobs_tick", ["app", "at"])


def _make_slots() -> None:
    op.create_table(
        "amqpjobs_slot",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("app", sa.String(255), nullable=False),
        sa.Column("job", sa.String(255)),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("copy", sa.String(255)),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("taken_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )


def _make_claims() -> None:
    op.create_table(
        "amqpjobs_claim",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("app", sa.String(255), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_index("amqpjobs_claim_job", "amqpjobs_claim", ["job_id"])
    op.create_index("amqpjobs_claim_expiry", "amqpjobs_claim", ["expires_at"])


def _make_waiting() -> None:
    op.create_table(
        "amqpjobs_waiting",
        sa.Column("id", NUMBERED, primary_key=True, autoincrement=True),
        sa.Column("app", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("properties", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("tracked", sa.String(255)),
        sa.Column("copy", sa.String(255)),
        sa.Column("places", sa.Integer, nullable=False, server_default="1"),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double),
    )
    op.create_index("amqpjobs_waiting_key", "amqpjobs_waiting", ["kind", "key", "id"])
    op.create_index("amqpjobs_waiting_due", "amqpjobs_waiting", ["due_at"])
    op.create_index("amqpjobs_waiting_job", "amqpjobs_waiting", ["job_id"])


def _index(name: str, table: str, *columns: str, where: str) -> None:
    some = sa.text(where)
    op.create_index(name, table, list(columns), postgresql_where=some, sqlite_where=some)
