"""The tasks that a worker cannot be without: one that ends early ends the worker.

Changes when that is handled in another way.
"""

import asyncio
import logging
from collections.abc import Callable

from amqpjobs.background import Work, lasting
from amqpjobs.errors import AmqpJobsError

log = logging.getLogger("amqpjobs.worker")


class Duties:
    """Starts these tasks, and stops the worker when one of them ends early.

    What the worker holds is given back then as at every stop, and `check` raises the error: the
    process ends with status 1, and whatever has started it starts another one.

    Args:
        group: that they run in.
        stop: tells the worker to stop.
        stopping: whether it was told to.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        stop: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._group = group
        self._stop = stop
        self._stopping = stopping
        self._failure: Exception | None = None

    def begin(self, work: Work, name: str, *, returns: bool = False) -> "asyncio.Task[None]":
        """Start one.

        Args:
            work: what to run. An `AmqpJobsError` of it ends the worker at once: it says what is
                wrong with what the worker was given at its start.
            name: for people.
            returns: it may return by itself.
        """
        return self._group.create_task(self._mind(work, name, returns), name=name)

    async def _mind(self, work: Work, name: str, returns: bool) -> None:
        try:
            await lasting(work, name, returns=returns, over=self._stopping)
        except AmqpJobsError:
            raise
        except Exception as error:
            log.critical("task ended, stopping the worker", extra={"task": name}, exc_info=True)
            self._failure = self._failure or error
            if not self._stopping():
                self._stop()

    def check(self) -> None:
        """Raise what has ended the worker, if it was one of these."""
        if self._failure is not None:
            raise self._failure
