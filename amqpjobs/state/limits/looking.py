"""Looks at slots, locks and what waits for them, for people; and frees what an operator says.

Changes when there is more to be seen of them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, and_, func, select

from amqpjobs.state.limits.keys import LIMIT, LOCK, key_in, shown
from amqpjobs.state.limits.places import FREE, Places
from amqpjobs.state.limits.waiting import wake
from amqpjobs.state.store.tables import slots, waiting

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

MOST = 1000
"""Keys that are shown."""


@dataclass(frozen=True, slots=True)
class SlotHeld:
    """A slot that is held.

    Attributes:
        job: its name; None for a lock.
        job_id: of the job, or of the holder of a lock.
        worker: host and process id; None if it is kept for a job that waited.
        token: the fencing token.
        since, until: seconds since the epoch: when it was taken, and when its lease is over.
    """

    job: str | None
    job_id: str
    worker: str | None
    token: int
    since: float
    until: float


@dataclass(slots=True)
class KeyHeld:
    """A key of a limit, or a lock.

    Attributes:
        key: as `limits show` takes it.
        kind: ``limit`` or ``lock``.
        slots: that are held.
        waiting: jobs that wait for one.
        oldest: when the first of them began to wait, in seconds since the epoch.
    """

    key: str
    kind: str
    slots: list[SlotHeld] = field(default_factory=list)
    waiting: int = 0
    oldest: float | None = None


def keys_held(
    connection: Connection, app: str, now: ColumnElement[float], key: str | None = None
) -> list[KeyHeld]:
    """What is held, and what is waited for, by key.

    Args:
        key: only this one, as it is stored.
    """
    held = and_(slots.c.app == app, slots.c.holder != FREE, slots.c.expires_at > now)
    waits = and_(waiting.c.app == app, waiting.c.kind == LIMIT)
    if key is not None:
        held, waits = and_(held, slots.c.key == key), and_(waits, waiting.c.key == key)
    found: dict[str, KeyHeld] = {}
    for row in connection.execute(select(slots).where(held).order_by(slots.c.key).limit(MOST)):
        slot = SlotHeld(row.job, row.holder, row.worker, row.token, row.taken_at, row.expires_at)
        _of(found, row.key).slots.append(slot)
    counted = select(waiting.c.key, func.count(), func.min(waiting.c.first_at)).where(waits)
    for name, count, oldest in connection.execute(counted.group_by(waiting.c.key).limit(MOST)):
        one = _of(found, name)
        one.waiting, one.oldest = count, oldest
    return [found[name] for name in sorted(found)]


def _of(found: dict[str, KeyHeld], stored: str) -> KeyHeld:
    if stored not in found:
        kind, text = shown(stored)
        found[stored] = KeyHeld(text if kind == LIMIT else f"{kind}:{text}", kind)
    return found[stored]


def stored_key(app: str, key: str) -> str:
    """A key as it is stored, from how it is shown."""
    if key.startswith(f"{LOCK}:"):
        return key_in(app, LOCK, key.removeprefix(f"{LOCK}:"))
    return key_in(app, LIMIT, key)


def release(connection: Connection, app: str, now: ColumnElement[float], key: str) -> int:
    """Free all slots of a key, and wake who waits for them.

    Returns:
        How many were freed.
    """
    places = Places.of(connection, app, now, [key])
    freed = places.free_all(key)
    wake(connection, places, [key], now)
    places.write(connection, now)
    return freed


async def look(memory: "Memory", key: str | None = None) -> list[KeyHeld]:
    """See `keys_held`; the key is given as it is shown."""
    store = await memory.store()
    stored = None if key is None else stored_key(memory.app, key)
    return await store.run(keys_held, memory.app, store.now, stored)


async def free_key(memory: "Memory", key: str) -> int:
    """See `release`; the housekeeping of the workers sends what it wakes."""
    store = await memory.store()
    return await store.run(release, memory.app, store.now, stored_key(memory.app, key))
