"""What the context of a durable job has: named steps, calls, waiting.

Changes when a handler may ask for something else.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload

from amqpjobs.jobs.durable.calling import Callee
from amqpjobs.jobs.durable.running import Running, StepInTransaction
from amqpjobs.jobs.durations import Seconds, seconds_from_zero
from amqpjobs.jobs.message.message import Message

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Undoing = Callee[[Any], Any] | Callee[[], Any] | Message[Any]
"""What takes a step back: a job that is given the result of the step, or nothing; or a call of one,
with arguments of its own."""


class Steps:
    """The part of a `Context` that is for jobs with ``durable=True``.

    A step, call or wait has a name, and its result is remembered under it: when the job runs again,
    whatever ended the run before, what is done is not done again, and its result comes back. Code
    between the steps runs again each time.
    """

    __slots__ = ()

    def _running(self) -> Running:
        raise NotImplementedError

    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        undo: Undoing,
        strict: bool = False,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., R],
        /,
        *args: Any,
        undo: Undoing,
        strict: bool = False,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        strict: bool,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., R],
        /,
        *args: Any,
        strict: bool,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[R]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[R]: ...
    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Awaitable[Any]:
        """Call a function here, once: its result is stored, and comes back in later runs, validated
        into the return type of the function. A plain ``def`` runs in a thread.

        A worker that dies between the end of the function and the commit of its result calls it
        again: for an effect in a database see `step_in`, elsewhere let it be idempotent.

        Args:
            name: of the step, once in a run: in a loop ``f"page {n}"``.
            function: to be called with the arguments.
            strict: fail the job if the arguments are not those of the stored result. By default it
                is called again, and the log says so.
            undo: a job that takes it back if this job fails for good. See the guide, "Sagas and
                undo".

        Raises:
            ConfigurationError: a name twice in a run, naming both places; no durable job.
            InvalidResult: what it returned cannot become JSON, or is too large.
            StepChanged: with ``strict``.
            Exception: what the function raises. The next run calls it again.

        Example:
            >>> await ctx.step("rate", fetch_rate, "EUR")
            1.08
        """
        options = {"strict": kwargs.pop("strict", False), "undo": kwargs.pop("undo", None)}
        return self._running().step(name, function, (args, kwargs), options)

    def step_in(self, session: Any, name: str) -> AbstractAsyncContextManager[StepInTransaction]:
        """A step in a transaction of yours, of the database of ``AMQPJOBS_STORE_URL``: its mark is
        written with what else the transaction writes, or not at all, so that its effect is there
        exactly once. You commit.

        Args:
            session: an AsyncSession or AsyncConnection of SQLAlchemy.
            name: of the step.

        Returns:
            A context manager of a `StepInTransaction`: do it if that is ``open``.

        Raises:
            ConfigurationError: another database, or what is no transaction.

        Example:
            >>> async with Sessions.begin() as session, ctx.step_in(session, "book") as step:
            ...     if step.open:
            ...         session.add(Booking(order=7))
        """
        return self._running().step_in(session, name)

    @overload
    def call(
        self,
        name: str,
        job: Callee[..., R],
        /,
        *args: Any,
        undo: Undoing,
        timeout: Seconds | None = None,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self,
        name: str,
        job: Callee[..., R],
        /,
        *args: Any,
        timeout: Seconds,
        **kwargs: Any,
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self,
        name: str,
        job: Message[R],
        /,
        *,
        undo: Undoing | None = None,
        timeout: Seconds | None = None,
    ) -> Awaitable[R]: ...
    @overload
    def call(
        self, name: str, job: Callee[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[R]: ...
    def call(
        self,
        name: str,
        job: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Awaitable[Any]:
        """Run another job, on its own queue, and wait for its result. While this job can do nothing
        but wait it is a row in the store: it holds no slot, no delivery and no memory.

        Args:
            name: of the call, once in a run.
            job: to be run; or a message of it, whose arguments are set.
            undo: a job that takes it back if this job fails for good: it is given the result.
            timeout: seconds, or a timedelta; then it is cancelled, and has failed.

        Raises:
            JobFailed: it failed for good. The same in every run; uncaught it ends this job at once.
            InvalidArguments: before anything is sent.

        Example:
            >>> await ctx.call("charge", charge, 7)
            'charged 7'
        """
        timeout = _seconds("timeout", kwargs.pop("timeout", None))
        options = {"undo": kwargs.pop("undo", None), "timeout": timeout}
        return self._running().call(name, job, (args, kwargs), options)

    @overload
    def map(
        self,
        name: str,
        job: Callee[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        /,
        *,
        at_most: int | None = None,
        chunk: int | None = None,
        on_failure: Literal["raise"] | float = "raise",
        stragglers: float | None = None,
        prepare: Callable[[], Any] | None = None,
    ) -> Awaitable[list[R]]: ...
    @overload
    def map(
        self,
        name: str,
        job: Callee[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        /,
        *,
        reduce: Callee[[list[R]], R],
        at_most: int | None = None,
        chunk: int | None = None,
        on_failure: Literal["raise", "collect"] | float = "raise",
        stragglers: float | None = None,
        prepare: Callable[[], Any] | None = None,
    ) -> Awaitable[R]: ...
    @overload
    def map(
        self,
        name: str,
        job: Callee[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        /,
        *,
        on_failure: Literal["collect"],
        at_most: int | None = None,
        chunk: int | None = None,
        stragglers: float | None = None,
        prepare: Callable[[], Any] | None = None,
    ) -> Awaitable[list[R | Exception]]: ...
    def map(
        self,
        name: str,
        job: Any,
        items: Any,
        /,
        *,
        at_most: int | None = None,
        chunk: int | None = None,
        on_failure: Any = "raise",
        reduce: Any = None,
        stragglers: float | None = None,
        prepare: Callable[[], Any] | None = None,
    ) -> Awaitable[Any]:
        """Run a job for each item, over all workers, and wait for all results: in the order of the
        items. See the guide, "Map a job over many items".

        Args:
            name: of the map, once in a run.
            job: takes one item.
            items: a sequence, or an iterable, asynchronous or not. It is read again in each run,
                from the first item that was not sent: it must give the same items.
            at_most: how many items are sent and not done at a time; None for 2,000 chunks.
            chunk: items in one message; None for what takes about two seconds, by measure.
            on_failure: ``"raise"``: a failed item fails the map at once. ``"collect"``: its place
                in the results has the `JobFailed`. A number: the share of items, from 0 to 1, of
                which more must not fail; their places are left out.
            reduce: a job that takes a list of results and returns one of the same kind: it makes
                one result of all, as a tree of jobs, so that nobody holds all results at once.
            stragglers: send a chunk a second time that takes so many times as long as others, when
                three quarters are done: the first result counts. Only for jobs that may run twice.
            prepare: called once in each worker process before its first item.

        Raises:
            JobFailed: an item has failed for good, and ``on_failure`` does not allow that.

        Example:
            >>> await ctx.map("sizes", measure, ["a.png", "b.png"], at_most=50)
            [1, 2]
        """
        options = {
            "at_most": at_most, "chunk": chunk, "on_failure": on_failure, "reduce": reduce,
            "stragglers": stragglers, "prepare": prepare,
        }  # fmt: skip
        return self._running().map(name, job, items, options)

    def each(
        self,
        name: str,
        items: Iterable[T] | AsyncIterable[T] | Callable[[Any], Iterable[T] | AsyncIterable[T]],
        /,
        *,
        cursor: Any = None,
        slice: Seconds = 600.0,  # noqa: A002 - the word of the field
    ) -> AsyncIterator[T]:
        """Go through items, and on from where the last run came to: a cursor is stored behind each
        item that was done (at most five times a second), at the end, when the worker stops, and at
        an error. After a slice the job is sent again, so that it may take any time.

        A worker that dies repeats what was done since the cursor was stored: 0.2 s, or 100 items.

        Args:
            name: of the loop, once in a run.
            items: an iterable, asynchronous or not; those that were done are passed over. Or a
                function that takes the last cursor (None at first) and returns what comes behind.
            cursor: what an item is found again by: the name of an attribute, the attribute of the
                class (``Row.id``), or a function of the item. None for its number in the iterable.
            slice: seconds, or a timedelta, after which the job is sent again; at most half of
                ``AMQPJOBS_CONSUMER_TIMEOUT``, where that is set. Keep it below the
                consumer timeout of RabbitMQ, 30 minutes by default.

        Example:
            >>> async for row in ctx.each("rows", [1, 2]):
            ...     await store(row)
        """
        seconds = seconds_from_zero("slice", slice)
        return self._running().each(name, items, {"cursor": cursor, "slice": float(seconds)})

    def sleep(self, name: str, seconds: float | timedelta, /) -> Awaitable[None]:
        """Wait for a time, as a row in the store. It is over when it is: also while no worker runs.

        Args:
            name: of the wait, once in a run.
            seconds: or a timedelta; counted from when it is first reached.

        Example:
            >>> await ctx.sleep("cool down", 3600)
        """
        number = seconds_from_zero("the time of ctx.sleep", seconds)
        return self._running().sleep(name, float(number))

    def signal(
        self, name: str, kind: type[T], /, *, timeout: Seconds | None = None
    ) -> Awaitable[T]:
        """Wait for a signal, as a row in the store: `App.signal`, ``amqpjobs signal``, or
        ``POST /jobs/{id}/signals/{name}``. One that came before it was waited for is kept.

        Args:
            name: of the signal, once in a run.
            kind: what it is validated into.
            timeout: seconds, or a timedelta; None for as long as it takes.

        Raises:
            SignalTimeout: it did not come in time.

        Example:
            >>> await ctx.signal("approval", bool, timeout=3600)
            True
        """
        return self._running().signal(name, kind, _seconds("timeout", timeout))


def call_as_json(context: Steps, name: str, message: Message[Any]) -> Awaitable[bytes]:
    """`Steps.call` of a message, whose result is not made an object of."""
    options = {"undo": None, "timeout": None, "as_json": True}
    return context._running().call(name, message, ((), {}), options)


def _seconds(what: str, given: Seconds | None) -> float | None:
    return None if given is None else float(seconds_from_zero(what, given))
