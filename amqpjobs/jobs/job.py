"""A job: a function bound to a queue, callable now, later, or as a value.

Changes when what can be done with a job changes.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    overload,
)

from amqpjobs.errors import DecodeError, InvalidArguments
from amqpjobs.jobs.call_options import merged, queue_of
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.hints import no_attribute
from amqpjobs.jobs.message.bodies import ANYTHING, content_type_of, format_name
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.message import (
    NO_OPTIONS,
    Message,
    Options,
    Pipeline,
    has_own_id,
)
from amqpjobs.jobs.message.own_headers import HeaderValue
from amqpjobs.jobs.queue.queue import Queue, route_of
from amqpjobs.jobs.retry import Retry
from amqpjobs.jobs.run_context import current_context, plain_context
from amqpjobs.jobs.within import AsyncTransaction, BlockingJobWithin, JobWithin, Transaction

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
C = TypeVar("C")

INJECTED: Any = inspect.Parameter.empty
"""The default of a parameter that is injected, so that type checkers do not ask callers for it:
``session: Annotated[Session, Depends(get_session)] = INJECTED``."""


class Job(Generic[P, R, C]):
    """A function that can be run now, later, or sent as a value. Made by ``@app.job``.

    ``P`` are the parameters that a caller gives, ``R`` is what a worker's run returns, ``C`` what a
    plain call returns: an awaitable of ``R`` for ``async def``, else ``R``.

    Example:
        >>> await build_report(12)  # a plain call: here and now
        'report 12: 31 orders'
        >>> handle = await build_report.later(12)  # by a worker; returns once it is stored
        >>> await build_report.request(12)  # by a worker, and wait for the result
        'report 12: 31 orders'
    """

    def __init__(
        self, definition: Definition, options: Options = NO_OPTIONS, instance: object | None = None
    ) -> None:
        self._definition = definition
        self._options = options
        self._instance = instance

    @property
    def name(self) -> str:
        """The AMQP ``type`` of its messages."""
        return self._definition.name

    @property
    def queue(self) -> Queue:
        """The queue that its messages wait in."""
        return self._definition.queue

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Run it now, here, without a broker: a plain call."""
        definition = self._definition
        positional = self._with_instance(args)
        if definition.takes_context:
            context = current_context.get() or plain_context(definition.name, new_job_id())
            positional = definition.with_context(context, positional)
        result: C = definition.call(*positional, **kwargs)
        return result

    async def later(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Run it later, in a worker. Returns once RabbitMQ has it on disk and has confirmed.

        Raises:
            InvalidArguments: before anything is sent.
            MessageTooLarge, Unroutable, PublishRejected: it is stored nowhere.
            NotConfirmed: not confirmed within the timeout; see its ``sent``.

        Example:
            >>> handle = await build_report.later(12)
            >>> await handle.result(timeout=30)
            'report 12: 31 orders'
        """
        return await self._definition.app.enqueue(self.message(*args, **kwargs))

    async def request(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it in a worker, and wait for the result.

        A request always ends: within the timeout of ``with_options(timeout=...)``, else of the
        setting ``AMQPJOBS_REQUEST_TIMEOUT``. A job that was not started by then is not run; and
        when the caller is cancelled, so is the job. See `App.request`.

        Raises:
            InvalidArguments: before anything is sent.
            JobFailed: the job failed for good; or its own exception, if the app knows the class.
            ReplyTimeout, ReplyLost: there is no answer.
            PublishError: the request did not get to RabbitMQ, or there is no queue for it.

        Example:
            >>> await build_report.with_options(timeout=5).request(12)
            'report 12: 31 orders'
        """
        return await self._definition.app.request(self.message(*args, **kwargs))

    @overload
    def within(
        self, transaction: AsyncTransaction, *, key: str | None = None
    ) -> JobWithin[P, R]: ...
    @overload
    def within(
        self, transaction: Transaction, *, key: str | None = None
    ) -> BlockingJobWithin[P, R]: ...
    def within(self, transaction: Any, *, key: str | None = None) -> Any:
        """The same job, sent by a transaction of the caller's: stored with what else that writes,
        or not at all. See `App.within`.

        Args:
            transaction: an AsyncSession, Session, AsyncConnection or Connection of SQLAlchemy.
            key: jobs of one key are sent in the order of their commits.

        Raises:
            ConfigurationError: a transaction that cannot keep this promise; says how to fix it.

        Example:
            >>> async with Sessions.begin() as session:
            ...     handle = await build_report.within(session).later(12)
        """
        return self._definition.app.within(transaction, key=key).of(self)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """This call as a value, validated and encoded, for ``app.later_many``.

        Raises:
            InvalidArguments: the arguments do not fit the parameters.

        Example:
            >>> build_report.message(12).body
            b'12'
        """
        positional = self._with_instance(args)
        if positional:
            self._check_class(positional[0])
        if self._definition.body is not None:
            return self._formatted(positional, kwargs)
        return self._message(self._definition.payload.dump(positional, kwargs))

    def _formatted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Message[R]:
        # Here: most programs have no other format than JSON.
        from amqpjobs.jobs.message.formatted import encoded_call

        return encoded_call(self._definition.payload, args, kwargs, self._message)

    def _message(self, body: bytes) -> Message[R]:
        definition, options = self._definition, self._options
        target = definition.queue if options.queue is None else queue_of(definition, options)
        queue, native_priority = route_of(target, options.priority)
        tracked = target.name if definition.track else None
        if options.id is not None:
            # Not its own: a token tells this publish from others of the same id.
            return Message(
                options.id, definition.name, queue, body, options, native_priority, tracked
            )
        return has_own_id(
            Message(new_job_id(), definition.name, queue, body, options, native_priority, tracked)
        )

    def _after(
        self, message: Message[Any], rest: tuple[Any, ...], named: dict[str, Any]
    ) -> Pipeline[R]:
        """See `Message.then`."""
        # Here: most programs have no pipelines.
        from amqpjobs.jobs.message.pipeline import following

        definition, bound = self._definition, self._with_instance(rest)
        names = definition.payload.names[len(bound) - len(rest) :]
        if not names:
            raise definition.fail("it takes no argument, so a pipeline cannot give it a result")
        if definition.body is not None:
            raise definition.fail(
                "the result of the job before it is JSON, and this job takes "
                f"{format_name(definition.body)}: leave body= out, or call it from a durable job, "
                "await ctx.call(...)"
            )
        if definition.rules.deduplicates:
            raise definition.fail(
                "a job in a pipeline cannot have unique= or debounce=, since it must be a new job "
                "for each call"
            )
        if len(bound) > len(rest):
            self._check_class(bound[0])
        body = definition.payload.dump_without(names[0], bound, named)
        single = len(definition.payload.names) == 1
        return following(message, self._message(body), None if single else names[0])

    def with_options(
        self,
        *,
        priority: str | int | None = None,
        expires: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        headers: Mapping[str, HeaderValue | None] | None = None,
        queue: Queue | str | None = None,
        retry: Retry | None = None,
        run_timeout: float | timedelta | None = None,
        id: str | None = None,  # noqa: A002 - as `handle.id` and `Message.id`
        tags: Iterable[str] | None = None,
        on_success: Message[Any] | None = None,
        on_failure: Message[Any] | None = None,
    ) -> "Job[P, R, C]":
        """The same job with options for the calls made through what this returns.

        Args:
            priority: one of the queue's priorities.
            expires: seconds, or a timedelta, counted from when it may be started; a job that was
                not started by then is no longer run.
            timeout: seconds, or a timedelta, that the call itself may take: ``later`` to be
                confirmed, ``request`` to be answered. For the handler's time see ``run_timeout``.
            delay: seconds, or a timedelta, up to 8.5 years: it is not started before.
            at: the same as a time, with its time zone; one that has passed means at once.
            headers: of the message, for ``ctx.headers``: a str, bool, int or float each, 8 KB in
                all. Added to those that were set before; None removes one.
            queue: another queue of the app, in place of the job's own; a priority is one of it.
            retry: its numbers replace those of the job's policy. Classes of exceptions do not
                travel: those of the job's policy hold.
            run_timeout: seconds, or a timedelta, that one run may take, in place of the job's
                ``timeout``.
            id: the job's id, 1 to 255 bytes of text. Two calls with one id are two runs.
            tags: up to 16 words of up to 64 characters, for ``ctx.tags``, the log and the status.
            on_success: enqueued when the job is done: ``other.message(x)``. It is confirmed before
                the job is acked: never lost, and twice at most with the same id.
            on_failure: the same when the job has failed for good.

        Raises:
            ConfigurationError: an option that cannot be used with this job.

        Example:
            >>> handle = await build_report.with_options(delay=60, expires=3600).later(12)
        """
        options = merged(
            self._definition, self._options, priority=priority, expires=expires, timeout=timeout,
            delay=delay, at=at, headers=headers, queue=queue, retry=retry, run_timeout=run_timeout,
            id=id, tags=tags, on_success=on_success, on_failure=on_failure,
        )  # fmt: skip
        return Job(self._definition, options, self._instance)

    def _with_instance(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args if self._instance is None else (self._instance, *args)

    def _check_class(self, instance: object) -> None:
        """An object of a subclass would be rebuilt without its own fields. A plain call has no
        wire to lose them on, so only messages are checked."""
        definition = self._definition
        owner = definition.owner
        if owner is not None and type(instance) is not owner and isinstance(instance, owner):
            raise InvalidArguments(
                f"{definition.name} was declared on {owner}, and would be rebuilt as that, not as "
                f"{type(instance)}: declare the job on the subclass",
                job=definition.name,
            )

    @overload
    def __get__(self, instance: None, owner: type) -> "Job[P, R, C]": ...
    @overload
    def __get__(
        self: "Job[Concatenate[S, Q], R, C]", instance: S, owner: type[S]
    ) -> "Job[Q, R, C]": ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """As a method: bound to its object, which travels in the message."""
        return self if instance is None else Job(self._definition, self._options, instance)

    def __repr__(self) -> str:
        return repr(self._definition)

    if not TYPE_CHECKING:  # a type checker would take every attribute for one that is there

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)

    # Python's warning about a coroutine that was never awaited has the name of its function, and
    # nothing else that could say what to write instead.
    later.__qualname__ = "Job.later (without an event loop: app.blocking())"
    request.__qualname__ = "Job.request (without an event loop: app.blocking())"


def definition_of(job: Job[Any, Any, Any]) -> Definition:
    """What ``@app.job`` was told of a job."""
    return job._definition


def message_from(job: Job[Any, R, Any], body: bytes) -> Message[R]:
    """A call whose arguments are given as JSON. A job of another format encodes them again.

    Raises:
        DecodeError: they do not fit the parameters, or the format of the job.
    """
    arguments = job._definition.payload.load_json(body)
    if job._definition.body is None:
        return job._message(body)
    try:
        return job._formatted(*arguments)
    except InvalidArguments as error:
        raise DecodeError(str(error)) from None


def template_of(job: Job[Any, R, Any], body: bytes) -> Message[R]:
    """A message of a job whose arguments are not known yet. They replace this body later."""
    message = job._message(body)
    if job._definition.body is None:
        return message
    return replace(message, content_type=content_type_of(job._definition.body) or ANYTHING)


def body_for(job: Job[Any, Any, Any], *args: Any) -> bytes:
    """The arguments of a call as they are read from a message, without anything in headers.

    Raises:
        InvalidArguments: they do not fit the parameters.
    """
    return job._definition.payload.dump(job._with_instance(args), {})


class JobMethod(property):
    """A job among the attributes of a class.

    A property, because pydantic and dataclasses leave those alone: any other object in a class
    body is a field to them (https://docs.pydantic.dev/latest/errors/usage_errors/#model-field-missing-annotation).
    """

    def __init__(self, job: Job[Any, Any, Any]) -> None:
        super().__init__(lambda instance: Job(job._definition, job._options, instance))
        self.job = job
        self.__doc__ = job._definition.function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        # Again with the final class where `slots=True` builds a second one: the last one counts.
        self.job._definition.owned_by(owner)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The bound job; the job itself on the class."""
        return self.job if instance is None else super().__get__(instance, owner)


def make_job(definition: Definition) -> Any:
    """The object that takes the function's place: a `Job`, or a `JobMethod` inside of a class."""
    job: Job[Any, Any, Any] = Job(definition)
    update_wrapper(job, definition.function)
    return JobMethod(job) if definition.is_method else job
