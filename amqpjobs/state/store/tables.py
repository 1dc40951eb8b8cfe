"""The tables of what RabbitMQ does not remember. Changes together with a migration, never alone.

Those of a transaction, the outbox and the inbox, may be in the user's own database as well: they
are made for any metadata.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    false,
    text,
)
from sqlalchemy.schema import DDL

from amqpjobs.state.store.metadata import metadata

OUTBOX = "amqpjobs_outbox"
INBOX = "amqpjobs_inbox"

ROW_ID = BigInteger().with_variant(Integer, "sqlite")
"""Of rows that are numbered: SQLite numbers an INTEGER only."""


def outbox_of(target: MetaData, schema: str | None = None) -> Table:
    """The outbox in a metadata: one row for each message that a transaction has sent, until
    RabbitMQ has confirmed it.

    Its `properties` are an AMQP content header as bytes, since they can hold what JSON cannot.
    """
    table = Table(
        OUTBOX,
        target,
        Column("id", ROW_ID, primary_key=True, autoincrement=True),
        Column("app", String(255), nullable=False),
        Column("job_id", String(255), nullable=False),
        Column("job", String(255), nullable=False),
        Column("exchange", String(255), nullable=False, server_default=""),
        Column("routing_key", String(255), nullable=False),
        Column("key", String(255)),
        Column("properties", LargeBinary, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("due_at", Double),
        Column("tracked", String(255)),
        Column("created_at", Double, nullable=False),
        Column("lease", String(36)),
        Column("leased_until", Double),
        Column("failed_at", Double),
        Column("error", Text),
        # What is to be sent, the oldest first. What has failed stays, and must not be in the way.
        _index(f"{OUTBOX}_open", "app", "id", where="failed_at IS NULL"),
        _index(f"{OUTBOX}_key", "app", "key", "id", where="key IS NOT NULL"),
        schema=schema,
    )
    # Rows live for milliseconds. By default PostgreSQL cleans up after a fifth of the table has
    # changed: late exactly when it is full.
    vacuum = DDL(  # type: ignore[no-untyped-call]
        "ALTER TABLE %(fullname)s SET (autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_threshold = 1000)"
    ).execute_if(dialect="postgresql")
    event.listen(table, "after_create", vacuum)
    return table


def _index(name: str, *columns: str, where: str) -> Index:
    """An index of some of the rows."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


def inbox_of(target: MetaData, schema: str | None = None) -> Table:
    """The inbox in a metadata: one row for each job that was done in a transaction of it."""
    return Table(
        INBOX,
        target,
        Column("app", String(255), primary_key=True),
        Column("job", String(255), primary_key=True),
        Column("job_id", String(255), primary_key=True),
        Column("epoch", Integer, primary_key=True),
        Column("result", LargeBinary),
        Column("done_at", Double, nullable=False),
        Index(f"{INBOX}_done", "done_at"),
        schema=schema,
    )


outbox = outbox_of(metadata)
inbox = inbox_of(metadata)

