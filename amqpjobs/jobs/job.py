"""A job: a function bound to a queue, callable now, later, or as a value.

Changes when what can be done with a job changes.
"""

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from amqpjobs.errors import ConfigurationError, InvalidArguments
from amqpjobs.jobs.context import Context, current_context, plain_context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.message import NO_OPTIONS, JobHandle, Message, Options, has_own_id
from amqpjobs.jobs.queue.delays import LONGEST_DELAY
from amqpjobs.jobs.queue.queue import Queue

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
C = TypeVar("C")

LONGEST = 4_294_967
"""Seconds (49 days): RabbitMQ refuses a longer `expiration`, which is 32 bits of milliseconds."""

INJECTED: Any = inspect.Parameter.empty
"""The default of a parameter that is injected, so that type checkers do not ask callers for it:
``session: Annotated[Session, Depends(get_session)] = INJECTED``."""


class Job(Generic[P, R, C]):
    """A function that can be run now, later, or sent as a value. Made by ``@app.job``.

    ``P`` are the parameters that a caller gives, ``R`` is what a worker's run returns, ``C`` what a
    plain call returns: an awaitable of ``R`` for ``async def``, else ``R``.
    """

    def __init__(
        self, definition: Definition, options: Options = NO_OPTIONS, instance: object | None = None
    ) -> None:
        self.definition = definition
        self.options = options
        self._instance = instance

    @property
    def name(self) -> str:
        """The AMQP ``type`` of its messages."""
        return self.definition.name

    @property
    def queue(self) -> Queue:
        """The queue that its messages wait in."""
        return self.definition.queue

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Run it now, here, without a broker: a plain call."""
        definition = self.definition
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
        """
        return await self.definition.app.enqueue(self.message(*args, **kwargs))

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
        """
        return await self.definition.app.request(self.message(*args, **kwargs))

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """This call as a value, validated and encoded, for ``app.later_many``.

        Raises:
            InvalidArguments: the arguments do not fit the parameters.
        """
        positional = self._with_instance(args)
        if positional:
            self._check_class(positional[0])
        return self._message(self.definition.payload.dump(positional, kwargs))

    def message_of(self, body: bytes) -> Message[R]:
        """A call whose arguments are JSON already, as in a message.

        Raises:
            DecodeError: they do not fit the parameters.
        """
        self.definition.payload.load(body)
        return self._message(body)

    def _message(self, body: bytes) -> Message[R]:
        definition, options = self.definition, self.options
        queue, native_priority = definition.queue.route(options.priority)
        tracked = definition.queue.name if definition.track else None
        return has_own_id(
            Message(new_job_id(), definition.name, queue, body, options, native_priority, tracked)
        )

    def with_options(
        self,
        *,
        priority: str | int | None = None,
        expires: float | None = None,
        timeout: float | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> "Job[P, R, C]":
        """The same job with options for the calls made through what this returns.

        Args:
            priority: one of the queue's priorities.
            expires: seconds, counted from when it may be started; a job that was not started by
                then is not run any more.
            timeout: seconds that the call itself may take: ``later`` to be confirmed, ``request``
                to be answered.
            delay: seconds, or a timedelta, up to 8.5 years: it is not started before.
            at: the same as a time, with its time zone; one that has passed means at once.

        Raises:
            ConfigurationError: an option that cannot be used with this job's queue.
        """
        for name, seconds in (("expires", expires), ("timeout", timeout)):
            if seconds is not None and not 0 < seconds <= LONGEST:
                raise ConfigurationError(
                    f"{name} is a number of seconds above 0 and up to {LONGEST}, not {seconds!r}"
                )
        if delay is not None and at is not None:
            raise ConfigurationError("give delay=..., or at=..., not both")
        given = {
            "priority": priority,
            "expires": expires,
            "timeout": timeout,
            "delay": _seconds(delay),
            "at": _moment(at),
        }
        base = (
            self.options
            if delay is None and at is None
            else replace(self.options, delay=None, at=None)
        )
        options = replace(base, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        self.definition.queue.route(options.priority)
        return Job(self.definition, options, self._instance)

    def _with_instance(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args if self._instance is None else (self._instance, *args)

    def _check_class(self, instance: object) -> None:
        """An object of a subclass would be rebuilt without its own fields. A plain call has no
        wire to lose them on, so only messages are checked."""
        definition = self.definition
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
        return self if instance is None else Job(self.definition, self.options, instance)

    def __repr__(self) -> str:
        return repr(self.definition)


def _seconds(delay: float | timedelta | None) -> float | None:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if seconds is not None and not 0 <= seconds <= LONGEST_DELAY:
        raise ConfigurationError(
            f"delay is a number of seconds from 0 to {LONGEST_DELAY} (8.5 years), not {delay!r}"
        )
    return seconds


def _moment(at: datetime | None) -> float | None:
    if at is None:
        return None
    if at.tzinfo is None or at.utcoffset() is None:
        raise ConfigurationError(
            f"at={at!r} has no time zone, so it is a different moment on each machine: give it "
            "one, such as datetime(..., tzinfo=ZoneInfo('Europe/Berlin'))"
        )
    moment = at.timestamp()
    if moment - time.time() > LONGEST_DELAY:
        raise ConfigurationError(f"at={at!r} is more than 8.5 years away")
    return moment


class JobMethod(property):
    """A job among the attributes of a class.

    A property, because pydantic and dataclasses leave those alone: any other object in a class
    body is a field to them (https://docs.pydantic.dev/latest/errors/usage_errors/#model-field-missing-annotation).
    """

    def __init__(self, job: Job[Any, Any, Any]) -> None:
        super().__init__(lambda instance: Job(job.definition, job.options, instance))
        self.job = job
        self.__doc__ = job.definition.function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        # Again with the final class where `slots=True` builds a second one: the last one counts.
        self.job.definition.owner = owner

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The bound job; the job itself on the class."""
        return self.job if instance is None else super().__get__(instance, owner)


class JobDecorator(Protocol):
    """What ``@app.job(...)`` makes of a function; the Context is supplied, so callers do not give
    it."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Awaitable[R]], /
    ) -> Job[P, R, Awaitable[R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[S, Context, P], Awaitable[R]], /
    ) -> Job[Concatenate[S, P], R, Awaitable[R]]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Job[P, R, Awaitable[R]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Job[P, R, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[S, Context, P], R], /
    ) -> Job[Concatenate[S, P], R, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Job[P, R, R]: ...


def make_job(definition: Definition) -> Any:
    """The object that takes the function's place: a `Job`, or a `JobMethod` inside of a class."""
    job: Job[Any, Any, Any] = Job(definition)
    update_wrapper(job, definition.function)
    return JobMethod(job) if definition.is_method else job
