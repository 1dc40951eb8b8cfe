"""Requeues parked jobs at the start of a worker that knows them.

Changes when parking does.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.fitting import send_fitting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, PublishError, PublishRejected
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.headers import failure_of
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.queue import Queue, keeps_failed, lanes_of

log = logging.getLogger("amqpjobs.worker")

PREFETCH = 20
CONFIRM_TIMEOUT = 10.0
"""Seconds."""


class Parking:
    """Goes once through the parked jobs of each queue, as many as there were when it began.

    A known one goes back to its queue, an unknown one to the end of the parked ones: published,
    confirmed, then acked. Several workers may do so at once.

    Args:
        queues: whose parked jobs.
        knows: whether a message with these properties can run here, from this AMQP queue.
        link: to consume on.
        publication: to publish on.
    """

    def __init__(
        self,
        queues: list[Queue],
        knows: Callable[[Properties, str], bool],
        link: Link,
        publication: Publication,
    ) -> None:
        self._queues = [queue for queue in queues if keeps_failed(queue)]
        self._knows = knows
        self._link = link
        self._publication = publication

    async def run(self) -> None:
        """Bring back what is known here now, and return."""
        wire = await self._link.up()
        try:
            async with Declarer(wire) as declarer:
                counts = await declarer.side_by_side(self._queues, _parked_in)
        except AmqpJobsError as error:
            log.warning("parked jobs not requeued", extra={"error": str(error)})
            return
        for queue, count in zip(self._queues, counts, strict=True):
            try:
                await self._visit(queue, count)
            except (AmqpJobsError, TimeoutError) as error:
                _not_requeued(queue, error)

    async def _visit(self, queue: Queue, count: int) -> None:
        if not count:
            return
        arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        subscription = Subscription(
            self._link, queue.parked, PREFETCH, arrived.put_nowait, _nothing_to_ensure
        )
        consuming = asyncio.ensure_future(subscription.run())
        brought = 0
        try:
            for _ in range(count):
                # Another worker may have taken some meanwhile: an empty queue ends the visit.
                async with asyncio.timeout(2):
                    delivery = await arrived.get()
                brought += await self._move(queue, delivery)
        except TimeoutError:
            log.debug("fewer parked jobs than counted")
        finally:
            await subscription.cancel()
            consuming.cancel()
            await asyncio.wait([consuming])
            # What was parked again meanwhile was delivered here, too: it goes back.
            await subscription.close()
        if not consuming.cancelled():
            consuming.result()  # it may not be read
        log.info("parked jobs", extra={"queue": queue.name, "back": brought, "seen": count})

    async def _move(self, queue: Queue, delivery: Delivery) -> bool:
        properties = delivery.readable_properties()
        failure = failure_of(properties.headers)
        origin = failure.queue if failure and failure.queue else queue.name
        if origin not in {lane.queue for lane in lanes_of(queue)}:
            origin = queue.name
        known = self._knows(properties, origin)
        target, copy = (origin, copied(properties)) if known else (
            queue.parked, copied(properties, failure)
        )  # fmt: skip
        publish = partial(self._publication.publish, "", target)
        try:
            await send_fitting(
                lambda fitting: publish(fitting, delivery.body, CONFIRM_TIMEOUT),
                copy,
                self._publication.frame_max,
            )
        except PublishRejected as error:
            delivery.release()
            if not error.for_good:
                raise
            log.warning("parked job refused", extra={"queue": queue.parked, "error": str(error)})
            return False
        except (PublishError, asyncio.CancelledError):
            delivery.release()
            raise
        delivery.ack()
        return known


async def _parked_in(declarer: Declarer, queue: Queue) -> int:
    """How many jobs are parked; none that can be had if it may not be looked at."""
    try:
        return (await declarer.look(queue.parked)).message_count or 0
    except BrokerUnavailable:
        raise
    except AmqpJobsError as error:
        _not_requeued(queue, error)
        return 0


def _not_requeued(queue: Queue, error: Exception) -> None:
    keys = {"queue": queue.parked, "error": str(error)}
    log.warning("parked jobs not requeued", extra=keys)


async def _nothing_to_ensure(wire: Wire) -> None:
    """The worker has declared it."""
