"""Declaring jobs, as an `App` and a `Router` do. Changes when a job has another option."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack, overload

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.batch import Batch
from amqpjobs.jobs.decorators import BatchDecorator, JobDecorator, JobOptions, OnceDecorator
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.enqueuer import Enqueuer
from amqpjobs.jobs.exclusion.declared import Rules
from amqpjobs.jobs.exclusion.limit import GivenLimits
from amqpjobs.jobs.exclusion.unique import Debounce, Unique
from amqpjobs.jobs.hints import with_parentheses
from amqpjobs.jobs.job import make_job
from amqpjobs.jobs.message.bodies import GivenBody
from amqpjobs.jobs.middleware import Processing
from amqpjobs.jobs.once import Sessions
from amqpjobs.jobs.queue.exchange import Exchange, Pattern, bindings_of
from amqpjobs.jobs.queue.queue import Queue, route_of
from amqpjobs.jobs.retry import Retry
from amqpjobs.jobs.schedule.schedule import GivenSchedules

S = TypeVar("S")


class DeclaresJobs:
    """Has a decorator for jobs."""

    _enqueuer: Enqueuer
    _add_queue: Callable[[Queue], Queue]
    _add_job: Callable[[Definition], None]

    @overload
    def job(self, *, batch: Batch, **options: Unpack[JobOptions]) -> BatchDecorator: ...
    @overload
    def job(
        self, *, batch: None = None, once: None = None, **options: Unpack[JobOptions]
    ) -> JobDecorator: ...
    @overload
    def job(
        self, *, once: Callable[[], S], batch: None = None, **options: Unpack[JobOptions]
    ) -> OnceDecorator[S]: ...
    @with_parentheses
    def job(
        self,
        *,
        queue: Queue | str,
        name: str | None = None,
        timeout: Seconds | None = None,
        grace: Seconds | None = None,
        cpu: bool = False,
        memory_limit: int | None = None,
        retry: Retry | None = None,
        track: bool = True,
        keep_result: bool | Seconds = False,
        middleware: Sequence[Processing] = (),
        cancellable: bool = False,
        at_most_once: bool = False,
        schedule: GivenSchedules = None,
        limit: GivenLimits = None,
        unique: Unique | None = None,
        debounce: Debounce | None = None,
        once: Sessions | None = None,
        durable: bool = False,
        body: GivenBody = None,
        batch: Batch | None = None,
    ) -> Any:
        """Make a job of a function, or of a method of a class that is rebuilt from its fields.

        Args:
            queue: where its messages wait; ``"name"`` is short for ``Queue("name")``.
            name: the AMQP ``type`` of its messages; by default the function's own name, with its
                class. Messages that are waiting know the job by it: think before renaming.
            timeout: seconds, or a timedelta; then it has failed. ``async def`` is cancelled, a
                process killed; a thread cannot be ended, and runs on unobserved.
            grace: seconds, or a timedelta, for which an ``async def`` may clean up after that. Then
                its slot is free, though it still runs. None for ``AMQPJOBS_SHUTDOWN_TIMEOUT``.
            cpu: for a plain ``def``: run it in a process of its own, killed at the timeout.
            memory_limit: with ``cpu``: bytes of address space; more raises ``MemoryError`` in it.
            retry: when it runs again after a failure; None for the app's policy.
            track: whether its status is recorded, see `status`; False for very frequent jobs.
            keep_result: keep what it returns with its status: ``AMQPJOBS_RESULT_TTL``, or seconds.
            middleware: around its runs, inside that of its queue and the app's ``processing``.
            cancellable: let `cancel` end a run of it: ``async def`` is cancelled, a process killed;
                a thread is asked, see `Context.cancelled`. A job that waits needs no permission.
            at_most_once: ack its message before it runs: a worker that dies loses the job, one that
                stops makes a dead letter of it, and it is not retried.
            schedule: a `Cron` or an `Every`, or several: when it is sent by itself, without
                arguments. What it was due for is `Context.tick`.
            limit: a `Limit`, or several: how many of it run at once, in all workers together.
            unique: a `Unique`: calls of one key are one job until that has ended.
            debounce: a `Debounce`: calls of one key become one job, when they stop coming.
            once: an ``async_sessionmaker`` of SQLAlchemy (``sessionmaker`` for a plain ``def``): it
                runs in one transaction with the session that it takes first, after the Context.
                What it writes, what it enqueues, and that it was done are kept together or not at
                all: the guide, "Transactions".
            durable: store the results of its steps, so that a later run does not execute them
                again. The job takes the Context first. See the guide, "Durable jobs".
            body: the format of its messages: ``Json``, ``Bytes``, ``Text``, ``MsgPack``,
                ``CloudEvent``, or an object with ``load`` and ``dump``: see `Body`.
            batch: for an ``async def`` that takes a list: run so many jobs in one call. `Job.later`
                takes what is one element of the list.

        Raises:
            ConfigurationError: when the module loads, for a function that cannot be a job.

        Example:
            >>> @app.job(queue="thumbnails", timeout=60, cpu=True)
            ... def make_thumbnail(path: str, width: int = 200) -> str:
            ...     return f"{path}-{width}"
        """
        return self._decorator(
            "job", queue, name=name, timeout=timeout, grace=grace, cpu=cpu,
            memory_limit=memory_limit, retry=retry, track=track, keep_result=keep_result,
            middleware=middleware, cancellable=cancellable, at_most_once=at_most_once,
            batch=batch, schedule=schedule, once=once, durable=durable, body=body,
            rules=Rules(limit, unique, debounce),
        )  # fmt: skip

    def _decorator(self, word: str, queue: Queue | str, **options: Any) -> Any:
        bound = self._add_queue(Queue(queue) if isinstance(queue, str) else queue)

        def decorate(function: Callable[..., Any]) -> Any:
            if not inspect.isfunction(function):
                raise ConfigurationError(f"@{word} is for functions and methods, not {function!r}")
            definition = Definition(function, bound, self._enqueuer, **options)
            self._add_job(definition)
            return make_job(definition)

        return decorate

    @overload
    def on(
        self,
        exchange: Exchange,
        /,
        *patterns: Pattern,
        batch: Batch,
        priority: str | None = None,
        **options: Unpack[JobOptions],
    ) -> BatchDecorator: ...
    @overload
    def on(
        self,
        exchange: Exchange,
        /,
        *patterns: Pattern,
        batch: None = None,
        once: None = None,
        priority: str | None = None,
        **options: Unpack[JobOptions],
    ) -> JobDecorator: ...
    @overload
    def on(
        self,
        exchange: Exchange,
        /,
        *patterns: Pattern,
        once: Callable[[], S],
        batch: None = None,
        priority: str | None = None,
        **options: Unpack[JobOptions],
    ) -> OnceDecorator[S]: ...
    def on(
        self,
        exchange: Exchange,
        /,
        *patterns: Pattern,
        queue: Queue | str,
        priority: str | None = None,
        limit: GivenLimits = None,
        unique: Unique | None = None,
        debounce: Debounce | None = None,
        **options: Any,
    ) -> Any:
        """Make a job of a function that handles events: the messages that other programs, or this
        one, publish to an exchange (`App.publish`).

        The queue is bound to the exchange. An event that matches becomes a job on that queue, with
        everything that jobs have; a retry goes to that queue alone. Of several handlers on one
        queue, the one with the most specific pattern gets it, unless the message names a job of the
        app in its AMQP ``type``. A queue gets each event once, and each queue gets its own copy.

        Args:
            exchange: where the events are published.
            patterns: routing keys. With a topic exchange, ``*`` is one word and ``#`` any number of
                words. With a headers exchange, the headers to match. With a fanout exchange, none.
            queue: where the events wait; ``"name"`` is short for ``Queue("name")``.
            priority: which priority of the queue they get; None for the middle one.
            limit: see `job`, for this and all other options.
            unique: see `job`.
            debounce: see `job`.
            options: those of `job`.

        Raises:
            ConfigurationError: a pattern that the exchange cannot match, or that another handler of
                the queue has; or as `job`.

        Example:
            >>> orders = Exchange("orders", type="topic")
            >>> @app.on(orders, "order.placed", "order.paid.#", queue="invoicing")
            ... async def invoice(ctx: Context, event: dict[str, int]) -> None:
            ...     ctx.log.info("to invoice", extra={"key": ctx.event and ctx.event.routing_key})
        """
        if not isinstance(exchange, Exchange):
            raise ConfigurationError(f'@on takes an Exchange("name"), not {exchange!r}')
        if priority is not None and isinstance(queue, Queue):
            route_of(queue, priority)
        return self._decorator(
            "on", queue, bindings=bindings_of(exchange, patterns), bound_priority=priority,
            rules=Rules(limit, unique, debounce), **options,
        )  # fmt: skip
