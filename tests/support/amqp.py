"""RabbitMQ seen by a stranger: plain aio-pika, and the management API. Nothing of amqpjobs."""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until

QUORUM = {"x-queue-type": "quorum"}


@asynccontextmanager
async def stranger(url: str) -> AsyncIterator[AbstractChannel]:
    """A channel with confirms on a connection of its own."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        yield await connection.channel()


async def declare(
    channel: AbstractChannel, name: str, arguments: Mapping[str, Any] = QUORUM
) -> None:
    """Declare a durable queue."""
    await channel.declare_queue(name, durable=True, arguments=dict(arguments))


async def publish(channel: AbstractChannel, queue: str, body: bytes, **properties: Any) -> None:
    """Publish as other programs do: only what is given is said."""
    properties.setdefault("content_type", "application/json")
    await channel.default_exchange.publish(
        aio_pika.Message(body, **properties), routing_key=queue, timeout=10
    )


def publish_bare(broker: VirtualHost, queue: str, body: bytes, **properties: Any) -> None:
    """Publish over HTTP, with no property but these: aio-pika adds an id and a delivery mode."""
    broker.server.api(
        "POST",
        f"/exchanges/{quote(broker.name, safe='')}/amq.default/publish",
        {
            "properties": properties,
            "routing_key": queue,
            "payload": base64.b64encode(body).decode(),
            "payload_encoding": "base64",
        },
    )


async def count(channel: AbstractChannel, queue: str) -> int:
    """How many messages are ready in a queue."""
    found = await channel.declare_queue(queue, passive=True)
    return found.declaration_result.message_count or 0


async def ready(channel: AbstractChannel, queue: str, number: int) -> None:
    """Wait until so many are ready. What is given back is there again a moment after its channel
    or its connection was closed."""

    async def so_many() -> bool:
        return await count(channel, queue) == number

    await until(so_many, f"{number} are ready in {queue}")


async def take(url: str, queue: str) -> AbstractIncomingMessage:
    """Wait for a message and take it out."""
    async with stranger(url) as channel:
        found = await channel.get_queue(queue, ensure=False)

        async def get() -> AbstractIncomingMessage | None:
            return await found.get(fail=False, timeout=10)

        message: AbstractIncomingMessage = await until(get, f"a message in {queue}")
        await message.ack()
        return message


async def drain(url: str, queue: str) -> list[AbstractIncomingMessage]:
    """Take out all that is ready."""
    messages: list[AbstractIncomingMessage] = []
    async with stranger(url) as channel:
        found = await channel.get_queue(queue, ensure=False)
        while ready := await count(channel, queue):
            whole = len(messages) + ready
            async with found.iterator(no_ack=True) as arriving:
                async for message in arriving:
                    messages.append(message)
                    if len(messages) == whole:
                        break
    return messages


def connections(broker: VirtualHost) -> list[dict[str, Any]]:
    """The connections to the virtual host; the management API learns of them with a delay."""
    return list(broker.server.api("GET", f"/vhosts/{quote(broker.name, safe='')}/connections"))


def close_connections(broker: VirtualHost, purpose: str) -> int:
    """Have RabbitMQ close the connections of that purpose; says how many it closed."""
    chosen = [
        c["name"]
        for c in connections(broker)
        if f"amqpjobs {purpose} " in str(c.get("client_properties", {}).get("connection_name"))
        or f"amqpjobs {purpose} " in str(c.get("user_provided_name"))
    ]
    for name in chosen:
        broker.server.api("DELETE", f"/connections/{quote(name, safe='')}")
    return len(chosen)


def delete_queue(broker: VirtualHost, queue: str) -> None:
    """Delete a queue with what is in it, behind its consumers' backs."""
    broker.server.api("DELETE", f"/queues/{quote(broker.name, safe='')}/{quote(queue, safe='')}")
