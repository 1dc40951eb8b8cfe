"""Finds out that the queues of a worker are empty and that it has nothing left to do.

Changes when a job can be in another place.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.calls import FAILURES
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.delayed import counts
from amqpjobs.errors import AmqpJobsError

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.subscription import Subscription
    from amqpjobs.worker.consuming import Consuming
    from amqpjobs.worker.snapshot import Snapshot

log = logging.getLogger("amqpjobs.worker")

LOOK = 0.1
"""Seconds between two looks at what this worker does, which cost nothing."""

ASK = 0.5
"""Seconds between two questions to the broker, while its queues are not empty."""


class Emptiness:
    """Looks at what a worker holds, and when that is nothing, at its queues.

    Args:
        link: the consuming connection.
        subscriptions: of all AMQP queues of the worker.
        snapshot: what the worker holds now.
    """

    def __init__(
        self,
        link: Link,
        subscriptions: "Sequence[Subscription]",
        snapshot: "Callable[[], Snapshot]",
    ) -> None:
        self._link = link
        self._subscriptions = subscriptions
        self._snapshot = snapshot
        self._told: set[str] = set()

    async def run(self) -> None:
        """Return when nothing runs, nothing is held, and no message is ready in any of the queues.

        What other workers hold is theirs, and what is delayed is not waited for. While RabbitMQ is
        away it is not known what is left, so this goes on waiting.
        """
        while True:
            if not self._idle():
                await asyncio.sleep(LOOK)
                continue
            try:
                empty = await self._empty(await self._link.up())
            except (AmqpJobsError, *FAILURES) as error:
                log.debug("queues not looked at", extra={"error": repr(error)})
                empty = False
            if empty:
                return
            await asyncio.sleep(ASK)

    async def delayed(self) -> int | None:
        """How many jobs wait for their time, in the whole virtual host: the delays are shared. None
        if it cannot be known."""
        if self._link.wire is None:
            return None
        try:
            return sum((await counts(self._link.wire)).values())
        except (AmqpJobsError, *FAILURES) as error:
            log.debug("delays not looked at", extra={"error": repr(error)})
            return None

    def _idle(self) -> bool:
        now = self._snapshot()
        return (
            not (now.running or now.waiting or now.held)
            and bool(now.queues)
            and all(queue.consuming or queue.paused for queue in now.queues)
        )

    async def _empty(self, wire: Wire) -> bool:
        async with Declarer(wire) as declarer:
            for subscription in self._subscriptions:
                if count := (await declarer.look(subscription.queue)).message_count:
                    self._tell(subscription, count)
                    return False
        # What the broker has sent by then arrives before its answer on the same channel.
        for subscription in self._subscriptions:
            await subscription.answered()
        return self._idle()

    def _tell(self, subscription: "Subscription", count: int) -> None:
        """Say once for each pause that nothing goes on until it is over."""
        if not subscription.paused:
            self._told.discard(subscription.queue)
        elif subscription.queue not in self._told:
            self._told.add(subscription.queue)
            keys = {"queue": subscription.queue, "jobs": count}
            log.warning("queue is paused, worker waits until it is empty", extra=keys)


async def end_when_empty(
    parts: "Consuming", parking: "asyncio.Task[None]", stop: Callable[[], object]
) -> None:
    """Stop a worker when its queues are empty, and nothing that its jobs have sent waits in the
    outbox.

    Args:
        parts: of the worker.
        parking: brings parked jobs back to their queues, and is waited for first.
        stop: stops the worker.
    """
    await asyncio.wait([parking])
    emptiness = Emptiness(parts.link, parts.subscriptions, lambda: parts.snapshot)
    sent = await parts.send_stored()
    while True:
        await emptiness.run()
        before, sent = sent, await parts.send_stored()
        if sent == before:
            break
    log.info("queues are empty, worker ends", extra={"delayed": await emptiness.delayed()})
    stop()
