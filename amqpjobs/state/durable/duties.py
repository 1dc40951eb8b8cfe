"""The housekeeping of durable jobs: ends steps whose time has come, and deletes old jobs.

Changes when durable jobs need another duty.
"""

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select, tuple_, union_all

from amqpjobs.state.durable.ends import wake_anyway
from amqpjobs.state.durable.rows import Owner
from amqpjobs.state.durable.values import ENDED, SIGNAL, SUSPENDED, UNDO_FAILED, WAITING
from amqpjobs.state.durable.waits import end_due
from amqpjobs.state.store.tables import chunks, durable, steps

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

AT_ONCE = 100
"""Steps, or jobs, that one transaction takes."""


class WakesDurable:
    """Ends what has waited until its time, and wakes jobs whose deadline has passed.

    Args:
        memory: whose.
    """

    name = "durable jobs"
    pause = 1.0
    nudged = False

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    async def turn(self) -> bool:
        """Some of them."""
        memory = self._memory
        store = await memory.store()
        found, orphans, woken = await store.run(end_due, memory.app, store.now, AT_ONCE)
        late = await store.run(wake_late, memory.app, store.now, AT_ONCE)
        if woken or late:
            memory.nudge()
        for job_id in orphans:
            await self._cancel(job_id)
        return found + late > 0

    async def _cancel(self, job_id: str) -> None:
        from amqpjobs.state.durable.cancelling import cancel

        # A call that was not done in time has failed: its steps are undone.
        await cancel(self._memory, job_id, "its time was over", undo=True)

    async def next_at(self) -> float | None:
        """When the next one is due."""
        store = await self._memory.store()
        return await store.run(next_due, self._memory.app)


def wake_late(connection: Connection, app: str, now: ColumnElement[float], most: int) -> int:
    """Send suspended jobs again whose deadline has passed: the worker that gets one ends it."""
    query = (
        select(durable.c.job_id, durable.c.epoch)
        .where(
            durable.c.app == app, durable.c.deadline.is_not(None), durable.c.deadline < now,
            durable.c.state == SUSPENDED,
        )
        .order_by(durable.c.job_id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )  # fmt: skip
    rows = connection.execute(query).all()
    return sum(wake_anyway(connection, Owner(app, row.job_id, row.epoch), now) for row in rows)


def next_due(connection: Connection, app: str) -> float | None:
    """When the next step is due, or the next deadline of a suspended job has passed."""
    due = select(func.min(steps.c.due_at).label("at")).where(
        steps.c.app == app, steps.c.due_at.is_not(None), steps.c.state == WAITING
    )
    late = select((func.min(durable.c.deadline) + 0.001).label("at")).where(
        durable.c.app == app, durable.c.deadline.is_not(None), durable.c.state == SUSPENDED
    )
    both = union_all(due, late).subquery()
    at: float | None = connection.scalar(select(func.min(both.c.at)))
    return at


class PrunesDurable:
    """Forgets durable jobs that ended long ago. Those whose undo has failed stay.

    Args:
        memory: whose.
    """

    name = "durable history"
    pause = 300.0
    nudged = False

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    async def turn(self) -> bool:
        """Some of them."""
        store = await self._memory.store()
        ttl = self._memory.client.runtime.settings.inbox_ttl
        return await store.run(prune, self._memory.app, store.now, ttl, AT_ONCE) >= AT_ONCE

    async def next_at(self) -> float | None:
        """Nothing that a test waits for."""
        return None


def prune(
    connection: Connection, app: str, now: ColumnElement[float], ttl: float, most: int
) -> int:
    """Delete jobs that ended before that many seconds, and what is kept of them; and signals for
    jobs that have not begun in that time.

    Returns:
        How many jobs, or signals if these are more.
    """
    ended = [state for state in ENDED if state != UNDO_FAILED]
    old = select(durable.c.app, durable.c.job_id).where(
        durable.c.app == app, durable.c.state.in_(ended), durable.c.changed_at < now - ttl
    )
    # Locked: a replay could begin one before it is deleted.
    found = connection.execute(old.limit(most).with_for_update(skip_locked=True))
    keys = [(row.app, row.job_id) for row in found]
    if keys:
        for table in (chunks, steps, durable):
            mine = tuple_(table.c.app, table.c.job_id).in_(keys)
            connection.execute(delete(table).where(mine))
    return max(len(keys), _prune_signals(connection, app, now, ttl, most))


def _prune_signals(
    connection: Connection, app: str, now: ColumnElement[float], ttl: float, most: int
) -> int:
    """Delete the signals of ids that no job has. Any user may send such signals."""
    begun = exists().where(durable.c.app == steps.c.app, durable.c.job_id == steps.c.job_id)
    old = select(steps.c.app, steps.c.job_id, steps.c.epoch, steps.c.name).where(
        steps.c.app == app, steps.c.kind == SIGNAL, steps.c.ended_at < now - ttl, ~begun
    )
    keys = [tuple(row) for row in connection.execute(old.limit(most))]
    if keys:
        mine = tuple_(steps.c.app, steps.c.job_id, steps.c.epoch, steps.c.name).in_(keys)
        connection.execute(delete(steps).where(mine))
    return len(keys)
