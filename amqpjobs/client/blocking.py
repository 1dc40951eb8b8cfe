"""The app for synchronous code: the same guarantees, from threads without an event loop."""

import os
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import aclosing
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from amqpjobs.client.client import HasClient
from amqpjobs.client.locks import BlockingLock, HoldsLock
from amqpjobs.client.portal import Portal
from amqpjobs.errors import ConfigurationError, PublishManyFailed
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.cancellation import Cancellation
from amqpjobs.jobs.message.handle import (
    BlockingJobHandle,
    Follows,
    JobHandle,
    blocking_handle_of,
)
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.jobs.message.why import Why
from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.jobs.queue.queue import Queue

if TYPE_CHECKING:
    from amqpjobs.client.executor import FleetExecutor

R = TypeVar("R")
T = TypeVar("T")


class Followed(HasClient, Follows, Protocol):
    """What a blocking client is made of: an `App` is one."""

    @property
    def publish(self) -> Callable[..., Awaitable[str]]:
        """See `App.publish`."""
        ...

    async def undo(self, job_id: str) -> str | None:
        """See `App.undo`."""
        ...

    async def why(self, job_id: str) -> Why:
        """See `App.why`."""
        ...

    def lock(
        self, name: str, *, lease: Seconds = 60.0, timeout: Seconds | None = None
    ) -> HoldsLock:
        """See `App.lock`."""
        ...


