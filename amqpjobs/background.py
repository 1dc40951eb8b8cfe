"""A task with an owner: started by an object, and ended by it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("amqpjobs")


class BackgroundTask:
    """Runs a coroutine beside its owner until it ends or the owner stops it.

    A crash is a bug in amqpjobs: it is logged at once, not when somebody awaits the task.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._task.add_done_callback(self._report)

    @staticmethod
    def _report(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("background task %s crashed", task.get_name(), exc_info=error)

    async def stop(self) -> None:
        """Cancel it and wait for its end."""
        self._task.cancel()
        await asyncio.wait([self._task])


def end_if_cancelled() -> None:
    """End this task if it was cancelled. To be called by a loop that has caught an error: aiormq
    makes errors of its own of a cancellation, and a loop that went on would never be ended.

    Raises:
        asyncio.CancelledError: it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
