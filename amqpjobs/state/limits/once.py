"""Calls that are one job: a claim and its message are written together, or a row that waits for the
end of a debounce is made anew.

Changes when such a call is stored, or sent, in another way.
"""

import logging
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, case, delete, insert, select, update

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared, publish_prepared
from amqpjobs.errors import BrokerUnavailable, ConfigurationError, NotConfirmed, StoreUnavailable
from amqpjobs.jobs.message.compression import SHOWN
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.handle import JobHandle, as_existing
from amqpjobs.state.limits.claims import Claim, claim, end_claims
from amqpjobs.state.limits.keys import DEBOUNCE, UNIQUE, key_in, lock_keys
from amqpjobs.state.limits.waiting import values_of as waiting_values
from amqpjobs.state.outbox.rows import free, remove, values_of
from amqpjobs.state.store.tables import outbox, waiting

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.exclusion.declared import Exclusion
    from amqpjobs.jobs.message.message import Message
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.store.durable import DurableStore

log = logging.getLogger("amqpjobs.limits")

R = TypeVar("R")

DEBOUNCED_TTL = 3600.0
"""Seconds from the start of a debounced run, after which another one need not wait for it."""

LEASE = 2.0
"""Times the publish timeout, for which no relay sends what its caller sends."""


def claim_key(app: str, job: str, exclusion: "Exclusion", text: str) -> str:
    """The key of a claim.

    Args:
        text: made of the arguments.
    """
    kind = UNIQUE if exclusion.unique is not None else DEBOUNCE
    return key_in(app, kind, f"{job}={text}")


def ttl_of(exclusion: "Exclusion") -> float:
    """Seconds after which a claim is over in any case."""
    return DEBOUNCED_TTL if exclusion.unique is None else exclusion.unique.seconds


def put_once(
    connection: Connection,
    registry: "Registry",
    message: Prepared,
    now: ColumnElement[float],
    time: float,
) -> str | None:
    """Claim the key of a message that is sent, or have it wait for the end of its debounce.

    Args:
        time: the same as `now`, as far as this process knows: how long it is delayed.

    Returns:
        The id of the job that is there already; None if this one is new. A message of a debounce
        is stored in any case, and not to be sent.
    """
    definition = registry.find(message.job)
    exclusion = definition.exclusion
    assert exclusion is not None  # noqa: S101 - so it was declared
    assert exclusion.key is not None  # noqa: S101 - so it was declared
    key = claim_key(registry.name, message.job, exclusion, _text_of(definition, message))
    if exclusion.debounce is not None:
        return _debounce(connection, registry.name, key, message, now, exclusion)
    later = 0.0 if message.due is None else max(0.0, message.due - time)
    wanted = Claim(key, message.job, message.job_id, ttl_of(exclusion) + later)
    return claim(connection, registry.name, wanted, now, again=False)


def _text_of(definition: "Definition", message: Prepared) -> str:
    assert definition.exclusion is not None  # noqa: S101 - the caller has looked
    assert definition.exclusion.key is not None  # noqa: S101 - the caller has looked
    body = received(definition.body, message.properties, message.body, SHOWN)
    return definition.exclusion.key.of(definition.payload.complete(definition.payload.load(body)))


def _debounce(
    connection: Connection,
    app: str,
    key: str,
    message: Prepared,
    now: ColumnElement[float],
    exclusion: "Exclusion",
) -> str | None:
    debounce = exclusion.debounce
    assert debounce is not None  # noqa: S101 - the caller has looked
    if message.due is not None:
        raise ConfigurationError(
            f"{message.job}: debounce= decides when it is sent: leave delay= and at= out"
        )
    lock_keys(connection, [key])
    own = (waiting.c.kind == DEBOUNCE, waiting.c.key == key)
    there = connection.execute(select(waiting.c.id, waiting.c.job_id).where(*own)).first()
    quiet, most = now + debounce.quiet, waiting.c.first_at + debounce.longest
    if there is not None:
        properties = message.properties._replace(message_id=there.job_id)
        changed = connection.execute(
            update(waiting)
            .where(waiting.c.id == there.id)
            .values(
                properties=encode_properties(properties), body=message.body,
                routing_key=message.routing_key, tracked=message.tracked,
                due_at=case((quiet < most, quiet), else_=most),
            )
        )  # fmt: skip
        if changed.rowcount:
            return str(there.job_id)
    values = waiting_values(app, DEBOUNCE, key, message, now)
    last = int(debounce.last)
    connection.execute(insert(waiting).values(**values, due_at=quiet, places=last))
    return None


def _claim_and_write(
    connection: Connection,
    registry: "Registry",
    message: Prepared,
    now: ColumnElement[float],
    time: float,
    lease: str,
    seconds: float,
) -> tuple[str | None, int | None]:
    """Claim, and write the message for its caller, who sends it."""
    other = put_once(connection, registry, message, now, time)
    if other is not None or registry.find(message.job).rules.debounce is not None:
        return other, None
    values = values_of(registry.name, message, now)
    row = insert(outbox).values(**values, lease=lease, leased_until=now + seconds)
    return None, int(connection.execute(row.returning(outbox.c.id)).scalar_one())


def _undo(connection: Connection, app: str, job_id: str, lease: str) -> None:
    """It cannot be sent: nothing was stored."""
    connection.execute(delete(outbox).where(outbox.c.lease == lease))
    end_claims(connection, app, [job_id])


async def enqueue_once(memory: "Memory", message: "Message[R]") -> JobHandle[R]:
    """Enqueue a job, unless it is there already. See `Unique` and `Debounce`.

    Raises:
        StoreUnavailable: nothing is known to be stored.
        PublishError: RabbitMQ refuses it; nothing is stored.
    """
    client = memory.client
    runtime = client.runtime
    handle, prepared = await client.preparing.prepare(message)
    if prepared is None:
        return handle
    store = await memory.store()
    timeout = message.options.timeout or runtime.settings.publish_timeout
    lease = uuid4().hex
    other, row = await store.run(
        _claim_and_write, runtime.registry, prepared, store.now, runtime.clock.time(), lease,
        LEASE * timeout,
    )  # fmt: skip
    if other is not None:
        log.info("job is there already", extra={"job": message.job, "job_id": other})
        return as_existing(handle, other)
    if row is not None:
        await _send(memory, store, prepared, _Row(row, lease, timeout))
    return handle


class _Row:
    def __init__(self, id_: int, lease: str, timeout: float) -> None:
        self.id, self.lease, self.timeout = id_, lease, timeout


async def _send(memory: "Memory", store: "DurableStore", message: Prepared, row: _Row) -> None:
    """Send it now, so that RabbitMQ has it when `later` returns. If RabbitMQ is away a relay sends
    it when it is back."""
    publisher: Publisher = await memory.client.publisher()
    [error] = await publish_prepared(publisher, [message], row.timeout)
    try:
        if error is None:
            await store.run(remove, outbox, row.lease, [row.id])
        elif not isinstance(error, NotConfirmed | BrokerUnavailable):
            await store.run(_undo, memory.app, message.job_id, row.lease)
        elif not (isinstance(error, NotConfirmed) and error.sent):
            await store.run(free, outbox, row.lease, [row.id], store.now)
    except StoreUnavailable as away:
        extra: dict[str, Any] = {"job": message.job, "job_id": message.job_id, "error": str(away)}
        log.warning("job sent, its row stays", extra=extra)
    if error is None:
        return
    if not isinstance(error, NotConfirmed | BrokerUnavailable):
        raise error
    extra = {"job": message.job, "job_id": message.job_id, "error": str(error)}
    log.warning("job stored, not sent yet", extra=extra)
