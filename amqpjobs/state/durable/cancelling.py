"""Cancels durable jobs that are rows: they are sent again, and a worker ends them.

Changes when a durable job is cancelled in another way.
"""

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, select

from amqpjobs.state.durable.ends import wake_anyway
from amqpjobs.state.durable.rows import Owner
from amqpjobs.state.durable.values import SUSPENDED
from amqpjobs.state.store.tables import durable

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


async def cancel_durable(memory: "Memory", job_id: str) -> bool:
    """Have a durable job that waits as a row sent again, so that the worker that gets it sees that
    it was cancelled: that must be known before.

    Returns:
        Whether it was one.

    Raises:
        StoreUnavailable: the store is away.
    """
    store = await memory.store()
    woken = await store.run(_wake, memory.app, job_id, store.now)
    if woken:
        memory.nudge()
    return woken


def _wake(connection: Connection, app: str, job_id: str, now: ColumnElement[float]) -> bool:
    query = select(durable.c.epoch).where(
        durable.c.app == app, durable.c.job_id == job_id, durable.c.state == SUSPENDED
    )
    row = connection.execute(query).first()
    return row is not None and wake_anyway(connection, Owner(app, job_id, row.epoch), now)