schedules = Table(
    "amqpjobs_schedule",
    metadata,
    Column("app", String(255), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("in_code", Boolean, nullable=False, server_default=false()),
    Column("job", String(255), nullable=False),
    Column("spec", Text, nullable=False),
    Column("routing_key", String(255), nullable=False),
    Column("properties", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("tracked", String(255)),
    Column("since", Double, nullable=False),
    Column("next_at", Double),
    Column("last_at", Double),
    Column("waiting_at", Double),
    Column("paused_at", Double),
    Column("paused_until", Double),
    Column("note", Text),
    Column("release", String(64)),
    Column("retired_at", Double),
    Index("amqpjobs_schedule_next", "app", "next_at"),
    _index("amqpjobs_schedule_waiting", "app", where="waiting_at IS NOT NULL"),
)
"""One row for each schedule of an app. `waiting_at` is the time whose job waits for the end of the
one before; `release` is who has written what is in the code."""

releases = Table(
    "amqpjobs_release",
    metadata,
    Column("app", String(255), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("first_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)
"""One row for each set of schedules that the code of an app has had, while processes of it run: of
two, the one that came later counts."""

ticks = Table(
    "amqpjobs_tick",
    metadata,
    Column("app", String(255), primary_key=True),
    Column("schedule", String(255), primary_key=True),
    Column("due_at", Double, primary_key=True),
    Column("how", String(20), primary_key=True),
    Column("missed", Boolean, nullable=False, server_default=false()),
    Column("job_id", String(255), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("reason", Text),
    Column("at", Double, nullable=False),
    Index("amqpjobs_tick_at", "app", "at"),
)
"""One row for each time that a schedule was due: sent, or skipped and why. One that was made up for
is `missed`, and not another `how`: a time is sent once."""

slots = Table(
    "amqpjobs_slot",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("app", String(255), nullable=False),
    Column("job", String(255)),
    Column("holder", String(255), nullable=False),
    Column("copy", String(255)),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("token", BigInteger, nullable=False),
    Column("worker", String(255)),
    Column("taken_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)
"""One row for each place that a limit or a lock has; a row that is free keeps its token, which only
rises."""

claims = Table(
    "amqpjobs_claim",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("app", String(255), nullable=False),
    Column("job", String(255), nullable=False),
    Column("job_id", String(255), nullable=False),
    Column("token", BigInteger, nullable=False, server_default="1"),
    Column("at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("amqpjobs_claim_job", "job_id"),
    Index("amqpjobs_claim_expiry", "expires_at"),
)
"""One row for each unique job that has not ended."""

waiting = Table(
    "amqpjobs_waiting",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("app", String(255), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("key", String(255), nullable=False),
    Column("job_id", String(255), nullable=False),
    Column("job", String(255), nullable=False),
    Column("routing_key", String(255), nullable=False),
    Column("properties", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("tracked", String(255)),
    Column("copy", String(255)),
    Column("places", Integer, nullable=False, server_default="1"),
    Column("first_at", Double, nullable=False),
    Column("due_at", Double),
    Index("amqpjobs_waiting_key", "kind", "key", "id"),
    Index("amqpjobs_waiting_due", "due_at"),
    Index("amqpjobs_waiting_job", "job_id"),
)
"""One row for each message that waits for a slot, or for the end of a debounce."""

durable = Table(
    "amqpjobs_durable",
    metadata,
    Column("app", String(255), primary_key=True),
    Column("job_id", String(255), primary_key=True),
    Column("job", String(255), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("routing_key", String(255), nullable=False),
    Column("properties", LargeBinary),
    Column("body", LargeBinary),
    Column("tracked", String(255)),
    Column("parent_id", String(255)),
    Column("parent_step", String(255)),
    Column("result", LargeBinary),
    Column("error", Text),
    Column("deadline", Double),
    Column("sends", Integer, nullable=False, server_default="0"),
    Column("at_first", Boolean, nullable=False, server_default=false()),
    Column("cancel_reason", Text),
    Column("undo_asked", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Index("amqpjobs_durable_state", "app", "state", "changed_at"),
    Index("amqpjobs_durable_parent", "app", "parent_id"),
    _index("amqpjobs_durable_deadline", "app", "deadline", where="deadline IS NOT NULL"),
)
"""One row for each durable job that has begun; while it is ``suspended``, with its message. One
with a `cancel_reason` runs no further; `undo_asked` says that it is undone, too."""

steps = Table(
    "amqpjobs_step",
    metadata,
    Column("app", String(255), primary_key=True),
    Column("job_id", String(255), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("n", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("awaited", Boolean, nullable=False, server_default=false()),
    Column("fingerprint", String(64)),
    Column("result", LargeBinary),
    Column("error", Text),
    Column("cursor", Text),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("due_at", Double),
    Column("child", String(255)),
    Column("child_id", String(255)),
    Column("sends", Integer, nullable=False, server_default="0"),
    Column("sent_at", Double),
    Column("routing_key", String(255)),
    Column("properties", LargeBinary),
    Column("body", LargeBinary),
    Column("tracked", String(255)),
    Column("undo", String(255)),
    Column("undo_state", String(20)),
    Column("undo_id", String(255)),
    Column("undo_error", Text),
    Column("undo_routing_key", String(255)),
    Column("undo_properties", LargeBinary),
    Column("undo_body", LargeBinary),
    Column("undo_tracked", String(255)),
    _index(
        "amqpjobs_step_awaited", "app", "job_id", "epoch", where="awaited AND state = 'waiting'"
    ),
    _index("amqpjobs_step_due", "app", "due_at", where="due_at IS NOT NULL AND state = 'waiting'"),
    Index("amqpjobs_step_child", "app", "child_id"),
    _index("amqpjobs_step_sent", "app", "sent_at", where="sent_at IS NOT NULL"),
    _index("amqpjobs_step_signal", "app", "ended_at", where="kind = 'signal'"),
    _index("amqpjobs_step_map", "app", where="kind = 'map' AND state = 'waiting'"),
)
"""One row for each step of a durable job: done, or waited for. The message of a job that is waited
for is in here, and of the one that takes the step back."""

chunks = Table(
    "amqpjobs_chunk",
    metadata,
    Column("app", String(255), primary_key=True),
    Column("job_id", String(255), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("step", String(255), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("results", LargeBinary),
    Column("error", Text),
    Column("child_id", String(255), nullable=False),
    Column("sends", Integer, nullable=False, server_default="1"),
    Column("routing_key", String(255), nullable=False),
    Column("properties", LargeBinary),
    Column("body", LargeBinary),
    Column("tracked", String(255)),
    Column("sent_at", Double, nullable=False),
    Column("begun_at", Double),
    Column("ended_at", Double),
    Column("seconds", Double),
    _index("amqpjobs_chunk_waiting", "app", "job_id", "epoch", "step", where="state = 'waiting'"),
)
"""One row for each message of a map: some of its items, and their results."""

DURABLE = (durable, steps, chunks)
"""The tables of the migration `v0006_durable`, which writes them down once more."""

MEMORY = (outbox, inbox, schedules, releases, ticks, slots, claims, waiting)
"""The tables of the migration `v0005_memory`, which writes them down once more."""
