"""The table of statuses. Changes together with a migration, never alone."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
)

from amqpjobs.state.store.metadata import metadata

jobs = Table(
    "amqpjobs_status",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("job", String(255), nullable=False),
    Column("queue", String(255), nullable=False),
    Column("state", String(20), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("ended", Boolean, nullable=False, server_default=false()),
    Column("sequence", BigInteger, nullable=False),
    Column("progress", Double),
    Column("detail", Text, nullable=False, server_default=""),
    Column("error", Text),
    Column("reason", String(255)),
    Column("answered", Boolean, nullable=False, server_default=false()),
    Column("worker", String(255)),
    Column("result", Text),
    Column("result_expires_at", Double),
    Column("due_at", Double),
    Column("queued_at", Double),
    Column("started_at", Double),
    Column("tags", Text),
    Index("amqpjobs_status_sequence", "sequence"),
    Index("amqpjobs_status_state", "state", "sequence"),
    Index("amqpjobs_status_queue", "queue", "sequence"),
    Index("amqpjobs_status_results", "result_expires_at"),
)
"""One row for each job; its columns are those of `amqpjobs.state.status.values.Row`."""

cancelled = Table(
    "amqpjobs_cancelled",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("app", String(255), primary_key=True),
    Column("reason", Text, nullable=False, server_default=""),
    Column("expires_at", Double, nullable=False),
    Index("amqpjobs_cancelled_expiry", "expires_at"),
)
"""One row for each job that was cancelled, until it is forgotten."""
