"""The rows of maps: chunks are sent, run, and end. The map ends with its last chunk.

All are functions of a connection. Each transaction locks the row of the durable job first, so only
one transaction at a time counts the chunks that are left: of two last chunks that end at once, the
second sees the first. Counts are computed from the states of rows. A chunk that ends twice does not
change its state again. Changes when a chunk may end in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.state.durable import lines as of_items
from amqpjobs.state.durable.ends import wake, wake_anyway
from amqpjobs.state.durable.feed import Feed
from amqpjobs.state.durable.rows import Owner, abandon_chunks, locked, of, stored
from amqpjobs.state.durable.values import (
    DONE,
    FAILED,
    FEEDING,
    RUNNING,
    SUSPENDED,
    WAITING,
    Ended,
    Failed,
    Told,
)
from amqpjobs.state.outbox.rows import leave_to_relay, values_of
from amqpjobs.state.store.tables import chunks, outbox, steps

ITEMS = chunks.c.count.label("items")
"""Rows have a method of the name of that column."""


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk that is to be sent.

    Attributes:
        n: its number.
        first: the index of its first item.
        count: of its items.
        message: with them.
    """

    n: int
    first: int
    count: int
    message: Prepared


@dataclass(frozen=True, slots=True)
class Fed:
    """What a map has come to, after items were sent.

    Attributes:
        state: of its step.
        in_flight: chunks, or items, that were sent and have not ended.
    """

    state: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A chunk that a worker is to run.

    Attributes:
        first: the index of its first item.
        lines: what has become of its items by now.
        prepare: what is to be called before, as ``module:name``.
    """

    first: int
    lines: list[bytes]
    prepare: str | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run of a chunk has come to.

    Attributes:
        lines: of its items.
        rest: why those have failed that have no line; None if they have not.
        seconds: that it took.
    """

    lines: Sequence[bytes]
    rest: Failed | None = None
    seconds: float | None = None


def ran_of(ended: Ended) -> Ran:
    """Of the job of one item."""
    if ended.error is not None:
        return Ran([of_items.failed(ended.error)])
    return Ran([of_items.done(ended.result or b"null")])


def rows_in(owner: Owner, name: str) -> ColumnElement[bool]:
    """The chunks of a map."""
    return and_(
        chunks.c.app == owner.app, chunks.c.job_id == owner.job_id, chunks.c.epoch == owner.epoch,
        chunks.c.step == name,
    )  # fmt: skip


def _step(owner: Owner, name: str) -> ColumnElement[bool]:
    return and_(of(owner), steps.c.name == name)


def in_flight(connection: Connection, owner: Owner, name: str, feed: Feed) -> int:
    """How many chunks, or items, were sent and have not ended."""
    counted = func.coalesce(func.sum(chunks.c.count), 0) if feed.by_items else func.count()
    query = select(counted).select_from(chunks)
    found = connection.scalar(query.where(rows_in(owner, name), chunks.c.state == WAITING))
    return int(found or 0)


def feed_chunks(
    connection: Connection,
    owner: Owner,
    token: int,
    name: str,
    before: Feed,
    after: Feed,
    new: Sequence[NewChunk],
    window: int,
    now: ColumnElement[float],
) -> Fed | None:
    """Send chunks, and note how far the items are sent.

    Args:
        before: how far they were.
        window: chunks, or items, at which no more are sent until some have ended.

    Returns:
        None if nothing is written: a newer run has begun, the map has ended, or this was written
        before.
    """
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.token != token or row.epoch != owner.epoch or row.state != RUNNING:
        return None
    mine = and_(_step(owner, name), steps.c.state == FEEDING, steps.c.cursor == before.text())
    changed = update(steps).where(mine).values(cursor=after.text(), ended_at=None)
    if connection.execute(changed.returning(steps.c.n)).first() is None:
        return None
    if new:
        _send(connection, owner, name, new, now)
    left = in_flight(connection, owner, name, after)
    if after.sealed or left >= max(1, window):
        connection.execute(update(steps).where(_step(owner, name)).values(state=WAITING))
        _look(connection, owner, name, now)
    state = connection.scalar(select(steps.c.state).where(_step(owner, name)))
    return Fed(str(state), left)


