"""What people do with the rows of an outbox: look at them, have them tried again, remove them.

Changes when they may do something else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    case,
    delete,
    func,
    or_,
    select,
)

from amqpjobs.client.deadletters.letter import Letter
from amqpjobs.client.deadletters.line_format import line_of
from amqpjobs.state.outbox.rows import again, message_of

if TYPE_CHECKING:
    from amqpjobs.client.prepared import Prepared
    from amqpjobs.state.memory import Memory

BATCH = 500
"""Rows that are removed in one transaction."""

RowState: TypeAlias = Literal["failed", "waiting", "sending"]
"""RabbitMQ has refused it for good; it is to be sent; some process sends it, or has just tried."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A message in an outbox, for people.

    Attributes:
        row: its number there.
        state: how it is.
        job_id: its job's id.
        job: its job's name.
        queue: the AMQP queue that it goes to.
        key: by which it is ordered, if it is.
        created_at: when its transaction has stored it, in seconds since the epoch.
        age: seconds since then.
        due_at: when its job is to be started, if that is later.
        error: why it cannot be sent.
    """

    row: int
    state: RowState
    job_id: str
    job: str
    queue: str
    key: str | None
    created_at: float
    age: float
    due_at: float | None
    error: str | None


async def rows_of(
    memory: "Memory", which: Sequence[str] = (), *, failed: bool = False, limit: int = 100
) -> tuple[list[Kept], int]:
    """The rows, those first that have failed, and then the oldest.

    Args:
        which: ids of jobs, or how they begin; empty for all.
        failed: only those that have failed.
        limit: how many, at most.

    Returns:
        The rows, and how many there are in all.

    Raises:
        StoreUnavailable, ConfigurationError: its database cannot be used.
    """
    place = await memory.place()
    query = _chosen(memory.outbox.table, memory.app, which)
    return await place.run(_rows, memory.outbox.table, query, place.now, failed, limit)


async def retry(memory: "Memory", which: Sequence[str] = ()) -> int:
    """Have rows that have failed tried again.

    Returns:
        How many.

    Raises:
        StoreUnavailable, ConfigurationError: its database cannot be used.
    """
    place = await memory.place()
    table, app = memory.outbox.table, memory.app
    return await place.run(again, table, app, *_chosen(table, app, which))


async def discard(
    memory: "Memory",
    which: Sequence[str] = (),
    write: Callable[[list[bytes]], None] | None = None,
) -> int:
    """Remove rows that have failed, for good: their jobs never run.

    Args:
        which: ids of jobs, or how they begin; empty for all that have failed.
        write: makes lines of JSON safe before their rows are removed; it may raise, and no more are
            removed then. ``amqpjobs dead import FILE --to QUEUE`` brings them back.

    Returns:
        How many.

    Raises:
        StoreUnavailable, ConfigurationError: its database cannot be used.
    """
    place = await memory.place()
    table, removed = memory.outbox.table, 0
    query = _chosen(table, memory.app, which)
    while found := await place.run(_failed, table, query):
        if write is not None:
            write([_line(message, at) for _, at, message in found])
        removed += await place.run(_remove, table, [row for row, _, _ in found])
    return removed


def _chosen(table: Table, app: str, which: Sequence[str]) -> list[ColumnElement[bool]]:
    chosen = [table.c.app == app]
    if which:
        chosen.append(or_(*(table.c.job_id.startswith(each, autoescape=True) for each in which)))
    return chosen


def _rows(
    connection: Connection,
    table: Table,
    chosen: list[ColumnElement[bool]],
    now: ColumnElement[float],
    failed: bool,
    limit: int,
) -> tuple[list[Kept], int]:
    if failed:
        chosen = [*chosen, table.c.failed_at.is_not(None)]
    count = connection.scalar(select(func.count()).select_from(table).where(*chosen)) or 0
    state = case(
        (table.c.failed_at.is_not(None), "failed"),
        (table.c.leased_until >= now, "sending"),
        else_="waiting",
    )
    last = case((table.c.failed_at.is_not(None), 0), else_=1)
    columns = (
        table.c.id, state, table.c.job_id, table.c.job, table.c.routing_key, table.c.key,
        table.c.created_at, now - table.c.created_at, table.c.due_at, table.c.error,
    )  # fmt: skip
    query: Select[Any] = select(*columns).where(*chosen).order_by(last, table.c.id).limit(limit)
    return [Kept(*row) for row in connection.execute(query).tuples()], count


def _failed(
    connection: Connection, table: Table, chosen: list[ColumnElement[bool]]
) -> "list[tuple[int, float, Prepared]]":
    query = select(table).where(*chosen, table.c.failed_at.is_not(None))
    rows = connection.execute(query.order_by(table.c.id).limit(BATCH))
    return [(row.id, row.created_at, message_of(row)) for row in rows]


def _remove(connection: Connection, table: Table, ids: list[int]) -> int:
    """Those that were opened again meanwhile stay."""
    chosen = table.c.id.in_(ids), table.c.failed_at.is_not(None)
    return connection.execute(delete(table).where(*chosen)).rowcount


def _line(message: "Prepared", at: float) -> bytes:
    queue, body = message.routing_key, message.body
    return line_of(
        Letter(queue, queue, queue, message.properties, body, len(body), queue, None, at, "")
    )
