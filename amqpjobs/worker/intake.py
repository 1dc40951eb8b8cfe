"""Which delivery is started next. Decides, and does nothing else.

Changes when fairness or priorities do.
"""

from collections import deque
from collections.abc import Callable, Iterator

from amqpjobs.rabbitmq.deliveries import Delivery
from amqpjobs.topology import Queue


class Intake:
    """Holds the deliveries that wait for a slot, and starts them as slots come free.

    Queues take turns. Within a queue its priorities take turns by weight: the turns are a fixed
    cycle, and a lane with nothing waiting passes its turn on. So while all lanes have something
    waiting, every window of sum(weights) starts gives each lane exactly its weight.

    Args:
        queues: what is consumed.
        concurrency: how many deliveries may be running at once.
        start: called with each delivery whose turn it is; `finished` gives its slot back.
        certain: whether what was delivered is known to be still ours; if not, nothing is started
            until `resume`.
    """

    def __init__(
        self,
        queues: list[Queue],
        concurrency: int,
        start: Callable[[Delivery], None],
        certain: Callable[[], bool] = lambda: True,
    ) -> None:
        self._start = start
        self._certain = certain
        self._free = concurrency
        self._concurrency = concurrency
        self._waiting = 0
        self._closed = False
        self._lanes: dict[str, deque[Delivery]] = {
            lane.queue: deque() for queue in queues for lane in queue.lanes
        }
        self._turns = [_Turns(queue, self._lanes) for queue in queues]
        self._next_queue = 0

    def __repr__(self) -> str:
        return f"<Intake: {self.running} running, {self._waiting} waiting>"

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return self._concurrency - self._free

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a slot."""
        return self._waiting

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery: start it, or keep it until there is a slot."""
        if self._free and not self._waiting and not self._closed and self._certain():
            # Nothing else waits, so there is nothing to be fair to.
            self._free -= 1
            self._start(delivery)
            return
        self._lanes[delivery.queue].append(delivery)
        self._waiting += 1
        if self._free:
            self._fill()

    def finished(self) -> None:
        """A slot is free again."""
        self._free += 1
        if self._waiting:
            self._fill()

    def resume(self) -> None:
        """What waits is ours, or is stale by now: start it."""
        self._fill()

    def close(self) -> None:
        """Start nothing more. What is offered from now on only waits, for `take_waiting`."""
        self._closed = True

    def take_waiting(self) -> list[Delivery]:
        """Everything that waits, in the order in which each queue delivered it."""
        waiting = [delivery for lane in self._lanes.values() for delivery in lane]
        for lane in self._lanes.values():
            lane.clear()
        self._waiting = 0
        return waiting

    def _fill(self) -> None:
        if not self._certain():
            return
        while self._free and self._waiting and not self._closed:
            delivery = self._pick()
            self._waiting -= 1
            # One whose channel is gone was given to another worker by now: running it here too
            # would be a duplicate for nothing.
            if not delivery.stale:
                self._free -= 1
                self._start(delivery)

    def _pick(self) -> Delivery:
        turns = self._turns
        while True:
            queue = turns[self._next_queue]
            self._next_queue = (self._next_queue + 1) % len(turns)
            delivery = queue.pick()
            if delivery is not None:
                return delivery


class _Turns:
    """The cycle of one queue's lanes."""

    def __init__(self, queue: Queue, lanes: dict[str, deque[Delivery]]) -> None:
        self._cycle = [lanes[name] for name in cycle_of(queue)]
        self._next = 0

    def pick(self) -> Delivery | None:
        cycle, place = self._cycle, self._next
        for _ in cycle:
            lane = cycle[place]
            place = (place + 1) % len(cycle)
            if lane:
                self._next = place
                return lane.popleft()
        return None


def cycle_of(queue: Queue) -> Iterator[str]:
    """The order of turns: each lane as often as its weight, spread evenly (smooth weighted round
    robin, as in nginx)."""
    lanes = queue.lanes
    total = sum(lane.weight for lane in lanes)
    credit = [0] * len(lanes)
    for _ in range(total):
        credit = [c + lane.weight for c, lane in zip(credit, lanes, strict=True)]
        best = max(range(len(lanes)), key=credit.__getitem__)
        credit[best] -= total
        yield lanes[best].queue
