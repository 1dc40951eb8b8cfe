"""The progress of a map. Changes when something else is counted."""

from sqlalchemy import ColumnElement, Connection, func, select

from amqpjobs.jobs.durable.status import MapProgress
from amqpjobs.state.durable.chunk_rows import rows_in
from amqpjobs.state.durable.feed import Feed
from amqpjobs.state.durable.rows import Owner, of
from amqpjobs.state.durable.values import MAP
from amqpjobs.state.store.tables import chunks, steps


def progress_of(
    connection: Connection, owner: Owner, name: str, now: ColumnElement[float]
) -> MapProgress | None:
    """The progress of a map; None if the job has no map of this name."""
    query = select(
        steps.c.cursor, steps.c.started_at, func.coalesce(steps.c.ended_at, now).label("until")
    ).where(of(owner), steps.c.name == name, steps.c.kind == MAP)
    row = connection.execute(query).first()
    if row is None:
        return None
    counts = select(
        func.coalesce(func.sum(chunks.c.done), 0).label("done"),
        func.coalesce(func.sum(chunks.c.failed), 0).label("failed"),
        func.max(chunks.c.seconds).label("slowest"),
    ).where(rows_in(owner, name))
    found = connection.execute(counts).one()
    feed = Feed.of_text(row.cursor)
    total = feed.sent if feed.sealed else feed.total
    seconds = max(0.0, row.until - row.started_at)
    return MapProgress(int(found.done), int(found.failed), feed.sent, total, seconds, found.slowest)
