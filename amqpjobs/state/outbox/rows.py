"""The rows of an outbox: written in a transaction, claimed by a relay, deleted when confirmed.

All are functions of a connection, for synchronous and asynchronous code alike. Changes when what is
kept of a message does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


SENDS = "amqpjobs_sends"
"""The execution option of a connection by which messages that are added are noted: a `Sends`."""


@dataclass(slots=True)
class Sends:
    """What one transaction has added, for a process that sends it by itself after the commit.

    Attributes:
        lease: of that process, which has the rows for so many seconds: should it die before they
            are sent, a relay sends them then. Empty if it leaves all to a relay.
        seconds: see `lease`.
        rows: that it is to send.
        others: whether there are rows that a relay is to send: such as have an order, or a time.
    """

    lease: str
    seconds: float
    rows: list[Row] = field(default_factory=list)
    others: bool = False


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
    sends: Sends | None = connection.get_execution_options().get(SENDS)
    values = values_of(app, message, now) | {"key": ordered}
    leased = sends is not None and sends.lease and ordered is None and message.due is None
    if sends is None or not leased:
        connection.execute(insert(table).values(**values))
        leave_to_relay(connection)
        return
    values |= {"lease": sends.lease, "leased_until": now + sends.seconds}
    row_id = connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one()
    sends.rows.append(Row(row_id, message))


def leave_to_relay(connection: Connection) -> None:
    """Note that a transaction has added what a relay is to send."""
    sends: Sends | None = connection.get_execution_options().get(SENDS)
    if sends is not None:
        sends.others = True


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
        leave_to_relay(connection)


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
