"""The marker of paused queues: one message in a durable queue, which outlives workers and brokers.

The queue holds the newest marker alone (``x-max-length`` 1, ``drop-head``), and is never empty once
it was written. To look is to consume the message and requeue it. While one worker looks, others
wait in line for it, and none takes an empty queue for "nothing is paused". Changes when the marker
is kept in another way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.calls import close_channel, from_broker, unused_callback
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, Delivery
from amqpjobs.broker.rabbitmq.lives import until_lost
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.jobs.queue.topology import HOLD_LOCK, HOLD_TOPOLOGY, HOLDS

log = logging.getLogger("amqpjobs.rabbitmq")

TIMEOUT = 5.0
"""Seconds to wait for the answers of the broker."""

IN_LINE = 15.0
"""Seconds to wait for the marker while others look at it: all workers of a fleet may start at once,
and who gives up starts without knowing what is paused."""

CLOSE_TIMEOUT = 1.0
"""Seconds for the broker to answer that a channel is closed."""

LOCK_TIMEOUT = 20.0
"""Seconds to wait for another command that changes the marker."""

LOCK_PAUSE = 0.1
"""Seconds between two attempts."""

Publish = Callable[[str, bytes], Awaitable[None]]
"""Publishes a body to a queue, persistent, and waits for the confirm."""


class MarkerNotSeen(BrokerUnavailable):
    """The queue of the marker is there, and the marker is not: a process that looks at it is frozen
    and will give it back, or somebody has purged the queue."""


async def look_at_marker(wire: Wire) -> bytes | None:
    """The body of the marker; None if nothing was ever paused.

    Raises:
        MarkerNotSeen: it did not come in time.
        NotPermitted: this user may not read it.
        BrokerUnavailable: the connection went away.
    """
    underlay: Any = await wire.channel()
    arrived, found = asyncio.Event(), list[Delivery]()

    def take(delivery: Delivery) -> None:
        found.append(delivery)
        arrived.set()

    channel = ConsumerChannel(wire, underlay, HOLDS, take)
    try:
        tag = await _consume(underlay)
        if tag is None:
            return None
        await _wait(wire, underlay, arrived)
        # Before anything is requeued, or it would come here again.
        with from_broker():
            await underlay.basic_cancel(tag)
        body = found[-1].body
        for delivery in found:
            delivery.release()
        return body
    finally:
        channel.flush()
        channel.close()
        await close_channel(underlay, CLOSE_TIMEOUT)


async def change_marker(
    wire: Wire, publish: Publish, change: Callable[[bytes | None], bytes]
) -> None:
    """Replace the marker. Of several commands one at a time does it.

    The new one pushes the old one out, since the queue holds one message: there is no moment
    without a marker. A worker that looks at the old one meanwhile gives it back to the front, where
    it is dropped.

    Args:
        wire: to look on.
        publish: on another connection.
        change: makes the new body from the old one, or from None.

    Raises:
        NotPermitted: this user may not declare, read or write it.
        BrokerUnavailable: another command does not end, or the connection went away.
    """
    async with Declarer(wire) as declarer:
        await _lock(declarer)
        try:
            try:
                old = await look_at_marker(wire)
            except MarkerNotSeen as error:
                log.warning("marker not seen, other pauses are lost", extra={"error": str(error)})
                old = None
            await declarer.apply(HOLD_TOPOLOGY, strictly=True)
            await publish(HOLDS, change(old))
        finally:
            await declarer.call(lambda channel: channel.queue_delete(HOLD_LOCK))


async def _lock(declarer: Declarer) -> None:
    """Take what only one connection can have; it is gone with the connection."""
    clock = asyncio.get_running_loop().time
    end = clock() + LOCK_TIMEOUT
    while True:
        try:
            await declarer.call(lambda channel: channel.queue_declare(HOLD_LOCK, exclusive=True))
        except aiormq_errors.ChannelAccessRefused as error:
            raise refusal_of(error, "configure") from error
        except aiormq_errors.ChannelLockedResource as error:
            if clock() > end:
                raise BrokerUnavailable(
                    "another command changes what is paused, and does not end: the connection that "
                    f"has the queue {HOLD_LOCK!r}"
                ) from error
        else:
            return
        await asyncio.sleep(LOCK_PAUSE)


async def _consume(underlay: Any) -> str | None:
    """The consumer's tag; None if there is no marker."""
    try:
        with from_broker():
            async with asyncio.timeout(TIMEOUT):
                answer = await underlay.basic_consume(HOLDS, unused_callback)
    except aiormq_errors.ChannelNotFoundEntity:
        return None
    except aiormq_errors.ChannelAccessRefused as error:
        raise refusal_of(error, "read") from error
    return str(answer.consumer_tag)


async def _wait(wire: Wire, underlay: Any, arrived: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(IN_LINE):
            reason = await until_lost(wire, underlay, arrived)
    except TimeoutError:
        raise MarkerNotSeen(f"the queue {HOLDS!r} is empty, or a frozen process has it") from None
    if reason is not None and not arrived.is_set():
        raise BrokerUnavailable(f"lost while looking at what is paused: {reason}")
