"""The methods of a durable job's context: named steps, calls, waits.

Changes when a handler may use another kind of step.
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
"""The job that undoes a step. It takes the result of the step, or no argument. A message of a job
has its own arguments."""


class Steps:
    """The part of a `Context` that is for jobs with ``durable=True``.

    Each step, call or wait has a name. Its result is stored under the name. When the job runs
    again, after a wait, an error or a crash, a step that is done is not executed again: the context
    returns the stored result. The code between the steps is executed in each run.
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
        """Call a function in this worker and store its result. Later runs return the stored result,
        validated into the return type of the function. A plain ``def`` runs in a thread.

        If the worker dies after the function has returned and before its result is committed, the
        next run calls the function again. For an effect in a database use `step_in`. Any other
        function must be idempotent.

        Args:
            name: of the step, unique in a run: in a loop ``f"page {n}"``.
            function: called with the arguments.
            strict: fail the job if the arguments differ from those of the stored result. By default
                the function is called again, and the log has a warning.
            undo: the job that undoes this step if this job fails for good. See the guide, "Sagas
                and undo".

        Raises:
            ConfigurationError: the name is used twice in a run (the message names both places), or
                the job is not durable.
            InvalidResult: the result cannot become JSON, or is too large.
            StepChanged: the arguments differ, with ``strict``.
            Exception: any error of the function. The next run calls it again.

        Example:
            >>> await ctx.step("rate", fetch_rate, "EUR")
            1.08
        """
        options = {"strict": kwargs.pop("strict", False), "undo": kwargs.pop("undo", None)}
        return self._running().step(name, function, (args, kwargs), options)

    def step_in(self, session: Any, name: str) -> AbstractAsyncContextManager[StepInTransaction]:
        """Run a step in your own transaction, in the database of ``AMQPJOBS_STORE_URL``. The step's
        mark and your writes are committed together or not at all, so the effect happens exactly
        once. You commit the transaction.

        Args:
            session: an AsyncSession or AsyncConnection of SQLAlchemy.
            name: of the step.

        Returns:
            A context manager of a `StepInTransaction`. Do the step if it is ``open``.

        Raises:
            ConfigurationError: the session uses another database, or is not a session.

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
        """Run another job on its own queue and wait for its result. While this job only waits, it
        is a row in the store: it holds no slot, no delivery and no memory.

        Args:
            name: of the call, unique in a run.
            job: the job to run, or a message of it with its arguments.
            undo: the job that undoes the call if this job fails for good. It takes the result.
            timeout: seconds, or a timedelta. After it the called job is cancelled and the call
                fails.

        Raises:
            JobFailed: the called job failed for good. Every run raises the same error. If the
                handler does not catch it, this job fails without another retry.
            InvalidArguments: the arguments do not fit the job. Nothing was sent.

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
        """Run a job for each item on all workers and wait for all results, in the order of the
        items. See the guide, "Map a job over many items".

        Args:
            name: of the map, unique in a run.
            job: takes one item.
            items: a sequence, an iterable or an async iterable. Each run reads it again and skips
                the items that were sent, so it must yield the same items in every run.
            at_most: the largest number of items in flight; None for 2,000 chunks.
            chunk: items in one message; None to measure, and send what takes about two seconds.
            on_failure: ``"raise"``: a failed item fails the map at once. ``"collect"``: the results
                have the `JobFailed` in its place. A number from 0 to 1: the map fails if a larger
                share of the items fails; the results leave out the failed items.
            reduce: a job that takes a list of results and returns one result of the same type. A
                tree of such jobs reduces all results to one, so no process holds all of them.
            stragglers: when three quarters of the chunks are done, send a chunk a second time if it
                takes this many times as long as the others. The first result counts. Use it only
                for idempotent jobs.
            prepare: called once in each worker process, before its first item.

        Raises:
            JobFailed: an item failed for good, and ``on_failure`` does not allow it.

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
        """Iterate over items and resume after the last item that is done. The cursor is stored
        after items (at most five times a second), at the end, when the worker stops, and at an
        error. After each slice the job is sent again, so the loop may take any time.

        After a crash of the worker, the items since the last stored cursor run again: at most 0.2 s
        of work, or 100 items.

        Args:
            name: of the loop, unique in a run.
            items: an iterable or async iterable; items that are done are skipped. Or a function
                that takes the last cursor (None at first) and returns the items after it.
            cursor: identifies an item: the name of an attribute, the attribute of the class
                (``Row.id``), or a function of the item. None for its index in the iterable.
            slice: seconds, or a timedelta, after which the job is sent again; at most half of
                ``AMQPJOBS_CONSUMER_TIMEOUT``, if that is set. Keep it below the consumer timeout of
                RabbitMQ, 30 minutes by default.

        Example:
            >>> async for row in ctx.each("rows", [1, 2]):
            ...     await store(row)
        """
        seconds = seconds_from_zero("slice", slice)
        return self._running().each(name, items, {"cursor": cursor, "slice": float(seconds)})

    def sleep(self, name: str, seconds: float | timedelta, /) -> Awaitable[None]:
        """Wait for some time, as a row in the store. The time passes also while no worker runs.

        Args:
            name: of the wait, unique in a run.
            seconds: seconds, or a timedelta, from when a run first reaches the wait.

        Example:
            >>> await ctx.sleep("cool down", 3600)
        """
        number = seconds_from_zero("the time of ctx.sleep", seconds)
        return self._running().sleep(name, float(number))

    def signal(
        self, name: str, kind: type[T], /, *, timeout: Seconds | None = None
    ) -> Awaitable[T]:
        """Wait for a signal, as a row in the store. `App.signal`, ``amqpjobs signal`` and
        ``POST /jobs/{id}/signals/{name}`` send signals. An early signal is kept.

        Args:
            name: of the signal, unique in a run.
            kind: the type that the value is validated into.
            timeout: seconds, or a timedelta; None to wait without a limit.

        Raises:
            SignalTimeout: no signal arrived in time.

        Example:
            >>> await ctx.signal("approval", bool, timeout=3600)
            True
        """
        return self._running().signal(name, kind, _seconds("timeout", timeout))


def call_as_json(context: Steps, name: str, message: Message[Any]) -> Awaitable[bytes]:
    """`Steps.call` of a message. The result is not validated into a type."""
    options = {"undo": None, "timeout": None, "as_json": True}
    return context._running().call(name, message, ((), {}), options)


def _seconds(what: str, given: Seconds | None) -> float | None:
    return None if given is None else float(seconds_from_zero(what, given))
