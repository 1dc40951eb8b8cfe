"""How a handler is run: on the event loop, in a thread, or in a process.

Changes when there is another place to run one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, to_thread

from amqpjobs.errors import JobTimeout, NoRoom
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.handlers import PLAIN, landed
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.telemetry.log_handlers import LOG_DEFAULTS, LogOptions
from amqpjobs.worker.execution.outliving import Outliving, ThreadCall

if TYPE_CHECKING:
    from amqpjobs.worker.execution.pool import ProcessPool

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
        raise over_time(seconds) from error


def over_time(seconds: float) -> JobTimeout:
    """The error of a job that ran longer."""
    return JobTimeout(f"ran longer than its timeout of {seconds:g} s")


class Execution:
    """Runs handlers.

    Args:
        concurrency: how many threads, and how many processes, there may be.
        logs: how those processes log.

    Attributes:
        outliving: threads whose jobs are over. A call that never began is none.
        home: the context in which it was made: no job's.
        logs: as given.
        grace: seconds for which an ``async def`` may clean up after its timeout, if it does not say
            so itself.
        ignored: called with the context of one that has not ended by then. None: it is waited for.
    """

    def __init__(self, concurrency: int, logs: LogOptions = LOG_DEFAULTS) -> None:
        self._concurrency = concurrency
        self._threads: CapacityLimiter | None = None
        self._processes: ProcessPool | None = None
        self.outliving = Outliving(concurrency)
        self.home = copy_context()
        self.grace = 0.0
        self.ignored: Callable[[Definition, RunContext], object] | None = None
        self.logs = logs

    @property
    def abandoned(self) -> int:
        """How many threads that could not be ended still run."""
        return len(self.outliving.calls)

    async def run(
        self, definition: Definition, context: RunContext, arguments: Arguments, body: bytes
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
        timeout, ignored = context.timeout_of(definition.timeout), self.ignored
        running = self._run(definition, context, arguments, body)
        if timeout is None or ignored is None or definition.kind != "async":
            return await within(timeout, running)
        grace = self.grace if definition.grace is None else definition.grace
        loop = asyncio.get_running_loop()
        late = loop.call_later(timeout + grace, ignored, definition, context)
        try:
            return await within(timeout, running)
        finally:
            late.cancel()

    async def _run(
        self, definition: Definition, context: RunContext, arguments: Arguments, body: bytes
    ) -> object:
        if definition.kind == "async":
            result: object = await definition.invoke(context, arguments)
        elif definition.kind == "process":
            return await self._pool().run(definition, context, body)
        else:
            result = await self._in_thread(definition, context, arguments)
            if definition.cancellable and context.has_seen_cancellation:
                raise asyncio.CancelledError("the job was cancelled, and its thread has ended")
        return result if type(result) in PLAIN else await landed(result)

    async def _in_thread(
        self, definition: Definition, context: RunContext, arguments: Arguments
    ) -> object:
        if self._threads is None:
            self._threads = CapacityLimiter(self._concurrency)
        call = ThreadCall(definition, context, arguments)
        try:
            result = await to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
            call.raise_error()
        except (RuntimeError, OSError, MemoryError) as error:
            if call.begun:
                raise
            raise NoRoom(str(error) or "no memory for a thread") from error
        finally:
            if not call.ended:
                call.dropped = True  # before the look at `begun`, which its thread sets first
                if call.begun:
                    self.outliving.add(call)
            call.error = None
        return result

    def _pool(self) -> "ProcessPool":
        if self._processes is None:
            from amqpjobs.worker.execution.pool import ProcessPool

            self._processes = ProcessPool(self._concurrency, home=self.home, logs=self.logs)
        return self._processes

    async def close(self) -> None:
        """End the processes."""
        self.outliving.close()
        if self._processes is not None:
            await self._processes.close()
