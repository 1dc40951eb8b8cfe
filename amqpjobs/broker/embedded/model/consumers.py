"""Chooses the consumer of a queue's next message: round robin, by priority, or the active one.

Changes when RabbitMQ chooses among consumers in another way.
"""

from bisect import insort
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.channel import Channel
    from amqpjobs.broker.embedded.model.queues import Queue

_arrivals = count()


class Consumer:
    """One consumer of one queue.

    Attributes:
        prefetch: how many it may hold unacknowledged; 0 for any number.
        priority: ``x-priority``.
        timeout: how long it may hold one, in seconds; None for any time.
        held: how many it holds.
        left: whether it has gone: it may still hold messages.
        lining: whether it stands in its queue's round.
        overdue: the delivery tags it held for too long; while there are any, it is given nothing.
    """

    __slots__ = (
        "arrival",
        "channel",
        "exclusive",
        "held",
        "left",
        "lining",
        "no_ack",
        "overdue",
        "prefetch",
        "priority",
        "queue",
        "tag",
        "timeout",
    )

    def __init__(self, channel: "Channel", tag: str, queue: "Queue", *, no_ack: bool) -> None:
        self.channel = channel
        self.tag = tag
        self.queue = queue
        self.no_ack = no_ack
        self.exclusive = False
        self.prefetch = 0
        self.priority = 0
        self.timeout: float | None = None
        self.held = 0
        self.left = False
        self.lining = False
        self.overdue: set[int] = set()
        self.arrival = next(_arrivals)

    def __repr__(self) -> str:
        limit = self.prefetch or "any number"
        return f"<Consumer {self.tag!r} of {self.queue.name!r}, holds {self.held} of {limit}>"

    def can_take(self) -> bool:
        """Whether it may be given a message now."""
        if self.left or self.overdue or self.channel.stalled:
            return False
        if self.no_ack:
            return True
        return (not self.prefetch or self.held < self.prefetch) and not self.channel.is_full(self)


class Choice(Protocol):
    """How one queue chooses."""

    def add(self, consumer: Consumer) -> None:
        """A consumer has come."""

    def remove(self, consumer: Consumer) -> None:
        """It has gone; it may still hold messages."""

    def next(self) -> Consumer | None:
        """Who is to be given one message. It will be."""

    def wake(self, consumer: Consumer) -> None:
        """It may be able to take again."""


class Round:
    """The consumers take turns; one with a higher priority is served first while it can take.

    Args:
        eager: whether who can take no more leaves the round at once, as on a quorum queue. On a
            classic queue that is noticed when its turn comes. It shows in who is next afterwards.
    """

    def __init__(self, *, eager: bool) -> None:
        self._eager = eager
        self._lines: list[tuple[int, deque[Consumer]]] = []  # highest priority first

    def add(self, consumer: Consumer) -> None:
        """It is the last of its priority."""
        self.wake(consumer)

    def remove(self, consumer: Consumer) -> None:
        """It has gone."""
        if consumer.lining:
            consumer.lining = False
            self._line(consumer.priority).remove(consumer)

    def next(self) -> Consumer | None:
        """The first of the highest priority that can take."""
        for _, line in self._lines:
            while line:
                consumer = line.popleft()
                if not consumer.can_take():
                    consumer.lining = False
                    continue
                if self._eager and self._is_last_one(consumer):
                    consumer.lining = False
                else:
                    line.append(consumer)
                return consumer
        return None

    def wake(self, consumer: Consumer) -> None:
        """It goes to the end of its priority, when it had left the round and can take."""
        if not consumer.lining and consumer.can_take():
            consumer.lining = True
            self._line(consumer.priority).append(consumer)

    def _is_last_one(self, consumer: Consumer) -> bool:
        limit = consumer.prefetch
        return bool(limit) and not consumer.no_ack and consumer.held + 1 >= limit

    def _line(self, priority: int) -> deque[Consumer]:
        for known, line in self._lines:
            if known == priority:
                return line
        line = deque[Consumer]()
        insort(self._lines, (priority, line), key=_descending)
        return line


class SingleActive:
    """One consumer is active, the others wait until it has gone.

    Args:
        by_priority: whether the highest priority among those who wait is next, else the first.
        takeover: whether a higher priority takes over from an active one: as soon as that holds
            nothing, and it is given nothing from then on.
    """

    def __init__(self, *, by_priority: bool, takeover: bool) -> None:
        self._by_priority = by_priority
        self._takeover = takeover
        self._waiting: list[Consumer] = []
        self._active: Consumer | None = None
        self._leaving = False

    @property
    def active(self) -> Consumer | None:
        """Who is active."""
        return self._active

    def add(self, consumer: Consumer) -> None:
        """It waits, unless nobody is active."""
        self._waiting.append(consumer)
        self._choose()

    def remove(self, consumer: Consumer) -> None:
        """It has gone; another one is active at once, though it may still hold messages."""
        if consumer is self._active:
            self._active = None
            self._leaving = False
        elif consumer in self._waiting:
            self._waiting.remove(consumer)
        self._choose()

    def next(self) -> Consumer | None:
        """The active one, if it can take."""
        active = self._active
        if active is None or self._leaving or not active.can_take():
            return None
        return active

    def wake(self, consumer: Consumer) -> None:
        """It holds less than before, or may be given messages again."""
        self._choose()

    def step_back(self, consumer: Consumer) -> None:
        """It held a message for too long: another one is active, if there is one."""
        if consumer is self._active:
            self._active = None
            self._leaving = False
            self._waiting.append(consumer)
            self._choose()

    def _choose(self) -> None:
        candidates = [consumer for consumer in self._waiting if not consumer.overdue]
        if not candidates:
            return
        best = min(candidates, key=self._rank)
        active = self._active
        if active is not None:
            if not self._takeover or best.priority <= active.priority:
                return
            if active.held:
                self._leaving = True
                return
            self._waiting.append(active)
        self._waiting.remove(best)
        self._active = best
        self._leaving = False

    def _rank(self, consumer: Consumer) -> tuple[int, int]:
        return (-consumer.priority if self._by_priority else 0, consumer.arrival)


def _descending(line: tuple[int, deque[Consumer]]) -> int:
    return -line[0]
