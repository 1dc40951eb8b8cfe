"""Silent chunks, which had no sign of life for a long time: sends them again, or gives them up.

Changes when a lost chunk is detected in another way; see `amqpjobs.state.durable.silent`.
"""

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.headers import family_of
from amqpjobs.state.durable.chunk_rows import Ran, end_chunk, rows_in
from amqpjobs.state.durable.rows import Owner, locked, of
from amqpjobs.state.durable.silent import LOST, MOST_SENDS, Silent, heard_of, lost
from amqpjobs.state.durable.values import WAITING, Told
from amqpjobs.state.outbox.rows import add, properties_in
from amqpjobs.state.store.tables import chunks, outbox, steps

_SINCE = func.coalesce(chunks.c.begun_at, chunks.c.sent_at)


def _late(now: ColumnElement[float], seconds: float) -> ColumnElement[bool]:
    late = chunks.c.sent_at < now - seconds
    return and_(chunks.c.state == WAITING, late, now - seconds > _SINCE)


def silent_chunks(
    connection: Connection, app: str, now: ColumnElement[float], seconds: float, most: int
) -> list[Silent]:
    """Chunks without a sign of life for so long, the longest first."""
    query = (
        select(
            chunks.c.job_id, chunks.c.epoch, chunks.c.step, chunks.c.n, chunks.c.routing_key
        )
        .where(
            chunks.c.app == app, _late(now, seconds),
            ~heard_of(chunks.c.app, chunks.c.child_id, now, seconds),
        )
        .order_by(chunks.c.sent_at)
        .limit(most)
    )  # fmt: skip
    return [
        Silent(Owner(app, row.job_id, row.epoch), row.step, "chunk", row.routing_key, row.n)
        for row in connection.execute(query)
    ]


def _mine(silent: Silent) -> ColumnElement[bool]:
    assert silent.step is not None  # noqa: S101 - a chunk has one
    return and_(rows_in(silent.owner, silent.step), chunks.c.n == silent.n)


def send_chunk(
    connection: Connection, silent: Silent, now: ColumnElement[float], seconds: float
) -> Told | None:
    """Send a chunk again, or give it up: then its open items have failed.

    Returns:
        None if it is silent no more.
    """
    owner = silent.owner
    locked(connection, owner.app, owner.job_id)  # the job before its chunks, as all do
    mine = _mine(silent)
    row = connection.execute(select(chunks).where(mine, _late(now, seconds))).first()
    if row is None:
        return None
    message = _message(connection, silent, row)
    if row.sends >= MOST_SENDS:
        family = family_of(message.properties.headers)
        if family is None:
            family = Family(owner.job_id, owner.epoch, row.step, "chunk", row.n)
        ran = Ran((), lost(message, row.sends).error)
        told = end_chunk(connection, owner.app, family, row.child_id, ran, now)
        return replace(told, orphans=(*told.orphans, row.child_id), state=LOST)
    add(connection, outbox, owner.app, message, now)
    connection.execute(update(chunks).where(mine).values(sends=row.sends + 1, sent_at=now))
    return Told(woken=1)


def _message(connection: Connection, silent: Silent, row: Any) -> Prepared:
    job = connection.scalar(
        select(steps.c.child).where(of(silent.owner), steps.c.name == silent.step)
    )
    return Prepared(
        row.child_id, str(job), row.routing_key, properties_in(row.properties), bytes(row.body),
        None, row.tracked,
    )  # fmt: skip


def put_off_chunk(connection: Connection, silent: Silent, now: ColumnElement[float]) -> None:
    """Its message may still wait in its queue: look again after the same time."""
    waits = _mine(silent), chunks.c.state == WAITING
    connection.execute(update(chunks).where(*waits).values(sent_at=now))


def next_silent_chunk(
    connection: Connection, app: str, now: ColumnElement[float], seconds: float
) -> float | None:
    """When the next chunk will have been silent for so long; None for none that is not yet."""
    first = select(func.min(chunks.c.sent_at)).where(
        chunks.c.app == app, chunks.c.state == WAITING, chunks.c.sent_at >= now - seconds
    )
    at: float | None = connection.scalar(first)
    return None if at is None else at + seconds + 0.001


def hear_chunk(
    connection: Connection, app: str, family: Family, until: float, now: ColumnElement[float]
) -> None:
    """A chunk, or an item, that is not done will not be heard of before this time."""
    owner = Owner(app, family.parent, family.epoch)
    locked(connection, app, family.parent)
    mine = and_(rows_in(owner, family.step), chunks.c.n == family.n, chunks.c.state == WAITING)
    connection.execute(update(chunks).where(mine, now < until).values(sent_at=until))
