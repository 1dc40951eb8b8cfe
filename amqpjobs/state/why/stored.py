"""Reads one job from all tables of the store. Changes when another table may hold a job."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, Table, select

from amqpjobs.jobs.durable.status import DurableStatus
from amqpjobs.state.durable.looking import status_of
from amqpjobs.state.limits.keys import DEBOUNCE, shown
from amqpjobs.state.limits.looking import SlotHeld, keys_held
from amqpjobs.state.store.tables import outbox, steps, waiting

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


@dataclass(frozen=True, slots=True)
class InOutbox:
    """A message that RabbitMQ does not have yet.

    Attributes:
        job: its name.
        since: seconds since the epoch.
        refused: why RabbitMQ refuses it; None if it was not sent yet, or will be sent again.
    """

    job: str
    since: float
    refused: str | None


@dataclass(frozen=True, slots=True)
class Waits:
    """A message that waits for a slot, or for the end of a debounce.

    Attributes:
        job: its name.
        debounced: whether it waits for the end of a debounce.
        key: of the limit, as ``amqpjobs limits`` shows it.
        since: seconds since the epoch.
        due: when the debounce ends.
        slots: the slots of the limit that are held.
    """

    job: str
    debounced: bool
    key: str
    since: float
    due: float | None
    slots: tuple[SlotHeld, ...] = ()


@dataclass(frozen=True, slots=True)
class Called:
    """The durable job that waits for this one.

    Attributes:
        job: the name of this job.
        parent_id: the id of the durable job.
        step: the step that waits.
        state: of the step.
    """

    job: str
    parent_id: str
    step: str
    state: str


@dataclass(slots=True)
class Stored:
    """The stored rows of one job."""

    outbox: list[InOutbox] = field(default_factory=list)
    waits: Waits | None = None
    durable: DurableStatus | None = None
    called: Called | None = None


async def look(memory: "Memory", job_id: str) -> Stored:
    """Read the stored rows of a job.

    Raises:
        StoreUnavailable, ConfigurationError: the store cannot be used.
    """
    store = await memory.store()
    found = await store.run(stored_of, memory.app, job_id, store.now)
    if memory.outbox.bind is not None:
        place = await memory.place()
        found.outbox += await place.run(in_outbox, memory.outbox.table, memory.app, job_id)
    return found


def stored_of(connection: Connection, app: str, job_id: str, now: ColumnElement[float]) -> Stored:
    """See `look`."""
    return Stored(
        in_outbox(connection, outbox, app, job_id),
        _waits(connection, app, job_id, now),
        status_of(connection, app, job_id, now),
        _called(connection, app, job_id),
    )


def in_outbox(connection: Connection, table: Table, app: str, job_id: str) -> list[InOutbox]:
    """The messages of a job in the outbox."""
    query = select(table.c.job, table.c.created_at, table.c.failed_at, table.c.error).where(
        table.c.app == app, table.c.job_id == job_id
    )
    return [
        InOutbox(row.job, row.created_at, None if row.failed_at is None else str(row.error))
        for row in connection.execute(query.order_by(table.c.id))
    ]


def _waits(
    connection: Connection, app: str, job_id: str, now: ColumnElement[float]
) -> Waits | None:
    query = select(waiting).where(waiting.c.app == app, waiting.c.job_id == job_id)
    row = connection.execute(query.order_by(waiting.c.id).limit(1)).first()
    if row is None:
        return None
    if row.kind == DEBOUNCE:
        return Waits(row.job, True, shown(row.key)[1], row.first_at, row.due_at)
    held = keys_held(connection, app, now, row.key)
    slots = tuple(held[0].slots) if held else ()
    return Waits(row.job, False, shown(row.key)[1], row.first_at, None, slots)


def _called(connection: Connection, app: str, job_id: str) -> Called | None:
    query = select(steps.c.child, steps.c.job_id, steps.c.name, steps.c.state).where(
        steps.c.app == app, steps.c.child_id == job_id
    )
    row = connection.execute(query.order_by(steps.c.epoch.desc()).limit(1)).first()
    return None if row is None else Called(row.child, row.job_id, row.name, row.state)
