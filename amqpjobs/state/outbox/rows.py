"""The rows of an outbox: written in a transaction, claimed by a relay, deleted when confirmed.

All are functions of a connection, for synchronous and asynchronous code alike. Changes when what is
kept of a message does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import text as sql

from amqpjobs.broker.amqp.frames import decode_header, encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.store.keys import key_of

_FRONT = bytes((0, 60, *bytes(10)))
"""What a content header begins with: AMQP's class ``basic``, and no body."""

KEYED = 4_807_134_207
"""PostgreSQL's advisory lock of whoever claims rows that have an order."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message in an outbox.

    Attributes:
        id: of the row; rises in the order in which rows were written.
        message: what is sent.
    """

    id: int
    message: Prepared


def values_of(app: str, message: Prepared, now: ColumnElement[float]) -> dict[str, Any]:
    """The columns of a message that is to be sent, by name."""
    return {
        "app": app,
        "job_id": message.job_id,
        "job": message.job,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": encode_properties(message.properties),
        "body": message.body,
        "due_at": message.due,
        "tracked": message.tracked,
        "created_at": now,
    }


def properties_in(encoded: bytes) -> Properties:
    """The properties in a column."""
    return decode_header(_FRONT + bytes(encoded))


def message_of(row: Any) -> Prepared:
    """The message of a row that has such columns."""
    return Prepared(
        row.job_id, row.job, row.routing_key, properties_in(row.properties), bytes(row.body),
        getattr(row, "due_at", None), row.tracked, getattr(row, "exchange", ""),
    )  # fmt: skip


