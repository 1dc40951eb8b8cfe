"""Publishes events: many in one message, without waiting for confirms.

What cannot be sent is dropped and counted, and nobody listening costs next to nothing: then
RabbitMQ returns a message, and for two seconds no other is sent. Changes when the way of events
does.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from amqpjobs.broker.amqp.contents import IdleSink
from amqpjobs.broker.amqp.frames import encode_publish
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.lives import Lives, pause, until_lost
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.events import EVENTS_TYPE, Announcement
from amqpjobs.jobs.message.properties import JSON, TRANSIENT, Properties
from amqpjobs.jobs.queue.topology import EVENTS_EXCHANGE, EVENTS_TOPOLOGY
from amqpjobs.jobs.run_context import context_of_nobody

log = logging.getLogger("amqpjobs.rabbitmq")

INTERVAL = 0.05
"""Seconds that an event waits for others, at most."""

BATCH = 500
"""Events in one message; and how many are kept without a listener."""

KEPT = 10 * BATCH
"""Events that are kept while none can be sent: work begins before the channel for them is open."""

BATCH_BYTES = 1_000_000
"""Bytes of results in one message: results are large, events are not."""

SILENCE = 2.0
"""Seconds until it is tried again whether somebody listens."""

STUCK = 0.5
"""Seconds until it is tried again whether there is a way to the broker."""

REFUSED = 30.0
"""Seconds until a channel is opened again after RabbitMQ has refused one: no such exchange, or no
permission for it."""

FEWEST_CHANNELS = 8
"""Channels that a connection must allow for events to take one: where they are few, publishing and
declaring need them."""

LAST_WORDS = 1.0
"""Seconds for the channel to come up when this process ends before it did."""

FIX = (
    f"run `amqpjobs topology apply`, permit to write to the exchange {EVENTS_EXCHANGE}, or set "
    "AMQPJOBS_EVENTS=0"
)
"""What to do when events cannot be sent; until then the status of running jobs is unknown."""

Encode: TypeAlias = Callable[[Iterable[Announcement]], bytes]


class Announcements:
    """Collects events and sends them on one link, over all its lives.

    Args:
        link: the connection for publishing.
        app: the name of the app, which is the routing key.
        encode: makes the body of a message.
        enabled: whether events are sent at all.
        declare: whether the exchange may be declared.

    Attributes:
        enabled: as given; no more in the end.
        gather: called before a message is made: who has events that are not made yet adds them.
        listening: whether somebody hears, as far as is known. While nobody does, what is added is
            kept for the next attempt, the newest of it: who has work with an event that need not
            be, looks here first.
        sent: events that were sent.
        dropped: events that were not, and never will be.
    """

    def __init__(
        self, link: Link, app: str, encode: Encode, *, enabled: bool, declare: bool
    ) -> None:
        self.enabled = enabled
        self.listening = enabled
        self.sent = 0
        self.dropped = 0
        self.gather: list[Callable[[], None]] = []
        self._link = link
        self._routing_key = app.encode()[:255].decode(errors="ignore")
        self._encode = encode
        self._declare = declare
        self._properties = Properties(
            content_type=JSON, delivery_mode=TRANSIENT, type=EVENTS_TYPE, app_id=self._routing_key
        )
        self._waiting: deque[Announcement] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._channel: _Channel | None = None
        self._attached = asyncio.Event()
        self._complained = False
        self._loop = asyncio.get_running_loop()
        self._own = context_of_nobody()  # not that of the job which has the first event

    def __repr__(self) -> str:
        state = "listening" if self.listening else "no listener"
        return f"<Announcements: {len(self._waiting)} waiting, {state}, {self.dropped} dropped>"

    def add(self, announcement: Announcement, size: int = 0) -> None:
        """Send an event soon. Never waits, never raises.

        Args:
            size: bytes of the result in it.
        """
        if not self.enabled:
            return
        waiting = self._waiting
        if len(waiting) >= BATCH and (len(waiting) >= KEPT or not self.listening):
            waiting.popleft()
            self.dropped += 1
        waiting.append(announcement)
        self._bytes += size
        if self._timer is None:
            self._timer = self._loop.call_later(INTERVAL, self._flush, context=self._own)
        elif (not len(waiting) % BATCH and self.listening) or self._bytes > BATCH_BYTES:
            self._send()

    def wake(self) -> None:
        """Somebody has events that are not made yet: they are gathered soon."""
        if self._timer is None and self.enabled:
            self._timer = self._loop.call_later(INTERVAL, self._flush, context=self._own)

    def _flush(self) -> None:
        self._timer = None
        self.listening = self.enabled
        for gather in self.gather:
            gather()
        if self._waiting and not self._send() and self._timer is None:
            self._timer = self._loop.call_later(STUCK, self._flush, context=self._own)

    def _send(self) -> bool:
        """Send what waits, and whether there was a way."""
        while self._waiting:
            channel = self._channel
            if channel is None or not channel.has_room:
                if self._bytes > BATCH_BYTES:
                    self._drop()
                return False
            self._send_batch(channel)
        return True

    def _send_batch(self, channel: "_Channel") -> None:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        if not waiting:
            self._bytes = 0
        try:
            body = self._encode(batch)
        except Exception:
            # An event must never fail a job, and one that cannot be encoded is a bug of ours.
            log.exception("events not encodable, dropped")
            self.dropped += len(batch)
            return
        channel.transmit(self._routing_key, self._properties, body)
        self.sent += len(batch)

    def _drop(self) -> None:
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._bytes = 0

    def _on_return(self) -> None:
        """Nobody listens: what was sent has come back."""
        self.listening = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(SILENCE, self._flush, context=self._own)

    async def run(self) -> None:
        """Keep a channel open in each life of the link, until cancelled."""
        if not self.enabled:
            return
        async for wire, channel in Lives(self._link.up, self._attach, self._not_attached):
            try:
                reason = await until_lost(wire, channel.underlay)
            finally:
                self._channel = None
                self._attached.clear()
                channel.leave()
            if not wire.lost.is_set():
                self._report(reason)
                await pause(wire, REFUSED)

    async def _attach(self, wire: Wire) -> "_Channel":
        if wire.channel_max < FEWEST_CHANNELS:
            raise ConfigurationError(
                f"the broker allows {wire.channel_max} channels a connection, and jobs come first"
            )
        async with Declarer(wire) as declarer:
            if self._declare:
                await declarer.apply(EVENTS_TOPOLOGY)
            else:
                await declarer.require(EVENTS_TOPOLOGY)
        channel = _Channel(wire, await wire.channel(), self._on_return)
        self._channel = channel
        self._attached.set()
        self._complained = False
        return channel

    async def _not_attached(self, wire: Wire, error: Exception, failures: int) -> float:
        self._report(str(error) or repr(error))
        return REFUSED

    def _report(self, reason: str) -> None:
        level = logging.DEBUG if self._complained else logging.WARNING
        self._complained = True
        log.log(
            level,
            "events cannot be sent",
            extra={"reason": reason, "fix": FIX},
        )

    async def last_words(self) -> None:
        """Send what waits before the connection is closed, waiting a moment for the channel."""
        if self._waiting and self._channel is None and self._link.wire is not None:
            try:
                async with asyncio.timeout(LAST_WORDS):
                    await self._attached.wait()
            except TimeoutError:
                log.debug("events not sent at close", extra={"count": len(self._waiting)})
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self.enabled = self.listening = False
        if self._timer is not None:
            self._timer.cancel()


class _Channel(IdleSink):
    """The channel of one life: no confirms, only returns."""

    def __init__(self, wire: Wire, underlay: Any, on_return: Callable[[], None]) -> None:
        self._wire = wire
        self.underlay = underlay
        self._on_return = on_return
        self._open = True
        self._blocked = False
        self._protocol = wire.protocol
        self._number: int = underlay.number
        self._protocol.divert(self._number, self, self._on_close)
        self._protocol.on_blocked.append(self._block)
        self._protocol.on_unblocked.append(self._unblock)

    @property
    def has_room(self) -> bool:
        """Whether a message may be sent: in the way of nobody, and not on a channel that the broker
        has closed, where a frame would cost the connection."""
        return (
            self._open
            and not self._blocked
            and self._protocol.writable
            and not self.underlay.is_closed
        )

    def transmit(self, routing_key: str, properties: Properties, body: bytes) -> None:
        """Send one message; it comes back if nobody listens."""
        self._protocol.write(
            encode_publish(
                self._number, EVENTS_EXCHANGE, routing_key, properties, body, self._wire.frame_max
            )
        )

    def leave(self) -> None:
        """Stop using the channel."""
        self._open = False
        if self._wire.lost.is_set() or self.underlay.is_closed:
            self._protocol.undivert(self._number)
        # Else the connection is about to be closed. What comes back until then stays ours: aiormq
        # would write it into the log, results and all.
        self._protocol.on_blocked.remove(self._block)
        self._protocol.on_unblocked.remove(self._unblock)

    def _block(self, reason: str) -> None:
        self._blocked = True

    def _unblock(self) -> None:
        self._blocked = False

    def _on_close(self) -> None:
        self._open = False

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, header: bytes, body: bytes
    ) -> None:
        """A message that no queue wants."""
        self._on_return()
