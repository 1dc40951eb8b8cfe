"""Undoes durable jobs that have ended, for an operator.

Changes when an operator may undo something else.
"""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from amqpjobs.jobs.message.headers import token_header
from amqpjobs.jobs.message.ids import check_job_id, new_job_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.durable.rows import Owner, of
from amqpjobs.state.durable.undoing import undo_job
from amqpjobs.state.durable.values import ABANDONED, CANCELLED, FAILED
from amqpjobs.state.outbox.rows import properties_in
from amqpjobs.state.store.tables import durable, steps

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

MOST_CHILDREN = 10_000
"""The most called jobs that are undone together with the job that had called them."""


async def undo(memory: "Memory", job_id: str) -> str | None:
    """Undo a job, and the durable jobs that it had called and that were cancelled with it. See
    `App.undo`."""
    check_job_id(job_id)
    store = await memory.store()
    renewed = {
        undo_id: _renewed(properties)
        for undo_id, properties in await store.run(failed_undos, memory.app, job_id)
    }
    before, sent = await store.run(undo_job, memory.app, job_id, renewed, store.now)
    if sent:
        memory.nudge()
    if before in (FAILED, CANCELLED):
        for child in await store.run(abandoned, memory.app, job_id):
            await undo(memory, child)
    return await store.run(state_of, memory.app, job_id)


def _renewed(properties: Properties) -> tuple[str, Properties]:
    """The message in the place of one that has failed: another job. What comes of the old one, of
    which there is a dead letter, changes nothing."""
    job_id = new_job_id()
    headers = {**properties.headers, **token_header()}
    return job_id, properties._replace(message_id=job_id, headers=headers)


def failed_undos(connection: Connection, app: str, job_id: str) -> list[tuple[str, Properties]]:
    """The messages that were to take steps back, and have failed."""
    query = (
        select(steps.c.undo_id, steps.c.undo_properties)
        .join(
            durable,
            (durable.c.app == steps.c.app)
            & (durable.c.job_id == steps.c.job_id)
            & (durable.c.epoch == steps.c.epoch),
        )
        .where(steps.c.app == app, steps.c.job_id == job_id, steps.c.undo_state == FAILED)
    )
    return [(row.undo_id, properties_in(row.undo_properties)) for row in connection.execute(query)]


def abandoned(connection: Connection, app: str, job_id: str) -> list[str]:
    """The jobs that this one waited for when it ended."""
    epoch = connection.scalar(
        select(durable.c.epoch).where(durable.c.app == app, durable.c.job_id == job_id)
    )
    query = select(steps.c.child_id).where(
        of(Owner(app, job_id, epoch or 0)), steps.c.state == ABANDONED,
        steps.c.child_id.is_not(None),
    )  # fmt: skip
    return [row.child_id for row in connection.execute(query.limit(MOST_CHILDREN))]


def state_of(connection: Connection, app: str, job_id: str) -> str | None:
    """The state of a job; None for an unknown one."""
    state: str | None = connection.scalar(
        select(durable.c.state).where(durable.c.app == app, durable.c.job_id == job_id)
    )
    return state