def add(
    connection: Connection,
    table: Table,
    app: str,
    message: Prepared,
    now: ColumnElement[float],
    key: str | None = None,
) -> None:
    """Write a message into an outbox, in the transaction of the connection.

    Args:
        key: messages of one key are sent in the order in which their transactions commit. Until
            this one ends, another transaction waits that writes one of the same key.
    """
    ordered = None if key is None else key_of(key)
    if ordered is not None and connection.dialect.name == "postgresql":
        # Ids are drawn before the commit: without it a later commit could have the smaller id.
        lock = sql("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
        connection.execute(lock, {"key": f"{app}:{ordered}"})
    connection.execute(insert(table).values(**values_of(app, message, now), key=ordered))


def add_all(
    connection: Connection,
    table: Table,
    app: str,
    messages: Sequence[Prepared],
    now: ColumnElement[float],
) -> None:
    """Write messages that have no order among each other. See `add`."""
    rows = [values_of(app, message, now) for message in messages]
    for row in rows:
        del row["created_at"]
    if rows:
        connection.execute(insert(table).values(created_at=now), rows)


def claim(
    connection: Connection,
    table: Table,
    app: str,
    now: ColumnElement[float],
    lease: str,
    seconds: float,
    most: int,
) -> list[Row]:
    """Take the oldest rows that nobody else sends, for a while. Those of one key come in order, and
    none whose predecessor is with somebody else or has failed.

    Args:
        lease: a token of the taker, new each time.
        seconds: after which others may take what is left of them.
        most: rows with a key, and as many without one.
    """
    rows = _claimed(connection, table, _open(table, app, now), now, lease, seconds, most)
    if _has_keys(connection, table, app):  # as many of them: neither kind waits for the other
        if connection.dialect.name == "postgresql":
            # A statement of its own: the next one sees what others had taken by then.
            connection.execute(sql("SELECT pg_advisory_xact_lock(:lock)"), {"lock": KEYED})
        rest = _ordered(table, app, now)
        rows += _claimed(connection, table, rest, now, lease, seconds, most)
    return sorted(rows, key=lambda row: row.id)


def _free(table: Table, now: ColumnElement[float]) -> ColumnElement[bool]:
    free = or_(table.c.leased_until.is_(None), table.c.leased_until < now)
    return and_(table.c.failed_at.is_(None), free)


def _open(table: Table, app: str, now: ColumnElement[float]) -> Select[Any]:
    return select(table.c.id).where(table.c.app == app, table.c.key.is_(None), _free(table, now))


def _ordered(table: Table, app: str, now: ColumnElement[float]) -> Select[Any]:
    earlier = table.alias("earlier")
    taken = or_(earlier.c.failed_at.is_not(None), earlier.c.leased_until >= now)
    before = exists().where(
        earlier.c.app == table.c.app, earlier.c.key == table.c.key, earlier.c.id < table.c.id, taken
    )
    return select(table.c.id).where(
        table.c.app == app, table.c.key.is_not(None), _free(table, now), ~before
    )


def _has_keys(connection: Connection, table: Table, app: str) -> bool:
    first = select(table.c.id).where(table.c.app == app, table.c.key.is_not(None)).limit(1)
    return connection.execute(first).first() is not None


def _claimed(
    connection: Connection,
    table: Table,
    query: Select[Any],
    now: ColumnElement[float],
    lease: str,
    seconds: float,
    most: int,
) -> list[Row]:
    picked = query.order_by(table.c.id).limit(most).with_for_update(skip_locked=True).cte("picked")
    taken = connection.execute(
        update(table)
        .where(table.c.id.in_(select(picked.c.id)))
        .values(lease=lease, leased_until=now + seconds)
        .returning(*table.c)
    )
    return [Row(row.id, message_of(row)) for row in taken]


def remove(connection: Connection, table: Table, lease: str, ids: Sequence[int]) -> None:
    """Delete what was confirmed, unless somebody else has taken it since."""
    connection.execute(delete(table).where(table.c.id.in_(ids), table.c.lease == lease))


def free(
    connection: Connection,
    table: Table,
    lease: str,
    ids: Sequence[int],
    until: ColumnElement[float],
) -> None:
    """Give rows back that were not sent, to be tried again at a time."""
    connection.execute(
        update(table)
        .where(table.c.id.in_(ids), table.c.lease == lease)
        .values(lease=None, leased_until=until)
    )


def fail(
    connection: Connection,
    table: Table,
    lease: str,
    errors: Iterable[tuple[int, str]],
    now: ColumnElement[float],
) -> None:
    """Keep rows that can never be sent as they are, with why."""
    for id_, error in errors:
        connection.execute(
            update(table)
            .where(table.c.id == id_, table.c.lease == lease)
            .values(lease=None, leased_until=None, failed_at=now, error=error)
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What is in an outbox.

    Attributes:
        open: messages that are still to be sent.
        oldest: seconds that the oldest of them waits; None for none.
        failed: messages that RabbitMQ has refused for good.
        error: why, for one of those.
        failed_job: the name of its job.
    """

    open: int = 0
    oldest: float | None = None
    failed: int = 0
    error: str | None = None
    failed_job: str | None = None


def held(connection: Connection, table: Table, app: str, now: ColumnElement[float]) -> Held:
    """Look at the outbox of an app."""
    waits = table.c.app == app, table.c.failed_at.is_(None)
    count = connection.scalar(select(func.count()).select_from(table).where(*waits)) or 0
    # By the index: rows are numbered in the order in which they were written.
    first = select(now - table.c.created_at).where(*waits).order_by(table.c.id).limit(1)
    oldest = connection.scalar(first) if count else None
    refused = table.c.app == app, table.c.failed_at.is_not(None)
    failed = connection.scalar(select(func.count()).select_from(table).where(*refused)) or 0
    last = select(table.c.error, table.c.job).where(*refused).order_by(table.c.id.desc()).limit(1)
    one = connection.execute(last).first() if failed else None
    if one is None:
        return Held(count, oldest)
    return Held(count, oldest, failed, one.error, one.job)


def again(connection: Connection, table: Table, app: str, *chosen: ColumnElement[bool]) -> int:
    """Have what has failed tried again: all of it, or the rows that are chosen.

    Returns:
        How many.
    """
    return connection.execute(
        update(table)
        .where(table.c.app == app, table.c.failed_at.is_not(None), *chosen)
        .values(failed_at=None, error=None, lease=None, leased_until=None)
    ).rowcount