class BlockingApp:
    """``with app.blocking() as client:`` publishes from WSGI applications, scripts and threads.

    One thread with an event loop does the work; any number of threads may call. A process that was
    forked inside of the block (gunicorn's ``preload_app``, `multiprocessing`) opens a thread and a
    connection of its own at its first call. Both end with the block, or with their process.

    Example:
        >>> with app.blocking() as client:
        ...     handle = client.later(build_report.message(12))
        ...     client.request(build_report.message(11), timeout=5)
        'report 11: 31 orders'
    """

    def __init__(self, app: Followed) -> None:
        # Its client is asked for at each call: a test puts the app onto a broker of its own, and
        # modules make this object when they are imported.
        self._app = app
        self._portal: Portal | None = None
        self._opening: dict[int, threading.Lock] = {}

    def __enter__(self) -> Self:
        self._portal = self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        portal, self._portal = self._portal, None
        if portal is not None and portal.is_ours:
            portal.close()

    def later(self, message: Message[R]) -> BlockingJobHandle[R]:
        """Publish one message: ``client.later(job.message(x))``. See `Job.later`.

        Example:
            >>> handle = client.later(build_report.message(12))
        """
        handle = self._open_portal().call(self._app.client.enqueue, message)
        return blocking_handle_of(handle, self)

    def later_many(self, messages: Iterable[Message[R]]) -> list[BlockingJobHandle[R]]:
        """Publish many messages. See `App.later_many`.

        Example:
            >>> handles = client.later_many(build_report.message(month) for month in (10, 11))
        """
        portal = self._open_portal()
        try:
            handles: list[JobHandle[R]] = portal.call(self._app.client.enqueue_many, messages)
        except PublishManyFailed as failed:
            failed.results = [
                blocking_handle_of(each, self) if isinstance(each, JobHandle) else each
                for each in failed.results
            ]
            raise
        return [blocking_handle_of(handle, self) for handle in handles]

    def request(self, message: Message[R], *, timeout: Seconds | None = None) -> R:
        """Run a job in a worker, and wait for its result. See `App.request`.

        Args:
            message: ``job.message(x)``.
            timeout: seconds or a timedelta; None for the message's own, else the setting.

        Example:
            >>> client.request(build_report.message(12), timeout=5)
            'report 12: 31 orders'
        """

        async def ask() -> R:
            result: R = await self._app.client.request(message, timeout)
            return result

        return self._open_portal().call(ask)

    def executor(
        self, *, queue: Queue | str | None = None, timeout: Seconds | None = None
    ) -> "FleetExecutor":
        """Return a `concurrent.futures.Executor` that runs jobs in workers: ``submit(job, ...)``
        and ``map(job, items)``. Each call is a request.

        Args:
            queue: the queue for all calls, in place of the job's own.
            timeout: seconds or a timedelta for each call, from when it is sent; None for the
                setting ``AMQPJOBS_REQUEST_TIMEOUT``.

        Example:
            >>> with client.executor(timeout=60) as fleet:
            ...     list(fleet.map(build_report, [11, 12]))
            ['report 11: 31 orders', 'report 12: 31 orders']
        """
        from amqpjobs.client.executor import FleetExecutor

        def start(function: Callable[..., Awaitable[T]], *arguments: Any) -> Any:
            return self._open_portal().start(function, *arguments)

        async def ask(message: Message[Any]) -> Any:
            return await self._app.client.request(message, timeout)

        return FleetExecutor(start, ask, queue)

    def publish(
        self, exchange: Exchange | str, key: str = "", payload: Any = None, **options: Any
    ) -> str:
        """Publish an event. See `App.publish`.

        Args:
            exchange: the exchange, or its name.
            key: the routing key.
            payload: what happened.
            options: those of `App.publish`.

        Example:
            >>> event_id = client.publish(orders, "order.placed", {"order": 7})
        """

        async def publish() -> str:
            return await self._app.publish(exchange, key, payload, **options)

        return self._open_portal().call(publish)

    def status(self, job_id: str) -> JobStatus | None:
        """What is known of a job. See `App.status`.

        Example:
            >>> status = client.status(handle.id)
        """
        return self._open_portal().call(self._app.status, job_id)

    def result(self, job_id: str, *, timeout: Seconds | None = None, job: str | None = None) -> Any:
        """Wait until a job has ended, and return what it returned. See `App.result`.

        Args:
            job_id: the job's id.
            timeout: seconds or a timedelta; None for as long as it takes.
            job: the job's name, if it is known.

        Example:
            >>> client.result(handle.id, timeout=30)
            'report 12: 31 orders'
        """

        async def wait() -> Any:
            return await self._app.result(job_id, timeout=timeout, job=job)

        return self._open_portal().call(wait)

    def cancel(self, job_id: str, *, reason: str = "", undo: bool = False) -> Cancellation:
        """Cancel a job by its id. See `App.cancel`.

        Example:
            >>> cancellation = client.cancel(handle.id, reason="ordered twice")
        """

        async def cancel() -> Cancellation:
            return await self._app.cancel(job_id, reason=reason, undo=undo)

        return self._open_portal().call(cancel)

    def signal(self, job_id: str, name: str, value: Any = None) -> bool:
        """Send a signal to a durable job. See `App.signal`.

        Example:
            >>> client.signal(handle.id, "approval", {"by": "ada"})
            True
        """
        return self._open_portal().call(self._app.signal, job_id, name, value)

    def why(self, job_id: str) -> Why:
        """Why a job does not run. See `App.why`.

        Example:
            >>> why = client.why(handle.id)
        """
        return self._open_portal().call(self._app.why, job_id)

    def undo(self, job_id: str) -> str | None:
        """Undo a durable job that has ended. See `App.undo`.

        Example:
            >>> state = client.undo(handle.id)
        """
        return self._open_portal().call(self._app.undo, job_id)

    def lock(
        self, name: str, *, lease: Seconds = 60.0, timeout: Seconds | None = None
    ) -> BlockingLock:
        """A lock by name, for ``with``. See `App.lock`.

        Example:
            >>> with client.lock("invoice:7", lease=60) as lock:
            ...     token = lock.token
        """
        return BlockingLock(
            self._app.lock(name, lease=lease, timeout=timeout), self._open_portal().call
        )

    def watch(self, job_id: str) -> Generator[JobStatus, None, None]:
        """The status of a job, and then each change, until it ends. See `App.watch`.

        Example:
            >>> for status in client.watch(handle.id):
            ...     print(status.state)
            done
        """
        return self._watch(self._open_portal(), job_id)

    def _watch(self, portal: "Portal", job_id: str) -> Generator[JobStatus, None, None]:
        seen: SimpleQueue[JobStatus | None] = SimpleQueue()

        async def look() -> None:
            try:
                async with aclosing(self._app.watch(job_id)) as updates:
                    async for status in updates:
                        seen.put(status)
            finally:
                seen.put(None)

        # One task from the first status to the last: the watch is its own while this thread waits.
        looking = portal.start(look)
        try:
            while (status := seen.get()) is not None:
                yield status
            looking.result()
        finally:
            looking.cancel()

    def _open_portal(self) -> "Portal":
        portal = self._portal
        if portal is None:
            raise ConfigurationError("use it inside of `with app.blocking() as client:`")
        return portal if portal.is_ours else self._open_again()

    def _open_again(self) -> "Portal":
        """The portal is of the process that this one was forked from: its thread is not here."""
        # A lock for each process: another thread may have held the parent's at the fork.
        with self._opening.setdefault(os.getpid(), threading.Lock()):
            portal = self._portal
            if portal is None or not portal.is_ours:
                portal = self._portal = self._open()
            return portal

    def _open(self) -> "Portal":
        portal = Portal()
        try:
            portal.call(portal.enter, self._app.client)
        except BaseException:
            portal.close()
            raise
        return portal


def call_of(client: BlockingApp) -> "Callable[..., Any]":
    """What calls a coroutine function on the event loop of a client, and waits for its result."""
    return client._open_portal().call
