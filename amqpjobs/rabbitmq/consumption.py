"""Consuming: a consumer that is always there again.

Changes when starting, losing or ending a consumer does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.background import end_if_cancelled
from amqpjobs.errors import AmqpJobsError, ConfigurationError
from amqpjobs.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.rabbitmq.connection import Link, Wire
from amqpjobs.rabbitmq.deliveries import ConsumerChannel, OnDelivery
from amqpjobs.rabbitmq.refusals import refusal_of

log = logging.getLogger("amqpjobs.rabbitmq")

RESTART_PAUSE = 0.5
"""Seconds before a consumer that was lost is started again; five times that at most."""

ACKS_ARRIVE = 0.1
"""Seconds between the last ack and closing its channel. RabbitMQ 4.3.6 can give acked messages of a
quorum queue back when the channel closes right behind their acks, even when a later request on the
channel was answered: seen in 10 of 40 runs without a pause, in none of 60 with 20 ms or more."""

CANCEL_TIMEOUT = 2.0
"""Seconds for the broker to answer `basic.cancel` when stopping."""


class Subscription:
    """One consumer on one queue, started again whenever it is lost.

    Args:
        link: the connection.
        queue: the AMQP queue.
        prefetch: deliveries that may be unsettled at once; see `consume_with`.
        on_delivery: called for each delivery, from the event loop, and must not block.
        ensure: called before each start; declares or checks the queue.
        arguments: of `basic.consume` on this connection.
        on_lost: called with the queue and the reason when the consumer is lost.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        prefetch: int,
        on_delivery: OnDelivery,
        ensure: Callable[[Wire], Awaitable[None]],
        arguments: Callable[[Wire, str], Mapping[str, Any] | None] | None = None,
        on_lost: Callable[[str, str], None] | None = None,
    ) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.starts = 0
        self._link = link
        self._on_delivery = on_delivery
        self._ensure = ensure
        self._arguments = arguments
        self._on_lost = on_lost
        self._channel: ConsumerChannel | None = None
        self._underlay: Any = None
        self._tag: str | None = None
        self._cancelled = asyncio.Event()
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._has = prefetch
        self._changed = asyncio.Event()
        self._resting = asyncio.Event()

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

    @property
    def paused(self) -> bool:
        """Whether it was told not to consume for now: then it is not lost."""
        return self.prefetch == 0

    def consume_with(self, prefetch: int) -> None:
        """Consume with this prefetch from now on, on the same channel: what is unsettled can still
        be settled. 0 is to consume nothing, until told otherwise, over all lives of the link."""
        self.prefetch = prefetch
        self._changed.set()

    async def rested(self) -> None:
        """Wait until nothing is delivered any more, after ``consume_with(0)``."""
        await self._resting.wait()

    async def started(self) -> None:
        """Wait until it consumes."""
        await self._started.wait()

    async def answered(self) -> None:
        """Wait until RabbitMQ has answered on the channel, or the channel is gone: then it is known
        which deliveries are still ours."""
        underlay, channel = self._underlay, self._channel
        if underlay is None:
            return
        try:
            with from_broker():
                await underlay.basic_qos(prefetch_count=self.prefetch)
        except FAILURES as error:
            log.debug("no answer on the channel of %s: %r", self.queue, error)
            if channel is not None:
                channel.close()  # what came on it is stale, whoever learns first that it is gone

    def restart(self) -> None:
        """Consume again: for the watchdog, when this side missed that the consumer is gone."""
        self._cancelled.set()

    async def run(self) -> None:
        """Consume until cancelled or `cancel` is called.

        Raises:
            ConfigurationError: at the first start: what trying again would not mend, such as a
                missing permission.
        """
        failures = 0
        while not self._stopping.is_set():
            self._resting.set()
            wire = await self._link.up()
            if self.paused:
                await self._rest(wire)
                continue
            self._resting.clear()
            try:
                await self._start(wire)
            except (AmqpJobsError, *FAILURES) as error:
                end_if_cancelled()
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
            reason = await self._until_ended(wire)
            if self._stopping.is_set():
                # Running jobs are still to be settled on this channel.
                return
            if reason is None:
                continue
            log.warning("consumer lost", extra={"queue": self.queue, "reason": reason})
            channel_lost = self._channel_lost(wire)
            if channel_lost and self._channel is not None:
                self._channel.close()  # before anybody asks which deliveries are stale
            if self._on_lost is not None:
                self._on_lost(self.queue, reason)
            if channel_lost:
                await self._drop()

    async def _rest(self, wire: Wire) -> None:
        """Wait until told to consume; leave the channel if it is lost meanwhile."""
        while self.paused and not self._stopping.is_set():
            self._changed.clear()
            self._cancelled.clear()
            if self._underlay is None:
                await self._changed.wait()
            elif await self._until_lost(wire) is not None:
                await self._drop()
                return

    async def _until_ended(self, wire: Wire) -> str | None:
        """Wait until the consumer is lost, and why; None if it was ended to consume otherwise."""
        if not self.consuming and self.paused:
            return None  # told so while it was about to start
        while True:
            reason = await self._until_lost(wire)
            if reason is not None or self._stopping.is_set():
                return reason
            self._changed.clear()
            if self._has != self.prefetch:
                await self._cancel()
                return None

    async def _start(self, wire: Wire) -> None:
        """Consume: on the channel that is there, so that what runs can still be settled on it, or
        on a new one."""
        await self._ensure(wire)
        if self._underlay is None:
            self._underlay = await wire.channel()
            self._underlay.on_consumer_cancel_callbacks.add(lambda _: self._cancelled.set())
            self._channel = ConsumerChannel(wire, self._underlay, self.queue, self._on_delivery)
        if self.paused:
            return
        self._cancelled.clear()
        self._changed.clear()
        self._has = self.prefetch
        # Not of the channel, but of the consumers that are started on it from now on
        # (https://www.rabbitmq.com/docs/consumer-prefetch).
        arguments = self._arguments(wire, self.queue) if self._arguments else None
        try:
            with from_broker():
                await self._underlay.basic_qos(prefetch_count=self._has)
                answer = await self._underlay.basic_consume(
                    self.queue, _unused, arguments=arguments
                )
        except aiormq_errors.ChannelAccessRefused as error:
            raise refusal_of(error, "read") from error
        self._tag = answer.consumer_tag
        self.starts += 1
        self._started.set()
        log.info("consuming", extra={"queue": self.queue, "prefetch": self._has})

    def _channel_lost(self, wire: Wire) -> bool:
        return wire.lost.is_set() or self._underlay is None or self._underlay.is_closed

    async def _until_lost(self, wire: Wire) -> str | None:
        """Wait, and say why; None if it was told something meanwhile."""
        closing = self._underlay.closing
        waits = [
            asyncio.ensure_future(wire.lost.wait()),
            asyncio.ensure_future(self._cancelled.wait()),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait((closing, *waits), return_when=asyncio.FIRST_COMPLETED)
            if wire.lost.is_set():
                return wire.reason or "the connection was lost"
            if closing.done() and not closing.cancelled():
                return str(closing.exception() or "the channel was closed")
            if self._changed.is_set() and not self._cancelled.is_set():
                return None
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
                    with from_broker():
                        await underlay.close()
            except FAILURES as error:
                log.debug("closing a channel: %r", error)

    async def cancel(self) -> None:
        """Ask for no more deliveries. What is unsettled can still be settled."""
        self._stopping.set()
        self._changed.set()
        await self._cancel()

    async def _cancel(self) -> None:
        self.flush()
        underlay, tag = self._underlay, self._tag
        if underlay is None or not self.consuming or tag is None:
            return
        try:
            # A cancelled channel call closes its channel in aiormq, and with it every unsettled
            # delivery: so it runs on by itself, and only the waiting ends.
            async with asyncio.timeout(CANCEL_TIMEOUT):
                with from_broker():
                    await asyncio.shield(asyncio.ensure_future(underlay.basic_cancel(tag)))
        except FAILURES as error:
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
            wire = self._link.wire
            if wire is None or wire.profile.undoes_last_acks:
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
