"""The statuses of a tested app: heard where events are made, and kept in memory.

No recorder and no store is needed, and times are those of the test. Changes when statuses do.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.event_publication import Announcements
from amqpjobs.client.client import Client
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.event_codec import decode_events, encode_events
from amqpjobs.jobs.message.events import Announcement
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.state.status.reader import Statuses
from amqpjobs.state.status.values import Row, merged, order_of_row, row_of, status_of

Hear = Callable[[Announcement], object]


class HeardAnnouncements(Announcements):
    """The events of a publisher, heard by the test as well.

    Args:
        runtime: whose.
        link: its connection.
        hear: called with each event, on its event loop.
    """

    def __init__(self, runtime: Runtime, link: Link, hear: Hear) -> None:
        settings = runtime.settings
        super().__init__(
            link,
            runtime.registry.name,
            encode_events,
            enabled=settings.events,
            declare=settings.declare_topology,
        )
        self._hear = hear

    @property
    def listening(self) -> bool:
        """The test always does."""
        return self.enabled

    @listening.setter
    def listening(self, value: bool) -> None:
        """What the broker says of other listeners does not matter."""

    def add(self, announcement: Announcement, size: int = 0) -> None:
        """See `Announcements.add`."""
        if self.enabled:
            self._hear(announcement)
        super().add(announcement, size)


class HeardStatuses(Statuses):
    """What a test has heard of its jobs. Asked from any event loop.

    Args:
        client: of the tested app.
        demand: entered while somebody waits for a result: jobs run meanwhile. It fails the future
            if they cannot.
        told: called with the id of a job whose error is raised in its caller.
    """

    def __init__(
        self,
        client: Client,
        demand: Callable[["asyncio.Future[None]"], AbstractContextManager[object]],
        told: Callable[[str], object],
    ) -> None:
        super().__init__(client)
        self._time = client.runtime.clock.time
        self._demand = demand
        self._told = told
        self._rows: dict[str, Row] = {}
        self._last = 0
        self._lock = threading.Lock()
        self._watches: set[_Watch] = set()
        self._ended = False

    def hear(self, announcement: Announcement) -> None:
        """Keep an event, at the time of the test."""
        [event], _ = decode_events(encode_events([announcement]))
        ahead = self._time() - time.time()
        with self._lock:
            moment = event["sequence"] + int(ahead * 1_000_000)
            event["sequence"] = self._last = max(self._last + 1, moment)
            if "started" in event:
                event["started"] += ahead
            row = row_of(event)
            known = self._rows.get(row["id"])
            self._rows[row["id"]] = row if known is None else merged(known, row)
            watches = tuple(self._watches)
        for watch in watches:
            watch.wake()

    async def get(self, job_id: str) -> JobStatus | None:
        """See `App.status`."""
        row = self._rows.get(job_id)
        return None if row is None else status_of(row, self._time())

    async def recent(
        self,
        *,
        states: Iterable[str] = (),
        queue: str | None = None,
        job: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[JobStatus]:
        """See `Statuses.recent`."""
        wanted = frozenset(states)
        found = [
            row
            for row in tuple(self._rows.values())
            if (not wanted or row["state"] in wanted)
            and queue in (None, row["queue"])
            and job in (None, row["job"])
            and (before is None or row["sequence"] < before)
        ]
        found.sort(key=lambda row: -row["sequence"])
        return [status_of(row, self._time()) for row in found[:limit]]

    async def watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        """See `App.watch`."""
        watch = _Watch()
        with self._lock:
            self._watches.add(watch)
        try:
            shown: Row | None = None
            while not self._ended and (shown is None or not shown["ended"]):
                watch.changed.clear()
                row = self._rows.get(job_id)
                if row is None or (shown is not None and order_of_row(row) <= order_of_row(shown)):
                    await watch.changed.wait()
                    continue
                shown = row
                yield status_of(row, self._time())
        finally:
            with self._lock:
                self._watches.discard(watch)

    async def result(
        self, job_id: str, *, timeout: Seconds | None = None, job: str | None = None
    ) -> Any:
        """See `App.result`. Jobs run while somebody waits, as for a request."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(super().result(job_id, timeout=timeout, job=job))
        try:
            with self._demand(failed):
                await asyncio.wait((waiting, failed), return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            row = self._rows.get(job_id)
            if row is not None and row["ended"]:
                self._told(job_id)
            return waiting.result()
        finally:
            waiting.cancel()
            failed.cancel()

    async def has_store(self) -> bool:
        """It is in memory."""
        return True

    def end(self) -> None:
        """Let everybody who watches come to an end."""
        self._ended = True
        for watch in tuple(self._watches):
            watch.wake()


class _Watch:
    """One who watches, on its event loop."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # its event loop was closed under it
            self._loop.call_soon_threadsafe(self.changed.set)
