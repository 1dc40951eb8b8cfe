"""Cancels durable jobs. The row of a job is marked; a suspended job is sent again, so that a worker
ends it.

Changes when a durable job is cancelled in another way.
"""

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, update

from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.state.durable.ends import wake_anyway
from amqpjobs.state.durable.rows import Owner, locked
from amqpjobs.state.durable.undone import undo as take_back
from amqpjobs.state.durable.values import CANCELLED, RUNNING, SUSPENDED
from amqpjobs.state.status.cancelling import cancel_job, checked
from amqpjobs.state.store.tables import durable

if TYPE_CHECKING:
    from amqpjobs.jobs.message.cancellation import Cancellation
    from amqpjobs.state.memory import Memory


async def cancel(
    memory: "Memory", job_id: str, reason: str, *, undo: bool = False
) -> "Cancellation":
    """Cancel a job, which may be a durable one. See `App.cancel`."""
    why = checked(job_id, reason)
    problem: ConfigurationError | StoreUnavailable | None = None
    found = True
    # The row first: a run that is cancelled by what workers are told is undone if it says so.
    try:
        found = await cancel_durable(memory, job_id, why, undo=undo)
    except (ConfigurationError, StoreUnavailable) as error:
        problem = error
    told = await cancel_job(memory.client, job_id, reason)
    if problem is not None:
        raise problem
    if undo and not found:
        await cancel_durable(memory, job_id, why, undo=True)  # it may have begun in between
    return told


async def cancel_durable(memory: "Memory", job_id: str, reason: str, *, undo: bool = False) -> bool:
    """End a durable job where it is: no further run of it begins. One that waits as a row is
    sent again, and the worker that gets it ends it, with the jobs that it waits for.

    Args:
        undo: whether its steps are undone. If the job was cancelled before, they are undone now.

    Returns:
        Whether there is a row of it.

    Raises:
        StoreUnavailable: the store is away.
    """
    store = await memory.store()
    state, woken = await store.run(cancel_row, memory.app, job_id, reason, undo, store.now)
    if woken:
        memory.nudge()
    if state == CANCELLED and undo:
        await take_back(memory, job_id)
    return state is not None


def cancel_row(
    connection: Connection,
    app: str,
    job_id: str,
    reason: str,
    undo: bool,
    now: ColumnElement[float],
) -> tuple[str | None, bool]:
    """Note in the row of a job that it is cancelled, and send it again if it is suspended.

    Returns:
        The state that it had, None for an unknown job; and whether it was sent.
    """
    row = locked(connection, app, job_id)
    if row is None:
        return None, False
    if row.state not in (RUNNING, SUSPENDED):
        return row.state, False
    connection.execute(
        update(durable)
        .where(durable.c.app == app, durable.c.job_id == job_id)
        .values(cancel_reason=reason, undo_asked=undo or row.undo_asked)
    )
    return row.state, wake_anyway(connection, Owner(app, job_id, row.epoch), now)