def _send(
    connection: Connection,
    owner: Owner,
    name: str,
    new: Sequence[NewChunk],
    now: ColumnElement[float],
) -> None:
    at = connection.scalar(select(now))
    rows = [
        {
            "app": owner.app, "job_id": owner.job_id, "epoch": owner.epoch, "step": name,
            "n": each.n, "state": WAITING, "first": each.first, "count": each.count,
            "child_id": each.message.job_id, "sent_at": at, **stored(each.message),
        }
        for each in new
    ]  # fmt: skip
    connection.execute(insert(chunks), rows)
    connection.execute(
        insert(outbox),
        [values_of(owner.app, each.message, now) | {"created_at": at} for each in new],
    )
    leave_to_relay(connection)


def begin_chunk(
    connection: Connection, app: str, family: Family, child_id: str, now: ColumnElement[float]
) -> Wanted | None:
    """Look at a chunk before it is run.

    Returns:
        None if its map has ended.
    """
    owner = Owner(app, family.parent, family.epoch)
    mine = and_(rows_in(owner, family.step), chunks.c.n == family.n)
    query = select(chunks.c.state, chunks.c.first, ITEMS, chunks.c.results, chunks.c.child_id)
    row = connection.execute(query.where(mine)).first()
    if row is None or row.state != WAITING or row.child_id != child_id:
        return None
    cursor = connection.scalar(select(steps.c.cursor).where(_step(owner, family.step)))
    feed = Feed.of_text(cursor)
    if feed.stragglers is not None:
        locked(connection, app, family.parent)  # as all others have it before they lock a chunk
        unbegun = mine, chunks.c.begun_at.is_(None)
        connection.execute(update(chunks).where(*unbegun).values(begun_at=now))
    return Wanted(row.first, of_items.lines_in(row.results, row.items), feed.prepare)


def end_chunk(
    connection: Connection,
    app: str,
    family: Family,
    child_id: str,
    ran: Ran,
    now: ColumnElement[float],
) -> Told:
    """Keep what a run of a chunk has come to; when all its items have ended, it has.

    The first results of items count, and those of a chunk that has ended.
    """
    owner = Owner(app, family.parent, family.epoch)
    parent = locked(connection, app, family.parent)
    mine = and_(rows_in(owner, family.step), chunks.c.n == family.n)
    row = connection.execute(select(chunks, ITEMS).where(mine)).first()
    if row is None or row.state != WAITING or row.child_id != child_id:
        return Told()
    lines = of_items.lines_in(row.results, row.items)
    if ran.lines:
        lines = of_items.merged(lines, ran.lines)
    if ran.rest is not None:
        lines = of_items.merged(lines, [of_items.failed(ran.rest)] * row.items)
    done, failed = of_items.tally(lines)
    seconds = row.seconds if ran.seconds is None else (row.seconds or 0.0) + ran.seconds
    values: dict[str, Any] = {
        "results": of_items.column(lines), "done": done, "failed": failed, "seconds": seconds
    }  # fmt: skip
    if done + failed == row.items:
        values |= {
            "state": DONE, "ended_at": now, "properties": None, "body": None,
            "error": first_error(lines, row.first),
        }  # fmt: skip
    connection.execute(update(chunks).where(mine).values(**values))
    if done + failed < row.items or parent is None or parent.epoch != owner.epoch:
        return Told()
    if parent.state not in (RUNNING, SUSPENDED):
        return Told()
    return Told(woken=int(_look(connection, owner, family.step, now, failed=failed > 0)))


