"""Detects that this process did not run: frozen, swapped out, or its event loop blocked.

RabbitMQ does not wait long for a silent client: it closes the connection, and gives what was not
acked to others. A process that comes back does not know it yet, and must not start what it was
given before. Changes when noticing, or making sure, does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from amqpjobs.broker.rabbitmq.subscription import Subscription

log = logging.getLogger("amqpjobs.worker")

TICK = 0.5
"""Seconds between two looks at the clock."""

ABSENT = 2.0
"""Seconds. RabbitMQ waits longer than that for anybody: the shortest heartbeat is 2 s, and two of
them must be missing (https://www.rabbitmq.com/docs/heartbeats)."""


class Presence:
    """Notices that the event loop stood still, and asks the broker what is left."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._doubt = asyncio.Event()

    def certain(self) -> bool:
        """Whether what was delivered may be started. It asks the clock, not the last look: what
        ends first after a pause may be a job, and its slot must not be filled."""
        now = time.monotonic()
        away, self._seen = now - self._seen, now
        if away > ABSENT:
            log.warning("the process was away", extra={"seconds": round(away, 1)})
            self._doubt.set()
        return not self._doubt.is_set()

    async def run(self, subscriptions: Sequence[Subscription], resume: Callable[[], None]) -> None:
        """Look at the clock until cancelled; after an absence, wait for the broker's answers.

        Args:
            subscriptions: whose channels have to answer.
            resume: called when each has, or is gone: what was delivered on that one is stale then.
        """
        self._seen = time.monotonic()
        while True:
            if self.certain():
                await asyncio.sleep(TICK)
                continue
            await asyncio.gather(*(s.answered() for s in subscriptions))
            self._seen = time.monotonic()
            self._doubt.clear()
            resume()
