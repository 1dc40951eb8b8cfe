"""What maps have their workers do before the first item: once in each process.

Changes when it is done, or remembered, in another way.
"""

import asyncio
from collections import OrderedDict
from typing import TypeAlias

from amqpjobs.jobs.durable.calling import called
from amqpjobs.jobs.durable.named import function_of
from amqpjobs.jobs.run_context import context_of_nobody

MOST = 64
"""Maps that are remembered; one that comes again after so many others is prepared again."""

Key: TypeAlias = tuple[str, int, str]
"""A map: the id of its job, its epoch, and its name."""


class Preparations:
    """The maps that this process has prepared for."""

    def __init__(self) -> None:
        self._done: OrderedDict[Key, asyncio.Task[object]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Preparations: {len(self._done)} maps>"

    async def prepare(self, key: Key, name: str) -> None:
        """Call the function of a map, if that was not done here; others of the map wait for it. One
        that has failed is called again by the next one.

        Args:
            name: of the function, as ``module:function``.

        Raises:
            ConfigurationError: it is not there.
            Exception: what it raises.
        """
        task = self._done.get(key)
        if task is None:
            # A task of its own: the item that is the first may be cancelled.
            coroutine = called(function_of(name), (), {})
            task = asyncio.create_task(coroutine, context=context_of_nobody())
            self._done[key] = task
            while len(self._done) > MOST:
                self._done.popitem(last=False)
        self._done.move_to_end(key)
        try:
            await asyncio.shield(task)
        except BaseException:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._done.pop(key, None)
            raise

    async def close(self) -> None:
        """The worker stops."""
        left = [task for task in self._done.values() if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