def first_error(lines: Sequence[bytes], first: int) -> str | None:
    """Why the first item has failed that did, with its index, as a column has it."""
    for index, line in enumerate(lines, first):
        if (error := of_items.error_in(line)) is not None:
            return numbered(error, index).text()
    return None


def numbered(error: Failed, index: int) -> Failed:
    """With the index of its item in the words."""
    return replace(error, message=f"item {index}: {error.message}")


def _look(
    connection: Connection,
    owner: Owner,
    name: str,
    now: ColumnElement[float],
    *,
    failed: bool = False,
) -> bool:
    """See whether a map has ended, or has room for more items. Its job is locked.

    Args:
        failed: whether an item has failed just now.

    Returns:
        Whether its job was sent again.
    """
    query = select(steps.c.state, steps.c.cursor).where(_step(owner, name))
    row = connection.execute(query).first()
    if row is None or row.state not in (WAITING, FEEDING):
        return False
    feed = Feed.of_text(row.cursor)
    if failed and feed.is_too_much(failed_items(connection, owner, name)):
        return _fail(connection, owner, name, now)
    left = in_flight(connection, owner, name, feed)
    if feed.sealed and left == 0:
        return _complete(connection, owner, name, feed, now)
    if not feed.sealed and row.state == WAITING and left <= feed.low:
        connection.execute(update(steps).where(_step(owner, name)).values(state=FEEDING))
        return wake_anyway(connection, owner, now)
    return False


def failed_items(connection: Connection, owner: Owner, name: str) -> int:
    """How many items have failed for good."""
    total = select(func.coalesce(func.sum(chunks.c.failed), 0))
    return int(connection.scalar(total.where(rows_in(owner, name), chunks.c.failed > 0)) or 0)


def _complete(
    connection: Connection, owner: Owner, name: str, feed: Feed, now: ColumnElement[float]
) -> bool:
    failed = failed_items(connection, owner, name)
    if feed.is_too_much(failed):
        return _fail(connection, owner, name, now)
    told = b'{"done": %d, "failed": %d}' % (feed.sent - failed, failed)
    connection.execute(
        update(steps).where(_step(owner, name)).values(state=DONE, result=told, ended_at=now)
    )
    return wake(connection, owner, now)


def _fail(connection: Connection, owner: Owner, name: str, now: ColumnElement[float]) -> bool:
    first = select(chunks.c.error).where(rows_in(owner, name), chunks.c.failed > 0)
    error = connection.scalar(first.order_by(chunks.c.n).limit(1))
    connection.execute(
        update(steps).where(_step(owner, name)).values(state=FAILED, error=error, ended_at=now)
    )
    abandon_chunks(connection, owner, name)
    return wake(connection, owner, now)


def times_of(connection: Connection, owner: Owner, name: str, most: int) -> list[float]:
    """Seconds that an item took, in each of the chunks that ended last, the shortest first."""
    query = (
        select(chunks.c.seconds, ITEMS)
        .where(rows_in(owner, name), chunks.c.state == DONE, chunks.c.seconds.is_not(None))
        .order_by(chunks.c.n.desc())
        .limit(most)
    )
    return sorted(row.seconds / row.items for row in connection.execute(query))


def looked_at(
    connection: Connection, owner: Owner, name: str, feed: Feed, most: int
) -> tuple[int, list[float]]:
    """How many chunks, or items, have not ended; and the seconds of `times_of`."""
    left = in_flight(connection, owner, name, feed)
    return left, times_of(connection, owner, name, most)


def page(
    connection: Connection, owner: Owner, name: str, after: int, most: int
) -> list[tuple[int, bytes]]:
    """The numbers and results of some chunks, in order.

    Args:
        after: the number of the last one that is known.
    """
    query = (
        select(chunks.c.n, chunks.c.results)
        .where(rows_in(owner, name), chunks.c.n > after)
        .order_by(chunks.c.n)
        .limit(most)
    )
    return [(row.n, bytes(row.results or b"")) for row in connection.execute(query)]
