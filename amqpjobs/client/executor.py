"""A `concurrent.futures.Executor` that runs jobs in workers, for code written for that interface.

Changes when that interface does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from threading import Lock
from typing import Any, ParamSpec, Protocol, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durable.calling import Callee
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.queue.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")

AT_ONCE = 1_000
"""Requests in flight at a time. Further ones wait in this process."""


class Starts(Protocol):
    """Starts a coroutine function on the event loop of a blocking client."""

    def __call__(self, function: Callable[..., Awaitable[R]], *arguments: Any) -> "Future[R]":
        """Start the function and do not wait for it."""
        ...


class FleetExecutor(Executor):
    """Runs jobs in workers. ``app.blocking().executor()`` makes one. Each call is a request: see
    `Job.request` for the errors of its future.

    Args:
        start: starts coroutines.
        request: sends a message as a request and returns its result.
        queue: the queue for all calls, in place of the job's own.

    Example:
        >>> with app.blocking() as client, client.executor() as fleet:
        ...     list(fleet.map(build_report, [11, 12]))
        ['report 11: 31 orders', 'report 12: 31 orders']
    """

    def __init__(
        self,
        start: Starts,
        request: Callable[[Message[Any]], Awaitable[Any]],
        queue: Queue | str | None = None,
    ) -> None:
        self._start = start
        self._request = request
        self._queue = queue
        self._room: asyncio.Semaphore | None = None
        self._futures: set[Future[Any]] = set()
        self._lock = Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<FleetExecutor: {len(self._futures)} under way>"

    def submit(  # type: ignore[override]
        self,
        fn: Callee[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> "Future[R]":
        """Run a job in a worker. Cancelling the future cancels the request.

        Args:
            fn: a job. A plain function is refused, since no worker knows it.

        Raises:
            RuntimeError: the executor was shut down.
            ConfigurationError: `fn` is not a job.
            InvalidArguments: the arguments do not fit the job. Nothing was sent.
        """
        if not isinstance(fn, Job):
            raise ConfigurationError(
                f"the executor of a fleet runs jobs, not {fn!r}: declare it with @app.job"
            )
        job: Job[..., R, Any] = fn if self._queue is None else fn.with_options(queue=self._queue)
        message = job.message(*args, **kwargs)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future: Future[R] = self._start(self._ask, message)
            self._futures.add(future)
        future.add_done_callback(self._ended)
        return future

    async def _ask(self, message: Message[Any]) -> Any:
        if self._room is None:
            self._room = asyncio.Semaphore(AT_ONCE)
        async with self._room:  # the timeout of the request begins after this wait
            return await self._request(message)

    def _ended(self, future: "Future[Any]") -> None:
        with self._lock:
            self._futures.discard(future)

    def map(  # type: ignore[override]
        self,
        fn: Callee[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[R]:
        """Run a job for each item and yield the results in order, as `Executor.map` does.

        Args:
            timeout: seconds for all results together.
            chunksize: accepted and ignored: each item is a message. `Context.map` puts several
                items into one message.

        Raises:
            TimeoutError: a result did not arrive in time.
        """
        results: Iterator[R] = super().map(fn, *iterables, timeout=timeout)
        return results

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further calls.

        Args:
            wait: wait until all calls have ended.
            cancel_futures: cancel all calls, also those that were sent.
        """
        with self._lock:
            self._closed = True
            left = list(self._futures)
        if cancel_futures:
            for future in left:
                future.cancel()
        if wait:
            _wait(left)


def _wait(futures: "list[Future[Any]]") -> None:
    wait(futures)
