"""Looking into queues without taking anything out. Changes when there is more to look at."""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.calls import from_broker
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.management_api import NotAnswered, unacked
from amqpjobs.broker.rabbitmq.inspection.scan import Scan
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.rabbitmq")

PEEK_BYTES = 32 * 2**20
"""Bodies of at most this many bytes together are held while looking."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is in an AMQP queue.

    Attributes:
        ready: messages that wait.
        consumers: how many consume it.
        unacked: messages that a consumer has; None if the management API did not answer.
    """

    ready: int
    consumers: int
    unacked: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A message as it was found in a queue, where it still is."""

    properties: Properties
    body: bytes
    redelivered: bool
    routing_key: str


@asynccontextmanager
async def connected(settings: Settings, purpose: str) -> AsyncIterator[Wire]:
    """A connection for a command that looks at something and ends.

    Raises:
        BrokerUnavailable: with what to do about it.
    """
    link = Link(settings, purpose)
    try:
        yield await link.connect()
    finally:
        await link.close()


async def depths(wire: Wire, names: Iterable[str], settings: Settings) -> dict[str, Depth | None]:
    """The depth of each queue; None for one that does not exist."""
    known = await in_own_thread(partial(_unacked, settings), "amqpjobs management")
    found: dict[str, Depth | None] = {}
    async with Declarer(wire) as declarer:
        for name in names:
            try:
                answer = await declarer.look(name)
            except TopologyMismatch:
                found[name] = None
            else:
                found[name] = Depth(
                    answer.message_count or 0, answer.consumer_count or 0, known.get(name)
                )
    return found


async def peek(wire: Wire, queue: str, limit: int) -> list[Found]:
    """The first messages of a queue, up to `PEEK_BYTES` of them. They are given back to their
    places.

    What RabbitMQ itself dead-lettered was written by strangers: aiormq, whose `basic.get` this
    could be, gives the connection up over properties that it cannot read.

    Raises:
        TopologyMismatch: there is no such queue.
    """
    found: list[Found] = []
    size = 0
    async with Scan(wire, queue, found_of, limit=limit) as scan:
        async for message, _ in scan:
            found.append(message)
            size += len(message.body)
            if size >= PEEK_BYTES:
                break
    return found


def found_of(delivery: HeldDelivery) -> Found:
    """A delivery of a scan as a value."""
    return Found(
        delivery.readable_properties(), delivery.body, delivery.redelivered, delivery.routing_key
    )


async def may_declare(wire: Wire, name: str) -> bool:
    """Whether this user may declare a queue of this name; leaves nothing behind."""
    channel = await wire.channel()
    try:
        with from_broker():
            await channel.queue_declare(name, exclusive=True, auto_delete=True, timeout=10)
            await channel.queue_delete(name, timeout=10)
    except aiormq_errors.ChannelAccessRefused:
        return False
    finally:
        if not channel.is_closed:
            with from_broker():
                await channel.close()
    return True


async def delete_queues(wire: Wire, names: Iterable[str]) -> None:
    """Delete queues with what is in them: for those that a command made for itself."""
    channel = await wire.channel()
    with from_broker():
        for name in names:
            await channel.queue_delete(name, timeout=10)
        await channel.close()


def _unacked(settings: Settings) -> dict[str, int]:
    try:
        return unacked(settings)
    except NotAnswered as error:
        log.debug("nobody knows what is unacked: %s", error)
        return {}
