"""Consuming: deliveries in, acks out, and a consumer that is always there again.

Changes when the way of a delivery between RabbitMQ and the worker does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, ConfigurationError
from amqpjobs.message import Properties
from amqpjobs.rabbitmq.connection import Link, Wire
from amqpjobs.rabbitmq.frames import (
    HeaderView,
    encode_ack,
    encode_nack,
    readable_properties,
    split_header,
)

log = logging.getLogger("amqpjobs.rabbitmq")

RESTART_PAUSE = 0.5
"""Seconds before a consumer that was lost is started again; five times that at most."""

ACKS_ARRIVE = 0.1
"""Seconds between the last ack and closing its channel. RabbitMQ 4.3.6 can give acked messages of a
quorum queue back when the channel closes right behind their acks, even when a later request on the
channel was answered: seen in 10 of 40 runs without a pause, in none of 60 with 20 ms or more."""

CANCEL_TIMEOUT = 2.0
"""Seconds for the broker to answer `basic.cancel` when stopping."""


class Delivery:
    """One message as RabbitMQ delivered it, and the one chance to settle it.

    Attributes:
        queue: the AMQP queue it was consumed from.
        tag: the delivery tag, worth something on its channel only.
        redelivered: whether it was delivered before.
        header: the content header as it came; decoded where it is looked at.
        body: bytes.
        settled: whether `ack` or `release` was called. The second call of either is a bug in
            amqpjobs, and raises.
    """

    __slots__ = ("_channel", "_header", "_view", "body", "queue", "redelivered", "settled", "tag")

    def __init__(
        self, channel: "_ConsumerChannel", tag: int, redelivered: bool, header: bytes, body: bytes
    ) -> None:
        self._channel = channel
        self._header = header
        self._view: HeaderView | None = None
        self.queue = channel.queue
        self.tag = tag
        self.redelivered = redelivered
        self.body = body
        self.settled = False

    @property
    def header(self) -> HeaderView:
        """The properties, decoded on first use.

        Raises:
            DecodeError: they are not what AMQP allows.
        """
        view = self._view
        if view is None:
            view = self._view = split_header(self._header)
        return view

    def properties(self) -> Properties:
        """All properties as a value.

        Raises:
            DecodeError: they are not what AMQP allows.
        """
        return self.header.properties()

    def readable_properties(self) -> Properties:
        """As many of the properties as can be read, for a copy: what cannot is left behind."""
        return readable_properties(self._header)

    @property
    def stale(self) -> bool:
        """Whether its channel is gone: RabbitMQ delivers it again, and no ack will reach it."""
        return self._channel.closed

    def ack(self) -> None:
        """It is done: RabbitMQ may forget it."""
        self._settle()
        self._channel.ack(self.tag)

    def release(self) -> None:
        """Give it back to its queue (`basic.nack` with requeue)."""
        self._settle()
        self._channel.nack(self.tag)

    def _settle(self) -> None:
        if self.settled:
            raise AssertionError(f"delivery {self.tag} of {self.queue} is settled twice")
        self.settled = True

    def __repr__(self) -> str:
        return f"<Delivery {self.tag} of {self.queue}{', settled' if self.settled else ''}>"


OnDelivery = Callable[[Delivery], None]


class _ConsumerChannel:
    """The channel of one consumer in one life: turns frames into deliveries, batches the acks."""

    def __init__(self, wire: Wire, underlay: Any, queue: str, on_delivery: OnDelivery) -> None:
        self.queue = queue
        self.closed = False
        self.acked_at = 0.0
        self._protocol = wire.protocol
        self._number: int = underlay.number
        self._on_delivery = on_delivery
        self._acked: set[int] = set()
        self._settled: set[int] = set()
        self._lowest = 1
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self._protocol.divert(self._number, self, self._on_close)

    def delivered(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        self._on_delivery(Delivery(self, delivery_tag, redelivered, header, body))

    def returned(self, *_: object) -> None:
        """Nothing is published on this channel."""

    def confirmed(self, delivery_tag: int, multiple: bool, acked: bool) -> None:
        """Nothing is published on this channel."""

    def ack(self, tag: int) -> None:
        """Ack at the end of this turn of the event loop, together with the others of it."""
        if self.closed:
            return
        self._acked.add(tag)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def nack(self, tag: int) -> None:
        """Give back, after the acks that were made before."""
        if self.closed:
            return
        self.flush()
        self._settled.add(tag)
        self._protocol.write(encode_nack(self._number, tag, False, True))

    def flush(self) -> None:
        """Write the acks. Those that reach up from the lowest open tag become one frame."""
        self._scheduled = False
        acked, settled = self._acked, self._settled
        if not acked or self.closed:
            return
        lowest, highest = self._lowest, 0
        while True:
            if lowest in acked:
                acked.remove(lowest)
                highest = lowest
            elif lowest in settled:
                settled.remove(lowest)
            else:
                break
            lowest += 1
        self._lowest = lowest
        # Everything below `lowest` is settled, so `multiple` acks nothing that did not succeed.
        frames = [encode_ack(self._number, highest, True)] if highest else []
        frames += [encode_ack(self._number, tag, False) for tag in acked]
        settled |= acked
        acked.clear()
        self.acked_at = self._loop.time()
        self._protocol.write(b"".join(frames))

    def _on_close(self) -> None:
        self.closed = True
        self._acked.clear()

    def close(self) -> None:
        self._on_close()
        self._protocol.undivert(self._number)


class Subscription:
    """One consumer on one queue, started again whenever it is lost.

    Args:
        link: the connection.
        queue: the AMQP queue.
        prefetch: deliveries that may be unsettled at once.
        on_delivery: called for each delivery, from the event loop, and must not block.
        ensure: called before each start; declares or checks the queue.
        arguments: of `basic.consume`.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        prefetch: int,
        on_delivery: OnDelivery,
        ensure: Callable[[Wire], Awaitable[None]],
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.starts = 0
        self._link = link
        self._on_delivery = on_delivery
        self._ensure = ensure
        self._arguments = dict(arguments or {})
        self._channel: _ConsumerChannel | None = None
        self._underlay: Any = None
        self._tag: str | None = None
        self._cancelled = asyncio.Event()
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        state = "consuming" if self.consuming else "not consuming"
        return f"<Subscription {self.queue}: {state}, start {self.starts}>"

    @property
    def consuming(self) -> bool:
        """Whether RabbitMQ has this consumer, as far as this side can see."""
        channel, underlay = self._channel, self._underlay
        return (
            channel is not None
            and not channel.closed
            and not underlay.is_closed
            and self._tag in underlay.consumers
            and not self._cancelled.is_set()
            and self._link.wire is not None
        )

    async def started(self) -> None:
        """Wait until it consumes."""
        await self._started.wait()

    def restart(self) -> None:
        """Consume again: for the watchdog, when this side missed that the consumer is gone."""
        self._cancelled.set()

    async def run(self) -> None:
        """Consume until cancelled or `cancel` is called."""
        failures = 0
        while not self._stopping.is_set():
            wire = await self._link.up()
            try:
                await self._start(wire)
            except (AmqpJobsError, aiormq_errors.AMQPError, TimeoutError) as error:
                await self._drop()
                if self.starts == 0 and isinstance(error, ConfigurationError):
                    raise
                failures += 1
                log.warning(
                    "consumer could not start, trying again",
                    extra={"queue": self.queue, "error": str(error) or repr(error)},
                )
                await _pause(wire, min(failures, 5) * RESTART_PAUSE)
                continue
            failures = 0
            reason = await self._until_lost(wire)
            if self._stopping.is_set():
                # Running jobs are still to be settled on this channel.
                return
            log.warning("consumer lost", extra={"queue": self.queue, "reason": reason})
            if self._channel_lost(wire):
                await self._drop()

    async def _start(self, wire: Wire) -> None:
        """Consume: on the channel that is there, so that what runs can still be settled on it, or
        on a new one."""
        await self._ensure(wire)
        if self._underlay is None:
            self._underlay = await wire.channel()
            await self._underlay.basic_qos(prefetch_count=self.prefetch)
            self._underlay.on_consumer_cancel_callbacks.add(lambda _: self._cancelled.set())
            self._channel = _ConsumerChannel(wire, self._underlay, self.queue, self._on_delivery)
        self._cancelled.clear()
        answer = await self._underlay.basic_consume(
            self.queue, _unused, arguments=self._arguments or None
        )
        self._tag = answer.consumer_tag
        self.starts += 1
        self._started.set()
        log.info("consuming", extra={"queue": self.queue, "prefetch": self.prefetch})

    def _channel_lost(self, wire: Wire) -> bool:
        return wire.lost.is_set() or self._underlay is None or self._underlay.is_closed

    async def _until_lost(self, wire: Wire) -> str:
        closing = self._underlay.closing
        waits = [
            asyncio.ensure_future(wire.lost.wait()),
            asyncio.ensure_future(self._cancelled.wait()),
        ]
        try:
            await asyncio.wait((closing, *waits), return_when=asyncio.FIRST_COMPLETED)
            if wire.lost.is_set():
                return wire.reason or "the connection was lost"
            if closing.done() and not closing.cancelled():
                return str(closing.exception() or "the channel was closed")
            return "cancelled by the broker, or by the watchdog"
        finally:
            for wait in (closing, *waits):
                wait.cancel()

    async def _drop(self) -> None:
        """Leave the channel: whatever is unsettled on it, RabbitMQ delivers again."""
        self._started.clear()
        channel, self._channel = self._channel, None
        underlay, self._underlay = self._underlay, None
        if channel is not None:
            channel.flush()
            channel.close()
        if underlay is not None and not underlay.is_closed:
            try:
                async with asyncio.timeout(CANCEL_TIMEOUT):
                    await underlay.close()
            except (TimeoutError, aiormq_errors.AMQPError) as error:
                log.debug("closing a channel: %r", error)

    async def cancel(self) -> None:
        """Ask for no more deliveries. What is unsettled can still be settled."""
        self._stopping.set()
        self.flush()
        underlay, tag = self._underlay, self._tag
        if underlay is None or not self.consuming or tag is None:
            return
        try:
            # A cancelled channel call closes its channel in aiormq, and with it every unsettled
            # delivery: so it runs on by itself, and only the waiting ends.
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await asyncio.shield(asyncio.ensure_future(underlay.basic_cancel(tag)))
        except (TimeoutError, BrokerUnavailable, aiormq_errors.AMQPError) as error:
            log.warning("basic.cancel: %r", error, extra={"queue": self.queue})

    def flush(self) -> None:
        """Write the acks that wait for the end of this turn."""
        if self._channel is not None:
            self._channel.flush()

    async def close(self) -> None:
        """Leave the channel, when nothing is left to settle on it."""
        self._stopping.set()
        if self._channel is not None and not self._channel.closed:
            self._channel.flush()
            age = asyncio.get_running_loop().time() - self._channel.acked_at
            await asyncio.sleep(max(0.0, ACKS_ARRIVE - age))
        await self._drop()


async def _unused(message: object) -> None:
    """aiormq wants a callback; the splitter takes every delivery before it."""


async def _pause(wire: Wire, seconds: float) -> None:
    if seconds:
        try:
            async with asyncio.timeout(seconds):
                await wire.lost.wait()
        except TimeoutError:
            return
