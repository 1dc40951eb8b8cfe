"""Workers of a test that run all the time, on an embedded broker. For the fixture of pytest.

Changes when the fixture may do something else.
"""

import asyncio
from collections.abc import Iterable

from amqpjobs.testing.placement import Place, Placeable
from amqpjobs.worker.worker import Worker


class Workers:
    """Starts workers, and stops them in the end.

    Args:
        url: of the broker. Apps are there until `stop`, whatever their settings say.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._places: dict[Placeable, Place] = {}
        self._running: dict[Worker, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Workers: {len(self._running)} running>"

    async def __call__(
        self,
        app: Placeable,
        queues: Iterable[str] = (),
        *,
        concurrency: int | None = None,
        prefetch: int | None = None,
    ) -> Worker:
        """Start a worker, and wait until it consumes.

        Args:
            app: whose jobs. From now on it is on the broker of the test.
            queues: names of its queues; all, if none.
            concurrency: jobs at once.
            prefetch: deliveries held of each queue.

        Raises:
            ConfigurationError: a queue that the app does not have, or an app that is being tested.
        """
        if app not in self._places:
            place = Place(app, self._url)
            place.enter()
            self._places[app] = place
        worker = Worker(app, queues, concurrency=concurrency, prefetch=prefetch)
        task = self._running[worker] = asyncio.create_task(worker.run(), name="amqpjobs worker")
        started = asyncio.create_task(worker.started())
        try:
            await asyncio.wait((started, task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        if task.done():
            del self._running[worker]
            task.result()
        return worker

    async def stop(self) -> None:
        """Stop all of them, and put the apps back.

        Raises:
            BaseException: with which a worker has ended.
        """
        for worker in self._running:
            worker.stop()
        if self._running:
            await asyncio.wait(self._running.values())
        for app, place in self._places.items():
            await app.client.close()
            place.leave()
        for task in self._running.values():
            task.result()
