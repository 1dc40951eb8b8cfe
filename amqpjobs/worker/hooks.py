"""Runs the hooks of an app around the life of a worker process.

Changes when the order of start and end does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
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
    async with AsyncExitStack() as stack:
        stack.callback(hooks.value.set, OUTSIDE)
        value = None
        if hooks.lifespan is not None:
            value = await stack.enter_async_context(hooks.lifespan())
        hooks.value.set(value)
        for hook in hooks.on_start:
            await _call(hook)
        try:
            yield
        finally:
            ending = stack.pop_all()
            try:
                async with asyncio.timeout(max(0.0, seconds_left())):
                    await _end(hooks, ending)
            except TimeoutError:
                log.error("worker hooks did not end in time")  # noqa: TRY400 - no stack to show


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
