"""`App.within`: messages that a transaction of the user's sends.

The row is written by the connection of that transaction, at once, and nothing is flushed or
committed here. After the commit the outbox is looked at; what is missed is sent by the
housekeeping. Changes when another kind of transaction is taken.
"""

import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Double, event, literal
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.ext.asyncio.scoping import async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from amqpjobs.client.events import EventOptions
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.clock import MACHINE
from amqpjobs.jobs.message.handle import BlockingJobHandle, JobHandle, as_existing
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.within import BlockingJobWithin, JobWithin
from amqpjobs.state.outbox.rows import add
from amqpjobs.state.store.runs import now_of
from amqpjobs.state.store.transactions import check_transaction, told

if TYPE_CHECKING:
    from amqpjobs.client.prepared import Prepared
    from amqpjobs.state.memory import Memory

R = TypeVar("R")

_watched: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Sessions and connections whose commits are told."""


def within(memory: "Memory", transaction: Any, key: str | None) -> "StoresAsync | Stores":
    """What stores messages in a transaction. See `App.within`.

    Raises:
        ConfigurationError: it is none of SQLAlchemy's.
    """
    if key is not None and (not isinstance(key, str) or not key):
        raise ConfigurationError(f"key is a text, such as the id of an account, not {key!r}")
    storing = _Storing(memory, key)
    inner, given = opened(transaction)
    return Stores(storing, inner) if given is None else StoresAsync(storing, inner, given)


def opened(
    transaction: Any,
) -> "tuple[Session | Connection, AsyncSession | AsyncConnection | None]":
    """What writes in a transaction of the user's, and the asynchronous object around it, if there
    is one.

    Raises:
        ConfigurationError: it is none of SQLAlchemy's, or not open.
    """
    given = transaction
    if isinstance(given, scoped_session | async_scoped_session):
        given = given()
    if isinstance(given, AsyncSession):
        return given.sync_session, given
    if isinstance(given, AsyncConnection):
        if given.sync_connection is None:
            raise ConfigurationError("the connection is not open: use it inside of `async with`")
        return given.sync_connection, given
    if isinstance(given, Session | Connection):
        return given, None
    raise ConfigurationError(
        "within(...) takes an AsyncSession, Session, AsyncConnection or Connection of SQLAlchemy, "
        f"not {transaction!r}"
    )


class StoresAsync:
    """Stores messages by an AsyncSession or AsyncConnection: see `amqpjobs.jobs.within.Within`."""

    def __init__(
        self,
        storing: "_Storing",
        inner: Session | Connection,
        given: AsyncSession | AsyncConnection,
    ) -> None:
        self._storing = storing
        self._inner = inner
        self._given = given

    def of(self, job: Any) -> JobWithin[..., Any]:
        """A job in this transaction."""
        return JobWithin(job, self)

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """See `Within.enqueue`."""
        return (await self.later_many((message,)))[0]

    async def later_many(self, messages: Iterable[Message[R]]) -> list[JobHandle[R]]:
        """See `Within.later_many`."""
        made = [await self._storing.preparing.prepare(message) for message in messages]
        kept = [prepared for _, prepared in made if prepared is not None]
        there = await self._given.run_sync(lambda _: self._storing.store(self._inner, kept))
        return [_existing(handle, there) for handle, _ in made]

    async def publish(
        self, exchange: Any, key: str = "", payload: Any = None, **options: Any
    ) -> str:
        """See `Within.publish`."""
        event = self._storing.event(exchange, key, payload, options)
        await self._given.run_sync(lambda _: self._storing.store(self._inner, [event]))
        return event.job_id


class Stores:
    """The same by a Session or Connection: see `amqpjobs.jobs.within.BlockingWithin`."""

    def __init__(self, storing: "_Storing", inner: Session | Connection) -> None:
        self._storing = storing
        self._inner = inner

    def of(self, job: Any) -> BlockingJobWithin[..., Any]:
        """A job in this transaction."""
        return BlockingJobWithin(job, self)

    def enqueue(self, message: Message[R]) -> BlockingJobHandle[R]:
        """See `BlockingWithin.enqueue`."""
        return self.later_many((message,))[0]

    def later_many(self, messages: Iterable[Message[R]]) -> list[BlockingJobHandle[R]]:
        """See `BlockingWithin.later_many`."""
        made = [self._storing.preparing.prepare_now(message) for message in messages]
        kept = [prepared for _, prepared in made if prepared is not None]
        there = self._storing.store(self._inner, kept)
        handles = [_existing(each, there) for each, _ in made]
        return [BlockingJobHandle(e.id, e.job, e.queue, e.existing) for e in handles]

    def publish(self, exchange: Any, key: str = "", payload: Any = None, **options: Any) -> str:
        """See `BlockingWithin.publish`."""
        event = self._storing.event(exchange, key, payload, options)
        self._storing.store(self._inner, [event])
        return event.job_id


class _Storing:
    """Writes the rows, and sees to it that the outbox is looked at after the commit."""

    def __init__(self, memory: "Memory", key: str | None) -> None:
        self._memory = memory
        self._key = key
        self.preparing = memory.client.preparing

    def event(self, exchange: Any, key: str, payload: Any, options: Any) -> "Prepared":
        """An event, as it is going to be published."""
        if unknown := options.keys() - EventOptions.__annotations__:
            raise ConfigurationError(
                f"an event of a transaction has no option {min(unknown)!r}; it has: "
                f"{', '.join(sorted(EventOptions.__annotations__))}"
            )
        events = self._memory.client.events
        return events.traced(events.prepare(exchange, key, payload, options))

    def store(
        self, inner: Session | Connection, messages: "Iterable[Prepared]"
    ) -> Mapping[str, str]:
        """Write them; by the ids of those whose job is there already, its id."""
        self._memory.used = True
        outbox = self._memory.outbox
        if isinstance(inner, Session):
            connection = inner.connection(bind_arguments={"clause": outbox.table})
        else:
            connection = inner
        check_transaction(connection)
        now = now_of(connection.dialect.name)
        there: dict[str, str] = {}
        try:
            for message in messages:
                if message.job in self._memory.client.runtime.registry.deduplicated:
                    other, stored = self._once(connection, message)
                    if other is not None:
                        there[message.job_id] = other
                    if stored:
                        continue
                add(connection, outbox.table, self._memory.app, message, now, self._key)
        except DBAPIError as error:
            raise told(connection, outbox.table.fullname, error) from error
        watch(inner, self._memory)
        return there

    def _once(self, connection: Connection, message: "Prepared") -> tuple[str | None, bool]:
        """A message of a job with ``unique=`` or ``debounce=``: the id of the job that it is; and
        whether there is nothing to be sent."""
        from amqpjobs.state.limits.once import put_once

        runtime = self._memory.client.runtime
        if self._memory.outbox.bind is not None:
            raise ConfigurationError(
                f"{message.job}: its unique= or debounce= is kept in the store, and app.outbox "
                "names another database: send it outside of the transaction, by `later`"
            )
        time = runtime.clock.time()
        known = runtime.clock is MACHINE
        now = now_of(connection.dialect.name) if known else literal(time, Double)
        other = put_once(connection, runtime.registry, message, now, time)
        debounced = runtime.registry.find(message.job).rules.debounce is not None
        return other, other is not None or debounced


def _existing(handle: JobHandle[R], there: Mapping[str, str]) -> JobHandle[R]:
    other = there.get(handle.id) if there else None
    return handle if other is None else as_existing(handle, other)


def watch(inner: Session | Connection, memory: "Memory") -> None:
    """Tell the memory of the commits of this session or connection, from now on."""
    if inner in _watched:
        return
    _watched.add(inner)
    told = partial(_committed, memory)
    # That of a connection comes just before it is done: `Memory` looks more than once.
    event.listen(inner, "after_commit" if isinstance(inner, Session) else "commit", told)


def _committed(memory: "Memory", _: object) -> None:
    memory.nudge()
