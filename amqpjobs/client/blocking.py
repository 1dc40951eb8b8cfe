"""The app for synchronous code: the same guarantees, from threads without an event loop."""

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.message import JobHandle, Message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amqpjobs.client.client import HasClient

R = TypeVar("R")
T = TypeVar("T")

EXIT_TIME = 5.0
"""Seconds for closing the connection when the interpreter ends and nobody has closed the client."""


class BlockingApp:
    """``with app.blocking() as client:`` publishes from WSGI applications, scripts and threads.

    One thread with an event loop does the work; any number of threads may call. A process that was
    forked inside of the block (gunicorn's ``preload_app``, `multiprocessing`) opens a thread and a
    connection of its own at its first call. Both end with the block, or with their process.
    """

    def __init__(self, app: "HasClient") -> None:
        # Its client is asked for at each call: a test puts the app onto a broker of its own, and
        # modules make this object when they are imported.
        self._app = app
        self._portal: _Portal | None = None
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

    def later(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message: ``client.later(job.message(x))``. See `Job.later`."""
        return self._open_portal().call(self._app.client.enqueue, message)

    def later_many(self, messages: "Iterable[Message[R]]") -> list[JobHandle[R]]:
        """Publish many messages. See `App.later_many`."""
        return self._open_portal().call(self._app.client.enqueue_many, messages)

    def request(self, message: Message[R], *, timeout: float | None = None) -> R:
        """Run a job in a worker, and wait for its result. See `App.request`.

        Args:
            message: ``job.message(x)``.
            timeout: seconds; None for the message's own, else the setting.
        """

        async def ask() -> R:
            result: R = await self._app.client.request(message, timeout)
            return result

        return self._open_portal().call(ask)

    def _open_portal(self) -> "_Portal":
        portal = self._portal
        if portal is None:
            raise ConfigurationError("use it inside of `with app.blocking() as client:`")
        return portal if portal.is_ours else self._open_again()

    def _open_again(self) -> "_Portal":
        """The portal is of the process that this one was forked from: its thread is not here."""
        # A lock for each process: another thread may have held the parent's at the fork.
        with self._opening.setdefault(os.getpid(), threading.Lock()):
            portal = self._portal
            if portal is None or not portal.is_ours:
                portal = self._portal = self._open()
            return portal

    def _open(self) -> "_Portal":
        portal = _Portal()
        try:
            portal.call(portal.enter, self._app)
        except BaseException:
            portal.close()
            raise
        return portal


class _Portal:
    """An event loop in a thread of its own, and the app's connection on it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, name="amqpjobs blocking client", daemon=True
        )
        self._thread.start()
        atexit.register(self._close_at_exit)

    @property
    def is_ours(self) -> bool:
        """Whether its thread is one of this process."""
        return self._pid == os.getpid()

    async def enter(self, app: "HasClient") -> None:
        await self._stack.enter_async_context(app.client.lifespan())

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call a coroutine function there, in the context of the caller, and wait for its result.

        Raises:
            ConfigurationError: called from a callback on that very event loop.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a blocking client was called on its own event loop, which would wait for itself: "
                "use the app's async methods there"
            )
        return self._start(function, *arguments).result()

    def _start(
        self, function: Callable[..., Awaitable[T]], *arguments: Any
    ) -> "concurrent.futures.Future[T]":
        async def called() -> T:
            return await function(*arguments)

        # In a copy of the caller's context, which holds a trace, say: asyncio sees to that.
        return asyncio.run_coroutine_threadsafe(called(), self._loop)

    def close(self, timeout: float | None = None) -> None:
        """Close the connection, cancel the calls that still wait, and end the thread.

        Args:
            timeout: seconds; None for as long as it takes.
        """
        atexit.unregister(self._close_at_exit)
        with suppress(TimeoutError):
            self._start(self._stack.aclose).result(timeout)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout)

    def _close_at_exit(self) -> None:
        if self.is_ours:
            self.close(EXIT_TIME)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
