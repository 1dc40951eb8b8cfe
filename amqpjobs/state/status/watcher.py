"""Watches jobs: the state in the store, then live events, without a gap in between.

One queue receives the events for all watches of this process. Changes when watching does.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.jobs.message.event_codec import decode_events
from amqpjobs.jobs.message.events import EVENTS_TYPE, Event
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.jobs.queue.topology import EVENTS_EXCHANGE, EVENTS_TOPOLOGY
from amqpjobs.state.status.values import Row, merged, order_of_row, row_of, status_of

log = logging.getLogger("amqpjobs.status")

FEW = 16
"""So many ids are looked for in a message before it is decoded: most are about other jobs."""

FIRST_LOOK, LAST_LOOK = 0.5, 15.0
"""Seconds until the store is read again; they double. An event that was sent before somebody
watched is in the store only when a recorder has written it, and one may be lost altogether."""

Read = Callable[[str], Awaitable[Row | None]]


class Watching:
    """Those who watch on one connection.

    Args:
        link: the connection.
        read: what is kept of a job; None where nothing is, or there is no store.
        declare: whether the exchange may be declared.
    """

    def __init__(self, link: Link, read: Read, *, declare: bool) -> None:
        self._link = link
        self._read = read
        self._declare = declare
        self._watches: dict[str, set[_Watch]] = {}
        self._listening: _Listening | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "listening" if self._listening is not None else "not listening"
        return f"<Watching: {len(self._watches)} jobs, {state}>"

    async def watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        """Each newer status of a job, the one that is known first; ends with the job.

        Raises:
            ConfigurationError: RabbitMQ does not let this user listen.
        """
        watch = _Watch()
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            if self._listening is None:
                self._listening = _Listening(self._link, self._hear, self._lost, self._declare)
            row: Row | None = None
            while not self._closed and (row is None or not row["ended"]):
                found = await self._news(job_id, watch)
                for news in found:
                    before = row
                    row = news if row is None else merged(row, news)
                    if before is None or order_of_row(row) > order_of_row(before):
                        yield status_of(row, time.time())
        finally:
            await self._leave(job_id, watch)

    async def _news(self, job_id: str, watch: "_Watch") -> list[Row]:
        """Wait for events, or until it is time to ask the store."""
        if not watch.heard and not watch.lost:
            try:
                async with asyncio.timeout(watch.pause):
                    await watch.arrived.wait()
            except TimeoutError:
                watch.pause = min(LAST_LOOK, watch.pause * 2)
                watch.lost = True
        watch.arrived.clear()
        found: list[Row] = []
        if watch.lost:
            # Whoever listens first, and reads then, misses nothing in between.
            listening = self._listening
            if listening is not None:
                await listening.ready()
            watch.lost = False
            row = await self._read(job_id)
            found = [row] if row is not None else []
        heard, watch.heard = watch.heard, []
        return found + [row_of(event) for event in heard]

    async def _leave(self, job_id: str, watch: "_Watch") -> None:
        watches = self._watches.get(job_id, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(job_id, None)
        if not self._watches and self._listening is not None:
            listening, self._listening = self._listening, None
            await listening.stop()

    def _hear(self, view: HeaderView, body: bytes) -> None:
        watches = self._watches
        if view.type != EVENTS_TYPE:
            return
        if len(watches) <= FEW and not any(job_id.encode() in body for job_id in watches):
            return
        events, _ = decode_events(body)
        for event in events:
            for watch in watches.get(event["id"], ()):
                watch.hear(event)

    def _lost(self, reason: str) -> None:
        log.info("events may be missed, reading store", extra={"reason": reason})
        for watches in self._watches.values():
            for watch in watches:
                watch.lost = True
                watch.arrived.set()

    async def close(self) -> None:
        """Hear no more: the connection is closed next, and whoever watches comes to an end."""
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.arrived.set()
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await listening.stop()


class _Watch:
    """One who watches one job."""

    __slots__ = ("arrived", "heard", "lost", "pause")

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.heard: list[Event] = []
        self.lost = True
        self.pause = FIRST_LOOK

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        self.arrived.set()


class _Listening:
    """The queue, from the first who watches to the last."""

    def __init__(
        self,
        link: Link,
        hear: Callable[[HeaderView, bytes], None],
        lost: Callable[[str], None],
        declare: bool,
    ) -> None:
        self._link = link
        self._declare = declare
        self._listener = Listener(link, hear, [(EVENTS_EXCHANGE, "#")], lost)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = BackgroundTask(self._run, "amqpjobs watching")

    async def _run(self) -> None:
        try:
            await self._make_exchange()
            await self._listener.run()
        except Exception as error:  # noqa: BLE001 - whoever watches is told
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _make_exchange(self) -> None:
        while self._declare:
            try:
                async with Declarer(await self._link.up()) as declarer:
                    await declarer.apply(EVENTS_TOPOLOGY)
                return
            except BrokerUnavailable as error:
                log.debug("not listening yet", extra={"error": str(error)})

    async def ready(self) -> None:
        """Wait until it hears, or is stopped.

        Raises:
            ConfigurationError: it never will.
        """
        ready = asyncio.ensure_future(self._listener.ready())
        try:
            await asyncio.wait((ready, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done() and not self._failed.cancelled():
                self._failed.result()
        finally:
            ready.cancel()

    async def stop(self) -> None:
        """Give the queue up."""
        await self._task.stop()
        if not self._failed.cancel():
            self._failed.exception()  # whoever watched has been told
