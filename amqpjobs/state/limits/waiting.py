"""Messages that wait for a slot: rows, from when their message is acked until they are sent again.

Changes when what waits is kept, or woken, in another way.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select
from sqlalchemy import text as sql

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.headers import read_leniently, token_of
from amqpjobs.state.limits.keys import LIMIT, among
from amqpjobs.state.limits.places import Holder, Places, Want
from amqpjobs.state.outbox.rows import add, message_of
from amqpjobs.state.store.tables import outbox, waiting

AT_ONCE = 50
"""Jobs of one key that are woken at a time."""

MOST_ATTEMPT = 999_999
MOST_EPOCH = 2_000


FIRST = sql(
    "SELECT w.id FROM unnest(CAST(:keys AS varchar[])) AS k(key), LATERAL (SELECT id FROM "
    "amqpjobs_waiting WHERE kind = 'limit' AND key = k.key ORDER BY id LIMIT :most) AS w"
)
"""The first rows of each key."""


def order_of_run(epoch: int, attempt: int) -> int:
    """Which run of a job is later, as one number of 31 bits."""
    return min(epoch, MOST_EPOCH) * (MOST_ATTEMPT + 1) + min(attempt, MOST_ATTEMPT)


def values_of(
    app: str, kind: str, key: str, message: Prepared, now: ColumnElement[float]
) -> dict[str, Any]:
    """The columns of a message that waits, by name."""
    return {
        "app": app, "kind": kind, "key": key, "job_id": message.job_id, "job": message.job,
        "routing_key": message.routing_key, "properties": encode_properties(message.properties),
        "body": message.body, "tracked": message.tracked, "first_at": now,
    }  # fmt: skip


def put(
    connection: Connection,
    app: str,
    want: Want,
    message: Prepared,
    now: ColumnElement[float],
    *,
    copy: str,
    deadline: float | None,
) -> None:
    """Have a message wait for a slot.

    Args:
        want: the slot.
        copy: the token of the delivery that it replaces.
        deadline: of the job, after which it need not wait.
    """
    values = values_of(app, LIMIT, want.key, message, now)
    values |= {"copy": copy, "places": want.places, "due_at": deadline}
    connection.execute(insert(waiting).values(**values))


def waits_already(connection: Connection, job_id: str, copy: str) -> bool:
    """Whether a delivery that comes again waits already: its ack was lost."""
    found = select(waiting.c.id).where(
        waiting.c.job_id == job_id, waiting.c.copy == copy, waiting.c.kind == LIMIT
    )
    return connection.execute(found).first() is not None


def waiting_for(connection: Connection, key: str, most: int) -> list[str]:
    """The ids of jobs that wait for a key, the first first."""
    query = select(waiting.c.job_id).where(waiting.c.kind == LIMIT, waiting.c.key == key)
    return [str(row.job_id) for row in connection.execute(query.order_by(waiting.c.id).limit(most))]


def wake(
    connection: Connection, places: Places, keys: Collection[str], now: ColumnElement[float]
) -> int:
    """Send the first jobs that wait for slots of these keys, as many as there are slots, and keep
    the slots for them. The keys are locked.

    Returns:
        How many were sent.
    """
    chosen = [
        row
        for row in _first(connection, sorted(keys))
        if places.live(row.key) < row.places and _keep(places, row)
    ]
    return move(connection, places.app, [row.id for row in chosen], now)


def _keep(places: Places, row: Any) -> bool:
    message = message_of(row)
    headers = message.properties.headers
    said = read_leniently(headers)
    holder = Holder(
        row.job_id, row.job, token_of(headers) or "", order_of_run(said.epoch, said.attempt)
    )
    return places.keep(holder, Want(row.key, row.places))


def _first(connection: Connection, keys: list[str]) -> Sequence[Any]:
    """The first rows of each key."""
    columns = (
        waiting.c.id, waiting.c.key, waiting.c.places, waiting.c.job_id, waiting.c.job,
        waiting.c.routing_key, waiting.c.properties, waiting.c.body, waiting.c.tracked,
    )  # fmt: skip
    if not keys:
        return ()
    if connection.dialect.name == "postgresql":
        # A key may have 100,000 rows: only the first of each are read.
        first = connection.execute(FIRST, {"keys": keys, "most": AT_ONCE})
        ids = [row.id for row in first]
        if not ids:
            return ()
        found = select(*columns).where(among(connection, waiting.c.id, ids)).order_by(waiting.c.id)
        return connection.execute(found).all()
    rows: list[Any] = []
    for key in keys:
        of_key = select(*columns).where(waiting.c.kind == LIMIT, waiting.c.key == key)
        rows += connection.execute(of_key.order_by(waiting.c.id).limit(AT_ONCE))
    return rows


def move(connection: Connection, app: str, ids: Collection[int], now: ColumnElement[float]) -> int:
    """Move rows into the outbox of the store. Those that are gone by now are left.

    Returns:
        How many were moved.
    """
    if not ids:
        return 0
    gone = delete(waiting).where(among(connection, waiting.c.id, ids)).returning(*waiting.c)
    rows = sorted(connection.execute(gone), key=lambda row: row.id)
    for row in rows:
        # What `due_at` says here is no time to be sent at: that is now.
        add(connection, outbox, app, replace(message_of(row), due=None), now)
    return len(rows)
