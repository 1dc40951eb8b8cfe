"""Asking for the status of jobs: `App.status` and `App.watch`, on whatever event loop that is.

Changes when there is something else to ask.
"""

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.status.database import open_store, store_exists
from amqpjobs.status.values import JobStatus, Row

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.publisher import Publisher
    from amqpjobs.status.store import Store
    from amqpjobs.status.watching import Watching

log = logging.getLogger("amqpjobs.status")


class Statuses:
    """The statuses of one app.

    Args:
        app: whose settings say where they are.
    """

    def __init__(self, app: "App") -> None:
        self._app = app
        self._readers: dict[asyncio.AbstractEventLoop, _Reader] = {}
        self._watchings: weakref.WeakKeyDictionary[Publisher, Watching] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"<Statuses of {self._app.name}>"

    def _reader(self) -> "_Reader":
        loop = asyncio.get_running_loop()
        reader = self._readers.get(loop)
        if reader is None:
            # Connections to PostgreSQL hold their loop, and end with the last that knows them.
            for other in [each for each in list(self._readers) if each.is_closed()]:
                self._readers.pop(other, None)
            reader = self._readers[loop] = _Reader(self._app)
        return reader

    async def get(self, job_id: str) -> JobStatus | None:
        """See `App.status`."""
        store = await self._reader().store()
        return None if store is None else await store.get(job_id)

    async def recent(
        self,
        *,
        states: Iterable[str] = (),
        queue: str | None = None,
        job: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[JobStatus]:
        """The newest statuses, newest first; see `Store.recent`. None where there is no store yet.

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
        from amqpjobs.status.watching import Watching

        publisher = await self._app.open_publisher()
        watching = self._watchings.get(publisher)
        if watching is None:
            settings = self._app.settings
            watching = self._watchings[publisher] = Watching(
                publisher.link, self._reader().row, declare=settings.declare_topology
            )
            publisher.on_close.append(watching.close)
        async with aclosing(watching.watch(job_id)) as updates:
            async for status in updates:
                yield status

    async def close(self) -> None:
        """Close the store on this event loop. The next use opens it again."""
        reader = self._readers.pop(asyncio.get_running_loop(), None)
        if reader is not None:
            await reader.close()


class _Reader:
    """The store on one event loop, opened when it is first asked, and there is one."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._complained = False

    async def store(self) -> "Store | None":
        """None where nothing was ever recorded: asking makes no database."""
        async with self._opening:
            if self._store is None and store_exists(self._app.settings):
                self._store = await open_store(self._app.settings)
            return self._store

    async def row(self, job_id: str) -> Row | None:
        """What is kept of a job; whoever watches goes on without a store."""
        try:
            store = await self.store()
            return None if store is None else await store.row(job_id)
        except (ConfigurationError, StoreUnavailable) as error:
            if not self._complained:
                self._complained = True
                log.warning("watching without a store: %s", error)
            return None

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()
