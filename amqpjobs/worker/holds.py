"""Follows what operators have set for queues: looks at the marker, and lets `Pausing` do it.

A worker looks before it consumes, on each new connection, and when it is notified. Nothing is
polled. Changes when a worker looks at another time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from amqpjobs.broker.rabbitmq.calls import FAILURES
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.hold_marker import MarkerNotSeen, look_at_marker
from amqpjobs.broker.rabbitmq.lives import Lives, down_pause, is_down, restart_pause
from amqpjobs.errors import AmqpJobsError, DecodeError, NotPermitted
from amqpjobs.jobs.queue.holds import Hold, read_holds
from amqpjobs.worker.pausing import Pausing

log = logging.getLogger("amqpjobs.worker")

MOST_WAITING = 1_000
"""Commands that are answered at once; anybody who may publish can ask."""

Done = Callable[[], object]


class Holds:
    """What operators have set, as this worker knows it.

    Without the permission to read the marker, it says so once and works on.

    Args:
        link: the consuming connection.
        pausing: pauses and resumes queues.
        missed: called when notices may have been missed, before the look.

    Attributes:
        looks: how often it has looked since notifications arrive.
    """

    def __init__(self, link: Link, pausing: Pausing, missed: Callable[[], Awaitable[None]]) -> None:
        self._missed = missed
        self._interrupted = True
        self._listening: Callable[[], Awaitable[None]] = _at_once
        self.looks = 0
        self._link = link
        self._pausing = pausing
        self._notified, self._changed = asyncio.Event(), asyncio.Event()
        self._waiting: list[Done] = []
        self._permitted = True

    def __repr__(self) -> str:
        return f"<Holds: {self.looks} looks{'' if self._permitted else ', not permitted'}>"

    def look_again(self, done: Done | None = None) -> None:
        """Look soon: something was changed.

        Args:
            done: called when it is followed here.
        """
        if done is not None:
            self._changed.set()
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(done)
        self._notified.set()

    def interrupted(self) -> None:
        """Notices may have been missed."""
        self._interrupted = True
        self.look_again()

    async def first(self, wire: Wire) -> None:
        """Look before anything is consumed: a paused queue must not start a job meanwhile. If that
        fails, `run` looks again."""
        try:
            await self._look(wire)
        except (AmqpJobsError, *FAILURES) as error:
            log.warning("paused queues not seen, trying again", extra={"error": str(error)})

    async def run(self, listening: Callable[[], Awaitable[None]]) -> None:
        """Look on each connection, and when notified, until cancelled.

        Args:
            listening: waits until notifications arrive here: looking before would miss a change.
        """
        self._listening = listening
        async for wire, _ in Lives(self._link.up, self._look_and_follow, self._not_seen):
            waits = [asyncio.ensure_future(e.wait()) for e in (wire.lost, self._notified)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _look_and_follow(self, wire: Wire) -> None:
        await self._listening()
        self._notified.clear()
        self._changed.clear()
        if self._interrupted:
            self._interrupted = False
            await self._missed()
        waiting, self._waiting = self._waiting, []
        try:
            await self._look(wire)
            await self._pausing.followed()
        except BaseException:
            self._waiting = waiting + self._waiting
            raise
        self.looks += 1
        for done in waiting:
            done()

    async def _look(self, wire: Wire) -> None:
        if not self._permitted:
            return
        try:
            body = await look_at_marker(wire)
            holds: Mapping[str, Hold] = {} if body is None else read_holds(body)
        except NotPermitted as error:
            self._permitted = False
            log.warning("pauses by operators are not followed", extra={"error": str(error)})
        except DecodeError as error:
            # What was known before still holds: an unreadable marker resumes nothing.
            log.warning("marker of paused queues unreadable", extra={"error": str(error)})
        else:
            self._pausing.hold(holds)

    async def _not_seen(self, wire: Wire, error: Exception, failures: int) -> float:
        down = is_down(wire)
        if down or not wire.lost.is_set():
            log.warning("paused queues not seen, trying again", extra={"error": str(error)})
        if down or isinstance(error, MarkerNotSeen):
            # Where the marker's own queue has no leader, each look costs all consumers their
            # connection; that one is new is no reason to look sooner. A change is: then the marker
            # was written.
            with suppress(TimeoutError):
                async with asyncio.timeout(down_pause(failures)):
                    await self._changed.wait()
        return restart_pause(failures)


async def _at_once() -> None:
    """Nothing is waited for."""
