"""Jobs of schedules that have ended in this process: the store is told, so that the next may run.

It is told at once, and again until it knows: a schedule whose job counts as running skips its
times. Changes when that is kept otherwise.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.run_context import context_of_nobody

if TYPE_CHECKING:
    from amqpjobs.state.store.durable import DurableStore

log = logging.getLogger("amqpjobs.schedules")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds before the store is told again, when it is away; they double."""


class EndedTicks:
    """What the store is still to be told, on one event loop.

    Args:
        app: the name of the app.
        store: opens its store.
        sent: called when another job was sent by that.
    """

    def __init__(
        self,
        app: str,
        store: "Callable[[], Awaitable[DurableStore]]",
        sent: Callable[[], None],
    ) -> None:
        self._app = app
        self._store = store
        self._sent = sent
        self._ended: dict[tuple[str, str], None] = {}
        self._telling = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<EndedTicks: {len(self._ended)} to be told>"

    @property
    def idle(self) -> bool:
        """Whether the store knows all."""
        return not self._ended

    def add(self, schedule: str, job_id: str) -> None:
        """A job has ended. The store is told soon."""
        self._ended[schedule, job_id] = None
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(
                self._tell_until_known(), name="amqpjobs ends of scheduled jobs",
                context=context_of_nobody(),
            )  # fmt: skip

    async def tell(self) -> bool:
        """Tell the store what it does not know.

        Returns:
            Whether there was anything.

        Raises:
            StoreUnavailable, ConfigurationError: it could not be told.
        """
        async with self._telling:
            ended = list(self._ended)
            if not ended:
                return False
            from amqpjobs.state.schedules.firing import end

            store = await self._store()
            sent = await store.run(end, self._app, ended, store.now)
            for each in ended:
                self._ended.pop(each, None)
        if sent:
            self._sent()
        return True

    async def _tell_until_known(self) -> None:
        pause = FIRST_PAUSE
        while self._ended:
            try:
                await self.tell()
            except AmqpJobsError as error:
                end_if_cancelled()
                if pause == FIRST_PAUSE:
                    extra = {"jobs": len(self._ended), "error": str(error)}
                    log.warning("ends of scheduled jobs not stored, will be later", extra=extra)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
            else:
                pause = FIRST_PAUSE

    async def finish(self, seconds: float) -> None:
        """Let the store be told, for so long at most."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=seconds)

    async def close(self) -> None:
        """Tell nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
