"""The app: what jobs there are, and the one door through which they are enqueued. No logic of its
own: it holds the registry and opens what is needed. Changes when its surface does."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from amqpjobs.client.client import Client
from amqpjobs.client.holder import ClientHolder
from amqpjobs.client.publishing import PublishesEvents
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.broadcasts import DeclaresBroadcasts
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.declaring import DeclaresJobs
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.ending import DeclaresEndings
from amqpjobs.jobs.hooks import DeclaresHooks
from amqpjobs.jobs.including import IncludesRouters
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.middleware import Processing, Publishing
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.receiving import ReceivesWebhooks
from amqpjobs.jobs.registry import Registry
from amqpjobs.jobs.retry import DEFAULT_RETRY, Retry
from amqpjobs.state.durable.app import Operates
from amqpjobs.state.limits.app import Excludes
from amqpjobs.state.outbox.sending import SendsWithin
from amqpjobs.state.schedules.scheduling import HasSchedules
from amqpjobs.state.status.following import FollowsJobs

if TYPE_CHECKING:
    from amqpjobs.client.blocking import BlockingApp
    from amqpjobs.client.deadletters import DeadLetters
    from amqpjobs.client.deadletters.letter import Kind
    from amqpjobs.client.fleet import Fleet
    from amqpjobs.client.publishers import Make
    from amqpjobs.settings import Settings
    from amqpjobs.testing import Testing

R = TypeVar("R")
T = TypeVar("T")


class App(
    DeclaresJobs,
    DeclaresBroadcasts,
    IncludesRouters,
    DeclaresHooks,
    DeclaresEndings,
    ReceivesWebhooks,
    FollowsJobs,
    SendsWithin,
    PublishesEvents,
    HasSchedules,
    Excludes,
    Operates,
):
    """A set of jobs that are released together.

    Args:
        name: the AMQP ``app_id`` of its messages.
        settings: None for the environment (see `amqpjobs.settings.Settings`), read on first use.
        processing: middleware around every job that a worker runs, outermost first.
        publishing: middleware around every message that is published, outermost first.
        retry: when a job that failed runs again, for jobs that do not say so themselves.
        exceptions: classes that a failed `request` raises as they are, by the name that the worker
            gives: they are made of the message alone. All others come as `JobFailed`.
        lifespan: an ``@asynccontextmanager`` function of the app, entered once in each worker
            process. Jobs get what it yields by ``Depends(app.resources)``.
        propagate: names of headers that a job passes on to what it enqueues or requests while it
            runs, such as ``("tenant",)``; those that the call itself sets come first.

    Example:
        >>> app = App("shop", retry=Retry(attempts=5))
        >>> @app.job(queue="receipts")
        ... async def send_receipt(order: int) -> str:
        ...     return f"receipt {order} sent"
        >>> async with app.testing() as t:  # a program: `async with app.lifespan():`
        ...     handle = await send_receipt.later(7)
        ...     await send_receipt.request(8)
        'receipt 8 sent'
    """

    def __init__(
        self,
        name: str,
        *,
        settings: "Settings | None" = None,
        processing: Sequence[Processing] = (),
        publishing: Sequence[Publishing] = (),
        retry: Retry = DEFAULT_RETRY,
        exceptions: Iterable[type[Exception]] = (),
        lifespan: "Callable[[App], AbstractAsyncContextManager[Any]] | None" = None,
        propagate: Iterable[str] = (),
    ) -> None:
        if not name:
            raise ConfigurationError("an app needs a name")
        self._registry = Registry(
            name, retry=retry, processing=processing, exceptions=exceptions, propagate=propagate
        )
        self._registry.app = self._registry.enqueuer = self
        self._enqueuer, self._registry.enqueue_once = self, self._enqueue_once
        self._add_queue, self._add_job = self._registry.add_queue, self._registry.add
        self._add_ending_hook = self._registry.ending_hooks.add
        self._add_hook, self._add_broadcast = self._registry.add_hook, self._registry.add_broadcast
        super().__init__(self._registry.worker_hooks, lifespan and partial(lifespan, self))
        self._holder = ClientHolder(self._registry, publishing, settings)

    def __repr__(self) -> str:
        return f"<App {self.name}: {len(self.jobs)} jobs on {len(self.queues)} queues>"

    @property
    def name(self) -> str:
        """Its name: the AMQP ``app_id`` of its messages."""
        return self._registry.name

    @property
    def settings(self) -> "Settings":
        """The settings: those given, else read from the environment once.

        Raises:
            ConfigurationError: a variable that cannot be used.
        """
        return self.client.runtime.settings

    @property
    def client(self) -> Client:
        """What its calls go through, for parts that are given no more than this. Made on first use,
        when the settings are read."""
        return self._holder.client

    def placed(
        self, *, settings: "Settings", clock: Clock = MACHINE, make: "Make | None" = None
    ) -> AbstractContextManager[Client]:
        """Put the app elsewhere while the block runs: onto other settings, another clock. For
        tests; all of the process sees it. What is opened there has to be closed inside.

        Args:
            settings: for that while.
            clock: what its delays are counted from.
            make: makes its publishers, from a `Runtime`; None for the usual ones.
        """
        return self._holder.placed(settings=settings, clock=clock, make=make)

    def configure(self, **flags: object) -> None:
        """Let values given on a command line go before the environment; None leaves a setting. To
        be called before anything is opened.

        Raises:
            ConfigurationError: a value that cannot be used.
        """
        self._holder.configure(**flags)

    @property
    def jobs(self) -> Mapping[str, Definition]:
        """All jobs by name."""
        return MappingProxyType(self._registry.jobs)

    @property
    def queues(self) -> Mapping[str, Queue]:
        """All queues that jobs are bound to, by name."""
        return MappingProxyType(self._registry.queues)

    def check(self) -> None:
        """Resolve every job and queue, so that what is wrong shows at once: in a test, or at start.
        It needs no broker.

        Raises:
            ConfigurationError: what is wrong, naming the function.

        Example:
            >>> app.check()
        """
        self._registry.check()

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message. `Job.later` is this with the message made on the way.

        Raises:
            PublishError: one of its kinds; see there.

        Example:
            >>> handle = await app.enqueue(build_report.message(12))
        """
        return await self.client.enqueue(message)

    async def later_many(self, messages: Iterable[Message[R]]) -> list[JobHandle[R]]:
        """Publish many messages without waiting for each confirm in turn; order is kept.

        Args:
            messages: of any jobs; taken one by one as there is room, so it may be a generator.

        Returns:
            Their handles, in order, when all are confirmed.

        Raises:
            PublishManyFailed: some were not; it says which. All others are in their queues.

        Example:
            >>> handles = await app.later_many(build_report.message(m) for m in range(1, 13))
        """
        return await self.client.enqueue_many(messages)

    @overload
    async def request(self, message: Message[R], /, *, timeout: Seconds | None = None) -> R: ...
    @overload
    async def request(
        self,
        queue: str,
        body: Any,
        /,
        *,
        returns: type[T],
        timeout: Seconds | None = None,
        type: str | None = None,
    ) -> T: ...
    @overload
    async def request(
        self, queue: str, body: Any, /, *, timeout: Seconds | None = None, type: str | None = None
    ) -> Any: ...
    async def request(
        self,
        what: Message[Any] | str,
        body: Any = None,
        /,
        *,
        timeout: Seconds | None = None,
        type: str | None = None,  # noqa: A002 - AMQP's own word
        returns: Any = None,
    ) -> Any:
        """Have a job run in a worker and wait for its result: ``app.request(job.message(x))``. Or
        ask a service that is not ours: ``app.request("queue", body)``.

        A job that asks another inside of a request has no more time for it than is left of its own.
        What it enqueues with `later` is not bound by that: it was promised to be run. When the
        caller is cancelled, the worker is notified, and cancels the job.

        Args:
            what: a call of a job, or the queue of a service that is not ours.
            body: for such a service: bytes as they are, all else as JSON.
            timeout: seconds or timedelta; None: the message's, else ``AMQPJOBS_REQUEST_TIMEOUT``.
            type: the AMQP ``type`` of the message, for such a service.
            returns: what its answer is validated into; None for whatever JSON it is, or its bytes
                if its content type is another. ``bytes`` for those in any case.

        Raises:
            JobFailed: the job failed for good. Or its own exception, if it is among `exceptions`.
            InvalidResult: the answer is not what it was to be.
            ReplyTimeout, ReplyLost: there is no answer.
            PublishError: the request did not get to RabbitMQ, or there is no queue for it.
            ConfigurationError: a call with a delay, or no permission for a reply queue.

        Example:
            >>> await app.request(build_report.message(12), timeout=5)
            'report 12: 31 orders'
        """
        if isinstance(what, str):
            return await self.client.request_service(what, body, timeout, type, returns)
        return await self.client.request(what, timeout)

    @asynccontextmanager
    async def lifespan(self, *_: object) -> AsyncIterator[None]:
        """Open the connection for publishing, and close it in the end.

        For web tiers (``FastAPI(lifespan=app.lifespan)``) and scripts. All on the same event loop
        share one connection, and the last to end closes it.

        Raises:
            BrokerUnavailable: RabbitMQ refused us for good. One that is only away delays messages.

        Example:
            >>> async with app.lifespan():
            ...     handle = await build_report.later(12)
        """
        async with self.client.lifespan():
            yield

    async def close(self) -> None:
        """Close what a first use outside of a `lifespan` has opened on this event loop, if it
        did. The next use opens it again.

        Example:
            >>> handle = await build_report.later(12)  # opens a connection
            >>> await app.close()
        """
        await self.client.close()

    def dead_letters(self, *queues: str, kind: "Kind" = "dead") -> "DeadLetters":
        """What failed for good, to look at, replay, edit or discard; all methods of it are
        coroutines.

        Args:
            queues: names of queues; all of the app's if none.
            kind: ``dead``, or ``parked`` for jobs that no worker knew, or ``unroutable`` for what
                was delayed for a queue that is gone.

        Raises:
            ConfigurationError: there is no such queue.

        Example:
            >>> replayed = await app.dead_letters("reports").replay(Selection(job="build_report"))
        """
        from amqpjobs.client.deadletters import DeadLetters

        return DeadLetters(self.client, self._registry.choose(queues), kind)

    @property
    def fleet(self) -> "Fleet":
        """All workers of the app, to be operated: paused, resumed, limited, purged, looked at. See
        `amqpjobs.client.fleet.Fleet`."""
        from amqpjobs.client.fleet import Fleet

        return Fleet(self.client)

    def asyncapi(self, version: str = "0.0.0") -> dict[str, Any]:
        """An AsyncAPI 3.0 document of the queues, jobs, replies and their JSON Schemas. It needs
        no broker, and holds no credentials.

        Args:
            version: what the document says of itself.

        Raises:
            ConfigurationError: a job, a queue or a setting that cannot work.

        Example:
            >>> app.asyncapi("1.2.0")["asyncapi"]
            '3.0.0'
        """
        from amqpjobs.jobs.contract.asyncapi import document_of

        return document_of(self.client.runtime, version)

    def blocking(self) -> "BlockingApp":
        """For synchronous code. See `amqpjobs.client.blocking.BlockingApp`.

        Example:
            >>> def order(month: int) -> str:
            ...     with app.blocking() as client:
            ...         return client.later(build_report.message(month)).id
        """
        from amqpjobs.client.blocking import BlockingApp

        return BlockingApp(self)

    def testing(self, *, profile: str = "4.3", raise_errors: bool = True) -> "Testing":
        """For tests: ``async with app.testing() as t:`` puts the app onto a broker of its own, in
        this process, with a clock that the test moves. See `amqpjobs.testing.Testing`.

        Example:
            >>> async def test_the_report_is_built() -> None:
            ...     async with app.testing() as t:
            ...         await build_report.later(12)
            ...         await t.run_until_idle()
            ...         assert t.results(build_report) == ["report 12: 31 orders"]
        """
        from amqpjobs.testing import Testing

        return Testing(self, profile=profile, raise_errors=raise_errors)
