"""Consumes a queue, and consumes it again after each loss.

Changes when starting, losing or ending a consumer does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.calls import (
    FAILURES,
    close_channel,
    from_broker,
    unused_callback,
)
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, OnDelivery
from amqpjobs.broker.rabbitmq.lives import Lives, down_pause, is_down, restart_pause, until_lost
from amqpjobs.broker.rabbitmq.permission_errors import in_exclusive_use, refusal_of
from amqpjobs.broker.rabbitmq.single_channel import Occupancy, SingleChannel
from amqpjobs.broker.rabbitmq.translated_delivery import Translate, translating
from amqpjobs.errors import ConfigurationError

log = logging.getLogger("amqpjobs.rabbitmq")

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
        place: what runs here of a singleton queue: its consumer is not cancelled meanwhile. None
            for other queues.
        translate: reads the messages of other programs as jobs; None for a queue that gets none.

    Attributes:
        starts: how often it has begun to consume.
        starting: whether it is about to, and waits for the broker, or for a queue that is down.
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
        place: Occupancy | None = None,
        translate: Translate | None = None,
    ) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.starts = 0
        self.starting = False
        self._link = link
        self._on_delivery = on_delivery
        self._ensure = ensure
        self._arguments = arguments
        self._on_lost = on_lost
        self._place, self._translate = place, translate
        self._channel: ConsumerChannel | None = None
        self._underlay: Any = None
        self._wire: Wire | None = None  # where that channel is
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
            log.debug("channel did not answer", extra={"queue": self.queue, "error": repr(error)})
            if channel is not None:
                channel.close()  # what came on it is stale, whoever learns first that it is gone

    def restart(self) -> None:
        """Consume again: for the watchdog, when this side missed that the consumer is gone."""
        self._cancelled.set()

    async def run(self) -> None:
        """Consume until cancelled or `cancel` is called.

        Raises:
            ConfigurationError: at the first start: what trying again would not fix, such as a
                missing permission.
        """
        async for wire, _ in Lives(self._next_wire, self._start, self._not_started):
            reason = await self._until_ended(wire)
            if self._stopping.is_set():
                # Running jobs are still to be settled on this channel.
                return
            if reason is not None:
                await self._consumer_lost(wire, reason)

    async def _next_wire(self) -> Wire | None:
        """The connection to consume on, once it is to consume; None when stopping."""
        while not self._stopping.is_set():
            self._resting.set()
            wire = await self._link.up()
            if not self.paused:
                self._resting.clear()
                return wire
            await self._rest(wire)
        return None

    async def _not_started(self, wire: Wire, error: Exception, failures: int) -> float:
        await self._drop()
        if self.starts == 0 and isinstance(error, ConfigurationError):
            raise error
        if is_down(wire):
            return await self._is_down(failures)
        log.warning(
            "consumer could not start, trying again",
            extra={"queue": self.queue, "error": str(error) or repr(error)},
        )
        return restart_pause(failures)

    async def _is_down(self, failures: int) -> float:
        """Wait longer each time: RabbitMQ closes the whole connection over a consumer of a queue
        that has no leader, and with it go the consumers of all other queues. They begin again at
        once, and must be left in peace. One that was about to start meanwhile fails with it: so the
        first failure says nothing, and no two queues wait equally long."""
        seconds = down_pause(failures)
        if failures > 1:
            log.warning(
                "queue is down, trying again",
                extra={"queue": self.queue, "pause_s": round(seconds, 3)},
            )
        # Not until the connection is lost, as other pauses: it is lost already.
        self.starting = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
        finally:
            self.starting = False
        return 0.0

    async def _consumer_lost(self, wire: Wire, reason: str) -> None:
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
            elif await self._until_told(wire) is not None:
                await self._drop()
                return

    async def _until_ended(self, wire: Wire) -> str | None:
        """Wait until the consumer is lost, and why; None if it was ended to consume otherwise."""
        if self._underlay is None or (not self.consuming and self.paused):
            return None  # told so, or to stop, while it was about to start
        while True:
            reason = await self._until_told(wire)
            if reason is not None or self._stopping.is_set():
                return reason
            self._changed.clear()
            if self._is_to_end():
                await self._cancel()
                return None

    def _is_to_end(self) -> bool:
        """Whether the consumer is to be ended now, or was ended with a settlement."""
        if self._has != self.prefetch:
            return not self._is_kept()
        if isinstance(self._channel, SingleChannel):
            self._channel.stay()
            return not self.consuming
        return False

    def _is_kept(self) -> bool:
        """Whether the consumer must not be cancelled now, since a job of its singleton queue runs:
        then it is, with the settlement of that."""
        channel, tag = self._channel, self._tag
        if self._place is None or not self._place.taken or not self.consuming or tag is None:
            return False
        if isinstance(channel, SingleChannel):
            channel.leave(tag)
        return True

    def vacated(self) -> None:
        """Nothing of its singleton queue runs here any more."""
        if isinstance(self._channel, SingleChannel):
            self._channel.vacated()
        self._changed.set()

    async def _start(self, wire: Wire) -> None:
        """Consume: on the channel that is there, so that what runs can still be settled on it, or
        on a new one."""
        self.starting = True
        try:
            if self._wire is not None and self._wire is not wire:
                # It was lost between two consumers, when nobody waited for its end.
                await self._consumer_lost(self._wire, self._wire.reason or "connection lost")
            await self._ensure(wire)
            await self._consume(wire)
        finally:
            self.starting = False

    async def _consume(self, wire: Wire) -> None:
        if self._underlay is None:
            self._underlay, self._wire = await wire.channel(), wire
            self._underlay.on_consumer_cancel_callbacks.add(lambda _: self._cancelled.set())
            self._channel = self._new_channel(wire)
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
                    self.queue, unused_callback, arguments=arguments
                )
        except aiormq_errors.ChannelAccessRefused as error:
            taken = in_exclusive_use(error, self.queue)
            raise taken or refusal_of(error, "read") from error
        self._tag = answer.consumer_tag
        self.starts += 1
        self._started.set()
        log.info("consuming", extra={"queue": self.queue, "prefetch": self._has})

    def _new_channel(self, wire: Wire) -> ConsumerChannel:
        parts = wire, self._underlay, self.queue, self._on_delivery
        if self._translate is not None:
            return translating(*parts, self._place, self._translate)
        return SingleChannel(*parts, self._place) if self._place else ConsumerChannel(*parts)

    def _channel_lost(self, wire: Wire) -> bool:
        return wire.lost.is_set() or self._underlay is None or self._underlay.is_closed

    async def _until_told(self, wire: Wire) -> str | None:
        """Wait, and say why; None if it was told something meanwhile."""
        reason = await until_lost(wire, self._underlay, self._cancelled, self._changed)
        if reason is None and self._cancelled.is_set():
            return "cancelled by the broker, or by the watchdog"
        return reason

    async def _drop(self) -> None:
        """Leave the channel: whatever is unsettled on it, RabbitMQ delivers again."""
        self._started.clear()
        channel, self._channel = self._channel, None
        underlay, self._underlay, self._wire = self._underlay, None, None
        if channel is not None:
            channel.flush()
            channel.close()
        await close_channel(underlay, CANCEL_TIMEOUT)

    async def cancel(self) -> None:
        """Ask for no more deliveries. What is unsettled can still be settled. The consumer of a
        singleton queue stays while a job runs: another worker would start the next one."""
        self._stopping.set()
        self._changed.set()
        if not self._is_kept():
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
            log.warning(
                "cancelling the consumer failed",
                extra={"queue": self.queue, "error": repr(error)},
            )

    def flush(self) -> None:
        """Write the acks that wait for the end of this turn."""
        if self._channel is not None:
            self._channel.flush()

    async def close(self) -> None:
        """Leave the channel, when nothing is left to settle on it. That of a singleton queue stays
        while something of it runs."""
        self._stopping.set()
        if self._is_kept():
            return
        if self._channel is not None and not self._channel.closed:
            self._channel.flush()
            wire = self._link.wire
            if wire is None or wire.profile.undoes_last_acks:
                age = asyncio.get_running_loop().time() - self._channel.acked_at
                await asyncio.sleep(max(0.0, ACKS_ARRIVE - age))
        await self._drop()
