"""Dead letters that must arrive: kept by their queue until every queue they go to has them.

It is the strategy ``at-least-once`` of quorum queues. Source: ``rabbit_fifo_dlx_worker``.
"""

from collections import deque
from typing import TYPE_CHECKING

from amqpjobs.broker.embedded.clock import Handle
from amqpjobs.broker.embedded.model.messages import Message

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.queues import Queue, Reason
    from amqpjobs.broker.embedded.model.quorum import QuorumQueue

IN_FLIGHT = 32
"""So many are tried at a time: that many which cannot arrive hold up all behind them."""

TRY_AGAIN = 180.0
"""Seconds until those that have not arrived are sent again."""


class Letter:
    """One dead letter on its way.

    Attributes:
        message: the dead letter.
        reason: why it died.
        arrived_at: the queues that have it.
    """

    __slots__ = ("arrived_at", "message", "reason")

    def __init__(self, message: Message, reason: "Reason") -> None:
        self.message = message
        self.reason = reason
        self.arrived_at: set[Queue] = set()


class Letters:
    """The dead letters of one queue that have not arrived.

    Attributes:
        published_to: the queues that may refuse more of them.
    """

    def __init__(self, queue: "QuorumQueue") -> None:
        self._queue = queue
        self._waiting: deque[Letter] = deque()
        self._tried: dict[Letter, None] = {}
        self._timer: Handle | None = None
        self.published_to: dict[QuorumQueue, None] = {}

    def __repr__(self) -> str:
        return f"<Letters: {len(self._tried)} on their way, {len(self._waiting)} behind them>"

    def held(self) -> tuple[int, int]:
        """How many there are, and what they count for in the limit of bytes."""
        letters = (*self._tried, *self._waiting)
        return len(letters), sum(self._queue.size_of(letter.message) for letter in letters)

    def add(self, message: Message, reason: "Reason") -> None:
        """Send a dead letter, as soon as what is going on is over."""
        letter = self._queue.vhost.letter(self._queue, message, reason)
        if letter is not None:
            self._waiting.append(Letter(letter, reason))
            self._queue.vhost.later(self.send)

    def send(self) -> None:
        """Send as many as may be on their way."""
        while self._waiting and len(self._tried) < IN_FLIGHT:
            letter = self._waiting.popleft()
            self._tried[letter] = None
            self._send(letter)
        if self._tried and self._timer is None:
            clock = self._queue.vhost.clock
            self._timer = clock.call_at(clock.time() + TRY_AGAIN, self._try_again)

    def clear(self) -> int:
        """Forget all of them; how many those were."""
        count, _ = self.held()
        self._waiting.clear()
        self._tried.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return count

    def _send(self, letter: Letter) -> None:
        host = self._queue.vhost
        if host.forward(letter.message, letter.reason, self, letter.arrived_at):
            self._tried.pop(letter, None)
            self._queue.letter_arrived()

    def _try_again(self) -> None:
        self._timer = None
        for letter in list(self._tried):
            self._send(letter)
        self.send()
        self._queue.vhost.run()
