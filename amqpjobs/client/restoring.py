"""Declares the queues of an app again when one is missing: the broker came back empty.

Changes when it is decided otherwise when a publisher declares.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import AmqpJobsError, Unroutable
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.topology import Topology

log = logging.getLogger("amqpjobs.publisher")


class Restoring:
    """Publishes, and once more if the queue was missing. Declares once for all messages that find
    a queue missing at the same time.

    Args:
        publication: to publish on.
        topology: what may be declared; None for nothing.
        declare: declares it.
    """

    def __init__(
        self,
        publication: Publication,
        topology: Topology | None,
        declare: Callable[[], Awaitable[None]],
    ) -> None:
        self._publication = publication
        self._queues = {queue.name for queue in topology.queues} if topology else set()
        self._declare = declare
        self._one = asyncio.Lock()
        self._times = 0

    def __repr__(self) -> str:
        return f"<Restoring: {len(self._queues)} queues, declared again {self._times} times>"

    async def publish(
        self, queue: str, properties: Properties, body: bytes, timeout: float
    ) -> None:
        """Send a message to a queue, and wait for the confirm.

        Raises:
            PublishError: one of its kinds; see `Publication.publish`.
        """
        end = asyncio.get_running_loop().time() + timeout
        try:
            await self._publication.publish("", queue, properties, body, timeout)
        except Unroutable as error:
            again = await self.again(error, queue, properties, body, end)
            if again is not None:
                raise again from None

    async def again(
        self, error: Unroutable, queue: str, properties: Properties, body: bytes, end: float
    ) -> AmqpJobsError | None:
        """Send a message once more that no queue got, if its queue can be declared.

        Args:
            error: of the first time.
            end: until when, by the event loop's clock.

        Returns:
            Why it did not arrive; None if it did.
        """
        clock = asyncio.get_running_loop().time
        if not await self._restored(queue, end - clock()):
            return error
        try:
            await self._publication.publish("", queue, properties, body, max(0.0, end - clock()))
        except AmqpJobsError as failure:
            return failure
        return None

    async def _restored(self, queue: str, seconds: float) -> bool:
        """Whether a queue that was missing is declared now."""
        if queue not in self._queues:
            return False
        times = self._times
        try:
            async with asyncio.timeout(max(0.0, seconds)), self._one:
                if times == self._times:
                    log.warning("queue missing, declaring again", extra={"queue": queue})
                    await self._declare()
                    self._times += 1
        except (AmqpJobsError, TimeoutError) as error:
            log.warning("topology not restored", extra={"error": str(error) or repr(error)})
            return False
        return True
