"""Whose turn it is to fire schedules, where no shared store decides: who has an exclusive queue.

The queue belongs to the connection that publishes. A process that is frozen for so long that
RabbitMQ gives its connection up can publish nothing on it either. Changes when another lock than a
queue is used.
"""

import time
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.held_queue import take_queue
from amqpjobs.state.schedules.mechanism import ticker_queue_of

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.connection import Wire
    from amqpjobs.client.client import Client

TRY = 2.0
"""Seconds between two attempts to have it."""

AGAIN = 30.0
"""Seconds after which who has it looks whether it still does: an operator may have deleted it."""


class TurnHolder:
    """Has the queue, or tries to.

    Args:
        client: whose app it is about.

    Attributes:
        since: when it was taken, by the monotonic clock; 0 while another process has it.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._queue = ticker_queue_of(client.runtime.registry.name)
        self._wire: Wire | None = None
        self._next = 0.0
        self.since = 0.0

    def __repr__(self) -> str:
        return f"<TurnHolder {self._queue}: {'held' if self.since else 'not held'}>"

    async def holds(self) -> bool:
        """Whether it is this process's turn.

        Raises:
            NotPermitted: the user may not declare the queue.
            PublishError, BrokerUnavailable: RabbitMQ is away.
        """
        wire = (await self._client.publisher()).link.wire
        if wire is None or wire is not self._wire:
            self.since = 0.0
        if wire is None:
            return False
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TRY
            if not await take_queue(wire, self._queue):
                self.since = 0.0
            elif not wire.lost.is_set():
                self._wire, self._next = wire, now + AGAIN
                self.since = self.since or time.monotonic()
        return self.since > 0
