"""How fast a queue's jobs may start: a token bucket, as one number. Pure: the clock is passed in.

Changes when rates mean something else.
"""

from amqpjobs.jobs.queue.queue import Lane, Queue, lanes_of, starts_of

WAITING = 30.0
"""Seconds' worth of starts that are prefetched of a queue with a rate: what waits here cannot be
started by another worker."""

NOTHING = 1e-9
"""Seconds; less is a rounding error."""


class Bucket:
    """Lets at most ``rate * t + burst`` through in any ``t`` seconds.

    The bucket is told by the moment at which it will be full again (the generic cell rate algorithm
    of ATM networks): nothing has to be poured in as time passes.

    Args:
        rate: starts a second.
    """

    __slots__ = ("_full_at", "_interval", "_slack", "burst")

    def __init__(self, rate: float) -> None:
        self.burst = max(1.0, rate)
        """How many may start at once: a second's worth, and one where that is less."""
        self._interval = 1 / rate
        self._slack = (self.burst - 1) * self._interval
        self._full_at = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next may start; 0 for now."""
        wait = self._full_at - self._slack - now
        return wait if wait > NOTHING else 0.0

    def take(self, now: float) -> None:
        """One starts now."""
        self._full_at = max(self._full_at, now) + self._interval


def prefetch_of(queue: Queue, lane: Lane, wanted: int) -> int:
    """How many deliveries of a lane to hold: where a rate is slow, no more than start soon. Of a
    singleton queue one: RabbitMQ delivers the next when that is settled."""
    if queue.singleton:
        return 1
    rate = starts_of(queue)
    if rate is None:
        return wanted
    share = lane.weight / sum(each.weight for each in lanes_of(queue))
    return max(1, min(wanted, int(WAITING * rate * share)))
