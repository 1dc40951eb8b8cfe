"""An event loop in a thread of its own, for synchronous code. Changes when that thread lives longer
or shorter."""

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from amqpjobs.client.client import Client
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import Seconds, number_of

T = TypeVar("T")

EXIT_TIME = 5.0
"""Seconds for closing the connection when the interpreter ends and nobody has closed the client."""


class Portal:
    """An event loop in a thread of its own, and the app's connection on it. It ends with the
    process, or by `close`."""

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

    async def enter(self, client: Client) -> None:
        """Open the connection there. To be called by `start` or `call`."""
        await self._stack.enter_async_context(client.lifespan())

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call a coroutine function there, in the context of the caller, and wait for its result.

        Raises:
            ConfigurationError: called from a callback on that very event loop.
        """
        return self.start(function, *arguments).result()

    def start(
        self, function: Callable[..., Awaitable[T]], *arguments: Any
    ) -> "concurrent.futures.Future[T]":
        """The same without waiting.

        Raises:
            ConfigurationError: as above.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a blocking client was called on its own event loop, which would wait for itself: "
                "use the app's async methods there"
            )
        return self._start(function, *arguments)

    def _start(
        self, function: Callable[..., Awaitable[T]], *arguments: Any
    ) -> "concurrent.futures.Future[T]":
        async def called() -> T:
            return await function(*arguments)

        # In a copy of the caller's context, which holds a trace, say: asyncio sees to that.
        return asyncio.run_coroutine_threadsafe(called(), self._loop)

    def close(self, timeout: Seconds | None = None) -> None:
        """Close the connection, cancel the calls that still wait, and end the thread.

        Args:
            timeout: seconds or a timedelta; None for as long as it takes.
        """
        atexit.unregister(self._close_at_exit)
        seconds = number_of(timeout)
        with suppress(TimeoutError):
            self._start(self._stack.aclose).result(seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds)

    def _close_at_exit(self) -> None:
        if self.is_ours and not self._loop.is_closed():
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
