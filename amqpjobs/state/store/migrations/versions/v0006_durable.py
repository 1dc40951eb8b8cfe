"""Durable jobs: one row for each, for each of its steps, and for each message of a map.

Until this is released it changes together with `amqpjobs.state.store.tables`; a test compares them
(tests/integration/state/test_schema.py). After that it stays: later changes are later migrations.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("amqpjobs_durable", "amqpjobs_step", "amqpjobs_chunk")


def upgrade() -> None:
    """Make the tables."""
    _make_durable()
    _make_steps()
    _make_chunks()


def downgrade() -> None:
    """What was not done is lost with them."""
    for table in reversed(TABLES):
        op.drop_table(table)


def _make_durable() -> None:
    op.create_table(
        "amqpjobs_durable",
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("job_id", sa.String(255), primary_key=True),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("properties", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary),
        sa.Column("tracked", sa.String(255)),
        sa.Column("parent_id", sa.String(255)),
        sa.Column("parent_step", sa.String(255)),
        sa.Column("result", sa.LargeBinary),
        sa.Column("error", sa.Text),
        sa.Column("deadline", sa.Double),
        sa.Column("sends", sa.Integer, nullable=False, server_default="0"),
        sa.Column("at_first", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("cancel_reason", sa.Text),
        sa.Column("undo_asked", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    op.create_index("amqpjobs_durable_state", "amqpjobs_durable", ["app", "state", "changed_at"])
    op.create_index("amqpjobs_durable_parent", "amqpjobs_durable", ["app", "parent_id"])
    _index(
        "amqpjobs_durable_deadline",
        "amqpjobs_durable",
        "app",
        "deadline",
        where="deadline IS NOT NULL",
    )


def _make_steps() -> None:
    op.create_table(
        "amqpjobs_step",
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("job_id", sa.String(255), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("awaited", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("result", sa.LargeBinary),
        sa.Column("error", sa.Text),
        sa.Column("cursor", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("due_at", sa.Double),
        *_messages(),
    )
    _index(
        "amqpjobs_step_awaited",
        "amqpjobs_step",
        "app",
        "job_id",
        "epoch",
        where="awaited AND state = 'waiting'",
    )
    _index(
        "amqpjobs_step_due",
        "amqpjobs_step",
        "app",
        "due_at",
        where="due_at IS NOT NULL AND state = 'waiting'",
    )
    op.create_index("amqpjobs_step_child", "amqpjobs_step", ["app", "child_id"])
    _index("amqpjobs_step_sent", "amqpjobs_step", "app", "sent_at", where="sent_at IS NOT NULL")
    where = "kind = 'map' AND state = 'waiting'"
    _index("amqpjobs_step_map", "amqpjobs_step", "app", where=where)


def _messages() -> list[sa.Column[Any]]:
    """Of the job that a step waits for, and of the one that takes it back."""
    return [
        sa.Column("child", sa.String(255)),
        sa.Column("child_id", sa.String(255)),
        sa.Column("sends", sa.Integer, nullable=False, server_default="0"),
        sa.Column("sent_at", sa.Double),
        sa.Column("routing_key", sa.String(255)),
        sa.Column("properties", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary),
        sa.Column("tracked", sa.String(255)),
        sa.Column("undo", sa.String(255)),
        sa.Column("undo_state", sa.String(20)),
        sa.Column("undo_id", sa.String(255)),
        sa.Column("undo_error", sa.Text),
        sa.Column("undo_routing_key", sa.String(255)),
        sa.Column("undo_properties", sa.LargeBinary),
        sa.Column("undo_body", sa.LargeBinary),
        sa.Column("undo_tracked", sa.String(255)),
    ]


def _make_chunks() -> None:
    op.create_table(
        "amqpjobs_chunk",
        sa.Column("app", sa.String(255), primary_key=True),
        sa.Column("job_id", sa.String(255), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("step", sa.String(255), primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("results", sa.LargeBinary),
        sa.Column("error", sa.Text),
        sa.Column("child_id", sa.String(255), nullable=False),
        sa.Column("sends", sa.Integer, nullable=False, server_default="1"),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("properties", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary),
        sa.Column("tracked", sa.String(255)),
        sa.Column("sent_at", sa.Double, nullable=False),
        sa.Column("begun_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("seconds", sa.Double),
    )
    _index(
        "amqpjobs_chunk_waiting",
        "amqpjobs_chunk",
        "app",
        "job_id",
        "epoch",
        "step",
        where="state = 'waiting'",
    )


def _index(name: str, table: str, *columns: str, where: str) -> None:
    some = sa.text(where)
    op.create_index(name, table, list(columns), postgresql_where=some, sqlite_where=some)
