"""How a handler is run: on the event loop, in a thread, or in a process.

Changes when there is another place to run one.
"""

import asyncio
from collections.abc import Awaitable
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, to_thread

from amqpjobs.codec import Arguments
from amqpjobs.context import Context
from amqpjobs.definition import Definition
from amqpjobs.errors import JobTimeout, NoRoom
from amqpjobs.handlers import PLAIN, landed
from amqpjobs.worker.outliving import Left, Outliving, ThreadCall

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


class Execution:
    """Runs handlers.

    Args:
        concurrency: how many threads, and how many processes, there may be.

    Attributes:
        outliving: threads whose jobs are over. A call that never began is none.
        home: the context in which it was made: no job's.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._threads: CapacityLimiter | None = None
        self._processes: ProcessPool | None = None
        self.outliving = Outliving(concurrency)
        self.home = copy_context()

    @property
    def abandoned(self) -> int:
        """How many threads that could not be ended still run."""
        return len(self.outliving.calls)

    async def run(
        self, definition: Definition, context: Context, arguments: Arguments, body: bytes
    ) -> object:
        """Run a handler and return its result, or raise its error.

        Raises:
            JobTimeout: it ran longer than its timeout, and was cancelled.
            NoRoom: no thread, or no process, can be started for it.
            InvalidResult: it has returned a generator.

        Cancelling ends an ``async def`` where it awaits, and kills a process. A thread cannot be
        ended: it runs on, is one of `outliving` meanwhile, and its result is dropped. What it
        returns that can be awaited is awaited here.
        """
        return await within(definition.timeout, self._run(definition, context, arguments, body))

    async def _run(
        self, definition: Definition, context: Context, arguments: Arguments, body: bytes
    ) -> object:
        if definition.kind == "async":
            result: object = await definition.invoke(context, arguments)
        elif definition.kind == "process":
            return await self._pool().run(definition, context, body)
        else:
            result = await self._in_thread(definition, context, arguments)
        return result if type(result) in PLAIN else await landed(result)

    async def _in_thread(
        self, definition: Definition, context: Context, arguments: Arguments
    ) -> object:
        if self._threads is None:
            self._threads = CapacityLimiter(self._concurrency)
        call = ThreadCall(definition, context, arguments)
        try:
            result = await to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        except (RuntimeError, OSError, MemoryError) as error:
            if call.begun:
                raise
            raise NoRoom(str(error) or "no memory for a thread") from error
        finally:
            if not call.ended:
                call.dropped = True  # before the look at `begun`, which its thread sets first
                if call.begun:
                    self.outliving.add(call)
        if isinstance(result, Left):
            raise result.error
        return result

    def _pool(self) -> "ProcessPool":
        if self._processes is None:
            from amqpjobs.worker.processes import ProcessPool

            self._processes = ProcessPool(self._concurrency, home=self.home)
        return self._processes

    async def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            await self._processes.close()
