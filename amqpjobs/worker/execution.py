"""How a handler is run: on the event loop, in a thread, or in a process.

Changes when there is another place to run one.
"""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from anyio import CapacityLimiter, to_thread

from amqpjobs.codec import Arguments
from amqpjobs.context import Context
from amqpjobs.definition import Definition
from amqpjobs.errors import JobTimeout

if TYPE_CHECKING:
    from amqpjobs.worker.processes import ProcessPool

R = TypeVar("R")


async def within(seconds: float | None, handler: Awaitable[R]) -> R:
    """Wait for a handler, and cancel it when its time is over.

    Raises:
        JobTimeout: it was cancelled.
    """
    if seconds is None:
        return await handler
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await handler
    except TimeoutError as error:
        if not limit.expired():
            raise  # the handler's own
        raise JobTimeout(f"ran longer than its timeout of {seconds:g} s") from error


class _ThreadCall:
    """A handler's call in a thread, and how far it is."""

    def __init__(self, definition: Definition, context: Context, arguments: Arguments) -> None:
        self._definition = definition
        self._context = context
        self._arguments = arguments
        self.begun = self.ended = False

    def __call__(self) -> object:
        self.begun = True
        try:
            result: object = self._definition.invoke(self._context, self._arguments)
            return result
        finally:
            self.ended = True


class Execution:
    """Runs handlers.

    Args:
        concurrency: how many threads, and how many processes, there may be.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._threads: CapacityLimiter | None = None
        self._processes: ProcessPool | None = None
        # Its thread holds a call until it ends; one that never began is held by nobody.
        self._abandoned: WeakSet[_ThreadCall] = WeakSet()

    @property
    def abandoned(self) -> int:
        """How many threads that could not be ended still run."""
        return sum(call.begun and not call.ended for call in self._abandoned)

    async def run(
        self, definition: Definition, context: Context, arguments: Arguments, body: bytes
    ) -> object:
        """Run a handler and return its result, or raise its error.

        Raises:
            JobTimeout: it ran longer than its timeout, and was cancelled.

        Cancelling ends an ``async def`` where it awaits, and kills a process. A thread cannot be
        ended: it is abandoned, runs on, and its result is dropped.
        """
        return await within(definition.timeout, self._run(definition, context, arguments, body))

    async def _run(
        self, definition: Definition, context: Context, arguments: Arguments, body: bytes
    ) -> object:
        if definition.kind == "async":
            result: object = await definition.invoke(context, arguments)
            return result
        if definition.kind == "process":
            return await self._pool().run(definition, context, body)
        return await self._in_thread(definition, context, arguments)

    async def _in_thread(
        self, definition: Definition, context: Context, arguments: Arguments
    ) -> object:
        if self._threads is None:
            self._threads = CapacityLimiter(self._concurrency)
        call = _ThreadCall(definition, context, arguments)
        try:
            return await to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        finally:
            if not call.ended:
                self._abandoned.add(call)

    def _pool(self) -> "ProcessPool":
        if self._processes is None:
            from amqpjobs.worker.processes import ProcessPool

            self._processes = ProcessPool(self._concurrency)
        return self._processes

    async def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            await self._processes.close()
