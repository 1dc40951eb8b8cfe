"""Deletes queues that were unused for a while (``x-expires``)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.clock import Handle
    from amqpjobs.broker.embedded.model.queues import Queue


class Lease:
    """The time that a queue may be unused.

    Having a consumer, and `basic.get`, are uses. So is declaring it again, of a classic queue; a
    quorum queue does not notice that.

    Args:
        queue: the queue.
        seconds: how long it may be unused.
        over: called when it has been unused for that long.
    """

    def __init__(self, queue: "Queue", seconds: float, over: Callable[["Queue"], None]) -> None:
        self._queue = queue
        self._seconds = seconds
        self._over = over
        self._used = 0.0
        self._timer: Handle | None = None
        self.renew()

    def renew(self) -> None:
        """The queue is used now."""
        clock = self._queue.vhost.clock
        self._used = clock.time()
        if self._timer is None:
            self._timer = clock.call_at(self._used + self._seconds, self._look)

    def cancel(self) -> None:
        """The queue is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._queue.consumers:
            return  # the last one to go renews it
        clock = self._queue.vhost.clock
        end = self._used + self._seconds
        if clock.time() >= end:
            self._over(self._queue)
        else:
            self._timer = clock.call_at(end, self._look)
