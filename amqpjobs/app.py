"""The app: what jobs there are, and the one door through which they are enqueued.

No logic of its own: it holds the registry and opens what is needed. Changes when the app's surface
does.
"""

import asyncio
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from amqpjobs.definition import Definition
from amqpjobs.errors import ConfigurationError, PublishError, PublishManyFailed, UnknownJob
from amqpjobs.job import JobDecorator, make_job
from amqpjobs.message import JobHandle, Message
from amqpjobs.middleware import Processing, Publishing, onion
from amqpjobs.retry import Retry
from amqpjobs.topology import Queue, Topology, topology_of

if TYPE_CHECKING:
    from amqpjobs.blocking import BlockingApp
    from amqpjobs.deadletters import DeadLetters
    from amqpjobs.deadletters.letters import Kind
    from amqpjobs.publisher import Publisher
    from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.app")

R = TypeVar("R")

DEFAULT_RETRY = Retry()

AT_ONCE = 1_000
"""Messages that go through publishing middleware at the same time."""


class App:
    """A set of jobs that are released together.

    Args:
        name: the AMQP ``app_id`` of its messages.
        settings: None for the environment (see `amqpjobs.settings.Settings`), read on first use.
        processing: middleware around every job that a worker runs, outermost first.
        publishing: middleware around every message that is published, outermost first.
        retry: when a job that failed runs again, for jobs that do not say so themselves.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: "Settings | None" = None,
        processing: Sequence[Processing] = (),
        publishing: Sequence[Publishing] = (),
        retry: Retry = DEFAULT_RETRY,
    ) -> None:
        if not name:
            raise ConfigurationError("an app needs a name")
        self.name = name
        self.processing = tuple(processing)
        self.retry = retry
        self._publishing = tuple(publishing)
        self._given_settings = settings
        self._definitions: dict[str, Definition] = {}
        self._queues: dict[str, Queue] = {}
        # By event loop: a connection lives on one, and `blocking` has a loop of its own.
        self._publishers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Opening] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"<App {self.name}: {len(self._definitions)} jobs on {len(self._queues)} queues>"

    @cached_property
    def settings(self) -> "Settings":
        """The settings: those given, else read from the environment once.

        Raises:
            ConfigurationError: a variable that cannot be used.
        """
        if self._given_settings is not None:
            return self._given_settings
        from amqpjobs.settings import load_settings

        return load_settings()

    def configure(self, **flags: object) -> None:
        """Let values given on a command line go before the environment; None leaves a setting.

        Raises:
            ConfigurationError: a value that cannot be used.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        if given:
            from amqpjobs.settings import load_settings

            base = self._given_settings.model_dump() if self._given_settings else {}
            self._given_settings = load_settings(**{**base, **given})
            self.__dict__.pop("settings", None)

    @property
    def jobs(self) -> Mapping[str, Definition]:
        """All jobs by name."""
        return MappingProxyType(self._definitions)

    @property
    def queues(self) -> Mapping[str, Queue]:
        """All queues that jobs are bound to, by name."""
        return MappingProxyType(self._queues)

    @property
    def topology(self) -> Topology:
        """What these queues need on the broker."""
        return topology_of(self._queues.values())

    def job(
        self,
        *,
        queue: Queue | str,
        name: str | None = None,
        timeout: float | None = None,
        cpu: bool = False,
        memory_limit: int | None = None,
        retry: Retry | None = None,
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

        Raises:
            ConfigurationError: when the module loads, for a function that cannot be a job.
        """
        bound = self._register_queue(Queue(queue) if isinstance(queue, str) else queue)

        def decorate(function: Callable[..., Any]) -> Any:
            if not inspect.isfunction(function):
                raise ConfigurationError(f"@app.job is for functions and methods, not {function!r}")
            definition = Definition(
                function, bound, self, name=name, timeout=timeout, cpu=cpu,
                memory_limit=memory_limit, retry=retry,
            )  # fmt: skip
            self._register(definition)
            return make_job(definition)

        return decorate

    def _register_queue(self, queue: Queue) -> Queue:
        known = self._queues.setdefault(queue.name, queue)
        # Lanes too: mappings are equal in any order, but the order of priorities is their urgency.
        if (known == queue and known.lanes == queue.lanes) or queue == Queue(queue.name):
            return known
        if known == Queue(queue.name):
            raise ConfigurationError(
                f"queue {queue.name!r} was used by its name before it was defined; define it once, "
                "above, and give the same object to every job"
            )
        raise ConfigurationError(f"queue {queue.name!r} is defined twice, differently")

    def _register(self, definition: Definition) -> None:
        known = self._definitions.get(definition.name)
        if known is not None:
            raise definition.fail(
                f"there is a job of this name already: {known.function.__module__}."
                f"{known.function.__qualname__}; give one of them name='...'"
            )
        if not definition.is_method:
            try:
                definition.check()
            except ConfigurationError as error:
                # A name that is defined further down in the module: `check` looks again.
                if not isinstance(error.__cause__, NameError):
                    raise
        self._definitions[definition.name] = definition

    def find(self, name: str) -> Definition:
        """The job of this name.

        Raises:
            UnknownJob: there is none; says which there are.
        """
        try:
            return self._definitions[name]
        except KeyError:
            known = ", ".join(sorted(self._definitions)) or "none"
            raise UnknownJob(f"there is no job {name!r}; there are: {known}", job=name) from None

    def check(self) -> None:
        """Resolve every job and queue, so that what is wrong shows at start.

        Raises:
            ConfigurationError: what is wrong, naming the function.
        """
        for definition in self._definitions.values():
            definition.check()
        _ = self.topology

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message. `Job.later` is this with the message made on the way.

        Raises:
            PublishError: one of its kinds; see there.
        """
        publisher = await self.open_publisher()
        if not self._publishing:
            return await publisher.enqueue(message)
        return await onion(self._publishing, publisher.enqueue)(message)

    async def later_many(self, messages: Iterable[Message[R]]) -> list[JobHandle[R]]:
        """Publish many messages without waiting for each confirm in turn; order is kept.

        Args:
            messages: of any jobs; taken one by one as there is room, so it may be a generator.

        Returns:
            Their handles, in order, when all are confirmed.

        Raises:
            PublishManyFailed: some were not; it says which. All others are in their queues.
        """
        publisher = await self.open_publisher()
        if self._publishing:
            results: Sequence[object] = await _through(
                onion(self._publishing, publisher.enqueue), messages
            )
        else:
            results = await publisher.enqueue_many(messages)
        failed = [r for r in results if isinstance(r, PublishError)]
        if failed:
            raise PublishManyFailed(
                f"{len(failed)} of {len(results)} messages were not handed over; the first: "
                f"{failed[0]}",
                results=list(results),
            ) from failed[0]
        return results  # type: ignore[return-value]

    @asynccontextmanager
    async def lifespan(self, *_: object) -> AsyncIterator[None]:
        """Open the connection for publishing, and close it in the end.

        For web tiers (``FastAPI(lifespan=app.lifespan)``) and scripts. All on the same event loop
        share one connection, and the last to end closes it.

        Raises:
            BrokerUnavailable: RabbitMQ refused us for good. One that is only away delays messages.
        """
        loop = asyncio.get_running_loop()
        opening = self._publishers.get(loop)
        if opening is None:
            opening = self._publishers[loop] = _Opening(self)
        # Counted, since two workers of one app in one process end in any order.
        opening.lifespans += 1
        try:
            await opening.ready()
            yield
        finally:
            opening.lifespans -= 1
            if not opening.lifespans:
                if self._publishers.get(loop) is opening:
                    del self._publishers[loop]
                await opening.close()

    async def open_publisher(self) -> "Publisher":
        """The publisher of the running event loop, opened if it is not."""
        loop = asyncio.get_running_loop()
        opening = self._publishers.get(loop)
        if opening is None:
            log.info(
                "opening a connection on first use; `async with app.lifespan():` around the "
                "program closes it in the end"
            )
            opening = self._publishers[loop] = _Opening(self)
        if opening.publisher is not None:
            return opening.publisher
        try:
            return await opening.ready()
        except BaseException:
            # Whoever gives up waiting leaves it to the others; what has failed is tried anew.
            if opening.failed and self._publishers.get(loop) is opening:
                del self._publishers[loop]
            raise

    async def close(self) -> None:
        """Close what a first use outside of a `lifespan` has opened on this event loop, if it
        did. The next use opens it again."""
        opening = self._publishers.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            await opening.close()

    def choose_queues(self, names: Iterable[str]) -> list[Queue]:
        """The queues of these names; all, if none is given.

        Raises:
            ConfigurationError: there is no such queue; says which there are.
        """
        chosen = tuple(dict.fromkeys(names))
        unknown = [name for name in chosen if name not in self._queues]
        if unknown:
            known = ", ".join(sorted(self._queues)) or "none"
            raise ConfigurationError(
                f"the app {self.name!r} has no queue {unknown[0]!r}; it has: {known}"
            )
        return [self._queues[name] for name in chosen] or list(self._queues.values())

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
        from amqpjobs.deadletters import DeadLetters

        return DeadLetters(self, self.choose_queues(queues), kind)

    def blocking(self) -> "BlockingApp":
        """For synchronous code: ``with app.blocking() as client: client.later(job.message(x))``."""
        from amqpjobs.blocking import BlockingApp

        return BlockingApp(self)


class _Opening:
    """A publisher that is being opened once, whoever asks first."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._task: asyncio.Task[Publisher] | None = None
        self.publisher: Publisher | None = None
        self.lifespans = 0

    @property
    def failed(self) -> bool:
        return self._task is not None and self._task.done() and self.publisher is None

    async def ready(self) -> "Publisher":
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._open())
        # Shielded: one caller who gives up must not take the connection from the others.
        return await asyncio.shield(self._task)

    async def _open(self) -> "Publisher":
        # Here, since importing aio-pika takes longer than everything else together.
        from amqpjobs.publisher import Publisher

        app = self._app
        app.check()
        publisher = Publisher(app.name, app.settings, app.topology)
        await publisher.open()
        self.publisher = publisher
        return publisher

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.publisher is not None:
            await self.publisher.close()


async def _through(
    send: Callable[[Message[Any]], Awaitable[JobHandle[Any]]], messages: Iterable[Message[Any]]
) -> list[object]:
    """Send messages through middleware, some at a time; an error of the middleware ends it."""
    results: list[object] = []
    waiting = iter(messages)
    while some := list(islice(waiting, AT_ONCE)):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_caught(send(message))) for message in some]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        results += (task.result() for task in tasks)
    return results


async def _caught(call: Awaitable[JobHandle[Any]]) -> JobHandle[Any] | PublishError:
    try:
        return await call
    except PublishError as error:
        return error
