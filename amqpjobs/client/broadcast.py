"""Asks all workers something over the control exchange, and collects what they answer.

Changes when the wait for answers does.
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.errors import BrokerUnavailable, Unroutable
from amqpjobs.jobs.message.ids import random_digits
from amqpjobs.jobs.message.properties import JSON, TRANSIENT, Properties
from amqpjobs.jobs.queue.topology import CONTROL_EXCHANGE

if TYPE_CHECKING:
    from amqpjobs.client.client import Client

READY_TIMEOUT = 10.0
"""Seconds for a queue for the answers."""

MOST_ANSWERS = 100_000


async def broadcast(
    client: "Client",
    type_: str,
    key: str,
    *,
    within: float,
    quiet: float | None = None,
    message_id: str | None = None,
    body: bytes = b"",
) -> list[bytes]:
    """Ask all workers that are bound to a routing key.

    Args:
        client: whose app.
        type_: of the message.
        key: a queue, or `FLEET`.
        within: seconds to wait for answers.
        quiet: seconds without another answer, after the first, that end the wait; None for none.
        message_id: of the message.
        body: of the message.

    Returns:
        The answers, as they came; none at once if no worker is there.

    Raises:
        PublishError: RabbitMQ did not take the request.
        ConfigurationError: this user may not have a queue for answers.
    """
    answers: list[bytes] = []
    arrived = asyncio.Event()
    correlation_id = random_digits()

    def take(header: HeaderView, body: bytes) -> None:
        if header.correlation_id == correlation_id and len(answers) < MOST_ANSWERS:
            answers.append(body)
            arrived.set()

    settings = client.runtime.settings
    link = Link(settings, "fleet")
    try:
        await link.connect()
        listener = Listener(link, take)
        listening = asyncio.create_task(listener.run(), name="amqpjobs answers")
        try:
            properties = Properties(
                content_type=JSON,
                delivery_mode=TRANSIENT,
                correlation_id=correlation_id,
                reply_to=await _ready(listener, listening),
                message_id=message_id,
                type=type_,
                app_id=client.runtime.registry.name,
            )
            async with client.lifespan():
                publication = (await client.publisher()).publication
                timeout = settings.publish_timeout
                with suppress(Unroutable):
                    await publication.publish(CONTROL_EXCHANGE, key, properties, body, timeout)
                    await _collect(arrived, within, quiet)
        finally:
            listening.cancel()
            await asyncio.wait([listening])
    finally:
        await link.close()
    return answers


async def _ready(listener: Listener, listening: "asyncio.Task[None]") -> str:
    ready = asyncio.ensure_future(listener.ready())
    try:
        await asyncio.wait(
            (ready, listening), timeout=READY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        if listening.done():
            listening.result()
        if not ready.done():
            raise BrokerUnavailable(
                "no queue for the answers of workers: the broker did not answer"
            )
        return ready.result()
    finally:
        ready.cancel()


async def _collect(arrived: asyncio.Event, within: float, quiet: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await arrived.wait()
            while quiet is not None:
                arrived.clear()
                try:
                    async with asyncio.timeout(quiet):
                        await arrived.wait()
                except TimeoutError:
                    return
            await asyncio.Event().wait()
