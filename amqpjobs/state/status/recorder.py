"""The recorder: from the queue of events to the store, in batches.

What is written is acked, and nothing else: a recorder that dies, or a database that is away, costs
no event that the queue has room for. Several may run; they share the work. Changes when recording
does.
"""

import asyncio
import logging
import time
from collections import deque
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.background import first_error, lasting
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.errors import StoreUnavailable
from amqpjobs.jobs.message.event_codec import decode_events
from amqpjobs.jobs.message.events import Event
from amqpjobs.jobs.queue.topology import RECORDER_QUEUE, RECORDER_TOPOLOGY
from amqpjobs.state.status.opening import open_store
from amqpjobs.telemetry.health.condition import condition
from amqpjobs.telemetry.health.heartbeat_file import OK

if TYPE_CHECKING:
    from amqpjobs.settings import Settings
    from amqpjobs.state.status.store import Store

log = logging.getLogger("amqpjobs.status")

PREFETCH = 50
"""Messages that are held at once; each has up to 500 events."""

BATCH = 500
"""Events after which a batch is written without waiting for more."""

GATHER = 0.2
"""Seconds that an event waits for others before it is written, at most."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds before a write that failed is tried again; they double each time."""

PATIENCE = 5.0
"""Seconds that events may be held without being written, before the recorder is not ok."""

NOT_RECORDING = "not recording"
"""The state of a recorder that holds events and writes none."""

PRUNE_EVERY = 60.0
"""Seconds between two rounds of forgetting what is old."""


class Recorder:
    """Writes what happens to jobs into the store.

    Args:
        settings: say where RabbitMQ and the store are. It records the events of all apps of the
            virtual host.
        store: one that is open already, and that somebody else closes; None to open one.

    Attributes:
        recorded: events that were written.
        dropped: what was in messages of events and was none, or cannot be kept.
    """

    def __init__(self, settings: "Settings", store: "Store | None" = None) -> None:
        self.recorded = 0
        self.dropped = 0
        self._settings = settings
        self._store = store
        self._link = Link(settings, "record")
        self._subscription = Subscription(
            self._link, RECORDER_QUEUE, PREFETCH, self._take, self._ensure
        )
        self._held: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._failing = False
        self._writing = False
        self._batches = 0
        self._seen: int | None = None
        self._since = time.monotonic()

    def __repr__(self) -> str:
        return (
            f"<Recorder: {self.recorded} recorded, {self.dropped} dropped, {len(self._held)} held>"
        )

    @property
    def condition(self) -> str:
        """How it is, as of a worker: see `Liveness`; and `NOT_RECORDING`."""
        found = condition(self._link, None, [self._subscription])
        return NOT_RECORDING if found == OK and self.stalled() else found

    def stalled(self) -> bool:
        """Whether it holds events, and has written none since it was asked first, `PATIENCE`
        seconds ago at least: by a store that is away, or whatever else keeps it."""
        now, holds = time.monotonic(), bool(self._held) or self._writing
        if not holds or self._seen != self._batches:
            self._seen, self._since = self._batches if holds else None, now
        return now - self._since >= PATIENCE

    async def started(self) -> None:
        """Wait until it consumes."""
        await self._subscription.started()

    async def run(self) -> None:
        """Record until cancelled. What is held then is given back by closing the connection.

        Raises:
            BrokerUnavailable: no connection at start.
            ConfigurationError: the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached at start.
            TopologyMismatch: the queue is not there, and may not be declared; or is different.
            NotPermitted: this user may not read it.
        """
        with first_error():
            await self._run()

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            store = self._store
            if store is None:
                store = await open_store(self._settings)
                stack.push_async_callback(store.close)
            stack.push_async_callback(self._link.close)
            await self._ensure(await self._link.connect())
            stack.push_async_callback(self._subscription.close)
            async with asyncio.TaskGroup() as group:
                for name, work in (
                    ("amqpjobs recording link", self._link.run),
                    ("amqpjobs recording", self._subscription.run),
                    ("amqpjobs recorder", partial(self._write, store)),
                    ("amqpjobs pruning", partial(self._prune, store)),
                ):
                    group.create_task(lasting(work, name), name=name)

    async def _ensure(self, wire: Wire) -> None:
        async with Declarer(wire) as declarer:
            if self._settings.declare_topology:
                await declarer.apply(RECORDER_TOPOLOGY)
            else:
                await declarer.require(RECORDER_TOPOLOGY)

    def _take(self, delivery: Delivery) -> None:
        self._held.append(delivery)
        self._arrived.set()

    async def _write(self, store: "Store") -> None:
        while True:
            deliveries, events = await self._batch()
            self._writing = True
            unfit = await self._persistently(store, events)
            self.recorded += len(events) - unfit
            self.dropped += unfit
            for delivery in deliveries:
                # One whose channel is gone comes again, and changes nothing.
                delivery.ack()
            self._writing = False
            self._batches += 1

    async def _batch(self) -> tuple[list[Delivery], list[Event]]:
        """Wait for events, and a moment for more of them."""
        deliveries: list[Delivery] = []
        events: list[Event] = []
        deadline: float | None = None
        clock = asyncio.get_running_loop().time
        while len(events) < BATCH:
            if not self._held:
                self._arrived.clear()
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._arrived.wait()
                except TimeoutError:
                    break
            if deadline is None:
                deadline = clock() + GATHER
            delivery = self._held.popleft()
            if delivery.stale:
                continue
            found, dropped = decode_events(delivery.body)
            if dropped:
                self.dropped += dropped
                log.debug("malformed events dropped", extra={"count": dropped})
            events += found
            deliveries.append(delivery)
        return deliveries, events

    async def _persistently(self, store: "Store", events: list[Event]) -> int:
        """Write a batch, however long the database is away. How many were unfit for it."""
        pause = FIRST_PAUSE
        while True:
            try:
                unfit = await store.record(events)
            except StoreUnavailable as error:
                if not self._failing:
                    self._failing = True
                    log.error("events not recorded, trying again", extra={"error": str(error)})  # noqa: TRY400 - the error says it
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            if self._failing:
                self._failing = False
                log.info("events are recorded again")
            return unfit

    async def _prune(self, store: "Store") -> None:
        from amqpjobs.state.status.store import PRUNE_BATCH

        while True:
            now = time.time()
            try:
                more = True
                while more:
                    pruned = await store.prune(now - self._settings.status_ttl, now)
                    more = pruned >= PRUNE_BATCH
            except StoreUnavailable as error:
                log.debug("pruning failed", extra={"error": str(error)})
            await asyncio.sleep(PRUNE_EVERY)
