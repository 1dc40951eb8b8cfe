"""Sends chunks a second time that take much longer than others. The first result counts.

Changes when another chunk counts as slow.
"""

from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.copies import copied
from amqpjobs.state.durable.chunk_rows import ITEMS, rows_in
from amqpjobs.state.durable.feed import Feed
from amqpjobs.state.durable.rows import Owner, locked
from amqpjobs.state.durable.values import DONE, MAP, WAITING
from amqpjobs.state.outbox.rows import add, properties_in
from amqpjobs.state.store.tables import chunks, outbox, steps

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

SHARE = 0.75
"""Of the chunks, that must have ended before any is slow: what others take is known then."""

MEASURED = 200
"""Chunks whose times are looked at."""


class RepeatsStragglers:
    """Sends slow chunks of maps a second time, where their map allows it.

    Args:
        memory: whose.
    """

    name = "stragglers"
    pause = 1.0
    nudged = False

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    async def turn(self) -> bool:
        """All of them."""
        memory = self._memory
        store = await memory.store()
        maps = await store.run(sealed_maps, memory.app)
        repeated = 0
        for owner, name, job, factor in maps:
            repeated += await store.run(repeat_slow, owner, name, job, factor, store.now)
        if repeated:
            memory.nudge()
        return False

    async def next_at(self) -> float | None:
        """Nothing in it waits for a time."""
        return None


def sealed_maps(connection: Connection, app: str) -> list[tuple[Owner, str, str, float]]:
    """Maps that have sent all their items, and may repeat some: of which job, their names, the
    names of the jobs that run, and how slow is slow."""
    query = select(
        steps.c.job_id, steps.c.epoch, steps.c.name, steps.c.child, steps.c.cursor
    ).where(steps.c.app == app, steps.c.kind == MAP, steps.c.state == WAITING)
    found = []
    for row in connection.execute(query):
        feed = Feed.of_text(row.cursor)
        if feed.sealed and feed.stragglers is not None:
            owner = Owner(app, row.job_id, row.epoch)
            found.append((owner, row.name, row.child, feed.stragglers))
    return found


def repeat_slow(
    connection: Connection,
    owner: Owner,
    name: str,
    job: str,
    factor: float,
    now: ColumnElement[float],
) -> int:
    """Send the slow chunks of a map a second time; returns how many."""
    if locked(connection, owner.app, owner.job_id) is None:
        return 0
    mine = rows_in(owner, name)
    ended = select(func.count()).where(mine, chunks.c.state == DONE)
    all_ = select(func.count()).where(mine)
    total = connection.scalar(all_) or 0
    if not total or (connection.scalar(ended) or 0) < SHARE * total:
        return 0
    usual = _usual(connection, mine)
    if usual is None:
        return 0
    slow = (
        select(chunks)
        .where(
            mine, chunks.c.state == WAITING, chunks.c.sends == 1, chunks.c.begun_at.is_not(None),
            now - chunks.c.begun_at > factor * usual * ITEMS.element,
        )
        .order_by(chunks.c.n)
    )  # fmt: skip
    rows = connection.execute(slow).all()
    for row in rows:
        _send_again(connection, owner, job, row, now)
    return len(rows)


def _usual(connection: Connection, mine: ColumnElement[bool]) -> float | None:
    """Seconds that an item takes."""
    query = (
        select((chunks.c.ended_at - chunks.c.begun_at).label("seconds"), ITEMS)
        .where(mine, chunks.c.state == DONE, chunks.c.begun_at.is_not(None))
        .limit(MEASURED)
    )
    times = [row.seconds / row.items for row in connection.execute(query)]
    return median(times) if times else None


def _send_again(
    connection: Connection, owner: Owner, job: str, row: Any, now: ColumnElement[float]
) -> None:
    """The same job, as another copy: the first one that ends counts."""
    properties = copied(properties_in(row.properties))
    message = Prepared(
        row.child_id, job, row.routing_key, properties, bytes(row.body), None, row.tracked
    )
    add(connection, outbox, owner.app, message, now)
    connection.execute(
        update(chunks).where(rows_in(owner, row.step), chunks.c.n == row.n).values(sends=2)
    )
