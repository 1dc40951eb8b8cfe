"""The app: what jobs there are, and the one door through which they are enqueued.

No logic of its own: it holds the registry and opens what is needed. Changes when the app's surface
does.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from amqpjobs.client.client import Client
from amqpjobs.client.holder import ClientHolder
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.hooks import DeclaresHooks
from amqpjobs.jobs.job import Job, JobDecorator, make_job
from amqpjobs.jobs.message.message import JobHandle, Message
from amqpjobs.jobs.middleware import Processing, Publishing
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import Topology
from amqpjobs.jobs.registry import DEFAULT_RETRY, Registry
from amqpjobs.jobs.retry import Retry

if TYPE_CHECKING:
    from amqpjobs.client.blocking import BlockingApp
    from amqpjobs.client.deadletters import DeadLetters
    from amqpjobs.client.deadletters.letter import Kind
    from amqpjobs.client.publishers import Make
    from amqpjobs.jobs.webhook import Hook, Signing
    from amqpjobs.settings import Settings
    from amqpjobs.state.status.reader import Statuses
    from amqpjobs.state.status.values import JobStatus
    from amqpjobs.testing import Testing

R = TypeVar("R")
T = TypeVar("T")


class App(DeclaresHooks):
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
    ) -> None:
        if not name:
            raise ConfigurationError("an app needs a name")
        self._registry = Registry(name, retry=retry, processing=processing, exceptions=exceptions)
        super().__init__(self._registry.worker_hooks, lifespan and partial(lifespan, self))
        self._holder = ClientHolder(self._registry, publishing, settings)
        self._statuses: Statuses | None = None

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

    @property
    def topology(self) -> Topology:
        """What these queues need on the broker."""
        return self._registry.topology

    def job(
        self,
        *,
        queue: Queue | str,
        name: str | None = None,
        timeout: float | None = None,
        cpu: bool = False,
        memory_limit: int | None = None,
        retry: Retry | None = None,
        track: bool = True,
        keep_result: bool | float | timedelta = False,
    ) -> JobDecorator:
        """Make a job of a function, or of a method of a class that is rebuilt from its fields.

        Args:
            queue: where its messages wait; ``"name"`` is short for ``Queue("name")``.
            name: the AMQP ``type`` of its messages; by default the function's own name, with its
                class. Messages that are waiting know the job by it: think before renaming.
            timeout: seconds one run may take; then it has failed. ``async def`` is cancelled, a
                process killed; a thread cannot be ended, and runs on with nobody listening.
            cpu: for a plain ``def``: run it in a process of its own, killed at the timeout.
            memory_limit: with ``cpu``: bytes of address space; more raises ``MemoryError`` in it.
            retry: when it runs again after a failure; None for the app's policy.
            track: whether its status is told, see `status`; for jobs of which there are too many.
            keep_result: whether what it returns is kept with its status: for
                ``AMQPJOBS_RESULT_TTL``, or for so long (seconds, or a timedelta).

        Raises:
            ConfigurationError: when the module loads, for a function that cannot be a job.
        """
        bound = self._registry.add_queue(Queue(queue) if isinstance(queue, str) else queue)

        def decorate(function: Callable[..., Any]) -> Any:
            if not inspect.isfunction(function):
                raise ConfigurationError(f"@app.job is for functions and methods, not {function!r}")
            definition = Definition(
                function, bound, self, name=name, timeout=timeout, cpu=cpu,
                memory_limit=memory_limit, retry=retry, track=track, keep_result=keep_result,
            )  # fmt: skip
            self._registry.add(definition)
            return make_job(definition)

        return decorate

    @property
    def hooks(self) -> "Mapping[str, Hook]":
        """All webhooks by name."""
        return MappingProxyType(self._registry.hooks)

    def hook(
        self, name: str, *, job: Job[..., Any, Any], signing: "Signing | None" = None
    ) -> "Hook":
        """Let a signed request to ``POST /hooks/{name}`` of the web tier enqueue a job.

        Its JSON body is the job's, as in a message. The secret that signs is never in the code: it
        is ``AMQPJOBS_HOOK_<NAME>_SECRET``, and while it is changed also ``..._SECRET_2`` to ``_9``.

        Args:
            name: in the path: small letters, digits, ``-`` and ``_``.
            job: what is enqueued.
            signing: how its sender signs: `SIGNED` of `amqpjobs.jobs.webhook` (the default),
                ``GITHUB``, or a `Signing` of its own.

        Raises:
            ConfigurationError: a name that cannot be used, or that is used already.
        """
        from amqpjobs.jobs.webhook import SIGNED, Hook

        return self._registry.add_hook(Hook(name, job.definition, signing or SIGNED))

    def find(self, name: str) -> Definition:
        """The job of this name.

        Raises:
            UnknownJob: there is none; says which there are.
        """
        return self._registry.find(name)

    def check(self) -> None:
        """Resolve every job and queue, so that what is wrong shows at start.

        Raises:
            ConfigurationError: what is wrong, naming the function.
        """
        self._registry.check()

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message. `Job.later` is this with the message made on the way.

        Raises:
            PublishError: one of its kinds; see there.
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
        """
        return await self.client.enqueue_many(messages)

    @overload
    async def request(self, message: Message[R], /, *, timeout: float | None = None) -> R: ...
    @overload
    async def request(
        self,
        queue: str,
        body: Any,
        /,
        *,
        returns: type[T],
        timeout: float | None = None,
        type: str | None = None,
    ) -> T: ...
    @overload
    async def request(
        self, queue: str, body: Any, /, *, timeout: float | None = None, type: str | None = None
    ) -> Any: ...
    async def request(
        self,
        what: Message[Any] | str,
        body: Any = None,
        /,
        *,
        timeout: float | None = None,
        type: str | None = None,  # noqa: A002 - AMQP's own word
        returns: Any = None,
    ) -> Any:
        """Have a job run in a worker and wait for its result: ``app.request(job.message(x))``. Or
        ask a service that is not ours: ``app.request("queue", body)``.

        A job that asks another inside of a request has no more time for it than is left of its own.
        What it enqueues with `later` is not bound by that: it was promised to be run. When the
        caller is cancelled, the worker is told, and cancels the job.

        Args:
            what: a call of a job, or the queue of a service that is not ours.
            body: for such a service: bytes as they are, all else as JSON.
            timeout: seconds; None for the message's own, else ``AMQPJOBS_REQUEST_TIMEOUT``.
            type: the AMQP ``type`` of the message, for such a service.
            returns: what its answer is validated into; None for whatever JSON it is, or its bytes
                if its content type is another. ``bytes`` for those in any case.

        Raises:
            JobFailed: the job failed for good. Or its own exception, if it is among `exceptions`.
            InvalidResult: the answer is not what it was to be.
            ReplyTimeout, ReplyLost: there is no answer.
            PublishError: the request did not get to RabbitMQ, or there is no queue for it.
            ConfigurationError: a call with a delay, or no permission for a reply queue.
        """
        if isinstance(what, str):
            return await self.client.request_service(what, body, timeout, type, returns)
        return await self.client.request(what, timeout)

    @property
    def statuses(self) -> "Statuses":
        """Where `status` and `watch` ask."""
        if self._statuses is None or self._statuses.client is not self.client:
            from amqpjobs.state.status.reader import Statuses

            self._statuses = Statuses(self.client)
        return self._statuses

    async def status(self, job_id: str) -> "JobStatus | None":
        """What is known of a job, as a recorder has written it (`amqpjobs record`, or `amqpjobs
        web`). Needs the extra ``sql``, and no RabbitMQ.

        Returns:
            None for a job that nobody has told of (yet), or that was forgotten
            (``AMQPJOBS_STATUS_TTL``); and where there is no store yet.

        Raises:
            ConfigurationError: the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.
        """
        return await self.statuses.get(job_id)

    def watch(self, job_id: str) -> "AsyncGenerator[JobStatus, None]":
        """What is known of a job, and then whatever is told of it as it happens, until it ends:
        ``async for status in app.watch(job.id)``. States may be skipped, none comes twice, and each
        is newer than the one before.

        Without a store it knows only what is told while it watches: then it waits for ever for a
        job that has ended before.

        Raises:
            ConfigurationError: RabbitMQ does not let this user listen to events.
        """
        return self.statuses.watch(job_id)

    @asynccontextmanager
    async def lifespan(self, *_: object) -> AsyncIterator[None]:
        """Open the connection for publishing, and close it in the end.

        For web tiers (``FastAPI(lifespan=app.lifespan)``) and scripts. All on the same event loop
        share one connection, and the last to end closes it.

        Raises:
            BrokerUnavailable: RabbitMQ refused us for good. One that is only away delays messages.
        """
        async with self.client.lifespan():
            yield

    async def close(self) -> None:
        """Close what a first use outside of a `lifespan` has opened on this event loop, if it
        did. The next use opens it again."""
        await self.client.close()

    def dead_letters(self, *queues: str, kind: "Kind" = "dead") -> "DeadLetters":
        """What failed for good, to look at, replay, mend or throw away; all methods of it are
        coroutines.

        Args:
            queues: names of queues; all of the app's if none.
            kind: ``dead``, or ``parked`` for jobs that no worker knew, or ``unroutable`` for what
                was delayed for a queue that is gone.

        Raises:
            ConfigurationError: there is no such queue.
        """
        from amqpjobs.client.deadletters import DeadLetters

        return DeadLetters(self.client, self._registry.choose(queues), kind)

    def asyncapi(self, version: str = "0.0.0") -> dict[str, Any]:
        """An AsyncAPI 3.0 document of the queues, jobs, replies and their JSON Schemas. It needs
        no broker, and holds no credentials.

        Args:
            version: what the document says of itself.

        Raises:
            ConfigurationError: a job, a queue or a setting that cannot work.
        """
        from amqpjobs.jobs.contract.asyncapi import document_of

        return document_of(self.client.runtime, version)

    def blocking(self) -> "BlockingApp":
        """For synchronous code: ``with app.blocking() as client: client.later(job.message(x))``."""
        from amqpjobs.client.blocking import BlockingApp

        return BlockingApp(self)

    def testing(self, *, profile: str = "4.3", raise_errors: bool = True) -> "Testing":
        """For tests: ``async with app.testing() as t:`` puts the app onto a broker of its own, in
        this process, with a clock that the test moves. See `amqpjobs.testing.Testing`."""
        from amqpjobs.testing import Testing

        return Testing(self, profile=profile, raise_errors=raise_errors)
