"""Looking into queues without taking anything out. Changes when there is more to look at."""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.calls import from_broker
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.management_api import NotAnswered, unacked, youngest_node
from amqpjobs.broker.rabbitmq.inspection.scan import Scan
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.rabbitmq")

PEEK_BYTES = 32 * 2**20
"""Bodies of at most this many bytes together are held while looking."""


ELECTIONS = 60.0
"""Seconds after the start of a node in which its quorum queues may still elect leaders."""


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
    async with Declarer(wire) as declarer:
        answers = await declarer.look_at_all(names)
    return {name: _depth(answer, known.get(name)) for name, answer in answers.items()}


def _depth(answer: Any, unacked: int | None) -> Depth | None:
    if answer is None:
        return None
    return Depth(answer.message_count or 0, answer.consumer_count or 0, unacked)


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


async def purge(wire: Wire, queue: str) -> int:
    """Remove what is ready in a queue, for good; how many messages that were.

    Raises:
        TopologyMismatch: there is no such queue.
        NotPermitted: this user may not read it.
    """
    async with Declarer(wire) as declarer:
        await declarer.look(queue)
        try:
            answer = await declarer.call(lambda channel: channel.queue_purge(queue))
        except aiormq_errors.ChannelAccessRefused as error:
            raise refusal_of(error, "read") from error
    return answer.message_count or 0


async def delete_queues(wire: Wire, names: Iterable[str]) -> None:
    """Delete queues with what is in them: for those that a command made for itself.

    Each is purged before, which its leader answers: a quorum queue with at-least-once
    dead-lettering that is deleted while it elects its leader can end RabbitMQ's
    ``rabbit_fifo_dlx_sup`` (rabbitmq-server#16652). See `until_deletable`.
    """
    channel = await wire.channel()
    with from_broker():
        for name in names:
            await channel.queue_purge(name, timeout=10)
            await channel.queue_delete(name, timeout=10)
        await channel.close()


async def until_deletable(settings: Settings) -> float:
    """Seconds until queues may be deleted: not within a minute of the start of a node, when queues
    elect their leaders. 0 where the management API does not say."""

    def age() -> float | None:
        try:
            return youngest_node(settings)
        except NotAnswered as error:
            log.debug("start of the nodes unknown", extra={"error": str(error)})
            return None

    found = await in_own_thread(age, "amqpjobs management")
    return 0.0 if found is None else max(0.0, ELECTIONS - found)


def _unacked(settings: Settings) -> dict[str, int]:
    try:
        return unacked(settings)
    except NotAnswered as error:
        log.debug("unacked counts unavailable", extra={"error": str(error)})
        return {}
