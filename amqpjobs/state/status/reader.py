"""Reads the status of jobs: `App.status`, `App.result` and `App.watch`, on any event loop.

Changes when there is something else to ask.
"""

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.state.status.opening import open_store
from amqpjobs.state.status.values import Row, order_of_status
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.settings import Settings
    from amqpjobs.state.status.store import Store
    from amqpjobs.state.status.watcher import Watching

log = logging.getLogger("amqpjobs.status")

REMEMBERED = 100
"""Ends that were watched, and are known here although a recorder may not have written them yet."""


class Statuses:
    """The statuses of one app.

    Args:
        client: whose settings say where they are.

    Attributes:
        client: as given.
    """

    def __init__(self, client: "Client") -> None:
        self.client = client
        client.on_close.append(self.close)
        self._readers: dict[asyncio.AbstractEventLoop, _Reader] = {}
        self._watchings: weakref.WeakKeyDictionary[Publisher, Watching] = (
            weakref.WeakKeyDictionary()
        )
        self._watched_ends: dict[str, JobStatus] = {}

    def __repr__(self) -> str:
        return f"<Statuses of {self.client.runtime.registry.name}>"

    def _reader(self) -> "_Reader":
        loop = asyncio.get_running_loop()
        reader = self._readers.get(loop)
        if reader is None:
            # Connections to PostgreSQL hold their loop, and end with the last that knows them.
            for other in [each for each in list(self._readers) if each.is_closed()]:
                self._readers.pop(other, None)
            reader = self._readers[loop] = _Reader(self.client.runtime.settings)
        return reader

    async def get(self, job_id: str) -> JobStatus | None:
        """See `App.status`."""
        store = await self._reader().store()
        found = None if store is None else await store.get(job_id)
        watched = self._watched_ends.get(job_id)
        if watched is None:
            return found
        if found is None or order_of_status(found) < order_of_status(watched):
            return watched
        self._watched_ends.pop(job_id, None)
        return found

    async def recent(
        self,
        *,
        states: Iterable[str] = (),
        queue: str | None = None,
        job: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[JobStatus]:
        """The newest statuses, newest first; see `Store.recent`. None of them where there is no
        store yet.

        Raises:
            ConfigurationError: the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.
        """
        store = await self._reader().store()
        if store is None:
            return []
        return await store.recent(states=states, queue=queue, job=job, before=before, limit=limit)

    async def watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        """See `App.watch`."""
        if job_id in self._watched_ends and (known := await self._known_end(job_id)) is not None:
            yield known
            return
        async with aclosing(self._watched(job_id)) as updates:
            async for status in updates:
                if status.ended:
                    self._remember(status)
                yield status

    async def _known_end(self, job_id: str) -> JobStatus | None:
        """The end that was watched here before, unless the store knows of a newer run. Whoever
        asks again is told as much as before: the store may be behind."""
        try:
            found = await self.get(job_id)
        except (ConfigurationError, StoreUnavailable):
            found = self._watched_ends.get(job_id)
        return found if found is not None and found.ended else None

    async def _watched(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        from amqpjobs.state.status.watcher import Watching

        publisher = await self.client.publisher()
        watching = self._watchings.get(publisher)
        if watching is None:
            settings = self.client.runtime.settings
            watching = self._watchings[publisher] = Watching(
                publisher.link, self._reader().row, declare=settings.declare_topology
            )
            publisher.on_close.append(watching.close)
        async with aclosing(watching.watch(job_id)) as updates:
            async for status in updates:
                yield status

    def _remember(self, status: JobStatus) -> None:
        while len(self._watched_ends) >= REMEMBERED:
            self._watched_ends.pop(next(iter(self._watched_ends)), None)
        self._watched_ends[status.id] = status

    async def result(
        self, job_id: str, *, timeout: Seconds | None = None, job: str | None = None
    ) -> Any:
        """See `App.result`."""
        from amqpjobs.state.status.results import result_of

        return await result_of(self, self.client.runtime, job_id, timeout, job)

    async def has_store(self) -> bool:
        """Whether statuses are kept anywhere.

        Raises:
            ConfigurationError: the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.
        """
        return await self._reader().store() is not None

    async def close(self) -> None:
        """Close the store on this event loop. The next use opens it again."""
        reader = self._readers.pop(asyncio.get_running_loop(), None)
        if reader is not None:
            await reader.close()


def statuses_of(client: "Client") -> Statuses:
    """The statuses of a client's app, made on first use."""
    known = client.statuses
    if isinstance(known, Statuses):
        return known
    made = client.statuses = Statuses(client)
    return made


class _Reader:
    """The store on one event loop, opened when it is first asked, and there is one."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._complained = False

    async def store(self) -> "Store | None":
        """None where nothing was ever recorded: asking makes no database."""
        async with self._opening:
            if self._store is None and store_exists(self._settings):
                self._store = await open_store(self._settings)
            return self._store

    async def row(self, job_id: str) -> Row | None:
        """What is kept of a job; whoever watches goes on without a store."""
        try:
            store = await self.store()
            return None if store is None else await store.row(job_id)
        except (ConfigurationError, StoreUnavailable) as error:
            if not self._complained:
                self._complained = True
                log.warning("watching without a store", extra={"error": str(error)})
            return None

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()
