"""What the housekeeping does for limits: sends what is due, and frees what nobody holds any more.

Changes when it does something else for them.
"""

import logging
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select

from amqpjobs.state.limits.claims import Claim, claim, prune_claims
from amqpjobs.state.limits.keys import DEBOUNCE, LIMIT, lock_keys
from amqpjobs.state.limits.once import DEBOUNCED_TTL
from amqpjobs.state.limits.places import FREE, Places
from amqpjobs.state.limits.waiting import move, wake
from amqpjobs.state.store.tables import claims, slots, waiting

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

log = logging.getLogger("amqpjobs.limits")

BATCH = 500
"""Rows in a transaction."""

OFTEN, SELDOM = 1.0, 5.0
"""Seconds between two looks at what is due, and at what nobody would have woken."""

SOONEST = 0.02


class SendsDue:
    """Sends what is due: debounced jobs, and jobs whose deadline passed while they waited, which
    then end as `Expired`.

    Args:
        memory: whose.
    """

    name = "waiting"
    nudged = False

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self.pause = OFTEN

    async def turn(self) -> bool:
        """Send some."""
        store = await self._memory.store()
        moved, pause = await store.run(send_due, self._memory.app, store.now)
        self.pause = min(OFTEN, max(SOONEST, OFTEN if pause is None else pause))
        if moved:
            self._memory.nudge()
        return moved > 0

    async def next_at(self) -> float | None:
        """When the next one is due."""
        store = await self._memory.store()
        return await store.run(next_due, self._memory.app, store.now)


class FreesSlots:
    """Frees slots whose lease is over, wakes jobs that wait for a slot that is free, and forgets
    claims that are over.

    Args:
        memory: whose.
    """

    name = "limits"
    pause = SELDOM
    nudged = False

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    async def turn(self) -> bool:
        """Look once."""
        store = await self._memory.store()
        freed, woken = await store.run(sweep, self._memory.app, store.now)
        for key, holder in freed:
            log.warning("slot freed, its lease is over", extra={"key": key, "job_id": holder})
        if woken:
            self._memory.nudge()
        return woken > 0

    async def next_at(self) -> float | None:
        """When the next lease is over."""
        store = await self._memory.store()
        held = select(func.min(slots.c.expires_at)).where(
            slots.c.app == self._memory.app, slots.c.holder != FREE
        )
        found = await store.run(lambda connection: connection.scalar(held))
        return None if found is None else float(found)


def _due(app: str, now: ColumnElement[float]) -> ColumnElement[bool]:
    return and_(waiting.c.app == app, waiting.c.due_at <= now)


def _stopped(now: ColumnElement[float]) -> ColumnElement[bool]:
    """A debounce that waits for the run before it."""
    running = exists().where(claims.c.key == waiting.c.key, claims.c.expires_at > now)
    return and_(waiting.c.kind == DEBOUNCE, waiting.c.places > 0, running)


def send_due(
    connection: Connection, app: str, now: ColumnElement[float]
) -> tuple[int, float | None]:
    """Move what is due into the outbox.

    Returns:
        How many rows, and seconds until the next is due.
    """
    columns = (waiting.c.id, waiting.c.kind, waiting.c.key, waiting.c.places)
    query = select(*columns, waiting.c.job, waiting.c.job_id).where(_due(app, now))
    first = query.where(~_stopped(now)).order_by(waiting.c.due_at).limit(BATCH)
    keys = {row.key for row in connection.execute(first) if row.kind == DEBOUNCE}
    lock_keys(connection, keys)
    # Again: a call may have put one off meanwhile.
    chosen = []
    for row in connection.execute(first).all():
        if row.kind == DEBOUNCE and row.key not in keys:
            continue
        if row.kind == DEBOUNCE and row.places:
            wanted = Claim(row.key, row.job, row.job_id, DEBOUNCED_TTL)
            if claim(connection, app, wanted, now) is not None:
                continue  # another process was here first
        chosen.append(row.id)
    moved = move(connection, app, chosen, now)
    left = select(func.min(waiting.c.due_at) - now).where(waiting.c.app == app, ~_stopped(now))
    pause = connection.scalar(left)
    return moved, None if pause is None else float(pause)


def next_due(connection: Connection, app: str, now: ColumnElement[float]) -> float | None:
    """When the next row is due, in seconds since the epoch."""
    first = select(func.min(waiting.c.due_at)).where(waiting.c.app == app, ~_stopped(now))
    over = select(func.min(claims.c.expires_at)).where(
        claims.c.expires_at > now,
        exists().where(waiting.c.key == claims.c.key, waiting.c.kind == DEBOUNCE),
    )
    times = [connection.scalar(first), connection.scalar(over)]
    return min((float(each) for each in times if each is not None), default=None)


def sweep(
    connection: Connection, app: str, now: ColumnElement[float]
) -> tuple[list[tuple[str, str]], int]:
    """Free slots, and wake who waits for free ones.

    Returns:
        The keys and holders of the slots that were freed, and how many jobs were woken.
    """
    over = and_(slots.c.app == app, slots.c.holder != FREE, slots.c.expires_at <= now)
    waits = and_(waiting.c.app == app, waiting.c.kind == LIMIT)
    keys = {row.key for row in connection.execute(select(slots.c.key).where(over).limit(BATCH))}
    of_waiting = select(waiting.c.key).where(waits).distinct().limit(BATCH)
    keys |= {row.key for row in connection.execute(of_waiting)}
    places = Places.of(connection, app, now, keys)
    freed = places.free_dead()
    woken = wake(connection, places, keys, now)
    places.write(connection, now)
    prune_claims(connection, now)
    return freed, woken
