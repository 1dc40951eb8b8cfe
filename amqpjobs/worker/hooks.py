"""Runs the hooks of an app around the life of a worker process.

Changes when the order of start and end does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context as Variables
from inspect import isawaitable

from amqpjobs.jobs.hooks import OUTSIDE, WorkerHook, WorkerHooks

log = logging.getLogger("amqpjobs.worker")

TIME_TO_CLOSE = 10.0
"""Seconds that the end may take where there is no shutdown budget."""


async def _call(hook: WorkerHook) -> None:
    result = hook()
    if isawaitable(result):
        await result


@asynccontextmanager
async def hooks_run(
    hooks: WorkerHooks, seconds_left: Callable[[], float] = lambda: TIME_TO_CLOSE
) -> AsyncIterator[None]:
    """Open the resources and call ``on_start``; at the end ``on_stop`` in reverse order, and close
    the resources. Does nothing where that has been done around it, as in a test.

    The end comes after a start that failed or was interrupted, too: then every ``on_stop`` is
    called, also those for which an ``on_start`` has not run yet. Which belong together is not
    known, and what was opened must not be left open.

    Args:
        hooks: of the app.
        seconds_left: how long the end may take, asked when it begins.

    Raises:
        Exception: whatever the lifespan's start or an ``on_start`` raised. What the end raises is
            logged.
    """
    if hooks.value.get() is not OUTSIDE:
        yield
        return
    stack = AsyncExitStack()
    value = None
    if hooks.lifespan is not None:
        value = await stack.enter_async_context(hooks.lifespan())
    hooks.value.set(value)
    try:
        for hook in hooks.on_start:
            await _call(hook)
        yield
    finally:
        try:
            async with asyncio.timeout(max(0.0, seconds_left())):
                await _end(hooks, stack)
        except TimeoutError:
            log.error("worker hooks exceeded the shutdown budget")  # noqa: TRY400 - no stack to show
        finally:
            hooks.value.set(OUTSIDE)


async def _end(hooks: WorkerHooks, stack: AsyncExitStack) -> None:
    for hook in reversed(hooks.on_stop):
        try:
            await _call(hook)
        except Exception:
            log.exception("on_stop failed", extra={"hook": getattr(hook, "__name__", repr(hook))})
    try:
        await stack.aclose()
    except Exception:
        log.exception("closing resources failed")


class HooksKept:
    """The hooks of an app on an event loop that runs only now and then, as that of a job process.

    A task of their own enters and leaves them: cancel scopes and context variables must be left
    where they were entered (https://anyio.readthedocs.io/en/stable/cancellation.html).

    Args:
        hooks: of the app.
    """

    def __init__(self, hooks: WorkerHooks) -> None:
        self._hooks = hooks
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<HooksKept: {self._hooks!r}>"

    async def enter(self, context: Variables) -> None:
        """Open the resources and call ``on_start``.

        Args:
            context: where the resources are from then on.

        Raises:
            Exception: whatever they raised. Then nothing is left open.
        """
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[None] = loop.create_future()
        task = self._task = loop.create_task(self._keep(entered), context=context)
        await asyncio.wait((task, entered), return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            await task

    async def _keep(self, entered: "asyncio.Future[None]") -> None:
        async with hooks_run(self._hooks):
            entered.set_result(None)
            await self._leaving.wait()

    async def leave(self) -> None:
        """Call ``on_stop`` and close the resources."""
        if self._task is not None:
            self._leaving.set()
            await asyncio.wait([self._task])
