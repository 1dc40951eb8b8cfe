"""Which delivery is started next. Decides, and does nothing else.

Changes when fairness or priorities do.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.worker.flow.gate import UNTIL_TOLD, Gate


class Intake:
    """Holds the deliveries that wait for a slot, and starts them as slots come free.

    Queues take turns. Within a queue its priorities take turns by weight: the turns are a fixed
    cycle, and a lane with nothing waiting passes its turn on. So while all lanes have something
    waiting, every window of sum(weights) starts gives each lane exactly its weight.

    A queue with a gate passes its turn on while that is closed, and does not take part until
    `open` is called.

    Args:
        queues: what is consumed.
        concurrency: how many deliveries may be running at once.
        start: called with each delivery whose turn it is; `finished` gives its slot back.
        wake: called with a queue's name and seconds, after which to call `open` with the name.
        clock: seconds.
        certain: whether what was delivered is known to be still ours; if not, nothing is started
            until `go_on`.

    Attributes:
        gated: whether any queue has a gate.
        closed: whether nothing is started any more.
    """

    def __init__(
        self,
        queues: list[Queue],
        concurrency: int,
        start: Callable[[Delivery], None],
        wake: Callable[[str, float], object] = lambda _, __: None,
        clock: Callable[[], float] = time.monotonic,
        certain: Callable[[], bool] = lambda: True,
    ) -> None:
        self._start = start
        self._certain = certain
        self._wake = wake
        self._clock = clock
        self._free = concurrency
        self._concurrency = concurrency
        self._waiting = 0  # of the queues that take part, and claims
        self._claims: deque[Callable[[], object]] = deque()
        self.closed = False
        self._still = False  # closed, or paused
        self._paused: set[str] = set()
        self._lanes: dict[str, deque[Delivery]] = {
            lane.queue: deque() for queue in queues for lane in lanes_of(queue)
        }
        self._turns = [_Turns(queue, self._lanes) for queue in queues]
        self._next_queue = 0
        self._gated: dict[str, _Turns] = {}
        self.gated = False
        for turns in self._turns:
            queue = turns.queue
            if queue.rate is not None or queue.kill_switch is not None or queue.singleton:
                self.make_gate(queue)

    def __repr__(self) -> str:
        return f"<Intake: {self.running} running, {self.waiting} waiting>"

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return self._concurrency - self._free

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a slot, or for a gate."""
        return sum(map(len, self._lanes.values()))

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits but what a gate holds back."""
        return not self._waiting

    def startable(self, *, busy: bool) -> Delivery | None:
        """One that waits although nothing that is known here holds it back: neither a gate, nor
        that all slots are taken, nor a pause. None if there is none, as it should be.

        Args:
            busy: whether any job runs. While none does, neither slots nor a pause hold it back.
        """
        if self.closed or not self._waiting or (busy and (self._still or self._free <= 0)):
            return None
        return next(
            (turns.first() for turns in self._turns if not turns.shut and turns.waiting), None
        )

    def gate_of(self, queue: Queue) -> Gate | None:
        """The gate of a queue; None if it has none."""
        turns = self._gated.get(queue.name)
        return turns.gate if turns is not None else None

    def make_gate(self, queue: Queue) -> Gate:
        """Give a queue that has none a gate."""
        turns = next(each for each in self._turns if each.queue.name == queue.name)
        gate = turns.gate = Gate(queue)
        self.gated = True
        self._gated.update((lane.queue, turns) for lane in lanes_of(queue))
        return gate

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery: start it, or keep it until there is a slot."""
        gated = self._gated.get(delivery.queue) if self.gated else None
        if (
            self._free > 0
            and not self._waiting
            and not self._still
            and gated is None
            and self._certain()
        ):
            # Nothing else waits, so there is nothing to be fair to.
            self._free -= 1
            self._start(delivery)
            return
        self._lanes[delivery.queue].append(delivery)
        if gated is not None and gated.shut:
            return
        self._waiting += 1
        if self._free > 0:
            self._fill()

    def admits(self, delivery: Delivery) -> bool:
        """Whether its queue's gate lets a delivery start that takes no slot of these; it counts as
        started. If not, `open` is the time to ask again."""
        turns = self._gated.get(delivery.queue) if self.gated else None
        if turns is None or turns.gate is None:
            return True
        if turns.gate.wait(self._clock()):
            if not turns.shut:
                self._passes(turns, turns.gate)
            return False
        turns.gate.enter(delivery, self._clock())
        return True

    def claim(self, start: Callable[[], object]) -> None:
        """Take a slot for what is no delivery, before all that waits, and then call this;
        `finished` gives the slot back. Once nothing is started any more it is not called."""
        self._claims.append(start)
        self._waiting += 1
        self._fill()

    def lend(self) -> None:
        """Give the slot of a run to others that does nothing but wait, until `reclaim`."""
        self.finished()

    def reclaim(self) -> None:
        """Take back what was lent: at once, though it may be in use. Nothing starts until so many
        slots are free again."""
        self._free -= 1

    def finished(self) -> None:
        """A slot is free again."""
        self._free += 1
        if self._waiting:
            self._fill()

    def pause(self, why: str) -> None:
        """Start nothing until `resume` with the same reason."""
        self._paused.add(why)
        self._still = True

    def resume(self, why: str) -> None:
        """Go on after `pause`, unless there is another reason not to."""
        self._paused.discard(why)
        self._still = self.closed or bool(self._paused)
        self._fill()

    def drop(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out of what waits."""
        dropped: list[Delivery] = []
        for turns in self._turns:
            found = turns.drop(unwanted)
            self._waiting -= 0 if turns.shut else len(found)
            dropped += found
        return dropped

    def go_on(self) -> None:
        """Start what waits, as far as may be: it is certain again what is ours."""
        self._fill()

    def open(self, name: str) -> None:
        """Ask this queue's gate again."""
        for turns in self._turns:
            if turns.queue.name == name and turns.shut:
                turns.shut = False
                self._waiting += turns.waiting
        if self._free > 0 and self._waiting:
            self._fill()

    def close(self) -> None:
        """Start nothing more. What is offered from now on only waits, for `take_waiting`."""
        self.closed = self._still = True

    def all_waiting(self) -> list[Delivery]:
        """Everything that waits, in the order in which each queue delivered it."""
        return [delivery for lane in self._lanes.values() for delivery in lane]

    def take_waiting(self, name: str | None = None) -> list[Delivery]:
        """The same, and it waits no more; of one queue, if its name is given."""
        waiting: list[Delivery] = []
        for turns in self._turns:
            if name is None or turns.queue.name == name:
                taken = turns.take()
                self._waiting -= 0 if turns.shut else len(taken)
                waiting += taken
        return waiting

    def _fill(self) -> None:
        if not self._certain():
            return
        while self._claims and self._free > 0 and not self._still:
            self._waiting -= 1
            self._free -= 1
            self._claims.popleft()()
        while self._free > 0 and self._waiting and not self._still:
            turns = self._turns[self._next_queue]
            self._next_queue = (self._next_queue + 1) % len(self._turns)
            if turns.shut or (turns.gate is not None and not self._passes(turns, turns.gate)):
                continue
            delivery = turns.pick()
            if delivery is None:
                continue
            self._waiting -= 1
            # One whose channel is gone was given to another worker by now: running it here too
            # would be a duplicate for nothing.
            if not delivery.stale:
                self._free -= 1
                if turns.gate is not None:
                    turns.gate.enter(delivery, self._clock())
                self._start(delivery)

    def _passes(self, turns: "_Turns", gate: Gate) -> bool:
        wait = gate.wait(self._clock())
        if not wait:
            return True
        turns.shut = True
        self._waiting -= turns.waiting
        if wait != UNTIL_TOLD:
            self._wake(turns.queue.name, wait)
        return False


class _Turns:
    """The cycle of one queue's lanes.

    Attributes:
        gate: None for most queues.
        shut: the gate was closed when it was last asked.
    """

    def __init__(self, queue: Queue, lanes: dict[str, deque[Delivery]]) -> None:
        self.queue = queue
        self.gate: Gate | None = None
        self.shut = False
        self._lanes = [lanes[lane.queue] for lane in lanes_of(queue)]
        self._cycle = [lanes[name] for name in cycle_of(queue)]
        self._next = 0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lanes))

    def first(self) -> Delivery | None:
        return next((lane[0] for lane in self._lanes if lane), None)

    def pick(self) -> Delivery | None:
        cycle, place = self._cycle, self._next
        for _ in cycle:
            lane = cycle[place]
            place = (place + 1) % len(cycle)
            if lane:
                self._next = place
                return lane.popleft()
        return None

    def drop(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Those of them that nobody wants."""
        found = [
            (lane, delivery) for lane in self._lanes for delivery in lane if unwanted(delivery)
        ]
        for lane, delivery in found:
            lane.remove(delivery)
        return [delivery for _, delivery in found]

    def take(self) -> list[Delivery]:
        """All of them, lane by lane."""
        taken = [delivery for lane in self._lanes for delivery in lane]
        for lane in self._lanes:
            lane.clear()
        return taken


def cycle_of(queue: Queue) -> Iterator[str]:
    """The order of turns: each lane as often as its weight, spread evenly (smooth weighted round
    robin, as in nginx)."""
    lanes = lanes_of(queue)
    total = sum(lane.weight for lane in lanes)
    credit = [0] * len(lanes)
    for _ in range(total):
        credit = [c + lane.weight for c, lane in zip(credit, lanes, strict=True)]
        best = max(range(len(lanes)), key=credit.__getitem__)
        credit[best] -= total
        yield lanes[best].queue
