"""What a worker holds at one moment, for tests and for people.

Changes when a delivery can wait in another place.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.delivery import Delivery
    from amqpjobs.broker.rabbitmq.subscription import Subscription
    from amqpjobs.worker.run import Run


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """One AMQP queue of a worker.

    Attributes:
        queue: its name on the broker.
        running: jobs that run, in quarantine too.
        waiting: deliveries that wait for a slot, or for the queue's gate.
        held: deliveries that wait until they are due, for quarantine, or for an earlier run of the
            same job.
        consuming: whether it has a consumer.
        paused: whether it is not consumed on purpose.
        prefetch: deliveries that RabbitMQ may have out to this worker.
    """

    queue: str
    running: int
    waiting: int
    held: int
    consuming: bool
    paused: bool
    prefetch: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A worker at one moment.

    Attributes:
        queues: its AMQP queues.
        jobs: names of the jobs that run, sorted; a message whose job is not known yet has none.
        at_rest: whether nothing waits for a slot but what a gate holds back.
    """

    queues: tuple[QueueSnapshot, ...] = ()
    jobs: tuple[str, ...] = ()
    at_rest: bool = True

    @property
    def running(self) -> int:
        """Jobs that run, of all queues."""
        return sum(queue.running for queue in self.queues)

    @property
    def waiting(self) -> int:
        """Deliveries that wait for a slot or a gate, of all queues."""
        return sum(queue.waiting for queue in self.queues)

    @property
    def held(self) -> int:
        """Deliveries that are held, of all queues."""
        return sum(queue.held for queue in self.queues)


def snapshot_of(
    subscriptions: "Iterable[Subscription]",
    running: "Iterable[Run]",
    waiting: "Iterable[Delivery]",
    held: "Iterable[Delivery]",
    *,
    at_rest: bool,
) -> Snapshot:
    """A snapshot of these deliveries, by their queues."""
    runs = list(running)
    run = Counter(r.delivery.queue for r in runs)
    wait = Counter(delivery.queue for delivery in waiting)
    hold = Counter(delivery.queue for delivery in held)
    queues = tuple(
        QueueSnapshot(
            s.queue, run[s.queue], wait[s.queue], hold[s.queue], s.consuming, s.paused, s.prefetch
        )
        for s in subscriptions
    )
    jobs = tuple(sorted(r.context.job for r in runs if r.context is not None))
    return Snapshot(queues, jobs, at_rest)
