"""Tasks with an owner: each is started by an object, ended by it, and never ends early unnoticed.

A task that waits on a library may end in other ways than by its owner: by an error, by returning,
or by a cancellation that the library raises. asyncio reports none of these while the task is
referenced, and a task group takes the last for a task that was told to end.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

log = logging.getLogger("amqpjobs")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a task that ended early is started again; they double each time."""

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class TaskEnded(RuntimeError):
    """A task of amqpjobs has ended early, which is a bug in it."""


def _never() -> bool:
    return False


async def lasting(
    work: Work, name: str, *, returns: bool = False, over: Callable[[], bool] = _never
) -> None:
    """Run what its owner cannot be without: that it ends early is an error.

    Args:
        work: what to run, as a coroutine function.
        name: of the task, for the error.
        returns: it may return by itself.
        over: whether it may return by now.

    Raises:
        TaskEnded: it returned too early, or was cancelled by what it waited for.
    """
    try:
        await work()
    except asyncio.CancelledError as error:
        end_if_cancelled()
        raise TaskEnded(f"the task {name!r} was cancelled by what it waited for") from error
    if not returns and not over():
        raise TaskEnded(f"the task {name!r} has returned")


@contextmanager
def first_error() -> Iterator[None]:
    """Raise the first error of a task group inside of the block in place of the group, so that
    callers can catch it by its class."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


class BackgroundTask:
    """Runs a coroutine function beside its owner until it returns or the owner stops it.

    A crash, or a cancellation that is not its owner's, is a bug in amqpjobs: it is logged at once,
    and the coroutine function is started again after a pause.

    Args:
        run: what to run.
        name: of the task, for people.
    """

    def __init__(self, run: Work, name: str) -> None:
        self._run = run
        self._name = name
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=name)

    async def _keep_running(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while True:
            began = clock()
            try:
                await lasting(self._run, self._name, returns=True)
            except Exception:
                end_if_cancelled()
                log.critical(
                    "background task crashed, starting it again",
                    extra={"task": self._name, "pause_s": pause},
                    exc_info=True,
                )
            else:
                return
            if clock() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def cancel(self) -> None:
        """Cancel it, and wait for nothing."""
        self._task.cancel()

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
