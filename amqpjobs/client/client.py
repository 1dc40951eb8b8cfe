"""The client of an app: from a call to a confirmed message, from a request to its reply.

Changes when what surrounds publishing does; `amqpjobs.client.publisher` makes the AMQP messages.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from amqpjobs.client.propagation import propagate_of
from amqpjobs.client.publishers import Make, Publishers
from amqpjobs.errors import ConfigurationError, PublishManyFailed
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.handle import BlockingJobHandle, JobHandle, as_existing, handle_of
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.middleware import Publishing, each_through, onion
from amqpjobs.jobs.once import no_request, session_here
from amqpjobs.jobs.registry import Registry
from amqpjobs.jobs.runtime import Runtime

if TYPE_CHECKING:
    from amqpjobs.client.events import Events
    from amqpjobs.client.prepared import Preparing
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.client.requests import Requests

R = TypeVar("R")


class Client:
    """Enqueues and requests on behalf of one app, on whichever event loop it is called.

    Args:
        runtime: whose jobs, and where RabbitMQ is.
        publishing: middleware around every message that is published, outermost first.
        make: makes the publisher of an event loop; tests give another.

    Attributes:
        runtime: as given.
        before_close: called before the publisher of an event loop is closed, on that loop.
        on_close: called when the publisher of an event loop is closed, on that loop.
        statuses: what reads the statuses of its jobs, once it was used: `amqpjobs.state` puts it
            there, which is above this package.
        memory: the same for what is remembered in the store.
    """

    def __init__(
        self, runtime: Runtime, publishing: Sequence[Publishing] = (), make: "Make | None" = None
    ) -> None:
        self.runtime = runtime
        self._registry = runtime.registry
        self.before_close: list[Callable[[], Awaitable[None]]] = []
        self.on_close: list[Callable[[], Awaitable[None]]] = []
        self.statuses: object | None = None
        self.memory: object | None = None
        self._publishing = tuple(publishing)
        self._publishers = Publishers(runtime, make, self.on_close)
        self._propagate = propagate_of(runtime.registry.propagate)

    def __repr__(self) -> str:
        return f"<Client of {self.runtime.registry.name}>"

    @cached_property
    def requests(self) -> "Requests":
        """Its requests."""
        # On first use: programs that only publish start without it.
        from amqpjobs.client.requests import Requests

        return Requests(self.runtime, self._publishers, self._publishing)

    @cached_property
    def preparing(self) -> "Preparing":
        """Makes messages that are stored before they are published."""
        from amqpjobs.client.prepared import Preparing

        return Preparing(self.runtime, self._publishing, self._propagate)

    @cached_property
    def events(self) -> "Events":
        """Publishes events."""
        from amqpjobs.client.events import Events

        return Events(self.runtime, self._publishers.open)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep the connection for publishing open on this event loop. See `App.lifespan`."""
        async with self._publishers.lifespan():
            try:
                yield
            finally:
                await self._leave()

    @property
    def opened(self) -> "Publisher | None":
        """The publisher of the running event loop, if it is open."""
        return self._publishers.opened

    async def publisher(self) -> "Publisher":
        """The publisher of the running event loop, opened if it is not."""
        return await self._publishers.open()

    async def close(self) -> None:
        """Close what a first use outside of a `lifespan` has opened on this event loop."""
        await self._leave()
        await self._publishers.close()
        for close in self.on_close:
            await close()

    async def _leave(self) -> None:
        for leave in self.before_close:
            await leave()

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message. See `App.enqueue`."""
        if self._registry.transactional and (session := session_here()) is not None:
            return await self._within(session, message)
        if message.job in self._registry.deduplicated and self._registry.enqueue_once is not None:
            once: JobHandle[R] = await self._registry.enqueue_once(message)
            return once
        publisher = await self._publishers.open()
        if self._propagate is not None:
            message = self._propagate(message)
        if not self._publishing:
            return await publisher.enqueue(message)
        return await onion(self._publishing, publisher.enqueue)(message)

    async def _within(self, session: Any, message: Message[Any]) -> JobHandle[Any]:
        """Inside of a job with ``once=``: by its transaction."""
        if self._registry.enqueuer is None:
            raise ConfigurationError("an app is needed to send within a transaction")
        stored = self._registry.enqueuer.within(session).enqueue(message)
        if isinstance(stored, BlockingJobHandle):
            own = handle_of(message, self._registry.app)
            return as_existing(own, stored.id) if stored.existing else own
        handle: JobHandle[Any] = await stored
        return handle

    async def enqueue_many(self, messages: Iterable[Message[Any]]) -> list[JobHandle[Any]]:
        """Publish many. See `App.later_many`."""
        if self._registry.transactional and (session := session_here()) is not None:
            return [await self._within(session, message) for message in messages]
        taken = _Taken(messages)
        results: list[JobHandle[Any] | Exception] = await self._many(taken)
        if taken.error is not None:
            results.append(taken.error)
        failed = [r for r in results if isinstance(r, Exception)]
        if failed:
            raise PublishManyFailed(
                f"{len(failed)} of {len(results)} messages were not handed over; the first: "
                f"{type(failed[0]).__name__}: {failed[0]}",
                results=list[object](results),
            ) from failed[0]
        return results  # type: ignore[return-value]

    async def _many(self, taken: "_Taken") -> list[JobHandle[Any] | Exception]:
        if self._registry.deduplicated:  # one by one: each may be a job that is there
            return await each_through(self.enqueue, taken)
        publisher = await self._publishers.open()
        given = taken if self._propagate is None else map(self._propagate, taken)
        if self._publishing:
            return await each_through(onion(self._publishing, publisher.enqueue), given)
        return await publisher.enqueue_many(given)

    async def request(self, message: Message[Any], timeout: Seconds | None = None) -> Any:
        """Have a job run in a worker, and return its result. See `App.request`."""
        if self._registry.transactional and session_here() is not None:
            raise no_request(message.job)
        if message.job in self._registry.deduplicated:
            raise ConfigurationError(
                f"{message.job} has unique= or debounce=, and a request is a job of its own: use "
                "`later`, and `handle.result()` for its result"
            )
        if self._propagate is not None:
            message = self._propagate(message)
        return await self.requests.job(message, timeout)

    async def request_service(
        self, queue: str, body: Any, timeout: Seconds | None, type_: str | None, returns: Any
    ) -> Any:
        """Ask a service that is not ours. See `App.request`."""
        return await self.requests.service(queue, body, timeout, type_, returns)


class HasClient(Protocol):
    """What a worker and its like are made of: an `App` is one."""

    @property
    def client(self) -> Client:
        """Its client, and by that its `Runtime`."""
        ...


def registry_of(app: HasClient) -> Registry:
    """What an app declares: its jobs, queues and webhooks."""
    return app.client.runtime.registry


class _Taken:
    """The messages one by one. An error of whatever makes them ends them, and is kept: by then some
    are on their way, and what became of those must not be lost with it."""

    def __init__(self, messages: Iterable[object]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Message[Any]]:
        try:
            for message in self._messages:
                if not isinstance(message, Message):
                    what = f"{message!r} is no message: write job.message(...)"
                    self.error = ConfigurationError(what)
                    return
                yield message
        except Exception as error:  # noqa: BLE001 - whatever the caller's code raises
            self.error = error
