"""The types of the decorator ``@app.job(...)``: what it takes, and which job it makes.

Changes when a handler may look differently, or a job has another option.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, Required, TypedDict, TypeVar, overload

from amqpjobs.jobs.context import Context
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.exclusion.limit import GivenLimits
from amqpjobs.jobs.exclusion.unique import Debounce, Unique
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.bodies import GivenBody
from amqpjobs.jobs.middleware import Processing
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.retry import Retry
from amqpjobs.jobs.schedule.schedule import GivenSchedules

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


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


class BatchDecorator(Protocol):
    """What ``@app.job(..., batch=Batch(...))`` makes of a function of a list: a job of one of its
    elements."""

    @overload
    def __call__(
        self, function: Callable[[Context, list[S]], Awaitable[None]], /
    ) -> Job[[S], None, Awaitable[None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[S]], Awaitable[None]], /
    ) -> Job[[S], None, Awaitable[None]]: ...
    @overload
    def __call__(
        self, function: Callable[[Context, list[S]], Awaitable[list[R] | None]], /
    ) -> Job[[S], R, Awaitable[R]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[S]], Awaitable[list[R] | None]], /
    ) -> Job[[S], R, Awaitable[R]]: ...


class OnceDecorator(Protocol[S_co]):
    """What ``@app.job(..., once=Sessions)`` makes of a function whose session is supplied."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, S_co, P], Awaitable[R]], /
    ) -> Job[P, R, Awaitable[R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[S_co, P], Awaitable[R]], /
    ) -> Job[P, R, Awaitable[R]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, S_co, P], R], /) -> Job[P, R, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[S_co, P], R], /) -> Job[P, R, R]: ...


class JobOptions(TypedDict, total=False):
    """The options of ``@app.job`` but ``batch``, for its overloads; see `App.job`."""

    queue: Required[Queue | str]
    name: str | None
    timeout: Seconds | None
    grace: Seconds | None
    cpu: bool
    memory_limit: int | None
    retry: Retry | None
    track: bool
    keep_result: bool | Seconds
    cancellable: bool
    at_most_once: bool
    middleware: Sequence[Processing]
    schedule: GivenSchedules
    limit: GivenLimits
    unique: Unique | None
    debounce: Debounce | None
    durable: bool
    body: GivenBody
