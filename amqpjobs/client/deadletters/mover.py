"""Moves dead letters: published, confirmed, and only then settled; several at a time.

Changes when the promise of a replay does.
"""

import asyncio
from collections.abc import Callable

from amqpjobs.broker.rabbitmq.fitting import send_fitting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker.rabbitmq.subscription import ACKS_ARRIVE
from amqpjobs.errors import NotConfirmed, PublishError, PublishRejected
from amqpjobs.jobs.message.properties import Properties

WINDOW = 500
"""Letters on their way at once. A letter counts until a tenth of a second after its ack was
written, since RabbitMQ may not have taken an ack that its connection's end was right behind: so
that a sudden death of this process makes at most so many duplicates."""

Settle = Callable[[PublishError | None], None]
"""Told the fate of one letter: None when RabbitMQ has it and confirmed it."""


class Mover:
    """Publishes, and tells the fate of each.

    Args:
        publication: on a connection of its own: an alarm stops its socket, and must not stop acks.
        timeout: seconds for a confirm.
        rate: letters a second, at most; None for as many as possible.
        on_sent: called with the properties of each that RabbitMQ has.

    Attributes:
        broken: the first error that would meet the other letters, too: to go on makes no sense.
    """

    def __init__(
        self,
        publication: Publication,
        timeout: float,
        *,
        rate: float | None = None,
        on_sent: Callable[[Properties], None] = lambda _: None,
    ) -> None:
        self.broken: PublishError | None = None
        self._publication = publication
        self._timeout = timeout
        self._on_sent = on_sent
        self._pause = 1 / rate if rate else 0.0
        self._next = 0.0
        self._slots = asyncio.Semaphore(WINDOW)
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(
        self, exchange: str, routing_key: str, properties: Properties, body: bytes, settle: Settle
    ) -> None:
        """Send one, when it is its turn. Cancelled while it waits for that, nothing was sent."""
        loop = asyncio.get_running_loop()
        if self._pause:
            await asyncio.sleep(max(0.0, self._next - loop.time()))
            self._next = max(loop.time(), self._next) + self._pause
        await self._slots.acquire()
        task = loop.create_task(self._one(exchange, routing_key, properties, body, settle))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until the fate of all that was sent is known."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _one(
        self, exchange: str, routing_key: str, properties: Properties, body: bytes, settle: Settle
    ) -> None:
        try:
            await self._publish(exchange, routing_key, properties, body)
        except PublishError as error:
            if isinstance(error, NotConfirmed) or (
                isinstance(error, PublishRejected) and not error.for_good
            ):
                self.broken = self.broken or error
            settle(error)
        else:
            self._on_sent(properties)
            settle(None)
        finally:
            asyncio.get_running_loop().call_later(ACKS_ARRIVE, self._slots.release)

    async def _publish(
        self, exchange: str, routing_key: str, properties: Properties, body: bytes
    ) -> None:
        # Headers that just fitted into a frame do not with a history that has grown.
        await send_fitting(
            lambda fitting: self._publication.publish(
                exchange, routing_key, fitting, body, self._timeout
            ),
            properties,
            self._publication.frame_max,
        )
